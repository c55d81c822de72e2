"""A model served on machines, request by request: what was asked becomes requests, a step-time surface, a run and its numbers."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from ridgeline.api.analysis import analyze
from ridgeline.api.names import load_model, load_precision
from ridgeline.api.plans import Spread, resolve
from ridgeline.errors import InputError, nearest
from ridgeline.estimate import estimate
from ridgeline.mapping.many_core_step import is_many_core
from ridgeline.parallel import estimate_plan
from ridgeline.quantities import Count, Fraction, PerSecond
from ridgeline.serving.arrivals import (
    Arrivals,
    Bursts,
    Gamma,
    Lengths,
    Poisson,
    Requests,
    SharedPrefix,
    draw_requests,
    parse_lengths,
)
from ridgeline.serving.charges import Charges, charge
from ridgeline.serving.metrics import Metrics, Target, measure
from ridgeline.serving.policy import Serving
from ridgeline.serving.room import cache_bytes, cache_room
from ridgeline.serving.simulator import Cache, Played, simulate
from ridgeline.serving.speculation import Speculation, SpeculationGain, SpeculativeStepTime, speculation_gain
from ridgeline.serving.surface import Estimator, Extent, StepTime, Surface, SurfaceError, check_model, windows_of
from ridgeline.serving.trace import read_trace
from ridgeline.simulate.perfetto import write_trace
from ridgeline.simulate.pipeline import Span
from ridgeline.specs.base import Source
from ridgeline.specs.chip import Chip
from ridgeline.specs.model import ConvolutionalModel, Model
from ridgeline.specs.plan import Plan
from ridgeline.specs.precision import Precision
from ridgeline.specs.scenario import Scenario
from ridgeline.specs.system import System

ARRIVALS = ("poisson", "gamma", "bursts")


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """What comes: a rate with distributions, or a trace. Lengths are text as `parse_lengths` reads it, or a distribution."""

    rate: PerSecond | None = None
    trace: Path | str | None = None
    requests: int | None = None  # to play; None: 1000, or the whole trace
    arrivals: str = "poisson"
    variation: Fraction = 1.0  # coefficient of variation of the gaps, for gamma
    burst: int = 8
    prompt: str | int | Lengths = 1024
    output: str | int | Lengths = 128
    prefix: int = 0  # tokens that prompts have in common
    groups: int = 1  # of prompts with a common prefix
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Drafting:
    """Speculative decoding: by a draft model, or by layers that cost a share of the model's own step a drafted token."""

    draft: Model | str | None = None
    draft_share: Fraction | None = None
    length: int = 4
    acceptance: Fraction = 0.7


@dataclass(frozen=True, kw_only=True, eq=False)
class Served:
    """A run with what it is of."""

    model: Model
    chip: Chip
    precision: Precision
    traffic: Traffic
    serving: Serving
    target: Target
    level: str
    cache: Cache
    played: Played
    metrics: Metrics
    surface: Mapping[str, SurfaceError]  # error of the interpolation: decode, prefill, batch
    charges: Charges  # what of the run was for prompts
    spread: Spread | None = None  # the system and the plan of a replica, where it has several chips
    speculation: SpeculationGain | None = None
    drafting: Drafting | None = None
    sources: Mapping[str, Source] = field(default_factory=dict[str, Source])
    notes: tuple[str, ...] = ()


def serve(
    model: Model | ConvolutionalModel | str,
    chip: Chip | System | str,
    *,
    precision: Precision | str | None = None,
    count: int | None = None,
    plan: Plan | str | None = None,
    level: str | None = None,
    estimator: Estimator | None = None,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> Served:
    """Play requests through a service and return latencies, throughput, goodput, energy and utilisation.

    Options are the fields of `Traffic` (rate, trace, requests, prompt, output, seed …), `Serving` (policy, most_sequences,
    token_budget, replicas, routing …), `Target` (ttft, tpot) and `Drafting` (draft, draft_share, length, acceptance). A replica is
    one chip, `count` chips of a system under a `plan`, or what `estimator` stands for: a function from scenarios with arrays of
    counts to an `Estimate`. Steps are those of `level`: `ideal`, or `mapped` on chips of many cores, where the chip's software
    stack runs them (`with_stack`).

    Raises `InputError` for bad input, and `InfeasibleError` where weights or all requests do not fit.

    >>> found = serve("llama-3.1-8b", "h100-sxm", rate=10.0, requests=200, prompt=500, output=50)
    >>> found.metrics.finished, found.metrics.throughput < 12
    (200, True)
    """
    spec = load_model(model)
    machine, spread = resolve(chip, count, plan)
    if not isinstance(spec, Model):
        raise InputError(f"{spec.name} cannot be served request by request: a model that generates tokens is wanted")
    check_model(spec)
    formats = load_precision(precision, spec)
    traffic, serving, target, drafting = _sorted(options)
    random = _random(traffic.seed)
    asked = _requests(traffic, random)
    level = _serving_level(machine, level)
    run: Estimator = estimator or _machine(machine, spread, spec, formats, level)
    speculation = None if drafting is None else Speculation(length=drafting.length, acceptance=drafting.acceptance)
    draft = None if drafting is None or drafting.draft is None else _draft(drafting.draft, machine, formats, level)
    held = _cache(run, spec, serving, speculation, draft)
    verified = 1 if speculation is None else speculation.verified
    extent = _extent(asked, serving, held, verified)
    surface = Surface(run, extent, verified=verified, windows=windows_of(spec))
    step_time, gain = _speculative(surface, drafting, speculation, draft, extent, run, asked)
    played = simulate(asked, step_time, serving, held, random=random, speculation=speculation, progress=progress)
    metrics = measure(played, target, has_energy=surface.has_energy)
    context = float(min(np.mean(asked.prompt + asked.output / 2), extent.context))
    charges = charge(played, step_time, context=context, longest=extent.chunk)
    errors = {"decode": surface.decode_error(), "prefill": surface.prefill_error(), "batch": surface.batch_error()}
    one = run(Scenario(phase="decode", batch=1.0, context=1.0))
    if estimator is None and spread is None:
        one = analyze(spec, machine, phase="decode", precision=formats, level=level, batch=1, context=1).estimate
    return Served(
        model=spec,
        chip=machine,
        precision=formats,
        traffic=traffic,
        serving=serving,
        target=target,
        level=one.level,
        cache=held,
        played=played,
        metrics=metrics,
        surface=errors,
        charges=charges,
        spread=spread,
        speculation=gain,
        drafting=drafting,
        sources=one.sources,
        notes=(*one.notes, *_notes(spec, asked, serving, played, errors)),
    )


# ---- what was asked ---------------------------------------------------------------------------------------------------------


def _sorted(options: Mapping[str, Any]) -> tuple[Traffic, Serving, Target, Drafting | None]:
    """Give each option to what has a field of its name; those that are None keep their default."""
    groups: tuple[Any, ...] = (Traffic, Serving, Target, Drafting)
    known = {one.name: group for group in groups for one in fields(group)}
    for name in options:
        if name not in known:
            raise InputError(f"serve has no option {name!r}: {nearest(name, known)}")
    values: dict[Any, dict[str, Any]] = {group: {} for group in groups}
    for name, value in options.items():
        if value is not None:
            values[known[name]][name] = value
    drafts = values[Drafting]
    if drafts and not ("draft" in drafts or "draft_share" in drafts):
        raise InputError("speculation needs what drafts: a draft model, or the share of a step that a drafted token costs")
    if "draft" in drafts and "draft_share" in drafts:
        raise InputError("a draft model and a draft share were both given: one of them is wanted")
    if not drafts.get("draft_share", 0.0) >= 0:
        raise InputError(f"draft share {drafts['draft_share']:g}: a share of a step, 0 or more, is wanted")
    for name in ("ttft", "tpot"):
        if not values[Target].get(name, 1.0) > 0:
            raise InputError(f"target {name} {values[Target][name]:g}: seconds, more than 0, are wanted")
    return Traffic(**values[Traffic]), Serving(**values[Serving]), Target(**values[Target]), Drafting(**drafts) if drafts else None


def _random(seed: int) -> np.random.Generator:
    if seed < 0:
        raise InputError(f"seed {seed}: 0 or more is wanted")
    return np.random.default_rng(seed)


def _requests(traffic: Traffic, random: np.random.Generator) -> Requests:
    if (traffic.rate is None) == (traffic.trace is None):
        raise InputError("what comes: a rate in requests a second or a trace is wanted, one of them")
    if traffic.requests is not None and traffic.requests < 1:
        raise InputError(f"requests {traffic.requests}: 1 or more are wanted")
    if traffic.trace is not None:
        return read_trace(traffic.trace, most=traffic.requests)
    processes: dict[str, Arrivals] = {
        "poisson": Poisson(rate=traffic.rate),
        "gamma": Gamma(rate=traffic.rate, variation=traffic.variation),
        "bursts": Bursts(rate=traffic.rate, size=traffic.burst),
    }
    if traffic.arrivals not in processes:
        raise InputError(f"arrivals {traffic.arrivals!r}: choose {', '.join(processes)}")
    prefix = SharedPrefix(tokens=traffic.prefix, groups=traffic.groups) if traffic.prefix else None
    lengths = {"prompt": traffic.prompt, "output": traffic.output}
    drawn = {name: parse_lengths(str(one), name) if isinstance(one, str | int) else one for name, one in lengths.items()}
    count = 1000 if traffic.requests is None else traffic.requests
    return draw_requests(count, processes[traffic.arrivals], drawn["prompt"], drawn["output"], random, prefix=prefix)


# ---- the machine ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Draft:
    """A draft model on the same machine."""

    model: Model
    estimator: Estimator


def _serving_level(chip: Chip, level: str | None) -> str:
    """Return the level of the steps: `ideal` where none is asked for, so that latencies are bounds."""
    known = ("ideal", "mapped") if is_many_core(chip) else ("ideal",)
    if level is not None and level not in known:
        raise InputError(f"level {level!r}: requests are served on {chip.name} at {' or '.join(known)}")
    return level or "ideal"


def _machine(chip: Chip, spread: Spread | None, model: Model, precision: Precision, level: str) -> Estimator:
    """Return what a step takes on a replica: a chip, or a system under a plan."""
    if spread is None:
        return lambda scenario: estimate(chip, model, scenario, precision, level=level)
    if spread.plan.data > 1:
        raise InputError(f"plan {spread.plan.text}: requests go to replicas of their own: say --replicas instead of dp")
    return lambda scenario: estimate_plan(spread.system, model, scenario, precision, spread.plan, level=level)


def _draft(draft: Model | str, chip: Chip, precision: Precision, level: str) -> _Draft:
    spec = load_model(draft)
    if not isinstance(spec, Model):
        raise InputError(f"{spec.name} cannot draft: a model that generates tokens is wanted")
    check_model(spec)
    return _Draft(spec, lambda scenario: estimate(chip, spec, scenario, precision, level=level))


def _cache(run: Estimator, model: Model, serving: Serving, speculation: Speculation | None, draft: _Draft | None) -> Cache:
    """Return the room for keys and values, those of a draft model beside them."""
    verified = 1 if speculation is None else speculation.verified
    if draft is None:
        return cache_room(run, model.name, serving, verified=verified)
    held = draft.estimator(Scenario(phase="decode", batch=1.0, context=1.0)).capacity
    beside = held.weights if held is not None else 0.0
    return cache_room(run, model.name, serving, verified=verified, beside=beside, more=cache_bytes(draft.estimator))


def _extent(asked: Requests, serving: Serving, held: Cache, verified: int) -> Extent:
    """Return how far the surface has to reach: requests that can never fit do not count."""
    most = int(held.tokens)
    whole = np.asarray(asked.prompt + asked.output)
    fitting = whole[whole <= most]
    longest = int(fitting.max()) if fitting.size else int(min(whole.min(), most))
    chunk = min(longest, serving.token_budget) if serving.traits.splits else longest
    tokens = max(chunk, serving.token_budget) + serving.most_sequences * verified
    return Extent(sequences=serving.most_sequences, context=longest + verified, chunk=max(chunk, 1), tokens=tokens)


def _speculative(
    surface: Surface,
    drafting: Drafting | None,
    speculation: Speculation | None,
    draft: _Draft | None,
    extent: Extent,
    run: Estimator,
    asked: Requests,
) -> tuple[StepTime, SpeculationGain | None]:
    """Return the step time with drafting, and what drafting gains by batch at the requests' mean context."""
    if drafting is None or speculation is None:
        return surface, None
    plain = Surface(run, replace(extent, chunk=1))
    drafts = None if draft is None else Surface(draft.estimator, replace(extent, chunk=1), windows=windows_of(draft.model))
    step_time = SpeculativeStepTime(
        target=surface, length=drafting.length, draft=drafts, plain=plain, draft_share=drafting.draft_share or 0.0
    )
    context = float(min(np.mean(asked.prompt + asked.output / 2), extent.context))
    gain = speculation_gain(plain, step_time, speculation.gain, context=context, most=extent.sequences)
    return step_time, gain


def _notes(model: Model, asked: Requests, serving: Serving, played: Played, errors: Mapping[str, SurfaceError]) -> list[str]:
    """Say aloud what was rejected or assumed, and where the answer depends on how long one looks."""
    found: list[str] = []
    if played.rejected:
        few = ", ".join(asked.name(one) for one in played.rejected[:3])
        more = f" and {len(played.rejected) - 3} more" if len(played.rejected) > 3 else ""
        found.append(f"{len(played.rejected)} rejected, which the cache can never hold: {few}{more}")
    longest: Count = int(np.max(asked.prompt + asked.output))
    if model.maximum_context is not None and longest > model.maximum_context:
        found.append(f"{longest:,} tokens are past the {model.maximum_context:,} that {model.name} was made for")
    last = float(asked.arrival[-1])
    behind = sum(1 for one in played.finish.tolist() if one > last) - serving.most_sequences * len(played.busy)
    if behind > 0.05 * len(asked) and last > 0:
        found.append("requests come faster than they are served: the longer they come, the longer they wait")
    for name, one in errors.items():
        if one.largest > 0.02:
            found.append(f"{name} steps are interpolated with an error of up to {one.largest:.1%}, {one.mean:.2%} on average")
    return found


# ---- the time line ----------------------------------------------------------------------------------------------------------


def write_timeline(found: Served, stream: TextIO) -> None:
    """Write a run's steps, by replica, and its requests as trace events; a cycle of the time line is a nanosecond."""
    write_trace(_spans(found), stream, clock=1e9, process=f"{found.model.name} on {found.chip.name}")


def _spans(found: Served) -> list[Span]:
    """Return a span for each step, and for each request its wait for the first token and its decoding, in lanes without overlap."""
    played = found.played
    spans = [Span(f"replica {row.replica}", _step_name(row), round(row.start * 1e9), round(row.end * 1e9)) for row in played.log]
    lanes: list[float] = []
    for index in np.argsort(played.requests.arrival, kind="stable").tolist():
        start, first, finish = (float(one[index]) for one in (played.requests.arrival, played.first, played.finish))
        if not math.isfinite(finish):
            continue
        lane = next((place for place, end in enumerate(lanes) if end <= start), len(lanes))
        lanes[lane : lane + 1] = [finish]
        unit, name = f"requests {lane:04d}", played.requests.name(index)
        spans.append(Span(unit, f"{name}: first token", round(start * 1e9), round(first * 1e9)))
        if finish > first:
            spans.append(
                Span(unit, f"{name}: {int(played.requests.output[index])} tokens", round(first * 1e9), round(finish * 1e9))
            )
    return spans


def _step_name(row: Any) -> str:
    parts = [f"decode {row.decode}" + (f" × {row.steps}" if row.steps > 1 else "")] if row.decode else []
    return " + ".join([*parts, *([f"prompts {row.prefill}"] if row.prefill else [])])
