"""A step on a chip of many cores: operations become the kernels that a software stack runs, each with its time by resource.

Kernels follow one another. Every quantity broadcasts: arrays of designs and of scenarios. Constants of the chip's family and the
stack travel inside the chip (`efficiency`, `stack`). No kernel, and so no step, is faster than its bound at the level `ideal`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from ridgeline.arrays import ceil_divide, is_scalar, is_zero, maximum, minimum, total, where
from ridgeline.costs.energy import transfer_energy
from ridgeline.costs.ideal import Machine, function_counts, ideal_cost
from ridgeline.costs.kernels import missed_share, stream_time
from ridgeline.costs.memory import achieved_bandwidth
from ridgeline.costs.rates import compute_rate
from ridgeline.costs.waves import resident_share
from ridgeline.errors import InputError
from ridgeline.mapping.activity import active_energy
from ridgeline.mapping.fusion import fuse, passes_scores
from ridgeline.mapping.latent_kernels import LatentMethod, LatentShape, latent_decode_time
from ridgeline.mapping.many_core import Engine, Method, Parts, Shape, engine, place_product
from ridgeline.mapping.many_core_attention import AttentionParts, AttentionShape, decode_parts, method_of, prefill_parts
from ridgeline.quantities import Bytes, BytesPerSecond, Count, Fraction, Seconds
from ridgeline.results import Cost, Operation, Product, Tensor
from ridgeline.specs.chip import Chip
from ridgeline.specs.family import Family
from ridgeline.specs.number_format import FORMATS, NumberFormat, number_format
from ridgeline.specs.stack import Stack
from ridgeline.workload.functions import FUNCTIONS

DEFAULT_STACK = Stack(name="none", graph=True)
_DECODE_QUERIES = 16.0  # of a sequence, up to which attention runs as decode: verification packs them as it packs heads
_VALUES_A_BLOCK = 1024.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Placed:
    """A kernel on the chip: its cost by resource and the time that passes, once."""

    operation: Operation
    cost: Cost
    time: Seconds


class _Times(NamedTuple):
    """What a kernel takes: by resource, and in all; `moved` are bytes across main memory, None where they are the least."""

    time: Seconds
    compute: Seconds = 0.0
    vector: Seconds = 0.0
    memory: Seconds = 0.0
    moved: Bytes | None = None


@dataclass(frozen=True, eq=False)
class _Context:
    """What every kernel of a step is timed with."""

    machine: Machine
    family: Family
    stack: Stack
    engines: dict[str, Engine]

    @property
    def chip(self) -> Chip:
        """The chip, energies included."""
        return self.machine.chip

    def engine(self, format: str) -> Engine:
        """Return what kernels in a format see of the chip."""
        if format not in self.engines:
            self.engines[format] = engine(self.chip, self.family, format)
        return self.engines[format]

    def format(self, formats: tuple[NumberFormat, NumberFormat]) -> str:
        """Return the format that a product is computed in, with the sums' where the chip has a rate of its own for them."""
        name = self.machine.rate(formats).format
        summed = f"{name}:{self.machine.accumulate.name}" if self.machine.accumulate else name
        return summed if summed in self.chip.matrix_unit.rate else name

    @property
    def launch(self) -> Seconds:
        """Time between two kernels that no graph launches."""
        launch = self.chip.overhead.launch
        return 0.0 if self.stack.graph or launch is None else launch


def is_many_core(chip: Chip) -> bool:
    """Say whether a chip carries what this module needs: constants of a family, a clock and a number of cores."""
    return chip.efficiency is not None and chip.cores is not None and chip.cores.clock is not None


def place_many_core_step(machine: Machine, operations: Sequence[Operation]) -> list[Placed]:
    """Place a step's operations, not yet fused, as the kernels of the chip's stack; equal products are placed once.

    Neglected: what one kernel leaves in the last-level cache for the next; the host, where it is slower than the chip.
    Raises `InputError` for a chip without the constants of a family, and for one that cannot multiply a format.
    """
    chip = machine.chip
    if chip.efficiency is None:
        raise InputError(f"{chip.name}: no constants of a family, which the level mapped needs")
    context = _Context(machine, chip.efficiency, chip.stack or DEFAULT_STACK, {})
    found = _whole_scores(kernels(operations, context.stack)) if context.stack.score_passes else kernels(operations, context.stack)
    products = _place_products(context, [one for one in found if one.products and not _is_attention(one)])
    return [_placed(context, one, _times(context, one, products)) for one in found]


def kernels(operations: Sequence[Operation], stack: Stack | None) -> tuple[Operation, ...]:
    """Return the kernels that a stack runs for operations: attention as one, what it joins as one, the others alone."""
    chosen = stack or DEFAULT_STACK
    whole = "always" if not chosen.score_passes else "decode" if chosen.fuses_decode else "never"
    return fuse(operations, _joins(chosen.joins_inputs, chosen.joins_vectors, whole))


@cache
def _joins(inputs: bool, vectors: bool, whole: str) -> Callable[[Sequence[Operation], Operation], bool]:
    def joins(group: Sequence[Operation], operation: Operation) -> bool:
        last = group[-1]
        if last.place != operation.place:
            return False
        if _kept_apart(whole, group[0]) and (_touches_scores(last) or _touches_scores(operation)):
            return False
        if any(passes_scores(one) for one in group):  # scores, softmax and values
            return not any(one.kind == "attention" and not passes_scores(one) for one in group) and _reads_scores(operation)
        if operation.kind == "matmul" and last.kind == "matmul":
            return inputs and _alike(last, operation)
        return vectors and operation.fusable and not _reads_scores(operation) and all(one.fusable for one in group)

    return joins


def _reads_scores(operation: Operation) -> bool:
    return any(one.role == "scores" for one in operation.reads)


def _kept_apart(whole: str, first: Operation) -> bool:
    """Say whether attention that begins with an operation is several kernels: always, or where it has more than a few queries."""
    if whole != "decode":
        return whole == "never"
    return not first.products or not bool(np.all(first.products[0].m <= _DECODE_QUERIES))


def _touches_scores(operation: Operation) -> bool:
    return _reads_scores(operation) or passes_scores(operation)


def _whole_scores(operations: Sequence[Operation]) -> tuple[Operation, ...]:
    """Return kernels of an attention that is not one kernel with all pairs: no product leaves out what a mask hides."""
    share: Count = 1.0
    found: list[Operation] = []
    for one in operations:
        if not _touches_scores(one) or _is_attention(one):
            found.append(one)
            continue
        if one.products:
            share = one.products[0].share
        found.append(
            replace(
                one,
                products=tuple(replace(product, share=1.0) for product in one.products),
                functions={name: count / share for name, count in one.functions.items()},
                reads=tuple(_whole(tensor, share) for tensor in one.reads),
                writes=tuple(_whole(tensor, share) for tensor in one.writes),
            )
        )
    return tuple(found)


def _whole(tensor: Tensor, share: Count) -> Tensor:
    return replace(tensor, elements=tensor.elements / share) if tensor.role == "scores" else tensor


def _is_attention(operation: Operation) -> bool:
    """Say whether a kernel is scores, softmax and values in one."""
    return operation.kind == "attention" and len(operation.products) == 2


def _alike(first: Operation, second: Operation) -> bool:
    """Say whether two products take one input and the same formats, so that they are one with more columns."""
    one, other = first.products[0], second.products[0]
    same = one.batch is other.batch or (is_scalar(one.batch) and is_scalar(other.batch) and one.batch == other.batch)
    return same and first.reads[0].name == second.reads[0].name and one.formats == other.formats


# ---- one kernel -------------------------------------------------------------------------------------------------------------


def _times(context: _Context, operation: Operation, products: Mapping[int, Parts]) -> _Times:
    if _is_attention(operation):
        return _attention(context, operation)
    if operation.products:
        return _product(context, operation, products[id(operation)])
    return _vector(context, operation)


def _placed(context: _Context, operation: Operation, found: _Times) -> Placed:
    """Return a kernel's cost: no resource below its bound, and as overhead what passes beside the largest."""
    machine, least = context.machine, ideal_cost(context.machine, operation)
    main = machine.levels[-1]
    resource = f"memory.{main.name}"
    own: dict[str, Seconds] = {"compute": found.compute, "vector": found.vector, resource: found.memory}
    time: dict[str, Seconds] = {name: maximum(own[name], value) if name in own else value for name, value in least.time.items()}
    largest = Cost(time=time).lower
    passed = maximum(found.time, largest)
    time["overhead"] = passed - largest
    moved, energy = dict(least.bytes), dict(least.energy)
    if found.moved is not None:
        moved[main.name] = maximum(moved[main.name], found.moved)
        if main.energy is not None:
            energy[resource] = transfer_energy(bytes=moved[main.name], energy=main.energy)
    energy = active_energy(machine, operation, moved[main.name], energy)
    cost = Cost(time=time, energy=energy, flops=least.flops, bytes=moved)
    return Placed(operation=operation, cost=cost, time=passed)


# ---- products ---------------------------------------------------------------------------------------------------------------


def _place_products(context: _Context, operations: Sequence[Operation]) -> dict[int, Parts]:
    """Place the products of all kernels: those of one format in one search, where their sizes are numbers."""
    alike: dict[tuple[str, Method, Fraction], list[tuple[Operation, Shape]]] = {}
    for operation in operations:
        product = operation.products[0]
        format = context.format(product.formats)
        key = (format, _method(context.stack, product, format), _grouped_share(context.stack, operation))
        alike.setdefault(key, []).append((operation, _shape(operation, context.stack)))
    found: dict[int, Parts] = {}
    for (format, method, share), members in alike.items():
        on, tiles = context.engine(format), _tiles(context, method)
        if share != 1.0:  # operands that are fetched again and again cost energy as well
            on = on._replace(rate=on.rate * share, flop_energy=on.flop_energy / share)
        shapes = [shape for _, shape in members]
        for (operation, _), parts in zip(members, _place_shapes(on, context.family, shapes, method, tiles), strict=True):
            found[id(operation)] = parts
    return found


def _grouped_share(stack: Stack, operation: Operation) -> Fraction:
    """Return the share of a plain product's rate that a library's grouped kernel of 16-bit values reaches."""
    narrow = operation.products[0].formats[0].bits < FORMATS["fp16"].bits
    return 1.0 if narrow or not operation.name.startswith("experts ") else stack.grouped_share


def _place_shapes(
    on: Engine, family: Family, shapes: Sequence[Shape], method: Method, tiles: Sequence[tuple[int, int]]
) -> list[Parts]:
    """Place products of one format; equal ones once, and those of numbers alone as one array."""
    if all(is_scalar(one) for shape in shapes for one in shape) and all(is_scalar(one) for one in on):
        distinct = {shape: index for index, shape in enumerate(dict.fromkeys(shapes))}
        wide = Shape(*(np.array(one, dtype=float) for one in zip(*distinct, strict=True)))
        parts = place_product(on, family, wide, method, tiles)
        rows = [Parts(*(float(one) for one in row)) for row in zip(*parts, strict=True)]
        return [rows[distinct[shape]] for shape in shapes]
    placed: dict[Any, Parts] = {}
    found: list[Parts] = []
    for shape in shapes:
        key = tuple(one if is_scalar(one) else id(one) for one in shape)
        if key not in placed:
            placed[key] = place_product(on, family, shape, method, tiles)
        found.append(placed[key])
    return found


def _tiles(context: _Context, method: Method) -> Sequence[tuple[int, int]]:
    stack = context.stack
    return (stack.block_tiles if method.block else ()) or stack.tiles or context.chip.matrix_unit.tiles


def _method(stack: Stack, product: Product, format: str) -> Method:
    stationary = product.formats[0]
    block = 128.0 if stationary.scale is not None and stationary.scale.dimensions == 2 else 0.0
    return Method(
        splits=stack.splits_block_scaled if block else stack.splits,
        converts=stationary.bits < number_format(format.partition(":")[0]).bits and not _writes_wide(stack, product),
        block=block,
    )


def _writes_wide(stack: Stack, product: Product) -> bool:
    """Say whether a stack writes narrow weights at 16 bits before it multiplies; for some rows of an array, for all."""
    rows = stack.dequantise_rows
    return rows is not None and product.formats[0].bytes_per_value < _WIDE and bool(np.all(product.m > rows))


_WIDE = FORMATS["fp16"].bytes_per_value


def _shape(operation: Operation, stack: Stack) -> Shape:
    """Return the product of a kernel, the columns of several side by side; bytes a value are those that cross memory."""
    lead = operation.products[0]
    columns = sum((one.n for one in operation.products[1:]), start=lead.n)
    batch = lead.batch * lead.share
    left, right = operation.reads[0].bytes, 0.0
    for tensor in operation.reads[1:]:
        right = right + tensor.bytes
    written = 0.0
    for tensor in operation.writes:
        written = written + tensor.bytes
    return Shape(
        batch=batch,
        m=lead.m,
        n=columns,
        k=lead.k,
        left=left / (batch * lead.m * lead.k),
        right=_WIDE if _writes_wide(stack, lead) else right / (batch * columns * lead.k),
        out=written / (batch * lead.m * columns),
    )


def _product(context: _Context, operation: Operation, parts: Parts) -> _Times:
    """Time of a product's kernel, of what quantises its input, and of the launch."""
    stack, lead = context.stack, operation.products[0]
    time, moved = parts.time + context.launch + _quantise(context, operation), parts.moved
    for again, bandwidth in _conversions(context, operation):
        time, moved = time + again / bandwidth + stack.pass_time + context.launch, moved + again
    whole = _Times(time, maximum(parts.compute, parts.power), 0.0 * time, parts.memory, moved)
    if not stack.few_rows:
        return whole
    few, short = _few_rows(context, operation), lead.m <= stack.few_rows
    return _Times(*(where(short, one, other) for one, other in zip(few, whole, strict=True)))


def _conversions(context: _Context, operation: Operation) -> list[tuple[Bytes, BytesPerSecond]]:
    """Return the passes before and after a product of many rows: the bytes of each, and the bandwidth that it has."""
    stack, lead = context.stack, operation.products[0]
    on, found = _vector_engine(context), list[tuple[Bytes, BytesPerSecond]]()
    columns = total([one.n for one in operation.products])
    if _writes_wide(stack, lead):
        found.append((total([one.bytes for one in operation.reads[1:]]) + lead.batch * lead.k * columns * _WIDE, on.bandwidth))
    if stack.converts_bytes:
        for values in (lead.k, columns):
            moved = lead.batch * lead.m * values * stack.converts_bytes
            kept = resident_share(footprint=moved, capacity=on.cache)
            found.append((moved, 1.0 / (kept / on.cache_bandwidth + (1.0 - kept) / on.bandwidth)))
    return found


def _few_rows(context: _Context, operation: Operation) -> _Times:
    """Time of products of a matrix and a few vectors: what cores read of the matrix, or their lanes' work."""
    on, stack = _vector_engine(context), context.stack
    main = context.chip.main_memory.bandwidth * stack.few_rows_share
    lead, moved, keys = operation.products[0], operation.bytes, operation.kind == "attention"
    values = lead.batch * lead.k * total([one.n for one in operation.products])
    read = values * operation.reads[-1].format.bytes_per_value if keys else total([one.bytes for one in operation.reads])
    memory, most = moved / main, stack.few_keys_bytes if keys else stack.few_rows_bytes
    if most:
        memory = maximum(memory, read / (most * on.cores * on.clock))
    vector = total([2.0 * one.batch * one.m * one.n * one.k for one in operation.products]) / on.lanes
    if stack.few_rows_lanes and lead.formats[0].bytes_per_value < _WIDE:
        vector = vector + 2.0 * stack.few_rows_lanes * values / on.lanes
    start = context.family.start * on.latency
    return _Times(start + maximum(memory, vector) + context.launch, 0.0, vector, memory, moved)


def _quantise(context: _Context, operation: Operation) -> Seconds:
    """Time of kernels that bring 16-bit activations to a narrow format, where the stack runs them."""
    stack, source = context.stack, operation.reads[0]
    if not stack.quantises or source.role != "activation" or source.format.bits > 8:
        return 0.0
    by_block = operation.products[0].formats[0].scale is not None
    count, moved = (stack.block_kernels, stack.block_bytes) if by_block else (stack.tensor_kernels, stack.tensor_bytes)
    bandwidth = context.chip.main_memory.bandwidth * context.family.bandwidth
    return count * (stack.pass_time + context.launch) + moved * source.elements / bandwidth


# ---- attention --------------------------------------------------------------------------------------------------------------


def _attention(context: _Context, operation: Operation) -> _Times:
    """Time of attention: decode by blocks along the cache, prefill by tiles of queries, a shared latent absorbed."""
    scores, values = operation.products
    cached = operation.reads[1:]
    width = cached[0].format.bytes_per_value
    on = context.engine(_attention_format(context, scores))
    pairs = scores.n * scores.share  # keys that a query attends to, on average
    batch = cached[0].elements / (scores.n * scores.k)  # sequences × KV heads
    elements = cached[0].elements
    for tensor in cached[1:]:
        elements = elements + tensor.elements
    size = (scores.k + values.n) / 2.0
    group = scores.batch / batch
    held = elements / (batch * pairs * size)
    method = method_of(context.stack, width)
    queries = scores.m
    if context.stack.reads_by_head and len(cached) > 1:
        batch, elements, group = batch * group, elements * group, 1.0
    few = AttentionShape(batch, 1.0, pairs, group * queries, 1.0, size, width, held)
    if len(cached) == 1 and is_scalar(queries) and queries <= _DECODE_QUERIES:
        return _latent(context, on, LatentShape(batch, 1.0, pairs, group * queries, values.n, scores.k - values.n, width))
    if is_scalar(queries) and queries <= _DECODE_QUERIES:
        found = _in_rounds(context, on, few, decode_parts(on, context.family, few, method))
    else:
        many = AttentionShape(batch, queries, scores.n, group, 1.0, size, width, held, pairs)
        masked = not (is_scalar(scores.share) and scores.share >= 1.0)
        found = prefill_parts(on, context.family, many, method, masked)
        if not is_scalar(queries):
            packed = _in_rounds(context, on, few, decode_parts(on, context.family, few, method))
            short = queries <= _DECODE_QUERIES
            found = AttentionParts(*(where(short, one, other) for one, other in zip(packed, found, strict=True)))
    scalar = is_scalar(queries) and all(np.ndim(one) == 0 for one in found)
    time, compute, memory = (float(one) for one in found) if scalar else found
    return _Times(time + context.launch, compute, 0.0, memory)


def _in_rounds(context: _Context, on: Engine, shape: AttentionShape, found: AttentionParts) -> AttentionParts:
    """Return decode attention whose blocks draw an even share of the bandwidth each, split until every core has one."""
    if not context.stack.whole_rounds:
        return found
    heads = shape.batch * shape.kv_heads
    blocks = heads * maximum(on.cores // heads, 1.0)
    memory = found.memory * ceil_divide(blocks, on.cores) * on.cores / blocks
    return AttentionParts(found.time + maximum(memory - maximum(found.memory, found.compute), 0.0), found.compute, memory)


def _attention_format(context: _Context, scores: Product) -> str:
    format = context.machine.rate(scores.formats).format
    if number_format(format.partition(":")[0]).bits >= 16 or context.stack.computes_fp8_attention:
        return format
    return compute_rate(context.chip, (FORMATS["bf16"], FORMATS["bf16"])).format


def _latent(context: _Context, on: Engine, shape: LatentShape) -> _Times:
    stack = context.stack
    method = LatentMethod(
        splits=stack.split_latent,
        share=stack.latent_share,
        contention=stack.latent_contention,
        kernels=stack.latent_kernels,
        overlapped=1.0 if stack.overlaps_softmax else 0.0,
    )
    return _Times(latent_decode_time(on, context.family, shape, method) + context.launch)


# ---- vector kernels ---------------------------------------------------------------------------------------------------------


def _vector(context: _Context, operation: Operation) -> _Times:
    """Time of a kernel that streams its tensors: passes over rows that its cores cannot keep, lanes, and the launch."""
    on, stack = _vector_engine(context), context.stack
    values, read = 0.0, 0.0
    for tensor in operation.writes:
        values = values + tensor.elements
    for tensor in operation.reads:
        read = read + (0.0 if tensor.role == "weight" else tensor.bytes)
    sweeps = max((FUNCTIONS[name].passes for name in operation.functions if FUNCTIONS[name].row_wise), default=1.0)
    again = 0.0
    if sweeps > 1.0:
        again = _missed(context, operation, on) * read if stack.fused_norms else (sweeps - 1.0) * read
    count = 1.0 if stack.fused_norms else sweeps
    composed = _composed(stack, operation)
    blocks = maximum(minimum(ceil_divide(values, _VALUES_A_BLOCK), on.cores), 1.0)
    bandwidth = achieved_bandwidth(bandwidth=on.bandwidth, in_flight=blocks * on.core_bandwidth, latency=1.0)
    lane, special = function_counts(operation)
    moved, count = (operation.bytes + again) * composed, count * composed
    time = stream_time(bytes=moved, bandwidth=bandwidth, lane=lane, lane_rate=on.lanes, special=special, special_rate=on.special)
    launched = time + count * (stack.pass_time + context.launch)
    return _Times(launched, 0.0, lane / on.lanes + special / on.special, moved / bandwidth, moved)


def kernel_count(stack: Stack | None, operation: Operation) -> Count:
    """Return how many kernels a stack issues for an operation that it has placed: those between which its result is in memory."""
    if stack is None or operation.products:
        return 1.0
    return _composed(stack, operation)


def _composed(stack: Stack, operation: Operation) -> Count:
    """Return the kernels of which a framework composes one: of a softmax over scores in memory, those between two products."""
    if stack.score_passes and _reads_scores(operation):
        return (stack.score_passes - 2.0) / 2.0
    return max((stack.function_kernels.get(name, 1.0) for name in operation.functions), default=1.0)


def _vector_engine(context: _Context) -> Engine:
    rates = {**context.chip.matrix_unit.rate, **context.chip.vector_unit.rate}
    return context.engine("fp32" if "fp32" in rates else next(iter(rates)))


def _missed(context: _Context, operation: Operation, on: Engine) -> Count:
    """Share of its rows that a normalisation reads again, from the length of its weights."""
    weights = [one.elements for one in operation.reads if one.role == "weight"]
    if not weights or any(is_zero(one) for one in weights):
        return 0.0
    width = operation.reads[0].format.bytes_per_value
    both = 2.0 if "layer-norm" in operation.functions else 1.0  # scale and shift
    return missed_share(row=weights[0] / both * width, rows=context.family.rows_in_core, capacity=on.local)


def with_stack(chip: Chip, stack: Stack) -> Chip:
    """Return the chip with another software stack."""
    return replace(chip, stack=stack)
