"""The verbs as functions, which take specs or names and return dataclasses; `import ridgeline as rl` is enough for all."""

from ridgeline.api.analysis import Analysis, analyze
from ridgeline.api.balance import Thresholds, thresholds
from ridgeline.api.counts import count
from ridgeline.api.names import KINDS, load_chip, load_model, load_named, load_precision, load_system, names
from ridgeline.api.scenarios import LATENT_FORMS
from ridgeline.api.tiles import Mapped, map_matmul

__all__ = [
    "KINDS",
    "LATENT_FORMS",
    "Analysis",
    "Mapped",
    "Thresholds",
    "analyze",
    "count",
    "load_chip",
    "load_model",
    "load_named",
    "load_precision",
    "load_system",
    "map_matmul",
    "names",
    "thresholds",
]
