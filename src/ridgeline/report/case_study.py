"""The case study as records, tables and a picture."""

from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ridgeline.quantities import show
from ridgeline.report.panels import Bars, Curve, Panel, PanelPicture
from ridgeline.report.records import plain
from ridgeline.survey.case_study import LENGTHS, CaseStudy, Comparison, Stage


def case_study_record(study: CaseStudy) -> dict[str, Any]:
    """Return the study by the command's contract."""
    return {
        "stages": [plain(stage) for stage in study.stages],
        "figures": [plain(one) | {"difference": one.difference} for one in study.comparisons],
        "sensitivity": [plain(one) for one in study.sensitivity],
    }


def case_study_tables(study: CaseStudy) -> RenderableType:
    """Return the story as tables: the stages, every figure of the survey beside ours, and what the host's rates do."""
    return Group(
        Text("From an accelerator of convolutional networks to one of transformers", style="bold"),
        _stages(study),
        Text("The survey's figures beside ours (differences in points for shares and changes)", style="bold"),
        _figures(study),
        _remarks(study),
        Text("What rests on the host: the speed-up of integer functions, and the share of time outside products", style="bold"),
        _sensitivity(study),
    )


def _stages(study: CaseStudy) -> Table:
    table = Table("stage", "latency", "against before", "products", "array in use", "where the time goes", box=None, padding=(0, 1))
    before: Stage | None = None
    for stage in study.stages:
        same = before is not None and before.model == stage.model
        ratio = f"{before.latency / stage.latency:.3g}×" if same and before is not None else ""
        shares = ", ".join(f"{name} {share:.0%}" for name, share in stage.shares.items() if share >= 0.005)
        cells = (show(stage.latency, "s"), ratio, show(stage.matmul_latency, "s"), f"{stage.matmul_utilisation:.0%}", shares)
        table.add_row(f"{stage.name} ({stage.chip})", *cells)
        before = stage
    return table


def _figures(study: CaseStudy) -> Table:
    table = Table("figure", "survey", "here", "difference", "where", box=None, padding=(0, 1))
    notes = _numbered(study)
    for one in study.comparisons:
        mark = f" [{notes[one.name]}]" if one.name in notes else ""
        table.add_row(one.name + mark, _value(one, one.published), _value(one, one.computed), _difference(one), one.where)
    return table


def _notes(study: CaseStudy) -> list[str]:
    return list(dict.fromkeys(one.remark for one in study.comparisons if one.remark and one.remark != "as above"))


def _numbered(study: CaseStudy) -> dict[str, int]:
    """Return the number of each figure's remark; "as above" is that of the figure before."""
    notes, found, last = _notes(study), dict[str, int](), 0
    for one in study.comparisons:
        if one.remark:
            last = last if one.remark == "as above" else notes.index(one.remark) + 1
            found[one.name] = last
    return found


def _remarks(study: CaseStudy) -> RenderableType:
    return Group(*(Text(f"[{number}] {remark}", style="dim") for number, remark in enumerate(_notes(study), 1)))


def _value(one: Comparison, value: float) -> str:
    return f"{value:.1%}" if one.is_share else f"{value:.4g}"


def _difference(one: Comparison) -> str:
    return f"{100 * one.difference:+.1f} points" if one.is_share else f"{one.difference:+.1%}"


def _sensitivity(study: CaseStudy) -> Table:
    table = Table("quantity", "times", "speed-up", "outside products", box=None, padding=(0, 1))
    for one in study.sensitivity:
        table.add_row(one.quantity, f"{one.factor:g}", f"{one.speed_up:.1f}×", f"{one.non_matmul:.1%}")
    return table


def case_study_picture(study: CaseStudy) -> PanelPicture:
    """Describe the study's picture: where the time goes by stage, latencies over length, and what fusing changes."""
    return PanelPicture(
        "From an accelerator of convolutional networks to one of transformers",
        "BERT-Base at 512 tokens; the survey's figures beside ours",
        (_share_panel(study), _length_panel(study), _fusion_panel(study)),
    )


def _share_panel(study: CaseStudy) -> Panel:
    stages = study.stages
    parts = list(dict.fromkeys(name for stage in stages for name in stage.shares))
    labels = [f"{stage.name}: {show(stage.latency, 's')}" for stage in stages]
    bars = [Bars(part, labels, [stage.shares.get(part, 0.0) for stage in stages]) for part in parts]
    return Panel("share of time", bars=bars, stacked=True, title="Where the time goes")


def _length_panel(study: CaseStudy) -> Panel:
    figures = {one.name: one for one in study.comparisons}
    curves: list[Curve] = []
    for model in ("bert-base", "bert-large", "gpt2"):
        rows = [figures[f"latency {model} {length}"] for length in LENGTHS]
        curves.append(Curve(model, LENGTHS, [one.computed for one in rows]))
        curves.append(Curve(f"{model}, survey", LENGTHS, [one.published for one in rows], marked=True, joined=False))
    return Panel(
        "latency over BERT-Base at 128",
        curves,
        x_label="tokens",
        x_log=True,
        y_log=True,
        title="The analytic accelerator (figure 32)",
    )


def _fusion_panel(study: CaseStudy) -> Panel:
    rows = [one for one in study.comparisons if one.name.startswith("fusion ")]
    labels = [one.name.removeprefix("fusion ") for one in rows]
    bars = [Bars("here", labels, [one.computed for one in rows]), Bars("survey", labels, [one.published for one in rows])]
    return Panel("change of time", bars=bars, title="What fusing changes")
