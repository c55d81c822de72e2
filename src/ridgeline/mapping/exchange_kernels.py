"""Collectives as communication libraries run them: rings by protocol, custom kernels for small messages, switches that add.

`mapping.collectives` costs every algorithm on clean links. A library launches a kernel first, whose time is a matter of core
cycles; it moves data by its cores, which reach a share of the links; and it fills channels before the links are full.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from ridgeline.arrays import minimum, where
from ridgeline.mapping.collectives import Kind, collective_cost, place
from ridgeline.quantities import Bytes, BytesPerSecond, Count, Fraction, Hertz, Seconds
from ridgeline.specs.chip import Chip
from ridgeline.specs.stack import Stack
from ridgeline.specs.system import NetworkTier

PASSES = {"all-reduce": 2.0, "reduce-scatter": 1.0, "all-gather": 1.0, "all-to-all": 1.0, "send": 1.0}


class Library(NamedTuple):
    """What a communication library does with links."""

    launch: Seconds  # of its kernel, up to the first byte
    step: Seconds  # that its flags add to the latency of a tier
    share: Fraction  # of a tier's bandwidth that its kernels reach
    flagged: BytesPerSecond  # that its cores move at most where flags travel with the data
    fill: Seconds  # of one channel of a ring that moves whole chunks, before the links are full
    copies: BytesPerSecond = float("inf")  # of a member's own part within its memory
    direct_launch: Seconds = 0.0  # of its kernels for small all-reduces
    direct_limit: Bytes = 0.0  # up to which it takes them


def tiers_of(network: Sequence[NetworkTier], per_node: int) -> tuple[NetworkTier, ...]:
    """Return the tiers as a group sees them that takes only some chips of each node; the last tier joins nodes.

    >>> inner = NetworkTier(name="switch", size=8, topology="switch", bandwidth=300e9, latency=1e-6)
    >>> outer = NetworkTier(name="network", size=4, topology="switch", bandwidth=200e9, latency=2e-6)
    >>> [(one.size, one.bandwidth) for one in tiers_of([inner, outer], 2)]  # two chips have two of eight adapters
    [(2, 300000000000.0), (4, 50000000000.0)]
    """
    *inside, last = network
    found: list[NetworkTier] = []
    left, chips, taken = per_node, 1, 1
    for tier in inside:
        size = max(1, min(int(tier.size), left))
        found.append(replace(tier, size=size, bandwidth=tier.bandwidth * taken / chips))
        left //= size
        chips, taken = chips * int(tier.size), taken * size
    return (*found, replace(last, bandwidth=last.bandwidth * taken / chips))


_CHANNEL = 12.5e9  # bandwidth of a channel: a twenty-fourth of an NVLink 3 chip's links, for which the library opens 24
_CHANNELS = 32.0  # at most


def channels(bandwidth: BytesPerSecond) -> Count:
    """Return the rings that a library opens side by side to fill links of a bandwidth [hu2025demystifying].

    >>> channels(300e9), channels(27e9), channels(900e9)
    (24.0, 3.0, 32.0)
    """
    return minimum(-(-bandwidth // _CHANNEL), _CHANNELS)


def library_of(chip: Chip, stack: Stack, clock: Hertz, bandwidth: BytesPerSecond) -> Library:
    """Return what a stack's communication library does on a chip of a clock whose long streams reach a memory bandwidth."""
    joined = any(not one.name.startswith("pcie") for one in chip.link)  # kernels that read neighbours' memory need links for it
    return Library(
        launch=stack.exchange_cycles / clock,
        step=stack.exchange_step,
        share=stack.link_share,
        flagged=stack.flagged_bytes * clock,
        fill=stack.exchange_fill,
        copies=bandwidth / 2.0,
        direct_launch=stack.direct_cycles / clock,
        direct_limit=stack.direct_limit if joined else 0.0,
    )


def exchange_time(
    network: Sequence[NetworkTier], kind: Kind, bytes: Bytes, members: int, library: Library, *, stride: int = 1
) -> Seconds:
    """Return the time of a collective of buffers of `bytes` among members, the library's protocol chosen by cost.

        launch + min(ring with flags, ring with chunks + fill, switch that adds + fill) + own part / copies

    A channel is a ring of its own through some cores; `channels` says how many. A message between two fills none.
    Where the library has kernels of its own for small all-reduces: direct launch + one shot, or two.

    >>> tier = NetworkTier(name="switch", size=8, topology="switch", bandwidth=100e9, latency=1e-6)
    >>> library = Library(launch=5e-6, step=0.0, share=1.0, flagged=1e12, fill=1e-6)
    >>> round(exchange_time([tier], "all-gather", 1e3, 4, library), 9)  # launch and 3 steps of 1 µs with 250 B at 50 GB/s
    8.015e-06
    """
    levels = place(network, members, stride=stride)
    # A ring's kernels read, add, write and forward each byte; those of a message only read and send it.
    share = minimum(1.0, 2.0 * library.share) if kind == "send" else library.share
    slowed = [replace(one, latency=(one.latency or 0.0) + library.step, bandwidth=one.bandwidth * share) for one in network]
    # Flags take half of the bandwidth, and cores move `flagged` of data at most.
    flagged = [replace(one, bandwidth=minimum(one.bandwidth, 2.0 * library.flagged)) for one in slowed]
    fill = 0.0 if kind == "send" else channels(levels[0].tier.bandwidth) * library.fill
    algorithm = "direct" if kind in ("send", "all-to-all") else "ring"
    if kind == "all-to-all" and any(one.tier.topology.startswith("torus") for one in levels):
        algorithm = "multi-dimensional"  # no two members are joined directly: along one axis after the other

    def of(tiers: Sequence[NetworkTier], protocol: str, how: str = algorithm) -> Seconds:
        return collective_cost(tiers, kind, bytes, members, stride=stride, algorithm=how, protocol=protocol).time

    time = minimum(of(flagged, "low-latency"), of(slowed, "simple") + fill)
    if kind == "all-reduce" and len(levels) == 1 and levels[0].tier.in_network_reduction:
        time = minimum(time, of(slowed, "simple", "in-network") + fill)
    if kind == "all-to-all":  # one message to each other member, sent in turn
        time = time + (members - 2) * (levels[-1].latency + library.step)
    own = 0.0 * bytes if kind == "send" else bytes / members
    time = library.launch + time + own / library.copies
    if not library.direct_limit or kind != "all-reduce" or len(levels) > 1:
        return time
    direct = library.direct_launch + minimum(of(slowed, "low-latency", "one-shot"), of(slowed, "low-latency", "two-shot"))
    return where(bytes <= library.direct_limit, direct, time)


def least_time(network: Sequence[NetworkTier], kind: Kind, bytes: Bytes, members: int) -> Seconds:
    """Return the time below which no library comes: what a member must put on its own links, at their full bandwidth.

        passes · (n − 1)/n · bytes / bandwidth   [patarasuk2009bandwidth]; bytes / bandwidth where a switch adds, or one sends

    >>> tier = NetworkTier(name="switch", size=8, topology="switch", bandwidth=100e9, latency=1e-6)
    >>> round(least_time([tier], "all-reduce", 1e9, 4), 9)  # 1.5 GB at 100 GB/s
    0.015
    """
    level = place(network, members)[0]
    part = 1.0 if kind == "send" else PASSES[kind] * (members - 1) / members
    if kind == "all-reduce" and level.tier.in_network_reduction:
        part = min(part, 1.0)
    return part * bytes / level.bandwidth
