"""The contract of every cost function: batches, dimensions, array libraries, gradients, bounds, and never slower with more.

A new public function of `ridgeline.costs` fails `test_every_cost_function_is_here` until it has a row in `FUNCTIONS`.
"""

import importlib
import inspect
import pkgutil
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import cache
from itertools import pairwise
from types import MappingProxyType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import array_api_strict
import numpy as np
import pint
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ridgeline import costs
from ridgeline.api import load_chip, load_model
from ridgeline.costs.ideal import Machine, ideal_cost
from ridgeline.estimate import estimate, fold, step_operations
from ridgeline.mapping.fusion import fuse
from ridgeline.quantities import Unit
from ridgeline.results import Operation, Product, Tensor
from ridgeline.specs.base import quantities, units_of, with_quantity
from ridgeline.specs.chip import Chip
from ridgeline.specs.number_format import FORMATS, NumberFormat
from ridgeline.specs.precision import Precision
from ridgeline.specs.scenario import Scenario

# ---- every cost function, with typical arguments ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """Arguments of a cost function that may be arrays, those that are options, and those that are its work."""

    arguments: dict[str, float]
    options: dict[str, Any] = field(default_factory=dict)
    work: tuple[str, ...] = ()  # without these it costs nothing


FUNCTIONS: dict[str, list[Case]] = {
    "matmul.compute_time": [Case({"flops": 2e12, "rate": 1e15}, work=("flops",))],
    "matmul.ridge": [Case({"rate": 989e12, "bandwidth": 3.35e12})],
    "matmul.intensity": [Case({"m": 64.0, "n": 4096.0, "k": 1024.0, "element": 2.0}, work=("m",))],
    "matmul.critical_batch": [Case({"rate": 989e12, "bandwidth": 3.35e12, "weight": 1.0})],
    "matmul.critical_batch_exact": [
        Case({"rate": 989e12, "bandwidth": 3.35e12, "weight": 2.0, "activation": 1.0, "output": 2.0, "n": 4096.0, "k": 14336.0})
    ],
    "attention.intensity": [Case({"queries": 64.0, "keys": 4096.0, "element": 2.0}, work=("queries",))],
    "attention.critical_tokens": [
        Case({"ops_per_byte": 295.0, "element": 2.0, "group": 4.0}, {"causal": causal}) for causal in (False, True)
    ],
    "attention.cache_bytes_per_token": [
        Case({"layers": 61.0, "kv_heads": 8.0, "head_size": 128.0, "element": 2.0}, work=("kv_heads",))
    ],
    "attention.latent_cache_bytes_per_token": [
        Case({"layers": 61.0, "rank": 512.0, "rotary_size": 64.0, "element": 2.0}, work=("rank", "rotary_size"))
    ],
    "elementwise.vector_time": [
        Case({"lane": 4e9, "special": 1e9, "lane_rate": 33e12, "special_rate": 4e12}, work=("lane", "special")),
        Case({"lane": 4e10, "special": 1e9, "lane_rate": 33e12, "special_rate": 4e12}, work=("lane", "special")),
    ],
    "functions.polynomial_operations": [Case({"lane": 4e6, "special": 1e6}, {"function": "silu"}, work=("lane", "special"))],
    "functions.software_time": [
        Case({"lane": 4e6, "special": 1e6, "passes": 3e6, "rate": 250e6}, work=("lane", "special", "passes"))
    ],
    "functions.conversion_time": [Case({"read": 1e6, "written": 2e6, "rate": 250e6}, work=("read", "written"))],
    "functions.host_transfer_time": [Case({"bytes": 4e9, "bandwidth": 2e9, "latency": 0.0}, work=("bytes",))],
    "memory.transfer_time": [Case({"bytes": 16e9, "bandwidth": 3.2e12}, work=("bytes",))],
    "memory.bytes_in_flight": [Case({"latency": 600e-9, "bandwidth": 3.35e12})],
    "collective.ops_per_communicated_byte": [Case({"rate": 989e12, "bandwidth": 900e9})],
    "collective.tensor_parallel_limit": [Case({"width": 18432.0, "ops_per_byte": 1099.0, "element": 2.0})],
    "collective.distributed_load_time": [
        Case({"parameters": 671e9, "chips": 8.0, "bandwidth": 3.35e12, "weight": 1.0}, work=("parameters",))
    ],
    "energy.arithmetic_energy": [Case({"flops": 1e12, "energy": 0.5e-12}, work=("flops",))],
    "energy.transfer_energy": [Case({"bytes": 1e9, "energy": 32e-12}, work=("bytes",))],
    "energy.static_energy": [Case({"time": 0.01, "power": 75.0}, work=("time",))],
}
GEMM = {"m": 100.0, "n": 40.0, "k": 70.0, "rows": 18.3, "columns": 15.3}  # away from every step of folds and of adder trees
FUNCTIONS |= {
    "memory.achieved_bandwidth": [
        Case({"bandwidth": 2e12, "in_flight": 16e3, "latency": 8e-7}),
        Case({"bandwidth": 2e9, "in_flight": 16e3, "latency": 8e-7}),
    ],
    "memory.burst_bytes": [Case({"bytes": 1e6, "contiguous": 100.0, "burst": 64.0}, work=("bytes",))],
    "memory.cache_traffic": [Case({"footprint": size, "passes": 4.0, "capacity": 5e7}, work=("footprint",)) for size in (3e7, 6e7)],
    "memory.scratchpad_traffic": [
        Case({"footprint": size, "passes": 4.0, "capacity": 5e7}, work=("footprint",)) for size in (3e7, 6e7)
    ],
    "memory.binding_miss_time": [Case({"miss_share": 0.2, "operation_time": 1e-9}, work=("operation_time",))],
    "memory.pipeline_time": [
        Case({"load": 2e-6, "compute": 3e-6, "store": 1e-6, "tiles": 10.0}, {"asynchronous": one}, ("load", "compute", "store"))
        for one in (True, False)
    ],
    "memory.issue_share": [Case({"bytes": 4100.0, "burst": 64.0, "slots": 2.0, "rate": 1e9}, work=("bytes",))],
    **{
        f"systolic.{name}": [Case(GEMM, {"pipelined": one}) for one in (False, True)]
        for name in ("weight_stationary", "input_stationary", "output_stationary", "no_local_reuse")
    },
    "row_stationary.run_length_bytes": [Case({"bytes": 1e6, "zeros": zeros}, work=("bytes",)) for zeros in (0.1, 0.27)],
    "systolic.temporal": [Case(GEMM | {"depth": 8.5})],
    "systolic.row_stationary": [
        Case(
            {"filters": 96.3, "channels": 3.3, "filter_rows": 11.0, "filter_columns": 11.0, "output_rows": 55.0}
            | {"output_columns": 55.0, "images": 4.4, "rows": 12.5, "columns": 14.0}
        )
    ],
}
FUNCTIONS |= {
    "energy.adder_energy": [Case({"bits": 32.0, "energy": 3.2e-15}, work=("bits",))],
    "energy.multiplier_energy": [Case({"significand": 8.0, "energy": 3e-15}, work=("significand",))],
    "energy.float_multiplier_energy": [
        Case({"significand": 11.0, "energy": 4e-15, "rounding": 54e-15}, work=("significand",)),
    ],
    "energy.float_adder_energy": [Case({"significand": 24.0, "energy": 37e-15}, work=("significand",))],
    "energy.alignment_energy": [Case({"product": 22.0, "window": 24.0, "energy": 37e-15}, work=("product", "window"))],
    "energy.shifter_energy": [Case({"bits": 24.0, "energy": 1e-15}, work=("bits",))],
    "energy.divider_energy": [Case({"bits": 32.0, "adder": 3.2e-15, "register": 9e-15}, work=("bits",))],
    "energy.sram_energy": [Case({"capacity": 262144.0, "width": 16.0, "energy": 4.5e-15})],
    "energy.wire_energy": [Case({"distance": 1e-4, "voltage": 0.9, "capacitance": 2e-10}, work=("distance",))],
    "energy.hop_energy": [
        Case(
            {"distance": 1e-4, "voltage": 0.9, "capacitance": 2e-10, "read": 1e-14, "write": 2e-14},
            work=("distance", "read", "write"),
        )
    ],
    "energy.leakage_power": [Case({"area": 1e-6, "density": 2e4}, work=("area",))],
    "area.adder_area": [Case({"bits": 32.0, "area": 4e-12}, work=("bits",))],
    "area.multiplier_area": [Case({"significand": 8.0, "area": 3e-12, "adder": 4e-12}, work=("significand",))],
    "area.float_multiplier_area": [Case({"significand": 11.0, "area": 13e-12}, work=("significand",))],
    "area.float_adder_area": [Case({"significand": 24.0, "area": 33e-12}, work=("significand",))],
    "area.alignment_area": [Case({"product": 22.0, "window": 24.0, "area": 33e-12}, work=("product", "window"))],
    "area.shifter_area": [Case({"bits": 24.0, "area": 2e-12}, work=("bits",))],
    "area.divider_area": [Case({"bits": 32.0, "adder": 4e-12, "register": 6e-12}, work=("bits",))],
    "area.register_area": [Case({"bits": 32.0, "area": 6e-12}, work=("bits",))],
    "area.sram_area": [Case({"bits": 65536.0, "cell": 3e-13, "periphery": 1.3}, work=("bits",))],
}
COLLECTIVE = {"bytes": 3.7e6, "count": 12.3, "bandwidth": 4.5e10, "latency": 1e-6}  # away from every step of floors
FUNCTIONS |= {
    **{f"collective.{name}": [Case(COLLECTIVE, work=("bytes",))] for name in ("one_shot", "scatter_all_gather", "ring_all_to_all")},
    "collective.line_all_to_all": [Case(COLLECTIVE | {"bytes": size}, work=("bytes",)) for size in (3.7e6, 3.7e5, 3e3)],
    **{
        f"collective.{name}": [Case(COLLECTIVE | {"passes": 2.0}, work=("bytes",))]
        for name in ("ring", "bidirectional_ring", "line", "halving_doubling", "direct", "binomial_tree")
    },
    **{f"collective.{name}": [Case(COLLECTIVE | {"chunks": 9.0}, work=("bytes",))] for name in ("chain", "in_network")},
    **{
        f"collective.{name}": [Case(COLLECTIVE | {"chunks": 9.0, "passes": 2.0}, work=("bytes",))]
        for name in ("binary_tree", "double_tree")
    },
    "collective.multicast": [Case(COLLECTIVE | {"senders": senders}, work=("bytes",)) for senders in (1.0, 12.3)],
    "collective.bisection_time": [Case({"bytes": 3.7e6, "count": 12.0, "bisection": 2e11}, work=("bytes",))],
    "collective.send_receive": [Case({"bytes": 3.7e6, "hops": 3.0, "bandwidth": 4.5e10, "latency": 1e-6}, work=("bytes",))],
    "collective.pipeline_chunks": [Case({"bytes": 3.7e6, "depth": 4.0, "bandwidth": 4.5e10, "latency": 1e-6})],
}
FUNCTIONS |= {
    "waves.rounds": [Case({"tiles": 120.5, "cores": 108.3})],
    "waves.tile_time": [Case({"rows": 128.0, "columns": 64.0, "depth": 1000.0, "rate": 2.9e12, "loss": 4.0}, work=("depth",))],
    "waves.operand_traffic": [
        Case({"m": 9e3, "n": 8e3, "k": k, "left": 2.0, "right": 1.0, "wave": 1.7e6, "capacity": 4e7}, work=("k",))
        for k in (200.0, 2e3, 2e4)
    ],
    "waves.resident_share": [Case({"footprint": size, "capacity": 9.6e7}) for size in (5e7, 1.1e8, 2e8)],
    "waves.overlapped_time": [Case({"compute": 2e-5, "memory": 1e-5, "exposed": 0.2}, work=("compute", "memory"))],
    "power.limited_time": [
        Case(
            {"flops": 2e12, "flop_energy": 1.2e-12, "bytes": 1e9, "byte_energy": 5e-11, "power": 350.0, "share": 0.8},
            work=("flops", "bytes"),
        )
    ],
    "power.running_power": [Case({"limit": 350.0, "share": 0.8})],
    "power.work_power": [Case({"limit": 350.0, "share": 0.8, "cap": cap}) for cap in (200.0, 349.0)],
    "power.standing_energy": [Case({"time": 0.02, "waiting": 0.004, "running": 70.0, "idle": 33.0}, work=("time", "waiting"))],
    "power.attending_energy": [Case({"bytes": 1e9, "intensity": 132.0, "energy": 1.2e-12}, work=("bytes",))],
    "power.padded_flops": [Case({"flops": 2e9, "rows": rows, "tile": 16.0}, work=("flops",)) for rows in (3.0, 40.0)],
    "power.capped_time": [Case({"time": 0.02, "work": work, "power": 200.0}, work=("time", "work")) for work in (2.0, 9.0)],
    "power.wall_power": [Case({"boards": 2400.0, "box": 3300.0, "conversion": 0.94})],
    "attention_blocks.chain_time": [
        Case({"blocks": count, "cores": 108.0, "wait": 3e-6, "work": 1e-6, "beside": beside}, work=("wait", "work"))
        for count, beside in ((50.0, 3.0), (500.0, 2.0))
    ],
    "attention_blocks.score_time": [
        Case(
            {"products": 5e12, "rate": 3e14, "lane": 2e11, "lane_rate": 2e13, "special": 1e10, "special_rate": 2e12}
            | {"overlapped": share},
            work=("products", "lane", "special"),
        )
        for share in (0.2, 0.9)
    ],
    "attention_blocks.contended_time": [
        Case({"blocks": count, "cores": 108.0, "block": 3e-6, "loss": 0.7}, work=("block",)) for count in (50.0, 500.0)
    ],
    "host.exposed_issue": [
        Case({"kernels": 1200.0, "issue": issue, "device": 1.4e-2}, work=("kernels",)) for issue in (5e-6, 3e-5)
    ],
    "kernels.missed_share": [Case({"row": size, "rows": 16.0, "capacity": 1.6e5}) for size in (4e3, 4e4)],
    "kernels.rows_time": [
        Case({"rows": rows, "length": 9e3, "threads": 1024.0, "wait": 7e-7, "cores": 108.0, "beside": 2.0}, work=("wait",))
        for rows in (4.0, 3e3)
    ],
    "waves.channel_turns": [Case({"stride": stride, "period": 65536.0}) for stride in (8e3, 131072.0, 262144.0)],
    "kernels.stream_time": [
        Case(
            {"bytes": size, "bandwidth": 1e12, "lane": 1e9, "lane_rate": 1e13, "special": 1e8, "special_rate": 1e12},
            work=("bytes", "lane", "special"),
        )
        for size in (1e9, 1e7)
    ],
}
GPT = {"sequence": 1024.0, "batch": 4.0, "hidden": 1600.0}
STATES = {"weights": 3e9, "gradients": 3e9, "ranks": 12.0}
FUNCTIONS |= {
    "training.zero_partition": [Case(STATES | {"optimizer": 18e9}, {"stage": stage}) for stage in range(4)],
    "training.zero_traffic": [Case(STATES, {"stage": stage}, work=("weights", "gradients")) for stage in range(4)],
    "training.layer_activations": [
        Case(GPT | {"heads": 25.0, "element": 2.0, "mask": 1.0}, {"rematerialisation": mode}, work=("batch",))
        for mode in ("none", "selective", "full")
    ],
    "training.end_activations": [
        Case(GPT | {"vocabulary": 50257.0, "element": 2.0, "mask": 1.0, "logit": 4.0}, work=("batch",)),
    ],
    "training.training_flops": [Case({"parameters": 1.5e9, "tokens": 4096.0}, work=("tokens",))],
    "training.gpt_training_flops": [Case(GPT | {"layers": 48.0, "vocabulary": 50257.0}, work=("batch",))],
}
STAGES = {"fill": 4.1e-3, "slowest": 1.2e-3, "micro_batches": 2.0}
SQUARE = {"rows": 512.0, "inputs": 8192.0, "outputs": 28672.0, "side": 4.0, "copies": 2.0, "element": 2.0}
FUNCTIONS |= {
    "parallel.bubble_share": [Case({"stages": 4.0, "micro_batches": 9.0, "chunks": 2.0})],
    "parallel.pipeline_time": [Case(STAGES | {"chunks": 2.0}, work=("fill", "slowest"))],
    "parallel.steady_period": [
        Case(STAGES, work=("fill", "slowest")),
        Case(STAGES | {"micro_batches": 6.0}, work=("fill", "slowest")),
    ],
    "parallel.overlapped_time": [
        Case({"compute": 3e-3, "communication": size, "overlap": 0.5, "cores": 0.25}, work=("compute", "communication"))
        for size in (2e-3, 2e-2)
    ],
    "parallel.ring_attention_block": [Case({"rate": 989e12, "bandwidth": 450e9, "element": 2.0, "group": 8.0})],
    "parallel.product_pair_bytes": [Case({"rows": 512.0, "hidden": 8192.0, "chips": 8.0, "element": 2.0}, work=("rows",))],
    "parallel.block_product_bytes": [Case(SQUARE, work=("rows",))],
    "parallel.paged_tokens": [Case({"tokens": 100.0, "page": 16.5}, work=("tokens",))],
    "parallel.mean_page_waste": [Case({"page": 16.0})],
}
FUNCTIONS |= {
    "uncertainty.half_width": [Case({"time": 9e-5, "steady": 0.1, "short": 0.2, "call": 3e-5})],
    "uncertainty.beyond_range": [Case({"time": time, "least": 1e-6, "most": 2e-3, "exponent": 0.5}) for time in (8e-3, 3e-7)],
    "uncertainty.step_half_width": [
        Case({"squares": 0.02, "total": 0.3, "correlation": 0.5, "level": 0.1}, work=("squares", "total", "level"))
    ],
    "uncertainty.ratio_half_width": [Case({"first": 0.3, "second": 0.4, "correlation": 0.5}, work=("first", "second"))],
    "uncertainty.pooled_factor": [Case({"chips": 3.0, "between": 0.2})],
}
WRITTEN_OFF = {"price": 3e4, "residual": 0.1, "life": 1.6e8}
DIE = {"area": 2e-4, "defects": 900.0}
FUNCTIONS |= {
    "money.straight_line": [Case(WRITTEN_OFF)],
    "money.annuity": [Case(WRITTEN_OFF | {"interest": 2e-9})],
    "money.electricity": [Case({"power": 700.0, "pue": 1.3, "price": 3e-8})],
    "money.hosting": [Case({"power": 700.0, "price": 7e-8})],
    "money.use_cost": [Case({"rate": 5e-4, "time": 0.02, "utilisation": 0.2}, work=("time",))],
    "money.step_shares": [Case({"time": 0.03, "prompt": 0.02, "decode": 0.015}, work=("time", "prompt", "decode"))],
    "money.gross_dies": [Case({"diameter": 0.3, "area": 2e-4, "edge": 3e-3, "scribe": 1e-4})],
    "money.poisson_yield": [Case(DIE)],
    "money.murphy_yield": [Case(DIE)],
    "money.negative_binomial_yield": [Case(DIE | {"clustering": 3.0})],
    "money.bose_einstein_yield": [Case(DIE | {"layers": 4.0})],
    "money.die_cost": [Case({"wafer": 1.7e4, "dies": 60.0, "good": 0.2})],
    "money.memory_price": [Case({"capacity": 8e10, "price": 1.5e-8})],
    "money.package_cost": [Case({"dies": 500.0, "memory": 1200.0, "packaging": 700.0, "assembled": 0.3})],
}
# Costs of whole operations, whose arguments are specs, have tests of their own below; look-ups compute nothing.
OF_OPERATIONS = {"ideal.ideal_cost"}
# Nests of loops take and return named tuples; their batches, monotony and bounds are in test_gemmini and test_tiling.
OF_NESTS = ("tiled.", "access.", "row_stationary.")
# Conversions between nodes take specs, and polynomials fitted in volts have no dimension; parts of a chip take the chip. Their
# batches, round trips and bounds are in test_scaling, test_energy and test_area.
OF_SILICON = ("scaling.", "components.")
LOOK_UPS = {
    "ideal.function_counts",
    "rates.operand_format",
    "rates.compute_rate",
    "rates.lane_energy",
    "rates.vector_rate",
    "rates.with_stream",
}


@cache
def public_functions() -> dict[str, Any]:
    found = {}
    for module in pkgutil.iter_modules(costs.__path__):
        members = vars(importlib.import_module(f"ridgeline.costs.{module.name}"))
        for name, one in members.items():
            if inspect.isfunction(one) and one.__module__ == f"ridgeline.costs.{module.name}" and not name.startswith("_"):
                found[f"{module.name}.{name}"] = one
    return found


CASES = [
    pytest.param(name, case, id=f"{name}-{index}")
    for name, cases in FUNCTIONS.items()
    if name in public_functions()
    for index, case in enumerate(cases)
]
each_cost = pytest.mark.parametrize(("name", "case"), CASES)


def call(name: str, case: Case, **changed: Any) -> dict[str, Any]:
    """Every result by name; a function that returns one quantity calls it `return`."""
    found = public_functions()[name](**{**case.arguments, **changed}, **case.options)
    return found._asdict() if hasattr(found, "_asdict") else {"return": found}


@cache
def units_in(name: str) -> MappingProxyType[str, str]:
    """The unit of every argument that carries one."""
    hints = get_type_hints(public_functions()[name], include_extras=True)
    return MappingProxyType(
        {argument: symbol_of(hint) for argument, hint in hints.items() if argument != "return" and symbol_of(hint)}
    )


@cache
def units_out(name: str) -> MappingProxyType[str, str]:
    """The unit of every result."""
    hint = get_type_hints(public_functions()[name], include_extras=True)["return"]
    hints = {"return": hint} if get_origin(hint) is Annotated else get_type_hints(hint, include_extras=True)
    return MappingProxyType({result: symbol_of(one) for result, one in hints.items()})


def symbol_of(hint: Any) -> str:
    return next((one.symbol for one in get_args(hint) if isinstance(one, Unit)), "") if get_origin(hint) is Annotated else ""


def test_every_cost_function_is_here():
    here = {name for name in public_functions() if not name.startswith((*OF_NESTS, *OF_SILICON))}
    assert here - (FUNCTIONS.keys() | OF_OPERATIONS | LOOK_UPS) == set()


@each_cost
def test_every_argument_and_result_carries_its_unit(name: str, case: Case):
    assert units_in(name).keys() == case.arguments.keys()
    assert units_out(name)
    assert all(units_out(name).values())


@each_cost
def test_scalars_stay_python_floats(name: str, case: Case):
    assert {type(one) for one in call(name, case).values()} == {float}


@each_cost
def test_a_batch_equals_its_members(name: str, case: Case, xp: Any):
    """Two arguments at a time as the axes of a grid; equal to one rounding of each operation."""
    factors = (0.25, 1.0, 3.0)
    for first, second in [*pairwise(case.arguments), (next(iter(case.arguments)), next(reversed(case.arguments)))]:
        if xp.__name__ == "python":
            continue
        one, other = ([case.arguments[argument] * factor for factor in factors] for argument in (first, second))
        grid = {first: xp.reshape(xp.asarray(one), (3, 1)), second: xp.reshape(xp.asarray(other), (1, 3))}
        if first == second:
            grid = {first: xp.asarray(one)}
        for result, batch in call(name, case, **grid).items():
            expected = [[call(name, case, **{first: a, second: b})[result] for b in other] for a in one]
            members = [call(name, case, **{first: a})[result] for a in one] if first == second else expected
            if type(batch) is not float:  # a result need not depend on every argument
                assert type(batch).__module__.split(".")[0] in (xp.__name__.split(".")[0], "jaxlib")
                batch = batch.__array__()
            np.testing.assert_allclose(np.broadcast_to(batch, np.shape(members)), members, rtol=1e-15)


# ---- dimensions -------------------------------------------------------------------------------------------------------------


@cache
def registry() -> pint.UnitRegistry:
    units = pint.UnitRegistry()
    units.define("bit_of_information = [information]")
    units.define("B = 8 * bit_of_information")
    units.define("FLOP = []")
    units.define("USD = [money]")
    return units


def with_unit(value: Any, symbol: str) -> Any:
    return value * registry().parse_units({"1": "dimensionless", "m2": "m**2", "1/m2": "1/m**2", "1/s": "Hz"}.get(symbol, symbol))


def magnitude_in(value: Any, symbol: str) -> float:
    """Return the number of a quantity in a unit; raises if it measures something else. A plain 0 has every unit."""
    if isinstance(value, float | int) and value == 0:
        return 0.0
    return registry().Quantity(value).to(with_unit(1.0, symbol).units).magnitude


@each_cost
def test_dimensions_agree(name: str, case: Case):
    units = units_in(name)
    found = call(name, case, **{argument: with_unit(value, units[argument]) for argument, value in case.arguments.items()})
    for result, expected in call(name, case).items():
        assert magnitude_in(found[result], units_out(name)[result]) == pytest.approx(expected, rel=1e-12), result


# ---- gradients --------------------------------------------------------------------------------------------------------------


@each_cost
def test_gradient_of_the_compiled_function(name: str, case: Case):
    """JAX's gradient against a central difference of step h = 1e-4, whose error is of the order of h² = 1e-8."""
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)
    slopes = jax.jit(jax.jacrev(lambda arguments: call(name, case, **arguments)))(case.arguments)
    for argument, value in case.arguments.items():
        up, down = (call(name, case, **{argument: value * factor}) for factor in (1 + 1e-4, 1 - 1e-4))
        for result in up:
            slope = (up[result] - down[result]) / 2e-4
            assert float(slopes[result][argument]) * value == pytest.approx(slope, rel=1e-6, abs=1e-6 * abs(up[result])), argument


def test_gradient_where_the_critical_batch_is_infinite():
    """The branch that is not taken must not put a NaN into the gradient."""
    jax = pytest.importorskip("jax")
    case = replace(FUNCTIONS["matmul.critical_batch_exact"][0])
    slope = jax.grad(lambda n: call("matmul.critical_batch_exact", case, n=n)["return"])(64.0)
    assert call("matmul.critical_batch_exact", case, n=64.0) == {"return": float("inf")}
    assert float(slope) == 0.0


# ---- never slower, and nothing for nothing ----------------------------------------------------------------------------------


RATES = ("B/s", "FLOP/s", "1/s", "Hz")


@pytest.mark.parametrize(
    ("name", "case"),
    [
        one
        for one in CASES
        if {"s", *RATES} & {*units_out(str(one.values[0])).values()} and {*RATES} & {*units_in(str(one.values[0])).values()}
    ],
)
def test_a_higher_rate_or_bandwidth_is_never_slower(name: str, case: Case):
    """A time falls, an achieved rate rises, or they stay."""
    for argument in (one for one, unit in units_in(name).items() if unit in RATES):
        found = [call(name, case, **{argument: case.arguments[argument] * factor}) for factor in (0.5, 1.0, 2.0, 1e3)]
        for result, unit in units_out(name).items():
            values = [one[result] for one in found]
            assert values == sorted(values, reverse=unit == "s")


@each_cost
def test_no_work_costs_nothing(name: str, case: Case):
    assert case.work or not {"s", "J"} & {*units_out(name).values()}  # every time and every energy is that of some work
    if case.work:
        assert set(call(name, case, **dict.fromkeys(case.work, 0.0)).values()) == {0.0}


# ---- operations -------------------------------------------------------------------------------------------------------------

BF16, FP8, INT4 = FORMATS["bf16"], FORMATS["fp8-e4m3"], FORMATS["int4-g128"]
CHIP = load_chip("h100-sxm")
CHIP_WITHOUT_SPECIALS = load_chip("mi300x")


def tensor(role: Any, elements: Any, form: NumberFormat = BF16) -> Tensor:
    return Tensor(name=role, role=role, elements=elements, format=form)


def product(m: Any, n: Any, k: Any, stationary: NumberFormat = BF16, **rest: Any) -> Operation:
    one = Product(batch=1.0, m=m, n=n, k=k, formats=(stationary, BF16), **rest)
    reads = (tensor("activation", m * k), tensor("weight", n * k, stationary))
    return Operation(
        name="product", kind="matmul", group="projections", products=(one,), reads=reads, writes=(tensor("activation", m * n),)
    )


def attention(m: Any, n: Any, k: Any) -> Operation:
    made = replace(product(m, n, k, share=0.5), name="attention", kind="attention", group="attention")
    return replace(made, functions={"softmax": m * n}, reads=(tensor("activation", m * k), tensor("kv", n * k)))


def elementwise(m: Any, n: Any, k: Any) -> Operation:
    functions = {"gelu": m * n, "residual": m * n, "layer-norm": m * k}
    moved = tensor("activation", m * n)
    return Operation(name="gelu", kind="vector", group="other", functions=functions, reads=(moved,), writes=(moved,))


def append(m: Any, n: Any, k: Any) -> Operation:
    del k
    return Operation(name="append", kind="append", group="cache", writes=(tensor("kv", m * n, FP8),))


def quantised(m: Any, n: Any, k: Any) -> Operation:
    return product(m, n, k, INT4)


KINDS = {make.__name__: make for make in (product, quantised, attention, elementwise, append)}
each_kind = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
GROWING = [
    name for name in quantities(CHIP) if name.rsplit(".")[-1] == "bandwidth" or ".rate." in name or name.endswith("capacity")
]


def cost_of(operation: Operation, chip: Chip = CHIP, residency: Any = "cold") -> Any:
    return ideal_cost(Machine.of(chip, residency=residency), operation)


@each_kind
def test_a_batch_of_operations_equals_its_members(make: Any, xp: Any):
    """Rows along one axis, memory bandwidth along the other."""
    rows, bandwidths = [1.0, 100.0, 5e5], [1e12, 4e12]
    if xp.__name__ == "python":
        assert all(type(one) is float for one in cost_of(make(4.0, 4096.0, 1024.0)).time.values())
        return
    chip = with_quantity(CHIP, "memory.hbm.bandwidth", xp.reshape(xp.asarray(bandwidths), (1, 2)))
    batch = cost_of(make(xp.reshape(xp.asarray(rows), (3, 1)), 4096.0, 1024.0), chip)
    for i, m in enumerate(rows):
        for j, bandwidth in enumerate(bandwidths):
            one = cost_of(make(m, 4096.0, 1024.0), with_quantity(CHIP, "memory.hbm.bandwidth", bandwidth))
            assert one.lower == pytest.approx(float(batch.lower[i, j]), rel=1e-14)
            assert one.upper == pytest.approx(float(batch.upper[i, j]), rel=1e-14)
            assert one.time.keys() == batch.time.keys()
            energies = [sum(float(energy[i, 0]) if getattr(energy, "shape", ()) else energy for energy in batch.energy.values())]
            assert energies == [pytest.approx(sum(one.energy.values()), rel=1e-14)]


class _InBytes(NumberFormat):
    """A number format whose size carries its unit."""

    @property
    def bytes_per_value(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        return with_unit(self.bits_per_value / 8, "B")


def in_bytes(form: NumberFormat) -> _InBytes:
    return _InBytes(**{one.name: getattr(form, one.name) for one in fields(form)})


def with_units(spec: Any) -> Any:
    """Return a spec whose every quantity carries the unit of its annotation."""
    units, changed = units_of(type(spec)), {}
    for one in fields(spec):
        value = getattr(spec, one.name)
        if one.name in units and value is not None:
            symbol, mapped = units[one.name][0].symbol, units[one.name][1]
            changed[one.name] = {k: with_unit(v, symbol) for k, v in value.items()} if mapped else with_unit(value, symbol)
        elif is_dataclass(value) and not isinstance(value, type) and one.name != "sources":
            changed[one.name] = with_units(value)
        elif isinstance(value, tuple) and value and all(is_dataclass(member) for member in value):
            changed[one.name] = tuple(with_units(member) for member in value)
    return replace(spec, **changed)


@each_kind
@pytest.mark.parametrize("residency", ["cold", "warm"])
def test_dimensions_of_an_operation(make: Any, residency: str):
    plain = make(64.0, 4096.0, 1024.0)
    moved = {"reads": plain.reads, "writes": plain.writes}
    dimensioned = {name: tuple(replace(one, format=in_bytes(one.format)) for one in ones) for name, ones in moved.items()}
    found, expected = cost_of(replace(plain, **dimensioned), with_units(CHIP), residency), cost_of(plain, residency=residency)
    for part, unit in (("time", "s"), ("energy", "J"), ("bytes", "B")):
        for name, value in getattr(found, part).items():
            assert magnitude_in(value, unit) == pytest.approx(getattr(expected, part)[name], rel=1e-12), name
    assert magnitude_in(found.flops, "FLOP") == pytest.approx(expected.flops)


@each_kind
def test_gradient_of_an_operation(make: Any):
    """Time over the chip's own quantities, all at once, against a central difference."""
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)
    names = [name for name in GROWING if not name.endswith("capacity")]

    def upper(values: dict[str, Any]) -> Any:
        chip = CHIP
        for name, value in values.items():
            chip = with_quantity(chip, name, value)
        return cost_of(make(512.0, 4096.0, 1024.0), chip).upper

    point = {name: quantities(CHIP)[name] for name in names}
    slopes = jax.jit(jax.grad(upper))(point)
    whole = upper(point)
    for name, value in point.items():
        difference = (upper({**point, name: value * 1.0001}) - upper({**point, name: value * 0.9999})) / 2e-4
        assert float(slopes[name]) * value == pytest.approx(difference, rel=1e-6, abs=1e-9 * whole), name


sizes = st.integers(0, 65536).map(float)


@settings(deadline=None, max_examples=25)
@given(m=sizes, n=sizes, k=sizes, kind=st.sampled_from(sorted(KINDS)), path=st.sampled_from(GROWING), warm=st.booleans())
def test_a_better_chip_is_never_slower(m: float, n: float, k: float, kind: str, path: str, warm: bool):
    """Any bandwidth, capacity or rate of the chip twice as high: the time falls, and to no less than half."""
    operation, residency = KINDS[kind](m, n, k), "warm" if warm else "cold"
    before = cost_of(operation, CHIP, residency)
    after = cost_of(operation, with_quantity(CHIP, path, 2 * quantities(CHIP)[path]), residency)
    assert after.lower <= before.lower
    assert after.upper <= before.upper
    assert before.lower <= before.upper
    if not path.endswith("capacity"):
        assert before.lower <= 2 * after.lower * (1 + 1e-12)


@each_kind
@pytest.mark.parametrize("chip", [CHIP, CHIP_WITHOUT_SPECIALS], ids=lambda chip: chip.name)
def test_an_operation_without_work_costs_nothing(make: Any, chip: Chip):
    nothing = cost_of(make(0.0, 0.0, 0.0), chip)
    assert nothing.upper == 0.0
    assert sum(nothing.energy.values()) == 0.0
    assert nothing.flops == 0.0


# ---- estimates --------------------------------------------------------------------------------------------------------------

ESTIMATES = [
    ("llama-3.1-8b", "h100-sxm", "decode", "bf16"),
    ("llama-3.1-8b", "mi300x", "prefill", "fp8"),
    ("mixtral-8x7b", "b200-sxm", "decode", "w4a16kv8"),
    ("gemma-2-9b", "tpu-v5p", "generate", "bf16"),
    ("deepseek-v2-lite", "a100-sxm-80gb", "decode", "bf16"),
    ("qwen3-next-80b-a3b", "h200-sxm", "decode", "fp8"),
    ("bert-base", "tpu-v4i", "encode", "bf16"),
    ("t5-large", "h100-sxm", "generate", "bf16"),
    ("whisper-large-v3", "l4", "decode", "bf16"),
    ("resnet-50", "h100-sxm", "encode", "int8"),
]
each_estimate = pytest.mark.parametrize(("model", "chip", "phase", "precision"), ESTIMATES)


def scenario_of(phase: Any, batch: Any = 4.0, context: Any = 0.0) -> Scenario:
    past = context if phase == "decode" else 0.0
    return Scenario(phase=phase, batch=batch, prompt=512.0, context=past + 1024.0 if phase == "decode" else 0.0, output=64.0)


def estimated(model: str, chip: Any, phase: str, precision: str, **scenario: Any) -> Any:
    return estimate(load_chip(chip), load_model(model), scenario_of(phase, **scenario), Precision.parse(precision))


@each_estimate
def test_time_lies_between_its_bounds(model: str, chip: str, phase: str, precision: str):
    found = estimated(model, chip, phase, precision)
    assert type(found.time) is float
    assert 0.0 < found.time_lower <= found.time <= found.time_upper
    assert found.time_lower >= max(found.cost.time.values()) * (1 - 1e-12)
    assert found.time_upper == pytest.approx(sum(found.cost.time.values()), rel=1e-12)
    assert found.bound == max(found.cost.time, key=lambda name: found.cost.time[name])


@each_estimate
@pytest.mark.parametrize("library", ["numpy", "array_api_strict"])
def test_a_batch_of_estimates_equals_its_members(model: str, chip: str, phase: str, precision: str, library: str):
    xp = np if library == "numpy" else array_api_strict
    main = load_chip(chip).main_memory.name
    path, batches, bandwidths = f"memory.{main}.bandwidth", [1.0, 7.0, 64.0], [5e11, 2e12]
    wide = with_quantity(load_chip(chip), path, xp.reshape(xp.asarray(bandwidths), (1, 2)))
    batch = estimated(model, wide, phase, precision, batch=xp.reshape(xp.asarray(batches), (3, 1)))
    for i, size in enumerate(batches):
        for j, bandwidth in enumerate(bandwidths):
            one = estimated(model, with_quantity(load_chip(chip), path, bandwidth), phase, precision, batch=size)
            for name in ("time", "time_upper", "flops", "energy", "tokens_per_second"):
                whole, single = getattr(batch, name), getattr(one, name)
                if single is not None:
                    member = np.broadcast_to(np.asarray(whole.__array__()), (3, 2))[i, j]
                    assert float(member) == pytest.approx(single, rel=1e-12), name  # sums of some hundred terms
            bound = np.broadcast_to(np.asarray(batch.bound.__array__()), (3, 2))[i, j]
            assert batch.resources[int(bound)] == one.bound
            fits = np.broadcast_to(np.asarray(getattr(batch.feasible, "__array__", lambda flag=batch.feasible: flag)()), (3, 2))
            assert bool(fits[i, j]) == bool(one.feasible)


@pytest.mark.parametrize(("model", "phase"), [(one, phase) for one, _, phase, _ in ESTIMATES])
def test_dimensions_of_an_estimate(model: str, phase: str, monkeypatch: pytest.MonkeyPatch):
    expected = estimated(model, CHIP, phase, "bf16")
    for name, form in list(FORMATS.items()):
        monkeypatch.setitem(FORMATS, name, in_bytes(form))
    precision = Precision.uniform(FORMATS["bf16"])
    found = estimate(with_units(CHIP), load_model(model), scenario_of(phase), precision)
    units = {"time": "s", "time_upper": "s", "flops": "FLOP", "energy": "J", "intensity": "FLOP/B", "tokens_per_second": "1/s"}
    for name, unit in units.items():
        assert magnitude_in(getattr(found, name), unit) == pytest.approx(getattr(expected, name), rel=1e-12), name
    for name, value in found.cost.time.items():
        assert magnitude_in(value, "s") == pytest.approx(expected.cost.time[name], rel=1e-12), name
    assert magnitude_in(found.capacity.needed, "B") == pytest.approx(expected.capacity.needed, rel=1e-12)
    assert magnitude_in(found.capacity.shortfall, "B") == pytest.approx(expected.capacity.shortfall, rel=1e-12)


def test_gradient_of_a_memory_bound_step():
    """Where memory binds every operation, time = bytes / bandwidth, and its slope over the bandwidth −time / bandwidth."""
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)
    bandwidth = CHIP.main_memory.bandwidth

    def time(value: Any) -> Any:
        chip = with_quantity(CHIP, "memory.hbm.bandwidth", value)
        return estimated("llama-3.1-8b", chip, "decode", "bf16", batch=1.0).time

    slope = float(jax.jit(jax.grad(time))(bandwidth))
    assert slope == pytest.approx(-time(bandwidth) / bandwidth, rel=1e-12)
    assert slope == pytest.approx((time(bandwidth * 1.0001) - time(bandwidth * 0.9999)) / (2e-4 * bandwidth), rel=1e-6)


@pytest.mark.parametrize(("model", "phase"), [("mixtral-8x7b", "decode"), ("gemma-2-9b", "prefill"), ("t5-large", "generate")])
def test_gradient_of_a_step_over_scenario_and_chip(model: str, phase: str):
    """Compiled, and against a central difference of step 1e-4; at a point away from the corners of windows and ridges."""
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)

    def time(point: dict[str, Any]) -> Any:
        chip = with_quantity(CHIP, "matrix_unit.rate.bf16", point["rate"])
        chip = with_quantity(chip, "memory.hbm.bandwidth", point["bandwidth"])
        return estimated(model, chip, phase, "bf16", batch=point["batch"], context=point["context"]).time

    point = {"rate": 9e14, "bandwidth": 3.1e12, "batch": 6.0, "context": 300.0}
    slopes = jax.jit(jax.grad(time))(point)
    for name, value in point.items():
        difference = (time({**point, name: value * 1.0001}) - time({**point, name: value * 0.9999})) / 2e-4
        assert float(slopes[name]) * value == pytest.approx(difference, rel=1e-5, abs=1e-7 * time(point)), name


@settings(deadline=None, max_examples=20)
@given(
    case=st.sampled_from(ESTIMATES[:6]),
    path=st.sampled_from(GROWING),
    batch=st.integers(1, 512).map(float),
    warm=st.booleans(),
)
def test_a_step_on_a_better_chip_is_never_slower(case: tuple[str, str, str, str], path: str, batch: float, warm: bool):
    model, _, phase, precision = case
    operations = fuse(step_operations(load_model(model), scenario_of(phase, batch), Precision.parse(precision)))
    residency: Any = "warm" if warm else "cold"
    better = with_quantity(CHIP, path, 2 * quantities(CHIP)[path])
    before, after = (fold(Machine.of(chip, residency=residency), operations) for chip in (CHIP, better))
    assert after.time <= before.time
    assert after.time_upper <= before.time_upper


@each_estimate
def test_no_sequences_cost_at_most_reading_the_weights(model: str, chip: str, phase: str, precision: str):
    """Without tokens there is nothing to compute, and nothing to write; a compiled step still reads its dense weights."""
    found, one = (estimated(model, chip, phase, precision, batch=size) for size in (1e-12, 1.0))
    assert found.flops <= 1e-11 * one.flops
    weights = found.capacity.weights
    steps = 65.0 if phase == "generate" else 1.0
    assert found.bytes[load_chip(chip).main_memory.name] <= weights * steps * 1.01
