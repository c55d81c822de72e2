"""The case study of the full-stack survey: an accelerator for convolutional networks becomes one for transformers, step by step.

Every figure is computed from the same files: the accelerator before and after each change, its host, and the survey's analytic
accelerator. Nothing is fitted to the survey's results [kim2023fullstack, sections 2.6, 3.4 and 5.5].
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ridgeline.arrays import total
from ridgeline.costs.components import activation_energy, chip_area, chip_coefficients, peak_power
from ridgeline.costs.ideal import Machine
from ridgeline.costs.rates import with_stream
from ridgeline.costs.tiled import Layer
from ridgeline.errors import InputError
from ridgeline.estimate import step_operations
from ridgeline.mapping.array_machine import ArrayMachine, array_machine
from ridgeline.mapping.array_step import Placed, place_step
from ridgeline.mapping.epilogue import Fusion
from ridgeline.mapping.functions import function_times, runs_on_host
from ridgeline.mapping.mapspace import sample_mapspace
from ridgeline.mapping.square_step import SquareCost, SquareMachine, square_machine, square_step
from ridgeline.mapping.tiling import product
from ridgeline.quantities import Count, Fraction, Quantity, Seconds
from ridgeline.results import Operation
from ridgeline.specs.base import with_quantity
from ridgeline.specs.chip import Chip
from ridgeline.specs.model import ConvolutionalModel, Model
from ridgeline.specs.number_format import FORMATS
from ridgeline.specs.precision import Precision
from ridgeline.specs.scenario import Scenario

INT8 = Precision.parse("int8")
LENGTHS = (128, 256, 512, 1024, 2048, 4096)
UNITS = 16  # activation units of the survey's design
_LENGTH = 512
_KIB = 1024.0
_OUTSIDE = frozenset({"embedding", "head"})  # the survey's figures are of the layers


@dataclass(frozen=True, kw_only=True, eq=False)
class Designs:
    """What the study is made from: the accelerator at each step, the analytic one, and the models."""

    baseline: Chip
    rebalanced: Chip
    integer: Chip
    analytic: Chip
    resnet: ConvolutionalModel
    bert: Model
    bert_large: Model
    gpt2: Model


@dataclass(frozen=True, kw_only=True, eq=False)
class Stage:
    """One step of the study: a model on an accelerator, where its time goes, and what that is against the step before."""

    name: str
    chip: str
    model: str
    latency: Seconds
    shares: Mapping[str, Fraction]
    matmul_latency: Seconds
    matmul_utilisation: Fraction
    published: Mapping[str, Quantity]  # figures of the survey that belong to the stage
    difference: Mapping[str, Quantity]  # computed minus published, or over published where it is no share


@dataclass(frozen=True, kw_only=True, eq=False)
class Published:
    """A figure of the survey."""

    value: Quantity
    where: str
    remark: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """A figure of the survey beside what the models compute."""

    name: str
    computed: Quantity
    published: Quantity
    where: str
    remark: str

    @property
    def is_share(self) -> bool:
        """Whether the figure is a share or a change, of which differences are told in points."""
        return abs(self.published) < 1.0

    @property
    def difference(self) -> Quantity:
        """Computed minus published for shares and changes, else the relative difference."""
        return self.computed - self.published if self.is_share else self.computed / self.published - 1.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Sensitivity:
    """What the study's two figures that rest on the host become when one of its quantities changes."""

    quantity: str
    factor: Quantity
    speed_up: Quantity
    non_matmul: Fraction


@dataclass(frozen=True, kw_only=True, eq=False)
class CaseStudy:
    """The stages in order, every figure of the survey beside ours, and how far the host's rates matter."""

    stages: tuple[Stage, ...]
    comparisons: tuple[Comparison, ...]
    sensitivity: tuple[Sensitivity, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Breakdown:
    """Time of a step by what it is spent on."""

    placed: Sequence[Placed]
    seconds: Mapping[str, Seconds]
    matmul: Seconds
    utilisation: Fraction

    @property
    def latency(self) -> Seconds:
        """Time of the step."""
        return total(list(self.seconds.values()))

    def share(self, *names: str) -> Fraction:
        """Share of the step's time of some of its parts."""
        return sum(self.seconds.get(name, 0.0) for name in names) / self.latency

    @property
    def shares(self) -> dict[str, Fraction]:
        """Share of every part, the largest first."""
        return {name: value / self.latency for name, value in sorted(self.seconds.items(), key=lambda one: -one[1])}


def run_case_study(designs: Designs, published: Mapping[str, Published], *, mappings: int = 20_000) -> CaseStudy:
    """Compute every stage and figure of the study; `mappings` are drawn for the statistics of the space of mappings."""
    steps = _steps(designs)
    computed = dict(_stage_figures(designs, steps))
    computed |= dict(_analytic_figures(designs))
    computed |= dict(_fusion_figures(designs))
    computed |= dict(_mapspace_figures(designs, mappings))
    missing = [name for name in published if name not in computed]
    if missing:
        raise InputError(f"the table of published figures names what the study does not compute: {', '.join(missing)}")
    comparisons = tuple(
        Comparison(name=name, computed=float(computed[name]), published=one.value, where=one.where, remark=one.remark)
        for name, one in published.items()
    )
    by_name = {one.name: one for one in comparisons}
    stages = tuple(_stage(designs, title, key, steps[key], by_name) for title, key in _TITLES.items())
    return CaseStudy(stages=stages, comparisons=comparisons, sensitivity=tuple(_sensitivity(designs)))


_TITLES = {
    "ResNet-50 on the accelerator it was made for": "resnet",
    "BERT-Base on the same accelerator": "bert",
    "memories rebalanced": "rebalanced",
    "integer functions on the chip": "integer functions",
    "fused where it pays": "fused",
}


def _steps(designs: Designs) -> dict[str, Breakdown]:
    """Run every stage."""
    bert = Scenario(phase="encode", prompt=_LENGTH, batch=1)
    image = Scenario(phase="encode", batch=1)
    return {
        "resnet": break_down(designs.baseline, designs.resnet, image, "best"),
        "bert": break_down(designs.baseline, designs.bert, bert, "none"),
        "rebalanced": break_down(designs.rebalanced, designs.bert, bert, "none"),
        "integer functions": break_down(designs.integer, designs.bert, bert, "none"),
        "fused": break_down(designs.integer, designs.bert, bert, "best"),
    }


def break_down(chip: Chip, model: Model | ConvolutionalModel, scenario: Scenario, fusion: Fusion) -> Breakdown:
    """Return where the time of a step's layers goes on a chip with a tiled array: embeddings and heads are left out.

    Functions on the host count under their name, their de- and quantisation as `conversion`, transfers there and back as
    `transfer`. A product with functions fused into it counts as the product.
    """
    machine = Machine.of(chip, None, "cold")
    operations = [one for one in step_operations(model, scenario, with_stream(chip, INT8)) if one.group not in _OUTSIDE]
    placed = place_step(machine, operations, fusion)
    seconds: dict[str, Seconds] = {}
    for one in placed:
        for name, time in _parts(machine, one):
            seconds[name] = seconds.get(name, 0.0) + time * one.operation.count
    matmul = total([one.time * one.operation.count for one in placed if one.operation.products])
    flops = total([one.operation.matrix_flops * one.operation.count for one in placed])
    rate = machine.rate((INT8.weights, INT8.activations)).rate
    return Breakdown(placed=placed, seconds=seconds, matmul=matmul, utilisation=flops / rate / matmul)


def _parts(machine: Machine, placed: Placed) -> Iterator[tuple[str, Seconds]]:
    """Yield the names under which an operation's time counts."""
    operation = placed.operation
    if operation.products:
        yield "convolution" if operation.kind == "convolution" else "matmul", placed.time
        return
    name = next(iter(operation.functions), operation.kind)
    if not runs_on_host(machine.chip, operation):
        yield name, placed.time
        return
    times = function_times(machine, operation)
    yield from ((name, times.software), ("conversion", times.conversion), ("transfer", times.transfer))


def _stage(designs: Designs, title: str, key: str, step: Breakdown, figures: Mapping[str, Comparison]) -> Stage:
    chips = {"resnet": designs.baseline, "bert": designs.baseline, "rebalanced": designs.rebalanced}
    own = {name.removeprefix(key).strip(): one for name, one in figures.items() if name.startswith(key + " ")}
    return Stage(
        name=title,
        chip=chips.get(key, designs.integer).name,
        model=designs.resnet.name if key == "resnet" else designs.bert.name,
        latency=step.latency,
        shares=step.shares,
        matmul_latency=step.matmul,
        matmul_utilisation=step.utilisation,
        published={name: one.published for name, one in own.items()},
        difference={name: one.difference for name, one in own.items()},
    )


# ---- time on the accelerator ------------------------------------------------------------------------------------------------


def _stage_figures(designs: Designs, steps: Mapping[str, Breakdown]) -> Iterator[tuple[str, Quantity]]:
    """Yield the figures of sections 3.4.2 to 3.4.4."""
    bert, rebalanced, integer = steps["bert"], steps["rebalanced"], steps["integer functions"]
    yield "bert non-matmul share", 1.0 - bert.share("matmul")
    yield "bert matmul utilisation", bert.utilisation
    for name in ("softmax", "layer-norm", "residual", "conversion", "gelu", "matmul"):
        yield f"bert share {name}", bert.share(name)
    yield "rebalanced matmul latency", rebalanced.matmul / bert.matmul - 1.0
    yield "integer functions speed-up", bert.latency / integer.latency
    yield "integer functions share matmul + gelu", integer.share("matmul", "gelu")
    for name in ("softmax", "layer-norm", "residual"):
        yield f"integer functions share {name}", integer.share(name)
    area = total(list(chip_area(designs.rebalanced).values()))
    yield "integer functions area", total(list(chip_area(designs.rebalanced, activation_units=UNITS).values())) / area - 1.0
    yield "integer functions power", _unit_power(designs, integer)


def _unit_power(designs: Designs, step: Breakdown) -> Fraction:
    """Power of the activation units over the rest of the chip's, mean over a step, main memory aside."""
    chip = designs.integer
    at = chip_coefficients(chip)
    if at is None:
        raise InputError(f"{chip.name} has no `package.node`, which power needs")
    joules = 0.0
    rest = 0.0
    for one in step.placed:
        for name, elements in one.operation.functions.items():
            if name in ("softmax", "gelu", "layer-norm"):
                joules += activation_energy(name, at) * elements * one.operation.count
        rest += one.operation.count * sum(
            value for name, value in one.cost.energy.items() if name not in (f"memory.{chip.main_memory.name}", "vector", "static")
        )
    units = peak_power(designs.rebalanced, FORMATS["int8"], activation_units=UNITS)["leakage"]
    leaking = peak_power(designs.rebalanced, FORMATS["int8"])["leakage"]
    return (joules / step.latency + units - leaking) / (rest / step.latency + leaking)


def _sensitivity(designs: Designs) -> Iterator[Sensitivity]:
    """Yield the speed-up and the baseline's share of functions with the host's rates halved and doubled."""
    scenario = Scenario(phase="encode", prompt=_LENGTH, batch=1)
    integer = break_down(designs.integer, designs.bert, scenario, "none")
    for quantity in ("host.rate", "host.bandwidth"):
        known = getattr(designs.baseline.host, quantity.removeprefix("host."))
        for factor in (0.5, 2.0):
            slower = with_quantity(designs.baseline, quantity, known * factor)
            bert = break_down(slower, designs.bert, scenario, "none")
            yield Sensitivity(
                quantity=quantity,
                factor=factor,
                speed_up=bert.latency / integer.latency,
                non_matmul=1.0 - bert.share("matmul"),
            )


# ---- the analytic accelerator -----------------------------------------------------------------------------------------------


def _analytic_figures(designs: Designs) -> Iterator[tuple[str, Quantity]]:
    """Yield the latencies of figure 32 and the comparison of ResNet-50 with BERT-Base."""
    machine = square_machine(designs.analytic)
    unit = analytic_latency(machine, designs.bert, LENGTHS[0])
    for model in (designs.bert, designs.bert_large, designs.gpt2):
        for length in LENGTHS:
            yield f"latency {model.name} {length}", analytic_latency(machine, model, length) / unit
    image = Scenario(phase="encode", batch=1)
    costs = square_step(machine, step_operations(designs.resnet, image, INT8))
    whole, functions = _time(costs), _time([one for one in costs if not one.operation.products])
    fused = _time(_without(machine, costs, ("batch-norm", "relu")))
    yield "resnet-50 against bert-base at 128", unit / whole
    yield "resnet-50 function share", functions / whole
    yield "resnet-50 speed-up of fused batch norm and relu", whole / fused


def analytic_latency(machine: SquareMachine, model: Model, length: int) -> Seconds:
    """Latency of a model on the analytic accelerator: one pass of an encoder, or `length` tokens generated one after the other."""
    if model.decoder:
        scenario = Scenario(phase="decode", context=np.arange(1.0, length + 1.0), batch=1)
    else:
        scenario = Scenario(phase="encode", prompt=float(length), batch=1)
    costs = square_step(machine, step_operations(model, scenario, INT8))
    times = [one.time * one.operation.count for one in costs if one.operation.group not in _OUTSIDE]
    steps = length if model.decoder else 1
    return float(sum(np.sum(np.broadcast_to(time, (steps,))) for time in times))


def _time(costs: Sequence[SquareCost]) -> Seconds:
    return float(sum(one.time * one.operation.count for one in costs))


def _without(machine: SquareMachine, costs: Sequence[SquareCost], functions: Sequence[str]) -> list[SquareCost]:
    """Return a step with some functions done on the sums as they leave: products then write operands."""
    kept = [one.operation for one in costs if not set(one.operation.functions) & set(functions)]
    return square_step(machine, kept)


# ---- fusion -----------------------------------------------------------------------------------------------------------------


def _fusion_figures(designs: Designs) -> Iterator[tuple[str, Quantity]]:
    """Yield what fusing changes: time of one kernel over time of its parts, minus one."""
    for length in (512, 4096):
        for room in (128, 256):
            chip = with_quantity(designs.integer, "memory.accumulator.capacity", room * _KIB)
            chip = with_quantity(chip, "memory.scratchpad.capacity", 256 * _KIB)
            for name, change in fusion_changes(chip, designs.bert, length).items():
                yield f"fusion {name}, {length}, {room} kB", change


def fusion_changes(chip: Chip, model: Model, length: int) -> dict[str, Fraction]:
    """Return by how much fusing changes the time of scores + softmax, of a product + norm, and of attention with both.

    >>> from ridgeline.api.names import load_chip, load_model
    >>> fusion_changes(load_chip("gemmini-ibert"), load_model("bert-base"), 512)["scores + softmax"] < 0
    True
    """
    machine = Machine.of(chip, None, "cold")
    scenario = Scenario(phase="encode", prompt=float(length), batch=1)
    layer = {one.name: one for one in step_operations(model, scenario, with_stream(chip, INT8))}
    norm = layer["feed-forward norm"]
    softmax = (layer["scores"], layer["softmax"])
    output = (layer["output"], _reading(norm, layer["output"]))
    feed_forward = (layer["feed-forward down"], _reading(norm, layer["feed-forward down"]))
    rest = [layer[name] for name in ("query", "key", "value", "values")]
    alone = {name: _duration(machine, pair, "none") for name, pair in _named(softmax, output, feed_forward).items()}
    fused = {name: _duration(machine, pair, "all") for name, pair in _named(softmax, output, feed_forward).items()}
    others = _duration(machine, rest, "none")
    found = {name: fused[name] / alone[name] - 1.0 for name in alone}
    both = ("scores + softmax", "output + norm")
    found["attention"] = (others + sum(fused[one] for one in both)) / (others + sum(alone[one] for one in both)) - 1.0
    return found


def _named(
    softmax: Sequence[Operation], output: Sequence[Operation], feed_forward: Sequence[Operation]
) -> dict[str, Sequence[Operation]]:
    return {"scores + softmax": softmax, "output + norm": output, "feed-forward + norm": feed_forward}


def _reading(norm: Operation, producer: Operation) -> Operation:
    """Return a norm that reads what a product writes, without the residual addition between them."""
    made = producer.writes[0]
    reads = tuple(replace(one, name=made.name) if one.role == "activation" else one for one in norm.reads)
    return replace(norm, reads=reads)


def _duration(machine: Machine, operations: Sequence[Operation], fusion: Fusion) -> Seconds:
    return float(sum(one.time for one in place_step(machine, operations, fusion)))


# ---- the space of mappings --------------------------------------------------------------------------------------------------

_NESTS: Mapping[str, Layer] = {
    "3x3 convolution": Layer(1.0, 512.0, 512.0, 7.0, 7.0, 3.0, 3.0, 1.0),
    "1x1 convolution": Layer(1.0, 2048.0, 512.0, 7.0, 7.0, 1.0, 1.0, 1.0),
    "projection": product(512, 768, 768),
    "feed-forward": product(512, 3072, 768),
}


def _mapspace_figures(designs: Designs, mappings: Count) -> Iterator[tuple[str, Quantity]]:
    """Yield how the energy-delay products of random mappings are distributed, relative to the least of them."""
    on = int8_machine(designs.baseline)
    if on.energy is None:
        raise InputError(f"{designs.baseline.name} has no energies: give its `package.node`")
    for name, nest in _NESTS.items():
        space = sample_mapspace(nest, on.array, on.buffers, on.searched, on.energy, mappings=int(mappings))
        yield f"mapspace {name}, EDP at the 10th percentile", space.percentile(10)
        yield f"mapspace {name}, share within 3x", space.share_within(3.0)


def int8_machine(chip: Chip) -> ArrayMachine:
    """Return a chip's array for products in int8."""
    return array_machine(chip, inputs=FORMATS["int8"], weights=FORMATS["int8"], compute="int8")
