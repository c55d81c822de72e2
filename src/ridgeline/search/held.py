"""What a space holds constant: one quantity is solved for at every point, so that area, power or a formula keeps its value."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ridgeline.errors import InputError
from ridgeline.quantities import Quantity

_STEPS = 12
_CLOSE = 1e-9


@dataclass(frozen=True, kw_only=True)
class Held:
    """A column that keeps its value, and the quantity that gives way; whole counts are rounded down, to at most the value."""

    name: str
    value: float
    by: str

    @property
    def whole(self) -> bool:
        """Whether the quantity that gives way is a count."""
        return self.by.endswith((".count", "shape"))


def solved(held: Held, start: float, of: Callable[[Any], Quantity]) -> tuple[Any, Any]:
    """Return the quantity at which a column has its value, point by point, and where there is one.

        q ← q + (v − f(q)) · (q − q′) / (f(q) − f(q′))

    Secants from the base's own value: exact after one step where the column is a straight line in the quantity, as an area is in a
    capacity or a count. Points at which it never comes within 1e-9, or only at 0 or less, have none. Raises `InputError` for a
    column that the quantity does not move anywhere.

    >>> quantity, possible = solved(Held(name="area", value=10.0, by="capacity"), 1.0, lambda q: 4.0 + 2.0 * q)
    >>> float(quantity), bool(possible)
    (3.0, True)
    """
    before = np.asarray(start, dtype=np.float64)
    low = np.asarray(of(before), dtype=np.float64)
    now = before * 1.25
    high = np.asarray(of(now), dtype=np.float64)
    if not (high != low).any():
        raise InputError(f"`{held.name}` cannot be held by `{held.by}`: it does not depend on it")
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        for _ in range(_STEPS):
            done = np.abs(high - held.value) <= _CLOSE * abs(held.value)
            if done.all():
                break
            following = now + (held.value - high) * (now - before) / (high - low)
            following = np.where(done | ~np.isfinite(following), now, following)
            before, low, now = now, high, following
            high = np.asarray(of(now), dtype=np.float64)
        found = np.abs(high - held.value) <= _CLOSE * abs(held.value)
    found = found & np.isfinite(now) & (now > 0.0)
    if held.whole:
        now = np.floor(now * (1.0 + 1e-12))
        found = found & (now >= 1.0)
    return np.where(found, now, start), found
