"""Pictures of named points on two logarithmic axes, panels side by side: performance against efficiency."""

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
        named = _named(panel)
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
                textposition="top center",
                textfont={"size": 9},
                marker={"color": colour, "size": 8},
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
    except ImportError:
        raise InputError(f"--plot {path}: {path.suffix} needs matplotlib: `pip install matplotlib`, or write .html") from None
    rows = -(-len(picture.panels) // 2)
    with mpl.rc_context({"svg.hashsalt": "ridgeline"}):  # the same file each time
        figure, grid = pyplot.subplots(rows, 2, figsize=(11, 1.2 + 4.2 * rows), layout="constrained", squeeze=False)
        for panel, axes in zip(picture.panels, grid.ravel(), strict=False):
            for group, colour in _groups(picture).items():
                here = [spot for spot in panel.spots if spot.group == group]
                axes.plot([spot.x for spot in here], [spot.y for spot in here], "o", color=colour, label=group, markersize=5)
            for spot in _named(panel):
                axes.annotate(spot.name, (spot.x, spot.y), xytext=(3, 3), textcoords="offset points", fontsize=7)
            axes.set(xscale="log", yscale="log", xlabel=panel.x_label, ylabel=panel.y_label, title=panel.title)
            axes.margins(0.12)
            axes.grid(visible=True, which="major", color="#dddddd")
            axes.set_axisbelow(True)
        for axes in grid.ravel()[len(picture.panels) :]:
            axes.set_visible(False)
        grid.ravel()[0].legend(fontsize=8)
        figure.suptitle(f"{picture.title}\n{picture.subtitle}", x=0.01, ha="left", fontsize=11)
        figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix.lower() == ".svg" else {})
        pyplot.close(figure)
