"""Search of a space too large to enumerate: NSGA-II, and beside it random search with the same number of points.

Points are drawn from the space's own grid, so that both searches, and an exhaustive sweep, speak of the same points.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ridgeline.errors import InputError
from ridgeline.search.explore import Space, evaluate_points
from ridgeline.search.pareto import pareto


@dataclass(frozen=True, eq=False)
class Tried:
    """Points that a search has computed: their numbers in the space, their columns, and which are feasible."""

    point: Any
    columns: Mapping[str, Any]
    feasible: Any

    def front(self, space: Space) -> Any:
        """Say which points are on the front of those tried; a point that was tried twice counts once."""
        first = np.zeros(len(self.point), dtype=bool)
        first[np.unique(self.point, return_index=True)[1]] = True
        return pareto([self.columns[name] for name in space.objectives], list(space.objectives.values()), self.feasible & first)


def evaluate(space: Space, point: Any) -> Tried:
    """Compute points by their numbers."""
    grid = space.grid
    groups, place = np.divmod(point, grid.points)
    indices = np.unravel_index(place, grid.shape) if grid.shape else ()
    found: dict[str, Any] = {}
    feasible = np.zeros(len(point), dtype=bool)
    for number in np.unique(groups):
        mine = np.flatnonzero(groups == number)
        values = {name: axis[index[mine]] for (name, axis), index in zip(grid.axes.items(), indices, strict=True)}
        columns, feasible[mine] = evaluate_points(space, space.groups[int(number)], values)
        for name, column in columns.items():
            found.setdefault(name, np.empty(len(point)))[mine] = column
    return Tried(point, found, feasible)


def joined(parts: Sequence[Tried]) -> Tried:
    """Return several searches' points together."""
    columns = {name: np.concatenate([one.columns[name] for one in parts]) for name in parts[0].columns}
    return Tried(np.concatenate([one.point for one in parts]), columns, np.concatenate([one.feasible for one in parts]))


def random_search(space: Space, budget: int, seed: int, batch: int = 65_536) -> Tried:
    """Compute points drawn evenly from the space, each as likely as the next."""
    random = np.random.default_rng(seed)
    drawn = random.integers(0, space.points, budget)
    return joined([evaluate(space, drawn[start : start + batch]) for start in range(0, budget, batch)])


def evolve(space: Space, budget: int, seed: int, population: int = 200) -> Tried:
    """Compute points that NSGA-II proposes [deb2002nsga2]: each axis, and the choice of structure, is one real variable.

    A variable from 0 to 1 names an axis's values in their order. Every proposed point counts toward the budget and is kept.
    """
    try:
        from pymoo.algorithms.moo.nsga2 import NSGA2
        from pymoo.core.problem import Problem
        from pymoo.optimize import minimize
    except ImportError:
        raise InputError("NSGA-II is pymoo's: `pip install pymoo`, or ridgeline[optimise]") from None
    shape = (len(space.groups), *space.grid.shape)
    tried: list[Tried] = []

    class Proposals(Problem):
        """The space as pymoo asks of it: a population at once."""

        def _evaluate(self, x: Any, out: Any, *_: Any, **__: Any) -> None:
            indices = [np.minimum((x[:, place] * length).astype(np.int64), length - 1) for place, length in enumerate(shape)]
            found = evaluate(space, np.ravel_multi_index(indices, shape).astype(np.int64))
            tried.append(found)
            signs = [1.0 if sense == "min" else -1.0 for sense in space.objectives.values()]
            out["F"] = np.column_stack([sign * found.columns[name] for sign, name in zip(signs, space.objectives, strict=True)])
            out["G"] = np.where(found.feasible, -1.0, 1.0)[:, None]

    problem = Proposals(n_var=len(shape), n_obj=len(space.objectives), n_ieq_constr=1, xl=0.0, xu=1.0)
    population = min(population, budget)
    minimize(problem, NSGA2(pop_size=population), ("n_eval", budget), seed=seed, verbose=False)
    return joined(tried)


def hypervolumes(space: Space, searches: Sequence[Tried]) -> list[float]:
    """Return the share of a box that each search's front dominates: from the best to the worst objective of all fronts together.

    The box reaches a tenth past the worst, so that the ends of a front count [zitzler1999hypervolume].
    """
    from pymoo.indicators.hv import HV

    signs = [1.0 if sense == "min" else -1.0 for sense in space.objectives.values()]
    fronts: list[Any] = []
    for one in searches:
        on = one.front(space)
        fronts.append(np.column_stack([sign * one.columns[name][on] for sign, name in zip(signs, space.objectives, strict=True)]))
    every = np.concatenate(fronts)
    if not len(every):
        return [0.0] * len(searches)
    low, high = every.min(axis=0), every.max(axis=0)
    span = np.where(high > low, high - low, 1.0)
    measure, whole = HV(ref_point=np.full(len(signs), 1.1)), 1.1 ** len(signs)
    volumes: list[Any] = [measure((front - low) / span) if len(front) else 0.0 for front in fronts]
    return [float(one) / whole for one in volumes]
