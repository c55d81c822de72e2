"""Cycle-level simulation of what a tiling says: an independent answer beside the mapped one, and its time line."""

from dataclasses import replace
from typing import Any, TextIO

from ridgeline.costs.ideal import Machine
from ridgeline.costs.tiled import Layer, transfer_rate
from ridgeline.errors import InputError
from ridgeline.estimate import assemble, operation_estimate, processed_tokens, step_operations
from ridgeline.mapping.array_machine import ArrayMachine
from ridgeline.mapping.array_step import Part, Placed, place_step
from ridgeline.mapping.capacity import capacity
from ridgeline.quantities import Hertz
from ridgeline.results import Cost, Estimate, Tiling
from ridgeline.simulate.perfetto import write_trace
from ridgeline.simulate.pipeline import Pipeline
from ridgeline.simulate.product import ElementBytes, ProductRun, simulate_product
from ridgeline.simulate.systolic import SystolicArray
from ridgeline.specs.chip import Chip
from ridgeline.specs.model import ConvolutionalModel, Model
from ridgeline.specs.precision import Precision
from ridgeline.specs.scenario import Scenario

_LETTERS = {"k": "n", "c": "k", "p": "m"}  # of a nest → of a product


def simulate_tiling(layer: Layer, tiling: Tiling, machine: ArrayMachine, *, spans: bool = False) -> ProductRun:
    """Run a tiled matrix product cycle by cycle on a machine's array, transfer engine and buffers.

    Weights are loaded behind the stream where the machine preloads. What instructions cost the array, and engines that fetch
    every tile anew, are not simulated. Raises `InputError` for a convolution.
    """
    if layer.q * layer.r * layer.s * layer.n != 1:
        raise InputError("the simulator runs matrix products, and this is a convolution: choose the level mapped")
    array, buffers, memory = machine.array, machine.buffers, machine.memory
    slots = int(buffers.double)
    tile = tiling.tile["chip"]
    return simulate_product(
        (int(layer.p), int(layer.k), int(layer.c)),
        (int(tile["p"]), int(tile["k"]), int(tile["c"])),
        "".join(_LETTERS[letter] for letter in tiling.order["dram"] if letter in _LETTERS),
        array=SystolicArray(
            rows=int(array.rows),
            columns=int(array.columns),
            dataflow=tiling.dataflow,  # pyright: ignore[reportArgumentType]
            loading="preloaded" if array.preload > 0 else "serial",
            folds="pipelined",
        ),
        pipeline=Pipeline(
            bandwidth=transfer_rate(memory),
            latency=round(memory.latency),
            in_flight=16,
            issue=round(memory.start),
            load_slots=slots,
            output_slots=slots,
            asynchronous=slots > 1,
        ),
        element=ElementBytes(
            input=buffers.input_bytes,
            weight=buffers.weight_bytes,
            output=buffers.output_bytes,
            accumulator=buffers.accumulator_bytes,
        ),
        spans=spans,
    )


def simulated_estimate(
    chip: Chip, model: Model | ConvolutionalModel, scenario: Scenario, precision: Precision, residency: Any = "cold"
) -> Estimate:
    """Return a step as `mapped` cuts it, with every product's time from the simulator instead of the formulas."""
    plain = step_operations(model, scenario, precision)
    machine = Machine.of(chip, precision.accumulate, residency)
    runs: dict[tuple[Any, ...], float] = {}
    placed = [_simulated(one, runs) for one in place_step(machine, plain)]
    rows = tuple(operation_estimate(one.operation, one.cost, one.time) for one in placed)
    held = capacity(model, scenario, precision, chip, plain)
    return assemble(machine, "simulated", rows, held, processed_tokens(model, scenario))


def _simulated(placed: Placed, runs: dict[tuple[Any, ...], float]) -> Placed:
    """Return an operation with its simulated time; equal products run once."""
    if not placed.parts:
        return placed
    time = max(sum(_part_time(part, runs) for part in placed.parts), placed.cost.time["vector"])
    busy = {name: min(value, time) for name, value in placed.cost.time.items() if name != "overhead"}
    cost = replace(placed.cost, time={**busy, "overhead": time - max(busy.values())})
    return replace(placed, cost=Cost(time=cost.time, energy=cost.energy, flops=cost.flops, bytes=cost.bytes), time=time)


def _part_time(part: Part, runs: dict[tuple[Any, ...], float]) -> float:
    key = (*part.layer, *part.tiling.tile["chip"].values(), part.tiling.order["dram"], *part.machine.buffers)
    if key not in runs:
        runs[key] = float(simulate_tiling(part.layer, part.tiling, part.machine).cycles)
    return part.count * runs[key] / part.machine.clock


def write_spans(run: ProductRun, stream: TextIO, *, clock: Hertz) -> None:
    """Write a run's time line as trace events, at a clock."""
    write_trace(run.pipeline.spans, stream, clock=clock)
