"""A served run as a plain record in SI units: what `serve --json` prints."""

from dataclasses import asdict
from typing import Any

from ridgeline.api.service_interval import service_intervals
from ridgeline.api.serving import Served
from ridgeline.report.records import plain, sources_record
from ridgeline.serving.metrics import Spread


def serving_record(found: Served) -> dict[str, Any]:
    """Return a run's record: latencies in s, rates in requests a second where nothing else is said, energy in J."""
    metrics = found.metrics
    spreads = {name: getattr(metrics, name) for name in ("ttft", "tpot", "e2e", "token_gap")}
    numbers = {name: value for name, value in asdict(metrics).items() if name not in spreads}
    return plain(
        {
            "model": found.model.name,
            "chip": found.chip.name,
            "precision": found.precision.name,
            "level": found.level,
            "policy": found.serving.policy,
            "seed": found.traffic.seed,
            "target": {"ttft": found.target.ttft, "tpot": found.target.tpot},
            **{name: _spread(one) for name, one in spreads.items()},
            **numbers,
            "interval": {name: plain(one) for name, one in service_intervals(found).items()} or None,
            "power": None if metrics.energy is None else metrics.energy / metrics.duration,
            "cache": {"tokens": found.cache.tokens, "bytes_per_token": found.cache.bytes_per_token, "page": found.serving.page},
            "serving": asdict(found.serving),
            "rejected_requests": [found.played.requests.name(one) for one in found.played.rejected],
            "surface_error": {name: one._asdict() for name, one in found.surface.items()},
            "speculation": None if found.speculation is None else asdict(found.speculation),
            "notes": list(found.notes),
            "sources": sources_record(found.sources),
        }
    )


def _spread(one: Spread) -> dict[str, float]:
    return one._asdict()
