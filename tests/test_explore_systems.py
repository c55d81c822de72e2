"""Spaces of systems and plans, and spaces that hold an area, a power or a formula constant: every point is what `analyze` says."""

from pathlib import Path

import numpy as np
import pytest

from ridgeline.api import analyze, load_chip, load_system
from ridgeline.api.explore import explore, query, read_space
from ridgeline.api.money import cost_of
from ridgeline.costs.components import chip_area, peak_power
from ridgeline.errors import InfeasibleError, InputError
from ridgeline.search.held import Held, solved
from ridgeline.specs.base import with_quantity
from ridgeline.specs.number_format import FORMATS

pytest.importorskip("pyarrow", reason="shards are Parquet files: `pip install 'ridgeline[explore]'`")
pytest.importorskip("duckdb", reason="queries are DuckDB's: `pip install 'ridgeline[explore]'`")

SYSTEMS = """
keep = "all"
level = "LEVEL"
[system]
base = ["dgx-h100", "dgx-h200"]
plan = ["tp=4", "tp=2,dp=2"]
tier.nvswitch.bandwidth = ["200 GB/s", "450 GB/s"]
[chip]
memory.hbm.bandwidth = ["2 TB/s", "5 TB/s"]
[scenario]
model = "llama-3.1-8b"
batch = [2, 64]
[[workload]]
name = "decode"
phase = "decode"
context = 1024
weight = 10
[[workload]]
name = "prompt"
phase = "prefill"
prompt = 512
batch = 2
[objectives]
minimise = ["time", "price"]
"""

CONSTANT = """
keep = "all"
[hold]
area = { at = "3 mm2", by = "memory.scratchpad.capacity" }
[chip]
base = "gemmini"
memory.accumulator.capacity = ["16 KiB", "64 KiB", "256 KiB"]
[scenario]
model = "bert-base"
phase = "encode"
prompt = 64
precision = "int8"
[derived]
die = "1e4 * area"
[objectives]
minimise = ["time", "peak_power"]
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "space.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("level", ["ideal", "mapped"])
def test_systems_and_plans_are_structure(tmp_path: Path, level: str):
    found = explore(written(tmp_path, SYSTEMS.replace("LEVEL", level)), tmp_path / "out")
    assert found.counts.points == 2 * 2 * 2 * 2 * 2
    assert {(one.labels["system"], one.labels["plan"]) for one in found.space.groups} == {
        (system, plan) for system in ("dgx-h100", "dgx-h200") for plan in ("tp=4", "tp=2,dp=2")
    }
    names, rows = query(tmp_path / "out", "SELECT * FROM points ORDER BY point")
    for values in rows[:: 5 if level == "ideal" else 11]:
        row = dict(zip(names, values, strict=True))
        system = with_quantity(load_system(row["system"]), "tier.nvswitch.bandwidth", row["tier.nvswitch.bandwidth"])
        system = with_quantity(system, "chip.memory.hbm.bandwidth", row["memory.hbm.bandwidth"])
        asked = {"plan": row["plan"], "level": level}
        decode = analyze("llama-3.1-8b", system, phase="decode", batch=int(row["batch"]), context=1024, **asked).estimate
        prompt = analyze("llama-3.1-8b", system, phase="prefill", batch=2, prompt=512, **asked).estimate
        assert row["time"] == pytest.approx(10 * decode.time + prompt.time, rel=1e-9)
        tokens = 10 * row["batch"] + 2 * 512
        spent = cost_of(system, time=row["time"], energy=10 * decode.energy + prompt.energy, tokens=tokens, chips=4)
        assert row["price"] == pytest.approx(spent.dollars_per_million, rel=1e-9)


def test_an_area_is_held(tmp_path: Path):
    """All points have 3 mm²: what accumulators and arrays take, the scratchpad gives."""
    explore(written(tmp_path, CONSTANT), tmp_path / "out")
    names, rows = query(tmp_path / "out", "SELECT * FROM points ORDER BY point")
    assert len(rows) == 3
    sizes: list[float] = []
    for values in rows:
        row = dict(zip(names, values, strict=True))
        chip = load_chip("gemmini")
        for path in ("memory.accumulator.capacity", "memory.scratchpad.capacity"):
            chip = with_quantity(chip, path, row[path])
        assert sum(chip_area(chip).values()) == pytest.approx(3e-6, rel=1e-9)
        assert row["area"] == pytest.approx(3e-6, rel=1e-9)
        assert row["die"] == pytest.approx(3e-2, rel=1e-9)
        assert row["peak_power"] == pytest.approx(sum(peak_power(chip, FORMATS["int8"]).values()), rel=1e-9)
        one = analyze("bert-base", chip, phase="encode", prompt=64, precision="int8", level="ideal").estimate
        assert row["time"] == pytest.approx(one.time, rel=1e-9)
        sizes.append(row["memory.scratchpad.capacity"])
    assert sizes[0] > sizes[1] > sizes[2] > 0


def test_a_power_and_a_formula_are_held(tmp_path: Path):
    text = CONSTANT.replace("[hold]\n", '[hold]\npeak_power = { at = "0.5 W", by = "cores.clock" }\n')
    found = explore(written(tmp_path, text), tmp_path / "both")
    for row in found.pareto:
        assert row["peak_power"] == pytest.approx(0.5, rel=1e-6)
        assert row["area"] == pytest.approx(3e-6, rel=1e-6)
    text = CONSTANT.replace('area = { at = "3 mm2"', "die = { at = 0.03")
    found = explore(written(tmp_path, text), tmp_path / "formula")
    assert all(row["die"] == pytest.approx(0.03, rel=1e-9) for row in found.pareto)
    held = [row["memory.scratchpad.capacity"] for row in found.pareto]
    assert held == pytest.approx(
        [row["memory.scratchpad.capacity"] for row in explore(written(tmp_path, CONSTANT), tmp_path / "area").pareto]
    )


def test_what_cannot_be_held(tmp_path: Path):
    with pytest.raises(InfeasibleError, match="meets all constraints"):  # an array alone has more
        explore(written(tmp_path, CONSTANT.replace("3 mm2", "0.01 mm2")), tmp_path / "small")
    for old, new, said in (
        ("area = {", "aera = {", r"hold\.aera.*did you mean.*area"),
        ('by = "memory.scratchpad.capacity"', 'by = "memory.scratchpad.capacty"', "capacty.*capacity"),
        ('by = "memory.scratchpad.capacity"', 'by = "memory.accumulator.capacity"', "varies already"),
        ('at = "3 mm2"', 'at = "3 mm"', "does not measure"),
        ('at = "3 mm2", ', "", "the quantity that gives way"),
        ('base = "gemmini"', 'base = ["dgx-h100"]', "unknown chip"),
    ):
        with pytest.raises(InputError, match=said):
            read_space(written(tmp_path, CONSTANT.replace(old, new, 1)))
    free = CONSTANT.replace('by = "memory.scratchpad.capacity"', 'by = "memory.dram.bandwidth"')
    with pytest.raises(InputError, match="does not depend on it"):
        explore(written(tmp_path, free), tmp_path / "free")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('plan = ["tp=4", "tp=2,dp=2"]', "", r"missing key `system\.plan`"),
        ('plan = ["tp=4", "tp=2,dp=2"]', 'plan = "tp=3"', "neither divide nor repeat"),
        ('plan = ["tp=4", "tp=2,dp=2"]', 'plan = "dp=4"', "multiple of 4"),
        ("tier.nvswitch.bandwidth", "tier.nvswitch.bandwith", r"bandwith.*bandwidth"),
        ("[chip]", '[chip]\nbase = "h100-sxm"', "a system has its chip"),
        ('base = ["dgx-h100", "dgx-h200"]', 'base = "dgx-h10"', "unknown system"),
    ],
)
def test_bad_systems(tmp_path: Path, old: str, new: str, said: str):
    assert old in SYSTEMS
    with pytest.raises(InputError, match=said):
        read_space(written(tmp_path, SYSTEMS.replace("LEVEL", "ideal").replace(old, new, 1)))


def test_secants():
    """A curve, at many points at once: q² = v has one root above 0 for each v, and none where v is out of reach."""
    quantity, possible = solved(Held(name="x", value=9.0, by="q"), 1.0, lambda q: q**2 * np.array([1.0, 4.0, 9.0]))
    np.testing.assert_allclose(quantity, [3.0, 1.5, 1.0], rtol=1e-9)
    assert possible.all()
    _, possible = solved(Held(name="x", value=-1.0, by="q"), 1.0, lambda q: q + 1.0)
    assert not possible
    whole, possible = solved(Held(name="x", value=9.9, by="cores.count"), 1.0, lambda q: 2.0 * q)
    assert (float(whole), bool(possible)) == (4.0, True)
