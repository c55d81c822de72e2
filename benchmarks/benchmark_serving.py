"""Speed of serving: 100 000 requests at about 250 running at once, on one core, and the making of the surface.

bin/benchmark -k serving
"""

from typing import Any

import numpy as np
import pytest

from ridgeline.api import load_chip, load_model, load_precision
from ridgeline.estimate import estimate
from ridgeline.serving.arrivals import LogNormal, Poisson, Requests, draw_requests
from ridgeline.serving.metrics import measure
from ridgeline.serving.policy import Serving
from ridgeline.serving.simulator import Cache, Played, simulate
from ridgeline.serving.surface import Extent, Surface

RATES = {"chunked": 130.5, "continuous": 131.0, "prefill-first": 118.0}  # requests/s for about 250


def surface() -> Surface:
    chip, model = load_chip("h100-sxm"), load_model("llama-3.1-8b")
    precision = load_precision(None, model)
    extent = Extent(sequences=512, context=16_384, chunk=16_384, tokens=20_000)
    return Surface(lambda scenario: estimate(chip, model, scenario, precision), extent)


def many(rate: float) -> Requests:
    return draw_requests(100_000, Poisson(rate=rate), LogNormal(256, 1.0), LogNormal(128, 0.8), np.random.default_rng(1))


def test_surface(benchmark: Any) -> None:
    """What every run of `serve` pays once."""
    assert benchmark(surface).has_energy


@pytest.mark.parametrize("policy", RATES)
def test_serving_of_100_000_requests(benchmark: Any, policy: Any) -> None:
    """Three seconds or less on one core."""
    asked, machine = many(RATES[policy]), surface()
    serving = Serving(policy=policy, most_sequences=512)
    cache = Cache(tokens=450_000, bytes_per_token=131_072)

    def run() -> Played:
        return simulate(asked, machine, serving, cache, random=np.random.default_rng(2))

    played = benchmark.pedantic(run, rounds=3)
    found = measure(played)
    assert found.finished == 100_000
    benchmark.extra_info["mean_running"] = round(found.mean_running, 1)
    benchmark.extra_info["events"] = len(played.log)
