"""The product of two quantised matrices, accumulated in the format that the number format names."""

import numpy as np
from numpy.typing import ArrayLike

from ridgeline.errors import InputError
from ridgeline.numerics.codes import Floats, Integers, as_floats, as_format, decode, integer_range, rounded
from ridgeline.numerics.formats import Quantised
from ridgeline.specs.number_format import NumberFormat, accumulator


def integer_product(left: ArrayLike, right: ArrayLike, *, accumulate: NumberFormat | str = "int32") -> Integers:
    """Return (m × k) by (k × n) of integers, (m × n), exactly.

    Sums that fit the accumulator are exact whatever the order, since an adder that wraps around on the way wraps back. Raises
    `InputError` for operands that are no integer matrices or do not fit together, and for a sum that does not fit the
    accumulator: hardware would wrap or saturate there.

    >>> integer_product([[127, -128]], [[100], [-100]]).tolist()
    [[25500]]
    """
    first, second = (_matrix(one) for one in (left, right))
    if first.shape[1] != second.shape[0]:
        raise InputError(f"a matrix of {first.shape} and one of {second.shape} have no product: the inner sizes differ")
    largest = [max(int(one.max(initial=0)), -int(one.min(initial=0))) for one in (first, second)]
    if largest[0] * largest[1] * first.shape[1] >= 2**63:
        raise InputError(f"a sum of {first.shape[1]} products of up to {largest[0]} · {largest[1]} may leave 64 bits")
    found = first @ second
    form = as_format(accumulate)
    lowest, highest = integer_range(form)
    outside = int(((found < lowest) | (found > highest)).sum())
    if outside:
        raise InputError(
            f"{outside} of {found.size} sums do not fit {form.name}, {lowest} to {highest}: the accumulator would overflow"
        )
    return found


def float_product(left: ArrayLike, right: ArrayLike, *, accumulate: NumberFormat | str = "fp32") -> Floats:
    """Return (m × k) by (k × n) of real numbers, (m × n): k products added in order, each product and each sum rounded.

    Products of formats with 12 significant bits or fewer are exact in fp32, and only the sums are rounded. Real units add in
    trees and keep a few bits more or fewer: this is one exact order, not theirs.

    >>> float_product([[2049.0, 1.0]], [[1.0], [1.0]], accumulate="fp16").tolist()  # 2049 rounds to 2048, 2048 + 1 again
    [[2048.0]]
    """
    first, second = as_floats(left), as_floats(right)
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[0]:
        raise InputError(f"arrays of shape {first.shape} and {second.shape} have no matrix product")
    form = as_format(accumulate)
    if form.kind != "float" or form.block is not None:
        raise InputError(f"real numbers are accumulated in a float format, not in {form.name}")
    total = np.zeros((first.shape[0], second.shape[1]))
    with np.errstate(over="ignore", invalid="ignore"):  # infinity and NaN are answers here
        for column, row in zip(first.T, second, strict=True):
            total = rounded(total + rounded(np.outer(column, row), form), form)
    return total


def quantised_product(left: Quantised, right: Quantised) -> Floats:
    """Return the product of two quantised matrices, (m × k) by (k × n), in float64 after the accumulator.

    Integers: Σ (q_l − z_l)(q_r − z_r), exact in the accumulate format, times the two scales [jacob2018integer, eq. 4]. Floats:
    the codes' values, added as `float_product` does, times the scales. A scale may be shared by a row of the left (channels of
    axis 0), by a column of the right (channels of axis 1), or by the whole tensor; a scale that changes along k has no place
    outside the sum. Raises `InputError` for those, for an integer by a float, and as `integer_product`.

    >>> from ridgeline.numerics.formats import quantise
    >>> left, right = quantise([[1.27, -0.5]], "int8"), quantise([[2.54], [1.0]], "int8")
    >>> quantised_product(left, right).round(4).tolist()  # (127 · 127 − 50 · 50) · 0.01 · 0.02
    [[2.7258]]
    """
    kinds = {left.format.kind, right.format.kind}
    if len(kinds) != 1:
        raise InputError(
            f"{left.format.name} by {right.format.name}: an integer and a float have no product before one is dequantised"
        )
    scales = _outside(left, 0) * _outside(right, 1)
    accumulate = max((accumulator(one.format) for one in (left, right)), key=lambda form: form.bits)
    values = [decode(one.codes, one.format) - _zero_points(one, axis) for one, axis in ((left, 0), (right, 1))]
    if kinds == {"integer"}:
        whole = [value.astype(np.int64) for value in values]
        return integer_product(whole[0], whole[1], accumulate=accumulate) * scales
    return float_product(values[0], values[1], accumulate=accumulate) * scales


def _matrix(values: ArrayLike) -> Integers:
    given = np.asarray(values)
    if given.ndim != 2 or (given.size and given.dtype.kind not in "iu"):
        raise InputError(f"an integer product takes matrices of integers, not {given.dtype} of shape {given.shape}")
    if given.size and int(given.max()) >= 2**63:
        raise InputError(f"an integer product takes integers of 64 bits with a sign, not {given.max()}")
    return given.astype(np.int64)


def _along(axis: int, numbers: Floats | Integers) -> Floats:
    return np.expand_dims(numbers.astype(np.float64), 1 - axis) if numbers.ndim else numbers.astype(np.float64)


def _outside(one: Quantised, axis: int) -> Floats:
    """The scales of an operand, in the shape that multiplies the product."""
    if len(one.shape) != 2:
        raise InputError(f"a product takes matrices, not an array of shape {one.shape}")
    groups = one.groups
    if groups.kind not in ("none", "tensor") and (groups.kind, groups.axis) != ("channel", axis):
        side = "left" if axis == 0 else "right"
        raise InputError(
            f"the scales of the {side} operand change inside a sum: share one by tensor, or by channel along axis {axis}"
        )
    return _along(axis, one.scales) * one.tensor_scale


def _zero_points(one: Quantised, axis: int) -> Floats:
    return np.zeros(()) if one.zero_points is None else _along(axis, one.zero_points)
