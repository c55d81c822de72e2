"""Kernels of PyTorch on this machine's CPU or GPU; the library is loaded when a device is asked for, and nowhere else."""

import itertools
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from ridgeline.errors import InputError
from ridgeline.quantities import Bytes
from ridgeline.validation.measure import torch_models
from ridgeline.validation.measure.levels import SystemCache, system_caches
from ridgeline.validation.measure.timing import Call, Clock, ProcessClock, Sample
from ridgeline.validation.measure.work import Attention, Machine, Product, Vector, WholeModel, Work

DEVICES = ("cpu", "cuda")
_NAMES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16", "int8": "int8"}
_WIDTHS = {"fp32": 4, "bf16": 2, "fp16": 2, "int8": 1}
_LEAST_POOL, _MOST_POOL = 2.0**26, 2.0**31
_WAITING = {"GOMP_SPINCOUNT": "1000", "KMP_BLOCKTIME": "0"}  # of GNU's and of Intel's OpenMP
_POOL = 3.0  # times the last-level cache, over which copies of an operand are spread
_LEAST_COPIES = 2
_MODULES = 100  # small modules of a call that times a launch
_DEPTH = 2.0**26  # bytes that a call reads of a small working set, over and over


def open_device(name: str) -> "TorchDevice":
    """Return a device of PyTorch; raise `InputError` where the library or the device is not there."""
    if name not in DEVICES:
        raise InputError(f"--device {name}: choose {', '.join(DEVICES)}")
    # Threads of the CPU's library that wait for one another do so actively for a moment only, then sleep: where another program has
    # taken a core, the one that waits then leaves its own to the one that is waited for. Read when the library is loaded.
    for variable, value in _WAITING.items():
        os.environ.setdefault(variable, value)
    try:
        torch = import_module("torch")
    except ImportError as error:
        raise InputError(
            f"measure runs PyTorch's kernels, and torch cannot be loaded ({error}): pip install 'ridgeline[torch]'"
        ) from None
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: PyTorch finds no CUDA device on this machine; accepted here: cpu")
    return TorchDevice(torch, name)


class CudaClock:
    """Time of a call on a GPU between two events; nobody else is expected on it."""

    def __init__(self, torch: Any) -> None:
        self._torch = torch
        self._wall = ProcessClock()

    def now(self) -> float:
        """Return the host's time."""
        return self._wall.now()

    def sample(self, call: Call) -> Sample:
        """Time one call by events around it, after all that ran before."""
        first, last = (self._torch.cuda.Event(enable_timing=True) for _ in range(2))
        self._torch.cuda.synchronize()
        first.record()
        call()
        last.record()
        last.synchronize()
        return Sample(float(first.elapsed_time(last)) * 1e-3, disturbed=False)


class TorchDevice:
    """A device that PyTorch runs on; operands come from one pool of memory, so that copies in turn leave the caches."""

    def __init__(self, torch: Any, name: str) -> None:
        self._torch, self._name = torch, name
        self.clock: Clock = CudaClock(torch) if name == "cuda" else ProcessClock()
        self._pools: dict[str, Any] = {}
        self._pool_bytes = _LEAST_POOL
        self._models: dict[str, Any] = {}
        torch.manual_seed(0)
        if name == "cuda":
            torch.backends.cuda.matmul.allow_tf32 = False

    def machine(self) -> Machine:
        """Say what the machine is."""
        software = f"pytorch-{self._torch.__version__}"
        found = _gpu(self._torch) if self._name == "cuda" else _cpu(self._torch.get_num_threads())
        return replace(found, software=software)

    def devices(self) -> int:
        """Return how many such devices the machine has."""
        return int(self._torch.cuda.device_count()) if self._name == "cuda" else 1

    def formats(self) -> tuple[str, ...]:
        """Return the formats that the device has units for: where it would emulate one, its rate is no property of it."""
        if self._name == "cuda":
            newer = self._torch.cuda.get_device_capability()[0] >= 8
            return ("fp32", "bf16", "fp16", "int8") if newer else ("fp32", "fp16")
        flags = _flags()
        wide = any(one in flags for one in ("avx512_bf16", "amx_bf16", "bf16"))
        half = any(one in flags for one in ("avx512_fp16", "amx_fp16", "asimdhp"))
        dots = any(one in flags for one in ("avx512_vnni", "avx_vnni", "amx_int8"))
        return tuple(one for one, there in (("fp32", True), ("bf16", wide), ("fp16", half), ("int8", dots)) if there)

    def prepare(self, cache: Bytes) -> None:
        """Take memory for operands: several times the last-level cache, so that copies in turn are not found in it."""
        self._pool_bytes = min(max(_POOL * cache, _LEAST_POOL), _MOST_POOL)
        self._pools.clear()

    def _type(self, format: str) -> Any:
        return getattr(self._torch, _NAMES[format])

    def _pool(self, format: str) -> Any:
        if format not in self._pools:
            count = int(self._pool_bytes // _WIDTHS[format])
            where: dict[str, Any] = {"device": self._name}
            if format == "int8":
                self._pools[format] = self._torch.randint(-8, 8, (count,), dtype=self._torch.int8, **where)
            else:
                self._pools[format] = self._torch.empty(count, **where).uniform_(-1.0, 1.0).to(self._type(format))
        return self._pools[format]

    def _copies(self, format: str, *shape: int) -> list[Any]:
        """Return tensors of a shape that lie one after another in the pool; more memory where it holds too few."""
        size, pool = _product(shape), self._pool(format)
        count = int(pool.numel() // size)
        if count < _LEAST_COPIES:
            return [self._values(format, *shape) for _ in range(_LEAST_COPIES)]
        return [one.view(*shape) for one in pool[: count * size].view(count, -1)]

    def _values(self, format: str, *shape: int) -> Any:
        if format == "int8":
            return self._torch.randint(-8, 8, shape, dtype=self._torch.int8, device=self._name)
        return self._torch.empty(shape, device=self._name).uniform_(-1.0, 1.0).to(self._type(format))

    # ---- memory and launch ------------------------------------------------------------------------------------------------

    def launch(self) -> tuple[Call, int]:
        """Return a call of small modules one after another, and their number."""
        torch = self._torch
        module = torch.nn.Sequential(*(torch.nn.Linear(8, 8) for _ in range(_MODULES))).to(self._name).requires_grad_(False)
        value = torch.zeros(1, 8, device=self._name)
        return lambda: module(value), _MODULES

    def read(self, size: Bytes, *, own: bool) -> tuple[Call, Bytes]:
        """Return a call that sums a working set, and the bytes that it reads.

        A small set is one row that many rows point to, so that a call reads it again and again: of each core's own set, all of it;
        of a set that the cores share, each core's part.
        """
        torch, cores = self._torch, int(self.machine().cores)
        values, again = int(size // 4), int(_DEPTH // size)
        if not own and (again < 2 or self._name != "cpu"):
            whole = self._values("fp32", values)
            return lambda: torch.sum(whole), 4.0 * values
        parts, each = (1, values) if own else (cores, values // cores)
        rows = max(again, 1) * (cores if own else 1)
        set_of_parts, out = self._values("fp32", parts, 1, each), torch.empty(parts, rows, device=self._name)
        repeated = set_of_parts.expand(parts, rows, each)
        return lambda: torch.sum(repeated, 2, out=out), 4.0 * parts * rows * each

    def copy(self, size: Bytes) -> tuple[Call, Bytes]:
        """Return a call that copies one half of a working set to the other."""
        values = int(size // 8)
        source, target = self._values("fp32", values), self._values("fp32", values)
        return lambda: target.copy_(source), 8.0 * values

    # ---- operations -------------------------------------------------------------------------------------------------------

    def run(self, work: Work) -> Call:
        """Return a call that does the work; operands that a model would find in main memory are other copies each time."""
        if isinstance(work, Product):
            return self._run_product(work)
        if isinstance(work, Attention):
            return self._run_attention(work)
        if isinstance(work, Vector):
            return self._run_vector(work)
        raise InputError("whole models run in parts, collectives in processes of their own")

    def _run_product(self, work: Product) -> Call:
        torch, left = self._torch, self._values(work.format, work.m, work.k)
        if work.format == "int8":
            turns = itertools.cycle([one.t() for one in self._copies("int8", work.n, work.k)])
            return lambda: torch._int_mm(left, next(turns))
        weights = itertools.cycle(self._copies(work.format, work.n, work.k))
        linear = torch.nn.functional.linear
        return lambda: linear(left, next(weights))

    def _run_attention(self, work: Attention) -> Call:
        attend = self._torch.nn.functional.scaled_dot_product_attention
        query = self._values(work.format, work.batch, work.heads, work.queries, work.size)
        pairs = self._copies(work.format, 2, work.batch, work.kv_heads, work.keys, work.size)
        options: dict[str, Any] = {"is_causal": work.causal}
        if work.heads != work.kv_heads:
            options["enable_gqa"] = True
        turns = itertools.cycle([(one[0], one[1]) for one in pairs])
        return lambda: attend(query, *next(turns), **options)

    def _run_vector(self, work: Vector) -> Call:
        kernel = self._kernel(work)
        inputs = self._copies(work.format, 2, work.m, work.n)
        # As many results are kept: a new one is written where the oldest was, which has left the caches.
        kept: list[Any] = [None] * len(inputs)
        turns = itertools.cycle(range(len(inputs)))

        def call() -> None:
            at = next(turns)
            kept[at] = None
            kept[at] = kernel(inputs[at][0], inputs[at][1])

        for _ in inputs:
            call()
        return call

    def _kernel(self, work: Vector) -> Callable[[Any, Any], Any]:
        functions = self._torch.nn.functional
        ones = self._values(work.format, work.n)
        known: dict[str, Callable[[Any, Any], Any]] = {
            "add": lambda one, other: one + other,
            "gelu": lambda one, _: functions.gelu(one),
            "silu": lambda one, _: functions.silu(one),
            "softmax": lambda one, _: functions.softmax(one, -1),
            "layer-norm": lambda one, _: functions.layer_norm(one, (work.n,), ones, ones),
        }
        return known[work.name]

    def parts(self, work: WholeModel) -> list[tuple[str, Call]]:
        """Return a model's pass as calls in sequence; on a GPU as one, since waiting between them would add to it."""
        if work.model not in self._models:
            self._models.clear()  # one at a time in memory
            self._models[work.model] = torch_models.build(self._torch, work.model, self._name)
        found = torch_models.parts(self._torch, self._models[work.model], work)
        if self._name == "cpu":
            return found
        return [("all", lambda: [call() for _, call in found])]

    def all_reduces(self, sizes: Sequence[int]) -> list[tuple[int, list[float]]]:
        """Return the times of all-reduces over all GPUs, by size: of the slowest member, by events."""
        from ridgeline.validation.measure.torch_collectives import all_reduces

        return all_reduces(self._torch, self.devices(), sizes, "nccl" if self._name == "cuda" else "gloo")


def _product(shape: Sequence[int]) -> int:
    found = 1
    for one in shape:
        found *= one
    return found


# ---- what the machine says of itself ----------------------------------------------------------------------------------------

_CPU_INFO = Path("/proc/cpuinfo")


def _info(key: str) -> str:
    try:
        lines = _CPU_INFO.read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == key), "")


def _flags() -> set[str]:
    return set((_info("flags") or _info("Features")).split())


def _cpu(threads: int) -> Machine:
    title = _info("model name") or platform.processor() or platform.machine()
    vendors = {"GenuineIntel": "Intel", "AuthenticAMD": "AMD"}
    frequency = Path("/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq")
    notes: list[str] = []
    clock = float(frequency.read_text()) * 1e3 if frequency.is_file() else float(_info("cpu MHz") or 0.0) * 1e6
    if clock <= 0.0:
        clock, notes = 2.5e9, ["the system states no clock: 2.5 GHz is assumed, which fixes only a tile's start"]
    memory = float(os.sysconf("SC_PHYS_PAGES")) * float(os.sysconf("SC_PAGE_SIZE"))
    return Machine(
        title=title,
        vendor=vendors.get(_info("vendor_id"), _info("vendor_id") or "unknown"),
        kind="cpu",
        family="measured-cpu",
        cores=float(threads),
        clock=clock,
        memory=memory,
        memory_kind="ddr",
        caches=system_caches(),
        notes=tuple(notes),
    )


_ARCHITECTURES = {6: "nvidia-pascal", 7: "nvidia-turing", 8: "nvidia-ampere", 9: "nvidia-hopper", 10: "nvidia-blackwell"}


def _gpu(torch: Any) -> Machine:
    found = torch.cuda.get_device_properties(0)
    hertz = float(getattr(found, "clock_rate", 0) or 0) * 1e3
    cache = float(getattr(found, "L2_cache_size", 0) or 0)
    return Machine(
        title=str(found.name),
        vendor="AMD" if torch.version.hip else "NVIDIA",
        kind="gpu",
        family="amd-cdna" if torch.version.hip else _ARCHITECTURES.get(int(found.major), "nvidia"),
        cores=float(found.multi_processor_count),
        clock=hertz or 1.5e9,
        memory=float(found.total_memory),
        memory_kind="hbm",
        caches=(SystemCache(2, cache, int(found.multi_processor_count)),) if cache else (),
        local=float(getattr(found, "shared_memory_per_multiprocessor", 0) or 0) or None,
        notes=() if hertz else ("the driver states no clock: 1.5 GHz is assumed, which fixes only a tile's start",),
    )
