"""Rows that time attention over keys and values: decode and prefill."""

import numpy as np

from ridgeline.costs.waves import resident_share
from ridgeline.mapping.many_core import engine
from ridgeline.mapping.many_core_attention import AttentionShape, decode_time, method_of, prefill_time
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
    wide = group.text("dtype").lower() == "fp32"
    cache = 4.0 if wide else 1.0 if group.text("kv_dtype").startswith(("fp8", "int8")) else 2.0
    shape = AttentionShape(batch, queries, kv_len, heads, kv_heads, group.column("head_dim", 128.0), cache)
    stack, chip = group.stack, group.chip
    machine = engine(chip, group.family, "fp32" if wide else _half(group))
    method = method_of(stack, cache, resident=stack.weight_copies > 0 or stack.warm_cache)
    decode = bool((queries <= 1).all())
    fixed = stack.fixed_of.get("decode" if decode else "prefill", stack.fixed)
    causal = not decode and group.text("causal").lower() != "false"
    time = (
        decode_time(machine, group.family, shape, method) if decode else prefill_time(machine, group.family, shape, method, causal)
    )
    seen = kv_len - (queries - 1) / 2 if causal else kv_len
    flops = 4.0 * batch * heads * queries * seen * shape.head_size
    moved = 2.0 * batch * (kv_len * kv_heads * cache + (4.0 if wide else 2.0) * queries * heads) * shape.head_size
    if method.resident:
        kept = 2.0 * batch * kv_len * kv_heads * cache * shape.head_size
        moved = moved - kept * resident_share(footprint=kept, capacity=machine.cache)
    return Times(time + fixed, np.maximum(flops / machine.peak, moved / chip.main_memory.bandwidth))
