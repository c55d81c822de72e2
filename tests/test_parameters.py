"""Parameter counts: by hand, against published sizes, and exactly against transformers on the `meta` device."""

import importlib
import json
from collections import Counter
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy
import pytest

from ridgeline.catalogue import load
from ridgeline.specs.model import (
    Attention,
    AudioFrontEnd,
    ConvolutionalModel,
    Experts,
    FeedForward,
    Indexer,
    LatentAttention,
    Layer,
    LinearAttention,
    Model,
    Patches,
)
from ridgeline.specs.precision import Precision
from ridgeline.workload.hugging_face import read_config
from ridgeline.workload.parameters import parameters, prediction_parameters, weight_bytes

NAMES = load.names("models")


def of(layer: Layer, **fields: Any) -> Any:
    """Count a model of one layer, 8 wide, without vocabulary and final norm."""
    return parameters(Model(name="one", hidden=8, decoder=(replace(layer, norms=0),), final_norm=False, **fields))


# ---- by hand


def test_attention_with_biases_norms_gate_and_sinks() -> None:
    plain = Attention(heads=4, kv_heads=2, head_size=3)
    # queries 8·12, keys 8·6, values 8·6, output 12·8
    assert of(Layer(count=1, attention=plain)).total == 288
    biased = replace(plain, query_bias=True, key_bias=True, value_bias=True, output_bias=True)
    assert of(Layer(count=1, attention=biased)).total == 288 + 12 + 6 + 6 + 8
    assert of(Layer(count=1, attention=replace(plain, query_key_norm=True))).total == 288 + 2 * 3
    assert of(Layer(count=1, attention=replace(plain, query_key_norm=True, query_key_norm_whole=True))).total == 288 + 12 + 6
    assert of(Layer(count=1, attention=replace(plain, query_key_norm=True, query_key_norm_learned=False))).total == 288
    assert of(Layer(count=1, attention=replace(plain, sinks=True))).total == 288 + 4
    assert of(Layer(count=1, attention=replace(plain, output_gate=True))).total == 288 + 8 * 12
    assert of(Layer(count=3, attention=replace(plain, relative_buckets=5))).total == 3 * 288 + 5 * 4
    # values of another size: queries 8·12, keys 8·6, values 8·2·5, output 4·5·8
    assert of(Layer(count=1, attention=replace(plain, value_size=5))).total == 96 + 48 + 80 + 160


def test_latent_attention_and_its_indexer() -> None:
    latent = LatentAttention(rank=5, query_rank=6, rotary_size=2)
    attention = Attention(heads=4, kv_heads=4, head_size=3, value_size=7, latent=latent)
    # query down 8·6, norm 6, up 6·4·5; key-value down 8·7, norm 5, up 5·4·10; output 28·8
    expected = 48 + 6 + 120 + 56 + 5 + 200 + 224
    assert of(Layer(count=1, attention=attention)).total == expected
    direct = replace(attention, latent=replace(latent, query_rank=None))
    assert of(Layer(count=1, attention=direct)).total == expected - 48 - 6 - 120 + 8 * 20
    indexer = Indexer(heads=2, head_size=9, selected=16)
    # queries 6·18, key 8·9 and its norm 18, weights 8·2
    assert of(Layer(count=1, attention=replace(attention, indexer=indexer))).total == expected + 108 + 72 + 18 + 16


def test_linear_attention() -> None:
    linear = LinearAttention(key_heads=2, value_heads=4, key_size=3, value_size=5, convolution=4)
    # q 6, k 6, v 20, gate 20, two scalars for each of 4; 4 taps over 32 channels; decay and step 8; norm 5; output 20·8
    assert of(Layer(count=1, linear_attention=linear)).total == 8 * (52 + 8) + 4 * 32 + 8 + 5 + 160


def test_experts_and_what_one_token_uses() -> None:
    experts = Experts(count=6, active=2, width=5, shared_width=10, shared_gate=True)
    count = of(Layer(count=1, experts=experts))
    # an expert 3·8·5, router 6·8, shared 3·8·10 and its gate 8
    assert count.total == 6 * 120 + 48 + 240 + 8
    assert count.active == 2 * 120 + 48 + 240 + 8
    assert count.breakdown["experts"] == 720
    biased = Experts(count=6, active=2, width=5, bias=True, router_bias=True)
    assert of(Layer(count=1, experts=biased)).total == 6 * (120 + 5 + 5 + 8) + 48 + 6


def test_tables_heads_and_norms() -> None:
    base = Model(name="base", hidden=8, vocabulary=10, decoder=(Layer(count=2, norms=2),))
    assert parameters(base).breakdown["norms"] == 5 * 8
    assert parameters(replace(base, norm="layer", norm_bias=True, embedding_norm=True)).breakdown["norms"] == 6 * 16
    assert (parameters(base).embedding, parameters(base).head) == (80, 80)
    assert parameters(replace(base, tied=True, head_bias=True)).head == 10
    assert parameters(replace(base, positions=7, token_types=2)).embedding == 80 + 72
    assert parameters(replace(base, head="none", pooler=True)).head == 64 + 8
    assert parameters(replace(base, head="classifier", labels=3, head_bias=True)).head == 27
    assert parameters(replace(base, head="masked-language", tied=True, head_bias=True)).head == 64 + 8 + 8 + 10
    # a table of 10 × 3, projected in and out
    assert parameters(replace(base, embedding_size=3, tied=True)).total == 40 + 30 + 2 * 24


def test_front_ends() -> None:
    patches = Model(name="vision", hidden=8, patches=Patches(image_size=4, patch_size=2), class_token=True, positions=5)
    assert parameters(patches).breakdown["front_end"] == 3 * 4 * 8 + 8
    assert parameters(patches).embedding == 6 * 8
    audio = Model(name="audio", hidden=8, audio=AudioFrontEnd(mel_bins=4, frames=10))
    assert parameters(audio).breakdown["front_end"] == (3 * 4 * 8 + 8) + (3 * 8 * 8 + 8)
    both = replace(audio, positions=7, encoder_positions=5, encoder=(Layer(count=1),), decoder=(Layer(count=1),))
    assert parameters(both).embedding == 12 * 8
    assert parameters(replace(both, encoder_positions=None)).embedding == 14 * 8


@pytest.mark.parametrize("name", NAMES)
def test_parts_add_up(name: str) -> None:
    model = load.model(name)
    count = parameters(model)
    assert sum(count.breakdown.values()) == count.total
    assert 0 < count.active <= count.total
    if isinstance(model, Model):
        outside = count.breakdown["front_end"] + count.breakdown["norms"]
        assert count.total - outside <= count.embedding + count.layers + count.head <= count.total


@pytest.mark.parametrize("name", NAMES)
def test_weights_in_16_bits_are_two_bytes_each(name: str) -> None:
    model = load.model(name)
    assert weight_bytes(model, Precision.parse("bf16")) == 2 * parameters(model).total


def test_a_batch_of_models_equals_its_members() -> None:
    widths, layers = numpy.asarray([64.0, 128.0, 256.0]), numpy.asarray([2.0, 3.0, 4.0])

    def model(hidden: Any, count: Any) -> Model:
        attention = Attention(heads=hidden / 16, kv_heads=hidden / 32, head_size=16, query_key_norm=True)
        experts = Experts(count=8, active=2, width=2 * hidden)
        part = FeedForward(width=4 * hidden, gated=True, bias=True)
        groups = (
            Layer(count=count, attention=attention, experts=experts),
            Layer(count=count, attention=attention, feed_forward=part),
        )
        return Model(name="batch", hidden=hidden, vocabulary=100, prediction_layers=1, decoder=groups)

    together = model(widths, layers)
    precision = Precision.parse("w:bf16,e:mxfp4,a:bf16,kv:bf16")
    for index, (hidden, count) in enumerate(zip(widths.tolist(), layers.tolist(), strict=True)):
        alone = model(hidden, count)
        assert parameters(together).total[index] == parameters(alone).total
        assert parameters(together).active[index] == parameters(alone).active
        assert weight_bytes(together, precision)[index] == weight_bytes(alone, precision)
        assert prediction_parameters(together)[index] == prediction_parameters(alone)


# ---- outside numbers

# Where the printed number and this count differ by more than its rounding, and why.
UNLIKE = {
    "llama-4-scout": "109 billion counts the vision encoder",
    "phi-4": "14 billion fits a count with one of the two tables, 14.15 billion",
    "t5-large": "770 million fits a count with the token table twice, 770.6 million",
    "deepseek-v2-lite": "of 2.45 active billion without the table 2.4 is printed",
    "qwen3-30b-a3b": "of 3.35 active billion 3.3 is printed",
    "qwen3-coder-30b-a3b": "of 3.35 active billion 3.3 is printed",
}


def rounding(printed: float) -> float:
    """Half a unit of the last digit that is printed, or 1 % where that is larger."""
    exponent = Decimal(repr(float(printed))).normalize().as_tuple().exponent
    return max(0.01 * printed, 0.5 * 10.0 ** int(exponent))


STATED = [name for name in NAMES if load.model(name).published.parameters is not None]


def test_nearly_every_model_states_its_size() -> None:
    assert len(STATED) >= len(NAMES) - 3


@pytest.mark.parametrize("name", STATED)
def test_published_size(name: str) -> None:
    model = load.model(name)
    printed, count = model.published.parameters, parameters(model)
    wrong = abs(count.total - printed) > rounding(printed)
    active = model.published.active_parameters
    if active is not None:
        # publishers leave out the token table, or both tables, or neither; the note beside the number says which
        choices = (count.active, count.active - count.embedding, count.active - count.embedding - count.head)
        wrong = wrong or min(abs(one - active) for one in choices) > rounding(active)
    assert wrong == (name in UNLIKE), f"{count.total:.5g} for {printed:.5g}, active {count.active:.5g} for {active}"
    assert abs(count.total / printed - 1) < 0.06


def test_the_size_of_checkpoints() -> None:
    """OpenAI's model card states checkpoints of 60.8 and 12.8 GiB (table 1)."""
    for name, gibibytes in (("gpt-oss-120b", 60.8), ("gpt-oss-20b", 12.8)):
        model = load.model(name)
        assert weight_bytes(model, Precision.parse(model.precision)) == pytest.approx(gibibytes * 2**30, rel=0.005)


def test_prediction_layer_of_deepseek_v3() -> None:
    """DeepSeek states 11.5 billion parameters of its own for the prediction layer (README_WEIGHTS.md)."""
    model = load.model("deepseek-v3")
    assert isinstance(model, Model)
    assert prediction_parameters(model) == pytest.approx(11.5e9, rel=0.01)
    assert prediction_parameters(replace(model, prediction_layers=0)) == 0


def test_names_and_aliases_are_unambiguous() -> None:
    spellings: Counter[str] = Counter()
    for name in NAMES:
        raw = load.find("models", name).read_text(encoding="utf-8")
        line = next((one for one in raw.splitlines() if one.startswith("aliases")), "aliases = []")
        bare = {"".join(c for c in one.lower() if c not in " _-") for one in [name, *json.loads(line.split("=")[1])]}
        spellings.update(bare)
    assert [one for one, number in spellings.items() if number > 1] == []


# ---- the same numbers from transformers


def counted(values: dict[str, Any]) -> int:
    """Return the parameters of transformers' model of a configuration, made without memory on the `meta` device."""
    torch, transformers = importlib.import_module("torch"), importlib.import_module("transformers")
    values = {**values, **values.get("text_config", {})}
    kind = {"kimi_k2": "deepseek_v3"}.get(values["model_type"], values["model_type"])
    architecture = {"Llama4ForConditionalGeneration": "Llama4ForCausalLM"}.get(*[values["architectures"][0]] * 2)
    for key in ("model_type", "quantization_config", "auto_map", "text_config", "vision_config"):
        values.pop(key, None)
    if kind == "resnet":
        values["num_labels"] = 1000
    config = transformers.AutoConfig.for_model(kind, **values)
    with torch.device("meta"):
        model = getattr(transformers, architecture)._from_config(config)
    model.tie_weights()
    return sum(one.numel() for one in model.parameters())


@pytest.mark.heavy
@pytest.mark.filterwarnings("ignore")
def test_every_config_counts_as_in_transformers(facts: Path) -> None:
    for file in sorted((facts / "catalogue" / "models").glob("*.json")):
        values = json.loads(file.read_text(encoding="utf-8"))
        assert parameters(read_config(values, name=file.stem)).total == counted(values), file.stem


SMALL = {"hidden_size": 64, "num_hidden_layers": 8, "num_attention_heads": 4, "intermediate_size": 96, "vocab_size": 100}
MIXTURE = {"num_experts_per_tok": 2, "moe_intermediate_size": 32}
LATENT = {"kv_lora_rank": 16, "q_lora_rank": 24, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 12}
OTHERS: dict[str, dict[str, Any]] = {
    "GPTJForCausalLM": {"model_type": "gptj", "n_embd": 64, "n_layer": 2, "n_head": 4, "rotary_dim": 8, "vocab_size": 100},
    "GPTBigCodeForCausalLM": {"model_type": "gpt_bigcode", "n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 100},
    "GPTNeoXForCausalLM": {"model_type": "gpt_neox", **SMALL},
    "PhiForCausalLM": {"model_type": "phi", **SMALL},
    "FalconForCausalLM": {"model_type": "falcon", **SMALL, "new_decoder_architecture": True, "num_kv_heads": 2},
    "RobertaForMaskedLM": {"model_type": "roberta", **SMALL},
    "BertForSequenceClassification": {"model_type": "bert", **SMALL, "num_labels": 3},
    "BertModel": {"model_type": "bert", **SMALL},
    "ViTModel": {"model_type": "vit", **SMALL, "image_size": 32, "patch_size": 8},
    "GemmaForCausalLM": {"model_type": "gemma", **SMALL, "head_dim": 16, "num_key_value_heads": 1},
    "OPTForCausalLM": {"model_type": "opt", **SMALL, "ffn_dim": 96, "word_embed_proj_dim": 32},
    "Qwen2MoeForCausalLM": {
        **{"model_type": "qwen2_moe", **SMALL, **MIXTURE, "num_experts": 8, "num_key_value_heads": 2},
        **{"shared_expert_intermediate_size": 48, "decoder_sparse_step": 2},
    },
    "Qwen3_5MoeForCausalLM": {
        **{"model_type": "qwen3_5_moe_text", **SMALL, **MIXTURE, "num_experts": 8, "num_key_value_heads": 2},
        **{"shared_expert_intermediate_size": 48, "head_dim": 16},
    },
    "MiniMaxM2ForCausalLM": {
        **{"model_type": "minimax_m2", **SMALL, "head_dim": 16, "num_key_value_heads": 2},
        **{"num_local_experts": 8, "num_experts_per_tok": 2},
    },
    "GlmMoeDsaForCausalLM": {
        **{"model_type": "glm_moe_dsa", **SMALL, **MIXTURE, **LATENT, "num_key_value_heads": 4},
        **{"n_routed_experts": 8, "n_shared_experts": 1, "index_n_heads": 2, "index_head_dim": 8},
    },
    "T5ForConditionalGeneration": {
        **{"model_type": "t5", "d_model": 64, "num_layers": 2, "num_heads": 6, "d_ff": 96, "vocab_size": 100},
        **{"feed_forward_proj": "gated-gelu", "num_decoder_layers": 3},
    },
}


@pytest.mark.heavy
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("architecture", OTHERS)
def test_families_beside_the_catalogue_count_as_in_transformers(architecture: str) -> None:
    values = {"architectures": [architecture], **OTHERS[architecture]}
    assert parameters(read_config(values, name=architecture)).total == counted(values)


def test_convolutional_networks_by_hand() -> None:
    alexnet = load.model("alexnet")
    assert isinstance(alexnet, ConvolutionalModel)
    # Krizhevsky's five convolutions, the second, fourth and fifth in two groups
    assert parameters(alexnet).breakdown["conv2"] == 5 * 5 * 48 * 256 + 256
    assert parameters(alexnet).total == 60_965_224
    assert parameters(load.model("vgg-16")).total == 138_357_544
    assert parameters(load.model("resnet-50")).total == 25_557_032
