"""A chip as the array machine that nests of loops run on: array, buffers, path to memory, energies, all in cycles and bytes."""

from typing import NamedTuple

from ridgeline.costs.access import AccessEnergy
from ridgeline.costs.tiled import Array, Buffers, Memory
from ridgeline.errors import InputError
from ridgeline.mapping.dataflow import TILED, check_dataflow
from ridgeline.quantities import Bytes, Hertz, Seconds
from ridgeline.specs.chip import Chip, MemoryLevel
from ridgeline.specs.number_format import FORMATS, NumberFormat


class ArrayMachine(NamedTuple):
    """What a tiling needs to know of a chip."""

    array: Array
    buffers: Buffers
    memory: Memory
    energy: AccessEnergy | None
    dataflow: str
    clock: Hertz

    @property
    def searched(self) -> Memory:
        """The path to memory as a search sees it: an order whose sums would have to leave is never free."""
        return self.memory._replace(spill=1.0)


def array_machine(
    chip: Chip, *, inputs: NumberFormat, weights: NumberFormat, compute: str, dataflow: str | None = None
) -> ArrayMachine:
    """Return the machine that a chip is for products of two formats, computed in a format.

    Needed are a clock, an array of rows and columns with a dataflow that is tiled, and on-chip memory: a scratchpad or buffer for
    inputs and weights, and an accumulator for sums (one memory for all is halved). Raises `InputError` for what is missing.
    """
    unit = chip.matrix_unit
    chosen = dataflow or unit.kind
    check_dataflow(unit, chosen)
    if chosen not in TILED:
        what = f"dataflow {dataflow!r} is" if dataflow else f"{chip.name} is {unit.kind}, which is"
        raise InputError(f"{what} not tiled: choose one of {', '.join(TILED)}")
    if chip.cores is None or chip.cores.clock is None:
        raise InputError(f"{chip.name} has no `cores.clock`, which cycles need")
    if len(unit.shape) < 2 or min(unit.shape) < 1:
        raise InputError(
            f"{chip.name}: an array of {' × '.join(map(str, unit.shape)) or 'no'} elements computes nothing: rows and columns"
        )
    arrays = chip.cores.count * (1 if unit.count is None else unit.count)
    if arrays != 1:
        raise InputError(f"{chip.name} has {arrays:g} arrays: a product is mapped on one, over several it is not yet")
    accumulate = FORMATS[FORMATS[compute].accumulate]
    clock = _step_rate(chip, chip.cores.clock, compute)
    return ArrayMachine(
        array=_array(chip, clock, chosen),
        buffers=_buffers(chip, inputs, weights, accumulate),
        memory=_memory(chip, clock),
        energy=_energy(chip, compute),
        dataflow=chosen,
        clock=clock,
    )


def _step_rate(chip: Chip, clock: Hertz, compute: str) -> Hertz:
    """Return the steps a second of the array in a format: its clock, or fewer where the format's peak is lower than that."""
    rate = chip.matrix_unit.rate.get(compute, chip.vector_unit.rate.get(compute))
    if rate is None:
        return clock
    stated = rate / (2.0 * chip.matrix_unit.shape[0] * chip.matrix_unit.shape[1])
    return clock if stated > 0.98 * clock else stated  # a peak is stated to 2 %


def _array(chip: Chip, clock: Hertz, dataflow: str) -> Array:
    fed, shape = chip.matrix_unit.instructions, chip.matrix_unit.shape
    return Array(
        rows=float(shape[0]),
        columns=float(shape[1]),
        stream=float("inf") if fed.stream is None else float(fed.stream),
        least=_cycles(fed.least, clock),
        preload=float(shape[0]) if fed.preload is None and chip.matrix_unit.preload else _cycles(fed.preload, clock),
        issue=_cycles(fed.issue, clock),
        gap=_cycles(fed.gap, clock),
        fill=float(2 * shape[0] + shape[1] - 2 if dataflow != "output-stationary" else shape[0] + shape[1] - 2),
    )


def _cycles(time: Seconds | None, clock: Hertz) -> float:
    return 0.0 if time is None else time * clock


def _buffers(chip: Chip, inputs: NumberFormat, weights: NumberFormat, accumulate: NumberFormat) -> Buffers:
    scratchpad, accumulator = on_chip(chip)
    return Buffers(
        scratchpad=scratchpad,
        accumulator=accumulator,
        input_bytes=inputs.bytes_per_value,
        weight_bytes=weights.bytes_per_value,
        output_bytes=inputs.bytes_per_value,
        accumulator_bytes=accumulate.bytes_per_value,
        double=2.0 if chip.transfer.asynchronous else 1.0,
    )


def on_chip(chip: Chip) -> tuple[Bytes, Bytes]:
    """Return the bytes for operands and for sums, in whatever order the file lists its memories."""
    whole = [chip.whole(level) for level in chip.memory if level.role in ("scratchpad", "buffer", "cache", "accumulator")]
    sums = _capacity([level for level in whole if level.role == "accumulator"])
    operands = _capacity([level for level in whole if level.role != "accumulator" and level.name != chip.main_memory.name])
    if not operands:
        raise InputError(f"{chip.name} has no on-chip [[memory]] with a capacity for inputs and weights")
    return (operands, sums) if sums else (operands / 2, operands / 2)


def _capacity(levels: list[MemoryLevel]) -> float:
    return float(sum(level.capacity for level in levels if level.capacity is not None))


def _memory(chip: Chip, clock: Hertz) -> Memory:
    main, transfer = chip.main_memory, chip.transfer
    return Memory(
        bytes_per_cycle=main.bandwidth / clock,
        latency=_cycles(main.latency, clock),
        in_flight=float("inf") if transfer.in_flight is None else float(transfer.in_flight),
        burst=64.0 if transfer.burst is None else float(transfer.burst),
        word=1.0 if transfer.word is None else float(transfer.word),
        start=_cycles(transfer.cost_per_tile, clock),
        reuse=1.0 if transfer.keeps_tiles else 0.0,
        spill=1.0 if transfer.spills else 0.0,
    )


def _energy(chip: Chip, compute: str) -> AccessEnergy | None:
    """Return the energies that the chip gives; None without those of its main memory and of its arithmetic."""
    main, arithmetic = chip.main_memory.energy, chip.matrix_unit.energy.get(compute)
    if main is None or arithmetic is None:
        return None
    by_role = {level.role: level.energy for level in chip.memory if level.energy is not None}
    return AccessEnergy(
        dram=main,
        scratchpad=by_role.get("scratchpad", by_role.get("buffer", 0.0)),
        accumulator=by_role.get("accumulator", 0.0),
        register=by_role.get("registers", 0.0),
        mac=2.0 * arithmetic,
    )
