"""Feed-forward layers and mixtures of experts as operations."""

from dataclasses import replace
from typing import Any

from ridgeline.arrays import is_zero
from ridgeline.quantities import Count
from ridgeline.results import Operation, Product
from ridgeline.specs.model import Experts, FeedForward
from ridgeline.workload.pieces import Frame, activation, linear, vector, weight
from ridgeline.workload.tokens import experts_touched


def feed_forward(frame: Frame, part: FeedForward, *, prefix: str = "feed-forward", target: str = "projected") -> list[Operation]:
    """Two products with an activation between them; three where gated."""
    hidden, inner = frame.model.hidden, part.width
    read: dict[str, Any] = {"inputs": hidden, "outputs": inner, "source": "normed", "group": "feed-forward", "bias": part.bias}
    elements = frame.tokens.count * inner
    found = [linear(frame, f"{prefix} up", target="inner", **read)]
    sources: tuple[str, ...] = ("inner",)
    if part.gated:
        found.insert(0, linear(frame, f"{prefix} gate", target="gate", **read))
        sources = ("gate", "inner")
    activation = vector(frame, f"{prefix} {part.activation}", part.activation, elements, sources=sources, target="inner")
    if part.gated:
        activation = replace(activation, functions={**activation.functions, "multiply": elements})
    down = linear(
        frame,
        f"{prefix} down",
        inputs=inner,
        outputs=hidden,
        source="inner",
        target=target,
        group="feed-forward",
        bias=part.bias,
    )
    return [*found, activation, down]


def mixture(frame: Frame, part: Experts) -> list[Operation]:
    """A mixture of experts: router, the experts that the tokens touch, and the shared expert.

    Weights of the expected number of touched experts are read once each; every token computes `active` of them.
    """
    hidden, count = frame.model.hidden, frame.tokens.count
    touched = experts_touched(experts=part.count, active=part.active, tokens=count, skew=frame.routing_skew)
    visits = count * part.active
    router = linear(
        frame,
        "router",
        inputs=hidden,
        outputs=part.count,
        source="normed",
        target="logits",
        group="experts",
        bias=part.router_bias,
    )
    rank = vector(frame, "top-k", "top-k", count * part.count, sources=("logits",), target="choice", outputs=count * part.active)
    found = [router, replace(rank, functions={**rank.functions, "softmax": count * part.count})]
    read: dict[str, Any] = {
        "rows": visits,
        "touched": touched,
        "part": part,
        "inputs": hidden,
        "outputs": part.width,
        "source": "normed",
        "read": count,
    }
    found.append(_grouped(frame, "experts up", target="inner", **read))
    sources: tuple[str, ...] = ("inner",)
    if part.gated:
        found.insert(2, _grouped(frame, "experts gate", target="gate", **read))
        sources = ("gate", "inner")
    activation = vector(frame, f"experts {part.activation}", part.activation, visits * part.width, sources=sources, target="inner")
    if part.gated:
        activation = replace(activation, functions={**activation.functions, "multiply": visits * part.width})
    down = _grouped(
        frame,
        "experts down",
        rows=visits,
        touched=touched,
        part=part,
        inputs=part.width,
        outputs=hidden,
        source="inner",
        target="routed",
        read=visits,
    )
    combine = vector(frame, "combine", "multiply", visits * hidden, sources=("routed",), target="projected", outputs=count * hidden)
    found += [activation, down, replace(combine, functions={"multiply": visits * hidden, "residual": visits * hidden})]
    return found if is_zero(part.shared_width) else [*found, *_shared(frame, part)]


def _shared(frame: Frame, part: Experts) -> list[Operation]:
    """The expert that every token visits, its gate where it has one, and the addition to what the routed ones gave."""
    hidden = frame.model.hidden
    shared = FeedForward(width=part.shared_width, gated=part.gated, activation=part.activation)
    found = feed_forward(frame, shared, prefix="shared expert", target="shared")
    if part.shared_gate:
        gate: dict[str, Any] = {"source": "normed", "target": "shared gate", "group": "experts"}
        found.append(linear(frame, "shared gate", inputs=hidden, outputs=1.0, **gate))
    elements = frame.tokens.count * hidden
    return [*found, vector(frame, "add shared", "residual", elements, sources=("projected", "shared"), target="projected")]


def _grouped(
    frame: Frame,
    name: str,
    *,
    rows: Count,
    touched: Count,
    part: Experts,
    inputs: Count,
    outputs: Count,
    source: str,
    target: str,
    read: Count,
) -> Operation:
    """Return a product of every visit with its expert's weights; `read` rows of the input are distinct."""
    form = frame.precision.experts
    weight_count = touched * inputs * outputs + (touched * outputs if part.bias else 0.0)
    formats = (form, frame.precision.activations)
    return Operation(
        name=name,
        kind="matmul",
        group="experts",
        products=(Product(batch=touched, m=rows / touched, n=outputs, k=inputs, formats=formats),),
        functions={"bias": rows * outputs} if part.bias else {},
        reads=(activation(frame, source, read * inputs, wide=False), weight(weight_count, form, name)),
        writes=(activation(frame, target, rows * outputs),),
    )
