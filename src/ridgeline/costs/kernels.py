"""Kernels that stream tensors through vector lanes: passes over rows, and what binds."""

from ridgeline.arrays import maximum, minimum
from ridgeline.quantities import Bytes, BytesPerSecond, Count, Flops, FlopsPerSecond, Fraction, Seconds


def missed_share(*, row: Bytes, rows: Count, capacity: Bytes) -> Fraction:
    """Share of a row that a second pass reads from memory again: what the core's local memory could not keep of its rows.

        1 − min(1, capacity / (rows · row))   [mattson1970]

    >>> missed_share(row=40e3, rows=16, capacity=164e3)  # 16 rows of 40 kB against 164 kB: three quarters are gone
    0.74375
    """
    kept = capacity / (rows * row)
    return 1.0 - minimum(kept, 0.0 * kept + 1.0)


def stream_time(
    *,
    bytes: Bytes,
    bandwidth: BytesPerSecond,
    lane: Flops,
    lane_rate: FlopsPerSecond,
    special: Count,
    special_rate: FlopsPerSecond,
) -> Seconds:
    """Time of a kernel that streams tensors: memory, vector lanes and special functions side by side.

        max(bytes / bandwidth, lane / lane_rate + special / special_rate)   [williams2009roofline]

    >>> stream_time(bytes=1e9, bandwidth=1e12, lane=1e9, lane_rate=1e13, special=1e9, special_rate=1e12)
    0.0011
    """
    return maximum(bytes / bandwidth, lane / lane_rate + special / special_rate)
