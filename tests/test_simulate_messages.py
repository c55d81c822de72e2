"""The alpha-beta cost of every algorithm on every topology against messages played over links, with the data they carry."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from ridgeline.costs import collective as cost
from ridgeline.errors import InputError
from ridgeline.mapping.collectives import collective_cost
from ridgeline.simulate import collectives as schedules
from ridgeline.simulate.messages import (
    Link,
    Move,
    Network,
    Run,
    Schedule,
    boxes,
    dragonfly,
    fat_tree,
    fully_connected,
    grid,
    play,
    switch,
)
from ridgeline.specs.system import NetworkTier

BANDWIDTH, LATENCY = 100e9, 1e-6
SIZES = tuple(2.0**power for power in (10, 18, 22, 30))  # 1 KiB to 1 GiB
COUNTS = (2, 3, 4, 7, 8, 13, 16)
TOLERANCE = 0.02  # what this part of the project asks for


def tier(topology: Any, *shape: int, **rest: Any) -> NetworkTier:
    return NetworkTier(
        **{
            "name": "fabric",
            "size": math.prod(shape),
            "topology": topology,
            "shape": shape,
            "bandwidth": BANDWIDTH,
            "latency": LATENCY,
        }
        | rest
    )


# ---- what each algorithm must leave behind --------------------------------------------------------------------------------------


def value(member: int, index: int) -> int:
    return 1 + (7 * member + 3 * index) % 11


@dataclass
class Played:
    """A run, and whether every member ended with what the collective promises."""

    run: Run
    correct: bool


def play_on(
    network: Network, kind: str, blocks: list[Any], add: Callable[[Schedule], None], owners: Callable[[Any], int]
) -> Played:
    """Play a schedule over items (block, half); what each member starts with and must end with follows from the kind."""
    schedule = Schedule(network)
    add(schedule)
    items = [(block, half) for block in blocks for half in (0, 1)]
    count = network.members
    sums = {item: sum(value(one, index) for one in range(count)) for index, item in enumerate(items)}
    own = {item: value(owners(item[0]), index) for index, item in enumerate(items)}
    if kind in ("all-reduce", "reduce-scatter"):
        start = {one: {item: value(one, index) for index, item in enumerate(items)} for one in range(count)}
    else:
        start = {one: {item: own[item] for item in items if owners(item[0]) == one} for one in range(count)}
    found = play(schedule, start)
    wanted = sums if kind in ("all-reduce", "reduce-scatter") else own
    everywhere = kind != "reduce-scatter"
    correct = all(
        found.state[one].get(item) == wanted[item] for one in range(count) for item in items if everywhere or owners(item[0]) == one
    )
    return Played(found, correct)


def ring_of(network: Network) -> schedules.Ring:
    return schedules.axis_rings(network, 0)[0] if len(network.shape) == 1 else schedules.switched_ring(network)


def passes(kind: str) -> list[bool]:
    return {"all-reduce": [True, False], "reduce-scatter": [True], "all-gather": [False]}[kind]


def rings(network: Network, kind: str, size: float, one_pass: Any, loops: list[schedules.Ring] | None = None) -> Played:
    """One ring, or several with an even part of the buffer each."""
    loops = loops or [ring_of(network)]
    count = network.members

    def add(schedule: Schedule) -> None:
        for part, loop in enumerate(loops):
            waits: Any = defaultdict(list)
            data = schedules.Data(lambda block, loop=loop, part=part: [(part, loop.members[block])], size / count / len(loops))
            for reduce in passes(kind):
                waits = one_pass(schedule, loop, data, waits, reduce=reduce)

    return play_on(network, kind, [(part, one) for part in range(len(loops)) for one in range(count)], add, lambda block: block[1])


def blocks_of(network: Network, kind: str, size: float, add: Any, parts: int = 0, **options: Any) -> Played:
    count = network.members
    blocks = [(part, one) for part in range(parts) for one in range(count)] if parts else list(range(count))
    owner = (lambda block: block[1]) if parts else (lambda block: block)
    return play_on(network, kind, blocks, lambda schedule: add(schedule, size, kind, **options), owner)


# ---- every algorithm on every topology ------------------------------------------------------------------------------------------


def walecki(count: int) -> list[tuple[int, ...]]:
    """Directed Hamiltonian cycles of a complete graph that share no link: zigzags over a rim, both ways round."""
    rim, cycles = count - 1, []
    for turn in range(max(rim // 2, 1) if count > 2 else 0):
        zigzag = [(turn + (step + 1) // 2 * (1 if step % 2 else -1)) % rim for step in range(rim)]
        cycles.append((rim, *zigzag))
    return [one for cycle in cycles for one in (cycle, cycle[::-1])] or [(0, 1)]


def chunks_of(algorithm: str, kind: str, size: float, count: int) -> int:
    """Chunks are an input of the simulation: as many as the mapping takes."""
    depth = {"chain": max(count - 2, 1), "in-network": 1}.get(algorithm, max(count.bit_length() - 1, 1))
    multiple = count if (algorithm, kind) == ("in-network", "reduce-scatter") else 1
    best = cost.pipeline_chunks(bytes=size, depth=float(depth), bandwidth=BANDWIDTH, latency=LATENCY)
    return max(1, int(best / multiple + 0.5)) * multiple


def whole_buffer(network: Network, kind: str, keys: list[Any], add: Callable[[Schedule], None]) -> Played:
    """All-reduce or broadcast from member 0 of named items, over schedules that keep their own names."""
    schedule = Schedule(network)
    add(schedule)
    count = network.members
    start: Any = {
        one: {key: value(one, index) for index, key in enumerate(keys)} if kind == "all-reduce" or one == 0 else {}
        for one in range(count)
    }
    found = play(schedule, start)
    members = range(count) if kind == "all-reduce" else (0,)
    wanted = {key: sum(value(one, index) for one in members) for index, key in enumerate(keys)}
    return Played(found, all(found.state[one].get(key) == wanted[key] for one in range(count) for key in keys))


def exchanged(network: Network, size: float, add: Any) -> Played:
    """All-to-all: member t must end with the item of every source for t."""
    schedule, count = Schedule(network), network.members
    add(schedule, size)
    parts = {message.moves[0].source[0][0] for message in schedule.messages if message.moves}
    items = [((part, one, other), half) for part in parts for one in range(count) for other in range(count) for half in (0, 1)]
    start = {one: {item: value(one, item[0][2]) for item in items if item[0][1] == one} for one in range(count)}
    found = play(schedule, start)
    return Played(found, all(found.state[item[0][2]].get(item) == value(item[0][1], item[0][2]) for item in items))


HALVES = (0, 1)


def on_switch(network: Network, kind: str, algorithm: str, size: float) -> Played:
    count = network.members
    power = 1 << (count.bit_length() - 1)
    core = [2 * one for one in range(count - power)] + list(range(2 * (count - power), count))
    k = chunks_of(algorithm, kind, size, count)
    chunked = [(chunk, half) for chunk in range(k) for half in HALVES]
    blocks = [(block, half) for block in range(count) for half in HALVES]
    reduce = kind == "all-reduce"

    def trees(number: int) -> Played:
        keys = [(tree, chunk) for tree in range(number) for chunk in range(k)]
        return whole_buffer(
            network, kind, keys, lambda one: schedules.binary_trees(one, size, k, trees=number, reduce=reduce, window=4)
        )

    def shots() -> Played:
        schedule = Schedule(network)
        schedules.one_shot(schedule, size)
        found = play(schedule, {one: {item: value(one, index) for index, item in enumerate(blocks)} for one in range(count)})
        sums = [sum(value(one, index) for one in range(count)) for index in range(len(blocks))]
        got = [[found.state[one]["sum", *item] + value(one, index) for index, item in enumerate(blocks)] for one in range(count)]
        return Played(found, got == [sums] * count)

    def adding() -> Played:
        if kind in ("all-reduce", "reduce-scatter"):
            add = lambda one: schedules.in_network(one, size, k, kind)  # noqa: E731
            return play_on(network, kind, list(range(k)), add, lambda chunk: chunk * count // k)
        return whole_buffer(network, kind, chunked, lambda _: None)

    return {
        "ring": lambda: rings(network, kind, size, schedules.ring_pass),
        "two-shot": lambda: blocks_of(network, kind, size, schedules.direct),
        "direct": lambda: (
            exchanged(network, size, schedules.direct_all_to_all)
            if kind == "all-to-all"
            else blocks_of(network, kind, size, schedules.direct)
        ),
        "halving-doubling": lambda: play_on(
            network,
            kind,
            list(range(power)),
            lambda one: schedules.halving_doubling(one, size, kind),
            lambda block: core[block],
        ),
        "one-shot": shots,
        "tree": lambda: whole_buffer(
            network, kind, [(0, half) for half in HALVES], lambda one: schedules.binomial_tree(one, size, reduce=reduce)
        ),
        "binary-tree": lambda: trees(1),
        "double-tree": lambda: trees(2),
        "chain": lambda: whole_buffer(network, kind, chunked, lambda one: schedules.chain(one, size, k)),
        "scatter-all-gather": lambda: whole_buffer(network, kind, blocks, lambda one: schedules.scatter_all_gather(one, size)),
        "in-network": adding,
    }[algorithm]()


def on_complete(network: Network, kind: str, algorithm: str, size: float) -> Played:
    """Fully connected: rings along all edge-disjoint cycles, the rest as on a switch."""
    if algorithm == "ring":
        loops = [schedules.switched_ring(network, one) for one in walecki(network.members)]
        return rings(network, kind, size, schedules.ring_pass, loops)
    return on_switch(network, kind, algorithm, size)


def cycle_of(network: Network) -> schedules.Ring:
    """A cycle through all members of a grid: the axis itself, or a snake with an even axis innermost."""
    if len([one for one in network.shape if one > 1]) == 1:
        axis = next(axis for axis, one in enumerate(network.shape) if one > 1)
        return schedules.axis_rings(network, axis)[0]
    order = sorted(range(len(network.shape)), key=lambda axis: network.shape[axis] % 2)
    path = schedules.snake([network.shape[axis] for axis in order])
    strides = [math.prod(network.shape[:axis]) for axis in range(len(network.shape))]
    members = [sum(one * strides[axis] for one, axis in zip(place, order, strict=True)) for place in path]
    return schedules.switched_ring(network, members)


def on_grid(network: Network, kind: str, algorithm: str, size: float) -> Played:
    parts = len([one for one in network.shape if one > 1])
    if algorithm == "multi-dimensional" and kind == "all-to-all":
        return exchanged(network, size, schedules.grid_all_to_all)
    if algorithm == "multi-dimensional":
        return blocks_of(network, kind, size, schedules.multi_dimensional, parts=parts)
    one_pass = schedules.ring_pass if algorithm == "ring" else schedules.both_ways_pass
    return rings(network, kind, size, one_pass, [cycle_of(network)])


KINDS = ("all-reduce", "reduce-scatter", "all-gather", "all-to-all", "broadcast", "send")
GRIDS = {
    "torus-2d": [(2, 2), (3, 2), (4, 4), (3, 5)],
    "torus-3d": [(2, 2, 2), (3, 3, 3), (2, 3, 4)],
    "mesh-2d": [(2, 2), (2, 3), (4, 4), (3, 5)],
    "mesh-3d": [(2, 2, 2), (3, 3, 3), (2, 3, 4)],
}
LEAVES = [(2, 2), (4, 2), (3, 5)]


def networks(topology: str) -> Iterator[tuple[NetworkTier, Network, Any]]:
    for shape in GRIDS.get(topology, ()):
        yield tier(topology, *shape), grid(shape, BANDWIDTH, LATENCY, wrapped=topology.startswith("torus")), on_grid
    if topology == "fat-tree":
        for inner, leaves in LEAVES:
            yield tier(topology, inner, leaves), fat_tree(inner, leaves, BANDWIDTH, LATENCY), on_switch
    for count in COUNTS if topology in ("ring", "switch", "fully-connected") else ():
        if topology == "ring":
            yield tier(topology, count), grid((count,), BANDWIDTH, LATENCY, wrapped=True), on_grid
        elif topology == "switch":
            yield tier(topology, count, in_network_reduction=True), switch(count, BANDWIDTH, LATENCY), on_switch
        else:
            yield tier(topology, count), fully_connected(count, BANDWIDTH, LATENCY), on_complete


def comparisons(topology: str, kind: Any, sizes: tuple[float, ...] = SIZES) -> Iterator[tuple[str, int, float, float, bool]]:
    """Every algorithm of a kind on a topology: name, members, size, relative error of the cost, whether the data came out right."""
    for fabric, network, player in networks(topology):
        count = network.members
        names = dict.fromkeys(collective_cost([fabric], kind, 1e6, count, protocol="hardware").algorithms)
        for name in names:
            for size in sizes:
                if name == "in-network" and kind in ("all-gather", "broadcast"):
                    continue  # compared below: its messages fork in the switch
                if name == "chain" and player is not on_switch:
                    continue  # compared below
                found = player(network, kind, name, size)
                expected = collective_cost([fabric], kind, size, count, algorithm=name, protocol="hardware")
                yield name, count, size, expected.time / found.run.time - 1, found.correct


# What falls short of the tolerance, as the docs say: chunks of trees that meet at a member, and phases that members of a mesh end
# at different times, are not in the formulas.
NEAR = {("all-reduce", "binary-tree"): 0.08, ("all-reduce", "double-tree"): 0.10, ("all-to-all", "mesh-3d"): 0.035}


@pytest.mark.parametrize("kind", ["all-reduce", "reduce-scatter", "all-gather", "all-to-all", "broadcast"])
@pytest.mark.parametrize(
    "topology", ["switch", "fat-tree", "fully-connected", "ring", "torus-2d", "torus-3d", "mesh-2d", "mesh-3d"]
)
def test_cost_agrees_with_messages(topology: str, kind: str):
    rows = list(comparisons(topology, kind))
    assert rows or (kind == "broadcast" and topology not in ("switch", "fat-tree", "fully-connected"))
    assert all(correct for *_, correct in rows)
    for name, count, size, error, _ in rows:
        limit = NEAR.get((kind, name), NEAR.get((kind, topology), TOLERANCE))
        assert abs(error) <= limit, (name, count, size, error)


@pytest.mark.parametrize("shape", [(8,), (4, 4), (3, 4), (2, 2, 2)])
def test_broadcast_along_a_grid(shape: tuple[int, ...]):
    """A chain along a snake through all members, one link wide."""
    topology = {1: "ring", 2: "torus-2d", 3: "torus-3d"}[len(shape)]
    network, count = grid(shape, BANDWIDTH, LATENCY, wrapped=True), math.prod(shape)
    for size in SIZES:
        link = BANDWIDTH / 2 / len(shape)
        k = max(1, int(cost.pipeline_chunks(bytes=size, depth=count - 2.0, bandwidth=link, latency=LATENCY) + 0.5))
        keys = [(chunk, half) for chunk in range(k) for half in (0, 1)]
        order = cycle_of(network).members
        found = whole_buffer(
            network, "broadcast", keys, lambda one, k=k, order=order, size=size: schedules.chain(one, size, k, order)
        )
        expected = collective_cost([tier(topology, *shape)], "broadcast", size, count, algorithm="chain", protocol="hardware")
        assert found.correct
        assert expected.time == pytest.approx(found.run.time, rel=TOLERANCE)


@pytest.mark.parametrize("count", [2, 3, 8, 16])
def test_broadcast_along_links_of_a_complete_graph(count: int):
    """The chain uses one link of each member."""
    network, link = fully_connected(count, BANDWIDTH, LATENCY), BANDWIDTH / (count - 1)
    for size in SIZES:
        k = max(1, int(cost.pipeline_chunks(bytes=size, depth=max(count - 2.0, 1.0), bandwidth=link, latency=LATENCY) + 0.5))
        keys = [(chunk, half) for chunk in range(k) for half in (0, 1)]
        found = whole_buffer(network, "broadcast", keys, lambda one, k=k, size=size: schedules.chain(one, size, k))
        expected = collective_cost(
            [tier("fully-connected", count)], "broadcast", size, count, algorithm="chain", protocol="hardware"
        )
        assert found.correct
        assert expected.time == pytest.approx(found.run.time, rel=TOLERANCE)


@pytest.mark.parametrize("kind", ["all-gather", "broadcast"])
@pytest.mark.parametrize("count", [2, 5, 8, 64])
def test_a_switch_that_copies(kind: str, count: int):
    fabric, network = tier("switch", count, in_network_reduction=True), switch(count, BANDWIDTH, LATENCY)
    senders = count if kind == "all-gather" else 1
    for size in SIZES:
        schedule = Schedule(network)
        schedules.multicast(schedule, size, senders)
        found = play(schedule, {one: {(one, half): one for half in (0, 1)} for one in range(senders)})
        assert all(found.state[one][other, 0] == other for one in range(count) for other in range(senders))
        expected = collective_cost([fabric], kind, size, count, algorithm="in-network", protocol="hardware")
        # The switch forwards a block when all of it has come: one block more than cutting through.
        extra = size / senders / BANDWIDTH
        assert found.time == pytest.approx(expected.time + extra, rel=1e-9)


# ---- over tiers -----------------------------------------------------------------------------------------------------------------

TWO_TIERS = [(4, 3), (4, 4), (8, 3), (8, 8), (2, 5)]  # members in a box, boxes
PIECES = 32  # packets of a message: whole messages would leave the links between groups idle at the end


def two_tiers(kind: str, inner: int, outer: int) -> tuple[list[NetworkTier], Network, float]:
    if kind == "boxes":
        within = tier("switch", inner, name="inside", bandwidth=4 * BANDWIDTH)
        across = tier("switch", outer, name="across", bandwidth=inner * BANDWIDTH, latency=3 * LATENCY)
        return [within, across], boxes(inner, outer, (4 * BANDWIDTH, BANDWIDTH), (LATENCY, 3 * LATENCY)), 1.0
    if kind == "dragonfly":
        return [tier("dragonfly", inner, outer)], dragonfly(inner, outer, BANDWIDTH, LATENCY), 1.0
    return [tier("fat-tree", inner, outer)], fat_tree(inner, outer, BANDWIDTH, LATENCY, oversubscription=2.0), 2.0


@pytest.mark.parametrize("shape", TWO_TIERS)
@pytest.mark.parametrize("kind", ["boxes", "dragonfly", "thinned"])
def test_hierarchical_all_reduce(kind: str, shape: tuple[int, int]):
    tiers, network, thinning = two_tiers(kind, *shape)
    for size in (2.0**24, 2.0**30):
        expected = collective_cost(
            tiers, "all-reduce", size, network.members, algorithm="hierarchical", protocol="hardware", oversubscription=thinning
        )
        assert expected.phases[1].cost.algorithm == "two-shot"  # as the schedule does
        found = play_on(
            network,
            "all-reduce",
            list(range(network.members)),
            lambda one, size=size: schedules.hierarchical(one, size, shape[0], 1 if kind == "boxes" else PIECES),
            int,
        )
        assert found.correct
        assert expected.time == pytest.approx(found.run.time, rel=TOLERANCE)


@pytest.mark.parametrize("shape", TWO_TIERS)
@pytest.mark.parametrize("kind", ["boxes", "dragonfly", "thinned"])
def test_all_to_all_over_tiers(kind: str, shape: tuple[int, int]):
    """Bytes over each tier are those of the messages; time is that of the tier that binds."""
    tiers, network, thinning = two_tiers(kind, *shape)
    for size in (2.0**20, 2.0**30):
        expected = collective_cost(
            tiers, "all-to-all", size, network.members, algorithm="direct", protocol="hardware", oversubscription=thinning
        )
        found = exchanged(network, size, lambda one, part: schedules.direct_all_to_all(one, part, shape[0], PIECES))
        assert found.correct
        assert expected.time == pytest.approx(found.run.time, rel=TOLERANCE)
        if kind == "boxes":
            sent = sum(value for (one, hub, _), value in found.run.bytes.items() if isinstance(one, int) and hub == "outer")
            assert expected.bytes["across"] == pytest.approx(sent / network.members, rel=1e-12)


@pytest.mark.parametrize("shape", TWO_TIERS)
def test_rings_through_boxes(shape: tuple[int, int]):
    """As many rings as members of a box.

    At middle sizes blocks of several rings meet at a member's port, within 10 %; and with two members in a box every other edge
    leads out, so that a block's two passes never leave out two edges inside: 2 of 36 latencies.
    """
    tiers, network, _ = two_tiers("boxes", *shape)
    inner, outer = shape
    orders = [[box * inner + (place + turn) % inner for box in range(outer) for place in range(inner)] for turn in range(inner)]
    for size, limit in ((2.0**10, 0.06 if inner == 2 else TOLERANCE), (2.0**24, 0.10), (2.0**30, TOLERANCE)):
        loops = [schedules.switched_ring(network, order) for order in orders]
        found = rings(network, "all-reduce", size, schedules.ring_pass, loops)
        expected = collective_cost(tiers, "all-reduce", size, network.members, algorithm="ring", protocol="hardware")
        assert found.correct
        assert expected.time == pytest.approx(found.run.time, rel=limit)


# ---- the simulation itself ------------------------------------------------------------------------------------------------------


def line_of_links(*links: Link) -> Network:
    named = {(one, one + 1, 0): link for one, link in enumerate(links)}
    return Network(
        len(links) + 1, named, lambda one, other: tuple((step, step + 1, 0) for step in range(int(str(one)), int(str(other))))
    )


def test_a_message_cuts_through():
    """1000 B over links of 1000, 500 and 1000 B/s with 0.1 s each: 2 s of the slow link, and 0.1 s for each."""
    network = line_of_links(Link(1000.0, 0.1), Link(500.0, 0.1), Link(1000.0, 0.1))
    schedule = Schedule(network)
    schedule.send(0, 3, 1000.0, [Move("a", "b")])
    found = play(schedule, {0: {"a": 7}})
    assert found.time == pytest.approx(2.3, rel=1e-12)
    assert found.state[3] == {"b": 7}


def test_a_link_serves_one_after_another():
    network = line_of_links(Link(1000.0, 0.1))
    schedule = Schedule(network)
    for name in "xyz":
        schedule.send(0, 1, 500.0, [Move(name, "sum", add=True)])
    found = play(schedule, {0: {"x": 1, "y": 2, "z": 3}})
    assert found.time == pytest.approx(1.6, rel=1e-12)
    assert found.state[1] == {"sum": 6}
    assert found.bytes == {(0, 1, 0): 1500.0}


def test_messages_that_wait_for_one_another():
    schedule = Schedule(line_of_links(Link(1.0, 0.0)))
    schedule.send(0, 1, 1.0, [], after=[1])
    schedule.send(0, 1, 1.0, [], after=[0])
    with pytest.raises(InputError, match="2 of 2 messages wait for one another"):
        play(schedule, {})


def test_a_member_that_misses_a_block_is_found():
    """The check of the data can fail: a ring that stops a step early leaves sums incomplete."""
    network = switch(4, BANDWIDTH, LATENCY)

    def cut_short(schedule: Schedule, ring: Any, data: Any, waits: Any, *, reduce: bool) -> Any:
        found = schedules.ring_pass(schedule, ring, data, waits, reduce=reduce)
        del schedule.messages[-4:]
        return found

    assert not rings(network, "reduce-scatter", 1e6, cut_short).correct
