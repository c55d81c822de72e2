"""What rows of a service share: the machine as its scheduler sees it, the model, the limits, and the step times of both levels."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from ridgeline.catalogue import load
from ridgeline.errors import InputError
from ridgeline.estimate import estimate
from ridgeline.mapping.many_core_step import is_many_core
from ridgeline.parallel import estimate_plan
from ridgeline.quantities import Fraction
from ridgeline.results import Estimate
from ridgeline.serving.policy import POLICIES, PolicyName, Serving
from ridgeline.serving.room import addressable
from ridgeline.serving.surface import Estimator, check_model
from ridgeline.specs.chip import Chip
from ridgeline.specs.model import Model
from ridgeline.specs.plan import Plan
from ridgeline.specs.precision import Precision
from ridgeline.specs.scenario import Scenario
from ridgeline.specs.stack import Stack
from ridgeline.specs.system import NetworkTier, System
from ridgeline.validation.exchanges import network_of
from ridgeline.validation.group import Group

_DEGREES = re.compile(r"(tp|pp|dp|ep)\s*=?\s*(\d+)")


class Split(NamedTuple):
    """How the chips of an instance share a model, and how many instances there are."""

    tensor: int
    pipeline: int
    instances: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Service:
    """A model that an instance of a service runs, and how."""

    chip: Chip
    system: System | None
    plan: Plan
    model: Model
    precision: Precision
    instances: int

    @property
    def stack(self) -> Stack:
        """The software that serves."""
        return self.chip.stack or Stack(name="none")

    def step(self, scenario: Scenario, level: str = "mapped") -> Estimate:
        """Return what a step takes on an instance; on a systolic array, whose steps are placed one by one, by its bound."""
        level = level if is_many_core(self.chip) else "ideal"
        if self.system is None:
            return estimate(self.chip, self.model, scenario, self.precision, level=level)
        return estimate_plan(self.system, self.model, scenario, self.precision, self.plan, level=level)

    def at(self, level: str) -> Estimator:
        """Return the steps of a level."""
        return lambda scenario: self.step(scenario, level)

    def serving(self, sequences: int | None = None, tokens: int | None = None, free_share: Fraction | None = None) -> Serving:
        """Return how the service's stack schedules, with limits of its own where given.

        Pages take what the stack's share of the memory leaves beside weights and activations, or a share of what all of it leaves.
        """
        stack = self.stack
        found: Sequence[PolicyName] = [one for one in POLICIES if one == stack.policy]
        if not found:
            raise InputError(f"stack {stack.name}: policy {stack.policy!r}: choose {', '.join(POLICIES)}")
        return Serving(
            policy=found[0],
            most_sequences=int(stack.most_sequences) if sequences is None else sequences,
            token_budget=int(stack.token_budget) if tokens is None else tokens,
            watermark=0.0,
            reserves=stack.reserves_output,
            memory_share=stack.memory_share if free_share is None else 1.0,
            cache_share=1.0 if free_share is None else free_share,
            set_aside=stack.set_aside,
        )


def split_of(text: str, chips: int) -> Split:
    """Return how chips share a model, from a table's words for it: `tp8`, `tp4;dp1`, `tp2-pp4`; tensor parallel where it says none.

    >>> split_of("tp4,pp2", 8), split_of("tp1;dp1", 1), split_of("unreported", 4)
    (Split(tensor=4, pipeline=2, instances=1), Split(tensor=1, pipeline=1, instances=1), Split(tensor=4, pipeline=1, instances=1))
    """
    said = {name: int(value) for name, value in _DEGREES.findall(text.lower())}
    pipeline = said.get("pp", 1)
    tensor = said.get("tp", max(1, chips // (pipeline * said.get("dp", 1))))
    instances = max(1, chips // (tensor * pipeline))
    return Split(tensor, pipeline, instances)


def encodes(model: Model) -> bool:
    """Say whether a model has an encoder alone, whose requests yield no tokens."""
    return bool(model.encoder) and not model.decoder


def service_of(group: Group, split: Split, precision: Precision) -> Service:
    """Return the service that rows were measured on; raise `InputError` where no step of it can be predicted."""
    model = load.model(group.text("model").split()[0])
    if not isinstance(model, Model):
        raise InputError(f"{model.name}: no transformer, which a service of requests needs")
    model = model if group.stack.windows else _without_windows(model)
    if not encodes(model):
        check_model(model)
    if group.chip.cores is None or group.chip.cores.clock is None:
        raise InputError(f"{group.chip.name}: no cores with a clock, which the level mapped needs of a whole model")
    members = split.tensor * split.pipeline
    chip = _served(group)
    system = System(name=chip.name, chip=chip, tier=_network(chip)) if members > 1 else None
    plan = Plan(tensor=split.tensor, pipeline=split.pipeline)
    return Service(chip=chip, system=system, plan=plan, model=model, precision=precision, instances=split.instances)


def _served(group: Group) -> Chip:
    """Return a group's chip with the stack that serves on it, and its main memory as programs find it."""
    chip, family = group.machine, group.family
    main = chip.main_memory
    capacity = addressable(stated=main.capacity, inline_check=chip.name in family.inline_ecc_chips)
    memory = tuple(replace(one, capacity=capacity) if one is main else one for one in chip.memory)
    return replace(chip, memory=memory)


def _without_windows(model: Model) -> Model:
    """Return a model whose layers attend to all tokens, and keep them, as a stack runs it that does not look at windows."""
    layers = [replace(one, attention=replace(one.attention, window=None)) if one.attention else one for one in model.decoder]
    return replace(model, decoder=tuple(layers))


def _network(chip: Chip) -> tuple[NetworkTier, ...]:
    """Return the tiers of the box that a stack's published figures are of, else those of the first system made of the chip."""
    named = [load.system(one) for one in (chip.stack.boxes if chip.stack else ())]
    return next((one.tier for one in named if one.chip.name == chip.name), network_of(chip.name, ""))
