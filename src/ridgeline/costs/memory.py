"""Time to move bytes, and the bytes that must be under way for it."""

from ridgeline.quantities import Bytes, BytesPerSecond, Seconds


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
