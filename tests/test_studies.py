"""The two studies: their parts on single designs, and their commands."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


def _study(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "studies" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def test_the_baseline_is_the_one_of_the_case_study():
    edge = _study("edge_accelerator")
    chip = edge.chip_of(edge.Design(voltage=0.8))
    assert chip.matrix_unit.shape == (16, 16)
    assert chip.matrix_unit.rate["int8"] == pytest.approx(2 * 256 * chip.cores.clock)
    assert chip.level("scratchpad").capacity == 256 * 1024
    assert chip.level("accumulator").capacity == 64 * 1024
    assert chip.level("dram").bandwidth == pytest.approx(17.06e9, rel=1e-3)  # 32 pins at 4266 Mb/s


def test_published_areas_exceed_the_coefficients_two_to_four_times():
    edge = _study("edge_accelerator")
    assert 2.0 < edge.left_out() < 4.0


def test_larger_parts_take_more_area():
    edge = _study("edge_accelerator")
    margins = edge.Margins(2.6)

    def area(**changed: float) -> float:
        design = edge.Design(units=16)._replace(**changed)
        return sum(edge.area_of(edge.chip_of(design), design, margins).values())

    assert area() < area(side=32) < area(side=32, arrays=2)
    assert area() < area(scratchpad=512)
    assert area(pins=64) - area(pins=32) == pytest.approx(32 * 0.05e-6)


def test_a_step_is_taken_only_within_the_limits():
    edge = _study("edge_accelerator")
    slow = edge.Result(edge.Design(), 1e-6, 1.0, 1.0, (1.0, 1.0), (1.0, 1.0), ("compute", "compute"))
    hot = slow._replace(time=0.1, power=2.1)
    fast = slow._replace(time=0.5)
    assert edge._best([("hot", hot), ("fast", fast), ("none", None)], slow) == ("fast", fast)
    assert edge._best([("hot", hot)], slow) is None


def test_a_design_too_large_is_not_costed():
    edge = _study("edge_accelerator")
    assert edge.evaluate(edge.Design(scratchpad=4096, accumulator=2048, side=128, arrays=4, units=128), edge.Margins(2.6)) is None


@pytest.mark.heavy
def test_functions_on_the_chip_are_the_largest_step():
    edge = _study("edge_accelerator")
    margins = edge.Margins(edge.left_out())
    host, chip = (edge.evaluate(edge.Design(units=units), margins) for units in (0, 16))
    assert host.time > 10.0 * chip.time
    assert host.bounds[1] == "host"


@pytest.mark.heavy
@pytest.mark.parametrize("command", [["edge_accelerator.py", "--samples", "5"], ["split_die.py"]])
def test_the_commands_run(command: list[str], tmp_path: Path):
    pytest.importorskip("duckdb")
    picture = tmp_path / "study.html"
    done = subprocess.run(
        [sys.executable, str(ROOT / "studies" / command[0]), *command[1:], "--json", "--plot", str(picture)],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    found = json.loads(done.stdout)
    assert picture.stat().st_size > 10_000
    if command[0] == "split_die.py":
        feasible = [row for row in found if row["feasible"]]
        assert feasible
        assert all(
            one["loses"] >= -1e-9 for row in feasible for one in row["both"]
        )  # the best of both is no better than each apart
    else:
        times = [step["time"]["512"] * step["time"]["128"] for step in found["path"]]
        assert times == sorted(times, reverse=True)
        assert all(sum(step["area"].values()) <= 10e-6 and step["power"] <= 2.0 for step in found["path"])
