"""How a step's time, energy and cost answer to each quantity of the hardware, and what to buy next."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ridgeline.api.analysis import Analysis, analyze
from ridgeline.api.buying import buy_next
from ridgeline.api.money import Prices, cost_of, priced, rate_of, terms_of
from ridgeline.errors import InputError
from ridgeline.search.sensitivity import Elasticity, Outcome, Purchase, elasticities
from ridgeline.specs.base import quantities, with_quantity
from ridgeline.specs.chip import Chip
from ridgeline.specs.model import ConvolutionalModel, Model
from ridgeline.specs.money import Terms
from ridgeline.specs.plan import Plan
from ridgeline.specs.precision import Precision
from ridgeline.specs.system import System

STEPS: Mapping[str, float] = {"ideal": 1e-4, "mapped": 0.1}


@dataclass(frozen=True, kw_only=True, eq=False)
class Sensitivity:
    """The step, and its elasticities, the largest first; `step` is the relative change of each quantity to either side."""

    base: Analysis
    step: float
    rows: tuple[Elasticity, ...]
    buy: tuple[Purchase, ...] = ()  # parts, the most time saved a dollar first
    notes: tuple[str, ...] = ()  # on what is not known of them

    @property
    def elasticities(self) -> dict[str, float]:
        """Elasticity of time by dotted path."""
        return {one.path: one.time for one in self.rows}


def sensitivity(
    model: Model | ConvolutionalModel | str,
    chip: Chip | System | str,
    *,
    count: int | None = None,
    plan: Plan | str | None = None,
    phase: str | None = None,
    precision: Precision | str | None = None,
    level: str | None = None,
    **options: Any,
) -> Sensitivity:
    """Return d log time / d log quantity for every quantity of a chip, or of a system under a plan, by dotted path.

    At `ideal` a central difference of 1e-4 to either side; at `mapped` a secant of 10 %, everything chosen anew at both ends,
    because tiles and waves make steps. `options` take the scenario, the `step`, and `terms` and `prices` of the machine, as
    `rate_of`. Raises as `analyze` does.

    >>> found = sensitivity("llama-3.1-8b", "h100-sxm", level="ideal", batch=1, context=4096)
    >>> round(found.elasticities["memory.hbm.bandwidth"], 3), found.elasticities["matrix_unit.rate.bf16"]
    (-1.0, 0.0)
    """
    step, terms, prices = (options.pop(name, None) for name in ("step", "terms", "prices"))
    asked: dict[str, Any] = {"phase": phase, "precision": precision, **options}
    base = analyze(model, chip, count=count, plan=plan, level=level, **asked)
    if base.axes:
        raise InputError(f"sensitivity takes one scenario: {', '.join(base.axes)} has several values")
    spread, level = base.spread, base.estimate.level
    if level not in STEPS:
        raise InputError(f"level {level!r}: sensitivities are of {', '.join(STEPS)}")
    chosen = STEPS[level] if step is None else step
    if not 0 < chosen < 1:
        raise InputError(f"step {chosen:g}: a relative change between 0 and 1 is wanted")
    # The system with the chip that was asked for: its own `chip.` quantities are those.
    machine = base.chip if spread is None else replace(spread.system, chip=base.chip)
    asked |= {"level": level, "precision": base.precision, "plan": None if spread is None else spread.plan}

    owned = terms if isinstance(terms, Terms) else terms_of(terms)
    paid = _Paid(base.chips, owned, prices, bool(priced(machine)) or prices is not None)

    def outcome(changed: Chip | System) -> Outcome:
        found = analyze(base.model, changed, **asked).estimate
        return paid.outcome(changed, float(found.time), None if found.energy is None else float(found.energy))

    def evaluate(path: str, value: float) -> Outcome:
        return outcome(with_quantity(machine, path, value))

    known = {path: float(value) for path, value in quantities(machine).items()}
    whole = frozenset(path for path in known if _is_whole(path) and level != "ideal") | {
        path for path in known if path.startswith("tier.") and path.endswith(".size")
    }
    energy = None if base.estimate.energy is None else float(base.estimate.energy)
    start = paid.outcome(machine, float(base.estimate.time), energy)
    rows = elasticities(evaluate, known, start, step=chosen, whole=whole)
    buy, notes = buy_next(base, evaluate=outcome, step=chosen, terms=owned)
    return Sensitivity(base=base, step=chosen, rows=rows, buy=buy, notes=notes)


@dataclass(frozen=True, eq=False)
class _Paid:
    """What steps of a machine cost, where its price is known."""

    chips: int
    terms: Terms
    prices: Prices | None
    known: bool

    def outcome(self, machine: Chip | System, time: float, energy: float | None) -> Outcome:
        if not self.known:
            return Outcome(time, energy)
        rate = rate_of(machine, self.chips, terms=self.terms, prices=self.prices)
        return Outcome(time, energy, float(cost_of(machine, time=time, energy=energy, rate=rate).dollars))


_WHOLE = ("cores.count", "matrix_unit.count", "vector_unit.lanes", "transfer.in_flight", "instructions.stream")


def _is_whole(path: str) -> bool:
    return path.removeprefix("chip.").endswith(_WHOLE) or ".macs_per_cycle." in path
