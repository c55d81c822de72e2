"""The best mapping of a convolution or matrix product on a row-stationary array, over all parameters of a processing pass.

The parameters are those of `RowTile`: filters m and images n whose sums the buffer holds, output rows e of a set, filters p and
channels q interleaved in an element, sets r over channels and t over filters [chen2017eyerissjssc, Table II], and the order of the
DRAM loops. The search costs a list that holds an optimum for every objective:

1. Time, traffic and energy depend on e, n, r, t, q, p only through ⌈E/e⌉, ⌈N/n⌉, ⌈C/r⌉, ⌈K/t⌉, ⌈⌈C/r⌉/q⌉ and ⌈⌈K/t⌉/p⌉, and else
   rise with r and t (sums handed on, inputs delivered); room rises with each. So of all values with one trip count the smallest is
   no worse.
2. m is a multiple of p·t, and matters through ⌈K/m⌉, with which inputs are read again: the largest that fits is no worse, unless
   one pass holds all channels and the filters of one pass stay; there m = p·t is costed beside it.
3. The order matters only where one pass holds all channels, and both are costed there.

A matrix product is a convolution of 1 × 1 filters on one row of m pixels; an element slides one weight along it, and what
makes the dataflow good — a filter row that meets every image row — is gone. A fully connected layer has one pixel an image: every
weight crosses DRAM for the few images of a batch.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ridgeline.arrays import ceil_divide, minimum
from ridgeline.costs.components import element_energy, memory_energy
from ridgeline.costs.ideal import Machine
from ridgeline.costs.row_stationary import (
    FILTERS_OUTSIDE,
    PLACES,
    STRIPS_OUTSIDE,
    RowAccess,
    RowArray,
    RowCost,
    RowEnergy,
    RowStores,
    RowTile,
    Zeros,
    row_cost,
    row_energy,
    row_room,
    row_used,
    set_places,
)
from ridgeline.costs.tiled import Layer
from ridgeline.errors import InfeasibleError, InputError
from ridgeline.quantities import Bytes, Count, Flops, Hertz, Joules, Seconds
from ridgeline.results import Cost, Operation, Product, Tiling
from ridgeline.specs.chip import Chip, MemoryLevel
from ridgeline.specs.number_format import FORMATS, NumberFormat

OBJECTIVES = ("latency", "energy", "edp", "traffic")
ORDERS = ("knqc", "nqkc")  # DRAM loops of FILTERS_OUTSIDE and STRIPS_OUTSIDE, outer to inner
LETTERS = "mnepqrt"  # of the papers, in the order of RowTile
_EQUAL = 1e-12


class RowMachine(NamedTuple):
    """What a mapping needs to know of a chip with a row-stationary array."""

    array: RowArray
    stores: RowStores
    energy: RowAccess | None
    clock: Hertz
    gates_zeros: bool = False
    run_length: bool = False
    dataflow: str = "row-stationary"
    arrays: float = 1.0

    def zeros(self, inputs: float = 0.0, outputs: float = 0.0) -> Zeros:
        """Return the shares of zeros that the chip makes use of, of those that there are."""
        coded = float(self.run_length)
        return Zeros(float(self.gates_zeros) * inputs, coded * inputs, coded * outputs)


@dataclass(frozen=True, kw_only=True, eq=False)
class RowPart:
    """One product of an operation on the array: `count` times a layer, by a mapping."""

    layer: Layer
    count: Count
    machine: RowMachine
    tiling: Tiling
    cost: RowCost
    energy: RowEnergy | None

    @property
    def time(self) -> Seconds:
        """Time of all repetitions."""
        return self.count * self.cost.cycles / self.machine.clock


# ---- the machine ------------------------------------------------------------------------------------------------------------


def row_machine(chip: Chip, *, inputs: NumberFormat, weights: NumberFormat, compute: str) -> RowMachine:
    """Return the machine that a chip with a row-stationary array is for products of two formats.

    Needed are a clock, rows and columns, the network's rate for weights, inputs and sums, three memories of role `registers` that
    hold one of them each, and a buffer; sums are as wide as inputs. Raises `InputError` for what is missing.
    """
    unit = chip.matrix_unit
    if chip.cores is None or chip.cores.clock is None:
        raise InputError(f"{chip.name} has no `cores.clock`, which cycles need")
    if len(unit.shape) != 2 or min(unit.shape) < 1:
        raise InputError(
            f"{chip.name}: an array of {' × '.join(map(str, unit.shape)) or 'no'} elements computes nothing: rows and columns"
        )
    if chip.cores.count * (1 if unit.count is None else unit.count) != 1:
        raise InputError(f"{chip.name} has several arrays: a product is mapped on one, over several it is not yet")
    clock, elements = chip.cores.clock, unit.shape[0] * unit.shape[1]
    rates = {name: _network(chip, name) / clock for name in ("weights", "inputs", "sums")}
    registers = {name: float(_register_level(chip, name).capacity or 0.0) / elements for name in rates}
    return RowMachine(
        array=RowArray(float(unit.shape[0]), float(unit.shape[1]), rates["weights"], rates["inputs"], rates["sums"]),
        stores=RowStores(
            weight_registers=registers["weights"],
            input_registers=registers["inputs"],
            sum_registers=registers["sums"],
            buffer=_buffer(chip, weights=False),
            weight_buffer=_buffer(chip, weights=True),
            dram_rate=chip.main_memory.bandwidth / clock,
            input_bytes=inputs.bytes_per_value,
            weight_bytes=weights.bytes_per_value,
            sum_bytes=inputs.bytes_per_value,
            copies=2.0 if chip.transfer.asynchronous else 1.0,
        ),
        energy=access_energies(chip, FORMATS[compute]),
        clock=clock,
        gates_zeros=unit.gates_zeros,
        run_length=chip.transfer.run_length,
    )


def _network(chip: Chip, tensor: str) -> float:
    rate = chip.matrix_unit.network.get(tensor)
    if rate is None:
        raise InputError(f"{chip.name} has no `matrix_unit.network.{tensor}`: the bytes a second that its network brings or takes")
    return rate


def _register_level(chip: Chip, tensor: str) -> MemoryLevel:
    for level in chip.memory:
        if level.role == "registers" and level.holds == (tensor,) and level.capacity is not None:
            return chip.whole(level)
    raise InputError(f"{chip.name} has no [[memory]] of role `registers` that `holds` {tensor}, with a capacity")


def buffers(chip: Chip) -> tuple[MemoryLevel, ...]:
    """Return the levels between registers and main memory."""
    return tuple(chip.whole(level) for level in chip.memory if level.role in ("buffer", "scratchpad"))


def _buffer(chip: Chip, *, weights: bool) -> float:
    """Return the bytes of the buffers for weights alone, or for all else; weights without a buffer of their own pass through."""
    found = [level.capacity for level in buffers(chip) if (level.holds == ("weights",)) == weights and level.capacity is not None]
    if not found and not weights:
        raise InputError(f"{chip.name} has no [[memory]] of role `buffer` with a capacity for image rows and sums")
    return float(sum(found)) if found else float("inf")


def access_energies(chip: Chip, form: NumberFormat) -> RowAccess | None:
    """Return the energies of a chip's places: its file's, else those of its node; None where its node or its DRAM is unknown.

    The register files of an element are memories of their own size.
    """
    main, element = chip.main_memory.energy, element_energy(chip, form)
    if main is None or element is None:
        return None
    found = {one.holds == ("weights",): memory_energy(chip, one, form) or 0.0 for one in buffers(chip)}
    files = {name: memory_energy(chip, _register_level(chip, name), form) or 0.0 for name in ("inputs", "weights", "sums")}
    return RowAccess(
        dram=main,
        buffer=found.get(False, 0.0),
        weight_buffer=found.get(True, 0.0),
        network=element.network,
        input_registers=files["inputs"],
        weight_registers=files["weights"],
        sum_registers=files["sums"],
        mac=element.arithmetic,
    )


# ---- one mapping ------------------------------------------------------------------------------------------------------------


def read_mapping(text: str, layer: Layer) -> RowTile:
    """Read a mapping in the papers' letters, each once: `m=96,n=1,e=7,p=16,q=1,r=1,t=2`.

    Raises `InputError` for a letter that is missing or unknown, a size beyond the layer, and filters that are no whole passes.

    >>> conv1 = Layer(4.0, 96.0, 3.0, 55.0, 55.0, 11.0, 11.0, 4.0)
    >>> read_mapping("m=96,n=1,e=7,p=16,q=1,r=1,t=2", conv1).rows
    7.0
    """
    sizes: dict[str, float] = {}
    for part in text.split(","):
        match = re.fullmatch(r"\s*([a-z])\s*=\s*([1-9]\d*)\s*", part)
        if match is None or match[1] not in LETTERS or match[1] in sizes:
            raise InputError(f"mapping {text!r}: {part.strip()!r}; write each of {', '.join(LETTERS)} once, such as m=96,n=1,e=7,…")
        sizes[match[1]] = float(match[2])
    if missing := [letter for letter in LETTERS if letter not in sizes]:
        raise InputError(f"mapping {text!r}: {', '.join(missing)} missing; write each of {', '.join(LETTERS)} once")
    for letter, loop, bound in (("m", "filters", layer.k), ("n", "images", layer.n), ("e", "output rows", layer.q)):
        if sizes[letter] > bound:
            raise InputError(f"mapping {text!r}: {letter}={sizes[letter]:g}, but the layer has {bound:g} {loop}")
    at_once = sizes["p"] * sizes["t"]
    if sizes["m"] < layer.k and sizes["m"] % at_once:
        raise InputError(f"mapping {text!r}: m={sizes['m']:g} is no multiple of the p·t = {at_once:g} filters of a pass")
    return RowTile(*(sizes[letter] for letter in LETTERS))


def cost_mapping(
    layer: Layer, tile: RowTile, machine: RowMachine, *, zeros: Zeros | None = None, order: int = FILTERS_OUTSIDE
) -> Tiling:
    """Cost a given mapping; `InfeasibleError` where it does not fit, naming the place and the bytes.

    >>> array, stores = RowArray(12.0, 14.0, 8.0, 2.0, 8.0), RowStores(448.0, 24.0, 48.0, 102400.0, 8192.0, 2.4)
    >>> conv1 = Layer(4.0, 96.0, 3.0, 55.0, 55.0, 11.0, 11.0, 4.0)
    >>> cost_mapping(conv1, RowTile(96.0, 1.0, 7.0, 16.0, 1.0, 1.0, 2.0), RowMachine(array, stores, None, 200e6)).held["buffer"]
    89810.0
    """
    _refuse(layer, tile, machine, "this mapping")
    cost = row_cost(layer, tile, order, machine.array, machine.stores, zeros)
    return _tiling(layer, tile, order, cost, machine)


def _refuse(layer: Layer, tile: RowTile, machine: RowMachine, what: str) -> None:
    """Raise where a mapping does not fit, naming the place that lacks most."""
    used, room = row_used(layer, tile, machine.array, machine.stores), row_room(layer, tile, machine.array, machine.stores)
    lacking = [
        (taken / max(there, 1e-9), place) for place, (taken, there) in enumerate(zip(used, room, strict=True)) if taken > there
    ]
    if not lacking:
        return
    place = min(place for _, place in lacking) if lacking[0][1] < 3 else max(lacking)[1]
    taken, there = used[place], room[place]
    if place < 3:
        sets = "sets that add up" if PLACES[place] == "sets" else f"{PLACES[place]} of elements"
        raise InfeasibleError(f"{what} does not fit the array: it takes {taken:g} {sets}, and there are {there:g}")
    of = "an element's " if "registers" in PLACES[place] else "the "
    raise InfeasibleError(f"{what} does not fit: it takes {taken:.0f} B of {of}{PLACES[place]}, which hold {there:.0f} B")


# ---- the best mapping -------------------------------------------------------------------------------------------------------


def map_layer(layer: Layer, machine: RowMachine, *, objective: str = "latency", zeros: Zeros | None = None) -> Tiling:
    """Return the best mapping of a layer; see the module for why none is better.

    Objectives: `latency` (ties: least energy, or DRAM traffic where energies are unknown), `energy` (ties: fewest cycles), `edp`
    (ties: energy), `traffic` (bytes from and to DRAM; ties: cycles). Raises `InfeasibleError` where nothing fits.

    >>> array, stores = RowArray(12.0, 14.0, 8.0, 2.0, 8.0), RowStores(448.0, 24.0, 48.0, 102400.0, 8192.0, 2.4)
    >>> found = map_layer(Layer(4.0, 96.0, 3.0, 55.0, 55.0, 11.0, 11.0, 4.0), RowMachine(array, stores, None, 200e6))
    >>> found.optimal, found.tile["array"]["q"]
    (True, 7.0)
    """
    if objective not in OBJECTIVES:
        raise InputError(f"unknown objective {objective!r}: choose {', '.join(OBJECTIVES)}")
    if machine.energy is None and objective in ("energy", "edp"):
        raise InputError(f"objective {objective!r} needs the energies of the accesses: give `energy` of memories and of the array")
    layer = Layer(*map(float, layer))
    smallest = RowTile(*(1.0,) * len(LETTERS))
    _refuse(layer, smallest, machine, "even the smallest pass")
    best: tuple[float, float, Any, int] | None = None
    examined = 0
    for tiles, order in _variants(layer, machine):
        cost = row_cost(layer, tiles, order, machine.array, machine.stores, zeros)
        first, second = _values(cost, machine, objective)
        first = np.where(cost.fits > 0.0, first, np.inf)
        examined += int(np.sum(cost.fits > 0.0))
        least = float(np.min(first))
        second = np.where(first <= least * (1.0 + _EQUAL), second, np.inf)
        place = int(np.argmin(second))
        found = (least, float(second[place]), RowTile(*(float(one[place]) for one in tiles)), order)
        if best is None or found[0] < best[0] * (1.0 - _EQUAL) or (found[0] <= best[0] * (1.0 + _EQUAL) and found[1] < best[1]):
            best = found
    if best is None or best[0] == float("inf"):
        raise InfeasibleError(f"no mapping fits {layer}")
    tile, order = best[2], best[3]
    cost = row_cost(layer, tile, order, machine.array, machine.stores, zeros)
    value = float(_values(cost, machine, objective)[0])
    proof = {"objective": objective, "value": value, "lower_bound": value, "optimal": True, "examined": float(examined)}
    return _tiling(layer, tile, order, cost, machine, **proof)


def _values(cost: RowCost, machine: RowMachine, objective: str) -> tuple[Any, Any]:
    """Return what is to be least, and what decides where that is equal."""
    traffic = cost.dram_inputs + cost.dram_weights + cost.dram_outputs
    energy = traffic if machine.energy is None else row_energy(cost, machine.energy).whole
    return {
        "latency": (cost.cycles, energy),
        "energy": (energy, cost.cycles),
        "edp": (energy * cost.cycles, energy),
        "traffic": (traffic, cost.cycles),
    }[objective]


def _variants(layer: Layer, machine: RowMachine) -> Iterator[tuple[RowTile, int]]:
    """Yield tiles to cost: with the most filters in the buffer; one pass of filters, and the other order, where they may matter."""
    tiles = _with_filters(layer, _candidates(layer, machine), machine)
    yield tiles, FILTERS_OUTSIDE
    alone = tiles.element_channels * tiles.channel_sets >= layer.c
    if np.any(alone):
        kept = RowTile(*(one[alone] for one in tiles))
        yield kept, STRIPS_OUTSIDE
        yield kept._replace(filters=minimum(kept.element_filters * kept.filter_sets, layer.k)), FILTERS_OUTSIDE


def _least(bound: float, most: float) -> list[float]:
    """Return the smallest sizes up to `most` for each trip count of a bound.

    >>> _least(10.0, 7.0)
    [1.0, 2.0, 3.0, 4.0, 5.0]
    """
    sizes = np.arange(1.0, min(bound, most) + 1.0)
    trips = np.ceil(bound / sizes)
    return sizes[np.concatenate([[True], trips[1:] < trips[:-1]])].tolist()


def _candidates(layer: Layer, machine: RowMachine) -> RowTile:
    """Return all sizes but the filters in the buffer, one of each trip count, as arrays; not all of them fit."""
    array, stores = machine.array, machine.stores
    images = np.array(_least(layer.n, layer.n))
    blocks: list[Any] = []
    for rows in _least(layer.q, array.columns * (array.rows // layer.s)):
        above, beside = set_places(RowTile(1.0, 1.0, rows, 1.0, 1.0, 1.0, 1.0), layer, array)
        for channel_sets in _least(layer.c, above):
            element_channels = _least(ceil_divide(layer.c, channel_sets), stores.input_registers // (layer.r * stores.input_bytes))
            for filter_sets in _least(layer.k, (above // channel_sets) * beside):
                most = stores.sum_registers // stores.sum_bytes
                element_filters = _least(ceil_divide(layer.k, filter_sets), most)
                n, p, q = np.meshgrid(images, element_filters, element_channels, indexing="ij")
                same = np.ones(n.size)
                columns = (same, n.ravel(), same * rows, p.ravel(), q.ravel(), same * channel_sets, same * filter_sets)
                blocks.append(np.stack(columns))
    return RowTile(*np.concatenate(blocks, axis=1))


def _with_filters(layer: Layer, tiles: RowTile, machine: RowMachine) -> RowTile:
    """Return the tiles with the most filters that the buffer holds beside the image rows, at least one pass of them."""
    at_once = tiles.element_filters * tiles.filter_sets
    passes = ceil_divide(layer.k, at_once)
    one = row_used(layer, tiles._replace(filters=0.0 * at_once), machine.array, machine.stores)[6]
    each = row_used(layer, tiles._replace(filters=at_once), machine.array, machine.stores)[6] - one
    whole = row_used(layer, tiles._replace(filters=layer.k + 0.0 * at_once), machine.array, machine.stores)[6]
    most = np.where(whole <= machine.stores.buffer, passes, np.clip((machine.stores.buffer - one) // each, 1.0, passes))
    fewest = ceil_divide(passes, ceil_divide(passes, most))  # as few as give the same number of groups
    return tiles._replace(filters=np.minimum(fewest * at_once, layer.k))


def chosen(tiling: Tiling) -> tuple[RowTile, int]:
    """Return the parameters and the order that a tiling says."""
    chip, registers, array = tiling.tile["chip"], tiling.tile["registers"], tiling.tile["array"]
    tile = RowTile(chip["k"], chip["n"], chip["q"], registers["k"], registers["c"], array["c"], array["k"])
    return tile, ORDERS.index(tiling.order["dram"])


def letters_of(tiling: Tiling) -> str:
    """Return the parameters of a tiling in the papers' letters, as `read_mapping` takes them."""
    return ",".join(f"{letter}={size:g}" for letter, size in zip(LETTERS, chosen(tiling)[0], strict=True))


def _tiling(layer: Layer, tile: RowTile, order: int, cost: RowCost, machine: RowMachine, **proof: Any) -> Tiling:
    macs = layer.n * layer.k * layer.p * layer.q * layer.c * layer.r * layer.s
    channels = tile.element_channels * tile.channel_sets
    held: dict[str, Bytes] = dict(zip(PLACES[3:], cost.used[3:], strict=True))
    return Tiling(
        tile={
            "chip": {"n": tile.images, "k": tile.filters, "c": channels, "p": layer.p, "q": tile.rows, "r": layer.r, "s": layer.s},
            "array": {"q": tile.rows, "s": layer.s, "c": tile.channel_sets, "k": tile.filter_sets},
            "registers": {"k": tile.element_filters, "c": tile.element_channels, "r": layer.r},
        },
        order={"dram": ORDERS[order], "buffer": "k"},
        dataflow=machine.dataflow,
        cycles=cost.cycles,
        energy=None if machine.energy is None else row_energy(cost, machine.energy).whole,
        traffic=_traffic(cost),
        held=held,
        utilisation=macs / (machine.array.rows * machine.array.columns * cost.cycles),
        **proof,
    )


def _traffic(cost: RowCost) -> dict[str, dict[str, Bytes]]:
    return {
        "dram": {"inputs": cost.dram_inputs, "weights": cost.dram_weights, "outputs": cost.dram_outputs},
        "buffer": {
            "inputs": cost.buffer_inputs,
            "weights": cost.buffer_weights,
            "sums": cost.buffer_sums,
            "arriving": cost.filled_inputs + cost.dram_weights,
        },
        "network": {"inputs": cost.network_inputs, "weights": cost.network_weights, "sums": cost.network_sums},
        "registers": {"inputs": cost.register_inputs, "weights": cost.register_weights, "sums": cost.register_sums},
    }


# ---- a step -----------------------------------------------------------------------------------------------------------------


def row_parts(machine: Machine, operations: Sequence[Operation], layers: Mapping[int, Layer]) -> dict[int, RowPart]:
    """Return the mapped part of every product, by the product's identity; equal ones are searched once."""
    machines: dict[tuple[str, str], RowMachine] = {}
    best: dict[tuple[Any, ...], tuple[Tiling, RowCost]] = {}
    found: dict[int, RowPart] = {}
    for product in (product for operation in operations for product in operation.products):
        names = (product.formats[0].name, product.formats[1].name)
        if names not in machines:
            unit = machine.rate(product.formats)
            machines[names] = row_machine(machine.chip, inputs=product.formats[1], weights=product.formats[0], compute=unit.format)
        found[id(product)] = _part(product, layers[id(product)], machines[names], best, names)
    return found


def _part(product: Product, layer: Layer, on: RowMachine, best: dict[Any, tuple[Tiling, RowCost]], names: Any) -> RowPart:
    zeros = on.zeros(float(product.zeros), float(product.output_zeros))
    key = (layer, zeros, names)
    if key not in best:
        tiling = map_layer(layer, on, zeros=zeros)
        best[key] = (tiling, row_cost(layer, *chosen(tiling), on.array, on.stores, zeros))
    tiling, cost = best[key]
    energy = None if on.energy is None else row_energy(cost, on.energy)
    return RowPart(layer=layer, count=product.batch * product.share, machine=on, tiling=tiling, cost=cost, energy=energy)


def activates_on_the_way(chip: Chip, operation: Operation) -> bool:
    """Say whether an operation is no more than a ReLU, which results pass on their way from the buffer to DRAM."""
    return not operation.products and set(operation.functions) == {"relu"} and chip.functions.get("relu") == "native"


def _resources(chip: Chip) -> tuple[str, str]:
    return f"memory.{buffers(chip)[-1].name}", f"memory.{chip.main_memory.name}"


def _components(chip: Chip, energy: RowEnergy) -> dict[str, Joules]:
    inner, main = _resources(chip)
    names = {"arithmetic": "arithmetic", "registers": "registers", "network": "network", "buffer": inner, "dram": main}
    return {to: getattr(energy, name) for name, to in names.items()}


def row_energy_by_component(chip: Chip, layer: Layer, tiling: Tiling, machine: RowMachine) -> Mapping[str, Joules] | None:
    """Return the energy of a mapping by component; None where the chip's energies are unknown."""
    if machine.energy is None:
        return None
    cost = row_cost(layer, *chosen(tiling), machine.array, machine.stores)
    return _components(chip, row_energy(cost, machine.energy))


def row_total(chip: Chip, parts: Sequence[RowPart], flops: Flops) -> tuple[Cost, Seconds]:
    """Return what the parts of an operation take, by resource, and the time that passes."""
    inner, main = _resources(chip)
    passed = sum(part.time for part in parts)
    compute, network, dram = (
        sum(part.count * getattr(part.cost, name) / part.machine.clock for part in parts) for name in ("compute", "network", "dram")
    )
    time = {"compute": compute, "vector": 0.0, inner: network, main: dram, "overhead": passed - max(compute, network, dram)}
    energies = [(part.count, part.energy) for part in parts if part.energy is not None]
    energy: dict[str, float] = {}
    for count, one in energies if len(energies) == len(parts) else []:
        for name, value in _components(chip, one).items():
            energy[name] = energy.get(name, 0.0) + count * value
    moved = {
        level: sum(part.count * sum(part.tiling.traffic[name].values()) for part in parts)
        for name, level in (("buffer", inner.removeprefix("memory.")), ("dram", main.removeprefix("memory.")))
    }
    return Cost(time=time, energy=energy, flops=flops, bytes=moved), passed
