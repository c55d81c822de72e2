"""Operations against brute force and hand formulas: pairs that attend, experts, caches, chunks, steps, fusion, block scales."""

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ridgeline.api import load_model
from ridgeline.errors import InputError
from ridgeline.estimate import step_operations
from ridgeline.mapping.capacity import cache_bytes, cache_bytes_per_token
from ridgeline.mapping.fusion import fuse
from ridgeline.results import Operation
from ridgeline.specs.model import Attention, ConvolutionalModel, FeedForward, Layer, Model
from ridgeline.specs.number_format import FORMATS
from ridgeline.specs.precision import Precision
from ridgeline.specs.scenario import Scenario
from ridgeline.workload.parameters import weight_bytes
from ridgeline.workload.tokens import attended_pairs, busiest_share, experts_touched, key_span, visit_probabilities

BF16 = Precision.parse("bf16")


def model_of(name: str) -> Model:
    found = load_model(name)
    assert not isinstance(found, ConvolutionalModel)
    return found


def steps(model: Any, precision: Precision = BF16, **scenario: Any) -> tuple[Operation, ...]:
    return step_operations(load_model(model), Scenario(**scenario), precision)


def flops(operations: Iterable[Operation], wanted: Callable[[Operation], bool] = lambda _: True) -> float:
    return sum(one.matrix_flops * one.count for one in operations if wanted(one))


def moved(operations: Iterable[Operation], *roles: Any) -> float:
    return sum((one.bytes_of(*roles) if roles else one.bytes) * one.count for one in operations)


def named(operations: Iterable[Operation], name: str) -> Operation:
    return next(one for one in operations if one.name == name)


def with_window(model: Model, window: float | None, kind: Any = "sliding") -> Model:
    """The model with a window in every other group of layers, or in the first half of its layers."""
    layer = model.decoder[0]
    assert layer.attention is not None
    half = replace(layer, name="window", count=layer.count / 2, attention=replace(layer.attention, window=window, window_kind=kind))
    return replace(model, decoder=(half, replace(layer, name="full", count=layer.count / 2)))


# ---- masks ------------------------------------------------------------------------------------------------------------------


def seen(position: int, window: int | None, chunked: bool) -> range:
    """The positions that the query at a position attends to, by the definition of the mask."""
    if window is None:
        return range(position + 1)
    return range(position // window * window if chunked else max(0, position - window + 1), position + 1)


@settings(deadline=None, max_examples=150)
@given(past=st.integers(0, 40), new=st.integers(1, 40), window=st.none() | st.integers(1, 50), chunked=st.booleans())
def test_pairs_and_keys_of_a_mask(past: int, new: int, window: int | None, chunked: bool):
    """Counted one by one. Keys: what the new tokens together read; chunks that are complete before the last are read too."""
    rows = [seen(position, window, chunked) for position in range(past, past + new)]
    given_window = None if window is None else float(window)
    pairs = attended_pairs(past=float(past), new=float(new), window=given_window, chunked=chunked)
    assert pairs == sum(len(row) for row in rows)
    keys = key_span(past=float(past), new=float(new), window=given_window, chunked=chunked)
    assert keys == len(set().union(*rows))


# ---- experts ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("experts", "active", "tokens"), [(6, 2, 3), (5, 1, 4), (4, 3, 2), (4, 4, 3)])
def test_experts_touched_by_enumeration(experts: int, active: int, tokens: int):
    """Every way in which every token may choose, all equally likely."""
    choices = list(itertools.combinations(range(experts), active))
    ways = list(itertools.product(choices, repeat=tokens))
    mean = sum(len(set(itertools.chain(*way))) for way in ways) / len(ways)
    assert experts_touched(experts=float(experts), active=float(active), tokens=float(tokens)) == pytest.approx(mean, rel=1e-12)


def drawn_in_turn(experts: int, skew: float) -> list[float]:
    """Probability that each expert is among two that are drawn one after the other without replacement."""
    weights = [rank**-skew for rank in range(1, experts + 1)]
    shares = [weight / sum(weights) for weight in weights]
    pairs = itertools.permutations(range(experts), 2)
    chance = {(i, j): shares[i] * shares[j] / (1 - shares[i]) for i, j in pairs}
    return [sum(value for pair, value in chance.items() if one in pair) for one in range(experts)]


@pytest.mark.parametrize(("skew", "tolerance"), [(0.0, 1e-9), (0.5, 0.02), (1.0, 0.05)])
def test_probability_of_a_visit(skew: float, tolerance: float):
    """Near drawing one expert after the other, which has no closed formula; equal to it without a skew."""
    found = visit_probabilities(5, 2.0, skew)
    assert sum(found) == pytest.approx(2.0, rel=1e-9)
    assert found == pytest.approx(drawn_in_turn(5, skew), rel=tolerance)


def test_skewed_routing_touches_fewer_experts_and_nears_uniform():
    touched = [experts_touched(experts=128, active=8, tokens=16, skew=skew) for skew in (0.0, 1e-6, 0.5, 1.0, 2.0)]
    assert touched[1] == pytest.approx(touched[0], rel=1e-6)
    assert touched[1:] == sorted(touched[1:], reverse=True)
    assert all(8.0 <= one <= 128.0 for one in touched)
    shares = [busiest_share(experts=128, active=8, ranks=8, skew=skew) for skew in (0.0, 0.5, 1.0)]
    assert shares[0] == 0.125
    assert shares == sorted(shares)


def test_experts_read_the_weights_that_are_touched_and_compute_every_visit():
    model, tokens = model_of("mixtral-8x7b"), 4
    up = named(steps(model, phase="decode", batch=float(tokens), context=1.0), "experts up")
    assert up.matrix_flops == pytest.approx(2 * tokens * 2 * 4096 * 14336, rel=1e-12)  # two of eight experts a token
    assert up.bytes_of("weight") == pytest.approx(8 * (1 - 0.75**4) * 4096 * 14336 * 2, rel=1e-12)
    many = named(steps(model, phase="decode", batch=512.0, context=1.0), "experts up")
    assert many.bytes_of("weight") == pytest.approx(8 * 4096 * 14336 * 2, rel=1e-9)


# ---- caches -----------------------------------------------------------------------------------------------------------------


def test_grouped_queries_read_only_their_kv_heads():
    """Llama 3.1 8B: 32 layers, 8 KV heads of 128 for 32 query heads, two bytes a value."""
    context, batch = 4096, 3
    operations = steps("llama-3.1-8b", phase="decode", batch=float(batch), context=float(context))
    read = sum(one.count * tensor.bytes for one in operations for tensor in one.reads if tensor.role == "kv")
    assert read == 32 * batch * context * 2 * 8 * 128 * 2
    attention = flops(operations, lambda one: one.kind == "attention")
    assert attention == 32 * batch * context * 2 * 2 * 32 * 128  # the arithmetic of all query heads stays
    written = sum(one.count * tensor.bytes for one in operations for tensor in one.writes if tensor.role == "kv")
    assert written == 32 * batch * 2 * 8 * 128 * 2
    assert cache_bytes_per_token(model_of("llama-3.1-8b"), BF16) == 131072


def test_a_shared_prompt_is_read_once_a_group():
    both: dict[str, Any] = {"phase": "decode", "batch": 8.0, "context": 1100.0, "prompt": 1000.0}
    apart = named(steps("llama-3.1-8b", **both), "scores").bytes_of("kv")
    together = named(steps("llama-3.1-8b", **both, samples=4.0), "scores").bytes_of("kv")
    assert apart == 8 * 1100 * 8 * 128 * 2
    assert together == (8 * 100 + 2 * 1000) * 8 * 128 * 2


def test_latent_attention_absorbed_and_expanded():
    """DeepSeek-V2 Lite: 16 heads of 128 + 64 rotary, values of 128, a latent of 512 + 64; FLOPs of one layer and step."""
    batch, context, hidden = 2, 100, 2048
    scenario: dict[str, Any] = {"phase": "decode", "batch": float(batch), "context": float(context)}
    outer = 2 * batch * (hidden * 16 * 192 + hidden * 576 + 16 * 128 * hidden)  # queries, latent, output
    absorbed = 2 * batch * 16 * 2 * 128 * 512 + 2 * batch * context * 16 * (576 + 512)
    expanded = 2 * batch * context * 512 * 16 * 256 + 2 * batch * context * 16 * (192 + 128)
    cached = 2 * batch * 512 * 16 * 256 + 2 * batch * context * 16 * (192 + 128)
    for form, inner in ((None, absorbed), ("absorbed", absorbed), ("expanded", expanded), ("cached-expanded", cached)):
        operations = [one for one in steps("deepseek-v2-lite", latent=form, **scenario) if one.name.startswith("dense ")]
        found = flops(operations, lambda one: one.group in ("projections", "attention"))
        assert found == pytest.approx(outer + inner, rel=1e-12), form
    # The absorbed form reads the latent once, as keys and as values: fused, 576 values a token.
    fused = fuse(steps("deepseek-v2-lite", **scenario))
    attention = next(one for one in fused if one.name == "dense attention")
    assert attention.bytes_of("kv") == batch * context * 576 * 2
    assert cache_bytes_per_token(model_of("deepseek-v2-lite"), BF16) == 27 * 576 * 2
    assert cache_bytes_per_token(model_of("deepseek-v2-lite"), BF16, latent="cached-expanded") == 27 * 16 * (192 + 128) * 2


def test_linear_attention_keeps_a_state_instead_of_a_cache():
    """Qwen3-Next: 36 of 48 layers with 32 value heads of a 128 × 128 state in fp32, whatever the context."""
    for context in (10.0, 10000.0):
        operations = steps("qwen3-next-80b-a3b", phase="decode", batch=3.0, context=context)
        assert moved(operations, "state") == 36 * 3 * 2 * 32 * 128 * 128 * 4  # read and written
    scenario = Scenario(phase="decode", batch=3.0, context=1000.0)
    attending = 12 * 3 * 1000 * 2 * 2 * 256 * 2
    assert cache_bytes(model_of("qwen3-next-80b-a3b"), scenario, BF16) == attending + 36 * 3 * 32 * 128 * 128 * 4


def test_windows_hold_no_more_than_their_window():
    model = with_window(model_of("llama-3.1-8b"), 100.0)
    scenario = Scenario(phase="decode", batch=2.0, context=1000.0)
    assert cache_bytes(model, scenario, BF16) == 2 * 2 * 8 * 128 * 2 * (16 * 100 + 16 * 1000)


# ---- cross-attention --------------------------------------------------------------------------------------------------------


def test_cross_attention_reads_the_encoder_s_tokens():
    """T5 Small: 6 layers, 8 heads of 64 in a width of 512; two sequences, 100 tokens in the encoder, the seventh decoded."""
    operations = steps("t5-small", phase="decode", batch=2.0, context=7.0, source_tokens=100.0)
    assert named(operations, "cross scores").matrix_flops == 2 * 2 * 8 * 100 * 64
    assert named(operations, "cross scores").bytes_of("kv") == 2 * 100 * 512 * 2
    assert named(operations, "scores").matrix_flops == 2 * 2 * 8 * 7 * 64
    projections = flops(operations, lambda one: one.group == "projections")
    assert projections == 6 * 2 * 2 * 512 * 512 * 6  # four of self-attention, query and output of cross-attention
    assert not [one for one in operations if one.name in ("cross key", "cross value")]


def test_cross_keys_and_values_are_computed_once_in_the_prefill():
    """Whisper large: 1500 tokens of the encoder, width 1280, 32 layers on either side."""
    prefill = steps("whisper-large-v3", phase="prefill", prompt=1.0)
    cross = flops(prefill, lambda one: one.name in ("cross key", "cross value"))
    assert cross == 32 * 2 * 2 * 1500 * 1280 * 1280
    encoder = flops(prefill, lambda one: one.name.startswith("encoder") and one.group == "projections")
    assert encoder == 32 * 4 * 2 * 1500 * 1280 * 1280
    attention = flops(prefill, lambda one: one.name.startswith("encoder") and one.group == "attention")
    assert attention == 32 * 2 * 2 * 1500 * 1500 * 1280  # every frame attends to all


# ---- chunks and steps -------------------------------------------------------------------------------------------------------

CHUNKED = {
    "all before": model_of("llama-3.1-8b"),
    "sliding": with_window(model_of("llama-3.1-8b"), 300.0),
    "chunks": with_window(model_of("llama-3.1-8b"), 300.0, "chunked"),
    "gemma-2-9b": model_of("gemma-2-9b"),
    "deepseek-v2-lite": model_of("deepseek-v2-lite"),
}


@pytest.mark.parametrize("name", CHUNKED)
def test_prefill_in_chunks_does_the_work_of_prefill_in_one_go(name: str):
    """FLOPs of products in the layers, and what is appended to the cache; three chunks of unequal length."""
    model, chunks = CHUNKED[name], [(0.0, 512.0), (512.0, 100.0), (612.0, 412.0)]
    rest: dict[str, Any] = {"phase": "prefill", "batch": 2.0, "latent": "absorbed"}
    whole = steps(model, prompt=1024.0, **rest)
    parts = [steps(model, prompt=new, context=past, **rest) for past, new in chunks]

    def layers(operations: Iterable[Operation]) -> float:
        return flops(operations, lambda one: one.group != "head")

    assert sum(map(layers, parts)) == pytest.approx(layers(whole), rel=1e-12)
    appended = [sum(one.count * one.writes[0].bytes for one in each if one.kind == "append") for each in (*parts, whole)]
    assert sum(appended[:-1]) == appended[-1]


@pytest.mark.parametrize("name", [*CHUNKED, "mixtral-8x7b", "qwen3-next-80b-a3b", "t5-small"])
def test_generation_is_its_prefill_and_its_decode_steps(name: str):
    """The first token comes from the prefill; step i of the rest attends to the prompt and i more tokens."""
    model = CHUNKED.get(name) or model_of(name)
    prompt, output, start = 290.0, 40, 1.0 if model.encoder else 290.0
    whole = steps(model, phase="generate", batch=3.0, prompt=prompt, output=float(output))
    prefill = steps(model, phase="prefill", batch=3.0, prompt=prompt)
    source = {"source_tokens": prompt} if model.encoder else {}
    decode = [steps(model, phase="decode", batch=3.0, context=start + step, **source) for step in range(1, output)]
    assert flops(whole) == pytest.approx(flops(prefill) + sum(map(flops, decode)), rel=1e-12)
    assert moved(whole) == pytest.approx(moved(prefill) + sum(map(moved, decode)), rel=1e-12)


def test_an_encoder_has_no_decode():
    with pytest.raises(InputError, match="bert-base is an encoder"):
        steps("bert-base", phase="decode")


# ---- fusion -----------------------------------------------------------------------------------------------------------------

STEPS = [("llama-3.1-8b", "decode"), ("qwen3-next-80b-a3b", "prefill"), ("deepseek-v3.2", "decode"), ("gemma-2-9b", "prefill")]
STEPS += [("mixtral-8x7b", "decode"), ("t5-large", "generate"), ("gpt-j-6b", "decode"), ("bert-large", "encode")]
STEPS += [("resnet-50", "encode"), ("vit-b-16", "encode"), ("glm-4.5-air", "prefill")]


@pytest.mark.parametrize(("name", "phase"), STEPS)
def test_fusion_keeps_the_work_and_never_moves_more(name: str, phase: Any):
    plain = steps(name, phase=phase, batch=2.0, prompt=64.0, context=128.0, output=8.0)
    fused = fuse(plain)
    assert len(fused) < len(plain)
    assert flops(fused) == pytest.approx(flops(plain), rel=1e-12)
    for role in ("weight", "state"):
        assert moved(fused, role) == pytest.approx(moved(plain, role), rel=1e-12)
    assert moved(fused, "kv") <= moved(plain, "kv") * (1 + 1e-12)
    assert moved(fused, "activation", "scores") < moved(plain, "activation", "scores")

    def functions(operations: Iterable[Operation]) -> dict[str, float]:
        found: dict[str, float] = {}
        for one in operations:
            for function, elements in one.functions.items():
                found[function] = found.get(function, 0.0) + elements * one.count
        return found

    assert functions(fused) == pytest.approx(functions(plain), rel=1e-12)


@pytest.mark.parametrize(("name", "phase"), STEPS)
def test_what_a_fused_operation_reads_was_written_whole(name: str, phase: Any):
    """A tensor that is changed in part, as by a rotation of half of each head, still crosses memory whole.

    Absorbed queries keep a rotary part that no absorption writes, so latent attention's are left out.
    """
    written: dict[str, float] = {}
    followed = {"normed", "inner", "attended", "projected", "queries"} - ({"queries"} if name.startswith("deepseek") else set())
    for operation in fuse(steps(name, phase=phase, batch=2.0, prompt=64.0, context=128.0, output=8.0)):
        for tensor in operation.reads:
            if tensor.role == "activation" and tensor.name in followed:
                assert tensor.elements <= written[tensor.name], (operation.name, tensor.name)
        written |= {tensor.name: tensor.elements for tensor in operation.writes}


def test_scores_stay_on_chip():
    fused = fuse(steps("llama-3.1-8b", phase="prefill", prompt=4096.0))
    assert moved(fused, "scores") == 0.0


# ---- bytes of number formats ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "bits"),
    [
        ("mxfp4", 4.25),  # 4 + 8/32
        ("mxfp8", 8.25),
        ("nvfp4", 4.5),  # 4 + 8/16
        ("q4_0", 4.5),  # 18 bytes for 32 values
        ("q8_0", 8.5),  # 34 bytes for 32
        ("q4_k", 4.5),  # 144 bytes for 256
        ("q6_k", 6.5625),  # 210 bytes for 256
        ("tf32", 32),  # in memory as fp32
    ],
)
def test_bits_of_a_value_with_its_share_of_the_scales(form: str, bits: float):
    assert FORMATS[form].bits_per_value == bits


@pytest.mark.parametrize(
    ("precision", "size"),
    [
        ("q4_k_m", 4.92e9),  # llama.cpp's files of Llama 3 8B: Meta-Llama-3-8B.Q4_K_M.gguf, 4.92 GB
        ("q4_0", 4.66e9),
        ("q8_0", 8.54e9),
        ("bf16", 16.06e9),
    ],
)
def test_size_of_the_files_of_llama_3_8b(precision: str, size: float):
    assert weight_bytes(model_of("llama-3-8b"), Precision.parse(precision)) == pytest.approx(size, rel=0.02)


def test_bytes_follow_each_role_s_format():
    """w4a16kv8: weights half a byte, keys one byte, the residual stream two."""
    operations = steps("llama-3.1-8b", Precision.parse("w4a16kv8"), phase="decode", batch=1.0, context=10.0)
    assert named(operations, "feed-forward up").bytes_of("weight") == 4096 * 14336 / 2
    assert named(operations, "scores").bytes_of("kv") == 10 * 8 * 128
    assert named(operations, "feed-forward up").bytes_of("activation") == 2 * (4096 + 14336)


# ---- one layer by hand ------------------------------------------------------------------------------------------------------


def test_a_small_decoder_by_hand():
    """Width 8, 2 heads of 4, one KV head, gated feed-forward of 16, vocabulary 32; 5 tokens in one prefill."""
    attention = Attention(heads=2, kv_heads=1, head_size=4, rotary_size=4)
    layer = Layer(count=3, attention=attention, feed_forward=FeedForward(width=16, gated=True, activation="silu"))
    model = Model(name="small", hidden=8, vocabulary=32, decoder=(layer,))
    operations = steps(model, phase="prefill", batch=1.0, prompt=5.0)
    weights = 8 * 8 + 2 * 8 * 4 + 8 * 8 + 3 * 8 * 16
    pairs = 1 + 2 + 3 + 4 + 5
    assert flops(operations) == 3 * (2 * 5 * weights + 2 * 2 * 2 * 4 * pairs) + 2 * 8 * 32  # logits of the last token
    assert math.isclose(
        moved(operations, "weight"), 2 * (3 * (weights + 16) + 8 + 5 * 8 + 8 * 32)
    )  # norms, rows of the table, head
    assert named(operations, "softmax").functions == {"softmax": 2 * pairs}
    assert named(operations, "cache append").writes[0].elements == 5 * 2 * 4
