"""Intervals of what a served run answers: from services that were measured, the chip left out."""

from ridgeline.api.serving import Served
from ridgeline.mapping.intervals import as_interval, half_widths
from ridgeline.results import Interval

_KINDS = {"ttft": "served:ttft", "tpot": "served:tpot", "throughput": "served:output_throughput_total"}


def service_intervals(found: Served) -> dict[str, Interval]:
    """Return the intervals of a run's TTFT, TPOT and throughput, as factors; those alone for which services were measured.

    They are of traces with their own arrivals (TTFT, TPOT) and of maximum load (throughput): near the load at which queues grow
    without end, TTFT is less sure than that. A run at the level `ideal` has none.
    """
    known = found.chip.residuals
    if known is None or found.level != "mapped":
        return {}
    intervals: dict[str, Interval] = {}
    for name, kind in _KINDS.items():
        widths = half_widths(known, kind, 1.0, found.chip.family)
        if widths is None:
            continue
        one = as_interval(known, widths)
        if name == "throughput":  # a rate: what its time takes more it is less
            one = Interval(coverage=one.coverage, lower=1.0 / one.upper, upper=1.0 / one.lower)
        intervals[name] = one
    return intervals
