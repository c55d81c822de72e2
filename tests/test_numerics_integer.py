"""Integer-only functions against exact ones: the published errors, bounds over all scales and widths, and extreme inputs."""

import json
import math
import re
from pathlib import Path
from typing import Any

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ridgeline.errors import InputError
from ridgeline.numerics import integer
from ridgeline.numerics.codes import limits
from ridgeline.numerics.formats import quantise, signal_to_noise
from ridgeline.numerics.integer import (
    INT32,
    Scaled,
    integer_exponential,
    integer_gelu,
    integer_layer_norm,
    integer_softmax,
    integer_square_root,
    requantise,
)
from ridgeline.specs.number_format import FORMATS

WIDTHS = st.sampled_from([4, 8, 12, 16, 24, 32])
# From far below what a value can show to far above, powers of two and their neighbours among them.
SCALES = st.one_of(
    st.floats(1e-6, 10.0),
    st.floats(1e-200, 1e200),
    st.integers(-40, 20).map(lambda exponent: 2.0**exponent),
    st.integers(-40, 20).map(lambda exponent: math.nextafter(2.0**exponent, 0)),
)


@st.composite
def inputs(draw: Any, dimensions: int = 2, least: int = 0) -> tuple[Any, int]:
    """Integers of a width: anything, all equal, all the most negative, both ends, one huge outlier."""
    bits = draw(WIDTHS)
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    shape = draw(arrays.array_shapes(min_dims=1, max_dims=dimensions, min_side=least, max_side=20))
    element = st.one_of(st.integers(low, high), st.integers(max(low, -5), min(high, 5)), st.sampled_from([low, high, 0]))
    values = draw(
        st.one_of(
            arrays.arrays(np.int64, shape, elements=element),
            st.builds(lambda one: np.full(shape, one), element),
            arrays.arrays(np.int64, shape, elements=st.sampled_from([low, high])),
        )
    )
    if values.size and draw(st.booleans()):
        values.reshape(-1)[draw(st.integers(0, values.size - 1))] = draw(st.sampled_from([low, high]))
    kind = draw(st.sampled_from([np.int64, np.int32] + ([np.int8] if bits <= 8 else [])))
    return values.astype(kind), bits


def exact_gelu(x: Any) -> Any:
    return np.vectorize(lambda one: 0.5 * one * (1 + math.erf(one / math.sqrt(2))), otypes=[float])(x)


def polynomial_gelu(x: Any) -> Any:
    """The approximation in real numbers, from the published coefficients."""
    u = np.minimum(np.abs(x) / math.sqrt(2), 1.769)
    return 0.5 * x * (1 + np.sign(x) * (-0.2888 * (u - 1.769) ** 2 + 1))


def is_sound(found: Scaled, shape: Any, lowest: int = -INT32 - 1, highest: int = INT32) -> None:
    assert found.values.shape == shape
    assert found.values.dtype == np.int64
    assert found.scale > 0
    assert ((found.values >= lowest) & (found.values <= highest)).all()


# ---- GELU -------------------------------------------------------------------------------------------------------------------


def test_gelu_is_as_far_off_as_published(facts: Path):
    published = json.loads((facts / "reference/F_ibert.json").read_text())["i_erf_i_GELU"]["paper_Table1_memory"]["i-GELU"]
    q = np.arange(-(2**15), 2**15)
    error = integer_gelu(q, 4 / 2**15, bits=16).real - exact_gelu(q * (4 / 2**15))
    assert [float(f"{one:.2g}") for one in (np.sqrt(np.mean(error**2)), np.abs(error).max())] == published


@pytest.mark.parametrize("step", [2.0**-15, 1e-5, 4 / 2**15, 0.001, 4 / 127])
def test_gelu_is_off_by_the_polynomial_alone(step: float):
    """Against the polynomial in real numbers: what integers add is 1 in 6000 of a value of 2.5 at most, at any step."""
    q = np.arange(-int(4 / step), int(4 / step) + 1)
    found = integer_gelu(q, step, bits=20).real
    assert np.abs(found - polynomial_gelu(q * step)).max() < 4e-4 + step / 16 * (step > 2**-12)
    assert np.abs(found - exact_gelu(q * step)).max() < 0.0186


@settings(deadline=None)
@given(inputs(), SCALES)
def test_gelu_at_every_scale_and_width(given_values: tuple[Any, int], scale: float):
    values, bits = given_values
    found = integer_gelu(values, scale, bits=bits)
    is_sound(found, values.shape)
    x = values.astype(float) * scale
    # The polynomial, 4e-4 for its integers, and half the output's step.
    assert (np.abs(found.real - exact_gelu(x)) <= 0.0186 + found.scale / 2 + np.abs(x) * 1e-15).all()
    if bits <= 16:
        np.testing.assert_allclose(found.real[x > 2.6], x[x > 2.6], rtol=1e-15)
    assert (found.values[x < -2.6] == 0).all()
    assert (found.values[x == 0] == 0).all()


# ---- exponential and softmax ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [2.0**-15, 3.65e-5, 5e-5, 2.0**-14, 7.3e-5, 1e-4, 0.01])
def test_the_exponential_is_as_far_off_as_published(facts: Path, step: float):
    published = json.loads((facts / "reference/F_ibert.json").read_text())["i_exp_softmax"]["paper_Linf"]
    q = -np.arange(0, int(25 / step))
    error = np.abs(integer_exponential(q, step).real - np.exp(q * step)).max()
    assert f"{error:.1e}" == published.split()[0].replace("e-3", "e-03")


@settings(deadline=None)
@given(inputs(), SCALES)
def test_the_exponential_at_every_scale_and_width(given_values: tuple[Any, int], scale: float):
    values, bits = given_values
    values = np.minimum(values, 0)
    found = integer_exponential(values, scale, bits=bits)
    is_sound(found, values.shape, 0)
    with np.errstate(under="ignore"):
        exact = np.exp(np.maximum(values.astype(float) * scale, -1e4))
    assert (np.abs(found.real - exact) <= 0.00195).all()
    assert (np.abs(found.real - exact) <= 0.0046 * exact + 2 * found.scale).all()  # relatively, too, down to 2^−30


def exact_softmax(x: Any, axis: int) -> Any:
    with np.errstate(under="ignore"):
        power = np.exp(np.maximum(x - x.max(axis=axis, keepdims=True), -1e4))
        return power / power.sum(axis=axis, keepdims=True)


@settings(deadline=None)
@given(inputs(dimensions=3, least=1), SCALES, st.sampled_from([2, 4, 8, 16, 31, 32]), st.data())
def test_softmax_at_every_scale_and_width(given_values: tuple[Any, int], scale: float, output_bits: int, data: st.DataObject):
    values, bits = given_values
    axis = data.draw(st.integers(-values.ndim, values.ndim - 1))
    found = integer_softmax(values, scale, axis=axis, bits=bits, output_bits=output_bits)
    is_sound(found, values.shape, 0, 2**output_bits - 1)
    total = found.values.sum(axis=axis)
    steps = round(1 / found.scale)
    assert ((total == steps) | (total == steps - 1)).all()
    assert (total[found.values.max(axis=axis) < steps - 1] == steps).all()  # one less only where an entry saturates
    exact = exact_softmax(values.astype(float) * scale, axis)
    assert (np.abs(found.real - exact) <= found.scale + 0.005 * exact + values.shape[axis] * 2.0**-29).all()
    order = np.argsort(values, axis=axis, kind="stable")
    ordered = np.take_along_axis(found.values, order, axis).astype(float)
    # Remainders may make one step of difference; the polynomials of two octaves meet 2.3e-5 apart.
    assert (np.diff(ordered, axis=axis) >= -1 - 4e-5 * ordered.max(axis=axis, keepdims=True)).all()


@pytest.mark.parametrize("length", [1, 2, 3, 197, 512, 4096, 131072])
@pytest.mark.parametrize("output_bits", [8, 16])
def test_rows_of_softmax_sum_to_one_within_a_step(length: int, output_bits: int):
    random = np.random.default_rng(length)
    for row in (
        random.integers(-128, 128, length),
        np.zeros(length, int),
        np.full(length, -128),
        np.eye(1, length, dtype=int)[0] * 127,
    ):
        found = integer_softmax(row, 0.05, output_bits=output_bits)
        assert abs(found.real.sum() - 1) <= found.scale
        assert np.abs(found.real - exact_softmax(row * 0.05, 0)).max() <= found.scale + 0.005 * exact_softmax(row * 0.05, 0).max()


def test_equal_entries_of_softmax_differ_by_one_step_at_most_and_larger_ones_are_not_less():
    found = integer_softmax(np.zeros(100, int), 1.0).values
    assert sorted(set(found.tolist())) == [2, 3]
    rising = integer_softmax(np.arange(-50, 50), 0.02).values
    assert (np.diff(rising) >= 0).all()


# ---- square root ------------------------------------------------------------------------------------------------------------


def test_square_roots_are_exact():
    squares = [n * n + more for n in (*range(1, 2000), 46340, 46341, 2**20, 2**26, 2**31, 3037000499) for more in (-1, 0, 1)]
    numbers = [*range(5000), *squares, *(2**n + more for n in range(2, 63) for more in (-1, 0, 1)), 2**63 - 1]
    numbers = [n for n in numbers if 0 <= n < 2**63]
    assert integer_square_root(numbers).tolist() == [math.isqrt(n) for n in numbers]


@settings(deadline=None)
@given(arrays.arrays(np.int64, st.integers(0, 30), elements=st.integers(0, 2**63 - 1)))
def test_square_roots_of_anything_are_exact(values: Any):
    assert integer_square_root(values).tolist() == [math.isqrt(n) for n in values.tolist()]


# ---- layer normalisation ----------------------------------------------------------------------------------------------------


def exact_layer_norm(values: Any, axis: int, weight: Any, bias: Any) -> Any:
    rows = np.moveaxis(values.astype(np.longdouble), axis, -1)
    deviation = rows - rows.mean(axis=-1, keepdims=True)
    deviation = np.where((rows == rows[..., :1]).all(axis=-1, keepdims=True), 0, deviation)
    spread = np.sqrt((deviation**2).mean(axis=-1, keepdims=True))
    normal = deviation / np.where(spread == 0, 1, spread)
    return np.moveaxis(normal * weight + bias, -1, axis)


NUMBERS = st.one_of(st.floats(1e-300, 4), st.floats(-4, -1e-300), st.sampled_from([0.0, 1.0, -1.0, 1e-3]))


@settings(deadline=None)
@given(inputs(dimensions=3, least=1), st.data())
def test_layer_norm_is_two_steps_of_8_bits_off_at_most(given_values: tuple[Any, int], data: st.DataObject):
    values, bits = given_values
    axis = data.draw(st.integers(-values.ndim, values.ndim - 1))
    count = values.shape[axis]
    weight = data.draw(st.one_of(NUMBERS, arrays.arrays(np.float64, count, elements=NUMBERS)))
    bias = data.draw(st.one_of(NUMBERS, arrays.arrays(np.float64, count, elements=NUMBERS)))
    chosen = data.draw(st.one_of(st.none(), st.floats(0.01, 1.0)))
    found = integer_layer_norm(values, weight=weight, bias=bias, axis=axis, bits=bits, output_scale=chosen)
    is_sound(found, values.shape, -128, 127)
    reach = np.clip(exact_layer_norm(values, axis, weight, bias), -128 * found.scale, 127 * found.scale)
    assert (np.abs(found.real - reach) <= 2 * found.scale).all()


@pytest.mark.parametrize("length", [2, 768, 1024, 65536])
@pytest.mark.parametrize("bits", [8, 16, 32])
def test_layer_norm_of_long_rows(length: int, bits: int):
    random = np.random.default_rng(length + bits)
    high = 2 ** (bits - 1) - 1
    normal = np.clip(np.rint(random.standard_normal((3, length)) * high / 6), -high - 1, high).astype(int)
    outlier = np.clip(np.rint(random.standard_normal((1, length))), -high - 1, high).astype(int)
    outlier[0, 0] = high
    small = random.integers(0, 2, (1, length))
    for rows in (normal, outlier, small):
        for scale in (None, 8 / 127):
            found = integer_layer_norm(rows, bits=bits, output_scale=scale)
            exact = np.clip(exact_layer_norm(rows, -1, 1.0, 0.0), -128 * found.scale, 127 * found.scale)
            assert np.abs(found.real - exact).max() <= found.scale * (1 if length <= 1024 else 1.2)


def test_rows_without_variance_give_the_bias():
    for row in ([7, 7, 7, 7], [-(2**31)] * 4, [0]):
        found = integer_layer_norm(row, bias=0.5)
        np.testing.assert_allclose(found.real, 0.5, atol=found.scale)
    assert integer_layer_norm([2**31 - 1] * 4).values.tolist() == [0, 0, 0, 0]


# ---- requantise -------------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(inputs(), SCALES, SCALES, st.sampled_from([2, 8, 16, 32]))
def test_requantised_values_are_half_a_step_off(given_values: tuple[Any, int], scale: float, output: float, output_bits: int):
    values, bits = given_values
    try:
        found = requantise(values, scale, output, bits=bits, output_bits=output_bits)
    except InputError:
        assert not 1e-307 < scale / output < 1e307
        return
    low, high = -(2 ** (output_bits - 1)), 2 ** (output_bits - 1) - 1
    is_sound(found, values.shape, low, high)
    exact = np.clip(values.astype(np.longdouble) * (np.longdouble(scale) / np.longdouble(output)), low, high)
    assert (np.abs(found.values - exact) <= 0.5 + np.abs(exact) * 2.0**-31 + 1e-6).all()


# ---- bad input --------------------------------------------------------------------------------------------------------------

ALL = [integer_gelu, integer_exponential, integer_softmax]


@pytest.mark.parametrize("function", ALL, ids=lambda one: one.__name__)
@pytest.mark.parametrize(
    ("values", "scale", "options", "sentence"),
    [
        ([0.5], 0.1, {}, "must be integers of"),
        ([True], 0.1, {}, "must be integers of"),
        (["a"], 0.1, {}, "must be integers of"),
        ([[1], [1, 2]], 0.1, {}, "array of integers"),
        ([-129], 0.1, {"bits": 8}, "from −2\\^7 to 2\\^7 − 1"),
        ([2**40], 0.1, {"bits": 32}, "signed integers of 32 bits"),
        ([2**70], 0.1, {}, "must be integers of"),
        ([0], 0.0, {}, "must be a positive normal number"),
        ([0], -0.1, {}, "must be a positive normal number"),
        ([0], math.nan, {}, "must be a positive normal number"),
        ([0], math.inf, {}, "must be a positive normal number"),
        ([0], 5e-324, {}, "must be a positive normal number"),
        ([0], [0.1, 0.2], {}, "is one number"),
        ([0], None, {}, "is one number"),
        ([0], 0.1, {"bits": 33}, "2 to 32 bits"),
        ([0], 0.1, {"bits": 1}, "2 to 32 bits"),
        ([0], 0.1, {"bits": 8.0}, "whole number of bits"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(function: Any, values: Any, scale: Any, options: Any, sentence: str):
    with pytest.raises(InputError, match=sentence):
        function(values, scale, **options)


def test_other_bad_input():
    for call, sentence in (
        (lambda: integer_exponential([1], 0.1), "takes values up to 0, not 1"),
        (lambda: integer_square_root([-1]), "from 0 up"),
        (lambda: integer_square_root([1.5]), "must be integers"),
        (lambda: integer_softmax(3, 0.1), "axis -1 does not exist"),
        (lambda: integer_softmax([3], 0.1, axis=1), "axis 1 does not exist"),
        (lambda: integer_softmax([3], 0.1, axis=None), "whole number"),  # type: ignore[arg-type]
        (lambda: integer_layer_norm([1, 2], weight=[1.0, 2.0, 3.0]), "weight is one number or one for each of 2"),
        (lambda: integer_layer_norm([1, 2], bias=math.nan), "bias has numbers that are not finite"),
        (lambda: integer_layer_norm([1, 2], weight="a"), "real numbers"),
        (lambda: integer_layer_norm([1, 2], output_scale=0), "the output's scale is 0"),
        (lambda: integer_layer_norm([1, 2], weight=1e200, output_scale=1e-200), "too small for weights"),
        (lambda: integer_layer_norm([1.0, 2.0]), "must be integers"),
        (lambda: requantise([1], 1e300, 1e-300), "ratio of the scales is inf"),
    ):
        with pytest.raises(InputError, match=sentence):
            call()


def test_empty_arrays_stay_empty():
    for shape in ((0,), (3, 0), (0, 3)):
        empty = np.zeros(shape, np.int8)
        for found in (
            integer_gelu(empty, 0.1),
            integer_exponential(empty, 0.1),
            integer_softmax(empty, 0.1),
            integer_layer_norm(empty),
            requantise(empty, 0.1, 0.2),
        ):
            is_sound(found, shape)
    assert integer_square_root([]).shape == (0,)


# ---- the page ---------------------------------------------------------------------------------------------------------------


def table(root: Path, heading: str) -> list[list[str]]:
    """The cells of the first table under a heading of the page, without its head."""
    text = (root / "docs/numerics.md").read_text(encoding="utf-8").split(f"## {heading}\n", 1)[1]
    rows = re.findall(r"^\|(.*)\|$", text.split("\n## ", 1)[0], re.MULTILINE)
    return [[cell.strip().strip("`") for cell in row.split("|")] for row in rows[2:]]


def test_the_page_has_the_limits_of_every_plain_format(root: Path):
    expected = []
    for form in FORMATS.values():
        if form.block is None:
            ends = limits(form)
            numbers = [f"{one:.6g}" for one in (ends.largest, ends.smallest_normal, ends.smallest, ends.epsilon)]
            expected.append([form.name, f"{form.bits:g}", *numbers])
    assert [row[:6] for row in table(root, "Formats")] == expected


def test_the_page_has_the_noise_of_every_layout(root: Path):
    values = np.random.default_rng(0).standard_normal((256, 4096))
    expected = []
    for row in table(root, "Noise by format"):
        name = row[0]
        options: dict[str, Any] = {"scale": "channel"} if FORMATS[name].block is None and FORMATS[name].bits < 16 else {}
        expected.append(
            [name, f"{FORMATS[name].bits_per_value:.4g}", f"{signal_to_noise(values, quantise(values, name, **options)):.1f}"]
        )
    assert table(root, "Noise by format") == expected
    assert len(expected) >= 20
    binary = quantise(values, "binary", scale="channel")
    assert signal_to_noise(values, binary) == pytest.approx(10 * math.log10(math.pi / (math.pi - 2)), abs=0.01)  # of theory


def test_the_page_has_the_errors_of_the_integer_functions(root: Path):
    step = 4 / 2**15
    q = np.arange(-(2**15), 2**15)
    gelu = integer_gelu(q, step, bits=16).real - exact_gelu(q * step)
    power = integer_exponential(-np.arange(200_000), 1e-4).real - np.exp(-np.arange(200_000) * 1e-4)
    random = np.random.default_rng(0)
    rows = random.integers(-128, 128, (64, 512))
    soft = integer_softmax(rows, 0.05)
    norm = integer_layer_norm(rows, output_scale=8 / 127)
    expected = [
        f"{np.sqrt(np.mean(gelu**2)):.4f}",
        f"{np.abs(gelu).max():.4f}",
        f"{np.abs(power).max():.5f}",
        f"{np.abs(soft.real.sum(axis=-1) - 1).max() / soft.scale:.2f} steps",
        f"{np.abs(soft.real - exact_softmax(rows * 0.05, -1)).max() / soft.scale:.2f} steps",
        f"{np.abs(norm.real - exact_layer_norm(rows, -1, 1.0, 0.0)).max() / norm.scale:.2f} steps",
    ]
    assert [row[1] for row in table(root, "Integer-only functions")][:-1] == expected
    assert {name for name in vars(integer) if name.startswith("integer_")} == {
        "integer_gelu",
        "integer_exponential",
        "integer_softmax",
        "integer_square_root",
        "integer_layer_norm",
    }
