"""The memory wall over the years: fits of its points, and the same question put to the catalogue's chips."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ridgeline.api.counts import count
from ridgeline.api.names import load_chip, names
from ridgeline.catalogue.published import trend_points
from ridgeline.costs.matmul import ridge
from ridgeline.costs.memory import bytes_in_flight
from ridgeline.errors import InputError
from ridgeline.specs.base import Source
from ridgeline.specs.chip import Chip
from ridgeline.survey.trends import Fit, Point, Projection, fit, project

# What the figures print beside their lines, or that was reported of them; factor in two years.
PRINTED: Mapping[str, float] = {
    "peak FLOPS": 3.0,
    "DRAM bandwidth": 1.6,
    "interconnect bandwidth": 1.4,
    "training compute of transformers": 750.0,
    "parameters of transformers": 410.0,
    "accelerator memory": 2.0,
}
LENGTHS = (128, 512, 4096)
FIRST_YEAR, LAST_YEAR = 2025, 2100  # that projections may reach
_FORMATS = ("bf16", "fp16", "int16", "fp32")  # a chip's balance is counted in the fastest that it has


@dataclass(frozen=True, kw_only=True)
class ChipPoint:
    """A chip of the catalogue: operations in 16 bits or more for a byte of main memory, and its latency where known."""

    name: str
    year: int
    kind: str
    format: str
    rate: float
    bandwidth: float
    balance: float
    latency: float | None
    in_flight: float | None  # bytes that must be under way to keep the memory busy
    sources: Mapping[str, Source]

    @property
    def latency_is_estimate(self) -> bool:
        """Whether no source prints the latency."""
        return any(path.endswith(".latency") and one.confidence == "estimate" for path, one in self.sources.items())


@dataclass(frozen=True, kw_only=True)
class Intensity:
    """FLOPs a byte of a model at a length, by the survey's way of counting: what stands beside the balance."""

    model: str
    kind: str  # an encoder over all tokens at once, or a decoder that makes them one by one
    tokens: int
    intensity: float


@dataclass(frozen=True, kw_only=True)
class Trends:
    """Points, fits, projections, chips and intensities."""

    points: Mapping[str, tuple[Point, ...]]
    fits: Mapping[str, Fit]
    printed: Mapping[str, float]
    projections: Mapping[str, tuple[Projection, ...]]
    chips: tuple[ChipPoint, ...]
    left_out: Mapping[str, str]  # chips of the catalogue that have no point, and why
    intensities: tuple[Intensity, ...]


def trends(*, confidence: float = 0.95, until: int = 2030) -> Trends:
    """Fit the points of the memory-wall figures, and the latency and balance of the catalogue's chips over the years.

    Each fit has its growth in two years with a confidence interval; projections reach to the year `until` and are marked as such.

    >>> found = trends()
    >>> round(found.fits["peak FLOPS"].rate, 2), round(found.fits["DRAM bandwidth"].rate, 2)
    (3.03, 1.59)
    """
    if not FIRST_YEAR <= until <= LAST_YEAR:
        raise InputError(f"until {until}: a year from {FIRST_YEAR} to {LAST_YEAR} is wanted: projections go on from the points")
    series = {
        name: tuple(Point(one["year"], one["value"], one["label"]) for one in points) for name, points in trend_points().items()
    }
    chips, left_out = _chips()
    machines = [one for one in chips if one.kind != "in-memory"]
    series["balance of chips"] = tuple(Point(one.year, one.balance, one.name) for one in machines)
    series["bandwidth of chips"] = tuple(Point(one.year, one.bandwidth, one.name) for one in machines)
    series["peak of chips"] = tuple(Point(one.year, one.rate, one.name) for one in machines)
    series["latency of DRAM"] = tuple(Point(one.year, one.latency, one.name) for one in chips if one.latency is not None)
    series["bytes in flight"] = tuple(Point(one.year, one.in_flight, one.name) for one in chips if one.in_flight is not None)
    fits = {name: fit(name, points, confidence=confidence) for name, points in series.items() if _can_be_fitted(points)}
    return Trends(
        points=series,
        fits=fits,
        printed=PRINTED,
        projections={name: _ahead(one, until) for name, one in fits.items()},
        chips=chips,
        left_out=left_out,
        intensities=_intensities(),
    )


def _can_be_fitted(points: Sequence[Point]) -> bool:
    return len(points) > 2 and len({one.year for one in points}) > 1


def _ahead(found: Fit, until: int) -> tuple[Projection, ...]:
    first = int(found.last) + 1
    return tuple(project(found, float(year)) for year in range(first, until + 1))


def _chips() -> tuple[tuple[ChipPoint, ...], dict[str, str]]:
    found: list[ChipPoint] = []
    left_out: dict[str, str] = {}
    for name in names("chip"):
        point = _chip_point(load_chip(name))
        if isinstance(point, str):
            left_out[name] = point
        else:
            found.append(point)
    return tuple(sorted(found, key=lambda one: (one.year, one.name))), left_out


def _chip_point(chip: Chip) -> ChipPoint | str:
    """Return a chip's point, or why it has none: no year, no DRAM, or no format of 16 bits or more."""
    main = chip.whole(chip.main_memory)
    rates = {**chip.vector_unit.rate, **chip.matrix_unit.rate}
    form = max((one for one in _FORMATS if one in rates), key=lambda one: float(rates[one]), default=None)
    if chip.year is None:
        return "no year is known"
    if main.role != "dram" or main.bandwidth is None:
        return "no DRAM of a known bandwidth holds its models"
    if form is None:
        return f"it multiplies none of {', '.join(_FORMATS)}"
    busy = None if main.latency is None else bytes_in_flight(latency=main.latency, bandwidth=main.bandwidth)
    paths = (f"matrix_unit.rate.{form}", f"memory.{main.name}.bandwidth", f"memory.{main.name}.latency")
    return ChipPoint(
        name=chip.name,
        year=chip.year,
        kind=chip.kind,
        format=form,
        rate=rates[form],
        bandwidth=main.bandwidth,
        balance=ridge(rate=rates[form], bandwidth=main.bandwidth),
        latency=main.latency,
        in_flight=busy,
        sources={path: chip.sources[path] for path in paths if path in chip.sources},
    )


def _intensities() -> tuple[Intensity, ...]:
    """Return FLOPs a byte of the survey's three models, encoder and decoder, at three lengths."""
    found: list[Intensity] = []
    for model, convention in (("bert-base", "encoder"), ("bert-large", "encoder"), ("gpt2", "decoder")):
        for tokens in LENGTHS:
            counted = count(model, convention=f"survey-{convention}", prompt=tokens).total
            found.append(Intensity(model=model, kind=convention, tokens=tokens, intensity=float(counted.intensity)))
    return tuple(found)
