"""Attention kernels on chips of many cores: decode by blocks along the cache, prefill by tiles of queries."""

from typing import Any, NamedTuple

import numpy as np

from ridgeline.arrays import ceil_divide, maximum, minimum, where
from ridgeline.costs.attention_blocks import chain_time, score_time
from ridgeline.costs.power import limited_time
from ridgeline.costs.waves import resident_share
from ridgeline.mapping.many_core import Engine
from ridgeline.quantities import Bytes, Count, Fraction, Seconds
from ridgeline.specs.family import Family
from ridgeline.specs.stack import Stack

SPLITS = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0, 48.0, 64.0, 96.0, 128.0)
_TILE_VALUES = 256.0  # of keys that a block takes at a time for each of its rows: 128 tokens of 128 values for 64 rows
_LEAST_CHUNK = 128.0  # tokens of a part of the cache
_ROWS = 16.0  # queries that the matrix unit takes at least
CONVERT_LANE = 20.0  # lane operations to bring a value of an 8-bit cache to 16 bits: an estimate from one chip short of lanes
_ISSUED = 0.9  # of the matrix unit's rate, by loops as short as a head is wide: an estimate from chips whose softmax is hidden
_QUERY_TILES = (64.0, 128.0)  # rows of a tile of prefill
SOFTMAX_LANE = 24.0  # lane operations of a score: scale, mask, maximum, subtract, sum, rescale and convert, a fused one counts two
SOFTMAX_SPECIAL = 1.0  # exponentials of a score


class AttentionShape(NamedTuple):
    """Sequences with queries over keys and values; `kv_len` counts the queries' own."""

    batch: Count
    queries: Count
    kv_len: Count
    heads: Count
    kv_heads: Count
    head_size: Count
    cache_bytes: Bytes  # of a value of the cache
    tensors: Count = 2.0  # that a KV head reads of each token, in vectors of `head_size`: keys and values
    seen: Count | None = None  # keys that a query attends to on average; None: all before it, or all


class AttentionParts(NamedTuple):
    """What an attention kernel takes, by resource."""

    time: Seconds
    compute: Seconds
    memory: Seconds


class AttentionMethod(NamedTuple):
    """What a library's attention can do."""

    splits: bool = True
    splits_single: bool = True  # where every query head has keys of its own
    group_limit: Count = float("inf")  # query heads of a KV head that one block packs
    split_group: Count = float("inf")  # query heads of a KV head up to which it splits
    block_loads: Count = 8.0  # in sequence, of a block beside its keys and values
    single_loads: Count = 8.0  # of these that others beside it do not hide where a block has one query head
    rows: Count = _ROWS  # queries that a block multiplies at least, however few heads share its keys
    share: Fraction = 1.0  # of the matrix unit's rate that its instructions reach in decode
    block_memory: Bytes = float("inf")  # of a core's memory that a block takes: others beside it hide its loads
    join_loads: Count = 0.0  # in sequence, of the kernel that joins parts, for each part
    swaps: Count = 0.0  # kernels that bring queries and results into order where several KV heads have a group each
    convert_lane: Count = CONVERT_LANE  # lane operations that bring a value of an 8-bit cache to 16 bits
    prepares: bool = False  # queries, keys and values are rotated and written in a kernel before prefill
    resident: bool = False  # a loop over the same cache finds it in the last-level cache
    overlapped: Fraction = 0.0


def method_of(stack: Stack, width: Bytes, *, resident: bool = False) -> AttentionMethod:
    """Return what a stack's attention can do over a cache of values of `width` bytes."""
    wide = width > 1.0
    return AttentionMethod(
        splits=stack.split_attention and (wide or stack.split_fp8_attention),
        splits_single=stack.split_single_heads,
        group_limit=stack.group_limit or float("inf"),
        split_group=stack.split_group or float("inf"),
        block_loads=stack.block_loads,
        single_loads=(stack.single_loads if wide else 0.0) or stack.block_loads,
        rows=stack.decode_rows,
        share=stack.decode_share,
        block_memory=stack.decode_memory or float("inf"),
        join_loads=stack.join_loads,
        swaps=stack.swap_kernels,
        convert_lane=stack.convert_lane,
        prepares=stack.prepares_attention,
        resident=resident,
        overlapped=1.0 if stack.overlaps_softmax else 0.0,
    )


def decode_time(machine: Engine, family: Family, shape: AttentionShape, method: AttentionMethod) -> Seconds:
    """Return the time of decode attention's kernels, the split along the cache chosen by cost."""
    return decode_parts(machine, family, shape, method).time


def decode_parts(machine: Engine, family: Family, shape: AttentionShape, method: AttentionMethod) -> AttentionParts:
    """Return what decode attention's kernels take by resource, the split along the cache chosen by cost."""
    splits = np.array(SPLITS if method.splits else SPLITS[:1])
    wide = AttentionShape(*(_appended(one) for one in shape))
    found = _decode(Engine(*(_appended(one) for one in machine)), family, wide, method, splits)
    best = np.argmin(found.time, axis=-1)[..., None]
    return AttentionParts(*(np.take_along_axis(np.broadcast_to(one, found.time.shape), best, axis=-1)[..., 0] for one in found))


def _appended(value: Any) -> Any:
    return value[..., None] if isinstance(value, np.ndarray) else value


def _decode(machine: Engine, family: Family, shape: AttentionShape, method: AttentionMethod, split: Count) -> AttentionParts:
    group = shape.heads / shape.kv_heads
    tile = _TILE_VALUES * method.rows / shape.head_size
    split = minimum(split, maximum(ceil_divide(shape.kv_len, maximum(tile, _LEAST_CHUNK)), 1.0))
    if not method.splits_single:
        split = where(group > 1.0, split, 0.0 * split + 1.0)
    split = where(group <= method.split_group, split, 0.0 * split + 1.0)
    packed = where(group <= method.group_limit, 0.0 * group + 1.0, group)  # blocks of a KV head
    blocks = shape.batch * shape.kv_heads * packed * split
    cache = shape.tensors * shape.batch * shape.kv_heads * shape.kv_len * shape.head_size * shape.cache_bytes
    memory = _read_time(machine, family, cache, cache * (packed - 1.0), method)
    start = machine.latency * family.start
    tokens = ceil_divide(shape.kv_len / split, tile) * tile
    alone = (group <= 1.0) | (packed > 1.0)
    work = _block_work(machine, shape, method, tokens, group / packed)
    beside = 0.0 * group + maximum(machine.local // method.block_memory, 1.0)
    if method.single_loads < method.block_loads:  # a kernel of its own for single heads: small blocks, on the lanes
        beside = where(alone, 0.0 * group + method.block_loads / method.single_loads, beside)
        lane = (4.0 * shape.head_size + SOFTMAX_LANE) * tokens / (machine.lanes / machine.cores)
        work = where(alone, minimum(work, lane), work)
    chain = chain_time(blocks=blocks, cores=machine.cores, wait=method.block_loads * machine.latency, work=work, beside=beside)
    sums = 8.0 * split * shape.batch * shape.heads * shape.head_size  # partial results at 32 bits, written and read
    join = start + method.join_loads * split * machine.latency + sums / machine.cache_bandwidth
    join = where(split > 1.0, join, 0.0 * sums)
    order = where((group > 1.0) & (shape.kv_heads > 1.0), start * method.swaps + 0.0 * sums, 0.0 * sums)
    compute = maximum(chain, _least_products(machine, shape))
    return AttentionParts(start + maximum(memory, compute) + join + order, compute, memory)


def _read_time(machine: Engine, family: Family, cache: Bytes, again: Bytes, method: AttentionMethod) -> Seconds:
    """Time to read the cache from main memory or, what a loop finds there, from the last level; `again` by other blocks."""
    found = resident_share(footprint=cache, capacity=machine.cache) if method.resident else 0.0 * cache
    near = maximum(machine.cache_bandwidth, machine.bandwidth)
    return cache * (1.0 - found) / (family.paged * machine.bandwidth) + (cache * found + again) / near


def _block_work(machine: Engine, shape: AttentionShape, method: AttentionMethod, tokens: Count, heads: Count) -> Seconds:
    """Time of a core for a block's products and softmax over its tokens, or to widen what it reads."""
    scores = ceil_divide(heads, method.rows) * method.rows * tokens
    compute = score_time(
        products=4.0 * scores * shape.head_size / method.share,
        rate=machine.rate / machine.cores,
        lane=SOFTMAX_LANE * scores,
        lane_rate=machine.lanes / machine.cores,
        special=SOFTMAX_SPECIAL * scores,
        special_rate=machine.special / machine.cores,
        overlapped=method.overlapped,
    )
    values = shape.tensors * minimum(tokens, shape.kv_len) * shape.head_size
    values = where(shape.cache_bytes > 1.0, 0.0 * values, values)  # one byte a value
    return maximum(compute, method.convert_lane * values / (machine.lanes / machine.cores))


def _least_products(machine: Engine, shape: AttentionShape) -> Seconds:
    """Time of the products of the heads that there are, at the datasheet's peak: `ideal` stays a bound."""
    return 4.0 * shape.batch * shape.heads * shape.kv_len * shape.head_size / machine.peak


def prefill_time(machine: Engine, family: Family, shape: AttentionShape, method: AttentionMethod, causal: bool = True) -> Seconds:
    """Return the time of prefill attention's kernel, its tile of queries chosen by cost."""
    return prefill_parts(machine, family, shape, method, causal).time


def prefill_parts(
    machine: Engine, family: Family, shape: AttentionShape, method: AttentionMethod, causal: bool = True
) -> AttentionParts:
    """Return what prefill attention's kernel takes by resource, its tile of queries chosen by cost."""
    first, second = (_prefill(machine, family, shape, method, (tile, causal)) for tile in _QUERY_TILES)
    better = first.time <= second.time
    return AttentionParts(*(where(better, one, other) for one, other in zip(first, second, strict=True)))


def _prefill(
    machine: Engine, family: Family, shape: AttentionShape, method: AttentionMethod, choice: tuple[float, bool]
) -> AttentionParts:
    """Time of whole tiles of queries over the keys that they see."""
    largest, causal = choice
    tile = minimum(0.0 * shape.queries + largest, ceil_divide(shape.queries, _ROWS) * _ROWS)
    tiles = ceil_divide(shape.queries, tile)
    before = shape.kv_len - shape.queries
    # A causal tile sees what came before and, on average, half of the queries' tiles and its own whole one.
    seen = before + tile * (tiles + 1.0) / 2.0 if causal else shape.kv_len + 0.0 * tile
    if shape.seen is not None:
        seen = shape.seen + tile / 2.0 if causal else shape.seen + 0.0 * tile
    blocks = shape.batch * shape.heads * tiles
    scores = blocks * tile * seen
    longest = tile * (before + tile * tiles)  # of the block that sees most
    flops = 4.0 * shape.head_size
    units = {
        "lane_rate": machine.lanes,
        "special_rate": machine.special,
        "rate": _ISSUED * machine.rate,
        "overlapped": method.overlapped,
    }
    whole = score_time(products=flops * scores, lane=SOFTMAX_LANE * scores, special=SOFTMAX_SPECIAL * scores, **units)
    alone = machine.cores * score_time(
        products=flops * longest, lane=SOFTMAX_LANE * longest, special=SOFTMAX_SPECIAL * longest, **units
    )
    turns = maximum(blocks / machine.cores, 0.0 * blocks + 1.0)
    moved = (
        2.0
        * shape.batch
        * (shape.queries * shape.heads * 2.0 + shape.kv_len * shape.kv_heads * shape.cache_bytes)
        * shape.head_size
    )
    work = flops * scores + SOFTMAX_LANE * scores * machine.lane_energy / maximum(machine.flop_energy, 1e-30)
    power = limited_time(
        # What is issued beside the products costs energy as well, unless they run by themselves beside the softmax.
        flops=work / (_ISSUED + method.overlapped * (1.0 - _ISSUED)),
        flop_energy=machine.flop_energy,
        bytes=moved,
        byte_energy=machine.byte_energy,
        power=machine.power,
        share=1.0,
    )
    busy = maximum(maximum(whole, alone), power) + turns * method.block_loads * machine.latency / 2.0
    start = family.start * machine.latency
    memory = _streamed(machine, moved, method)
    time = start + maximum(busy, memory)
    if method.prepares:
        values = shape.batch * shape.queries * (shape.heads + 2.0 * shape.kv_heads) * shape.head_size
        time = time + start + _streamed(machine, 4.0 * values, method)  # read and written at 16 bits
    return AttentionParts(time, busy, memory)


def _streamed(machine: Engine, moved: Bytes, method: AttentionMethod) -> Seconds:
    """Time to move bytes from main memory or, what a loop finds there, from the last level of cache."""
    found = resident_share(footprint=moved, capacity=machine.cache) if method.resident else 0.0 * moved
    return moved * ((1.0 - found) / machine.bandwidth + found / maximum(machine.cache_bandwidth, machine.bandwidth))
