"""Cost of an operation at the `ideal` level: compulsory traffic at peak rates, everything inside the operation overlapped.

No machine beats it under the stated residency. `cold`: every tensor crosses every memory level once. `warm`: activations, and
all that an operation reads, start in the outermost on-chip memory where that holds them.
"""

from dataclasses import dataclass
from functools import cache
from typing import Literal

from ridgeline.arrays import where
from ridgeline.costs.components import powered
from ridgeline.costs.elementwise import vector_time
from ridgeline.costs.energy import arithmetic_energy, transfer_energy
from ridgeline.costs.matmul import compute_time
from ridgeline.costs.memory import transfer_time
from ridgeline.costs.rates import ComputeRate, compute_rate, lane_energy, operand_format, vector_rate
from ridgeline.quantities import Bytes, Count, Flops, FlopsPerSecond, JoulesPerFlop
from ridgeline.results import Cost, Operation
from ridgeline.specs.chip import Chip, MemoryLevel
from ridgeline.specs.number_format import NumberFormat, number_format
from ridgeline.workload.functions import FUNCTIONS

Residency = Literal["cold", "warm"]


@dataclass(frozen=True, eq=False)
class Machine:
    """A chip with its rates looked up once, for all operations of a step."""

    chip: Chip
    accumulate: NumberFormat | None
    residency: Residency
    levels: tuple[MemoryLevel, ...]  # those with a bandwidth, whole chip, the main memory last
    lane_rate: FlopsPerSecond | None
    special_rate: FlopsPerSecond | None
    lane_energy: JoulesPerFlop | None
    _rates: dict[tuple[str, str], ComputeRate]

    @classmethod
    def of(cls, chip: Chip, accumulate: NumberFormat | None = None, residency: Residency = "cold") -> "Machine":
        """Look up the rates of a chip, and the energies that its file leaves out."""
        chip = powered(chip)
        inside = [chip.whole(level) for level in chip.memory if level.role != "further-tier" and level.bandwidth is not None]
        lane, special = vector_rate(chip)
        return cls(chip, accumulate, residency, tuple(inside), lane, special, lane_energy(chip), {})

    def rate(self, formats: tuple[NumberFormat, NumberFormat]) -> ComputeRate:
        """Return the unit that multiplies two formats."""
        key = (formats[0].name, formats[1].name)
        if key not in self._rates:
            self._rates[key] = compute_rate(self.chip, formats, self.accumulate)
        return self._rates[key]

    def substitutions(self) -> dict[tuple[str, str], str]:
        """Return the pairs of formats that are computed in another format than their own, with that format."""
        found: dict[tuple[str, str], str] = {}
        for (stationary, streaming), unit in self._rates.items():
            if unit.format != operand_format((number_format(stationary), number_format(streaming))):
                found[stationary, streaming] = unit.format
        return found

    @property
    def formats(self) -> dict[str, ComputeRate]:
        """The compute formats met so far."""
        return {rate.format: rate for rate in self._rates.values()}


@cache
def _weights(function: str) -> tuple[float, float]:
    found = FUNCTIONS[function]
    return found.lane, found.special


def ideal_cost(machine: Machine, operation: Operation) -> Cost:
    """Return the cost of one repetition of an operation.

    compute = Σ flops / peak(format);  vector = max(lanes, special functions);  memory.<level> = bytes / bandwidth
    """
    time: dict[str, object] = {}
    energy: dict[str, object] = {}
    flops = _compute(machine, operation, time, energy)
    flops = flops + _vector(machine, operation, time, energy)
    moved = operation.bytes
    main = machine.levels[-1].name
    traffic: dict[str, Bytes] = {}
    for level in machine.levels:
        crossing = _main_bytes(machine, operation, moved) if level.name == main else moved
        traffic[level.name] = crossing
        time[f"memory.{level.name}"] = transfer_time(bytes=crossing, bandwidth=level.bandwidth)
        if level.energy is not None:
            energy[f"memory.{level.name}"] = transfer_energy(bytes=crossing, energy=level.energy)
    return Cost(time=time, energy=energy, flops=flops, bytes=traffic)


def _compute(machine: Machine, operation: Operation, time: dict[str, object], energy: dict[str, object]) -> Flops:
    """Add the products' time and energy; return their FLOPs."""
    flops = seconds = joules = 0.0
    for product in operation.products:
        unit = machine.rate(product.formats)
        flops = flops + product.flops
        seconds = seconds + compute_time(flops=product.flops, rate=unit.rate)
        if unit.energy is not None:
            joules = joules + arithmetic_energy(flops=product.flops, energy=unit.energy)
    time["compute"] = seconds
    energy["compute"] = joules
    return flops


def function_counts(operation: Operation) -> tuple[Count, Count]:
    """Return an operation's lane operations and special functions."""
    lane = special = 0.0
    for name, elements in operation.functions.items():
        lane_count, special_count = _weights(name)
        lane = lane + elements * lane_count
        special = special + elements * special_count
    return lane, special


def _vector(machine: Machine, operation: Operation, time: dict[str, object], energy: dict[str, object]) -> Flops:
    """Add the vector functions' time and energy; return their operations."""
    lane, special = function_counts(operation)
    count = lane + special
    time["vector"] = 0.0
    if machine.lane_rate is not None and operation.functions:
        time["vector"] = vector_time(lane=lane, special=special, lane_rate=machine.lane_rate, special_rate=machine.special_rate)
    if machine.lane_energy is not None:
        energy["vector"] = arithmetic_energy(flops=count, energy=machine.lane_energy)
    return count


def _main_bytes(machine: Machine, operation: Operation, moved: Bytes) -> Bytes:
    """Bytes that cross the main memory under the machine's residency."""
    inner = machine.levels[:-1]
    if machine.residency == "cold" or not inner or inner[-1].capacity is None:
        return moved
    activations = operation.bytes_of("activation", "scores")
    return where(moved <= inner[-1].capacity, 0.0 * moved, where(activations <= inner[-1].capacity, moved - activations, moved))
