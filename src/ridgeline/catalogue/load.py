"""Catalogue files become specs: names and aliases, units, inheritance of sources, and all errors of a file at once."""

import csv
import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ridgeline.errors import InputError, UnknownNameError
from ridgeline.quantities import convert
from ridgeline.specs.base import Source
from ridgeline.specs.chip import Chip, MatrixUnit, MemoryLevel
from ridgeline.specs.model import ConvolutionalModel, Model
from ridgeline.specs.number_format import FORMATS
from ridgeline.specs.system import System

Kind = Literal["chips", "models", "systems", "stacks"]
FOLDER = Path(__file__).parent
_SOURCE_KEYS = ("source", "where", "confidence", "estimate", "note")


# ---- names ------------------------------------------------------------------------------------------------------------------


def names(kind: Kind) -> list[str]:
    """Return the catalogue's names of a kind."""
    return sorted(path.stem for path in (FOLDER / kind).glob("*.toml"))


def _bare(name: str) -> str:
    """Return a name without case and separators, as names are compared."""
    return re.sub(r"[\s_\-]+", "", name.lower())


def find(kind: Kind, name: str) -> Path:
    """Return the file of a name, an alias or a path; raise `UnknownNameError` with the nearest names."""
    path = Path(name)
    if path.suffix == ".toml" or path.is_file():
        if not path.is_file():
            raise InputError(f"{name}: no such file")
        return path
    files = sorted((FOLDER / kind).glob("*.toml"))
    wanted = _bare(name)
    for file in files:
        if _bare(file.stem) == wanted:
            return file
    for file in files:
        text = file.read_text(encoding="utf-8")
        if wanted in _bare(text) and any(_bare(alias) == wanted for alias in aliases(tomllib.loads(text))):
            return file
    raise UnknownNameError(kind.removesuffix("s"), name, [file.stem for file in files])


def aliases(raw: Mapping[str, Any]) -> list[str]:
    """Return the other spellings that a file gives, its title among them."""
    return [*raw.get("aliases", []), raw.get("name", "")]


# ---- files to specs ---------------------------------------------------------------------------------------------------------


def chip(name: str) -> Chip:
    """Return a chip by name, alias or path of a `.toml` file."""
    path = find("chips", name)
    found: Chip = _read(path, Chip)
    _check_chip(path, found)
    return _with_defaults(found)


def model(name: str) -> Model | ConvolutionalModel:
    """Return a model by name, alias or path of a `.toml` file."""
    path = find("models", name)
    spec: Any = ConvolutionalModel if _parse(path).get("kind") == "convolutional" else Model
    return _read(path, spec)


def system(name: str) -> System:
    """Return a system by name, alias or path of a `.toml` file, with its chip."""
    path = find("systems", name)
    return _read(path, System, lambda data: {**data, "chip": chip(str(data["chip"]))} if "chip" in data else data)


def _parse(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: not TOML: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None


def _read(path: Path, spec: Any, prepare: Any = None) -> Any:
    from pydantic import TypeAdapter, ValidationError

    raw = _parse(path)
    data, sources = split_sources(raw)
    data["title"] = data.pop("name", path.stem)
    data["name"] = path.stem
    data.pop("aliases", None)
    if prepare is not None:
        data = prepare(data)
    try:
        found = TypeAdapter(spec).validate_python(data)
    except ValidationError as error:
        raise InputError(f"{path}: " + "; ".join(_sentence(spec, data, one) for one in error.errors())) from None
    return replace(found, sources=sources)


def split_sources(raw: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Source]]:
    """Return a file's data without its sources, and the source of every number by dotted path.

    A number takes the nearest source: its own, its table's, or the file's.
    """
    clock = raw.get("cores", {}).get("clock") if isinstance(raw.get("cores"), dict) else None
    hertz = _hertz(clock) if isinstance(clock, dict) else None
    sources: dict[str, Source] = {}
    return _walk(raw, "", {}, sources, hertz), sources


def _hertz(clock: Mapping[str, Any]) -> float | None:
    try:
        return convert(float(clock["value"]), str(clock["unit"]), "Hz")
    except (KeyError, TypeError, ValueError):
        return None  # reported when the clock itself is read


def _walk(
    table: Mapping[str, Any], path: str, inherited: Mapping[str, Any], sources: dict[str, Source], hertz: float | None
) -> dict[str, Any]:
    own = {key: table[key] for key in _SOURCE_KEYS if key in table}
    inherited = own if "source" in own or "estimate" in own else {**inherited, **own}
    data: dict[str, Any] = {}
    for key, value in table.items():
        if key in own:
            continue
        where = f"{path}{key}"
        if isinstance(value, dict) and "value" in value:
            sources[where] = _source({**value} if "source" in value or "estimate" in value else {**inherited, **value}, value)
            data[key] = _per_cycle(value, hertz)
            if "year" in value:
                data[f"{key}_year"] = value["year"]
        elif isinstance(value, dict):
            data[key] = _walk(value, f"{where}.", inherited, sources, hertz)
        elif isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
            data[key] = [
                _walk(one, f"{where}.{one.get('name', index)}.", inherited, sources, hertz) for index, one in enumerate(value)
            ]
        else:
            if isinstance(value, int | float) and not isinstance(value, bool) and inherited:
                sources[where] = _source(inherited, {"value": value})
            data[key] = value
    return data


def _per_cycle(number: Mapping[str, Any], hertz: float | None) -> dict[str, Any]:
    """Return a number's value and unit; those a clock cycle are brought to seconds by the chip's clock."""
    value, unit = number["value"], str(number.get("unit", "1"))
    if "cycle" in unit and hertz is not None and isinstance(value, int | float):
        if unit.endswith("/cycle"):
            return {"value": value * hertz, "unit": unit.removesuffix("cycle") + "s"}
        return {"value": value / hertz, "unit": unit.replace("cycle", "s")}
    return {"value": value, "unit": unit}


def _source(stated: Mapping[str, Any], number: Mapping[str, Any]) -> Source:
    confidence = "estimate" if stated.get("estimate") else str(stated.get("confidence", "seen"))
    return Source(
        key=stated.get("source"),
        where=stated.get("where"),
        confidence=confidence,
        note=stated.get("note"),
        value=number.get("value"),
        unit=str(number.get("unit", "1")),
    )


# ---- errors -----------------------------------------------------------------------------------------------------------------


def _sentence(spec: Any, data: Any, error: Mapping[str, Any]) -> str:
    """Return one of pydantic's errors as place, what is wrong, and what would be accepted."""
    location = [one for one in error["loc"] if not (isinstance(one, str) and one in _TYPE_NAMES)]
    place = ".".join(_steps(data, location))
    kind, message = error["type"], str(error["msg"]).removeprefix("Value error, ")
    if kind == "unexpected_keyword_argument":
        known = _fields_at(spec, location[:-1])
        near = difflib.get_close_matches(str(location[-1]), known, n=1)
        hint = f"did you mean `{near[0]}`?" if near else f"known are {', '.join(f'`{one}`' for one in known)}"
        return f"unknown key `{place}`: {hint}"
    if kind in ("missing", "missing_argument", "missing_keyword_only_argument"):
        return f"missing key `{place}`"
    return f"`{place}`: {message[0].lower() + message[1:]}"


_TYPE_NAMES = frozenset({"function-plain[read()]", "none", "str", "int", "float"})


def _steps(data: Any, location: list[Any]) -> Iterator[str]:
    """Yield the steps of a place, list members by their name."""
    for step in location:
        if isinstance(step, int):
            member = data[step] if isinstance(data, list) and step < len(data) else {}  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
            yield str(member.get("name", step)) if isinstance(member, dict) else str(step)  # pyright: ignore[reportUnknownArgumentType, reportUnknownMemberType]
            data = member
        else:
            yield str(step)
            data = data.get(step) if isinstance(data, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]


def _fields_at(spec: Any, location: list[Any]) -> list[str]:
    """Return the field names of the dataclass that a location leads to."""
    for step in location:
        if isinstance(step, int):
            continue
        spec = _dataclass_in(get_type_hints(spec).get(step))
        if spec is None:
            return []
    hidden = ("sources", "title")
    return [one.name for one in fields(spec) if one.name not in hidden]


def _dataclass_in(annotation: Any) -> Any:
    if is_dataclass(annotation):
        return annotation
    if get_origin(annotation) in (tuple, Union, UnionType):
        return next((found for found in map(_dataclass_in, get_args(annotation)) if found), None)
    return None


def _check_chip(path: Path, chip: Chip) -> None:
    """Raise `InputError` for what types cannot tell: formats that do not exist, a chip without memory or rates."""
    wrong: list[str] = []
    for table in ("rate", "macs_per_cycle", "energy"):
        for key in getattr(chip.matrix_unit, table):
            unknown = [one for one in key.split(":") if one not in FORMATS]
            if unknown:
                wrong.append(f"`matrix_unit.{table}.{key}`: unknown number format {unknown[0]!r}; known are {', '.join(FORMATS)}")
    held = [level for level in chip.memory if level.role != "further-tier"]
    if not held:
        wrong.append("missing key `memory`: a chip needs at least the [[memory]] that holds the model")
    else:
        missing = [name for name in ("capacity", "bandwidth") if getattr(held[-1], name) is None]
        wrong += [f"missing key `memory.{held[-1].name}.{name}`: the last memory holds the model" for name in missing]
    if not chip.matrix_unit.rate and not chip.vector_unit.rate:
        wrong.append("missing key `matrix_unit.rate`: a chip needs the dense peak of at least one format")
    if wrong:
        raise InputError(f"{path}: " + "; ".join(wrong))


# ---- technology: what chips share -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Technology:
    """One row of `technology.csv` in SI."""

    value: float
    node: float | None
    source: Source


@cache
def technology() -> dict[tuple[str, str], list[Technology]]:
    """Return the shared coefficients by (technology, quantity), each at the nodes where it is known."""
    found: dict[tuple[str, str], list[Technology]] = {}
    with (FOLDER / "technology.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            base = "J/B" if row["unit"].endswith(("bit", "B")) else "J/FLOP"
            source = Source(
                key=row["source"] or None,
                where=row["where"] or None,
                confidence=row["confidence"] or "estimate",
                note=row["note"] or None,
                value=float(row["value"]),
                unit=row["unit"],
            )
            node = float(row["node_nm"]) * 1e-9 if row["node_nm"] else None
            value = convert(float(row["value"]), row["unit"], base)
            found.setdefault((row["technology"], row["quantity"]), []).append(Technology(value, node, source))
    return found


def _with_defaults(chip: Chip) -> Chip:
    """Return the chip with energies that its file leaves out taken from its memory technology and its node."""
    sources = dict(chip.sources)
    memory = tuple(_memory_energy(level, sources) for level in chip.memory)
    unit = _matrix_energy(chip, sources)
    return replace(chip, memory=memory, matrix_unit=unit, sources=sources)


def _memory_energy(level: MemoryLevel, sources: dict[str, Source]) -> MemoryLevel:
    rows = technology().get((level.technology or "", "access energy"))
    if level.energy is not None or not rows:
        return level
    sources[f"memory.{level.name}.energy"] = rows[0].source
    return replace(level, energy=rows[0].value)


def _matrix_energy(chip: Chip, sources: dict[str, Source]) -> MatrixUnit:
    """Return the matrix unit with the energy of its family where that is known, else of its node."""
    unit, node = chip.matrix_unit, chip.package.node
    energy = dict(unit.energy)
    for name in unit.rate:
        kind = f"matrix-unit {_ENERGY_CLASS.get(name, name)}"
        rows = technology().get((f"{kind} {chip.family}", "energy per FLOP"), [])
        if not rows and node is not None:
            at_node = technology().get((kind, "energy per FLOP"), [])
            rows = [row for row in at_node if row.node is not None and abs(row.node - node) < _SAME_NODE]
        if name not in energy and rows:
            energy[name] = rows[0].value
            sources[f"matrix_unit.energy.{name}"] = rows[0].source
    return replace(unit, energy=energy)


_SAME_NODE = 0.5e-9  # metres
_ENERGY_CLASS = {
    "bf16": "fp16",
    "fp8-e4m3": "fp8",
    "fp8-e5m2": "fp8",
    "mxfp8": "fp8",
    "nvfp4": "fp4",
    "mxfp4": "fp4",
    "fp4-e2m1": "fp4",
}
