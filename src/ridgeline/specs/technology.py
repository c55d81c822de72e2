"""What silicon costs at a process node: how delay, energy, power and area change from node to node, and coefficients at one.

The numbers are data with sources; the formulas that use them are in `costs.scaling`, `costs.energy` and `costs.area`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

from ridgeline.errors import InputError
from ridgeline.quantities import Fraction, Joules, Metres, SquareMetres, Unit, Volts
from ridgeline.specs.base import Source, Spec

Family = Literal["", "high-performance", "low-power"]  # nodes from 65 nm up have one family, which belongs to both
Capacitance = Annotated[Any, Unit("J/V/V/m")]  # farads a metre of wire
PowerDensity = Annotated[Any, Unit("W/m/m")]


class Node(NamedTuple):
    """A process node: polynomials of the supply voltage, highest power first, where they hold, and areas relative to 45 nm."""

    name: str
    feature: Metres
    family: Family
    nominal: Volts
    lowest: Volts  # the polynomials hold from here
    highest: Volts  # to here
    delay: tuple[float, ...]
    energy: tuple[float, ...]
    power: tuple[float, ...]
    area: Fraction  # of logic, relative to 45 nm
    sram_cell: SquareMetres  # a six-transistor cell, high density
    source: Source  # of the polynomials, or of the claim that this node is derived by
    voltage_source: Source
    sram_source: Source
    claimed: bool = False  # beyond the polynomials: factors of a foundry's claim on the last node that has them


class Coefficients(NamedTuple):
    """Energy and area of the parts of arithmetic, of registers, memories and wires, at one node and voltage."""

    adder_energy: Joules  # a bit
    adder_area: SquareMetres
    multiplier_energy: Joules  # a full adder of an integer multiplier
    multiplier_area: SquareMetres
    float_multiplier_energy: Joules  # a full adder of a pipelined mantissa multiplier
    float_multiplier_area: SquareMetres
    float_rounding_energy: Joules  # a bit of the significand
    float_adder_energy: Joules  # a bit of the significand: alignment, addition, normalisation, rounding
    float_adder_area: SquareMetres  # a bit of the significand and a stage of the shifters
    multiplexer_energy: Joules  # a bit and a stage of an integer shifter
    multiplexer_area: SquareMetres
    register_energy: Joules  # a bit read or written
    register_area: SquareMetres
    sram_energy: Joules  # a bit, for a memory of one word; grows with the root of the words
    sram_cell: SquareMetres
    sram_periphery: Fraction  # area of a memory over that of its cells
    wire: Capacitance
    leakage: PowerDensity
    voltage: Volts


@dataclass(frozen=True, kw_only=True, eq=False)
class Technology(Spec):
    """The node of a chip, and coefficients at the node and voltage where they were measured."""

    node: Node
    reference: Node
    coefficients: Coefficients
    low_power_leakage: float = 1.0  # of a low-power process over a high-performance one
    applied: bool = False  # the chip's energies were filled from it


def find_node(nodes: Iterable[Node], feature: Metres, family: Family = "high-performance") -> Node:
    """Return the node of a feature size; those with one family belong to both. Raises `InputError` for a size that is none.

    >>> find_node([], 28e-9)
    Traceback (most recent call last):
    ridgeline.errors.InputError: 28 nm is no node of the scaling table: known are none
    """
    nodes = list(nodes)
    for node in nodes:
        if abs(node.feature - feature) < 1e-3 * node.feature and node.family in ("", family):
            return node
    sizes = sorted({round(node.feature * 1e9, 3) for node in nodes if node.family in ("", family)}, reverse=True)
    known = f"{', '.join(f'{size:g}' for size in sizes)} nm" if sizes else "none"
    raise InputError(f"{feature * 1e9:g} nm is no node of the scaling table: known are {known}")
