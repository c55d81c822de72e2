"""Hugging Face's `config.json` → `Model`: one small reader a family, with the defaults of the family's own code.

Files omit what equals the default, so each reader states the defaults of transformers for its family; sizes that no
family leaves out are required. Everything wrong with a file is collected and raised at once.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from ridgeline.errors import InputError, nearest
from ridgeline.specs.model import (
    Activation,
    Attention,
    AudioFrontEnd,
    Convolution,
    ConvolutionalModel,
    Experts,
    FeedForward,
    Indexer,
    LatentAttention,
    Layer,
    LinearAttention,
    Model,
    Patches,
)

_ACTIVATIONS: dict[str, Activation] = {
    "relu": "relu",
    "relu2": "relu-squared",
    "gelu": "gelu",
    "tanh": "tanh",
    "sigmoid": "sigmoid",
    "gelu_new": "gelu-tanh",
    "gelu_fast": "gelu-tanh",
    "gelu_pytorch_tanh": "gelu-tanh",
    "silu": "silu",
    "swish": "silu",
    "swiglu": "silu",
}
_TYPES = {"bfloat16": "bf16", "float16": "fp16", "float32": "bf16"}  # fp32 files are served at 16 bits
_MOST_LAYERS = 10_000


class _Config:
    """The values of one file; what is wrong with them is collected, and a stand-in returned so that reading goes on."""

    def __init__(self, values: Mapping[str, Any], label: str, name: str) -> None:
        self.values = values
        self.label = label
        self.name = name
        self.problems: list[str] = []
        self.wrong: set[str] = set()

    def complain(self, key: str, what: str) -> None:
        """Note one problem with a key."""
        self.wrong.add(key)
        self.problems.append(f"{self.label}: `{key}` {what}")

    def find(self, keys: Sequence[str]) -> tuple[str, Any]:
        """Return the first of some keys that is there and not null, with its value; else the first and None."""
        for key in keys:
            if self.values.get(key) is not None:
                return key, self.values[key]
        return keys[0], None

    def size(self, *keys: str, default: int | None = None, least: int = 1) -> int:
        """Return a whole number of at least `least`; without a default the key is required."""
        key, value = self.find(keys)
        if value is None and default is not None:
            return default
        if value is None:
            self.complain(key, f"is missing: a whole number of at least {least} is wanted")
        elif type(value) is not int or value < least:
            self.complain(key, f"is {value!r}: a whole number of at least {least} is wanted")
        else:
            return value
        return max(least, 1)

    def count(self, *keys: str, default: int = 0) -> int:
        """Return a whole number that may be zero."""
        return self.size(*keys, default=default, least=0)

    def optional(self, key: str, default: int | None = None) -> int | None:
        """Return a size, None where it is null, and the default where it is absent."""
        if key not in self.values:
            return default
        return None if self.values[key] is None else self.size(key)

    def layers(self, *keys: str, default: int | None = None) -> int:
        """Return a number of layers."""
        number = self.size(*keys, default=default)
        if number > _MOST_LAYERS:
            self.complain(self.find(keys)[0], f"is {number}: at most {_MOST_LAYERS} layers are wanted")
            return 1
        return number

    def flag(self, key: str, default: bool) -> bool:
        """Return true or false."""
        value = self.values.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.complain(key, f"is {value!r}: true or false is wanted")
            return default
        return value

    def fraction(self, key: str, default: float) -> float:
        """Return a number above 0 and up to 1, also looked for under `rope_parameters`."""
        inner = self.values.get("rope_parameters")
        value = self.values.get(key)
        if value is None and isinstance(inner, Mapping):
            value = cast(Mapping[str, Any], inner).get(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
            self.complain(key, f"is {value!r}: a number above 0 and up to 1 is wanted")
            return default
        return float(value)

    def activation(self, *keys: str, default: str) -> Activation:
        """Return the activation of the feed-forward part."""
        key, value = self.find(keys)
        value = default if value is None else str(value)
        if value not in _ACTIVATIONS:
            self.complain(key, f"is {value!r}: {nearest(value, _ACTIVATIONS)}")
            value = default
        return _ACTIVATIONS[value]

    def kinds(self, key: str, layers: int, known: Mapping[str, str], default: Sequence[str]) -> list[str]:
        """Return a kind for each layer from a list of one name a layer; where the list is absent, the default."""
        value = self.values.get(key)
        if value is None:
            return list(default)
        names = [str(one) for one in cast("list[Any]", value)] if isinstance(value, list) else []
        unknown = sorted({one for one in names if one not in known})
        if len(names) != layers or unknown:
            found = f"has {', '.join(unknown)}" if unknown else f"has {len(names)} entries for {layers} layers"
            self.complain(key, f"{found}: a list of one of {', '.join(known)} for each layer is wanted")
            return list(default)
        return [known[one] for one in names]

    def numbers(self, key: str, length: int | None = None) -> list[int] | None:
        """Return a list of whole numbers, or None where it is absent or wrong."""
        value = self.values.get(key)
        if value is None:
            return None
        numbers = cast("list[Any]", value if isinstance(value, list) else [None])
        if any(type(one) is not int or one < 0 for one in numbers) or len(numbers) != (length or len(numbers)):
            many = f"{length} whole numbers are" if length else "a list of whole numbers is"
            self.complain(key, f"is {value!r}: {many} wanted")
            return None
        return numbers

    def architecture(self) -> str:
        """Return the first class that the file names, or nothing."""
        value = self.values.get("architectures")
        return str(cast("list[Any]", value)[0]) if isinstance(value, list) and value else ""

    def divides(self, whole: str, whole_value: int, part: str, part_value: int) -> int:
        """Return the quotient of two sizes; complain where there is a remainder."""
        if not {whole, part} & self.wrong and whole_value % part_value:
            self.complain(whole, f"is {whole_value}, which `{part}` = {part_value} does not divide: change one of the two")
        return max(whole_value // part_value, 1)


def _heads(config: _Config, hidden: int, kv_default: int | None = None, head_default: int | None = None) -> tuple[int, int, int]:
    """Return heads, KV heads and the size of a head; the heads must divide."""
    heads = config.size("num_attention_heads", "n_head", "n_heads")
    kv_heads = config.size("num_key_value_heads", default=kv_default or heads)
    config.divides("num_attention_heads", heads, "num_key_value_heads", kv_heads)
    if config.values.get("head_dim") is not None or head_default is not None:
        return heads, kv_heads, config.size("head_dim", default=head_default)
    return heads, kv_heads, config.divides("hidden_size", hidden, "num_attention_heads", heads)


def _attention(
    config: _Config,
    *,
    kv_default: int | None = None,
    head_default: int | None = None,
    rotary: float = 1.0,
    bias: bool = False,
    output_bias: bool | None = None,
    **details: Any,
) -> Attention:
    """Return rotary grouped-query attention; `rotary` is the default share of a head that is rotated."""
    heads, kv_heads, head_size = _heads(config, config.size("hidden_size"), kv_default, head_default)
    return Attention(
        heads=heads,
        kv_heads=kv_heads,
        head_size=head_size,
        rotary_size=int(head_size * config.fraction("partial_rotary_factor", rotary)),
        query_bias=bias,
        key_bias=bias,
        value_bias=bias,
        output_bias=bias if output_bias is None else output_bias,
        **details,
    )


def _plain_attention(
    config: _Config,
    hidden: int,
    heads_key: str,
    *,
    key_bias: bool = True,
    bias: bool = True,
    kv_heads: int | None = None,
) -> Attention:
    """Return attention without rotary embedding, whose head size follows from the width."""
    heads = config.size(heads_key)
    return Attention(
        heads=heads,
        kv_heads=kv_heads or heads,
        head_size=config.divides(config.find(("hidden_size", "n_embd", "d_model", "n_embed"))[0], hidden, heads_key, heads),
        query_bias=bias,
        key_bias=bias and key_bias,
        value_bias=bias,
        output_bias=bias,
    )


def _gated(config: _Config, width: str = "intermediate_size", *, bias: bool = False, default: str = "silu") -> FeedForward:
    """Return a gated feed-forward part."""
    activation = config.activation("hidden_activation", "hidden_act", default=default)
    return FeedForward(width=config.size(width), gated=True, activation=activation, bias=bias)


def _experts(config: _Config, count: Sequence[str], width: str, **details: Any) -> Experts:
    """Return a mixture of gated experts; a token cannot visit more of them than there are."""
    number = config.size(*count)
    active = config.size("num_experts_per_tok", "experts_per_token")
    if active > number and not {*count, "num_experts_per_tok"} & config.wrong:
        config.complain("num_experts_per_tok", f"is {active}, more than the {number} experts: lower it")
    activation = config.activation("hidden_act", default="silu")
    return Experts(count=number, active=active, width=config.size(width), activation=activation, **details)


def _stack(kinds: Sequence[str], build: Callable[[str], Layer]) -> tuple[Layer, ...]:
    """Return one group of layers for each kind, in order of first appearance."""
    counts = Counter(kinds)
    return tuple(replace(build(kind), name=kind if len(counts) > 1 else "", count=counts[kind]) for kind in counts)


def _model(config: _Config, *, tied: bool = False, context: int | None = None, **fields: Any) -> Model:
    """Return a model with what all families spell alike."""
    return Model(
        name=config.name,
        family=str(config.values["model_type"]),
        vocabulary=config.size("vocab_size"),
        maximum_context=config.size("max_position_embeddings", default=context) if context else None,
        tied=config.flag("tie_word_embeddings", tied),
        precision=_precision(config),
        **fields,
    )


def _precision(config: _Config) -> str:
    """Return the precision in which the weights are published, block scales included."""
    key, kind = config.find(("dtype", "torch_dtype"))
    if kind is not None and str(kind) not in _TYPES:
        config.complain(key, f"is {kind!r}: known are {', '.join(_TYPES)}")
    plain = _TYPES.get(str(kind), "bf16")
    quantization = config.values.get("quantization_config")
    if not isinstance(quantization, Mapping):
        return plain
    scheme = cast(Mapping[str, Any], quantization)
    method = scheme.get("quant_method")
    if method == "fp8" and scheme.get("weight_block_size"):
        return "fp8-block"
    if method == "mxfp4":
        return "w:bf16,e:mxfp4,a:bf16,kv:bf16"
    if method in ("fp8", "fbgemm_fp8"):
        return "w:fp8,a:fp8,kv:bf16,emb:bf16,h:bf16"
    if method in ("gptq", "awq") and scheme.get("bits", scheme.get("w_bit")) == 4:
        return "w:int4-g128,a:bf16,kv:bf16,emb:bf16,h:bf16"
    config.complain(
        "quantization_config",
        f"has the method {method!r}: known are fp8, mxfp4, gptq and awq with 4 bits; remove it to read the plain model",
    )
    return plain


# Families with learned positions and biases everywhere


def _gpt2(config: _Config) -> Model:
    """GPT-2, and the shapes of GPT-3 in its form."""
    hidden = config.size("n_embd", "hidden_size")
    positions = config.size("n_positions", "n_ctx", default=1024)
    activation = config.activation("activation_function", default="gelu_new")
    feed_forward = FeedForward(width=config.size("n_inner", default=4 * hidden), activation=activation, bias=True)
    kv_heads = 1 if config.values["model_type"] == "gpt_bigcode" and config.flag("multi_query", True) else None
    attention = _plain_attention(config, hidden, config.find(("n_head", "num_attention_heads"))[0], kv_heads=kv_heads)
    layers = config.layers("n_layer", "num_hidden_layers")
    model = _model(config, tied=True, hidden=hidden, positions=positions, norm="layer", norm_bias=True)
    decoder = (Layer(count=layers, attention=attention, feed_forward=feed_forward),)
    return replace(model, maximum_context=positions, dropout=_dropout(config, "resid_pdrop"), decoder=decoder)


def _dropout(config: _Config, key: str) -> float:
    """Return the probability of dropout in training; GPT-2 and BERT have 0.1 where the file does not say."""
    value = config.find((key,))[1]
    if value is None:
        return 0.1
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        config.complain(key, f"is {value!r}: a number from 0 up to 1 is wanted")
        return 0.1
    return float(value)


def _bert(config: _Config) -> Model:
    """BERT, and RoBERTa, whose positions start at 2."""
    hidden = config.size("hidden_size")
    positions = config.size("max_position_embeddings", default=512)
    offset = 2 if config.values["model_type"] in ("roberta", "xlm-roberta") else 0
    activation = config.activation("hidden_act", default="gelu")
    feed_forward = FeedForward(width=config.size("intermediate_size"), activation=activation, bias=True)
    attention = _plain_attention(config, hidden, "num_attention_heads")
    layer = Layer(count=config.layers("num_hidden_layers"), attention=attention, feed_forward=feed_forward)
    model = _model(config, tied=True, hidden=hidden, positions=positions, token_types=config.count("type_vocab_size", default=2))
    model = replace(model, kind="encoder", maximum_context=max(positions - offset, 1), encoder=(layer,))
    model = replace(model, norm="layer", norm_bias=True, embedding_norm=True, final_norm=False)
    return replace(model, dropout=_dropout(config, "hidden_dropout_prob"), **_encoder_head(config))


def _encoder_head(config: _Config) -> dict[str, Any]:
    """Return the head that the named architecture puts on an encoder."""
    architecture = config.architecture()
    if "MaskedLM" in architecture or "PreTraining" in architecture:
        return {"head": "masked-language", "head_bias": True, "pooler": "PreTraining" in architecture}
    if "Classification" in architecture:
        return {"head": "classifier", "labels": _labels(config, 2), "head_bias": True, "pooler": True}
    return {"head": "none", "pooler": True}


def _labels(config: _Config, default: int) -> int:
    """Return the number of classes, from their number or their names."""
    names = config.values.get("id2label")
    return config.size("num_labels", default=len(cast(Mapping[str, str], names)) if isinstance(names, Mapping) else default)


def _opt(config: _Config) -> Model:
    """OPT: two more positions than tokens, and a token table that may be narrower than the model."""
    hidden = config.size("hidden_size")
    context = config.size("max_position_embeddings", default=2048)
    narrow = config.size("word_embed_proj_dim", default=hidden)
    bias = config.flag("enable_bias", True)
    feed_forward = FeedForward(
        width=config.size("ffn_dim"), activation=config.activation("activation_function", default="relu"), bias=bias
    )
    attention = _plain_attention(config, hidden, "num_attention_heads", bias=bias)
    layer = Layer(count=config.layers("num_hidden_layers"), attention=attention, feed_forward=feed_forward)
    final_norm = config.flag("do_layer_norm_before", True) and not config.flag("_remove_final_layer_norm", False)
    model = _model(config, tied=True, context=2048, hidden=hidden, positions=context + 2, norm="layer", norm_bias=True)
    return replace(model, embedding_size=narrow if narrow != hidden else None, final_norm=final_norm, decoder=(layer,))


def _bloom(config: _Config) -> Model:
    """BLOOM: linear biases instead of positions, and a norm after the token table."""
    hidden = config.size("hidden_size", "n_embed")
    attention = _plain_attention(config, hidden, config.find(("n_head", "num_attention_heads"))[0])
    feed_forward = FeedForward(width=4 * hidden, activation="gelu-tanh", bias=True)
    layer = Layer(count=config.layers("n_layer", "num_hidden_layers"), attention=attention, feed_forward=feed_forward)
    model = _model(config, tied=True, hidden=hidden, norm="layer", norm_bias=True, embedding_norm=True, decoder=(layer,))
    return replace(model, maximum_context=config.optional("seq_length"))


def _gptj(config: _Config) -> Model:
    """GPT-J: attention and feed-forward side by side after one norm."""
    hidden = config.size("n_embd", "hidden_size")
    attention = _plain_attention(config, hidden, "n_head", bias=False)
    attention = replace(attention, rotary_size=config.optional("rotary_dim", 64) or attention.head_size)
    activation = config.activation("activation_function", default="gelu_new")
    feed_forward = FeedForward(width=config.size("n_inner", default=4 * hidden), activation=activation, bias=True)
    layer = Layer(count=config.layers("n_layer"), attention=attention, feed_forward=feed_forward, norms=1)
    model = _model(config, hidden=hidden, norm="layer", norm_bias=True, parallel_block=True, head_bias=True, decoder=(layer,))
    return replace(model, maximum_context=config.size("n_positions", default=2048))


def _gpt_neox(config: _Config) -> Model:
    """GPT-NeoX: side by side as GPT-J, each part with its own norm."""
    bias = config.flag("attention_bias", True)
    attention = _attention(config, bias=bias)
    rotary = config.fraction("rotary_pct", config.fraction("partial_rotary_factor", 0.25))
    attention = replace(attention, rotary_size=int(attention.head_size * rotary))
    feed_forward = FeedForward(
        width=config.size("intermediate_size"), activation=config.activation("hidden_act", default="gelu"), bias=True
    )
    layer = Layer(count=config.layers("num_hidden_layers"), attention=attention, feed_forward=feed_forward)
    parallel = config.flag("use_parallel_residual", True)
    return _model(
        config,
        context=2048,
        hidden=config.size("hidden_size"),
        norm="layer",
        norm_bias=True,
        parallel_block=parallel,
        decoder=(layer,),
    )


def _phi(config: _Config) -> Model:
    """Phi-1 to Phi-2: side by side as GPT-J, biases everywhere."""
    attention = _attention(config, rotary=0.5, bias=True)
    feed_forward = FeedForward(
        width=config.size("intermediate_size"),
        activation=config.activation("hidden_act", default="gelu_new"),
        bias=True,
    )
    layer = Layer(count=config.layers("num_hidden_layers"), attention=attention, feed_forward=feed_forward, norms=1)
    if config.flag("qk_layernorm", False):
        config.complain("qk_layernorm", "is true: norms over queries and keys with a bias are not known; false is wanted")
    model = _model(config, context=2048, hidden=config.size("hidden_size"), norm="layer", norm_bias=True, decoder=(layer,))
    return replace(model, parallel_block=True, head_bias=True)


def _falcon(config: _Config) -> Model:
    """Falcon: multi-query (7B) or grouped-query (40B, 180B) attention beside the feed-forward part."""
    hidden = config.size("hidden_size", "n_embed")
    heads_key = config.find(("num_attention_heads", "n_head"))[0]
    heads = config.size(heads_key)
    grouped = config.flag("new_decoder_architecture", False)
    kv_heads = config.size("num_kv_heads", "n_head_kv", default=heads) if grouped or not config.flag("multi_query", True) else 1
    config.divides(heads_key, heads, "num_kv_heads", kv_heads)
    bias = config.flag("bias", False)
    attention = _plain_attention(config, hidden, heads_key, bias=bias, kv_heads=kv_heads)
    if not config.flag("alibi", False):
        attention = replace(attention, rotary_size=attention.head_size)
    activation = config.activation("activation", default="gelu")
    feed_forward = FeedForward(width=config.size("ffn_hidden_size", default=4 * hidden), activation=activation, bias=bias)
    parallel = grouped or config.flag("parallel_attn", True)
    norms = config.size("num_ln_in_parallel_attn", default=2 if grouped or not parallel else 1)
    layer = Layer(count=config.layers("num_hidden_layers", "n_layer"), attention=attention, feed_forward=feed_forward, norms=norms)
    return _model(
        config,
        tied=True,
        context=2048,
        hidden=hidden,
        norm="layer",
        norm_bias=True,
        parallel_block=parallel,
        decoder=(layer,),
    )


# Rotary decoders with a gated feed-forward part


def _decoder(config: _Config, layer: Layer, *, tied: bool = False, context: int = 2048) -> Model:
    """Return a decoder whose layers are all alike."""
    layer = replace(layer, count=config.layers("num_hidden_layers"))
    return _model(config, tied=tied, context=context, hidden=config.size("hidden_size"), decoder=(layer,))


def _llama(config: _Config) -> Model:
    """Llama 1 to 3, Code Llama and their like."""
    attention = _attention(config, bias=config.flag("attention_bias", False))
    return _decoder(config, Layer(count=1, attention=attention, feed_forward=_gated(config, bias=config.flag("mlp_bias", False))))


def _internlm(config: _Config) -> Model:
    """InternLM: Llama with biases around attention (1) or with its own name for them (2)."""
    bias = config.flag("bias", config.values["model_type"] == "internlm")
    return _decoder(config, Layer(count=1, attention=_attention(config, bias=bias), feed_forward=_gated(config)))


def _mistral(config: _Config) -> Model:
    """Mistral: a sliding window in every layer, null in newer versions."""
    attention = _attention(config, kv_default=8, window=config.optional("sliding_window", 4096))
    return _decoder(config, Layer(count=1, attention=attention, feed_forward=_gated(config)), context=131072)


def _mixtral(config: _Config) -> Model:
    """Mixtral: Mistral with a mixture of experts."""
    attention = _attention(config, kv_default=8, window=config.optional("sliding_window"))
    experts = _experts(config, ("num_local_experts",), "intermediate_size")
    return _decoder(config, Layer(count=1, attention=attention, experts=experts), context=131072)


def _phi3(config: _Config) -> Model:
    """Phi-3 and Phi-4: Llama with fused products."""
    attention = _attention(config, window=config.optional("sliding_window"))
    return _decoder(config, Layer(count=1, attention=attention, feed_forward=_gated(config)), context=4096)


def _decilm(config: _Config) -> Model:
    """DeciLM and Nemotron-NAS: Llama whose KV heads, or blocks, differ by layer."""
    layers = config.layers("num_hidden_layers")
    attention = _attention(config)
    if config.values.get("block_configs") is not None:
        return _nemotron_nas(config, layers, attention)
    plain = [attention.kv_heads] * layers
    numbers = config.numbers("num_key_value_heads_per_layer", layers) or plain
    if any(one == 0 or attention.heads % one for one in numbers):
        config.complain("num_key_value_heads_per_layer", f"has a number that does not divide {attention.heads} heads")
        numbers = plain
    feed_forward = _gated(config)

    def build(kind: str) -> Layer:
        return Layer(count=1, attention=replace(attention, kv_heads=int(kind.removeprefix("kv-"))), feed_forward=feed_forward)

    decoder = _stack([f"kv-{one}" for one in numbers], build)
    return _model(config, context=2048, hidden=config.size("hidden_size"), decoder=decoder)


def _nemotron_nas(config: _Config, layers: int, attention: Attention) -> Model:
    """Return a searched Llama: each block states its query heads a KV head and its width as a share of the model's."""
    hidden = config.size("hidden_size")
    blocks = config.values["block_configs"]
    built: dict[str, Layer] = {}
    kinds: list[str] = []
    for block in cast("list[Any]", blocks) if isinstance(blocks, list) and len(blocks) == layers else [{}]:
        try:
            share, mixer = block["ffn"], block["attention"]
            group = None if mixer.get("no_op") else int(mixer["n_heads_in_group"])
            width = None if share.get("no_op") else -(-int(2 * share["ffn_mult"] * hidden / 3) // 256) * 256
        except (KeyError, TypeError, ValueError, AttributeError):
            config.complain(
                "block_configs",
                "has a block that is not read: `attention.n_heads_in_group` or `no_op`, and `ffn.ffn_mult` or `no_op`, "
                "are wanted for each layer",
            )
            break
        kinds.append(f"group-{group or 0}-width-{width or 0}")
        built[kinds[-1]] = Layer(
            count=1,
            attention=replace(attention, kv_heads=attention.heads // group) if group else None,
            feed_forward=FeedForward(width=width, gated=True, activation="silu") if width else None,
            norms=int(group is not None) + int(width is not None),
        )
    return _model(config, context=2048, hidden=hidden, decoder=_stack(kinds, lambda kind: built[kind]))


def _gemma(config: _Config) -> Model:
    """Gemma 1."""
    attention = _attention(config, head_default=256, bias=config.flag("attention_bias", False))
    layer = Layer(count=1, attention=attention, feed_forward=_gated(config, default="gelu_pytorch_tanh"))
    return _decoder(config, layer, tied=True, context=8192)


_WINDOWS = {"sliding_attention": "sliding", "full_attention": "full"}


def _windowed(
    config: _Config, attention: Attention, every: int, window: int | None, rest: Callable[[Attention], Layer]
) -> tuple[Layer, ...]:
    """Return layers of which each `every`-th sees all tokens and the others a sliding window."""
    layers = config.layers("num_hidden_layers")
    pattern = ["full" if window is None or (index + 1) % every == 0 else "sliding" for index in range(layers)]
    kinds = config.kinds("layer_types", layers, _WINDOWS, pattern)
    return _stack(kinds, lambda kind: rest(replace(attention, window=window) if kind == "sliding" else attention))


def _gemma2(config: _Config) -> Model:
    """Gemma 2: every second layer has a sliding window; norms before and after each part."""
    attention = _attention(config, kv_default=4, head_default=256, bias=config.flag("attention_bias", False))
    feed_forward = _gated(config, default="gelu_pytorch_tanh")
    window = config.optional("sliding_window", 4096)
    decoder = _windowed(config, attention, 2, window, lambda one: Layer(count=1, attention=one, feed_forward=feed_forward, norms=4))
    return _model(config, tied=True, context=8192, hidden=config.size("hidden_size"), decoder=decoder)


def _gemma3(config: _Config) -> Model:
    """Gemma 3: five layers with a sliding window to one without; norms over queries and keys."""
    values = {"num_attention_heads": 8, "vocab_size": 262208, **config.values}
    config.values = values
    attention = _attention(config, kv_default=4, head_default=256, bias=config.flag("attention_bias", False), query_key_norm=True)
    feed_forward = _gated(config, default="gelu_pytorch_tanh")
    every = config.size("sliding_window_pattern", default=6)
    window = config.optional("sliding_window", 4096)
    decoder = _windowed(
        config, attention, every, window, lambda one: Layer(count=1, attention=one, feed_forward=feed_forward, norms=4)
    )
    return _model(config, tied=True, context=131072, hidden=config.size("hidden_size"), decoder=decoder)


def _qwen_windows(config: _Config, attention: Attention, rest: Callable[[Attention], Layer]) -> tuple[Layer, ...]:
    """Return Qwen's layers: those from `max_window_layers` on have a window, if windows are used at all."""
    layers = config.layers("num_hidden_layers")
    first = config.count("max_window_layers", default=28)
    window = config.optional("sliding_window", 4096) if config.flag("use_sliding_window", False) else None
    pattern = ["full" if window is None or index < first else "sliding" for index in range(layers)]
    kinds = config.kinds("layer_types", layers, _WINDOWS, pattern)
    return _stack(kinds, lambda kind: rest(replace(attention, window=window) if kind == "sliding" else attention))


def _qwen2(config: _Config) -> Model:
    """Qwen 1.5 to 2.5: biases on queries, keys and values."""
    attention = _attention(config, bias=True, output_bias=False)
    feed_forward = _gated(config)
    decoder = _qwen_windows(config, attention, lambda one: Layer(count=1, attention=one, feed_forward=feed_forward))
    return _model(config, context=32768, hidden=config.size("hidden_size"), decoder=decoder)


def _qwen3(config: _Config) -> Model:
    """Qwen 3: norms over queries and keys instead of biases."""
    attention = _attention(config, head_default=128, bias=config.flag("attention_bias", False), query_key_norm=True)
    feed_forward = _gated(config)
    decoder = _qwen_windows(config, attention, lambda one: Layer(count=1, attention=one, feed_forward=feed_forward))
    return _model(config, context=32768, hidden=config.size("hidden_size"), decoder=decoder)


def _sparse(config: _Config, layers: int) -> list[str]:
    """Say for each of Qwen's layers whether it is dense or a mixture of experts."""
    step = config.size("decoder_sparse_step", default=1)
    dense = config.numbers("mlp_only_layers") or []
    return ["dense" if index in dense or (index + 1) % step else "moe" for index in range(layers)]


def _qwen_mixture(config: _Config, attention: Attention, *, shared: bool, every: int = 0) -> Model:
    """Return Qwen's mixture of experts; where `every` is given, each `every`-th layer attends, the others are linear."""
    layers = config.layers("num_hidden_layers")
    width = config.count("shared_expert_intermediate_size") if shared else 0
    experts = _experts(
        config, ("num_experts", "num_local_experts"), "moe_intermediate_size", shared_width=width, shared_gate=width > 0
    )
    known = {"linear_attention": "linear", "full_attention": "full"}
    pattern = ["linear" if every and (index + 1) % every else "full" for index in range(layers)]
    mixers = config.kinds("layer_types", layers, known, pattern) if every else pattern
    linear = _linear_attention(config) if every else None
    parts = _sparse(config, layers)
    feed_forward = _gated(config) if "dense" in parts else None
    named = [f"{one}-{part}" if "dense" in parts else one for one, part in zip(mixers, parts, strict=True)]

    def build(kind: str) -> Layer:
        mixer = {"linear_attention": linear} if kind.startswith("linear") else {"attention": attention}
        rest = {"feed_forward": feed_forward} if kind.endswith("dense") else {"experts": experts}
        return Layer(count=1, **mixer, **rest)  # pyright: ignore[reportArgumentType]

    return _model(config, context=32768, hidden=config.size("hidden_size"), decoder=_stack(named if every else parts, build))


def _qwen2_moe(config: _Config) -> Model:
    """Qwen 1.5 and 2 with experts, one of them shared behind a gate."""
    attention = _attention(config, bias=config.flag("qkv_bias", True), output_bias=False)
    return _qwen_mixture(config, attention, shared=True)


def _qwen3_moe(config: _Config) -> Model:
    """Qwen 3 with experts."""
    bias = config.flag("attention_bias", False)
    return _qwen_mixture(config, _attention(config, kv_default=4, bias=bias, query_key_norm=True), shared=False)


def _linear_attention(config: _Config) -> LinearAttention:
    """Return the gated delta-rule attention of Qwen 3-Next."""
    return LinearAttention(
        key_heads=config.size("linear_num_key_heads", default=16),
        value_heads=config.size("linear_num_value_heads", default=32),
        key_size=config.size("linear_key_head_dim", default=128),
        value_size=config.size("linear_value_head_dim", default=128),
        convolution=config.size("linear_conv_kernel_dim", default=4),
    )


def _qwen3_next(config: _Config) -> Model:
    """Qwen 3-Next and 3.5 with experts: three linear layers to one that attends, whose output is gated."""
    bias = config.flag("attention_bias", False)
    attention = _attention(config, kv_default=2, head_default=256, rotary=0.25, bias=bias, query_key_norm=True, output_gate=True)
    every = config.size("full_attention_interval", default=4)
    model = _qwen_mixture(config, attention, shared=True, every=every)
    return replace(model, prediction_layers=config.count("mtp_num_hidden_layers"))


def _gpt_oss(config: _Config) -> Model:
    """gpt-oss: every second layer has a sliding window; sinks, and biases everywhere."""
    attention = _attention(config, kv_default=8, head_default=64, bias=config.flag("attention_bias", True), sinks=True)
    experts = _experts(config, ("num_local_experts", "num_experts"), "intermediate_size", bias=True, router_bias=True)
    window = config.optional("sliding_window", 128)
    decoder = _windowed(config, attention, 2, window, lambda one: Layer(count=1, attention=one, experts=experts))
    return _model(config, context=131072, hidden=config.size("hidden_size"), decoder=decoder)


def _llama4(config: _Config) -> Model:
    """Llama 4: three rotary layers over chunks to one over everything, without positions; experts in some."""
    layers = config.layers("num_hidden_layers")
    rotary = _attention(config, bias=config.flag("attention_bias", False))
    chunk = config.optional("attention_chunk_size", 8192)
    norm = config.flag("use_qk_norm", True)
    chunked = replace(rotary, window=chunk, window_kind="chunked", query_key_norm=norm, query_key_norm_learned=False)
    activation = config.activation("hidden_act", default="silu")
    feed_forward = FeedForward(width=config.size("intermediate_size_mlp"), gated=True, activation=activation)
    experts = _experts(config, ("num_local_experts",), "intermediate_size", shared_width=config.size("intermediate_size"))
    step = config.size("interleave_moe_layer_step", default=1)
    every = config.size("no_rope_layer_interval", default=4)
    marks = config.numbers("no_rope_layers", layers) or [(index + 1) % every for index in range(layers)]
    mixture = config.numbers("moe_layers") or range(step - 1, layers, step)
    parts = ["moe" if index in mixture else "dense" for index in range(layers)]
    mixers = ["chunked" if mark else "full" for mark in marks]
    kinds = [f"{mixer}-{part}" if "dense" in parts else mixer for mixer, part in zip(mixers, parts, strict=True)]

    def build(kind: str) -> Layer:
        attention = chunked if kind.startswith("chunked") else replace(rotary, rotary_size=0)
        if kind.endswith("dense"):
            return Layer(count=1, attention=attention, feed_forward=feed_forward)
        return Layer(count=1, attention=attention, experts=experts)

    return _model(config, context=131072, hidden=config.size("hidden_size"), decoder=_stack(kinds, build))


def _minimax_m2(config: _Config) -> Model:
    """MiniMax-M2: norms over the whole of queries and keys, half of each head rotated."""
    attention = _attention(config, kv_default=8, head_default=128, query_key_norm=True, query_key_norm_whole=True)
    rotary = config.size("rotary_dim", default=int(attention.head_size * config.fraction("partial_rotary_factor", 0.5)))
    experts = _experts(config, ("num_local_experts",), "intermediate_size")
    layer = Layer(count=1, attention=replace(attention, rotary_size=rotary), experts=experts)
    predictions = config.count("num_mtp_modules") if config.flag("use_mtp", False) else 0
    return replace(_decoder(config, layer, context=196608), prediction_layers=predictions)


# Mixtures of experts after DeepSeek's pattern


def _dense_then_experts(config: _Config, attention: Attention, dense: int) -> tuple[Layer, ...]:
    """Return some dense layers and then mixtures of experts with shared ones."""
    layers = config.layers("num_hidden_layers")
    first = config.count("first_k_dense_replace", default=dense)
    step = config.size("moe_layer_freq", default=1)
    pattern = ["moe" if index >= first and index % step == 0 else "dense" for index in range(layers)]
    kinds = config.kinds("mlp_layer_types", layers, {"dense": "dense", "sparse": "moe"}, pattern)
    shared = config.count("n_shared_experts") * config.size("moe_intermediate_size")
    experts = _experts(config, ("n_routed_experts",), "moe_intermediate_size", shared_width=shared)
    feed_forward = _gated(config) if "dense" in kinds else None

    def build(kind: str) -> Layer:
        if kind == "dense":
            return Layer(count=1, attention=attention, feed_forward=feed_forward)
        return Layer(count=1, attention=attention, experts=experts)

    return _stack(kinds, build)


def _latent(config: _Config, query_rank: int | None, indexer: Indexer | None = None) -> Attention:
    """Return multi-head latent attention."""
    heads = config.size("num_attention_heads")
    if config.flag("attention_bias", False):
        config.complain("attention_bias", "is true: latent attention with biases is not known; false is wanted")
    latent = LatentAttention(
        rank=config.size("kv_lora_rank", default=512),
        query_rank=config.optional("q_lora_rank", query_rank),
        rotary_size=config.size("qk_rope_head_dim", default=64),
    )
    return Attention(
        heads=heads,
        kv_heads=heads,
        head_size=config.size("qk_nope_head_dim", default=128),
        value_size=config.size("v_head_dim", default=128),
        latent=latent,
        indexer=indexer,
    )


def _deepseek(config: _Config) -> Model:
    """DeepSeek V2, V3 and R1, and Kimi K2."""
    dense = {"deepseek_v2": 0, "deepseek_v3": 3}.get(config.values["model_type"], 1)
    decoder = _dense_then_experts(config, _latent(config, 1536), dense)
    model = _model(config, context=4096, hidden=config.size("hidden_size"), decoder=decoder)
    return replace(model, prediction_layers=config.count("num_nextn_predict_layers"))


def _deepseek_sparse(config: _Config) -> Model:
    """DeepSeek V3.2 and GLM-5: latent attention over the tokens that an indexer picks."""
    glm = config.values["model_type"] == "glm_moe_dsa"
    config.values = {**({"qk_nope_head_dim": 192, "v_head_dim": 256} if glm else {}), **config.values}
    indexer = Indexer(
        heads=config.size("index_n_heads", default=32 if glm else 64),
        head_size=config.size("index_head_dim", default=128),
        selected=config.size("index_topk", default=2048),
    )
    attention = _latent(config, 2048 if glm else 1536, indexer)
    decoder = _dense_then_experts(config, attention, 3)
    model = _model(config, context=202752 if glm else 163840, hidden=config.size("hidden_size"), decoder=decoder)
    return replace(model, prediction_layers=config.count("num_nextn_predict_layers"))


def _glm4_moe(config: _Config) -> Model:
    """GLM-4.5: DeepSeek's mixture with grouped-query attention, half of each head rotated."""
    bias, norm = config.flag("attention_bias", False), config.flag("use_qk_norm", False)
    attention = _attention(config, kv_default=8, rotary=0.5, bias=bias, output_bias=False, query_key_norm=norm)
    decoder = _dense_then_experts(config, attention, 1)
    model = _model(config, context=131072, hidden=config.size("hidden_size"), decoder=decoder)
    return replace(model, prediction_layers=config.count("num_nextn_predict_layers"))


# Encoder-decoders, vision


def _t5(config: _Config) -> Model:
    """T5: relative positions in the scores, heads whose size is free of the width, no biases."""
    hidden, heads, head_size = config.size("d_model"), config.size("num_heads"), config.size("d_kv", default=64)
    cross = Attention(heads=heads, kv_heads=heads, head_size=head_size)
    attention = replace(cross, relative_buckets=config.size("relative_attention_num_buckets", default=32))
    gate, _, name = str(config.values.get("feed_forward_proj") or "relu").rpartition("-")
    activation = _ACTIVATIONS.get("gelu_new" if gate == "gated" and name == "gelu" else name)
    if activation is None or gate not in ("", "gated"):
        config.complain("feed_forward_proj", "is neither an activation nor `gated-` and one: `relu` or `gated-gelu` is wanted")
    feed_forward = FeedForward(width=config.size("d_ff"), gated=gate == "gated", activation=activation or "relu")
    layers = config.layers("num_layers")
    encoder = Layer(count=layers, attention=attention, feed_forward=feed_forward)
    number = config.layers("num_decoder_layers", default=layers)
    decoder = Layer(count=number, attention=attention, cross_attention=cross, feed_forward=feed_forward, norms=3)
    model = _model(config, tied=True, hidden=hidden, encoder=(encoder,), decoder=(decoder,))
    return replace(model, kind="encoder-decoder", maximum_context=config.optional("n_positions"))


def _whisper(config: _Config) -> Model:
    """Whisper: convolutions over a spectrogram, then an encoder and a decoder; keys have no bias."""
    hidden = config.size("d_model")
    activation = config.activation("activation_function", default="gelu")
    source, target = config.size("max_source_positions", default=1500), config.size("max_target_positions", default=448)
    own = _plain_attention(config, hidden, "encoder_attention_heads", key_bias=False)
    attention = _plain_attention(config, hidden, "decoder_attention_heads", key_bias=False)
    encoder = Layer(
        count=config.layers("encoder_layers"),
        attention=own,
        feed_forward=FeedForward(width=config.size("encoder_ffn_dim"), activation=activation, bias=True),
    )
    decoder = Layer(
        count=config.layers("decoder_layers"),
        attention=attention,
        cross_attention=attention,
        feed_forward=FeedForward(width=config.size("decoder_ffn_dim"), activation=activation, bias=True),
        norms=3,
    )
    audio = AudioFrontEnd(mel_bins=config.size("num_mel_bins", default=80), frames=2 * source)
    model = _model(config, tied=True, hidden=hidden, positions=target, encoder_positions=source, audio=audio, norm="layer")
    return replace(model, kind="encoder-decoder", norm_bias=True, maximum_context=target, encoder=(encoder,), decoder=(decoder,))


def _vit(config: _Config) -> Model:
    """Vision transformer: patches and a class token."""
    hidden = config.size("hidden_size")
    image, patch = config.size("image_size", default=224), config.size("patch_size", default=16)
    side = config.divides("image_size", image, "patch_size", patch)
    config.values = {"vocab_size": 1, **config.values}
    feed_forward = FeedForward(
        width=config.size("intermediate_size"), activation=config.activation("hidden_act", default="gelu"), bias=True
    )
    attention = _plain_attention(config, hidden, "num_attention_heads")
    attention = replace(attention, **dict.fromkeys(("query_bias", "key_bias", "value_bias"), config.flag("qkv_bias", True)))
    layer = Layer(count=config.layers("num_hidden_layers"), attention=attention, feed_forward=feed_forward)
    patches = Patches(image_size=image, patch_size=patch, channels=config.size("num_channels", default=3))
    model = _model(config, hidden=hidden, positions=side * side + 1, class_token=True, patches=patches, encoder=(layer,))
    model = replace(model, kind="vision", norm="layer", norm_bias=True, vocabulary=0)
    if config.architecture() == "ViTModel":
        return replace(model, head="none", pooler=True)
    return replace(model, head="classifier", head_bias=True, labels=_labels(config, 1000))


def _resnet(config: _Config) -> ConvolutionalModel:
    """Residual network of bottlenecks: stride in the 3 × 3 product (v1.5), or in the first (v1)."""
    stem = config.size("embedding_size", default=64)
    widths, depths = config.numbers("hidden_sizes", 4), config.numbers("depths", 4)
    for key, value in (("hidden_sizes", widths), ("depths", depths)):
        if key not in config.wrong and (value is None or 0 in value):
            config.complain(key, "is missing or has a zero: four whole numbers above 0 are wanted")
    if config.values.get("layer_type", "bottleneck") != "bottleneck" or config.flag("downsample_in_first_stage", False):
        config.complain(
            "layer_type", "is not of the form that is known: `bottleneck`, with no stride in the first stage, is wanted"
        )
    image = config.size("image_size", default=224)
    size = 16 * config.divides("image_size", image, "the strides", 32)
    if config.problems or widths is None or depths is None:
        return ConvolutionalModel(name=config.name, layers=())
    first = config.flag("downsample_in_bottleneck", False)
    layers = [_stem(config.size("num_channels", default=3), stem, size)]
    size, inputs = size // 2, stem
    for index, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        stride = 1 if index == 0 else 2
        layers += _bottlenecks(f"stage{index + 1}", depth, inputs, width, size, stride, first)
        size, inputs = size // stride, width
    layers[-1] = replace(layers[-1], pool_size=size, pooled_size=1)
    classifier = Convolution(
        name="classifier",
        kernel=1,
        inputs=inputs,
        outputs=_labels(config, 1000),
        input_size=1,
        output_size=1,
        bias=True,
    )
    family = str(config.values["model_type"])
    return ConvolutionalModel(name=config.name, family=family, layers=(*layers, classifier), precision=_precision(config))


def _stem(channels: int, outputs: int, size: int) -> Convolution:
    """Return the 7 × 7 convolution of stride 2 before the stages, with the pooling after it."""
    return Convolution(
        name="stem",
        kernel=7,
        stride=2,
        padding=3,
        inputs=channels,
        outputs=outputs,
        input_size=2 * size,
        output_size=size,
        batch_norm=True,
        activation=True,
        pool_size=3,
        pooled_size=size // 2,
    )


def _bottlenecks(stage: str, depth: int, inputs: int, width: int, size: int, stride: int, stride_first: bool) -> list[Convolution]:
    """Return one stage: 1 × 1 down, 3 × 3, 1 × 1 up and a residual addition, `depth` times; the first may stride."""
    narrow, small = width // 4, size // stride
    middle = small if stride_first else size

    def one(name: str, count: int, kernel: int, ends: tuple[int, int], sizes: tuple[int, int]) -> Convolution:
        return Convolution(
            name=f"{stage}-{name}",
            count=count,
            kernel=kernel,
            stride=sizes[0] // sizes[1],
            padding=kernel // 2,
            inputs=ends[0],
            outputs=ends[1],
            input_size=sizes[0],
            output_size=sizes[1],
            batch_norm=True,
            activation=name != "first-shortcut",
            residual="expand" in name,
            shortcut=name == "first-shortcut",
        )

    found = [
        one("first-shortcut", 1, 1, (inputs, width), (size, small)),
        one("first-reduce", 1, 1, (inputs, narrow), (size, middle)),
        one("first-spatial", 1, 3, (narrow, narrow), (middle, small)),
        one("first-expand", 1, 1, (narrow, width), (small, small)),
        one("reduce", depth - 1, 1, (width, narrow), (small, small)),
        one("spatial", depth - 1, 3, (narrow, narrow), (small, small)),
        one("expand", depth - 2, 1, (narrow, width), (small, small)),
        one("last-expand", 1, 1, (narrow, width), (small, small)),
    ]
    if depth == 1:
        return found[:4]
    return [part for part in found if part.count]


Reader = Callable[[_Config], Model | ConvolutionalModel]
_READERS: dict[str, Reader] = {
    "gpt2": _gpt2,
    "gpt_bigcode": _gpt2,
    "bert": _bert,
    "roberta": _bert,
    "xlm-roberta": _bert,
    "opt": _opt,
    "bloom": _bloom,
    "gptj": _gptj,
    "gpt_neox": _gpt_neox,
    "phi": _phi,
    "falcon": _falcon,
    "llama": _llama,
    "internlm": _internlm,
    "internlm2": _internlm,
    "mistral": _mistral,
    "mixtral": _mixtral,
    "phi3": _phi3,
    "deci": _decilm,
    "decilm": _decilm,
    "nemotron-nas": _decilm,
    "gemma": _gemma,
    "gemma2": _gemma2,
    "gemma3": _gemma3,
    "gemma3_text": _gemma3,
    "qwen2": _qwen2,
    "qwen2_moe": _qwen2_moe,
    "qwen3": _qwen3,
    "qwen3_moe": _qwen3_moe,
    "qwen3_next": _qwen3_next,
    "qwen3_5_moe": _qwen3_next,
    "qwen3_5_moe_text": _qwen3_next,
    "gpt_oss": _gpt_oss,
    "llama4": _llama4,
    "llama4_text": _llama4,
    "minimax_m2": _minimax_m2,
    "glm4_moe": _glm4_moe,
    "deepseek_v2": _deepseek,
    "deepseek_v3": _deepseek,
    "kimi_k2": _deepseek,
    "kimi_k25": _deepseek,
    "deepseek_v32": _deepseek_sparse,
    "glm_moe_dsa": _deepseek_sparse,
    "t5": _t5,
    "mt5": _t5,
    "whisper": _whisper,
    "vit": _vit,
    "resnet": _resnet,
}
FAMILIES = tuple(sorted(_READERS))  # every `model_type` that can be read


def _load(path: Path) -> Any:
    """Return the JSON value in a file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise InputError(
            f"{path}: not JSON at {place} ({error.msg}): is the file cut off? A whole config.json is wanted"
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not text in UTF-8 at byte {error.start}: a config.json is wanted") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}): the path of a config.json is wanted") from error


def _text_part(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the language model's values of a multimodal file, over what it shares with the rest."""
    inner = values.get("text_config")
    if not isinstance(inner, Mapping):
        return values
    return {**values, **cast(Mapping[str, Any], inner), "model_type": values.get("model_type")}


def read_config(source: str | Path | Mapping[str, Any], *, name: str | None = None) -> Model | ConvolutionalModel:
    """Return the model that a Hugging Face `config.json` describes.

    `source` is a path or the parsed object; `name` names the model, by default after the file, or after its folder
    where the file is called `config.json`. Of a multimodal model the language part is read. Weights of a file without
    a type, and of one in 32 bits, are taken to be served in bf16.

    Raises `InputError` with every problem of the file, one a line: a family that is not known, a key that is missing,
    a size that is not a whole number above 0, heads that do not divide.

    >>> config = {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    >>> model = read_config({**config, "intermediate_size": 128, "vocab_size": 100}, name="small")
    >>> model.decoder[0].count, model.decoder[0].attention.head_size  # 64 / 4
    (2, 16)
    """
    if isinstance(source, Mapping):
        label, values = name or "config", cast(Any, source)
    else:
        path = Path(source)
        label, values = str(path), _load(path)
        name = name or (path.stem if path.stem != "config" else path.resolve().parent.name)
    if not isinstance(values, Mapping):
        raise InputError(f"{label}: holds a JSON {type(values).__name__}, not an object: a config.json is wanted")
    config = _Config(_text_part(cast(Mapping[str, Any], values)), label, name or "config")
    family = config.values.get("model_type")
    if not isinstance(family, str) or family not in _READERS:
        what = "is missing" if family is None else f"{family!r} is not known"
        raise InputError(f"{label}: `model_type` {what}: known are {', '.join(FAMILIES)}")
    model = _READERS[family](config)
    if config.problems:
        raise InputError("; ".join(dict.fromkeys(config.problems)))
    return model
