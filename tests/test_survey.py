"""The survey: every row with its sources, rules of normalisation by hand, ranks, the published example, designs, many chips."""

import csv
import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ridgeline import cli
from ridgeline.api import analyze, load_chip, load_model, load_precision, load_system
from ridgeline.api.scenarios import make_scenario
from ridgeline.api.survey import (
    STATIC,
    Workload,
    accelerators,
    compare_chips,
    find_process,
    services,
    spread_on,
    survey_accelerators,
    survey_rule,
    workloads,
)
from ridgeline.catalogue import references
from ridgeline.catalogue.published import design_frequencies, published_accelerators, service_figures
from ridgeline.catalogue.silicon import nodes
from ridgeline.errors import InfeasibleError, InputError
from ridgeline.report import survey_plots, survey_records, survey_scatter, survey_tables
from ridgeline.specs.chip import Chip, Cores, Host, Link, MatrixUnit, MemoryLevel, VectorUnit
from ridgeline.survey import normalise
from ridgeline.survey.at_node import chip_at
from ridgeline.survey.spread import is_near_memory, needs_spread, spread

CONFIDENCE = ("seen", "secondary", "recalled", "derived")


def row(name: str, node: float = 16e-9, **asked: Any) -> normalise.Normalised:
    return next(one for one in survey_accelerators(node, **asked).rows if one.accelerator.name == name)


# ---- the table --------------------------------------------------------------------------------------------------------------


def test_every_cell_has_a_source_and_a_confidence():
    known = references.entries()
    for name, cells in published_accelerators().items():
        for cell in cells:
            source = cell.source
            assert source.confidence in CONFIDENCE, (name, cell)
            assert source.key in known if source.confidence in ("seen", "secondary") else source.key is None, (name, cell)
            assert source.where if source.key else True, (name, cell)


def test_other_tables_cite_the_bibliography():
    known = references.entries()
    assert {source.key for _, source in design_frequencies().values()} <= known.keys()
    assert {one["source"] for one in service_figures()} <= known.keys()


NUMBER = re.compile(r"[0-9][0-9,]*\.?[0-9]*")


def test_the_table_says_what_the_facts_say(facts: Path):
    """Year, platform, node, GOP/s and GOP/s/W of all 52 rows; a figure is there if and only if the facts have one."""
    table = {one.name: one for one in accelerators()}
    with (facts / "reference" / "C_accelerators.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [one["name"] for one in rows] == list(table)
    assert len(rows) == 52
    for one in rows:
        mine = table[one["name"]]
        assert mine.value("year") == float(one["year"])
        assert mine.text("platform") == one["platform"]
        assert [round(node * 1e9, 6) for node in mine.nodes] == [float(part) for part in one["process_nm"].split("/") if part]
        for column, figure in (("GOPs", "performance"), ("GOPs_per_W", "efficiency"), ("GOPs_at_16nm", "performance at 16 nm")):
            printed = NUMBER.search(one[column])
            value = mine.value(figure)
            assert (value is None) == (printed is None), (one["name"], column)
            if printed is not None and value is not None:
                assert value == pytest.approx(float(printed[0].replace(",", "")) * 1e9, rel=1e-12)
            cell = mine.cell(figure)
            if cell is not None and "memory" in one[column]:
                assert cell.source.confidence == "recalled", (one["name"], column)
        assert bool(mine.gains("speed-up") or mine.gains("energy gain") or mine.gains("compute density gain")) == bool(
            one["speedup"] or one["energy_efficiency_gain"]
        )


def test_numbers_of_gains_are_those_of_the_facts(facts: Path):
    """Every number that stands as a gain is printed in the row's own texts."""
    table = {one.name: one for one in accelerators()}
    with (facts / "reference" / "C_accelerators.csv").open(encoding="utf-8", newline="") as file:
        for one in csv.DictReader(file):
            text = " ".join(one.values())
            printed = {float(number.replace(",", "").rstrip(".")) for number in NUMBER.findall(text)}
            for figure in ("speed-up", "energy gain"):
                for cell in table[one["name"]].gains(figure):
                    for value in (cell.low, cell.high):
                        assert value is None or value in printed or value == 1.15, (one["name"], value)


@pytest.mark.parametrize("node", [16e-9, 7e-9])
def test_no_row_is_dropped_silently(node: float):
    found = survey_accelerators(node)
    record = survey_records.survey_record(found)
    assert len(record["rows"]) == 52
    for one in record["rows"]:
        has_figure = one["performance"] or one["efficiency"]
        assert one["normalised"] is None or has_figure
        assert one["normalised"] is not None or one["reason"], one["name"]
        assert one["cells"]
    assert sum(one["normalised"] is not None for one in record["rows"]) == 19
    json.dumps(record, allow_nan=False)


# ---- rules, by hand ---------------------------------------------------------------------------------------------------------


def test_constant_field_and_post_dennard_by_hand():
    """NPE is published at 28 nm: S = 28 / 16 = 1.75, S³ = 5.359."""
    before = row("NPE").accelerator
    performance, efficiency = before.value("performance"), before.value("efficiency")
    assert performance is not None
    assert efficiency is not None
    old, new = row("NPE", rule="constant-field"), row("NPE", rule="post-dennard")
    assert old.performance == pytest.approx(1.75 * performance, rel=1e-12)
    assert old.efficiency == pytest.approx(1.75**3 * efficiency, rel=1e-12)
    assert new.performance == pytest.approx(1.75 * performance, rel=1e-12)
    assert new.efficiency == pytest.approx(1.75 * efficiency, rel=1e-12)


def test_the_equations_by_hand():
    """Sanger, 55 nm taken as 65 nm, at 1.1 V, to 16 nm at 0.85 V: the polynomials of delay as printed."""
    old = -53.3 * 1.1**3 + 230.4 * 1.1**2 - 333.9 * 1.1 + 178.6
    new = 24.8 * 0.85**2 - 47.52 * 0.85 + 28.87
    for found in (row("Sanger"), row("Sanger", rule="equations", voltages=(1.1, 0.85))):
        assert found.performance == pytest.approx(529e9 * old / new, rel=1e-9)
        assert any("taken as 65 nm" in note for note in found.notes)


def test_energy_by_hand():
    """TranCIM, 28 nm taken as 32 nm at 0.9 V, to 16 nm at 0.85 V."""
    old = 0.8367 * 0.9**2 - 0.4341 * 0.9 + 0.1701
    new = 0.2958 * 0.85**2 - 0.1241 * 0.85 + 0.03024
    assert row("TranCIM").efficiency == pytest.approx(20500e9 * old / new, rel=1e-9)


def test_frequencies_of_one_design():
    """MicroBlaze: 28 nm √(382 · 398) MHz, 16 nm √(682 · 650) MHz; nothing is said of energy, nor of what is no FPGA."""
    found = row("NPE", rule="fpga-frequency")
    assert found.performance == pytest.approx(135.14e9 * math.sqrt(682 * 650 / (382 * 398)), rel=1e-6)
    assert found.efficiency is None
    assert "nothing of energy" in (found.reason or "")
    assert row("A3", rule="fpga-frequency").reason == "the rule is of FPGAs"
    mixed = survey_accelerators(16e-9, fpga_rule="fpga-frequency")
    rules = {one.accelerator.name: one.rule for one in mixed.rows}
    assert (rules["NPE"], rules["A3"]) == ("fpga-frequency", "nominal")


def test_a_row_at_the_node_stays_as_it_is_published():
    for name in ("FTRANS", "ViA", "OBS zero-skip dataflow", "BETA", "Me-ViT"):
        found = row(name)
        assert found.performance == found.accelerator.value("performance") == found.accelerator.value("performance at 16 nm")
        assert found.rule == "as published"


def test_memory_interfaces_and_cells_are_not_scaled_with_logic():
    assert "banks of DRAM" in (row("TransPIM").reason or "")
    assert "memory cells" in (row("X-Former").reason or "")
    assert "40 and 16 nm" in (row("H3DAtten").reason or "")
    assert row("TransPIM").performance is None


def test_the_published_example():
    """372 000 to 363 647 GOP/s: but for taking both sizes as one node no stated rule comes within 6 %, few voltages within 1 %."""
    found = survey_accelerators(16e-9).example
    by_name = {one.rule: one for one in found}
    nominal = by_name["nominal, 14 nm high-performance to 16 nm high-performance"]
    old = -40.66 * 0.8**3 + 109.2 * 0.8**2 - 100.6 * 0.8 + 35.92
    new = 24.8 * 0.85**2 - 47.52 * 0.85 + 28.87
    assert nominal.value == pytest.approx(372e12 * old / new, rel=1e-9)
    assert by_name["constant-field, post-dennard"].value == pytest.approx(372e12 * 14 / 16, rel=1e-12)
    assert by_name["unchanged: both sizes taken as one node"].difference == pytest.approx(372000 / 363647 - 1.0, rel=1e-9)
    assert by_name["as much as the same area does"].value == pytest.approx(372e12 / 1.1, rel=0.01)  # the printed ratio of areas
    stated = [one for one in found if not one.rule.startswith(("equations", "unchanged"))]
    assert min(abs(one.difference) for one in stated) > 0.06
    families = re.compile(r"equations, 14 nm (\S+) at (\S+) V to 16 nm (\S+) at (\S+) V")
    equal = [one for one in found if (got := families.match(one.rule)) and got[1] == got[3] and got[2] == got[4]]
    assert min(abs(one.difference) for one in equal) > 0.25  # one family of transistors at one voltage
    near = [one for one in found if abs(one.difference) < 0.01]
    assert 1 <= len(near) <= 10
    assert all(one.rule.startswith("equations") for one in near)
    assert {node.name for node in nodes() if node.name.split()[0] in ("14", "16")} >= {
        one.rule.split(" at ")[0][11:] for one in near
    }


# ---- ranks ------------------------------------------------------------------------------------------------------------------


def test_ranks_are_by_one_measure():
    found = survey_accelerators(16e-9)
    for by, places in found.ranks.items():
        values = [place.value for place in places]
        assert values == sorted(values, reverse=True)
        assert [place.rank for place in places] == list(range(1, len(places) + 1))
        assert {place.name for place in places} == {one.accelerator.name for one in found.rows if getattr(one, by) is not None}


def test_speed_ups_rank_only_against_one_named_machine():
    places = survey_accelerators(16e-9, rank="speed-up", baseline="V100").ranks["speed-up"]
    assert [place.name for place in places[:2]] == ["ViA", "MHA+FFN accelerator (Lu et al.)"]
    assert {place.against for place in places} == {"V100"}


def test_a_part_of_a_design_is_no_baseline():
    """TransPIM's 10.8 times are those of its reduction units, which the survey prints as against an RTX 2080Ti: ranked is 22.1."""
    places = survey_accelerators(16e-9, rank="speed-up", baseline="RTX 2080Ti").ranks["speed-up"]
    assert ("TransPIM", 22.1) in {(place.name, place.value) for place in places}
    with pytest.raises(InputError, match="names no machine"):
        survey_accelerators(16e-9, rank="speed-up", baseline="itself without reduction units")


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "a node that is none": ({"node": "17 nm"}, "17 nm is no process node: accepted are 180"),
    "a node outside the range": ({"node": 250e-9}, "250 nm is no process node"),
    "a node that is no length": ({"node": "7 kg"}, "node '7 kg'"),
    "a rule that is none": ({"rule": "dennard"}, "rule 'dennard'"),
    "equations without a voltage": ({"rule": "equations", "voltages": (0.9, None)}, "the target voltage is missing"),
    "equations without voltages": ({"rule": "equations"}, "the source voltage is missing"),
    "a voltage outside the node": ({"rule": "equations", "voltages": (0.9, 1.4)}, "1.4 V at 16 nm"),
    "voltages for another rule": ({"rule": "nominal", "voltages": (0.9, 0.9)}, "takes no voltages"),
    "no frequency at the node": (
        {"node": 10e-9, "rule": "fpga-frequency"},
        "no frequency is known at 10 nm: known are 28, 20, 16, 7",
    ),
    "two measures": ({"rank": "performance,efficiency"}, "performance in OP/s and efficiency in OP/J cannot be in one ranking"),
    "a measure that is none": ({"rank": "beauty"}, "ranked by 'beauty'"),
    "speed-ups without a baseline": ({"rank": "speed-up"}, "against different baselines"),
    "a baseline that names nothing": ({"rank": "speed-up", "baseline": "GPU"}, "names no machine"),
    "a baseline that nobody took": ({"rank": "speed-up", "baseline": "V101"}, "V100"),
    "a baseline for a figure": ({"rank": "performance", "baseline": "V100"}, "of speed-ups only"),
    "a row without a node": (
        {"rank": "performance", "only": ["ReTransformer"]},
        "ReTransformer cannot be ranked by performance: no process",
    ),
    "a row that is none": ({"only": ["Spatten"]}, "accelerator 'Spatten' is not in the survey"),
    "a row with another baseline": ({"rank": "speed-up", "baseline": "V100", "only": ["SALO"]}, "it was compared with GTX 1080Ti"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence(case: str):
    asked, said = BAD[case]
    asked = dict(asked)
    with pytest.raises(InputError, match=re.escape(said)) as caught:
        survey_accelerators(asked.pop("node", 16e-9), **asked)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("X,performance,4,,GOP/s/W,,,,,,", "unit 'GOP/s/W' does not measure FLOP/s"),
        ("X,efficiency,4,,GOP/s,,,,,,", "unit 'GOP/s' does not measure FLOP/J"),
        ("X,node,4,,GOP/s,,,,,,", "does not measure m"),
        ("X,node,,,nm,,,,,,", "`low` of X is empty"),
        ("X,colour,4,,,,,,,,", "`figure` 'colour' of X"),
        (",node,4,,nm,,,,,,", "`accelerator` is empty"),
        ("X,performance,many,,GOP/s,,,,,,", "line 2"),
    ],
)
def test_a_table_of_ones_own_is_read_with_its_units(tmp_path: Path, line: str, said: str):
    path = tmp_path / "own.csv"
    head = "accelerator,figure,low,high,unit,against,text,source,where,confidence,note"
    path.write_text(f"{head}\n{line}\n")
    with pytest.raises(InputError, match=re.escape(said)):
        survey_accelerators(16e-9, table=path)
    with pytest.raises(InputError, match="cannot be read"):
        survey_accelerators(16e-9, table=tmp_path / "none.csv")


# ---- a design in the table, and chips at a node -----------------------------------------------------------------------------


def test_a_design_of_ones_own_is_computed_as_analyze_does(root: Path):
    path = str(root / "src/ridgeline/catalogue/chips/nvdla-like.toml")
    found = survey_accelerators(7e-9, designs=[path])
    assert len(found.rows) == 53
    mine = found.rows[-1]
    by_hand = analyze("bert-base", path, phase="encode", prompt=128).estimate
    assert mine.accelerator.modelled
    assert mine.accelerator.value("performance") == pytest.approx(by_hand.flops / by_hand.time, rel=1e-12)
    assert mine.accelerator.value("efficiency") == pytest.approx(by_hand.flops / by_hand.energy, rel=1e-12)
    assert mine.performance is not None
    assert mine.performance > 0.0
    assert mine.accelerator.name in {place.name for place in found.ranks["performance"]}


def test_only_logic_moves_to_another_node():
    chip = load_chip("h100-sxm")
    rule = survey_rule(16e-9, "constant-field")
    moved, notes = chip_at(chip, rule)
    assert chip.package.node is not None
    ratio = chip.package.node / 16e-9
    assert moved.matrix_unit.rate["bf16"] == pytest.approx(chip.matrix_unit.rate["bf16"] * ratio, rel=1e-12)
    assert moved.level("l2").bandwidth == pytest.approx((chip.level("l2").bandwidth or 0.0) * ratio, rel=1e-12)
    assert moved.level("l2").capacity == chip.level("l2").capacity
    assert moved.main_memory == chip.main_memory
    assert moved.link == chip.link
    assert moved.overhead == chip.overhead
    assert moved.host == chip.host
    assert moved.matrix_unit.energy["bf16"] == pytest.approx(chip.matrix_unit.energy["bf16"] / ratio**3, rel=1e-12)
    assert any("DRAM" in note for note in notes)


def test_a_move_to_its_own_node_changes_nothing():
    chip = load_chip("v100-sxm2-32gb")  # 12 nm is taken as 16 nm
    moved, _ = chip_at(chip, survey_rule(16e-9))
    assert moved.matrix_unit.rate == pytest.approx(dict(chip.matrix_unit.rate), rel=1e-12)
    assert analyze("gpt2", moved).estimate.time == pytest.approx(analyze("gpt2", chip).estimate.time, rel=1e-12)


def test_memory_bound_work_hardly_moves_with_the_node():
    """As a bound not at all; kernels, whose tiles pad a single row, lose some of the clock's time in decode and more in prefill."""
    ratio: dict[tuple[str, str | None], float] = {}
    for level in ("ideal", None):
        for phase in ("decode", "prefill"):
            (one,) = compare_chips(f"llama-3.1-8b-{phase}", 16e-9, chips=["a100-sxm-80gb"], level=level)
            assert one.moved is not None
            ratio[phase, level] = (one.moved.time or 0.0) / (one.time or 1.0)
    assert ratio["decode", "ideal"] == pytest.approx(1.0, rel=0.01)
    assert ratio["prefill", "ideal"] > 1.5
    assert ratio["decode", None] < ratio["prefill", None]


# ---- one model on every chip ------------------------------------------------------------------------------------------------


def test_the_comparison_is_analyze_on_every_chip():
    rows = compare_chips("gpt2", 16e-9)
    record = survey_records.comparison_record("rule", rows)
    assert len(record["rows"]) == len(rows) >= 80
    for one in record["rows"]:
        assert (one["time"] is not None) != (one["reason"] is not None), one["chip"]
        assert (one["normalised"] is not None) != (one["normalised_reason"] is not None), one["chip"]
        if one["time"] is not None:
            assert one["utilisation"] <= 1.0 + 1e-9, one["chip"]
            assert one["time_lower"] <= one["time"] * (1 + 1e-12)
            assert one["time"] <= one["time_upper"] * (1 + 1e-12)
            assert one["bound"]
    by_name = {one.chip: one for one in rows}
    for name in ("h100-sxm", "t4", "gemmini"):
        by_hand = analyze("gpt2", name, phase="decode", context=512).estimate
        assert by_name[name].level == by_hand.level == "mapped"
        mine, other = by_name[name].interval, by_hand.interval
        assert (mine is None) == (other is None)
        if mine is not None and other is not None:
            assert (mine.lower, mine.upper) == (other.lower, other.upper)
        assert by_name[name].time == pytest.approx(by_hand.time, rel=1e-12)
        assert by_name[name].bound == by_hand.bound
        assert by_name[name].energy_per_token == pytest.approx(by_hand.energy / by_hand.tokens, rel=1e-12)
    json.dumps(record, allow_nan=False)


def test_workloads_have_names():
    assert [one.name for one in workloads("all")] == [
        "bert-base-128",
        "bert-base-512",
        "gpt2-decode",
        "llama-3.1-8b-prefill",
        "llama-3.1-8b-decode",
    ]
    assert workloads("qwen3-8b")[0].model == "qwen3-8b"
    with pytest.raises(InputError, match="unknown model 'nothing'"):
        compare_chips("nothing", chips=["h100-sxm"])


# ---- many chips, hosts, wafers ----------------------------------------------------------------------------------------------


def machine(**changed: Any) -> Chip:
    """A chip of round numbers: 1 GB of SRAM at 1 TB/s, 100 TFLOP/s."""
    plain = Chip(
        name="round",
        cores=Cores(count=1, clock=1e9),
        matrix_unit=MatrixUnit(rate={"bf16": 100e12}),
        vector_unit=VectorUnit(rate={"fp32": 100e12}),
        memory=(MemoryLevel(name="sram", role="buffer", capacity=1e9, bandwidth=1e12),),
    )
    return replace(plain, **changed)


def of(chip: Chip, **given: Any) -> Any:
    model = load_model("gpt2-xl")
    scenario, _ = make_scenario(model, "decode", {"context": 512, **given})
    return spread(chip, model, scenario, load_precision("bf16", model))


def test_as_many_chips_as_hold_the_model():
    """GPT-2 XL at 16 bits with its cache is 3.27 GB: four chips of 1 GB, one after another at one chip's bandwidth."""
    found = of(machine())
    assert found.serial.chips == 4
    assert found.serial.tensor == 1
    assert found.serial.time == pytest.approx(3.27e9 / 1e12, rel=0.02)
    assert any("no links" in note for note in found.notes)


def test_links_split_the_work_and_join_the_results():
    """Two all-reduces a layer of 1600 values of 2 bytes over 48 layers, a hop of 1 µs: the split in four by hand."""
    link = Link(name="l", bandwidth=100e9, latency=1e-6)
    plain, found = of(machine()), of(machine(link=(link,)))
    assert found.serial.time == pytest.approx(plain.serial.time + 3 * (1e-6 + 3200 / 100e9), rel=1e-9)
    assert found.fastest.tensor == 4
    joined = 2 * 48 * (1e-6 + 3 * 3200 / 100e9)
    assert found.fastest.time == pytest.approx(plain.serial.time / 4 + joined, rel=1e-9)
    assert found.fastest.time < found.serial.time


def test_weights_enter_an_array_no_faster_than_its_file_says():
    slow = machine(matrix_unit=MatrixUnit(rate={"bf16": 100e12}, network={"weights": 0.5e12}))
    assert needs_spread(slow)
    assert of(slow).serial.bound == "weights into the array"
    assert of(slow).serial.time == pytest.approx(2 * of(machine()).serial.time, rel=0.01)


def near_memory(bandwidth: float = 10e9) -> Chip:
    memory = (MemoryLevel(name="dram", role="dram", capacity=8e9, bandwidth=1e12),)
    unit = MatrixUnit(kind="in-memory", rate={"bf16": 1e12}, attached_to="dram")
    return machine(memory=memory, matrix_unit=unit, host=Host(bandwidth=bandwidth))


def test_what_crosses_to_a_host_is_charged():
    """Half the external bandwidth takes twice the crossing, and nothing else changes; scores are among what crosses."""
    chip = near_memory()
    assert is_near_memory(chip)
    fast, slow, long = of(chip), of(near_memory(5e9)), of(chip, context=1024)
    assert slow.serial.parts["host"] == pytest.approx(2 * fast.serial.parts["host"], rel=1e-12)
    rest = {name: value for name, value in fast.serial.parts.items() if name != "host"}
    assert {name: slow.serial.parts[name] for name in rest} == rest
    more = (long.serial.parts["host"] - fast.serial.parts["host"]) * 10e9
    assert more == pytest.approx(48 * 25 * 512 * 2 * 2, rel=1e-9)  # scores of 512 more tokens, out and back in, at 16 bits


def test_operands_cross_a_wafer_by_its_mesh():
    """A square of 10⁴ cores at 1 GHz: 200 hops a step.

    A layer of GPT-2 has nine steps that wait for one another: two norms, query-key-value, scores, softmax, values, output, and
    the two of the feed-forward part; at the end a norm and the head.
    """
    wafer = replace(machine(kind="wafer"), cores=Cores(count=10_000, clock=1e9))
    whole = of(wafer).serial.parts
    assert whole["paths over the wafer"] == pytest.approx((48 * 9 + 2) * 200e-9, rel=1e-9)
    assert sum(whole.values()) - whole["paths over the wafer"] == pytest.approx(of(machine()).serial.time, rel=1e-9)


def test_published_services_beside_the_machines():
    """One stream serial over the chips that hold the model: within a factor of two but for the 70B model, whose split is unknown.

    Groq's 70B rate lies between one chip after another and the fastest split.
    """
    rows = {(one.model, one.chip): one for one in services()}
    assert {chip for model, chip in rows if model == "llama-2-70b"} == set(STATIC)
    ratio = {pair: one.ratio(one.spread.serial) for pair, one in rows.items() if one.published is not None}
    assert ratio["llama-2-7b", "groq-lpu-v1"] == pytest.approx(1.0, abs=0.25)
    assert ratio["llama-3.1-8b", "cerebras-wse-3"] == pytest.approx(1.0, abs=0.25)
    assert 1.0 < (ratio["llama-3.1-70b", "cerebras-wse-3"] or 0.0) < 2.0
    # two rates of a research system on one and on four WSE-2, and one of the service on nineteen WSE-3, known afterwards
    assert ratio["llama-3-8b", "cerebras-wse-2"] == pytest.approx(0.76, abs=0.03)
    assert ratio["qwen2-72b", "cerebras-wse-2"] == pytest.approx(0.97, abs=0.03)
    assert ratio["llama-3.1-405b", "cerebras-wse-3"] == pytest.approx(0.51, abs=0.03)
    large = rows["llama-2-70b", "groq-lpu-v1"]
    assert (large.ratio(large.spread.serial) or 0.0) < 1.0 < (large.ratio(large.spread.fastest) or 0.0)
    for pair in (("llama-2-7b", "hbm-pim"), ("llama-2-70b", "upmem-20dimm")):
        assert rows[pair].published is None
        assert "none is published" in rows[pair].note
        assert rows[pair].spread.serial.parts["host"] > 0.0
    json.dumps(survey_records.services_record(tuple(rows.values())), allow_nan=False)


def test_decode_in_memory_is_bound_inside_or_by_the_host():
    """HBM-PIM: 13.5 GB of weights need seven stacks, whose four dies with units hold 2 GB; 13.3 GB over 7 · 1.229 TB/s: 1.5 ms."""
    _, found = spread_on("hbm-pim", Workload(name="x", model="llama-2-7b", phase="decode", given={"context": 1}))
    assert found.serial.chips == 7
    assert found.serial.time == pytest.approx(13.3e9 / (7 * 1.229e12), rel=0.05)


SYSTEMS = {
    "groq-racks": ("groq-lpu-v1", 10440),
    "cerebras-cs2-swarm": ("cerebras-wse-2", 64),
    "cerebras-cs3-swarm": ("cerebras-wse-3", 64),
}


@pytest.mark.parametrize("name", SYSTEMS)
def test_static_machines_come_as_systems(name: str):
    """What does not fit one chip says how many would hold it, and runs under a plan of so many."""
    chip, size = SYSTEMS[name]
    system = load_system(name)
    assert (system.chip.name, system.chips) == (chip, size)
    with pytest.raises(InfeasibleError, match=r"does not fit.*[0-9]+ chips would hold it"):
        analyze("llama-2-70b", chip, phase="decode", context=2048)
    plan = "tp=16,pp=80" if chip == "groq-lpu-v1" else "pp=4"
    found = analyze("llama-2-70b", name, plan=plan, phase="decode", context=2048)
    assert found.estimate.capacity is not None
    assert found.estimate.capacity.fits


# ---- the command ------------------------------------------------------------------------------------------------------------


def run(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ridgeline", *arguments]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, env={"PYTHONPATH": "src", "PATH": ""})


def test_the_command_prints_one_object(root: Path):
    done = run(root, "survey", "--node", "7", "--with", "nvdla-like", "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert len(record["rows"]) == 53
    assert "nominal to 7 nm" in record["rule"]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["--rank", "performance,efficiency"], "cannot be in one ranking"),
        (["--services", "--plot", "a.png"], "--plot: not of --services"),
        (["--workload", "bert-base", "--rank", "efficiency"], "--rank: not of --workload"),
        (["--level", "ideal"], "give --workload too"),
        (["--workload", "bert-base", "--level", "mapped"], "level 'mapped'"),
        (["--with", "no-such-chip.toml"], "no-such-chip.toml"),
        (["--node", "250"], "250 nm is no process node"),
    ],
)
def test_what_a_form_of_the_command_would_not_heed_is_refused(
    asked: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sys, "argv", ["ridgeline", "survey", *asked])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    lines = [line for line in capsys.readouterr().err.strip().splitlines() if line.startswith("ridgeline")]
    assert len(lines) == 1
    assert said in lines[0]


def test_tables_and_pictures(tmp_path: Path):
    from rich.console import Console

    found = survey_accelerators(16e-9, designs=["gemmini"])
    rows = compare_chips("bert-base-128", chips=["h100-sxm", "gemmini", "hbm-pim", "groq-lpu-v1"])
    console = Console(width=200, record=True, file=(tmp_path / "out").open("w", encoding="utf-8"))
    console.print(survey_tables.survey_tables(found), survey_tables.comparison_tables("rule", rows))
    console.print(survey_tables.services_table(services(["llama-2-7b"])))
    text = console.export_text()
    console.file.close()
    for said in ("TransPIM", "banks of DRAM", "363,071", "H3DAtten", "paths over the wafer"):
        assert said in text
    pictures = (survey_plots.survey_picture(found), "TranCIM"), (survey_plots.comparison_picture("rule", rows), "groq-lpu-v1")
    for picture, said in pictures:
        survey_scatter.write_scatter(picture, tmp_path / "a.html")
        assert said in (tmp_path / "a.html").read_text()
    left, right = survey_plots.survey_picture(found).panels
    published, moved = ({spot.name for spot in panel.spots} for panel in (left, right))
    assert moved < published
    assert published - moved == {"ReTransformer", "X-Former", "H3DAtten", "HARDSEA"}
    with pytest.raises(InputError, match="a plot ends in"):
        survey_scatter.write_scatter(pictures[0][0], tmp_path / "a.pdf")


def test_processes_are_found_with_the_reason():
    assert find_process(28e-9)[0].name == "32 nm high-performance"
    assert "taken as" in find_process(28e-9)[1]
    assert find_process(16e-9)[1] == ""
