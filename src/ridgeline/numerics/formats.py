"""Quantise and dequantise: an array of numbers to codes of a number format with shared scales, and back.

Every number format of the specifications that has a layout: floats, integers, `ternary` and `binary` with one scale a tensor,
channel or group; formats with block scales (microscaling, nvfp4, fp8-block, llama.cpp's) with their own.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ridgeline.errors import InputError
from ridgeline.numerics.codes import Codes, Floats, Integers, Overflow, as_floats, as_format, decode, encode, integer_range, limits
from ridgeline.numerics.groups import Groups, Sharing, groups_of
from ridgeline.numerics.packing import pack
from ridgeline.quantities import Bytes
from ridgeline.specs.number_format import E8M0, FORMATS, BlockScale, NumberFormat

_SCALE = FORMATS["fp32"]  # of scales that the format does not carry itself


@dataclass(frozen=True, kw_only=True, eq=False)
class Quantised:
    """Codes of a number format with the scales that turn them back into numbers; see `dequantise` for the equation.

    `codes` has the shape of the values. `scales` has one number a group, as float64 that the scale's own format holds exactly:
    shape () for a tensor, (channels,) for channels, and for groups and blocks the shape of the values with the number of groups
    in place of the length of the axis.
    """

    codes: Codes
    scales: Floats
    format: NumberFormat
    groups: Groups
    zero_points: Integers | None = None  # asymmetric integers: the code's value that stands for 0, a number for each scale
    tensor_scale: float = 1.0  # above the block scales
    minima: Floats | None = None  # of blocks that have one
    sub_scales: Integers | None = None  # (blocks, sub-blocks): scales below those of the block
    sub_minima: Integers | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the values."""
        return self.groups.shape

    @property
    def packed(self) -> Codes:
        """The codes as bytes, side by side."""
        return pack(self.codes, self.format)

    @property
    def scale_codes(self) -> Codes:
        """The bit patterns of the scales."""
        return encode(self.scales, _scale_format(self.format))

    @property
    def storage_bytes(self) -> Bytes:
        """Bytes of codes and of the scales that the format carries: `bytes_per_value` · elements where all blocks are full."""
        code_bytes = -(-self.codes.size * int(self.format.bits) // 8)
        blocks = self.scales.size if self.format.scale is not None else 0
        return code_bytes + blocks * self.format.block_bits / 8

    @property
    def side_bytes(self) -> Bytes:
        """Bytes beside the format's own: fp32 scales of tensors, channels and groups, zero points as wide as a code."""
        scale = self.format.scale
        if scale is not None:
            return FORMATS[scale.tensor].bytes_per_value if scale.tensor else 0.0
        scales = 0 if self.groups.kind == "none" else self.scales.size
        zeros = 0 if self.zero_points is None else self.zero_points.size
        return scales * _SCALE.bytes_per_value + zeros * self.format.bits / 8


def quantise(
    values: ArrayLike,
    form: NumberFormat | str,
    *,
    scale: Sharing = "own",
    axis: int | None = None,
    group: int | None = None,
    symmetric: bool = True,
    overflow: Overflow = "saturate",
) -> Quantised:
    """Return values in a number format, with scales fitted to them.

    Which values share a scale: `scale="tensor"`, `"channel"` (along `axis`, by default the first), `"group"` of `group` values
    along `axis` (by default the last; the last group may be short), `"none"`, or the format's `"own"`: its blocks along `axis`
    where it has them, else none for floats of 16 bits or more, and one a tensor for the rest. With a = max |x| of a group:

    - floats: s = a / largest. Symmetric integers: s = a / (2^(b−1) − 1), codes −(2^(b−1) − 1) … 2^(b−1) − 1. Asymmetric
      (`symmetric=False`): s = (max(x, 0) − min(x, 0)) / (2^b − 1), zero point z = round(−2^(b−1) − min(x, 0) / s), so that 0 is
      exact [jacob2018integer, eq. 1]. Scales are rounded up to fp32 (blocks: to their own format), so that nothing saturates:
      |x − x'| ≤ s/2 of integers. Without a scale, values beyond the largest go where `overflow` says, see `encode`.
    - `ternary` [ma2024ternary, eq. 1–3] and `binary` [rastegari2016xnor, eq. 6]: s = mean |x|.
    - microscaling: s = 2^(⌊log₂ a⌋ − ⌊log₂ largest⌋) in e8m0; values above the largest saturate [ocp2023mx, section 6.3].
    - nvfp4: tensor scale t = max |x| / (6 · 448) in fp32, block scale a / (6 t), nearest in e4m3 [nvidia2024nvfp4].
    - `q4_0`, `q6_k`: the value of largest magnitude takes the lowest code; `q4_k`, `q5_k`: from the minimum up; `q4_k`, `q5_k`,
      `q6_k` with 6- and 8-bit scales for sub-blocks [llamacpp2024ggml]. Layouts are llama.cpp's; it searches for better scales,
      and keeps the fields in another order.

    A group of zeros has scale 1, or the least power of two. Each x / s is computed in float64 and rounded to the nearest code,
    ties to even; for values of fp32 or narrower and codes of 24 significant bits or fewer that is the exact quotient, rounded
    once, unless the scale has two levels.

    Raises `InputError` for values that are not finite (unless `scale="none"` and `overflow="special"`), a scale that overflows
    its format, a format that is only an average, and arguments that do not go together.

    >>> quantise([0.0, 0.5, -1.0, 6.35], "int8").codes.tolist()  # s = 0.05
    [0, 10, 236, 127]
    >>> short = quantise([1.0, -3.0, 0.4, 6.5], "mxfp4")  # 2^(2 − 2) = 1; 6.5 is nearest to 6
    >>> short.scales.tolist(), dequantise(short).tolist()
    ([1.0], [1.0, -3.0, 0.5, 6.0])
    """
    form = as_format(form)
    real = as_floats(values)
    groups = groups_of(form, real.shape, scale=scale, axis=axis, group=group)
    if not symmetric and (
        form.kind != "integer" or form.scale is not None or form.bits == 1 or form.states or groups.kind == "none"
    ):
        raise InputError(f"zero points go with int2 to int32 and a scale, not with {form.name} and scale={groups.kind!r}")
    plain = groups.kind == "none"
    if overflow != "saturate" and not plain:
        raise InputError(f"overflow={overflow!r} goes with scale='none': under a fitted scale nothing overflows")
    if overflow == "saturate" and not np.isfinite(real).all():
        remedy = "overflow='special' codes them" if plain else "a scale cannot be fitted to them"
        raise InputError(f"{int((~np.isfinite(real)).sum())} of {real.size} values are not finite: {remedy}")
    if plain:
        return Quantised(codes=encode(real, form, overflow=overflow), scales=np.ones(()), format=form, groups=groups)
    rows = groups.split(real)
    if form.scale is not None and form.scale.sub_block:
        return _super_blocks(rows, form, form.scale, groups)
    if not symmetric:
        return _asymmetric(rows, form, groups)
    tensor = 1.0
    if form.scale is not None and form.scale.tensor:
        tensor = _tensor_scale(real, form, form.scale)
    scales = _scales(rows, form, groups, tensor)
    lowest = -limits(form).largest if form.scale is None else -np.inf
    whole = np.maximum(_quotient(rows, scales, tensor), lowest)
    return Quantised(
        codes=groups.join(encode(whole, form)), scales=groups.gather(scales), format=form, groups=groups, tensor_scale=tensor
    )


def dequantise(quantised: Quantised) -> Floats:
    """Return the numbers that codes and scales stand for, in float64.

    x' = s · t · (value of the code − z), with the scale s of the group, the scale t of the tensor and the zero point z; of
    blocks with sub-blocks x' = s · s_sub · value − m · m_sub. Exact wherever the product fits in 53 bits: always, but for
    int32 codes and fp64.

    >>> dequantise(quantise([0.25, 1.0], "int8", symmetric=False)).round(6).tolist()  # steps of 1/255
    [0.25098, 1.0]
    """
    form, groups = quantised.format, quantised.groups
    rows = groups.split(decode(quantised.codes, form))
    scales = groups.scatter(quantised.scales)[:, None]
    if quantised.sub_scales is not None and form.scale is not None:
        rows = rows * np.repeat(scales * quantised.sub_scales, form.scale.sub_block, axis=1)
        if quantised.minima is not None and quantised.sub_minima is not None:
            below = groups.scatter(quantised.minima)[:, None] * quantised.sub_minima
            rows = rows - np.repeat(below, form.scale.sub_block, axis=1)
        return groups.join(rows)
    if quantised.zero_points is not None:
        rows = rows - groups.scatter(quantised.zero_points)[:, None]
    return groups.join(rows * (scales * quantised.tensor_scale))


def signal_to_noise(values: ArrayLike, quantised: Quantised) -> float:
    """Return the signal-to-quantisation-noise ratio in decibels: 10 log₁₀(Σ x² / Σ (x − x')²); infinite without an error.

    >>> round(signal_to_noise([1.0, 0.52], quantise([1.0, 0.52], "int2")), 2)  # 0.52 became 1: 10 log₁₀(1.2704 / 0.2304)
    7.41
    """
    real = as_floats(values)
    if real.shape != quantised.shape:
        raise InputError(f"values of shape {real.shape} were not quantised to codes of shape {quantised.shape}")
    unit = np.abs(real).max(initial=0.0) or 1.0  # so that no square overflows
    noise = float(np.sum(((real - dequantise(quantised)) / unit) ** 2))
    signal = float(np.sum((real / unit) ** 2))
    if noise == 0:
        return float("inf")
    return 10 * float(np.log10(signal / noise)) if signal else float("-inf")


def _scale_format(form: NumberFormat) -> NumberFormat:
    return _SCALE if form.scale is None else form.scale.number_format


def _scales(rows: Floats, form: NumberFormat, groups: Groups, tensor: float) -> Floats:
    """One scale a row, exact in its format."""
    largest = np.abs(rows).max(axis=1, initial=0.0)
    stored = _scale_format(form)
    if stored == E8M0:
        # frexp: largest magnitude = fraction · 2^exponent with 0.5 ≤ fraction < 1
        exponents = np.frexp(largest)[1].astype(np.int64) - np.frexp(limits(form).largest)[1]
        if (exponents[largest > 0] > E8M0.bias).any():
            raise InputError(f"{form.name}: the values are too large for a scale in {E8M0.name}, which ends at 2^{E8M0.bias}")
        bounded = np.where(largest > 0, np.clip(exponents, -E8M0.bias, E8M0.bias), -E8M0.bias)
        return np.ldexp(1.0, bounded)
    if form.kind == "integer" and (form.bits == 1 or form.states):
        return _rounded_up(np.abs(rows).sum(axis=1) / np.maximum(groups.members, 1), stored, form)
    if form.scale is not None and form.scale.tensor:
        return decode(encode(largest / limits(form).largest / tensor, stored), stored)
    if form.scale is not None and form.scale.signed:
        lowest = integer_range(form)[0]
        return _rounded_up(_extreme(rows) / lowest, stored, form)
    return _rounded_up(largest / limits(form).largest, stored, form)


def _tensor_scale(real: Floats, form: NumberFormat, scale: BlockScale) -> float:
    """The scale of the whole tensor: the largest block scale becomes the largest of its format."""
    largest = np.abs(real).max(initial=0.0)
    reach = limits(form).largest * limits(scale.number_format).largest
    return float(_rounded_up(np.asarray([largest / reach]), FORMATS[scale.tensor or ""], form)[0])


def _rounded_up(wanted: Floats, stored: NumberFormat, form: NumberFormat) -> Floats:
    """The least value of a scale's format, away from zero, that is not below the one wanted; 1 in place of 0."""
    magnitude = np.abs(wanted)
    codes = encode(magnitude, stored).astype(np.int64)
    codes = codes + (decode(codes, stored) < magnitude)
    if (magnitude > limits(stored).largest).any():
        raise InputError(
            f"{form.name}: the values are too large for a scale in {stored.name}, which ends at {limits(stored).largest:g}"
        )
    return np.where(wanted == 0, 1.0, np.copysign(decode(codes, stored), wanted))


def _extreme(rows: Floats) -> Floats:
    """The value of largest magnitude of each row, with its sign."""
    if not rows.size:
        return np.zeros(len(rows))
    return np.take_along_axis(rows, np.abs(rows).argmax(axis=1)[:, None], axis=1)[:, 0]


def _quotient(rows: Floats, scales: Floats, tensor: float = 1.0) -> Floats:
    """Values by scales; 0, with the value's sign, where a scale came out as zero."""
    step = scales[:, None] * tensor
    with np.errstate(under="ignore"):
        return np.where(step == 0, np.copysign(0.0, rows), rows / np.where(step == 0, 1.0, step))


def _asymmetric(rows: Floats, form: NumberFormat, groups: Groups) -> Quantised:
    lowest, highest = integer_range(form)
    steps = highest - lowest
    top, bottom = rows.max(axis=1, initial=0.0), rows.min(axis=1, initial=0.0)
    scales = _rounded_up(top / steps - bottom / steps, _SCALE, form)
    zeros = np.clip(np.rint(lowest - bottom / scales), lowest, highest)
    codes = encode(_quotient(rows, scales) + zeros[:, None], form)
    return Quantised(
        codes=groups.join(codes),
        scales=groups.gather(scales),
        zero_points=groups.gather(zeros.astype(np.int64)),
        format=form,
        groups=groups,
    )


def _super_blocks(rows: Floats, form: NumberFormat, scale: BlockScale, groups: Groups) -> Quantised:
    """Blocks whose sub-blocks have scales, and minima, of a few bits, that the block's scale and minimum multiply."""
    parts = rows.reshape(len(rows), rows.shape[1] // scale.sub_block, scale.sub_block)
    lowest, highest = integer_range(form)
    finest = 2 ** (scale.sub_bits - scale.signed) - 1
    minima = sub_minima = None
    below = np.zeros(parts.shape[:2])
    if scale.minimum:
        bottom = -parts.min(axis=2, initial=0.0)
        wanted = (parts.max(axis=2, initial=0.0) + bottom) / (highest - lowest)
        minima = _rounded_up(bottom.max(axis=1, initial=0.0) / finest, scale.number_format, form)
        sub_minima = np.clip(np.rint(bottom / minima[:, None]), 0, finest).astype(np.int64)
        below = minima[:, None] * sub_minima
    else:
        wanted = _extreme(rows.reshape(rows.size // scale.sub_block, scale.sub_block)).reshape(parts.shape[:2]) / lowest
    scales = _rounded_up(np.abs(wanted).max(axis=1, initial=0.0) / finest, scale.number_format, form)
    sub_scales = np.clip(np.rint(wanted / scales[:, None]), -finest, finest).astype(np.int64)
    step = (scales[:, None] * sub_scales)[..., None]
    whole = np.where(step == 0, 0.0, (parts + below[..., None]) / np.where(step == 0, 1.0, step))
    return Quantised(
        codes=groups.join(encode(whole.reshape(rows.shape), form)),
        scales=groups.gather(scales),
        format=form,
        groups=groups,
        minima=None if minima is None else groups.gather(minima),
        sub_scales=sub_scales,
        sub_minima=sub_minima,
    )
