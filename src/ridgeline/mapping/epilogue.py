"""What may run in the same kernel as a product on a tiled array: the plans that a step's fusion is chosen from.

An *epilogue* is a run of functions that the chip evaluates on sums as they leave the accumulator; one that needs whole rows (a
norm, softmax) needs them in the accumulator, which takes room from the tile. An *engine* is attention in one kernel, in whole rows
or online.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from ridgeline.mapping.functions import is_row_wise, place_of
from ridgeline.mapping.fusion import joined, merge, passes_scores
from ridgeline.quantities import Bytes
from ridgeline.results import Operation, Tensor
from ridgeline.specs.chip import Chip

Fusion = Literal["best", "none", "all"]
FUSIONS: tuple[str, ...] = get_args(Fusion)
Engine = Literal["", "rows", "online"]


@dataclass(frozen=True, eq=False)
class Kernel:
    """Operations that run as one.

    `rows`: the product's whole rows stay in the accumulator; `engine`: attention in one kernel; `extra_bytes`: what its functions
    read besides the product's operands.
    """

    operation: Operation
    rows: bool = False
    engine: Engine = ""
    fused: bool = False
    extra_bytes: Bytes = 0.0

    @property
    def output_bytes(self) -> Bytes:
        """Bytes written for each output of the products; as wide as an operand where the step names none."""
        outputs = sum(product.batch * product.m * product.n * product.share for product in self.operation.products)
        written = sum(tensor.bytes for tensor in self.operation.writes)
        return written / outputs if written > 0.0 else self.operation.products[0].formats[1].bytes_per_value


Plan = tuple[Kernel, ...]


def fusion_plans(chip: Chip, operations: Sequence[Operation], fusion: Fusion = "best") -> list[list[Plan]]:
    """Return, run by run of a step's operations, the plans to choose from: alone first, fused most last.

    Functions of the host join no product; `none` leaves every operation alone.
    """
    read = as_read(operations)
    needed = _needed_after(read)
    runs: list[list[Plan]] = []
    start = 0
    while start < len(read):
        end = start + (1 if fusion == "none" else _run_length(chip, read, start))
        plans = list(_plans(read[start:end], needed, start))
        runs.append(plans)
        start = end
    return runs


def as_read(operations: Sequence[Operation]) -> list[Operation]:
    """Return the operations with every activation written in the format in which its first reader takes it.

    New keys and values that no cache takes are read as keys and values.
    """
    found: list[Operation] = []
    later: dict[str, Tensor] = {}
    for operation in reversed(operations):
        writes = tuple(_written(tensor, later) for tensor in operation.writes)
        found.append(replace(operation, writes=writes))
        for tensor in operation.reads:
            later[tensor.name] = tensor
    return found[::-1]


def _written(tensor: Tensor, later: Mapping[str, Tensor]) -> Tensor:
    reader = later.get(tensor.name) or later.get(tensor.name.removesuffix("-new"))
    if reader is None or tensor.role not in ("activation", "scores"):
        return tensor
    return replace(tensor, format=reader.format)


def _needed_after(operations: Sequence[Operation]) -> list[frozenset[str]]:
    """Return, for every place in a step, the names that later operations read before they are written again."""
    needed: frozenset[str] = frozenset()
    found = [needed]
    for operation in reversed(operations):
        needed = needed - {one.name for one in operation.writes} | {one.name for one in operation.reads}
        found.append(needed)
    return found[::-1]


def _run_length(chip: Chip, operations: Sequence[Operation], start: int) -> int:
    """Return how many operations from here on may be one kernel: a product with its functions, or attention's three."""
    first = operations[start]
    if not first.products:
        return 1
    end = start + 1
    while end < len(operations) and _joins(chip, operations[start:end], operations[end]):
        end += 1
    return end - start


def _joins(chip: Chip, run: Sequence[Operation], operation: Operation) -> bool:
    first = run[0]
    made = {tensor.name for one in run for tensor in one.writes}
    if operation.place != first.place or not made & {tensor.name for tensor in operation.reads}:
        return False
    if operation.products:  # the values of attention, behind its softmax
        return passes_scores(first) and len(run) == 2 and operation.kind == "attention"
    if any(one.products for one in run[1:]) or not operation.fusable:
        return False
    return all(place_of(chip, name) != "host" for name in operation.functions)


def _plans(run: Sequence[Operation], needed: Sequence[frozenset[str]], start: int) -> Iterator[Plan]:
    """Yield the ways to run operations that may be one kernel."""
    functions = [one for one in run[1:] if not one.products]
    rest = [Kernel(one) for one in run[1 + len(functions) :]]
    for fused in range(len(functions) + 1):
        group, alone = run[: 1 + fused], [Kernel(one) for one in functions[fused:]]
        yield (_epilogue(group, needed[start + len(group)]), *alone, *rest)
    if rest:
        whole = _one(run, needed[start + len(run)])
        yield (Kernel(whole, engine="rows", fused=True),)
        yield (Kernel(whole, engine="online", fused=True),)


def _epilogue(group: Sequence[Operation], needed: frozenset[str]) -> Kernel:
    """Return a product with its functions as a kernel."""
    whole = _one(group, needed)
    extra = sum(tensor.bytes for tensor in whole.reads) - sum(tensor.bytes for tensor in group[0].reads)
    extra = extra + _beside(group[0])
    rows = any(is_row_wise(one) for one in group[1:])
    return Kernel(whole, rows=rows, fused=len(group) > 1, extra_bytes=extra)


def _beside(operation: Operation) -> Bytes:
    """Bytes of an operation that its nests do not count: biases, and what a mask leaves out of activations that cross whole."""
    bias = sum(tensor.bytes for tensor in operation.reads if tensor.name.endswith("bias"))
    if operation.kind != "attention" or not operation.products:
        return bias
    whole = sum(tensor.bytes for tensor in operation.tensors if tensor.role == "activation")
    return bias + (1.0 - operation.products[0].share) * whole


def _one(group: Sequence[Operation], needed: frozenset[str]) -> Operation:
    """Return one operation for a group, named after all of them."""
    if len(group) == 1:
        return group[0]
    return replace(merge(group, needed), name=joined([one.name for one in group]))
