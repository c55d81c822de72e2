"""Which of two chips is faster: pairs of rows of one workload and one stack on two chips, how often the model names it right."""

import math
from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import NamedTuple

from ridgeline.mapping.intervals import HalfWidths, order_probability, ratio_half_widths
from ridgeline.specs.residual import Residuals
from ridgeline.validation.intervals import Off
from ridgeline.validation.schema import Row

CLEAR = 0.15  # by which measured times of a pair differ, for its order to count
_NOT_OF_A_WORKLOAD = frozenset({"id", "value", "chip", "source", "licence", "kernel", "system", "submitter", "note", "row"})


class Pair(NamedTuple):
    """One workload on two chips."""

    first: Off
    second: Off

    @property
    def measured(self) -> float:
        """Logarithm of the ratio of measured times."""
        return self.predicted + self.first.residual - self.second.residual

    @property
    def predicted(self) -> float:
        """Logarithm of the ratio of predicted times."""
        return _logarithm(self.first) - _logarithm(self.second)

    @property
    def clear(self) -> bool:
        """Say whether the measured times differ by more than 15 %."""
        return abs(math.expm1(abs(self.measured))) > CLEAR

    @property
    def right(self) -> bool:
        """Say whether the model names the faster chip."""
        return (self.measured < 0.0) == (self.predicted < 0.0)

    def probability(self, known: Residuals) -> float:
        """Return the probability that the predicted order is right, from the interval of the ratio."""
        whole = self.first.kind.startswith(("step", "served"))
        widths = ratio_half_widths(known, _widths(self.first), _widths(self.second), whole=whole)
        found = order_probability(math.exp(self.predicted), widths)
        return max(found, 1.0 - found)


class Order(NamedTuple):
    """How often the faster chip of a pair is named right, in one dataset or in all."""

    name: str
    pairs: int
    right: float
    confidence: float  # mean probability that the model gave


def _logarithm(one: Off) -> float:
    """Return the logarithm of the predicted time, of a rate of its inverse."""
    return math.log(one.time)


def _widths(one: Off) -> HalfWidths:
    return HalfWidths(-one.lower, one.upper)


def workload_of(row: Row) -> tuple[str, ...]:
    """Return what two rows must share to be one workload and stack: all but the chip and what was measured."""
    return row.dataset, *(f"{name}={value}" for name, value in sorted(row.columns.items()) if name not in _NOT_OF_A_WORKLOAD)


def pairs(rows: Iterable[Off]) -> list[Pair]:
    """Return every pair of rows of one workload on two chips."""
    groups: dict[tuple[str, ...], list[Off]] = {}
    for one in rows:
        groups.setdefault(workload_of(one.row), []).append(one)
    found = [Pair(*both) for members in groups.values() for both in combinations(members, 2)]
    return [one for one in found if one.first.chip != one.second.chip]


def orders(found: Sequence[Pair], known: Residuals) -> list[Order]:
    """Return by dataset, and of all, how often the faster chip is named right where times differ clearly."""
    clear = [one for one in found if one.clear]
    names = sorted({one.first.row.dataset for one in clear})
    groups = [(name, [one for one in clear if one.first.row.dataset == name]) for name in names] + [("ALL", clear)]
    return [
        Order(
            name,
            len(members),
            sum(one.right for one in members) / len(members),
            sum(one.probability(known) for one in members) / len(members),
        )
        for name, members in groups
        if members
    ]
