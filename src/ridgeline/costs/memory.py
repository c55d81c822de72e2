"""Time to move bytes: bandwidth, what is under way, bursts, caches, and what overlaps."""

from ridgeline.arrays import ceil_divide, maximum, minimum, where
from ridgeline.quantities import Bytes, BytesPerSecond, Count, Fraction, PerSecond, Seconds


def transfer_time(*, bytes: Bytes, bandwidth: BytesPerSecond) -> Seconds:
    """Time of `bytes` at the full bandwidth of a level.

        t = bytes / bandwidth   [williams2009roofline]

    >>> transfer_time(bytes=16e9, bandwidth=3.2e12)
    0.005
    """
    return bytes / bandwidth


def bytes_in_flight(*, latency: Seconds, bandwidth: BytesPerSecond) -> Bytes:
    """Bytes that must be requested and not yet arrived to keep a memory busy (Little's law [little1961]).

        bytes = latency · bandwidth

    >>> round(bytes_in_flight(latency=600e-9, bandwidth=3.35e12))
    2010000
    """
    return latency * bandwidth


def achieved_bandwidth(*, bandwidth: BytesPerSecond, in_flight: Bytes, latency: Seconds) -> BytesPerSecond:
    """Bandwidth that so many bytes under way can draw (Little's law [little1961]).

        min(bandwidth, in_flight / latency)

    >>> achieved_bandwidth(bandwidth=2e12, in_flight=16e3, latency=0.8e-6)  # one core with 16 kB under way
    20000000000.0
    """
    return minimum(bandwidth, in_flight / latency)


def burst_bytes(*, bytes: Bytes, contiguous: Bytes, burst: Bytes) -> Bytes:
    """Bytes that a transfer moves when every contiguous piece is rounded up to whole bursts.

        bytes / contiguous · ⌈contiguous / burst⌉ · burst

    >>> burst_bytes(bytes=1024.0, contiguous=16.0, burst=64.0)  # a quarter of each burst is wanted
    4096.0
    """
    return bytes / contiguous * ceil_divide(contiguous, burst) * burst


def cache_traffic(*, footprint: Bytes, passes: Count, capacity: Bytes) -> Bytes:
    """Bytes that miss when a footprint is swept `passes` times through a least-recently-used cache.

        footprint if it fits, else passes · footprint   (the reuse distance of a sweep is its footprint [mattson1970])

    A scratchpad under software may keep a part of it; a cache that replaces the oldest line keeps nothing of a longer sweep.

    >>> cache_traffic(footprint=32e6, passes=4, capacity=50e6), cache_traffic(footprint=64e6, passes=4, capacity=50e6)
    (32000000.0, 256000000.0)
    """
    return footprint * where(footprint <= capacity, 1.0 + 0.0 * passes, passes)


def scratchpad_traffic(*, footprint: Bytes, passes: Count, capacity: Bytes) -> Bytes:
    """Bytes that a footprint swept `passes` times brings in when software keeps as much of it as fits.

        footprint + (passes − 1) · max(footprint − capacity, 0)

    >>> scratchpad_traffic(footprint=64e6, passes=4, capacity=50e6)  # 64 + 3 · 14
    106000000.0
    """
    return footprint + (passes - 1) * maximum(footprint - capacity, 0.0 * footprint)


def binding_miss_time(*, miss_share: Fraction, operation_time: Seconds) -> Seconds:
    """Time of a miss above which misses bind: operations overlap with memory, and a share of them misses.

        miss_share · miss_time > operation_time   ⇒   miss_time > operation_time / miss_share   [gholami2024wall]

    >>> binding_miss_time(miss_share=0.2, operation_time=1.0)  # 80 % hits: a miss above 5 cycles binds
    5.0
    """
    return operation_time / miss_share


def pipeline_time(*, load: Seconds, compute: Seconds, store: Seconds, tiles: Count, asynchronous: bool = True) -> Seconds:
    """Time of `tiles` equal tiles that are loaded, computed and stored.

        asynchronous  load + (tiles − 1) · max(load, compute, store) + compute + store   two buffers each: fill, steady, drain
        synchronous   tiles · (load + compute + store)

    >>> pipeline_time(load=2.0, compute=3.0, store=1.0, tiles=10), pipeline_time(load=2.0, compute=3.0, store=1.0, tiles=10,
    ...                                                                          asynchronous=False)
    (33.0, 60.0)
    """
    if not asynchronous:
        return tiles * (load + compute + store)
    return load + (tiles - 1) * maximum(maximum(load, compute), store) + compute + store


def issue_share(*, bytes: Bytes, burst: Bytes, slots: Count, rate: PerSecond) -> Seconds:
    """Time that cores spend issuing transfers themselves; a DMA unit takes none of theirs.

        ⌈bytes / burst⌉ · slots / rate   issue slots of a transfer, at `rate` slots a second

    >>> issue_share(bytes=4096, burst=64, slots=2, rate=1e9)
    1.28e-07
    """
    return ceil_divide(bytes, burst) * slots / rate
