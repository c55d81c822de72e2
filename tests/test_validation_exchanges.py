"""Collectives as libraries run them: launch, protocols, own kernels, systems, and the measured rows."""

import numpy as np
import pytest

from ridgeline.errors import InputError
from ridgeline.mapping.exchange_kernels import Library, channels, exchange_time, least_time, tiers_of
from ridgeline.specs.system import NetworkTier
from ridgeline.validation import compare, exchanges, schema
from ridgeline.validation.predict import predict

BOX = NetworkTier(name="switch", size=8, topology="switch", bandwidth=300e9, latency=1e-6)
ADDING = NetworkTier(name="switch", size=8, topology="switch", bandwidth=300e9, latency=1e-6, in_network_reduction=True)
OUTER = NetworkTier(name="network", size=4, topology="switch", bandwidth=200e9, latency=2e-6)
LIBRARY = Library(launch=8e-6, step=0.0, share=0.75, flagged=60e9, fill=1e-6)
KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "send")


def test_a_small_ring_is_its_launch_and_steps():
    assert exchange_time([BOX], "all-reduce", 0.1, 8, LIBRARY) == pytest.approx(8e-6 + 14e-6, rel=1e-6)


def test_a_large_ring_is_the_share_of_the_links():
    size = 1e11
    assert exchange_time([BOX], "all-reduce", size, 8, LIBRARY) == pytest.approx(1.75 * size / 225e9, rel=0.01)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tier", [BOX, ADDING])
def test_no_library_beats_the_links(kind, tier):
    size = np.logspace(2, 11, 50)
    members = 2 if kind == "send" else 8
    time = exchange_time([tier], kind, size, members, LIBRARY)
    assert (time > least_time([tier], kind, size, members)).all()
    assert (np.diff(time) > 0).all()


def test_a_switch_that_adds_carries_large_buffers_once():
    size = 1e10
    rings, adds = (exchange_time([one], "all-reduce", size, 8, LIBRARY) for one in (BOX, ADDING))
    assert adds / rings == pytest.approx(1 / 1.75, rel=0.02)


def test_kernels_of_their_own_take_small_all_reduces_only():
    library = LIBRARY._replace(direct_launch=3e-6, direct_limit=1e6)
    assert exchange_time([BOX], "all-reduce", 1e3, 8, library) == pytest.approx(4e-6, rel=0.02)  # one shot
    for kind, size in (("all-reduce", 2e6), ("all-gather", 1e3)):
        assert exchange_time([BOX], kind, size, 8, library) == exchange_time([BOX], kind, size, 8, LIBRARY)


def test_channels_follow_the_links():
    assert [channels(one) for one in (20e9, 300e9, 450e9)] == [2.0, 24.0, 32.0]


def test_part_of_a_node_has_part_of_its_adapters():
    inner, outer = tiers_of([BOX, OUTER], 4)
    assert (inner.size, inner.bandwidth) == (4, 300e9)
    assert outer.bandwidth == pytest.approx(100e9)


def test_a_chip_with_links_and_no_system_has_boxes_of_eight():
    network = exchanges.network_of("rtx-pro-6000-server", "")
    assert network[0].size == 8
    assert network[0].bandwidth == 64e9  # its file's PCIe link
    with pytest.raises(InputError, match="no link to other chips"):
        exchanges.network_of("eyeriss", "")


def test_a_named_system_goes_before_the_first_of_its_chip():
    assert exchanges.network_of("a100-sxm-80gb", "a100_dgx")[1].bandwidth == 62e9
    assert exchanges.network_of("a100-sxm-80gb", "intra-node")[1].bandwidth == 200e9
    assert exchanges.network_of("h100-sxm", "")[0].bandwidth == 450e9


def test_a_group_larger_than_the_network_is_refused_by_its_row(tmp_path):
    path = tmp_path / "own.csv"
    path.write_text(
        "id,op,bytes,dtype,chip,n_chips,gpus_per_node,topology,framework,metric,value,unit\n"
        "a,all_reduce,1024,fp16,l40s,16,16,intra-node,nccl-2.27,latency,1,ms\n"
        "b,all_reduce,1024,fp16,l40s,8,8,intra-node,nccl-2.27,latency,1,ms\n",
        encoding="utf-8",
    )
    found = {one.row.id: one for one in predict(schema.read(path).rows)}
    assert found["a"].predicted is None
    assert "does not fit" in found["a"].reason
    assert found["b"].predicted


def test_measured_rows(facts):
    rows = [
        row
        for name in ("aic_comm", "vidur_net", "llmcompass")
        for row in schema.read(facts / "measured" / "dev" / f"{name}.csv").rows
        if exchanges.is_exchange(row)
    ]
    found = predict(rows)
    assert sum(one.predicted is not None for one in found) == len(rows)
    judged = compare.judged(found, {})
    switched = [one for one in judged if one.prediction.row.chip == "a100-sxm-80gb" and one.prediction.row.dataset == "aic_comm"]
    assert len(switched) == 243
    for large, median, mean in ((True, 0.11, 0.16), (False, 0.12, 0.20)):
        errors = [one.error for one in switched if (one.prediction.row.number("bytes") >= 2**20) == large]
        assert np.median(errors) <= median
        assert np.mean(errors) <= mean
    # Some messages of one data set run faster than the sheet's links; every other prediction keeps to its bound.
    assert all(one.prediction.predicted >= 0.999 * one.prediction.ideal for one in judged)
