"""The survey of published accelerators at one node, a design among them, and the same model on every chip of the catalogue."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from ridgeline.api.analysis import Analysis, analyze
from ridgeline.api.names import load_chip, load_model, load_precision, names
from ridgeline.api.scenarios import make_scenario
from ridgeline.catalogue.published import design_frequencies, published_accelerators, service_figures
from ridgeline.catalogue.silicon import nodes, technology_of
from ridgeline.costs.rates import compute_rate, with_stream
from ridgeline.errors import InfeasibleError, InputError, UnitError
from ridgeline.estimate import step_operations
from ridgeline.quantities import Metres, parse
from ridgeline.results import Interval
from ridgeline.specs.base import Source
from ridgeline.specs.chip import Chip
from ridgeline.specs.model import ConvolutionalModel, Model
from ridgeline.specs.number_format import FORMATS
from ridgeline.specs.precision import Precision
from ridgeline.specs.scenario import Scenario
from ridgeline.specs.technology import Node
from ridgeline.survey import normalise
from ridgeline.survey.at_node import chip_at
from ridgeline.survey.normalise import Accelerator, Attempt, Cell, Normalised, Place, Rule
from ridgeline.survey.spread import Spread, Way, needs_spread, spread

Voltages = tuple[float | None, float | None]  # where a design is published, and at the target
EXAMPLE = ("AccelTran-Server", 14e-9, 16e-9)  # the one conversion that the survey's text prints

# ---- the rule ---------------------------------------------------------------------------------------------------------------


def find_process(size: Metres, process: str | None = None) -> tuple[Node, str]:
    """Return the node that a size is, or is taken as, and why it is taken so."""
    technology, said = technology_of(size, process)
    note = said["technology.node"].note or ""
    return technology.node, note if "taken as" in note else ""


def survey_rule(node: str | float, rule: str = "nominal", voltages: Voltages | None = None) -> Rule:
    """Return a rule of normalisation to a node, a number of metres or text such as `16 nm` or `16`."""
    frequencies = {size: value for size, (value, _) in design_frequencies().items()}
    return normalise.make_rule(
        rule,
        _size(node),
        find_process,
        source_voltage=None if voltages is None else voltages[0],
        target_voltage=None if voltages is None else voltages[1],
        frequencies=frequencies,
    )


def _size(node: str | float) -> Metres:
    if not isinstance(node, str):
        return node
    try:
        return float(node) * 1e-9
    except ValueError:
        pass
    try:
        return parse(node, "m")
    except UnitError as error:
        raise InputError(f"node {node!r}: {error}") from None


# ---- published accelerators -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Survey:
    """Every published accelerator at one node, or with the reason why not; ranks; the published example by every rule."""

    rule: Rule
    fpga_rule: Rule
    rows: tuple[Normalised, ...]
    ranks: Mapping[str, tuple[Place, ...]]
    baselines: Mapping[str, int]
    example: tuple[Attempt, ...]


def survey_accelerators(
    node: str | float = 16e-9,
    *,
    rule: str = "nominal",
    fpga_rule: str | None = None,
    voltages: Voltages | None = None,
    designs: Sequence[Chip | str] = (),
    workload: str = "bert-base-128",
    only: Sequence[str] = (),
    rank: str | None = None,
    baseline: str | None = None,
    table: Path | None = None,
) -> Survey:
    """Bring every published accelerator to a node by a named rule, designs of your own beside them, and rank them.

    `rule` is `nominal`, `equations` (with both `voltages`), `constant-field`, `post-dennard` or `fpga-frequency`; `fpga_rule` is
    for FPGAs alone. `rank` is `performance`, `efficiency` or `speed-up` (against one named `baseline`); by default the first two.
    Raises `InputError` for a node, rule, voltage or ranking that cannot be.

    >>> found = survey_accelerators(16e-9)
    >>> len(found.rows), found.ranks["performance"][0].name
    (52, 'AccelTran-Server')
    """
    chosen = survey_rule(node, rule, voltages)
    of_fpgas = chosen if fpga_rule is None else survey_rule(node, fpga_rule)
    rows = [
        normalise.normalise(one, of_fpgas if one.text("platform").startswith("FPGA") else chosen) for one in accelerators(table)
    ]
    rows += [_design_row(one, chosen, workload) for one in designs]
    measures = ("performance", "efficiency") if rank is None else (rank,)
    ranks = {one: normalise.rank(rows, one, only=only, baseline=baseline) for one in measures}
    return Survey(
        rule=chosen,
        fpga_rule=of_fpgas,
        rows=tuple(rows),
        ranks=ranks,
        baselines=normalise.baselines(rows),
        example=_example(),
    )


def accelerators(table: Path | None = None) -> tuple[Accelerator, ...]:
    """Return the published accelerators of the catalogue, or of a file in its form."""
    found: list[Accelerator] = []
    for name, cells in published_accelerators(table).items():
        own = tuple(
            Cell(figure=one.figure, low=one.low, high=one.high, against=one.against, text=one.text, source=one.source)
            for one in cells
            if one.low is not None or one.text
        )
        found.append(Accelerator(name=name, cells=own))
    return tuple(found)


def _example() -> tuple[Attempt, ...]:
    name, source, target = EXAMPLE
    row = next(one for one in accelerators() if one.name == name)
    value, published = row.value("performance"), row.value("performance at 16 nm")
    if value is None or published is None:
        raise InputError(f"the survey's table has no example: {name} needs its performance as published and at 16 nm")
    return normalise.attempts(value, published, source, target, nodes())


# ---- a design in the table --------------------------------------------------------------------------------------------------


def _design_row(design: Chip | str, rule: Rule, workload: str) -> Normalised:
    """Evaluate a chip file on a workload at its own node, and with its logic at the rule's."""
    chip = load_chip(design)
    one = workloads(workload)[0]
    own = _evaluate(chip, one)
    if own.reason is not None:
        raise InputError(f"{chip.name} cannot be put in the table: {own.reason}")
    row = Accelerator(name=chip.name, cells=tuple(_cells(chip, own)), modelled=True)
    missing = () if own.efficiency is not None else ("no energy follows from its file",)
    try:
        moved, notes = _chip_at(chip, rule)
    except InputError as error:
        return Normalised(accelerator=row, rule=rule.name, reasons=(str(error), *missing))
    there = _evaluate(moved, one)
    if there.reason is not None:
        return Normalised(accelerator=row, rule=rule.name, reasons=(there.reason, *missing))
    notes = (f"computed on {one.name}", *notes)
    return Normalised(
        accelerator=row, rule=rule.name, performance=there.performance, efficiency=there.efficiency, reasons=missing, notes=notes
    )


def _cells(chip: Chip, own: "ChipRow") -> list[Cell]:
    one = own.interval
    spread = (
        ""
        if one is None
        else (f"; measured {1 / float(one.upper):.2f} to {1 / float(one.lower):.2f} of it in {float(one.coverage):.0%} of cases")
    )
    here = Source(key=None, confidence="computed", note=f"{own.workload}, level {own.level}, from the chip's file{spread}")
    said = chip.sources.get("package.node", here)
    found = [
        Cell(
            figure="platform", low=None, text=chip.kind.upper() if chip.kind in ("fpga", "asic", "gpu") else chip.kind, source=here
        ),
        Cell(figure="hardware", low=None, text=chip.title or chip.name, source=here),
        Cell(figure="scales as", low=None, text="logic", source=here),
        Cell(figure="performance", low=own.performance, source=here),
    ]
    if chip.year is not None:
        found.append(Cell(figure="year", low=float(chip.year), source=here))
    if chip.package.node is not None:
        found.append(Cell(figure="node", low=chip.package.node, source=said))
    if own.efficiency is not None:
        found.append(Cell(figure="efficiency", low=own.efficiency, source=here))
    return found


# ---- one model on every chip ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Workload:
    """A scenario of a model with a name."""

    name: str
    model: str
    phase: str | None = None
    given: Mapping[str, int] | None = None


_WORKLOADS = (
    Workload(name="bert-base-128", model="bert-base", phase="encode", given={"prompt": 128}),
    Workload(name="bert-base-512", model="bert-base", phase="encode", given={"prompt": 512}),
    Workload(name="gpt2-decode", model="gpt2", phase="decode", given={"context": 512}),
    Workload(name="llama-3.1-8b-prefill", model="llama-3.1-8b", phase="prefill", given={"prompt": 2048}),
    Workload(name="llama-3.1-8b-decode", model="llama-3.1-8b", phase="decode", given={"context": 2048}),
)


def workloads(name: str) -> tuple[Workload, ...]:
    """Return the workloads of a name: one, those of a model, `all`, or the usual scenario of any other model.

    >>> [one.name for one in workloads("bert-base")]
    ['bert-base-128', 'bert-base-512']
    """
    found = tuple(one for one in _WORKLOADS if name in (one.name, one.model, "all"))
    if found:
        return found
    return (Workload(name=name, model=name),)


@dataclass(frozen=True, kw_only=True)
class ChipRow:
    """One chip on a workload: the answer, or the reason why there is none; `moved` is the same with its logic at the node."""

    chip: str
    title: str
    year: int | None
    node: Metres | None
    workload: str
    precision: str = ""
    level: str = ""
    chips: int = 1
    time: float | None = None
    time_lower: float | None = None
    time_upper: float | None = None
    interval: Interval | None = None
    interval_reason: str = ""
    flops: float | None = None
    tokens_per_second: float | None = None
    energy_per_token: float | None = None
    energy: float | None = None
    utilisation: float | None = None
    bound: str | None = None
    reason: str | None = None
    notes: tuple[str, ...] = ()
    moved: "ChipRow | None" = None
    moved_reason: str | None = None

    @property
    def performance(self) -> float | None:
        """Operations a second that are done."""
        return None if self.flops is None or not self.time else self.flops / self.time

    @property
    def efficiency(self) -> float | None:
        """Operations a joule that are done."""
        return None if self.flops is None or not self.energy else self.flops / self.energy


def compare_chips(
    workload: str = "bert-base",
    node: str | float = 16e-9,
    *,
    rule: str = "nominal",
    voltages: Voltages | None = None,
    level: str | None = None,
    chips: Sequence[Chip | str] | None = None,
    designs: Sequence[Chip | str] = (),
) -> tuple[ChipRow, ...]:
    """Put the same workload on every chip of the catalogue, at its own node and with its logic at another: none is left out.

    Each row is `analyze` of the workload, at the level that the chip's file allows, or at `level` for all: `ideal` compares
    bounds with bounds. `chips` are taken instead of the catalogue's, `designs` beside them.

    >>> [row.bound for row in compare_chips("bert-base-128", chips=["h100-sxm"], level="ideal")]
    ['memory.hbm']
    """
    if level not in (None, "ideal"):
        raise InputError(f"level {level!r}: leave it out for the level of each chip's file, or choose ideal for all")
    chosen = survey_rule(node, rule, voltages)
    found: list[ChipRow] = []
    for one in workloads(workload):
        load_model(one.model)  # refuses an unknown model at once
        for chip in map(load_chip, (*(names("chip") if chips is None else chips), *designs)):
            row = _evaluate(chip, one, level)
            found.append(_with_moved(row, chip, one, chosen, level))
    return tuple(found)


def _with_moved(row: ChipRow, chip: Chip, workload: Workload, rule: Rule, level: str | None) -> ChipRow:
    if row.reason is not None:
        return replace(row, moved_reason=row.reason)
    try:
        moved, notes = _chip_at(chip, rule)
    except InputError as error:
        return replace(row, moved_reason=str(error))
    there = _evaluate(moved, workload, level)
    if there.reason is not None:
        return replace(row, moved_reason=there.reason)
    return replace(row, moved=replace(there, notes=(*there.notes, *notes)))


def _chip_at(chip: Chip, rule: Rule) -> tuple[Chip, tuple[str, ...]]:
    """Return a chip at a rule's node, within its own family of transistors."""
    return chip_at(chip, replace(rule, find=partial(find_process, process=chip.package.process)))


def _evaluate(chip: Chip, workload: Workload, level: str | None = None) -> ChipRow:
    """Return a chip's row: `analyze` where its own level tells all, else the same at peak rates on as many chips as hold it."""
    empty = ChipRow(chip=chip.name, title=chip.title or chip.name, year=chip.year, node=chip.package.node, workload=workload.name)
    try:
        if needs_spread(chip):
            return _spread_row(chip, workload, empty)
        try:
            given: dict[str, Any] = dict(workload.given or {})
            return _analysis_row(analyze(workload.model, chip, phase=workload.phase, level=level, **given), empty)
        except InfeasibleError:
            return _spread_row(chip, workload, empty)
    except InputError as error:
        return replace(empty, reason=str(error))


def _analysis_row(found: Analysis, empty: ChipRow) -> ChipRow:
    one = found.estimate
    unit = compute_rate(found.chip, (found.precision.weights, found.precision.activations), found.precision.accumulate)
    return replace(
        empty,
        precision=found.precision.name,
        level=one.level,
        time=float(one.time),
        time_lower=float(one.time_lower),
        time_upper=float(one.time_upper),
        interval=one.interval,
        interval_reason=one.interval_reason,
        flops=float(one.flops),
        tokens_per_second=float(one.tokens_per_second),
        energy=None if one.energy is None else float(one.energy),
        energy_per_token=None if one.energy is None else float(one.energy / one.tokens),
        utilisation=_matrix_flops(found.model, found.scenario, found.chip, found.precision) / float(one.time * unit.rate),
        bound=str(one.bound),
        notes=one.notes,
    )


def _matrix_flops(model: Model | ConvolutionalModel, scenario: Scenario, chip: Chip, precision: Precision) -> float:
    """FLOPs of matrix products alone: what a utilisation of the matrix unit counts."""
    operations = step_operations(model, scenario, with_stream(chip, precision))
    return float(sum(one.matrix_flops * one.count for one in operations))


def _spread_row(chip: Chip, workload: Workload, empty: ChipRow) -> ChipRow:
    formats, found = spread_on(chip, workload)
    way = found.serial
    unit = compute_rate(chip, (formats.weights, formats.activations), formats.accumulate)
    return replace(
        empty,
        precision=formats.name,
        level="ideal, spread",
        chips=way.chips,
        time=way.time,
        time_lower=found.fastest.time,
        time_upper=way.time,
        flops=found.flops,
        tokens_per_second=found.tokens_per_second(way),
        energy=found.energy,
        energy_per_token=None if found.energy is None else found.energy / found.tokens,
        utilisation=found.matrix_flops / (way.time * unit.rate * way.chips),
        bound=way.bound,
        notes=found.notes,
    )


def spread_on(chip: Chip | str, workload: Workload) -> tuple[Precision, Spread]:
    """Return a workload on as many chips as hold it, in the published precision, else in 8-bit integers, with that precision."""
    machine, model = load_chip(chip), load_model(workload.model)
    formats = load_precision(_native(machine), model)
    scenario, _ = make_scenario(model, workload.phase, dict(workload.given or {}))
    return formats, spread(machine, model, scenario, formats)


def _native(chip: Chip) -> str | None:
    """Return None, for the published precision, where a chip multiplies 16-bit floats; else 8-bit integers, else its widest."""
    formats = {name.partition(":")[0] for name in chip.matrix_unit.rate}
    if formats & {"bf16", "fp16", "tf32"}:
        return None
    return "int8" if "int8" in formats else max(formats, key=lambda name: FORMATS[name].bits)


# ---- services on static dataflow and near-memory machines -------------------------------------------------------------------

STATIC = ("groq-lpu-v1", "cerebras-wse-2", "cerebras-wse-3", "hbm-pim", "gddr6-aim", "upmem-20dimm")


@dataclass(frozen=True, kw_only=True)
class ServiceRow:
    """Decode of one stream on a machine without off-chip memory, or in memory, beside a published rate where there is one."""

    model: str
    chip: str
    context: int
    precision: str
    spread: Spread
    published: float | None
    source: str
    note: str

    def ratio(self, way: Way) -> float | None:
        """Rate here over the published one."""
        return None if self.published is None else self.spread.tokens_per_second(way) / self.published


def services(models: Sequence[Model | ConvolutionalModel | str] = ("llama-2-7b", "llama-2-70b")) -> tuple[ServiceRow, ...]:
    """Decode models on the catalogue's SRAM-only and near-memory machines, and set the rates beside what is published.

    Published pairs of other models follow those that were asked for.
    """
    published = {(one["model"], one["chip"]): one for one in service_figures()}
    asked = [(load_model(model).name, chip) for model in models for chip in STATIC]
    found: list[ServiceRow] = []
    for model, chip in (*asked, *(pair for pair in published if pair not in asked)):
        figure: dict[str, Any] = published.get((model, chip), {})
        context = int(figure.get("context", 2048))
        formats, one = spread_on(chip, Workload(name=model, model=model, phase="decode", given={"context": context}))
        found.append(
            ServiceRow(
                model=model,
                chip=chip,
                context=context,
                precision=formats.name,
                spread=one,
                published=figure.get("tokens_per_second"),
                source=figure.get("source", ""),
                note=figure.get("note", "none is published that the catalogue knows of"),
            )
        )
    return tuple(found)
