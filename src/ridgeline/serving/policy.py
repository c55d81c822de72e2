"""How a service is run: scheduling policies, paging, preemption, replicas and routing."""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from ridgeline.errors import InputError
from ridgeline.quantities import Bytes, BytesPerSecond, Count, Fraction, Seconds

PolicyName = Literal["static", "continuous", "chunked", "prefill-first", "decode-first", "disaggregated"]
Preemption = Literal["recompute", "swap"]
Routing = Literal["round-robin", "least-outstanding", "random"]
POLICIES: tuple[PolicyName, ...] = get_args(PolicyName)
PREEMPTIONS: tuple[Preemption, ...] = get_args(Preemption)
ROUTINGS: tuple[Routing, ...] = get_args(Routing)


class Policy(NamedTuple):
    """What tells policies apart."""

    mixes: bool  # decode tokens and prompts share a step
    splits: bool  # a prompt may be cut into chunks
    drains: bool  # no prompt starts before every running request is done
    padded: bool  # a finished request keeps its place until the whole batch is done


# static: FasterTransformer's request-level batches. continuous: Orca's iteration-level batches [yu2022orca, §3], prompts whole
# beside decodes. prefill-first: vLLM's first scheduler [kwon2023pagedattention, §4.5]: steps of prompts alone, decodes wait.
# decode-first: prompts wait until no request decodes. chunked: decodes first, prompts fill up to the token budget
# [agrawal2024sarathi, Algorithm 3].
_POLICIES: dict[PolicyName, Policy] = {
    "static": Policy(mixes=False, splits=False, drains=True, padded=True),
    "continuous": Policy(mixes=True, splits=False, drains=False, padded=False),
    "chunked": Policy(mixes=True, splits=True, drains=False, padded=False),
    "prefill-first": Policy(mixes=False, splits=False, drains=False, padded=False),
    "decode-first": Policy(mixes=False, splits=False, drains=True, padded=False),
}


@dataclass(frozen=True, kw_only=True)
class Serving:
    """How requests are served; a token budget bounds a step where prompts are cut, and joins whole prompts where not.

    `disaggregated` has `prefill_replicas` that compute prompts and `replicas` that decode; caches go from one to the other
    over each prefill replica's own link. Preempted requests of a decode replica are recomputed there.
    """

    policy: PolicyName = "chunked"
    most_sequences: int = 256
    token_budget: int = 2048
    page: int = 16  # tokens
    watermark: Fraction = 0.01  # of the pages stay free when a request is admitted beside others
    reserves: bool = False  # a request is admitted when the pages of its whole output are free, and then never preempted
    memory_share: Fraction = 1.0  # of the main memory that the service may use
    cache_share: Fraction = 1.0  # of what weights and activations leave of it that pages take
    set_aside: Bytes = 0.0  # of a chip's memory for driver, libraries and launched graphs
    preemption: Preemption = "recompute"
    swap_bandwidth: BytesPerSecond | None = None
    replicas: int = 1
    routing: Routing = "round-robin"
    prefill_replicas: int = 1
    link_bandwidth: BytesPerSecond | None = None
    link_latency: Seconds = 0.0

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        for name, known in (("policy", POLICIES), ("preemption", PREEMPTIONS), ("routing", ROUTINGS)):
            if getattr(self, name) not in known:
                raise InputError(f"{name} {getattr(self, name)!r}: choose {', '.join(known)}")
        for name in ("most_sequences", "token_budget", "page", "replicas", "prefill_replicas"):
            if getattr(self, name) < 1:
                raise InputError(f"{name.replace('_', ' ')} {getattr(self, name)}: 1 or more is wanted")
        if not 0.0 <= self.watermark < 1.0:
            raise InputError(f"watermark {self.watermark:g}: a fraction of the pages from 0 to below 1 is wanted")
        for name in ("memory_share", "cache_share"):
            if not 0.0 < getattr(self, name) <= 1.0:
                raise InputError(f"{name.replace('_', ' ')} {getattr(self, name):g}: a fraction above 0, at most 1, is wanted")
        if not self.set_aside >= 0:
            raise InputError(f"set aside {self.set_aside:g}: bytes, 0 or more, are wanted")
        if self.preemption == "swap" and not _positive(self.swap_bandwidth):
            raise InputError("preemption by swapping: the bandwidth to the host's memory is wanted")
        if self.policy == "disaggregated" and not _positive(self.link_bandwidth):
            raise InputError("policy disaggregated: the bandwidth of the link between the pools is wanted")
        if not self.link_latency >= 0:
            raise InputError(f"link latency {self.link_latency:g}: 0 or more is wanted")

    @property
    def traits(self) -> Policy:
        """What the policy does in a replica; replicas of a disaggregated service cut prompts at the token budget."""
        return _POLICIES["chunked" if self.policy == "disaggregated" else self.policy]


def _positive(value: Count | None) -> bool:
    return value is not None and math.isfinite(value) and value > 0
