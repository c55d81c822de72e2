"""A training step as operations: forward, loss, what is computed again, backward, optimizer; and what backward reads of forward.

Every tensor of the forward pass gets a name of its own, so that it is clear which of them the backward pass reads: those are kept
until then, or computed again from what is.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import NamedTuple

from ridgeline.arrays import is_zero
from ridgeline.errors import InputError
from ridgeline.quantities import Bytes, Count
from ridgeline.results import Operation, Tensor
from ridgeline.specs.model import ConvolutionalModel, Layer, Model
from ridgeline.specs.number_format import FORMATS
from ridgeline.specs.precision import Precision
from ridgeline.specs.scenario import Scenario
from ridgeline.specs.training import optimizer_of
from ridgeline.workload import convolution
from ridgeline.workload.backward import GIVEN, MASK, Gradients, again_name, backward_pass, read_by_backward
from ridgeline.workload.optimizer import update_of
from ridgeline.workload.transformer import teacher_forced

_FP32 = FORMATS["fp32"]
_LAYER_INPUTS = frozenset({"hidden", "encoded"})


class Step(NamedTuple):
    """The operations of a training step by part."""

    forward: tuple[Operation, ...]
    again: tuple[Operation, ...]  # rematerialised
    backward: tuple[Operation, ...]
    optimizer: tuple[Operation, ...]
    order: tuple[Operation, ...]  # all of them as they run


@dataclass(frozen=True, kw_only=True, eq=False)
class Saved:
    """A tensor of the forward pass that the backward pass reads."""

    name: str
    place: str  # the layer group that reads it
    count: Count  # how many there are
    bytes: Bytes
    core: bool = False  # scores, probabilities and their mask, which selective rematerialisation computes again
    made_here: bool = True  # by an operation of the same layer; False: an input of the layer


def operations(model: Model | ConvolutionalModel, scenario: Scenario, precision: Precision) -> tuple[Operation, ...]:
    """Return the operations of a training step in the order in which they run.

    The gradients of a product by its input and by its weights take its FLOPs each; where the input is the data itself, and for
    tables that are looked up, there is only the second, or none. Data ranks share the optimizer's work from ZeRO stage 1 on.
    Raises `InputError` for what cannot be trained or rematerialised.
    """
    return step(model, scenario, precision).order


def step(model: Model | ConvolutionalModel, scenario: Scenario, precision: Precision) -> Step:
    """Return the operations of a training step, by part and in order."""
    precision = training_precision(precision)
    optimizer = optimizer_of(scenario.optimizer)
    forward = forward_operations(model, scenario, precision)
    again: list[Operation] = []
    backward: list[Operation] = []
    order: list[Operation] = [*forward]
    gradients = Gradients(precision)
    for place, group in _reversed_places(forward):
        mode = rematerialisation_of(place, scenario)
        repeated = _computed_again(group, mode)
        names = {tensor.name for one in repeated for tensor in one.writes}
        passed = backward_pass(group, gradients, names)
        if optimizer.second_backward:
            passed = [replace(one, count=2 * one.count) for one in passed]
        again += repeated
        backward += passed
        order += _core_in_turn(repeated, passed) if mode == "selective" else [*repeated, *passed]
    update = update_of(model, scenario, precision, optimizer)
    return Step(tuple(forward), tuple(again), tuple(backward), (update,), (*order, update))


def training_precision(precision: Precision) -> Precision:
    """Return the formats of training: keys and values are those of the residual stream; nothing is quantised after the fact.

    >>> training_precision(Precision.parse("fp8")).kv.name
    'bf16'
    """
    for form in (precision.weights, precision.activations):
        if form.kind != "float" or form.multiplies is not None or form.bits < 8:
            raise InputError(f"precision {precision.name!r} is not one to train in: choose fp32, bf16, fp16 or fp8")
    return replace(precision, kv=precision.stream, expert_weights=None, embedding_weights=None, head_weights=None)


def forward_operations(model: Model | ConvolutionalModel, scenario: Scenario, precision: Precision) -> list[Operation]:
    """Return the forward pass with dropout where the model has it, and the loss; every tensor under a name of its own."""
    if isinstance(model, ConvolutionalModel):
        if scenario.rematerialisation != "none":
            wanted = f"rematerialisation {scenario.rematerialisation!r} is of a transformer's layers"
            raise InputError(f"{wanted}: {model.name} has none of them, use none")
        found = list(convolution.operations(model, replace(scenario, phase="encode"), precision))
    else:
        found = _with_dropout(model, teacher_forced(_split(model, scenario), scenario, precision))
    return _versioned([*found, _loss(found[-1])])


# ---- forward ---------------------------------------------------------------------------------------------------------


def _split(model: Model, scenario: Scenario) -> Model:
    """Return the model with every layer group in two: layers that are rematerialised, and those that are not."""
    share = scenario.rematerialised
    if scenario.rematerialisation == "none" or (type(share) in (int, float) and share == 1.0):
        return model

    def both(layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
        parts = (share, 1.0 - share)
        return tuple(replace(one, count=one.count * part) for one in layers for part in parts)

    return replace(model, encoder=both(model.encoder), decoder=both(model.decoder))


def rematerialisation_of(place: str, scenario: Scenario) -> str:
    """Say how a place is rematerialised; only layers are, and of groups in two the first."""
    head, _, index = place.rpartition(" ")
    if not head.endswith("layer group"):
        return "none"
    share = scenario.rematerialised
    whole = type(share) in (int, float) and share == 1.0
    return scenario.rematerialisation if whole or int(index) % 2 == 0 else "none"


def _with_dropout(model: Model, found: list[Operation]) -> list[Operation]:
    """Put dropout where GPT-2 and BERT have it: after the embedding, on the probabilities, before each residual addition."""
    if is_zero(model.dropout):
        return found
    result: list[Operation] = []
    for index, one in enumerate(found):
        if one.name.endswith("residual") and one.reads[0].name == "projected":
            result.append(_dropout(one, one.reads[0], one.name.replace("residual", "dropout")))
        result.append(one)
        last_of_front = one.group == "embedding" and found[index + 1].group != "embedding"
        if last_of_front or _is_softmax(one):
            result.append(_dropout(one, one.writes[0], f"{one.name} dropout"))
    return result


def _dropout(beside: Operation, tensor: Tensor, name: str) -> Operation:
    mask = replace(tensor, name=f"{name} mask", format=MASK, kept=False)
    return Operation(
        name=name,
        kind="vector",
        group=beside.group,
        count=beside.count,
        place=beside.place,
        functions={"dropout": tensor.elements},
        reads=(tensor,),
        writes=(tensor, mask),
        fusable=True,
    )


def _is_softmax(operation: Operation) -> bool:
    return operation.kind == "vector" and any(tensor.role == "scores" for tensor in operation.writes)


def _loss(last: Operation) -> Operation:
    """Cross-entropy over what the last operation gives; its derivative reads the probabilities, which are kept in fp32."""
    logits = last.writes[0]
    return Operation(
        name="loss",
        kind="vector",
        group="head",
        place="loss",
        functions={"softmax": logits.elements},
        reads=(logits,),
        writes=(replace(logits, name="loss", format=_FP32, kept=False),),
        fusable=True,
    )


def _versioned(found: Iterable[Operation]) -> list[Operation]:
    """Return operations whose tensors are named once: a name that is written again gets a number.

    Keys and values that are read from the cache elsewhere are those that were just made.
    """
    latest: dict[str, int] = {}

    def named(tensor: Tensor, place: str) -> Tensor:
        name = tensor.name
        if tensor.role == "weight":
            return tensor
        if name not in latest and f"{name}-new" in latest:
            name = f"{name}-new"
        if name not in latest:
            return tensor if name in GIVEN or name in _LAYER_INPUTS else replace(tensor, name=f"{place} {name}")
        return replace(tensor, name=f"{name}.{latest[name]}")

    result: list[Operation] = []
    for one in found:
        reads = tuple(named(tensor, one.place) for tensor in one.reads)
        for tensor in one.writes:
            latest[tensor.name] = latest.get(tensor.name, 0) + 1
        writes = tuple(named(tensor, one.place) for tensor in one.writes)
        result.append(replace(one, reads=reads, writes=writes))
    return result


def _reversed_places(forward: Sequence[Operation]) -> list[tuple[str, list[Operation]]]:
    """Return the forward pass by place, the last first."""
    return [(place, list(group)) for place, group in groupby(forward, key=lambda one: one.place)][::-1]


# ---- what backward reads -----------------------------------------------------------------------------------------------


def saved_tensors(model: Model, scenario: Scenario, precision: Precision) -> tuple[Saved, ...]:
    """Return every tensor that the backward pass reads, each once, as if nothing were computed again.

    Scores and probabilities are whole matrices, masked part included, as kernels that keep them do.
    """
    forward = forward_operations(model, scenario, training_precision(precision))
    made: dict[str, str] = {}
    found: dict[str, Saved] = {}
    share: Count = 1.0
    for one in forward:
        made |= {tensor.name: one.place for tensor in one.writes}
        if one.kind == "attention":
            share = one.products[0].share
        for tensor in read_by_backward(one):
            core = tensor.role == "scores"
            outside = tensor.name.partition(".")[0] in _LAYER_INPUTS and made.get(tensor.name) != one.place
            saved = Saved(
                name=tensor.name,
                place=one.place,
                count=1.0 if tensor.name == "encoded" else one.count,
                bytes=tensor.bytes / share if core else tensor.bytes,
                core=core,
                made_here=not outside,
            )
            found.setdefault(tensor.name, saved)
    return tuple(found.values())


def convolution_saved_bytes(model: ConvolutionalModel, scenario: Scenario, precision: Precision) -> Bytes:
    """Return the bytes of activations that a convolutional network keeps for its backward pass.

        Σ layers batch · (image + batch-norm inputs + results of ReLU + results of pooling + 8-byte indices of their maxima)

    A ReLU works in place, its result is the next convolution's input. Pooling down to one pixel is an average, without indices.
    """
    form = training_precision(precision).stream.bytes_per_value
    first = model.layers[0]
    elements = first.input_size**2 * first.inputs
    indices: Count = 0.0
    for layer in model.layers:
        inputs, outputs = layer.input_size**2 * layer.inputs, layer.output_size**2 * layer.outputs
        kept = 2 * inputs * layer.input_norm + outputs * layer.batch_norm + outputs * layer.activation
        pooled = layer.pooled_size**2 * layer.outputs
        elements = elements + layer.count * (kept + pooled)
        indices = indices + layer.count * (pooled if layer.pooled_size > 1 else 0.0)
    return scenario.batch * (elements * form + indices * 8.0)


# ---- computed again ----------------------------------------------------------------------------------------------------


def _computed_again(group: list[Operation], mode: str) -> list[Operation]:
    """Return what is computed again of a layer: all of it, or from scores to values."""
    if mode == "none":
        return []
    chosen = group if mode == "full" else _core(group)
    made = {tensor.name for one in chosen for tensor in one.writes}

    def renamed(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(replace(one, name=again_name(one.name), kept=False) if one.name in made else one for one in tensors)

    place = f"{group[0].place} backward"
    return [
        replace(one, name=f"{one.name} again", place=place, reads=renamed(one.reads), writes=renamed(one.writes)) for one in chosen
    ]


def _core(group: list[Operation]) -> list[Operation]:
    """Return scores, softmax and dropout; the product with the values, whose result is kept, counts with that of the scores."""
    core: list[Operation] = []
    scores = 0
    for one in group:
        if one.kind == "attention" and one.reads[0].role == "scores":
            core[scores] = replace(core[scores], products=core[scores].products + one.products)
        elif any(tensor.role == "scores" for tensor in one.tensors):
            scores = len(core) if one.products else scores
            core.append(one)
    return core


def _core_in_turn(again: list[Operation], backward: list[Operation]) -> list[Operation]:
    """Return a backward pass with scores and probabilities computed again just before the operation that first reads them."""
    cores: list[list[Operation]] = []
    for one in again:
        if one.products:
            cores.append([replace(one, name=one.name.replace("again", "again and backward"))])
        else:
            cores[-1].append(one)
    found: list[Operation] = []
    for one in backward:
        reads = {tensor.name for tensor in one.reads}
        if cores and any(tensor.name in reads for part in cores[-1] for tensor in part.writes):
            found += cores.pop()
        found.append(one)
    return found
