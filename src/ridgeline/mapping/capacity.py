"""What has to be resident in main memory: weights, KV cache, activations."""

from ridgeline.arrays import maximum, minimum
from ridgeline.quantities import Bytes, Count
from ridgeline.results import Capacity, Operation
from ridgeline.specs.chip import Chip
from ridgeline.specs.model import ConvolutionalModel, Layer, Model
from ridgeline.specs.number_format import FORMATS
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


def activation_bytes(operations: tuple[Operation, ...]) -> Bytes:
    """Bytes of activations that live at once: the largest sum of inputs and outputs of one operation."""
    largest: Bytes = 0.0
    for operation in operations:
        largest = maximum(largest, operation.bytes_of("activation"))
    return largest


def capacity(
    model: Model | ConvolutionalModel,
    scenario: Scenario,
    precision: Precision,
    chip: Chip,
    operations: tuple[Operation, ...],
) -> Capacity:
    """Return what the step keeps in the chip's main memory, against its capacity."""
    level = chip.main_memory
    kv = cache_bytes(model, scenario, precision) if isinstance(model, Model) else 0.0
    return Capacity(
        weights=weight_bytes(model, precision),
        kv=kv,
        activations=activation_bytes(operations),
        available=level.capacity,
        level=level.name,
    )
