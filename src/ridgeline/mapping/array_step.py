"""A step on a chip with a tiled array: every product cut best, functions where the chip runs them, fused where that pays.

Kernels follow one another; inside each, array, transfers and vector unit overlap. A causal mask leaves out whole tiles, so that
cycles and traffic shrink with the share of a product that is needed. What runs as one kernel is chosen by cost (`epilogue`).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ridgeline.arrays import ceil_divide
from ridgeline.costs.energy import arithmetic_energy, transfer_energy
from ridgeline.costs.ideal import Machine, function_counts
from ridgeline.costs.memory import achieved_bandwidth, transfer_time
from ridgeline.costs.tiled import ORDERS, Layer, Tile, TiledCost, tiled_cost
from ridgeline.errors import InfeasibleError
from ridgeline.mapping import tiling
from ridgeline.mapping.array_machine import ArrayMachine, array_machine, energy_by_component
from ridgeline.mapping.arrays import Share, tile_shares
from ridgeline.mapping.attention_step import place_attention
from ridgeline.mapping.dataflow import TILED
from ridgeline.mapping.epilogue import Fusion, Kernel, Plan, fusion_plans
from ridgeline.mapping.functions import function_times, place_of
from ridgeline.mapping.row_stationary import RowPart, activates_on_the_way, row_parts, row_total
from ridgeline.mapping.whole_rows import tile_whole_rows
from ridgeline.quantities import BytesPerSecond, Count, Seconds
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

    @property
    def output_tiles(self) -> Count:
        """Tiles of outputs, of all repetitions."""
        tile = self.tiling.tile["chip"]
        cuts = [ceil_divide(getattr(self.layer, loop), tile[loop]) for loop in "kpq"]
        return self.count * self.layer.n * cuts[0] * cuts[1] * cuts[2]

    @property
    def output_blocks(self) -> Count:
        """Blocks of outputs as large as the array, of all repetitions, at least one."""
        array, layer = self.machine.array, self.layer
        return max(self.count * layer.n * layer.k * layer.p * layer.q / (array.rows * array.columns), 1.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Placed:
    """An operation on the chip: its cost by resource and the time that passes, once."""

    operation: Operation
    parts: tuple[Part, ...]
    cost: Cost
    time: Seconds


def product_layer(product: Product) -> Layer:
    """Return the nest of a product; sizes that are averages are rounded up to whole ones.

    Products that share their stationary operand lie below one another: it is read once for all of them.

    >>> from ridgeline.specs.number_format import FORMATS
    >>> int8 = FORMATS["int8"]
    >>> product_layer(Product(batch=1, m=128, n=64, k=32, formats=(int8, int8)))
    Layer(n=1.0, k=64.0, c=32.0, p=128.0, q=1.0, r=1.0, s=1.0, stride=1.0)
    """
    m, n, k = (float(math.ceil(size)) for size in (product.m * product.shared, product.n, product.k))
    if product.window is None:
        return tiling.product(m, n, k)
    p, q, r, s, stride = (float(size) for size in product.window)
    return Layer(n=m / (p * q), k=n, c=k / (r * s), p=p, q=q, r=r, s=s, stride=stride)


def place_step(machine: Machine, operations: Sequence[Operation], fusion: Fusion = "best") -> list[Placed]:
    """Place a step's operations kernel by kernel; equal products are tiled once.

    `fusion`: `best` takes the plan of least time for every run of operations that may be one kernel, `none` fuses nothing, `all`
    whatever can be. Raises `InputError` for a chip whose array is not tiled or a function that no unit runs, and `InfeasibleError`
    where no tile of a product fits.
    """
    if machine.chip.matrix_unit.kind == "row-stationary":
        layers = {id(product): product_layer(product) for operation in operations for product in operation.products}
        rows = row_parts(machine, operations, layers)
        return [_placed_rows(machine, operation, [rows[id(product)] for product in operation.products]) for operation in operations]
    runs = fusion_plans(machine.chip, operations, fusion)
    placed = _place_kernels(machine, list(dict.fromkeys(kernel for plans in runs for plan in plans for kernel in plan)))
    return [one for plans in runs for one in _best_plan(plans, placed, fewest=fusion == "all")]


def _best_plan(plans: Sequence[Plan], placed: Mapping[Kernel, "Placed | InfeasibleError"], *, fewest: bool) -> list[Placed]:
    """Return the kernels of the plan that takes least time, or has fewest kernels; one that does not fit is passed over."""
    found: list[list[Placed]] = []
    failure = InfeasibleError("nothing fits")
    for plan in plans:
        kernels = [placed[kernel] for kernel in plan]
        failures = [one for one in kernels if isinstance(one, InfeasibleError)]
        failure = failures[0] if failures and not found else failure
        if not failures:
            found.append([one for one in kernels if isinstance(one, Placed)])
    if not found:
        raise failure
    return min(found, key=lambda kernels: (len(kernels) if fewest else 0, sum(one.time for one in kernels)))


def _place_kernels(machine: Machine, kernels: Sequence[Kernel]) -> dict[Kernel, "Placed | InfeasibleError"]:
    """Place every kernel that a plan names, products of one form in one search."""
    tiled = _tile_all(machine, [kernel for kernel in kernels if not kernel.engine])
    found: dict[Kernel, Placed | InfeasibleError] = {}
    for kernel in kernels:
        try:
            if kernel.engine:
                cost, time = place_attention(machine, kernel.operation, kernel.engine)
                found[kernel] = Placed(operation=kernel.operation, parts=(), cost=cost, time=time)
            else:
                found[kernel] = _placed(machine, kernel, [tiled[kernel, index] for index in range(len(kernel.operation.products))])
        except InfeasibleError as error:
            found[kernel] = error
    return found


def _placed_rows(machine: Machine, operation: Operation, parts: Sequence[RowPart]) -> Placed:
    if not parts and not activates_on_the_way(machine.chip, operation):
        return _placed(machine, Kernel(operation), [])
    cost, time = row_total(machine.chip, parts, sum(function_counts(operation)) + operation.matrix_flops)
    return Placed(operation=operation, parts=(), cost=cost, time=time)


def _tile_all(machine: Machine, kernels: Sequence[Kernel]) -> dict[tuple[Kernel, int], "Part | InfeasibleError"]:
    """Return the tiled part of every product of every kernel: one search for products of the same formats and outputs."""
    alike: dict[tuple[str, str, float, bool], list[tuple[Kernel, int]]] = {}
    for kernel in kernels:
        for index, product in enumerate(kernel.operation.products):
            names = (product.formats[0].name, product.formats[1].name)
            alike.setdefault((*names, kernel.output_bytes, kernel.rows), []).append((kernel, index))
    found: dict[tuple[Kernel, int], Part | InfeasibleError] = {}
    for (_, _, output_bytes, rows), places in alike.items():
        products = [kernel.operation.products[index] for kernel, index in places]
        weights, inputs = products[0].formats
        on = array_machine(machine.chip, inputs=inputs, weights=weights, compute=machine.rate(products[0].formats).format)
        on = on._replace(buffers=on.buffers._replace(output_bytes=output_bytes))
        tails = [function_times(machine, kernel.operation).vector for kernel, _ in places] if rows else None
        for place, product, share in zip(places, products, _shares(products, on, tails), strict=True):
            found[place] = share if isinstance(share, InfeasibleError) else _part(product, share, on)
    return found


def _shares(products: Sequence[Product], on: ArrayMachine, tails: Sequence[Seconds] | None) -> Sequence[Share | InfeasibleError]:
    """Return the best tiling of each product; with `tails`, the times of row-wise functions behind them, of whole rows."""
    layers = [product_layer(product) for product in products]
    batches = [product.batch / product.shared for product in products]
    if tails is not None:
        found = zip(layers, batches, tails, strict=True)
        return [tile_whole_rows(layer, batch, on, tail_cycles=tail * on.clock / batch) for layer, batch, tail in found]
    try:
        return tile_shares(layers, batches, on)
    except InfeasibleError as error:
        return [error] * len(layers)


def _part(product: Product, share: Share, on: ArrayMachine) -> Part:
    layer, rounds, one = share
    tile = Tile(**{name: float(size) for name, size in one.tile["chip"].items()})
    order, flow = ORDERS.index(one.order["dram"]), TILED.index(one.dataflow)
    cost = tiled_cost(layer, tile, order, on.array, on.buffers, on.searched, flow)
    return Part(layer=layer, count=rounds * product.share, machine=on, tiling=one, cost=cost)


def _placed(machine: Machine, kernel: Kernel, parts: Sequence["Part | InfeasibleError"]) -> Placed:
    """Return a kernel's cost; raise what kept one of its products from fitting."""
    operation = kernel.operation
    tiled = [_fitting(part) for part in parts]
    if not tiled:
        return _function_alone(machine, operation)
    main, functions = machine.levels[-1], function_times(machine, operation)
    extra = transfer_time(bytes=kernel.extra_bytes, bandwidth=main_rate(machine))
    compute = sum(part.count * part.cost.compute / part.machine.clock for part in tiled)
    moved = extra + sum(part.count * (part.cost.load + part.cost.store) / part.machine.clock for part in tiled)
    passed = max(sum(part.time for part in tiled), moved, functions.vector)
    if kernel.fused:  # what the last sums wait for alone: a block of the array, or for whole rows a tile
        passed = passed + functions.vector / sum(part.output_tiles if kernel.rows else part.output_blocks for part in tiled)
    time = {"compute": compute, "vector": functions.vector, f"memory.{main.name}": moved}
    time["overhead"] = passed - max(time.values())
    traffic = kernel.extra_bytes + sum(part.count * sum(part.tiling.traffic["dram"].values()) for part in tiled)
    energy = _energy(machine, operation, tiled)
    if energy and main.energy is not None:
        name = f"memory.{main.name}"
        energy[name] = energy.get(name, 0.0) + transfer_energy(bytes=kernel.extra_bytes, energy=main.energy)
    flops = sum(function_counts(operation)) + operation.matrix_flops
    cost = Cost(time=time, energy=energy, flops=flops, bytes={main.name: traffic})
    return Placed(operation=operation, parts=tuple(tiled), cost=cost, time=passed)


def _fitting(part: "Part | InfeasibleError") -> Part:
    if isinstance(part, InfeasibleError):
        raise part
    return part


def main_rate(machine: Machine) -> BytesPerSecond:
    """Return the bytes a second that the transfer engine reaches at main memory: its bandwidth, or what is under way a latency."""
    main, transfer = machine.levels[-1], machine.chip.transfer
    if main.latency is None or transfer.in_flight is None or transfer.burst is None:
        return main.bandwidth
    return achieved_bandwidth(bandwidth=main.bandwidth, in_flight=transfer.in_flight * transfer.burst, latency=main.latency)


def _function_alone(machine: Machine, operation: Operation) -> Placed:
    """Return the cost of functions without a product: on the vector unit beside their transfers, or on the host after them."""
    main, functions = machine.levels[-1], function_times(machine, operation)
    moved = transfer_time(bytes=operation.bytes, bandwidth=main_rate(machine))
    time = {"compute": 0.0, "vector": functions.vector, f"memory.{main.name}": moved, "overhead": 0.0}
    passed = max(functions.vector, moved)
    if functions.host > 0.0:
        time[f"memory.{main.name}"], time["host"], passed = 0.0, functions.host, functions.host
    energy = {} if main.energy is None else {f"memory.{main.name}": transfer_energy(bytes=operation.bytes, energy=main.energy)}
    cost = Cost(
        time=time,
        energy={**energy, **_vector_energy(machine, operation)},
        flops=sum(function_counts(operation)),
        bytes={main.name: operation.bytes},
    )
    return Placed(operation=operation, parts=(), cost=cost, time=passed)


def _energy(machine: Machine, operation: Operation, parts: Sequence[Part]) -> dict[str, float]:
    """Return energy by component: arithmetic, hops and registers of the array, each memory, and the vector unit."""
    found: dict[str, float] = {}
    for product, part in zip(operation.products, parts, strict=True):
        by_component = energy_by_component(machine.chip, machine.rate(product.formats).format, part.tiling)
        if not by_component:
            return {}
        for name, value in by_component.items():
            found[name] = found.get(name, 0.0) + part.count * value
    return found | _vector_energy(machine, operation)


def _vector_energy(machine: Machine, operation: Operation) -> dict[str, float]:
    """Return the energy of the functions that the chip's own lanes run; of those sent to the host none is counted."""
    if machine.lane_energy is None:
        return {}
    own = {name: elements for name, elements in operation.functions.items() if place_of(machine.chip, name) != "host"}
    lanes = sum(function_counts(replace(operation, functions=own)))
    return {"vector": arithmetic_energy(flops=lanes, energy=machine.lane_energy)}
