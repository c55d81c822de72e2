"""The planner: plans are all that multiply to the chips, rows are what `analyze` says, and the order is that of the aim."""

import math
from dataclasses import replace

import numpy as np
import pytest

from ridgeline.api import analyze, load_model, load_precision, load_system
from ridgeline.api.money import rate_of
from ridgeline.api.plan import plan_chips
from ridgeline.api.plan_service import serve_plan
from ridgeline.errors import InfeasibleError, InputError
from ridgeline.parallel import estimate_plan
from ridgeline.search.pareto import pareto
from ridgeline.search.plan import divisors, plans, replicas
from ridgeline.search.plan_points import ratios
from ridgeline.search.plan_steps import Setting, decode_grid, mixed_times, prompt_pieces
from ridgeline.specs.plan import Plan
from ridgeline.specs.scenario import Scenario


def test_every_plan_of_so_many_chips_once():
    found = list(plans(load_model("llama-3.1-70b"), 16, context_parallel=True))
    assert len({one.text for one in found}) == len(found)
    assert all(one.chips == 16 for one in found)
    degrees = {(one.tensor, one.context, one.pipeline, one.data) for one in found}
    assert len(degrees) == math.comb(4 + 3, 3)  # 16 = 2⁴ over four factors in order
    experts = {one.expert for one in plans(load_model("deepseek-v3"), 8)}
    assert experts == set(divisors(8))


@pytest.mark.parametrize(
    ("model", "system", "precision", "chips"),
    [
        ("llama-3.1-70b", "dgx-h100", "bf16", 8),
        ("deepseek-v3", "dgx-h200", "fp8-block", 16),
        ("mixtral-8x7b", "dgx-h100", "fp8", 4),
    ],
)
def test_arrays_equal_single_estimates(model: str, system: str, precision: str, chips: int):
    """Plans, batches, drafts and chunks drawn at random: each element of the arrays is what `estimate_plan` says of it alone.

    1e-9: the same formulas in the same order, on floats and on arrays.
    """
    spec = load_model(model)
    setting = Setting(system=load_system(system), model=spec, precision=load_precision(precision, spec))
    random = np.random.default_rng(5)
    every = list(plans(spec, chips, context_parallel=True))
    compared = 0
    for index in random.permutation(len(every))[:14].tolist():
        plan = every[index]
        groups, unit = replicas(plan), replicas(plan) * int(plan.micro_batches)
        batches = unit * 2.0 ** np.arange(4)
        try:
            grid = decode_grid(setting, plan, batches, (0, 3), 1536.0, {256: 256.0 * groups})
            prompts = prompt_pieces(setting, replace(plan, micro_batches=1), groups, 1024.0, (256,))
        except InputError:
            continue
        row, column = int(random.integers(4)), int(random.integers(2))
        decode = Scenario(phase="decode", batch=float(batches[row]), context=1536.0, verified=(1.0, 4.0)[column])
        one = estimate_plan(setting.system, spec, decode, setting.precision, plan)
        assert grid.grid(grid.steps.time)[row, column] == pytest.approx(one.time, rel=1e-9)
        assert grid.grid(grid.steps.needed)[row, column] == pytest.approx(one.capacity.needed, rel=1e-9)
        assert grid.grid(grid.steps.bound)[row, column] == one.bound
        piece = int(random.integers(4))
        prefill = Scenario(phase="prefill", batch=float(groups), prompt=256.0, context=256.0 * piece)
        alone = estimate_plan(setting.system, spec, prefill, setting.precision, replace(plan, micro_batches=1))
        assert prompts.pieces[256].time[piece] == pytest.approx(alone.time, rel=1e-9)
        compared += 1
    assert compared >= 5


def test_a_step_of_both_kinds_lies_between_its_parts():
    """Weights are read once: a mixed step takes no more than both after one another, and no less than the longer of them."""
    spec = load_model("llama-3.1-8b")
    setting = Setting(system=load_system("dgx-h100"), model=spec, precision=load_precision(None, spec))
    for text in ("tp=2", "tp=2,pp=2", "dp=2"):
        plan = Plan.parse(text)
        groups = replicas(plan)
        grid = decode_grid(setting, plan, groups * np.array([1.0, 32.0]), (0,), 2048.0, {512: 512.0 * groups})
        prompts = prompt_pieces(setting, plan, groups, 2048.0, (512,))
        mixed = mixed_times(grid, prompts, 512)
        parts = grid.steps.time[:, None], prompts.pieces[512].time[None, :]
        assert (mixed <= (parts[0] + parts[1]) * (1 + 1e-9)).all()
        assert (mixed >= np.maximum(*parts) * (1 - 1e-9)).all()


def test_rows_are_what_analyze_says():
    """Whole prompts: a mean step is a decode step and the prompts that it makes room for."""
    found = plan_chips("llama-3.1-8b", "dgx-h100", 4, prompt=512, output=128, most_batch=64, modes=("aggregated",), chunks=(0,))
    assert len(found.plans) >= 5
    for row in found.plans:
        plan = Plan.parse(row.plan)
        step = analyze(
            "llama-3.1-8b", "dgx-h100", plan=row.plan, phase="decode", batch=int(row.batch), context=640, level="ideal"
        ).estimate
        prefill = plan.text.replace(f",mb={plan.micro_batches:g}", "")
        first = analyze(
            "llama-3.1-8b", "dgx-h100", plan=prefill, phase="prefill", batch=int(plan.data), prompt=512, level="ideal"
        ).estimate
        assert row.ttft == pytest.approx(first.time, rel=1e-12)
        a_request = row.ttft / plan.data + 128 * step.time / row.batch
        assert row.throughput == pytest.approx(128 / a_request, rel=1e-12)
        assert row.tpot == pytest.approx(row.batch / row.throughput, rel=1e-12)
        assert (row.decode_bound, row.prefill_bound) == (step.bound, first.bound)
        per_step = row.batch / plan.data / 128  # prompts of each group
        joules = step.energy + per_step * first.energy - step.cost.energy["static"] - per_step * first.cost.energy["static"]
        idle = 4 * 70.0  # of an H100
        assert row.power == pytest.approx(idle + joules / row.tpot, rel=1e-9)


def test_chunks_shorten_the_gap_and_lengthen_the_prompt():
    asked = {"prompt": 4096, "output": 1024, "batch": 64, "modes": ("aggregated",), "aim": "tpot"}
    whole = plan_chips("llama-3.1-70b", "h100-sxm", 8, chunks=(0,), **asked)
    cut = plan_chips("llama-3.1-70b", "h100-sxm", 8, chunks=(512,), **asked)
    by_plan = {one.plan: one for one in cut.plans}
    one, other = next(one for one in whole.plans if one.plan == "tp=8"), by_plan["tp=8"]
    assert other.chunk == 512
    assert other.ttft > one.ttft
    assert other.tpot < one.tpot  # weights are read once for both
    assert other.throughput > one.throughput


def test_two_pools():
    """Rates are the slower pool's; the cache of a prompt crosses the box: 2 · 80 · 8 · 128 · 2 bytes a token at 450 GB/s a chip."""
    found = plan_chips("llama-3.1-70b", "h100-sxm", 8, modes=("disaggregated",), batch=32)
    row = next(one for one in found.plans if one.prompts.plan == "tp=4" and Plan.parse(one.plan).tensor == 4)
    assert (row.prompts.workers, row.mode) == (1, "disaggregated")
    moved = 1024 * 2 * 80 * 8 * 128 * 2 / 4 / 450e9
    assert row.transfer == pytest.approx(moved, rel=0.05)  # and a step's latency
    first = analyze("llama-3.1-70b", "h100-sxm", plan="tp=4", phase="prefill", batch=1, prompt=1024, level="ideal").estimate
    step = analyze("llama-3.1-70b", "h100-sxm", plan=row.plan, phase="decode", batch=32, context=1280, level="ideal").estimate
    assert row.ttft == pytest.approx(first.time, rel=1e-12)
    assert row.tpot == pytest.approx(step.time + row.transfer / 256, rel=1e-12)
    assert row.throughput == pytest.approx(min(256 / first.time, 32 / step.time), rel=1e-12)
    for one in found.plans:
        chips = one.prompts.workers * Plan.parse(one.prompts.plan).chips + one.decoders * Plan.parse(one.plan).chips
        assert chips == 8
    assert all(count * size + many * large == 12 for size, count, large, many in ratios(12, [1, 2, 4], [2, 8]))


def test_speculation_gains_while_memory_binds():
    """(1 − 0.7⁴) / 0.3 tokens a step; at a batch of 1 the step hardly grows, at a large one it does and drafting is left."""
    asked = {"drafts": (3,), "acceptance": 0.7, "draft_share": 0.05, "modes": ("aggregated",), "aim": "tpot"}
    few = plan_chips("llama-3.1-8b", "h100-sxm", 1, batch=1, **asked).plans[0]
    plain = plan_chips("llama-3.1-8b", "h100-sxm", 1, batch=1, modes=("aggregated",), aim="tpot").plans[0]
    assert few.draft == 3
    gain = (1 - 0.7**4) / 0.3
    assert plain.tpot / few.tpot == pytest.approx(gain / 1.15, rel=0.05)  # three drafts of a twentieth; the rest is attention
    many = plan_chips("llama-3.1-8b", "h100-sxm", 1, batch=512, prompt=128, output=64, **asked).plans[0]
    assert many.draft == 0


def test_hidden_communication_lets_experts_spread():
    """Where all communication is hidden, spreading experts further costs nothing and frees memory for sequences."""
    asked = {"modes": ("aggregated",), "chunks": (0,), "precision": "fp8", "batch": 512}
    shown = {one.plan: one for one in plan_chips("mixtral-8x7b", "dgx-h100", 4, **asked).plans}
    hidden = {one.plan: one for one in plan_chips("mixtral-8x7b", "dgx-h100", 4, overlap=1.0, **asked).plans}
    assert hidden["dp=4,ep=4,overlap=1"].throughput > shown["dp=4,ep=4"].throughput
    assert hidden["dp=4,ep=4,overlap=1"].free > hidden["dp=4,ep=2,overlap=1"].free
    mixed = plan_chips("mixtral-8x7b", "dgx-h100", 2, precision="fp8", modes=("aggregated",), overlap=0.5, prompt=2048)
    assert {one.chunk for one in mixed.pareto} == {0.0}


def test_power_and_price():
    found = plan_chips("llama-3.1-8b", "h100-sxm", 1, prices="rental")
    best = found.plans[0]
    assert best.price == pytest.approx(
        1e6 * rate_of("h100-sxm", prices="rental").fixed / rate_of("h100-sxm").terms.utilisation / best.throughput
    )
    least = plan_chips("llama-3.1-8b", "h100-sxm", 1, aim="power").plans[0]
    assert least.power < best.power
    limited = plan_chips("llama-3.1-8b", "h100-sxm", 1, power=0.9 * best.power).plans[0]
    assert limited.power <= 0.9 * best.power
    assert limited.throughput < best.throughput
    with pytest.raises(InfeasibleError, match=r"price .* \$ a million tokens >"):
        plan_chips("llama-3.1-8b", "h100-sxm", 1, price=best.price / 2, prices="rental")
    with pytest.raises(InfeasibleError, match=r"throughput .* < "):
        plan_chips("llama-3.1-8b", "h100-sxm", 1, throughput=2 * best.throughput)
    with pytest.raises(InputError, match="price"):
        plan_chips("gpt2", "gemmini", 1, aim="price")


def test_the_front_is_of_all_points():
    found = plan_chips("llama-3.1-70b", "h100-sxm", 8, tpot=0.05)
    rows = np.array([[one.ttft, one.tpot, -one.throughput] for one in found.pareto]).T
    assert pareto(rows).all()
    assert all(one.meets for one in found.pareto)
    best = found.plans[0]
    assert max(one.throughput for one in found.pareto) == pytest.approx(best.throughput, rel=1e-12)
    assert found.evaluated > 10 * len(found.plans)


def test_the_best_plan_under_requests():
    """At a share of its throughput a service has fewer sequences at once than at all of it: no token takes longer."""
    for asked in (
        {},
        {"modes": ("disaggregated",)},
        {"drafts": (2,), "acceptance": 0.8},
        {"chunks": (0,), "modes": ("aggregated",)},
    ):
        found = plan_chips("llama-3.1-70b", "h100-sxm", 8, prompt=512, output=64, **asked)
        served = serve_plan(found, requests=120, load=0.6)
        row = found.plans[0]
        assert served.metrics.finished == 120
        assert served.metrics.tpot.p50 <= row.tpot * 1.001
        assert served.metrics.ttft.p50 < 4 * row.ttft
    with pytest.raises(InputError, match="load"):
        serve_plan(found, load=1.5)


def test_analyze_takes_the_fastest_plan():
    for asked in ({"phase": "prefill", "batch": 4, "prompt": 512}, {"phase": "decode", "batch": 8, "context": 512}):
        found = analyze("llama-3.1-8b", "h100-sxm", count=2, plan="auto", level="ideal", **asked)
        times: list[float] = []
        for plan in plans(load_model("llama-3.1-8b"), 2, context_parallel=True):
            try:
                times.append(analyze("llama-3.1-8b", "h100-sxm", plan=plan, level="ideal", **asked).estimate.time)
            except InputError:
                continue
        assert found.estimate.time == min(times)
        assert found.spread is not None
        assert any(found.spread.plan.text in note for note in found.estimate.notes)
    with pytest.raises(InputError, match="one scenario"):
        analyze("llama-3.1-8b", "h100-sxm", count=4, plan="auto", batch=[1, 2])
    with pytest.raises(InfeasibleError, match="no plan of 2 chips"):
        analyze("llama-3.1-405b", "h100-sxm", count=2, plan="auto", level="ideal")


@pytest.mark.parametrize(("aim", "sign"), [("throughput", -1.0), ("tpot", 1.0), ("ttft", 1.0)])
def test_the_best_for_the_aim_comes_first(aim: str, sign: float):
    found = plan_chips("llama-3.1-70b", "h100-sxm", 8, aim=aim)
    values = [sign * getattr(one, aim) for one in found.plans if one.meets]
    assert values == sorted(values)
    assert {one.mode for one in found.plans} == {"aggregated", "disaggregated"}
    front = pareto(
        np.array([[one.ttft, one.tpot, -one.throughput] for one in found.plans]).T, feasible=[one.meets for one in found.plans]
    )
    assert [one.front for one in found.plans] == front.tolist()
    assert found.plans[0].front


def test_targets_are_kept_and_what_cannot_be_is_named():
    found = plan_chips("llama-3.1-70b", "h100-sxm", 8, ttft=0.06, tpot=0.015)
    kept = [one for one in found.plans if one.meets]
    assert kept
    assert all(one.ttft <= 0.06 and one.tpot <= 0.015 and one.free >= 0 for one in kept)
    missed = [one for one in found.plans if not one.meets]
    assert all("TTFT" in one.reason or "TPOT" in one.reason for one in missed)
    reasons = {one.plan: one.reason for one in found.refused}
    assert "short of memory" in reasons["dp=8"]  # 141 GB of weights on each chip of 80 GB
    assert kept[0].throughput < plan_chips("llama-3.1-70b", "h100-sxm", 8).plans[0].throughput


def test_what_practitioners_know():
    """Tensor parallel inside the node for a dense model's latency; experts across for a mixture, in the precision published."""
    dense = plan_chips("llama-3.1-70b", "dgx-h100", 16, aim="tpot", batch=16, modes=("aggregated",), chunks=(0,))
    best = Plan.parse(dense.plans[0].plan)
    assert best.tensor >= 8


@pytest.mark.heavy
@pytest.mark.parametrize("chips", [8, 16])
def test_a_mixture_of_experts_with_latent_attention(chips: int):
    """The latent cache has no heads to cut: whole sequences to every rank instead, experts spread, batches large."""
    found = plan_chips("deepseek-v3", "dgx-h200", chips, precision="fp8-block", modes=("aggregated",), chunks=(0,))
    best = Plan.parse(found.plans[0].plan)
    assert best.expert == 8
    assert best.data == chips or best.attention_data_parallel
    assert found.plans[0].batch >= 128 * chips


def test_precisions_are_compared():
    found = plan_chips("llama-3.1-8b", "h100-sxm", 1, precision=["bf16", "fp8"])
    assert [one.precision for one in found.plans] == ["fp8-e4m3", "bf16"]
    assert "throughput" in found.plans[1].against
    assert "bound by" in found.plans[1].against


def test_refusals():
    with pytest.raises(InfeasibleError, match=r"no plan of 8 chips meets.*nearest is .*TPOT .* > 1 ms.*bound by"):
        plan_chips("llama-3.1-70b", "h100-sxm", 8, tpot=1e-3)
    with pytest.raises(InfeasibleError, match=r"no plan of 2 chips holds llama-3\.1-405b.*short of memory"):
        plan_chips("llama-3.1-405b", "h100-sxm", 2)
    with pytest.raises(InputError, match="aim"):
        plan_chips("gpt2", "h100-sxm", 1, aim="speed")
    with pytest.raises(InputError, match=r"no `promt`.*prompt"):
        plan_chips("gpt2", "h100-sxm", 1, promt=5)
    with pytest.raises(InputError, match="probability a drafted"):
        plan_chips("gpt2", "h100-sxm", 1, drafts=(2,))
    with pytest.raises(InputError, match="without drafts"):
        plan_chips("gpt2", "h100-sxm", 1, acceptance=0.5)
    with pytest.raises(InputError, match="overlap"):
        plan_chips("gpt2", "h100-sxm", 1, overlap=2)
    with pytest.raises(InputError, match="modes"):
        plan_chips("gpt2", "h100-sxm", 1, modes=("both",))
    with pytest.raises(InputError, match="chunks"):
        plan_chips("gpt2", "h100-sxm", 1, chunks=(0, -1))
    with pytest.raises(InputError, match="generates no tokens"):
        plan_chips("bert-base", "h100-sxm", 1)
    with pytest.raises(InputError, match="whole number"):
        plan_chips("gpt2", "h100-sxm", 1, prompt=0)
