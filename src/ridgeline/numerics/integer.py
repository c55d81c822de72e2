"""Functions of integers in integers: GELU, exponential, softmax, square root and layer normalisation of I-BERT [kim2021ibert].

A number x is an integer q times a scale S. Scales are known before a value is: what depends on them alone (constants, shifts)
is computed once, and everything that touches a value is an integer addition, multiplication, division or shift.

The paper's polynomials and steps are kept. Two things are added, so that every scale gives an answer and not those alone for
which the paper's INT32 neither overflows nor runs out of resolution: an argument is first shifted by whole bits to a step of
fixed fineness, and the scale of a result is chosen such that what saturates does so exactly. Arrays are int64 here; where the
paper says INT32, the values are made to fit 32 bits, or checked to.
"""

from math import frexp, isfinite, log, sqrt
from operator import index
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ridgeline.errors import InputError
from ridgeline.numerics.codes import Floats, Integers, as_floats

INT32 = 2**31 - 1
_GELU = (-0.2888, -1.769)  # a and b of erf ≈ sgn(x) · (a · (min(|x|, −b) + b)² + 1) [kim2021ibert, section 3.4]
_GELU_STEP = 2.0**-12  # of the argument: 15 bits at most up to where erf saturates, 29 bits squared
_GELU_BITS = 15  # of erf: 1 + erf has one more, and its product with an INT16 fits INT32
# a, b / a and c / a of exp(p) ≈ a · p² + b · p + c, as in the program: 0.0019 off at most. The paper prints the same polynomial
# as 0.3585 (p + 1.353)² + 0.344, which is 0.0021 off.
_EXPONENTIAL = (0.35815147, 0.96963238 / 0.35815147, 1.0 / 0.35815147)
_EXPONENTIAL_STEP = 7.3e-5  # at most, and half of it at least: then c / (a · step²) has 31 bits and not 32
_HALVINGS = 30  # exp is 0 below −30 ln 2, where 31 bits run out


class Scaled(NamedTuple):
    """Integers and the scale that makes numbers of them: x = values · scale."""

    values: Integers
    scale: float

    @property
    def real(self) -> Floats:
        """The numbers, values · scale."""
        return self.values.astype(np.float64) * self.scale


def integer_gelu(values: ArrayLike, scale: float, *, bits: int = 8) -> Scaled:
    """Return GELU(x) = x · ½ (1 + erf(x/√2)) of signed integers of `bits` bits [kim2021ibert, algorithm 2].

    erf(x) ≈ sgn(x) · (a · (min(|x|, −b) + b)² + 1) with a = −0.2888, b = −1.769: at u = |x|/√2 in steps h,
    L = C − (min(u, B) − B)², B = ⌈−b/h⌉, C = ⌈−1/(a h²)⌉, shifted to 15 bits, one = ⌊C/2^n⌋; the result is q · (one ± L) with
    the scale S/(2 one). It is x exactly from x = 2.51 up and 0 from −2.51 down. Differs from exact GELU on [−4, 4] by 0.0082 RMS
    and 0.018 at most, the error of the polynomial [kim2021ibert, table 1]. √2 h lies between 2^−13 and 2^−12: whole bits of shift,
    from any scale. Of values wider than 16 bits the product is shifted back to 32, to a step of 2 S at most. Shape
    as `values`.

    Raises `InputError` for values that are no integers of `bits` bits, and for a scale that is not a positive normal number or
    makes one that is not.

    >>> found = integer_gelu([-127, 0, 32, 127], 4 / 127)
    >>> found.real.round(3).tolist()  # at 1.008 the polynomial says 0.845, and exact is 0.850
    [0.0, 0.0, 0.845, 4.0]
    """
    bits = _width(bits)
    given, scale = _integers(values, bits), _scale(scale)
    step, shift = _step(scale, _GELU_STEP)
    magnitude = np.abs(_shifted(_clipped(given, 8.0, scale), shift))
    a, b = _GELU
    unit = step / sqrt(2)
    edge, top = -int(np.floor(b / unit)), -int(np.floor(1 / (a * unit * unit)))
    down = max(top.bit_length() - _GELU_BITS, 0)
    one = top >> down
    bell = (_int32(top - (np.minimum(magnitude, edge) - edge) ** 2, "the polynomial")) >> down
    factor = one + np.sign(given) * bell
    back = max(bits - 16, 0)
    product = _int32(_shifted(given * factor, -back), "the products q · (1 + erf)")
    return Scaled(product, _scale(scale * 2.0**back / (2 * one), "the result's scale"))


def integer_exponential(values: ArrayLike, scale: float, *, bits: int = 32) -> Scaled:
    """Return exp(x) of integers x ≤ 0 of `bits` bits, as integers of 31 bits and less [kim2021ibert, algorithm 3].

    x = −z ln 2 + p with p in (−ln 2, 0]; exp(p) ≈ a (p (p + b/a) + c/a) in steps h, a = 0.35815, b = 0.96963, c = 1
    [kim2021ibertcode]; the result is that integer ≫ z with the scale a h², 0 where z > 30. At most 0.0019 off, the error of the
    polynomial [kim2021ibert, section 3.5], and 0.0001 more from the step h, 3.65e-5 to 7.3e-5, that the argument is shifted to.
    Shape as `values`. Raises `InputError` for values above 0, and as `integer_gelu`.

    >>> integer_exponential([0, -10, -100], 0.1).real.round(3).tolist()  # 1, 0.368, 0.000045
    [1.0, 0.368, 0.0]
    """
    given, scale = _integers(values, _width(bits)), _scale(scale)
    if (given > 0).any():
        raise InputError(f"the integer exponential takes values up to 0, not {int(given.max())}: subtract the largest first")
    return _exponential(given, scale)


def integer_softmax(values: ArrayLike, scale: float, *, axis: int = -1, bits: int = 32, output_bits: int = 8) -> Scaled:
    """Return softmax along an axis, as unsigned integers of `output_bits` bits and the scale 2^−output_bits.

    e_i = exp(q_i − max q), result ⌊e_i 2^bits / Σ e⌋ [kim2021ibert, section 3.5]. The steps that the divisions drop go, one each,
    to the entries with the largest remainders, first come first: a row sums to 1, or to one step less where an entry would be
    2^output_bits and saturates. Without that, 512 equal entries of 8 bits would all be 0.

    An entry is within one step and 0.5 % of the exact value. The sum has 64 bits: the program first cuts each exponential to 16
    [kim2021ibertcode], so that 32 suffice, which loses up to n/2^17 of a row of n. Shape as `values`; an axis of no entries
    gives none. Raises `InputError` as `integer_gelu`, and for an axis that is not there.

    >>> integer_softmax([[0, 0, 0, 0], [0, 0, 0, -128]], 0.1).values.tolist()  # of 256
    [[64, 64, 64, 64], [86, 85, 85, 0]]
    """
    given, scale = _integers(values, _width(bits)), _scale(scale)
    steps = 2 ** _width(output_bits)
    place = _axis(given, axis)
    if not given.size:
        return Scaled(given, 1 / steps)
    rows = np.moveaxis(given, place, -1)
    powers = _exponential(rows - rows.max(axis=-1, keepdims=True), scale).values
    total = powers.sum(axis=-1, keepdims=True)
    whole, remainder = np.divmod(powers * steps, total)
    missing = steps - whole.sum(axis=-1, keepdims=True)
    order = np.argsort(-remainder, axis=-1, kind="stable")
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.broadcast_to(np.arange(order.shape[-1]), order.shape), axis=-1)
    shared = np.minimum(whole + (rank < missing), steps - 1)
    return Scaled(np.moveaxis(shared, -1, place), 1 / steps)


def integer_square_root(values: ArrayLike) -> Integers:
    """Return ⌊√n⌋ of integers from 0 to 2^63 − 1, by Newton's steps in integers [kim2021ibert, algorithm 4].

    x₀ = 2^⌈bits(n)/2⌉; x ← ⌊(x + ⌊n/x⌋)/2⌋ until it no longer falls. Equal to `math.isqrt`. Shape as `values`.
    Raises `InputError` for what is negative or no integer.

    >>> integer_square_root([0, 1, 15, 16, 2**31 - 1]).tolist()
    [0, 1, 3, 4, 46340]
    """
    given = _integers(values, 64)
    if (given < 0).any():
        raise InputError(f"the integer square root takes values from 0 up, not {int(given.min())}")
    divisor = np.maximum(given, 1)
    root = np.left_shift(1, (_bit_length(divisor) + 1) // 2)
    while True:
        following = (root + divisor // root) >> 1
        if (following >= root).all():
            return np.where(given == 0, 0, root)
        root = np.minimum(root, following)


def integer_layer_norm(
    values: ArrayLike,
    *,
    weight: ArrayLike = 1.0,
    bias: ArrayLike = 0.0,
    axis: int = -1,
    bits: int = 32,
    output_bits: int = 8,
    output_scale: float | None = None,
) -> Scaled:
    """Return layer normalisation γ (x − μ)/σ + β along an axis, as signed integers of `output_bits` bits.

    Of n values d = n q − Σ q, shifted so that Σ d² has 29 or 30 bits; s = ⌊√Σ d²⌋ by algorithm 4; y = d ⌊2^30/s⌋ with the scale
    √n / 2^30; result = y · M ≫ e + round(β/S'), where M/2^e is γ times the scale over the output's scale S', and saturates
    [kim2021ibert, section 3.6 and the program's dynamic shift]. The paper rounds the mean to an integer, which is coarse where σ is
    a few steps; d here is exact, in 64 bits, and everything after it fits INT32 but the product with M.

    Off by one step S' (half of the product with M, half of β), 1.3e-4 of |γ y| and 3.1e-5 √n |γ| at most, from the float result
    clipped to the reach of the output: less than two steps where S' is over 1/4000 of √n max |γ|, as for the 8 bits of the
    paper. Without `output_scale`, S' = (√n max |γ| + max |β|) / (2^(output_bits − 1) − 1), under which nothing can saturate.
    `weight` and `bias` are one number, or one for each value of the axis. x's scale cancels, so it is not asked for; there is no
    ε added to the variance, and a row of equal values gives β. Shape as `values`; the values may have any zero point.

    Raises `InputError` for values that are no integers of `bits` bits, an axis that is not there, weights or biases that are
    not finite or do not fit the axis, rows of more than 2^30 values, and an output scale that is not positive and finite.

    >>> found = integer_layer_norm([1, 2, 3, 4])  # (x − 2.5)/√1.25
    >>> found.real.round(2).tolist(), round(found.scale, 4)
    ([-1.34, -0.44, 0.44, 1.34], 0.0157)
    """
    given = _integers(values, _width(bits))
    place, highest = _axis(given, axis), 2 ** (_width(output_bits) - 1) - 1
    rows = np.moveaxis(given, place, -1)
    count = rows.shape[-1]
    if count > 2**30:
        raise InputError(f"a row of {count} values is too long: layer normalisation takes up to 2^30")
    gamma, beta = (_along(one, count, name) for one, name in ((weight, "weight"), (bias, "bias")))
    reach = sqrt(count) * float(np.abs(gamma).max(initial=0.0)) + float(np.abs(beta).max(initial=0.0))
    output = _scale((reach or 1.0) / highest if output_scale is None else output_scale, "the output's scale")
    if not given.size:
        return Scaled(given, output)
    normalised = _normalised(rows)
    with np.errstate(over="ignore"):
        offset = np.clip(np.rint(beta / output), -(2.0**40), 2.0**40).astype(np.int64)
        ratio = gamma * (sqrt(count) / 2.0**30 / output)
    if not np.isfinite(ratio).all():
        raise InputError(f"the output's scale {output:g} is too small for weights of up to {np.abs(gamma).max():g}")
    shared = _multiplied(normalised, ratio) + offset
    return Scaled(np.moveaxis(np.clip(shared, -highest - 1, highest), -1, place), output)


def requantise(values: ArrayLike, scale: float, output_scale: float, *, bits: int = 32, output_bits: int = 8) -> Scaled:
    """Return integers of one scale as signed integers of another, by an integer product and a shift; saturates.

    q' = (q · M + 2^(e−1)) ≫ e with M/2^e = S/S', M of 31 bits [jacob2018integer, section 2.2].
    Half a step off, and |q'| 2^−31 for M. Shape as `values`. Raises `InputError` as `integer_gelu`.

    >>> requantise([100, -3, 5000], 0.01, 0.1).values.tolist()  # 1, −0.03 and 50 in steps of 0.1
    [10, 0, 127]
    """
    given, highest = _integers(values, _width(bits)), 2 ** (_width(output_bits) - 1) - 1
    output = _scale(output_scale, "the output's scale")
    ratio = np.asarray(_scale(_scale(scale) / output, "the ratio of the scales"))
    return Scaled(np.clip(_multiplied(given, ratio), -highest - 1, highest), output)


def _exponential(given: Integers, scale: float) -> Scaled:
    step, shift = _step(scale, _EXPONENTIAL_STEP)
    octave = -int(np.floor(-log(2) / step))
    argument = np.maximum(_shifted(_clipped(given, 22.0, scale), shift), -(_HALVINGS + 1) * octave)
    halvings = -argument // octave
    rest = argument + halvings * octave
    a, linear, constant = _EXPONENTIAL
    b, c = int(np.floor(linear / step)), int(np.floor(constant / (step * step)))
    power = _int32(rest * (rest + b) + c, "the polynomial") >> halvings
    return Scaled(np.where(halvings > _HALVINGS, 0, power), a * step * step)


def _normalised(rows: Integers) -> Integers:
    """(x − μ)/σ of rows, times 2^30/√n."""
    count = rows.shape[-1]
    deviation = count * rows - rows.sum(axis=-1, keepdims=True)
    # First to 30 − ⌈log₂ n / 2⌉ bits, so that the sum of squares fits 61; then so that it fits 31.
    room = 30 - ((count - 1).bit_length() + 1) // 2
    deviation = _shifted(deviation, -(_bit_length(np.abs(deviation).max(axis=-1, keepdims=True)) - room))
    energy = (deviation * deviation).sum(axis=-1, keepdims=True)
    deviation = _shifted(deviation, (30 - _bit_length(energy)) // 2)
    energy = _int32((deviation * deviation).sum(axis=-1, keepdims=True), "the sum of squares")
    factor = 2**30 // np.maximum(integer_square_root(energy), 1)
    return _int32(deviation * factor, "the normalised values")


def _multiplied(given: Integers, ratio: Floats) -> Integers:
    """Return values times a real number each, rounded: an integer of 31 bits and a shift. Up to 2^40, where it stays."""
    fraction, exponent = np.frexp(ratio)
    multiplier, right = np.rint(np.ldexp(fraction, 31)).astype(np.int64), 31 - exponent.astype(np.int64)
    product = given * multiplier
    # Left shifts saturate: 62 bits of product are more than any output has.
    bounded = np.where(right < 0, np.clip(product, -(2**31), 2**31), product)
    return np.clip(np.where(right > 62, 0, _shifted(bounded, -np.maximum(right, -30))), -(2**40), 2**40)


def _step(scale: float, largest: float) -> tuple[float, int]:
    """The scale times a power of two that lies in (largest/2, largest], and the bits to shift left for it."""
    (fraction, exponent), (bound, place) = frexp(scale), frexp(largest)
    shift = exponent - place + (fraction > bound)
    mantissa = fraction if fraction <= bound else fraction / 2
    return mantissa * 2.0**place, shift


def _clipped(given: Integers, limit: float, scale: float) -> Integers:
    """Values clipped to ±limit in units of x, one step further, so that a shift left never overflows."""
    bound = int(min(limit / scale + 1, 2.0**40)) if scale < limit else 1
    return np.clip(given, -bound, bound)


def _shifted(given: Integers, left: Any) -> Integers:
    """Values times 2^left, rounded to the nearest where bits are lost, halves up; `left` is bounded by −62 and 40."""
    left = np.clip(np.asarray(left, dtype=np.int64), -62, 40)
    right = np.maximum(-left, 0)
    half = np.where(right > 0, np.left_shift(1, np.maximum(right - 1, 0)), 0)
    return np.left_shift((given + half) >> right, np.maximum(left, 0))


def _bit_length(values: Integers) -> Integers:
    """Bits of non-negative integers, of 0 none."""
    exponent = np.frexp(values.astype(np.float64))[1].astype(np.int64)
    # Above 2^53 the float may have been rounded up to the next power of two.
    return exponent - (np.right_shift(values, np.clip(exponent - 1, 0, 62)) == 0) * (values > 0)


def _int32(values: Integers, what: str) -> Integers:
    if values.size and (int(values.max()) > INT32 or int(values.min()) < -INT32 - 1):
        reach = max(int(values.max()), -int(values.min()))
        raise InputError(f"{what} reach {reach}, beyond INT32: requantise the values to fewer bits first")
    return values


def _integers(values: ArrayLike, bits: int) -> Integers:
    try:
        given = np.asarray(values)
    except ValueError as error:
        raise InputError(f"values must make an array of integers: {error}") from error
    if not given.size:
        return given.astype(np.int64)
    if given.dtype.kind not in "iu":
        raise InputError(f"values must be integers of {bits} bits, not {given.dtype}")
    low, high = int(given.min()), int(given.max())
    if low < -(2 ** (bits - 1)) or high > 2 ** (bits - 1) - 1:
        raise InputError(
            f"values go from {low} to {high}, and signed integers of {bits} bits from −2^{bits - 1} to 2^{bits - 1} − 1"
        )
    return given.astype(np.int64)


def _scale(scale: float, what: str = "the scale") -> float:
    try:
        number = float(scale)
    except (TypeError, ValueError):
        raise InputError(f"{what} is one number, not {scale!r}") from None
    if not isfinite(number) or number < np.finfo(np.float64).tiny:
        raise InputError(f"{what} is {number:g}: it must be a positive normal number")
    return number


def _width(bits: int) -> int:
    try:
        number = index(bits)
    except TypeError:
        raise InputError(f"a width is a whole number of bits, not {bits!r}") from None
    if not 2 <= number <= 32:
        raise InputError(f"a width is 2 to 32 bits, not {number}")
    return number


def _axis(given: Integers, axis: int) -> int:
    try:
        place = index(axis)
    except TypeError:
        raise InputError(f"an axis is a whole number, not {axis!r}") from None
    if not -given.ndim <= place < given.ndim:
        raise InputError(f"axis {place} does not exist in an array of {given.ndim} axes")
    return place % given.ndim


def _along(values: ArrayLike, count: int, name: str) -> Floats:
    given = as_floats(values)
    if given.ndim > 1 or given.size not in (1, count):
        raise InputError(f"{name} is one number or one for each of {count} values of the axis, not an array of shape {given.shape}")
    if not np.isfinite(given).all():
        raise InputError(f"{name} has numbers that are not finite")
    return given
