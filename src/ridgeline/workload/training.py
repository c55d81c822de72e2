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
from ridgeline.results import Operation, Product, Tensor
from ridgeline.specs.model import ConvolutionalModel, Layer, Model
from ridgeline.specs.number_format import FORMATS, NumberFormat
from ridgeline.specs.precision import Precision
from ridgeline.specs.scenario import Scenario
from ridgeline.specs.training import Optimizer, optimizer_of
from ridgeline.workload import convolution
from ridgeline.workload.parameters import parameters
from ridgeline.workload.transformer import teacher_forced

_MASK = FORMATS["int8"]
_FP32 = FORMATS["fp32"]
# What the derivative of a function reads: its inputs, its results, or neither.
_READS_INPUT = frozenset(
    {"rms-norm", "layer-norm", "batch-norm", "gelu", "gelu-tanh", "silu", "relu-squared", "softcap", "multiply", "gated-delta"}
)
_READS_OUTPUT = frozenset({"relu", "sigmoid", "tanh", "softmax"})
_ONCE = frozenset({"residual", "bias", "gather", "dropout", "pool", "rotary", "top-k"})  # backward costs as much as forward, others twice
_GIVEN = frozenset({"pixels", "spectrogram", "image"})  # what comes from outside has no gradient
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


class Shape(NamedTuple):
    """Weight matrices of one shape."""

    rows: Count
    columns: Count
    count: Count


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
    gradients = _Gradients(precision)
    for place, group in _reversed_places(forward):
        mode = rematerialisation_of(place, scenario)
        repeated = _computed_again(group, mode)
        names = {tensor.name for one in repeated for tensor in one.writes}
        passed = _backward(group, gradients, names)
        if optimizer.second_backward:
            passed = [replace(one, count=2 * one.count) for one in passed]
        again += repeated
        backward += passed
        order += _core_in_turn(repeated, passed) if mode == "selective" else [*repeated, *passed]
    update = _update(model, scenario, precision, optimizer)
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
            raise InputError(f"rematerialisation {scenario.rematerialisation!r} is of a transformer's layers: {model.name} has none of them")
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
        return tuple(part for one in layers for part in (replace(one, count=one.count * share), replace(one, count=one.count * (1.0 - share))))

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
    mask = replace(tensor, name=f"{name} mask", format=_MASK, kept=False)
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
            return tensor if name in _GIVEN or name in _LAYER_INPUTS else replace(tensor, name=f"{place} {name}")
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


def read_by_backward(operation: Operation) -> tuple[Tensor, ...]:
    """Return the tensors of an operation that its derivative reads: the inputs of products, what functions' derivatives take, masks.

    A sum passes its gradient on and reads nothing; nor do rotary embeddings and look-ups, whose angles and indices are small.
    """
    inputs = tuple(tensor for tensor in operation.reads if tensor.role != "weight")
    masks = tuple(tensor for tensor in operation.writes if tensor.format is _MASK)
    if operation.products:
        return inputs if operation.kind == "attention" else inputs[:1]
    functions = operation.functions.keys()
    if functions & _READS_INPUT or (len(inputs) > 1 and not functions & _ONCE):
        found = inputs
    elif functions & _READS_OUTPUT:
        found = operation.writes
    else:
        found = ()
    return found + masks


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
        return tuple(replace(one, name=_again(one.name), kept=False) if one.name in made else one for one in tensors)

    place = f"{group[0].place} backward"
    return [
        replace(one, name=f"{one.name} again", place=place, reads=renamed(one.reads), writes=renamed(one.writes)) for one in chosen
    ]


def _core(group: list[Operation]) -> list[Operation]:
    """Return scores, softmax and dropout; the product with the values, whose result is kept, adds its FLOPs to that of the scores."""
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


def _again(name: str) -> str:
    return f"again {name}"


# ---- backward ----------------------------------------------------------------------------------------------------------


class _Gradients:
    """Which tensor holds the gradient of a tensor of the forward pass so far."""

    def __init__(self, precision: Precision) -> None:
        self.form: NumberFormat = precision.stream
        self.operand: NumberFormat = precision.activations
        self.names: dict[str, str] = {}

    def of(self, tensor: Tensor) -> Tensor:
        """Return the gradient of a tensor, as read."""
        return replace(tensor, name=self.names.get(tensor.name, f"d {tensor.name}"), format=self.form, kept=False)

    def add(self, tensor: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the gradient of a tensor as written, and what it is added to where something is there already."""
        before = (self.of(tensor),) if tensor.name in self.names else ()
        self.names[tensor.name] = f"d {tensor.name}"
        return replace(tensor, name=f"d {tensor.name}", format=self.form, kept=False), before


def _backward(group: list[Operation], gradients: _Gradients, again: set[str]) -> list[Operation]:
    """Return the backward pass of one place, last operation first; `again` are tensors that were computed again."""
    found: list[Operation] = []
    for siblings in reversed(_siblings(group)):
        lead = siblings[0]
        if "residual" in lead.functions and not lead.functions.keys() - {"residual"}:
            found += _pass_on(lead, gradients)
        elif lead.products:
            found.append(_of_products(siblings, gradients, again))
        else:
            found.append(_of_function(lead, gradients, again))
    return found


def _siblings(group: list[Operation]) -> list[list[Operation]]:
    """Return operations with products of weights that read the same input together: their gradients by it are one sum."""
    found: list[list[Operation]] = []
    for one in group:
        last = found[-1][0] if found else None
        alike = last is not None and one.kind == last.kind == "matmul" and one.reads[0].name == last.reads[0].name
        if alike:
            found[-1].append(one)
        else:
            found.append([one])
    return found


def _pass_on(operation: Operation, gradients: _Gradients) -> list[Operation]:
    """Let the gradient of a sum be that of each of its terms: nothing is computed, unless a term has a gradient already."""
    (total,) = operation.writes
    found: list[Operation] = []
    for term in operation.reads:
        if term.name in gradients.names:
            found.append(_sum(operation, term, gradients))
        else:
            gradients.names[term.name] = gradients.of(total).name
    return found


def _sum(operation: Operation, term: Tensor, gradients: _Gradients) -> Operation:
    passed = gradients.of(operation.writes[0])
    target, before = gradients.add(term)
    return _made(operation, "vector", (), {"residual": term.elements}, (passed, *before), (target,))


def _of_products(siblings: list[Operation], gradients: _Gradients, again: set[str]) -> Operation:
    """Return both gradients of products: by the input (or first operand), and by the weights (or second operand)."""
    lead = siblings[0]
    between = lead.kind == "attention"
    reads = [gradients.of(one.writes[0]) for one in siblings]
    given = lead.reads[0].name.partition(".")[0] in _GIVEN and "." not in lead.reads[0].name
    products: list[Product] = []
    functions: dict[str, Count] = {}
    for one in siblings:
        for product in one.products:
            products += [] if given else [replace(product, n=product.k, k=product.n, window=None)]
            formats = product.formats if between else (gradients.operand, gradients.operand)
            products.append(replace(product, m=product.n if between else product.k, n=product.k if between else product.n, k=product.m, window=None, formats=formats))
        for name, count in _derivative(one.functions).items():
            functions[name] = functions.get(name, 0.0) + count
        reads += [tensor for tensor in one.reads[1:] if tensor.role == "weight" and not tensor.name.endswith("bias")]
    reads += [_named_again(tensor, again) for tensor in read_by_backward(lead)]
    writes = [replace(t, format=gradients.form, name=f"d {t.name}") for one in siblings for t in one.reads if t.role == "weight"]
    for operand in () if given else (lead.reads[0], *(lead.reads[1:] if between else ())):
        target, before = gradients.add(operand)
        writes.append(target)
        reads += before
        if before:
            functions["residual"] = functions.get("residual", 0.0) + operand.elements
    made = _made(lead, "attention" if between else "matmul", tuple(products), functions, tuple(reads), tuple(writes))
    return replace(made, name=" + ".join(one.name for one in siblings) + " backward", fusable=False)


def _of_function(operation: Operation, gradients: _Gradients, again: set[str]) -> Operation:
    """Return the backward pass of a function: it reads the gradients of its results and what its derivative takes."""
    functions = _derivative(operation.functions)
    reads = [gradients.of(tensor) for tensor in operation.writes if tensor.format is not _MASK] if operation.name != "loss" else []
    reads += [_named_again(tensor, again) for tensor in read_by_backward(operation)]
    writes: list[Tensor] = []
    for tensor in operation.reads:
        if tensor.role == "weight":
            writes.append(replace(tensor, name=f"d {tensor.name}", format=gradients.form))
            continue
        target, before = gradients.add(tensor)
        reads += before
        writes.append(target)
        if before:
            functions["residual"] = functions.get("residual", 0.0) + tensor.elements
    return _made(operation, operation.kind, (), functions, tuple(reads), tuple(writes))


def _made(
    operation: Operation,
    kind: str,
    products: tuple[Product, ...],
    functions: dict[str, Count],
    reads: tuple[Tensor, ...],
    writes: tuple[Tensor, ...],
) -> Operation:
    return replace(
        operation,
        name=f"{operation.name} backward",
        kind=kind,
        products=products,
        functions=functions,
        reads=reads,
        writes=writes,
        place=f"{operation.place} backward",
        fusable=not products and kind != "gather",
    )


def _derivative(functions: object) -> dict[str, Count]:
    """Return the operations of functions' derivatives: twice theirs, as for products; once for sums, masks and look-ups."""
    return {name: (1.0 if name in _ONCE else 2.0) * count for name, count in dict(functions).items()}  # pyright: ignore


def _named_again(tensor: Tensor, again: set[str]) -> Tensor:
    return replace(tensor, name=_again(tensor.name)) if _again(tensor.name) in again else tensor


# ---- optimizer ---------------------------------------------------------------------------------------------------------


def weight_shapes(model: Model | ConvolutionalModel) -> tuple[Shape, ...]:
    """Return the weight matrices of a model by shape; norms, biases and tables of positions are none.

    >>> from ridgeline.specs.model import FeedForward
    >>> layer = Layer(count=2, feed_forward=FeedForward(width=256), norms=1)
    >>> weight_shapes(Model(name="small", hidden=64, vocabulary=100, tied=True, decoder=(layer,)))[1:]
    (Shape(rows=64, columns=256, count=2.0), Shape(rows=256, columns=64, count=2.0))
    """
    many = Scenario(phase="train", batch=1e9, prompt=1.0)  # enough tokens to visit every expert
    precision = Precision.parse("bf16")
    if isinstance(model, ConvolutionalModel):
        found = list(convolution.operations(model, replace(many, phase="encode"), precision))
        tables: tuple[Shape, ...] = ()
    else:
        found = teacher_forced(model, many, precision)
        width = model.hidden if model.embedding_size is None else model.embedding_size
        tables = (Shape(model.vocabulary, width, 1.0),) if model.vocabulary else ()
        found = [one for one in found if not (model.tied and one.name == "head")]
    return tables + tuple(
        Shape(product.k, product.n, product.batch * one.count)
        for one in found
        if any(tensor.role == "weight" for tensor in one.reads)
        for product in one.products
    )


def optimizer_values(model: Model | ConvolutionalModel, optimizer: Optimizer) -> Count:
    """Return the fp32 values that an optimizer keeps beside the weights, temporary ones included.

        momentum: P   Adam: 2·P   AdaHessian: 2·P and, while it computes, 2·P
        Adafactor: Σ matrices (rows + columns) + vectors          [shazeer2018adafactor] §3, row and column sums of the second moment
        Shampoo:   Σ matrices (rows² + columns²) + vectors        [gupta2018shampoo] algorithm 1, the factors L and R

    A convolution is the matrix that its product is, an expert a matrix of its own. Vectors and tables of positions keep a value a
    parameter; Shampoo's inverse roots, taken once in many steps, are not counted.

    >>> from ridgeline.specs.model import FeedForward
    >>> model = Model(name="small", hidden=3, vocabulary=0, decoder=(Layer(count=1, feed_forward=FeedForward(width=4), norms=0),))
    >>> model = replace(model, final_norm=False, head="none")
    >>> optimizer_values(model, optimizer_of("adafactor")), optimizer_values(model, optimizer_of("shampoo"))  # twice 3 + 4, 9 + 16
    (14.0, 50.0)
    """
    whole = parameters(model).total
    found = whole * (optimizer.values + optimizer.temporary)
    if not (optimizer.factored or optimizer.kronecker):
        return found
    rest = whole
    for shape in weight_shapes(model):
        rest = rest - shape.count * shape.rows * shape.columns
        each = shape.rows + shape.columns if optimizer.factored else shape.rows**2 + shape.columns**2
        found = found + shape.count * each
    return found + rest


def _update(model: Model | ConvolutionalModel, scenario: Scenario, precision: Precision, optimizer: Optimizer) -> Operation:
    """Return the optimizer's step over this rank's share of the parameters: weights, gradients and states read, all but those written."""
    share = 1.0 / scenario.data_ranks if scenario.zero >= 1 else 1.0
    own = parameters(model).total * share
    states = optimizer_values(model, optimizer) * share
    gradient = Tensor(name="gradients", role="state", elements=own, format=precision.stream)
    master = Tensor(name="weights", role="state", elements=own, format=_FP32)
    state = Tensor(name="optimizer states", role="state", elements=states, format=_FP32)
    mixed = precision.weights.bits < _FP32.bits
    copy = (Tensor(name="weights to compute with", role="state", elements=own, format=precision.weights),) if mixed else ()
    return Operation(
        name="optimizer step",
        kind="vector",
        group="optimizer",
        place="optimizer",
        products=_preconditioned(model, share) if optimizer.kronecker else (),
        functions={"optimizer": own * optimizer.operations},
        reads=(gradient, master, state),
        writes=(master, state, *copy),
    )


def _preconditioned(model: Model | ConvolutionalModel, share: Count) -> tuple[Product, ...]:
    """Return Shampoo's products: both statistics and both sides of the update."""
    found: list[Product] = []
    for shape in weight_shapes(model):
        m, n, count = shape.rows, shape.columns, shape.count * share
        for rows, columns, depth in ((m, m, n), (n, n, m), (m, n, m), (m, n, n)):
            found.append(Product(batch=count, m=rows, n=columns, k=depth, formats=(_FP32, _FP32)))
    return tuple(found)
