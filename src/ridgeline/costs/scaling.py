"""Delay, energy, power and area between process nodes and supply voltages.

Logic follows polynomials of the supply voltage that were fitted to circuit simulations [stillmaker2017scaling]; memory cells
follow their published areas. Beyond 7 nm a node carries a foundry's claims as factors on the 7 nm polynomials; `provenance` says
so.

A polynomial means something inside its node's voltages only: outside, cubic delays turn negative. The functions that convert
refuse a voltage outside, and a factor that is not positive; `delay_factor`, `energy_factor` and `power_factor` are the bare
polynomials.
"""

from array_api_compat import array_namespace

from ridgeline.arrays import is_scalar, maximum, minimum
from ridgeline.errors import InputError
from ridgeline.quantities import Fraction, Joules, Quantity, Seconds, SquareMetres, Volts, Watts
from ridgeline.specs.base import Source
from ridgeline.specs.technology import Node


def delay_factor(node: Node, voltage: Volts) -> Fraction:
    """Delay of a fixed circuit at a node, relative to nothing: only ratios mean something.

    a₃V³ + a₂V² + a₁V + a₀   [stillmaker2017scaling, coefficients of delay]
    """
    return _polynomial(node.delay, voltage)


def energy_factor(node: Node, voltage: Volts) -> Fraction:
    """Energy of an operation of a fixed circuit at a node: only ratios mean something.

    b₂V² + b₁V + b₀   [stillmaker2017scaling, Table 5]
    """
    return _polynomial(node.energy, voltage)


def power_factor(node: Node, voltage: Volts) -> Fraction:
    """Power of a fixed circuit that runs as fast as it can at a node: only ratios mean something.

    c₂V² + c₁V + c₀   [stillmaker2017scaling, coefficients of power]
    """
    return _polynomial(node.power, voltage)


def _polynomial(coefficients: tuple[float, ...], voltage: Volts) -> Fraction:
    """Horner's scheme, highest power first."""
    found: Quantity = 0.0 * voltage
    for coefficient in coefficients:
        found = found * voltage + coefficient
    return found


def _extremes(value: Quantity) -> tuple[float, float]:
    """Return the least and the largest of a number or an array."""
    if is_scalar(value):
        return value, value
    xp = array_namespace(value)
    return float(xp.min(value)), float(xp.max(value))


def check_voltage(node: Node, voltage: Volts) -> None:
    """Raise `InputError` where a voltage, or any of an array, is outside the range in which the node's polynomials hold."""
    least, most = _extremes(voltage)
    if not (least >= node.lowest and most <= node.highest):
        shown = f"{least:g} V" if least == most else f"{least:g} to {most:g} V"
        raise InputError(
            f"supply of {shown} at {node.name}: its scaling polynomials hold from {node.lowest:g} to {node.highest:g} V"
        )


def _positive(name: str, node: Node, voltage: Volts, factor: Fraction) -> Fraction:
    least = _extremes(factor)[0]
    if not least > 0.0:
        low, high = _extremes(voltage)
        shown = f"{low:g} V" if low == high else f"{low:g} to {high:g} V"
        raise InputError(
            f"{name} factor of {node.name} at {shown} is {least:g}: it must be positive for its polynomial to mean anything"
        )
    return factor


def _ratio(name: str, source: Node, source_voltage: Volts, target: Node, target_voltage: Volts) -> Fraction:
    polynomial = {"delay": delay_factor, "energy": energy_factor, "power": power_factor}[name]
    found: list[Fraction] = []
    for node, voltage in ((source, source_voltage), (target, target_voltage)):
        check_voltage(node, voltage)
        found.append(_positive(name, node, voltage, polynomial(node, voltage)))
    return found[1] / found[0]


def scale_delay(delay: Seconds, *, source: Node, source_voltage: Volts, target: Node, target_voltage: Volts) -> Seconds:
    """Delay of a circuit brought to another node and voltage.

        t' = t · delay(target) / delay(source)   [stillmaker2017scaling, section 4.2]

    Neglects wires, which do not speed up with the gates. Raises `InputError` outside a node's voltages.
    """
    return delay * _ratio("delay", source, source_voltage, target, target_voltage)


def scale_energy(energy: Joules, *, source: Node, source_voltage: Volts, target: Node, target_voltage: Volts) -> Joules:
    """Energy of an operation of logic brought to another node and voltage.

        E' = E · energy(target) / energy(source)   [stillmaker2017scaling, section 4.2]

    Neglects wires, memory cells (`scale_sram_energy`) and leakage. Raises `InputError` outside a node's voltages.

    >>> from ridgeline.specs.base import Source
    >>> from ridgeline.specs.technology import Node
    >>> said = Source(key="stillmaker2017scaling")
    >>> old = Node("65 nm", 65e-9, "", 1.1, 0.6, 1.3, (1.0,), (3.755, -4.398, 1.975), (1.0,), 1.5, 5.7e-13, said, said, said)
    >>> new = Node("32 nm", 32e-9, "", 0.9, 0.45, 0.9, (1.0,), (0.8367, -0.4341, 0.1701), (1.0,), 0.46, 1.7e-13, said, said, said)
    >>> round(scale_energy(1.0, source=old, source_voltage=1.3, target=new, target_voltage=0.9), 3)  # 0.4571 / 2.604
    0.176
    """
    return energy * _ratio("energy", source, source_voltage, target, target_voltage)


def scale_power(power: Watts, *, source: Node, source_voltage: Volts, target: Node, target_voltage: Volts) -> Watts:
    """Power of a circuit that runs as fast as it can, brought to another node and voltage.

        P' = P · power(target) / power(source)   [stillmaker2017scaling, section 4.2]

    Not the power at the old clock: that is the energy's ratio. Raises `InputError` outside a node's voltages.
    """
    return power * _ratio("power", source, source_voltage, target, target_voltage)


def scale_area(area: SquareMetres, *, source: Node, target: Node) -> SquareMetres:
    """Area of logic brought to another node.

        A' = A · area(target) / area(source)   [stillmaker2017scaling, table of areas]

    The paper prints the ratios of all pairs to two digits; one number a node gives all 121 of them within 3.3 %, and ratios that
    return exactly. Neglects memory (`scale_sram_area`), analogue parts and pads, which shrink less.
    """
    return area * (target.area / source.area)


def scale_sram_area(area: SquareMetres, *, source: Node, target: Node) -> SquareMetres:
    """Area of a memory brought to another node: that of its cells.

        A' = A · cell(target) / cell(source)

    Published areas of high-density six-transistor cells, a source with each node. Neglects that the periphery shrinks as logic.
    """
    return area * (target.sram_cell / source.sram_cell)


def scale_sram_energy(energy: Joules, *, source: Node, source_voltage: Volts, target: Node, target_voltage: Volts) -> Joules:
    """Energy of an access of a memory brought to another node and voltage: that of its wires.

        E' = E · √(cell(target) / cell(source)) · (V' / V)²

    Lines are as long as cells are wide, and a metre of wire keeps its capacitance. Within 17 % of CACTI from 45 to 65 nm; its
    memories of 32 and 22 nm are 1.2 to 2.4 times better than this. Neglects sense amplifiers and decoders, which shrink as logic.
    """
    check_voltage(source, source_voltage)
    check_voltage(target, target_voltage)
    return energy * (target.sram_cell / source.sram_cell) ** 0.5 * (target_voltage / source_voltage) ** 2


def performance_ratio(*, source: Node, source_voltage: Volts, target: Node, target_voltage: Volts) -> Fraction:
    """Operations a second at the target over those at the source: the inverse of the ratio of delays."""
    return 1.0 / _ratio("delay", source, source_voltage, target, target_voltage)


def nearest_voltage(node: Node, voltage: Volts) -> Volts:
    """The voltage of the node's range that is nearest to one.

    >>> from ridgeline.specs.base import Source
    >>> from ridgeline.specs.technology import Node
    >>> said = Source(key=None)
    >>> node = Node("7 nm", 7e-9, "", 0.7, 0.35, 0.8, (1.0,), (1.0,), (1.0,), 0.06, 2.7e-14, said, said, said)
    >>> nearest_voltage(node, 1.0)
    0.8
    """
    return minimum(maximum(voltage, node.lowest), node.highest)


def provenance(*nodes: Node) -> tuple[str, ...]:
    """Say where a conversion among these nodes is from: each source once, and which nodes rest on a foundry's claim."""
    said: list[str] = []
    for node in nodes:
        source: Source = node.source
        what = f"{source.key or 'estimate'}: {source.note}" if node.claimed else f"{source.key}, {source.where}"
        said.append(f"{node.name} by a foundry's claim, {what}" if node.claimed else what)
    return tuple(dict.fromkeys(said))
