"""What a stack makes of a step: host time, prompts in chunks, attention in several kernels, products of few rows, collectives."""

import json
from dataclasses import replace
from fnmatch import fnmatchcase
from itertools import pairwise

import numpy as np
import pytest

import ridgeline as rl
from ridgeline.api.analysis import with_stack as named
from ridgeline.catalogue import families, load
from ridgeline.cli import main
from ridgeline.errors import InputError
from ridgeline.estimate import estimate
from ridgeline.mapping.exchange_kernels import exchange_time, library_of
from ridgeline.mapping.many_core import engine
from ridgeline.mapping.many_core_step import with_stack
from ridgeline.parallel import estimate_plan
from ridgeline.serving.surface import Chunk, Extent, Surface
from ridgeline.specs.plan import Plan
from ridgeline.specs.precision import Precision
from ridgeline.specs.scenario import Scenario
from ridgeline.specs.stack import Stack
from ridgeline.specs.system import NetworkTier, System
from ridgeline.validation.calibrate import Parameter, with_values
from ridgeline.validation.predict import Constants

HALF = Precision.parse("fp16")
MODEL = load.model("llama-3-8b")
DECODE = Scenario(phase="decode", batch=8, context=600)
PROMPT = Scenario(phase="prefill", batch=1, prompt=2048)
LAYERS = 32


def chip(stack: Stack | str, name="a100-sxm-80gb"):
    return with_stack(load.chip(name), families.stack_named(stack) if isinstance(stack, str) else stack)


def time(stack, scenario=DECODE, precision=HALF, **change) -> float:
    base = families.stack_named(stack) if isinstance(stack, str) else stack
    return float(estimate(chip(replace(base, **change)), MODEL, scenario, precision, level="mapped").time)


def rows(stack, scenario=DECODE, precision=HALF):
    return {one.name: one for one in estimate(chip(stack), MODEL, scenario, precision, level="mapped").operations}


# ---- the host -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "added"),
    [
        ({"host_step": 2e-3}, 2e-3),
        ({"host_layer": 5e-5}, LAYERS * 5e-5),
        ({"host_sequence": 1e-4}, 8 * 1e-4),
        ({"host_request": 1.0}, 0.0),  # a decode step begins no request
    ],
)
def test_what_the_host_adds_to_a_decode_step(change, added):
    assert time("ideal", **change) == pytest.approx(time("ideal") + added, rel=1e-12)


def test_a_generation_takes_a_host_step_for_every_token_and_a_request_once():
    asked = Scenario(phase="generate", batch=4, prompt=256, output=65)
    plain = time("ideal", asked)
    assert time("ideal", asked, host_step=1e-3) == pytest.approx(plain + 65e-3, rel=1e-12)
    assert time("ideal", asked, host_request=0.5) == pytest.approx(plain + 0.5, rel=1e-12)
    assert time("ideal", asked, host_sequence=1e-4) == pytest.approx(plain + 64 * 4e-4, rel=1e-12)
    assert time("ideal", asked, host_layer=1e-5) == pytest.approx(plain + 65 * LAYERS * 1e-5, rel=1e-12)


def test_a_host_that_issues_ahead_is_seen_only_where_it_is_the_slower_one():
    slow = replace(families.stack_named("pytorch-eager"), host_kernel=1e-3)
    found = rows(slow)
    kernels = time(slow) / 1e-3  # the step takes as long as its kernels take to issue
    assert kernels == pytest.approx(round(kernels), abs=1e-6)
    assert 20 * LAYERS < kernels < 50 * LAYERS
    assert found["host issue"].bound == "host"
    assert time(slow, replace(PROMPT, batch=64)) == pytest.approx(time(slow, replace(PROMPT, batch=64), host_kernel=0.0), rel=1e-12)


def test_a_plan_has_the_same_host():
    system = System(
        name="box", chip=chip("ideal"), tier=(NetworkTier(name="link", size=8, topology="switch", bandwidth=3e11, latency=1e-6),)
    )

    def under(plan, **change):
        other = replace(system, chip=chip(replace(families.stack_named("ideal"), **change)))
        return float(estimate_plan(other, MODEL, DECODE, HALF, Plan.parse(plan), level="mapped").time)

    for plan in ("tp=4", "pp=4"):
        plain = under(plan)
        assert under(plan, host_step=2e-3) == pytest.approx(plain + 2e-3, rel=1e-9)
        assert under(plan, host_layer=5e-5) == pytest.approx(plain + LAYERS * 5e-5, rel=1e-9)
        assert under(plan, host_sequence=1e-4) == pytest.approx(plain + 8e-4, rel=1e-9)


def test_served_steps_are_never_shorter_than_the_host_issues_them():
    slow = chip(replace(families.stack_named("pytorch-eager"), host_kernel=1e-4, host_request=3.0))
    extent = Extent(sequences=8, context=300, chunk=64, tokens=128)
    surface = Surface(lambda asked: estimate(slow, MODEL, asked, HALF, level="mapped"), extent)
    least = float(estimate(slow, MODEL, Scenario(phase="decode", batch=1, context=1), HALF, level="mapped").time)
    assert surface.decode_line(1, 1.0).time == pytest.approx(least, rel=1e-9)
    assert surface.step(1, 1.0, [Chunk(8, 0)], 1).time == pytest.approx(least, rel=1e-9)  # not twice
    direct = float(estimate(slow, MODEL, Scenario(phase="decode", batch=8, context=300), HALF, level="mapped").time)
    assert surface.decode_line(8, 300.0).time == pytest.approx(direct, rel=1e-3)


# ---- prompts in chunks ----------------------------------------------------------------------------------------------------------


def test_chunks_of_a_prompt_add_up_to_it():
    base = families.stack_named("ideal")
    cut = replace(base, prompt_chunk=512)
    parts = [time(base, Scenario(phase="prefill", prompt=512, context=512 * index)) for index in range(4)]
    head = rows(base, PROMPT)["head"].time
    # A mean chunk stands for all: attention is nearly linear in what came before.
    assert time(cut, PROMPT) == pytest.approx(sum(parts) - 3 * head, rel=0.01)
    whole, pieces = (estimate(chip(one), MODEL, PROMPT, HALF, level="mapped") for one in (base, cut))
    assert pieces.flops == pytest.approx(whole.flops, rel=1e-5)  # the head's norm runs once a prompt


def test_chunks_of_a_generation_leave_its_decode_steps_alone():
    asked = Scenario(phase="generate", batch=2, prompt=2048, output=9)
    base = families.stack_named("ideal")
    whole, cut = (rows(one, asked) for one in (base, replace(base, prompt_chunk=512)))
    assert set(whole) == set(cut)
    for name, one in whole.items():
        if name.startswith("decode "):
            assert (cut[name].time, cut[name].count) == (one.time, one.count)
    assert cut["prefill query + key + value"].count == 4 * LAYERS


@pytest.mark.parametrize("flying", [8.0, 4.0, 0.0])
def test_chunks_in_flight_over_a_layer_split(flying):
    """Eight chunks over eight stages: the way through, and for each further chunk the slowest stage or a share of the way."""
    stack = replace(families.stack_named("ideal"), prompt_chunk=256, chunks_in_flight=flying)
    tier = NetworkTier(name="link", size=8, topology="switch", bandwidth=1e15, latency=1e-12)
    system = System(name="box", chip=chip(stack), tier=(tier,))
    mean = Scenario(phase="prefill", prompt=256, context=896)
    alone = estimate(chip(stack), MODEL, mean, HALF, level="mapped")
    one, head = float(alone.time), next(float(row.time) for row in alone.operations if row.name == "head")
    found = float(estimate_plan(system, MODEL, PROMPT, HALF, Plan(pipeline=8), level="mapped").time)
    slowest = (one - head) / 8 + head  # the last stage has the head beside its layers
    each = max(slowest, one / flying) if flying else slowest
    assert found == pytest.approx(one + 7 * each, rel=1e-3)


def test_a_launch_queue_that_a_stage_fills_stops_the_host():
    stack = replace(families.stack_named("ideal"), prompt_chunk=256, chunks_in_flight=4)
    tier = NetworkTier(name="link", size=8, topology="switch", bandwidth=1e12, latency=1e-6)

    def over(stages, queued):
        system = System(name="box", chip=chip(replace(stack, queued_layers=queued)), tier=(tier,))
        return float(estimate_plan(system, MODEL, PROMPT, HALF, Plan(pipeline=stages), level="mapped").time)

    assert over(4, 9) == over(4, 0)  # eight layers a stage fit
    assert over(4, 7) > 1.2 * over(4, 0)
    assert over(4, 7) < over(4, 1) < float(estimate(chip(stack), MODEL, PROMPT, HALF, level="mapped").time) * 1.01


def test_layers_that_do_not_divide_are_dealt_out():
    tier = NetworkTier(name="link", size=6, topology="switch", bandwidth=1e15, latency=1e-12)
    system = System(name="box", chip=chip("ideal"), tier=(tier,))
    one = float(estimate(chip("ideal"), MODEL, DECODE, HALF, level="mapped").time)
    found = estimate_plan(system, MODEL, DECODE, HALF, Plan(pipeline=6), level="mapped")
    assert float(found.time) == pytest.approx(one, rel=1e-3)  # one token goes through all layers
    assert found.flops == pytest.approx(estimate(chip("ideal"), MODEL, DECODE, HALF, level="mapped").flops, rel=1e-9)


# ---- kernels of a stack ---------------------------------------------------------------------------------------------------------


def test_attention_in_several_kernels_moves_its_scores():
    asked = Scenario(phase="prefill", batch=1, prompt=1024)
    found = rows(replace(families.stack_named("ideal"), score_passes=8), asked)
    scores = 32 * 1024 * 1024 * 2.0  # all pairs of 32 heads at 16 bits
    assert found["softmax"].cost.bytes["hbm"] == pytest.approx(6 * scores, rel=1e-9)  # 8 less what the products write and read
    assert found["scores"].flops == pytest.approx(2 * 32 * 1024 * 1024 * 128, rel=1e-9)  # no pair is left out
    assert "attention" not in found
    decoding = replace(families.stack_named("ideal"), score_passes=8, fuses_decode=True)
    assert "attention" in rows(decoding, DECODE)
    assert "softmax" in rows(decoding, asked)


def test_narrow_weights_are_written_wide_before_a_product_of_many_rows():
    packed = Precision.parse("w:int4,a:fp16,kv:fp16")
    base = replace(families.stack_named("ideal"), dequantise_rows=32)
    one = rows(base, PROMPT, packed)["feed-forward down"]
    weights = 14336 * 4096
    half = rows("ideal", PROMPT)["feed-forward down"]  # reads them at 16 bits, as often as its tiles do
    assert one.cost.bytes["hbm"] - half.cost.bytes["hbm"] == pytest.approx(weights * (0.5 + 2), rel=1e-9)  # read, and written
    assert one.time > half.time
    few = rows(base, replace(DECODE, batch=8), packed)["feed-forward down"]
    assert few.cost.bytes["hbm"] < 1.1 * (weights * 0.5 + 8 * (14336 + 4096) * 2)


def test_products_of_few_rows_read_so_many_bytes_a_clock():
    base = replace(families.stack_named("ideal"), few_rows=8, few_rows_bytes=2.0)
    bytes_of, on = 14336 * 4096 * 2.0, load.chip("a100-sxm-80gb").cores
    found = rows(base, replace(DECODE, batch=1))["feed-forward down"]
    assert found.cost.time["memory.hbm"] == pytest.approx(bytes_of / (2.0 * on.count * on.clock), rel=1e-2)
    more = rows(base, replace(DECODE, batch=9))["feed-forward down"]
    assert more.time < found.time


def test_sums_at_16_bits_take_the_rate_that_a_chip_has_for_them():
    stack = families.stack_named("ideal")
    wide = replace(PROMPT, prompt=8192)
    slow, fast = (
        float(estimate(chip(one, "rtx-4090"), MODEL, wide, HALF, level="mapped").time)
        for one in (stack, replace(stack, accumulates="fp16"))
    )
    assert 1.3 * fast < slow < 2.01 * fast


def test_heads_that_read_their_keys_alone_read_more():
    long = Scenario(phase="decode", batch=32, context=8000)
    assert time("ideal", long, reads_by_head=True) > 1.5 * time("ideal", long)
    assert time("ideal", long, whole_rounds=True) >= time("ideal", long)


# ---- collectives ----------------------------------------------------------------------------------------------------------------


def test_a_plan_takes_its_stacks_library():
    system = load.system("dgx-a100")
    for name in ("serving", "tensorrt-llm"):
        stack = families.stack_named(name)
        box = replace(system, chip=with_stack(system.chip, stack))
        found = estimate_plan(box, MODEL, DECODE, HALF, Plan(tensor=8), level="mapped")
        one = next(row for row in found.operations if row.name == "feed-forward all-reduce")
        on = engine(box.chip, box.chip.efficiency, "fp16")
        library = library_of(box.chip, stack, on.clock, on.bandwidth)
        expected = exchange_time(box.tier, "all-reduce", 8 * 4096 * 2.0, 8, library) + stack.exchange_wait
        assert float(one.time) == pytest.approx(float(expected), rel=1e-9)
        clean = replace(system, chip=with_stack(system.chip, replace(stack, exchange_cycles=0)))
        assert float(estimate_plan(clean, MODEL, DECODE, HALF, Plan(tensor=8), level="mapped").time) < float(found.time)


def test_the_level_ideal_knows_no_stack():
    for name in ("pytorch-eager", "llama-cpp", "deepspeed-mii"):
        found = estimate(chip(name), MODEL, PROMPT, HALF, level="ideal")
        assert float(found.time) == float(estimate(chip("serving"), MODEL, PROMPT, HALF, level="ideal").time)


def test_ranges_are_what_their_members_are():
    batch = np.array([1.0, 8.0, 33.0, 200.0])
    for name in ("llama-cpp", "pytorch-eager", "tensorrt-llm", "fastertransformer"):
        together = estimate(chip(name), MODEL, Scenario(phase="decode", batch=batch, context=300), HALF, level="mapped").time
        alone = [time(name, Scenario(phase="decode", batch=float(one), context=300)) for one in batch]
        assert np.asarray(together) == pytest.approx(alone, rel=1e-9)
        prompts = np.array([100.0, 512.0, 1500.0])
        together = estimate(chip(name), MODEL, Scenario(phase="prefill", prompt=prompts), HALF, level="mapped").time
        alone = [time(name, Scenario(phase="prefill", prompt=float(one))) for one in prompts]
        assert np.asarray(together) == pytest.approx(alone, rel=1e-9)


# ---- files ----------------------------------------------------------------------------------------------------------------------


def test_one_fact_is_in_one_file():
    known = {one.name: one for one in families.stacks()}
    assert known["serving"].pass_time == known["trtllm"].pass_time
    assert known["serving"].block_loads == known["vllm"].block_loads
    assert known["deepspeed-mii"].exchange_cycles == known["nccl"].exchange_cycles
    assert known["serving"].taken["pass_time"] == "trtllm"
    moved = with_values(Constants.of_catalogue(), [Parameter("stack", "trtllm", "pass_time")], [9e-6])
    after = {one.name: one for one in moved.stacks}
    assert after["serving"].pass_time == after["trtllm-ada"].pass_time == 9e-6


@pytest.mark.parametrize(
    ("framework", "vendor", "name"),
    [
        ("vLLM", "NVIDIA", "vllm"),
        ("Deepspeed-MII", "NVIDIA", "deepspeed-mii"),
        ("FasterTransformer-5.x", "NVIDIA", "fastertransformer"),
        ("llama.cpp (May 2024)", "NVIDIA", "llama-cpp"),
        ("llama.cpp (May 2024)", "Apple", "llama-cpp-metal"),
        ("llama.cpp", "NVIDIA", "llama-cpp-python"),
        ("pytorch eager", "AMD", "pytorch-eager"),
        ("pytorch fusion", "NVIDIA", "pytorch-compiled"),
    ],
)
def test_a_framework_finds_its_stack(framework, vendor, name):
    assert families.model_stack_of(framework, vendor).name == name
    with pytest.raises(InputError, match="no software stack runs whole models of 'abacus'"):
        families.model_stack_of("abacus", vendor)


def test_every_stack_runs_where_it_says_and_nowhere_else():
    for one in families.stacks():
        for name, vendor, family in (("h100-sxm", "nvidia", "nvidia-hopper"), ("m2-ultra-76c", "apple", "apple-m")):
            built = any(fnmatchcase(family, pattern) for pattern in one.architectures)
            if not built or not {"*", vendor} & set(one.vendors):
                with pytest.raises(InputError, match=f"and {name} is none: choose "):
                    named(name, one.name)
                continue
            found = rl.analyze("llama-3.2-1b", named(name, one.name), phase="decode", batch=2, context=64)
            assert found.estimate.time > 0.0


def command(monkeypatch, *words: str) -> int:
    monkeypatch.setattr("sys.argv", ["ridgeline", *words])
    with pytest.raises(SystemExit) as stopped:
        main()
    return int(stopped.value.code or 0)


def test_a_stack_that_a_chip_cannot_run_is_one_sentence(monkeypatch, capsys):
    asked = ("analyze", "llama-3.2-1b", "h100-sxm", "--phase", "prefill", "--stack")
    assert command(monkeypatch, *asked, "llama-cpp-metal") == 2
    assert "runs on chips of apple, and h100-sxm is none: choose " in capsys.readouterr().err
    assert command(monkeypatch, *asked, "llama-cpp", "--json") == 0
    assert json.loads(capsys.readouterr().out)["stack"] == "llama-cpp"


def test_more_of_a_host_is_never_faster():
    for name in ("host_step", "host_layer", "host_kernel", "host_sequence"):
        times = [time("pytorch-eager", **{name: value}) for value in (0.0, 1e-5, 1e-4)]
        assert all(one <= other for one, other in pairwise(times))
