"""Published accelerators at one process node, by a named rule, and ranked: what can be compared, and why the rest cannot.

A rule brings a design as it is, with its transistors, to another node: operations a second and operations a joule each change by
a factor. Memory interfaces do not scale with logic: a design whose operations are done beside banks of DRAM, or in arrays of memory
cells, is listed and not normalised.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple, get_args

from ridgeline.costs.scaling import check_voltage, performance_ratio, provenance, scale_area, scale_energy
from ridgeline.errors import InputError, nearest
from ridgeline.quantities import Fraction, Hertz, Metres, Volts, show
from ridgeline.specs.base import Source
from ridgeline.specs.technology import Node

RuleName = Literal["nominal", "equations", "constant-field", "post-dennard", "fpga-frequency"]
Measure = Literal["performance", "efficiency", "speed-up"]
MEASURES: Mapping[Measure, str] = {"performance": "OP/s", "efficiency": "OP/J", "speed-up": "times a baseline"}
FORMULAS: Mapping[RuleName, str] = {
    "nominal": "scaling equations of delay and energy, each node at the nominal supply of its transistor models",
    "equations": "scaling equations of delay and energy, at the voltages that were given",
    "constant-field": "delay with the feature size, energy with its cube: voltage follows size",
    "post-dennard": "delay with the feature size, energy with it too: voltage stays",
    "fpga-frequency": "measured highest frequencies of one design on FPGAs of both nodes; energy unknown",
}

# ---- published rows ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One published figure in SI units with its source; `high` where it is a range, `against` where it is relative."""

    figure: str
    low: float | None
    high: float | None = None
    against: str = ""
    text: str = ""
    source: Source


@dataclass(frozen=True, kw_only=True)
class Accelerator:
    """A published accelerator: its cells, each with its own source and confidence."""

    name: str
    cells: tuple[Cell, ...]
    modelled: bool = False  # computed here from a chip's file

    def cell(self, figure: str) -> Cell | None:
        """Return the cell of a figure; None where there is none."""
        return next((one for one in self.cells if one.figure == figure), None)

    def value(self, figure: str) -> float | None:
        """Return a figure in SI units; None where it was not published."""
        found = self.cell(figure)
        return None if found is None else found.low

    def text(self, figure: str) -> str:
        """Return a figure that is text; empty where it was not published."""
        found = self.cell(figure)
        return "" if found is None else found.text

    @property
    def nodes(self) -> tuple[Metres, ...]:
        """Every process node that is published: chips of two tiers have two."""
        return tuple(one.low for one in self.cells if one.figure == "node" and one.low is not None)

    def gains(self, figure: str) -> tuple[Cell, ...]:
        """Return all cells of a gain, against each baseline."""
        return tuple(one for one in self.cells if one.figure == figure)


# ---- rules ------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False)
class Rule:
    """How figures are brought to a node: the rule's name, where it is to end, and what it needs to know."""

    name: RuleName
    target: Metres
    find: Callable[[Metres], tuple[Node, str]]  # the node that a size is, or is taken as, and why
    source_voltage: Volts | None = None
    target_voltage: Volts | None = None
    frequencies: Mapping[Metres, Hertz] = field(default_factory=dict[Metres, Hertz])

    @property
    def text(self) -> str:
        """The rule as it is printed."""
        size = f"{self.target * 1e9:g} nm"
        volts = ""
        if self.name == "equations":
            volts = f", {self.source_voltage:g} V to {self.target_voltage:g} V"
        elif self.name == "nominal":
            volts = f", to {self.find(self.target)[0].nominal:g} V"
        return f"{self.name} to {size}{volts}: {FORMULAS[self.name]}"


class Factors(NamedTuple):
    """What a rule does to operations a second and to operations a joule; None where it says nothing."""

    performance: Fraction
    efficiency: Fraction | None
    notes: tuple[str, ...]


def make_rule(
    name: str,
    target: Metres,
    find: Callable[[Metres], tuple[Node, str]],
    *,
    source_voltage: Volts | None = None,
    target_voltage: Volts | None = None,
    frequencies: Mapping[Metres, Hertz] | None = None,
) -> Rule:
    """Return a rule; raise `InputError` for a name, a node or a voltage that it cannot work with."""
    known = get_args(RuleName)
    if name not in known:
        raise InputError(f"rule {name!r}: {nearest(name, known)}")
    rule = Rule(name=name, target=target, find=find, source_voltage=source_voltage, target_voltage=target_voltage)  # pyright: ignore[reportArgumentType]
    volts = {"source voltage": source_voltage, "target voltage": target_voltage}
    if name == "equations":
        for what, value in volts.items():
            if value is None:
                raise InputError(f"rule equations: the {what} is missing: give both, or take the rule nominal")
    elif any(value is not None for value in volts.values()):
        raise InputError(f"rule {name}: it takes no voltages; the rule equations does")
    node = find(target)[0]  # refuses a size that is no node
    if name == "equations":
        check_voltage(node, target_voltage)
    if name == "fpga-frequency":
        rule = replace(rule, frequencies=dict(frequencies or {}))
        if _at(rule.frequencies, target) is None:
            raise InputError(f"rule fpga-frequency: no frequency is known at {target * 1e9:g} nm: known are {_sizes(rule)}")
    return rule


def _sizes(rule: Rule) -> str:
    return f"{', '.join(f'{size * 1e9:g}' for size in sorted(rule.frequencies, reverse=True))} nm" if rule.frequencies else "none"


def _at(frequencies: Mapping[Metres, Hertz], size: Metres) -> Hertz | None:
    return next((value for one, value in frequencies.items() if abs(one - size) < 1e-3 * size), None)


def factors(rule: Rule, source: Metres) -> Factors:
    """Return what a rule does to a design that is published at a node.

        nominal, equations  performance · delay(source) / delay(target), efficiency · energy(source) / energy(target)
                            [stillmaker2017scaling]
        constant-field      performance · S, efficiency · S³   S = source / target feature size [dennard1974, Table 1]
        post-dennard        performance · S, efficiency · S    [taylor2012dark, Table 1]: what does not fit the power stays dark
        fpga-frequency      performance · frequency(target) / frequency(source)

    The design keeps its transistors: nothing is added in the area that it frees. Raises `InputError` where the rule cannot be
    applied: a size that is no node, a voltage outside its range.
    """
    ratio = source / rule.target
    if rule.name == "constant-field":
        return Factors(ratio, ratio**3, ())
    if rule.name == "post-dennard":
        return Factors(ratio, ratio, ())
    if rule.name == "fpga-frequency":
        before, after = _at(rule.frequencies, source), _at(rule.frequencies, rule.target)
        if before is None or after is None:
            raise InputError(f"no frequency of the design is known at {source * 1e9:g} nm: known are {_sizes(rule)}")
        return Factors(after / before, None, ())
    (old, why), (new, also) = rule.find(source), rule.find(rule.target)
    volts = (old.nominal, new.nominal) if rule.name == "nominal" else (rule.source_voltage, rule.target_voltage)
    places = {"source": old, "source_voltage": volts[0], "target": new, "target_voltage": volts[1]}
    notes = (*(one for one in (why, also) if one), *provenance(old, new))
    return Factors(performance_ratio(**places), 1.0 / scale_energy(1.0, **places), notes)  # pyright: ignore[reportArgumentType]


# ---- a row at the node ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Normalised:
    """An accelerator beside its figures at the common node, or beside the reason why it has none."""

    accelerator: Accelerator
    rule: str
    performance: float | None = None
    efficiency: float | None = None
    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def is_normalised(self) -> bool:
        """Whether any of its figures is at the common node."""
        return self.performance is not None or self.efficiency is not None

    @property
    def reason(self) -> str | None:
        """Why a figure is missing; None where none is."""
        return "; ".join(self.reasons) or None


_SCALES: Mapping[str, str] = {
    "dram": "it computes beside banks of DRAM, whose interfaces are not scaled with logic",
    "resistive": "it computes in arrays of memory cells, which do not follow the scaling of logic",
    "": "software or an unknown substrate: there is no logic to scale",
}


def normalise(one: Accelerator, rule: Rule) -> Normalised:
    """Bring an accelerator's figures to the rule's node, or say why that cannot be done; never drops it."""
    measured = {name: one.value(name) for name in ("performance", "efficiency")}
    missing = tuple(f"no {name} is published" for name, value in measured.items() if value is None)
    obstacle = _obstacle(one, rule)
    if obstacle:
        return Normalised(accelerator=one, rule=rule.name, reasons=(obstacle, *missing))
    node = next(iter(one.nodes))
    if _is_there(node, rule):
        return Normalised(accelerator=one, rule="as published", reasons=missing, **measured, notes=("published at this node",))
    try:
        by = factors(rule, node)
    except InputError as error:
        return Normalised(accelerator=one, rule=rule.name, reasons=(str(error), *missing))
    performance, efficiency = measured["performance"], measured["efficiency"]
    silent = (f"{rule.name} says nothing of energy",) if by.efficiency is None and efficiency is not None else ()
    return Normalised(
        accelerator=one,
        rule=rule.name,
        performance=None if performance is None else performance * by.performance,
        efficiency=None if efficiency is None or by.efficiency is None else efficiency * by.efficiency,
        reasons=(*missing, *silent),
        notes=by.notes,
    )


def _obstacle(one: Accelerator, rule: Rule) -> str:
    """Return why a rule cannot be applied to an accelerator; empty where it can."""
    node = next(iter(one.nodes), None)
    if node is None:
        return "no process node is published"
    if len(one.nodes) > 1:
        return f"made in {' and '.join(f'{size * 1e9:g}' for size in one.nodes)} nm: no one factor brings both to a node"
    if _is_there(node, rule):
        return ""
    if one.text("scales as") != "logic":
        return _SCALES.get(one.text("scales as"), _SCALES[""])
    if rule.name == "fpga-frequency" and not one.text("platform").startswith("FPGA"):
        return "the rule is of FPGAs"
    return ""


def _is_there(size: Metres, rule: Rule) -> bool:
    """Say whether a figure is at the target already: same node, and no voltages that say otherwise."""
    same = rule.name != "equations" or rule.source_voltage == rule.target_voltage
    return same and abs(size - rule.target) < 1e-3 * rule.target


# ---- ranks ------------------------------------------------------------------------------------------------------------------


class Place(NamedTuple):
    """One accelerator's place in a ranking."""

    rank: int
    name: str
    value: float
    against: str


def rank(rows: Sequence[Normalised], by: str, *, only: Sequence[str] = (), baseline: str | None = None) -> tuple[Place, ...]:
    """Rank accelerators by one measure: figures at the common node, or speed-ups against one named baseline.

    Raises `InputError` for two measures at once, for speed-ups without one baseline that names a machine, and for an accelerator
    asked for by name (`only`) that has no such figure.
    """
    measure = _measure(by)
    known = {row.accelerator.name: row for row in rows}
    for name in only:
        if name not in known:
            raise InputError(f"accelerator {name!r} is not in the survey: {nearest(name, known)}")
    chosen = [known[name] for name in only] if only else list(rows)
    if measure == "speed-up":
        found = _speed_ups(chosen, baseline, bool(only))
    elif baseline is not None:
        raise InputError(f"ranked by {measure}: a baseline is of speed-ups only")
    else:
        found = [(row.accelerator.name, _figure(row, measure, bool(only)), "") for row in chosen]
    listed = sorted(((name, value, against) for name, value, against in found if value is not None), key=lambda one: -one[1])
    return tuple(Place(index, *one) for index, one in enumerate(listed, start=1))


def _measure(by: str) -> Measure:
    asked = [one.strip() for one in by.split(",")]
    for one in asked:
        if one not in MEASURES:
            raise InputError(f"ranked by {one!r}: {nearest(one, MEASURES)}")
    if len(asked) > 1:
        units = " and ".join(f"{one} in {MEASURES[one]}" for one in asked)  # pyright: ignore[reportArgumentType]
        raise InputError(f"ranked by {by}: {units} cannot be in one ranking; ask for one of them")
    return asked[0]  # pyright: ignore[reportReturnType]


def _figure(row: Normalised, measure: str, must: bool) -> float | None:
    value = row.performance if measure == "performance" else row.efficiency
    if value is None and must:
        raise InputError(f"{row.accelerator.name} cannot be ranked by {measure}: {row.reason}")
    return value


UNNAMED = frozenset(
    {"", "CPU", "GPU", "GPU / PIM", "prior FPGA accelerators", "prior compute-in-memory chips", "itself without reduction units"}
)


def baselines(rows: Sequence[Normalised]) -> dict[str, int]:
    """Return every baseline of a speed-up with the accelerators that name it, the most frequent first."""
    found: dict[str, int] = {}
    for row in rows:
        for against in {cell.against for cell in row.accelerator.gains("speed-up")}:
            found[against] = found.get(against, 0) + 1
    return dict(sorted(found.items(), key=lambda one: (-one[1], one[0])))


def _speed_ups(chosen: Sequence[Normalised], baseline: str | None, must: bool) -> list[tuple[str, float | None, str]]:
    named = [one for one in baselines(chosen) if one not in UNNAMED]
    if baseline is None:
        raise InputError(
            f"speed-ups against different baselines are no ranking: name one with --baseline, such as {', '.join(named[:6])}"
        )
    if baseline in UNNAMED:
        raise InputError(f"baseline {baseline!r} names no machine: those of different papers differ; named are {', '.join(named)}")
    if not must and baseline not in named:
        raise InputError(f"no speed-up against {baseline!r} is published: {nearest(baseline, named)}")
    found: list[tuple[str, float | None, str]] = []
    for row in chosen:
        cells = [cell for cell in row.accelerator.gains("speed-up") if cell.against == baseline]
        if not cells and must:
            others = ", ".join(cell.against or "nothing named" for cell in row.accelerator.gains("speed-up")) or "nothing"
            raise InputError(f"{row.accelerator.name} has no speed-up against {baseline}: it was compared with {others}")
        found += [(row.accelerator.name, cell.low, cell.against) for cell in cells[:1]]
    return found


# ---- the published example --------------------------------------------------------------------------------------------------


class Attempt(NamedTuple):
    """What a rule makes of the survey's published example, beside what the survey prints."""

    rule: str
    value: float
    difference: Fraction  # of the survey's factor


def attempts(
    value: float, published: float, source: Metres, target: Metres, nodes: Sequence[Node], *, step: Volts = 0.05
) -> tuple[Attempt, ...]:
    """Try every rule, and the equations at voltages in steps within each node's range, on a published example; nearest first.

    The survey brings 372 000 GOP/s at 14 nm to 363 647 at 16 nm and does not say at which voltages. Beside the rules of the survey
    command stand three that one might have meant: the same node by another name, as much as the same area or the same power does.
    """
    ratio = source / target
    tried = [("constant-field, post-dennard", value * ratio), ("unchanged: both sizes taken as one node", value)]
    olds = [one for one in nodes if abs(one.feature - source) < 1e-3 * source]
    news = [one for one in nodes if abs(one.feature - target) < 1e-3 * target]
    for old in olds:
        for new in news:
            tried.append((f"nominal, {old.name} to {new.name}", value * _speed(old, old.nominal, new, new.nominal)))
            power = scale_energy(1.0, source=old, source_voltage=old.nominal, target=new, target_voltage=new.nominal)
            tried.append((f"nominal at the same power, {old.name} to {new.name}", value / power))
            for before in _steps(old, step):
                for after in _steps(new, step):
                    name = f"equations, {old.name} at {before:g} V to {new.name} at {after:g} V"
                    tried.append((name, value * _speed(old, before, new, after)))
    if olds and news:
        tried.append(("as much as the same area does", value / scale_area(1.0, source=olds[0], target=news[0])))
    found = [Attempt(name, got, got / published - 1.0) for name, got in tried]
    return tuple(sorted(found, key=lambda one: abs(one.difference)))


def _speed(old: Node, before: Volts, new: Node, after: Volts) -> Fraction:
    return performance_ratio(source=old, source_voltage=before, target=new, target_voltage=after)


def _steps(node: Node, step: Volts) -> list[Volts]:
    first = -(-node.lowest // step)
    count = int((node.highest - first * step) / step + 1e-9) + 1
    return [round((first + index) * step, 6) for index in range(count)]


def shown(measure: str, value: float | None) -> str:
    """Return a figure as people read it; a dash where there is none."""
    if value is None:
        return "–"
    return show(value, "OP/s" if measure == "performance" else "OP/J", 4)
