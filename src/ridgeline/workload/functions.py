"""Vector functions: how many elementary operations an element takes, and of which sort.

The default counts are those of a straightforward kernel in fp32; a reciprocal, a square root or an exponential is one special
function. A counting convention may replace them.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class VectorFunction:
    """Elementary operations an element: lane operations (add, multiply, compare) and special functions."""

    lane: float
    special: float = 0.0
    row_wise: bool = False  # needs a whole row before its first result
    passes: float = 1.0  # over the data, where no unit holds a row

    @property
    def operations(self) -> float:
        """All elementary operations of an element."""
        return self.lane + self.special


FUNCTIONS: dict[str, VectorFunction] = {
    "rms-norm": VectorFunction(4, row_wise=True, passes=2),  # square, add; scale by 1/rms, by gamma
    "layer-norm": VectorFunction(7, row_wise=True, passes=3),  # add; subtract, square, add; scale, gamma, beta
    "softmax": VectorFunction(4, 1, row_wise=True, passes=3),  # scale, maximum, subtract, exponential, add (and one division a row)
    "residual": VectorFunction(1),
    "bias": VectorFunction(1),
    "rotary": VectorFunction(3),  # two multiplies and an add
    "multiply": VectorFunction(1),
    "relu": VectorFunction(1),
    "relu-squared": VectorFunction(2),
    "gelu": VectorFunction(4, 1),  # x·½·(1 + erf(x/√2))
    "gelu-tanh": VectorFunction(8, 1),  # x·½·(1 + tanh(√(2/π)·(x + 0.044715·x³)))
    "silu": VectorFunction(3, 1),  # x / (1 + exp(−x))
    "sigmoid": VectorFunction(2, 1),
    "tanh": VectorFunction(2, 1),
    "softcap": VectorFunction(2, 1),
    "top-k": VectorFunction(1, row_wise=True),  # one comparison a score
    "gather": VectorFunction(0),
    "pool": VectorFunction(1),
    "batch-norm": VectorFunction(2),
    "dropout": VectorFunction(2),  # compare, scale; drawing the random numbers is left out
    "optimizer": VectorFunction(1),  # one elementary operation of an update
    "gated-delta": VectorFunction(1),  # one elementary operation of the recurrence over the state
}
