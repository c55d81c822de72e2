"""One replica: what waits, what runs, what the next step holds, and when it ends."""

import heapq
import math
from collections import deque
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from ridgeline.quantities import Bytes, Count, Joules, Seconds
from ridgeline.serving.arrivals import Counts
from ridgeline.serving.pages import Pages
from ridgeline.serving.policy import Serving
from ridgeline.serving.surface import Chunk, StepTime

Role = Literal["both", "prefill", "decode"]


@dataclass(slots=True, eq=False)
class Live:
    """A request on its way."""

    index: int
    arrival: Seconds
    prompt: int
    output: int
    prefix: int
    group: int
    steps: int  # decode steps that its output takes after the first token
    target: int  # tokens to have in the cache before it decodes
    cached: int = 0  # of them; while it decodes, tokens in the cache when it joined
    produced: int = 0  # output tokens, counted when it joins or leaves
    missing: bool = False  # its cache comes from elsewhere and has no pages here yet
    decoding: bool = False
    joined_at: int = 0
    own: int = 0  # pages, when last counted
    shared: int = 0  # pages of a prefix that others read too
    order: int = -1
    first: Seconds = math.nan
    preempted: int = 0
    replica: int = -1

    @property
    def key(self) -> tuple[int, int]:
        """What requests with the same prefix have in common."""
        return self.group, self.prefix


class StepRecord(NamedTuple):
    """One row of the log: equal steps that followed one another, or one step with prompts."""

    replica: int
    start: Seconds
    end: Seconds
    steps: int
    decode: int  # sequences that decoded
    joined: int  # of them, that had not decoded before
    prefill: int  # tokens of prompts
    ends: int  # prompts that were completed, each with a token
    waiting: int  # once the step was chosen
    running: int
    pages: int  # held at the end, cached prefixes included
    tokens: Count  # given out, on average where they are speculated
    stalled: Seconds  # time without decoding before the step, since the last one that decoded


@dataclass(slots=True)
class Plan:
    """The step under way."""

    start: Seconds
    lead: Seconds  # spent before the first step: swapping
    steps: int
    decode: int
    time: Seconds  # of the first step
    rise: Seconds  # of each step over the one before
    energy: Joules
    energy_rise: Joules
    parts: list[tuple[Live, int]]
    ends: int
    waiting: int
    running: int
    version: int

    def duration(self, steps: int) -> Seconds:
        """Time of the lead and so many steps: an arithmetic series, exact on a straight line."""
        return self.lead + steps * self.time + self.rise * (steps * (steps - 1) / 2)

    def joules(self, steps: int) -> Joules:
        """Energy of so many steps."""
        return steps * self.energy + self.energy_rise * (steps * (steps - 1) / 2)

    def steps_until(self, elapsed: Seconds) -> int:
        """Return the least number of steps that last so long, at most those planned."""
        elapsed -= self.lead
        if elapsed <= self.time:
            return 1
        half = self.time - self.rise / 2
        if self.rise > 1e-12 * self.time:
            guess = (math.sqrt(half * half + 2 * self.rise * elapsed) - half) / self.rise
        else:
            guess = elapsed / self.time
        steps = max(1, min(self.steps, math.floor(guess)))
        while steps < self.steps and self.duration(steps) - self.lead < elapsed:
            steps += 1
        return steps


class Replica:
    """A machine with its queue, its cache and its steps; times are those of the event loop.

    All decoding requests advance together, so that d, the decode steps so far, dates them: a request that joined at d₀ with s
    steps to go is done when d = d₀ + s. A heap holds these dates; nothing is touched token by token.
    """

    def __init__(
        self,
        number: int,
        step_time: StepTime,
        serving: Serving,
        *,
        pages: int,
        role: Role = "both",
        verified: int = 1,
        gain: Count = 1.0,
        bytes_per_token: Bytes = 0.0,
    ) -> None:
        self.number = number
        self.role: Role = role
        self.step_time = step_time
        self.serving = serving
        self.traits = serving.traits
        self.verified = verified
        self.gain = gain  # tokens that a sequence gains a step
        # Pages of the whole request are taken when it is admitted.
        self.reserves = serving.traits.padded or verified > 1 or serving.reserves
        self.bytes_per_token = bytes_per_token
        self.pages = Pages(pages, serving.page)
        self.spare = int(serving.watermark * pages)
        self.waiting: deque[Live] = deque()
        self.swapped: deque[Live] = deque()
        self.prefilling: deque[Live] = deque()
        self.running: dict[int, Live] = {}  # by order of admission, the last one last
        self.padding: list[Live] = []
        self.decoding = 0
        self.decoded = 0
        self.context = 0.0  # tokens in the caches of all decoding requests
        self.outstanding = 0  # tokens of requests that are not finished
        self.plan: Plan | None = None
        self.version = 0
        self.finished: list[Live] = []  # in the last step
        self.prefilled: list[Live] = []  # in the last step, to be sent elsewhere
        self.preemptions = 0
        self.busy: Seconds = 0.0
        self.energy: Joules = 0.0
        self.log: list[StepRecord] = []
        self._done: list[tuple[int, int, Live]] = []
        self._orders = 0
        self._joined = 0
        self._decoded_until: Seconds = 0.0

    # ---- requests come and go --------------------------------------------------------------------------------------------

    def enqueue(self, live: Live) -> None:
        """Put a request at the end of the queue."""
        live.replica = self.number
        self.outstanding += live.prompt + live.output
        self.waiting.append(live)

    def too_large(self, prompt: Counts, output: Counts) -> Any:
        """Say of which requests the cache of the replica could never hold all tokens, were they alone."""
        last = output - 1
        tokens = prompt + last + (self.verified - 1) * (last > 0)
        return -(-tokens // self.pages.page) > self.pages.capacity

    def _final_pages(self, live: Live) -> int:
        """Pages of the whole request: the last token is given out and not cached; speculated ones are."""
        last = 0 if self.role == "prefill" else live.output - 1
        return self.pages.of(live.prompt + last + (self.verified - 1 if last else 0))

    def _admit(self, live: Live) -> bool:
        """Give a request its pages, where they are; a prefix that its group holds counts as cached."""
        if len(self.running) >= self.serving.most_sequences:
            return False
        pages = self.pages
        whole = self._final_pages(live) if self.reserves else pages.of(live.target)
        held = pages.held.get(live.key) if live.prefix else None
        shared = held.pages if held is not None else 0
        reach = pages.available - (held.pages if held is not None and held.readers == 0 else 0)
        next_page = int(live.missing and not self.reserves and live.target % pages.page == 0)  # it decodes at once
        if whole - shared + next_page + (self.spare + self._due() if self.running else 0) > reach:
            return False
        if held is not None:
            pages.read(live.key)
            live.shared = shared
            if not live.missing:
                live.cached = max(live.cached, shared * pages.page)
        pages.take(whole - shared)
        live.own = whole - shared
        self._orders += 1
        live.order = self._orders
        self.running[live.order] = live
        return True

    def _due(self) -> int:
        """Pages that the decoding requests take in the next step."""
        return 0 if self.reserves else self.pages.growing[-self.decoded % self.pages.page]

    def _next(self) -> Live | None:
        """Admit the next request: those swapped out first, then the queue in its order. None: none can be."""
        queue = self.swapped or self.waiting
        if not queue or not self._admit(queue[0]):
            return None
        return queue.popleft()

    def _join(self, live: Live) -> None:
        """Let a request whose cache is complete decode from the next step on."""
        live.decoding = True
        live.missing = False
        live.joined_at = self.decoded
        live.cached = live.target
        steps = live.steps if self.verified > 1 else live.output - live.produced
        heapq.heappush(self._done, (self.decoded + steps, live.order, live))
        self.decoding += 1
        self._joined += 1
        self.context += live.target
        if not self.reserves:
            self.pages.growing[(live.target - self.decoded) % self.pages.page] += 1

    def _part(self, live: Live) -> None:
        """Take a request out of the decoding ones; its pages are counted as they are now."""
        steps = self.decoded - live.joined_at
        self.decoding -= 1
        self.context -= live.cached + steps * self.gain
        live.decoding = False
        if not self.reserves:
            self.pages.growing[(live.cached - live.joined_at) % self.pages.page] -= 1
            live.own = self.pages.of(live.cached + steps) - live.shared
        if self.decoding == 0:
            self.context = 0.0  # no rounding is carried over

    def release(self, live: Live) -> None:
        """Give back the pages of a request."""
        self.pages.give(live.own)
        if live.shared:
            self.pages.leave(live.key)
        live.own = live.shared = 0

    def _finish(self, live: Live) -> None:
        live.produced = live.output
        self.outstanding -= live.prompt + live.output
        self.finished.append(live)
        if self.traits.padded:
            self.padding.append(live)
            return
        del self.running[live.order]
        self.release(live)

    def _preempt(self) -> Seconds:
        """Take the request that was admitted last off the machine; return the time that it takes."""
        _, live = self.running.popitem()
        live.preempted += 1
        self.preemptions += 1
        swap = self.serving.preemption == "swap" and live.decoding
        if live.decoding:
            steps = self.decoded - live.joined_at
            self._part(live)
            live.produced += steps
            live.target = live.cached + steps
            live.missing = swap
        else:
            self.prefilling.remove(live)
        live.cached = 0
        moved = live.target * self.bytes_per_token if swap else 0.0
        if not swap and live.produced:
            live.target = live.prompt + live.produced  # the last token's keys and values come with the recomputation
        self.release(live)
        (self.swapped if swap else self.waiting).appendleft(live)
        return moved / self.serving.swap_bandwidth if moved and self.serving.swap_bandwidth else 0.0

    # ---- a step ----------------------------------------------------------------------------------------------------------

    def start(self, now: Seconds) -> Seconds | None:
        """Choose what the next step holds and return when it ends; None where there is nothing to do."""
        traits = self.traits
        lead = self._make_room() if traits.mixes and self.decoding else 0.0
        parts, more = self._choose_prompts()
        lead += more
        decode = self.decoding if traits.mixes or not parts else 0
        if decode and not traits.mixes:
            lead += self._make_room()
            decode = self.decoding
        if not parts and not decode:
            return None
        verified = self.verified
        mean = self.context / decode + verified if decode else 0.0
        self.version += 1
        if parts:
            chunks = [Chunk(new, live.cached) for live, new in parts]
            ends = sum(live.cached + new == live.target for live, new in parts)
            time, energy = self.step_time.step(decode, mean, chunks, ends)
            self.plan = Plan(now, lead, 1, decode, time, 0.0, energy, 0.0, parts, ends, *self._present(), self.version)
            return now + lead + time
        line = self.step_time.decode_line(decode, mean)
        done = self._done
        while not (done[0][2].decoding and done[0][2].order == done[0][1]):
            heapq.heappop(done)
        steps = done[0][0] - self.decoded
        if line.span < (steps - 1) * self.gain:
            steps = int(line.span / self.gain) + 1
        if not self.reserves and steps > 1:
            steps = self.pages.steps_within(self.decoded, steps)
        self.plan = plan = Plan(
            now, lead, steps, decode, line.time, line.time_slope * self.gain,
            line.energy, line.energy_slope * self.gain, parts, 0, *self._present(), self.version,
        )  # fmt: skip
        return now + plan.duration(steps)

    def _present(self) -> tuple[int, int]:
        """Requests that wait, and those that run."""
        return len(self.waiting) + len(self.swapped), len(self.running)

    def _make_room(self) -> Seconds:
        """Preempt until every decoding request can write its next token; return the time of swapping."""
        lead = 0.0
        if self.reserves:
            return lead
        while self._due() > self.pages.available:
            lead += self._preempt()
        return lead

    def _choose_prompts(self) -> tuple[list[tuple[Live, int]], Seconds]:
        """Return prompts, or chunks of them, for the next step, and the time of swapping in.

        Prompts that were begun go first. In a mixed step the pages that the decoding requests need are left alone.
        """
        parts: list[tuple[Live, int]] = []
        if not (self.waiting or self.prefilling or self.swapped):
            return parts, 0.0
        lead = self._gather() if self.traits.drains else 0.0
        room = self.serving.token_budget
        if self.traits.mixes:
            room -= self.decoding * self.verified
        for live in self.prefilling:
            new = self._share(live, room, bool(parts))
            if new == 0:
                return parts, lead
            parts.append((live, new))
            room -= new
        if self.traits.drains:
            return parts, lead
        while (room > 0 or not parts) and (self.swapped or self.waiting):
            ahead = (self.swapped or self.waiting)[0]
            if not ahead.missing and self._share(ahead, room, bool(parts)) == 0:
                break
            live = self._next()
            if live is None:
                break
            if live.missing:
                lead += self._swap_in(live)
                continue
            new = self._share(live, room, bool(parts))
            self.prefilling.append(live)
            parts.append((live, new))
            room -= new
        return parts, lead

    def _gather(self) -> Seconds:
        """Admit a whole batch at once, when nothing runs."""
        lead = 0.0
        if not self.running:
            while (live := self._next()) is not None:
                if live.missing:
                    lead += self._swap_in(live)
                else:
                    self.prefilling.append(live)
        return lead

    def _swap_in(self, live: Live) -> Seconds:
        """Let a request whose cache comes from elsewhere decode; return the time that it takes to come back from the host."""
        self._join(live)
        self._offer_prefix(live)
        if live.preempted == 0 or not self.serving.swap_bandwidth:
            return 0.0
        return live.target * self.bytes_per_token / self.serving.swap_bandwidth

    def _share(self, live: Live, room: int, others: bool) -> int:
        """Return the tokens of a prompt that go into the room that is left; a whole prompt may exceed it if it is alone."""
        rest = live.target - live.cached
        if self.traits.splits:
            return min(rest, max(room, 0))
        return rest if rest <= room or not others else 0

    def interrupt(self, now: Seconds) -> Seconds | None:
        """End the steps under way at the first boundary after `now`, because a request came; None: nothing changes."""
        plan = self.plan
        if plan is None or plan.steps == 1 or self.traits.drains:
            return None
        if len(self.running) >= self.serving.most_sequences or len(self.waiting) > 1 or self.swapped:
            return None  # those ahead of it could not be admitted either
        steps = plan.steps_until(now - plan.start)
        if steps >= plan.steps:
            return None
        plan.steps = steps
        self.version += 1
        plan.version = self.version
        return plan.start + plan.duration(steps)

    def end(self, now: Seconds) -> None:
        """Close the step under way: tokens are out, caches have grown, some requests are done."""
        plan = self.plan
        if plan is None:
            return
        self.plan = None
        self.finished, self.prefilled = [], []
        self.busy += now - plan.start
        self.energy += plan.joules(plan.steps)
        joined, stalled = 0, 0.0
        made = 0.0
        if plan.decode:
            joined, self._joined = self._joined, 0
            stalled = plan.start + plan.lead - self._decoded_until
            made = plan.steps * (len(self._done) if self.traits.padded else plan.decode) * self.gain
            self._advance(plan)
            self._decoded_until = now
        for live, new in plan.parts:
            live.cached += new
            if live.cached == live.target:
                self._complete_prompt(live, now)
        self.log.append(
            StepRecord(
                self.number, plan.start, now, plan.steps, plan.decode, joined, sum([new for _, new in plan.parts]),
                plan.ends, plan.waiting, plan.running,
                self.pages.capacity - self.pages.free, made + plan.ends, stalled,
            )
        )  # fmt: skip

    def _advance(self, plan: Plan) -> None:
        """Let the decoding requests gain their tokens; those that have all of them are done."""
        pages, done = self.pages, self._done
        if not self.reserves:
            growth = pages.growth(self.decoded, plan.steps)
            if growth:
                pages.take(growth)
        self.decoded += plan.steps
        self.context += plan.steps * self.decoding * self.gain
        while done and done[0][0] <= self.decoded:
            _, order, live = heapq.heappop(done)
            if not live.decoding or live.order != order:
                continue
            if self.traits.padded:
                live.decoding = False
            else:
                self._part(live)
            self._finish(live)
        if self.padding and not done:
            self._empty()

    def _empty(self) -> None:
        """Let a padded batch go, all of it at once."""
        for live in self.padding:
            del self.running[live.order]
            self.release(live)
        self.padding = []
        self.decoding = 0
        self.context = 0.0

    def _offer_prefix(self, live: Live) -> None:
        """Let others read the prefix that a request has in its cache, unless its group has one already."""
        pages = live.prefix // self.pages.page
        if not live.shared and self.pages.share(live.key, pages):
            live.shared = pages
            live.own -= pages

    def _complete_prompt(self, live: Live, now: Seconds) -> None:
        """A prompt is in the cache: its request has its next token, and decodes, leaves for another replica or is done."""
        self.prefilling.remove(live)
        live.produced += 1
        if math.isnan(live.first):
            live.first = now
        self._offer_prefix(live)
        if live.produced >= live.output:
            self._finish(live)
            if self.padding and not self._done and not self.prefilling:
                self._empty()
        elif self.role == "prefill":
            self.prefilled.append(live)
        else:
            self._join(live)
