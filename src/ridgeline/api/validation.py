"""Predict every row of measurement files, and say how far off each slice is."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ridgeline.catalogue import families
from ridgeline.errors import InputError
from ridgeline.validation import compare, schema
from ridgeline.validation.compare import Judged, Slice
from ridgeline.validation.predict import Constants, predict
from ridgeline.validation.schema import Fault


@dataclass(frozen=True, kw_only=True)
class Validation:
    """The error table of some files, every row beside its prediction, and what could not be read."""

    slices: tuple[Slice, ...]
    rows: tuple[Judged, ...]
    faults: tuple[Fault, ...]


def validate(files: Sequence[str | Path], constants: Constants | None = None) -> Validation:
    """Predict every row of CSV files of the measurement schema; raise `InputError` for a file none of whose rows can be read.

    A row that cannot be read is among the `faults`, by file and line; one that no model predicts counts as 100 % off. Rows that a
    `suspect_rows.csv` beside the files or above them names are shown and not scored.
    """
    if not files:
        raise InputError("no file: give at least one CSV of measurements")
    read = [schema.read(Path(one)) for one in files]
    suspects: dict[tuple[str, str], str] = {}
    for folder in dict.fromkeys(Path(one).resolve().parent for one in files):
        suspects |= compare.read_suspects(folder)
    found = predict([row for one in read for row in one.rows], constants)
    rows = compare.judged(found, suspects)
    return Validation(
        slices=tuple(compare.slices(rows, families.fitted_chips())),
        rows=tuple(rows),
        faults=tuple(fault for one in read for fault in one.faults),
    )
