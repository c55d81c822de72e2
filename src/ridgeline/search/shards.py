"""A folder of Parquet shards: one file for each run of blocks, written whole or not at all, so that work can stop and go on.

FOLDER/space.json            what the shards are of: the space's hash, and how it was cut
FOLDER/shard-000000.parquet  rows that are kept of a run of blocks; counts of all its points in the file's metadata
FOLDER/pareto.parquet        the front of all shards, once all are there
"""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from ridgeline.errors import InputError
from ridgeline.search.explore import Space, evaluate_block, front_of, joined

_MANIFEST = "space.json"
PARETO = "pareto.parquet"


@dataclass(frozen=True)
class Cut:
    """How a space is cut: points a block at most, and blocks a shard."""

    block: int
    run: int

    def shards(self, space: Space) -> int:
        """Return the number of shards."""
        return -(-self.blocks(space) // self.run)

    def blocks(self, space: Space) -> int:
        """Return the number of blocks."""
        return space.grid.count_blocks(self.block) * len(space.groups)


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Counts of one shard, or of all."""

    points: int
    feasible: int
    ruled_out: dict[str, int]


def _arrow() -> Any:
    try:
        import pyarrow as arrow
        from pyarrow import parquet  # so that `arrow.parquet` is there
    except ImportError:
        raise InputError("exploring keeps its results as Parquet: `pip install pyarrow duckdb`, or ridgeline[explore]") from None
    return arrow if parquet else None


def shard_path(folder: Path, number: int) -> Path:
    """Return a shard's file."""
    return folder / f"shard-{number:06d}.parquet"


def prepare(folder: Path, space: Space, cut: Cut) -> Cut:
    """Make the folder, or go on in it as it was begun; raise `InputError` where it is of another space or of something else."""
    _arrow()
    manifest = folder / _MANIFEST
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if manifest.is_file():
            return _begun(manifest, space)
        if any(one.suffix == ".parquet" for one in folder.iterdir()):
            raise InputError(f"{folder} holds Parquet files of something else: name an empty or a new folder")
        _replace(manifest, json.dumps({"space": space.digest, "name": space.name, "block": cut.block, "run": cut.run}).encode())
    except OSError as error:
        raise InputError(f"{folder}: cannot be written: {error.strerror or error}") from None
    return cut


def _begun(manifest: Path, space: Space) -> Cut:
    try:
        said = json.loads(manifest.read_text(encoding="utf-8"))
        digest, cut = said["space"], Cut(int(said["block"]), int(said["run"]))
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{manifest} cannot be read: remove the folder, or name a new one") from None
    if digest != space.digest:
        raise InputError(
            f"{manifest.parent} holds results of another space ({said.get('name', '?')}, {digest[:12]}; this one is "
            f"{space.digest[:12]}): name a new folder"
        )
    return cut


def _replace(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def missing(folder: Path, space: Space, cut: Cut) -> tuple[list[int], Summary]:
    """Return the shards that are still to be made, and the counts of those that are there."""
    left: list[int] = []
    there: list[Summary] = []
    for number in range(cut.shards(space)):
        path = shard_path(folder, number)
        if path.is_file():
            there.append(_summary(path, space))
        else:
            left.append(number)
    for stale in folder.glob("*.partial"):
        stale.unlink(missing_ok=True)
    return left, added(there)


def added(parts: Sequence[Summary]) -> Summary:
    """Return the sum of counts."""
    ruled_out: dict[str, int] = {}
    for part in parts:
        for name, count in part.ruled_out.items():
            ruled_out[name] = ruled_out.get(name, 0) + count
    return Summary(points=sum(one.points for one in parts), feasible=sum(one.feasible for one in parts), ruled_out=ruled_out)


def _summary(path: Path, space: Space) -> Summary:
    arrow = _arrow()
    try:
        held = arrow.parquet.read_schema(path).metadata or {}
    except (OSError, arrow.ArrowException) as error:
        raise InputError(f"{path} cannot be read: {error}: remove it, and the same command makes it anew") from None
    if held.get(b"space", b"").decode() != space.digest:
        raise InputError(f"{path} is of another space: name a new folder")
    return Summary(**json.loads(held[b"counts"]))


def make_shard(folder: Path, space: Space, cut: Cut, number: int) -> Summary:
    """Compute a run of blocks and write what is kept of it."""
    grid, stop = space.grid, min((number + 1) * cut.run, cut.blocks(space))
    kept = joined(space, [evaluate_block(space, grid, one, cut.block) for one in range(number * cut.run, stop)])
    counts = Summary(points=kept.points, feasible=kept.feasible, ruled_out=dict(kept.ruled_out))
    _write(shard_path(folder, number), space, kept.rows, counts)
    return counts


def _write(path: Path, space: Space, rows: Any, counts: Summary) -> None:
    arrow = _arrow()
    table = arrow.table({**{name: column for name, column in rows.items() if name != "group"}, **_labels(space, rows["group"])})
    table = table.replace_schema_metadata({"space": space.digest, "counts": json.dumps(counts.__dict__)})
    sink = arrow.BufferOutputStream()
    arrow.parquet.write_table(table, sink)
    try:
        _replace(path, sink.getvalue().to_pybytes())
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written: {error.strerror or error}; the shards before it stay, and the same command goes on"
        ) from None


def _labels(space: Space, groups: Any) -> dict[str, Any]:
    """Return the columns of what has structure."""
    names = list(space.groups[0].labels)
    return {name: [space.groups[index].labels[name] for index in groups] for name in names}


def finish(folder: Path, space: Space, cut: Cut) -> list[dict[str, Any]]:
    """Merge the shards' fronts, write the front of them all, and return its rows in the order of the points."""
    arrow = _arrow()
    whole: Any = None
    for number in range(cut.shards(space)):
        table = arrow.parquet.read_table(shard_path(folder, number), filters=[("front", "=", True)])
        whole = (
            table
            if whole is None
            else arrow.concat_tables([whole.replace_schema_metadata(None), table.replace_schema_metadata(None)])
        )
        if whole.num_rows > 100_000:
            whole = _on_front(space, whole)
    whole = _on_front(space, whole).sort_by("point").drop_columns(["front", "sampled", "feasible"])
    sink = arrow.BufferOutputStream()
    arrow.parquet.write_table(whole.replace_schema_metadata({"space": space.digest}), sink)
    _replace(folder / PARETO, sink.getvalue().to_pybytes())
    return whole.to_pylist()


def _on_front(space: Space, table: Any) -> Any:
    rows = {name: table.column(name).to_numpy() for name in (*space.objectives, "front")}
    return table.filter(_arrow().array(front_of(space, rows)))


# ---- who computes -----------------------------------------------------------------------------------------------------------


def run_here(folder: Path, space: Space, cut: Cut, numbers: Sequence[int]) -> Iterator[Summary]:
    """Make shards in this process."""
    for number in numbers:
        yield make_shard(folder, space, cut, number)


def _end_with_parent() -> None:
    """End this worker when the process that started it is gone, however it went."""
    from multiprocessing import connection, parent_process
    from threading import Thread

    parent = parent_process()
    if parent is not None:
        Thread(target=lambda: (connection.wait([parent.sentinel]), os._exit(1)), daemon=True).start()


def run_pool(folder: Path, space: Space, cut: Cut, numbers: Sequence[int], workers: int) -> Iterator[Summary]:
    """Make shards in a pool of local processes; what was not begun is dropped when the caller stops."""
    from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
    from concurrent.futures.process import BrokenProcessPool
    from multiprocessing import get_context

    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_end_with_parent)
    waiting = iter(numbers)
    try:
        running = {pool.submit(make_shard, folder, space, cut, number) for number in islice(waiting, 2 * workers)}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            running |= {pool.submit(make_shard, folder, space, cut, number) for number in islice(waiting, len(done))}
            for one in done:
                yield one.result()
    except BrokenProcessPool:
        raise InputError("a worker process was killed: the finished shards stay, and the same command goes on") from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def run_dask(folder: Path, space: Space, cut: Cut, numbers: Sequence[int], address: str | None) -> Iterator[Summary]:
    """Make shards on a Dask cluster, an existing one or one of this machine; a task whose worker dies is run on another."""
    try:
        from distributed import Client, as_completed
    except ImportError:
        raise InputError("--engine dask: `pip install distributed`, or choose --engine local") from None
    with Client(address) if address else Client() as client:
        shared = client.scatter(space, broadcast=True)
        futures = [client.submit(make_shard, folder.absolute(), shared, cut, number, pure=False, retries=3) for number in numbers]
        for one in as_completed(futures):
            yield one.result()
