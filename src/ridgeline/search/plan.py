"""The planner: every way to use so many chips, costed over arrays of batches, chunks and drafts, the best for a target first."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from ridgeline.costs.ideal import Residency
from ridgeline.errors import InputError
from ridgeline.mapping.epilogue import Fusion
from ridgeline.parallel import estimate_plan
from ridgeline.quantities import Bytes, Count, PerSecond, Seconds, Watts, show
from ridgeline.results import Interval
from ridgeline.search.pareto import pareto
from ridgeline.search.plan_points import (
    MODES,
    SENSES,
    Aim,
    Columns,
    Mode,
    Service,
    Tariff,
    Worker,
    aggregated,
    best_of,
    disaggregated,
    meets,
    miss,
    pools,
    replicas,
    worker,
)
from ridgeline.search.plan_steps import Prompts, Setting
from ridgeline.specs.model import ConvolutionalModel, Model
from ridgeline.specs.plan import Plan
from ridgeline.specs.precision import Precision
from ridgeline.specs.scenario import Scenario
from ridgeline.specs.system import System

__all__ = [
    "MODES",
    "Aim",
    "Found",
    "Mode",
    "PlanRow",
    "Pool",
    "Refused",
    "Service",
    "Tariff",
    "divisors",
    "plans",
    "replicas",
    "search",
]


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Workers of one kind, in a service of two pools."""

    plan: str
    workers: int


@dataclass(frozen=True, kw_only=True)
class PlanRow:
    """One plan in one precision at its best batch, chunk and draft."""

    plan: str  # of two pools that of the workers that decode
    precision: str
    mode: Mode
    batch: Count  # sequences that decode at once, on all chips
    chunk: Count  # tokens of a prompt that a step takes beside decoding; 0: whole prompts in steps of their own
    draft: Count  # drafted tokens a step
    prompts: Pool | None  # of two pools
    decoders: int  # workers that decode; 1 where there is one pool
    transfer: Seconds  # of a prompt's cache from one pool to the other
    ttft: Seconds
    tpot: Seconds
    throughput: PerSecond  # output tokens a second of all chips
    power: Watts | None  # of all chips; None where the chip's file gives no energies
    price: float | None  # dollars a million output tokens; None without a tariff
    decode_bound: str
    prefill_bound: str
    binding: str  # what binds the steps that take most of the time
    memory: Bytes  # of the fullest chip that decodes
    free: Bytes  # of its memory
    meets: bool
    level: str
    interval: Interval | None = None  # of TPOT, s
    front: bool = False  # no other row is better in all of ttft, tpot and throughput
    reason: str = ""  # why it is not meant: the target that it misses
    against: str = ""  # what it loses to the best by, and where


@dataclass(frozen=True, kw_only=True)
class Refused:
    """A plan that cannot be, and why."""

    plan: str
    precision: str
    reason: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """What a search has found: each plan at its best, best first; the front of all points; what cannot be; points costed."""

    rows: tuple[PlanRow, ...]
    front: tuple[PlanRow, ...]
    refused: tuple[Refused, ...]
    evaluated: int


def divisors(number: int) -> list[int]:
    """Return the divisors of a number.

    >>> divisors(12)
    [1, 2, 3, 4, 6, 12]
    """
    return [one for one in range(1, number + 1) if number % one == 0]


def plans(model: Model | ConvolutionalModel, chips: int, *, context_parallel: bool = False) -> Iterator[Plan]:
    """Yield every plan of exactly so many chips: tensor × context × pipeline × data, experts over what they may span.

    Norms and residuals are whole on every tensor rank, or cut over them (sequence parallel). A pipeline runs one micro-batch, or as
    many as it has stages. Where tensor ranks share KV heads, or there are experts, attention
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
                    yield from _variants(one)
                    if tensor > 1 and _may_spread_attention(model, tensor):
                        yield from _with_micro_batches(replace(one, attention_data_parallel=True))


def _variants(plan: Plan) -> Iterator[Plan]:
    """Yield a plan with its norms and residuals whole on every tensor rank, and cut over them."""
    yield from _with_micro_batches(plan)
    if plan.tensor > 1:
        yield from _with_micro_batches(replace(plan, sequence=plan.tensor, sequence_parallel_norms=True))


def _with_micro_batches(plan: Plan) -> Iterator[Plan]:
    yield plan
    if plan.pipeline > 1:
        yield replace(plan, micro_batches=plan.pipeline)


def _may_spread_attention(model: Model, tensor: int) -> bool:
    attentions = [layer.attention for layer in model.decoder if layer.attention is not None]
    return any(layer.experts is not None for layer in model.decoder) or any(
        one.latent is not None or tensor > int(one.kv_heads) for one in attentions
    )


class Fastest(NamedTuple):
    """The plan with the least time, and how many fit of how many there are."""

    plan: Plan | None
    fitting: int
    tried: int


def fastest(setting: Setting, scenario: Scenario, chips: int, *, residency: Residency = "cold", fusion: Fusion = "best") -> Fastest:
    """Return the plan of so many chips under which one step takes the least time, of those that divide and fit."""
    best: tuple[float, Plan] | None = None
    fitting = tried = 0
    for plan in plans(setting.model, chips, context_parallel=True):
        tried += 1
        try:
            found = estimate_plan(
                setting.system,
                setting.model,
                scenario,
                setting.precision,
                plan,
                level=setting.level,
                residency=residency,
                fusion=fusion,
            )
        except InputError:  # does not divide
            continue
        if found.feasible:
            fitting += 1
            best = (float(found.time), plan) if best is None or found.time < best[0] else best
    return Fastest(None if best is None else best[1], fitting, tried)


# ---- rows -------------------------------------------------------------------------------------------------------------------


_NUMBERS = ("batch", "chunk", "draft", "ttft", "tpot", "throughput", "memory")


@dataclass(frozen=True, eq=False)
class _Candidate:
    """Columns of points, and whose they are."""

    columns: Columns
    setting: Setting
    workers: Sequence[Worker]  # that the points' `worker` names; the first where there is one pool
    split: tuple[int, int, int, int] | None = None
    prompter: Worker | None = None

    def row(self, index: int, service: Service) -> PlanRow:
        """Return one point as a row."""
        values = {name: column[index] for name, column in self.columns.items()}
        mine = self.workers[int(values.get("worker", 0))]
        keeps = bool(meets({name: np.asarray([value]) for name, value in values.items()}, service)[0])
        pool = None if self.prompter is None or self.split is None else Pool(plan=self.prompter.plan.text, workers=self.split[1])
        known: dict[str, Any] = {name: float(values[name]) for name in ("power", "price")}
        numbers: dict[str, Any] = {name: float(values[name]) for name in _NUMBERS}
        bounds: dict[str, Any] = {name: str(values[name]) for name in ("decode_bound", "prefill_bound", "binding")}
        return PlanRow(
            plan=mine.plan.text,
            precision=self.setting.precision.name,
            mode="aggregated" if pool is None else "disaggregated",
            **numbers,
            prompts=pool,
            decoders=1 if self.split is None else self.split[3],
            transfer=float(values.get("transfer", 0.0)),
            **{name: value if np.isfinite(value) else None for name, value in known.items()},
            **bounds,
            free=float(values["available"] - values["memory"]),
            meets=keeps,
            level=self.setting.level,
            interval=_interval(values, mine),
            reason="" if keeps else _missed(service, values),
        )


def _interval(values: Mapping[str, Any], mine: Worker) -> Interval | None:
    factors, tpot = mine.grid.steps.factors, float(values["tpot"])
    if factors is None:
        return None
    return Interval(coverage=factors[2], lower=tpot * float(values["lower"]), upper=tpot * float(values["upper"]))


_UNITS = {"ttft": "s", "tpot": "s", "throughput": "1/s", "power": "W"}


def _missed(service: Service, values: Mapping[str, Any]) -> str:
    if not values["fits"]:
        short = values["memory"] - values["available"]
        return f"{show(float(short), 'B')} short of memory" if short > 0 else "chunks do not keep up with so many sequences"
    said: list[str] = []
    for name, sense in SENSES.items():
        value, limit = float(values[name]), float(getattr(service, name))
        if value > limit if sense == "min" else value < limit:
            shown = [show(one, _UNITS[name]) if name in _UNITS else f"{one:.4g} $ a million tokens" for one in (value, limit)]
            title = name.upper() if name in ("ttft", "tpot") else name
            said.append(f"{title} {shown[0]} {'>' if sense == 'min' else '<'} {shown[1]}")
        elif np.isnan(value) and np.isfinite(limit):
            said.append(f"{name} is not known")
    return ", ".join(said)


def _of_row(one: PlanRow) -> dict[str, Any]:
    values = {name: getattr(one, name) for name in SENSES}
    return {name: np.asarray(np.nan if value is None else value) for name, value in values.items()}


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
    ordered = sorted(marked, key=lambda one: _place(one, service))
    return (ordered[0], *(replace(one, against=_against(one, ordered[0], service.aim)) for one in ordered[1:]))


def _place(one: PlanRow, service: Service) -> tuple[Any, ...]:
    """Return what rows are put in order by."""
    away = 0.0 if one.meets else float(miss(_of_row(one), service))
    value = getattr(one, service.aim)
    aim = np.inf if value is None else -value if SENSES[service.aim] == "max" else value
    return (not one.meets, away, aim, -one.throughput, one.ttft, one.plan, one.precision, one.mode, one.decoders)


def _against(one: PlanRow, best: PlanRow, aim: Aim) -> str:
    """Say what a plan loses to the best by, the aim before all, and the resource that binds it there."""
    ratios: dict[str, tuple[float, str]] = {}
    bounds = {"ttft": one.prefill_bound, "tpot": one.decode_bound}
    for name, sense in SENSES.items():
        mine, other = getattr(one, name), getattr(best, name)
        if mine is not None and other is not None:
            ratios[name] = (mine / other if sense == "min" else other / mine, bounds.get(name, one.binding))
    name = aim if aim in ratios and ratios[aim][0] > 1.0005 else max(("ttft", "tpot", "throughput"), key=lambda key: ratios[key][0])
    ratio, bound = ratios[name]
    return f"{name} {ratio:.3g}× worse, bound by {bound}" if ratio > 1.0005 else "equal"


# ---- the search -------------------------------------------------------------------------------------------------------------


def search(
    system: System,
    model: Model | ConvolutionalModel,
    chips: int,
    precisions: Sequence[Precision],
    service: Service,
    *,
    level: str = "ideal",
    context_parallel: bool = False,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Found:
    """Cost every plan in every precision, and every split into two pools; return each plan at its best, and the front of all."""
    settings = [Setting(system=system, model=model, precision=one, level=level) for one in precisions]
    sizes = _sizes(model, chips, service)
    every = [
        _Task(setting, size == chips, replace(plan, overlap=service.overlap))
        for setting in settings
        for size in sizes
        for plan in plans(model, size, context_parallel=context_parallel)
        if size == chips or _is_worker(model, plan)
    ]
    candidates: list[_Candidate] = []
    refused: list[Refused] = []
    parts: dict[str, dict[int, list[Worker]]] = {}
    for index, (task, found) in enumerate(_evaluated(every, service, chips, workers)):
        if isinstance(found, Refused):
            refused += [found] if task.whole else []
        elif found.columns is not None:
            candidates.append(_Candidate(found.columns, task.setting, (found.worker,)))
        else:
            parts.setdefault(task.setting.precision.name, {}).setdefault(int(task.plan.chips), []).append(found.worker)
        if progress is not None:
            progress(index + 1, len(every))
    for setting in settings:
        if isinstance(model, Model) and setting.precision.name in parts:
            pooled = pools(parts[setting.precision.name], service)
            for split, prompter, ones, columns in disaggregated(setting, model, pooled, service, chips):
                candidates.append(_Candidate(columns, setting, ones, split, prompter))
    rows, unfit = _best_rows(candidates, service)
    evaluated = sum(len(one.columns["batch"]) for one in candidates)
    return Found(rows=ranked(rows, service), front=_front(candidates, service), refused=(*refused, *unfit), evaluated=evaluated)


@dataclass(frozen=True, eq=False)
class _Task:
    """A plan to cost: of all chips, or of a worker."""

    setting: Setting
    whole: bool
    plan: Plan


@dataclass(frozen=True, eq=False)
class _Costed:
    """A plan's steps, and its services where it takes all chips."""

    worker: Worker
    columns: Columns | None


def _cost(tasks: Sequence[_Task], service: Service, chips: int) -> list[_Costed | Refused]:
    """Cost plans one after the other; a plan that cannot be is told with its reason."""
    known: dict[str, Prompts] = {}
    found: list[_Costed | Refused] = []
    for task in tasks:
        try:
            one = worker(task.setting, task.plan, service, known)
        except InputError as error:
            found.append(Refused(plan=task.plan.text, precision=task.setting.precision.name, reason=str(error)))
            continue
        columns = aggregated(one, service, chips) if task.whole and "aggregated" in service.modes else None
        if columns is None and task.whole:
            found.append(Refused(plan=task.plan.text, precision=task.setting.precision.name, reason="one pool is not asked for"))
        else:
            found.append(_Costed(one.without_parts(), columns))
    return found


_TASKS = 32  # of a process at a time: enough that handing them over costs nothing


def _evaluated(tasks: Sequence[_Task], service: Service, chips: int, workers: int) -> Iterator[tuple[_Task, _Costed | Refused]]:
    """Yield each plan with what it costs, in order; by several processes where there is enough to do."""
    parts = [tasks[start : start + _TASKS] for start in range(0, len(tasks), _TASKS)]
    if workers <= 1 or len(parts) < 2 * workers:
        for part in parts:
            yield from zip(part, _cost(part, service, chips), strict=True)
        return
    from concurrent.futures import ProcessPoolExecutor
    from functools import partial
    from multiprocessing import get_context

    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for part, found in zip(parts, pool.map(partial(_cost, service=service, chips=chips), parts), strict=True):
            yield from zip(part, found, strict=True)


def _sizes(model: Model | ConvolutionalModel, chips: int, service: Service) -> list[int]:
    """Return the chips of a worker: all, and where two pools may be, divisors of all and powers of two below."""
    if "disaggregated" not in service.modes or chips == 1 or isinstance(model, ConvolutionalModel):
        return [chips]
    smaller = {1 << place for place in range(chips.bit_length())} | set(divisors(chips))
    return [chips, *sorted(one for one in smaller if one < chips)]


def _is_worker(model: Model | ConvolutionalModel, plan: Plan) -> bool:
    """Say whether a plan is no more than several smaller workers side by side: data ranks that no experts span."""
    return plan.data == 1 or plan.expert > 1 or isinstance(model, ConvolutionalModel)


def _best_rows(candidates: Sequence[_Candidate], service: Service) -> tuple[list[PlanRow], list[Refused]]:
    """Return every plan at its best, and every split of the chips at its best."""
    rows: list[PlanRow] = []
    refused: list[Refused] = []
    splits: dict[tuple[Any, ...], PlanRow] = {}
    for one in candidates:
        row = one.row(best_of(one.columns, service), service)
        if one.split is None:
            if one.columns["fits"].any():
                rows.append(row)
            else:
                refused.append(Refused(plan=row.plan, precision=row.precision, reason=row.reason))
            continue
        key = (row.precision, one.split)
        before = splits.get(key)
        splits[key] = row if before is None else min(row, before, key=lambda each: _place(each, service))
    return [*rows, *splits.values()], refused


def _front(candidates: Sequence[_Candidate], service: Service) -> tuple[PlanRow, ...]:
    """Return the points of all plans that meet the targets and that no other is better than in all of TTFT, TPOT and throughput."""
    kept: list[tuple[_Candidate, int]] = []
    for one in candidates:  # those of each plan first, so that few are compared with all
        on = pareto(
            [one.columns[name] for name in ("ttft", "tpot", "throughput")], ["min", "min", "max"], meets(one.columns, service)
        )
        kept += [(one, int(index)) for index in np.flatnonzero(on)]
    if not kept:
        return ()
    values = [[float(one.columns[name][index]) for one, index in kept] for name in ("ttft", "tpot", "throughput")]
    on = pareto(values, ["min", "min", "max"])
    rows = [one.row(index, service) for (one, index), stays in zip(kept, on, strict=True) if stays]
    return tuple(replace(one, front=True) for one in sorted(rows, key=lambda one: (one.ttft, one.tpot, -one.throughput, one.plan)))
