"""Time lines of simulations, as files that Perfetto opens."""

from pathlib import Path

from ridgeline.api import Mapped
from ridgeline.api.simulation import write_spans
from ridgeline.errors import InputError


def write(found: Mapped, path: Path) -> None:
    """Write the time line of a simulated tiling."""
    if found.simulated is None:
        raise InputError(f"--timeline {path}: nothing was simulated")
    try:
        with path.open("w", encoding="utf-8") as file:
            write_spans(found.simulated, file, clock=found.machine.clock)
    except OSError as error:
        raise InputError(f"--timeline {path}: cannot be written: {error.strerror or error}") from None
