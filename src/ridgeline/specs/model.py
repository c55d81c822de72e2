"""Models as dimensions: transformer families, and convolutional networks for comparison.

A transformer is one or two stacks (encoder, decoder) of layer groups; layers of a group are alike, so Python walks a handful of
groups whatever the depth. Counts may be arrays of models; what selects a formula (gated, latent, window or none) is structure.
"""

from dataclasses import dataclass, field
from typing import Literal

from ridgeline.quantities import Count, Fraction
from ridgeline.specs.base import Sources, Spec

Norm = Literal["layer", "rms"]
Activation = Literal["relu", "relu-squared", "gelu", "gelu-tanh", "silu", "tanh", "sigmoid"]
ModelKind = Literal["decoder", "encoder", "encoder-decoder", "vision"]


@dataclass(frozen=True, kw_only=True, eq=False)
class LatentAttention(Spec):
    """Multi-head latent attention: keys and values are expanded from a latent vector that the cache holds [deepseek2024v2]."""

    rank: Count  # of the key-value latent
    query_rank: Count | None = None  # None: queries are projected directly
    rotary_size: Count  # of the one rotary key shared by all heads


@dataclass(frozen=True, kw_only=True, eq=False)
class LinearAttention(Spec):
    """Gated delta-rule attention: a state of key × value size a value head instead of a growing cache [yang2024deltanet]."""

    key_heads: Count
    value_heads: Count
    key_size: Count
    value_size: Count
    convolution: Count  # taps of the short causal convolution over queries, keys and values


@dataclass(frozen=True, kw_only=True, eq=False)
class Indexer(Spec):
    """A light scorer that picks the tokens which attention then reads [deepseek2025v32]."""

    heads: Count
    head_size: Count
    selected: Count  # tokens kept for each query


@dataclass(frozen=True, kw_only=True, eq=False)
class Attention(Spec):
    """Softmax attention; multi-head, grouped-query or multi-query by its number of KV heads."""

    heads: Count
    kv_heads: Count
    head_size: Count  # of queries and keys (latent attention: without the rotary part)
    value_size: Count | None = None  # of values; None: head_size
    rotary_size: Count = 0  # dimensions of each head that are rotated; 0: no rotary embedding
    window: Count | None = None  # tokens that a query sees, itself included; None: all before it
    window_kind: Literal["sliding", "chunked"] = "sliding"
    query_bias: bool = False  # on the query projection
    key_bias: bool = False
    value_bias: bool = False
    output_bias: bool = False
    query_key_norm: bool = False  # a norm over each query and key head
    query_key_norm_whole: bool = False  # … over the whole projection instead of each head
    query_key_norm_learned: bool = True  # whether that norm has weights
    output_gate: bool = False  # a sigmoid gate of the attention output, projected with the query
    sinks: bool = False  # one learned logit a head
    relative_buckets: Count = 0  # learned relative positions added to the scores (T5), one table a stack
    latent: LatentAttention | None = None
    indexer: Indexer | None = None

    @property
    def values(self) -> Count:
        """Size of a value head."""
        return self.head_size if self.value_size is None else self.value_size


@dataclass(frozen=True, kw_only=True, eq=False)
class FeedForward(Spec):
    """Two products, or three where gated."""

    width: Count
    gated: bool = False
    activation: Activation = "gelu"
    bias: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Experts(Spec):
    """A mixture of experts: every token visits `active` of `count` experts, and the shared one if there is any."""

    count: Count
    active: Count
    width: Count  # of one expert
    gated: bool = True
    activation: Activation = "silu"
    bias: bool = False
    router_bias: bool = False
    shared_width: Count = 0  # of all shared experts together
    shared_gate: bool = False  # a learned sigmoid gate on the shared expert


@dataclass(frozen=True, kw_only=True, eq=False)
class Layer(Spec):
    """A group of `count` layers that are alike; any part may be absent."""

    name: str = ""
    count: Count
    attention: Attention | None = None
    linear_attention: LinearAttention | None = None
    cross_attention: Attention | None = None
    feed_forward: FeedForward | None = None
    experts: Experts | None = None
    norms: int = 2  # norms over the hidden vector in each layer


@dataclass(frozen=True, kw_only=True, eq=False)
class Patches(Spec):
    """How an image becomes tokens."""

    image_size: Count
    patch_size: Count
    channels: Count = 3
    bias: bool = True

    @property
    def tokens(self) -> Count:
        """Patches of one image."""
        return (self.image_size // self.patch_size) ** 2


@dataclass(frozen=True, kw_only=True, eq=False)
class AudioFrontEnd(Spec):
    """Two convolutions of width 3 over a spectrogram; the second has stride 2 (Whisper)."""

    mel_bins: Count
    frames: Count  # of the spectrogram, before the stride


@dataclass(frozen=True, kw_only=True, eq=False)
class Published(Spec):
    """What the model's publisher states of its size."""

    parameters: Count | None = None
    active_parameters: Count | None = None
    counts_embedding: bool = True  # whether the stated number includes the embedding tables


@dataclass(frozen=True, kw_only=True, eq=False)
class Model(Spec):
    """A transformer, or a batch of transformers."""

    name: str
    title: str = ""
    publisher: str = ""
    family: str = ""  # Hugging Face's model_type
    kind: ModelKind = "decoder"
    year: int | None = None
    hidden: Count
    vocabulary: Count = 0
    embedding_size: Count | None = None  # of the token table where it differs from hidden (projected in and out)
    positions: Count = 0  # rows of a learned position table; a second one of the same size in an encoder-decoder
    encoder_positions: Count | None = None  # rows of that second table where its size differs; None: as positions
    token_types: Count = 0
    maximum_context: Count | None = None
    norm: Norm = "rms"
    norm_bias: bool = False  # layer norms with gamma and beta
    embedding_norm: bool = False
    final_norm: bool = True  # of each stack
    parallel_block: bool = False  # attention and feed-forward read the same norm and add to one residual (GPT-J)
    tied: bool = False  # the output head is the token table
    head: Literal["language", "masked-language", "classifier", "none"] = "language"
    head_bias: bool = False
    labels: Count = 0  # of a classifier
    pooler: bool = False  # a hidden × hidden product over the first token
    class_token: bool = False  # one more token before an image's patches
    patches: Patches | None = None
    audio: AudioFrontEnd | None = None
    encoder: tuple[Layer, ...] = ()
    decoder: tuple[Layer, ...] = ()
    prediction_layers: Count = 0  # multi-token-prediction layers shipped with the model, not part of its stated size
    dropout: Fraction = 0.0  # probability in training, as published; 0: none, and no masks to keep
    precision: str = "bf16"  # in which its weights are published
    published: Published = field(default_factory=Published)
    sources: Sources = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class Convolution(Spec):
    """A group of `count` convolutions that are alike, on square images; a fully connected layer is one of output size 1."""

    name: str
    count: Count = 1
    kernel: Count
    stride: Count = 1
    padding: Count = 0
    inputs: Count  # channels in
    outputs: Count  # channels out
    input_size: Count  # edge of the input
    output_size: Count  # edge of the output
    groups: Count = 1
    input_zeros: Fraction = 0.0  # share of the input's values that are zero, as measured
    output_zeros: Fraction = 0.0  # of the output's, once activated
    bias: bool = False
    input_norm: bool = False  # a batch norm and a ReLU come first, over the input (DenseNet)
    batch_norm: bool = False
    activation: bool = False  # a ReLU follows
    residual: bool = False  # a residual addition follows, before the ReLU
    pool_size: Count = 0  # edge of a max- or average-pooling window that follows; 0: none
    pooled_size: Count = 0  # edge of the image after that pooling
    shortcut: bool = False  # a projection on the residual path


@dataclass(frozen=True, kw_only=True, eq=False)
class ConvolutionalModel(Spec):
    """A convolutional network as a list of convolutions with what follows each."""

    name: str
    title: str = ""
    publisher: str = ""
    family: str = ""
    kind: Literal["convolutional"] = "convolutional"
    year: int | None = None
    layers: tuple[Convolution, ...]
    precision: str = "bf16"
    published: Published = field(default_factory=Published)
    sources: Sources = field(default_factory=dict)
