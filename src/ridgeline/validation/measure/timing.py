"""How long a call takes on a machine that others use too: samples in which another program ran are told apart from the rest."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from threading import get_native_id
from typing import Any, NamedTuple, Protocol

from ridgeline.quantities import Count, Seconds

Call = Callable[[], Any]


class Sample(NamedTuple):
    """One timed call, and whether another program took one of its cores meanwhile."""

    time: Seconds
    disturbed: bool


class Timing(NamedTuple):
    """A call's time, with its spread: of the samples in which nothing else ran, of all where there are none such."""

    time: Seconds  # the lowest decile
    median: Seconds
    samples: int  # that were not disturbed
    disturbed: int

    @property
    def spread(self) -> Count:
        """The median over the lowest decile."""
        return self.median / self.time


class Clock(Protocol):
    """What takes samples on a device."""

    def now(self) -> Seconds:
        """Return the time, from any start."""
        ...

    def sample(self, call: Call) -> Sample:
        """Time one call, from its start to the end of all that it started."""
        ...


class ProcessClock:
    """Wall time of a call on this machine's cores; where a core was taken away meanwhile, the CPU time of the busiest thread.

    The kernel counts how often a thread had to leave its core. Threads that wait for one that is away sleep, so that CPU time
    leaves the waiting out; a shared cache or memory that another program uses too is in either time.
    """

    def now(self) -> Seconds:
        """Return the time of a clock that is never set."""
        return time.perf_counter()

    def sample(self, call: Call) -> Sample:
        """Time one call."""
        others, before = _other_threads(), _switches()
        own, start = time.thread_time(), time.perf_counter()
        call()
        taken, own = time.perf_counter() - start, time.thread_time() - own
        switched = _switches() != before
        after = _other_threads()
        if others is None or after is None:
            return Sample(taken, switched)
        busiest = max([own, *(spent - others.get(thread, 0.0) for thread, spent in after.items())])
        if switched or taken > _WAITED * busiest + _WOKEN:
            return Sample(min(taken, busiest) or taken, disturbed=True)
        return Sample(taken, disturbed=False)


def _switches() -> int:
    """Return how often a thread of this process had to leave a core to another program."""
    try:
        from resource import RUSAGE_SELF, getrusage
    except ImportError:  # only POSIX counts them
        return 0
    return getrusage(RUSAGE_SELF).ru_nivcsw


_WAITED, _WOKEN = 1.25, 50e-6  # times the busiest thread's CPU time, and seconds beside it, that a call takes without others
_TASKS = Path("/proc/self/task")


def _other_threads() -> dict[int, Seconds] | None:
    """Return the CPU time of each other thread of this process; None where the system does not tell."""
    found: dict[int, Seconds] = {}
    own = get_native_id()
    try:
        threads = [int(task.name) for task in _TASKS.iterdir()]
    except OSError:  # another system than Linux
        return None
    for thread in threads:
        with suppress(OSError):  # one that has just ended
            if thread != own:
                found[thread] = time.clock_gettime((~thread << 3) | _THREAD_CLOCK)
    return found


_THREAD_CLOCK = 6  # in the number of a thread's clock: the scheduler's count, of one thread


def summary(samples: Sequence[Sample]) -> Timing:
    """Return the lowest decile and the median of the samples in which nothing else ran.

    >>> summary([Sample(3.0, False), Sample(1.0, False), Sample(0.5, True), Sample(2.0, False)])
    Timing(time=1.0, median=2.0, samples=3, disturbed=1)
    """
    quiet = sorted(one.time for one in samples if not one.disturbed)
    taken = quiet or sorted(one.time for one in samples)
    return Timing(taken[len(taken) // 10], taken[len(taken) // 2], len(quiet), len(samples) - len(quiet))


_WARM_UP = 2
_LEAST = 5
_PATIENCE = 1.5  # times the budget that samples may take where others disturb them


def measure(clock: Clock, call: Call, budget: Seconds, *, warm_up: int = _WARM_UP, least: int = _LEAST) -> Timing:
    """Time a call again and again for `budget` seconds, longer until `least` samples were not disturbed or patience ends."""
    for _ in range(warm_up):
        call()
    found: list[Sample] = []
    start, quiet = clock.now(), 0
    while True:
        found.append(clock.sample(call))
        quiet += not found[-1].disturbed
        spent = clock.now() - start
        if (spent >= budget and quiet >= least) or spent >= _PATIENCE * budget:
            return summary(found)


def measure_parts(clock: Clock, parts: Sequence[tuple[str, Call]], budget: Seconds, *, least: int = _LEAST) -> Timing:
    """Time calls that follow one another, again and again: the sum over them of the lowest decile of all with the same name.

    A part is short enough to be left alone now and then where the whole is not. Parts that run on one another's results keep their
    order, so that each finds in the caches what it would.
    """
    names = [name for name, _ in parts]
    found: dict[str, list[Sample]] = {name: [] for name in names}
    for _, call in parts:
        call()
    start = clock.now()
    while True:
        for name, call in parts:
            found[name].append(clock.sample(call))
        quiet = min(sum(not one.disturbed for one in samples) for samples in found.values())
        spent = clock.now() - start
        if (spent >= budget and quiet >= least) or spent >= _PATIENCE * budget:
            break
    each = {name: summary(samples) for name, samples in found.items()}
    return Timing(
        time=sum(each[name].time for name in names),
        median=sum(each[name].median for name in names),
        samples=quiet,
        disturbed=sum(one.disturbed for one in each.values()),
    )
