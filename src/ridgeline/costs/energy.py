"""Energy of a step at a chip's own coefficients, and energy of the parts of a chip from coefficients of its node.

Arithmetic, memories, wires and leakage each have a formula of physical form with one or two constants; `specs.technology` holds the
constants and `costs.scaling` brings them to a node and a voltage. The errors on the published rows stand with each formula.
"""

from ridgeline.arrays import ceil_log2, maximum
from ridgeline.quantities import (
    Bytes,
    Count,
    Flops,
    Joules,
    JoulesPerByte,
    JoulesPerFlop,
    Metres,
    Seconds,
    SquareMetres,
    Volts,
    Watts,
)
from ridgeline.specs.technology import Capacitance, PowerDensity


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


def adder_energy(*, bits: Count, energy: Joules) -> Joules:
    """Energy of an integer addition: a carry through every bit.

        E = bits · energy of a bit   [horowitz2014]; -15 %, +2 % and +2 % on the rows of 8, 16 and 32 bits

    >>> round(adder_energy(bits=32, energy=3.2e-15) * 1e12, 4)  # 0.1 pJ at 45 nm
    0.1024
    """
    return bits * energy


def multiplier_energy(*, significand: Count, energy: Joules) -> Joules:
    """Energy of a multiplication before anything is rounded: an array of full adders.

        E = (mantissa + 1)² · energy of a full adder   [horowitz2014]; -2 % and +1 % on the integer rows of 8 and 32 bits

    `significand` is mantissa + 1; of an integer, its bits.

    >>> round(multiplier_energy(significand=8, energy=3.06e-15) * 1e12, 3)  # 0.2 pJ at 45 nm
    0.196
    """
    return significand**2 * energy


def float_multiplier_energy(*, significand: Count, energy: Joules, rounding: Joules) -> Joules:
    """Energy of a floating-point multiplication that rounds its result.

        E = s² · energy of a full adder + s · rounding   [horowitz2014]

    Two constants give the two rows of fp16 and fp32; of a table of 7 nm, fitted alike, they give the third row, bf16, within 3 %
    [jouppi2021tpuv4i].

    >>> round(float_multiplier_energy(significand=24, energy=4.17e-15, rounding=54.2e-15) * 1e12, 2)  # fp32: 3.7 pJ at 45 nm
    3.7
    """
    return significand**2 * energy + significand * rounding


def float_adder_energy(*, significand: Count, energy: Joules) -> Joules:
    """Energy of a floating-point addition: alignment, sum, normalisation and rounding of one significand.

        E = s · energy of a bit   [horowitz2014]; +2 % and -1 % on the rows of fp16 and fp32

    >>> round(float_adder_energy(significand=24, energy=37e-15) * 1e12, 3)  # fp32: 0.9 pJ at 45 nm
    0.888
    """
    return significand * energy


def alignment_energy(*, product: Count, window: Count, energy: Joules) -> Joules:
    """Energy of shifting an exact product into the window in which a dot product is summed.

        E = ½ · energy of a float adder's bit · (product + window) / 2   [horowitz2014]

    Half of a floating-point adder is its alignment. A shifter takes the product's bits in and gives the window's out: its stages
    are as wide as their mean. This part does not shrink with (mantissa + 1)².

    >>> round(alignment_energy(product=8, window=24, energy=37e-15) * 1e12, 3)  # fp8 into fp32: ½ · 37 fJ · 16
    0.296
    """
    return 0.5 * energy * (product + window) / 2.0


def shifter_energy(*, bits: Count, energy: Joules) -> Joules:
    """Energy of an integer shift by any amount: a multiplexer for each bit and stage.

        E = bits · ⌈log₂ bits⌉ · energy of a multiplexer

    >>> round(shifter_energy(bits=32.0, energy=1e-15) * 1e15)  # 32 · 5
    160
    """
    return bits * ceil_log2(maximum(bits, 1.0)) * energy


def divider_energy(*, bits: Count, adder: Joules, register: Joules) -> Joules:
    """Energy of an integer division, a bit of the quotient a cycle: a subtraction and three registers that are written.

        E = bits · (bits · adder + 3 · bits · register)   [kim2021ibert uses such a division for softmax and square root]

    >>> round(divider_energy(bits=32, adder=3.2e-15, register=9e-15) * 1e12, 1)
    30.9
    """
    return bits * (bits * adder + 3.0 * bits * register)


def sram_energy(*, capacity: Bytes, width: Bytes, energy: JoulesPerByte) -> JoulesPerByte:
    """Energy of a byte read from or written to a memory, by its capacity and the width of its port.

        E = energy · √(capacity / width)   [horowitz2014], and CACTI through [hwcomponents2025cacti]

    The lines of a square array of w words are √w cells long for each bit that they carry. One constant gives seven rows of 45 nm,
    from 8 KB to 1 MB and of 64 and 128 bits, within -7 % and +17 %. Neglects that reads and writes differ, and sense amplifiers,
    which keep small memories of late nodes from getting this cheap.

    >>> round(sram_energy(capacity=32 * 1024, width=8, energy=8 * 4.53e-15) * 8 * 1e12, 1)  # 8 bytes of 32 KB: 20 pJ at 45 nm
    18.6
    """
    return energy * (capacity / width) ** 0.5


def wire_energy(*, distance: Metres, voltage: Volts, capacitance: Capacitance) -> Joules:
    """Energy of a bit over a wire of some length: a random one charges it a quarter of the time.

        E = ¼ · capacitance · distance · V²

    >>> round(wire_energy(distance=1e-3, voltage=0.9, capacitance=2e-10) * 1e15, 1)  # fJ over a millimetre
    40.5
    """
    return 0.25 * capacitance * distance * voltage**2


def hop_energy(*, distance: Metres, voltage: Volts, capacitance: Capacitance, read: Joules, write: Joules) -> Joules:
    """Energy of a bit handed to the neighbour: read here, the wire between, written there.

        E = read + ¼ · capacitance · distance · V² + write

    A pipeline register drives the wire without being read; a register file is read.

    >>> round(hop_energy(distance=1e-4, voltage=1.0, capacitance=2e-10, read=1e-14, write=1e-14) * 1e15, 2)
    25.0
    """
    return read + write + wire_energy(distance=distance, voltage=voltage, capacitance=capacitance)


def leakage_power(*, area: SquareMetres, density: PowerDensity) -> Watts:
    """Power that an area of silicon leaks while it is switched on; the density is an estimate.

        P = area · density

    >>> leakage_power(area=2e-6, density=1e4)  # 2 mm² at 0.01 W/mm²
    0.02
    """
    return area * density
