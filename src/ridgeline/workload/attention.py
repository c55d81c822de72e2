"""Attention as operations: multi-head, grouped-query and multi-query, cross-attention, latent, sparse and linear."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ridgeline.arrays import is_zero
from ridgeline.errors import InputError
from ridgeline.quantities import Count
from ridgeline.results import Operation, Product, Role, Tensor
from ridgeline.specs.model import Attention, LinearAttention
from ridgeline.specs.number_format import FORMATS
from ridgeline.specs.scenario import LatentForm
from ridgeline.workload.pieces import Frame, activation, cache_write, linear, vector, weight

# ---- softmax attention -----------------------------------------------------------------------------------------------


def attention_core(
    frame: Frame,
    attention: Attention,
    *,
    pairs: Count,
    keys: Count,
    shared_latent: bool = False,
    prefix: str = "",
) -> list[Operation]:
    """Return scores, softmax and values; every KV head is read once, whatever the number of query heads that share it.

    `pairs` are those of one sequence; `keys` the tokens of all sequences whose keys are read. With `shared_latent` keys and
    values are the same tensor, read once.
    """
    heads, kv_heads, key_size, value_size = attention.heads, attention.kv_heads, attention.head_size, attention.values
    new, sequences = frame.tokens.new, frame.tokens.sequences
    span = keys / sequences
    share = pairs / (new * span)
    rows = sequences * new * heads
    score_count = sequences * heads * pairs
    formats = (frame.precision.kv, frame.precision.activations)
    scores = Tensor(name=prefix + "scores", role="scores", elements=score_count, format=frame.wide)
    weights = replace(scores, name=prefix + "probabilities", format=frame.precision.activations)
    queries = activation(frame, prefix + "queries", rows * key_size, wide=False)
    key_tensor = Tensor(name=prefix + "keys", role="kv", elements=keys * kv_heads * key_size, format=frame.precision.kv)
    value_name = prefix + ("keys" if shared_latent else "values")
    value_tensor = Tensor(name=value_name, role="kv", elements=keys * kv_heads * value_size, format=frame.precision.kv)
    output = activation(frame, prefix + "attended", rows * value_size)
    batch = sequences * heads
    functions: dict[str, Count] = {"softmax": score_count}
    if not is_zero(attention.relative_buckets):
        functions["bias"] = score_count
    return [
        Operation(
            name=prefix + "scores",
            kind="attention",
            group="attention",
            products=(Product(batch=batch, m=new, n=span, k=key_size, share=share, shared=heads / kv_heads, formats=formats),),
            reads=(queries, key_tensor),
            writes=(scores,),
        ),
        Operation(
            name=prefix + "softmax",
            kind="vector",
            group="other",
            functions=functions,
            reads=(scores,),
            writes=(weights,),
            fusable=True,
        ),
        Operation(
            name=prefix + "values",
            kind="attention",
            group="attention",
            products=(Product(batch=batch, m=new, n=value_size, k=span, share=share, shared=heads / kv_heads, formats=formats),),
            reads=(weights, value_tensor),
            writes=(output,),
        ),
    ]


def _head_norms(frame: Frame, attention: Attention) -> list[Operation]:
    if not (attention.query_key_norm or attention.query_key_norm_whole):
        return []
    count = frame.tokens.count
    parts = (("query", "queries", attention.heads), ("key", "keys-new", attention.kv_heads))
    return [
        vector(
            frame,
            f"{name} norm",
            "rms-norm",
            count * heads * attention.head_size,
            sources=(tensor,),
            target=tensor,
            weights=attention.head_size if attention.query_key_norm_learned else None,
        )
        for name, tensor, heads in parts
    ]


def _rotary(frame: Frame, heads: Count, size: Count, tensor: str) -> list[Operation]:
    if is_zero(size):
        return []
    return [vector(frame, f"rotary {tensor}", "rotary", frame.tokens.count * heads * size, sources=(tensor,), target=tensor)]


def softmax_attention(frame: Frame, attention: Attention) -> list[Operation]:
    """Multi-head, grouped-query or multi-query self-attention with its projections and the cache append."""
    if attention.latent is not None:
        return latent_attention(frame, attention)
    hidden, heads, kv_heads = frame.model.hidden, attention.heads, attention.kv_heads
    queries, keys, values = heads * attention.head_size, kv_heads * attention.head_size, kv_heads * attention.values
    read: dict[str, Any] = {"inputs": hidden, "source": "normed"}
    found = [
        linear(
            frame,
            "query",
            outputs=queries * (2 if attention.output_gate else 1),
            target="queries",
            bias=attention.query_bias,
            **read,
        ),
        linear(frame, "key", outputs=keys, target="keys-new", bias=attention.key_bias, **read),
        linear(frame, "value", outputs=values, target="values-new", bias=attention.value_bias, **read),
        *_head_norms(frame, attention),
        *_rotary(frame, heads, attention.rotary_size, "queries"),
        *_rotary(frame, kv_heads, attention.rotary_size, "keys-new"),
    ]
    caches = bool(frame.model.decoder) and frame.tokens.causal
    if caches:
        found.append(cache_write(frame, "cache append", ("keys-new", "values-new"), frame.tokens.count * (keys + values)))
    found += attention_core(
        frame,
        attention,
        pairs=frame.tokens.pairs(attention),
        keys=frame.tokens.spans(attention),
    )
    outputs = heads * attention.values
    if attention.output_gate:
        elements = frame.tokens.count * outputs
        found.append(vector(frame, "output gate", "sigmoid", elements, sources=("attended", "queries"), target="attended"))
    found.append(
        linear(
            frame,
            "output",
            inputs=outputs,
            outputs=hidden,
            source="attended",
            target="projected",
            bias=attention.output_bias,
        )
    )
    return found


def cross_attention(frame: Frame, attention: Attention) -> list[Operation]:
    """Attention to the encoder's tokens; their keys and values are computed once, in the prefill."""
    hidden, heads, kv_heads = frame.model.hidden, attention.heads, attention.kv_heads
    width, tokens = heads * attention.head_size, frame.tokens
    source_count = tokens.sequences * frame.source
    found = [
        linear(
            frame,
            "cross query",
            inputs=hidden,
            outputs=width,
            source="normed",
            target="cross queries",
            bias=attention.query_bias,
        )
    ]
    if frame.writes_source:
        read: dict[str, Any] = {"inputs": hidden, "source": "encoded", "tokens": source_count}
        keys, values = kv_heads * attention.head_size, kv_heads * attention.values
        found += [
            linear(frame, "cross key", outputs=keys, target="cross keys-new", bias=attention.key_bias, **read),
            linear(frame, "cross value", outputs=values, target="cross values-new", bias=attention.value_bias, **read),
            cache_write(frame, "cross cache", ("cross keys-new", "cross values-new"), source_count * (keys + values)),
        ]
    found += attention_core(
        frame,
        attention,
        pairs=tokens.new * frame.source,
        keys=source_count,
        prefix="cross ",
    )
    width = heads * attention.values
    found.append(
        linear(
            frame,
            "cross output",
            inputs=width,
            outputs=hidden,
            source="cross attended",
            target="projected",
            bias=attention.output_bias,
        )
    )
    return found


# ---- latent attention ------------------------------------------------------------------------------------------------


def latent_attention(frame: Frame, attention: Attention) -> list[Operation]:
    """Multi-head latent attention [deepseek2024v2, §2.1], in one of three forms.

    - absorbed: the key expansion is folded into the query and the value expansion into the output, so that attention reads the
      latent itself, one KV head of rank + rotary;
    - expanded: keys and values of every token in the cache are expanded from the latent, then attention as usual;
    - cached-expanded: the cache holds expanded keys and values (as a straightforward implementation does).
    """
    found = _latent_projections(frame, attention)
    core: dict[LatentForm, Callable[[Frame, Attention], list[Operation]]] = {
        "absorbed": _absorbed,
        "expanded": _expanded,
        "cached-expanded": _expanded,
    }
    found += core[frame.latent](frame, attention)
    outputs = attention.heads * attention.values
    found.append(
        linear(
            frame,
            "output",
            inputs=outputs,
            outputs=frame.model.hidden,
            source="attended",
            target="projected",
            bias=attention.output_bias,
        )
    )
    return found


def latent_cache_width(attention: Attention, form: LatentForm) -> Count:
    """Values that the cache holds of each token and layer."""
    latent = attention.latent
    if latent is None:
        return attention.kv_heads * (attention.head_size + attention.values)
    if form == "cached-expanded":
        return attention.heads * (attention.head_size + latent.rotary_size + attention.values)
    return latent.rank + latent.rotary_size


def _latent_projections(frame: Frame, attention: Attention) -> list[Operation]:
    latent, hidden, count = attention.latent, frame.model.hidden, frame.tokens.count
    if latent is None:
        raise InputError(f"{frame.model.name}: latent attention needs its ranks")
    width = attention.heads * (attention.head_size + latent.rotary_size)
    found: list[Operation] = []
    if latent.query_rank is None:
        found.append(linear(frame, "query", inputs=hidden, outputs=width, source="normed", target="queries"))
    else:
        rank = latent.query_rank
        found += [
            linear(frame, "query down", inputs=hidden, outputs=rank, source="normed", target="query latent"),
            linear(
                frame,
                "key-value down",
                inputs=hidden,
                outputs=latent.rank + latent.rotary_size,
                source="normed",
                target="latent-new",
            ),
            vector(
                frame,
                "query latent norm",
                "rms-norm",
                count * rank,
                sources=("query latent",),
                target="query latent",
                weights=rank,
            ),
            linear(frame, "query up", inputs=rank, outputs=width, source="query latent", target="queries"),
        ]
    if latent.query_rank is None:
        wide = latent.rank + latent.rotary_size
        found.append(linear(frame, "key-value down", inputs=hidden, outputs=wide, source="normed", target="latent-new"))
    found += [
        vector(
            frame,
            "latent norm",
            "rms-norm",
            count * latent.rank,
            sources=("latent-new",),
            target="latent-new",
            weights=latent.rank,
        ),
        *_rotary(frame, attention.heads, latent.rotary_size, "queries"),
        *_rotary(frame, 1.0, latent.rotary_size, "latent-new"),
    ]
    if frame.latent != "cached-expanded":
        found.append(cache_write(frame, "cache append", ("latent-new",), count * latent_cache_width(attention, frame.latent)))
    if attention.indexer is not None:
        found += _index(frame, attention)
    return found


def _index(frame: Frame, attention: Attention) -> list[Operation]:
    """The scorer of sparse attention: every query scores all tokens before it with a few light heads [deepseek2025v32]."""
    indexer, latent, hidden, tokens = attention.indexer, attention.latent, frame.model.hidden, frame.tokens
    if indexer is None or latent is None:
        return []
    heads, size = indexer.heads, indexer.head_size
    whole = replace(attention, window=None)
    pairs, keys = tokens.pairs(whole), tokens.spans(whole)
    rank = hidden if latent.query_rank is None else latent.query_rank
    source = "normed" if latent.query_rank is None else "query latent"
    scored = tokens.sequences * pairs
    key = Tensor(name="index keys", role="kv", elements=keys * size, format=FORMATS["fp8-e4m3"])
    formats = (FORMATS["fp8-e4m3"], frame.precision.activations)
    product = Product(
        batch=tokens.sequences * heads,
        m=tokens.new,
        n=keys / tokens.sequences,
        k=size,
        share=pairs * tokens.sequences / (tokens.new * keys),
        formats=formats,
    )
    return [
        linear(frame, "index query", inputs=rank, outputs=heads * size, source=source, target="index queries"),
        linear(frame, "index key", inputs=hidden, outputs=size, source="normed", target="index key-new"),
        linear(frame, "index weight", inputs=hidden, outputs=heads, source="normed", target="index weights"),
        cache_write(frame, "index append", ("index key-new",), tokens.count * size),
        Operation(
            name="index scores",
            kind="attention",
            group="attention",
            products=(product,),
            functions={"relu": scored * heads, "multiply": scored * heads, "top-k": scored},
            reads=(activation(frame, "index queries", tokens.count * heads * size, wide=False), key),
            writes=(activation(frame, "selected", tokens.count * indexer.selected),),
        ),
    ]


def _selected(attention: Attention) -> Attention:
    """Return the attention as it reads keys: with an indexer each query reads at most the selected tokens."""
    return attention if attention.indexer is None else replace(attention, window=attention.indexer.selected)


def _per_head(
    frame: Frame,
    name: str,
    attention: Attention,
    *,
    rows: Count,
    inputs: Count,
    outputs: Count,
    source: str,
    target: str,
) -> Operation:
    """Return a product with a weight matrix of its own for each head."""
    heads, form = attention.heads, frame.precision.weights
    return Operation(
        name=name,
        kind="matmul",
        group="projections",
        products=(Product(batch=heads, m=rows, n=outputs, k=inputs, formats=(form, frame.precision.activations)),),
        reads=(
            activation(frame, source, rows * heads * inputs, wide=False),
            weight(heads * inputs * outputs, form, name),
        ),
        writes=(activation(frame, target, rows * heads * outputs),),
    )


def _absorbed(frame: Frame, attention: Attention) -> list[Operation]:
    latent, tokens = attention.latent, frame.tokens
    if latent is None:
        return []
    reading = _selected(attention)
    key_size = latent.rank + latent.rotary_size
    return [
        _per_head(
            frame,
            "absorb key",
            attention,
            rows=tokens.count,
            inputs=attention.head_size,
            outputs=latent.rank,
            source="queries",
            target="queries",
        ),
        *attention_core(
            frame,
            replace(attention, kv_heads=1.0, head_size=key_size, value_size=latent.rank),
            pairs=tokens.pairs(reading),
            keys=tokens.spans(reading),
            shared_latent=True,
        ),
        _per_head(
            frame,
            "absorb value",
            attention,
            rows=tokens.count,
            inputs=latent.rank,
            outputs=attention.values,
            source="attended",
            target="attended",
        ),
    ]


def _expanded(frame: Frame, attention: Attention) -> list[Operation]:
    latent, tokens, heads = attention.latent, frame.tokens, attention.heads
    if latent is None:
        return []
    width = heads * (attention.head_size + attention.values)
    cached = frame.latent == "cached-expanded"
    rows = tokens.count if cached else tokens.spans(attention)
    key_size = attention.head_size + latent.rotary_size
    expand = linear(frame, "key-value up", inputs=latent.rank, outputs=width, source="latent", target="expanded", tokens=rows)
    if cached:
        elements = tokens.count * latent_cache_width(attention, "cached-expanded")
        return [
            expand,
            cache_write(frame, "cache append", ("expanded",), elements),
            *_expanded_core(frame, attention, key_size),
        ]
    stored = Tensor(name="latent", role="kv", elements=rows * (latent.rank + latent.rotary_size), format=frame.precision.kv)
    expand = replace(expand, reads=(stored, *expand.reads[1:]))
    core = _expanded_core(frame, attention, key_size)
    return [expand, *(_as_activations(one) for one in core)]


def _expanded_core(frame: Frame, attention: Attention, key_size: Count) -> list[Operation]:
    reading = _selected(attention)
    return attention_core(
        frame,
        replace(attention, kv_heads=attention.heads, head_size=key_size, value_size=attention.values),
        pairs=frame.tokens.pairs(reading),
        keys=frame.tokens.spans(reading),
    )


def _as_activations(operation: Operation) -> Operation:
    """Keys and values that were just expanded are activations, not cache."""
    role: Role = "activation"
    reads = tuple(replace(one, role=role) if one.role == "kv" else one for one in operation.reads)
    return replace(operation, reads=reads)


# ---- linear attention ------------------------------------------------------------------------------------------------


def linear_attention(frame: Frame, attention: LinearAttention) -> list[Operation]:
    """Gated delta-rule attention, token by token [yang2024deltanet]: the state is read and written once a sequence and step.

    A token and value head decays the state S (key × value), reads Sᵀk, adds the correction k·(v − Sᵀk)ᵀ and reads Sᵀq: about
    7·key·value operations. Chunked kernels do more arithmetic and fewer passes.
    """
    hidden, tokens = frame.model.hidden, frame.tokens
    keys, values = attention.key_heads * attention.key_size, attention.value_heads * attention.value_size
    mixed = 2 * keys + values
    state_elements = attention.value_heads * attention.key_size * attention.value_size
    state = Tensor(name="state", role="state", elements=tokens.sequences * state_elements, format=FORMATS["fp32"])
    recur = Operation(
        name="delta rule",
        kind="vector",
        group="attention",
        functions={"gated-delta": 7.0 * tokens.count * state_elements},
        reads=(activation(frame, "mixed", tokens.count * mixed), state),
        writes=(activation(frame, "attended", tokens.count * values), state),
    )
    convolve = vector(
        frame,
        "short convolution",
        "silu",
        tokens.count * mixed,
        sources=("mixed",),
        target="mixed",
        weights=mixed * attention.convolution,
    )
    taps = {**convolve.functions, "multiply": 2.0 * attention.convolution * tokens.count * mixed}
    return [
        linear(frame, "query-key-value-gate", inputs=hidden, outputs=mixed + values, source="normed", target="mixed"),
        linear(frame, "decay and rate", inputs=hidden, outputs=2 * attention.value_heads, source="normed", target="rates"),
        replace(convolve, functions=taps),
        recur,
        vector(
            frame,
            "gated norm",
            "rms-norm",
            tokens.count * values,
            sources=("attended",),
            target="attended",
            weights=attention.value_size,
        ),
        linear(frame, "output", inputs=values, outputs=hidden, source="attended", target="projected"),
    ]
