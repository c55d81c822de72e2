"""Kernels that stream tensors through vector lanes: passes over rows, and what binds."""

from ridgeline.arrays import ceil_divide, maximum, minimum
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


def rows_time(*, rows: Count, length: Count, threads: Count, wait: Seconds, cores: Count, beside: Count) -> Seconds:
    """Time of a kernel that gives each row to one block of threads, which go through it side by side and wait for each step.

        max(1, rows / (cores · beside)) · ⌈length / threads⌉ · wait   what is under way at a time takes a latency [little1961]

    `wait` is the time of a step: loads, what depends on them, a store; `beside` is by how much blocks that share a core gain on
    blocks in turn. That the last blocks leave cores idle is neglected.

    >>> rows_time(rows=4, length=28672, threads=1024, wait=7e-7, cores=108, beside=1.2)  # 28 steps: four cores of 108 at work
    1.96e-05
    """
    turns = rows / (cores * beside)
    return maximum(turns, 0.0 * turns + 1.0) * ceil_divide(length, threads) * wait
