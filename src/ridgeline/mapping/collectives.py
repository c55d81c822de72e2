"""Which algorithm and protocol a collective takes on the tiers of a system, and what that costs.

A group's members are placed inside out: a group of 16 on tiers of 8 and 32 takes 8 inside and 2 across. A tier's bandwidth is one
member's, and a member of an outer tier is all that is inside; each chip has its even share of it. `stride` chips lie between two
members where parallelism of another kind was placed further inside.

Every candidate is costed on whole arrays of sizes; the least time is kept element by element.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from math import prod
from typing import Any, Literal, NamedTuple, get_args

from ridgeline.arrays import is_scalar, maximum, to_float, where
from ridgeline.costs import collective as cost
from ridgeline.costs.collective import Collective
from ridgeline.errors import InputError, nearest
from ridgeline.quantities import Bytes, BytesPerSecond, Count, Fraction, Seconds
from ridgeline.specs.system import NetworkTier, System

Kind = Literal["all-reduce", "reduce-scatter", "all-gather", "all-to-all", "broadcast", "send"]


class Protocol(NamedTuple):
    """How a receiver learns that data came: the share of the bandwidth that is data, and time a step beyond the tier's latency."""

    share: Fraction
    overhead: Seconds


# The tier's latency is that of a step synchronised by flags, as low-latency has. The other two add what NCCL's tuning table has
# more for a ring over NVLink: 0.6, 1.9 and 3.4 µs a step [nvidia2024nccltuning]. Shares: 8 of 16 bytes and 120 of 128
# [hu2025demystifying].
PROTOCOLS: Mapping[str, Protocol] = {
    "hardware": Protocol(1.0, 0.0),
    "low-latency": Protocol(0.5, 0.0),
    "low-latency-128": Protocol(120 / 128, 1.3e-6),
    "simple": Protocol(1.0, 2.8e-6),
}
_OF_SWITCHES = ("low-latency", "low-latency-128", "simple")
_OF_GRIDS = ("hardware",)  # neighbours' transfer engines signal one another, as in a TPU
_GRIDS = ("ring", "torus-2d", "torus-3d", "mesh-2d", "mesh-3d")
_AXES = {"ring": 1, "torus-2d": 2, "torus-3d": 3, "mesh-2d": 2, "mesh-3d": 3}
ALGORITHMS = (
    *("ring", "bidirectional-ring", "multi-dimensional", "tree", "binary-tree", "double-tree", "halving-doubling"),
    *("one-shot", "two-shot", "direct", "chain", "scatter-all-gather", "in-network", "hierarchical"),
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Phase:
    """One collective on one tier, of which a hierarchical one is made."""

    tier: str
    kind: Kind
    members: Count
    cost: "CollectiveCost"


@dataclass(frozen=True, kw_only=True, eq=False)
class CollectiveCost:
    """What a collective takes; bytes are the mean of what a member puts on the links of each tier, flags included.

    `algorithm` and `protocol` are names, or arrays of indices into `algorithms` and `protocols` where sizes are arrays.
    """

    time: Seconds
    algorithm: Any
    protocol: Any
    bytes: Mapping[str, Bytes]
    steps: Count
    algorithms: tuple[str, ...] = ()
    protocols: tuple[str, ...] = ()
    phases: tuple[Phase, ...] = ()  # of a hierarchical one


class _Candidate(NamedTuple):
    algorithm: str
    protocol: str
    time: Seconds
    bytes: Mapping[str, Bytes]
    steps: Count
    phases: tuple[Phase, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Level:
    """A group's members on one tier: how many, on which axes, and the bandwidth of one chip.

    `through` says that what goes to outer tiers uses this level's links too, as in a dragonfly.
    """

    tier: NetworkTier
    members: int
    bandwidth: BytesPerSecond
    latency: Seconds
    shape: tuple[int, ...] = ()
    wrapped: tuple[bool, ...] = ()
    through: bool = False

    @property
    def is_grid(self) -> bool:
        """Whether members are joined to neighbours only."""
        return self.tier.topology in _GRIDS

    @property
    def link(self) -> BytesPerSecond:
        """Bandwidth of one link between two members: of a ring half, of d axes 1/(2d), fully connected 1/(n − 1), else all."""
        if self.is_grid:
            return self.bandwidth / (2 * _AXES[self.tier.topology])
        return self.bandwidth / (self.tier.size - 1) if self.tier.topology == "fully-connected" else self.bandwidth


# ---- placing a group ------------------------------------------------------------------------------------------------------------


def place(
    network: System | Sequence[NetworkTier], members: int, *, stride: int = 1, oversubscription: float = 1.0
) -> tuple[Level, ...]:
    """Return the levels that a group spans, inside out; levels with one member are left out.

    Raises `InputError` where the group does not fit, or a tier lacks what its topology needs.
    """
    tiers = network.tier if isinstance(network, System) else tuple(network)
    if members < 1 or stride < 1 or members != int(members) or stride != int(stride):
        raise InputError(f"a group has a whole number of members and stride, at least 1, not {members!r} and {stride!r}")
    levels: list[Level] = []
    left, spacing, inside = int(members), int(stride), 1
    for tier, through in _expanded(tiers, oversubscription):
        size = int(tier.size)
        if spacing >= size:
            if spacing % size:
                raise InputError(f"a stride of {stride} chips does not divide over tier {tier.name!r} of {size}")
            spacing //= size
        elif left > 1:
            taken = _share(left, size // spacing)
            if taken > 1:
                levels.append(_level(tier, taken, spacing, inside, through))
            left, spacing = left // taken, 1
        inside *= size
    if left > 1 or spacing > 1:
        chips = prod(int(tier.size) for tier in tiers)
        raise InputError(f"a group of {members} with a stride of {stride} does not fit {chips} chips in tiers {_names(tiers)}")
    return tuple(levels)


def _names(tiers: Sequence[NetworkTier]) -> str:
    return ", ".join(f"{tier.name} of {tier.size}" for tier in tiers) or "none"


def _share(members: int, room: int) -> int:
    """Members on a tier with room for some, the same number in each of the boxes that the group needs."""
    boxes = -(-members // room)
    while members % boxes:
        boxes += 1
    return members // boxes


def _expanded(tiers: Sequence[NetworkTier], oversubscription: float) -> Iterator[tuple[NetworkTier, bool]]:
    """Yield tiers, a dragonfly as groups around a router joined pair by pair, a thinned fat tree as leaves under a core."""
    for tier in tiers:
        thinned = tier.topology == "fat-tree" and oversubscription != 1.0
        if tier.topology != "dragonfly" and not thinned:
            yield tier, False
            continue
        if len(tier.shape) != 2 or prod(tier.shape) != tier.size:
            what = "members a group, groups" if tier.topology == "dragonfly" else "members a leaf, leaves"
            raise InputError(f"tier {tier.name!r} is a {tier.topology}: its shape must be [{what}] with product {tier.size}")
        inner, outer = tier.shape
        yield replace(tier, size=inner, topology="switch", shape=()), True
        latency = 2 * _latency(tier) if tier.topology == "dragonfly" else tier.latency
        above = "fully-connected" if tier.topology == "dragonfly" else "switch"
        bandwidth = inner * tier.bandwidth / (1.0 if tier.topology == "dragonfly" else oversubscription)
        yield replace(tier, size=outer, topology=above, shape=(), bandwidth=bandwidth, latency=latency), False


def _latency(tier: NetworkTier) -> Seconds:
    if tier.latency is None:
        raise InputError(f"tier {tier.name!r} has no latency, which the cost of a collective needs: give it one in seconds")
    return tier.latency


def _level(tier: NetworkTier, members: int, spacing: int, inside: int, through: bool) -> Level:
    level = Level(tier=tier, members=members, bandwidth=tier.bandwidth / inside, latency=_latency(tier), through=through)
    if not level.is_grid:
        return level
    shape = tier.shape or ((int(tier.size),) if tier.topology == "ring" else ())
    if len(shape) != _AXES[tier.topology] or prod(shape) != tier.size:
        raise InputError(
            f"tier {tier.name!r} is a {tier.topology}: its shape must have {_AXES[tier.topology]} axes, product {tier.size}"
        )
    inner = _compact(shape, spacing, tier.name)
    found = _compact(tuple(one // other for one, other in zip(shape, inner, strict=True)), members, tier.name)
    around = not tier.topology.startswith("mesh")
    wrapped = tuple(around and one * other == whole > 1 for one, other, whole in zip(found, inner, shape, strict=True))
    apart = max(step for step, one in zip(inner, found, strict=True) if one > 1)  # groups that share a link, and hops to the next
    return replace(level, shape=found, wrapped=wrapped, bandwidth=level.bandwidth / apart, latency=level.latency * apart)


@lru_cache(maxsize=1024)
def _compact(shape: tuple[int, ...], members: int, name: str) -> tuple[int, ...]:
    """The least elongated block of so many members inside a grid."""
    choices = product(*([one for one in range(1, size + 1) if members % one == 0] for size in shape[:-1]))
    blocks = [(*head, members // prod(head)) for head in choices if members % prod(head) == 0]
    fitting = [one for one in blocks if one[-1] <= shape[-1]]
    if not fitting:
        raise InputError(f"no block of {members} members fits the {' × '.join(map(str, shape))} grid of tier {name!r}")
    return min(fitting, key=lambda one: (max(one), tuple(-size for size in one)))


# ---- algorithms on one level ----------------------------------------------------------------------------------------------------

_PASSES = {"all-reduce": 2.0, "reduce-scatter": 1.0, "all-gather": 1.0}


def _options(level: Level, kind: Kind) -> dict[str, Callable[[Bytes, BytesPerSecond, Seconds], Collective]]:
    """Algorithms for a kind on a level: name → cost of (bytes, share of the bandwidth, latency of a step)."""
    if kind == "send":
        return {
            "direct": lambda size, share, wait: cost.send_receive(bytes=size, hops=1.0, bandwidth=share * level.link, latency=wait)
        }
    return _on_grid(level, kind) if level.is_grid else _on_switch(level, kind)


def _on_switch(level: Level, kind: Kind) -> dict[str, Callable[[Bytes, BytesPerSecond, Seconds], Collective]]:
    n, pair = float(level.members), level.link
    connected = level.tier.topology == "fully-connected"
    whole = pair * (n - 1) if connected else level.bandwidth  # a group on part of the members has part of the links
    depth = max(float(level.members.bit_length() - 1), 1.0)
    found: dict[str, Any] = {}

    def option(name: str, function: Any, bandwidth: BytesPerSecond, **rest: Any) -> None:
        found[name] = lambda size, share, wait: function(bytes=size, count=n, bandwidth=share * bandwidth, latency=wait, **rest)

    def chunked(name: str, function: Any, bandwidth: BytesPerSecond, stages: float, multiple: float = 1.0, **rest: Any) -> None:
        def of(size: Bytes, share: Fraction, wait: Seconds) -> Collective:
            chunks = _chunks(size, share * bandwidth, wait, stages, multiple)
            return function(bytes=size, count=n, bandwidth=share * bandwidth, latency=wait, chunks=chunks, **rest)

        found[name] = of

    if passes := _PASSES.get(kind):
        cycles = 2 * ((level.members - 1) // 2) if level.members > 2 else 1  # that share no link, in a complete graph
        option("ring", cost.ring, pair * cycles if connected else whole, passes=passes)
        option("two-shot" if kind == "all-reduce" else "direct", cost.direct, whole, passes=passes)
        if kind == "all-reduce" or level.members & (level.members - 1) == 0:
            option("halving-doubling", cost.halving_doubling, pair, passes=passes)
    if kind == "all-reduce":
        option("one-shot", cost.one_shot, whole)
    if kind == "all-to-all":
        option("direct", cost.direct, whole)
    if kind == "broadcast":
        chunked("chain", cost.chain, pair, max(n - 2, 1.0))
        option("scatter-all-gather", cost.scatter_all_gather, whole)
    if kind in ("all-reduce", "broadcast"):
        _trees(level, 2.0 if kind == "all-reduce" else 1.0, depth, (option, chunked))
    if level.tier.in_network_reduction and not connected:
        _adding(kind, n, whole, (option, chunked))
    return found


def _trees(level: Level, passes: float, depth: float, offer: tuple[Callable[..., None], Callable[..., None]]) -> None:
    option, chunked = offer
    option("tree", cost.binomial_tree, level.link, passes=passes)
    if level.tier.topology != "fully-connected":
        chunked("binary-tree", cost.binary_tree, level.bandwidth, depth, passes=passes)
        if passes > 1:
            chunked("double-tree", cost.double_tree, level.bandwidth, depth, passes=passes)


def _adding(kind: Kind, n: float, whole: BytesPerSecond, offer: tuple[Callable[..., None], Callable[..., None]]) -> None:
    option, chunked = offer
    if kind in ("all-reduce", "reduce-scatter"):
        chunked("in-network", cost.in_network, whole, 1.0, multiple=n if kind == "reduce-scatter" else 1.0)
    elif kind in ("all-gather", "broadcast"):
        option("in-network", cost.multicast, whole, senders=n if kind == "all-gather" else 1.0)


def _chunks(size: Bytes, bandwidth: BytesPerSecond, wait: Seconds, depth: float, multiple: float) -> Count:
    """Whole number of chunks that a pipeline takes; a step without latency is counted as a nanosecond."""
    best = cost.pipeline_chunks(bytes=size, depth=depth, bandwidth=bandwidth, latency=maximum(wait, 1e-9))
    return maximum((best / multiple + 0.5) // 1.0, 1.0 + 0.0 * best) * multiple


def _on_grid(level: Level, kind: Kind) -> dict[str, Callable[[Bytes, BytesPerSecond, Seconds], Collective]]:
    axes = [(float(size), wrapped) for size, wrapped in zip(level.shape, level.wrapped, strict=True) if size > 1]
    n, link = float(level.members), level.link
    cycle = axes[0][1] if len(axes) == 1 else level.members % 2 == 0
    found: dict[str, Any] = {}

    def option(function: Any, links: float, **rest: Any) -> Any:
        return lambda size, share, wait: function(bytes=size, count=n, bandwidth=share * links * link, latency=wait, **rest)

    if kind in _PASSES and cycle:
        found["ring"] = option(cost.ring, 1.0, passes=_PASSES[kind])
        found["bidirectional-ring"] = option(cost.bidirectional_ring, 2.0, passes=_PASSES[kind])
    if kind == "broadcast":
        found["chain"] = lambda size, share, wait: cost.chain(
            **{"bytes": size, "count": n, "bandwidth": share * link, "latency": wait},
            chunks=_chunks(size, share * link, wait, max(n - 2, 1.0), 1.0),
        )
    elif kind not in _PASSES or len(axes) > 1 or not cycle:
        found["multi-dimensional"] = lambda size, share, wait: multi_dimensional(axes, kind, size, 2 * share * link, wait)
    return found


def multi_dimensional(
    axes: Sequence[tuple[float, bool]], kind: Kind, bytes: Bytes, bandwidth: BytesPerSecond, latency: Seconds
) -> Collective:
    """A collective along the axes of a grid, (members, wrapped) each: every axis works on its own part at the same time.

        reduce-scatter: time = Σ_k max_p T(axis p + k, bytes / (d · Π_{j<k} n_{p+j}))   [jain2010bucket]

    Part p of d takes axis (p + k) mod d in phase k, where T is a bidirectional ring or a line; of an all-to-all every phase moves
    the whole part. A member starts a phase when all of its parts have ended the one before. `bandwidth` is that of the two links of
    one axis. For equal axes of a torus all links are busy all the time.

    >>> round(multi_dimensional([(4.0, True), (4.0, True)], "all-gather", 16e6, 2e9, 1e-6).time, 9)  # 4 steps, 15 MB at 4 GB/s
    0.003754
    """
    count, passes = len(axes), _PASSES.get(kind, 1.0)
    time: Seconds = 0.0
    sent: Bytes = 0.0
    steps: Count = 0.0
    for phase in range(count):
        slowest: Any = None
        for part in range(count):
            turn = [axes[(part + step) % count] for step in range(count)]
            size = bytes / count if kind == "all-to-all" else bytes / count / prod(one for one, _ in turn[:phase])
            one = _along(turn[phase], kind, size, bandwidth, latency, passes)
            sent = sent + one.sent
            slowest = (
                one if slowest is None else Collective(maximum(slowest.time, one.time), sent, maximum(slowest.steps, one.steps))
            )
        time, steps = time + slowest.time, steps + slowest.steps
    return Collective(time, sent, steps)


def _along(
    axis: tuple[float, bool], kind: Kind, size: Bytes, bandwidth: BytesPerSecond, latency: Seconds, passes: float
) -> Collective:
    given = {"bytes": size, "count": axis[0], "bandwidth": bandwidth, "latency": latency}
    if kind == "all-to-all":
        return cost.ring_all_to_all(**given) if axis[1] else cost.line_all_to_all(**given)
    return cost.bidirectional_ring(**given, passes=passes) if axis[1] else cost.line(**given, passes=passes)


# ---- candidates and the choice --------------------------------------------------------------------------------------------------


def _protocols(level: Level, protocol: str | None) -> tuple[str, ...]:
    return (protocol,) if protocol else (_OF_GRIDS if level.is_grid else _OF_SWITCHES)


def _on_level(level: Level, kind: Kind, size: Bytes, protocol: str | None) -> Iterator[_Candidate]:
    for algorithm, of in _options(level, kind).items():
        for name in _protocols(level, protocol):
            if algorithm == "in-network" and name.startswith("low-latency"):
                continue  # flags cannot be added up
            one = PROTOCOLS[name]
            found = of(size, one.share, level.latency + one.overhead)
            yield _Candidate(algorithm, name, found.time, {level.tier.name: found.sent / one.share}, found.steps)


def _hierarchical(levels: Sequence[Level], kind: Kind, size: Bytes, protocol: str | None) -> _Candidate:
    """Phases inside out and back: reduce-scatter inside, all-reduce across, all-gather inside; the best algorithm in each."""
    plan: list[tuple[Level, Kind, Bytes]] = []
    inwards: list[tuple[Level, Kind, Bytes]] = []
    left = size
    for level in levels[:-1]:
        plan.append((level, "reduce-scatter", left))
        inwards.insert(0, (level, "all-gather", left))
        left = left / level.members
    if kind == "all-reduce":
        plan = [*plan, (levels[-1], "all-reduce", left), *inwards]
    elif kind == "reduce-scatter":
        plan = [*plan, (levels[-1], "reduce-scatter", left)]
    elif kind == "all-gather":
        plan = [(levels[-1], "all-gather", left), *inwards]
    else:  # every tier moves whole buffers
        plan = [(level, kind, size) for level in (reversed(levels) if kind == "broadcast" else levels)]
    phases = tuple(
        Phase(tier=level.tier.name, kind=one, members=level.members, cost=_best(list(_on_level(level, one, part, protocol))))
        for level, one, part in plan
    )
    time, steps, moved = phases[0].cost.time, phases[0].cost.steps, dict(phases[0].cost.bytes)
    for phase in phases[1:]:
        time, steps = time + phase.cost.time, steps + phase.cost.steps
        for tier, one in phase.cost.bytes.items():
            moved[tier] = moved[tier] + one if tier in moved else one
    return _Candidate("hierarchical", protocol or "by phase", time, moved, steps, phases)


def _candidates(levels: Sequence[Level], kind: Kind, size: Bytes, protocol: str | None) -> Iterator[_Candidate]:
    """Algorithms of one level, or those over several: hierarchical, and those that treat all members alike."""
    if kind == "send" or len(levels) == 1:
        yield from _on_level(levels[-1], kind, size, protocol)
        return
    yield _hierarchical(levels, kind, size, protocol)
    if any(level.is_grid for level in levels) or kind == "broadcast":
        return
    for name in _protocols(levels[0], protocol):
        if kind == "all-to-all":
            yield _direct_over_levels(levels, size, name)
        elif all(level.tier.topology != "fully-connected" and not level.through for level in levels):
            yield _ring_over_levels(levels, _PASSES[kind], size, name)


def _ring_over_levels(levels: Sequence[Level], passes: float, size: Bytes, protocol: str) -> _Candidate:
    """As many rings as there are chips in a box, each entering it by another adapter [hu2025demystifying].

        c    = bytes / (n · rings)
        time = passes · max(Σ over n − 1 edges of (latency + c / bandwidth), max over tiers of bytes / bandwidth)

    The first is the way of one block round its ring, the second the tier whose links are busy longest.
    """
    share, overhead = PROTOCOLS[protocol]
    n = prod(level.members for level in levels)
    block = size / (n * (n // levels[-1].members)) / share
    path: Seconds = 0.0
    busy: Seconds = 0.0 * size
    moved: dict[str, Bytes] = {}
    for index, level in enumerate(levels):
        outward = prod(one.members for one in levels[index + 1 :])
        edges = outward * level.members - (outward if index + 1 < len(levels) else 0)  # of one ring
        path = path + (edges - (index == 0)) * (level.latency + overhead + block / level.bandwidth)
        load = (n - 1) / n * size * edges / n / share
        busy = maximum(busy + 0.0 * load / level.bandwidth, load / level.bandwidth)
        moved[level.tier.name] = moved.get(level.tier.name, 0.0) + passes * load
    time = passes * maximum(path, busy + 0.0 * path)
    return _Candidate("ring", protocol, where(size > 0, time, 0.0 * time), moved, passes * (n - 1.0) + 0.0 * time)


def _direct_over_levels(levels: Sequence[Level], size: Bytes, protocol: str) -> _Candidate:
    """All-to-all where every block goes straight to its member: the tier whose links are busy longest binds.

    time = the outermost latency + max over tiers of bytes that cross it / its bandwidth
    """
    share, overhead = PROTOCOLS[protocol]
    n, within = prod(level.members for level in levels), 1
    crossing: list[Bytes] = []
    for level in levels:
        crossing.append((level.members - 1) * within / n * size / share)
        within *= level.members
    time: Seconds = 0.0
    moved: dict[str, Bytes] = {}
    for index, level in enumerate(levels):
        load = crossing[index] + (sum(crossing[index + 1 :]) if level.through else 0.0)
        time = maximum(time + 0.0 * load, load / level.bandwidth) if index else load / level.bandwidth
        moved[level.tier.name] = moved.get(level.tier.name, 0.0) + crossing[index]
    wait = levels[-1].latency + overhead
    return _Candidate("direct", protocol, where(size > 0, time + wait, 0.0 * time), moved, 1.0 + 0.0 * time)


def _best(candidates: Sequence[_Candidate]) -> CollectiveCost:
    """Keep the fastest candidate element by element; where two are equal, the first."""
    first, *others = candidates
    time, steps, index = first.time, first.steps, 0.0 * first.time
    tiers = dict.fromkeys(tier for one in candidates for tier in one.bytes)
    moved = {tier: first.bytes.get(tier, 0.0) for tier in tiers}
    for number, one in enumerate(others, start=1):
        faster = one.time < time
        moved = {tier: where(faster, one.bytes.get(tier, 0.0), before) for tier, before in moved.items()}
        steps, index = where(faster, one.steps, steps), where(faster, float(number), index)
        time = where(faster, one.time, time)
    names, protocols = tuple(one.algorithm for one in candidates), tuple(one.protocol for one in candidates)
    alone = is_scalar(index)
    chosen = candidates[int(index)] if alone else None
    return CollectiveCost(
        time=to_float(time),
        algorithm=names[int(index)] if alone else index,
        protocol=protocols[int(index)] if alone else index,
        bytes=moved,
        steps=steps,
        algorithms=names,
        protocols=protocols,
        phases=chosen.phases if chosen else next((one.phases for one in candidates if one.phases), ()),
    )


def collective_cost(
    network: System | Sequence[NetworkTier],
    kind: Kind,
    bytes: Bytes,
    members: int,
    *,
    stride: int = 1,
    algorithm: str | None = None,
    protocol: str | None = None,
    oversubscription: float = 1.0,
) -> CollectiveCost:
    """Cost of a collective of a group by the fastest algorithm and protocol, or by a forced one.

    `bytes` is a member's whole buffer, before a reduce-scatter, an all-reduce, an all-to-all or a broadcast, after an all-gather;
    it may be an array. `oversubscription` divides the bandwidth of a fat tree above its leaves. One member costs nothing. Raises
    `InputError` for a group that does not fit, an unknown kind, algorithm or protocol, and one that cannot be done there.

    >>> tier = NetworkTier(name="nvswitch", size=8, topology="switch", bandwidth=450e9, latency=0.7e-6)
    >>> found = collective_cost([tier], "all-reduce", 900e6, 8, algorithm="ring", protocol="hardware")
    >>> round(found.time, 9), found.bytes  # 14 steps of 0.7 µs, and 1.575 GB at 450 GB/s
    (0.0035098, {'nvswitch': 1575000000.0})
    >>> collective_cost([tier], "all-reduce", 16e3, 8).algorithm  # one step of low-latency
    'one-shot'
    """
    for what, given, known in (
        ("kind", kind, get_args(Kind)),
        ("algorithm", algorithm, ALGORITHMS),
        ("protocol", protocol, PROTOCOLS),
    ):
        if given is not None and given not in known:
            raise InputError(f"unknown {what} {given!r} of a collective: {nearest(str(given), known)}")
    levels = place(network, members, stride=stride, oversubscription=oversubscription)
    if not levels:
        nothing = 0.0 * bytes
        return CollectiveCost(time=nothing, algorithm=algorithm or "none", protocol=protocol or "none", bytes={}, steps=nothing)
    found = list(_candidates(levels, kind, bytes, protocol))
    able = [one for one in found if algorithm in (None, one.algorithm)]
    if not able:
        where_ = " and ".join(f"{level.members} on {level.tier.name} ({level.tier.topology})" for level in levels)
        accepted = ", ".join(dict.fromkeys(one.algorithm for one in found)) or "none under this protocol"
        raise InputError(f"algorithm {algorithm!r} cannot do {kind} of {where_}: accepted are {accepted}")
    return _best(able)
