"""Elasticities: of what binds −1, of what does not 0, homogeneous of degree −1 in all rates, and equal to gradients."""

from typing import Any

import pytest

from ridgeline.api import analyze, load_chip, load_model
from ridgeline.api.sensitivity import sensitivity
from ridgeline.costs.ideal import Machine
from ridgeline.errors import InfeasibleError, InputError
from ridgeline.estimate import fold, step_operations
from ridgeline.mapping.fusion import fuse
from ridgeline.search.sensitivity import Outcome, elasticity
from ridgeline.specs.base import with_quantity

RATES = ("rate", "bandwidth")
CASES: list[Any] = [
    ("llama-3.1-8b", "h100-sxm", {"batch": 1, "context": 4096}),
    ("llama-3.1-8b", "h100-sxm", {"batch": 256, "context": 1024}),
    ("llama-3.1-70b", "mi300x", {"phase": "prefill", "prompt": 2048}),
    ("deepseek-v2-lite", "h100-sxm", {"batch": 16, "context": 512}),
    ("bert-base", "a100-sxm-80gb", {"phase": "encode", "prompt": 128, "batch": 32}),
]


@pytest.mark.parametrize(("model", "chip", "scenario"), CASES)
def test_the_rates_together_are_minus_one(model: str, chip: str, scenario: Any):
    """At `ideal` time is a sum of bytes or operations over one rate each: twice all rates is half the time (Euler).

    1e-6: central differences of step 1e-4 err by about 1e-8 where time is smooth; a kink inside the step would fail this.
    """
    found = sensitivity(model, chip, level="ideal", **scenario)
    rates = [one for one in found.rows if one.path.rpartition(".")[2] in RATES or ".rate." in one.path]
    assert sum(one.time for one in rates) == pytest.approx(-1.0, abs=1e-6)
    assert all(one.time <= 1e-9 for one in rates)


def test_memory_bound_decode_is_the_bandwidth_alone():
    found = sensitivity("llama-3.1-8b", "h100-sxm", level="ideal", batch=1, context=4096)
    assert found.base.estimate.bound == "memory.hbm"
    assert found.elasticities["memory.hbm.bandwidth"] == pytest.approx(-1.0, abs=1e-3)  # all but some functions on lanes
    assert found.elasticities["matrix_unit.rate.bf16"] == 0.0
    assert found.rows[0].path == "memory.hbm.bandwidth"
    times = [abs(one.time) for one in found.rows]
    assert times == sorted(times, reverse=True)


@pytest.mark.parametrize(("model", "chip", "scenario"), CASES[:3])
def test_differences_equal_gradients(model: str, chip: str, scenario: Any):
    """The same code under JAX: exact derivatives."""
    jax = pytest.importorskip("jax", reason="gradients are JAX's: `pip install 'ridgeline[jax]'`")
    jax.config.update("jax_enable_x64", True)
    found = sensitivity(model, chip, level="ideal", **scenario)
    base = analyze(model, chip, level="ideal", **scenario)
    operations = fuse(step_operations(load_model(model), base.scenario, base.precision))
    for path in ("memory.hbm.bandwidth", "matrix_unit.rate.bf16"):
        value = next(one.value for one in found.rows if one.path == path)

        def log_time(log_value: Any, path: str = path) -> Any:
            moved = with_quantity(load_chip(chip), path, jax.numpy.exp(log_value))
            time = fold(Machine.of(moved, base.precision.accumulate), operations).time
            return jax.numpy.log(time)

        gradient = float(jax.grad(log_time)(jax.numpy.log(value)))
        assert found.elasticities[path] == pytest.approx(gradient, abs=1e-4)


def test_secants_at_mapped_choose_the_mapping_anew():
    """The secant of the quantity that matters most is what `analyze` says of chips with a tenth more and a tenth less of it."""
    found = sensitivity("bert-base", "gemmini", level="mapped", phase="encode", prompt=64, precision="int8")
    assert found.step == 0.1
    one = next(one for one in found.rows if not one.path.endswith((".count", ".stream", ".capacity", ".in_flight")))
    ends = []
    for factor in (1 / 1.1, 1.1):
        chip = with_quantity(load_chip("gemmini"), one.path, one.value * factor)
        ends.append(analyze("bert-base", chip, level="mapped", phase="encode", prompt=64, precision="int8").estimate.time)
    assert one.time == pytest.approx(float(_log(ends[1] / ends[0]) / _log(1.21)), rel=1e-9)
    assert abs(one.time) > 0.01
    assert any(row.kinked for row in found.rows)  # tiles and folds are steps


def _log(value: Any) -> float:
    import math

    return math.log(value)


def test_a_side_that_does_not_fit_is_left_out():
    """A tenth less memory does not hold 8 billion weights of 16 bits on 17 GB."""
    chip = with_quantity(load_chip("h100-sxm"), "memory.hbm.capacity", 17e9)
    found = sensitivity("llama-3.1-8b", chip, level="ideal", step=0.1, batch=1, context=64)
    one = next(one for one in found.rows if one.path == "memory.hbm.capacity")
    assert one.below is None
    assert one.above == 0.0
    assert one.note.startswith("less cannot be")


def test_a_kink_shows_in_the_sides():
    def step(path: str, value: float) -> Outcome:
        assert path == "rate"
        return Outcome(max(8.0 / value, 4.0), 1.0)

    found = elasticity(step, "rate", 2.0, Outcome(4.0, 1.0), step=0.1)
    assert (found.below, found.above, found.energy) == (pytest.approx(-1.0), 0.0, 0.0)
    assert found.kinked
    assert found.time == pytest.approx(-0.5)


def test_systems_have_tiers():
    found = sensitivity("llama-3.1-70b", "dgx-h100", plan="tp=8", level="ideal", batch=8, context=1024)
    assert found.elasticities["tier.nvswitch.bandwidth"] < 0
    assert found.elasticities["tier.nvswitch.latency"] > 0
    assert found.elasticities["chip.memory.hbm.bandwidth"] < -0.3


def test_bad_input():
    with pytest.raises(InputError, match="one scenario"):
        sensitivity("gpt2", "h100-sxm", batch=[1, 2])
    with pytest.raises(InputError, match="step"):
        sensitivity("gpt2", "h100-sxm", step=2.0)
    with pytest.raises(InfeasibleError):
        sensitivity("llama-3.1-405b", "h100-sxm")
