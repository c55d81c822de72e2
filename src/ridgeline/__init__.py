"""Ridgeline: what bounds a workload on a machine, by how much, and what would move it."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ridgeline.api import (
        Analysis,
        Mapped,
        Quantised,
        Served,
        Thresholds,
        analyze,
        casestudy,
        count,
        dequantise,
        load_chip,
        load_model,
        load_precision,
        load_system,
        map_matmul,
        quantise,
        serve,
        signal_to_noise,
        thresholds,
    )

__version__ = "0.1.0"
__all__ = [
    "Analysis",
    "Mapped",
    "Quantised",
    "Served",
    "Thresholds",
    "analyze",
    "casestudy",
    "count",
    "dequantise",
    "load_chip",
    "load_model",
    "load_precision",
    "load_system",
    "map_matmul",
    "quantise",
    "serve",
    "signal_to_noise",
    "thresholds",
]


def __getattr__(name: str) -> Any:
    """Load the verbs when one is first used, so that the command starts at once."""
    if name in __all__:
        return getattr(import_module("ridgeline.api"), name)
    raise AttributeError(f"module 'ridgeline' has no attribute {name!r}")
