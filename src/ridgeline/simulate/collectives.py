"""Collectives as schedules of messages: who sends what to whom, and after what, with the integers that are moved.

Each function adds the messages of one algorithm to a schedule. Blocks of a buffer are integers named (part, block, half); halves
exist because the farthest block of an even ring goes half each way. Nothing here knows how long anything takes.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from itertools import pairwise, product
from typing import Any, Literal, NamedTuple

from ridgeline.simulate.messages import Move, Network, Node, Route, Schedule

Kind = Literal["all-reduce", "reduce-scatter", "all-gather"]
Waits = defaultdict[Node, list[int]]  # what has arrived at a node and must have, before the node starts its next phase
HALVES = (0, 1)


class Ring(NamedTuple):
    """Members in order round a ring or along a line, and the links from each to the next and to the one before."""

    members: tuple[int, ...]
    ahead: Callable[[int], Route]  # by position
    back: Callable[[int], Route]


class Data(NamedTuple):
    """Items of each block of a ring's buffer, and bytes of a block."""

    items: Callable[[int], Sequence[Hashable]]  # by position of the block's owner
    size: float


def _moves(data: Data, block: int, *, add: bool, halves: Sequence[int] = HALVES) -> list[Move]:
    return [Move((item, half), (item, half), add) for item in data.items(block) for half in halves]


def ring_pass(schedule: Schedule, ring: Ring, data: Data, waits: Waits, *, reduce: bool, way: int = 1) -> Waits:
    """One pass round a ring in one direction: reduce-scatter, or all-gather."""
    members, count = ring.members, len(ring.members)
    last: dict[int, list[int]] = {position: list(waits[members[position]]) for position in range(count)}
    done: Waits = defaultdict(list)
    for step in range(count - 1):
        now: dict[int, list[int]] = {}
        for position in range(count):
            block = (position - way * (step + 1)) % count if reduce else (position - way * step) % count
            there = (position + way) % count
            route = ring.ahead(position) if way == 1 else ring.back(position)
            moves = _moves(data, block, add=reduce)
            number = schedule.send(members[position], members[there], data.size, moves, last[position], route)
            now[there] = [number]
            done[members[there]].append(number)
        last = now
    return done


def both_ways_pass(schedule: Schedule, ring: Ring, data: Data, waits: Waits, *, reduce: bool) -> Waits:
    """One pass round a ring where each block takes the shorter way; of an even ring the farthest block goes half each way."""
    members, count = ring.members, len(ring.members)
    reach, done = count // 2, defaultdict[Node, list[int]](list)
    for way in (1, -1):
        last = {position: list(waits[members[position]]) for position in range(count)}
        for step in range(reach):
            now: dict[int, list[int]] = {}
            far = reach - step if reduce else step + 1  # hops between the owner and the far end of this message
            halves = (HALVES[0 if way == 1 else 1],) if far * 2 == count else HALVES
            for position in range(count):
                there = (position + way) % count
                block = (position + way * far) % count if reduce else (position - way * step) % count
                route = ring.ahead(position) if way == 1 else ring.back(position)
                moves = _moves(data, block, add=reduce, halves=halves)
                size = data.size * len(halves) / 2
                number = schedule.send(members[position], members[there], size, moves, last[position], route)
                now[there] = [number]
                done[members[there]].append(number)
            last = now
    return done


def line_pass(schedule: Schedule, ring: Ring, data: Data, waits: Waits, *, reduce: bool) -> Waits:
    """One pass along a line: blocks move outwards (all-gather), or partial sums inwards (reduce-scatter), both ways at once."""
    members, count = ring.members, len(ring.members)
    done = defaultdict[Node, list[int]](list)
    for way in (1, -1):
        arrived: dict[tuple[int, int], int] = {}
        order = range(count) if way == 1 else range(count - 1, -1, -1)
        for position in order:
            there = position + way
            if not 0 <= there < count:
                continue
            behind, before = range(position, -1 if way == 1 else count, -way), range(count - 1 if way == 1 else 0, position, -way)
            for block in before if reduce else behind:
                after = [arrived[position, block]] if (position, block) in arrived else waits[members[position]]
                route = ring.ahead(position) if way == 1 else ring.back(position)
                moves = _moves(data, block, add=reduce)
                number = schedule.send(members[position], members[there], data.size, moves, after + waits[members[position]], route)
                arrived[there, block] = number
                done[members[there]].append(number)
    return done


def switched_ring(network: Network, order: Sequence[int] | None = None) -> Ring:
    """All members of a network in order, joined by its routes."""
    members = tuple(order or range(network.members))
    count = len(members)
    return Ring(
        members,
        lambda position: network.route(members[position], members[(position + 1) % count]),
        lambda position: network.route(members[position], members[(position - 1) % count]),
    )


def axis_rings(network: Network, axis: int) -> list[Ring]:
    """The rings or lines of a grid along one axis."""
    shape, found = network.shape, []
    strides = [1]
    for size in shape:
        strides.append(strides[-1] * size)
    for number in range(network.members):
        if number // strides[axis] % shape[axis]:
            continue
        members = tuple(number + position * strides[axis] for position in range(shape[axis]))
        count = len(members)

        def ahead(position: int, members: tuple[int, ...] = members, count: int = count) -> Route:
            return ((members[position], members[(position + 1) % count], (axis, 1)),)

        def back(position: int, members: tuple[int, ...] = members, count: int = count) -> Route:
            return ((members[position], members[(position - 1) % count], (axis, -1)),)

        found.append(Ring(members, ahead, back))
    return found


def snake(shape: Sequence[int]) -> list[tuple[int, ...]]:
    """The members of a grid one after another, each beside the next, ending beside the first where a grid can."""
    if len(shape) == 1:
        return [(one,) for one in range(shape[0])]
    if shape[-1] == 1:
        return [(*one, 0) for one in snake(shape[:-1])]
    inner = snake(shape[:-1])
    if len(inner) % 2 and not shape[-1] % 2 and len(shape) == 2:  # the return column needs an even count of turns
        return [(one[1], one[0]) for one in snake((shape[1], shape[0]))]
    path = [(*inner[0], 0)]
    for index, place in enumerate(inner):
        column = range(1, shape[-1])
        path += [(*place, height) for height in (column if index % 2 == 0 else reversed(column))]
    return path + [(*place, 0) for place in reversed(inner[1:])]


def multi_dimensional(schedule: Schedule, size: float, kind: Kind) -> None:
    """All parts of the buffer at once, one an axis: part p takes axis (p + k) mod d in phase k; members wait for all parts."""
    network = schedule.network
    axes = [axis for axis, one in enumerate(network.shape) if one > 1]
    one_pass = both_ways_pass if network.wrapped else line_pass
    waits: Waits = defaultdict(list)
    phases = [(True, phase) for phase in range(len(axes))] if kind != "all-gather" else []
    phases += [(False, phase) for phase in reversed(range(len(axes)))] if kind != "reduce-scatter" else []
    for reduce, phase in phases:
        done: Waits = defaultdict(list)
        for part in range(len(axes)):
            turn = [axes[(part + step) % len(axes)] for step in range(len(axes))]
            fixed, axis = turn[:phase], turn[phase]
            for ring in axis_rings(network, axis):
                data = _grid_data(network, part, (fixed, axis), ring, size / len(axes))
                for node, numbers in one_pass(schedule, ring, data, waits, reduce=reduce).items():
                    done[node] += numbers
        waits = done


def _grid_data(network: Network, part: int, done: tuple[list[int], int], ring: Ring, size: float) -> Data:
    fixed, axis = done
    shape, strides = network.shape, [1]
    for one in shape:
        strides.append(strides[-1] * one)

    def coordinate(number: int, which: int) -> int:
        return number // strides[which] % shape[which]

    sample = ring.members[0]
    blocks: dict[int, list[Hashable]] = {value: [] for value in range(shape[axis])}
    for number in range(network.members):
        if all(coordinate(number, one) == coordinate(sample, one) for one in fixed):
            blocks[coordinate(number, axis)].append((part, number))
    return Data(lambda block: blocks[block], size * len(blocks[0]) / network.members)


def halving_doubling(schedule: Schedule, size: float, kind: Kind) -> None:
    """Recursive halving with doubling distance, then recursive doubling back; members beyond a power of two are folded in.

    Partners exchange when both are ready, so that no message waits at a member that still receives another.
    """
    count = schedule.network.members
    power = 1 << (count.bit_length() - 1)
    extra = count - power
    core = [2 * one for one in range(extra)] + list(range(2 * extra, count))
    whole = [Move((block, half), (block, half), add=True) for block in range(power) for half in HALVES]
    last: Waits = defaultdict(list)
    for one in range(extra):
        last[2 * one].append(schedule.send(2 * one + 1, 2 * one, size, whole))
    levels = range(power.bit_length() - 1)
    held = {rank: set(range(power)) for rank in range(power)}
    for level in levels if kind != "all-gather" else ():
        last = _exchange(schedule, core, level, held, last, size / power, reduce=True)
    if kind == "all-gather":
        held = {rank: {rank} for rank in range(power)}
    for level in reversed(levels) if kind != "reduce-scatter" else ():
        last = _exchange(schedule, core, level, held, last, size / power, reduce=False)
    for one in range(extra):
        moves = [move._replace(add=False) for move in whole]
        schedule.send(2 * one, 2 * one + 1, size, moves, last[2 * one])


def _exchange(
    schedule: Schedule, core: Sequence[int], level: int, held: dict[int, set[int]], last: Waits, size: float, *, reduce: bool
) -> Waits:
    now: Waits = defaultdict(list)
    before = {rank: set(blocks) for rank, blocks in held.items()}
    for rank, node in enumerate(core):
        other = rank ^ (1 << level)
        sent = {block for block in before[rank] if block >> level & 1 == other >> level & 1} if reduce else before[rank]
        moves = [Move((block, half), (block, half), add=reduce) for block in sorted(sent) for half in HALVES]
        number = schedule.send(node, core[other], size * len(sent), moves, last[node] + last[core[other]])
        now[core[other]].append(number)
        held[rank] = held[rank] - sent if reduce else held[rank]
        held[other] = held[other] if reduce else held[other] | sent
    return now


def direct(schedule: Schedule, size: float, kind: Kind) -> None:
    """Each member sends each other one its block, nearest next first; an all-reduce does so twice (two shots)."""
    count = schedule.network.members
    waits: Waits = defaultdict(list)
    for reduce in ([True] if kind != "all-gather" else []) + ([False] if kind != "reduce-scatter" else []):
        done: Waits = defaultdict(list)
        for shift, one in product(range(1, count), range(count)):
            other = (one + shift) % count
            block = other if reduce else one
            moves = [Move((block, half), (block, half), add=reduce) for half in HALVES]
            done[other].append(schedule.send(one, other, size / count, moves, waits[one]))
        waits = done


def one_shot(schedule: Schedule, size: float) -> None:
    """Each member sends each other one its whole buffer; sums are kept beside the buffer, which is sent as it was."""
    count = schedule.network.members
    for shift, one in product(range(1, count), range(count)):
        moves = [Move((block, half), ("sum", block, half), add=True) for block in range(count) for half in HALVES]
        schedule.send(one, (one + shift) % count, size, moves)


def binomial_tree(schedule: Schedule, size: float, *, reduce: bool) -> None:
    """Broadcast from member 0 to the farthest first, or reduce towards it before; a member has one message under way at a time."""
    count = schedule.network.members
    whole = [Move((0, half), (0, half), add=True) for half in HALVES]
    last: Waits = defaultdict(list)
    steps = [1 << level for level in range((count - 1).bit_length())]
    for step in steps if reduce else ():
        for one in range(step, count, 2 * step):
            last[one - step] = [schedule.send(one, one - step, size, whole, last[one] + last[one - step])]
    for step in reversed(steps):
        for one in range(0, count - step, 2 * step):
            number = schedule.send(one, one + step, size, [move._replace(add=False) for move in whole], last[one])
            last[one] = last[one + step] = [number]


def chain(schedule: Schedule, size: float, chunks: int, order: Sequence[int] | None = None) -> None:
    """Broadcast from the first member along all in order, chunk by chunk."""
    members = list(order or range(schedule.network.members))
    for chunk in range(chunks):
        last: list[int] = []
        for one, other in pairwise(members):
            moves = [Move((chunk, half), (chunk, half)) for half in HALVES]
            last = [schedule.send(one, other, size / chunks, moves, last)]


def binary_trees(schedule: Schedule, size: float, chunks: int, *, trees: int, reduce: bool, window: int) -> None:
    """Reduce chunk by chunk up one or two trees filled level by level, wait at the root, and broadcast down.

    The second tree counts the members backwards, so that its inner members are the first one's leaves. A child may be `window`
    chunks ahead of what its parent has passed on.
    """
    count, piece = schedule.network.members, size / chunks / trees
    ends: list[list[int]] = [[] for _ in range(trees)]
    if reduce:
        ups = [_climb(schedule, tree, piece, chunks, window) for tree in range(trees)]
        ends = [[up[0, chunk, child] for chunk in range(chunks) for child in (1, 2) if child < count] for up in ups]
    arrived: dict[tuple[int, int, int], int] = {}
    for chunk in range(chunks):
        for position, tree in product(range(count), range(trees)):
            for child in (2 * position + 1, 2 * position + 2):
                if child < count:
                    after = [arrived[tree, position, chunk]] if position else ends[tree]
                    moves = [Move((tree, chunk), (tree, chunk))]
                    nodes = _member(tree, position, count), _member(tree, child, count)
                    arrived[tree, child, chunk] = schedule.send(*nodes, piece, moves, after)


def _member(tree: int, position: int, count: int) -> int:
    return count - 1 - position if tree else position


def _climb(schedule: Schedule, tree: int, piece: float, chunks: int, window: int) -> dict[tuple[int, int, int], int]:
    """Add the messages up a tree; the numbers by (parent, chunk, child)."""
    count = schedule.network.members
    numbers: dict[tuple[int, int, int], int] = {}
    for chunk in range(chunks):
        for child in range(count - 1, 0, -1):
            parent = (child - 1) // 2
            ready = [numbers[child, chunk, one] for one in (2 * child + 1, 2 * child + 2) if one < count]
            credit = [
                numbers[parent, chunk - window, one] for one in (2 * parent + 1, 2 * parent + 2) if one < count and chunk >= window
            ]
            nodes = _member(tree, child, count), _member(tree, parent, count)
            moves = [Move((tree, chunk), (tree, chunk), add=True)]
            numbers[parent, chunk, child] = schedule.send(*nodes, piece, moves, ready + credit)
    return numbers


def scatter_all_gather(schedule: Schedule, size: float) -> None:
    """Broadcast: member 0 hands out the blocks, then each sends its own to all others but member 0."""
    count = schedule.network.members
    handed: dict[int, list[int]] = {0: []}
    for one in range(1, count):
        moves = [Move((one, half), (one, half)) for half in HALVES]
        handed[one] = [schedule.send(0, one, size / count, moves)]
    for shift, one in product(range(1, count), range(count)):
        other = (one + shift) % count
        moves = [Move((one, half), (one, half)) for half in HALVES]
        schedule.send(one, other, size / count, moves, handed[one])


def in_network(schedule: Schedule, size: float, chunks: int, kind: Kind) -> None:
    """Members send chunks to the switch, which adds them and sends the sum to all (all-reduce) or to its owner (reduce-scatter)."""
    count = schedule.network.members
    for chunk in range(chunks):
        moves = [Move((chunk, half), (chunk, half), add=True) for half in HALVES]
        came = [schedule.send(one, "switch", size / chunks, moves) for one in range(count)]
        back = [move._replace(add=False) for move in moves]
        for one in range(count) if kind == "all-reduce" else [chunk * count // chunks]:
            schedule.send("switch", one, size / chunks, back, came)


def along_all_to_all(
    schedule: Schedule, rings: Sequence[Ring], items: Callable[[int, int], Sequence[Hashable]], size: float, waits: Waits
) -> Waits:
    """Exchange among the members of each ring (the shorter way, the farthest of an even ring half each way) or line.

    `items` names what a node holds for a position; `size` is the bytes of one item.
    """
    done: Waits = defaultdict(list)
    one_way = _round if schedule.network.wrapped else _outwards
    for ring, way in product(rings, (1, -1)):
        for node, numbers in one_way(schedule, ring, way, items, size, waits).items():
            done[node] += numbers
    return done


def _round(schedule: Schedule, ring: Ring, way: int, items: Any, size: float, waits: Waits) -> Waits:
    """One way round: in each step a member hands its neighbour, as one message, all that has farther to go."""
    members, count = ring.members, len(ring.members)
    reach, done = count // 2, defaultdict[Node, list[int]](list)
    last = {position: list(waits[members[position]]) for position in range(count)}
    for step in range(reach):
        now: dict[int, list[int]] = {}
        for position in range(count):
            origin, there = (position - way * step) % count, (position + way) % count
            moves: list[Move] = []
            for distance in range(step + 1, reach + 1):
                halves = (HALVES[0 if way == 1 else 1],) if distance * 2 == count else HALVES
                held = items(members[origin], (origin + way * distance) % count)
                moves += [Move((item, half), (item, half)) for item in held for half in halves]
            route = ring.ahead(position) if way == 1 else ring.back(position)
            number = schedule.send(members[position], members[there], size * len(moves) / 2, moves, last[position], route)
            now[there] = [number]
            done[members[there]].append(number)
        last = now
    return done


def _outwards(schedule: Schedule, ring: Ring, way: int, items: Any, size: float, waits: Waits) -> Waits:
    """One way along a line: every block a message of its own that cuts through, the farthest first."""
    members, count = ring.members, len(ring.members)
    done: Waits = defaultdict(list)
    for distance, position in product(range(count - 1, 0, -1), range(count)):
        there = position + way * distance
        if 0 <= there < count:
            path = range(position, there, way)
            route = tuple(link for one in path for link in (ring.ahead(one) if way == 1 else ring.back(one)))
            held = items(members[position], there)
            moves = [Move((item, half), (item, half)) for item in held for half in HALVES]
            nodes = members[position], members[there]
            done[nodes[1]].append(schedule.send(*nodes, size * len(held), moves, waits[nodes[0]], route))
    return done


def grid_all_to_all(schedule: Schedule, size: float) -> None:
    """All-to-all on a torus or mesh: one axis after another, one part of the buffer an axis, each part in its own order of axes."""
    network = schedule.network
    axes = [axis for axis, one in enumerate(network.shape) if one > 1]
    strides = [1]
    for one in network.shape:
        strides.append(strides[-1] * one)

    def coordinate(number: int, which: int) -> int:
        return number // strides[which] % network.shape[which]

    waits: Waits = defaultdict(list)
    for phase in range(len(axes)):
        done: Waits = defaultdict(list)
        for part in range(len(axes)):
            turn = [axes[(part + step) % len(axes)] for step in range(len(axes))]
            fixed, axis = turn[:phase], turn[phase]
            held: defaultdict[tuple[int, int], list[Hashable]] = defaultdict(list)
            for source, target in product(range(network.members), repeat=2):
                node = source + sum((coordinate(target, one) - coordinate(source, one)) * strides[one] for one in fixed)
                held[node, coordinate(target, axis)].append((part, source, target))
            item = size / len(axes) / network.members
            rings = axis_rings(network, axis)
            found = along_all_to_all(schedule, rings, lambda one, there, held=held: held[one, there], item, waits)
            for node, numbers in found.items():
                done[node] += numbers
        waits = done


def direct_all_to_all(schedule: Schedule, size: float, inner: int = 0, pieces: int = 1) -> None:
    """Each member sends each other one its block, nearest next first, or every block in as many `pieces`, round by round.

    Where `inner` members share a box, those of other boxes come first, members at different places starting with different boxes,
    and those of its own box last: no two send to one member at the same time, and all boxes are sent to at once.
    """
    count = schedule.network.members
    inner = inner or count
    boxes = count // inner
    for piece, turn, shift, one in product(range(pieces), range(boxes), range(inner), range(count)):
        box, place = divmod(one, inner)
        away = 0 if turn == boxes - 1 else 1 + (turn + place) % (boxes - 1)
        other = (box + away) % boxes * inner + (place + shift) % inner
        if other != one:
            moves = [Move(((0, one, other), half), ((0, one, other), half)) for half in HALVES] if piece == pieces - 1 else []
            schedule.send(one, other, size / count / pieces, moves)


def direct_pass(
    schedule: Schedule, members: Sequence[int], data: Data, waits: Waits, *, reduce: bool, first: int = 0, pieces: int = 1
) -> Waits:
    """One reduce-scatter or all-gather among some members, each block sent straight to its owner, the `first` next one first.

    Blocks go in `pieces`, round by round, the data with the last.
    """
    count, done = len(members), defaultdict[Node, list[int]](list)
    for piece, shift, position in product(range(pieces), range(1, count), range(count)):
        there = (position + 1 + (shift - 1 + first) % (count - 1)) % count
        moves = _moves(data, there if reduce else position, add=reduce) if piece == pieces - 1 else []
        number = schedule.send(members[position], members[there], data.size / pieces, moves, waits[members[position]])
        if moves:
            done[members[there]].append(number)
    return done


def hierarchical(schedule: Schedule, size: float, inner: int, pieces: int = 1) -> None:
    """All-reduce over two tiers: reduce-scatter in each box, all-reduce among members of the same place, all-gather."""
    count = schedule.network.members
    boxes = count // inner
    waits: Waits = defaultdict(list)
    for across, reduce in ((False, True), (True, True), (True, False), (False, False)):
        groups: list[Waits] = []
        for group in range(inner if across else boxes):
            members = range(group, count, inner) if across else range(group * inner, (group + 1) * inner)

            def items(block: int, group: int = group, across: bool = across) -> list[Hashable]:
                return [(block * inner + group)] if across else [box * inner + block for box in range(boxes)]

            data = Data(items, size / count if across else size / inner)
            first = group if across else 0
            groups.append(direct_pass(schedule, members, data, waits, reduce=reduce, first=first, pieces=pieces))
        waits = defaultdict(list)
        for done in groups:
            for node, numbers in done.items():
                waits[node] += numbers


def multicast(schedule: Schedule, size: float, senders: int) -> None:
    """Members send their block to the switch, which copies it to all others."""
    count = schedule.network.members
    for sender in range(senders):
        moves = [Move((sender, half), (sender, half)) for half in HALVES]
        came = schedule.send(sender, "switch", size / senders, moves)
        for one in range(count):
            if one != sender:
                schedule.send("switch", one, size / senders, moves, [came])
