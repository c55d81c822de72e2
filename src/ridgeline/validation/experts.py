"""Rows that time experts: a whole layer on its busiest rank, or one grouped product alone."""

from fnmatch import fnmatchcase

import numpy as np

from ridgeline.costs.waves import resident_share
from ridgeline.errors import InputError
from ridgeline.mapping.expert_kernels import GroupedMethod, GroupedShape, Layer, LayerMethod, Loads, grouped_time, layer_time
from ridgeline.mapping.many_core import Engine, Method, engine
from ridgeline.quantities import Bytes, Seconds
from ridgeline.validation import routing
from ridgeline.validation.group import Group, Times
from ridgeline.validation.products import Formats, on_chip
from ridgeline.validation.schema import Row

_SHAPE = ("tokens", "hidden", "inter", "topk", "n_experts")
_TILES = ((256, 128), (128, 128), (64, 128), (32, 128), (16, 128))  # of kernels that take no other from chip or library


def is_layer(row: Row) -> bool:
    """Say whether a row times a layer of experts on one rank."""
    return row.metric == "latency" and row.has(*_SHAPE) and row.text("op").startswith("moe")


def is_grouped(row: Row) -> bool:
    """Say whether a row times one grouped product of experts."""
    return row.metric == "latency" and row.has(*_SHAPE) and row.text("op") in ("grouped_gemm_up", "grouped_gemm_down")


def _machine(group: Group) -> tuple[Engine, Formats]:
    format, form = on_chip(group.chip, group.text("dtype"))
    return engine(group.chip, group.family, format), form


def _tiles(group: Group, block_scaled: bool) -> tuple[tuple[int, int], ...]:
    stack = group.stack
    return stack.grouped_tiles or (stack.block_tiles if block_scaled else ()) or _TILES


def _loads(group: Group) -> Loads:
    law = group.text("routing")
    ranks = group.column("moe_ep", 1.0)
    names = ("tokens", "n_experts", "topk")
    cases = [(*(int(row.number(name)) for name in names), int(rank)) for row, rank in zip(group.rows, ranks, strict=True)]
    if law in ("", "balanced", "uniform"):
        return Loads.stacked([routing.balanced(*case) for case in cases])
    head, _, exponent = law.rpartition("_")
    if not head.startswith("power_law"):
        raise InputError(f"routing {law!r}: balanced, uniform or power_law_<exponent>")
    ordered = any(fnmatchcase(group.text("framework").lower(), pattern) for pattern in group.stack.ordered_ties)
    return Loads.stacked([routing.power_law(*case, float(exponent), ordered) for case in cases])


def layer_times(group: Group) -> Times:
    """Predict layers of experts: the busiest rank's products, and the passes over all tokens."""
    machine, form = _machine(group)
    stack = group.stack
    quantised = {"tensor": stack.tensor_bytes, "block": stack.block_bytes}.get(form.quantised, 0.0) if stack.quantises else 0.0
    method = LayerMethod(
        kernels=stack.expert_kernels,
        pass_bytes=stack.expert_bytes,
        quantise_bytes=min(quantised, 3.0),  # the maximum is known: one pass
        product=_method(group, form),
    )
    loads = _loads(group)
    layer = Layer(
        group.column("tokens"),
        group.column("hidden"),
        group.column("inter") / group.column("moe_tp", 1.0),
        group.column("n_experts"),
        loads,
        form.left,
        form.right,
    )
    time = layer_time(machine, group.family, layer, method, _tiles(group, form.block > 0))
    weights = 3.0 * layer.hidden * layer.inter * form.right
    flops = 6.0 * loads.rows * layer.hidden * layer.inter
    return Times(time + stack.fixed, _ideal(group, machine, loads, (weights, flops)))


def _method(group: Group, form: Formats) -> GroupedMethod:
    stack = group.stack
    scaled = form.block > 0 or (stack.block_scaled and form.quantised == "tensor")
    product = Method(splits=False, converts=form.converts, block=128.0 if scaled else 0.0, weight_copies=stack.weight_copies)
    return GroupedMethod(product, 1.0 if form.quantised else stack.grouped_share, stack.grouped_depth)


def _ideal(group: Group, machine: Engine, loads: Loads, work: tuple[Bytes, Bytes]) -> Seconds:
    """Return the bound: weights of the experts touched, as far as no loop finds them in the cache, and the products' FLOPs."""
    weights, flops = work
    moved = loads.touched * weights
    if group.stack.weight_copies:
        moved = moved * (1.0 - resident_share(footprint=loads.kept * weights, capacity=machine.cache))
    return np.maximum(flops / machine.peak, moved / group.chip.main_memory.bandwidth)


def grouped_times(group: Group) -> Times:
    """Predict one grouped product: up is two matrices side by side, down is one."""
    machine, form = _machine(group)
    stack = group.stack
    hidden, inter, held = (group.column(one) for one in ("hidden", "inter", "n_local_experts"))
    held = np.where(np.isnan(held), group.column("n_experts"), held)
    # Rows laid end to end, as for prefill, are padded so that no tile has rows of two experts.
    aligned = int(stack.grouped_alignment) if group.text("phase") == "prefill" else 1
    cases = zip(*(group.column(one) for one in ("tokens", "n_experts", "topk")), held, strict=True)
    drawn = [tuple(int(one) for one in case) for case in cases]
    loads = Loads.stacked([routing.uniform(*case, aligned) for case in drawn])
    real = Loads.stacked([routing.uniform(*case) for case in drawn])
    up = group.text("op").endswith("up")
    n, k = (2.0 * inter, hidden) if up else (hidden, inter)
    shape = GroupedShape(n, k, form.left, form.right, form.out)
    time = grouped_time(machine, group.family, loads, shape, _method(group, form), _tiles(group, form.block > 0))
    start = group.family.start * machine.latency + stack.fixed_of.get("grouped", stack.fixed)
    return Times(start + time, _ideal(group, machine, real, (n * k * form.right, 2.0 * real.rows * n * k)))
