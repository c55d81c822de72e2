"""GPT-2 and BERT Base in PyTorch's own modules, with random weights: their time depends on shapes alone."""

from typing import Any, NamedTuple

from ridgeline.validation.measure.timing import Call
from ridgeline.validation.measure.work import WholeModel

_LAYERS, _HIDDEN, _HEADS, _WIDE, POSITIONS = 12, 768, 12, 3072, 1024
_VOCABULARY = {"gpt2": 50257, "bert-base": 30522}


class Built(NamedTuple):
    """A model with its weights, and whether it attends to what came before only."""

    weights: dict[str, Any]
    layers: list[dict[str, Any]]
    decoder: bool


def build(torch: Any, name: str, device: str) -> Built:
    """Return a model with random weights."""
    decoder = name == "gpt2"
    vocabulary = _VOCABULARY[name]
    with torch.device(device):
        token = torch.nn.Embedding(vocabulary, _HIDDEN)
        position = torch.nn.Embedding(POSITIONS, _HIDDEN)
        weights: dict[str, Any] = {"token": token, "position": position, "norm": torch.nn.LayerNorm(_HIDDEN)}
        weights["head"] = torch.nn.Linear(_HIDDEN, vocabulary, bias=not decoder)
        weights["head"].weight = token.weight
        if not decoder:
            weights |= {"kind": torch.nn.Embedding(2, _HIDDEN), "transform": torch.nn.Linear(_HIDDEN, _HIDDEN)}
            weights |= {"head_norm": torch.nn.LayerNorm(_HIDDEN)}
        layers = [_layer(torch) for _ in range(_LAYERS)]
    for module in (*weights.values(), *(one for layer in layers for one in layer.values())):
        module.requires_grad_(False)  # as in inference: nothing is kept for a backward pass
    return Built(weights, layers, decoder)


def _layer(torch: Any) -> dict[str, Any]:
    linear, norm = torch.nn.Linear, torch.nn.LayerNorm
    found = {name: linear(_HIDDEN, _HIDDEN) for name in ("query", "key", "value", "output")}
    found |= {"up": linear(_HIDDEN, _WIDE), "down": linear(_WIDE, _HIDDEN), "first": norm(_HIDDEN), "second": norm(_HIDDEN)}
    return found


def parts(torch: Any, model: Built, work: WholeModel) -> list[tuple[str, Call]]:
    """Return a pass as calls in sequence, those of equal work under one name: what goes in, a layer, what comes out.

    A pass goes over a whole prompt, or over its last token where the keys and values of the others are kept; it ends with the
    logits of every token that went in.
    """
    device = model.weights["token"].weight.device
    length, decode = work.length, work.phase == "decode"
    tokens = torch.randint(0, 30000, (1, 1 if decode else length), device=device)
    past, caches = (length - 1, _caches(torch, length, device)) if decode else (0, [None] * len(model.layers))
    functions, passing = torch.nn.functional, dict[str, Any]()

    def enter() -> None:
        passing["value"] = _embed(torch, model, tokens, past)

    def layer_call(layer: dict[str, Any], cache: Any) -> Call:
        def call() -> None:
            passing["value"] = _run(functions, layer, passing["value"], model.decoder, past, cache)

        return call

    def leave() -> None:
        passing["logits"] = _head(functions, model, passing["value"])

    layers = [("layer", layer_call(layer, cache)) for layer, cache in zip(model.layers, caches, strict=True)]
    return [("input", enter), *layers, ("head", leave)]


def _caches(torch: Any, length: int, device: Any) -> list[Any]:
    shape = (2, 1, _HEADS, length, _HIDDEN // _HEADS)
    return [torch.empty(shape, device=device).uniform_(-1.0, 1.0) for _ in range(_LAYERS)]


def _embed(torch: Any, model: Built, tokens: Any, past: int) -> Any:
    weights = model.weights
    positions = torch.arange(past, past + tokens.shape[1], device=tokens.device)
    value = weights["token"](tokens) + weights["position"](positions)
    return value if model.decoder else weights["norm"](value + weights["kind"](torch.zeros_like(tokens)))


def _head(functions: Any, model: Built, value: Any) -> Any:
    weights = model.weights
    if model.decoder:
        return weights["head"](weights["norm"](value))
    return weights["head"](weights["head_norm"](functions.gelu(weights["transform"](value))))


def _run(functions: Any, layer: dict[str, Any], value: Any, decoder: bool, past: int, cache: Any) -> Any:
    """Return what a layer makes of its input: norms before each part in a decoder, after it in an encoder."""
    source = layer["first"](value) if decoder else value
    value = value + layer["output"](_attend(functions, layer, source, decoder, past, cache))
    value = value if decoder else layer["first"](value)
    source = layer["second"](value) if decoder else value
    wide = functions.gelu(layer["up"](source), approximate="tanh" if decoder else "none")
    value = value + layer["down"](wide)
    return value if decoder else layer["second"](value)


def _attend(functions: Any, layer: dict[str, Any], source: Any, decoder: bool, past: int, cache: Any) -> Any:
    count = source.shape[1]
    parts = [layer[name](source).view(1, count, _HEADS, -1).transpose(1, 2) for name in ("query", "key", "value")]
    query, key, held = parts
    if cache is not None:
        cache[0, :, :, past : past + count] = key
        cache[1, :, :, past : past + count] = held
        key, held = cache[0], cache[1]
    found = functions.scaled_dot_product_attention(query, key, held, is_causal=decoder and cache is None)
    return found.transpose(1, 2).reshape(1, count, _HIDDEN)
