"""One step: the costs of its operations summed, the bounds, what binds, the energy, whether it fits, and the breakdown."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ridgeline.arrays import is_scalar, maximum, total, where
from ridgeline.costs.ideal import Machine, Residency, ideal_cost
from ridgeline.costs.matmul import ridge
from ridgeline.costs.rates import with_stream
from ridgeline.mapping.activity import cap_rows, standing, within_limit
from ridgeline.mapping.array_step import place_step
from ridgeline.mapping.capacity import capacity
from ridgeline.mapping.epilogue import Fusion
from ridgeline.mapping.functions import place_of
from ridgeline.mapping.fusion import fuse
from ridgeline.mapping.intervals import residual_kind, step_interval
from ridgeline.mapping.many_core_step import is_many_core, kernel_count, kernels, place_many_core_step
from ridgeline.mapping.software_step import (
    HOST,
    HostWork,
    chunked_operations,
    chunks,
    host_rows,
    layer_count,
    stack_of,
    stack_precision,
)
from ridgeline.mapping.training_memory import training_capacity
from ridgeline.quantities import Bytes, Count, Flops, FlopsPerByte, Joules, Seconds
from ridgeline.results import Capacity, Cost, Estimate, Interval, Operation, OperationEstimate
from ridgeline.specs.chip import Chip
from ridgeline.specs.model import ConvolutionalModel, Model
from ridgeline.specs.precision import Precision
from ridgeline.specs.scenario import Scenario
from ridgeline.specs.stack import Stack
from ridgeline.workload import convolution, training, transformer


@dataclass(frozen=True, kw_only=True, eq=False)
class Totals:
    """What a step takes, without the breakdown: what a sweep keeps of each point."""

    time: Seconds
    time_lower: Seconds
    time_upper: Seconds
    energy: Joules | None
    cost: Cost


def step_operations(model: Model | ConvolutionalModel, scenario: Scenario, precision: Precision) -> tuple[Operation, ...]:
    """Return the operations of a step before anything is fused."""
    if scenario.phase == "train":
        return training.operations(model, scenario, precision)
    if isinstance(model, ConvolutionalModel):
        return convolution.operations(model, scenario, precision)
    return transformer.operations(model, scenario, precision)


def processed_tokens(model: Model | ConvolutionalModel, scenario: Scenario) -> Count:
    """Tokens that a step yields or takes in, over all requests; images of a vision model or a convolutional network."""
    if isinstance(model, ConvolutionalModel) or (model.encoder and not model.decoder and model.patches is not None):
        return scenario.batch
    if scenario.phase == "decode":
        return scenario.batch * expected_tokens(scenario)
    if scenario.phase == "generate":
        return scenario.batch * scenario.output
    return scenario.batch * _prompt(model, scenario)


def _prompt(model: Model, scenario: Scenario) -> Count:
    return transformer.encoder_tokens(model, scenario) if model.encoder else scenario.prompt


def expected_tokens(scenario: Scenario) -> Count:
    """Tokens that a sequence gains in a decode step: all v that it verifies; with an acceptance a of each, (1 − aᵛ) / (1 − a)."""
    if scenario.acceptance is None:
        return scenario.verified
    kept = scenario.acceptance
    return where(kept < 1.0, (1.0 - kept**scenario.verified) / maximum(1.0 - kept, 1e-12), scenario.verified)


def fold(machine: Machine, operations: Sequence[Operation]) -> Totals:
    """Sum the operations of a step, one by one, so that a sweep holds no breakdown."""
    lower: Seconds = 0.0
    whole = Cost(time={})
    for operation in operations:
        cost = ideal_cost(machine, operation)
        lower = lower + cost.lower * operation.count
        whole = whole + cost.times(operation.count)
    return Totals(time=lower, time_lower=lower, time_upper=whole.upper, energy=_energy(machine, "ideal", whole, lower), cost=whole)


def _energy(machine: Machine, level: str, whole: Cost, time: Seconds) -> Joules | None:
    """Return the energy where the chip gives that of its arithmetic and of its main memory; static energy where known."""
    main = f"memory.{machine.levels[-1].name}"
    if main not in whole.energy or any(unit.energy is None for unit in machine.formats.values()):
        return None
    static = standing(machine.chip, level, time, whole.time.get(HOST, 0.0))
    return total(list(whole.energy.values())) + (0.0 if static is None else static)


def estimate(
    chip: Chip,
    model: Model | ConvolutionalModel,
    scenario: Scenario,
    precision: Precision,
    *,
    level: str = "ideal",
    residency: Residency = "cold",
    fusion: Fusion = "best",
) -> Estimate:
    """Return what a step takes on a chip: any quantity of the chip and the scenario may be an array, and all broadcast.

    `fusion` says which kernels the `mapped` level may join; `ideal` fuses all that its bound allows. Infeasible points are data:
    `feasible` is a mask and `capacity.shortfall` says how many bytes are missing.
    """
    stack = stack_of(chip, level)
    precision = stack_precision(stack, with_stream(chip, precision))
    plain = chunked_operations(lambda asked: step_operations(model, asked, precision), stack, scenario)
    machine = Machine.of(chip, precision.accumulate, residency)
    operations = fuse(plain) if level == "ideal" else plain
    costs = operation_costs(machine, level, operations, fusion)
    rows = tuple(operation_estimate(*one) for one in costs)
    rows = (*rows, *_host_rows(stack, costs, scenario))
    rows = (*rows, *cap_rows(chip, level, rows))
    if scenario.phase == "train":
        held = training_capacity(model, scenario, precision, chip)
    else:
        held = capacity(model, scenario, precision, chip, running(chip, level, operations))
    return assemble(machine, level, rows, held, processed_tokens(model, scenario), phase=scenario.phase)


def _host_rows(
    stack: Stack | None, costs: Sequence[tuple[Operation, Cost, Seconds]], scenario: Scenario
) -> tuple[OperationEstimate, ...]:
    """Return the host's rows of a step; of a generation, of its prompt and of its decode steps."""
    if stack is None:
        return ()
    found: list[OperationEstimate] = []
    for prefix, steps in step_counts(stack, scenario):
        mine = [one for one in costs if one[0].place.startswith(prefix)]
        work = HostWork(
            kernels=total([operation.count * kernel_count(stack, operation) for operation, _, _ in mine]),
            layers=layer_count([operation for operation, _, _ in mine]),
            steps=steps,
            sequences=scenario.batch if decodes(scenario, prefix) else 0.0,
            requests=0.0 if decodes(scenario, prefix) else 1.0,
            device=total([time * operation.count for operation, _, time in mine]),
        )
        found += host_rows(stack, work, prefix)
    return tuple(found)


def decodes(scenario: Scenario, prefix: str) -> bool:
    """Say whether the operations of a scenario whose names begin like this decode."""
    return scenario.phase == "decode" or prefix == "decode "


def step_counts(stack: Stack | None, scenario: Scenario) -> tuple[tuple[str, Count], ...]:
    """Return the steps of each phase of a scenario, by the prefix of its operations."""
    count = chunks(stack, scenario)
    if scenario.phase != "generate":
        return (("", count),)
    return (("prefill ", count), ("decode ", scenario.output - 1.0))


def running(chip: Chip, level: str, operations: Sequence[Operation]) -> Sequence[Operation]:
    """Return the operations whose tensors a step keeps: those of its kernels where a chip has many cores."""
    return kernels(operations, chip.stack) if level == "mapped" and is_many_core(chip) else operations


def operation_costs(
    machine: Machine, level: str, operations: Sequence[Operation], fusion: Fusion
) -> list[tuple[Operation, Cost, Seconds]]:
    """Return every operation as it runs, with its cost and the time that passes, once; `ideal` takes fused operations."""
    if level == "ideal":
        return [(one, cost, cost.lower) for one in operations for cost in (ideal_cost(machine, one),)]
    if is_many_core(machine.chip):
        return [(one.operation, one.cost, one.time) for one in place_many_core_step(machine, operations)]
    return [(one.operation, one.cost, one.time) for one in place_step(machine, operations, fusion)]


def assemble(
    machine: Machine, level: str, rows: tuple[OperationEstimate, ...], held: Capacity, tokens: Count, *, phase: str
) -> Estimate:
    """Add up the rows of a step: its time, its bounds, its interval, what binds, its energy."""
    whole, lower, time = Cost(time={}), 0.0, 0.0
    for row in rows:
        time = time + row.time * row.count
        lower = lower + row.cost.lower * row.count
        whole = whole + row.cost.times(row.count)
    whole = replace(whole, energy=within_limit(machine.chip, level, whole.energy, time - whole.time.get(HOST, 0.0)))
    main = machine.levels[-1]
    interval = step_interval(machine.chip, level, rows, time, phase)
    return Estimate(
        level=level,
        time=time,
        time_lower=lower,
        time_upper=whole.upper,
        interval=interval if isinstance(interval, Interval) else None,
        interval_reason=interval if isinstance(interval, str) else "",
        flops=whole.flops,
        bytes=whole.bytes,
        intensity=_intensity(whole.flops, whole.bytes[main.name]),
        ridge=ridges(machine),
        resources=tuple(whole.time),
        bound=largest(whole.time),
        cost=_with_static(machine, level, whole, time),
        energy=_energy(machine, level, whole, time),
        tokens=tokens,
        tokens_per_second=tokens / time,
        capacity=held,
        feasible=held.fits,
        operations=rows,
        notes=(*_substitutions(machine), *_left_out(machine, level, rows)),
    )


def _left_out(machine: Machine, level: str, rows: tuple[OperationEstimate, ...]) -> tuple[str, ...]:
    """Say aloud what a level does not count of functions that the chip sends to its host."""
    sent = sorted({name for row in rows for name in row.functions if place_of(machine.chip, name) == "host"})
    if not sent:
        return ()
    what = "as if the chip's lanes ran them" if level == "ideal" else "whose energy is not counted"
    return (f"{', '.join(sent)}: run on the host, {what}",)


def _intensity(flops: Flops, moved: Bytes) -> FlopsPerByte:
    """Return FLOPs per byte; infinite where no byte crosses the main memory, as it may be from a warm cache."""
    crosses = moved > 0
    return where(crosses, flops / where(crosses, moved, 1.0), float("inf"))


def _with_static(machine: Machine, level: str, whole: Cost, time: Seconds) -> Cost:
    static = standing(machine.chip, level, time, whole.time.get(HOST, 0.0))
    if static is None:
        return whole
    return Cost(
        time=whole.time,
        energy={**whole.energy, "static": static},
        flops=whole.flops,
        bytes=whole.bytes,
    )


def operation_estimate(operation: Operation, cost: Cost, time: Seconds) -> OperationEstimate:
    """Return one row of the breakdown: what an operation costs and the time that passes, once."""
    lead = operation.products[0] if operation.products else None
    width = None if lead is None else _width(operation)
    return OperationEstimate(
        name=operation.name,
        kind=operation.kind,
        group=operation.group,
        count=operation.count,
        functions=tuple(operation.functions),
        m=None if lead is None else lead.m,
        n=width,
        k=None if lead is None else lead.k,
        flops=cost.flops,
        bytes=list(cost.bytes.values())[-1],  # the main memory is the last level
        time=time,
        bound=largest(cost.time),
        cost=cost,
        residual=residual_kind(operation),
    )


def _width(operation: Operation) -> Count:
    """Columns of the product; of products side by side over one input, their sum."""
    if operation.kind == "attention":
        return operation.products[0].n
    return total([product.n for product in operation.products])


def ridges(machine: Machine) -> dict[str, dict[str, Any]]:
    """Return FLOPs per byte at which each compute format in use turns compute-bound, by memory level."""
    return {
        name: {level.name: ridge(rate=unit.rate, bandwidth=level.bandwidth) for level in machine.levels}
        for name, unit in machine.formats.items()
    }


def largest(times: dict[str, Seconds] | Any) -> Any:
    """Return the resource with the largest time: its name, or an array of indices into the resources where times are arrays."""
    names = list(times)
    best = times[names[0]]
    if all(is_scalar(one) for one in times.values()):
        return max(names, key=lambda name: times[name])
    index: Any = 0.0 * total(list(times.values()))
    for position, name in enumerate(names[1:], start=1):
        index = where(times[name] > best, float(position), index)
        best = maximum(best, times[name])
    return index


def _substitutions(machine: Machine) -> tuple[str, ...]:
    """Say aloud which formats are computed in others."""
    return tuple(
        f"{stationary} × {streaming} is computed in {unit}: {machine.chip.name} has no unit of its own for it"
        for (stationary, streaming), unit in machine.substitutions().items()
    )
