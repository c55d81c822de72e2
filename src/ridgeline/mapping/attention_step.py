"""An attention operation on a chip's tiled array as one kernel: its cost by resource and component."""

from typing import Literal

from ridgeline.arrays import ceil_divide
from ridgeline.costs.energy import arithmetic_energy, transfer_energy
from ridgeline.costs.ideal import Machine, function_counts
from ridgeline.costs.tiled import ORDERS, Layer, Tile
from ridgeline.mapping.array_machine import ArrayMachine, array_machine, energy_by_component
from ridgeline.mapping.attention_engine import AttentionBlock, Heads, fused_attention
from ridgeline.mapping.functions import function_times
from ridgeline.mapping.tiling import cost_tiling
from ridgeline.quantities import Joules, Seconds
from ridgeline.results import Cost, Operation


def place_attention(machine: Machine, operation: Operation, form: Literal["rows", "online"]) -> tuple[Cost, Seconds]:
    """Return the cost of scores, softmax and values in one kernel, and the time that passes.

    Heads that share keys and values (`Product.shared`) run as one with all their queries; several arrays take heads in turn, each
    with its share of memory. Raises `InfeasibleError` where no block of queries and keys fits.
    """
    scores, values = operation.products
    inputs, keys = scores.formats[1], scores.formats[0]
    compute = machine.rate(scores.formats).format
    on = array_machine(machine.chip, inputs=inputs, weights=keys, compute=compute)
    heads = Heads(scores.m * scores.shared, scores.n, scores.k, values.n, scores.share)
    vector = function_times(machine, operation).vector
    count = scores.batch * scores.m * scores.n * scores.share
    buffers = on.buffers._replace(output_bytes=sum(one.bytes for one in operation.writes) / (values.batch * values.m * values.n))
    block = fused_attention(
        heads,
        on.array,
        buffers,
        on.memory,
        dataflow=on.dataflow,
        score_cycles=vector * on.clock / count,
        lane_cycles=on.clock / machine.lane_rate if machine.lane_rate is not None else 0.0,
        online=form == "online",
    )
    main, batch = machine.levels[-1], scores.batch / scores.shared
    seconds = ceil_divide(batch, on.arrays) / on.clock
    time = {
        "compute": block.compute * seconds,
        "vector": block.vector * seconds,
        f"memory.{main.name}": block.transfer * seconds,
        "overhead": (block.cycles - max(block.compute, block.vector, block.transfer)) * seconds,
    }
    cost = Cost(
        time=time,
        energy=_energy(machine, operation, on, block),
        flops=sum(function_counts(operation)) + operation.matrix_flops,
        bytes={main.name: batch * (block.read + block.written)},
    )
    return cost, block.cycles * seconds


def _energy(machine: Machine, operation: Operation, on: ArrayMachine, block: AttentionBlock) -> dict[str, Joules]:
    """Energy by component: both products' accesses on the chip, what the kernel moves, and the softmax."""
    scores, values = operation.products
    queries, heads = scores.m * scores.shared, scores.batch / scores.shared
    found: dict[str, Joules] = {}
    compute = machine.rate(scores.formats).format
    nests = (
        (Layer(1.0, scores.n, scores.k, queries, 1.0, 1.0, 1.0, 1.0), Tile(block.keys, scores.k, block.queries, 1.0, 1.0, 1.0)),
        (Layer(1.0, values.n, values.k, queries, 1.0, 1.0, 1.0, 1.0), Tile(values.n, block.keys, block.queries, 1.0, 1.0, 1.0)),
    )
    for layer, tile in nests:
        large = on.buffers._replace(scratchpad=float("inf"), accumulator=float("inf"))
        parts = (on.array, large, on.searched)
        nest = cost_tiling(layer, tile, ORDERS[ORDERS.index("kpqcrs")], *parts, dataflow=on.dataflow, energy=on.energy)
        for name, value in energy_by_component(machine.chip, compute, nest).items():
            found[name] = found.get(name, 0.0) + heads * scores.share * value
    if not found:
        return {}
    main = machine.levels[-1]
    if main.energy is not None:
        moved = heads * (block.read + block.written)
        found[f"memory.{main.name}"] = transfer_energy(bytes=moved, energy=main.energy)
    if machine.lane_energy is not None:
        lanes = sum(function_counts(operation)) + heads * block.rescaled
        found["vector"] = arithmetic_energy(flops=lanes, energy=machine.lane_energy)
    return found
