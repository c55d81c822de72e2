"""What a machine costs, all in one answer: a second of it, a model's tokens on it, its silicon."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ridgeline.api.money import Made, Rate, die_cost, priced, rate_of, read_pricing, terms_of
from ridgeline.api.names import load_chip
from ridgeline.api.plans import find_system
from ridgeline.api.token_cost import RequestCost, request_cost
from ridgeline.errors import InputError
from ridgeline.specs.chip import Chip
from ridgeline.specs.model import ConvolutionalModel, Model
from ridgeline.specs.plan import Plan
from ridgeline.specs.system import System


class MachineCost(NamedTuple):
    """A second of the machine, a request on it, its silicon; None where the prices are not known."""

    name: str
    rate: Rate | None
    request: RequestCost | None
    made: Made | None


def machine_cost(
    machine: Chip | System | str,
    *,
    count: int | None = None,
    plan: Plan | str | None = None,
    price: Sequence[str] | None = None,
    silicon: Sequence[str] | Mapping[str, Any] | None = None,
    model: Model | ConvolutionalModel | str | None = None,
    **request: Any,
) -> MachineCost:
    """Return what a chip or a system costs, of everything what its prices allow.

    `price` says purchase or rental and terms, `silicon` the fabrication, as `name=value`; with a `model`, `request` takes those of
    `request_cost`. Raises `InputError` where nothing is known.

    >>> found = machine_cost("h100-sxm")
    >>> found.name, found.request is None, round(found.made.package)
    ('H100 SXM5 80 GB', True, 2532)
    """
    kind, changed = read_pricing(price)
    terms = terms_of(changed)
    system = find_system(machine)
    chip = load_chip(machine) if system is None else system.chip  # pyright: ignore[reportArgumentType]
    asked = Plan.parse(plan) if isinstance(plan, str) else plan
    box = 1 if system is None else _box(system)
    chips = int(asked.chips) if asked is not None else count or box
    if count is not None and count < 1:
        raise InputError(f"count {count}: a whole number of chips, 1 or more, is wanted")
    whole = machine if system is None else system
    rate = rate_of(whole, chips, terms=terms, prices=kind) if priced(chip) or kind is not None else None
    given = _named(silicon)
    made = die_cost(chip, **given) if given or _is_made(chip) else None
    found: RequestCost | None = None
    if model is not None:
        found = request_cost(model, whole, count=chips if asked is None else None, plan=asked, terms=terms, prices=kind, **request)
    if rate is None and made is None:
        rate_of(chip)  # says what is missing
    title = chip.title if system is None else system.title
    return MachineCost(title or chip.name, rate, found, made)


def _box(system: System) -> int:
    """Return the chips of a box, where the system says what a box is; else one chip."""
    host = system.host
    if host.chips is not None:
        return int(host.chips)
    return int(system.tier[0].size) if system.tier and (host.power is not None or host.price is not None) else 1


def _named(given: Sequence[str] | Mapping[str, Any] | None) -> dict[str, Any]:
    if isinstance(given, Mapping):
        return {**given}
    found: dict[str, Any] = {}
    for text in given or ():
        name, sign, value = (one.strip() for one in text.partition("="))
        if not sign:
            raise InputError(f"silicon {text!r}: a name and a value are wanted, as in wafer=17000USD")
        found[name] = value
    return found


def _is_made(chip: Chip) -> bool:
    if chip.package.die_area is None:
        return False
    try:
        die_cost(chip)
    except InputError:
        return False
    return True
