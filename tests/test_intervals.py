"""Prediction intervals: half-widths by kind and distance, a step's from its kernels', the ratio of two chips, left-out chips."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

import ridgeline as rl
from ridgeline.api import load_chip, load_model, load_precision
from ridgeline.catalogue.residuals import RULES, TABLE, residuals
from ridgeline.costs.uncertainty import step_half_width
from ridgeline.estimate import estimate
from ridgeline.mapping.intervals import HalfWidths, half_widths, order_probability, ratio_half_widths, residual_kind
from ridgeline.specs.residual import Residual, Residuals
from ridgeline.specs.scenario import Scenario
from ridgeline.validation import calibrate, compare, intervals, ordering, schema
from ridgeline.validation.predict import Constants, kind_of, predict

# ---- half-widths ------------------------------------------------------------------------------------------------------------

KNOWN = Residuals(
    kinds=(
        Residual("product", 0.3, 0.3, chips=4, families=("nvidia-hopper", "nvidia-ada")),
        Residual("product:half", 0.1, 0.2, 0.3, 0.0, least=1e-6, most=1e-3, chips=4, families=("nvidia-hopper",)),
        Residual("vector", 0.2, 0.2),
        Residual("step", 0.1, 0.4),
        Residual("step:vllm:decode", 0.0, 0.3),
    ),
    correlation=0.5,
    unseen_family=1.5,
    unseen_format=2.0,
    beyond=0.5,
)


def test_a_short_kernel_is_less_sure():
    """30 µs of a call beside 30 µs of kernel: half of 0.3 more; beside 970 µs a hundredth of 3 as much."""
    long, short = (half_widths(KNOWN, "product:half", time, "nvidia-hopper") for time in (970e-6, 30e-6))
    assert short.lower == pytest.approx(0.1 + 0.3 / 2)
    assert long.lower == pytest.approx(0.1 + 0.3 * 0.03)
    assert short.upper == 0.2


def test_distance_widens():
    near = half_widths(KNOWN, "product:half", 1e-3, "nvidia-hopper")
    other_family = half_widths(KNOWN, "product:half", 1e-3, "amd-cdna3")
    beyond = half_widths(KNOWN, "product:half", 4e-3, "nvidia-hopper")
    assert other_family.upper == pytest.approx(1.5 * near.upper)
    assert beyond.upper == pytest.approx(2.0 * near.upper)  # √4
    assert half_widths(KNOWN, "product:fp4", 1e-3, "nvidia-ada").upper == pytest.approx(0.6)  # of all products, twice
    assert half_widths(KNOWN, "gather", 1e-3, "nvidia-ada") is None


def test_few_chips_widen():
    one, four = (
        half_widths(KNOWN._replace(kinds=(Residual("vector", 0.2, 0.2, chips=n),), between=0.44), "vector", 1.0, "") for n in (1, 4)
    )
    assert one.lower == pytest.approx(0.2 * 1.2)
    assert four.lower == pytest.approx(0.2 * math.sqrt(1.11))


def test_a_chip_that_was_measured_is_surer():
    measured, other = (load_chip(name).residuals.of("product:fp8-block") for name in ("l40s", "h100-sxm"))
    assert "l40s" in measured.seen
    assert other.upper > measured.upper
    assert other.lower > measured.lower


def test_a_step_is_surer_than_its_kernels_unless_they_err_together():
    """Four kernels of a quarter each, 0.2 each: 0.1 apart, 0.2 together."""
    squares, total = 4 * (0.25 * 0.2) ** 2, 4 * 0.25 * 0.2
    found = [step_half_width(squares=squares, total=total, correlation=one, level=0.0) for one in (0.0, 1.0)]
    assert found == pytest.approx([0.1, 0.2])


def test_the_kinds_of_a_models_kernels():
    model = load_model("llama-3.1-8b")
    found = estimate(
        load_chip("h100-sxm"), model, Scenario(phase="decode", batch=4, context=512), load_precision(None, model), level="mapped"
    )
    kinds = {row.name: row.residual for row in found.operations if row.residual}
    assert set(kinds.values()) == {"product:half", "attention:decode", "vector"}
    narrow = estimate(
        load_chip("h100-sxm"), model, Scenario(phase="prefill", prompt=512), load_precision("fp8", model), level="mapped"
    )
    assert {"product:fp8", "attention:prefill"} <= {row.residual for row in narrow.operations}
    experts = load_model("mixtral-8x7b")
    rows = estimate(
        load_chip("h200-sxm"), experts, Scenario(phase="decode", context=512), load_precision(None, experts), level="ideal"
    ).operations
    assert "experts" in {row.residual for row in rows}


# ---- estimates --------------------------------------------------------------------------------------------------------------


def test_an_interval_by_hand():
    """One kind known and nothing beside: the products' share of the time at their half-width, from the breakdown."""
    chip = replace(load_chip("h100-sxm"), residuals=Residuals(kinds=(Residual("product:half", 0.2, 0.4),), correlation=1.0))
    model = load_model("llama-3.1-8b")
    found = estimate(chip, model, Scenario(phase="decode", batch=4, context=512), load_precision(None, model), level="mapped")
    share = sum(row.time * row.count for row in found.operations if row.residual == "product:half") / found.time
    assert -math.log(found.interval.lower) == pytest.approx(0.2 * share, rel=1e-12)
    assert math.log(found.interval.upper) == pytest.approx(0.4 * share, rel=1e-12)


def test_of_ranges_each_point_has_the_interval_that_it_has_alone():
    ranged = rl.analyze("llama-3.1-8b", "h100-sxm", phase="decode", batch=[1, 64], context=[512, 8192]).estimate.interval
    alone = rl.analyze("llama-3.1-8b", "h100-sxm", phase="decode", batch=64, context=512).estimate.interval
    assert np.shape(ranged.upper) == (2, 2)
    assert ranged.upper[1, 0] == pytest.approx(alone.upper, rel=1e-9)
    assert ranged.coverage == 0.8


@pytest.mark.parametrize(
    ("known", "level", "why"),
    [
        (KNOWN, "ideal", "the level ideal predicts no machine"),
        (None, "mapped", "no measurements of chips like h100-sxm"),
        (Residuals(kinds=(Residual("step", 0.1, 0.1),)), "mapped", "no measurements of kernels like those"),
    ],
)
def test_without_residuals_it_says_why(known, level, why):
    model = load_model("llama-3.1-8b")
    chip = replace(load_chip("h100-sxm"), residuals=known)
    found = estimate(chip, model, Scenario(phase="decode", context=512), load_precision(None, model), level=level)
    assert found.interval is None
    assert why in found.interval_reason


def test_arrays_of_families_without_measurements_have_none():
    assert load_chip("tpu-v4").residuals is None
    assert load_chip("gemmini").residuals is not None


def test_an_array_that_was_measured_has_one():
    found = rl.analyze("bert-base", "gemmini", phase="encode", batch=1, prompt=64, level="mapped").estimate
    assert 0.8 < found.interval.lower < 1.0 < found.interval.upper < 1.6


def test_a_plan_counts_its_collectives():
    one = rl.analyze("llama-3.1-70b", "dgx-h100", plan="tp=8", phase="decode", batch=16, context=2048, level="mapped")
    assert one.estimate.interval.lower < 1.0 < one.estimate.interval.upper
    assert any(row.residual == "exchange:ring" for row in one.estimate.operations)


def test_the_catalogue_is_of_statistics_alone():
    assert TABLE.stat().st_size < 12_000
    assert RULES.is_file()
    known = residuals()
    assert 0.0 <= known.correlation <= 1.0
    assert min(known.unseen_family, known.unseen_format) >= 1.0
    assert all(min(one.lower, one.upper, one.lower + one.lower_short, one.upper + one.upper_short) >= 0.0 for one in known.kinds)


# ---- two chips --------------------------------------------------------------------------------------------------------------


def test_shared_errors_make_a_ratio_narrower():
    own = HalfWidths(0.3, 0.3)
    apart, shared = (ratio_half_widths(KNOWN._replace(pair_step=one), own, own) for one in (0.0, 0.75))
    assert apart.upper == pytest.approx(0.3 * math.sqrt(2.0))
    assert shared.upper == pytest.approx(0.15 * math.sqrt(2.0))
    assert order_probability(0.8, shared) > order_probability(0.8, apart) > 0.5


def test_equal_times_say_nothing_of_the_order():
    assert order_probability(1.0, HalfWidths(0.3, 0.2)) == 0.5
    assert order_probability(1.25, HalfWidths(0.3, 0.3)) == pytest.approx(1.0 - order_probability(0.8, HalfWidths(0.3, 0.3)))


def test_comparison_ranks_and_is_sure_of_what_differs_much():
    found = rl.compare(["l40s", "h100-sxm", "a100-sxm-80gb"], "llama-3.1-8b", phase="decode", batch=16, context=2048)
    assert [one.name for one in found.ranked] == ["h100-sxm", "a100-sxm-80gb", "l40s"]
    by_name = {(one.faster, one.slower): one for one in found.pairs}
    assert by_name["h100-sxm", "l40s"].confidence > by_name["h100-sxm", "a100-sxm-80gb"].confidence * 0.99
    assert found.order_confidence <= min(one.confidence for one in found.pairs) + 0.01
    same = rl.compare(["h100-sxm", "h100-sxm"], "llama-3.1-8b", phase="decode", batch=16, context=2048)
    assert same.order_confidence == 0.5


def test_what_does_not_fit_is_a_row_with_its_reason():
    found = rl.compare(["l40s", "h200-sxm"], "llama-3.1-70b", precision="fp8", phase="decode", batch=1, context=512)
    assert [one.analysis is None for one in found.rows] == [True, False]
    assert "short of memory" in found.rows[0].reason
    assert found.order_confidence is None
    with pytest.raises(rl.errors.InfeasibleError, match=r"l40s.*a100"):
        rl.compare(["l40s", "a100-sxm-80gb"], "llama-3.1-405b", phase="decode", batch=1, context=512)


def test_a_name_may_say_how_many():
    found = rl.compare(["2xh100-sxm", "8xh100-sxm"], "llama-3.1-70b", precision="fp8", phase="decode", batch=8, context=1024)
    assert [one.analysis.chips for one in found.rows] == [2, 8]
    assert found.ranked[0].name == "8xh100-sxm"


@pytest.mark.parametrize(
    ("chips", "asked", "why"),
    [
        (["h100-sxm"], {}, "two chips or systems at least"),
        (["h100-sxm", "l40s"], {"batch": [1, 2]}, "one scenario at a time: batch"),
        (["h100-sxm", "nothing-like-it"], {}, "nothing-like-it"),
        (["h100-sxm", "xyzzy"], {}, "unknown chip or system 'xyzzy': `ridgeline show chip` and `ridgeline show system` list"),
        (["2xh100-sxm", "h100-sxm"], {"count": 2}, "says how many"),
        (["h100-sxm", "gemmini"], {"stack": "vllm"}, "gemmini has no constants"),
    ],
)
def test_bad_input(chips, asked, why):
    with pytest.raises(rl.errors.InputError, match=why):
        rl.compare(chips, "llama-3.1-8b", **asked)


# ---- calibration ------------------------------------------------------------------------------------------------------------


def row(name, chip="l40s", measured=1.0, **columns):
    return schema.Row(
        dataset="d", file="f", line=2, id=name, chip=chip, metric="latency", measured=measured, unit="s", columns=columns
    )


def drawn(count, chips=("l40s", "h20"), scale=0.2, kind="product:half", seed=1):
    """Residuals of a known spread: normal, more for short kernels."""
    random = np.random.default_rng(seed)
    times = 10.0 ** random.uniform(-5.5, -2.0, count)
    spread = scale * (1.0 + intervals.call_share(times)) * random.standard_normal(count)
    return [
        intervals.Off(row(str(at), chips[at % len(chips)]), kind, float(time), float(one))
        for at, (time, one) in enumerate(zip(times, spread, strict=True))
    ]


def test_quantiles_find_the_spread_that_was_put_in():
    """The 90th percentile of a normal is 1.2816 standard deviations out; twice that at the short end."""
    found = intervals.residual_of("product:half", drawn(4000))
    assert found.lower == pytest.approx(1.2816 * 0.2, rel=0.12)
    assert found.upper == pytest.approx(1.2816 * 0.2, rel=0.12)
    assert found.upper_short == pytest.approx(1.2816 * 0.2, rel=0.3)
    assert (found.chips, found.families) == (2, ("nvidia-ada", "nvidia-hopper"))


def test_intervals_hold_what_they_say():
    rows = drawn(4000, seed=2)
    known = Residuals(kinds=intervals.kinds(drawn(4000, seed=3)))
    inside = intervals.with_widths(rows, {}, known)
    (found,) = intervals.held(inside, inside, lambda _: "all")
    assert found.coverage == pytest.approx(0.8, abs=0.03)


def test_a_chip_of_its_own_is_seen_in_the_variance_between():
    apart = [one._replace(residual=one.residual + (0.4 if one.chip == "h20" else -0.4)) for one in drawn(2000, scale=0.05)]
    assert intervals.between_chips(apart) > 0.9
    assert intervals.between_chips(drawn(2000)) < 0.02


def test_correlations_of_pairs_are_found():
    """Errors that share nine tenths of their variance on two chips."""
    random = np.random.default_rng(4)
    pairs = []
    for at in range(4000):
        shared, own = 0.2 * random.standard_normal(), 0.2 * random.standard_normal(2)
        offs = [
            intervals.Off(row(str(at), chip), "vector", 1.0, math.sqrt(0.9) * shared + math.sqrt(0.1) * one, -0.2563, 0.2563)
            for chip, one in zip(("l40s", "h20"), own, strict=True)
        ]
        pairs.append(tuple(offs))
    assert intervals.pair_correlation(pairs) == pytest.approx(0.9, abs=0.02)


def test_orders_count_clear_pairs_of_one_workload_alone():
    offs = [
        intervals.Off(row("a", "l40s", 1.0, m="1"), "vector", 1.0, 0.0, -0.2, 0.2),
        intervals.Off(row("b", "h20", 2.0, m="1"), "vector", 1.6, math.log(2.0 / 1.6), -0.2, 0.2),
        intervals.Off(row("c", "h20", 0.5, m="2"), "vector", 0.5, 0.0, -0.2, 0.2),
        intervals.Off(row("d", "a40", 1.05, m="1"), "vector", 0.9, math.log(1.05 / 0.9), -0.2, 0.2),
    ]
    found = ordering.pairs(offs)
    assert len(found) == 3
    clear = [one for one in found if one.clear]
    assert len(clear) == 2
    (whole,) = [one for one in ordering.orders(found, KNOWN) if one.name == "ALL"]
    assert (whole.pairs, whole.right) == (2, 1.0)


# ---- against the measurements -----------------------------------------------------------------------------------------------


def test_leaving_a_chip_out_gives_back_what_it_alone_fixed(facts):
    """With every row gone constants go back to where documentation has them."""
    found = [one for one in schema.read(facts / "measured/dev/llmcompass.csv").rows if (kind := kind_of(one)) and not kind.whole]
    parameters = [one for one in calibrate.PARAMETERS if one.title in ("host-clock.fixed", "nvidia.bandwidth")]
    now, prior = Constants.of_catalogue(), Constants.before_any_fit()
    leaving = intervals.Leaving.of(found, now, prior, parameters)
    gone = leaving.without(lambda _: True, 1)
    for one in parameters:
        assert calibrate.read_value(gone, one) == pytest.approx(calibrate.read_value(prior, one), rel=1e-6)


def test_half_precision_products_keep_their_promise(facts):
    """In sample, which is easier than left out: at least 70 %, with a median width below 2."""
    rows = [one for one in schema.read(facts / "measured/dev/vidur_mlp.csv").rows if one.has("k")]
    (found,) = compare.slices(compare.judged(predict(rows), {}), frozenset())
    assert found.coverage_80 > 0.7
    assert found.interval_width < 2.0


def test_residual_kinds_of_rows_are_those_of_kernels(facts):
    """What a row counts under is what the same product counts under in a step."""
    model = load_model("llama-3.1-8b")
    rows = [one for one in schema.read(facts / "measured/dev/aic_gemm.csv").rows if one.text("dtype") in ("bf16", "w4a16")]
    kinds = {one.row.text("dtype"): one.residual for one in predict(rows)}
    for dtype, name in (("bf16", "bf16"), ("w4a16", "w4a16")):
        step = estimate(load_chip("a100-sxm-80gb"), model, Scenario(phase="decode", context=512), load_precision(name, model))
        assert kinds[dtype] in {one.residual for one in step.operations}


def test_the_kind_of_an_operation_needs_no_chip():
    from ridgeline.results import Operation

    assert residual_kind(Operation(name="norm", kind="vector", group="other")) == "vector"


# ---- commands ---------------------------------------------------------------------------------------------------------------


def test_the_command_prints_what_the_contract_says(tmp_path, capsys):
    from ridgeline.cli import app

    picture = tmp_path / "compared.html"
    asked = ["compare", "h100-sxm", "l40s", "--model", "llama-3.1-8b", "--phase", "decode", "--batch", "16", "--context", "2048"]
    with pytest.raises(SystemExit) as left:
        app([*asked, "--plot", str(picture), "--json"], standalone_mode=True)
    assert left.value.code == 0
    found = json.loads(capsys.readouterr().out)
    assert {"rows", "order_confidence"} <= found.keys()
    assert {"time", "interval", "tokens_per_second", "energy_per_token", "bound"} <= found["rows"][0].keys()
    assert found["order"] == ["h100-sxm", "l40s"]
    assert 0.5 < found["order_confidence"] <= 1.0
    low, high = (found["pairs"][0]["interval"][end] for end in ("lower", "upper"))
    assert low < 1.0 < high
    assert high / low < math.prod(one["interval"]["upper"] / one["interval"]["lower"] for one in found["rows"])
    assert '"arrayminus"' in picture.read_text(encoding="utf-8")


def test_the_table_names_the_interval_and_the_order(capsys):
    from ridgeline.cli import app

    with pytest.raises(SystemExit):
        app(["compare", "h100-sxm", "l40s", "--model", "llama-3.1-8b", "--phase", "decode", "--energy"], standalone_mode=True)
    printed = " ".join(capsys.readouterr().out.split())
    assert "80 % interval" in printed
    assert "h100-sxm is" in printed
    assert "the order is right with probability" in printed


def test_bounds_beside_predictions_are_said_and_drawn_without_an_interval():
    from ridgeline.report.compare_tables import comparison_picture, comparison_record, comparison_table
    from ridgeline.report.page import as_text

    found = rl.compare(["h100-sxm", "tpu-v4", "eyeriss"], "bert-base")
    assert [one.analysis.estimate.level for one in found.rows] == ["mapped", "ideal", "mapped"]
    (said,) = comparison_record(found)["notes"]
    assert "ideal: tpu-v4; mapped: h100-sxm, eyeriss" in said
    printed = " ".join(as_text(comparison_table(found)).split())
    assert f"note: {said}" in printed
    assert f"{1e3 * found.rows[2].power:.0f} mW" in printed
    assert "e+0" not in printed
    picture = comparison_picture(found)
    for panel in picture.panels[:2]:  # fastest first: TPU, H100, Eyeriss; the H100 alone has an interval
        for reach in (panel.bars[0].below, panel.bars[0].above):
            assert [math.isnan(one) for one in reach] == [True, False, True]
    assert picture.panels[0].bars[0].labels == ["TPU v4, ideal", "H100 SXM5 80 GB, mapped", "Eyeriss, mapped"]
    alike = rl.compare(["h100-sxm", "l40s"], "bert-base", level="ideal")
    assert alike.notes == ()
    assert comparison_picture(alike).panels[0].bars[0].above == ()


# ---- steps ------------------------------------------------------------------------------------------------------------------


def steps_of(residuals, kind="step:vllm:decode", chip="l40s", kernels=0.0):
    width = HalfWidths(kernels, kernels)
    offs = [intervals.Off(row(f"{chip}{at}", chip), kind, 1.0, float(one)) for at, one in enumerate(residuals)]
    return [intervals.Step(one, width, width) for one in offs]


def test_what_kernels_do_not_explain_is_the_steps():
    """Residuals from −0.5 to 0.5, evenly: a tenth lies beyond 0.4; of that kernels explain 0.3, the step 0.265 = √(0.4² − 0.3²)."""
    rows = steps_of(np.linspace(-0.5, 0.5, 1001), kernels=0.3)
    levels = {one.kind: one for one in intervals.step_levels(rows, 0.5)}
    assert levels["step:vllm:decode"].upper == pytest.approx(math.sqrt(0.4**2 - 0.3**2), rel=0.01)
    assert levels["step:vllm:decode"].lower == pytest.approx(math.sqrt(0.4**2 - 0.3**2), rel=0.01)
    assert levels.keys() == {"step", "step:vllm", "step:vllm:decode"}


def test_a_stack_of_one_chip_borrows_from_the_others():
    """Alone its rows are within 0.01; stacks seen elsewhere are off by up to 0.5."""
    narrow = np.linspace(-0.01, 0.01, 101)
    others = [one for chip in ("h20", "a40", "t4") for one in steps_of(np.linspace(-0.5, 0.5, 101), "step:llama-cpp:decode", chip)]
    found = {one.kind: one for one in intervals.step_levels([*steps_of(narrow), *others], 0.0)}
    assert found["step:vllm:decode"].upper > 0.2
    assert found["step:llama-cpp:decode"].upper == pytest.approx(0.4, abs=0.05)


def test_too_few_rows_take_what_stands_for_them():
    few = steps_of([1.0] * 5, "step:rare:prefill", "h20")
    found = Residuals(kinds=intervals.step_levels([*steps_of(np.linspace(-0.5, 0.5, 101)), *few], 0.0))
    assert found.of("step:rare:prefill").kind == "step"


def test_the_score_wants_neither_wide_nor_narrow():
    """Errors that kernels share are found to be shared: a step's spread then goes with that of its kernels together."""
    random = np.random.default_rng(5)
    rows = []
    for at in range(400):
        together = float(random.choice([0.05, 0.4]))
        off = intervals.Off(row(str(at)), "step:vllm:decode", 1.0, float(together / 1.2816 * random.standard_normal()))
        rows.append(intervals.Step(off, HalfWidths(together / 4, together / 4), HalfWidths(together, together)))
    assert intervals.best_correlation(rows) > 0.8


def test_boxes_apart_are_a_kind_of_their_own():
    found = rl.analyze("llama-3.1-8b", "dgx-a100", plan="tp=8", phase="decode", batch=8, context=512, level="mapped")
    assert {one.residual for one in found.estimate.operations if one.group == "communication"} == {"exchange:ring"}
    from ridgeline.mapping.intervals import exchange_kind

    assert exchange_kind("all-reduce", across=True) == "exchange:across"
