"""Rows that time an elementwise or row-wise kernel: what they are called, and the prediction."""

from ridgeline.costs.waves import resident_share
from ridgeline.errors import InputError
from ridgeline.mapping.many_core import STREAMING, StreamMethod, engine, vector_time
from ridgeline.validation.group import Group, Times
from ridgeline.validation.schema import Row

# Names of datasets → kernels; a name of `STREAMING` is its own.
NAMES: dict[str, str] = {
    "ln": "layer-norm",
    "layernorm": "layer-norm",
    "layer_norm": "layer-norm",
    "input_layernorm": "rms-norm",
    "post_attention_layernorm": "rms-norm",
    "rmsnorm": "rms-norm",
    "rms_norm": "rms-norm",
    "final_layernorm": "rms-norm",
    "gpt3-layer:gelu": "gelu",
    "gpt3-layer:softmax": "softmax",
    "gpt3-layer:layernorm_ffn": "layer-norm",
    "gpt3-layer:layernorm_mha": "layer-norm",
    "mlp_act": "gated",
    "act_fn": "gated",
    "silu_and_mul": "gated",
    "attn_rope": "rotary",
    "rope": "rotary",
    "rotary_emb": "rotary",
    "embedding": "gather",
}
_WIDTHS = {"fp32": 4.0, "tf32": 4.0}


def kernel_of(op: str) -> str | None:
    """Return the kernel that an operation's name stands for; None where it is no vector kernel."""
    name = NAMES.get(op.lower(), op.lower())
    return name if name in STREAMING else None


def is_vector(row: Row) -> bool:
    """Say whether a row times a vector kernel."""
    return row.metric == "latency" and row.has("m", "n") and not row.has("k") and kernel_of(row.text("op")) is not None


def times(group: Group) -> Times:
    """Predict vector kernels: the stream and the call's fixed time."""
    name = kernel_of(group.text("op"))
    if name is None:
        raise InputError(f"{group.text('op')}: no vector kernel of that name")
    if name == "gated" and group.text("gated").lower() == "false":
        name = "gelu"
    what, width = STREAMING[name], _WIDTHS.get(group.text("dtype").lower(), 2.0)
    chip = group.chip
    machine = engine(chip, group.family, "fp32" if "fp32" in chip.vector_unit.rate else next(iter(chip.matrix_unit.rate)))
    m, n = group.column("m"), group.column("n")
    stack = group.stack
    method = StreamMethod(stack.warm_rows, stack.row_loads, stack.row_values)
    time = vector_time(machine, group.family, what, m, n, width=width, method=method) + stack.fixed_of.get(name, stack.fixed)
    moved = (what.reads + what.writes) * m * n * width
    least = moved
    if stack.warm_rows:
        read = what.reads * m * n * width
        least = moved - read * resident_share(footprint=read, capacity=machine.cache)
    return Times(time, least / chip.main_memory.bandwidth)
