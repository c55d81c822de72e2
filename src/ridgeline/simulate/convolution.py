"""A tiled convolution, or matrix product, on a chip with one array: the loop nest is walked tile by tile through the pipeline.

Nothing is counted by a formula. The nest runs over images n, output channels k, input channels c, output pixels p × q and filter
taps r × s; p and r lie along one direction of the image, q and s along the other. A tile is fetched when it differs from the one in
its buffer; its input window reaches from the first to the last pixel that it touches, so that halos, strides and edges follow from
indices. Sums leave and come back when their tile is evicted before they are complete. A tile takes the cycles of its folds on the
stepped array, or of its instructions where an instruction queue feeds the array.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from math import ceil
from typing import Any, NamedTuple

import numpy as np

from ridgeline.errors import InputError
from ridgeline.simulate.instructions import InstructionQueue, queue_cycles
from ridgeline.simulate.pipeline import Pipeline, PipelineRun, Step, simulate_pipeline
from ridgeline.simulate.systolic import SystolicArray, fold_count, fold_timing, simulate_array

TENSORS = ("input", "weight", "output")
LOOPS = "kcpqrs"


class Sizes(NamedTuple):
    """Lengths along the loops of a nest, or of a tile of it, in elements."""

    k: int
    c: int
    p: int
    q: int = 1
    r: int = 1
    s: int = 1


@dataclass(frozen=True, kw_only=True)
class Nest:
    """A convolution and how it is cut: sizes of the layer and of a tile, loops from the outside inwards; images are outermost.

    >>> nest = Nest(size=Sizes(k=8, c=4, p=9, q=9, r=3, s=3), tile=Sizes(k=8, c=4, p=4, q=9, r=3, s=3), order="kcpqrs", stride=2)
    >>> [(span.start, span.stop) for span in nest.tiles("p")]
    [(0, 4), (4, 8), (8, 9)]
    >>> nest.window(range(4, 8), range(3))  # pixels 4 … 7 at stride 2 under 3 taps
    range(8, 17)
    """

    size: Sizes
    tile: Sizes
    order: str
    stride: int = 1
    images: int = 1

    def __post_init__(self) -> None:
        """Refuse what is no nest."""
        for what, values in (("size", self.size._asdict()), ("tile", self.tile._asdict())):
            for name, value in values.items():
                if value != int(value) or value < 1:
                    raise InputError(f"{what} of {name} must be a whole number of at least 1, not {value!r}")
        for name in ("stride", "images"):
            if getattr(self, name) != int(getattr(self, name)) or getattr(self, name) < 1:
                raise InputError(f"{name} of a nest must be a whole number of at least 1, not {getattr(self, name)!r}")
        if sorted(self.order) != sorted(LOOPS):
            raise InputError(f"a loop order is a permutation of {LOOPS}, outer to inner, not {self.order!r}")

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all images."""
        k, c, p, q, r, s = self.size
        return self.images * k * c * p * q * r * s

    def tiles(self, letter: str) -> list[range]:
        """Return the elements of each tile along a loop; the last one is what is left."""
        size, tile = getattr(self.size, letter), getattr(self.tile, letter)
        return [range(first, min(first + tile, size)) for first in range(0, size, tile)]

    def window(self, pixels: range, taps: range) -> range:
        """Return the input pixels along one direction from the first to the last that output pixels touch under filter taps."""
        return range(pixels[0] * self.stride + taps[0], pixels[-1] * self.stride + taps[-1] + 1)

    def visits(self) -> Iterator["Visit"]:
        """Yield the tiles in the order of the loops."""
        for image in range(self.images):
            for spans in product(*(self.tiles(letter) for letter in self.order)):
                yield Visit(image, **dict(zip(self.order, spans, strict=True)))


class Visit(NamedTuple):
    """One tile of the nest: the image, and the elements along each loop."""

    image: int
    k: range
    c: range
    p: range
    q: range
    r: range
    s: range

    @property
    def lengths(self) -> Sizes:
        """Elements along each loop."""
        return Sizes(*map(len, self[1:]))


@dataclass(frozen=True, kw_only=True)
class ElementBytes:
    """Bytes of one element: of the operands, of the final output, and of a partial sum that leaves the chip."""

    input: float = 1
    weight: float = 1
    output: float = 1
    accumulator: float = 4


@dataclass(frozen=True, kw_only=True)
class Fetching:
    """What the engine does with tiles: width of the bus in bytes, and which tiles stay.

    A row of a tile (the channels of one pixel or of one filter tap) takes whole words of the bus. Without `keeps_tiles` every step
    fetches both operands anew; without `spills` sums stay in the accumulator until they are complete, whatever the order. With a
    `cache` of so many bytes, operand tiles stay until the least recently used has to make room.
    """

    word: float = 0
    keeps_tiles: bool = True
    spills: bool = True
    cache: float | None = None

    def moved(self, rows: int, row: float) -> float:
        """Return the bytes that rows of a tile take on the bus.

        >>> Fetching(word=16).moved(3, 20.0)
        96.0
        """
        return rows * (ceil(row / self.word) * self.word if self.word else row) * 1.0


@dataclass(frozen=True, kw_only=True, eq=False)
class NestRun:
    """What a tiled nest took: cycles, payload bytes by tensor, and the run of the pipeline with its time line."""

    cycles: int
    macs: int
    array_cycles: int
    tiles: int
    utilisation: float  # multiply-accumulates over processing elements × cycles
    read: Mapping[str, float]  # tensor → bytes from memory; of the output: partial sums that came back
    written: Mapping[str, float]  # "output": final outputs; "partial": partial sums that left
    pipeline: PipelineRun = field(repr=False)

    @property
    def bytes(self) -> float:
        """Payload bytes between memory and chip, both ways."""
        return sum(self.read.values()) + sum(self.written.values())


@dataclass
class _Walk:
    """The nest and its buffers: which tile of each tensor is resident, and how far each output tile is."""

    nest: Nest
    element: ElementBytes
    fetching: Fetching
    array: SystolicArray
    queue: InstructionQueue | None
    vector_width: int | None
    read: dict[str, float] = field(default_factory=lambda: dict.fromkeys(TENSORS, 0.0))
    written: dict[str, float] = field(default_factory=lambda: {"output": 0.0, "partial": 0.0})
    tiles: int = 0
    done: dict[Any, int] = field(default_factory=dict[Any, int])  # output tile → products of each sum that are added

    def steps(self) -> Iterator[Step]:
        """Yield one step a tile; whether a step ends its output tile's stay is known when the next tile is."""
        resident: dict[Any, Any] = {}
        moving = [letter for letter in self.nest.order if len(self.nest.tiles(letter)) > 1]
        waiting: Step | None = None
        last: Visit | None = None
        for visit in self.nest.visits():
            if waiting is not None and last is not None:
                yield waiting if _output(last) == _output(visit) else self._close(waiting, last)
            k, c, p, q, r, s = visit.lengths
            partial = 0.0
            if (last is None or _output(last) != _output(visit)) and self.done.get(_output(visit)) and self.fetching.spills:
                self.read["output"] += k * p * q * self.element.accumulator
                partial = self.fetching.moved(p * q, k * self.element.accumulator)
            loads = self._loads(resident, visit)
            self.done[_output(visit)] = self.done.get(_output(visit), 0) + c * r * s
            name = " ".join(f"{letter}{getattr(visit, letter)[0]}" for letter in moving) or "tile"
            if self.nest.images > 1:
                name = f"n{visit.image} {name}"
            waiting = Step(loads=loads, array=self._array_cycles(visit.lengths), partial=partial, closes=False, name=name)
            self.tiles += 1
            last = visit
        if waiting is not None and last is not None:
            yield self._close(waiting, last)

    def _loads(self, resident: dict[Any, Any], visit: Visit) -> tuple[float, ...]:
        """Return bytes on the bus of the operand tiles that are not resident, and make them so."""
        across, along = self.nest.window(visit.p, visit.r), self.nest.window(visit.q, visit.s)
        loads: list[float] = []
        for tensor, tile, rows, channels, element in (
            ("input", (visit.image, *visit[2:]), len(across) * len(along), visit.c, self.element.input),
            (
                "weight",
                (visit.k, visit.c, visit.r, visit.s),
                len(visit.c) * len(visit.r) * len(visit.s),
                visit.k,
                self.element.weight,
            ),
        ):
            if self._is_there(resident, tensor, tile, rows * len(channels) * element):
                loads.append(0)
                continue
            self.read[tensor] += rows * len(channels) * element
            loads.append(self.fetching.moved(rows, len(channels) * element))
        return tuple(loads)

    def _is_there(self, resident: dict[Any, Any], tensor: str, tile: Any, size: float) -> bool:
        """Say whether a tile need not be fetched, and note that it is used now."""
        capacity = self.fetching.cache
        if capacity is None:
            found = self.fetching.keeps_tiles and resident.get(tensor) == tile
            resident[tensor] = tile
            return found
        found = resident.pop((tensor, tile), None) is not None
        resident[tensor, tile] = size  # the last of the dictionary is the one used last
        while sum(resident.values()) > capacity and len(resident) > 1:
            del resident[next(iter(resident))]
        return found

    def _close(self, step: Step, visit: Visit) -> Step:
        """End an output tile's stay: finished by the vector unit and stored, or its partial sums stored."""
        k, _, p, q, _, _ = visit.lengths
        if self.done[_output(visit)] < self.nest.size.c * self.nest.size.r * self.nest.size.s:
            if not self.fetching.spills:
                return step._replace(closes=True)
            self.written["partial"] += k * p * q * self.element.accumulator
            return step._replace(store=self.fetching.moved(p * q, k * self.element.accumulator), closes=True)
        self.written["output"] += k * p * q * self.element.output
        vector = -(-k * p * q // self.vector_width) if self.vector_width else 0
        return step._replace(store=self.fetching.moved(p * q, k * self.element.output), vector=vector, closes=True)

    def _array_cycles(self, lengths: Sizes) -> int:
        """Return cycles of a tile; on a pipelined array only the first tile fills and empties it."""
        count, (m, n, k) = array_products(lengths, self.array)
        folds, stream = fold_count(self.array, m=m, n=n, k=k)
        timing = fold_timing(self.array, stream)
        if self.queue is None:
            cycles, filled = count * folds * timing.period, timing.first - timing.period
            return cycles + (filled if self.tiles == 0 else 0)
        rows, vectors = _streams(lengths, self.array, self.queue.depth)
        stepped = queue_cycles(self.queue, blocks=count * folds, rows=rows, vectors=vectors)
        return ceil(stepped) + (timing.first - stream if self.tiles == 0 and self.queue.skewed and not self.queue.serial else 0)


def _output(visit: Visit) -> tuple[Any, ...]:
    return (visit.image, visit.k, visit.p, visit.q)


def array_products(lengths: Sizes, array: SystolicArray) -> tuple[int, tuple[int, int, int]]:
    """Return how many products of which size (m, n, k) a tile is for the array.

    Weights that stay see all pixels of the tile, one filter tap after another; sums that stay see all channels and taps, for one
    row of pixels after another; inputs that stay see all filters, for one row of pixels and one tap after another.

    >>> array_products(Sizes(k=8, c=4, p=7, q=5, r=3, s=3), SystolicArray(rows=4, columns=4, dataflow="weight-stationary"))
    (9, (35, 8, 4))
    >>> array_products(Sizes(k=8, c=4, p=7, q=5, r=3, s=3), SystolicArray(rows=4, columns=4, dataflow="output-stationary"))
    (5, (7, 8, 36))
    """
    k, c, p, q, r, s = lengths
    if array.dataflow == "output-stationary":
        return q, (p, k, c * r * s)
    if array.dataflow == "input-stationary":
        return q * r * s, (p, k, c)
    return r * s, (p * q, k, c)


def _streams(lengths: Sizes, array: SystolicArray, depth: int) -> tuple[int, int]:
    """Return in how many streams, each begun by an instruction of its own, and of how many vectors a block of a tile is used."""
    k, c, p, q, r, s = lengths
    if array.dataflow == "output-stationary":
        return r * s, -(-c // depth)
    return (1, k) if array.dataflow == "input-stationary" else (q, p)


def simulate_nest(
    nest: Nest,
    *,
    array: SystolicArray,
    pipeline: Pipeline,
    element: ElementBytes | None = None,
    fetching: Fetching | None = None,
    queue: InstructionQueue | None = None,
    vector_width: int | None = None,
    spans: bool = False,
) -> NestRun:
    """Run a tiled convolution through transfers, array and vector unit, and count what it takes.

    One tile of each tensor is resident at a time, in buffers of `pipeline.load_slots` and `output_slots` tiles; whether they fit a
    capacity is not asked here. A finished output tile passes the vector unit at `vector_width` elements a cycle (None: at once).
    Padding is read like pixels. Neglected: tiles kept for later than the next step, refilling a pipelined array after a stall,
    and instructions of one tile that are issued while the array works on the tile before.

    >>> nest = Nest(size=Sizes(k=4, c=4, p=4, q=4, r=3, s=3), tile=Sizes(k=4, c=4, p=2, q=4, r=3, s=3), order="kcpqrs")
    >>> array = SystolicArray(rows=4, columns=4, dataflow="weight-stationary", loading="preloaded", folds="pipelined")
    >>> run = simulate_nest(nest, array=array, pipeline=Pipeline(bandwidth=4.0))
    >>> run.read["input"], run.read["weight"]  # two windows of (2 + 2) · (4 + 2) pixels of 4 channels; the filters once
    (192.0, 144.0)
    >>> run.array_cycles  # 2 tiles of 9 folds of 8 pixels, 4 to load the first, 3 + 3 to cross the array
    154
    """
    if vector_width is not None and (vector_width != int(vector_width) or vector_width < 1):
        raise InputError(f"a vector unit handles a whole number of at least 1 elements a cycle, not {vector_width!r}")
    walk = _Walk(nest, element or ElementBytes(), fetching or Fetching(), array, queue, vector_width)
    run = simulate_pipeline(walk.steps(), pipeline, tensors=("input tile", "weight tile"), spans=spans)
    return NestRun(
        cycles=run.cycles,
        macs=nest.macs,
        array_cycles=run.busy["array"],
        tiles=walk.tiles,
        utilisation=nest.macs / (array.processing_elements * run.cycles),
        read=walk.read,
        written=walk.written,
        pipeline=run,
    )


def run_nest(nest: Nest, inputs: Any, weights: Any, array: SystolicArray) -> Any:
    """Convolve integers tile by tile as the nest says, on the stepped array; returns images × k × p × q sums of 64 bit.

    `inputs` are images × c × pixels along p × pixels along q, padding included; `weights` k × c × r × s. A tile sees nothing but
    its own window and its own filters. Raises `InputError` for operands of other shapes.

    >>> nest = Nest(size=Sizes(k=1, c=1, p=2, q=1, r=2, s=1), tile=Sizes(k=1, c=1, p=1, q=1, r=1, s=1), order="kcpqrs")
    >>> array = SystolicArray(rows=2, columns=2, dataflow="weight-stationary")
    >>> run_nest(nest, [[[[1], [2], [3]]]], [[[[10], [1]]]], array).ravel().tolist()  # 1·10 + 2·1, 2·10 + 3·1
    [12, 23]
    """
    pixels, filters = np.asarray(inputs), np.asarray(weights)
    k, c, p, q, r, s = nest.size
    rows, columns = nest.window(range(p), range(r)).stop, nest.window(range(q), range(s)).stop
    for what, operand, shape in (("inputs", pixels, (nest.images, c, rows, columns)), ("weights", filters, (k, c, r, s))):
        if operand.shape != shape:
            raise InputError(f"{what} of this nest are {' × '.join(map(str, shape))}, not {' × '.join(map(str, operand.shape))}")
    sums = np.zeros((nest.images, k, p, q), np.int64)
    for visit in nest.visits():
        across, along = nest.window(visit.p, visit.r), nest.window(visit.q, visit.s)
        window = pixels[visit.image, visit.c.start : visit.c.stop, across.start : across.stop, along.start : along.stop]
        held = filters[np.ix_(visit.k, visit.c, visit.r, visit.s)]
        sums[np.ix_([visit.image], visit.k, visit.p, visit.q)] += _tile_sums(window, held, visit.lengths, nest.stride, array)
    return sums


def _tile_sums(window: Any, held: Any, lengths: Sizes, stride: int, array: SystolicArray) -> Any:
    """Return a tile's sums, k × p × q, from its window and its filters, by the products that the array runs."""
    k, c, p, q, r, s = lengths
    seen = {  # pixels under each tap, p × q × c
        (i, j): window[:, i : i + (p - 1) * stride + 1 : stride, j : j + (q - 1) * stride + 1 : stride].transpose(1, 2, 0)
        for i in range(r)
        for j in range(s)
    }
    result = np.zeros((p, q, k), np.int64)
    if array.dataflow == "output-stationary":
        kernel = held.transpose(2, 3, 1, 0).reshape(-1, k)
        for row in range(q):
            result[:, row] = simulate_array(np.concatenate([seen[tap][:, row] for tap in seen], axis=1), kernel, array).product
    else:
        for (i, j), values in seen.items():
            kernel = held[:, :, i, j].T
            if array.dataflow == "input-stationary":
                for row in range(q):
                    result[:, row] += simulate_array(values[:, row], kernel, array).product
            else:
                result += simulate_array(values.reshape(p * q, c), kernel, array).product.reshape(p, q, k)
    return result.transpose(2, 0, 1)
