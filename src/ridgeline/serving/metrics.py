"""What users and operators see: latencies, throughput, goodput, energy, utilisation, and how they change over time."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ridgeline.quantities import Count, Fraction, Joules, PerSecond, Seconds
from ridgeline.serving.arrivals import Numbers
from ridgeline.serving.simulator import Played


class Spread(NamedTuple):
    """Percentiles and mean of a latency over requests; NaN where no request has one."""

    p50: Seconds
    p90: Seconds
    p99: Seconds
    mean: Seconds


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a request must meet to count as good; None: no limit."""

    ttft: Seconds | None = None
    tpot: Seconds | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Metrics:
    """A run in numbers; rates are over the time from the first arrival to the last token."""

    requests: int
    finished: int
    rejected: int
    preemptions: int
    duration: Seconds
    ttft: Spread  # from arrival to the first token
    tpot: Spread  # (last token − first token) / (tokens − 1), of requests with two tokens or more
    e2e: Spread  # from arrival to the last token
    token_gap: Spread  # between two tokens of one sequence, over all tokens; under speculation, between two steps
    throughput: PerSecond  # requests
    tokens_per_second: PerSecond  # of output
    prompt_tokens_per_second: PerSecond
    goodput: PerSecond  # requests that meet the target
    energy: Joules | None
    energy_per_token: Joules | None  # of output
    utilisation: Fraction  # busy time of all replicas over their time
    mean_batch: Count  # sequences that decode, over the time in which some do
    mean_running: Count  # admitted requests, over time
    mean_waiting: Count
    cache_utilisation: Fraction  # largest share of the pages that was held


def measure(played: Played, target: Target | None = None, *, has_energy: bool = True) -> Metrics:
    """Return a run's numbers.

    goodput = requests with TTFT ≤ target and TPOT ≤ target, a second [zhong2024distserve, §1]; energy = Σ steps + static
    power · time.
    """
    requests, target = played.requests, target or Target()
    done = np.isfinite(played.finish)
    arrival, output = requests.arrival[done], requests.output[done]
    first, finish = played.first[done], played.finish[done]
    ttft, e2e = first - arrival, finish - arrival
    several = output > 1
    tpot = np.zeros(output.shape)
    tpot[several] = (finish - first)[several] / (output[several] - 1)
    start = float(requests.arrival[0])
    duration = played.end - start
    good = np.ones(output.shape, dtype=bool)
    if target.ttft is not None:
        good &= ttft <= target.ttft
    if target.tpot is not None:
        good &= tpot <= target.tpot
    energy = played.dynamic_energy + played.static_power * duration if has_energy else None
    tokens = float(output.sum())
    load = _load(played)
    return Metrics(
        requests=len(requests),
        finished=int(done.sum()),
        rejected=len(played.rejected),
        preemptions=int(played.preempted.sum()),
        duration=duration,
        ttft=spread(ttft),
        tpot=spread(tpot[several]),
        e2e=spread(e2e),
        token_gap=token_gaps(played),
        throughput=_rate(float(done.sum()), duration),
        tokens_per_second=_rate(tokens, duration),
        prompt_tokens_per_second=_rate(float(requests.prompt[done].sum()), duration),
        goodput=_rate(float(good.sum()), duration),
        energy=energy,
        energy_per_token=None if energy is None else energy / tokens,
        utilisation=sum(played.busy) / (duration * len(played.busy)) if duration > 0 else 0.0,
        **load,
    )


def _rate(count: float, duration: Seconds) -> PerSecond:
    return count / duration if duration > 0 else math.inf


def spread(values: Numbers) -> Spread:
    """Return percentiles and mean.

    >>> spread(np.array([1.0, 2.0, 3.0]))
    Spread(p50=2.0, p90=2.8, p99=2.98, mean=2.0)
    """
    if not values.size:
        return Spread(math.nan, math.nan, math.nan, math.nan)
    low, middle, high = (float(one) for one in np.percentile(values, [50, 90, 99]))
    return Spread(low, middle, high, float(values.mean()))


def _columns(played: Played) -> Mapping[str, Numbers]:
    """Return the log as arrays by column."""
    table = np.array(played.log, dtype=np.float64).reshape(len(played.log), -1)
    names = played.log[0]._fields if played.log else ()
    return {name: table[:, index] for index, name in enumerate(names)}


def _load(played: Played) -> dict[str, Any]:
    log = _columns(played)
    time = log["end"] - log["start"]
    decoding = log["decode"] > 0
    busy_decoding = float(time[decoding].sum())
    span = max(played.end - float(played.requests.arrival[0]), 1e-300)
    return {
        "mean_batch": float((time * log["decode"]).sum()) / busy_decoding if busy_decoding else 0.0,
        "mean_running": float((time * log["running"]).sum()) / span,
        "mean_waiting": float((time * log["waiting"]).sum()) / span,
        "cache_utilisation": float(log["pages"].max()) / played.capacity,
    }


def token_gaps(played: Played) -> Spread:
    """Return the time between two tokens of one sequence, each gap counted once for each sequence that waited through it.

    Where steps of prompts alone come between, those that decode wait through them; those that join after them do not. Equal
    steps in a row count with their mean.
    """
    log = _columns(played)
    decoding = log["decode"] > 0
    if not decoding.any():
        return Spread(math.nan, math.nan, math.nan, math.nan)
    one = {name: values[decoding] for name, values in log.items()}
    each = (one["end"] - one["start"]) / one["steps"]
    old = np.maximum(one["decode"] - one["joined"], 0.0)
    gaps = np.concatenate([each + one["stalled"], each])
    weights = np.concatenate([old, one["decode"] * one["steps"] - old])
    order = np.argsort(gaps, kind="stable")
    gaps, weights = gaps[order], weights[order]
    reached = np.cumsum(weights) / weights.sum()
    low, middle, high = (float(gaps[int(np.searchsorted(reached, share))]) for share in (0.5, 0.9, 0.99))
    return Spread(low, middle, high, float((gaps * weights).sum() / weights.sum()))


@dataclass(frozen=True, kw_only=True, eq=False)
class Series:
    """A run over time, in equal intervals; means within each."""

    time: Numbers  # middle of the interval
    running: Numbers
    waiting: Numbers
    pages: Numbers  # share of all replicas' pages that is held
    tokens_per_second: Numbers  # of output
    busy: Numbers  # share of the replicas' time


def over_time(played: Played, intervals: int = 200) -> Series:
    """Return how a run went; steps are spread over the intervals that they overlap."""
    log = _columns(played)
    start, stop = float(played.requests.arrival[0]), played.end
    edges = np.linspace(start, max(stop, start + 1e-9), intervals + 1)
    width = edges[1] - edges[0]
    time = log["end"] - log["start"]

    def spent(value: Numbers) -> Numbers:
        """Integral of a value a second over each interval."""
        moments = np.concatenate([log["start"], log["end"]])
        rates = np.concatenate([value, -value])
        order = np.argsort(moments, kind="stable")
        moments, level = moments[order], np.cumsum(rates[order])
        area = np.concatenate([[0.0], np.cumsum(level[:-1] * np.diff(moments))])
        return np.diff(np.interp(edges, moments, area))

    replicas = len(played.busy)
    made = log["tokens"] / np.maximum(time, 1e-300)
    return Series(
        time=(edges[:-1] + edges[1:]) / 2,
        running=spent(log["running"]) / width,
        waiting=spent(log["waiting"]) / width,
        pages=spent(log["pages"]) / width / (played.capacity * replicas),
        tokens_per_second=spent(made) / width,
        busy=spent(np.ones(time.shape)) / width / replicas,
    )
