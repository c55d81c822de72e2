"""Micro-benchmarks of a machine: quiet samples, levels from knees, constants from rows, the files, and what is refused."""

import csv
import importlib
import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ridgeline import cli
from ridgeline.api.analysis import analyze
from ridgeline.api.measure import Measurement, measure
from ridgeline.api.validation import validate
from ridgeline.catalogue import load
from ridgeline.errors import InputError
from ridgeline.report import measure_tables
from ridgeline.specs.chip import Chip
from ridgeline.validation.measure import chip_file, fit, run, timing, torch_device, work
from ridgeline.validation.measure.levels import Point, SystemCache, knee, levels, plateaus, system_caches
from ridgeline.validation.measure.rows import Measured, Stamp, as_rows
from ridgeline.validation.measure.timing import Call, Sample, Timing
from ridgeline.validation.measure.work import QUICK, Attention, Collective, Machine, Product, Vector, WholeModel, Work

CACHES = (SystemCache(1, 32.0 * 2**10, 1), SystemCache(2, 2.0**20, 1), SystemCache(3, 32.0 * 2**20, 2))
MACHINE = Machine(
    title='Some "CPU"',
    vendor="AMD",
    kind="cpu",
    family="measured-cpu",
    cores=2.0,
    clock=2.6e9,
    memory=25e9,
    memory_kind="ddr",
    caches=CACHES,
    software="pytorch-2.13.0+cpu",
)
L1, L2, L3, DDR = 320e9, 200e9, 170e9, 34e9  # bandwidths that the false machine reads at, all its cores together
RATES = {"fp32": 180e9, "int8": 800e9}
TILE_LOSS, SPECIAL, PAGED = 22.0, 9e9, 0.7


# ---- samples ----------------------------------------------------------------------------------------------------------------


class Scripted:
    """A clock whose samples are given, and whose time is their sum."""

    def __init__(self, samples: Iterator[Sample]) -> None:
        self.samples, self.spent = samples, 0.0

    def now(self) -> float:
        return self.spent

    def sample(self, call: Call) -> Sample:
        call()
        found = next(self.samples)
        self.spent += found.time
        return found


def repeated(*samples: Sample) -> Iterator[Sample]:
    while True:
        yield from samples


def test_samples_in_which_others_ran_do_not_count():
    clock = Scripted(repeated(Sample(1.0, False), Sample(9.0, True), Sample(1.2, False)))
    found = timing.measure(clock, lambda: None, 30.0)
    assert (found.time, found.samples > found.disturbed > 0) == (1.0, True)
    assert found.median in (1.0, 1.2)


def test_a_machine_that_is_never_quiet_ends_at_patience_and_says_so():
    clock = Scripted(repeated(Sample(2.0, True), Sample(1.0, True)))
    found = timing.measure(clock, lambda: None, 3.0)
    assert found.samples == 0
    assert found.time == 1.0  # the lowest decile of what there is
    assert 4.5 <= clock.spent < 7.0  # one and a half times the budget


def test_parts_of_one_name_are_one_sample_set():
    times = {"in": 1.0, "layer": 2.0}
    order: list[str] = []
    clock = Scripted(iter(()))

    def sample(call: Call) -> Sample:
        call()
        clock.spent += 1.0
        slow = order[-1] == "layer" and len(order) % 2 == 0
        return Sample(times[order[-1]] * (5.0 if slow else 1.0), slow)

    clock.sample = sample  # type: ignore[method-assign]
    parts = [(name, lambda name=name: order.append(name)) for name in ("in", "layer", "layer", "layer")]
    found = timing.measure_parts(clock, parts, 40.0)
    assert found.time == 1.0 + 3 * 2.0
    assert order[:5] == ["in", "layer", "layer", "layer", "in"]


def test_this_process_has_a_clock():
    found = timing.measure(timing.ProcessClock(), lambda: sum(range(1000)), 0.01)
    assert 0.0 < found.time <= found.median < 0.01


def test_a_call_that_waits_for_another_thread_is_disturbed(monkeypatch):
    clock = timing.ProcessClock()
    waited = clock.sample(lambda: time.sleep(0.02))
    assert waited.disturbed
    assert waited.time < 0.01  # what was worked, not what was waited
    monkeypatch.setattr(timing, "_TASKS", Path("no such folder"))  # a system that does not tell
    assert clock.sample(lambda: time.sleep(0.02)).time >= 0.02


# ---- levels -----------------------------------------------------------------------------------------------------------------


def bandwidth(size: float) -> float:
    """Bandwidth over a working set of the false machine: steps at each core's caches and at the shared one."""
    return L1 if size <= CACHES[0].capacity else L2 if size <= CACHES[1].capacity else L3 if size <= CACHES[2].capacity else DDR


def points(sizes: Sequence[float]) -> list[Point]:
    return [Point(size, bandwidth(size)) for size in sizes]


def test_levels_are_the_systems_with_measured_bandwidths():
    own, together = work.sets(CACHES)
    found, main, spread = levels(points(own), points(together), CACHES, 2.0)
    assert [(one.name, one.shared, one.capacity) for one in found] == [
        ("l1", False, 32 * 2**10),
        ("l2", False, 2**20),
        ("l3", True, 32 * 2**20),
    ]
    assert [one.bandwidth for one in found] == [L1 / 2, L2 / 2, L3]  # of one instance
    assert (main, spread) == (DDR, 1.0)
    for one, after in zip(found, (L2, L3, DDR), strict=True):
        assert one.knee is None or 0.7 * one.capacity < one.knee < 1.5 * one.capacity, after
    assert found[0].knee is not None
    assert found[2].knee is not None


def test_without_the_system_the_knees_say_where_levels_end():
    own, together = work.sets(())
    found, main, _ = levels(points(own), points(together), (), 2.0)
    capacities = [one.capacity for one in found]
    assert main == DDR
    assert capacities[0] == pytest.approx(32 * 2**10, rel=0.42)  # sets grow by √2
    assert any(one.shared and one.capacity == pytest.approx(32 * 2**20, rel=0.42) for one in found)


def test_noise_makes_no_level():
    noisy = [Point(2.0**at, (100.0 if at < 10 else 40.0) * (1.0 + 0.03 * (-1) ** at)) for at in range(20)]
    assert len(plateaus(noisy)) == 2
    assert knee(noisy, 100.0, 97.0) is None


def test_what_the_system_says_is_read(tmp_path):
    for at, (kind, level, size, shared) in enumerate(
        (("Data", 1, "32K", "0"), ("Instruction", 1, "32K", "0"), ("Unified", 3, "32M", "0-1,4"))
    ):
        folder = tmp_path / "cpu0" / "cache" / f"index{at}"
        folder.mkdir(parents=True)
        for name, value in (("type", kind), ("level", level), ("size", size), ("shared_cpu_list", shared)):
            (folder / name).write_text(f"{value}\n")
    (tmp_path / "cpu0" / "cache" / "index9").mkdir()  # says nothing
    assert system_caches(tmp_path) == (SystemCache(1, 32.0 * 2**10, 1), SystemCache(3, 32.0 * 2**20, 3))
    assert system_caches(tmp_path / "none") == ()


# ---- a false machine --------------------------------------------------------------------------------------------------------


class FalseMachine:
    """A device whose kernels take what the model predicts on a chip of known constants; what is disturbed is said to be."""

    def __init__(self, *, busy: bool = False) -> None:
        self.clock, self.spent, self.time, self.busy = self, 0.0, 0.0, busy
        self.prepared = 0.0
        self.truth = truth()

    def now(self) -> float:
        return self.spent

    def sample(self, call: Call) -> Sample:
        call()
        self.spent += max(self.time, 0.05)
        return Sample(self.time * (7.0 if self.busy else 1.0), self.busy)

    def _call(self, time: float) -> Call:
        def call() -> None:
            self.time = time

        return call

    def machine(self) -> Machine:
        return MACHINE

    def formats(self) -> tuple[str, ...]:
        return tuple(RATES)

    def devices(self) -> int:
        return 1

    def prepare(self, cache: float) -> None:
        self.prepared = cache

    def launch(self) -> tuple[Call, int]:
        return self._call(500e-6), 100

    def read(self, size: float, *, own: bool) -> tuple[Call, float]:
        copies = 16.0 if own else 1.0  # a core's own set is read again and again
        return self._call(copies * size / bandwidth(size)), copies * size

    def run(self, asked: Work) -> Call:
        if isinstance(asked, Product) and (asked.format, asked.m) == ("int8", 1):
            raise RuntimeError("not a product of this library\nat some line")
        return self._call(predicted(self.truth, asked))

    def parts(self, asked: WholeModel) -> list[tuple[str, Call]]:
        return [("all", self._call(0.1 if asked.phase == "encode" else 0.02))]

    def all_reduces(self, sizes: Sequence[int]) -> list[tuple[int, list[float]]]:
        return [(size, [1e-6 + size / 1e11] * 3) for size in sizes]


def truth() -> Chip:
    """The chip of the false machine: as its file would be, with the constants that a run has to find."""
    own, together = work.sets(CACHES)
    found, main, spread = levels(points(own), points(together), CACHES, 2.0)
    made = chip_file.Found(
        machine=MACHINE,
        levels=found,
        bandwidth=main,
        bandwidth_spread=spread,
        launch=5e-6,
        rates=RATES,
        special=SPECIAL,
        constants={"matrix": 1.0, "lanes": 1.0, "bandwidth": 1.0, "tile_loss": TILE_LOSS, "paged": PAGED},
    )
    return run._loaded(chip_file.text(made, "2026-01-01"))


def predicted(chip: Chip, asked: Work) -> float:
    rows = as_rows([Measured(asked, Timing(1.0, 1.0, 1, 0), held=False)], Stamp("x", MACHINE.software, ""))
    ((_, time),) = fit.predicted(chip, rows)
    return time


def test_a_run_finds_the_constants_and_what_it_cannot_run():
    machine = FalseMachine()
    found = run.run(machine, QUICK, whole_models=False, date="2026-01-01", progress=lambda *_: None)
    assert machine.prepared == CACHES[2].capacity
    assert found.found.rates == pytest.approx(RATES, rel=0.02)
    assert found.found.constants["tile_loss"] == pytest.approx(TILE_LOSS, rel=0.05)
    assert found.found.constants["paged"] == pytest.approx(PAGED, rel=0.05)
    assert found.found.launch == pytest.approx(5e-6)
    assert found.found.bandwidth == DDR
    assert set(found.failed) == {"gemm int8: not a product of this library"}
    assert any("no collectives" in one for one in found.found.notes)
    held = [one for one in found.measured if one.held]
    assert 0.4 < len(held) / len(found.measured) < 0.6


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> tuple[Measurement, Path, Path]:
    """A measurement of the false machine, its chip file and its rows."""
    folder = tmp_path_factory.mktemp("measured")
    out, rows = folder / "here.toml", folder / "rows.csv"
    return measure(out=out, rows=rows, models=True, quick=True, machine=FalseMachine()), out, rows


def test_the_files_say_what_was_measured_and_every_number_has_its_source(measured):
    found, out, rows = measured
    chip = load.chip(str(out))
    assert chip.title == "Some 'CPU' (measured here)"
    assert chip.efficiency is not None
    assert chip.efficiency.tile_loss == pytest.approx(TILE_LOSS, rel=0.05)
    assert {"matrix_unit.rate.fp32", "memory.l2.bandwidth", "memory.ddr.bandwidth", "efficiency.tile_loss"} <= set(chip.sources)
    for path, source in chip.sources.items():
        stated = path.startswith(("technology", "efficiency")) or source.key or source.confidence == "estimate"
        assert stated, f"{path} without a source"
    assert chip.sources["efficiency.tile_loss"].key == "measured here"
    held = [one for one in found.errors if one.held and one.kind not in ("gpt2 decode", "gpt2 prefill", "bert-base encode")]
    assert held
    assert max(one.median_ape for one in held) < 0.1  # of a machine that is as the model has it
    with rows.open(newline="") as file:
        read = list(csv.DictReader(file))
    assert {one["chip"] for one in read} == {"here.toml"}  # beside the rows
    assert {one["set"] for one in read} == {"fit", "held"}
    assert all(one["set"] == "held" for one in read if one["model"])
    assert set(found.decode_per_flop) == {128, 512}
    again = validate([rows])
    assert not again.faults
    assert all(one.prediction.predicted for one in again.rows)


def test_the_chip_file_answers_at_level_mapped(measured):
    _, out, _ = measured
    found = analyze("gpt2", str(out), phase="decode", context=512, precision="fp32", level="mapped")
    weights = 124e6 * 4.0
    assert found.estimate.level == "mapped"
    assert found.estimate.time > weights / DDR


def test_works_that_were_never_alone_are_counted():
    busy = FalseMachine(busy=True)
    found = run.run(busy, replace(QUICK, deadline=0.0), whole_models=False, date="", progress=lambda *_: None)
    assert all(one.timing.samples == 0 for one in found.measured)
    assert any("were never alone" in one for one in found.found.notes)


class FalseGpu(FalseMachine):
    """The same with a GPU's units, several of them, and no cache that is told."""

    def machine(self) -> Machine:
        gpu = replace(MACHINE, title="Some GPU", vendor="NVIDIA", kind="gpu", family="nvidia-hopper", cores=100.0, local=2e5)
        return replace(gpu, memory_kind="hbm", caches=())

    def formats(self) -> tuple[str, ...]:
        return ("fp32", "bf16")

    def devices(self) -> int:
        return 2

    def run(self, asked: Work) -> Call:
        return self._call(1e-5 + sum(one for one in asked.columns.values() if isinstance(one, int)) * 1e-8)


def test_a_gpu_and_its_collectives(tmp_path):
    out, rows = tmp_path / "gpu.toml", tmp_path / "rows.csv"
    found = measure(out=out, rows=rows, quick=True, machine=FalseGpu())
    chip = load.chip(str(out))
    assert (chip.kind, chip.main_memory.name, chip.main_memory.bandwidth) == ("gpu", "hbm", DDR)
    assert any(one.role == "cache" for one in chip.memory)  # from the knees
    collectives = [one for one in found.run.measured if isinstance(one.work, Collective)]
    assert [one.work.bytes for one in collectives] == [2**14, 2**18, 2**22, 2**26]
    assert all(one.held for one in collectives)
    assert not any("no collectives" in one for one in found.run.found.notes)


def test_whole_models_and_collectives_judge_only():
    works: list[Work] = [
        Product("fp32", 8, 8, 8),
        Product("fp32", 16, 8, 8),
        Vector("add", "fp32", 8, 8),
        Vector("gelu", "fp32", 8, 8),
        Attention("fp32", 1, 1, 8, 1, 1, 64, causal=False),
        Attention("fp32", 1, 8, 8, 1, 1, 64, causal=True),
        WholeModel("gpt2", "decode", 128),
        Collective(1024, 2),
    ]
    assert work.held_back(works) == [False, True, False, False, False, False, True, True]


def test_the_table_shows_what_judges_and_what_fixes(measured):
    found, *_ = measured
    with (console := Console(width=200, record=True, file=StringIO())):
        console.print(measure_tables.measure_tables(found))
    text = console.export_text()
    for words in (
        "predicted against measured",
        "judge",
        "fix it",
        "GPT-2's decode",
        "products in int8",
        "not run here",
        "note: one device",
    ):
        assert words in text


# ---- own constants in a chip file -------------------------------------------------------------------------------------------


def test_a_chip_file_replaces_constants_of_its_family(tmp_path):
    own = tmp_path / "own.toml"
    text = (load.FOLDER / "chips" / "xeon-gold-6242.toml").read_text()
    own.write_text(text + "\n[efficiency]\ntile_loss = { value = 17, unit = '1', estimate = true, note = 'a guess' }\n")
    before, after = load.chip("xeon-gold-6242"), load.chip(str(own))
    assert before.efficiency is not None
    assert after.efficiency is not None
    assert (after.efficiency.tile_loss, after.efficiency.bandwidth) == (17.0, before.efficiency.bandwidth)
    assert after.sources["efficiency.tile_loss"].note == "a guess"
    own.write_text(text + "\n[efficiency]\ntile_los = { value = 17, unit = '1' }\nlanes = { value = 1, unit = 'GB' }\n")
    with pytest.raises(InputError, match=r"efficiency\.tile_los`: did you mean `tile_loss`.*`efficiency\.lanes`: .*GB"):
        load.chip(str(own))


def test_own_constants_are_those_that_rows_are_predicted_with(tmp_path):
    text = (load.FOLDER / "chips" / "xeon-gold-6242.toml").read_text()
    (tmp_path / "own.toml").write_text(text + "\n[efficiency]\nlanes = { value = 0.46, unit = '1', estimate = true }\n")
    header = "id,op,m,n,k,dtype,chip,framework,metric,value,unit\n"
    row = "{at},gemm,4096,4096,4096,fp32,{chip},pytorch-2.0,latency,100,ms\n"
    lines = [row.format(at=at, chip=chip) for at, chip in enumerate(("xeon-gold-6242", "own.toml", tmp_path / "own.toml"))]
    (tmp_path / "rows.csv").write_text(header + "".join(lines))
    found = {one.prediction.row.id: one.prediction.predicted for one in validate([tmp_path / "rows.csv"]).rows}
    assert found["1"] == found["2"]
    assert found["1"] / found["0"] == pytest.approx(2.0, rel=0.05)  # half of 0.92 of the lanes' peak


# ---- refused before any work ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"out": "here.json"}, r"--out .*a name that ends in \.toml"),
        ({"out": "here.toml", "rows": "rows.txt"}, r"--rows .*a name that ends in \.csv"),
        ({"rows": "rows.csv"}, "--out FILE.toml"),
        ({"out": "there.toml"}, "there is such a file already"),
        ({"out": "nowhere/here.toml"}, "there is no folder"),
    ],
)
def test_files_that_could_not_be_written_or_would_be_lost(tmp_path, options, sentence):
    (tmp_path / "there.toml").write_text("kept")
    with pytest.raises(InputError, match=sentence):
        measure(**{name: tmp_path / path for name, path in options.items()}, machine=FalseMachine())
    assert (tmp_path / "there.toml").read_text() == "kept"
    assert [one.name for one in tmp_path.iterdir()] == ["there.toml"]


def test_an_unknown_device():
    with pytest.raises(InputError, match="--device tpu: choose cpu, cuda"):
        measure(device="tpu")


class _NoGpu:
    """A PyTorch without a GPU."""

    class cuda:  # noqa: N801 - as PyTorch names it
        @staticmethod
        def is_available() -> bool:
            return False


def test_a_gpu_that_is_not_there(monkeypatch):
    monkeypatch.setattr(torch_device, "import_module", lambda _: _NoGpu)
    with pytest.raises(InputError, match="finds no CUDA device"):
        measure(device="cuda")


def test_without_torch_the_remedy_is_named(monkeypatch):
    def missing(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(torch_device, "import_module", missing)
    with pytest.raises(InputError, match=r"No module named 'torch'.*pip install 'ridgeline\[torch\]'"):
        measure()


# ---- the command ------------------------------------------------------------------------------------------------------------


def test_the_command(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    api = importlib.import_module("ridgeline.api.measure")
    monkeypatch.setattr(api, "open_device", lambda _: FalseMachine())

    def ran(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["ridgeline", "measure", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        written = capsys.readouterr()
        return int(ended.value.code or 0), written.out, written.err

    code, out, err = ran("--quick", "--models", "--out", "here.toml", "--rows", "rows.csv", "--plot", "p.html", "--json")
    assert code == 0
    record = json.loads(out)
    assert {"chip", "errors", "levels", "constants", "rows", "disturbed", "failed", "notes", "seconds"} <= set(record)
    assert record["chip"]["quantities"]["memory.ddr.bandwidth"] == pytest.approx(DDR, rel=1e-3)  # four digits in the file
    assert all(math.isfinite(one["median_ape"]) for one in record["errors"])
    assert "wrote here.toml" in err
    assert (tmp_path / "p.html").stat().st_size > 1000
    code, out, err = ran("--out", "here.toml")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
