"""Which way to use so many chips is best for a target."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, get_args

from ridgeline.api.money import Prices, priced, rate_of
from ridgeline.api.names import load_model, load_precision
from ridgeline.api.plans import resolve
from ridgeline.errors import InfeasibleError, InputError, nearest
from ridgeline.quantities import show
from ridgeline.search.plan import MODES, Aim, PlanRow, Refused, Service, Tariff, search
from ridgeline.specs.chip import Chip
from ridgeline.specs.model import ConvolutionalModel, Model
from ridgeline.specs.plan import Plan
from ridgeline.specs.precision import Precision
from ridgeline.specs.system import System

AIMS: tuple[Aim, ...] = get_args(Aim)


@dataclass(frozen=True, kw_only=True, eq=False)
class Planned:
    """The plans of a model on a system, best first, and those that cannot be."""

    model: Model | ConvolutionalModel
    system: System
    count: int
    service: Service
    level: str
    plans: tuple[PlanRow, ...]
    pareto: tuple[PlanRow, ...]  # of all points that meet the targets: none other is better in all of TTFT, TPOT and throughput
    refused: tuple[Refused, ...]
    evaluated: int  # points: plan × precision × batch × chunk × draft, and splits into two pools


def plan_chips(
    model: Model | ConvolutionalModel | str,
    chip: Chip | System | str,
    count: int,
    *,
    precision: Sequence[Precision | str] | Precision | str | None = None,
    level: str | None = None,
    context_parallel: bool = False,
    prices: Prices | None = None,
    terms: Mapping[str, Any] | None = None,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
    **request: Any,
) -> Planned:
    """Cost every plan of `count` chips for requests of so many tokens, and rank those that meet the targets.

    A plan is a partition in a precision at a batch, with prompts whole or in `chunks`, with or without `drafts`; all chips do both
    phases, or two pools of workers hand caches over (`modes`). `request` takes `prompt` (1024) and `output` (256) tokens, a `batch`
    (1, 2, 3, 4, 6, 8 … up to `most_batch`: 256 a chip, 4096 at least); targets `ttft`, `tpot` (s), `throughput` (output tokens/s),
    `power` (W of all chips), `price` ($ a million output tokens, by `prices`: purchase or rental, on `terms`); the `aim`, one of
    those; for speculation `drafts`, `acceptance` and `draft_share`; `overlap`, the share of communication that runs beside work.
    `workers` are processes. Raises `InfeasibleError` with the nearest miss where no plan meets the targets, or with the least
    shortfall where none fits the memory.

    >>> found = plan_chips("llama-3.1-70b", "h100-sxm", 8, tpot=50e-3)
    >>> found.plans[0].meets, len(found.plans) > 3
    (True, True)
    """
    spec = load_model(model)
    service = _service(count, {name: value for name, value in request.items() if value is not None})
    if isinstance(spec, ConvolutionalModel) or not spec.decoder:
        raise InputError(f"{spec.name} generates no tokens: plans are of models that decode")
    own, spread = resolve(chip, count, Plan(tensor=count))
    system = System(name=f"one {own.name}", chip=own) if spread is None else spread.system
    given = [precision] if precision is None or isinstance(precision, Precision | str) else list(precision)
    precisions = [load_precision(one, spec) for one in given]
    service = replace(service, tariff=_tariff(system, count, prices, terms, service))
    chosen = level or "ideal"
    found = search(
        system,
        spec,
        count,
        precisions,
        service,
        level=chosen,
        context_parallel=context_parallel,
        workers=workers,
        progress=progress,
    )
    _require_one(found.rows, found.refused, spec.name, count)
    return Planned(
        model=spec,
        system=system,
        count=count,
        service=service,
        level=chosen,
        plans=found.rows,
        pareto=found.front,
        refused=found.refused,
        evaluated=found.evaluated,
    )


def title(row: PlanRow) -> str:
    """Return a plan in words: one pool's, or prompts → decode of two pools with how many workers each has."""
    if row.prompts is None:
        return row.plan
    return f"{row.prompts.workers} × ({row.prompts.plan}) → {row.decoders} × ({row.plan})"


def _tariff(system: System, count: int, prices: Prices | None, terms: Mapping[str, Any] | None, service: Service) -> Tariff | None:
    """Return what the chips cost; None where no price is known and none is asked for."""
    asked = prices is not None or bool(terms) or service.aim == "price" or math.isfinite(service.price)
    if not asked and not priced(system):
        return None
    rate = rate_of(system, count, terms=terms, prices=prices)
    fixed = rate.fixed / rate.terms.utilisation + rate.overhead * rate.energy_price
    return Tariff(fixed=fixed, energy=rate.energy_price, limit=rate.power)


_POSITIVE = ("ttft", "tpot", "power", "price")
_COUNTED = ("prompt", "output", "batch", "most_batch")


def _service(count: int, request: Mapping[str, Any]) -> Service:
    """Return what is asked of the chips; raise `InputError` for a name or a value that cannot be."""
    known = [one.name for one in fields(Service) if one.name != "tariff"]
    for name, value in request.items():
        if name not in known:
            raise InputError(f"a plan's request has no `{name}`: {nearest(name, known)}")
        if name == "aim" and value not in AIMS:
            raise InputError(f"aim {value!r}: choose {', '.join(AIMS)}")
        if name == "modes" and not (value and set(value) <= set(MODES)):
            raise InputError(f"modes {value}: choose from {', '.join(MODES)}")
        if name in _POSITIVE and not float(value) > 0:
            raise InputError(f"{name} {value:g}: more than 0 is wanted")
        if name == "throughput" and not (float(value) >= 0 and math.isfinite(float(value))):
            raise InputError(f"throughput {value:g}: a finite number, 0 or more, is wanted")
    every: dict[str, Any] = {**request, "count": count}
    for name, value in every.items():
        if name in (*_COUNTED, "count") and (value < 1 or value != int(value)):
            raise InputError(f"{name} {value}: a whole number of 1 or more is wanted")
        if name in ("chunks", "drafts") and any(one < 0 or one != int(one) for one in value):
            raise InputError(f"{name} {value}: whole numbers, 0 or more, are wanted")
    asked: dict[str, Any] = {"prompt": 1024, "output": 256, "most_batch": max(4096, 256 * count), **request}
    found = Service(**asked)
    _check_drafts(found)
    if not 0.0 <= found.overlap <= 1.0:
        raise InputError(f"overlap {found.overlap:g}: a share of the communication from 0 to 1 is wanted")
    return found


def _check_drafts(asked: Service) -> None:
    drafts = [one for one in asked.drafts if one > 0]
    if drafts and asked.acceptance is None:
        raise InputError("speculation: say with which probability a drafted token is accepted")
    if not drafts and asked.acceptance is not None:
        raise InputError("an acceptance without drafts: say how many tokens are drafted, as in 2,4")
    if asked.acceptance is not None and not 0.0 <= asked.acceptance <= 1.0:
        raise InputError(f"acceptance {asked.acceptance:g}: a probability from 0 to 1 is wanted")
    if not asked.draft_share >= 0.0:
        raise InputError(f"draft share {asked.draft_share:g}: a share of a step, 0 or more, is wanted")


def _require_one(rows: Sequence[PlanRow], refused: Sequence[Refused], name: str, count: int) -> None:
    if rows and rows[0].meets:
        return
    if rows:
        near = rows[0]
        raise InfeasibleError(
            f"no plan of {count} chips meets the targets: the nearest is {title(near)} in {near.precision} at a batch of "
            f"{near.batch:g}: {near.reason}; decode is bound by {near.decode_bound}, prefill by {near.prefill_bound}, "
            f"{show(near.free, 'B')} of memory are free"
        )
    short = [one for one in refused if "short of memory" in one.reason] or list(refused)
    said = "; ".join(f"{one.plan} in {one.precision}: {one.reason}" for one in short[:3])
    raise InfeasibleError(f"no plan of {count} chips holds {name}: {said}{' …' if len(short) > 3 else ''}")
