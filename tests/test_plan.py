"""The planner: plans are all that multiply to the chips, rows are what `analyze` says, and the order is that of the aim."""

import math

import numpy as np
import pytest

from ridgeline.api import analyze, load_model
from ridgeline.api.plan import plan_chips
from ridgeline.errors import InfeasibleError, InputError
from ridgeline.search.pareto import pareto
from ridgeline.search.plan import divisors, plans
from ridgeline.specs.plan import Plan


def test_every_plan_of_so_many_chips_once():
    found = list(plans(load_model("llama-3.1-70b"), 16, context_parallel=True))
    assert len({one.text for one in found}) == len(found)
    assert all(one.chips == 16 for one in found)
    degrees = {(one.tensor, one.context, one.pipeline, one.data) for one in found}
    assert len(degrees) == math.comb(4 + 3, 3)  # 16 = 2⁴ over four factors in order
    experts = {one.expert for one in plans(load_model("deepseek-v3"), 8)}
    assert experts == set(divisors(8))


def test_rows_are_what_analyze_says():
    found = plan_chips("llama-3.1-8b", "dgx-h100", 4, prompt=512, output=128, most_batch=64)
    assert len(found.plans) >= 5
    for row in found.plans:
        plan = Plan.parse(row.plan)
        step = analyze(
            "llama-3.1-8b", "dgx-h100", plan=row.plan, phase="decode", batch=int(row.batch), context=640, level="ideal"
        ).estimate
        assert row.tpot == pytest.approx(step.time, rel=1e-12)
        prefill = plan.text.replace(f",mb={plan.micro_batches:g}", "")
        first = analyze(
            "llama-3.1-8b", "dgx-h100", plan=prefill, phase="prefill", batch=int(plan.data), prompt=512, level="ideal"
        ).estimate
        assert row.ttft == pytest.approx(first.time, rel=1e-12)
        a_request = row.ttft / plan.data + 128 * row.tpot / row.batch
        assert row.throughput == pytest.approx(128 / a_request, rel=1e-12)
        assert (row.decode_bound, row.prefill_bound) == (step.bound, first.bound)


@pytest.mark.parametrize(("aim", "sign"), [("throughput", -1.0), ("tpot", 1.0), ("ttft", 1.0)])
def test_the_best_for_the_aim_comes_first(aim: str, sign: float):
    found = plan_chips("llama-3.1-70b", "h100-sxm", 8, aim=aim)
    values = [sign * getattr(one, aim) for one in found.plans if one.meets]
    assert values == sorted(values)
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
    dense = plan_chips("llama-3.1-70b", "dgx-h100", 16, aim="tpot", batch=16)
    best = Plan.parse(dense.plans[0].plan)
    assert best.tensor >= 8
    mixture = plan_chips("deepseek-v3", "dgx-h200", 16, precision="fp8-block")
    assert Plan.parse(mixture.plans[0].plan).expert > 1
    assert mixture.plans[0].batch >= 1024


def test_precisions_are_compared():
    found = plan_chips("llama-3.1-8b", "h100-sxm", 1, precision=["bf16", "fp8"])
    assert [one.precision for one in found.plans] == ["fp8-e4m3", "bf16"]


def test_refusals():
    with pytest.raises(InfeasibleError, match=r"no plan of 8 chips meets.*nearest is .*TPOT .* > 1 ms.*bound by"):
        plan_chips("llama-3.1-70b", "h100-sxm", 8, tpot=1e-3)
    with pytest.raises(InfeasibleError, match=r"no plan of 2 chips holds llama-3\.1-405b.*short of memory"):
        plan_chips("llama-3.1-405b", "h100-sxm", 2)
    with pytest.raises(InputError, match="aim"):
        plan_chips("gpt2", "h100-sxm", 1, aim="speed")
    with pytest.raises(InputError, match=r"no `promt`.*prompt"):
        plan_chips("gpt2", "h100-sxm", 1, promt=5)
    with pytest.raises(InputError, match="generates no tokens"):
        plan_chips("bert-base", "h100-sxm", 1)
    with pytest.raises(InputError, match="whole number"):
        plan_chips("gpt2", "h100-sxm", 1, prompt=0)
