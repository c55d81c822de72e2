"""Rows that time a whole model: a prompt, a generation, or both, on one chip or on several of one box, by the level `mapped`.

Nothing here is fitted to such rows. What a framework's host adds to a step or a layer is in no stack yet, and so in no prediction.
"""

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ridgeline.catalogue import load
from ridgeline.catalogue.families import stack_named
from ridgeline.errors import InputError
from ridgeline.estimate import estimate
from ridgeline.mapping.many_core_step import is_many_core
from ridgeline.parallel import estimate_plan
from ridgeline.quantities import Count, Seconds
from ridgeline.specs.chip import Chip
from ridgeline.specs.model import Model
from ridgeline.specs.number_format import FORMATS
from ridgeline.specs.plan import Plan
from ridgeline.specs.precision import Precision
from ridgeline.specs.scenario import Scenario
from ridgeline.specs.stack import Stack
from ridgeline.specs.system import System
from ridgeline.validation.exchanges import network_of
from ridgeline.validation.group import Group, Times
from ridgeline.validation.schema import Row

GROUPED_BY = ("model", "dtype", "n_chips", "parallelism", "variant", "phase")
_SERVERS = ("vllm", "tensorrt-llm")  # whose kernels the stack `serving` describes
_RATES = ("throughput", "output_throughput_total")
_LAYER_SPLIT = "llama.cpp"  # gives each chip a run of layers, whatever a table calls it


class _Setting(NamedTuple):
    """What the rows of a group share: the chip or the system under a plan, the model and the formats."""

    chip: Chip
    system: System | None
    plan: Plan
    model: Model
    precision: Precision


def is_model(row: Row) -> bool:
    """Say whether a row times a whole model under a load that the row states: no queue, no arrivals, no best batch."""
    if not row.has("model", "isl", "osl") or row.text("op", "m", "arrival_s") or "max-load" in row.text("scenario"):
        return False
    prompt, output = (_count(row, name) for name in ("isl", "osl"))
    if row.unit == "tokens/s":
        counted = row.metric in _RATES and (row.text("phase") in ("prefill", "decode") or row.has("batch"))
        return counted and prompt >= 0.0 and output >= 0.0 and tokens(row) > 0.0
    return row.unit == "s" and row.metric in ("latency", "ttft") and prompt > 0.0 and output >= 0.0


def _count(row: Row, name: str) -> Count:
    """Return a number of tokens; one that cannot be, NaN, for which no comparison holds."""
    try:
        value = row.number(name)
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan


def fixes(_: Row) -> bool:
    """Say that no such row fixes a constant: what it takes beside kernels has another cause."""
    return False


def library_of(row: Row) -> str:
    """Return the name by which the stack of a row is found: of PyTorch, eager as in the rows of operations or compiled."""
    framework = row.text("framework")
    return "pytorch-2" if framework == "pytorch" and row.text("variant") != "fusion" else framework


def tokens(row: Row) -> Count:
    """Return the tokens that a row's rate counts: of the prompts, or those generated."""
    return row.number("batch", 1.0) * row.number("isl" if row.text("phase") == "prefill" else "osl")


def times(group: Group) -> Times:
    """Predict whole models: a prompt, the mean step of a generation as often as it runs, or one after the other."""
    setting = _setting(group)
    found = [[_time(setting, row, level) for row in group.rows] for level in ("mapped", "ideal")]
    return Times(np.array(found[0]), np.array(found[1]))


def _setting(group: Group) -> _Setting:
    if not is_many_core(group.chip):
        raise InputError(f"{group.chip.name}: no cores with a clock, which the level mapped needs of a whole model")
    chip = replace(group.chip, efficiency=group.family, stack=_stack(group))
    model = load.model(group.text("model").split()[0])  # some tables append the format
    if not isinstance(model, Model):
        raise InputError(f"{model.name}: no transformer, which rows of prompts and generations need")
    members = int(group.rows[0].number("n_chips", 1.0))
    system = System(name=chip.name, chip=chip, tier=network_of(chip.name, "")) if members > 1 else None
    return _Setting(chip, system, _plan(group, members), model, _precision(group))


def _stack(group: Group) -> Stack:
    return stack_named("serving") if group.text("framework").lower().startswith(_SERVERS) else group.stack


def _plan(group: Group, members: int) -> Plan:
    """Return how a group's chips share the model: a layer split for libraries that know no other, else tensor parallelism."""
    split = group.text("parallelism")
    if group.text("framework").startswith(_LAYER_SPLIT) or split == "layer-split":
        return Plan(pipeline=members)
    if split not in ("none", "", f"tp{members}"):
        raise InputError(f"parallelism {split!r} of {members} chips: tensor parallelism or a layer split is predicted")
    return Plan(tensor=members)


def _precision(group: Group) -> Precision:
    """Return the formats of a row's `dtype`; llama.cpp multiplies and keeps keys and values in fp16."""
    found = Precision.parse(group.text("dtype").split("/")[0])
    if group.text("framework").startswith(_LAYER_SPLIT) and found.weights.bits < FORMATS["fp16"].bits:
        return replace(found, activations=FORMATS["fp16"], kv=FORMATS["fp16"])
    return found


def _time(setting: _Setting, row: Row, level: str) -> Seconds:
    scenario, repeated = _scenario(setting.model, row)
    if setting.system is None:
        found = estimate(setting.chip, setting.model, scenario, setting.precision, level=level)
    else:
        found = estimate_plan(setting.system, setting.model, scenario, setting.precision, setting.plan, level=level)
    return float(found.time) * repeated


def _scenario(model: Model, row: Row) -> tuple[Scenario, Count]:
    """Return what a row asks of a model, and how often; a generation alone is its step at the mean context."""
    batch, prompt, output = row.number("batch", 1.0), row.number("isl"), row.number("osl")
    if row.text("phase") == "decode":
        return Scenario(phase="decode", batch=batch, context=prompt + (output + 1.0) / 2.0), output
    if row.metric == "ttft" or row.text("phase") == "prefill" or output == 0.0:
        if model.encoder and not model.decoder:
            return Scenario(phase="encode", batch=batch, prompt=prompt), 1.0
        every = row.text("framework") == "pytorch"  # a forward pass yields the logits of every token
        return Scenario(phase="prefill", batch=batch, prompt=prompt, head_tokens="all" if every else "last"), 1.0
    return Scenario(phase="generate", batch=batch, prompt=prompt, output=output), 1.0
