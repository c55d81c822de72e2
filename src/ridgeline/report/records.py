"""Results as plain records in SI units: what `--json` prints."""

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from ridgeline.api import Analysis, Mapped, Thresholds
from ridgeline.api.power import drawn
from ridgeline.costs.rates import compute_rate
from ridgeline.mapping.array_machine import energy_by_component
from ridgeline.mapping.row_stationary import RowMachine, row_energy_by_component
from ridgeline.parallel import communication
from ridgeline.report.training import training_record
from ridgeline.results import OperationEstimate
from ridgeline.specs.base import Source, quantities
from ridgeline.workload.conventions import Counts


def plain(value: Any) -> Any:
    """Return a value as JSON knows it: arrays as nested lists, whole floats as they are, what is not finite as null."""
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: plain(getattr(value, one.name)) for one in fields(value)}
    return value


def sources_record(sources: Mapping[str, Source]) -> list[dict[str, Any]]:
    """Return the sources of the numbers that were used."""
    return [
        {
            "field": path,
            "value": source.value,
            "unit": source.unit,
            "key": source.key,
            "where": source.where,
            "confidence": source.confidence,
            "note": source.note,
        }
        for path, source in sorted(sources.items())
    ]


def analysis_record(analysis: Analysis) -> dict[str, Any]:
    """Return an analysis by the command's contract; entries of points that do not fit are null."""
    found = analysis.estimate
    record: dict[str, Any] = {
        "model": analysis.model.name,
        "chip": analysis.chip.name,
        "phase": analysis.scenario.phase,
        "precision": analysis.precision.name,
        "level": found.level,
        "stack": None if analysis.stack is None else analysis.stack.name,
    }
    if analysis.axes:
        record["axes"] = plain(dict(analysis.axes))
    else:
        names = ("batch", "prompt", "context", "output", "samples", "verified")
        record["scenario"] = {name: plain(getattr(analysis.scenario, name)) for name in names}
    power = drawn(analysis)
    scalars: dict[str, Any] = {
        "time": found.time,
        "time_lower": found.time_lower,
        "time_upper": found.time_upper,
        "flops": found.flops,
        "bytes": dict(found.bytes),
        "intensity": found.intensity,
        "bound": found.bound,
        "energy": found.energy,
        "energy_by_component": dict(found.cost.energy) if found.energy is not None else None,
        "energy_per_token": found.energy / found.tokens if found.energy is not None else None,
        "power": None if power is None else power.boards,
        "wall_power": None if power is None else power.wall,
        "time_by_resource": dict(found.cost.time),
        "tokens": found.tokens,
        "tokens_per_second": found.tokens_per_second,
    }
    feasible = np.asarray(found.feasible)
    record |= {name: _masked(analysis, name, value, feasible) for name, value in scalars.items()}
    record["interval"] = _interval(analysis, feasible)
    record["interval_reason"] = found.interval_reason or None
    record["ridge"] = plain(found.ridge)
    record["feasible"] = plain(found.feasible) if not analysis.axes else (feasible > 0).tolist()
    record["capacity"] = _capacity_record(analysis)
    record |= _plan_record(analysis, feasible)
    if not analysis.axes:
        record["operations"] = [operation_record(row) for row in found.operations]
        if analysis.scenario.phase == "train":
            record["training"] = plain(training_record(analysis))
    record["notes"] = list(found.notes)
    record["sources"] = sources_record(found.sources)
    return record


def _interval(analysis: Analysis, feasible: Any) -> dict[str, Any] | None:
    """Return the interval as factors of the time; of ranges a list of each."""
    found = analysis.estimate.interval
    if found is None:
        return None
    ends = {name: _masked(analysis, name, getattr(found, name), feasible) for name in ("lower", "upper")}
    return {"coverage": found.coverage, **ends}


def _masked(analysis: Analysis, name: str, value: Any, feasible: Any) -> Any:
    """Return a quantity with nulls where the point does not fit, and bounds by name."""
    if isinstance(value, Mapping):
        return {key: _masked(analysis, str(key), one, feasible) for key, one in value.items()}
    if not analysis.axes or value is None:
        return plain(value)
    full = np.broadcast_to(np.asarray(value), feasible.shape)
    if name == "bound":
        full = np.vectorize(analysis.resource, otypes=[object])(full)
    nulls = np.full(feasible.shape, None, dtype=object)
    return plain(np.where(feasible > 0, full.astype(object), nulls).tolist())


def _plan_record(analysis: Analysis, feasible: Any) -> dict[str, Any]:
    """Return the plan, what a chip sends by tier, and a chip's share; bytes, flops and energy of the step are of all chips."""
    spread = analysis.spread
    if spread is None:
        return {}
    kinds = ("tensor", "context", "data", "pipeline", "expert", "micro_batches", "virtual_stages", "tensor_form", "overlap")
    found = analysis.estimate
    sent = communication(found, analysis.chips)
    mean = {"flops": found.flops / analysis.chips, "bytes": {name: one / analysis.chips for name, one in found.bytes.items()}}
    return {
        "system": spread.system.name,
        "count": analysis.chips,
        "plan": {"text": spread.plan.text, **{name: plain(getattr(spread.plan, name)) for name in kinds}},
        "communication": {tier: _masked(analysis, tier, one, feasible) for tier, one in sent.items()},
        "per_chip": {name: _masked(analysis, name, one, feasible) for name, one in mean.items()},
    }


def _capacity_record(analysis: Analysis) -> Any:
    held = analysis.estimate.capacity
    if held is None:
        return None
    return plain(
        {
            "level": held.level,
            "weights": held.weights,
            "kv": held.kv,
            "activations": held.activations,
            "gradients": held.gradients,
            "optimizer": held.optimizer,
            "fragmentation": held.fragmentation,
            "buffers": held.buffers,
            "further": {"level": held.further, "moved": held.moved, "available": held.further_available} if held.further else None,
            "needed": held.needed,
            "available": held.available,
            "shortfall": held.shortfall,
            "chips_needed": analysis.chips_needed,
        }
    )


def operation_record(row: OperationEstimate) -> dict[str, Any]:
    """Return one row of the breakdown."""
    names = ("name", "kind", "group", "count", "m", "n", "k", "flops", "bytes", "time", "bound")
    return {name: plain(getattr(row, name)) for name in names}


def thresholds_record(found: Thresholds) -> dict[str, Any]:
    """Return thresholds by the command's contract."""
    hidden = ("model", "chip", "precision", "sources")
    record = {"model": found.model.name, "chip": found.chip.name, "precision": found.precision.name}
    record |= {one.name: plain(getattr(found, one.name)) for one in fields(found) if one.name not in hidden}
    return record | {"sources": sources_record(found.sources)}


def mapped_energy(found: Mapped) -> Mapping[str, Any] | None:
    """Return a tiling's energy by component; None where the chip's energies are unknown."""
    if found.tiling.energy is None:
        return None
    if isinstance(found.machine, RowMachine):
        return row_energy_by_component(found.chip, found.layer, found.tiling, found.machine)
    formats = found.precision
    unit = compute_rate(found.chip, (formats.weights, formats.activations), formats.accumulate)
    return energy_by_component(found.chip, unit.format, found.tiling)


def mapped_record(found: Mapped) -> dict[str, Any]:
    """Return a tiling by the command's contract."""
    tiling = found.tiling
    names = (
        "cycles",
        "energy",
        "traffic",
        "tile",
        "order",
        "utilisation",
        "lower_bound",
        "optimal",
        "dataflow",
        "objective",
        "held",
    )
    return {
        "layer": found.layer._asdict(),
        "chip": found.chip.name,
        "precision": found.precision.name,
        "time": plain(found.time),
        **{name: plain(getattr(tiling, name)) for name in names},
        "energy_by_component": plain(mapped_energy(found)),
        "hong_kung_bytes": plain(tiling.hong_kung),
        "examined": plain(tiling.examined),
        "notes": list(found.notes),
        "simulated_cycles": None if found.simulated is None else found.simulated.cycles,
    }


def counts_record(found: Counts) -> dict[str, Any]:
    """Return counts by class under a named convention."""
    groups = {name: {"flops": plain(one.flops), "bytes": plain(one.bytes)} for name, one in found.groups.items()}
    return {
        "convention": found.convention.name,
        "groups": groups,
        "flops": plain(found.total.flops),
        "bytes": plain(found.total.bytes),
    }


def spec_record(spec: Any) -> dict[str, Any]:
    """Return a spec's quantities by dotted path with their sources."""
    return {
        "name": spec.name,
        "title": spec.title,
        "quantities": plain(quantities(spec)),
        "sources": sources_record(spec.sources),
    }
