"""Inverse questions: the least or the largest value of one quantity that meets a target, and the neighbour that does not."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

from ridgeline.errors import InfeasibleError, InputError

_WINDOW = 33
_SAMPLES = 9


@dataclass(frozen=True, kw_only=True)
class Solution:
    """The value, the nearest tried value that fails (None where the end of the range still meets the target), and the bracket."""

    value: float
    neighbour: float | None
    low: float
    high: float
    most: bool
    evaluations: int


def boundary(
    meets: Callable[[float], bool], low: float, high: float, *, most: bool = False, whole: bool = False, tolerance: float = 1e-9
) -> Solution:
    """Return the least value from `low` to `high` that meets a target, or with `most` the largest, by bisection.

    Bisects in the logarithm until the neighbour that fails is within the tolerance, relative; whole numbers until it is the next
    one. What meets must go on meeting in the asked direction: that is tested at some values between, and `InputError` says where
    it does not hold. Raises `InfeasibleError` where neither an end of the bracket nor one
    of 33 values between meets the target.

    >>> round(boundary(lambda value: value * value >= 2.0, 1.0, 8.0).value, 6)
    1.414214
    >>> boundary(lambda value: value <= 295.3, 1, 1024, most=True, whole=True).value
    295.0
    """
    if not 0 < low <= high:
        raise InputError(f"a bracket from {low:g} to {high:g}: a start above 0 and an end not below it are wanted")
    tried: dict[float, bool] = {}

    def holds(value: float) -> bool:
        if value not in tried:
            tried[value] = meets(value)
        return tried[value]

    good, bad = (float(low), float(high)) if most else (float(high), float(low))
    if not holds(good):
        if holds(bad):
            raise InputError(
                f"the target is met at {bad:g} and not at {good:g}: {'leave --most out' if most else 'ask with --most'}"
            )
        good, bad = _inside(holds, low, high, most=most, whole=whole)
        return _bisected(holds, (good, bad), (low, high), most=most, whole=whole, tolerance=tolerance, tried=tried)
    _check_monotone(holds, low, high, most=most, whole=whole)
    if holds(bad):
        return Solution(value=bad, neighbour=None, low=low, high=high, most=most, evaluations=len(tried))
    return _bisected(holds, (good, bad), (low, high), most=most, whole=whole, tolerance=tolerance, tried=tried)


def _bisected(
    holds: Callable[[float], bool],
    ends: tuple[float, float],
    bracket: tuple[float, float],
    *,
    most: bool,
    whole: bool,
    tolerance: float,
    tried: Mapping[float, bool],
) -> Solution:
    """Return the value between one that meets the target and one that does not, as near to the latter as asked."""
    good, bad = ends
    while not _next_to(good, bad, whole=whole, tolerance=tolerance):
        middle = math.sqrt(good * bad)
        if whole:
            middle = min(max(float(round(middle)), min(good, bad) + 1.0), max(good, bad) - 1.0)
        if middle in (good, bad):
            break
        good, bad = (middle, bad) if holds(middle) else (good, middle)
    low, high = bracket
    return Solution(value=good, neighbour=bad, low=low, high=high, most=most, evaluations=len(tried))


def _inside(holds: Callable[[float], bool], low: float, high: float, *, most: bool, whole: bool) -> tuple[float, float]:
    """Return a value inside the bracket that meets a target which neither end meets, and the value before it, which does not.

    Two targets may leave a window: a batch large enough for a throughput and small enough for a latency. Raises `InfeasibleError`
    where none of the values tried meets it.
    """
    values = [low * (high / low) ** (index / (_WINDOW - 1)) for index in range(_WINDOW)]
    values = sorted({float(round(one)) for one in values}) if whole else values
    values = values[::-1] if most else values
    for before, value in pairwise(values):
        if holds(value):
            return value, before
    raise InfeasibleError(f"the target is met nowhere: neither {low:g} nor {high:g}, nor any value tried between them, meets it")


def _next_to(good: float, bad: float, *, whole: bool, tolerance: float) -> bool:
    return abs(good - bad) <= 1.0 if whole else abs(good - bad) <= tolerance * max(good, bad)


def _check_monotone(holds: Callable[[float], bool], low: float, high: float, *, most: bool, whole: bool) -> None:
    """Try some values between the ends: once the target is met it must stay met toward the good end."""
    values = [low * (high / low) ** (index / (_SAMPLES - 1)) for index in range(1, _SAMPLES - 1)]
    values = [float(low), *(sorted({float(round(one)) for one in values}) if whole else values), float(high)]
    values = values[::-1] if most else values
    met: float | None = None
    for value in values:
        if holds(value):
            met = value if met is None else met
        elif met is not None:
            raise InputError(
                f"the target is met at {met:g} and not at {value:g}, so no single value is the answer: narrow --from and --to"
            )
