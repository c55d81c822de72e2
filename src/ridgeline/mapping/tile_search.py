"""The exact tile search as plain loops: the same source runs as Python and compiled (see `tiling` for the argument).

Nothing here allocates per tile or knows a unit. A problem is a tuple of tuples of floats; a *choice* is one tile size of one loop,
a row of the table `choices`: size, trip count, compute factor, least factor from here on, and for c and k the bytes that a row of
the tensor takes on the bus, read and written. `spans[loop]` says which rows belong to a loop of a layer, the largest tile first.
"""

from collections.abc import Callable
from math import sqrt
from typing import Any, NamedTuple

import numpy as np

from ridgeline.arrays import ceil_divide
from ridgeline.costs.access import AccessEnergy, Folds, OnChipBytes, count_folds, nest_energy, on_chip_bytes
from ridgeline.costs.tiled import (
    ORDERS,
    Array,
    Buffers,
    Layer,
    Memory,
    Tile,
    TiledCost,
    array_cycles,
    covered,
    first_bytes,
    last_bytes,
    tiled_cost,
    transfer_rate,
)

LATENCY, ENERGY, ENERGY_DELAY = 0, 1, 2
# By what the innermost moving loop is: inputs stay under k, weights under the pixels, sums under the reduction.
INPUTS_STAY, WEIGHTS_STAY, SUMS_STAY = ORDERS.index("pqcrsk"), ORDERS.index("kcrspq"), ORDERS.index("kpqcrs")
CLOSE = 1e-12  # two values nearer than this are equal: rounding of some ten operations
# Of a result: primary, secondary, cycles, energy, order, dataflow, six tile sizes, least bound set aside, nodes, tiles costed; then
# the cost of the best, 12, and its bytes on the chip, 4.
FOUND = 31
SPARSE = 4  # of the choices of two loops, every fourth is looked at for a start
P = 2  # the place of p among the loops


class Problem(NamedTuple):
    """A layer on a machine, with what the bounds need of it."""

    layer: Layer
    array: Array
    buffers: Buffers
    memory: Memory
    energy: AccessEnergy
    rate: float  # bytes a cycle that the transfer engine reaches
    unit: float  # compute cycles of a layer of ones, entries of blocks aside
    still: float  # energy whatever the tile
    per: Folds  # energy for each of these
    least: Folds  # blocks that cover each loop at the least
    per_read: float  # energy of an operand's byte from DRAM, and of a sum's that leaves and comes back
    per_spilled: float


class Machine(NamedTuple):
    """An array (also without what the entry of blocks adds), its buffers, the path to DRAM, and energy."""

    array: Array
    bare: Array
    buffers: Buffers
    memory: Memory
    energy: AccessEnergy


class Node(NamedTuple):
    """A set of tiles: trip counts of the loops but p; `steps` is their product with what is still open at its least, and most."""

    k: float
    c: float
    q: float
    r: float
    s: float
    steps: float
    most_steps: float
    input_row: float  # bytes on the bus of all c of a pixel, of all k of a weight, and of all k of a result
    weight_row: float
    output_row: float
    ends: float  # bytes at least of the first tile's load and the last one's store, the part for all sizes along p
    spread: float  # bytes of the first tile's load times trips of p, the part that falls with them


class Bound(NamedTuple):
    """What no tile of a set is below, in the order of the objective: its value, and what breaks ties."""

    primary: float
    secondary: float


def _better(one: Bound, best: Any) -> bool:
    if one.primary < best[0] * (1.0 - CLOSE):
        return True
    return one.primary <= best[0] * (1.0 + CLOSE) and one.secondary < best[1] * (1.0 - CLOSE)


def _hopeless(one: Bound, best: Any) -> bool:
    if one.primary > best[0] * (1.0 + CLOSE):
        return True
    return one.primary >= best[0] * (1.0 - CLOSE) and one.secondary >= best[1] * (1.0 - CLOSE)


def _ranked(objective: int, cycles: float, energy: float) -> Bound:
    if objective == LATENCY:
        return Bound(cycles, energy)
    if objective == ENERGY:
        return Bound(energy, cycles)
    return Bound(cycles * energy, energy)


def least_cycles(
    problem: Problem,
    node: Node,
    moving: float,
    staying: float,
    uneven: float,
    run: float,
    compute: float,
    fewest: float,
    most: float,
) -> float:
    """Return what no nest with `fewest` to `most` trips of p is below, where bytes move at every step and where sweeps end.

        double   max(C + first load + fill, L, slots) + start·n·steps·x + 2·latency     L = (moving + staying)/rate
                 (tiles that are started beside the array: start once, and with all steps in L)
        first load at least (ends + spread/x)/rate, where spread/x + start·n·steps·x is least at the root of their ratio
        slots    first load + max(C/run, (moving/run + staying)/rate)·(1 − 1/changing)
                 + max(C, moving/rate)·(1 − 1/run)·(1 − 1/(n·steps·x − changing))       changing = n·steps·x/run
                 + C/n·min(3/2/(most steps·most), 1)
        single   C + L + fill + start·n·steps·x + latency·(n·steps·x + 1)

    `uneven` bytes, results where sums never leave and weights that come once, move in few steps and are left out of the slots. A
    slot is no shorter than its compute or its transfer (`tiled_cost`), at an end than its compute. With more trips bytes grow, and
    as `run` grows so do slots: C + staying − (C − moving)/run where neither kind of slot has one bound.
    """
    memory, rate, tiles = problem.memory, problem.rate, node.steps * problem.layer.n * fewest
    moved, started, exposed = (moving + staying) / rate, memory.start * tiles, compute + problem.array.fill
    if problem.buffers.double <= 1.0:
        return exposed + moved + started + memory.latency * (tiles + 1.0)
    changing, share = tiles / run, 1.0 / run
    ordinary = max(tiles - changing, 1.0)
    moving -= uneven
    slots = max(compute * share, (moving * share + staying) / rate) * (1.0 - 1.0 / changing)
    slots += max(compute, moving / rate) * (1.0 - share) * (1.0 - 1.0 / ordinary)
    slots += compute / problem.layer.n * min(1.5 / (node.most_steps * most), 1.0)
    each, spread, x = memory.start * node.steps * problem.layer.n, node.spread / rate, most
    if memory.beside > 0.0:
        return max(max(exposed, slots) + node.ends / rate + spread / x + memory.start, moved + started) + 2.0 * memory.latency
    if each > 0.0:
        x = min(max(sqrt(spread / each), fewest), most)
    ends = node.ends / rate + spread / x + each * x
    return max(max(exposed, slots) + ends, moved + started) + 2.0 * memory.latency


def bound(
    problem: Problem, node: Node, stays: int, compute: float, fewest: float, most: float, objective: int, limit: float
) -> Bound:
    """Return what no tile of a node is below that cuts p in `fewest` to `most`; `stays`: 0 inputs, 1 weights, 2 sums.

    With x tiles of p, base + slope·x bytes cross. A window's extents add up to stride·(P − x)·r + R·x: where that falls with x,
    its least is used. Exact where fewest = most. Above the limit what breaks ties is not needed, and infinite.
    """
    layer, buffers = problem.layer, problem.buffers
    steep = layer.r - layer.stride * node.r
    start = layer.stride * layer.p * node.r
    if steep < 0.0:
        start, steep = start + steep * most, 0.0
    extent = layer.stride * (layer.q - node.q) * node.s + layer.s * node.q
    inputs = layer.n * extent * (1.0 if stays == 0 and problem.memory.reuse > 0.0 else node.k)
    once = stays == 1 and problem.memory.reuse > 0.0 and node.k * node.c * node.r * node.s <= 1.0
    weights = (1.0 if once else layer.n) * layer.c * layer.r * layer.s
    outputs = layer.n * layer.p * layer.q
    reductions = node.c * node.r * node.s
    stay = stays == 2 or problem.memory.spill <= 0.0
    spilled = 0.0 if stay else outputs * layer.k * (reductions - 1.0) * buffers.accumulator_bytes
    fixed, growing = (1.0, 0.0) if stays == 1 and problem.memory.reuse > 0.0 else (0.0, node.q)
    reused = problem.memory.reuse > 0.0
    cycles, energy = 0.0, 0.0
    in_words, weight_words = (
        inputs * (start + steep * fewest) * node.input_row,
        weights * (fixed + growing * fewest) * node.weight_row,
    )
    out_words = 2.0 * spilled + outputs * node.output_row
    staying = out_words if stays == 2 else 0.0 if not reused else in_words if stays == 0 else weight_words
    moving = in_words + weight_words + out_words - staying
    leaving = problem.memory.spill > 0.0 and 2.0 * buffers.accumulator_bytes >= buffers.output_bytes
    uneven = 0.0 if leaving or stays == 2 else out_words
    if once:
        staying, moving, uneven = 0.0, moving + staying, uneven + staying
    run = node.k if stays == 0 else node.q * fewest if stays == 1 else reductions
    if objective != ENERGY:
        cycles = least_cycles(problem, node, moving, staying, uneven, run, compute, fewest, most)
        if objective == LATENCY and cycles > limit:
            return Bound(cycles, np.inf)
    read = inputs * (start + steep * fewest) * layer.c * buffers.input_bytes
    read += weights * (fixed + growing * fewest) * layer.k * buffers.weight_bytes
    per, blocks = problem.per, problem.least
    energy = problem.still + per.k * max(node.k, blocks.k) + per.c * max(node.c, blocks.c) + per.p * max(fewest, blocks.p)
    energy += per.k_trips * node.k + per.pixel_trips * node.q * fewest + per.reduction_trips * reductions
    energy += problem.per_read * read + problem.per_spilled * spilled
    if objective == ENERGY and energy <= limit:
        cycles = least_cycles(problem, node, moving, staying, uneven, run, compute, fewest, most)
    return _ranked(objective, cycles, energy)


def node_bound(problem: Problem, node: Node, compute: float, fewest: float, most: float, objective: int, best: Any) -> Bound:
    """Return what no tile of a node is below, whatever stays on the chip."""
    primary, secondary = np.inf, np.inf
    limit = best[0] * (1.0 + CLOSE)
    for stays in range(3):
        one = bound(problem, node, stays, compute, fewest, most, objective, limit)
        primary, secondary = min(primary, one.primary), min(secondary, one.secondary)
    return Bound(primary, secondary)


def cost_tile(problem: Problem, tile: Tile, order: int, dataflow: int, objective: int, found: Any) -> None:
    """Cost one tile in one order, and keep it in `found` where it fits and is better."""
    layer = problem.layer
    cost = tiled_cost(layer, tile, order, problem.array, problem.buffers, problem.memory, dataflow)
    found[14] += 1.0
    if cost.fits <= 0.0:
        return
    energy = nest_energy(
        layer,
        on_chip_bytes(layer, count_folds(layer, tile, problem.array, dataflow), problem.buffers, dataflow),
        cost,
        problem.energy,
    )
    one = _ranked(objective, cost.cycles, energy)
    if _better(one, found):
        found[0], found[1], found[2], found[3], found[4], found[5] = (
            one.primary,
            one.secondary,
            cost.cycles,
            energy,
            order,
            dataflow,
        )
        found[6], found[7], found[8], found[9], found[10], found[11] = tile.k, tile.c, tile.p, tile.q, tile.r, tile.s


def room_for_sums(problem: Problem, k: float, q: float) -> float:
    """Return the largest size along p whose sums fit the accumulator."""
    return problem.buffers.accumulator / (problem.buffers.double * k * q * problem.buffers.accumulator_bytes)


def largest(problem: Problem, sums: float, k: float, c: float, q: float, r: float, s: float) -> float:
    """Return the largest size along p that may fit beside the sizes of the other loops; below 1 where none does."""
    layer, buffers = problem.layer, problem.buffers
    weights = k * c * r * s * buffers.weight_bytes
    column = c * ((q - 1.0) * layer.stride + s) * buffers.input_bytes
    extent = (buffers.scratchpad / buffers.double - weights) / column
    return min(sums, (extent - r) / layer.stride + 1.0) * (1.0 + CLOSE)


def first_inputs(problem: Problem, c: float, q: float, r: float, s: float) -> float:
    """Return the least bytes of the first tile's inputs, times trips of p: (p − 1)·stride + r is no less than p·min(stride, r)."""
    layer = problem.layer
    return layer.p * min(layer.stride, r) * ((q - 1.0) * layer.stride + s) * c * problem.buffers.input_bytes


def first_row(choices: Any, begin: int, end: int, size: float) -> int:
    """Return the first row of a loop whose size is at most `size`: sizes fall from row to row."""
    while begin < end:
        middle = (begin + end) // 2
        if choices[middle, 0] <= size:
            end = middle
        else:
            begin = middle + 1
    return begin


def scan(
    problem: Problem, node: Node, spans: Any, choices: Any, rows: Any, others: float, dataflow: int, objective: int, found: Any
) -> None:
    """Cost the tile sizes of p beside `rows` of the other loops, from the largest that fits, while a smaller one may be better."""
    k, c, q, r, s = choices[rows[0], 0], choices[rows[1], 0], choices[rows[3], 0], choices[rows[4], 0], choices[rows[5], 0]
    most = choices[spans[P, 1] - 1, 1]
    for row in range(rows[P], spans[P, 1]):
        x = choices[row, 1]
        rest = node_bound(problem, node, others * choices[row, 3], x, most, objective, found)
        if _hopeless(rest, found):
            found[12] = min(found[12], rest.primary)
            return
        tile = Tile(k, c, choices[row, 0], q, r, s)
        ends = first_bytes(problem.layer, tile, problem.buffers, problem.memory)
        ends += last_bytes(problem.layer, tile, problem.array, problem.buffers, problem.memory, dataflow)
        exact = Node(
            node.k,
            node.c,
            node.q,
            node.r,
            node.s,
            node.steps,
            node.steps,
            node.input_row,
            node.weight_row,
            node.output_row,
            ends,
            0.0,
        )
        for stays in range(3):
            one = bound(problem, exact, stays, others * choices[row, 2], x, x, objective, found[0] * (1.0 + CLOSE))
            if _hopeless(one, found):
                found[12] = min(found[12], one.primary)
                continue
            order = INPUTS_STAY if stays == 0 else WEIGHTS_STAY if stays == 1 else SUMS_STAY
            cost_tile(problem, tile, order, dataflow, objective, found)


def _node_above(problem: Problem, spans: Any, choices: Any, rows: Any, objective: int, best: Any) -> Bound:
    """Return what no tile with these rows of k, q, r, s is below, infinite where none fits; set rows[1] to the first that may."""
    k, q, r, s = choices[rows[0]], choices[rows[3]], choices[rows[4]], choices[rows[5]]
    least, last, sums = choices[spans[P, 1] - 1, 0], spans[1, 1], room_for_sums(problem, k[0], q[0])
    row = spans[1, 0]
    while row < last:  # by halves: the smaller c is, the more of p fits
        middle = (row + last) // 2
        if largest(problem, sums, k[0], choices[middle, 0], q[0], r[0], s[0]) < least:
            row = middle + 1
        else:
            last = middle
    rows[1], last = row, spans[1, 1] - 1
    if row > last:
        return Bound(np.inf, np.inf)
    begin = first_row(choices, spans[P, 0], spans[P, 1], largest(problem, sums, k[0], choices[last, 0], q[0], r[0], s[0]))
    steps = k[1] * q[1] * r[1] * s[1]
    width = problem.layer.c * problem.buffers.input_bytes
    size = choices[last, 0]
    ends, spread = k[0] * size * r[0] * s[0] * problem.buffers.weight_bytes, first_inputs(problem, size, q[0], r[0], s[0])
    most_steps = steps * choices[last, 1]
    node = Node(k[1], choices[row, 1], q[1], r[1], s[1], steps * choices[row, 1], most_steps, width, k[4], k[5], ends, spread)
    compute = problem.unit * problem.layer.n * k[2] * q[2] * r[2] * s[2] * choices[row, 3] * choices[begin, 3]
    return node_bound(problem, node, compute, choices[begin, 1], choices[spans[P, 1] - 1, 1], objective, best)


def _walk_inner(
    problem: Problem, spans: Any, choices: Any, rows: Any, stride: int, dataflow: int, objective: int, found: Any, seed: Any
) -> None:
    """Go through the tile sizes of c beside `rows` of k, q, r, s; in strides keep the node of least bound in `seed`, else scan."""
    k, q, r, s = choices[rows[0]], choices[rows[3]], choices[rows[4]], choices[rows[5]]
    end, most = spans[P, 1], choices[spans[P, 1] - 1, 1]
    steps, others = k[1] * q[1] * r[1] * s[1], problem.unit * problem.layer.n * k[2] * q[2] * r[2] * s[2]
    begin, sums = end, room_for_sums(problem, k[0], q[0])
    for row in range(rows[1], spans[1, 1], stride):
        size, trips, factor, width = choices[row, 0], choices[row, 1], choices[row, 2], choices[row, 4]
        rows[1] = row
        room = largest(problem, sums, k[0], size, q[0], r[0], s[0])
        while begin > spans[P, 0] and choices[begin - 1, 0] <= room:
            begin -= 1
        rows[P] = begin
        if begin == end:
            continue
        ends, spread = k[0] * size * r[0] * s[0] * problem.buffers.weight_bytes, first_inputs(problem, size, q[0], r[0], s[0])
        node = Node(k[1], trips, q[1], r[1], s[1], steps * trips, steps * trips, width, k[4], k[5], ends, spread)
        best = found if stride == 1 else seed
        one = node_bound(problem, node, others * factor * choices[begin, 3], choices[begin, 1], most, objective, best)
        found[13] += 1.0
        if _hopeless(one, best):
            if stride == 1:
                found[12] = min(found[12], one.primary)
        elif stride == 1:
            scan(problem, node, spans, choices, rows, others * factor, dataflow, objective, found)
        else:
            seed[0], seed[1], seed[2] = one.primary, one.secondary, dataflow
            for loop in range(6):
                seed[3 + loop] = rows[loop]


def walk(problem: Problem, spans: Any, choices: Any, stride: int, dataflow: int, objective: int, found: Any, seed: Any) -> None:
    """Go through all choices of k, q, r and s, set aside those that cannot be better, and go into the others."""
    rows = np.zeros(6, np.int64)
    count = 1
    for loop in range(6):
        if loop != 1 and loop != P:
            count *= spans[loop, 1] - spans[loop, 0]
    best = found if stride == 1 else seed
    for number in range(0, count, stride):
        rest = number
        for loop in range(6):
            if loop != 1 and loop != P:
                size = spans[loop, 1] - spans[loop, 0]
                rows[loop] = spans[loop, 0] + rest % size
                rest //= size
        one = _node_above(problem, spans, choices, rows, objective, best)
        if not _hopeless(one, best):
            _walk_inner(problem, spans, choices, rows, stride, dataflow, objective, found, seed)
        elif stride == 1:
            found[12] = min(found[12], one.primary)


def start_from(problem: Problem, spans: Any, choices: Any, seed: Any, objective: int, found: Any) -> None:
    """Scan the node of least bound first, so that most others are set aside at once."""
    rows = np.zeros(6, np.int64)
    for loop in range(6):
        rows[loop] = int(seed[3 + loop])
    k, c, q, r, s = choices[rows[0]], choices[rows[1]], choices[rows[3]], choices[rows[4]], choices[rows[5]]
    steps = k[1] * c[1] * q[1] * r[1] * s[1]
    ends, spread = k[0] * c[0] * r[0] * s[0] * problem.buffers.weight_bytes, first_inputs(problem, c[0], q[0], r[0], s[0])
    node = Node(k[1], c[1], q[1], r[1], s[1], steps, steps, c[4], k[4], k[5], ends, spread)
    others = problem.unit * problem.layer.n * k[2] * c[2] * q[2] * r[2] * s[2]
    scan(problem, node, spans, choices, rows, others, int(seed[2]), objective, found)


def _energy_of(layer: Layer, on_chip: OnChipBytes, base: OnChipBytes, energy: AccessEnergy, read: float, spilled: float) -> float:
    """Return the energy of the bytes that one on-chip count has more than another, and of bytes from and to DRAM; no arithmetic."""
    more = OnChipBytes(
        on_chip.inputs - base.inputs, on_chip.weights - base.weights, on_chip.sums - base.sums, on_chip.register - base.register
    )
    cost = TiledCost(0.0, 0.0, 0.0, 0.0, read, 0.0, spilled, spilled, 0.0, 0.0, 0.0, 1.0)
    quiet = AccessEnergy(energy.dram, energy.scratchpad, energy.accumulator, energy.register, 0.0)
    return nest_energy(layer, more, cost, quiet)


def pose(layer: Layer, machine: Machine, dataflow: int) -> Problem:
    """Return a layer on a machine, with the rates that its bounds need, and its energy as the affine function that it is."""
    array, bare, buffers, memory, energy = machine
    rate = transfer_rate(memory)
    unit = loop_cycles(0, 1.0, 1.0, bare, dataflow)
    none = OnChipBytes(0.0, 0.0, 0.0, 0.0)
    once = on_chip_bytes(layer, Folds(1.0, 1.0, 1.0, 1.0, 1.0, 1.0), buffers, dataflow)
    per = Folds(
        _energy_of(layer, on_chip_bytes(layer, Folds(2.0, 1.0, 1.0, 1.0, 1.0, 1.0), buffers, dataflow), once, energy, 0.0, 0.0),
        _energy_of(layer, on_chip_bytes(layer, Folds(1.0, 2.0, 1.0, 1.0, 1.0, 1.0), buffers, dataflow), once, energy, 0.0, 0.0),
        _energy_of(layer, on_chip_bytes(layer, Folds(1.0, 1.0, 2.0, 1.0, 1.0, 1.0), buffers, dataflow), once, energy, 0.0, 0.0),
        _energy_of(layer, on_chip_bytes(layer, Folds(1.0, 1.0, 1.0, 2.0, 1.0, 1.0), buffers, dataflow), once, energy, 0.0, 0.0),
        _energy_of(layer, on_chip_bytes(layer, Folds(1.0, 1.0, 1.0, 1.0, 2.0, 1.0), buffers, dataflow), once, energy, 0.0, 0.0),
        _energy_of(layer, on_chip_bytes(layer, Folds(1.0, 1.0, 1.0, 1.0, 1.0, 2.0), buffers, dataflow), once, energy, 0.0, 0.0),
    )
    whole_tile = Tile(layer.k, layer.c, layer.p, layer.q, layer.r, layer.s)
    least = count_folds(layer, whole_tile, array, dataflow)
    per_read, per_spilled = _energy_of(layer, none, none, energy, 1.0, 0.0), _energy_of(layer, none, none, energy, 0.0, 1.0)
    final = layer.n * layer.k * layer.p * layer.q * buffers.output_bytes
    whole = nest_energy(layer, once, TiledCost(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, final, 0.0, 0.0, 1.0), energy)
    still = whole - (per.k + per.c + per.p + per.k_trips + per.pixel_trips + per.reduction_trips)
    return Problem(layer, array, buffers, memory, energy, rate, unit, still, per, least, per_read, per_spilled)


def loop_cycles(loop: int, size: float, tile: float, array: Array, dataflow: int) -> float:
    """Return the compute cycles of a layer whose only loop is this one."""
    k, c, p = size if loop == 0 else 1.0, size if loop == 1 else 1.0, size if loop == 2 else 1.0
    q, r, s = size if loop == 3 else 1.0, size if loop == 4 else 1.0, size if loop == 5 else 1.0
    held = Tile(min(k, tile), min(c, tile), min(p, tile), min(q, tile), min(r, tile), min(s, tile))
    return array_cycles(Layer(1.0, k, c, p, q, r, s, 1.0), held, array, dataflow)


def list_choices(loop: int, size: float, unit: float, machine: Machine, dataflow: int, rows: Any) -> int:
    """Write the tile sizes of one loop that can be best into `rows`, the largest first, and return how many there are.

    Of all sizes of one trip count, the smallest needs the least room and has the same traffic. Only where instructions or words of
    the bus have a length of their own may a larger one take fewer cycles: those that do are kept too.
    """
    array, bare, buffers, memory, _ = machine
    alone = loop_cycles(0, 1.0, 1.0, bare, dataflow)
    even = is_even(loop, size, unit, array, buffers, memory, dataflow)
    blocks = ceil_divide(size, unit)
    last, count, here = blocks + 1.0, 0, np.empty(6)
    while last > 1.0:
        pieces = ceil_divide(blocks, last - 1.0)
        last = ceil_divide(blocks, pieces)
        begin, width = count, last
        while width == last or (width < blocks and ceil_divide(blocks, width) == pieces):
            list_size(loop, size, min(width * unit, size), alone, machine, dataflow, here)
            if count == begin or (here[2:] < rows[count - 1, 2:]).any():
                rows[count] = here
                count += 1
            if even:
                break
            width += 1.0
        rows[begin:count] = rows[begin:count][::-1].copy()
    part = unit // 2.0
    while part >= 1.0:
        if part < size:
            list_size(loop, size, part, alone, machine, dataflow, rows[count])
            count += 1
        part = part // 2.0
    for row in range(count - 1, -1, -1):
        rows[row, 3] = min(rows[row, 2], rows[row + 1, 3]) if row < count - 1 else rows[row, 2]
    return count


def list_size(loop: int, size: float, tile: float, alone: float, machine: Machine, dataflow: int, row: Any) -> None:
    """Write what one tile size of a loop takes into a row: see the module. `alone`: compute cycles of a layer of ones."""
    array, bare, buffers, memory, _ = machine
    element = buffers.input_bytes if loop == 1 else buffers.weight_bytes
    row[0], row[1] = tile, ceil_divide(size, tile)
    row[3] = loop_cycles(loop, size, tile, array, dataflow)
    row[2] = row[3] if array == bare else loop_cycles(loop, size, tile, bare, dataflow)
    row[2] /= alone
    row[4] = covered(size * element, tile * element, memory.word) * memory.word
    row[5] = covered(size * buffers.output_bytes, tile * buffers.output_bytes, memory.word) * memory.word


def is_even(loop: int, size: float, unit: float, array: Array, buffers: Buffers, memory: Memory, dataflow: int) -> bool:
    """Say whether all tile sizes of one trip count take the same cycles, or the smallest the fewest."""
    if loop == (2, 1, 0)[dataflow] and array.stream < size and unit % array.stream > 0.0:
        return False
    if loop == 1:
        return unit * buffers.input_bytes % memory.word == 0.0
    if loop == 0:
        return unit * buffers.weight_bytes % memory.word == 0.0 and unit * buffers.output_bytes % memory.word == 0.0
    return True


def record(layer: Layer, machine: Machine, found: Any) -> None:
    """Write cost and on-chip bytes of the best tile behind it."""
    tile = Tile(found[6], found[7], found[8], found[9], found[10], found[11])
    order, dataflow = int(found[4]), int(found[5])
    cost = tiled_cost(layer, tile, order, machine.array, machine.buffers, machine.memory, dataflow)
    on_chip = on_chip_bytes(layer, count_folds(layer, tile, machine.array, dataflow), machine.buffers, dataflow)
    for column in range(12):
        found[15 + column] = cost[column]
    for column in range(4):
        found[27 + column] = on_chip[column]


def make_lister(stamp: int) -> Callable[..., Any]:
    """Return `list_choices` for many sizes at once; the number keys the compiled code to its sources."""

    def list_all(asked: Any, machine: Machine, table: Any, ends: Any) -> None:
        end = stamp * 0
        for index in range(asked.shape[0]):
            loop, size, unit, flow = asked[index]
            rows = table[end : table.shape[0]]
            end += list_choices(int(loop), size, unit, machine, int(flow), rows)
            ends[index] = end

    return list_all


def make_searcher(stamp: int) -> Callable[..., Any]:
    """Return the search of many layers on one machine; the number keys the compiled code to its sources.

    `layers` has a row a layer, `spans` the rows of `choices` by layer, dataflow and loop; results go to the rows of `found`.
    """

    def search_all(layers: Any, spans: Any, choices: Any, flows: Any, machine: Machine, objective: int, found: Any) -> None:
        seed = np.empty(9)
        for index in range(stamp * 0, layers.shape[0]):
            n, k, c, p, q, r, s, stride = layers[index]
            layer = Layer(n, k, c, p, q, r, s, stride)
            here = found[index]
            here[:] = 0.0
            here[0], here[1], here[12], seed[0], seed[1] = np.inf, np.inf, np.inf, np.inf, np.inf
            for place in range(flows.shape[0]):
                problem = pose(layer, machine, flows[place])
                walk(problem, spans[index, place], choices, SPARSE, flows[place], objective, here, seed)
            for place in range(flows.shape[0]):
                if seed[0] < np.inf and flows[place] == int(seed[2]):
                    problem = pose(layer, machine, flows[place])
                    start_from(problem, spans[index, place], choices, seed, objective, here)
            for place in range(flows.shape[0]):
                problem = pose(layer, machine, flows[place])
                walk(problem, spans[index, place], choices, 1, flows[place], objective, here, seed)
            if here[0] < np.inf:
                record(layer, machine, here)

    return search_all
