"""Non-linear functions where the chip runs them: native, as integer polynomials, or on its host; and what fuses with a product."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

import ridgeline as rl
from ridgeline.api import load_chip, load_model
from ridgeline.costs.ideal import Machine
from ridgeline.costs.rates import with_stream
from ridgeline.errors import InfeasibleError, InputError
from ridgeline.estimate import step_operations
from ridgeline.mapping.array_step import place_step
from ridgeline.mapping.attention_engine import Heads, fused_attention
from ridgeline.mapping.epilogue import as_read, fusion_plans
from ridgeline.mapping.functions import function_times
from ridgeline.mapping.tiling import product
from ridgeline.mapping.whole_rows import tile_whole_rows
from ridgeline.results import Operation
from ridgeline.specs.base import with_quantity
from ridgeline.specs.chip import Chip
from ridgeline.specs.precision import Precision
from ridgeline.specs.scenario import Scenario
from ridgeline.survey.case_study import int8_machine

INT8 = Precision.parse("int8")
BERT = load_model("bert-base")


def operations(chip: Chip, length: float = 512.0) -> dict[str, Operation]:
    """The operations of BERT-Base by name, in the formats that a chip has."""
    scenario = Scenario(phase="encode", prompt=length, batch=1)
    return {one.name: one for one in step_operations(BERT, scenario, with_stream(chip, INT8))}


def of(name: str) -> Machine:
    return Machine.of(load_chip(name), None, "cold")


# ---- where functions run ----------------------------------------------------------------------------------------------------


def test_a_softmax_on_the_host_by_hand() -> None:
    """12 heads of 512 × 512 scores: 18 operations and 3 passes of 2 an element at 250 MOP/s, conversions 4 and 11, 5 bytes."""
    machine = of("gemmini")
    softmax = operations(machine.chip)["softmax"]
    times, scores = function_times(machine, softmax), 12 * 512 * 512
    assert times.vector == 0.0
    assert times.software == pytest.approx(scores * (4 + 14 + 3 * 2) / 250e6, rel=1e-12)
    assert times.conversion == pytest.approx(scores * (2 + 2 + 9 + 2) / 250e6, rel=1e-12)
    assert times.transfer == pytest.approx(scores * (4 + 1) / 1.6e9, rel=1e-12)


def test_polynomials_are_lane_operations() -> None:
    """The same softmax in integer polynomials: 12 operations an element at 128 GOP/s."""
    machine = of("gemmini-ibert")
    times = function_times(machine, operations(machine.chip)["softmax"])
    assert times.host == 0.0
    assert times.vector == pytest.approx(12 * 512 * 512 * 12 / 128e9, rel=1e-12)


def test_what_the_host_takes_is_a_resource_of_its_own() -> None:
    found = rl.analyze("bert-base", "gemmini", prompt=512, precision="int8").estimate
    assert found.bound == "host"
    assert 0.9 < found.cost.time["host"] / found.time < 1.0
    assert "host" not in rl.analyze("bert-base", "gemmini-ibert", prompt=512, precision="int8").estimate.cost.time


@pytest.mark.parametrize("quantity", ["host.rate", "host.bandwidth"])
def test_a_faster_host_is_never_slower(quantity: str) -> None:
    chip = load_chip("gemmini")
    known = getattr(chip.host, quantity.removeprefix("host."))
    times = [
        rl.analyze("bert-base", with_quantity(chip, quantity, known * factor), prompt=512, precision="int8").estimate.time
        for factor in (0.5, 1.0, 2.0)
    ]
    assert times[0] > times[1] > times[2]


def test_a_function_that_no_unit_runs_is_refused_with_the_remedy() -> None:
    chip = load_chip("gemmini-ibert")
    bare = replace(chip, vector_unit=replace(chip.vector_unit, rate={}))
    with pytest.raises(InputError, match=r"no unit of gemmini-ibert can run (softmax|layer-norm): give \[vector_unit.rate\]"):
        rl.analyze("bert-base", bare, precision="int8")
    hostless = replace(load_chip("gemmini"), host=replace(chip.host, rate=None, bandwidth=None))
    with pytest.raises(InputError, match=r"runs on the host of gemmini: give host\.rate and host\.bandwidth"):
        rl.analyze("bert-base", hostless, precision="int8")


# ---- what fuses -------------------------------------------------------------------------------------------------------------


def test_functions_of_the_host_never_join_a_product() -> None:
    chip = load_chip("gemmini")
    names = [kernel.operation.name for plans in fusion_plans(chip, list(operations(chip).values())) for kernel in plans[-1]]
    assert not any("gelu" in name or "softmax" in name or "norm" in name for name in names if " + " in name)


def test_a_fused_run_keeps_what_later_operations_read() -> None:
    """The output projection with residual and norm writes the residual stream, which is read again, and the normed operand."""
    chip = load_chip("gemmini-ibert")
    runs = fusion_plans(chip, list(operations(chip).values()))
    kernel = next(plans[-1][0] for plans in runs if plans[-1][0].operation.name.startswith("output + "))
    assert [(tensor.name, tensor.format.name) for tensor in kernel.operation.writes] == [("hidden", "int32"), ("normed", "int8")]
    assert kernel.rows
    assert kernel.output_bytes == pytest.approx(5.0, rel=1e-12)
    hidden, norm, bias = 512 * 768 * 4, 2 * 768 * 4, 768 * 4
    assert kernel.extra_bytes == pytest.approx(hidden + norm + bias, rel=1e-12)


@pytest.mark.parametrize("chip", ["gemmini", "gemmini-ibert", "nvdla-like", "tpu-v1"])
@pytest.mark.parametrize("model", ["bert-base", "resnet-50", "gpt2"])
def test_the_best_plan_is_no_slower_than_none_or_all(chip: str, model: str) -> None:
    times = {
        fusion: rl.analyze(model, chip, precision="int8", level="mapped", fusion=fusion).estimate.time  # type: ignore[arg-type]
        for fusion in ("best", "none", "all")
    }
    assert times["best"] <= min(times["none"], times["all"]) * (1 + 1e-12)
    ideal = rl.analyze(model, chip, precision="int8", level="ideal").estimate.time
    assert ideal <= times["best"] * (1 + 1e-9)


def test_whole_rows_are_the_best_of_all_tiles_that_hold_them() -> None:
    """Against plain enumeration over rows and depths, by the cost of a given tiling."""
    from ridgeline.costs.tiled import ORDERS, Tile
    from ridgeline.mapping.tiling import cost_tiling

    on, nest = int8_machine(load_chip("gemmini")), product(96, 128, 200)
    found = tile_whole_rows(nest, 1.0, on)
    assert not isinstance(found, InfeasibleError)
    parts = (on.array, on.buffers, on.searched)
    best = min(
        cost_tiling(nest, Tile(128.0, min(16.0 * c, 200.0), float(p), 1.0, 1.0, 1.0), ORDERS[ORDERS.index("kpqcrs")], *parts).cycles
        for p in range(1, 65)
        for c in range(1, 14)
    )
    assert found.tiling.cycles == pytest.approx(best, rel=1e-12)
    assert found.tiling.tile["chip"]["k"] == 128


def test_rows_that_do_not_fit_are_infeasible_and_say_why() -> None:
    on = int8_machine(load_chip("gemmini"))
    found = tile_whole_rows(product(64, 20_000, 64), 1.0, on)
    assert isinstance(found, InfeasibleError)
    assert "a row of 20000 sums takes 160000 bytes of accumulator: there are 65536" in str(found)


# ---- attention in one kernel ------------------------------------------------------------------------------------------------


def engine(queries: float, keys: float, **changes: Any) -> Any:
    on = int8_machine(load_chip("gemmini"))
    settings: dict[str, Any] = {"dataflow": on.dataflow, "score_cycles": 12 / 64, "lane_cycles": 1 / 64, "online": True} | changes
    return fused_attention(Heads(queries, keys, 64.0, 64.0), on.array, on.buffers, on.memory, **settings)


def test_a_block_of_all_keys_reads_everything_once() -> None:
    found = engine(64.0, 128.0)
    assert (found.read, found.written) == (64 * 64 + 2 * 128 * 64, 64 * 64)
    assert found.compute >= 2 * 64 * 128 * 64 / 256
    assert found.cycles >= max(found.compute, found.vector, found.transfer)


def test_online_softmax_needs_no_row_and_costs_rescaling() -> None:
    with pytest.raises(InfeasibleError, match="attention of 4096 keys in whole rows needs"):
        engine(4096.0, 4096.0, online=False)
    found = engine(4096.0, 4096.0)
    blocks = -(-4096 // found.keys)
    rescaled = 4096 * 64 * (blocks - 1) * 2 / 64
    assert found.vector == pytest.approx(4096 * 4096 * 12 / 64 + rescaled, rel=1e-12)


def test_a_larger_accumulator_never_slows_attention() -> None:
    on = int8_machine(load_chip("gemmini"))
    times = [
        fused_attention(
            Heads(512.0, 512.0, 64.0, 64.0),
            on.array,
            on.buffers._replace(accumulator=room * 1024.0),
            on.memory,
            dataflow=on.dataflow,
            score_cycles=12 / 64,
            lane_cycles=1 / 64,
            online=online,
        ).cycles
        for online in (False, True)
        for room in (64, 128, 256)
    ]
    assert times[0] >= times[1] >= times[2]
    assert times[3] >= times[4] >= times[5]


def test_attention_as_one_kernel_moves_less_than_its_parts() -> None:
    machine = of("gemmini-ibert")
    found = list(operations(machine.chip).values())
    run = [one for one in found if one.name in ("scores", "softmax", "values")]
    parts, whole = place_step(machine, run, "none"), place_step(machine, run, "all")
    assert len(parts) == 3
    assert len(whole) == 1
    assert whole[0].cost.bytes["dram"] < 0.5 * sum(one.cost.bytes["dram"] for one in parts)
    assert whole[0].cost.flops == pytest.approx(sum(one.cost.flops for one in parts), rel=1e-12)


def test_every_function_has_its_name_in_the_specification() -> None:
    from typing import get_args

    from ridgeline.specs.chip import FunctionName
    from ridgeline.workload.functions import FUNCTIONS

    assert set(FUNCTIONS) == set(get_args(FunctionName))


def test_a_misspelt_function_is_refused(tmp_path: Any, root: Any) -> None:
    text = (root / "src/ridgeline/catalogue/chips/gemmini-ibert.toml").read_text(encoding="utf-8")
    file = tmp_path / "chip.toml"
    file.write_text(text.replace("softmax    =", "softmaks    ="), encoding="utf-8")
    with pytest.raises(InputError, match=r"`functions\.softmaks`: unknown function 'softmaks'; did you mean `softmax`"):
        load_chip(str(file))


def test_keys_and_values_are_read_once_for_all_their_query_heads() -> None:
    """Decoding Llama 3.1 8B over 2048 tokens: 8 KV heads of 128, one byte each, in scores and again in values."""
    found = rl.analyze("llama-3.1-8b", "gemmini-ibert", context=2048, fusion="none").estimate
    moved = {row.name: row.bytes for row in found.operations}
    keys = 2048 * 8 * 128
    assert keys <= moved["scores"] <= 1.3 * keys
    assert keys <= moved["values"] <= 1.3 * keys


@pytest.mark.parametrize("model", ["llama-3.1-8b", "deepseek-v2-lite", "gpt2", "gemma-2-2b"])
@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_no_step_moves_less_than_is_compulsory(model: str, phase: str) -> None:
    """Bytes of the mapped step against those of its operations that are not fused, at full masks and in windows."""
    size = {"prompt": 512} if phase == "prefill" else {"context": 4096}
    mapped = rl.analyze(model, "gemmini-ibert", phase=phase, fusion="none", **size).estimate  # type: ignore[arg-type]
    chip = load_chip("gemmini-ibert")
    scenario = Scenario(phase=phase, batch=1.0, **{name: float(value) for name, value in size.items()})  # type: ignore[arg-type]
    compulsory = {}
    for one in as_read(list(step_operations(load_model(model), scenario, with_stream(chip, INT8)))):
        compulsory[one.name] = compulsory.get(one.name, 0.0) + one.bytes * one.count
    moved: dict[str, float] = {}
    for row in mapped.operations:
        moved[row.name] = moved.get(row.name, 0.0) + row.bytes * row.count
    for name, least in compulsory.items():
        assert moved[name] >= least * (1 - 1e-6), name


def test_more_accumulator_never_slows_a_step_with_norms_fused() -> None:
    chip = load_chip("gemmini-ibert")
    times = [
        rl.analyze("bert-base", with_quantity(chip, "memory.accumulator.capacity", room * 65536.0), prompt=300).estimate.time
        for room in (1, 1.5, 2, 2.5, 3, 4, 6)
    ]
    assert all(later <= earlier * (1 + 1e-9) for earlier, later in pairwise(times))


def test_a_fusion_that_nothing_heeds_is_refused() -> None:
    with pytest.raises(InputError, match="the level ideal fuses all"):
        rl.analyze("bert-base", "gemmini", level="ideal", fusion="none")
    with pytest.raises(InputError, match="eyeriss fuses no products"):
        rl.analyze("alexnet-conv", "eyeriss", precision="int16", fusion="all")


def test_fusing_all_takes_the_most_fused_plan_that_fits() -> None:
    chip = with_quantity(load_chip("gemmini-ibert"), "memory.accumulator.capacity", 2048.0)
    assert rl.analyze("bert-base", chip, prompt=128, fusion="all").estimate.time > 0
