"""One run: the levels of memory, a launch, every operation, the constants that they fix, and the chip file."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from ridgeline.catalogue import load
from ridgeline.errors import InputError
from ridgeline.quantities import Bytes, BytesPerSecond, Seconds
from ridgeline.specs.chip import Chip
from ridgeline.validation.measure import chip_file, fit
from ridgeline.validation.measure.chip_file import Found
from ridgeline.validation.measure.levels import Level, Point, levels
from ridgeline.validation.measure.rows import Measured, Stamp, as_rows
from ridgeline.validation.measure.timing import Sample, Timing, measure, measure_parts, summary
from ridgeline.validation.measure.work import (
    Collective,
    Device,
    Extent,
    Machine,
    Product,
    WholeModel,
    Work,
    held_back,
    models,
    rate,
    sets,
    works,
)

Progress = Callable[[str, int, int], None]  # what is under way, how much is done, of how much

_START_LOSS, _START_PAGED = 8.0, 0.9
_BEST = 3  # largest products from whose best a rate's search starts
_FORMATS_WIDE = ("fp32",)
_EXCHANGES = (2**14, 2**18, 2**22, 2**26)


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a run found."""

    found: Found
    chip_text: str
    measured: tuple[Measured, ...]
    points: tuple[Point, ...]  # bandwidth over working sets that the cores share
    own_points: tuple[Point, ...]  # over each core's own
    failed: tuple[str, ...]  # works that the library does not run here, and why
    seconds: Seconds


def run(device: Device, extent: Extent, *, whole_models: bool, date: str, progress: Progress) -> Run:
    """Measure a device, and return the chip file that follows."""
    start = device.clock.now()
    machine = device.machine()
    own, together = _points(device, machine, extent, progress)
    found_levels, bandwidth, spread = levels(own, together, machine.caches, machine.cores)
    device.prepare(max((one.capacity for one in found_levels), default=2.0**25))
    launch = _launch(device)
    asked: list[Work] = [*works(device.formats(), extent), *(models(extent) if whole_models else ())]
    measured, failed = _measure(device, asked, extent, start, progress)
    measured += _collectives(device, failed)
    found = _found(machine, (found_levels, bandwidth, spread), launch, measured, date)
    if not any(isinstance(one.work, Collective) for one in measured):
        found = replace(found, notes=(*found.notes, "one device: no collectives were measured"))
    return Run(
        found=found,
        chip_text=chip_file.text(found, date),
        measured=tuple(measured),
        points=tuple(together),
        own_points=tuple(own),
        failed=tuple(failed),
        seconds=device.clock.now() - start,
    )


# ---- memory -----------------------------------------------------------------------------------------------------------------


def _points(device: Device, machine: Machine, extent: Extent, progress: Progress) -> tuple[list[Point], list[Point]]:
    own_sizes, shared_sizes = sets(machine.caches)
    if extent.quick:
        own_sizes, shared_sizes = own_sizes[::2], [*shared_sizes[:-1:2], shared_sizes[-1]]
    total = len(own_sizes) + len(shared_sizes)
    own: list[Point] = []
    together: list[Point] = []
    for at, size in enumerate((*own_sizes, *shared_sizes)):
        progress("memory", at, total)
        private = at < len(own_sizes)
        call, moved = device.read(size, own=private)
        time = measure(device.clock, call, extent.budget / 2.0).time
        (own if private else together).append(rate(size, moved, time))
    return own, together


def _launch(device: Device) -> Seconds:
    call, count = device.launch()
    return measure(device.clock, call, 0.2).time / count


# ---- operations -------------------------------------------------------------------------------------------------------------


def _measure(
    device: Device, asked: Sequence[Work], extent: Extent, start: Seconds, progress: Progress
) -> tuple[list[Measured], list[str]]:
    """Time every work; those that others disturbed all the time are tried again at the end, while the deadline allows."""
    timings: dict[int, Timing] = {}
    failed: list[str] = []
    for at, work in enumerate(asked):
        progress(_name(work), at, len(asked))
        try:
            timings[at] = _timing(device, work, extent)
        except RuntimeError as error:  # the library says what it cannot run
            failed.append(f"{_name(work)} {work.columns.get('dtype', '')}: {str(error).splitlines()[0]}")
    for at in [at for at, one in timings.items() if one.samples == 0]:
        if device.clock.now() - start > extent.deadline:
            break
        progress(f"again: {_name(asked[at])}", at, len(asked))
        timings[at] = min(timings[at], _timing(device, asked[at], extent), key=lambda one: (one.samples == 0, one.time))
    held = held_back(asked)
    return [Measured(asked[at], timing, held[at]) for at, timing in sorted(timings.items())], failed


def _name(work: Work) -> str:
    return str(work.columns.get("op") or f"{work.columns['model']} {work.columns['phase']}")


def _timing(device: Device, work: Work, extent: Extent) -> Timing:
    if isinstance(work, WholeModel):
        return measure_parts(device.clock, device.parts(work), extent.model_budget, least=3)
    return measure(device.clock, device.run(work), extent.budget)


def _collectives(device: Device, failed: list[str]) -> list[Measured]:
    count = device.devices()
    if count < 2:
        return []
    try:
        times = device.all_reduces(_EXCHANGES)
    except RuntimeError as error:
        failed.append(f"all_reduce: {str(error).splitlines()[0]}")
        return []
    return [
        Measured(Collective(size, count), summary([Sample(one, disturbed=False) for one in each]), held=True)
        for size, each in times
    ]


# ---- the chip ---------------------------------------------------------------------------------------------------------------


def _found(
    machine: Machine,
    memory: tuple[tuple[Level, ...], BytesPerSecond, float],
    launch: Seconds,
    measured: Sequence[Measured],
    date: str,
) -> Found:
    """Return the chip with constants fitted to the rows that are not held back."""
    found_levels, bandwidth, spread = memory
    rates = _first_rates(measured)
    if not rates:
        raise InputError("no product could be measured, and a chip needs the rate of at least one format")
    first = Found(
        machine=machine,
        levels=found_levels,
        bandwidth=bandwidth,
        bandwidth_spread=spread,
        launch=launch,
        rates=rates,
        special=max(rates.values()) / 20.0,
        constants={"matrix": 1.0, "lanes": 1.0, "bandwidth": 1.0, "tile_loss": _START_LOSS, "paged": _START_PAGED},
        notes=machine.notes,
    )
    chip = _loaded(chip_file.text(first, date))
    rows = as_rows(measured, Stamp("measured", machine.software, date))
    fixing = [row for row, one in zip(rows, measured, strict=True) if not one.held]
    taken = sum(not one.timing.samples for one in measured)
    busy = f"{taken} of {len(measured)} works were never alone on the machine: their times are CPU times of the busiest thread"
    notes = [*machine.notes, *([busy] if taken else [])]
    before = fit.Constants(rates=first.rates, tile_loss=_START_LOSS, special=first.special, paged=_START_PAGED)
    after = fit.fit(chip, fixing, before)
    constants = {**first.constants, "tile_loss": after.tile_loss, "paged": after.paged}
    return replace(first, rates=after.rates, special=after.special, constants=constants, notes=tuple(notes))


def _first_rates(measured: Sequence[Measured]) -> dict[str, float]:
    """Return by format the best rate of the products: where the search of the peak starts."""
    found: dict[str, float] = {}
    for one in measured:
        if isinstance(one.work, Product) and not one.held:
            reached = 2.0 * one.work.m * one.work.n * one.work.k / one.timing.time
            found[one.work.format] = max(found.get(one.work.format, 0.0), reached)
    return found


def _loaded(text: str) -> Chip:
    """Return a chip file's text as the loader reads it."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "measured.toml"
        path.write_text(text, encoding="utf-8")
        return load.chip(str(path))


def cache_bytes(found: Found) -> Bytes:
    """Return what the last cache holds."""
    return max((one.capacity for one in found.levels), default=0.0)
