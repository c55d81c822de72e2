"""What the layers hand to one another: operations, tilings, costs and estimates."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from ridgeline.arrays import maximum, total
from ridgeline.quantities import Bytes, Count, Flops, FlopsPerByte, Fraction, Joules, PerSecond, Seconds
from ridgeline.specs.base import Source
from ridgeline.specs.number_format import NumberFormat

Role = Literal["weight", "activation", "kv", "state", "scores"]
Kind = Literal["matmul", "attention", "convolution", "vector", "gather", "append"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Tensor:
    """A tensor that an operation reads or writes, as often as it is compulsory: once."""

    name: str
    role: Role
    elements: Count
    format: NumberFormat
    kept: bool = False  # read again by a later operation than the next one, so that fusion does not remove it

    @property
    def bytes(self) -> Bytes:
        """Bytes in memory, the share of block scales included."""
        return self.elements * self.format.bytes_per_value


class Window(NamedTuple):
    """The geometry of a convolution as a product: its output pixels, its filter, its stride."""

    p: Count
    q: Count
    r: Count
    s: Count
    stride: Count


@dataclass(frozen=True, kw_only=True, eq=False)
class Product:
    """The matrix product of an operation: `batch` products of m × k by k × n, of which `share` is needed (causal masks).

    With a `window` it is a convolution: m are images × p × q, k are channels × r × s.
    """

    batch: Count
    m: Count
    n: Count
    k: Count
    share: Fraction = 1.0
    shared: Count = 1.0  # products of the batch that have one stationary operand: query heads of a KV head
    window: Window | None = None
    zeros: Fraction = 0.0  # share of the streaming operand's values that are zero
    output_zeros: Fraction = 0.0  # of the results, once activated
    formats: tuple[NumberFormat, NumberFormat]  # of the stationary operand (weights, keys, values) and of the streaming one

    @property
    def flops(self) -> Flops:
        """2·batch·m·n·k of what is needed; a multiply-accumulate is two."""
        return 2.0 * self.batch * self.m * self.n * self.k * self.share


@dataclass(frozen=True, kw_only=True, eq=False)
class Operation:
    """One operation of a step, repeated `count` times; a fused one has several products and functions."""

    name: str
    kind: Kind
    group: str  # projections, attention, feed-forward, experts, other, embedding, head
    count: Count = 1
    products: tuple[Product, ...] = ()
    functions: Mapping[str, Count] = field(default_factory=dict[str, Count])  # vector function → elements
    reads: tuple[Tensor, ...] = ()
    writes: tuple[Tensor, ...] = ()
    place: str = ""  # the layer group that it belongs to: operations of different groups never run as one
    fusable: bool = False  # elementwise or row-wise, so that a neighbour can absorb it

    @property
    def matrix_flops(self) -> Flops:
        """FLOPs of the products, once."""
        return total([product.flops for product in self.products])

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All tensors that cross the boundary of the operation."""
        return self.reads + self.writes

    @property
    def bytes(self) -> Bytes:
        """Compulsory bytes: every tensor once."""
        return total([tensor.bytes for tensor in self.tensors])

    def bytes_of(self, *roles: Role) -> Bytes:
        """Compulsory bytes of the tensors with these roles."""
        return total([tensor.bytes for tensor in self.tensors if tensor.role in roles])


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)  # made by the thousand
class Tiling:
    """How a product or convolution is cut for a chip, what that takes, and the proof that it is the best."""

    tile: Mapping[str, Mapping[str, Count]]  # memory level → loop → size held
    order: Mapping[str, str]  # memory level → loops, outer to inner
    dataflow: str
    objective: str = ""  # latency, energy or edp; empty for a mapping that was given
    cycles: Count | None = None
    energy: Joules | None = None
    traffic: Mapping[str, Mapping[str, Bytes]] = field(default_factory=dict[str, Mapping[str, Bytes]])  # level → tensor → bytes
    held: Mapping[str, Bytes] = field(default_factory=dict[str, Bytes])  # level → bytes that the tile takes, second slots included
    utilisation: Fraction | None = None  # multiply-accumulates over elements × cycles
    value: Count | Joules | None = None  # of the objective: cycles, joules, or joules × cycles
    lower_bound: Count | Joules | None = None  # no tile that was set aside is below this; the optimum is not above it
    optimal: bool = False
    hong_kung: Bytes | None = None  # least traffic of a product to leading order: 2·m·n·k/√S words
    examined: Count = 0.0  # tiles costed in full


@dataclass(frozen=True, kw_only=True, eq=False)
class Cost:
    """What operations take, by resource, so that a report can say which one binds."""

    time: Mapping[str, Seconds]  # resource (compute, vector, memory.<level>, network.<tier>, host, overhead) → time
    energy: Mapping[str, Joules] = field(default_factory=dict[str, Joules])  # component → energy
    flops: Flops = 0.0
    bytes: Mapping[str, Bytes] = field(default_factory=dict[str, Bytes])  # memory level → traffic

    def __add__(self, other: "Cost") -> "Cost":
        """Resources of both, added: they share one set of resources."""
        return Cost(
            time=_added(self.time, other.time),
            energy=_added(self.energy, other.energy),
            flops=self.flops + other.flops,
            bytes=_added(self.bytes, other.bytes),
        )

    def times(self, count: Count) -> "Cost":
        """The same, `count` times."""
        return Cost(
            time={name: value * count for name, value in self.time.items()},
            energy={name: value * count for name, value in self.energy.items()},
            flops=self.flops * count,
            bytes={name: value * count for name, value in self.bytes.items()},
        )

    @property
    def lower(self) -> Seconds:
        """Everything overlaps: the largest resource time."""
        values = list(self.time.values())
        largest: Seconds = values[0] if values else 0.0
        for value in values[1:]:
            largest = maximum(largest, value)
        return largest

    @property
    def upper(self) -> Seconds:
        """Nothing overlaps: all resource times after one another."""
        return total(list(self.time.values()))


def _added(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(first)
    for name, value in second.items():
        merged[name] = merged[name] + value if name in merged else value
    return merged


@dataclass(frozen=True, kw_only=True, eq=False)
class Interval:
    """A prediction interval as factors of the time: `coverage` of left-out measurements fell inside."""

    coverage: Fraction
    lower: Fraction
    upper: Fraction


@dataclass(frozen=True, kw_only=True, eq=False)
class OperationEstimate:
    """One row of the breakdown; flops, bytes and time are of one repetition."""

    name: str
    kind: str
    group: str
    count: Count
    functions: tuple[str, ...]
    m: Count | None
    n: Count | None
    k: Count | None
    flops: Flops
    bytes: Bytes  # at the main memory
    time: Seconds
    bound: Any  # a resource's name, or an array of indices into `Estimate.resources`
    cost: Cost
    residual: str = ""  # the kind of kernel under which its errors are known; empty: with those of the whole step


@dataclass(frozen=True, kw_only=True, eq=False)
class Capacity:
    """What a step keeps in main memory, against what there is."""

    weights: Bytes
    kv: Bytes
    activations: Bytes
    available: Bytes
    level: str
    fragmentation: Bytes = 0.0  # of the KV cache's pages
    buffers: Bytes = 0.0  # that collectives receive into
    moved: Mapping[str, Bytes] = field(default_factory=dict[str, Bytes])  # weights, kv: what of them is in the further tier
    further: str = ""  # the memory tier beyond main memory that takes what is moved
    further_available: Bytes = 0.0
    gradients: Bytes = 0.0  # of a training step
    optimizer: Bytes = 0.0  # states of a training step, the fp32 copy of the weights included

    @property
    def needed(self) -> Bytes:
        """Bytes that must be resident, in all tiers together."""
        trained = self.gradients + self.optimizer
        return self.weights + self.kv + self.activations + self.fragmentation + self.buffers + trained

    @property
    def in_further(self) -> Bytes:
        """Bytes in the further tier."""
        return total(list(self.moved.values()))

    @property
    def in_main(self) -> Bytes:
        """Bytes in main memory."""
        return self.needed - self.in_further

    @property
    def shortfall(self) -> Bytes:
        """Bytes that do not fit: 0 where all fits."""
        beyond, nothing = self.in_further - self.further_available, 0.0 * (self.needed + self.available)
        return maximum(self.in_main - self.available, nothing) + maximum(beyond, nothing)

    @property
    def fits(self) -> Any:
        """Whether all fits, element by element."""
        return self.shortfall <= 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Estimate:
    """What a step takes on a machine, what binds it, and where the time goes."""

    level: str
    time: Seconds
    time_lower: Seconds
    time_upper: Seconds
    interval: Interval | None
    flops: Flops
    bytes: Mapping[str, Bytes]
    intensity: FlopsPerByte  # FLOPs per byte of main memory
    ridge: Mapping[str, Mapping[str, FlopsPerByte]]  # format → memory level → FLOP/B
    resources: tuple[str, ...]  # in the order that `bound` counts them where it is an array
    bound: Any
    cost: Cost
    energy: Joules | None
    tokens: Count
    tokens_per_second: PerSecond
    capacity: Capacity | None
    feasible: Any
    operations: tuple[OperationEstimate, ...]
    sources: Mapping[str, Source] = field(default_factory=dict[str, Source])
    notes: tuple[str, ...] = ()
    interval_reason: str = ""  # why there is no interval


def resource_row(name: str, resource: str, *, count: Count, time: Seconds) -> OperationEstimate:
    """Return a row that takes time of one resource beside a step's operations, and computes and moves nothing."""
    return OperationEstimate(
        name=name,
        kind=resource,
        group=resource,
        count=count,
        functions=(),
        m=None,
        n=None,
        k=None,
        flops=0.0,
        bytes=0.0,
        time=time,
        bound=resource,
        cost=Cost(time={resource: time}),
    )


def merged(costs: Iterable[Cost]) -> Cost:
    """Add costs by resource."""
    result = Cost(time={})
    for cost in costs:
        result = result + cost
    return result
