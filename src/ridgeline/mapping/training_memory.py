"""What a training step keeps: weights, gradients, optimizer states and activations of one data rank."""

from collections.abc import Sequence
from dataclasses import dataclass

from ridgeline.arrays import maximum, minimum
from ridgeline.costs.training import zero_partition, zero_traffic
from ridgeline.quantities import Bytes, Count
from ridgeline.results import Capacity
from ridgeline.specs.chip import Chip
from ridgeline.specs.model import ConvolutionalModel, Model
from ridgeline.specs.number_format import FORMATS
from ridgeline.specs.precision import Precision
from ridgeline.specs.scenario import Scenario
from ridgeline.specs.training import optimizer_of
from ridgeline.workload.optimizer import optimizer_values
from ridgeline.workload.parameters import parameters, weight_bytes
from ridgeline.workload.training import (
    Saved,
    convolution_saved_bytes,
    rematerialisation_of,
    saved_tensors,
    training_precision,
)


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingMemory:
    """Bytes that one data rank keeps during a training step, and what it sends to the others."""

    parameters: Count
    weights: Bytes  # in the format that they are computed with
    gradients: Bytes
    master: Bytes  # fp32 copy of weights that are computed with in fewer bits
    states: Bytes  # of the optimizer, without that copy
    activations: Bytes  # kept for the backward pass, and what one rematerialised layer needs at its turn
    traffic: Bytes  # that the rank sends in a step

    @property
    def total(self) -> Bytes:
        """All that is kept."""
        return self.weights + self.gradients + self.master + self.states + self.activations


def training_memory(model: Model | ConvolutionalModel, scenario: Scenario, precision: Precision) -> TrainingMemory:
    """Return what one of `scenario.data_ranks` keeps, which computes `scenario.batch` sequences or images.

        weights      bytes of the compute format; below 32 bits an fp32 copy beside (`master`)   [micikevicius2017mixed] §3.1
        gradients    16 bits a parameter, or 32 in fp32
        states       the optimizer's fp32 values                                                 [rajbhandari2020zero] §3.1
        activations  every tensor that the backward pass reads, once

    Neglected: gradients of activations, which live one operation long; buffers of communication; what the allocator wastes.
    """
    precision = training_precision(precision)
    count = parameters(model).total
    fp32 = FORMATS["fp32"].bytes_per_value
    weights = weight_bytes(model, precision)
    gradients = count * precision.stream.bytes_per_value
    master = count * fp32 if precision.weights.bits < FORMATS["fp32"].bits else 0.0 * count
    states = optimizer_values(model, optimizer_of(scenario.optimizer)) * fp32
    ranks, stage = scenario.data_ranks, scenario.zero
    own = zero_partition(weights=weights, gradients=gradients, optimizer=states, ranks=ranks, stage=stage)
    copy = zero_partition(weights=0.0, gradients=0.0, optimizer=master, ranks=ranks, stage=stage)
    return TrainingMemory(
        parameters=count,
        weights=own.weights,
        gradients=own.gradients,
        master=copy.optimizer,
        states=own.optimizer,
        activations=activation_memory(model, scenario, precision),
        traffic=zero_traffic(weights=weights, gradients=gradients, ranks=ranks, stage=stage),
    )


def activation_memory(model: Model | ConvolutionalModel, scenario: Scenario, precision: Precision) -> Bytes:
    """Return the bytes of activations that a training step keeps for its backward pass under the scenario's rematerialisation.

        none:       every tensor that the derivative of an operation reads, once
        selective:  without scores, probabilities and their dropout mask; these of one layer at its turn
        full:       the inputs of layers; all that one layer keeps, at its turn              [chen2016checkpointing] §4.1

    Equals equations 1 to 3 of [korthikanti2022activation] for a GPT, but for the layer at its turn, which they leave out.
    """
    if isinstance(model, ConvolutionalModel):
        return convolution_saved_bytes(model, scenario, precision)
    kept, working = kept_and_working(saved_tensors(model, scenario, precision), scenario)
    return kept + working


def kept_and_working(saved: Sequence[Saved], scenario: Scenario) -> tuple[Bytes, Bytes]:
    """Return the bytes that are kept from forward to backward, and the most that a rematerialised layer needs at its turn."""
    kept: Bytes = 0.0
    working: dict[str, Bytes] = {}
    for one in saved:
        mode = rematerialisation_of(one.place, scenario)
        if mode == "none" or (mode == "selective" and not one.core) or (mode == "full" and not one.made_here):
            kept = kept + one.count * one.bytes
        else:
            needed = minimum(one.count, 1.0 + 0.0 * one.count) * one.bytes  # a part of a layer needs that part
            working[one.place] = working[one.place] + needed if one.place in working else needed
    largest: Bytes = 0.0
    for needed in working.values():
        largest = maximum(largest, needed)
    return kept, largest


def training_capacity(model: Model | ConvolutionalModel, scenario: Scenario, precision: Precision, chip: Chip) -> Capacity:
    """Return what a training step keeps in a chip's main memory, against its capacity."""
    level = chip.main_memory
    held = training_memory(model, scenario, precision)
    return Capacity(
        weights=held.weights,
        kv=0.0,
        activations=held.activations,
        gradients=held.gradients,
        optimizer=held.master + held.states,
        available=level.capacity,
        level=level.name,
    )
