"""Tables of published figures that the models are set beside."""

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ridgeline.errors import InputError, nearest
from ridgeline.quantities import convert
from ridgeline.specs.base import Source


@cache
def case_study_figures() -> dict[str, dict[str, Any]]:
    """Return the figures of the full-stack survey's case study by name: value, where it is printed, and a remark."""
    with Path(__file__).with_name("case_study.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {
        row["name"]: {"value": float(row["value"]), "source": row["source"], "where": row["where"], "remark": row["remark"]}
        for row in rows
    }


# ---- the survey of published accelerators, frequencies of one design, points of trends --------------------------------------

_UNITS = {
    "year": "1",
    "node": "m",
    "performance": "FLOP/s",
    "performance at 16 nm": "FLOP/s",
    "efficiency": "FLOP/J",
    "speed-up": "1",
    "energy gain": "1",
    "compute density gain": "1",
}
_TEXTS = ("platform", "hardware", "scales as")


@dataclass(frozen=True, kw_only=True)
class PublishedCell:
    """One published figure of an accelerator in SI units, with where it is from."""

    accelerator: str
    figure: str
    low: float | None
    high: float | None  # of a range; None where it is one number
    against: str  # what it is relative to, as far as it is said
    text: str
    source: Source


def published_accelerators(path: Path | None = None) -> dict[str, tuple[PublishedCell, ...]]:
    """Return every cell of the survey's table by accelerator, in the order of the file.

    Raises `InputError` for a figure that is none, and for a unit that measures something else.
    """
    path = path or Path(__file__).with_name("published.csv")
    found: dict[str, list[PublishedCell]] = {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for number, row in enumerate(csv.DictReader(file), start=2):
                cell = _cell(row, f"{path.name}, line {number}")
                found.setdefault(cell.accelerator, []).append(cell)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    return {name: tuple(cells) for name, cells in found.items()}


def _cell(row: Mapping[str, str | None], place: str) -> PublishedCell:
    name, figure = row.get("accelerator") or "", row.get("figure") or ""
    if not name:
        raise InputError(f"{place}: `accelerator` is empty: the name of a published accelerator is wanted")
    if figure not in _UNITS and figure not in _TEXTS:
        raise InputError(f"{place}: `figure` {figure!r} of {name}: {nearest(figure, (*_UNITS, *_TEXTS))}")
    unit = row.get("unit") or ""
    ends = [_number(row.get(end) or "", unit, figure, f"{place}: `{end}` of {name}") for end in ("low", "high")]
    if figure in _UNITS and ends[0] is None:
        raise InputError(f"{place}: `low` of {name} is empty: the value of its {figure} is wanted")
    source = Source(
        key=row.get("source") or None,
        where=row.get("where") or None,
        confidence=row.get("confidence") or "recalled",
        note=row.get("note") or None,
        value=float(row.get("low") or "nan") if row.get("low") else None,
        unit=unit,
    )
    text, against = row.get("text") or "", row.get("against") or ""
    return PublishedCell(accelerator=name, figure=figure, low=ends[0], high=ends[1], against=against, text=text, source=source)


def _number(text: str, unit: str, figure: str, place: str) -> float | None:
    if not text:
        return None
    try:
        return convert(float(text), unit or "1", _UNITS[figure])
    except (ValueError, KeyError) as error:
        raise InputError(f"{place}: its {figure} {text} {unit}: {error}") from None


@cache
def design_frequencies() -> dict[float, tuple[float, Source]]:
    """Return by process node the highest frequency of one design on the FPGAs of it: the geometric mean of their families."""
    with Path(__file__).with_name("frequencies.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    found: dict[float, tuple[float, Source]] = {}
    for size in dict.fromkeys(row["node_nm"] for row in rows):
        here = [row for row in rows if row["node_nm"] == size]
        value = math.exp(sum(math.log(float(row["frequency_MHz"])) for row in here) / len(here))
        note = f"{here[0]['design']} on {', '.join(row['device'] for row in here)}"
        said = Source(key=here[0]["source"], where=here[0]["where"], confidence=here[0]["confidence"], note=note)
        found[convert(float(size), "nm", "m")] = (convert(value, "MHz", "Hz"), said)
    return found


@cache
def trend_points() -> dict[str, tuple[dict[str, Any], ...]]:
    """Return the points of the memory-wall figures by series: year, value, label, and where they are from."""
    with Path(__file__).with_name("trends.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        point = {**row, "year": float(row["year"]), "value": float(row["value"])}
        found.setdefault(row["series"], []).append(point)
    return {name: tuple(points) for name, points in found.items()}


@cache
def service_figures() -> tuple[dict[str, Any], ...]:
    """Return published rates of services on static-dataflow and near-memory machines: model, chip, tokens a second, source."""
    with Path(__file__).with_name("services.csv").open(encoding="utf-8", newline="") as file:
        return tuple({**row, "tokens_per_second": float(row["tokens_per_second"])} for row in csv.DictReader(file))
