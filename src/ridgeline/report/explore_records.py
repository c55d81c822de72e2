"""Explorations, sensitivities, solutions and plans as plain records in SI units: what `--json` prints."""

from collections.abc import Sequence
from dataclasses import asdict
from math import inf
from typing import Any

from ridgeline.api.analysis import Analysis
from ridgeline.api.explore import Exploration, Optimised
from ridgeline.api.plan import Planned, title
from ridgeline.api.plan_service import ServedPlan
from ridgeline.api.sensitivity import Sensitivity
from ridgeline.api.solve import Solved, values
from ridgeline.report.records import plain

MOST_ROWS = 10_000


def exploration_record(found: Exploration) -> dict[str, Any]:
    """Return an exploration; of a front of more than 10 000 points the first, the folder has all."""
    return plain(
        {
            "points": found.counts.points,
            "computed": found.computed,
            "seconds": found.seconds,
            "points_per_second": found.points_per_second,
            "feasible": found.counts.feasible,
            "ruled_out": found.counts.ruled_out,
            "objectives": found.space.objectives,
            "level": found.space.level,
            "space": found.space.digest,
            "folder": str(found.folder),
            "front": len(found.pareto),
            "best": found.best,
            "pareto": list(found.pareto[:MOST_ROWS]),
        }
    )


def optimised_record(found: Optimised) -> dict[str, Any]:
    """Return what a search has found, with each seed's hypervolume beside that of random search."""
    return plain(
        {
            "space": found.space.digest,
            "points": found.space.points,
            "budget": found.budget,
            "tried": found.tried,
            "seconds": found.seconds,
            "hypervolumes": [one._asdict() for one in found.hypervolumes],
            "front": len(found.pareto),
            "pareto": list(found.pareto[:MOST_ROWS]),
        }
    )


def query_record(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """Return what a query found."""
    return {"columns": list(columns), "rows": [[_cell(one) for one in row] for row in rows]}


def _cell(value: Any) -> Any:
    return plain(value) if value is None or isinstance(value, bool | int | float | str) else str(value)


def _step(found: Analysis) -> dict[str, Any]:
    one = found.estimate
    return {
        "model": found.model.name,
        "chip": found.chip.name,
        "plan": None if found.spread is None else found.spread.plan.text,
        "phase": found.scenario.phase,
        "precision": found.precision.name,
        "level": one.level,
        "time": one.time,
        "energy": one.energy,
        "tokens_per_second": one.tokens_per_second,
        "bound": one.bound,
    }


def sensitivity_record(found: Sensitivity) -> dict[str, Any]:
    """Return the step and its elasticities."""
    rows = [asdict(one) | {"kinked": one.kinked} for one in found.rows]
    return plain(
        {
            **_step(found.base),
            "step": found.step,
            "elasticities": found.elasticities,
            "energy_elasticities": {one.path: one.energy for one in found.rows},
            "cost_elasticities": {one.path: one.dollars for one in found.rows},
            "buy": [asdict(one) for one in found.buy],
            "buy_notes": list(found.notes),
            "rows": rows,
        }
    )


def solved_record(found: Solved) -> dict[str, Any]:
    """Return the value with its proof: the step there, and at the neighbour that fails."""
    return plain(
        {
            "quantity": found.quantity,
            "value": found.solution.value,
            "most": found.solution.most,
            "neighbour": found.solution.neighbour,
            "neighbour_fails": found.reason,
            "bracket": [found.solution.low, found.solution.high],
            "evaluations": found.solution.evaluations,
            "targets": found.targets,
            "at": {**_step(found.at), **values(found.at)},
            "failing": None if found.failing is None else {**_step(found.failing), **values(found.failing)},
        }
    )


def planned_record(found: Planned, served: ServedPlan | None = None) -> dict[str, Any]:
    """Return plans best first, the front of all points, how the best serves requests, and those that cannot be."""
    asked = {name: value for name, value in asdict(found.service).items() if value not in (inf, None)}
    return plain(
        {
            "model": found.model.name,
            "system": found.system.name,
            "chip": found.system.chip.name,
            "count": found.count,
            "level": found.level,
            "request": asked,
            "evaluated": found.evaluated,
            "plans": [asdict(one) | {"title": title(one)} for one in found.plans],
            "pareto": [asdict(one) | {"title": title(one)} for one in found.pareto[:MOST_ROWS]],
            "served": None if served is None else _served(served),
            "infeasible": [asdict(one) for one in found.refused],
        }
    )


def _served(found: ServedPlan) -> dict[str, Any]:
    one = found.metrics
    latencies = {name: getattr(one, name)._asdict() for name in ("ttft", "tpot", "e2e")}
    return {
        "load": found.load,
        "rate": found.rate,
        "policy": found.policy,
        **latencies,
        **{name: getattr(one, name) for name in ("throughput", "tokens_per_second", "goodput", "utilisation", "preemptions")},
    }
