"""NSGA-II beside random search: the same points as a sweep has, the same seed the same answer, and how far each comes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ridgeline.api.explore import read_space
from ridgeline.errors import InputError
from ridgeline.search.explore import Space, columns_of, evaluate_block, traced_columns
from ridgeline.search.gradient import can_descend, descend, precise
from ridgeline.search.optimise import evaluate, evolve, hypervolumes, random_search

pytest.importorskip("pymoo", reason="NSGA-II is pymoo's: `pip install 'ridgeline[optimise]'`")

SPACE = """
keep = "all"
constraints = ["time <= 12 ms"]
[chip]
base = ["h100-sxm", "a100-sxm-80gb"]
memory.hbm.bandwidth = { from = "1 TB/s", to = "8 TB/s", count = 30, spacing = "log" }
"matrix_unit.rate.bf16" = { from = "100 TFLOP/s", to = "2 PFLOP/s", count = 30, spacing = "log" }
[scenario]
model = "llama-3.1-8b"
batch = "1:24"
context = 1024
[derived]
worth = "memory.hbm.bandwidth / 1e12 + matrix_unit.rate.bf16 / 1e14"
[objectives]
minimise = ["time", "worth"]
maximise = ["tokens_per_second"]
"""


@pytest.fixture
def space(tmp_path: Path) -> Space:
    path = tmp_path / "space.toml"
    path.write_text(SPACE, encoding="utf-8")
    return read_space(path)


def test_points_are_those_of_a_sweep(space: Space):
    grid, most = space.grid, 5000
    blocks = [evaluate_block(space, grid, number, most) for number in range(grid.count_blocks(most) * 2)]
    whole = {name: np.concatenate([one.rows[name] for one in blocks]) for name in (*space.objectives, "point", "feasible")}
    order = np.argsort(whole["point"])
    tried = random_search(space, 3000, seed=1)
    for name in space.objectives:
        np.testing.assert_array_equal(tried.columns[name], whole[name][order][tried.point])
    np.testing.assert_array_equal(tried.feasible, whole["feasible"][order][tried.point])
    assert 0 < tried.feasible.mean() < 1


def test_the_same_seed_gives_the_same_points(space: Space):
    first, again = evolve(space, 600, seed=3, population=100), evolve(space, 600, seed=3, population=100)
    np.testing.assert_array_equal(first.point, again.point)
    assert len(first.point) == 600
    assert len(random_search(space, 600, seed=3).point) == 600


def test_neither_search_beats_the_front_and_evolution_comes_nearer(space: Space):
    """Of 43 200 points 1 200 are tried: over three seeds NSGA-II must not be worse than chance on the mean."""
    exact = evaluate(space, np.arange(space.points))
    shares = []
    for seed in range(3):
        whole, evolved, drawn = hypervolumes(space, [exact, evolve(space, 1200, seed, 100), random_search(space, 1200, seed)])
        assert 0.0 < drawn <= whole * (1 + 1e-9)
        assert 0.0 < evolved <= whole * (1 + 1e-9)
        shares.append((evolved / whole, drawn / whole))
    evolved, drawn = np.mean(shares, axis=0)
    assert evolved >= drawn
    assert evolved > 0.9


def test_gradients_come_nearer_than_chance(space: Space):
    """As many points, each with its gradient: over three seeds the front found is not worse than that of chance, and is a front."""
    pytest.importorskip("jax", reason="gradients are JAX's: `pip install 'ridgeline[jax]'`")
    space = replace(space, groups=space.groups[:1])
    exact = evaluate(space, np.arange(space.points))
    shares, compiled = [], {}
    for seed in range(3):
        found = descend(space, 800, seed, compiled)
        assert len(found.point) == 800
        whole, slopes, drawn = hypervolumes(space, [exact, found, random_search(space, 800, seed)])
        assert 0.0 < slopes <= whole * (1 + 1e-9)
        shares.append((slopes / whole, drawn / whole))
    slopes, drawn = np.mean(shares, axis=0)
    assert slopes >= drawn
    assert slopes > 0.95


def test_columns_have_gradients(space: Space):
    """The slope of a column along an axis is that of a central difference of the same column, to 1e-4."""
    jax = pytest.importorskip("jax", reason="gradients are JAX's: `pip install 'ridgeline[jax]'`")
    base = {"memory.hbm.bandwidth": 3e12, "matrix_unit.rate.bf16": 5e14, "batch": 8.0}
    for name in ("memory.hbm.bandwidth", "matrix_unit.rate.bf16"):

        def log_time(log_value, name=name):
            moved = {**base, name: jax.numpy.exp(log_value)}
            return jax.numpy.log(traced_columns(space, space.groups[0], moved, ["time"])["time"])

        with precise(jax):
            slope = float(jax.grad(log_time)(jax.numpy.log(base[name])))
        ends = [
            float(columns_of(space, space.groups[0], {**base, name: base[name] * factor}, ["time"])[0]["time"])
            for factor in (1 / 1.0001, 1.0001)
        ]
        assert slope == pytest.approx(np.log(ends[1] / ends[0]) / (2 * np.log(1.0001)), abs=1e-4)


def test_spaces_without_gradients(space: Space):
    pytest.importorskip("jax", reason="gradients are JAX's: `pip install 'ridgeline[jax]'`")
    for other in (replace(space, level="mapped"), replace(space, axes={"batch": (1.0,)})):
        assert not can_descend(other)
        with pytest.raises(InputError, match="has no gradients"):
            descend(other, 10, 0)
    assert can_descend(space)
