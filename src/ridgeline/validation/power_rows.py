"""Rows of power: the mean that a board draws over a batch of requests, or a box over a benchmark at full load."""

import math

import numpy as np

from ridgeline.catalogue import load
from ridgeline.costs.power import wall_power
from ridgeline.errors import InputError
from ridgeline.mapping.activity import is_metered
from ridgeline.quantities import Watts
from ridgeline.specs.chip import Chip
from ridgeline.specs.precision import Precision
from ridgeline.specs.scenario import Scenario
from ridgeline.validation import loads
from ridgeline.validation.group import Group, Times
from ridgeline.validation.schema import Row
from ridgeline.validation.service import Service, service_of, split_of

GROUPED_BY = ("model", "dtype", "n_chips", "parallelism", "benchmark")
_METRIC = "avg_device_power"
_BOX = 8  # chips of a box


def is_power(row: Row) -> bool:
    """Say whether a row is the mean power of a device over requests of stated lengths, or of a box under a benchmark."""
    if row.unit != "W":
        return False
    if row.has("benchmark"):
        return "power" in row.metric
    return row.metric == _METRIC and row.has("model") and row.counts("batch", "isl", "osl")


def framework_of(row: Row) -> str:
    """Return the framework that serves a row."""
    return loads.framework_of(row) if row.has("benchmark") else row.text("framework")


def watts(group: Group) -> Times:
    """Predict the mean power of one device; as a bound, the work of the level `ideal` over the predicted time."""
    if group.rows[0].has("benchmark"):
        return _walls(group)
    service = service_of(
        group, split_of(group.text("parallelism"), int(group.rows[0].number("n_chips", 1.0))), Precision.parse(_dtype(group))
    )
    if not is_metered(service.chip, "mapped"):
        raise InputError(f"{service.chip.name}: its power needs a limit and an idle power (`package.power`, `package.idle_power`)")
    found = [_mean(service, row) for row in group.rows]
    return Times(np.array([one for one, _ in found]), np.array([least for _, least in found]))


def _dtype(group: Group) -> str:
    return group.text("dtype").split("/")[0]


def _mean(service: Service, row: Row) -> tuple[Watts, Watts]:
    """Return the mean power of a device over a batch's prompts and steps, and the least."""
    asked = Scenario(phase="generate", batch=row.number("batch"), prompt=row.number("isl"), output=row.number("osl"))
    chips = service.plan.tensor * service.plan.pipeline
    found, least = service.step(asked), service.step(asked, "ideal")
    energy, work = found.energy, least.energy
    if energy is None:
        raise InputError(f"{service.chip.name}: its file gives no energy of arithmetic or of its memory")
    time = float(found.time)
    return float(energy) / time / chips, math.nan if work is None else float(work) / time / chips


def _walls(group: Group) -> Times:
    """Predict what boxes under a benchmark draw from the wall: boards and the rest; the bound has the boards alone."""
    boards = loads.powers(group)
    host = box_of(group.chip)
    chips = int(group.rows[0].number("n_chips", 1.0))
    whole = [wall_power(boards=one, box=host * max(1, -(-chips // _BOX))) for one in boards]
    return Times(np.array(whole), np.array(boards))


def box_of(chip: Chip) -> Watts:
    """Return the power of a box of eight beside its chips: of the first system made of the chip that states one."""
    systems = [load.system(name) for name in load.names("systems")]
    stated = [one.host.power for one in systems if one.chip.name == chip.name and one.host.power is not None]
    if not stated:
        raise InputError(f"{chip.name}: no system of the catalogue says what a box of it draws beside its chips (`host.power`)")
    return float(stated[0])
