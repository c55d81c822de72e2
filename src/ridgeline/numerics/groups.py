"""Which values share a scale: an array as rows of values that do, and back."""

from math import prod
from operator import index
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ridgeline.errors import InputError
from ridgeline.numerics.codes import Floats
from ridgeline.specs.number_format import NumberFormat

Sharing = Literal["own", "none", "tensor", "channel", "group"]
SHARINGS = ("own", "none", "tensor", "channel", "group")


class Groups(NamedTuple):
    """How an array falls into groups of values that share a scale."""

    kind: str  # none, tensor, channel, group or square
    shape: tuple[int, ...]
    axis: int = 0
    size: int = 1  # values along the axis, of a square along each of the last two

    @property
    def scale_shape(self) -> tuple[int, ...]:
        """The shape of one number a group: a group's axis holds the groups in place of the values."""
        if self.kind in ("none", "tensor"):
            return ()
        if self.kind == "channel":
            return (self.shape[self.axis],)
        counts = list(self.shape)
        for axis in (-2, -1) if self.kind == "square" else (self.axis,):
            counts[axis] = -(-counts[axis] // self.size)
        return tuple(counts)

    def split(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return values as (groups, values of a group); what is missing in a last group is 0."""
        if self.kind in ("none", "tensor"):
            return values.reshape(1, values.size)
        if self.kind == "channel":
            count = self.shape[self.axis]
            return np.moveaxis(values, self.axis, 0).reshape(count, values.size // max(count, 1))
        padded = np.pad(values, self._padding)
        if self.kind == "group":
            return np.moveaxis(padded, self.axis, -1).reshape(padded.size // self.size, self.size)
        down, across = (length // self.size for length in padded.shape[-2:])
        squares = padded.reshape(*padded.shape[:-2], down, self.size, across, self.size)
        return squares.swapaxes(-3, -2).reshape(padded.size // self.size**2, self.size**2)

    def join(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Return rows of groups as the array that they were split from."""
        if self.kind in ("none", "tensor"):
            return rows.reshape(self.shape)
        if self.kind == "channel":
            moved = (self.shape[self.axis], *self.shape[: self.axis], *self.shape[self.axis + 1 :])
            return np.moveaxis(rows.reshape(moved), 0, self.axis)
        padded = [length + more for length, (_, more) in zip(self.shape, self._padding, strict=True)]
        if self.kind == "group":
            along = padded.pop(self.axis)
            whole = np.moveaxis(rows.reshape(*padded, along), -1, self.axis)
        else:
            down, across = (length // self.size for length in padded[-2:])
            squares = rows.reshape(*padded[:-2], down, across, self.size, self.size)
            whole = squares.swapaxes(-3, -2).reshape(padded)
        return whole[tuple(slice(length) for length in self.shape)]

    def gather(self, each: NDArray[Any]) -> NDArray[Any]:
        """Return one number a group, (groups,), in the shape of the scales."""
        if self.kind != "group":
            return each.reshape(self.scale_shape)
        counts = list(self.scale_shape)
        along = counts.pop(self.axis)
        return np.moveaxis(each.reshape(*counts, along), -1, self.axis)

    def scatter(self, scales: NDArray[Any]) -> NDArray[Any]:
        """Return numbers in the shape of the scales as (groups,), the inverse of `gather`."""
        return (np.moveaxis(scales, self.axis, -1) if self.kind == "group" else scales).reshape(prod(self.scale_shape))

    @property
    def members(self) -> Floats:
        """How many values each group has, (groups,): the last along an axis may have fewer."""
        return self.split(np.ones(self.shape)).sum(axis=1)

    @property
    def _padding(self) -> list[tuple[int, int]]:
        axes = {len(self.shape) - 2, len(self.shape) - 1} if self.kind == "square" else {self.axis}
        return [(0, -length % self.size if axis in axes else 0) for axis, length in enumerate(self.shape)]


def groups_of(
    form: NumberFormat, shape: tuple[int, ...], *, scale: Sharing = "own", axis: int | None = None, group: int | None = None
) -> Groups:
    """Return which values share a scale: what a block format says, or what is asked for.

    Raises `InputError` for an average of formats, a sharing that does not exist or does not go with the format, an axis that
    the array does not have, and a group size that is missing, superfluous or not a positive whole number.
    """
    if scale not in SHARINGS:
        raise InputError(f"a scale is shared as one of {', '.join(SHARINGS)}, not {scale!r}")
    if form.block is not None and form.scale is None:
        raise InputError(f"{form.name} is an average of formats and has no layout of its own: quantise each of its parts")
    if (group is None) == (scale == "group"):
        raise InputError("`group`, the number of values that share a scale, goes with scale='group' and with no other")
    size = form.block or 1 if group is None else _whole(group, "a group is a whole number of values, 1 or more")
    if size < 1:
        raise InputError(f"a group is a whole number of values, 1 or more, not {group}")
    if scale in ("none", "tensor"):
        return _without_axis(form, shape, scale, axis)
    if form.scale is not None and scale != "own":
        raise InputError(f"{form.name} has scales of its own, one for {form.block} values: leave `scale` out")
    if form.scale is None and scale == "own":
        return _without_axis(form, shape, "none" if form.kind == "float" and form.bits >= 16 else "tensor", axis)
    if form.scale is not None and form.scale.dimensions == 2:
        return _square(form, shape, axis)
    place = _axis(shape, axis, 0 if scale == "channel" else -1)
    if scale == "channel":
        return Groups("channel", shape, place)
    return Groups("group", shape, place, size)


def _without_axis(form: NumberFormat, shape: tuple[int, ...], scale: Sharing, axis: int | None) -> Groups:
    if form.scale is not None:
        raise InputError(f"{form.name} has scales of its own, one for {form.block} values: leave `scale` out")
    if axis is not None:
        raise InputError(f"`axis` goes with scales for channels, groups or blocks, not with scale={scale!r}")
    return Groups(scale, shape)


def _square(form: NumberFormat, shape: tuple[int, ...], axis: int | None) -> Groups:
    side = round((form.block or 1) ** 0.5)
    if axis is not None or len(shape) < 2:
        raise InputError(
            f"{form.name} has blocks of {side} × {side} in the last two axes: give an array of two axes or more, and no axis"
        )
    return Groups("square", shape, 0, side)


def _axis(shape: tuple[int, ...], axis: int | None, default: int) -> int:
    place = default if axis is None else _whole(axis, "an axis is a whole number")
    if not -len(shape) <= place < len(shape):
        raise InputError(f"axis {place} does not exist in an array of {len(shape)} axes")
    return place % len(shape)


def _whole(number: int, rule: str) -> int:
    try:
        return index(number)
    except TypeError:
        raise InputError(f"{rule}, not {number!r}") from None
