"""What a step of mixed decode and prefill takes: tables made from `estimate` once, read thousands of times.

A step decodes d sequences at a mean context c̄ and prefills chunks of nᵢ new tokens after pᵢ cached ones, r of which end their
prompt:

    time = shared(d·v + Σ nᵢ) + head(d·v + r) + decode(d, c̄) + prompts(Σ nᵢ) + Σ prefill(nᵢ, pᵢ)

`shared` are the operations that decode and prefill have in common and that take the same time for the same number of tokens:
products with weight matrices, norms, experts. Their weights are read once for all tokens of the step. `head` is the
product with the vocabulary, for tokens whose logits are needed. `decode` and `prefill` are what a phase has of its own:
attention above all; of prefill's, `prompts` is what no past changes. v tokens are verified a sequence (1 without speculation).

Where a host issues kernels more slowly than the chip runs them, no step is shorter than it takes for those of a step; what it adds
once a request is no part of a step.

What that neglects: decode sequences have one mean context, so a layer with a window sees the mean, not the spread; chunks of
one step do not share a launch; what one phase leaves idle another does not use, because operations follow one another.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import numpy as np

from ridgeline.arrays import total
from ridgeline.errors import InputError
from ridgeline.mapping.software_step import HOST, ISSUE, REQUEST
from ridgeline.quantities import Count, Fraction, Joules, Seconds, Watts
from ridgeline.results import Estimate, OperationEstimate
from ridgeline.specs.model import Model
from ridgeline.specs.scenario import Scenario

Estimator = Callable[[Scenario], Estimate]  # must take arrays of counts
Numbers = np.ndarray[Any, np.dtype[np.float64]]


class StepCost(NamedTuple):
    """Time of a step and the energy of what moves and switches in it; static energy is not in it."""

    time: Seconds
    energy: Joules


class Chunk(NamedTuple):
    """Part of a prompt that a step computes: `new` tokens after `past` that are cached."""

    new: int
    past: int


class DecodeLine(NamedTuple):
    """Cost of a decode step as a straight line in the mean context, valid for `span` tokens more."""

    time: Seconds
    time_slope: Seconds
    energy: Joules
    energy_slope: Joules
    span: Count


class StepTime(Protocol):
    """What the simulator asks of a machine. Anything with these can be served on."""

    @property
    def static_power(self) -> Watts:
        """Power that is drawn whether or not a step runs."""
        ...

    def step(self, decode: int, context: float, chunks: Sequence[Chunk], ends: int) -> StepCost:
        """Return the cost of one step: sequences that decode at a mean context, chunks of prompts, and how many of them end."""
        ...

    def decode_line(self, decode: int, context: float) -> DecodeLine:
        """Return the cost of steps that only decode, from a mean context on."""
        ...


@dataclass(frozen=True, kw_only=True)
class LinearStepTime:
    """A step of straight lines, for checks by hand: base + per_token·tokens + per_context·Σ context.

    >>> machine = LinearStepTime(base=1.0, per_token=0.5, per_context=0.001)
    >>> machine.step(2, 100.0, [Chunk(10, 0)], 1).time  # 1 + 0.5 · 12 + 0.001 · 200
    7.2
    """

    base: Seconds
    per_token: Seconds = 0.0
    per_context: Seconds = 0.0
    power: Watts = 0.0
    static_power: Watts = 0.0

    def step(self, decode: int, context: float, chunks: Sequence[Chunk], ends: int) -> StepCost:
        """Return the cost of one step; it does not depend on how many prompts end."""
        del ends
        tokens = decode + sum(chunk.new for chunk in chunks)
        time = self.base + self.per_token * tokens + self.per_context * decode * context
        return StepCost(time, time * self.power)

    def decode_line(self, decode: int, context: float) -> DecodeLine:
        """Return a line that holds for ever."""
        time, energy = self.step(decode, context, (), 0)
        slope = self.per_context * decode
        return DecodeLine(time, slope, energy, slope * self.power, math.inf)


class SurfaceError(NamedTuple):
    """Relative difference between interpolated and directly estimated steps off the grid."""

    points: int
    mean: Fraction
    largest: Fraction


@dataclass(frozen=True, kw_only=True)
class Extent:
    """How far a surface reaches."""

    sequences: int  # that decode in one step
    context: int  # of the longest sequence
    chunk: int  # new tokens of one prompt in one step
    tokens: int  # of all kinds in one step


class Surface:
    """The step time of a model on a machine, interpolated between points that `estimate` gave.

    - shared, head: a table over tokens, every whole number up to 2048 exact, then linear between points 1 % apart;
    - decode: bilinear over (sequences, mean context), exact where the cost is b·c, c, b or a constant;
    - prefill: cost a pair of query and key, n·p + n·(n + 1)/2, bilinear in the logarithms of n and p + 16, exact for
      powers of either.

    `decode_error`, `prefill_error` and `batch_error` measure it against `estimate` off the grid.
    """

    def __init__(self, estimator: Estimator, extent: Extent, *, verified: int = 1, windows: Sequence[float] = ()) -> None:
        self.verified = verified
        self.extent = extent
        self._estimator = estimator
        self._issue = _issue_time(estimator(Scenario(phase="decode", batch=1.0, context=1.0)))
        self._alike, self._prompts_alike = self._classify()
        single = self._estimate(phase="decode", batch=_dense(extent.tokens), context=1.0)
        self.static_power = _static_power(single)
        self._chips = _energy_scale(single)
        self.has_energy = single.energy is not None
        whole = np.arange(extent.tokens + 1, dtype=np.float64)
        nodes = np.asarray(_dense(extent.tokens))
        shared, head = self._parts(single, nodes.shape)
        self._shared = [np.interp(whole, nodes, one).tolist() for one in shared]
        self._head = [np.interp(whole, nodes, one).tolist() for one in head]
        for table in (*self._shared, *self._head):
            table[0] = 0.0
        self._make_decode(windows)
        self._make_prefill(windows)
        self._rows: dict[int, tuple[list[float], list[float], list[float], list[float]]] = {}  # read so far
        self._chunks: dict[tuple[int, int], StepCost] = {}

    # ---- making the tables -----------------------------------------------------------------------------------------------

    def _estimate(self, **counts: Any) -> Estimate:
        """Return an estimate without what the host adds once a request, or while the chip runs: `step` takes account of that."""
        found = self._estimator(Scenario(**counts))
        apart = [row for row in found.operations if row.kind == HOST and row.name.endswith((ISSUE, REQUEST))]
        if not apart:
            return found
        kept = tuple(row for row in found.operations if not any(row is one for one in apart))
        return replace(found, operations=kept, time=found.time - total([row.time * row.count for row in apart]))

    def _classify(self) -> tuple[frozenset[str], frozenset[str]]:
        """Names of the operations that cost decode and prefill the same, and of those of prefill alone that no past changes."""
        tokens = np.array([1.0, 3.0, 16.0, 200.0, 3000.0])
        runs = [
            self._estimate(phase="prefill", batch=1.0, prompt=tokens),
            self._estimate(phase="prefill", batch=1.0, prompt=tokens, context=777.0),
            self._estimate(phase="decode", batch=tokens, context=1.0),
            self._estimate(phase="decode", batch=tokens, context=777.0),
        ]
        times = [
            {row.name: row.time * row.count + 0.0 * tokens for row in found.operations if not _is_head(row.name)} for found in runs
        ]

        def same(name: str, others: Sequence[Mapping[str, Any]]) -> bool:
            return all(name in one and np.allclose(times[0][name], one[name], rtol=1e-9, atol=0.0) for one in others)

        alike = frozenset(name for name in times[0] if same(name, times[1:]))
        return alike, frozenset(name for name in times[0] if name not in times[2] and same(name, times[1:2]))

    def _parts(self, found: Estimate, shape: tuple[int, ...]) -> tuple[tuple[Numbers, Numbers], tuple[Numbers, Numbers]]:
        """Return time and energy of the shared operations, and of the head."""
        shared = _sum([row for row in found.operations if row.name in self._alike], shape, self._chips)
        return shared, _sum([row for row in found.operations if _is_head(row.name)], shape, self._chips)

    def _own(self, found: Estimate, shape: tuple[int, ...]) -> tuple[Numbers, Numbers]:
        """Return time and energy of what neither is shared nor the head."""
        apart = self._alike | self._prompts_alike
        return _sum([row for row in found.operations if row.name not in apart and not _is_head(row.name)], shape, self._chips)

    def _make_decode(self, windows: Sequence[float]) -> None:
        batch = _nodes(1, self.extent.sequences, 1.08, dense=32)
        least = max(1, self.verified)
        context = _nodes(least, max(self.extent.context, least + 1), 1.2, extra=windows)
        found = self._estimate(phase="decode", batch=batch[:, None], context=context[None, :], verified=float(self.verified))
        self._batch_nodes, self._context_nodes = batch.tolist(), context.tolist()
        self._decode = self._own(found, (batch.size, context.size))

    def _make_prefill(self, windows: Sequence[float]) -> None:
        new = _nodes(1, self.extent.chunk, 1.12, dense=4, extra=windows)
        past = np.concatenate([[0.0], _nodes(4, max(self.extent.context, 8), 1.25, extra=windows)])
        found = self._estimate(phase="prefill", batch=1.0, prompt=new[:, None], context=past[None, :])
        time, energy = self._own(found, (new.size, past.size))
        # What only prefill has but no past changes is taken once for all new tokens of a step.
        nodes = _dense(self.extent.tokens)
        alone = self._estimate(phase="prefill", batch=1.0, prompt=nodes)
        once = _sum([row for row in alone.operations if row.name in self._prompts_alike], nodes.shape, self._chips)
        whole = np.arange(self.extent.tokens + 1, dtype=np.float64)
        self._prompts = [np.interp(whole, nodes, one).tolist() for one in once]
        # The head's norm runs over all new tokens, and only the last one's logits are made: the norm belongs to the chunk.
        head = _sum([row for row in found.operations if _is_head(row.name)], (new.size, past.size), self._chips)
        time = time + np.maximum(head[0] - self._head[0][1], 0.0)
        energy = energy + np.maximum(head[1] - self._head[1][1], 0.0)
        pairs = new[:, None] * (past[None, :] + (new[:, None] + 1.0) / 2)
        self._new_logs, self._past_logs = np.log(new).tolist(), np.log(past + _PAST).tolist()
        with np.errstate(divide="ignore"):
            self._prefill = tuple(np.maximum(np.log(one / pairs), -700.0).tolist() for one in (time, energy))

    # ---- reading them ----------------------------------------------------------------------------------------------------

    def step(self, decode: int, context: float, chunks: Sequence[Chunk], ends: int) -> StepCost:
        """Return the cost of one step."""
        time = energy = 0.0
        if decode:
            line = self._own_line(decode, context)
            time, energy = line.time, line.energy
        new = 0
        for chunk in chunks:
            new += chunk.new
            seconds, joules = self.prefill(chunk.new, chunk.past)
            time += seconds
            energy += joules
        if new:
            time += self._prompts[0][new]
            energy += self._prompts[1][new]
        rows = decode * self.verified + ends
        tokens = decode * self.verified + new
        return StepCost(
            max(time + self._shared[0][tokens] + self._head[0][rows], self._issue),
            energy + self._shared[1][tokens] + self._head[1][rows],
        )

    def decode_line(self, decode: int, context: float) -> DecodeLine:
        """Return the cost of a decode step; the span ends where the next cell of the table begins."""
        time, slope, energy, energy_slope, span = self._own_line(decode, context)
        tokens = decode * self.verified
        time = time + self._shared[0][tokens] + self._head[0][tokens]
        if time < self._issue:  # the host is slower than the chip, until contexts have grown
            span = min(span, (self._issue - time) / slope) if slope > 0.0 else span
            time, slope = self._issue, 0.0
        return DecodeLine(
            time,
            slope,
            energy + self._shared[1][tokens] + self._head[1][tokens],
            energy_slope,
            span,
        )

    def _own_line(self, decode: int, context: float) -> DecodeLine:
        row = self._rows.get(decode)
        if row is None:
            row = self._rows[decode] = self._make_row(decode)
        nodes = self._context_nodes
        place = min(max(bisect_right(nodes, context) - 1, 0), len(nodes) - 2)
        ahead = context - nodes[place]
        slope, energy_slope = row[1][place], row[3][place]
        span = nodes[place + 1] - context if place < len(nodes) - 2 else math.inf
        return DecodeLine(row[0][place] + slope * ahead, slope, row[2][place] + energy_slope * ahead, energy_slope, span)

    def _make_row(self, decode: int) -> tuple[list[float], list[float], list[float], list[float]]:
        """Return value and slope over the context, of time and of energy, for so many sequences."""
        place, after, share = _between(self._batch_nodes, decode)
        found: list[list[float]] = []
        for table in self._decode:
            values = table[place] * (1.0 - share) + table[after] * share
            found += [values.tolist(), (np.diff(values) / np.diff(self._context_nodes)).tolist()]
        return found[0], found[1], found[2], found[3]

    def prefill(self, new: int, past: int) -> StepCost:
        """Return what a chunk has of its own: its attention, above all."""
        found = self._chunks.get((new, past))
        if found is None:
            found = self._chunks[new, past] = self._prefill_cost(new, past)
        return found

    def _prefill_cost(self, new: int, past: int) -> StepCost:
        i, after, a = _between(self._new_logs, math.log(new))
        j, beyond, b = _between(self._past_logs, math.log(past + _PAST))
        pairs = new * (past + (new + 1) / 2)
        time, energy = (
            pairs * math.exp((1 - a) * (low[j] + b * (low[beyond] - low[j])) + a * (high[j] + b * (high[beyond] - high[j])))
            for low, high in ((table[i], table[after]) for table in self._prefill)
        )
        return StepCost(time, energy)

    # ---- how good they are -----------------------------------------------------------------------------------------------

    def decode_error(self, points: int = 256, seed: int = 0) -> SurfaceError:
        """Compare decode steps at random sequences and contexts with `estimate`."""
        random = np.random.default_rng(seed)
        batch = np.floor(np.exp(random.uniform(0.0, math.log(self.extent.sequences + 1), points)))
        least = max(1, self.verified)
        context = np.floor(np.exp(random.uniform(math.log(least), math.log(max(self.extent.context, least + 1)), points)))
        direct = self._estimate(phase="decode", batch=batch, context=context, verified=float(self.verified)).time
        ours = [self.decode_line(int(b), float(c)).time for b, c in zip(batch, context, strict=True)]
        return _compare(ours, direct)

    def prefill_error(self, points: int = 256, seed: int = 0) -> SurfaceError:
        """Compare chunks of one prompt, at random lengths after random pasts, with `estimate`."""
        random = np.random.default_rng(seed)
        new = np.floor(np.exp(random.uniform(0.0, math.log(self.extent.chunk + 1), points)))
        past = np.floor(np.expm1(random.uniform(0.0, math.log(self.extent.context + 1), points)))
        direct = self._estimate(phase="prefill", batch=1.0, prompt=new, context=past).time
        ours = [self.step(0, 0.0, [Chunk(int(n), int(p))], 1).time for n, p in zip(new, past, strict=True)]
        return _compare(ours, direct)

    def batch_error(self, points: int = 64, seed: int = 0) -> SurfaceError:
        """Compare steps of two to eight equal prompts with `estimate` of that batch: how far sums over chunks are from it."""
        random = np.random.default_rng(seed)
        most = max(2, min(8, self.extent.tokens // 16))
        batch = np.floor(random.uniform(2, most + 1, points))
        longest = np.minimum(self.extent.chunk, self.extent.tokens // batch)
        new = np.floor(np.exp(random.uniform(0.0, 1.0, points) * np.log(longest)))
        direct = self._estimate(phase="prefill", batch=batch, prompt=new, context=0.0).time
        ours = [self.step(0, 0.0, [Chunk(int(n), 0)] * int(b), int(b)).time for b, n in zip(batch, new, strict=True)]
        return _compare(ours, direct)


def _between(nodes: Sequence[float], value: float) -> tuple[int, int, float]:
    """Return the places of the nodes around a value, and how far it is from the first to the second."""
    place = min(max(bisect_right(nodes, value) - 1, 0), max(len(nodes) - 2, 0))
    after = min(place + 1, len(nodes) - 1)
    return place, after, (value - nodes[place]) / (nodes[after] - nodes[place]) if after > place else 0.0


_PAST = 16.0  # keeps the logarithm of an empty past finite, and pasts much shorter than a chunk alike


def _compare(ours: Sequence[float], direct: Any) -> SurfaceError:
    error = np.abs(np.asarray(ours) / np.asarray(direct) - 1.0)
    return SurfaceError(int(error.size), float(error.mean()), float(error.max()))


def _issue_time(found: Estimate) -> Seconds:
    """Return how long the host takes to issue the kernels of a step, where that is longer than the chip runs; else 0."""
    exposed = any(row.kind == HOST and row.name.endswith(ISSUE) and float(row.time) > 0.0 for row in found.operations)
    apart = total([row.time * row.count for row in found.operations if row.kind == HOST and not row.name.endswith(ISSUE)])
    return float(found.time - apart) if exposed else 0.0


def _is_head(name: str) -> bool:
    return name.split()[-1] == "head" or name.startswith("head ")


def _sum(rows: Sequence[OperationEstimate], shape: tuple[int, ...], chips: Count) -> tuple[Numbers, Numbers]:
    """Return the time of rows of a breakdown, and the energy of all chips that run them."""
    time, energy = np.zeros(shape), np.zeros(shape)
    for row in rows:
        time = time + row.time * row.count
        for component, joules in row.cost.energy.items():
            if component != "static":
                energy = energy + joules * row.count * chips
    return time, energy


def _energy_scale(found: Estimate) -> Count:
    """Return by how much the energy of a step is more than that of the chip whose rows the breakdown has: the chips of a plan."""
    if found.energy is None:
        return 1.0
    rows = sum(joules * row.count for row in found.operations for name, joules in row.cost.energy.items() if name != "static")
    work = found.energy - found.cost.energy.get("static", 0.0)
    return float(np.mean(np.asarray(work) / np.maximum(np.asarray(rows), 1e-300)))


def _static_power(found: Estimate) -> Watts:
    static = found.cost.energy.get("static", 0.0)
    return float(np.max(np.asarray(static) / np.asarray(found.time)))


def _dense(most: int) -> Numbers:
    """Every whole number to 2048, then a step of one per cent."""
    whole = np.arange(0.0, min(most, 2048) + 1)
    whole[0] = 1.0  # replaced after: no token costs nothing
    rest = _nodes(2048, most, 1.01)[1:] if most > 2048 else np.empty(0)
    return np.concatenate([whole, rest])


def _nodes(first: float, last: float, ratio: float, *, dense: int = 0, extra: Sequence[float] = ()) -> Numbers:
    """Whole numbers from first to last, each at most `ratio` times the one before; every one up to `dense`."""
    found = {float(first), float(max(last, first))} | {float(one) for one in extra if first < one < last}
    value = float(first)
    while value < last:
        found.add(value)
        value = value + 1 if value < dense else max(value + 1, math.floor(value * ratio))
    return np.array(sorted(found))


def windows_of(model: Model) -> tuple[float, ...]:
    """Return the windows of a model's layers, where its cost has corners."""
    found = {float(one.attention.window) for one in model.decoder if one.attention and one.attention.window is not None}
    return tuple(sorted(found))


def check_model(model: Model) -> None:
    """Refuse a model that has no prompt and output of its own: an encoder, or one that reads an encoder."""
    if not model.decoder or model.encoder:
        raise InputError(f"{model.name} cannot be served request by request: a decoder is wanted, it has an encoder")
