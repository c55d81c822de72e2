"""Non-linear functions: in a chip's own units, as integer polynomials, or on a host with both conversions and both transfers.

Counts are elementary operations an element. They follow from the algorithms named, not from a measurement of any machine.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from ridgeline.quantities import Bytes, BytesPerSecond, Count, FlopsPerSecond, Seconds

# An exponential in software on scalar floats: multiply, round, convert; two multiply-subtracts reduce the range; a square; a
# polynomial of degree five in five multiply-adds; two more for its constants; one into the exponent [moshier1989cephes, expf].
SOFTWARE_OPERATIONS = 14.0
# What a pass over an array adds to an element: a load, a store and a branch, 2.5 + 2.5 + 3 cycles where an operation takes 4
# [gcc2024rocket: a move to or from memory costs 5 where one between registers costs 2].
PASS_OPERATIONS = 2.0
DEQUANTISE_OPERATIONS = 2.0  # convert to float, multiply by the scale
# Multiply by the inverse scale; round half to even (convert, convert back, subtract, compare, select); two comparisons saturate;
# one conversion narrows.
QUANTISE_OPERATIONS = 9.0


@dataclass(frozen=True, kw_only=True)
class Steps:
    """Operations of an integer function: for each element, and divisions for each row of elements."""

    multiply: float = 0.0
    add: float = 0.0
    compare: float = 0.0
    shift: float = 0.0
    divide_row: float = 0.0

    @property
    def operations(self) -> float:
        """Operations an element, those of a row aside."""
        return self.multiply + self.add + self.compare + self.shift


# Counted from the published program: GELU (x + b)² + c, then x·(y + 1); exp: z = ⌊x / ln 2⌋, r·(r + b) + c, 2⁻ᶻ; softmax: maximum,
# difference, exp, sum, product with one reciprocal a row; square root: at most four steps of Newton, each a division; LayerNorm:
# sum for the mean, difference, square, sum, product with one reciprocal a row, offset, requantisation [kim2021ibertcode].
INTEGER_FUNCTIONS: Mapping[str, Steps] = {
    "gelu": Steps(multiply=2.0, add=3.0, compare=1.0, shift=1.0),
    "exp": Steps(multiply=2.0, add=3.0, compare=1.0, shift=1.0),
    "softmax": Steps(multiply=3.0, add=5.0, compare=2.0, shift=2.0, divide_row=1.0),
    "square-root": Steps(divide_row=4.0),
    "layer-norm": Steps(multiply=2.0, add=4.0, shift=2.0, divide_row=5.0),
}


def polynomial_operations(function: str, *, lane: Count, special: Count) -> Count:
    """Lane operations an element of a function in integers, on units that multiply, add, shift and compare.

        as `INTEGER_FUNCTIONS` counts it, else lane + 7·special: each special function as an integer exponential   [kim2021ibert]

    Neglected: the square root of a row and its division, once a row.

    >>> polynomial_operations("softmax", lane=4.0, special=1.0), polynomial_operations("silu", lane=3.0, special=1.0)
    (12.0, 10.0)
    """
    known = INTEGER_FUNCTIONS.get(function.removesuffix("-tanh"))
    if known is not None:
        return known.operations + 0.0 * (lane + special)
    return lane + INTEGER_FUNCTIONS["exp"].operations * special


def software_time(*, lane: Count, special: Count, passes: Count, rate: FlopsPerSecond) -> Seconds:
    """Time of functions in scalar software, each operation waiting for the one before.

        t = (lane + 14·special + 2·passes) / rate;   rate = clock / latency of a floating-point operation

    `passes` are elements read and written by loops over arrays: three an element for softmax and norms. Valid for an in-order core
    without vector instructions, whose compiled loops are not interleaved.

    >>> software_time(lane=4e6, special=1e6, passes=3e6, rate=250e6)  # softmax of a million elements
    0.096
    """
    return (lane + SOFTWARE_OPERATIONS * special + PASS_OPERATIONS * passes) / rate


def conversion_time(*, read: Count, written: Count, rate: FlopsPerSecond) -> Seconds:
    """Time to bring integers to floats before a function in software, and its results back, each in a pass of its own.

        t = ((2 + 2)·read + (9 + 2)·written) / rate   elements dequantised and quantised

    >>> conversion_time(read=1e6, written=1e6, rate=250e6)
    0.06
    """
    return ((DEQUANTISE_OPERATIONS + PASS_OPERATIONS) * read + (QUANTISE_OPERATIONS + PASS_OPERATIONS) * written) / rate


def host_transfer_time(*, bytes: Bytes, bandwidth: BytesPerSecond, latency: Seconds) -> Seconds:
    """Time for operands to reach the host and results to come back: two latencies and all bytes, one after the other.

        t = 2·latency + bytes / bandwidth

    >>> host_transfer_time(bytes=4e9, bandwidth=2e9, latency=1e-6)
    2.000002
    """
    return 2.0 * latency + bytes / bandwidth
