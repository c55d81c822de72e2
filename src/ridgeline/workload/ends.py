"""What stands before and after the layers: embeddings of tokens, patches and spectrograms, poolers and heads."""

from dataclasses import replace
from typing import Any

from ridgeline.quantities import Count
from ridgeline.results import Operation
from ridgeline.specs.model import AudioFrontEnd, Patches
from ridgeline.workload.pieces import Frame, activation, linear, norm, vector, weight


def front(frame: Frame, encoder: bool) -> list[Operation]:
    """Return the embedding of tokens, or of an encoder's patches or spectrogram."""
    if encoder and frame.model.patches is not None:
        return [_patch_embedding(frame, frame.model.patches)]
    if encoder and frame.model.audio is not None:
        return _audio_convolutions(frame, frame.model.audio)
    return _token_embedding(frame)


def _patch_embedding(frame: Frame, patch: Patches) -> Operation:
    read: dict[str, Any] = {"source": "pixels", "target": "hidden", "group": "embedding", "bias": patch.bias}
    rows, inputs = frame.tokens.sequences * patch.tokens, patch.channels * patch.patch_size**2
    return linear(frame, "patch embedding", inputs=inputs, outputs=frame.model.hidden, tokens=rows, **read)


def _audio_convolutions(frame: Frame, audio: AudioFrontEnd) -> list[Operation]:
    hidden, frames = frame.model.hidden, frame.tokens.sequences * audio.frames
    first: dict[str, Any] = {"source": "spectrogram", "target": "inner", "tokens": frames, "group": "embedding", "bias": True}
    second: dict[str, Any] = {"source": "inner", "target": "hidden", "tokens": frames / 2, "group": "embedding", "bias": True}
    return [
        linear(frame, "first convolution", inputs=3 * audio.mel_bins, outputs=hidden, **first),
        linear(frame, "second convolution", inputs=3 * hidden, outputs=hidden, **second),
    ]


def _table_width(frame: Frame) -> Count:
    model = frame.model
    return model.hidden if model.embedding_size is None else model.embedding_size


def _token_embedding(frame: Frame) -> list[Operation]:
    model, width = frame.model, _table_width(frame)
    elements = frame.tokens.count * width
    found = [
        Operation(
            name="embedding",
            kind="gather",
            group="embedding",
            functions={"gather": elements},
            reads=(weight(elements, frame.precision.embedding, "embedding"),),
            writes=(activation(frame, "hidden", elements, kept=True),),
        )
    ]
    if model.embedding_size is not None:
        read: dict[str, Any] = {"source": "hidden", "target": "hidden", "group": "embedding"}
        found.append(linear(frame, "embedding projection", inputs=width, outputs=model.hidden, **read))
    if model.embedding_norm:
        found.append(replace(norm(frame, "embedding norm", target="hidden", kept=True), group="embedding"))
    return found


def head_of(frame: Frame) -> list[Operation]:
    """Return the pooler, and the logits of the tokens that need them: the last of each sequence unless all are asked for."""
    model = frame.model
    found = _pooler(frame) if model.pooler else []
    if model.head == "none":
        return found
    return [*found, *(_classifier(frame) if model.head == "classifier" else _language_head(frame))]


def _pooler(frame: Frame) -> list[Operation]:
    """The product and tanh over the first token of each sequence that BERT puts on top."""
    hidden, rows = frame.model.hidden, frame.tokens.sequences
    read: dict[str, Any] = {"source": "normed", "target": "pooled", "tokens": rows, "group": "head", "bias": True}
    product = linear(frame, "pooler", inputs=hidden, outputs=hidden, **read)
    bend = vector(frame, "pooler tanh", "tanh", rows * hidden, sources=("pooled",), target="pooled")
    return [product, replace(bend, group="head")]


def _classifier(frame: Frame) -> list[Operation]:
    model = frame.model
    read: dict[str, Any] = {"source": "pooled" if model.pooler else "normed", "target": "logits", "group": "head", "bias": True}
    return [linear(frame, "classifier", inputs=model.hidden, outputs=model.labels, tokens=frame.tokens.sequences, **read)]


def _language_head(frame: Frame) -> list[Operation]:
    model, width = frame.model, _table_width(frame)
    read: dict[str, Any] = {"source": "normed", "tokens": frame.tokens.sequences * frame.tokens.head, "group": "head"}
    found: list[Operation] = []
    if model.head == "masked-language":
        found.append(linear(frame, "head transform", inputs=model.hidden, outputs=model.hidden, target="normed", bias=True, **read))
    if model.embedding_size is not None:
        found.append(linear(frame, "head projection", inputs=model.hidden, outputs=width, target="normed", **read))
    logits: dict[str, Any] = {"target": "logits", "weights": frame.precision.head, "bias": model.head_bias}
    return [*found, linear(frame, "head", inputs=width, outputs=model.vocabulary, **logits, **read)]
