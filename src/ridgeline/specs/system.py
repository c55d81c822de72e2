"""A system: chips joined by network tiers, from the inside out."""

from dataclasses import dataclass, field
from typing import Literal

from ridgeline.quantities import BytesPerSecond, Count, Dollars, Seconds, Watts
from ridgeline.specs.base import Sources, Spec
from ridgeline.specs.chip import Chip

Topology = Literal["ring", "fully-connected", "switch", "torus-2d", "torus-3d", "mesh-2d", "mesh-3d", "dragonfly", "fat-tree"]


@dataclass(frozen=True, kw_only=True, eq=False)
class NetworkTier(Spec):
    """One tier: `size` members joined by a topology; bandwidth is one member's, per direction."""

    name: str
    size: Count
    topology: Topology
    shape: tuple[int, ...] = ()  # of a torus or a mesh
    bandwidth: BytesPerSecond
    latency: Seconds | None = None  # of one hop
    in_network_reduction: bool = False
    power: Watts | None = None  # of one member's adapters, cables and share of the switches
    price: Dollars | None = None  # of the same
    price_year: int | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class SystemHost(Spec):
    """Everything in the box that is not a chip."""

    power: Watts | None = None
    price: Dollars | None = None
    price_year: int | None = None
    chips: Count | None = None  # in one box; where it is not said, those of the innermost tier


@dataclass(frozen=True, kw_only=True, eq=False)
class System(Spec):
    """Chips and the network between them."""

    name: str
    title: str = ""
    chip: Chip
    tier: tuple[NetworkTier, ...] = ()
    host: SystemHost = field(default_factory=SystemHost)
    sources: Sources = field(default_factory=dict)

    @property
    def chips(self) -> Count:
        """Number of chips: the product of the tiers' sizes."""
        count: Count = 1
        for tier in self.tier:
            count = count * tier.size
        return count
