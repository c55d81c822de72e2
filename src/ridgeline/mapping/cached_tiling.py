"""The tiling of a nest behind a cache: what is still there follows from reuse distance, so every order may be best.

The argument that leaves three orders (`tiling`) holds where one tile of each tensor stays; a cache of the least recently used keeps
whatever it has room for, also across several loops. All orders of the loops that move are costed, over a grid of tile sizes: one
size for each number of tiles, geometrically thinned where there are many. The best of the grid is no proven optimum.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations
from math import ceil, factorial
from typing import Any

import numpy as np

from ridgeline.costs.access import AccessEnergy, count_folds, nest_energy, on_chip_bytes
from ridgeline.costs.tiled import LOOPS, ORDERS, Array, Buffers, Layer, Memory, Tile, tiled_cost
from ridgeline.errors import InputError
from ridgeline.mapping.tiling import DATAFLOWS, OBJECTIVES, cost_tiling, units
from ridgeline.quantities import Count
from ridgeline.results import Tiling

_TILES = 200_000  # costed in all orders together, about


def tile_behind_cache(
    layer: Layer,
    array: Array,
    buffers: Buffers,
    memory: Memory,
    *,
    energy: AccessEnergy | None = None,
    dataflow: str = "weight-stationary",
    objective: str = "latency",
) -> Tiling:
    """Return the best tiling of a grid, in any order; `InfeasibleError` where not even the smallest tile fits.

    Filters stay whole. Two tiles of each tensor have room at once, one in use and one that arrives.

    >>> layer = Layer(n=1.0, k=64.0, c=64.0, p=64.0, q=1.0, r=1.0, s=1.0, stride=1.0)
    >>> cache = Buffers(scratchpad=65536.0, accumulator=8192.0), Memory(4.0, cached=1.0)
    >>> tile_behind_cache(layer, Array(16.0, 16.0), *cache).traffic["dram"]["weights"]  # 4 KiB, which no other bytes displace
    4096.0
    """
    if objective not in OBJECTIVES:
        raise InputError(f"unknown objective {objective!r}: known are {', '.join(OBJECTIVES)}")
    flow = DATAFLOWS.index(dataflow)
    cost_tiling(layer, Tile(1.0, 1.0, 1.0, 1.0, layer.r, layer.s), ORDERS[0], array, buffers, memory, dataflow=dataflow)
    moving = [letter for letter in "kcpq" if getattr(layer, letter) > 1.0]
    most = max(2, int((_TILES / factorial(len(moving))) ** (1.0 / max(len(moving), 1))))
    steps = dict(zip(LOOPS, units(array, flow), strict=True))
    sizes = [_sizes(getattr(layer, letter), steps[letter], most if letter in "kcpq" else 1) for letter in LOOPS]
    tile = Tile(*(one.ravel() for one in np.meshgrid(*sizes)))
    on_chip = on_chip_bytes(layer, count_folds(layer, tile, array, flow), buffers, flow)
    best: tuple[float, float, int, str] | None = None
    for order in _orders(moving):
        cost = tiled_cost(layer, tile, ORDERS.index(order), array, buffers, memory, flow)
        bare = energy is None or objective == "traffic"
        spent = nest_energy(layer, on_chip, cost, AccessEnergy(dram=1.0) if bare or energy is None else energy)
        primary, other = _ranked(objective, cost.cycles, spent)
        primary = np.where(np.asarray(cost.fits) > 0.0, primary, np.inf)
        place = int(np.lexsort((other, primary))[0])
        found = (float(primary[place]), float(np.broadcast_to(other, primary.shape)[place]), place, order)
        best = found if best is None or found[:2] < best[:2] else best
    if best is None:
        raise InputError("no order of the loops")
    chosen = Tile(*(float(one[best[2]]) for one in tile))
    one = cost_tiling(layer, chosen, best[3], array, buffers, memory, dataflow=dataflow, energy=energy)
    return replace(one, objective=objective, value=best[0], examined=float(tile.k.size * factorial(len(moving))))


def _orders(moving: Sequence[str]) -> list[str]:
    still = "".join(letter for letter in LOOPS if letter not in moving)
    return [still + "".join(order) for order in permutations(moving)]


def _ranked(objective: str, cycles: Any, spent: Any) -> tuple[Any, Any]:
    if objective == "latency":
        return cycles, spent
    return (cycles * spent, spent) if objective == "edp" else (spent, cycles)


def _sizes(bound: Count, unit: Count, most: int) -> Any:
    """Return tile sizes of a loop, the smallest of each number of tiles; of more than `most`, some over equal ratios.

    >>> _sizes(100.0, 16.0, 9).tolist()  # 7 blocks in 7, 4, 3, 2 and 1 tiles
    [16.0, 32.0, 48.0, 64.0, 100.0]
    """
    if most <= 1:
        return np.array([bound])
    blocks = ceil(bound / unit)
    counts = np.unique(np.round(np.geomspace(1.0, blocks, min(4 * most, blocks))))
    sizes = np.unique(np.minimum(np.ceil(blocks / counts) * unit, bound))
    if len(sizes) > most:
        sizes = sizes[np.unique(np.round(np.linspace(0, len(sizes) - 1, most)).astype(int))]
    return sizes
