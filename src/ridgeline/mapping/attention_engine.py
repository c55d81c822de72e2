"""Attention as one kernel of a tiled array: scores, softmax and values for a block of queries, scores never leaving the chip.

Two forms: *whole rows*, where the scores of a block with all keys lie in the accumulator before softmax begins, and *online*, where
keys come in blocks and running sums are rescaled at each [milakov2018online; dao2022flashattention].
"""

from typing import Any, NamedTuple

import numpy as np

from ridgeline.arrays import ceil_divide, maximum
from ridgeline.costs.tiled import ORDERS, Array, Buffers, Layer, Memory, Tile, tiled_cost, transfer_rate
from ridgeline.errors import InfeasibleError
from ridgeline.mapping.dataflow import TILED
from ridgeline.quantities import Bytes, Count

_SUMS_STAY = ORDERS.index("kpqcrs")
RESCALE_OPERATIONS = 2.0  # of an output and a block of keys: multiply by the ratio of maxima, add


class Heads(NamedTuple):
    """One head of attention: rows of queries, keys, sizes of a key and of a value, share of scores that a mask leaves."""

    queries: Count
    keys: Count
    key_size: Count
    value_size: Count
    share: Count = 1.0


class AttentionBlock(NamedTuple):
    """The best block of one head: cycles by what they are spent on; bytes between DRAM and the chip."""

    cycles: Count
    compute: Count
    vector: Count
    transfer: Count
    read: Bytes
    written: Bytes
    queries: Count  # of a block
    keys: Count  # of a block
    rescaled: Count  # elementary operations that rescale outputs from block to block
    scratchpad: Bytes
    accumulator: Bytes


def fused_attention(
    heads: Heads,
    array: Array,
    buffers: Buffers,
    memory: Memory,
    *,
    dataflow: str,
    score_cycles: Count,
    lane_cycles: Count,
    online: bool,
) -> AttentionBlock:
    """Return the block of queries and keys that takes the fewest cycles, over all multiples of the array's side.

        blocks   = ⌈queries/x⌉ · ⌈keys/y⌉          compute = scores x × d by d × y, and values x × y by y × d, on the array
        vector   = share · (queries · keys · score_cycles + queries · value_size · (⌈keys/y⌉ − 1) · 2 · lane_cycles)
        read     = queries · d + ⌈queries/x⌉ · keys · (key_size + value_size), once where one block holds all keys
        cycles   = max(compute, vector, transfer) + (the other two) / blocks + latency + fill + start · blocks

    In whole rows nothing is rescaled. `score_cycles` are the vector unit's cycles for the softmax of one score, `lane_cycles` for
    one elementary operation. Held are two slots of queries, keys, values and outputs (one where transfers are synchronous), and
    the scores and probabilities of x queries with y keys, or with all. Neglected: uneven blocks at a causal diagonal, whose share
    is taken on average.

    Raises `InfeasibleError` where no block fits.
    """
    x, y = _blocks(heads, array)
    scratchpad, accumulator = _held(heads, buffers, x, y, online)
    fits = (scratchpad <= buffers.scratchpad) & (accumulator <= buffers.accumulator)
    if not np.any(fits):
        smallest = int(np.argmin(scratchpad + accumulator))
        raise InfeasibleError(
            f"attention of {heads.keys:g} keys {'in blocks' if online else 'in whole rows'} needs {scratchpad[smallest]:.0f} bytes "
            f"of scratchpad and {accumulator[smallest]:.0f} of accumulator: there are {buffers.scratchpad:.0f} and "
            f"{buffers.accumulator:.0f}"
        )
    x, y, scratchpad, accumulator = x[fits], y[fits], scratchpad[fits], accumulator[fits]
    compute = heads.share * _compute(heads, array, buffers, memory, dataflow, x, y)
    steps = ceil_divide(heads.queries, x) * ceil_divide(heads.keys, y)
    rescaled = heads.queries * heads.value_size * (ceil_divide(heads.keys, y) - 1.0) * RESCALE_OPERATIONS * lane_cycles * online
    vector = heads.share * (heads.queries * heads.keys * score_cycles + rescaled)
    passes = np.where((y >= heads.keys) & (memory.reuse > 0.0), 1.0, heads.share * ceil_divide(heads.queries, x))
    operands = heads.keys * (heads.key_size + heads.value_size) * buffers.weight_bytes
    read = heads.queries * heads.key_size * buffers.input_bytes + np.maximum(passes, 1.0) * operands
    written = heads.queries * heads.value_size * buffers.output_bytes
    transfer = (read + written) / transfer_rate(memory)
    longest = maximum(maximum(compute, vector), transfer)
    overlapped = longest + (compute + vector + transfer - longest) / steps
    serial = compute + vector + transfer
    cycles = (overlapped if buffers.double > 1.0 else serial) + memory.latency + array.fill + memory.start * steps
    best = int(np.argmin(cycles))
    values = (cycles, compute, vector, transfer, read)
    blocks = ceil_divide(heads.keys, float(y[best]))
    return AttentionBlock(
        *(float(one[best]) for one in values),
        written=float(written),
        queries=float(x[best]),
        keys=float(y[best]),
        rescaled=heads.share * heads.queries * heads.value_size * (blocks - 1.0) * RESCALE_OPERATIONS * online,
        scratchpad=float(scratchpad[best]),
        accumulator=float(accumulator[best]),
    )


def _blocks(heads: Heads, array: Array) -> tuple[Any, Any]:
    """Return candidates of queries and keys in a block: multiples of the array's sides."""
    candidates = np.meshgrid(_multiples(heads.queries, array.rows), _multiples(heads.keys, array.columns))
    return candidates[0].ravel(), candidates[1].ravel()


def _multiples(size: Count, side: Count) -> Any:
    return np.unique(np.minimum(np.arange(1.0, ceil_divide(size, side) + 1.0) * side, size))


def _held(heads: Heads, buffers: Buffers, x: Any, y: Any, online: bool) -> tuple[Any, Any]:
    span = y if online else heads.keys
    operands = x * heads.key_size * buffers.input_bytes + y * (heads.key_size + heads.value_size) * buffers.weight_bytes
    sums = x * (span + buffers.double * heads.value_size) * buffers.accumulator_bytes
    return buffers.double * operands + x * span * buffers.input_bytes, sums


def _compute(heads: Heads, array: Array, buffers: Buffers, memory: Memory, dataflow: str, x: Any, y: Any) -> Any:
    """Cycles of the array for both products, blocks of queries by blocks of keys."""
    flow = TILED.index(dataflow)
    scores = Layer(1.0, heads.keys, heads.key_size, heads.queries, 1.0, 1.0, 1.0, 1.0)
    values = Layer(1.0, heads.value_size, heads.keys, heads.queries, 1.0, 1.0, 1.0, 1.0)
    first = tiled_cost(scores, Tile(y, heads.key_size, x, 1.0, 1.0, 1.0), _SUMS_STAY, array, buffers, memory, flow)
    second = tiled_cost(values, Tile(heads.value_size, y, x, 1.0, 1.0, 1.0), _SUMS_STAY, array, buffers, memory, flow)
    return first.compute + second.compute
