"""Time that the power limit of a chip asks for: a clock that falls until the work's energy fits."""

from ridgeline.quantities import Bytes, Flops, Fraction, JoulesPerByte, JoulesPerFlop, Seconds, Watts


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
