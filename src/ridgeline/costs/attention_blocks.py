"""Attention as blocks on many cores: what a chain of dependent loads takes, and what softmax adds to the products."""

from ridgeline.arrays import ceil_divide, maximum
from ridgeline.quantities import Count, Flops, FlopsPerSecond, Fraction, Seconds


def chain_time(*, blocks: Count, cores: Count, wait: Seconds, work: Seconds, beside: Count) -> Seconds:
    """Time of the busiest core that works off blocks of decode attention, each of which waits for loads and then computes.

        max(wait + work, turns · (wait / beside + work))   turns = ⌈blocks / cores⌉

    `wait` is what a block spends on dependent loads (page table, queries, reductions), `work` what it computes on its keys and
    values. Blocks that share a core compute in turn; `beside` of them wait at the same time.

    >>> [chain_time(blocks=216, cores=108, wait=4.0, work=1.0, beside=beside) for beside in (1.0, 2.0)]
    [10.0, 6.0]
    """
    turns = ceil_divide(blocks, cores)
    return maximum(wait + work, turns * (wait / beside + work))


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
