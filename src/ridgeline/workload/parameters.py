"""How many parameters a model has, part by part, and the bytes its weights take.

Formulas over the dimensions of the spec; they are arithmetic only, so a model whose dimensions are arrays gives arrays.
What is absent (a part that is None, a bias that is off) is structure, and decides which terms there are.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from ridgeline.arrays import maximum
from ridgeline.quantities import Bytes, Count
from ridgeline.specs.model import (
    Attention,
    ConvolutionalModel,
    Experts,
    FeedForward,
    Layer,
    LinearAttention,
    Model,
)
from ridgeline.specs.number_format import FORMATS
from ridgeline.specs.precision import Precision


@dataclass(frozen=True, kw_only=True, eq=False)
class Weights:
    """Parameters of one part: of its matrices, and of its biases, norms and other small tensors."""

    matrices: Count = 0
    vectors: Count = 0

    @property
    def total(self) -> Count:
        """All of them."""
        return self.matrices + self.vectors

    def __add__(self, other: "Weights") -> "Weights":
        """Return the parameters of two parts together."""
        return Weights(matrices=self.matrices + other.matrices, vectors=self.vectors + other.vectors)

    def __mul__(self, number: Count) -> "Weights":
        """Return the parameters of a number of such parts."""
        return Weights(matrices=self.matrices * number, vectors=self.vectors * number)


@dataclass(frozen=True, kw_only=True, eq=False)
class ParameterCount:
    """Parameters of a model, each tensor once; without prediction layers and multimodal models' vision towers."""

    total: Count
    active: Count  # that one token's forward pass uses: all but the routed experts it does not visit, tables included
    embedding: Count  # token table, positions, token types
    layers: Count  # of all layers, their norms included
    head: Count  # output head; with tied embeddings its bias at most
    breakdown: Mapping[str, Count]  # part → parameters; they add up to the total


def _norm(model: Model) -> Weights:
    """Return one norm over the hidden vector: a gain, and a shift where norms have one."""
    return Weights(vectors=model.hidden * (2 if model.norm_bias else 1))


def _attention(model: Model, attention: Attention) -> Weights:
    """Return softmax attention: four projections, their biases, norms, sinks and gate."""
    if attention.latent is not None:
        return _latent_attention(model, attention)
    queries, keys = attention.heads * attention.head_size, attention.kv_heads * attention.head_size
    values, outputs = attention.kv_heads * attention.values, attention.heads * attention.values
    gate = outputs if attention.output_gate else 0
    biases = (queries + gate) * attention.query_bias + keys * attention.key_bias
    biases = biases + values * attention.value_bias + model.hidden * attention.output_bias
    if attention.query_key_norm and attention.query_key_norm_learned:
        biases = biases + (queries + keys if attention.query_key_norm_whole else 2 * attention.head_size)
    if attention.sinks:
        biases = biases + attention.heads
    return Weights(matrices=model.hidden * (queries + gate + keys + values + outputs), vectors=biases)


def _latent_attention(model: Model, attention: Attention) -> Weights:
    """Return latent attention: down- and up-projections of queries and of keys with values, and the indexer."""
    latent = attention.latent
    if latent is None:
        return Weights()
    queries = attention.heads * (attention.head_size + latent.rotary_size)
    if latent.query_rank is None:
        projection = Weights(matrices=model.hidden * queries)
    else:
        projection = Weights(matrices=(model.hidden + queries) * latent.query_rank, vectors=latent.query_rank)
    down = model.hidden * (latent.rank + latent.rotary_size)
    up = latent.rank * attention.heads * (attention.head_size + attention.values)
    output = attention.heads * attention.values * model.hidden
    found = projection + Weights(matrices=down + up + output, vectors=latent.rank)
    indexer = attention.indexer
    if indexer is None:
        return found
    source = model.hidden if latent.query_rank is None else latent.query_rank
    scores = source * indexer.heads * indexer.head_size + model.hidden * (indexer.head_size + indexer.heads)
    return found + Weights(matrices=scores, vectors=2 * indexer.head_size)


def _linear_attention(model: Model, linear: LinearAttention) -> Weights:
    """Return gated delta-rule attention: q, k, v, gate, two scalars a value head; convolution, decay, norm."""
    keys, values = linear.key_heads * linear.key_size, linear.value_heads * linear.value_size
    matrices = model.hidden * (2 * keys + 2 * values + 2 * linear.value_heads) + values * model.hidden
    return Weights(matrices=matrices, vectors=(2 * keys + values) * linear.convolution + 2 * linear.value_heads + linear.value_size)


def _feed_forward(model: Model, part: FeedForward) -> Weights:
    """Return two products, or three where gated."""
    inward = 2 if part.gated else 1
    return Weights(
        matrices=(inward + 1) * model.hidden * part.width,
        vectors=(inward * part.width + model.hidden) * part.bias,
    )


def _expert(model: Model, experts: Experts) -> Weights:
    """Return one routed expert."""
    return _feed_forward(model, FeedForward(width=experts.width, gated=experts.gated, bias=experts.bias))


def _shared_expert(model: Model, experts: Experts) -> Weights:
    """Return the shared experts together, with their gate."""
    shared = _feed_forward(model, FeedForward(width=experts.shared_width, gated=experts.gated))
    return shared + Weights(vectors=model.hidden * experts.shared_gate)


def _router(model: Model, experts: Experts) -> Weights:
    """Return the router, all of it among the small tensors, because it stays at 16 bits."""
    return Weights(vectors=experts.count * (model.hidden + experts.router_bias))


def _of_layer(model: Model, layer: Layer) -> dict[str, Weights]:
    """Return one layer of a group, part by part."""
    found = {"norms": _norm(model) * layer.norms}
    if layer.attention is not None:
        found["attention"] = _attention(model, layer.attention)
    if layer.linear_attention is not None:
        found["linear_attention"] = _linear_attention(model, layer.linear_attention)
    if layer.cross_attention is not None:
        found["cross_attention"] = _attention(model, layer.cross_attention)
    if layer.feed_forward is not None:
        found["feed_forward"] = _feed_forward(model, layer.feed_forward)
    if layer.experts is not None:
        found["experts"] = _expert(model, layer.experts) * layer.experts.count
        found["shared_experts"] = _shared_expert(model, layer.experts)
        found["router"] = _router(model, layer.experts)
    return found


def _of_layers(model: Model) -> dict[str, Weights]:
    """Return all layers, part by part; a stack's table of relative positions counts as attention, once."""
    found: dict[str, Weights] = {}
    for stack in (model.encoder, model.decoder):
        for layer in stack:
            for part, weights in _of_layer(model, layer).items():
                found[part] = found.get(part, Weights()) + weights * layer.count
        if stack and stack[0].attention is not None:
            table = Weights(vectors=stack[0].attention.relative_buckets * stack[0].attention.heads)
            found["attention"] = found.get("attention", Weights()) + table
    return found


def _table(model: Model) -> Count:
    """Return the entries of the token table."""
    return model.vocabulary * (model.hidden if model.embedding_size is None else model.embedding_size)


def _embedding(model: Model) -> Weights:
    """Return the tables: tokens as a matrix; positions, token types and the class token among the small tensors."""
    rows = model.positions + model.token_types + (1 if model.class_token else 0)
    if model.encoder and model.decoder:
        rows = rows + (model.positions if model.encoder_positions is None else model.encoder_positions)
    return Weights(matrices=_table(model), vectors=rows * model.hidden)


def _front_end(model: Model) -> Weights:
    """Return what turns images or sound into tokens, and the projections of a narrow token table."""
    found = Weights()
    if model.embedding_size is not None:
        found = found + Weights(matrices=2 * model.hidden * model.embedding_size)
    if model.patches is not None:
        patches = model.patches
        pixels = patches.channels * patches.patch_size**2
        found = found + Weights(matrices=pixels * model.hidden, vectors=model.hidden * patches.bias)
    if model.audio is not None:
        taps = 3 * (model.audio.mel_bins + model.hidden)
        found = found + Weights(matrices=taps * model.hidden, vectors=2 * model.hidden)
    return found


def _head(model: Model) -> Weights:
    """Return pooler and head; of a tied head its bias remains, of a masked-language one its inner product and norm."""
    found = Weights()
    if model.pooler:
        found = found + Weights(matrices=model.hidden**2, vectors=model.hidden)
    if model.head == "classifier":
        return found + Weights(matrices=model.hidden * model.labels, vectors=model.labels * model.head_bias)
    if model.head == "none":
        return found
    if model.head == "masked-language":
        found = found + Weights(matrices=model.hidden**2, vectors=model.hidden) + _norm(model)
    return found + Weights(matrices=0 if model.tied else _table(model), vectors=model.vocabulary * model.head_bias)


def _outer_norms(model: Model) -> Weights:
    """Return the norms outside the layers: after the tables, and at the end of each stack."""
    stacks = bool(model.encoder) + bool(model.decoder)
    return _norm(model) * ((1 if model.embedding_norm else 0) + (stacks if model.final_norm else 0))


def _parts(model: Model) -> dict[str, Weights]:
    """Return all of a transformer, part by part."""
    found = _of_layers(model)
    found["norms"] = found.get("norms", Weights()) + _outer_norms(model)
    return {"embedding": _embedding(model), "front_end": _front_end(model), **found, "head": _head(model)}


def _idle(model: Model) -> Count:
    """Return the parameters of the routed experts that a token does not visit."""
    found: Count = 0
    for layer in (*model.encoder, *model.decoder):
        if layer.experts is not None:
            idle = layer.experts.count - layer.experts.active
            found = found + idle * _expert(model, layer.experts).total * layer.count
    return found


def _convolutions(model: ConvolutionalModel) -> dict[str, Weights]:
    """Return each group: kernel² · inputs / groups · outputs weights, a bias, the two vectors of each batch norm."""
    return {
        layer.name: Weights(
            matrices=layer.kernel**2 * (layer.inputs // layer.groups) * layer.outputs,
            vectors=layer.outputs * (layer.bias + 2 * layer.batch_norm) + 2 * layer.inputs * layer.input_norm,
        )
        * layer.count
        for layer in model.layers
    }


def parameters(model: Model | ConvolutionalModel) -> ParameterCount:
    """Return how many parameters a model has, and how many of them one token uses.

    A layer of width d with h heads, g KV heads of size s and a gated feed-forward part of width f has

        2·d·h·s + 2·d·g·s + 3·d·f + 2·d

    parameters (attention, feed-forward, two norms), a mixture of E experts 3·d·f·E + d·E instead of 3·d·f; the token
    table has vocabulary·d, the head as many again unless it is tied. Biases, norms and the rest are counted where the
    spec has them, so that the total equals the number of elements of the model's tensors. Buffers that are no
    parameters (a batch norm's running mean, DeepSeek's routing correction) are left out.

    >>> from ridgeline.specs.model import Attention, FeedForward, Layer, Model
    >>> attention, feed_forward = Attention(heads=4, kv_heads=2, head_size=16), FeedForward(width=128, gated=True)
    >>> layer = Layer(count=2, attention=attention, feed_forward=feed_forward)
    >>> count = parameters(Model(name="small", hidden=64, vocabulary=100, decoder=(layer,)))
    >>> count.layers  # 2 · (2·64·64 + 2·64·32 + 3·64·128 + 2·64)
    73984
    >>> count.total  # 73984 + 2·100·64 + 64
    86848
    """
    if isinstance(model, ConvolutionalModel):
        parts = {name: weights.total for name, weights in _convolutions(model).items()}
        total = sum(parts.values())
        return ParameterCount(total=total, active=total, embedding=0, layers=total, head=0, breakdown=parts)
    parts = {name: weights.total for name, weights in _parts(model).items()}
    total = sum(parts.values())
    layers = sum(weights.total for weights in _of_layers(model).values())
    return ParameterCount(
        total=total,
        active=total - _idle(model),
        embedding=parts["embedding"],
        layers=layers,
        head=parts["head"],
        breakdown=parts,
    )


def weight_bytes(model: Model | ConvolutionalModel, precision: Precision) -> Bytes:
    """Return the bytes that a model's weights occupy, block scales included.

        Σ parameters of a part · bytes a value in the part's format

    Routed experts, the token table and the output head have formats of their own where the precision names them; a
    table that is also the head has the head's. Norms, biases, routers, positions and other small tensors take 16 bits,
    or as many as an activation where that is more. Alignment and padding are neglected.

    >>> from ridgeline.specs.model import FeedForward, Layer, Model
    >>> layer = Layer(count=1, feed_forward=FeedForward(width=128), norms=1)
    >>> model = Model(name="small", hidden=64, vocabulary=100, tied=True, decoder=(layer,))
    >>> weight_bytes(model, Precision.parse("int8"))  # 2·64·128 + 100·64, and 2 bytes for each of 2 · 64
    23040.0
    """
    small = maximum(precision.activations.bytes_per_value, FORMATS["bf16"].bytes_per_value)
    plain = precision.weights.bytes_per_value
    if isinstance(model, ConvolutionalModel):
        return sum((one.matrices * plain + one.vectors * small for one in _convolutions(model).values()), 0.0)
    table = precision.head if model.tied else precision.embedding
    formats = {"experts": precision.experts.bytes_per_value, "embedding": table.bytes_per_value}
    if model.head == "language":
        formats["head"] = precision.head.bytes_per_value
    found: Bytes = 0.0
    for part, weights in _parts(model).items():
        found = found + weights.matrices * formats.get(part, plain) + weights.vectors * small
    return found


def prediction_parameters(model: Model) -> Count:
    """Return the parameters of multi-token-prediction layers, shipped with a model but not counted in its size.

        prediction layers · (layer + 2·d² + 3·d)

    Each is one layer like the model's last group, a product that joins the embedding of the next token to the hidden
    vector, a norm for each of those two and one at the end; token table and head are the main model's
    [deepseek2024v3, section 2.2].

    >>> from ridgeline.specs.model import FeedForward, Layer, Model
    >>> layer = Layer(count=9, feed_forward=FeedForward(width=128), norms=1)
    >>> model = Model(name="small", hidden=64, decoder=(layer,), prediction_layers=1)
    >>> prediction_parameters(model)  # (2·64·128 + 64) + 2·64² + 3·64
    24832
    """
    if not model.decoder:
        return 0
    layer = sum(weights.total for weights in _of_layer(model, model.decoder[-1]).values())
    return model.prediction_layers * (layer + 2 * model.hidden**2 + 3 * model.hidden)
