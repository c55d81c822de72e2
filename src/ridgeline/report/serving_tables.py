"""A served run as tables that fit one screen."""

import math

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ridgeline.api.service_interval import service_intervals
from ridgeline.api.serving import Served
from ridgeline.quantities import show
from ridgeline.results import Interval
from ridgeline.serving.metrics import Spread


def serving_tables(found: Served) -> RenderableType:
    """Return the answer of `serve`: latencies, then throughput, load and energy, then what was assumed."""
    metrics = found.metrics
    latencies = Table(box=None, pad_edge=False, header_style="bold")
    latencies.add_column("latency")
    for name in ("p50", "p90", "p99", "mean"):
        latencies.add_column(name, justify="right")
    latencies.add_column("80 % of measurements within")
    latencies.add_column("")
    intervals = service_intervals(found)
    for name, spread, what in (
        ("TTFT", metrics.ttft, "arrival to first token"),
        ("TPOT", metrics.tpot, "mean time between a request's tokens"),
        ("token gap", metrics.token_gap, "time between two tokens, over all tokens"),
        ("end to end", metrics.e2e, "arrival to last token"),
    ):
        latencies.add_row(name, *_row(spread), _factors(intervals.get(name.lower())), what)
    answer = Table(box=None, show_header=False, pad_edge=False)
    answer.add_column(style="bold")
    answer.add_column()
    for row in _answers(found):
        answer.add_row(*row)
    notes = [Text(f"note: {note}", style="yellow") for note in found.notes]
    return Group(Text(_headline(found), style="bold"), latencies, answer, *notes, Text(_footer(found), style="dim"))


def _factors(one: Interval | None) -> str:
    return "" if one is None else f"{float(one.lower):.2f} to {float(one.upper):.2f} times"


def _row(spread: Spread) -> list[str]:
    return ["–" if math.isnan(one) else show(one, "s") for one in spread]


def _headline(found: Served) -> str:
    serving = found.serving
    machines = f"{serving.replicas} × " if serving.replicas > 1 else ""
    if serving.policy == "disaggregated":
        machines = f"{serving.prefill_replicas} prefill + {serving.replicas} decode × "
    title, chip = found.model.title or found.model.name, found.chip.title or found.chip.name
    return f"{title} on {machines}{chip}, {found.precision.name}: {found.metrics.requests:,} requests, {serving.policy}"


def _answers(found: Served) -> list[tuple[str, str]]:
    metrics, target = found.metrics, found.target
    wanted = [f"{name} ≤ {show(value, 's')}" for name, value in (("TTFT", target.ttft), ("TPOT", target.tpot)) if value is not None]
    share = metrics.goodput / metrics.throughput if metrics.throughput > 0 else 0.0
    rows = [
        (
            "throughput",
            f"{metrics.throughput:.4g} requests/s, {metrics.tokens_per_second:,.5g} output tokens/s, "
            f"{metrics.prompt_tokens_per_second:,.5g} prompt tokens/s over {show(metrics.duration, 's')}",
        ),
        ("goodput", f"{metrics.goodput:.4g} requests/s ({share:.1%}) with {', '.join(wanted) or 'no target set'}"),
        (
            "load",
            f"busy {metrics.utilisation:.1%} of the time, {metrics.mean_batch:.1f} sequences decode at once, "
            f"{metrics.mean_running:.1f} run, {metrics.mean_waiting:.1f} wait",
        ),
        (
            "KV cache",
            f"{found.cache.tokens:,.0f} tokens a replica in pages of {found.serving.page}, "
            f"{metrics.cache_utilisation:.1%} held at most, {metrics.preemptions:,} preempted, {metrics.rejected:,} rejected",
        ),
    ]
    if metrics.energy is not None and metrics.energy_per_token is not None:
        mean = show(metrics.energy / metrics.duration, "W")
        each = show(metrics.energy_per_token, "J")
        rows.append(("energy", f"{show(metrics.energy, 'J')}, {each} per output token, {mean} on average"))
    if found.speculation is not None and found.drafting is not None:
        gain = found.speculation
        loses = f"slower from {gain.loses_at} sequences on" if gain.loses_at else f"faster up to {gain.batches[-1]} sequences"
        said = f"{found.drafting.length} tokens drafted, {found.drafting.acceptance:g} of them kept each"
        rows.append(("speculation", f"{said}: {gain.speedups[0]:.2f} × at one sequence, {loses}"))
    return rows


_LEVELS = {
    "ideal": "every step at compulsory traffic and peak rates; no machine is faster",
    "mapped": "every step as the kernels and the host of the chip's software stack",
}


def _footer(found: Served) -> str:
    errors = ", ".join(f"{name} {one.mean:.2%} (largest {one.largest:.2%})" for name, one in found.surface.items())
    keys = sorted({one.key for one in found.sources.values() if one.key})
    return (
        f"level {found.level}: {_LEVELS.get(found.level, 'steps as the estimator has them')}\n"
        f"interpolation error against the estimate: {errors}\n"
        f"{len(found.sources)} catalogue numbers; sources: {', '.join(keys) or 'none'}"
    )
