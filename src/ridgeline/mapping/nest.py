"""Named mappings: a loop nest written as text, read into a tile, an order and the loops inside, and the traffic it causes.

The text is Timeloop's [parashar2019timeloop], levels from DRAM inwards, loops of a level from the outside inwards:

    L3[WIO] K4 P7 - L2[WI] K16X - L1[O] K16 C16 Q14 C16X - L0[W] P2

L3 is DRAM, L2 the scratchpad, L1 the accumulator, L0 the registers of the array. A loop is a letter of the layer (N batch, K output
channels, C input channels, P and Q output pixels, R and S filter) and its trip count; `X` or `Y` marks one that is spread over the
array. The brackets say which tensors (weights, inputs, outputs) a level keeps; they are read, not checked.
"""

import re
from typing import NamedTuple

from ridgeline.costs.tiled import LOOPS, ORDERS, Buffers, Layer, Memory, Tile, nest_traffic
from ridgeline.errors import InputError
from ridgeline.quantities import Bytes

LEVELS = ("L3", "L2", "L1", "L0")
LETTERS = "NKCPQRS"
_LEVEL = re.compile(r"(L\d+)(?:\[[WIO]*\])?((?:\s+\S+)*)")
_LOOP = re.compile(r"([A-Z])(\d+)([XY]?)")


class Loop(NamedTuple):
    """One loop of a nest."""

    level: str
    letter: str
    trips: int
    spatial: bool


class Nest(NamedTuple):
    """A mapping: what is held on the chip, the order of the DRAM loops (an index into ORDERS), and every loop as written."""

    tile: Tile
    order: int
    loops: tuple[Loop, ...]

    def spread(self, letter: str) -> int:
        """Return over how many rows or columns of the array a letter is spread."""
        return _product(self.loops, letter, LEVELS, spatial=True)


def _product(loops: tuple[Loop, ...], letter: str, levels: tuple[str, ...], *, spatial: bool | None = None) -> int:
    result = 1
    for loop in loops:
        if loop.letter == letter and loop.level in levels and spatial in (None, loop.spatial):
            result *= loop.trips
    return result


def read_loops(text: str) -> tuple[Loop, ...]:
    """Return the loops of a mapping's text, from the outside inwards.

    Raises `InputError` for a level that is unknown, missing or out of order, and for a word that is no loop.

    >>> read_loops("L3[WIO] K4 - L2[WI] N1 - L1[O] C16X - L0[W] P2")[0]
    Loop(level='L3', letter='K', trips=4, spatial=False)
    """
    loops: list[Loop] = []
    levels: list[str] = []
    for part in text.split(" - "):
        match = _LEVEL.fullmatch(part.strip())
        if match is None or match[1] not in LEVELS:
            raise InputError(
                f"mapping {text!r}: {part.strip()!r} is no level; levels are {', '.join(LEVELS)}, such as `L3[WIO] K4 P7`"
            )
        levels.append(match[1])
        loops.extend(_read_loop(text, match[1], word) for word in match[2].split())
    if tuple(levels) != LEVELS:
        raise InputError(
            f"mapping {text!r}: levels are {' '.join(levels)}; needed is each once, from the outside: {' '.join(LEVELS)}"
        )
    return tuple(loops)


def _read_loop(text: str, level: str, word: str) -> Loop:
    match = _LOOP.fullmatch(word)
    if match is None or match[1] not in LETTERS or int(match[2]) < 1:
        raise InputError(
            f"mapping {text!r}: {word!r} at {level} is no loop; a loop is one of {LETTERS} and a trip count, such as `K16X`"
        )
    if match[1] == "N" and int(match[2]) > 1 and level != LEVELS[0]:
        raise InputError(f"mapping {text!r}: {word!r} at {level}: the batch N is looped over at {LEVELS[0]} only, or folded into P")
    return Loop(level, match[1], int(match[2]), bool(match[3]))


def read_nest(text: str, layer: Layer) -> Nest:
    """Read a mapping's text for a layer.

    Raises `InputError` where the factors of a letter do not multiply to the layer's bound, besides what `read_loops` refuses.

    >>> product = Layer(n=1, k=64, c=64, p=28, q=1, r=1, s=1, stride=1)
    >>> nest = read_nest("L3[WIO] K2 P7 - L2[WI] K16X - L1[O] K2 C4 C16X - L0[W] P4", product)
    >>> nest.tile, ORDERS[nest.order][:2]
    (Tile(k=32.0, c=64.0, p=4.0, q=1.0, r=1.0, s=1.0), 'kp')
    """
    loops = read_loops(text)
    for letter in LETTERS:
        bound = getattr(layer, letter.lower())
        found = _product(loops, letter, LEVELS)
        if found != bound:
            raise InputError(f"mapping {text!r}: the factors of {letter} multiply to {found}, but the layer's bound is {bound:g}")
    tile = Tile(*(float(_product(loops, letter.upper(), LEVELS[1:])) for letter in LOOPS))
    outside = [loop.letter.lower() for loop in loops if loop.level == LEVELS[0] and loop.trips > 1 and loop.letter != "N"]
    for letter in sorted(set(outside)):
        if outside.count(letter) > 1:
            raise InputError(
                f"mapping {text!r}: {letter.upper()} has {outside.count(letter)} loops at {LEVELS[0]}; join them into one"
            )
    order = "".join(outside) + "".join(letter for letter in LOOPS if letter not in outside)
    return Nest(tile, ORDERS.index(order), loops)


def dram_traffic(layer: Layer, nest: Nest, buffers: Buffers) -> dict[str, Bytes]:
    """Bytes that a mapping moves between DRAM and the chip, by tensor; edge tiles and overlapping windows counted exactly.

    >>> product = Layer(n=1.0, k=64.0, c=64.0, p=28.0, q=1.0, r=1.0, s=1.0, stride=1.0)
    >>> nest = read_nest("L3[WIO] K2 P7 - L2[WI] K16X - L1[O] K2 C4 C16X - L0[W] P4", product)
    >>> dram_traffic(product, nest, Buffers(scratchpad=8192.0, accumulator=2048.0))
    {'inputs': 3584.0, 'weights': 4096.0, 'partial': 0.0, 'outputs': 1792.0}

    The inner loop p moves on within each k: inputs 28 × 64 are read for both halves of k, weights 64 × 64 once.
    """
    traffic = nest_traffic(layer, nest.tile, nest.order, buffers, Memory(1.0))
    return {"inputs": traffic.inputs, "weights": traffic.weights, "partial": 2.0 * traffic.partial, "outputs": traffic.outputs}
