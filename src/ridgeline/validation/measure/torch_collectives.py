"""All-reduces of PyTorch over several devices: one process a device, the time of the slowest."""

import json
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

_REPEATS = 20
_WARM_UP = 3


def all_reduces(torch: Any, members: int, sizes: Sequence[int], backend: str) -> list[tuple[int, list[float]]]:
    """Return the times of all-reduces of 16-bit buffers over so many devices, by bytes; for each, several one after another."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        arguments = (members, tuple(sizes), backend, port, folder)
        torch.multiprocessing.spawn(_member, args=arguments, nprocs=members, join=True)
        found = [json.loads(one.read_text(encoding="utf-8")) for one in sorted(Path(folder).glob("*.json"))]
    return [(size, [max(times) for times in zip(*(one[at] for one in found), strict=True)]) for at, size in enumerate(sizes)]


def _member(rank: int, members: int, sizes: tuple[int, ...], backend: str, port: int, folder: str) -> None:
    """Run one member's part, and leave its times in a file."""
    torch = import_module("torch")
    distributed: Any = import_module("torch.distributed")
    device = f"cuda:{rank}" if backend == "nccl" else "cpu"
    if backend == "nccl":
        torch.cuda.set_device(rank)
    distributed.init_process_group(backend, init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=members)
    try:
        times = [_times(torch, distributed, torch.zeros(size // 2, dtype=torch.bfloat16, device=device)) for size in sizes]
    finally:
        distributed.destroy_process_group()
    (Path(folder) / f"{rank}.json").write_text(json.dumps(times), encoding="utf-8")
    sys.stdout.flush()


def _times(torch: Any, distributed: Any, buffer: Any) -> list[float]:
    found: list[float] = []
    for at in range(_WARM_UP + _REPEATS):
        distributed.barrier()
        _wait(torch, buffer)
        start = time.perf_counter()
        distributed.all_reduce(buffer)
        _wait(torch, buffer)
        if at >= _WARM_UP:
            found.append(time.perf_counter() - start)
    return found


def _wait(torch: Any, buffer: Any) -> None:
    if buffer.is_cuda:
        torch.cuda.synchronize()
