"""Pictures of the survey, the comparison, the trends and the levers."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from textwrap import wrap
from typing import Any

from ridgeline.api.levers import Levers
from ridgeline.api.survey import ChipRow, Survey
from ridgeline.api.trends import LENGTHS, Trends
from ridgeline.errors import InputError
from ridgeline.report.panels import SUFFIXES, Bars, Curve, Panel, PanelPicture
from ridgeline.report.survey_scatter import Field, ScatterPicture, Spot


def survey_picture(found: Survey) -> ScatterPicture:
    """Describe performance against efficiency, as published and at the common node."""
    native: list[Spot] = []
    moved: list[Spot] = []
    for one in found.rows:
        row = one.accelerator
        group = "yours" if row.modelled else row.text("platform")
        native += _spot(row.name, group, row.value("efficiency"), row.value("performance"))
        moved += _spot(row.name, group, one.efficiency, one.performance)
    axes = ("operations a joule", "operations a second")
    return ScatterPicture(
        "Published accelerators",
        f"those that give both figures; rule {found.rule.text.partition(':')[0]}",
        (Field("As published", *axes, native), Field(f"At {found.rule.target * 1e9:g} nm", *axes, moved)),
    )


def _spot(name: str, group: str, x: float | None, y: float | None) -> list[Spot]:
    return [] if x is None or y is None else [Spot(name, group, x, y)]


def comparison_picture(rule: str, rows: Sequence[ChipRow]) -> ScatterPicture:
    """Describe tokens a second against tokens a joule of every chip, a pair of panels for each workload."""
    fields: list[Field] = []
    axes = ("tokens a joule", "tokens a second")
    for name in dict.fromkeys(row.workload for row in rows):
        mine = [row for row in rows if row.workload == name]
        there = [row.moved for row in mine if row.moved is not None]
        fields.append(Field(f"{name}, own node", *axes, _chips(mine)))
        fields.append(Field(f"{name}, normalised", *axes, _chips(there)))
    said = f"coloured by what binds; open: level ideal, a bound; filled: an expectation; rule {rule.partition(':')[0]}"
    return ScatterPicture("The same model on every chip", said, fields)


def _chips(rows: Sequence[ChipRow]) -> list[Spot]:
    found: list[Spot] = []
    for row in rows:
        each = None if not row.energy_per_token else 1.0 / row.energy_per_token
        spots = _spot(row.chip, row.bound or "", each, row.tokens_per_second)
        found += [replace(one, open=row.level.startswith("ideal")) for one in spots]
    return found


# ---- trends -----------------------------------------------------------------------------------------------------------------


def trends_picture(found: Trends) -> PanelPicture:
    """Describe the memory wall: hardware, models, balance and latency over the years, intensities beside them."""
    hardware = _curves(found, {"peak FLOPS": "peak", "DRAM bandwidth": "DRAM", "interconnect bandwidth": "links"})
    compute = _curves(found, {"training compute of transformers": "transformers"})
    compute += _points(found, {"training compute of other models": "others"})
    sizes = _curves(found, {"parameters of transformers": "parameters", "accelerator memory": "memory"})
    balance = _curves(found, {"balance of chips": "chips"})
    latency = _curves(found, {"latency of DRAM": "chips' main memory", "row cycle of DRAM parts": "row cycle of parts"})
    bars = [
        Bars(model, [f"{tokens} tokens" for tokens in LENGTHS], [one.intensity for one in found.intensities if one.model == model])
        for model in dict.fromkeys(one.model for one in found.intensities)
    ]
    years: dict[str, Any] = {"x_label": "year", "y_log": True}
    return PanelPicture(
        "The memory wall",
        "markers: points; lines: least squares, × in two years; dotted: extrapolated, not measured",
        (
            Panel("over the first of its kind", hardware, title="Hardware", **years),
            Panel("PFLOP", compute, title="Training compute", **years),
            Panel("1e9 parameters, GB", sizes, title="Models and memories", **years),
            Panel("operations a byte", balance, title="Balance of the catalogue's chips, 16 bits", **years),
            Panel("seconds", latency, title="Latency of DRAM: the third wall", **years),
            Panel("FLOP a byte", bars=bars, title="What models bring", y_log=True),
        ),
        columns=1,
    )


def _points(found: Trends, names: Mapping[str, str], listed: bool = True) -> list[Curve]:
    series = {short: found.points.get(name, ()) for name, short in names.items()}
    return [
        Curve(short, [one.year for one in points], [one.value for one in points], marked=True, joined=False, listed=listed)
        for short, points in series.items()
    ]


def _curves(found: Trends, names: Mapping[str, str]) -> list[Curve]:
    """Return points, the fitted line through them, and its continuation, dotted: all of a trend in one colour, listed once."""
    curves = _points(found, names, listed=False)
    for name, short in names.items():
        if name not in found.fits:
            continue
        fitted, ahead = found.fits[name], [one.year for one in found.projections[name]]
        years = [fitted.first, fitted.last]
        curves.append(Curve(f"{short} ×{fitted.rate:.3g}", years, [fitted.at(year) for year in years], colour_of=short))
        later = [fitted.last, *ahead]
        values = [fitted.at(year) for year in later]
        curves.append(Curve(f"{short}, extrapolated", later, values, dashed=True, colour_of=short, listed=False))
    return curves


# ---- levers -----------------------------------------------------------------------------------------------------------------


def write_tornado(found: Levers, path: Path) -> None:
    """Write the levers as a tornado: the change of time and energy of a token, the largest on top."""
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"--plot {path}: a plot ends in {', '.join(SUFFIXES)}")
    named = [(one.name, one) for one in found.effects if one.time is not None]
    named += [(f"best pair: {found.best_pair.name}", found.best_pair)] if found.best_pair is not None else []
    named.sort(key=lambda pair: abs((pair[1].time or 1.0) - 1.0))
    names, ordered = ["\n".join(wrap(name, 60)) for name, _ in named], [one for _, one in named]
    series = {
        "time": [100.0 * ((one.time or 1.0) - 1.0) for one in ordered],
        "energy": [100.0 * ((one.energy or 1.0) - 1.0) for one in ordered],
    }
    base = found.base
    title = (
        f"Levers: {base.model.name} on {base.chip.name}, {base.scenario.phase}, {base.precision.name}, level {base.estimate.level}"
    )
    try:
        if path.suffix.lower() == ".html":
            path.write_text(_tornado_html(title, names, series), encoding="utf-8")
        else:
            _tornado_static(title, names, series, path)
    except OSError as error:
        raise InputError(f"--plot {path}: cannot be written: {error.strerror or error}") from None


_AXIS = "change of a token, %"
_COLOURS = {"time": "#1f4e79", "energy": "#d08a1d"}


def _tornado_html(title: str, names: Sequence[str], series: dict[str, list[float]]) -> str:
    import plotly.graph_objects as go

    figure = go.Figure()
    for name, values in series.items():
        figure.add_trace(
            go.Bar(
                x=values, y=[one.replace("\n", "<br>") for one in names], name=name, orientation="h", marker_color=_COLOURS[name]
            )
        )
    figure.update_layout(
        title=title, xaxis_title=_AXIS, template="plotly_white", height=160 + 34 * len(names), barmode="group", margin={"l": 380}
    )
    return figure.to_html(full_html=True, include_plotlyjs=True, config={"displaylogo": False})


def _tornado_static(title: str, names: Sequence[str], series: dict[str, list[float]], path: Path) -> None:
    try:
        import matplotlib as mpl

        mpl.use("Agg")
        from matplotlib import pyplot
    except ImportError:
        raise InputError(f"--plot {path}: {path.suffix} needs matplotlib: `pip install matplotlib`, or write .html") from None
    with mpl.rc_context({"svg.hashsalt": "ridgeline"}):
        figure, axes = pyplot.subplots(figsize=(9, 1.2 + 0.32 * len(names)), layout="constrained")
        for index, (name, values) in enumerate(series.items()):
            places = [place + 0.4 * index - 0.2 for place in range(len(names))]
            axes.barh(places, values, 0.4, color=_COLOURS[name], label=name)
        axes.set_yticks(range(len(names)), names, fontsize=8)
        axes.set(xlabel=_AXIS, title=title)
        axes.axvline(0.0, color="#444444", linewidth=0.8)
        axes.grid(visible=True, axis="x", color="#dddddd")
        axes.set_axisbelow(True)
        axes.legend(fontsize=8)
        figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix.lower() == ".svg" else {})
        pyplot.close(figure)
