"""Energy of a tiled nest: accesses of DRAM, scratchpad, accumulator and the registers of the array, and the arithmetic."""

from typing import Any, NamedTuple

from ridgeline.arrays import ceil_divide
from ridgeline.costs.tiled import OUTPUT_STATIONARY, WEIGHT_STATIONARY, Array, Buffers, Layer, Tile, TiledCost, covered
from ridgeline.quantities import Bytes, Joules, JoulesPerByte, Quantity


class AccessEnergy(NamedTuple):
    """Energy of one byte read or written at each place, and of one multiply-accumulate; 1 pJ/bit is 8e-12 J/B."""

    dram: JoulesPerByte
    scratchpad: JoulesPerByte = 0.0
    accumulator: JoulesPerByte = 0.0
    register: JoulesPerByte = 0.0  # the stationary operand inside an element
    mac: Joules = 0.0
    network: JoulesPerByte = 0.0  # from an element to its neighbour


class Folds(NamedTuple):
    """How often work is repeated on the chip: blocks of the array that cover a loop, and tiles that cut it.

    `k`, `c`, `p` are blocks over all tiles along the loops that lie on the array; `k_trips`, `pixel_trips` and `reduction_trips`
    are tiles along k, along p and q, and along c, r and s.
    """

    k: Quantity
    c: Quantity
    p: Quantity
    k_trips: Quantity
    pixel_trips: Quantity
    reduction_trips: Quantity


class OnChipBytes(NamedTuple):
    """Bytes that the array moves inside the chip, transfers from and to DRAM aside."""

    inputs: Bytes  # out of the scratchpad
    weights: Bytes
    sums: Bytes  # into and out of the accumulator
    register: Bytes  # of the stationary operand


def count_folds(layer: Layer, tile: Tile, array: Array, dataflow: Any) -> Folds:
    """Return how often a tiling repeats work on the chip.

    >>> product = Layer(n=1.0, k=4.0, c=4.0, p=8.0, q=1.0, r=1.0, s=1.0, stride=1.0)
    >>> count_folds(product, Tile(4.0, 4.0, 4.0, 1.0, 1.0, 1.0), Array(2.0, 2.0), 0)
    Folds(k=2.0, c=2.0, p=4.0, k_trips=1.0, pixel_trips=2.0, reduction_trips=1.0)
    """
    reductions = ceil_divide(layer.c, tile.c) * ceil_divide(layer.r, tile.r) * ceil_divide(layer.s, tile.s)
    return Folds(
        covered(layer.k, tile.k, array.columns),
        covered(layer.c, tile.c, array.rows),
        covered(layer.p, tile.p, array.rows if dataflow == OUTPUT_STATIONARY else array.columns),
        ceil_divide(layer.k, tile.k),
        ceil_divide(layer.p, tile.p) * ceil_divide(layer.q, tile.q),
        reductions,
    )


def on_chip_bytes(layer: Layer, folds: Folds, buffers: Buffers, dataflow: Any) -> OnChipBytes:
    """Bytes that an array reads and writes on the chip.

    With M multiply-accumulates, W weights, O outputs, and the counts of `Folds` in brackets:

        weight-stationary  inputs M/k·[k]        weights W·[pixel_trips]  accumulations O·[c]·r·s           register M + weights
        output-stationary  inputs M/k·[k]        weights W·q·[p]          accumulations O·[reduction_trips]   register 2·M sums
        input-stationary   inputs M/k·[k_trips]  weights W·q·[p]          accumulations O·[c]·r·s           register M + inputs
        accumulator        2·accumulations: each written; each but the first read to add to, and the last read to leave

    The stationary operand is loaded once a tile; what streams is read once for every fold of the array that needs it, and handed
    from element to element without cost. Affine and non-decreasing in each count, which the search relies on. The kinds of access
    are those of [parashar2019timeloop]; AccelForge's energies of weight-stationary products follow within 0.1 % where its traffic
    is the same.

    >>> product = Layer(n=1.0, k=4.0, c=4.0, p=8.0, q=1.0, r=1.0, s=1.0, stride=1.0)
    >>> on_chip_bytes(product, Folds(2.0, 2.0, 4.0, 1.0, 1.0, 1.0), Buffers(1024.0, 1024.0), 0)
    OnChipBytes(inputs=64.0, weights=16.0, sums=512.0, register=144.0)

    Inputs 32 twice and weights 16 once; 32 outputs of 4 bytes, twice written, once read back, once read out; 128 + 16.
    """
    outputs = layer.n * layer.k * layer.p * layer.q
    window = layer.c * layer.r * layer.s
    macs = outputs * window
    inputs = macs / layer.k * buffers.input_bytes
    weights = layer.n * layer.k * window * buffers.weight_bytes
    accumulations = outputs * folds.c * layer.r * layer.s
    if dataflow == WEIGHT_STATIONARY:
        inputs = inputs * folds.k
        weights = weights * folds.pixel_trips
        register = macs * buffers.weight_bytes + weights
    elif dataflow == OUTPUT_STATIONARY:
        inputs = inputs * folds.k
        weights = weights * layer.q * folds.p
        register = 2.0 * macs * buffers.accumulator_bytes
        accumulations = outputs * folds.reduction_trips
    else:
        inputs = inputs * folds.k_trips
        weights = weights * layer.q * folds.p
        register = macs * buffers.input_bytes + inputs
    return OnChipBytes(inputs, weights, 2.0 * accumulations * buffers.accumulator_bytes, register)


def nest_energy(layer: Layer, on_chip: OnChipBytes, cost: TiledCost, energy: AccessEnergy) -> Joules:
    """Energy of a nest: every byte at what its place costs, and the arithmetic; no leakage.

        dram·(inputs + weights + 2·partial + outputs) + scratchpad·(inputs + weights + on chip)
        + accumulator·(2·partial + on chip) + register·on chip + mac·M

    What arrives from DRAM is written to its buffer once; partial sums that leave are read from the accumulator and written back.

    >>> cost = TiledCost(0.0, 0.0, 0.0, 0.0, 32.0, 16.0, 0.0, 0.0, 32.0, 0.0, 0.0, 1.0)
    >>> product = Layer(n=1.0, k=4.0, c=4.0, p=8.0, q=1.0, r=1.0, s=1.0, stride=1.0)
    >>> nest_energy(product, OnChipBytes(64.0, 16.0, 512.0, 144.0), cost, AccessEnergy(dram=100.0, scratchpad=1.0, mac=2.0))
    8384.0

    80 bytes at 100, 48 + 80 at 1, 128 multiply-accumulates at 2.
    """
    operands = cost.input_bytes + cost.weight_bytes
    partial = cost.partial_read + cost.partial_write
    macs = layer.n * layer.k * layer.p * layer.q * layer.c * layer.r * layer.s
    return (
        energy.dram * (operands + partial + cost.output_bytes)
        + energy.scratchpad * (operands + on_chip.inputs + on_chip.weights)
        + energy.accumulator * (partial + on_chip.sums)
        + energy.register * on_chip.register
        + energy.mac * macs
    )
