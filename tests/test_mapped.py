"""Products and steps on arrays: `map`, and the levels `mapped` and `simulated`."""

import csv
import json
import random
import statistics
from dataclasses import replace
from pathlib import Path

import pytest

from ridgeline import cli
from ridgeline.api import analyze, load_chip, map_matmul
from ridgeline.api.simulation import simulate_tiling
from ridgeline.costs import systolic
from ridgeline.costs.tiled import Array, Buffers, Memory
from ridgeline.errors import InfeasibleError, InputError
from ridgeline.mapping.array_machine import ArrayMachine, on_chip
from ridgeline.mapping.tiling import DATAFLOWS, product, tile_layer

ARRAYS = ("gemmini", "gemmini-rebalanced", "nvdla-like", "tpu-v1")


@pytest.mark.parametrize("chip", ARRAYS)
@pytest.mark.parametrize(("model", "prompt"), [("bert-base", 128), ("resnet-50", None)])
def test_mapped_is_never_below_the_ideal_bound(chip: str, model: str, prompt: int | None):
    mapped = analyze(model, chip, prompt=prompt, precision="int8").estimate
    ideal = analyze(model, chip, prompt=prompt, precision="int8", level="ideal").estimate
    assert mapped.level == "mapped"
    assert mapped.time >= ideal.time
    assert mapped.time_lower <= mapped.time <= mapped.time_upper * (1 + 1e-12)
    assert mapped.flops == pytest.approx(ideal.flops)


@pytest.mark.parametrize("chip", ["nvdla-like", "tpu-v1"])
def test_a_step_by_the_simulator_is_near_the_mapped_one(chip: str):
    """The project's own target: 5 %."""
    mapped = analyze("bert-base", chip, prompt=64, precision="int8").estimate
    simulated = analyze("bert-base", chip, prompt=64, precision="int8", level="simulated").estimate
    assert simulated.time == pytest.approx(mapped.time, rel=0.05)


def random_points(count: int, seed: int):
    """Random shapes on random machines, tiled best: what a designer would try, from 16 to 1024 in each size."""
    generator = random.Random(seed)
    for _ in range(count):
        rows, columns = generator.choice([4, 8, 16, 32]), generator.choice([4, 8, 16, 32])
        sizes = tuple(int(2 ** generator.uniform(4, 10)) for _ in range(3))
        memory = Memory(generator.choice([4.0, 8.0, 16.0, 32.0, 64.0]), latency=generator.choice([0.0, 20.0, 100.0]))
        buffers = Buffers(*(generator.choice([16, 64, 256]) * 1024.0 for _ in range(2)))
        flow = generator.choice(DATAFLOWS)
        array = Array(float(rows), float(columns), preload=float(rows), fill=fill(flow, rows, columns))
        yield product(sizes[0], sizes[1], sizes[2]), ArrayMachine(array, buffers, memory, None, flow, 1e9)


def fill(flow: str, rows: int, columns: int) -> float:
    return float(rows + columns - 2 + (0 if flow == "output-stationary" else rows))


@pytest.mark.heavy
def test_mapped_and_simulated_agree_on_random_products():
    """Two programs that share no formula; every one within 5 %."""
    errors = []
    for layer, machine in random_points(150, seed=7):
        tiling = tile_layer(layer, machine.array, machine.buffers, machine.memory, dataflows=(machine.dataflow,))
        run = simulate_tiling(layer, tiling, machine)
        moved = sum(tiling.traffic["dram"].values())
        assert moved == pytest.approx(run.bytes, rel=1e-9)  # the same bytes, counted by walking the loops
        errors.append(abs(tiling.cycles / run.cycles - 1))
    assert statistics.median(errors) <= 0.005
    assert max(errors) <= 0.05


def test_arrays_take_the_cycles_and_accesses_of_the_independent_simulator(facts: Path):
    """All 44 rows of SCALE-Sim, serial loading and a drain after each fold; its output-stationary count adds empty drain slots."""
    forms = {"ws": systolic.weight_stationary, "os": systolic.output_stationary, "is": systolic.input_stationary}
    with (facts / "reference" / "hardware" / "systolic_simulator.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 44
    for row in rows:
        sizes = {name.lower(): int(row[name]) for name in "MNK"}
        sides = {"rows": int(row["rows"]), "columns": int(row["cols"])}
        cost = forms[row["dataflow"]](**sizes, **sides)
        slots = cost.folds * sum(sides.values()) if row["dataflow"] == "os" else 0
        found = (cost.cycles, cost.input_reads, cost.weight_reads, cost.output_writes + slots)
        names = ("total_compute_cycles", "sram_ifmap_reads", "sram_filter_reads", "sram_ofmap_writes")
        assert found == tuple(int(row[name]) for name in names)


def test_the_best_tiling_is_proven_and_no_worse_than_a_given_one():
    best = map_matmul("128x768x768", "gemmini").tiling
    given = map_matmul("128x768x768", "gemmini", mapping="L3[WIO] K48 - L2[WI] K16X - L1[O] C48 P16 C16X - L0[W] P8").tiling
    assert best.optimal
    assert not given.optimal
    assert best.lower_bound <= best.cycles * (1 + 1e-12)
    assert best.cycles <= given.cycles
    assert given.traffic["dram"]["weights"] == 768 * 768
    assert given.traffic["dram"]["inputs"] == 48 * 128 * 768  # fetched anew for every k, as this engine does


def test_objectives_are_least_in_what_they_ask_for():
    found = {name: map_matmul("512x768x3072", "nvdla-like", objective=name).tiling for name in ("latency", "energy", "edp")}
    assert min(one.cycles for one in found.values()) == found["latency"].cycles
    assert min(one.energy for one in found.values()) == pytest.approx(found["energy"].energy)
    assert min(one.energy * one.cycles for one in found.values()) == pytest.approx(found["edp"].energy * found["edp"].cycles)


def test_the_order_in_which_a_file_lists_its_buffers_does_not_matter():
    chip = load_chip("gemmini")
    turned = replace(chip, memory=(chip.memory[1], chip.memory[0], chip.memory[2]))
    assert on_chip(chip) == on_chip(turned) == (256 * 1024.0, 64 * 1024.0)
    assert map_matmul("512x768x3072", turned).tiling.cycles == map_matmul("512x768x3072", chip).tiling.cycles


def test_a_tile_that_fits_once_is_costed_and_said():
    chip = load_chip("gemmini")
    small = replace(
        chip, memory=tuple(replace(one, capacity=112 * 1024.0) if one.name == "scratchpad" else one for one in chip.memory)
    )
    found = map_matmul("128x768x768", small, mapping="L3[WIO] K48 - L2[WI] K16X - L1[O] C48 P16 C16X - L0[W] P8")
    assert "second slot" in found.notes[0]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["512x768", "gemmini"], "MxKxN"),
        (["0x768x64", "gemmini"], "1 or more"),
        (["512x768x64", "h100-sxm"], "is dot-product, which is not tiled"),
        (["512x768x64", "gemmini", "--dataflow", "dot-product"], "does not run 'dot-product'"),
        (["512x768x64", "gemmini", "--dataflow", "weight-stationry"], "unknown dataflow"),
        (["512x768x64", "gemmini", "--objective", "speed"], "latency, energy, edp"),
        (["512x768x64", "gemmini", "--mapping", "L3[WIO] K4"], "levels are"),
        (["512x768x64", "gemmini", "--mapping", "L3[WIO] K5 - L2[WI] K16X - L1[O] C48 P512 C16X - L0[W] N1"], "multiply to 80"),
    ],
)
def test_bad_input_is_one_sentence(
    arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("sys.argv", ["ridgeline", "map", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    printed = capsys.readouterr()
    assert stop.value.code == 2
    assert printed.out == ""
    assert len(printed.err.strip().splitlines()) == 1
    assert said in printed.err


def test_a_tile_that_cannot_fit_exits_3_with_the_buffer_and_the_bytes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(
        "sys.argv",
        ["ridgeline", "map", "4096x768x64", "gemmini", "--mapping", "L3[WIO] N1 - L2[WI] K16X - L1[O] K4 C48 P512 C16X - L0[W] P8"],
    )
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 3
    assert "2097152 B of the accumulator" in capsys.readouterr().err


def test_map_prints_the_contract(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    timeline = tmp_path / "run.json"
    monkeypatch.setattr("sys.argv", ["ridgeline", "map", "64x64x64", "nvdla-like", "--json", "--timeline", str(timeline)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 0
    record = json.loads(capsys.readouterr().out)
    assert {"cycles", "energy", "traffic", "tile", "order", "utilisation", "lower_bound", "optimal"} <= record.keys()
    assert record["traffic"]["dram"]["weights"] >= 64 * 64
    assert json.loads(timeline.read_text())["traceEvents"]


def test_an_array_of_no_rows_is_refused():
    chip = load_chip("gemmini")
    with pytest.raises(InputError, match="computes nothing"):
        map_matmul("64x64x64", replace(chip, matrix_unit=replace(chip.matrix_unit, shape=(0, 16))))


def test_a_buffer_too_small_for_any_tile_is_infeasible():
    chip = load_chip("gemmini")
    tiny = replace(chip, memory=tuple(replace(one, capacity=1.0) if one.name == "scratchpad" else one for one in chip.memory))
    with pytest.raises(InfeasibleError, match="scratchpad"):
        map_matmul("64x64x64", tiny)


@pytest.mark.parametrize("precision", ["int8", "fp16"])
@pytest.mark.parametrize("model", ["bert-base", "resnet-50"])
def test_a_format_runs_no_faster_than_its_own_peak(precision: str, model: str):
    """The array of the NVDLA-like chip does half as many fp16 as int8 products a clock."""
    mapped = analyze(model, "nvdla-like", precision=precision).estimate
    ideal = analyze(model, "nvdla-like", precision=precision, level="ideal").estimate
    peak = load_chip("nvdla-like").matrix_unit.rate[precision]
    assert mapped.time >= ideal.time
    for row in mapped.operations:
        products = 0 if row.m is None else row.flops
        assert row.time * peak >= 0.9 * products  # functions are a small part of the flops
    assert map_matmul("1024x768x3072", "nvdla-like", precision=precision).time >= 2 * 1024 * 768 * 3072 / peak


@pytest.mark.parametrize("model", ["bert-base", "gpt2"])
def test_the_simulated_level_keeps_the_order_of_the_bounds(model: str):
    found = analyze(model, "gemmini", phase="encode", prompt=128, precision="int8", level="simulated").estimate
    assert found.time_lower <= found.time <= found.time_upper * (1 + 1e-12)
