"""Time lines in the Chrome trace format, which ui.perfetto.dev opens."""

import json
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

from ridgeline.errors import InputError
from ridgeline.quantities import Hertz
from ridgeline.simulate.pipeline import Span

_PROCESS = 1


def trace_events(spans: Iterable[Span], *, clock: Hertz, process: str = "Ridgeline simulation") -> Iterator[dict[str, Any]]:
    """Yield the events of a time line: names of the process and of a thread a unit, then one complete event ("X") a span.

    Times are microseconds, which the format wants: cycles / clock · 10⁶. Units become threads in order of their first span.

    >>> events = list(trace_events([Span("array", "tile 0", 10, 30)], clock=1e9))
    >>> events[-1]["name"], events[-1]["ts"], events[-1]["dur"]  # 10 and 20 cycles of 1 ns
    ('tile 0', 0.01, 0.02)
    """
    if not clock > 0:
        raise InputError(f"the clock of a time line must be positive, not {clock!r}")
    threads: dict[str, int] = {}
    yield {"ph": "M", "name": "process_name", "pid": _PROCESS, "tid": 0, "args": {"name": process}}
    for span in sorted(spans, key=lambda one: one.start):
        if span.unit not in threads:
            thread = threads[span.unit] = len(threads) + 1
            yield {"ph": "M", "name": "thread_name", "pid": _PROCESS, "tid": thread, "args": {"name": span.unit}}
            yield {"ph": "M", "name": "thread_sort_index", "pid": _PROCESS, "tid": thread, "args": {"sort_index": thread}}
        yield {
            "ph": "X",
            "name": span.name,
            "cat": span.unit,
            "pid": _PROCESS,
            "tid": threads[span.unit],
            "ts": span.start / clock * 1e6,
            "dur": (span.end - span.start) / clock * 1e6,
            "args": {"start cycle": span.start, "cycles": span.end - span.start},
        }


def write_trace(spans: Iterable[Span], stream: TextIO, *, clock: Hertz, process: str = "Ridgeline simulation") -> None:
    """Write a time line as JSON into an open text stream, event by event, so that a long one needs no copy in memory."""
    stream.write('{"displayTimeUnit": "ns", "traceEvents": [')
    for number, event in enumerate(trace_events(spans, clock=clock, process=process)):
        stream.write(("," if number else "") + "\n" + json.dumps(event))
    stream.write("\n]}\n")
