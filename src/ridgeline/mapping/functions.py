"""Where the functions of an operation run: in the chip's own units, as integer polynomials there, or on its host."""

from dataclasses import dataclass

from ridgeline.costs.elementwise import vector_time
from ridgeline.costs.functions import conversion_time, host_transfer_time, polynomial_operations, software_time
from ridgeline.costs.ideal import Machine
from ridgeline.errors import InputError
from ridgeline.quantities import Count, Seconds
from ridgeline.results import Operation
from ridgeline.specs.chip import Chip, Place
from ridgeline.specs.number_format import FORMATS
from ridgeline.workload.functions import FUNCTIONS


@dataclass(frozen=True, kw_only=True, eq=False)
class FunctionTimes:
    """What the functions of an operation take, once: on the chip, and on the host with what goes there and back."""

    vector: Seconds = 0.0
    software: Seconds = 0.0
    conversion: Seconds = 0.0  # from integers to floats and back
    transfer: Seconds = 0.0

    @property
    def host(self) -> Seconds:
        """Time of the host: conversion, function and both transfers follow one another."""
        return self.software + self.conversion + self.transfer


def place_of(chip: Chip, function: str) -> Place:
    """Say where a chip runs a function: as its file says; else on its lanes, as an integer polynomial where they know no floats.

    >>> from ridgeline.specs.chip import Chip, VectorUnit
    >>> place_of(Chip(name="lanes", vector_unit=VectorUnit(rate={"int32": 1e9})), "softmax")
    'polynomial'
    """
    stated = chip.functions.get(function)
    if stated is not None:
        return stated
    names = {name.partition(":")[0] for name in (*chip.matrix_unit.rate, *chip.vector_unit.rate)} - {"exponential"}
    has_floats = any(FORMATS[name].kind == "float" for name in names)
    return "polynomial" if not has_floats and FUNCTIONS[function].special > 0.0 else "native"


def runs_on_host(chip: Chip, operation: Operation) -> bool:
    """Say whether a chip sends an operation to its host: any of its functions sends the whole of it."""
    return any(place_of(chip, name) == "host" for name in operation.functions)


def is_row_wise(operation: Operation) -> bool:
    """Say whether an operation needs whole rows: norms and softmax."""
    return any(FUNCTIONS[name].row_wise for name in operation.functions)


def function_times(machine: Machine, operation: Operation) -> FunctionTimes:
    """Time the functions of an operation where the chip runs them.

    Raises `InputError` for functions that no unit of the chip can run.
    """
    if not operation.functions:
        return FunctionTimes()
    if runs_on_host(machine.chip, operation) and not operation.products:
        return _on_host(machine.chip, operation)
    lane, special = _chip_operations(machine.chip, operation)
    if lane + special == 0.0 or (machine.lane_rate is None and set(operation.functions) == {"bias"}):
        return FunctionTimes()  # without lanes, a bias is what sums begin with
    if machine.lane_rate is None:
        raise InputError(
            f"no unit of {machine.chip.name} can run {', '.join(operation.functions)}: give [vector_unit.rate], or say "
            f'`{next(iter(operation.functions))} = "host"` under [functions] with the rate of its [host]'
        )
    return FunctionTimes(
        vector=vector_time(lane=lane, special=special, lane_rate=machine.lane_rate, special_rate=machine.special_rate)
    )


def _chip_operations(chip: Chip, operation: Operation) -> tuple[Count, Count]:
    """Lane operations and special functions on the chip; polynomials are lane operations."""
    lanes: Count = 0.0
    specials: Count = 0.0
    for name, elements in operation.functions.items():
        function = FUNCTIONS[name]
        if place_of(chip, name) == "polynomial":
            lanes = lanes + elements * polynomial_operations(name, lane=function.lane, special=function.special)
        else:
            lanes, specials = lanes + elements * function.lane, specials + elements * function.special
    return lanes, specials


def _on_host(chip: Chip, operation: Operation) -> FunctionTimes:
    host = chip.host
    missing = [name for name, value in (("rate", host.rate), ("bandwidth", host.bandwidth)) if value is None]
    if missing:
        sent = ", ".join(name for name in operation.functions if place_of(chip, name) == "host")
        raise InputError(f"{sent} runs on the host of {chip.name}: give {' and '.join(f'host.{name}' for name in missing)}")
    lane = special = passes = read = written = 0.0
    for name, elements in operation.functions.items():
        function = FUNCTIONS[name]
        lane, special = lane + elements * function.lane, special + elements * function.special
        passes = passes + elements * function.passes
    for tensor in operation.reads:
        read = read + (tensor.elements if tensor.role != "weight" and tensor.format.kind == "integer" else 0.0)
    for tensor in operation.writes:
        written = written + (tensor.elements if tensor.format.kind == "integer" else 0.0)
    return FunctionTimes(
        software=software_time(lane=lane, special=special, passes=passes, rate=host.rate),
        conversion=conversion_time(read=read, written=written, rate=host.rate),
        transfer=host_transfer_time(bytes=operation.bytes, bandwidth=host.bandwidth, latency=host.latency or 0.0),
    )
