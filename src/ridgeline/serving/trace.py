"""Requests from a CSV file: when each came, its prompt and its output."""

import csv
import math
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path

import numpy as np

from ridgeline.errors import InputError
from ridgeline.serving.arrivals import Requests

# The names of published traces: Vidur's, Azure's, LLMServingSim's, and plain words.
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "arrival": ("arrived_at", "timestamp", "arrival_time", "arrival", "arrival_s", "time", "arrival time"),
    "prompt": ("num_prefill_tokens", "contexttokens", "prompt_tokens", "prompt", "input_tokens", "isl", "prompt tokens"),
    "output": ("num_decode_tokens", "generatedtokens", "output_tokens", "output", "osl", "output tokens"),
}
_OPTIONAL: Mapping[str, tuple[str, ...]] = {
    "name": ("request_id", "id", "name"),
    "prefix": ("prefix_tokens", "prefix"),
    "group": ("group", "prefix_group"),
}


def read_trace(path: Path | str, *, most: int | None = None) -> Requests:
    """Return the requests of a CSV file, the first at time 0; columns may have any of the names in `COLUMNS`.

    Times are seconds, or dates such as `2023-11-16 18:17:03.9799600`. Raises `InputError` with the line where a value is
    not a number, a count is below 1, or times go backwards.
    """
    path = Path(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _requests(csv.DictReader(file), str(path), most)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"trace {path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None


def _requests(reader: "csv.DictReader[str]", path: str, most: int | None) -> Requests:
    columns = _columns(reader.fieldnames or (), path)
    arrival: list[float] = []
    counts: dict[str, list[int]] = {"prompt": [], "output": [], "prefix": [], "group": []}
    names: list[str] = []
    for row in reader:
        if most is not None and len(arrival) >= most:
            break
        where = f"trace {path}, line {reader.line_num}"
        time = _time(row[columns["arrival"]], where, columns["arrival"])
        if arrival and time < arrival[-1]:
            raise InputError(f"{where}: time goes backwards, {time - arrival[0]:g} s after {arrival[-1] - arrival[0]:g} s: sort it")
        arrival.append(time)
        for name, values in counts.items():
            values.append(_count(row, columns, name, where))
        names.append(f"{row[columns['name']]} (line {reader.line_num})" if "name" in columns else f"line {reader.line_num}")
    if not arrival:
        raise InputError(f"trace {path}: it holds no request")
    prompt = np.asarray(counts["prompt"], dtype=np.int64)
    return Requests(
        arrival=np.asarray(arrival) - arrival[0],
        prompt=prompt,
        output=np.asarray(counts["output"], dtype=np.int64),
        prefix=np.minimum(np.asarray(counts["prefix"], dtype=np.int64), prompt - 1),
        group=np.asarray(counts["group"], dtype=np.int64),
        names=tuple(names),
    )


def _columns(header: Iterable[str], path: str) -> dict[str, str]:
    """Return which column of the file is what."""
    present = {name.strip().lower(): name for name in reversed(list(header)) if name}
    found: dict[str, str] = {}
    for what, names in {**COLUMNS, **_OPTIONAL}.items():
        match = next((present[name] for name in names if name in present), None)
        if match is not None:
            found[what] = match
        elif what in COLUMNS:
            raise InputError(f"trace {path}: no column for the {what}: one of {', '.join(names)} is wanted")
    return found


def _time(text: str | None, where: str, column: str) -> float:
    text = (text or "").strip()
    try:
        value = float(text)
    except ValueError:
        value = _date(text)
    if value is None or not math.isfinite(value):
        raise InputError(f"{where}: {column} {text!r} is no time: seconds or a date such as 2023-11-16 18:17:03.98 is wanted")
    return value


def _date(text: str) -> float | None:
    """Return seconds since the epoch; digits past the microsecond, which Python does not read, are kept as well."""
    whole, dot, rest = text.partition(".")
    digits = len(rest) - len(rest.lstrip("0123456789"))
    zone = rest[digits:] if dot else ""
    try:
        moment = datetime.fromisoformat(whole + zone)
    except ValueError:
        return None
    fraction = float(f"0.{rest[:digits] or 0}") if dot else 0.0
    return (moment - datetime.fromisoformat("1970-01-01" + ("T00:00:00+00:00" if moment.tzinfo else ""))).total_seconds() + fraction


def _count(row: Mapping[str, str | None], columns: Mapping[str, str], name: str, where: str) -> int:
    """Return a count of a row: 1 or more, or 0 or more where the column is optional."""
    if name not in columns:
        return 0
    text, least = (row[columns[name]] or "").strip(), 1 if name in COLUMNS else 0
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < least or value != int(value):
        raise InputError(f"{where}: {columns[name]} {text!r} is no number of tokens: a whole number of {least} or more is wanted")
    return int(value)
