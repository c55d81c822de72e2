"""A chip's file brought to another process node: what is logic scales by the rule, what is memory outside the die does not."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ridgeline.costs.components import powered
from ridgeline.costs.scaling import scale_sram_energy
from ridgeline.errors import InputError
from ridgeline.specs.chip import Chip, MemoryLevel
from ridgeline.specs.technology import Technology
from ridgeline.survey.normalise import Factors, Rule, factors

_OUTSIDE = ("dram", "further-tier")


def chip_at(chip: Chip, rule: Rule) -> tuple[Chip, tuple[str, ...]]:
    """Return a chip as it would be at the rule's node, and notes: the same design, so the same units, sizes and places.

    - rates of matrix and vector units, clocks, and bandwidths of on-chip memories: times the rule's factor of performance;
    - energies of arithmetic: divided by its factor of efficiency; of on-chip memories likewise, under the scaling equations by
      their cells and wires;
    - DRAM, further tiers, links, host and fixed times: as they are.

    Raises `InputError` for a chip that computes beside banks of DRAM, whose node is unknown, or to which the rule does not apply.
    """
    if chip.package.node is None:
        raise InputError(f"{chip.name} has no `package.node`")
    if rule.name == "fpga-frequency" and chip.kind != "fpga":
        raise InputError("the rule is of FPGAs")
    if _beside_dram(chip):
        raise InputError("it computes beside banks of DRAM, whose interfaces are not scaled with logic")
    by = factors(rule, chip.package.node)
    chip = powered(chip)
    unit, lanes, cores = chip.matrix_unit, chip.vector_unit, chip.cores
    faster = by.performance
    clock = None if cores is None or cores.clock is None else cores.clock * faster
    changed = replace(
        chip,
        package=replace(chip.package, node=rule.target, voltage=rule.target_voltage),
        cores=None if cores is None else replace(cores, clock=clock),
        matrix_unit=replace(
            unit, rate=_times(unit.rate, faster), energy=_energies(unit.energy, by), network=_times(unit.network, faster)
        ),
        vector_unit=replace(lanes, rate=_times(lanes.rate, faster), energy=_energies(lanes.energy, by)),
        memory=tuple(_level_at(one, chip, rule, by) for one in chip.memory),
        technology=_technology_at(chip, rule),
    )
    return changed, (*by.notes, "DRAM, links, host, fixed times and idle power are as they were")


def _technology_at(chip: Chip, rule: Rule) -> Technology | None:
    """Return the technology at the node under the scaling equations; other rules have no model of silicon."""
    if chip.technology is None or rule.name not in ("nominal", "equations"):
        return None
    return replace(chip.technology, node=rule.find(rule.target)[0])


def _beside_dram(chip: Chip) -> bool:
    place = chip.matrix_unit.attached_to
    return place is not None and any(one.name == place and one.role in _OUTSIDE for one in chip.memory)


def _times(table: Mapping[str, Any], factor: float) -> dict[str, Any]:
    return {name: value * factor for name, value in table.items()}


def _energies(table: Mapping[str, Any], by: Factors) -> dict[str, Any]:
    return {} if by.efficiency is None else {name: value / by.efficiency for name, value in table.items()}


def _level_at(level: MemoryLevel, chip: Chip, rule: Rule, by: Factors) -> MemoryLevel:
    """Return a memory level at the node: unchanged where it is outside the die."""
    if level.role in _OUTSIDE:
        return level
    bandwidth = None if level.bandwidth is None else level.bandwidth * by.performance
    return replace(level, bandwidth=bandwidth, energy=_sram_energy(level, chip, rule, by))


def _sram_energy(level: MemoryLevel, chip: Chip, rule: Rule, by: Factors) -> Any:
    if level.energy is None or by.efficiency is None:
        return None
    if rule.name not in ("nominal", "equations") or chip.package.node is None:
        return level.energy / by.efficiency
    old, new = rule.find(chip.package.node)[0], rule.find(rule.target)[0]
    stated = (rule.source_voltage, rule.target_voltage) if rule.name == "equations" else (old.nominal, new.nominal)
    return scale_sram_energy(level.energy, source=old, source_voltage=stated[0], target=new, target_voltage=stated[1])
