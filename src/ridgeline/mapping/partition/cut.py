"""What one chip holds of a model and does of a step: dimensions divided, operations scaled.

A chip's operations are those of a model whose heads, columns and vocabulary are divided by the tensor ranks, over the sequences of
its data rank [shoeybi2019megatron]. What a plan cuts otherwise (norms, tokens of a context, experts, blocks of a matrix) is scaled
operation by operation.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

from ridgeline.arrays import ceil_divide, total
from ridgeline.mapping.partition.layout import Layout
from ridgeline.quantities import Count, Fraction
from ridgeline.results import Operation, Product, Tensor
from ridgeline.specs.model import Attention, Experts, Layer, Model
from ridgeline.specs.precision import Precision
from ridgeline.specs.scenario import Scenario
from ridgeline.workload import transformer
from ridgeline.workload.tokens import busiest_share, experts_touched, visit_probabilities

Part = Literal["attention", "feed-forward", "experts", "stream", "ends"]

# ---- a chip's share of a model --------------------------------------------------------------------------------------------------


def cut_attention(attention: Attention, ranks: int) -> Attention:
    """Return the heads of one rank; KV heads fewer than ranks are replicated, one a rank.

    >>> one = cut_attention(Attention(heads=64, kv_heads=8, head_size=128), 16)
    >>> one.heads, one.kv_heads
    (4, 1)
    """
    kv = attention.kv_heads // ranks if attention.kv_heads >= ranks else 1
    return replace(attention, heads=attention.heads // ranks, kv_heads=kv)


def _cut_layer(layer: Layer, layout: Layout, *, attention_ranks: int, experts_held: int) -> Layer:
    tensor = layout.tensor
    linear, experts, cut = layer.linear_attention, layer.experts, attention_ranks
    return replace(
        layer,
        attention=None if layer.attention is None else cut_attention(layer.attention, cut),
        cross_attention=None if layer.cross_attention is None else cut_attention(layer.cross_attention, cut),
        linear_attention=None
        if linear is None
        else replace(linear, key_heads=linear.key_heads // cut, value_heads=linear.value_heads // cut),
        feed_forward=None if layer.feed_forward is None else replace(layer.feed_forward, width=layer.feed_forward.width // tensor),
        experts=None
        if experts is None
        else replace(
            experts,
            count=experts.count // experts_held,
            width=experts.width // layout.expert_tensor,
            shared_width=experts.shared_width // tensor,
        ),
    )


def padded_vocabulary(model: Model, layout: Layout) -> Count:
    """Rows of the token table that all tensor ranks together hold: the vocabulary rounded up to a multiple of them."""
    return ceil_divide(model.vocabulary, layout.tensor) * layout.tensor


def cut_model(model: Model, layout: Layout, *, experts_held: int = 1) -> Model:
    """Return the model as one chip sees it: heads, columns and vocabulary of its rank, and one in `experts_held` experts."""
    cut = layout.attention_tensor

    def layers(stack: tuple[Layer, ...]) -> tuple[Layer, ...]:
        return tuple(_cut_layer(one, layout, attention_ranks=cut, experts_held=experts_held) for one in stack)

    vocabulary = padded_vocabulary(model, layout) // layout.tensor
    return replace(model, vocabulary=vocabulary, encoder=layers(model.encoder), decoder=layers(model.decoder))


# ---- stages of a pipeline -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class StageLayers:
    """What a pipeline stage holds: layers of each group, the embedding, the head."""

    counts: tuple[int, ...]
    first: bool
    last: bool


def stage_layers(model: Model, layout: Layout) -> tuple[StageLayers, ...]:
    """Deal the layers out to stages: every group evenly where it divides, else in the order in which the groups are listed."""
    layers = model.encoder or model.decoder
    stages = layout.pipeline
    groups = [int(layer.count) for layer in layers]
    ends = [(index == 0, index == stages - 1) for index in range(stages)]
    if stages == 1 or all(count % stages == 0 for count in groups):
        counts = [tuple(count // stages for count in groups)] * stages
    else:
        order = [index for index, count in enumerate(groups) for _ in range(count)]
        ends_at = [len(order) * stage // stages for stage in range(stages + 1)]
        dealt = [order[start:end] for start, end in pairwise(ends_at)]
        counts = [tuple(one.count(index) for index in range(len(groups))) for one in dealt]
    return tuple(StageLayers(counts=one, first=first, last=last) for one, (first, last) in zip(counts, ends, strict=True))


def held_by_stage(model: Model, stage: StageLayers) -> Model:
    """Return the model whose weights one stage holds; a table that is also the head is held by the first and by the last stage."""
    if stage.first and stage.last:
        return model
    name = "encoder" if model.encoder else "decoder"
    layers = tuple(replace(layer, count=count) for layer, count in zip(getattr(model, name), stage.counts, strict=True))
    if not stage.first:
        model = replace(model, positions=0, encoder_positions=None, token_types=0, embedding_norm=False, class_token=False)
        model = replace(model, patches=None, audio=None, embedding_size=model.embedding_size if stage.last else None)
    if not stage.last:
        model = replace(model, head="none", pooler=False, final_norm=False)
    if not stage.first and not stage.last:
        model = replace(model, vocabulary=0)
    has_head = stage.last and model.head in ("language", "masked-language")
    if not stage.first:  # of the two tables the head's
        model = replace(model, tied=True) if has_head else replace(model, vocabulary=0)
    if not stage.last:
        model = replace(model, tied=False)
    return replace(model, **{name: layers})


def of_stage(model: Model, operations: Sequence[Operation], stage: StageLayers) -> tuple[Operation, ...]:
    """Return the operations of one stage, layers of each group as often as the stage has them."""
    if stage.first and stage.last:
        return tuple(operations)
    layers, found = model.encoder or model.decoder, list[Operation]()
    for operation in operations:
        group = layer_group(operation)
        if group is not None and stage.counts[group]:
            found.append(replace(operation, count=operation.count * stage.counts[group] / layers[group].count))
        elif group is None and (stage.first if operation.group == "embedding" else stage.last):
            found.append(operation)
    return tuple(found)


def layer_group(operation: Operation) -> int | None:
    """Return the index of the layer group that an operation belongs to; None for embeddings, final norms and heads."""
    _, mark, index = operation.place.rpartition("layer group ")
    return int(index) if mark else None


# ---- what an operation is -------------------------------------------------------------------------------------------------------

_STREAM = ("attention", "cross", "feed-forward")
_STREAM_NAMES = {f"{part} {what}" for part in _STREAM for what in ("norm", "output norm", "residual")} | {
    "embedding norm",
    "final norm",
}


def base_names(model: Model, operations: Sequence[Operation]) -> list[str]:
    """Return the operations' names without those of the phase and of the layer group."""
    groups = tuple(f"{layer.name} " for layer in (*model.encoder, *model.decoder) if layer.name)
    found: list[str] = []
    for operation in operations:
        name = operation.name
        for prefix in ("prefill ", "decode ", "encoder "):
            name = name.removeprefix(prefix)
        if operation.place:
            name = next((name.removeprefix(one) for one in groups if name.startswith(one)), name)
        found.append(name)
    return found


def part_of(base: str, operation: Operation) -> Part:
    """Say which part of a layer an operation belongs to."""
    if base in _STREAM_NAMES:
        return "stream"
    if operation.group in ("embedding", "head"):
        return "ends"
    if base.startswith("experts ") or base == "combine":
        return "experts"
    if base.startswith(("feed-forward ", "shared ")) or base in ("router", "top-k", "add shared"):
        return "feed-forward"
    return "attention"


# ---- scaling an operation -------------------------------------------------------------------------------------------------------

Scale = Callable[[Tensor], Fraction]


def _scaled(
    operation: Operation,
    *,
    rows: Fraction = 1.0,
    columns: Fraction = 1.0,
    inner: Fraction = 1.0,
    functions: Fraction | None = None,
    reads: Scale,
    writes: Scale,
) -> Operation:
    """Return an operation with its products' m, n and k, its functions and its tensors multiplied."""
    return replace(
        operation,
        products=tuple(replace(one, m=one.m * rows, n=one.n * columns, k=one.k * inner) for one in operation.products),
        functions={name: count * (rows if functions is None else functions) for name, count in operation.functions.items()},
        reads=tuple(replace(one, elements=one.elements * reads(one)) for one in operation.reads),
        writes=tuple(replace(one, elements=one.elements * writes(one)) for one in operation.writes),
    )


_KEYS = ("keys", "values", "cross keys", "cross values")  # also where they were just expanded from a latent


def _rows(operation: Operation, share: Fraction) -> Operation:
    """Return an operation over a share of its rows: weights and cached keys are read whole."""

    def scale(tensor: Tensor) -> Fraction:
        return 1.0 if tensor.role in ("weight", "kv") or tensor.name in _KEYS else share

    return _scaled(operation, rows=share, reads=scale, writes=lambda _: share)


def _context_cut(base: str, operation: Operation, ranks: int, decoding: bool, all_rows: bool) -> Operation:
    """Return an operation on one of several ranks that share each sequence.

    A prompt's tokens are dealt out so that all ranks have the same pairs, and keys go round the ring [liu2023ring]. In decode the
    cached tokens are dealt out: every rank attends to its own for all heads, and the rest of the step is done by every rank.
    """
    share = 1.0 / ranks
    if not decoding:
        whole = base == "key-value up" and any(one.role == "kv" for one in operation.reads)
        last = operation.group == "head" and not all_rows and base != "final norm"
        return operation if whole or last else _rows(operation, share)
    if base.endswith("cache append") or base in ("index append", "cross cache"):
        return _rows(operation, share)
    if base == "key-value up" and any(one.role == "kv" for one in operation.reads):
        return _scaled(operation, rows=share, reads=lambda one: 1.0 if one.role == "weight" else share, writes=lambda _: share)
    if operation.group != "attention" and not base.endswith("softmax"):
        return operation
    keys = base.endswith("scores")

    def scale(tensor: Tensor) -> Fraction:
        return share if tensor.role in ("kv", "scores") or tensor.name in _KEYS else 1.0

    return _scaled(
        operation,
        columns=share if keys else 1.0,
        inner=1.0 if keys else share,
        functions=share,
        reads=scale,
        writes=scale,
    )


_ROW_CUT = ("output", "cross output", "feed-forward down")  # products whose inputs are cut; those of all others' outputs are


def _block_cut(base: str, operation: Operation, side: int) -> Operation:
    """Return a product with its weights in a block of a square of chips instead of in a stripe: as many weights, other edges."""
    if operation.kind != "matmul" or operation.group not in ("projections", "feed-forward") or base.startswith("absorb"):
        return operation
    grow, shrink = float(side), 1.0 / side
    row = base in _ROW_CUT
    inputs, outputs = (grow, shrink) if row else (shrink, grow)
    return _scaled(
        operation,
        columns=outputs,
        inner=inputs,
        functions=outputs,
        reads=lambda one: 1.0 if one.role == "weight" else inputs,
        writes=lambda _: outputs,
    )


# ---- experts --------------------------------------------------------------------------------------------------------------------


def visited_ranks(*, experts: int, active: int, ranks: int) -> float:
    """Return the expected number of ranks that a token's experts lie on, experts being as likely to be chosen.

        ranks · (1 − C(E − E/ranks, a) / C(E, a))

    >>> visited_ranks(experts=8, active=1, ranks=4), visited_ranks(experts=4, active=2, ranks=4)
    (1.0, 2.0)
    """
    missed, apart = 1.0, experts - experts / ranks
    for draw in range(active):
        missed *= max(0.0, apart - draw) / (experts - draw)
    return ranks * (1.0 - missed)


@dataclass(frozen=True, kw_only=True, eq=False)
class ExpertLoad:
    """What of a mixture's work lies on one rank: shares of all visits, of the experts that are touched, and of the tokens."""

    visits: Fraction
    touched: Fraction
    tokens: Fraction


def expert_load(experts: Experts, layout: Layout, *, tokens: Count, skew: float, busiest: bool) -> ExpertLoad:
    """Return the load of an average rank, or of the busiest one under a skewed routing, popular experts dealt out in turn."""
    ranks = layout.expert
    if ranks == 1:
        return ExpertLoad(visits=1.0, touched=1.0, tokens=1.0)
    reached = visited_ranks(experts=int(experts.count), active=int(experts.active), ranks=ranks) / ranks
    if skew == 0.0 or not busiest:
        return ExpertLoad(visits=1.0 / ranks, touched=1.0 / ranks, tokens=reached)
    share = busiest_share(experts=int(experts.count), active=float(experts.active), ranks=ranks, skew=skew)
    chances = visit_probabilities(int(experts.count), float(experts.active), skew)
    own = total([1.0 - (1.0 - one) ** tokens for one in chances[::ranks]])
    missed = 1.0
    for chance in chances[::ranks]:
        missed *= 1.0 - chance
    touched = own / experts_touched(experts=experts.count, active=experts.active, tokens=tokens, skew=skew)
    return ExpertLoad(visits=share, touched=touched, tokens=1.0 - missed)


def _expert_cut(base: str, operation: Operation, load: ExpertLoad) -> Operation:
    """Return an operation over all visits on the rank of some experts."""

    def share(tensor: Tensor) -> Fraction:
        if tensor.role == "weight":
            return load.touched
        return load.tokens if tensor.name == "normed" or (base == "combine" and tensor.name == "projected") else load.visits

    def product(one: Product) -> Product:
        return replace(one, batch=one.batch * load.touched, m=one.m * load.visits / load.touched)

    return replace(
        operation,
        products=tuple(product(one) for one in operation.products),
        functions={name: count * load.visits for name, count in operation.functions.items()},
        reads=tuple(replace(one, elements=one.elements * share(one)) for one in operation.reads),
        writes=tuple(replace(one, elements=one.elements * share(one)) for one in operation.writes),
    )


# ---- a chip's share of a step ---------------------------------------------------------------------------------------------------


def is_decoding(operation: Operation, scenario: Scenario) -> bool:
    """Say whether an operation is of a decode step; a generation has both."""
    return operation.place.startswith("decode ") if scenario.phase == "generate" else scenario.phase == "decode"


def chip_operations(
    model: Model, scenario: Scenario, precision: Precision, layout: Layout, *, busiest: bool = True
) -> tuple[Operation, ...]:
    """Return the operations of one micro-batch on a chip, of all stages; of the busiest rank of experts, or of an average one."""
    own = replace(scenario, batch=scenario.batch / (layout.replicas * layout.micro_batches))
    plain = transformer.operations(cut_model(model, layout), own, precision)
    names = base_names(model, plain)
    parts: list[Part] = [part_of(name, one) for name, one in zip(names, plain, strict=True)]
    found = list(plain)
    if layout.attention_data:
        own_tokens = replace(own, batch=own.batch / layout.tensor)
        apart = transformer.operations(cut_model(model, layout), own_tokens, precision)
        found = [b if part in ("attention", "stream") else a for a, b, part in zip(found, apart, parts, strict=True)]
    gathered = _gathered(model, own, precision, layout)
    for index, (name, part) in enumerate(zip(names, parts, strict=True)):
        decoding = is_decoding(found[index], scenario)
        if part == "experts":
            found[index] = _on_experts(model, gathered[decoding][index], name, scenario, layout, decoding, busiest)
        else:
            found[index] = _cut(model, found[index], name, part, scenario, layout, decoding)
    return tuple(found)


def _gathered(model: Model, own: Scenario, precision: Precision, layout: Layout) -> dict[bool, tuple[Operation, ...]]:
    """Return the step over all tokens that come together at one set of experts, in prefill and in decode."""
    if not any(layer.experts for layer in (*model.encoder, *model.decoder)):
        return {}
    found: dict[bool, tuple[Operation, ...]] = {}
    for decoding in (False, True):
        split = (layout.tensor if layout.attention_data else 1) * (1 if decoding else layout.context)
        batch = own.batch * layout.holders(decoding) / split
        found[decoding] = transformer.operations(cut_model(model, layout), replace(own, batch=batch), precision)
    return found


def _on_experts(
    model: Model, operation: Operation, base: str, scenario: Scenario, layout: Layout, decoding: bool, busiest: bool
) -> Operation:
    group = layer_group(operation)
    stack = model.encoder if "encoder " in operation.place or not model.decoder else model.decoder
    experts = None if group is None else stack[group].experts
    if experts is None:
        return operation
    tokens = gathered_tokens(scenario, layout, decoding)
    load = expert_load(experts, layout, tokens=tokens, skew=scenario.routing_skew, busiest=busiest)
    return _expert_cut(base, operation, load)


def gathered_tokens(scenario: Scenario, layout: Layout, decoding: bool) -> Count:
    """Tokens of a micro-batch that come together at one set of experts."""
    split = (layout.tensor if layout.attention_data else 1) * (1 if decoding else layout.context)
    new = scenario.verified if decoding else scenario.prompt
    batch = scenario.batch if decoding else scenario.batch / scenario.samples
    return batch * new * layout.holders(decoding) / (layout.replicas * layout.micro_batches * split)


def _cut(
    model: Model, operation: Operation, base: str, part: Part, scenario: Scenario, layout: Layout, decoding: bool
) -> Operation:
    if part == "stream" and layout.split_stream and not layout.attention_data:
        operation = _rows(operation, 1.0 / layout.tensor)
    if base == "embedding" and layout.tensor > 1:
        operation = _looked_up(operation, layout.tensor)
    if layout.side and part in ("attention", "feed-forward"):
        operation = _block_cut(base, operation, layout.side)
    if layout.context > 1:
        all_rows = scenario.head_tokens == "all" or (scenario.phase == "encode" and model.head == "masked-language")
        operation = _context_cut(base, operation, layout.context, decoding, all_rows)
    return operation


def _looked_up(operation: Operation, ranks: int) -> Operation:
    """Return the look-up of the rows that lie on one rank of a table cut by vocabulary; zeros for the others are written too."""
    return _scaled(operation, functions=1.0 / ranks, reads=lambda _: 1.0 / ranks, writes=lambda _: 1.0)
