"""Power of an answer: what its boards draw on average, what the wall gives, and a limit set below a board's own."""

from dataclasses import replace
from typing import NamedTuple

from ridgeline.api.analysis import Analysis
from ridgeline.api.names import load_chip
from ridgeline.api.plans import find_system
from ridgeline.arrays import is_scalar
from ridgeline.costs.power import wall_power
from ridgeline.errors import InputError
from ridgeline.mapping.activity import is_metered, power_left
from ridgeline.quantities import Watts
from ridgeline.specs.chip import Chip
from ridgeline.specs.system import System


class Drawn(NamedTuple):
    """Mean power over a step, of all chips: their boards, what is in the box beside them, and the wall's."""

    boards: Watts
    box: Watts | None  # host, memory, network, fans and conversion of the chips' share of a box; None where no file says
    wall: Watts | None


def drawn(analysis: Analysis) -> Drawn | None:
    """Return the mean power over a step; None where the chip's file lacks an energy.

    At `mapped` chips of many cores draw what running clocks take and what their work adds, at most their limit. At `ideal` it is
    the energy of the bound over the time of the bound.
    """
    found, spread = analysis.estimate, analysis.spread
    if found.energy is None:
        return None
    boards = found.energy / found.time
    host = None if spread is None else spread.system.host
    if spread is None or host is None or host.power is None:
        return Drawn(boards, None, None)
    each = host.chips or (spread.system.tier[0].size if spread.system.tier else 1)
    box = host.power * analysis.chips / each
    return Drawn(boards, box, wall_power(boards=boards, box=box))


def with_power_limit(machine: Chip | System | str, limit: Watts) -> Chip | System:
    """Return a chip, or a system, whose boards keep to a limit below their own; raise `InputError` for one that they cannot keep.

    >>> with_power_limit("a100-sxm-80gb", 300.0).package.cap
    300.0
    """
    system = find_system(machine)
    chip = load_chip(machine) if system is None else system.chip  # pyright: ignore[reportArgumentType]
    own = chip.package.power
    if not is_metered(chip, "mapped") or own is None:
        raise InputError(f"power limit: {chip.name} has no kernels of many cores, or no `package.power` and `package.idle_power`")
    if not limit > 0 or (is_scalar(own) and limit > own):
        raise InputError(f"power limit {limit:g} W: {chip.name} has one of {own:g} W: a limit above 0 and up to that is wanted")
    chip = replace(chip, package=replace(chip.package, cap=limit))
    power_left(chip)
    return chip if system is None else replace(system, chip=chip)
