"""Dollars and joules per million tokens, input and output apart: of an analysis, of a request on a plan, of a served run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ridgeline.api.analysis import Analysis, analyze
from ridgeline.api.money import Money, Prices, Rate, cost_of, priced, rate_of, read_pricing
from ridgeline.api.serving import Served
from ridgeline.errors import InputError
from ridgeline.quantities import Count, Dollars
from ridgeline.search.plan import replicas
from ridgeline.specs.chip import Chip
from ridgeline.specs.model import ConvolutionalModel, Model
from ridgeline.specs.money import Terms
from ridgeline.specs.system import System


@dataclass(frozen=True, kw_only=True, eq=False)
class TokenCost:
    """What a use costs, and of it what prompts (input) and generated tokens (output) cost; None where there are none."""

    whole: Money
    input: Money | None
    output: Money | None
    unit: str = "tokens"  # or images, where a model takes those
    notes: tuple[str, ...] = ()

    @property
    def rate(self) -> Rate:
        """What the machine costs a second."""
        return self.whole.rate


def analysis_cost(
    analysis: Analysis, *, terms: Terms | Mapping[str, Any] | None = None, prices: Prices | None = None
) -> TokenCost | None:
    """Return what an analysed step costs, by its own time and energy; None where no price of the chip is known.

    A prefill or an encoding is all input, a decode step all output. Of a generation the prefill is charged to the input, the rest
    to the output, whose first token comes with the prefill. Tokens of a training step are input. Asked for a price that is not
    there it raises `InputError`.
    """
    machine = machine_of(analysis)
    if not priced(machine) and prices is None:
        return None
    found = analysis.estimate
    rate = rate_of(machine, analysis.chips, terms=terms, prices=prices)
    whole = cost_of(machine, time=found.time, energy=found.energy, tokens=found.tokens, rate=rate)
    scenario = analysis.scenario
    if scenario.phase == "decode":
        return TokenCost(whole=whole, input=None, output=whole)
    if scenario.phase != "generate":
        tokens = found.tokens if scenario.phase != "prefill" else found.tokens / _axis(analysis, "samples")
        one = replace(whole, tokens=tokens)
        return TokenCost(whole=one, input=one, output=None, unit="images" if _takes_images(analysis.model) else "tokens")
    prefill = _prefill_of(analysis, machine)
    batch, samples, output = (_axis(analysis, name) for name in ("batch", "samples", "output"))
    first = cost_of(machine, time=prefill.time, energy=prefill.energy, tokens=prefill.tokens / samples, rate=rate)
    rest = replace(whole, dollars=whole.dollars - first.dollars, energy=whole.energy - first.energy, tokens=batch * output)
    return TokenCost(whole=whole, input=first, output=rest)


def priced_analysis(analysis: Analysis, price: Sequence[str] | None) -> TokenCost | None:
    """Return what an analysed step costs by prices and terms as text; None where no price is known and none was asked for."""
    kind, terms = read_pricing(price)
    return analysis_cost(analysis, terms=terms, prices=kind)


def _takes_images(model: Model | ConvolutionalModel) -> bool:
    return isinstance(model, ConvolutionalModel) or (bool(model.encoder) and not model.decoder and model.patches is not None)


def machine_of(analysis: Analysis) -> Chip | System:
    """Return the chip, or the system with that chip, that an analysis is of."""
    spread = analysis.spread
    return analysis.chip if spread is None else replace(spread.system, chip=analysis.chip)


def _axis(analysis: Analysis, name: str) -> Any:
    """Return a count of the scenario, as an array along its axis where it has one."""
    names = list(analysis.axes)
    if name not in names:
        return getattr(analysis.scenario, name)
    shape = [1] * len(names)
    shape[names.index(name)] = -1
    return np.reshape(analysis.axes[name], shape)


def _prefill_of(analysis: Analysis, machine: Chip | System) -> Any:
    """Return the estimate of a generation's prefill by itself, over the same axes."""
    scenario, spread = analysis.scenario, analysis.spread
    names = ("batch", "prompt", "samples", "source_tokens", "routing_skew", "latent")
    asked = {name: getattr(scenario, name) for name in names}
    outer = {name: values for name, values in analysis.axes.items() if name not in ("output", "verified", "acceptance")}
    found = analyze(
        analysis.model,
        machine,
        plan=None if spread is None else spread.plan,
        phase="prefill",
        precision=analysis.precision,
        level=analysis.estimate.level,
        residency=analysis.residency,
        **{**asked, **outer},
    ).estimate
    gone = [index for index, name in enumerate(analysis.axes) if name not in outer]
    shaped = {
        name: np.expand_dims(np.asarray(getattr(found, name)), tuple(gone))
        for name in ("time", "energy", "tokens")
        if gone and getattr(found, name) is not None
    }
    return replace(found, **shaped)


# ---- served runs ------------------------------------------------------------------------------------------------------------


def served_cost(found: Served, price: Sequence[str] | None = None) -> TokenCost | None:
    """Return what a served run cost from its first arrival to its last token, idle time included; None where no price is known.

    Of every step prompts and decoding are charged with what each would take alone in proportion, of a replica's idle time likewise.
    `price` is text, as `read_pricing` takes. A utilisation among the terms counts time beyond the run.
    """
    kind, terms = read_pricing(price)
    spread, metrics = found.spread, found.metrics
    machine = found.chip if spread is None else replace(spread.system, chip=found.chip)
    if not priced(machine) and kind is None:
        return None
    rate = rate_of(machine, 1 if spread is None else int(spread.plan.chips), terms=terms, prices=kind)
    machines = len(found.played.busy)
    time = metrics.duration * machines
    tokens = {"input": metrics.prompt_tokens_per_second, "output": metrics.tokens_per_second}
    counts = {name: rate_a_second * metrics.duration for name, rate_a_second in tokens.items()}
    whole = cost_of(machine, time=time, energy=metrics.energy, tokens=sum(counts.values()), rate=rate)
    dynamic = found.played.dynamic_energy
    total = (metrics.energy or 0.0) + rate.overhead * time
    first = found.charges.time
    energy = (first * max(total - dynamic, 0.0) + found.charges.energy * dynamic) / total if metrics.energy else first
    fixed = whole.dollars - whole.energy / rate.terms.pue * rate.energy_price
    parts = {"input": (first, energy), "output": (1.0 - first, 1.0 - energy)}
    sides = {
        name: replace(
            whole,
            dollars=fixed * of_time + (whole.dollars - fixed) * of_energy,
            energy=whole.energy * of_energy,
            tokens=counts[name] or None,
        )
        for name, (of_time, of_energy) in parts.items()
    }
    return TokenCost(whole=whole, input=sides["input"], output=sides["output"])


# ---- requests ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False)
class RequestCost:
    """What requests of so many tokens cost in steady serving, each phase by itself."""

    prefill: Analysis
    decode: Analysis
    prompt: Count
    output: Count
    tokens: TokenCost
    dollars: Dollars  # of one request


def request_cost(
    model: Model | ConvolutionalModel | str,
    machine: Chip | System | str,
    *,
    prompt: int = 1024,
    output: int = 256,
    batch: int = 64,
    terms: Terms | Mapping[str, Any] | None = None,
    prices: Prices | None = None,
    **asked: Any,
) -> RequestCost:
    """Return dollars and joules per million input and output tokens of requests on a machine that is always full.

        input:  prefill of one prompt in each group of ranks / its tokens
        output: decode step of `batch` sequences at their mean context, prompt + output / 2, / tokens that they gain

    Chips do both in turn, so that a request costs p · input + o · output. Idle time is charged by `utilisation`. `asked` takes
    count, plan, precision and level. Raises as `analyze` and `rate_of`.

    >>> found = request_cost("llama-3.1-8b", "h100-sxm", level="ideal", prices="rental")
    >>> found.tokens.output.dollars_per_million > found.tokens.input.dollars_per_million
    True
    """
    for name, value in (("prompt", prompt), ("output", output), ("batch", batch)):
        if value < 1 or value != int(value):
            raise InputError(f"{name} {value:g}: a whole number of 1 or more is wanted")
    decode = analyze(model, machine, phase="decode", batch=batch, context=max(1, round(prompt + output / 2)), **asked)
    groups = 1 if decode.spread is None else replicas(decode.spread.plan)
    prefill = analyze(model, machine, phase="prefill", batch=groups, prompt=prompt, **asked)
    rate = rate_of(machine_of(decode), decode.chips, terms=terms, prices=prices)
    costs = [
        cost_of(machine_of(decode), time=one.estimate.time, energy=one.estimate.energy, tokens=one.estimate.tokens, rate=rate)
        for one in (prefill, decode)
    ]
    first, rest = costs
    dollars = prompt * first.dollars / first.tokens + output * rest.dollars / rest.tokens
    energy = prompt * first.energy / first.tokens + output * rest.energy / rest.tokens
    whole = Money(dollars=dollars, energy=energy, tokens=prompt + output, rate=rate)
    tokens = TokenCost(whole=whole, input=first, output=rest)
    return RequestCost(prefill=prefill, decode=decode, prompt=prompt, output=output, tokens=tokens, dollars=dollars)
