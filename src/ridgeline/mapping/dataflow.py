"""Which dataflow a matrix unit runs, and what a product takes on its array."""

from collections.abc import Callable, Mapping

from ridgeline.costs import systolic
from ridgeline.costs.systolic import ArrayCost
from ridgeline.errors import InputError
from ridgeline.quantities import Count
from ridgeline.specs.chip import MatrixUnit

_SPATIAL: Mapping[str, Callable[..., ArrayCost]] = {
    "weight-stationary": systolic.weight_stationary,
    "input-stationary": systolic.input_stationary,
    "output-stationary": systolic.output_stationary,
    "no-local-reuse": systolic.no_local_reuse,
}
TILED = ("weight-stationary", "output-stationary", "input-stationary")  # in the order that costs.tiled numbers them
TEMPORAL = ("simd", "dot-product")
DATAFLOWS = (*_SPATIAL, "row-stationary", "dot-product", "simd")


def array_cost(
    unit: MatrixUnit, *, m: Count, n: Count, k: Count, dataflow: str | None = None, pipelined: bool | None = None
) -> ArrayCost:
    """Return what an m × k by k × n product takes on one matrix unit.

    The unit's own dataflow unless another is named; weights are loaded behind the stream where the unit preloads. A row-stationary
    array takes a product as a convolution of 1 × 1 filters. Raises `InputError` for a dataflow that the unit does not have.
    """
    chosen = dataflow or unit.kind
    check_dataflow(unit, chosen)
    if len(unit.shape) < 2 or min(unit.shape) <= 0:
        raise InputError(
            f"an array of {' × '.join(map(str, unit.shape)) or 'no'} elements computes nothing: give rows and columns above 0"
        )
    rows, columns = unit.shape[0], unit.shape[1]
    if chosen in _SPATIAL:
        overlapped = unit.preload if pipelined is None else pipelined
        return _SPATIAL[chosen](m=m, n=n, k=k, rows=rows, columns=columns, pipelined=overlapped)
    if chosen == "row-stationary":
        return systolic.row_stationary(
            filters=n,
            channels=k,
            filter_rows=1,
            filter_columns=1,
            output_rows=m,
            output_columns=1,
            images=1,
            rows=rows,
            columns=columns,
        )
    depth = unit.shape[2] if len(unit.shape) > 2 else 1
    return systolic.temporal(m=m, n=n, k=k, rows=rows, columns=columns, depth=depth)


def lanes_as_array(unit: MatrixUnit) -> tuple[int, int, int, str]:
    """Return rows, columns, depth and dataflow of the array that a temporal unit equals, operands handed to all elements at once.

    A unit takes rows × depth by depth × columns a cycle. Its sums stay while inputs and weights come, `depth` of each at a time:
    output-stationary rows × columns. One row high and deep, its weights may stay while vectors of inputs come: weight-stationary
    depth × columns. Either way a product takes ⌈m/rows⌉·⌈n/columns⌉·⌈k/depth⌉ cycles, as `costs.systolic.temporal` counts, without
    skew, load or drain.

    >>> lanes_as_array(MatrixUnit(kind="simd", shape=(4, 16)))
    (4, 16, 1, 'output-stationary')
    >>> lanes_as_array(MatrixUnit(kind="dot-product", shape=(8, 4, 16)))
    (8, 4, 16, 'output-stationary')
    >>> lanes_as_array(MatrixUnit(kind="dot-product", shape=(1, 32, 64)))
    (64, 32, 1, 'weight-stationary')
    """
    rows, columns, depth = (*unit.shape, 1, 1, 1)[:3] if len(unit.shape) > 1 else (0, 0, 0)
    if min(rows, columns, depth) < 1:
        raise InputError(
            f"a unit of {' × '.join(map(str, unit.shape)) or 'no'} lanes computes nothing: give rows and columns above 0"
        )
    if rows == 1 and depth > 1:
        return depth, columns, 1, "weight-stationary"
    return rows, columns, depth, "output-stationary"


def check_dataflow(unit: MatrixUnit, dataflow: str) -> None:
    """Raise `InputError` for a dataflow that does not exist, or that a unit of another sort cannot run."""
    if dataflow not in DATAFLOWS:
        raise InputError(f"unknown dataflow {dataflow!r}: known are {', '.join(DATAFLOWS)}")
    spatial, own = (*_SPATIAL, "row-stationary"), unit.kind
    if dataflow != own and (dataflow not in spatial or own not in spatial):
        raise InputError(f"a {own} unit does not run {dataflow!r}: it runs {own}")
