"""A transfer as the requests that an engine keeps under way: what a window of them draws from a memory of some latency."""

from functools import lru_cache


@lru_cache(maxsize=65536)
def window_cycles(size: float, *, bandwidth: float, latency: float, request: float, window: int) -> float:
    """Return the cycles that a transfer occupies the data path, its first latency aside.

    A request returns `latency` cycles after it was issued at the earliest, in order, and passes the data path at `bandwidth` bytes
    a cycle; it is issued as soon as fewer than `window` are under way. Stepped request by request, from none under way.

    >>> window_cycles(256.0, bandwidth=16.0, latency=100.0, request=64.0, window=16)  # four requests of 4 cycles, one latency
    16.0
    >>> window_cycles(256.0, bandwidth=16.0, latency=100.0, request=64.0, window=2)  # the third waits for the first
    108.0
    """
    returns = [0.0] * window  # of the last requests, by number modulo the window
    issued = last = left = 0.0
    count = int(-(-size // request))
    for number in range(count):
        left = min(request, size - number * request)
        issued = max(issued, returns[number % window])
        last = max(issued + latency, last + left / bandwidth)
        returns[number % window] = last
    first = min(request, size) / bandwidth
    return last - latency + first if count else 0.0
