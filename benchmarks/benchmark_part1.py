"""Speed of the foundation: sweeps, one analysis, starting up, the launcher; and memory that does not grow with the space.

bin/benchmark                       the tables of pytest-benchmark
RIDGELINE_LARGE=1 bin/benchmark     memory of a sweep of 1e8 points as well (some seconds)
python benchmarks/benchmark_part1.py    the memory of sweeps alone, as a table
"""

import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ridgeline.api import analyze, load_chip, load_model
from ridgeline.search.space import Grid
from ridgeline.search.sweep import sweep
from ridgeline.specs.precision import Precision
from ridgeline.specs.scenario import Scenario

ROOT = Path(__file__).parents[1]


def space(points: int) -> Grid:
    """Memory bandwidth × peak × batch × context, `points` combinations in all: the bandwidth is the long axis."""
    rest = 20 * 32 * 25
    return Grid.of(
        {
            "memory.hbm.bandwidth": np.geomspace(5e11, 2e13, max(1, points // rest)).tolist(),
            "matrix_unit.rate.bf16": np.geomspace(1e14, 1e16, 20).tolist(),
            "batch": range(1, 33),
            "context": range(512, 512 * 26, 512),
        }
    )


def sweep_all(grid: Grid) -> tuple[int, float]:
    """Sweep Llama 3.1 70B's decode over a grid; the points for which there is a time, and the least of the times."""
    chip, model, precision = load_chip("h100-sxm"), load_model("llama-3.1-70b"), Precision.parse("bf16")
    done, fastest = 0, float("inf")
    for part in sweep(chip, model, Scenario(phase="decode", context=1.0), precision, grid):
        done += part.totals.time.size
        fastest = min(fastest, float(np.min(part.totals.time)))
    return done, fastest


def test_ideal_sweep_of_llama_70b_decode(benchmark: Any) -> None:
    """Five million points a second or more on two cores."""
    grid = space(8_000_000)
    done, fastest = benchmark.pedantic(sweep_all, args=(grid,), rounds=3, warmup_rounds=1)
    assert done == grid.points
    assert fastest > 0
    benchmark.extra_info["points"] = done
    benchmark.extra_info["points_per_second"] = round(done / benchmark.stats.stats.min)


def test_analyze_80_layers(benchmark: Any) -> None:
    """One scenario, specs read before: 5 ms or less."""
    model, chip = load_model("llama-3.1-70b"), load_chip("mi300x")
    found = benchmark(analyze, model, chip, phase="decode", batch=8, context=4096)
    assert found.estimate.time > 0


def test_analyze_80_layers_by_name(benchmark: Any) -> None:
    """The same, with both files of the catalogue read again each time."""
    found = benchmark(analyze, "llama-3.1-70b", "mi300x", phase="decode", batch=8, context=4096)
    assert found.estimate.time > 0


def run(*command: str) -> None:
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)


def test_help(benchmark: Any) -> None:
    """`ridgeline --help` as a process: 0.5 s or less."""
    benchmark.pedantic(run, args=(sys.executable, "-P", "-m", "ridgeline", "--help"), rounds=7, warmup_rounds=1)


def test_launcher(benchmark: Any) -> None:
    """What `bin/ridgeline` adds to the same command from its second use on: 50 ms or less (in `extra_info`)."""
    python = ROOT / ".venv/run/bin/python"
    if not (ROOT / ".venv/run/stamp").is_file():
        pytest.skip("the launcher has no environment yet: `bin/ridgeline --help` makes it")
    run(str(ROOT / "bin/ridgeline"), "--help")
    bare = []
    for _ in range(9):
        start = time.perf_counter()
        run(str(python), "-P", "-m", "ridgeline", "--help")
        bare.append(time.perf_counter() - start)
    benchmark.pedantic(run, args=(str(ROOT / "bin/ridgeline"), "--help"), rounds=9, warmup_rounds=1)
    benchmark.extra_info["added_seconds"] = round(benchmark.stats.stats.median - float(np.median(bare)), 4)


# ---- memory -----------------------------------------------------------------------------------------------------------------


def peak_bytes(points: int) -> tuple[float, float]:
    """Peak memory of a process that sweeps so many points, and its seconds."""
    start = time.perf_counter()
    command = [sys.executable, __file__, str(points)]
    ran = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return float(ran.stdout), time.perf_counter() - start


@pytest.mark.parametrize("points", [10**6, 10**7, 10**8])
def test_memory_of_a_sweep(benchmark: Any, points: int) -> None:
    """Flat in the number of points: bounded by a block."""
    if points > 10**7 and not os.environ.get("RIDGELINE_LARGE"):
        pytest.skip("1e8 points only where asked for: set RIDGELINE_LARGE=1")
    peak, _ = benchmark.pedantic(peak_bytes, args=(points,), rounds=1)
    benchmark.extra_info["points"] = points
    benchmark.extra_info["peak_megabytes"] = round(peak / 1e6, 1)


def main() -> None:
    """Sweep as many points as the argument says and print the peak in bytes; without one, print a table."""
    if len(sys.argv) > 1:
        grid = space(int(sys.argv[1]))
        sweep_all(grid)
        kilobyte = 1 if sys.platform == "darwin" else 1024  # the unit of ru_maxrss
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kilobyte)
        return
    print(f"{'points':>12} {'peak MB':>9} {'seconds':>8}")
    for points in (10**5, 10**6, 10**7, 10**8):
        peak, seconds = peak_bytes(points)
        print(f"{space(points).points:>12} {peak / 1e6:>9.1f} {seconds:>8.1f}")


if __name__ == "__main__":
    main()
