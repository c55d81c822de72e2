"""Products cut into output tiles that many cores work off in rounds: time of a tile, rounds, traffic, what overlaps."""

from ridgeline.arrays import ceil_divide, clip, is_zero, maximum, minimum, where
from ridgeline.quantities import Bytes, Count, FlopsPerSecond, Fraction, Seconds


def rounds(*, tiles: Count, cores: Count) -> Count:
    """Tiles that the busiest core works off, one after another.

        ⌈tiles / cores⌉   wave quantisation [nvidia2023matmul]

    Tiles that share a core share its rate, so that two at a time take as long as two in turn.

    >>> rounds(tiles=120, cores=108)
    2
    """
    return ceil_divide(tiles, cores)


def tile_time(*, rows: Count, columns: Count, depth: Count, rate: FlopsPerSecond, loss: Count) -> Seconds:
    """Time of one core for the main loop of an output tile.

        2 · rows · columns · depth / rate · (1 + loss · (1/rows + 1/columns))

    `rate` is that of one core. A step of the loop multiplies rows × columns and moves rows + columns operands: the second term,
    whose weight `loss` is the edge at which moving costs as much as multiplying, is why small tiles are slower per FLOP.

    >>> tile_time(rows=128, columns=128, depth=1000, rate=3.2768e12, loss=0.0)
    1e-05
    """
    return 2.0 * rows * columns * depth / rate * (1.0 + loss * (1.0 / rows + 1.0 / columns))


def operand_traffic(*, m: Count, n: Count, k: Count, left: Bytes, right: Bytes, wave: Count, capacity: Bytes) -> Bytes:
    """Bytes of the operands of an m × k by k × n product that come from main memory.

        once       left·m·k + right·k·n                    while both fit in half of the last-level cache
        by waves   left·m·k·(n/w_n) + right·k·n·(m/w_m)     w_m = min(m, √wave), w_n = wave / w_m

    Each wave reads its rows and columns. `wave` is the output elements that the cores hold at a time, `left` and `right` bytes
    a value. Between a half and one and a half times the cache's capacity the share of the second grows linearly, as more and
    more of what is read again has left it.

    >>> operand_traffic(m=64.0, n=64.0, k=64.0, left=2.0, right=2.0, wave=1e6, capacity=4e7)  # everything once
    16384.0
    """
    once = left * m * k + right * n * k
    high = minimum(m, wave**0.5)
    wide = minimum(n, wave / high)
    high = minimum(m, wave / wide)
    waves = left * m * k * (n / wide) + right * n * k * (m / high)
    full = once / capacity - 0.5
    share = clip(full, 0.0 * full, 0.0 * full + 1.0)
    return once + share * (waves - once)


def resident_share(*, footprint: Bytes, capacity: Bytes) -> Fraction:
    """Share of a footprint that a loop over it finds in the cache again.

        clip(4 · capacity / footprint − 3, 0, 1)   all while it fits, nothing beyond 4/3 of the capacity

    A cache that replaces the oldest line keeps nothing of a longer loop [mattson1970]; hashed sets soften the edge.

    >>> resident_share(footprint=50e6, capacity=96e6), resident_share(footprint=120e6, capacity=96e6)
    (1.0, 0.20000000000000018)
    """
    ratio = 4.0 * capacity / footprint - 3.0
    return clip(ratio, 0.0 * ratio, 0.0 * ratio + 1.0)


def overlapped_time(*, compute: Seconds, memory: Seconds, exposed: Fraction) -> Seconds:
    """Time of compute and memory that overlap except near balance, where neither hides the other's fluctuations.

        longer + exposed · shorter² / longer

    >>> overlapped_time(compute=1.0, memory=1.0, exposed=0.25), overlapped_time(compute=1.0, memory=0.1, exposed=0.25)
    (1.25, 1.0025)
    """
    longer, shorter = maximum(compute, memory), minimum(compute, memory)
    return longer + exposed * shorter * shorter / where(longer > 0, longer, 1.0)


def channel_turns(*, stride: Bytes, period: Bytes) -> Count:
    """Times that rows at a stride queue for the same channels of memory, where channels follow plain bits of an address.

        1, 2 where the stride is a multiple of 2 · period, 4 where it is one of 4 · period

    `period` is what all channels take of consecutive addresses; 0 where addresses are hashed over the channels. That further
    powers of two cost no more is what rows show; a stride that is nearly such a multiple is taken as none.

    >>> channel_turns(stride=262144.0, period=65536.0), channel_turns(stride=122088.0, period=65536.0)
    (4.0, 1.0)
    """
    if is_zero(period):
        return 1.0
    share = stride / period
    one = 1.0 + 0.0 * share
    met = (share > 0.0) & (share % 2.0 == 0.0)
    return where(met, where(share % 4.0 == 0.0, 4.0 * one, 2.0 * one), one)
