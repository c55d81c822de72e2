"""Rows that time attention over a latent that all heads share (MLA): absorbed decode and expanded prefill."""

import numpy as np

from ridgeline.costs.waves import resident_share
from ridgeline.mapping.latent_kernels import LatentMethod, LatentShape, latent_decode_time, latent_prefill_time
from ridgeline.mapping.many_core import engine
from ridgeline.validation.group import Group, Times
from ridgeline.validation.schema import Row

_LATENT, _ROTARY = 512.0, 64.0  # of the models whose rows give none


def is_latent(row: Row) -> bool:
    """Say whether a row times attention over a latent, one query a sequence (decode) or more (prefill)."""
    return row.metric == "latency" and row.text("op") == "mla" and row.has("batch", "q_len", "kv_len", "n_heads")


def times(group: Group) -> Times:
    """Predict attention over a latent: decode where no sequence has more than one query, else prefill."""
    batch, queries, kv_len, heads = (group.column(one) for one in ("batch", "q_len", "kv_len", "n_heads"))
    stack, chip = group.stack, group.chip
    narrow = group.text("kv_dtype").startswith(("fp8", "int8")) and stack.narrow_latent
    cache = 1.0 if narrow else 2.0
    latent, rotary = group.column("kv_lora", _LATENT), group.column("rope_dim", _ROTARY)
    shape = LatentShape(batch, queries, kv_len, heads, latent, rotary, cache)
    machine = engine(chip, group.family, "bf16" if "bf16" in chip.matrix_unit.rate else "fp16")
    decode = bool((queries <= 1).all())
    resident = stack.weight_copies > 0 or stack.warm_cache
    method = LatentMethod(
        splits=stack.split_latent,
        share=stack.latent_share if decode else 1.0,
        contention=stack.latent_contention,
        kernels=stack.latent_kernels if decode else stack.expanded_kernels,
        resident=resident,
        overlapped=1.0 if stack.overlaps_softmax else 0.0,
        passes=stack.expanded_passes,
    )
    of = latent_decode_time if decode else latent_prefill_time
    time = of(machine, group.family, shape, method) + stack.fixed_of.get("latent" if decode else "expanded", stack.fixed)
    return Times(time, _ideal(group, shape, decode, resident))


def _ideal(group: Group, shape: LatentShape, decode: bool, resident: bool) -> np.ndarray:
    """Return the bound under the row's own residency; an fp8 cache counts one byte a value whatever the library reads."""
    chip = group.chip
    machine = engine(chip, group.family, "bf16" if "bf16" in chip.matrix_unit.rate else "fp16")
    if decode:
        wide = 1.0 if group.text("kv_dtype").startswith(("fp8", "int8")) else 2.0
        kept = shape.batch * shape.kv_len * (shape.latent + shape.rotary) * wide
        flops = 2.0 * shape.batch * shape.kv_len * shape.heads * (2.0 * shape.latent + shape.rotary)
        moved = kept
    else:
        seen = shape.kv_len - (shape.queries - 1.0) / 2.0
        flops = 2.0 * shape.batch * shape.heads * shape.queries * seen * (shape.key + shape.value)
        kept = 2.0 * shape.batch * shape.heads * (shape.kv_len * (shape.key + shape.value) + shape.queries * shape.key)
        moved = kept + 2.0 * shape.batch * shape.heads * shape.queries * shape.value
    if resident:
        moved = moved - kept * resident_share(footprint=moved, capacity=machine.cache)
    return np.maximum(flops / machine.peak, moved / chip.main_memory.bandwidth)
