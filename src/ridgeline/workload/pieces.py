"""What layers are made of: products with a weight matrix, vector functions, norms, residuals, cache appends."""

from dataclasses import dataclass

from ridgeline.quantities import Count
from ridgeline.results import Operation, Product, Tensor
from ridgeline.specs.model import Model
from ridgeline.specs.number_format import NumberFormat
from ridgeline.specs.precision import Precision
from ridgeline.specs.scenario import LatentForm
from ridgeline.workload.tokens import Tokens


@dataclass(frozen=True, kw_only=True, eq=False)
class Frame:
    """What the operations of a layer are made from: the model, the tokens of the step and the number formats."""

    model: Model
    tokens: Tokens
    precision: Precision
    latent: LatentForm
    source: Count = 0.0  # tokens of the encoder that cross-attention reads
    writes_source: bool = False  # whether this step computes the cross-attention's keys and values
    routing_skew: float = 0.0

    @property
    def wide(self) -> NumberFormat:
        """Format of the residual stream, of norms and of products' outputs: at least 16 bits."""
        return self.precision.stream


def activation(frame: Frame, name: str, elements: Count, *, wide: bool = True, kept: bool = False) -> Tensor:
    """Return an activation: `wide` ones are of the residual stream, others are operands of products."""
    form = frame.wide if wide else frame.precision.activations
    return Tensor(name=name, role="activation", elements=elements, format=form, kept=kept)


def weight(elements: Count, form: NumberFormat, name: str = "weight") -> Tensor:
    """Return a weight, read once whatever the number of tokens."""
    return Tensor(name=name, role="weight", elements=elements, format=form)


def linear(
    frame: Frame,
    name: str,
    *,
    inputs: Count,
    outputs: Count,
    source: str,
    target: str,
    group: str = "projections",
    tokens: Count | None = None,
    weights: NumberFormat | None = None,
    bias: bool = False,
) -> Operation:
    """Return a product of `tokens` rows with an inputs × outputs weight matrix."""
    rows = frame.tokens.count if tokens is None else tokens
    form = weights or frame.precision.weights
    reads = [activation(frame, source, rows * inputs, wide=False), weight(inputs * outputs, form, name)]
    if bias:
        reads.append(weight(outputs, frame.wide, name + " bias"))
    return Operation(
        name=name,
        kind="matmul",
        group=group,
        products=(Product(batch=1.0, m=rows, n=outputs, k=inputs, formats=(form, frame.precision.activations)),),
        functions={"bias": rows * outputs} if bias else {},
        reads=tuple(reads),
        writes=(activation(frame, target, rows * outputs),),
    )


def vector(
    frame: Frame,
    name: str,
    function: str,
    elements: Count,
    *,
    sources: tuple[str, ...],
    target: str,
    outputs: Count | None = None,
    weights: Count | None = None,
    kept: bool = False,
) -> Operation:
    """Return an elementwise or row-wise operation over `elements` elements of each of its sources."""
    reads = [activation(frame, source, elements) for source in sources]
    if weights is not None:
        reads.append(weight(weights, frame.wide, name + " weight"))
    return Operation(
        name=name,
        kind="vector",
        group="other",
        functions={function: elements},
        reads=tuple(reads),
        writes=(activation(frame, target, elements if outputs is None else outputs, kept=kept),),
        fusable=True,
    )


def norm(frame: Frame, name: str, *, source: str = "hidden", target: str = "normed", kept: bool = False) -> Operation:
    """Return the model's kind of norm over the hidden vectors."""
    hidden = frame.model.hidden
    layer = frame.model.norm == "layer"
    weights = hidden * 2 if layer and frame.model.norm_bias else hidden
    function = "layer-norm" if layer else "rms-norm"
    return vector(frame, name, function, frame.tokens.count * hidden, sources=(source,), target=target, weights=weights, kept=kept)


def residual(frame: Frame, name: str, source: str) -> Operation:
    """Return the addition to the residual stream, which later layers read again."""
    elements = frame.tokens.count * frame.model.hidden
    return vector(frame, name, "residual", elements, sources=(source, "hidden"), target="hidden", kept=True)


def cache_write(frame: Frame, name: str, sources: tuple[str, ...], elements: Count) -> Operation:
    """Return the append of the new tokens' keys and values to the cache."""
    share = elements / len(sources)
    return Operation(
        name=name,
        kind="append",
        group="cache",
        reads=tuple(activation(frame, source, share) for source in sources),
        writes=(Tensor(name="cache", role="kv", elements=elements, format=frame.precision.kv),),
        fusable=True,
    )
