"""The optimizer's step: the shapes of weight matrices, the values that an optimizer keeps, the operation that updates."""

from dataclasses import replace
from typing import NamedTuple

from ridgeline.quantities import Count
from ridgeline.results import Operation, Product, Tensor
from ridgeline.specs.model import ConvolutionalModel, Model
from ridgeline.specs.number_format import FORMATS
from ridgeline.specs.precision import Precision
from ridgeline.specs.scenario import Scenario
from ridgeline.specs.training import Optimizer
from ridgeline.workload import convolution
from ridgeline.workload.parameters import parameters
from ridgeline.workload.transformer import teacher_forced

_FP32 = FORMATS["fp32"]


class Shape(NamedTuple):
    """Weight matrices of one shape."""

    rows: Count
    columns: Count
    count: Count


def weight_shapes(model: Model | ConvolutionalModel) -> tuple[Shape, ...]:
    """Return the weight matrices of a model by shape; norms, biases and tables of positions are none.

    >>> from ridgeline.specs.model import FeedForward, Layer
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
        Adafactor: Σ matrices (rows + columns) + vectors          [shazeer2018adafactor] §3, sums of the second moment
        Shampoo:   Σ matrices (rows² + columns²) + vectors        [gupta2018shampoo] algorithm 1, the factors L and R

    A convolution is the matrix that its product is, an expert a matrix of its own. Vectors and tables of positions keep a value a
    parameter; Shampoo's inverse roots, taken once in many steps, are not counted.

    >>> from ridgeline.specs.model import FeedForward, Layer
    >>> from ridgeline.specs.training import optimizer_of
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


def update_of(model: Model | ConvolutionalModel, scenario: Scenario, precision: Precision, optimizer: Optimizer) -> Operation:
    """Return the optimizer's step over this rank's share of the parameters.

    Weights, gradients and states are read once, weights and states written; below 32 bits the weights to compute with too.
    """
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
