"""Prices that are not a chip's own: on what terms machines are owned, and what silicon, memory and packaging cost.

Dollars are of the year that each price states; prices of several years are added as they are.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from ridgeline.quantities import (
    BytesPerSecond,
    Dollars,
    DollarsPerByte,
    DollarsPerJoule,
    Fraction,
    Metres,
    PerSecond,
    PerSquareMetre,
    Seconds,
    SquareMetres,
)
from ridgeline.specs.base import Sources, Spec

YieldModel = Literal["poisson", "murphy", "negative-binomial", "bose-einstein"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Terms(Spec):
    """What owning a machine costs beside its purchase; with no interest it is written off in a straight line."""

    life: Seconds  # over which a purchase is written off
    residual: Fraction = 0.0  # share of the price that is left then
    interest: PerSecond = 0.0  # compounded continuously: log(1 + yearly rate) / year
    electricity: DollarsPerJoule
    pue: Fraction  # energy of the whole site over that of its machines
    hosting: DollarsPerJoule = 0.0  # of floor, cooling and supply, by the power they are built for
    utilisation: Fraction = 1.0  # share of the time in which somebody uses the machine
    years: Mapping[str, int] = field(default_factory=dict[str, int])  # of the prices above
    sources: Sources = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class Fabrication(Spec):
    """What a package of a node costs: wafers, their defects, memory by technology, packaging."""

    wafer: Dollars
    diameter: Metres = 0.3
    edge: Metres = 0.003  # of the rim, unused
    scribe: Metres = 0.0001  # between two dies
    defects: PerSquareMetre
    yield_model: YieldModel = "negative-binomial"
    clustering: Fraction = 3.0  # of the negative binomial; large: Poisson
    layers: Fraction = 12.0  # critical ones, of Bose–Einstein
    packaging: Dollars = 0.0
    assembled: Fraction = 1.0  # share of packages that work, of those with good dies
    memory: Mapping[str, DollarsPerByte] = field(default_factory=dict[str, DollarsPerByte])  # by technology
    stack_rate: Mapping[str, BytesPerSecond] = field(default_factory=dict[str, BytesPerSecond])  # of one stack or device
    stack_interface: Mapping[str, SquareMetres] = field(default_factory=dict[str, SquareMetres])  # on the chip, for one
    link_interface: SquareMetres | None = None  # on the chip, for a byte a second each way times `link_rate`
    link_rate: BytesPerSecond = 1e11
    years: Mapping[str, int] = field(default_factory=dict[str, int])
    sources: Sources = field(default_factory=dict)
