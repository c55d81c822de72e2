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

SPLITS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)
_LEAST_CHUNK = 128.0  # tokens of a part of the cache
_ROWS = 16.0  # queries that the matrix unit takes at least
_QUERY_TILES = (64.0, 128.0)  # rows of a tile of prefill
CONVERT_LANE = 20.0  # lane operations to bring a value of an 8-bit cache to 16 bits: an estimate from one chip short of lanes
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
    single_loads: Count = 8.0  # the same where a block has one query head
    prepares: bool = False  # queries, keys and values are rotated and written in a kernel before prefill
    resident: bool = False  # a loop over the same cache finds it in the last-level cache
    overlapped: Fraction = 0.0


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
    split = minimum(split, maximum(ceil_divide(shape.kv_len, _LEAST_CHUNK), 1.0))
    if not method.splits_single:
        split = where(group > 1.0, split, 0.0 * split + 1.0)
    split = where(group <= method.split_group, split, 0.0 * split + 1.0)
    packed = where(group <= method.group_limit, 0.0 * group + 1.0, group)  # blocks of a KV head
    blocks = shape.batch * shape.kv_heads * packed * split
    cache = shape.tensors * shape.batch * shape.kv_heads * shape.kv_len * shape.head_size * shape.cache_bytes
    found = resident_share(footprint=cache, capacity=machine.cache) if method.resident else 0.0 * cache
    drawn = minimum(blocks, machine.cores) * machine.core_bandwidth
    memory = cache * (1.0 - found) / minimum(family.paged * machine.bandwidth, drawn) + cache * found / minimum(
        machine.cache_bandwidth, 2.0 * drawn
    )
    again = (packed - 1.0) * cache / minimum(machine.cache_bandwidth, 2.0 * drawn)  # by the other blocks of the same keys
    memory = memory + again
    start = machine.latency * family.start
    loads = where((group > 1.0) & (packed <= 1.0), 0.0 * group + method.block_loads, 0.0 * group + method.single_loads)
    chain = chain_time(
        blocks=blocks, cores=machine.cores, block=loads * machine.latency, bytes=0.0 * blocks, rate=machine.core_bandwidth
    )
    values = 0.0 * cache if shape.cache_bytes > 1.0 else packed * cache  # one byte a value
    convert = CONVERT_LANE * values / machine.lanes
    rows = ceil_divide(group / packed, _ROWS) * _ROWS
    scores = shape.batch * shape.kv_heads * packed * rows * shape.kv_len
    compute = score_time(
        products=4.0 * scores * shape.head_size,
        rate=machine.rate,
        lane=SOFTMAX_LANE * scores,
        lane_rate=machine.lanes,
        special=SOFTMAX_SPECIAL * scores,
        special_rate=machine.special,
        overlapped=method.overlapped,
    )
    sums = 8.0 * split * shape.batch * shape.heads * shape.head_size  # partial results at 32 bits, written and read
    join = where(split > 1.0, start + sums / machine.cache_bandwidth, 0.0 * sums)
    compute = maximum(compute, convert)
    return AttentionParts(start + maximum(maximum(memory, chain), compute) + join, compute, memory)


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
        "rate": machine.rate,
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
        flops=work,
        flop_energy=machine.flop_energy,
        bytes=moved,
        byte_energy=machine.byte_energy,
        power=machine.power,
        share=1.0,
    )
    busy = maximum(maximum(whole, alone), power) + turns * method.block_loads * machine.latency / 2.0
    start = family.start * machine.latency
    time = start + maximum(busy, moved / machine.bandwidth)
    if method.prepares:
        values = shape.batch * shape.queries * (shape.heads + 2.0 * shape.kv_heads) * shape.head_size
        time = time + start + 4.0 * values / machine.bandwidth  # read and written at 16 bits
    return AttentionParts(time, busy, moved / machine.bandwidth)
