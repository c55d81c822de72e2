"""A chip, or a batch of chips: cores with matrix and vector units around shared memories and off-chip memory.

Any quantity may be an array of designs; all of them broadcast. Strings and tuples are structure. A quantity that is unknown is
None, and a model that needs it says so.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from ridgeline.quantities import (
    Bytes,
    BytesPerSecond,
    Count,
    Dollars,
    DollarsPerSecond,
    FlopsPerSecond,
    Hertz,
    JoulesPerByte,
    JoulesPerFlop,
    Metres,
    Seconds,
    SquareMetres,
    Volts,
    Watts,
)
from ridgeline.specs.base import Sources, Spec
from ridgeline.specs.family import Family
from ridgeline.specs.residual import Residuals
from ridgeline.specs.stack import Stack
from ridgeline.specs.technology import Technology

MatrixKind = Literal[
    "dot-product",
    "simd",
    "weight-stationary",
    "output-stationary",
    "input-stationary",
    "row-stationary",
    "no-local-reuse",
    "in-memory",
]
MemoryRole = Literal["registers", "accumulator", "scratchpad", "cache", "buffer", "dram", "further-tier"]
ChipKind = Literal["gpu", "tpu", "npu", "cpu", "fpga", "asic", "wafer", "in-memory"]
Place = Literal["native", "polynomial", "host"]
FunctionName = Literal[  # what `workload.functions` counts
    "rms-norm",
    "layer-norm",
    "softmax",
    "residual",
    "bias",
    "rotary",
    "multiply",
    "relu",
    "relu-squared",
    "gelu",
    "gelu-tanh",
    "silu",
    "sigmoid",
    "tanh",
    "softcap",
    "top-k",
    "gather",
    "pool",
    "batch-norm",
    "dropout",
    "optimizer",
    "gated-delta",
]


@dataclass(frozen=True, kw_only=True, eq=False)
class Package(Spec):
    """Silicon, power and price."""

    node: Metres | None = None
    process: str | None = None
    voltage: Volts | None = None
    die_area: SquareMetres | None = None  # of all compute dies together
    dies: Count | None = None  # that share it; None: one
    power: Watts | None = None  # the limit of the board or package
    idle_power: Watts | None = None
    cap: Watts | None = None  # a limit set below the board's own
    price: Dollars | None = None
    price_year: int | None = None
    rental: DollarsPerSecond | None = None  # of one chip in a hosted machine, everything included
    rental_year: int | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Cores(Spec):
    """What is replicated: streaming multiprocessors, compute units, tensor cores of a TPU, tiles."""

    count: Count
    clock: Hertz | None = None  # at which the stated peaks hold


@dataclass(frozen=True, kw_only=True, eq=False)
class Instructions(Spec):
    """How an array is fed where instructions feed it: each streams vectors past one stationary block."""

    stream: Count | None = None  # vectors at most that one instruction streams
    least: Seconds | None = None  # of the shortest instruction
    preload: Seconds | None = None  # at least of the first instruction of a block, while the block after it enters
    issue: Seconds | None = None  # between two instructions at least, on average
    gap: Seconds | None = None  # lost between two instructions


@dataclass(frozen=True, kw_only=True, eq=False)
class MatrixUnit(Spec):
    """What multiplies matrices. Rates are dense peaks of the whole chip, by format or `format:accumulate`."""

    kind: MatrixKind = "dot-product"
    count: Count | None = None  # per core
    shape: tuple[int, ...] = ()  # rows, columns, depth of one step at 16 bits; rows, columns of an array
    tiles: tuple[tuple[int, int], ...] = ()  # output tiles that kernels of the family use
    attached_to: str | None = None  # the memory level that the unit sits in, for compute in or near memory
    preload: bool = True  # weights of the next fold are loaded while this one computes
    gates_zeros: bool = False  # at an input of zero the weight is not read and the multiplier does not switch
    network: Mapping[str, BytesPerSecond] = field(
        default_factory=dict[str, BytesPerSecond]
    )  # into an array, by tensor; sums each way
    instructions: Instructions = field(default_factory=Instructions)
    macs_per_cycle: Mapping[str, Count] = field(default_factory=dict[str, Count])  # per core
    rate: Mapping[str, FlopsPerSecond] = field(default_factory=dict[str, FlopsPerSecond])
    energy: Mapping[str, JoulesPerFlop] = field(default_factory=dict[str, JoulesPerFlop])


@dataclass(frozen=True, kw_only=True, eq=False)
class VectorUnit(Spec):
    """Lanes for everything that is not a matrix product, whole chip, by format; `exponential` for special functions."""

    lanes: Count | None = None  # per core
    attached_to: str | None = None
    rate: Mapping[str, FlopsPerSecond] = field(default_factory=dict[str, FlopsPerSecond])
    energy: Mapping[str, JoulesPerFlop] = field(default_factory=dict[str, JoulesPerFlop])


@dataclass(frozen=True, kw_only=True, eq=False)
class MemoryLevel(Spec):
    """One level of the hierarchy; capacity and bandwidth are of one instance: a core's, or the chip's."""

    name: str
    role: MemoryRole
    technology: str | None = None
    shared_by: Literal["core", "chip"] = "chip"
    managed_by: Literal["software", "cache"] = "software"
    holds: tuple[str, ...] = ()  # tensors that a dedicated buffer holds; empty: any
    capacity: Bytes | None = None
    bandwidth: BytesPerSecond | None = None
    latency: Seconds | None = None
    energy: JoulesPerByte | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Transfer(Spec):
    """How data moves between memories: by a DMA unit or by the cores, beside compute or before it."""

    engine: Literal["dma", "cores"] = "dma"
    asynchronous: bool = True  # two slots a buffer: the next tile is fetched while one is computed
    burst: Bytes | None = None  # of a request at most
    word: Bytes | None = None  # width of the bus: a row of a tile takes whole words
    in_flight: Count | None = None  # requests under way at most
    issue: Seconds | None = None  # of the cores' time for each request, where they issue transfers
    cost_per_tile: Seconds | None = None
    managed_by: Literal["chip", "host"] = (
        "chip"  # who pays it: array and engine both wait; or the host, before the tile's transfers
    )
    keeps_tiles: bool = True  # a tile that did not change stays; otherwise every step fetches both operands anew
    run_length: bool = False  # activations cross the main memory in run-length code of their zeros
    spills: bool = True  # unfinished sums may leave the chip and come back


@dataclass(frozen=True, kw_only=True, eq=False)
class Host(Spec):
    """The processor that runs what the chip cannot, and the path to it."""

    bandwidth: BytesPerSecond | None = None
    rate: FlopsPerSecond | None = None
    latency: Seconds | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Overhead(Spec):
    """Fixed times."""

    launch: Seconds | None = None
    synchronisation: Seconds | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Link(Spec):
    """A way out of the chip; bandwidth per direction, all its links together."""

    name: str
    bandwidth: BytesPerSecond
    count: Count | None = None
    latency: Seconds | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Chip(Spec):
    """One accelerator, or a batch of them."""

    name: str
    title: str = ""
    vendor: str = ""
    family: str = ""
    kind: ChipKind = "asic"
    year: int | None = None
    package: Package = field(default_factory=Package)
    cores: Cores | None = None
    matrix_unit: MatrixUnit = field(default_factory=MatrixUnit)
    vector_unit: VectorUnit = field(default_factory=VectorUnit)
    memory: tuple[MemoryLevel, ...] = ()  # from the inside out
    transfer: Transfer = field(default_factory=Transfer)
    functions: Mapping[str, Place] = field(default_factory=dict[str, Place])  # by `FunctionName`
    host: Host = field(default_factory=Host)
    overhead: Overhead = field(default_factory=Overhead)
    link: tuple[Link, ...] = ()
    technology: Technology | None = None  # what its node's silicon costs, where the node is known
    efficiency: Family | None = None  # constants of kernels on chips of its family, where those are known
    stack: Stack | None = None  # the software that runs on it, where it has many cores
    residuals: Residuals | None = None  # how far predictions of its kind were from measurements, where that is known
    sources: Sources = field(default_factory=dict)

    @property
    def main_memory(self) -> MemoryLevel:
        """The level that holds the model: the outermost that is not a further tier."""
        return next(level for level in reversed(self.memory) if level.role != "further-tier")

    def level(self, name: str) -> MemoryLevel:
        """Return a memory level by name."""
        return next(level for level in self.memory if level.name == name)

    def whole(self, level: MemoryLevel) -> MemoryLevel:
        """Return a level with capacity and bandwidth of all its instances on the chip."""
        if level.shared_by != "core" or self.cores is None:
            return level
        count = self.cores.count
        return replace(
            level,
            shared_by="chip",
            capacity=None if level.capacity is None else level.capacity * count,
            bandwidth=None if level.bandwidth is None else level.bandwidth * count,
        )
