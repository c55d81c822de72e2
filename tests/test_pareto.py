"""The Pareto filter against its definition, point by point."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ridgeline.errors import InputError
from ridgeline.search import pareto as module
from ridgeline.search.pareto import merge, pareto


def by_definition(points: Any, senses: Any, feasible: Any) -> list[bool]:
    """Each point against each other, as the definition says."""
    signs = np.array([1.0 if one == "min" else -1.0 for one in senses])
    rows = [tuple(row) for row in np.asarray(points, dtype=float).T * signs]
    usable = [ok and not any(value != value for value in row) for row, ok in zip(rows, feasible, strict=True)]

    def dominates(one: Any, other: Any) -> bool:
        return all(a <= b for a, b in zip(one, other, strict=True)) and any(a < b for a, b in zip(one, other, strict=True))

    return [
        usable[i] and not any(usable[j] and dominates(rows[j], rows[i]) for j in range(len(rows)) if j != i)
        for i in range(len(rows))
    ]


VALUES = st.one_of(st.integers(0, 4).map(float), st.floats(-1e300, 1e300), st.sampled_from([np.inf, -np.inf, np.nan, 0.0, -0.0]))


@st.composite
def clouds(draw: Any) -> tuple[Any, list[str], list[bool]]:
    objectives, count = draw(st.integers(1, 5)), draw(st.integers(0, 40))
    points = [draw(st.lists(VALUES, min_size=count, max_size=count)) for _ in range(objectives)]
    senses = [draw(st.sampled_from(["min", "max"])) for _ in range(objectives)]
    return points, senses, draw(st.lists(st.booleans(), min_size=count, max_size=count))


@settings(max_examples=300, deadline=None)
@given(clouds())
def test_it_is_what_the_definition_says(cloud: Any):
    points, senses, feasible = cloud
    assert pareto(points, senses, feasible).tolist() == by_definition(points, senses, feasible)


@settings(max_examples=100, deadline=None)
@given(clouds(), st.integers(0, 40))
def test_merged_fronts_of_two_batches_are_the_front_of_both(cloud: Any, cut: int):
    points, senses, _ = cloud
    points = np.asarray(points, dtype=float)
    cut = min(cut, points.shape[1])
    parts = [points[:, :cut], points[:, cut:]]
    masks = [pareto(part, senses) for part in parts]
    kept = merge(parts[0][:, masks[0]], parts[1][:, masks[1]], senses)
    found = [index for mask, stays, low in zip(masks, kept, (0, cut), strict=True) for index in low + np.flatnonzero(mask)[stays]]
    assert found == np.flatnonzero(pareto(points, senses)).tolist()


@pytest.mark.parametrize("objectives", [1, 2, 3, 4])
@pytest.mark.parametrize("shape", ["cloud", "front", "ties"])
def test_many_points_with_and_without_thinning_out(objectives: int, shape: str):
    """Thinning out only starts beyond some hundred points: the definition, vectorised, is the judge."""
    random = np.random.default_rng(objectives)
    points = random.random((objectives, 3000))
    if shape == "front":  # all on one plane: none dominates another
        points = points / points.sum(axis=0)
    if shape == "ties":
        points = np.floor(points * 8)
    no_worse = np.ones((3000, 3000), dtype=bool)
    better = np.zeros((3000, 3000), dtype=bool)
    for row in points:
        no_worse &= row[:, None] <= row[None, :]
        better |= row[:, None] < row[None, :]
    expected = ~(no_worse & better).any(axis=0)
    np.testing.assert_array_equal(pareto(points), expected)
    assert module._FEW < 3000
    if shape == "ties":
        assert expected.sum() > len(np.unique(points[:, expected], axis=1).T)  # equals stay together


def test_orders_of_points_and_of_objectives_do_not_matter():
    random = np.random.default_rng(1)
    points, shuffled = random.random((3, 5000)), random.permutation(5000)
    expected = pareto(points)
    np.testing.assert_array_equal(pareto(points[::-1]), expected)
    np.testing.assert_array_equal(pareto(points[:, shuffled]), expected[shuffled])


@pytest.mark.parametrize(
    ("points", "senses", "said"),
    [([], None, "at least one"), ([[1.0]], ["up"], "min"), ([[1.0], [1.0, 2.0]], None, "same points"), ([[1.0]], ["min"] * 2, "1")],
)
def test_bad_input(points: Any, senses: Any, said: str):
    with pytest.raises(InputError, match=said):
        pareto(points, senses)
