"""Serving: queues whose answer is known, conservation at every event, the cache's limit, and what policies do to latency."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ridgeline.errors import InfeasibleError, InputError
from ridgeline.serving import theory
from ridgeline.serving.arrivals import (
    AllAtOnce,
    Bursts,
    Fixed,
    Gamma,
    Lengths,
    LogNormal,
    Poisson,
    Requests,
    SharedPrefix,
    Uniform,
    draw_requests,
)
from ridgeline.serving.metrics import Target, measure, over_time
from ridgeline.serving.policy import POLICIES, Serving
from ridgeline.serving.scheduler import Replica
from ridgeline.serving.simulator import Cache, Census, Played, simulate
from ridgeline.serving.speculation import Speculation
from ridgeline.serving.surface import LinearStepTime

MACHINE = LinearStepTime(base=0.01, per_token=1e-4, per_context=1e-7)
ROOMY = Cache(tokens=10**7, bytes_per_token=1e5)


def requests(count: int, rate: float, prompt: Lengths, output: Lengths, seed: int = 1) -> Requests:
    return draw_requests(count, Poisson(rate=rate), prompt, output, np.random.default_rng(seed))


def play(asked: Requests, serving: Serving, cache: Cache = ROOMY, machine: Any = MACHINE, seed: int = 7, **more: Any) -> Played:
    return simulate(asked, machine, serving, cache, random=np.random.default_rng(seed), **more)


# ---- queues whose answer is known -------------------------------------------------------------------------------------------


def alone(**more: Any) -> Serving:
    """One request at a time, first come first served."""
    return Serving(policy="continuous", most_sequences=1, token_budget=10**6, **more)


@pytest.mark.parametrize("load", [0.3, 0.5])
def test_one_at_a_time_with_equal_requests_is_an_md1_queue(load: float):
    """Mean wait within 1 % of Pollaczek–Khinchine; its standard error at this length is about 0.4 %."""
    service = 0.01 + 100 * 1e-4
    asked = requests(400_000, load / service, Fixed(100), Fixed(1))
    played = play(asked, alone())
    wait = float((played.finish - asked.arrival).mean()) - service
    assert wait == pytest.approx(theory.mean_wait(rate=load / service, service=service), rel=0.01)
    assert measure(played).utilisation == pytest.approx(load, rel=0.01)


def test_one_at_a_time_with_general_service_is_an_mg1_queue():
    """Outputs uniform over 1 … 19, a decode step of 0.01 s each after the first: the moments are known exactly."""
    machine = LinearStepTime(base=0.01)
    asked = requests(200_000, 5.0, Fixed(10), Uniform(1, 19))
    played = play(asked, alone(), machine=machine)
    service, variation = 0.1, np.sqrt((19**2 - 1) / 12) / 10
    wait = float((played.finish - asked.arrival).mean()) - service
    assert wait == pytest.approx(theory.mean_wait(rate=5.0, service=service, variation=variation), rel=0.01)


def test_every_wait_is_lindleys():
    """The wait of each request, not only the mean, with lengths that vary and contexts that grow."""
    asked = requests(5_000, 20.0, LogNormal(50, 1.0), Uniform(1, 5))
    played = play(asked, alone())
    service = np.zeros(len(asked))
    for index, (prompt, output) in enumerate(zip(asked.prompt, asked.output, strict=True)):
        service[index] = 0.01 + prompt * 1e-4 + sum(0.0101 + 1e-7 * (prompt + step) for step in range(1, output))
    np.testing.assert_allclose(played.finish - asked.arrival - service, theory.waits(asked.arrival, service), atol=1e-8)


def test_littles_law_holds():
    asked = requests(20_000, 40.0, Uniform(10, 300), Uniform(1, 60))
    played = play(asked, Serving(most_sequences=64))
    found = measure(played)
    queue = theory.requests_in_system(rate=found.throughput, time=found.e2e.mean)
    moments = np.concatenate([asked.arrival, played.finish])
    order = np.argsort(moments, kind="stable")
    present = np.cumsum(np.where(order < len(asked), 1, -1))
    mean = float((present[:-1] * np.diff(moments[order])).sum()) / found.duration
    assert mean == pytest.approx(queue, rel=1e-9)


def test_a_batch_by_hand():
    """Three requests at once, prompts of 10, outputs of 3: one prefill of 30 tokens, two decode steps at contexts 11 and 12."""
    machine = LinearStepTime(base=1.0, per_token=0.1, per_context=0.01)
    asked = draw_requests(3, AllAtOnce(), Fixed(10), Fixed(3), np.random.default_rng(0))
    played = play(asked, Serving(), machine=machine)
    first = 1.0 + 3.0
    last = first + (1.3 + 0.33) + (1.3 + 0.36)
    assert played.first.tolist() == pytest.approx([first] * 3)
    assert played.finish.tolist() == pytest.approx([last] * 3)
    assert len(played.log) == 2  # the two decode steps are one event


# ---- conservation -----------------------------------------------------------------------------------------------------------


class Auditor:
    """Recounts requests and pages at every event."""

    def __init__(self) -> None:
        self.events = 0
        self.time = 0.0

    def __call__(self, census: Census, replicas: Sequence[Replica]) -> None:
        self.events += 1
        assert census.time >= self.time
        self.time = census.time
        inside = census.waiting + census.running + census.sending
        assert census.arrived == census.finished + census.rejected + inside
        for replica in replicas:
            self.count_pages(replica, census)

    def count_pages(self, replica: Replica, census: Census) -> None:
        pages = replica.pages
        assert 0 <= pages.free <= pages.capacity
        assert len(replica.running) <= replica.serving.most_sequences
        assert replica.decoding == sum(one.decoding for one in replica.running.values()) or replica.traits.padded
        held = sum(one.pages for one in pages.held.values())
        for one in replica.running.values():
            grown = one.decoding and not replica.reserves
            held += pages.of(one.cached + replica.decoded - one.joined_at) - one.shared if grown else one.own
        if census.sending == 0:
            assert held == pages.capacity - pages.free
        assert pages.idle == sum(one.pages for one in pages.held.values() if one.readers == 0)
        context = sum(
            one.cached + (replica.decoded - one.joined_at) * replica.gain for one in replica.running.values() if one.decoding
        )
        assert replica.context == pytest.approx(context) or replica.traits.padded


configurations = st.fixed_dictionaries(
    {
        "policy": st.sampled_from(POLICIES),
        "most_sequences": st.integers(1, 12),
        "token_budget": st.integers(1, 200),
        "page": st.integers(1, 20),
        "watermark": st.sampled_from([0.0, 0.05, 0.3]),
        "preemption": st.sampled_from(["recompute", "swap"]),
        "swap_bandwidth": st.just(1e7),
        "replicas": st.integers(1, 3),
        "routing": st.sampled_from(["round-robin", "least-outstanding", "random"]),
        "prefill_replicas": st.integers(1, 2),
        "link_bandwidth": st.sampled_from([1e7, 1e9]),
        "link_latency": st.sampled_from([0.0, 0.03]),
    }
)


@settings(max_examples=300, deadline=None)
@given(
    configuration=configurations,
    tokens=st.integers(60, 900),
    lengths=st.tuples(st.integers(1, 120), st.integers(1, 120)),
    prefix=st.tuples(st.integers(0, 60), st.integers(1, 3)),
    speculation=st.one_of(st.none(), st.builds(Speculation, length=st.integers(1, 4), acceptance=st.floats(0.0, 1.0))),
    arrivals=st.sampled_from([AllAtOnce(), Poisson(rate=30.0), Gamma(rate=20.0, variation=3.0), Bursts(rate=40.0, size=7)]),
    seed=st.integers(0, 2**32 - 1),
)
def test_requests_and_pages_are_conserved_at_every_event(
    configuration: dict[str, Any],
    tokens: int,
    lengths: tuple[int, int],
    prefix: tuple[int, int],
    speculation: Speculation | None,
    arrivals: Any,
    seed: int,
):
    """In = out + in flight; pages never above the capacity and equal to those that requests and prefixes hold, one by one."""
    random = np.random.default_rng(seed)
    shared = SharedPrefix(tokens=prefix[0], groups=prefix[1])
    asked = draw_requests(40, arrivals, Uniform(1, lengths[0]), Uniform(1, lengths[1]), random, prefix=shared)
    auditor = Auditor()
    cache = Cache(tokens=tokens, bytes_per_token=1e3)
    try:
        played = simulate(asked, MACHINE, Serving(**configuration), cache, random=random, speculation=speculation, observer=auditor)
    except InfeasibleError:
        return
    assert auditor.events >= 40
    served = np.isfinite(played.finish)
    assert served.sum() + len(played.rejected) == 40
    assert not served[list(played.rejected)].any()
    assert (played.first[served] > asked.arrival[served]).all()
    several = served & (asked.output > 1)
    assert (played.finish[several] > played.first[several]).all()
    assert (played.finish[served & (asked.output == 1)] == played.first[served & (asked.output == 1)]).all()
    found = measure(played)
    assert 0.0 < found.utilisation <= 1.0 + 1e-12
    assert found.cache_utilisation <= 1.0
    series = over_time(played, 50)
    width = series.time[1] - series.time[0]
    assert series.busy.sum() * width * len(played.busy) == pytest.approx(sum(played.busy))


def test_every_token_is_made_once():
    """Without preemption the log's decode and prefill tokens are those that were asked for."""
    asked = requests(500, 50.0, Uniform(1, 200), Uniform(1, 50))
    for policy in ("static", "continuous", "chunked", "prefill-first", "decode-first"):
        played = play(asked, Serving(policy=policy, token_budget=64))
        assert sum(row.prefill for row in played.log) == asked.prompt.sum()
        if policy != "static":  # which goes on with those that are done
            assert sum(row.decode * row.steps for row in played.log) == (asked.output - 1).sum()
        assert sum(row.ends for row in played.log) == 500
        assert sum(row.tokens for row in played.log) == asked.output.sum()
        series = over_time(played, 40)
        assert series.tokens_per_second.sum() * (series.time[1] - series.time[0]) == pytest.approx(float(asked.output.sum()))


@pytest.mark.parametrize("policy", POLICIES)
def test_the_same_seed_gives_the_same_result_to_the_bit(policy: Any):
    def once(seed: int) -> Played:
        random = np.random.default_rng(seed)
        asked = draw_requests(300, Gamma(rate=30.0, variation=2.0), LogNormal(100, 1.0), LogNormal(40, 1.0), random)
        serving = Serving(policy=policy, replicas=2, routing="random", link_bandwidth=1e9)
        return simulate(
            asked,
            MACHINE,
            serving,
            Cache(tokens=4000, bytes_per_token=1e3),
            random=random,
            speculation=Speculation(length=2, acceptance=0.6),
        )

    first, second, other = once(5), once(5), once(6)
    assert first.finish.tobytes() == second.finish.tobytes()
    assert first.log == second.log
    assert first.finish.tobytes() != other.finish.tobytes()


def test_events_do_not_change_the_result():
    """A run whose steps are all played one by one has the same times as one whose equal steps are taken together."""

    class OneByOne(LinearStepTime):
        def decode_line(self, decode: int, context: float) -> Any:
            return super().decode_line(decode, context)._replace(span=0.0)

    asked = requests(400, 15.0, Uniform(1, 200), Uniform(1, 80))
    for cache in (ROOMY, Cache(tokens=1500, bytes_per_token=1e3)):
        together = play(asked, Serving(), cache)
        single = play(asked, Serving(), cache, OneByOne(base=0.01, per_token=1e-4, per_context=1e-7))
        assert len(single.log) > len(together.log)
        np.testing.assert_allclose(single.finish, together.finish, rtol=1e-9)
        assert single.preempted.tolist() == together.preempted.tolist()


# ---- the cache --------------------------------------------------------------------------------------------------------------


def test_preempted_requests_are_finished_by_recomputing_or_swapping():
    asked = draw_requests(30, AllAtOnce(), Fixed(50), Fixed(100), np.random.default_rng(0))
    small = Cache(tokens=800, bytes_per_token=1e3)
    recomputed = play(asked, Serving(), small)
    swapped = play(asked, Serving(preemption="swap", swap_bandwidth=1e12), small)
    slow = play(asked, Serving(preemption="swap", swap_bandwidth=1e4), small)
    assert recomputed.preempted.sum() > 0
    assert swapped.preempted.sum() > 0
    assert np.isfinite(recomputed.finish).all()
    assert sum(row.prefill for row in recomputed.log) > asked.prompt.sum()
    assert sum(row.prefill for row in swapped.log) == asked.prompt.sum()
    assert swapped.end < recomputed.end  # at next to no cost of moving
    assert slow.end > recomputed.end


def test_a_request_that_never_fits_is_rejected_and_the_rest_are_served():
    asked = Requests(
        arrival=np.array([0.0, 0.1, 0.2]),
        prompt=np.array([100, 5000, 100]),
        output=np.array([10, 10, 10]),
        prefix=np.zeros(3, dtype=np.int64),
        group=np.zeros(3, dtype=np.int64),
        names=("a", "b", "c"),
    )
    played = play(asked, Serving(), Cache(tokens=1000))
    assert played.rejected == (1,)
    assert np.isfinite(played.finish).tolist() == [True, False, True]
    assert measure(played).rejected == 1
    with pytest.raises(InfeasibleError, match="smallest needs 110 tokens"):
        play(asked, Serving(), Cache(tokens=90))


def test_a_page_is_lost_in_part():
    """200 tokens in 16 requests of 11: pages of 1 hold 18 at once, pages of 16 hold 12, as each request takes a whole one."""
    asked = draw_requests(40, AllAtOnce(), Fixed(10), Fixed(2), np.random.default_rng(0))
    together = {
        page: max(row.running for row in play(asked, Serving(page=page, watermark=0.0, policy="static"), Cache(tokens=200)).log)
        for page in (1, 16)
    }
    assert together == {1: 18, 16: 12}


def test_a_common_prefix_is_held_once_and_computed_once():
    asked = requests(200, 40.0, Fixed(600), Fixed(10))
    shared = replace(asked, prefix=np.full(200, 512))
    cache = Cache(tokens=8000)
    apart, together = play(asked, Serving(), cache), play(shared, Serving(), cache)
    tokens = [sum(row.prefill for row in played.log) for played in (apart, together)]
    assert tokens[0] == 200 * 600
    assert 200 * 88 + 512 <= tokens[1] < 0.2 * tokens[0]  # the requests that come before the first has it compute it too
    assert measure(together).ttft.mean < measure(apart).ttft.mean


# ---- arrivals and lengths ---------------------------------------------------------------------------------------------------


def test_arrivals_have_their_rate_and_variation():
    """200 000 gaps: the mean's standard error is at most 0.7 %."""
    random = np.random.default_rng(3)
    for process, variation in (
        (Poisson(rate=5.0), 1.0),
        (Gamma(rate=5.0, variation=3.0), 3.0),
        (Gamma(rate=5.0, variation=0.5), 0.5),
    ):
        gaps = np.diff(process.times(200_000, random))
        assert gaps.mean() == pytest.approx(0.2, rel=0.03)
        assert gaps.std() / gaps.mean() == pytest.approx(variation, rel=0.03)
    burst = Bursts(rate=5.0, size=10).times(100_000, random)
    assert 100_000 / burst[-1] == pytest.approx(5.0, rel=0.05)
    assert (np.diff(burst) == 0).mean() == pytest.approx(0.9, abs=0.001)


def test_lengths_have_their_mean_and_variation():
    random = np.random.default_rng(3)
    drawn = LogNormal(1000, 0.8).draw(200_000, random)
    assert drawn.mean() == pytest.approx(1000, rel=0.01)
    assert drawn.std() / drawn.mean() == pytest.approx(0.8, rel=0.02)
    uniform = Uniform(3, 5).draw(30_000, random)
    assert set(uniform.tolist()) == {3, 4, 5}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: Poisson(rate=0.0).times(3, np.random.default_rng(0)), "more than 0"),
        (lambda: Uniform(5, 3).draw(1, np.random.default_rng(0)), "empty range"),
        (lambda: Serving(policy="best"), "choose static"),  # pyright: ignore[reportArgumentType]
        (lambda: Serving(most_sequences=0), "most sequences 0"),
        (lambda: Serving(preemption="swap"), "bandwidth"),
        (lambda: Serving(policy="disaggregated"), "bandwidth of the link"),
        (lambda: Speculation(length=0, acceptance=0.5), "1 or more"),
        (lambda: Speculation(length=2, acceptance=1.5), "probability"),
    ],
)
def test_bad_input_is_one_sentence(wrong: Any, said: str):
    with pytest.raises(InputError, match=said):
        wrong()


# ---- what policies do -------------------------------------------------------------------------------------------------------


def test_chunked_prefill_shortens_the_longest_waits_between_tokens():
    """Long prompts beside running decodes: whole prompts hold all of them up, chunks do not."""
    asked = requests(400, 3.0, LogNormal(3000, 1.0), Uniform(20, 60))
    found = {
        policy: measure(play(asked, Serving(policy=policy, token_budget=512 if policy == "chunked" else 8192)))
        for policy in ("chunked", "continuous", "prefill-first")
    }
    for other in ("continuous", "prefill-first"):
        assert found["chunked"].tpot.p99 < found[other].tpot.p99
        assert found["chunked"].token_gap.p99 < found[other].token_gap.p99


def test_disaggregation_removes_interference():
    """On a decode replica no step holds prompts, so no wait between two tokens is longer than a decode step."""
    asked = requests(400, 3.0, LogNormal(3000, 1.0), Uniform(20, 60))
    mixed = measure(play(asked, Serving(policy="chunked", replicas=2)))
    split_run = play(asked, Serving(policy="disaggregated", replicas=1, prefill_replicas=1, link_bandwidth=1e11))
    split = measure(split_run)
    assert split.tpot.p99 < mixed.tpot.p99
    assert all(row.prefill == 0 for row in split_run.log if row.replica == 0)
    slow = measure(play(asked, Serving(policy="disaggregated", replicas=1, prefill_replicas=1, link_bandwidth=1e9)))
    assert slow.e2e.mean > split.e2e.mean
    assert split_run.sent == pytest.approx(float(asked.prompt[asked.output > 1].sum()) * 1e5)


def test_a_static_batch_waits_for_its_longest_request():
    asked = requests(300, 20.0, Fixed(50), Uniform(1, 100))
    static, continuous = (measure(play(asked, Serving(policy=one, most_sequences=16))) for one in ("static", "continuous"))  # pyright: ignore[reportArgumentType]
    assert continuous.throughput > static.throughput
    assert continuous.ttft.mean < static.ttft.mean


def test_routing_by_outstanding_tokens_balances_uneven_requests():
    asked = requests(2000, 40.0, LogNormal(200, 2.0), LogNormal(40, 1.5))
    found = {
        one: measure(play(asked, Serving(replicas=4, routing=one, most_sequences=8))).e2e.p99  # pyright: ignore[reportArgumentType]
        for one in ("random", "round-robin", "least-outstanding")
    }
    assert found["least-outstanding"] < found["round-robin"] < found["random"]


def test_goodput_counts_what_meets_the_target():
    asked = requests(500, 20.0, Fixed(50), Fixed(20))
    played = play(asked, Serving(most_sequences=16))
    ttft = played.first - asked.arrival
    tpot = (played.finish - played.first) / 19
    target = Target(ttft=float(np.median(ttft)), tpot=float(np.quantile(tpot, 0.7)))
    found = measure(played, target)
    share = np.mean((ttft <= target.ttft) & (tpot <= target.tpot))
    assert found.goodput == pytest.approx(found.throughput * share)
    assert measure(played).goodput == found.throughput
