"""Cycle-level simulation of what a tiling says: an independent answer beside the mapped one, and its time line."""

from dataclasses import replace
from math import isfinite
from sys import maxsize
from typing import Any, TextIO

from ridgeline.costs.ideal import Machine
from ridgeline.costs.rates import with_stream
from ridgeline.costs.tiled import Array, Layer
from ridgeline.estimate import assemble, operation_estimate, processed_tokens, step_operations
from ridgeline.mapping.array_machine import ArrayMachine
from ridgeline.mapping.array_step import Part, Placed, place_step
from ridgeline.mapping.capacity import capacity
from ridgeline.mapping.epilogue import Fusion
from ridgeline.quantities import Hertz
from ridgeline.results import Estimate, Tiling
from ridgeline.simulate.convolution import ElementBytes, Fetching, Nest, NestRun, Sizes, simulate_nest
from ridgeline.simulate.instructions import InstructionQueue
from ridgeline.simulate.perfetto import write_trace
from ridgeline.simulate.pipeline import Pipeline
from ridgeline.simulate.systolic import SystolicArray
from ridgeline.specs.chip import Chip
from ridgeline.specs.model import ConvolutionalModel, Model
from ridgeline.specs.precision import Precision
from ridgeline.specs.scenario import Scenario

_IN_FLIGHT = 16  # transfers of tiles between issue and end: enough that none waits for another's latency


def simulate_tiling(layer: Layer, tiling: Tiling, machine: ArrayMachine, *, spans: bool = False) -> NestRun:
    """Run a tiled matrix product or convolution cycle by cycle on a machine's array, instructions, transfer engine and buffers.

    Weights are loaded behind the stream where the machine preloads. An array that instructions feed takes them one by one; the
    engine keeps a number of requests under way, and fetches tiles anew where the machine does. Requests that the cores issue take
    the array's time; a host that manages tiles starts each before its transfers, else array and engine are set up for each; behind
    a cache, tiles stay until they are the least recently used.
    """
    array, buffers, memory = machine.array, machine.buffers, machine.memory
    slots, tile = int(buffers.double), tiling.tile["chip"]
    letters = Sizes._fields
    return simulate_nest(
        Nest(
            size=Sizes(*(int(getattr(layer, letter)) for letter in letters)),
            tile=Sizes(*(int(tile[letter]) for letter in letters)),
            order=tiling.order["dram"],
            stride=int(layer.stride),
            images=int(layer.n),
        ),
        array=SystolicArray(
            rows=int(array.rows),
            columns=int(array.columns),
            dataflow=tiling.dataflow,  # pyright: ignore[reportArgumentType]
            loading="preloaded" if array.preload > 0 else "serial",
            folds="drained" if array.serial > 0 else "pipelined",
        ),
        pipeline=Pipeline(
            bandwidth=memory.bytes_per_cycle,
            latency=round(memory.latency),
            in_flight=_IN_FLIGHT,
            start=round(memory.start),
            load_slots=slots,
            output_slots=slots,
            asynchronous=slots > 1,
            issue=memory.issue,
            issue_bytes=memory.burst if memory.issue > 0 else None,
            issued_by="host" if memory.beside > 0 else "array" if memory.issue > 0 else "dma",
            array_start=0 if memory.beside > 0 else round(memory.start),
            rates=(1.0, memory.weight_rate),
            request=memory.burst if isfinite(memory.in_flight) else None,
            requests=int(memory.in_flight) if isfinite(memory.in_flight) else 1,
        ),
        element=ElementBytes(
            input=buffers.input_bytes,
            weight=buffers.weight_bytes,
            output=buffers.output_bytes,
            accumulator=buffers.accumulator_bytes,
        ),
        fetching=Fetching(
            word=memory.word,
            keeps_tiles=memory.reuse > 0,
            spills=memory.spill > 0,
            cache=buffers.scratchpad if memory.cached > 0 else None,
        ),
        queue=_queue(array, machine.skewed),
        spans=spans,
    )


def _queue(array: Array, skewed: bool) -> InstructionQueue | None:
    """Return the queue of an array that instructions feed; None for one that streams by itself through skewed registers."""
    if skewed and not isfinite(array.stream) and not (array.least or array.issue or array.gap or array.depth > 1):
        return None
    stream = int(array.stream) if isfinite(array.stream) else maxsize
    return InstructionQueue(
        stream=stream,
        least=array.least,
        preload=array.preload,
        issue=array.issue,
        gap=array.gap,
        skewed=skewed,
        serial=array.serial,
        depth=int(array.depth),
    )


def simulated_estimate(
    chip: Chip,
    model: Model | ConvolutionalModel,
    scenario: Scenario,
    precision: Precision,
    residency: Any = "cold",
    fusion: Fusion = "best",
) -> Estimate:
    """Return a step as `mapped` cuts and fuses it, with every product's time from the simulator instead of the formulas."""
    precision = with_stream(chip, precision)
    plain = step_operations(model, scenario, precision)
    machine = Machine.of(chip, precision.accumulate, residency)
    runs: dict[tuple[Any, ...], float] = {}
    placed = [_simulated(one, runs) for one in place_step(machine, plain, fusion)]
    rows = tuple(operation_estimate(one.operation, one.cost, one.time) for one in placed)
    held = capacity(model, scenario, precision, chip, plain)
    return assemble(machine, "simulated", rows, held, processed_tokens(model, scenario), phase=scenario.phase)


def _simulated(placed: Placed, runs: dict[tuple[Any, ...], float]) -> Placed:
    """Return an operation with the simulated time of its products; equal products run once.

    What goes on beside the products, functions and transfers of their own, is as mapped: it takes at least its own time, and what
    it adds behind the products it adds here too.
    """
    if not placed.parts:
        return placed
    mapped = {name: value for name, value in placed.cost.time.items() if name != "overhead"}
    behind = placed.time - max(sum(part.time for part in placed.parts), *mapped.values())
    beside = max(value for name, value in mapped.items() if name != "compute")
    time = max(sum(_part_time(part, runs) for part in placed.parts), beside) + max(behind, 0.0)
    busy = {name: min(value, time) for name, value in mapped.items()}
    return replace(placed, cost=replace(placed.cost, time={**busy, "overhead": time - max(busy.values())}), time=time)


def _part_time(part: Part, runs: dict[tuple[Any, ...], float]) -> float:
    machine, tiling = part.machine, part.tiling
    key = (*part.layer, *tiling.tile["chip"].values(), tiling.order["dram"], tiling.dataflow)
    key = (*key, *machine.array, *machine.buffers, *machine.memory)
    if key not in runs:
        runs[key] = float(simulate_tiling(part.layer, tiling, machine).cycles)
    return part.count * runs[key] / machine.clock


def write_spans(run: NestRun, stream: TextIO, *, clock: Hertz) -> None:
    """Write a run's time line as trace events, at a clock."""
    write_trace(run.pipeline.spans, stream, clock=clock)
