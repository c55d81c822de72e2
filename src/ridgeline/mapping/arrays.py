"""A product over several identical arrays: cut along output loops, so that no sum crosses arrays.

The rule: the arrays, A of them, are split into factors over the products of a batch, the images n, the output channels k and the
output pixels p and q; along a loop cut into x pieces every array takes ⌈size / x⌉, the last what is left. Each array has 1/A of the
bandwidth to memory and of the on-chip memory, and holds what it needs itself: an operand that two arrays use is read twice. The
largest share is tiled best, the others take its tile, and the factors with the least time (or energy, or product) are kept.
Neglected: operands sent to several arrays at once, bandwidth that an idle array leaves to the others, and cuts of the inner
loops, whose sums would have to be added across arrays.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from math import ceil
from typing import NamedTuple

from ridgeline.costs.tiled import Layer, Tile
from ridgeline.errors import InfeasibleError
from ridgeline.mapping.array_machine import ArrayMachine
from ridgeline.mapping.cached_tiling import tile_behind_cache
from ridgeline.mapping.tiling import cost_tiling, tile_batch
from ridgeline.quantities import Bytes, Count, Joules
from ridgeline.results import Tiling

_CUT = "nkpq"  # output loops of one product


class Share(NamedTuple):
    """What one array does: the largest nest, how often one after another, and the tiling with bytes and joules of all arrays."""

    layer: Layer
    rounds: Count
    tiling: Tiling


def tile_shares(
    layers: Sequence[Layer], batches: Sequence[Count], machine: ArrayMachine, *, objective: str = "latency"
) -> list[Share]:
    """Return how each layer, `batches` times, is best cut over a machine's arrays; on one array each is its own share.

    `InfeasibleError` where no share of a layer fits.

    >>> from ridgeline.costs.tiled import Array, Buffers, Memory
    >>> two = ArrayMachine(Array(4.0, 4.0), Buffers(1e4, 1e4, double=1.0), Memory(16.0), None, "weight-stationary", 1e9, 2.0)
    >>> share = tile_shares([Layer(1.0, 8.0, 4.0, 16.0, 1.0, 1.0, 1.0, 1.0)], [1.0], two)[0]
    >>> share.tiling.tile["arrays"], share.layer.p  # 8 pixels on each reload the filters less than 4 channels would the inputs
    ({'n': 1, 'k': 1, 'p': 2, 'q': 1}, 8.0)
    >>> share.tiling.traffic["dram"]["weights"]  # 8 · 4, for both
    64.0
    """
    if machine.arrays <= 1:
        best = _tile(layers, machine, objective)
        return [Share(layer, batch, one) for layer, batch, one in zip(layers, batches, best, strict=True)]
    return [_best(layer, batch, machine, objective) for layer, batch in zip(layers, batches, strict=True)]


def _tile(layers: Sequence[Layer], machine: ArrayMachine, objective: str) -> list[Tiling]:
    parts = (machine.array, machine.buffers, machine.searched)
    if machine.memory.cached > 0.0:
        found = {
            layer: tile_behind_cache(layer, *parts, energy=machine.energy, dataflow=machine.dataflow, objective=objective)
            for layer in dict.fromkeys(layers)
        }
        return [found[layer] for layer in layers]
    return tile_batch(layers, *parts, energy=machine.energy, dataflows=(machine.dataflow,), objective=objective)


def _factors(count: int, places: int) -> Iterator[tuple[int, ...]]:
    """Yield every way to write a count as an ordered product of factors.

    >>> list(_factors(4, 2))
    [(1, 4), (2, 2), (4, 1)]
    """
    if places == 1:
        yield (count,)
        return
    for first in (one for one in range(1, count + 1) if count % one == 0):
        for rest in _factors(count // first, places - 1):
            yield (first, *rest)


def _best(layer: Layer, batch: Count, machine: ArrayMachine, objective: str) -> Share:
    """Return the best cut of one layer; a cut of which no share fits is passed over."""
    found: list[tuple[tuple[float, float], Share]] = []
    failure: InfeasibleError | None = None
    cuts = list(_factors(int(machine.arrays), 1 + len(_CUT)))
    useful = [cut for cut in cuts if all(x <= size for x, size in zip(cut, _sizes(layer, batch), strict=True))] or cuts
    for cut in useful:
        try:
            share = _share(layer, batch, machine, objective, cut)
        except InfeasibleError as error:
            failure = error
            continue
        found.append((_value(share, objective), share))
    if not found:
        raise failure if failure is not None else InfeasibleError("no cut over the arrays fits")
    value, share = min(found, key=lambda one: one[0])
    bound = min(one.tiling.lower_bound * one.rounds for _, one in found if one.tiling.lower_bound is not None)
    proof = {"value": value[0], "lower_bound": bound, "optimal": True} if objective == "latency" else {"optimal": False}
    return share._replace(tiling=replace(share.tiling, **proof))


def _sizes(layer: Layer, batch: Count) -> tuple[float, ...]:
    return (max(batch, 1.0), *(getattr(layer, letter) for letter in _CUT))


def _share(layer: Layer, batch: Count, machine: ArrayMachine, objective: str, cut: tuple[int, ...]) -> Share:
    """Tile the largest share of a cut and add up what all arrays move."""
    pieces = dict(zip(_CUT, cut[1:], strict=True))
    lengths = {letter: _lengths(getattr(layer, letter), pieces[letter]) for letter in _CUT}
    largest = layer._replace(**{letter: next(iter(counts)) for letter, counts in lengths.items()})
    tiling = _tile([largest], machine, objective)[0]
    rounds = ceil(batch / cut[0]) if cut[0] > 1 else batch
    parts = [
        (count, _small(layer._replace(**dict(zip(_CUT, sizes, strict=True))), tiling, machine))
        for sizes, count in _combinations(lengths)
    ]
    weight = batch / rounds  # products at a time
    macs = _macs(layer) * weight
    elements = machine.arrays * machine.array.rows * machine.array.columns
    whole = replace(
        tiling,
        tile={**tiling.tile, "arrays": ({"batch": cut[0]} if cut[0] > 1 else {}) | pieces},
        traffic=_added([(count * weight, one.traffic) for count, one in parts]),
        energy=_joules([(count * weight, one.energy) for count, one in parts]),
        utilisation=macs / (elements * (tiling.cycles or 0.0)),
        hong_kung=None if tiling.hong_kung is None else tiling.hong_kung * macs / _macs(largest),
    )
    return Share(largest, rounds, whole)


def _macs(layer: Layer) -> Count:
    return layer.n * layer.k * layer.c * layer.p * layer.q * layer.r * layer.s


def _small(share: Layer, tiling: Tiling, machine: ArrayMachine) -> Tiling:
    """Cost a share with the tile of the largest, no larger than itself."""
    held = Tile(**{letter: min(size, getattr(share, letter)) for letter, size in tiling.tile["chip"].items()})
    parts = (machine.array, machine.buffers, machine.searched)
    return cost_tiling(share, held, tiling.order["dram"], *parts, dataflow=machine.dataflow, energy=machine.energy)


def _lengths(size: float, pieces: int) -> dict[float, int]:
    """Return what each array takes along a loop, the largest first, and how many take it.

    >>> _lengths(10.0, 4)  # 3, 3, 3 and 1
    {3.0: 3, 1.0: 1}
    """
    share = float(ceil(size / pieces))
    full, rest = divmod(size, share)
    return {share: int(full)} | ({rest: 1} if rest else {})


def _combinations(lengths: Mapping[str, Mapping[float, int]]) -> Iterator[tuple[tuple[float, ...], int]]:
    for chosen in product(*(lengths[letter].items() for letter in _CUT)):
        count = 1
        for _, times in chosen:
            count *= times
        yield tuple(size for size, _ in chosen), count


def _added(parts: Sequence[tuple[Count, Mapping[str, Mapping[str, Bytes]]]]) -> Mapping[str, Mapping[str, Bytes]]:
    first = parts[0][1]
    return {
        level: {tensor: sum(count * traffic[level][tensor] for count, traffic in parts) for tensor in tensors}
        for level, tensors in first.items()
    }


def _joules(parts: Sequence[tuple[Count, Joules | None]]) -> Joules | None:
    known = [count * energy for count, energy in parts if energy is not None]
    return sum(known) if len(known) == len(parts) else None


def _value(share: Share, objective: str) -> tuple[float, float]:
    """Return what is minimised, and what decides between equals."""
    cycles, moved = share.rounds * (share.tiling.cycles or 0.0), share.rounds * sum(share.tiling.traffic["dram"].values())
    energy = moved if share.tiling.energy is None else share.rounds * share.tiling.energy
    if objective == "latency":
        return cycles, energy
    return {"energy": energy, "traffic": moved, "edp": energy * cycles}[objective], cycles
