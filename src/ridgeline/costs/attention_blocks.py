"""Attention as blocks on many cores: what a chain of dependent loads takes, and what softmax adds to the products."""

from ridgeline.arrays import ceil_divide, maximum
from ridgeline.quantities import Bytes, BytesPerSecond, Count, Flops, FlopsPerSecond, Fraction, Seconds


def chain_time(*, blocks: Count, cores: Count, block: Seconds, bytes: Bytes, rate: BytesPerSecond) -> Seconds:
    """Time of the busiest core that works off blocks of decode attention, each a chain of dependent loads.

        max(1, blocks / cores) · block + bytes / rate · max(1, blocks / cores)

    `block` is the time of a block without its keys and values (page table, queries, the reductions), `bytes` what one block
    reads and `rate` what one core draws alone. Blocks that share a core overlap only in what memory they wait for.

    >>> chain_time(blocks=216, cores=108, block=3e-6, bytes=22e3, rate=22e9)
    8e-06
    """
    turns = maximum(blocks / cores, 0.0 * blocks / cores + 1.0)
    return turns * (block + bytes / rate)


def score_time(
    *,
    products: Flops,
    rate: FlopsPerSecond,
    lane: Flops,
    lane_rate: FlopsPerSecond,
    special: Count,
    special_rate: FlopsPerSecond,
    overlapped: Fraction,
) -> Seconds:
    """Time of the two products of attention and of the softmax between them on one core's units or on the chip's.

        matrix + vector − overlapped · min(matrix, vector)   [dao2022flashattention, shah2024flashattention3]

    matrix = products / rate, vector = lane / lane_rate + special / special_rate; `overlapped` is 0 where one group of threads does
    both in turn and 1 where two groups alternate.

    >>> score_time(products=512.0, rate=2.56e14, lane=0.0, lane_rate=1e13, special=1.0, special_rate=1e12, overlapped=0.0)
    3e-12
    """
    matrix, vector = products / rate, lane / lane_rate + special / special_rate
    both = matrix + vector
    longer = maximum(matrix, vector)
    return both - overlapped * (both - longer)


def contended_time(*, blocks: Count, cores: Count, block: Seconds, loss: Fraction) -> Seconds:
    """Time of blocks that wait for what they load: cores at work at the same time slow one another.

        block · (⌈blocks / cores⌉ + loss · blocks / cores)

    `block` is the time of a block on an otherwise idle chip. A round in which a share a of the cores has a block takes 1 + loss · a
    times as long, and the shares of all rounds add up to blocks / cores.

    >>> contended_time(blocks=150.0, cores=100, block=1e-3, loss=0.5)
    0.00275
    """
    return block * (ceil_divide(blocks, cores) + loss * blocks / cores)
