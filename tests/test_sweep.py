"""Sweeps: equal to single estimates whatever the block, and in memory bounded by the block."""

import tracemalloc
from itertools import product
from typing import Any

import numpy as np
import pytest

from ridgeline.api import load_chip, load_model
from ridgeline.errors import InputError
from ridgeline.estimate import estimate
from ridgeline.search.space import Grid, parse_range
from ridgeline.search.sweep import place, sweep
from ridgeline.specs.precision import Precision
from ridgeline.specs.scenario import Scenario

CHIP, MODEL, BF16 = load_chip("h100-sxm"), load_model("llama-3.1-8b"), Precision.parse("bf16")
SCENARIO = Scenario(phase="decode", batch=1.0, context=1024.0)
AXES = {
    "memory.hbm.bandwidth": [1e12, 3e12, 9e12],
    "matrix_unit.rate.bf16": [1e14, 1e15],
    "batch": [1.0, 7.0, 64.0, 300.0],
    "context": [16.0, 4096.0],
}


def collected(grid: Grid, block: int, model: Any = MODEL) -> dict[str, Any]:
    """The sweep's times and energies, put together."""
    whole = {name: np.full(grid.shape, np.nan) for name in ("time", "time_upper", "energy")}
    for part in sweep(CHIP, model, SCENARIO, BF16, grid, block=block):
        for name, target in whole.items():
            target[part.block.place] = getattr(part.totals, name)
    return whole


@pytest.mark.parametrize("model", ["llama-3.1-8b", "mixtral-8x7b"])
def test_a_sweep_equals_single_estimates(model: str):
    grid = Grid.of(AXES)
    found = collected(grid, 5, load_model(model))
    for index, values in zip(np.ndindex(*grid.shape), product(*AXES.values()), strict=True):
        chip, scenario = place(CHIP, SCENARIO, dict(zip(AXES, values, strict=True)))
        one = estimate(chip, load_model(model), scenario, BF16)
        assert type(one.time) is float
        for name, whole in found.items():
            assert whole[index] == pytest.approx(getattr(one, name), rel=1e-12)


@pytest.mark.parametrize("block", [1, 3, 8, 47, 10_000])
def test_the_size_of_a_block_does_not_matter(block: int):
    grid = Grid.of(AXES)
    expected, found = collected(grid, 48), collected(grid, block)
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name])


@pytest.mark.parametrize(("shape", "most"), [((3, 4, 5), 7), ((100, 1), 3), ((2, 3), 1), ((7,), 100)])
def test_blocks_cover_a_grid_once(shape: tuple[int, ...], most: int):
    grid = Grid.of({f"axis {index}": range(length) for index, length in enumerate(shape)})
    covered = np.zeros(shape)
    for block in grid.blocks(most):
        assert block.points <= most
        covered[block.place] += 1
        assert np.broadcast_shapes(*(value.shape for value in block.values.values())) == covered[block.place].shape
    assert np.all(covered == 1)


def peak_of(points: int, block: int = 16_384) -> int:
    """Bytes that Python and NumPy held at most during a sweep that keeps one number of each block."""
    grid = Grid.of(
        {"memory.hbm.bandwidth": np.geomspace(5e11, 8e12, points // 1000).tolist(), "batch": range(1, 101), "context": range(1, 11)}
    )
    assert grid.points == points
    tracemalloc.start()
    try:
        fastest = min(float(part.totals.time.min()) for part in sweep(CHIP, MODEL, SCENARIO, BF16, grid, block=block))
        assert fastest > 0.0
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_is_that_of_a_block():
    """Ten times the points in the same blocks: the same memory within 20 %."""
    peak_of(32_000)  # whatever is loaded on first use
    small, large = peak_of(100_000), peak_of(1_000_000)
    assert large <= 1.2 * small


def test_progress_tells_the_points_done():
    done: list[int] = []
    grid = Grid.of({"batch": range(1, 11)})
    list(sweep(CHIP, MODEL, SCENARIO, BF16, grid, block=4, progress=done.append))
    assert done == [4, 4, 2]


def test_an_axis_that_is_no_quantity_is_named_with_the_nearest():
    with pytest.raises(InputError, match=r"memory\.hbm\.bandwith.*memory\.hbm\.bandwidth"):
        next(sweep(CHIP, MODEL, SCENARIO, BF16, Grid.of({"memory.hbm.bandwith": [1.0]})))


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("5", [5]),
        ("1,2,4", [1, 2, 4]),
        ("1:512:x2", [2**power for power in range(10)]),
        ("1:100:x10", [1, 10, 100]),
        ("0:1:0.1", [step / 10 for step in range(11)]),
        ("1:4", [1, 2, 3, 4]),
        ("3:3", [3]),
        ("1:10:4", [1, 5, 9]),
    ],
)
def test_ranges(text: str, values: list[float]):
    assert parse_range(text) == pytest.approx(values, rel=1e-12)


@pytest.mark.parametrize("text", ["", "a", "4:1", "1:8:0", "1:8:x1", "0:8:x2", "1:2:3:4", "1,,2", "1:1e12"])
def test_ranges_that_cannot_be_read(text: str):
    with pytest.raises(InputError, match=r"batch|range"):
        parse_range(text, "batch")
