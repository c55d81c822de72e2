"""What was measured as rows of the measurement schema."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ridgeline.validation.measure.timing import Timing
from ridgeline.validation.measure.work import Collective, WholeModel, Work
from ridgeline.validation.schema import Row

COLUMNS = (
    *("id", "op", "phase", "b", "m", "n", "k", "batch", "q_len", "kv_len", "n_heads", "n_kv_heads", "head_dim", "causal"),
    *("bytes", "model", "isl", "osl", "dtype", "kv_dtype", "chip", "n_chips", "gpus_per_node", "parallelism", "framework"),
    *("kernel", "metric", "value", "unit", "median", "samples", "disturbed", "set", "source", "licence"),
)


class Measured(NamedTuple):
    """A work with its time, and whether it judges only."""

    work: Work
    timing: Timing
    held: bool


class Stamp(NamedTuple):
    """What all rows share: where they were taken, with what, and when."""

    chip: str
    software: str
    date: str


def columns(at: int, one: Measured, stamp: Stamp) -> dict[str, str]:
    """Return a row's columns: times in ms, as the schema has latencies."""
    framework = _framework(one.work, stamp.software)
    found: dict[str, object] = {
        "id": f"measured-{at:04d}",
        **one.work.columns,
        "chip": stamp.chip,
        "framework": framework,
        "metric": "latency",
        "value": f"{one.timing.time * 1e3:.6g}",
        "unit": "ms",
        "median": f"{one.timing.median * 1e3:.6g}",
        "samples": one.timing.samples,
        "disturbed": one.timing.disturbed,
        "set": "held" if one.held else "fit",
        "source": f"measured here, {stamp.date}",
        "licence": "own measurement",
    }
    found.setdefault("n_chips", 1)
    return {name: str(found.get(name, "")).replace("True", "true").replace("False", "false") for name in COLUMNS}


def _framework(work: Work, software: str) -> str:
    """Return the name by which the stack of a row is found, as the schema's datasets have it."""
    if isinstance(work, Collective):
        return "nccl"
    return "pytorch" if isinstance(work, WholeModel) else software.partition("+")[0]


def as_rows(measured: Sequence[Measured], stamp: Stamp) -> list[Row]:
    """Return rows as a reader of the schema would."""
    found: list[Row] = []
    for at, one in enumerate(measured):
        own = columns(at, one, stamp)
        time = float(own["value"]) * 1e-3
        found.append(
            Row(
                dataset="measured",
                file="",
                line=at + 2,
                id=own["id"],
                chip=stamp.chip,
                metric="latency",
                measured=time,
                unit="s",
                columns=own,
            )
        )
    return found


def as_csv(measured: Iterable[Measured], stamp: Stamp) -> str:
    """Return the rows as a file of the schema."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(columns(at, one, stamp) for at, one in enumerate(measured))
    return text.getvalue()
