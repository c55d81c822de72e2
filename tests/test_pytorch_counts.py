"""FLOPs under the `pytorch` convention against PyTorch's own counter, over transformers' models on the `meta` device.

Models are built from a configuration, without weights: the counter sees the shapes of the products that eager attention calls. The
shapes are drawn at random, odd ones among them, so that what agrees are the formulas and not a few numbers.
"""

import importlib
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest

from ridgeline import api
from ridgeline.workload.hugging_face import read_config

# Every warning of transformers would otherwise be an error.
pytestmark = [pytest.mark.heavy, pytest.mark.filterwarnings("ignore")]

TOLERANCE = 1e-6  # relative; both sides are sums of whole numbers, ours in float64
SEEDS = range(8)

# ---- what PyTorch counts


@dataclass(frozen=True, kw_only=True)
class Step:
    """One forward pass of `batch` sequences, `new` tokens each after `past` in the cache; or as many single tokens after it."""

    phase: str
    batch: int
    new: int
    past: int = 0
    singles: int = 0  # decode steps after the prefill, of generation

    @property
    def scenario(self) -> dict[str, Any]:
        """The same in Ridgeline's words: in decode the context includes the new tokens."""
        if self.phase == "decode":
            return {"phase": "decode", "batch": self.batch, "context": self.past + self.new, "verified": self.new}
        if self.phase == "generate":
            return {"phase": "generate", "batch": self.batch, "prompt": self.new, "output": self.singles + 1}
        return {"phase": self.phase, "batch": self.batch, "prompt": self.new, "context": self.past}


def grouped_product(inputs: Any, weights: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    """FLOPs of `_grouped_mm`, which the counter does not know: rows, sorted by expert, times the matrix of their expert."""
    assert len(inputs) == 2
    assert len(weights) == 3
    assert list(out_shape) == [inputs[0], weights[2]]
    return 2 * inputs[0] * weights[1] * weights[2]


def build(architecture: str, values: dict[str, Any], experts: str) -> Any:
    """Return transformers' model of a configuration on the `meta` device; `_grouped_mm` takes bf16 only there."""
    torch, transformers = importlib.import_module("torch"), importlib.import_module("transformers")
    config = transformers.AutoConfig.for_model(**values)
    implementation = {"experts_implementation": experts} if experts else {}
    with torch.device("meta"):
        model = getattr(transformers, architecture)._from_config(
            config, attn_implementation="eager", dtype=torch.bfloat16, **implementation
        )
    return model.eval()


def forward(model: Any, batch: int, tokens: int, past: Any, caches: bool) -> Any:
    """Run tokens through the model and return its cache."""
    torch = importlib.import_module("torch")
    inputs: dict[str, Any] = {"input_ids": torch.zeros((batch, tokens), dtype=torch.long, device="meta")}
    if caches:
        inputs |= {"use_cache": True, "past_key_values": past}
    with torch.no_grad():
        output = model(**inputs)
    return output.past_key_values if caches else None


def counted(model: Any, step: Step) -> Any:
    """Return PyTorch's counter after a step."""
    torch, counting = importlib.import_module("torch"), importlib.import_module("torch.utils.flop_counter")
    caches = step.phase != "encode"
    past = forward(model, step.batch, step.past, None, caches) if step.past else None
    counter = counting.FlopCounterMode(display=False, custom_mapping={torch.ops.aten._grouped_mm: grouped_product})
    with counter:
        past = forward(model, step.batch, step.new, past, caches)
        for _ in range(step.singles):
            past = forward(model, step.batch, 1, past, caches)
    return counter


def by_module(counter: Any) -> dict[str, int]:
    """Return the counter's FLOPs by module, those of all layers together, each module without what is inside it."""
    totals = {name: sum(products.values()) for name, products in counter.get_flop_counts().items()}
    own = dict(totals)
    for name, flops in totals.items():
        outer = name.rpartition(".")[0]
        while outer and outer not in totals:
            outer = outer.rpartition(".")[0]
        if outer:
            own[outer] -= flops
    found: dict[str, int] = defaultdict(int)
    for name, flops in own.items():
        if name != "Global" and flops:
            found[re.sub(r"\.\d+", ".*", name)] += flops
    return dict(found)


def check(model: Any, architecture: str, step: Step) -> Any:
    """Compare the totals and return the counter; where they differ, show both breakdowns."""
    spec = read_config({**model.config.to_dict(), "architectures": [architecture]}, name=architecture)
    ours = api.count(spec, convention="pytorch", **step.scenario)
    counter = counted(model, step)
    theirs = counter.get_total_flops()
    assert theirs > 0
    if abs(ours.total.flops / theirs - 1) <= TOLERANCE:
        return counter
    lines = [f"{architecture}, {step}: {ours.total.flops:.0f} / {theirs} = {ours.total.flops / theirs:.9f}", "PyTorch:"]
    lines += [f"  {flops:>20}  {name}" for name, flops in by_module(counter).items()]
    lines += ["Ridgeline:", *(f"  {group.flops:>20.0f}  {name}" for name, group in ours.groups.items())]
    return pytest.fail("\n".join([*lines, f"{model.config}"]))


# ---- configurations, drawn at random

Draw = Callable[[Random, int], dict[str, Any]]  # with the multiple that widths are of: PyTorch's `_grouped_mm` wants 8


def heads(random: Random) -> tuple[int, int, int]:
    """Return query heads, key-value heads and a head's size, which is even for the rotary embedding."""
    kv_heads = random.choice([1, 2, 3, 5])
    return kv_heads * random.choice([1, 2, 3, 7]), kv_heads, 2 * random.randint(2, 21)


def some(random: Random, most: int, least: int = 1, unit: int = 1) -> int:
    """Return a size, a multiple of `unit`."""
    return unit * random.randint(-(-least // unit), most // unit)


def shared(random: Random, unit: int) -> dict[str, Any]:
    """Return what rotary decoders have in common: a width that the heads divide, though their size is another."""
    query, key, size = heads(random)
    return {
        "hidden_size": query * unit * random.randint(1, max(1, 120 // (query * unit))),
        "num_attention_heads": query,
        "num_key_value_heads": key,
        "head_dim": size,
        "intermediate_size": some(random, 300, 8, unit),
        "num_hidden_layers": some(random, 7),
        "vocab_size": some(random, 999, 100),
        "tie_word_embeddings": random.random() < 0.5,
        "attention_bias": random.random() < 0.5,
    }


def gpt2(random: Random, _: int) -> dict[str, Any]:
    number, size = random.randint(1, 9), random.randint(1, 19)
    return {
        "model_type": "gpt2",
        "n_embd": number * size,
        "n_head": number,
        "n_layer": some(random, 6),
        "n_inner": random.choice([None, some(random, 200)]),
        "vocab_size": some(random, 999, 100),
        "tie_word_embeddings": random.random() < 0.5,
        "reorder_and_upcast_attn": random.random() < 0.3,
    }


def bert(random: Random, _: int) -> dict[str, Any]:
    number, size = random.randint(1, 9), random.randint(1, 19)
    return {
        "model_type": "bert",
        "hidden_size": number * size,
        "num_attention_heads": number,
        "num_hidden_layers": some(random, 6),
        "intermediate_size": some(random, 200),
        "vocab_size": some(random, 999, 100),
        "tie_word_embeddings": random.random() < 0.5,
        "num_labels": some(random, 9, 2),
    }


def opt(random: Random, _: int) -> dict[str, Any]:
    number, size = random.randint(1, 9), random.randint(1, 19)
    before = random.random() < 0.5
    return {
        "model_type": "opt",
        "hidden_size": number * size,
        "num_attention_heads": number,
        "num_hidden_layers": some(random, 6),
        "ffn_dim": some(random, 200),
        "vocab_size": some(random, 999, 100),
        "word_embed_proj_dim": random.choice([number * size, some(random, 99)]),
        "do_layer_norm_before": before,
        "enable_bias": random.random() < 0.5,
        "tie_word_embeddings": random.random() < 0.5,
    }


def llama3(random: Random, unit: int) -> dict[str, Any]:
    stretched = {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    values = {**shared(random, unit), "model_type": "llama", "mlp_bias": random.random() < 0.5}
    if random.random() < 0.5:
        values["rope_parameters"] = {**stretched, "original_max_position_embeddings": 8192}
    return values


def qwen3(random: Random, unit: int) -> dict[str, Any]:
    windows = {"use_sliding_window": True, "sliding_window": some(random, 30, 2), "max_window_layers": some(random, 4)}
    return {**shared(random, unit), "model_type": "qwen3", **(windows if random.random() < 0.5 else {})}


def qwen3_moe(random: Random, unit: int) -> dict[str, Any]:
    layers, experts = some(random, 7), random.choice([1, 4, 7, 8])
    return {
        **shared(random, unit),
        "model_type": "qwen3_moe",
        "num_hidden_layers": layers,
        "moe_intermediate_size": some(random, 120, 8, unit),
        "num_experts": experts,
        "num_experts_per_tok": random.randint(1, experts),
        "decoder_sparse_step": random.choice([1, 2]),
        "mlp_only_layers": random.sample(range(layers), k=random.randint(0, layers)),
    }


def mixtral(random: Random, unit: int) -> dict[str, Any]:
    experts = random.choice([1, 4, 7, 8])
    values = shared(random, unit)
    values.pop("attention_bias")
    return {
        **values,
        "model_type": "mixtral",
        "num_local_experts": experts,
        "num_experts_per_tok": random.randint(1, experts),
        "sliding_window": random.choice([None, some(random, 30, 2)]),
    }


def gemma2(random: Random, unit: int) -> dict[str, Any]:
    values = {**shared(random, unit), "model_type": "gemma2", "sliding_window": some(random, 30, 2)}
    values |= {"attn_logit_softcapping": random.choice([None, 50.0]), "final_logit_softcapping": random.choice([None, 30.0])}
    if random.random() < 0.5:
        kinds = ("sliding_attention", "full_attention")
        values["layer_types"] = [random.choice(kinds) for _ in range(values["num_hidden_layers"])]
    return values


def deepseek_v3(random: Random, unit: int) -> dict[str, Any]:
    groups, values = random.choice([1, 2, 4]), shared(random, unit)
    experts = groups * random.randint(2, 5)
    for name in ("head_dim", "attention_bias"):
        values.pop(name)
    return {
        **values,
        "model_type": "deepseek_v3",
        "num_key_value_heads": values["num_attention_heads"],
        "moe_intermediate_size": some(random, 120, 8, unit),
        "q_lora_rank": random.choice([None, some(random, 60)]),
        "kv_lora_rank": some(random, 60),
        "qk_nope_head_dim": some(random, 30),
        "qk_rope_head_dim": 2 * some(random, 16),
        "v_head_dim": some(random, 30),
        "first_k_dense_replace": random.randint(0, values["num_hidden_layers"]),
        "n_routed_experts": experts,
        "n_group": groups,
        "topk_group": groups,
        "num_experts_per_tok": random.randint(1, experts),
        "n_shared_experts": random.randint(1, 3),
        "rope_interleave": random.random() < 0.5,
    }


# Architecture, draw, how experts are computed ("" where there are none), and what widths are multiples of. `_grouped_mm`, which the
# counter has to be told about, takes multiples of 8; `bmm`, with a matrix for each row, does the same products at any width.
FAMILIES: dict[str, tuple[str, Draw, str, int]] = {
    "gpt2": ("GPT2LMHeadModel", gpt2, "", 1),
    "bert": ("BertModel", bert, "", 1),
    "bert-masked-language": ("BertForMaskedLM", bert, "", 1),
    "bert-classifier": ("BertForSequenceClassification", bert, "", 1),
    "opt": ("OPTForCausalLM", opt, "", 1),
    "llama-3": ("LlamaForCausalLM", llama3, "", 1),
    "qwen3": ("Qwen3ForCausalLM", qwen3, "", 1),
    "qwen3-moe": ("Qwen3MoeForCausalLM", qwen3_moe, "grouped_mm", 8),
    "mixtral": ("MixtralForCausalLM", mixtral, "grouped_mm", 8),
    "mixtral-odd": ("MixtralForCausalLM", mixtral, "batched_mm", 1),
    "gemma-2": ("Gemma2ForCausalLM", gemma2, "", 1),
    "deepseek-v3": ("DeepseekV3ForCausalLM", deepseek_v3, "grouped_mm", 8),
    "deepseek-v3-odd": ("DeepseekV3ForCausalLM", deepseek_v3, "batched_mm", 1),
}


def steps(random: Random, decodes: bool) -> list[Step]:
    """Return steps of each phase, for one sequence and for several, shorter and longer than any window above."""
    short, long = random.randint(1, 9), random.randint(31, 200)
    found = [Step(phase="encode", batch=1, new=long), Step(phase="encode", batch=3, new=short)]
    if not decodes:
        return [*found, Step(phase="encode", batch=random.randint(2, 9), new=1)]
    return [
        *found,
        Step(phase="prefill", batch=1, new=long),
        Step(phase="prefill", batch=3, new=short),
        Step(phase="prefill", batch=random.randint(1, 4), new=random.randint(1, 60), past=random.randint(1, 60)),
        Step(phase="decode", batch=1, new=1, past=long),
        Step(phase="decode", batch=3, new=1, past=short),
        Step(phase="decode", batch=random.randint(1, 4), new=random.randint(2, 9), past=random.randint(1, 60)),
        Step(phase="generate", batch=random.randint(1, 3), new=random.randint(1, 60), singles=random.randint(0, 9)),
    ]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_random_shapes(family: str, seed: int) -> None:
    architecture, draw, experts, unit = FAMILIES[family]
    random = Random(f"{family} {seed}")
    model = build(architecture, draw(random, unit), experts)
    for step in steps(random, decodes=not family.startswith("bert")):
        check(model, architecture, step)


@pytest.mark.parametrize("experts", ["grouped_mm", "batched_mm"])
def test_products_of_experts(experts: str) -> None:
    """5 · 7 tokens visit 2 of 4 experts, three products of 24 × 40 each, whichever product PyTorch calls."""
    values = {
        "model_type": "mixtral",
        "hidden_size": 24,
        "num_attention_heads": 3,
        "num_key_value_heads": 1,
        "num_hidden_layers": 1,
    }
    values |= {"intermediate_size": 40, "num_local_experts": 4, "num_experts_per_tok": 2, "vocab_size": 101}
    model, aten = build("MixtralForCausalLM", values, experts), importlib.import_module("torch").ops.aten
    products = check(model, "MixtralForCausalLM", Step(phase="prefill", batch=5, new=7)).get_flop_counts()
    called = {"grouped_mm": aten._grouped_mm, "batched_mm": aten.bmm}[experts]
    module = next(found for name, found in products.items() if name.endswith("mlp.experts"))
    assert module == {called: 2 * 5 * 7 * 2 * 3 * 24 * 40}


# ---- published configurations

DEEPSEEK_V3 = {
    **{"model_type": "deepseek_v3", "hidden_size": 7168, "intermediate_size": 18432, "moe_intermediate_size": 2048},
    **{"num_hidden_layers": 61, "num_attention_heads": 128, "num_key_value_heads": 128, "vocab_size": 129280},
    **{"kv_lora_rank": 512, "q_lora_rank": 1536, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128},
    **{"n_routed_experts": 256, "num_experts_per_tok": 8, "n_shared_experts": 1, "n_group": 8, "topk_group": 4},
    **{"first_k_dense_replace": 3, "max_position_embeddings": 163840},
}
FULL_SIZE: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2-xl": ("GPT2LMHeadModel", {"model_type": "gpt2", "n_embd": 1600, "n_head": 25, "n_layer": 48, "vocab_size": 50257}),
    "bert-large": (
        "BertForMaskedLM",
        {
            **{"model_type": "bert", "hidden_size": 1024, "num_attention_heads": 16, "num_hidden_layers": 24},
            **{"intermediate_size": 4096, "vocab_size": 30522},
        },
    ),
    "opt-350m": (
        "OPTForCausalLM",
        {
            **{"model_type": "opt", "hidden_size": 1024, "num_attention_heads": 16, "num_hidden_layers": 24, "ffn_dim": 4096},
            **{"vocab_size": 50272, "word_embed_proj_dim": 512, "do_layer_norm_before": False},
        },
    ),
    "llama-3.1-70b": (
        "LlamaForCausalLM",
        {
            **{"model_type": "llama", "hidden_size": 8192, "num_attention_heads": 64, "num_key_value_heads": 8},
            **{"num_hidden_layers": 80, "intermediate_size": 28672, "vocab_size": 128256, "max_position_embeddings": 131072},
        },
    ),
    "qwen3-32b": (
        "Qwen3ForCausalLM",
        {
            **{"model_type": "qwen3", "hidden_size": 5120, "num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 128},
            **{"num_hidden_layers": 64, "intermediate_size": 25600, "vocab_size": 151936, "max_position_embeddings": 40960},
        },
    ),
    "mixtral-8x22b": (
        "MixtralForCausalLM",
        {
            **{"model_type": "mixtral", "hidden_size": 6144, "num_attention_heads": 48, "num_key_value_heads": 8},
            **{"num_hidden_layers": 56, "intermediate_size": 16384, "num_local_experts": 8, "num_experts_per_tok": 2},
            **{"vocab_size": 32000, "max_position_embeddings": 65536},
        },
    ),
    "gemma-2-27b": (
        "Gemma2ForCausalLM",
        {
            **{"model_type": "gemma2", "hidden_size": 4608, "num_attention_heads": 32, "num_key_value_heads": 16, "head_dim": 128},
            **{"num_hidden_layers": 46, "intermediate_size": 36864, "sliding_window": 4096, "vocab_size": 256000},
        },
    ),
    "deepseek-v3": ("DeepseekV3ForCausalLM", DEEPSEEK_V3),
}


@pytest.mark.parametrize("name", FULL_SIZE)
def test_published_sizes(name: str) -> None:
    architecture, values = FULL_SIZE[name]
    model = build(architecture, values, "grouped_mm" if "experts_per_tok" in str(values) else "")
    longest = min(model.config.max_position_embeddings, 8192)
    if values["model_type"] == "bert":
        check(model, architecture, Step(phase="encode", batch=8, new=longest))
        return
    check(model, architecture, Step(phase="prefill", batch=2, new=longest))
    check(model, architecture, Step(phase="decode", batch=64, new=1, past=longest - 1))
