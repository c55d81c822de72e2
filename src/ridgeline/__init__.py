"""Ridgeline: what bounds a workload on a machine, by how much, and what would move it."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ridgeline.api import (
        Analysis,
        Exploration,
        Levers,
        Mapped,
        Planned,
        Quantised,
        Sensitivity,
        Served,
        Solved,
        Survey,
        Thresholds,
        Trends,
        Validation,
        analyze,
        casestudy,
        compare_chips,
        count,
        dequantise,
        explore,
        levers,
        load_chip,
        load_model,
        load_precision,
        load_system,
        map_matmul,
        plan_chips,
        quantise,
        query,
        sensitivity,
        serve,
        services,
        signal_to_noise,
        solve,
        survey_accelerators,
        thresholds,
        trends,
        validate,
        with_stack,
    )

__version__ = "0.1.0"
__all__ = [
    "Analysis",
    "Exploration",
    "Levers",
    "Mapped",
    "Planned",
    "Quantised",
    "Sensitivity",
    "Served",
    "Solved",
    "Survey",
    "Thresholds",
    "Trends",
    "Validation",
    "analyze",
    "casestudy",
    "compare_chips",
    "count",
    "dequantise",
    "explore",
    "levers",
    "load_chip",
    "load_model",
    "load_precision",
    "load_system",
    "map_matmul",
    "plan_chips",
    "quantise",
    "query",
    "sensitivity",
    "serve",
    "services",
    "signal_to_noise",
    "solve",
    "survey_accelerators",
    "thresholds",
    "trends",
    "validate",
    "with_stack",
]


def __getattr__(name: str) -> Any:
    """Load the verbs when one is first used, so that the command starts at once."""
    if name in __all__:
        return getattr(import_module("ridgeline.api"), name)
    raise AttributeError(f"module 'ridgeline' has no attribute {name!r}")
