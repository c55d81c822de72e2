"""Pictures and figures of the page on serving: `python -m ridgeline.report.serving_study docs/images [NAME …]` writes them."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ridgeline.api import thresholds
from ridgeline.api.serving import Served, serve
from ridgeline.report.panels import Curve, Panel, PanelPicture, write_panels
from ridgeline.report.serving_plots import distribution, over_time_picture
from ridgeline.serving import theory
from ridgeline.serving.arrivals import Fixed, Lengths, Poisson, Uniform, draw_requests
from ridgeline.serving.policy import Serving
from ridgeline.serving.simulator import Cache, simulate
from ridgeline.serving.surface import LinearStepTime

MODEL, CHIP = "llama-3.1-8b", "h100-sxm"
TITLE = "Llama 3.1 8B on H100"
LINK = 50e9  # B/s, a 400 Gbit/s port


class Study(NamedTuple):
    """A picture, and the rows of the table beside it."""

    picture: PanelPicture
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]


def play(**options: Any) -> Served:
    """Serve the page's model on the page's chip."""
    return serve(MODEL, CHIP, **options)


# ---- queues -----------------------------------------------------------------------------------------------------------------


def queues(count: int = 150_000, runs: int = 4) -> Study:
    """Mean wait of one request at a time against the Pollaczek–Khinchine formula; runs with different seeds give the error."""
    loads = (0.2, 0.5, 0.8)
    cases = {
        "M/D/1": (LinearStepTime(base=0.1), Fixed(1), 0.1, 0.0),
        "M/G/1": (LinearStepTime(base=0.01), Uniform(1, 19), 0.1, float(np.sqrt((19**2 - 1) / 12) / 10)),
    }
    rows: list[tuple[Any, ...]] = []
    curves: list[Curve] = []
    for name, (machine, output, service, variation) in cases.items():
        found: list[float] = []
        for load in loads:
            waits = [_mean_wait(machine, output, load / service, count, seed) - service for seed in range(runs)]
            known = theory.mean_wait(rate=load / service, service=service, variation=variation)
            found.append(float(np.mean(waits)))
            error = float(np.std(waits, ddof=1)) / runs**0.5 / known
            longer = _recursion(load / service, output, service) / known - 1.0
            rows.append((name, load, known, found[-1], found[-1] / known - 1.0, error, longer))
        fine = np.linspace(0.05, 0.85, 81)
        line = [theory.mean_wait(rate=one / service, service=service, variation=variation) for one in fine]
        curves += [
            Curve(f"{name}, Pollaczek–Khinchine", fine.tolist(), line),
            Curve(f"{name}, simulated", loads, found, dashed=True, marked=True),
        ]
    panel = Panel("mean wait, s", curves, x_label="load λ·E[S]", y_log=True)
    title = PanelPicture("One request at a time", "service of 0.1 s: always the same, and of 1 … 19 equal parts", [panel])
    columns = ("queue", "load", "theory, s", "simulated, s", "difference", "standard error", "recursion, difference")
    return Study(title, columns, rows)


def _recursion(rate: float, output: Lengths, service: float, count: int = 500_000, runs: int = 40) -> float:
    """Return the mean wait by Lindley's recursion, which the simulator equals request by request, over many more requests."""
    means: list[float] = []
    for seed in range(1000, 1000 + runs):
        random = np.random.default_rng(seed)
        arrival, drawn = Poisson(rate=rate).times(count, random), output.draw(count, random)
        means.append(float(theory.waits(arrival, service * drawn / np.mean((drawn.min(), drawn.max()))).mean()))
    return float(np.mean(means))


def _mean_wait(machine: LinearStepTime, output: Lengths, rate: float, count: int, seed: int) -> float:
    """Return the mean time from arrival to last token, with one request at a time."""
    random = np.random.default_rng(seed)
    asked = draw_requests(count, Poisson(rate=rate), Fixed(1), output, random)
    alone = Serving(policy="continuous", most_sequences=1)
    played = simulate(asked, machine, alone, Cache(tokens=1e6), random=random)
    return float((played.finish - asked.arrival).mean())


# ---- batch ------------------------------------------------------------------------------------------------------------------


def batches(sizes: Sequence[int] = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)) -> Study:
    """Throughput and time per token against the number of sequences, all requests there at the start."""
    critical = float(thresholds(MODEL, CHIP).critical_batch)
    rows: list[tuple[Any, ...]] = []
    for size in sizes:
        options = {"arrivals": "bursts", "burst": 4 * size, "rate": 1e9, "prompt": 32, "output": 256}
        found = play(requests=4 * size, most_sequences=size, token_budget=8192, **options).metrics
        rows.append((size, found.tokens_per_second, found.tpot.p50, found.energy_per_token))
    x = [row[0] for row in rows]
    marks = Curve(f"critical batch {critical:.0f}", [critical, critical], [min(row[1] for row in rows), rows[-1][1]], dashed=True)
    panels = [
        Panel("output tokens/s", [Curve("tokens/s", x, [row[1] for row in rows], marked=True), marks], x_log=True, y_log=True),
        Panel("TPOT p50, s", [Curve("TPOT", x, [row[2] for row in rows], marked=True)], x_log=True, y_log=True),
        Panel(
            "J per output token",
            [Curve("energy", x, [row[3] for row in rows], marked=True)],
            x_label="sequences at once",
            x_log=True,
            y_log=True,
        ),
    ]
    picture = PanelPicture(f"{TITLE}: a larger batch", "prompts of 32, outputs of 256, all there at the start", panels)
    return Study(picture, ("sequences", "tokens/s", "TPOT p50", "J/token"), rows)


# ---- policies ---------------------------------------------------------------------------------------------------------------

_LONG: dict[str, Any] = {"rate": 6.0, "prompt": "lognormal:4000,1", "output": "100:400", "seed": 1}
_POLICIES: dict[str, dict[str, Any]] = {
    "prefill-first": {"policy": "prefill-first", "token_budget": 8192, "replicas": 2},
    "continuous": {"policy": "continuous", "token_budget": 8192, "replicas": 2},
    "chunked, 2048": {"policy": "chunked", "token_budget": 2048, "replicas": 2},
    "chunked, 512": {"policy": "chunked", "token_budget": 512, "replicas": 2},
    "disaggregated": {"policy": "disaggregated", "token_budget": 8192, "link_bandwidth": LINK, "link_latency": 1e-5},
}


def policies(count: int = 3000) -> Study:
    """Long prompts on two chips under each policy: distributions of TPOT and of TTFT."""
    rows: list[tuple[Any, ...]] = []
    tpots: list[Curve] = []
    ttfts: list[Curve] = []
    for name, options in _POLICIES.items():
        found = play(requests=count, **_LONG, **options)
        played, metrics = found.played, found.metrics
        tpot = (played.finish - played.first) / np.maximum(played.requests.output - 1, 1)
        tpots.append(Curve(name, *distribution(tpot)))
        ttfts.append(Curve(name, *distribution(played.first - played.requests.arrival)))
        rows.append((name, metrics.ttft.p50, metrics.ttft.p99, metrics.tpot.p50, metrics.tpot.p99, metrics.token_gap.p99))
    panels = [
        Panel("share of requests", tpots, x_label="TPOT, s", x_log=True),
        Panel("share of requests", ttfts, x_label="TTFT, s", x_log=True),
    ]
    said = "two chips, 6 requests/s, prompts of 4000 on average (coefficient of variation 1), outputs of 100 to 400"
    picture = PanelPicture(f"{TITLE}: long prompts beside running requests", said, panels, columns=2)
    return Study(picture, ("policy", "TTFT p50", "TTFT p99", "TPOT p50", "TPOT p99", "token gap p99"), rows)


def rates(values: Sequence[float] = (2, 4, 6, 8, 10, 12, 14, 16), count: int = 1000) -> Study:
    """Goodput under a target against the rate, by policy, on two chips."""
    rows: list[tuple[Any, ...]] = []
    goodputs: list[Curve] = []
    ttfts: list[Curve] = []
    for name, options in _POLICIES.items():
        runs = [play(requests=count, **(_LONG | {"rate": float(rate)}), ttft=0.5, tpot=0.012, **options).metrics for rate in values]
        share = [one.goodput / one.throughput for one in runs]
        goodputs.append(Curve(name, list(values), share, marked=True))
        ttfts.append(Curve(name, list(values), [one.ttft.p99 for one in runs], marked=True))
        rows.append((name, *share))
    panels = [
        Panel("share within the target", goodputs, x_label="requests/s"),
        Panel("TTFT p99, s", ttfts, x_label="requests/s", y_log=True),
    ]
    said = "target: TTFT ≤ 0.5 s and TPOT ≤ 12 ms; two chips, requests as before"
    return Study(PanelPicture(f"{TITLE}: goodput", said, panels, columns=2), ("policy", *(f"{one:g}/s" for one in values)), rows)


# ---- speculation, bursts ----------------------------------------------------------------------------------------------------


def speculation(acceptances: Sequence[float] = (0.5, 0.7, 0.9)) -> Study:
    """Speed-up against the batch, with a draft model of 1.2 billion parameters."""
    rows: list[tuple[Any, ...]] = []
    curves: list[Curve] = []
    for acceptance in acceptances:
        found = play(
            rate=10.0,
            requests=1,
            prompt=1000,
            output=200,
            draft="llama-3.2-1b",
            length=4,
            acceptance=acceptance,
            most_sequences=512,
        ).speculation
        if found is not None:
            curves.append(Curve(f"α = {acceptance}", list(found.batches), list(found.speedups)))
            rows.append((acceptance, found.speedups[0], found.loses_at))
    curves.append(Curve("without", [1, 512], [1.0, 1.0], dashed=True))
    panel = Panel("speed-up", curves, x_label="sequences that decode", x_log=True)
    picture = PanelPicture(f"{TITLE}: speculative decoding", "Llama 3.2 1B drafts 4 tokens; contexts of 1100", [panel])
    return Study(picture, ("α", "speed-up at 1", "loses from"), rows)


def bursts() -> Study:
    """A run over time, with requests that come in groups and a cache too small for them."""
    found = play(
        arrivals="bursts", burst=150, rate=18.0, requests=3000, prompt="lognormal:500,0.8", output="400:1200", most_sequences=1024
    )
    metrics = found.metrics
    row = (metrics.ttft.p50, metrics.ttft.p99, metrics.tpot.p99, metrics.preemptions, metrics.cache_utilisation)
    return Study(over_time_picture(found), ("TTFT p50", "TTFT p99", "TPOT p99", "preemptions", "pages held"), [row])


STUDIES: dict[str, Callable[[], Study]] = {
    "queues": queues,
    "batches": batches,
    "policies": policies,
    "rates": rates,
    "speculation": speculation,
    "bursts": bursts,
}


def main(folder: Path, names: Sequence[str]) -> None:
    """Write the pictures and print the tables, as the page has them."""
    for name in names or STUDIES:
        found = STUDIES[name]()
        write_panels(found.picture, folder / f"serving-{name}.svg")
        print(f"\n{name}\n\n| {' | '.join(found.columns)} |\n|{'---|' * len(found.columns)}")
        for row in found.rows:
            print(f"| {' | '.join(f'{one:.4g}' if isinstance(one, float) else str(one) for one in row)} |", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."), sys.argv[2:])
