"""How good a mapping drawn at random is: energy-delay products over a nest's space of mappings.

A mapping here is a factorisation of every loop over DRAM, scratchpad, accumulator and, for the two loops on the array, its side,
and an order of the loops between DRAM and the chip, as in Timeloop's space for such a chip [parashar2019timeloop]. The mapping
search (`tiling`) needs none of this; it shows what a search is worth.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ridgeline.costs.access import AccessEnergy, count_folds, nest_energy, on_chip_bytes
from ridgeline.costs.tiled import LOOPS, ORDERS, Array, Buffers, Layer, Memory, Tile, tiled_cost
from ridgeline.errors import InfeasibleError
from ridgeline.quantities import Count, Fraction

_DRAWN = 1 << 13  # mappings drawn at a time
_ROUNDS = 160
_HOPELESS = 2  # rounds in which nothing fitted


@dataclass(frozen=True, kw_only=True, eq=False)
class Mapspace:
    """Energy-delay products of valid mappings drawn at random, relative to the least of them."""

    relative: Any  # EDP over the least EDP, sorted
    least: Any  # EDP, in cycles · joules
    valid: Fraction  # of the mappings drawn

    def percentile(self, percent: Count) -> Count:
        """Return the relative EDP that `percent` of the mappings do not exceed."""
        return float(np.percentile(self.relative, percent))

    def share_within(self, factor: Count) -> Fraction:
        """Return the share of mappings whose EDP is at most `factor` times the least."""
        return float(np.mean(self.relative <= factor))


def sample_mapspace(
    layer: Layer,
    array: Array,
    buffers: Buffers,
    memory: Memory,
    energy: AccessEnergy,
    *,
    mappings: int = 100_000,
    seed: int = 0,
    dataflow: int = 0,
) -> Mapspace:
    """Draw valid mappings of a nest at random and cost each: the same seed draws the same.

    Every factorisation of a loop is as likely as every other, as is every order. Raises `InfeasibleError` where hardly any mapping
    fits the buffers.
    """
    generator = np.random.default_rng(seed)
    found: list[Any] = []
    drawn = kept = 0
    for _ in range(_ROUNDS):
        products = _draw(layer, array, buffers, memory, energy, generator, dataflow)
        drawn, kept = drawn + _DRAWN, kept + len(products)
        found.append(products)
        if kept == 0 and drawn >= _HOPELESS * _DRAWN:
            break
        if kept >= mappings:
            whole = np.concatenate(found)
            values = np.sort(whole[:mappings])
            return Mapspace(relative=values / values[0], least=values[0], valid=kept / drawn)
    raise InfeasibleError(f"only {kept} of {drawn} mappings drawn fit the buffers: {mappings} were asked for")


def _draw(layer: Layer, array: Array, buffers: Buffers, memory: Memory, energy: AccessEnergy, generator: Any, dataflow: int) -> Any:
    """Return the energy-delay products of those of some mappings that fit."""
    sides = {"c": array.rows, "k": array.columns} if dataflow == 0 else {}
    drawn = {loop: _factors(int(getattr(layer, loop)), int(sides.get(loop, 1)), generator) for loop in LOOPS}
    sizes = {loop: found[0] for loop, found in drawn.items()}
    rows, columns = drawn["c"][1], drawn["k"][1]
    places = generator.integers(len(ORDERS), size=_DRAWN)
    found: list[Any] = []
    for order in np.unique(places):
        here = places == order
        tile = Tile(**{loop: values[here] for loop, values in sizes.items()})
        part = array._replace(rows=rows[here], columns=columns[here])
        cost = tiled_cost(layer, tile, int(order), part, buffers, memory, dataflow)
        inside = on_chip_bytes(layer, count_folds(layer, tile, part, dataflow), buffers, dataflow)
        joules = nest_energy(layer, inside, cost, energy)
        found.append((cost.cycles * joules)[np.asarray(cost.fits) > 0.0])
    return np.concatenate(found)


def _factors(size: int, side: int, generator: Any) -> tuple[Any, Any]:
    """Draw tile sizes of a loop, and what of them lies on the array: size = DRAM · scratchpad · accumulator · array."""
    inner = [
        (float(size // outer), float(across))
        for outer in _divisors(size)
        for middle in _divisors(size // outer)
        for across in _divisors(size // outer // middle)
        if across <= side
    ]
    table = np.array(inner)[generator.integers(len(inner), size=_DRAWN)]
    return table[:, 0], table[:, 1]


def _divisors(size: int) -> list[int]:
    return [one for one in range(1, size + 1) if size % one == 0]
