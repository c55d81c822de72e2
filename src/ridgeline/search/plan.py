"""The planner: every way to spread a model over so many chips, each costed over batches, the best for a target first."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from ridgeline.arrays import is_scalar
from ridgeline.errors import InputError
from ridgeline.parallel import estimate_plan
from ridgeline.quantities import Bytes, Count, PerSecond, Seconds, show
from ridgeline.results import Estimate
from ridgeline.search.explore import takes_arrays
from ridgeline.search.pareto import pareto
from ridgeline.specs.model import ConvolutionalModel, Model
from ridgeline.specs.plan import Plan
from ridgeline.specs.precision import Precision
from ridgeline.specs.scenario import Scenario
from ridgeline.specs.system import System

Aim = Literal["throughput", "tpot", "ttft"]


@dataclass(frozen=True, kw_only=True)
class Service:
    """What is asked of the chips: the requests, and the targets; `batch` 0 tries all powers of two."""

    prompt: int
    output: int
    batch: int = 0
    most_batch: int = 4096
    ttft: Seconds = math.inf
    tpot: Seconds = math.inf
    aim: Aim = "throughput"


@dataclass(frozen=True, kw_only=True)
class PlanRow:
    """One plan in one precision at its best batch."""

    plan: str
    precision: str
    batch: Count
    ttft: Seconds
    tpot: Seconds
    throughput: PerSecond  # output tokens a second of all chips, the prompts computed on the same chips
    decode_bound: str
    prefill_bound: str
    memory: Bytes  # of the fullest chip, in decode
    free: Bytes  # of its memory
    meets: bool
    level: str
    front: bool = False  # no other plan is better in all of ttft, tpot and throughput
    reason: str = ""  # why it is not meant: the target that it misses
    against: str = ""  # what it loses to the best by, and where


@dataclass(frozen=True, kw_only=True)
class Refused:
    """A plan that cannot be, and why."""

    plan: str
    precision: str
    reason: str


def divisors(number: int) -> list[int]:
    """Return the divisors of a number.

    >>> divisors(12)
    [1, 2, 3, 4, 6, 12]
    """
    return [one for one in range(1, number + 1) if number % one == 0]


def plans(model: Model | ConvolutionalModel, chips: int, *, context_parallel: bool = False) -> Iterator[Plan]:
    """Yield every plan of exactly so many chips: tensor × context × pipeline × data, experts over what they may span.

    A pipeline runs one micro-batch, or as many as it has stages. Where tensor ranks share KV heads, or there are experts, attention
    may take sequences instead of heads. What does not divide is left to the cost to refuse, with its reason.

    >>> from ridgeline.specs.model import ConvolutionalModel
    >>> [plan.text for plan in plans(ConvolutionalModel(name="any", layers=()), 2)]
    ['dp=2']
    """
    if isinstance(model, ConvolutionalModel):
        yield Plan(data=chips)
        return
    experts = any(layer.experts is not None for layer in model.decoder)
    for tensor in divisors(chips):
        for context in divisors(chips // tensor) if context_parallel else [1]:
            for pipeline in divisors(chips // tensor // context):
                data = chips // tensor // context // pipeline
                for expert in divisors(tensor * context * data) if experts else [1]:
                    one = Plan(tensor=tensor, context=context, pipeline=pipeline, data=data, expert=expert)
                    yield from _with_micro_batches(one)
                    if tensor > 1 and _may_spread_attention(model, tensor):
                        yield from _with_micro_batches(replace(one, attention_data_parallel=True))


def _with_micro_batches(plan: Plan) -> Iterator[Plan]:
    yield plan
    if plan.pipeline > 1:
        yield replace(plan, micro_batches=plan.pipeline)


def _may_spread_attention(model: Model, tensor: int) -> bool:
    attentions = [layer.attention for layer in model.decoder if layer.attention is not None]
    return any(layer.experts is not None for layer in model.decoder) or any(
        one.latent is not None or tensor > int(one.kv_heads) for one in attentions
    )


def replicas(plan: Plan) -> int:
    """Return the sequences that a plan needs at least, one for each group of ranks that works on sequences of its own."""
    return int(plan.data * (plan.tensor if plan.attention_data_parallel else 1))


# ---- costing ----------------------------------------------------------------------------------------------------------------


def cost(
    system: System,
    model: Model | ConvolutionalModel,
    plan: Plan,
    precision: Precision,
    service: Service,
    level: str = "ideal",
) -> PlanRow | Refused:
    """Return a plan at the batch that is best for the aim and meets the targets, or the reason why it cannot be.

        TTFT = prefill of one prompt in each group of ranks;   TPOT = decode step / tokens a sequence gains
        throughput = output / (TTFT / groups + output · TPOT / batch)

    Chips compute prompts and decode in turn, nothing overlapped; the context of decode is the whole request. Waiting is not
    counted: `serve` plays requests.
    """
    groups, name = replicas(plan), precision.name
    unit = groups * int(plan.micro_batches)
    batches = _batches(service, unit)
    if not len(batches):
        return Refused(
            plan=plan.text, precision=name, reason=f"a batch of {service.batch or service.most_batch} is no multiple of {unit}"
        )
    prefill = Scenario(phase="prefill", batch=float(groups), prompt=float(service.prompt))
    decode = Scenario(phase="decode", batch=batches, context=float(service.prompt + service.output))
    try:
        steps = _decode(system, model, decode, precision, plan, level)
        if not (steps["short"] <= 0).any():
            return Refused(plan=plan.text, precision=name, reason=_too_large(float(np.min(steps["short"])), "decode", batches[0]))
        first = estimate_plan(system, model, prefill, precision, replace(plan, micro_batches=1), level=level)
    except InputError as error:
        return Refused(plan=plan.text, precision=name, reason=str(error))
    if not first.feasible:
        return Refused(plan=plan.text, precision=name, reason=_too_large(_short(first), "prefill", groups))
    ttft = float(first.time)
    tpot = steps["time"] * batches / steps["tokens"]
    throughput = service.output / (ttft / groups + service.output * tpot / batches)
    fits = steps["short"] <= 0
    meets = fits & (tpot <= service.tpot) & (ttft <= service.ttft)
    score = {"throughput": -throughput, "tpot": tpot, "ttft": -throughput + 0.0 * tpot}[service.aim]
    allowed = meets if meets.any() else fits
    # Where nothing meets the targets the row shows the nearest miss: the batch whose TPOT is least.
    best = int(np.argmin(np.where(allowed, score if meets.any() else tpot, np.inf)))
    return PlanRow(
        plan=plan.text,
        precision=name,
        batch=float(batches[best]),
        ttft=ttft,
        tpot=float(tpot[best]),
        throughput=float(throughput[best]),
        decode_bound=str(steps["bound"][best]),
        prefill_bound=str(first.bound),
        memory=float(steps["needed"][best]),
        free=float(steps["available"][best] - steps["needed"][best]),
        meets=bool(meets[best]),
        level=level,
        reason="" if meets[best] else _missed(service, ttft, float(tpot[best])),
    )


def _batches(service: Service, unit: int) -> Any:
    if service.batch:
        return np.array([float(service.batch)]) if service.batch % unit == 0 else np.zeros(0)
    count = int(math.log2(service.most_batch / unit)) + 1 if unit <= service.most_batch else 0
    return unit * 2.0 ** np.arange(count)


def _decode(
    system: System, model: Model | ConvolutionalModel, scenario: Scenario, precision: Precision, plan: Plan, level: str
) -> Mapping[str, Any]:
    """Return decode steps over batches: as one array where the level takes arrays, else one after the other."""
    batches = scenario.batch
    if takes_arrays(system.chip, level):
        return _columns(estimate_plan(system, model, scenario, precision, plan, level=level), len(batches))
    parts = [
        _columns(estimate_plan(system, model, replace(scenario, batch=float(one)), precision, plan, level=level), 1)
        for one in batches
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _columns(found: Estimate, count: int) -> Mapping[str, Any]:
    held = found.capacity
    if held is None:
        raise InputError("what the step keeps in memory is not known")
    numbers = {
        "time": found.time,
        "tokens": found.tokens,
        "short": held.shortfall,
        "needed": held.needed,
        "available": held.available + held.further_available,
    }
    spread = {name: np.broadcast_to(np.asarray(value, dtype=np.float64), (count,)) for name, value in numbers.items()}
    names = np.array(found.resources)
    bound = [found.bound] if is_scalar(found.bound) else names[np.asarray(found.bound, dtype=int)]
    return {**spread, "bound": np.broadcast_to(np.asarray(bound), (count,))}


def _too_large(short: Bytes, phase: str, batch: Count) -> str:
    return f"{show(short, 'B')} short of memory in {phase} at a batch of {batch:g}"


def _short(found: Estimate) -> float:
    return 0.0 if found.capacity is None else float(found.capacity.shortfall)


def _missed(service: Service, ttft: float, tpot: float) -> str:
    said = [("TTFT", ttft, service.ttft), ("TPOT", tpot, service.tpot)]
    return ", ".join(f"{name} {show(value, 's')} > {show(limit, 's')}" for name, value, limit in said if value > limit)


def ranked(rows: Sequence[PlanRow], service: Service) -> tuple[PlanRow, ...]:
    """Return rows best first, those that meet the targets before the others, the nearest miss first of those; fronts marked."""
    if not rows:
        return ()
    front = pareto(
        [[one.ttft for one in rows], [one.tpot for one in rows], [one.throughput for one in rows]],
        ["min", "min", "max"],
        [one.meets for one in rows],
    )
    marked = [replace(one, front=bool(on)) for one, on in zip(rows, front, strict=True)]

    def key(one: PlanRow) -> tuple[Any, ...]:
        values = {"throughput": -one.throughput, "tpot": one.tpot, "ttft": one.ttft}
        miss = max(one.ttft / service.ttft, one.tpot / service.tpot)
        return (not one.meets, 0.0 if one.meets else miss, values[service.aim], -one.throughput, one.ttft, one.plan, one.precision)

    ordered = sorted(marked, key=key)
    return (ordered[0], *(replace(one, against=_against(one, ordered[0], service.aim)) for one in ordered[1:]))


def _against(one: PlanRow, best: PlanRow, aim: Aim) -> str:
    """Say what a plan loses to the best by, the aim before all, and the resource that binds it there."""
    ratios = {
        "throughput": (best.throughput / one.throughput, one.decode_bound),
        "tpot": (one.tpot / best.tpot, one.decode_bound),
        "ttft": (one.ttft / best.ttft, one.prefill_bound),
    }
    name = aim if ratios[aim][0] > 1.0005 else max(ratios, key=lambda key: ratios[key][0])
    ratio, bound = ratios[name]
    return f"{name} {ratio:.3g}× worse, bound by {bound}" if ratio > 1.0005 else "equal"


def search(
    system: System,
    model: Model | ConvolutionalModel,
    chips: int,
    precisions: Sequence[Precision],
    service: Service,
    *,
    level: str = "ideal",
    context_parallel: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[tuple[PlanRow, ...], tuple[Refused, ...]]:
    """Cost every plan in every precision; return those that can be, best first, and those that cannot, with the reason."""
    every = [(plan, one) for plan in plans(model, chips, context_parallel=context_parallel) for one in precisions]
    rows: list[PlanRow] = []
    refused: list[Refused] = []
    for index, (plan, precision) in enumerate(every):
        found = cost(system, model, plan, precision, service, level)
        if isinstance(found, PlanRow):
            rows.append(found)
        else:
            refused.append(found)
        if progress is not None:
            progress(index + 1, len(every))
    return ranked(rows, service), tuple(refused)
