"""The best tiling of a matrix product or convolution, over all tile sizes, loop orders and dataflows, with its proof.

A tile is what the chip holds at once. Along the loops that lie on the array its sizes are multiples of the array's side, and the
side halved any number of times; along the others any number; always the whole loop as well. Loops between DRAM and the chip run
over tiles in some order. The search returns what plain enumeration would, by setting aside what provably is no better:

1. *Orders.* Let T be trip counts, and call a loop moving if T > 1. A tensor is fetched once for every trip of the loops outside
   its innermost moving loop. Look at the innermost moving loop of any order: (a) k: inputs are fetched once, weights T_p·T_q
   times, sums visited T_c·T_r·T_s times; (b) p or q: inputs T_k times, sums T_c·T_r·T_s times, weights at least once; (c) c, r or
   s: inputs T_k times, weights T_p·T_q times, sums at least once. The orders pqcrs|k, kcrs|pq and kpq|crs attain these. Nor is
   any order of the same kind faster: k moves weights and sums, p and q inputs and sums, c, r, s both operands, so a loop of another
   kind moves all three tensors. There are thus two sorts of step, however the outer loops are ordered, and the fewest in
   which all move where all loops of the innermost kind are inside. Cycles grow with these and with traffic (a single loop's last
   tile, counted by itself, only adds), energy with traffic: the three orders hold an optimum of all 720.
2. *Sizes of one trip count.* Edge tiles are what is left, so traffic depends on trip counts alone: over the tiles of a loop the
   sizes add up to the loop, and windows to stride·(P − T)·T_r + R·T. Of all sizes with one trip count the smallest takes the least
   room, and cycles take the tiles of a loop as even as their number allows. So ⌈D/⌈D/T⌉⌉ leaves about 2·√D sizes of D. On the
   array, multiples of the side fold into ⌈D/side⌉ blocks however a loop is cut. Only the loop that streams, in
   instructions of a fixed length, and rows that take whole words of the bus may be faster in a larger tile of the same trip count:
   there a size is dropped only for one that is both smaller and no slower.
3. *The loop p.* For a choice of all others, x trips of p move base + slope·x bytes in steps of the two sorts, and a bound of cycles
   in closed form grows with x but for the first load, whose least is known (`least_cycles`); energy never falls with x
   (`on_chip_bytes` falls with no count, and blocks are max(x, ⌈P/side⌉)). Their values at the first x that fits bound the choice
   for latency and energy, and their product the product. Choices whose bound is not below the best found are set aside unseen,
   and p is walked only while its remainder may be better. Compute enters the bounds without preloads, which only add.
4. *A start.* Every fourth choice of k and c is bounded first, and the least of these walked, so that most others fall at once.

Values nearer than 10⁻¹² count as equal (rounding); ties go to the other quantity. `lower_bound` is the least bound set aside, or
the value itself: no tiling is below it. The search is checked against enumeration that shares only `tiled_cost` and `access`.
Neglected, as in `tiled_cost`: tiles of other shapes at other levels, and tensors of which only a part stays between tiles.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from math import log2, sqrt
from typing import Any, Literal, get_args

import numpy as np

from ridgeline.costs import access, tiled
from ridgeline.costs.access import AccessEnergy, OnChipBytes, count_folds, nest_energy, on_chip_bytes
from ridgeline.costs.tiled import ORDERS, Array, Buffers, Layer, Memory, Tile, TiledCost, tiled_cost
from ridgeline.errors import InfeasibleError, InputError
from ridgeline.mapping import compiled, tile_search
from ridgeline.quantities import Bytes, Count
from ridgeline.results import Tiling

Dataflow = Literal["weight-stationary", "output-stationary", "input-stationary"]
Objective = Literal["latency", "energy", "edp", "traffic"]
DATAFLOWS: tuple[str, ...] = get_args(Dataflow)
OBJECTIVES: tuple[str, ...] = get_args(Objective)
LOOPS = tiled.LOOPS


def product(m: Count, n: Count, k: Count) -> Layer:
    """Return the layer of an m × k by k × n matrix product.

    >>> product(128, 768, 64)
    Layer(n=1.0, k=768.0, c=64.0, p=128.0, q=1.0, r=1.0, s=1.0, stride=1.0)
    """
    return Layer(1.0, float(n), float(k), float(m), 1.0, 1.0, 1.0, 1.0)


def units(array: Array, dataflow: int) -> tuple[float, ...]:
    """Return the step of tile sizes along each loop: the side of the array that the loop lies on, else 1.

    >>> units(Array(rows=16.0, columns=8.0), 0)  # weights: k along the columns, c along the rows
    (8.0, 16.0, 1.0, 1.0, 1.0, 1.0)
    """
    return tuple(map(float, tiled.array_units(array, dataflow)))


def hong_kung(layer: Layer, buffers: Buffers) -> Bytes | None:
    """Least traffic of a matrix product with S words on the chip, to leading order; None for a filter larger than 1 × 1.

        2·m·n·k / √S words   [hong1981red], the constant 2 and a remainder of −2·S from [smith2019tight]

    Words count the narrowest of the tensors; S is what both buffers hold. Below the compulsory traffic where a product is small.

    >>> hong_kung(product(1024, 1024, 1024), Buffers(scratchpad=2.0**20, accumulator=0.0))  # 2·2³⁰/2¹⁰
    2097152.0
    """
    if layer.r * layer.s > 1.0:
        return None
    word = min(buffers.input_bytes, buffers.weight_bytes, buffers.output_bytes)
    words = buffers.scratchpad / word + buffers.accumulator / buffers.accumulator_bytes
    return 2.0 * layer.n * layer.k * layer.c * layer.p * layer.q / sqrt(words) * word


def square_traffic(
    *, m: Count, n: Count, k: Count, side: Count, element: Bytes = 1.0, output: Bytes = 1.0, bias: Bytes = 0.0
) -> Bytes:
    """Bytes of a matrix product under the survey's square tiling: nothing stays between tiles but the sums.

        element·(m·k·⌈n/side⌉ + k·n·⌈m/side⌉) + (output + bias)·m·n   [kim2023fullstack, Table 5]

    The survey prints intensities and not the rule. With side = 1024 — two square 8-bit tiles fill its 2 MiB buffer — and one more
    byte an output for products with weights (the bias matrix of Gemmini), this gives all its 18 values to the last digit.

    >>> square_traffic(m=128, n=768, k=768, side=1024, bias=1.0)  # 0.098 M + 0.590 M + 2 · 0.098 M
    884736.0
    """
    return element * (m * k * -(-n // side) + k * n * -(-m // side)) + (output + bias) * m * n


def square_side(buffer: Bytes, element: Bytes = 1.0) -> Count:
    """Side of the two square tiles that fill a buffer: √(buffer / (2·element)).

    >>> square_side(2 * 1024**2)
    1024.0
    """
    return sqrt(buffer / (2.0 * element)) // 1.0


def cost_tiling(
    layer: Layer,
    tile: Tile,
    order: str,
    array: Array,
    buffers: Buffers,
    memory: Memory,
    *,
    dataflow: str = "weight-stationary",
    energy: AccessEnergy | None = None,
) -> Tiling:
    """Cost a given tile and loop order; `InfeasibleError` where it does not fit.

    >>> chip = Array(2.0, 2.0), Buffers(64.0, 64.0), Memory(1.0)
    >>> cost_tiling(product(4, 4, 4), Tile(4.0, 4.0, 2.0, 1.0, 1.0, 1.0), "kcpqrs", *chip).traffic["dram"]["weights"]
    16.0
    """
    flow = _number("dataflow", dataflow, DATAFLOWS)
    if sorted(order) != sorted(LOOPS):
        raise InputError(f"loop order {order!r}: each of the letters {', '.join(LOOPS)} is needed once, outer to inner")
    cost = tiled_cost(layer, tile, ORDERS.index(order), array, buffers, memory, flow)
    _refuse(cost, buffers, "this tile")
    on_chip = on_chip_bytes(layer, count_folds(layer, tile, array, flow), buffers, flow)
    return _tiling(layer, tile, order, cost, on_chip, array, buffers, flow, energy)


def tile_layer(
    layer: Layer,
    array: Array,
    buffers: Buffers,
    memory: Memory,
    *,
    energy: AccessEnergy | None = None,
    dataflows: Sequence[str] = ("weight-stationary",),
    objective: str = "latency",
) -> Tiling:
    """Return the best tiling of a layer; `InfeasibleError` where no tile fits.

    >>> chip = Array(2.0, 2.0), Buffers(scratchpad=48.0, accumulator=64.0, double=1.0), Memory(bytes_per_cycle=1.0)
    >>> best = tile_layer(product(4, 4, 4), *chip)
    >>> best.cycles, best.optimal  # four folds of 4 cycles, and each of 3 · 16 bytes once
    (64.0, True)
    """
    return tile_batch([layer], array, buffers, memory, energy=energy, dataflows=dataflows, objective=objective)[0]


def tile_batch(
    layers: Sequence[Layer],
    array: Array,
    buffers: Buffers,
    memory: Memory,
    *,
    energy: AccessEnergy | None = None,
    dataflows: Sequence[str] = ("weight-stationary",),
    objective: str = "latency",
    compile: bool | None = None,
) -> list[Tiling]:
    """Return the best tiling of each layer on one machine, equal layers searched once; see the module for the argument.

    Objectives: `latency` (ties: least energy), `energy` (ties: fewest cycles), `edp` (their product; ties: energy), `traffic`
    (bytes from and to DRAM; ties: cycles). Without energies of the accesses, ties in latency go to the least DRAM traffic.
    `compile`: with Numba where it is installed (None), always, or never. Raises `InfeasibleError` where no tile of a layer fits.
    """
    goal = _number("objective", objective, OBJECTIVES)
    if objective == "traffic":  # the energy of a chip on which only DRAM costs, a byte a joule
        goal = tile_search.ENERGY
    flows = np.array([_number("dataflow", name, DATAFLOWS) for name in dataflows], dtype=np.int64)
    if energy is None and objective in ("energy", "edp"):
        raise InputError(f"objective {objective!r} needs the energies of the accesses: give `energy`")
    if min(array.rows, array.columns) < 1:
        raise InputError(f"an array of {array.rows:g} rows × {array.columns:g} columns computes nothing: both must be at least 1")
    asked = [Layer(*map(float, layer)) for layer in layers]
    distinct = list(dict.fromkeys(asked))
    machine = _machine(array, buffers, memory, None if objective == "traffic" else energy)
    list_all, search_all = _loops(compiled.is_available() if compile is None else compile)
    bounds = np.array(distinct, dtype=float).reshape(-1, 8)
    spans, choices = _choices(bounds, machine, flows, list_all)
    found = np.zeros((len(distinct), tile_search.FOUND))
    search_all(bounds, spans, choices, flows, machine, goal, found)
    best = {
        layer: _best(layer, row, machine, energy, objective, flows) for layer, row in zip(distinct, found.tolist(), strict=True)
    }
    return [best[layer] for layer in asked]


def _number(kind: str, name: str, known: Sequence[str]) -> int:
    if name not in known:
        raise InputError(f"unknown {kind} {name!r}: known are {', '.join(known)}")
    return known.index(name)


def _floats(values: Any) -> Any:
    return type(values)(*map(float, values))


def _machine(array: Array, buffers: Buffers, memory: Memory, energy: AccessEnergy | None) -> tile_search.Machine:
    array = _floats(array)
    return tile_search.Machine(
        array, array._replace(preload=0.0, serial=0.0), _floats(buffers), _floats(memory), _floats(energy or AccessEnergy(dram=1.0))
    )


@lru_cache(maxsize=2)
def _loops(compile: bool) -> tuple[Callable[..., Any], Callable[..., Any]]:
    makers = (tile_search.make_lister, tile_search.make_searcher)
    if not compile:
        return makers[0](0), makers[1](0)
    modules = (tiled, access, tile_search)
    return compiled.compile_loop(makers[0], modules), compiled.compile_loop(makers[1], modules)


def _choices(layers: Any, machine: tile_search.Machine, flows: Any, list_all: Any) -> tuple[Any, Any]:
    """Return the rows of the table of tile sizes that belong to each layer, dataflow and loop, and the table."""
    places = np.empty((len(layers), len(flows), 6), dtype=np.int64)
    asked, count = list[Any](), 0
    for column, flow in enumerate(flows):
        for loop, unit in enumerate(units(machine.array, int(flow))):
            sizes, inverse = np.unique(layers[:, 1 + loop], return_inverse=True)
            places[:, column, loop] = count + inverse
            asked += [(loop, size, unit, flow) for size in sizes.tolist()]
            count += len(sizes)
    rows = sum(_most_choices(one, machine) + log2(one[2]) + 1.0 for one in asked)
    table, ends = np.empty((int(rows) + 1, 6)), np.zeros(count, dtype=np.int64)
    list_all(np.array(asked, dtype=float).reshape(-1, 4), machine, table, ends)
    begins = np.concatenate([[0], ends[:-1]])
    return np.stack([begins[places], ends[places]], axis=-1), table


def _most_choices(asked: tuple[int, float, float, int], machine: tile_search.Machine) -> float:
    """Return how many whole-unit sizes of a loop `list_choices` keeps at most: one a trip count where these are even, else all."""
    loop, size, unit, flow = asked
    array, _, buffers, memory, _ = machine
    if tile_search.is_even(loop, size, unit, array, buffers, memory, int(flow)):
        return 2.0 * sqrt(size / unit) + 4.0
    return size / unit + 2.0


def _best(
    layer: Layer, row: list[float], machine: tile_search.Machine, energy: AccessEnergy | None, objective: str, flows: Any
) -> Tiling:
    if row[0] == np.inf:
        _refuse_all(layer, machine, flows)
    order, flow, tile = int(row[4]), int(row[5]), Tile(*row[6:12])
    cost, on_chip = TiledCost(*row[15:27]), OnChipBytes(*row[27:31])
    proof = {"objective": objective, "value": row[0], "lower_bound": min(row[0], row[12]), "optimal": True, "examined": row[14]}
    return _tiling(layer, tile, ORDERS[order], cost, on_chip, machine.array, machine.buffers, flow, energy, **proof)


def _tiling(
    layer: Layer,
    tile: Tile,
    order: str,
    cost: TiledCost,
    on_chip: OnChipBytes,
    array: Array,
    buffers: Buffers,
    flow: int,
    energy: AccessEnergy | None,
    **proof: Any,
) -> Tiling:
    macs = layer.n * layer.k * layer.p * layer.q * layer.c * layer.r * layer.s
    return Tiling(
        tile={"chip": tile._asdict(), "array": _sides(array, flow)},
        order=_orders()[order],
        dataflow=DATAFLOWS[flow],
        cycles=cost.cycles,
        energy=None if energy is None else nest_energy(layer, on_chip, cost, energy),
        traffic=_traffic(cost, on_chip),
        held={"scratchpad": cost.scratchpad_used, "accumulator": cost.accumulator_used},
        utilisation=macs / (array.rows * array.columns * array.depth * cost.cycles),
        hong_kung=hong_kung(layer, buffers),
        **proof,
    )


@lru_cache(maxsize=64)
def _sides(array: Array, flow: int) -> Mapping[str, Count]:
    return dict(zip(LOOPS, units(array, flow), strict=True))


@lru_cache(maxsize=1)
def _orders() -> Mapping[str, Mapping[str, str]]:
    return {order: {"dram": order} for order in ORDERS}


def _traffic(cost: TiledCost, on_chip: OnChipBytes) -> Mapping[str, Mapping[str, Bytes]]:
    partial = cost.partial_read + cost.partial_write
    return {
        "dram": {"inputs": cost.input_bytes, "weights": cost.weight_bytes, "partial sums": partial, "outputs": cost.output_bytes},
        "scratchpad": {"inputs": cost.input_bytes + on_chip.inputs, "weights": cost.weight_bytes + on_chip.weights},
        "accumulator": {"sums": partial + on_chip.sums},
        "registers": {"stationary": on_chip.register},
    }


def _refuse(cost: TiledCost, buffers: Buffers, what: str) -> None:
    """Raise where a tile does not fit, naming the buffer that lacks most, and the bytes."""
    if cost.fits > 0.0:
        return
    needs = {"scratchpad": (cost.scratchpad_used, buffers.scratchpad), "accumulator": (cost.accumulator_used, buffers.accumulator)}
    name = max(needs, key=lambda one: needs[one][0] / max(needs[one][1], 1e-300))
    slots = ", two slots of it" if buffers.double > 1.0 else ""
    raise InfeasibleError(f"{what} needs {needs[name][0]:.0f} B of the {name}{slots}; it holds {needs[name][1]:.0f} B")


def _refuse_all(layer: Layer, machine: tile_search.Machine, flows: Any) -> None:
    for flow in flows:
        tile = Tile(1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
        cost = tiled_cost(layer, tile, 0, machine.array, machine.buffers, machine.memory, int(flow))
        _refuse(cost, machine.buffers, f"no tile of {_name(layer)} fits: the smallest")
    raise InfeasibleError(f"no tile of {_name(layer)} fits")


def _name(layer: Layer) -> str:
    return ", ".join(f"{letter} {size:.0f}" for letter, size in zip(LOOPS, layer[1:7], strict=True))
