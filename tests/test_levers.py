"""Levers: each equals `analyze` with the change made by hand, bytes answer where memory binds, and compute where it does."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from ridgeline.api import analyze, load_chip, load_model
from ridgeline.api.levers import Effect, Levers, analysis_of, known_levers, levers
from ridgeline.costs.components import chip_area, chip_coefficients, element_area, mac_area
from ridgeline.costs.ideal import Machine
from ridgeline.errors import InfeasibleError, InputError
from ridgeline.report import survey_plots, survey_records, survey_tables
from ridgeline.specs.chip import Chip, MemoryLevel
from ridgeline.specs.model import Model
from ridgeline.specs.number_format import FORMATS
from ridgeline.specs.precision import Precision
from ridgeline.survey.levers import INTERFACE_AREA, Case, on_chip, weighed

CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "decode": ("llama-3.1-8b", "h100-sxm", {"phase": "decode", "batch": 8, "context": 4096}),
    "prefill": ("llama-3.1-8b", "h100-sxm", {"phase": "prefill", "batch": 4, "prompt": 2048}),
    "array": ("bert-base", "nvdla-like", {"phase": "encode", "prompt": 128}),
    "decode at ideal": ("llama-3.1-8b", "h100-sxm", {"phase": "decode", "batch": 8, "context": 4096, "level": "ideal"}),
    "prefill at ideal": ("llama-3.1-8b", "h100-sxm", {"phase": "prefill", "batch": 4, "prompt": 2048, "level": "ideal"}),
}
LEVELS = {"decode": "mapped", "prefill": "mapped", "array": "mapped", "decode at ideal": "ideal", "prefill at ideal": "ideal"}


@cache
def pulled(case: str) -> Levers:
    model, chip, given = CASES[case]
    return levers(model, chip, **given)


def effect(case: str, name: str) -> Effect:
    return next(one for one in pulled(case).effects if one.name == name)


def transformer(case: str) -> Model:
    model = load_model(CASES[case][0])
    assert isinstance(model, Model)
    return model


def by_hand(case: str, *, model: Any = None, chip: Any = None, precision: Any = None, **changed: Any) -> Any:
    name, machine, given = CASES[case]
    """What `analyze` says of the case, at the level that it takes by itself where the case asks for none."""
    found = analyze(model or name, load_chip(chip or machine), precision=precision, **{**given, **changed}).estimate
    assert found.level == LEVELS[case]
    return found


def same(found: Effect, estimate: Any) -> None:
    assert found.result is not None, found.reason
    assert found.result.time == pytest.approx(float(estimate.time), rel=1e-12)
    assert found.result.energy == pytest.approx(float(estimate.energy), rel=1e-12)
    assert found.result.capacity == pytest.approx(float(estimate.capacity.in_main), rel=1e-12)
    assert found.result.bytes == pytest.approx(sum(float(row.bytes * row.count) for row in estimate.operations), rel=1e-12)
    mine, other = found.result.interval, estimate.interval
    assert (None if mine is None else (mine.lower, mine.upper)) == (None if other is None else (other.lower, other.upper))


# ---- each lever by hand -----------------------------------------------------------------------------------------------------

PRECISIONS = {
    "weights int8": "w:int8,a:bf16,kv:bf16",
    "weights int4": "w:int4,a:bf16,kv:bf16",
    "weights ternary": "w:ternary,a:bf16,kv:bf16",
    "KV cache int8": "w:bf16,a:bf16,kv:int8",
    "KV cache int4": "w:bf16,a:bf16,kv:int4",
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", PRECISIONS)
def test_a_precision_by_hand(case: str, name: str):
    same(effect(case, name), by_hand(case, precision=PRECISIONS[name]))


def test_eight_bits_by_hand():
    same(effect("prefill", "weights and activations fp8-e4m3"), by_hand("prefill", precision="w:fp8,a:fp8,kv:bf16"))
    same(effect("array", "weights and activations int8"), by_hand("array", precision="w:int8,a:int8,kv:bf16"))
    same(effect("prefill", "activations fp8-e4m3"), by_hand("prefill", precision="w:bf16,a:fp8,kv:bf16"))


@pytest.mark.parametrize("case", CASES)
def test_a_larger_batch_by_hand(case: str):
    same(effect(case, "batch × 8"), by_hand(case, batch=8 * CASES[case][2].get("batch", 1)))


@pytest.mark.parametrize("case", CASES)
def test_half_the_layers_by_hand(case: str):
    model = transformer(case)
    half = tuple(replace(one, count=one.count // 2) for one in model.decoder or model.encoder)
    smaller = replace(model, **{"decoder" if model.decoder else "encoder": half})
    same(effect(case, "half the layers"), by_hand(case, model=smaller))


@pytest.mark.parametrize("case", CASES)
def test_fewer_neurons_by_hand(case: str):
    model = transformer(case)
    thin = []
    for one in model.decoder or model.encoder:
        assert one.feed_forward is not None
        thin.append(replace(one, feed_forward=replace(one.feed_forward, width=round(0.7 * one.feed_forward.width))))
    smaller = replace(model, **{"decoder" if model.decoder else "encoder": tuple(thin)})
    same(effect(case, "30% of the neurons removed"), by_hand(case, model=smaller))


def with_level(chip: Chip, name: str, **changed: Any) -> Chip:
    return replace(chip, memory=tuple(replace(one, **changed) if one.name == name else one for one in chip.memory))


def test_a_bigger_scratchpad_by_hand():
    chip = load_chip("nvdla-like")
    level = chip.level("scratchpad")
    assert level.capacity is not None
    same(effect("array", "scratchpad × 4"), by_hand("array", chip=with_level(chip, "scratchpad", capacity=4 * level.capacity)))
    assert getattr(on_chip(load_chip("gemmini-ibert")), "name", "") == "scratchpad"  # and not its larger accumulator
    gpu = load_chip("h100-sxm")
    larger = with_level(gpu, "l2", capacity=4 * (gpu.level("l2").capacity or 0.0))
    same(effect("prefill", "l2 × 4"), by_hand("prefill", chip=larger))


def test_transfers_by_hand():
    """An array's transfers made synchronous, or issued by its cores, in its file; elsewhere nothing overlaps: the upper bound."""
    chip = load_chip("nvdla-like")
    slow = replace(chip, transfer=replace(chip.transfer, asynchronous=False))
    same(effect("array", "without asynchronous transfers"), by_hand("array", chip=slow))
    cores = replace(chip, transfer=replace(chip.transfer, engine="cores", issue=2e-9))  # two instructions at 1 GHz a request
    same(effect("array", "without a DMA unit"), by_hand("array", chip=cores))
    for case in ("decode", "decode at ideal"):
        found = effect(case, "without asynchronous transfers").result
        assert found is not None
        assert found.time == pytest.approx(float(by_hand(case).time_upper), rel=1e-12)


POOR: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "a DMA unit": ({"engine": "cores", "issue": 2e-9}, {"engine": "dma"}),
    "asynchronous transfers": ({"asynchronous": False}, {"asynchronous": True}),
}


@pytest.mark.parametrize("name", POOR)
def test_a_dma_unit_and_overlap_are_levers_where_a_file_has_none(name: str):
    chip, (lacks, gets) = load_chip("nvdla-like"), POOR[name]
    poor = replace(chip, transfer=replace(chip.transfer, **lacks))
    lever = next(one for one in known_levers(case_of("vit-b-16", poor)) if one.name == name)
    assert not lever.takes_away
    assert lever.change is not None
    changed = lever.change(case_of("vit-b-16", poor))
    assert {field: getattr(changed.chip.transfer, field) for field in gets} == gets
    assert float(analysis_of(changed).estimate.time) < float(analyze("vit-b-16", poor).estimate.time)


def case_of(model: str, chip: Chip) -> Case:
    return Case(model=load_model(model), chip=chip, precision=Precision.parse("int8"), phase="encode", level="mapped")


def test_fusion_by_hand():
    """An array's kernels apart by `--fusion none`; on many cores by a stack that joins nothing; at ideal every tensor crosses."""
    same(effect("array", "without fusion"), by_hand("array", fusion="none"))
    chip = load_chip("h100-sxm")
    assert chip.stack is not None
    apart = replace(chip, stack=replace(chip.stack, joins_inputs=False, joins_vectors=False))
    for case in ("decode", "prefill"):
        found = effect(case, "without fusion (attention stays one kernel)")
        same(found, by_hand(case, chip=apart))
        assert (found.time or 0.0) > 1.0
    taken = effect("prefill at ideal", "without fusion")
    assert taken.time is not None
    assert taken.time > 1.1  # scores that cross the main memory


def test_area_for_bandwidth_by_hand():
    chip = load_chip("h100-sxm")
    freed = 0.5 * float(chip_area(chip)["matrix unit"])
    main = chip.main_memory
    assert main.bandwidth is not None
    half = replace(chip.matrix_unit, rate={name: 0.5 * value for name, value in chip.matrix_unit.rate.items()})
    changed = replace(with_level(chip, main.name, bandwidth=main.bandwidth + freed / INTERFACE_AREA["HBM"]), matrix_unit=half)
    for case in ("decode", "prefill"):
        found = effect(case, "half the peak for bandwidth, same area").result
        assert found is not None
        assert found.time == pytest.approx(float(by_hand(case, chip=changed).time), rel=1e-12)
    assert (effect("decode", "half the peak for bandwidth, same area").time or 2.0) < 1.0
    assert (effect("prefill", "half the peak for bandwidth, same area").time or 0.0) > 1.0


def test_adders_for_multipliers_by_hand():
    """A ternary weight selects an activation, its negative or nothing: elements without multipliers, more of them on the area."""
    chip = load_chip("nvdla-like")
    at, form = chip_coefficients(chip), FORMATS["int8"]
    assert at is not None
    whole = element_area(chip, form, at)
    smaller = whole - mac_area(form, at).multiply + 8 * at.multiplexer_area + 2 * at.register_area
    assert 1.0 < whole / smaller < 4.0
    unit = replace(chip.matrix_unit, rate={**chip.matrix_unit.rate, "int8": chip.matrix_unit.rate["int8"] * whole / smaller})
    estimate = by_hand("array", chip=replace(chip, matrix_unit=unit), precision="w:ternary,a:int8,kv:bf16")
    found = effect("array", "ternary weights, adders for multipliers").result
    assert found is not None
    assert found.time == pytest.approx(float(estimate.time), rel=1e-12)


def sparse(precision: Precision) -> Precision:
    """0.2 · 16 bits of what remains, and one that says whether a weight does: 4.2 bits a weight."""
    form = replace(precision.weights, bits=0.2 * 16 + 1.0)
    return replace(precision, weights=form, head_weights=form, expert_weights=form, embedding_weights=FORMATS["bf16"])


def test_zeros_by_hand():
    """Hardware that cannot use them gains nothing; stored without them, 4.2 of 16 bits cross; multiplied without them, 0.2."""
    for case in ("decode", "prefill"):
        none = effect(case, "80% of the weights zero, hardware that cannot use it")
        assert (none.time, none.energy, none.capacity) == (1.0, 1.0, 1.0)
        stored = by_hand(case, precision=sparse(Precision.parse("bf16")))
        same(effect(case, "80% of the weights zero, stored without them"), stored)
        chip = load_chip("h100-sxm")
        rate, energy = chip.matrix_unit.rate, chip.matrix_unit.energy  # what is skipped takes no power either
        rate, energy = (
            {name: value / (1.0 - 0.8) for name, value in rate.items()},
            {name: value * 0.2 for name, value in energy.items()},
        )
        unit = replace(chip.matrix_unit, rate=rate, energy=energy)
        fast = by_hand(case, precision=sparse(Precision.parse("bf16")), chip=replace(chip, matrix_unit=unit))
        time = sum(
            float((quick if slow.kind == "matmul" else slow).time * slow.count)
            for slow, quick in zip(stored.operations, fast.operations, strict=True)
        )
        found = effect(case, "80% of the weights zero, stored and multiplied without them").result
        assert found is not None
        assert found.time == pytest.approx(time, rel=1e-9)


@pytest.mark.parametrize("case", ["decode", "decode at ideal"])
def test_a_second_tier_by_hand(case: str):
    """A chip file with a tier of 500 GB/s and no room for the cache, under --plan offload=kv; attention waits for the tier."""
    found = effect(case, "KV cache in a second DRAM tier")
    base = by_hand(case)
    kept = float(base.capacity.weights + base.capacity.activations)
    tier = MemoryLevel(name="slow", role="further-tier", technology="LPDDR5X", capacity=480e9, bandwidth=500e9)
    chip = with_level(load_chip("h100-sxm"), "hbm", capacity=kept)
    estimate = by_hand(case, chip=replace(chip, memory=(*chip.memory, tier)), plan="offload=kv")
    same(found, estimate)
    assert found.result is not None
    cache = 8 * 4096 * 32 * 2 * 8 * 128 * 2.0
    attention = sum(float(row.time * row.count) for row in estimate.operations if row.kind == "attention")
    assert attention == pytest.approx(cache / 500e9, rel=1e-9)
    assert found.result.available == pytest.approx(80e9 + 480e9)
    assert found.result.capacity == pytest.approx(kept)
    assert found.capacity == pytest.approx(kept / float(base.capacity.needed))
    assert "keeps no KV cache" in (effect("array", "KV cache in a second DRAM tier").reason or "")


def test_a_second_tier_makes_room_for_a_batch_that_does_not_fit():
    """A T4's 16 GB do not hold the caches of 320 sequences of GPT-2 XL, 157 kB a token: with a tier they lie there."""
    case = Case(model=load_model("gpt2-xl"), chip=load_chip("t4"), precision=Precision.parse("fp16"), phase="decode")
    case = replace(case, level="mapped", given={"batch": 40, "context": 512})
    pulled = {one.name: one.change for one in known_levers(case)}
    larger, tier = pulled["batch × 8"], pulled["KV cache in a second DRAM tier"]
    assert larger is not None
    assert tier is not None
    with pytest.raises(InfeasibleError):
        analysis_of(larger(case))
    held = analysis_of(tier(larger(case))).estimate.capacity
    assert held is not None
    assert held.in_further == pytest.approx(320 * 512 * 48 * 2 * 1600 * 2.0)
    assert held.in_main < 16e9


def test_issue_by_the_cores_takes_time_where_compute_binds():
    decode, prefill = effect("decode", "without a DMA unit"), effect("prefill", "without a DMA unit")
    assert decode.time == pytest.approx(1.0, abs=0.01)
    assert prefill.time is not None
    assert prefill.time > 1.0


def test_issue_slots_on_many_cores_by_hand():
    """Two slots for each load of a value a lane, over the clocks of all cores, beside the arithmetic of a kernel."""
    chip = load_chip("h100-sxm")
    assert chip.cores is not None
    assert chip.cores.clock is not None
    burst = 4.0 * chip.vector_unit.rate["fp32"] / (2.0 * chip.cores.count * chip.cores.clock)  # as many as of packed fp16
    time = 0.0
    for row in by_hand("prefill").operations:
        issue = 2.0 * math.ceil(float(row.bytes) / burst) / (chip.cores.count * chip.cores.clock)
        time += float(row.count) * max(float(row.time), float(row.cost.time["compute"]) + issue)
    found = effect("prefill", "without a DMA unit").result
    assert found is not None
    assert found.time == pytest.approx(time, rel=1e-9)


def test_zeros_are_skipped_where_a_faster_unit_joins_other_kernels():
    """On Gemmini with integer functions the faster unit leaves a norm alone: rows are matched by name."""
    case = Case(model=load_model("bert-base"), chip=load_chip("gemmini-ibert"), precision=Precision.parse("int8"), phase="encode")
    case = replace(case, level="mapped", given={"prompt": 64})
    lever = next(one for one in known_levers(case) if "multiplied without" in one.name)
    assert lever.weigh is not None
    base = analysis_of(case)
    found = lever.weigh(case, base)
    assert 0.4 < found.time / float(base.estimate.time) < 0.7  # products of weights to a fifth of their compute, all else as before


def test_rows_weighed_anew_add_up_to_the_estimate():
    """Rows that nothing changed give back time and energy."""
    for case, (_, chip, _) in CASES.items():
        base = pulled(case).base
        machine = Machine.of(load_chip(chip), base.precision.accumulate)
        again = weighed(base.estimate, base.estimate.operations, machine, base.scenario.phase)
        assert again.time == pytest.approx(float(base.estimate.time), rel=1e-9), case
        assert base.estimate.energy is not None
        assert again.energy == pytest.approx(float(base.estimate.energy), rel=1e-9), case


# ---- what must answer -------------------------------------------------------------------------------------------------------


BYTES = (("weights int8", 0.5, 1.0), ("weights int4", 0.25, 1.0), ("KV cache int8", 1.0, 0.5), ("KV cache int4", 1.0, 0.25))


def test_memory_bound_decode_answers_as_bytes_say():
    """Weights and cache are all but a hundredth of the bytes: at peak rates time follows their sum."""
    base = by_hand("decode at ideal")
    weights, kv = float(base.capacity.weights), float(base.capacity.kv)
    table = 128256 * 4096 * 2.0  # of which a batch of 8 reads 8 rows
    for name, w, c in BYTES:
        expected = (w * (weights - table) + c * kv) / (weights - table + kv)
        for case in ("decode", "decode at ideal"):
            assert effect(case, name).bytes == pytest.approx(expected, rel=0.01), name
        assert effect("decode at ideal", name).time == pytest.approx(expected, rel=0.01), name


def test_mapped_decode_answers_as_bytes_say_but_for_the_starts_of_kernels():
    """What does not shrink with the bytes is at most the share of launches and fills, which the estimate gives as overhead."""
    base = by_hand("decode")
    share = sum(float(row.cost.time["overhead"] * row.count) for row in base.operations) / float(base.time)
    assert share < 0.2
    for name in ("weights int8", "KV cache int8"):
        one = effect("decode", name)
        assert one.time is not None
        assert one.bytes is not None
        assert one.bytes <= one.time <= one.bytes + share, name


def test_compute_bound_prefill_does_not_answer_to_what_it_stores():
    for name in PRECISIONS:
        assert effect("prefill at ideal", name).time == pytest.approx(1.0, abs=0.005), name
        # at level mapped some kernels are not of products, and products near the power limit run faster on fewer bytes
        assert (effect("prefill", name).time or 0.0) > 0.8, name
    assert effect("prefill at ideal", "weights and activations fp8-e4m3").time == pytest.approx(0.52, abs=0.03)
    assert (effect("prefill", "weights and activations fp8-e4m3").time or 1.0) < 0.75


def test_batch_pays_in_decode_alone():
    assert (effect("decode", "batch × 8").time or 1.0) < 0.5
    assert effect("prefill", "batch × 8").time == pytest.approx(1.0, abs=0.03)


# ---- pairs, reasons, bad input ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["decode", "prefill", "array"])
def test_the_best_pair_is_no_worse_than_the_best_lever(case: str):
    found = pulled(case)
    assert found.best_pair is not None
    assert found.best_pair.time is not None
    assert found.best_pair.time <= min(one.time for one in found.effects if one.time is not None) + 1e-12


def test_the_best_pair_by_hand():
    """Of decode: half of the layers for eight times as many sequences."""
    best = pulled("decode").best_pair
    assert best is not None
    assert best.name == "half the layers + batch × 8"
    model = transformer("decode")
    smaller = replace(model, decoder=tuple(replace(one, count=one.count // 2) for one in model.decoder))
    same(best, by_hand("decode", model=smaller, batch=64))


def test_a_lever_that_cannot_be_pulled_says_why():
    found = {one.name: one for one in levers("gpt2", "gddr6-aim", context=512).effects}
    assert "node" in (found["ternary weights, adders for multipliers"].reason or "")
    assert "node" in (found["half the peak for bandwidth, same area"].reason or "")
    assert all((one.result is None) == (one.reason is not None) for one in found.values())


def test_bad_input():
    with pytest.raises(InputError, match="levers take one scenario: batch"):
        levers("gpt2", "h100-sxm", batch=[1, 2])
    with pytest.raises(InputError, match="level 'mapped' is not available for cerebras-wse-3"):
        levers("gpt2", "cerebras-wse-3", level="mapped")
    with pytest.raises(InputError, match="unknown chip"):
        levers("gpt2", "h1000")
    with pytest.raises(InfeasibleError, match="does not fit"):
        levers("llama-3.1-70b", "t4")


# ---- the command ------------------------------------------------------------------------------------------------------------


def test_the_command(root: Path, tmp_path: Path):
    base = [sys.executable, "-m", "ridgeline", "levers", "llama-3.1-8b", "h100-sxm", "--context", "4096"]
    picture = tmp_path / "tornado.html"
    environment = {"PYTHONPATH": "src", "PATH": ""}
    command = [*base, "--json", "--plot", str(picture)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True, env=environment)
    record = json.loads(done.stdout)
    assert {"name", "time", "energy", "capacity"} <= record["levers"][0].keys()
    assert len(record["levers"]) >= 20
    assert record["best_pair"]["time_ratio"] < 1.0
    assert "KV cache int8" in picture.read_text()
    bad = subprocess.run([*base, "--residency", "tepid"], cwd=root, capture_output=True, text=True, check=False, env=environment)
    assert bad.returncode == 2
    assert len(bad.stderr.strip().splitlines()) == 1


def test_tables_and_tornado(tmp_path: Path):
    from rich.console import Console

    found = pulled("array")
    console = Console(width=200, record=True, file=(tmp_path / "out").open("w", encoding="utf-8"))
    console.print(survey_tables.levers_tables(found))
    text = console.export_text()
    console.file.close()
    assert "best pair" in text
    assert "level mapped" in text
    with pytest.raises(InputError, match="a plot ends in"):
        survey_plots.write_tornado(found, tmp_path / "a.pdf")
    json.dumps(survey_records.levers_record(found), allow_nan=False)
