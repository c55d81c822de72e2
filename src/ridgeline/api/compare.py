"""Chips or systems side by side for one workload, and how sure their order by time is."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from ridgeline.api.analysis import Analysis, analyze, with_stack
from ridgeline.api.power import drawn
from ridgeline.api.token_cost import TokenCost, analysis_cost
from ridgeline.errors import InfeasibleError, InputError
from ridgeline.mapping.intervals import NINETY, HalfWidths, order_probability, ratio_half_widths
from ridgeline.quantities import Fraction, Joules, PerSecond, Seconds, Watts
from ridgeline.results import Interval
from ridgeline.specs.chip import Chip
from ridgeline.specs.model import ConvolutionalModel, Model
from ridgeline.specs.residual import Residuals
from ridgeline.specs.system import System

_DRAWS = 20_000


@dataclass(frozen=True, kw_only=True, eq=False)
class Compared:
    """One machine's answer; where the workload does not fit, the sentence that says by how much, and no numbers."""

    name: str
    title: str
    reason: str = ""
    analysis: Analysis | None = None
    cost: TokenCost | None = None

    @property
    def time(self) -> Seconds:
        """Time of the step; infinite where it does not fit."""
        return math.inf if self.analysis is None else float(self.analysis.estimate.time)

    @property
    def interval(self) -> Interval | None:
        """The prediction interval, as factors of the time."""
        return None if self.analysis is None else self.analysis.estimate.interval

    @property
    def tokens_per_second(self) -> PerSecond | None:
        """Tokens a second, of all requests together."""
        return None if self.analysis is None else float(self.analysis.estimate.tokens_per_second)

    @property
    def energy_per_token(self) -> Joules | None:
        """Joules of the chips for a token; None where a chip's file lacks an energy."""
        if self.analysis is None or self.analysis.estimate.energy is None:
            return None
        return float(self.analysis.estimate.energy / self.analysis.estimate.tokens)

    @property
    def power(self) -> Watts | None:
        """Watts of the boards, mean over the step."""
        found = None if self.analysis is None else drawn(self.analysis)
        return None if found is None else float(found.boards)

    @property
    def dollars_per_million_tokens(self) -> float | None:
        """Dollars for a million tokens of the step; None where no price of the chip is known."""
        value = None if self.cost is None else self.cost.whole.dollars_per_million
        return None if value is None else float(value)


@dataclass(frozen=True, kw_only=True, eq=False)
class Order:
    """Two machines in the order of their predicted times: by how much they differ, and how sure that is."""

    faster: str
    slower: str
    ratio: float  # of the slower one's time to the faster one's
    interval: Interval | None  # of that ratio, as factors
    confidence: Fraction | None  # probability that the faster one is faster


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """Machines in the order in which they were named, pairs of them, and the probability that the order by time is right."""

    rows: tuple[Compared, ...]
    pairs: tuple[Order, ...]
    order_confidence: Fraction | None

    @property
    def ranked(self) -> tuple[Compared, ...]:
        """The rows that fit, the fastest first."""
        return tuple(sorted((one for one in self.rows if one.analysis is not None), key=lambda one: one.time))

    @property
    def notes(self) -> tuple[str, ...]:
        """What to know before times are compared: that some are bounds, and others predictions."""
        names: dict[str, list[str]] = {}
        for one in self.ranked:
            if one.analysis is not None:
                names.setdefault(one.analysis.estimate.level, []).append(one.name)
        if len(names) < 2:
            return ()
        said = "; ".join(f"{level}: {', '.join(names[level])}" for level in sorted(names))
        return (f"levels differ ({said}): a time at ideal is a lower bound, no prediction; ask for level ideal to compare bounds",)


def compare(
    chips: Sequence[Chip | System | str], model: Model | ConvolutionalModel | str, *, stack: str | None = None, **asked: Any
) -> Comparison:
    """Set chips or systems side by side for one workload: time, rate, energy, dollars, what binds, and how sure the order is.

    `asked` takes what `analyze` takes of one scenario: phase, batch, prompt, context, output, precision, count, plan, level; a name
    such as `4xh100-sxm` is four of that chip. Errors of two chips on one workload are shared in part, so that the interval of their
    ratio is narrower than those of two strangers. Raises `InputError` for ranges, and `InfeasibleError` where the workload fits
    none of the machines.

    >>> found = compare(["h100-sxm", "l40s"], "llama-3.1-8b", phase="decode", batch=16, context=2048)
    >>> found.ranked[0].name, found.order_confidence > 0.9
    ('h100-sxm', True)
    """
    if len(chips) < 2:
        raise InputError("compare: name two chips or systems at least")
    many = [name for name, value in asked.items() if np.ndim(value) > 0]
    if many:
        raise InputError(f"compare: one scenario at a time: {', '.join(many)} has several values; `analyze` takes ranges")
    rows = tuple(_row(one, model, stack, asked) for one in chips)
    if all(one.analysis is None for one in rows):
        raise InfeasibleError("; ".join(one.reason for one in rows))
    ranked = sorted((one for one in rows if one.analysis is not None), key=lambda one: one.time)
    pairs = tuple(_order(first, second) for first, second in combinations(ranked, 2))
    return Comparison(rows=rows, pairs=pairs, order_confidence=_whole_order(ranked))


def _row(
    machine: Chip | System | str, model: Model | ConvolutionalModel | str, stack: str | None, asked: dict[str, Any]
) -> Compared:
    name = machine if isinstance(machine, str) else machine.name
    machine, asked = _counted(machine, asked)
    try:
        found = analyze(model, machine if stack is None else with_stack(machine, stack), **asked)
    except InfeasibleError as error:
        return Compared(name=name, title=name, reason=str(error))
    title = found.chip.title if found.spread is None else f"{found.chips} × {found.chip.title}"
    return Compared(name=name, title=title or name, analysis=found, cost=analysis_cost(found))


def _counted(machine: Chip | System | str, asked: dict[str, Any]) -> tuple[Chip | System | str, dict[str, Any]]:
    """Return the machine and the question of a name such as `4xh100-sxm`: four of that chip."""
    said = re.fullmatch(r"(\d+)x(.+)", machine) if isinstance(machine, str) else None
    if said is None:
        return machine, asked
    if asked.get("count") is not None or asked.get("plan") is not None:
        raise InputError(f"compare: {machine} says how many: leave out count and plan")
    return said[2], {**asked, "count": int(said[1])}


def _residuals(one: Compared) -> Residuals | None:
    return None if one.analysis is None or one.interval is None else one.analysis.chip.residuals


def _half_widths(interval: Interval) -> HalfWidths:
    return HalfWidths(-math.log(float(interval.lower)), math.log(float(interval.upper)))


def _order(faster: Compared, slower: Compared) -> Order:
    """Return two machines in order; without intervals of both nothing is said of how sure it is."""
    ratio, known = slower.time / faster.time, _residuals(faster)
    if known is None or faster.interval is None or slower.interval is None:
        return Order(faster=faster.name, slower=slower.name, ratio=ratio, interval=None, confidence=None)
    own, other = _half_widths(faster.interval), _half_widths(slower.interval)
    confidence = order_probability(1.0 / ratio, ratio_half_widths(known, own, other))
    widths = ratio_half_widths(known, other, own)
    interval = Interval(coverage=known.coverage, lower=math.exp(-widths.lower), upper=math.exp(widths.upper))
    return Order(faster=faster.name, slower=slower.name, ratio=ratio, interval=interval, confidence=confidence)


def _whole_order(ranked: Sequence[Compared]) -> Fraction | None:
    """Return the probability that the order of all is right: of two in closed form, of more the share of drawn errors."""
    intervals = [one.interval for one in ranked]
    known = _residuals(ranked[0])
    if len(ranked) < 2 or known is None or any(one is None for one in intervals):
        return None
    if len(ranked) == 2:
        return _order(*ranked).confidence
    widths = [_half_widths(one) for one in intervals if one is not None]
    random = np.random.default_rng(1)
    shared, own = random.standard_normal((_DRAWS, 1)), random.standard_normal((_DRAWS, len(widths)))
    drawn_ = math.sqrt(known.pair_step) * shared + math.sqrt(1.0 - known.pair_step) * own
    lower, upper = (np.array([getattr(one, side) for one in widths]) / NINETY for side in ("lower", "upper"))
    times = np.log([one.time for one in ranked]) + drawn_ * np.where(drawn_ > 0.0, upper, lower)
    return float((np.diff(times, axis=1) > 0.0).all(axis=1).mean())
