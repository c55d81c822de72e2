"""Area by component: the rows of the 45 nm table, memories against CACTI, formats, a chip's parts, integer activation units."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ridgeline.api import load_chip
from ridgeline.catalogue.silicon import coefficients, nodes
from ridgeline.costs import area
from ridgeline.costs.components import (
    ActivationUnit,
    activation_area,
    chip_area,
    chip_coefficients,
    chip_leakage,
    element_area,
    mac_area,
    peak_power,
)
from ridgeline.errors import InputError
from ridgeline.specs.chip import Package
from ridgeline.specs.number_format import FORMATS
from ridgeline.specs.technology import find_node

AT = coefficients()[0]
SQUARE_MICROMETRE = 1e-12

# Row of figure 15 → formula, and its deviation as the docstrings state it.
ROWS = {
    "8b Add": (lambda: area.adder_area(bits=8, area=AT.adder_area), -0.05),
    "16b Add": (lambda: area.adder_area(bits=16, area=AT.adder_area), 0.02),
    "32b Add": (lambda: area.adder_area(bits=32, area=AT.adder_area), 0.0),
    "8b Mult": (lambda: area.multiplier_area(significand=8, area=AT.multiplier_area, adder=AT.adder_area), -0.03),
    "32b Mult": (lambda: area.multiplier_area(significand=32, area=AT.multiplier_area, adder=AT.adder_area), 0.02),
    "16b FP Mult": (lambda: area.float_multiplier_area(significand=11, area=AT.float_multiplier_area), -0.01),
    "32b FP Mult": (lambda: area.float_multiplier_area(significand=24, area=AT.float_multiplier_area), 0.01),
    "16b FP Add": (lambda: area.float_adder_area(significand=11, area=AT.float_adder_area), 0.06),
    "32b FP Add": (lambda: area.float_adder_area(significand=24, area=AT.float_adder_area), -0.06),
}


@pytest.mark.parametrize("row", ROWS)
def test_rows_of_the_table_deviate_as_stated(row: str, facts: Path):
    """To the rounding of a whole percentage."""
    stated = json.loads((facts / "reference" / "A_gemmini_and_analytic.json").read_text(encoding="utf-8"))
    printed = stated["energy_area_45nm_fig15"][row]["um2"] * SQUARE_MICROMETRE
    formula, deviation = ROWS[row]
    assert formula() / printed - 1 == pytest.approx(deviation, abs=0.0051)


def test_memories_lie_around_those_of_cacti(facts: Path):
    """Eight areas of 64 and 256 KB at 65, 45, 32 and 22 nm: 0.8 to 1.2 of the formula; 22 nm is taken as 20."""
    with (facts / "reference" / "hardware" / "energy_reference.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["component"].startswith("SRAM") and row["quantity"] == "area"]
    ratios = []
    for row in rows:
        size = {"22": 20}.get(row["node_nm"], int(row["node_nm"]))
        if size < 20:  # the tool's rows below 22 nm are scaled, not computed
            continue
        bits = 8 * 1024 * int(row["component"].removeprefix("SRAM ").removesuffix("KB"))
        found = area.sram_area(bits=bits, cell=find_node(nodes(), size * 1e-9).sram_cell, periphery=AT.sram_periphery)
        ratios.append(float(row["value"]) * 1e-6 / found)
    assert len(ratios) == 8
    assert min(ratios) == pytest.approx(0.80, abs=0.01)
    assert max(ratios) == pytest.approx(1.19, abs=0.01)


# ---- formats ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [4, 8, 16])
def test_fp8_gains_about_two_at_equal_area(depth: int):
    """The multiplier alone would gain 121 / 16 = 7.6; alignment and accumulation hold it at about 2, as on shipped chips."""
    assert FORMATS["fp16"].full_adders / FORMATS["fp8-e4m3"].full_adders == pytest.approx(7.5625)
    wide = mac_area(FORMATS["fp16"], AT, depth=depth)
    narrow = mac_area(FORMATS["fp8-e4m3"], AT, depth=2 * depth)  # as many bits of operands
    assert 2.0 < wide.whole / narrow.whole < 2.4
    assert wide.align / narrow.align < 1.5


def test_a_systolic_element_gains_less():
    """With a whole accumulator in every element, fp8 saves the multiplier only."""
    ratio = mac_area(FORMATS["fp16"], AT).whole / mac_area(FORMATS["fp8-e4m3"], AT).whole
    assert 1.2 < ratio < 1.5


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("depth", [1.0, 8.0])
def test_every_format_has_an_area(name: str, depth: float):
    parts = mac_area(FORMATS[name], AT, depth=depth)
    assert parts.multiply > 0.0
    assert parts.accumulate > 0.0
    assert (parts.align > 0.0) == (FORMATS[name].kind == "float" and depth > 1.0)


def test_narrower_formats_are_smaller():
    for names in (
        ("fp64", "fp32", "tf32", "bf16", "fp8-e4m3", "fp6", "fp4-e2m1"),
        ("int32", "int16", "int8", "int4", "int2", "binary"),
    ):
        found = [mac_area(FORMATS[name], AT, depth=8.0).whole for name in names]
        assert found == sorted(found, reverse=True)
        assert len(set(found)) == len(found)
    scaled, plain = (mac_area(FORMATS[name], AT, depth=8.0).whole for name in ("mxfp4", "fp4-e2m1"))
    assert scaled - plain == pytest.approx(8 / 32 * AT.adder_area)  # an 8-bit scale every 32 values


# ---- a chip -----------------------------------------------------------------------------------------------------------------


def test_gemmini_by_component():
    """At 7 nm: cells of 0.027 µm² and a periphery of 1.3 for the memories; 256 elements."""
    chip = load_chip("gemmini")
    found = chip_area(chip)
    assert set(found) == {"matrix unit", "memory.accumulator", "memory.scratchpad", "vector unit"}
    assert found["memory.scratchpad"] == pytest.approx(256 * 1024 * 8 * 0.027e-12 * 1.3, rel=1e-12)
    assert found["memory.scratchpad"] == pytest.approx(4.0 * found["memory.accumulator"], rel=1e-12)
    at = chip_coefficients(chip)
    assert at is not None
    assert found["matrix unit"] == pytest.approx(256 * element_area(chip, FORMATS["int8"], at), rel=1e-12)
    assert found["memory.scratchpad"] > found["matrix unit"]


def test_rebalancing_the_memories_changes_no_area():
    """The survey: virtually no change of area from 256/64 to 64/256 kB."""
    first, second = (sum(chip_area(load_chip(name)).values()) for name in ("gemmini", "gemmini-rebalanced"))
    assert second == pytest.approx(first, rel=1e-12)


def test_an_activation_unit_by_hand():
    """At 45 nm: 2 · (32² · 3.2 + 64 · 4.28) + 5 · 32 · 4.28 + 32 · 5 · 1.86 + (32 · 4.28 + 96 · 5.98) + 9 · 32 · 5.98 µm²."""
    expected = 2 * (3276.8 + 273.92) + 684.8 + 297.6 + (136.96 + 574.08) + 1722.24
    assert activation_area(AT) / SQUARE_MICROMETRE == pytest.approx(expected, rel=1e-9)
    assert activation_area(AT, ActivationUnit(dividers=0)) < activation_area(AT)


def test_sixteen_activation_units_beside_the_survey_s_share():
    """The survey's synthesis adds 14 % of area; nothing here is fitted to that, and 9.5 % comes out, within its 5 to 15 %."""
    found = chip_area(load_chip("gemmini"), activation_units=16)
    share = found["activation units"] / (sum(found.values()) - found["activation units"])
    assert share == pytest.approx(0.095, abs=0.002)


def test_power_of_activation_units_at_peak():
    """Every part busy every cycle: the units add about a quarter; the survey prints 9.3 %, with activities unknown here."""
    chip = load_chip("gemmini")
    plain, more = (sum(peak_power(chip, FORMATS["int8"], activation_units=units).values()) for units in (0, 16))
    assert more / plain - 1 == pytest.approx(0.26, abs=0.03)


def test_areas_broadcast_over_designs():
    chip = load_chip("gemmini")
    sizes = np.array([64.0, 256.0, 1024.0]) * 1024
    batch = replace(chip, memory=tuple(replace(one, capacity=sizes) if one.name == "scratchpad" else one for one in chip.memory))
    for index, size in enumerate(sizes):
        one = replace(
            chip, memory=tuple(replace(level, capacity=size) if level.name == "scratchpad" else level for level in chip.memory)
        )
        assert chip_area(batch)["memory.scratchpad"][index] == pytest.approx(chip_area(one)["memory.scratchpad"])
        assert chip_leakage(batch)[index] == pytest.approx(chip_leakage(one))


def test_a_chip_without_a_node_has_no_area():
    chip = replace(load_chip("gemmini"), package=Package(), technology=None)
    with pytest.raises(InputError, match=r"gemmini has no `package\.node`, which areas need"):
        chip_area(chip)
    assert chip_leakage(chip) is None
