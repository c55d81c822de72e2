"""What was asked becomes a scenario and axes: defaults, checks, and notes on what was assumed."""

import math
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, get_args

import numpy as np

from ridgeline.errors import InputError, nearest
from ridgeline.specs.model import ConvolutionalModel, Model
from ridgeline.specs.scenario import LatentForm, Phase, Scenario
from ridgeline.specs.training import OPTIMIZERS, Rematerialisation, ZeroStage

LATENT_FORMS: tuple[LatentForm, ...] = get_args(LatentForm)
_COUNTS = ("batch", "prompt", "context", "output", "samples", "verified", "source_tokens", "data_ranks")
_OF_TRAINING = ("optimizer", "rematerialisation", "rematerialised", "zero", "data_ranks")


def make_scenario(
    model: Model | ConvolutionalModel, phase: str | None, given: Mapping[str, Any]
) -> tuple[Scenario, dict[str, Any]]:
    """Return the scenario with its defaults, and the axes: the fields for which several values were given.

    Raises `InputError` for a field, a phase or a count that there is not.
    """
    """Return the scenario with its defaults, and the axes: the fields for which several values were given."""
    known = {one.name for one in fields(Scenario)}
    for name in given:
        if name not in known:
            raise InputError(f"a scenario has no {name!r}: it has {', '.join(sorted(known))}")
    numbers = [name for name, value in given.items() if name in _COUNTS and isinstance(value, str)]
    if numbers:
        raise InputError(f"{numbers[0]} {given[numbers[0]]!r} is text: a number or a list of numbers is wanted")
    chosen = phase or default_phase(model)
    if chosen not in get_args(Phase):
        raise InputError(f"unknown phase {chosen!r}: {nearest(chosen, get_args(Phase))}")
    values = {name: value for name, value in given.items() if value is not None}
    axes = {
        name: np.asarray(value, dtype=np.float64)
        for name, value in values.items()
        if not isinstance(value, str) and np.ndim(value) == 1
    }
    for name in _COUNTS:
        if name in values:
            _check_count(name, values[name], chosen)
    _check_between("acceptance", values.get("acceptance", 0.0), 1.0)
    _check_between("routing_skew", values.get("routing_skew", 0.0), math.inf)
    _check_training(values)
    single = {name: value for name, value in values.items() if name not in axes}
    if chosen == "decode" and isinstance(values.get("prompt"), int | float) and "context" not in values:
        single["context"] = max(1, values["prompt"])
    base = Scenario(phase=chosen, **{**_defaults(model, chosen, values), **single})  # pyright: ignore[reportArgumentType]
    _check_together(base, axes)
    return base, axes


def scenario_notes(
    model: Model | ConvolutionalModel, scenario: Scenario, axes: Mapping[str, Any], given: Mapping[str, Any]
) -> list[str]:
    """Say aloud what was assumed: contexts past the model's limit, arguments without effect, speculated tokens all kept."""
    largest = replace(scenario, **{name: float(np.max(values)) for name, values in axes.items()})
    found: list[str] = []
    limit, longest = _context_limit(model, scenario), longest_context(largest)
    if limit is not None and longest > limit:
        found.append(f"{longest:g} tokens are past the {limit:g} that {model.name} was made for")
    ignored = _WITHOUT_EFFECT[scenario.phase] + (() if scenario.phase == "train" else _OF_TRAINING)
    unused = sorted(name for name in ignored if given.get(name) is not None)
    if unused:
        found.append(f"{', '.join(unused)}: without effect in {scenario.phase}")
    if scenario.phase == "decode" and given.get("source_tokens") is None and _reads_source(model):
        found.append("cross-attention is taken to read as many encoder tokens as the context has: --source-tokens says how many")
    if scenario.phase == "train" and largest.data_ranks > 1:
        found.append("time is that of one data rank by itself: what ranks send one another is counted in bytes, not in time")
    if largest.verified > 1 and scenario.acceptance is None and "acceptance" not in axes:
        found.append("all verified tokens are counted as kept: --acceptance says how many are")
    return found


def _reads_source(model: Model | ConvolutionalModel) -> bool:
    """Say whether a decoder reads an encoder whose length the model does not fix."""
    return isinstance(model, Model) and bool(model.encoder and model.decoder) and model.audio is None and model.patches is None


def _context_limit(model: Model | ConvolutionalModel, scenario: Scenario) -> float | None:
    """Return the tokens that a model was made for; images and spectrograms have their own number."""
    if not isinstance(model, Model) or model.patches is not None or (model.audio is not None and scenario.phase == "encode"):
        return None
    return model.maximum_context


def longest_context(scenario: Scenario) -> float:
    """Return the most tokens that a sequence has when the step ends."""
    before = scenario.context if scenario.phase in ("decode", "prefill") else 0.0
    new = scenario.prompt if scenario.phase != "decode" else 0.0
    return before + new + (scenario.output if scenario.phase == "generate" else 0.0)


# What a phase does not look at. A prompt in decode is the part of the context that sequences of a prompt share.
_WITHOUT_EFFECT: Mapping[str, tuple[str, ...]] = {
    "encode": ("context", "output", "samples", "verified", "acceptance"),
    "prefill": ("output", "verified", "acceptance"),
    "decode": ("output",),
    "generate": ("context",),
    "train": ("context", "output", "samples", "verified", "acceptance"),
}


def _check_count(name: str, value: Any, phase: str) -> None:
    may_be_none = name in ("source_tokens", "context") or (name == "prompt" and phase == "decode")
    least = 0.0 if may_be_none else 1.0
    for one in np.ravel(np.asarray(value, dtype=np.float64)):
        if not math.isfinite(one) or one < least or one != round(float(one)):
            raise InputError(f"{name} {one:g}: a whole number of {least:g} or more is wanted in {phase}")


def _check_together(scenario: Scenario, axes: Mapping[str, Any]) -> None:
    """Refuse groups of samples that do not divide the batch, and more verified tokens than the context holds."""
    batch, samples = np.meshgrid(axes.get("batch", scenario.batch), axes.get("samples", scenario.samples))
    if np.any(batch % samples):
        place = np.argmax(batch % samples > 0)
        raise InputError(f"samples {samples.ravel()[place]:g} do not divide the batch of {batch.ravel()[place]:g} sequences")
    verified, context = np.max(axes.get("verified", scenario.verified)), np.min(axes.get("context", scenario.context))
    if scenario.phase == "decode" and verified > context:
        raise InputError(f"verified {verified:g}: a context of {context:g} tokens does not hold them, the new ones are part of it")


def _check_training(values: Mapping[str, Any]) -> None:
    """Refuse an optimizer, a form of rematerialisation or a stage of ZeRO that there is not, and ranges of them."""
    choices: dict[str, tuple[Any, ...]] = {
        "optimizer": tuple(OPTIMIZERS),
        "rematerialisation": get_args(Rematerialisation),
        "zero": get_args(ZeroStage),
    }
    for name, known in choices.items():
        value = values.get(name, known[0])
        if np.ndim(value) or value not in known:
            raise InputError(f"{name} {value!r}: choose one of {', '.join(map(str, known))}")
    _check_between("rematerialised", values.get("rematerialised", 1.0), 1.0)


def _check_between(name: str, value: Any, most: float) -> None:
    for one in np.ravel(np.asarray(value, dtype=np.float64)):
        if not 0.0 <= one <= most:
            wanted = "0 or more" if most == math.inf else f"a number from 0 to {most:g}"
            raise InputError(f"{name.replace('_', ' ')} {one:g}: {wanted} is wanted")


def default_phase(model: Model | ConvolutionalModel) -> str:
    """Return the phase that a model is for: decode where it generates, else encode."""
    return "decode" if isinstance(model, Model) and model.decoder else "encode"


def _defaults(model: Model | ConvolutionalModel, phase: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the counts that were not given: 2048 tokens, or the model's limit where that is less."""
    limit = model.maximum_context if isinstance(model, Model) else None
    usual = 2048 if limit is None else int(min(2048, limit))
    found: dict[str, Any] = {}
    if phase == "decode":
        found["context"] = usual
    elif phase == "generate":
        found["output"] = max(1, usual // 4)
        found["prompt"] = max(1, usual - found["output"])
    else:
        found["prompt"] = usual if isinstance(model, Model) else 0
    return {name: value for name, value in found.items() if name not in given}
