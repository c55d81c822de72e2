"""Requests played through a service that the planner found: what its steady state becomes once requests come by chance."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ridgeline.api.names import load_precision
from ridgeline.api.plan import Planned
from ridgeline.arrays import ceil_divide
from ridgeline.errors import InputError
from ridgeline.mapping.capacity import cache_bytes
from ridgeline.parallel import estimate_plan
from ridgeline.quantities import Fraction, PerSecond
from ridgeline.results import Estimate
from ridgeline.search.plan import PlanRow, replicas
from ridgeline.serving.arrivals import Poisson, Requests, draw_requests, parse_lengths
from ridgeline.serving.metrics import Metrics, Target, measure
from ridgeline.serving.policy import Serving
from ridgeline.serving.room import cache_room
from ridgeline.serving.simulator import simulate
from ridgeline.serving.speculation import Speculation, SpeculativeStepTime
from ridgeline.serving.surface import Estimator, Extent, StepTime, Surface, check_model, windows_of
from ridgeline.specs.model import Model
from ridgeline.specs.plan import Plan
from ridgeline.specs.precision import Precision
from ridgeline.specs.scenario import Scenario


@dataclass(frozen=True, kw_only=True, eq=False)
class ServedPlan:
    """A plan under requests that come at random, at a share of what its steady state can do."""

    row: PlanRow
    rate: PerSecond  # requests
    load: Fraction  # of the steady state's rate
    policy: str
    metrics: Metrics


def serve_plan(
    found: Planned,
    row: PlanRow | None = None,
    *,
    load: Fraction = 0.7,
    requests: int | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> ServedPlan:
    """Play Poisson arrivals through the best plan, or through another row, at a share of the throughput that it promises.

    `requests` are by default four times the sequences that decode at once, 400 to 20 000, so that the service fills. Every group of
    ranks that works on sequences of its own is a replica of the scheduler; two pools are its disaggregated policy.
    Energy is not counted here: the row has the power.

    >>> from ridgeline.api.plan import plan_chips
    >>> found = plan_chips("llama-3.1-8b", "h100-sxm", 1, prompt=256, output=64)
    >>> served = serve_plan(found, requests=100)
    >>> served.metrics.finished, served.metrics.tpot.p50 <= found.plans[0].tpot
    (100, True)
    """
    model, chosen = found.model, row or found.plans[0]
    if not isinstance(model, Model):
        raise InputError(f"{model.name} cannot be served request by request: a model that generates tokens is wanted")
    count = int(min(max(400, 4 * chosen.batch), 20_000)) if requests is None else requests
    if not 0.0 < load < 1.0 or count < 1 or seed < 0:
        raise InputError(f"load {load:g}, requests {count}, seed {seed}: a share below 1, 1 or more, and 0 or more are wanted")
    check_model(model)
    rate = load * chosen.throughput / found.service.output
    random = np.random.default_rng(seed)
    lengths = [parse_lengths(str(getattr(found.service, name)), name) for name in ("prompt", "output")]
    asked = draw_requests(count, Poisson(rate=rate), lengths[0], lengths[1], random)
    precision = load_precision(chosen.precision, model)
    decode = Plan.parse(chosen.plan) if chosen.plan != "one chip" else Plan()
    run = _group(found, model, precision, decode)
    serving = _serving(found, model, chosen, decode, precision)
    speculation = _speculation(found, chosen)
    verified = 1 if speculation is None else speculation.verified
    held = cache_room(run, model.name, serving, verified=verified)
    step_time = _step_time(found, model, run, serving, speculation)
    before = None
    if chosen.prompts is not None:
        prompts = _group(found, model, precision, Plan.parse(chosen.prompts.plan) if chosen.prompts.plan != "one chip" else Plan())
        before = _step_time(found, model, prompts, serving, None)
    played = simulate(
        asked, step_time, serving, held, random=random, speculation=speculation, prefill_step_time=before, progress=progress
    )
    target = Target(ttft=_limit(found.service.ttft), tpot=_limit(found.service.tpot))
    return ServedPlan(
        row=chosen, rate=rate, load=load, policy=serving.policy, metrics=measure(_all(played, asked), target, has_energy=False)
    )


def _all(played: Any, asked: Requests) -> Any:
    if len(played.rejected) == len(asked):
        raise InputError("no request fits the cache of one group of ranks")
    return played


def _limit(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _group(found: Planned, model: Model, precision: Precision, plan: Plan) -> Estimator:
    """Return what a step takes where every group of ranks has as much to do as the one that the scheduler looks at."""
    groups, micro = replicas(plan), float(plan.micro_batches)
    alone = replace(plan, micro_batches=1)

    def run(scenario: Scenario) -> Estimate:
        if scenario.phase != "decode":
            whole = replace(scenario, batch=scenario.batch * groups)
            return estimate_plan(found.system, model, whole, precision, alone, level=found.level)
        whole = replace(scenario, batch=ceil_divide(scenario.batch, micro) * micro * groups)
        return estimate_plan(found.system, model, whole, precision, plan, level=found.level)

    return run


def _serving(found: Planned, model: Model, row: PlanRow, plan: Plan, precision: Precision) -> Serving:
    groups, service = replicas(plan) * row.decoders, found.service
    sequences = int(row.batch) // groups
    every: dict[str, Any] = {"replicas": groups, "most_sequences": sequences, "routing": "least-outstanding"}
    if row.prompts is None:
        if row.chunk:
            budget = int(row.chunk) + sequences * (int(row.draft) + 1)
            return Serving(policy="chunked", token_budget=budget, **every)
        return Serving(policy="prefill-first", token_budget=service.prompt, **every)
    scenario = Scenario(phase="prefill", batch=1.0, prompt=float(service.prompt))
    each = replicas(Plan.parse(row.prompts.plan)) if row.prompts.plan != "one chip" else 1
    link = float(cache_bytes(model, scenario, precision)) / row.transfer / each
    return Serving(
        policy="disaggregated",
        token_budget=service.prompt,
        prefill_replicas=row.prompts.workers * each,
        link_bandwidth=link,
        **every,
    )


def _speculation(found: Planned, row: PlanRow) -> Speculation | None:
    acceptance = found.service.acceptance
    if not row.draft or acceptance is None:
        return None
    return Speculation(length=int(row.draft), acceptance=acceptance)


def _step_time(found: Planned, model: Model, run: Estimator, serving: Serving, speculation: Speculation | None) -> StepTime:
    service = found.service
    verified = 1 if speculation is None else speculation.verified
    chunk = min(service.prompt, serving.token_budget)
    extent = Extent(
        sequences=serving.most_sequences,
        context=service.prompt + service.output + verified,
        chunk=chunk,
        tokens=max(chunk, serving.token_budget) + serving.most_sequences * verified,
    )
    surface = Surface(run, extent, verified=verified, windows=windows_of(model))
    if speculation is None:
        return surface
    plain = Surface(run, replace(extent, chunk=1), windows=windows_of(model))
    return SpeculativeStepTime(target=surface, length=speculation.length, plain=plain, draft_share=service.draft_share)
