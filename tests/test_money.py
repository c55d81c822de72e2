"""Owning, renting, tokens and dies in dollars: hand calculations, published figures, and what is refused."""

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ridgeline.api import analyze, load_chip, load_system, serve
from ridgeline.api.machine_cost import machine_cost
from ridgeline.api.money import cost_of, die_cost, fabrication_of, made_of, priced, rate_of, read_pricing, terms_of
from ridgeline.api.token_cost import analysis_cost, request_cost, served_cost
from ridgeline.catalogue import prices, references
from ridgeline.costs import money
from ridgeline.errors import InputError
from ridgeline.report.money import cost_picture, cost_record, cost_tables, token_cost_record
from ridgeline.report.panels import panels_html
from ridgeline.report.tables import console
from ridgeline.serving.charges import charge
from ridgeline.serving.scheduler import StepRecord
from ridgeline.serving.surface import LinearStepTime, StepCost
from ridgeline.specs.base import with_quantity

YEAR = 8766 * 3600.0
FREE = {"electricity": 0.0, "hosting": 0.0}

# ---- owning -----------------------------------------------------------------------------------------------------------------


def test_an_annuity_without_interest_is_a_straight_line():
    """Also in the limit: 1e-6 a year changes it by half of 5e-6."""
    asked = {"price": 1e4, "residual": 0.2, "life": 5 * YEAR}
    straight = money.straight_line(**asked)
    assert money.annuity(**asked, interest=0.0) == straight
    assert money.annuity(**asked, interest=1e-6 / YEAR) == pytest.approx(straight, rel=1e-5)


def test_the_payments_of_an_annuity_pay_the_price_back():
    """Discounted at the same rate, month by month: the sum is the price less the residual. 1 %: a month's worth of compounding."""
    interest, life, residual = math.log(1.08) / YEAR, 5 * YEAR, 0.1
    rate = money.annuity(price=1e4, residual=residual, life=life, interest=interest)
    month = life / 60
    worth = sum(rate * month * math.exp(-interest * (index + 0.5) * month) for index in range(60))
    assert worth == pytest.approx(1e4 * (1 - residual * math.exp(-interest * life)), rel=1e-4)


def test_a_second_of_a_box_by_hand():
    """Eight chips of 30 000 and a host of 32 010 over five years, 10.2 kW at 0.1 dollars and a PUE of 1.5."""
    rate = rate_of("dgx-h100", 8, terms={"electricity": "0.1 USD/kW/h", "pue": 1.5, "hosting": 0.0, "life": "5 year"})
    hours = 5 * YEAR / 3600
    assert rate.capital["chips"] * 3600 == pytest.approx(240_000 / hours)
    assert rate.capital["host"] * 3600 == pytest.approx(32_010 / hours)
    assert "network" not in rate.capital  # inside the box
    assert rate.electricity * 3600 == pytest.approx(10.2 * 1.5 * 0.1)
    assert rate.whole == pytest.approx(sum(rate.capital.values()) + rate.electricity)


def test_hosts_are_shared_and_networks_bought_where_chips_span_boxes():
    one, eight, sixteen = (rate_of("dgx-h100", count) for count in (1, 8, 16))
    assert one.whole * 8 == pytest.approx(eight.whole)
    assert "network" in sixteen.capital
    assert sixteen.whole > 2 * eight.whole


def test_rent_is_all():
    rate = rate_of("tpu-v5p", 4)
    assert rate.kind == "rental"
    assert rate.whole * 3600 == pytest.approx(4 * 4.20)
    assert rate.electricity == 0.0
    assert rate.years == {"tpu-v5p.package.rental": 2024}


def test_every_price_has_its_year_and_its_source():
    rate = rate_of("dgx-h100", 16)
    assert {name for name in rate.years if name.endswith("price")} == {
        "h100-sxm.package.price",
        "dgx-h100.host.price",
        "dgx-h100.tier.infiniband.price",
    }
    assert all(2015 < year < 2030 for year in rate.years.values())
    assert set(rate.years) - {"electricity", "hosting"} <= set(rate.sources)
    for (quantity, of), row in prices.prices().items():
        assert row.source.key in references.entries() or row.source.note, (quantity, of)
        assert row.source.key or row.source.confidence == "estimate", (quantity, of)


def test_idle_time_is_paid():
    busy, half = (cost_of("h100-sxm", time=10.0, energy=0.0, terms={**FREE, "utilisation": share}) for share in (1.0, 0.5))
    assert half.dollars == pytest.approx(2 * busy.dollars)


def test_costs_are_elementwise():
    """An array of steps is its members."""
    time, energy, tokens = np.array([1.0, 2.0]), np.array([300.0, 900.0]), np.array([10.0, 40.0])
    many = cost_of("h100-sxm", time=time, energy=energy, tokens=tokens)
    for index in range(2):
        one = cost_of("h100-sxm", time=float(time[index]), energy=float(energy[index]), tokens=float(tokens[index]))
        assert one.dollars_per_million == pytest.approx(many.dollars_per_million[index], rel=1e-15)
        assert one.joules_per_million == pytest.approx(many.joules_per_million[index], rel=1e-15)


# ---- tokens -----------------------------------------------------------------------------------------------------------------


def test_input_and_output_by_hand():
    """A rented chip: dollars a second times the step's time over its tokens."""
    found = request_cost("llama-3.1-8b", "h100-sxm", prompt=512, output=128, batch=32, level="ideal", prices="rental")
    rent = 2.95 / 3600
    prefill = analyze("llama-3.1-8b", "h100-sxm", phase="prefill", prompt=512, batch=1, level="ideal").estimate
    decode = analyze("llama-3.1-8b", "h100-sxm", phase="decode", context=576, batch=32, level="ideal").estimate
    assert found.tokens.input is not None
    assert found.tokens.output is not None
    assert found.tokens.input.dollars_per_million == pytest.approx(rent * prefill.time / 512 * 1e6)
    assert found.tokens.output.dollars_per_million == pytest.approx(rent * decode.time / 32 * 1e6)
    assert found.dollars == pytest.approx(rent * (prefill.time + 128 * decode.time / 32))
    assert found.tokens.output.joules_per_million == pytest.approx(decode.energy / 32 * 1.56 * 1e6)


def test_a_generation_is_its_prefill_and_its_decoding():
    whole = analyze("llama-3.1-8b", "h100-sxm", phase="generate", batch=[1, 8], prompt=512, output=[16, 64], level="ideal")
    found = analysis_cost(whole)
    assert found is not None
    assert found.input is not None
    assert found.output is not None
    assert found.input.dollars + found.output.dollars == pytest.approx(found.whole.dollars)
    one = analysis_cost(analyze("llama-3.1-8b", "h100-sxm", phase="generate", batch=8, prompt=512, output=64, level="ideal"))
    alone = analysis_cost(analyze("llama-3.1-8b", "h100-sxm", phase="prefill", batch=8, prompt=512, level="ideal"))
    assert one is not None
    assert alone is not None
    assert one.output is not None
    assert one.input is not None
    assert alone.input is not None
    assert found.output.dollars_per_million[1, 1] == pytest.approx(one.output.dollars_per_million)
    assert one.input.dollars_per_million == pytest.approx(alone.input.dollars_per_million)
    assert one.output.dollars_per_million > 10 * one.input.dollars_per_million  # decode moves the weights for each token


def test_samples_share_the_price_of_their_prompt():
    one, four = (
        analysis_cost(analyze("llama-3.1-8b", "h100-sxm", phase="prefill", batch=4, samples=count, prompt=512, level="ideal"))
        for count in (1, 4)
    )
    assert one is not None
    assert four is not None
    assert one.input is not None
    assert four.input is not None
    assert one.input.tokens == 4 * four.input.tokens


def test_no_price_no_dollars():
    step = analyze("bert-base", "gemmini", prompt=64, precision="int8", level="ideal")
    assert priced("gemmini") == ()
    assert analysis_cost(step) is None
    assert token_cost_record(None) is None
    with pytest.raises(InputError, match="has no purchase price"):
        analysis_cost(step, prices="purchase")


def test_mixed_steps_are_shared_by_what_each_would_take():
    found = money.step_shares(time=np.array([9.0, 4.0, 0.0]), prompt=np.array([4.0, 4.0, 0.0]), decode=np.array([8.0, 0.0, 0.0]))
    assert found.prompt.tolist() == [3.0, 4.0, 0.0]
    assert found.decode.tolist() == [6.0, 0.0, 0.0]


# ---- silicon ----------------------------------------------------------------------------------------------------------------


def test_whole_dies_counted_one_by_one():
    """Squares that lie within the circle, over where the grid lies: the formula is 0 to 5.5 % below their mean up to a reticle."""
    for area in (50e-6, 100e-6, 300e-6, 814e-6):
        side, radius = area**0.5, 0.147
        steps, shifts = np.arange(-60, 60), np.arange(0.0, 1.0, 0.2)
        counts: list[int] = []
        for shift_x in shifts:
            for shift_y in shifts:
                x, y = np.meshgrid((steps + shift_x) * side, (steps + shift_y) * side)
                far = np.maximum(np.abs(x), np.abs(x + side)) ** 2 + np.maximum(np.abs(y), np.abs(y + side)) ** 2
                counts.append(int(np.sum(far <= radius**2)))
        dies = money.gross_dies(diameter=0.3, area=area, edge=3e-3, scribe=0.0)
        assert 0.945 < dies / np.mean(counts) < 1.0


def test_the_models_of_yield_are_in_their_order():
    """Poisson is the lowest, then Murphy; many clusters are Poisson, α = 1 is 1 / (1 + A·D); without defects all are good."""
    for area in (5e-5, 3e-4, 8e-4):
        at = {"area": area, "defects": 1000.0}
        poisson, murphy = money.poisson_yield(**at), money.murphy_yield(**at)
        clustered = money.negative_binomial_yield(**at, clustering=3.0)
        assert poisson < murphy < clustered < money.negative_binomial_yield(**at, clustering=1.0)
        assert money.negative_binomial_yield(**at, clustering=1e7) == pytest.approx(poisson, rel=1e-6)
        assert money.negative_binomial_yield(**at, clustering=1.0) == pytest.approx(1 / (1 + area * 1000.0))
        assert money.bose_einstein_yield(area=area, defects=1e-4, layers=1e7) == pytest.approx(poisson, rel=1e-6)
    nothing = {"area": 1e-4, "defects": 0.0}
    assert money.poisson_yield(**nothing) == money.murphy_yield(**nothing) == 1.0
    assert money.negative_binomial_yield(**nothing, clustering=3.0) == money.bose_einstein_yield(**nothing, layers=9.0) == 1.0


def test_murphy_is_the_mean_of_poisson_over_a_triangle():
    """∫ e^(−A·d) f(d) over a triangle of densities from 0 to 2·D, by the midpoint rule."""
    expected = 0.9
    grid = (np.arange(200_000) + 0.5) / 100_000  # of d / D
    weight = np.minimum(grid, 2.0 - grid)
    mean = float(np.sum(np.exp(-expected * grid) * weight) / np.sum(weight))
    assert money.murphy_yield(area=expected * 1e-4, defects=1e4) == pytest.approx(mean, rel=1e-8)


def test_an_h100_against_its_published_bill(facts: Path):
    """3320 dollars in 2023, 36 % of it memory at 15 dollars a GB. Ours has no board, test, substrate: it is below, above half."""
    stated = json.loads((facts / "reference/D_fleetwood_dsa.json").read_text(encoding="utf-8"))["cost"]
    made = die_cost("h100-sxm")
    assert made.memory == pytest.approx(0.36 * stated["H100_BOM_USD_2023"], rel=0.01)
    assert prices.prices()[("memory", "HBM3")].value == pytest.approx(stated["HBM3_USD_per_GB"] * 1e-9)
    assert 0.6 < made.package / stated["H100_BOM_USD_2023"] < 1.0


def test_a_larger_die_costs_more_than_in_proportion():
    at = fabrication_of(load_chip("h100-sxm"))
    small, large = (made_of(area, None, None, at)[0] for area in (2e-4, 4e-4))
    assert large > 2.2 * small


def test_a_package_adds_up():
    made = die_cost("a100-sxm-80gb", assembled=0.9, packaging=500.0, wafer="10000 USD", yield_model="poisson", defects="0.1 1/cm2")
    assert made.good == pytest.approx(math.exp(-made.area * 1000.0))
    assert made.die == pytest.approx(10_000 / (made.dies * made.good))
    assert made.memory is not None
    assert made.package == pytest.approx((made.die + made.memory + 500.0) / 0.9)


# ---- what is refused --------------------------------------------------------------------------------------------------------

BAD_TERMS: list[Any] = [
    ({"life": 0.0}, "life 0"),
    ({"life": "0 year"}, "life 0"),
    ({"residual": 1.5}, "residual 1.5"),
    ({"utilisation": 0.0}, "utilisation 0"),
    ({"utilisation": 1.2}, "utilisation 1.2"),
    ({"pue": 0.9}, "pue 0.9"),
    ({"electricity": "0.1 USD/m"}, "does not measure"),
    ({"electricity": -1.0}, "0 or more"),
    ({"lifetime": 1.0}, "life"),
]


@pytest.mark.parametrize(("given", "message"), BAD_TERMS)
def test_bad_terms(given: Any, message: str):
    with pytest.raises(InputError, match=message):
        terms_of(given)


BAD_SILICON: list[Any] = [
    ({"assembled": 1.2}, "assembled 1.2: a yield"),
    ({"clustering": 0.0}, "clustering 0"),
    ({"yield_model": "seeds"}, "choose poisson"),
    ({"wafer": 0.0}, "wafer 0"),
    ({"defects": "0.1 cm2"}, "does not measure"),
    ({"diameter": "20 mm"}, "does not fit a wafer"),
    ({"waver": 1.0}, "wafer"),
]


@pytest.mark.parametrize(("given", "message"), BAD_SILICON)
def test_bad_silicon(given: Any, message: str):
    with pytest.raises(InputError, match=message):
        die_cost("h100-sxm", **given)


def test_a_price_without_a_year(tmp_path: Path):
    path = tmp_path / "mine.toml"
    path.write_text(
        "name = 'mine'\n[package]\nprice = { value = 100, unit = 'USD', estimate = true, note = 'mine' }\n"
        "[matrix_unit.rate]\nbf16 = { value = 1, unit = 'TFLOP/s', estimate = true, note = 'mine' }\n"
        "[[memory]]\nname = 'dram'\nrole = 'dram'\ncapacity = '1 GB'\nbandwidth = '1 GB/s'\n"
    )
    with pytest.raises(InputError, match=r"`package.price`: a price is of a year"):
        load_chip(str(path))
    row = dict.fromkeys(("source", "where", "confidence", "note", "year"), "")
    with pytest.raises(InputError, match="needs the year"):
        prices.read_price(row | {"quantity": "wafer", "of": "5 nm", "value": "1", "unit": "USD"})


def test_other_bad_input():
    with pytest.raises(InputError, match="choose purchase or rental"):
        read_pricing(["cheap"])
    with pytest.raises(InputError, match="has no rental price"):
        rate_of("v100-pcie-32gb", prices="rental")
    with pytest.raises(InputError, match="die_area"):
        die_cost("gemmini")
    with pytest.raises(InputError, match="encoder"):
        request_cost("bert-base", "h100-sxm")
    with pytest.raises(InputError, match="whole number"):
        request_cost("llama-3.1-8b", "h100-sxm", prompt=0)
    with pytest.raises(InputError, match="name and a value"):
        machine_cost("h100-sxm", silicon=["wafer"])


# ---- reports ----------------------------------------------------------------------------------------------------------------


def test_the_answer_of_cost():
    found = machine_cost(load_system("dgx-h100"), model="llama-3.1-8b", plan="tp=8", level="ideal", price=["life=4 year"])
    record = cost_record(*found)
    json.dumps(record, allow_nan=False)
    assert record["ownership"]["terms"]["life"] == pytest.approx(4 * YEAR)
    assert record["ownership"]["chips"] == 8
    assert set(record["request"]["dollars_per_million_tokens"]) == {"input", "output"}
    assert record["silicon"]["package"] > record["silicon"]["die"]
    assert {one["key"] for one in record["sources"]} >= {"khan2020aichips", "eia2024annual", "epoch2024servercost"}
    with console().capture() as text:
        console().print(cost_tables(*found))
    assert text is not None
    assert "USD an hour" in panels_html(cost_picture(*found), whole=False)


def test_nulls_where_a_point_does_not_fit():
    step = analyze("llama-3.1-8b", "h100-sxm", batch=[1, 100_000], context=2048, level="ideal")
    record = token_cost_record(analysis_cost(step), step.estimate.feasible)
    assert record is not None
    first, second = record["dollars_per_million_tokens"]["output"]
    assert first > 0
    assert second is None


def test_a_cheaper_chip_is_cheaper():
    chip = with_quantity(load_chip("h100-sxm"), "package.price", 15_000.0)
    dear, cheap = (rate_of(one, terms=FREE).whole for one in ("h100-sxm", chip))
    assert cheap == pytest.approx(dear / 2)


# ---- served runs ------------------------------------------------------------------------------------------------------------


def test_charges_of_a_run_by_hand():
    """Steps of straight lines: a second a prompt token alone, half a second a sequence that decodes, one second of base each."""

    class Machine(LinearStepTime):
        def step(self, decode: int, context: float, chunks: Any, ends: int) -> StepCost:
            del context, ends
            time = 1.0 + sum(chunk.new for chunk in chunks) + 0.5 * decode
            return StepCost(time, 2.0 * time)

    def row(replica: int, start: float, end: float, steps: int, decode: int, prefill: int) -> StepRecord:
        return StepRecord(replica, start, end, steps, decode, decode, prefill, 0, 0, 0, 0, float(decode), 0.0)

    log = (row(0, 0.0, 8.0, 1, 0, 7), row(0, 8.0, 14.0, 1, 2, 4), row(0, 14.0, 18.0, 2, 2, 0), row(1, 0.0, 4.0, 2, 2, 0))
    played: Any = SimpleNamespace(log=log, busy=(18.0, 4.0, 0.0))
    found = charge(played, Machine(base=1.0), context=10.0, longest=5)
    mixed = 6.0 * 5.0 / 7.0  # alone: five seconds for four tokens, two for two sequences
    first = (8.0 + mixed) / 18.0
    both = (8.0 + mixed) / 22.0  # of the replica that never stepped
    assert found.time == pytest.approx((first + 0.0 + both) / 3)
    assert found.energy == pytest.approx((16.0 + 10.0) / (16.0 + 10.0 + 4.0 + 2 * 4.0 + 2 * 4.0))


def test_a_served_run_pays_its_idle_time():
    """All dollars are the machine's time and energy; at a tenth of the load a token costs several times as much."""
    runs = [serve("llama-3.1-8b", "h100-sxm", rate=rate, requests=60, prompt=400, output=40, seed=1) for rate in (20.0, 2.0)]
    paid = [served_cost(one) for one in runs]
    for run, one in zip(runs, paid, strict=True):
        assert one is not None
        assert one.input is not None
        assert one.output is not None
        assert one.input.dollars + one.output.dollars == pytest.approx(one.whole.dollars, rel=1e-12)
        rate = one.rate
        energy = (run.metrics.energy or 0.0) * rate.energy_price
        assert one.whole.dollars == pytest.approx(rate.fixed * run.metrics.duration + energy, rel=1e-12)
        assert one.output.tokens == pytest.approx(60 * 40)
        assert 0.0 < run.charges.time < 1.0
    assert paid[1].output.dollars_per_million > 2 * paid[0].output.dollars_per_million  # pyright: ignore[reportOptionalMemberAccess]
    assert served_cost(runs[0], ["rental"]).rate.kind == "rental"  # pyright: ignore[reportOptionalMemberAccess]


def test_several_dies_are_several_dies():
    """Eight dies of 115 mm² each, not one of 920."""
    made = die_cost("mi300x")
    alone = die_cost("mi300x", wafer=made.fabrication.wafer).fabrication
    each, _ = made_of(made.area / 8, None, None, alone)
    assert made.parts == 8
    assert made.die == pytest.approx(8 * each)
    assert made.good > 0.85
