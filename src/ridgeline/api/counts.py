"""Operations and bytes of a step, counted by a named convention."""

from dataclasses import replace
from typing import Any

from ridgeline.api.names import load_model, load_precision
from ridgeline.api.scenarios import make_scenario
from ridgeline.search.space import Grid
from ridgeline.specs.model import ConvolutionalModel, Model
from ridgeline.workload import conventions
from ridgeline.workload.conventions import Counts


def count(
    model: Model | ConvolutionalModel | str,
    *,
    convention: str = "ridgeline",
    phase: str | None = None,
    precision: str | None = None,
    **scenario: Any,
) -> Counts:
    """Count operations and bytes of a step by a named convention: `ridgeline`, `pytorch`, or a survey's.

    >>> round(count("bert-base", convention="survey-encoder", prompt=512).groups["projections"].flops / 1e9, 2)
    28.99
    """
    spec = load_model(model)
    formats = load_precision(precision, spec)
    asked, axes = make_scenario(spec, phase, scenario)
    if axes:
        asked = replace(asked, **Grid.of(axes).whole().values)
    return conventions.count(spec, asked, formats, conventions.convention(convention))
