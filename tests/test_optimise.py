"""NSGA-II beside random search: the same points as a sweep has, the same seed the same answer, and how far each comes."""

from pathlib import Path

import numpy as np
import pytest

from ridgeline.api.explore import read_space
from ridgeline.search.explore import Space, evaluate_block
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
