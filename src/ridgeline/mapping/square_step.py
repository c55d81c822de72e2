"""A step on the survey's analytic accelerator: square tiles, one operation after another, nothing fused.

The model of the full-stack survey [kim2023fullstack, figure 11 and section 2.6]: an array of W × W elements, special-function
units, a buffer between DRAM and the local memories. The survey lists parameters and assumptions; the bytes an element are those
that give its Table 5 to the last digit (see `tiling.square_traffic`). Validity: one chip, 8-bit operands, products and functions
of transformers and convolutional networks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ridgeline.arrays import ceil_divide, maximum, minimum, total
from ridgeline.errors import InputError
from ridgeline.mapping.tiling import square_side, square_traffic
from ridgeline.quantities import Bytes, Count, Seconds
from ridgeline.results import Operation, Product
from ridgeline.specs.chip import Chip

_GROUPS = frozenset({"projections", "attention", "feed-forward", "other", "convolution"})  # neither embedding, head nor cache


@dataclass(frozen=True, kw_only=True, eq=False)
class SquareMachine:
    """What the analytic model knows of a chip: sizes in bytes, rates in bytes and seconds."""

    side: Count  # of the array
    lanes: Count  # elements of a function a cycle
    cycle: Seconds
    outer_side: Count  # of the square tiles in the buffer
    inner_side: Count  # of those in the local memories
    outer_bandwidth: Bytes  # a cycle, from DRAM
    inner_bandwidth: Bytes  # a cycle, from the buffer
    operand: Bytes = 1.0
    sum: Bytes = 4.0  # outputs that a function reads


@dataclass(frozen=True, kw_only=True, eq=False)
class SquareCost:
    """An operation of a step, once: its arithmetic and its transfers; they overlap."""

    operation: Operation
    compute: Seconds
    transfer: Seconds

    @property
    def time(self) -> Seconds:
        """The larger of arithmetic and transfers."""
        return maximum(self.compute, self.transfer)


def square_machine(chip: Chip) -> SquareMachine:
    """Read a chip's array, lanes, buffer and local memories; raise `InputError` for one that lacks any.

    The scratchpad holds two slots of two square operand tiles, the accumulator one square tile of sums.
    """
    levels = {level.role: level for level in chip.memory}
    missing = [role for role in ("buffer", "scratchpad", "accumulator") if role not in levels]
    if missing or chip.cores is None or chip.vector_unit.lanes is None:
        what = [*(f"a [[memory]] of role {role}" for role in missing), "cores.clock", "vector_unit.lanes"]
        raise InputError(f"{chip.name} is not described as the analytic model needs it: {', '.join(what)}")
    clock: Any = chip.cores.clock
    buffer, main = levels["buffer"], chip.main_memory
    scratchpad: Any = levels["scratchpad"].capacity
    accumulator: Any = levels["accumulator"].capacity
    return SquareMachine(
        side=chip.matrix_unit.shape[0],
        lanes=chip.vector_unit.lanes,
        cycle=1.0 / clock,
        outer_side=square_side(buffer.capacity),
        inner_side=minimum(square_side(scratchpad / 2.0), (accumulator / 4.0) ** 0.5),
        outer_bandwidth=main.bandwidth / clock,
        inner_bandwidth=(buffer.bandwidth or 0.0) / clock,
    )


def square_step(machine: SquareMachine, operations: Sequence[Operation]) -> list[SquareCost]:
    """Cost the operations of a step one by one.

        time      = max(compute, transfer)
        compute   = products: ⌈m/W⌉·⌈n/W⌉·⌈k/W⌉·W cycles;  functions: ⌈elements/S⌉ cycles
        transfer  = bytes(tiles of the buffer)/DRAM bandwidth + bytes(tiles of the local memories)/buffer bandwidth

    [kim2023fullstack, section 2.6: compute and memory overlap perfectly, square tiles, no fusion, an array of W cycles' latency.] A
    transfer crosses both levels one after the other. Embeddings, heads and the cache's appends are not counted.
    """
    counted = [one for one in operations if one.group in _GROUPS or one.kind == "vector"]
    followers = [*counted[1:], None]
    return [_cost(machine, one, then is not None and then.kind == "vector") for one, then in zip(counted, followers, strict=True)]


def _cost(machine: SquareMachine, operation: Operation, wide: bool) -> SquareCost:
    if operation.products:
        compute = total([_product_cycles(machine, product) for product in operation.products])
        sides = (machine.outer_side, machine.inner_side)
        outer, inner = (
            total([_product_bytes(machine, one, operation, side, wide) for one in operation.products]) for side in sides
        )
    else:
        elements = total(list(operation.functions.values()))
        compute = ceil_divide(elements, machine.lanes)
        outer = inner = elements * _function_bytes(machine, operation)
    transfer = outer / machine.outer_bandwidth + inner / machine.inner_bandwidth
    return SquareCost(operation=operation, compute=compute * machine.cycle, transfer=transfer * machine.cycle)


def _product_cycles(machine: SquareMachine, product: Product) -> Count:
    """⌈m/W⌉·⌈n/W⌉·⌈k/W⌉·W; a convolution row by row of pixels and tap by tap of its filter, channels on the array."""
    side, window = machine.side, product.window
    if window is None:
        return product.batch * ceil_divide(product.m, side) * ceil_divide(product.n, side) * ceil_divide(product.k, side) * side
    taps, rows = window.r * window.s, product.m / window.p
    blocks = taps * ceil_divide(product.k / taps, side) * ceil_divide(product.n, side)
    return product.batch * rows * ceil_divide(window.p, side) * blocks * side


def _product_bytes(machine: SquareMachine, product: Product, operation: Operation, side: Count, wide: bool) -> Bytes:
    """Operands under square tiles; sums leave wide where a function reads them; a product with weights reads a bias an output.

    A convolution reads pixels, not patches: its input is that share of the patches' matrix.
    """
    element, window = machine.operand, product.window
    found = square_traffic(
        m=product.m,
        n=product.n,
        k=product.k,
        side=side,
        element=element,
        output=machine.sum if wide else element,
        bias=element if operation.kind == "matmul" and is_weighted(operation) else 0.0,
    )
    if window is not None:
        patches = product.m * product.k * ceil_divide(product.n, side)
        across, down = (window.p - 1) * window.stride + window.r, (window.q - 1) * window.stride + window.s
        pixels = across * down / (window.p * window.q * window.r * window.s)
        found = found - element * patches * (1.0 - minimum(pixels, 1.0))
    return product.batch * found


def is_weighted(operation: Operation) -> bool:
    """Say whether a product's stationary operand is a weight."""
    return any(tensor.role == "weight" for tensor in operation.reads)


def _function_bytes(machine: SquareMachine, operation: Operation) -> Bytes:
    """A residual addition reads two operands and writes one; every other function reads a sum and writes an operand."""
    return 3.0 * machine.operand if "residual" in operation.functions else machine.sum + machine.operand
