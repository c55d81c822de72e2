"""Sweeps: a step on every combination of hardware quantities and scenarios, block by block, in bounded memory."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from ridgeline.costs.ideal import Machine
from ridgeline.errors import InputError, nearest
from ridgeline.estimate import Totals, fold, step_operations
from ridgeline.mapping.fusion import fuse
from ridgeline.search.space import Block, Grid
from ridgeline.specs.base import quantities, with_quantity
from ridgeline.specs.chip import Chip
from ridgeline.specs.model import ConvolutionalModel, Model
from ridgeline.specs.precision import Precision
from ridgeline.specs.scenario import Scenario

_SCENARIO = frozenset(
    {"batch", "prompt", "context", "output", "samples", "verified", "acceptance", "source_tokens", "data_ranks", "rematerialised"}
)


@dataclass(frozen=True, eq=False)
class Part:
    """One block of a sweep and what its steps take; arrays broadcast to the block."""

    block: Block
    totals: Totals


def place(chip: Chip, scenario: Scenario, values: Mapping[str, Any]) -> tuple[Chip, Scenario]:
    """Return chip and scenario with the named quantities replaced: a scenario's field, or a dotted path of the chip."""
    for name, value in values.items():
        if name in _SCENARIO:
            scenario = replace(scenario, **{name: value})
        else:
            chip = with_quantity(chip, name, value)
    return chip, scenario


def check_axes(chip: Chip, names: Sequence[str]) -> None:
    """Raise `InputError` with the nearest names for an axis that is neither of the scenario nor of the chip."""
    known = [*(one.name for one in fields(Scenario)), *quantities(chip)]
    for name in names:
        if name not in known:
            raise InputError(f"there is no quantity `{name}` to vary: {nearest(name, known)}")


def sweep(
    chip: Chip,
    model: Model | ConvolutionalModel,
    scenario: Scenario,
    precision: Precision,
    grid: Grid,
    *,
    block: int = 131_072,
    progress: Callable[[int], None] | None = None,
) -> Iterator[Part]:
    """Yield what a step takes on each block of the grid, at the `ideal` level, in the grid's order.

    Axes are fields of the scenario (`batch`, `context`, …) or dotted paths of the chip (`memory.hbm.bandwidth`). Memory is that
    of one block, whatever the size of the grid.
    """
    check_axes(chip, list(grid.axes))

    for part in grid.blocks(block):
        placed_chip, placed_scenario = place(chip, scenario, part.values)
        operations = fuse(step_operations(model, placed_scenario, precision))
        yield Part(part, fold(Machine.of(placed_chip, precision.accumulate), operations))
        if progress is not None:
            progress(part.points)
