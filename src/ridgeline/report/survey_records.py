"""The survey, the comparison of chips, the trends and the levers as plain records in SI units: what `--json` prints."""

from collections.abc import Sequence
from typing import Any

from ridgeline.api.levers import Effect, Levers
from ridgeline.api.survey import ChipRow, ServiceRow, Survey
from ridgeline.api.trends import Trends
from ridgeline.report.records import plain, sources_record
from ridgeline.survey.levers import Outcome
from ridgeline.survey.normalise import Cell, Normalised
from ridgeline.survey.spread import Spread, Way
from ridgeline.survey.trends import Fit


def survey_record(found: Survey) -> dict[str, Any]:
    """Return the survey by the command's contract: every row, with a reason where it is not normalised."""
    ranks = {by: {place.name: place.rank for place in places} for by, places in found.ranks.items()}
    return {
        "node": found.rule.target,
        "rule": found.rule.text,
        "fpga_rule": found.fpga_rule.text,
        "units": {"performance": "OP/s", "efficiency": "OP/J", "node": "m"},
        "rows": [_row(one, ranks) for one in found.rows],
        "ranks": {by: [place._asdict() for place in places] for by, places in found.ranks.items()},
        "baselines": plain(found.baselines),
        "example": [one._asdict() for one in found.example[:10]],
        "example_rules": [one._asdict() for one in found.example if not one.rule.startswith("equations")],
    }


def _row(one: Normalised, ranks: dict[str, dict[str, int]]) -> dict[str, Any]:
    published = one.accelerator
    return {
        "name": published.name,
        "platform": published.text("platform"),
        "hardware": published.text("hardware") or None,
        "year": published.value("year"),
        "nodes": list(published.nodes),
        "scales_as": published.text("scales as") or None,
        "modelled": published.modelled,
        "performance": _cell(published.cell("performance")),
        "efficiency": _cell(published.cell("efficiency")),
        "speedups": [_cell(cell) for cell in published.gains("speed-up")],
        "energy_gains": [_cell(cell) for cell in published.gains("energy gain")],
        "cells": [_cell(cell) for cell in published.cells],
        "normalised": _normalised(one),
        "reason": one.reason,
        "ranks": {by: places.get(published.name) for by, places in ranks.items()},
    }


def _normalised(one: Normalised) -> dict[str, Any] | None:
    if not one.is_normalised:
        return None
    return {"rule": one.rule, "performance": one.performance, "efficiency": one.efficiency, "notes": list(one.notes)}


def _cell(cell: Cell | None) -> dict[str, Any] | None:
    if cell is None:
        return None
    source = cell.source
    return {
        "figure": cell.figure,
        "value": cell.low,
        "high": cell.high,
        "text": cell.text or None,
        "against": cell.against or None,
        "printed": source.value,
        "unit": source.unit,
        "source": source.key,
        "where": source.where,
        "confidence": source.confidence,
        "note": source.note,
    }


def comparison_record(rule: str, rows: Sequence[ChipRow]) -> dict[str, Any]:
    """Return one workload on every chip: each at its own node, and `normalised` with its logic at the rule's."""
    return {"rule": rule, "rows": [_chip_row(one) for one in rows]}


def _chip_row(one: ChipRow) -> dict[str, Any]:
    names = ("workload", "chip", "title", "year", "node", "precision", "level", "chips", "time", "time_lower", "time_upper")
    names += (
        "interval",
        "interval_reason",
        "tokens_per_second",
        "energy_per_token",
        "utilisation",
        "bound",
        "performance",
        "efficiency",
    )
    found = {name: plain(getattr(one, name)) for name in names}
    moved = None if one.moved is None else {name: plain(getattr(one.moved, name)) for name in names if name not in _SAME}
    if moved is not None and one.moved is not None:
        moved["notes"] = list(one.moved.notes)
    return {**found, "notes": list(one.notes), "reason": one.reason, "normalised": moved, "normalised_reason": one.moved_reason}


_SAME = ("workload", "chip", "title", "year")


def services_record(rows: Sequence[ServiceRow]) -> dict[str, Any]:
    """Return decode on static-dataflow and near-memory machines beside published rates."""
    return {
        "services": [
            {
                "model": one.model,
                "chip": one.chip,
                "context": one.context,
                "precision": one.precision,
                "published_tokens_per_second": one.published,
                "source": one.source or None,
                "note": one.note,
                "serial": _way(one.spread, one.spread.serial, one),
                "fastest": _way(one.spread, one.spread.fastest, one),
                "notes": list(one.spread.notes),
            }
            for one in rows
        ]
    }


def _way(found: Spread, way: Way, row: ServiceRow) -> dict[str, Any]:
    return {
        "chips": way.chips,
        "tensor": way.tensor,
        "stages": way.stages,
        "time": way.time,
        "parts": dict(way.parts),
        "bound": way.bound,
        "tokens_per_second": found.tokens_per_second(way),
        "over_published": row.ratio(way),
    }


def trends_record(found: Trends) -> dict[str, Any]:
    """Return fits with their intervals, projections that say that they are, points, chips and intensities."""
    return {
        "fits": {name: _fit(one, found.printed.get(name)) for name, one in found.fits.items()},
        "projections": {
            name: {"extrapolated": True, "points": [one._asdict() for one in points]} for name, points in found.projections.items()
        },
        "points": {name: [one._asdict() for one in points] for name, points in found.points.items()},
        "chips": [
            {
                **{name: value for name, value in plain(one).items() if name != "sources"},
                "latency_is_estimate": one.latency_is_estimate,
                "sources": sources_record(one.sources),
            }
            for one in found.chips
        ],
        "left_out": dict(found.left_out),
        "intensities": [plain(one) for one in found.intensities],
    }


def _fit(one: Fit, printed: float | None) -> dict[str, Any]:
    found = {"rate": one.rate, "low": one.low, "high": one.high, "confidence": one.confidence, "points": one.points}
    return {**found, "years": 2, "first": one.first, "last": one.last, "over_20_years": one.over(20.0), "printed": printed}


def levers_record(found: Levers) -> dict[str, Any]:
    """Return every lever alone, and the best pair; ratios are of a token, to the case without the lever."""
    best = found.best_pair
    return {
        "model": found.base.model.name,
        "chip": found.base.chip.name,
        "precision": found.base.precision.name,
        "level": found.base.estimate.level,
        "base": _outcome(found.outcome),
        "levers": [_effect(one) for one in found.effects],
        "best_pair": None if best is None else _effect(best),
    }


def _effect(one: Effect) -> dict[str, Any]:
    return {
        "name": one.name,
        "what": one.what,
        "time": None if one.result is None else one.result.time,
        "energy": None if one.result is None else one.result.energy,
        "capacity": None if one.result is None else one.result.capacity,
        "available": None if one.result is None else one.result.available,
        "tokens": None if one.result is None else one.result.tokens,
        "bound": None if one.result is None else one.result.bound,
        "time_ratio": one.time,
        "energy_ratio": one.energy,
        "capacity_ratio": one.capacity,
        "bytes": None if one.result is None else one.result.bytes,
        "bytes_ratio": one.bytes,
        "interval": None if one.result is None else plain(one.result.interval),
        "takes_away": one.takes_away,
        "reason": one.reason,
        "note": one.note or None,
    }


def _outcome(one: Outcome) -> dict[str, Any]:
    return plain(one) | {"time_per_token": one.time_per_token, "energy_per_token": one.energy_per_token}
