"""A chip's energy and area by component, from the coefficients of its node: what its file leaves out.

Energies that a file gives win. Where it gives none of its matrix unit's, and its node is known, arithmetic, registers, hops between
elements, memories, lanes and leakage follow from `costs.energy` at the chip's node and supply voltage (its node's nominal one where
the file says none).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from ridgeline.arrays import maximum, minimum, total
from ridgeline.costs import area as areas
from ridgeline.costs import energy as energies
from ridgeline.costs.functions import INTEGER_FUNCTIONS
from ridgeline.costs.scaling import scale_area, scale_energy, scale_sram_area, scale_sram_energy
from ridgeline.errors import InputError
from ridgeline.quantities import Bytes, Count, Joules, JoulesPerByte, JoulesPerFlop, Quantity, SquareMetres, Volts, Watts
from ridgeline.specs.chip import Chip, MatrixUnit, MemoryLevel
from ridgeline.specs.number_format import FORMATS, NumberFormat, accumulator
from ridgeline.specs.technology import Coefficients, Technology

SYSTOLIC = ("weight-stationary", "output-stationary", "input-stationary", "no-local-reuse")
_ON_CHIP = ("accumulator", "scratchpad", "cache", "buffer")


def coefficients_at(technology: Technology, voltage: Volts) -> Coefficients:
    """Return the coefficients of a technology at its node and a voltage: logic, memory cells and wires each by their own rule.

    Raises `InputError` for a voltage outside the node's range.
    """
    known, node, reference = technology.coefficients, technology.node, technology.reference
    places = {"source": reference, "source_voltage": known.voltage, "target": node, "target_voltage": voltage}
    logic = scale_energy(1.0, **places)
    shrink = scale_area(1.0, source=reference, target=node)
    leaks = technology.low_power_leakage if node.family == "low-power" else 1.0
    changed: dict[str, Quantity] = {}
    for name, value in known._asdict().items():
        if name == "sram_energy":
            changed[name] = scale_sram_energy(value, **places)
        elif name.endswith("_energy"):
            changed[name] = value * logic
        elif name.endswith("_area"):
            changed[name] = value * shrink
    changed["sram_cell"] = scale_sram_area(known.sram_cell, source=reference, target=node)
    changed["leakage"] = known.leakage * leaks * (voltage / known.voltage) / shrink**0.5
    return known._replace(**changed, voltage=voltage)


def supply(chip: Chip) -> Volts | None:
    """Return a chip's supply voltage: its file's, else the nominal one of its node; None where the node is unknown."""
    if chip.package.voltage is not None or chip.technology is None:
        return chip.package.voltage
    return chip.technology.node.nominal


def chip_coefficients(chip: Chip) -> Coefficients | None:
    """Return the coefficients at a chip's node and voltage; None where its node is unknown."""
    return None if chip.technology is None else coefficients_at(chip.technology, supply(chip))


# ---- arithmetic by format ---------------------------------------------------------------------------------------------------


class Parts(NamedTuple):
    """Energy or area of a multiply-accumulate: only the first part shrinks with (mantissa + 1)²."""

    multiply: Quantity
    align: Quantity
    accumulate: Quantity

    @property
    def whole(self) -> Quantity:
        """All parts."""
        return self.multiply + self.align + self.accumulate


def _multiplied(form: NumberFormat) -> NumberFormat:
    return FORMATS[form.multiplies] if form.multiplies else form


def mac_energy(form: NumberFormat, at: Coefficients, *, depth: Count = 1.0) -> Parts:
    """Energy of one multiply-accumulate of a format, with its alignment and its share of an accumulation.

        integer            s²·full adder + bits of the sum · adder
        float, depth 1     s²·full adder + a float adder of the accumulate format
        float, depth d     s²·full adder + alignment(2s → window) + window · adder + a float adder / d

    s = mantissa + 1; `depth` products are summed before they meet the accumulator, as in a tensor core. Exponents are added and
    compared; a block format adds its scales once a block. [horowitz2014]

    >>> from ridgeline.specs.number_format import FORMATS
    >>> unit = Coefficients(*[0.0] * 19)._replace(multiplier_energy=1.0, adder_energy=0.5)
    >>> mac_energy(FORMATS["int8"], unit)  # 64 full adders, 32 bits of sum
    Parts(multiply=64.0, align=0.0, accumulate=16.0)
    """
    scales = _scale_bits(form) * at.adder_energy
    form = _multiplied(form)
    sums, significand = accumulator(form), form.mantissa + 1
    if form.kind == "integer":
        multiply = energies.multiplier_energy(significand=significand, energy=at.multiplier_energy)
        return Parts(multiply, 0.0, energies.adder_energy(bits=sums.bits, energy=at.adder_energy) + scales)
    multiply = energies.multiplier_energy(significand=significand, energy=at.float_multiplier_energy)
    exponents = energies.adder_energy(bits=2 * form.exponent, energy=at.adder_energy)
    window = sums.mantissa + 1
    add = energies.float_adder_energy(significand=window, energy=at.float_adder_energy)
    if depth <= 1:
        return Parts(multiply + exponents, 0.0, add + scales)
    align = energies.alignment_energy(product=2 * significand, window=window, energy=at.float_adder_energy)
    tree = energies.adder_energy(bits=window, energy=at.adder_energy)
    return Parts(multiply + exponents, align, tree + add / depth + scales)


def mac_area(form: NumberFormat, at: Coefficients, *, depth: Count = 1.0) -> Parts:
    """Area of what computes one multiply-accumulate of a format a cycle, as `mac_energy`; registers not included.

    >>> from ridgeline.specs.number_format import FORMATS
    >>> unit = Coefficients(*[0.0] * 19)._replace(multiplier_area=1.0, adder_area=0.5)
    >>> mac_area(FORMATS["int8"], unit)  # 64 full adders and 16 bits of a final adder, 32 bits of sum
    Parts(multiply=72.0, align=0.0, accumulate=16.0)
    """
    scales = _scale_bits(form) * at.adder_area
    form = _multiplied(form)
    sums, significand = accumulator(form), form.mantissa + 1
    if form.kind == "integer":
        multiply = areas.multiplier_area(significand=significand, area=at.multiplier_area, adder=at.adder_area)
        return Parts(multiply, 0.0, areas.adder_area(bits=sums.bits, area=at.adder_area) + scales)
    multiply = areas.float_multiplier_area(significand=significand, area=at.float_multiplier_area)
    exponents = areas.adder_area(bits=2 * form.exponent, area=at.adder_area)
    window = sums.mantissa + 1
    add = areas.float_adder_area(significand=window, area=at.float_adder_area)
    if depth <= 1:
        return Parts(multiply + exponents, 0.0, add + scales)
    align = areas.alignment_area(product=2 * significand, window=window, area=at.float_adder_area)
    tree = areas.adder_area(bits=window, area=at.adder_area)
    return Parts(multiply + exponents, align, tree + add / depth + scales)


def _scale_bits(form: NumberFormat) -> float:
    """Bits of block scales that a product adds, its share of the block."""
    return form.block_bits / form.block if form.block else 0.0


# ---- a chip's array, memories and lanes -------------------------------------------------------------------------------------


class ElementEnergy(NamedTuple):
    """Energy inside the matrix unit: of one multiply-accumulate, and of bytes at an element's registers and between neighbours."""

    arithmetic: Joules
    register: JoulesPerByte  # one access of what an element keeps
    network: JoulesPerByte  # from an element to its neighbour
    handed_on: Bytes  # a multiply-accumulate: operands and sums that pass to the neighbour
    kept: Bytes  # a multiply-accumulate: accesses of the element's registers

    @property
    def hops(self) -> Joules:
        """Energy that a multiply-accumulate takes to hand its operands and sum on."""
        return self.network * self.handed_on

    @property
    def whole(self) -> Joules:
        """Energy of a multiply-accumulate, delivery inside the unit included."""
        return self.arithmetic + self.hops + self.register * self.kept


def element_energy(chip: Chip, form: NumberFormat) -> ElementEnergy | None:
    """Return the energy inside a chip's matrix unit for a format; None where its node is unknown.

    weight-stationary   hands on an input and a sum, keeps a weight
    output-stationary   hands on an input and a weight, keeps a sum (read and written)
    input-stationary    hands on a weight and a sum, keeps an input
    row-stationary      keeps two operands and a sum of their width in register files; hops are counted by its mapping
    dot product, SIMD   keeps operands in a register file, shared by the rows and columns of a step; sums once a `depth`
    """
    at = chip_coefficients(chip)
    if at is None:
        return None
    unit, operand, sums = chip.matrix_unit, _multiplied(form).bits / 8.0, accumulator(_multiplied(form)).bits / 8.0
    depth = _depth(unit, form)
    arithmetic = mac_energy(form, at, depth=depth).whole
    files = _files(chip)
    register = _file_energy(files, operand, at) if files else 8.0 * at.register_energy
    network = 8.0 * energies.hop_energy(
        distance=element_area(chip, form, at) ** 0.5,
        voltage=at.voltage,
        capacitance=at.wire,
        read=register / 8.0 if files else 0.0,
        write=register / 8.0,
    )
    handed, kept = {
        "weight-stationary": (operand + sums, operand),
        "input-stationary": (operand + sums, operand),
        "no-local-reuse": (2.0 * operand + sums, 0.0),
        "output-stationary": (2.0 * operand, 2.0 * sums),
        "row-stationary": (0.0, 4.0 * operand),
    }.get(unit.kind, (0.0, 0.0))
    if unit.kind not in (*SYSTOLIC, "row-stationary"):
        rows, columns = (unit.shape[0], unit.shape[1]) if len(unit.shape) > 1 and unit.kind != "simd" else (1, 1)
        kept = operand / rows + operand / columns + 2.0 * sums / depth
    return ElementEnergy(arithmetic, register, network, handed, kept)


def _depth(unit: MatrixUnit, form: NumberFormat) -> float:
    """Products that a dot-product unit sums before they meet the accumulator: its depth is stated at 16 bits."""
    if unit.kind != "dot-product" or len(unit.shape) < 3:
        return 1.0
    return unit.shape[2] * 16.0 / _multiplied(form).bits


def _files(chip: Chip) -> Mapping[str, Bytes]:
    """Return the bytes of an element's register files by what they hold, where the array is one of elements with files."""
    if chip.matrix_unit.kind != "row-stationary":
        return {}
    files = [chip.whole(level) for level in chip.memory if level.role == "registers"]
    return {(level.holds or ("",))[0]: level.capacity / _elements(chip) for level in files if level.capacity is not None}


def _file_energy(files: Mapping[str, Bytes], word: Bytes, at: Coefficients) -> JoulesPerByte:
    """Energy of a byte at an element's register files: as often at the weights and at the inputs, twice at the sums."""
    if len(files) == 1:
        return _small_energy(next(iter(files.values())), word, at)
    often = {name: 2.0 if name in ("sums", "outputs") else 1.0 for name in files}
    return total([often[name] * _small_energy(held, word, at) for name, held in files.items()]) / sum(often.values())


def _small_energy(capacity: Bytes, word: Bytes, at: Coefficients) -> JoulesPerByte:
    """Energy of a byte at a register file: that of a memory, never below a register's."""
    return maximum(energies.sram_energy(capacity=capacity, width=word, energy=8.0 * at.sram_energy), 8.0 * at.register_energy)


def _elements(chip: Chip) -> Count:
    unit = chip.matrix_unit
    cores = 1 if chip.cores is None else chip.cores.count
    count = 1 if unit.count is None else unit.count
    side = unit.shape[0] * unit.shape[1] if len(unit.shape) > 1 else 1
    return cores * count * side


def element_area(chip: Chip, form: NumberFormat, at: Coefficients) -> SquareMetres:
    """Area of one element of a matrix unit: arithmetic, the registers that it hands on and keeps, its register file.

    With preloaded weights the stationary operand has a second register.
    """
    unit, operand, sums = chip.matrix_unit, _multiplied(form).bits, accumulator(_multiplied(form)).bits
    whole = mac_area(form, at, depth=_depth(unit, form)).whole
    kept = operand * (2.0 if unit.preload else 1.0) if unit.kind in SYSTOLIC else operand
    whole = whole + areas.register_area(bits=kept + operand + sums, area=at.register_area)
    files = _files(chip)
    if not files:
        return whole
    return whole + areas.sram_area(bits=8.0 * total(list(files.values())), cell=at.sram_cell, periphery=at.sram_periphery)


def port_width(chip: Chip, level: MemoryLevel, form: NumberFormat) -> Bytes:
    """Return the bytes that a memory gives a cycle: its bandwidth over the clock, else what a side of the array takes, else 8.

    An accumulator takes a sum of each column; any other memory beside an array an operand for each row.
    """
    clock = None if chip.cores is None else chip.cores.clock
    unit, width = chip.matrix_unit, 8.0
    if level.bandwidth is not None and clock is not None:
        width = level.bandwidth / clock
    elif unit.kind in SYSTOLIC and len(unit.shape) > 1:
        columns = unit.shape[1] * accumulator(_multiplied(form)).bits / 8.0
        width = columns if level.role == "accumulator" else unit.shape[0] * _multiplied(form).bits / 8.0
    return minimum(maximum(width, 1.0), level.capacity)


def memory_energy(chip: Chip, level: MemoryLevel, form: NumberFormat) -> JoulesPerByte | None:
    """Return the energy of a byte at a level: its file's, else that of an SRAM of its size; None for anything else."""
    at = chip_coefficients(chip)
    if level.energy is not None or at is None or level.capacity is None:
        return level.energy
    if level.role == "registers":
        word = _multiplied(form).bits / 8.0
        return _small_energy(chip.whole(level).capacity / _elements(chip), word, at)
    if level.role not in _ON_CHIP and level.technology != "SRAM":
        return None
    width = port_width(chip, level, form)
    return energies.sram_energy(capacity=level.capacity, width=width, energy=8.0 * at.sram_energy)


def lane_energy(at: Coefficients, form: NumberFormat) -> JoulesPerFlop:
    """Energy of one operation of a vector lane: half of a multiplication, an addition and four register accesses."""
    form, significand = _multiplied(form), _multiplied(form).mantissa + 1
    if form.kind == "integer":
        pair = energies.multiplier_energy(significand=significand, energy=at.multiplier_energy)
        pair = pair + energies.adder_energy(bits=form.bits, energy=at.adder_energy)
    else:
        rounding = at.float_rounding_energy
        pair = energies.float_multiplier_energy(significand=significand, energy=at.float_multiplier_energy, rounding=rounding)
        pair = pair + energies.float_adder_energy(significand=significand, energy=at.float_adder_energy)
    return 0.5 * (pair + 4.0 * form.bits * at.register_energy)


def is_modelled(chip: Chip) -> bool:
    """Say whether a chip's energies follow from its node: it is known, and the file gives none of its matrix unit's."""
    if chip.technology is None or not chip.matrix_unit.rate:
        return False
    return chip.technology.applied or not chip.matrix_unit.energy


def powered(chip: Chip) -> Chip:
    """Return a chip with the energies that its file leaves out; the same chip where they cannot be known, or are given.

    Filled are the matrix unit by format, the on-chip memories, the lanes, and leakage as idle power of chips with one array.
    """
    if chip.technology is None or chip.technology.applied or not is_modelled(chip):
        return chip
    at = coefficients_at(chip.technology, supply(chip))
    forms = {name: FORMATS[name] for name in (key.split(":")[0] for key in chip.matrix_unit.rate)}
    inside = {name: element_energy(chip, form) for name, form in forms.items()}
    widest = max(forms.values(), key=lambda form: form.bits)
    memory = tuple(replace(level, energy=memory_energy(chip, level, widest)) for level in chip.memory)
    lanes = {name: lane_energy(at, FORMATS[name]) for name in chip.vector_unit.rate if name in FORMATS}
    package = chip.package
    if package.idle_power is None and chip.matrix_unit.kind in (*SYSTOLIC, "row-stationary"):
        package = replace(package, idle_power=chip_leakage(chip))
    return replace(
        chip,
        package=package,
        technology=replace(chip.technology, applied=True),
        memory=memory,
        matrix_unit=replace(chip.matrix_unit, energy={name: one.whole / 2.0 for name, one in inside.items() if one is not None}),
        vector_unit=replace(chip.vector_unit, energy={**lanes, **chip.vector_unit.energy}),
    )


# ---- area, leakage ----------------------------------------------------------------------------------------------------------


def chip_area(chip: Chip, *, activation_units: Count = 0.0) -> Mapping[str, SquareMetres]:
    """Return the area of a chip by component: matrix unit, memories, lanes, and integer activation units if asked for.

    Raises `InputError` for a chip whose node is unknown. Neglects control, transfer engines, links, pads and empty space.
    """
    at = chip_coefficients(chip)
    if at is None:
        raise InputError(f"{chip.name} has no `package.node`, which areas need")
    forms = [FORMATS[key.split(":")[0]] for key in chip.matrix_unit.rate]
    found: dict[str, SquareMetres] = {"matrix unit": 0.0}
    for form in forms:
        found["matrix unit"] = maximum(found["matrix unit"], _macs(chip, form) * element_area(chip, form, at))
    for level in map(chip.whole, chip.memory):
        if level.capacity is None or (level.role == "registers" and _files(chip)):
            continue
        if level.role in (*_ON_CHIP, "registers") or level.technology == "SRAM":
            held = {"bits": 8.0 * level.capacity, "cell": at.sram_cell, "periphery": at.sram_periphery}
            found[f"memory.{level.name}"] = areas.sram_area(**held)
    lanes = [_lane_area(chip, name, at) for name in chip.vector_unit.rate if name in FORMATS]
    for lane in lanes:
        found["vector unit"] = maximum(found.get("vector unit", 0.0), lane)
    if not isinstance(activation_units, int | float) or activation_units:
        found["activation units"] = activation_units * activation_area(at)
    return found


def _macs(chip: Chip, form: NumberFormat) -> Count:
    """Multiply-accumulates a cycle of the whole chip."""
    stated = chip.matrix_unit.macs_per_cycle.get(form.name)
    if stated is not None:
        return stated * (1 if chip.cores is None else chip.cores.count)
    clock = None if chip.cores is None else chip.cores.clock
    rate = chip.matrix_unit.rate.get(form.name)
    return _elements(chip) if clock is None or rate is None else rate / (2.0 * clock)


def _lane_area(chip: Chip, name: str, at: Coefficients) -> SquareMetres:
    """Area of the lanes of a format: a multiply-adder with four registers for each two operations a cycle."""
    clock = None if chip.cores is None else chip.cores.clock
    if clock is None:
        return 0.0
    form = FORMATS[name]
    one = mac_area(form, at).whole + areas.register_area(bits=4.0 * form.bits, area=at.register_area)
    return chip.vector_unit.rate[name] / clock / 2.0 * one


def chip_leakage(chip: Chip) -> Watts | None:
    """Return the power that a chip's components leak, an estimate; None where its node is unknown."""
    at = chip_coefficients(chip)
    if at is None:
        return None
    return energies.leakage_power(area=total(list(chip_area(chip).values())), density=at.leakage)


# ---- integer activation units -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ActivationUnit:
    """The parts of a pipelined unit that runs integer-only functions, one element a cycle [kim2021ibert].

    Two multipliers: GELU squares and then scales; exp multiplies by 1 / ln 2 and then squares; LayerNorm squares and then scales.
    Adders: both offsets of the polynomial, the running sum, the difference from maximum or mean; a comparator; a shifter for
    2⁻ᶻ and for requantisation; a divider for softmax and for Newton's square root; a register behind each.
    """

    bits: int = 32
    multipliers: int = 2
    adders: int = 4
    comparators: int = 1
    shifters: int = 1
    dividers: int = 1

    @property
    def registers(self) -> int:
        """Words held: what each part gives, and the element itself."""
        return self.multipliers + self.adders + self.comparators + self.shifters + 1


def activation_area(at: Coefficients, unit: ActivationUnit | None = None) -> SquareMetres:
    """Area of one integer activation unit: its multipliers, adders, comparators, shifter, divider and registers."""
    unit = unit or ActivationUnit()
    bits = float(unit.bits)
    word = areas.register_area(bits=bits, area=at.register_area)
    adder = areas.adder_area(bits=bits, area=at.adder_area)
    return (
        unit.multipliers * areas.multiplier_area(significand=bits, area=at.multiplier_area, adder=at.adder_area)
        + (unit.adders + unit.comparators) * adder
        + unit.shifters * areas.shifter_area(bits=bits, area=at.multiplexer_area)
        + unit.dividers * areas.divider_area(bits=bits, adder=at.adder_area, register=at.register_area)
        + unit.registers * word
    )


def activation_energy(function: str, at: Coefficients, *, row: Count = 512.0, bits: int = 32) -> Joules:
    """Energy of an integer function for one element of a row: its operations, each with two operands read and a result written.

    Raises `InputError` for a function that has no integer form here.
    """
    if function not in INTEGER_FUNCTIONS:
        raise InputError(f"{function!r} has no integer form: known are {', '.join(INTEGER_FUNCTIONS)}")
    steps = INTEGER_FUNCTIONS[function]
    access = 3.0 * bits * at.register_energy
    multiply = energies.multiplier_energy(significand=bits, energy=at.multiplier_energy) + access
    add = energies.adder_energy(bits=bits, energy=at.adder_energy) + access
    shift = energies.shifter_energy(bits=float(bits), energy=at.multiplexer_energy) + access
    divide = energies.divider_energy(bits=bits, adder=at.adder_energy, register=at.register_energy)
    element = steps.multiply * multiply + (steps.add + steps.compare) * add + steps.shift * shift
    return element + steps.divide_row / row * divide


def peak_power(chip: Chip, form: NumberFormat, *, activation_units: Count = 0.0, function: str = "gelu") -> Mapping[str, Watts]:
    """Return the power of a chip by component while everything runs every cycle: the matrix unit, a word of each memory, the units.

    An accumulator reads and writes a word a cycle, other on-chip memories read one. Main memory is not part of the chip. Raises
    `InputError` without node or clock.
    """
    at = chip_coefficients(chip)
    if at is None or chip.cores is None or chip.cores.clock is None:
        raise InputError(f"{chip.name} has no `package.node` or no `cores.clock`, which power needs")
    clock, full = chip.cores.clock, powered(chip)
    found: dict[str, Watts] = {"matrix unit": 2.0 * full.matrix_unit.energy[form.name] * _macs(chip, form) * clock}
    for level in full.memory:
        if level.role in _ON_CHIP and level.energy is not None and level.name != chip.main_memory.name:
            words = 2.0 if level.role == "accumulator" else 1.0
            found[f"memory.{level.name}"] = words * port_width(chip, level, form) * level.energy * clock
    found["activation units"] = activation_units * activation_energy(function, at) * clock
    area = total(list(chip_area(chip, activation_units=activation_units).values()))
    return {**found, "leakage": energies.leakage_power(area=area, density=at.leakage)}
