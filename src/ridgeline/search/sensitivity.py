"""Elasticities: by how many per cent a step's time and energy change when one quantity of the hardware grows by one per cent."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from ridgeline.errors import InfeasibleError, InputError
from ridgeline.quantities import Joules, Quantity, Seconds


class Outcome(NamedTuple):
    """What a step takes."""

    time: Seconds
    energy: Joules | None


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
    note = "; ".join(notes)
    return Elasticity(path=path, value=value, time=time or 0.0, below=below, above=above, energy=energy, note=note)


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
