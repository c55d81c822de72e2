"""A measurement of this machine: for the terminal, as JSON, and as a picture."""

from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ridgeline.api.measure import Errors, Measurement, row_kind
from ridgeline.quantities import show
from ridgeline.report.panels import Curve, Panel, PanelPicture
from ridgeline.report.records import spec_record

# Latency of GPT-2 generating so many tokens over BERT-Base reading as many, and the FLOPs of both, on a CPU [kim2023fullstack].
SURVEY = "45 to 71 times at 128 to 1024 tokens on the survey's CPU"


def measure_record(found: Measurement) -> dict[str, Any]:
    """Return a measurement as plain data: SI units, fractions."""
    run = found.run
    return {
        "chip": spec_record(found.chip),
        "file": None if found.chip_path is None else str(found.chip_path),
        "rows_file": None if found.rows_path is None else str(found.rows_path),
        "seconds": run.seconds,
        "rows": len(run.measured),
        "disturbed": disturbed(found),
        "levels": [asdict(one) for one in run.found.levels],
        "constants": dict(run.found.constants),
        "errors": [asdict(one) for one in found.errors],
        "decode_per_flop": {str(length): ratio for length, ratio in found.decode_per_flop.items()},
        "failed": list(run.failed),
        "notes": list(run.found.notes),
    }


def disturbed(found: Measurement) -> float:
    """Return the share of rows in none of whose samples the machine was left to this program: CPU times."""
    return sum(one.timing.samples == 0 for one in found.run.measured) / len(found.run.measured)


def measure_tables(found: Measurement) -> RenderableType:
    """Return what was found, and how far it predicts."""
    run, machine = found.run, found.run.found.machine
    parts: list[RenderableType] = [
        Text(f"{machine.title}: {machine.cores:g} cores, {machine.software}, {run.seconds:.0f} s", style="bold"),
        _memory(found),
        _rates(found),
        _errors(found),
    ]
    if found.decode_per_flop:
        ratios = ", ".join(f"{ratio:.0f} at {length}" for length, ratio in found.decode_per_flop.items())
        parts.append(Text(f"a FLOP of GPT-2's decode takes longer than one of BERT's pass: times {ratios}; {SURVEY}"))
    parts += [Text(f"not run here: {one}", style="dim") for one in run.failed]
    parts += [Text(f"note: {one}", style="dim") for one in run.found.notes]
    return Group(*parts)


def _memory(found: Measurement) -> Table:
    table = Table("memory", "of", box=None, pad_edge=False)
    for name in ("capacity", "bandwidth", "falls at", "spread"):
        table.add_column(name, justify="right")
    what = found.run.found
    for one in what.levels:
        knee = "" if one.knee is None else show(one.knee, "B")
        owner = "the chip" if one.shared else "a core"
        table.add_row(one.name, owner, show(one.capacity, "B"), show(one.bandwidth, "B/s"), knee, f"{one.spread:.2f}")
    machine = what.machine
    table.add_row(
        machine.memory_kind, "the chip", show(machine.memory, "B"), show(what.bandwidth, "B/s"), "", f"{what.bandwidth_spread:.2f}"
    )
    return table


def _rates(found: Measurement) -> Table:
    what = found.run.found
    table = Table("constant", box=None, pad_edge=False)
    table.add_column("value", justify="right")
    for name, rate in what.rates.items():
        table.add_row(f"products in {name}", show(rate, "FLOP/s"))
    table.add_row("special functions", f"{show(what.special, 'FLOP/s').replace('FLOP', '')}")
    table.add_row("launch", show(what.launch, "s"))
    for name in ("tile_loss", "paged"):
        table.add_row(name, f"{what.constants[name]:.3g}")
    return table


def _errors(found: Measurement) -> Table:
    table = Table("predicted against measured", "format", "rows that", box=None, pad_edge=False)
    for name in ("rows", "predicted", "median", "mean", "worst", "ratio"):
        table.add_column(name, justify="right")
    for one in sorted(found.errors, key=lambda one: (one.kind, one.format, one.held)):
        table.add_row(*error_cells(one))
    return table


def error_cells(one: Errors) -> tuple[str, ...]:
    """Return the cells of a kind of rows; errors in percent, as a table prints them."""
    errors = (f"{100 * error:.0f} %" for error in (one.median_ape, one.mape, one.worst_ape))
    ratio = "" if one.ratio is None else f"{one.ratio:.2f}"
    return (one.kind, one.format, "judge" if one.held else "fix it", str(one.rows), str(one.predicted), *errors, ratio)


def measure_picture(found: Measurement) -> PanelPicture:
    """Return the bandwidth over working sets, and predicted over measured times."""
    run = found.run
    sets = [
        Curve(name, [one.size for one in points], [one.bandwidth for one in points], marked=True)
        for name, points in (("each core its own", run.own_points), ("one that all share", run.points))
        if points
    ]
    curves: list[Curve] = []
    kinds = dict.fromkeys(one.kind for one in found.errors)
    for kind in kinds:
        rows = [one for one in found.validation.rows if one.prediction.predicted and row_kind(one.prediction.row) == kind]
        pairs = sorted((one.prediction.row.measured, one.prediction.predicted or 0.0) for one in rows)
        if pairs:
            curves.append(Curve(kind, [one for one, _ in pairs], [one for _, one in pairs], marked=True, joined=False))
    times = [one.timing.time for one in run.measured]
    ends = [min(times), max(times)]
    curves.append(Curve("equal", ends, ends, dashed=True))
    return PanelPicture(
        title=found.chip.title,
        subtitle=f"{run.found.machine.software}; {len(run.measured)} rows, of which every second is held back",
        panels=[
            Panel("bandwidth (B/s)", sets, x_label="working set (B)", x_log=True, y_log=True),
            Panel("predicted (s)", curves, x_label="measured (s)", x_log=True, y_log=True),
        ],
        columns=2,
    )
