"""Axes: the one place where a range becomes an array with a name and a dimension of its own."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ridgeline.errors import InputError
from ridgeline.quantities import parse

Axis = np.ndarray[tuple[int], np.dtype[np.float64]]


def parse_range(text: str, name: str = "value", unit: str = "1") -> list[float]:
    """Return the values of a range: `5`, `1,2,4`, `1:512:x2` (each twice the last), `0:1:0.1`, `1:8` (step 1).

    Both ends belong to the range. Values may carry a unit, as in `1 TB/s:8 TB/s:x2`.

    >>> parse_range("1:16:x2")
    [1.0, 2.0, 4.0, 8.0, 16.0]
    >>> parse_range("0:1:0.25")
    [0.0, 0.25, 0.5, 0.75, 1.0]
    """
    accepted = "one number, a list `1,2,4`, or a range `1:512:x2`, `0:1:0.1` is wanted"
    try:
        if "," in text:
            return [parse(one, unit) for one in text.split(",")]
        first, *rest = text.split(":")
        if not rest:
            return [parse(first, unit)]
        if len(rest) > 2:
            raise ValueError("too many colons")
        start, stop = parse(first, unit), parse(rest[0], unit)
        step = rest[1] if len(rest) == 2 else "1"
        values = (
            _geometric(start, stop, float(step[1:])) if step.startswith(("x", "*")) else _linear(start, stop, parse(step, unit))
        )
    except ValueError as error:
        raise InputError(f"--{name} {text}: {_reason(error)}: {accepted}") from None
    if not values:
        raise InputError(f"--{name} {text} is an empty range: it starts past its end")
    return values


def _reason(error: ValueError) -> str:
    """Return what is wrong in our own words; Python's own are about conversions."""
    said = str(error)
    return "not a number" if said.startswith("could not convert") else said


_MOST = 10_000_000


def _geometric(start: float, stop: float, factor: float) -> list[float]:
    if factor <= 1 or start <= 0:
        raise ValueError(f"a range by factors needs a factor above 1 and a start above 0, not x{factor:g} from {start:g}")
    count = math.floor(math.log(stop / start) / math.log(factor) * (1 + 1e-12) + 1e-9) + 1 if stop >= start else 0
    _check_length(count)
    return [start * factor**index for index in range(count)]


def _check_length(count: int) -> None:
    if count > _MOST:
        raise ValueError(f"the range has {count:g} values, and {_MOST:g} are the most")


def _linear(start: float, stop: float, step: float) -> list[float]:
    if step <= 0:
        raise ValueError(f"a range needs a step above 0, not {step:g}")
    count = math.floor((stop - start) / step + 1e-9) + 1 if stop >= start else 0
    _check_length(count)
    return [start + step * index for index in range(count)]


@dataclass(frozen=True)
class Block:
    """A part of a grid: the values of each axis in it, shaped to broadcast, and where it lies."""

    values: Mapping[str, Any]
    place: tuple[slice, ...]
    points: int


@dataclass(frozen=True, eq=False)
class Grid:
    """All combinations of named axes; the i-th name varies along dimension i."""

    axes: Mapping[str, Axis]

    @classmethod
    def of(cls, axes: Mapping[str, Sequence[float]]) -> "Grid":
        """Make a grid from lists of values."""
        return cls({name: np.asarray(values, dtype=np.float64) for name, values in axes.items()})

    @property
    def shape(self) -> tuple[int, ...]:
        """Points along each axis."""
        return tuple(len(values) for values in self.axes.values())

    @property
    def points(self) -> int:
        """Number of combinations."""
        return math.prod(self.shape)

    def blocks(self, most: int = 32_768) -> Iterator[Block]:
        """Yield parts of at most `most` points that together are the grid, so that memory is bounded by a part.

        >>> [block.points for block in Grid.of({"a": range(3), "b": range(4)}).blocks(most=4)]
        [4, 4, 4]
        """
        sizes = _block_sizes(self.shape, most)
        starts = [range(0, length, size) for length, size in zip(self.shape, sizes, strict=True)]
        for corner in np.ndindex(*[len(one) for one in starts]):
            place = tuple(
                slice(start[index], min(start[index] + size, length))
                for start, index, size, length in zip(starts, corner, sizes, self.shape, strict=True)
            )
            yield self._block(place)

    def count_blocks(self, most: int) -> int:
        """Return how many parts `blocks` yields."""
        sizes = _block_sizes(self.shape, most)
        return math.prod(-(-length // size) for length, size in zip(self.shape, sizes, strict=True))

    def block(self, number: int, most: int) -> Block:
        """Return the part that `blocks` yields as the `number`-th, from 0.

        >>> Grid.of({"a": range(3), "b": range(4)}).block(2, most=4).place
        (slice(2, 3, None), slice(0, 4, None))
        """
        sizes = _block_sizes(self.shape, most)
        counts = [-(-length // size) for length, size in zip(self.shape, sizes, strict=True)]
        corner = np.unravel_index(number, counts) if counts else ()
        starts = [int(index) * size for index, size in zip(corner, sizes, strict=True)]
        ends = [min(start + size, length) for start, size, length in zip(starts, sizes, self.shape, strict=True)]
        return self._block(tuple(slice(start, end) for start, end in zip(starts, ends, strict=True)))

    def whole(self) -> Block:
        """Return the grid as one block."""
        return self._block(tuple(slice(0, length) for length in self.shape))

    def _block(self, place: tuple[slice, ...]) -> Block:
        values: dict[str, Any] = {}
        points = 1
        for dimension, (name, axis) in enumerate(self.axes.items()):
            part = axis[place[dimension]]
            points *= len(part)
            values[name] = part.reshape(tuple(-1 if dimension == other else 1 for other in range(len(self.axes))))
        return Block(values, place, points)


def _block_sizes(shape: tuple[int, ...], most: int) -> list[int]:
    """Return the edge of a block along each axis: whole inner axes while they fit, then a part of the next, then 1."""
    sizes: list[int] = []
    room = max(most, 1)
    for length in reversed(shape):
        size = max(1, min(length, room))
        sizes.append(size)
        room //= size
    return sizes[::-1]
