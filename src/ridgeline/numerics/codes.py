"""Bit patterns: a real number to the code of the nearest value that a format has, and back."""

from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ridgeline.errors import InputError
from ridgeline.specs.number_format import E8M0, NumberFormat, number_format

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Codes = NDArray[Any]  # unsigned integers, as narrow as NumPy has them
Overflow = Literal["saturate", "special"]


class Limits(NamedTuple):
    """The ends of a number format."""

    largest: float
    smallest_normal: float
    smallest: float  # above zero
    epsilon: float  # from 1 to the next value; of integers the distance of any two


def as_format(form: NumberFormat | str) -> NumberFormat:
    """Return a number format, given itself or its name."""
    return form if isinstance(form, NumberFormat) else number_format(form)


def limits(form: NumberFormat | str) -> Limits:
    """Return the largest value, the smallest above zero and the distance of neighbours.

    A float with e exponent bits, m fraction bits and bias b has the smallest normal 2^(1 − b) and, below it, steps of
    2^(1 − b − m) [ieee2019float]; how far it reaches is a matter of its special codes: e4m3 gives up infinity for 448, and
    formats of 6 bits and fewer have no special code at all [micikevicius2022fp8], [ocp2023mx].

    >>> limits("fp8-e4m3")
    Limits(largest=448.0, smallest_normal=0.015625, smallest=0.001953125, epsilon=0.125)
    >>> limits("int8").largest
    127.0
    """
    form = as_format(form)
    if form.kind == "integer":
        return Limits(float(integer_range(form)[1]), 1.0, 1.0, 1.0)
    least = 2.0 ** (1 - form.bias)
    step = 2.0**-form.mantissa
    if form == E8M0:
        return Limits(2.0**127, 2.0**-127, 2.0**-127, 1.0)
    largest = float(decode(np.asarray([_largest_code(form) << _padding(form)]), form)[0])
    return Limits(largest, least, float(np.ldexp(least, -form.mantissa)), step)


def integer_range(form: NumberFormat) -> tuple[int, int]:
    """Return the lowest and the highest value of an integer format; two's complement goes one further down than up.

    >>> integer_range(number_format("int4")), integer_range(number_format("ternary")), integer_range(number_format("binary"))
    ((-8, 7), (-1, 1), (-1, 1))
    """
    if form.states == 3 or form.bits == 1:
        return -1, 1
    if form.scale is not None and form.scale.minimum:
        return 0, 2 ** int(form.bits) - 1
    half = 2 ** (int(form.bits) - 1)
    return -half, half - 1


def encode(values: ArrayLike, form: NumberFormat | str, *, overflow: Overflow = "saturate") -> Codes:
    """Return the code of the nearest value, ties to the even code [ieee2019float].

    With e = max(⌊log₂|x|⌋, 1 − bias) a float of m fraction bits has neighbours 2^(e − m) apart: |x| / 2^(e − m) is rounded to
    an integer, ties to even, and that integer plus (e − 1 + bias) · 2^m is the code, subnormals and carries included. `values`
    are taken as float64; one rounding from there.

    Beyond the largest value, `overflow="saturate"` gives the largest; `"special"` gives infinity, else NaN, else the largest,
    whichever the format has first: e5m2 has both, e4m3 NaN only, formats of 6 and 4 bits neither [micikevicius2022fp8],
    [ocp2023mx]. Zero keeps its sign. Integers round to even and saturate; their codes are two's complement, and of `binary`
    the code is the sign: 1 stands for −1, and zero is coded as +1. Codes of tf32 are those of fp32, 13 low bits zero.

    Raises `InputError` for NaN in a format without one, and for anything but positive numbers and NaN in `e8m0`.

    >>> encode([448.0, 464.0, 465.0, -0.0], "fp8-e4m3", overflow="special").tolist()  # 465 is past the tie with 480: NaN
    [126, 126, 127, 128]
    >>> encode([2.5, 3.5, -9.0], "int4").tolist()
    [2, 4, 8]
    """
    form = as_format(form)
    if overflow not in ("saturate", "special"):
        raise InputError(f"overflow is `saturate` or `special`, not {overflow!r}")
    real = as_floats(values)
    if form.kind == "integer":
        return np.asarray(_encode_integer(real, form))
    return np.asarray(_encode_power(real) if form == E8M0 else _encode_float(real, form, overflow))


def decode(codes: ArrayLike, form: NumberFormat | str) -> Floats:
    """Return the values of codes, exactly, in float64.

    A float with exponent field E and fraction F is (−1)^s · 2^(E − bias) · (1 + F/2^m), for E = 0 2^(1 − bias) · F/2^m
    [ieee2019float]. Of tf32 the 13 low bits are not looked at. Raises `InputError` for a code wider than the format, and for
    the fourth code of `ternary`, which stands for nothing.

    >>> decode([0x7E, 0x01, 0xFF], "fp8-e4m3").tolist()
    [448.0, 0.001953125, nan]
    >>> decode([0, 1, 7, 8, 15], "int4").tolist()
    [0.0, 1.0, 7.0, -8.0, -1.0]
    """
    form = as_format(form)
    given = np.asarray(codes)
    if given.size and given.dtype.kind not in "iu":
        raise InputError(f"codes of {form.name} are integers, not {given.dtype}")
    bits = int(form.bits)
    if given.size and (int(given.min()) < 0 or int(given.max()) >= 2**bits):
        raise InputError(f"codes of {form.name} have {bits} bits: 0 to {2**bits - 1}, not {given.min()} to {given.max()}")
    raw = given.astype(np.uint64)
    if form.kind == "integer":
        return np.asarray(_decode_integer(raw, form))
    if form == E8M0:
        return np.where(raw == 255, np.nan, np.ldexp(1.0, raw.astype(np.int64) - form.bias))
    return _decode_float(raw, form)


def rounded(values: ArrayLike, form: NumberFormat | str, *, overflow: Overflow = "special") -> Floats:
    """Return each value rounded to the nearest of a format, see `encode`.

    >>> rounded([0.1, 1e6], "fp16").tolist()
    [0.0999755859375, inf]
    """
    return decode(encode(values, form, overflow=overflow), form)


def as_floats(values: ArrayLike) -> Floats:
    """Return values as float64; raises `InputError` for what is no array of real numbers."""
    try:
        given = np.asarray(values)
    except ValueError as error:
        raise InputError(f"values must make an array of numbers: {error}") from error
    if given.size and given.dtype.kind not in "fiub":
        raise InputError(f"values must be real numbers, not {given.dtype}")
    return given.astype(np.float64)


def code_type(form: NumberFormat) -> type[np.unsignedinteger[Any]]:
    """Return the narrowest unsigned type that holds a code."""
    for kind in (np.uint8, np.uint16, np.uint32):
        if form.bits <= np.iinfo(kind).bits:
            return kind
    return np.uint64


def _padding(form: NumberFormat) -> int:
    """Bits below the fraction that lie in memory and are not used: 13 of tf32."""
    return int(form.bits) - 1 - form.exponent - form.mantissa


def _largest_code(form: NumberFormat) -> int:
    """The code of the largest finite value, without padding."""
    every = 2 ** (form.exponent + form.mantissa) - 1
    return {"infinity": every - 2**form.mantissa, "nan": every - 1, "none": every}[form.special]


def _encode_float(real: Floats, form: NumberFormat, overflow: Overflow) -> Codes:
    missing = np.isnan(real)
    if form.special == "none" and missing.any():
        raise InputError(f"{form.name} has no code for NaN: replace the {int(missing.sum())} NaN among the values first")
    infinite = np.isinf(real)
    magnitude = np.where(missing | infinite, 0.0, np.abs(real))
    lowest = 1 - form.bias
    exponent = np.maximum(np.frexp(magnitude)[1].astype(np.int64) - 1, lowest)
    exponent = np.where(magnitude == 0, lowest, exponent)
    with np.errstate(under="ignore"):
        steps = np.rint(np.ldexp(magnitude, form.mantissa - exponent)).astype(np.int64)
    code = steps + ((exponent - lowest) << form.mantissa)
    largest, every = _largest_code(form), 2 ** (form.exponent + form.mantissa) - 1
    beyond = {"infinity": largest + 1, "nan": every, "none": largest}[form.special] if overflow == "special" else largest
    code = np.where(infinite | (code > largest), beyond, code)
    quiet = largest + 1 + 2 ** (form.mantissa - 1) if form.special == "infinity" else every
    code = np.where(missing, quiet, code).astype(np.uint64) << np.uint64(_padding(form))
    sign = np.signbit(real).astype(np.uint64) << np.uint64(int(form.bits) - 1)
    return (code | sign).astype(code_type(form))


def _decode_float(raw: NDArray[np.uint64], form: NumberFormat) -> Floats:
    negative = (raw >> np.uint64(int(form.bits) - 1)).astype(bool)
    code = ((raw >> np.uint64(_padding(form))) & np.uint64(2 ** (form.exponent + form.mantissa) - 1)).astype(np.int64)
    field, fraction = code >> form.mantissa, code & (2**form.mantissa - 1)
    steps = fraction + np.where(field > 0, 2**form.mantissa, 0)
    value = np.ldexp(
        steps.astype(np.float64), np.where(code > _largest_code(form), 0, np.maximum(field, 1) - form.bias - form.mantissa)
    )
    if form.special == "infinity":
        value = np.where(code == _largest_code(form) + 1, np.inf, value)
        value = np.where(code > _largest_code(form) + 1, np.nan, value)
    elif form.special == "nan":
        value = np.where(code > _largest_code(form), np.nan, value)
    return np.where(negative, -value, value).astype(np.float64)


def _encode_power(real: Floats) -> Codes:
    """Codes of powers of two; between two of them the nearer, a tie to the even code; what is out of reach saturates."""
    if (real <= 0).any():
        raise InputError("e8m0 holds powers of two and NaN: zero and negative numbers have no code")
    missing = np.isnan(real)
    fraction, exponent = np.frexp(np.where(np.isfinite(real), real, 1.0))
    lower = exponent.astype(np.int64) - 1 + E8M0.bias
    up = (fraction > 0.75) | ((fraction == 0.75) & (lower % 2 == 1))
    code = np.where(np.isinf(real), 254, np.clip(lower + up, 0, 254))
    return np.where(missing, 255, code).astype(np.uint8)


def _encode_integer(real: Floats, form: NumberFormat) -> Codes:
    if np.isnan(real).any():
        raise InputError(f"{form.name} has no code for NaN: replace the {int(np.isnan(real).sum())} NaN among the values first")
    if form.bits == 1:
        return (real < 0).astype(np.uint8)
    lowest, highest = integer_range(form)
    whole = np.clip(np.rint(real), lowest, highest).astype(np.int64)
    return (whole & (2 ** int(form.bits) - 1)).astype(code_type(form))


def _decode_integer(raw: NDArray[np.uint64], form: NumberFormat) -> Floats:
    whole = raw.astype(np.int64)
    if form.bits == 1:
        return (1 - 2 * whole).astype(np.float64)
    lowest, highest = integer_range(form)
    whole = np.where(whole > highest, whole - 2 ** int(form.bits), whole) if lowest < 0 else whole
    if (whole < lowest).any():
        raise InputError(f"{form.name} has {form.states} codes, 0, 1 and 3 for 0, 1 and −1: code 2 stands for nothing")
    return whole.astype(np.float64)
