"""What a report says of a training step beside its time: memory by part, FLOPs by part, and the rule of six."""

from typing import Any

from ridgeline.api import Analysis
from ridgeline.costs.training import training_flops
from ridgeline.mapping.training_memory import training_memory
from ridgeline.quantities import show
from ridgeline.results import Operation
from ridgeline.specs.model import ConvolutionalModel, Model
from ridgeline.workload.parameters import parameters
from ridgeline.workload.training import step


def training_record(analysis: Analysis) -> dict[str, Any]:
    """Return memory and FLOPs of one training step by part; `six_p_t` is null where tokens do not all pass all layers."""
    model, scenario, precision = analysis.model, analysis.scenario, analysis.precision
    memory, parts = training_memory(model, scenario, precision), step(model, scenario, precision)
    plain = isinstance(model, Model) and not (model.encoder and model.decoder) and model.patches is None and model.audio is None
    return {
        "optimizer": scenario.optimizer,
        "rematerialisation": scenario.rematerialisation,
        "zero": scenario.zero,
        "data_ranks": scenario.data_ranks,
        "parameters": memory.parameters,
        "memory": {
            "weights": memory.weights,
            "gradients": memory.gradients,
            "master": memory.master,
            "optimizer": memory.states,
            "activations": memory.activations,
            "total": memory.total,
        },
        "sent_bytes": memory.traffic,
        "product_flops": {
            "forward": _flops(parts.forward),
            "rematerialised": _flops(parts.again),
            "backward": _flops(parts.backward),
            "optimizer": _flops(parts.optimizer),
        },
        "six_p_t": training_flops(parameters=multiplying(model), tokens=scenario.batch * scenario.prompt) if plain else None,
    }


def multiplying(model: Model | ConvolutionalModel) -> float:
    """Return the parameters that multiply every token: those it uses, without tables that are only looked up."""
    count = parameters(model)
    tied = isinstance(model, Model) and model.tied
    width = model.embedding_size or model.hidden if isinstance(model, Model) else 0
    return count.active - count.embedding + (model.vocabulary * width if isinstance(model, Model) and tied else 0)


def _flops(operations: tuple[Operation, ...]) -> float:
    return sum(one.matrix_flops * one.count for one in operations)


def training_rows(analysis: Analysis) -> list[tuple[str, str]]:
    """Return rows for the table of a training step."""
    found = training_record(analysis)
    kept = {name: value for name, value in found["memory"].items() if value > 0 and name != "total"}
    memory = ", ".join(f"{'fp32 weights' if name == 'master' else name} {show(value, 'B')}" for name, value in kept.items())
    products = ", ".join(f"{name} {show(value, 'FLOP')}" for name, value in found["product_flops"].items() if value > 0)
    rows = [("kept", memory), ("products", products)]
    if found["six_p_t"] is not None:
        useful = found["product_flops"]["forward"] + found["product_flops"]["backward"]
        share = useful / found["six_p_t"]
        rows.append(("rule of six", f"6·P·T = {show(found['six_p_t'], 'FLOP')}: forward and backward are {share:.3f} of it"))
    if found["sent_bytes"] > 0:
        rows.append(("sent", f"{show(found['sent_bytes'], 'B')} by each of {found['data_ranks']:g} data ranks"))
    return rows
