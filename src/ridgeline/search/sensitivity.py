"""Elasticities: by how many per cent a step's time, energy and cost change when one quantity of the hardware grows by one per cent.

And what to buy next: the time that one dollar or one mm² more of a part saves.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from ridgeline.errors import InfeasibleError, InputError
from ridgeline.quantities import Dollars, Fraction, Joules, Quantity, Seconds, SquareMetres


class Outcome(NamedTuple):
    """What a step takes."""

    time: Seconds
    energy: Joules | None
    dollars: Dollars | None = None


Evaluate = Callable[[str, float], Outcome]  # path and value of one quantity, all others as they are


@dataclass(frozen=True, kw_only=True)
class Elasticity:
    """d log time / d log quantity at the quantity's value, and the same to either side; None where a side cannot be."""

    path: str
    value: float
    time: float
    below: float | None
    above: float | None
    energy: float | None = None
    note: str = ""
    dollars: float | None = None

    @property
    def kinked(self) -> bool:
        """Whether the two sides differ by more than a hundredth: another resource, tile or fold takes over here."""
        return self.below is not None and self.above is not None and abs(self.above - self.below) > 0.01


def elasticity(evaluate: Evaluate, path: str, value: float, base: Outcome, *, step: float, whole: bool = False) -> Elasticity:
    """Return the elasticity to one quantity as a secant over a step to either side.

        ε = log(t(q·(1+h)) / t(q/(1+h))) / (2·log(1+h))

    Central in log q: the error is of the order h² where time is smooth; over a kink or a staircase it is the mean slope of the
    secant. A whole quantity goes to the next whole values. A side that cannot be is left out, and said.

    >>> found = elasticity(lambda _, q: Outcome(8.0 / q, None), "bandwidth", 2.0, Outcome(4.0, None), step=0.1)
    >>> round(found.time, 12)
    -1.0
    """
    factor = 1.0 + step
    up, down = value * factor, value / factor
    if whole:
        up, down = max(math.floor(value) + 1.0, round(up)), min(math.ceil(value) - 1.0, round(down))
    sides: list[tuple[float, Outcome] | None] = []
    notes: list[str] = []
    for name, moved in (("less", down), ("more", up)):
        try:
            sides.append((moved, evaluate(path, moved)) if moved > 0 else None)
        except (InfeasibleError, InputError) as error:
            sides.append(None)
            notes.append(f"{name} cannot be: {error}")
    below, above = (None if side is None else _slope((value, base.time), (side[0], side[1].time)) for side in sides)
    ends = [(one[0], one[1]) if one is not None else (value, base) for one in sides]
    energy = _slope((ends[0][0], ends[0][1].energy), (ends[1][0], ends[1][1].energy))
    time = _slope((ends[0][0], ends[0][1].time), (ends[1][0], ends[1][1].time))
    paid = _slope((ends[0][0], ends[0][1].dollars), (ends[1][0], ends[1][1].dollars))
    note = "; ".join(notes)
    return Elasticity(path=path, value=value, time=time or 0.0, below=below, above=above, energy=energy, note=note, dollars=paid)


def _slope(first: tuple[float, Quantity], second: tuple[float, Quantity]) -> float | None:
    """Return the slope between two points in logarithms; None where there is none."""
    (start, low), (end, high) = first, second
    if low is None or high is None or start == end or not low > 0 or not high > 0:
        return None
    return math.log(high / low) / math.log(end / start)


def elasticities(
    evaluate: Evaluate, quantities: Mapping[str, float], base: Outcome, *, step: float, whole: frozenset[str] = frozenset()
) -> tuple[Elasticity, ...]:
    """Return the elasticity to each quantity that is above zero, the largest first."""
    found = [
        elasticity(evaluate, path, value, base, step=step, whole=path in whole) for path, value in quantities.items() if value > 0
    ]
    return tuple(sorted(found, key=lambda one: (-abs(one.time), -abs(one.energy or 0.0), one.path)))


# ---- what to buy next -------------------------------------------------------------------------------------------------------


class Part(NamedTuple):
    """A part of a chip that one can have more of: quantities that grow together, by a factor that may go in whole steps."""

    name: str
    paths: tuple[str, ...]
    factor: float  # the least more that the step allows


class Bill(NamedTuple):
    """What a chip takes with a part made larger; None where it is not known."""

    area: SquareMetres | None  # of the die
    dollars: Dollars | None  # to make the package, and to run it over its life


@dataclass(frozen=True, kw_only=True)
class Purchase:
    """A little more of a part: the time that it saves, what it takes, and the share of time saved for a dollar and for a mm²."""

    name: str
    paths: tuple[str, ...]
    factor: float
    time: float  # elasticity, upward
    energy: float | None
    area: SquareMetres | None  # for as much again, at the margin
    dollars: Dollars | None
    per_dollar: Fraction | None  # of the time, saved by a dollar
    per_square_metre: Fraction | None
    note: str = ""


Grow = Callable[[tuple[str, ...], float], tuple[Outcome, Bill]]  # paths that grow together, and their factor


def purchases(grow: Grow, parts: Iterable[Part], base: Outcome, bill: Bill) -> tuple[Purchase, ...]:
    """Return what each part buys at the margin, the most time a dollar first, then the most a mm².

        saved for a dollar = −log(t(f·q) / t(q)) / (c(f·q) − c(q));   saved for a mm² with the area in place of the cost

    Upward only: a part is bought, not sold. A part that costs neither is left out; one whose larger form cannot be is kept with the
    reason.

    >>> def grow(paths, factor):
    ...     return Outcome(10.0 / factor, None), Bill(area=1e-4 * factor, dollars=200.0 * factor)
    >>> found = purchases(grow, [Part("stacks", ("bandwidth",), 1.1)], Outcome(10.0, None), Bill(1e-4, 200.0))
    >>> round(found[0].time, 12), round(found[0].per_dollar * 20, 4), round(found[0].dollars)  # log 1.1 for 20 dollars
    (-1.0, 0.0953, 200)
    """
    found: list[Purchase] = []
    for part in parts:
        try:
            outcome, larger = grow(part.paths, part.factor)
        except (InfeasibleError, InputError) as error:
            nothing: dict[str, None] = dict.fromkeys(("energy", "area", "dollars", "per_dollar", "per_square_metre"))
            found.append(Purchase(name=part.name, paths=part.paths, factor=part.factor, time=0.0, note=str(error), **nothing))
            continue
        saved = math.log(base.time / outcome.time)
        area = None if larger.area is None or bill.area is None else larger.area - bill.area
        dollars = None if larger.dollars is None or bill.dollars is None else larger.dollars - bill.dollars
        if not area and not dollars:
            continue
        grown = part.factor - 1.0
        found.append(
            Purchase(
                name=part.name,
                paths=part.paths,
                factor=part.factor,
                time=0.0 - saved / math.log(part.factor),
                energy=_slope((1.0, base.energy), (part.factor, outcome.energy)),
                area=None if area is None else area / grown,
                dollars=None if dollars is None else dollars / grown,
                per_dollar=saved / dollars if dollars else None,
                per_square_metre=saved / area if area else None,
            )
        )
    return tuple(sorted(found, key=lambda one: (-(one.per_dollar or 0.0), -(one.per_square_metre or 0.0), one.name)))
