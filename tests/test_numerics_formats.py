"""Codes, scales and bytes of every number format: against ml_dtypes, against exact fractions, and by what must always hold."""

import math
from dataclasses import replace
from fractions import Fraction
from typing import Any

import hypothesis.extra.numpy as arrays
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ridgeline as rl
from ridgeline.errors import InputError
from ridgeline.numerics.codes import decode, encode, integer_range, limits, rounded
from ridgeline.numerics.formats import dequantise, quantise, signal_to_noise
from ridgeline.numerics.packing import pack, unpack
from ridgeline.numerics.product import float_product, integer_product, quantised_product
from ridgeline.specs.number_format import E8M0, FORMATS, NumberFormat

FP6_E2M3 = replace(FORMATS["fp6"], name="fp6-e2m3", exponent=2, mantissa=3)
# The formats that another program has: ours, its type, and the type of its bits.
OTHERS = [
    (FORMATS["fp64"], np.float64, np.uint64),
    (FORMATS["fp32"], np.float32, np.uint32),
    (FORMATS["fp16"], np.float16, np.uint16),
    (FORMATS["bf16"], ml_dtypes.bfloat16, np.uint16),
    (FORMATS["fp8-e4m3"], ml_dtypes.float8_e4m3fn, np.uint8),
    (FORMATS["fp8-e5m2"], ml_dtypes.float8_e5m2, np.uint8),
    (FORMATS["fp6"], ml_dtypes.float6_e3m2fn, np.uint8),
    (FP6_E2M3, ml_dtypes.float6_e2m3fn, np.uint8),
    (FORMATS["fp4-e2m1"], ml_dtypes.float4_e2m1fn, np.uint8),
    (replace(FORMATS["fp8-e4m3"], name="e3m4", exponent=3, mantissa=4, special="infinity"), ml_dtypes.float8_e3m4, np.uint8),
    (replace(FORMATS["fp8-e4m3"], name="e4m3-ieee", special="infinity"), ml_dtypes.float8_e4m3, np.uint8),
]
NARROW = [one for one in OTHERS if one[0].bits <= 16]
SMALL = [form for form, _, _ in OTHERS if form.bits <= 8]
LAYOUTS = [form for form in FORMATS.values() if form.block is None or form.scale is not None]
BLOCKS = [form for form in LAYOUTS if form.scale is not None]
PLAIN = [form for form in LAYOUTS if form.scale is None]


def named(one: Any) -> str:
    return one.name if isinstance(one, NumberFormat) else getattr(one, "__name__", str(one))


def same(first: Any, second: Any) -> None:
    """Equal numbers, with the sign of zero; NaN equals NaN."""
    np.testing.assert_array_equal(first, second)
    number = ~np.isnan(first)
    np.testing.assert_array_equal(np.signbit(first)[number], np.signbit(second)[number])


# ---- codes ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("form", "kind", "bits"), NARROW, ids=named)
def test_every_code_decodes_as_elsewhere(form: NumberFormat, kind: Any, bits: Any):
    codes = np.arange(2 ** int(form.bits), dtype=bits)
    with np.errstate(invalid="ignore"):  # of a signalling NaN, in the other program
        expected = codes.view(kind).astype(np.float64)
    same(decode(codes, form), expected)


@pytest.mark.parametrize("form", [form for form, _, _ in NARROW], ids=named)
def test_every_finite_code_comes_back(form: NumberFormat):
    codes = np.arange(2 ** int(form.bits))
    finite = codes[np.isfinite(decode(codes, form))]
    np.testing.assert_array_equal(encode(decode(finite, form), form), finite)
    np.testing.assert_array_equal(encode(decode(finite, form), form, overflow="special"), finite)


def edges(form: NumberFormat) -> Any:
    """Every value of up to 16 bits, every tie between two of them, and the fp32 neighbours of both; specials; far outside."""
    if form.bits <= 16:
        values = decode(np.arange(2 ** (int(form.bits) - 1)), form)
        values = np.unique(values[np.isfinite(values)])
    else:
        values = np.ldexp(1.0, np.arange(-149, 128))
    ties = (values[1:] + values[:-1]) / 2
    beyond = values[-1] + np.diff(values)[-1] * np.array([0.25, 0.5, 0.75, 1.0, 4.0])
    found = np.concatenate([values, ties, beyond, [1e-45, 1e-38, 3e38, np.inf]])
    found = np.clip(found, None, np.finfo(np.float32).max) * (found < np.inf) + np.where(found == np.inf, np.inf, 0)
    with np.errstate(over="ignore", under="ignore"):
        single = found[~np.isnan(found)].astype(np.float32)
        near = [single, np.nextafter(single, np.float32(0)), np.nextafter(single, np.float32(np.inf))]
    whole = np.concatenate(near)
    return np.concatenate([whole, -whole])


def dense(count: int = 200_000) -> Any:
    """Random bit patterns of fp32: every magnitude, subnormals among them; and as many values near 1."""
    random = np.random.default_rng(7)
    patterns = random.integers(0, 2**32, count, dtype=np.uint64).astype(np.uint32).view(np.float32)
    near = (random.standard_normal(count) * np.exp2(random.integers(-12, 12, count))).astype(np.float32)
    return np.concatenate([patterns[np.isfinite(patterns)], near])


@pytest.mark.parametrize(("form", "kind", "bits"), OTHERS[1:], ids=named)
@pytest.mark.parametrize("inputs", ["edges", "dense"])
def test_rounding_is_as_elsewhere_bit_for_bit(form: NumberFormat, kind: Any, bits: Any, inputs: str):
    values = edges(form) if inputs == "edges" else dense()
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        expected = values.astype(kind).view(bits)
    found = encode(values, form, overflow="special")
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)
    finite = np.isfinite(decode(expected, form))
    np.testing.assert_array_equal(encode(values, form)[finite], expected[finite])  # saturation is for the rest


def test_fp64_keeps_every_bit():
    random = np.random.default_rng(8)
    values = random.integers(0, 2**64, 100_000, dtype=np.uint64).view(np.float64)
    values = np.concatenate([values[~np.isnan(values)], [0.0, -0.0, 5e-324, -5e-324, 2.2e-308, 1.7976931348623157e308, np.inf]])
    codes = encode(values, "fp64", overflow="special")
    np.testing.assert_array_equal(codes, values.view(np.uint64))
    same(decode(codes, "fp64"), values)


@pytest.mark.parametrize("form", [*SMALL, FORMATS["tf32"], FORMATS["bf16"], FORMATS["fp16"]], ids=named)
def test_rounding_of_doubles_is_once(form: NumberFormat):
    """Against exact fractions: a double next to a tie goes to its own side (through fp32 it would not)."""
    unsigned = int(form.bits) - 1
    used = form.exponent + form.mantissa
    random = np.random.default_rng(9)
    codes = np.arange(2**used) if used <= 8 else np.unique(random.integers(0, 2**used, 400))
    table = [value for value in decode(codes << (unsigned - used), form).tolist() if math.isfinite(value)]
    where = [Fraction(value) for value in table]
    following = {
        value: decode(np.asarray([code + 1 << (unsigned - used)]), form)[0] for code, value in zip(codes, table, strict=False)
    }
    for low, exact in zip(table, where, strict=True):
        high = float(following[low])
        if not math.isfinite(high) or (high == 0):
            continue
        middle = float((exact + Fraction(high)) / 2)
        even = low if int(encode([low], form)[0] >> (unsigned - used)) % 2 == 0 else high
        for value, expected in ((middle, even), (math.nextafter(middle, 0), low), (math.nextafter(middle, math.inf), high)):
            assert rounded([value, -value], form).tolist() == [expected, -expected]


@settings(deadline=None)
@given(
    arrays.arrays(np.float64, st.integers(0, 20), elements=st.floats(allow_nan=False)),
    st.sampled_from([*PLAIN, FP6_E2M3]),
)
def test_rounding_gives_the_nearest_in_order_and_once_only(values: Any, form: NumberFormat):
    found = rounded(values, form, overflow="saturate")
    lowest = integer_range(form)[0] if form.kind == "integer" else -limits(form).largest
    assert ((found >= lowest) & (found <= limits(form).largest)).all()
    same(rounded(found, form, overflow="saturate"), found)
    order = np.argsort(values, kind="stable")
    assert (np.diff(found[order]) >= 0).all()
    if form.kind == "float":
        same(rounded(-values, form, overflow="saturate"), -found)


def test_beyond_the_largest():
    inputs = [1e9, -1e9, np.inf, -np.inf]
    assert rounded(inputs, "fp8-e5m2").tolist() == [np.inf, -np.inf, np.inf, -np.inf]
    assert np.isnan(rounded(inputs, "fp8-e4m3")).all()
    assert rounded(inputs, "fp4-e2m1").tolist() == [6, -6, 6, -6]
    assert rounded(inputs, "int4").tolist() == [7, -8, 7, -8]
    for name, largest in {"fp8-e5m2": 57344, "fp8-e4m3": 448, "fp6": 28, "fp4-e2m1": 6}.items():  # of the published tables
        assert rounded(inputs, name, overflow="saturate").tolist() == [largest, -largest, largest, -largest]


def test_not_a_number_stays_one_or_is_refused():
    for name in ("fp64", "fp32", "tf32", "bf16", "fp16", "fp8-e4m3", "fp8-e5m2"):
        assert np.isnan(rounded([np.nan, -np.nan], name)).all()
        assert np.isnan(rounded([np.nan], name, overflow="saturate")).all()
    for name in ("fp6", "fp4-e2m1", "int8", "ternary", "binary"):
        with pytest.raises(InputError, match="no code for NaN"):
            encode([1.0, np.nan], name)


def test_powers_of_two_are_as_elsewhere():
    codes = np.arange(256, dtype=np.uint8)
    same(decode(codes, E8M0), codes.view(ml_dtypes.float8_e8m0fnu).astype(np.float64))
    np.testing.assert_array_equal(encode(decode(codes, E8M0), E8M0), codes)
    values = np.abs(dense(20_000))
    values = values[(values >= 2.0**-126) & (values < 2.0**127)]
    np.testing.assert_array_equal(encode(values, E8M0), values.astype(ml_dtypes.float8_e8m0fnu).view(np.uint8))
    with pytest.raises(InputError, match="zero and negative"):
        encode([0.0], E8M0)


@pytest.mark.parametrize(
    ("name", "kind"), [("int2", ml_dtypes.int2), ("int4", ml_dtypes.int4), ("int8", np.int8), ("int16", np.int16)]
)
def test_integer_codes_are_as_elsewhere(name: str, kind: Any):
    form = FORMATS[name]
    lowest, highest = integer_range(form)
    whole = np.arange(lowest, highest + 1)
    mask = 2 ** int(form.bits) - 1
    expected = whole.astype(kind).view(np.uint16 if form.bits == 16 else np.uint8).astype(np.int64) & mask
    np.testing.assert_array_equal(encode(whole, form), expected)
    np.testing.assert_array_equal(decode(expected, form), whole)
    assert encode([-1e300, 1e300], form).tolist() == [lowest & mask, highest]


def test_ternary_and_binary_codes():
    assert encode([-9.0, -0.5, 0.5, 1.5, -0.0], "ternary").tolist() == [3, 0, 0, 1, 0]
    assert decode([0, 1, 3], "ternary").tolist() == [0, 1, -1]
    assert encode([-1e-300, 0.0, -0.0, 5.0], "binary").tolist() == [1, 0, 0, 0]
    assert decode([0, 1], "binary").tolist() == [1, -1]
    with pytest.raises(InputError, match="code 2 stands for nothing"):
        decode([2], "ternary")


@pytest.mark.parametrize(("form", "kind"), [(form, kind) for form, kind, _ in OTHERS[1:]], ids=named)
def test_the_ends_of_a_format_are_as_elsewhere(form: NumberFormat, kind: Any):
    theirs = ml_dtypes.finfo(kind)
    expected = [float(one) for one in (theirs.max, theirs.smallest_normal, theirs.smallest_subnormal, theirs.eps)]
    assert list(limits(form)) == expected


@pytest.mark.parametrize(("codes", "form"), [([256], "fp8"), ([-1], "int8"), ([0.5], "int8"), ([16], "fp4"), ([2], "binary")])
def test_codes_that_are_none_are_refused(codes: Any, form: str):
    with pytest.raises(InputError, match="codes of"):
        decode(codes, form)
    with pytest.raises(InputError, match="codes of"):
        pack(codes, form)


# ---- bytes ------------------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.data(), st.sampled_from([*LAYOUTS, FP6_E2M3]), st.integers(0, 70))
def test_packed_codes_come_back(data: st.DataObject, form: NumberFormat, count: int):
    bits = int(form.bits)
    codes = data.draw(st.lists(st.integers(0, 2**bits - 1), min_size=count, max_size=count))
    packed = pack(np.asarray(codes, dtype=np.uint64), form)
    assert packed.size == math.ceil(count * bits / 8)
    assert int.from_bytes(packed.tobytes(), "little") == sum(code << place * bits for place, code in enumerate(codes))
    assert unpack(packed, form, count).tolist() == codes


def test_packing_works_across_its_chunks():
    codes = np.random.default_rng(3).integers(0, 64, 200_001)
    np.testing.assert_array_equal(unpack(pack(codes, "fp6"), "fp6", codes.size), codes)


def test_the_wrong_number_of_bytes_is_refused():
    with pytest.raises(InputError, match="3 codes of int4 take 2 bytes, not 3"):
        unpack([1, 2, 3], "int4", 3)
    with pytest.raises(InputError, match="bytes"):
        unpack([256], "int8", 1)


@pytest.mark.parametrize("form", LAYOUTS, ids=named)
def test_stored_bytes_are_those_of_the_specification(form: NumberFormat):
    side = 256  # whole blocks of every format
    values = np.random.default_rng(1).standard_normal((side, side))
    quantised = quantise(values, form)
    assert quantised.storage_bytes == form.bytes_per_value * values.size  # exact: all are multiples of 1/8
    if form.scale is not None:
        assert form.block is not None
        assert form.scale.bits(form.block) == form.block_bits
        assert quantised.storage_bytes == quantised.packed.size + quantised.scales.size * form.block_bits / 8
    else:
        assert quantised.storage_bytes == quantised.packed.size


def test_bytes_beside_the_format():
    values = np.ones((6, 10))
    assert quantise(values, "bf16").side_bytes == 0
    assert quantise(values, "int8").side_bytes == 4
    assert quantise(values, "int8", scale="channel", symmetric=False).side_bytes == 6 * (4 + 1)
    assert quantise(values, "int4", scale="group", group=4).side_bytes == 6 * 3 * 4
    assert quantise(values, "nvfp4").side_bytes == 4
    assert quantise(values, "mxfp4").side_bytes == 0
    assert quantise(values, "mxfp4").storage_bytes == 60 / 2 + 6  # a block that is started counts whole


# ---- scales -----------------------------------------------------------------------------------------------------------------

SHARED = [{"scale": "tensor"}, {"scale": "channel"}, {"scale": "channel", "axis": 1}, {"scale": "group", "group": 3}]
FINITE = st.one_of(st.floats(-1e30, 1e30), st.floats(-4, 4), st.sampled_from([0.0, -0.0, 1e-30, 1e-310, 3e38, -3e38]))
MATRICES = arrays.arrays(np.float64, arrays.array_shapes(min_dims=2, max_dims=3, min_side=0, max_side=9), elements=FINITE)


@settings(deadline=None)
@given(
    MATRICES,
    st.sampled_from([form for form in PLAIN if form.kind == "integer" and form.bits > 1]),
    st.sampled_from(SHARED),
    st.booleans(),
)
def test_integers_are_half_a_step_off_at_most(values: Any, form: NumberFormat, shared: Any, symmetric: bool):
    if form.states:
        symmetric = True
    quantised = quantise(values, form, symmetric=symmetric, **shared)
    found = dequantise(quantised)
    assert found.shape == values.shape
    step = quantised.groups.join(
        np.broadcast_to(quantised.groups.scatter(quantised.scales)[:, None], quantised.groups.split(values).shape)
    )
    if not form.states:  # the mean of a ternary group leaves larger values outside
        assert (np.abs(found - values) <= step * 0.5 + np.abs(values) * 2.0**-50).all()
    if symmetric:
        top = limits(form).largest
        assert (np.abs(decode(quantised.codes, form)) <= top).all()
    assert (found[values == 0] == 0).all()


@settings(deadline=None)
@given(MATRICES, st.sampled_from([form for form in PLAIN if form.kind == "float" and form.bits <= 16]), st.sampled_from(SHARED))
def test_floats_are_half_a_step_off_at_most(values: Any, form: NumberFormat, shared: Any):
    quantised = quantise(values, form, **shared)
    found, scales = dequantise(quantised), quantised.groups.scatter(quantised.scales)
    step = quantised.groups.join(np.broadcast_to(scales[:, None], quantised.groups.split(values).shape))
    relative, absolute = limits(form).epsilon / 2, limits(form).smallest / 2
    assert (np.abs(found - values) <= (relative * np.abs(values) + absolute * step) * (1 + 1e-12)).all()
    np.testing.assert_array_equal(encode(quantised.scales, "fp32"), quantised.scale_codes)
    same(decode(quantised.scale_codes, "fp32"), quantised.scales)


@settings(deadline=None)
@given(MATRICES, st.sampled_from(BLOCKS))
def test_blocks_are_as_far_off_as_their_largest_value_allows(values: Any, form: NumberFormat):
    values = values / max(np.abs(values).max(initial=0) / 1e4, 1.0)  # some scales are fp16
    quantised = quantise(values, form)
    found, groups = dequantise(quantised), quantised.groups
    assert found.shape == values.shape
    rows = groups.split(values)
    reach = groups.join(np.broadcast_to(np.abs(rows).max(axis=1, initial=0)[:, None], rows.shape))
    # Of the largest value: half a step of the codes, with what the scale's own rounding adds (a power of two: a factor of 2;
    # sub-scales of 6 bits: 1/63), and the least scale that is not 0.
    steps = {"float": limits(form).epsilon, "integer": 2.0 / 2 ** (form.bits - 1)}[form.kind]
    least = {"fp16": 2.0**-24, "fp8-e4m3": 2.0**-9 * quantised.tensor_scale}.get(form.scale.format if form.scale else "", 2.0**-126)
    assert (np.abs(found - values) <= 1.1 * reach * steps + 8 * least * 64).all()


def test_blocks_of_powers_of_two_are_those_of_the_published_algorithm():
    """Scale 2^(⌊log₂ max⌋ − exponent of the largest): e4m3 8, e3m2 4, e2m1 2 [ocp2023mx, section 6.3]; elements as ml_dtypes."""
    random = np.random.default_rng(5)
    values = (random.standard_normal((8, 96)) * np.exp2(random.integers(-20, 20, (8, 1)))).astype(np.float32)
    for name, kind, top in (
        ("mxfp8", ml_dtypes.float8_e4m3fn, 8),
        ("mxfp6", ml_dtypes.float6_e3m2fn, 4),
        ("mxfp4", ml_dtypes.float4_e2m1fn, 2),
    ):
        quantised = quantise(values, name)
        blocks = values.reshape(8, 3, 32)
        exponents = np.floor(np.log2(np.abs(blocks).max(axis=2))) - top
        np.testing.assert_array_equal(quantised.scale_codes, exponents + 127)
        largest = float(ml_dtypes.finfo(kind).max)
        scaled = np.clip(blocks / np.exp2(exponents)[..., None], -largest, largest).astype(np.float32)
        np.testing.assert_array_equal(quantised.codes, scaled.astype(kind).view(np.uint8).reshape(8, 96))
        same(dequantise(quantised), (scaled.astype(kind).astype(float) * np.exp2(exponents)[..., None]).reshape(8, 96))


def test_nvfp4_has_two_levels_of_scales():
    values = np.random.default_rng(6).standard_normal((4, 64)).astype(np.float32)
    quantised = quantise(values, "nvfp4")
    blocks = values.astype(float).reshape(4, 4, 16)
    assert quantised.tensor_scale == pytest.approx(np.abs(values).max() / (6 * 448), rel=2**-23)  # fp32, rounded up
    scales = (np.abs(blocks).max(axis=2) / 6 / quantised.tensor_scale).astype(np.float32).astype(ml_dtypes.float8_e4m3fn)
    np.testing.assert_array_equal(quantised.scale_codes, scales.view(np.uint8))
    assert quantised.scales.max() == 448
    step = scales.astype(float)[..., None] * quantised.tensor_scale
    codes = np.clip(blocks / step, -6, 6).astype(ml_dtypes.float4_e2m1fn)
    np.testing.assert_array_equal(quantised.codes, codes.view(np.uint8).reshape(4, 64))


def test_blocks_of_zeros_and_blocks_far_below_the_largest():
    values = np.zeros((2, 64))
    for form in BLOCKS:
        np.testing.assert_array_equal(dequantise(quantise(values, form)), values)
    values[0, 0], values[1, 0] = 1e20, -1e-20
    assert dequantise(quantise(values, "mxfp8"))[1, 0] == pytest.approx(-1e-20, rel=1 / 16)  # half a step of e4m3
    assert dequantise(quantise(values, "nvfp4"))[1, 0] == 0  # out of reach of e4m3 beneath the tensor's scale


def test_a_square_of_weights_shares_a_scale():
    values = np.ones((130, 260))
    values[129, 259] = 896.0
    quantised = quantise(values, "fp8-block")
    assert quantised.scales.shape == (2, 3)
    assert quantised.scales[1, 2] == 2.0
    assert quantised.scales[0, 0] == pytest.approx(1 / 448, rel=2**-23)
    assert dequantise(quantised)[129, 259] == 896.0


def test_named_blocks_of_integers_put_their_ends_where_they_should():
    ramp = np.linspace(-8, 7.5, 32)
    assert decode(quantise(ramp, "q4_0").codes, "q4_0")[0] == -8  # the largest magnitude takes the lowest code
    assert decode(quantise(-ramp, "q4_0").codes, "q4_0")[0] == -8  # whatever its sign: the scale has the other one
    assert quantise(-ramp, "q4_0").scales[0] == -1
    assert dequantise(quantise(-ramp, "q4_0"))[0] == 8
    positive = np.linspace(1, 16, 256)
    found = dequantise(quantise(positive, "q4_k"))
    assert np.abs(found - positive).max() < 16 / 15 / 2 + 16 / 63  # from a minimum of 0 up


def test_an_average_of_formats_has_no_layout():
    with pytest.raises(InputError, match="average of formats"):
        quantise([1.0], "q4_k_m")


@pytest.mark.parametrize(
    ("values", "form", "options", "sentence"),
    [
        ([1.0, np.inf], "int8", {}, "1 of 2 values are not finite"),
        ([np.nan], "mxfp4", {}, "not finite"),
        ([np.inf], "bf16", {}, "overflow='special' codes them"),
        ([1e300], "int8", {}, "too large for a scale in fp32"),
        ([1e7], "q8_0", {}, "too large for a scale in fp16"),
        ([1.0], "mxfp4", {"scale": "tensor"}, "scales of its own"),
        ([1.0], "mxfp4", {"scale": "channel"}, "scales of its own"),
        ([1.0], "int8", {"scale": "row"}, "shared as one of"),
        ([1.0], "int8", {"scale": "group"}, "`group`"),
        ([1.0], "int8", {"group": 4}, "`group`"),
        ([1.0], "int8", {"scale": "group", "group": 0}, "1 or more"),
        ([1.0], "int8", {"scale": "group", "group": 1.5}, "whole number"),
        ([1.0], "int8", {"scale": "channel", "axis": 1}, "axis 1 does not exist"),
        ([1.0], "int8", {"axis": 0}, "`axis` goes with"),
        (1.0, "mxfp4", {}, "axis -1 does not exist"),
        ([1.0], "fp8-block", {}, "128 × 128"),
        ([1.0], "fp8", {"symmetric": False}, "zero points"),
        ([1.0], "binary", {"symmetric": False}, "zero points"),
        ([1.0], "int8", {"overflow": "special"}, "scale='none'"),
        ([1.0], "fp16", {"overflow": "wrap"}, "`saturate` or `special`"),
        (["a"], "fp16", {}, "real numbers"),
        ([[1.0], [1.0, 2.0]], "fp16", {}, "array of numbers"),
        ([1j], "fp16", {}, "real numbers"),
        ([1.0], "int7", {}, "unknown number format"),
    ],
)
def test_what_does_not_go_together_is_refused_in_a_sentence(values: Any, form: str, options: Any, sentence: str):
    with pytest.raises(InputError, match=sentence):
        quantise(values, form, **options)


@pytest.mark.parametrize("form", LAYOUTS, ids=named)
def test_empty_arrays_stay_empty(form: NumberFormat):
    for shape in ((0, 4), (4, 0), (0, 0)):
        quantised = quantise(np.zeros(shape), form)
        assert dequantise(quantised).shape == shape
        assert quantised.packed.size == 0


def test_the_verbs_are_at_hand():
    values = np.random.default_rng(2).standard_normal((16, 64))
    quantised = rl.quantise(values, "int8", scale="channel")
    np.testing.assert_array_equal(rl.dequantise(quantised), dequantise(quantised))
    assert rl.signal_to_noise(values, quantised) == signal_to_noise(values, quantised) > 35


# ---- products ---------------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(
    st.integers(0, 6),
    st.integers(0, 40),
    st.integers(0, 6),
    st.sampled_from(["int8", "int4", "int2", "ternary", "binary"]),
    st.booleans(),
)
def test_products_of_integers_are_exact(m: int, k: int, n: int, name: str, symmetric: bool):
    random = np.random.default_rng(m + 10 * k + n)
    symmetric = symmetric or name in ("ternary", "binary")
    left = quantise(random.standard_normal((m, k)) + 0.5, name, scale="channel", symmetric=symmetric)
    right = quantise(random.standard_normal((k, n)), name, scale="channel", axis=1, symmetric=symmetric)
    found = quantised_product(left, right)
    np.testing.assert_allclose(found, dequantise(left) @ dequantise(right), rtol=1e-12, atol=1e-12)  # of float64 sums


def test_a_sum_that_leaves_the_accumulator_is_refused():
    wide = replace(FORMATS["int32"], name="int40", bits=40)
    assert integer_product([[2**30, 2**30]], [[1], [1]], accumulate=wide).tolist() == [[2**31]]
    with pytest.raises(InputError, match="1 of 1 sums do not fit int32"):
        integer_product([[2**30, 2**30]], [[1], [1]])
    with pytest.raises(InputError, match="64 bits"):
        integer_product([[2**40]], [[2**40]])
    with pytest.raises(InputError, match="inner sizes differ"):
        integer_product([[1, 2]], [[1, 2]])
    with pytest.raises(InputError, match="matrices of integers"):
        integer_product([[1.0]], [[1]])


def test_floats_accumulate_one_by_one_in_their_format():
    """Against NumPy's own fp32 and fp16 arithmetic, which rounds each product and each sum."""
    random = np.random.default_rng(4)
    left, right = random.standard_normal((5, 33)), random.standard_normal((33, 7))
    for kind, name in ((np.float32, "fp32"), (np.float16, "fp16")):
        first, second = left.astype(kind), right.astype(kind)
        total = np.zeros((5, 7), kind)
        for k in range(33):
            total = total + first[:, k, None] * second[k]
        same(float_product(first, second, accumulate=name), total.astype(float))


def test_a_scale_that_changes_along_the_sum_is_refused():
    values = np.ones((4, 64))
    for left, right in (
        (quantise(values, "mxfp8"), quantise(values.T, "fp8")),
        (quantise(values, "int8", scale="channel", axis=1), quantise(values.T, "int8")),
        (quantise(values, "int8"), quantise(values.T, "int8", scale="channel")),
    ):
        with pytest.raises(InputError, match="change inside a sum"):
            quantised_product(left, right)
    with pytest.raises(InputError, match="an integer and a float"):
        quantised_product(quantise(values, "int8"), quantise(values.T, "fp8"))
    with pytest.raises(InputError, match="takes matrices"):
        quantised_product(quantise(values[0], "int8"), quantise(values.T, "int8"))
