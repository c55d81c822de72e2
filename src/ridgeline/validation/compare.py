"""Errors of predictions by dataset and slice, and the rows that are furthest off."""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ridgeline.validation.predict import Prediction
from ridgeline.validation.products import is_product
from ridgeline.validation.schema import RATES, Row


class Judged(NamedTuple):
    """A prediction beside its measurement: in time-like units, so that a rate is judged by its inverse."""

    prediction: Prediction
    slice: str
    ratio: float  # predicted over measured time; nan where there is no prediction
    lower: float | None  # of the interval, in the row's unit
    upper: float | None
    suspect: str = ""

    @property
    def error(self) -> float:
        """Absolute relative error; 1 where the row is not supported."""
        return 1.0 if math.isnan(self.ratio) else abs(self.ratio - 1.0)


@dataclass(frozen=True, kw_only=True)
class Slice:
    """The errors of a slice of a dataset."""

    dataset: str
    slice: str
    rows: int
    predicted: int
    zero_shot: int  # rows on chips to which no constant was fitted
    suspect: int  # rows that are shown and not scored
    median_ape: float
    mape: float
    geomean_ratio: float | None
    within_10: float
    within_20: float
    coverage_80: float | None
    interval_width: float | None  # upper over lower, median


_MEBIBYTE = 2**20


def slice_of(row: Row, by_format: bool) -> str:
    """Return the name of a row's slice: as the naive baseline's, products by number format where a dataset has several."""
    op, phase = row.text("op").lower(), row.text("phase")
    if (is_product(row) and not op.startswith("grouped")) or op.startswith("gpt3-layer"):
        return row.text("dtype", default="gemm") if by_format else "gemm"
    if row.has("bytes"):
        name = op or "collective"
        return name if row.dataset == "llmcompass" else f"{name} {'>=' if row.number('bytes') >= _MEBIBYTE else '<'}1MiB"
    if row.dataset in ("aic_attention", "aic_mla", "llamacpp_tables"):
        return phase or op
    if row.dataset == "trtllm_tables":
        return f"{row.metric}/{'max-load' if 'max-load' in row.text('scenario') else 'static'}"
    if op.startswith("grouped_gemm"):
        return f"grouped_gemm:{phase}" if phase else "grouped_gemm"
    if op in ("attention", "mla"):
        return f"{op}:{phase}" if phase else op
    if row.has("topk"):
        return "moe"
    if row.has("m", "n"):
        return "vector ops"
    return row.metric


def judged(
    predictions: Sequence[Prediction],
    suspects: Mapping[tuple[str, str], str],
) -> list[Judged]:
    """Set every prediction beside its measurement."""
    several: dict[str, set[str]] = {}
    for one in predictions:
        if is_product(one.row):
            several.setdefault(one.row.dataset, set()).add(one.row.text("dtype"))
    found: list[Judged] = []
    for one in predictions:
        row = one.row
        name = slice_of(row, len(several.get(row.dataset, ())) > 1)
        ratio = math.nan if one.predicted is None else one.predicted / row.measured
        ratio = 1.0 / ratio if row.unit in RATES and ratio > 0 else ratio
        found.append(Judged(one, name, ratio, one.lower, one.upper, suspects.get((row.dataset, row.id), "")))
    return found


def slices(rows: Iterable[Judged], fitted: frozenset[str]) -> list[Slice]:
    """Return the error table: every slice of every dataset, and each dataset whole where it has several."""
    groups: dict[tuple[str, str], list[Judged]] = {}
    for one in rows:
        groups.setdefault((one.prediction.row.dataset, one.slice), []).append(one)
    table: list[Slice] = []
    for dataset in sorted({key[0] for key in groups}):
        own = {name: members for (of, name), members in sorted(groups.items()) if of == dataset}
        if len(own) > 1:
            table += [_slice(dataset, name, members, fitted) for name, members in own.items()]
        table.append(_slice(dataset, "ALL", [one for members in own.values() for one in members], fitted))
    return table


def _slice(dataset: str, name: str, rows: Sequence[Judged], fitted: frozenset[str]) -> Slice:
    scored = [one for one in rows if not one.suspect] or list(rows)
    errors = np.array([one.error for one in scored])
    ratios = np.array([one.ratio for one in scored if not math.isnan(one.ratio) and one.ratio > 0])
    ranges = [(one.lower, one.upper, one.prediction.row.measured) for one in scored]
    known = [(low, high, measured) for low, high, measured in ranges if low is not None and high is not None]
    return Slice(
        dataset=dataset,
        slice=name,
        rows=len(rows),
        predicted=sum(one.prediction.predicted is not None for one in rows),
        zero_shot=sum(one.prediction.row.chip not in fitted for one in rows),
        suspect=sum(bool(one.suspect) for one in rows),
        median_ape=float(np.median(errors)),
        mape=float(errors.mean()),
        geomean_ratio=float(np.exp(np.log(ratios).mean())) if ratios.size else None,
        within_10=float((errors <= 0.1).mean()),
        within_20=float((errors <= 0.2).mean()),
        coverage_80=float(np.mean([low <= measured <= high for low, high, measured in known])) if known else None,
        interval_width=float(np.median([high / low for low, high, _ in known])) if known else None,
    )


def worst(rows: Iterable[Judged], count: int = 10) -> list[Judged]:
    """Return the predicted rows that are furthest off, by the logarithm of their ratio."""
    scored = [one for one in rows if not one.suspect and not math.isnan(one.ratio) and one.ratio > 0]
    return sorted(scored, key=lambda one: -abs(math.log(one.ratio)))[:count]


HEADER = ("dataset", "id", "chip", "slice", "measured", "predicted", "lower", "upper", "reason")


def rows_table(rows: Iterable[Judged]) -> str:
    """Return every row as CSV: s, tokens/s, J, W; fractions; the reason where there is no prediction or no score."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    for one in rows:
        row, found = one.prediction.row, one.prediction
        reason = found.reason or (f"suspect: {one.suspect}" if one.suspect else "")
        numbers = [row.measured, found.predicted, one.lower, one.upper]
        shown = ["" if value is None else f"{value:.6g}" for value in numbers]
        writer.writerow([row.dataset, row.id, row.text("chip"), one.slice, *shown, reason])
    return text.getvalue()


def read_suspects(folder: Path) -> dict[tuple[str, str], str]:
    """Return the rows that a `suspect_rows.csv` in the folder or above it names, with the reasons."""
    for place in (folder, folder.parent):
        path = place / "suspect_rows.csv"
        if path.is_file():
            with path.open(encoding="utf-8", newline="") as file:
                return {(one["dataset"], one["id"]): one["reason"] for one in csv.DictReader(file)}
    return {}
