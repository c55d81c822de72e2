"""What machines, tokens and silicon cost, as records in SI units, tables of text and a picture."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ridgeline.api.money import Made, Money, Rate
from ridgeline.api.token_cost import RequestCost, TokenCost
from ridgeline.quantities import show
from ridgeline.report.panels import Bars, Panel, PanelPicture
from ridgeline.report.records import plain, sources_record

HOUR = 3600.0


def rate_record(rate: Rate) -> dict[str, Any]:
    """Return what a machine costs a second, part by part, with the years of the prices."""
    terms = rate.terms
    names = ("life", "residual", "interest", "electricity", "pue", "hosting", "utilisation")
    return plain(
        {
            "prices": rate.kind,
            "chips": rate.chips,
            "dollars_per_second": rate.whole,
            "parts": {**rate.capital, "hosting": rate.hosting, "electricity": rate.electricity},
            "power": rate.power,
            "overhead_power": rate.overhead,
            "terms": {name: getattr(terms, name) for name in names},
            "years": dict(rate.years),
            "notes": list(rate.notes),
        }
    )


def token_cost_record(found: TokenCost | None, feasible: Any = None) -> dict[str, Any] | None:
    """Return dollars and joules per million tokens, input and output apart; entries of points that do not fit are null."""
    if found is None:
        return None
    sides = {"input": found.input, "output": found.output}
    return {
        "dollars": _masked(found.whole.dollars, feasible),
        "dollars_per_million_tokens": {name: _of(one, "dollars_per_million", feasible) for name, one in sides.items()},
        "joules_per_million_tokens": {name: _of(one, "joules_per_million", feasible) for name, one in sides.items()},
        "unit": found.unit,
        **rate_record(found.rate),
        "notes": [*found.rate.notes, *found.notes],
        "sources": sources_record(found.rate.sources),
    }


def _of(one: Money | None, name: str, feasible: Any) -> Any:
    return None if one is None else _masked(getattr(one, name), feasible)


def _masked(value: Any, feasible: Any) -> Any:
    if feasible is None or np.ndim(feasible) == 0:
        return plain(float(value)) if np.size(value) == 1 else plain(value)
    full = np.broadcast_to(np.asarray(value), np.shape(feasible)).astype(object)
    return plain(np.where(np.asarray(feasible) > 0, full, np.full(np.shape(feasible), None, dtype=object)).tolist())


def made_record(made: Made) -> dict[str, Any]:
    """Return what a package costs to make."""
    at = made.fabrication
    names = ("wafer", "diameter", "edge", "scribe", "defects", "yield_model", "clustering", "layers", "packaging", "assembled")
    return plain(
        {
            "chip": made.chip.name,
            "area": made.area,
            "dies": made.parts,
            "dies_per_wafer": made.dies,
            "yield": made.good,
            "die": made.die,
            "memory": made.memory,
            "packaging": at.packaging,
            "package": made.package,
            "fabrication": {name: getattr(at, name) for name in names},
            "years": dict(at.years),
            "notes": list(made.notes),
        }
    )


def cost_record(name: str, rate: Rate | None, request: RequestCost | None, made: Made | None) -> dict[str, Any]:
    """Return the answer of `cost`."""
    sources = {} if rate is None else dict(rate.sources)
    if made is not None:
        sources |= {f"fabrication.{path}": one for path, one in made.fabrication.sources.items()}
    asked = None
    if request is not None:
        asked = {
            "model": request.decode.model.name,
            "precision": request.decode.precision.name,
            "level": request.decode.estimate.level,
            "plan": None if request.decode.spread is None else request.decode.spread.plan.text,
            "prompt": request.prompt,
            "output": request.output,
            "batch": plain(request.decode.scenario.batch),
            "dollars_per_request": plain(request.dollars),
            **(token_cost_record(request.tokens) or {}),
        }
    return {
        "machine": name,
        "ownership": None if rate is None else rate_record(rate),
        "request": asked,
        "silicon": None if made is None else made_record(made),
        "sources": sources_record(sources),
    }


# ---- tables -----------------------------------------------------------------------------------------------------------------


def dollars(value: float) -> str:
    """Return dollars as people read them.

    >>> dollars(0.1234), dollars(2531.7)
    ('0.123 USD', '2,532 USD')
    """
    return show(value, "USD")


def token_cost_line(found: TokenCost) -> str:
    """Return one line: dollars and joules per million input and output tokens, by which prices of which years."""
    said: list[str] = []
    for name, one in (("input", found.input), ("output", found.output)):
        if one is not None and one.dollars_per_million is not None and one.joules_per_million is not None:
            paid, energy = dollars(float(one.dollars_per_million)), show(float(one.joules_per_million), "J")
            said.append(f"{paid} and {energy} per million {name} {found.unit}")
    return f"{'; '.join(said)} ({_priced_by(found.rate)})"


def token_cost_text(found: TokenCost) -> RenderableType:
    """Return what a step's tokens cost: one line; of several points the range that they span."""
    if not any(np.ndim(one.dollars) for one in (found.input, found.output) if one is not None):
        return Text(token_cost_line(found))
    said: list[str] = []
    for name, one in (("input", found.input), ("output", found.output)):
        if one is not None and one.dollars_per_million is not None:
            low, high = (dollars(float(each)) for each in (np.min(one.dollars_per_million), np.max(one.dollars_per_million)))
            said.append(f"{low} to {high} per million {name} {found.unit}")
    return Text(f"{'; '.join(said)} ({_priced_by(found.rate)}); --json has every point")


def _priced_by(rate: Rate) -> str:
    own = sorted({year for name, year in rate.years.items() if name.endswith((".price", ".rental"))})
    years = ", ".join(map(str, own))
    how = f"rented, prices of {years}" if rate.kind == "rental" else f"bought, prices of {years}, {show_life(rate.terms.life)}"
    used = "" if rate.terms.utilisation == 1 else f", used {rate.terms.utilisation:.0%} of the time"
    return how + used


def show_life(seconds: float) -> str:
    """Return a life in years.

    >>> show_life(5 * 31557600.0)
    '5 years'
    """
    years = seconds / 31557600.0
    return f"{years:g} year{'' if years == 1 else 's'}"


def cost_tables(name: str, rate: Rate | None, request: RequestCost | None, made: Made | None) -> RenderableType:
    """Return the answer of `cost`: a second of the machine, tokens, and its silicon."""
    parts: list[RenderableType] = [Text(f"What {name} costs", style="bold")]
    notes: list[str] = []
    if rate is not None:
        parts.append(_rate_table(rate))
        notes += rate.notes
        notes.append(_terms_line(rate))
    if request is not None:
        parts += [_request_text(request)]
    if made is not None:
        parts.append(_made_table(made))
        notes += made.notes
    return Group(*parts, *(Text(note, style="dim") for note in notes))


def _two(rows: Iterable[tuple[str, ...]], *columns: str) -> Table:
    table = Table(box=None, padding=(0, 1))
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if 0 < index < len(columns) - 1 else "left")
    for row in rows:
        table.add_row(*row)
    return table


def _rate_table(rate: Rate) -> Table:
    parts: Mapping[str, float] = {**rate.capital, "hosting": rate.hosting, "electricity": rate.electricity}
    what = {"hosting": f"for {show(rate.power + rate.overhead, 'W')}", "electricity": "at the chips' power limit"}
    rows = [
        (name, dollars(value * HOUR), f"{value / rate.whole:.0%}", what.get(name, ""))
        for name, value in parts.items()
        if rate.kind == "purchase" or name == "rental"
    ]
    count = f"{rate.chips:g} chip{'' if rate.chips == 1 else 's'}"
    total = ("all", dollars(rate.whole * HOUR), "", f"{count}, {_priced_by(rate)}")
    return _two([*rows, total], "an hour", "", "", "")


def _terms_line(rate: Rate) -> str:
    terms = rate.terms
    if rate.kind == "rental":
        return "a rent contains host, network, energy and the place"
    return (
        f"written off over {show_life(terms.life)} to {terms.residual:.0%}, "
        f"electricity {terms.electricity * 3.6e6:.3g} USD/kWh at a PUE of {terms.pue:g}, "
        f"hosting {terms.hosting * 1e3 * 2629800:.4g} USD/kW a month; "
        f"prices of {', '.join(f'{path} {year}' for path, year in rate.years.items())}, added as they are"
    )


def _request_text(request: RequestCost) -> Text:
    one = request.decode
    how = "" if one.spread is None else f" as {one.spread.plan.text}"
    title, level = one.model.title or one.model.name, one.estimate.level
    return Text(
        f"{title}, {one.precision.name}{how}, {one.scenario.batch:g} sequences, level {level}: "
        f"{token_cost_line(request.tokens)}; a request of {request.prompt} + {request.output} tokens {dollars(request.dollars)}"
    )


def _made_table(made: Made) -> Table:
    at, years = made.fabrication, made.fabrication.years
    memory = made.chip.main_memory
    technology = memory.technology or ""
    per_gigabyte = at.memory.get(technology)

    def of_year(name: str) -> str:
        return f", {years[name]}" if name in years else ""

    rows = [
        (
            "die",
            dollars(made.die),
            f"{_dies(made)}, {made.dies:.1f} a wafer of {dollars(at.wafer)}{of_year('wafer')}; "
            f"yield {made.good:.2f} ({at.yield_model}, {at.defects * 1e-4:g} defects/cm²{of_year('defects')})",
        )
    ]
    if made.memory is not None and per_gigabyte is not None:
        capacity = show(float(memory.capacity or 0.0), "B")
        said = f"{capacity} of {technology} at {per_gigabyte * 1e9:g} USD/GB{of_year(f'memory.{technology}')}"
        rows.append(("memory", dollars(made.memory), said))
    rows.append(("packaging", dollars(at.packaging), f"yield {at.assembled:g}{of_year('packaging')}"))
    rows.append(("package", dollars(made.package), "to make, no margin"))
    return _two(rows, "silicon", "", "")


def _dies(made: Made) -> str:
    each = f"{made.area / made.parts * 1e6:g} mm²"
    return each if made.parts == 1 else f"{made.parts:g} of {each}"


def cost_picture(name: str, rate: Rate | None, request: RequestCost | None, made: Made | None) -> PanelPicture:
    """Describe the parts of an hour's and of a package's cost, and of tokens where they are known."""
    panels: list[Panel] = []
    if rate is not None:
        parts = {**rate.capital, "hosting": rate.hosting, "electricity": rate.electricity}
        parts = {part: value * HOUR for part, value in parts.items() if value > 0}
        panels.append(Panel("USD an hour", bars=[Bars("an hour", list(parts), list(parts.values()))]))
    if request is not None:
        tokens = request.tokens
        sides = {"input": tokens.input, "output": tokens.output}
        values = {side: float(one.dollars_per_million or 0.0) for side, one in sides.items() if one is not None}
        panels.append(Panel("USD per million tokens", bars=[Bars("tokens", list(values), list(values.values()))]))
    if made is not None:
        parts = {"die": made.die, "memory": made.memory or 0.0, "packaging": made.fabrication.packaging}
        panels.append(Panel("USD to make", bars=[Bars("to make", list(parts), list(parts.values()))]))
    return PanelPicture(f"What {name} costs", "" if rate is None else _priced_by(rate), panels)
