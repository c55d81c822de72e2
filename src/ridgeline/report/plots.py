"""Roofline plots: one description of the picture, drawn as HTML by Plotly or as PNG and SVG by Matplotlib."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ridgeline.api import Analysis
from ridgeline.errors import InputError
from ridgeline.quantities import show
from ridgeline.report.panels import COLOURS

SUFFIXES = (".html", ".png", ".svg")


@dataclass(frozen=True)
class Line:
    """A roof or a ceiling."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    dashed: bool = False


@dataclass(frozen=True)
class Points:
    """A series of points with a label each."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    labels: Sequence[str]
    joined: bool = False
    below: Sequence[float] = ()  # of the bars of the prediction interval: how far they reach under each point, and over it
    above: Sequence[float] = ()


@dataclass(frozen=True)
class Picture:
    """A log-log picture of FLOP/s over FLOP/B."""

    title: str
    subtitle: str
    lines: Sequence[Line]
    points: Sequence[Points]
    x_range: tuple[float, float]
    y_range: tuple[float, float]


def roofline(analysis: Analysis) -> Picture:
    """Describe a roofline: the chip's roofs by format, and where the scenarios or the operations of one scenario lie.

    A point's height is what the step reaches, FLOPs over time; the distance to the roof is what other resources take.
    """
    found, main = analysis.estimate, analysis.chip.main_memory
    points = _range_points(analysis) if analysis.axes else _operation_points(analysis)
    xs = [x for series in points for x in series.x]
    ridges = [float(np.max(levels[main.name])) for levels in found.ridge.values()]
    low = min([*xs, *ridges, 1.0]) / 2
    high = max([*xs, *ridges]) * 4
    bandwidth = float(np.max(np.asarray(main.bandwidth)))
    lines: list[Line] = []
    top = 0.0
    for name, levels in found.ridge.items():
        corner = float(np.max(levels[main.name]))
        peak = corner * bandwidth
        top = max(top, peak)
        lines.append(
            Line(
                f"{name}: {show(peak, 'FLOP/s')}, ridge {corner:.0f} FLOP/B",
                [low, corner, high],
                [low * bandwidth, peak, peak],
            )
        )
    for level in analysis.chip.memory:
        whole = analysis.chip.whole(level)
        if level.name != main.name and whole.bandwidth is not None and level.role in ("cache", "buffer"):
            width = float(whole.bandwidth)
            lines.append(Line(f"{level.name}: {show(width, 'B/s')}", [low, top / width], [low * width, top], dashed=True))
    ys = [y for series in points for y in series.y if y > 0]
    title = f"{analysis.model.title or analysis.model.name} on {analysis.chip.title or analysis.chip.name}"
    said = f"{analysis.scenario.phase}, {analysis.precision.name}, {found.level} level; {main.name} {show(bandwidth, 'B/s')}"
    return Picture(title, said, lines, points, (low, high), (min([*ys, low * bandwidth]) / 2, top * 2))


def _range_points(analysis: Analysis) -> list[Points]:
    """One series along the last axis for each value of the others."""
    found = analysis.estimate
    names = list(analysis.axes)
    feasible = (np.asarray(found.feasible) > 0) & np.isfinite(found.intensity)  # without traffic a step lies at no place
    series: list[Points] = []
    for place in np.ndindex(*feasible.shape[:-1]):
        keep = feasible[place]
        if not keep.any():
            continue
        x, time, flops = found.intensity[place][keep], found.time[place][keep], found.flops[place][keep]
        values = analysis.axes[names[-1]][keep]
        fixed = ", ".join(f"{name} {analysis.axes[name][index]:g}" for name, index in zip(names[:-1], place, strict=True))
        binds = [analysis.resource(one) for one in found.bound[place][keep]]
        labels = [f"{names[-1]} {value:g}: {bound}" for value, bound in zip(values, binds, strict=True)]
        series.append(
            Points(
                fixed or f"{names[-1]} {values[0]:g} to {values[-1]:g}",
                x.tolist(),
                (flops / time / analysis.chips).tolist(),
                labels,
                True,
                *_reach(analysis, (flops / time / analysis.chips), keep, place),
            )
        )
    return series[:12]


def _reach(analysis: Analysis, heights: Any, keep: Any = None, place: tuple[int, ...] = ()) -> tuple[list[float], list[float]]:
    """Return how far the interval of the time reaches under and over heights that go with its inverse."""
    interval = analysis.estimate.interval
    if interval is None:
        return [], []
    heights = np.atleast_1d(heights)
    lower, upper = (
        np.asarray(one) if keep is None else np.broadcast_to(one, np.shape(analysis.estimate.time))[place][keep]
        for one in (interval.lower, interval.upper)
    )
    return (heights * (1.0 - 1.0 / upper)).tolist(), (heights * (1.0 / lower - 1.0)).tolist()


def _operation_points(analysis: Analysis) -> list[Points]:
    """The operations, those that take longest first, and the whole step."""
    whole = analysis.estimate
    rows = [row for row in whole.operations if row.flops > 0 and row.bytes > 0 and row.time > 0]
    rows.sort(key=lambda row: -row.count * row.time)
    found = [
        Points(
            "operations",
            [row.flops / row.bytes for row in rows],
            [row.flops / row.time for row in rows],
            [f"{row.name}: {row.count * row.time / whole.time:.0%}, {row.bound}" for row in rows],
        )
    ]
    if np.isfinite(whole.intensity):  # without traffic a step lies at no place
        height, label = whole.flops / whole.time / analysis.chips, f"whole step: {whole.bound}"
        found.append(Points("whole step", [whole.intensity], [height], [label], False, *_reach(analysis, height)))
    return found


def _apart(series: Points) -> set[int]:
    """Return the points at least a quarter of a decade away from all that come before."""
    kept: list[int] = []
    for index in range(len(series.x)):
        x, y = np.log10(series.x[index]), np.log10(series.y[index])
        if all(abs(x - np.log10(series.x[one])) + abs(y - np.log10(series.y[one])) > 0.25 for one in kept):
            kept.append(index)
    return set(kept)


def write(picture: Picture, path: Path) -> None:
    """Write a picture; its suffix chooses the form. Raises `InputError` for a suffix that is none of them."""
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"--plot {path}: a plot ends in {', '.join(SUFFIXES)}")
    try:
        if path.suffix.lower() == ".html":
            path.write_text(html(picture, whole=True), encoding="utf-8")
        else:
            _write_static(picture, path)
    except OSError as error:
        raise InputError(f"--plot {path}: cannot be written: {error.strerror or error}") from None


def html(picture: Picture, *, whole: bool) -> str:
    """Return a picture as HTML with no outside host: a whole page, or a part of one that brings its own script."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for index, line in enumerate(picture.lines):
        style = {
            "color": "#999999" if line.dashed else COLOURS[index % len(COLOURS)],
            "dash": "dot" if line.dashed else "solid",
            "width": 2,
        }
        figure.add_trace(go.Scatter(x=line.x, y=line.y, mode="lines", name=line.name, line=style))
    for index, series in enumerate(picture.points):
        colour = COLOURS[(index + 1) % len(COLOURS)]
        figure.add_trace(
            go.Scatter(
                x=series.x,
                y=series.y,
                error_y={"type": "data", "symmetric": False, "array": list(series.above), "arrayminus": list(series.below)}
                if series.above
                else None,
                name=series.name,
                text=series.labels,
                mode="lines+markers" if series.joined else "markers",
                marker={"size": 9, "color": colour},
                line={"color": colour, "width": 1},
                hovertemplate="%{text}<br>%{x:.3g} FLOP/B<br>%{y:.3s}FLOP/s<extra></extra>",
            )
        )
    figure.update_layout(
        title={"text": f"{picture.title}<br><sub>{picture.subtitle}</sub>"},
        template="plotly_white",
        xaxis={
            "type": "log",
            "title": "FLOP per byte of main memory",
            "range": [float(np.log10(one)) for one in picture.x_range],
        },
        yaxis={
            "type": "log",
            "title": "FLOP/s",
            "exponentformat": "SI",
            "dtick": 1,
            "range": [float(np.log10(one)) for one in picture.y_range],
        },
        legend={"orientation": "h", "y": -0.2},
        height=620,
    )
    return figure.to_html(full_html=whole, include_plotlyjs=True, config={"displaylogo": False})


def _write_static(picture: Picture, path: Path) -> None:
    try:
        import matplotlib as mpl

        mpl.use("Agg")
        from matplotlib import pyplot
        from matplotlib.ticker import FuncFormatter
    except ImportError:
        raise InputError(f"--plot {path}: {path.suffix} needs matplotlib: `pip install matplotlib`, or write .html") from None
    figure, axes = pyplot.subplots(figsize=(9, 6), layout="constrained")
    for index, line in enumerate(picture.lines):
        colour = "#999999" if line.dashed else COLOURS[index % len(COLOURS)]
        axes.plot(line.x, line.y, color=colour, linestyle=":" if line.dashed else "-", label=line.name)
    for index, series in enumerate(picture.points):
        axes.plot(
            series.x,
            series.y,
            "o-" if series.joined else "o",
            color=COLOURS[(index + 1) % len(COLOURS)],
            label=series.name,
            linewidth=1,
        )
        if series.above:
            reach = (list(series.below), list(series.above))
            axes.errorbar(series.x, series.y, yerr=reach, fmt="none", ecolor=COLOURS[(index + 1) % len(COLOURS)], capsize=3)
        _label(axes, series)
    axes.set(
        xscale="log",
        yscale="log",
        xlim=picture.x_range,
        ylim=picture.y_range,
        xlabel="FLOP per byte of main memory",
        ylabel="FLOP/s",
    )
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: show(value, "FLOP/s")))
    axes.set_title(f"{picture.title}\n", loc="left", fontsize=12)
    axes.text(0, 1.01, picture.subtitle, transform=axes.transAxes, fontsize=9, color="#555555")
    axes.grid(visible=True, which="major", color="#dddddd")
    axes.legend(fontsize=8, loc="lower right")
    same_each_time = {"Date": None} if path.suffix.lower() == ".svg" else {}
    figure.savefig(path, dpi=150, metadata=same_each_time)
    pyplot.close(figure)


def _label(axes: Any, series: Points) -> None:
    """Label the ends of a joined series, else the points that stand apart from those labelled before."""
    wanted = {0, len(series.x) - 1} if series.joined else _apart(series)
    for index in sorted(wanted):
        text = series.labels[index].split(":")[0]
        below = -9 if len(series.x) > 1 else 6  # one point alone often lies on another series
        axes.annotate(text, (series.x[index], series.y[index]), fontsize=7, xytext=(5, below), textcoords="offset points")
