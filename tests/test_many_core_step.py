"""A step on a chip of many cores: never below its bound, elementwise, monotone; kernels, stacks, energy, and a published rate."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from ridgeline.api import analyze, load_chip, load_model, load_precision, with_stack
from ridgeline.api.analysis import bound_level
from ridgeline.catalogue import load
from ridgeline.catalogue.families import stack_named
from ridgeline.costs.ideal import Machine
from ridgeline.errors import InfeasibleError, InputError
from ridgeline.estimate import estimate, operation_costs, step_operations
from ridgeline.mapping.many_core_step import is_many_core, kernels, place_many_core_step
from ridgeline.specs.base import quantities, with_quantity
from ridgeline.specs.model import Model
from ridgeline.specs.scenario import Scenario

ROUNDING = 1 + 1e-12
CHIPS = tuple(name for name in load.names("chips") if is_many_core(load_chip(name)))
MODELS = tuple(load.names("models"))
SEVERAL = ("llama-3.1-70b", "deepseek-v3", "gemma-2-9b", "mixtral-8x7b", "bert-large", "qwen3-next-80b-a3b", "whisper-large-v3")


@cache
def model_of(name):
    return load_model(name)


def phases(model):
    if not isinstance(model, Model) or not model.decoder:
        return (Scenario(phase="encode", batch=8, prompt=100),)
    many = Scenario(phase="prefill", batch=2, prompt=700, source_tokens=300 if model.encoder else 0)
    few = Scenario(phase="decode", batch=24, context=900, source_tokens=300 if model.encoder else 0)
    return (many, few, replace(few, batch=1, verified=4))


def both(chip, model, scenario, precision):
    try:
        least = estimate(chip, model, scenario, precision)
    except InputError:  # no unit for the format, at either level
        with pytest.raises(InputError):
            estimate(chip, model, scenario, precision, level="mapped")
        return None
    return least, estimate(chip, model, scenario, precision, level="mapped")


# ---- bounds -----------------------------------------------------------------------------------------------------------------


def test_the_catalogue_has_many_of_them():
    assert len(CHIPS) > 45
    assert {"h100-sxm", "mi300x", "m2-ultra-76c", "epyc-9654", "max-1550"} <= set(CHIPS)
    assert not {"nvdla-like", "tpu-v4", "groq-lpu-v1", "upmem-20dimm"} & set(CHIPS)


@pytest.mark.parametrize("name", CHIPS)
def test_no_step_is_faster_than_its_bound(name):
    """Every chip with a sample of the models that differs from chip to chip, in all phases and as published."""
    chip, start = load_chip(name), CHIPS.index(name)
    seen = 0
    for model in (model_of(one) for one in (*MODELS[start % 17 :: 17], "llama-3.1-8b")):
        for scenario in phases(model):
            found = both(chip, model, scenario, load_precision(None, model))
            if found is None:
                continue
            least, mapped = found
            assert mapped.time_lower >= least.time / ROUNDING, (model.name, scenario.phase)
            assert mapped.time_lower <= mapped.time * ROUNDING
            assert mapped.time <= mapped.time_upper * ROUNDING
            assert mapped.energy is None or mapped.energy >= least.energy / ROUNDING
            assert np.isfinite(mapped.time)
            seen += 1
    assert seen


@pytest.mark.parametrize("precision", ["fp8", "w4a16kv8", "int8", "fp8-block", "mxfp4"])
@pytest.mark.parametrize("name", ["h100-sxm", "b200-sxm", "mi300x", "a100-sxm-80gb", "p100-pcie"])
def test_no_precision_beats_its_bound(name, precision):
    for model in map(model_of, SEVERAL):
        for scenario in phases(model):
            found = both(load_chip(name), model, scenario, load_precision(precision, model))
            assert found is None or found[1].time_lower >= found[0].time / ROUNDING, (model.name, scenario.phase)


# ---- arrays -----------------------------------------------------------------------------------------------------------------

VARIED = ("memory.hbm.bandwidth", "memory.hbm.latency", "memory.l2.capacity", "matrix_unit.rate.bf16", "package.power")


@pytest.mark.parametrize("cores", [False, True])
@pytest.mark.parametrize("name", SEVERAL)
def test_designs_together_are_designs_alone(name, cores):
    """The array path leaves out candidates that no design can want; a design alone costs them all."""
    random, base = np.random.default_rng(5), load_chip("h100-sxm")
    drawn = {path: quantities(base)[path] * random.uniform(0.25, 4.0, 40) for path in VARIED}
    if cores:
        drawn["cores.count"] = random.choice([16.0, 108.0, 132.0, 400.0], 40)
    model = model_of(name)
    precision = load_precision("bf16", model)

    def made(index):
        chip = base
        for path, values in drawn.items():
            chip = with_quantity(chip, path, values if index is None else float(values[index]))
        return chip

    for scenario in phases(model)[:2]:
        together = estimate(made(None), model, scenario, precision, level="mapped")
        for index in range(0, 40, 8):
            alone = estimate(made(index), model, scenario, precision, level="mapped")
            assert together.time[index] == pytest.approx(alone.time, rel=1e-12)
            assert together.time_upper[index] == pytest.approx(alone.time_upper, rel=1e-12)


@pytest.mark.parametrize(
    ("name", "axes"),
    [
        ("llama-3.1-8b", {"phase": "decode", "batch": [1, 7, 64], "context": [50, 3000]}),
        ("llama-3.1-8b", {"phase": "decode", "verified": [1, 4, 17], "context": [3000, 4000]}),
        ("gemma-2-2b", {"phase": "prefill", "prompt": [1, 16, 17, 5000], "batch": [1, 3]}),
        ("deepseek-v2-lite", {"phase": "decode", "batch": [1, 100]}),
        ("mixtral-8x7b", {"phase": "generate", "output": [10, 100], "prompt": [100, 200]}),
        ("bert-base", {"phase": "encode", "prompt": [64, 128, 500]}),
    ],
)
def test_a_range_is_its_members(name, axes):
    given = {"precision": "fp8"} if name != "bert-base" else {}
    whole = analyze(name, "h200-sxm", **axes, **given)
    assert whole.estimate.level == "mapped"
    for place in np.ndindex(*whole.estimate.time.shape):
        point = {key: float(values[index]) for (key, values), index in zip(whole.axes.items(), place, strict=True)}
        alone = analyze(name, "h200-sxm", **{**axes, **point}, **given)
        assert whole.estimate.time[place] == pytest.approx(alone.estimate.time, rel=1e-12)
        assert whole.resource(whole.estimate.bound[place]) == alone.estimate.bound


@pytest.mark.parametrize(
    "path",
    [one for one in quantities(load_chip("a100-sxm-80gb")) if one.startswith(("memory.", "matrix_unit.rate", "vector_unit.rate"))]
    + ["package.power"],
)
def test_more_of_anything_is_never_slower(path):
    if path.endswith((".energy", ".latency")):
        return
    chip = load_chip("a100-sxm-80gb")
    better = with_quantity(chip, path, 1.7 * quantities(chip)[path])
    for name in SEVERAL:
        model = model_of(name)
        for scenario in phases(model):
            before, after = (
                estimate(one, model, scenario, load_precision("bf16", model), level="mapped").time for one in (chip, better)
            )
            assert after <= before * ROUNDING, (name, scenario.phase)


# ---- kernels and stacks -----------------------------------------------------------------------------------------------------


def layer_kernels(stack):
    model = model_of("llama-3.1-8b")
    scenario = Scenario(phase="decode", batch=4, context=100)
    found = kernels(step_operations(model, scenario, load_precision(None, model)), stack_named(stack))
    return [one for one in found if one.count == 32]


def test_kernels_of_a_layer():
    """Norm, query-key-value, rotary and append, attention, output, residual and norm, gate-up, activation, down, residual."""
    joined, eager = layer_kernels("serving"), layer_kernels("pytorch-eager")
    assert len(joined) == 10
    assert [len(one.products) for one in joined] == [0, 3, 0, 2, 1, 0, 2, 0, 1, 0]
    assert len(eager) > len(joined)
    assert not any(len(one.products) == 2 for one in eager)  # scores, softmax and values one after another
    whole, parts = ({tensor.name for one in them for tensor in one.reads if tensor.role == "weight"} for them in (joined, eager))
    assert whole == parts


def test_a_stack_without_graphs_pays_a_launch_a_kernel():
    chip = load_chip("h100-sxm")
    serving = chip.stack
    slow = replace(serving, graph=False)
    model = model_of("llama-3.1-8b")
    scenario = Scenario(phase="decode", batch=1, context=64)
    machine, operations = Machine.of(chip), step_operations(model, scenario, load_precision(None, model))
    count = sum(one.count for one in kernels(operations, serving))
    times = [
        sum(one.time * one.operation.count for one in place_many_core_step(Machine.of(replace(chip, stack=stack)), operations))
        for stack in (serving, slow)
    ]
    assert times[1] - times[0] == pytest.approx(count * machine.chip.overhead.launch, rel=1e-9)


def test_stacks_by_name():
    chip = with_stack("h100-sxm", "pytorch-eager")
    fused, eager = (analyze("llama-3.1-8b", one, batch=1, context=1000) for one in ("h100-sxm", chip))
    assert eager.stack.name == "pytorch-eager"
    assert fused.stack.name == "serving"
    assert eager.estimate.time > 1.1 * fused.estimate.time
    system = with_stack("dgx-h100", "pytorch-eager")
    assert analyze("llama-3.1-8b", system, plan="tp=8").stack.name == "pytorch-eager"
    with pytest.raises(InputError, match=r"unknown stack 'servin': .*serving"):
        with_stack("h100-sxm", "servin")
    with pytest.raises(InputError, match="nvdla-like has no constants"):
        with_stack("nvdla-like", "serving")


def test_levels_by_default():
    assert analyze("bert-base", "h100-sxm").estimate.level == "mapped"
    assert analyze("bert-base", "h100-sxm", residency="warm").estimate.level == "ideal"
    assert analyze("bert-base", "cerebras-wse-3").estimate.level == "ideal"
    assert analyze("gpt2", "h100-sxm", phase="train").estimate.level == "ideal"
    assert bound_level(load_chip("h100-sxm")) == "ideal"
    with pytest.raises(InputError, match="start cold"):
        analyze("bert-base", "h100-sxm", residency="warm", level="mapped")
    with pytest.raises(InfeasibleError, match="11 chips would hold it"):
        analyze("llama-3.1-405b", "h100-sxm")
    with pytest.raises(InputError, match="family"):
        place_many_core_step(Machine.of(replace(load_chip("h100-sxm"), efficiency=None)), [])


def test_energy_is_counts_times_coefficients():
    chip, model = load_chip("a100-sxm-80gb"), model_of("llama-3.1-8b")
    found = estimate(chip, model, Scenario(phase="decode", batch=4, context=500), load_precision(None, model), level="mapped")
    rows = 16  # of the smallest tile, which switches whole
    products = sum(2.0 * rows * row.n * row.k * row.count for row in found.operations if row.kind == "matmul")
    spent = sum(row.cost.energy["compute"] * row.count for row in found.operations if row.kind == "matmul")
    assert spent == pytest.approx(products * chip.matrix_unit.energy["bf16"], rel=1e-12)
    assert found.cost.energy["memory.hbm"] == pytest.approx(found.bytes["hbm"] * chip.main_memory.energy, rel=1e-12)


# ---- outside numbers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("chip", "tokens"), [("a100-sxm-80gb", 104.9), ("mi250-gcd", 76.33)])
def test_a_published_decode_rate(chip, tokens):
    """Llama 2 7B, batch 1, a few hundred tokens, compiled PyTorch [gptfast2023], which no constant was fitted to."""
    found = analyze("llama-2-7b", chip, batch=1, context=200).estimate
    assert found.tokens_per_second == pytest.approx(tokens, rel=0.2)
    bound = analyze("llama-2-7b", chip, batch=1, context=200, level="ideal").estimate
    assert abs(found.tokens_per_second / tokens - 1) < 0.5 * abs(bound.tokens_per_second / tokens - 1)


def test_operation_costs_dispatch():
    chip, model = load_chip("mi300x"), model_of("qwen3-8b")
    operations = step_operations(model, Scenario(phase="decode", batch=2, context=10), load_precision(None, model))
    found = operation_costs(Machine.of(chip), "mapped", operations, "best")
    assert [one.name for one, _, _ in found] == [one.name for one in kernels(operations, chip.stack)]
