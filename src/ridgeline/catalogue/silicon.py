"""Tables of silicon become specs: nodes with their polynomials and claims (`scaling.csv`), parts at one node (`components.csv`)."""

import csv
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from ridgeline.errors import InputError
from ridgeline.quantities import convert
from ridgeline.specs.base import Source
from ridgeline.specs.technology import Coefficients, Family, Node, Technology, find_node

FOLDER = Path(__file__).parent
_LOW_POWER = frozenset({"LP", "LPE", "LPP", "LPU", "ULP", "LSTP", "SLP"})


def _rows(name: str) -> Iterator[dict[str, str]]:
    with (FOLDER / name).open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def _source(row: Mapping[str, str], prefix: str = "") -> Source:
    return Source(
        key=row[f"{prefix}source"] or None,
        where=row[f"{prefix}where"] or None,
        confidence=row[f"{prefix}confidence"] or "estimate",
        note=row[f"{prefix}note"] or None,
    )


@cache
def nodes() -> tuple[Node, ...]:
    """Return every node of `scaling.csv`; those of a claim have the polynomials of their base times the claim's factors."""
    found: dict[str, Node] = {}
    for row in _rows("scaling.csv"):
        if row["kind"] == "alias":
            continue
        polynomials = {name: _polynomial(row, name) for name in ("delay", "energy", "power")}
        area = float(row["area"])
        if row["kind"] == "claim":
            base = found[f"{row['base_nm']} nm {row['family']}"]
            delay, energy = polynomials["delay"][-1], polynomials["energy"][-1]
            factors = {"delay": delay, "energy": energy, "power": energy / delay}
            polynomials = {name: tuple(one * factor for one in getattr(base, name)) for name, factor in factors.items()}
            area *= base.area
        found[row["name"]] = _node(row, polynomials, area)
    return tuple(found.values())


def _polynomial(row: Mapping[str, str], name: str) -> tuple[float, ...]:
    written = [row.get(f"{name}_{power}", "") for power in (3, 2, 1, 0)]
    return tuple(float(one) for one in written if one)


def _node(row: Mapping[str, str], polynomials: Mapping[str, tuple[float, ...]], area: float) -> Node:
    families: dict[str, Family] = {"high-performance": "high-performance", "low-power": "low-power"}
    limits = Source(
        key=row["voltage_source"],
        where="nominal supply of the model cards",
        confidence="estimate",
        note="range derived: from half to 1.2 of the nominal supply, less where a factor is not positive, energy or power does not "
        "rise, or delay rises by more than 15 %",
    )
    return Node(
        name=row["name"],
        feature=convert(float(row["node_nm"]), "nm", "m"),
        family=families.get(row["family"], ""),
        nominal=float(row["nominal_V"]),
        lowest=float(row["lowest_V"]),
        highest=float(row["highest_V"]),
        delay=polynomials["delay"],
        energy=polynomials["energy"],
        power=polynomials["power"],
        area=area,
        sram_cell=convert(float(row["sram_cell_um2"]), "um2", "m2"),
        source=_source(row),
        voltage_source=limits,
        sram_source=_source(row, "sram_"),
        claimed=row["kind"] == "claim",
    )


@cache
def _taken_as() -> Mapping[float, tuple[float, str]]:
    """Return sizes that lie between nodes, each with the node that it is taken as and why."""
    return {float(row["node_nm"]): (float(row["base_nm"]), row["note"]) for row in _rows("scaling.csv") if row["kind"] == "alias"}


@cache
def coefficients() -> tuple[Coefficients, float, Mapping[str, Source]]:
    """Return the coefficients of `components.csv`, the share that a low-power process leaks, and the source of each."""
    values: dict[str, float] = {}
    sources: dict[str, Source] = {}
    units = {"J": "J", "fJ": "J", "um2": "m2", "1": "1", "fJ/V2/um": "J/V/V/m", "W/mm2": "W/m/m"}
    for row in _rows("components.csv"):
        name = row["quantity"].replace(" ", "_").replace("-", "_").lower()
        values[name] = convert(float(row["value"]), row["unit"], units[row["unit"]])
        said = _source(row)
        at = f" at {row['node_nm']} nm, {row['voltage_V']} V" if row["voltage_V"] else ""
        sources[f"technology.{name}"] = Source(
            key=said.key,
            where=f"{said.where or ''}{at}".strip() or None,
            confidence=said.confidence,
            note=said.note,
            value=float(row["value"]),
            unit=row["unit"],
        )
    low_power = values.pop("low_power_leakage")
    cell = find_node(nodes(), 45e-9).sram_cell
    wire = values.pop("wire_capacitance")
    return Coefficients(**values, voltage=0.9, sram_cell=cell, wire=wire), low_power, sources


def technology_of(feature: float, process: str | None = None) -> tuple[Technology, dict[str, Source]]:
    """Return what silicon of a node costs, with its sources; raise `InputError` for a size that is no node and none near.

    A process that says that it is a low-power one (`28 nm LP`) takes the low-power family, where the node has two.

    >>> technology_of(28e-9)[0].node.name, technology_of(65e-9, "TSMC 65 nm LP")[0].node.name
    ('32 nm high-performance', '65 nm')
    """
    size = round(feature * 1e9, 3)
    family: Family = "low-power" if _LOW_POWER & set((process or "").replace("-", " ").split()) else "high-performance"
    base, why = _taken_as().get(size, (size, ""))
    try:
        node = find_node(nodes(), base * 1e-9, family)
    except InputError:
        known = sorted({*(round(one.feature * 1e9, 3) for one in nodes()), *_taken_as()}, reverse=True)
        raise InputError(f"{size:g} nm is no process node: accepted are {', '.join(f'{one:g}' for one in known)} nm") from None
    numbers, low_power, sources = coefficients()
    note = f"{size:g} nm taken as {node.name}: {why}" if why else node.source.note
    said = Source(
        key=node.source.key,
        where=node.source.where,
        confidence="estimate" if why else node.source.confidence,
        note=note,
        value=base,
        unit="nm",
    )
    cell = node.sram_source
    found = {
        "technology.node": said,
        "technology.sram_cell": Source(
            key=cell.key, where=cell.where, confidence=cell.confidence, note=cell.note, value=node.sram_cell * 1e12, unit="um2"
        ),
    }
    reference = find_node(nodes(), 45e-9)
    technology = Technology(node=node, reference=reference, coefficients=numbers, low_power_leakage=low_power)
    return technology, {**found, **sources}
