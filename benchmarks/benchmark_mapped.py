"""A step at level `mapped` on many designs of a chip with many cores: steps a second.

    pytest benchmarks/benchmark_mapped.py

A point is one decode step of Llama-3.1-70B on one design, all its kernels: products with tile and split chosen by cost, attention
with its split, vector kernels. One process; designs are independent, so that a second core doubles them.
"""

import numpy as np
import pytest

from ridgeline.api import load_chip, load_model, load_precision
from ridgeline.catalogue.families import family_of
from ridgeline.costs.ideal import Machine
from ridgeline.estimate import estimate, operation_costs, step_operations
from ridgeline.mapping.many_core import Method, Shape, engine, place_product
from ridgeline.specs.base import quantities, with_quantity
from ridgeline.specs.scenario import Scenario

pytest.importorskip("pytest_benchmark")

DESIGNS = 2000  # of a block, as sweeps take them
VARIED = ("memory.hbm.bandwidth", "memory.hbm.latency", "memory.l2.capacity", "matrix_unit.rate.bf16", "package.power")
STEP = Scenario(phase="decode", batch=64, context=4096)


def designs(*, cores: bool):
    random = np.random.default_rng(2)
    chip = base = load_chip("h100-sxm")
    for path in VARIED:
        chip = with_quantity(chip, path, quantities(base)[path] * random.uniform(0.5, 2.0, DESIGNS))
    if cores:
        chip = with_quantity(chip, "cores.count", random.choice([64.0, 96.0, 108.0, 132.0, 160.0, 192.0, 256.0], DESIGNS))
    return chip


def test_shapes(benchmark):
    """4096 mixed shapes on one chip, all candidates costed."""
    chip = load_chip("h100-sxm")
    family, random = family_of(chip.family), np.random.default_rng(1)
    m, n, k = (2.0 ** random.integers(0, 15, 4096) for _ in range(3))
    shape = Shape(1.0, m, n, k, 2.0, 2.0, 2.0)
    found = benchmark(place_product, engine(chip, family, "bf16"), family, shape, Method(), chip.matrix_unit.tiles)
    assert (found.time > 0).all()
    benchmark.extra_info["products_per_second"] = 4096 / benchmark.stats.stats.median


@pytest.mark.parametrize("cores", [False, True], ids=["rates", "rates and cores"])
def test_designs(benchmark, cores):
    """One decode step of 64 sequences on 2000 designs of an H100, drawn at random; then with seven counts of cores among them."""
    chip, model = designs(cores=cores), load_model("llama-3.1-70b")
    precision = load_precision(None, model)

    def step():
        machine = Machine.of(chip, precision.accumulate)
        rows = operation_costs(machine, "mapped", step_operations(model, STEP, precision), "best")
        return sum(time * operation.count for operation, _, time in rows)

    assert benchmark(step).shape == (DESIGNS,)
    benchmark.extra_info["points_per_second"] = DESIGNS / benchmark.stats.stats.median


def test_one(benchmark):
    """One scenario of an 80-layer model on one chip, with its breakdown."""
    chip, model = load_chip("h100-sxm"), load_model("llama-3.1-70b")
    found = benchmark(estimate, chip, model, STEP, load_precision(None, model), level="mapped")
    assert found.level == "mapped"
