"""Pictures of a front, of elasticities and of plans."""

from itertools import combinations

from ridgeline.api.explore import Exploration
from ridgeline.api.plan import Planned
from ridgeline.api.sensitivity import Sensitivity
from ridgeline.report.panels import Bars, Curve, Panel, PanelPicture
from ridgeline.search.explore import METRICS

_MOST_POINTS = 4000
_MOST_BARS = 12


def front_picture(found: Exploration) -> PanelPicture:
    """Describe the front: a panel for each pair of objectives; of a single one, its value over the first axis."""
    step = max(1, len(found.pareto) // _MOST_POINTS)
    rows = found.pareto[::step]
    names = list(found.space.objectives)
    pairs = list(combinations(names, 2)) or [(next(iter(found.space.axes), "point"), names[0])]
    labels = [name for name in found.space.groups[0].labels if len({one.labels[name] for one in found.space.groups}) > 1]
    panels: list[Panel] = []
    for x, y in pairs:
        series: dict[str, list[tuple[float, float]]] = {}
        for row in rows:
            name = ", ".join(str(row[label]) for label in labels) or "front"
            series.setdefault(name, []).append((float(row[x]), float(row[y])))
        curves = [
            Curve(name, [one for one, _ in points], [one for _, one in points], marked=True, joined=False)
            for name, points in series.items()
        ]
        positive = all(one > 0 for curve in curves for one in (*curve.x, *curve.y))
        panels.append(Panel(_named(y), curves, x_label=_named(x), x_log=positive, y_log=positive))
    said = f"{len(found.pareto):,} of {found.counts.points:,} points are on the front, level {found.space.level}"
    return PanelPicture(f"The front of {found.space.name}", said, panels)


def _named(name: str) -> str:
    unit = METRICS.get(name, "")
    return f"{name}, {unit}" if unit else name


def sensitivity_picture(found: Sensitivity) -> PanelPicture:
    """Describe the largest elasticities of time and energy as bars."""
    rows = [one for one in found.rows if abs(one.time) > 5e-4 or abs(one.energy or 0.0) > 5e-4][:_MOST_BARS]
    labels = [one.path for one in rows]
    bars = [Bars("time", labels, [one.time for one in rows])]
    if any(one.energy is not None for one in rows):
        bars.append(Bars("energy", labels, [one.energy or 0.0 for one in rows]))
    base = found.base
    said = f"{base.scenario.phase}, {base.precision.name}, level {base.estimate.level}, {found.step:.2%} to either side"
    if any(one.dollars is not None for one in rows):
        bars.append(Bars("cost", labels, [one.dollars or 0.0 for one in rows]))
    panels = [Panel("% for 1 % more of the quantity", bars=bars)]
    for label, name, scale in (
        ("% of the time for 1 USD", "per_dollar", 1e2),
        ("% of the time for 1 mm²", "per_square_metre", 1e-4),
    ):
        gains = sorted(((getattr(one, name) or 0.0, one.name) for one in found.buy if one.time < -5e-4), reverse=True)[:_MOST_BARS]
        if any(gain for gain, _ in gains):
            panels.append(Panel(label, bars=[Bars(name, [part for _, part in gains], [scale * gain for gain, _ in gains])]))
    return PanelPicture(f"Elasticities: {base.model.name} on {base.chip.name}", said, tuple(panels))


def plans_picture(found: Planned) -> PanelPicture:
    """Describe plans: throughput over the time of a token, those on the front apart."""
    kept = [one for one in found.plans if one.meets]
    curves = [
        Curve(name, [one.tpot for one in rows], [one.throughput for one in rows], marked=True, joined=False)
        for name, rows in (("on the front", [one for one in kept if one.front]), ("others", [one for one in kept if not one.front]))
        if rows
    ]
    panel = Panel("output tokens/s of all chips", curves, x_label="TPOT, s", x_log=True, y_log=True)
    said = f"{found.service.prompt} + {found.service.output} tokens, each plan at its best batch, level {found.level}"
    return PanelPicture(f"Plans of {found.model.name} on {found.count} × {found.system.chip.name}", said, (panel,))
