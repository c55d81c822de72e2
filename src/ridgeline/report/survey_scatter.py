"""Pictures of named points on two logarithmic axes, panels side by side: performance against efficiency."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ridgeline.errors import InputError
from ridgeline.report.panels import COLOURS, SUFFIXES

_MANY = 30  # points of a panel, from which on only the best are named


@dataclass(frozen=True)
class Spot:
    """One named point of a group."""

    name: str
    group: str
    x: float
    y: float
    open: bool = False  # drawn as a ring


@dataclass(frozen=True)
class Field:
    """One panel of points."""

    title: str
    x_label: str
    y_label: str
    spots: Sequence[Spot]


@dataclass(frozen=True)
class ScatterPicture:
    """Panels in rows of two; of many points those are named that no other beats."""

    title: str
    subtitle: str
    panels: Sequence[Field]


def write_scatter(picture: ScatterPicture, path: Path) -> None:
    """Write a picture; its suffix chooses the form. Raises `InputError` for a suffix that is none of them."""
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"--plot {path}: a plot ends in {', '.join(SUFFIXES)}")
    try:
        if path.suffix.lower() == ".html":
            path.write_text(_html(picture), encoding="utf-8")
        else:
            _static(picture, path)
    except OSError as error:
        raise InputError(f"--plot {path}: cannot be written: {error.strerror or error}") from None


def _groups(picture: ScatterPicture) -> dict[str, str]:
    names = dict.fromkeys(spot.group for panel in picture.panels for spot in panel.spots)
    return {name: COLOURS[index % len(COLOURS)] for index, name in enumerate(names)}


def _named(panel: Field) -> list[Spot]:
    """Return the points that are named: all, or of many those that no other beats on both axes."""
    if len(panel.spots) < _MANY:
        return list(panel.spots)
    return [one for one in panel.spots if not any(other.x > one.x and other.y > one.y for other in panel.spots)]


def _html(picture: ScatterPicture) -> str:
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    rows = -(-len(picture.panels) // 2)
    figure = make_subplots(rows=rows, cols=2, subplot_titles=[one.title for one in picture.panels])
    for index, panel in enumerate(picture.panels):
        place: Any = {"row": index // 2 + 1, "col": index % 2 + 1}
        named, sides = _named(panel), _sides(panel)
        for group, colour in _groups(picture).items():
            here = [spot for spot in panel.spots if spot.group == group]
            if not here:
                continue
            trace = go.Scatter(
                x=[spot.x for spot in here],
                y=[spot.y for spot in here],
                text=[spot.name if spot in named else "" for spot in here],
                hovertext=[spot.name for spot in here],
                name=group,
                legendgroup=group,
                showlegend=index == 0,
                mode="markers+text",
                textposition=[sides.get(spot.name, "top center") for spot in here],
                textfont={"size": 9},
                marker={"color": colour, "size": 8, "symbol": ["circle-open" if spot.open else "circle" for spot in here]},
            )
            figure.add_trace(trace, **place)
        figure.update_xaxes(title=panel.x_label, type="log", exponentformat="SI", **place)
        figure.update_yaxes(title=panel.y_label, type="log", exponentformat="SI", **place)
    figure.update_layout(
        title={"text": f"{picture.title}<br><sub>{picture.subtitle}</sub>"}, template="plotly_white", height=160 + 420 * rows
    )
    return figure.to_html(full_html=True, include_plotlyjs=True, config={"displaylogo": False})


def _static(picture: ScatterPicture, path: Path) -> None:
    try:
        import matplotlib as mpl

        mpl.use("Agg")
        from matplotlib import pyplot
        from matplotlib.lines import Line2D
    except ImportError:
        raise InputError(f"--plot {path}: {path.suffix} needs matplotlib: `pip install matplotlib`, or write .html") from None
    rows, groups = -(-len(picture.panels) // 2), _groups(picture)
    with mpl.rc_context({"svg.hashsalt": "ridgeline"}):  # the same file each time
        figure, grid = pyplot.subplots(rows, 2, figsize=(12.5, 1.2 + 4.2 * rows), layout="constrained", squeeze=False)
        for panel, axes in zip(picture.panels, grid.ravel(), strict=False):
            for group, colour in groups.items():
                here = [spot for spot in panel.spots if spot.group == group]
                for ring in (False, True):
                    each = [spot for spot in here if spot.open == ring]
                    inside = "none" if ring else colour
                    axes.plot([one.x for one in each], [one.y for one in each], "o", color=colour, mfc=inside, markersize=5)
            axes.set(xscale="log", yscale="log", xlabel=panel.x_label, ylabel=panel.y_label, title=panel.title)
            axes.margins(0.12)
            _write_names(axes, panel)
            axes.grid(visible=True, which="major", color="#dddddd")
            axes.set_axisbelow(True)
        for axes in grid.ravel()[len(picture.panels) :]:
            axes.set_visible(False)
        dots = [Line2D([], [], marker="o", linestyle="none", color=one, label=name) for name, one in groups.items()]
        figure.legend(handles=dots, fontsize=8, loc="outside right upper")
        figure.suptitle(f"{picture.title}\n{picture.subtitle}", x=0.01, ha="left", fontsize=11)
        figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix.lower() == ".svg" else {})
        pyplot.close(figure)


Box = tuple[float, float, float, float]  # left, right, bottom and top, in parts of an axis
_LETTER, _LINE, _GAP = 0.0115, 0.028, 0.01  # of an axis: width of a letter, height of a line, distance from the point


def _write_names(axes: Any, panel: Field) -> None:
    """Write names beside their points where they cover neither a point nor one another."""
    axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())  # as they will be drawn
    place = axes.transData + axes.transAxes.inverted()
    spots = [place.transform((spot.x, spot.y)) for spot in panel.spots]
    for spot, box in _boxes(panel, spots):
        axes.text(box[0], box[2], spot.name, transform=axes.transAxes, fontsize=7)


def _sides(panel: Field) -> dict[str, str]:
    """Return on which side of its point each name stands, in Plotly's words."""
    if not panel.spots:
        return {}
    places = [[_part([getattr(one, axis) for one in panel.spots], getattr(spot, axis)) for axis in "xy"] for spot in panel.spots]
    points = {spot.name: (x, y) for spot, (x, y) in zip(panel.spots, places, strict=True)}
    found: dict[str, str] = {}
    for spot, box in _boxes(panel, list(points.values())):
        x, y = points[spot.name]
        found[spot.name] = f"{'top' if box[2] >= y else 'bottom'} {'right' if box[0] > x else 'left'}"
    return found


def _part(values: Sequence[float], value: float) -> float:
    """Return where a value lies on a logarithmic axis that reaches 6 % beyond the values."""
    low, high = math.log(min(values)), math.log(max(values))
    return 0.5 if high == low else 0.06 + 0.88 * (math.log(value) - low) / (high - low)


def _boxes(panel: Field, places: Sequence[Any]) -> list[tuple[Spot, Box]]:
    """Return the box of each name, the highest point first; `places` are those of the points in parts of the axes."""
    taken: list[Box] = [(x - 0.005, x + 0.005, y - 0.008, y + 0.008) for x, y in places]
    named = _named(panel)
    both = [(spot, x, y) for spot, (x, y) in zip(panel.spots, places, strict=True) if spot in named]
    found: list[tuple[Spot, Box]] = []
    for spot, x, y in sorted(both, key=lambda one: -one[2]):
        box = _free(x, y, len(spot.name) * _LETTER, taken)
        taken.append(box)
        found.append((spot, box))
    return found


def _free(x: float, y: float, width: float, taken: list[Box]) -> Box:
    """Return the first place around a point that nothing covers; above it where all are taken."""
    rises = [up for step in range(6) for up in (step * _LINE, -(step + 1) * _LINE)]
    starts = [left for left in (x + _GAP, x - _GAP - width) if left >= 0.0 and left + width <= 1.0]
    tried = [(left, left + width, y + up, y + up + _LINE) for up in rises for left in starts]
    free = (one for one in tried if not any(_cover(one, other) for other in taken))
    return next(free, (x + _GAP, x + _GAP + width, y + _GAP, y + _GAP + _LINE))


def _cover(one: Box, other: Box) -> bool:
    return one[0] < other[1] and other[0] < one[1] and one[2] < other[3] and other[2] < one[3]
