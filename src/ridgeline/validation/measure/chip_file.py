"""A chip file of what was measured: the catalogue's template, the source of every number in it."""

from collections.abc import Mapping
from dataclasses import dataclass

from ridgeline.quantities import BytesPerSecond, Count, FlopsPerSecond, Seconds
from ridgeline.validation.measure.levels import Level
from ridgeline.validation.measure.work import Machine

_DDR_LATENCY = 90.0  # ns
_HBM_LATENCY = 600.0
TILES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_ACROSS = (64, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048)


@dataclass(frozen=True, kw_only=True)
class Found:
    """What micro-benchmarks fix of a chip."""

    machine: Machine
    levels: tuple[Level, ...]
    bandwidth: BytesPerSecond  # of main memory
    bandwidth_spread: Count
    launch: Seconds
    rates: Mapping[str, FlopsPerSecond]
    special: FlopsPerSecond  # functions a second
    constants: Mapping[str, Count]  # of kernels, in place of the family's
    notes: tuple[str, ...] = ()


def text(found: Found, date: str) -> str:
    """Return the file."""
    machine = found.machine
    said = f"ridgeline measure, {machine.software}, {date}"
    lines = [
        f"# {machine.title}, as `ridgeline measure` found it on {date}.",
        "# Rates are what products reach at their best, not a datasheet's: shares of a peak in [efficiency] are of these.",
        *(f"# {one}" for one in found.notes),
        f'name = "{_clean(machine.title)} (measured here)"',
        f'vendor = "{_clean(machine.vendor)}"',
        f'family = "{machine.family}"',
        f'kind = "{machine.kind}"',
        'source = "measured here"',
        f'where = "{_clean(said)}"',
        "",
        "[cores]",
        f"count = {_number(machine.cores, '1', 'that the library runs on')}",
        f"clock = {_number(machine.clock / 1e9, 'GHz', 'as the system or the driver states it, not measured')}",
        "",
        *_units(found),
        *(line for level in found.levels for line in _level(level)),
        *_main(found),
        "[transfer]",
        'engine = "cores"',
        f"asynchronous = {'false' if machine.kind == 'cpu' else 'true'}",
        "",
        "[overhead]",
        f"launch = {_number(found.launch * 1e6, 'us', 'of a small module that eager code calls')}",
        "",
        *_efficiency(found),
    ]
    return "\n".join(lines)


def _clean(name: str) -> str:
    return name.replace("\\", "/").replace('"', "'")


def _number(value: float, unit: str, note: str = "") -> str:
    said = f', note = "{note}"' if note else ""
    return f'{{ value = {value:.4g}, unit = "{unit}"{said} }}'


def _units(found: Found) -> list[str]:
    simd = found.machine.kind == "cpu"
    wide = found.rates.get("fp32")
    lines = ["[matrix_unit]", f'kind = "{"simd" if simd else "dot-product"}"']
    if simd:
        pairs = ", ".join(f"[{rows}, {columns}]" for rows in TILES for columns in _ACROSS)
        lines.append(f"tiles = [{pairs}]  # a core's share of a product may be of any size")
    lines += ["", "[matrix_unit.rate]", *(f"{name} = {_rate(name, rate)}" for name, rate in found.rates.items()), ""]
    lines.append("[vector_unit.rate]")
    if wide is not None:
        lines.append(f"fp32 = {_rate('fp32', wide, 'the lanes that multiply matrices in fp32')}")
    special = _number(found.special / 1e9, "GOP/s", "special functions, from vector kernels and prefill")
    return [*lines, f"exponential = {special}", ""]


def _rate(format: str, rate: FlopsPerSecond, note: str = "") -> str:
    return _number(rate / 1e12, "TOP/s" if format.startswith("int") else "TFLOP/s", note)


def _level(level: Level) -> list[str]:
    knee = "" if level.knee is None else f"; the bandwidth falls half-way at a working set of {level.knee / 2**20:.3g} MiB"
    return [
        "[[memory]]",
        f'name = "{level.name}"',
        'role = "cache"',
        'technology = "SRAM"',
        f'shared_by = "{"chip" if level.shared else "core"}"',
        'managed_by = "cache"',
        f"capacity = {_number(level.capacity / 2**10, 'KiB', 'as the system states it, or the knee' + knee)}",
        f"bandwidth = {_number(level.bandwidth / 1e9, 'GB/s', _spread('working sets inside it', level.spread))}",
        "",
    ]


def _spread(sets: str, factor: Count) -> str:
    return f"read; {sets} spread by a factor of {factor:.2f}"


def _main(found: Found) -> list[str]:
    machine = found.machine
    gpu = machine.kind == "gpu"
    latency = _HBM_LATENCY if gpu else _DDR_LATENCY
    lines = []
    if machine.local is not None:
        lines += ["[[memory]]", 'name = "scratchpad"', 'role = "scratchpad"', 'shared_by = "core"', 'managed_by = "software"']
        lines += [f"capacity = {_number(machine.local / 2**10, 'KiB', 'as the driver states it')}", ""]
    return [
        *lines,
        "[[memory]]",
        f'name = "{machine.memory_kind}"',
        'role = "dram"',
        'shared_by = "chip"',
        'managed_by = "software"',
        f"capacity = {_number(machine.memory / 1e9, 'GB', 'as the system states it')}",
        f"bandwidth = {_number(found.bandwidth / 1e9, 'GB/s', _spread('large sets', found.bandwidth_spread))}",
        f'latency = {{ value = {latency:g}, unit = "ns", estimate = true, note = "usual for such memory; not measured" }}',
        "",
    ]


_MEANINGS = {
    "matrix": "the rates above are what products reach",
    "lanes": "the rates above are what products reach",
    "bandwidth": "the bandwidth above is what long streams reach",
    "tile_loss": "output elements along an edge of a tile that cost as much as its border; fitted to products of few rows",
    "paged": "of that bandwidth that attention over a long cache reaches; fitted to decode attention",
}


def _efficiency(found: Found) -> list[str]:
    lines = ["[efficiency]  # constants of kernels, in place of the family's"]
    return [*lines, *(f"{name} = {_number(value, '1', _MEANINGS[name])}" for name, value in found.constants.items()), ""]
