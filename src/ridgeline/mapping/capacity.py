"""What has to be resident in a chip's memory tiers: weights, KV cache with its pages, activations, communication buffers."""

from collections.abc import Sequence
from dataclasses import replace

from ridgeline.arrays import is_zero, maximum, minimum
from ridgeline.costs.memory import transfer_time
from ridgeline.costs.parallel import mean_page_waste, paged_tokens
from ridgeline.errors import InputError
from ridgeline.quantities import Bytes, Count, Seconds
from ridgeline.results import Capacity, Operation, Role
from ridgeline.specs.chip import Chip, MemoryLevel
from ridgeline.specs.model import ConvolutionalModel, Layer, Model
from ridgeline.specs.number_format import FORMATS
from ridgeline.specs.plan import Plan
from ridgeline.specs.precision import Precision
from ridgeline.specs.scenario import LatentForm, Scenario
from ridgeline.workload.attention import latent_cache_width
from ridgeline.workload.parameters import weight_bytes
from ridgeline.workload.transformer import source_tokens


def cache_bytes_per_token(model: Model, precision: Precision, *, latent: LatentForm = "absorbed") -> Bytes:
    """Bytes that one token adds to the KV cache over all layers, windows not yet full.

    Σ layers 2 · kv_heads · head_size · bytes;   latent attention: rank + rotary instead of the two tensors
    """
    found: Bytes = 0.0
    for layer in model.decoder:
        found = found + layer.count * _token_bytes(layer, precision, latent)
    return found


def _token_bytes(layer: Layer, precision: Precision, latent: LatentForm) -> Bytes:
    attention = layer.attention
    if attention is None:
        return 0.0
    stored = latent_cache_width(attention, latent) * precision.kv.bytes_per_value
    if attention.indexer is not None:
        stored = stored + attention.indexer.head_size * FORMATS["fp8-e4m3"].bytes_per_value
    return stored


def tokens_that_fit(model: Model, precision: Precision, available: Bytes) -> Count:
    """Tokens of one sequence whose cache fits in so many bytes; a layer with a window stops growing when it is full.

    Solves Σ layers bytes · min(tokens, window) = available, infinite where every window is full before.
    """
    layers = [
        (layer.count * _token_bytes(layer, precision, "absorbed"), layer.attention.window)
        for layer in model.decoder
        if layer.attention
    ]
    tokens, slope = 0.0, sum(size for size, _ in layers)
    for window in sorted({float(window) for _, window in layers if window is not None}):
        if slope * (window - tokens) >= available:
            break
        available, tokens = available - slope * (window - tokens), window
        slope -= sum(size for size, other in layers if other is not None and float(other) == window)
    return tokens + available / slope if slope > 0 else float("inf")


def cache_bytes(model: Model, scenario: Scenario, precision: Precision) -> Bytes:
    """Bytes of the KV cache when the step ends: every sequence at its full context; windows hold their window.

    Sequences that share a prompt (`samples`) hold it once. Recurrent states of linear attention are counted, in fp32.
    """
    if not model.decoder or scenario.phase == "encode":
        return 0.0
    tokens = _tokens_at_end(model, scenario)
    groups = scenario.batch / scenario.samples
    latent = scenario.latent or "absorbed"
    found: Bytes = 0.0
    for layer in model.decoder:
        attention, linear = layer.attention, layer.linear_attention
        if attention is not None:
            held = tokens if attention.window is None else minimum(tokens, attention.window)
            shared = minimum(scenario.prompt, held)
            count = scenario.batch * (held - shared) + groups * shared
            found = found + layer.count * count * _token_bytes(layer, precision, latent)
        if linear is not None:
            state = linear.value_heads * linear.key_size * linear.value_size * FORMATS["fp32"].bytes_per_value
            found = found + layer.count * scenario.batch * state
        if layer.cross_attention is not None:
            cross = layer.cross_attention
            width = cross.kv_heads * (cross.head_size + cross.values) * precision.kv.bytes_per_value
            found = found + layer.count * scenario.batch * source_tokens(model, scenario) * width
    return found


def _tokens_at_end(model: Model, scenario: Scenario) -> Count:
    prompt = 1.0 if model.encoder else scenario.prompt
    if scenario.phase == "prefill":
        return prompt + (0.0 if model.encoder else scenario.context)
    if scenario.phase == "generate":
        return prompt + scenario.output
    return scenario.context


def activation_bytes(operations: Sequence[Operation]) -> Bytes:
    """Bytes of activations that live at once: the largest sum of inputs and outputs of one operation."""
    largest: Bytes = 0.0
    for operation in operations:
        largest = maximum(largest, operation.bytes_of("activation"))
    return largest


def fragmentation_bytes(model: Model, scenario: Scenario, precision: Precision, page: Count, waste: str = "mean") -> Bytes:
    """Bytes of a paged KV cache that hold no token: the rest of each sequence's last page, over all layers.

        Σ layers sequences · (⌈tokens / page⌉ · page − tokens) · bytes   [kwon2023pagedattention] §4.3

    With `mean` the last page has (page − 1) / 2 free tokens. Layers with a window keep pages for their window. Recurrent states and
    cross-attention have no pages.
    """
    if is_zero(page) or not model.decoder or scenario.phase == "encode":
        return 0.0
    tokens = _tokens_at_end(model, scenario)
    found: Bytes = 0.0
    for layer in model.decoder:
        if layer.attention is not None:
            held = tokens if layer.attention.window is None else minimum(tokens, layer.attention.window)
            free = mean_page_waste(page=page) if waste == "mean" else paged_tokens(tokens=held, page=page) - held
            bytes_each = _token_bytes(layer, precision, scenario.latent or "absorbed")
            found = found + layer.count * scenario.batch * free * bytes_each
    return found


def place_in_tiers(held: Capacity, chip: Chip, offload: Sequence[str]) -> Capacity:
    """Move what does not fit in main memory to the chip's further tier, kind by kind in the order given, no more than is needed.

    Raises `InputError` for a chip whose file has no further tier with capacity and bandwidth.
    """
    if not offload:
        return held
    tier = further_tier(chip)
    if tier is None:
        raise InputError(f"offload={'+'.join(offload)}: {chip.name} has no further-tier memory with a capacity and a bandwidth")
    excess = maximum(held.needed - held.available, 0.0 * (held.needed + held.available))
    moved: dict[str, Bytes] = {}
    for name in offload:
        moved[name] = minimum(excess, getattr(held, name))
        excess = excess - moved[name]
    return replace(held, moved=moved, further=tier.name, further_available=tier.capacity)


def further_tier(chip: Chip) -> MemoryLevel | None:
    """Return the memory beyond the main memory, whole chip; None where the file has none or lacks its capacity or bandwidth."""
    tiers = [chip.whole(level) for level in chip.memory if level.role == "further-tier"]
    return next((one for one in tiers if one.capacity is not None and one.bandwidth is not None), None)


def moved_time(held: Capacity, chip: Chip, operation: Operation) -> Seconds:
    """Time in which an operation's share of what lies in the further tier comes over; parts are read evenly from both tiers."""
    tier = further_tier(chip)
    if tier is None or not held.moved:
        return 0.0
    read: Bytes = 0.0
    roles: tuple[tuple[str, Role], ...] = (("weights", "weight"), ("kv", "kv"))
    for name, role in roles:
        if name in held.moved:
            whole = maximum(getattr(held, name), 1e-300 + 0.0 * held.needed)
            read = read + operation.bytes_of(role) * held.moved[name] / whole
    return transfer_time(bytes=read, bandwidth=tier.bandwidth)


def capacity(
    model: Model | ConvolutionalModel,
    scenario: Scenario,
    precision: Precision,
    chip: Chip,
    operations: Sequence[Operation],
    *,
    plan: Plan | None = None,
    ranks: int = 1,
    weights: Bytes | None = None,
    buffers: Bytes = 0.0,
) -> Capacity:
    """Return what the step keeps in a chip's memory tiers, against their capacities.

    `model` and `scenario` are what one chip holds; `ranks` share each sequence's cache; `plan` has its pages and what may
    move; `weights` are given where they are not the model's.
    """
    level = chip.main_memory
    plan = Plan() if plan is None else plan
    kv = cache_bytes(model, scenario, precision) / ranks if isinstance(model, Model) else 0.0
    torn = fragmentation_bytes(model, scenario, precision, plan.page, plan.page_waste) if isinstance(model, Model) else 0.0
    held = Capacity(
        weights=weight_bytes(model, precision) if weights is None else weights,
        kv=kv,
        activations=activation_bytes(operations),
        available=level.capacity,
        level=level.name,
        fragmentation=torn,
        buffers=buffers,
    )
    return place_in_tiers(held, chip, plan.offload)
