"""A convolution on a row-stationary array: cycles, traffic and energy of a mapping in processing passes.

An element keeps a row of a filter and slides it over a row of an image: a 1-D convolution whose operands and sums stay in its
registers. A set of filter rows × output rows makes one plane of outputs: filter rows go along, image rows diagonally, sums up the
columns. Sets are repeated over the physical array for further channels (their sums add up) and further filters. What runs at
once is a processing pass; passes follow one another while sums and image rows stay in the buffer [chen2017eyerissjssc, §III].
Sizes are counts, times cycles, stores bytes. Everything is arithmetic on floats or arrays.
"""

from typing import NamedTuple

from ridgeline.arrays import ceil_divide, maximum, minimum, where
from ridgeline.costs.tiled import Layer
from ridgeline.quantities import Bytes, Fraction, Joules, JoulesPerByte, Quantity

FILTERS_OUTSIDE, STRIPS_OUTSIDE = 0, 1  # orders of the DRAM loops: filters before images and strips, or after them
_RUN_LENGTH_BITS = 64.0 / 3.0  # three runs of zeros, each with the value that follows, share a word of 64 bits
_VALUE_BITS = 16.0


class RowArray(NamedTuple):
    """Rows × columns of elements, and what the network brings to and from them: bytes a cycle."""

    rows: Quantity
    columns: Quantity
    weight_rate: Quantity
    input_rate: Quantity
    sum_rate: Quantity  # in each direction


class RowStores(NamedTuple):
    """Bytes of an element's registers, of the buffers, of an element of a tensor, and of DRAM a cycle."""

    weight_registers: Bytes
    input_registers: Bytes
    sum_registers: Bytes
    buffer: Bytes  # image rows and sums
    weight_buffer: Bytes  # filters of the pass to come
    dram_rate: Quantity  # bytes a cycle
    input_bytes: Bytes = 2.0
    weight_bytes: Bytes = 2.0
    sum_bytes: Bytes = 2.0
    copies: Quantity = 1.0  # 2: the buffer holds the next image rows and the last sums beside those in use


class RowTile(NamedTuple):
    """A mapping; the papers' letters in brackets."""

    filters: Quantity  # [m] whose sums the buffer holds
    images: Quantity  # [n] of a pass
    rows: Quantity  # [e] output rows of a set, a strip of the plane
    element_filters: Quantity  # [p] interleaved in an element
    element_channels: Quantity  # [q] interleaved in an element
    channel_sets: Quantity  # [r] that add up
    filter_sets: Quantity  # [t]


class Zeros(NamedTuple):
    """Shares of values that are zero, as far as the chip makes use of them."""

    gated: Fraction = 0.0  # inputs at which neither is the weight read nor does the multiplier switch
    inputs: Fraction = 0.0  # of what crosses DRAM in run-length code
    outputs: Fraction = 0.0


class RowCost(NamedTuple):
    """What a mapping costs: cycles, bytes by place and tensor, bytes held, and whether all fits."""

    cycles: Quantity
    processing: Quantity  # of the array, transfers from and to DRAM aside
    compute: Quantity
    network: Quantity  # of the busiest of the three networks
    start: Quantity  # exposed at the passes' ends: filters in, first window in, last sums out
    dram: Quantity
    dram_inputs: Bytes
    dram_weights: Bytes
    dram_outputs: Bytes
    buffer_inputs: Bytes  # read to the array
    buffer_weights: Bytes
    buffer_sums: Bytes  # written and read
    filled_inputs: Bytes  # written as they arrive from DRAM
    network_inputs: Bytes  # delivered, counted at every element that takes them
    network_weights: Bytes
    network_sums: Bytes  # handed on, in and out
    register_inputs: Bytes  # read and written inside the elements
    register_weights: Bytes
    register_sums: Bytes
    active_macs: Quantity  # not skipped
    used: tuple[Quantity, ...]  # counts and bytes, in the order of PLACES
    fits: Quantity


PLACES = (
    "rows",
    "columns",
    "sets",
    "weight registers",
    "input registers",
    "sum registers",
    "buffer",
    "weight buffer",
)


def run_length_bytes(*, bytes: Bytes, zeros: Fraction) -> Bytes:
    """Bytes of 16-bit values in run-length code: three pairs of a run of zeros and a value fill 64 bits.

        min(1, (1 − zeros) · 64 / 3 / 16) · bytes   [chen2017eyerissjssc, §V]

    Runs longer than a pair can say (31) are neglected, and so is that zeros come in clusters; what would grow goes uncoded.

    >>> run_length_bytes(bytes=1200.0, zeros=0.75), run_length_bytes(bytes=1200.0, zeros=0.1)
    (400.0, 1200.0)
    """
    coded = (1.0 - zeros) * (_RUN_LENGTH_BITS / _VALUE_BITS)
    return bytes * minimum(coded, 1.0 + 0.0 * coded)


def set_places(tile: RowTile, layer: Layer, array: RowArray) -> tuple[Quantity, Quantity]:
    """Return how many sets stand above one another on the array, and how many side by side.

    A set of more output rows than the array has columns is folded into segments that stand above one another
    [chen2017eyerissjssc, Fig. 6].

    >>> conv2 = Layer(n=4.0, k=128.0, c=48.0, p=27.0, q=27.0, r=5.0, s=5.0, stride=1.0)
    >>> set_places(RowTile(64.0, 1.0, 27.0, 16.0, 2.0, 1.0, 1.0), conv2, RowArray(12.0, 14.0, 8.0, 2.0, 8.0))  # 5 rows of 14 + 13
    (1.0, 1.0)
    """
    segments = ceil_divide(tile.rows, array.columns)
    return array.rows // (layer.s * segments), array.columns // minimum(tile.rows, array.columns)


def row_used(layer: Layer, tile: RowTile, array: RowArray, stores: RowStores) -> tuple[Quantity, ...]:
    """Return what a mapping takes of each of PLACES: rows, columns, sets above, bytes.

    >>> conv1 = Layer(n=4.0, k=96.0, c=3.0, p=55.0, q=55.0, r=11.0, s=11.0, stride=4.0)
    >>> chip = RowArray(12.0, 14.0, 8.0, 2.0, 8.0), RowStores(448.0, 24.0, 48.0, 102400.0, 8192.0, 2.4)
    >>> row_used(conv1, RowTile(96.0, 1.0, 7.0, 16.0, 1.0, 1.0, 2.0), *chip)[6]  # sums 73 920 and image rows 15 890
    89810.0
    """
    above, _ = set_places(tile, layer, array)
    width = (layer.p - 1.0) * layer.stride + layer.r
    extent = (tile.rows - 1.0) * layer.stride + layer.s
    channels = minimum(tile.element_channels * tile.channel_sets, layer.c)
    sums = tile.filters * tile.images * tile.rows * layer.p * stores.sum_bytes
    inputs = channels * tile.images * extent * width * stores.input_bytes
    pass_filters = minimum(tile.element_filters * tile.filter_sets, layer.k)
    stacked = where(above > 0.0, above, 1.0) // tile.channel_sets  # whole chains of sets that add up
    return (
        layer.s * ceil_divide(tile.rows, array.columns),
        ceil_divide(tile.filter_sets, maximum(stacked, 1.0 + 0.0 * stacked)) * minimum(tile.rows, array.columns),
        tile.channel_sets,
        tile.element_filters * tile.element_channels * layer.r * stores.weight_bytes,
        tile.element_channels * layer.r * stores.input_bytes,
        tile.element_filters * stores.sum_bytes,
        stores.copies * (sums + inputs),
        pass_filters * channels * layer.r * layer.s * stores.weight_bytes,
    )


def row_room(layer: Layer, tile: RowTile, array: RowArray, stores: RowStores) -> tuple[Quantity, ...]:
    """Return what there is of each of PLACES.

    >>> one = Layer(n=1.0, k=1.0, c=1.0, p=4.0, q=4.0, r=3.0, s=3.0, stride=1.0)
    >>> chip = RowArray(12.0, 14.0, 8.0, 2.0, 8.0), RowStores(448.0, 24.0, 48.0, 102400.0, 8192.0, 2.4)
    >>> row_room(one, RowTile(1.0, 1.0, 4.0, 1.0, 1.0, 1.0, 1.0), *chip)[:3]  # four sets of three rows stand above one another
    (12.0, 14.0, 4.0)
    """
    above, _ = set_places(tile, layer, array)
    return (
        array.rows,
        array.columns,
        above,
        stores.weight_registers,
        stores.input_registers,
        stores.sum_registers,
        stores.buffer,
        stores.weight_buffer,
    )


class _Counts(NamedTuple):
    """How often a mapping repeats its work."""

    strips: Quantity
    image_groups: Quantity
    filter_groups: Quantity
    channel_groups: Quantity
    filter_passes: Quantity
    height: Quantity  # image rows of all strips
    width: Quantity  # of an image row


def _counts(layer: Layer, tile: RowTile) -> _Counts:
    strips = ceil_divide(layer.q, tile.rows)
    return _Counts(
        strips,
        ceil_divide(layer.n, tile.images),
        ceil_divide(layer.k, tile.filters),
        ceil_divide(layer.c, tile.element_channels * tile.channel_sets),
        ceil_divide(layer.k, tile.element_filters * tile.filter_sets),
        layer.stride * (layer.q - strips) + layer.s * strips,
        (layer.p - 1.0) * layer.stride + layer.r,
    )


def row_cost(
    layer: Layer, tile: RowTile, order: Quantity, array: RowArray, stores: RowStores, zeros: Zeros | None = None
) -> RowCost:
    """Cycles, traffic and room of a mapping.

    With N images, K filters, C channels, E × F outputs under R × S (`s` rows × `r` columns), strides U, bytes of each network:

        compute    = S·F·N·⌈E/e⌉·⌈K/t⌉·⌈C/r⌉                     an element does p·q·S products for an output pixel
        inputs     = N·C·(U·(E − ⌈E/e⌉) + R·⌈E/e⌉)·W·⌈K/(p·t)⌉     W = (F − 1)·U + S: once a pass
        weights    = K·C·R·S·⌈E/e⌉·⌈N/n⌉                          sums = N·K·E·F·⌈C/(q·r)⌉, out and in
        network    = max(inputs / rate, sums / rate)
        start      = weights / rate + inputs·S·⌈N/n⌉/(W·N) / rate + sums·⌈N/n⌉/(F·N) / rate
        processing = max(compute, network) + start
        DRAM       inputs N·C·(…)·W·⌈K/m⌉, weights, outputs N·K·E·F
        cycles     = max(processing, weights / DRAM) + (inputs + outputs) / DRAM               one copy in the buffer
        cycles     = max(processing + (inputs + outputs)/(⌈E/e⌉·⌈N/n⌉) / DRAM, weights + inputs + outputs / DRAM)   two copies

    Within strips, images and channel groups the passes of m filters run innermost, then the channels, whose sums stay in the
    buffer, then strips and images, then filters [chen2017eyerissjssc, §III]; with `STRIPS_OUTSIDE` filters before strips. Where all
    channels are one group, that order reads inputs once; where, besides, the filters of a group are one pass, filters outside are
    read once. An element's registers hold one pass: filters enter between passes, and rows of different images follow one another
    without a gap. With one copy in the buffer, image rows and results cross DRAM while the array waits; filters have a buffer of
    their own and do not wait. Padding is read like pixels. Neglected: hops of sums up a column, configuration, DRAM latency.

    >>> conv1 = Layer(n=4.0, k=96.0, c=3.0, p=55.0, q=55.0, r=11.0, s=11.0, stride=4.0)
    >>> chip = RowArray(12.0, 14.0, 8.0, 2.0, 8.0), RowStores(448.0, 24.0, 48.0, 102400.0, 8192.0, 2.4)
    >>> found = row_cost(conv1, RowTile(96.0, 1.0, 7.0, 16.0, 1.0, 1.0, 2.0), 0, *chip)
    >>> found.compute  # 8 strips · 48 · 3 · 11 · 55 · 4
    2787840.0
    >>> round((found.buffer_inputs + found.buffer_sums) / 1e6, 1)  # the paper's Table V prints 18.5 MB
    18.5
    """
    zeros = Zeros() if zeros is None else zeros
    count = _counts(layer, tile)
    moved = _moved(layer, count, stores)
    array_time = _array_time(layer, tile, count, moved, array)
    fetched, filters = _visits(order, count)
    dram_inputs = run_length_bytes(bytes=moved.inputs * fetched, zeros=zeros.inputs)
    dram_outputs = run_length_bytes(bytes=layer.n * layer.k * layer.q * layer.p * stores.sum_bytes, zeros=zeros.outputs)
    dram_weights = moved.weights * filters
    rows, filling = (dram_inputs + dram_outputs) / stores.dram_rate, dram_weights / stores.dram_rate
    alone = maximum(array_time.processing, filling) + rows
    beside = maximum(array_time.processing + rows / (count.strips * count.image_groups), rows + filling)
    macs = layer.n * layer.k * layer.q * layer.p * layer.c * layer.r * layer.s
    active = macs * (1.0 - zeros.gated)
    delivered = moved.inputs / count.height * layer.s * layer.q * count.filter_passes * tile.filter_sets
    spread = moved.weights * layer.q * count.image_groups
    used = row_used(layer, tile, array, stores)
    return RowCost(
        cycles=where(stores.copies > 1.0, beside, alone),
        processing=array_time.processing,
        compute=array_time.compute,
        network=array_time.network,
        start=array_time.start,
        dram=rows + filling,
        dram_inputs=dram_inputs,
        dram_weights=dram_weights,
        dram_outputs=dram_outputs,
        buffer_inputs=moved.streamed,
        buffer_weights=moved.loaded,
        buffer_sums=2.0 * moved.sums,
        filled_inputs=moved.inputs * fetched,
        network_inputs=delivered,
        network_weights=spread,
        network_sums=moved.sums * (layer.s * tile.channel_sets + 1.0),
        register_inputs=macs * stores.input_bytes + delivered,
        register_weights=active * stores.weight_bytes + spread,
        register_sums=2.0 * macs * stores.sum_bytes,
        active_macs=active,
        used=used,
        fits=_fits(used, row_room(layer, tile, array, stores)),
    )


class _Moved(NamedTuple):
    """Bytes of the image rows of all strips and of the filters, once; then of what passes between buffers and array."""

    inputs: Bytes
    weights: Bytes
    streamed: Bytes  # image rows, once a pass
    loaded: Bytes  # filters, once a pass
    sums: Bytes  # one way


class _ArrayTime(NamedTuple):
    processing: Quantity
    compute: Quantity
    network: Quantity
    start: Quantity


def _moved(layer: Layer, count: _Counts, stores: RowStores) -> _Moved:
    inputs = layer.n * layer.c * count.height * count.width * stores.input_bytes
    weights = layer.k * layer.c * layer.r * layer.s * stores.weight_bytes
    sums = layer.n * layer.k * layer.q * layer.p * count.channel_groups * stores.sum_bytes
    return _Moved(inputs, weights, inputs * count.filter_passes, weights * count.strips * count.image_groups, sums)


def _array_time(layer: Layer, tile: RowTile, count: _Counts, moved: _Moved, array: RowArray) -> _ArrayTime:
    turns = ceil_divide(layer.k, tile.filter_sets) * ceil_divide(layer.c, tile.channel_sets)
    compute = layer.r * layer.p * layer.n * count.strips * turns
    network = maximum(moved.streamed / array.input_rate, moved.sums / array.sum_rate)
    share = count.image_groups / layer.n  # of the rows of a pass, the first images'
    windows = moved.streamed * layer.r / count.width * share / array.input_rate
    start = moved.loaded / array.weight_rate + windows + moved.sums / layer.p * share / array.sum_rate
    return _ArrayTime(maximum(compute, network) + start, compute, network, start)


def _visits(order: Quantity, count: _Counts) -> tuple[Quantity, Quantity]:
    """Return how often image rows and filters cross DRAM."""
    single = count.channel_groups <= 1.0
    stay = single * (order == FILTERS_OUTSIDE) * (count.filter_passes <= count.filter_groups) > 0.0
    inputs = where(single * (order == STRIPS_OUTSIDE) > 0.0, 1.0, count.filter_groups)
    return inputs, where(stay, 1.0, count.strips * count.image_groups)


def _fits(used: tuple[Quantity, ...], room: tuple[Quantity, ...]) -> Quantity:
    fits = 1.0 + 0.0 * used[0]
    for taken, there in zip(used, room, strict=True):
        fits = fits * where(taken <= there, 1.0, 0.0)
    return fits


class RowAccess(NamedTuple):
    """Energy of a byte at each place, read or written or handed on, and of a multiply-accumulate."""

    dram: JoulesPerByte
    buffer: JoulesPerByte = 0.0
    weight_buffer: JoulesPerByte = 0.0
    network: JoulesPerByte = 0.0
    input_registers: JoulesPerByte = 0.0
    weight_registers: JoulesPerByte = 0.0
    sum_registers: JoulesPerByte = 0.0
    mac: Joules = 0.0


class RowEnergy(NamedTuple):
    """Energy of a mapping by component."""

    arithmetic: Joules
    registers: Joules
    network: Joules
    buffer: Joules
    dram: Joules

    @property
    def whole(self) -> Joules:
        """All components."""
        return self.arithmetic + self.registers + self.network + self.buffer + self.dram


def row_energy(cost: RowCost, energy: RowAccess) -> RowEnergy:
    """Energy of a mapping: every byte at what its place costs, and the arithmetic; no clock tree, no leakage.

        dram·bytes + buffer·(filled + inputs + weights + sums) + network·(delivered + handed on) + Σ registers·bytes + mac·active

    What arrives is written to its buffer, filters to theirs. A word that several elements take is counted at each of them, as in
    [chen2016eyeriss, §VI-C]; a product takes an input, a weight, and a sum read and written. At a zero input the weight is not read
    and the multiplier does not switch [chen2017eyerissjssc, §V].

    >>> one = Layer(n=1.0, k=1.0, c=1.0, p=4.0, q=4.0, r=3.0, s=3.0, stride=1.0)
    >>> chip = RowArray(12.0, 14.0, 8.0, 2.0, 8.0), RowStores(448.0, 24.0, 48.0, 102400.0, 8192.0, 2.4)
    >>> cost = row_cost(one, RowTile(1.0, 1.0, 4.0, 1.0, 1.0, 1.0, 1.0), 0, *chip)
    >>> row_energy(cost, RowAccess(dram=1.0, mac=1.0))  # 144 products; 36 inputs, 9 weights, 16 outputs of two bytes
    RowEnergy(arithmetic=144.0, registers=0.0, network=0.0, buffer=0.0, dram=122.0)
    """
    return RowEnergy(
        arithmetic=energy.mac * cost.active_macs,
        registers=energy.input_registers * cost.register_inputs
        + energy.weight_registers * cost.register_weights
        + energy.sum_registers * cost.register_sums,
        network=energy.network * (cost.network_inputs + cost.network_weights + cost.network_sums),
        buffer=energy.buffer * (cost.filled_inputs + cost.buffer_inputs + cost.buffer_sums)
        + energy.weight_buffer * (cost.dram_weights + cost.buffer_weights),
        dram=energy.dram * (cost.dram_inputs + cost.dram_weights + cost.dram_outputs),
    )
