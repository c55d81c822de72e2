"""What chips of one architecture family share: physical constants of their cores, memory and kernels, and how each was found."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ridgeline.quantities import Bytes, Count, FlopsPerByte, Fraction, JoulesPerByte, JoulesPerFlop
from ridgeline.specs.base import Spec


@dataclass(frozen=True, kw_only=True, eq=False)
class Family(Spec):
    """Constants of kernels on the chips of some architecture families; none belongs to a shape or to one chip."""

    name: str
    title: str = ""
    covers: tuple[str, ...] = ()  # the `family` of the chips that it describes
    own: tuple[str, ...] = ()  # constants that a chip's own file states, in place of its family's
    matrix: Fraction  # of the matrix unit's datasheet peak that a full main loop issues
    lanes: Fraction  # of the vector lanes' peak that a product in their format issues
    tile_loss: Count  # output elements along an edge of a tile that cost as much as its border
    tile_cycles: Count  # clock cycles of a tile outside its main loop: prologue, epilogue, the next tile's start
    start: Count  # memory latencies to a product's first tile and from its last; again where split parts are joined
    exposed: Fraction  # of the shorter of compute and memory that does not overlap with the longer
    stores: Fraction  # of a product's results whose way out its cores wait for, the next tile not yet begun
    bandwidth: Fraction  # of the datasheet's main-memory bandwidth that long streams reach
    paged: Fraction  # of that bandwidth that attention reaches over a cache in pages
    inline_ecc: Fraction  # of that bandwidth lost where check bits lie in the same memory as the data
    inline_ecc_chips: tuple[str, ...] = ()  # chips whose memory is of that kind
    cache: Fraction  # of the last-level cache's bandwidth that operands resident in it are served at
    cache_keeps: Fraction  # of the last-level cache that a loop over its operands finds again
    in_flight: Fraction  # of a core's scratchpad that is requested from memory and not yet there
    power_share: Fraction  # of the power limit that arithmetic may take; the rest leaks, moves data and cools
    boost: Fraction  # of the stated clock that boards without a power limit in reach hold
    boost_chips: tuple[str, ...] = ()
    shared_reads: Count  # cores that one read of the last-level cache serves (multicast)
    convert: Fraction  # of the vector lanes' peak at which packed weights are converted in the main loop
    rows_in_core: Count  # rows of a normalisation that one core works on at a time
    special: Fraction  # of the stated rate of special functions that kernels reach
    gddr: Fraction | None = None  # `bandwidth` where the main memory is of the GDDR kind; None: no different
    channel_period: Bytes = 0.0  # of consecutive addresses over all memory channels, where strides may miss some; 0: hashed
    # by half, fp8, fp4 or a format, where it differs from that of the chips' own node
    energy: Mapping[str, JoulesPerFlop] = field(default_factory=dict[str, JoulesPerFlop])
    delivery: FlopsPerByte = 0.0  # whose energy a byte takes on its way between the main memory's interface and a core
    attending: FlopsPerByte = 0.0  # that decode attention multiplies, padded tiles included, for each byte of cache
    link_energy: JoulesPerByte = 0.0  # of a byte over a link to another chip, both ends


def with_own(family: Family, chip: Family | None) -> Family:
    """Return a family with the constants that a chip's own file states, as its `efficiency` holds them."""
    if chip is None or not chip.own:
        return family
    return replace(family, own=chip.own, **{name: getattr(chip, name) for name in chip.own})
