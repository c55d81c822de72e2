"""Energy of a step at a chip's own coefficients."""

from ridgeline.quantities import Bytes, Flops, Joules, JoulesPerByte, JoulesPerFlop, Seconds, Watts


def arithmetic_energy(*, flops: Flops, energy: JoulesPerFlop) -> Joules:
    """Energy of arithmetic, operand delivery inside the unit included.

        E = flops · energy   [horowitz2014]

    >>> arithmetic_energy(flops=1e12, energy=0.5e-12)
    0.5
    """
    return flops * energy


def transfer_energy(*, bytes: Bytes, energy: JoulesPerByte) -> Joules:
    """Energy of moving bytes across a memory's interface.

        E = bytes · energy   [horowitz2014]

    >>> transfer_energy(bytes=1e9, energy=32e-12)  # HBM at 4 pJ/bit
    0.032
    """
    return bytes * energy


def static_energy(*, time: Seconds, power: Watts) -> Joules:
    """Energy that a chip takes for being switched on.

        E = time · power

    >>> static_energy(time=0.01, power=75.0)
    0.75
    """
    return time * power
