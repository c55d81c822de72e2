"""Speed of the planner: services a second, and how many partitions they are of.

python benchmarks/benchmark_plan.py          Llama-3.1-70B on 64 H100 in three precisions, DeepSeek-V3 on 16 and 64 H200
python benchmarks/benchmark_plan.py 2        the same by two processes

A plan is a partition in a precision at a batch, with a chunk and a draft length, in steady state; a split into two pools is one
more for each prompt worker and decode point that nothing beats. CPU seconds are of this process alone.
"""

import sys
import time

from ridgeline.api.plan import plan_chips

MANY = {
    "drafts": (1, 2, 3, 4),
    "acceptance": 0.7,
    "draft_share": 0.02,
    "chunks": (0, 256, 512, 1024),
    "prompt": 2048,
    "output": 512,
}
CASES = (
    ("llama-3.1-70b", "dgx-h100", 64, ["bf16", "fp8", "w8a16"], {"modes": ("aggregated",), **MANY}),
    ("llama-3.1-70b", "dgx-h100", 64, ["bf16", "fp8", "w8a16"], MANY),
    ("deepseek-v3", "dgx-h200", 16, ["fp8-block"], {"modes": ("aggregated",), **MANY}),
    ("deepseek-v3", "dgx-h200", 64, ["fp8-block"], {}),
)


def main() -> None:
    """Print a line for each case."""
    workers = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    for model, system, chips, precisions, asked in CASES:
        wall, cpu = time.perf_counter(), time.process_time()
        found = plan_chips(model, system, chips, precision=precisions, workers=workers, **asked)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        partitions = sum(one.mode == "aggregated" for one in found.plans) + len(found.refused)
        print(f"{model} on {chips}: {found.evaluated:>9,} plans of {partitions:,} partitions", end="")
        print(f" in {wall:6.1f} s ({cpu:6.1f} CPU s here): {found.evaluated / wall:>9,.0f} plans/s; best {found.plans[0].plan}")


if __name__ == "__main__":
    main()
