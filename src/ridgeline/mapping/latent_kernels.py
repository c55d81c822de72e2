"""Attention over a latent that all heads share: decode on the latent itself (absorbed), prefill on keys and values expanded.

Decode multiplies every head's query with the latent and the rotary key of each token, and the probabilities with the latent:
2 · (2 · latent + rotary) FLOPs a head and token, on a cache of latent + rotary values a token [deepseek2024v2]. A block takes a
tile of heads of one sequence along its tokens; libraries differ in whether several blocks share a sequence.
"""

from typing import NamedTuple

from ridgeline.arrays import ceil_divide, maximum, minimum, where
from ridgeline.costs.attention_blocks import contended_time, score_time
from ridgeline.costs.power import limited_time
from ridgeline.costs.waves import resident_share
from ridgeline.mapping.many_core import Engine
from ridgeline.mapping.many_core_attention import SOFTMAX_LANE, SOFTMAX_SPECIAL
from ridgeline.quantities import Bytes, Count, Fraction, Seconds
from ridgeline.specs.family import Family

_ROWS = 16.0  # of a fragment of the matrix unit: a group of threads multiplies so many heads, and reads all of a token for it
_LOCAL_WIDTH = 128.0  # bytes a clock cycle that a core's local memory hands out


class LatentShape(NamedTuple):
    """Sequences with queries over a latent cache; `kv_len` counts the queries' own tokens."""

    batch: Count
    queries: Count
    kv_len: Count
    heads: Count
    latent: Count
    rotary: Count
    cache_bytes: Bytes  # of a value of the cache
    key: Count = 192.0  # values of an expanded key
    value: Count = 128.0  # of an expanded value


class LatentMethod(NamedTuple):
    """What a library does for attention over a latent."""

    splits: bool = True  # a sequence over several blocks
    tile: Count = 64.0  # heads of a block
    share: Fraction = 1.0  # of the matrix unit's rate that a kernel with a pipeline of its own reaches
    contention: Fraction = 0.0  # by which all cores at work slow one another, where blocks wait for what they load
    kernels: Count = 1.0  # of a call: what rotates and appends, attention, what joins parts
    resident: bool = False
    overlapped: Fraction = 0.0
    passes: Count = 0.0  # times that kernels before prefill read and write the queries


def latent_decode_time(machine: Engine, family: Family, shape: LatentShape, method: LatentMethod) -> Seconds:
    """Return the time of absorbed decode: kernels in turn, or the cache's bytes, or the products on tiles of heads."""
    start = family.start * machine.latency
    tiles = ceil_divide(shape.heads, method.tile)
    blocks = shape.batch * tiles
    tokens = shape.batch * shape.kv_len
    cache = tokens * (shape.latent + shape.rotary) * shape.cache_bytes
    found = resident_share(footprint=cache, capacity=machine.cache) if method.resident else 0.0 * cache
    rate = machine.bandwidth
    memory = cache * (1.0 - found) / rate + cache * found / maximum(machine.cache_bandwidth, rate)
    rows = method.tile + 0.0 * shape.heads  # a tile is multiplied whole, however few heads fill it
    token = _token_time(machine, shape, method, rows)
    if method.splits:
        # Parts of equal length on all cores, joined by a further kernel.
        busy = maximum(blocks * shape.kv_len / machine.cores, minimum(shape.kv_len, 64.0 + 0.0 * blocks)) * token
    else:
        busy = contended_time(blocks=blocks, cores=machine.cores, block=shape.kv_len * token, loss=method.contention)
    flops = 2.0 * tokens * shape.heads * (2.0 * shape.latent + shape.rotary)
    power = limited_time(
        flops=2.0 * tokens * tiles * rows * (2.0 * shape.latent + shape.rotary),
        flop_energy=machine.flop_energy,
        bytes=cache,
        byte_energy=machine.byte_energy,
        power=machine.power,
        share=1.0,
    )
    least = maximum(maximum(memory, power), flops / machine.peak)
    return method.kernels * start + maximum(busy, least)


def _token_time(machine: Engine, shape: LatentShape, method: LatentMethod, rows: Count) -> Seconds:
    """Time of a core for one token and a tile of heads.

    A kernel that splits is written for the core's own pipeline: products at `share` of the rate. An older one does in turn what
    it loads from local memory, multiplies and exponentiates: each group of 16 heads reads the token's keys and values.
    """
    products = 2.0 * (2.0 * shape.latent + shape.rotary) * rows * machine.cores
    scores = rows * machine.cores
    time = score_time(
        products=products / method.share if method.splits else products,
        rate=machine.rate,
        lane=SOFTMAX_LANE * scores,
        lane_rate=machine.lanes,
        special=SOFTMAX_SPECIAL * scores,
        special_rate=machine.special,
        overlapped=1.0 if method.splits else method.overlapped,
    )
    if method.splits:
        return time
    local = rows / _ROWS * (2.0 * shape.latent + shape.rotary) * 2.0
    return time + local / (_LOCAL_WIDTH * machine.clock)


def latent_prefill_time(machine: Engine, family: Family, shape: LatentShape, method: LatentMethod) -> Seconds:
    """Return the time of prefill on expanded keys and values, causal, and of the kernels that bring queries to their form."""
    tile = minimum(0.0 * shape.queries + 64.0, ceil_divide(shape.queries, _ROWS) * _ROWS)
    tiles = ceil_divide(shape.queries, tile)
    before = shape.kv_len - shape.queries
    blocks = shape.batch * shape.heads * tiles
    scores = blocks * tile * (before + tile * (tiles + 1.0) / 2.0)
    longest = machine.cores * tile * (before + tile * tiles)
    products = 2.0 * (shape.key + shape.value)
    units = {
        "lane_rate": machine.lanes,
        "special_rate": machine.special,
        "rate": machine.rate * method.share,
        "overlapped": method.overlapped,
    }
    whole, alone = (
        score_time(products=products * one, lane=SOFTMAX_LANE * one, special=SOFTMAX_SPECIAL * one, **units)
        for one in (scores, longest)
    )
    values = shape.batch * shape.heads * (2.0 * shape.queries * shape.value + shape.kv_len * shape.key)
    queries = shape.batch * shape.heads * shape.queries * shape.key
    moved = 2.0 * (values + queries * (1.0 + 2.0 * method.passes))
    found = resident_share(footprint=moved, capacity=machine.cache) if method.resident else 0.0 * moved
    memory = moved * ((1.0 - found) / machine.bandwidth + found / maximum(machine.cache_bandwidth, machine.bandwidth))
    power = limited_time(
        flops=products * scores + SOFTMAX_LANE * scores * machine.lane_energy / maximum(machine.flop_energy, 1e-30),
        flop_energy=machine.flop_energy,
        bytes=moved,
        byte_energy=machine.byte_energy,
        power=machine.power,
        share=1.0,
    )
    busy = maximum(maximum(whole, alone), power)
    # Queries pass through memory before attention starts: only its own reads hide behind its products.
    prepared = where(moved > 0, 4.0 * queries * method.passes / moved, 0.0 * moved)
    hidden = (1.0 - prepared) * memory
    return method.kernels * family.start * machine.latency + prepared * memory + maximum(busy, hidden)
