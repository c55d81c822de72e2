"""How a matrix product or a convolution is best cut for a chip, with the proof, or what a given mapping costs."""

import re
from dataclasses import dataclass

from ridgeline.api.names import load_chip
from ridgeline.api.simulation import simulate_tiling
from ridgeline.costs.rates import compute_rate
from ridgeline.costs.tiled import ORDERS, Layer, held_bytes
from ridgeline.errors import InputError
from ridgeline.mapping.array_machine import ArrayMachine, array_machine
from ridgeline.mapping.arrays import tile_shares
from ridgeline.mapping.dataflow import check_dataflow
from ridgeline.mapping.nest import read_nest
from ridgeline.mapping.row_stationary import RowMachine, cost_mapping, letters_of, map_layer, read_mapping, row_machine
from ridgeline.mapping.tiling import OBJECTIVES, cost_tiling, product
from ridgeline.quantities import Seconds
from ridgeline.results import Tiling
from ridgeline.simulate.convolution import NestRun
from ridgeline.specs.chip import Chip
from ridgeline.specs.precision import Precision

_PRODUCT = re.compile(r"(\d+)[x×](\d+)[x×](\d+)")
_LETTERS = "nkcpqrs"


@dataclass(frozen=True, kw_only=True, eq=False)
class Mapped:
    """A layer on a chip: its tiling and the machine that the tiling is for."""

    layer: Layer
    chip: Chip
    precision: Precision
    machine: ArrayMachine | RowMachine
    tiling: Tiling
    simulated: NestRun | None = None
    notes: tuple[str, ...] = ()

    @property
    def time(self) -> Seconds:
        """Time of the tiling's cycles at the chip's clock."""
        return (self.tiling.cycles or 0.0) / self.machine.clock


def read_layer(text: str) -> Layer:
    """Read a matrix product `MxKxN`, or a convolution `k=64,c=3,p=112,q=112,r=7,s=7,stride=2` (and `n` for a batch).

    >>> read_layer("128x768x3072")
    Layer(n=1.0, k=3072.0, c=768.0, p=128.0, q=1.0, r=1.0, s=1.0, stride=1.0)
    """
    if match := _PRODUCT.fullmatch(text.strip().lower()):
        m, k, n = (int(one) for one in match.groups())
        if min(m, k, n) < 1:
            raise InputError(f"{text!r}: sizes of a product are 1 or more")
        return product(m, n, k)
    sizes = dict.fromkeys((*_LETTERS, "stride"), 1.0)
    for part in text.split(","):
        name, _, value = part.strip().partition("=")
        if name not in sizes or not value.isdigit() or int(value) < 1:
            raise InputError(f"{text!r}: write a product as MxKxN, or a convolution as k=64,c=3,p=112,q=112,r=7,s=7,stride=2")
        sizes[name] = float(value)
    return Layer(**sizes)


def map_matmul(
    layer: Layer | str,
    chip: Chip | str,
    *,
    dataflow: str | None = None,
    objective: str = "latency",
    mapping: str | None = None,
    precision: Precision | str | None = None,
    simulate: bool = False,
) -> Mapped:
    """Return the best tiling of a layer on a chip with an array, over all tile sizes and loop orders, or cost a mapping.

    Over several arrays the output is cut (`mapping.arrays`); tile and time line are then of the largest share, bytes and energy of
    all. `mapping` is a loop nest in Timeloop's form; on a row-stationary array, a pass in the papers' letters. With `simulate` the
    tiling also runs cycle by cycle, with a time line.

    Raises `InputError` for a chip without an array that is tiled, a dataflow it does not have, or a mapping that is none of this
    layer, and `InfeasibleError` where nothing fits, naming the buffer and the bytes.

    >>> found = map_matmul("128x768x768", "gemmini")
    >>> found.tiling.optimal, found.tiling.cycles >= 128 * 768 * 768 / 256
    (True, True)
    """
    machine_chip = load_chip(chip)
    shape = read_layer(layer) if isinstance(layer, str) else layer
    formats = _precision(precision, machine_chip)
    unit = compute_rate(machine_chip, (formats.weights, formats.activations), formats.accumulate)
    if (dataflow or machine_chip.matrix_unit.kind) == "row-stationary":
        return _map_rows(shape, machine_chip, formats, objective=objective, mapping=mapping, simulate=simulate)
    machine = array_machine(
        machine_chip, inputs=formats.activations, weights=formats.weights, compute=unit.format, dataflow=dataflow
    )
    if objective not in OBJECTIVES:
        raise InputError(f"unknown objective {objective!r}: choose {', '.join(OBJECTIVES)}")
    notes: list[str] = []
    if mapping is None:
        share, _, found = tile_shares([shape], [1.0], machine, objective=objective)[0]
    elif machine.arrays > 1:
        raise InputError(f"a mapping is of one array, and {machine_chip.name} has {machine.arrays:g}: leave it out")
    else:
        share, found = shape, _given(mapping, shape, machine, notes)
    run = simulate_tiling(share, found, machine, spans=True) if simulate else None
    return Mapped(
        layer=shape, chip=machine_chip, precision=formats, machine=machine, tiling=found, simulated=run, notes=tuple(notes)
    )


def _map_rows(layer: Layer, chip: Chip, formats: Precision, *, objective: str, mapping: str | None, simulate: bool) -> Mapped:
    """Map a layer on a row-stationary array, by search or as given."""
    if simulate:
        raise InputError(f"{chip.name}: a row-stationary array has no cycle-level simulation: leave out the time line")
    check_dataflow(chip.matrix_unit, "row-stationary")
    unit = compute_rate(chip, (formats.weights, formats.activations), formats.accumulate)
    machine = row_machine(chip, inputs=formats.activations, weights=formats.weights, compute=unit.format)
    if mapping is None:
        found = map_layer(layer, machine, objective=objective)
    else:
        found = cost_mapping(layer, read_mapping(mapping, layer), machine)
    return Mapped(layer=layer, chip=chip, precision=formats, machine=machine, tiling=found, notes=(f"pass {letters_of(found)}",))


def _given(mapping: str, layer: Layer, machine: ArrayMachine, notes: list[str]) -> Tiling:
    """Cost a mapping as it is given; a tile that the buffers hold once but not twice is costed with its second slot beside them."""
    nest, buffers = read_nest(mapping, layer), machine.buffers
    held = held_bytes(layer, nest.tile, buffers._replace(double=1.0))
    if buffers.double > 1.0 and held[0] <= buffers.scratchpad and held[1] <= buffers.accumulator:
        wider = buffers._replace(scratchpad=2.0 * buffers.scratchpad, accumulator=2.0 * buffers.accumulator)
        if 2.0 * held[0] > buffers.scratchpad or 2.0 * held[1] > buffers.accumulator:
            notes.append("the tile fits its buffers once, not twice: its second slot is taken to lie beside the stated capacity")
            buffers = wider
    parts = (machine.array, buffers, machine.memory)
    return cost_tiling(layer, nest.tile, ORDERS[nest.order], *parts, dataflow=machine.dataflow, energy=machine.energy)


def _precision(precision: Precision | str | None, chip: Chip) -> Precision:
    """Return the precision that was asked for, or the narrowest that the chip's matrix unit has."""
    if isinstance(precision, Precision):
        return precision
    rates = chip.matrix_unit.rate
    return Precision.parse(precision or max(rates, key=lambda name: rates[name]))
