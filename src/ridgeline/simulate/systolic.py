"""A systolic array, cycle by cycle: real integers shift from register to register, and what comes out is the product.

A product m × k by k × n is cut into folds that fit the array. A fold occupies the whole array: lanes without work carry nothing,
but the wave still has to cross them. The time of a run is found by stepping the array, never by a closed form. What is
neglected: the delay and the bank conflicts of the memories around the array, and stalls for data (see `pipeline`).

The same registers are run twice: with data, which gives the product, and with ones in place of data, so that a register
that is not zero holds a word, which gives the counts of reads, writes, hops and multiply-accumulates.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, get_args

import numpy as np

from ridgeline.errors import InputError, nearest

Dataflow = Literal["output-stationary", "weight-stationary", "input-stationary", "no-local-reuse"]
Loading = Literal["serial", "preloaded"]
Folds = Literal["drained", "pipelined"]

_STARTS, _ENDS = 1, 2  # markers that travel with the first and the last word of a fold
_ELEMENTS_AT_ONCE = 1 << 15  # registers stepped by one array operation: about what the second-level cache holds
_LOGGED_AT_ONCE = 1 << 22


@dataclass(frozen=True, kw_only=True)
class SystolicArray:
    """A grid of processing elements, and how it is run.

    `loading`: a stationary operand is shifted in before its fold streams (serial), or into shadow registers while the fold
    before it streams (preloaded); output-stationary and no-local-reuse arrays load nothing. `folds`: the next fold waits until
    the array is empty (drained), or follows as closely as the registers allow (pipelined). Without local reuse an input word is
    broadcast to its row, every multiplier reads its weight from the buffer in every cycle, and a tree of adders under
    registers sums each column.

    >>> SystolicArray(rows=16, columns=16, dataflow="weight-stationary").processing_elements
    256
    """

    rows: int
    columns: int
    dataflow: Dataflow
    loading: Loading = "serial"
    folds: Folds = "drained"

    def __post_init__(self) -> None:
        """Refuse an array without elements and modes that are not known."""
        for name in ("rows", "columns"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise InputError(f"{name} of a systolic array must be a whole number of at least 1, not {value!r}")
        for name, known in (("dataflow", get_args(Dataflow)), ("loading", get_args(Loading)), ("folds", get_args(Folds))):
            if getattr(self, name) not in known:
                raise InputError(
                    f"a systolic array has no {name} {getattr(self, name)!r}: {nearest(str(getattr(self, name)), known)}"
                )

    @property
    def processing_elements(self) -> int:
        """Rows times columns."""
        return self.rows * self.columns


@dataclass(frozen=True, kw_only=True, eq=False)
class ArrayRun:
    """What one product took on the array; words are counted at the edge of the array, where its buffers are."""

    cycles: int  # from the cycle of the first word (number 0) to the number of the cycle of the last output
    folds: int
    input_reads: int
    weight_reads: int
    output_writes: int
    partial_reads: int  # sums of an earlier fold that the output buffer reads to add to them
    drain_slots: int  # drain markers put into the lanes of an output-stationary array, one a row and one a column a fold
    hops: int  # words that moved from one processing element to its neighbour
    macs: int
    utilisation: float  # multiply-accumulates over processing elements × occupied cycles
    product: Any = None  # int64, m × n; None where only the shape was given

    @property
    def occupied(self) -> int:
        """Cycles for which the array is taken: one more than the number of the last, because the first is number 0."""
        return self.cycles + 1

    @property
    def output_slots(self) -> int:
        """Output writes with the drain markers counted as writes, as SCALE-Sim counts them."""
        return self.output_writes + self.drain_slots


@dataclass(frozen=True, kw_only=True)
class FoldTiming:
    """Cycles that the first fold occupies an empty array, and cycles that every further fold adds."""

    first: int
    period: int

    def cycles(self, folds: int) -> int:
        """Cycles of a sequence of folds that starts on an empty array and ends with it empty."""
        return self.first + (folds - 1) * self.period


@dataclass(frozen=True)
class _Cut:
    """How a product lies on the array: lengths along rows and columns, and the length of the stream."""

    along_rows: int
    along_columns: int
    stream: int


def _cut(array: SystolicArray, m: int, n: int, k: int) -> _Cut:
    if array.dataflow == "output-stationary":
        return _Cut(m, n, k)
    if array.dataflow in ("weight-stationary", "no-local-reuse"):
        return _Cut(k, n, m)
    return _Cut(k, m, n)


class _Sequencer:
    """The controller: decides in each cycle whether a fold's load or stream begins, by what the array has finished."""

    def __init__(self, array: SystolicArray, stream: int, folds: int) -> None:
        self.stationary = array.dataflow in ("weight-stationary", "input-stationary")
        self.gap = max(stream, array.rows) if array.dataflow == "output-stationary" else stream  # an output bus drains row by row
        self.serial, self.drained = array.loading == "serial", array.folds == "drained"
        self.rows, self.stream, self.folds = array.rows, stream, folds
        self.loads: list[int] = []  # cycle in which the load of each fold began
        self.streams: list[int] = []  # and its stream
        self.ends: list[int] = []  # and in which its last word left the array

    def _may_load(self, cycle: int) -> bool:
        fold = len(self.loads)
        if not self.stationary or fold == self.folds:
            return False
        if fold == 0:
            return True
        if len(self.streams) < fold or cycle < self.loads[-1] + self.rows:
            return False  # the shadow registers still hold the fold before, or the chain is shifting
        if not self.serial:
            return True
        return len(self.ends) == fold if self.drained else cycle >= self.streams[-1] + self.stream

    def _may_stream(self, cycle: int) -> bool:
        fold = len(self.streams)
        if fold == self.folds or (self.drained and len(self.ends) < fold):
            return False
        if self.stationary and (len(self.loads) <= fold or cycle < self.loads[fold] + self.rows):
            return False
        if fold == 0:
            return True
        return cycle >= self.streams[-1] + self.gap

    def advance(self, cycle: int) -> tuple[int, int, int]:
        """Return what enters row 0 and column 0: stream word, marker, and load row with the chain's first word first; −1: none."""
        if self._may_stream(cycle):
            self.streams.append(cycle)
        if self._may_load(cycle):
            self.loads.append(cycle)
        word, marker, row = -1, 0, -1
        if self.streams and (position := cycle - self.streams[-1]) < self.stream:
            word = (len(self.streams) - 1) * self.stream + position
            marker = _STARTS * (position == 0) + _ENDS * (position == self.stream - 1)
        if self.loads and (age := cycle - self.loads[-1]) < self.rows:
            row = age
        return word, marker, row


@dataclass
class _Tally:
    """Counts of words, kept only while the registers carry ones."""

    streamed: int = 0  # words of the operand that enters at the left edge
    other: int = 0  # words of the operand that enters at the top edge
    written: int = 0
    markers: int = 0
    hops: int = 0
    macs: int = 0


class _StationaryGrid:
    """Weights (or, transposed, inputs) stay; the other operand moves right; partial sums move down and leave at the bottom.

    `stream` is (words + 1, rows, lanes) and `kept` (folds × rows + 1, columns, lanes), both with zeros at the end; a lane is an
    array of its own.
    """

    def __init__(self, array: SystolicArray, stream: Any, kept: Any, tally: _Tally | None) -> None:
        rows, columns = array.rows, array.columns
        self.stream, self.kept, self.tally = stream, kept, tally
        shape = (rows, columns, stream.shape[2])
        self.moving, self.moving_next, self.sums, self.sums_next, self.weights = (np.zeros(shape, stream.dtype) for _ in range(5))
        self.chain = self.weights if array.loading == "serial" else np.zeros(shape, stream.dtype)
        self.markers = np.zeros((rows, columns), np.int8)
        self.word_lane, self.marker_lane = np.full(rows, -1), np.zeros(rows, np.int8)
        self.load_lane, self.age_lane = np.full(columns, -1), np.full(columns, -1)
        self.rows, self.columns = np.arange(rows), np.arange(columns)
        self.log: list[Any] = []  # what crossed the bottom edge, cycle by cycle; not kept where only words are counted

    def clock(self, word: int, marker: int, age: int, fold_loading: int) -> bool:
        """Step one cycle; return whether the last word of a fold has crossed the whole array."""
        _shift(self.word_lane, word)
        _shift(self.marker_lane, marker)
        words = self.stream[self.word_lane, self.rows]
        self.markers[:, 1:] = self.markers[:, :-1]
        self.markers[:, 0] = self.marker_lane
        new, old = self.moving_next, self.moving
        new[:, 1:], new[:, 0] = old[:, :-1], words
        self.moving, self.moving_next = new, old
        if self.chain is not self.weights and (starting := self.markers & _STARTS).any():
            np.copyto(self.weights, self.chain, where=starting.astype(bool)[:, :, None])
        sums, above = self.sums_next, self.sums
        np.multiply(new, self.weights, out=sums)
        np.add(sums[1:], above[:-1], out=sums[1:])
        self.sums, self.sums_next = sums, above
        if self.tally is None:
            self.log.append(sums[-1].copy())
        else:
            self.tally.streamed += _count(words)
            self.tally.hops += _count(new[:, 1:]) + _count(above[:-1])
            self.tally.written += _count(sums[-1])
            self.tally.macs += int(sums[-1].sum())
        self._load(age, fold_loading)
        return bool(self.markers[-1, -1] & _ENDS)

    def _load(self, age: int, fold: int) -> None:
        """Shift the load chain at the end of the cycle: it moves down, row by row and column by column behind the wave."""
        rows = len(self.rows)
        _shift(self.age_lane, age)
        _shift(self.load_lane, fold * rows + rows - 1 - age if age >= 0 else -1)
        if self.age_lane.max() < 0:
            return
        words = self.kept[self.load_lane, self.columns]
        moves = (self.rows[:, None] <= self.age_lane[None, :])[:, :, None]
        before = self.chain[:-1].copy()
        np.copyto(self.chain[1:], before, where=moves[1:])
        np.copyto(self.chain[0], words, where=moves[0])
        if self.tally:
            self.tally.other += _count(words)
            self.tally.hops += _count(before * moves[1:])

    def collect(self, log: Any, begin: int, stream: int) -> Any:
        """Return a fold's outputs, (stream, columns, lanes), from what left at the bottom edge, its skew taken out."""
        cycles = begin + len(self.rows) - 1 + np.arange(stream)[:, None] + self.columns[None, :]
        return log[cycles, self.columns[None, :]]


class _OutputGrid:
    """Sums stay; one operand moves right and the other down; a marker behind both puts a sum on its column's output bus.

    `stream` is (words + 1, rows, lanes) and `kept`, the other stream, (words + 1, columns, lanes), both with zeros at the end.
    """

    def __init__(self, array: SystolicArray, stream: Any, kept: Any, tally: _Tally | None) -> None:
        rows, columns = array.rows, array.columns
        self.stream, self.kept, self.tally = stream, kept, tally
        shape = (rows, columns, stream.shape[2])
        self.right, self.right_next, self.down, self.down_next, self.terms, self.sums = (
            np.zeros(shape, stream.dtype) for _ in range(6)
        )
        self.right_markers, self.down_markers = np.zeros((2, rows, columns), np.int8)
        self.lane, self.marker_lane = np.full(max(rows, columns), -1), np.zeros(max(rows, columns), np.int8)
        self.rows, self.columns = np.arange(rows), np.arange(columns)
        self.log: list[Any] = []

    def clock(self, word: int, marker: int, age: int, fold_loading: int) -> bool:  # noqa: ARG002
        """Step one cycle; return whether the last word of a fold has crossed the whole array."""
        rows, columns = len(self.rows), len(self.columns)
        _shift(self.lane, word)
        _shift(self.marker_lane, marker & _ENDS)
        right, down = self.right_next, self.down_next
        right[:, 1:], right[:, 0] = self.right[:, :-1], self.stream[self.lane[:rows], self.rows]
        down[1:], down[0] = self.down[:-1], self.kept[self.lane[:columns], self.columns]
        self.right, self.right_next, self.down, self.down_next = right, self.right, down, self.down
        self.right_markers[:, 1:], self.right_markers[:, 0] = self.right_markers[:, :-1], self.marker_lane[:rows]
        self.down_markers[1:], self.down_markers[0] = self.down_markers[:-1], self.marker_lane[:columns]
        np.multiply(right, down, out=self.terms)
        np.add(self.sums, self.terms, out=self.sums)
        bus = self._drain()
        if self.tally is None:
            self.log.append(bus)
        else:
            self.tally.streamed += _count(right[:, 0])
            self.tally.other += _count(down[0])
            self.tally.hops += _count(right[:, 1:]) + _count(down[1:])
            self.tally.markers += _count(self.marker_lane[:rows]) + _count(self.marker_lane[:columns])
            self.tally.written += _count(bus)
            self.tally.macs += int(np.sum(bus))
        return bool(self.right_markers[-1, -1] & self.down_markers[-1, -1])

    def _drain(self) -> Any:
        """Put the finished sums on the column buses, one word a column, and clear them."""
        ready = (self.right_markers & self.down_markers).astype(bool)
        if not ready.any():
            return np.zeros(self.sums.shape[1:], self.sums.dtype)
        if ready.sum(axis=0).max() > 1:
            raise RuntimeError("two sums on one output bus: the sequencer let folds come too close")
        bus = np.where(ready[:, :, None], self.sums, 0).sum(axis=0)
        self.sums[ready] = 0
        return bus

    def collect(self, log: Any, begin: int, stream: int) -> Any:
        """Return a fold's outputs, (rows, columns, lanes), from what the buses carried."""
        cycles = begin + stream - 1 + self.rows[:, None] + self.columns[None, :]
        return log[cycles, self.columns[None, :]]


class _TreeGrid:
    """Nothing stays: an input word is broadcast along its row, weights come from the buffer, a tree of adders sums a column.

    `stream` is (words + 1, rows, lanes) and `kept`, the weights of each fold, (folds × rows + 1, columns, lanes).
    """

    def __init__(self, array: SystolicArray, stream: Any, kept: Any, tally: _Tally | None) -> None:
        self.stream, self.tally, self.length = stream, tally, (len(stream) - 1) * array.rows // (len(kept) - 1)
        self.weights = kept[:-1].reshape(-1, array.rows, array.columns, stream.shape[2])
        self.stages: list[Any] = []  # registers behind each level of adders
        width = array.rows
        while width > 1:
            width = width // 2 + width % 2
            self.stages.append(np.zeros((width, array.columns, stream.shape[2]), stream.dtype))
        self.markers = np.zeros(len(self.stages) + 1, np.int8)
        self.log: list[Any] = []

    def clock(self, word: int, marker: int, age: int, fold_loading: int) -> bool:  # noqa: ARG002
        """Step one cycle; return whether the last word of a fold has come out of the adders."""
        _shift(self.markers, marker & _ENDS)
        words, weights = self.stream[word], self.weights[word // self.length] if word >= 0 else np.zeros_like(self.weights[0])
        outputs = self._add(words[:, None] * weights)
        if self.tally is None:
            self.log.append(outputs)
        else:
            self.tally.streamed += _count(words)
            self.tally.other += _count(weights)
            self.tally.written += _count(outputs)
            self.tally.macs += int(outputs.sum())
        return bool(self.markers[-1])

    def _add(self, level: Any) -> Any:
        """Clock the tree: each level adds pairs of what the level above held, or of the new products; return what leaves."""
        for stage in self.stages:
            held = stage.copy()
            pairs = len(level) // 2
            np.add(level[: 2 * pairs : 2], level[1 : 2 * pairs : 2], out=stage[:pairs])
            stage[pairs:] = level[2 * pairs :]
            level = held
        return level[0].copy()

    def collect(self, log: Any, begin: int, stream: int) -> Any:
        """Return a fold's outputs, (stream, columns, lanes), from what left the trees."""
        return log[begin + len(self.stages) + np.arange(stream)]


def _count(words: Any) -> int:
    """Return how many registers hold a word."""
    return int(np.count_nonzero(words))


def _shift(lane: Any, value: int) -> None:
    """Push a value into the registers that delay lane after lane by one cycle more: the skew."""
    lane[1:] = lane[:-1]
    lane[0] = value


def _run(array: SystolicArray, stream: Any, kept: Any, length: int, tally: _Tally | None = None) -> tuple[_Sequencer, Any]:
    """Step an empty array until every fold has left it; return the cycles of each fold and the grid with its log."""
    folds = (len(stream) - 1) // length
    sequencer = _Sequencer(array, length, folds)
    kinds = {"output-stationary": _OutputGrid, "no-local-reuse": _TreeGrid}
    grid = kinds.get(array.dataflow, _StationaryGrid)(array, stream, kept, tally)
    cycle = 0
    while len(sequencer.ends) < folds:
        word, marker, age = sequencer.advance(cycle)
        if grid.clock(word, marker, age, len(sequencer.loads) - 1):
            sequencer.ends.append(cycle)
        cycle += 1
    return sequencer, grid


def _with_zeros(words: Any) -> Any:
    return np.concatenate([words, np.zeros((1, *words.shape[1:]), words.dtype)])


def _ones(array: SystolicArray, cut: _Cut, folds: int) -> tuple[Any, Any]:
    """Return operands of ones, one lane, for folds of one shape."""
    stream = np.zeros((folds * cut.stream, array.rows, 1), np.int32)
    stream[:, : cut.along_rows] = 1
    if array.dataflow == "output-stationary":
        kept = np.zeros((folds * cut.stream, array.columns, 1), np.int32)
        kept[:, : cut.along_columns] = 1
    else:
        block = np.zeros((folds, array.rows, array.columns, 1), np.int32)
        block[:, : cut.along_rows, : cut.along_columns] = 1
        kept = block.reshape(folds * array.rows, array.columns, 1)
    return _with_zeros(stream), _with_zeros(kept)


@lru_cache(maxsize=4096)
def _count_fold(array: SystolicArray, cut: _Cut) -> _Tally:
    """Step one fold of one shape with ones in place of data and return the counts."""
    tally = _Tally()
    stream, kept = _ones(array, cut, 1)
    _run(array, stream, kept, cut.stream, tally)
    return tally


def fold_count(array: SystolicArray, *, m: int, n: int, k: int) -> tuple[int, int]:
    """Return how many folds a product takes on the array, ragged ones counted as one, and the words of a fold's stream.

    >>> fold_count(SystolicArray(rows=4, columns=4, dataflow="output-stationary"), m=9, n=4, k=7)
    (3, 7)
    """
    cut = _cut(array, m, n, k)
    return len(range(0, cut.along_rows, array.rows)) * len(range(0, cut.along_columns, array.columns)), cut.stream


@lru_cache(maxsize=4096)
def fold_timing(array: SystolicArray, stream: int) -> FoldTiming:
    """Step the array through one fold and, where folds overlap, through three, and return when folds end.

    An array that is drained and loads serially is empty between folds, so each takes what the first took. Another one repeats
    from the second fold on, because what its sequencer waits for is the fold before.

    >>> fold_timing(SystolicArray(rows=4, columns=4, dataflow="weight-stationary"), 10)  # load 4, stream 10, cross 3 + 3
    FoldTiming(first=20, period=20)
    """
    folds = 1 if array.folds == "drained" and array.loading == "serial" else 3
    words, kept = _ones(array, _Cut(array.rows, array.columns, stream), folds)
    sequencer, _ = _run(array, words, kept, stream, _Tally())
    first = sequencer.ends[0] + 1
    return FoldTiming(first=first, period=first if folds == 1 else sequencer.ends[2] - sequencer.ends[1])


def _shapes(length: int, size: int) -> list[tuple[int, int]]:
    """Return (used, how many) for the full folds and the ragged one along a side of the array."""
    full, rest = divmod(length, size)
    return [(used, count) for used, count in ((size, full), (rest, 1)) if used and count]


def _check_size(**sizes: int) -> None:
    for name, value in sizes.items():
        if value != int(value) or value < 1:
            raise InputError(f"{name} of a matrix product must be a whole number of at least 1, not {value!r}")


def simulate_shape(*, m: int, n: int, k: int, array: SystolicArray) -> ArrayRun:
    """Cycles and memory accesses of a product of a given shape: one fold of each distinct shape is stepped, equal ones are added.

    Folds of one product have the same stream, so they differ only where an edge fold leaves lanes empty. Cycles are counted as
    SCALE-Sim 3 does [samajdar2020scalesim]: the number, from 0, of the last cycle; its counts of reads are `input_reads` and
    `weight_reads`, of writes `output_slots`. Neglected: memory beyond the array's own buffers.

    >>> run = simulate_shape(m=3, n=2, k=2, array=SystolicArray(rows=2, columns=2, dataflow="weight-stationary"))
    >>> run.cycles, run.occupied  # load 2, stream 3, cross 1 + 1
    (6, 7)
    >>> run.input_reads, run.weight_reads, run.output_writes, run.macs
    (6, 4, 6, 12)
    """
    _check_size(m=m, n=n, k=k)
    cut = _cut(array, m, n, k)
    total = _Tally()
    partial = folds = 0
    for used_rows, count_rows in _shapes(cut.along_rows, array.rows):
        for used_columns, count_columns in _shapes(cut.along_columns, array.columns):
            count = count_rows * count_columns
            tally = _count_fold(array, _Cut(used_rows, used_columns, cut.stream))
            for name, value in vars(tally).items():
                setattr(total, name, getattr(total, name) + count * value)
            folds += count
    if array.dataflow != "output-stationary":
        partial = total.written - m * n  # every sum but the first of each output is added to one in the buffer
    cycles = fold_timing(array, cut.stream).cycles(folds)
    swapped = array.dataflow == "input-stationary"
    return ArrayRun(
        cycles=cycles - 1,
        folds=folds,
        input_reads=total.other if swapped else total.streamed,
        weight_reads=total.streamed if swapped else total.other,
        output_writes=total.written,
        partial_reads=partial,
        drain_slots=total.markers,
        hops=total.hops,
        macs=total.macs,
        utilisation=total.macs / (array.processing_elements * cycles),
    )


def simulate_array(inputs: Any, weights: Any, array: SystolicArray) -> ArrayRun:
    """Multiply integers on the array: m × k `inputs` by k × n `weights`, moved from register to register.

    Folds go through the array in order, columns outer and rows inner; a pipelined array is stepped in groups of three consecutive
    folds, each from empty, and the groups are run side by side: the values do not depend on the grouping, and the cycles
    are those of the whole sequence. Sums are 64-bit. Raises `InputError` for operands that are not whole numbers or do not fit.

    >>> run = simulate_array([[1, 2], [3, 4]], [[5], [6]], SystolicArray(rows=2, columns=1, dataflow="output-stationary"))
    >>> run.product.tolist(), run.cycles  # the last sum ends in cycle 2: 2 words, 1 row further
    ([[17], [39]], 2)
    """
    left, right = _operand("inputs", inputs), _operand("weights", weights)
    if left.shape[1] != right.shape[0]:
        raise InputError(f"inputs are {left.shape[0]} × {left.shape[1]} and weights {right.shape[0]} × {right.shape[1]}: k differs")
    run = simulate_shape(m=left.shape[0], n=right.shape[1], k=left.shape[1], array=array)
    if array.dataflow == "output-stationary":
        product = _multiply_output_stationary(left, right, array)
    elif array.dataflow in ("weight-stationary", "no-local-reuse"):
        product = _multiply_stationary(left, right, array)
    else:
        product = _multiply_stationary(right.T, left.T, array).T
    return ArrayRun(**{**vars(run), "product": product})


def _operand(name: str, values: Any) -> Any:
    matrix = np.asarray(values)
    if matrix.ndim != 2 or matrix.dtype.kind not in "iu" or not matrix.size:
        raise InputError(f"{name} must be a matrix of whole numbers, not {matrix.dtype} of shape {matrix.shape}")
    return matrix.astype(np.int64)


def _padded(matrix: Any, rows: int, columns: int) -> Any:
    return np.pad(matrix, ((0, -matrix.shape[0] % rows), (0, -matrix.shape[1] % columns)))


def _groups(array: SystolicArray, row_folds: int, column_folds: int, stream: int) -> Iterator[tuple[Any, Any]]:
    """Yield row and column numbers of folds, (group, lanes) each: lanes are run side by side, a group one after another."""
    order = np.arange(row_folds * column_folds)
    length = 1 if array.folds == "drained" else min(3, len(order))
    lanes = min(_ELEMENTS_AT_ONCE // array.processing_elements, _LOGGED_AT_ONCE // (length * (stream + array.rows) * array.columns))
    whole = len(order) // length * length
    groups = order[:whole].reshape(-1, length)
    for begin in range(0, len(groups), max(lanes, 1)):
        some = groups[begin : begin + max(lanes, 1)].T
        yield some % row_folds, some // row_folds
    if whole < len(order):
        rest = order[whole:, None]
        yield rest % row_folds, rest // row_folds


def _multiply_stationary(stream: Any, kept: Any, array: SystolicArray) -> Any:
    """Return stream (t × x) times kept (x × y), x along the rows and y along the columns of the array."""
    length, width = stream.shape[0], kept.shape[1]
    words = _padded(stream, 1, array.rows).reshape(length, -1, array.rows)
    blocks = _padded(kept, array.rows, array.columns)
    blocks = blocks.reshape(words.shape[1], array.rows, -1, array.columns)
    result = np.zeros((length, blocks.shape[2], array.columns), np.int64)
    for rows, columns in _groups(array, words.shape[1], blocks.shape[2], length):
        fed = words[:, rows].transpose(1, 0, 3, 2).reshape(-1, array.rows, rows.shape[1])
        held = blocks[rows, :, columns].transpose(0, 2, 3, 1).reshape(-1, array.columns, rows.shape[1])
        sequencer, grid = _run(array, _with_zeros(fed), _with_zeros(held), length)
        log = np.stack(grid.log)
        for fold, begin in enumerate(sequencer.streams):
            outputs = grid.collect(log, begin, length)
            for lane, column in enumerate(columns[fold]):
                result[:, column] += outputs[:, :, lane]
    return result.reshape(length, -1)[:, :width]


def _multiply_output_stationary(inputs: Any, weights: Any, array: SystolicArray) -> Any:
    """Return inputs times weights, rows of the inputs along the rows and columns of the weights along the columns."""
    length = inputs.shape[1]
    left = _padded(inputs.T, 1, array.rows).reshape(length, -1, array.rows)
    right = _padded(weights, 1, array.columns).reshape(length, -1, array.columns)
    result = np.zeros((left.shape[1], array.rows, right.shape[1], array.columns), np.int64)
    for rows, columns in _groups(array, left.shape[1], right.shape[1], length):
        fed = left[:, rows].transpose(1, 0, 3, 2).reshape(-1, array.rows, rows.shape[1])
        other = right[:, columns].transpose(1, 0, 3, 2).reshape(-1, array.columns, rows.shape[1])
        sequencer, grid = _run(array, _with_zeros(fed), _with_zeros(other), length)
        log = np.stack(grid.log)
        for fold, begin in enumerate(sequencer.streams):
            result[rows[fold], :, columns[fold]] = grid.collect(log, begin, length).transpose(2, 0, 1)
    return result.reshape(result.shape[0] * array.rows, -1)[: inputs.shape[0], : weights.shape[1]]
