"""Products of experts on chips of many cores: one kernel over the groups of rows that tokens chose, and the passes around it.

What a kernel sees of a routing is in `Loads`: experts with any rows, rows, and tiles of rows for each height of a tile. Means
over draws are taken of these counts, so that a kernel's cost is the cost of the mean, not the mean of the costs.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ridgeline.arrays import ceil_divide, maximum, minimum
from ridgeline.costs.power import limited_time
from ridgeline.costs.waves import operand_traffic, overlapped_time, resident_share, rounds
from ridgeline.mapping.many_core import Engine, Method, Shape, tile_in_core
from ridgeline.quantities import Bytes, Count, Fraction, Seconds
from ridgeline.specs.family import Family

HEIGHTS = (16.0, 32.0, 64.0, 128.0, 256.0)  # rows of a tile


class Loads(NamedTuple):
    """What a rank's experts have to do: one entry a case, of `tiles` one column for each of `HEIGHTS`."""

    touched: Any  # experts with at least one row
    kept: Any  # experts whose weights a measurement's loop comes back to
    rows: Any
    tiles: Any

    @classmethod
    def of(cls, draws: Sequence[Any], kept: float | None = None) -> "Loads":
        """Return the means over draws, each the rows of every expert of a rank.

        >>> Loads.of([np.array([1, 40, 0])]).tiles.tolist()  # rows of 16, 32, 64 …
        [4.0, 3.0, 2.0, 2.0, 2.0]
        """
        loads = np.stack(draws)
        touched = (loads > 0).sum(axis=1).mean()
        tiles = np.stack([np.ceil(loads / height).sum(axis=1).mean() for height in HEIGHTS])
        return cls(touched, touched if kept is None else kept, loads.sum(axis=1).mean(), tiles)

    @classmethod
    def stacked(cls, cases: Sequence["Loads"]) -> "Loads":
        """Return several cases as arrays."""
        return cls(*(np.stack(parts) for parts in zip(*cases, strict=True)))


class GroupedShape(NamedTuple):
    """The product of every expert's rows with its own k × n weights, and bytes of a value."""

    n: Count
    k: Count
    left: Bytes
    right: Bytes
    out: Bytes
    beside: Count = 0.0  # weights of an expert's other products, which the same loop goes through


class GroupedMethod(NamedTuple):
    """How a library's grouped kernel works."""

    product: Method = Method()
    share: Fraction = 1.0  # of a plain product's rate in the main loop
    depth: Count = 1.0  # even shares of the bandwidth that a core draws alone, of the cache and of main memory


def grouped_time(
    machine: Engine,
    family: Family,
    loads: Loads,
    shape: GroupedShape,
    method: "GroupedMethod",
    tiles: Sequence[tuple[int, int]],
) -> Seconds:
    """Return the time of a grouped product, its tile chosen by cost, the start of its kernel aside."""
    ways = sorted({way for one in tiles for way in (one, one[::-1]) if float(way[0]) in HEIGHTS})
    times = [_with_tile(machine, family, loads, shape, (method, float(rows), float(columns))) for rows, columns in ways]
    return np.minimum.reduce(times)


def _with_tile(
    machine: Engine, family: Family, loads: Loads, shape: GroupedShape, choice: tuple[GroupedMethod, float, float]
) -> Seconds:
    method, rows, columns = choice
    tiles = loads.tiles[..., HEIGHTS.index(rows)] * ceil_divide(shape.n, columns)
    whole = Shape(1.0, rows, columns, shape.k, shape.left, shape.right, shape.out)
    active = minimum(maximum(tiles, 1.0 + 0.0 * tiles), machine.cores)
    fed = machine._replace(feed=machine.feed * minimum(machine.cores / active, 0.0 * active + method.depth))
    one = tile_in_core(fed, family, whole, method.product, (rows, columns, 1.0)) / method.share + family.tile_cycles / machine.clock
    results = loads.rows * shape.n * shape.out
    compute = rounds(tiles=tiles, cores=machine.cores) * one + family.stores * results / machine.bandwidth
    mean = loads.rows / loads.touched
    operands = loads.touched * operand_traffic(
        m=mean,
        n=shape.n,
        k=shape.k,
        left=shape.left,
        right=shape.right,
        wave=active * rows * columns,
        capacity=machine.cache,
    )
    found = kept_share(machine, loads, shape) if method.product.weight_copies else 0.0 * operands
    drawn = active * machine.core_bandwidth * method.depth
    moved = operands * (1.0 - found) + results
    memory = moved / minimum(machine.bandwidth, drawn) + operands * found / minimum(machine.cache_bandwidth, 2.0 * drawn)
    power = limited_time(
        flops=2.0 * tiles * rows * columns * shape.k,
        flop_energy=machine.flop_energy / method.share,  # operands that are fetched again and again cost energy as well
        bytes=moved,
        byte_energy=machine.byte_energy,
        power=machine.power,
        share=1.0,
    )
    least = maximum(power, 2.0 * loads.rows * shape.n * shape.k / machine.peak)
    return maximum(overlapped_time(compute=compute, memory=memory, exposed=family.exposed), least)


def kept_share(machine: Engine, loads: Loads, shape: GroupedShape) -> Any:
    """Return the share of a product's operands that a loop over its draws finds in the last-level cache."""
    weights = loads.kept * (shape.n * shape.k + shape.beside) * shape.right
    values = loads.rows * (shape.k * shape.left + shape.n * shape.out)
    return resident_share(footprint=weights + values, capacity=machine.cache)


class Layer(NamedTuple):
    """A gated feed-forward layer of experts on one rank: two products, and what is done to tokens around them."""

    tokens: Count  # of all ranks, as each rank sees them
    hidden: Count
    inter: Count  # of this rank's share of an expert
    experts: Count  # that the router chooses from
    loads: Loads
    left: Bytes
    right: Bytes


class LayerMethod(NamedTuple):
    """What a library runs for a layer of experts."""

    kernels: Count  # of a call, in start-ups of a kernel
    pass_bytes: Bytes  # that its passes move for each value of all tokens, experts aside
    quantise_bytes: Bytes = 0.0  # more where activations arrive in 16 bits and are quantised
    product: GroupedMethod = GroupedMethod()


def layer_time(machine: Engine, family: Family, layer: Layer, method: LayerMethod, tiles: Sequence[tuple[int, int]]) -> Seconds:
    """Return the time of a layer of experts on one rank.

    time = kernels · start + two grouped products + passes over all tokens, over the rows of this rank and over the logits
    """
    loads = layer.loads
    up = GroupedShape(2.0 * layer.inter, layer.hidden, layer.left, layer.right, 2.0, layer.hidden * layer.inter)
    down = GroupedShape(layer.hidden, layer.inter, layer.left, layer.right, 2.0, 2.0 * layer.hidden * layer.inter)
    products = sum(grouped_time(machine, family, loads, one, method.product, tiles) for one in (up, down))
    all_tokens = layer.tokens * layer.hidden * (method.pass_bytes + method.quantise_bytes)
    # Rows of this rank: gathered (read, written), activated (two halves read, one written), and read to be summed.
    rows = loads.rows * (layer.hidden * (2.0 + layer.left) + layer.inter * (4.0 + layer.left) + layer.hidden * 2.0)
    logits = 4.0 * layer.tokens * layer.experts
    moved = all_tokens + rows + logits
    found = resident_share(footprint=moved, capacity=machine.cache) if method.product.product.weight_copies else 0.0 * moved
    passes = moved * ((1.0 - found) / machine.bandwidth + found / maximum(machine.cache_bandwidth, machine.bandwidth))
    return method.kernels * family.start * machine.latency + products + passes
