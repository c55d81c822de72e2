"""Which unit of a chip does what, and how fast: the format that a product is computed in, and the rate of vector functions."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ridgeline.errors import InputError
from ridgeline.quantities import FlopsPerSecond, JoulesPerFlop
from ridgeline.specs.chip import Chip
from ridgeline.specs.number_format import FORMATS, NumberFormat, accumulator
from ridgeline.specs.precision import Precision

_FLOATS = ("fp4-e2m1", "fp6", "fp8-e4m3", "fp8-e5m2", "bf16", "fp16", "tf32", "fp32", "fp64")
_SIXTEEN = ("bf16", "fp16", "tf32", "fp32")
# Formats in which a product may be computed without losing values, the best first. Block formats need a unit of theirs or are
# widened. Integers without an integer unit are converted to 16-bit floats, which hold 8-bit integers exactly.
_LADDER: Mapping[str, tuple[str, ...]] = {
    "fp64": ("fp64",),
    "fp32": ("fp32", "fp64"),
    "tf32": ("tf32", "fp32"),
    "bf16": _SIXTEEN,
    "fp16": ("fp16", "bf16", "tf32", "fp32"),
    "fp8-e4m3": ("fp8-e4m3", "fp8-e5m2", *_SIXTEEN),
    "fp8-e5m2": ("fp8-e5m2", "fp8-e4m3", *_SIXTEEN),
    "fp6": ("fp6", "mxfp6", "fp8-e4m3", "fp8-e5m2", *_SIXTEEN),
    "fp4-e2m1": ("fp4-e2m1", "nvfp4", "mxfp4", "fp6", "fp8-e4m3", "fp8-e5m2", *_SIXTEEN),
    "mxfp8": ("mxfp8", "fp8-e4m3", "fp8-e5m2", *_SIXTEEN),
    "mxfp6": ("mxfp6", "mxfp8", "fp6", "fp8-e4m3", *_SIXTEEN),
    "mxfp4": ("mxfp4", "nvfp4", "fp4-e2m1", "mxfp6", "mxfp8", "fp8-e4m3", *_SIXTEEN),
    "nvfp4": ("nvfp4", "fp4-e2m1", "mxfp4", "fp8-e4m3", *_SIXTEEN),
    "int32": ("int32", "fp64"),
    "int16": ("int16", "int32", "fp32"),
    "int8": ("int8", "int16", *_SIXTEEN),
    "int4": ("int4", "int8", *_SIXTEEN),
    "int2": ("int2", "int4", "int8", *_SIXTEEN),
    "ternary": ("ternary", "int2", "int4", "int8", *_SIXTEEN),
    "binary": ("binary", "ternary", "int2", "int4", "int8", *_SIXTEEN),
}


_LANES = ("fp32", "bf16", "fp16", "int32", "int8")  # what lanes compute in, the first that a chip has


@dataclass(frozen=True, eq=False)
class ComputeRate:
    """The unit that a product runs on: its format, its dense peak and its energy, where known."""

    format: str
    rate: FlopsPerSecond
    energy: JoulesPerFlop | None


def operand_format(formats: tuple[NumberFormat, NumberFormat]) -> str:
    """Return the format that both operands are brought to: integers meet floats as floats, the wider of a kind wins.

    >>> from ridgeline.specs.number_format import FORMATS
    >>> operand_format((FORMATS["int4"], FORMATS["bf16"])), operand_format((FORMATS["int4"], FORMATS["int8"]))
    ('bf16', 'int8')
    """
    stationary, streaming = (one.multiplies or one.name for one in formats)
    floats = [one.kind == "float" for one in formats]
    if floats[0] != floats[1]:
        return stationary if floats[0] else streaming
    return stationary if formats[0].bits > formats[1].bits else streaming


def compute_rate(chip: Chip, formats: tuple[NumberFormat, NumberFormat], accumulate: NumberFormat | None = None) -> ComputeRate:
    """Return the rate at which a chip multiplies two formats; raise `InputError` where it cannot.

    Formats without a unit of their own run in the next wider one that the chip has. Products in fp32 run on the vector lanes
    where the matrix unit has no fp32.
    """
    wanted = operand_format(formats)
    rates = chip.matrix_unit.rate
    for name in _LADDER.get(wanted, (wanted,)):
        key = f"{name}:{accumulate.name}" if accumulate else name
        key = key if key in rates else name
        if key in rates:
            return ComputeRate(name, rates[key], chip.matrix_unit.energy.get(name))
        if name in chip.vector_unit.rate:
            return ComputeRate(name, chip.vector_unit.rate[name], chip.vector_unit.energy.get(name))
    known = ", ".join(sorted(set(rates) | {one for one in chip.vector_unit.rate if one in _FLOATS})) or "none"
    raise InputError(f"{chip.name} has no unit that multiplies {wanted}; it has {known}: choose one with --precision")


def lane_energy(chip: Chip) -> JoulesPerFlop | None:
    """Return the energy of a lane operation, in fp32 where the chip gives it; None where it gives none."""
    energy = chip.vector_unit.energy
    return next((energy[name] for name in _LANES if name in energy), None)


def vector_rate(chip: Chip) -> tuple[FlopsPerSecond | None, FlopsPerSecond | None]:
    """Return the rates of lane operations (fp32 where the chip has it) and of special functions; None where unknown.

    The lanes' stated rate counts a fused multiply-add as two; taking it whole keeps the time a lower bound.
    """
    rates = {**chip.matrix_unit.rate, **chip.vector_unit.rate} if chip.matrix_unit.kind == "simd" else chip.vector_unit.rate
    lane = next((rates[name] for name in _LANES if name in rates), None)
    if lane is None:
        return None, rates.get("exponential")
    return lane, rates.get("exponential", lane)


def with_stream(chip: Chip, precision: Precision) -> Precision:
    """Return a precision whose wide format a chip has: one that computes in integers alone keeps sums as they accumulate.

    >>> from ridgeline.specs.chip import Chip, MatrixUnit
    >>> with_stream(Chip(name="array", matrix_unit=MatrixUnit(rate={"int8": 512e9})), Precision.parse("int8")).stream.name
    'int32'
    """
    formats = {name.partition(":")[0] for name in (*chip.matrix_unit.rate, *chip.vector_unit.rate)} - {"exponential"}
    if (
        precision.wide is not None
        or precision.activations.kind != "integer"
        or any(FORMATS[one].kind == "float" for one in formats)
    ):
        return precision
    return replace(precision, wide=accumulator(precision.activations))
