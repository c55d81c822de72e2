"""Kernels on chips of many cores: the tile and the split of a product chosen by cost, and what its call takes.

Every quantity broadcasts: a row of arrays is a row of shapes, of designs, or of both. Only `place_product` appends an axis, that of
the candidates (tiles × splits); it costs them all, keeps the least and drops the axis.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from ridgeline.arrays import ceil_divide, is_scalar, maximum, minimum, where
from ridgeline.costs.kernels import missed_share, rows_time, stream_time
from ridgeline.costs.memory import achieved_bandwidth
from ridgeline.costs.power import limited_time, work_power
from ridgeline.costs.waves import channel_turns, operand_traffic, overlapped_time, resident_share, rounds, tile_time
from ridgeline.errors import InputError
from ridgeline.quantities import (
    Bytes,
    BytesPerSecond,
    Count,
    FlopsPerSecond,
    Hertz,
    JoulesPerByte,
    JoulesPerFlop,
    Seconds,
    Watts,
)
from ridgeline.specs.chip import Chip
from ridgeline.specs.family import Family

SPLITS = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 32.0)
_STEP = 32.0  # k is walked in steps of so many
_LEAST_DEPTH = 256.0  # of a part of a product that is split along k
# Where a chip's file gives none: from the tiles of small cores to those of a few large arrays with megabytes beside them.
_TILES = ((2048, 2048), (1024, 1024), (512, 512), (256, 128), (128, 128), (128, 64), (64, 64), (32, 64))


class Engine(NamedTuple):
    """What a kernel sees of a chip, its rates already reduced by the constants of its family."""

    cores: Count
    clock: Hertz
    peak: FlopsPerSecond  # of products in the kernel's format, as the datasheet has it
    rate: FlopsPerSecond  # that main loops issue
    lanes: FlopsPerSecond
    special: FlopsPerSecond
    bandwidth: BytesPerSecond
    latency: Seconds  # of main memory
    core_bandwidth: BytesPerSecond  # that one core can draw: bytes in flight over latency
    cache: Bytes  # of the last level that keeps what a loop comes back to
    cache_bandwidth: BytesPerSecond
    feed: BytesPerSecond  # of that cache into all cores; infinite where unknown, so that it never binds
    local: Bytes  # memory of a core
    power: Watts
    flop_energy: JoulesPerFlop
    byte_energy: JoulesPerByte
    lane_energy: JoulesPerFlop  # of the vector lanes at 32 bits


class Shape(NamedTuple):
    """A batch of m × k by k × n products and the bytes of a value of each operand and of the result."""

    batch: Count
    m: Count
    n: Count
    k: Count
    left: Bytes
    right: Bytes
    out: Bytes
    stride: Bytes = 0.0  # between rows of the right operand, where it lies row by row; 0: along k, or not known


@dataclass(frozen=True, kw_only=True)
class Method:
    """How a library's kernel works: what it can do, not how well."""

    splits: bool = True
    converts: bool = False  # packed weights to the activations' format in the main loop
    block: Count = 0.0  # values along k that share a scale: their sums are promoted on the lanes; 0: none
    weight_copies: Count = 0.0  # that a measurement goes through in turn; 0: operands start in main memory


class Parts(NamedTuple):
    """What a product's kernel takes, by resource, and the choice that takes least."""

    time: Seconds
    compute: Seconds
    memory: Seconds
    power: Seconds
    join: Seconds
    rows: Count
    columns: Count
    split: Count
    moved: Bytes  # across main memory


def engine(chip: Chip, family: Family, format: str, *, boosted: bool = True) -> Engine:
    """Return what kernels in a format see of a chip; raise `InputError` where the chip's file lacks what that takes."""
    if chip.cores is None or chip.cores.clock is None:
        raise InputError(f"{chip.name}: `cores.count` and `cores.clock` are needed for the level mapped")
    rate, on_lanes = _rate(chip, format)
    share = (family.lanes if on_lanes else family.matrix) * (family.boost if boosted and chip.name in family.boost_chips else 1.0)
    main, cache = chip.main_memory, _last_cache(chip)
    ecc = family.inline_ecc if chip.name in family.inline_ecc_chips else 0.0
    reached = family.gddr if family.gddr is not None and (main.technology or "").startswith("GDDR") else family.bandwidth
    bandwidth = main.bandwidth * reached * (1.0 - ecc)
    lanes = chip.vector_unit.rate.get("fp32", chip.vector_unit.rate.get("bf16", rate))
    energy = family.energy.get(_WIDTH_CLASS.get(format, format), chip.matrix_unit.energy.get(format))
    latency = _known(main.latency, _LATENCY)
    local = {one.role: one.capacity for one in chip.memory if one.shared_by == "core"}
    return Engine(
        cores=chip.cores.count,
        clock=chip.cores.clock,
        peak=rate,
        rate=rate * share,
        lanes=lanes,
        special=chip.vector_unit.rate.get("exponential", lanes) * family.special,
        bandwidth=bandwidth,
        latency=latency,
        core_bandwidth=maximum(  # all cores together can always draw the memory's bandwidth
            family.in_flight * _known(local.get("scratchpad"), _LOCAL) / latency, bandwidth / chip.cores.count
        ),
        cache=(_LOCAL if cache is None else cache.capacity) * family.cache_keeps,
        cache_bandwidth=bandwidth if cache is None or cache.bandwidth is None else cache.bandwidth * family.cache,
        feed=float("inf") if cache is None or cache.bandwidth is None else cache.bandwidth,
        local=_known(
            local.get("cache", local.get("scratchpad")), _LOCAL
        ),  # where L1 and scratchpad are one, the file has the scratchpad
        power=_work_power(chip, family),
        flop_energy=_known(energy, 0.0),
        byte_energy=_known(main.energy, 0.0),
        lane_energy=chip.vector_unit.energy.get("fp32", chip.matrix_unit.energy.get("fp32", 0.0)),
    )


def _work_power(chip: Chip, family: Family) -> Watts:
    """Return the power that is left for arithmetic and traffic: under the board's limit, or one set below it."""
    limit = _known(chip.package.power, float("inf"))
    if chip.package.cap is None:
        return limit * family.power_share
    return work_power(limit=limit, share=family.power_share, cap=chip.package.cap)


_WIDTH_CLASS = {
    "bf16": "half",
    "fp16": "half",
    "fp8-e4m3": "fp8",
    "fp8-e5m2": "fp8",
    "mxfp8": "fp8",
    "nvfp4": "fp4",
    "mxfp4": "fp4",
}
_LATENCY = 500e-9  # of main memory, where a chip's file gives none
_LOCAL = 64 * 1024.0


def _known(value: Any, otherwise: Any) -> Any:
    return otherwise if value is None else value


def _last_cache(chip: Chip) -> Any:
    """Return the last level on the chip that keeps operands: a shared one, else the cores' own together."""
    kinds = ("cache", "buffer", "scratchpad")
    shared = [one for one in chip.memory if one.shared_by == "chip" and one.role in kinds]
    own = [chip.whole(one) for one in chip.memory if one.shared_by == "core" and one.role in kinds]
    return next((one for one in reversed(shared or own) if one.capacity is not None), None)


def _rate(chip: Chip, format: str) -> tuple[FlopsPerSecond, bool]:
    """Return the peak of a format and whether it is that of the vector lanes."""
    unit = chip.matrix_unit
    matrix, lanes = unit.rate.get(format), chip.vector_unit.rate.get(format)
    if matrix is None and lanes is None:
        raise InputError(f"{chip.name}: no rate of {format}")
    if matrix is None or unit.kind == "simd" or (lanes is not None and format not in unit.macs_per_cycle):
        return (matrix if lanes is None else lanes), True
    return matrix, False


def place_product(machine: Engine, family: Family, shape: Shape, method: Method, tiles: Sequence[tuple[int, int]] = ()) -> Parts:
    """Return the tile and the split of each product that take least time, and what they take."""
    rows, columns, split = _candidates(tuple(tiles or _TILES), method.splits)
    if any(isinstance(one, np.ndarray) for one in machine) and not any(isinstance(one, np.ndarray) for one in shape):
        kept = _undominated(shape, method, machine, family.tile_loss, (rows, columns, split))
        rows, columns, split = rows[kept], columns[kept], split[kept]
    wide = Shape(*(_appended(one) for one in shape))
    found = product_parts(Engine(*(_appended(one) for one in machine)), family, wide, method, (rows, columns, split))
    best = np.argmin(found.time, axis=-1)[..., None]
    return Parts(*(np.take_along_axis(np.broadcast_to(one, found.time.shape), best, axis=-1)[..., 0] for one in found))


@cache
def _candidates(tiles: tuple[tuple[int, int], ...], splits: bool) -> tuple[Any, Any, Any]:
    """Return rows, columns and split of every candidate; a tile may lie either way."""
    chosen = sorted({way for one in tiles for way in (one, one[::-1])})
    parts = SPLITS if splits else SPLITS[:1]
    rows = np.repeat(np.array([one[0] for one in chosen], dtype=float), len(parts))
    columns = np.repeat(np.array([one[1] for one in chosen], dtype=float), len(parts))
    return rows, columns, np.tile(np.array(parts), len(chosen))


def _undominated(shape: Shape, method: Method, machine: Engine, loss: Count, choice: tuple[Any, Any, Any]) -> Any:
    """Return the candidates that no other equals or beats in all that time grows with, whatever the rates of a design.

    Time never falls with a core's work and rounds, the operands that it is fed or converts, and the parts to join; it never rises
    with the cores at work and the outputs that they hold. So the least over what is left is the least over all. Designs of many
    different counts of cores keep every candidate.
    """
    counts = np.unique(machine.cores)
    if len(counts) > _MOST_COUNTS:
        return slice(None)
    rows, columns, split = choice
    split = np.minimum(split, max(float(ceil_divide(shape.k, _LEAST_DEPTH)), 1.0))
    tiles = shape.batch * ceil_divide(shape.m, rows) * ceil_divide(shape.n, columns) * split
    depth = ceil_divide(shape.k / split, _STEP) * _STEP
    work = [tile_time(rows=rows, columns=columns, depth=depth, rate=1.0, loss=loss)]
    if not (is_scalar(machine.feed) and machine.feed == float("inf")):
        work.append((rows * shape.left + columns * shape.right) * depth)
    work += [rows * columns * depth] if method.block else []
    work += [columns * depth] if method.converts else []
    kept = np.zeros(len(rows), dtype=bool)
    for cores in counts:
        turns, active = rounds(tiles=tiles, cores=float(cores)), np.minimum(tiles, float(cores))
        grows = np.stack([turns, split, -active, -active * rows * columns, *(turns * one for one in work)])
        below = (grows[:, :, None] <= grows[:, None, :]).all(axis=0)  # [one, other]: one is nowhere above the other
        first = np.triu(np.ones_like(below), 1)  # of equals the first stays
        kept |= ~(below & (~below.T | first)).any(axis=0)
    return kept


_MOST_COUNTS = 32


def _appended(value: Any) -> Any:
    return value[..., None] if isinstance(value, np.ndarray) else value


def product_parts(machine: Engine, family: Family, shape: Shape, method: Method, choice: tuple[Count, Count, Count]) -> Parts:
    """Return what products take with a given tile (rows, columns) and split along k."""
    rows, columns, split = choice
    split = minimum(split, maximum(ceil_divide(shape.k, _LEAST_DEPTH), 1.0))
    tiles = shape.batch * ceil_divide(shape.m, rows) * ceil_divide(shape.n, columns) * split
    compute = rounds(tiles=tiles, cores=machine.cores) * (
        tile_in_core(machine, family, shape, method, (rows, columns, split)) + family.tile_cycles / machine.clock
    )
    stores = shape.batch * shape.m * shape.n * shape.out / machine.bandwidth
    compute = compute + family.stores * stores
    active = minimum(tiles, machine.cores)
    memory, moved = _memory(machine, shape, method, active, rows * columns)
    flops = 2.0 * shape.batch * shape.m * shape.n * shape.k
    power = limited_time(
        flops=flops, flop_energy=machine.flop_energy, bytes=moved, byte_energy=machine.byte_energy, power=machine.power, share=1.0
    )
    sums = 8.0 * split * shape.batch * shape.m * shape.n  # written and read once at 32 bits
    start = family.start * machine.latency
    join = where(split > 1.0, start + sums / machine.cache_bandwidth, 0.0 * sums)
    least = maximum(power, flops / machine.peak)  # a boosted clock never beats the datasheet: `ideal` stays a bound
    time = maximum(overlapped_time(compute=compute, memory=memory, exposed=family.exposed), least) + join + start
    return Parts(time, compute, memory, power, join, rows, columns, split, moved)


def tile_in_core(machine: Engine, family: Family, shape: Shape, method: Method, choice: tuple[Count, Count, Count]) -> Seconds:
    """Return the time of one tile's main loop on its core, with what the lanes do inside it."""
    rows, columns, split = choice
    depth = ceil_divide(shape.k / split, _STEP) * _STEP
    core, lanes = machine.rate / machine.cores, machine.lanes / machine.cores
    time = tile_time(rows=rows, columns=columns, depth=depth, rate=core, loss=family.tile_loss)
    time = time * channel_turns(stride=shape.stride, period=family.channel_period)
    feed = (rows * shape.left + columns * shape.right) * depth / family.shared_reads / (machine.feed / machine.cores)
    time = maximum(time, feed)
    if method.block:
        time = maximum(time, 2.0 * rows * columns * depth / method.block / lanes)
    if method.converts:
        time = maximum(time, 2.0 * columns * depth / (lanes * family.convert))
    return time


def _memory(machine: Engine, shape: Shape, method: Method, active: Count, tile: Count) -> tuple[Seconds, Bytes]:
    """Time of main memory and last-level cache, and the bytes that cross main memory."""
    operands = shape.batch * operand_traffic(
        m=shape.m, n=shape.n, k=shape.k, left=shape.left, right=shape.right, wave=active * tile, capacity=machine.cache
    )
    results = shape.batch * shape.m * shape.n * shape.out
    drawn = active * machine.core_bandwidth
    if method.weight_copies:
        weights = shape.batch * shape.n * shape.k * shape.right
        footprint = method.weight_copies * weights + shape.batch * shape.m * shape.k * shape.left + results
        found = resident_share(footprint=footprint, capacity=machine.cache)
    else:
        found = 0.0 * operands
    moved = operands * (1.0 - found) + results
    main = moved / minimum(machine.bandwidth, drawn)
    cache = operands * found / minimum(machine.cache_bandwidth, _CACHE_NEARER * drawn)
    return main + cache, moved


_CACHE_NEARER = 2.0  # the last-level cache answers in half the time of main memory


# ---- vector kernels ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Streaming:
    """What a vector kernel does to each value: how often it reads and writes, and what the lanes compute."""

    reads: Count
    writes: Count = 1.0
    lane: Count = 2.0  # lane operations a value
    special: Count = 0.0  # special functions a value
    again: Count = 0.0  # further passes over a row, which only what its core could keep of it spares
    persistent: Count = 0.0  # values of a row that registers hold: rows up to this length are read once
    folds: Count = 1.0  # a row of output reads so many rows of input: two in a gated activation
    by_rows: bool = False  # libraries have kernels for it that give each row to one block of threads
    a_thread: Count = 1.0  # values of a row that a thread of such a kernel takes at a time


_ONE, _TWO = Streaming(reads=1.0), Streaming(reads=2.0)
# Counts follow from the definitions; `again` of a normalisation is its second sweep, of a softmax the maximum's and the sum's.
STREAMING: dict[str, Streaming] = {
    **dict.fromkeys(("add", "mul", "div", "sub"), _TWO),
    **dict.fromkeys(("addu", "mulu", "divu", "subu", "relu", "copy"), _ONE),
    "pow": Streaming(reads=2.0, special=13.0),
    "powu": Streaming(reads=1.0, special=13.0),
    "tanh": Streaming(reads=1.0, lane=8.0, special=2.0),
    "gelu": Streaming(reads=1.0, lane=20.0, special=1.0),
    "silu": Streaming(reads=1.0, lane=4.0, special=2.0),
    "gated": Streaming(reads=2.0, lane=6.0, special=2.0, folds=2.0, by_rows=True),
    "rotary": Streaming(reads=1.0, lane=6.0, by_rows=True, a_thread=2.0),
    "layer-norm": Streaming(reads=1.0, lane=8.0, again=1.0, by_rows=True),
    "rms-norm": Streaming(reads=1.0, lane=6.0, again=1.0, by_rows=True),
    "softmax": Streaming(reads=1.0, lane=6.0, special=2.0, again=2.0, persistent=1024.0),
    "quantise": Streaming(reads=1.0, writes=0.5, lane=4.0),
    "gather": _ONE,
}


class StreamMethod(NamedTuple):
    """How a library's vector kernels work."""

    resident: bool = False  # what the kernel before wrote is still in the last-level cache, as far as it fits
    row_loads: Count = 0.0  # latencies of a step of kernels that give each row to one block of threads; 0: blocks share rows
    row_values: Count = 1.0  # that a thread of such a kernel loads at a time


_SHARED_ROWS = StreamMethod()


def vector_time(
    machine: Engine,
    family: Family,
    what: Streaming,
    m: Count,
    n: Count,
    *,
    width: Bytes,
    method: StreamMethod = _SHARED_ROWS,
) -> Seconds:
    """Return the time of a kernel that streams m rows of n values of `width` bytes, its launch aside."""
    missed = missed_share(row=n * width, rows=family.rows_in_core, capacity=machine.local)
    again = what.again * where(n <= what.persistent, 0.0 * missed, missed)
    moved = (what.reads + again + what.writes) * m * n * width
    blocks = maximum(minimum(ceil_divide(m * n, _VALUES_A_BLOCK), machine.cores), 1.0)
    bandwidth = achieved_bandwidth(bandwidth=machine.bandwidth, in_flight=blocks * machine.core_bandwidth, latency=1.0)
    if method.resident:
        found = (
            what.reads
            / (what.reads + again + what.writes)
            * resident_share(footprint=what.reads * m * n * width, capacity=machine.cache)
        )
        near = minimum(machine.cache_bandwidth, _CACHE_NEARER * blocks * machine.core_bandwidth)
        bandwidth = 1.0 / ((1.0 - found) / bandwidth + found / maximum(near, bandwidth))
    time = stream_time(
        bytes=moved,
        bandwidth=bandwidth,
        lane=what.lane * m * n,
        lane_rate=machine.lanes,
        special=what.special * m * n,
        special_rate=machine.special,
    )
    if not method.row_loads or not what.by_rows:
        return time
    steps = rows_time(
        rows=m,
        length=n / maximum(what.a_thread, method.row_values),
        threads=_THREADS,
        wait=method.row_loads * machine.latency,
        cores=machine.cores,
        beside=_ROWS_BESIDE,
    )
    return maximum(time, steps)


_VALUES_A_BLOCK = 1024.0
_THREADS = 1024.0  # of a block, the most that programs ask for
_ROWS_BESIDE = 1.15  # of blocks of so many threads, two of which fit a core
