"""Spaces: read, swept into a folder, stopped and gone on with, and the same whoever computed them and however they were cut."""

import errno
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ridgeline.api import analyze, load_chip
from ridgeline.api.explore import explore, query, read_space
from ridgeline.costs.components import chip_area
from ridgeline.errors import InfeasibleError, InputError
from ridgeline.search import shards
from ridgeline.search.formula import Formula, in_order
from ridgeline.search.pareto import pareto
from ridgeline.search.sweep import place

pytest.importorskip("pyarrow", reason="shards are Parquet files: `pip install 'ridgeline[explore]'`")
pytest.importorskip("duckdb", reason="queries are DuckDB's: `pip install 'ridgeline[explore]'`")

SPACE = """
sample = 40

[chip]
base = ["h100-sxm", "a100-sxm-80gb"]
memory.hbm.bandwidth = "1 TB/s:4 TB/s:x2"
memory.hbm.capacity = { from = "40 GB", to = "120 GB", count = 3 }
"matrix_unit.rate.bf16" = { formula = "300 * memory.hbm.bandwidth" }

[scenario]
model = "llama-3.1-8b"
batch = [1, 8, 64, 512]
precision = ["bf16", "w8a16"]

[[workload]]
name = "decode"
phase = "decode"
context = 1024
weight = 3

[[workload]]
name = "prompt"
phase = "prefill"
prompt = 512
batch = 1

[derived]
worth = "memory.hbm.bandwidth / 1e12 + memory.hbm.capacity / 1e10"

[objectives]
minimise = ["time", "worth"]
maximise = ["tokens_per_second"]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "space.toml"
    path.write_text(SPACE, encoding="utf-8")
    return path


def whole(file: Path) -> Path:
    """The same space, of which all points are kept."""
    path = file.with_name("all.toml")
    path.write_text('keep = "all"\n' + SPACE, encoding="utf-8")
    return path


def test_points_equal_single_analyses(file: Path, tmp_path: Path):
    found = explore(whole(file), tmp_path / "out")
    assert found.counts.points == found.space.points == 2 * 2 * 3 * 3 * 4
    names, rows = query(tmp_path / "out", "SELECT * FROM points ORDER BY point")
    assert [row[0] for row in rows] == list(range(found.counts.points))
    for values in rows[::5]:
        row = dict(zip(names, values, strict=True))
        chip, _ = place(load_chip(row["chip"]), analyze("gpt2", "h100-sxm").scenario, {
            "memory.hbm.bandwidth": row["memory.hbm.bandwidth"],
            "matrix_unit.rate.bf16": 300.0 * row["memory.hbm.bandwidth"],
            "memory.hbm.capacity": 1e15,
        })  # fmt: skip
        steps = [
            analyze(
                "llama-3.1-8b", chip, phase="decode", batch=row["batch"], context=1024, precision=row["precision"], level="ideal"
            ),
            analyze("llama-3.1-8b", chip, phase="prefill", batch=1, prompt=512, precision=row["precision"], level="ideal"),
        ]
        decode, prompt = (one.estimate for one in steps)
        assert row["time"] == pytest.approx(3 * decode.time + prompt.time, rel=1e-12)
        tokens = 3 * row["batch"] + 512
        assert row["tokens_per_second"] == pytest.approx(tokens / row["time"], rel=1e-12)
        needed = max(one.capacity.needed for one in (decode, prompt) if one.capacity)
        assert row["memory"] == pytest.approx(needed, rel=1e-12)
        assert row["feasible"] == (needed <= row["memory.hbm.capacity"])
    assert len({row[names.index("feasible")] for row in rows}) == 2


def test_the_front_is_that_of_all_points(file: Path, tmp_path: Path):
    found = explore(whole(file), tmp_path / "out", block=5)
    _, rows = query(tmp_path / "out", "SELECT time, worth, tokens_per_second, feasible, point FROM points ORDER BY point")
    columns = np.array(rows, dtype=float).T
    expected = pareto(columns[:3], ["min", "min", "max"], columns[3] == 1)
    assert [row["point"] for row in found.pareto] == np.flatnonzero(expected).tolist()
    assert 1 < expected.sum() < found.counts.feasible
    assert found.best["worth"]["worth"] == columns[1][columns[3] == 1].min()


def results(folder: Path) -> Any:
    return query(folder, "SELECT * FROM pareto ORDER BY point"), query(folder, "SELECT * FROM points ORDER BY point")


@pytest.mark.parametrize(("block", "workers"), [(1, 1), (7, 1), (1000, 1), (4, 2)])
def test_results_do_not_depend_on_how_the_work_is_cut(file: Path, tmp_path: Path, block: int, workers: int):
    explore(file, tmp_path / "one")
    explore(file, tmp_path / "other", block=block, workers=workers)
    assert results(tmp_path / "other") == results(tmp_path / "one")
    assert 15 < len(results(tmp_path / "one")[1][1]) < 80  # 40 of 144 by chance


KILLED = """
import os, signal, sys
from ridgeline.api.explore import explore
explore(sys.argv[1], sys.argv[2], block=2, progress=lambda done, points: done > 60 and os.kill(os.getpid(), signal.SIGKILL))
"""


def test_a_killed_run_goes_on_and_ends_the_same(file: Path, tmp_path: Path):
    explore(file, tmp_path / "undisturbed", block=2)
    ran = subprocess.run([sys.executable, "-c", KILLED, str(file), str(tmp_path / "killed")], check=False)
    assert ran.returncode == -signal.SIGKILL
    there = sorted((tmp_path / "killed").glob("shard-*"))
    assert 0 < len(there) < len(list((tmp_path / "undisturbed").glob("shard-*")))
    (tmp_path / "killed" / "shard-000007.parquet.1.partial").write_bytes(b"half")
    found = explore(file, tmp_path / "killed")  # whatever block is asked for: that of the folder goes on
    assert 0 < found.computed < found.counts.points == found.space.points
    assert results(tmp_path / "killed") == results(tmp_path / "undisturbed")
    names = [sorted(one.name for one in (tmp_path / folder).iterdir()) for folder in ("killed", "undisturbed")]
    assert names[0] == names[1]
    for name in names[0]:
        if name.startswith("shard"):
            assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "undisturbed" / name).read_bytes()
    assert explore(file, tmp_path / "killed").computed == 0


def test_a_full_disk_loses_only_what_was_in_flight(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    explore(file, tmp_path / "undisturbed", block=2)
    write, written = shards._replace, []

    def full(path: Path, content: bytes) -> None:
        if len(written) == 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(path)
        write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(shards, "_replace", full)
        with pytest.raises(InputError, match=r"No space left.*the same command goes on"):
            explore(file, tmp_path / "full", block=2)
    explore(file, tmp_path / "full", block=2)
    assert results(tmp_path / "full") == results(tmp_path / "undisturbed")


def test_a_folder_of_another_space_is_refused(file: Path, tmp_path: Path):
    explore(file, tmp_path / "out")
    other = tmp_path / "other.toml"
    other.write_text(SPACE.replace("512]", "1024]"), encoding="utf-8")
    with pytest.raises(InputError, match="another space"):
        explore(other, tmp_path / "out")
    explore(other, tmp_path / "there", block=2)
    (tmp_path / "there" / "shard-000001.parquet").write_bytes((tmp_path / "out" / "shard-000000.parquet").read_bytes())
    with pytest.raises(InputError, match="of another space"):
        explore(other, tmp_path / "there")


def test_structure_is_grouped_and_levels_are_the_same_as_of_analyze(tmp_path: Path):
    """Two dataflows of an array at `mapped`: each point is what `analyze` says of that chip."""
    path = tmp_path / "array.toml"
    path.write_text(
        'level = "mapped"\nkeep = "all"\n[chip]\nbase = "gemmini"\ntransfer.asynchronous = [true, false]\n'
        'memory.dram.bandwidth = ["8 GB/s", "16 GB/s"]\n'
        '[scenario]\nmodel = "bert-base"\nphase = "encode"\nprompt = 32\nprecision = "int8"\n',
        encoding="utf-8",
    )
    found = explore(path, tmp_path / "out")
    assert [one.labels["transfer.asynchronous"] for one in found.space.groups] == ["True", "False"]
    _, rows = query(tmp_path / "out", 'SELECT "transfer.asynchronous", "memory.dram.bandwidth", time FROM points ORDER BY point')
    for (asynchronous, bandwidth, time), group in zip(rows, (0, 0, 1, 1), strict=True):
        chip, _ = place(found.space.groups[group].chip, analyze("gpt2", "h100-sxm").scenario, {"memory.dram.bandwidth": bandwidth})
        assert str(chip.transfer.asynchronous) == asynchronous
        one = analyze("bert-base", chip, phase="encode", prompt=32, precision="int8", level="mapped")
        assert time == pytest.approx(one.estimate.time, rel=1e-12)
    assert rows[0][2] < rows[2][2]  # to fetch while computing is faster


def test_kernels_of_many_cores_are_costed_as_arrays(tmp_path: Path):
    """At `mapped` too each point is what `analyze` says of that chip and that step, exactly."""
    path = tmp_path / "cores.toml"
    path.write_text(
        'level = "mapped"\nkeep = "all"\n[chip]\nbase = "h100-sxm"\nmemory.hbm.bandwidth = ["2 TB/s", "5 TB/s"]\n'
        'cores.count = [100, 132]\n[scenario]\nmodel = "llama-3.1-8b"\nphase = "decode"\nbatch = [1, 48]\ncontext = 2048\n',
        encoding="utf-8",
    )
    found = explore(path, tmp_path / "out")
    _, rows = query(tmp_path / "out", 'SELECT "memory.hbm.bandwidth", "cores.count", batch, time FROM points')
    assert len(rows) == 8
    for bandwidth, cores, batch, time in rows:
        values = {"memory.hbm.bandwidth": bandwidth, "cores.count": cores}
        chip, _ = place(found.space.groups[0].chip, analyze("gpt2", "h100-sxm").scenario, values)
        one = analyze("llama-3.1-8b", chip, phase="decode", batch=int(batch), context=2048, level="mapped")
        assert time == pytest.approx(one.estimate.time, rel=1e-12)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("memory.hbm.bandwidth = ", "memory.hbm.bandwith = ", r"bandwith.*did you mean.*bandwidth"),
        ("batch = [1", "bach = [1", r"scenario\.bach.*batch"),
        ('"300 * memory.hbm.bandwidth"', '"300 * memory.hbm.bandwith"', r"no `memory\.hbm\.bandwith`.*bandwidth"),
        ('worth = "', 'worth = "wirth + ', r"no `wirth`.*worth"),
        ("[derived]", '[derived]\na = "b"\nb = "2 * c"\nc = "a + b"', "in a circle: a → b → c → a|in a circle: b → c → b|circle"),
        ('minimise = ["time"', 'minimise = ["tim"', r"objective `tim`.*time"),
        ('maximise = ["tokens_per_second"]', 'maximise = ["time"]', "both minimised and maximised"),
        ("sample = 40", 'constraints = ["time <= 1 m"]', "time <= 1 m.*does not measure s"),
        ("sample = 40", 'constraints = ["time < 1 s"]', "name <= value unit"),
        ("sample = 40", 'constraints = ["time <= 1 ms", "time >= 2 ms"]', "contradict"),
        ("sample = 40", "smple = 40", r"unknown key `smple`.*sample"),
        ('"1 TB/s:4 TB/s:x2"', '"1 TB:4 TB:x2"', r"chip\.memory\.hbm\.bandwidth.*B/s"),
        ('"1 TB/s:4 TB/s:x2"', '[1, "2 TB/s"]', r"chip\.memory\.hbm\.bandwidth.*unit"),
        ("weight = 3", "weight = 0", "weight"),
        ("weight = 3", 'weight = "a"', "weight"),
        ("sample = 40", 'sample = "all"', "sample"),
        ("sample = 40", 'level = "simulated"', "level.*ideal, mapped"),
        ('"300 * memory.hbm.bandwidth"', '"__import__(1)"', "only"),
        ('base = ["h100-sxm", "a100-sxm-80gb"]', "", r"missing key `chip\.base`"),
        ("[chip]", "[chip", "not TOML"),
    ],
)
def test_bad_spaces(file: Path, old: str, new: str, said: str):
    assert old in SPACE
    file.write_text(SPACE.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(InputError, match=said):
        read_space(file)


def test_a_space_of_one_point(tmp_path: Path):
    path = tmp_path / "one.toml"
    path.write_text('sample = 0\n[chip]\nbase = "h100-sxm"\n[scenario]\nmodel = "gpt2"\ncontext = 64\n', encoding="utf-8")
    found = explore(path, tmp_path / "out")
    assert (found.counts.points, len(found.pareto)) == (1, 1)
    assert found.pareto[0]["time"] == analyze("gpt2", "h100-sxm", context=64, level="ideal").estimate.time
    assert query(tmp_path / "out", "SELECT * FROM points")[1] == []


def test_constraints_that_nothing_meets_say_what_rules_out_most(file: Path, tmp_path: Path):
    file.write_text('constraints = ["worth <= 1", "time <= 10 ms", "memory >= 1 B"]\n' + SPACE, encoding="utf-8")
    with pytest.raises(InfeasibleError, match=r"none of the 144 points.*: worth <= 1 rules out 1 of them, time <= 10 ms"):
        explore(file, tmp_path / "out")


def test_a_query_that_fails_is_one_sentence(file: Path, tmp_path: Path):
    with pytest.raises(InputError, match="no results"):
        query(tmp_path, "SELECT 1")
    explore(file, tmp_path / "out")
    with pytest.raises(InputError, match="tim"):
        query(tmp_path / "out", "SELECT tim FROM pareto")


def test_formulas():
    known = {"a": 2.0, "b.c-d": 3.0, "x": np.array([1.0, 4.0])}
    assert Formula.parse("-a ** 2 + min(`b.c-d`, 10) / 2").value(known) == -4.0 + 1.5
    assert Formula.parse("sqrt(x) * max(a, x)").value(known).tolist() == [2.0, 8.0]
    assert in_order({"p": Formula.parse("q + a"), "q": Formula.parse("a")}, ["a"]) == ["q", "p"]
    for text in ("a if a else a", "a.b()", "[1]", "'text'", "lambda: 1", "a <", "min(a)", "True"):
        with pytest.raises(InputError, match="formula"):
            Formula.parse(text)


DASK = """
import os, signal, sys
from distributed import LocalCluster
from ridgeline.api.explore import explore

if __name__ == "__main__":
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        victim = [next(iter(cluster.workers.values())).pid]

        def progress(done, points):
            if victim:
                os.kill(victim.pop(), signal.SIGKILL)

        explore(sys.argv[1], sys.argv[2], block=1, engine="dask", address=cluster.scheduler_address, progress=progress)
"""


def test_a_cluster_that_loses_a_worker_ends_the_same(file: Path, tmp_path: Path):
    pytest.importorskip("distributed", reason="clusters are Dask's: `pip install 'ridgeline[dask]'`")
    script = tmp_path / "cluster.py"
    script.write_text(DASK, encoding="utf-8")
    explore(file, tmp_path / "one", block=1)
    subprocess.run(
        [sys.executable, str(script), str(file), str(tmp_path / "cluster")], check=True, capture_output=True, timeout=120
    )
    found = explore(file, tmp_path / "cluster")
    assert found.computed == 0
    assert results(tmp_path / "cluster") == results(tmp_path / "one")


def test_area_power_and_energy_are_columns(tmp_path: Path):
    """The area is that of the chip's components, and power is energy over time."""
    path = tmp_path / "area.toml"
    path.write_text(
        'keep = "all"\nconstraints = ["area <= 1 m2", "power >= 1 W"]\n[chip]\nbase = "h100-sxm"\n'
        'memory.l2.capacity = ["25 MiB", "50 MiB"]\n[scenario]\nmodel = "gpt2"\nbatch = [1, 8]\ncontext = 64\n'
        '[objectives]\nminimise = ["energy_per_token", "area"]\n',
        encoding="utf-8",
    )
    explore(path, tmp_path / "out")
    _, rows = query(tmp_path / "out", 'SELECT "memory.l2.capacity", batch, area, power, energy_per_token, time FROM points')
    assert len(rows) == 4
    for capacity, batch, area, power, energy_per_token, time in rows:
        chip, scenario = place(load_chip("h100-sxm"), analyze("gpt2", "h100-sxm").scenario, {"memory.l2.capacity": capacity})
        assert scenario.phase == "decode"
        assert area == pytest.approx(sum(chip_area(chip).values()), rel=1e-12)
        one = analyze("gpt2", chip, batch=int(batch), context=64, level="ideal").estimate
        assert power == pytest.approx(one.energy / one.time, rel=1e-12)
        assert energy_per_token * batch == pytest.approx(power * time, rel=1e-12)
