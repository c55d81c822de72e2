"""What published throughput was measured with: lengths and numbers of requests of load tests (`loads.csv`)."""

import csv
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import NamedTuple

from ridgeline.quantities import Fraction, Seconds
from ridgeline.specs.base import Source

PATH = Path(__file__).parent / "loads.csv"
_LIMITED = ("server", "interactive")  # scenarios with a limit on TPOT
_LEAST = 1500  # requests of a test whose publication does not say how many


class LoadTest(NamedTuple):
    """Requests that all come at once: their mean lengths in tokens, their number, and beams of each."""

    name: str
    prompt: int
    output: int
    requests: int
    beams: int = 1
    sequences: int | None = None  # that the scheduler ran at once; None: as the stack has it
    tokens: int | None = None  # of a step
    free_share: Fraction | None = None  # of the memory beside weights and activations that pages took; None: as the stack
    tpot: tuple[tuple[str, Seconds], ...] = ()  # that most requests must keep, by scenario
    format: str = ""  # in which submissions run it; empty: as the row says
    source: Source | None = None


@cache
def load_tests() -> tuple[tuple[str, LoadTest], ...]:
    """Return the rows of `loads.csv`, each with its kind: `uniform` of a framework's tables, `benchmark`, `trace`, `point`."""
    with PATH.open(encoding="utf-8", newline="") as file:
        return tuple((row["kind"], _test(row)) for row in csv.DictReader(file))


def _test(row: dict[str, str]) -> LoadTest:
    source = Source(key=row["source"], where=row["where"], confidence=row["confidence"] or "seen", note=row["note"] or None)
    sequences, tokens = (int(row[name]) if row[name] else None for name in ("sequences", "tokens"))
    return LoadTest(
        name=row["name"],
        prompt=int(row["prompt"]),
        output=int(row["output"]),
        requests=int(row["requests"]),
        beams=int(row["beams"]),
        sequences=sequences,
        tokens=tokens,
        free_share=float(row["free_share"]) if row["free_share"] else None,
        tpot=tuple((name, float(row[f"{name}_tpot_ms"]) * 1e-3) for name in _LIMITED if row[f"{name}_tpot_ms"]),
        format=row["format"],
        source=source,
    )


def uniform_load(framework: str, prompt: int, output: int) -> LoadTest:
    """Return the test of a framework's tables with these lengths; with 1500 requests where its publication says no number.

    >>> uniform_load("tensorrt-llm-0.17", 128, 128).requests, uniform_load("other", 7, 9).requests
    (30000, 1500)
    """
    for kind, one in load_tests():
        if kind == "uniform" and fnmatchcase(framework.lower(), one.name) and (one.prompt, one.output) == (prompt, output):
            return one
    return LoadTest(framework, prompt, output, _LEAST)


def benchmark_load(name: str) -> LoadTest | None:
    """Return the test of a benchmark of a suite; None where its lengths are not known."""
    return next((one for kind, one in load_tests() if kind == "benchmark" and fnmatchcase(name.lower(), one.name)), None)


def trace_limits(framework: str) -> tuple[int | None, int | None]:
    """Return the sequences and the tokens of a step that published runs of traces were limited to; None: as the stack has it.

    >>> trace_limits("vllm-0.19.0")
    (128, 2048)
    """
    found = next((one for kind, one in load_tests() if kind == "trace" and fnmatchcase(framework.lower(), one.name)), None)
    return (None, None) if found is None else (found.sequences, found.tokens)


def point_load(model: str) -> LoadTest | None:
    """Return the batch and the lengths behind single published figures of a model; None where they are not known."""
    return next((one for kind, one in load_tests() if kind == "point" and fnmatchcase(model.lower(), one.name)), None)
