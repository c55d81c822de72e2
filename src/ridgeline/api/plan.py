"""Which way to use so many chips is best for a target."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, get_args

from ridgeline.api.names import load_model, load_precision
from ridgeline.api.plans import resolve
from ridgeline.errors import InfeasibleError, InputError, nearest
from ridgeline.quantities import show
from ridgeline.search.plan import Aim, PlanRow, Refused, Service, search
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
    refused: tuple[Refused, ...]


def plan_chips(
    model: Model | ConvolutionalModel | str,
    chip: Chip | System | str,
    count: int,
    *,
    precision: Sequence[Precision | str] | Precision | str | None = None,
    level: str | None = None,
    context_parallel: bool = False,
    progress: Callable[[int, int], None] | None = None,
    **request: Any,
) -> Planned:
    """Cost every plan of `count` chips for requests of so many tokens, and rank those that meet the targets.

    `request` takes `prompt` (1024) and `output` (256) tokens, a `batch` (all powers of two up to `most_batch`, 4096), the targets
    `ttft` and `tpot` in seconds, and the `aim`: throughput, tpot or ttft. Raises
    `InfeasibleError` with the nearest miss where none does, or with the least shortfall where none fits the memory.

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
    chosen = level or "ideal"
    rows, refused = search(
        system, spec, count, precisions, service, level=chosen, context_parallel=context_parallel, progress=progress
    )
    _require_one(rows, refused, spec.name, count)
    return Planned(model=spec, system=system, count=count, service=service, level=chosen, plans=rows, refused=refused)


def _service(count: int, request: Mapping[str, Any]) -> Service:
    """Return what is asked of the chips; raise `InputError` for a name or a value that cannot be."""
    known = [one.name for one in fields(Service)]
    for name, value in request.items():
        if name not in known:
            raise InputError(f"a plan's request has no `{name}`: {nearest(name, known)}")
        if name == "aim" and value not in AIMS:
            raise InputError(f"aim {value!r}: choose {', '.join(AIMS)}")
        if name in ("ttft", "tpot") and not float(value) > 0:
            raise InputError(f"{name} {value:g}: more than 0 is wanted")
    for name, value in (*request.items(), ("count", count)):
        if name in ("prompt", "output", "batch", "most_batch", "count") and (value < 1 or value != int(value)):
            raise InputError(f"{name} {value}: a whole number of 1 or more is wanted")
    asked: dict[str, Any] = {"prompt": 1024, "output": 256, **request}
    return Service(**asked)


def _require_one(rows: Sequence[PlanRow], refused: Sequence[Refused], name: str, count: int) -> None:
    if rows and rows[0].meets:
        return
    if rows:
        near = rows[0]
        raise InfeasibleError(
            f"no plan of {count} chips meets the targets: the nearest is {near.plan} in {near.precision} at a batch of "
            f"{near.batch:g}: {near.reason}; decode is bound by {near.decode_bound}, prefill by {near.prefill_bound}, "
            f"{show(near.free, 'B')} of memory are free"
        )
    short = [one for one in refused if "short of memory" in one.reason] or list(refused)
    said = "; ".join(f"{one.plan} in {one.precision}: {one.reason}" for one in short[:3])
    raise InfeasibleError(f"no plan of {count} chips holds {name}: {said}{' …' if len(short) > 3 else ''}")
