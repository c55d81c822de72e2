"""Test-time compute: hand counts, what published facts say of serial and parallel samples, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ridgeline.api import analyze, thresholds
from ridgeline.api.test_time import read_quality, scale_compute
from ridgeline.errors import InfeasibleError, InputError
from ridgeline.report.panels import panels_html
from ridgeline.report.tables import console
from ridgeline.report.test_time import scaling_picture, scaling_record, scaling_tables
from ridgeline.search.test_time import Point, Quality, Search, crossings, ladder, segments

MODEL, CHIP = "llama-3.1-8b", "h100-sxm"


def made_up(samples: Any, tokens: Any, accuracy: Any) -> Quality:
    """A curve for tests; its numbers mean nothing."""
    arrays = [None if one is None else np.array(one, dtype=float) for one in (samples, tokens)]
    return Quality(arrays[0], arrays[1], np.array(accuracy), "made-up")


# ---- what it takes ----------------------------------------------------------------------------------------------------------


def test_published_facts(facts: Path):
    """Longer chains are more decoding, bound by memory; samples fill the batch toward 295 at almost no more weight traffic."""
    text = json.loads((facts / "reference/D_fleetwood_dsa.json").read_text(encoding="utf-8"))["test_time_compute"]
    assert "memory-bound" in text["serial"]
    assert "295" in text["parallel"]
    found = scale_compute(MODEL, CHIP, samples=[1, 16, 64], chain=[512, 2048, 8192], prompt=128)
    serial = [one for one in found.points if one.samples == 1]
    assert {one.bound for one in serial} == {"memory.hbm"}
    assert serial[1].time / serial[0].time == pytest.approx(4.0, rel=0.02)  # four times the tokens, the cache is small beside 16 GB
    assert found.critical_batch == pytest.approx(295, abs=0.5)
    assert found.critical_batch == thresholds(MODEL, CHIP).critical_batch
    one, _, many = (point for point in found.points if point.chain == 512)
    assert many.fill == pytest.approx(64 / 295.3, rel=1e-3)
    assert many.time < 1.2 * one.time  # 64 times the tokens
    weights = [analyze(MODEL, CHIP, batch=count, samples=count, prompt=128, context=256, level="ideal") for count in (1, 64)]
    few, all_of_them = (
        sum(row.bytes * row.count for row in step.estimate.operations if row.group == "feed-forward") for step in weights
    )
    assert all_of_them < 1.03 * few


def test_past_the_critical_batch_compute_binds():
    found = scale_compute(MODEL, CHIP, samples=[1, 1024], chain=16, prompt=16)
    assert [one.bound for one in found.points] == ["memory.hbm", "compute"]
    assert found.points[1].time > 2 * found.points[0].time
    assert found.doubling == {(1, 16): 1024}
    assert scale_compute(MODEL, CHIP, samples=[1, 4], chain=16, prompt=16).doubling == {(1, 16): None}


def test_independent_samples_are_a_generation():
    """The same as `analyze` of one generation whose prompt the samples share."""
    found = scale_compute(MODEL, CHIP, samples=[8], chain=[256], queries=[2], prompt=512)
    step = analyze(MODEL, CHIP, phase="generate", batch=16, samples=8, prompt=512, output=256, level="ideal").estimate
    one = found.points[0]
    assert one.time == pytest.approx(step.time, rel=1e-12)
    assert one.machine_time == pytest.approx(step.time / 2)
    assert one.energy == pytest.approx(step.energy / 2)
    assert one.tokens == 8 * 256
    assert one.sequences == 16


def test_arrays_are_their_members():
    """All points at once equal each by itself, for every method; 1e-12: sums of a hundred terms."""
    for search in (Search(), Search(method="beam"), Search(method="tree", branching=2, segment=100)):
        asked: dict[str, Any] = {"prompt": 300, "search": search}
        many = scale_compute(MODEL, CHIP, samples=[1, 4, 16], chain=[64, 250], queries=[1, 3], **asked).points
        for one in many[::3]:
            counts = {"samples": int(one.samples), "chain": int(one.chain), "queries": int(one.queries)}
            (alone,) = scale_compute(MODEL, CHIP, **counts, **asked).points
            assert alone.time == pytest.approx(one.time, rel=1e-12)
            assert alone.energy == pytest.approx(one.energy, rel=1e-12)
            assert alone.bound == one.bound


def test_a_tree_of_one_branch_is_a_chain():
    """One sample, whatever the method; the prompt's step gives one token less to decode (1 of 256)."""
    times = [
        scale_compute(MODEL, CHIP, samples=1, chain=256, search=Search(method=method)).points[0].time
        for method in ("independent", "beam", "tree")
    ]
    assert times[1] == times[2]
    assert times[1] == pytest.approx(times[0], rel=1 / 200)


def test_searches_read_less_than_independent_samples():
    """They share more than the prompt, so that the same sequences take less time; a tree also has fewer at first."""
    asked: dict[str, Any] = {"samples": 64, "chain": 2048, "queries": 2, "prompt": 256}
    found = {
        method: scale_compute(MODEL, CHIP, **asked, search=Search(method=method)).points[0]  # pyright: ignore[reportArgumentType]
        for method in ("independent", "beam", "tree")
    }
    assert found["tree"].time < found["independent"].time
    assert found["beam"].time < found["independent"].time
    assert found["beam"].shared > found["independent"].shared
    assert found["beam"].tokens == found["independent"].tokens == 64 * 2048
    assert found["tree"].tokens < found["independent"].tokens


def test_distinct_tokens_of_a_beam():
    """Eight chains, two survive each segment of 10: before the third segment the prompt of 50 and 2 · 20 tokens are cached."""
    found = segments(Search(method="beam", branching=4, segment=10), np.array([8.0]), np.array([30.0]), 50.0)
    third = found[2]
    distinct = third.sequences * third.context - (third.sequences - 1) * third.shared
    assert distinct.tolist() == [pytest.approx(50 + 2 * 20)]


def test_more_of_anything_is_never_cheaper():
    """Up to rounding, with energy and dollars."""
    found = scale_compute(MODEL, CHIP, samples=[1, 2, 8, 32], chain=[128, 512], queries=[1, 4], prompt=256)
    for name in ("time", "energy", "dollars", "tokens"):
        for one in found.points:
            for other in found.points:
                if other.queries == one.queries and other.samples >= one.samples and other.chain >= one.chain:
                    assert getattr(other, name) >= getattr(one, name) * (1 - 1e-12)


def test_a_plan_on_a_system():
    found = scale_compute("llama-3.1-70b", "dgx-h100", plan="tp=8", samples=[1, 4], chain=128, prompt=512)
    assert found.spread is not None
    assert found.rate is not None
    assert found.rate.chips == 8
    assert found.points[1].time < 1.1 * found.points[0].time


# ---- quality ----------------------------------------------------------------------------------------------------------------


def point(samples: float, chain: float, dollars: float, accuracy: float | None) -> Point:
    return Point(samples, chain, 1, samples, 0.1, 1.0, 1.0, None, dollars, chain, 0.0, "compute", True, 0.0, accuracy)


def test_the_ladder_and_where_it_crosses():
    """Dollars a query over the accuracy: the serial 2 / 0.4 = 5 beats 3 / 0.5 = 6 up to 0.4, not beyond."""
    points = [point(1, 100, 1.0, 0.2), point(1, 400, 2.0, 0.4), point(1, 900, 9.0, 0.6), point(8, 100, 3.0, 0.5)]
    found = ladder(points, "dollars")
    assert [(one.accuracy, one.cheaper) for one in found] == [
        (0.2, "serial"),
        (0.4, "serial"),
        (0.5, "parallel"),
        (0.6, "serial"),
    ]
    assert crossings(found) == ((0.2, "serial"), (0.5, "parallel"), (0.6, "serial"))
    assert found[2].serial is points[2]


def test_points_without_an_accuracy_are_nobody_s():
    points = [point(1, 100, 1.0, None), point(2, 100, 1.0, 0.0), point(4, 100, 1.0, 0.3)._replace(feasible=False)]
    assert ladder(points, "dollars") == ()
    assert points[0].solved("dollars") is None
    assert points[1].solved("dollars") is None


def test_accuracy_is_the_curve_s_alone():
    by_tokens = made_up(None, [512, 2048], [0.3, 0.4])
    found = scale_compute(MODEL, CHIP, samples=[1, 4], chain=[512, 1000], prompt=128, quality=by_tokens)
    assert {(one.samples, one.chain): one.accuracy for one in found.points} == {
        (1, 512): 0.3,
        (1, 1000): None,
        (4, 512): None,
        (4, 1000): None,
    }
    by_samples = made_up([1, 4], None, [0.3, 0.4])
    found = scale_compute(MODEL, CHIP, chain=512, prompt=128, quality=by_samples)
    assert [one.accuracy for one in found.points] == [0.3, 0.4]
    both = made_up([1, 1, 4], [512, 2048, 512], [0.3, 0.4, 0.4])
    assert len(scale_compute(MODEL, CHIP, prompt=128, quality=both).points) == 3
    one = scale_compute(MODEL, CHIP, prompt=128, quality=both, queries=[1, 2])
    assert len(one.points) == 6
    assert one.points[0].solved("dollars") == pytest.approx((one.points[0].dollars or 0.0) / 0.3)


BAD_CURVES: list[Any] = [
    ("tokens,accuracy\n1,0.5\n2,0.4\n", "falls from 0.5 to 0.4 between 1 and 2 tokens"),
    ("samples,tokens,accuracy\n1,8,0.5\n2,8,0.6\n2,16,0.55\n", "falls from 0.6 to 0.55 between 8 and 16 tokens at 2 samples"),
    ("tokens,accuracy\n1,1.5\n", "1.5 is not a fraction"),
    ("tokens,accuracy\n1,-0.1\n", "not a fraction"),
    ("tokens,accuracy\n1,nan\n", "not a fraction"),
    ("tokens\n1\n", "columns `accuracy`"),
    ("accuracy\n0.5\n", "columns `accuracy`"),
    ("", "has nothing"),
    ("tokens,accuracy\n1.5,0.5\n", "tokens 1.5: a whole number"),
    ("tokens,accuracy\nmany,0.5\n", "tokens 'many' is no number"),
    ("tokens,accuracy\n1\n", "accuracy None is no number"),
    ("tokens,accuracy\n1,0.5\n1,0.5\n", "1 tokens twice"),
]


@pytest.mark.parametrize(("text", "message"), BAD_CURVES)
def test_bad_curves(tmp_path: Path, text: str, message: str):
    path = tmp_path / "curve.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_quality(path)


BAD: list[Any] = [
    ({"samples": 4}, "chain: how many"),
    ({"samples": 0, "chain": 8}, "samples 0: a whole number"),
    ({"samples": 1, "chain": 1.5}, "chain 1.5"),
    ({"samples": 6, "chain": 8, "search": Search(method="beam")}, "multiple"),
    ({"samples": 4, "chain": 8, "search": Search(method="tree", branching=1)}, "branching 1"),
    ({"samples": 4, "chain": 8, "level": "simulated"}, "choose ideal or mapped"),
    ({"samples": 4, "chain": 8, "cost": "beauty"}, "choose dollars"),
    ({"samples": 4, "chain": 8, "speed": 1}, "no option 'speed'"),
    ({"chain": [8, 16], "quality": made_up([1, 2], None, [0.1, 0.2])}, "one chain length"),
    ({"samples": list(range(1, 1001)), "chain": list(range(1, 1001))}, "too many"),
]


@pytest.mark.parametrize(("asked", "message"), BAD)
def test_bad_input(asked: Any, message: str):
    with pytest.raises(InputError, match=message):
        scale_compute(MODEL, CHIP, **asked)


def test_a_model_that_does_not_decode_and_one_that_does_not_fit(tmp_path: Path):
    with pytest.raises(InputError, match="generates no tokens"):
        scale_compute("bert-base", CHIP, samples=1, chain=8)
    with pytest.raises(InfeasibleError, match="short of memory"):
        scale_compute("llama-3.1-405b", CHIP, samples=1, chain=8)
    with pytest.raises(InputError, match=r"none\.csv: cannot be read: No such file"):
        read_quality(tmp_path / "none.csv")


# ---- reports ----------------------------------------------------------------------------------------------------------------


def test_reports():
    curve = made_up([1, 1, 16], [256, 1024, 256], [0.2, 0.4, 0.5])
    found = scale_compute(MODEL, CHIP, quality=curve, queries=[1, 8], prompt=128)
    record = scaling_record(found)
    json.dumps(record, allow_nan=False)
    assert {one["queries"] for one in record["ladder"]} == {1.0, 8.0}
    assert record["points"][0]["dollars_per_solved"] == pytest.approx(record["points"][0]["dollars"] / 0.2)
    assert record["money"]["prices"] == "purchase"
    with console().capture():
        console().print(scaling_tables(found))
    assert "of a solved query" in panels_html(scaling_picture(found), whole=False)
    rented = scale_compute(MODEL, CHIP, quality=curve, prompt=128, prices="rental")
    assert rented.points[0].dollars == pytest.approx(rented.points[0].machine_time * 2.95 / 3600)
    unpriced = scale_compute("gpt2", "v100-pcie-32gb", samples=1, chain=8, prompt=8, cost="machine_time")
    assert unpriced.cost == "machine_time"
