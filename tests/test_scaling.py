"""Scaling between nodes: the published example, round trips, ranges of voltage, refusals, memory apart from logic, claims."""

import csv
import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgeline.catalogue import references
from ridgeline.catalogue.silicon import nodes, technology_of
from ridgeline.costs import scaling
from ridgeline.errors import InputError
from ridgeline.specs.technology import Node, find_node

HIGH, LOW = "high-performance", "low-power"
FAMILIES = (HIGH, LOW)


def node(size: float, family: Any = HIGH) -> Node:
    return find_node(nodes(), size * 1e-9, family)


def family_of(family: Any) -> list[Node]:
    """The nodes of a family from the largest on; those before the families split belong to both."""
    return sorted((one for one in nodes() if one.family in ("", family)), key=lambda one: -one.feature)


def between(low: float, high: float) -> Any:
    return st.floats(low, high, allow_nan=False)


@st.composite
def places(draw: Any) -> tuple[Node, float]:
    one = draw(st.sampled_from(nodes()))
    return one, draw(between(one.lowest, one.highest))


@pytest.mark.parametrize("name", ["scaling.csv", "components.csv"])
def test_every_row_has_a_source_or_says_that_it_is_an_estimate(name: str, root: Path):
    entries = references.entries()
    with (root / "src" / "ridgeline" / "catalogue" / name).open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            for prefix in ("", "sram_") if row.get("kind") in ("polynomial", "claim") else ("",):
                key, confidence, note = (row[f"{prefix}{column}"] for column in ("source", "confidence", "note"))
                assert key in entries or (confidence == "estimate" and note), row
            if row.get("voltage_source"):
                assert row["voltage_source"] in entries


# ---- published numbers ------------------------------------------------------------------------------------------------------


def test_the_example_of_the_corrigendum():
    """65 nm at 1.3 V to 32 nm high-performance at 0.9 V: 0.4571 / 2.604 = 0.1755, to 0.1 %."""
    found = scaling.scale_energy(1.0, source=node(65), source_voltage=1.3, target=node(32), target_voltage=0.9)
    assert found == pytest.approx(0.1755, rel=1e-3)


def test_polynomials_are_those_of_the_facts(facts: Path):
    """Every coefficient of every node and family, exactly."""
    stated = json.loads((facts / "reference" / "C_scaling_equations.json").read_text(encoding="utf-8"))["coeffs"]
    prefix = {HIGH: "HP", LOW: "LP", "": ""}
    found = {f"{prefix[one.family]}{one.feature * 1e9:.0f}": one for one in nodes() if not one.claimed}
    assert found.keys() == stated.keys()
    for name, row in stated.items():
        one = found[name]
        for ours, theirs in ((one.delay, row[:4]), (one.energy, row[4:7]), (one.power, row[7:])):
            assert np.polyval(ours, 0.77) == pytest.approx(np.polyval(theirs, 0.77), rel=1e-12)


def test_derived_ratios_of_the_facts(facts: Path):
    """Eight conversions that the facts evaluate: areas within 5 % (the table is rounded), the rest within 0.1 % of four digits."""
    with (facts / "reference" / "hardware" / "tech_scaling.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["kind"] == "derived"]
    checked = 0
    for row in rows:
        (source, target), (old, new) = row["variant"].split("->"), row["vdd_V"].split("->")
        if {source[:2], target[:2]} == {"LP", "HP"}:  # mixes families
            continue
        a, b = (node(float(one[2:] if one[0] in "HL" else one), LOW if one[0] == "L" else HIGH) for one in (source, target))
        at = {"source": a, "source_voltage": float(old), "target": b, "target_voltage": float(new)}
        assert scaling.scale_delay(1.0, **at) == pytest.approx(float(row["delay_factor"]), rel=1e-3)
        assert scaling.scale_energy(1.0, **at) == pytest.approx(float(row["energy_factor"]), rel=1e-3)
        assert scaling.scale_power(1.0, **at) == pytest.approx(float(row["power_factor"]), rel=1e-3)
        assert scaling.scale_area(1.0, source=a, target=b) == pytest.approx(float(row["area_factor"]), rel=0.05)
        checked += 1
    assert checked == len(rows) - 1 == 8


def test_areas_give_the_printed_table(facts: Path):
    """All 121 ratios of the rounded table within 3.3 %."""
    stated = json.loads((facts / "reference" / "C_scaling_equations.json").read_text(encoding="utf-8"))
    columns = stated["area_table_columns"]
    for source, row in stated["area_table"].items():
        for target, printed in zip(columns, row, strict=True):
            found = scaling.scale_area(1.0, source=node(float(source)), target=node(float(target)))
            assert found == pytest.approx(printed, rel=0.033), (source, target)


# ---- round trips ------------------------------------------------------------------------------------------------------------


@given(places(), places())
def test_there_and_back(first: tuple[Node, float], second: tuple[Node, float]):
    """Delay, energy, power and both areas return to 1e-12."""
    (a, old), (b, new) = first, second
    there = {"source": a, "source_voltage": old, "target": b, "target_voltage": new}
    back = {"source": b, "source_voltage": new, "target": a, "target_voltage": old}
    for convert in (scaling.scale_delay, scaling.scale_energy, scaling.scale_power, scaling.scale_sram_energy):
        assert convert(convert(3.0, **there), **back) == pytest.approx(3.0, rel=1e-12)
    for convert in (scaling.scale_area, scaling.scale_sram_area):
        assert convert(convert(3.0, source=a, target=b), source=b, target=a) == pytest.approx(3.0, rel=1e-12)
    assert scaling.performance_ratio(**there) * scaling.scale_delay(1.0, **there) == pytest.approx(1.0, rel=1e-12)


# ---- inside the ranges ------------------------------------------------------------------------------------------------------


def voltages(one: Node) -> Any:
    return np.linspace(one.lowest, one.highest, 201)


@pytest.mark.parametrize("one", nodes(), ids=lambda one: one.name)
def test_range_of_voltages_follows_its_rule(one: Node):
    """Factors are positive, energy and power rise, and delay is nowhere more than 15 % above the least at lower voltage."""
    supply = voltages(one)
    delay, energy, power = (factor(one, supply) for factor in (scaling.delay_factor, scaling.energy_factor, scaling.power_factor))
    assert min(delay.min(), energy.min(), power.min()) > 0.0
    assert (np.diff(energy) > 0).all()
    assert (np.diff(power) > 0).all()
    assert (delay <= 1.15 * np.minimum.accumulate(delay)).all()
    assert one.lowest >= 0.5 * one.nominal - 1e-9
    assert one.highest <= 1.2 * one.nominal + 1e-9
    assert one.lowest < one.nominal <= one.highest


@pytest.mark.parametrize("family", FAMILIES)
@given(data=st.data())
def test_energy_rises_with_voltage_and_falls_with_node(family: Any, data: Any):
    """Any two voltages of a node, and any two nodes of a family at a voltage that both allow."""
    members = family_of(family)
    assert len(members) == 13
    old, new = sorted(data.draw(st.lists(st.sampled_from(range(13)), min_size=2, max_size=2, unique=True)))
    larger, smaller = members[old], members[new]
    low, high = sorted(data.draw(st.tuples(between(larger.lowest, larger.highest), between(larger.lowest, larger.highest))))
    if low < high * (1 - 1e-6):
        assert scaling.energy_factor(larger, low) < scaling.energy_factor(larger, high)
    shared = max(larger.lowest, smaller.lowest), min(larger.highest, smaller.highest)
    if shared[0] < shared[1]:
        supply = data.draw(between(*shared))
        assert scaling.energy_factor(smaller, supply) < scaling.energy_factor(larger, supply)


@pytest.mark.parametrize("family", FAMILIES)
def test_energy_and_area_fall_from_each_node_to_the_next_at_nominal_supply(family: Any):
    for larger, smaller in pairwise(family_of(family)):
        assert scaling.energy_factor(smaller, smaller.nominal) < scaling.energy_factor(larger, larger.nominal)
        assert smaller.area < larger.area
        assert smaller.sram_cell <= larger.sram_cell


def test_a_batch_equals_its_members():
    """Voltages as arrays of NumPy and of a strict implementation of the array standard."""
    import array_api_strict

    at = {"source": node(65), "target": node(16)}
    old, new = [0.7, 1.0, 1.3], [0.5, 0.8, 1.0]
    one = [scaling.scale_energy(2.0, **at, source_voltage=a, target_voltage=b) for a, b in zip(old, new, strict=True)]
    for xp in (np, array_api_strict):
        many = scaling.scale_energy(2.0, **at, source_voltage=xp.asarray(old), target_voltage=xp.asarray(new))
        np.testing.assert_allclose(np.asarray(many), one, rtol=1e-15)
    grid = scaling.scale_delay(1.0, **at, source_voltage=np.array(old)[:, None], target_voltage=np.array(new)[None, :])
    assert grid.shape == (3, 3)


# ---- refusals ---------------------------------------------------------------------------------------------------------------

CONVERSIONS = (scaling.scale_delay, scaling.scale_energy, scaling.scale_power, scaling.scale_sram_energy)


@pytest.mark.parametrize("convert", CONVERSIONS)
@pytest.mark.parametrize("supply", [0.44, 1.3, float("nan"), np.array([0.8, 1.3])], ids=["below", "above", "nan", "one of many"])
def test_a_voltage_outside_is_refused(convert: Any, supply: Any):
    """32 nm high-performance at 1.3 V, where its cubic delay is negative, is the case that the facts warn of."""
    with pytest.raises(InputError, match=r"32 nm high-performance: its scaling polynomials hold from 0\.45 to 0\.9 V"):
        convert(1.0, source=node(65), source_voltage=1.1, target=node(32), target_voltage=supply)


def test_the_range_keeps_out_the_negative_delays():
    assert scaling.delay_factor(node(32), 1.3) < 0.0
    assert node(32).highest < 1.3


def test_a_factor_that_is_not_positive_is_refused():
    """A user's node whose range is too wide for its polynomial."""
    wide = node(32)._replace(name="my node", highest=1.4)
    with pytest.raises(InputError, match=r"delay factor of my node at 1\.3 V is -.*must be positive"):
        scaling.scale_delay(1.0, source=node(65), source_voltage=1.1, target=wide, target_voltage=1.3)


def test_a_node_outside_is_refused():
    with pytest.raises(InputError, match=r"250 nm is no process node: accepted are 180, 150, .* 3 nm"):
        technology_of(250e-9)
    with pytest.raises(InputError, match=r"28 nm is no node of the scaling table: known are 180, 130, 90, 65, 45, 32, 20, 16"):
        find_node(nodes(), 28e-9)


# ---- memory apart, claims, families -----------------------------------------------------------------------------------------


def test_memory_scales_apart_from_logic():
    """From 45 to 7 nm cells shrink 13-fold and logic 17-fold; lines gain less energy than gates."""
    old, new = node(45), node(7)
    cells = scaling.scale_sram_area(1.0, source=old, target=new)
    assert cells == pytest.approx(0.027 / 0.346, rel=1e-12)
    assert cells > 1.3 * scaling.scale_area(1.0, source=old, target=new)
    at = {"source": old, "source_voltage": 0.9, "target": new, "target_voltage": 0.7}
    assert scaling.scale_sram_energy(1.0, **at) == pytest.approx((0.027 / 0.346) ** 0.5 * (0.7 / 0.9) ** 2, rel=1e-12)
    assert scaling.scale_sram_energy(1.0, **at) > 2.0 * scaling.scale_energy(1.0, **at)


def _beyond() -> Iterator[Node]:
    return (one for one in nodes() if one.feature < 7e-9)


def test_beyond_seven_nanometres_is_a_claim_and_says_so():
    assert {round(one.feature * 1e9) for one in _beyond()} == {5, 3}
    assert all(one.claimed for one in _beyond())
    assert not any(one.claimed for one in nodes() if one.feature >= 7e-9)
    said = scaling.provenance(node(7), node(5))
    assert said[0] == "stillmaker2017scaling, coefficient tables"
    assert "5 nm high-performance by a foundry's claim, wikichip2020n5" in said[1]
    at = {"source": node(7), "source_voltage": 0.7, "target": node(5), "target_voltage": 0.7}
    assert scaling.scale_energy(1.0, **at) == pytest.approx(0.70, rel=1e-12)  # 30 % less power at the same speed
    assert scaling.scale_delay(1.0, **at) == pytest.approx(0.87, rel=1e-12)
    assert scaling.scale_area(1.0, source=node(7), target=node(5)) == pytest.approx(0.543, rel=1e-12)  # 1 / 1.84
    assert scaling.scale_sram_area(1.0, source=node(5), target=node(3)) == 1.0


def test_a_low_power_process_takes_its_family():
    assert technology_of(16e-9)[0].node.family == HIGH
    assert technology_of(10e-9, "Samsung 10LPP")[0].node.family == HIGH  # no word of its own
    assert technology_of(45e-9, "TSMC 45 nm LP")[0].node.family == LOW
    assert technology_of(65e-9, "TSMC 65 nm LP")[0].node.family == ""


def test_sizes_between_nodes_say_what_they_are_taken_as():
    technology, sources = technology_of(28e-9)
    assert technology.node.name == "32 nm high-performance"
    assert sources["technology.node"].confidence == "estimate"
    assert "28 nm taken as 32 nm high-performance" in (sources["technology.node"].note or "")
