"""Formulas of a space: arithmetic on quantities by dotted path, read once, computed on arrays, in an order without cycles."""

import ast
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ridgeline.arrays import maximum, minimum
from ridgeline.errors import InputError, nearest
from ridgeline.quantities import Quantity

_OPERATORS: Mapping[type, Callable[[Any, Any], Any]] = {
    ast.Add: lambda first, second: first + second,
    ast.Sub: lambda first, second: first - second,
    ast.Mult: lambda first, second: first * second,
    ast.Div: lambda first, second: first / second,
    ast.Pow: lambda first, second: first**second,
}
_FUNCTIONS: Mapping[str, tuple[int, Callable[..., Any]]] = {
    "min": (2, minimum),
    "max": (2, maximum),
    "sqrt": (1, lambda value: value**0.5),
    "log2": (1, np.log2),
    "exp": (1, np.exp),
    "ceil": (1, np.ceil),
    "floor": (1, np.floor),
    "abs": (1, abs),
}
_QUOTED = re.compile(r"`([^`]*)`")


@dataclass(frozen=True)
class Formula:
    """Arithmetic in SI units: `+ - * / **`, min, max, sqrt, log2, exp, ceil, floor, abs; names with a hyphen in backquotes.

    >>> Formula.parse("2 * memory.hbm.bandwidth / max(a, 4)").value({"memory.hbm.bandwidth": 6.0, "a": 3.0})
    3.0
    """

    text: str
    names: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> "Formula":
        """Read a formula; raise `InputError` for anything that is not arithmetic."""
        names: list[str] = []
        _evaluate(_tree(text), text, lambda name: names.append(name) or 1.0, dry=True)
        return cls(text, tuple(dict.fromkeys(names)))

    def value(self, known: Mapping[str, Quantity]) -> Quantity:
        """Compute it from the values of its names."""
        return _evaluate(_tree(self.text), self.text, lambda name: known[name])


def in_order(formulas: Mapping[str, Formula], known: Iterable[str]) -> list[str]:
    """Return the targets in an order in which each needs only what is known before.

    Raises `InputError` for a name that nobody knows, with the nearest, and for formulas that need one another.
    """
    known = list(known)
    for target, formula in formulas.items():
        for name in formula.names:
            if name not in known and name not in formulas:
                raise InputError(f"formula of `{target}`: there is no `{name}`: {nearest(name, [*known, *formulas])}")
    done: list[str] = []
    while len(done) < len(formulas):
        ready = [
            target
            for target, formula in formulas.items()
            if target not in done and all(name in done or name not in formulas for name in formula.names)
        ]
        if not ready:
            raise InputError(f"formulas need one another in a circle: {' → '.join(_circle(formulas, done))}")
        done += ready
    return done


def _circle(formulas: Mapping[str, Formula], done: Sequence[str]) -> list[str]:
    """Return a circle among the formulas that are not done: follow needs until one comes back."""
    path = [next(target for target in formulas if target not in done)]
    while True:
        following = next(name for name in formulas[path[-1]].names if name in formulas and name not in done)
        if following in path:
            return [*path[path.index(following) :], following]
        path.append(following)


def _tree(text: str) -> Any:
    quoted: list[str] = []

    def placeholder(match: re.Match[str]) -> str:
        quoted.append(match[1])
        return f"_quoted_{len(quoted) - 1}_"

    try:
        body = ast.parse(_QUOTED.sub(placeholder, text), mode="eval").body
    except SyntaxError:
        raise InputError(f"formula {text!r} cannot be read: arithmetic on names and numbers is wanted") from None
    for node in ast.walk(body):
        if isinstance(node, ast.Name) and node.id.startswith("_quoted_"):
            node.id = quoted[int(node.id.removeprefix("_quoted_").removesuffix("_"))]
    return body


def _dotted(node: Any) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        inner = _dotted(node.value)
        return None if inner is None else f"{inner}.{node.attr}"
    return None


def _evaluate(node: Any, text: str, lookup: Callable[[str], Any], *, dry: bool = False) -> Any:
    def inner(one: Any) -> Any:
        return _evaluate(one, text, lookup, dry=dry)

    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        return float(node.value)
    if (name := _dotted(node)) is not None:
        return lookup(name)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -inner(node.operand)
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        values = inner(node.left), inner(node.right)
        return 1.0 if dry else _OPERATORS[type(node.op)](*values)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS and not node.keywords:
        count, function = _FUNCTIONS[node.func.id]
        if len(node.args) == count:
            values = [inner(one) for one in node.args]
            return 1.0 if dry else function(*values)
    raise InputError(f"formula {text!r}: only + - * / **, numbers, names and {', '.join(_FUNCTIONS)} are accepted")
