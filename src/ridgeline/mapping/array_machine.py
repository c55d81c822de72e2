"""A chip as the array machine that nests of loops run on: array, buffers, path to memory, energies, all in cycles and bytes."""

from collections.abc import Mapping
from typing import NamedTuple

from ridgeline.costs.access import AccessEnergy
from ridgeline.costs.components import element_energy, is_modelled, powered
from ridgeline.costs.tiled import Array, Buffers, Memory, transfer_rate
from ridgeline.errors import InputError
from ridgeline.mapping.capacity import further_tier
from ridgeline.mapping.dataflow import TEMPORAL, TILED, check_dataflow, lanes_as_array
from ridgeline.quantities import Bytes, Count, Fraction, Hertz, Joules, Seconds
from ridgeline.results import Tiling
from ridgeline.specs.chip import Chip, MemoryLevel
from ridgeline.specs.number_format import FORMATS, NumberFormat, accumulator


class ArrayMachine(NamedTuple):
    """What a tiling needs to know of a chip."""

    array: Array
    buffers: Buffers
    memory: Memory
    energy: AccessEnergy | None
    dataflow: str
    clock: Hertz
    arrays: float = 1.0  # identical ones; everything above is one array's share
    skewed: bool = True  # operands pass from element to element; False: lanes that get them at once

    @property
    def searched(self) -> Memory:
        """The path to memory as a search sees it: an order whose sums would have to leave is never free."""
        return self.memory._replace(spill=1.0)


def array_machine(
    chip: Chip, *, inputs: NumberFormat, weights: NumberFormat, compute: str, dataflow: str | None = None
) -> ArrayMachine:
    """Return the machine that a chip is for products of two formats, computed in a format.

    Needed are a clock, an array of rows and columns with a dataflow that is tiled (or a temporal unit, which is one without skew,
    beside memories that software manages), and on-chip memory: a scratchpad or buffer for inputs and weights, and an
    accumulator for sums (one memory for all is halved). Of several arrays each has an equal share of
    on-chip memory and of the bandwidth to main memory. One array may stand behind caches: what is still there is then a matter of
    reuse distance. Transfers that the cores issue take the array's time, `transfer.issue` a request. Raises `InputError` for what
    is missing.
    """
    unit = chip.matrix_unit
    chosen = dataflow or unit.kind
    check_dataflow(unit, chosen)
    lanes = chosen in TEMPORAL and not _caches(chip)
    if chosen not in TILED and not lanes:
        what = f"dataflow {dataflow!r} is" if dataflow else f"{chip.name} is {unit.kind}, which is"
        raise InputError(f"{what} not tiled: choose one of {', '.join(TILED)}")
    if chip.cores is None or chip.cores.clock is None:
        raise InputError(f"{chip.name} has no `cores.clock`, which cycles need")
    if len(unit.shape) < 2 or min(unit.shape) < 1:
        raise InputError(
            f"{chip.name}: an array of {' × '.join(map(str, unit.shape)) or 'no'} elements computes nothing: rows and columns"
        )
    rows, columns, depth, flow = lanes_as_array(unit) if lanes else (unit.shape[0], unit.shape[1], 1, chosen)
    arrays = chip.cores.count * (1 if unit.count is None else unit.count)
    if arrays != 1:
        _check_several(chip, arrays)
    accumulate = accumulator(FORMATS[compute])
    clock = _step_rate(chip, chip.cores.clock, compute, arrays * rows * columns * depth)
    array = _array(chip, clock, flow)
    return ArrayMachine(
        array=_as_lanes(array, rows, columns, depth) if lanes else array,
        buffers=_buffers(chip, inputs, weights, accumulate, arrays),
        memory=_memory(chip, clock, arrays),
        energy=access_energy(chip, compute),
        dataflow=flow,
        clock=clock,
        arrays=float(arrays),
        skewed=not lanes,
    )


def _as_lanes(array: Array, rows: Count, columns: Count, depth: Count) -> Array:
    return array._replace(rows=float(rows), columns=float(columns), depth=float(depth), preload=0.0, fill=0.0, serial=0.0)


def _caches(chip: Chip) -> list[str]:
    return [level.name for level in chip.memory if level.managed_by == "cache"]


def _check_several(chip: Chip, arrays: Count) -> None:
    """Raise `InputError` where arrays cannot have shares of the memories: no whole number of them, or a cache between them."""
    if arrays < 1 or arrays != int(arrays):
        raise InputError(f"{chip.name} has {arrays:g} arrays: a product is cut over a whole number of them, at least 1")
    if cached := _caches(chip):
        raise InputError(
            f"{chip.name} has {arrays:g} arrays behind a cache ({', '.join(cached)}): "
            "a product is cut over several where all on-chip memory is managed by software"
        )


def _step_rate(chip: Chip, clock: Hertz, compute: str, elements: Count) -> Hertz:
    """Return the steps a second of all elements in a format: the clock, or what the format's own peak is."""
    rate = chip.matrix_unit.rate.get(compute, chip.vector_unit.rate.get(compute))
    if rate is None:
        return clock
    stated = rate / (2.0 * elements)
    return clock if abs(stated - clock) < 0.02 * clock else stated  # a peak is stated to 2 %


def _array(chip: Chip, clock: Hertz, dataflow: str) -> Array:
    fed, shape = chip.matrix_unit.instructions, chip.matrix_unit.shape
    fill = float(2 * shape[0] + shape[1] - 2 if dataflow != "output-stationary" else shape[0] + shape[1] - 2)
    return Array(
        rows=float(shape[0]),
        columns=float(shape[1]),
        stream=float("inf") if fed.stream is None else float(fed.stream),
        least=_cycles(fed.least, clock),
        preload=float(shape[0]) if fed.preload is None and chip.matrix_unit.preload else _cycles(fed.preload, clock),
        issue=_cycles(fed.issue, clock),
        gap=_cycles(fed.gap, clock),
        fill=fill if chip.matrix_unit.preload else 0.0,
        serial=0.0 if chip.matrix_unit.preload else fill,
    )


def _cycles(time: Seconds | None, clock: Hertz) -> float:
    return 0.0 if time is None else time * clock


def _buffers(chip: Chip, inputs: NumberFormat, weights: NumberFormat, accumulate: NumberFormat, arrays: Count) -> Buffers:
    scratchpad, accumulator = on_chip(chip)
    return Buffers(
        scratchpad=scratchpad / arrays,
        accumulator=accumulator / arrays,
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


def _memory(chip: Chip, clock: Hertz, arrays: Count) -> Memory:
    main, transfer = chip.main_memory, chip.transfer
    return Memory(
        bytes_per_cycle=main.bandwidth / clock / arrays,
        latency=_cycles(main.latency, clock),
        in_flight=float("inf") if transfer.in_flight is None else float(transfer.in_flight) / arrays,
        burst=64.0 if transfer.burst is None else float(transfer.burst),
        word=1.0 if transfer.word is None else float(transfer.word),
        start=_cycles(transfer.cost_per_tile, clock),
        reuse=1.0 if transfer.keeps_tiles else 0.0,
        spill=1.0 if transfer.spills else 0.0,
        issue=_cycles(transfer.issue, clock) if transfer.engine == "cores" else 0.0,
        beside=1.0 if transfer.managed_by == "host" else 0.0,
        cached=1.0 if _behind_cache(chip) else 0.0,
    )


def _behind_cache(chip: Chip) -> bool:
    """Say whether caches are all that holds operands on the chip."""
    outer = chip.main_memory.name
    held = [level for level in chip.memory if level.role in ("scratchpad", "buffer", "cache") and level.name != outer]
    return all(level.managed_by == "cache" for level in held)


def weights_from_further_tier(machine: ArrayMachine, chip: Chip, share: Fraction = 1.0) -> ArrayMachine:
    """Return the machine with a share of the weights (or the KV cache, which lies in their place) read from the further tier.

        cycles of weights = bytes · (share / tier + (1 − share) / main)     tier = min(bandwidth, in_flight · burst / latency)

    One engine serves both memories, a transfer after the other, each at the rate of the memory that it comes from: a serial path.
    Raises `InputError` for a chip without a further tier.
    """
    tier = further_tier(chip)
    if tier is None:
        raise InputError(f"{chip.name} has no further-tier memory with a capacity and a bandwidth")
    main, path = transfer_rate(machine.memory), machine.memory
    wide = path._replace(
        bytes_per_cycle=tier.bandwidth / machine.clock / machine.arrays,
        latency=path.latency if tier.latency is None else tier.latency * machine.clock,
    )
    slower = max(main / transfer_rate(wide), 1.0)
    return machine._replace(memory=path._replace(weight_rate=1.0 / (share * slower + 1.0 - share)))


def access_energy(chip: Chip, compute: str) -> AccessEnergy | None:
    """Return the energy of an access at each place: what the chip's file gives, else what follows from its node.

    None without that of main memory or of arithmetic. A systolic element hands operands and sums on at every multiply-accumulate:
    that is part of `mac` there; a row-stationary mapping counts hops itself, by `network`.
    """
    chip = powered(chip)
    main, arithmetic = chip.main_memory.energy, chip.matrix_unit.energy.get(compute)
    if main is None or arithmetic is None:
        return None
    by_role = {level.role: level.energy for level in reversed(chip.memory) if level.energy is not None}
    element = element_energy(chip, FORMATS[compute]) if is_modelled(chip) else None
    return AccessEnergy(
        dram=main,
        scratchpad=by_role.get("scratchpad", by_role.get("buffer", by_role.get("cache", 0.0) if element else 0.0)),
        accumulator=by_role.get("accumulator", 0.0),
        register=by_role.get("registers", 0.0) if element is None else element.register,
        mac=2.0 * arithmetic if element is None else element.arithmetic + element.hops,
        network=0.0 if element is None else element.network,
    )


def energy_by_component(chip: Chip, compute: str, tiling: Tiling) -> Mapping[str, Joules]:
    """Return the energy of a tiled nest by component; the components add up to the tiling's energy.

    Arithmetic, network and registers of the array, and each memory; `compute` is the whole array where the chip gives one number.
    """
    energy = access_energy(chip, compute)
    if energy is None or tiling.energy is None or tiling.dataflow not in TILED:
        return {}
    element = element_energy(chip, FORMATS[compute]) if is_modelled(chip) else None
    moved = {level: sum(tensors.values()) for level, tensors in tiling.traffic.items()}
    found: dict[str, Joules] = {}
    if energy.register:
        found["registers"] = energy.register * moved["registers"]
    for place, roles in (("accumulator", ("accumulator",)), ("scratchpad", ("scratchpad", "buffer", "cache"))):
        names = [
            level.name for role in roles for level in chip.memory if level.role == role and level.name != chip.main_memory.name
        ]
        if getattr(energy, place) and names:
            found[f"memory.{names[0]}"] = getattr(energy, place) * moved[place]
    found[f"memory.{chip.main_memory.name}"] = energy.dram * moved["dram"]
    array = tiling.energy - sum(found.values())  # of the multiply-accumulates
    if element is None:
        return {"compute": array, **found}
    share = element.arithmetic / (element.arithmetic + element.hops)
    return {"arithmetic": array * share, "network": array * (1.0 - share), **found}
