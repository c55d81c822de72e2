"""What a chip's memory tiers hold: weights, pages of the KV cache, activations, buffers, and what moves to a further tier."""

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ridgeline.api import analyze, load_chip, load_model, load_system
from ridgeline.errors import InfeasibleError, InputError
from ridgeline.estimate import step_operations
from ridgeline.mapping.capacity import cache_bytes, capacity, fragmentation_bytes, further_tier
from ridgeline.parallel import estimate_plan
from ridgeline.specs.chip import MemoryLevel
from ridgeline.specs.model import Model
from ridgeline.specs.plan import Plan
from ridgeline.specs.precision import Precision
from ridgeline.specs.scenario import Scenario
from ridgeline.specs.system import System

BF16 = Precision.parse("bf16")
H100 = load_chip("h100-sxm")
FAR = MemoryLevel(name="lpddr", role="further-tier", capacity=480e9, bandwidth=400e9)
WITH_FAR = replace(H100, memory=(*H100.memory, FAR))


def llama(name: str = "llama-3.1-70b") -> Model:
    model = load_model(name)
    assert isinstance(model, Model)
    return model


def on_one(plan: Plan, chip: Any = WITH_FAR, name: str = "llama-3.1-70b", **scenario: Any):
    asked = Scenario(**{"phase": "decode", "batch": 1.0, "context": 4096.0} | scenario)
    return estimate_plan(System(name="one", chip=chip), llama(name), asked, BF16, plan)


# ---- pages ----------------------------------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 5000), st.integers(1, 256), st.integers(1, 64))
def test_whole_pages_hold_every_token_and_waste_less_than_one(context: int, page: int, batch: int):
    model = llama("llama-3.1-8b")
    asked = Scenario(batch=float(batch), context=float(context))
    each = cache_bytes(model, replace(asked, context=1.0, batch=1.0), BF16)
    waste = fragmentation_bytes(model, asked, BF16, float(page), "exact")
    assert waste == pytest.approx(batch * (math.ceil(context / page) * page - context) * each, rel=1e-12, abs=1e-6)
    assert 0 <= waste < batch * page * each


def test_half_a_page_is_the_mean_over_lengths():
    model = llama("llama-3.1-8b")
    exact = [fragmentation_bytes(model, Scenario(batch=4.0, context=float(n)), BF16, 16.0, "exact") for n in range(1024, 1040)]
    mean = fragmentation_bytes(model, Scenario(batch=4.0, context=1024.0), BF16, 16.0)
    assert sum(exact) / 16 == pytest.approx(mean, rel=1e-12)
    assert fragmentation_bytes(model, Scenario(batch=4.0, context=1024.0), BF16, 1.0) == 0.0
    assert fragmentation_bytes(model, Scenario(batch=4.0, context=1024.0), BF16, 0) == 0.0


def test_pages_count_against_the_memory():
    plain = on_one(Plan(), H100, "llama-3.1-8b", batch=64.0)
    paged = on_one(Plan(page=256), H100, "llama-3.1-8b", batch=64.0)
    assert plain.capacity is not None
    assert paged.capacity is not None
    assert paged.capacity.needed - plain.capacity.needed == pytest.approx(64 * 127.5 * 131072, rel=1e-12)  # 128 KiB a token


# ---- communication buffers and replicated heads ---------------------------------------------------------------------------------


def test_buffers_are_the_largest_collective():
    asked = Scenario(phase="prefill", batch=1.0, prompt=4096.0)
    found = estimate_plan(load_system("dgx-h100"), llama(), asked, BF16, Plan(tensor=8))
    assert found.capacity is not None
    assert found.capacity.buffers == 4096 * 8192 * 2  # an all-reduce of the hidden vectors
    alone = estimate_plan(load_system("dgx-h100"), llama("llama-3.1-8b"), asked, BF16, Plan())
    assert alone.capacity is not None
    assert alone.capacity.buffers == 0.0


@pytest.mark.parametrize(("tensor", "share"), [(1, 1.0), (4, 1 / 4), (8, 1 / 8), (16, 1 / 8), (32, 1 / 8)])
def test_kv_heads_are_cut_until_each_rank_has_one(tensor: int, share: float):
    system, asked = load_system("gb200-nvl72"), Scenario(batch=8.0, context=4096.0)
    held = estimate_plan(system, llama(), asked, BF16, Plan(tensor=tensor)).capacity
    assert held is not None
    assert held.kv == share * cache_bytes(llama(), asked, BF16)


# ---- a further tier -------------------------------------------------------------------------------------------------------------


def test_no_more_than_the_excess_moves_in_the_order_given():
    held = on_one(Plan(offload=("weights", "kv"))).capacity
    assert held is not None
    assert held.in_main == pytest.approx(held.available, rel=1e-12)
    assert held.moved["weights"] == pytest.approx(held.needed - held.available, rel=1e-12)
    assert held.moved["kv"] == 0.0
    assert held.fits
    small = on_one(Plan(offload=("weights",)), name="llama-3.1-8b").capacity
    assert small is not None
    assert small.in_further == 0.0  # what fits stays


def test_what_is_moved_comes_over_at_the_tier_s_bandwidth():
    found = on_one(Plan(offload=("weights",)))
    held = found.capacity
    assert held is not None
    model = llama()
    share = held.moved["weights"] / held.weights
    read = sum(one.count * one.bytes_of("weight") for one in step_operations(model, Scenario(context=4096.0), BF16))
    assert found.cost.time["memory.lpddr"] == pytest.approx(share * read / 400e9, rel=1e-9)
    assert found.bound == "memory.lpddr"
    assert found.time >= found.cost.time["memory.lpddr"]


def test_the_cache_may_move_instead():
    found = on_one(Plan(offload=("kv",)), name="llama-3.1-8b", batch=256.0)
    held = found.capacity
    assert held is not None
    assert held.moved["kv"] == pytest.approx(held.needed - held.available, rel=1e-12)
    assert found.cost.time["memory.lpddr"] > 0.0
    faster = on_one(Plan(offload=("kv",)), H100_WITH_FAST, "llama-3.1-8b", batch=256.0)
    assert faster.time < found.time


H100_WITH_FAST = replace(H100, memory=(*H100.memory, replace(FAR, bandwidth=800e9)))


def test_a_tier_that_is_full_is_not_enough():
    tiny = replace(H100, memory=(*H100.memory, replace(FAR, capacity=1e9)))
    found = on_one(Plan(offload=("weights",)), tiny)
    held = found.capacity
    assert held is not None
    assert not found.feasible
    assert held.shortfall == pytest.approx(held.in_further - 1e9, rel=1e-12)


def test_a_chip_without_a_further_tier_refuses():
    with pytest.raises(InputError, match="has no further-tier memory"):
        on_one(Plan(offload=("weights",)), H100)
    assert further_tier(H100) is None


# ---- what does not fit ----------------------------------------------------------------------------------------------------------


def test_the_sentence_names_level_bytes_and_chips():
    with pytest.raises(InfeasibleError) as caught:
        analyze("llama-3.1-70b", "dgx-h100", plan="tp=1", count=1)
    sentence = str(caught.value)
    assert "short of memory in hbm" in sentence
    assert "bytes" in sentence
    assert "chips would hold it" in sentence
    with pytest.raises(InfeasibleError, match="16 chips would hold it, as tp="):
        analyze("llama-3.1-405b", "dgx-h100", plan="tp=8")


@settings(max_examples=50, deadline=None)
@given(st.floats(1e9, 1e12), st.sampled_from(["llama-3.1-8b", "mixtral-8x7b", "deepseek-v2-lite"]), st.integers(1, 512))
def test_needed_is_the_sum_and_fits_is_what_it_says(available: float, name: str, batch: int):
    model = llama(name)
    memory = tuple(replace(one, capacity=available) if one.name == "hbm" else one for one in H100.memory)
    asked = Scenario(batch=float(batch), context=1000.0)
    held = capacity(model, asked, BF16, replace(H100, memory=memory), step_operations(model, asked, BF16), plan=Plan(page=16))
    assert held.needed == held.weights + held.kv + held.activations + held.fragmentation
    assert held.fits == (held.needed <= available)
    assert (held.shortfall > 0) == (not held.fits)
