"""Trends: the published rates from the points, intervals against tables and resampling, projections, the catalogue's chips."""

import csv
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ridgeline.api import count, load_chip, names
from ridgeline.api.trends import PRINTED, Trends, trends
from ridgeline.catalogue import references
from ridgeline.catalogue.published import trend_points
from ridgeline.errors import InputError
from ridgeline.report import panels, survey_plots, survey_records, survey_tables
from ridgeline.survey.trends import Point, fit, project, student_probability, student_quantile


@pytest.fixture(scope="module")
def found() -> Trends:
    return trends()


# ---- what was published -----------------------------------------------------------------------------------------------------

REFITTED = {  # of the points of the figures, by least squares of the logarithms, as the facts have them
    "peak FLOPS": 3.03,
    "DRAM bandwidth": 1.59,
    "interconnect bandwidth": 1.42,
    "training compute of transformers": 752.0,
    "parameters of transformers": 413.0,
    "accelerator memory": 1.86,
}


@pytest.mark.parametrize("name", REFITTED)
def test_the_refitted_rates(found: Trends, name: str):
    assert found.fits[name].rate == pytest.approx(REFITTED[name], rel=0.01)


def test_the_label_of_accelerator_memory_is_outside_what_its_points_say_but_inside_their_interval(found: Trends):
    """The figure prints 2 beside a line of 1.86: the label is 7 % above the line, and well inside the interval."""
    one = found.fits["accelerator memory"]
    assert PRINTED["accelerator memory"] / one.rate == pytest.approx(1.074, abs=0.005)
    assert one.low < PRINTED["accelerator memory"] < one.high


def test_every_label_lies_in_the_interval(found: Trends):
    for name, printed in found.printed.items():
        assert found.fits[name].low < printed < found.fits[name].high, name


def test_growth_over_twenty_years(found: Trends):
    """The figure prints 60 000, 100 and 30 beside its lines."""
    for name, printed in (("peak FLOPS", 6e4), ("DRAM bandwidth", 100.0), ("interconnect bandwidth", 30.0)):
        assert found.fits[name].over(20.0) == pytest.approx(printed, rel=0.1)


FILES = {
    "B_hw_scaling_points.csv": {
        "dram_bw": "DRAM bandwidth",
        "hw_flops": "peak FLOPS",
        "interconnect_bw": "interconnect bandwidth",
    },
    "B_training_compute_points.csv": {
        "transformer": "training compute of transformers",
        "other(blue)": "training compute of other models",
    },
    "B_model_size_points.csv": {
        "transformer": "parameters of transformers",
        "accelerator_memory": "accelerator memory",
        "cnn": "parameters of convolutional networks",
        "recsys": "parameters of recommenders",
    },
}


@pytest.mark.parametrize("file", FILES)
def test_the_points_are_those_of_the_figures(facts: Path, file: str):
    with (facts / "reference" / file).open(encoding="utf-8", newline="") as opened:
        rows = list(csv.DictReader(opened))
    expected: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        name = FILES[file][row.get("series") or row["group"]]
        memory = row.get("implied_GB_if_memory(6B/param)")
        value = memory or row.get("normalised_value") or row.get("training_PFLOPs") or row["billion_params_axis"]
        expected.setdefault(name, []).append((float(row["year"]), float(value)))
    for name, points in expected.items():
        assert [(one["year"], one["value"]) for one in trend_points()[name]] == points


def test_every_point_has_a_source():
    known = references.entries()
    for points in trend_points().values():
        assert all(one["source"] in known and one["where"] and one["confidence"] for one in points)


def test_intensities_are_those_of_the_survey(facts: Path, found: Trends):
    """Figure 6 of the full-stack survey prints FLOPs a byte to three digits at most: ours within one of the last.

    Its BERT-Large is one of other shapes (a projection a layer 768 wide), so that it is compared with its own count alone.
    """
    with (facts / "reference" / "A_end_to_end.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))[1:]
    printed = {(row[0].lower().replace("gpt-2", "gpt2"), int(row[1])): float(row[4]) for row in rows}
    for one in found.intensities:
        whole = count(one.model, convention=f"survey-{one.kind}", prompt=one.tokens).total
        assert one.intensity == pytest.approx(float(whole.intensity), rel=1e-12)
        if one.model != "bert-large":
            assert one.intensity == pytest.approx(printed[one.model, one.tokens], abs=1.0), one


# ---- fits and intervals -----------------------------------------------------------------------------------------------------


def test_an_exact_exponential_has_no_interval():
    points = [Point(2000.0 + year, 5.0 * 3.0 ** (year / 2.0)) for year in range(7)]
    found = fit("exact", points)
    assert (found.rate, found.low, found.high) == pytest.approx((3.0, 3.0, 3.0), rel=1e-9)
    assert found.at(2004.0) == pytest.approx(45.0, rel=1e-9)
    ahead = project(found, 2020.0)
    assert (ahead.value, ahead.low) == pytest.approx((5.0 * 3.0**10, 5.0 * 3.0**10), rel=1e-6)


@pytest.mark.parametrize(
    ("probability", "freedom", "expected"),
    [
        (0.975, 1, 12.706),
        (0.975, 2, 4.303),
        (0.975, 5, 2.571),
        (0.975, 8, 2.306),
        (0.975, 35, 2.030),
        (0.95, 10, 1.812),
        (0.995, 30, 2.750),
    ],
)
def test_quantiles_of_student_as_the_tables_have_them(probability: float, freedom: int, expected: float):
    assert student_quantile(probability, freedom) == pytest.approx(expected, abs=6e-4)
    assert student_quantile(1.0 - probability, freedom) == pytest.approx(-expected, abs=6e-4)
    assert student_probability(student_quantile(probability, freedom), freedom) == pytest.approx(probability, abs=1e-9)


def test_the_interval_covers_as_often_as_it_says():
    """2 000 draws of 12 points with noise: the interval of 90 % holds the true rate in 90 % of them, to two points."""
    generator = np.random.default_rng(7)
    years = np.linspace(2003, 2022, 12)
    inside = 0
    for noise in generator.normal(0.0, 0.2, (2000, 12)):
        values = 10.0 ** (0.1 * (years - 2003) + noise)
        one = fit("drawn", [Point(year, value) for year, value in zip(years, values, strict=True)], confidence=0.9)
        inside += one.low <= 10.0**0.2 <= one.high
    assert inside / 2000 == pytest.approx(0.9, abs=0.02)


def test_a_projection_widens_with_distance(found: Trends):
    for name, points in found.projections.items():
        last = found.fits[name].last
        assert all(one.year > last for one in points)
        widths = [math.log(one.high / one.low) for one in points]
        assert widths == sorted(widths)


BAD: dict[str, tuple[list[Point], dict[str, Any], str]] = {
    "two points": ([Point(2000, 1.0), Point(2001, 2.0)], {}, "has 2 points"),
    "a value of zero": ([Point(2000, 1.0), Point(2001, 0.0), Point(2002, 2.0)], {}, "is not positive"),
    "one year": ([Point(2000, 1.0), Point(2000, 2.0), Point(2000, 3.0)], {}, "of one year"),
    "certainty": ([Point(2000, 1.0), Point(2001, 2.0), Point(2002, 3.0)], {"confidence": 1.0}, "between 0 and 1"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case: str):
    points, asked, said = BAD[case]
    with pytest.raises(InputError, match=said):
        fit("bad", points, **asked)


@pytest.mark.parametrize("year", [0, 1990, 5000])
def test_projections_reach_to_a_year_that_is_near(year: int):
    with pytest.raises(InputError, match=f"until {year}: a year from 2025 to 2100 is wanted"):
        trends(until=year)


# ---- the catalogue's chips --------------------------------------------------------------------------------------------------


def test_balance_and_latency_are_those_of_the_chips(found: Trends):
    by_name = {one.name: one for one in found.chips}
    assert by_name["h100-sxm"].balance == pytest.approx(989.4e12 / 3.35e12, rel=2e-3)
    chip = load_chip("a100-sxm-80gb")
    assert by_name["a100-sxm-80gb"].latency == chip.main_memory.latency
    assert "groq-lpu-v1" not in by_name  # no DRAM
    assert by_name["h100-sxm"].sources


def test_bandwidth_grows_and_latency_does_not(found: Trends):
    """The third wall: bandwidth of the catalogue's chips grows, the interval of DRAM latency holds no improvement of 15 %."""
    assert found.fits["bandwidth of chips"].low > 1.2
    assert found.fits["latency of DRAM"].low > 1 / 1.15
    assert found.fits["balance of chips"].low > 1.0
    assert found.fits["bytes in flight"].rate > 1.0


def test_every_chip_has_a_point_or_a_reason(found: Trends):
    known = {one.name for one in found.chips} | set(found.left_out)
    assert known == set(names("chip"))
    assert all(found.left_out.values())
    assert "DRAM" in found.left_out["groq-lpu-v1"]


def test_parts_of_dram_say_the_same_by_a_source(found: Trends):
    """1999 to 2017: transfers a pin grow 16 to 20 times, the row cycle shrinks by less than a third."""
    rows, pins = found.fits["row cycle of DRAM parts"], found.fits["transfers of DRAM parts"]
    assert 0.94 < rows.low < rows.rate < rows.high < 1.0
    assert pins.low > 1.0
    points = found.points["row cycle of DRAM parts"]
    assert points[0].value / points[-1].value == pytest.approx(66 / 46)


# ---- the command ------------------------------------------------------------------------------------------------------------


def test_the_command_marks_projections(root: Path):
    command = [sys.executable, "-m", "ridgeline", "trends", "--until", "2028", "--json"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True, env={"PYTHONPATH": "src", "PATH": ""})
    record = json.loads(done.stdout)
    for name in REFITTED:
        one = record["fits"][name]
        assert one["low"] < one["rate"] < one["high"]
        assert one["points"] >= 7
    assert all(one["extrapolated"] for one in record["projections"].values())
    assert record["projections"]["peak FLOPS"]["points"][-1]["year"] == 2028
    assert record["fits"]["accelerator memory"]["printed"] == 2.0


def test_tables_and_pictures(tmp_path: Path, found: Trends):
    from rich.console import Console

    console = Console(width=160, record=True, file=(tmp_path / "out").open("w", encoding="utf-8"))
    console.print(survey_tables.trends_tables(found))
    text = console.export_text()
    console.file.close()
    assert "extrapolated, not measured" in text
    assert "×3.026" in text
    picture = survey_plots.trends_picture(found)
    assert len(picture.panels) == 6
    dashed = [one for panel in picture.panels for one in panel.curves if one.dashed]
    assert dashed
    assert all("extrapolated" in one.name for one in dashed)
    lines = {one.key for panel in picture.panels for one in panel.curves}
    assert {one.key for one in dashed} <= lines  # in the colour of their points
    html = panels.panels_html(picture, whole=False)
    assert '"type":"category"' in html.replace(" ", "")  # bars stand on their labels
    panels.write_panels(picture, tmp_path / "a.html")
    assert "third wall" in (tmp_path / "a.html").read_text()
    json.dumps(survey_records.trends_record(found), allow_nan=False)
