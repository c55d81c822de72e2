"""Pictures of served runs, and their time lines as files."""

import math
from pathlib import Path

import numpy as np

from ridgeline.api.serving import Served, write_timeline
from ridgeline.errors import InputError
from ridgeline.report.panels import Curve, Panel, PanelPicture
from ridgeline.serving.arrivals import Numbers
from ridgeline.serving.metrics import over_time


def over_time_picture(found: Served) -> PanelPicture:
    """Describe a run over time: requests that run and wait, tokens a second, the cache, and latencies by arrival."""
    series, played = over_time(found.played), found.played
    time = series.time.tolist()
    waited = (played.first - played.requests.arrival).tolist()
    lasted = (played.finish - played.requests.arrival).tolist()
    arrival = played.requests.arrival.tolist()
    panels = [
        Panel("requests", [Curve("running", time, series.running.tolist()), Curve("waiting", time, series.waiting.tolist())]),
        Panel("output tokens/s", [Curve("tokens/s", time, series.tokens_per_second.tolist())]),
        Panel("share", [Curve("KV pages held", time, series.pages.tolist()), Curve("busy", time, series.busy.tolist())]),
        Panel(
            "s",
            [
                Curve("TTFT", *_thinned(arrival, waited), joined=False),
                Curve("end to end", *_thinned(arrival, lasted), joined=False),
            ],
            x_label="time, or a request's arrival, s",
            y_log=True,
        ),
    ]
    title = f"{found.model.title or found.model.name} on {found.chip.title or found.chip.name}"
    metrics = found.metrics
    said = f"{found.serving.policy}, {metrics.requests:,} requests, {metrics.throughput:.3g} requests/s served, level {found.level}"
    return PanelPicture(title, said, panels)


def _thinned(x: list[float], y: list[float], most: int = 1000) -> tuple[list[float], list[float]]:
    """Return every so many points, and none that is not a number."""
    kept = [(one, other) for one, other in zip(x, y, strict=True) if not math.isnan(other)]
    step = max(1, len(kept) // most)
    return [one for one, _ in kept[::step]], [other for _, other in kept[::step]]


def distribution(values: Numbers) -> tuple[list[float], list[float]]:
    """Return a cumulative distribution at up to 200 shares: value, share of requests at or below it."""
    shares = np.linspace(0.0, 1.0, 201)
    return np.quantile(values[np.isfinite(values)], shares).tolist(), shares.tolist()


def write_time_line(found: Served, path: Path) -> None:
    """Write the time line of a run."""
    try:
        with path.open("w", encoding="utf-8") as file:
            write_timeline(found, file)
    except OSError as error:
        raise InputError(f"--timeline {path}: cannot be written: {error.strerror or error}") from None
