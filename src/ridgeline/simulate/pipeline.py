"""A pipeline of transfers, a matrix array and a vector unit with finite buffers, event by event.

Each step loads tiles, computes on the array, finishes on the vector unit and stores. What overlaps is not assumed: it follows from
the buffers' slots, the order of the transfers and what each unit waits for. Neglected: contention inside the buffers, refresh and
row misses of the memory, and partial use of a tile before all of it has arrived.
"""

import heapq
import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, get_args

from ridgeline.errors import InputError, nearest
from ridgeline.simulate.requests import window_cycles

Issuer = Literal["dma", "host", "array"]

_LOOK_AHEAD = 4096  # steps that the loader may be ahead of the array where they load nothing
_ISSUED, _LOADED, _STORED, _ARRAY, _VECTOR = range(5)


class Step(NamedTuple):
    """One step: what must arrive, how long the units take, what leaves.

    `loads` are bytes by tensor, 0 where the tile is resident already; `partial` are bytes of partial sums that are read back into
    the output buffer; `array` and `vector` are cycles; `store` are bytes. `closes` says that the output tile ends with this step
    (it is then finished by the vector unit and stored, and its slot becomes free); otherwise the next step adds to it.
    """

    loads: tuple[float, ...] = ()
    array: int = 0
    vector: int = 0
    store: float = 0
    partial: float = 0
    closes: bool = True
    name: str = ""


class Span(NamedTuple):
    """Something that a unit did from one cycle to another, for the time line."""

    unit: str
    name: str
    start: int
    end: int


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """Units and buffers: bandwidth in bytes a cycle, times in cycles, burst in bytes.

    `load_slots` are buffers for tiles of each tensor (1: single, 2: double), `output_slots` for output tiles. A transfer is issued
    (`issue` cycles of the DMA engine, of one host that serves all engines, or taken from the array; with `issue_bytes`, as many for
    every so many bytes of it, the first of which come while the others are asked for), then waits `latency`
    cycles and occupies the data path for its bytes, rounded up to bursts; `in_flight` transfers may be between issue and end
    (1: a blocking engine). With a `request` size in bytes a transfer is that many bytes at a time, `requests` of which are under
    way, each for `latency` cycles; otherwise only the bandwidth limits the data path. The engine is set up for each step that
    loads anything: `start` cycles after its transfers before that have ended, because they use what is set; a host that issues does
    that. The array is set up for each step too: `array_start` cycles after the step before. `rates` are the shares of the bandwidth
    that the tensors of `loads` come at, where they come from a slower memory. Stores go through the
    engine of the loads, before waiting loads, or have an engine and a data path of their own (`separate_store`). A pipeline that
    is not `asynchronous` ends a step before it begins the next.
    """

    bandwidth: float
    latency: int = 0
    burst: int = 1
    issue: float = 0
    start: int = 0
    issued_by: Issuer = "dma"
    in_flight: int = 1
    load_slots: int = 2
    output_slots: int = 2
    separate_store: bool = False
    asynchronous: bool = True
    request: float | None = None
    requests: int = 1
    issue_bytes: float | None = None
    array_start: int = 0
    rates: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Refuse values that no pipeline has."""
        if not self.bandwidth > 0:
            raise InputError(f"bandwidth of a pipeline must be positive (bytes a cycle), not {self.bandwidth!r}")
        if self.request is not None and not self.request > 0:
            raise InputError(f"a request of a pipeline must be of more than 0 bytes, not {self.request!r}")
        if not self.issue >= 0:
            raise InputError(f"issue of a pipeline must be 0 cycles or more, not {self.issue!r}")
        for rate in self.rates:
            if not 0 < rate <= 1:
                raise InputError(f"a tensor comes at a share of the bandwidth above 0 and at most 1, not {rate!r}")
        least_of = {
            "latency": 0,
            "array_start": 0,
            "start": 0,
            "burst": 1,
            "in_flight": 1,
            "load_slots": 1,
            "output_slots": 1,
            "requests": 1,
        }
        for name, least in least_of.items():
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise InputError(f"{name} of a pipeline must be a whole number of at least {least}, not {value!r}")
        if self.issued_by not in get_args(Issuer):
            raise InputError(f"transfers are issued by one of dma, host, array, not {self.issued_by!r}: {_near(self.issued_by)}")

    def path_cycles(self, moved: float) -> float:
        """Return the cycles that a transfer of some bytes occupies the data path."""
        if self.request is None:
            return moved / self.bandwidth
        return window_cycles(moved, bandwidth=self.bandwidth, latency=self.latency, request=self.request, window=self.requests)


def _near(name: str) -> str:
    return nearest(str(name), get_args(Issuer))


@dataclass(frozen=True, kw_only=True, eq=False)
class PipelineRun:
    """What a sequence of steps took, in cycles and bytes.

    `stalls` says what the array waited for, and with its busy cycles adds up to `cycles`: `load` (a tile or partial sums not yet
    there), `output` (no free output buffer), `synchronous` (the step before not ended), `issue` (transfers that the array
    issues itself), `start` (its own set-up), `drain` (after its last step).
    """

    cycles: int
    steps: int
    busy: Mapping[str, int]  # unit → cycles; of an engine: its data path
    stalls: Mapping[str, int]
    transfers: int
    bytes_loaded: float
    bytes_stored: float
    bytes_moved: float  # rounded up to bursts
    spans: tuple[Span, ...] = field(default=(), repr=False)


class _Engine:
    """A DMA engine: transfers in order, `in_flight` of them between issue and end, one at a time on the data path."""

    def __init__(self, unit: str) -> None:
        self.unit = unit
        self.issue_free = 0  # when the next transfer may be issued
        self.path_free = 0
        self.ends: deque[int] = deque()
        self.busy = 0


class _Simulation:
    """The state of one run; every method says what happens in the present cycle."""

    def __init__(self, pipeline: Pipeline, steps: Iterable[Step], tensors: tuple[str, ...], spans: bool) -> None:
        self.pipeline, self.tensors = pipeline, tensors
        self.steps = iter(steps)
        self.now = self.order = 0
        self.events: list[tuple[int, int, int, int]] = []
        self.spans: list[Span] | None = [] if spans else None
        self.loader = _Engine("load")
        self.storer = _Engine("store") if pipeline.separate_store else self.loader
        self.host_free = 0
        self.cycles_of: dict[tuple[float, float], tuple[int, int]] = {}
        self.transfers, self.loaded_bytes, self.stored_bytes, self.moved_bytes = 0, 0.0, 0.0, 0
        # the step that is being loaded, and those whose transfers are issued
        self.index = self.begun = -1
        self.queue: deque[tuple[int, float]] = deque()  # tensor, bytes; tensor −1: partial sums
        self.tile = self.next_tile = 0
        self.firsts: dict[int, deque[int]] = {}  # tensor → first steps of its last tiles
        self.waiting: deque[tuple[int, Step, int]] = deque()  # number, step, output tile
        self.arriving: deque[list[int]] = deque()  # transfers under way of each waiting step, and when the last ended
        self.exhausted = False
        # the units
        self.array_busy = self.array_start = self.array_free = self.array_cycles = self.taken = 0
        self.array_step: tuple[int, Step] | None = None
        self.computed = self.ended = self.freed = 0
        self.ended_time = self.set_up = 0
        self.stalls: dict[str, int] = dict.fromkeys(("load", "output", "synchronous", "issue", "start", "drain"), 0)
        self.vector_queue: deque[tuple[int, Step]] = deque()
        self.vector_step: tuple[int, Step] | None = None
        self.vector_start = self.vector_cycles = 0
        self.stores: deque[tuple[int, float, str]] = deque()
        self._fetch()

    def run(self) -> PipelineRun:
        """Step from event to event until nothing is left to happen."""
        self._set_up_array()
        self._dispatch()
        events = self.events
        while events:
            self.now = events[0][0]
            while events and events[0][0] == self.now:
                _, _, kind, number = heapq.heappop(events)
                self._handle(kind, number)
            self._dispatch()
        self.stalls["drain"] += self.now - self.array_free
        busy = {"load": self.loader.busy, "array": self.array_cycles, "vector": self.vector_cycles}
        if self.storer is not self.loader:
            busy["store"] = self.storer.busy
        return PipelineRun(
            cycles=self.now,
            steps=self.ended,
            busy=busy,
            stalls=self.stalls,
            transfers=self.transfers,
            bytes_loaded=self.loaded_bytes,
            bytes_stored=self.stored_bytes,
            bytes_moved=self.moved_bytes,
            spans=tuple(sorted(self.spans or (), key=lambda span: span.start)),
        )

    def _push(self, time: int, kind: int, number: int = 0) -> None:
        self.order += 1
        heapq.heappush(self.events, (time, self.order, kind, number))

    def _handle(self, kind: int, number: int) -> None:
        if kind == _LOADED:
            self.loader.ends.popleft()
            pending = self.arriving[number - self.computed - (self.array_step is not None)]
            pending[0] -= 1
            pending[1] = self.now
        elif kind == _STORED:
            self.storer.ends.popleft()
            self._release()
        elif kind == _ARRAY:
            self._array_done()
        elif kind == _VECTOR:
            self._vector_done()

    def _fetch(self) -> None:
        """Take the next step of the sequence into the loader."""
        step = next(self.steps, None)
        if step is None:
            self.exhausted = True
            return
        self.index += 1
        if step.array < 0 or step.vector < 0:
            raise InputError(f"step {self.index} takes {step.array} array and {step.vector} vector cycles: neither can be negative")
        if not step.closes and (step.store or step.vector):
            raise InputError(f"step {self.index} stores or uses the vector unit but does not close its output tile")
        self.tile = self.next_tile
        self.next_tile += step.closes
        self.queue.extend((tensor, size) for tensor, size in enumerate(step.loads) if size)
        if step.partial:
            self.queue.append((-1, step.partial))
        self.waiting.append((self.index, step, self.tile))
        self.arriving.append([len(self.queue), 0])

    def _dispatch(self) -> None:
        """Start whatever can start now: the stores first, because they free buffers."""
        while self.stores and self._try_store():
            pass
        while not self.exhausted and self._try_load():
            pass
        if self.array_step is None and self.arriving and not self.arriving[0][0]:
            self._try_array()
        if self.vector_step is None and self.vector_queue:
            self._start_vector()

    def _can_issue(self, engine: _Engine) -> bool:
        return len(engine.ends) < self.pipeline.in_flight and engine.issue_free <= self.now

    def _try_store(self) -> bool:
        if not self._can_issue(self.storer):
            return False
        number, size, name = self.stores.popleft()
        self.stored_bytes += size
        self._transfer(self.storer, size, _STORED, number, name)
        return True

    def _try_load(self) -> bool:
        """Issue the next transfer of the step being loaded, or take the next step where this one's are all issued."""
        if not self.queue:
            if len(self.waiting) >= _LOOK_AHEAD:
                return False
            self._fetch()
            return not self.exhausted
        if not self._can_issue(self.loader) or (not self.pipeline.asynchronous and self.ended < self.index):
            return False
        tensor, size = self.queue[0]
        if tensor < 0:
            if self.tile - self.freed >= self.pipeline.output_slots:
                return False
        elif not self._slot(tensor):
            return False
        self.queue.popleft()
        self.loaded_bytes += size
        name = "" if self.spans is None else f"{self.tensors[tensor] if tensor >= 0 else 'partial sums'} of {self._name()}"
        first = self.index > self.begun
        self.begun = self.index
        rate = self.pipeline.rates[tensor] if 0 <= tensor < len(self.pipeline.rates) else 1.0
        self._transfer(self.loader, size, _LOADED, self.index, name, self.pipeline.start if first else 0, rate)
        return True

    def _slot(self, tensor: int) -> bool:
        """Take a buffer for the next tile of a tensor if one is free: the tile before lasts until the step before this one."""
        firsts = self.firsts.setdefault(tensor, deque())
        slots = self.pipeline.load_slots
        firsts.append(self.index)
        if len(firsts) > slots:
            if self.computed < firsts[1]:
                firsts.pop()
                return False
            firsts.popleft()
        return True

    def _name(self) -> str:
        return self.waiting[-1][1].name or f"step {self.index}"

    def _transfer(self, engine: _Engine, size: float, kind: int, number: int, name: str, start: int = 0, rate: float = 1.0) -> None:
        """Issue a transfer now; its end is known at once, because the data path serves in order."""
        pipeline = self.pipeline
        if (size, rate) not in self.cycles_of:
            if size < 0:
                raise InputError(f"a transfer of {size} bytes in step {number}: bytes cannot be negative")
            moved = math.ceil(size / pipeline.burst) * pipeline.burst
            self.cycles_of[size, rate] = moved, math.ceil(pipeline.path_cycles(moved) / rate)
        moved, cycles = self.cycles_of[size, rate]
        pieces = math.ceil(size / pipeline.issue_bytes) if pipeline.issue_bytes else 1
        issue = math.ceil(pipeline.issue * pieces) + start
        begin = max(self.now, engine.path_free) if start else self.now
        issued = begin + issue
        if pipeline.issued_by == "host":
            issued = self.host_free = max(begin, self.host_free) + issue
        elif pipeline.issued_by == "array" and issue:
            self._take_from_array(issue)
        others = math.floor(pipeline.issue * (pieces - 1))
        begin = max(issued - others + pipeline.latency, engine.path_free)
        engine.path_free = end = max(begin + cycles, issued + pipeline.latency)
        engine.issue_free = issued
        engine.ends.append(end)
        engine.busy += cycles
        self.transfers += 1
        self.moved_bytes += moved
        self._push(end, kind, number)
        if issued > self.now and pipeline.in_flight > 1:
            self._push(issued, _ISSUED)
        if self.spans is not None and cycles:
            self.spans.append(Span(engine.unit, name, begin, end))

    def _take_from_array(self, issue: int) -> None:
        """Let the array issue a transfer: a running step ends later, an idle array starts later."""
        if self.array_step is not None:
            self.taken += issue
        else:
            self._stall(max(self.array_free, self.now))
            self.array_free = max(self.array_free, self.now) + issue
            self.stalls["issue"] += issue
            self._push(self.array_free, _ISSUED)

    def _stall(self, until: int) -> None:
        """Charge the array's idle time up to a cycle to what it waited for."""
        if until <= self.array_free:
            return
        begin = min(max(self.array_free, self.set_up), until)
        self.stalls["start"] += begin - self.array_free
        if not self.pipeline.asynchronous:
            idle, begin = begin, min(max(begin, self.ended_time), until)
            self.stalls["synchronous"] += begin - idle
        pending, ready = self.arriving[0] if self.arriving else (0, 0)
        loaded = until if pending else min(max(ready, begin), until)
        self.stalls["load"] += loaded - begin
        self.stalls["output" if self.arriving else "drain"] += until - loaded
        self.array_free = until

    def _try_array(self) -> None:
        """Start the next step, whose tiles are there, if its output has a buffer."""
        number, step, tile = self.waiting[0]
        if tile - self.freed >= self.pipeline.output_slots or max(self.array_free, self.set_up) > self.now:
            return
        if not self.pipeline.asynchronous and self.ended < number:
            return
        self._stall(self.now)
        self.waiting.popleft()
        self.arriving.popleft()
        self.array_step, self.array_start = (number, step), self.now
        self._push(self.now + step.array, _ARRAY)

    def _set_up_array(self) -> None:
        """Begin to set up the array for its next step."""
        if self.pipeline.array_start:
            self.set_up = self.now + self.pipeline.array_start
            self._push(self.set_up, _ISSUED)

    def _array_done(self) -> None:
        if self.taken:  # transfers that the array issued meanwhile
            self.stalls["issue"] += self.taken
            self._push(self.now + self.taken, _ARRAY)
            self.taken = 0
            return
        if self.array_step is None:
            return
        number, step = self.array_step
        self.array_step = None
        self.array_free = self.now
        self.array_cycles += step.array
        self.computed += 1
        if not self.exhausted or self.waiting:
            self._set_up_array()
        if self.spans is not None and self.now > self.array_start:
            self.spans.append(Span("array", step.name or f"step {number}", self.array_start, self.now))
        if step.vector:
            self.vector_queue.append((number, step))
        else:
            self._finish(number, step)

    def _start_vector(self) -> None:
        self.vector_step, self.vector_start = self.vector_queue.popleft(), self.now
        self._push(self.now + self.vector_step[1].vector, _VECTOR)

    def _vector_done(self) -> None:
        if self.vector_step is None:
            return
        number, step = self.vector_step
        self.vector_step = None
        self.vector_cycles += step.vector
        if self.spans is not None:
            self.spans.append(Span("vector", step.name or f"step {number}", self.vector_start, self.now))
        self._finish(number, step)

    def _finish(self, number: int, step: Step) -> None:
        """Send a computed step's output on its way."""
        if step.store:
            self.stores.append((number, step.store, "" if self.spans is None else f"output of {step.name or f'step {number}'}"))
        elif step.closes:
            self._release()
        else:
            self.ended += 1
            self.ended_time = self.now

    def _release(self) -> None:
        """End a step and give its output buffer back."""
        self.freed += 1
        self.ended += 1
        self.ended_time = self.now


def simulate_pipeline(
    steps: Iterable[Step], pipeline: Pipeline, *, tensors: tuple[str, ...] = ("input", "weight"), spans: bool = False
) -> PipelineRun:
    """Run steps through transfers, array and vector unit with finite buffers, and say how long it takes and what waited.

    Steps and transfers keep their order. Cycles are whole; a transfer of b bytes takes ⌈b in bursts / bandwidth⌉ on the data path
    after issue and latency. With `spans` the run keeps its time line. Raises `InputError` for steps that cannot be.

    >>> steps = [Step(loads=(40,), array=10)] * 3
    >>> simulate_pipeline(steps, Pipeline(bandwidth=4.0)).cycles  # 10 to load, then 3 × 10 with the loads behind it
    40
    >>> simulate_pipeline(steps, Pipeline(bandwidth=4.0, load_slots=1)).cycles  # load, compute, load, compute …
    60
    """
    return _Simulation(pipeline, steps, tensors, spans).run()
