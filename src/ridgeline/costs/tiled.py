"""A tiled nest on an array with a scratchpad and an accumulator: cycles and exact traffic between DRAM and the chip.

One nest serves matrix products and convolutions: output channels k, input channels c, output pixels p × q, filter r × s. The loops
between DRAM and the chip run over tiles, in a given order; a tile is computed by instructions of the array, while the transfer
engine fetches the next one. Sizes are counts, times are cycles, sizes of buffers are bytes. Everything is arithmetic on floats or
arrays, and compiles from this source.
"""

from itertools import permutations
from typing import Any, NamedTuple

import numpy as np

from ridgeline.arrays import ceil_divide, maximum, minimum, where
from ridgeline.quantities import Bytes, Quantity

LOOPS = "kcpqrs"
ORDERS = tuple("".join(order) for order in permutations(LOOPS))  # outer → inner
ORDER_TABLE: Any = np.array([[LOOPS.index(letter) for letter in order] for order in ORDERS], dtype=np.int64)
WEIGHT_LOOPS = (1.0, 1.0, 0.0, 0.0, 1.0, 1.0)  # whether a tensor depends on each of the loops
INPUT_LOOPS = (0.0, 1.0, 1.0, 1.0, 1.0, 1.0)
OUTPUT_LOOPS = (1.0, 0.0, 1.0, 1.0, 0.0, 0.0)
ONLY_K, ONLY_C, ONLY_P = (1.0, 0.0, 0.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0, 0.0, 0.0)
ONLY_Q, ONLY_R, ONLY_S = (0.0, 0.0, 0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 0.0, 0.0, 1.0, 0.0), (0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
WEIGHT_STATIONARY, OUTPUT_STATIONARY, INPUT_STATIONARY = 0, 1, 2


class Layer(NamedTuple):
    """Bounds of the nest; a matrix product of m × n × k is Layer(n=1, k=n, c=k, p=m, q=1, r=1, s=1, stride=1)."""

    n: Quantity  # batch, outermost
    k: Quantity  # output channels
    c: Quantity  # input channels
    p: Quantity  # output pixels along the inner direction of memory
    q: Quantity  # output pixels along the outer direction
    r: Quantity  # filter along p
    s: Quantity  # filter along q
    stride: Quantity


class Tile(NamedTuple):
    """Sizes held on the chip at once; edge tiles are smaller."""

    k: Quantity
    c: Quantity
    p: Quantity
    q: Quantity
    r: Quantity
    s: Quantity


class Array(NamedTuple):
    """A rows × columns array fed by instructions: each streams vectors past one stationary block."""

    rows: Quantity
    columns: Quantity
    stream: Quantity = float("inf")  # vectors at most that one instruction streams
    least: Quantity = 0.0  # cycles of the shortest instruction
    preload: Quantity = 0.0  # cycles at least of the first instruction of a block, while the block after it enters
    issue: Quantity = 0.0  # cycles at least between two instructions, on average
    gap: Quantity = 0.0  # cycles lost between two instructions
    fill: Quantity = 0.0  # cycles that the first block takes to enter and the last results to leave
    serial: Quantity = 0.0  # cycles that every block takes to enter and to leave, where the next one waits for that
    depth: Quantity = 1.0  # products that an element adds to one sum in a cycle


class Buffers(NamedTuple):
    """Sibling buffers: the scratchpad holds inputs and weights, the accumulator wide partial sums."""

    scratchpad: Bytes
    accumulator: Bytes
    input_bytes: Bytes = 1.0  # per element
    weight_bytes: Bytes = 1.0
    output_bytes: Bytes = 1.0  # final outputs
    accumulator_bytes: Bytes = 4.0  # partial sums
    double: Quantity = 2.0  # tiles held of each: 2, the next is fetched while one is computed; 1, one after the other


class Memory(NamedTuple):
    """The path between DRAM and the chip: a transfer engine that reads and writes by requests."""

    bytes_per_cycle: Quantity
    latency: Quantity = 0.0  # cycles until a request returns
    in_flight: Quantity = float("inf")  # requests at most
    burst: Bytes = 64.0  # of a request at most
    word: Bytes = 1.0  # width of the bus: a row of a tile takes whole words
    start: Quantity = 0.0  # cycles to start a tile
    reuse: Quantity = 1.0  # 1: a tile that did not change stays; 0: every step fetches both operands
    spill: Quantity = 1.0  # 1: unfinished sums leave and come back; 0: they never do, whatever the order
    issue: Quantity = 0.0  # cycles of the array that each request takes, where the cores issue them
    beside: Quantity = 0.0  # 1: tiles are started beside the array, before their transfers; 0: the array waits as well
    weight_rate: Quantity = 1.0  # of weights over the rate of all else, at most 1: they come from a further tier
    cached: Any = 0.0  # structure: 0, software places tiles; 1, the scratchpad is a cache of the least recently used


class Traffic(NamedTuple):
    """Bytes between DRAM and the chip; `read` and `written` count whole words of the bus."""

    inputs: Bytes
    weights: Bytes
    partial: Bytes  # unfinished sums, out; the same comes back
    outputs: Bytes
    read: Bytes
    written: Bytes
    input_words: Bytes  # of what is read
    weight_words: Bytes
    steps: Quantity  # tiles


class _Visits(NamedTuple):
    """How often the tiles of an image are fetched: `steps` tiles are computed, `stays` of them fetch what stayed as well."""

    steps: Quantity
    stays: Quantity
    inputs: Quantity
    weights: Quantity
    outputs: Quantity  # times that sums arrive at the accumulator, new or returning
    apart: Quantity  # tiles of the output


class TiledCost(NamedTuple):
    """What a nest costs: times in cycles, traffic and sizes in bytes."""

    cycles: Quantity
    compute: Quantity
    load: Quantity
    store: Quantity
    input_bytes: Quantity
    weight_bytes: Quantity
    partial_read: Quantity
    partial_write: Quantity
    output_bytes: Quantity
    scratchpad_used: Quantity
    accumulator_used: Quantity
    fits: Quantity


def trips(bound: Quantity, tile: Quantity) -> Quantity:
    """Return how many tiles cover a bound.

    >>> trips(100.0, 16.0)
    7.0
    """
    return ceil_divide(bound, tile)


def covered(bound: Quantity, tile: Quantity, block: Quantity) -> Quantity:
    """Return how many blocks cover all tiles of a bound, the last tile being what is left.

    >>> covered(100.0, 40.0, 16.0)  # 40 + 40 + 20 in blocks of 16: 3 + 3 + 2
    8.0
    """
    whole = trips(bound, tile) - 1.0
    return whole * ceil_divide(tile, block) + ceil_divide(bound - whole * tile, block)


def _visits(order: Any, sizes: Any, used: Any) -> Quantity:
    """Return how often a tensor's tile is fetched, given which of the six loops it depends on.

    The product of the trip counts of all loops outside or at its innermost loop that takes more than one trip.

    >>> _visits(ORDERS.index("pkcqrs"), (4.0, 1.0, 3.0, 1.0, 1.0, 1.0), (1.0, 1.0, 0.0, 0.0, 1.0, 1.0))  # weights, p outside k
    12.0
    >>> _visits(ORDERS.index("kpcqrs"), (4.0, 1.0, 3.0, 1.0, 1.0, 1.0), (1.0, 1.0, 0.0, 0.0, 1.0, 1.0))  # p inside: they stay
    4.0
    """
    count = sizes[0] * 0.0 + 1.0
    moves = count * 0.0
    for place in range(5, -1, -1):
        loop = ORDER_TABLE[order, place]
        moves = where(sizes[loop] > 1.0, maximum(moves, used[loop]), moves)
        count = count * where(moves > 0.0, sizes[loop], 1.0)
    return count


def _cached_visits(layer: Layer, tile: Tile, order: Any, buffers: Buffers) -> tuple[Quantity, Quantity, Quantity]:
    """Return how often tiles of inputs and of weights miss in an image, and in how many images weights do, by reuse distance.

    A loop that a tensor does not depend on comes back to its tiles. In between other bytes were touched, its reuse distance: what
    the tiles of its own loops, and of all inside these, span; of the other operand twice that where it was swept more than once,
    for the next trip sweeps another part of it. Where the distance fits the cache the tiles are still there, else none of them,
    because the least recently used goes first [mattson1970].

    >>> product = Layer(n=1.0, k=32.0, c=16.0, p=64.0, q=1.0, r=1.0, s=1.0, stride=1.0)
    >>> tile = Tile(k=16.0, c=8.0, p=16.0, q=1.0, r=1.0, s=1.0)
    >>> _cached_visits(product, tile, ORDERS.index("pkcqrs"), Buffers(1024.0, 4096.0))[:2]
    (8.0, 4.0)
    >>> _cached_visits(product, tile, ORDERS.index("pkcqrs"), Buffers(1023.0, 4096.0))[:2]
    (8.0, 16.0)

    Weights come back with the next p: 32 · 16 of them, beside 16 · 16 inputs of this p and of the next.
    """
    counts = (trips(layer.k, tile.k), trips(layer.c, tile.c), trips(layer.p, tile.p))
    counts = (*counts, trips(layer.q, tile.q), trips(layer.r, tile.r), trips(layer.s, tile.s))
    inputs = weights = counts[0] * 0.0 + 1.0
    none = filters_again = pixels_again = filters_move = pixels_move = inputs * 0.0
    k, c, p, q, r, s = tile.k + none, tile.c + none, tile.p + none, tile.q + none, tile.r + none, tile.s + none
    input_distance = weight_distance = _operand_bytes(layer, Tile(k, c, p, q, r, s), buffers)
    for place in range(5, -1, -1):
        loop = ORDER_TABLE[order, place]
        again = where(input_distance <= buffers.scratchpad, 1.0, counts[loop])
        inputs = inputs * where(INPUT_LOOPS[loop] > 0.0, counts[loop], again)
        again = where(weight_distance <= buffers.scratchpad, 1.0, counts[loop])
        weights = weights * where(WEIGHT_LOOPS[loop] > 0.0, counts[loop], again)
        k, c = where(ONLY_K[loop] > 0.0, layer.k, k), where(ONLY_C[loop] > 0.0, layer.c, c)
        p, q = where(ONLY_P[loop] > 0.0, layer.p, p), where(ONLY_Q[loop] > 0.0, layer.q, q)
        r, s = where(ONLY_R[loop] > 0.0, layer.r, r), where(ONLY_S[loop] > 0.0, layer.s, s)
        spanned = _operand_bytes(layer, Tile(k, c, p, q, r, s), buffers)
        moves, pixels = where(counts[loop] > 1.0, 1.0, 0.0), _operand_bytes(layer, Tile(none, c, p, q, r, s), buffers)
        filters_again = maximum(filters_again, moves * (1.0 - WEIGHT_LOOPS[loop]) * filters_move)
        pixels_again = maximum(pixels_again, moves * (1.0 - INPUT_LOOPS[loop]) * pixels_move)
        filters_move, pixels_move = (
            maximum(filters_move, moves * WEIGHT_LOOPS[loop]),
            maximum(pixels_move, moves * INPUT_LOOPS[loop]),
        )
        input_distance = where(moves * INPUT_LOOPS[loop] > 0.0, spanned + filters_again * (spanned - pixels), input_distance)
        weight_distance = where(moves * WEIGHT_LOOPS[loop] > 0.0, spanned + pixels_again * pixels, weight_distance)
    return inputs, weights, where(weight_distance <= buffers.scratchpad, 1.0, layer.n)


def _operand_bytes(layer: Layer, tile: Tile, buffers: Buffers) -> Bytes:
    """Return the bytes of inputs and weights that a tile spans."""
    area = ((tile.p - 1.0) * layer.stride + tile.r) * ((tile.q - 1.0) * layer.stride + tile.s)
    return tile.c * area * buffers.input_bytes + tile.k * tile.c * tile.r * tile.s * buffers.weight_bytes


def _streaming(bound: Quantity, tile: Quantity, array: Array, depth: Quantity = 1.0) -> tuple[Quantity, Quantity, Quantity]:
    """Return instructions, their cycles, and what a block's entry adds, for all tiles of a bound past one block each.

    >>> _streaming(48.0, 24.0, Array(16.0, 16.0, 16.0, 4.0, 16.0, 8.0, 0.5))  # twice 16 + 8
    (4.0, 50.0, 0.0)
    """
    whole = trips(bound, tile) - 1.0
    last = bound - whole * tile
    full, rest = _instructions(ceil_divide(tile, depth), array), _instructions(ceil_divide(last, depth), array)
    return whole * full[0] + rest[0], whole * full[1] + rest[1], whole * full[2] + rest[2]


def _instructions(length: Quantity, array: Array) -> tuple[Quantity, Quantity, Quantity]:
    most = minimum(length, array.stream)
    full = length // most
    rest = length - full * most
    part = where(rest > 0.0, 1.0, 0.0)
    first = maximum(array.least, most)
    cycles = full * (first + array.gap) + part * (maximum(array.least, rest) + array.gap)
    return full + part, cycles, maximum(array.preload - first, 0.0) + array.serial


def array_cycles(layer: Layer, tile: Tile, array: Array, dataflow: Any) -> Quantity:
    """Cycles that the array computes: instructions in sequence, and no faster than they are issued; see `tiled_cost`.

    >>> product = Layer(n=1.0, k=32.0, c=32.0, p=64.0, q=1.0, r=1.0, s=1.0, stride=1.0)
    >>> whole = Tile(k=32.0, c=32.0, p=64.0, q=1.0, r=1.0, s=1.0)
    >>> array_cycles(product, whole, Array(16.0, 16.0), WEIGHT_STATIONARY)  # 4 blocks of weights, 64 vectors past each
    256.0
    >>> array_cycles(product, whole, Array(16.0, 16.0, serial=46.0), WEIGHT_STATIONARY)  # each loads 16 and drains 30 by itself
    440.0
    """
    window = layer.n * layer.r * layer.s
    if dataflow == WEIGHT_STATIONARY:
        blocks = window * covered(layer.c, tile.c, array.rows) * covered(layer.k, tile.k, array.columns)
        count, cycles, preload = _streaming(layer.p, tile.p, array)
        repeats = layer.q
        again = trips(layer.q, tile.q)
    elif dataflow == OUTPUT_STATIONARY:
        blocks = layer.n * layer.q * covered(layer.p, tile.p, array.rows) * covered(layer.k, tile.k, array.columns)
        count, cycles, preload = _streaming(layer.c, tile.c, array, array.depth)
        repeats = layer.r * layer.s
        again = trips(layer.r, tile.r) * trips(layer.s, tile.s)
    else:
        blocks = window * layer.q * covered(layer.c, tile.c, array.rows) * covered(layer.p, tile.p, array.columns)
        count, cycles, preload = _streaming(layer.k, tile.k, array)
        repeats = again = 1.0
    return blocks * maximum(repeats * cycles + again * preload, repeats * count * array.issue)


def _window(bound: Quantity, tile: Quantity, window: Quantity, window_tile: Quantity, stride: Quantity) -> Quantity:
    """Return the input extents of all tiles of one direction, added up.

    Σ ((p_tile − 1)·stride + r_tile) over the tiles of p and r.

    >>> _window(8.0, 4.0, 3.0, 3.0, 1.0)  # two tiles of 4 pixels under a window of 3: 6 + 6
    12.0
    """
    pixels = trips(bound, tile)
    return stride * (bound - pixels) * trips(window, window_tile) + window * pixels


def nest_traffic(layer: Layer, tile: Tile, order: Any, buffers: Buffers, memory: Memory) -> Traffic:
    """Exact bytes that a nest moves between DRAM and the chip.

        tensor   = elements · visits / (trip counts of its own loops)
        visits   = trip counts of all loops outside or at the innermost of its loops that takes more than one trip
        images   = n; 1 for weights of which one tile holds all: they stay from image to image
        inputs   = n·c · Σ extents along p and r · Σ extents along q and s · visits / own trips
        partial  = outputs · (visits / own trips − 1) · accumulator_bytes, written once and read once

    Edge tiles are counted as they are, windows that overlap from tile to tile are read again, pixels that a stride skips are read.
    A tensor's tile stays until a loop that it depends on, or one outside such a loop, moves on; nothing stays longer. Behind a
    cache (`memory.cached`) a tile is still there when the loops come back to it, if no more bytes than the cache holds were touched
    since; windows that overlap are counted as other bytes there. Padding is read like pixels. The reuse rules are those of
    [parashar2019timeloop], section V-A, and of [mattson1970].

    >>> product = Layer(n=1.0, k=4.0, c=2.0, p=6.0, q=1.0, r=1.0, s=1.0, stride=1.0)
    >>> tile = Tile(k=2.0, c=1.0, p=3.0, q=1.0, r=1.0, s=1.0)
    >>> nest_traffic(product, tile, ORDERS.index("ckpqrs"), Buffers(64.0, 64.0), Memory(1.0))[:4]
    (24.0, 8.0, 96.0, 24.0)

    Inputs 2 × 6 for both tiles of k; weights once; 24 sums leave after the first half of c, at 4 bytes.
    """
    return _traffic(layer, tile, order, buffers, memory, _count_visits(layer, tile, order))


def _traffic(layer: Layer, tile: Tile, order: Any, buffers: Buffers, memory: Memory, visits: _Visits) -> Traffic:
    k, c, p = trips(layer.k, tile.k), trips(layer.c, tile.c), trips(layer.p, tile.p)
    q, r, s = trips(layer.q, tile.q), trips(layer.r, tile.r), trips(layer.s, tile.s)
    inputs, weights, images = visits.inputs, visits.weights, where(k * c * r * s > 1.0, layer.n, 1.0)
    if memory.cached > 0.0:
        inputs, weights, images = _cached_visits(layer, tile, order, buffers)
    weight_visits = where(memory.reuse > 0.0, images * weights, layer.n * visits.steps) / (k * c * r * s)
    input_visits = where(memory.reuse > 0.0, inputs, visits.steps) / (c * p * q * r * s)
    output_visits = where(memory.spill > 0.0, visits.outputs / visits.apart, 1.0)
    area = _window(layer.p, tile.p, layer.r, tile.r, layer.stride) * _window(layer.q, tile.q, layer.s, tile.s, layer.stride)
    input_rows = layer.n * area * input_visits
    weight_rows = layer.c * layer.r * layer.s * weight_visits
    output_rows = layer.n * layer.p * layer.q
    partial = output_rows * layer.k * (output_visits - 1.0) * buffers.accumulator_bytes
    input_words = input_rows * _words(layer.c, tile.c, buffers.input_bytes, memory)
    weight_words = weight_rows * _words(layer.k, tile.k, buffers.weight_bytes, memory)
    return Traffic(
        inputs=input_rows * layer.c * buffers.input_bytes,
        weights=weight_rows * layer.k * buffers.weight_bytes,
        partial=partial,
        outputs=output_rows * layer.k * buffers.output_bytes,
        read=partial + input_words + weight_words,
        written=partial + output_rows * _words(layer.k, tile.k, buffers.output_bytes, memory),
        input_words=input_words,
        weight_words=weight_words,
        steps=layer.n * visits.steps,
    )


def _count_visits(layer: Layer, tile: Tile, order: Any) -> _Visits:
    """Count how often each tensor's tile changes, an image at a time.

    Of the three tensors one does not depend on the innermost moving loop: it stays while the loops of that kind run (k; c, r, s; or
    p, q), and the other two change at every step. Any loop outside them moves all three, for two kinds of loop cover all tensors.

    >>> product = Layer(n=1.0, k=4.0, c=2.0, p=6.0, q=1.0, r=1.0, s=1.0, stride=1.0)
    >>> _count_visits(product, Tile(k=1.0, c=1.0, p=2.0, q=1.0, r=1.0, s=1.0), ORDERS.index("ckpqrs"))  # 4 · 2 · 3; weights stay
    _Visits(steps=24.0, stays=8.0, inputs=24.0, weights=8.0, outputs=24.0, apart=12.0)
    """
    k, c, p = trips(layer.k, tile.k), trips(layer.c, tile.c), trips(layer.p, tile.p)
    q, r, s = trips(layer.q, tile.q), trips(layer.r, tile.r), trips(layer.s, tile.s)
    counts = (k, c, p, q, r, s)
    inputs, weights = _visits(order, counts, INPUT_LOOPS), _visits(order, counts, WEIGHT_LOOPS)
    outputs = _visits(order, counts, OUTPUT_LOOPS)
    return _Visits(k * c * p * q * r * s, minimum(minimum(inputs, weights), outputs), inputs, weights, outputs, k * p * q)


def _words(bound: Quantity, tile: Quantity, element: Bytes, memory: Memory) -> Bytes:
    """Return the bytes of a row that all tiles of a bound take on the bus, in whole words."""
    return covered(bound * element, tile * element, memory.word) * memory.word


def held_bytes(layer: Layer, tile: Tile, buffers: Buffers) -> tuple[Bytes, Bytes]:
    """Bytes that a tile takes in the scratchpad and in the accumulator, all slots together.

    >>> matrix = Layer(n=1.0, k=64.0, c=64.0, p=64.0, q=1.0, r=1.0, s=1.0, stride=1.0)
    >>> held_bytes(matrix, Tile(k=16.0, c=64.0, p=32.0, q=1.0, r=1.0, s=1.0), Buffers(8192.0, 4096.0))  # 2·(2048 + 1024), 2·2048
    (6144.0, 4096.0)
    """
    return buffers.double * _operand_bytes(
        layer, tile, buffers
    ), buffers.double * tile.k * tile.p * tile.q * buffers.accumulator_bytes


def transfer_rate(memory: Memory) -> Quantity:
    """Return the bytes a cycle that the transfer engine reaches: its bus, or what its requests under way draw [little1961].

    >>> transfer_rate(Memory(16.0, latency=128.0, in_flight=16.0, burst=64.0))
    8.0
    """
    return minimum(memory.bytes_per_cycle, memory.in_flight * memory.burst / maximum(memory.latency, 1.0))


def array_units(array: Array, dataflow: Any) -> tuple[Quantity, Quantity, Quantity, Quantity, Quantity, Quantity]:
    """Return what one block of the array covers along each loop: the side that the loop lies on, else 1.

    >>> array_units(Array(rows=16.0, columns=8.0), WEIGHT_STATIONARY)  # k along the columns, c along the rows
    (8.0, 16.0, 1.0, 1.0, 1.0, 1.0)
    """
    if dataflow == WEIGHT_STATIONARY:
        return (array.columns, array.rows, 1.0, 1.0, 1.0, 1.0)
    if dataflow == OUTPUT_STATIONARY:
        return (array.columns, array.depth, array.rows, 1.0, 1.0, 1.0)
    return (1.0, array.rows, array.columns, 1.0, 1.0, 1.0)


def first_bytes(layer: Layer, tile: Tile, buffers: Buffers, memory: Memory) -> Bytes:
    """Return the bytes of the first tile's load, a full one, in whole words; of weights, what would take as long at the full rate.

    >>> matrix = Layer(n=1.0, k=32.0, c=16.0, p=64.0, q=1.0, r=1.0, s=1.0, stride=1.0)
    >>> tile = Tile(k=16.0, c=16.0, p=64.0, q=1.0, r=1.0, s=1.0)
    >>> first_bytes(matrix, tile, Buffers(4096.0, 8192.0), Memory(64.0))  # 64·16 + 16·16
    1280.0
    """
    area = ((tile.p - 1.0) * layer.stride + tile.r) * ((tile.q - 1.0) * layer.stride + tile.s)
    inputs = area * _words(tile.c, tile.c, buffers.input_bytes, memory)
    return inputs + tile.c * tile.r * tile.s * _words(tile.k, tile.k, buffers.weight_bytes, memory) / memory.weight_rate


def last_bytes(layer: Layer, tile: Tile, array: Array, buffers: Buffers, memory: Memory, dataflow: Any) -> Bytes:
    """Return the bytes of the last tile's store, what the tiles before it leave of each loop, in whole words.

    >>> matrix = Layer(n=1.0, k=40.0, c=16.0, p=64.0, q=1.0, r=1.0, s=1.0, stride=1.0)
    >>> tile = Tile(k=16.0, c=16.0, p=32.0, q=1.0, r=1.0, s=1.0)
    >>> last_bytes(matrix, tile, Array(16.0, 16.0), Buffers(4096.0, 8192.0), Memory(64.0), WEIGHT_STATIONARY)  # 32·8
    256.0
    """
    units = array_units(array, dataflow)
    k, p, q = _cut(layer.k, tile.k, units[0]).last, _cut(layer.p, tile.p, units[2]).last, _cut(layer.q, tile.q, units[3]).last
    return p * q * _words(k, k, buffers.output_bytes, memory)


class _Sweep(NamedTuple):
    """One run of the innermost moving loops: its tiles, and shares of a mean tile that full tiles and the last one take."""

    tiles: Quantity
    compute: Quantity  # of a mean tile
    latency: Quantity
    setup: Quantity  # cycles before the transfers of every slot
    full_compute: Quantity = 1.0
    last_compute: Quantity = 1.0
    full: Quantity = 1.0  # of what is transferred
    last: Quantity = 1.0
    edge: Quantity = 0.0  # 1 where the last tile counts by itself


class _Moves(NamedTuple):
    """Cycles that a mean tile of each tensor is under way, and which of them move: 1 or 0."""

    inputs: Quantity
    weights: Quantity
    results: Quantity
    sums: Quantity  # that leave, or come back
    each_inputs: Quantity  # in every slot of a sweep, not only where it ends
    each_weights: Quantity
    each_outputs: Quantity
    returns: Quantity  # times that sums arrive at the accumulator, new or returning


class _Transfers(NamedTuple):
    """Cycles of the transfers of a sweep's slots, of mean tiles."""

    ordinary: Quantity  # what every slot loads
    arriving: Quantity  # the same of the next sweep
    changing: Quantity  # what else moves in the slot where the sweep ends
    leaving: Quantity  # what every slot stores, of the tile before
    before: Quantity  # the same of the sweep before
    behind: Quantity  # what else the first slot stores


class _Ends(NamedTuple):
    """Length of the slot in which a sweep ends, and of the one behind it."""

    changing: Quantity
    behind: Quantity


class _Outer(NamedTuple):
    """Shares of a mean tile, of compute and of bytes, that full tiles of a loop outside the sweeps take, and the last one."""

    tiles: Quantity
    full_compute: Quantity
    last_compute: Quantity
    full: Quantity
    last: Quantity


class _Cut(NamedTuple):
    """Tiles of a loop as even as their number allows: blocks of the array in all and in a full tile, and sizes."""

    tiles: Quantity
    blocks: Quantity
    full_blocks: Quantity
    full: Quantity
    last: Quantity


def _cut(bound: Quantity, tile: Quantity, unit: Quantity) -> _Cut:
    """Return how a loop is cut into as many tiles as this size gives, in whole blocks of the array where the size is.

    >>> _cut(100.0, 48.0, 16.0)  # 7 blocks: 3, 3 and 1
    _Cut(tiles=3.0, blocks=7.0, full_blocks=3.0, full=48.0, last=4.0)
    """
    step = where(tile < unit, tile, where(tile - unit * (tile // unit) > 0.0, 1.0, unit))
    tiles, blocks = trips(bound, tile), ceil_divide(bound, step)
    full = ceil_divide(blocks, tiles)
    return _Cut(tiles, blocks, full, minimum(full * step, bound), bound - (tiles - 1.0) * full * step)


def _even(compute: Quantity, transfer: Quantity, latency: Quantity) -> Quantity:
    """Return the length of a slot among slots like it: two slots hide one latency."""
    return maximum(maximum(compute, transfer), (compute + transfer + latency) / 2.0)


def _after(compute: Quantity, transfer: Quantity, latency: Quantity, waited: Quantity) -> Quantity:
    """Return the length of a slot whose transfer was asked for when the compute before it ended, `waited` cycles ago."""
    return maximum(compute, transfer + maximum(latency - waited, 0.0))


def _ends(sweep: _Sweep, moved: _Transfers) -> _Ends:
    """Return the slots around the end of a sweep."""
    compute, last = sweep.compute * sweep.full_compute, sweep.compute * sweep.last_compute
    waited = _even(compute, moved.ordinary * sweep.last + moved.leaving * sweep.full + sweep.setup, sweep.latency) - compute
    transfer = (moved.arriving + moved.leaving) * sweep.full + moved.changing + sweep.setup
    changing = _after(last, transfer, sweep.latency, waited)
    transfer = moved.ordinary * where(sweep.tiles > 2.0, sweep.full, sweep.last) + moved.before * sweep.last + moved.behind
    return _Ends(changing, _after(compute, transfer + sweep.setup, sweep.latency, changing - last))


def _length(sweep: _Sweep, moved: _Transfers) -> Quantity:
    """Return the length of all slots of a sweep among sweeps like it."""
    compute, leaving = sweep.compute * sweep.full_compute, moved.leaving * sweep.full + sweep.setup
    ends = _ends(sweep, moved)
    even = _even(compute, moved.ordinary * sweep.full + leaving, sweep.latency)
    before = _after(compute, moved.ordinary * sweep.last + leaving, sweep.latency, even - compute)
    inner = before + (sweep.tiles - 3.0) * even
    return ends.changing + where(sweep.tiles > 1.0, ends.behind, 0.0) + where(sweep.tiles > 2.0, inner, 0.0)


def _with_edge(layer: Layer, tile: Tile, order: Any, array: Array, dataflow: Any, mean: _Sweep) -> _Sweep:
    """Return a sweep whose last tile is what the others leave, the tiles as even as their number and the array allow."""
    bounds, tiles = (layer.k, layer.c, layer.p, layer.q, layer.r, layer.s), (tile.k, tile.c, tile.p, tile.q, tile.r, tile.s)
    units = array_units(array, dataflow)
    bound = held = unit = mean.tiles * 0.0
    open_still = bound + 1.0
    for place in range(5, -1, -1):
        loop = ORDER_TABLE[order, place]
        here = where(trips(bounds[loop], tiles[loop]) > 1.0, open_still, 0.0)
        bound, held, unit = bound + here * bounds[loop], held + here * tiles[loop], unit + here * units[loop]
        open_still = open_still - here
    single = where(open_still < 1.0, where(trips(bound, maximum(held, 1.0)) >= mean.tiles, 1.0, 0.0), 0.0)
    bound, held, unit = where(single > 0.0, bound, 1.0), where(single > 0.0, held, 1.0), where(single > 0.0, unit, 1.0)
    edge = _outer(bound, held, unit)
    return _Sweep(
        mean.tiles,
        mean.compute,
        mean.latency,
        mean.setup,
        edge.full_compute,
        edge.last_compute,
        edge.full,
        edge.last,
        single,
    )


def _outer(bound: Quantity, tile: Quantity, unit: Quantity) -> _Outer:
    """Return the shares of a loop's full tiles and of its last one.

    >>> _outer(100.0, 64.0, 16.0)  # 7 blocks in 4 and 3; 64 and 36 of a mean of 50
    _Outer(tiles=2.0, full_compute=1.1428571428571428, last_compute=0.8571428571428571, full=1.28, last=0.72)
    """
    cut = _cut(bound, tile, unit)
    last_blocks = cut.blocks - (cut.tiles - 1.0) * cut.full_blocks
    compute = cut.tiles / cut.blocks
    return _Outer(
        cut.tiles, cut.full_blocks * compute, last_blocks * compute, cut.full * cut.tiles / bound, cut.last * cut.tiles / bound
    )


def _mean_moves(layer: Layer, visits: _Visits, traffic: Traffic, tile: Tile, buffers: Buffers, memory: Memory) -> _Moves:
    """Return what mean tiles take to move. Weights of which one tile holds all come with the first tile alone.

    A host that issues transfers one behind the other waits for a store's latency too.
    """
    rate = transfer_rate(memory)
    input_visits = where(memory.reuse > 0.0, visits.inputs, visits.steps)
    weight_visits = where(memory.reuse > 0.0, visits.weights, visits.steps)
    alone = trips(layer.k, tile.k) * trips(layer.c, tile.c) * trips(layer.r, tile.r) * trips(layer.s, tile.s) <= 1.0
    weights = traffic.weight_words / (layer.n * weight_visits * rate * memory.weight_rate)
    pieces = layer.n * visits.apart * rate
    leave = where(visits.outputs > visits.apart, where(memory.spill > 0.0, 1.0, 0.0), 0.0)
    return _Moves(
        traffic.input_words / (layer.n * input_visits * rate),
        where(alone, where(memory.reuse > 0.0, 0.0, weights), weights),
        (traffic.written - traffic.partial) / pieces + memory.beside * memory.latency,
        leave * memory.beside * memory.latency + leave * layer.n * layer.k * layer.p * layer.q * buffers.accumulator_bytes / pieces,
        where(input_visits > visits.stays, 1.0, 0.0),
        where(weight_visits > visits.stays, 1.0, 0.0),
        where(visits.outputs > visits.stays, 1.0, 0.0),
        visits.outputs / visits.apart,
    )


class _Class(NamedTuple):
    """Sweeps of one class, what they move, what their neighbours move, and what share of all they are."""

    sweep: _Sweep
    moved: _Moves
    beside: _Moves
    share: Quantity


def _around(sweep: _Sweep, moved: _Moves, beside: _Moves, leaving: Quantity, left: Quantity) -> _Transfers:
    """Return the transfers of a sweep's slots where so much leaves or comes back with each of its output tiles.

    `beside` and `left` are of the sweeps before and behind it. Results that the innermost loop finishes are stored in the slot
    behind its last one, of mean tiles in that one.
    """
    ordinary = moved.each_inputs * moved.inputs + moved.each_weights * moved.weights
    arriving = moved.each_inputs * beside.inputs + moved.each_weights * beside.weights
    early, late = (1.0 - moved.each_outputs) * (1.0 - sweep.edge), (1.0 - moved.each_outputs) * sweep.edge
    changing = beside.inputs + beside.weights - arriving + early * leaving
    each = moved.each_outputs
    return _Transfers(ordinary, arriving, changing, each * leaving, each * left, late * left)


def _all_slots(sweep: _Sweep, moved: _Moves, beside: _Moves) -> Quantity:
    """Return the length of a sweep, of the mean of its kinds.

    Sums that leave: the first visit of an output stores them, the last reads them and stores results, others read and store.
    """
    first = minimum(moved.returns - 1.0, 1.0) / moved.returns
    others = 1.0 - 1.0 / moved.returns - first
    leaving, left = moved.results + moved.sums, beside.results + beside.sums
    total = _length(sweep, _around(sweep, moved, beside, leaving, left)) / moved.returns
    total = total + first * _length(sweep, _around(sweep, moved, beside, moved.sums, beside.sums))
    return total + others * _length(sweep, _around(sweep, moved, beside, 2.0 * moved.sums, 2.0 * beside.sums))


def _at_the_ends(first: _Class, last: _Class, fill: Quantity) -> Quantity:
    """Return what the ends of a nest add to its sweeps, seen as one behind the other in a ring.

    The first tile is loaded already and the last results still have to be stored, which is no part of the slots. The fill is hidden
    where the first tile waits for the second.
    """
    sweep, moved = first.sweep, first.moved
    behind = _ends(sweep, _around(sweep, moved, first.beside, moved.results, first.beside.results)).behind
    transfer = moved.each_inputs * moved.inputs + moved.each_weights * moved.weights
    transfer = transfer * where(sweep.tiles > 2.0, sweep.full, sweep.last) + sweep.setup
    compute = sweep.compute * sweep.full_compute
    begin = maximum(compute, transfer)
    shown = maximum(fill - maximum(transfer - compute, 0.0), 0.0)
    sweep, moved = last.sweep, last.moved
    changing = _ends(sweep, _around(sweep, moved, last.beside, moved.results, last.beside.results)).changing
    end = maximum(sweep.compute * sweep.last_compute, moved.each_outputs * moved.results * sweep.full)
    return end - changing + where(sweep.tiles > 1.0, begin + shown - behind, fill)


def _scaled(moved: _Moves, kind: Any, first: Quantity, second: Quantity) -> _Moves:
    """Return what the tiles of a class take to move, given the shares of two outer loops: see `_classes`."""
    outputs = where(kind == 0, second, where(kind == 1, first, first * second))
    return _Moves(
        moved.inputs * second * where(kind == 0, first, 1.0),
        moved.weights * first * where(kind == 1, second, 1.0),
        moved.results * outputs,
        moved.sums * outputs,
        moved.each_inputs,
        moved.each_weights,
        moved.each_outputs,
        moved.returns,
    )


def _missing(moved: _Moves, inputs: Quantity, weights: Quantity, miss: tuple[float, float]) -> _Moves:
    """Return what moves in slots where operands miss (1) or hit (0), given their shares of misses."""
    return _Moves(
        moved.inputs / inputs * miss[0],
        moved.weights / weights * miss[1],
        moved.results,
        moved.sums,
        moved.each_inputs,
        moved.each_weights,
        moved.each_outputs,
        moved.returns,
    )


class _Outers(NamedTuple):
    """The two loops outside the sweeps, by what stays under the innermost loops: 0 inputs, 1 weights, 2 sums."""

    kind: Any
    first: _Outer
    second: _Outer


def _outers(layer: Layer, tile: Tile, array: Array, dataflow: Any, visits: _Visits) -> _Outers:
    """Return c and p where inputs stay, k and c where weights stay, k and p where sums stay."""
    units = array_units(array, dataflow)
    kind = where(visits.inputs <= visits.stays, 0, where(visits.weights <= visits.stays, 1, 2))
    first_is, second_is = where(kind == 0, 1.0, 0.0), where(kind == 1, 1.0, 0.0)
    first = _outer(
        where(first_is > 0.0, layer.c, layer.k), where(first_is > 0.0, tile.c, tile.k), where(first_is > 0.0, units[1], units[0])
    )
    second = _outer(
        where(second_is > 0.0, layer.c, layer.p), where(second_is > 0.0, tile.c, tile.p), where(second_is > 0.0, units[1], units[2])
    )
    return _Outers(kind, first, second)


def _next_share(loop: _Outer, late: float) -> Quantity:
    """Return the share of a mean tile that the neighbours of a full (0) or the last (1) tile of a loop are, on average."""
    others = maximum(loop.tiles - 1.0, 1.0)
    return loop.full * late + (1.0 - late) * (loop.full * (others - 1.0) + loop.last) / others


def _of_class(sweep: _Sweep, moved: _Moves, outer: _Outers, last: tuple[float, float]) -> _Class:
    """Return the sweeps with full (0) or last (1) tiles of each outer loop; the second loop is taken to be inside the first."""
    one, other, (late, later) = outer.first, outer.second, last
    compute = one.full_compute + (one.last_compute - one.full_compute) * late
    compute = compute * (other.full_compute + (other.last_compute - other.full_compute) * later)
    first, second = one.full + (one.last - one.full) * late, other.full + (other.last - other.full) * later
    share = (late + (1.0 - late) * (one.tiles - 1.0)) / one.tiles
    share = share * (later + (1.0 - later) * (other.tiles - 1.0)) / other.tiles
    of_class = _Sweep(
        sweep.tiles,
        sweep.compute * compute,
        sweep.latency,
        sweep.setup,
        sweep.full_compute,
        sweep.last_compute,
        sweep.full,
        sweep.last,
        sweep.edge,
    )
    inside = other.tiles > 1.0
    near = _scaled(moved, outer.kind, where(inside, first, _next_share(one, late)), where(inside, _next_share(other, later), 1.0))
    return _Class(of_class, _scaled(moved, outer.kind, first, second), near, share)


def _overlapped(sweeps: Quantity, mean: _Sweep, edged: _Sweep, outer: _Outers, moved: _Moves, fill: Quantity) -> Quantity:
    """Return cycles between the first tile's load and the last tile's store, with two slots a buffer: see `tiled_cost`."""
    same = _Class(mean, moved, moved, mean.tiles * 0.0 + 1.0)
    alike = sweeps * _all_slots(mean, moved, moved) + _at_the_ends(same, same, fill)
    total = alike * 0.0
    for number in range(4):
        one = _of_class(edged, moved, outer, (number % 2 * 1.0, number // 2 * 1.0))
        total = total + one.share * _all_slots(one.sweep, one.moved, one.beside)
    first, last = _of_class(edged, moved, outer, (0.0, 0.0)), _of_class(edged, moved, outer, (1.0, 1.0))
    apart = sweeps * total + _at_the_ends(first, last, fill)
    few = sweeps * mean.tiles <= 3.0
    return where(few, apart + where(mean.tiles > 2.0, _second_slot(first, fill), 0.0), maximum(alike, apart))


def _second_slot(one: _Class, fill: Quantity) -> Quantity:
    """Return what the second of three slots adds to one among slots like it: the array, filling, hid none of its latency before."""
    sweep, moved = one.sweep, _around(one.sweep, one.moved, one.beside, one.moved.results, one.beside.results)
    compute, first = sweep.compute * sweep.full_compute, moved.ordinary * sweep.full + sweep.setup
    transfer = moved.ordinary * sweep.last + moved.leaving * sweep.full + sweep.setup
    waited = maximum(first - compute - fill, 0.0)
    even = _even(compute, (moved.ordinary + moved.leaving) * sweep.full + sweep.setup, sweep.latency)
    return _after(compute, transfer, sweep.latency, waited) - _after(compute, transfer, sweep.latency, even - compute)


class _Requests(NamedTuple):
    """Requests of transfers: of all loads and stores, and of the first tile's load and the last one's store among them."""

    loads: Quantity
    stores: Quantity
    first: Quantity
    last: Quantity


def _requests(layer: Layer, visits: _Visits, traffic: Traffic, memory: Memory, first: Bytes, last: Bytes) -> _Requests:
    """Return the requests of all transfers, each tile's bytes, as a mean, in whole ones."""
    inputs = layer.n * where(memory.reuse > 0.0, visits.inputs, visits.steps)
    weights = layer.n * where(memory.reuse > 0.0, visits.weights, visits.steps)
    results, returned = layer.n * visits.apart, maximum(layer.n * (visits.outputs - visits.apart), 1.0)
    sums = returned * ceil_divide(traffic.partial / returned, memory.burst)
    return _Requests(
        inputs * ceil_divide(traffic.input_words / inputs, memory.burst)
        + weights * ceil_divide(traffic.weight_words / weights, memory.burst)
        + sums,
        results * ceil_divide((traffic.written - traffic.partial) / results, memory.burst) + sums,
        ceil_divide(first, memory.burst),
        ceil_divide(last, memory.burst),
    )


def tiled_cost(
    layer: Layer, tile: Tile, order: Any, array: Array, buffers: Buffers, memory: Memory, dataflow: Any = WEIGHT_STATIONARY
) -> TiledCost:
    """Cycles, traffic and sizes of a tiled nest.

        array    = blocks · max(Σ over instructions (max(vectors, least) + gap) + (preload − first) + serial, instructions · issue)
        compute  = array + requests · issue                                    requests = ⌈bytes / burst⌉ that the cores issue
        load     = bytes read / rate    store = bytes written / rate    rate = min(bytes_per_cycle, in_flight · burst / latency)
        transfer = load + store
        cycles   = max(first load + Σ slots + last store + fill, transfer) + 2 · latency + start · steps           two slots
        cycles   = array + max(load, issue · loads) + max(store, issue · stores) + latency · (steps + stores) + fill + start · steps

    `order` is an index into ORDERS, `dataflow` 0 weight-, 1 output-, 2 input-stationary. A block is what stands in the array
    (weights: ⌈c/rows⌉·⌈k/columns⌉·r·s of a tile); an instruction streams at most `stream` vectors past it; the first of a block
    hides the next block's entry up to `preload` cycles; instructions are issued every `issue` cycles at best (the entries of the
    reservation station over their latency). Without preload a block takes `serial` cycles to enter and to leave by itself. The last
    line is of one slot.

    With two slots (double = 2), while a tile is computed the next is loaded and the one before stored: a slot takes the longer, so
    that no total of compute hides the bytes of one step, and no longer than without overlap in all:

        slot(t)  = max(c, t + max(0, latency − waited))                     c = compute of the tile, t = its transfers
        even(t)  = max(c, t, (c + t + latency) / 2)                         one slot like the next

    There are two sorts: in ordinary ones the two tensors move that depend on the innermost loop, in those where its sweep ends all
    three, and of these the neighbours of an end have the last tile's compute or transfer (where one loop alone moves innermost).
    Full and last tiles of the two loops outside make four classes of sweeps, each summed by itself; the longer of that and of mean
    tiles is taken, but for nests of three steps or less. Where sums leave, an output's first visit stores them, its last reads
    them and stores results, those between do both. The first slot stores nothing, the last loads nothing. A transfer was asked for
    when the compute before ended, `waited` before the slot began. The fill is hidden where the first tile waits for the second.
    Tiles that a host starts (`beside`) add start and latency to the transfers of every slot, and nothing to the array. Weights of a
    further tier move at `weight_rate` of the rate, through the same engine. Behind a cache slots with misses and slots with hits
    are summed by their shares.

    Valid for an array whose operands come through one transfer engine. Never below
    n·k·c·p·q·r·s / (rows·columns), nor below bytes / bytes_per_cycle. Neglected: pages of DRAM, conflicts of banks,
    requests to one line that wait for each other, smaller tiles at the edge of a third outer loop, and that a tile of the
    tensor that stays may come long before its slot. Tiles of a loop are taken to be as even as their number allows.
    The instructions are those of [genc2021gemmini]. Against 148 layers of [hong2023dosa] on register-transfer level, fitted to
    seven designs and judged on the eighth: 6 % median, 12 % mean error (benchmarks/calibrate_gemmini.py).

    >>> product = Layer(n=1.0, k=32.0, c=16.0, p=64.0, q=1.0, r=1.0, s=1.0, stride=1.0)
    >>> tile = Tile(k=16.0, c=16.0, p=64.0, q=1.0, r=1.0, s=1.0)
    >>> buffers, memory = Buffers(4096.0, 8192.0), Memory(64.0, start=10.0)
    >>> cost = tiled_cost(product, tile, ORDERS.index("kcpqrs"), Array(16.0, 16.0), buffers, memory)
    >>> cost.compute, cost.load, cost.store, cost.cycles
    (128.0, 24.0, 32.0, 184.0)

    Two blocks of weights, 64 vectors past each; inputs 1024 B once and weights 512 B, outputs 2048 B, at 64 B a cycle;
    (16·64 + 16·16)/64 + 128 + 64·16/64 + 2·10.
    """
    visits = _count_visits(layer, tile, order)
    traffic = _traffic(layer, tile, order, buffers, memory, visits)
    rate = transfer_rate(memory)
    first, last = first_bytes(layer, tile, buffers, memory), last_bytes(layer, tile, array, buffers, memory, dataflow)
    load = (traffic.read + traffic.weight_words * (1.0 / memory.weight_rate - 1.0)) / rate
    store = traffic.written / rate
    busy = array_cycles(layer, tile, array, dataflow)
    asked = _requests(layer, visits, traffic, memory, first, last)
    steps, stores = traffic.steps, layer.n * where(memory.spill > 0.0, visits.outputs, visits.apart)
    apart = busy + maximum(load, memory.issue * asked.loads) + maximum(store, memory.issue * asked.stores)
    apart = apart + memory.latency * (steps + stores) + array.fill + memory.start * steps
    ends = maximum(first / rate, memory.issue * asked.first) + maximum(last / rate, memory.issue * asked.last)
    between = busy + memory.issue * maximum(asked.loads + asked.stores - asked.first - asked.last, 0.0)
    setup = memory.beside * (memory.start + memory.latency)
    latency = memory.latency * (1.0 - memory.beside)
    mean = _Sweep(visits.steps / visits.stays, between / steps, latency, setup, 1.0, 1.0, 1.0, 1.0, 0.0)
    edged = _with_edge(layer, tile, order, array, dataflow, mean)
    outer, moved = _outers(layer, tile, array, dataflow, visits), _mean_moves(layer, visits, traffic, tile, buffers, memory)
    together, inputs, weights = ends, 1.0 + 0.0 * ends, 1.0 + 0.0 * ends
    if memory.cached > 0.0:
        inputs, weights, images = _cached_visits(layer, tile, order, buffers)
        inputs, weights = inputs / visits.inputs, weights * images / (visits.weights * layer.n)
    for number in range(4 if memory.cached > 0.0 else 1):
        missing = _missing(moved, inputs, weights, (1.0 - number % 2, 1.0 - number // 2))
        share = (number % 2 + (1.0 - 2.0 * (number % 2)) * inputs) * (number // 2 + (1.0 - 2.0 * (number // 2)) * weights)
        together = together + share * _overlapped(layer.n * visits.stays, mean, edged, outer, missing, array.fill)
    together = maximum(together + memory.beside * memory.start, load + store + memory.beside * memory.start * steps)
    together = together + 2.0 * memory.latency + (1.0 - memory.beside) * memory.start * steps
    body = where(buffers.double > 1.0, minimum(together, apart), apart)
    compute = busy + memory.issue * (asked.loads + asked.stores)
    scratchpad, accumulator = held_bytes(layer, tile, buffers)
    fits = where(scratchpad <= buffers.scratchpad, where(accumulator <= buffers.accumulator, 1.0, 0.0), 0.0)
    return TiledCost(
        cycles=body,
        compute=compute,
        load=load,
        store=store,
        input_bytes=traffic.inputs,
        weight_bytes=traffic.weights,
        partial_read=traffic.partial,
        partial_write=traffic.partial,
        output_bytes=traffic.outputs,
        scratchpad_used=scratchpad,
        accumulator_used=accumulator,
        fits=fits,
    )
