"""Catalogue files become specs: names and aliases, units, inheritance of sources, and all errors of a file at once."""

import csv
import difflib
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ridgeline.catalogue.families import constants, family_of, stack_named
from ridgeline.catalogue.residuals import residuals_for
from ridgeline.catalogue.silicon import technology_of
from ridgeline.errors import InputError, UnitError, UnknownNameError, nearest
from ridgeline.quantities import Unit, convert
from ridgeline.specs.base import Source, units_of
from ridgeline.specs.chip import Chip, FunctionName, MatrixUnit, MemoryLevel, Package
from ridgeline.specs.family import Family
from ridgeline.specs.model import ConvolutionalModel, Model
from ridgeline.specs.number_format import FORMATS
from ridgeline.specs.precision import Precision
from ridgeline.specs.system import System

Kind = Literal["chips", "models", "systems", "stacks"]
FOLDER = Path(__file__).parent
_SOURCE_KEYS = ("source", "where", "confidence", "estimate", "note")


# ---- names ------------------------------------------------------------------------------------------------------------------


def names(kind: Kind) -> list[str]:
    """Return the catalogue's names of a kind."""
    return list(_files(FOLDER / kind))


def _files(folder: Path) -> Mapping[str, str]:
    """Return the names of a folder's files, sorted, with their bare names; read again once a file was added or removed."""
    return _listed((folder, folder.stat().st_mtime_ns))


@lru_cache(maxsize=16)
def _listed(folder_and_change: tuple[Path, int]) -> Mapping[str, str]:
    stems = sorted(path.stem for path in folder_and_change[0].glob("*.toml"))
    return {stem: _bare(stem) for stem in stems}


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
    folder, wanted = FOLDER / kind, _bare(name)
    files = _files(folder)
    for stem, bare in files.items():
        if bare == wanted:
            return folder / f"{stem}.toml"
    for file in (folder / f"{stem}.toml" for stem in files):
        text = file.read_text(encoding="utf-8")
        if wanted in _bare(text) and any(_bare(alias) == wanted for alias in aliases(tomllib.loads(text))):
            return file
    raise UnknownNameError(kind.removesuffix("s"), name, files)


def aliases(raw: Mapping[str, Any]) -> list[str]:
    """Return the other spellings that a file gives, its title among them."""
    return [*raw.get("aliases", []), raw.get("name", "")]


# ---- files to specs ---------------------------------------------------------------------------------------------------------


def chip(name: str) -> Chip:
    """Return a chip by name, alias or path of a `.toml` file."""
    path, own = find("chips", name), dict[str, Any]()

    def prepare(data: dict[str, Any]) -> dict[str, Any]:
        own.update(data.get("efficiency", {}))
        return _without_technology(data)

    found: Chip = _read(path, Chip, prepare, _chip_faults)
    _check_power(path, found.package)
    return _with_defaults(found, own)


def _check_power(path: Path, package: Package) -> None:
    """Refuse a limit below what the board draws without work."""
    if package.power is not None and package.idle_power is not None and package.power <= package.idle_power:
        raise InputError(
            f"{path}: `package.power` {package.power:g} W is no more than `package.idle_power` {package.idle_power:g} W: "
            "a limit above what the board draws without work is wanted"
        )


def _without_technology(data: dict[str, Any]) -> dict[str, Any]:
    """Return a chip's data without what no file states: its technology follows from its node, its constants from its family."""
    return {key: value for key, value in data.items() if key not in ("technology", "efficiency", "stack", "residuals")}


def model(name: str) -> Model | ConvolutionalModel:
    """Return a model by name, alias or path of a `.toml` file."""
    path = find("models", name)
    spec: Any = ConvolutionalModel if _parse(path).get("kind") == "convolutional" else Model
    return _read(path, spec, check=_model_faults)


def system(name: str) -> System:
    """Return a system by name, alias or path of a `.toml` file, with its chip."""
    path = find("systems", name)
    found: System = _read(path, System, lambda data: {**data, "chip": chip(str(data["chip"]))} if "chip" in data else data)
    return replace(found, sources={**found.sources, **{f"chip.{name}": one for name, one in found.chip.sources.items()}})


def _parse(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: not TOML: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None


@cache
def _reader(spec: Any) -> Any:
    """Return pydantic's reader of a spec; making one takes longer than reading a file with it."""
    from pydantic import TypeAdapter

    return TypeAdapter(spec)


def _read(
    path: Path,
    spec: Any,
    prepare: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
    check: Callable[[Mapping[str, Any]], Iterable[str]] | None = None,
) -> Any:
    """Read a file into a spec; all that is wrong with it is said at once."""
    from pydantic import ValidationError

    raw = _parse(path)
    _check_kind(path, raw, spec)
    wrong: list[str] = []
    data, sources = split_sources(raw, wrong)
    wrong += [] if check is None else check(data)
    wrong += _price_faults(data, "")
    data["title"] = data.pop("name", path.stem)
    data["name"] = path.stem
    data.pop("aliases", None)
    if prepare is not None:
        data = prepare(data)
    try:
        found = _reader(spec).validate_python(data)
    except ValidationError as error:
        faults = list(dict.fromkeys(_sentence(spec, data, one) for one in error.errors()))
        raise InputError(f"{path}: " + "; ".join(dict.fromkeys([*faults, *wrong]))) from None
    if wrong:
        raise InputError(f"{path}: " + "; ".join(wrong))
    return replace(found, sources=sources)


def _price_faults(table: Mapping[str, Any], path: str) -> Iterator[str]:
    """Yield the prices that do not say of which year they are."""
    for key, value in table.items():
        for index, one in enumerate(value if isinstance(value, list) else [value]):  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
            if isinstance(one, dict) and not (key in _PRICES and "value" in one):
                name = f"{key}.{one.get('name', index)}" if isinstance(value, list) else key
                yield from _price_faults(one, f"{path}{name}.")
        if key in _PRICES and not isinstance(table.get(f"{key}_year"), int):
            yield f"`{path}{key}`: a price is of a year: add `year = 2024` to it"


_PRICES = ("price", "rental")
_TELLING = {"chips": ("memory", "matrix_unit"), "systems": ("tier",), "models": ("decoder", "encoder", "layers")}
_KIND_OF: Mapping[type, Kind] = {Chip: "chips", System: "systems", Model: "models", ConvolutionalModel: "models"}


def _check_kind(path: Path, raw: Mapping[str, Any], spec: type) -> None:
    """Say so at once where a file is of another kind than the one that was asked for."""
    wanted = _KIND_OF[spec]
    kinds = [kind for kind, keys in _TELLING.items() if any(key in raw for key in keys)]
    if kinds and wanted not in kinds:
        raise InputError(f"{path}: this is a {kinds[0].removesuffix('s')} file, a {wanted.removesuffix('s')} is wanted here")


def split_sources(raw: Mapping[str, Any], wrong: list[str] | None = None) -> tuple[dict[str, Any], dict[str, Source]]:
    """Return a file's data without its sources, and the source of every number by dotted path.

    A number takes the nearest source: its own, its table's, or the file's. What is wrong with how a number is written is added
    to `wrong`.
    """
    clock = raw.get("cores", {}).get("clock") if isinstance(raw.get("cores"), dict) else None
    hertz = _hertz(clock) if isinstance(clock, dict) else None
    sources: dict[str, Source] = {}
    if wrong is not None:
        wrong += _number_faults(raw, "", hertz)
    return _walk(raw, "", {}, sources, hertz), sources


_NUMBER_KEYS = ("value", "unit", "year", *_SOURCE_KEYS)


def _number_faults(table: Mapping[str, Any], path: str, hertz: float | None) -> Iterator[str]:
    """Yield what is wrong with how numbers are written: unknown keys, an estimate that is no yes or no, cycles without a clock."""
    if "estimate" in table and not isinstance(table["estimate"], bool):
        yield f"`{path}estimate`: {table['estimate']!r} is neither true nor false"
    for key, value in table.items():
        members = value if isinstance(value, list) else [value]
        for index, one in enumerate(members):
            if not isinstance(one, dict):
                continue
            where = f"{path}{key}.{one.get('name', index)}." if isinstance(value, list) else f"{path}{key}."
            if "value" not in one:
                yield from _number_faults(one, where, hertz)
                continue
            for unknown in one.keys() - set(_NUMBER_KEYS):
                yield f"unknown key `{where}{unknown}`: {nearest(unknown, _NUMBER_KEYS)}"
            if "cycle" in str(one.get("unit", "")) and hertz is None:
                yield f"`{where.rstrip('.')}`: a unit of {one['unit']} needs `cores.clock`"


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
    if kind == "tuple_type":
        return f"`{place}`: a list is wanted: write [[{place}]] above each of its tables"
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


def _tables(data: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    """Return the tables under a key, whether one or a list of them; what is none is left to the types."""
    value = data.get(key, [])
    return [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, dict)]


def _chip_faults(data: Mapping[str, Any]) -> Iterator[str]:
    """Yield what types cannot tell of a chip: formats that do not exist, no memory, no rates."""
    yield from _silicon_faults(data)
    yield from _own_faults(data)
    rates = 0
    for unit, table in (
        ("matrix_unit", "rate"),
        ("matrix_unit", "macs_per_cycle"),
        ("matrix_unit", "energy"),
        ("vector_unit", "rate"),
    ):
        for key in (key for one in _tables(data, unit) for found in _tables(one, table) for key in found):
            rates += table == "rate"
            unknown = [one for one in key.split(":") if one not in FORMATS and not (unit == "vector_unit" and one == "exponential")]
            if unknown:
                yield f"`{unit}.{table}.{key}`: unknown number format {unknown[0]!r}; {nearest(unknown[0], FORMATS)}"
    for key in (key for one in _tables(data, "functions") for key in one):
        if key not in get_args(FunctionName):
            yield f"`functions.{key}`: unknown function {key!r}; {nearest(key, get_args(FunctionName))}"
    held = [level for level in _tables(data, "memory") if level.get("role") != "further-tier"]
    if not held and not data.get("memory"):
        yield "missing key `memory`: a chip needs at least the [[memory]] that holds the model"
    for name in ("capacity", "bandwidth"):
        if held and name not in held[-1]:
            yield f"missing key `memory.{held[-1].get('name', len(held) - 1)}.{name}`: the last memory holds the model"
    if not rates:
        yield "missing key `matrix_unit.rate`: a chip needs the dense peak of at least one format"


def _silicon_faults(data: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with a chip's silicon: a size that is no process node, a supply outside its node's range."""
    if "technology" in data:
        yield "unknown key `technology`: it follows from `package.node`"
    package = next(iter(_tables(data, "package")), {})
    node, supply, process = (package.get(name) for name in ("node", "voltage", "process"))
    try:
        if node is None:
            return
        found = technology_of(Unit("m").read(node), process if isinstance(process, str) else None)[0].node
    except UnitError:
        return  # reported when the node itself is read
    except InputError as error:
        yield f"`package.node`: {error}"
        return
    try:
        volts = None if supply is None else Unit("V").read(supply)
    except UnitError:
        return  # as above
    if volts is not None and not found.lowest <= volts <= found.highest:
        accepted = f"accepted are {found.lowest:g} to {found.highest:g} V"
        yield f"`package.voltage`: {volts:g} V is outside the range in which the scaling of {found.name} holds; {accepted}"


def _model_faults(data: Mapping[str, Any]) -> Iterator[str]:
    """Yield what types cannot tell of a model: a precision that does not exist, heads that do not divide, no layers."""
    try:
        Precision.parse(str(data.get("precision", "bf16")))
    except InputError as error:
        yield f"`precision`: {error}"
    if not any(key in data for key in _TELLING["models"]):
        yield "missing key `decoder` or `encoder`: a model needs layers"
    for stack in ("encoder", "decoder"):
        for index, layer in enumerate(_tables(data, stack)):
            for name in ("attention", "cross_attention"):
                for one in _tables(layer, name):
                    heads, shared = one.get("heads"), one.get("kv_heads")
                    if isinstance(heads, int) and isinstance(shared, int) and heads > 0 and (shared <= 0 or heads % shared):
                        yield f"`{stack}.{layer.get('name', index)}.{name}.kv_heads`: {shared} does not divide the {heads} heads"


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


def _with_defaults(chip: Chip, own: Mapping[str, Any]) -> Chip:
    """Return the chip with energies that its file leaves out taken from its memory technology and its node.

    `own` are constants of kernels that its file states in place of its family's.
    """
    sources = dict(chip.sources)
    chip = _with_technology(chip, sources)
    memory = tuple(_memory_energy(level, sources) for level in chip.memory)
    unit = _matrix_energy(chip, sources)
    chip = replace(chip, memory=memory, matrix_unit=unit, sources=sources)
    kernels = _has_kernels(chip)
    chip = replace(chip, residuals=residuals_for(chip.name, chip.family, kernels=kernels))
    return _with_family(chip, sources, own) if kernels else chip


def _has_kernels(chip: Chip) -> bool:
    """Say whether a chip runs kernels on many cores and its file says enough of them."""
    many = chip.cores is not None and chip.cores.clock is not None and chip.matrix_unit.kind in ("dot-product", "simd")
    return many and chip.kind in ("gpu", "cpu") and bool(chip.memory) and chip.main_memory.bandwidth is not None


def _with_family(chip: Chip, sources: dict[str, Source], own: Mapping[str, Any]) -> Chip:
    """Return the chip with the constants of its family, or its own, and the software that serves models."""
    family = family_of(chip.family)
    for one in constants(family.name, based=True):
        if one.name in own:
            continue
        said = f"fitted; {one.meaning}" if one.spread else one.note or one.meaning
        where = f"families/{family.name}.toml"
        sources[f"efficiency.{one.name}"] = Source(
            key=None, where=where, confidence="estimate", note=said, value=one.value, unit=one.unit
        )
    units = units_of(Family)
    family = replace(family, own=tuple(own), **{name: units[name][0].read(value) for name, value in own.items()})
    return replace(chip, efficiency=family, stack=stack_named("serving"), sources=sources)


def _own_faults(data: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with constants of kernels that a chip's file states in place of its family's."""
    units = {name: unit for name, (unit, many) in units_of(Family).items() if not many}
    for name, value in next(iter(_tables(data, "efficiency")), {}).items():
        if name not in units:
            yield f"unknown key `efficiency.{name}`: {nearest(name, units)}"
            continue
        try:
            units[name].read(value)
        except ValueError as error:
            yield f"`efficiency.{name}`: {error}"


def _with_technology(chip: Chip, sources: dict[str, Source]) -> Chip:
    """Return the chip with the technology of its node, where the file says one."""
    if chip.package.node is None:
        return chip
    technology, said = technology_of(chip.package.node, chip.package.process)
    sources |= said
    return replace(chip, technology=technology)


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
    if chip.kind == "asic":
        return unit  # an array of its own: its parts follow from its node; the table holds fits to processors at their power limit
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
