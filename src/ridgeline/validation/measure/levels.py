"""Levels of a memory hierarchy from the bandwidth over working sets of growing size, and from what the operating system says."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from ridgeline.quantities import Bytes, BytesPerSecond, Count

SYSTEM_FOLDER = Path("/sys/devices/system/cpu")


class Point(NamedTuple):
    """What a working set is read at: one core's set where `cores` is 1, else the set that so many cores share."""

    size: Bytes
    bandwidth: BytesPerSecond  # of all cores together


class SystemCache(NamedTuple):
    """A data cache as the operating system describes it, and how many cores share one."""

    level: int
    capacity: Bytes
    sharers: int


@dataclass(frozen=True, kw_only=True)
class Level:
    """A level that was found: its capacity and bandwidth are of one instance."""

    name: str
    shared: bool  # by the whole chip
    capacity: Bytes
    bandwidth: BytesPerSecond
    knee: Bytes | None  # the working set beyond which the bandwidth falls; None where it does not
    spread: Count  # largest over least bandwidth of the working sets that it is taken from


def system_caches(folder: Path = SYSTEM_FOLDER) -> tuple[SystemCache, ...]:
    """Return the data caches of the first core, from the inside out; none where the system does not say."""
    found: list[SystemCache] = []
    for index in sorted((folder / "cpu0" / "cache").glob("index*")):
        try:
            kind, level, size, shared = (
                (index / name).read_text().strip() for name in ("type", "level", "size", "shared_cpu_list")
            )
            if kind != "Instruction":
                found.append(SystemCache(int(level), _bytes(size), _count(shared)))
        except (OSError, ValueError):
            continue
    return tuple(sorted(found))


def _bytes(text: str) -> Bytes:
    """Return a size as the kernel writes it: `32K`, `1024K`, `32M`.

    >>> _bytes("32K")
    32768.0
    """
    scales = {"K": 2.0**10, "M": 2.0**20, "G": 2.0**30}
    return float(text[:-1]) * scales[text[-1]] if text[-1] in scales else float(text)


def _count(text: str) -> int:
    """Return how many cores a list such as `0-3,8` names.

    >>> _count("0-3,8")
    5
    """
    ranges = [one.partition("-") for one in text.split(",") if one]
    return sum(int(last or first) - int(first) + 1 for first, _, last in ranges)


# ---- knees ------------------------------------------------------------------------------------------------------------------

_STEP = 0.12  # a fall of so much of a nat is a level of its own: smaller ones are noise, or the same level


class Plateau(NamedTuple):
    """Working sets that are read at one bandwidth."""

    least: Bytes
    most: Bytes
    bandwidth: BytesPerSecond


def plateaus(points: Sequence[Point]) -> tuple[Plateau, ...]:
    """Cut bandwidth over size into plateaus: the cut whose squared logarithmic distance, with a fine for each, is least.

    >>> [round(one.bandwidth) for one in plateaus([Point(2.0**i, 100 if i < 4 else 40) for i in range(8)])]
    [100, 40]
    """
    ordered = sorted(points)
    logs = [math.log(one.bandwidth) for one in ordered]
    best: list[tuple[float, int]] = [(0.0, 0)]
    for end in range(1, len(logs) + 1):
        best.append(min((best[start][0] + _distance(logs[start:end]) + _STEP**2, start) for start in range(end)))
    cuts, end = list[tuple[int, int]](), len(logs)
    while end > 0:
        cuts.append((best[end][1], end))
        end = best[end][1]
    return tuple(
        Plateau(ordered[start].size, ordered[end - 1].size, math.exp(statistics.median(logs[start:end])))
        for start, end in reversed(cuts)
    )


def _distance(values: Sequence[float]) -> float:
    middle = statistics.fmean(values)
    return sum((one - middle) ** 2 for one in values)


def knee(points: Sequence[Point], inside: BytesPerSecond, outside: BytesPerSecond) -> Bytes | None:
    """Return the working set at which the bandwidth passes half-way, on a logarithmic scale, from one level's to the next's.

    >>> round(knee([Point(1e6, 100.0), Point(4e6, 25.0)], 100.0, 25.0))
    2000000
    """
    if outside >= inside * math.exp(-_STEP):
        return None
    middle, ordered = math.sqrt(inside * outside), sorted(points)
    for one, after in pairwise(ordered):
        if one.bandwidth >= middle > after.bandwidth:
            share = math.log(one.bandwidth / middle) / math.log(one.bandwidth / after.bandwidth)
            return one.size * (after.size / one.size) ** share
    return None


# ---- levels -----------------------------------------------------------------------------------------------------------------

_INSIDE = (1.2, 0.75)  # of the capacity of the level before and of its own: working sets that lie in a level


def levels(
    own: Sequence[Point], together: Sequence[Point], caches: Sequence[SystemCache], cores: Count
) -> tuple[tuple[Level, ...], BytesPerSecond, Count]:
    """Return the caches, the bandwidth of main memory, and its spread.

    `own` are working sets of each core, `together` such that all cores share. Capacities are the system's; where it says nothing
    they are the knees'. A cache that several but not all cores share counts as the chip's, with all its instances.
    """
    far = sorted(together)[-1].size / 2.0
    beyond = [one.bandwidth for one in together if one.size >= far]
    main = statistics.median(beyond)
    spread = max(beyond) / min(beyond)
    known = caches or _from_knees(own, together, main)
    found: list[Level] = []
    before = {"own": 0.0, "together": 0.0}
    for at, cache in enumerate(known):
        shared = cache.sharers > 1
        series, key = (together, "together") if shared else (own, "own")
        instances = max(cores / cache.sharers, 1.0) if shared else 1.0
        capacity = cache.capacity * instances
        inside = [one.bandwidth for one in series if _INSIDE[0] * before[key] < one.size <= _INSIDE[1] * capacity]
        before = {"own": capacity if not shared else before["own"], "together": capacity * (1.0 if shared else cores)}
        if not inside:
            continue
        whole = statistics.median(inside)
        after = known[at + 1] if at + 1 < len(known) else None
        outer = main if after is None else None
        found.append(
            Level(
                name=f"l{cache.level}",
                shared=shared,
                capacity=capacity,
                bandwidth=whole if shared else whole / cores,
                knee=_knee(series, whole, outer, capacity),
                spread=max(inside) / min(inside),
            )
        )
    return tuple(found), main, spread


def _knee(series: Sequence[Point], whole: BytesPerSecond, outside: BytesPerSecond | None, capacity: Bytes) -> Bytes | None:
    """Return the knee of a level: towards main memory, or towards what sets of thrice its capacity are read at."""
    if outside is None:
        beyond = [one.bandwidth for one in series if 1.5 * capacity <= one.size <= 6.0 * capacity]
        outside = statistics.median(beyond) if beyond else whole
    return knee([one for one in series if one.size >= capacity / 4.0], whole, outside)


def _from_knees(own: Sequence[Point], together: Sequence[Point], main: BytesPerSecond) -> tuple[SystemCache, ...]:
    """Return the caches that the plateaus show: those of a core, then those that cores share, all but main memory's."""
    private = plateaus(own)[:-1] if len(own) > 1 else ()
    shared = [one for one in plateaus(together) if one.bandwidth > main * math.exp(2.0 * _STEP)]
    sizes = [(one.most, 1) for one in private] + [(one.most, 2) for one in shared]
    return tuple(SystemCache(at, size, sharers) for at, (size, sharers) in enumerate(sizes, start=1))
