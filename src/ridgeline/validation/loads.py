"""Rows of a service under as many requests as it takes: tokens or samples a second, played request by request.

All requests are there at the start. What runs at once follows from the memory that weights leave and from the scheduler's limits,
so that filling, prompts beside decoding and the last batch are in the rate as they are in the measurement.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ridgeline.catalogue.loads import LoadTest, benchmark_load, uniform_load
from ridgeline.errors import InputError
from ridgeline.quantities import Count, PerSecond, Seconds, Watts
from ridgeline.serving.arrivals import Requests
from ridgeline.serving.room import cache_room, tuned_limits
from ridgeline.serving.simulator import Cache, Played, simulate
from ridgeline.serving.surface import Extent, Surface, windows_of
from ridgeline.specs.precision import Precision
from ridgeline.specs.scenario import Scenario
from ridgeline.validation.group import Group, Times
from ridgeline.validation.schema import Row
from ridgeline.validation.service import Service, Split, encodes, service_of, split_of

GROUPED_BY = ("model", "dtype", "n_chips", "parallelism", "benchmark")
_RATES = ("tokens/s", "1/s")
_SCENARIOS = ("offline", "server", "interactive")
_PAGES_LEFT = 0.3  # of a chip's memory at least, where a table does not say over how many chips a model is spread
_BATCH = 64.0  # samples of an encoder at once
_KEPT = 0.99  # of requests must keep a latency that is asked of them
_STEP_DOWN = 0.7  # by which fewer are tried at once


class _Setting(NamedTuple):
    """A row's load test and the limits of the scheduler under it."""

    test: LoadTest
    sequences: int
    tokens: int
    cache: Cache


def is_load(row: Row) -> bool:
    """Say whether a row is the throughput of a service under maximum load, or of a benchmark whose lengths are known."""
    if row.unit not in _RATES or not row.has("model"):
        return False
    if row.has("benchmark"):
        return row.metric == "throughput" and row.text("scenario").lower() in _SCENARIOS
    return "max-load" in row.text("scenario") and row.counts("isl", "osl") and row.unit == "tokens/s"


def framework_of(row: Row) -> str:
    """Return the framework that serves a row: of a benchmark's submission, whose text lists versions, the one it names."""
    text = row.text("framework").lower()
    if not row.has("benchmark"):
        return text
    known = ("vllm", "sglang", "tensorrt", "cuda", "rocm")
    found, test = next((one for one in known if one in text), "vllm"), benchmark_load(row.text("benchmark"))
    if found == "tensorrt" and test is not None and test.output == 0 and test.format == "int8":
        return "tensorrt int8 encoder"
    return {"tensorrt": "tensorrt-llm", "cuda": "tensorrt-llm", "rocm": "vllm"}.get(found, found)


def test_of(row: Row) -> LoadTest:
    """Return the load test of a row; raise `InputError` for a benchmark whose lengths are not in the catalogue."""
    if not row.has("benchmark"):
        return uniform_load(row.text("framework"), round(row.number("isl")), round(row.number("osl")))
    found = benchmark_load(row.text("benchmark"))
    if found is None:
        raise InputError(f"benchmark {row.text('benchmark')!r}: the lengths of its requests are not in the catalogue")
    return found


def times(group: Group) -> Times:
    """Predict rates, each as the time of one token or one sample."""
    service, tests, rates = _rated(group)
    counted = np.array([_counted(row, test) for row, test in zip(group.rows, tests, strict=True)]) * service.instances
    return Times(1.0 / (counted * [one.found for one in rates]), 1.0 / (counted * [one.bound for one in rates]))


class Rate(NamedTuple):
    """Requests a second of an instance: as predicted, and at most; and the mean power of its boards."""

    found: PerSecond
    bound: PerSecond
    power: Watts | None


def powers(group: Group) -> list[Watts]:
    """Return the mean power of all boards of each row's load test; raise `InputError` where it is not known."""
    service, _, rates = _rated(group)
    if any(one.power is None for one in rates):
        raise InputError(f"{service.chip.name}: its power needs energies of arithmetic and memory, a limit and an idle power")
    return [float(one.power or 0.0) * service.instances for one in rates]


def _rated(group: Group) -> tuple[Service, list[LoadTest], list[Rate]]:
    tests = [test_of(row) for row in group.rows]
    precision = _precision(group, tests[0])
    service = service_of(group, _split(group, precision), precision)
    if encodes(service.model):
        return service, tests, [_encoded(service, test) for test in tests]
    limits = [dict(test.tpot).get(row.text("scenario").lower()) for row, test in zip(group.rows, tests, strict=True)]
    return service, tests, _played_rates(service, tests, limits)


def _precision(group: Group, test: LoadTest) -> Precision:
    """Return the formats of a row's `dtype`; where it has none, or none that is known, those its load test is usually run in."""
    said = group.text("dtype").split("/")[0] or test.format
    try:
        return Precision.parse(said)
    except InputError:
        return Precision.parse(test.format or said)


def _counted(row: Row, test: LoadTest) -> Count:
    """Return what a row counts of a request: its output tokens, or the request."""
    if row.unit == "tokens/s" and test.output == 0:
        raise InputError(f"benchmark {row.text('benchmark')!r}: its requests yield no tokens, so that none are counted")
    return float(test.output) if row.unit == "tokens/s" else 1.0


def _split(group: Group, precision: Precision) -> Split:
    """Return how chips share a model; where a row does not say, over as few as leave room for keys and values."""
    chips = int(group.rows[0].number("n_chips", 1.0))
    said = split_of(group.text("parallelism"), chips)
    if any(one.isdigit() for one in group.text("parallelism")):
        return said
    members = 1
    while members < chips:
        service = service_of(group, Split(members, 1, chips // members), precision)
        held = service.step(Scenario(phase="encode" if encodes(service.model) else "prefill", batch=1.0, prompt=1.0)).capacity
        if held is None or held.weights <= (1.0 - _PAGES_LEFT) * held.available:
            break
        members *= 2
    return Split(members, 1, max(1, chips // members))


# ---- encoders ---------------------------------------------------------------------------------------------------------------


def _encoded(service: Service, test: LoadTest) -> Rate:
    """Return samples a second of an encoder that packs a large batch without padding."""
    asked = Scenario(phase="encode", batch=_BATCH, prompt=float(test.prompt), head_tokens="last")
    found, least = service.step(asked), service.step(asked, "ideal")
    power = None if found.energy is None else float(found.energy / found.time)
    return Rate(_BATCH / float(found.time), _BATCH / float(least.time), power)


# ---- requests, played -------------------------------------------------------------------------------------------------------


def _played_rates(service: Service, tests: Sequence[LoadTest], limits: Sequence[Seconds | None]) -> list[Rate]:
    """Return the requests a second of each test, all played on one surface of step times."""
    run = service.at("mapped")
    settings = [_setting(service, one) for one in tests]
    longest = max(one.test.prompt + one.test.output for one in settings)
    sequences, tokens = (max(getattr(one, name) for one in settings) for name in ("sequences", "tokens"))
    beams = settings[0].test.beams  # decode as tokens that are verified do: several queries of one cache
    extent = Extent(sequences=sequences, context=longest + beams, chunk=min(longest, tokens), tokens=tokens + sequences * beams)
    surface = Surface(run, extent, verified=beams, windows=windows_of(service.model))
    return [_rate(service, one, surface, limit) for one, limit in zip(settings, limits, strict=True)]


def _setting(service: Service, test: LoadTest) -> _Setting:
    """Return a test's limits: the stack's, or those that its own tuning derives from the requests that fit."""
    stack, run = service.stack, service.at("mapped")
    whole = test.prompt + test.beams * test.output
    sequences, tokens = int(stack.most_sequences), int(stack.token_budget)
    if stack.tunes_limits:
        held = cache_room(run, service.model.name, service.serving(free_share=test.free_share))
        stages = service.plan.pipeline
        sequences, tokens = tuned_limits(fitting=held.tokens / whole, prompt=test.prompt, output=test.output, stages=stages)
        sequences *= stages
    cache = cache_room(run, service.model.name, service.serving(sequences, tokens, test.free_share))
    return _Setting(test, sequences, tokens, cache)


def _rate(service: Service, setting: _Setting, surface: Surface, limit: Seconds | None) -> Rate:
    """Return the rate of a test; where most requests must keep a TPOT, with as many at once as do."""
    played = _play(service, setting, surface)
    most = setting.sequences
    while limit is not None and most > 1 and _slow(played) > limit:
        most = max(1, int(most * _STEP_DOWN))
        played = _play(service, setting._replace(sequences=most), surface)
    end = float(played.end)
    power = (played.dynamic_energy + played.static_power * end) / end if surface.has_energy else None
    return Rate(setting.test.requests / end, _bound(service, setting), power)


def _slow(played: Played) -> Seconds:
    """Return the TPOT that all but one in a hundred requests keep."""
    gaps = (played.finish - played.first) / np.maximum(played.requests.output - 1, 1)
    return float(np.quantile(gaps, _KEPT))


def _play(service: Service, setting: _Setting, surface: Surface) -> Played:
    """Play a test from the first prompt to the last token."""
    test = setting.test
    each = np.ones(test.requests, dtype=np.int64)
    none = 0 * each
    start = np.zeros(test.requests)
    asked = Requests(arrival=start, prompt=each * test.prompt, output=each * test.output, prefix=none, group=none)
    whole = test.prompt + test.output
    room = replace(setting.cache, tokens=setting.cache.tokens * whole / (test.prompt + test.beams * test.output))
    serving = service.serving(setting.sequences, setting.tokens, test.free_share)
    return simulate(asked, surface, serving, room, random=np.random.default_rng(0))


def _bound(service: Service, setting: _Setting) -> PerSecond:
    """Return the requests a second at which either the memory, of decode steps alone, or the arithmetic of all is at its peak."""
    test = setting.test
    batch = float(min(setting.sequences, max(1, setting.cache.tokens // (test.prompt + test.beams * test.output))))
    decode = Scenario(phase="decode", batch=batch * test.beams, context=test.prompt + test.output / 2.0)
    step = service.step(decode, "ideal")
    prompt = service.step(Scenario(phase="prefill", batch=1.0, prompt=float(test.prompt)), "ideal")
    steps = max(0, test.output - 1)
    arithmetic = steps * step.cost.time["compute"] / batch + prompt.cost.time["compute"]
    return 1.0 / max(float(steps * step.time / batch), float(arithmetic))
