"""The verbs as functions, which take specs or names and return dataclasses; `import ridgeline as rl` is enough for all."""

from ridgeline.api.analysis import Analysis, analyze, with_stack
from ridgeline.api.balance import Thresholds, thresholds
from ridgeline.api.case_study import casestudy
from ridgeline.api.counts import count
from ridgeline.api.explore import Exploration, explore, query
from ridgeline.api.levers import Levers, levers
from ridgeline.api.names import KINDS, load_chip, load_model, load_named, load_precision, load_system, names
from ridgeline.api.numbers import Quantised, dequantise, quantise, signal_to_noise
from ridgeline.api.plan import Planned, plan_chips
from ridgeline.api.scenarios import LATENT_FORMS
from ridgeline.api.sensitivity import Sensitivity, sensitivity
from ridgeline.api.serving import Served, serve
from ridgeline.api.solve import Solved, solve
from ridgeline.api.survey import Survey, compare_chips, services, survey_accelerators
from ridgeline.api.tiles import Mapped, map_matmul
from ridgeline.api.trends import Trends, trends
from ridgeline.api.validation import Validation, validate
from ridgeline.mapping.epilogue import FUSIONS

__all__ = [
    "FUSIONS",
    "KINDS",
    "LATENT_FORMS",
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
    "load_named",
    "load_precision",
    "load_system",
    "map_matmul",
    "names",
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
