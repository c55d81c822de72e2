"""Rows that one call predicts: they share chip, library and number formats."""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from ridgeline.mapping.dataflow import TILED
from ridgeline.quantities import Fraction, Seconds
from ridgeline.specs.chip import Chip
from ridgeline.specs.family import Family
from ridgeline.specs.stack import Stack
from ridgeline.validation.schema import Row


class Times(NamedTuple):
    """Times of a group's rows: as predicted, the bound that no machine of these peaks beats, and factors of the interval.

    Without factors a row's interval is that of its kind of kernel; a step's are those of its estimate.
    """

    time: Seconds
    ideal: Seconds
    lower: Fraction | None = None
    upper: Fraction | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Group:
    """Rows that share chip, library and formats, with what is known of these."""

    chip: Chip
    family: Family
    stack: Stack
    rows: tuple[Row, ...]

    @property
    def machine(self) -> Chip:
        """The chip as a step runs on it: with its family's constants and the rows' stack.

        A systolic array that has no constants of its own is no chip of many cores: its products are tiled over the array.
        """
        unit = self.chip.matrix_unit
        tiled = self.chip.efficiency is None and unit.kind in TILED and len(unit.shape) == len(("rows", "columns"))
        return replace(self.chip, efficiency=None if tiled else self.family, stack=self.stack)

    def column(self, name: str, default: float = float("nan")) -> Any:
        """Return a column of all rows as an array; the default where it is empty."""
        return np.array([row.number(name, default) for row in self.rows])

    def text(self, name: str) -> str:
        """Return what the rows share in a column."""
        return self.rows[0].text(name)
