"""A partition: the stages of a pipeline with the chips that are alike, and what is said aloud about them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ridgeline.mapping.partition.cut import (
    StageLayers,
    chip_operations,
    cut_model,
    held_by_stage,
    of_stage,
    padded_vocabulary,
    stage_layers,
)
from ridgeline.mapping.partition.exchange import Exchange, stage_sends, with_exchanges
from ridgeline.mapping.partition.layout import Layout, layout
from ridgeline.quantities import Bytes, Count
from ridgeline.results import Operation
from ridgeline.specs.model import ConvolutionalModel, Layer, Model
from ridgeline.specs.plan import Plan
from ridgeline.specs.precision import Precision
from ridgeline.specs.scenario import Scenario
from ridgeline.specs.system import NetworkTier
from ridgeline.workload import convolution
from ridgeline.workload.parameters import weight_bytes


@dataclass(frozen=True, kw_only=True, eq=False)
class Stage:
    """Pipeline stages that are alike: how many chips they are together, and one chip's share of one micro-batch.

    `operations` are those of the chip that sets the time, `mean` those of an average one; they differ under a skewed routing.
    """

    name: str
    stages: int
    chips: int
    operations: tuple[Operation, ...]
    mean: tuple[Operation, ...]
    exchanges: tuple[Exchange, ...]
    sends: tuple[Exchange, ...]
    held: Model | ConvolutionalModel  # whose weights one chip holds, routers aside
    routed: Model | ConvolutionalModel  # the same with all experts that its routers choose from
    cached: Scenario  # whose KV cache one chip of the first context rank holds, over all micro-batches

    def weights(self, precision: Precision) -> Bytes:
        """Bytes of weights that one chip holds: its experts, and routers over all of them."""
        if self.routed is self.held or isinstance(self.held, ConvolutionalModel) or isinstance(self.routed, ConvolutionalModel):
            return weight_bytes(self.held, precision)
        routers = [weight_bytes(_without_experts(one), precision) for one in (self.routed, self.held)]
        return weight_bytes(self.held, precision) + routers[0] - routers[1]


def _without_experts(model: Model) -> Model:
    """Return a model whose mixtures have routers and no experts behind them."""

    def layers(stack: tuple[Layer, ...]) -> tuple[Layer, ...]:
        empty = (None if one.experts is None else replace(one.experts, width=0, bias=False) for one in stack)
        return tuple(replace(one, experts=experts) for one, experts in zip(stack, empty, strict=True))

    return replace(model, encoder=layers(model.encoder), decoder=layers(model.decoder))


@dataclass(frozen=True, kw_only=True, eq=False)
class Partition:
    """A step over all chips of a plan."""

    plan: Plan
    layout: Layout
    stages: tuple[Stage, ...]
    notes: tuple[str, ...]


def partition(
    model: Model | ConvolutionalModel, scenario: Scenario, precision: Precision, plan: Plan, tiers: Sequence[NetworkTier]
) -> Partition:
    """Spread a step over chips by a plan; raise `InputError` with what would be accepted where something does not divide.

    The work of a chip is its share of every operation: all chips together do the whole step and what `notes` say is done or held
    more than once.
    """
    found = layout(plan, model, scenario, tiers)
    if isinstance(model, ConvolutionalModel):
        return Partition(plan=plan, layout=found, stages=(_whole(model, scenario, precision, found),), notes=())
    own = replace(scenario, batch=scenario.batch / (found.replicas * (found.tensor if found.attention_data else 1)))
    operations = chip_operations(model, scenario, precision, found)
    skewed = scenario.routing_skew > 0.0 and found.expert > 1
    mean = chip_operations(model, scenario, precision, found, busiest=False) if skewed else operations
    sends = stage_sends(model, scenario, precision, found)
    stages: list[Stage] = []
    for first, alike in _alike(stage_layers(model, found)):
        placed, exchanges = with_exchanges(model, scenario, precision, found, of_stage(model, operations, alike[0]))
        averaged, _ = with_exchanges(model, scenario, precision, found, of_stage(model, mean, alike[0])) if skewed else (placed, ())
        mine = held_by_stage(model, alike[0])
        held = cut_model(mine, found, experts_held=found.expert)
        stages.append(
            Stage(
                name=_stage_name(first, len(alike), found.pipeline),
                stages=len(alike),
                chips=len(alike) * found.chips // found.pipeline,
                operations=placed,
                mean=averaged,
                exchanges=exchanges,
                sends=() if alike[0].last else sends,
                held=held,
                routed=held if found.expert == 1 else cut_model(mine, found),
                cached=own,
            )
        )
    return Partition(plan=plan, layout=found, stages=tuple(stages), notes=_notes(model, scenario, found))


def _whole(model: ConvolutionalModel, scenario: Scenario, precision: Precision, found: Layout) -> Stage:
    own = replace(scenario, batch=scenario.batch / (found.replicas * found.micro_batches))
    operations = convolution.operations(model, own, precision)
    return Stage(
        name="",
        stages=1,
        chips=found.chips,
        operations=operations,
        mean=operations,
        exchanges=(),
        sends=(),
        held=model,
        routed=model,
        cached=own,
    )


def _alike(stages: Sequence[StageLayers]) -> list[tuple[int, list[StageLayers]]]:
    """Group stages that follow one another and hold the same; each group with the number of its first."""
    found: list[tuple[int, list[StageLayers]]] = []
    for index, stage in enumerate(stages):
        if found and found[-1][1][-1] == stage:
            found[-1][1].append(stage)
        else:
            found.append((index, [stage]))
    return found


def _stage_name(first: int, count: int, stages: int) -> str:
    if stages == 1:
        return ""
    return f"stage {first + 1}" if count == 1 else f"stages {first + 1}–{first + count}"


# ---- what is said aloud ---------------------------------------------------------------------------------------------------------


def _notes(model: Model, scenario: Scenario, found: Layout) -> tuple[str, ...]:
    layers = (*model.encoder, *model.decoder)
    return (
        *_attention_notes(layers, found),
        *_weight_notes(model, layers, found),
        *_stage_notes(model, found),
        *_context_notes(scenario, found),
        *_skew_notes(scenario, found),
    )


def _attention_notes(layers: Sequence[Layer], found: Layout) -> list[str]:
    ranks, said = found.attention_tensor, list[str]()
    kept = {int(one.kv_heads) for layer in layers if (one := layer.attention) is not None and one.latent is None}
    for heads in sorted(one for one in kept if one < ranks):
        said.append(f"{heads} KV heads are fewer than {ranks} tensor ranks: each is held, computed and read {ranks // heads} times")
    if ranks > 1 and any(layer.attention is not None and layer.attention.latent is not None for layer in layers):
        said.append(
            f"the latent KV cache has no heads to cut: each of {ranks} tensor ranks has all of it, and all down-projections"
        )
    if found.attention_data:
        said.append(f"attention is data parallel over {found.tensor} tensor ranks: each holds all of its weights")
    return said


def _weight_notes(model: Model, layers: Sequence[Layer], found: Layout) -> list[str]:
    said: list[str] = []
    padded: Count = padded_vocabulary(model, found)
    if padded != model.vocabulary:
        said.append(
            f"the vocabulary of {model.vocabulary:g} is padded to {padded:g} rows, {padded // found.tensor:g} a tensor rank"
        )
    if found.copies > 1:
        said.append(f"2.5-D: {found.copies} copies of the weights on {found.side} × {found.side} chips each share the sequences")
    replicas = found.expert_replicas
    if any(layer.experts is not None for layer in layers):
        if replicas > 1 and found.expert > 1:
            said.append(f"each expert is held {replicas} times: {found.expert} ranks of experts on {found.chips} chips")
        if found.expert > 1 and found.expert_tensor > 1:
            said.append(f"each expert is cut over {found.expert_tensor} chips")
        if found.expert > 1 and found.tensor == 1:
            said.append(
                f"attention and shared experts are data parallel beside {found.expert} ranks of experts: each holds all of them"
            )
    if found.tensor > 1 and not found.split_stream:
        said.append(f"norms and residuals are computed on each of {found.tensor} tensor ranks: sp={found.tensor} would cut them")
    if found.tensor > 1 and any(layer.experts is not None for layer in layers):
        said.append(f"routers are held and computed on each of {found.tensor} tensor ranks")
    if found.tensor > 1 and (
        model.pooler or model.patches or model.audio or model.embedding_size or model.head == "masked-language"
    ):
        said.append(
            f"poolers, front ends and inner products of the head are held and computed on each of {found.tensor} tensor ranks"
        )
    return said


def _stage_notes(model: Model, found: Layout) -> list[str]:
    if found.pipeline == 1:
        return []
    said: list[str] = []
    if model.tied and model.head in ("language", "masked-language"):
        said.append("the token table is also the head: the first and the last stage hold it both")
    groups = [int(layer.count) for layer in model.encoder or model.decoder]
    if any(count % found.pipeline for count in groups):
        said.append(f"groups of {', '.join(map(str, groups))} layers are dealt out to {found.pipeline} stages in the order listed")
    return said


def _context_notes(scenario: Scenario, found: Layout) -> list[str]:
    if found.context == 1:
        return []
    if scenario.phase == "decode":
        return [f"each of {found.context} context ranks does all but attention of its sequences: only the cache is cut"]
    return [
        f"{found.context} context ranks share each prompt's pairs evenly, in zigzag order, and pass keys and values round a ring"
    ]


def _skew_notes(scenario: Scenario, found: Layout) -> list[str]:
    if scenario.routing_skew == 0.0 or found.expert == 1:
        return []
    return ["the busiest rank of experts sets the time; flops, bytes and energy are of all ranks"]
