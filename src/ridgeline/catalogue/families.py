"""Families of chips and software stacks: files become specs, found by what they cover."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

from ridgeline.errors import InputError, nearest
from ridgeline.specs.base import units_of
from ridgeline.specs.family import Family
from ridgeline.specs.stack import Stack

FOLDER = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class Constant:
    """One constant of a family: its value, what it means, how far it spreads, and what fixed it."""

    name: str
    value: float
    unit: str
    meaning: str
    prior: float | None  # where a fit starts, from documentation; None: not fitted
    spread: tuple[float, float] | None  # least and largest over fits without one chip
    fitted_to: str  # the rows that fixed it; empty: from documentation
    note: str


def _tables(kind: str) -> list[tuple[Path, dict[str, Any]]]:
    found: list[tuple[Path, dict[str, Any]]] = []
    for path in sorted((FOLDER / kind).glob("*.toml")):
        try:
            found.append((path, tomllib.loads(path.read_text(encoding="utf-8"))))
        except tomllib.TOMLDecodeError as error:
            raise InputError(f"{path}: not TOML: {error}") from None
    return found


def _quantity(path: Path, spec: type, name: str, raw: Any) -> Any:
    units = units_of(spec)
    if name not in units:
        raise InputError(f"{path}: unknown key `{name}`: {nearest(name, [one.name for one in fields(spec)])}")
    unit, many = units[name]
    try:
        return {key: unit.read(one) for key, one in raw.items()} if many else unit.read(raw)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: `{name}`: {error}") from None


@cache
def families(*, prior: bool = False) -> tuple[Family, ...]:
    """Return every family of the catalogue, with the values that documentation gives where `prior`."""
    files = _tables("families")
    return tuple(_family(path, _with_base(raw, files), prior) for path, raw in files)


def _with_base(raw: Mapping[str, Any], files: list[tuple[Path, dict[str, Any]]]) -> dict[str, Any]:
    """Return a file's data with the constants of the family that it builds on, its own in their place."""
    base = next((one for path, one in files if path.stem == raw.get("base")), {})
    return {**raw, "constant": {**base.get("constant", {}), **raw.get("constant", {})}}


def _family(path: Path, raw: Mapping[str, Any], prior: bool) -> Family:
    values: dict[str, Any] = {"name": path.stem, "title": raw.get("name", path.stem), "covers": tuple(raw.get("covers", ()))}
    for name, one in raw.get("constant", {}).items():
        if "chips" in one:
            values[f"{name}_chips"] = tuple(one["chips"])
        values[name] = _quantity(path, Family, name, _plain(one, prior))
    try:
        return Family(**values)
    except TypeError as error:
        raise InputError(f"{path}: {error}") from None


def _plain(one: Mapping[str, Any], prior: bool) -> Any:
    """Return a constant's value and unit alone; those by format as a table of values."""
    value, unit = one.get("prior", one.get("value")) if prior else one.get("value"), one.get("unit", "1")
    if isinstance(value, dict):
        return {key: {"value": number, "unit": unit} for key, number in value.items()}
    return {"value": value, "unit": unit}


def family_of(architecture: str, known: tuple[Family, ...] | None = None) -> Family:
    """Return the family of constants that covers an architecture family of chips.

    >>> family_of("nvidia-turing").name
    'nvidia'
    """
    known = families() if known is None else known
    covering = [(len(pattern), one) for one in known for pattern in one.covers if fnmatchcase(architecture, pattern)]
    if not covering:
        raise InputError(f"no family of constants covers chips of {architecture!r}")
    return max(covering, key=lambda found: found[0])[1]  # the narrowest pattern


@cache
def constants(name: str, *, based: bool = False) -> tuple[Constant, ...]:
    """Return a family's constants as its file states them; with those of the family that it builds on where `based`."""
    files = _tables("families")
    raw = _with_base(_own(files, name), files) if based else _own(files, name)
    return tuple(_constant(key, one) for key, one in raw.get("constant", {}).items())


def _own(files: list[tuple[Path, dict[str, Any]]], name: str) -> dict[str, Any]:
    return next(raw for path, raw in files if path.stem == name)


def _number(value: Any) -> float:
    """Return a constant's number; of one by format the first, which its note explains."""
    return float(next(iter(value.values())) if isinstance(value, dict) else value)


def _constant(name: str, raw: Mapping[str, Any]) -> Constant:
    spread = raw.get("spread")
    return Constant(
        name=name,
        value=_number(raw["value"]),
        unit=str(raw.get("unit", "1")),
        meaning=str(raw.get("meaning", "")),
        prior=None if raw.get("prior") is None else _number(raw["prior"]),
        spread=None if spread is None else (float(spread[0]), float(spread[1])),
        fitted_to=str(raw.get("fitted_to", "")),
        note=str(raw.get("note", "")),
    )


@cache
def stack_constant(owner: str, name: str, key: str = "") -> Constant:
    """Return a fitted constant of a stack's own file; `key` where it is one of a table."""
    raw = next(raw for path, raw in _tables("stacks") if path.stem == owner)
    value = raw[name][key] if key else raw[name]
    return _constant(name, {**value, "fitted_to": ", ".join(raw.get("fitted_chips", ()))})


@cache
def stacks(*, prior: bool = False) -> tuple[Stack, ...]:
    """Return every software stack of the catalogue, the generic one last; with documented values where `prior`."""
    files = {path.stem: (path, raw) for path, raw in _tables("stacks")}
    found = [_stack(path, _whole_stack(path, raw, files), prior) for path, raw in files.values()]
    return tuple(sorted(found, key=_breadth))


_BUILDS_ON = ("base", "kernels_of", "exchanges_of")
_PROTOCOL = (  # of a measurement: what another stack's kernels do not bring along
    *("name", "frameworks", "kernels", "vendors", "architectures", "note", "models", "fitted_chips", "fixed", "fixed_of"),
    *("resolution", "weight_copies", "warm_cache", "ordered_ties", *_BUILDS_ON),
)
_EXCHANGES = ("exchange_cycles", "exchange_step", "exchange_fill", "link_share", "flagged_bytes", "direct_limit", "direct_cycles")


def _whole_stack(path: Path, raw: Mapping[str, Any], files: Mapping[str, tuple[Path, dict[str, Any]]]) -> dict[str, Any]:
    """Return a file's data with what it takes from others, its own in their place: one fact is in one file.

    `base` gives all, `kernels_of` what kernels do, `exchanges_of` the communication library, and `{ of = "NAME" }` one value;
    `taken` says which value is whose.
    """
    found: dict[str, Any] = {}
    taken: dict[str, str] = {}
    for key in _BUILDS_ON:
        if key not in raw:
            continue
        other = _file_of(path, key, raw[key], files)
        for name, value in _whole_stack(*other, files).items():
            exchanged = name in _EXCHANGES
            wanted = {"base": True, "kernels_of": name not in _PROTOCOL and not exchanged, "exchanges_of": exchanged}[key]
            if wanted and name != "taken":
                found[name], taken[name] = value, str(raw[key])
    for name, value in raw.items():
        if isinstance(value, dict) and "of" in value:
            other = _whole_stack(*_file_of(path, name, value["of"], files), files)
            if name not in other:
                raise InputError(f"{path}: `{name}`: {value['of']} has none")
            found[name], taken[name] = other[name], str(value["of"])
        else:
            found[name] = value
            taken.pop(name, None)
    return {**found, "taken": taken}


def _file_of(path: Path, key: str, name: Any, files: Mapping[str, tuple[Path, dict[str, Any]]]) -> tuple[Path, dict[str, Any]]:
    if name not in files:
        raise InputError(f"{path}: `{key}`: unknown stack {name!r}: {nearest(str(name), files)}")
    return files[name]


def _breadth(one: Stack) -> tuple[bool, ...]:
    """Order stacks from the narrowest to the one that matches anything."""
    return tuple(patterns == ("*",) for patterns in (one.frameworks, one.kernels, one.architectures, one.vendors))


def _stack(path: Path, raw: Mapping[str, Any], prior: bool) -> Stack:
    values: dict[str, Any] = {"name": path.stem, "title": raw.get("name", path.stem)}
    units = units_of(Stack)
    for name, one in raw.items():
        if name in units:
            values[name] = _quantity(path, Stack, name, _stated(one, prior))
        elif name not in ("name", "fitted_chips", *_BUILDS_ON):
            values[name] = _frozen(one)
    try:
        return Stack(**values)
    except TypeError as error:
        raise InputError(f"{path}: {error}") from None


def _stated(one: Any, prior: bool) -> Any:
    """Return a stack's number, or a table of numbers, as units read them."""
    if not isinstance(one, dict):
        return one
    return _plain(one, prior) if "value" in one else {key: _stated(each, prior) for key, each in one.items()}


def _frozen(value: Any) -> Any:
    return tuple(_frozen(one) for one in value) if isinstance(value, list) else value


def stack_of(framework: str, kernel: str, vendor: str, architecture: str = "", known: tuple[Stack, ...] | None = None) -> Stack:
    """Return the stack that a row was measured with: the first whose framework, kernel and vendor match.

    >>> stack_of("trtllm-1.3.0", "torch_flow", "NVIDIA").name
    'trtllm'
    """
    for one in stacks() if known is None else known:
        if (
            any(fnmatchcase(framework.lower(), pattern) for pattern in one.frameworks)
            and any(fnmatchcase(kernel.lower(), pattern) for pattern in one.kernels)
            and _covers(one, vendor, architecture)
        ):
            return one
    raise InputError(f"no software stack matches {framework!r}")


def model_stack_of(framework: str, vendor: str, architecture: str = "", known: tuple[Stack, ...] | None = None) -> Stack:
    """Return the stack that runs whole models of a framework on chips of a vendor: the narrowest one.

    >>> model_stack_of("llama.cpp (May 2024)", "Apple").name
    'llama-cpp-metal'
    """
    for one in stacks() if known is None else known:
        if any(fnmatchcase(framework.lower(), pattern) for pattern in one.models) and _covers(one, vendor, architecture):
            return one
    raise InputError(f"no software stack runs whole models of {framework!r}")


def _covers(stack: Stack, vendor: str, architecture: str) -> bool:
    return any(fnmatchcase(vendor.lower(), pattern) for pattern in stack.vendors) and any(
        fnmatchcase(architecture, pattern) for pattern in stack.architectures
    )


def stack_named(name: str) -> Stack:
    """Return a software stack by its name; raise `InputError` with the nearest names for one that is not there.

    >>> stack_named("serving").graph
    True
    """
    known = {one.name: one for one in stacks()}
    if name not in known:
        near = get_close_matches(name.lower(), sorted(known), n=3, cutoff=0.5)
        near = near or sorted(one for one in known if name.lower() in one or one in name.lower())
        remedy = f"the nearest are {', '.join(near)}" if near else f"known are {', '.join(sorted(known))}"
        raise InputError(f"unknown stack {name!r}: {remedy}")
    return known[name]


def stack_for(name: str, chip: str, vendor: str, architecture: str) -> Stack:
    """Return the stack of a name as it runs on a chip; raise `InputError` where it does not run there.

    >>> stack_for("trtllm", "l40s", "NVIDIA", "nvidia-ada").name  # a file for that architecture
    'trtllm-ada'
    """
    stack = stack_named(name)
    for one in stacks():
        if one.name.startswith(f"{name}-") and one.architectures != ("*",) and _covers(one, vendor, architecture):
            return one
    if _covers(stack, vendor, architecture):
        return stack
    runs = "chips of " + " or ".join(one for one in (*stack.vendors, *stack.architectures) if one != "*")
    others = sorted(one.name for one in stacks() if one.models and _covers(one, vendor, architecture))
    raise InputError(f"stack {name!r} runs on {runs}, and {chip} is none: choose {', '.join(others)}")


@cache
def fitted_chips() -> frozenset[str]:
    """Return the chips to whose rows some constant of the catalogue was fitted."""
    raw = [raw for kind in ("families", "stacks") for _, raw in _tables(kind)]
    return frozenset(chip for one in raw for chip in one.get("fitted_chips", ()))
