"""Products on many-core chips: choices a second, over shapes and over designs.

    pytest benchmarks/benchmark_mapped.py

A point is one decode step of Llama-3.1-70B on one design: five products, each with its tile and split chosen by cost.
"""

import numpy as np
import pytest

from ridgeline.api import load_chip
from ridgeline.catalogue.families import family_of
from ridgeline.mapping.many_core import Method, Shape, engine, place_product
from ridgeline.specs.base import quantities, with_quantity

pytest.importorskip("pytest_benchmark")

# n and k of the products of a layer and of the output head.
STEP = ((10240, 8192), (8192, 8192), (57344, 8192), (8192, 28672), (128256, 8192))
DESIGNS = 2000


def test_shapes(benchmark):
    """4096 mixed shapes on one chip, all candidates costed."""
    chip = load_chip("h100-sxm")
    family, random = family_of(chip.family), np.random.default_rng(1)
    m, n, k = (2.0 ** random.integers(0, 15, 4096) for _ in range(3))
    shape = Shape(1.0, m, n, k, 2.0, 2.0, 2.0)
    found = benchmark(place_product, engine(chip, family, "bf16"), family, shape, Method(), chip.matrix_unit.tiles)
    assert (found.time > 0).all()
    benchmark.extra_info["products_per_second"] = 4096 / benchmark.stats.stats.median


def test_designs(benchmark):
    """One decode step of 64 sequences on 2000 designs of an H100, bandwidth and peak drawn at random."""
    random = np.random.default_rng(2)
    chip = load_chip("h100-sxm")
    for path in ("memory.hbm.bandwidth", "matrix_unit.rate.bf16", "package.power"):
        chip = with_quantity(chip, path, quantities(chip)[path] * random.uniform(0.5, 2.0, DESIGNS))
    family = family_of(chip.family)
    machine = engine(chip, family, "bf16")

    def step():
        shapes = (Shape(1.0, 64.0, float(n), float(k), 2.0, 2.0, 2.0) for n, k in STEP)
        return sum(place_product(machine, family, shape, Method(), chip.matrix_unit.tiles).time for shape in shapes)

    time = benchmark(step)
    assert time.shape == (DESIGNS,)
    benchmark.extra_info["points_per_second"] = DESIGNS / benchmark.stats.stats.median
