"""The event loop: requests come, replicas step, caches cross links; one event for each change of what runs."""

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ridgeline.errors import InfeasibleError
from ridgeline.quantities import Bytes, Count, Joules, Seconds, Watts
from ridgeline.serving.arrivals import Counts, Numbers, Random, Requests
from ridgeline.serving.policy import Serving
from ridgeline.serving.scheduler import Live, Replica, StepRecord
from ridgeline.serving.speculation import Speculation
from ridgeline.serving.surface import StepTime


@dataclass(frozen=True, kw_only=True)
class Cache:
    """Room for keys and values on one replica, and what a token takes (to send it, or to swap it)."""

    tokens: Count
    bytes_per_token: Bytes = 0.0


class Census(NamedTuple):
    """Where all requests are, counted anew at an event."""

    time: Seconds
    arrived: int
    finished: int
    rejected: int
    waiting: int
    running: int
    sending: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Played:
    """What became of each request, and the log of all steps. Times are s from the start; NaN where a request was rejected."""

    requests: Requests
    first: Numbers
    finish: Numbers
    preempted: Counts
    replica: Counts  # that decoded it
    rejected: tuple[int, ...]
    log: tuple[StepRecord, ...]
    busy: tuple[Seconds, ...]  # by replica
    capacity: int  # pages of a replica
    dynamic_energy: Joules
    static_power: Watts
    end: Seconds
    sent: Bytes  # over links


def simulate(
    requests: Requests,
    step_time: StepTime,
    serving: Serving,
    cache: Cache,
    *,
    random: Random,
    speculation: Speculation | None = None,
    prefill_step_time: StepTime | None = None,
    observer: Callable[[Census, Sequence[Replica]], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Played:
    """Play requests through a service until the last one is done.

    `random` draws routes and accepted tokens. A request that no replica could ever hold is rejected when it comes, and the rest
    are served. Raises `InfeasibleError` where that is all of them. With speculation, `step_time` must be a speculative one.
    """
    world = _World(requests, step_time, prefill_step_time or step_time, serving, cache, speculation, random)
    world.observer, world.progress = observer, progress
    world.run()
    return world.played()


_STEP, _SENT, _WAKE = 0, 1, 2


class _World:
    """The state of a run."""

    def __init__(
        self,
        requests: Requests,
        step_time: StepTime,
        prefill_step_time: StepTime,
        serving: Serving,
        cache: Cache,
        speculation: Speculation | None,
        random: Random,
    ) -> None:
        self.requests, self.serving, self.cache = requests, serving, cache
        pages = int(cache.tokens // serving.page)
        split = serving.policy == "disaggregated"
        verified = 1 if speculation is None else speculation.verified
        gain = 1.0 if speculation is None else speculation.gain
        self.servers = [
            Replica(
                number, step_time, serving, pages=pages, role="decode" if split else "both", verified=verified, gain=gain,
                bytes_per_token=cache.bytes_per_token,
            )
            for number in range(serving.replicas)
        ]  # fmt: skip
        first = len(self.servers)
        extra = range(first, first + serving.prefill_replicas) if split else ()
        self.prefillers = [Replica(number, prefill_step_time, serving, pages=pages, role="prefill") for number in extra]
        self.replicas = [*self.servers, *self.prefillers]
        self.entries = self.prefillers or self.servers
        steps = requests.output - 1 if speculation is None else speculation.steps(requests.output - 1, random)
        self.lives = [
            Live(*row)
            for row in zip(
                range(len(requests)), requests.arrival.tolist(), requests.prompt.tolist(), requests.output.tolist(),
                requests.prefix.tolist(), requests.group.tolist(), steps.tolist(), requests.prompt.tolist(), strict=True,
            )
        ]  # fmt: skip
        self.routes = {
            pool: random.integers(0, size, len(requests)).tolist() if serving.routing == "random" else None
            for pool, size in (("entry", len(self.entries)), ("decode", len(self.servers)))
        }
        self.too_large = self.servers[0].too_large(requests.prompt, requests.output).tolist()
        self.turn = {"entry": 0, "decode": 0}
        self.heap: list[tuple[Seconds, int, int, int, int]] = []  # time, order, kind, who, version
        self.orders = 0
        self.links = [0.0] * len(self.replicas)  # when each prefill replica's link is free
        self.sending: dict[int, tuple[int, int, int, tuple[int, int]]] = {}  # request → replica, pages, shared pages, prefix
        self.finish = np.full(len(requests), math.nan)
        self.rejected: list[int] = []
        self.done = self.arrived = self.told = 0
        self.sent_bytes = 0.0
        self.now = 0.0
        self.observer: Callable[[Census, Sequence[Replica]], None] | None = None
        self.progress: Callable[[int, int], None] | None = None

    def run(self) -> None:
        """Take events in order of time; where times are equal, requests come first."""
        lives, heap, count = self.lives, self.heap, len(self.lives)
        while self.arrived < count or heap:
            if self.arrived < count and (not heap or lives[self.arrived].arrival <= heap[0][0]):
                live = lives[self.arrived]
                self.arrived += 1
                self.now = live.arrival
                self._arrive(live)
            else:
                time, _, kind, who, version = heapq.heappop(heap)
                if kind == _STEP:
                    replica = self.replicas[who]
                    if replica.plan is None or replica.plan.version != version:
                        continue  # it was ended earlier, by a request that came
                    self.now = time
                    self._end_step(replica)
                elif kind == _SENT:
                    self.now = time
                    self._receive(lives[who])
                else:
                    self._start(self.replicas[who])
            if self.observer is not None:
                self.observer(self.census(), self.replicas)

    def census(self) -> Census:
        """Count where requests are, from the queues themselves."""
        waiting = sum(len(one.waiting) + len(one.swapped) for one in self.replicas)
        running = sum(len(one.running) - len(one.padding) for one in self.replicas)
        return Census(self.now, self.arrived, self.done, len(self.rejected), waiting, running, len(self.sending))

    def _arrive(self, live: Live) -> None:
        if self.too_large[live.index]:
            self.rejected.append(live.index)
            return
        self._hand_over(live, self._route(live, "entry", self.entries))

    def _route(self, live: Live, pool: str, replicas: list[Replica]) -> Replica:
        """Choose a replica: in turn, drawn, or with the fewest tokens of requests that are not finished."""
        drawn = self.routes[pool]
        if len(replicas) == 1:
            return replicas[0]
        if drawn is not None:
            return replicas[drawn[live.index]]
        if self.serving.routing == "round-robin":
            self.turn[pool] += 1
            return replicas[(self.turn[pool] - 1) % len(replicas)]
        return min(replicas, key=lambda one: (one.outstanding, one.number))

    def _hand_over(self, live: Live, replica: Replica) -> None:
        replica.enqueue(live)
        if replica.plan is None:
            self._wake(replica)
        else:
            self._schedule(replica, replica.interrupt(self.now))

    def _wake(self, replica: Replica) -> None:
        """Let an idle replica start once all that happens now has happened: requests that come together start together."""
        self.orders += 1
        heapq.heappush(self.heap, (self.now, self.orders, _WAKE, replica.number, 0))

    def _start(self, replica: Replica) -> None:
        if replica.plan is None:
            self._schedule(replica, replica.start(self.now))

    def _schedule(self, replica: Replica, end: Seconds | None) -> None:
        if end is not None:
            self.orders += 1
            heapq.heappush(self.heap, (end, self.orders, _STEP, replica.number, replica.version))

    def _end_step(self, replica: Replica) -> None:
        replica.end(self.now)
        for live in replica.finished:
            self.finish[live.index] = self.now
            self.done += 1
        if self.progress is not None and self.done >= self.told + max(1, len(self.lives) // 200):
            self.told = self.done
            self.progress(self.done, len(self.lives))
        for live in replica.prefilled:
            self._send(live, replica)
        self._start(replica)

    def _send(self, live: Live, replica: Replica) -> None:
        """Put a prompt's cache on the replica's link, first come first served; its pages stay until it has arrived."""
        del replica.running[live.order]
        replica.outstanding -= live.prompt + live.output
        self.sending[live.index] = (replica.number, live.own, live.shared, live.key)
        live.own = live.shared = 0
        live.missing = True
        moved = live.target * self.cache.bytes_per_token
        start = max(self.now, self.links[replica.number])
        end = start + (moved / self.serving.link_bandwidth if self.serving.link_bandwidth else 0.0)
        self.links[replica.number] = end
        self.sent_bytes += moved
        self.orders += 1
        heapq.heappush(self.heap, (end + self.serving.link_latency, self.orders, _SENT, live.index, 0))

    def _receive(self, live: Live) -> None:
        number, own, shared, key = self.sending.pop(live.index)
        sender = self.replicas[number]
        sender.pages.give(own)
        if shared:
            sender.pages.leave(key)
        self._hand_over(live, self._route(live, "decode", self.servers))
        if sender.plan is None:
            self._wake(sender)  # its pages may have been what a prompt waited for

    def played(self) -> Played:
        """Return what became of all."""
        if self.done == 0:
            least = min(self.lives, key=lambda one: one.prompt + one.output)
            raise InfeasibleError(
                f"no request fits: the smallest needs {least.prompt + least.output:,} tokens of cache, "
                f"and there is room for {int(self.cache.tokens):,}"
            )
        lives = self.lives
        power = sum(one.step_time.static_power for one in self.replicas)
        return Played(
            requests=self.requests,
            first=np.array([live.first for live in lives]),
            finish=self.finish,
            preempted=np.array([live.preempted for live in lives], dtype=np.int64),
            replica=np.array([live.replica for live in lives], dtype=np.int64),
            rejected=tuple(self.rejected),
            log=tuple(sorted((row for one in self.replicas for row in one.log), key=lambda row: (row.start, row.replica))),
            busy=tuple(one.busy for one in self.replicas),
            capacity=self.replicas[0].pages.capacity,
            dynamic_energy=sum(one.energy for one in self.replicas),
            static_power=power,
            end=self.now,
            sent=self.sent_bytes,
        )
