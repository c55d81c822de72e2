"""The verbs as functions, which take specs or names and return dataclasses; `import ridgeline as rl` is enough for all."""

from ridgeline.api.analysis import Analysis, analyze, with_stack
from ridgeline.api.balance import Thresholds, thresholds
from ridgeline.api.case_study import casestudy
from ridgeline.api.compare import Comparison, compare
from ridgeline.api.counts import count
from ridgeline.api.explore import Exploration, Optimised, explore, optimise, query
from ridgeline.api.levers import Levers, levers
from ridgeline.api.machine_cost import MachineCost, machine_cost
from ridgeline.api.measure import Measurement, measure
from ridgeline.api.money import Money, Rate, cost_of, die_cost, rate_of
from ridgeline.api.names import KINDS, load_chip, load_model, load_named, load_precision, load_system, names
from ridgeline.api.numbers import Quantised, dequantise, quantise, signal_to_noise
from ridgeline.api.plan import Planned, plan_chips
from ridgeline.api.plan_service import ServedPlan, serve_plan
from ridgeline.api.power import Drawn, drawn, with_power_limit
from ridgeline.api.scenarios import LATENT_FORMS
from ridgeline.api.sensitivity import Sensitivity, sensitivity
from ridgeline.api.serving import Served, serve
from ridgeline.api.solve import Solved, solve
from ridgeline.api.survey import Survey, compare_chips, services, survey_accelerators
from ridgeline.api.test_time import ComputeScaling, scale_compute
from ridgeline.api.tiles import Mapped, map_matmul
from ridgeline.api.token_cost import RequestCost, request_cost
from ridgeline.api.trends import Trends, trends
from ridgeline.api.validation import Validation, validate
from ridgeline.mapping.epilogue import FUSIONS

__all__ = [
    "FUSIONS",
    "KINDS",
    "LATENT_FORMS",
    "Analysis",
    "Comparison",
    "ComputeScaling",
    "Drawn",
    "Exploration",
    "Levers",
    "MachineCost",
    "Mapped",
    "Measurement",
    "Money",
    "Optimised",
    "Planned",
    "Quantised",
    "Rate",
    "RequestCost",
    "Sensitivity",
    "Served",
    "ServedPlan",
    "Solved",
    "Survey",
    "Thresholds",
    "Trends",
    "Validation",
    "analyze",
    "casestudy",
    "compare",
    "compare_chips",
    "cost_of",
    "count",
    "dequantise",
    "die_cost",
    "drawn",
    "explore",
    "levers",
    "load_chip",
    "load_model",
    "load_named",
    "load_precision",
    "load_system",
    "machine_cost",
    "map_matmul",
    "measure",
    "names",
    "optimise",
    "plan_chips",
    "quantise",
    "query",
    "rate_of",
    "request_cost",
    "scale_compute",
    "sensitivity",
    "serve",
    "serve_plan",
    "services",
    "signal_to_noise",
    "solve",
    "survey_accelerators",
    "thresholds",
    "trends",
    "validate",
    "with_power_limit",
    "with_stack",
]
