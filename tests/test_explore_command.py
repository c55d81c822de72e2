"""The commands that ask about many designs: what they print, their JSON, their exit codes."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from ridgeline.cli import main
from ridgeline.report.panels import Bars, Curve, Panel, PanelPicture, panels_html, write_panels

SPACE = """
[chip]
base = ["h100-sxm", "a100-sxm-80gb"]
memory.hbm.bandwidth = "1 TB/s:4 TB/s:x2"
[scenario]
model = "gpt2"
batch = [1, 8]
context = 128
[derived]
worth = "memory.hbm.bandwidth / 1e12"
[objectives]
minimise = ["time", "worth"]
"""


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["ridgeline", *arguments])
        with pytest.raises(SystemExit) as stopped:
            main()
    said = capsys.readouterr()
    return int(stopped.value.code or 0), said.out, said.err


def record(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    code, out, err = run(capsys, *arguments, "--json")
    assert code == 0, err
    return json.loads(out)


def test_explore_and_query(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    pytest.importorskip("pyarrow")
    pytest.importorskip("duckdb")
    space, out = tmp_path / "space.toml", str(tmp_path / "out")
    space.write_text(SPACE, encoding="utf-8")
    picture = tmp_path / "front.html"
    found = record(capsys, "explore", str(space), "--out", out, "--workers", "1", "--plot", str(picture))
    assert found["points"] == 12
    assert found["points_per_second"] > 0
    assert found["front"] == len(found["pareto"]) >= 3
    assert found["best"]["time"]["time"] == min(row["time"] for row in found["pareto"])
    assert "The front of space" in picture.read_text(encoding="utf-8")
    rows = record(capsys, "query", out, 'SELECT count(*), min("memory.hbm.bandwidth") FROM pareto')["rows"]
    assert rows == [[found["front"], 1e12]]
    code, table, _ = run(capsys, "explore", str(space), "--out", out, "--workers", "1")
    assert code == 0
    assert "12 points, 12 feasible" in table
    assert run(capsys, "query", out, "SELECT nothing FROM pareto")[0] == 2
    space.write_text(SPACE + 'constraints = ["time <= 1 ns"]\n', encoding="utf-8")  # inside [objectives]
    assert run(capsys, "explore", str(space), "--out", str(tmp_path / "b"))[0] == 2
    space.write_text('constraints = ["time <= 1 ns"]\n' + SPACE, encoding="utf-8")
    code, _, said = run(capsys, "explore", str(space), "--out", str(tmp_path / "c"), "--workers", "1")
    assert code == 3
    assert "time <= 1 ns rules out 1 of them" in said


@pytest.mark.parametrize("command", [("explore", "nowhere.toml", "--out", "out"), ("validate", "nowhere.csv")])
def test_a_missing_file_is_one_sentence(capsys: pytest.CaptureFixture[str], command: tuple[str, ...]):
    code, out, said = run(capsys, *command)
    assert (code, out, said) == (2, "", f"ridgeline: {command[1]}: cannot be read: No such file or directory\n")


def test_sensitivity(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    picture = tmp_path / "bars.svg"
    arguments = ("sensitivity", "llama-3.1-8b", "h100-sxm", "--context", "4096", "--level", "ideal")
    found = record(capsys, *arguments, "--plot", str(picture))
    assert found["elasticities"]["memory.hbm.bandwidth"] == pytest.approx(-1.0, abs=1e-3)
    assert found["elasticities"]["matrix_unit.rate.bf16"] == 0.0
    assert found["step"] == 1e-4
    assert picture.stat().st_size > 1000
    code, table, _ = run(capsys, *arguments)
    assert code == 0
    assert "memory.hbm.bandwidth" in table
    assert "more quantities move neither" in table


def test_labels_of_bars_break_between_words(tmp_path: Path):
    labels = [f"memory.hbm{index}.bandwidth" for index in range(12)]
    write_panels(PanelPicture("", "", [Panel("", bars=[Bars("time", labels, [1.0] * 12)])]), tmp_path / "bars.svg")
    words = re.findall(r"<!-- (.*?) -->", (tmp_path / "bars.svg").read_text(), re.DOTALL)
    drawn = [line.strip() for word in words for line in word.splitlines()]
    assert drawn.count("bandwidth") == 12
    assert {"memory.", "hbm7."} <= set(drawn)


@pytest.mark.parametrize("logarithmic", [True, False])
def test_a_logarithmic_axis_of_curves_is_drawn_so(tmp_path: Path, logarithmic: bool):
    curve = Curve("time", [0, 1, 2], [10.0, 100.0, 1000.0])
    picture = PanelPicture("", "", [Panel("ms", [curve], y_log=logarithmic)])
    write_panels(picture, tmp_path / "curve.svg")
    assert ("mathdefault{10^{2}}" in (tmp_path / "curve.svg").read_text()) is logarithmic
    assert ('"type":"log"' in panels_html(picture, whole=False).rpartition("Plotly.newPlot")[2]) is logarithmic


def test_solve(capsys: pytest.CaptureFixture[str]):
    arguments = ("solve", "llama-3.1-8b", "h100-sxm", "memory.hbm.bandwidth", "--context", "128", "--level", "ideal")
    found = record(capsys, *arguments, "--tpot", "10 ms", "--from", "100 GB/s", "--to", "5 TB/s")
    assert 1.5e12 < found["value"] < 1.55e12
    assert found["bracket"] == [1e11, 5e12]
    assert found["at"]["tpot"] <= 10e-3 < found["failing"]["tpot"]
    code, table, _ = run(capsys, *arguments, "--tpot", "10 ms")
    assert code == 0
    assert "least memory.hbm.bandwidth: 1.5" in table
    assert re.search(r"^at 1\.5\d+ TB/s it fails: tpot 10\.0+\d ms$", table, re.MULTILINE)  # more digits than the target's
    assert "searched from 3.35 GB/s to 3.35 PB/s" in table
    assert run(capsys, *arguments, "--tpot", "1 us")[0] == 3
    assert run(capsys, *arguments, "--tpot", "1 GB")[0] == 2


def test_plan(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    picture = tmp_path / "plans.html"
    found = record(capsys, "plan", "llama-3.1-70b", "h100-sxm", "--count", "8", "--tpot", "20 ms", "--plot", str(picture))
    assert found["plans"][0]["meets"]
    assert found["plans"][0]["tpot"] <= 20e-3
    assert any(one["plan"] == "dp=8" for one in found["infeasible"])
    assert picture.is_file()
    code, table, _ = run(capsys, "plan", "llama-3.1-8b", "h100-sxm", "--count", "2")
    assert code == 0
    assert "best throughput first" in table
    code, _, said = run(capsys, "plan", "llama-3.1-70b", "h100-sxm", "--count", "8", "--tpot", "1 ms")
    assert code == 3
    assert "the nearest is" in said


def test_optimise(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    pytest.importorskip("pymoo")
    space = tmp_path / "space.toml"
    space.write_text(SPACE, encoding="utf-8")
    found = record(capsys, "optimise", str(space), "--budget", "60", "--population", "20", "--seeds", "2")
    assert found["points"] == 12
    assert 0 < found["front"] <= found["tried"] <= 12
    assert [one["seed"] for one in found["hypervolumes"]] == [0, 1]
    assert all(0.0 < one["random"] <= 1.0 and 0.0 < one["nsga2"] <= 1.0 for one in found["hypervolumes"])
    assert run(capsys, "optimise", str(space), "--budget", "0")[0] == 2
