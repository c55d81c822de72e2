"""How many ranks of each kind of parallelism a plan has and how far apart they lie; what does not divide is refused."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ridgeline.arrays import is_scalar, to_float
from ridgeline.errors import InputError, nearest
from ridgeline.mapping.collectives import place
from ridgeline.specs.model import Attention, ConvolutionalModel, Experts, Layer, Model
from ridgeline.specs.plan import Plan
from ridgeline.specs.scenario import Scenario
from ridgeline.specs.system import NetworkTier

KINDS = ("tensor", "copies", "context", "data", "pipeline")  # from the inside out, unless the plan places them


@dataclass(frozen=True, kw_only=True, eq=False)
class Layout:
    """Degrees of parallelism as whole numbers, and the chips that lie between two ranks of a kind.

    In 2-D the tensor ranks are a square of `side`; in 2.5-D `copies` of it hold the same weights and share the sequences.
    """

    tensor: int
    side: int  # 0 in 1-D
    copies: int
    context: int
    data: int
    pipeline: int
    expert: int
    expert_tensor: int  # ranks that cut one expert
    micro_batches: int
    chunks: int  # virtual stages
    split_stream: bool  # norms and residuals are cut over the tensor ranks
    attention_data: bool  # attention takes sequences instead of heads
    strides: Mapping[str, int]

    @property
    def chips(self) -> int:
        """Number of chips."""
        return self.tensor * self.copies * self.context * self.data * self.pipeline

    @property
    def replicas(self) -> int:
        """Groups that work on sequences of their own."""
        return self.copies * self.data

    @property
    def attention_tensor(self) -> int:
        """Ranks over which heads are cut."""
        return 1 if self.attention_data else self.tensor

    @property
    def expert_replicas(self) -> int:
        """Chips of a stage that hold the same experts."""
        return self.chips // (self.pipeline * self.expert * self.expert_tensor)

    def holders(self, decoding: bool) -> float:
        """Groups of sequences, or parts of them, that the ranks of one set of experts bring together."""
        alike = (1 if self.attention_data else self.tensor) * (self.context if decoding else 1)
        return max(1.0, self.expert * self.expert_tensor / alike)


def layout(plan: Plan, model: Model | ConvolutionalModel, scenario: Scenario, tiers: Sequence[NetworkTier]) -> Layout:
    """Return the ranks of a plan; raise `InputError` with what would be accepted where something does not divide or fit."""
    _check_tiers(tiers)
    degrees = {name: _whole(plan, name) for name in ("tensor", "context", "data", "pipeline", "expert", "sequence")}
    tensor, side, copies = _tensor_form(plan, degrees["tensor"])
    ranks = degrees["tensor"] * degrees["context"] * degrees["data"]
    expert = degrees["expert"]
    if ranks % expert:
        raise InputError(
            f"plan ep={expert}: experts span the {ranks} tensor, context and data ranks: {_divisors(ranks)} are accepted"
        )
    expert_tensor = min(tensor, ranks // expert)
    if (ranks // expert) % expert_tensor:
        raise InputError(
            f"plan ep={expert}: {ranks} ranks of which {tensor} cut tensors: {_divisors(ranks // tensor)} are accepted"
        )
    found = Layout(
        tensor=tensor,
        side=side,
        copies=copies,
        context=degrees["context"],
        data=degrees["data"],
        pipeline=degrees["pipeline"],
        expert=expert,
        expert_tensor=expert_tensor,
        micro_batches=_whole(plan, "micro_batches"),
        chunks=_whole(plan, "virtual_stages"),
        split_stream=_splits_stream(plan, degrees["sequence"], tensor, side),
        attention_data=plan.attention_data_parallel and tensor > 1,
        strides=_strides(plan, {**degrees, "tensor": tensor, "copies": copies}, expert_tensor, tiers),
    )
    _check_model(found, model)
    _check_scenario(found, model, scenario)
    _check_chips(found, plan, tiers)
    return found


def _check_tiers(tiers: Sequence[NetworkTier]) -> None:
    for tier in tiers:
        if not is_scalar(tier.size) or tier.size != int(tier.size) or tier.size < 1:
            raise InputError(f"tier {tier.name!r} joins {tier.size} members: a whole number of 1 or more is wanted")
        if not np.all(np.asarray(tier.bandwidth) > 0):
            raise InputError(f"tier {tier.name!r} has a bandwidth of {tier.bandwidth} B/s: more than 0 is wanted")


def _whole(plan: Plan, name: str) -> int:
    value = getattr(plan, name)
    if not is_scalar(value) or value != int(value) or value < 1:
        raise InputError(f"plan {name}={value}: a whole number of 1 or more is wanted")
    return int(value)


def _tensor_form(plan: Plan, tensor: int) -> tuple[int, int, int]:
    """Return tensor ranks that hold different weights, the side of their square (0 in 1-D), and the copies of the weights.

    2.5-D takes the most copies c ≤ ∛t with a whole side √(t/c) [solomonik2011communication].
    """
    if plan.tensor_form == "1d" or tensor == 1:
        return tensor, 0, 1
    if plan.attention_data_parallel:
        raise InputError(f"plan form={plan.tensor_form}: attention data parallel goes with 1d only")
    most = 1 if plan.tensor_form == "2d" else max(2, math.floor(tensor ** (1 / 3) + 1e-9))
    least = 1 if plan.tensor_form == "2d" else 2
    for copies in range(most, least - 1, -1):
        side = math.isqrt(tensor // copies)
        if side > 1 and side * side * copies == tensor:
            return side * side, side, copies
    accepted = "4, 9, 16, 25, 64: squares" if plan.tensor_form == "2d" else "8, 18, 27, 32, 64: c · q² with 2 ≤ c ≤ ∛t"
    raise InputError(f"plan tp={tensor},form={plan.tensor_form}: tensor ranks are accepted as {accepted}")


def _splits_stream(plan: Plan, sequence: int, tensor: int, side: int) -> bool:
    degree = _whole(plan, "tensor")
    if sequence not in (1, degree):
        raise InputError(f"plan sp={sequence}: norms are cut over the tensor ranks: 1 or {degree} are accepted")
    return tensor > 1 and (side > 0 or sequence > 1 or plan.sequence_parallel_norms or plan.attention_data_parallel)


def _strides(plan: Plan, degrees: Mapping[str, int], expert_tensor: int, tiers: Sequence[NetworkTier]) -> dict[str, int]:
    """Return the chips between two ranks of every kind: inside out, or from the tier on that the plan names."""
    names = [tier.name for tier in tiers]
    below = [math.prod(int(tier.size) for tier in tiers[:index]) for index in range(len(tiers))]
    for kind, tier in plan.placement.items():
        if kind not in ("tensor", "context", "data", "pipeline"):
            raise InputError(f"plan places {kind!r}: tensor, context, data and pipeline can be placed; experts lie where those do")
        if tier not in names:
            raise InputError(f"plan places {kind} on {tier!r}: {nearest(tier, names)}")
    given = {kind: names.index(tier) for kind, tier in plan.placement.items() if degrees[kind] > 1}
    order = sorted(KINDS, key=lambda kind: (given.get(kind, 0), kind not in given, KINDS.index(kind)))
    found: dict[str, int] = {}
    inside = 1
    for kind in order:
        inside = max(inside, below[given[kind]]) if kind in given else inside
        found[kind] = inside
        if kind in given:
            _check_on_tier(tiers, kind, degrees[kind], inside, names[given[kind]])
        inside *= degrees[kind]
    outer = [found[kind] for kind in ("context", "data", "copies") if degrees[kind] > 1]
    cut_whole = expert_tensor == degrees["tensor"] and outer
    return {**found, "expert": min(outer) if cut_whole else found["tensor"] * expert_tensor}


def _check_on_tier(tiers: Sequence[NetworkTier], kind: str, members: int, stride: int, name: str) -> None:
    on = {level.tier.name for level in place(tiers, members, stride=stride)}
    if on - {name}:
        raise InputError(
            f"plan places {kind} on {name!r}: {members} ranks, {stride} chips apart, also need {', '.join(on - {name})}"
        )


def _check_chips(found: Layout, plan: Plan, tiers: Sequence[NetworkTier]) -> None:
    chips = math.prod(int(tier.size) for tier in tiers)
    if found.chips > chips:
        raise InputError(f"plan {plan.text} takes {found.chips} chips: the system has {chips}")
    for kind in (*KINDS, "expert"):
        members = found.expert if kind == "expert" else getattr(found, kind)
        if members > 1:  # a group that no tier can hold is said before anything is computed
            place(tiers, members, stride=found.strides[kind])


# ---- what must divide -----------------------------------------------------------------------------------------------------------


def _divisors(number: int) -> str:
    """Return the divisors of a number as text."""
    found = [one for one in range(1, number + 1) if number % one == 0] if number < 1_000_000 else [1]
    return ", ".join(map(str, found[:12]))


def _common(numbers: Sequence[Any]) -> int:
    return math.gcd(*(int(one) for one in numbers)) if numbers else 1


def _check_divides(what: str, degree: int, parts: Mapping[str, Any]) -> None:
    """Refuse a degree that does not divide every one of some counts, naming the first and what divides them all."""
    for name, number in parts.items():
        if int(number) % degree:
            common = _common(list(parts.values()))
            raise InputError(f"plan {what}={degree}: {number:g} {name} do not divide: {_divisors(common)} are accepted")


def _check_model(found: Layout, model: Model | ConvolutionalModel) -> None:
    if isinstance(model, ConvolutionalModel):
        if found.chips > found.data:
            raise InputError(f"{model.name} is convolutional: data parallelism is what it can be spread by, as in dp={found.chips}")
        return
    layers = (*model.encoder, *model.decoder)
    _check_tensor(found, layers)
    experts = [layer.experts for layer in layers if layer.experts is not None]
    _check_experts(found, model, experts)
    if found.context > 1 and any(layer.linear_attention is not None for layer in layers):
        raise InputError(f"plan cp={found.context}: {model.name} has linear attention, whose state is not cut by context: cp=1")
    stages = found.pipeline * found.chunks
    if stages == 1:
        return
    if found.pipeline == 1:
        raise InputError(f"plan vs={found.chunks}: interleaved stages need a pipeline, pp=2 or more")
    if model.encoder and model.decoder:
        raise InputError(f"plan pp={found.pipeline}: {model.name} has two stacks, which are not cut into stages: pp=1")
    count = sum(int(layer.count) for layer in layers)
    if found.chunks > 1 and count % stages:
        raise InputError(f"plan pp·vs={stages}: {count} layers do not divide: {_divisors(count)} are accepted")
    if count < stages:
        raise InputError(f"plan pp={stages}: {model.name} has {count} layers: 1 to {count} stages are accepted")


def _check_tensor(found: Layout, layers: Sequence[Layer]) -> None:
    parts: dict[str, Any] = {}
    for layer in layers:
        for attention in (layer.attention, layer.cross_attention):
            if attention is not None and not found.attention_data:
                parts["heads"] = math.gcd(int(attention.heads), parts.get("heads", 0))
                _check_kv_heads(found, attention)
        if layer.linear_attention is not None and not found.attention_data:
            heads = (int(layer.linear_attention.key_heads), int(layer.linear_attention.value_heads))
            parts["linear-attention heads"] = math.gcd(*heads, parts.get("linear-attention heads", 0))
        if layer.feed_forward is not None:
            parts["feed-forward columns"] = math.gcd(int(layer.feed_forward.width), parts.get("feed-forward columns", 0))
        if layer.experts is not None and layer.experts.shared_width:
            parts["shared-expert columns"] = math.gcd(int(layer.experts.shared_width), parts.get("shared-expert columns", 0))
    _check_divides("tp", found.tensor, parts)


def _check_kv_heads(found: Layout, attention: Attention) -> None:
    """KV heads are cut, or replicated a whole number of times."""
    heads, kv = int(attention.heads), int(attention.kv_heads)
    if attention.latent is None and found.tensor % kv and kv % found.tensor:
        accepted = [one for one in range(1, heads + 1) if heads % one == 0 and (kv % one == 0 or one % kv == 0)]
        raise InputError(
            f"plan tp={found.tensor}: {kv} KV heads neither divide nor repeat: {', '.join(map(str, accepted))} are accepted"
        )


def _check_experts(found: Layout, model: Model, experts: Sequence[Experts]) -> None:
    if found.expert > 1 and not experts:
        raise InputError(f"plan ep={found.expert}: {model.name} has no experts: ep=1")
    if experts and found.side:
        raise InputError(f"plan form: {model.name} has experts, and their tensor parallelism is 1-D: form=1d")
    if found.side and any(layer.attention is not None and layer.attention.latent is not None for layer in model.decoder):
        raise InputError(f"plan form: {model.name} has latent attention, whose tensor parallelism is 1-D: form=1d")
    _check_divides("ep", found.expert, {"experts": _common([one.count for one in experts])} if experts else {})
    if experts and found.expert_tensor > 1:
        _check_divides("tp (over one expert)", found.expert_tensor, {"expert columns": _common([one.width for one in experts])})


def _values(value: Any) -> Iterator[float]:
    yield from np.unique(np.asarray(to_float(value), dtype=np.float64)).tolist()


def _check_scenario(found: Layout, model: Model | ConvolutionalModel, scenario: Scenario) -> None:
    cuts = {"dp": found.data, "copies of 2.5-D": found.copies, "mb": found.micro_batches}
    if found.attention_data:
        cuts["tp (attention data parallel)"] = found.tensor
    whole = math.prod(cuts.values())
    said = " · ".join(f"{name}={degree}" for name, degree in cuts.items() if degree > 1)
    for batch in _values(scenario.batch):
        if batch % whole:
            raise InputError(f"plan {said}: a batch of {batch:g} does not divide: a multiple of {whole} is accepted")
        for samples in _values(scenario.samples):
            if (batch / whole) % samples:
                raise InputError(
                    f"plan {said}: groups of {samples:g} samples would be torn: a batch that is a multiple of {whole * samples:g}"
                )
    if found.context > 1:
        _check_context(found, model, scenario)


def _check_context(found: Layout, model: Model | ConvolutionalModel, scenario: Scenario) -> None:
    if isinstance(model, Model) and model.encoder and (model.decoder or model.patches is not None or model.audio is not None):
        raise InputError(f"plan cp={found.context}: context parallelism is of texts: {model.name} takes cp=1")
    name = "context" if scenario.phase == "decode" else "prompt"
    for tokens in _values(getattr(scenario, name)):
        if tokens % found.context:
            raise InputError(f"plan cp={found.context}: a {name} of {tokens:g} tokens does not divide: a multiple is accepted")
