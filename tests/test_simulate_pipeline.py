"""The pipeline of transfers, array and vector unit: tiny cases by hand, conservation, and the time line."""

import io
import json
from collections import Counter
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ridgeline.errors import InputError
from ridgeline.simulate.perfetto import trace_events, write_trace
from ridgeline.simulate.pipeline import Pipeline, Step, simulate_pipeline
from ridgeline.simulate.product import ElementBytes, simulate_product
from ridgeline.simulate.systolic import SystolicArray

ARRAY = SystolicArray(rows=4, columns=4, dataflow="weight-stationary", loading="preloaded", folds="pipelined")


def cycles(steps, **pipeline):
    return simulate_pipeline(steps, Pipeline(**({"bandwidth": 1.0} | pipeline))).cycles


def test_nothing_to_do():
    assert cycles([]) == 0
    assert cycles([Step(array=5)]) == 5


@pytest.mark.parametrize(
    ("slots", "expected"),
    [
        (1, 3 * (10 + 10)),  # load, compute, load …
        (2, 10 + 3 * 10),  # the next load behind the array
    ],
)
def test_single_and_double_buffers(slots, expected):
    assert cycles([Step(loads=(10,), array=10)] * 3, load_slots=slots) == expected


def test_double_buffering_is_bound_by_the_slower_side():
    assert cycles([Step(loads=(4,), array=10)] * 5) == 4 + 5 * 10
    assert cycles([Step(loads=(10,), array=4)] * 5) == 5 * 10 + 4
    assert cycles([Step(loads=(10,), array=4)] * 5, load_slots=9) == 5 * 10 + 4


def test_a_resident_tile_is_not_loaded_and_keeps_its_buffer():
    # one weight tile for two input tiles, single buffers: w, i | compute | i | compute | w (i was loaded meanwhile) …
    steps = [Step(loads=(2, 10), array=5), Step(loads=(2, 0), array=5)] * 2
    #   0–12 loads, 12–17 array, 17–19 load, 19–24 array, 24–36 loads, 36–41 array, 41–43 load, 43–48 array
    assert cycles(steps, load_slots=1) == 48
    # double: loads end at 12, 14; the third step's input needs step 1 done (17–19), its weight follows (–29); then 29–31
    assert cycles(steps, load_slots=2) == 39


def test_latency_is_paid_once_a_transfer_or_hidden_by_transfers_in_flight():
    steps = [Step(loads=(10, 10), array=1)] * 2
    assert cycles(steps, latency=100, load_slots=2) == 4 * 110 + 1
    assert cycles(steps, latency=100, load_slots=2, in_flight=4) == 100 + 4 * 10 + 1
    # two in flight: the third waits for the end of the first (110), the fourth for that of the second (120)
    assert cycles(steps, latency=100, load_slots=2, in_flight=2) == 120 + 100 + 10 + 1


def test_bytes_are_rounded_up_to_bursts_and_cycles_to_whole_ones():
    run = simulate_pipeline([Step(loads=(65,), array=1)], Pipeline(bandwidth=16.0, burst=64))
    assert (run.bytes_loaded, run.bytes_moved, run.cycles) == (65, 128, 9)
    assert cycles([Step(loads=(10,))], bandwidth=3.0) == 4


def test_issue_by_dma_host_and_array():
    steps = [Step(loads=(10,), array=10)] * 4
    assert cycles(steps, issue=3) == 13 * 4 + 10
    assert cycles(steps, issue=3, issued_by="host") == 13 * 4 + 10
    # the array issues: 3 before the first transfer; then each of its three further issues prolongs a step
    run = simulate_pipeline(steps, Pipeline(bandwidth=1.0, issue=3, issued_by="array"))
    assert run.stalls["issue"] == 4 * 3
    assert run.cycles >= 13 + 4 * 10
    # one host serves both engines, so stores and loads wait for each other's issue
    both = [Step(loads=(1,), array=1, store=1)] * 10
    own = cycles(both, issue=50, separate_store=True)
    assert cycles(both, issue=50, separate_store=True, issued_by="host") > own


def test_stores_hold_the_array_back():
    steps = [Step(array=2, store=10)] * 3
    # one output buffer: 2 + 10, three times; two: array 0–2, 2–4, then stores end at 12, 22, 32, third output waits for 12
    assert cycles(steps, output_slots=1) == 36
    run = simulate_pipeline(steps, Pipeline(bandwidth=1.0, output_slots=2))
    assert run.cycles == 32
    assert run.stalls == {"load": 0, "output": 8, "synchronous": 0, "issue": 0, "start": 0, "drain": 18}
    assert cycles(steps, output_slots=3) == 32


def test_stores_share_the_engine_or_have_their_own():
    steps = [Step(loads=(10,), array=1, store=10)] * 4
    # loads 0, 1; stores 0, 1 come first when ready; loads 2, 3; stores 2, 3: the engine never waits
    assert cycles(steps) == 8 * 10
    # loads back to back; the last store follows the last array step
    assert cycles(steps, separate_store=True) == 5 * 10 + 1


def test_vector_unit_works_behind_the_array():
    steps = [Step(array=10, vector=4, store=1)] * 3
    assert cycles(steps) == 3 * 10 + 4 + 1
    assert cycles([Step(array=4, vector=10, store=1)] * 3, output_slots=3) == 4 + 3 * 10 + 1
    # two output buffers: the third step waits until the first is stored at 15, which the vector unit hides
    assert cycles([Step(array=4, vector=10, store=1)] * 3, output_slots=2) == 4 + 3 * 10 + 1


def test_synchronous_transfers_do_not_overlap():
    steps = [Step(loads=(10, 3), array=7, vector=2, store=5)] * 3
    run = simulate_pipeline(steps, Pipeline(bandwidth=1.0, asynchronous=False, in_flight=4))
    assert run.cycles == 3 * (13 + 7 + 2 + 5)
    assert run.stalls == {"load": 39, "output": 0, "synchronous": 14, "issue": 0, "start": 0, "drain": 7}


def test_an_output_tile_stays_open_until_it_is_closed():
    steps = [Step(array=3, closes=False), Step(array=3, closes=False), Step(array=3, store=5)] * 2
    assert cycles(steps, output_slots=1) == 2 * (9 + 5)
    assert cycles(steps, output_slots=2) == 2 * 9 + 5


def test_partial_sums_wait_for_an_output_buffer():
    steps = [Step(array=4, store=8), Step(array=4, partial=8, store=8)]
    # one buffer: compute 4, store 12, read back 20, compute 24, store 32
    assert cycles(steps, output_slots=1) == 32
    # two: read back 0–8 beside the array; the first store follows 8–16, the second 16–24
    assert cycles(steps, output_slots=2) == 24


def test_bad_steps_and_pipelines():
    for wrong in ({"bandwidth": 0.0}, {"burst": 0}, {"in_flight": 0}, {"latency": -1}, {"issued_by": "cores"}, {"load_slots": 1.5}):
        with pytest.raises(InputError):
            Pipeline(**({"bandwidth": 1.0} | wrong))
    for step in (Step(store=5, closes=False), Step(array=-1), Step(loads=(-4,))):
        with pytest.raises(InputError):
            simulate_pipeline([step], Pipeline(bandwidth=1.0))


def _step(loads, array, vector, store, partial, closes):
    return Step(loads, array, vector * closes, store * closes, partial, closes)


BYTES = st.integers(0, 30)
CYCLES = st.integers(0, 20)
STEPS = st.lists(st.builds(_step, st.tuples(BYTES, BYTES), CYCLES, CYCLES, BYTES, BYTES, st.booleans()), max_size=25)
PIPELINES = st.fixed_dictionaries(
    {
        "bandwidth": st.sampled_from([0.5, 1.0, 3.0, 16.0]),
        "latency": st.integers(0, 20),
        "burst": st.sampled_from([1, 8]),
        "issue": st.integers(0, 5),
        "issued_by": st.sampled_from(["dma", "host", "array"]),
        "in_flight": st.integers(1, 3),
        "load_slots": st.integers(1, 3),
        "output_slots": st.integers(1, 3),
        "separate_store": st.booleans(),
        "asynchronous": st.booleans(),
    }
)


@settings(max_examples=300, deadline=None)
@given(steps=STEPS, pipeline=PIPELINES)
def test_conservation(steps, pipeline):
    run = simulate_pipeline(steps, Pipeline(**pipeline), spans=True)
    assert run.steps == len(steps)
    assert all(busy <= run.cycles for busy in run.busy.values())
    assert run.busy["array"] == sum(step.array for step in steps)
    assert run.busy["vector"] == sum(step.vector for step in steps)
    assert run.busy["array"] + sum(run.stalls.values()) == run.cycles
    assert all(stall >= 0 for stall in run.stalls.values())
    assert run.bytes_loaded == sum(sum(step.loads) + step.partial for step in steps)
    assert run.bytes_stored == sum(step.store for step in steps)
    assert run.bytes_moved >= run.bytes_loaded + run.bytes_stored
    ends = {}
    for span in run.spans:  # a unit does one thing at a time
        assert ends.get(span.unit, 0) <= span.start < span.end <= run.cycles
        ends[span.unit] = span.end
    again = simulate_pipeline(steps, Pipeline(**pipeline), spans=True)
    assert (again.cycles, again.spans) == (run.cycles, run.spans)


@settings(max_examples=100, deadline=None)
@given(steps=STEPS, latency=st.integers(0, 20), slots=st.integers(1, 3), separate=st.booleans())
def test_bandwidth_never_hurts_a_blocking_synchronous_or_separate_pipeline(steps, latency, slots, separate):
    """With one engine for loads and stores the order of transfers depends on the speed, so only these are promised."""
    extra = {"separate_store": True} if separate else {"asynchronous": False}
    times = [
        cycles(steps, bandwidth=bandwidth, latency=latency, load_slots=slots, output_slots=slots, **extra)
        for bandwidth in (0.5, 1.0, 2.0, 7.0, 100.0)
    ]
    assert times == sorted(times, reverse=True)


def test_product_traffic_by_hand():
    """8 × 8 × 8 in 4 × 4 × 4 tiles: 2 × 2 × 2 visits of 16 elements; the innermost loop's dimension decides what stays."""
    expected = {  # order → input, weight, output read back, final outputs, partial sums, in tiles of 16
        "mnk": (8, 8, 0, 4, 0),
        "nmk": (8, 8, 0, 4, 0),
        "mkn": (4, 8, 4, 4, 4),  # input m,k stays along n; outputs leave after the first k
        "kmn": (4, 8, 4, 4, 4),
        "nkm": (8, 4, 4, 4, 4),
        "knm": (8, 4, 4, 4, 4),
    }
    element = ElementBytes(input=1, weight=2, output=1, accumulator=4)
    for order, (inputs, weights, back, final, partial) in expected.items():
        run = simulate_product((8, 8, 8), (4, 4, 4), order, array=ARRAY, pipeline=Pipeline(bandwidth=8.0), element=element)
        assert run.read == {"input": 16 * inputs, "weight": 32 * weights, "output": 64 * back}, order
        assert run.written == {"output": 16 * final, "partial": 64 * partial}, order
        assert run.tiles == 8
        assert run.pipeline.bytes_loaded + run.pipeline.bytes_stored == run.bytes


def test_ragged_tiles_count_every_element_once():
    for order in map("".join, permutations("mnk")):
        run = simulate_product((7, 5, 9), (7, 5, 4), order, array=ARRAY, pipeline=Pipeline(bandwidth=8.0))
        assert run.read == {"input": 63, "weight": 45, "output": 0}
        assert run.written == {"output": 35, "partial": 0}


def test_product_time_by_hand():
    # tiles 4 × 4 × 4, one fold of 4 cycles each, the first 4 + 4 + 3 + 3; nothing waits at this bandwidth but the first load
    run = simulate_product((8, 8, 8), (4, 4, 4), "mnk", array=ARRAY, pipeline=Pipeline(bandwidth=32.0))
    assert run.array_cycles == 14 + 7 * 4
    assert run.cycles == 2 + run.array_cycles + 1  # two transfers before the first tile, the last output after it
    assert run.utilisation == 512 / (16 * run.cycles)


def test_product_is_bound_by_memory_or_by_the_array():
    slow = simulate_product((64, 64, 64), (16, 16, 16), "mnk", array=ARRAY, pipeline=Pipeline(bandwidth=1.0))
    fast = simulate_product((64, 64, 64), (16, 16, 16), "mnk", array=ARRAY, pipeline=Pipeline(bandwidth=1e6))
    assert slow.bytes <= slow.cycles <= 1.05 * slow.bytes
    assert fast.array_cycles <= fast.cycles <= 1.01 * fast.array_cycles
    assert 0.99 < fast.array_cycles * 16 / fast.macs < 1.01


def test_vector_unit_finishes_outputs():
    plain = simulate_product((8, 8, 8), (8, 8, 8), "mnk", array=ARRAY, pipeline=Pipeline(bandwidth=64.0))
    finished = simulate_product((8, 8, 8), (8, 8, 8), "mnk", array=ARRAY, pipeline=Pipeline(bandwidth=64.0), vector_width=16)
    assert finished.cycles == plain.cycles + 4


def test_bad_products():
    for size, tile, order in (((8, 8, 8), (0, 1, 1), "mnk"), ((8, 0, 8), (1, 1, 1), "mnk"), ((8, 8, 8), (1, 1, 1), "mmk")):
        with pytest.raises(InputError):
            simulate_product(size, tile, order, array=ARRAY, pipeline=Pipeline(bandwidth=1.0))


def test_perfetto_structure():
    run = simulate_product(
        (16, 16, 16), (4, 4, 4), "mkn", array=ARRAY, pipeline=Pipeline(bandwidth=8.0, latency=3), vector_width=4, spans=True
    )
    stream = io.StringIO()
    write_trace(run.pipeline.spans, stream, clock=1e9, process="a product")
    events = json.loads(stream.getvalue())["traceEvents"]
    threads = {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}
    assert set(threads.values()) == {"load", "array", "vector"}
    assert [event["args"]["name"] for event in events if event["name"] == "process_name"] == ["a product"]
    complete = [event for event in events if event["ph"] == "X"]
    assert Counter(threads[event["tid"]] for event in complete)["array"] == 64
    assert all(event["dur"] >= 0 and event["name"] and event["pid"] == 1 for event in complete)
    times = [event["ts"] for event in complete]
    assert times == sorted(times)
    ends = {}
    for event in complete:
        assert event["ts"] >= ends.get(event["tid"], 0) - 1e-9
        ends[event["tid"]] = event["ts"] + event["dur"]
    assert max(ends.values()) == pytest.approx(run.cycles * 1e-3, rel=1e-12)  # a cycle is a nanosecond


def test_perfetto_of_nothing_and_of_no_clock():
    stream = io.StringIO()
    write_trace([], stream, clock=1e9)
    assert len(json.loads(stream.getvalue())["traceEvents"]) == 1
    with pytest.raises(InputError, match="clock"):
        list(trace_events([], clock=0.0))


def test_an_array_that_is_set_up_waits_beside_the_first_load():
    steps = [Step(loads=(10,), array=10)] * 3
    run = simulate_pipeline(steps, Pipeline(bandwidth=1.0, start=4, array_start=4))
    assert run.cycles == 4 + 10 + 10 + 4 + 10 + 4 + 10  # engine and array set up at once, then load and compute at once
    assert run.stalls["start"] == 3 * 4
    assert run.busy["array"] + sum(run.stalls.values()) == run.cycles


def test_a_host_starts_a_tile_beside_the_array():
    steps = [Step(loads=(10,), array=20)] * 3
    assert cycles(steps, start=4, issued_by="host") == 4 + 10 + 3 * 20
    assert cycles(steps, start=14, issued_by="host") == 3 * (14 + 10) + 20


def test_requests_are_asked_for_while_the_first_of_them_come():
    """Ten requests of 1 B: a byte a cycle, asked for in two each; the array issues them."""
    ask = {"issue": 2, "issue_bytes": 1, "issued_by": "array"}
    assert cycles([Step(loads=(10,), array=5)], **ask) == 20 + 5
    assert cycles([Step(loads=(10,), array=5)], **{**ask, "issue": 0.5}) == 1 + 10 + 5
    assert cycles([Step(loads=(10,), array=5)] * 2, **ask) == 20 + (5 + 20) + 5  # the second load stretches the first step


def test_a_tensor_of_a_slower_memory_takes_longer():
    assert cycles([Step(loads=(10, 10), array=1)], rates=(1.0, 0.25)) == 10 + 40 + 1
    with pytest.raises(InputError, match="share of the bandwidth"):
        Pipeline(bandwidth=1.0, rates=(0.0,))
