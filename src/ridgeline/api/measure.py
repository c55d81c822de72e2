"""Measure the machine that this runs on: a chip file, rows of the measurement schema, and how well the one predicts the other."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from ridgeline.api.validation import Validation, validate
from ridgeline.catalogue import load
from ridgeline.errors import InputError
from ridgeline.estimate import estimate
from ridgeline.quantities import Count, Flops, Fraction
from ridgeline.specs.chip import Chip
from ridgeline.specs.model import Model
from ridgeline.specs.precision import Precision
from ridgeline.specs.scenario import Scenario
from ridgeline.validation.compare import Judged
from ridgeline.validation.measure import run as runs
from ridgeline.validation.measure.rows import Stamp, as_csv
from ridgeline.validation.measure.run import Run
from ridgeline.validation.measure.torch_device import DEVICES, open_device
from ridgeline.validation.measure.work import FULL, QUICK, Device
from ridgeline.validation.schema import Row

__all__ = ["DEVICES", "Errors", "Measurement", "measure", "row_kind"]


@dataclass(frozen=True, kw_only=True)
class Errors:
    """How far predictions on the chip file are from the rows of a kind, in a format, that fix it or are held back."""

    kind: str
    format: str
    held: bool
    rows: int
    predicted: int
    median_ape: Fraction
    mape: Fraction
    worst_ape: Fraction
    ratio: Fraction | None  # predicted over measured, geometric mean; None where nothing is predicted


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """A machine as it was measured, and the judgement of its chip file."""

    chip: Chip
    run: Run
    validation: Validation
    errors: tuple[Errors, ...]
    decode_per_flop: dict[int, Count]  # by length: time a FLOP of GPT-2's decode over that of BERT's pass; empty without models
    chip_path: Path | None
    rows_path: Path | None


def measure(
    *,
    out: Path | None = None,
    rows: Path | None = None,
    device: str = "cpu",
    models: bool = False,
    quick: bool = False,
    machine: Device | None = None,
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> Measurement:
    """Run micro-benchmarks on this machine, fit a chip file to half of them, and judge it by the others.

    `out` is the chip file and `rows` the rows, of which every second is held back; whole models (`models`) fix nothing. Neither
    file may be there already. `machine` replaces the device that PyTorch opens.
    """
    for name, path, suffix in (("out", out, ".toml"), ("rows", rows, ".csv")):
        _check_free(name, path, suffix)
    if rows is not None and out is None:
        raise InputError(f"--rows {rows}: the rows name their chip by its file: give that a name with --out FILE.toml")
    opened = open_device(device) if machine is None else machine
    date = datetime.now(UTC).date().isoformat()
    found = runs.run(opened, QUICK if quick else FULL, whole_models=models, date=date, progress=progress)
    if out is not None:
        _write(out, found.chip_text)
    with TemporaryDirectory() as folder:
        chip_path = Path(folder) / "measured.toml" if out is None else out
        rows_path = Path(folder) / "measured.csv" if rows is None else rows
        if out is None:
            _write(chip_path, found.chip_text)
        beside = chip_path.absolute().parent == rows_path.absolute().parent
        named = chip_path.name if beside else str(chip_path.absolute())
        _write(rows_path, as_csv(found.measured, Stamp(named, found.found.machine.software, date)))
        chip = load.chip(str(chip_path))
        judged = validate([rows_path])
    return Measurement(
        chip=chip,
        run=found,
        validation=judged,
        errors=_errors(judged.rows),
        decode_per_flop=_decode_per_flop(chip, judged.rows),
        chip_path=out,
        rows_path=rows,
    )


def _check_free(name: str, path: Path | None, suffix: str) -> None:
    """Refuse before the work is done what could not be written after it, or what would be lost."""
    if path is None:
        return
    if path.suffix.lower() != suffix:
        raise InputError(f"--{name} {path}: a name that ends in {suffix} is wanted")
    if path.exists():
        raise InputError(f"--{name} {path}: there is such a file already, and measuring does not replace it: choose another name")
    if not path.absolute().parent.is_dir():
        raise InputError(f"--{name} {path}: there is no folder {path.absolute().parent}")
    try:
        path.touch()
        path.unlink()
    except OSError as error:
        raise InputError(f"--{name} {path}: cannot be written: {error.strerror}") from None


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from None


# ---- the judgement ----------------------------------------------------------------------------------------------------------


def _errors(rows: Sequence[Judged]) -> tuple[Errors, ...]:
    groups: dict[tuple[str, str, bool], list[Judged]] = {}
    for one in rows:
        row = one.prediction.row
        groups.setdefault((row_kind(row), row.text("dtype"), row.text("set") == "held"), []).append(one)
    return tuple(_group_errors(key, members) for key, members in groups.items())


def row_kind(row: Row) -> str:
    """Return the kind of a row, as the error table names it."""
    if row.has("model"):
        return f"{row.text('model')} {row.text('phase')}"
    if row.text("op") == "attention":
        return f"attention {row.text('phase')}"
    if row.text("op") == "gemm":
        return "matrix–vector" if row.number("m") == 1 else "product"
    return "collectives" if row.has("bytes") else "vector kernels"


def _group_errors(key: tuple[str, str, bool], members: Sequence[Judged]) -> Errors:
    kind, format, held = key
    errors = [one.error for one in members]
    ratios = [one.ratio for one in members if one.ratio > 0]
    return Errors(
        kind=kind,
        format=format,
        held=held,
        rows=len(members),
        predicted=len(ratios),
        median_ape=statistics.median(errors),
        mape=statistics.fmean(errors),
        worst_ape=max(errors),
        ratio=statistics.geometric_mean(ratios) if ratios else None,
    )


def _decode_per_flop(chip: Chip, rows: Sequence[Judged]) -> dict[int, Count]:
    """Return by length how many times longer a FLOP takes in GPT-2's decode than in BERT's pass, as measured."""
    times: dict[tuple[str, str, int], float] = {}
    for one in rows:
        row = one.prediction.row
        if row.has("model"):
            length = int(row.number("isl") + row.number("osl"))
            times[row.text("model"), row.text("phase"), length] = row.measured
    found: dict[int, Count] = {}
    for (name, _, length), time in times.items():
        if name == "bert-base" and ("gpt2", "decode", length) in times:
            encode = time / _flops(chip, name, Scenario(phase="encode", batch=1.0, prompt=float(length)))
            step = Scenario(phase="decode", batch=1.0, context=float(length))
            found[length] = times["gpt2", "decode", length] / _flops(chip, "gpt2", step) / encode
    return found


def _flops(chip: Chip, name: str, scenario: Scenario) -> Flops:
    model = load.model(name)
    if not isinstance(model, Model):
        raise InputError(f"{name}: no transformer")
    return float(estimate(chip, model, scenario, Precision.parse("fp32"), level="ideal").flops)
