"""Explorations, queries, sensitivities, solutions and plans as tables of text."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ridgeline.api.analysis import Analysis
from ridgeline.api.explore import Exploration, Optimised, unit_at
from ridgeline.api.plan import Planned
from ridgeline.api.sensitivity import Sensitivity
from ridgeline.api.solve import TARGETS, Solved
from ridgeline.errors import InputError
from ridgeline.quantities import show
from ridgeline.search.explore import METRICS
from ridgeline.specs.base import quantities

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
    volumes = _table("seed", "NSGA-II", "random search")
    for seed, evolved, drawn in found.hypervolumes:
        volumes.add_row(str(seed), f"{evolved:.4f}", f"{drawn:.4f}")
    notes = [f"share of the box that each front dominates, after {found.budget:,} points each; {found.seconds:.3g} s in all"]
    return Group(Text(said, style="bold"), table, volumes, *(Text(note, style="dim") for note in notes))


def _shown(found: Exploration | Optimised) -> list[str]:
    space = found.space
    labels = [name for name in space.groups[0].labels if len({one.labels[name] for one in space.groups}) > 1]
    names = [*labels, *(name for name, values in space.axes.items() if len(values) > 1), *space.formulas, *space.objectives]
    return list(dict.fromkeys(names))


def _cells(found: Exploration | Optimised, row: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    chip = found.space.groups[0].chip
    known = quantities(chip)
    cells: list[str] = []
    for name in names:
        unit = METRICS.get(name) or (unit_at(chip, name) if name in known else "1")
        value = row[name]
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
    table = _table("quantity", "value", "time", "below", "above", "energy")
    machine = found.base.chip if found.base.spread is None else found.base.spread.system
    moving = [one for one in found.rows if abs(one.time) > 5e-4 or abs(one.energy or 0.0) > 5e-4]
    for one in moving:
        unit = unit_at(machine, one.path)
        value = f"{one.value:,.6g}" if unit == "1" else show(one.value, unit)
        table.add_row(one.path, value, *(_slope(each) for each in (one.time, one.below, one.above, one.energy)))
    notes = [f"per cent for one per cent more; {found.step:.2%} to either side; below and above differ at a kink or step"]
    notes.append(f"{len(found.rows) - len(moving)} more quantities move neither")
    notes += [f"{one.path}: {one.note}" for one in found.rows if one.note]
    return Group(Text(_headline(found.base), style="bold"), table, *(Text(note, style="dim") for note in notes))


def _slope(value: float | None) -> str:
    return "–" if value is None else f"{value + 0.0:+.3f}"


def solved_tables(found: Solved) -> RenderableType:
    """Return the value, what it gives, and the proof that the neighbour fails."""
    solution, unit = found.solution, _unit(found)
    value = f"{solution.value:,.6g}" if unit == "1" else f"{show(solution.value, unit, 6)}"
    asked = [f"{name} {'≤' if TARGETS[name][1] else '≥'} {show(limit, TARGETS[name][0])}" for name, limit in found.targets.items()]
    asked += [f"bound {found.bound}"] if found.bound else []
    what = "largest" if solution.most else "least"
    lines = [Text(f"{what} {found.quantity}: {value}", style="bold"), Text(f"for {', '.join(asked) or 'what the memory holds'}")]
    lines.append(Text(f"there: {_headline(found.at)}"))
    if solution.neighbour is not None:
        lines.append(Text(f"at {solution.neighbour:.10g} it fails: {found.reason}"))
    else:
        lines.append(Text(found.reason))
    lines.append(Text(f"searched from {solution.low:g} to {solution.high:g}, {solution.evaluations} steps costed", style="dim"))
    return Group(*lines)


def _unit(found: Solved) -> str:
    machine = found.at.chip if found.at.spread is None else found.at.spread.system
    try:
        return unit_at(machine, found.quantity)
    except (AttributeError, IndexError, InputError):
        return "1"


# ---- plan -------------------------------------------------------------------------------------------------------------------


def planned_tables(found: Planned) -> RenderableType:
    """Return plans best first, and those that cannot be with their reasons."""
    table = _table("plan", "precision", "batch", "TTFT", "TPOT", "output tokens/s", "decode", "prefill", "free", "front", "")
    for one in found.plans[:_ROWS]:
        table.add_row(
            one.plan,
            one.precision,
            f"{one.batch:,.0f}",
            show(one.ttft, "s"),
            show(one.tpot, "s"),
            f"{one.throughput:,.0f}",
            one.decode_bound,
            one.prefill_bound,
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
    more = len(found.refused) - len(refused)
    notes = [
        f"level {found.level}; requests do not wait: `serve` plays them",
        *([f"{more} more cannot be: --json"] if more > 0 else []),
    ]
    return Group(Text(said, style="bold"), table, *refused, *(Text(note, style="dim") for note in notes))
