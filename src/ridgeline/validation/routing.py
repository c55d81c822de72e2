"""How the published measurements of experts spread tokens: balanced, by a power law, or uniformly at random.

The generators follow the description that the measuring project publishes with its collector [nvidia2025aiconfigurator]: a balanced
routing strides through the experts; a power law draws every expert's share, rounds it to whole tokens, and times the rank whose
experts got most. What is drawn at random there is drawn here with fixed seeds, a few times over.
"""

from functools import lru_cache
from typing import Any

import numpy as np

from ridgeline.mapping.expert_kernels import Loads

DRAWS = 5  # routings that a measurement goes through in turn
_SEEDS = 10


@lru_cache(maxsize=8192)
def balanced(tokens: int, experts: int, chosen: int, ranks: int) -> Loads:
    """Return the loads of the first rank's experts where token i takes expert i and every stride-th from it on.

    >>> float(balanced(4, 8, 2, 2).touched)  # four experts of the rank have one row each
    4.0
    """
    stride = -(-experts // chosen)
    first = np.arange(tokens) if tokens >= stride else np.arange(tokens) * stride / tokens
    picked = (first[:, None] + np.arange(chosen) * stride).astype(int) % experts
    loads = np.bincount(picked.ravel(), minlength=experts)
    return Loads.of([loads[: max(experts // ranks, 1)]])


@lru_cache(maxsize=8192)
def power_law(tokens: int, experts: int, chosen: int, ranks: int, exponent: float = 1.2, ordered: bool = True) -> Loads:
    """Return the loads of the busiest rank's experts, shares drawn with density x^−exponent.

    Rows that rounding leaves over go to the largest shares; `ordered` says that among equals the first experts get them.

    >>> bool(power_law(1, 128, 8, 16).touched > 7)  # too few tokens for any share: nearly all choices fall on the first rank
    True
    """
    draws = [_draw(np.random.default_rng(seed), (tokens, experts, chosen, ranks), exponent, ordered) for seed in range(_SEEDS)]
    kept = float(np.mean([(np.stack(draws[at : at + DRAWS]) > 0).any(axis=0).sum() for at in range(0, _SEEDS, DRAWS)]))
    return Loads.of(draws, kept)


def _draw(random: np.random.Generator, case: tuple[int, int, int, int], exponent: float, ordered: bool) -> Any:
    tokens, experts, chosen, ranks = case
    total = tokens * chosen
    low, high = (1.0, 0.8 * tokens) if total > experts else (0.01, 2.0)
    power = 1.0 - exponent
    shares = ((high**power - low**power) * random.random(experts) + low**power) ** (1.0 / power)
    ties = np.arange(experts) if ordered else random.permutation(experts)
    loads = _whole(shares / shares.sum() * total, total, ties)
    own = max(experts // ranks, 1)
    ranked = loads[: own * ranks].reshape(ranks, own)
    busiest = int(ranked.sum(axis=1).argmax())
    ranked[[0, busiest]] = ranked[[busiest, 0]]
    return _within(ranked[0].copy(), int(np.maximum(loads - tokens, 0).sum()), tokens)


def _whole(loads: Any, total: int, ties: Any) -> Any:
    """Round to whole rows that add up: what is missing goes to the largest in turn, what is too much comes off the smallest."""
    whole = np.round(loads).astype(int)
    missing = total - int(whole.sum())
    order = np.lexsort((ties, -whole))
    if missing >= 0:
        each, rest = divmod(missing, len(whole))
        whole += each
        whole[order[:rest]] += 1
        return whole
    for at in range(-missing):
        expert = order[-(at % len(order)) - 1]
        whole[expert if whole[expert] > 0 else int(whole.argmax())] -= 1
    return whole


def _within(loads: Any, surplus: int, tokens: int) -> Any:
    """Cap every expert at all tokens; choices too many fall on the first experts, whose rank is the one that is timed."""
    loads = np.minimum(loads, tokens)
    for at in range(len(loads)):
        more = min(tokens - int(loads[at]), surplus)
        loads[at] += more
        surplus -= more
    return loads


@lru_cache(maxsize=8192)
def uniform(tokens: int, experts: int, chosen: int, held: int, aligned: int = 1) -> Loads:
    """Return the loads of some experts where every choice is equally likely, each padded to a multiple of `aligned` rows.

    >>> round(float(uniform(16, 112, 6, 112).touched) / 112, 1)  # 1 − (1 − 1/112)^96
    0.6
    """
    draws: list[Any] = []
    for seed in range(_SEEDS):
        loads = np.random.default_rng(seed).multinomial(tokens * chosen, [1.0 / experts] * experts)[:held]
        draws.append(-(-loads // aligned) * aligned)
    return Loads.of(draws)
