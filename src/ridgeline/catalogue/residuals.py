"""Residuals of predictions on chips left out: tables become the spec that travels inside chips."""

import csv
from functools import cache
from pathlib import Path

from ridgeline.errors import InputError
from ridgeline.specs.residual import Residual, Residuals

FOLDER = Path(__file__).parent
TABLE = FOLDER / "intervals.csv"
RULES = FOLDER / "interval_rules.csv"
NUMBERS = ("lower", "upper", "lower_short", "upper_short", "least", "most")
COUNTS = ("chips", "rows")


@cache
def residuals() -> Residuals:
    """Return the residuals by kind of kernel and of step, and the rules by which they go together and grow.

    >>> residuals().of("product:fp4").kind  # a format that no row has: products of all formats
    'product'
    """
    return Residuals(kinds=_kinds(), **_rules())


def _kinds() -> tuple[Residual, ...]:
    with TABLE.open(encoding="utf-8", newline="") as file:
        return tuple(_kind(at, raw) for at, raw in enumerate(csv.DictReader(file), start=2))


def _kind(line: int, raw: dict[str, str]) -> Residual:
    try:
        numbers = {name: float(raw[name]) for name in NUMBERS}
        counts = {name: int(raw[name]) for name in COUNTS}
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{TABLE}:{line}: {error}: {', '.join((*NUMBERS, *COUNTS))} must be numbers") from None
    return Residual(
        kind=raw["kind"],
        lower=numbers["lower"],
        upper=numbers["upper"],
        lower_short=numbers["lower_short"],
        upper_short=numbers["upper_short"],
        least=numbers["least"],
        most=numbers["most"],
        chips=counts["chips"],
        rows=counts["rows"],
        families=tuple(raw["families"].split()),
        seen=tuple((raw.get("seen") or "").split()),
    )


def _rules() -> dict[str, float]:
    with RULES.open(encoding="utf-8", newline="") as file:
        return {one["rule"]: float(one["value"]) for one in csv.DictReader(file)}


def residuals_for(chip: str, family: str, *, kernels: bool) -> Residuals | None:
    """Return the residuals of a chip: of kernels on many cores, or of the arrays of its family; None where nothing was measured."""
    known = residuals().on(chip)
    if kernels:
        return known
    array = known.of("array")
    return known if array is not None and family in array.families else None
