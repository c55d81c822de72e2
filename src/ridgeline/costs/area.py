"""Area of the parts of a chip, from coefficients of its node (`specs.technology`), with the errors on the published rows.

Neglected everywhere: control, clock tree, transfer engines and the space that placement leaves empty. Ratios of areas mean more
than areas.
"""

from ridgeline.arrays import ceil_log2, maximum
from ridgeline.quantities import Count, Fraction, SquareMetres


def adder_area(*, bits: Count, area: SquareMetres) -> SquareMetres:
    """Area of an integer adder.

        A = bits · area of a bit   [horowitz2014, as in figure 15 of kim2023fullstack]; -5 %, +2 %, 0 % on 8, 16 and 32 bits

    >>> round(adder_area(bits=32, area=4.28e-12) * 1e12)  # 137 µm² at 45 nm
    137
    """
    return bits * area


def multiplier_area(*, significand: Count, area: SquareMetres, adder: SquareMetres) -> SquareMetres:
    """Area of an integer multiplier: full adders, and a final adder of twice the width.

        A = s² · area of a full adder + 2·s · area of an adder's bit   [horowitz2014, as in figure 15 of kim2023fullstack]

    -3 % and +2 % on 8 and 32 bits.

    >>> round(multiplier_area(significand=8, area=3.2e-12, adder=4.28e-12) * 1e12)  # 282 µm² at 45 nm
    273
    """
    return significand**2 * area + 2.0 * significand * adder


def float_multiplier_area(*, significand: Count, area: SquareMetres) -> SquareMetres:
    """Area of a pipelined floating-point multiplier, its exponent and rounding included.

        A = (mantissa + 1)² · area of a full adder   [horowitz2014, as in figure 15 of kim2023fullstack]; -1 % and +1 %

    >>> round(float_multiplier_area(significand=11, area=13.45e-12) * 1e12)  # fp16: 1640 µm² at 45 nm
    1627
    """
    return significand**2 * area


def float_adder_area(*, significand: Count, area: SquareMetres) -> SquareMetres:
    """Area of a floating-point adder: two shifters around a sum.

        A = s · ⌈log₂ s⌉ · area of a bit and stage   [horowitz2014, as in figure 15 of kim2023fullstack]; +6 % and -6 %

    >>> round(float_adder_area(significand=24, area=32.85e-12) * 1e12)  # fp32: 4184 µm² at 45 nm
    3942
    """
    return significand * ceil_log2(maximum(significand, 1.0)) * area


def alignment_area(*, product: Count, window: Count, area: SquareMetres) -> SquareMetres:
    """Area of the shifter that brings an exact product into the window in which a dot product is summed.

        A = ½ · area of a float adder's bit and stage · (product + window) / 2 · ⌈log₂ window⌉

    As `energy.alignment_energy`: half of an adder, as wide as the mean of what enters and leaves.

    >>> round(alignment_area(product=22, window=24, area=32.85e-12) * 1e12)  # fp16 into fp32: ½ · 32.85 · 23 · 5
    1889
    """
    return 0.5 * area * (product + window) / 2.0 * ceil_log2(maximum(window, 1.0))


def shifter_area(*, bits: Count, area: SquareMetres) -> SquareMetres:
    """Area of an integer shifter: a multiplexer for each bit and stage.

        A = bits · ⌈log₂ bits⌉ · area of a multiplexer

    >>> round(shifter_area(bits=32, area=1.86e-12) * 1e12)
    298
    """
    return bits * ceil_log2(maximum(bits, 1.0)) * area


def divider_area(*, bits: Count, adder: SquareMetres, register: SquareMetres) -> SquareMetres:
    """Area of an integer divider that finds a bit of the quotient a cycle: a subtractor and three registers.

        A = bits · adder + 3 · bits · register

    >>> round(divider_area(bits=32, adder=4.28e-12, register=5.98e-12) * 1e12)
    711
    """
    return bits * adder + 3.0 * bits * register


def register_area(*, bits: Count, area: SquareMetres) -> SquareMetres:
    """Area of registers.

        A = bits · area of a bit   [shao2014aladdin]

    >>> round(register_area(bits=8, area=5.98e-12) * 1e12, 1)
    47.8
    """
    return bits * area


def sram_area(*, bits: Count, cell: SquareMetres, periphery: Fraction) -> SquareMetres:
    """Area of a memory with one port.

        A = bits · cell · periphery

    CACTI's eight areas of 64 and 256 KB from 65 to 22 nm are 0.8 to 1.2 times this with a periphery of 1.3 [hwcomponents2025cacti].

    >>> round(sram_area(bits=64 * 1024 * 8, cell=0.346e-12, periphery=1.3) * 1e6, 3)  # mm² at 45 nm
    0.236
    """
    return bits * cell * periphery
