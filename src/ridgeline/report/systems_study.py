"""The pictures of the page on systems: `python -m ridgeline.report.systems_study FOLDER`."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ridgeline.api import analyze
from ridgeline.report.panels import Bars, Panel, PanelPicture, write_panels
from ridgeline.results import Estimate

_TENSOR = (4, 8, 16, 32, 64)
_KINDS = ("tp=16", "tp=16,ep=16", "tp=8,dp=2,ep=16", "ep=16")


def by_bound(found: Estimate, scale: float) -> dict[str, float]:
    """Return a step's time by the resource that binds each of its operations."""
    parts: dict[str, float] = {}
    for row in found.operations:
        parts[row.bound] = parts.get(row.bound, 0.0) + row.time * row.count * scale
    return parts


def _bars(labels: Sequence[str], found: Sequence[Estimate]) -> list[Bars]:
    parts = [by_bound(one, 1e3) for one in found]
    names = sorted({name for one in parts for name in one})
    return [Bars(name, labels, [one.get(name, 0.0) for one in parts]) for name in names]


def systems_picture() -> PanelPicture:
    """Describe where a decode step's time goes: a dense model over tensor ranks, a mixture over kinds of parallelism."""
    wide: dict[str, Any] = {"batch": 64, "context": 4096, "level": "ideal"}
    dense: list[Any] = [analyze("llama-3.1-70b", "dgx-h100", plan=f"tp={one}", **wide) for one in _TENSOR]
    given: dict[str, Any] = {"batch": 128, "context": 2048, "precision": "fp8-block", "level": "ideal"}
    mixed: list[Any] = [analyze("deepseek-v3", "dgx-h100", plan=plan, **given) for plan in _KINDS]
    panels = (
        Panel(
            y_label="ms a step",
            bars=_bars([f"tp={one}" for one in _TENSOR], [one.estimate for one in dense]),
            stacked=True,
            title="Llama 3.1 70B, batch 64, context 4096",
        ),
        Panel(
            y_label="ms a step",
            bars=_bars([one.replace(",", " ") for one in _KINDS], [one.estimate for one in mixed]),
            stacked=True,
            title="DeepSeek-V3 on 16 chips, batch 128, context 2048",
        ),
    )
    return PanelPicture("Decode on DGX H100", "time by the resource that binds each operation", panels)


if __name__ == "__main__":
    write_panels(systems_picture(), Path(sys.argv[1]) / "systems-decode.svg")
