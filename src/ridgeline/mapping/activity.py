"""What kernels of a many-core chip draw: arithmetic with its padding, bytes across the memory's interface and on to the cores.

The energy of a FLOP, that of a byte of main memory and the share of the limit left for work are those of the power-limited clock.
"""

from collections.abc import Mapping, Sequence

from ridgeline.arrays import is_scalar, maximum, minimum, total, where
from ridgeline.costs.ideal import Machine
from ridgeline.costs.power import attending_energy, capped_time, padded_flops, running_power, standing_energy, work_power
from ridgeline.errors import InputError
from ridgeline.quantities import Bytes, Count, Joules, JoulesPerFlop, Seconds, Watts
from ridgeline.results import Operation, OperationEstimate, resource_row
from ridgeline.specs.chip import Chip

_ROWS = 16.0  # of the smallest tile that a matrix unit multiplies
_FEW = 16.0  # queries of a sequence up to which attention runs as decode
_HALF = ("bf16", "fp16")
DELIVERY = "on-chip"
OVERHEAD = "overhead"


def active_energy(machine: Machine, operation: Operation, moved: Bytes, least: Mapping[str, Joules]) -> dict[str, Joules]:
    """Return the energy of a kernel by component; `moved` crosses main memory, `least` is the energy of its bound.

    Products of few rows switch whole tiles. Decode attention multiplies tiles too, and its bytes are those that cores ask for.
    """
    family, found = machine.chip.efficiency, dict(least)
    if family is None:
        return found
    asked, half = moved, _half_energy(machine.chip)
    if operation.products and "compute" in found:
        lead = operation.products[0]
        if operation.kind != "attention":
            found["compute"] = padded_flops(flops=found["compute"], rows=lead.m, tile=_ROWS)
        elif len(operation.products) == 2 and family.attending:
            cached, few = _asked(machine.chip, operation), lead.m <= _FEW
            tiles = attending_energy(bytes=cached, intensity=family.attending, energy=half)
            found["compute"] = where(few, tiles, found["compute"])
            asked = where(few, cached, moved)
    if family.delivery and half:
        found[DELIVERY] = attending_energy(bytes=asked, intensity=family.delivery, energy=half)
    return found


def _half_energy(chip: Chip) -> JoulesPerFlop:
    """Return the energy of a FLOP at 16 bits, as the clock's limit takes it; 0 where it is not known."""
    family, unit = chip.efficiency, chip.matrix_unit.energy
    own = None if family is None else family.energy.get("half")
    return own if own is not None else next((unit[one] for one in _HALF if one in unit), 0.0)


def _asked(chip: Chip, operation: Operation) -> Bytes:
    """Return the bytes of keys and values that cores ask for: once a KV head, or once a query head."""
    scores, cached = operation.products[0], operation.reads[1:]
    size = total([one.bytes for one in cached])
    if chip.stack is None or not chip.stack.reads_by_head or len(cached) < 2:
        return size
    return size * scores.batch * scores.n * scores.k / cached[0].elements


# ---- the board --------------------------------------------------------------------------------------------------------------


def is_metered(chip: Chip, level: str) -> bool:
    """Say whether a level knows what a chip's board draws: kernels of many cores, with a limit and an idle power."""
    known = chip.package.idle_power is not None and chip.package.power is not None
    return level == "mapped" and chip.efficiency is not None and known


def standing(chip: Chip, level: str, time: Seconds, waiting: Seconds) -> Joules | None:
    """Return the energy of a chip beside its work; None where its file has no idle power.

    At `mapped` the clocks of a chip of many cores run unless it waits for its host; else idle power is taken throughout.
    """
    idle, limit, family = chip.package.idle_power, chip.package.power, chip.efficiency
    if idle is None:
        return None
    if level != "mapped" or family is None or limit is None:
        return time * idle
    running = maximum(running_power(limit=limit, share=family.power_share), idle)
    return standing_energy(time=time, waiting=waiting, running=running, idle=idle)


def power_left(chip: Chip) -> Watts | None:
    """Return the power that a chip's limit leaves for work; raise `InputError` for a limit below what it draws without any."""
    limit, family = chip.package.power, chip.efficiency
    if limit is None or family is None:
        return None
    idle = chip.package.idle_power or 0.0
    running = maximum(running_power(limit=limit, share=family.power_share), idle)
    if chip.package.cap is None:
        return work_power(limit=limit, share=family.power_share, cap=limit)
    left = chip.package.cap - running
    if is_scalar(left) and left <= 0.0:
        raise InputError(
            f"{chip.name}: power limit {chip.package.cap:g} W: the board draws {running:g} W whenever its clocks run, "
            f"and {idle:g} W idle: a limit above {running:g} W is wanted"
        )
    return left


def within_limit(chip: Chip, level: str, energy: Mapping[str, Joules], busy: Seconds, chips: Count = 1.0) -> dict[str, Joules]:
    """Return the energy of a step's work, which its board's limit bounds: what is estimated above it cannot be drawn."""
    left = power_left(chip) if is_metered(chip, level) else None
    if left is None or not energy:
        return dict(energy)
    work = total(list(energy.values()))
    share = minimum(1.0 + 0.0 * work, left * busy * chips / maximum(work, 1e-300))
    return {name: value * share for name, value in energy.items()}


def cap_rows(chip: Chip, level: str, rows: Sequence[OperationEstimate]) -> tuple[OperationEstimate, ...]:
    """Return what a limit below the board's own adds to a step, as a row of overhead; nothing where none is set.

    Products keep to the limit kernel by kernel; this is what the others draw above it.
    """
    left = power_left(chip) if chip.package.cap is not None and is_metered(chip, level) else None
    if left is None:
        return ()
    work = total([total(list(one.cost.energy.values())) * one.count for one in rows if one.cost.energy])
    busy = total([one.time * one.count for one in rows if one.kind != "host"])
    added = capped_time(time=busy, work=work, power=left) - busy
    return (resource_row("power limit", OVERHEAD, count=1.0, time=added),)
