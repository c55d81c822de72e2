"""Ridgeline: what bounds a workload on a machine, by how much, and what would move it."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ridgeline.api import (
        Analysis,
        Levers,
        Mapped,
        Quantised,
        Served,
        Survey,
        Thresholds,
        Trends,
        Validation,
        analyze,
        casestudy,
        compare_chips,
        count,
        dequantise,
        levers,
        load_chip,
        load_model,
        load_precision,
        load_system,
        map_matmul,
        quantise,
        serve,
        services,
        signal_to_noise,
        survey_accelerators,
        thresholds,
        trends,
        validate,
        with_stack,
    )

__version__ = "0.1.0"
__all__ = [
    "Analysis",
    "Levers",
    "Mapped",
    "Quantised",
    "Served",
    "Survey",
    "Thresholds",
    "Trends",
    "Validation",
    "analyze",
    "casestudy",
    "compare_chips",
    "count",
    "dequantise",
    "levers",
    "load_chip",
    "load_model",
    "load_precision",
    "load_system",
    "map_matmul",
    "quantise",
    "serve",
    "services",
    "signal_to_noise",
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
