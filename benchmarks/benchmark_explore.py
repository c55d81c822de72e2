"""Speed of exploring: points a second at `ideal` and at `mapped`, the Pareto filter.

python benchmarks/benchmark_explore.py               a table: a space of 1e7 points, one of 8e4 at `mapped`, the filter of 1e7 × 3
python benchmarks/benchmark_explore.py 100000000     the same with so many points
"""

import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from ridgeline.api.explore import explore
from ridgeline.search.pareto import pareto

SPACE = """
[chip]
base = "h100-sxm"
memory.hbm.bandwidth = {{ from = "1 TB/s", to = "8 TB/s", count = {count}, spacing = "log" }}
"matrix_unit.rate.bf16" = {{ from = "200 TFLOP/s", to = "4 PFLOP/s", count = 50, spacing = "log" }}

[scenario]
model = "llama-3.1-8b"
batch = "1:32"
context = "512:8192:512"

[[workload]]
name = "decode"
phase = "decode"
weight = 100

[[workload]]
name = "prefill"
phase = "prefill"
prompt = 2048
context = 0
batch = 1

[derived]
cost = "memory.hbm.bandwidth / 3.35e12 + matrix_unit.rate.bf16 / 1e15"

[objectives]
minimise = ["time", "cost"]
maximise = ["tokens_per_second"]
"""


def explore_points(points: int, workers: int) -> None:
    """Two workloads at `ideal`, all cores, the front kept."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "space.toml"
        path.write_text(SPACE.format(count=max(1, points // (50 * 32 * 16))), encoding="utf-8")
        start = time.perf_counter()
        found = explore(path, Path(folder) / "out", workers=workers)
        seconds = time.perf_counter() - start
    kilobyte = 1 if sys.platform == "darwin" else 1024
    most = [resource.getrusage(who).ru_maxrss * kilobyte / 1e6 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    rate = found.counts.points / seconds
    print(f"explore {found.counts.points:>12,} points, {workers} workers: {seconds:7.1f} s, {rate:12,.0f} points/s,", end=" ")
    print(f"front {len(found.pareto):,}, peak {most[0]:.0f} MB here, {most[1]:.0f} MB the largest worker")


def filter_points(points: int) -> None:
    """Random points in a cube, and points that all lie on one front."""
    random = np.random.default_rng(0)
    cloud = random.random((3, points))
    for name, values in (("cloud", cloud), ("plane", cloud[:, : points // 10] / cloud[:, : points // 10].sum(axis=0))):
        start = time.perf_counter()
        kept = pareto(values)
        print(f"pareto {name} {values.shape[1]:>10,} × 3: {time.perf_counter() - start:7.2f} s, {kept.sum():,} on the front")


MAPPED = """
level = "mapped"
[chip]
base = "h100-sxm"
memory.hbm.capacity = "400 GB"
memory.hbm.bandwidth = {{ from = "1 TB/s", to = "8 TB/s", count = 25, spacing = "log" }}
memory.hbm.latency = {{ from = "300 ns", to = "900 ns", count = 4 }}
memory.l2.capacity = {{ from = "30 MB", to = "100 MB", count = 10 }}
"matrix_unit.rate.bf16" = {{ from = "200 TFLOP/s", to = "4 PFLOP/s", count = 20, spacing = "log" }}
package.power = ["500 W", "600 W", "700 W", "800 W"]
cores.count = {cores}
[scenario]
model = "llama-3.1-70b"
{phase}
[objectives]
minimise = ["time"]
"""
DECODE, PREFILL = 'phase = "decode"\nbatch = 64\ncontext = 4096', 'phase = "prefill"\nbatch = 1\nprompt = 2048'


def explore_mapped() -> None:
    """One step of Llama-3.1-70B on each design of a chip with many cores, tiles and splits chosen for each; one process."""
    for name, phase, cores in (
        ("decode", DECODE, [132]),
        ("decode, two counts of cores", DECODE, [108, 132]),
        ("prefill", PREFILL, [132]),
    ):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "space.toml"
            path.write_text(MAPPED.format(phase=phase, cores=cores), encoding="utf-8")
            start, cpu = time.perf_counter(), time.process_time()
            found = explore(path, Path(folder) / "out")
            seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        points = found.counts.points
        print(f"mapped {name}: {points:,} points in {seconds:.2f} s, {points / seconds:,.0f} points/s, {points / cpu:,.0f} a CPU s")


def main() -> None:
    """Print the table."""
    points = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000
    for workers in (1, 2):
        explore_points(points, workers)
    explore_mapped()
    filter_points(10_000_000)


if __name__ == "__main__":
    main()
