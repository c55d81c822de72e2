"""One step on many chips: the stages of a partition timed, their collectives costed, the pipeline filled, the memory of each chip.

Rows of the breakdown are those of one chip of each stage, as often as they lie on the path that sets the time; flops, bytes and
energy of the estimate are of all chips.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple, cast

from ridgeline.arrays import is_scalar, is_zero, maximum, minimum, total, where
from ridgeline.costs.ideal import Machine, Residency
from ridgeline.costs.parallel import overlapped_time, pipeline_time, steady_period
from ridgeline.costs.rates import with_stream
from ridgeline.errors import InputError
from ridgeline.estimate import assemble, largest, operation_costs, operation_estimate, processed_tokens, running
from ridgeline.mapping.activity import cap_rows, standing, within_limit
from ridgeline.mapping.capacity import capacity, moved_time
from ridgeline.mapping.collectives import CollectiveCost, collective_cost
from ridgeline.mapping.epilogue import Fusion
from ridgeline.mapping.exchange_kernels import Library, exchange_time, library_of
from ridgeline.mapping.fusion import fuse
from ridgeline.mapping.intervals import exchange_kind
from ridgeline.mapping.many_core import engine
from ridgeline.mapping.many_core_step import kernel_count
from ridgeline.mapping.partition import Exchange, Partition, Stage, partition
from ridgeline.mapping.software_step import (
    HOST,
    HostWork,
    chunk_scenario,
    chunks,
    host_rows,
    layer_count,
    stack_of,
    stack_precision,
)
from ridgeline.quantities import Bytes, BytesPerSecond, Count, Joules, Seconds
from ridgeline.results import Capacity, Cost, Estimate, Operation, OperationEstimate, merged
from ridgeline.specs.family import Family
from ridgeline.specs.model import ConvolutionalModel, Model
from ridgeline.specs.plan import Plan
from ridgeline.specs.precision import Precision
from ridgeline.specs.scenario import Scenario
from ridgeline.specs.stack import Stack
from ridgeline.specs.system import NetworkTier, System
from ridgeline.workload.transformer import repeat

NETWORK = "network."


@dataclass(frozen=True, kw_only=True, eq=False)
class _Row:
    """An operation or a collective of a chip's micro-batch; `time` is what it adds, `lower` the least it can."""

    row: OperationEstimate
    decoding: bool
    lower: Seconds
    exchange: Exchange | None = None
    stage: str = ""
    kernels: Count = 1.0  # that the host issues for it, once

    @property
    def whole(self) -> Seconds:
        """Time of all its repetitions."""
        return self.row.time * self.row.count


@dataclass(frozen=True, kw_only=True, eq=False)
class _Phase:
    """One stage's share of prefill or of decode."""

    stage: Stage
    rows: tuple[_Row, ...]

    @property
    def time(self) -> Seconds:
        """Time of one micro-batch."""
        return total([one.whole for one in self.rows])


def estimate_plan(
    system: System,
    model: Model | ConvolutionalModel,
    scenario: Scenario,
    precision: Precision,
    plan: Plan,
    *,
    level: str = "ideal",
    residency: Residency = "cold",
    fusion: Fusion = "best",
) -> Estimate:
    """Return what a step takes on a system under a plan: as `estimate` for one chip, any quantity may be an array.

    Between operations come collectives, whose time counts by resource `network.<tier>` and whose bytes are those on the links of
    each tier. The capacity is that of the chip that holds most. Raises `InputError` for a plan that does not divide or has no room
    on the system. Neglected: the memory traffic of collectives.
    """
    if scenario.phase == "train":
        raise InputError("a plan is of inference: a training step is analysed on one chip, without --plan")
    chip = system.chip
    stack = stack_of(chip, level)
    precision = stack_precision(stack, with_stream(chip, precision))
    split = _split(stack, (model, scenario, precision, plan, system.tier))
    machine = Machine.of(chip, precision.accumulate, residency)
    held = {id(stage): _held(system, stage, split, precision, level) for stage in split.stages}
    context = _Context(machine, system.tier, level, fusion, split, scenario, stack, {})
    phases = [_phase(context, stage, held[id(stage)], decoding) for decoding in _phases(scenario) for stage in split.stages]
    path = _path(context, phases)
    rows = tuple(_on_path(one, count) for one, count in path if not (is_scalar(count) and count == 0.0))
    rows = (*rows, *cap_rows(chip, level, rows))
    found = assemble(machine, level, rows, _fullest(list(held.values())), processed_tokens(model, scenario), phase=scenario.phase)
    lower = total([one.lower * one.row.count * count for one, count in path])
    return _of_all_chips(context, found, phases, held, lower)


def plan_capacity(
    system: System, model: Model | ConvolutionalModel, scenario: Scenario, precision: Precision, plan: Plan
) -> Capacity:
    """Return what the fullest chip of a plan keeps, without costing the step."""
    precision = with_stream(system.chip, precision)
    split = partition(model, scenario, precision, plan, system.tier)
    return _fullest([_held(system, stage, split, precision, "ideal") for stage in split.stages])


class _Exchanged(NamedTuple):
    """What a collective takes: its time, the least, and by tier the time and the bytes that a chip sends."""

    time: Seconds
    least: Seconds
    times: Mapping[str, Seconds]
    bytes: Mapping[str, Bytes]


@dataclass(frozen=True, eq=False)
class _Context:
    """What every stage is timed with."""

    machine: Machine
    tiers: Sequence[NetworkTier]
    level: str
    fusion: Fusion
    split: Partition
    scenario: Scenario
    stack: Stack | None
    exchanges: dict[tuple[Any, ...], _Exchanged]

    @property
    def chunks(self) -> Count:
        """Chunks of a prompt that go through the stages one after another."""
        return chunks(self.stack, self.scenario)

    @cached_property
    def library(self) -> Library | None:
        """What the stack's communication library does; None where the best algorithm on clean links is taken."""
        if self.stack is None or is_zero(self.stack.exchange_cycles):
            return None
        chip = self.machine.chip
        on = engine(chip, cast(Family, chip.efficiency), next(iter(chip.matrix_unit.rate)))
        return library_of(chip, self.stack, on.clock, on.bandwidth)


def _split(stack: Stack | None, asked: tuple[Any, ...]) -> Partition:
    """Return the partition of a step; where a stack takes prompts in chunks, its prefill is that of one chunk."""
    model, scenario, *rest = asked
    whole, count = partition(model, scenario, *rest), chunks(stack, scenario)
    if is_scalar(count) and count == 1.0:
        return whole
    part = partition(model, chunk_scenario(scenario, count), *rest)
    stages = [_chunked(one, other, scenario.phase) for one, other in zip(part.stages, whole.stages, strict=True)]
    return replace(whole, stages=tuple(stages))


def _chunked(part: Stage, whole: Stage, phase: str) -> Stage:
    """Return a stage with the prefill of a chunk, and its decode steps as they are."""
    if phase == "prefill":
        return replace(part, cached=whole.cached)

    def joined(first: Sequence[Operation], second: Sequence[Operation]) -> tuple[Operation, ...]:
        return (*repeat(first, 1, "prefill ", "prefill "), *(one for one in second if one.place.startswith("decode ")))

    def exchanged(first: Sequence[Exchange], second: Sequence[Exchange], place: str) -> tuple[Exchange, ...]:
        mine = [replace(one, name=f"prefill {one.name}", place=f"{place}{one.place}") for one in first]
        return (*mine, *(one for one in second if one.place.startswith("decode")))

    operations = joined(part.operations, whole.operations)
    return replace(
        whole,
        operations=operations,
        mean=operations if part.mean is part.operations else joined(part.mean, whole.mean),
        exchanges=exchanged(part.exchanges, whole.exchanges, "prefill "),
        sends=exchanged(part.sends, whole.sends, "prefill "),
    )


# ---- memory ---------------------------------------------------------------------------------------------------------------------


def _held(system: System, stage: Stage, split: Partition, precision: Precision, level: str) -> Capacity:
    operations = fuse(stage.operations) if level == "ideal" else running(system.chip, level, stage.operations)
    largest: Bytes = 0.0
    for exchange in (*stage.exchanges, *stage.sends):
        largest = maximum(largest, exchange.bytes)
    return capacity(
        stage.held,
        stage.cached,
        precision,
        system.chip,
        operations,
        plan=split.plan,
        ranks=split.layout.context,
        weights=stage.weights(precision),
        buffers=largest,
    )


def _fullest(held: Sequence[Capacity]) -> Capacity:
    """Return the capacity of the chip that holds most, element by element."""
    found = held[0]
    for one in held[1:]:
        more = one.needed > found.needed
        changed = {
            name: where(more, getattr(one, name), getattr(found, name))
            for name in ("weights", "kv", "activations", "fragmentation", "buffers")
        }
        moved = {name: where(more, one.moved[name], value) for name, value in found.moved.items()}
        found = replace(found, **changed, moved=moved)
    return found


# ---- rows of one chip -----------------------------------------------------------------------------------------------------------


def _phases(scenario: Scenario) -> tuple[bool, ...]:
    """Return whether each phase of a scenario decodes."""
    return (False, True) if scenario.phase == "generate" else (scenario.phase == "decode",)


def _in_phase(scenario: Scenario, place: str, decoding: bool) -> bool:
    return scenario.phase != "generate" or place.startswith("decode ") == decoding


def _phase(context: _Context, stage: Stage, held: Capacity, decoding: bool) -> _Phase:
    """Return the rows of a stage: operations, collectives after the places that they follow, and what it sends on."""
    chip_rows = _chip_rows(context, stage.operations, held, decoding)
    after: dict[str, list[_Row]] = {}
    for exchange in stage.exchanges:
        if _in_phase(context.scenario, exchange.place, decoding):
            after.setdefault(exchange.place, []).append(_exchange_row(context, exchange, decoding))
    rows: list[_Row] = []
    for index, (place, row) in enumerate(chip_rows):
        rows.append(row)
        if index + 1 == len(chip_rows) or chip_rows[index + 1][0] != place:
            rows += after.pop(place, [])
    rows += [
        _exchange_row(context, one, decoding)
        for one in stage.sends
        if context.scenario.phase != "generate" or one.place.startswith("decode") == decoding
    ]
    hidden = _hidden(context.split.plan, rows, _attention_times(chip_rows))
    return _Phase(stage=stage, rows=(*hidden, *_host_rows(context, stage, hidden, decoding)))


def _host_rows(context: _Context, stage: Stage, rows: Sequence[_Row], decoding: bool) -> list[_Row]:
    """Return what the host adds to a micro-batch in a stage; between steps it works once, beside the first stage."""
    generates = context.scenario.phase == "generate"
    once = 1.0 if stage is context.split.stages[0] else 0.0
    own, micro = [one.row for one in rows if one.exchange is None], float(context.split.layout.micro_batches)
    work = HostWork(
        kernels=total([one.row.count * one.kernels for one in rows]),
        layers=layer_count([one for one in stage.operations if _in_phase(context.scenario, one.place, decoding)]),
        steps=(context.scenario.output - 1.0) * once if generates and decoding else once,
        sequences=context.scenario.batch / micro if decoding else 0.0,
        requests=0.0 if decoding else once / context.chunks,
        device=total([one.whole for one in rows]),
    )
    found = host_rows(context.stack, work, ("decode " if decoding else "prefill ") if generates else "") if own else ()
    return [_Row(row=one, decoding=decoding, lower=one.time) for one in found]


def _chip_rows(context: _Context, operations: Sequence[Operation], held: Capacity, decoding: bool) -> list[tuple[str, _Row]]:
    mine = [one for one in operations if _in_phase(context.scenario, one.place, decoding)]
    mine = list(fuse(mine)) if context.level == "ideal" else mine
    found: list[tuple[str, _Row]] = []
    for operation, cost, time in operation_costs(context.machine, context.level, mine, context.fusion):
        own, lower = cost, cost.lower
        if held.moved:
            far = moved_time(held, context.machine.chip, operation)
            own = replace(cost, time={**cost.time, f"memory.{held.further}": far})
            time, lower = maximum(time, far), maximum(lower, far)
        row = operation_estimate(operation, own, time)
        issued = kernel_count(context.stack, operation)
        found.append((operation.place, _Row(row=row, decoding=decoding, lower=lower, kernels=issued)))
    return found


def _attention_times(rows: Sequence[tuple[str, _Row]]) -> dict[str, Seconds]:
    found: dict[str, Seconds] = {}
    for place, one in rows:
        if one.row.group == "attention":
            found[place] = found.get(place, 0.0) + one.row.time
    return found


def _exchange_row(context: _Context, exchange: Exchange, decoding: bool) -> _Row:
    """Return a collective as a row: time by tier, bytes that a chip sends by tier."""
    key = (exchange.kind, exchange.members, exchange.stride, _content(exchange.bytes))
    if key not in context.exchanges:
        context.exchanges[key] = _exchanged(context, exchange)
    found = context.exchanges[key]
    cost = Cost(
        time={NETWORK + tier: time for tier, time in found.times.items()},
        energy=_link_energy(context, found.bytes),
        bytes={NETWORK + tier: sent for tier, sent in found.bytes.items()},
    )
    row = OperationEstimate(
        name=exchange.name,
        kind=exchange.kind,
        group="communication",
        count=exchange.count,
        functions=(),
        m=None,
        n=None,
        k=None,
        flops=0.0,
        bytes=0.0,
        time=found.time,
        bound=largest(cost.time),
        cost=cost,
        residual=exchange_kind(exchange.kind, across=any(one != context.tiers[0].name for one in found.bytes)),
    )
    return _Row(row=row, decoding=decoding, lower=found.least, exchange=exchange)


def _link_energy(context: _Context, sent: Mapping[str, Bytes]) -> dict[str, Joules]:
    """Return the energy of what a chip sends, where its family says what a byte over a link takes."""
    family = context.machine.chip.efficiency
    if context.level != "mapped" or family is None or not family.link_energy:
        return {}
    return {"link": total(list(sent.values())) * family.link_energy}


def _content(value: Bytes) -> Any:
    """Return what tells a number or an array of them from others: the values themselves, where they are at hand."""
    if is_scalar(value):
        return value
    return (value.shape, value.tobytes()) if type(value).__module__ == "numpy" else id(value)


def _exchanged(context: _Context, exchange: Exchange) -> _Exchanged:
    """Cost a collective: by the best algorithm on clean links, or as the stack's library runs it and its ranks wait."""
    tiers, stack, library = context.tiers, context.stack, context.library
    clean = collective_cost(tiers, exchange.kind, exchange.bytes, exchange.members, stride=exchange.stride)
    times = _time_by_tier(clean, tiers)
    if stack is None or library is None or not clean.bytes:
        return _Exchanged(clean.time, clean.time, times, clean.bytes)
    time = exchange_time(tiers, exchange.kind, exchange.bytes, exchange.members, library, stride=exchange.stride)
    time = maximum(time, clean.time) + (0.0 if exchange.kind == "send" else stack.exchange_wait)
    slower = time / clean.time
    return _Exchanged(time, clean.time, {tier: own * slower for tier, own in times.items()}, clean.bytes)


def _time_by_tier(found: CollectiveCost, network: Sequence[NetworkTier]) -> dict[str, Seconds]:
    """Say how long each tier is busy: of a hierarchical collective by phases, of any other the inner ones while bytes pass."""
    shares, inside = dict[str, BytesPerSecond](), 1
    for tier in network:
        shares[tier.name] = tier.bandwidth / inside
        inside *= int(tier.size)
    tiers = sorted(found.bytes, key=list(shares).index)
    if len(tiers) == 1:
        return {tiers[0]: found.time}
    passing = {tier: found.bytes[tier] / shares[tier] for tier in tiers[:-1]} | {tiers[-1]: found.time}
    by_phase: dict[str, Seconds] = dict.fromkeys(tiers, 0.0)
    for phase in found.phases:
        by_phase[phase.tier] = by_phase[phase.tier] + phase.cost.time
    if isinstance(found.algorithm, str):
        return by_phase if found.algorithm == "hierarchical" else passing
    if "hierarchical" not in found.algorithms:
        return passing
    phased = found.algorithm == float(found.algorithms.index("hierarchical"))
    return {tier: where(phased, by_phase[tier], passing[tier]) for tier in tiers}


# ---- what is hidden -------------------------------------------------------------------------------------------------------------


def _hidden(plan: Plan, rows: Sequence[_Row], attending: Mapping[str, Seconds]) -> tuple[_Row, ...]:
    """Take off the collectives' rows what runs beside work: ring attention beside its attention, the plan's share of the others."""
    cores = plan.communication_cores
    ringed: list[_Row] = []
    for one in rows:
        if one.exchange is None or not one.exchange.ring:
            ringed.append(one)
            continue
        beside = attending.get(one.exchange.place, 0.0)
        added = overlapped_time(compute=beside, communication=one.row.time, overlap=1.0, cores=cores) - beside
        ringed.append(replace(one, row=replace(one.row, time=added), lower=minimum(one.lower, added)))
    others = [one for one in ringed if one.exchange is not None and not one.exchange.ring]
    sent = total([one.whole for one in others])
    if plan.overlap == 0.0 or not others:
        return tuple(ringed)
    work = total([one.whole for one in ringed if one.exchange is None])
    least = total([one.lower * one.row.count for one in ringed if one.exchange is None])
    some = sent > 0.0
    spread = where(some, sent, 1.0 + 0.0 * sent)
    given = {"communication": sent, "overlap": plan.overlap, "cores": cores}
    shown = where(some, (overlapped_time(compute=work, **given) - work) / spread, 0.0 * sent)
    bound = where(some, (overlapped_time(compute=least, **given) - least) / spread, 0.0 * sent)
    chosen = {id(one) for one in others}
    return tuple(
        replace(one, row=replace(one.row, time=one.row.time * shown), lower=one.lower * bound) if id(one) in chosen else one
        for one in ringed
    )


# ---- the path through the pipeline ----------------------------------------------------------------------------------------------


def _path(context: _Context, phases: Sequence[_Phase]) -> list[tuple[_Row, Count]]:
    """Return every row with how often it lies on the path that sets the time, its own repetitions aside.

    Prefill fills and drains the pipeline once; decode goes round it without end.
    """
    found: list[tuple[_Row, Count]] = []
    for decoding in sorted({row.decoding for phase in phases for row in phase.rows}):
        mine = [phase for phase in phases if phase.rows and phase.rows[0].decoding == decoding]
        for phase, count in zip(mine, _passages(context, mine, decoding), strict=True):
            found += [(replace(row, stage=phase.stage.name), count) for row in phase.rows]
    return found


def _passages(context: _Context, phases: Sequence[_Phase], decoding: bool) -> list[Count]:
    """Return how often a micro-batch's time in each stage counts.

    With the times that is `pipeline_time`, in decode `steady_period`; where the host holds chunks back, the way through all stages
    and a period for each further chunk.
    """
    layout = context.split.layout
    micro, virtual = float(layout.micro_batches), float(layout.chunks)
    cut = context.chunks
    times = [phase.time for phase in phases]
    slowest, which = times[0], 0.0 * times[0]
    for index, time in enumerate(times[1:], start=1):
        which = where(time > slowest, float(index), which)
        slowest = maximum(slowest, time)
    fill = total([time * phase.stage.stages for time, phase in zip(times, phases, strict=True)])
    found: list[Count] = []
    for index, phase in enumerate(phases):
        own = where(which == float(index), 1.0, 0.0 * which)
        if decoding:
            queues = steady_period(fill=fill, slowest=slowest, micro_batches=micro) > fill
            found.append(where(queues, own * micro, float(phase.stage.stages) + 0.0 * own))
        else:
            found.append(pipeline_time(fill=float(phase.stage.stages), slowest=own, micro_batches=micro * cut, chunks=virtual))
    held = _held_back(context, phases)
    if decoding or held is None:
        return found
    period, weights = held
    waits, after = period > slowest, micro * cut - 1.0
    return [
        where(waits, phase.stage.stages + after * (weight + 0.0 * waits), count)
        for phase, weight, count in zip(phases, weights, found, strict=True)
    ]


def _held_back(context: _Context, phases: Sequence[_Phase]) -> tuple[Seconds, list[Count]] | None:
    """Return the time between two chunks of a prompt where the host holds them back, and how often each stage's time is in it.

    With F chunks in flight it is 1/F of the way. Where the kernels of a stage of N layers do not fit in the launch queue, which
    holds those of Q, the host stops in every stage until (N − Q)/N of it has run.
    """
    stack = context.stack
    if stack is None or is_zero(stack.chunks_in_flight) or context.split.layout.pipeline == 1:
        return None
    stages = [float(phase.stage.stages) for phase in phases]
    fill = total([phase.time * count for phase, count in zip(phases, stages, strict=True)])
    period, weights = fill / stack.chunks_in_flight, [count / stack.chunks_in_flight for count in stages]
    layers = max(float(layer_count(_layers_of(context, phase))) for phase in phases)
    if is_zero(stack.queued_layers) or layers <= stack.queued_layers:
        return period, weights
    queued = stack.queued_layers / layers / sum(stages)  # of each stage's time, that the host runs ahead
    slow = [count * (1.0 - queued) for count in stages]
    serial = fill * (1.0 - queued)
    longer = serial > period
    return maximum(period, serial), [where(longer, one, other) for one, other in zip(slow, weights, strict=True)]


def _layers_of(context: _Context, phase: _Phase) -> list[Operation]:
    return [one for one in phase.stage.operations if _in_phase(context.scenario, one.place, False)]


def _on_path(one: _Row, count: Count) -> OperationEstimate:
    """Return a row as the breakdown has it: named by its stage, as often as it lies on the path."""
    stage = f"{one.stage}: " if one.stage else ""
    return replace(one.row, name=stage + one.row.name, count=one.row.count * count)


# ---- all chips ------------------------------------------------------------------------------------------------------------------


def _of_all_chips(
    context: _Context, found: Estimate, phases: Sequence[_Phase], held: Mapping[int, Capacity], lower: Seconds
) -> Estimate:
    """Replace what an estimate has of one chip by what all chips do: flops, bytes, energy."""
    layout, main = context.split.layout, context.machine.levels[-1].name
    work: list[Cost] = []
    for phase in phases:
        stage, decoding = phase.stage, phase.rows[0].decoding if phase.rows else False
        averaged = stage.mean is not stage.operations
        chip_rows = _chip_rows(context, stage.mean, held[id(stage)], decoding) if averaged else []
        rows = [one for _, one in chip_rows] if averaged else [one for one in phase.rows if one.exchange is None]
        costs = [one.row.cost.times(one.row.count) for one in rows]
        costs += [_mean_cost(one.row.cost, one.exchange).times(one.row.count) for one in phase.rows if one.exchange is not None]
        passes = stage.chips * layout.micro_batches * (1.0 if decoding else context.chunks)
        work.append(merged(costs).times(passes))
    whole = merged(work)
    energy = found.energy
    spent = whole.energy
    if energy is not None:
        chip, level, waiting = context.machine.chip, context.level, found.cost.time.get(HOST, 0.0)
        spent = within_limit(chip, level, spent, found.time - waiting, layout.chips)
        static = standing(chip, level, found.time, waiting)
        if static is not None:
            spent = {**spent, "static": static * layout.chips}
        energy = total(list(spent.values()))
    moved = whole.bytes[main]
    return replace(
        found,
        time_lower=lower,
        flops=whole.flops,
        bytes=whole.bytes,
        intensity=where(moved > 0, whole.flops / where(moved > 0, moved, 1.0), float("inf")),
        energy=energy,
        cost=Cost(
            time=found.cost.time, energy=spent if energy is not None else found.cost.energy, flops=whole.flops, bytes=whole.bytes
        ),
        notes=(*found.notes, *context.split.notes),
    )


def _mean_cost(cost: Cost, exchange: Exchange) -> Cost:
    """Return a collective's cost on an average chip, where the busiest one has more to receive."""
    return replace(cost, bytes={tier: sent / exchange.excess for tier, sent in cost.bytes.items()})


def communication(found: Estimate, chips: Count) -> dict[str, dict[str, Any]]:
    """Return by network tier the bytes that a chip sends, mean over the chips, and the time on the path that sets the step."""
    tiers = [name for name in found.cost.time if name.startswith(NETWORK)]
    return {name.removeprefix(NETWORK): {"bytes": found.bytes[name] / chips, "time": found.cost.time[name]} for name in tiers}
