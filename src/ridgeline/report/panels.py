"""Pictures of several panels, each with lines or bars: one description, drawn by Plotly or by Matplotlib."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ridgeline.errors import InputError

SUFFIXES = (".html", ".png", ".svg")
COLOURS = ("#1f4e79", "#c0504d", "#4f8a3c", "#7f5ba2", "#d08a1d", "#2b9aa0", "#8a6d5a", "#d0639c")


@dataclass(frozen=True)
class Curve:
    """A line of a panel."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    dashed: bool = False
    marked: bool = False
    joined: bool = True
    colour_of: str = ""  # the curve whose colour it shares; empty: its own
    listed: bool = True  # in the legend

    @property
    def key(self) -> str:
        """The name by which its colour is known."""
        return self.colour_of or self.name


@dataclass(frozen=True)
class Bars:
    """One series of bars, a value for each label; series of a panel lie on one another, or side by side."""

    name: str
    labels: Sequence[str]
    values: Sequence[float]
    below: Sequence[float] = ()  # of error bars: how far they reach under each value, and over it
    above: Sequence[float] = ()


@dataclass(frozen=True)
class Panel:
    """One pair of axes, for curves or for bars."""

    y_label: str
    curves: Sequence[Curve] = ()
    bars: Sequence[Bars] = ()
    stacked: bool = False
    x_label: str = ""
    x_log: bool = False
    y_log: bool = False
    title: str = ""


@dataclass(frozen=True)
class PanelPicture:
    """Panels below one another, or side by side."""

    title: str
    subtitle: str
    panels: Sequence[Panel]
    columns: int = 1


def write_panels(picture: PanelPicture, path: Path) -> None:
    """Write a picture; its suffix chooses the form. Raises `InputError` for a suffix that is none of them."""
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"--plot {path}: a plot ends in {', '.join(SUFFIXES)}")
    try:
        if path.suffix.lower() == ".html":
            path.write_text(panels_html(picture, whole=True), encoding="utf-8")
        else:
            _write_static(picture, path)
    except OSError as error:
        raise InputError(f"--plot {path}: cannot be written: {error.strerror or error}") from None


def panels_html(picture: PanelPicture, *, whole: bool) -> str:
    """Return a picture as HTML with no outside host: a whole page, or a part of one that brings its own script."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    columns = picture.columns
    rows = -(-len(picture.panels) // columns)
    figure = make_subplots(rows=rows, cols=columns, subplot_titles=[one.title for one in picture.panels])
    colours: dict[str, str] = {}
    for index, panel in enumerate(picture.panels):
        place: Any = {"row": index // columns + 1, "col": index % columns + 1}
        for curve in panel.curves:
            first = curve.listed and (bool(curve.colour_of) or curve.name not in colours)
            colour = colours.setdefault(curve.key, COLOURS[len(colours) % len(COLOURS)])
            figure.add_trace(
                go.Scatter(
                    x=list(curve.x),
                    y=list(curve.y),
                    name=curve.name,
                    legendgroup=curve.key,
                    showlegend=first,
                    mode=("lines+markers" if curve.marked else "lines") if curve.joined else "markers",
                    marker={"size": 6 if curve.joined or curve.marked else 3},
                    line={"color": colour, "dash": "dot" if curve.dashed else "solid", "width": 2},
                ),
                **place,
            )
        for bars in panel.bars:
            first = bars.name not in colours
            colour = colours.setdefault(bars.name, COLOURS[len(colours) % len(COLOURS)])
            figure.add_trace(
                go.Bar(
                    x=list(bars.labels),
                    y=list(bars.values),
                    name=bars.name,
                    legendgroup=bars.name,
                    showlegend=first,
                    marker_color=colour,
                    error_y={"type": "data", "symmetric": False, "array": list(bars.above), "arrayminus": list(bars.below)}
                    if bars.above
                    else None,
                    offsetgroup="stack" if panel.stacked else bars.name,
                ),
                **place,
            )
        of_numbers = "log" if panel.x_log else "linear"
        figure.update_xaxes(title=panel.x_label, type=of_numbers if panel.curves else "category", **place)
        figure.update_yaxes(title=panel.y_label, type="log" if panel.y_log else "linear", exponentformat="SI", **place)
    figure.update_layout(
        title={"text": f"{picture.title}<br><sub>{picture.subtitle}</sub>"},
        template="plotly_white",
        height=140 + 260 * rows,
        barmode="relative" if any(one.stacked for one in picture.panels) else "group",
    )
    return figure.to_html(full_html=whole, include_plotlyjs=True, config={"displaylogo": False})


def _write_static(picture: PanelPicture, path: Path) -> None:
    try:
        import matplotlib as mpl

        mpl.use("Agg")
        from matplotlib import pyplot
    except ImportError:
        raise InputError(f"--plot {path}: {path.suffix} needs matplotlib: `pip install matplotlib`, or write .html") from None
    columns = picture.columns
    rows = -(-len(picture.panels) // columns)
    with mpl.rc_context({"svg.hashsalt": "ridgeline"}):  # the same file each time
        figure, grid = pyplot.subplots(
            rows, columns, figsize=(9 if columns == 1 else 5.2 * columns, 1.2 + 2.4 * rows), layout="constrained", squeeze=False
        )
        colours: dict[str, str] = {}
        for panel, axes in zip(picture.panels, grid.ravel(), strict=False):
            _draw(panel, axes, colours)
        for axes in grid.ravel()[len(picture.panels) :]:
            axes.set_visible(False)
        figure.suptitle(f"{picture.title}\n{picture.subtitle}", x=0.01, ha="left", fontsize=11)
        same_each_time = {"Date": None} if path.suffix.lower() == ".svg" else {}
        figure.savefig(path, dpi=150, metadata=same_each_time)
        pyplot.close(figure)


def _draw(panel: Panel, axes: Any, colours: dict[str, str]) -> None:
    for curve in panel.curves:
        colour = colours.setdefault(curve.key, COLOURS[len(colours) % len(COLOURS)])
        style = (":" if curve.dashed else "-") if curve.joined else "none"
        marker = "o" if curve.marked or not curve.joined else None
        size = 4 if curve.joined or curve.marked or len(curve.x) < 50 else 1.5
        label = curve.name if curve.listed else None
        axes.plot(curve.x, curve.y, linestyle=style, marker=marker, markersize=size, color=colour, label=label, linewidth=1.4)
    _draw_bars(panel, axes, colours)
    axes.set(xlabel=panel.x_label, ylabel=panel.y_label, title=panel.title)
    if panel.curves:
        axes.set(xscale="log" if panel.x_log else "linear", yscale="log" if panel.y_log else "linear")
    elif panel.y_log and not panel.stacked:
        axes.set(yscale="log")
    axes.grid(visible=True, which="major", axis="both" if panel.curves else "y", color="#dddddd")
    axes.set_axisbelow(True)
    if len(panel.curves) + len(panel.bars) > 1:
        beside = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)} if panel.bars else {}
        axes.legend(fontsize=8, **beside)


def _draw_bars(panel: Panel, axes: Any, colours: dict[str, str]) -> None:
    base = [0.0] * max((len(bars.labels) for bars in panel.bars), default=0)
    width = 0.8 if panel.stacked else 0.8 / max(len(panel.bars), 1)
    for index, bars in enumerate(panel.bars):
        colour = colours.setdefault(bars.name, COLOURS[len(colours) % len(COLOURS)])
        shift = 0.0 if panel.stacked else (index - (len(panel.bars) - 1) / 2) * width
        places = [place + shift for place in range(len(bars.labels))]
        reach = (list(bars.below), list(bars.above)) if bars.above else None
        base_of = base if panel.stacked else None
        axes.bar(places, bars.values, width, bottom=base_of, color=colour, label=bars.name, yerr=reach, capsize=3)
        if panel.stacked:
            base = [low + value for low, value in zip(base, bars.values, strict=True)]
    if panel.bars:
        labels = _wrapped(panel.bars[0].labels)
        longest = max((len(line) for label in labels for line in label.splitlines()), default=1)
        axes.set_xticks(range(len(labels)), labels, fontsize=min(7.0, max(5.5, 7.0 * _width(labels) / longest)))


def _wrapped(labels: Sequence[str]) -> list[str]:
    r"""Return labels broken at spaces, dots, underscores and hyphens into lines that fit side by side; a longer word is left whole.

    >>> print(*_wrapped(["memory.hbm.bandwidth"] * 10), sep="\n", end="")  # doctest: +ELLIPSIS
    memory.
    hbm.
    bandwidth
    ...
    """
    return ["\n".join(_lines(label, _width(labels))) for label in labels]


def _width(labels: Sequence[str]) -> int:
    """Return how many letters fit below each of so many bars."""
    return max(100 // max(len(labels), 1), 6)


def _lines(label: str, width: int) -> list[str]:
    lines = [""]
    for part in re.findall(r"[^\s._-]*[\s._-]?", label):
        if lines[-1] and len(lines[-1] + part.rstrip()) > width:
            lines.append("")
        lines[-1] += part
    return [line.strip() for line in lines]
