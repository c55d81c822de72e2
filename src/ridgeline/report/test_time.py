"""Test-time compute as a record in SI units, as tables of text and as a picture."""

from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ridgeline.api.test_time import ComputeScaling
from ridgeline.quantities import show
from ridgeline.report.money import rate_record
from ridgeline.report.panels import Curve, Panel, PanelPicture
from ridgeline.report.records import plain
from ridgeline.search.test_time import Point

_ROWS = 40
_COSTS = {"dollars": "USD", "machine_time": "s", "energy": "J"}


def scaling_record(found: ComputeScaling) -> dict[str, Any]:
    """Return every point, and by queries at once the cheapest ways to each accuracy."""
    return plain(
        {
            "model": found.model.name,
            "chip": found.chip.name,
            "plan": None if found.spread is None else found.spread.plan.text,
            "precision": found.precision.name,
            "level": found.level,
            "method": found.search.method,
            "prompt": found.prompt,
            "critical_batch": found.critical_batch,
            "cost": found.cost,
            "quality": None if found.quality is None else found.quality.name,
            "points": [_point(one) for one in found.points],
            "ladder": [
                {
                    "queries": queries,
                    "rungs": [
                        {
                            "accuracy": rung.accuracy,
                            "cheaper": rung.cheaper,
                            "serial": None if rung.serial is None else _point(rung.serial),
                            "parallel": None if rung.parallel is None else _point(rung.parallel),
                        }
                        for rung in rungs
                    ],
                    "crossovers": [{"accuracy": accuracy, "cheaper": name} for accuracy, name in found.crossovers[queries]],
                }
                for queries, rungs in found.ladders.items()
            ],
            "doubling": [
                {"queries": queries, "chain": chain, "samples": samples} for (queries, chain), samples in found.doubling.items()
            ],
            "money": None if found.rate is None else rate_record(found.rate),
            "notes": list(found.notes),
        }
    )


def _point(one: Point) -> dict[str, Any]:
    return {**one._asdict(), **{f"{name}_per_solved": one.solved(name) for name in _COSTS}}


# ---- tables -----------------------------------------------------------------------------------------------------------------


def scaling_tables(found: ComputeScaling) -> RenderableType:
    """Return the points, the ladder of accuracies with where serial and parallel cross, and what was assumed."""
    how = "" if found.spread is None else f" as {found.spread.plan.text}"
    title = (
        f"{found.model.title or found.model.name} on {found.chip.title or found.chip.name}{how}, {found.precision.name}: "
        f"{found.prompt:g} tokens of prompt, {found.search.method} samples, critical batch {found.critical_batch:.0f}"
    )
    parts: list[RenderableType] = [Text(title, style="bold"), _points_table(found)]
    parts += [_ladder_table(found, queries) for queries in found.ladders]
    parts += [Text(line) for line in _sentences(found)]
    return Group(*parts, *(Text(note, style="dim") for note in (f"level {found.level}", *found.notes)))


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 1))
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _points_table(found: ComputeScaling) -> Table:
    unit = _COSTS[found.cost]
    columns = ("queries", "samples", "chain", "batch", "of critical", "time", "a query", "accuracy", "a solved query", "bound")
    table = _table(*columns)
    for one in found.points[:_ROWS]:
        value, solved = getattr(one, found.cost), one.solved(found.cost)
        row = (
            f"{one.queries:g}",
            f"{one.samples:g}",
            f"{one.chain:,.0f}",
            f"{one.sequences:,.0f}",
            f"{one.fill:.3g}",
            show(one.time, "s") if one.feasible else f"{show(one.short, 'B')} short",
            show(value, unit) if one.feasible else "–",
            "–" if one.accuracy is None else f"{one.accuracy:g}",
            show(solved, unit) if solved is not None and one.feasible else "–",
            one.bound,
        )
        table.add_row(*row)
    if len(found.points) > _ROWS:
        table.add_row(f"… {len(found.points) - _ROWS} more: --json")
    return table


def _ladder_table(found: ComputeScaling, queries: float) -> Table:
    unit = _COSTS[found.cost]

    def said(one: Point | None) -> str:
        solved = None if one is None else one.solved(found.cost)
        return "–" if one is None or solved is None else f"{one.samples:g} × {one.chain:,.0f} tokens: {show(solved, unit)}"

    table = _table(f"accuracy, {_queries(queries)}", "serial", "parallel", "cheaper")
    for one in found.ladders[queries]:
        table.add_row(f"{one.accuracy:g}", said(one.serial), said(one.parallel), one.cheaper)
    return table


def _queries(count: float) -> str:
    return "1 query" if count == 1 else f"{count:g} queries"


def _sentences(found: ComputeScaling) -> list[str]:
    lines: list[str] = []
    for queries, crossed in found.crossovers.items():
        if not crossed:
            continue
        first, *rest = crossed
        line = f"{_queries(queries)} at once: {first[1]} is cheaper"
        line += (
            "".join(f", from an accuracy of {accuracy:g} on {name}" for accuracy, name in rest) or " at every accuracy of the curve"
        )
        lines.append(line)
    for (queries, chain), samples in found.doubling.items():
        what = f"{samples:g} samples take" if samples is not None else "no number of samples that was asked and fits takes"
        lines.append(f"{_queries(queries)}, {chain:,.0f} tokens: {what} twice the time of one")
    return lines[:12]


# ---- picture ----------------------------------------------------------------------------------------------------------------


def scaling_picture(found: ComputeScaling) -> PanelPicture:
    """Describe time over the batch, and, with a curve, accuracy over the cost of a solved query."""
    able = [one for one in found.points if one.feasible]
    chains = sorted({one.chain for one in able})
    queries = sorted({one.queries for one in able})
    curves: list[Curve] = []
    for asked in queries:
        for chain in chains:
            mine = sorted((one for one in able if (one.queries, one.chain) == (asked, chain)), key=lambda one: one.sequences)
            name = f"{_queries(asked)}, {chain:,.0f} tokens"
            if mine:
                curves.append(Curve(name, [one.fill for one in mine], [one.time for one in mine], marked=True))
    panels = [Panel("time, s", curves, x_label="sequences over the critical batch", x_log=True, y_log=True)]
    unit = _COSTS[found.cost]
    solved: list[Curve] = []
    for asked in queries:
        for kind in ("serial", "parallel"):
            mine = [
                (one.accuracy, one.solved(found.cost))
                for one in able
                if one.queries == asked and (one.samples == 1) == (kind == "serial") and one.accuracy
            ]
            pairs = sorted((accuracy, cost) for accuracy, cost in mine if cost is not None and accuracy is not None)
            if pairs:
                solved.append(Curve(f"{kind}, {_queries(asked)}", [x for x, _ in pairs], [y for _, y in pairs], marked=True))
    if solved:
        panels.append(Panel(f"{found.cost.replace('_', ' ')} of a solved query, {unit}", solved, x_label="accuracy", y_log=True))
    said = f"{found.precision.name}, {found.search.method} samples, level {found.level}"
    return PanelPicture(f"Test-time compute: {found.model.name} on {found.chip.name}", said, panels)
