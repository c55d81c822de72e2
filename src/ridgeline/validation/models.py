"""Rows that time a whole model: a prompt, a generation, or both, on one chip or on several of one box, by the level `mapped`.

The row's framework chooses the stack, which says what its kernels and its host do (`catalogue/stacks`, key `models`).
"""

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ridgeline.catalogue import load
from ridgeline.errors import InputError
from ridgeline.estimate import estimate
from ridgeline.mapping.software_step import stack_precision
from ridgeline.parallel import estimate_plan
from ridgeline.quantities import Count, Fraction, Seconds
from ridgeline.results import Estimate
from ridgeline.specs.chip import Chip
from ridgeline.specs.model import Model
from ridgeline.specs.number_format import FORMATS
from ridgeline.specs.plan import Plan
from ridgeline.specs.precision import Precision
from ridgeline.specs.scenario import Scenario
from ridgeline.specs.system import System
from ridgeline.validation.exchanges import network_of
from ridgeline.validation.group import Group, Times
from ridgeline.validation.schema import Row

GROUPED_BY = ("model", "dtype", "n_chips", "parallelism", "variant", "phase")
_RATES = ("throughput", "output_throughput_total")
_AT_ONCE = "static batch"  # of rows whose requests run together whatever a server would do
_FP16 = "llama.cpp"  # multiplies and keeps keys and values at 16 bits, whatever the weights are


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
    """Return the name by which the stack of a row is found: of PyTorch, whether it runs eagerly or compiled."""
    framework = row.text("framework")
    return f"{framework} {row.text('variant')}".strip() if framework == "pytorch" else framework


def tokens(row: Row) -> Count:
    """Return the tokens that a row's rate counts: of the prompts, or those generated."""
    return row.number("batch", 1.0) * row.number("isl" if row.text("phase") == "prefill" else "osl")


def times(group: Group) -> Times:
    """Predict whole models: a prompt, the mean step of a generation as often as it runs, or one after the other."""
    setting = _setting(group)
    mapped, ideal = ([_time(setting, row, level) for row in group.rows] for level in ("mapped", "ideal"))
    lower, upper = np.transpose([(one.lower, one.upper) for one in mapped])
    return Times(np.array([one.time for one in mapped]), np.array([one.time for one in ideal]), lower, upper)


class _Timed(NamedTuple):
    """A row's time and the factors of its interval; NaN where the estimate has none."""

    time: Seconds
    lower: Fraction
    upper: Fraction


def _setting(group: Group) -> _Setting:
    chip = group.machine
    if chip.cores is None or chip.cores.clock is None:
        raise InputError(f"{chip.name}: no cores with a clock, which the level mapped needs of a whole model")
    model = load.model(group.text("model").split()[0])  # some tables append the format
    if not isinstance(model, Model):
        raise InputError(f"{model.name}: no transformer, which rows of prompts and generations need")
    members = int(group.rows[0].number("n_chips", 1.0))
    system = System(name=chip.name, chip=chip, tier=network_of(chip.name, "")) if members > 1 else None
    precision = stack_precision(group.stack, _precision(group))  # its sums and its streams are those of the bound too
    return _Setting(chip, system, _plan(group, members), model, precision)


def _plan(group: Group, members: int) -> Plan:
    """Return how a group's chips share the model: by layers or, as rows of weights, by tensor parallelism."""
    split = group.text("parallelism")
    if split == "layer-split":
        return Plan(pipeline=members)
    if split not in ("none", "", f"tp{members}"):
        raise InputError(f"parallelism {split!r} of {members} chips: tensor parallelism or a layer split is predicted")
    return Plan(tensor=members)


def _precision(group: Group) -> Precision:
    """Return the formats of a row's `dtype`; llama.cpp multiplies and keeps keys and values in fp16."""
    found = Precision.parse(group.text("dtype").split("/")[0])
    if group.text("framework").startswith(_FP16) and found.weights.bits < FORMATS["fp16"].bits:
        return replace(found, activations=FORMATS["fp16"], kv=FORMATS["fp16"])
    return found


def _time(setting: _Setting, row: Row, level: str) -> _Timed:
    scenario, repeated = _scenario(setting.model, row)
    found = _estimate(setting, scenario, level)
    time, interval = float(found.time) * repeated, found.interval
    if level == "mapped" and scenario.phase == "generate" and row.text("scenario") != _AT_ONCE:
        time = _in_turns(setting, scenario, found)
    return _Timed(time, math.nan, math.nan) if interval is None else _Timed(time, float(interval.lower), float(interval.upper))


def _estimate(setting: _Setting, scenario: Scenario, level: str) -> Estimate:
    if setting.system is None:
        return estimate(setting.chip, setting.model, scenario, setting.precision, level=level)
    return estimate_plan(setting.system, setting.model, scenario, setting.precision, setting.plan, level=level)


def _in_turns(setting: _Setting, scenario: Scenario, found: Estimate) -> Seconds:
    """Return the time of requests that come together, as many at a time as the server's memory holds.

    A server that reserves room for all output lets in what fits at full length, another what fits at the mean length of a request
    under way. Neglected: requests that are put off and computed again; the memory of activations, for which what a capacity in
    decimal gigabytes leaves out is about enough.
    """
    batch, stack, held = float(scenario.batch), setting.chip.stack, found.capacity
    if stack is None or held is None or float(held.kv) <= 0.0:
        return float(found.time)
    room = stack.memory_share * float(held.available) - float(held.weights)
    whole = float(scenario.prompt + scenario.output)
    cache = float(held.kv) * (1.0 if stack.reserves_output else (whole - float(scenario.output) / 2.0) / whole)
    together = room * batch // cache
    if together >= batch or together < 1.0:
        return float(found.time)
    turns, rest = divmod(batch, together)
    time = turns * float(_estimate(setting, replace(scenario, batch=float(together)), "mapped").time)
    return time + (float(_estimate(setting, replace(scenario, batch=rest), "mapped").time) if rest else 0.0)


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
