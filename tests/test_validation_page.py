"""The page of the validation and its pictures: goals by dataset, constants with spread, points between lines."""

import math

import pytest

from ridgeline.api.validation import Validation
from ridgeline.catalogue import families
from ridgeline.report.validation_page import GOALS, Tables, page
from ridgeline.report.validation_plots import pictures
from ridgeline.validation import calibrate, compare
from ridgeline.validation.predict import Prediction
from ridgeline.validation.schema import Row


def judged(dataset: str, kind: str, slice_name: str, *ratios: float, **columns: str) -> list[compare.Judged]:
    found = []
    for index, ratio in enumerate(ratios):
        cells = {"chip": "A100-SXM-80GB", "op": "gemm", **columns}
        row = Row(
            file="rows.csv", line=index + 2, dataset=dataset, id=f"r{index}", chip="a100-sxm-80gb", metric="latency",
            measured=1e-4 * (index + 1), unit="s", columns=cells,
        )  # fmt: skip
        one = Prediction(row, kind, row.measured * ratio, row.measured / 10)
        found.append(compare.Judged(one, slice_name, ratio, None, None))
    return found


ROWS = [*judged("aic_gemm", "product", "bf16", 1.0, 1.1, 0.7), *judged("aic_moe", "experts", "ALL", 1.5)]


def test_every_dataset_of_a_kind_has_a_panel_with_points_and_three_lines():
    found = pictures(ROWS)
    assert sorted(found) == ["experts", "products"]
    (panel,) = found["products"].panels
    cloud, *lines = panel.curves
    assert cloud.name == "nvidia-ampere"
    assert [one / other for one, other in zip(cloud.y, cloud.x, strict=True)] == pytest.approx([1.0, 1.1, 0.7])
    assert [line.y[0] / line.x[0] for line in lines] == pytest.approx([1.0, 1.2, 0.8])
    assert not cloud.joined
    assert f"{math.exp((math.log(1.1) - math.log(0.7)) / 3):.2f}" in panel.title


def test_a_page_says_which_goal_is_reached():
    tables = Tables(compare.slices(ROWS, frozenset()), [], [])
    text = page(Validation(rows=ROWS, slices=[], faults=[]), tables, ROWS, ["images/one.png"])
    assert "| products, half precision | aic_gemm | 3 | 9 / 14 | 10.0 / 13.3 | not the median |" in text
    assert "| experts | aic_moe | 1 | 18 / 28 | 50.0 / 50.0 | not the median nor the mean |" in text
    assert "![one](images/one.png)" in text


def test_a_page_names_every_fitted_constant():
    text = page(Validation(rows=[], slices=[], faults=[]), Tables([], [], []), [])
    for one in calibrate.PARAMETERS:
        assert one.name in text
    assert {one.name for one in families.families()} - {"general"} <= {word.strip("`(") for word in _files(text)}


def _files(text: str) -> list[str]:
    return [line.split("families/")[1].split(".toml")[0] for line in text.splitlines() if "`families/" in line]


def test_goals_are_shares():
    assert all(0.0 < goal.median < goal.mean < 1.0 for goal in GOALS)
