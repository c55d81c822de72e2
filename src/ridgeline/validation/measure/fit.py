"""Constants of a chip from its own rows, through the very model that predicts others: each from the rows that it is seen in."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from ridgeline.catalogue import families
from ridgeline.errors import InputError
from ridgeline.quantities import Count, FlopsPerSecond
from ridgeline.specs.chip import Chip
from ridgeline.specs.family import Family
from ridgeline.validation.group import Group
from ridgeline.validation.predict import Kind, kind_of
from ridgeline.validation.schema import Row

_GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0
_ROUNDS, _STEPS = 6, 20
_WIDE, _NARROW = 10.0, 1.3  # factors either way of a first search, and of the last at least
_SMALL = 0.1  # of a nat


@dataclass(frozen=True, kw_only=True)
class Constants:
    """What is fitted: peaks by format, the loss of small tiles, special functions a second, the share that attention reads at."""

    rates: Mapping[str, FlopsPerSecond]
    tile_loss: Count
    special: FlopsPerSecond
    paged: Count


def fit(chip: Chip, rows: Sequence[Row], before: Constants) -> Constants:
    """Return constants that bring the predictions of rows nearest to their times, one constant after the other.

    Products fix the rates and the loss of small tiles, vector kernels and prefill the special functions, decode the share of the
    bandwidth. A constant that no row shows keeps its value. Lanes that compute in fp32 convert what is narrower value by value,
    which is no matter of bandwidth: where they do all, rows in 16 bits fix neither of the last two.
    """
    lanes = chip.matrix_unit.kind == "simd"
    kinds = _by_kind([row for row in rows if not lanes or row.has("k") or row.text("dtype") == "fp32"])
    found = before
    products = kinds.get("product", [])
    wide = _WIDE
    for _ in range(_ROUNDS if products else 0):
        for format in found.rates:
            mine = [row for row in products if row.text("dtype") == format]
            found = _searched(chip, mine, found, partial(_with_rate, format), found.rates[format], wide)
        found = _searched(chip, products, found, _with_loss, found.tile_loss, wide)
        wide = max(wide**0.5, _NARROW)
    others = [*kinds.get("vector", []), *kinds.get("prefill", [])]
    if others:
        found = _searched(chip, others, found, _with_special, found.special, 3.0 * _WIDE)
    if kinds.get("decode"):
        found = _searched(chip, kinds["decode"], found, _with_paged, found.paged, _WIDE)
    return found


def _with_rate(format: str, one: Constants, value: FlopsPerSecond) -> Constants:
    return replace(one, rates={**one.rates, format: value})


def _with_loss(one: Constants, value: Count) -> Constants:
    return replace(one, tile_loss=value)


def _with_special(one: Constants, value: FlopsPerSecond) -> Constants:
    return replace(one, special=value)


def _with_paged(one: Constants, value: Count) -> Constants:
    return replace(one, paged=min(value, 1.0))


def _by_kind(rows: Sequence[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        kind = kind_of(row)
        if kind is not None:
            name = (row.text("phase") if kind.name == "attention" else "") or kind.name
            found.setdefault(name, []).append(row)
    return found


Change = Callable[[Constants, float], Constants]


def _searched(chip: Chip, rows: Sequence[Row], before: Constants, change: Change, start: float, wide: float) -> Constants:
    """Return the constants with one of them at its best, by golden section over a factor `wide` either way."""
    if not rows:
        return before

    def error(value: float) -> float:
        return _error(with_constants(chip, change(before, math.exp(value))), rows)

    low, high = math.log(start / wide), math.log(start * wide)
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    first, second = error(left), error(right)
    for _ in range(_STEPS):
        if first <= second:
            high, right, second = right, left, first
            left = high - _GOLDEN * (high - low)
            first = error(left)
        else:
            low, left, first = left, right, second
            right = low + _GOLDEN * (high - low)
            second = error(right)
    return change(before, math.exp((low + high) / 2.0))


def _error(chip: Chip, rows: Sequence[Row]) -> float:
    """Mean over rows of the logarithm of predicted over measured: squared where it is small, absolute where it is not."""
    off = [abs(math.log(time / row.measured)) for row, time in predicted(chip, rows)]
    return statistics.fmean(one**2 if one < _SMALL else _SMALL * (2.0 * one - _SMALL) for one in off)


def with_constants(chip: Chip, constants: Constants) -> Chip:
    """Return a chip with constants in place of its own."""
    if chip.efficiency is None:
        raise InputError(f"{chip.name}: no constants of a family, which the level mapped needs")
    unit, lanes = chip.matrix_unit, dict(chip.vector_unit.rate)
    if "fp32" in lanes and "fp32" in constants.rates:
        lanes["fp32"] = constants.rates["fp32"]
    lanes["exponential"] = constants.special
    return replace(
        chip,
        matrix_unit=replace(unit, rate=dict(constants.rates)),
        vector_unit=replace(chip.vector_unit, rate=lanes),
        efficiency=replace(chip.efficiency, tile_loss=constants.tile_loss, paged=constants.paged),
    )


def predicted(chip: Chip, rows: Sequence[Row]) -> list[tuple[Row, float]]:
    """Return rows with their predicted times on a chip; rows that no model predicts are left out."""
    found: list[tuple[Row, float]] = []
    for kind, group in _groups(chip, rows):
        times = np.ravel(kind.predict(group).time)
        found += [(row, float(time)) for row, time in zip(group.rows, times, strict=True)]
    return found


def _groups(chip: Chip, rows: Sequence[Row]) -> list[tuple[Kind, Group]]:
    family: Family | None = chip.efficiency
    if family is None:
        raise InputError(f"{chip.name}: no constants of a family, which the level mapped needs")
    groups: dict[tuple[Any, ...], tuple[Kind, list[Row]]] = {}
    for row in rows:
        kind = kind_of(row)
        if kind is not None:
            key = (kind.name, row.text("framework"), *(row.text(name) for name in kind.grouped_by))
            groups.setdefault(key, (kind, []))[1].append(row)
    found: list[tuple[Kind, Group]] = []
    for kind, members in groups.values():
        stack = families.stack_of(kind.framework(members[0]), members[0].text("kernel"), chip.vendor, chip.family)
        found.append((kind, Group(chip=chip, family=family, stack=stack, rows=tuple(members))))
    return found
