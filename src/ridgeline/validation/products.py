"""Rows that time a matrix product: the formats that they name, what a library runs around it, and the prediction."""

from typing import NamedTuple

import numpy as np

from ridgeline.arrays import maximum
from ridgeline.costs.waves import resident_share
from ridgeline.errors import InputError, nearest
from ridgeline.mapping.many_core import Engine, Method, Shape, engine, place_product
from ridgeline.quantities import Seconds
from ridgeline.specs.chip import Chip
from ridgeline.validation.group import Group, Times
from ridgeline.validation.schema import Row

_PRODUCTS = ("gemm", "linear", "bmm", "matmul")


def is_product(row: Row) -> bool:
    """Say whether a row times one dense product, batched or not."""
    return (
        row.metric in ("latency", "throughput") and row.has("m", "n", "k") and not row.has("topk") and not row.has("model", "isl")
    )


def flops(row: Row) -> float:
    """Return the FLOPs of a product's row."""
    groups = row.number("groups", 1.0) * row.number("b", 1.0)
    return 2.0 * groups * row.number("m") * row.number("n") * row.number("k")


class Formats(NamedTuple):
    """A schema's `dtype` of a product: the formats it may be computed in, the best first, and the bytes of a value."""

    compute: tuple[str, ...]
    left: float
    right: float
    out: float
    converts: bool = False
    block: float = 0.0
    quantised: str = ""  # tensor or block: 16-bit activations are quantised before the product


_HALF = ("bf16", "fp16")
_FP8 = ("fp8-e4m3", "fp8-e5m2")
FORMATS: dict[str, Formats] = {
    "fp32": Formats(("fp32",), 4, 4, 4),
    "tf32": Formats(("tf32",), 4, 4, 4),
    **dict.fromkeys(("fp16", "float16", "half"), Formats(("fp16", "bf16"), 2, 2, 2)),
    **dict.fromkeys(("bf16", "bfloat16", "fp16/bf16"), Formats(_HALF, 2, 2, 2)),
    **dict.fromkeys(("fp8", "fp8_static", "fp8_ootb", "fp8-e4m3"), Formats(_FP8, 1, 1, 2, quantised="tensor")),
    "fp8_block": Formats(_FP8, 1, 1, 2, block=128, quantised="block"),
    **dict.fromkeys(("int8_sq", "sq", "int8", "w8a8"), Formats(("int8",), 1, 1, 2)),
    **dict.fromkeys(("w4a16", "int4_wo", "int4", "w4a16_awq", "w4a16_gptq"), Formats(_HALF, 2, 0.5, 2, converts=True)),
    **dict.fromkeys(("w8a16", "int8_wo"), Formats(_HALF, 2, 1, 2, converts=True)),
    "w4a16_mxfp4": Formats(_HALF, 2, 0.53125, 2, converts=True),
    **dict.fromkeys(("w4afp8", "w4a8_awq"), Formats(_FP8, 1, 0.5, 2, converts=True, quantised="tensor")),
    "w4a8_mxfp4_mxfp8": Formats(_FP8, 1.03125, 0.53125, 2, quantised="block"),
    **dict.fromkeys(("nvfp4", "fp4"), Formats(("nvfp4", "mxfp4", "fp4-e2m1"), 0.5625, 0.5625, 2, quantised="block")),
    "mxfp4": Formats(("mxfp4", "nvfp4", "fp4-e2m1"), 0.53125, 0.53125, 2, quantised="block"),
}


def formats(dtype: str) -> Formats:
    """Return what a `dtype` of the schema stands for."""
    key = dtype.strip().lower() or "fp16"
    if key not in FORMATS:
        raise InputError(f"dtype {dtype!r} of a product: {nearest(key, FORMATS)}")
    return FORMATS[key]


def on_chip(chip: Chip, dtype: str) -> tuple[str, Formats]:
    """Return the format in which a chip computes a product, and its formats.

    Weights in fp8 on a chip without a unit for them are widened in the main loop, the activations stay at 16 bits.
    """
    form = formats(dtype)
    if form.compute[0] not in _FP8 or any(one in chip.matrix_unit.rate for one in _FP8):
        return compute_format(chip, form, dtype), form
    widened = form._replace(compute=_HALF, left=2.0, converts=True, block=0.0, quantised="")
    return compute_format(chip, widened, dtype), widened


def compute_format(chip: Chip, form: Formats, dtype: str) -> str:
    """Return the format in which a chip computes the product; raise `InputError` where it has none of them."""
    for one in form.compute:
        if one in chip.matrix_unit.rate or one in chip.vector_unit.rate:
            return one
    raise InputError(f"{chip.name} has no unit that multiplies {dtype}")


def times(group: Group) -> Times:
    """Predict products: the kernel, the passes that quantise its activations, and the call's fixed time."""
    dtype = group.text("dtype")
    chip, family, stack = group.chip, group.family, group.stack
    format, form = on_chip(chip, dtype)
    machine = engine(chip, family, format)
    block_scaled = form.block > 0
    # A library that takes quantised operands as they are (DeepGEMM) scales by blocks whatever its rows call the format.
    method = Method(
        splits=stack.splits_block_scaled if block_scaled else stack.splits,
        converts=form.converts,
        block=128.0 if block_scaled or (stack.block_scaled and form.quantised == "tensor") else 0.0,
        weight_copies=stack.weight_copies,
    )
    batch = group.column("b", 1.0) * group.column("groups", 1.0)
    m, n, k = (group.column(one) for one in ("m", "n", "k"))
    stride = n * form.right if group.text("op") == "linear" else 0.0 * n  # weights of a layer, one row for each of k
    shape = Shape(batch, m, n, k, form.left, form.right, form.out, stride)
    tiles = (stack.block_tiles if block_scaled else ()) or stack.tiles or chip.matrix_unit.tiles
    parts = place_product(machine, family, shape, method, tiles)
    time = parts.time + stack.fixed_of.get("product", stack.fixed)
    if stack.quantises and form.quantised:
        time = time + _quantise(group, machine, shape, form)
    return Times(time, ideal(chip, format, shape, machine, stack.weight_copies))


def _quantise(group: Group, machine: Engine, shape: Shape, form: Formats) -> Seconds:
    """Time of the kernels that bring 16-bit activations to the product's format."""
    stack = group.stack
    kernels, moved = (
        (stack.tensor_kernels, stack.tensor_bytes) if form.quantised == "tensor" else (stack.block_kernels, stack.block_bytes)
    )
    values = shape.batch * shape.m * shape.k
    found = resident_share(footprint=3.0 * values, capacity=machine.cache) if stack.weight_copies else 0.0 * values
    rate = 1.0 / (found / maximum(machine.cache_bandwidth, machine.bandwidth) + (1.0 - found) / machine.bandwidth)
    return kernels * stack.pass_time + moved * values / rate


def ideal(chip: Chip, format: str, shape: Shape, machine: Engine, weight_copies: float) -> Seconds:
    """Return the bound under the row's own residency: compulsory bytes that do not start in the cache, FLOPs at the peak."""
    peak = max(chip.matrix_unit.rate.get(format, 0.0), chip.vector_unit.rate.get(format, 0.0))
    work = 2.0 * shape.batch * shape.m * shape.n * shape.k
    operands = shape.batch * (shape.m * shape.k * shape.left + shape.n * shape.k * shape.right)
    results = shape.batch * shape.m * shape.n * shape.out
    moved = operands + results
    if weight_copies:
        footprint = weight_copies * shape.batch * shape.n * shape.k * shape.right + shape.batch * shape.m * shape.k * shape.left
        found = resident_share(footprint=footprint + results, capacity=machine.cache)
        moved = operands * (1.0 - found) + results
    return np.maximum(work / peak, moved / chip.main_memory.bandwidth)
