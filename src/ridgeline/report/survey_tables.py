"""The survey, the comparison of chips, the trends and the levers as tables of text."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ridgeline.api.levers import Effect, Levers
from ridgeline.api.survey import ChipRow, ServiceRow, Survey
from ridgeline.api.trends import Trends
from ridgeline.quantities import show
from ridgeline.survey.normalise import Cell, Normalised, shown
from ridgeline.survey.spread import Way
from ridgeline.survey.trends import Fit

_MARKS = {"seen": "", "secondary": "~", "recalled": "?", "derived": "", "computed": "*"}
_LEGEND = "~ from a secondary source, ? recalled, * computed here; – not published"


def _table(*columns: str) -> Table:
    return Table(*columns, box=None, padding=(0, 1))


# ---- the survey -------------------------------------------------------------------------------------------------------------


def survey_tables(found: Survey) -> RenderableType:
    """Return the survey: every accelerator as published and at the node, ranks, what could not be normalised, the example."""
    listed = _by_rank(found)
    rules = [f"rule {found.rule.text}"]
    if found.fpga_rule is not found.rule:
        rules.append(f"FPGAs by {found.fpga_rule.text}")
    return Group(
        Text(f"{len(found.rows)} published accelerators; {'; '.join(rules)}", style="bold"),
        _survey_table(found, [one for one in listed if one.is_normalised]),
        Text(_LEGEND, style="dim"),
        *_rankings(found),
        Text("Not at the node, and why", style="bold"),
        _reasons([one for one in listed if not one.is_normalised]),
        Text("The survey's example: AccelTran-Server, 372 000 GOP/s at 14 nm, printed as 363 647 at 16 nm", style="bold"),
        _example(found),
    )


def _by_rank(found: Survey) -> list[Normalised]:
    places = {place.name: place.rank for place in next(iter(found.ranks.values()), ())}
    return sorted(found.rows, key=lambda one: places.get(one.accelerator.name, len(places) + 1))


def _survey_table(found: Survey, rows: Sequence[Normalised]) -> Table:
    size = f"{found.rule.target * 1e9:g} nm"
    table = _table("accelerator", "year", "platform", "nm", "performance", f"at {size}", "efficiency", f"at {size}", "")
    for one in rows:
        row = one.accelerator
        nodes = "/".join(f"{node * 1e9:g}" for node in row.nodes)
        table.add_row(
            row.name,
            _year(row.cell("year")),
            row.text("platform"),
            nodes + _mark(row.cell("node")),
            shown("performance", row.value("performance")) + _mark(row.cell("performance")),
            shown("performance", one.performance),
            _efficiency(row.value("efficiency")) + _mark(row.cell("efficiency")),
            _efficiency(one.efficiency),
            "at this node" if one.rule == "as published" else "",
        )
    return table


def _mark(cell: Cell | None) -> str:
    mark = "" if cell is None else _MARKS.get(cell.source.confidence, "~")
    return f" {mark}" if mark else ""


def _year(cell: Cell | None) -> str:
    return "" if cell is None or cell.low is None else f"{cell.low:.0f}"


def _efficiency(value: float | None) -> str:
    return "–" if value is None else show(value, "OP/s/W", 4)


def _rankings(found: Survey) -> list[RenderableType]:
    parts: list[RenderableType] = []
    for by, places in found.ranks.items():
        if by == "speed-up":
            line = ", ".join(f"{place.rank} {place.name} {place.value:g}×" for place in places)
            parts.append(Text(f"speed-up against {places[0].against if places else 'nothing'}: {line or 'none'}"))
        else:
            parts.append(Text(f"by {by}: " + ", ".join(f"{place.rank} {place.name}" for place in places[:10])))
    named = ", ".join(f"{name or 'nothing named'} ({count})" for name, count in list(found.baselines.items())[:8])
    parts.append(Text(f"speed-ups are against {named} …: never in one ranking; --rank speed-up --baseline NAME", style="dim"))
    return parts


def _reasons(rows: Sequence[Normalised]) -> Table:
    table = _table("accelerator", "platform", "why")
    for one in rows:
        table.add_row(one.accelerator.name, one.accelerator.text("platform"), one.reason or "")
    return table


def _example(found: Survey) -> Table:
    table = _table("rule", "GOP/s", "difference")
    near = [one for one in found.example if one.rule.startswith("equations")][:5]
    named = [one for one in found.example if not one.rule.startswith("equations")]
    for one in (*near, *named):
        table.add_row(one.rule, f"{one.value / 1e9:,.0f}", f"{one.difference:+.1%}")
    within = sum(abs(one.difference) < 0.01 for one in found.example)
    table.add_row(f"{within} of {len(found.example)} rules and pairs of voltages are within 1 %", "", "")
    return table


# ---- one model on every chip ------------------------------------------------------------------------------------------------


def comparison_tables(rule: str, rows: Sequence[ChipRow]) -> RenderableType:
    """Return one workload on every chip, the fastest token first, at its own node and with its logic at the rule's."""
    parts: list[RenderableType] = []
    for name in dict.fromkeys(row.workload for row in rows):
        mine = [row for row in rows if row.workload == name]
        answered = sorted((row for row in mine if row.time is not None), key=lambda row: -(row.tokens_per_second or 0.0))
        parts += [Text(f"{name}; normalised: {rule}", style="bold"), _chips_table(answered)]
        parts += [Text(f"{row.chip}: {row.reason}", style="dim") for row in mine if row.reason is not None]
    said = {row.interval.coverage for row in rows if row.interval is not None}
    shares = ", ".join(f"{float(one):.0%}" for one in sorted(said, key=float))
    interval = f"interval: {shares} of measurements are expected in it, – where no residuals are known; " if said else ""
    ideal = "level ideal is a bound that no machine beats, mapped an expectation: --level ideal compares bounds with bounds"
    parts.append(Text(f"{interval}chips: as many as hold the model; {ideal}", style="dim"))
    return Group(*parts)


def _chips_table(rows: Sequence[ChipRow]) -> Table:
    head = ("chip", "nm", "chips", "level", "time", "interval", "tokens/s", "J/token", "used", "binds")
    table = _table(*head, "normalised time", "J/token", "binds")
    for row in rows:
        moved = row.moved
        node = "" if row.node is None else f"{row.node * 1e9:g}"
        cells = (row.chip, node, str(row.chips), row.level, *_times(row), _rate(row), _joules(row), f"{row.utilisation or 0.0:.1%}")
        after = (
            (row.moved_reason or "", "", "") if moved is None else (show(moved.time or 0.0, "s"), _joules(moved), moved.bound or "")
        )
        table.add_row(*cells, row.bound or "", *after)
    return table


def _times(row: ChipRow) -> tuple[str, str]:
    interval, time = row.interval, row.time or 0.0
    if interval is None:
        return show(time, "s"), "–"
    return show(time, "s"), f"{show(time * float(interval.lower), 's')} to {show(time * float(interval.upper), 's')}"


def _rate(row: ChipRow) -> str:
    return f"{row.tokens_per_second or 0.0:,.4g}"


def _joules(row: ChipRow) -> str:
    return "–" if row.energy_per_token is None else show(row.energy_per_token, "J")


def services_table(rows: Sequence[ServiceRow]) -> RenderableType:
    """Return decode of one stream on static-dataflow and near-memory machines beside published rates."""
    table = _table(
        "model", "chip", "format", "chips", "tokens/s, serial", "binds", "fastest split", "tokens/s", "published", "ratios"
    )
    for row in rows:
        found, serial, fast = row.spread, row.spread.serial, row.spread.fastest
        split = f"{fast.tensor} × {fast.stages}" if fast is not serial else ""
        best = f"{found.tokens_per_second(fast):,.4g}" if fast is not serial else ""
        published = "none known" if row.published is None else f"{row.published:,.4g}"
        ratios = "" if row.published is None else f"{_ratio(row, serial)} {_ratio(row, fast) if fast is not serial else ''}"
        cells = (row.model, row.chip, row.precision, str(serial.chips), f"{found.tokens_per_second(serial):,.4g}", serial.bound)
        table.add_row(*cells, split, best, published, ratios)
    return Group(table, Text("one stream; serial: chips one after another; split: tensor × stages, results joined twice a layer"))


def _ratio(row: ServiceRow, way: Way) -> str:
    return f"{row.ratio(way) or 0.0:.2f}"


# ---- trends -----------------------------------------------------------------------------------------------------------------


def trends_tables(found: Trends) -> RenderableType:
    """Return the fits with their intervals, projections marked as such, and intensities beside the balance of chips."""
    table = _table("trend", "points", "years", "in two years", "95 %", "in 20 years", "printed")
    for name, one in found.fits.items():
        printed = found.printed.get(name)
        cells = (name, str(one.points), f"{one.first:.0f}–{one.last:.0f}", f"×{one.rate:.4g}", f"{one.low:.4g} to {one.high:.4g}")
        table.add_row(*cells, _grown(one), "" if printed is None else f"×{printed:g}")
    ahead = _table("extrapolated, not measured", "year", "value", "95 % of a new point")
    for name in ("peak FLOPS", "DRAM bandwidth", "interconnect bandwidth", "balance of chips"):
        for one in found.projections.get(name, ())[-1:]:
            ahead.add_row(name, f"{one.year:.0f}", f"{one.value:.4g}", f"{one.low:.4g} to {one.high:.4g}")
    bars = _table("model", "tokens", "FLOP/B")
    for one in found.intensities:
        bars.add_row(f"{one.model}, {one.kind}", str(one.tokens), f"{one.intensity:.4g}")
    newest = _table("chip", "year", "ops:byte", "latency")
    for one in sorted(found.chips, key=lambda chip: (-chip.year, -chip.balance))[:8]:
        newest.add_row(one.name, str(one.year), f"{one.balance:.4g}", "–" if one.latency is None else show(one.latency, "s"))
    timed = [one for one in found.chips if one.latency is not None]
    said = f"latency of {len(timed)} chips, of which {sum(one.latency_is_estimate for one in timed)} are estimates"
    said += f"; {len(found.chips)} chips have a balance, {len(found.left_out)} have none (--json says why)"
    return Group(
        table,
        Text(said, style="dim"),
        ahead,
        Text("Intensities beside the balance of the newest chips", style="bold"),
        bars,
        newest,
    )


def _grown(one: Fit) -> str:
    return f"×{one.over(20.0):.3g}" if one.last - one.first > 8.0 else ""


# ---- levers -----------------------------------------------------------------------------------------------------------------


def levers_tables(found: Levers) -> RenderableType:
    """Return every lever with its effect on time, energy and memory of a token, and the best pair."""
    base = found.outcome
    title = f"{found.base.model.title or found.base.model.name} on {found.base.chip.title or found.base.chip.name}"
    energy = "" if base.energy_per_token is None else f", {show(base.energy_per_token, 'J')} a token"
    first = f"{title}: {found.base.scenario.phase}, {found.base.precision.name}, level {found.base.estimate.level}"
    second = f"{show(base.time, 's')} a step{energy}, {show(base.capacity, 'B')} of {show(base.available, 'B')}; binds {base.bound}"
    table = _table("lever", "time", "energy", "bytes", "held", "binds", "")
    for one in found.effects:
        _add(table, one)
    parts: list[RenderableType] = [Text(first, style="bold"), Text(second), table]
    if found.best_pair is not None:
        best = _table("best pair", "time", "energy", "bytes", "held", "binds", "")
        _add(best, found.best_pair)
        parts.append(best)
    parts.append(
        Text(
            "ratios of a token to the case without the lever; bytes: across main memory and tier; held: in the main memory; "
            "levers that say `without` show what is there already",
            style="dim",
        )
    )
    return Group(*parts)


def _add(table: Table, one: Effect) -> None:
    if one.result is None:
        table.add_row(one.name, "–", "–", "–", "–", "", one.reason or "")
        return
    cells = (_times_of(one.time), _times_of(one.energy), _times_of(one.bytes), _times_of(one.capacity))
    table.add_row(one.name, *cells, one.result.bound, one.note)


def _times_of(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio:.3f}"
