"""An array that instructions feed: an in-order queue, instruction by instruction."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ridgeline.errors import InputError


@dataclass(frozen=True, kw_only=True)
class InstructionQueue:
    """How instructions reach an array: vectors of the longest one, and times in cycles.

    An instruction streams at most `stream` vectors past the block that stands in the array and lasts at least `least` cycles; the
    first of a block lasts at least `preload`, because the block after it enters meanwhile, or begins `serial` later where the block
    enters by itself. An element takes `depth` products of a vector's sum a cycle. Instructions enter the queue `issue`
    cycles apart and are executed in order, with `gap` cycles from the end of one to the start of the next.

    >>> InstructionQueue(stream=16, least=4.0).pieces(40)
    (16, 16, 8)
    """

    stream: int
    least: float = 0.0
    preload: float = 0.0
    issue: float = 0.0
    gap: float = 0.0
    skewed: bool = True
    serial: float = 0.0
    depth: int = 1

    def __post_init__(self) -> None:
        """Refuse values that no queue has."""
        if self.stream < 1:
            raise InputError(f"an instruction streams at least 1 vector, not {self.stream!r}")
        for name in ("least", "preload", "issue", "gap", "serial"):
            if not getattr(self, name) >= 0:
                raise InputError(f"{name} of an instruction queue must be 0 cycles or more, not {getattr(self, name)!r}")

    def pieces(self, vectors: int) -> tuple[int, ...]:
        """Return the vectors of each instruction of a stream, in order."""
        return tuple(min(self.stream, vectors - at) for at in range(0, vectors, self.stream))


@lru_cache(maxsize=4096)
def queue_cycles(queue: InstructionQueue, *, blocks: int, rows: int, vectors: int) -> float:
    """Return the cycles from the issue of the first instruction to the end of the last, its gap included.

    Every one of the blocks stays in the array while `rows` streams of `vectors` go past it, each begun by an instruction of its
    own. One block is stepped, an instruction starting when it is issued and the one before it has ended; blocks are alike, so
    every further one adds its own cycles, or those of its issues where they are more. Neglected: a full queue, which would hold
    the issue back only while the array is behind.

    >>> queue_cycles(InstructionQueue(stream=16, least=4.0), blocks=2, rows=1, vectors=18)  # 16 + 4, twice
    40.0
    >>> queue_cycles(InstructionQueue(stream=16, issue=20.0), blocks=1, rows=1, vectors=40)  # issued at 0, 20, 40; the last takes 8
    48.0
    >>> queue_cycles(InstructionQueue(stream=16, preload=16.0, gap=1.0), blocks=3, rows=1, vectors=4)  # (16 + 1) · 3
    51.0
    """
    lengths = np.tile(np.maximum(np.array(queue.pieces(vectors), dtype=float), queue.least), rows)
    lengths[0] = max(lengths[0], queue.preload) + queue.serial
    ends = lengths + queue.gap
    before = np.concatenate([[0.0], np.cumsum(ends)])
    waited = np.max(queue.issue * np.arange(len(ends)) - before[:-1])  # of the last instruction of the first block, at the most
    each = max(float(before[-1]), queue.issue * len(ends))
    return float(waited + before[-1]) + (blocks - 1) * each
