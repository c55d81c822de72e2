"""Inverse questions: the value meets the target, its neighbour does not, and what cannot be is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgeline.api import analyze, load_chip, thresholds
from ridgeline.api.solve import solve
from ridgeline.errors import InfeasibleError, InputError
from ridgeline.search.solve import boundary
from ridgeline.specs.base import with_quantity

LLAMA = {"model": "llama-3.1-8b", "chip": "h100-sxm"}


@given(st.floats(1.0, 1e6), st.booleans(), st.booleans())
def test_the_boundary_is_found(limit: float, most: bool, whole: bool):
    def meets(value: float) -> bool:
        return value <= limit if most else value >= limit

    found = boundary(meets, 1.0, 2e6, most=most, whole=whole)
    assert meets(found.value)
    if found.neighbour is not None:
        assert not meets(found.neighbour)
    if whole:
        assert found.value == (limit // 1 if most else -(-limit // 1))
    else:
        assert found.value == pytest.approx(limit, rel=2e-9)


def test_what_is_not_monotone_or_not_reachable_is_refused():
    with pytest.raises(InfeasibleError, match="nowhere"):
        boundary(lambda _: False, 1.0, 8.0)
    with pytest.raises(InputError, match="no single value"):
        boundary(lambda value: value < 3.0 or value > 7.0, 1.0, 8.0)
    with pytest.raises(InputError, match="--most"):
        boundary(lambda value: value < 3.0, 1.0, 8.0)
    with pytest.raises(InputError, match="bracket"):
        boundary(lambda _: True, 8.0, 1.0)


def test_two_targets_may_leave_a_window():
    """Met from 20 to 40 only: the least and the largest are its ends, and a window too narrow for any value tried is none."""
    least = boundary(lambda value: 20.0 <= value <= 40.0, 1.0, 1000.0)
    assert (least.value, least.neighbour) == (pytest.approx(20.0), pytest.approx(20.0))
    most = boundary(lambda value: 20.0 <= value <= 40.0, 1.0, 1000.0, most=True, whole=True)
    assert (most.value, most.neighbour) == (40.0, 41.0)
    step = {**LLAMA, "context": 1024, "level": "ideal"}
    found = solve(**step, quantity="batch", targets={"tokens_per_second": 2000.0, "tpot": 8e-3})
    one = analyze(**step, batch=int(found.solution.value)).estimate
    assert one.tokens_per_second >= 2000.0
    assert one.time <= 8e-3
    assert analyze(**step, batch=int(found.solution.value) - 1).estimate.tokens_per_second < 2000.0
    with pytest.raises(InfeasibleError, match="tokens_per_second ≥ 1e"):
        solve(**step, quantity="batch", targets={"tokens_per_second": 1e6, "tpot": 8e-3})


def test_least_bandwidth_for_a_time():
    """Weights of 8.03e9 parameters in bf16 in 10 ms are 1.5 TB/s, caches and norms a little more."""
    found = solve(**LLAMA, quantity="memory.hbm.bandwidth", targets={"tpot": 10e-3}, batch=1, context=128, level="ideal")
    assert 1.5e12 < found.solution.value < 1.55e12
    there = analyze(
        "llama-3.1-8b",
        with_quantity(load_chip("h100-sxm"), "memory.hbm.bandwidth", found.solution.value),
        batch=1, context=128, level="ideal",
    )  # fmt: skip
    assert there.estimate.time == pytest.approx(10e-3, rel=1e-8)
    assert found.failing is not None
    assert found.failing.estimate.time > 10e-3


def test_largest_batch_that_fits_is_that_of_the_memory():
    found = solve(**LLAMA, quantity="batch", most=True, context=2048, level="ideal")
    batch = int(found.solution.value)
    assert analyze(**LLAMA, batch=batch, context=2048, level="ideal").estimate.feasible
    with pytest.raises(InfeasibleError):
        analyze(**LLAMA, batch=batch + 1, context=2048, level="ideal")
    assert found.solution.neighbour == batch + 1
    assert "short of memory" in found.reason


def test_the_critical_batch_is_near_that_of_thresholds():
    """`thresholds` is of dense weights alone, 295 on an H100; a whole step has activations and a cache to read as well."""
    critical = thresholds("llama-3.1-8b", "h100-sxm").critical_batch
    assert critical == pytest.approx(295, rel=0.01)
    found = solve(**LLAMA, quantity="batch", bound="compute", context=1, level="ideal")
    assert critical < found.solution.value < 1.25 * critical
    assert found.failing is not None
    assert found.failing.estimate.bound == "memory.hbm"


def test_refusals():
    with pytest.raises(InfeasibleError, match=r"no matrix_unit.* from .* to .* meets time ≤ 100 µs: at .*FLOP/s time .* ms"):
        solve(**LLAMA, quantity="matrix_unit.rate.bf16", targets={"time": 1e-4}, context=128, level="ideal")
    with pytest.raises(InputError, match=r"memory\.hbm\.bandwidth"):
        solve(**LLAMA, quantity="memory.hbm.bandwith", targets={"time": 1e-3})
    with pytest.raises(InputError, match="no target"):
        solve(**LLAMA, quantity="batch", targets={"tim": 1.0})
    with pytest.raises(InputError, match="ttft is not defined in decode"):
        solve(**LLAMA, quantity="batch", targets={"ttft": 1.0}, context=128)


def test_a_system_under_a_plan():
    options = {"targets": {"tpot": 10e-3}, "most": True, "plan": "tp=8", "context": 1024, "level": "ideal"}
    found = solve("llama-3.1-70b", "dgx-h100", "tier.nvswitch.latency", **options)
    assert found.solution.value > 0.7e-6
