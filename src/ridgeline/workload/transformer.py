"""Transformers as operations: encode, prefill (chunked too), decode and generate.

Every layer group gives a short list of operations with the tensors they read and write by name, so that fusion can tell what
stays on chip and a counting convention can count them its own way. Nothing here knows a chip.
"""

from collections.abc import Iterable
from dataclasses import replace

from ridgeline.arrays import is_zero, maximum, minimum
from ridgeline.errors import InputError
from ridgeline.quantities import Count
from ridgeline.results import Operation
from ridgeline.specs.model import Layer, Model
from ridgeline.specs.precision import Precision
from ridgeline.specs.scenario import LatentForm, Scenario
from ridgeline.workload.attention import cross_attention, linear_attention, softmax_attention
from ridgeline.workload.ends import front, head_of
from ridgeline.workload.feed_forward import feed_forward, mixture
from ridgeline.workload.pieces import Frame, norm, residual
from ridgeline.workload.tokens import Tokens


def operations(model: Model, scenario: Scenario, precision: Precision) -> tuple[Operation, ...]:
    """Return the operations of one step; counts are arrays where the scenario's are.

    Raises `InputError` for a phase that the model has not, such as decoding with an encoder.
    """
    phases = {"encode": _encode, "prefill": _prefill, "decode": _decode, "generate": _generate}
    if scenario.phase not in phases:
        raise InputError(f"phase {scenario.phase!r} is none of {', '.join(phases)}")
    if scenario.phase != "encode" and not model.decoder:
        raise InputError(f"{model.name} is an encoder: it has no phase {scenario.phase!r}, use `encode`")
    return tuple(phases[scenario.phase](model, scenario, precision))


# ---- phases ----------------------------------------------------------------------------------------------------------


def _encode(model: Model, scenario: Scenario, precision: Precision) -> list[Operation]:
    """Every token attends to all: an encoder, or a decoder that scores a text (then causal)."""
    stack = model.encoder or model.decoder
    new = encoder_tokens(model, scenario)
    head = new if scenario.head_tokens == "all" or model.head == "masked-language" else 1.0
    tokens = Tokens(sequences=scenario.batch, new=new, causal=not model.encoder, head=head)
    frame = _frame(model, scenario, precision, tokens, "expanded")
    with_head = not model.decoder or not model.encoder
    return front(frame, bool(model.encoder)) + _stack(frame, stack) + (head_of(frame) if with_head else [])


def _prefill(model: Model, scenario: Scenario, precision: Precision) -> list[Operation]:
    """Fill the cache with the prompt; an encoder-decoder encodes it and takes one decoder step."""
    found: list[Operation] = []
    new, past = scenario.prompt, scenario.context
    if model.encoder:
        found = repeat(_encode(model, scenario, precision), 1, "encoder ", "encoder ")
        new, past = 1.0, 0.0
    head = new if scenario.head_tokens == "all" else 1.0
    tokens = Tokens(sequences=scenario.batch / scenario.samples, new=new, past=past, head=head)
    frame = replace(_frame(model, scenario, precision, tokens, "expanded"), writes_source=True)
    return found + front(frame, False) + _stack(frame, model.decoder) + head_of(frame)


def _decode(model: Model, scenario: Scenario, precision: Precision, steps: Count | None = None) -> list[Operation]:
    """One step of every sequence, or an average one of `steps` after `scenario.context` tokens."""
    new = scenario.verified
    past = scenario.context if steps is not None else maximum(scenario.context - new, 0.0 * (scenario.context + new))
    tokens = Tokens(
        sequences=scenario.batch,
        new=new,
        past=past,
        steps=steps,
        head=new,
        shared=minimum(scenario.prompt, past),
        sharing=scenario.samples,
        decoding=True,
    )
    frame = _frame(model, scenario, precision, tokens, "absorbed")
    return front(frame, False) + _stack(frame, model.decoder) + head_of(frame)


def _generate(model: Model, scenario: Scenario, precision: Precision) -> list[Operation]:
    """Prefill, which gives the first token, then `output` − 1 decode steps at their average cost."""
    prefill = _prefill(model, replace(scenario, phase="prefill", context=0.0), precision)
    steps = scenario.output - 1
    start = 1.0 if model.encoder else scenario.prompt
    each = replace(scenario, phase="decode", context=start, source_tokens=source_tokens(model, scenario))
    decode = _decode(model, each, precision, steps=maximum(steps, 1.0 + 0.0 * steps))
    return repeat(prefill, 1, "prefill ", "prefill ") + repeat(decode, steps, "decode ", "decode ")


def teacher_forced(model: Model, scenario: Scenario, precision: Precision) -> list[Operation]:
    """Return the forward pass of a training step: all tokens of every sequence at once, nothing cached, logits of every token.

    An encoder-decoder reads and writes `prompt` tokens each, unless its encoder has a number of its own.
    """
    found: list[Operation] = []
    if model.encoder and model.decoder:
        found = repeat(_encode(model, scenario, precision), 1, "encoder ", "encoder ")
    new = scenario.prompt if model.decoder else encoder_tokens(model, scenario)
    tokens = Tokens(sequences=scenario.batch, new=new, causal=bool(model.decoder), head=new)
    frame = replace(_frame(model, scenario, precision, tokens, "expanded"), writes_source=True)
    found += front(frame, not model.decoder) + _stack(frame, model.decoder or model.encoder) + head_of(frame)
    return [one for one in found if one.kind != "append"]


def repeat(operations: Iterable[Operation], count: Count, prefix: str = "", place: str = "") -> list[Operation]:
    """Return operations `count` times over, in a place of their own: only operations of one place ever run as one."""
    return [replace(one, count=one.count * count, name=prefix + one.name, place=place + one.place) for one in operations]


def _frame(model: Model, scenario: Scenario, precision: Precision, tokens: Tokens, latent: LatentForm) -> Frame:
    return Frame(
        model=model,
        tokens=tokens,
        precision=precision,
        latent=scenario.latent or latent,
        source=source_tokens(model, scenario),
        routing_skew=scenario.routing_skew,
    )


def encoder_tokens(model: Model, scenario: Scenario) -> Count:
    """Tokens of one sequence in the encoder: an image's patches, a spectrogram's frames, or the prompt."""
    if model.patches is not None:
        return model.patches.tokens + (1.0 if model.class_token else 0.0)
    if model.audio is not None:
        return model.audio.frames / 2
    return scenario.prompt


def source_tokens(model: Model, scenario: Scenario) -> Count:
    """Encoder tokens that cross-attention reads; without a stated number, the model's own or the prompt."""
    if not (model.encoder and model.decoder):
        return 0.0
    if not is_zero(scenario.source_tokens):
        return scenario.source_tokens
    own = encoder_tokens(model, scenario)
    return own if not is_zero(own) else scenario.context


# ---- layers and stacks -----------------------------------------------------------------------------------------------


def layer_operations(frame: Frame, layer: Layer) -> list[Operation]:
    """Return the operations of one layer of a group: attention, cross-attention, feed-forward, each with norm and residual."""
    found: list[Operation] = []
    mixing: list[tuple[str, list[Operation]]] = []
    if layer.attention is not None:
        mixing.append(("attention", softmax_attention(frame, layer.attention)))
    if layer.linear_attention is not None:
        mixing.append(("attention", linear_attention(frame, layer.linear_attention)))
    if layer.cross_attention is not None:
        mixing.append(("cross", cross_attention(frame, layer.cross_attention)))
    if layer.feed_forward is not None:
        mixing.append(("feed-forward", feed_forward(frame, layer.feed_forward)))
    if layer.experts is not None:
        mixing.append(("feed-forward", mixture(frame, layer.experts)))
    norms = layer.norms
    for index, (name, part) in enumerate(mixing):
        before = norms > index
        after = norms >= len(mixing) * 2
        if before:
            found.append(norm(frame, f"{name} norm", kept=frame.model.parallel_block))
        found += part
        if after:
            found.append(norm(frame, f"{name} output norm", source="projected", target="projected"))
        found.append(residual(frame, f"{name} residual", "projected"))
    return found


def _stack(frame: Frame, layers: tuple[Layer, ...]) -> list[Operation]:
    found: list[Operation] = []
    for index, layer in enumerate(layers):
        prefix = f"{layer.name} " if layer.name and len(layers) > 1 else ""
        found += repeat(layer_operations(frame, layer), layer.count, prefix, f"layer group {index}")
    if frame.model.final_norm:
        found.append(replace(norm(frame, "final norm"), group="head"))
    return found
