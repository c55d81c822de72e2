"""The error table of a validation: for the terminal, as JSON, and as rows of a page."""

from dataclasses import asdict
from typing import Any

from rich.console import Group as Several
from rich.console import RenderableType
from rich.table import Table

from ridgeline.api.validation import Validation
from ridgeline.validation import compare
from ridgeline.validation.compare import Judged, Slice


def validation_record(found: Validation) -> dict[str, Any]:
    """Return a validation as plain data: fractions and SI units."""
    return {
        "slices": [asdict(one) for one in found.slices],
        "worst": [_row_record(one) for one in compare.worst(found.rows)],
        "faults": [one._asdict() for one in found.faults],
    }


def _row_record(one: Judged) -> dict[str, Any]:
    row = one.prediction.row
    return {
        "dataset": row.dataset,
        "id": row.id,
        "chip": row.text("chip"),
        "slice": one.slice,
        "measured": row.measured,
        "predicted": one.prediction.predicted,
        "unit": row.unit,
    }


def validation_table(found: Validation) -> RenderableType:
    """Return the error table and the rows that are furthest off."""
    table = Table("dataset", "slice", box=None, pad_edge=False, title="Predicted against measured")
    for name in ("rows", "predicted", "median", "mean", "ratio", "within 10 %", "20 %", "in interval", "width"):
        table.add_column(name, justify="right")
    for one in found.slices:
        table.add_row(*cells(one), style="bold" if one.slice == "ALL" else "")
    worst = Table("furthest off", "chip", "slice", "what", box=None, pad_edge=False)
    for name in ("measured", "predicted"):
        worst.add_column(name, justify="right")
    for one in compare.worst(found.rows):
        row = one.prediction.row
        predicted = one.prediction.predicted or 0.0
        worst.add_row(
            row.id, row.text("chip"), one.slice, what(one), f"{row.measured:.4g} {row.unit}", f"{predicted:.4g} {row.unit}"
        )
    return Several(table, worst)


def cells(one: Slice) -> tuple[str, ...]:
    """Return a slice's cells; errors in percent, as a table prints them."""
    return (
        one.dataset,
        one.slice,
        str(one.rows),
        str(one.predicted),
        f"{100 * one.median_ape:.1f} %",
        f"{100 * one.mape:.1f} %",
        "" if one.geomean_ratio is None else f"{one.geomean_ratio:.3f}",
        f"{100 * one.within_10:.0f} %",
        f"{100 * one.within_20:.0f} %",
        "" if one.coverage_80 is None else f"{100 * one.coverage_80:.0f} %",
        "" if one.interval_width is None else f"{one.interval_width:.2f}",
    )


_SHAPE = ("b", "m", "n", "k", "batch", "q_len", "kv_len", "n_heads", "n_kv_heads", "head_dim", "tokens", "bytes", "dtype")


def what(one: Judged) -> str:
    """Return a row's operation and shape in words."""
    row = one.prediction.row
    return " ".join([row.text("op"), *(f"{name}={row.text(name)}" for name in _SHAPE if row.text(name))])
