"""Convolutions in the simulator: real integers, bytes equal to the exact traffic of the mapping, instructions, requests."""

import csv
import random
import statistics
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ridgeline.api import analyze, load_chip, map_matmul
from ridgeline.api.simulation import simulate_tiling
from ridgeline.costs.tiled import LOOPS, ORDERS, Array, Buffers, Layer, Memory, Tile, nest_traffic
from ridgeline.errors import InputError
from ridgeline.mapping.array_machine import ArrayMachine, array_machine
from ridgeline.mapping.nest import read_nest
from ridgeline.mapping.tiling import DATAFLOWS, cost_tiling, tile_layer
from ridgeline.simulate.convolution import ElementBytes, Fetching, Nest, Sizes, run_nest, simulate_nest
from ridgeline.simulate.instructions import InstructionQueue, queue_cycles
from ridgeline.simulate.pipeline import Pipeline, Step, simulate_pipeline
from ridgeline.simulate.requests import window_cycles
from ridgeline.simulate.systolic import SystolicArray
from ridgeline.specs.number_format import FORMATS

SMALL = Sizes(6, 6, 6, 6, 3, 3)
FLOWS = (*DATAFLOWS, "no-local-reuse")


def random_nest(generator: random.Random, most: Sizes = SMALL) -> Nest:
    """A nest of any sizes, tiles and order."""
    size = Sizes(*(generator.randint(1, bound) for bound in most))
    return Nest(
        size=size,
        tile=Sizes(*(generator.randint(1, bound) for bound in size)),
        order="".join(generator.sample(LOOPS, 6)),
        stride=generator.randint(1, 3),
        images=generator.randint(1, 3),
    )


def layer_of(nest: Nest) -> Layer:
    """The same nest as the model writes it."""
    return Layer(float(nest.images), *map(float, nest.size), float(nest.stride))


def direct(nest: Nest, inputs: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The convolution as it is defined, output by output."""
    k, _, p, q, r, s = nest.size
    result = np.zeros((nest.images, k, p, q), np.int64)
    for n, filters, x, y in np.ndindex(*result.shape):
        window = inputs[n, :, x * nest.stride : x * nest.stride + r, y * nest.stride : y * nest.stride + s]
        result[n, filters, x, y] = (window * weights[filters]).sum()
    return result


@pytest.mark.parametrize("flow", FLOWS)
def test_tiles_on_the_array_make_the_convolution(flow: str):
    generator, values = random.Random(11), np.random.default_rng(11)
    array = SystolicArray(rows=3, columns=2, dataflow=flow)
    for _ in range(4):
        nest = random_nest(generator, Sizes(5, 5, 4, 4, 3, 3))
        k, c, p, q, r, s = nest.size
        image = ((p - 1) * nest.stride + r, (q - 1) * nest.stride + s)
        inputs = values.integers(-9, 10, (nest.images, c, *image))
        weights = values.integers(-9, 10, (k, c, r, s))
        assert (run_nest(nest, inputs, weights, array) == direct(nest, inputs, weights)).all()


def test_operands_of_another_shape_are_refused():
    nest = Nest(size=Sizes(2, 3, 4), tile=Sizes(2, 3, 4), order=LOOPS)
    array = SystolicArray(rows=2, columns=2, dataflow="weight-stationary")
    with pytest.raises(InputError, match="inputs of this nest are 1 × 3 × 4 × 1"):
        run_nest(nest, np.ones((1, 3, 5, 1), int), np.ones((2, 3, 1, 1), int), array)


def test_windows_by_hand():
    """7 × 3 taps at stride 2 over 5 × 4 pixels, in two tiles of p (3 and 2) and two of c: halos and skipped pixels are read."""
    nest = Nest(size=Sizes(4, 6, 5, 4, 7, 3), tile=Sizes(4, 4, 3, 4, 7, 3), order="kcpqrs", stride=2)
    array = SystolicArray(rows=4, columns=4, dataflow="weight-stationary", loading="preloaded", folds="pipelined")
    run = simulate_nest(nest, array=array, pipeline=Pipeline(bandwidth=8.0))
    across, along = (2 * 2 + 7) + (1 * 2 + 7), 3 * 2 + 3
    assert run.read == {"input": 6 * across * along, "weight": 4 * 6 * 7 * 3, "output": 4 * 5 * 4 * 4}
    assert run.written == {"output": 4 * 5 * 4, "partial": 4 * 5 * 4 * 4}
    assert run.tiles == 4


def test_filters_stay_over_the_images_where_one_tile_holds_them():
    nest = Nest(size=Sizes(4, 4, 4), tile=Sizes(4, 4, 2), order="kcpqrs", images=3)
    array = SystolicArray(rows=4, columns=4, dataflow="weight-stationary", loading="preloaded", folds="pipelined")
    run = simulate_nest(nest, array=array, pipeline=Pipeline(bandwidth=8.0))
    assert run.read == {"input": 3 * 16, "weight": 16, "output": 0}


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 2**32), keeps=st.booleans(), spills=st.booleans(), word=st.sampled_from([1.0, 4.0, 16.0]))
def test_bytes_are_the_exact_traffic_of_the_mapping(seed: int, keeps: bool, spills: bool, word: float):
    """The walk of the loops and the closed form agree to the byte, for all orders, ragged tiles, strides and halos."""
    nest = random_nest(random.Random(seed))
    element = ElementBytes(input=1, weight=2, output=1, accumulator=4)
    array = SystolicArray(rows=4, columns=4, dataflow="weight-stationary", loading="preloaded", folds="pipelined")
    fetching = Fetching(word=word, keeps_tiles=keeps, spills=spills)
    run = simulate_nest(nest, array=array, pipeline=Pipeline(bandwidth=8.0), element=element, fetching=fetching)
    buffers = Buffers(1e9, 1e9, input_bytes=1.0, weight_bytes=2.0, output_bytes=1.0, accumulator_bytes=4.0)
    memory = Memory(8.0, word=word, reuse=float(keeps), spill=float(spills))
    asked = layer_of(nest)
    traffic = nest_traffic(asked, Tile(*map(float, nest.tile)), ORDERS.index(nest.order), buffers, memory)
    alike = [len(nest.tiles(letter)) > 1 for letter in "kcrs"]
    if any(alike) or nest.images == 1 or not keeps:  # else one tile holds all filters, and they stay from image to image
        assert run.read["weight"] == traffic.weights
    assert (run.read["input"], run.read["output"]) == (traffic.inputs, traffic.partial)
    assert (run.written["output"], run.written["partial"]) == (traffic.outputs, traffic.partial)
    if run.read["output"] == 0 and (any(alike) or nest.images == 1 or not keeps):
        assert run.pipeline.bytes_loaded == traffic.read
        assert run.pipeline.bytes_stored == traffic.written


def random_layers(count: int, seed: int):
    """Convolutions of the sizes of networks, at random, on random machines."""
    generator = random.Random(seed)
    for _ in range(count):
        k, c = (int(2 ** generator.uniform(3, 7)) for _ in range(2))
        p, q, taps = generator.randint(4, 28), generator.randint(4, 28), generator.choice([1, 3, 3, 5])
        rows, columns = generator.choice([4, 8, 16]), generator.choice([4, 8, 16])
        flow = generator.choice(DATAFLOWS)
        fill = float(rows + columns - 2 + (0 if flow == "output-stationary" else rows))
        array = Array(float(rows), float(columns), preload=float(rows), fill=fill)
        buffers = Buffers(generator.choice([16, 64, 256]) * 1024.0, generator.choice([8, 32, 128]) * 1024.0)
        memory = Memory(generator.choice([4.0, 8.0, 16.0, 32.0]), latency=generator.choice([0.0, 20.0, 100.0]))
        layer = Layer(1.0, float(k), float(c), float(p), float(q), float(taps), float(taps), float(generator.choice([1, 1, 2])))
        yield layer, ArrayMachine(array, buffers, memory, None, flow, 1e9)


def test_convolutions_take_about_the_mapped_cycles_and_exactly_its_bytes():
    errors = list[float]()
    for layer, machine in random_layers(60, seed=5):
        tiling = tile_layer(layer, machine.array, machine.buffers, machine.memory, dataflows=(machine.dataflow,))
        run = simulate_tiling(layer, tiling, machine)
        assert run.bytes == sum(tiling.traffic["dram"].values())
        errors.append(abs(run.cycles / tiling.cycles - 1))
    assert statistics.median(errors) <= 0.05


def test_instructions_of_gemmini_by_hand():
    """16 vectors at most, 4 cycles at least, 16 for the first of a block, one every 8 cycles at best, 1 between two."""
    queue = InstructionQueue(stream=16, least=4.0, preload=16.0, issue=8.0, gap=1.0)
    assert queue_cycles(queue, blocks=1, rows=1, vectors=40) == 17 + 17 + 9
    assert queue_cycles(queue, blocks=2, rows=3, vectors=2) == 2 * (17 + 5 + 5)  # issued at 0, 8 … 40, always before their turn
    # issued at 0, 12 … 60, they start at 0, 17, 24, 36, 53, 60
    assert queue_cycles(replace(queue, issue=12.0), blocks=2, rows=3, vectors=2) == 65
    assert queue_cycles(replace(queue, issue=0.0), blocks=2, rows=3, vectors=2) == 2 * (17 + 5 + 5)
    assert queue_cycles(replace(queue, issue=100.0), blocks=2, rows=3, vectors=2) == 505


@given(
    vectors=st.integers(1, 60),
    blocks=st.integers(1, 5),
    rows=st.integers(1, 4),
    times=st.tuples(*(st.integers(0, 30) for _ in range(4))),
    stream=st.integers(1, 20),
)
def test_a_queue_is_what_its_instructions_are_one_by_one(
    vectors: int, blocks: int, rows: int, times: tuple[int, ...], stream: int
) -> None:
    """Every instruction of every block in a loop of its own: issued in turn, started when the one before has ended."""
    least, preload, issue, gap = map(float, times)
    queue = InstructionQueue(stream=stream, least=least, preload=preload, issue=issue, gap=gap)
    ended, number = 0.0, 0
    for _ in range(blocks):
        for at, length in enumerate(queue.pieces(vectors) * rows):
            lasts = max(length, queue.least, queue.preload if at == 0 else 0.0)
            ended = max(ended, number * queue.issue) + lasts + queue.gap
            number += 1
    assert queue_cycles(queue, blocks=blocks, rows=rows, vectors=vectors) == ended


def test_requests_reach_what_they_keep_under_way():
    many = window_cycles(64.0 * 10_000, bandwidth=16.0, latency=128.0, request=64.0, window=16)
    assert many == pytest.approx(64.0 * 10_000 / 8.0, rel=0.01)  # 16 requests of 64 B in 128 cycles
    assert window_cycles(64.0 * 10_000, bandwidth=16.0, latency=128.0, request=64.0, window=64) == 64.0 * 10_000 / 16.0
    assert window_cycles(0.0, bandwidth=16.0, latency=128.0, request=64.0, window=16) == 0.0


def test_setting_up_a_step_waits_for_the_transfers_before():
    steps = [Step(loads=(40, 40), array=1)] * 3
    plain = simulate_pipeline(steps, Pipeline(bandwidth=4.0, in_flight=8)).cycles
    assert plain == 60 + 1
    assert simulate_pipeline(steps, Pipeline(bandwidth=4.0, in_flight=8, start=7)).cycles == plain + 3 * 7


@pytest.mark.parametrize("chip", ["gemmini", "nvdla-like", "tpu-v1"])
def test_resnet_by_the_simulator_is_near_the_mapped_one(chip: str):
    mapped = analyze("resnet-50", chip, precision="int8").estimate
    simulated = analyze("resnet-50", chip, precision="int8", level="simulated").estimate
    assert simulated.time == pytest.approx(mapped.time, rel=0.05)


def test_a_convolution_has_a_time_line():
    found = map_matmul("k=64,c=64,p=56,q=56,r=3,s=3", "gemmini", simulate=True)
    assert found.simulated is not None
    assert found.simulated.cycles == pytest.approx(found.tiling.cycles, rel=0.05)
    assert {span.unit for span in found.simulated.pipeline.spans} == {"load", "array"}
    assert found.simulated.bytes == sum(found.tiling.traffic["dram"].values())


def test_given_mappings_of_gemmini_against_the_model_and_the_registers(facts: Path):
    """148 layers on register-transfer level [hong2023dosa]; the constants of the chip's file were fitted to them, by the model."""
    int8 = FORMATS["int8"]
    machine = array_machine(load_chip("gemmini"), inputs=int8, weights=int8, compute="int8")
    to_model, to_registers = list[float](), list[float]()
    with (facts / "reference" / "hardware" / "gemmini_rtl.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        layer = Layer(*(float(row[name]) for name in ("N", "K", "C", "P", "Q", "R", "S", "stride")))
        nest = read_nest(row["mapping"], layer)
        sizes = {"scratchpad": 2.0 * float(row["scratchpad_bytes"]), "accumulator": 2.0 * float(row["accumulator_bytes"])}
        on = machine._replace(buffers=machine.buffers._replace(**sizes))
        given_tiling = cost_tiling(layer, nest.tile, ORDERS[nest.order], on.array, on.buffers, on.memory)
        run = simulate_tiling(layer, given_tiling, on)
        assert run.bytes == sum(given_tiling.traffic["dram"].values())
        to_model.append(abs(run.cycles / given_tiling.cycles - 1))
        to_registers.append(abs(run.cycles / float(row["rtl_cycles"]) - 1))
    assert len(rows) == 148
    assert statistics.median(to_model) <= 0.02
    assert sum(error <= 0.05 for error in to_model) >= 0.9 * len(to_model)
    assert statistics.median(to_registers) <= 0.10  # the project's target for the model
    assert statistics.mean(to_registers) <= 0.15
