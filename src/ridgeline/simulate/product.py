"""A tiled matrix product on a chip with one array: the nest of a convolution whose filter is one tap."""

from ridgeline.errors import InputError
from ridgeline.simulate.convolution import ElementBytes, Fetching, Nest, NestRun, Sizes, simulate_nest
from ridgeline.simulate.pipeline import Pipeline
from ridgeline.simulate.systolic import SystolicArray

_LETTERS = {"m": "p", "n": "k", "k": "c"}  # of a product → of a nest


def simulate_product(
    size: tuple[int, int, int],
    tile: tuple[int, int, int],
    order: str,
    *,
    array: SystolicArray,
    pipeline: Pipeline,
    element: ElementBytes | None = None,
    fetching: Fetching | None = None,
    vector_width: int | None = None,
    spans: bool = False,
) -> NestRun:
    """Run an m × k by k × n product cut into tiles, loops in an order such as "mnk" (outer to inner), and count what it takes.

    `size` and `tile` are (m, n, k) in elements; edge tiles are ragged. Everything else is as in `simulate_nest`.

    >>> array = SystolicArray(rows=4, columns=4, dataflow="weight-stationary", loading="preloaded", folds="pipelined")
    >>> run = simulate_product((8, 4, 8), (8, 4, 4), "mnk", array=array, pipeline=Pipeline(bandwidth=4.0))
    >>> run.read, run.written  # every tile once: k is the inner loop
    ({'input': 64.0, 'weight': 32.0, 'output': 0.0}, {'output': 32.0, 'partial': 0.0})
    >>> run.cycles  # load 8 + 4; first fold 4 + 8 + 3 + 3 hides the next load; second fold 8; store 8
    46
    """
    if sorted(order) != ["k", "m", "n"]:
        raise InputError(f"a loop order is a permutation of mnk, outer to inner, not {order!r}")
    m, n, k = size
    nest = Nest(
        size=Sizes(k=n, c=k, p=m),
        tile=Sizes(k=tile[1], c=tile[2], p=tile[0]),
        order="".join(_LETTERS[letter] for letter in order) + "qrs",
    )
    return simulate_nest(
        nest,
        array=array,
        pipeline=pipeline,
        element=element,
        fetching=fetching,
        vector_width=vector_width,
        spans=spans,
    )
