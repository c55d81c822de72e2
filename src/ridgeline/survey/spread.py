"""A step on chips whose own level does not tell it all: too small for the model, fed by a host, or as wide as a wafer.

One description for all of them, read from the chip's file: how many chips hold the model, what passes between them, what crosses
the interface of a memory that computes, how fast weights enter an array, and how far operands travel on a wafer.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from ridgeline.arrays import to_float, total
from ridgeline.costs import collective
from ridgeline.costs.energy import static_energy
from ridgeline.costs.ideal import Machine, ideal_cost
from ridgeline.costs.memory import transfer_time
from ridgeline.costs.rates import with_stream
from ridgeline.estimate import Totals, fold, processed_tokens, step_operations
from ridgeline.mapping.capacity import capacity
from ridgeline.mapping.fusion import fuse
from ridgeline.quantities import Bytes, Count, Flops, Joules, PerSecond, Seconds
from ridgeline.results import Operation
from ridgeline.specs.chip import Chip, Link
from ridgeline.specs.model import ConvolutionalModel, Model
from ridgeline.specs.precision import Precision
from ridgeline.specs.scenario import Scenario
from ridgeline.workload.functions import FUNCTIONS

_NOT_SHARED = "paths over the wafer"  # as long on every one of several


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way to use the chips: `tensor` of them share each operation, `stages` follow one another; time by what takes it."""

    tensor: int
    stages: int
    parts: dict[str, Seconds]

    @property
    def chips(self) -> int:
        """Chips in use."""
        return self.tensor * self.stages

    @property
    def time(self) -> Seconds:
        """Time of the step: its parts follow one another."""
        return sum(self.parts.values())

    @property
    def bound(self) -> str:
        """The part that takes most."""
        return max(self.parts, key=lambda name: self.parts[name])


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A step on the fewest chips that hold it, one after another, and on the split over chips that is fastest."""

    serial: Way
    fastest: Way
    tokens: Count
    flops: Flops
    matrix_flops: Flops
    energy: Joules | None
    notes: tuple[str, ...] = field(default=())

    def tokens_per_second(self, way: Way) -> PerSecond:
        """Tokens a second of one stream."""
        return self.tokens / way.time


def needs_spread(chip: Chip) -> bool:
    """Say whether a chip's file says more than its own level counts: weights that enter an array, a host's crossing, a wafer."""
    return "weights" in chip.matrix_unit.network or is_near_memory(chip) or chip.kind == "wafer"


def is_near_memory(chip: Chip) -> bool:
    """Say whether a chip computes in its main memory and gets its operands from a host."""
    main = chip.main_memory
    return main.role == "dram" and chip.matrix_unit.attached_to == main.name and chip.host.bandwidth is not None


def spread(chip: Chip, model: Model | ConvolutionalModel, scenario: Scenario, precision: Precision) -> Spread:
    """Return what a step takes on as many chips as hold it.

        chips   ⌈needed / capacity⌉
        time    Σ operations max(compute, vector, memories, weights into the array) / tensor
                + all-reduces + sends between stages + crossings of the host's interface + paths over the wafer

    Everything is at peak rates, and divides evenly over the chips. Chips with links work one after another (`serial`), or up to 64
    of them share each operation and join their results twice a layer. Chips under a host (near-memory) all work at once, each
    with its own interface. Neglected: what a host computes, links' and hosts' waiting where files give no latency, imbalance.
    """
    precision = with_stream(chip, precision)
    plain = step_operations(model, scenario, precision)
    machine = Machine.of(chip, precision.accumulate)
    fused = fuse(plain)
    held = capacity(model, scenario, precision, chip, fused)
    count = max(1, int(-(-to_float(held.needed) // to_float(held.available))))
    compute = _inside(machine, fused)
    totals = fold(machine, fused)
    step = _Step(chip=chip, model=model, scenario=scenario, precision=precision, plain=plain)
    if is_near_memory(chip):
        ways = [Way(tensor=count, stages=1, parts={**_divided(compute, count), "host": step.crossing(count)})]
    else:
        tensors = [2**power for power in range(7) if 2**power <= count] if chip.link else [1]
        ways = [_linked(step, compute, max(1, -(-count // tensor)), tensor) for tensor in tensors]
    return Spread(
        serial=ways[0],
        fastest=min(ways, key=lambda one: one.time),
        tokens=to_float(processed_tokens(model, scenario)),
        flops=to_float(totals.cost.flops),
        matrix_flops=float(sum(one.matrix_flops * one.count for one in plain)),
        energy=None if totals.energy is None else _energy(totals, chip, ways[0]),
        notes=_notes(chip, count),
    )


def _energy(totals: Totals, chip: Chip, way: Way) -> Joules:
    """Return the energy of arithmetic and memories, and the idle power of all chips over the time where it is known."""
    idle = chip.package.idle_power
    active = to_float(total(list(totals.cost.energy.values())))
    return active + (0.0 if idle is None else to_float(static_energy(time=way.time, power=idle)) * way.chips)


@dataclass(frozen=True, kw_only=True)
class _Step:
    chip: Chip
    model: Model | ConvolutionalModel
    scenario: Scenario
    precision: Precision
    plain: Sequence[Operation]

    @property
    def layers(self) -> Count:
        if isinstance(self.model, ConvolutionalModel):
            return 0
        return sum(layer.count for layer in (*self.model.encoder, *self.model.decoder))

    @property
    def stream_bytes(self) -> Bytes:
        """Bytes of the residual stream of a step."""
        if isinstance(self.model, ConvolutionalModel):
            return 0.0
        decoding = self.scenario.phase == "decode"
        tokens = self.scenario.batch * (self.scenario.verified if decoding else self.scenario.prompt)
        return tokens * self.model.hidden * self.precision.stream.bytes_per_value

    def crossing(self, chips: int) -> Seconds:
        """Time of the interfaces to a host: each memory gets all inputs of a product, and gives its share of the outputs.

        New keys and values are written by the host; scores cross, where the host has their softmax.
        """
        found: Bytes = 0.0
        for one in self.plain:
            if not one.products and one.kind != "append":
                continue
            given = sum(tensor.bytes for tensor in one.reads if tensor.role in ("activation", "scores"))
            taken = sum(tensor.bytes for tensor in one.writes if tensor.role in ("activation", "scores", "kv"))
            if one.kind == "append":
                given = 0.0
            found = found + one.count * (given + taken / chips)
        return transfer_time(bytes=found, bandwidth=self.chip.host.bandwidth)


def _inside(machine: Machine, operations: Sequence[Operation]) -> dict[str, Seconds]:
    """Return the time of each operation's slowest resource, summed by which it is, and the paths over a wafer."""
    found: dict[str, Seconds] = {}
    entry = machine.chip.matrix_unit.network.get("weights")
    path = _wafer_path(machine.chip)
    for one in operations:
        times = dict(ideal_cost(machine, one).time)
        if entry is not None and one.products:
            times["weights into the array"] = transfer_time(bytes=one.bytes_of("weight", "kv"), bandwidth=entry)
        name = max(times, key=lambda key: times[key])
        found[name] = found.get(name, 0.0) + times[name] * one.count
        if path:
            found[_NOT_SHARED] = found.get(_NOT_SHARED, 0.0) + path * _dependent(one) * one.count
    return found


def _dependent(operation: Operation) -> int:
    """Return the steps of an operation that wait for one another and for all cores: products, and sums over whole rows.

    Products of one input go side by side; scores wait for keys and values for their softmax.
    """
    products = len(operation.products) if operation.kind == "attention" else min(len(operation.products), 1)
    return products + sum(FUNCTIONS[name].row_wise for name in operation.functions)


def _wafer_path(chip: Chip) -> Seconds:
    """Time of a step's operands and sums across a wafer's mesh: along a row and down a column, a hop a clock.

    2 · √cores / clock; 0 for what is no wafer.
    """
    if chip.kind != "wafer" or chip.cores is None or chip.cores.clock is None:
        return 0.0
    return 2.0 * chip.cores.count**0.5 / chip.cores.clock


def _divided(parts: dict[str, Seconds], tensor: int) -> dict[str, Seconds]:
    return {name: value if name == _NOT_SHARED else value / tensor for name, value in parts.items()}


def _linked(step: _Step, compute: dict[str, Seconds], stages: int, tensor: int) -> Way:
    parts = _divided(compute, tensor)
    link = step.chip.link[0] if step.chip.link else None
    if link is not None and tensor * stages > 1:
        parts["network"] = _joined(step, link, tensor) + _sent(step, link, tensor, stages)
    return Way(tensor=tensor, stages=stages, parts=parts)


def _joined(step: _Step, link: Link, tensor: int) -> Seconds:
    """Time of two all-reduces a layer, each by the fastest of three algorithms."""
    if tensor == 1:
        return 0.0
    how = {"bytes": step.stream_bytes, "count": float(tensor), "bandwidth": link.bandwidth, "latency": link.latency or 0.0}
    times = (
        collective.one_shot(**how).time,
        collective.halving_doubling(**how, passes=2.0).time,
        collective.ring(**how, passes=2.0).time,
    )
    return 2.0 * step.layers * min(times)


def _sent(step: _Step, link: Link, tensor: int, stages: int) -> Seconds:
    """Time of passing the residual stream from stage to stage, each rank of a stage its share."""
    one = collective.send_receive(bytes=step.stream_bytes / tensor, hops=1.0, bandwidth=link.bandwidth, latency=link.latency or 0.0)
    return (stages - 1) * one.time


def _idle_note(chip: Chip) -> str:
    return " and, unknown, without what the chips take while they wait" if chip.package.idle_power is None else ""


def _notes(chip: Chip, count: int) -> tuple[str, ...]:
    said = ["energy is that of arithmetic and memory accesses, without links" + _idle_note(chip)]
    if count > 1:
        said.append(f"{count} chips hold the model")
    if is_near_memory(chip) and chip.host.rate is None:
        said.append("what the host computes is not counted: its rate is unknown")
    if count > 1 and chip.link and chip.link[0].latency is None:
        said.append("no latency of the links is known: counted as none")
    if count > 1 and not chip.link and not is_near_memory(chip):
        said.append("no links are known: chips follow one another without a cost")
    return tuple(said)
