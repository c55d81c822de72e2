"""Inverse questions about one step: the least bandwidth, capacity, rate …, or the largest batch or context, that meets targets."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from ridgeline.api.analysis import Analysis, analyze
from ridgeline.api.explore import unit_at
from ridgeline.api.names import load_chip, load_model
from ridgeline.api.plans import resolve
from ridgeline.errors import InfeasibleError, InputError, nearest
from ridgeline.quantities import show, show_apart
from ridgeline.search.solve import Solution, boundary
from ridgeline.specs.base import quantities, with_quantity
from ridgeline.specs.chip import Chip
from ridgeline.specs.model import ConvolutionalModel, Model
from ridgeline.specs.plan import Plan
from ridgeline.specs.scenario import Scenario
from ridgeline.specs.system import System

# Target → unit, and whether it is met from below.
TARGETS: Mapping[str, tuple[str, bool]] = {
    "time": ("s", True),
    "ttft": ("s", True),
    "tpot": ("s", True),
    "tokens_per_second": ("1/s", False),
    "energy": ("J", True),
    "energy_per_token": ("J", True),
}
_COUNTS = ("batch", "prompt", "context", "output", "samples", "verified")
_MOST_COUNT = 2**20
_RANGE = 1000.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Solved:
    """The value, the step there, and the step at the neighbour that fails, or why there is none."""

    quantity: str
    targets: Mapping[str, float]
    bound: str | None
    solution: Solution
    at: Analysis
    failing: Analysis | None
    reason: str


def solve(
    model: Model | ConvolutionalModel | str,
    chip: Chip | System | str,
    quantity: str,
    *,
    targets: Mapping[str, float] | None = None,
    bound: str | None = None,
    low: float | None = None,
    high: float | None = None,
    most: bool = False,
    count: int | None = None,
    plan: Plan | str | None = None,
    **options: Any,
) -> Solved:
    """Return the least value of a quantity with which a step meets all targets, or with `most` the largest.

    `quantity` is a dotted path of the chip or system, or a count of the scenario. Targets are upper limits of time, ttft, tpot,
    energy and energy_per_token, and lower limits of tokens_per_second, in SI; `bound` asks for what binds. That all fits the memory
    is always asked for. The bracket is a thousandth to a thousand times the present value unless given; of a count 1 to 2²⁰, of a
    least count to what the memory holds. Raises `InfeasibleError` where the bracket holds no such value.

    >>> found = solve("llama-3.1-8b", "h100-sxm", "memory.hbm.bandwidth", targets={"time": 10e-3}, context=1, level="ideal")
    >>> 1.4e12 < found.solution.value < 1.6e12  # 15 GB of weights in 10 ms
    True
    """
    spec, wanted = load_model(model), dict(targets or {})
    _check_targets(wanted)
    machine = _machine(chip, count, plan)
    options = {name: value for name, value in options.items() if value is not None}
    if not isinstance(machine, Chip):
        options["plan"] = resolve(chip, count, plan)[1].plan  # pyright: ignore[reportOptionalMemberAccess]
    whole = quantity in _COUNTS
    said = high is not None
    low, high = _bracket(machine, quantity, low, high)

    def step(value: float) -> Analysis:
        if whole:
            asked: dict[str, Any] = {**options, quantity: int(value)}
            return analyze(spec, machine, **asked)
        return analyze(spec, with_quantity(machine, quantity, value), **options)

    def meets(value: float) -> bool:
        try:
            return not _missed(step(value), wanted, bound)
        except InfeasibleError:
            return False

    if whole and not most and not said:  # the least count that meets targets lies below the largest that fits
        high = _largest_that_fits(step, low, high)
    try:
        found = boundary(meets, low, high, most=most, whole=whole)
    except InfeasibleError:
        unit = "1" if whole else _unit(machine, quantity)
        raise InfeasibleError(_unreachable(quantity, unit, (low, high), step, wanted, bound)) from None
    failing, reason = _failing(step, found, wanted, bound)
    return Solved(
        quantity=quantity,
        targets=wanted,
        bound=bound,
        solution=found,
        at=step(found.value),
        failing=failing,
        reason=reason,
    )


def _largest_that_fits(step: Callable[[float], Analysis], low: float, high: float) -> float:
    """Return the largest whole value whose step the memory holds; the start of the bracket where none does."""

    def fits(value: float) -> bool:
        try:
            step(value)
        except InfeasibleError:
            return False
        return True

    return boundary(fits, low, high, most=True, whole=True).value if fits(low) else low


def _check_targets(targets: Mapping[str, float]) -> None:
    for name, value in targets.items():
        if name not in TARGETS:
            raise InputError(f"there is no target `{name}`: {nearest(name, TARGETS)}")
        if not value > 0:
            raise InputError(f"target {name} {value:g}: more than 0 is wanted")


def _machine(chip: Chip | System | str, count: int | None, plan: Plan | str | None) -> Chip | System:
    if count is None and plan is None and not isinstance(chip, System):
        try:
            return load_chip(chip)
        except InputError:
            resolve(chip, count, plan)  # says what a system needs
            raise
    own, spread = resolve(chip, count, plan)
    return own if spread is None else replace(spread.system, chip=own)


def _bracket(machine: Chip | System, quantity: str, low: float | None, high: float | None) -> tuple[float, float]:
    if quantity in _COUNTS:
        return max(1.0, low or 1.0), float(high or _MOST_COUNT)
    known = quantities(machine)
    if quantity not in known:
        names = [*_COUNTS, *known]
        what = "a count or a quantity of the hardware" if quantity in {one.name for one in fields(Scenario)} else "known"
        raise InputError(f"`{quantity}` is not {what}: {nearest(quantity, names)}")
    value = float(known[quantity])
    return low or value / _RANGE, high or value * _RANGE


def unit_of(chip: Chip | System | str, quantity: str, count: int | None = None, plan: Plan | str | None = None) -> str:
    """Return the unit of a quantity that can be solved for."""
    return "1" if quantity in _COUNTS else _unit(_machine(chip, count, plan), quantity)


def _unit(machine: Chip | System, quantity: str) -> str:
    if quantity not in quantities(machine):
        raise InputError(f"`{quantity}` is not known: {nearest(quantity, [*_COUNTS, *quantities(machine)])}")
    return unit_at(machine, quantity)


def values(found: Analysis) -> dict[str, float | None]:
    """Return what targets are about."""
    one, scenario = found.estimate, found.scenario
    time, tokens, decoding = float(one.time), float(one.tokens), scenario.phase == "decode"
    energy = None if one.energy is None else float(one.energy)
    return {
        "time": time,
        "ttft": time if scenario.phase in ("prefill", "encode") else None,
        "tpot": time * float(scenario.batch) / tokens if decoding else None,
        "tokens_per_second": tokens / time,
        "energy": energy,
        "energy_per_token": None if energy is None else energy / tokens,
    }


def _missed(found: Analysis, targets: Mapping[str, float], bound: str | None) -> list[str]:
    """Return the targets that are missed, with the value that there is."""
    have = values(found)
    missed: list[str] = []
    for name, limit in targets.items():
        unit, below = TARGETS[name]
        value = have[name]
        if value is None:
            why = f"is not defined in {found.scenario.phase}" if name in ("ttft", "tpot") else f"of {found.chip.name} is not known"
            raise InputError(f"target {name}: {name} {why}")
        if (value > limit) if below else (value < limit):
            missed.append(f"{name} {show_apart(value, limit, unit)}")
    if bound is not None and found.estimate.bound != bound:
        missed.append(f"bound {found.estimate.bound}")
    return missed


def _unreachable(
    quantity: str, unit: str, ends: tuple[float, float], step: Any, targets: Mapping[str, float], bound: str | None
) -> str:
    said: list[str] = []
    low, high = (show(value, unit, 6) for value in ends)
    for value, shown in zip(ends, (low, high), strict=True):
        try:
            said.append(f"at {shown} {', '.join(_missed(step(value), targets, bound))}")
        except InfeasibleError as error:
            said.append(f"at {shown} {str(error).partition(':')[0]}")
    limits = {name: show(limit, TARGETS[name][0]) for name, limit in targets.items()}
    asked = ", ".join(f"{name} {'≤' if TARGETS[name][1] else '≥'} {limit}" for name, limit in limits.items())
    return f"no {quantity} from {low} to {high} meets {asked or bound or 'the memory'}: {'; '.join(said)}"


def _failing(step: Any, found: Solution, targets: Mapping[str, float], bound: str | None) -> tuple[Analysis | None, str]:
    if found.neighbour is None:
        return None, "the whole bracket meets it"
    try:
        there = step(found.neighbour)
    except InfeasibleError as error:
        return None, str(error)
    return there, ", ".join(_missed(there, targets, bound))
