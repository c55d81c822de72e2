"""Products and vector kernels on chips of many cores: the choice, its bounds, what more hardware does, and outside numbers."""

from dataclasses import replace

import numpy as np
import pytest

from ridgeline.api import load_chip
from ridgeline.catalogue.families import families, family_of, stack_of, stacks
from ridgeline.errors import InputError
from ridgeline.mapping.many_core import (
    SPLITS,
    STREAMING,
    Method,
    Shape,
    StreamMethod,
    engine,
    place_product,
    product_parts,
    vector_time,
)
from ridgeline.specs.base import quantities, with_quantity

CHIPS = ("a100-sxm-80gb", "l40s", "h100-sxm", "mi300x", "b200-sxm", "rtx-4090", "max-1550", "m2-ultra-76c", "t4")
RANDOM = np.random.default_rng(7)


def placed(name, format, m, n, k, method=None, **changed):
    chip = load_chip(name)
    for path, factor in changed.items():
        where = path.replace("__", ".")
        chip = with_quantity(chip, where, quantities(chip)[where] * factor)
    family = family_of(chip.family)
    shape = Shape(1.0, np.asarray(m, float), np.asarray(n, float), np.asarray(k, float), 2.0, 2.0, 2.0)
    return place_product(engine(chip, family, format), family, shape, method or Method(), chip.matrix_unit.tiles)


def test_the_choice_is_the_least_of_all_candidates():
    chip, m, n, k = load_chip("a100-sxm-80gb"), 100.0, 700.0, 9000.0
    family = family_of(chip.family)
    machine, shape = engine(chip, family, "bf16"), Shape(1.0, m, n, k, 2.0, 2.0, 2.0)
    tiles = {way for one in chip.matrix_unit.tiles for way in (one, one[::-1])}
    times = [
        float(product_parts(machine, family, shape, Method(), (float(rows), float(columns), split)).time)
        for rows, columns in tiles
        for split in SPLITS
    ]
    found = place_product(machine, family, shape, Method(), chip.matrix_unit.tiles)
    assert float(found.time) == min(times)
    assert float(found.time) < max(times) / 3  # the choice matters


@pytest.mark.parametrize("name", CHIPS)
def test_never_below_the_bound(name):
    """2·m·n·k over the datasheet's peak, and every operand and result once over its bandwidth."""
    m, n, k = (2.0 ** RANDOM.integers(0, 15, 400) for _ in range(3))
    chip = load_chip(name)
    format = next(one for one in ("bf16", "fp16") if one in chip.matrix_unit.rate)
    peak = chip.matrix_unit.rate[format]
    bound = np.maximum(2 * m * n * k / peak, 2 * (m * k + n * k + m * n) / chip.main_memory.bandwidth)
    time = placed(name, format, m, n, k).time
    assert (time >= bound).all()
    assert np.isfinite(time).all()


def test_a_batch_equals_its_members():
    m, n, k = (2.0 ** RANDOM.integers(0, 14, 50) for _ in range(3))
    together = placed("l40s", "bf16", m, n, k).time
    alone = [float(placed("l40s", "bf16", *one).time) for one in zip(m, n, k, strict=True)]
    np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize("path", ["memory__hbm__bandwidth", "matrix_unit__rate__bf16", "memory__l2__capacity", "package__power"])
def test_more_of_anything_is_never_slower(path):
    m, n, k = (2.0 ** RANDOM.integers(0, 15, 300) for _ in range(3))
    before = placed("a100-sxm-80gb", "bf16", m, n, k).time
    after = placed("a100-sxm-80gb", "bf16", m, n, k, **{path: 1.5}).time
    assert (after <= before * (1 + 1e-12)).all()
    assert (after < before * 0.999).any() or path == "memory__l2__capacity"


def test_few_wide_blocks_are_bound_by_latency_and_a_split_frees_them():
    """One row, 256 columns, k = 16384: four tiles at most without a split, so that four cores of 108 draw memory."""
    split = placed("a100-sxm-80gb", "bf16", 1, 256, 16384)
    whole = placed("a100-sxm-80gb", "bf16", 1, 256, 16384, Method(splits=False))
    assert split.split > 1
    assert whole.time > 2 * split.time


def test_waves_are_whole():
    """108 tiles of 128 × 256 fill an A100 once; a row of tiles more starts a second wave for all."""
    full, more = (float(placed("a100-sxm-80gb", "bf16", m, 27 * 256, 8192).time) for m in (4 * 128, 4 * 128 + 1))
    assert more > 1.08 * full


def test_power_limits_large_products():
    """An L40S at 350 W stays below 240 of its 362 TFLOP/s, 0.8 · 350 W / 1.17 pJ, by what memory draws; more frees it."""
    chip = load_chip("l40s")
    limit = 0.8 * chip.package.power / chip.matrix_unit.energy["bf16"]
    reached = 2 * 8192.0**3 / float(placed("l40s", "bf16", 8192, 8192, 8192).time)
    assert 0.9 * limit < reached < limit
    freed = 2 * 8192.0**3 / float(placed("l40s", "bf16", 8192, 8192, 8192, package__power=2.0).time)
    assert freed > 1.3 * reached


def test_weights_that_stay_in_the_cache():
    """12.6 MB of weights, five copies in turn: all in the 96 MB of an L40S, none in the 40 MB of an A100."""
    warm, cold = Method(weight_copies=5), Method()
    ada = [float(placed("l40s", "bf16", 4, 4096, 1536, one).memory) for one in (cold, warm)]
    ampere = [float(placed("a100-sxm-80gb", "bf16", 4, 4096, 1536, one).memory) for one in (cold, warm)]
    assert ada[0] > 2 * ada[1]
    assert ampere[0] == ampere[1]


def test_packed_weights_are_converted_in_the_loop():
    chip = load_chip("a100-sxm-80gb")
    family = family_of(chip.family)
    machine = engine(chip, family, "fp16")
    small = Shape(1.0, np.array([1.0]), np.array([8192.0]), np.array([8192.0]), 2.0, 0.5, 2.0)
    slow = engine(replace(chip, vector_unit=replace(chip.vector_unit, rate={"fp32": 19.5e11})), family, "fp16")
    plain = place_product(machine, family, small, Method(converts=True), chip.matrix_unit.tiles)
    held = place_product(slow, family, small, Method(converts=True), chip.matrix_unit.tiles)
    assert held.time > 1.5 * plain.time


def test_a_format_that_a_chip_lacks():
    chip = load_chip("a100-sxm-80gb")
    with pytest.raises(InputError, match="no rate of nvfp4"):
        engine(chip, family_of(chip.family), "nvfp4")


def test_every_chip_with_cores_and_a_clock_has_an_engine():
    from ridgeline.api import names

    count = 0
    for name in names("chip"):
        chip = load_chip(name)
        if chip.cores is None or chip.cores.clock is None or chip.matrix_unit.kind not in ("dot-product", "simd"):
            continue
        for format in chip.matrix_unit.rate:
            found = engine(chip, family_of(chip.family), format)
            assert all(np.isfinite(one) and one >= 0 for one in (found.rate, found.bandwidth, found.core_bandwidth, found.lanes))
        count += 1
    assert count > 40


# ---- vector kernels ---------------------------------------------------------------------------------------------------------


def streamed(name, what, m, n, width=4.0):
    chip = load_chip(name)
    family = family_of(chip.family)
    return float(vector_time(engine(chip, family, "fp32"), family, STREAMING[what], m, n, width=width))


def test_long_streams_reach_the_share_of_the_bandwidth():
    """An addition of two 1 GB tensors moves 3 GB; an A100 holds 0.85 to 0.9 of 2.039 TB/s."""
    assert 3 * 4 * 2.5e8 / 2.039e12 / streamed("a100-sxm-80gb", "add", 250_000.0, 1000.0) == pytest.approx(0.87, abs=0.03)


def test_a_short_row_is_normalised_in_one_pass_and_a_long_one_in_two():
    """Bytes a value: read and write while a core keeps its rows, one more read where it cannot."""
    short, long = (streamed("a100-sxm-80gb", "layer-norm", 2.0**28 / n, n) for n in (1024.0, 65536.0))
    assert long / short == pytest.approx(1.5, rel=0.05)


def test_softmax_beyond_registers_reads_three_times():
    short, long = (streamed("t4", "softmax", 2.0**28 / n, n) for n in (1024.0, 65536.0))
    assert long / short == pytest.approx(2.0, rel=0.05)


# ---- families and stacks ----------------------------------------------------------------------------------------------------


def test_families_have_few_constants_each_with_meaning():
    from ridgeline.catalogue.families import constants

    for one in families():
        stated = constants(one.name)
        assert len([constant for constant in stated if constant.prior is not None]) <= 12
        assert all(constant.meaning and constant.unit for constant in stated)
        assert all(constant.spread is not None for constant in stated if constant.prior is not None)


@pytest.mark.parametrize(
    ("architecture", "family"),
    [
        ("nvidia-hopper", "nvidia-hopper"),
        ("nvidia-ada", "nvidia-ada"),
        ("nvidia-turing", "nvidia"),
        ("nvidia-blackwell", "nvidia-blackwell"),
        ("nvidia-blackwell-gb20x", "nvidia-ada"),
        ("amd-cdna3", "amd-cdna3"),
        ("google-tpu", "google-tpu"),
        ("intel-xe", "general"),
    ],
)
def test_the_narrowest_pattern_decides(architecture, family):
    assert family_of(architecture).name == family


@pytest.mark.parametrize(
    ("framework", "kernel", "vendor", "architecture", "stack"),
    [
        ("trtllm-1.3.0rc20", "torch_flow", "NVIDIA", "nvidia-hopper", "trtllm"),
        ("trtllm-1.3.0rc20", "torch_flow", "NVIDIA", "nvidia-ada", "trtllm-ada"),
        ("trtllm-1.0.0", "trt_flow_/weight_only", "NVIDIA", "nvidia-ampere", "trtllm-engine"),
        ("pytorch-2.4.1", "", "AMD", "amd-cdna2", "pytorch-eager"),
        ("pytorch/cuBLAS (A100), rocBLAS (MI210)", "", "AMD", "amd-cdna2", "host-clock-amd"),
        ("deepgemm", "", "NVIDIA", "nvidia-hopper", "deepgemm"),
        ("something-new", "", "", "", "general"),
    ],
)
def test_a_row_finds_its_stack(framework, kernel, vendor, architecture, stack):
    assert stack_of(framework, kernel, vendor, architecture).name == stack


def test_stacks_state_facts_with_units():
    assert len(stacks()) >= 7
    assert all(0 <= one.fixed < 1e-4 for one in stacks())


def test_a_row_to_each_block_binds_few_long_rows():
    """Four rows of 28 672 halves on four cores of 108: 28 steps of two latencies, 20 us against 2 where blocks share rows."""
    chip = load_chip("a100-sxm-80gb")
    family = family_of(chip.family)
    machine = engine(chip, family, "fp32")
    shared, own = (
        float(vector_time(machine, family, STREAMING["gated"], 4.0, 28672.0, width=2.0, method=StreamMethod(row_loads=loads)))
        for loads in (0.0, 2.2)
    )
    assert own == pytest.approx(28 * 2.2 * 330e-9)
    assert own > 5 * shared


def test_what_the_kernel_before_wrote_is_read_from_the_cache():
    chip = load_chip("rtx-4090")
    family = family_of(chip.family)
    machine = engine(chip, family, "fp32")
    cold, warm = (
        float(vector_time(machine, family, STREAMING["add"], 512.0, 8192.0, width=2.0, method=StreamMethod(resident=one)))
        for one in (False, True)
    )
    assert 1.3 < cold / warm < 3.0  # results still go to memory


def test_memories_of_the_gddr_kind_reach_a_share_of_their_own():
    chip = load_chip("rtx-4090")
    family = family_of(chip.family)
    assert family.gddr is not None
    assert engine(chip, family, "bf16").bandwidth == pytest.approx(1008e9 * family.gddr)
    hbm = load_chip("h100-sxm")
    assert engine(hbm, family_of(hbm.family), "bf16").bandwidth == pytest.approx(3.35e12 * family.bandwidth, rel=0.01)


@pytest.mark.parametrize(
    ("name", "format", "published"),
    [
        ("a100-sxm-80gb", "bf16", 271.2),
        ("h100-sxm", "bf16", 794.5),
        ("b200-sxm", "bf16", 1745.0),
        ("mi300x", "bf16", 668.4),
        ("mi355x", "bf16", 1565.0),
        ("gaudi2", "bf16", 429.3),
        ("gaudi3", "bf16", 1243.0),
        ("h100-sxm", "fp8-e4m3", 1402.6),
        ("b200-sxm", "fp8-e4m3", 3432.5),
        ("gaudi3", "fp8-e4m3", 1289.5),
    ],
)
def test_large_products_reach_what_others_found_at_best(name, format, published):
    """8192 cubed against the best product of a search over shapes, in TFLOP/s: a table of measurements [bekman2026mamf]."""
    chip = load_chip(name)
    family, width = family_of(chip.family), 1.0 if format.startswith("fp8") else 2.0
    shape = Shape(1.0, 8192.0, 8192.0, 8192.0, width, width, 2.0)
    time = float(place_product(engine(chip, family, format), family, shape, Method(), chip.matrix_unit.tiles).time)
    assert 0.8 < 2 * 8192**3 / time / (published * 1e12) < 1.02


def test_strides_that_miss_channels_cost_turns_on_amd_alone():
    chip = load_chip("mi210")
    shape = Shape(1.0, 4096.0, 32768.0, 4096.0, 4.0, 4.0, 4.0)
    for name, factor in (("mi210", 2.0), ("a100-sxm-80gb", 1.0)):
        chip = load_chip(name)
        family = family_of(chip.family)
        machine = engine(chip, family, "fp32")
        plain, strided = (
            float(place_product(machine, family, shape._replace(stride=one), Method(), chip.matrix_unit.tiles).time)
            for one in (0.0, 131072.0)
        )
        assert strided / plain == pytest.approx(factor, rel=0.2)
