"""A comparison of machines: for the terminal, as JSON, and as bars with their intervals."""

import math
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ridgeline.api.compare import Compared, Comparison, Order
from ridgeline.quantities import show
from ridgeline.report.money import dollars
from ridgeline.report.panels import Bars, Panel, PanelPicture

_MOST_PAIRS = 12
_SURE = 0.99  # no more is claimed: residuals say little of their tails


def by_energy(found: Comparison) -> tuple[Compared, ...]:
    """Return the machines with the fewest joules a token first, those without an energy last."""
    return tuple(sorted(found.rows, key=lambda one: math.inf if one.energy_per_token is None else one.energy_per_token))


def comparison_record(found: Comparison, *, energy: bool = False) -> dict[str, Any]:
    """Return a comparison as plain data: SI units, fractions; nulls where a machine does not hold the workload."""
    return {
        "rows": [_row_record(one) for one in (by_energy(found) if energy else found.rows)],
        "pairs": [_pair_record(one) for one in found.pairs],
        "order": [one.name for one in found.ranked],
        "order_confidence": found.order_confidence,
        "notes": list(found.notes),
    }


def _row_record(one: Compared) -> dict[str, Any]:
    analysis = one.analysis
    estimate = None if analysis is None else analysis.estimate
    return {
        "name": one.name,
        "title": one.title,
        "feasible": analysis is not None,
        "reason": one.reason or None,
        "count": None if analysis is None else analysis.chips,
        "plan": None if analysis is None or analysis.spread is None else analysis.spread.plan.text,
        "level": None if estimate is None else estimate.level,
        "stack": None if analysis is None or analysis.stack is None else analysis.stack.name,
        "precision": None if analysis is None else analysis.precision.name,
        "time": None if estimate is None else one.time,
        "interval": _interval_record(one),
        "interval_reason": None if estimate is None else estimate.interval_reason or None,
        "tokens_per_second": one.tokens_per_second,
        "energy_per_token": one.energy_per_token,
        "power": one.power,
        "dollars_per_million_tokens": one.dollars_per_million_tokens,
        "dollars_reason": _no_dollars(one),
        "bound": None if estimate is None else estimate.bound,
        "notes": [] if estimate is None else list(estimate.notes),
    }


def _interval_record(one: Compared | Order) -> dict[str, float] | None:
    found = one.interval
    if found is None:
        return None
    return {"coverage": found.coverage, "lower": float(found.lower), "upper": float(found.upper)}


def _no_dollars(one: Compared) -> str | None:
    if one.analysis is None or one.dollars_per_million_tokens is not None:
        return None
    return f"no price of {one.analysis.chip.name} in the catalogue"


def _pair_record(one: Order) -> dict[str, Any]:
    return {
        "faster": one.faster,
        "slower": one.slower,
        "ratio": one.ratio,
        "interval": _interval_record(one),
        "confidence": one.confidence,
    }


def comparison_table(found: Comparison, *, energy: bool = False) -> RenderableType:
    """Return machines side by side, then how sure their order is."""
    table = Table(box=None, pad_edge=False)
    for name in ("machine", "time", "80 % interval", "tokens/s", "J/token", "power", "USD/M tokens", "binds", "stack"):
        table.add_column(name, justify="left" if name in ("machine", "binds", "stack") else "right")
    for one in by_energy(found) if energy else found.rows:
        table.add_row(*_cells(one))
    parts: list[RenderableType] = [table, *(Text(one.reason, style="red") for one in found.rows if one.reason)]
    parts += [Text(f"note: {said}") for said in found.notes]
    parts += [Text(said) for one in found.ranked if (said := _without_interval(one))]
    parts += [Text(order_sentence(one)) for one in found.pairs[:_MOST_PAIRS]]
    if len(found.ranked) > 2:
        order = " < ".join(one.name for one in found.ranked)
        sure = "unknown" if found.order_confidence is None else probability(found.order_confidence)
        parts.append(Text(f"whole order by time, {order}: right with probability {sure}"))
    return Group(*parts)


def _without_interval(one: Compared) -> str:
    """Return why a machine has no interval; empty where it has one."""
    reason = "" if one.analysis is None else one.analysis.estimate.interval_reason
    return f"{one.name}: {reason}" if reason else ""


def _cells(one: Compared) -> tuple[str, ...]:
    if one.analysis is None:
        return one.title, "does not fit", *["–"] * 7
    interval, time = one.interval, one.time
    ends = "–" if interval is None else " to ".join(show(time * float(end), "s") for end in (interval.lower, interval.upper))
    paid = one.dollars_per_million_tokens
    return (
        one.title,
        show(time, "s"),
        ends,
        _rate(one.tokens_per_second or 0.0),
        "–" if one.energy_per_token is None else show(one.energy_per_token, "J"),
        "–" if one.power is None else show(one.power, "W"),
        "–" if paid is None else dollars(paid),
        str(one.analysis.estimate.bound),
        "–" if one.analysis.stack is None else one.analysis.stack.name,
    )


def _rate(value: float) -> str:
    """Return tokens a second without an exponent, however many they are.

    >>> _rate(43_061.4), _rate(541.23), _rate(1.25e6)
    ('43,061', '541.2', '1,250,000')
    """
    return f"{value:,.0f}" if value >= 1000.0 else f"{value:.4g}"


def order_sentence(one: Order) -> str:
    """Return in words how two machines compare, and how sure that is."""
    said = f"{one.faster} is {one.ratio:.2f} times as fast as {one.slower}"
    if one.interval is None or one.confidence is None:
        return f"{said}; how sure that is, no measurement says"
    low, high = (one.ratio * float(end) for end in (one.interval.lower, one.interval.upper))
    return f"{said} (80 % interval {low:.2f} to {high:.2f}): the order is right with probability {probability(one.confidence)}"


def probability(value: float) -> str:
    """Return a probability in percent, never as certainty.

    >>> probability(0.873), probability(0.9999)
    ('87 %', 'over 99 %')
    """
    return "over 99 %" if value > _SURE else f"{100 * value:.0f} %"


def comparison_picture(found: Comparison) -> PanelPicture:
    """Describe the comparison: time with its interval, tokens a second likewise, energy and dollars where they are known.

    Where levels differ each label has its own: a bar at `ideal` is a bound.
    """
    rows = found.ranked
    labels = [f"{one.title}, {one.analysis.estimate.level}" if found.notes and one.analysis else one.title for one in rows]
    times = [one.time for one in rows]
    rates = [one.tokens_per_second or 0.0 for one in rows]
    ends = [None if one.interval is None else (float(one.interval.lower), float(one.interval.upper)) for one in rows]
    rate_ends = [one and (1.0 / one[1], 1.0 / one[0]) for one in ends]
    panels = [
        Panel("time, s", [], [_with_ends("time", labels, times, ends)]),
        Panel("tokens/s", [], [_with_ends("tokens a second", labels, rates, rate_ends)]),
    ]
    for label, values in (
        ("J/token", [one.energy_per_token for one in rows]),
        ("USD per million tokens", [one.dollars_per_million_tokens for one in rows]),
    ):
        if any(value is not None for value in values):
            panels.append(Panel(label, [], [Bars(label, labels, [value or 0.0 for value in values])]))
    subtitle = "; ".join(order_sentence(one) for one in found.pairs[:1])
    first = next(one.analysis for one in rows if one.analysis is not None)
    return PanelPicture(f"{first.model.title}, {first.scenario.phase}", subtitle, panels, columns=2)


def _with_ends(name: str, labels: list[str], values: list[float], ends: list[tuple[float, float] | None]) -> Bars:
    """Return bars with what lies under and over each value; a bar without an interval has no error bar."""
    if not any(ends):
        return Bars(name, labels, values)
    below = [math.nan if one is None else value * (1.0 - one[0]) for value, one in zip(values, ends, strict=True)]
    above = [math.nan if one is None else value * (one[1] - 1.0) for value, one in zip(values, ends, strict=True)]
    return Bars(name, labels, values, below, above)
