"""The interval of a measured row's prediction: by the kind of kernel that it times, or as the estimate of its step has it."""

import math
from typing import NamedTuple

from ridgeline.errors import RidgelineError
from ridgeline.mapping.intervals import as_interval, exchange_kind, half_widths, product_kind, step_kind
from ridgeline.quantities import Seconds
from ridgeline.specs.number_format import FORMATS
from ridgeline.specs.residual import Residuals
from ridgeline.validation.group import Group
from ridgeline.validation.products import formats
from ridgeline.validation.schema import RATES, Row

_DECODE_QUERIES = 16.0


class Factors(NamedTuple):
    """Factors on a predicted time between which 80 % of measurements are expected."""

    lower: float
    upper: float


def kind_of_row(kind: str, row: Row) -> str:
    """Return the kind under which a row's residual is found: as `mapping.intervals.residual_kind` names kernels of a step."""
    if kind == "product":
        return _product(row)
    if kind in ("attention", "latent"):
        return f"{kind}:{'decode' if row.number('q_len', 1.0) <= _DECODE_QUERIES else 'prefill'}"
    if kind == "exchange":
        words = row.text("op").rpartition(":")[2].lower().replace("_", "-")
        names = {"alltoall": "all-to-all", "send-recv": "send"}
        across = row.number("gpus_per_node", math.inf) < row.number("n_chips", 1.0)
        return exchange_kind(names.get(words, words), across=across)
    if kind == "grouped":
        return "experts:grouped"
    if kind in ("experts", "vector"):
        return kind
    if row.unit == "W":
        return f"power:{row.metric}"
    return f"served:{row.metric}" if row.unit in ("s", *RATES) else ""


def _product(row: Row) -> str:
    try:
        form = formats(row.text("dtype"))
    except RidgelineError:
        return "product"
    if form.converts:
        return "product:half"
    if form.block:
        return "product:fp8-block"
    return product_kind(FORMATS[form.compute[0]], FORMATS[form.compute[0]])


def step_of_row(group: Group, row: Row) -> str:
    """Return the kind under which the residual of a whole step is found: of its stack, of a prompt or of decoding."""
    prompt = row.metric == "ttft" or row.text("phase").startswith(("prefill", "forward")) or row.number("osl", 0.0) == 0.0
    return step_kind(group.stack.name, "prefill" if prompt and row.text("phase") != "decode" else "decode")


def factors(known: Residuals, kind: str, group: Group, time: Seconds) -> Factors | None:
    """Return the factors of a row that times one kernel, or of a service's answer; None where no residual is known."""
    widths = half_widths(known, kind, time, group.chip.family)
    if widths is None or not math.isfinite(time):
        return None
    found = as_interval(known, widths)
    return Factors(float(found.lower), float(found.upper))


def in_unit_of(row: Row, predicted: float, own: Factors | None) -> tuple[float | None, float | None]:
    """Return an interval in a row's unit: of a rate, upside down."""
    if own is None or math.isnan(own.lower):
        return None, None
    if row.unit in RATES:
        return predicted / own.upper, predicted / own.lower
    return predicted * own.lower, predicted * own.upper
