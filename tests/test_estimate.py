"""Estimates against numbers that a reader can get by hand from the model's shapes and the chip's datasheet."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ridgeline.api import analyze, load_chip, load_model, thresholds
from ridgeline.costs.ideal import Machine, ideal_cost
from ridgeline.errors import InfeasibleError, InputError
from ridgeline.estimate import estimate
from ridgeline.mapping.fusion import fuse
from ridgeline.results import Operation, Product, Tensor
from ridgeline.specs.base import quantities, with_quantity
from ridgeline.specs.chip import Chip, MatrixUnit, MemoryLevel, Package, VectorUnit
from ridgeline.specs.number_format import FORMATS
from ridgeline.specs.precision import Precision
from ridgeline.specs.scenario import Scenario

BF16 = Precision.parse("bf16")
H100_BANDWIDTH, H100_RATE = 3.35e12, 989.4e12
# Llama 3.1 8B: 32 layers, width 4096, 32 heads and 8 KV heads of 128, feed-forward 14 336, vocabulary 128 256.
LAYER = 2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14336
TABLE = 128256 * 4096


@pytest.mark.parametrize(("batch", "context"), [(1, 1024), (16, 4096), (32, 8192)])
def test_decode_is_the_bytes_over_the_bandwidth(batch: int, context: int):
    """Weights, less the token table, and the cache, at two bytes each; activations and norms are under 1 %."""
    found = analyze("llama-3.1-8b", "h100-sxm", level="ideal", phase="decode", batch=batch, context=context).estimate
    moved = 2 * (32 * LAYER + TABLE) + batch * context * 2 * 32 * 8 * 128 * 2
    assert found.bytes["hbm"] == pytest.approx(moved, rel=0.01)
    assert found.time == pytest.approx(moved / H100_BANDWIDTH, rel=0.01)
    assert found.bound == "memory.hbm"
    assert found.tokens_per_second == pytest.approx(batch / found.time)
    products = sum(row.count * sum(part for part in (row.flops,)) for row in found.operations)
    assert products == pytest.approx(found.flops)
    assert found.flops == pytest.approx(2 * batch * (32 * LAYER + TABLE) + batch * context * 32 * 4 * 32 * 128, rel=0.01)


def test_prefill_is_the_arithmetic_over_the_peak():
    """8192 tokens, causal attention, logits of the last token; the vector functions are under 1 % of the FLOPs."""
    tokens = 8192
    found = analyze("llama-3.1-8b", "h100-sxm", level="ideal", phase="prefill", prompt=tokens).estimate
    products = 2 * tokens * 32 * LAYER + 32 * 2 * 2 * 32 * 128 * tokens * (tokens + 1) / 2 + 2 * TABLE
    assert found.bound == "compute"
    assert found.cost.time["compute"] == pytest.approx(products / H100_RATE, rel=1e-9)
    assert found.flops == pytest.approx(products, rel=0.01)
    assert found.time == pytest.approx(products / H100_RATE, rel=0.02)  # where other resources bind an operation
    assert found.ridge["bf16"]["hbm"] == pytest.approx(H100_RATE / H100_BANDWIDTH, rel=1e-12)
    assert found.intensity > found.ridge["bf16"]["hbm"]


def test_nothing_crosses_the_main_memory_where_the_cache_holds_all():
    """BERT Base's operations are all below the 256 MB of the last cache of an MI300X."""
    found = analyze("bert-base", "mi300x", level="ideal", prompt=128, residency="warm").estimate
    assert found.bytes["hbm"] == 0.0
    assert found.intensity == float("inf")
    spread = analyze("bert-base", "mi300x", level="ideal", prompt=[128, 256], residency="warm").estimate
    assert spread.intensity.tolist() == [float("inf")] * 2


def test_half_the_bits_take_half_the_time_where_weights_bind():
    wide, narrow = (
        analyze("llama-3.1-8b", "h100-sxm", level="ideal", precision=name, context=1).estimate for name in ("bf16", "fp8")
    )
    assert narrow.time == pytest.approx(wide.time / 2, rel=0.01)


def test_a_step_of_one_operation_by_hand():
    """A product of 64 × 4096 by 4096 × 1024 with a GELU, on a chip of round numbers; each resource's time and energy."""
    bf16 = FORMATS["bf16"]
    machine = Chip(
        name="round",
        matrix_unit=MatrixUnit(rate={"bf16": 1e14}, energy={"bf16": 1e-12}),
        vector_unit=VectorUnit(rate={"fp32": 1e13, "exponential": 1e12}, energy={"fp32": 2e-12}),
        memory=(
            MemoryLevel(name="l2", role="cache", capacity=1e6, bandwidth=1e13, energy=1e-11),
            MemoryLevel(name="dram", role="dram", capacity=1e10, bandwidth=1e12, energy=1e-10),
        ),
    )

    def tensor(role: Any, elements: float) -> Tensor:
        return Tensor(name=role, role=role, elements=elements, format=bf16)

    operation = Operation(
        name="product",
        kind="matmul",
        group="projections",
        products=(Product(batch=1.0, m=64, n=1024, k=4096, formats=(bf16, bf16)),),
        functions={"gelu": 64 * 1024},  # four lane operations and one special function an element
        reads=(tensor("activation", 64 * 4096), tensor("weight", 4096 * 1024)),
        writes=(tensor("activation", 64 * 1024),),
    )
    products, elements = 2 * 64 * 1024 * 4096, 64 * 1024
    moved = 2 * (64 * 4096 + 4096 * 1024 + 64 * 1024)
    cost = ideal_cost(Machine.of(machine), operation)
    assert cost.flops == products + 5 * elements
    assert cost.bytes == {"l2": moved, "dram": moved}
    assert cost.time == {
        "compute": products / 1e14,
        "vector": max(4 * elements / 1e13, elements / 1e12),
        "memory.l2": moved / 1e13,
        "memory.dram": moved / 1e12,
    }
    assert cost.lower == moved / 1e12
    assert cost.upper == pytest.approx(sum(cost.time.values()))
    assert cost.energy == {
        "compute": pytest.approx(products * 1e-12),
        "vector": pytest.approx(5 * elements * 2e-12),
        "memory.l2": pytest.approx(moved * 1e-11),
        "memory.dram": pytest.approx(moved * 1e-10),
    }
    # Warm: the activations, 0.65 MB, start in the cache of 1 MB; the weights, 8.4 MB, do not fit beside nor alone.
    warm = ideal_cost(Machine.of(machine, residency="warm"), operation)
    assert warm.bytes == {"l2": moved, "dram": 2 * 4096 * 1024}


# ---- energy -----------------------------------------------------------------------------------------------------------------


def test_energy_is_the_sum_of_its_components():
    found = analyze("llama-3.1-8b", "h100-sxm", level="ideal", phase="decode", batch=16, context=4096).estimate
    energies = {path: value for path, value in quantities(load_chip("h100-sxm")).items() if "energy" in path}
    assert set(found.cost.energy) == {"compute", "memory.hbm", "static"}
    assert found.energy == pytest.approx(sum(found.cost.energy.values()))
    assert found.cost.energy["memory.hbm"] == pytest.approx(found.bytes["hbm"] * energies["memory.hbm.energy"])
    assert energies["memory.hbm.energy"] == pytest.approx(8 * 4.05e-12)  # 4.05 pJ a bit
    assert found.cost.energy["static"] == pytest.approx(70 * found.time)
    products = 2 * 16 * (32 * LAYER + TABLE) + 16 * 4096 * 32 * 4 * 32 * 128
    assert found.cost.energy["compute"] == pytest.approx(products * energies["matrix_unit.energy.bf16"], rel=1e-9)


def test_energy_is_none_where_the_chip_s_is_unknown():
    chip = load_chip("h100-sxm")
    unknown = replace(chip, memory=tuple(replace(level, energy=None) for level in chip.memory))
    assert analyze("llama-3.1-8b", unknown).estimate.energy is None
    idle = replace(chip, package=Package())
    assert "static" not in analyze("llama-3.1-8b", idle).estimate.cost.energy


# ---- capacity ---------------------------------------------------------------------------------------------------------------


def test_the_shortfall_to_the_byte():
    """Llama 3.1 70B in 16 bits on 80 GB; four sequences of 8192 tokens; the logits are the largest activations at once."""
    layer = 2 * 8192 * 8192 + 2 * 8192 * 1024 + 3 * 8192 * 28672
    weights = 2 * (80 * (layer + 2 * 8192) + 2 * 128256 * 8192 + 8192)
    cache = 4 * 8192 * 2 * 80 * 8 * 128 * 2
    logits = 4 * (8192 + 128256) * 2
    needed = weights + cache + logits
    scenario = Scenario(phase="decode", batch=4.0, context=8192.0)
    held = estimate(load_chip("h100-sxm"), load_model("llama-3.1-70b"), scenario, BF16).capacity
    assert held is not None
    assert (held.weights, held.kv, held.activations) == (weights, cache, logits)
    assert held.shortfall == needed - 80e9
    assert not held.fits
    with pytest.raises(InfeasibleError, match=f"{needed - 80_000_000_000:.0f} bytes .* short .* 2 chips would hold it"):
        analyze("llama-3.1-70b", "h100-sxm", batch=4, context=8192)
    assert analyze("llama-3.1-70b", "mi300x", batch=4, context=8192).estimate.capacity.shortfall == 0.0


def test_what_does_not_fit_is_data_in_a_range():
    found = analyze("llama-3.1-8b", "h100-sxm", batch=[1, 64, 4096], context=4096)
    assert found.estimate.feasible.tolist() == [1.0, 1.0, 0.0]
    held = found.estimate.capacity
    assert held.shortfall[0] == 0.0
    assert held.shortfall[2] == pytest.approx(16.06e9 + 4096 * 4096 * 131072 - 80e9, rel=0.001)
    assert found.chips_needed.tolist() == [1.0, 1.0, 28.0]


# ---- residency --------------------------------------------------------------------------------------------------------------


def test_warm_operands_are_never_slower_and_more_cache_helps():
    chip, model = load_chip("h100-sxm"), load_model("llama-3.1-8b")
    scenario = Scenario(phase="decode", batch=1.0, context=256.0)
    cold = estimate(chip, model, scenario, BF16).time
    times = [cold]
    for capacity in (1e4, 1e6, 50e6, 500e6, 50e9):
        larger = with_quantity(chip, "memory.l2.capacity", capacity)
        times.append(estimate(larger, model, scenario, BF16, residency="warm").time)
        assert estimate(larger, model, scenario, BF16).time == cold  # cold, every tensor crosses whatever the cache holds
    assert times == sorted(times, reverse=True)
    assert times[-1] == pytest.approx(cold * H100_BANDWIDTH / 6.2e12, rel=0.01)  # all from the cache, at its bandwidth


# ---- ranges, speculation, formats -------------------------------------------------------------------------------------------


def test_a_range_equals_its_points():
    found = analyze("mixtral-8x7b", "b200-sxm", precision="fp8", batch=[1, 8, 64], context=[100, 1000])
    assert list(found.axes) == ["batch", "context"]
    for i, batch in enumerate((1, 8, 64)):
        for j, context in enumerate((100, 1000)):
            one = analyze("mixtral-8x7b", "b200-sxm", precision="fp8", batch=batch, context=context).estimate
            assert found.estimate.time[i, j] == pytest.approx(one.time, rel=1e-12)
            assert found.resource(found.estimate.bound[i, j]) == one.bound
            assert np.all(found.estimate.feasible)


def test_speculation_gains_what_is_kept():
    """Four tokens verified at once, each kept with 0.7: (1 − 0.7⁴) / 0.3 = 2.533 of them; one step hardly costs more."""
    one = analyze("llama-3.1-8b", "h100-sxm", level="ideal", context=1000).estimate
    four = analyze("llama-3.1-8b", "h100-sxm", level="ideal", context=1000, verified=4, acceptance=0.7).estimate
    assert four.tokens == pytest.approx(2.533, abs=1e-9)
    assert four.time == pytest.approx(one.time, rel=0.01)
    assert four.tokens_per_second / one.tokens_per_second == pytest.approx(2.533, rel=0.01)
    assert analyze("llama-3.1-8b", "h100-sxm", context=1000, verified=4, acceptance=1.0).estimate.tokens == 4.0


def test_formats_without_a_unit_run_in_the_next_wider_one_and_it_is_said():
    found = analyze("llama-3.1-8b", "a100-sxm-80gb", level="ideal", precision="fp8").estimate
    assert set(found.ridge) == {"bf16"}
    assert any("fp8-e4m3" in note and "bf16" in note for note in found.notes)
    weights = 32 * LAYER + TABLE
    assert found.bytes["hbm"] == pytest.approx(weights, rel=0.03)  # one byte a weight all the same


def test_every_source_of_a_number_used_is_named():
    sources = analyze("llama-3.1-8b", "h100-sxm").estimate.sources
    for name in ("memory.hbm.bandwidth", "memory.hbm.capacity", "matrix_unit.rate.bf16", "matrix_unit.energy.bf16"):
        assert sources[f"h100-sxm.{name}"].key or sources[f"h100-sxm.{name}"].note
    assert sources["llama-3.1-8b.hidden"].value == 4096


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"batch": float("inf")}, "batch inf"),
        ({"acceptance": 1.5, "verified": 4}, "acceptance 1.5"),
        ({"routing_skew": -1.0}, "routing skew -1"),
        ({"contxt": 5}, "no 'contxt'"),
        ({"batch": [1, 2.5]}, "batch 2.5"),
    ],
)
def test_a_scenario_that_makes_no_sense(wrong: dict[str, Any], said: str):
    with pytest.raises(InputError, match=said):
        analyze("llama-3.1-8b", "h100-sxm", **wrong)


# ---- thresholds -------------------------------------------------------------------------------------------------------------


def test_the_exact_critical_batch_is_where_times_are_equal():
    """At the returned number of rows of the 4096 × 14336 matrix its bytes over the bandwidth equal its FLOPs over the rate."""
    found = thresholds("llama-3.1-8b", "h100-sxm").critical_batch_exact["feed-forward up"]
    moved = 2 * (4096 * 14336 + found * (4096 + 14336))
    assert 2 * found * 4096 * 14336 / H100_RATE == pytest.approx(moved / H100_BANDWIDTH, rel=1e-12)


def test_thresholds_of_experts_speculation_and_memory():
    found = thresholds("mixtral-8x7b", "h100-sxm", verified=4)
    assert found.critical_batch == pytest.approx(H100_RATE / H100_BANDWIDTH)
    assert found.critical_batch_experts == pytest.approx(found.critical_batch * 8 / 2)
    assert found.critical_batch_speculative == pytest.approx(found.critical_batch / 4)
    assert found.bytes_in_flight["hbm"] == pytest.approx(270e-9 * H100_BANDWIDTH)
    assert found.kv_bytes_per_token == 2 * 32 * 8 * 128 * 2
    assert found.tokens_in_memory["hbm"] == 80e9 // 131072
    assert found.tokens_beside_weights == 0.0  # 93 GB of weights
    assert found.ops_per_byte["bf16"]["l2"] == pytest.approx(H100_RATE / 6.2e12)


def test_fewer_bits_a_weight_move_the_critical_batch():
    """Half a byte a weight, products in 16 bits: a quarter of the rows."""
    wide, narrow = (thresholds("llama-3.1-8b", "h100-sxm", precision=name).critical_batch for name in ("bf16", "w4a16"))
    assert narrow == pytest.approx(wide / 4)


def test_fused_operations_are_those_of_the_breakdown():
    found = analyze("llama-3.1-8b", "h100-sxm", level="ideal", batch=2, context=10).estimate
    names = [row.name for row in found.operations]
    assert names == [
        "embedding",
        "query + key + value",
        "attention",
        "output",
        "feed-forward gate + up",
        "feed-forward down",
        "head",
    ]
    assert sum(row.time * row.count for row in found.operations) == pytest.approx(found.time_lower)
    assert fuse(()) == ()


def test_fusion_does_not_depend_on_how_often_layers_repeat():
    """Gemma-2 has as many sliding as full layers: an array of counts is costed like its members, one group at a time."""
    model, chip = load_model("gemma-2-9b"), load_chip("h100-sxm")
    scenario, formats = Scenario(phase="prefill", batch=4.0, prompt=64.0), Precision.parse("bf16")
    batch = estimate(chip, with_quantity(model, "decoder.sliding.count", np.array([21.0, 42.0])), scenario, formats)
    for index, count in enumerate((21.0, 42.0)):
        one = estimate(chip, with_quantity(model, "decoder.sliding.count", count), scenario, formats)
        assert batch.time[index] == pytest.approx(one.time, rel=1e-12)


def test_a_window_stops_the_growth_of_the_cache():
    """Gemma-3 4B: 5 full layers of 34, 2 · 4 · 256 values of 2 bytes each; the others hold 1024 tokens."""
    found = thresholds("gemma-3-4b", "h200-sxm")
    full, sliding = 5 * 2 * 4 * 256 * 2, 29 * 2 * 4 * 256 * 2
    assert found.tokens_in_memory["hbm"] == (141e9 - sliding * 1024) // full
