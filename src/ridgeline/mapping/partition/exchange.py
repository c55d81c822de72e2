"""Which collectives a step needs on a chip, how many bytes each has, and after which operation it comes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ridgeline.arrays import total
from ridgeline.mapping.collectives import Kind
from ridgeline.mapping.partition.cut import (
    Part,
    base_names,
    expert_load,
    gathered_tokens,
    is_decoding,
    layer_group,
    part_of,
    visited_ranks,
)
from ridgeline.mapping.partition.layout import Layout
from ridgeline.quantities import Bytes, Count, Fraction
from ridgeline.results import Operation
from ridgeline.specs.model import Attention, Layer, Model
from ridgeline.specs.number_format import FORMATS
from ridgeline.specs.precision import Precision
from ridgeline.specs.scenario import Scenario
from ridgeline.workload.transformer import encoder_tokens


@dataclass(frozen=True, kw_only=True, eq=False)
class Exchange:
    """A collective of a step, `count` times; `bytes` is a member's whole buffer as `collective_cost` wants it.

    `ring` says that it runs beside attention (ring attention); others are hidden as far as the plan's overlap goes.
    """

    name: str
    kind: Kind
    parallelism: str  # tensor, context, expert, pipeline
    count: Count
    bytes: Bytes
    members: int
    stride: int
    place: str
    ring: bool = False
    excess: Fraction = 1.0  # bytes of the busiest rank over those of an average one


@dataclass(frozen=True, kw_only=True, eq=False)
class _Step:
    """What every exchange of a step is made from."""

    model: Model
    scenario: Scenario
    precision: Precision
    layout: Layout

    @property
    def wide(self) -> Bytes:
        return self.precision.stream.bytes_per_value

    def tokens(self, decoding: bool, place: str = "") -> Count:
        """Tokens of a micro-batch on a chip, before tensor ranks cut them further."""
        scenario, model = self.scenario, self.model
        batch = scenario.batch / (self.layout.replicas * self.layout.micro_batches)
        if decoding:
            return batch * scenario.verified
        encodes = scenario.phase == "encode" or place.startswith("encoder ") or "prefill encoder " in place
        if encodes:
            return batch * encoder_tokens(model, scenario) / self.layout.context
        return batch / scenario.samples * (1.0 if model.encoder else scenario.prompt) / self.layout.context


def with_exchanges(
    model: Model, scenario: Scenario, precision: Precision, layout: Layout, operations: Sequence[Operation]
) -> tuple[tuple[Operation, ...], tuple[Exchange, ...]]:
    """Return a stage's operations, in places that no collective divides, and its collectives, each after the place that it names.

    Nothing is fused across a collective: it starts from main memory and ends there.
    """
    step = _Step(model=model, scenario=scenario, precision=precision, layout=layout)
    names = base_names(model, operations)
    placed: list[Operation] = []
    found: list[Exchange] = []
    turn = 0
    for index, (name, operation) in enumerate(zip(names, operations, strict=True)):
        placed.append(replace(operation, place=f"{operation.place} · {turn}" if turn else operation.place))
        following = names[index + 1] if index + 1 < len(names) else ""
        mine = list(_after(step, name, part_of(name, operation), operation, following, operations[:index]))
        prefix = operation.name.removesuffix(name)
        found += [replace(one, name=prefix + one.name, count=one.count * operation.count, place=placed[-1].place) for one in mine]
        turn += bool(mine)
    return tuple(placed), tuple(found)


def _after(
    step: _Step, name: str, part: Part, operation: Operation, following: str, earlier: Sequence[Operation]
) -> Iterator[Exchange]:
    """Yield the collectives that come right after an operation."""
    layout, decoding = step.layout, is_decoding(operation, step.scenario)
    layer = _layer_of(step.model, operation)
    if part == "stream" or layer is None:
        yield from _at_ends(step, name, operation)
        return
    if name == "top-k" and _exchanges_tokens(layout, decoding):
        yield _expert_exchange(step, layer, operation, decoding, "expert dispatch")
    if layout.context > 1 and name.endswith("values"):
        yield from _of_context(step, name, operation, earlier, decoding)
    if following.endswith((" output norm", " residual")):
        if part in ("experts", "feed-forward") and layer.experts is not None and _exchanges_tokens(layout, decoding):
            yield _expert_exchange(step, layer, operation, decoding, "expert combine")
        where_ = "cross" if following.startswith("cross ") else "attention" if part == "attention" else "feed-forward"
        yield from _of_tensor(step, where_, layer, operation, decoding)


def _layer_of(model: Model, operation: Operation) -> Layer | None:
    group = layer_group(operation)
    stack = model.encoder if "encoder " in operation.place or not model.decoder else model.decoder
    return None if group is None else stack[group]


def _exchanges_tokens(layout: Layout, decoding: bool) -> bool:
    return layout.expert > 1 and layout.holders(decoding) > 1


# ---- tensor ranks ---------------------------------------------------------------------------------------------------------------


def _group(step: _Step, name: str, kind: Kind, size: Bytes) -> Exchange:
    return Exchange(
        name=f"{name} {kind}",
        kind=kind,
        parallelism="tensor",
        count=1.0,
        bytes=size,
        members=step.layout.tensor,
        stride=step.layout.strides["tensor"],
        place="",
    )


def _of_tensor(step: _Step, part: str, layer: Layer, operation: Operation, decoding: bool) -> Iterator[Exchange]:
    """Sum what the ranks of a layer's part have: an all-reduce, or its two halves where the stream is cut."""
    layout = step.layout
    if layout.tensor == 1 or (part != "feed-forward" and (layout.attention_data or step.model.parallel_block)):
        return
    if layout.side:
        yield from _of_blocks(step, part, layer, operation, decoding)
        return
    routed_only = layer.experts is not None and layout.expert_tensor == 1 and not layer.experts.shared_width
    if layout.attention_data and part == "feed-forward" and routed_only:
        return  # experts' results have come home by the all-to-all
    size = step.tokens(decoding, operation.place) * step.model.hidden * step.wide
    if not layout.split_stream:
        yield _group(step, part, "all-reduce", size)
        return
    gathered = step.tokens(decoding, operation.place) * step.model.hidden * step.precision.activations.bytes_per_value
    yield _group(step, part, "reduce-scatter", size)
    yield _group(step, part, "all-gather", gathered)


def _of_blocks(step: _Step, part: str, layer: Layer, operation: Operation, decoding: bool) -> Iterator[Exchange]:
    """2-D: inputs gathered along a side of the square, outputs reduced and scattered along the other [vandegeijn1997summa]."""
    layout, side = step.layout, step.layout.side
    hidden = step.model.hidden
    narrow, wide = step.precision.activations.bytes_per_value, step.wide
    for name, inputs, outputs in _products(part, layer, hidden):
        rows = step.tokens(decoding, operation.place)
        turns: tuple[tuple[Kind, Count, Bytes, int], ...] = (
            ("all-gather", inputs, narrow, 1),
            ("reduce-scatter", outputs, wide, side),
        )
        for kind, columns, element, along in turns:
            one = _group(step, f"{part} {name}", kind, rows * columns / side * element)
            yield replace(one, members=side, stride=layout.strides["tensor"] * along)


def _products(part: str, layer: Layer, hidden: Count) -> list[tuple[str, Count, Count]]:
    """Return the products of a part that share an input: name, columns in, columns out, of all ranks."""
    if part == "feed-forward" and layer.feed_forward is not None:
        width = layer.feed_forward.width
        return [("in", hidden, width * (2 if layer.feed_forward.gated else 1)), ("out", width, hidden)]
    found: list[tuple[str, Count, Count]] = []
    for attention in (layer.cross_attention,) if part == "cross" else (layer.attention,):
        if attention is not None:
            found += [("in", hidden, _attention_columns(attention)), ("out", attention.heads * attention.values, hidden)]
    if layer.linear_attention is not None and part != "cross":
        one = layer.linear_attention
        keys, values = one.key_heads * one.key_size, one.value_heads * one.value_size
        found += [("in", hidden, 2 * keys + 2 * values), ("out", values, hidden)]
    return found


def _attention_columns(attention: Attention) -> Count:
    latent = attention.latent
    if latent is None:
        return attention.heads * attention.head_size + attention.kv_heads * (attention.head_size + attention.values)
    queries = attention.heads * (attention.head_size + latent.rotary_size)
    return queries + latent.rank + latent.rotary_size + (latent.query_rank or 0)


def _at_ends(step: _Step, name: str, operation: Operation) -> Iterator[Exchange]:
    """After the look-up in a cut table the ranks add up; after the head they gather the logits [shoeybi2019megatron]."""
    layout = step.layout
    if layout.tensor > 1 and name in ("embedding", "head"):
        size = total([one.bytes for one in operation.writes])
        if name == "head":
            yield _group(step, name, "all-gather", size * layout.tensor)
        else:
            yield _group(step, name, "reduce-scatter" if layout.split_stream else "all-reduce", size)


# ---- context ranks --------------------------------------------------------------------------------------------------------------


def _of_context(step: _Step, name: str, operation: Operation, earlier: Sequence[Operation], decoding: bool) -> Iterator[Exchange]:
    """Keys and values go round the ring in prefill; in decode the ranks' partial results are put together."""
    layout = step.layout
    base = Exchange(
        name="context ring",
        kind="all-gather",
        parallelism="context",
        count=1.0,
        bytes=0.0,
        members=layout.context,
        stride=layout.strides["context"],
        place="",
        ring=True,
    )
    if not decoding:
        mine = [*(one for one in earlier if one.place == operation.place), operation]
        kept = {
            one.name: one.bytes for each in mine for one in each.reads if one.role == "kv" and not one.name.startswith("cross ")
        }
        if not name.startswith("cross ") and kept:
            yield replace(base, bytes=total(list(kept.values())))
        return
    rows = total([one.batch * one.m for one in operation.products])
    partial = total([one.elements for one in operation.writes]) + 2 * rows  # with each row's maximum and sum
    size = partial * FORMATS["fp32"].bytes_per_value
    yield replace(base, name="context combine", kind="all-reduce", bytes=size, ring=False)


# ---- experts --------------------------------------------------------------------------------------------------------------------


def _expert_exchange(step: _Step, layer: Layer, operation: Operation, decoding: bool, name: str) -> Exchange:
    """All-to-all of tokens to the ranks of their experts, and of results back [lepikhin2021gshard, rajbhandari2022deepspeedmoe].

    A token goes once to every rank with an expert of it, or a stripe of one. Under skewed routing the busiest rank receives most
    and sets the time.
    """
    layout, experts = step.layout, layer.experts
    ranks = layout.expert
    copies: Fraction = 0.0
    excess: Fraction = 1.0
    if experts is not None:
        copies = visited_ranks(experts=int(experts.count), active=int(experts.active), ranks=ranks)
        gathered = gathered_tokens(step.scenario, layout, decoding)
        load = expert_load(experts, layout, tokens=gathered, skew=step.scenario.routing_skew, busiest=True)
        excess = max(1.0, load.visits * ranks)
    form = step.precision.activations.bytes_per_value if name == "expert dispatch" else step.wide
    own = step.tokens(decoding, operation.place) / layout.tensor * layout.expert_tensor
    return Exchange(
        name=f"{name} all-to-all",
        kind="all-to-all",
        parallelism="expert",
        count=1.0,
        bytes=own * copies * excess * step.model.hidden * form,
        members=ranks,
        stride=layout.strides["expert"],
        place="",
        excess=excess,
    )


# ---- stages ---------------------------------------------------------------------------------------------------------------------


def stage_sends(model: Model, scenario: Scenario, precision: Precision, layout: Layout) -> tuple[Exchange, ...]:
    """Return what a stage hands to the next, once a micro-batch and chunk of layers.

    Tensor ranks send a part each and gather behind [narayanan2021megatron] §4.1, unless the stream is cut anyway.
    """
    if layout.pipeline == 1:
        return ()
    step = _Step(model=model, scenario=scenario, precision=precision, layout=layout)
    found: list[Exchange] = []
    phases = ((False, "prefill "), (True, "decode ")) if scenario.phase == "generate" else ((scenario.phase == "decode", ""),)
    for decoding, prefix in phases:
        size = step.tokens(decoding) * model.hidden * step.wide
        times = (scenario.output - 1) if prefix == "decode " else 1.0
        base = Exchange(
            name=f"{prefix}pipeline send",
            kind="send",
            parallelism="pipeline",
            count=times * layout.chunks,
            bytes=size / layout.tensor,
            members=layout.pipeline,
            stride=layout.strides["pipeline"],
            place=prefix,
        )
        found.append(base)
        if layout.tensor > 1 and not layout.split_stream:
            gather = replace(base, name=f"{prefix}pipeline all-gather", kind="all-gather", bytes=size, parallelism="tensor")
            found.append(replace(gather, members=layout.tensor, stride=layout.strides["tensor"]))
    return tuple(found)
