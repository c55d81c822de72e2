"""Where the bound changes: ops:byte, critical batch, prompt length, KV bytes, ops:comms, tensor parallelism."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ridgeline.api.names import load_chip, load_model, load_precision
from ridgeline.costs import attention, collective, matmul, memory
from ridgeline.costs.rates import compute_rate
from ridgeline.errors import InputError
from ridgeline.estimate import step_operations
from ridgeline.mapping.capacity import cache_bytes_per_token, tokens_that_fit
from ridgeline.specs.base import Source
from ridgeline.specs.chip import Chip
from ridgeline.specs.model import Attention, ConvolutionalModel, Model
from ridgeline.specs.precision import Precision
from ridgeline.specs.scenario import Scenario
from ridgeline.workload.parameters import weight_bytes


@dataclass(frozen=True, kw_only=True, eq=False)
class Thresholds:
    """Where the bound changes, for a model on a chip; every number says by its name what it counts."""

    model: Model | ConvolutionalModel
    chip: Chip
    precision: Precision
    compute_format: str
    ops_per_byte: Mapping[str, Mapping[str, float]]
    critical_batch: float
    critical_batch_exact: Mapping[str, float]
    critical_batch_experts: float | None
    critical_batch_speculative: float
    verified: float
    bytes_in_flight: Mapping[str, float]
    attention_intensity: Mapping[str, float]
    attention_critical_tokens: float
    attention_critical_tokens_grouped: float
    attention_critical_tokens_causal: float
    kv_bytes_per_token: float
    kv_bytes_per_token_by_kind: Mapping[str, float]
    tokens_in_memory: Mapping[str, float]
    tokens_beside_weights: float | None
    ops_per_comm_byte: Mapping[str, float]
    tensor_parallel_limit: Mapping[str, float]
    sources: Mapping[str, Source]


def thresholds(
    model: Model | ConvolutionalModel | str,
    chip: Chip | str,
    *,
    precision: Precision | str | None = None,
    verified: float = 1.0,
) -> Thresholds:
    """Say where the bound changes: ops:byte, critical batch, prompt length, KV bytes, ops:comms, tensor parallelism.

    `verified` are the tokens that speculation checks at once; they divide the critical batch.

    >>> round(thresholds("llama-3.1-8b", "h100-sxm").critical_batch, 1)
    295.3
    """
    spec, machine = load_model(model), load_chip(chip)
    formats = load_precision(precision, spec)
    if verified < 1:
        raise InputError(f"verified {verified:g}: 1 token or more is wanted")
    main = machine.main_memory
    unit = compute_rate(machine, (formats.weights, formats.activations), formats.accumulate)
    critical = matmul.critical_batch(rate=unit.rate, bandwidth=main.bandwidth, weight=formats.weights.bytes_per_value)
    kv_unit = compute_rate(machine, (formats.kv, formats.activations), formats.accumulate)
    kv_ridge = matmul.ridge(rate=kv_unit.rate, bandwidth=main.bandwidth)
    group = _largest_group(spec)
    per_token = float(cache_bytes_per_token(spec, formats)) if isinstance(spec, Model) else 0.0
    return Thresholds(
        model=spec,
        chip=machine,
        precision=formats,
        compute_format=unit.format,
        ops_per_byte=_ops_per_byte(machine),
        critical_batch=critical,
        critical_batch_exact=_exact_batches(machine, spec, formats),
        critical_batch_experts=_expert_batch(spec, machine, formats),
        critical_batch_speculative=critical / verified,
        verified=verified,
        bytes_in_flight={
            level.name: memory.bytes_in_flight(latency=level.latency, bandwidth=level.bandwidth)
            for level in map(machine.whole, machine.memory)
            if level.latency is not None and level.bandwidth is not None
        },
        attention_intensity={
            "decode": attention.intensity(queries=1.0, keys=4096.0),
            "prefill": attention.intensity(queries=4096.0, keys=4096.0),
        },
        attention_critical_tokens=attention.critical_tokens(ops_per_byte=kv_ridge, element=formats.kv.bytes_per_value),
        attention_critical_tokens_grouped=attention.critical_tokens(
            ops_per_byte=kv_ridge, element=formats.kv.bytes_per_value, group=group
        ),
        attention_critical_tokens_causal=attention.critical_tokens(
            ops_per_byte=kv_ridge, element=formats.kv.bytes_per_value, group=group, causal=True
        ),
        kv_bytes_per_token=per_token,
        kv_bytes_per_token_by_kind=_cache_by_kind(spec, formats),
        tokens_in_memory=_tokens_in_memory(machine, spec, formats),
        tokens_beside_weights=_tokens_beside_weights(machine, spec, formats),
        ops_per_comm_byte=_ops_per_comm_byte(machine, unit.rate),
        tensor_parallel_limit=_tensor_parallel_limit(machine, spec, unit.rate),
        sources=_threshold_sources(machine, spec),
    )


def _threshold_sources(chip: Chip, model: Model | ConvolutionalModel) -> dict[str, Source]:
    found = {
        f"{chip.name}.{path}": one for path, one in chip.sources.items() if path.split(".")[0] in ("matrix_unit", "memory", "link")
    }
    return found | {f"{model.name}.{path}": one for path, one in model.sources.items() if not path.startswith("published")}


def _ops_per_byte(chip: Chip) -> dict[str, dict[str, float]]:
    rates = chip.matrix_unit.rate or chip.vector_unit.rate
    levels = [chip.whole(level) for level in chip.memory if level.bandwidth is not None]
    return {
        name: {level.name: matmul.ridge(rate=rate, bandwidth=level.bandwidth) for level in levels} for name, rate in rates.items()
    }


def _exact_batches(chip: Chip, model: Model | ConvolutionalModel, precision: Precision) -> dict[str, float]:
    """Critical batch of each weight matrix with its activations counted; infinite where they never let it bind compute."""
    if not isinstance(model, Model):
        return {}
    scenario = Scenario(phase="decode" if model.decoder else "encode", batch=1.0, context=1.0, prompt=1.0)
    unit = compute_rate(chip, (precision.weights, precision.activations), precision.accumulate)
    wide = max(precision.activations.bytes_per_value, 2.0)
    groups = {layer.name for layer in (*model.encoder, *model.decoder) if layer.name}
    found: dict[str, float] = {}
    for operation in step_operations(model, scenario, precision):
        product = operation.products[0] if operation.kind == "matmul" else None
        if product is not None and operation.group in ("projections", "feed-forward", "head") and product.batch == 1:
            name = operation.name.split(" ", 1)[1] if operation.name.split(" ")[0] in groups else operation.name
            found[name] = matmul.critical_batch_exact(
                rate=unit.rate,
                bandwidth=chip.main_memory.bandwidth,
                weight=product.formats[0].bytes_per_value,
                activation=precision.activations.bytes_per_value,
                output=wide,
                n=product.n,
                k=product.k,
            )
    return found


def _expert_batch(model: Model | ConvolutionalModel, chip: Chip, precision: Precision) -> float | None:
    """Critical batch of a mixture's experts: each sees active / count of the tokens, so experts / active times the dense one."""
    layers = [layer.experts for layer in (model.decoder if isinstance(model, Model) else ()) if layer.experts is not None]
    if not layers:
        return None
    unit = compute_rate(chip, (precision.experts, precision.activations), precision.accumulate)
    dense = matmul.critical_batch(rate=unit.rate, bandwidth=chip.main_memory.bandwidth, weight=precision.experts.bytes_per_value)
    return max(dense * layer.count / layer.active for layer in layers)


def _attentions(model: Model | ConvolutionalModel) -> list[tuple[float, Attention]]:
    if not isinstance(model, Model):
        return []
    return [(layer.count, layer.attention) for layer in (model.decoder or model.encoder) if layer.attention is not None]


def _largest_group(model: Model | ConvolutionalModel) -> float:
    """Query heads that share one KV head, the largest over the layers."""
    return max((one.heads / one.kv_heads for _, one in _attentions(model)), default=1.0)


def _cache_by_kind(model: Model | ConvolutionalModel, precision: Precision) -> dict[str, float]:
    """KV bytes a token if the model had each kind of attention with its own number and size of heads."""
    found: dict[str, float] = {}
    element = precision.kv.bytes_per_value
    for count, one in _attentions(model):
        kinds: dict[str, float] = {"MHA": one.heads, "MQA": 1.0}
        if 1 < one.kv_heads < one.heads:
            kinds[f"GQA-{one.kv_heads:g}"] = one.kv_heads
        for kind, heads in kinds.items():
            size = (one.head_size + one.values) / 2
            stored = attention.cache_bytes_per_token(layers=count, kv_heads=heads, head_size=size, element=element)
            found[kind] = found.get(kind, 0.0) + stored
        if one.latent is not None:
            for name, rotary in (("MLA", one.latent.rotary_size), ("MLA without rotary", 0)):
                stored = attention.latent_cache_bytes_per_token(
                    layers=count, rank=one.latent.rank, rotary_size=rotary, element=element
                )
                found[name] = found.get(name, 0.0) + stored
    return found


def _tokens_in_memory(chip: Chip, model: Model | ConvolutionalModel, precision: Precision) -> dict[str, float]:
    """Tokens of one sequence whose cache fills each memory, windows full where they are."""
    if not isinstance(model, Model) or not cache_bytes_per_token(model, precision):
        return {}
    whole = [chip.whole(level) for level in chip.memory]
    found = {level.name: tokens_that_fit(model, precision, level.capacity) for level in whole if level.capacity is not None}
    return {name: _floor(tokens) for name, tokens in found.items()}


def _tokens_beside_weights(chip: Chip, model: Model | ConvolutionalModel, precision: Precision) -> float | None:
    if not isinstance(model, Model) or not cache_bytes_per_token(model, precision):
        return None
    return _floor(tokens_that_fit(model, precision, max(0.0, chip.main_memory.capacity - weight_bytes(model, precision))))


def _floor(tokens: float) -> float:
    return float(math.floor(tokens)) if math.isfinite(tokens) else tokens


def _ops_per_comm_byte(chip: Chip, rate: float) -> dict[str, float]:
    """By link: per direction, and both directions of the links together, as the post counts."""
    found: dict[str, float] = {}
    for link in chip.link:
        one_way = collective.ops_per_communicated_byte(rate=rate, bandwidth=link.bandwidth)
        found |= {f"{link.name}, one direction": one_way, f"{link.name}, both directions": one_way / 2}
    return found


def _tensor_parallel_limit(chip: Chip, model: Model | ConvolutionalModel, rate: float) -> dict[str, float]:
    """By link and way of counting: chips at which communication of a feed-forward block takes as long as its arithmetic."""
    layers = (model.decoder or model.encoder) if isinstance(model, Model) else ()
    widths = [layer.feed_forward.width for layer in layers if layer.feed_forward is not None]
    widths += [
        layer.experts.width * layer.experts.active + layer.experts.shared_width for layer in layers if layer.experts is not None
    ]
    found: dict[str, float] = {}
    for link in chip.link if widths else ():
        one_way = collective.ops_per_communicated_byte(rate=rate, bandwidth=link.bandwidth)
        limit = collective.tensor_parallel_limit(width=max(widths), ops_per_byte=one_way)
        found |= {
            f"{link.name}, ring, one direction": limit,
            f"{link.name}, in-network reduction": 2 * limit,
            f"{link.name}, both directions counted": 2 * limit,
        }
    return found
