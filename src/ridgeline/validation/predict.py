"""A prediction for each measured row: one function for each kind of row, registered in one table.

A kind takes groups of rows that share chip, library and number formats, and predicts a group in one call over arrays. A new kind
is a function from a `Group` to times and a line in `KINDS`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from ridgeline.catalogue import families as found
from ridgeline.catalogue.residuals import residuals
from ridgeline.errors import InputError, RidgelineError
from ridgeline.quantities import Seconds
from ridgeline.specs.chip import Chip
from ridgeline.specs.family import Family, with_own
from ridgeline.specs.residual import Residuals
from ridgeline.specs.stack import Stack
from ridgeline.validation import (
    attentions,
    exchanges,
    experts,
    latent,
    loads,
    models,
    points,
    power_rows,
    products,
    traces,
    vectors,
)
from ridgeline.validation.group import Group, Times
from ridgeline.validation.row_intervals import Factors, factors, in_unit_of, kind_of_row, step_of_row
from ridgeline.validation.schema import RATES, Row, chip_of


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of row: which rows are of it, what they are grouped by beside chip and library, and what predicts a group."""

    name: str
    accepts: Callable[[Row], bool]
    predict: Callable[[Group], Times]
    grouped_by: tuple[str, ...] = ("dtype",)
    framework: Callable[[Row], str] = lambda row: row.text("framework")  # by which its software stack is found
    whole: bool = False  # rows of whole models, whose stack is the one that runs these
    each: bool = False  # its times are of one of what a row counts, so that a rate is their inverse
    fixes: Callable[[Row], bool] = lambda _: True  # constants; what other rows show has another cause, and they are judged alone


_SERVING = "serving"

KINDS: tuple[Kind, ...] = (
    Kind(name="product", accepts=products.is_product, predict=products.times),
    Kind(
        name="attention",
        accepts=attentions.is_attention,
        predict=attentions.times,
        grouped_by=("phase", "dtype", "kv_dtype", "causal"),
    ),
    Kind(
        name="latent",
        accepts=latent.is_latent,
        predict=latent.times,
        grouped_by=("phase", "dtype", "kv_dtype"),
    ),
    Kind(
        name="experts",
        accepts=experts.is_layer,
        predict=experts.layer_times,
        grouped_by=("dtype", "routing"),
    ),
    Kind(
        name="grouped",
        accepts=experts.is_grouped,
        predict=experts.grouped_times,
        grouped_by=("op", "phase", "dtype"),
    ),
    Kind(
        name="exchange",
        accepts=exchanges.is_exchange,
        predict=exchanges.times,
        grouped_by=("op", "n_chips", "gpus_per_node", "topology"),
        framework=exchanges.library_of,
        fixes=exchanges.fixes,
    ),
    Kind(name="vector", accepts=vectors.is_vector, predict=vectors.times, grouped_by=("dtype", "op", "gated")),
    Kind(
        name="model",
        accepts=models.is_model,
        predict=models.times,
        grouped_by=models.GROUPED_BY,
        framework=models.library_of,
        fixes=models.fixes,
        whole=True,
    ),
    Kind(
        name="load",
        accepts=loads.is_load,
        predict=loads.times,
        grouped_by=loads.GROUPED_BY,
        framework=loads.framework_of,
        fixes=models.fixes,
        whole=True,
        each=True,
    ),
    Kind(
        name="trace",
        accepts=traces.is_traced,
        predict=traces.times,
        grouped_by=traces.GROUPED_BY,
        fixes=models.fixes,
        whole=True,
    ),
    Kind(
        name="power",
        accepts=power_rows.is_power,
        predict=power_rows.watts,
        grouped_by=power_rows.GROUPED_BY,
        framework=power_rows.framework_of,
        fixes=models.fixes,
        whole=True,
        each=True,
    ),
    Kind(
        name="point",
        accepts=points.is_point,
        predict=points.values,
        grouped_by=points.GROUPED_BY,
        framework=points.framework_of,
        fixes=models.fixes,
        whole=True,
        each=True,
    ),
)


class Prediction(NamedTuple):
    """What a row is predicted to take: in its own unit, with an interval and a bound, or why not."""

    row: Row
    kind: str
    predicted: float | None
    ideal: float | None
    reason: str = ""
    lower: float | None = None  # of the interval
    upper: float | None = None
    residual: str = ""  # the kind under which its error counts


@dataclass(frozen=True, kw_only=True)
class Constants:
    """The families and stacks that predictions take; a fit replaces some of them."""

    families: tuple[Family, ...]
    stacks: tuple[Stack, ...]
    residuals: Residuals | None = None  # None: those of the catalogue

    @classmethod
    def of_catalogue(cls) -> "Constants":
        """Return those of the catalogue."""
        return cls(families=found.families(), stacks=found.stacks())

    @classmethod
    def before_any_fit(cls) -> "Constants":
        """Return those that documentation gives: where every fit starts, and what a constant keeps that no row fixes."""
        return cls(families=found.families(prior=True), stacks=found.stacks(prior=True))


def kind_of(row: Row) -> Kind | None:
    """Return the kind of a row, None where no function predicts it."""
    return next((one for one in KINDS if one.accepts(row)), None)


def grouped(rows: Iterable[Row], constants: Constants) -> tuple[list[tuple[Kind, Group]], list[Prediction]]:
    """Return the rows in groups that one call predicts, and those that none does with the reason."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    kinds = {one.name: one for one in KINDS}
    refused: list[Prediction] = []
    for row in rows:
        kind = kind_of(row)
        if kind is None or row.unit not in ("s", "W", "1/MAC", *RATES):
            refused.append(Prediction(row, "", None, None, _unsupported(row)))
            continue
        key = (kind.name, row.chip, row.text("framework"), row.text("kernel"), *(row.text(one) for one in kind.grouped_by))
        groups.setdefault(key, []).append(row)
    made: list[tuple[Kind, Group]] = []
    for key, members in groups.items():
        try:
            made.append((kinds[key[0]], _group(kinds[key[0]], members, constants)))
        except RidgelineError as error:
            refused += [Prediction(row, key[0], None, None, str(error)) for row in members]
    return made, refused


def _unsupported(row: Row) -> str:
    what = row.text("op", "model", default="row")
    return f"{what} ({row.metric}, {row.unit}): no prediction of this kind of row"


def _group(kind: Kind, rows: Sequence[Row], constants: Constants) -> Group:
    chip: Chip = chip_of(rows[0].chip)
    family = with_own(found.family_of(chip.family, constants.families), chip.efficiency)
    library = kind.framework(rows[0])
    if kind.whole:
        stack = _model_stack(library, chip, constants)
    else:
        stack = found.stack_of(library, rows[0].text("kernel"), chip.vendor, chip.family, constants.stacks)
    chip = chip if constants.residuals is None else replace(chip, residuals=constants.residuals)
    return Group(chip=chip, family=family, stack=stack, rows=tuple(rows))


def _model_stack(library: str, chip: Chip, constants: Constants) -> Stack:
    """Return the stack that runs whole models of a framework; of one that is not known, what serving programs share."""
    try:
        return found.model_stack_of(library, chip.vendor, chip.family, constants.stacks)
    except InputError:
        return next(one for one in constants.stacks if one.name == _SERVING)


def predict(rows: Iterable[Row], constants: Constants | None = None) -> list[Prediction]:
    """Return a prediction of every row, in any order."""
    constants = constants or Constants.of_catalogue()
    groups, refused = grouped(rows, constants)
    done = list(refused)
    for kind, group in groups:
        try:
            times = kind.predict(group)
        except RidgelineError as error:
            done += [Prediction(row, kind.name, None, None, str(error)) for row in group.rows]
            continue
        done += _predictions(kind, group, times, constants.residuals or residuals().on(group.chip.name))
    return done


def _predictions(kind: Kind, group: Group, times: Times, known: Residuals) -> list[Prediction]:
    """Return a group's rows with their predictions, each in its unit with its interval."""
    done: list[Prediction] = []
    for at, (row, time, ideal) in enumerate(zip(group.rows, np.ravel(times.time), np.ravel(times.ideal), strict=True)):
        predicted = _value(kind, row, time)
        if times.lower is None or times.upper is None:
            name = kind_of_row(kind.name, row)
            own = factors(known, name, group, float(time))
        else:
            name = step_of_row(group, row)
            own = Factors(float(times.lower[at]), float(times.upper[at]))
        done.append(Prediction(row, kind.name, predicted, _value(kind, row, ideal), "", *in_unit_of(row, predicted, own), name))
    return done


def _value(kind: Kind, row: Row, time: Seconds) -> float:
    """Return a group's time in the unit of a row: of one of what it counts, or of the work of the row."""
    if kind.each:
        return 1.0 / float(time) if row.unit in RATES else float(time)
    return in_unit(row, time)


def in_unit(row: Row, time: Seconds) -> float:
    """Return a time in the unit of a row: seconds, or the work of the row over it."""
    if row.unit == "FLOP/s":
        return products.flops(row) / float(time)
    if row.unit == "tokens/s":
        return float(models.tokens(row)) / float(time)
    return float(time)
