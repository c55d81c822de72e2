"""Convolutional networks as operations: each convolution as the matrix product it is, and what follows it."""

from dataclasses import dataclass

from ridgeline.arrays import is_zero
from ridgeline.errors import InputError
from ridgeline.quantities import Count
from ridgeline.results import Operation, Product, Tensor, Window
from ridgeline.specs.model import Convolution, ConvolutionalModel
from ridgeline.specs.number_format import NumberFormat
from ridgeline.specs.precision import Precision
from ridgeline.specs.scenario import Scenario


@dataclass(frozen=True, kw_only=True, eq=False)
class _Frame:
    batch: Count
    precision: Precision

    @property
    def wide(self) -> NumberFormat:
        return self.precision.stream

    def activation(self, name: str, elements: Count, *, wide: bool = False, kept: bool = False) -> Tensor:
        form = self.wide if wide else self.precision.activations
        return Tensor(name=name, role="activation", elements=elements, format=form, kept=kept)


def operations(model: ConvolutionalModel, scenario: Scenario, precision: Precision) -> tuple[Operation, ...]:
    """Return the operations of one forward pass over `scenario.batch` images.

    Raises `InputError` for any phase but `encode`.
    """
    if scenario.phase != "encode":
        raise InputError(f"{model.name} is a convolutional network: it has no phase {scenario.phase!r}, use `encode`")
    frame = _Frame(batch=scenario.batch, precision=precision)
    return tuple(one for layer in model.layers for one in layer_operations(frame, layer))


def layer_operations(frame: _Frame, layer: Convolution) -> list[Operation]:
    """Return a convolution and what follows it: norm, residual addition, activation, pooling; a norm before it where it has one."""
    outputs = frame.batch * layer.output_size**2 * layer.outputs
    found = [*_input_norm(frame, layer), convolution(frame, layer)]
    source = frame.activation("image", outputs, wide=True)
    if layer.batch_norm:
        weight = Tensor(name="batch norm", role="weight", elements=2 * layer.outputs, format=frame.wide)
        found.append(_vector(layer, "batch norm", "batch-norm", outputs, (source, weight), source))
    if layer.residual:
        other = frame.activation("shortcut", outputs, wide=True)
        found.append(_vector(layer, "residual", "residual", outputs, (source, other), source))
    if layer.activation:
        found.append(_vector(layer, "relu", "relu", outputs, (source,), source))
    if not is_zero(layer.pool_size):
        pooled = frame.batch * layer.pooled_size**2 * layer.outputs
        target = frame.activation("image", pooled, wide=True)
        found.append(_vector(layer, "pool", "pool", pooled * layer.pool_size**2, (source,), target))
    return found


def _input_norm(frame: _Frame, layer: Convolution) -> list[Operation]:
    if not layer.input_norm:
        return []
    inputs = frame.batch * layer.input_size**2 * layer.inputs
    source = frame.activation("image", inputs, wide=True)
    weight = Tensor(name="input norm", role="weight", elements=2 * layer.inputs, format=frame.wide)
    return [
        _vector(layer, "input norm", "batch-norm", inputs, (source, weight), source),
        _vector(layer, "input relu", "relu", inputs, (source,), source),
    ]


def convolution(frame: _Frame, layer: Convolution) -> Operation:
    """Return a convolution as the product of images' patches with filters.

        m = batch · output², n = outputs / groups, k = kernel² · inputs / groups, once a group
        FLOPs = 2 · batch · output² · outputs · kernel² · inputs / groups   [sze2017survey, §III]

    The input crosses once, not once a patch.
    """
    form = frame.precision.weights
    kernel = layer.kernel**2 * layer.inputs / layer.groups
    weights = Tensor(name="filters", role="weight", elements=kernel * layer.outputs, format=form)
    reads = [frame.activation("image", frame.batch * layer.input_size**2 * layer.inputs), weights]
    if layer.bias:
        reads.append(Tensor(name="bias", role="weight", elements=layer.outputs, format=frame.wide))
    rows = frame.batch * layer.output_size**2
    window = Window(layer.output_size, layer.output_size, layer.kernel, layer.kernel, layer.stride)
    product = Product(
        window=window,
        zeros=layer.input_zeros,
        output_zeros=layer.output_zeros,
        batch=layer.groups,
        m=rows,
        n=layer.outputs / layer.groups,
        k=kernel,
        formats=(form, frame.precision.activations),
    )
    return Operation(
        name=layer.name,
        kind="convolution",
        group="convolution",
        count=layer.count,
        place=layer.name,
        products=(product,),
        functions={"bias": rows * layer.outputs} if layer.bias else {},
        reads=tuple(reads),
        writes=(frame.activation("image", rows * layer.outputs, wide=True, kept=layer.shortcut),),
    )


def _vector(layer: Convolution, name: str, function: str, elements: Count, reads: tuple[Tensor, ...], target: Tensor) -> Operation:
    return Operation(
        name=f"{layer.name} {name}",
        kind="vector",
        group=function,
        count=layer.count,
        place=layer.name,
        functions={function: elements},
        reads=reads,
        writes=(target,),
        fusable=True,
    )
