"""The alpha-beta cost of every collective against messages over links, for all the sizes and groups that the docs report.

`python benchmarks/compare_collectives.py [TOPOLOGY…]` prints a row an algorithm: comparisons, how many are within 2 %, the worst
with its members and size. The cases are those of `tests/test_simulate_messages.py`, with more of each; minutes a topology.
"""

import importlib.util
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

COUNTS = (2, 3, 4, 5, 6, 7, 8, 12, 13, 16, 24, 31, 32, 48, 64)
SIZES = tuple(2.0**power for power in (10, 14, 18, 20, 22, 26, 30))
GRIDS = {
    "torus-2d": [(2, 2), (3, 2), (4, 4), (3, 5), (4, 6), (8, 8)],
    "torus-3d": [(2, 2, 2), (3, 3, 3), (4, 4, 4), (2, 3, 4), (4, 4, 2)],
    "mesh-2d": [(2, 2), (2, 3), (4, 4), (3, 5), (5, 6), (8, 8)],
    "mesh-3d": [(2, 2, 2), (3, 3, 3), (4, 4, 4), (2, 3, 4)],
}
LEAVES = [(2, 2), (4, 2), (4, 4), (3, 5), (8, 8)]
TOPOLOGIES = ("switch", "fat-tree", "fully-connected", "ring", *GRIDS)


def cases() -> Any:
    """Load the comparison from the tests, with every size and group."""
    path = Path(__file__).parents[1] / "tests" / "test_simulate_messages.py"
    spec = importlib.util.spec_from_file_location("test_simulate_messages", path)
    if spec is None or spec.loader is None:
        sys.exit(f"{path} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    module.COUNTS, module.GRIDS, module.LEAVES = COUNTS, GRIDS, LEAVES
    return module


def main(topologies: list[str]) -> None:
    """Print the rows of some topologies."""
    module, everything = cases(), list[float]()
    for topology in topologies or TOPOLOGIES:
        sizes = SIZES[::2] if topology in ("switch", "ring", "fully-connected") else SIZES
        for kind in ("all-reduce", "reduce-scatter", "all-gather", "all-to-all", "broadcast"):
            rows = defaultdict[str, list[tuple[float, int, float, bool]]](list)
            for name, count, size, error, correct in module.comparisons(topology, kind, sizes):
                rows[name].append((error, count, size, correct))
            for name, found in rows.items():
                worst = max(found, key=lambda one: abs(one[0]))
                near = sum(abs(one[0]) <= module.TOLERANCE for one in found)
                right = all(one[3] for one in found)
                print(
                    f"{topology:16} {kind:15} {name:19} {near:4}/{len(found):<4} {worst[0]:+.4f} {worst[1:3]} sums right: {right}",
                    flush=True,
                )
                everything += [abs(one[0]) for one in found]
    near = sum(one <= module.TOLERANCE for one in everything)
    print(f"{len(everything)} comparisons, {near / len(everything):.1%} within 2 %, worst {max(everything):.1%}")


if __name__ == "__main__":
    main(sys.argv[1:])
