"""Speed of the exact tile search: the target is 50 µs a matrix product, median, over 4 000 mixed transformer shapes in a batch."""

import random

import pytest

from ridgeline.costs.access import AccessEnergy
from ridgeline.costs.tiled import Array, Buffers, Layer, Memory
from ridgeline.mapping.tiling import product, tile_batch

WIDTHS = [
    (512, 2048, 8),
    (768, 3072, 12),
    (1024, 4096, 16),
    (2048, 8192, 16),
    (4096, 11008, 32),
    (5120, 13824, 40),
    (8192, 28672, 64),
]
MACHINE = Array(16.0, 16.0), Buffers(256 * 1024.0, 64 * 1024.0), Memory(16.0, latency=100.0, start=20.0)
ENERGY = AccessEnergy(dram=160e-12, scratchpad=2.4e-12, accumulator=1.6e-12, register=0.08e-12, mac=0.3e-12)


def shapes(count: int) -> list[Layer]:
    """Projections, feed-forward layers and attention products of seven widths at random numbers of tokens, all different."""
    chance, found = random.Random(1), dict[Layer, None]()
    while len(found) < count:
        width, inner, heads = chance.choice(WIDTHS)
        tokens = chance.choice([1, 8, 32, 128, 512, 1024, 2048, 4096]) + chance.randrange(64)
        head = width // heads
        for m, n, k in [(tokens, width, width), (tokens, inner, width), (tokens, width, inner), (tokens, tokens, head)]:
            found[product(m, n, k)] = None
    return list(found)[:count]


@pytest.mark.parametrize("objective", ["latency", "energy", "edp"])
def test_batch_of_products(benchmark, objective):
    layers = shapes(4000)
    tile_batch(layers[:4], *MACHINE, energy=ENERGY, objective=objective)  # compiles, or reads what was compiled before
    found = benchmark.pedantic(tile_batch, args=(layers, *MACHINE), kwargs={"energy": ENERGY, "objective": objective}, rounds=5)
    benchmark.extra_info["microseconds a product"] = benchmark.stats.stats.median / len(layers) * 1e6
    assert all(one.optimal for one in found)
