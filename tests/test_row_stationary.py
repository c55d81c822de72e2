"""Row-stationary arrays: the search against plain enumeration, bounds and monotony, and a fabricated chip against its paper."""

import csv
import json
import random
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from ridgeline import cli
from ridgeline.api import analyze, load_chip, load_model, map_matmul
from ridgeline.costs.row_stationary import PLACES, RowAccess, RowArray, RowStores, RowTile, Zeros, row_cost, row_energy
from ridgeline.costs.tiled import Layer
from ridgeline.errors import InfeasibleError, InputError
from ridgeline.mapping.row_stationary import (
    FILTERS_OUTSIDE,
    STRIPS_OUTSIDE,
    RowMachine,
    chosen,
    cost_mapping,
    letters_of,
    map_layer,
    read_mapping,
    row_machine,
)
from ridgeline.specs.number_format import FORMATS

# AlexNet's convolutions, one group each, and the passes of Table III of the JSSC paper; conv3 twice, see the page in docs.
ALEXNET = {
    "conv1": (Layer(4.0, 96.0, 3.0, 55.0, 55.0, 11.0, 11.0, 4.0), 1, "m=96,n=1,e=7,p=16,q=1,r=1,t=2"),
    "conv2": (Layer(4.0, 128.0, 48.0, 27.0, 27.0, 5.0, 5.0, 1.0), 2, "m=64,n=1,e=27,p=16,q=2,r=1,t=1"),
    "conv3": (Layer(4.0, 384.0, 256.0, 13.0, 13.0, 3.0, 3.0, 1.0), 1, "m=64,n=4,e=13,p=16,q=3,r=2,t=2"),
    "conv4": (Layer(4.0, 192.0, 192.0, 13.0, 13.0, 3.0, 3.0, 1.0), 2, "m=64,n=4,e=13,p=16,q=3,r=2,t=2"),
    "conv5": (Layer(4.0, 128.0, 192.0, 13.0, 13.0, 3.0, 3.0, 1.0), 2, "m=64,n=4,e=13,p=16,q=3,r=2,t=2"),
}
# The paper's Table V: buffer accesses in MB, processing latency in ms (secondary copy).
ACCESSES = {"conv1": 18.5, "conv2": 77.6, "conv3": 50.2, "conv4": 37.4, "conv5": 24.9}
PROCESSING = {"conv1": 16.5, "conv2": 39.2, "conv3": 21.8, "conv4": 16.0, "conv5": 10.0}


def eyeriss() -> RowMachine:
    return row_machine(load_chip("eyeriss"), inputs=FORMATS["int16"], weights=FORMATS["int16"], compute="int16")


# ---- the search -------------------------------------------------------------------------------------------------------------

ENERGIES = RowAccess(50.0, 3.0, 2.0, 1.0, 0.3, 0.6, 0.4, 1.5)


def random_case(draw: random.Random) -> tuple[Layer, RowMachine]:
    side = draw.choice([1, 2, 3])
    layer = Layer(
        *(float(draw.randint(1, most)) for most in (3, 8, 6, 5, 7)),
        float(draw.choice([1, 2, 3])),
        float(side),
        draw.choice([1.0, 2.0]),
    )
    array = RowArray(float(draw.randint(side, 6)), float(draw.randint(2, 5)), *(draw.choice([2.0, 8.0]) for _ in range(3)))
    stores = RowStores(
        weight_registers=draw.choice([12.0, 48.0, 96.0]),
        input_registers=draw.choice([8.0, 12.0, 24.0]),
        sum_registers=draw.choice([4.0, 8.0, 16.0]),
        buffer=draw.choice([200.0, 400.0, 900.0, 4000.0]),
        weight_buffer=draw.choice([40.0, 120.0, 400.0]),
        dram_rate=draw.choice([0.3, 2.0, 20.0]),
        copies=draw.choice([1.0, 2.0]),
    )
    return layer, RowMachine(array, stores, ENERGIES, 1e9)


def enumerate_all(layer: Layer, machine: RowMachine, objective: str) -> float:
    """The least value of every pass there is, m in steps of a pass, both orders: nothing is left out by argument."""
    array, stores = machine.array, machine.stores
    ranges = [
        range(1, int(layer.n) + 1),
        range(1, int(layer.q) + 1),
        range(1, min(int(layer.k), int(stores.sum_registers // 2)) + 1),
        range(1, min(int(layer.c), int(stores.input_registers // 2)) + 1),
        range(1, min(int(layer.c), int(array.rows)) + 1),
        range(1, min(int(layer.k), int(array.rows * array.columns)) + 1),
    ]
    grid = np.array(list(product(*ranges)), dtype=float).T
    n, e, p, q, r, t = grid
    best = np.inf
    for passes in range(1, int(layer.k) + 1):
        tile = RowTile(np.minimum(passes * p * t, layer.k), n, e, p, q, r, t)
        for order in (FILTERS_OUTSIDE, STRIPS_OUTSIDE):
            cost = row_cost(layer, tile, order, array, stores)
            energy = row_energy(cost, ENERGIES).whole
            traffic = cost.dram_inputs + cost.dram_weights + cost.dram_outputs
            value = {"latency": cost.cycles, "energy": energy, "edp": energy * cost.cycles, "traffic": traffic}[objective]
            best = min(best, float(np.min(np.where(cost.fits > 0, value, np.inf))))
    return best


@pytest.mark.parametrize("objective", ["latency", "energy", "edp", "traffic"])
def test_the_best_mapping_equals_enumeration(objective: str):
    draw, compared = random.Random(11), 0
    for _ in range(60):
        layer, machine = random_case(draw)
        expected = enumerate_all(layer, machine, objective)
        if expected == np.inf:
            with pytest.raises(InfeasibleError):
                map_layer(layer, machine, objective=objective)
            continue
        found = map_layer(layer, machine, objective=objective)
        assert found.value == pytest.approx(expected, rel=1e-12)
        assert found.optimal
        assert found.lower_bound == found.value
        compared += 1
    assert compared >= 40


def test_a_tie_in_latency_goes_to_the_least_energy():
    layer, machine = Layer(1.0, 4.0, 2.0, 4.0, 4.0, 3.0, 3.0, 1.0), eyeriss()
    best = map_layer(layer, machine)
    tile, order = chosen(best)
    cost = row_cost(layer, tile._replace(channel_sets=2.0), order, machine.array, machine.stores)
    assert best.cycles <= cost.cycles
    assert map_layer(layer, machine, objective="energy").energy <= best.energy


def test_a_batch_of_mappings_equals_its_members():
    layer, _, text = ALEXNET["conv2"]
    machine = eyeriss()
    one = read_mapping(text, layer)
    rows, images = np.array([[9.0], [14.0], [27.0]]), np.array([[1.0, 2.0]])
    batch = row_cost(layer, one._replace(rows=rows, images=images), FILTERS_OUTSIDE, machine.array, machine.stores)
    for i, j in product(range(3), range(2)):
        tile = one._replace(rows=float(rows[i, 0]), images=float(images[0, j]))
        member = row_cost(layer, tile, FILTERS_OUTSIDE, machine.array, machine.stores)
        assert np.broadcast_to(batch.cycles, (3, 2))[i, j] == pytest.approx(member.cycles, rel=1e-14)
        assert np.broadcast_to(batch.fits, (3, 2))[i, j] == member.fits


# ---- bounds and monotony ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["dram_rate", "buffer", "weight_buffer", "weight_registers", "input_registers", "sum_registers"])
def test_more_of_a_store_or_of_bandwidth_is_never_slower(name: str):
    draw = random.Random(5)
    for _ in range(20):
        layer, machine = random_case(draw)
        more = machine._replace(stores=machine.stores._replace(**{name: 2.0 * getattr(machine.stores, name)}))
        try:
            before = map_layer(layer, machine)
        except InfeasibleError:
            continue
        for objective in ("latency", "energy"):
            less = map_layer(layer, machine, objective=objective).value
            assert map_layer(layer, more, objective=objective).value <= less * (1 + 1e-12)
        assert map_layer(layer, more).cycles <= before.cycles * (1 + 1e-12)


@pytest.mark.parametrize("name", ["weight_rate", "input_rate", "sum_rate"])
def test_a_wider_network_is_never_slower(name: str):
    draw = random.Random(6)
    for _ in range(20):
        layer, machine = random_case(draw)
        wider = machine._replace(array=machine.array._replace(**{name: 2.0 * getattr(machine.array, name)}))
        try:
            assert map_layer(layer, wider).cycles <= map_layer(layer, machine).cycles * (1 + 1e-12)
        except InfeasibleError:
            continue


def test_no_mapping_beats_the_array_or_what_has_to_cross_dram():
    draw = random.Random(7)
    for _ in range(40):
        layer, machine = random_case(draw)
        try:
            found = map_layer(layer, machine)
        except InfeasibleError:
            continue
        macs = layer.n * layer.k * layer.c * layer.p * layer.q * layer.r * layer.s
        assert found.cycles >= macs / (machine.array.rows * machine.array.columns)
        least = 2.0 * (layer.k * layer.c * layer.r * layer.s + layer.n * layer.k * layer.p * layer.q)
        moved = sum(found.traffic["dram"].values())
        assert moved >= least
        assert found.cycles >= moved / machine.stores.dram_rate * (1 - 1e-12)
        assert 0.0 < found.utilisation <= 1.0


@pytest.mark.parametrize("model", ["alexnet", "vgg-16", "alexnet-conv", "vgg-16-conv", "resnet-50"])
def test_mapped_is_never_below_ideal(model: str):
    mapped = analyze(model, "eyeriss", batch=3, precision="int16", level="mapped").estimate
    ideal = analyze(model, "eyeriss", batch=3, precision="int16", level="ideal").estimate
    assert mapped.time >= ideal.time
    assert mapped.time_lower <= mapped.time <= mapped.time_upper * (1 + 1e-12)
    whole = sum(mapped.cost.energy.values())
    assert whole == pytest.approx(mapped.energy, rel=1e-12)


def test_groups_and_images_are_counted_once():
    """666 M multiply-accumulates an image in AlexNet's convolutions, 15.3 G in VGG-16's (ISSCC 2016), to the digits printed."""
    for model, macs, tolerance in (("alexnet-conv", 666e6, 5e-4), ("vgg-16-conv", 15.3e9, 5e-3)):
        found = analyze(model, "eyeriss", batch=4, precision="int16", level="mapped").estimate
        convolutions = [row for row in found.operations if row.kind == "convolution"]
        outputs = {one.name: one.outputs * one.output_size**2 for one in load_model(model).layers}
        biases = 4 * sum(outputs[row.name] for row in convolutions)
        assert (sum(row.flops for row in convolutions) - biases) / 2 / 4 == pytest.approx(macs, rel=tolerance)


def test_zeros_save_energy_and_traffic_and_no_time_of_the_array():
    layer, machine = ALEXNET["conv4"][0], eyeriss()
    tile = read_mapping(ALEXNET["conv4"][2], layer)
    dense, sparse = (
        row_cost(layer, tile, FILTERS_OUTSIDE, machine.array, machine.stores, machine.zeros(zeros, zeros)) for zeros in (0.0, 0.75)
    )
    assert sparse.processing == dense.processing
    assert sparse.dram_inputs == pytest.approx(dense.dram_inputs / 3.0)  # a quarter of the values at 64 / 3 bits instead of 16
    assert sparse.active_macs == dense.active_macs / 4.0
    assert machine._replace(gates_zeros=False, run_length=False).zeros(0.75, 0.75) == Zeros(0.0, 0.0, 0.0)


# ---- the fabricated chip ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALEXNET)
def test_buffer_accesses_of_the_published_passes(name: str):
    """Sums written and read, and inputs read: Table V within its printed digit."""
    layer, groups, text = ALEXNET[name]
    machine = eyeriss()
    cost = row_cost(layer, read_mapping(text, layer), FILTERS_OUTSIDE, machine.array, machine.stores)
    assert cost.fits == 1.0
    assert groups * (cost.buffer_inputs + cost.buffer_sums) / 1e6 == pytest.approx(ACCESSES[name], abs=0.06)


@pytest.mark.parametrize("name", ALEXNET)
def test_processing_latency_of_the_published_passes(name: str):
    """Nothing is fitted; 8 % covers the worst, conv5 (+6 %), whose passes start faster than filters can enter."""
    layer, groups, text = ALEXNET[name]
    machine = eyeriss()
    cost = row_cost(layer, read_mapping(text, layer), FILTERS_OUTSIDE, machine.array, machine.stores)
    assert groups * cost.processing / machine.clock * 1e3 == pytest.approx(PROCESSING[name], rel=0.08)


def test_the_passes_of_the_paper_take_the_elements_and_the_buffer_that_it_prints():
    """Table III: 72.2 and 91.1 KB of sums, Table V: 154, 135 and 156 active elements."""
    for name, sums, active in (("conv1", 72.2, 154), ("conv2", 91.1, 135), ("conv4", 84.5, 156)):
        layer, _, text = ALEXNET[name]
        tile = read_mapping(text, layer)
        assert tile.filters * tile.images * tile.rows * layer.p * 2 / 1024 == pytest.approx(sums, abs=0.06)
        assert layer.s * tile.rows * tile.channel_sets * tile.filter_sets == active


def published(facts: Path, model: str, metric: str) -> float:
    with (facts / "measured" / "dev" / "published_points.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if (row["model"], row["chip"], row["metric"]) == (model, "Eyeriss", metric)]
    assert len(rows) == 1
    return float(rows[0]["value"])


def measured_against(facts: Path, model: str, batch: int) -> dict[str, float]:
    """Predicted over published: frame rate, power of the chip without its DRAM, DRAM accesses of 16 bits a multiply-accumulate."""
    found = analyze(model, "eyeriss", batch=batch, precision="int16", level="mapped").estimate
    name = model.replace("vgg-16", "vgg16")
    chip = sum(value for component, value in found.cost.energy.items() if component != "memory.dram")
    accesses = found.bytes["dram"] / 2.0 / (found.flops / 2.0)
    return {
        "rate": found.tokens_per_second / published(facts, name, "frames/s"),
        "power": chip / found.time * 1e3 / published(facts, name, "power"),
        "accesses": accesses / published(facts, name, "DRAM accesses per MAC"),
    }


def test_alexnet_against_the_measurement(facts: Path):
    """The frame rate is within 25 %. Power is not: clock network, pipeline registers, queues and control have no model."""
    found = measured_against(facts, "alexnet-conv", 4)
    assert found["rate"] == pytest.approx(1.0, abs=0.25)
    assert found["accesses"] == pytest.approx(1.0, abs=0.35)
    assert found["power"] < 1.0


def test_vgg_against_the_measurement(facts: Path):
    """The best passes bound what the chip did: its own, which its paper does not print, take twice the time."""
    found = measured_against(facts, "vgg-16-conv", 3)
    assert found["rate"] >= 1.0
    assert found["accesses"] == pytest.approx(1.0, abs=0.35)
    assert found["power"] < 1.0


def test_every_component_of_energy_is_positive_and_they_add_up():
    layer, _, text = ALEXNET["conv5"]
    machine = eyeriss()
    tile = read_mapping(text, layer)
    assert machine.energy is not None
    parts = row_energy(row_cost(layer, tile, FILTERS_OUTSIDE, machine.array, machine.stores), machine.energy)
    assert min(parts) > 0.0
    assert parts.whole == pytest.approx(cost_mapping(layer, tile, machine).energy, rel=1e-12)
    doubled = row_energy(
        row_cost(layer, tile, FILTERS_OUTSIDE, machine.array, machine.stores), RowAccess(*(2.0 * one for one in machine.energy))
    )
    assert doubled.whole == pytest.approx(2.0 * parts.whole, rel=1e-12)


def test_bandwidth_of_the_sums_binds_where_a_pass_has_few_channels():
    """VGG-16's 1-2 with one channel a pass: 4 sums a cycle leave 36 multiply-accumulates a cycle (34 in Table VI)."""
    layer, machine = Layer(3.0, 64.0, 64.0, 224.0, 224.0, 3.0, 3.0, 1.0), eyeriss()
    tile = read_mapping("m=16,n=1,e=13,p=4,q=1,r=1,t=4", layer)
    cost = row_cost(layer, tile, FILTERS_OUTSIDE, machine.array, machine.stores)
    assert cost.fits == 1.0
    assert cost.network > 4 * cost.compute
    macs = layer.n * layer.k * layer.c * layer.p * layer.q * 9
    assert macs / cost.network == 36.0
    assert cost.processing / machine.clock * 1e3 == pytest.approx(
        810.6, rel=0.05
    )  # Table VI; the pass is derived from its accesses


# ---- what is refused --------------------------------------------------------------------------------------------------------

CONV1 = "k=96,c=3,p=55,q=55,r=11,s=11,stride=4,n=4"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([CONV1, "eyeriss", "--mapping", "m=96,n=4,e=7,p=16,q=1,r=1,t=2"], 3, "359240 B of the buffer, which hold 102400 B"),
        ([CONV1, "eyeriss", "--mapping", "m=96,n=1,e=7,p=32,q=1,r=1,t=1"], 3, "704 B of an element's weight registers"),
        ([CONV1, "eyeriss", "--mapping", "m=96,n=1,e=7,p=16,q=1,r=1,t=3"], 3, "21 columns of elements, and there are 14"),
        ([CONV1, "eyeriss", "--mapping", "m=96,n=1,e=7,p=16,q=1,r=2,t=1"], 3, "2 sets that add up, and there are 1"),
        (["k=8,c=8,p=8,q=8,r=3,s=16", "eyeriss"], 3, "16 rows of elements, and there are 12"),
        (["k=8,c=8,p=8,q=8,r=13,s=3", "eyeriss"], 3, "26 B of an element's input registers, which hold 24 B"),
        ([CONV1, "eyeriss", "--mapping", "m=96,n=1,e=7"], 2, "p, q, r, t missing"),
        ([CONV1, "eyeriss", "--mapping", "m=96,n=1,e=70,p=16,q=1,r=1,t=2"], 2, "the layer has 55 output rows"),
        ([CONV1, "eyeriss", "--mapping", "m=48,n=1,e=7,p=16,q=1,r=1,t=2"], 2, "no multiple of the p·t = 32"),
        ([CONV1, "eyeriss", "--mapping", "L3[WIO] K4"], 2, "write each of m, n, e, p, q, r, t once"),
        ([CONV1, "eyeriss", "--objective", "speed"], 2, "latency, energy, edp"),
        ([CONV1, "eyeriss", "--timeline", "run.json"], 2, "no cycle-level simulation"),
        ([CONV1, "gemmini", "--dataflow", "row-stationary"], 2, "has no `matrix_unit.network.weights`"),
    ],
)
def test_refusals_are_one_sentence(
    arguments: list[str], code: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("sys.argv", ["ridgeline", "map", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    printed = capsys.readouterr()
    assert stop.value.code == code
    assert printed.out == ""
    assert len(printed.err.strip().splitlines()) == 1
    assert said in printed.err


def test_a_chip_without_its_register_files_is_refused():
    chip = load_chip("eyeriss")
    bare = replace(chip, memory=tuple(one for one in chip.memory if one.name != "sum-registers"))
    with pytest.raises(InputError, match="`holds` sums"):
        map_matmul(CONV1, bare)


def test_the_simulated_level_is_refused():
    with pytest.raises(InputError, match="choose ideal, mapped"):
        analyze("alexnet", "eyeriss", batch=4, precision="int16", level="simulated")


def test_map_and_analyze_print_the_contract(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    records = []
    for arguments in (
        ["map", CONV1, "eyeriss", "--precision", "int16", "--json"],
        ["analyze", "alexnet", "eyeriss", "--batch", "4", "--precision", "int16", "--level", "mapped", "--json"],
    ):
        monkeypatch.setattr("sys.argv", ["ridgeline", *arguments])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        assert stop.value.code == 0
        records.append(json.loads(capsys.readouterr().out))
    mapped, analysed = records
    assert {"dram", "buffer", "network", "registers"} == mapped["traffic"].keys()
    assert mapped["optimal"]
    assert mapped["notes"] == ["pass m=96,n=1,e=7,p=16,q=1,r=1,t=2"]
    assert sum(mapped["energy_by_component"].values()) == pytest.approx(mapped["energy"], rel=1e-12)
    assert analysed["level"] == "mapped"
    assert {"arithmetic", "registers", "network", "memory.buffer", "memory.dram"} <= analysed["energy_by_component"].keys()


def test_a_mapping_reads_back():
    layer, _, text = ALEXNET["conv2"]
    found = cost_mapping(layer, read_mapping(text, layer), eyeriss())
    assert letters_of(found) == text
    assert set(found.held) == set(PLACES[3:])
    assert not found.optimal
