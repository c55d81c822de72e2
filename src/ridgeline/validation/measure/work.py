"""What is measured: kernels and their shapes, whole models, and which of them fix constants."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from ridgeline.quantities import Bytes, BytesPerSecond, Count, Hertz
from ridgeline.validation.measure.levels import Point, SystemCache
from ridgeline.validation.measure.timing import Call, Clock


class Product(NamedTuple):
    """C[m, n] = A[m, k] · B[n, k] in a format; the weights start in main memory."""

    format: str
    m: int
    n: int
    k: int

    @property
    def columns(self) -> dict[str, object]:
        """The columns of its row."""
        return {"op": "gemm", "m": self.m, "n": self.n, "k": self.k, "dtype": self.format}


class Attention(NamedTuple):
    """Queries over keys and values; in decode one query a sequence, over keys that start in main memory."""

    format: str
    batch: int
    queries: int
    keys: int
    heads: int
    kv_heads: int
    size: int
    causal: bool

    @property
    def columns(self) -> dict[str, object]:
        """The columns of its row."""
        return {
            "op": "attention",
            "phase": "decode" if self.queries == 1 else "prefill",
            "batch": self.batch,
            "q_len": self.queries,
            "kv_len": self.keys,
            "n_heads": self.heads,
            "n_kv_heads": self.kv_heads,
            "head_dim": self.size,
            "causal": self.causal,
            "dtype": self.format,
            "kv_dtype": self.format,
        }


class Vector(NamedTuple):
    """An elementwise or row-wise kernel over m rows of n values that start in main memory."""

    name: str
    format: str
    m: int
    n: int

    @property
    def columns(self) -> dict[str, object]:
        """The columns of its row."""
        return {"op": self.name, "m": self.m, "n": self.n, "dtype": self.format}


class Collective(NamedTuple):
    """An all-reduce over the devices of this machine."""

    bytes: int
    members: int

    @property
    def columns(self) -> dict[str, object]:
        """The columns of its row."""
        return {"op": "all_reduce", "bytes": self.bytes, "n_chips": self.members, "gpus_per_node": self.members, "dtype": "bf16"}


class WholeModel(NamedTuple):
    """A model's pass over a prompt (encode, prefill), or one step of decode whose token makes so many of them."""

    model: str
    phase: str
    length: int

    @property
    def columns(self) -> dict[str, object]:
        """The columns of its row."""
        output = 1 if self.phase == "decode" else 0
        size = {"batch": 1, "isl": self.length - output, "osl": output}
        return {"model": self.model, "phase": self.phase, **size, "dtype": "fp32", "parallelism": "none"}


Work = Product | Attention | Vector | Collective | WholeModel


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What the operating system or the driver says of a device."""

    title: str
    vendor: str
    kind: str  # cpu or gpu, as chip files have it
    family: str
    cores: Count
    clock: Hertz
    memory: Bytes
    memory_kind: str  # ddr or hbm, the name of the level
    caches: tuple[SystemCache, ...]
    local: Bytes | None = None  # scratchpad of a core, where software manages it
    software: str = ""
    notes: tuple[str, ...] = ()


class Device(Protocol):
    """What runs the work of this module on a machine; each call of what it returns is one run, on other copies of the operands."""

    clock: Clock

    def machine(self) -> Machine:
        """Say what the machine is."""
        ...

    def formats(self) -> tuple[str, ...]:
        """Return the number formats that its units multiply."""
        ...

    def devices(self) -> int:
        """Return how many such devices the machine has."""
        ...

    def prepare(self, cache: Bytes) -> None:
        """Take memory for operands, several times what a last-level cache of that size holds."""
        ...

    def launch(self) -> tuple[Call, int]:
        """Return a call of small modules, and their number."""
        ...

    def read(self, size: Bytes, *, own: bool) -> tuple[Call, Bytes]:
        """Return a call that reads a working set, and the bytes that it reads: each core's own set, or one that all share."""
        ...

    def copy(self, size: Bytes) -> tuple[Call, Bytes]:
        """Return a call that copies a working set of the cores together, and the bytes that it reads and writes."""
        ...

    def run(self, work: Work) -> Call:
        """Return a call that does the work."""
        ...

    def parts(self, work: WholeModel) -> list[tuple[str, Call]]:
        """Return a model's pass as calls in sequence, those of equal work under one name."""
        ...

    def all_reduces(self, sizes: Sequence[int]) -> list[tuple[int, list[float]]]:
        """Return the times of all-reduces over all devices, by size."""
        ...


@dataclass(frozen=True, kw_only=True)
class Extent:
    """How much is measured: which shapes, and for how long each."""

    budget: float  # seconds a shape
    model_budget: float
    deadline: float  # seconds after which shapes that others disturbed are not tried again
    quick: bool = False


FULL = Extent(budget=0.2, model_budget=3.0, deadline=90.0)
QUICK = Extent(budget=0.06, model_budget=1.0, deadline=40.0, quick=True)

_SQUARE = (256, 512, 1024, 1536)
_WEIGHTS = ((768, 768), (3072, 768), (768, 3072), (2048, 2048), (1024, 4096))
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


def products(format: str, extent: Extent) -> Iterator[Product]:
    """Yield square, skinny and matrix–vector products: rows from one to many, over weights of several shapes in turn."""
    for size in _SQUARE[1:3] if extent.quick else _SQUARE:
        yield Product(format, size, size, size)
    shapes, rows = (_WEIGHTS[:3], _ROWS[::3]) if extent.quick else (_WEIGHTS, _ROWS)
    for at, m in enumerate(rows):
        chosen = shapes if m == 1 else [shapes[(at + one) % len(shapes)] for one in range(3)]
        for n, k in chosen:
            yield Product(format, m, n, k)


def attentions(format: str, extent: Extent) -> Iterator[Attention]:
    """Yield prefill with and without a causal mask, and decode over long and short caches, with and without shared heads."""
    for length in (128, 512) if extent.quick else (128, 256, 512, 1024):
        yield Attention(format, 1, length, length, 12, 12, 64, causal=True)
        yield Attention(format, 1, length, length, 12, 12, 64, causal=False)
    for batch, keys in ((1, 512), (4, 1024)) if extent.quick else ((1, 256), (1, 512), (1, 1024), (1, 2048), (4, 512), (4, 1024)):
        yield Attention(format, batch, 1, keys, 12, 12, 64, causal=False)
    for keys in (512, 2048):
        yield Attention(format, 1, 1, keys, 32, 8, 128, causal=False)


_VECTORS = ("add", "gelu", "silu", "softmax", "layer-norm")


def vectors(format: str, extent: Extent) -> Iterator[Vector]:
    """Yield the kernels between products."""
    for m, n in ((512, 768),) if extent.quick else ((512, 768), (512, 3072), (1024, 1024)):
        for name in _VECTORS:
            yield Vector(name, format, m, n)


def works(formats: Sequence[str], extent: Extent) -> list[Work]:
    """Return all operations that are measured; attention and vector kernels in fp32 and in a 16-bit format of the device."""
    found: list[Work] = [one for format in formats for one in products(format, extent)]
    half = next((one for one in ("bf16", "fp16") if one in formats), None)
    for format in ("fp32",) if half is None else ("fp32", half):
        found += attentions(format, extent)
        found += vectors(format, extent)
    return found


def models(extent: Extent) -> list[WholeModel]:
    """Return the whole models that are measured: an encoder's pass, a decoder's prompt, and its steps."""
    lengths = (128, 512) if extent.quick else (128, 256, 512, 1024)
    passes = (("bert-base", "encode"), ("gpt2", "prefill"), ("gpt2", "decode"))
    return [WholeModel(model, phase, length) for model, phase in passes for length in lengths]


def held_back(works: Sequence[Work]) -> list[bool]:
    """Say which of the works judge and fix nothing: every second of a kind and format, whole models all."""
    seen: dict[tuple[object, ...], int] = {}
    found: list[bool] = []
    for one in works:
        if isinstance(one, WholeModel | Collective):
            found.append(True)
            continue
        key = (type(one), one.format, isinstance(one, Attention) and one.queries == 1, isinstance(one, Vector) and one.name)
        seen[key] = seen.get(key, -1) + 1
        found.append(seen[key] % 2 == 1)
    return found


def sets(caches: Sequence[SystemCache]) -> tuple[list[Bytes], list[Bytes]]:
    """Return the working sets of each core, and those that the cores share: from a part of a cache to several times the last."""
    private = [one.capacity for one in caches if one.sharers == 1]
    last = max((one.capacity for one in caches), default=2.0**25)
    near = max(private, default=2.0**21)
    own = [] if caches and not private else _geometric(2.0**12, 4.0 * near)
    return own, _geometric(near * 2.0, min(8.0 * last, 2.0**30))


def _geometric(least: Bytes, most: Bytes) -> list[Bytes]:
    found = [least]
    while found[-1] * 2.0**0.5 <= most * 1.001:
        found.append(found[-1] * 2.0**0.5)
    return [float(round(one / 1024) * 1024) for one in found]


def rate(size: Bytes, moved: Bytes, time: float) -> Point:
    """Return a working set with its bandwidth."""
    found: BytesPerSecond = moved / time
    return Point(size, found)
