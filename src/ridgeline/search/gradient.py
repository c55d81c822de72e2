"""Search of a space by gradients: many starts descend at once through the model's own formulas, differentiated by JAX.

Every axis is one variable from 0 to 1 along its values in order, between which it runs on; each point that is visited counts as the
point of the grid that is nearest.
"""

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np

from ridgeline.errors import InputError
from ridgeline.search.explore import Group, Space, traced_columns
from ridgeline.search.optimise import Tried, evaluate, joined

_STARTS = 64
_RATE, _LAST_RATE = 0.08, 0.01  # of Adam, in shares of an axis
_SHARP = 20.0  # of the smooth maximum
_PENALTY = 10.0


def can_descend(space: Space) -> bool:
    """Say whether a space has gradients: `ideal`, chips alone, nothing held constant, some axis to go along; and JAX is there."""
    return find_spec("jax") is not None and _is_smooth(space)


def _is_smooth(space: Space) -> bool:
    alone = all(one.system is None for one in space.groups)
    return space.level == "ideal" and alone and not space.held and any(len(one) > 1 for one in space.axes.values())


Slopes = dict[int, Callable[..., Any]]  # group → the compiled loss with its gradient


def descend(space: Space, budget: int, seed: int, slopes: Slopes | None = None) -> Tried:
    """Compute points on the way of gradient descents from points drawn at random, each toward a trade-off of its own.

        minimise  max_k w_k · (log o_k − log least o_k so far) + 0.05 · Σ_k w_k · log o_k + penalties of constraints

    Weights w are drawn from the simplex, objectives to maximise have their sign turned, and the maximum is smooth, so that bent
    fronts are reached too (weighted Chebyshev [miettinen1999nonlinear] §3.4). Steps are Adam's [kingma2014adam]. A point with its
    gradient counts as one toward the budget. `slopes` keeps what was compiled for further seeds. Raises `InputError` without JAX
    and for spaces that have no gradient.
    """
    if not _is_smooth(space):
        raise InputError(f"{space.name} has no gradients: level ideal, chips alone and nothing held constant are wanted")
    random = np.random.default_rng(seed)
    each = max(1, min(_STARTS, budget) // len(space.groups))
    compiled: Slopes = {} if slopes is None else slopes
    rounds = max(1, budget // (each * len(space.groups)))
    parts: list[Any] = []
    for number in range(len(space.groups)):
        visited = _descent(space, number, each, rounds, random, compiled)
        parts.append(_points(space, number, visited))
    drawn = np.concatenate(parts)[:budget]
    if len(drawn) < budget:  # what is left of the budget, at random
        drawn = np.concatenate([drawn, random.integers(0, space.points, budget - len(drawn))])
    return joined([evaluate(space, drawn[start : start + 65_536]) for start in range(0, budget, 65_536)])


def _ordered(space: Space) -> list[Any]:
    return [np.sort(np.asarray(values, dtype=np.float64)) for values in space.axes.values()]


def _points(space: Space, group: int, visited: Any) -> Any:
    """Return the numbers of the grid's points nearest to places between 0 and 1 along the axes."""
    indices: list[Any] = []
    for place, values in enumerate(space.axes.values()):
        order = np.argsort(np.asarray(values), kind="stable")
        indices.append(order[np.rint(visited[:, place] * (len(values) - 1)).astype(np.int64)])
    number = np.ravel_multi_index(indices, space.grid.shape) if indices else np.zeros(len(visited), dtype=np.int64)
    return group * space.grid.points + number.astype(np.int64)


def _descent(space: Space, group: int, starts: int, rounds: int, random: np.random.Generator, compiled: Slopes) -> Any:
    """Return all places that so many descents visit, one after the other."""
    try:
        import jax
    except ImportError:
        raise InputError("gradients are JAX's: `pip install jax`, or ridgeline[jax]") from None
    weights = random.dirichlet(np.ones(len(space.objectives)), starts)
    place = random.random((starts, len(space.axes)))
    first, second = np.zeros_like(place), np.zeros_like(place)
    least = np.full(len(space.objectives), np.inf)
    visited: list[Any] = []
    with precise(jax):
        if group not in compiled:
            compiled[group] = jax.jit(jax.value_and_grad(_loss(space, space.groups[group], jax.numpy), has_aux=True))
        slope = compiled[group]
        for turn in range(rounds):
            visited.append(place.copy())
            if turn == 0:
                (_, logs), gradient = slope(place, weights, np.zeros(len(space.objectives)))
                least = np.asarray(logs).min(axis=0)
            (_, logs), gradient = slope(place, weights, least)
            least = np.minimum(least, np.asarray(logs).min(axis=0))
            gradient = np.nan_to_num(np.asarray(gradient), posinf=0.0, neginf=0.0)
            first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
            step = first / (1 - 0.9 ** (turn + 1)) / (np.sqrt(second / (1 - 0.999 ** (turn + 1))) + 1e-12)
            rate = _RATE * (_LAST_RATE / _RATE) ** (turn / max(rounds - 1, 1))
            place = np.clip(place - rate * step, 0.0, 1.0)
    return np.concatenate(visited)


def precise(jax: Any) -> Any:
    """Return what makes JAX compute in 64 bits for a while; releases differ in where it lives."""
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(True)
    from jax import experimental

    older: Any = experimental
    return older.enable_x64()


def _loss(space: Space, group: Group, numbers: Any) -> Callable[..., Any]:
    """Return what is minimised, summed over the starts, and the logarithms of the objectives of each."""
    axes = _ordered(space)
    signs = [1.0 if sense == "min" else -1.0 for sense in space.objectives.values()]
    limits = [one.name for one in space.constraints]
    wanted = list(dict.fromkeys([*space.objectives, *limits, "memory"]))
    room = _room(space, group)

    def loss(place: Any, weights: Any, least: Any) -> Any:
        values = {name: _between(numbers, place[:, index], axes[index]) for index, name in enumerate(space.axes)}
        found = traced_columns(space, group, values, wanted)
        spread = {name: numbers.broadcast_to(numbers.asarray(value), place.shape[:1]) for name, value in found.items()}
        logs = numbers.stack(
            [sign * _log(numbers, spread[name]) for sign, name in zip(signs, space.objectives, strict=True)], axis=1
        )
        away = weights * (logs - least)
        worst = numbers.log(numbers.exp(_SHARP * (away - away.max(axis=1, keepdims=True))).sum(axis=1)) / _SHARP + away.max(axis=1)
        missed = _PENALTY * _over(numbers, _log(numbers, spread["memory"]) - numbers.log(room(values)))
        for one in space.constraints:
            side = 1.0 if one.at_most else -1.0
            missed = missed + _PENALTY * _over(numbers, side * (_log(numbers, spread[one.name]) - np.log(max(one.limit, 1e-300))))
        return (worst + 0.05 * (weights * logs).sum(axis=1) + missed).sum(), logs

    return loss


def _room(space: Space, group: Group) -> Callable[[Mapping[str, Any]], Any]:
    """Return the memory's capacity, which may be an axis or a formula's."""
    name = f"memory.{group.chip.main_memory.name}.capacity"
    if name in space.formulas:
        return lambda values: traced_columns(space, group, values, [name])[name]
    return lambda values: values.get(name, group.chip.main_memory.capacity)


def _between(numbers: Any, place: Any, values: Sequence[float]) -> Any:
    """Return an axis's value between its values: evenly by their number, and geometrically between two above 0."""
    along = np.linspace(0.0, 1.0, len(values))
    if min(values) > 0:
        return numbers.exp(numbers.interp(place, along, np.log(values)))
    return numbers.interp(place, along, np.asarray(values))


def _log(numbers: Any, value: Any) -> Any:
    return numbers.log(numbers.maximum(value, 1e-300))


def _over(numbers: Any, value: Any) -> Any:
    return numbers.maximum(value, 0.0)
