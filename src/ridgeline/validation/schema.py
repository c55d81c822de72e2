"""Measured rows as they lie in CSV files: read in SI, and what is wrong with a row said by file and line."""

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from ridgeline.catalogue import load
from ridgeline.errors import InputError, RidgelineError, nearest
from ridgeline.quantities import Quantity
from ridgeline.specs.chip import Chip

REQUIRED = ("id", "chip", "metric", "value", "unit")
# Unit of the schema → (factor to SI, the SI unit).
UNITS: Mapping[str, tuple[float, str]] = {
    "s": (1.0, "s"),
    "ms": (1e-3, "s"),
    "us": (1e-6, "s"),
    "W": (1.0, "W"),
    "mW": (1e-3, "W"),
    "J": (1.0, "J"),
    **dict.fromkeys(("tokens/s", "Tokens/s"), (1.0, "tokens/s")),
    **dict.fromkeys(("Samples/s", "frames/s"), (1.0, "1/s")),
    "1/MAC": (1.0, "1/MAC"),
    "FLOP/s": (1.0, "FLOP/s"),
    **dict.fromkeys(("TFLOP/s", "TFLOPS"), (1e12, "FLOP/s")),
    "B/s": (1.0, "B/s"),
    "GB/s": (1e9, "B/s"),
}
RATES = ("tokens/s", "1/s", "FLOP/s", "B/s")  # more is faster: errors are taken of their inverse


@dataclass(frozen=True, kw_only=True, eq=False)
class Row:
    """One measurement: which, of what, on which chip, and the value in SI."""

    dataset: str
    file: str
    line: int
    id: str
    chip: str
    metric: str
    measured: Quantity
    unit: str
    columns: Mapping[str, str] = field(default_factory=dict[str, str])

    def text(self, *names: str, default: str = "") -> str:
        """Return the first of these columns that has something in it."""
        return next((self.columns[name] for name in names if self.columns.get(name)), default)

    def number(self, name: str, default: float = math.nan) -> float:
        """Return a column's number; where it is empty, the default."""
        text = self.columns.get(name, "")
        return float(text) if text else default

    def counts(self, *names: str) -> bool:
        """Say whether all these columns hold a finite number above 0."""
        return all(0.0 < _finite(self.columns.get(name, "")) < math.inf for name in names)

    def has(self, *names: str) -> bool:
        """Say whether all these columns have something in them."""
        return all(self.columns.get(name) for name in names)


def _finite(text: str) -> float:
    """Return a text's number; NaN, for which no comparison holds, where it has none."""
    try:
        return float(text)
    except ValueError:
        return math.nan


class Fault(NamedTuple):
    """A row, or a file, that cannot be read, and why."""

    file: str
    line: int
    id: str
    sentence: str

    def __str__(self) -> str:
        """Say where and what."""
        return f"{self.file}:{self.line}: {self.sentence}"


class Read(NamedTuple):
    """What a file holds: rows, and faults of those that are none."""

    dataset: str
    rows: list[Row]
    faults: list[Fault]


@lru_cache(maxsize=256)
def chip_of(name: str) -> Chip:
    """Return the chip that a row names, by any of its spellings."""
    return load.chip(name)


def read(path: Path) -> Read:
    """Read a file of the measurement schema; raise `InputError` where none of its rows can be read."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    reader = csv.DictReader(text.splitlines())
    missing = [name for name in REQUIRED if name not in (reader.fieldnames or ())]
    if missing:
        raise InputError(f"{path}:1: missing column {', '.join(missing)}: a measurement needs {', '.join(REQUIRED)}")
    found = Read(path.stem, [], [])
    for raw in reader:
        line = reader.line_num
        try:
            found.rows.append(_row(path, line, raw))
        except RidgelineError as error:
            found.faults.append(Fault(str(path), line, str(raw.get("id") or ""), str(error)))
    if not found.rows:
        first = f"; the first: {found.faults[0]}" if found.faults else ""
        raise InputError(f"{path}: none of its {len(found.faults)} rows can be read{first}")
    return found


def _row(path: Path, line: int, raw: dict[Any, Any]) -> Row:
    if None in raw:
        raise InputError(f"more values than the {len(raw) - 1} columns of the header")
    columns = {str(name): (value or "").strip() for name, value in raw.items()}
    if columns["unit"] not in UNITS:
        raise InputError(f"unit {columns['unit']!r}: {nearest(columns['unit'], UNITS)}")
    factor, unit = UNITS[columns["unit"]]
    value = _positive("value", columns["value"])
    _numbers(columns)
    return Row(
        dataset=path.stem,
        file=str(path),
        line=line,
        id=columns["id"],
        chip=_chip_name(columns["chip"], path.parent),
        metric=columns["metric"],
        measured=value * factor,
        unit=unit,
        columns=columns,
    )


def _chip_name(text: str, folder: Path) -> str:
    """Return the name of a row's chip; of a `.toml` file its path, from the rows' folder where it is relative and lies there."""
    if not text.endswith(".toml"):
        return chip_of(text).name
    beside = folder / text
    name = str(beside if beside.is_file() else Path(text))
    chip_of(name)
    return name


def _positive(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise InputError(f"{name} {text!r} is not a number") from None
    if not math.isfinite(value) or value <= 0:
        raise InputError(f"{name} {text} must be positive")
    return value


# Columns of shapes; a size is at least one, a context may be empty.
_SIZES = ("b", "m", "n", "k", "batch", "q_len", "kv_len", "n_heads", "n_kv_heads", "head_dim", "tokens", "hidden", "inter")
_COUNTS = ("topk", "n_experts", "n_local_experts", "moe_tp", "moe_ep", "bytes", "n_chips", "gpus_per_node", "groups")


def _numbers(columns: Mapping[str, str]) -> None:
    for name in (*_SIZES, *_COUNTS):
        if columns.get(name):
            _positive(name, columns[name])
