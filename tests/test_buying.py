"""What to buy next: secants by hand, areas that are known, and what is left out with the reason."""

import json
import math
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from ridgeline.api import analyze, load_chip, sensitivity
from ridgeline.api.buying import buy_next
from ridgeline.api.money import cost_of, fabrication_of, made_of, terms_of
from ridgeline.errors import InfeasibleError
from ridgeline.report.explore_plots import sensitivity_picture
from ridgeline.report.explore_records import sensitivity_record
from ridgeline.report.explore_tables import sensitivity_tables
from ridgeline.report.panels import panels_html
from ridgeline.report.tables import console
from ridgeline.search.sensitivity import Bill, Outcome, Part, purchases
from ridgeline.specs.base import with_quantity

MODEL, CHIP = "llama-3.1-8b", "h100-sxm"


@cache
def decoding() -> Any:
    """One sequence that decodes."""
    return sensitivity(MODEL, CHIP, level="ideal", batch=1, context=1024)


def parts(model: str, chip: Any, *, step: float = 1e-4, **asked: Any) -> tuple[Any, Any]:
    """What to buy next, without the elasticities beside it."""
    base = analyze(model, chip, **asked)
    options = asked | {"precision": base.precision}

    def evaluate(machine: Any) -> Outcome:
        found = analyze(base.model, machine, **options).estimate
        return Outcome(float(found.time), found.energy)

    return buy_next(base, evaluate=evaluate, step=step, terms=terms_of())


def bought(found: Any) -> dict[str, Any]:
    return {one.name: one for one in getattr(found, "buy", found)}


def test_decode_buys_memory_and_prefill_buys_matrix_units():
    """Bound by memory all that time is bandwidth's; bound by compute it is the units'."""
    decode = decoding()
    prefill, _ = parts(MODEL, CHIP, level="ideal", phase="prefill", prompt=4096)
    assert decode.buy[0].name == "hbm stacks"
    assert decode.buy[0].time == pytest.approx(-1.0, abs=2e-3)
    assert bought(decode)["matrix units"].time == pytest.approx(0.0, abs=1e-9)
    assert prefill[0].name == "matrix units"
    assert prefill[0].time < -0.95
    assert bought(prefill)["hbm stacks"].time > -0.05


def test_a_stack_by_hand():
    """As many stacks again: 80 GB at 15 dollars, 3.35 TB/s of interfaces at 10.45 mm² for 819 GB/s, and a larger die."""
    found = bought(decoding())["hbm stacks"]
    area = 10.45e-6 * 3.35e12 / 819.2e9
    assert found.area == pytest.approx(area, rel=1e-6)
    chip = load_chip(CHIP)
    at = fabrication_of(chip)
    larger, now = (made_of(chip.package.die_area + more, None, None, at)[0] for more in (1e-4 * area, 0.0))
    assert found.dollars == pytest.approx(1200.0 + (larger - now) / 1e-4, rel=1e-4)
    assert found.per_dollar == pytest.approx(-found.time / found.dollars, rel=1e-3)
    assert found.per_square_metre == pytest.approx(-found.time / found.area, rel=1e-3)


def test_parts_are_secants_of_the_same_model():
    """At mapped: a tenth more of all matrix rates, by hand."""
    found = bought(parts(MODEL, CHIP, level="mapped", phase="prefill", prompt=1024, step=0.1)[0])["vector lanes"]
    chip = load_chip(CHIP)
    for name, rate in chip.vector_unit.rate.items():
        chip = with_quantity(chip, f"vector_unit.rate.{name}", rate * 1.1)
    times = [analyze(MODEL, one, level="mapped", phase="prefill", prompt=1024).estimate.time for one in (CHIP, chip)]
    assert found.time == pytest.approx(math.log(times[1] / times[0]) / math.log(1.1), abs=1e-12)


def test_power_costs_its_running():
    """700 W over five years at 1.56 · 0.0895 dollars a kWh and 174.06 a kW and month: 43 830 hours, 60 months."""
    found = bought(decoding())["power limit"]
    assert found.dollars == pytest.approx(0.7 * (1.56 * 0.0895 * 43_830 + 174.06 * 60), rel=1e-6)
    assert found.area == pytest.approx(0.0, abs=1e-12)


def test_links_of_a_system():
    found = bought(parts("llama-3.1-70b", "dgx-h100", plan="tp=8", level="ideal", phase="prefill", prompt=2048)[0])
    links = found["nvlink4 links"]
    assert links.time < -0.01
    assert links.area == pytest.approx(18 * 0.965e-6, rel=1e-6)  # as many again


def test_what_is_not_known_is_left_out_and_said():
    found, notes = parts("bert-base", "gemmini", level="mapped", phase="encode", prompt=16, precision="int8", step=0.1)
    assert {"matrix units", "dram devices"} & set(bought(found)) == set()
    assert all(one.dollars is None for one in found)
    assert any("die_area" in note for note in notes)
    assert any("whole rows" in note for note in notes)
    found, notes = parts(MODEL, replace(load_chip(CHIP), technology=None), level="ideal", batch=1, context=128)
    assert found == ()
    assert any("package.node" in note for note in notes)


def test_cost_answers_to_price_and_time():
    """Dollars of a step are homogeneous of degree one in price and energy price, and fall with bandwidth."""
    found = sensitivity(MODEL, CHIP, level="ideal", batch=8, context=1024, terms={"electricity": 0.0, "hosting": 0.0})
    rows = {one.path: one for one in found.rows}
    assert rows["package.price"].dollars == pytest.approx(1.0, abs=1e-6)
    assert rows["package.price"].time == 0.0
    assert rows["memory.hbm.bandwidth"].dollars == pytest.approx(rows["memory.hbm.bandwidth"].time, abs=1e-6)
    rented = sensitivity(MODEL, CHIP, level="ideal", batch=8, context=1024, prices="rental")
    assert {one.path: one.dollars for one in rented.rows}["package.rental"] == pytest.approx(1.0, abs=1e-6)
    step = found.base.estimate
    assert cost_of(CHIP, time=step.time, energy=step.energy).dollars > 0


def test_purchases_by_hand():
    """Two parts: the cheaper gain first; one that cannot be is kept with its reason, one that costs nothing is not there."""

    def grow(paths: tuple[str, ...], factor: float) -> tuple[Outcome, Bill]:
        if paths == ("no",):
            raise InfeasibleError("does not fit")
        if paths == ("free",):
            return Outcome(5.0, None), Bill(1e-4, 100.0)
        cost = {"dear": 50.0, "cheap": 5.0}[paths[0]]
        return Outcome(10.0 / factor, None), Bill(1e-4, 100.0 + cost)

    parts = [Part(name, (name,), 2.0) for name in ("dear", "cheap", "no", "free")]
    found = purchases(grow, parts, Outcome(10.0, None), Bill(1e-4, 100.0))
    assert [one.name for one in found] == ["cheap", "dear", "no"]
    assert found[0].per_dollar == pytest.approx(math.log(2.0) / 5.0)
    assert found[0].per_square_metre is None
    assert found[2].note == "does not fit"


def test_reports():
    found = decoding()
    record = sensitivity_record(found)
    json.dumps(record, allow_nan=False)
    assert record["buy"][0]["name"] == "hbm stacks"
    assert record["cost_elasticities"]["memory.hbm.bandwidth"] < -0.5
    assert any("of a seller" in note for note in record["buy_notes"])
    with console().capture():
        console().print(sensitivity_tables(found))
    assert "for 1 USD" in panels_html(sensitivity_picture(found), whole=False)
