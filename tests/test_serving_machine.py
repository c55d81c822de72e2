"""Serving on chips of the catalogue: the step-time surface, speculation, traces, the verb and the command."""

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ridgeline import cli
from ridgeline.api import load_chip, load_model, load_precision, thresholds
from ridgeline.api.serving import Served, serve
from ridgeline.errors import InfeasibleError, InputError
from ridgeline.estimate import estimate
from ridgeline.serving.speculation import Speculation, SpeculativeStepTime, speculation_gain, tokens_per_step
from ridgeline.serving.surface import Chunk, Estimator, Extent, LinearStepTime, Surface, windows_of
from ridgeline.serving.trace import read_trace
from ridgeline.specs.model import Model
from ridgeline.specs.scenario import Scenario

CHIP = "h100-sxm"
EXTENT = Extent(sequences=256, context=16_000, chunk=4096, tokens=6000)


def estimator(name: str) -> tuple[Model, Estimator]:
    chip, model = load_chip(CHIP), load_model(name)
    precision = load_precision(None, model)
    assert isinstance(model, Model)
    return model, lambda scenario: estimate(chip, model, scenario, precision)


def surface(name: str, **more: Any) -> Surface:
    model, run = estimator(name)
    return Surface(run, EXTENT, windows=windows_of(model), **more)


# ---- the surface ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["llama-3.1-8b", "gpt-oss-20b", "gemma-3-27b", "qwen3-next-80b-a3b", "deepseek-v3"])
def test_steps_off_the_grid_are_those_of_the_estimate(name: str):
    """Dense and routed, windows, latent and linear attention; several prompts of latent attention read its weights apart."""
    found = surface(name)
    assert found.decode_error().largest < 0.005
    assert found.prefill_error().largest < 0.01
    assert found.prefill_error().mean < 0.001
    assert found.batch_error().largest < (0.1 if name == "deepseek-v3" else 0.001)


def test_a_mixed_step_lies_between_the_longer_of_its_halves_and_their_sum():
    """Weights are read once: a step with both is shorter than one after the other, by about a pass over the weights."""
    found = surface("llama-3.1-8b")
    decode = found.decode_line(64, 2000.0).time
    prompt = found.step(0, 0.0, [Chunk(256, 0)], 1).time
    both = found.step(64, 2000.0, [Chunk(256, 0)], 1).time
    assert max(decode, prompt) < both < decode + prompt
    assert decode + prompt - both == pytest.approx(found.decode_line(1, 1.0).time, rel=0.1)  # one token: the weights, no more


def test_a_mixed_step_by_hand():
    """The projections of 64 + 256 tokens, decode attention of 64 sequences, prefill attention of 256, logits of 65 rows."""
    _, run = estimator("llama-3.1-8b")
    found = surface("llama-3.1-8b").step(64, 2000.0, [Chunk(256, 128)], 1)

    def rows(scenario: Scenario) -> dict[str, float]:
        return {row.name: row.time * row.count for row in run(scenario).operations}

    together = rows(Scenario(phase="decode", batch=320.0, context=1.0))
    decode = rows(Scenario(phase="decode", batch=64.0, context=2000.0))
    prefill = rows(Scenario(phase="prefill", batch=1.0, prompt=256.0, context=128.0))
    head = rows(Scenario(phase="decode", batch=65.0, context=1.0))["head"]
    shared = sum(time for name, time in together.items() if name not in ("attention", "head"))
    assert found.time == pytest.approx(shared + decode["attention"] + prefill["attention"] + head, rel=1e-3)


def test_energy_of_a_step_is_that_of_the_estimate_without_static_power():
    _, run = estimator("llama-3.1-8b")
    direct = run(Scenario(phase="decode", batch=100.0, context=3000.0))
    found = surface("llama-3.1-8b")
    static = found.static_power * direct.time
    assert direct.energy is not None
    assert found.decode_line(100, 3000.0).energy == pytest.approx(direct.energy - static, rel=1e-3)
    assert found.static_power == pytest.approx(load_chip(CHIP).package.idle_power)


def test_a_line_is_the_step_until_its_span_ends():
    found = surface("gpt-oss-20b")
    line = found.decode_line(40, 100.5)
    ahead = min(line.span, 20.0)
    assert ahead > 1
    assert line.time + line.time_slope * ahead == pytest.approx(found.decode_line(40, 100.5 + ahead).time, rel=1e-12)


# ---- speculation ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("acceptance", [0.0, 0.3, 0.8, 1.0])
@pytest.mark.parametrize("length", [1, 4])
def test_tokens_a_step_are_the_sum_of_powers(acceptance: float, length: int):
    assert tokens_per_step(acceptance=acceptance, length=length) == pytest.approx(sum(acceptance**i for i in range(length + 1)))
    drawn = Speculation(length=length, acceptance=acceptance).steps(np.full(200, 20_000), np.random.default_rng(2))
    assert 20_000 / drawn.mean() == pytest.approx(sum(acceptance**i for i in range(length + 1)), rel=0.01)


def test_speculation_starts_to_lose_at_a_batch():
    """By hand: a step of 1 ms + 10 µs a token; five tokens verified and two gained lose where 2·(1000 + 10b) < 1000 + 50b."""
    plain, verify = LinearStepTime(base=1e-3, per_token=1e-5), LinearStepTime(base=1e-3, per_token=5e-5)
    found = speculation_gain(plain, SpeculativeStepTime(target=verify, length=4), 2.0, context=100.0, most=64)
    assert found.loses_at == 34  # 1000 / 30 = 33.3
    assert found.speedups[0] == pytest.approx(2 * 1.01 / 1.05)
    costly = SpeculativeStepTime(target=verify, length=4, plain=plain, draft_share=0.25)
    assert speculation_gain(plain, costly, 2.0, context=100.0, most=64).loses_at == 1  # drafting takes a whole step


def test_speculation_makes_a_small_batch_faster_and_is_shown_to_lose_at_a_large_one():
    options: dict[str, Any] = {"rate": 2.0, "requests": 200, "prompt": 500, "output": 100}
    plain = serve("llama-3.1-8b", CHIP, **options)
    fast = serve("llama-3.1-8b", CHIP, draft="llama-3.2-1b", acceptance=0.7, length=4, **options)
    assert fast.metrics.tpot.p50 < plain.metrics.tpot.p50
    assert fast.speculation is not None
    assert fast.speculation.speedups[0] > 1.2
    assert fast.speculation.loses_at is not None
    assert fast.cache.tokens < plain.cache.tokens  # the draft's weights and cache take room


# ---- what policies do on a chip ---------------------------------------------------------------------------------------------

LONG: dict[str, Any] = {"rate": 6.0, "requests": 600, "prompt": "lognormal:4000,1", "output": "100:400", "seed": 1}


def long_prompts(**options: Any) -> Served:
    return serve("llama-3.1-8b", CHIP, **LONG, **options)


def test_chunks_lower_the_99th_percentile_of_tpot_under_long_prompts():
    whole = long_prompts(policy="prefill-first", token_budget=8192, replicas=2).metrics
    chunks = long_prompts(policy="chunked", token_budget=512, replicas=2).metrics
    assert chunks.tpot.p99 < 0.9 * whole.tpot.p99
    assert chunks.token_gap.p99 < 0.5 * whole.token_gap.p99


def test_disaggregation_removes_the_interference():
    """No wait between two tokens is longer than the longest decode step, whatever prompts come."""
    mixed = long_prompts(policy="prefill-first", token_budget=8192, replicas=2)
    split = long_prompts(policy="disaggregated", token_budget=8192, link_bandwidth=50e9)
    assert split.metrics.tpot.p99 < mixed.metrics.tpot.p99
    assert split.metrics.token_gap.p99 < 0.5 * mixed.metrics.token_gap.p99
    assert all(row.prefill == 0 for row in split.played.log if row.replica == 0)


def test_a_larger_batch_raises_throughput_up_to_the_critical_batch():
    """Weights bind below the critical batch, so that doubling it nearly doubles throughput; past it arithmetic binds."""
    critical = thresholds("llama-3.1-8b", CHIP).critical_batch
    assert 256 < critical < 512
    sizes = (16, 64, 256, 512, 1024)
    options: dict[str, Any] = {"rate": 1e9, "arrivals": "bursts", "prompt": 16, "output": 128, "token_budget": 8192}
    found = [
        serve("llama-3.1-8b", CHIP, requests=2 * size, burst=2 * size, most_sequences=size, **options).metrics.tokens_per_second
        for size in sizes
    ]
    gains = [after / before for before, after in pairwise(found)]
    assert gains[0] > 3.0
    assert gains[1] > 2.5
    assert 1.0 <= gains[2] < 1.5
    assert gains[3] < 1.1


# ---- traces -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "arrived_at,num_prefill_tokens,num_decode_tokens\n0.5,100,10\n1.5,200,20\n",
        "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,100,10\n2023-11-16 18:17:04.9799600,200,20\n",
        "id,arrival time,prompt tokens,output tokens\na,3,100,10\nb,4,200,20\n",
    ],
)
def test_traces_of_the_usual_names_are_read(tmp_path: Path, text: str):
    path = tmp_path / "trace.csv"
    path.write_text(text)
    found = read_trace(path)
    assert found.arrival.tolist() == pytest.approx([0.0, 1.0])
    assert found.prompt.tolist() == [100, 200]
    assert found.output.tolist() == [10, 20]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("arrived_at,num_prefill_tokens,num_decode_tokens\n1,5,5\n2,5,5\n1.5,5,5\n", "line 4: time goes backwards"),
        ("arrived_at,num_prefill_tokens,num_decode_tokens\n1,5,0\n", "line 2: num_decode_tokens '0' is no number of tokens"),
        ("arrived_at,num_prefill_tokens,num_decode_tokens\n1,5.5,1\n", "'5.5' is no number of tokens"),
        ("arrived_at,num_prefill_tokens,num_decode_tokens\nnoon,5,1\n", "'noon' is no time"),
        ("arrived_at,num_prefill_tokens,num_decode_tokens\n1,5\n", "'' is no number of tokens"),
        ("arrived_at,num_prefill_tokens\n1,5\n", "no column for the output"),
        ("arrived_at,num_prefill_tokens,num_decode_tokens\n", "holds no request"),
        ("", "no column for the arrival"),
    ],
)
def test_a_bad_trace_is_one_sentence_with_its_line(tmp_path: Path, text: str, said: str):
    path = tmp_path / "trace.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=said):
        read_trace(path)


def test_a_request_that_never_fits_is_named_and_the_rest_are_served(tmp_path: Path):
    path = tmp_path / "trace.csv"
    path.write_text("request_id,arrived_at,num_prefill_tokens,num_decode_tokens\na,0,100,5\nhuge,1,9000000,5\nb,2,100,5\n")
    found = serve("llama-3.1-8b", CHIP, trace=path)
    assert found.metrics.finished == 2
    assert found.metrics.rejected == 1
    assert any("huge (line 3)" in note for note in found.notes)


# ---- the verb and the command -----------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_record():
    options: dict[str, Any] = {"rate": 20.0, "requests": 300, "prompt": "lognormal:500,1", "output": "10:200", "arrivals": "gamma"}
    first, second, other = (serve("llama-3.1-8b", CHIP, seed=seed, **options).played.finish.tobytes() for seed in (1, 1, 2))
    assert first == second
    assert first != other


def test_another_machine_can_be_plugged_in():
    """Whatever gives estimates of arrays of scenarios: here the chip itself, by hand."""
    chip, model = load_chip(CHIP), load_model("llama-3.1-8b")
    precision = load_precision(None, model)
    calls: list[Scenario] = []

    def run(scenario: Scenario) -> Any:
        calls.append(scenario)
        return estimate(chip, model, scenario, precision)

    served = serve("llama-3.1-8b", CHIP, rate=5.0, requests=50, estimator=run)
    assert served.played.finish.tobytes() == serve("llama-3.1-8b", CHIP, rate=5.0, requests=50).played.finish.tobytes()
    assert len(calls) < 20  # the grid is made by calls with arrays, not point by point


def test_weights_that_do_not_fit_are_infeasible():
    with pytest.raises(InfeasibleError, match="812 GB of weights"):
        serve("llama-3.1-405b", CHIP, rate=1.0)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    """Run the command in this process: exit code, stdout, stderr."""

    def command(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["ridgeline", *arguments])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        out = capsys.readouterr()
        return int(exit_.value.code or 0), out.out, out.err

    return command


def test_the_command_prints_its_keys(run: Any):
    code, out, _ = run("serve", "llama-3.1-8b", CHIP, "--rate", "10", "--requests", "100", "--ttft", "50 ms", "--json")
    record = json.loads(out)
    assert code == 0
    for name in ("ttft", "tpot", "e2e"):
        spread = record[name]
        assert 0 < spread["p50"] <= spread["p90"] <= spread["p99"]
        assert spread["mean"] > 0
    assert 0 < record["goodput"] <= record["throughput"]
    assert 0 < record["utilisation"] <= 1
    assert record["energy"] > 0
    assert record["tokens_per_second"] == pytest.approx(record["throughput"] * 128)


def test_the_command_prints_a_table_a_picture_and_a_time_line(run: Any, tmp_path: Path):
    timeline, plot = tmp_path / "run.json", tmp_path / "run.html"
    code, out, err = run(
        "serve", "llama-3.1-8b", CHIP, "--rate", "10", "--requests", "50", "--timeline", str(timeline), "--plot", str(plot)
    )  # fmt: skip
    assert code == 0
    assert "TTFT" in out
    assert "goodput" in out
    assert str(plot) in err
    events = json.loads(timeline.read_text())["traceEvents"]
    steps = [one for one in events if one["ph"] == "X" and one["cat"] == "replica 0"]
    assert steps
    assert all(before["ts"] + before["dur"] <= after["ts"] + 1e-3 for before, after in pairwise(steps))
    assert "<html" in plot.read_text()[:200]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ((), 2, "a rate in requests a second or a trace is wanted"),
        (("--rate", "-1"), 2, "more than 0"),
        (("--rate", "1", "--policy", "best"), 2, "choose static"),
        (("--rate", "1", "--prompt", "many"), 2, "--prompt many"),
        (("--rate", "1", "--ttft", "3 GB"), 2, "--ttft 3 GB"),
        (("--rate", "1", "--tpot", "0 s"), 2, "target tpot"),
        (("--rate", "1", "--acceptance", "0.5"), 2, "what drafts"),
        (("--rate", "1", "--draft-share", "-1"), 2, "draft share -1"),
        (("--rate", "1", "--seed", "-3"), 2, "seed -3"),
        (("--rate", "1", "--arrivals", "often"), 2, "choose poisson"),
        (("--rate", "1", "--trace", "none.csv"), 2, "one of them"),
        (("--trace", "none.csv"), 2, "trace none.csv: cannot be read"),
        (("--rate", "1", "--link-latency", "soon"), 2, "--link-latency soon"),
        (("--rate", "1", "--plot", "run.txt"), 2, "--plot run.txt"),
        (("--rate", "1", "--prompt", "900000"), 3, "no request fits"),
    ],
)
def test_bad_input_is_one_sentence(run: Any, arguments: tuple[str, ...], code: int, said: str):
    found, out, err = run("serve", "llama-3.1-8b", CHIP, *arguments)
    assert found == code
    assert out == ""
    assert said in err
    assert len(err.strip().splitlines()) == 1


def test_an_encoder_cannot_be_served(run: Any):
    code, _, err = run("serve", "bert-base", CHIP, "--rate", "1")
    assert code == 2
    assert "bert-base cannot be served" in err


def test_a_replica_may_be_a_system_under_a_plan():
    """Llama 3.1 70B fits no single H100; eight of them serve it, faster than four, and steps cost what the plan's estimate says."""
    traffic: dict[str, Any] = {"rate": 5.0, "requests": 60, "prompt": 512, "output": 64}
    with pytest.raises(InfeasibleError):
        serve("llama-3.1-70b", CHIP, **traffic)
    four, eight = (serve("llama-3.1-70b", CHIP, plan=f"tp={degree}", **traffic) for degree in (4, 8))
    assert eight.metrics.finished == four.metrics.finished == 60
    assert eight.metrics.tpot.mean < four.metrics.tpot.mean
    with pytest.raises(InputError, match="plan dp=2: requests go to replicas of their own: say --replicas"):
        serve("llama-3.1-8b", CHIP, plan="dp=2", **traffic)
