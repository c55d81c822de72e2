"""Time of vector functions at the peak of lanes and special-function units."""

from ridgeline.arrays import maximum
from ridgeline.quantities import Count, FlopsPerSecond, Seconds


def vector_time(*, lane: Count, special: Count, lane_rate: FlopsPerSecond, special_rate: FlopsPerSecond) -> Seconds:
    """Time of lane operations and special functions that overlap: the larger of the two.

        t = max(lane / lane_rate, special / special_rate)

    >>> vector_time(lane=4e9, special=1e9, lane_rate=33e12, special_rate=4e12)
    0.00025
    """
    return maximum(lane / lane_rate, special / special_rate)
