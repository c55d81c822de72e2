"""When requests come and how long they are: processes, distributions, and the requests that they give."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ridgeline.errors import InputError
from ridgeline.quantities import Count, Fraction, PerSecond

Random = np.random.Generator
Numbers = np.ndarray[Any, np.dtype[np.float64]]
Counts = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Requests:
    """Requests in the order in which they come: one entry of each array a request."""

    arrival: Numbers  # s
    prompt: Counts  # tokens, the shared prefix included
    output: Counts  # tokens
    prefix: Counts  # tokens at the start of the prompt that a group has in common; 0: none
    group: Counts  # which requests share a prefix
    names: tuple[str, ...] = ()  # what a report calls them; empty: their number

    def __len__(self) -> int:
        """Return how many requests there are."""
        return int(self.arrival.size)

    def name(self, index: int) -> str:
        """Return what to call a request."""
        return self.names[index] if self.names else f"request {index}"


# ---- arrival processes ------------------------------------------------------------------------------------------------------


class Arrivals(Protocol):
    """A stream of arrival times."""

    def times(self, count: int, random: Random) -> Numbers:
        """Return `count` arrival times in s, in order."""
        ...


@dataclass(frozen=True, kw_only=True)
class Poisson:
    """Independent arrivals: gaps are exponential with mean 1 / rate."""

    rate: PerSecond

    def times(self, count: int, random: Random) -> Numbers:
        """Return arrival times."""
        return np.cumsum(random.exponential(1.0 / _rate(self.rate), count))


@dataclass(frozen=True, kw_only=True)
class Gamma:
    """Gaps of a gamma distribution: mean 1 / rate, and standard deviation `variation` times the mean.

    shape = 1 / variation², scale = variation² / rate; a variation of 1 is Poisson, of 0 regular, above 1 clumped.
    """

    rate: PerSecond
    variation: Fraction = 1.0

    def times(self, count: int, random: Random) -> Numbers:
        """Return arrival times."""
        mean = 1.0 / _rate(self.rate)
        if not (math.isfinite(self.variation) and self.variation >= 0):
            raise InputError(f"coefficient of variation {self.variation:g}: a number of 0 or more is wanted")
        if self.variation == 0:
            return mean * np.arange(1.0, count + 1)
        square = self.variation**2
        return np.cumsum(random.gamma(1.0 / square, mean * square, count))


@dataclass(frozen=True, kw_only=True)
class Bursts:
    """Groups of `size` requests at once; groups come as a Poisson process, so that `rate` is still requests a second."""

    rate: PerSecond
    size: int = 8

    def times(self, count: int, random: Random) -> Numbers:
        """Return arrival times."""
        if self.size < 1:
            raise InputError(f"a burst of {self.size} requests: 1 or more is wanted")
        bursts = -(-count // self.size)
        starts = np.cumsum(random.exponential(self.size / _rate(self.rate), bursts))
        return np.repeat(starts, self.size)[:count]


@dataclass(frozen=True, kw_only=True)
class AllAtOnce:
    """Every request is there at the start: what a server can do at most."""

    def times(self, count: int, random: Random) -> Numbers:
        """Return zeros."""
        del random
        return np.zeros(count)


def _rate(rate: PerSecond) -> float:
    if not (math.isfinite(rate) and rate > 0):
        raise InputError(f"rate {rate:g}: requests a second, more than 0, are wanted")
    return float(rate)


# ---- lengths ----------------------------------------------------------------------------------------------------------------


class Lengths(Protocol):
    """A distribution of whole numbers of tokens, 1 or more."""

    def draw(self, count: int, random: Random) -> Counts:
        """Return `count` lengths."""
        ...


@dataclass(frozen=True)
class Fixed:
    """One length for all."""

    tokens: int

    def draw(self, count: int, random: Random) -> Counts:
        """Return the length, `count` times."""
        del random
        return np.full(count, _tokens(self.tokens), dtype=np.int64)


@dataclass(frozen=True)
class Uniform:
    """Every whole number between two ends, both included, alike."""

    least: int
    most: int

    def draw(self, count: int, random: Random) -> Counts:
        """Return lengths."""
        if self.most < _tokens(self.least):
            raise InputError(f"lengths {self.least}:{self.most} are an empty range: it starts past its end")
        return random.integers(self.least, self.most + 1, count, dtype=np.int64)


@dataclass(frozen=True)
class LogNormal:
    """A lognormal distribution by its mean and coefficient of variation, rounded to whole tokens, 1 at least.

    σ² = ln(1 + variation²), µ = ln(mean) − σ²/2
    """

    mean: Count
    variation: Fraction = 1.0

    def draw(self, count: int, random: Random) -> Counts:
        """Return lengths."""
        _tokens(self.mean)
        if not (math.isfinite(self.variation) and self.variation >= 0):
            raise InputError(f"coefficient of variation {self.variation:g}: a number of 0 or more is wanted")
        square = math.log1p(self.variation**2)
        drawn = random.lognormal(math.log(self.mean) - square / 2, math.sqrt(square), count)
        return np.maximum(1, np.rint(drawn)).astype(np.int64)


@dataclass(frozen=True)
class Empirical:
    """Draws, with replacement, from lengths that were seen."""

    seen: Sequence[int]

    def draw(self, count: int, random: Random) -> Counts:
        """Return lengths."""
        if not len(self.seen) or min(self.seen) < 1:
            raise InputError("lengths to draw from: one or more numbers of 1 or more are wanted")
        return random.choice(np.asarray(self.seen, dtype=np.int64), count)


def _tokens(tokens: float) -> float:
    if not (math.isfinite(tokens) and tokens >= 1):
        raise InputError(f"a length of {tokens:g} tokens: 1 or more is wanted")
    return tokens


def parse_lengths(text: str, name: str = "prompt") -> Lengths:
    """Return a distribution from its text: `512`, `128:2048` (uniform) or `lognormal:512,0.8` (mean, variation).

    >>> parse_lengths("128:2048")
    Uniform(least=128, most=2048)
    """
    try:
        if text.startswith("lognormal:"):
            mean, _, variation = text.removeprefix("lognormal:").partition(",")
            return LogNormal(float(mean), float(variation or 1.0))
        least, colon, most = text.partition(":")
        return Uniform(int(least), int(most)) if colon else Fixed(int(least))
    except ValueError:
        accepted = "one number, `128:2048` (uniform) or `lognormal:512,0.8` (mean, coefficient of variation) is wanted"
        raise InputError(f"--{name} {text}: {accepted}") from None


# ---- requests ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class SharedPrefix:
    """The first `tokens` of every prompt are common to its group; groups are drawn alike."""

    tokens: int
    groups: int = 1


def draw_requests(
    count: int,
    arrivals: Arrivals,
    prompt: Lengths,
    output: Lengths,
    random: Random,
    *,
    prefix: SharedPrefix | None = None,
) -> Requests:
    """Return requests from a seeded generator: the same generator state gives the same requests to the bit.

    Arrivals are drawn first, then prompts, outputs and groups. A prompt shorter than the shared prefix has all of it in
    common but its last token, which is always computed.

    >>> few = draw_requests(3, Gamma(rate=2.0, variation=0.0), Fixed(100), Fixed(10), np.random.default_rng(1))
    >>> few.arrival.tolist(), few.prompt.tolist()
    ([0.5, 1.0, 1.5], [100, 100, 100])
    """
    if count < 1:
        raise InputError(f"{count} requests: 1 or more are wanted")
    times = arrivals.times(count, random)
    prompts, outputs = prompt.draw(count, random), output.draw(count, random)
    shared, groups = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
    if prefix is not None:
        if prefix.tokens < 0 or prefix.groups < 1:
            raise InputError(f"a prefix of {prefix.tokens} tokens in {prefix.groups} groups: 0 and 1 or more are wanted")
        shared = np.minimum(prefix.tokens, prompts - 1)
        groups = random.integers(0, prefix.groups, count, dtype=np.int64)
    return Requests(arrival=times, prompt=prompts, output=outputs, prefix=shared, group=groups)
