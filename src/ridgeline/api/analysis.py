"""What bounds a model on a chip, for one scenario or for all combinations of several values."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np

from ridgeline.api.names import load_chip, load_model, load_precision
from ridgeline.api.plans import Spread, find_system, fitting_plan, is_auto, resolve
from ridgeline.api.scenarios import make_scenario, scenario_notes
from ridgeline.api.simulation import simulated_estimate
from ridgeline.catalogue.families import stack_for
from ridgeline.costs.components import is_modelled
from ridgeline.costs.ideal import Residency
from ridgeline.costs.rates import compute_rate
from ridgeline.errors import InfeasibleError, InputError
from ridgeline.estimate import estimate
from ridgeline.mapping.dataflow import TEMPORAL, TILED
from ridgeline.mapping.epilogue import Fusion
from ridgeline.mapping.many_core_step import is_many_core
from ridgeline.parallel import estimate_plan
from ridgeline.quantities import show
from ridgeline.results import Capacity, Estimate
from ridgeline.search.plan import fastest
from ridgeline.search.plan_steps import Setting
from ridgeline.search.space import Grid
from ridgeline.search.sweep import place
from ridgeline.specs.base import Source
from ridgeline.specs.chip import Chip
from ridgeline.specs.model import ConvolutionalModel, Model
from ridgeline.specs.number_format import FORMATS
from ridgeline.specs.plan import Plan
from ridgeline.specs.precision import Precision
from ridgeline.specs.scenario import Scenario
from ridgeline.specs.stack import Stack
from ridgeline.specs.system import System

_MOST_BYTES = 2**31
_POINTS, _MAPPED_POINTS = 32_768, 2_048  # of a block, so that its arrays stay in the cache; `mapped` has candidates beside points


@dataclass(frozen=True, kw_only=True, eq=False)
class Analysis:
    """An estimate with what it is of. With axes, the estimate's quantities are arrays in the axes' order."""

    model: Model | ConvolutionalModel
    chip: Chip
    scenario: Scenario
    precision: Precision
    estimate: Estimate
    axes: Mapping[str, Any]
    residency: Residency = "cold"
    spread: Spread | None = None  # the system and the plan, where there are several chips

    @property
    def chips(self) -> int:
        """Chips that the step runs on."""
        return 1 if self.spread is None else int(self.spread.plan.chips)

    @property
    def stack(self) -> Stack | None:
        """The software whose kernels the estimate is of; None where it is not of kernels."""
        return self.chip.stack if self.estimate.level == "mapped" and is_many_core(self.chip) else None

    @property
    def chips_needed(self) -> Any:
        """Chips whose memories together hold what the step keeps; under a plan, as many times what its fullest chip keeps."""
        held = self.estimate.capacity
        return None if held is None else -(-held.needed * self.chips // (held.available + held.further_available))

    def resource(self, index: float | str) -> str:
        """Return the name of a bound that an array of bounds gives by its index."""
        return index if isinstance(index, str) else self.estimate.resources[int(index)]


def analyze(
    model: Model | ConvolutionalModel | str,
    chip: Chip | System | str,
    *,
    count: int | None = None,
    plan: Plan | str | None = None,
    phase: str | None = None,
    precision: Precision | str | None = None,
    level: str | None = None,
    residency: Residency = "cold",
    fusion: Fusion = "best",
    progress: Callable[[int, int], None] | None = None,
    **scenario: Any,
) -> Analysis:
    """Say what bounds a model on a chip, by how much, for one scenario or for all combinations of several values.

    `chip` may be a system; `plan` says how its chips are used, as in `tp=8,pp=2`, and `count` how many they are; the plan `auto` is
    that of `count` chips under which the scenario takes the least time.
    `fusion` says which kernels the level `mapped` may join: `best` by cost, `none`, or `all` that can be.
    What chips with many cores run at that level is a software stack: one that serves models, or another (`with_stack`).
    `scenario` takes the fields of `Scenario`: batch, prompt, context, output, samples, verified, acceptance, latent …; a list or
    an array of values makes an axis. What is not given takes the usual: decode for a language model, encode for an
    encoder, batch 1, and 2048 tokens or what the model can take.

    Raises `InputError` for bad input, and `InfeasibleError` where nothing that was asked fits the chip's memory.

    >>> found = analyze("llama-3.1-8b", "h100-sxm", phase="decode", batch=1, context=4096)
    >>> found.estimate.bound
    'memory.hbm'
    """
    spec = load_model(model)
    machine, spread = resolve(chip, count, _over_all(count) if is_auto(plan) else plan)
    formats, changed = _formats(precision, spec, machine)
    asked, axes = make_scenario(spec, phase, scenario)
    level = _training_level(level) if asked.phase == "train" else _level(machine, level, residency)
    if is_auto(plan) and spread is not None:
        setting = Setting(system=replace(spread.system, chip=machine), model=spec, precision=formats, level=level)
        spread = _fastest(setting, asked, spread, residency, fusion, list(axes))
    _check_fusion(machine, level, fusion)
    if not axes:
        found = _estimate(machine, spec, asked, formats, level, residency, fusion, spread)
    else:
        found = _over_axes(machine, spec, asked, formats, axes, level, residency, fusion, progress, spread)
    notes = (*changed, *(spread.notes if spread else ()), *found.notes, *scenario_notes(spec, asked, axes, scenario))
    found = replace(found, sources=_used_sources(machine, spec, found) | _network_sources(spread), notes=notes)
    analysis = Analysis(
        model=spec,
        chip=machine,
        scenario=asked,
        precision=formats,
        estimate=found,
        axes=axes,
        residency=residency,
        spread=spread,
    )
    _require_feasible(analysis)
    return analysis


def _over_all(count: int | None) -> Plan:
    if count is None:
        raise InputError("plan 'auto': say how many chips it is for, as in --count 8")
    return Plan(tensor=count)


def _fastest(
    setting: Setting, scenario: Scenario, spread: Spread, residency: Residency, fusion: Fusion, axes: Sequence[str]
) -> Spread:
    """Return the plan under which the scenario takes the least time."""
    if axes:
        raise InputError(f"plan 'auto' is of one scenario: give one value of {', '.join(axes)}, or a plan")
    chips = int(spread.plan.chips)
    found = fastest(setting, scenario, chips, residency=residency, fusion=fusion)
    if found.plan is None:
        raise InfeasibleError(
            f"no plan of {chips} chips of {spread.system.name} holds {setting.model.name}: {found.tried} were tried"
        )
    note = f"plan {found.plan.text} takes the least time of {found.fitting} that fit, of {found.tried}"
    return Spread(system=spread.system, plan=found.plan, notes=(note,))


def with_stack(machine: Chip | System | str, stack: str) -> Chip | System:
    """Return a chip, or a system, with another software stack of the catalogue: that of its kernels at the level `mapped`.

    >>> with_stack("h100-sxm", "pytorch-eager").stack.graph
    False
    """
    system = find_system(machine)
    chip = load_chip(machine) if system is None else system.chip  # pyright: ignore[reportArgumentType]
    if not is_many_core(chip):
        raise InputError(f"stack {stack!r}: it is of kernels on many cores, and {chip.name} has no constants of such a family")
    chip = replace(chip, stack=stack_for(stack, chip.name, chip.vendor, chip.family))
    return chip if system is None else replace(system, chip=chip)


def _check_fusion(chip: Chip, level: str, fusion: Fusion) -> None:
    """Refuse a fusion that nothing would heed."""
    if fusion != "best" and (level == "ideal" or chip.matrix_unit.kind == "row-stationary"):
        what = "the level ideal fuses all that its bound allows" if level == "ideal" else f"{chip.name} fuses no products"
        raise InputError(f"fusion {fusion!r}: {what}: leave it out, or choose --level mapped on a chip that has it")


def _formats(precision: Precision | str | None, model: Model | ConvolutionalModel, chip: Chip) -> tuple[Precision, tuple[str, ...]]:
    """Return the precision asked for; by default the published one, or the chip's widest where it cannot compute that: a note."""
    formats = load_precision(precision, model)
    if precision is not None:
        return formats, ()
    try:
        compute_rate(chip, (formats.weights, formats.activations), formats.accumulate)
    except InputError:
        widest = max(chip.matrix_unit.rate, key=lambda name: FORMATS[name.partition(":")[0]].bits).partition(":")[0]
        note = f"{model.name} is published in {formats.name}, which {chip.name} cannot multiply: analysed in {widest}"
        return Precision.parse(widest), (note,)
    return formats, ()


def _training_level(level: str | None) -> str:
    if level not in (None, "ideal"):
        raise InputError(f"level {level!r} is not available for a training step: choose ideal")
    return "ideal"


def bound_level(chip: Chip) -> str | None:
    """Return the level for questions about bounds: `ideal` where kernels of many cores are the default, else the chip's own."""
    return "ideal" if is_many_core(chip) else None


def _level(chip: Chip, level: str | None, residency: Residency = "cold") -> str:
    """Return the level of detail: `mapped` as soon as the chip's file has what it needs, else `ideal`."""
    unit, cores = chip.matrix_unit, chip.cores
    has_array = (
        unit.kind in TILED and len(unit.shape) == 2 and cores is not None and cores.clock is not None and len(chip.memory) > 1
    )
    single = has_array and (cores is None or cores.count == 1) and unit.count in (None, 1)
    software = len(chip.memory) > 1 and not any(one.managed_by == "cache" for one in chip.memory)
    shared = software and (has_array or (unit.kind in TEMPORAL and len(unit.shape) > 1))  # several arrays, lanes: on request
    known = ("ideal", "mapped", "simulated") if single or shared else ("ideal",)
    if unit.kind == "row-stationary" and unit.network:  # without a cycle-level reference
        single, known = True, ("ideal", "mapped")
    if is_many_core(chip):
        single, known = residency == "cold", ("ideal", "mapped")
        if level == "mapped" and residency == "warm":
            raise InputError(f"residency 'warm' at level mapped: kernels of {chip.name} start cold: choose --level ideal")
    if level is not None and level not in known:
        raise InputError(f"level {level!r} is not available for {chip.name}: choose {', '.join(known)}")
    return level or ("mapped" if single else "ideal")


def _estimate(
    chip: Chip,
    model: Model | ConvolutionalModel,
    scenario: Scenario,
    precision: Precision,
    level: str,
    residency: Residency,
    fusion: Fusion,
    spread: Spread | None = None,
) -> Estimate:
    if spread is not None:
        if level == "simulated":
            raise InputError(f"level {level!r} is of one chip: choose ideal or mapped for a plan")
        system = replace(spread.system, chip=chip)
        return estimate_plan(system, model, scenario, precision, spread.plan, level=level, residency=residency, fusion=fusion)
    if level == "simulated":
        return simulated_estimate(chip, model, scenario, precision, residency, fusion)
    return estimate(chip, model, scenario, precision, level=level, residency=residency, fusion=fusion)


def _over_axes(
    chip: Chip,
    model: Model | ConvolutionalModel,
    scenario: Scenario,
    precision: Precision,
    axes: Mapping[str, Any],
    level: str,
    residency: Residency,
    fusion: Fusion,
    progress: Callable[[int, int], None] | None,
    spread: Spread | None,
) -> Estimate:
    """Estimate block by block and put the blocks together; the breakdown stays with single scenarios."""
    grid = Grid.of(axes)
    if grid.points * 8 * 32 > _MOST_BYTES:
        raise InputError(f"{grid.points:g} combinations are too many to keep: ask for fewer values")
    whole: Estimate | None = None
    done = 0
    broadcasts = level == "ideal" or (level == "mapped" and is_many_core(chip))
    for block in grid.blocks(_POINTS if level == "ideal" else _MAPPED_POINTS if broadcasts else 1):
        values = block.values if broadcasts else {name: float(one.item()) for name, one in block.values.items()}
        placed_chip, placed_scenario = place(chip, scenario, values)
        part = replace(_estimate(placed_chip, model, placed_scenario, precision, level, residency, fusion, spread), operations=())
        part = replace(part, bound=_index(part.bound, part.resources))
        whole = _spread(part, grid.shape) if whole is None else whole
        _write(whole, part, block.place)
        done += block.points
        if progress is not None:
            progress(done, grid.points)
    if whole is None:
        raise InputError("the ranges hold no value")
    return whole


def _index(bound: Any, resources: tuple[str, ...]) -> Any:
    """Return a bound as its index, where a block of an axis that changes nothing gave its name."""
    return float(resources.index(bound)) if isinstance(bound, str) else bound


_KEPT = ("notes", "ridge", "sources", "operations", "coverage", "level", "resources")


def _spread(value: Any, shape: tuple[int, ...]) -> Any:
    """Return a copy of a result whose quantities are empty arrays of the whole grid's shape."""
    if is_dataclass(value) and not isinstance(value, type):
        changed = {one.name: _spread(getattr(value, one.name), shape) for one in fields(value) if one.name not in _KEPT}
        return replace(value, **changed)
    if isinstance(value, Mapping):
        return {name: _spread(one, shape) for name, one in value.items()}  # pyright: ignore[reportUnknownVariableType]
    if value is None or isinstance(value, str):
        return value
    return np.empty(shape)


def _write(whole: Any, part: Any, place: tuple[slice, ...]) -> None:
    """Write one block's quantities into the whole grid's arrays."""
    if is_dataclass(whole) and not isinstance(whole, type):
        for one in fields(whole):
            if one.name not in _KEPT:
                _write(getattr(whole, one.name), getattr(part, one.name), place)
    elif isinstance(whole, Mapping):
        for name, target in whole.items():  # pyright: ignore[reportUnknownVariableType]
            _write(target, part[name], place)
    elif isinstance(whole, np.ndarray):
        whole[place] = part


def _require_feasible(analysis: Analysis) -> None:
    """Raise `InfeasibleError` where no point fits: how many bytes are missing at best, and how many chips would do."""
    held = analysis.estimate.capacity
    if held is None or np.any(held.fits):
        return
    short = float(np.min(held.shortfall))
    chips = int(np.min(analysis.chips_needed))
    what = "nothing that was asked fits" if analysis.axes else f"{analysis.model.name} does not fit"
    whole, remedy = "", f"{chips} chips would hold it"
    if analysis.spread is not None:
        whole = f" under {analysis.spread.plan.text}"
        remedy = "fewer sequences or a plan of more chips" if analysis.axes else _remedy(analysis, analysis.spread)
    raise InfeasibleError(
        f"{what}{whole}: {analysis.chip.name} is {short:.0f} bytes ({show(short, 'B')}) short of memory in {held.level}"
        f"{' at best' if analysis.axes else ''}: it needs {_parts(held)}, and has {show(float(np.min(held.available)), 'B')};"
        f" {remedy}"
    )


def _remedy(analysis: Analysis, spread: Spread) -> str:
    better = fitting_plan(spread, analysis.model, analysis.scenario, analysis.precision)
    if better is None:
        return "no plan that multiplies one of its degrees would hold it"
    return f"{better.chips:g} chips would hold it, as {better.text}"


_KINDS = ("weights", "gradients", "optimizer", "kv", "fragmentation", "activations", "buffers")


def _parts(held: Capacity) -> str:
    least = {name: float(np.min(getattr(held, name))) for name in _KINDS}
    names = {name: name for name in least} | {"optimizer": "optimizer states", "kv": "KV cache"}
    names |= {"fragmentation": "unused pages", "buffers": "communication buffers"}
    return ", ".join(f"{show(value, 'B')} of {names[name]}" for name, value in least.items() if value > 0)


def _network_sources(spread: Spread | None) -> dict[str, Source]:
    if spread is None:
        return {}
    return {f"{spread.system.name}.{path}": one for path, one in spread.system.sources.items() if path.startswith("tier.")}


def _used_sources(chip: Chip, model: Model | ConvolutionalModel, found: Estimate) -> dict[str, Source]:
    """Return the sources of the numbers that an estimate used: rates and memories of the chip, dimensions of the model."""
    main = chip.main_memory.name
    wanted = [f"memory.{level.name}.{name}" for level in chip.memory for name in ("bandwidth", "energy")]
    wanted += [f"memory.{main}.capacity", "package.idle_power", "vector_unit.rate.fp32", "vector_unit.rate.exponential"]
    wanted += [f"matrix_unit.{table}.{name}" for table in ("rate", "energy") for name in found.ridge]
    if found.level == "mapped" and is_many_core(chip):
        wanted += ["cores.count", "cores.clock", f"memory.{main}.latency", "package.power", "overhead.launch"]
        wanted += [path for path in chip.sources if path.startswith("efficiency.")]
    if is_modelled(chip):
        wanted += [path for path in chip.sources if path.startswith("technology.")]
    used = {f"{chip.name}.{path}": chip.sources[path] for path in wanted if path in chip.sources}
    return used | {
        f"{model.name}.{path}": source
        for path, source in model.sources.items()
        if not path.startswith("published") and path not in ("year", "maximum_context")
    }
