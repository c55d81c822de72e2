"""The parts of a chip that one can have more of, and what more of each takes in area and dollars, where that is known."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ridgeline.api.analysis import Analysis
from ridgeline.api.money import fabrication_of, made_of
from ridgeline.api.token_cost import machine_of
from ridgeline.arrays import total
from ridgeline.costs.components import chip_area
from ridgeline.errors import InputError
from ridgeline.mapping.dataflow import TILED
from ridgeline.search.sensitivity import Bill, Outcome, Part, Purchase, purchases
from ridgeline.specs.base import quantities, with_quantity
from ridgeline.specs.chip import Chip, MemoryLevel
from ridgeline.specs.money import Fabrication, Terms
from ridgeline.specs.system import System

_STACKED = ("dram",)
_SRAM = ("accumulator", "scratchpad", "cache", "buffer")


@dataclass(frozen=True, kw_only=True, eq=False)
class Prices:
    """What the parts of one chip cost."""

    base: Chip
    fabrication: Fabrication | None  # None: no price of the node's wafers
    terms: Terms

    def bill(self, chip: Chip) -> Bill:
        """Return the area of the die and the dollars of the package with its running, of a chip that differs in its parts.

        area = die of the file + Σ parts that follow from the node, less those of the base, + interfaces of memory and links
        dollars = package to make + hosting and electricity of a power limit over the life
        """
        try:
            area = total(list(chip_area(chip).values())) - total(list(chip_area(self.base).values()))
        except InputError:
            return Bill(None, None)
        area = area + _interfaces(chip, self.fabrication) - _interfaces(self.base, self.fabrication)
        die = self.base.package.die_area
        if self.fabrication is None or die is None:
            return Bill(area, None)
        memory = chip.main_memory
        _, package = made_of(die + area, memory.capacity, memory.technology, self.fabrication, self.base.package.dies or 1)
        running = self.terms.hosting + self.terms.pue * self.terms.electricity
        power = chip.package.power or 0.0
        return Bill(area, package + power * running * self.terms.life)


def _interfaces(chip: Chip, at: Fabrication | None) -> float:
    """Area of the interfaces to memory and links: of as many stacks and links, at their full rate, as their bandwidth takes."""
    if at is None:
        return 0.0
    memory, found = chip.main_memory, 0.0
    technology = memory.technology or ""
    if technology in at.stack_interface and technology in at.stack_rate:
        found += at.stack_interface[technology] * memory.bandwidth / at.stack_rate[technology]
    if at.link_interface is not None and chip.link:
        found += at.link_interface * chip.link[0].bandwidth / at.link_rate
    return found


def buy_next(
    found: Analysis, *, evaluate: Callable[[Chip | System], Outcome], step: float, terms: Terms
) -> tuple[tuple[Purchase, ...], tuple[str, ...]]:
    """Return what a little more of each part of an analysed chip buys, the best first, and what is not known.

    `evaluate` returns what the step takes on a machine with larger parts.
    """
    machine = machine_of(found)
    chip = found.chip
    if chip.technology is None:
        return (), (f"what to buy next: {chip.name} has no `package.node`, from which areas follow",)
    try:
        fabrication = fabrication_of(chip)
    except InputError as error:
        fabrication, notes = None, [f"dollars are not known: {error}"]
    else:
        notes = _coverage(chip, fabrication)
    prices = Prices(base=chip, fabrication=fabrication, terms=terms)

    def grow(paths: tuple[str, ...], factor: float) -> tuple[Outcome, Bill]:
        grown: Any = machine
        for path in paths:
            grown = with_quantity(grown, path, quantities(grown)[path] * factor)
        own = grown.chip if isinstance(grown, System) else grown
        return evaluate(grown), prices.bill(own)

    one = found.estimate
    base = Outcome(float(one.time), None if one.energy is None else float(one.energy))
    parts, missing = _parts(found, machine, fabrication, step)
    return purchases(grow, parts, base, prices.bill(chip)), (*notes, *missing)


def _coverage(chip: Chip, at: Fabrication) -> list[str]:
    if chip.package.die_area is None:
        return [f"dollars are not known: {chip.name} has no `package.die_area`"]
    known = total(list(chip_area(chip).values())) + _interfaces(chip, at)
    return [
        f"at the margin; dollars are of making the package at its die's yield, no margin of a seller; parts whose area is known "
        f"add up to {known * 1e6:.3g} of {chip.package.die_area * 1e6:.4g} mm²: control, wires and empty space come on top"
    ]


def _parts(found: Analysis, machine: Chip | System, at: Fabrication | None, step: float) -> tuple[list[Part], list[str]]:
    """Return the parts that the machine can have more of, and why others are not there."""
    chip, level = found.chip, found.estimate.level
    prefix = "chip." if isinstance(machine, System) else ""
    known = quantities(chip)
    rates = [path for path in known if path.startswith(("matrix_unit.rate.", "matrix_unit.macs_per_cycle."))]
    lanes = [path for path in known if path.startswith("vector_unit.rate.")]
    missing: list[str] = []
    groups: dict[str, Sequence[str]] = {}
    if chip.matrix_unit.kind in TILED and level != "ideal":
        missing.append("an array grows by whole rows, which is a change of structure: `explore` varies its shape")
    else:
        groups["matrix units"] = rates
    groups["vector lanes"] = lanes
    main = chip.main_memory
    for memory in chip.memory:
        if memory.name != main.name and memory.capacity is not None and (memory.role in _SRAM or memory.technology == "SRAM"):
            groups[f"{memory.name} capacity"] = [f"memory.{memory.name}.capacity"]
    groups |= _off_chip(main, at, missing)
    parts = [Part(name, tuple(f"{prefix}{path}" for path in paths), 1.0 + step) for name, paths in groups.items() if paths]
    if chip.cores is not None and "matrix units" in groups:
        parts.append(_cores(chip, [*rates, *lanes], step, level, prefix))
    parts += _links(chip, machine, at, step, missing)
    if "package.power" in known:
        parts.append(Part("power limit", (f"{prefix}package.power",), 1.0 + step))
    return parts, missing


def _off_chip(main: MemoryLevel, at: Fabrication | None, missing: list[str]) -> Mapping[str, Sequence[str]]:
    if main.role not in _STACKED:
        return {}
    technology = main.technology or ""
    if at is None or technology not in at.memory:
        missing.append(f"memory of {technology or 'an unknown technology'} has no price: it is not among what can be bought")
        return {}
    stack = "stacks" if technology.startswith("HBM") else "devices"
    return {f"{main.name} {stack}": [f"memory.{main.name}.bandwidth", f"memory.{main.name}.capacity"]}


def _cores(chip: Chip, rates: Sequence[str], step: float, level: str, prefix: str) -> Part:
    """Return whole cores with all that is in them; where a level needs whole numbers, the next whole number."""
    count = 1.0 if chip.cores is None else float(chip.cores.count)
    factor = 1.0 + step if level == "ideal" else max(math.floor(count) + 1.0, round(count * (1.0 + step))) / count
    whole = [path for path in rates if ".macs_per_cycle." not in path]
    return Part("cores", tuple(f"{prefix}{path}" for path in ("cores.count", *whole)), factor)


def _links(chip: Chip, machine: Chip | System, at: Fabrication | None, step: float, missing: list[str]) -> list[Part]:
    if not isinstance(machine, System) or not chip.link or not machine.tier:
        return []
    if at is None or at.link_interface is None:
        missing.append(f"links: the area of {chip.link[0].name} is not known")
        return []
    paths = (f"tier.{machine.tier[0].name}.bandwidth", f"chip.link.{chip.link[0].name}.bandwidth")
    return [Part(f"{chip.link[0].name} links", paths, 1.0 + step)]
