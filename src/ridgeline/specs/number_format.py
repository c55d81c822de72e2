"""Number formats: what a value occupies, block scales included, and what a multiplier of it costs.

The area and the energy of a multiplier grow with (mantissa + 1)² full adders; alignment, accumulation and operand movement
do not, which is why shipped chips gain about 2× from fp16 to fp8.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

from ridgeline.errors import InputError, nearest


class BlockScale(NamedTuple):
    """What the values of a block share: how the scale is written, and what stands below and above it."""

    format: str  # number format of the scale, and of the minimum where there is one
    dimensions: int = 1  # 2: a block is a square of the last two axes
    tensor: str | None = None  # number format of a further scale that the whole tensor shares
    sub_block: int = 0  # values that share a scale of `sub_bits` bits inside the block; 0: none
    sub_bits: int = 0
    minimum: bool = False  # codes count upwards from a minimum
    signed: bool = False  # the scale has a sign, so that the value of largest magnitude takes the lowest code

    @property
    def number_format(self) -> "NumberFormat":
        """The number format of the scale: one of all formats, or a power of two."""
        return E8M0 if self.format == E8M0.name else FORMATS[self.format]

    def bits(self, block: int) -> int:
        """Return the bits that a block adds to its values, the scale of the whole tensor left out."""
        sub_blocks = block // self.sub_block if self.sub_block else 0
        return (1 + self.minimum) * (int(self.number_format.bits) + sub_blocks * self.sub_bits)


@dataclass(frozen=True, kw_only=True)
class NumberFormat:
    """A number format, with the scale that a block of values shares.

    `bits` is the payload of one value. A block of `block` values adds `block_bits` of scales and minima;
    `block = None` means no scale that grows with the tensor.

    >>> FORMATS["mxfp4"].bits_per_value  # 4 + 8/32
    4.25
    >>> FORMATS["bf16"].full_adders  # (7 + 1)²
    64
    """

    name: str
    bits: float
    exponent: int = 0
    mantissa: int = 0  # stored fraction bits; for integers the bits beside the sign
    kind: str = "float"  # float or integer
    block: int | None = None
    block_bits: float = 0.0
    accumulate: str = "fp32"
    multiplies: str | None = None  # the format it is multiplied in, where it is a storage format only
    special: str = "infinity"  # a float's codes that are no number: infinity (and NaN), nan (the last code alone) or none
    states: int = 0  # values that an integer takes, where they are fewer than 2^bits
    scale: BlockScale | None = None  # how a block's scale is written; None beside a `block`: no layout, an average only

    @cached_property
    def bits_per_value(self) -> float:
        """Bits that one value occupies in memory, its share of the block scale included."""
        return self.bits + (self.block_bits / self.block if self.block else 0.0)

    @cached_property
    def bytes_per_value(self) -> float:
        """Bytes that one value occupies in memory, its share of the block scale included."""
        return self.bits_per_value / 8

    @property
    def bias(self) -> int:
        """What is added to a float's exponent before it is stored: 2^(exponent − 1) − 1.

        >>> FORMATS["fp8-e4m3"].bias
        7
        """
        return 2 ** (self.exponent - 1) - 1

    @property
    def full_adders(self) -> int:
        """Full adders of the mantissa multiplier: (mantissa + 1)² [fleetwood2025dsa]."""
        return (self.mantissa + 1) ** 2

    def blocked(self, block: int, block_bits: float, name: str) -> "NumberFormat":
        """Return this format with a scale of `block_bits` for every `block` values."""
        return replace(self, name=name, block=block, block_bits=block_bits, scale=None)


def _float(name: str, exponent: int, mantissa: int, **rest: object) -> NumberFormat:
    return NumberFormat(name=name, bits=1 + exponent + mantissa, exponent=exponent, mantissa=mantissa, **rest)  # type: ignore[arg-type]


def _integer(name: str, bits: float, **rest: object) -> NumberFormat:
    return NumberFormat(name=name, bits=bits, mantissa=max(int(bits) - 1, 0), kind="integer", accumulate="int32", **rest)  # type: ignore[arg-type]


# A power of two, which is all that the scale of a microscaling block is: an exponent without sign, fraction, zero or infinity.
E8M0 = NumberFormat(name="e8m0", bits=8, exponent=8, special="nan")
_POWER_OF_TWO = BlockScale("e8m0")
_SQUARE = BlockScale("fp32", dimensions=2)
_K_MINIMA = BlockScale("fp16", sub_block=32, sub_bits=6, minimum=True)
_K_SIGNED = BlockScale("fp16", sub_block=16, sub_bits=8, signed=True)

# tf32 is a 19-bit multiplier format whose values lie in memory as fp32. Microscaling (mx) formats share an 8-bit scale over
# 32 values [ocp2023mx]; nvfp4 an fp8 scale over 16 values [nvidia2024nvfp4]. q4_0 is llama.cpp's block of 32 four-bit values
# with an fp16 scale (18 bytes); q4_k a super-block of 256 in 144 bytes; q6_k 256 in 210 bytes; q8_0 32 in 34 [llamacpp2024ggml].
_ALL = [
    NumberFormat(name="fp64", bits=64, exponent=11, mantissa=52, accumulate="fp64"),
    _float("fp32", 8, 23),
    NumberFormat(name="tf32", bits=32, exponent=8, mantissa=10),
    _float("bf16", 8, 7),
    _float("fp16", 5, 10),
    _float("fp8-e4m3", 4, 3, special="nan"),
    _float("fp8-e5m2", 5, 2),
    _float("fp6", 3, 2, special="none"),
    _float("fp4-e2m1", 2, 1, special="none"),
    _float("mxfp8", 4, 3, block=32, block_bits=8, special="nan", scale=_POWER_OF_TWO),
    _float("mxfp6", 3, 2, block=32, block_bits=8, special="none", scale=_POWER_OF_TWO),
    _float("mxfp4", 2, 1, block=32, block_bits=8, special="none", scale=_POWER_OF_TWO),
    _float("nvfp4", 2, 1, block=16, block_bits=8, special="none", scale=BlockScale("fp8-e4m3", tensor="fp32")),
    _float("fp8-block", 4, 3, block=128 * 128, block_bits=32, multiplies="fp8-e4m3", special="nan", scale=_SQUARE),
    _integer("int32", 32),
    _integer("int16", 16),
    _integer("int8", 8),
    _integer("int4", 4),
    _integer("int2", 2),
    _integer("ternary", 2, states=3),
    _integer("binary", 1),
    _integer("int4-g128", 4, block=128, block_bits=16, multiplies="int4", scale=BlockScale("fp16")),
    _integer("q4_0", 4, block=32, block_bits=16, multiplies="int4", scale=BlockScale("fp16", signed=True)),
    _integer("q4_k", 4, block=256, block_bits=128, multiplies="int4", scale=_K_MINIMA),
    _integer("q5_k", 5, block=256, block_bits=128, multiplies="int8", scale=_K_MINIMA),
    _integer("q6_k", 6, block=256, block_bits=144, multiplies="int8", scale=_K_SIGNED),
    _integer("q8_0", 8, block=32, block_bits=16, multiplies="int8", scale=BlockScale("fp16")),
]
FORMATS: dict[str, NumberFormat] = {one.name: one for one in _ALL}
# llama.cpp's q4_k_m keeps half of the attention-value and feed-forward-down weights in q6_k, the rest in q4_k
# [llamacpp2024quantize]. Those two are 29 % of a LLaMA layer's weights: 4.5 + 0.145 · 2.0625 = 4.80 bits a weight.
FORMATS["q4_k_m"] = FORMATS["q4_k"].blocked(256, 0.80 * 256, "q4_k_m")
_ALIASES = {
    **{"fp8": "fp8-e4m3", "e4m3": "fp8-e4m3", "e5m2": "fp8-e5m2", "fp4": "fp4-e2m1", "half": "fp16", "float16": "fp16"},
    **{"float32": "fp32", "float": "fp32", "bfloat16": "bf16", "int1": "binary", "float8_e4m3fn": "fp8-e4m3"},
}


def number_format(name: str) -> NumberFormat:
    """Return a number format by name or usual spelling.

    >>> number_format("fp8").name
    'fp8-e4m3'
    """
    key = name.strip().lower()
    key = _ALIASES.get(key, key)
    if key not in FORMATS:
        raise InputError(f"unknown number format {name!r}: {nearest(key, FORMATS)}")
    return FORMATS[key]


def accumulator(form: NumberFormat) -> NumberFormat:
    """Return the format that products are summed in; raise `InputError` for a format that names none.

    >>> accumulator(FORMATS["fp8-e4m3"]).name, accumulator(FORMATS["int4"]).name
    ('fp32', 'int32')
    """
    if form.accumulate not in FORMATS:
        known = ", ".join(name for name in ("fp32", "fp16", "int32") if name in FORMATS)
        raise InputError(
            f"number format {form.name!r} has no accumulate format ({form.accumulate!r}): products of it cannot be summed; "
            f"name one, such as {known}"
        )
    return FORMATS[form.accumulate]
