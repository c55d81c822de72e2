"""The verbs as functions, which take specs or names and return dataclasses; `import ridgeline as rl` is enough for all."""

from ridgeline.api.analysis import Analysis, analyze
from ridgeline.api.balance import Thresholds, thresholds
from ridgeline.api.case_study import casestudy
from ridgeline.api.counts import count
from ridgeline.api.names import KINDS, load_chip, load_model, load_named, load_precision, load_system, names
from ridgeline.api.numbers import Quantised, dequantise, quantise, signal_to_noise
from ridgeline.api.scenarios import LATENT_FORMS
from ridgeline.api.serving import Served, serve
from ridgeline.api.tiles import Mapped, map_matmul
from ridgeline.mapping.epilogue import FUSIONS

__all__ = [
    "FUSIONS",
    "KINDS",
    "LATENT_FORMS",
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
    "load_named",
    "load_precision",
    "load_system",
    "map_matmul",
    "names",
    "quantise",
    "serve",
    "signal_to_noise",
    "thresholds",
]
