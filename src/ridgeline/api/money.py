"""What a machine costs a second, what its tokens cost, input and output apart, and what its silicon costs to make."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from ridgeline.api.names import load_chip
from ridgeline.api.plans import find_system
from ridgeline.catalogue import prices as catalogue
from ridgeline.costs import money
from ridgeline.errors import InputError, nearest
from ridgeline.quantities import (
    Count,
    Dollars,
    DollarsPerSecond,
    Fraction,
    Joules,
    Quantity,
    Seconds,
    SquareMetres,
    Unit,
    Watts,
)
from ridgeline.specs.base import Source, units_of
from ridgeline.specs.chip import Chip
from ridgeline.specs.money import Fabrication, Terms
from ridgeline.specs.system import System

Prices = Literal["purchase", "rental"]
PRICES: tuple[Prices, ...] = ("purchase", "rental")
MILLION = 1e6


@dataclass(frozen=True, kw_only=True, eq=False)
class Rate:
    """What so many chips of a machine cost a second, and the power that is paid beside theirs; a rental has no parts."""

    kind: Prices
    chips: Count
    capital: Mapping[str, DollarsPerSecond]  # chips, host, network; or rental
    hosting: DollarsPerSecond
    power: Watts  # of the chips at their limit
    overhead: Watts  # of hosts and network, as long as the machine runs
    terms: Terms
    years: Mapping[str, int]  # of the prices, by what they are of
    sources: Mapping[str, Source]
    notes: tuple[str, ...] = ()

    @property
    def fixed(self) -> DollarsPerSecond:
        """What is paid whether the chips work or not."""
        return sum(self.capital.values()) + self.hosting

    @property
    def energy_price(self) -> Quantity:
        """Dollars for a joule that chips or hosts take, with the site's share; a rental contains it."""
        return 0.0 if self.kind == "rental" else self.terms.pue * self.terms.electricity

    @property
    def electricity(self) -> DollarsPerSecond:
        """What is paid for energy where the chips draw their limit."""
        return (self.power + self.overhead) * self.energy_price

    @property
    def whole(self) -> DollarsPerSecond:
        """All of it, at the chips' power limit."""
        return self.fixed + self.electricity


@dataclass(frozen=True, kw_only=True, eq=False)
class Money:
    """What a use of a machine costs; quantities are arrays where the time is one."""

    dollars: Dollars
    energy: Joules  # of chips and hosts, the site's share included
    tokens: Count | None
    rate: Rate

    @property
    def dollars_per_million(self) -> Dollars | None:
        """Dollars for a million tokens."""
        return None if self.tokens is None else self.dollars / self.tokens * MILLION

    @property
    def joules_per_million(self) -> Joules | None:
        """Joules for a million tokens."""
        return None if self.tokens is None else self.energy / self.tokens * MILLION


# ---- owning or renting ------------------------------------------------------------------------------------------------------


def terms_of(given: Mapping[str, Any] | None = None) -> Terms:
    """Return the catalogue's terms of ownership with what is given in their place: text with units, or SI numbers.

    `interest` is a fraction a year. Raises `InputError` for a name that there is not and a value that cannot be.

    >>> round(terms_of({"electricity": "0.10 USD/kW/h"}).electricity * 3.6e6, 3), terms_of({"life": "4 year"}).life
    (0.1, 126230400.0)
    """
    known = catalogue.terms()
    units = {name: unit for name, (unit, _) in units_of(Terms).items()}
    values: dict[str, Any] = {}
    for name, value in (given or {}).items():
        if value is None:
            continue
        if name not in units:
            raise InputError(f"terms have no `{name}`: {nearest(name, units)}")
        unit = Unit("1") if name == "interest" else units[name]
        values[name] = _number(name, value, unit)
    if "interest" in values:
        values["interest"] = catalogue.continuous(values["interest"])
    found = replace(known, **values)
    _check_terms(found)
    own = {name: Source(key=None, confidence="given", note="given") for name in values}
    years = {name: year for name, year in found.years.items() if name not in values}
    return replace(found, sources={**known.sources, **own}, years=years)


def _number(name: str, value: Any, unit: Unit) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        number = float(value)
    else:
        try:
            number = float(unit.read(value))
        except ValueError as error:
            raise InputError(f"{name} {value}: {error}") from None
    if not number >= 0.0 or number == float("inf"):
        raise InputError(f"{name} {value}: 0 or more is wanted")
    return number


def _check_terms(terms: Terms) -> None:
    if not terms.life > 0:
        raise InputError("life 0: what is bought is written off over some time, more than 0")
    if not terms.residual <= 1:
        raise InputError(f"residual {terms.residual:g}: a share of the price, 0 to 1, is wanted")
    if not 0 < terms.utilisation <= 1:
        raise InputError(f"utilisation {terms.utilisation:g}: a share of the time, more than 0 and at most 1, is wanted")
    if not terms.pue >= 1:
        raise InputError(f"pue {terms.pue:g}: energy of the site over that of its machines, 1 or more, is wanted")


def read_pricing(given: Sequence[str] | None) -> tuple[Prices | None, dict[str, str]]:
    """Return what texts say of prices: `purchase` or `rental`, and terms as in `life=4 year`.

    >>> read_pricing(["rental", "utilisation=0.5"])
    ('rental', {'utilisation': '0.5'})
    """
    kind: Prices | None = None
    found: dict[str, str] = {}
    for text in given or ():
        name, sign, value = (one.strip() for one in text.partition("="))
        if sign:
            found[name] = value
        elif name in PRICES:
            kind = "rental" if name == "rental" else "purchase"
        else:
            known = ", ".join(one for one in units_of(Terms))
            raise InputError(f"price {text!r}: choose purchase or rental, or set one of {known}, as in life=4year")
    return kind, found


def priced(machine: Chip | System | str) -> tuple[Prices, ...]:
    """Return the prices that are known of a machine: purchase, rental, both or none.

    >>> priced("h100-sxm"), priced("tpu-v5p"), priced("gemmini")
    (('purchase', 'rental'), ('rental',), ())
    """
    package = _split(machine)[0].package
    known = {"purchase": package.price, "rental": package.rental}
    return tuple(one for one in PRICES if known[one] is not None)


def rate_of(
    machine: Chip | System | str,
    chips: Count = 1,
    *,
    terms: Terms | Mapping[str, Any] | None = None,
    prices: Prices | None = None,
) -> Rate:
    """Return what so many chips of a chip or a system cost a second: bought (where a price is known) or rented.

        purchase: Σ annuities of chips, hosts, network + hosting · power + electricity · PUE · energy
        rental:   chips · rent, which contains all of that

    A box is shared: n chips of a box of m carry n / m of its host. Of the network they carry the tiers that they span. Raises
    `InputError` where no price is known, or not the one asked for.

    >>> rate = rate_of("h100-sxm", terms={"life": "5 year", "hosting": 0.0, "electricity": 0.0})
    >>> round(rate.whole * 3600, 3)  # dollars an hour: 30000 / 43830
    0.684
    """
    chip, system = _split(machine)
    asked = terms if isinstance(terms, Terms) else terms_of(terms)
    kind = _kind(chip, prices)
    years: dict[str, int] = {}
    sources: dict[str, Source] = {}
    power = 0.0 if chip.package.power is None else chip.package.power * chips
    if kind == "rental":
        _note_price(chip, "package.rental", chip.package.rental_year, years, sources)
        return Rate(
            kind=kind,
            chips=chips,
            capital={"rental": chip.package.rental * chips},
            hosting=0.0,
            power=power,
            overhead=0.0,
            terms=asked,
            years=years,
            sources=sources,
        )
    bought: dict[str, Dollars] = {"chips": chip.package.price * chips}
    _note_price(chip, "package.price", chip.package.price_year, years, sources)
    notes = [f"{chip.name} states no power limit: its electricity and hosting are left out"] if not power else []
    overhead, beside = (0.0, {}) if system is None else _beside(system, chips, years, sources, notes)
    bought |= beside
    writing = {"residual": asked.residual, "life": asked.life, "interest": asked.interest}
    return Rate(
        kind=kind,
        chips=chips,
        capital={name: money.annuity(price=price, **writing) for name, price in bought.items()},
        hosting=money.hosting(power=power + overhead, price=asked.hosting),
        power=power,
        overhead=overhead,
        terms=asked,
        years={**years, **asked.years},
        sources={**sources, **{f"terms.{name}": one for name, one in asked.sources.items()}},
        notes=tuple(notes),
    )


def _split(machine: Chip | System | str) -> tuple[Chip, System | None]:
    system = find_system(machine)
    return (load_chip(machine), None) if system is None else (system.chip, system)  # pyright: ignore[reportArgumentType]


def _kind(chip: Chip, prices: Prices | None) -> Prices:
    if prices is not None and prices not in PRICES:
        raise InputError(f"prices {prices!r}: choose {', '.join(PRICES)}")
    known = priced(chip)
    if not known or (prices is not None and prices not in known):
        wanted = f"{prices} price" if prices else "price"
        has = f"; it has a {known[0]} price" if known else ""
        raise InputError(
            f'{chip.name} has no {wanted}: a chip file gives `price = {{ value = 30000, unit = "USD", year = 2023 }}` or '
            f'`rental = {{ value = 2.5, unit = "USD/h", year = 2025 }}` in [package]{has}'
        )
    return prices or known[0]


def _note_price(spec: Chip | System, path: str, year: int | None, years: dict[str, int], sources: dict[str, Source]) -> None:
    if year is None:
        raise InputError(f"{spec.name}: `{path}` has no year: a price is of a year, as in year = 2024")
    years[f"{spec.name}.{path}"] = year
    if path in spec.sources:
        sources[f"{spec.name}.{path}"] = spec.sources[path]


def _beside(
    system: System, chips: Count, years: dict[str, int], sources: dict[str, Source], notes: list[str]
) -> tuple[Watts, dict[str, Dollars]]:
    """Return the power and the prices of what is in boxes and between them, for so many chips."""
    host, power = system.host, 0.0
    found: dict[str, Dollars] = {}
    box = host.chips or (system.tier[0].size if system.tier else 1)
    if host.power is not None:
        power = power + host.power * chips / box
    if host.price is not None:
        found["host"] = host.price * chips / box
        _note_price(system, "host.price", host.price_year, years, sources)
    else:
        notes.append(f"{system.name} states no price of its hosts: they are left out")
    members, reach = chips, 1.0
    for index, tier in enumerate(system.tier):
        if index and not members > 1:
            break
        reach = reach * tier.size
        if tier.power is not None:
            power = power + tier.power * members
        if tier.price is not None:
            found["network"] = found.get("network", 0.0) + tier.price * members
            _note_price(system, f"tier.{tier.name}.price", tier.price_year, years, sources)
        elif reach > box:
            notes.append(f"{system.name} states no price of its tier {tier.name}: it is left out")
        members = members / tier.size
    return power, found


def cost_of(
    machine: Chip | System | str,
    *,
    time: Seconds,
    energy: Joules | None = None,
    tokens: Count | None = None,
    chips: Count = 1,
    terms: Terms | Mapping[str, Any] | None = None,
    prices: Prices | None = None,
    rate: Rate | None = None,
) -> Money:
    """Return what a use of a machine costs: `time` of all its `chips`, `energy` of the chips (None: their power limit), `tokens`.

        dollars = fixed · time / utilisation + (energy + hosts' power · time) · PUE · price of electricity

    Time, energy and tokens may be arrays. Pass the `rate` of an earlier call to skip its look-ups. Raises as `rate_of`.

    >>> found = cost_of("h100-sxm", time=3600.0, tokens=1e6, prices="rental")
    >>> found.dollars_per_million == found.dollars
    True
    """
    at = rate or rate_of(machine, chips, terms=terms, prices=prices)
    drawn = (at.power * time if energy is None else energy) + at.overhead * time
    fixed = money.use_cost(rate=at.fixed, time=time, utilisation=at.terms.utilisation)
    return Money(dollars=fixed + drawn * at.energy_price, energy=drawn * at.terms.pue, tokens=tokens, rate=at)


# ---- what a package costs to make -------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False)
class Made:
    """What a chip's package costs to make."""

    chip: Chip
    fabrication: Fabrication
    area: SquareMetres  # of all compute dies
    parts: Count  # compute dies of a package
    dies: Count  # of a wafer
    good: Fraction
    die: Dollars  # all compute dies of a package
    memory: Dollars | None  # None: no price of its technology
    package: Dollars
    notes: tuple[str, ...] = field(default=())


def die_yield(area: SquareMetres, at: Fabrication) -> Fraction:
    """Return the share of good dies by the fabrication's model; in Bose–Einstein each layer has its part of the defects."""
    models = {
        "poisson": lambda: money.poisson_yield(area=area, defects=at.defects),
        "murphy": lambda: money.murphy_yield(area=area, defects=at.defects),
        "negative-binomial": lambda: money.negative_binomial_yield(area=area, defects=at.defects, clustering=at.clustering),
        "bose-einstein": lambda: money.bose_einstein_yield(area=area, defects=at.defects / at.layers, layers=at.layers),
    }
    if at.yield_model not in models:
        raise InputError(f"yield model {at.yield_model!r}: choose {', '.join(models)}")
    return models[at.yield_model]()


def made_of(
    area: SquareMetres, capacity: Quantity | None, technology: str | None, at: Fabrication, parts: Count = 1
) -> tuple[Dollars, Dollars]:
    """Return what so many equal dies of an area together, and the whole package, cost; memory without a price is left out."""
    each = area / parts
    dies = money.gross_dies(diameter=at.diameter, area=each, edge=at.edge, scribe=at.scribe)
    die = parts * money.die_cost(wafer=at.wafer, dies=dies, good=die_yield(each, at))
    price = at.memory.get(technology or "")
    held = 0.0 if price is None or capacity is None else money.memory_price(capacity=capacity, price=price)
    return die, money.package_cost(dies=die, memory=held, packaging=at.packaging, assembled=at.assembled)


def die_cost(chip: Chip | str, **given: Any) -> Made:
    """Return what a chip's package costs to make: its die from area, wafer price and yield, its memory, its packaging.

    `given` takes the fields of `Fabrication` in place of the catalogue's: wafer, defects, yield_model, clustering, layers,
    packaging, assembled …, text with units or SI numbers. The file's area is that of its `package.dies` equal dies. Raises
    `InputError` without `package.die_area`, or where neither node nor `wafer` says what a wafer costs.

    >>> made = die_cost("h100-sxm")
    >>> round(made.dies), round(made.good, 2), round(made.memory)  # 814 mm², 0.1 defects a cm², 80 GB at 15 dollars
    (60, 0.49, 1200)
    """
    one = load_chip(chip)
    area = one.package.die_area
    if area is None:
        raise InputError(f"{one.name} has no `package.die_area`, which the cost of a die needs")
    at = fabrication_of(one, given)
    memory, parts = one.main_memory, one.package.dies or 1
    each = area / parts
    dies = money.gross_dies(diameter=at.diameter, area=each, edge=at.edge, scribe=at.scribe)
    if not dies >= 1:
        raise InputError(f"{one.name}: a die of {each * 1e6:g} mm² does not fit a wafer of {at.diameter * 1e3:g} mm")
    die, package = made_of(area, memory.capacity, memory.technology, at, parts)
    price = at.memory.get(memory.technology or "")
    notes = ["dies that sell with parts switched off count as bad, and margins, tests, masks and design are left out"]
    if price is None and memory.technology != "SRAM":
        notes.append(f"memory of {memory.technology or 'an unknown technology'} has no price: it is left out")
    if each > 858e-6:
        notes.append("the area is beyond a reticle (858 mm²): more dies than the file says, whose yield is better")
    if parts > 1:
        notes.append("dies that are not for computing (input and output, caches), where there are some, are not counted")
    held = None if price is None else money.memory_price(capacity=memory.capacity, price=price)
    return Made(
        chip=one,
        fabrication=at,
        area=area,
        parts=parts,
        dies=dies,
        good=die_yield(each, at),
        die=die,
        memory=held,
        package=package,
        notes=tuple(notes),
    )


def fabrication_of(chip: Chip, given: Mapping[str, Any] | None = None) -> Fabrication:
    """Return what fabrication costs at a chip's node, with what is given in place of the catalogue's; raises as `die_cost`."""
    values = _fabrication_values({name: value for name, value in (given or {}).items() if value is not None})
    memory = chip.main_memory.technology
    link = chip.link[0].name if chip.link else None
    found = catalogue.fabrication(chip.package.node, memory, link)
    if found is None:
        if "wafer" not in values:
            node = "no node" if chip.package.node is None else f"a node of {chip.package.node * 1e9:g} nm"
            known = ", ".join(catalogue.known_wafers())
            raise InputError(f"{chip.name} has {node}: wafers have a price at {known}; or give one")
        found = catalogue.fabrication(5e-9, memory, link)
    if found is None:
        raise InputError("the catalogue has no price of a wafer")
    own = {name: Source(key=None, confidence="given", note="given") for name in values}
    years = {name: year for name, year in found.years.items() if name not in values}
    return replace(found, **values, sources={**found.sources, **own}, years=years)


def _fabrication_values(given: Mapping[str, Any]) -> dict[str, Any]:
    units = {name: unit for name, (unit, mapped) in units_of(Fabrication).items() if not mapped}
    known = [one.name for one in fields(Fabrication) if one.name in units or one.name == "yield_model"]
    found: dict[str, Any] = {}
    for name, value in given.items():
        if name not in known:
            raise InputError(f"fabrication has no `{name}`: {nearest(name, known)}")
        found[name] = value if name == "yield_model" else _number(name, value, units[name])
    for name in ("wafer", "clustering", "layers", "diameter"):
        if not found.get(name, 1.0) > 0:
            raise InputError(f"{name} 0: more than 0 is wanted")
    if not 0 < found.get("assembled", 1.0) <= 1:
        raise InputError(f"assembled {found['assembled']:g}: a yield is more than 0 and at most 1")
    return found
