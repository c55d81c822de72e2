"""Quantities carry their unit in the type; text such as "3.35 TB/s" becomes a plain SI number.

A quantity is a float or an array of any library that follows the array API standard. Inside Ridgeline every quantity is in
SI: seconds, bytes, FLOPs, joules, watts, metres, hertz, volts and dollars of a stated year. The unit is written in the
annotation (`bandwidth: BytesPerSecond`), where the loader, the plots and the dimension tests read it.
"""

import math
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any

from ridgeline.errors import UnitError

Quantity = Any  # a float, or an array whose elements are designs or scenarios


@dataclass(frozen=True)
class Unit:
    """The SI unit of an annotated quantity."""

    symbol: str

    def read(self, value: Any) -> Any:
        """Return a file's value in SI: `{value = 3.35, unit = "TB/s"}`, "3.35 TB/s", or a bare number where there is no unit.

        Raises `ValueError` with what would be accepted.
        """
        if isinstance(value, str):
            number = parse(value, self.symbol)
        elif isinstance(value, dict):
            number = convert(_number(value["value"]), str(value.get("unit", "1")), self.symbol)  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
        elif parse_unit(self.symbol)[1] == _NOTHING:
            number = _number(value)
        else:
            raise UnitError(f'{value!r} has no unit: write {{ value = {value}, unit = "…" }} with a unit of {self.symbol}')
        if number < 0 or (number == 0 and self.symbol in _NEVER_ZERO):
            shown = f"{number:g} {self.symbol}" if self.symbol != "1" else f"{number:g}"
            raise UnitError(f"{shown} must be {'positive' if self.symbol in _NEVER_ZERO else 'zero or more'}")
        return int(number) if self.symbol == "1" and number == int(number) else number

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """Let pydantic read a quantity by `read`, which keeps the unit in one place: the type."""
        from pydantic_core import core_schema

        return core_schema.no_info_plain_validator_function(self.read)


_NEVER_ZERO = frozenset({"B/s", "FLOP/s", "Hz", "B", "m", "m2"})


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UnitError(f"{value!r} is not a number")
    return value


Bytes = Annotated[Any, Unit("B")]
BytesPerSecond = Annotated[Any, Unit("B/s")]
Flops = Annotated[Any, Unit("FLOP")]
FlopsPerSecond = Annotated[Any, Unit("FLOP/s")]
FlopsPerByte = Annotated[Any, Unit("FLOP/B")]
Seconds = Annotated[Any, Unit("s")]
Hertz = Annotated[Any, Unit("Hz")]
Joules = Annotated[Any, Unit("J")]
JoulesPerByte = Annotated[Any, Unit("J/B")]
JoulesPerFlop = Annotated[Any, Unit("J/FLOP")]
Watts = Annotated[Any, Unit("W")]
SquareMetres = Annotated[Any, Unit("m2")]
Metres = Annotated[Any, Unit("m")]
Volts = Annotated[Any, Unit("V")]
Dollars = Annotated[Any, Unit("USD")]
DollarsPerSecond = Annotated[Any, Unit("USD/s")]
DollarsPerJoule = Annotated[Any, Unit("USD/J")]
DollarsPerByte = Annotated[Any, Unit("USD/B")]
Count = Annotated[Any, Unit("1")]
Fraction = Annotated[Any, Unit("1")]
PerSecond = Annotated[Any, Unit("1/s")]
PerSquareMetre = Annotated[Any, Unit("1/m2")]

# Exponents of (byte, second, joule, metre, FLOP, dollar, volt, cycle) and the factor to SI.
Dimension = tuple[int, ...]
_BASES = ("B", "s", "J", "m", "FLOP", "USD", "V", "cycle")


def _base(name: str) -> Dimension:
    return tuple(int(name == base) for base in _BASES)


_NOTHING: Dimension = (0,) * len(_BASES)
_UNITS: dict[str, tuple[float, Dimension]] = {
    **{name: (1.0, _base(name)) for name in _BASES},
    "bit": (0.125, _base("B")),
    "op": (1.0, _base("FLOP")),
    "OP": (1.0, _base("FLOP")),
    "MAC": (2.0, _base("FLOP")),
    "Hz": (1.0, tuple(-one for one in _base("s"))),
    "W": (1.0, tuple(joule - second for joule, second in zip(_base("J"), _base("s"), strict=True))),
    "h": (3600.0, _base("s")),
    "month": (2629800.0, _base("s")),
    "year": (31557600.0, _base("s")),
    "1": (1.0, _NOTHING),
    "": (1.0, _NOTHING),
}
_PREFIXES = {
    **{"f": 1e-15, "p": 1e-12, "n": 1e-9, "u": 1e-6, "µ": 1e-6, "m": 1e-3, "c": 1e-2, "k": 1e3, "K": 1e3},
    **{"M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18},
    **{f"{letter}i": 2.0 ** (10 * power) for power, letter in enumerate("KMGTPE", start=1)},
}
_FACTOR = re.compile(r"^(?P<name>1|[A-Za-zµ]+)(?:\^?(?P<power>-?[0-9]+)|(?P<square>²)|(?P<cube>³))?$")
_PREFIXLESS = frozenset({"1", "", "h", "month", "year", "cycle"})
_ALIASES = {"FLOPS": "FLOP/s", "TFLOPS": "TFLOP/s", "GFLOPS": "GFLOP/s", "TOPS": "TOP/s", "GOPS": "GOP/s"}


def _factor(text: str, whole: str) -> tuple[float, Dimension]:
    match = _FACTOR.match(text)
    if match is None:
        raise UnitError(f"unit {whole!r} cannot be read at {text!r}: write for example `TB/s`, `pJ/bit`, `mm2`")
    name = match["name"]
    power = int(match["power"] or (2 if match["square"] else 3 if match["cube"] else 1))
    for length in (0, 2, 1):
        prefix, symbol = name[:length], name[length:]
        if symbol not in _UNITS or (prefix and (prefix not in _PREFIXES or symbol in _PREFIXLESS)):
            continue
        if len(prefix) == 2 and symbol not in ("B", "bit"):
            continue
        scale, dimension = _UNITS[symbol]
        scale *= _PREFIXES.get(prefix, 1.0)
        return scale**power, tuple(power * one for one in dimension)
    known = " ".join(sorted(name for name in _UNITS if name))
    raise UnitError(f"unit {whole!r} is unknown at {text!r}: known are {known}, with SI or IEC prefixes")


@lru_cache(maxsize=1024)
def parse_unit(text: str) -> tuple[float, Dimension]:
    """Return the factor to SI and the dimension of a unit such as `TB/s`; raise `UnitError` if it is none.

    >>> parse_unit("pJ/bit")[0]  # 1e-12 J / 0.125 B
    8e-12
    >>> parse_unit("GiB")[0] == 2**30, parse_unit("GB")[0] == 1e9
    (True, True)
    """
    scale, dimension = 1.0, _NOTHING
    numerator, *denominators = _ALIASES.get(text.strip(), text.strip()).replace("·", "*").split("/")
    parts = [(part, 1) for part in numerator.split("*")]
    parts += [(part, -1) for denominator in denominators for part in denominator.split("*")]
    for part, sign in parts:
        one, exponents = _factor(part.strip() or "1", text)
        scale = scale * one if sign == 1 else scale / one
        dimension = tuple(old + sign * new for old, new in zip(dimension, exponents, strict=True))
    return scale, dimension


def convert(value: float, unit: str, expected: str) -> float:
    """Return `value` of `unit` in the SI unit `expected`; raise `UnitError` where they measure different things.

    >>> convert(3.35, "TB/s", "B/s")
    3350000000000.0
    >>> convert(80, "GiB", "B")
    85899345920.0
    >>> convert(1, "GB", "s")
    Traceback (most recent call last):
    ridgeline.errors.UnitError: unit 'GB' does not measure s
    """
    scale, dimension = parse_unit(unit)
    base, wanted = parse_unit(expected)
    if dimension != wanted:
        raise UnitError(f"unit {unit!r} does not measure {expected if expected != '1' else 'a count, which has no unit'}")
    return value * scale / base


_NUMBER = re.compile(r"^\s*(?P<value>[+-]?(?:[0-9][0-9_]*\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)\s*(?P<unit>.*?)\s*$")


def parse(text: str, expected: str) -> float:
    """Return a number with its unit, such as "3.35 TB/s", in the SI unit `expected`.

    >>> parse("3.35 TB/s", "B/s")
    3350000000000.0
    """
    match = _NUMBER.match(text)
    if match is None:
        raise UnitError(
            f"{text!r} is not a number{'' if parse_unit(expected)[1] == _NOTHING else ' with a unit, such as `3.35 TB/s`'}"
        )
    value = float(match["value"])
    unit = match["unit"]
    if not unit and parse_unit(expected)[1] != _NOTHING:
        raise UnitError(f"{text!r} has no unit: a quantity in {expected} is wanted")
    return convert(value, unit or "1", expected)


_STEPS = [
    (1e15, "P"),
    (1e12, "T"),
    (1e9, "G"),
    (1e6, "M"),
    (1e3, "k"),
    (1.0, ""),
    (1e-3, "m"),
    (1e-6, "µ"),
    (1e-9, "n"),
    (1e-12, "p"),
    (1e-15, "f"),
]


_CUSTOMARY = {"USD/s": ("h", 3600.0), "USD/J": ("kWh", 3.6e6), "USD/B": ("GB", 1e9)}  # what prices are of, and how much of SI


def show(value: float, unit: str, digits: int = 3) -> str:
    """Return a quantity as people read it.

    >>> show(3.35e12, "B/s"), show(4.2e-6, "s"), show(0, "J")
    ('3.35 TB/s', '4.2 µs', '0 J')
    >>> show(2.5 / 3600, "USD/s"), show(2000, "1/s")
    ('2.5 USD/h', '2,000/s')
    """
    if unit in _CUSTOMARY:
        named, factor = _CUSTOMARY[unit]
        return f"{show(value * factor, 'USD', digits)}/{named}"
    if unit in ("1", "1/s"):
        return f"{value:,.{max(digits, 6)}g}{unit[1:]}"
    if unit == "USD":
        return f"{value:,.0f} USD" if abs(value) >= 100 or value == 0 else f"{value:.{digits}g} USD"
    if unit == "m2":
        return f"{value * 1e6:.{digits}g} mm²"  # a prefix of a squared unit would be squared too
    if value == 0 or not math.isfinite(value):
        return f"{value:g} {unit}"
    for step, prefix in _STEPS:
        if abs(value) >= step * 0.9995:
            return f"{value / step:.{digits}g} {prefix}{unit}" if abs(value) < 1000 * step else f"{value / step:.0f} {prefix}{unit}"
    return f"{value:.{digits}g} {unit}"


def show_apart(value: float, other: float, unit: str, digits: int = 4) -> str:
    """Return a quantity with as many digits as tell it from another, and no fewer than `digits`.

    >>> show_apart(5.000002e-3, 5e-3, "s"), show_apart(4e12, 5e12, "B/s")
    ('5.000002 ms', '4 TB/s')
    """
    shown = show(value, unit, digits)
    while value != other and digits < _MOST_DIGITS and shown == show(other, unit, digits):
        digits += 1
        shown = show(value, unit, digits)
    return shown


_MOST_DIGITS = 17  # of a double
