"""Speed of exploring: points a second at `ideal`, the Pareto filter, plans.

python benchmarks/benchmark_explore.py               a table: a space of 1e7 points, the filter of 1e7 × 3, plans of 64 chips
python benchmarks/benchmark_explore.py 100000000     the same with so many points
"""

import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from ridgeline.api.explore import explore
from ridgeline.api.plan import plan_chips
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


def plan_many() -> None:
    """Every plan of DeepSeek-V3 on 64 chips, each over the batches that it divides."""
    start = time.perf_counter()
    found = plan_chips("deepseek-v3", "dgx-h200", 64, precision=["fp8-block", "bf16"])
    seconds = time.perf_counter() - start
    count = len(found.plans) + len(found.refused)
    print(f"plan {count} plans: {seconds:.2f} s, {count / seconds:,.0f} plans/s; best {found.plans[0].plan}")


def main() -> None:
    """Print the table."""
    points = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000
    for workers in (1, 2):
        explore_points(points, workers)
    filter_points(10_000_000)
    plan_many()


if __name__ == "__main__":
    main()
