"""A tiled matrix product on a chip with one array: the loop nest is walked tile by tile and run through the pipeline.

Nothing is counted by a formula: a tile is loaded when it differs from the one in its buffer, partial sums leave and come back when
their tile is evicted before its sums are complete, and each tile takes the cycles of its folds on the stepped array.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ridgeline.errors import InputError
from ridgeline.simulate.pipeline import Pipeline, PipelineRun, Step, simulate_pipeline
from ridgeline.simulate.systolic import SystolicArray, fold_count, fold_timing

TENSORS = ("input", "weight", "output")


@dataclass(frozen=True, kw_only=True)
class ElementBytes:
    """Bytes of one element: of the operands, of the final output, and of a partial sum that leaves the chip."""

    input: float = 1
    weight: float = 1
    output: float = 1
    accumulator: float = 4


@dataclass(frozen=True, kw_only=True, eq=False)
class ProductRun:
    """What a tiled product took: cycles, payload bytes by tensor, and the run of the pipeline with its time line."""

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
    """The loop nest and its buffers: which tile of each tensor is resident, and how far each output tile is."""

    sizes: Mapping[str, int]
    tile: Mapping[str, int]
    order: str
    array: SystolicArray
    element: ElementBytes
    vector_width: int | None
    read: dict[str, float] = field(default_factory=lambda: dict.fromkeys(TENSORS, 0.0))
    written: dict[str, float] = field(default_factory=lambda: {"output": 0.0, "partial": 0.0})
    tiles: int = 0

    def _visits(self) -> Iterator[dict[str, int]]:
        """Yield the first element of each tile along m, n and k, in the order of the loops."""
        outer, middle, inner = self.order
        ranges = {name: range(0, self.sizes[name], self.tile[name]) for name in "mnk"}
        for first in ranges[outer]:
            for second in ranges[middle]:
                for third in ranges[inner]:
                    yield {outer: first, middle: second, inner: third}

    def _length(self, name: str, at: int) -> int:
        return min(self.tile[name], self.sizes[name] - at)

    def steps(self) -> Iterator[Step]:
        """Yield one step a tile; whether a step ends its output tile's stay is known when the next tile is."""
        resident: dict[str, tuple[int, int]] = {}
        done: dict[tuple[int, int], int] = {}  # output tile → how much of k is summed
        waiting: Step | None = None
        output, size = (-1, -1), 0
        for at in self._visits():
            m, n, k = (self._length(name, at[name]) for name in "mnk")
            if waiting is not None:
                yield waiting if output == (at["m"], at["n"]) else self._close(waiting, output, size, done)
            partial = 0.0
            if output != (at["m"], at["n"]):
                output, size = (at["m"], at["n"]), m * n
                partial = size * self.element.accumulator if done.get(output) else 0.0
                self.read["output"] += partial
            loads = self._loads(resident, at, m, n, k)
            done[output] = done.get(output, 0) + k
            name = f"m{at['m']} n{at['n']} k{at['k']}"
            waiting = Step(loads=loads, array=self._array_cycles(m, n, k), partial=partial, closes=False, name=name)
            self.tiles += 1
        if waiting is not None:
            yield self._close(waiting, output, size, done)

    def _loads(self, resident: dict[str, tuple[int, int]], at: dict[str, int], m: int, n: int, k: int) -> tuple[float, ...]:
        """Return bytes of the operand tiles that are not resident, and make them so."""
        loads: list[float] = []
        for tensor, tile, elements, element in (
            ("input", (at["m"], at["k"]), m * k, self.element.input),
            ("weight", (at["k"], at["n"]), k * n, self.element.weight),
        ):
            loads.append(0 if resident.get(tensor) == tile else elements * element)
            resident[tensor] = tile
            self.read[tensor] += loads[-1]
        return tuple(loads)

    def _close(self, step: Step, output: tuple[int, int], size: int, done: Mapping[tuple[int, int], int]) -> Step:
        """End an output tile's stay: finished by the vector unit and stored, or its partial sums stored."""
        if done[output] < self.sizes["k"]:
            store = size * self.element.accumulator
            self.written["partial"] += store
            return step._replace(store=store, closes=True)
        store = size * self.element.output
        self.written["output"] += store
        vector = -(-size // self.vector_width) if self.vector_width else 0
        return step._replace(store=store, vector=vector, closes=True)

    def _array_cycles(self, m: int, n: int, k: int) -> int:
        """Return cycles of a tile's folds; on a pipelined array only the first tile fills and empties it."""
        folds, stream = fold_count(self.array, m=m, n=n, k=k)
        timing = fold_timing(self.array, stream)
        return timing.cycles(folds) if self.tiles == 0 else folds * timing.period


def _check(sizes: Mapping[str, int], tile: Mapping[str, int], order: str, vector_width: int | None) -> None:
    for what, values in (("size", sizes), ("tile", tile)):
        for name, value in values.items():
            if value != int(value) or value < 1:
                raise InputError(f"{what} of {name} must be a whole number of at least 1, not {value!r}")
    if sorted(order) != ["k", "m", "n"]:
        raise InputError(f"a loop order is a permutation of mnk, outer to inner, not {order!r}")
    if vector_width is not None and (vector_width != int(vector_width) or vector_width < 1):
        raise InputError(f"a vector unit handles a whole number of at least 1 elements a cycle, not {vector_width!r}")


def simulate_product(
    size: tuple[int, int, int],
    tile: tuple[int, int, int],
    order: str,
    *,
    array: SystolicArray,
    pipeline: Pipeline,
    element: ElementBytes | None = None,
    vector_width: int | None = None,
    spans: bool = False,
) -> ProductRun:
    """Run an m × k by k × n product cut into tiles, loops in an order such as "mnk" (outer to inner), and count what it takes.

    `size` and `tile` are (m, n, k) in elements; edge tiles are ragged. One tile of each tensor is resident at a time, in buffers
    of `pipeline.load_slots` and `output_slots` tiles; whether they fit a capacity is not asked here. A finished output tile
    passes the vector unit at `vector_width` elements a cycle (None: at once). Neglected: bursts of the rows inside a tile, tiles
    kept for later than the next step, and refilling a pipelined array after a stall.

    >>> array = SystolicArray(rows=4, columns=4, dataflow="weight-stationary", loading="preloaded", folds="pipelined")
    >>> run = simulate_product((8, 4, 8), (8, 4, 4), "mnk", array=array, pipeline=Pipeline(bandwidth=4.0))
    >>> run.read, run.written  # every tile once: k is the inner loop
    ({'input': 64.0, 'weight': 32.0, 'output': 0.0}, {'output': 32.0, 'partial': 0.0})
    >>> run.cycles  # load 8 + 4; first fold 4 + 8 + 3 + 3 hides the next load; second fold 8; store 8
    46
    """
    sizes, tiles = dict(zip("mnk", size, strict=True)), dict(zip("mnk", tile, strict=True))
    _check(sizes, tiles, order, vector_width)
    walk = _Walk(sizes, tiles, order, array, element or ElementBytes(), vector_width)
    run = simulate_pipeline(walk.steps(), pipeline, tensors=("input tile", "weight tile"), spans=spans)
    macs = sizes["m"] * sizes["n"] * sizes["k"]
    return ProductRun(
        cycles=run.cycles,
        macs=macs,
        array_cycles=run.busy["array"],
        tiles=walk.tiles,
        utilisation=macs / (array.processing_elements * run.cycles),
        read=walk.read,
        written=walk.written,
        pipeline=run,
    )
