"""Power of a board: what it draws while it runs, what its work adds, and the time that its limit asks for.

A board whose clocks run draws a share of its limit whatever it does; the rest of the limit is left for work. `share` is that rest,
the `power_share` of a family of chips.
"""

from ridgeline.arrays import maximum, minimum
from ridgeline.quantities import (
    Bytes,
    Count,
    Flops,
    FlopsPerByte,
    Fraction,
    Joules,
    JoulesPerByte,
    JoulesPerFlop,
    Seconds,
    Watts,
)


def limited_time(
    *, flops: Flops, flop_energy: JoulesPerFlop, bytes: Bytes, byte_energy: JoulesPerByte, power: Watts, share: Fraction
) -> Seconds:
    """Time below which a chip's arithmetic and memory traffic would draw more than its limit.

        (flops · flop_energy + bytes · byte_energy) / (share · power)

    `share` of the limit is left for them: the rest leaks and cools whatever runs. Energy per FLOP is taken as that at the stated
    clock; that it falls with the voltage of a lower clock is neglected, as is the data: zeros switch less.

    >>> limited_time(flops=2e14, flop_energy=1.5e-12, bytes=0.0, byte_energy=0.0, power=300.0, share=1.0)  # 200 TFLOP/s at 300 W
    1.0
    """
    return (flops * flop_energy + bytes * byte_energy) / (share * power)


def running_power(*, limit: Watts, share: Fraction) -> Watts:
    """Power of a board whose clocks run, before any work: leakage, clock trees, voltage converters, fans.

        (1 − share) · limit

    >>> round(running_power(limit=400.0, share=0.8))
    80
    """
    return (1.0 - share) * limit


def work_power(*, limit: Watts, share: Fraction, cap: Watts) -> Watts:
    """Power that is left for work under a cap, which is set below the board's own limit.

        min(limit, cap) − (1 − share) · limit

    >>> work_power(limit=400.0, share=0.8, cap=300.0)
    220.0
    """
    return minimum(limit, cap) - running_power(limit=limit, share=share)


def standing_energy(*, time: Seconds, waiting: Seconds, running: Watts, idle: Watts) -> Joules:
    """Energy of a board beside its work: running, and idle while it waits for its host.

        (time − waiting) · running + waiting · idle

    >>> standing_energy(time=1.0, waiting=0.25, running=80.0, idle=40.0)
    70.0
    """
    return (time - waiting) * running + waiting * idle


def attending_energy(*, bytes: Bytes, intensity: FlopsPerByte, energy: JoulesPerFlop) -> Joules:
    """Energy of decode attention's tiles, which multiply whole tiles of rows for the few queries of a KV head.

        bytes · intensity · energy

    `bytes` are those of keys and values that cores ask for, by every query head where a library does not share them.

    >>> attending_energy(bytes=1e12, intensity=100.0, energy=1e-12)
    100.0
    """
    return bytes * intensity * energy


def padded_flops(*, flops: Flops, rows: Count, tile: Count) -> Flops:
    """FLOPs that a matrix unit carries out for a product of fewer rows than its smallest tile.

        flops · max(rows, tile) / rows

    >>> padded_flops(flops=2e9, rows=1.0, tile=16.0)
    32000000000.0
    """
    return flops * maximum(rows, tile) / rows


def capped_time(*, time: Seconds, work: Joules, power: Watts) -> Seconds:
    """Time of a step whose work must not draw more than so much power on average: clocks fall until it fits.

        max(time, work / power)

    >>> capped_time(time=1.0, work=300.0, power=200.0)
    1.5
    """
    return maximum(time, work / power)


def wall_power(*, boards: Watts, box: Watts, conversion: Fraction = 1.0) -> Watts:
    """Power that a box draws from the wall: its boards, and what is beside them.

        (boards + box) / conversion

    `box` are host, memory, network and fans as a system's file states them; `conversion` is the share that power supplies pass on
    where the box's figure was not taken at the wall.

    >>> wall_power(boards=3200.0, box=1800.0), round(wall_power(boards=3200.0, box=1500.0, conversion=0.94))
    (5000.0, 5000)
    """
    return (boards + box) / conversion
