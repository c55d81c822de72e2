"""Power: boards by what they do, limits, the wall, and what is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from ridgeline.api import analyze, drawn, load_chip, load_model, load_system, with_power_limit, with_stack
from ridgeline.cli import app
from ridgeline.costs.ideal import Machine, ideal_cost
from ridgeline.errors import InputError
from ridgeline.estimate import estimate, step_operations
from ridgeline.mapping.activity import active_energy, standing, within_limit
from ridgeline.mapping.many_core_step import kernels
from ridgeline.parallel import estimate_plan
from ridgeline.results import Estimate
from ridgeline.serving.surface import Extent, Surface
from ridgeline.specs.plan import Plan
from ridgeline.specs.precision import Precision
from ridgeline.specs.scenario import Scenario

CHIP = "a100-sxm-80gb"


def power(**asked: object) -> float:
    found = drawn(analyze("llama-3.1-8b", CHIP, **asked))
    assert found is not None
    return float(found.boards)


def test_a_board_draws_between_its_running_clocks_and_its_limit():
    """400 W of which a fifth whatever runs [power_share of the family]: 80 W at least."""
    for batch in (1, 16, 256):
        assert 80.0 < power(phase="decode", batch=batch, context=1000) <= 400.0


def test_prompts_draw_more_than_the_decode_of_one_sequence():
    assert power(phase="prefill", batch=4, prompt=2048) > 1.2 * power(phase="decode", batch=1, context=1000)


def test_more_cache_to_attend_to_draws_more():
    drawn_by = [power(phase="decode", batch=batch, context=1500) for batch in (1, 16, 64)]
    assert drawn_by == sorted(drawn_by)


def test_static_energy_is_running_power_but_for_the_wait_for_the_host():
    chip = load_chip(CHIP)
    idle = chip.package.idle_power
    assert standing(chip, "mapped", 1.0, 0.0) == pytest.approx(80.0, rel=1e-12)
    assert standing(chip, "mapped", 1.0, 1.0) == pytest.approx(idle, rel=1e-12)
    assert standing(chip, "ideal", 1.0, 0.0) == pytest.approx(idle, rel=1e-12)


def test_components_by_hand():
    """A product of one row switches 16; a byte of its weights costs some FLOPs at 16 bits on its way."""
    chip = load_chip(CHIP)
    machine = Machine.of(chip, None, "cold")
    precision = Precision.parse("bf16")
    step = step_operations(load_model("llama-3.1-8b"), Scenario(phase="decode", batch=1.0, context=100.0), precision)
    one = next(each for each in kernels(step, chip.stack) if each.name.startswith("feed-forward down"))
    least = ideal_cost(machine, one)
    moved = least.bytes["hbm"]
    found = active_energy(machine, one, moved, least.energy)
    flop = chip.matrix_unit.energy["bf16"]
    assert found["compute"] == pytest.approx(16.0 * least.flops * flop, rel=1e-12)
    assert found["on-chip"] == pytest.approx(moved * chip.efficiency.delivery * flop, rel=1e-12)
    assert found["memory.hbm"] == least.energy["memory.hbm"]


def test_query_heads_that_read_for_themselves_ask_for_more():
    chip = load_chip(CHIP)
    greedy = replace(chip, stack=replace(chip.stack, reads_by_head=True))
    precision = Precision.parse("bf16")
    step = step_operations(load_model("llama-3.1-8b"), Scenario(phase="decode", batch=8.0, context=1000.0), precision)
    one = next(each for each in kernels(step, chip.stack) if each.name == "attention")

    def spent(which: object) -> float:
        machine = Machine.of(which, None, "cold")
        least = ideal_cost(machine, one)
        return active_energy(machine, one, least.bytes["hbm"], least.energy)["compute"]

    assert spent(greedy) == pytest.approx(4.0 * spent(chip), rel=1e-9)  # four query heads a KV head


def test_work_cannot_draw_more_than_the_limit_leaves():
    chip = load_chip(CHIP)
    kept = within_limit(chip, "mapped", {"compute": 600.0, "on-chip": 200.0}, 1.0)
    assert sum(kept.values()) == pytest.approx(320.0, rel=1e-12)
    assert kept["compute"] == pytest.approx(240.0, rel=1e-12)
    assert within_limit(chip, "mapped", {"compute": 100.0}, 1.0) == {"compute": pytest.approx(100.0)}


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_a_limit_below_the_boards_own_is_kept_and_takes_time(phase: str):
    asked = {"phase": phase, "batch": 4, "prompt": 2048, "context": 2048}
    times = []
    for limit in (300.0, 200.0, 120.0):
        found = analyze("llama-3.1-8b", with_power_limit(CHIP, limit), **asked)
        assert float(found.estimate.energy / found.estimate.time) <= limit * (1 + 1e-9)
        times.append(float(found.estimate.time))
    assert times == sorted(times)
    assert times[-1] > 1.5 * times[0]


def test_a_limit_at_the_boards_own_changes_nothing():
    """Within rounding: the board's own limit bounds energy, one set by hand bounds time as well."""
    plain = analyze("llama-3.1-8b", CHIP, phase="decode", batch=1, context=500)
    capped = analyze("llama-3.1-8b", with_power_limit(CHIP, 400.0), phase="decode", batch=1, context=500)
    assert float(capped.estimate.time) == pytest.approx(float(plain.estimate.time), rel=1e-9)


@pytest.mark.parametrize(("limit", "said"), [(55.0, "80 W whenever its clocks run"), (70.0, "60 W idle"), (500.0, "400 W")])
def test_a_limit_that_the_board_cannot_keep_is_refused(limit: float, said: str):
    with pytest.raises(InputError, match=said):
        with_power_limit(CHIP, limit)


def test_a_chip_without_kernels_of_many_cores_has_no_power_limit():
    with pytest.raises(InputError, match="no kernels of many cores"):
        with_power_limit("tpu-v1", 30.0)


def test_the_wall_adds_the_chips_share_of_the_box():
    """DGX A100: 3.3 kW beside eight boards; half of the chips, half of it."""
    for chips, box in ((8, 3300.0), (4, 1650.0)):
        found = drawn(analyze("llama-3.1-70b", "dgx-a100", plan=f"tp={chips}", phase="decode", batch=16, context=1000))
        assert found is not None
        assert found.box is not None
        assert float(found.box) == pytest.approx(box)
        assert float(found.wall) == pytest.approx(float(found.boards) + box)
        assert 80.0 * chips < float(found.boards) <= 400.0 * chips


def test_a_stack_that_waits_for_its_host_draws_less():
    graph = power(phase="decode", batch=1, context=500)
    eager = drawn(analyze("llama-3.1-8b", with_stack(CHIP, "pytorch-eager"), phase="decode", batch=1, context=500))
    assert eager is not None
    assert float(eager.boards) < graph


def test_an_estimate_of_arrays_has_the_energy_of_its_points():
    chip, model = load_chip(CHIP), load_model("llama-3.1-8b")
    precision = Precision.parse("bf16")
    many = estimate(chip, model, Scenario(phase="decode", batch=np.array([1.0, 64.0]), context=900.0), precision, level="mapped")
    for index, batch in enumerate((1.0, 64.0)):
        one = estimate(chip, model, Scenario(phase="decode", batch=batch, context=900.0), precision, level="mapped")
        assert float(many.energy[index]) == pytest.approx(float(one.energy), rel=1e-9)


def test_the_command_prints_power_and_keeps_a_limit():
    asked = ["analyze", "llama-3.1-8b", CHIP, "--phase", "prefill", "--power-limit", "250 W", "--json"]
    found = CliRunner().invoke(app, asked)
    assert found.exit_code == 0
    record = json.loads(found.stdout)
    assert record["power"] == pytest.approx(250.0, rel=1e-6)
    assert record["wall_power"] is None
    refused = CliRunner().invoke(app, [*asked, "--level", "ideal"])
    assert isinstance(refused.exception, InputError)


def test_a_service_under_a_plan_draws_what_its_steps_do():
    """The energy of a surface is that of all chips of the plan, as the estimate's."""
    system, model = load_system("dgx-a100"), load_model("llama-3.1-70b")

    def run(scenario: Scenario) -> Estimate:
        return estimate_plan(system, model, scenario, Precision.parse("bf16"), Plan(tensor=8), level="mapped")

    surface = Surface(run, Extent(sequences=32, context=1200, chunk=256, tokens=288))
    found = run(Scenario(phase="decode", batch=16.0, context=1000.0))
    line = surface.decode_line(16, 1000.0)
    assert line.energy + surface.static_power * line.time == pytest.approx(float(found.energy), rel=0.03)
