"""A step over many chips: nothing is lost, what is done twice is what is said, one chip is as before, times are theory's."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ridgeline.api import analyze, load_chip, load_model, load_system, thresholds
from ridgeline.costs import parallel
from ridgeline.costs.collective import distributed_load_time, ops_per_communicated_byte, tensor_parallel_limit
from ridgeline.errors import InfeasibleError, InputError
from ridgeline.estimate import estimate
from ridgeline.mapping.collectives import collective_cost
from ridgeline.mapping.partition import Partition, partition
from ridgeline.parallel import communication, estimate_plan
from ridgeline.results import Estimate, Operation
from ridgeline.specs.model import Attention, Experts, FeedForward, LatentAttention, Layer, Model
from ridgeline.specs.plan import Plan
from ridgeline.specs.precision import Precision
from ridgeline.specs.scenario import Scenario
from ridgeline.specs.system import NetworkTier, System
from ridgeline.workload import transformer
from ridgeline.workload.parameters import weight_bytes

BF16 = Precision.parse("bf16")
H100 = load_chip("h100-sxm")
INNER = NetworkTier(name="inner", size=8, topology="switch", bandwidth=450e9, latency=0.7e-6)
OUTER = NetworkTier(name="outer", size=64, topology="fat-tree", bandwidth=400e9, latency=2e-6)
SYSTEM = System(name="boxes", chip=H100, tier=(INNER, OUTER))


def dense(**changed: Any) -> Model:
    """Eight layers of 16 query heads, 4 KV heads, a gated feed-forward of 1024."""
    attention = changed.pop("attention", Attention(heads=16, kv_heads=4, head_size=32, rotary_size=32))
    layer = Layer(count=8, attention=attention, feed_forward=FeedForward(width=1024, gated=True, activation="silu"))
    return replace(Model(name="dense", hidden=512, vocabulary=1000, decoder=(layer,), maximum_context=4096), **changed)


def mixture(experts: int = 16, active: int = 2, shared: int = 256) -> Model:
    attention = Attention(heads=16, kv_heads=16, head_size=32)
    mixed = Experts(count=experts, active=active, width=256, shared_width=shared)
    first = Layer(name="dense", count=2, attention=attention, feed_forward=FeedForward(width=1024, gated=True))
    second = Layer(name="mixed", count=6, attention=attention, experts=mixed)
    return Model(name="mixture", hidden=512, vocabulary=1024, decoder=(first, second))


def run(plan: Plan | str, model: Model | None = None, system: System = SYSTEM, **scenario: Any) -> Estimate:
    asked = Scenario(**{"phase": "decode", "batch": 64.0, "context": 1024.0} | scenario)
    return estimate_plan(system, model or dense(), asked, BF16, Plan.parse(plan) if isinstance(plan, str) else plan)


def split(plan: Plan | str, model: Model | None = None, **scenario: Any) -> Partition:
    asked = Scenario(**{"phase": "decode", "batch": 64.0, "context": 1024.0} | scenario)
    return partition(model or dense(), asked, BF16, Plan.parse(plan) if isinstance(plan, str) else plan, SYSTEM.tier)


# ---- nothing is lost: sums over chips -------------------------------------------------------------------------------------------


def over_chips(found: Partition, count: Any) -> float:
    """Sum a count of every operation over all chips and micro-batches."""
    micro = found.layout.micro_batches
    return sum(stage.chips * micro * one.count * count(one) for stage in found.stages for one in stage.mean)


def over_step(model: Model, scenario: Scenario, count: Any) -> float:
    return sum(one.count * count(one) for one in transformer.operations(model, scenario, BF16))


KEY_VALUE = ("key", "value")


def repeated(plan: Plan, model: Model, decoding: bool, base: str) -> float:
    """How often a plan does an operation's products: KV heads, the latent, routers, padded heads, decode's context ranks."""
    attention = next(layer.attention for layer in model.decoder if layer.attention is not None)
    tensor, times = plan.tensor, 1.0
    if base in KEY_VALUE:
        times = max(1.0, tensor / attention.kv_heads)
    elif base in ("query down", "key-value down", "router"):
        times = float(tensor)
    elif base == "head":
        times = math.ceil(model.vocabulary / tensor) * tensor / model.vocabulary
        return times * plan.context  # the last token's logits on every context rank
    core = base in ("scores", "values")
    return times * (plan.context if decoding and not core else 1)


def bases(model: Model, operations: Any) -> list[str]:
    names = [f"{layer.name} " for layer in model.decoder if layer.name]
    found = []
    for one in operations:
        prefix = next((name for name in names if one.place and one.name.startswith(name)), "")
        found.append(one.name.removeprefix(prefix))
    return found


@st.composite
def cases(draw: Any) -> tuple[Model, Plan, Scenario]:
    """A random dense, latent or mixture model, a plan that divides it, and a decode or prefill step."""
    tensor, data, context = (2 ** draw(st.integers(0, top)) for top in (3, 2, 2))
    pipeline, micro = 2 ** draw(st.integers(0, 2)), 2 ** draw(st.integers(0, 2))
    kv = 2 ** draw(st.integers(0, 4))
    heads = max(kv, tensor) * draw(st.integers(1, 3))
    heads = heads if heads % kv == 0 and heads % tensor == 0 else max(kv, tensor) * 2
    latent = LatentAttention(rank=64, query_rank=draw(st.sampled_from([None, 96])), rotary_size=16) if draw(st.booleans()) else None
    attention = Attention(heads=heads, kv_heads=heads if latent else kv, head_size=32, latent=latent)
    expert = 1
    width = tensor * draw(st.integers(1, 5)) * 64
    mixed = None
    if draw(st.booleans()):
        expert = 2 ** draw(st.integers(0, int(math.log2(tensor * data * context))))
        mixed = Experts(count=expert * draw(st.integers(2, 4)), active=2, width=width, shared_width=tensor * 32)
    layer = Layer(
        count=pipeline * draw(st.integers(1, 4)),
        attention=attention,
        feed_forward=None if mixed else FeedForward(width=width, gated=draw(st.booleans())),
        experts=mixed,
    )
    model = Model(
        name="random",
        hidden=64 * draw(st.integers(1, 8)),
        vocabulary=draw(st.integers(100, 5000)),
        tied=draw(st.booleans()),
        decoder=(layer,),
    )
    plan = Plan(tensor=tensor, data=data, context=context, pipeline=pipeline, expert=expert, micro_batches=micro)
    batch = float(data * micro * draw(st.integers(1, 4)))
    tokens = float(context * draw(st.integers(1, 64)))
    phase = draw(st.sampled_from(["decode", "prefill"]))
    scenario = Scenario(
        phase=phase, batch=batch, context=tokens if phase == "decode" else 0.0, prompt=tokens if phase == "prefill" else 0.0
    )
    return model, plan, scenario


@settings(max_examples=150, deadline=None)
@given(cases())
def test_flops_over_chips_are_the_whole_and_the_stated_replication(case: tuple[Model, Plan, Scenario]):
    model, plan, scenario = case
    found = partition(model, scenario, BF16, plan, SYSTEM.tier)
    decoding = scenario.phase == "decode"
    whole = transformer.operations(model, scenario, BF16)
    expected = 0.0
    for one, base in zip(whole, bases(model, whole), strict=True):
        times = repeated(plan, model, decoding, base)
        if base.startswith("experts ") and decoding and plan.context > 1:  # context ranks bring the same tokens to sets of experts
            ranks = plan.tensor * plan.context
            times = min(plan.context, max(1.0, ranks / (plan.expert * found.layout.expert_tensor)))
        if base == "key-value up" and not decoding:
            times = plan.context  # latents go round the ring and are expanded by every rank
        expected += times * one.count * one.matrix_flops
    assert over_chips(found, lambda one: one.matrix_flops) == pytest.approx(expected, rel=1e-9)  # sums of floats in another order


@settings(max_examples=150, deadline=None)
@given(cases())
def test_cached_bytes_that_are_read_are_the_whole_and_the_replication(case: tuple[Model, Plan, Scenario]):
    model, plan, scenario = case
    found = partition(model, scenario, BF16, plan, SYSTEM.tier)
    attention = model.decoder[0].attention
    assert attention is not None
    alike = plan.tensor if attention.latent else max(1.0, plan.tensor / attention.kv_heads)
    ring = plan.context if scenario.phase == "prefill" else 1  # every rank reads all keys of its heads once they have come to it

    def read(one: Operation) -> float:
        return sum(tensor.bytes for tensor in one.reads if tensor.role == "kv")

    assert over_chips(found, read) == pytest.approx(alike * ring * over_step(model, scenario, read), rel=1e-9)


def weights_of_all(model: Model, plan: Plan, expert_tensor: int) -> float:
    """Bytes of weights on all chips, part by part, from the dimensions alone."""
    tensor, ranks = plan.tensor, plan.data * plan.context
    layer, hidden = model.decoder[0], model.hidden
    attention = layer.attention
    assert attention is not None
    size, heads = attention.head_size, attention.heads
    if attention.latent is None:
        kept = attention.kv_heads * max(1.0, tensor / attention.kv_heads)
        each = hidden * size * (2 * heads + 2 * kept)
    else:
        one = attention.latent
        queries = heads * (size + one.rotary_size)
        each = rank_bytes = 0.0
        if one.query_rank is None:
            each += hidden * queries
        else:
            each += one.query_rank * queries
            rank_bytes += hidden * one.query_rank + one.query_rank
        rank_bytes += hidden * (one.rank + one.rotary_size) + one.rank
        each += one.rank * heads * 2 * size + heads * size * hidden + tensor * rank_bytes
    each += 2 * hidden * tensor  # norms
    if layer.feed_forward is not None:
        each += (3 if layer.feed_forward.gated else 2) * hidden * layer.feed_forward.width
    routed = 0.0
    if layer.experts is not None:
        each += 3 * hidden * layer.experts.shared_width + tensor * hidden * layer.experts.count
        copies = tensor * ranks / (plan.expert * expert_tensor)
        routed = layer.count * copies * layer.experts.count * 3 * hidden * layer.experts.width
    table = math.ceil(model.vocabulary / tensor) * tensor * hidden
    tables = 1 if model.tied and plan.pipeline == 1 else 2
    return 2.0 * (ranks * (layer.count * each + tables * table + tensor * hidden) + routed)


@settings(max_examples=150, deadline=None)
@given(cases())
def test_weights_over_chips_are_the_whole_and_the_stated_replication(case: tuple[Model, Plan, Scenario]):
    model, plan, scenario = case
    found = partition(model, scenario, BF16, plan, SYSTEM.tier)
    held = sum(stage.chips * stage.weights(BF16) for stage in found.stages)
    assert held == pytest.approx(weights_of_all(model, plan, found.layout.expert_tensor), rel=1e-9)
    one = partition(model, replace(scenario, batch=1.0), BF16, Plan(), SYSTEM.tier).stages[0]
    assert one.weights(BF16) == weight_bytes(model, BF16)


@settings(max_examples=60, deadline=None)
@given(cases(), st.floats(1.0, 100.0))
def test_more_bandwidth_is_never_slower(case: tuple[Model, Plan, Scenario], more: float):
    model, plan, scenario = case
    before = estimate_plan(SYSTEM, model, scenario, BF16, plan)
    for index in (0, 1):
        tiers = list(SYSTEM.tier)
        tiers[index] = replace(tiers[index], bandwidth=tiers[index].bandwidth * more)
        after = estimate_plan(replace(SYSTEM, tier=tuple(tiers)), model, scenario, BF16, plan)
        assert after.time <= before.time * (1 + 1e-12)
        assert after.time_lower <= after.time * (1 + 1e-12) <= after.time_upper * (1 + 1e-9)


@settings(max_examples=60, deadline=None)
@given(cases(), st.floats(1e3, 1e9))
def test_a_plan_that_exceeds_memory_is_never_feasible(case: tuple[Model, Plan, Scenario], capacity: float):
    model, plan, scenario = case
    memory = tuple(replace(one, capacity=capacity) if one.name == "hbm" else one for one in H100.memory)
    found = estimate_plan(replace(SYSTEM, chip=replace(H100, memory=memory)), model, scenario, BF16, plan)
    spread = partition(model, scenario, BF16, plan, SYSTEM.tier)
    mean = sum(stage.chips * stage.weights(BF16) for stage in spread.stages) / spread.layout.chips
    held = found.capacity
    assert held is not None
    assert held.needed >= mean * (1 - 1e-12)  # the fullest chip has at least the mean of the weights
    assert bool(found.feasible) == (held.weights + held.kv + held.activations + held.buffers <= capacity)
    if mean > capacity:
        assert not found.feasible
        assert held.shortfall > 0


# ---- one chip -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", ["decode", "prefill", "generate", "encode"])
@pytest.mark.parametrize("name", ["llama-3.1-8b", "deepseek-v2-lite", "t5-base", "bert-base", "qwen3-next-80b-a3b"])
def test_one_chip_is_as_without_a_plan(name: str, phase: str):
    model = load_model(name)
    assert isinstance(model, Model)
    if not model.decoder and phase != "encode":
        pytest.skip("an encoder has no such phase")
    asked = Scenario(phase=phase, batch=4.0, prompt=512.0, context=512.0, output=8.0)  # pyright: ignore[reportArgumentType]
    alone = estimate(H100, model, asked, BF16)
    planned = estimate_plan(SYSTEM, model, asked, BF16, Plan())
    assert planned.time == pytest.approx(alone.time, rel=1e-12)
    assert planned.flops == pytest.approx(alone.flops, rel=1e-12)
    assert planned.bytes == pytest.approx(alone.bytes, rel=1e-12)
    assert communication(planned, 1) == {}
    assert not any(name.startswith("network.") for name in planned.cost.time)
    assert planned.capacity is not None
    assert alone.capacity is not None
    assert planned.capacity.needed == alone.capacity.needed
    assert planned.notes == alone.notes


# ---- published limits -----------------------------------------------------------------------------------------------------------


def test_tensor_parallel_limit_is_where_the_step_balances():
    """At so many chips the all-reduce of a feed-forward block takes as long as its products, but for (t − 1)/t of a ring."""
    wide = replace(INNER, size=16, latency=0.0)
    layer = Layer(count=4, feed_forward=FeedForward(width=65536))
    model = Model(name="wide", hidden=4096, vocabulary=1024, decoder=(layer,))
    rate = H100.matrix_unit.rate["bf16"]
    limit = tensor_parallel_limit(width=65536, ops_per_byte=ops_per_communicated_byte(rate=rate, bandwidth=wide.bandwidth))
    found = estimate_plan(
        replace(SYSTEM, tier=(wide,)), model, Scenario(phase="prefill", batch=64.0, prompt=2048.0), BF16, Plan(tensor=16)
    )
    compute = sum(row.cost.time["compute"] for row in found.operations if row.group == "feed-forward")
    sent = next(row.time for row in found.operations if row.name == "feed-forward all-reduce")
    assert sent / compute == pytest.approx(15 / limit, rel=0.01)  # the protocol's 2.8 µs a step


def test_tensor_parallel_limit_of_the_catalogue():
    found = thresholds("deepseek-v3", "h100-sxm")
    rate, width = H100.matrix_unit.rate["fp8-e4m3"], 18432
    link = H100.link[0]
    limit = tensor_parallel_limit(width=width, ops_per_byte=ops_per_communicated_byte(rate=rate, bandwidth=link.bandwidth))
    assert found.tensor_parallel_limit[f"{link.name}, ring, one direction"] == pytest.approx(limit, rel=1e-12)


def test_weights_load_in_2p_over_n_times_bandwidth():
    """At batch 1 decode reads every weight but the table once, from all chips' memories together."""
    model = load_model("llama-3.1-70b")
    assert isinstance(model, Model)
    found = analyze(model, "dgx-h100", plan="tp=8", phase="decode", level="ideal", batch=1, context=1).estimate
    parameters = weight_bytes(model, BF16) / 2 - model.vocabulary * model.hidden
    load = distributed_load_time(parameters=parameters, chips=8, bandwidth=H100.main_memory.bandwidth)
    assert found.cost.time["memory.hbm"] == pytest.approx(load, rel=2e-3)  # activations and norms held by every rank
    assert found.bound == "memory.hbm"


# ---- bytes of each kind ---------------------------------------------------------------------------------------------------------


def test_tensor_ranks_send_what_megatron_says():
    tier = replace(INNER, latency=0.0)
    found = split("tp=8", phase="prefill", prompt=128.0, context=0.0)
    layers = [one for one in found.stages[0].exchanges if one.name in ("attention all-reduce", "feed-forward all-reduce")]
    ring = [
        collective_cost([tier], one.kind, one.bytes, one.members, algorithm="ring", protocol="hardware").bytes["inner"]
        for one in layers
    ]
    assert ring == pytest.approx([parallel.product_pair_bytes(rows=64.0 * 128, hidden=512.0, chips=8.0)] * 2, rel=1e-12)
    halves = split("tp=8,sp=8", phase="prefill", prompt=128.0, context=0.0).stages[0].exchanges
    sent = sum(
        one.count * collective_cost([tier], one.kind, one.bytes, one.members, algorithm="ring", protocol="hardware").bytes["inner"]
        for one in halves
        if one.name.startswith("feed-forward")
    )
    assert sent == pytest.approx(8 * ring[1], rel=1e-12)


@pytest.mark.parametrize(
    ("form", "tensor", "side", "copies"), [("2d", 4, 2, 1), ("2d", 16, 4, 1), ("2.5d", 8, 2, 2), ("2.5d", 64, 4, 4)]
)
def test_blocks_send_what_summa_says(form: Any, tensor: int, side: int, copies: int):
    many = dense(attention=Attention(heads=16, kv_heads=16, head_size=32))
    found = split(Plan(tensor=tensor, tensor_form=form), many, phase="prefill", prompt=128.0, context=0.0)
    assert (found.layout.side, found.layout.copies, found.layout.chips) == (side, copies, tensor)
    blocks = [one for one in found.stages[0].exchanges if one.name.startswith("feed-forward")]
    sent = sum(one.bytes * (one.members - 1) / one.members for one in blocks)
    rows = 64.0 * 128
    given = {"rows": rows, "side": float(side), "copies": float(copies)}
    expected = parallel.block_product_bytes(inputs=512.0, outputs=2048.0, **given)
    expected += parallel.block_product_bytes(inputs=1024.0, outputs=512.0, **given)
    assert sent == pytest.approx(expected, rel=1e-12)
    flat = over_chips(split(Plan(tensor=1), many, phase="prefill", prompt=128.0, context=0.0), lambda one: one.matrix_flops)
    padded = 512 * 2.0 * 64 * (math.ceil(1000 / side**2) * side**2 - 1000)
    assert over_chips(found, lambda one: one.matrix_flops) == pytest.approx(flat + padded, rel=1e-12)


def test_copies_save_the_square_root_of_what_they_are():
    """c copies on the same chips send 1/√c of the bytes [solomonik2011communication]; the (q − 1)/q of a finite square aside."""
    given = {"rows": 4096.0, "inputs": 8192.0, "outputs": 8192.0}
    flat = parallel.block_product_bytes(side=1000.0, **given)
    avoiding = parallel.block_product_bytes(side=500.0, copies=4.0, **given)
    assert avoiding / flat == pytest.approx(0.5, rel=2e-3)


def test_ring_attention_hides_from_its_block_on():
    """Below the block length keys and values cannot be passed behind their use; above they can, at peak rates, without latency."""
    tier = replace(INNER, latency=0.0)
    layer = Layer(count=4, attention=Attention(heads=32, kv_heads=32, head_size=128))
    model = Model(name="long", hidden=4096, vocabulary=1024, decoder=(layer,))
    rate = H100.matrix_unit.rate["bf16"]
    block = parallel.ring_attention_block(rate=rate, bandwidth=tier.bandwidth)
    shown = {}
    for factor in (0.25, 0.5, 4.0, 8.0):
        prompt = 8.0 * round(block * factor)
        found = estimate_plan(
            replace(SYSTEM, tier=(tier,)), model, Scenario(phase="prefill", batch=1.0, prompt=prompt), BF16, Plan(context=8)
        )
        row = next(row for row in found.operations if row.name == "context ring")
        shown[factor] = row.time / row.cost.time["network.inner"]
    assert shown[0.25] > shown[0.5] > 0.0
    assert shown[4.0] == shown[8.0] == 0.0


def test_context_ranks_cut_the_cache_in_decode():
    whole, cut = run("tp=4"), run("tp=4,cp=2")
    assert cut.capacity is not None
    assert whole.capacity is not None
    assert cut.capacity.kv == whole.capacity.kv / 2
    row = next(row for row in cut.operations if row.name == "context combine all-reduce" or row.name == "context combine")
    assert row.count == 8


# ---- experts --------------------------------------------------------------------------------------------------------------------


def test_the_busiest_rank_sets_the_time_and_the_sums_stay():
    even, skewed = run("ep=8", mixture(), batch=512.0), run("ep=8", mixture(), batch=512.0, routing_skew=1.0)
    up_even = next(row for row in even.operations if "experts up" in row.name or "experts gate" in row.name)
    up_skewed = next(row for row in skewed.operations if row.name == up_even.name)
    assert up_skewed.flops > 1.2 * up_even.flops
    assert skewed.flops == pytest.approx(even.flops, rel=1e-9)  # visits are as many
    assert sum(row.time for row in skewed.operations if "all-to-all" in row.name) > sum(
        row.time for row in even.operations if "all-to-all" in row.name
    )
    assert any("busiest" in note for note in skewed.notes)


def test_experts_within_tensor_ranks_need_no_all_to_all():
    inside, across = split("tp=8,ep=8", mixture()), split("ep=8", mixture())
    assert not any(one.kind == "all-to-all" for stage in inside.stages for one in stage.exchanges)
    assert sum(one.kind == "all-to-all" for stage in across.stages for one in stage.exchanges) == 2


def test_attention_data_parallel_keeps_one_cache():
    """Latent attention over tensor ranks holds the cache on each; as data parallel once in all."""
    cut, apart = run("tp=8,ep=8", load_deepseek()), run("tp=8,ep=8,adp=1", load_deepseek())
    assert cut.capacity is not None
    assert apart.capacity is not None
    assert apart.capacity.kv == cut.capacity.kv / 8
    assert any("latent KV cache" in note for note in cut.notes)


def load_deepseek() -> Model:
    model = load_model("deepseek-v2-lite")
    assert isinstance(model, Model)
    return model


# ---- pipelines and overlap ------------------------------------------------------------------------------------------------------


def headless() -> Model:
    return replace(dense(), head="none", final_norm=False, vocabulary=0)


def free(system: System = SYSTEM) -> System:
    tiers = tuple(replace(one, bandwidth=1e30, latency=0.0) for one in system.tier)
    return replace(system, tier=tiers)


@pytest.mark.parametrize(("stages", "micro", "chunks"), [(2, 1, 1), (4, 4, 1), (4, 16, 1), (2, 4, 4)])
def test_a_pipeline_takes_gpipe_s_time(stages: int, micro: int, chunks: int):
    """m + (p − 1)/v slots of a stage's micro-batch; the rest of the time is GPipe's bubble."""
    plan = Plan(pipeline=stages, micro_batches=micro, virtual_stages=chunks)
    found = run(plan, headless(), free(), phase="prefill", prompt=64.0, context=0.0)
    one = run(Plan(), headless(), phase="prefill", prompt=64.0, context=0.0, batch=64.0 / micro)
    embedding = next(row.time for row in one.operations if row.name.startswith("embedding"))
    sends = sum(row.time * row.count for row in found.operations if "send" in row.name)  # 2.8 µs a message of the protocol
    slot = (one.time - embedding) / stages
    first = slot + embedding  # the first stage also looks up
    expected = parallel.pipeline_time(fill=first + (stages - 1) * slot, slowest=first, micro_batches=micro, chunks=chunks)
    assert found.time - sends == pytest.approx(expected, rel=1e-9)
    share = parallel.bubble_share(stages=stages, micro_batches=micro, chunks=chunks)
    assert 1 - micro * slot / ((micro + (stages - 1) / chunks) * slot) == pytest.approx(share, rel=1e-12)


def test_decode_goes_round_the_pipeline_without_end():
    few, many = run("pp=4,mb=2", headless(), free()), run("pp=4,mb=8", headless(), free())
    assert few.time == pytest.approx(sum(row.time * row.count for row in few.operations), rel=1e-12)
    stages = {row.name.split(":")[0] for row in many.operations}
    assert len(stages) == 1  # the slowest stage alone
    assert {row.name.split(":")[0] for row in few.operations} == {"stage 1", "stages 2–3", "stage 4"}


def test_overlap_hides_its_share_and_costs_cores():
    plain, half, all_, taken = (run(f"tp=8{more}") for more in ("", ",overlap=0.5", ",overlap=1", ",overlap=1,cores=0.5"))
    sent = plain.cost.time["network.inner"]
    work = plain.time - sent
    assert half.time == pytest.approx(work + sent - min(sent / 2, work), rel=1e-9)
    assert all_.time == pytest.approx(max(work, sent), rel=1e-9)
    assert taken.time == pytest.approx(half.time, rel=1e-9)
    assert all_.cost.time["network.inner"] == sent  # the links are as busy


def test_the_level_mapped_cuts_and_joins_too():
    """Arrays on a ring: every rank's products are tiled anew, and collectives stand between them."""
    arrays = System(
        name="arrays",
        chip=load_chip("gemmini"),
        tier=(NetworkTier(name="bus", size=4, topology="ring", bandwidth=4e9, latency=1e-6),),
    )
    model, asked = load_model("bert-base"), Scenario(phase="encode", batch=1.0, prompt=64.0)
    given = {"system": arrays, "model": model, "scenario": asked, "precision": Precision.parse("int8")}
    alone, cut = (estimate_plan(**given, plan=Plan(tensor=ranks), level="mapped") for ranks in (1, 4))
    bound = estimate_plan(**given, plan=Plan(tensor=4))
    assert alone.time / 4 < cut.time < alone.time
    assert bound.time < cut.time
    assert cut.cost.time["network.bus"] == bound.cost.time["network.bus"] > 0.0


def test_the_bound_may_be_the_network():
    slow = replace(SYSTEM, tier=(replace(INNER, bandwidth=1e9), OUTER))
    found = run("tp=8", system=slow, phase="prefill", prompt=512.0, context=0.0)
    assert found.bound == "network.inner"


# ---- placement ------------------------------------------------------------------------------------------------------------------


def test_kinds_lie_inside_out_or_where_the_plan_says():
    assert split("tp=8,pp=2").layout.strides["pipeline"] == 8
    placed = split("tp=2,pp=2@outer").layout
    assert placed.strides["pipeline"] == 8  # one stage a box, of which two chips are used
    swapped = split("tp=2@outer,dp=8@inner").layout
    assert (swapped.strides["data"], swapped.strides["tensor"]) == (1, 8)
    inside, outside = run("tp=2"), run("tp=2@outer")
    assert outside.time > inside.time
    assert set(communication(outside, 2)) == {"outer"}


# ---- what is refused ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plan", "sentence"),
    [
        ("tp=3", "4 KV heads neither divide nor repeat: 1, 2, 4, 8, 16 are accepted"),
        ("tp=32", "16 heads do not divide"),
        ("pp=9", "has 8 layers: 1 to 8 stages are accepted"),
        ("pp=3,vs=2", "8 layers do not divide: 1, 2, 4, 8 are accepted"),
        ("dp=3", "a batch of 64 does not divide: a multiple of 3"),
        ("cp=3", "a context of 1024 tokens does not divide"),
        ("ep=2", "has no experts"),
        ("tp=8,sp=2", "1 or 8 are accepted"),
        ("tp=6,form=2d", "squares"),
        ("tp=4,form=2.5d", "c · q²"),
        ("dp=64,tp=16", "takes 1024 chips: the system has 512"),
        ("vs=2", "need a pipeline"),
        ("tp=16@inner", "also need outer"),
        ("tp=8@rack", "inner"),
        ("tp=8,tp=4", "said twice"),
        ("zz=8", "no `name=value`"),
        ("tp", "no `name=value`"),
        ("tp=two", "whole number"),
        ("tp=0", "whole number"),
        ("overlap=2", "from 0 to 1"),
        ("form=3d", "choose 1d, 2d, 2.5d"),
        ("offload=disk", "choose weights, kv"),
    ],
)
def test_what_does_not_divide_is_refused_in_one_sentence(plan: str, sentence: str):
    with pytest.raises(InputError) as caught:
        run(plan)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_system_of_no_chips_or_no_bandwidth():
    for changed, sentence in (({"size": 0}, "joins 0 members"), ({"size": 2.5}, "joins 2.5"), ({"bandwidth": 0.0}, "more than 0")):
        with pytest.raises(InputError, match=sentence):
            run("tp=2", system=replace(SYSTEM, tier=(replace(INNER, **changed),)))


def test_kv_heads_that_neither_divide_nor_repeat():
    model = dense(attention=Attention(heads=12, kv_heads=6, head_size=32))
    with pytest.raises(InputError, match="6 KV heads neither divide nor repeat: 1, 2, 3, 6, 12"):
        run("tp=4", model)


def test_experts_that_do_not_divide():
    with pytest.raises(InputError, match="12 experts do not divide"):
        run("ep=8", mixture(experts=12))
    with pytest.raises(InputError, match="experts span the 8"):
        run("dp=8,ep=3", mixture())


def test_replicated_heads_and_padding_are_said():
    found = run("tp=8")
    assert "4 KV heads are fewer than 8 tensor ranks: each is held, computed and read 2 times" in found.notes
    padded = run("tp=8", dense(vocabulary=1001))
    assert "the vocabulary of 1001 is padded to 1008 rows, 126 a tensor rank" in padded.notes


# ---- arrays, the verb and the command -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("plan", ["tp=8", "tp=4,pp=2,mb=2", "dp=8,ep=8", "tp=2,cp=2,overlap=0.3", "tp=16,adp=1,ep=16"])
def test_a_batch_of_scenarios_equals_its_members(plan: str):
    batches = np.array([64.0, 128.0, 4096.0])
    together = run(plan, mixture(), batch=batches)
    for index, batch in enumerate(batches):
        alone = run(plan, mixture(), batch=float(batch))
        assert together.time[index] == pytest.approx(alone.time, rel=1e-12)
        assert together.flops[index] == pytest.approx(alone.flops, rel=1e-12)
        assert together.resources[int(together.bound[index])] == alone.bound
        for tier, one in communication(alone, 1).items():
            assert np.broadcast_to(together.cost.time[f"network.{tier}"], 3)[index] == pytest.approx(one["time"], rel=1e-12)


def test_systems_by_name_by_chip_and_by_count():
    named = analyze("llama-3.1-8b", "dgx-h100", plan="tp=8", context=128)
    found = analyze("llama-3.1-8b", "h100-sxm", count=8, plan="tp=8", context=128)
    assumed = analyze("llama-3.1-8b", "h100-sxm", count=8, context=128)
    assert found.estimate.time == named.estimate.time == assumed.estimate.time
    assert any("no plan was given" in note for note in assumed.estimate.notes)
    assert any(key.startswith("dgx-h100.tier.nvswitch") for key in named.estimate.sources)
    for system, options, sentence in (
        ("dgx-h100", {}, "say how they are used"),
        ("dgx-h10", {"plan": "tp=8"}, "unknown system 'dgx-h10': the nearest are"),
        ("h100-sx", {"plan": "tp=8"}, "unknown chip 'h100-sx': the nearest are"),
        ("dgx-h100", {"plan": "auto"}, "how many chips"),
        ("h100-sxm", {"count": 16, "plan": "tp=8"}, "takes 8 chips and count says 16"),
        ("h100-sxm", {"count": 0}, "1 or more"),
        ("gemmini", {"count": 8}, "no system"),
        ("h100-sxm", {"plan": "tp=8,dp=64"}, "dgx-h100 of 256"),
    ):
        with pytest.raises(InputError, match=sentence):
            analyze("llama-3.1-8b", system, **options)


def test_the_command_shows_communication_and_refuses_what_does_not_fit(root: Any):
    command = [sys.executable, "-m", "ridgeline", "analyze"]
    good = subprocess.run(
        [*command, "llama-3.1-70b", "dgx-h100", "--count", "16", "--plan", "tp=8,pp=2", "--json"],
        capture_output=True,
        text=True,
        check=True,
        cwd=root,
    )
    record = json.loads(good.stdout)
    assert set(record["communication"]) == {"nvswitch", "infiniband"}
    assert all(set(one) == {"bytes", "time"} for one in record["communication"].values())
    assert record["count"] == 16
    assert record["plan"]["pipeline"] == 2
    assert record["time_by_resource"]["network.nvswitch"] == record["communication"]["nvswitch"]["time"]
    assert record["per_chip"]["flops"] == pytest.approx(record["flops"] / 16)
    bad = subprocess.run(
        [*command, "llama-3.1-405b", "dgx-h100", "--plan", "tp=8"], capture_output=True, text=True, check=False, cwd=root
    )
    assert bad.returncode == 3
    assert "short of memory in hbm" in bad.stderr
    assert "16 chips would hold it, as tp=" in bad.stderr


def test_infeasible_is_data_and_says_how_many_chips():
    found = estimate_plan(load_system("dgx-h100"), load_model("llama-3.1-405b"), Scenario(context=1.0), BF16, Plan(tensor=8))
    assert not found.feasible
    with pytest.raises(InfeasibleError, match="chips would hold it"):
        analyze("llama-3.1-405b", "dgx-h100", plan="tp=8", context=1)


def test_a_deep_model_has_no_more_rows():
    """No more operations and collectives than layer groups give: the cost of a plan does not grow with depth."""
    deep = replace(dense(), decoder=(replace(dense().decoder[0], count=800),))
    assert len(run("tp=8", deep).operations) == len(run("tp=8").operations)
