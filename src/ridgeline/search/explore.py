"""A space of designs and scenarios, and what is computed of each of its points: structure in groups, quantities as arrays.

A group is one choice of everything that has structure: base chip, number formats, dataflow. Inside a group all axes broadcast.
Points are numbered: group by group, and inside a group in the grid's order, the last axis fastest.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from ridgeline.arrays import maximum, total
from ridgeline.costs.components import chip_area, peak_power
from ridgeline.costs.ideal import Machine, Residency
from ridgeline.costs.rates import with_stream
from ridgeline.errors import InputError
from ridgeline.estimate import estimate, fold, processed_tokens, step_operations
from ridgeline.mapping.capacity import capacity
from ridgeline.mapping.fusion import fuse
from ridgeline.mapping.many_core_step import is_many_core
from ridgeline.mapping.training_memory import training_capacity
from ridgeline.parallel import estimate_plan
from ridgeline.quantities import Bytes, Count, Joules, Quantity, Seconds, Watts
from ridgeline.results import Estimate
from ridgeline.search.formula import Formula
from ridgeline.search.held import Held, solved
from ridgeline.search.pareto import Sense, pareto
from ridgeline.search.space import Block, Grid
from ridgeline.search.sweep import place
from ridgeline.specs.base import quantities, with_quantity
from ridgeline.specs.chip import Chip
from ridgeline.specs.model import ConvolutionalModel, Model
from ridgeline.specs.plan import Plan
from ridgeline.specs.precision import Precision
from ridgeline.specs.scenario import Scenario
from ridgeline.specs.system import System

METRICS: Mapping[str, str] = {
    "time": "s",
    "energy": "J",
    "power": "W",
    "tokens_per_second": "1/s",
    "energy_per_token": "J",
    "memory": "B",
    "area": "m2",
    "peak_power": "W",
    "price": "USD",
}
DESIGN = ("area", "peak_power")  # columns that follow from the chip alone: formulas may use them
MEMORY = "the memory's capacity"


@dataclass(frozen=True, kw_only=True)
class Tariff:
    """What chips cost: dollars a second of all of them, whatever they do, and dollars a joule that they draw."""

    fixed: float
    energy: float = 0.0
    limit: Watts = 0.0  # what they are taken to draw where their energies are not known


@dataclass(frozen=True, kw_only=True, eq=False)
class Work:
    """A step of one model, and how often it comes in the mix."""

    name: str
    model: Model | ConvolutionalModel
    scenario: Scenario
    precision: Precision
    weight: float = 1.0
    fixed: tuple[str, ...] = ()  # what this work says of its scenario itself: the space's axes leave it alone


@dataclass(frozen=True, kw_only=True, eq=False)
class Group:
    """One choice of structure: the chip, alone or in a system under a plan, and the steps, with the names of what was chosen."""

    labels: Mapping[str, str]
    chip: Chip
    works: tuple[Work, ...]
    system: System | None = None
    plan: Plan | None = None
    tariff: Tariff | None = None

    @property
    def quantities(self) -> dict[str, Quantity]:
        """Quantities of the chip by dotted path, and those of the network and the hosts."""
        network = {} if self.system is None else quantities(self.system)
        return {**quantities(self.chip), **{name: value for name, value in network.items() if not name.startswith("chip.")}}

    def placed(self, values: Mapping[str, Any]) -> tuple[Chip, System | None]:
        """Return chip and system with the quantities that are named replaced."""
        of_chip, of_network = quantities(self.chip), {} if self.system is None else quantities(self.system)
        chip, _ = place(self.chip, Scenario(), {name: value for name, value in values.items() if name in of_chip})
        if self.system is None:
            return chip, None
        system = self.system
        for name, value in values.items():
            if name in of_network and name not in of_chip:
                system = with_quantity(system, name, value)
        return chip, replace(system, chip=chip)


@dataclass(frozen=True, kw_only=True)
class Constraint:
    """A limit on a column."""

    name: str
    at_most: bool
    limit: float
    text: str

    def holds(self, value: Quantity) -> Any:
        """Say where a value keeps the limit."""
        return value <= self.limit if self.at_most else value >= self.limit


@dataclass(frozen=True, kw_only=True, eq=False)
class Space:
    """What is explored: groups × axes, formulas in order, objectives, constraints, and what is kept."""

    name: str
    groups: tuple[Group, ...]
    axes: Mapping[str, tuple[float, ...]]
    formulas: Mapping[str, Formula] = field(default_factory=dict[str, Formula])  # in the order in which they are computed
    held: tuple[Held, ...] = ()  # in the order in which they are solved, each with those before it
    objectives: Mapping[str, Sense] = field(default_factory=dict[str, Sense])
    constraints: tuple[Constraint, ...] = ()
    level: str = "ideal"
    residency: Residency = "cold"
    sample: int = 1000  # points that are kept by chance, about
    keep_all: bool = False

    @property
    def grid(self) -> Grid:
        """The axes of every group."""
        return Grid.of(self.axes)

    @property
    def points(self) -> int:
        """Points of all groups."""
        return self.grid.points * len(self.groups)

    @cached_property
    def digest(self) -> str:
        """A hash of all that the results follow from."""
        order = [list(one) for one in (self.axes, self.formulas, self.objectives)]
        return hashlib.sha256(repr((order, _canonical(self))).encode()).hexdigest()


def _canonical(value: Any) -> Any:
    """Return a value in a form that is printed alike in every process: fields by name, sets and mappings in order of their keys."""
    if is_dataclass(value) and not isinstance(value, type):
        return type(value).__name__, [(one.name, _canonical(getattr(value, one.name))) for one in fields(value)]
    if isinstance(value, Mapping):
        return sorted((repr(key), _canonical(one)) for key, one in value.items())  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, set | frozenset):
        return sorted(map(repr, value))  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if isinstance(value, tuple | list):
        return [_canonical(one) for one in value]  # pyright: ignore[reportUnknownVariableType]
    return repr(value)


# ---- one block --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Step:
    """What one work's step takes on a block."""

    time: Seconds
    energy: Joules | None
    tokens: Count
    memory: Bytes
    fits: Any


def takes_arrays(chip: Chip, level: str) -> bool:
    """Say whether a level costs all points of a block at once: `ideal` and kernels of many cores do, exact tiles do not."""
    return level == "ideal" or (level == "mapped" and is_many_core(chip))


def step(chip: Chip, work: Work, level: str, residency: Residency, system: System | None = None, plan: Plan | None = None) -> _Step:
    """Return what a step takes; any quantity may be an array where `takes_arrays` says so."""
    if system is not None and plan is not None:
        found = estimate_plan(system, work.model, work.scenario, work.precision, plan, level=level, residency=residency)
        return _of_estimate(found)
    if level != "ideal":
        return _of_estimate(estimate(chip, work.model, work.scenario, work.precision, level=level, residency=residency))
    precision = with_stream(chip, work.precision)
    operations = fuse(step_operations(work.model, work.scenario, precision))
    totals = fold(Machine.of(chip, precision.accumulate, residency), operations)
    if work.scenario.phase == "train":
        held = training_capacity(work.model, work.scenario, precision, chip)
    else:
        held = capacity(work.model, work.scenario, precision, chip, operations)
    return _Step(totals.time, totals.energy, processed_tokens(work.model, work.scenario), held.needed, held.fits)


def _of_estimate(found: Estimate) -> _Step:
    held = found.capacity
    return _Step(found.time, found.energy, found.tokens, 0.0 if held is None else held.needed, found.feasible)


def columns_of(space: Space, group: Group, values: Mapping[str, Any], wanted: Sequence[str]) -> tuple[dict[str, Any], Any]:
    """Return the columns that are wanted, and where all works fit the memory; all broadcast over the values.

    What is held constant is solved for first; a point at which it cannot be is like one that does not fit.
    """
    known, possible = _design(space, group, dict(values), len(space.held))
    found, fitting = _costed(space, group, known, wanted)
    fits: Any = possible
    for one in fitting:
        fits = fits & np.asarray(one)
    return {name: _known(found, name, group) for name in wanted}, fits


def traced_columns(space: Space, group: Group, values: Mapping[str, Any], wanted: Sequence[str]) -> dict[str, Any]:
    """Return the columns that are wanted of values of any array library; nothing is held, and what does not fit is not said."""
    known, _ = _design(space, group, dict(values), 0)
    found, _ = _costed(space, group, known, wanted)
    return {name: _known(found, name, group) for name in wanted}


def _costed(space: Space, group: Group, known: Mapping[str, Any], wanted: Sequence[str]) -> tuple[dict[str, Any], list[Any]]:
    """Return every column of a design, and where each work fits the memory."""
    chip, system = group.placed(known)
    base = group.quantities
    asked = {name: value for name, value in known.items() if name not in base and name in _SCENARIO_AXES}
    steps: list[tuple[Work, _Step]] = []
    for work in group.works:
        own = {name: value for name, value in asked.items() if name not in work.fixed}
        _, scenario = place(chip, work.scenario, own)
        moved = Work(name=work.name, model=work.model, scenario=scenario, precision=work.precision, weight=work.weight)
        steps.append((work, step(chip, moved, space.level, space.residency, system, group.plan)))
    found: dict[str, Any] = {**base, **known, **_metrics(steps, group.tariff)}
    found |= {name: _of_design(name, group, chip) for name in DESIGN if name in wanted and name not in found}
    return found, [one.fits for _, one in steps]


def _design(space: Space, group: Group, known: dict[str, Any], holding: int) -> tuple[dict[str, Any], Any]:
    """Return the axes with what formulas and what is held constant make of them, and where that can be."""
    if not holding:
        base = group.quantities
        for target, formula in space.formulas.items():
            for name in formula.names:
                if name in DESIGN and name not in known:
                    known[name] = _of_design(name, group, group.placed(known)[0])
            known[target] = formula.value({**base, **known})
        return known, True
    held = space.held[holding - 1]
    earlier: list[Any] = [True]

    def value(quantity: Any) -> Any:
        found, earlier[0] = _design(space, group, {**known, held.by: quantity}, holding - 1)
        return found[held.name] if held.name in found else _of_design(held.name, group, group.placed(found)[0])

    quantity, possible = solved(held, float(group.quantities[held.by]), value)
    found, able = _design(space, group, {**known, held.by: quantity}, holding - 1)
    return found, possible & np.asarray(able)


def _of_design(name: str, group: Group, chip: Chip) -> Quantity:
    if name == "area":
        return _area(chip)
    form = group.works[0].precision.activations
    try:
        return total(list(peak_power(chip, form).values()))
    except KeyError:
        raise InputError(f"the peak power of {chip.name} in {form.name} does not follow from its file") from None


_SCENARIO_AXES = ("batch", "prompt", "context", "output", "samples", "verified", "acceptance", "source_tokens", "data_ranks")


def _metrics(steps: Sequence[tuple[Work, _Step]], tariff: Tariff | None) -> dict[str, Any]:
    """Return the mix's columns: times, energies and tokens weighted by how often a work comes."""
    time = total([work.weight * one.time for work, one in steps])
    tokens = total([work.weight * one.tokens for work, one in steps])
    memory: Bytes = steps[0][1].memory
    for _, one in steps[1:]:
        memory = maximum(memory, one.memory)
    found = {"time": time, "tokens_per_second": tokens / time, "memory": memory}
    if len(steps) > 1:
        found |= {f"time.{work.name}": one.time for work, one in steps}
    energies = [work.weight * one.energy for work, one in steps if one.energy is not None]
    if len(energies) == len(steps):
        energy = total(energies)
        found |= {"energy": energy, "power": energy / time, "energy_per_token": energy / tokens}
    if tariff is not None:
        drawn = found["energy"] if "energy" in found else tariff.limit * time
        found["price"] = 1e6 * (tariff.fixed * time + tariff.energy * drawn) / tokens
    return found


def _area(chip: Chip) -> Quantity:
    parts = chip_area(chip)
    if not parts:
        raise InputError(f"the area of {chip.name} does not follow from its file: it needs its node and its array's shape")
    return total(list(parts.values()))


def _known(found: Mapping[str, Any], name: str, group: Group) -> Any:
    if name not in found:
        what = (
            "no price of it is known"
            if name == "price"
            else "its file gives no energies"
            if name in METRICS
            else "its file does not say it"
        )
        raise InputError(f"`{name}` of {group.chip.name} is not known: {what}")
    return found[name]


# ---- what is kept of a block -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Kept:
    """The rows that are kept of some points, and counts of all of them."""

    rows: Mapping[str, Any]  # column → values; `point`, `group`, `feasible`, `front`, `sampled` among them
    points: int
    feasible: int
    ruled_out: Mapping[str, int]  # constraint → points that it rules out


def columns(space: Space) -> tuple[str, ...]:
    """Return the columns that are kept: axes, formulas, metrics, objectives and what constraints are on."""
    usual = ["time", "tokens_per_second", "memory"]
    usual += [f"time.{work.name}" for work in space.groups[0].works] if len(space.groups[0].works) > 1 else []
    held = [name for one in space.held for name in (one.by, one.name)]
    names = [*space.axes, *held, *space.formulas, *usual, *space.objectives, *(one.name for one in space.constraints)]
    return tuple(dict.fromkeys(names))


def evaluate_block(space: Space, grid: Grid, number: int, most: int) -> Kept:
    """Compute one block, counted over all groups, and keep what is on its front or in the sample."""
    each = grid.count_blocks(most)
    group, block = number // each, grid.block(number % each, most)
    found, fits = _values(space, space.groups[group], block)
    shape = tuple(part.stop - part.start for part in block.place)
    flat = {name: np.broadcast_to(np.asarray(value, dtype=np.float64), shape).ravel() for name, value in found.items()}
    feasible = np.broadcast_to(np.asarray(fits, dtype=bool), shape).ravel().copy()
    ruled_out = {MEMORY: int(feasible.size - np.count_nonzero(feasible))}
    for one in space.constraints:
        holds = one.holds(flat[one.name])
        ruled_out[one.text] = int(feasible.size - np.count_nonzero(holds))
        feasible &= holds
    points = _numbers(grid, block, group)
    sampled = _chosen(points, space.sample / space.points) | space.keep_all
    front = pareto([flat[name] for name in space.objectives], list(space.objectives.values()), feasible)
    kept = np.flatnonzero(front | sampled)
    rows: dict[str, Any] = {"point": points[kept], "group": np.full(len(kept), group, dtype=np.int32)}
    rows |= {name: column[kept] for name, column in flat.items()}
    rows |= {"feasible": feasible[kept], "front": front[kept], "sampled": sampled[kept]}
    return Kept(rows, feasible.size, int(np.count_nonzero(feasible)), ruled_out)


def joined(space: Space, parts: Sequence[Kept]) -> Kept:
    """Return several parts as one: fronts are merged, counts added."""
    rows = {name: np.concatenate([part.rows[name] for part in parts]) for name in parts[0].rows}
    rows["front"] = front_of(space, rows)
    stays = rows["front"] | rows["sampled"]
    ruled_out = {name: sum(part.ruled_out[name] for part in parts) for name in parts[0].ruled_out}
    return Kept(
        {name: column[stays] for name, column in rows.items()},
        sum(part.points for part in parts),
        sum(part.feasible for part in parts),
        ruled_out,
    )


def front_of(space: Space, rows: Mapping[str, Any]) -> Any:
    """Say which of the rows that were on a front are on the front of them all."""
    return pareto([rows[name] for name in space.objectives], list(space.objectives.values()), rows["front"])


def _values(space: Space, group: Group, block: Block) -> tuple[dict[str, Any], Any]:
    wanted = columns(space)
    if takes_arrays(group.chip, space.level):
        return columns_of(space, group, block.values, wanted)
    shape = tuple(part.stop - part.start for part in block.place)
    spread = {name: np.broadcast_to(value, shape).ravel() for name, value in block.values.items()}
    points = [{name: float(value[index]) for name, value in spread.items()} for index in range(block.points)]
    rows = [columns_of(space, group, one, wanted) for one in points]
    whole = {name: np.array([float(row[name]) for row, _ in rows]).reshape(shape) for name in wanted}
    return whole, np.array([bool(fits) for _, fits in rows]).reshape(shape)


def evaluate_points(space: Space, group: Group, values: Mapping[str, Any]) -> tuple[dict[str, Any], Any]:
    """Return the columns of single points, whose axes' values are arrays of one length, and where they meet all constraints."""
    count = len(next(iter(values.values())))
    wanted = columns(space)
    if takes_arrays(group.chip, space.level):
        found, fits = columns_of(space, group, values, wanted)
    else:
        rows = [columns_of(space, group, {name: float(one[i]) for name, one in values.items()}, wanted) for i in range(count)]
        found = {name: np.array([float(row[name]) for row, _ in rows]) for name in wanted}
        fits = np.array([bool(one) for _, one in rows])
    spread = {name: np.broadcast_to(np.asarray(value, dtype=np.float64), (count,)) for name, value in found.items()}
    feasible = np.broadcast_to(np.asarray(fits, dtype=bool), (count,)).copy()
    for one in space.constraints:
        feasible &= one.holds(spread[one.name])
    return spread, feasible


def _numbers(grid: Grid, block: Block, group: int) -> Any:
    """Return the points' numbers in the whole space."""
    found: Any = np.full((1,) * len(grid.shape), group, dtype=np.int64)
    for dimension, (part, length) in enumerate(zip(block.place, grid.shape, strict=True)):
        along = np.arange(part.start, part.stop, dtype=np.int64)
        found = found * length + along.reshape(tuple(-1 if dimension == other else 1 for other in range(len(grid.shape))))
    return found.ravel()


def _chosen(points: Any, share: float) -> Any:
    """Return which points are in the sample: by a hash of their number, so that no way of cutting the space changes it.

    The hash is the finaliser of SplitMix64 [steele2014splittable].
    """
    if share >= 1.0:
        return np.ones(len(points), dtype=bool)
    mixed = points.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)
    return mixed < np.uint64(int(share * 2**64))
