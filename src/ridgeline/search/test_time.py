"""Test-time compute: what longer chains and more samples take on a machine, and what the user's quality curve makes of it.

A query is a prompt, and what a method generates from it. All counts may be arrays: a point is (samples, chain, queries at once).
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from ridgeline.errors import InputError
from ridgeline.quantities import Bytes, Count, Fraction, Joules, Seconds
from ridgeline.results import Estimate
from ridgeline.specs.scenario import Scenario

Method = Literal["independent", "beam", "tree"]
Numbers = np.ndarray[Any, np.dtype[np.float64]]
Run = Callable[[Scenario], Estimate]


@dataclass(frozen=True, kw_only=True)
class Search:
    """How samples of a query are made.

    - independent: every sample is a chain of its own after the common prompt.
    - beam: `samples` chains run; every `segment` tokens the best of them, one in `branching`, go on in `branching` ways each
      [snell2024scaling] §5.2. Chains that survive are taken to share nothing but the prompt; the branches of one share it.
    - tree: every `segment` tokens each chain splits into `branching`, up to `samples`; what chains have in common is kept once.
    """

    method: Method = "independent"
    branching: int = 4
    segment: int = 128


class Spent(NamedTuple):
    """What queries take, all of them together; arrays over points."""

    time: Numbers
    energy: Numbers | None
    sequences: Numbers  # that decode at once, at most
    tokens: Numbers  # generated, those that a search throws away included
    shared: Numbers  # share of the cached tokens read that one read serves for more than one sequence
    short: Numbers  # bytes of memory that are missing
    bound: tuple[str, ...]


# ---- what it takes ----------------------------------------------------------------------------------------------------------


def spend(run: Run, search: Search, *, samples: Any, chain: Any, queries: Any, prompt: Count) -> Spent:
    """Return what so many queries at once take: their prompts, computed once each, and the decode steps of all their sequences.

        independent: one generation of queries · samples sequences whose prompts are shared by samples
        beam, tree:  Σ segments tokens · step(queries · sequences, at the segment's mean context)

    A segment's cached tokens are read once for all sequences that share them [kwon2023pagedattention] §4.4, as kernels for common
    prefixes do; judging and choosing among samples is not counted, nor that some chains end early.
    """
    samples, chain, queries = (
        np.ravel(one) for one in np.broadcast_arrays(*(np.asarray(x, dtype=float) for x in (samples, chain, queries)))
    )
    if search.method == "independent":
        return _independent(run, samples, chain, queries, prompt)
    return _segments(run, search, samples, chain, queries, prompt)


def _independent(run: Run, samples: Numbers, chain: Numbers, queries: Numbers, prompt: Count) -> Spent:
    scenario = Scenario(phase="generate", batch=queries * samples, prompt=prompt, output=chain, samples=samples)
    found = run(scenario)
    shape = samples.shape
    read = prompt + chain / 2.0
    held = found.capacity
    return Spent(
        time=_full(found.time, shape),
        energy=None if found.energy is None else _full(found.energy, shape),
        sequences=queries * samples,
        tokens=queries * samples * chain,
        shared=np.where(samples > 1, prompt / read, 0.0),
        short=_full(0.0 if held is None else held.shortfall, shape),
        bound=_bounds([(found.cost.time, 1.0)], shape),
    )


def _full(value: Any, shape: tuple[int, ...]) -> Numbers:
    return np.array(np.broadcast_to(np.asarray(value, dtype=np.float64), shape))


class Segment(NamedTuple):
    """One segment of a search, of one query: sequences at once, tokens of each, context before it, tokens that are read once."""

    sequences: Numbers
    tokens: Numbers
    context: Numbers
    shared: Numbers


def segments(search: Search, samples: Numbers, chain: Numbers, prompt: Count) -> list[Segment]:
    """Return the segments of a beam or tree search over points; a point that is done has segments of no tokens.

    Of s sequences whose distinct cached tokens are u, each reads a context c: they share (s·c − u) / (s − 1) tokens.

    >>> found = segments(Search(method="tree", branching=2, segment=100), np.array([4.0]), np.array([250.0]), 50.0)
    >>> [float(one.sequences[0]) for one in found], [float(one.tokens[0]) for one in found]
    ([1.0, 2.0, 4.0], [100.0, 100.0, 50.0])
    >>> [round(float(one.shared[0]), 1) for one in found]  # 50; 150; (4 · 250 − (50 + 100 + 2 · 100)) / 3
    [50.0, 150.0, 216.7]
    """
    length = float(search.segment)
    before = np.full(samples.shape, float(prompt))  # distinct tokens cached before the segment
    found: list[Segment] = []
    for index in range(math.ceil(float(np.max(chain)) / length)):
        grown = index * length
        tokens = np.clip(chain - grown, 0.0, length)
        context = np.full(samples.shape, prompt + grown)
        tree = search.method == "tree"
        sequences = np.minimum(float(search.branching) ** min(index, 64), samples) if tree else samples
        others = np.maximum(sequences - 1.0, 1.0)
        shared = np.where(sequences > 1, (sequences * context - before) / others, prompt)
        found.append(Segment(sequences, tokens, context, shared))
        kept = sequences if tree else np.maximum(samples / search.branching, 1.0)
        before = before + kept * tokens
    return found


def _segments(run: Run, search: Search, samples: Numbers, chain: Numbers, queries: Numbers, prompt: Count) -> Spent:
    shape = samples.shape
    first = run(Scenario(phase="prefill", batch=queries, prompt=prompt))
    time, energy = _full(first.time, shape), None if first.energy is None else _full(first.energy, shape)
    spent: list[tuple[Mapping[str, Any], Any]] = [(first.cost.time, 1.0)]
    short, read, once = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    most, tokens = np.zeros(shape), np.zeros(shape)
    for one in segments(search, samples, chain, prompt):
        running = one.tokens > 0
        steps = np.maximum(one.tokens, 1.0)
        asked: dict[str, Any] = {
            "phase": "decode",
            "batch": queries * one.sequences,
            "samples": one.sequences,
            "prompt": one.shared,
        }
        step = run(Scenario(**asked, context=one.context + (steps + 1.0) / 2.0))
        held = run(Scenario(**asked, context=one.context + steps)).capacity
        time = time + one.tokens * _full(step.time, shape)
        if energy is not None and step.energy is not None:
            energy = energy + one.tokens * _full(step.energy, shape)
        spent.append((step.cost.time, one.tokens))
        short = np.maximum(short, np.where(running, _full(0.0 if held is None else held.shortfall, shape), 0.0))
        most = np.maximum(most, np.where(running, queries * one.sequences, 0.0))
        tokens = tokens + queries * one.sequences * one.tokens
        each = one.context + (steps + 1.0) / 2.0
        read = read + one.tokens * one.sequences * each
        once = once + one.tokens * np.where(one.sequences > 1, one.sequences * one.shared, 0.0)
    return Spent(
        time=time, energy=energy, sequences=most, tokens=tokens, shared=once / read, short=short, bound=_bounds(spent, shape)
    )


def _bounds(spent: Iterable[tuple[Mapping[str, Any], Any]], shape: tuple[int, ...]) -> tuple[str, ...]:
    """Return the resource with the largest time summed over parts, point by point."""
    whole: dict[str, Numbers] = {}
    for times, count in spent:
        for name, value in times.items():
            whole[name] = whole.get(name, np.zeros(shape)) + _full(value, shape) * count
    names = list(whole)
    index = np.argmax(np.stack([whole[name] for name in names]), axis=0)
    return tuple(names[int(one)] for one in index)


# ---- the user's curve -------------------------------------------------------------------------------------------------------


class Quality(NamedTuple):
    """Accuracy as somebody measured it, by samples and tokens of a chain; None: the curve is for one of them alone."""

    samples: Numbers | None
    tokens: Numbers | None
    accuracy: Numbers
    name: str

    def at(self, samples: float, chain: float) -> float | None:
        """Return the accuracy that the curve states at a point; None where it states none. Nothing is interpolated.

        A curve by tokens alone is of one sample; a curve by samples alone is of whatever chain it was measured with.
        """
        if self.samples is None and samples != 1:
            return None
        for index, value in enumerate(self.accuracy):
            same = self.samples is None or float(self.samples[index]) == samples
            if same and (self.tokens is None or float(self.tokens[index]) == chain):
                return float(value)
        return None


def check_quality(found: Quality) -> None:
    """Refuse a curve outside 0 to 1, with a count below one, a point twice, or accuracy that falls with more tokens or samples."""
    for row, value in enumerate(found.accuracy, start=1):
        if not 0.0 <= value <= 1.0:
            raise InputError(f"{found.name}: row {row}: accuracy {value:g} is not a fraction from 0 to 1")
    for name in ("samples", "tokens"):
        values = getattr(found, name)
        for row, value in enumerate(() if values is None else values, start=1):
            if not value >= 1 or value != round(float(value)):
                raise InputError(f"{found.name}: row {row}: {name} {value:g}: a whole number of 1 or more is wanted")
    for name, other in (("tokens", "samples"), ("samples", "tokens")):
        _check_rising(found, name, other)
    if found.samples is None and found.tokens is None:
        raise InputError(f"{found.name}: a column `tokens` or `samples` is wanted beside `accuracy`")


def _check_rising(found: Quality, name: str, other: str) -> None:
    values, groups = getattr(found, name), getattr(found, other)
    if values is None:
        return
    for group in [None] if groups is None else np.unique(groups):
        mine = np.ones(values.shape, dtype=bool) if group is None else groups == group
        order = np.argsort(values[mine], kind="stable")
        along, accuracy = values[mine][order], found.accuracy[mine][order]
        where = "" if group is None else f" at {group:g} {other}"
        for index in range(1, len(along)):
            if along[index] == along[index - 1]:
                raise InputError(f"{found.name}: {along[index]:g} {name}{where} twice")
            if accuracy[index] < accuracy[index - 1]:
                fall = f"from {accuracy[index - 1]:g} to {accuracy[index]:g} between {along[index - 1]:g} and {along[index]:g}"
                raise InputError(f"{found.name}: accuracy falls {fall} {name}{where}: a curve that does not fall is wanted")


# ---- serial against parallel ------------------------------------------------------------------------------------------------


class Point(NamedTuple):
    """One way to spend: a query's share of what all queries at once take, and, by the curve, a solved query's."""

    samples: Count
    chain: Count
    queries: Count
    sequences: Count
    fill: Fraction  # of the critical batch
    time: Seconds  # from the prompt to the last token, all queries at once
    machine_time: Seconds  # a query's share of it
    energy: Joules | None
    dollars: float | None
    tokens: Count
    shared: Fraction
    bound: str
    feasible: bool
    short: Bytes
    accuracy: Fraction | None

    def solved(self, name: str) -> float | None:
        """Return machine_time, energy or dollars of a solved query: a query's over the accuracy."""
        value = getattr(self, name)
        return value / self.accuracy if value is not None and self.accuracy else None


class Rung(NamedTuple):
    """The cheapest points of both kinds that reach an accuracy, in the cost of a solved query."""

    accuracy: Fraction
    serial: Point | None
    parallel: Point | None
    cheaper: str  # serial or parallel


def ladder(points: Sequence[Point], cost: str) -> tuple[Rung, ...]:
    """Return for each accuracy of the curve the cheapest serial point (one sample) and parallel point that reach it.

    What changes from one rung to the next is where the two cross; nothing between the curve's points is made up.
    """
    known = [one for one in points if one.feasible and one.accuracy and one.solved(cost) is not None]

    def cheapest(kind: str, accuracy: float) -> Point | None:
        able = [
            one
            for one in known
            if (one.samples == 1) == (kind == "serial") and one.accuracy is not None and one.accuracy >= accuracy
        ]
        return min(able, key=lambda one: one.solved(cost) or math.inf, default=None)

    found: list[Rung] = []
    for accuracy in sorted({one.accuracy for one in known if one.accuracy is not None}):
        serial, parallel = cheapest("serial", accuracy), cheapest("parallel", accuracy)
        paid = {
            name: math.inf if one is None else one.solved(cost) or math.inf
            for name, one in (("serial", serial), ("parallel", parallel))
        }
        found.append(Rung(accuracy, serial, parallel, min(paid, key=lambda name: paid[name])))
    return tuple(found)


def crossings(rungs: Sequence[Rung]) -> tuple[tuple[float, str], ...]:
    """Return the accuracies from which the other kind is the cheaper, each with its name; the first is where the ladder starts."""
    found: list[tuple[float, str]] = []
    for one in rungs:
        if not found or found[-1][1] != one.cheaper:
            found.append((one.accuracy, one.cheaper))
    return tuple(found)
