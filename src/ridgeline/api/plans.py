"""Which chips a question is about: a chip alone, or a plan on a system of the catalogue or of a file."""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from pathlib import Path

from ridgeline.api.names import load_chip, load_system, names
from ridgeline.catalogue import load
from ridgeline.errors import InputError, UnknownNameError
from ridgeline.parallel import plan_capacity
from ridgeline.specs.chip import Chip
from ridgeline.specs.model import ConvolutionalModel, Model
from ridgeline.specs.plan import Plan
from ridgeline.specs.precision import Precision
from ridgeline.specs.scenario import Scenario
from ridgeline.specs.system import NetworkTier, System

_ALIKE = 0.5  # below it two names have nothing to do with one another


@dataclass(frozen=True, kw_only=True, eq=False)
class Spread:
    """A plan on a system."""

    system: System
    plan: Plan
    notes: tuple[str, ...] = ()


def resolve(machine: Chip | System | str, count: int | None, plan: Plan | str | None) -> tuple[Chip, Spread | None]:
    """Return the chip of a question, and the system and the plan where it is of several chips.

    With a chip, the smallest system of the catalogue that has enough of them is taken. Raises `InputError` where there is none,
    where plan and count differ, or where a system is named without a word on how its chips are used.
    """
    if count is not None and (count != int(count) or count < 1):
        raise InputError(f"count {count}: a whole number of chips, 1 or more, is wanted")
    asked, assumed = _plan(plan, count)
    system = find_system(machine)
    if system is None:
        chip = load_chip(machine)  # pyright: ignore[reportArgumentType]
        if asked is None or (asked.chips == 1 and asked.micro_batches == 1 and not asked.page and not asked.offload):
            return chip, None
        system = replace(_system_of(chip, int(asked.chips)), chip=chip)
    if asked is None:
        degree = int(system.tier[0].size) if system.tier else 1
        raise InputError(f"{system.name} is a system of {system.chips:g} chips: say how they are used, as in --plan tp={degree}")
    return system.chip, Spread(system=system, plan=asked, notes=assumed)


_FLAT = NetworkTier(name="any", size=2**20, topology="switch", bandwidth=1.0, latency=0.0)  # room for any plan


def fitting_plan(spread: Spread, model: Model | ConvolutionalModel, scenario: Scenario, precision: Precision) -> Plan | None:
    """Return the plan with the fewest chips that the memory holds, of those that multiply one of its degrees."""
    plan, system = spread.plan, replace(spread.system, tier=(_FLAT,))
    found: list[Plan] = []
    for factor in (2, 4, 8, 16, 32, 64, 128):
        for one in (
            replace(plan, tensor=plan.tensor * factor),
            replace(plan, pipeline=plan.pipeline * factor),
            replace(plan, expert=plan.expert * factor, tensor=plan.tensor * factor),
            replace(plan, expert=plan.expert * factor, data=plan.data * factor),
            replace(plan, data=plan.data * factor),
        ):
            try:
                if plan_capacity(system, model, scenario, precision, one).fits:
                    found.append(one)
            except InputError:  # does not divide
                continue
        if found:
            return found[0]
    return None


def is_auto(plan: Plan | str | None) -> bool:
    """Say whether the best plan is asked for."""
    return isinstance(plan, str) and plan.strip().lower() == "auto"


def _plan(plan: Plan | str | None, count: int | None) -> tuple[Plan | None, tuple[str, ...]]:
    if is_auto(plan):
        raise InputError("plan 'auto' is of `analyze`: say a plan as in tp=8,pp=2, or find one with `plan`")
    asked = Plan.parse(plan) if isinstance(plan, str) else plan
    if asked is None:
        if count is None or count == 1:
            return (None if count is None else Plan()), ()
        return Plan(tensor=count), (f"no plan was given for {count} chips: tensor parallelism over all of them is taken",)
    if count is not None and asked.chips != count:
        raise InputError(
            f"plan {asked.text} takes {asked.chips:g} chips and count says {count}: leave count out, or make them equal"
        )
    return asked, ()


def find_system(machine: Chip | System | str) -> System | None:
    """Return the system that a name, a file or a spec is; None for a chip, and for what nobody knows."""
    if not isinstance(machine, str):
        return machine if isinstance(machine, System) else None
    path = Path(machine)
    if path.suffix == ".toml" and path.is_file():
        try:
            return load_system(machine) if "tier" in tomllib.loads(path.read_text(encoding="utf-8")) else None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError):
            return None  # the chip's reader says what is wrong
    try:
        load.find("chips", machine)
    except UnknownNameError:
        try:
            return load_system(machine)
        except UnknownNameError:
            chips, systems = names("chip"), names("system")
            of_chips, of_systems = _likeness(machine, chips), _likeness(machine, systems)
            if max(of_chips, of_systems) < _ALIKE:
                raise UnknownNameError("chip or system", machine, [*chips, *systems]) from None
            if of_systems > of_chips:
                raise  # the nearest names are those of systems
            return None
    return None


def _likeness(name: str, known: Sequence[str]) -> float:
    return max((SequenceMatcher(None, name.lower(), one).ratio() for one in known), default=0.0)


def _system_of(chip: Chip, chips: int) -> System:
    """Return the smallest system of the catalogue with this chip and enough of them; of a single chip, a network of none."""
    if chips == 1:
        return System(name=f"one {chip.name}", chip=chip)
    alike = [one for one in map(load_system, names("system")) if one.chip.name == chip.name]
    able = sorted((one for one in alike if one.chips >= chips), key=lambda one: int(one.chips))
    if not able:
        known = ", ".join(names("system")) if not alike else ", ".join(f"{one.name} of {one.chips:g}" for one in alike)
        what = f"{chips} chips of {chip.name} in" if alike else f"{chip.name} in"
        raise InputError(f"the catalogue has no system with {what} it: name one of {known}, or a system's file")
    return able[0]
