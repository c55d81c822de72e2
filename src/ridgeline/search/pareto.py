"""The Pareto set: the points that no other point dominates, exactly, for any number of objectives.

A point dominates another where it is no worse in every objective and better in one. Equal points do not dominate one another:
all of them stay. Infeasible points, and points without a number in some objective, neither stay nor dominate.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from ridgeline.errors import InputError

Sense = Literal["min", "max"]
Matrix = np.ndarray[tuple[int, int], np.dtype[np.float64]]
Column = np.ndarray[tuple[int], np.dtype[np.float64]]
Mask = np.ndarray[tuple[int], np.dtype[np.bool_]]
Index = np.ndarray[tuple[int], np.dtype[np.intp]]

_FEW = 512  # up to here points are compared each with each
_PIVOTS = 64  # points at most that the rest is thinned out with


def pareto(objectives: Sequence[Any] | Any, senses: Sequence[Sense] | None = None, feasible: Any = None) -> Mask:
    """Return a mask of the points that no other point dominates; `objectives` holds an array of values for each objective.

        i stays  ⟺  there is no j with oₖ(j) ≤ oₖ(i) for all k and oₖ(j) < oₖ(i) for some k   (≥ and > for `max`)

    Exact, in O(n log n) for up to three objectives [kung1975maxima] (Theorem 3.1); beyond, O(n · f) with f points on the front.

    >>> pareto([[1.0, 2.0, 3.0, 2.0], [3.0, 1.0, 3.0, 1.0]]).tolist()  # the third is worse than the first in one, in none better
    [True, True, False, True]
    >>> pareto([[1.0, 2.0, 3.0], [1.0, 2.0, 2.0]], ["min", "max"]).tolist()
    [True, True, False]
    """
    columns = _oriented(objectives, senses)
    usable = ~np.isnan(columns[0])
    for column in columns[1:]:
        usable &= ~np.isnan(column)
    if feasible is not None:
        usable &= np.broadcast_to(np.asarray(feasible, dtype=bool), usable.shape)
    indices = _thinned(columns, np.flatnonzero(usable))
    kept = np.zeros(len(usable), dtype=bool)
    kept[indices[_front(np.column_stack([column[indices] for column in columns]))]] = True
    return kept


def merge(
    first: Sequence[Any] | Any, second: Sequence[Any] | Any, senses: Sequence[Sense] | None = None, feasible: Any = None
) -> tuple[Mask, Mask]:
    """Return which points of two batches stay when they are put together: front(A ∪ B) = front(front(A) ∪ front(B)).

    >>> kept, added = merge([[1.0, 2.0], [2.0, 1.0]], [[1.0], [1.0]])
    >>> kept.tolist(), added.tolist()
    ([False, False], [True])
    """
    columns = [np.concatenate([np.ravel(one), np.ravel(two)]) for one, two in zip(first, second, strict=True)]
    kept = pareto(columns, senses, feasible)
    count = np.size(first[0])
    return kept[:count], kept[count:]


def _oriented(objectives: Sequence[Any] | Any, senses: Sequence[Sense] | None) -> list[Column]:
    """Return the values of objectives that are all minimised."""
    columns = [np.ravel(np.asarray(one, dtype=np.float64)) for one in objectives]
    if not columns:
        raise InputError("a Pareto set needs at least one objective")
    wanted = ["min"] * len(columns) if senses is None else list(senses)
    if len(wanted) != len(columns) or not set(wanted) <= {"min", "max"}:
        raise InputError(f"senses {wanted}: `min` or `max` is wanted for each of the {len(columns)} objectives")
    if len({len(one) for one in columns}) != 1:
        raise InputError(f"objectives of {', '.join(str(len(one)) for one in columns)} points: they must be of the same points")
    return [-column if sense == "max" else column for column, sense in zip(columns, wanted, strict=True)]


def _dominated_by(columns: Sequence[Column], pivot: Sequence[float]) -> Mask:
    """Say which points one point dominates: it is no worse in all, and not their equal."""
    no_worse, equal = columns[0] >= pivot[0], columns[0] == pivot[0]
    for column, value in zip(columns[1:], pivot[1:], strict=True):
        no_worse &= column >= value
        equal &= column == value
    return no_worse & ~equal


def _thinned(columns: Sequence[Column], indices: Index) -> Index:
    """Return what is left when good points have removed all that they dominate; where many lie on the front, little is removed."""
    if len(indices) <= _FEW:
        return indices
    left = [column[indices] for column in columns]
    scale = [_scaled(column) for column in left]
    useless = 0
    for turn in range(_PIVOTS):
        weights = _weights(turn, len(columns))
        best = int(np.argmin(sum(weight * one for weight, one in zip(weights, scale, strict=True))))
        stays = ~_dominated_by(left, [float(column[best]) for column in left])
        removed = len(indices) - int(np.count_nonzero(stays))
        useless = useless + 1 if removed * 50 < len(indices) else 0
        if removed:
            left, scale = [column[stays] for column in left], [column[stays] for column in scale]
            indices = indices[stays]
        if len(indices) <= _FEW or useless >= 3:
            break
    return indices


def _scaled(column: Column) -> Column:
    """Return an objective from 0 to 1, so that a weighted sum of several ranks points; where some are infinite, by their order."""
    low, high = float(column.min()), float(column.max())
    if not np.isfinite(high - low):
        column = np.unique(column, return_inverse=True)[1].astype(np.float64)
        low, high = 0.0, float(column.max())
    return (column - low) * (1.0 / (high - low) if high - low > 1e-300 else 0.0)


def _weights(turn: int, objectives: int) -> Any:
    """Return positive weights that differ from turn to turn: all equal first, then points of a Kronecker sequence."""
    steps = np.arange(1, objectives + 1) ** 0.5
    return np.ones(objectives) if turn == 0 else np.exp(4.0 * (((turn * 0.618034 + steps * turn) % 1.0) - 0.5))


def _front(points: Matrix) -> Mask:
    """Return which points are on the front."""
    if not len(points):
        return np.zeros(0, dtype=bool)
    order = np.lexsort(points.T[::-1])
    ordered = points[order]
    first = np.ones(len(points), dtype=bool)  # of equal points
    first[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    unique = ordered[first]
    match points.shape[1]:
        case 1:
            kept = unique[:, 0] == unique[0, 0]
        case 2:
            kept = _front_of_two(unique)
        case 3:
            kept = _front_of_three(unique)
        case _:
            kept = _front_of_many(unique)
    found = np.zeros(len(points), dtype=bool)
    found[order] = kept[np.cumsum(first) - 1]
    return found


# Points below are unique and in lexicographic order: what dominates a point comes before it, and what comes before it and is no
# worse in every objective but the first dominates it.


def _front_of_two(points: Matrix) -> Mask:
    best_before = np.concatenate([[np.inf], np.minimum.accumulate(points[:-1, 1])])
    kept = points[:, 1] < best_before
    kept[0] = True
    return kept


def _front_of_three(points: Matrix) -> Mask:
    """Halve the points again and again; in each pair of halves the first may dominate the second, by the other two objectives.

    A pair's points are in the order of the second objective, the first half's before equals of the second's, so that the least
    third objective so far says which of the second half are dominated. All pairs of one size are treated at once.
    """
    if np.isinf(points).any():  # ranks are finite and have the same order
        points = np.column_stack([np.unique(points[:, place], return_inverse=True)[1] for place in range(3)]).astype(np.float64)
    count = len(points)
    size = 1 << (count - 1).bit_length() if count > 1 else 1
    third = np.full(size, np.inf)
    third[:count] = points[:, 2]
    second = np.full(size, np.inf)
    second[:count] = points[:, 1]
    dominated = np.zeros(size, dtype=bool)
    rows = np.argsort(second, kind="stable").reshape(1, size)
    while size > 1:
        size //= 2
        of_first = (rows & size) == 0
        heights = third[rows]
        least = np.minimum.accumulate(np.where(of_first, heights, np.inf), axis=1)
        worse = ~of_first & (heights >= least)
        dominated[rows[worse]] = True
        halves = np.stack([rows[of_first].reshape(-1, size), rows[~of_first].reshape(-1, size)], axis=1)
        rows = halves.reshape(-1, size)
    return ~dominated[:count]


def _front_of_many(points: Matrix, chunk: int = 1024) -> Mask:
    """Take chunks in order: the front so far removes what it dominates, then the chunk's points one another."""
    kept = np.zeros(len(points), dtype=bool)
    front = np.empty((0, points.shape[1]))
    for start in range(0, len(points), chunk):
        part = points[start : start + chunk]
        stays = np.ones(len(part), dtype=bool)
        for low in range(0, len(front), chunk):
            left = np.flatnonzero(stays)
            stays[left] = ~_any_no_worse(front[low : low + chunk], part[left])
        left = np.flatnonzero(stays)
        among = _no_worse(part[left], part[left])
        np.fill_diagonal(among, val=False)
        left = left[~among.any(axis=0)]
        kept[start + left] = True
        front = np.concatenate([front, part[left]])
    return kept


def _no_worse(first: Matrix, second: Matrix) -> Any:
    """Say for each pair whether the first is no worse in every objective."""
    found = first[:, None, 0] <= second[None, :, 0]
    for place in range(1, first.shape[1]):
        found &= first[:, None, place] <= second[None, :, place]
    return found


def _any_no_worse(first: Matrix, second: Matrix) -> Mask:
    return _no_worse(first, second).any(axis=0)
