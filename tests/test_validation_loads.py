"""Services under load, traces replayed, power and single figures: rows in, predictions out, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ridgeline.catalogue import load
from ridgeline.catalogue.loads import benchmark_load, load_tests, trace_limits, uniform_load
from ridgeline.errors import InfeasibleError, InputError
from ridgeline.estimate import estimate
from ridgeline.serving.arrivals import AllAtOnce, Fixed, draw_requests
from ridgeline.serving.policy import Serving
from ridgeline.serving.room import addressable, cache_room, tuned_limits
from ridgeline.serving.simulator import Cache, simulate
from ridgeline.serving.surface import LinearStepTime
from ridgeline.specs.precision import Precision
from ridgeline.validation.compare import judged, slices
from ridgeline.validation.predict import Prediction, kind_of, predict
from ridgeline.validation.schema import Row, chip_of
from ridgeline.validation.service import split_of


def row(*, chip: str = "a100-sxm-80gb", metric: str, unit: str, measured: float = 1.0, **columns: Any) -> Row:
    texts = {name: str(value) for name, value in columns.items()}
    return Row(
        dataset="d",
        file="f.csv",
        line=2,
        id="1",
        chip=chip_of(chip).name,
        metric=metric,
        measured=measured,
        unit=unit,
        columns=texts,
    )


def loaded(prompt: int, output: int, **more: Any) -> Row:
    asked = {"model": "llama-3.1-8b", "dtype": "fp16", "n_chips": 1, "parallelism": "tp1", "framework": "tensorrt-llm-0.17"}
    asked |= {"scenario": "max-load throughput (in-flight batching)", "isl": prompt, "osl": output} | more
    return row(metric="output_throughput_total", unit="tokens/s", **asked)


def traced(name: str, arrival: float, prompt: Any, output: Any, metric: str, **more: Any) -> Row:
    asked = {"model": "llama-3.1-8b", "dtype": "bf16", "n_chips": 1, "parallelism": "tp1;dp1", "framework": "vllm-0.19.0"}
    asked |= {"request_id": name, "arrival_s": arrival, "isl": prompt, "osl": output} | more
    return row(chip="rtx-4090", metric=metric, unit="s", **asked)


def one(asked: Row) -> Prediction:
    return predict([asked])[0]


# ---- room and limits --------------------------------------------------------------------------------------------------------


def test_a_capacity_in_whole_gigabytes_is_one_in_gibibytes():
    assert addressable(stated=24e9) == 24 * 2**30
    assert addressable(stated=24 * 2.0**30) == 24 * 2.0**30
    assert addressable(stated=48e9, inline_check=True) == 45 * 2**30


@pytest.mark.parametrize(
    ("fitting", "prompt", "output", "stages", "wanted"),
    [
        (1976.0, 128.0, 128.0, 1, (2048, 4096)),
        (228.7, 128.0, 2048.0, 1, (256, 2048)),
        (2190.6, 128.0, 128.0, 1, (2304, 4608)),
        (20.0, 5000.0, 500.0, 1, (64, 2048)),
        (9000.0, 2048.0, 128.0, 1, (4096, 32768)),
        (600.0, 1000.0, 1000.0, 4, (160, 2048)),
    ],
)
def test_limits_that_a_benchmark_tunes(fitting: float, prompt: float, output: float, stages: int, wanted: tuple[int, int]):
    """By hand from the rule [nvidia2025trtllmbench]."""
    assert tuple(tuned_limits(fitting=fitting, prompt=prompt, output=output, stages=stages)) == wanted


def test_room_by_hand():
    """The share of what weights and activations leave, a token at a time."""
    chip, model, precision = load.chip("a100-sxm-80gb"), load.model("llama-3.1-8b"), Precision.parse("bf16")

    def run(scenario: Any) -> Any:
        return estimate(chip, model, scenario, precision)

    whole = cache_room(run, "m", Serving()).tokens
    some = cache_room(run, "m", Serving(memory_share=0.9, cache_share=0.5, set_aside=1e9)).tokens
    each = 131072.0  # 2 · 32 layers · 8 heads · 128 · 2 B
    free = whole * each
    assert some == pytest.approx(0.5 * (free - 0.1 * 80e9 - 1e9) / each, abs=2)
    with pytest.raises(InfeasibleError, match="no room for a KV cache"):
        cache_room(run, "m", Serving(memory_share=0.1))


def test_a_service_that_reserves_output_runs_fewer_and_preempts_none():
    asked = draw_requests(60, AllAtOnce(), Fixed(100), Fixed(100), np.random.default_rng(1))
    machine = LinearStepTime(base=0.01, per_token=1e-5)
    cache = Cache(tokens=3200)
    played = {
        reserves: simulate(asked, machine, Serving(reserves=reserves), cache, random=np.random.default_rng(0))
        for reserves in (False, True)
    }
    assert played[True].preempted.sum() == 0
    assert played[False].preempted.sum() > 0
    assert max(step.running for step in played[True].log) == 15  # 3200 tokens in pages of 16: 200 pages, 13 a request


@pytest.mark.parametrize(("name", "value"), [("memory_share", 0.0), ("cache_share", 1.5), ("set_aside", -1.0)])
def test_shares_of_memory_that_cannot_be_are_refused(name: str, value: float):
    with pytest.raises(InputError, match=name.replace("_", " ")):
        Serving(**{name: value})


def test_steady_state_by_hand():
    """Equal requests, one at a time in the cache: each takes its prompt's step and a step for each token but the first."""
    asked = draw_requests(10, AllAtOnce(), Fixed(64), Fixed(33), np.random.default_rng(1))
    machine = LinearStepTime(base=0.01, per_token=1e-3)
    played = simulate(asked, machine, Serving(reserves=True, watermark=0.0), Cache(tokens=96), random=np.random.default_rng(0))
    assert played.end == pytest.approx(10 * (0.01 + 64e-3 + 32 * 0.011), rel=1e-9)


# ---- what the catalogue says of load tests ----------------------------------------------------------------------------------


def test_load_tests_have_sources_and_lengths():
    for kind, test in load_tests():
        assert test.source is not None
        assert test.source.key
        assert test.beams >= 1
        assert (test.prompt > 0) == (kind != "trace")


def test_load_tests_are_found_by_their_names():
    assert uniform_load("TensorRT-LLM-1.0", 1000, 1000).requests == 3000
    assert trace_limits("sglang") == (None, None)
    assert benchmark_load("gptj-99.9") is not None
    assert benchmark_load("resnet") is None


def test_splits_as_tables_write_them():
    assert split_of("tp2-pp4", 8) == (2, 4, 1)
    assert split_of("tp2;dp4", 8) == (2, 1, 4)
    assert split_of("", 4) == (4, 1, 1)


# ---- rows -------------------------------------------------------------------------------------------------------------------


def test_kinds_of_rows_of_services():
    assert kind_of(loaded(128, 128)).name == "load"
    assert kind_of(traced("a", 0.0, 10, 10, "tpot")).name == "trace"
    assert kind_of(row(metric="avg_device_power", unit="W", model="gpt2", batch=1, isl=8, osl=8)).name == "power"
    assert kind_of(row(metric="frames/s", unit="1/s", model="alexnet-conv")).name == "point"


def test_maximum_load_lies_under_its_bound_and_grows_with_the_memory():
    """The batch of long outputs is bound by memory: 80 GB give more than 40 GB by more than the bandwidth does."""
    large, small = one(loaded(128, 2048)), one(loaded(128, 2048, chip="a100-sxm-40gb"))
    assert 0.2 * large.ideal < large.predicted < large.ideal
    assert large.predicted / small.predicted > 1.2 * 2039 / 1555


def test_prompts_beside_decoding_cost_throughput():
    rates = {one.row.text("isl"): one.predicted for one in predict([loaded(prompt, 100) for prompt in (100, 2000)])}
    assert rates["2000"] < 0.3 * rates["100"]


def test_windows_are_ignored_by_a_stack_that_does_not_look_at_them():
    """With keys and values of all tokens a model of short windows is as slow as one of the same shape without."""
    windowed, plain = (one(loaded(9000, 50, model=name)).predicted for name in ("mistral-7b", "llama-3.1-8b"))
    assert windowed == pytest.approx(plain, rel=0.15)


def test_a_model_that_leaves_no_room_says_so():
    found = one(loaded(128, 128, model="llama-3.1-70b"))
    assert found.predicted is None
    assert "no room for a KV cache" in found.reason


def test_a_benchmark_of_unknown_lengths_says_so():
    asked = {"benchmark": "nobody-knows", "scenario": "Offline", "model": "llama-3.1-8b", "dtype": "fp8", "framework": "vLLM 0.10"}
    found = one(row(metric="throughput", unit="tokens/s", **asked))
    assert found.predicted is None
    assert "lengths of its requests" in found.reason


def test_the_formats_that_a_submission_states_go_before_those_that_its_benchmark_is_usually_run_in():
    asked = {"benchmark": "llama3.1-8b", "scenario": "Offline", "model": "llama-3.1-8b", "framework": "vLLM 0.10", "n_chips": 1}
    rates = {}
    for dtype in ("", "fp8", "fp4", "submitter's own"):
        (one,) = predict([row(chip="b200-sxm", metric="throughput", unit="tokens/s", dtype=dtype, **asked)])
        rates[dtype] = one.predicted
    assert rates[""] == rates["submitter's own"] == pytest.approx(rates["fp8"], rel=1e-3)
    assert rates["fp4"] > 1.05 * rates["fp8"]  # half the bytes of weights, twice the rate


def test_a_benchmark_of_an_encoder_counts_samples_of_all_chips():
    asked = {"benchmark": "bert-99", "scenario": "Offline", "model": "bert-large", "framework": "TensorRT 10.2.0, CUDA 12.4"}
    single, double = (
        one(row(chip="l40s", metric="throughput", unit="1/s", n_chips=chips, parallelism="unreported", **asked)) for chips in (1, 2)
    )
    assert double.predicted == pytest.approx(2.0 * single.predicted, rel=1e-9)
    assert single.predicted < single.ideal


# ---- traces -----------------------------------------------------------------------------------------------------------------


def test_a_trace_is_one_replay_of_all_its_rows():
    """A request that comes while another's prompt is computed waits for it; the first does not."""
    rows = [
        traced(name, at, prompt, 64, metric)
        for name, at, prompt in (("b", 0.05, 500), ("a", 0.0, 1900))
        for metric in ("tpot", "ttft")
    ]
    found = {(one.row.text("request_id"), one.row.metric): one for one in predict(rows)}
    alone = predict(rows[:2])
    assert found["b", "ttft"].predicted > 1.5 * next(one.predicted for one in alone if one.row.metric == "ttft")
    for each in found.values():
        assert each.predicted > each.ideal


def test_only_arrivals_and_lengths_go_in():
    """Measured values, queues and identifiers of the rows change nothing."""
    rows = [traced(str(index), 0.1 * index, 300, 40, "tpot", queue_ms=9.0) for index in range(4)]
    other = [traced(f"x{index}", 0.1 * index, 300, 40, "tpot") for index in range(4)]
    assert [one.predicted for one in predict(rows)] == [one.predicted for one in predict(other)]


@pytest.mark.parametrize("bad", ["many", "nan", "inf", "-3", ""])
def test_rows_whose_numbers_are_none_are_refused_alone(bad: str):
    refused = [loaded(128, bad), traced("b", bad, 50, 5, "tpot")]
    assert [kind_of(one) for one in refused] == [None, None]
    assert all(one.reason for one in predict(refused))


@pytest.mark.parametrize("output", ["", 0, "some"])
def test_a_trace_without_lengths_is_refused_in_one_sentence(output: Any):
    found = predict([traced("a", 0.0, 100, 10, "tpot"), traced("b", 1.0, 100, output, "tpot")])
    assert all(one.predicted is None for one in found)
    assert "request b: a trace needs `isl` and `osl`" in found[0].reason


def test_a_trace_without_names_is_refused():
    found = predict([traced("", 0.0, 100, 10, "ttft")])
    assert "`request_id`" in found[0].reason


# ---- power and single figures -----------------------------------------------------------------------------------------------


def test_power_is_in_watts_between_idle_and_limit():
    asked = {
        "model": "llama-2-7b",
        "dtype": "fp16",
        "framework": "vLLM",
        "n_chips": 1,
        "parallelism": "tp1",
        "isl": 256,
        "osl": 128,
    }
    found = [one(row(metric="avg_device_power", unit="W", batch=batch, **asked)).predicted for batch in (1, 32)]
    assert 80.0 < found[0] < found[1] <= 400.0


def test_power_of_a_chip_without_idle_power_says_what_is_missing():
    asked = {"model": "llama-2-7b", "dtype": "fp16", "framework": "vLLM", "n_chips": 1, "isl": 64, "osl": 8, "batch": 1}
    found = one(row(chip="xeon-6787p-2s", metric="avg_device_power", unit="W", **asked))
    assert found.predicted is None
    assert "`package.idle_power`" in found.reason


def test_single_figures_are_near_and_the_rest_says_why_not():
    frames = one(row(chip="eyeriss", metric="frames/s", unit="1/s", model="alexnet-conv", parallelism="batch4", dtype="int16"))
    assert frames.predicted == pytest.approx(34.7, rel=0.1)  # [chen2017eyeriss], table V
    threads = one(row(chip="i9-13900k", metric="decode ms/token (gen 128)", unit="s", model="llama-7b", parallelism="8 threads"))
    assert threads.predicted is None
    assert "8 threads of a processor" in threads.reason


# ---- against measurements ---------------------------------------------------------------------------------------------------


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("file", "slice_", "median", "mean"),
    [
        ("trtllm_tables", "output_throughput_total/max-load", 0.23, 0.33),
        ("vllm_traces", "tpot", 0.15, 0.20),
        ("argonne_llm_bench", "avg_device_power", 0.15, 0.20),
    ],
)
def test_measured_services_are_within_their_goals(facts: Path, file: str, slice_: str, median: float, mean: float):
    from ridgeline.validation.schema import read

    rows = [
        one for one in read(facts / "measured/dev" / f"{file}.csv").rows if kind_of(one) is None or kind_of(one).name != "model"
    ]
    table = slices(judged(predict(rows), {}), frozenset())
    found = next((one for one in table if one.slice == slice_), table[-1])
    assert found.predicted >= 0.9 * found.rows
    assert found.median_ape <= median
    assert found.mape <= mean
