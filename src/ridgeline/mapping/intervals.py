"""The interval of a step: the residuals of its kernels' kinds, weighted by their shares of its time."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from ridgeline.arrays import is_scalar
from ridgeline.costs.uncertainty import CALL_TIME, beyond_range, half_width, pooled_factor, ratio_half_width, step_half_width
from ridgeline.quantities import Fraction, Seconds
from ridgeline.results import Interval, Operation, OperationEstimate
from ridgeline.specs.chip import Chip
from ridgeline.specs.number_format import NumberFormat
from ridgeline.specs.residual import Residual, Residuals

ARRAY = "array"  # kernels of systolic arrays, all of one kind
_EXCHANGES = {"all-to-all": "exchange:all-to-all", "send": "exchange:send"}
NINETY = 1.2816  # standard deviations from the mean to the 90th percentile: half of an interval of 80 %
_DECODE_QUERIES = 16.0  # of a sequence, up to which attention runs as decode


class HalfWidths(NamedTuple):
    """Half-widths of ln(measured / predicted), downwards and upwards."""

    lower: Fraction
    upper: Fraction


# ---- kinds ------------------------------------------------------------------------------------------------------------------


def residual_kind(operation: Operation) -> str:
    """Return the kind of kernel under which the residuals of an operation are found."""
    if not operation.products:
        return "vector"
    lead = operation.products[0]
    if operation.kind == "attention" and len(operation.products) == 2:
        queries = lead.m
        phase = "decode" if is_scalar(queries) and queries <= _DECODE_QUERIES else "prefill"
        return f"{'latent' if len(operation.reads) == 2 else 'attention'}:{phase}"
    return "experts" if operation.group == "experts" else product_kind(*lead.formats)


def product_kind(stationary: NumberFormat, streaming: NumberFormat) -> str:
    """Return the kind of a product by its formats: 16-bit, fp32, fp8, block-scaled fp8, or the format's own name.

    Products of int8, and of narrow weights that are converted to 16 bits, are off as 16-bit products are.

    >>> from ridgeline.specs.number_format import FORMATS
    >>> product_kind(FORMATS["int4"], FORMATS["bf16"]), product_kind(FORMATS["tf32"], FORMATS["tf32"])
    ('product:half', 'product:fp32')
    """
    if stationary.bits < streaming.bits and streaming.bits >= 16:
        return "product:half"
    if stationary.bits == 8 and stationary.name.startswith("fp8"):
        return "product:fp8-block" if stationary.scale is not None else "product:fp8"
    names = {"bf16": "half", "fp16": "half", "fp32": "fp32", "tf32": "fp32", "int8": "half"}
    return f"product:{names.get(stationary.name, stationary.name)}"


def exchange_kind(kind: str, *, across: bool) -> str:
    """Return the kind of residuals of a collective: within a box rings and trees are one, across boxes all are.

    >>> exchange_kind("all-gather", across=False), exchange_kind("send", across=False), exchange_kind("send", across=True)
    ('exchange:ring', 'exchange:send', 'exchange:across')
    """
    return "exchange:across" if across else _EXCHANGES.get(kind, "exchange:ring")


# ---- half-widths ------------------------------------------------------------------------------------------------------------


def half_widths(known: Residuals, kind: str, time: Seconds, family: str) -> HalfWidths | None:
    """Return the half-widths of a kernel of a kind, widened by the distance from what was seen; None where nothing was."""
    found = known.of(kind)
    if found is None:
        return None
    wider: Fraction = _distance(known, found, kind, family)
    if known.beyond > 0.0:
        wider = wider * beyond_range(time=time, least=found.least, most=found.most, exponent=known.beyond)
    return HalfWidths(
        half_width(time=time, steady=found.lower, short=found.lower_short, call=CALL_TIME) * wider,
        half_width(time=time, steady=found.upper, short=found.upper_short, call=CALL_TIME) * wider,
    )


def _distance(known: Residuals, found: Residual, kind: str, family: str) -> float:
    """Return by how much half-widths grow for few chips, for a family that none of them is of, and for a format not seen."""
    unseen = known.unseen_family if found.families and family not in found.families else 1.0
    other = known.unseen_format if kind.startswith("product:") and found.kind == "product" else 1.0
    return float(pooled_factor(chips=float(found.chips), between=known.between)) * max(unseen, other)


def step_half_widths(chip: Chip, rows: Sequence[OperationEstimate], time: Seconds, phase: str) -> HalfWidths | None:
    """Return the half-widths of a step from those of its rows, by share of its time; None where no kind of them is known."""
    known = chip.residuals
    if known is None:
        return None
    lower: list[Fraction] = [0.0, 0.0]
    upper: list[Fraction] = [0.0, 0.0]
    some = False
    for row in rows:
        kind = ARRAY if chip.efficiency is None else row.residual
        own = half_widths(known, kind, row.time, chip.family) if kind else None
        if own is None:
            continue
        some, share = True, row.time * row.count / time
        for sums, width in ((lower, share * own.lower), (upper, share * own.upper)):
            sums[0] = sums[0] + width * width
            sums[1] = sums[1] + width
    if not some:
        return None
    level = HalfWidths(0.0, 0.0) if chip.stack is None else level_half_widths(known, step_kind(chip.stack.name, phase))
    return HalfWidths(
        *(
            step_half_width(squares=squares, total=total, correlation=known.correlation, level=whole)
            for (squares, total), whole in zip((lower, upper), level, strict=True)
        )
    )


def level_half_widths(known: Residuals, kind: str) -> HalfWidths:
    """Return the half-widths of what a step takes beside its kernels: of its stack and phase, else of its stack, else of any."""
    found = known.of(kind)
    if found is None:
        return HalfWidths(0.0, 0.0)
    wider = float(pooled_factor(chips=float(found.chips), between=known.between))
    return HalfWidths(found.lower * wider, found.upper * wider)


def step_kind(stack: str, phase: str) -> str:
    """Return the kind under which residuals of whole steps are found.

    >>> step_kind("vllm", "generate")
    'step:vllm:decode'
    """
    return f"step:{stack}:{'decode' if phase in ('decode', 'generate') else 'prefill'}"


def as_interval(known: Residuals, widths: HalfWidths) -> Interval:
    """Return factors on a time from half-widths of its logarithm."""
    return Interval(coverage=known.coverage, lower=math.e**-widths.lower, upper=math.e**widths.upper)


def step_interval(chip: Chip, level: str, rows: Sequence[OperationEstimate], time: Seconds, phase: str) -> Interval | str:
    """Return the interval of a step, or the sentence that says why it has none."""
    if level != "mapped":
        return f"no interval: the level {level} predicts no machine: what it leaves out is no error of measurement"
    if phase == "train":
        return "no interval: no measured training steps"
    if chip.residuals is None:
        return f"no interval: no measurements of chips like {chip.name} to judge predictions by"
    widths = step_half_widths(chip, rows, time, phase)
    if widths is None:
        return f"no interval: no measurements of kernels like those of this step on {chip.name}"
    return as_interval(chip.residuals, widths)


# ---- two chips --------------------------------------------------------------------------------------------------------------


def ratio_half_widths(known: Residuals, first: HalfWidths, second: HalfWidths, *, whole: bool = True) -> HalfWidths:
    """Return the half-widths of ln(first / second): narrower than of two strangers, for what is wrong of one is of the other.

    The ratio is lower than predicted where the first is, or the second is higher.
    """
    correlation = known.pair_step if whole else known.pair
    return HalfWidths(
        ratio_half_width(first=first.lower, second=second.upper, correlation=correlation),
        ratio_half_width(first=first.upper, second=second.lower, correlation=correlation),
    )


def order_probability(ratio: float, widths: HalfWidths) -> float:
    """Return the probability that the measured ratio of two times is below one, where `ratio` is predicted: Φ(−ln ratio / σ).

    The half-width towards one counts, as 1.2816 standard deviations of a normal distribution.

    >>> round(order_probability(0.8, HalfWidths(0.3, 0.3)), 2)  # −ln 0.8 = 0.223 is 0.95 standard deviations of 0.234
    0.83
    """
    distance = -math.log(ratio)
    half = widths.upper if distance > 0.0 else widths.lower
    if half <= 0.0:
        return 0.5 if distance == 0.0 else float(distance > 0.0)
    return 0.5 * (1.0 + math.erf(distance / (half / NINETY) / math.sqrt(2.0)))
