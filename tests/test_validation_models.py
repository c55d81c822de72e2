"""Rows of whole models: which are predicted, by what plan and formats, and measured rows beside their bound."""

import csv
import math
from dataclasses import replace

import pytest

from ridgeline.catalogue import load
from ridgeline.catalogue.families import stack_named
from ridgeline.errors import InputError
from ridgeline.estimate import estimate
from ridgeline.mapping.many_core_step import with_stack
from ridgeline.specs.precision import Precision
from ridgeline.specs.scenario import Scenario
from ridgeline.validation import models, schema
from ridgeline.validation.predict import Constants, grouped, predict

BASE = {
    "id": "1",
    "model": "llama-3-8b",
    "batch": "4",
    "isl": "512",
    "osl": "128",
    "dtype": "fp16",
    "chip": "a100-sxm-80gb",
    "n_chips": "1",
    "parallelism": "tp1",
    "framework": "vLLM",
    "metric": "latency",
    "value": "1000",
    "unit": "ms",
}
DATASETS = ("argonne_llm_bench", "fastertransformer", "llamacpp_tables", "neusight_e2e", "trtllm_tables")


def rows_of(tmp_path, *changes):
    """Return rows that differ from a usual one in some columns."""
    path = tmp_path / "rows.csv"
    columns = list(dict.fromkeys([*BASE, *(name for one in changes for name in one)]))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows({**BASE, "id": str(index), **one} for index, one in enumerate(changes))
    return schema.read(path).rows


def predicted(tmp_path, **change) -> float:
    (one,) = predict(rows_of(tmp_path, change))
    assert one.predicted is not None, one.reason
    return one.predicted


def test_a_generation_is_the_estimate_of_its_stack(tmp_path):
    chip = with_stack(load.chip("a100-sxm-80gb"), stack_named("vllm"))
    scenario = Scenario(phase="generate", batch=4, prompt=512, output=128)
    found = estimate(chip, load.model("llama-3-8b"), scenario, Precision.parse("fp16"), level="mapped")
    assert predicted(tmp_path) == pytest.approx(float(found.time), rel=1e-12)


def test_a_prompt_and_its_generation_add_up(tmp_path):
    prompt = predicted(tmp_path, osl="0")
    rate = predicted(tmp_path, metric="throughput", unit="tokens/s", phase="decode")  # 4 × 128 tokens after the prompt
    # The two take the mean of the contexts at different places of a step that is all but linear in them.
    assert predicted(tmp_path) == pytest.approx(prompt + 4 * 128 / rate, rel=0.01)


@pytest.mark.parametrize("chip", ["gaudi2", "tpu-v6e"])
def test_a_systolic_array_is_predicted_as_analyze_tiles_it(tmp_path, chip):
    """Its few engines are no cores of a graphics chip: a step is the estimate of the chip itself, without a family's constants."""
    found = estimate(
        load.chip(chip),
        load.model("llama-3-8b"),
        Scenario(phase="prefill", batch=4, prompt=512),
        Precision.parse("bf16"),
        level="mapped",
    )
    assert predicted(tmp_path, chip=chip, dtype="bf16", osl="0") == pytest.approx(float(found.time), rel=1e-12)


def test_a_framework_that_no_stack_knows_runs_what_serving_programs_share(tmp_path):
    chip = with_stack(load.chip("a100-sxm-80gb"), stack_named("serving"))
    scenario = Scenario(phase="generate", batch=4, prompt=512, output=128)
    found = estimate(chip, load.model("llama-3-8b"), scenario, Precision.parse("fp16"), level="mapped")
    assert predicted(tmp_path, framework="SambaFlow") == pytest.approx(
        float(found.time), rel=0.02
    )  # its batch in turns, if it must
    assert predicted(tmp_path, framework="SambaFlow", chip="sn40l", n_chips="8", parallelism="tp8") > 0


def test_rates_count_the_tokens_of_their_phase(tmp_path):
    time = predicted(tmp_path, osl="0")
    assert predicted(tmp_path, metric="throughput", unit="tokens/s", phase="prefill") == pytest.approx(4 * 512 / time)
    whole = predicted(tmp_path)
    assert predicted(tmp_path, metric="output_throughput_total", unit="tokens/s") == pytest.approx(4 * 128 / whole)


def test_the_time_to_a_first_token_is_a_prompt(tmp_path):
    assert predicted(tmp_path, metric="ttft", osl="128") == pytest.approx(predicted(tmp_path, osl="0"))


def test_launches_one_by_one_take_longer_than_a_graph(tmp_path):
    assert predicted(tmp_path, framework="FasterTransformer-5.x") > predicted(tmp_path)
    assert predicted(tmp_path, framework="pytorch") > predicted(tmp_path, framework="pytorch", variant="fusion")


def test_tensor_ranks_share_a_step_and_layers_that_follow_one_another_do_not(tmp_path):
    one = predicted(tmp_path)
    assert 0.25 * one < predicted(tmp_path, n_chips="4", parallelism="tp4") < 0.6 * one
    serial = {"framework": "llama.cpp", "metric": "throughput", "unit": "tokens/s", "phase": "decode", "batch": "1"}
    alone = predicted(tmp_path, **serial)
    split = predicted(tmp_path, **serial, n_chips="4", parallelism="layer-split")
    assert 0.98 * alone < split < alone  # slower by what passes from chip to chip


def test_a_mix_of_formats_keeps_keys_and_values_in_fp16(tmp_path):
    chip, stack = load.chip("a100-sxm-80gb"), {"framework": "llama.cpp", "dtype": "q4_k_m"}
    groups, refused = grouped(rows_of(tmp_path, stack), Constants.of_catalogue())
    ((kind, group),) = groups
    assert not refused
    assert kind.name == "model"
    precision = Precision.parse("w:q4_k_m,a:fp16,kv:fp16,h:q6_k")
    scenario = Scenario(phase="generate", batch=4, prompt=512, output=128)
    found = estimate(with_stack(chip, group.stack), load.model("llama-3-8b"), scenario, precision, level="mapped")
    assert predicted(tmp_path, **stack) == pytest.approx(float(found.time), rel=1e-12)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"model": "no-such-model"}, "no-such-model"),
        ({"dtype": "fp17"}, "fp17"),
        ({"parallelism": "tp2;dp2", "n_chips": "4"}, "tensor parallelism or a layer split"),
        ({"parallelism": "layer-split", "n_chips": "64"}, "has 32 layers: 1 to 32 stages are accepted"),
        ({"model": "resnet-50"}, "no transformer"),
        ({"isl": "0"}, "no prediction of this kind of row"),
        ({"isl": "many"}, "no prediction of this kind of row"),
        ({"osl": "inf"}, "no prediction of this kind of row"),
        ({"metric": "throughput", "unit": "tokens/s", "phase": "decode", "osl": "0"}, "no prediction of this kind of row"),
        ({"metric": "latency", "unit": "1/MAC"}, "no prediction of this kind of row"),
    ],
)
def test_a_row_that_is_not_predicted_says_why(tmp_path, change, reason):
    (one,) = predict(rows_of(tmp_path, change))
    assert one.predicted is None
    assert reason in one.reason


def test_a_chip_whose_cores_no_file_clocks_is_refused_by_name(tmp_path):
    groups, _ = grouped(rows_of(tmp_path, {}), Constants.of_catalogue())
    group = replace(groups[0][1], chip=load.chip("tpu-v7x"))
    with pytest.raises(InputError, match="tpu-v7x: no cores with a clock"):
        models.times(group)


def test_no_row_of_a_whole_model_fixes_a_constant(tmp_path):
    groups, _ = grouped(rows_of(tmp_path, {}), Constants.of_catalogue())
    kind, group = groups[0]
    assert not any(kind.fixes(row) for row in group.rows)


@pytest.mark.parametrize("name", DATASETS)
def test_measured_models_get_a_finite_time_not_below_the_bound(facts, name):
    path = facts / "measured" / "dev" / f"{name}.csv"
    if not path.is_file():
        pytest.skip(f"{path} is not there: the rows measured on whole models are elsewhere")
    rows = [row for row in schema.read(path).rows if models.is_model(row) and row.number("n_chips", 1.0) in (1.0, 2.0, 4.0)]
    assert rows
    for one in predict(rows[:: max(len(rows) // 12, 1)]):
        assert one.predicted is not None, one.reason
        assert one.ideal is not None
        assert math.isfinite(one.predicted)
        slower = one.ideal / one.predicted if one.row.unit in schema.RATES else one.predicted / one.ideal
        assert slower >= 1.0 - 1e-9  # rounding of sums in another order
