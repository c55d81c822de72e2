"""Collectives message by message over the links of a network, with the data they carry.

A network is a graph of members and switches joined by links, each with a bandwidth and a latency. A message cuts through: its head
takes a link as soon as the link is free and moves on after the link's latency, while its bytes keep each link busy for bytes /
bandwidth; links serve messages in the order of their arrival. A schedule is a list of messages, each with those it waits for and
the integers it moves, so that the result of a collective can be checked. Times follow from nothing else: no formula of a collective
is in here.

Neglected: finite buffers in switches (a blocked message waits beside its link and stops no other), the split into packets, the
arithmetic of a reduction, and faults.
"""

import heapq
import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import NamedTuple

from ridgeline.errors import InputError

Node = Hashable
LinkKey = tuple[Node, Node, Hashable]  # from, to, which of several
Item = Hashable  # the name of one integer at a node
Route = tuple[LinkKey, ...]


class Link(NamedTuple):
    """A link in one direction: bytes a second, and seconds from one end to the other."""

    bandwidth: float
    latency: float


@dataclass(frozen=True)
class Network:
    """Members and links; `route` names the links from one node to another."""

    members: int
    links: Mapping[LinkKey, Link]
    route: Callable[[Node, Node], Route]
    shape: tuple[int, ...] = ()
    wrapped: bool = False


class Move(NamedTuple):
    """One integer that a message takes: its name at the sender and at the receiver, and whether it is added there."""

    source: Item
    target: Item
    add: bool = False


class Message(NamedTuple):
    """One message: from, to, bytes, the links, the messages that must have arrived before it starts, what it carries."""

    source: Node
    target: Node
    bytes: float
    route: Route
    after: tuple[int, ...]
    moves: tuple[Move, ...]


@dataclass
class Schedule:
    """Messages in the order in which their senders would start them, all else being equal."""

    network: Network
    messages: list[Message] = field(default_factory=list[Message])

    def send(
        self, source: Node, target: Node, size: float, moves: Iterable[Move], after: Iterable[int] = (), route: Route | None = None
    ) -> int:
        """Add a message and return its number."""
        links = self.network.route(source, target) if route is None else route
        self.messages.append(Message(source, target, size, links, tuple(after), tuple(moves)))
        return len(self.messages) - 1


class Run(NamedTuple):
    """What a schedule took: seconds, bytes over each link, and every node's integers at the end."""

    time: float
    bytes: Mapping[LinkKey, float]
    state: Mapping[Node, Mapping[Item, int]]


def play(schedule: Schedule, state: Mapping[Node, Mapping[Item, int]]) -> Run:
    """Send every message of a schedule; the integers that a message carries are those its sender has when it starts."""
    here = {node: dict(items) for node, items in state.items()}
    messages, links = schedule.messages, schedule.network.links
    waiting = [len(set(message.after)) for message in messages]
    followers: dict[int, list[int]] = {}
    for number, message in enumerate(messages):
        for one in set(message.after):
            followers.setdefault(one, []).append(number)
    free = dict.fromkeys(links, 0.0)
    carried = dict.fromkeys(links, 0.0)
    tails, loads = [0.0] * len(messages), [()] * len(messages)
    events = [(0.0, number, 0) for number in range(len(messages)) if not waiting[number]]
    heapq.heapify(events)
    end, arrived = 0.0, 0
    while events:
        time, number, hop = heapq.heappop(events)
        message = messages[number]
        if hop == 0:
            mine = here.setdefault(message.source, {})
            loads[number] = tuple((move, mine[move.source]) for move in message.moves)
        if hop < len(message.route):
            key = message.route[hop]
            link = links[key]
            start = max(time, free[key])
            free[key] = start + message.bytes / link.bandwidth
            carried[key] += message.bytes
            tails[number] = max(tails[number], free[key]) + link.latency
            last = hop + 1 == len(message.route)
            heapq.heappush(events, (tails[number] if last else start + link.latency, number, hop + 1))
            continue
        end, arrived = max(end, time), arrived + 1
        _deliver(here.setdefault(message.target, {}), loads[number])
        for one in followers.get(number, ()):
            waiting[one] -= 1
            if not waiting[one]:
                heapq.heappush(events, (time, one, 0))
    if arrived < len(messages):
        raise InputError(f"{len(messages) - arrived} of {len(messages)} messages wait for one another and never start")
    return Run(end, carried, here)


def _deliver(there: dict[Item, int], load: Iterable[tuple[Move, int]]) -> None:
    for move, value in load:
        there[move.target] = there.get(move.target, 0) + value if move.add else value


# ---- networks -------------------------------------------------------------------------------------------------------------------


def fully_connected(members: int, bandwidth: float, latency: float) -> Network:
    """Every pair has a link of its own; a member's bandwidth is divided over them."""
    link = Link(bandwidth / max(members - 1, 1), latency)
    links: dict[LinkKey, Link] = {(one, other, 0): link for one in range(members) for other in range(members) if one != other}
    return Network(members, links, lambda one, other: ((one, other, 0),))


def switch(members: int, bandwidth: float, latency: float) -> Network:
    """One link to and one from a switch for each member; half of the latency is on either side."""
    link = Link(bandwidth, latency / 2)
    links: dict[LinkKey, Link] = {key: link for member in range(members) for key in ((member, "switch", 0), ("switch", member, 0))}

    def route(one: Node, other: Node) -> Route:
        if "switch" in (one, other):
            return ((one, other, 0),)
        return ((one, "switch", 0), ("switch", other, 0))

    return Network(members, links, route)


def grid(shape: Sequence[int], bandwidth: float, latency: float, *, wrapped: bool) -> Network:
    """A torus (wrapped) or a mesh; a member's bandwidth is divided over two links an axis, even of an axis two long.

    Members are counted with the first axis fastest. Routes go along one axis after another, the shorter way round.
    """
    shape = tuple(shape)
    link = Link(bandwidth / (2 * len(shape)), latency)
    links: dict[LinkKey, Link] = {}
    for place in product(*map(range, shape)):
        for axis, size in enumerate(shape):
            for way in (1, -1):
                there = place[axis] + way
                if size > 1 and (wrapped or 0 <= there < size):
                    links[_number(place, shape), _number(_moved(place, axis, there % size), shape), (axis, way)] = link

    def route(one: Node, other: Node) -> Route:
        return grid_route(shape, wrapped, int(str(one)), int(str(other)))

    return Network(math.prod(shape), links, route, shape, wrapped)


def _number(place: Sequence[int], shape: Sequence[int]) -> int:
    number = 0
    for position, size in zip(reversed(place), reversed(shape), strict=True):
        number = number * size + position
    return number


def _place(number: int, shape: Sequence[int]) -> tuple[int, ...]:
    place: list[int] = []
    for size in shape:
        place.append(number % size)
        number //= size
    return tuple(place)


def _moved(place: tuple[int, ...], axis: int, there: int) -> tuple[int, ...]:
    return (*place[:axis], there, *place[axis + 1 :])


def grid_route(shape: tuple[int, ...], wrapped: bool, one: int, other: int, way: int = 0) -> Route:
    """Links from one member to another, axis by axis; `way` (1 or -1) says which way round, 0 the shorter."""
    here, end, links = _place(one, shape), _place(other, shape), []
    for axis, size in enumerate(shape):
        ahead = (end[axis] - here[axis]) % size
        step = way or (1 if (ahead <= size - ahead if wrapped else end[axis] > here[axis]) else -1)
        while here[axis] != end[axis]:
            there = _moved(here, axis, (here[axis] + step) % size)
            links.append((_number(here, shape), _number(there, shape), (axis, step)))
            here = there
    return tuple(links)


def boxes(inner: int, outer: int, bandwidths: tuple[float, float], latencies: tuple[float, float]) -> Network:
    """Two tiers: boxes of members around a switch, and adapters, one a member, around one outer switch; bandwidths of one member.

    An adapter reaches every other adapter; members of one box use their switch.
    """
    links: dict[LinkKey, Link] = {}
    for member in range(inner * outer):
        box = ("box", member // inner)
        for hub, tier in ((box, 0), ("outer", 1)):
            links[member, hub, 0] = links[hub, member, 0] = Link(bandwidths[tier], latencies[tier] / 2)

    def route(one: Node, other: Node) -> Route:
        first, second = int(str(one)) // inner, int(str(other)) // inner
        hub = ("box", first) if first == second else "outer"
        return ((one, hub, 0), (hub, other, 0))

    return Network(inner * outer, links, route, (inner, outer))


def dragonfly(inner: int, groups: int, bandwidth: float, latency: float, *, taper: float = 1.0) -> Network:
    """Groups of members around a router; each pair of groups has a link, and a group's links have together its members' bandwidth.

    `taper` scales the links between groups. Half of `latency` is on a member's link, all of it between two routers.
    """
    links: dict[LinkKey, Link] = {}
    for member in range(inner * groups):
        router = ("router", member // inner)
        links[member, router, 0] = links[router, member, 0] = Link(bandwidth, latency / 2)
    for one, other in product(range(groups), repeat=2):
        if one != other:
            share = taper * bandwidth * inner / (groups - 1)
            links[("router", one), ("router", other), 0] = Link(share, latency)

    def route(one: Node, other: Node) -> Route:
        first, second = ("router", int(str(one)) // inner), ("router", int(str(other)) // inner)
        between = () if first == second else ((first, second, 0),)
        return ((one, first, 0), *between, (second, other, 0))

    return Network(inner * groups, links, route, (inner, groups))


def fat_tree(inner: int, leaves: int, bandwidth: float, latency: float, *, oversubscription: float = 1.0) -> Network:
    """Leaf switches with `inner` members each under a core.

    A full tree is rearranged so that nothing is blocked but at the members: a lane up for each source and one down for each target.
    In a thinned one packets are sprayed over a leaf's links to the core, which work as one. Latency from member to member is the
    same under one leaf and across: half of it is on each member's link.
    """
    links: dict[LinkKey, Link] = {}
    lanes = oversubscription == 1.0
    for member in range(inner * leaves):
        leaf, lane = ("leaf", member // inner), member % inner if lanes else 0
        links[member, leaf, 0] = links[leaf, member, 0] = Link(bandwidth, latency / 2)
        links[leaf, "core", lane] = links["core", leaf, lane] = Link(
            bandwidth if lanes else inner * bandwidth / oversubscription, 0.0
        )

    def route(one: Node, other: Node) -> Route:
        (first, up), (second, down) = divmod(int(str(one)), inner), divmod(int(str(other)), inner)
        ends: tuple[LinkKey, LinkKey] = (one, ("leaf", first), 0), (("leaf", second), other, 0)
        if first == second:
            return ends
        up, down = (up, down) if lanes else (0, 0)
        return (ends[0], (("leaf", first), "core", up), ("core", ("leaf", second), down), ends[1])

    return Network(inner * leaves, links, route, (inner, leaves))
