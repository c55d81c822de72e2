"""The backward pass: what the derivative of an operation reads, and the operations that compute gradients."""

from collections.abc import Mapping
from dataclasses import replace

from ridgeline.quantities import Count
from ridgeline.results import Kind, Operation, Product, Tensor
from ridgeline.specs.number_format import FORMATS, NumberFormat
from ridgeline.specs.precision import Precision

MASK = FORMATS["int8"]  # a value of a dropout mask takes a byte
# What the derivative of a function reads: its inputs, its results, or neither.
_READS_INPUT = frozenset(
    {"rms-norm", "layer-norm", "batch-norm", "gelu", "gelu-tanh", "silu", "relu-squared", "softcap", "multiply", "gated-delta"}
)
_READS_OUTPUT = frozenset({"relu", "sigmoid", "tanh", "softmax"})
# Functions whose derivative computes as much as they do; that of others takes twice as much, as that of products.
_ONCE = frozenset({"residual", "bias", "gather", "dropout", "pool", "rotary", "top-k"})
GIVEN = frozenset({"pixels", "spectrogram", "image"})  # what comes from outside has no gradient


def again_name(name: str) -> str:
    """Return the name of a tensor once it has been computed again."""
    return f"again {name}"


def read_by_backward(operation: Operation) -> tuple[Tensor, ...]:
    """Return the tensors that the derivative of an operation reads: inputs of products, what functions' derivatives take, masks.

    A sum passes its gradient on and reads nothing; nor do rotary embeddings and look-ups, whose angles and indices are small.
    """
    inputs = tuple(tensor for tensor in operation.reads if tensor.role != "weight")
    masks = tuple(tensor for tensor in operation.writes if tensor.format is MASK)
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


class Gradients:
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


def backward_pass(group: list[Operation], gradients: Gradients, again: set[str]) -> list[Operation]:
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


def _pass_on(operation: Operation, gradients: Gradients) -> list[Operation]:
    """Let the gradient of a sum be that of each of its terms: nothing is computed, unless a term has a gradient already."""
    (total,) = operation.writes
    found: list[Operation] = []
    for term in operation.reads:
        if term.name in gradients.names:
            found.append(_sum(operation, term, gradients))
        else:
            gradients.names[term.name] = gradients.of(total).name
    return found


def _sum(operation: Operation, term: Tensor, gradients: Gradients) -> Operation:
    passed = gradients.of(operation.writes[0])
    target, before = gradients.add(term)
    return _made(operation, "vector", {"residual": term.elements}, [passed, *before], [target])


def _of_products(siblings: list[Operation], gradients: Gradients, again: set[str]) -> Operation:
    """Return both gradients of products: by the input (or first operand), and by the weights (or second operand)."""
    lead = siblings[0]
    between = lead.kind == "attention"
    given = "." not in lead.reads[0].name and lead.reads[0].name in GIVEN
    functions: dict[str, Count] = {}
    reads = [gradients.of(one.writes[0]) for one in siblings]
    writes: list[Tensor] = []
    for one in siblings:
        for name, count in _derivative(one.functions).items():
            functions[name] = functions.get(name, 0.0) + count
        weights = [tensor for tensor in one.reads if tensor.role == "weight"]
        reads += [tensor for tensor in weights if not given and not tensor.name.endswith("bias")]
        writes += [replace(tensor, name=f"d {tensor.name}", format=gradients.form) for tensor in weights]
    reads += [_named_again(tensor, again) for tensor in read_by_backward(lead)]
    for operand in () if given else (lead.reads[0], *(lead.reads[1:] if between else ())):
        _accumulate(operand, gradients, reads, writes, functions)
    made = _made(lead, "attention" if between else "matmul", functions, reads, writes)
    products = tuple(
        part for one in siblings for product in one.products for part in _gradients_of(product, between, given, gradients)
    )
    return replace(made, name=" + ".join(one.name for one in siblings) + " backward", products=products, fusable=False)


def _gradients_of(product: Product, between: bool, given: bool, gradients: Gradients) -> tuple[Product, ...]:
    """Return the products that give the gradients by both operands: m × k over n, and n × k (of weights k × n) over m."""
    first = replace(product, n=product.k, k=product.n, window=None)
    if between:
        return first, replace(product, m=product.n, n=product.k, k=product.m, window=None)
    operands = (gradients.operand, gradients.operand)
    second = replace(product, m=product.k, k=product.m, window=None, formats=operands)
    return (second,) if given else (first, second)


def _accumulate(
    tensor: Tensor, gradients: Gradients, reads: list[Tensor], writes: list[Tensor], functions: dict[str, Count]
) -> None:
    """Write the gradient of a tensor; where it has one already, read that and add."""
    target, before = gradients.add(tensor)
    writes.append(target)
    reads += before
    if before:
        functions["residual"] = functions.get("residual", 0.0) + tensor.elements


def _of_function(operation: Operation, gradients: Gradients, again: set[str]) -> Operation:
    """Return the backward pass of a function: it reads the gradients of its results and what its derivative takes."""
    functions = _derivative(operation.functions)
    reads = [gradients.of(tensor) for tensor in operation.writes if tensor.format is not MASK] if operation.name != "loss" else []
    reads += [_named_again(tensor, again) for tensor in read_by_backward(operation)]
    writes: list[Tensor] = []
    for tensor in operation.reads:
        if tensor.role == "weight":
            writes.append(replace(tensor, name=f"d {tensor.name}", format=gradients.form))
            continue
        _accumulate(tensor, gradients, reads, writes, functions)
    return _made(operation, operation.kind, functions, reads, writes)


def _made(operation: Operation, kind: Kind, functions: Mapping[str, Count], reads: list[Tensor], writes: list[Tensor]) -> Operation:
    return replace(
        operation,
        name=f"{operation.name} backward",
        kind=kind,
        products=(),
        functions=functions,
        reads=tuple(reads),
        writes=tuple(writes),
        place=f"{operation.place} backward",
        fusable=kind != "gather",
    )


def _derivative(functions: Mapping[str, Count]) -> dict[str, Count]:
    """Return the operations of functions' derivatives: twice theirs, as for products; once for sums, masks and look-ups."""
    return {name: (1.0 if name in _ONCE else 2.0) * count for name, count in functions.items()}


def _named_again(tensor: Tensor, again: set[str]) -> Tensor:
    return replace(tensor, name=again_name(tensor.name)) if again_name(tensor.name) in again else tensor
