"""Rows that time attention over keys and values: decode and prefill."""

import numpy as np

from ridgeline.costs.waves import resident_share
from ridgeline.mapping.many_core import engine
from ridgeline.mapping.many_core_attention import AttentionMethod, AttentionShape, decode_time, prefill_time
from ridgeline.validation.group import Group, Times
from ridgeline.validation.schema import Row


def is_attention(row: Row) -> bool:
    """Say whether a row times attention, one query a sequence (decode) or more (prefill)."""
    return (
        row.metric == "latency" and row.text("op") == "attention" and row.has("batch", "q_len", "kv_len", "n_heads", "n_kv_heads")
    )


def _half(group: Group) -> str:
    return "bf16" if "bf16" in group.chip.matrix_unit.rate else "fp16"


def times(group: Group) -> Times:
    """Predict attention: decode where no sequence has more than one query, else prefill."""
    names = ("batch", "q_len", "kv_len", "n_heads", "n_kv_heads")
    batch, queries, kv_len, heads, kv_heads = (group.column(one) for one in names)
    cache = 1.0 if group.text("kv_dtype").startswith(("fp8", "int8")) else 2.0
    shape = AttentionShape(batch, queries, kv_len, heads, kv_heads, group.column("head_dim", 128.0), cache)
    stack, chip = group.stack, group.chip
    machine = engine(chip, group.family, _half(group))
    method = AttentionMethod(
        splits=stack.split_attention and (cache > 1.0 or stack.split_fp8_attention),
        splits_single=stack.split_single_heads,
        group_limit=stack.group_limit or float("inf"),
        split_group=stack.split_group or float("inf"),
        block_loads=stack.block_loads,
        single_loads=(stack.single_loads if cache > 1.0 else 0.0) or stack.block_loads,
        prepares=stack.prepares_attention,
        resident=stack.weight_copies > 0 or stack.warm_cache,
        overlapped=1.0 if stack.overlaps_softmax else 0.0,
    )
    decode = bool((queries <= 1).all())
    fixed = stack.fixed_of.get("decode" if decode else "prefill", stack.fixed)
    causal = not decode and group.text("causal").lower() != "false"
    time = (
        decode_time(machine, group.family, shape, method) if decode else prefill_time(machine, group.family, shape, method, causal)
    )
    seen = kv_len - (queries - 1) / 2 if causal else kv_len
    flops = 4.0 * batch * heads * queries * seen * shape.head_size
    moved = 2.0 * batch * (kv_len * kv_heads * cache + 2.0 * queries * heads) * shape.head_size
    if method.resident:
        kept = 2.0 * batch * kv_len * kv_heads * cache * shape.head_size
        moved = moved - kept * resident_share(footprint=kept, capacity=machine.cache)
    return Times(time + fixed, np.maximum(flops / machine.peak, moved / chip.main_memory.bandwidth))
