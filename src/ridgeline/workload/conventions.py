"""Ways of counting, as named objects: the default, the survey's, and PyTorch's FLOP counter.

The operations of a step are the same under every convention; a convention says which of them count, how much arithmetic a product
and a function are, and how many elements cross memory.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from ridgeline.arrays import is_zero
from ridgeline.errors import InputError, nearest
from ridgeline.quantities import Bytes, Count, Flops, FlopsPerByte
from ridgeline.results import Operation, Product
from ridgeline.specs.model import ConvolutionalModel, Model
from ridgeline.specs.precision import Precision
from ridgeline.specs.scenario import LatentForm, Scenario
from ridgeline.workload import convolution, transformer
from ridgeline.workload.functions import FUNCTIONS


@dataclass(frozen=True, kw_only=True)
class Convention:
    """How a source counts; the defaults are Ridgeline's own way."""

    name: str
    title: str
    causal: bool = True  # a causal mask and a window count only the pairs that attend
    element: float | None = None  # bytes of every element; None: those of its number format
    counted_groups: Mapping[str, str] | None = None  # operation group → printed class; None: every group under its own name
    counts_functions: bool = True
    chain: bool = False  # activation-to-activation products count k multiplications and k − 1 additions
    operations: Mapping[str, float] | None = None  # elementary operations an element, by function; None: `FUNCTIONS`
    moved: Mapping[str, float] = field(
        default_factory=dict[str, float]
    )  # elements moved an element, by function; else as the tensors say
    scores_moved: float | None = None  # how often the scores cross memory in the two products of attention
    counts_bias: bool = True
    head_tokens: Literal["last", "all"] | None = None
    latent: LatentForm | None = None
    average_step: bool = False  # generation of l tokens is l decode steps at a context of l / 2


# The survey (arXiv:2302.14017, tables 3, 10 and 11) counts one byte an element, full attention, and neither embedding nor head. Its
# operation counts for "other" fix only sums: 58 a hidden element and layer with a feed-forward four times as wide, here 8 for
# LayerNorm, 1 for a residual addition, 10 for GELU; 4 a score for softmax. Elements moved likewise: 9 a hidden element and layer
# for two norms and two residual additions in the encoder, 14 in the decoder, where gamma and beta are read again for every token.
_CLASSES = {
    "projections": "projections",
    "attention": "attention",
    "cache": "attention",
    "feed-forward": "feed-forward",
    "other": "other",
}
_SURVEY_OPERATIONS = {"layer-norm": 8.0, "residual": 1.0, "gelu": 10.0, "gelu-tanh": 10.0, "relu": 1.0, "softmax": 4.0}
RIDGELINE = Convention(name="ridgeline", title="what a careful implementation does")
SURVEY_ENCODER = Convention(
    name="survey-encoder",
    title="arXiv:2302.14017, encoders (tables 3 and 10)",
    causal=False,
    element=1.0,
    counted_groups=_CLASSES,
    chain=True,
    operations=_SURVEY_OPERATIONS,
    moved={"layer-norm": 1.5, "residual": 3.0},
    counts_bias=False,
)
SURVEY_DECODER = replace(
    SURVEY_ENCODER,
    name="survey-decoder",
    title="arXiv:2302.14017, decoders (table 11): l tokens one by one, s = l² / 2",
    chain=False,
    moved={"layer-norm": 2.0, "residual": 3.0},
    scores_moved=0.5,
    average_step=True,
)
# The counter sees the products that transformers 5.23 calls with eager attention: scores of every query with every key that the
# cache hands out (of a sliding window it keeps window − 1 tokens), logits of all tokens, and keys and values of latent attention
# expanded from the cached latents anew in every step. Rotary angles are elementwise there, so they do not count.
PYTORCH = Convention(
    name="pytorch",
    title="torch.utils.flop_counter on eager attention: products only, causal masks counted full",
    causal=False,
    counts_functions=False,
    head_tokens="all",
    latent="expanded",
)
CONVENTIONS: dict[str, Convention] = {one.name: one for one in (RIDGELINE, SURVEY_ENCODER, SURVEY_DECODER, PYTORCH)}


def convention(name: str) -> Convention:
    """Return a convention by name.

    >>> convention("pytorch").counts_functions
    False
    """
    if name not in CONVENTIONS:
        raise InputError(f"unknown counting convention {name!r}: {nearest(name, CONVENTIONS)}")
    return CONVENTIONS[name]


@dataclass(frozen=True, kw_only=True, eq=False)
class GroupCount:
    """Arithmetic and traffic of one class of operations."""

    flops: Flops = 0.0
    bytes: Bytes = 0.0

    @property
    def intensity(self) -> FlopsPerByte:
        """FLOPs per byte."""
        return self.flops / self.bytes

    def plus(self, flops: Flops, bytes: Bytes) -> "GroupCount":
        """Return the counts with more added."""
        return GroupCount(flops=self.flops + flops, bytes=self.bytes + bytes)


@dataclass(frozen=True, kw_only=True, eq=False)
class Counts:
    """Counts of a step by class."""

    convention: Convention
    groups: Mapping[str, GroupCount]

    @property
    def total(self) -> GroupCount:
        """All classes together."""
        whole = GroupCount()
        for one in self.groups.values():
            whole = whole.plus(one.flops, one.bytes)
        return whole


def count(model: Model | ConvolutionalModel, scenario: Scenario, precision: Precision, how: Convention) -> Counts:
    """Count a step's operations and bytes by a convention.

    Under a convention with `average_step`, the scenario's `output` tokens (else its prompt) are generated one by one.
    """
    steps: Count = 1.0
    _check_counts(model, scenario, how)
    if how.average_step:
        steps = scenario.prompt if scenario.phase != "generate" else scenario.output
        scenario = replace(scenario, phase="decode", context=steps / 2, prompt=0.0)
    scenario = replace(scenario, head_tokens=how.head_tokens or scenario.head_tokens, latent=how.latent or scenario.latent)
    if isinstance(model, ConvolutionalModel):
        operations: Sequence[Operation] = convolution.operations(model, scenario, precision)
    else:
        operations = transformer.operations(model, scenario, precision)
    groups: dict[str, GroupCount] = {}
    for operation in operations:
        name = operation.group if how.counted_groups is None else how.counted_groups.get(operation.group)
        if name is None:
            continue
        times = operation.count * steps
        before = groups.get(name, GroupCount())
        groups[name] = before.plus(operation_flops(operation, how) * times, operation_bytes(operation, how) * times)
    return Counts(convention=how, groups=groups)


def _check_counts(model: Model | ConvolutionalModel, scenario: Scenario, how: Convention) -> None:
    """Refuse what a convention does not count, rather than count nothing."""
    if isinstance(model, ConvolutionalModel) and how.counted_groups is not None:
        raise InputError(f"the convention {how.name} counts transformers, and {model.name} is none: use ridgeline or pytorch")
    generated = scenario.output if scenario.phase == "generate" else scenario.prompt
    if how.average_step and is_zero(generated):
        raise InputError(f"the convention {how.name} counts tokens generated one by one: say how many by --prompt, or generate")


def operation_flops(operation: Operation, how: Convention) -> Flops:
    """Return an operation's arithmetic by a convention."""
    found: Flops = 0.0
    for product in operation.products:
        found = found + _product_flops(product, how, operation.group == "attention")
    if not how.counts_functions:
        return found
    for name, elements in operation.functions.items():
        if name == "bias" and not how.counts_bias:
            continue
        weight = FUNCTIONS[name].operations if how.operations is None else how.operations.get(name, 0.0)
        found = found + elements * weight
    return found


def _product_flops(product: Product, how: Convention, between_activations: bool) -> Flops:
    if how.causal:
        return product.flops
    per_output = 2.0 * product.k - 1.0 if how.chain and between_activations else 2.0 * product.k
    return product.batch * product.m * product.n * per_output


def operation_bytes(operation: Operation, how: Convention) -> Bytes:
    """Return the bytes that an operation's tensors move by a convention."""
    if how.element is None:
        return operation.bytes
    found: Bytes = 0.0
    function = next((name for name in operation.functions if name in how.moved), None)
    if function is not None:
        found = how.moved[function] * operation.functions[function]
    for tensor in operation.tensors:
        if tensor.name.endswith(" bias") and not how.counts_bias:
            continue
        if function is not None and tensor.role == "activation":
            continue
        if operation.group == "cache" and tensor.role == "activation":
            continue
        weight = how.scores_moved if tensor.role == "scores" and operation.products and how.scores_moved is not None else 1.0
        found = found + tensor.elements * weight
    return found * how.element
