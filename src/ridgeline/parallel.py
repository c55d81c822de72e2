"""One step on many chips: the stages of a partition timed, their collectives costed, the pipeline filled, the memory of each chip.

Rows of the breakdown are those of one chip of each stage, as often as they lie on the path that sets the time; flops, bytes and
energy of the estimate are of all chips.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ridgeline.arrays import is_scalar, maximum, minimum, total, where
from ridgeline.costs.energy import static_energy
from ridgeline.costs.ideal import Machine, Residency
from ridgeline.costs.parallel import overlapped_time, pipeline_time, steady_period
from ridgeline.costs.rates import with_stream
from ridgeline.errors import InputError
from ridgeline.estimate import assemble, largest, operation_costs, operation_estimate, processed_tokens, running
from ridgeline.mapping.capacity import capacity, moved_time
from ridgeline.mapping.collectives import CollectiveCost, collective_cost
from ridgeline.mapping.epilogue import Fusion
from ridgeline.mapping.fusion import fuse
from ridgeline.mapping.partition import Exchange, Partition, Stage, partition
from ridgeline.quantities import Bytes, BytesPerSecond, Count, Seconds
from ridgeline.results import Capacity, Cost, Estimate, Operation, OperationEstimate, merged
from ridgeline.specs.model import ConvolutionalModel, Model
from ridgeline.specs.plan import Plan
from ridgeline.specs.precision import Precision
from ridgeline.specs.scenario import Scenario
from ridgeline.specs.system import NetworkTier, System

NETWORK = "network."


@dataclass(frozen=True, kw_only=True, eq=False)
class _Row:
    """An operation or a collective of a chip's micro-batch; `time` is what it adds, `lower` the least it can."""

    row: OperationEstimate
    decoding: bool
    lower: Seconds
    exchange: Exchange | None = None
    stage: str = ""

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
    on the system. Neglected: the memory traffic and the energy of collectives.
    """
    if scenario.phase == "train":
        raise InputError("a plan is of inference: a training step is analysed on one chip, without --plan")
    chip = system.chip
    precision = with_stream(chip, precision)
    split = partition(model, scenario, precision, plan, system.tier)
    machine = Machine.of(chip, precision.accumulate, residency)
    held = {id(stage): _held(system, stage, split, precision, level) for stage in split.stages}
    context = _Context(machine, system.tier, level, fusion, split, scenario)
    phases = [_phase(context, stage, held[id(stage)], decoding) for decoding in _phases(scenario) for stage in split.stages]
    path = _path(split, phases)
    rows = tuple(_on_path(one, count) for one, count in path if not (is_scalar(count) and count == 0.0))
    found = assemble(machine, level, rows, _fullest(list(held.values())), processed_tokens(model, scenario))
    lower = total([one.lower * one.row.count * count for one, count in path])
    return _of_all_chips(context, found, phases, held, lower)


def plan_capacity(
    system: System, model: Model | ConvolutionalModel, scenario: Scenario, precision: Precision, plan: Plan
) -> Capacity:
    """Return what the fullest chip of a plan keeps, without costing the step."""
    precision = with_stream(system.chip, precision)
    split = partition(model, scenario, precision, plan, system.tier)
    return _fullest([_held(system, stage, split, precision, "ideal") for stage in split.stages])


@dataclass(frozen=True, eq=False)
class _Context:
    """What every stage is timed with."""

    machine: Machine
    tiers: Sequence[NetworkTier]
    level: str
    fusion: Fusion
    split: Partition
    scenario: Scenario


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
    cache: dict[tuple[Any, ...], CollectiveCost] = {}
    after: dict[str, list[_Row]] = {}
    for exchange in stage.exchanges:
        if _in_phase(context.scenario, exchange.place, decoding):
            after.setdefault(exchange.place, []).append(_exchange_row(context.tiers, exchange, decoding, cache))
    rows: list[_Row] = []
    for index, (place, row) in enumerate(chip_rows):
        rows.append(row)
        if index + 1 == len(chip_rows) or chip_rows[index + 1][0] != place:
            rows += after.pop(place, [])
    rows += [
        _exchange_row(context.tiers, one, decoding, cache)
        for one in stage.sends
        if context.scenario.phase != "generate" or one.place.startswith("decode") == decoding
    ]
    attending = _attention_times(chip_rows)
    return _Phase(stage=stage, rows=_hidden(context.split.plan, rows, attending))


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
        found.append((operation.place, _Row(row=row, decoding=decoding, lower=lower)))
    return found


def _attention_times(rows: Sequence[tuple[str, _Row]]) -> dict[str, Seconds]:
    found: dict[str, Seconds] = {}
    for place, one in rows:
        if one.row.group == "attention":
            found[place] = found.get(place, 0.0) + one.row.time
    return found


def _exchange_row(
    tiers: Sequence[NetworkTier], exchange: Exchange, decoding: bool, cache: dict[tuple[Any, ...], CollectiveCost]
) -> _Row:
    """Return a collective as a row: time by tier, bytes that a chip sends by tier."""
    key = (exchange.kind, exchange.members, exchange.stride, exchange.bytes if is_scalar(exchange.bytes) else id(exchange.bytes))
    if key not in cache:
        cache[key] = collective_cost(tiers, exchange.kind, exchange.bytes, exchange.members, stride=exchange.stride)
    found = cache[key]
    times = _time_by_tier(found, tiers)
    cost = Cost(
        time={NETWORK + tier: time for tier, time in times.items()},
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
    )
    return _Row(row=row, decoding=decoding, lower=found.time, exchange=exchange)


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


def _path(split: Partition, phases: Sequence[_Phase]) -> list[tuple[_Row, Count]]:
    """Return every row with how often it lies on the path that sets the time, its own repetitions aside.

    Prefill fills and drains the pipeline once; decode goes round it without end.
    """
    found: list[tuple[_Row, Count]] = []
    for decoding in sorted({row.decoding for phase in phases for row in phase.rows}):
        mine = [phase for phase in phases if phase.rows and phase.rows[0].decoding == decoding]
        for phase, count in zip(mine, _passages(split, mine, decoding), strict=True):
            found += [(replace(row, stage=phase.stage.name), count) for row in phase.rows]
    return found


def _passages(split: Partition, phases: Sequence[_Phase], decoding: bool) -> list[Count]:
    """Return how often a micro-batch's time in each stage counts; with the times that is `pipeline_time` or `steady_period`."""
    micro, chunks = float(split.layout.micro_batches), float(split.layout.chunks)
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
            found.append(pipeline_time(fill=float(phase.stage.stages), slowest=own, micro_batches=micro, chunks=chunks))
    return found


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
        work.append(merged(costs).times(float(stage.chips * layout.micro_batches)))
    whole = merged(work)
    energy = found.energy
    spent = whole.energy
    if energy is not None:
        static = context.machine.chip.package.idle_power
        if static is not None:
            spent = {**spent, "static": static_energy(time=found.time, power=static * layout.chips)}
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
