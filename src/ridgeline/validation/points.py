"""Rows of single published figures: images a second, power and traffic of a convolutional accelerator; tokens a second and chip.

What the row does not say of a served model, its batch and lengths, is in the catalogue with the source (`loads.csv`).
"""

from dataclasses import replace

import numpy as np

from ridgeline.catalogue import load
from ridgeline.catalogue.loads import LoadTest, point_load
from ridgeline.errors import InputError
from ridgeline.estimate import estimate
from ridgeline.quantities import Quantity
from ridgeline.results import Estimate
from ridgeline.specs.chip import Chip
from ridgeline.specs.model import ConvolutionalModel
from ridgeline.specs.number_format import FORMATS
from ridgeline.specs.precision import Precision
from ridgeline.specs.scenario import Scenario
from ridgeline.validation.group import Group, Times
from ridgeline.validation.schema import Row

GROUPED_BY = ("model", "dtype", "parallelism", "metric")
_IMAGES = ("frames/s", "power", "DRAM accesses per MAC")
_SERVED = ("prefill tokens/s/GPU", "decode tokens/s/GPU")


def is_point(row: Row) -> bool:
    """Say whether a row is a published figure that a step of the catalogue's models stands for."""
    known = row.metric in (*_IMAGES, *_SERVED) or _of_threads(row)
    return known and row.has("model") and not row.has("isl")


def _of_threads(row: Row) -> bool:
    return "ms/token" in row.metric and "threads" in row.text("parallelism")


def framework_of(_: Row) -> str:
    """Return the framework whose stack serves a row that names none: an open server of large models."""
    return "sglang"


def values(group: Group) -> Times:
    """Predict figures; of a rate the time of one."""
    row = group.rows[0]
    if _of_threads(row):
        what = "which of its cores they run on, at which clocks, and what they share is in no chip file"
        raise InputError(f"{group.chip.name}: {row.text('parallelism')} of a processor: {what}")
    predict = _served if row.metric in _SERVED else _images
    found, bound = (np.full(len(group.rows), predict(group, level)) for level in ("mapped", "ideal"))
    return Times(found, bound)


# ---- convolutional accelerators ---------------------------------------------------------------------------------------------


def _images(group: Group, level: str) -> Quantity:
    """Return the time of an image, the power of the chip without its main memory, or words across that memory a product."""
    model, row = load.model(group.text("model")), group.rows[0]
    if not isinstance(model, ConvolutionalModel):
        raise InputError(f"{model.name}: no convolutional network, which rows of {row.metric} are of")
    batch = float("".join(one for one in group.text("parallelism") if one.isdigit()) or 1)
    precision = Precision.parse(group.text("dtype"))
    found = estimate(group.chip, model, Scenario(phase="encode", batch=batch), precision, level=level)
    if row.metric == "frames/s":
        return float(found.time) / batch
    if row.metric == "power":
        return _power(found, group.chip)
    words = found.bytes[group.chip.main_memory.name] / precision.activations.bytes_per_value
    return float(words / (found.flops / 2.0))


def _power(found: Estimate, chip: Chip) -> Quantity:
    if found.energy is None:
        raise InputError(f"{chip.name}: its file gives no energy of arithmetic or of its memory")
    return float(found.energy - found.cost.energy[f"memory.{chip.main_memory.name}"]) / float(found.time)


# ---- tokens a second and chip -----------------------------------------------------------------------------------------------


def _served(group: Group, level: str) -> Quantity:
    """Return the time of a token of one chip: of prompts that fill a step, or of a decode step at the mean context."""
    test = point_load(group.text("model"))
    if test is None:
        raise InputError(f"{group.text('model')}: neither the row nor the catalogue says with which batch and lengths it ran")
    chip = replace(group.chip, efficiency=group.family, stack=group.stack)
    precision = Precision.parse(group.text("dtype"))
    precision = replace(precision, kv=FORMATS[test.format]) if test.format else precision
    found = estimate(chip, load.model(group.text("model")), _asked(group.rows[0], test), precision, level=level)
    return float(found.time / found.tokens)


def _asked(row: Row, test: LoadTest) -> Scenario:
    if row.metric.startswith("prefill"):
        prompts = max(1.0, float(test.tokens or test.prompt) / test.prompt)
        return Scenario(phase="prefill", batch=prompts, prompt=float(test.prompt))
    return Scenario(phase="decode", batch=float(test.sequences or 1), context=test.prompt + test.output / 2.0)
