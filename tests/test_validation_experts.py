"""Experts: how published measurements spread tokens, grouped products, whole layers, and the measured rows."""

import numpy as np
import pytest

from ridgeline.catalogue import families, load
from ridgeline.mapping.expert_kernels import GroupedMethod, GroupedShape, Layer, LayerMethod, Loads, grouped_time, layer_time
from ridgeline.mapping.many_core import engine
from ridgeline.validation import compare, experts, routing, schema
from ridgeline.validation.predict import predict

CHIP = load.chip("a100-sxm-80gb")
FAMILY = families.family_of(CHIP.family)
MACHINE = engine(CHIP, FAMILY, "bf16")
TILES = ((128, 128), (64, 128), (16, 128))


def test_a_balanced_routing_gives_every_expert_as_many_rows():
    found = routing.balanced(1024, 64, 8, 4)
    assert float(found.touched) == 16
    assert float(found.rows) == 1024 * 8 / 4
    assert found.tiles.tolist() == [16 * 128 / height for height in (16, 32, 64, 128)] + [16]


def test_few_tokens_of_a_balanced_routing_touch_one_expert_of_a_rank():
    assert float(routing.balanced(1, 128, 8, 16).touched) == 1


@pytest.mark.parametrize("tokens", [1, 4, 64, 4096])
@pytest.mark.parametrize("ranks", [1, 8, 64])
def test_a_power_law_keeps_every_expert_within_its_tokens_and_times_the_busiest_rank(tokens, ranks):
    found = routing.power_law(tokens, 128, 8, ranks)
    assert float(found.rows) >= tokens * 8 / ranks - 1e-9  # at least the mean of the ranks
    assert float(found.rows) <= min(tokens * 8, tokens * 128 / ranks) + 1e-9
    assert float(found.touched) <= min(128 / ranks, tokens * 8) + 1e-9
    assert float(found.touched) <= float(found.kept) <= 128 / ranks


def test_a_power_law_without_ranks_keeps_all_choices_that_fit():
    assert float(routing.power_law(64, 128, 8, 1).rows) == 64 * 8


def test_ties_in_order_put_all_choices_on_one_rank():
    assert float(routing.power_law(1, 128, 8, 16, 1.2, True).rows) > 7.5
    assert float(routing.power_law(1, 128, 8, 16, 1.2, False).rows) < 5


def test_uniform_routing_touches_what_probability_says():
    found = routing.uniform(64, 128, 8, 128)
    assert float(found.touched) == pytest.approx(128 * (1 - (1 - 1 / 128) ** 512), rel=0.02)
    assert float(routing.uniform(1000, 128, 8, 16, 128).rows) % 128 == 0


def loads(*rows: int) -> Loads:
    return Loads.stacked([Loads.of([np.array(rows)])])


def test_a_grouped_product_of_few_rows_is_the_way_of_the_weights():
    found = float(grouped_time(MACHINE, FAMILY, loads(*[1] * 64), GroupedShape(8192.0, 4096.0, 2, 2, 2), GroupedMethod(), TILES)[0])
    bytes_ = 64 * 8192 * 4096 * 2
    assert found == pytest.approx(bytes_ / MACHINE.bandwidth, rel=0.1)
    assert found >= bytes_ / MACHINE.bandwidth


def test_a_grouped_product_of_many_rows_is_the_work():
    found = float(
        grouped_time(MACHINE, FAMILY, loads(*[8192] * 8), GroupedShape(8192.0, 4096.0, 2, 2, 2), GroupedMethod(), TILES)[0]
    )
    work = 2 * 8 * 8192 * 8192 * 4096
    assert work / MACHINE.peak < found < 1.4 * work / MACHINE.peak
    slower = grouped_time(
        MACHINE, FAMILY, loads(*[8192] * 8), GroupedShape(8192.0, 4096.0, 2, 2, 2), GroupedMethod(share=0.5), TILES
    )
    assert float(slower[0]) == pytest.approx(2 * found, rel=0.1)


def test_passes_over_all_tokens_rule_where_few_rows_stay_on_a_rank():
    def layer(tokens: float) -> float:
        one = Layer(np.array([tokens]), 7168.0, 2048.0, 256.0, loads(64), 2, 2)
        return float(layer_time(MACHINE, FAMILY, one, LayerMethod(kernels=10.0, pass_bytes=2.0), TILES)[0])

    extra = layer(200_000.0) - layer(100_000.0)
    assert extra == pytest.approx(100_000 * (2 * 7168 + 4 * 256) / MACHINE.bandwidth, rel=1e-6)


def test_an_unknown_routing_is_named(tmp_path):
    path = tmp_path / "own.csv"
    path.write_text(
        "id,op,tokens,hidden,inter,topk,n_experts,moe_tp,moe_ep,routing,dtype,chip,framework,metric,value,unit\n"
        "a,moe_ffn,64,4096,1536,8,128,1,8,zipf,bf16,a100-sxm-80gb,trtllm-1.0.0,latency,1,ms\n"
        "b,moe_ffn,64,4096,1536,8,128,1,8,balanced,bf16,a100-sxm-80gb,trtllm-1.0.0,latency,1,ms\n",
        encoding="utf-8",
    )
    found = {one.row.id: one for one in predict(schema.read(path).rows)}
    assert found["a"].predicted is None
    assert "routing 'zipf': balanced, uniform or power_law_<exponent>" in found["a"].reason
    assert found["b"].predicted


def measured(facts, name, accepts):
    rows = [row for row in schema.read(facts / "measured" / "dev" / f"{name}.csv").rows if accepts(row)]
    judged = compare.judged(predict(rows), {})
    assert len(judged) == len(rows)
    assert all(one.prediction.predicted >= 0.999 * one.prediction.ideal for one in judged)
    return judged


def test_measured_layers(facts):
    judged = measured(facts, "aic_moe", experts.is_layer)
    assert len(judged) == 820
    errors = [one.error for one in judged]
    assert np.median(errors) <= 0.18
    assert np.mean(errors) <= 0.28


def test_measured_grouped_products(facts):
    judged = measured(facts, "infersim_ops", experts.is_grouped)
    assert len(judged) == 852
    errors = [one.error for one in judged]
    assert np.median(errors) <= 0.13
    assert np.mean(errors) <= 0.19
