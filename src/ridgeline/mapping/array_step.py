"""A step on a chip with a tiled array: every product cut best, everything else at the vector unit's rate, nothing fused.

Products and vector operations follow one another; inside each, array, transfers and vector unit overlap. A causal mask leaves out
whole tiles, so that cycles and traffic shrink with the share of a product that is needed.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ridgeline.costs.elementwise import vector_time
from ridgeline.costs.energy import arithmetic_energy, transfer_energy
from ridgeline.costs.ideal import Machine, function_counts
from ridgeline.costs.memory import transfer_time
from ridgeline.costs.tiled import ORDERS, Layer, Tile, TiledCost, tiled_cost
from ridgeline.mapping import tiling
from ridgeline.mapping.array_machine import ArrayMachine, array_machine
from ridgeline.mapping.dataflow import TILED
from ridgeline.quantities import Count, Seconds
from ridgeline.results import Cost, Operation, Product, Tiling


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """One product of an operation on the array: `count` times a layer, by a tiling."""

    layer: Layer
    count: Count
    machine: ArrayMachine
    tiling: Tiling
    cost: TiledCost

    @property
    def time(self) -> Seconds:
        """Time of all repetitions."""
        return self.count * self.cost.cycles / self.machine.clock


@dataclass(frozen=True, kw_only=True, eq=False)
class Placed:
    """An operation on the chip: its cost by resource and the time that passes, once."""

    operation: Operation
    parts: tuple[Part, ...]
    cost: Cost
    time: Seconds


def product_layer(product: Product) -> Layer:
    """Return the nest of a product; sizes that are averages are rounded up to whole ones.

    >>> from ridgeline.specs.number_format import FORMATS
    >>> int8 = FORMATS["int8"]
    >>> product_layer(Product(batch=1, m=128, n=64, k=32, formats=(int8, int8)))
    Layer(n=1.0, k=64.0, c=32.0, p=128.0, q=1.0, r=1.0, s=1.0, stride=1.0)
    """
    m, n, k = (float(math.ceil(size)) for size in (product.m, product.n, product.k))
    if product.window is None:
        return tiling.product(m, n, k)
    p, q, r, s, stride = (float(size) for size in product.window)
    return Layer(n=m / (p * q), k=n, c=k / (r * s), p=p, q=q, r=r, s=s, stride=stride)


def place_step(machine: Machine, operations: Sequence[Operation]) -> list[Placed]:
    """Place operations one by one; equal products are tiled once.

    Raises `InputError` for a chip whose array is not tiled, and `InfeasibleError` where no tile of a product fits.
    """
    tiled = _tile_all(machine, operations)
    return [_placed(machine, operation, [tiled[id(product)] for product in operation.products]) for operation in operations]


def _tile_all(machine: Machine, operations: Sequence[Operation]) -> Mapping[int, Part]:
    """Return the tiled part of every product, by the product's identity: one search for each pair of formats."""
    by_formats: dict[tuple[str, str], list[Product]] = {}
    for operation in operations:
        for product in operation.products:
            by_formats.setdefault((product.formats[0].name, product.formats[1].name), []).append(product)
    found: dict[int, Part] = {}
    for products in by_formats.values():
        weights, inputs = products[0].formats
        unit = machine.rate(products[0].formats)
        on = array_machine(machine.chip, inputs=inputs, weights=weights, compute=unit.format)
        layers = [product_layer(product) for product in products]
        best = tiling.tile_batch(layers, on.array, on.buffers, on.searched, energy=on.energy, dataflows=(on.dataflow,))
        for product, layer, one in zip(products, layers, best, strict=True):
            tile = Tile(**{name: float(size) for name, size in one.tile["chip"].items()})
            order, flow = ORDERS.index(one.order["dram"]), TILED.index(one.dataflow)
            cost = tiled_cost(layer, tile, order, on.array, on.buffers, on.searched, flow)
            found[id(product)] = Part(layer=layer, count=product.batch * product.share, machine=on, tiling=one, cost=cost)
    return found


def _placed(machine: Machine, operation: Operation, parts: Sequence[Part]) -> Placed:
    main, vector, lanes = machine.levels[-1], 0.0, function_counts(operation)
    flops = sum(lanes) + operation.matrix_flops
    if machine.lane_rate is not None and operation.functions:
        vector = vector_time(lane=lanes[0], special=lanes[1], lane_rate=machine.lane_rate, special_rate=machine.special_rate)
    if not parts:
        moved = transfer_time(bytes=operation.bytes, bandwidth=main.bandwidth)
        time = {"compute": 0.0, "vector": vector, f"memory.{main.name}": moved, "overhead": 0.0}
        energy = {} if main.energy is None else {f"memory.{main.name}": transfer_energy(bytes=operation.bytes, energy=main.energy)}
        cost = Cost(time=time, energy={"compute": 0.0, **energy}, flops=flops, bytes={main.name: operation.bytes})
        return Placed(operation=operation, parts=(), cost=cost, time=max(vector, moved))
    compute = sum(part.count * part.cost.compute / part.machine.clock for part in parts)
    moved = sum(part.count * (part.cost.load + part.cost.store) / part.machine.clock for part in parts)
    passed = max(sum(part.time for part in parts), vector)
    time = {"compute": compute, "vector": vector, f"memory.{main.name}": moved, "overhead": passed - max(compute, moved, vector)}
    traffic = {main.name: sum(part.count * sum(part.tiling.traffic["dram"].values()) for part in parts)}
    cost = Cost(time=time, energy=_energy(machine, operation, parts), flops=flops, bytes=traffic)
    return Placed(operation=operation, parts=tuple(parts), cost=cost, time=passed)


def _energy(machine: Machine, operation: Operation, parts: Sequence[Part]) -> dict[str, float]:
    """Return energy by component: arithmetic, main memory, and the memories and registers of the chip together."""
    if any(part.tiling.energy is None or part.machine.energy is None for part in parts):
        return {}
    main = machine.levels[-1]
    whole = sum(part.count * (part.tiling.energy or 0.0) for part in parts)
    dram = sum(part.count * sum(part.tiling.traffic["dram"].values()) for part in parts) * (main.energy or 0.0)
    unit = machine.rate(operation.products[0].formats)
    arithmetic = arithmetic_energy(flops=operation.matrix_flops, energy=unit.energy or 0.0)
    inside = whole - dram - arithmetic
    found = {"compute": arithmetic, f"memory.{main.name}": dram}
    return {**found, "on chip": inside} if inside > 1e-9 * whole else found  # less is rounding: the file gives none
