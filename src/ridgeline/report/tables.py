"""Results as tables that fit one screen."""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from ridgeline.api import Analysis, Mapped, Thresholds
from ridgeline.api.power import drawn
from ridgeline.costs.tiled import Layer
from ridgeline.mapping.array_machine import ArrayMachine
from ridgeline.mapping.row_stationary import RowMachine, letters_of
from ridgeline.parallel import communication
from ridgeline.quantities import show
from ridgeline.report.records import mapped_energy
from ridgeline.report.training import training_rows
from ridgeline.specs.base import Source, quantities, units_of
from ridgeline.specs.chip import Chip
from ridgeline.specs.model import ConvolutionalModel, Model
from ridgeline.specs.system import System
from ridgeline.workload.conventions import Counts
from ridgeline.workload.parameters import parameters

_MOST_ROWS = 64


def analysis_tables(analysis: Analysis) -> RenderableType:
    """Return the answer of `analyze`: a row for each point of a range, or one scenario with its breakdown."""
    parts: list[RenderableType] = [Text(_headline(analysis), style="bold")]
    parts += [_range_table(analysis)] if analysis.axes else [_answer(analysis), _operations_table(analysis)]
    parts += [Text(f"note: {note}", style="yellow") for note in analysis.estimate.notes]
    parts.append(Text(_footer(analysis), style="dim"))
    return Group(*parts)


def _headline(analysis: Analysis) -> str:
    scenario, images = analysis.scenario, _takes_images(analysis)
    varied = set(analysis.axes)
    counts = {
        "batch": scenario.batch,
        "prompt": scenario.prompt if scenario.phase != "decode" and not images else 0,
        "context": scenario.context,
        "output": scenario.output if scenario.phase == "generate" else 0,
    }
    said = [f"{name} {value:g}" for name, value in counts.items() if name not in varied and value]
    title = analysis.model.title or analysis.model.name
    return f"{title} on {analysis.chip.title or analysis.chip.name}: {', '.join([scenario.phase, *said, analysis.precision.name])}"


def _footer(analysis: Analysis) -> str:
    ridges = "; ".join(
        f"{name} {_number(levels[analysis.chip.main_memory.name])} FLOP/B" for name, levels in analysis.estimate.ridge.items()
    )
    sources = analysis.estimate.sources
    estimates = sum(one.confidence == "estimate" for one in sources.values())
    keys = sorted({one.key for one in sources.values() if one.key})
    level = f"{analysis.estimate.level}, operands start {analysis.residency}: {_level(analysis)}"
    return (
        f"level {level}\nridge at {analysis.chip.main_memory.name}: {ridges}\n"
        f"{len(sources)} catalogue numbers, {estimates} of them estimates; sources: {', '.join(keys) or 'none'}"
    )


def _level(analysis: Analysis) -> str:
    """Say what a level of detail is, on a chip of many cores with the software whose kernels run."""
    stack = analysis.stack
    return _LEVELS[analysis.estimate.level] if stack is None else f"kernels of the stack {stack.name} one after another"


_LEVELS = {
    "ideal": "compulsory traffic at peak rates, a bound that no machine beats from that start",
    "mapped": "every product cut best for the array, one operation after the other",
    "simulated": "products as mapped cuts them, run cycle by cycle",
}


def _number(value: Any) -> str:
    value = float(np.asarray(value).ravel()[0])
    return f"{value:.4g}" if abs(value) < 1e5 else f"{value:.3e}"


def _range_table(analysis: Analysis) -> RenderableType:
    found, held = analysis.estimate, analysis.estimate.capacity
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in analysis.axes:
        table.add_column(name, justify="right")
    table.add_column("binds", no_wrap=True)
    unit = _unit(analysis)
    for name in ("time", f"{unit}s/s", f"J/{unit}", "FLOP/B", "ridge", "memory"):
        table.add_column(name, justify="right", no_wrap=True)
    ridge = _number(next(iter(found.ridge.values()))[analysis.chip.main_memory.name])
    shape = np.shape(found.time)
    places = list(np.ndindex(*shape))
    for place in places[:_MOST_ROWS]:
        point = [f"{values[index]:g}" for values, index in zip(analysis.axes.values(), place, strict=True)]
        if held is not None and not np.asarray(held.fits)[place]:
            short = float(np.asarray(held.shortfall)[place])
            chips = int(np.asarray(analysis.chips_needed)[place])
            said = Text(f"{show(short, 'B')} short, {chips} chips", style="red")
            table.add_row(*point, "does not fit", *["–"] * 5, said)
            continue
        energy = None if found.energy is None else found.energy[place] / found.tokens[place]
        used = "" if held is None else show(float(held.needed[place]), "B")
        table.add_row(
            *point,
            analysis.resource(found.bound[place]),
            show(float(found.time[place]), "s"),
            f"{found.tokens_per_second[place]:.5g}",
            "–" if energy is None else f"{energy:.3g}",
            f"{found.intensity[place]:.3g}",
            ridge,
            used,
        )
    if len(places) <= _MOST_ROWS:
        return table
    return Group(table, Text(f"… {len(places) - _MOST_ROWS} more points: --json prints all of them", style="dim"))


def _answer(analysis: Analysis) -> RenderableType:
    found, held = analysis.estimate, analysis.estimate.capacity
    main = analysis.chip.main_memory.name
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column()
    share = found.cost.time[found.bound] / found.time_upper
    table.add_row("binds", f"{found.bound} ({share:.0%} of all resource time)")
    table.add_row("time", f"{show(found.time, 's')} (no overlap at all: {show(found.time_upper, 's')})")
    if found.interval is not None:
        ends = " to ".join(show(found.time * factor, "s") for factor in (found.interval.lower, found.interval.upper))
        table.add_row("interval", f"{ends}: holds {found.interval.coverage:.0%} of measurements on chips left out")
    table.add_row("throughput", f"{found.tokens_per_second:,.5g} {_unit(analysis)}s/s")
    for row in _plan_rows(analysis):
        table.add_row(*row)
    table.add_row(
        "work" if analysis.chips == 1 else "all chips",
        f"{show(found.flops, 'FLOP')}, {show(found.bytes[main], 'B')} through {main}: {found.intensity:.4g} FLOP/B",
    )
    if found.energy is not None:
        parts = ", ".join(
            f"{name} {value / found.energy:.0%}" for name, value in found.cost.energy.items() if value > 0.005 * found.energy
        )
        table.add_row(
            "energy", f"{show(found.energy, 'J')}, {show(found.energy / found.tokens, 'J')} per {_unit(analysis)} ({parts})"
        )
    for row in _power_rows(analysis):
        table.add_row(*row)
    if held is not None:
        table.add_row(
            "memory" if analysis.chips == 1 else "a chip",
            f"{show(held.in_main, 'B')} of {show(held.available, 'B')}: {_held(held)}",
        )
        if held.further:
            table.add_row(held.further, f"{show(held.in_further, 'B')} of {show(held.further_available, 'B')} moved there")
    for row in training_rows(analysis) if analysis.scenario.phase == "train" else ():
        table.add_row(*row)
    return table


def _power_rows(analysis: Analysis) -> Iterator[tuple[str, str]]:
    """Yield the mean power of the boards, and of the wall where the system's file says what is in the box beside them."""
    power = drawn(analysis)
    if power is None:
        return
    each = f", {show(power.boards / analysis.chips, 'W')} a chip" if analysis.chips > 1 else ""
    wall = f"; {show(power.wall, 'W')} from the wall" if power.wall is not None else ""
    beside = f" ({show(power.box, 'W')} of host, network, fans and conversion)" if power.box is not None else ""
    yield "power", f"{show(power.boards, 'W')} on average{each}{wall}{beside}"


def _plan_rows(analysis: Analysis) -> Iterator[tuple[str, str]]:
    """Yield the plan, and by network tier what a chip sends and how long that takes."""
    spread, found = analysis.spread, analysis.estimate
    if spread is None:
        return
    yield (
        "plan",
        f"{spread.plan.text} on {spread.system.title or spread.system.name}: {analysis.chips} of {spread.system.chips:g} chips",
    )
    for tier, one in communication(found, analysis.chips).items():
        share = one["time"] / found.time
        yield f"{tier}", f"{show(one['bytes'], 'B')} sent a chip, {show(one['time'], 's')}: {share:.1%} of the time"


def _unit(analysis: Analysis) -> str:
    return "image" if _takes_images(analysis) else "token"


def _takes_images(analysis: Analysis) -> bool:
    return isinstance(analysis.model, ConvolutionalModel) or analysis.model.patches is not None


def _held(held: Any) -> str:
    parts = {"weights": held.weights, "gradients": held.gradients, "optimizer states": held.optimizer}
    parts |= {"KV cache": held.kv, "unused pages": held.fragmentation, "activations": held.activations, "buffers": held.buffers}
    return ", ".join(f"{name} {show(value, 'B')}" for name, value in parts.items() if value > 0)


def _operations_table(analysis: Analysis) -> Table:
    found = analysis.estimate
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("operation", max_width=44, min_width=16)
    for name in ("count", "m", "n", "k", "FLOP", "bytes", "time", "share"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("binds", no_wrap=True)
    for row in found.operations:
        share = row.time * row.count / found.time if found.time else 0.0
        table.add_row(
            row.name,
            f"{row.count:g}",
            *("" if one is None else f"{one:.6g}" for one in (row.m, row.n, row.k)),
            show(row.flops, ""),
            show(row.bytes, "B"),
            show(row.time, "s"),
            f"{share:.1%}",
            row.bound,
        )
    return table


def thresholds_table(found: Thresholds) -> RenderableType:
    """Return the answer of `thresholds`: every number with what it counts."""
    chip, model = found.chip, found.model
    parts: list[RenderableType] = [
        Text(f"{model.title or model.name} on {chip.title or chip.name}, {found.precision.name}", style="bold"),
        _balance_table(found),
    ]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("threshold")
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("what it counts")
    for row in _threshold_rows(found):
        table.add_row(*row)
    keys = sorted({one.key for one in found.sources.values() if one.key})
    return Group(*parts, table, Text(f"sources: {', '.join(keys)}", style="dim"))


def _balance_table(found: Thresholds) -> Table:
    levels = list(dict.fromkeys(level for by_level in found.ops_per_byte.values() for level in by_level))
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("ops:byte")
    for level in levels:
        table.add_column(level, justify="right")
    for name, by_level in found.ops_per_byte.items():
        table.add_row(name, *(_balance(by_level[level]) if level in by_level else "" for level in levels))
    return table


def _balance(value: float) -> str:
    return f"{value:.1f}" if value >= 1 else f"{value:.2g}"


Row = tuple[str, str, str]


def _threshold_rows(found: Thresholds) -> list[Row]:
    return [*_batch_rows(found), *_attention_rows(found), *_memory_rows(found), *_communication_rows(found)]


def _batch_rows(found: Thresholds) -> Iterator[Row]:
    wide = f"rows at which a wide weight matrix turns compute-bound ({found.compute_format}, {found.chip.main_memory.name})"
    yield "critical batch", _balance(found.critical_batch), wide
    for name, value in found.critical_batch_exact.items():
        yield "", "never" if math.isinf(value) else _balance(value), f"exact for {name}, activations counted"
    if found.critical_batch_experts is not None:
        yield "", _balance(found.critical_batch_experts), "for routed experts: times experts / active"
    if found.verified != 1:
        yield "", _balance(found.critical_batch_speculative), f"sequences, with {found.verified:g} tokens verified at once"


def _attention_rows(found: Thresholds) -> Iterator[Row]:
    if not found.kv_bytes_per_token_by_kind:
        return
    binds = "prompt tokens at which prefill attention turns compute-bound (full, no shared heads)"
    yield "attention", f"{found.attention_critical_tokens:.0f}", binds
    yield "", f"{found.attention_critical_tokens_grouped:.0f}", "… with this model's shared KV heads"
    yield "", f"{found.attention_critical_tokens_causal:.0f}", "… and a causal mask"
    yield "", f"{found.attention_intensity['decode']:.2f}", "FLOP/B of decoding, S·T/(S+T) for one query, two bytes a value"


def _memory_rows(found: Thresholds) -> Iterator[Row]:
    if found.kv_bytes_per_token:
        yield "KV cache", f"{found.kv_bytes_per_token:,.0f} B", "a token, this model"
        for kind, value in found.kv_bytes_per_token_by_kind.items():
            yield "", f"{value:,.0f} B", f"a token as {kind}"
        for level, value in found.tokens_in_memory.items():
            yield "", f"{value:,.0f}", f"tokens fill {level}"
    if found.tokens_beside_weights is not None:
        yield "", f"{found.tokens_beside_weights:,.0f}", f"tokens fit {found.chip.main_memory.name} beside the weights"
    for level, value in found.bytes_in_flight.items():
        yield "in flight", show(value, "B"), f"bytes under way to keep {level} busy (latency × bandwidth)"


def _communication_rows(found: Thresholds) -> Iterator[Row]:
    for name, value in found.ops_per_comm_byte.items():
        yield "ops:comms", f"{value:,.0f}", f"FLOPs in {found.compute_format} a communicated byte, {name}"
    for name, value in found.tensor_parallel_limit.items():
        yield "tensor parallel", f"{value:.1f}", f"chips at which communication of 16-bit activations binds, {name}"


def mapped_table(found: Mapped) -> RenderableType:
    """Return a tiling: what it takes, what it moves, how it is cut, and the proof."""
    tiling, machine = found.tiling, found.machine
    title = f"{_layer(found.layer)} on {found.chip.title or found.chip.name}: {tiling.dataflow}, {found.precision.name}"
    rows = [
        ("cycles", f"{tiling.cycles:,.0f}, {show(found.time, 's')} at {show(machine.clock, 'Hz')}"),
        (
            "utilisation",
            f"{tiling.utilisation:.1%} of {_several(machine)}{machine.array.rows:g} × {machine.array.columns:g} multipliers",
        ),
        ("tile", ", ".join(f"{name} {size:g}" for name, size in tiling.tile["chip"].items() if size > 1 or name in "kcp")),
        ("order", " → ".join(tiling.order["dram"]) + " (DRAM loops, outer to inner)"),
        ("held", ", ".join(f"{level} {show(size, 'B')}" for level, size in tiling.held.items())),
    ]
    if "arrays" in tiling.tile:
        rows.insert(
            2, ("arrays", "cut along " + ", ".join(f"{name} in {x:g}" for name, x in tiling.tile["arrays"].items() if x > 1))
        )
    if isinstance(machine, RowMachine):
        rows.insert(2, ("pass", letters_of(tiling)))
    if tiling.energy is not None:
        parts = ", ".join(f"{name} {value / tiling.energy:.0%}" for name, value in (mapped_energy(found) or {}).items())
        rows.insert(1, ("energy", show(tiling.energy, "J") + (f" ({parts})" if parts else "")))
    if found.simulated is not None and tiling.cycles:
        rows.insert(1, ("simulated", f"{found.simulated.cycles:,} cycles, {found.simulated.cycles / tiling.cycles - 1:+.1%}"))
    answer = Table(box=None, show_header=False, pad_edge=False)
    answer.add_column(style="bold")
    answer.add_column()
    for row in rows:
        answer.add_row(*row)
    traffic = _listing(
        [(level, tensor, show(size, "B", 4)) for level, by_tensor in tiling.traffic.items() for tensor, size in by_tensor.items()],
        ("memory", "tensor", "traffic"),
    )
    return Group(Text(title, style="bold"), answer, traffic, Text(_proof(found), style="dim"))


def _several(machine: ArrayMachine | RowMachine) -> str:
    return f"{machine.arrays:g} arrays of " if machine.arrays > 1 else ""


def _layer(layer: Layer) -> str:
    if layer.r * layer.s * layer.q * layer.n == 1:
        return f"{layer.p:g}×{layer.c:g}×{layer.k:g}"
    return ", ".join(f"{name} {size:g}" for name, size in layer._asdict().items() if size > 1)


def _proof(found: Mapped) -> str:
    tiling = found.tiling
    moved = sum(tiling.traffic["dram"].values())
    parts = ["a given mapping: nothing is proven of it", *(f"note: {note}" for note in found.notes)]
    if tiling.optimal and tiling.lower_bound is not None and tiling.value is not None:
        unit = {"latency": "cycles", "energy": "J", "edp": "J·cycles"}[tiling.objective]
        parts = [
            f"optimal in {tiling.objective}: of all tile sizes and orders none is below {tiling.lower_bound:,.6g} {unit}, "
            f"this one takes {tiling.value:,.6g}; {tiling.examined:,.0f} were costed in full, the rest pruned by that bound"
        ]
    if tiling.hong_kung is not None:
        parts.append(f"DRAM traffic {show(moved, 'B')}; the Hong–Kung bound 2mnk/√S is {show(tiling.hong_kung, 'B')}")
    return "\n".join(parts)


def _listing(rows: Iterable[tuple[str, ...]], columns: tuple[str, ...]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*row)
    return table


def catalogue_table(names: Mapping[str, list[str]]) -> Table:
    """Return the catalogue's names by kind."""
    return _listing([(kind, ", ".join(found)) for kind, found in names.items()], ("kind", "names"))


def entries_table(kind: str, specs: Iterable[Any]) -> Table:
    """Return the entries of a kind with what tells them apart."""
    if kind == "chip":
        columns = ("name", "what", "year", "node", "peak", "memory", "bandwidth", "power")
        return _listing([_chip_row(one) for one in specs], columns)
    if kind == "model":
        return _listing([_model_row(one) for one in specs], ("name", "what", "family", "parameters", "published in"))
    return _listing([(one.name, one.title, one.chip.name, _tiers(one)) for one in specs], ("name", "what", "chip", "chips by tier"))


def _tiers(system: System) -> str:
    return " × ".join(f"{tier.size:g} {tier.name}" for tier in system.tier)


def _chip_row(chip: Chip) -> tuple[str, ...]:
    rates = chip.matrix_unit.rate or chip.vector_unit.rate
    name = next((one for one in ("bf16", "fp16", "int8", "fp32") if one in rates), next(iter(rates)))
    main, package = chip.main_memory, chip.package
    return (
        chip.name,
        chip.title,
        str(chip.year or ""),
        _or_blank(package.node, "m"),
        f"{show(rates[name], 'FLOP/s')} {name}",
        _or_blank(main.capacity, "B"),
        _or_blank(main.bandwidth, "B/s"),
        _or_blank(package.power, "W"),
    )


def _or_blank(value: float | None, unit: str) -> str:
    return "" if value is None else show(value, unit)


def _model_row(model: Model | ConvolutionalModel) -> tuple[str, ...]:
    return (model.name, model.title, model.family, show(parameters(model).total, "", 4), model.precision)


def counts_table(counts: Counts) -> RenderableType:
    """Return counts by class under a named convention."""
    rows = [
        (
            name,
            show(float(one.flops), "FLOP", 4),
            show(float(one.bytes), "B", 4),
            f"{one.intensity:.4g}" if one.bytes else "",
        )
        for name, one in {**counts.groups, "total": counts.total}.items()
    ]
    title = Text(f"counted by {counts.convention.name}: {counts.convention.title}", style="bold")
    return Group(title, _listing(rows, ("class", "work", "traffic", "FLOP/B")))


def spec_table(spec: Any) -> RenderableType:
    """Return every number of a spec with its source."""
    rows = [(path, shown(spec, path, value), _said(spec.sources.get(path))) for path, value in quantities(spec).items()]
    table = _listing(rows, ("field", "value", "source"))
    table.columns[1].justify = "right"
    return Group(Text(f"{spec.title} ({spec.name})", style="bold"), table)


def shown(spec: Any, path: str, value: Any) -> str:
    """Return a quantity with the unit that its field carries."""
    unit = _unit_at(spec, path.split("."))
    return show(float(value), unit, 4) if unit not in ("1", "") else f"{value:,.12g}"


def _unit_at(spec: Any, path: list[str]) -> str:
    units = units_of(type(spec))
    if path[0] in units:
        return units[path[0]][0].symbol
    child = getattr(spec, path[0], None)
    if isinstance(child, tuple):
        child = next((one for index, one in enumerate(child) if str(getattr(one, "name", "") or index) == path[1]), None)
        return _unit_at(child, path[2:]) if child is not None else "1"
    return _unit_at(child, path[1:]) if child is not None and len(path) > 1 else "1"


def _said(source: Source | None) -> str:
    if source is None:
        return "default"
    parts = [source.key or "", source.where or ""]
    if source.confidence != "seen":
        parts.append(source.confidence)
    if source.note:
        parts.append(source.note)
    return ", ".join(part for part in parts if part)


def console(*, error: bool = False) -> Console:
    """Return a console; wide where the output goes to a file, so that no cell is cut."""
    found = Console(stderr=error, highlight=False, soft_wrap=False)
    return found if found.is_terminal else Console(stderr=error, highlight=False, width=200)
