"""Collectives in the alpha-beta model, and the balance of communication.

Conventions of every function here:

- `bytes` is the whole buffer that a member holds before a reduce-scatter, an all-reduce, an all-to-all or a broadcast, and after an
  all-gather, as NCCL's tests count it [nvidia2024nccltests];
- `bandwidth` is one member's, one direction, all its links together; members send and receive at once (full duplex). Each docstring
  says how much of it the algorithm uses: a ring topology gives each of a member's two links half of it;
- `latency` is that of one step: wire, switch and what the software adds to a message; it is not paid again by messages that follow
  in a pipeline;
- `sent` is the mean over the members of what a member puts on its links, forwarded bytes included, so that count · sent is all
  that crossed the network;
- one member costs nothing, and so do no bytes.

Neglected throughout: the arithmetic of a reduction, which streams at memory speed, and launching the kernel.
"""

from typing import NamedTuple

from ridgeline.arrays import ceil_log2, maximum, minimum, where
from ridgeline.quantities import Bytes, BytesPerSecond, Count, FlopsPerByte, FlopsPerSecond, Seconds


class Collective(NamedTuple):
    """What a collective takes: time, bytes that a member sends (mean), and steps one after another."""

    time: Seconds
    sent: Bytes
    steps: Count


def _result(bytes: Bytes, time: Seconds, sent: Bytes, steps: Count) -> Collective:
    """Return a result that is zero where there is nothing to send."""
    some = bytes > 0
    return Collective(where(some, time, 0.0 * time), sent, where(some, steps, 0.0 * steps))


def ring(*, bytes: Bytes, count: Count, bandwidth: BytesPerSecond, latency: Seconds, passes: Count = 1.0) -> Collective:
    """One ring in one direction; a reduce-scatter or an all-gather is one pass, an all-reduce is two.

        time = passes · (n − 1) · (latency + bytes / (n · bandwidth))   [thakur2005optimization] §4, [patarasuk2009bandwidth]

    Any n; the least bytes that an all-reduce can send. `bandwidth` is that of the links the ring uses.

    >>> found = ring(bytes=4e6, count=4.0, bandwidth=1e9, latency=1e-6, passes=2.0)  # 6 steps of 1 µs and 1 ms
    >>> round(found.time, 9), found.sent, found.steps
    (0.006006, 6000000.0, 6.0)
    """
    steps = passes * (count - 1)
    return _result(bytes, steps * (latency + bytes / (count * bandwidth)), steps / count * bytes, steps)


def bidirectional_ring(
    *, bytes: Bytes, count: Count, bandwidth: BytesPerSecond, latency: Seconds, passes: Count = 1.0
) -> Collective:
    """A ring whose blocks travel both ways round, each to the nearer half; of an even ring the farthest block is halved.

        time = passes · (⌊n/2⌋ · latency + (n − 1)/n · bytes / bandwidth)   [austin2025scaling], where n is even

    `bandwidth` is that of a member's two links together.

    >>> round(bidirectional_ring(bytes=4e6, count=4.0, bandwidth=2e9, latency=1e-6).time, 9)  # 2 steps of latency, 3 MB at 2 GB/s
    0.001502
    """
    sent = passes * (count - 1) / count * bytes
    steps = passes * (count // 2)
    return _result(bytes, steps * latency + sent / bandwidth, sent, steps)


def line(*, bytes: Bytes, count: Count, bandwidth: BytesPerSecond, latency: Seconds, passes: Count = 1.0) -> Collective:
    """A line without wrap-around, as an axis of a mesh: blocks move outwards both ways, and the end links carry all but one.

        time = passes · (n − 1) · (latency + 2 · bytes / (n · bandwidth))   the buckets of [chan2007collective] on a linear array

    `bandwidth` is that of a member's two links of this axis together; the members at the ends have one of them. It takes as long as
    a ring in one direction.

    >>> round(line(bytes=4e6, count=4.0, bandwidth=2e9, latency=1e-6).time, 9)  # 3 steps of 1 µs and 1 MB at 1 GB/s
    0.003003
    """
    steps = passes * (count - 1)
    return _result(bytes, steps * (latency + 2 * bytes / (count * bandwidth)), steps / count * bytes, steps)


def halving_doubling(*, bytes: Bytes, count: Count, bandwidth: BytesPerSecond, latency: Seconds, passes: Count = 1.0) -> Collective:
    """Recursive halving (reduce-scatter, one pass), recursive doubling (all-gather, one pass), or both (all-reduce, two passes).

        p = 2^⌊log2 n⌋
        time = passes · (log2 p · latency + (p − 1)/p · bytes / bandwidth)
             + passes · (latency + bytes / bandwidth) where n > p       [thakur2005optimization] §4.5

    Where n is no power of two, n − p members first hand their buffers to a neighbour and get the result at the end. Between
    partners at any distance the whole `bandwidth` must be free: a switch or a full fat tree.

    >>> round(halving_doubling(bytes=4e6, count=4.0, bandwidth=1e9, latency=1e-6, passes=2.0).time, 9)  # 4 latencies, 6 MB
    0.006004
    >>> round(halving_doubling(bytes=4e6, count=5.0, bandwidth=1e9, latency=1e-6, passes=2.0).time, 9)  # and 2 latencies, 8 MB
    0.014006
    """
    levels = _floor_log2(count)
    power = _power_of_two(levels, count)
    fold = where(count > power, 1.0 + 0.0 * count, 0.0 * count)
    steps = passes * (levels + fold)
    time = steps * latency + passes * ((power - 1) / power + fold) * bytes / bandwidth
    return _result(bytes, time, passes * (count - 1) / count * bytes, steps)


def _power_of_two(exponent: Count, like: Count) -> Count:
    return (2.0 + 0.0 * like) ** exponent


def direct(*, bytes: Bytes, count: Count, bandwidth: BytesPerSecond, latency: Seconds, passes: Count = 1.0) -> Collective:
    """Every member sends each other one its block at once: reduce-scatter, all-gather, all-to-all; an all-reduce is two shots.

        time = passes · (latency + (n − 1)/n · bytes / bandwidth)   [shah2025msccl]

    On a switch the blocks follow one another through a member's port, on a fully connected tier each takes its own link of
    bandwidth / (n − 1): the same time.

    >>> round(direct(bytes=4e6, count=4.0, bandwidth=1e9, latency=1e-6, passes=2.0).time, 9)  # 2 latencies, 6 MB
    0.006002
    """
    sent = passes * (count - 1) / count * bytes
    alive = minimum(count - 1, 1.0 + 0.0 * count)
    return _result(bytes, passes * alive * latency + sent / bandwidth, sent, passes * alive)


def one_shot(*, bytes: Bytes, count: Count, bandwidth: BytesPerSecond, latency: Seconds) -> Collective:
    """All-reduce in one step: every member sends its whole buffer to all the others, and each adds what it receives.

        time = latency + (n − 1) · bytes / bandwidth   [shah2025msccl]

    >>> round(one_shot(bytes=1e3, count=4.0, bandwidth=1e9, latency=1e-6).time, 9)  # 1 µs and 3 kB at 1 GB/s
    4e-06
    """
    alive = minimum(count - 1, 1.0 + 0.0 * count)
    sent = (count - 1) * bytes
    return _result(bytes, alive * latency + sent / bandwidth, sent, alive)


def binomial_tree(*, bytes: Bytes, count: Count, bandwidth: BytesPerSecond, latency: Seconds, passes: Count = 1.0) -> Collective:
    """Broadcast (one pass) along a binomial tree, or reduce and broadcast (two passes: all-reduce), whole buffers at each step.

        time = passes · ⌈log2 n⌉ · (latency + bytes / bandwidth)   [thakur2005optimization] §4.2, [chan2007collective]

    A member has one message under way at a time. `bandwidth` is what one pair of members has.

    >>> round(binomial_tree(bytes=1e6, count=5.0, bandwidth=1e9, latency=1e-6).time, 9)  # 3 steps of 1 µs and 1 ms
    0.003003
    """
    steps = passes * ceil_log2(count)
    return _result(bytes, steps * (latency + bytes / bandwidth), passes * (count - 1) / count * bytes, 1.0 * steps)


def chain(*, bytes: Bytes, count: Count, bandwidth: BytesPerSecond, latency: Seconds, chunks: Count) -> Collective:
    """Broadcast along a chain of members, in chunks that follow one another.

        time = (n − 1) · (latency + c) + (k − 1) · c,   c = bytes / (k · bandwidth)   [sanders2009twotree] §1, linear pipeline

    `bandwidth` is that of the link to the next member. Best chunks: k = √((n − 2) · bytes / bandwidth / latency).

    >>> round(chain(bytes=4e6, count=3.0, bandwidth=1e9, latency=1e-6, chunks=4.0).time, 9)  # 2 hops of 1 µs and 1 ms, and 3 ms
    0.005002
    """
    alive = minimum(count - 1, 1.0 + 0.0 * count)
    piece = bytes / (chunks * bandwidth)
    time = (count - 1) * (latency + piece) + alive * (chunks - 1) * piece
    return _result(bytes, time, (count - 1) / count * bytes, alive * (count + chunks - 2))


def _floor_log2(value: Count) -> Count:
    return 1.0 * ceil_log2(value + 1) - 1.0  # of a whole number


def _tree_fill(count: Count, latency: Seconds, piece: Seconds) -> Seconds:
    """Time until the first chunk has reached the last member of a binary tree filled level by level.

    A parent serves its left child first. D = ⌊log2 n⌋ is the depth, r = ⌊log2(n − 2^D + 1)⌋ the most right turns of a member there;
    on the level above there are members behind D − 1 right turns.
    """
    depth = _floor_log2(count)
    turns = _floor_log2(count - _power_of_two(depth, count) + 1)
    above = maximum(depth - 1, 0.0 * depth)
    return maximum(depth * latency + (depth + turns) * piece, above * (latency + 2 * piece))


def binary_tree(
    *, bytes: Bytes, count: Count, bandwidth: BytesPerSecond, latency: Seconds, chunks: Count, passes: Count = 1.0
) -> Collective:
    """Broadcast (one pass) along a binary tree in chunks, or reduce and then broadcast (two passes: all-reduce).

        c    = bytes / (k · bandwidth),   D = ⌊log2 n⌋,   r = ⌊log2(n − 2^D + 1)⌋
        time = passes · (max(D · latency + (D + r) · c, (D − 1) · (latency + 2c)) + (k − 1) · 2c)   [sanders2009twotree] §2

    A member sends every chunk twice, left child first, so half the bandwidth is lost; the first term is the way of the first chunk
    to the last member of a tree filled level by level. With two members there is one child: (k − 1) · c. On a switch or full fat
    tree.

    >>> round(binary_tree(bytes=4e6, count=3.0, bandwidth=1e9, latency=1e-6, chunks=4.0).time, 9)  # 1 µs and 2 ms, then 6 ms
    0.008001
    """
    piece = bytes / (chunks * bandwidth)
    children = minimum(count - 1, 2.0 + 0.0 * count)
    time = passes * (_tree_fill(count, latency, piece) + (chunks - 1) * children * piece)
    steps = passes * (_floor_log2(count) + (chunks - 1) * minimum(count - 1, 1.0 + 0.0 * count))
    return _result(bytes, time, passes * (count - 1) / count * bytes, steps)


def double_tree(
    *, bytes: Bytes, count: Count, bandwidth: BytesPerSecond, latency: Seconds, chunks: Count, passes: Count = 1.0
) -> Collective:
    """Two binary trees at once, half of the buffer each, where the inner members of one are the leaves of the other.

        c    = bytes / (2 · k · bandwidth)
        time = as `binary_tree` with this c   [sanders2009twotree] §3, [hu2025demystifying]

    Each member sends and receives every byte about once a pass: full bandwidth with a depth of log2 n. `chunks` are those of one
    tree. Neglected: chunks of the two trees that reach a member at the same moment, which cost up to c a level.

    >>> round(double_tree(bytes=4e6, count=4.0, bandwidth=1e9, latency=1e-6, chunks=4.0).time, 9)  # 2 µs, 1 ms, 3 ms
    0.004002
    """
    piece = bytes / (2 * chunks * bandwidth)
    alive = minimum(count - 1, 1.0 + 0.0 * count)
    children = minimum(count - 1, 2.0 + 0.0 * count)
    time = passes * (_tree_fill(count, latency, piece) + (chunks - 1) * children * piece)
    return _result(bytes, time, passes * (count - 1) / count * bytes, passes * (_floor_log2(count) + alive * (chunks - 1)))


def scatter_all_gather(*, bytes: Bytes, count: Count, bandwidth: BytesPerSecond, latency: Seconds) -> Collective:
    """Broadcast of a long buffer: the root hands each member its block, then all gather.

        time = 2 · latency + 2 · (n − 1)/n · bytes / bandwidth   [thakur2005optimization] §4.2, with direct scatter and all-gather

    >>> round(scatter_all_gather(bytes=4e6, count=4.0, bandwidth=1e9, latency=1e-6).time, 9)  # 2 µs, 6 MB
    0.006002
    """
    alive = minimum(count - 1, 1.0 + 0.0 * count)
    share = (count - 1) / count
    time = 2 * alive * latency + 2 * share * bytes / bandwidth
    return _result(bytes, time, share * (1 + 1 / count) * bytes, 2 * alive)


def in_network(*, bytes: Bytes, count: Count, bandwidth: BytesPerSecond, latency: Seconds, chunks: Count) -> Collective:
    """All-reduce or reduce-scatter in a switch that adds: a member sends its buffer once and receives the result once.

        time = latency + (1 + 1/k) · bytes / bandwidth   [graham2016sharp]

    The switch adds a chunk when all members' have come, and sends it on while the next comes in. `latency` is member to member. A
    reduce-scatter returns n blocks, each to its owner: k = n.

    >>> round(in_network(bytes=4e6, count=8.0, bandwidth=1e9, latency=1e-6, chunks=4.0).time, 9)  # 1 µs, 5 MB
    0.005001
    """
    alive = minimum(count - 1, 1.0 + 0.0 * count)
    return _result(bytes, alive * (latency + (1 + 1 / chunks) * bytes / bandwidth), alive * bytes, alive)


def multicast(*, bytes: Bytes, count: Count, bandwidth: BytesPerSecond, latency: Seconds, senders: Count) -> Collective:
    """All-gather (n senders) or broadcast (one sender) by a switch that copies: a block is sent once and received by all others.

        time = latency + b · bytes / bandwidth,   b = (n − 1)/n with n senders, 1 with one   [graham2016sharp]

    A member sends its block once and receives all others': the port inwards binds.

    >>> round(multicast(bytes=4e6, count=4.0, bandwidth=1e9, latency=1e-6, senders=4.0).time, 9)  # 1 µs, three blocks of 1 MB
    0.003001
    """
    alive = minimum(count - 1, 1.0 + 0.0 * count)
    received = minimum((count - 1) / senders, 1.0 + 0.0 * count)
    return _result(bytes, alive * latency + received * bytes / bandwidth, alive * bytes / count, alive)


def ring_all_to_all(*, bytes: Bytes, count: Count, bandwidth: BytesPerSecond, latency: Seconds) -> Collective:
    """All-to-all on a ring: each block goes the shorter way round, the farthest block of an even ring half each way.

        time = ⌊n²/4⌋ / n · bytes / bandwidth + ⌊n/2⌋ · latency   [austin2025scaling]: a quarter of an all-gather of n buffers

    Each of 2n links carries ⌊n²/4⌋/2 of the n · (n − 1) blocks; for even n this is the bisection bound. `bandwidth` is that of a
    member's two links together.

    >>> round(ring_all_to_all(bytes=4e6, count=4.0, bandwidth=2e9, latency=1e-6).time, 9)  # 4 blocks of 1 MB at 2 GB/s, 2 hops
    0.002002
    """
    blocks = (count * count) // 4
    sent = blocks / count * bytes
    return _result(bytes, sent / bandwidth + (count // 2) * latency, sent, 1.0 * (count // 2))


def line_all_to_all(*, bytes: Bytes, count: Count, bandwidth: BytesPerSecond, latency: Seconds) -> Collective:
    """All-to-all on a line: every block cuts through, the farthest first, and the link in the middle carries half of all.

        c    = 2 · bytes / (n · bandwidth), a block on one link
        time = max(⌊n²/4⌋ · c + latency, max over i of (n − 1 − i) · latency + (i · (n − 1 − i) + 1) · c)

    The first term is the bisection bound [dally2003principles]. In the second the blocks of the members before link i, one bundle
    of n − 1 − i after another, hold up those of the first member, which then go to the end; i is the whole number next to
    ((n − 1) − latency / c) / 2. `bandwidth` is that of the two links of a member in the middle together.

    >>> round(line_all_to_all(bytes=4e6, count=4.0, bandwidth=2e9, latency=1e-6).time, 9)  # 4 blocks of 1 MB at 1 GB/s, 1 hop
    0.004001
    """
    links = count - 1
    block = 2 * bytes / (count * bandwidth)
    some = where(bytes > 0, bytes, bandwidth)  # nothing to send is dealt with at the end
    nearest = (0.5 * links - 0.25 * latency * count * bandwidth / some + 0.5) // 1.0
    link = minimum(maximum(nearest, 0.0 * links), maximum(links - 1, 0.0 * links))
    held_up = (links - link) * latency + (link * (links - link) + minimum(links, 1.0 + 0.0 * links)) * block
    middle = (count * count) // 4 * block + minimum(links, 1.0 + 0.0 * links) * latency
    return _result(bytes, maximum(middle, held_up), (count * count - 1) / (3 * count) * bytes, 1.0 * links)


def bisection_time(*, bytes: Bytes, count: Count, bisection: BytesPerSecond) -> Seconds:
    """Least time of an all-to-all: half of every buffer of one half crosses the cut, one direction of which has `bisection`.

        time = (n/2) · bytes/2 / bisection   [dally2003principles] §3.3.1

    >>> bisection_time(bytes=4e6, count=4.0, bisection=2e9)  # 4 MB at 2 GB/s
    0.002
    """
    return count * bytes / (4 * bisection)


def send_receive(*, bytes: Bytes, hops: Count, bandwidth: BytesPerSecond, latency: Seconds) -> Collective:
    """One member sends to another, cut through at every hop.

        time = hops · latency + bytes / bandwidth   [thakur2005optimization] §3

    `bandwidth` is that of the links on the way. `sent` are the bytes of all hops.

    >>> round(send_receive(bytes=1e6, hops=2.0, bandwidth=1e9, latency=1e-6).time, 9)
    0.001002
    """
    return _result(bytes, hops * latency + bytes / bandwidth, hops * bytes, hops)


def pipeline_chunks(*, bytes: Bytes, depth: Count, bandwidth: BytesPerSecond, latency: Seconds) -> Count:
    """Chunks that make a pipeline fastest, whose first chunk passes `depth` stages beyond the first.

        k = √(depth · bytes / (bandwidth · latency))   [sanders2009twotree] §2, for a sender that pays `latency` for each chunk

    At least 1; a number that is not whole is for the caller to round. Here a chunk that follows another pays no latency again, so
    that more chunks would be faster still; real ones cost their sender something, and this number is where that costs what it
    gains.

    >>> pipeline_chunks(bytes=4e6, depth=4.0, bandwidth=1e9, latency=1e-6)  # √(4 · 4 ms / 1 µs)
    126.49110640673517
    """
    ratio = depth * bytes / (bandwidth * latency)
    return maximum(ratio, 1.0 + 0.0 * ratio) ** 0.5


def ops_per_communicated_byte(*, rate: FlopsPerSecond, bandwidth: BytesPerSecond) -> FlopsPerByte:
    """FLOPs a chip can do while it communicates one byte.

        ops:comms = rate / bandwidth   [fleetwood2025dsa], which counts both directions of the links together

    >>> round(ops_per_communicated_byte(rate=989e12, bandwidth=900e9))
    1099
    """
    return rate / bandwidth


def tensor_parallel_limit(*, width: Count, ops_per_byte: FlopsPerByte, element: Bytes = 2.0) -> Count:
    """Chips at which the all-reduce of a feed-forward block takes as long as its arithmetic.

        4·B·D·F / (Y·C) = 2·element·B·D / W   ⇒   Y = 2·F·W / (element·C) = width / ops:comms at 16 bits   [fleetwood2025dsa]

    2·element·B·D bytes are the two passes over B × D of an all-reduce. A ring sends them in one direction, so W is the bandwidth of
    one direction; the post counts both directions together, and in-network reduction sends half as much: twice as many chips.

    >>> round(tensor_parallel_limit(width=18432, ops_per_byte=1099), 1)
    16.8
    """
    return 2.0 * width / (element * ops_per_byte)


def distributed_load_time(*, parameters: Count, chips: Count, bandwidth: BytesPerSecond, weight: Bytes = 2.0) -> Seconds:
    """Time to read a model's weights once, spread evenly over chips.

        t = weight · P / (N · bandwidth)   [fleetwood2025dsa], 16 bits a weight

    >>> distributed_load_time(parameters=671e9, chips=8, bandwidth=3.35e12)
    0.05007462686567164
    """
    return weight * parameters / (chips * bandwidth)
