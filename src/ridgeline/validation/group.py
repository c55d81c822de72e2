"""Rows that one call predicts: they share chip, library and number formats."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ridgeline.quantities import Seconds
from ridgeline.specs.chip import Chip
from ridgeline.specs.family import Family
from ridgeline.specs.stack import Stack
from ridgeline.validation.schema import Row


class Times(NamedTuple):
    """Times of a group's rows: as predicted, and the bound that no machine of these peaks beats."""

    time: Seconds
    ideal: Seconds


@dataclass(frozen=True, kw_only=True, eq=False)
class Group:
    """Rows that share chip, library and formats, with what is known of these."""

    chip: Chip
    family: Family
    stack: Stack
    rows: tuple[Row, ...]

    def column(self, name: str, default: float = float("nan")) -> Any:
        """Return a column of all rows as an array; the default where it is empty."""
        return np.array([row.number(name, default) for row in self.rows])

    def text(self, name: str) -> str:
        """Return what the rows share in a column."""
        return self.rows[0].text(name)
