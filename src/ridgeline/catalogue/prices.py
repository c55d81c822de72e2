"""Prices become specs: terms of ownership, and what a node's silicon, memory and packaging cost (`prices.csv`)."""

import csv
import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from ridgeline.errors import InputError
from ridgeline.quantities import convert
from ridgeline.specs.base import Source
from ridgeline.specs.money import Fabrication, Terms

FOLDER = Path(__file__).parent
_UNITS = {
    **{"wafer": "USD", "packaging": "USD", "memory": "USD/B", "defects": "1/m2", "life": "s"},
    **{"electricity": "USD/J", "hosting": "USD/J", "stack rate": "B/s", "stack interface": "m2"},
    **{"link rate": "B/s", "link interface": "m2", "diameter": "m", "edge": "m", "scribe": "m"},
}
_OF_YEAR = ("wafer", "packaging", "memory", "electricity", "hosting")
_YEAR = 31557600.0  # seconds


class Price(NamedTuple):
    """One row in SI."""

    value: float
    year: int | None
    source: Source


@cache
def prices() -> Mapping[tuple[str, str], Price]:
    """Return the rows of `prices.csv` by (quantity, what it is of); a price without a year raises `InputError`."""
    found: dict[tuple[str, str], Price] = {}
    with (FOLDER / "prices.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            found[(row["quantity"], row["of"])] = read_price(row)
    return found


def read_price(row: Mapping[str, str]) -> Price:
    """Return a row of a table of prices in SI; raise `InputError` for a price without its year."""
    name = row["quantity"]
    if name in _OF_YEAR and not row["year"].strip().isdigit():
        raise InputError(f"prices.csv: {name} of {row['of']}: a price needs the year it is of, as in 2024")
    source = Source(
        key=row["source"] or None,
        where=row["where"] or None,
        confidence=row["confidence"] or "estimate",
        note=row["note"] or None,
        value=float(row["value"]),
        unit=row["unit"],
    )
    value = convert(float(row["value"]), row["unit"], _UNITS.get(name, "1"))
    return Price(value, int(row["year"]) if row["year"] else None, source)


def continuous(yearly: float) -> float:
    """Return the rate a second, compounded continuously, of a yearly interest.

    >>> round(continuous(0.08) * 31557600, 5)  # log 1.08
    0.07696
    """
    return math.log1p(yearly) / _YEAR


@cache
def terms() -> Terms:
    """Return the terms of ownership of the catalogue."""
    names = ("life", "residual", "interest", "electricity", "pue", "hosting")
    rows = {name: prices()[(name, "terms")] for name in names}
    values: dict[str, Any] = {name: row.value for name, row in rows.items()}
    values["interest"] = continuous(rows["interest"].value)
    years = {name: row.year for name, row in rows.items() if row.year is not None and name in _OF_YEAR}
    return Terms(**values, years=years, sources={name: row.source for name, row in rows.items()})


def fabrication(feature: float | None, memory: str | None, link: str | None = None) -> Fabrication | None:
    """Return what a node's packages cost beside a memory technology; None where the wafer's price is not known."""
    found = prices()
    size = "" if feature is None else f"{round(feature * 1e9, 3):g} nm"
    if ("wafer", size) not in found:
        return None
    kind = "interposer" if (memory or "").startswith("HBM") else "substrate"
    rows: dict[str, Price] = {"wafer": found[("wafer", size)], "packaging": found[("packaging", kind)]}
    rows["defects"] = found.get(("defects", size), found[("defects", "any")])
    for name in ("diameter", "edge", "scribe", "clustering", "layers", "assembled"):
        rows[name] = found[(name, "any")]
    values: dict[str, Any] = {name: row.value for name, row in rows.items()}
    groups = {"memory": "memory", "stack rate": "stack_rate", "stack interface": "stack_interface"}
    for quantity, field in groups.items():
        one = found.get((quantity, memory or ""))
        if one is not None:
            values[field] = {memory: one.value}
            rows[f"{field}.{memory}"] = one
    if ("link interface", link or "") in found:
        for quantity, field in (("link interface", "link_interface"), ("link rate", "link_rate")):
            rows[field] = found[(quantity, link or "")]
            values[field] = rows[field].value
    years = {name: row.year for name, row in rows.items() if row.year is not None}
    return Fabrication(**values, years=years, sources={name: row.source for name, row in rows.items()})


def known_wafers() -> tuple[str, ...]:
    """Return the nodes whose wafers have a price."""
    return tuple(of for quantity, of in prices() if quantity == "wafer")
