"""Optimizers as published: what each keeps for a parameter, and what its update computes."""

from dataclasses import dataclass
from typing import Literal

from ridgeline.errors import InputError, nearest

OptimizerName = Literal["sgd", "momentum", "adam", "adafactor", "adahessian", "shampoo"]
Rematerialisation = Literal["none", "selective", "full"]
ZeroStage = Literal[0, 1, 2, 3]


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """The state and the update of an optimizer; its own values are in fp32.

    `factored` keeps row and column sums of a matrix's second moment instead of the moment; `kronecker` the two Kronecker factors
    of a matrix's preconditioner. Vectors (norms, biases) and small tables keep one full value a parameter under either.
    """

    name: OptimizerName
    title: str
    source: str
    values: float  # kept for every parameter from step to step
    temporary: float = 0.0  # values a parameter that live only while the step computes them
    operations: float  # elementary operations of the update, a parameter
    factored: bool = False
    kronecker: bool = False
    second_backward: bool = False  # one more backward pass a step, for a product with the Hessian


# Operations counted from the published update, a parameter: w ← w − ηg; u ← μu + g, w ← w − ηu; Adam's algorithm 1 (averages 3 + 4,
# two corrections, root, ε, quotient, η·m, subtraction); Adafactor's algorithm 4 (g² + ε, two sums, R·C, root, quotient, clipping by
# the root mean square, η, subtraction); AdaHessian as Adam, with z ∘ Hz and its average instead of g; Shampoo's subtraction, its
# products apart.
OPTIMIZERS: dict[str, Optimizer] = {
    one.name: one
    for one in (
        Optimizer(name="sgd", title="stochastic gradient descent", source="sutskever2013momentum", values=0, operations=2),
        Optimizer(name="momentum", title="SGD with momentum", source="sutskever2013momentum", values=1, operations=4),
        Optimizer(name="adam", title="Adam", source="kingma2014adam", values=2, operations=14),
        Optimizer(
            name="adafactor",
            title="Adafactor without momentum",
            source="shazeer2018adafactor",
            values=0,
            operations=12,
            factored=True,
        ),
        Optimizer(
            name="adahessian",
            title="AdaHessian",
            source="yao2020adahessian",
            values=2,
            temporary=2,  # the random vector z and the diagonal z ∘ Hz
            operations=16,
            second_backward=True,
        ),
        Optimizer(name="shampoo", title="Shampoo", source="gupta2018shampoo", values=0, operations=2, kronecker=True),
    )
}


def optimizer_of(name: str) -> Optimizer:
    """Return an optimizer by name.

    >>> optimizer_of("adam").values
    2
    """
    if name not in OPTIMIZERS:
        raise InputError(f"unknown optimizer {name!r}: {nearest(name, OPTIMIZERS)}")
    return OPTIMIZERS[name]
