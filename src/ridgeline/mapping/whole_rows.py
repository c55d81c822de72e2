"""A product whose whole rows of sums lie in the accumulator, as a norm or a softmax behind it needs them."""

import numpy as np

from ridgeline.arrays import ceil_divide
from ridgeline.costs.tiled import ORDERS, Layer, Tile, tiled_cost
from ridgeline.errors import InfeasibleError
from ridgeline.mapping.array_machine import ArrayMachine
from ridgeline.mapping.arrays import Share
from ridgeline.mapping.dataflow import TILED
from ridgeline.mapping.tiling import cost_tiling
from ridgeline.quantities import Count

_SUMS_STAY = ORDERS.index("kpqcrs")


def tile_whole_rows(layer: Layer, batch: Count, machine: ArrayMachine, *, tail_cycles: Count = 0.0) -> Share | InfeasibleError:
    """Return the fastest tile that holds all of k, over every number of rows and every multiple of the array's side along c.

    Room decides: rows = accumulator / (slots · k · bytes of a sum), and all weights cross once for each tile of rows. `tail_cycles`
    are those of the functions behind the product; of them the last tile's are waited for. Infeasible where not one row fits beside
    the weights, which is returned, not raised.
    """
    slots, width = machine.buffers.double, machine.buffers.accumulator_bytes
    most = min(layer.p, machine.buffers.accumulator // (slots * layer.k * width))
    needed = slots * layer.k * width
    if machine.arrays > 1 or layer.q * layer.r * layer.s * layer.n != 1.0:
        return InfeasibleError("whole rows are held for products on one array")
    if most < 1.0:
        return InfeasibleError(
            f"a row of {layer.k:g} sums takes {needed:.0f} bytes of accumulator: there are {machine.buffers.accumulator:.0f}"
        )
    side = machine.array.rows
    depths = np.unique(np.minimum(np.arange(1.0, ceil_divide(layer.c, side) + 1.0) * side, layer.c))
    rows, depth = (one.ravel() for one in np.meshgrid(np.arange(1.0, most + 1.0), depths))
    tile = Tile(layer.k, depth, rows, 1.0, 1.0, 1.0)
    flow = TILED.index(machine.dataflow)
    cost = tiled_cost(layer, tile, _SUMS_STAY, machine.array, machine.buffers, machine.searched, flow)
    cycles = np.where(np.asarray(cost.fits) > 0.0, cost.cycles + tail_cycles / ceil_divide(layer.p, rows), np.inf)
    best = int(np.argmin(cycles))
    if not np.isfinite(cycles[best]):
        weights = slots * layer.k * min(side, layer.c) * machine.buffers.weight_bytes
        return InfeasibleError(
            f"{layer.k:g} columns of weights take {weights:.0f} bytes of scratchpad: there are {machine.buffers.scratchpad:.0f}"
        )
    chosen = Tile(layer.k, float(depth[best]), float(rows[best]), 1.0, 1.0, 1.0)
    parts = (machine.array, machine.buffers, machine.searched)
    found = cost_tiling(layer, chosen, ORDERS[_SUMS_STAY], *parts, dataflow=machine.dataflow, energy=machine.energy)
    return Share(layer, batch, found)
