"""The choice of a collective's algorithm, where a group lies in the tiers, and what the formulas must obey."""

import math
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ridgeline.api.names import load_system
from ridgeline.costs import collective as cost
from ridgeline.errors import InputError
from ridgeline.mapping.collectives import PROTOCOLS, Kind, collective_cost, place
from ridgeline.specs.system import NetworkTier

KINDS = get_args(Kind)


def tier(topology: Any = "switch", size: int = 8, **rest: Any) -> NetworkTier:
    return NetworkTier(**{"name": "fabric", "size": size, "topology": topology, "bandwidth": 450e9, "latency": 0.7e-6} | rest)


BOX, RACK = tier(size=8, name="box"), tier("fat-tree", 32, name="rack", bandwidth=400e9, latency=2e-6)
FABRICS = {
    "switch": [tier(in_network_reduction=True)],
    "fully-connected": [tier("fully-connected")],
    "ring": [tier("ring")],
    "torus-2d": [tier("torus-2d", 16, shape=(4, 4))],
    "torus-3d": [tier("torus-3d", 64, shape=(4, 4, 4))],
    "mesh-2d": [tier("mesh-2d", 12, shape=(4, 3))],
    "mesh-3d": [tier("mesh-3d", 27, shape=(3, 3, 3))],
    "dragonfly": [tier("dragonfly", 16, shape=(4, 4))],
    "fat-tree": [tier("fat-tree", 32)],
    "two tiers": [BOX, RACK],
}
each_fabric = pytest.mark.parametrize("tiers", FABRICS.values(), ids=FABRICS)
each_kind = pytest.mark.parametrize("kind", KINDS)


def chips(tiers: list[NetworkTier]) -> int:
    return math.prod(one.size for one in tiers)


# ---- by hand --------------------------------------------------------------------------------------------------------------------


def test_ring_and_bidirectional_ring_by_hand():
    """8 members, 80 MB, 100 GB/s in all: one way round 14 steps of 10 MB at 50 GB/s, both ways 140 MB at 100 GB/s and 8 hops."""
    ring = [tier("ring", bandwidth=100e9, latency=1e-6)]
    assert collective_cost(ring, "all-reduce", 80e6, 8, algorithm="ring").time == pytest.approx(14 * (1e-6 + 0.2e-3), rel=1e-12)
    both = collective_cost(ring, "all-reduce", 80e6, 8, algorithm="bidirectional-ring")
    assert both.time == pytest.approx(8e-6 + 1.4e-3, rel=1e-12)
    assert both.bytes == {"fabric": pytest.approx(140e6)}


def test_protocols_share_the_bandwidth():
    """A long send: 8 of 16 bytes, 120 of 128, or all of them carry data; the flags cross the tier too."""
    for name, share in (("low-latency", 0.5), ("low-latency-128", 120 / 128), ("simple", 1.0)):
        found = collective_cost([tier()], "send", 450e9, 2, protocol=name)
        assert found.time == pytest.approx(1 / share + 0.7e-6 + PROTOCOLS[name].overhead, rel=1e-12)
        assert found.bytes["fabric"] == pytest.approx(450e9 / share, rel=1e-12)


def test_the_protocol_changes_with_the_size():
    """Short messages take the one without a floor, long ones the one with all of the bandwidth."""
    chosen = [collective_cost([tier()], "all-reduce", size, 8).protocol for size in (1e3, 4e6, 1e9)]
    assert chosen == ["low-latency", "low-latency-128", "simple"]


def test_a_switch_that_adds_halves_the_bytes():
    """Twice the speed of a ring or two shots, less what a ring of n saves: (n − 1)/n."""
    size = 8e9
    plain = collective_cost([tier()], "all-reduce", size, 8)
    adding = collective_cost([tier(in_network_reduction=True)], "all-reduce", size, 8)
    assert adding.algorithm == "in-network"
    assert plain.time / adding.time == pytest.approx(2 * 7 / 8, rel=0.02)  # start-up and chunks of some µs in 18 ms


def test_hierarchical_by_hand():
    """16 of boxes of eight: 7/8 at 450 GB/s inside, twice, and 2 · 1/2 of an eighth at a chip's 50 GB/s across."""
    found = collective_cost([BOX, RACK], "all-reduce", 8e9, 16, algorithm="hierarchical", protocol="hardware")
    assert [(one.kind, one.members) for one in found.phases] == [("reduce-scatter", 8), ("all-reduce", 2), ("all-gather", 8)]
    assert found.time == pytest.approx(2 * 7e9 / 450e9 + 1e9 / 50e9, rel=1e-3)  # and some µs
    assert found.bytes == {"box": pytest.approx(14e9), "rack": pytest.approx(1e9)}


# ---- placing --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "stride", "expected"),
    [
        (16, 1, [("box", 8), ("rack", 2)]),
        (8, 1, [("box", 8)]),
        (12, 1, [("box", 6), ("rack", 2)]),
        (4, 8, [("rack", 4)]),
        (8, 4, [("box", 2), ("rack", 4)]),
        (1, 1, []),
        (256, 1, [("box", 8), ("rack", 32)]),
    ],
)
def test_a_group_lies_inside_out(members: int, stride: int, expected: list[tuple[str, int]]):
    assert [(one.tier.name, one.members) for one in place([BOX, RACK], members, stride=stride)] == expected


def test_a_chip_has_its_share_of_an_outer_tier():
    (level,) = place([BOX, RACK], 4, stride=8)
    assert level.bandwidth == 50e9


def test_a_block_of_a_torus():
    """Eight of 16 × 16 are a 4 × 2 or 2 × 4 without wrap-around; sixteen with a stride of sixteen share each link with others."""
    torus = tier("torus-2d", 256, shape=(16, 16))
    (block,) = place([torus], 8)
    assert sorted(block.shape) == [2, 4]
    assert block.wrapped == (False, False)
    (apart,) = place([torus], 16, stride=16)
    assert (apart.shape, apart.wrapped) == ((4, 4), (True, True))
    assert (apart.bandwidth, apart.latency) == (pytest.approx(torus.bandwidth / 4), pytest.approx(4 * 0.7e-6))


@pytest.mark.parametrize(
    ("tiers", "members", "options", "message"),
    [
        ([BOX, RACK], 257, {}, "does not fit 256 chips"),
        ([BOX], 0, {}, "whole number of members"),
        ([BOX], 4, {"stride": 0}, "whole number of members and stride"),
        ([BOX, RACK], 2, {"stride": 12}, "stride of 12 chips does not divide over tier 'box'"),
        ([tier("torus-2d", 16)], 4, {}, "must have 2 axes, product 16"),
        ([tier("torus-2d", 16, shape=(4, 4))], 5, {}, "no block of 5 members fits the 4 × 4 grid"),
        ([tier("dragonfly", 16)], 4, {}, r"its shape must be \[members a group, groups\]"),
        ([tier(latency=None)], 4, {}, "has no latency"),
        ([BOX], 4, {"algorithm": "rings"}, "unknown algorithm 'rings' of a collective: did you mean `ring`"),
        ([BOX], 4, {"protocol": "ll"}, "unknown protocol 'll'"),
        ([BOX], 4, {"algorithm": "bidirectional-ring"}, "cannot do all-reduce of 4 on box .switch.: accepted are ring"),
        ([BOX], 4, {"algorithm": "in-network"}, "cannot do all-reduce"),
    ],
)
def test_what_cannot_be_done(tiers: Any, members: int, options: Any, message: str):
    with pytest.raises(InputError, match=message):
        collective_cost(tiers, "all-reduce", 1e6, members, **options)


def test_an_unknown_kind():
    with pytest.raises(InputError, match="unknown kind 'allreduce' of a collective: did you mean `all-reduce`"):
        collective_cost([BOX], "allreduce", 1e6, 4)  # pyright: ignore[reportArgumentType]


# ---- for every topology ---------------------------------------------------------------------------------------------------------


@each_kind
@each_fabric
def test_an_array_of_sizes_equals_its_members(tiers: list[NetworkTier], kind: Any):
    sizes = np.geomspace(1.0, 1e10, 23)
    many = collective_cost(tiers, kind, sizes, chips(tiers))
    for index, size in enumerate(sizes):
        one = collective_cost(tiers, kind, float(size), chips(tiers))
        assert type(one.time) is float
        assert many.time[index] == pytest.approx(one.time, rel=1e-14)
        assert (
            many.algorithms[int(np.broadcast_to(many.algorithm, sizes.shape)[index])] == one.algorithm if many.algorithms else True
        )
        for name, moved in one.bytes.items():
            assert np.broadcast_to(many.bytes[name], sizes.shape)[index] == pytest.approx(moved, rel=1e-14)


@each_kind
@each_fabric
def test_the_best_is_the_least_of_the_forced(tiers: list[NetworkTier], kind: Any):
    for size in (1e3, 1e6, 1e9):
        best = collective_cost(tiers, kind, size, chips(tiers))
        forced = {name: collective_cost(tiers, kind, size, chips(tiers), algorithm=name).time for name in best.algorithms}
        assert best.time == min(forced.values()) == forced[best.algorithm]


@settings(deadline=None, max_examples=60)
@given(
    fabric=st.sampled_from(sorted(FABRICS)), kind=st.sampled_from(KINDS), size=st.floats(1.0, 1e11), factor=st.floats(1.0, 100.0)
)
def test_more_bandwidth_is_never_slower_and_more_bytes_never_faster(fabric: str, kind: Any, size: float, factor: float):
    """To the rounding of chunks to whole numbers, which is up to a chunk in some hundred: 1 %."""
    tiers = FABRICS[fabric]
    before = collective_cost(tiers, kind, size, chips(tiers)).time
    wider = [replace(one, bandwidth=one.bandwidth * factor) for one in tiers]
    assert collective_cost(wider, kind, size, chips(tiers)).time <= before * 1.01
    assert collective_cost(tiers, kind, size * factor, chips(tiers)).time >= before / 1.01


@each_kind
@each_fabric
def test_one_member_and_no_bytes_cost_nothing(tiers: list[NetworkTier], kind: Any):
    alone = collective_cost(tiers, kind, 1e9, 1)
    assert (alone.time, sum(alone.bytes.values())) == (0.0, 0.0)
    empty = collective_cost(tiers, kind, 0.0, chips(tiers))
    assert (empty.time, sum(empty.bytes.values())) == (0.0, 0.0)


@pytest.mark.parametrize("name", [one for one in FABRICS if one not in ("two tiers", "mesh-3d")])
def test_no_all_to_all_beats_the_bisection(name: str):
    """Half of each buffer of one half of the members crosses the cut; an odd mesh has no even cut."""
    (fabric,) = FABRICS[name]
    n, size, link = fabric.size, 1e10, fabric.bandwidth
    cut = {
        "ring": 2 * link / 2,
        "torus-2d": 2 * 4 * link / 4,
        "torus-3d": 2 * 16 * link / 6,
        "mesh-2d": 3 * link / 4,
        "fully-connected": (n / 2) ** 2 * link / (n - 1),
        "dragonfly": 2 * 2 * 4 * link / 3,
    }.get(name, n / 2 * link)
    bound = cost.bisection_time(bytes=size, count=float(n), bisection=cut)
    found = collective_cost([fabric], "all-to-all", size, n, protocol="hardware").time
    assert found >= bound * (1 - 1e-9)
    assert found <= 2.1 * bound


@pytest.mark.parametrize("system", ["dgx-h100", "gb200-nvl72", "mi300x-8", "tpu-v5p-pod", "pcie-box", "single-chip"])
def test_systems_of_the_catalogue(system: str):
    found = load_system(system)
    members = min(int(found.chips), 16)
    cost_of = collective_cost(found, "all-reduce", 16e6, members)
    assert math.isfinite(cost_of.time)
    assert cost_of.time >= 0.0
    assert (cost_of.time > 0) == (members > 1)
