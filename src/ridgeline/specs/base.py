"""What all specs share: a spec's hashable structure, and its quantities by dotted path.

A field whose annotation carries a `Unit` is a quantity: a float, an array of designs, or None where unknown. A mapping of
quantities is one too, path by key. Every other field is structure. A sweep groups by structure and broadcasts over quantities.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache
from types import UnionType
from typing import Any, ClassVar, Union, get_args, get_origin, get_type_hints

from ridgeline.errors import InputError, nearest
from ridgeline.quantities import Quantity, Unit


class Spec:
    """What every spec derives from: a file's keys must be its fields."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where one number is from: a key of the bibliography and a place, or an estimate with its reason."""

    key: str | None
    where: str | None = None
    confidence: str = "seen"  # seen, secondary or estimate
    note: str | None = None
    value: float | None = None  # as the source prints it, in `unit`
    unit: str = ""


Sources = Mapping[str, Source]  # dotted path of the field → source


def _unit_of(annotation: Any) -> Unit | None:
    """Return the unit that an annotation carries, looking into `X | None` and into mappings' values."""
    for one in getattr(annotation, "__metadata__", ()):
        if isinstance(one, Unit):
            return one
    if get_origin(annotation) in (Union, UnionType):
        return next((unit for unit in map(_unit_of, get_args(annotation)) if unit), None)
    return None


@cache
def units_of(spec: type) -> dict[str, tuple[Unit, bool]]:
    """Return a spec's quantity fields: name → (unit, whether the field is a mapping of such quantities)."""
    found: dict[str, tuple[Unit, bool]] = {}
    for name, annotation in get_type_hints(spec, include_extras=True).items():
        if unit := _unit_of(annotation):
            found[name] = (unit, False)
            continue
        alternatives = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
        for one in alternatives:
            if get_origin(one) is Mapping and (unit := _unit_of(get_args(one)[1])):
                found[name] = (unit, True)
    return found


def _children(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the specs inside a field, each with the name it has in a dotted path."""
    if is_dataclass(value) and not isinstance(value, type):
        yield "", value
    elif isinstance(value, tuple):
        for index, one in enumerate(value):  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
            if is_dataclass(one) and not isinstance(one, type):
                yield str(getattr(one, "name", "") or index), one


def quantities(spec: Any) -> dict[str, Quantity]:
    """Return every known quantity of a spec by dotted path, such as `memory.hbm.bandwidth`."""
    found: dict[str, Quantity] = {}
    units = units_of(type(spec))
    for field in fields(spec):
        value = getattr(spec, field.name)
        if field.name in units:
            if units[field.name][1]:
                found |= {f"{field.name}.{key}": one for key, one in (value or {}).items()}
            elif value is not None:
                found[field.name] = value
            continue
        for name, child in _children(value):
            prefix = f"{field.name}.{name}." if name else f"{field.name}."
            found |= {prefix + path: one for path, one in quantities(child).items()}
    return found


def structure(spec: Any) -> tuple[Any, ...]:
    """Return the hashable rest of a spec: what a sweep groups by before it broadcasts over the quantities."""
    units = units_of(type(spec))
    parts: list[Any] = [type(spec).__name__]
    for field in fields(spec):
        value = getattr(spec, field.name)
        if field.name == "sources":
            continue
        if field.name in units:
            parts.append(tuple(sorted(value)) if units[field.name][1] and value else value is None)
        elif is_dataclass(value) and not isinstance(value, type):
            parts.append(structure(value))
        elif isinstance(value, tuple):
            parts.append(tuple(structure(one) if is_dataclass(one) else one for one in value))  # pyright: ignore[reportUnknownVariableType]
        elif isinstance(value, Mapping):
            parts.append(tuple(sorted(value.items())))  # pyright: ignore[reportUnknownArgumentType]
        else:
            parts.append(value)
    return tuple(parts)


def with_quantity(spec: Any, path: str, value: Quantity) -> Any:
    """Return the spec with the quantity at a dotted path replaced; a path that is not there raises `InputError`."""
    known = quantities(spec)
    if path not in known:
        raise InputError(f"{type(spec).__name__} has no quantity `{path}`: {nearest(path, known)}")
    return _replaced(spec, path.split("."), value)


def _replaced(spec: Any, path: list[str], value: Quantity) -> Any:
    head, *rest = path
    current = getattr(spec, head)
    if not rest:
        return replace(spec, **{head: value})
    if isinstance(current, Mapping):
        return replace(spec, **{head: {**current, ".".join(rest): value}})
    if isinstance(current, tuple):
        index = next(i for i, (name, _) in enumerate(_children(current)) if name == rest[0])  # pyright: ignore[reportUnknownArgumentType]
        members = list(current)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
        members[index] = _replaced(members[index], rest[1:], value)
        return replace(spec, **{head: tuple(members)})  # pyright: ignore[reportUnknownArgumentType]
    return replace(spec, **{head: _replaced(current, rest, value)})
