"""Cycles and buffer accesses of a matrix product m × k by k × n on a processing-element array, by dataflow.

An array has `rows` × `columns` elements. One dimension of the product lies along the rows, one along the columns, and the third
streams; a product larger than the array is cut into folds. Two behaviours of a fold are expressible:

- serial: the stationary operand is loaded, then the third dimension streams through the skewed array and drains before the next
  fold starts, which is how SCALE-Sim counts [samajdar2020scalesim];
- pipelined: the next fold's operand is loaded behind the current stream, and streams follow one another without a gap.
"""

from typing import NamedTuple

from ridgeline.arrays import ceil_divide, ceil_log2, maximum
from ridgeline.quantities import Count


class ArrayCost(NamedTuple):
    """What a product takes on an array: cycles, and accesses in elements."""

    cycles: Count
    folds: Count
    utilisation: Count  # multiply-accumulates over elements × cycles
    input_reads: Count  # from the buffer
    weight_reads: Count
    output_writes: Count  # to the buffer, partial sums included
    neighbour_hops: Count  # operands and partial sums handed to the next element
    register_accesses: Count  # reads and writes of registers inside the elements


def _cost(
    macs: Count, cycles: Count, folds: Count, elements: Count, reads: tuple[Count, Count], writes: Count, hops: Count
) -> ArrayCost:
    registers = 3.0 * macs + writes  # two operands read and one sum updated a multiply-accumulate, sums handed out
    return ArrayCost(cycles, folds, macs / (elements * cycles), reads[0], reads[1], writes, hops, registers)


def weight_stationary(*, m: Count, n: Count, k: Count, rows: Count, columns: Count, pipelined: bool = False) -> ArrayCost:
    """Weights stay: k along the rows, n along the columns, m streams.

        serial     ⌈k/R⌉·⌈n/C⌉ · (m + 2R + C − 2) − 1      load R, then m through the skew of R + C − 2   [samajdar2020scalesim]
        pipelined  (⌈k/R⌉·⌈n/C⌉ − 1) · max(m, R) + m + 2R + C − 2   the first load and the last skew remain

    Inputs are read once a column fold, weights once, partial sums written once a row fold. Neglects bank conflicts.

    >>> weight_stationary(m=4, n=2, k=2, rows=2, columns=2).cycles  # 2 to load, 4 + 2 through the skew, counted from 0
    7
    """
    row_folds, column_folds = ceil_divide(k, rows), ceil_divide(n, columns)
    folds = row_folds * column_folds
    serial = folds * (m + 2 * rows + columns - 2) - 1
    cycles = (folds - 1) * maximum(m, rows) + m + 2 * rows + columns - 2 if pipelined else serial
    hops = m * k * n + m * n * k  # inputs along a row, partial sums down a column
    return _cost(m * n * k, cycles, folds, rows * columns, (m * k * column_folds, k * n), m * n * row_folds, hops)


def input_stationary(*, m: Count, n: Count, k: Count, rows: Count, columns: Count, pipelined: bool = False) -> ArrayCost:
    """Inputs stay: k along the rows, m along the columns, n streams; the transpose of weight-stationary.

        serial     ⌈k/R⌉·⌈m/C⌉ · (n + 2R + C − 2) − 1   [samajdar2020scalesim]

    >>> input_stationary(m=2, n=4, k=2, rows=2, columns=2).cycles
    7
    """
    other = weight_stationary(m=n, n=m, k=k, rows=rows, columns=columns, pipelined=pipelined)
    return other._replace(input_reads=other.weight_reads, weight_reads=other.input_reads)


def output_stationary(*, m: Count, n: Count, k: Count, rows: Count, columns: Count, pipelined: bool = False) -> ArrayCost:
    """Sums stay: m along the rows, n along the columns, k streams, results are handed out at the end of a fold.

        serial     ⌈m/R⌉·⌈n/C⌉ · (k + R + C − 2) − 1   [samajdar2020scalesim]
        pipelined  (⌈m/R⌉·⌈n/C⌉ − 1) · max(k, R) + k + R + C − 2   a fold's sums leave while the next streams

    Buffer writes count the m·n results; SCALE-Sim's own count adds R + C empty drain slots a fold.

    >>> output_stationary(m=2, n=2, k=4, rows=2, columns=2).cycles  # 4 + 2 through the skew, counted from 0
    5
    """
    row_folds, column_folds = ceil_divide(m, rows), ceil_divide(n, columns)
    folds = row_folds * column_folds
    serial = folds * (k + rows + columns - 2) - 1
    cycles = (folds - 1) * maximum(k, rows) + k + rows + columns - 2 if pipelined else serial
    hops = 2 * m * n * k  # inputs along a row, weights down a column
    return _cost(m * n * k, cycles, folds, rows * columns, (m * k * column_folds, k * n * row_folds), m * n, hops)


def no_local_reuse(*, m: Count, n: Count, k: Count, rows: Count, columns: Count, pipelined: bool = True) -> ArrayCost:
    """Nothing stays: k along the rows into adder trees, n along the columns; every operand comes from the buffer each cycle.

        m · ⌈k/R⌉ · ⌈n/C⌉ + ⌈log₂ R⌉   the trees' depth once, or every fold where folds are not pipelined   [chen2016eyeriss, §IV]

    Inputs are broadcast along the columns; weights are read for every multiply-accumulate.

    >>> no_local_reuse(m=4, n=2, k=2, rows=2, columns=2).cycles  # and one level of adders
    5
    """
    row_folds, column_folds = ceil_divide(k, rows), ceil_divide(n, columns)
    folds = row_folds * column_folds
    depth = ceil_log2(rows)
    cycles = m * folds + depth if pipelined else (m + depth) * folds
    return _cost(m * n * k, cycles, folds, rows * columns, (m * k * column_folds, m * n * k), m * n * row_folds, 0 * m)


def temporal(*, m: Count, n: Count, k: Count, rows: Count, columns: Count, depth: Count) -> ArrayCost:
    """A unit that multiplies a rows × depth by a depth × columns block a cycle: tensor cores (depth > 1), SIMD lanes (rows = 1).

        ⌈m/rows⌉ · ⌈n/columns⌉ · ⌈k/depth⌉

    Operands come from registers; each block is read once a step.

    >>> temporal(m=16, n=8, k=16, rows=8, columns=4, depth=16).cycles
    4
    """
    row_folds, column_folds, steps = ceil_divide(m, rows), ceil_divide(n, columns), ceil_divide(k, depth)
    folds = row_folds * column_folds
    cycles = folds * steps
    return _cost(m * n * k, cycles, folds, rows * columns * depth, (m * k * column_folds, k * n * row_folds), m * n, 0 * m)


def row_stationary(
    *,
    filters: Count,
    channels: Count,
    filter_rows: Count,
    filter_columns: Count,
    output_rows: Count,
    output_columns: Count,
    images: Count,
    rows: Count,
    columns: Count,
) -> ArrayCost:
    """Rows of filters and of images stay: an element slides one filter row over one image row [chen2016eyeriss, §V].

    A set of filter_rows × output_rows elements makes one plane of one channel: filter rows go along, image rows diagonally, sums
    up a column. ⌊R / filter_rows⌋ sets stand above one another (filter rows beyond R are folded); output rows beyond C fold.

        cycles = ⌈filter_rows/R⌉ · ⌈output_rows/C⌉ · ⌈images·filters·channels / sets⌉ · output_columns · filter_columns

    Image rows are read once a filter group of a pass, filter rows once a column fold; neglects the passes' fill and drain.

    >>> row_stationary(filters=1, channels=1, filter_rows=3, filter_columns=3, output_rows=4, output_columns=4, images=1,
    ...                rows=3, columns=4).cycles  # 12 elements, 144 multiply-accumulates
    12
    """
    sets = maximum(rows // filter_rows, 1 + 0 * filter_rows)
    row_folds, column_folds = ceil_divide(filter_rows, rows), ceil_divide(output_rows, columns)
    passes = ceil_divide(images * filters * channels, sets)
    cycles = row_folds * column_folds * passes * output_columns * filter_columns
    macs = images * filters * channels * filter_rows * filter_columns * output_rows * output_columns
    image_rows = output_rows + filter_rows - 1
    image_columns = output_columns + filter_columns - 1
    inputs = images * channels * filters * image_rows * image_columns / sets
    weights = filters * channels * filter_rows * filter_columns * column_folds * images
    outputs = images * filters * output_rows * output_columns * ceil_divide(channels, sets) * row_folds
    hops = images * filters * channels * (filter_rows - 1) * output_rows * output_columns
    return _cost(macs, cycles, row_folds * column_folds * passes, rows * columns, (inputs, weights), outputs, hops)
