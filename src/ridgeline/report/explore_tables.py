"""Explorations, queries, sensitivities, solutions and plans as tables of text."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ridgeline.api.analysis import Analysis
from ridgeline.api.explore import Exploration, Optimised, column_units, unit_at
from ridgeline.api.plan import Planned, title
from ridgeline.api.plan_service import ServedPlan
from ridgeline.api.sensitivity import Sensitivity
from ridgeline.api.solve import TARGETS, Solved
from ridgeline.errors import InputError
from ridgeline.quantities import show, show_apart
from ridgeline.search.plan import PlanRow

_ROWS = 24


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 1))
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right", no_wrap=index == 0)
    return table


# ---- explore ----------------------------------------------------------------------------------------------------------------


def exploration_tables(found: Exploration) -> RenderableType:
    """Return counts, the best by each objective, and rows spread over the front."""
    counts = found.counts
    said = f"{found.space.name}: {counts.points:,} points, {counts.feasible:,} feasible, {len(found.pareto):,} on the front"
    speed = (
        f"{found.computed:,} computed in {found.seconds:.3g} s, {found.points_per_second:,.0f} points/s" if found.computed else ""
    )
    ruled = [f"{name} rules out {count / counts.points:.3g}" for name, count in counts.ruled_out.items() if count]
    names = _shown(found)
    table = _table("", *names)
    for objective, row in found.best.items():
        table.add_row(f"best {objective}", *_cells(found, row, names))
    step = max(1, len(found.pareto) // _ROWS)
    for row in found.pareto[::step][:_ROWS]:
        table.add_row(f"point {row['point']}", *_cells(found, row, names))
    notes = [
        f"level {found.space.level}; {speed or 'all points were there'}",
        *ruled,
        f"all rows: ridgeline query {found.folder} …",
    ]
    return Group(Text(said, style="bold"), table, *(Text(note, style="dim") for note in notes))


def optimised_tables(found: Optimised) -> RenderableType:
    """Return rows spread over the front that was found, and how far each seed came beside chance."""
    said = f"{found.space.name}: {found.tried:,} of {found.space.points:,} points tried, {len(found.pareto):,} on their front"
    names = _shown(found)
    table = _table("", *names)
    step = max(1, len(found.pareto) // _ROWS)
    for row in found.pareto[::step][:_ROWS]:
        table.add_row(f"point {row['point']}", *_cells(found, row, names))
    sloped = any(one.gradient is not None for one in found.hypervolumes)
    volumes = _table("seed", "NSGA-II", *(["gradients"] if sloped else []), "random search")
    for one in found.hypervolumes:
        shares = [one.nsga2, *([one.gradient or 0.0] if sloped else []), one.random]
        volumes.add_row(str(one.seed), *(f"{share:.4f}" for share in shares))
    notes = [f"share of the box that each front dominates, after {found.budget:,} points each; {found.seconds:.3g} s in all"]
    return Group(Text(said, style="bold"), table, volumes, *(Text(note, style="dim") for note in notes))


def _shown(found: Exploration | Optimised) -> list[str]:
    space = found.space
    labels = [name for name in space.groups[0].labels if len({one.labels[name] for one in space.groups}) > 1]
    names = [*labels, *(name for name, values in space.axes.items() if len(values) > 1), *(one.by for one in space.held)]
    names += [*space.formulas, *space.objectives]
    return list(dict.fromkeys(names))


def _cells(found: Exploration | Optimised, row: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    units = column_units(found.space)
    cells: list[str] = []
    for name in names:
        unit, value = units.get(name, "1"), row[name]
        cells.append(str(value) if isinstance(value, str) else show(value, unit) if unit not in ("1", "1/s") else f"{value:,.6g}")
    return cells


def query_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> RenderableType:
    """Return what a query found."""
    table = Table(*columns, box=None, padding=(0, 1))
    for row in rows:
        table.add_row(*(f"{one:.6g}" if isinstance(one, float) else str(one) for one in row))
    return table


# ---- sensitivity and solve --------------------------------------------------------------------------------------------------


def _headline(found: Analysis) -> str:
    spread = "" if found.spread is None else f" as {found.spread.plan.text}"
    one = found.estimate
    return (
        f"{found.model.title or found.model.name} on {found.chip.title or found.chip.name}{spread}: {found.scenario.phase}, "
        f"{found.precision.name}, {show(float(one.time), 's')}, bound by {one.bound}, level {one.level}"
    )


def sensitivity_tables(found: Sensitivity) -> RenderableType:
    """Return the elasticities that are not zero, the largest first, and how many are."""
    table = _table("quantity", "value", "time", "below", "above", "energy", "cost")
    machine = found.base.chip if found.base.spread is None else found.base.spread.system
    moving = [one for one in found.rows if max(abs(one.time), abs(one.energy or 0.0), abs(one.dollars or 0.0)) > 5e-4]
    for one in moving:
        unit = unit_at(machine, one.path)
        value = f"{one.value:,.6g}" if unit == "1" else show(one.value, unit)
        table.add_row(one.path, value, *(_slope(each) for each in (one.time, one.below, one.above, one.energy, one.dollars)))
    notes = [f"per cent for one per cent more; {found.step:.2%} to either side; below and above differ at a kink or step"]
    notes.append(f"{len(found.rows) - len(moving)} more quantities move neither")
    notes += [f"{one.path}: {one.note}" for one in found.rows if one.note]
    whole = [*(Text(note, style="dim") for note in notes), *_buy_table(found)]
    return Group(Text(_headline(found.base), style="bold"), table, *whole)


def _buy_table(found: Sensitivity) -> list[RenderableType]:
    """Return what to buy next: parts that save time, and what is not known of the others."""
    saving = [one for one in found.buy if one.time < -5e-4 and (one.per_dollar or one.per_square_metre)]
    table = _table("what to buy next", "time", "as much again", "", "saved for 1 USD", "saved for 1 mm²")
    for one in saving:
        area, paid = (None if value is None else show(value, unit) for value, unit in ((one.area, "m2"), (one.dollars, "USD")))
        gains = [_share(one.per_dollar, 1.0), _share(one.per_square_metre, 1e-6)]
        table.add_row(one.name, _slope(one.time), area or "–", paid or "–", *gains)
    notes = list(found.notes)
    if found.buy:
        others = len(found.buy) - len(saving)
        notes += [f"{others} more parts save nothing"] if others else []
    notes += [f"{one.name}: {one.note}" for one in found.buy if one.note]
    return [*([table] if saving else []), *(Text(note, style="dim") for note in notes)]


def _share(value: float | None, factor: float) -> str:
    return "–" if value is None else f"{value * factor:.3%}"


def _slope(value: float | None) -> str:
    return "–" if value is None else f"{value + 0.0:+.3f}"


def solved_tables(found: Solved) -> RenderableType:
    """Return the value, what it gives, and the proof that the neighbour fails."""
    solution, unit = found.solution, _unit(found)
    asked = [f"{name} {'≤' if TARGETS[name][1] else '≥'} {show(limit, TARGETS[name][0])}" for name, limit in found.targets.items()]
    asked += [f"bound {found.bound}"] if found.bound else []
    what = "largest" if solution.most else "least"
    lines = [
        Text(f"{what} {found.quantity}: {_amount(solution.value, unit)}", style="bold"),
        Text(f"for {', '.join(asked) or 'what the memory holds'}"),
    ]
    lines.append(Text(f"there: {_headline(found.at)}"))
    if solution.neighbour is not None:
        beside = _amount(solution.neighbour, unit, solution.value)
        lines.append(Text(f"at {beside} it fails: {found.reason}"))
    else:
        lines.append(Text(found.reason))
    ends = f"{_amount(solution.low, unit)} to {_amount(solution.high, unit)}"
    lines.append(Text(f"searched from {ends}, {solution.evaluations} steps costed", style="dim"))
    return Group(*lines)


def _amount(value: float, unit: str, other: float | None = None) -> str:
    """Return a quantity with six digits, or with as many as tell it from another; a count whole."""
    if unit == "1" and value == int(value):
        return f"{value:,.0f}"
    return show(value, unit, 6) if other is None else show_apart(value, other, unit, 6)


def _unit(found: Solved) -> str:
    machine = found.at.chip if found.at.spread is None else found.at.spread.system
    try:
        return unit_at(machine, found.quantity)
    except (AttributeError, IndexError, InputError):
        return "1"


# ---- plan -------------------------------------------------------------------------------------------------------------------


def planned_tables(found: Planned, served: ServedPlan | None = None) -> RenderableType:
    """Return plans best first, how the best serves requests, and those that cannot be with their reasons."""
    dear = any(one.price is not None for one in found.plans)
    drawn = any(one.power is not None for one in found.plans)
    drafting = any(one.draft for one in found.plans)
    more = [*(["draft"] if drafting else []), *(["power"] if drawn else []), *(["$/M"] if dear else [])]
    table = _table("plan", "precision", "batch", "chunk", "TTFT", "TPOT", "output tokens/s", *more, "binds", "free", "front", "")
    for one in found.plans[:_ROWS]:
        cells = [f"{one.draft:.0f}"] if drafting else []
        cells += ["–" if one.power is None else show(one.power, "W")] if drawn else []
        cells += ["–" if one.price is None else f"{one.price:.3g}"] if dear else []
        table.add_row(
            title(one),
            one.precision,
            f"{one.batch:,.0f}",
            f"{one.chunk:,.0f}" if one.chunk else "whole",
            show(one.ttft, "s"),
            show(one.tpot, "s"),
            f"{one.throughput:,.0f}",
            *cells,
            one.binding,
            show(one.free, "B"),
            "●" if one.front else "",
            one.reason or one.against,
        )
    service = found.service
    said = (
        f"{found.model.title or found.model.name} on {found.count} chips of {found.system.title or found.system.name}: "
        f"{service.prompt} + {service.output} tokens, best {service.aim} first"
    )
    refused = [Text(f"cannot be: {one.plan} in {one.precision}: {one.reason}", style="dim") for one in found.refused[:6]]
    further = len(found.refused) - len(refused)
    notes = [
        *_interval_notes(found.plans[0]),
        *([] if served is None else _served_notes(served)),
        f"level {found.level}; {found.evaluated:,} services in steady state, {len(found.pareto)} of them on the front",
        *([f"{further} more cannot be: --json"] if further > 0 else []),
    ]
    return Group(Text(said, style="bold"), table, *refused, *(Text(note, style="dim") for note in notes))


def _interval_notes(best: PlanRow) -> list[str]:
    if best.interval is None:
        return ["no interval: there are no residuals of this level and chip"]
    low, high = (show(float(one), "s") for one in (best.interval.lower, best.interval.upper))
    return [f"TPOT of the best between {low} and {high} at {best.interval.coverage:.0%} coverage"]


def _served_notes(served: ServedPlan) -> list[str]:
    one = served.metrics
    return [
        f"played at {served.load:.0%} of the best's throughput, {served.rate:.3g} requests/s, {served.policy}: "
        f"TTFT p50 {show(one.ttft.p50, 's')}, p99 {show(one.ttft.p99, 's')}; "
        f"TPOT p50 {show(one.tpot.p50, 's')}, p99 {show(one.tpot.p99, 's')}; {one.tokens_per_second:,.0f} output tokens/s"
    ]
