"""Services under one plan: batches × chunks × drafted tokens in steady state, or two pools that hand caches over, as arrays."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np

from ridgeline.errors import InputError
from ridgeline.mapping.capacity import cache_bytes
from ridgeline.mapping.collectives import collective_cost
from ridgeline.quantities import Count, Fraction, PerSecond, Seconds, Watts, show
from ridgeline.search.explore import Tariff
from ridgeline.search.pareto import Sense, pareto
from ridgeline.search.plan_steps import DecodeGrid, Prompts, Setting, Steps, decode_grid, mixed_times, prompt_pieces
from ridgeline.serving.speculation import tokens_per_step
from ridgeline.specs.model import Model
from ridgeline.specs.plan import Plan
from ridgeline.specs.scenario import Scenario
from ridgeline.specs.system import System

Aim = Literal["throughput", "tpot", "ttft", "power", "price"]
Mode = Literal["aggregated", "disaggregated"]
MODES: tuple[Mode, ...] = get_args(Mode)
Columns = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Service:
    """What is asked of the chips: the requests, the targets, and what may be tried.

    `batch` 0 tries all powers of two; `chunks` are tokens of a prompt that one step takes, 0 the whole prompt in a step of its own.
    """

    prompt: int
    output: int
    batch: int = 0
    most_batch: int = 4096
    ttft: Seconds = math.inf
    tpot: Seconds = math.inf
    throughput: PerSecond = 0.0  # output tokens a second of all chips, at least
    power: Watts = math.inf  # of all chips
    price: float = math.inf  # dollars a million output tokens
    aim: Aim = "throughput"
    modes: tuple[Mode, ...] = MODES
    chunks: tuple[int, ...] = (0, 512, 2048)
    drafts: tuple[int, ...] = ()  # drafted tokens a step that are tried beside none
    acceptance: Fraction | None = None
    draft_share: Fraction = 0.0  # of a step without speculation that drafting a token takes
    overlap: Fraction = 0.0  # share of the communication that runs beside work, in every plan
    tariff: Tariff | None = None

    @property
    def all_drafts(self) -> tuple[int, ...]:
        """Numbers of drafted tokens that are tried, none first."""
        return (0, *(one for one in dict.fromkeys(self.drafts) if one > 0))

    @property
    def some_chunks(self) -> tuple[int, ...]:
        """Chunks smaller than the prompt."""
        return tuple(one for one in dict.fromkeys(self.chunks) if 0 < one < self.prompt)

    def gain(self, draft: Any) -> Any:
        """Tokens that a sequence gains in a step [leviathan2023speculative]."""
        if self.acceptance is None:
            return np.ones_like(np.asarray(draft, dtype=np.float64))
        return tokens_per_step(acceptance=self.acceptance, length=np.asarray(draft, dtype=np.float64))


SENSES: Mapping[str, Sense] = {"ttft": "min", "tpot": "min", "throughput": "max", "power": "min", "price": "min"}


def replicas(plan: Plan) -> int:
    """Return the sequences that a plan needs at least, one for each group of ranks that works on sequences of its own."""
    return int(plan.data * (plan.tensor if plan.attention_data_parallel else 1))


def batches(service: Service, unit: int) -> Any:
    """Return the batches to try: what a plan cuts them into, times 1, 2, 3, 4, 6, 8, 12 and so on.

    >>> batches(Service(prompt=1, output=1, most_batch=50), 4).tolist()
    [4.0, 8.0, 12.0, 16.0, 24.0, 32.0, 48.0]
    """
    if service.batch:
        return np.array([float(service.batch)]) if service.batch % unit == 0 else np.zeros(0)
    powers = 2.0 ** np.arange(max(service.most_batch // unit, 1).bit_length())
    found = unit * np.sort(np.concatenate([powers, 1.5 * powers[1:]]))
    return found[found <= service.most_batch]


@dataclass(frozen=True, kw_only=True, eq=False)
class Worker:
    """A plan's steps: decode over batches × drafts, and a prompt in each group of ranks."""

    plan: Plan
    groups: int
    grid: DecodeGrid
    prompts: Prompts

    def without_parts(self) -> "Worker":
        """Return what two pools ask of it: no single operations, no chunks."""
        whole = Prompts(pieces={0: replace(self.prompts.whole, parts={})})
        return replace(self, grid=replace(self.grid, steps=replace(self.grid.steps, parts={}), mixed={}), prompts=whole)

    @property
    def idle(self) -> Watts:
        """Power that its chips draw whatever they do."""
        return self.grid.steps.idle


def worker(setting: Setting, plan: Plan, service: Service, known: dict[str, Prompts]) -> Worker:
    """Cost a plan's steps; raise `InputError` for a plan that does not divide or never fits, with the reason.

    `known` keeps prompts from plan to plan: they do not depend on the micro-batches of decode.
    """
    groups = replicas(plan)
    unit = groups * int(plan.micro_batches)
    tried = batches(service, unit)
    if not len(tried):
        raise InputError(f"a batch of {service.batch or service.most_batch} is no multiple of {unit}")
    # What hides communication in a step of both kinds is not known from steps of one kind: with overlap prompts stay whole.
    mixes = plan.micro_batches == 1 and plan.overlap == 0.0 and "aggregated" in service.modes
    chunks = tuple(one for one in service.some_chunks if mixes and one % int(plan.context) == 0)
    tokens = {one: float(one * groups) for one in chunks}
    grid = decode_grid(setting, plan, tried, service.all_drafts, float(service.prompt + service.output), tokens)
    if not (grid.steps.short <= 0).any():
        raise InputError(_too_large(float(np.min(grid.steps.short)), "decode", float(tried[0])))
    alone = replace(plan, micro_batches=1)
    name = f"{setting.precision.name} {alone.text}"
    if name not in known or known[name].pieces.keys() < {0, *chunks}:
        known[name] = prompt_pieces(setting, alone, groups, float(service.prompt), chunks)
    prompts = known[name]
    if not prompts.whole.short[0] <= 0 and not chunks:
        raise InputError(_too_large(float(prompts.whole.short[0]), "prefill", groups))
    return Worker(plan=plan, groups=groups, grid=grid, prompts=prompts)


def _too_large(short: float, phase: str, batch: Count) -> str:
    return f"{show(short, 'B')} short of memory in {phase} at a batch of {batch:g}"


# ---- one pool ---------------------------------------------------------------------------------------------------------------


def drafted(service: Service, grid: DecodeGrid) -> tuple[Any, Any, Any, Any]:
    """Return batches, drafts, tokens gained a step and the time of a step with its drafting, flat.

    t = t(γ + 1 tokens) + γ · share · t(1 token)
    """
    batch, draft = (one.ravel() for one in np.meshgrid(grid.batches, np.array(grid.drafts, dtype=np.float64), indexing="ij"))
    plain = np.repeat(grid.grid(grid.steps.time)[:, 0], len(grid.drafts))
    return batch, draft, service.gain(draft), grid.steps.time + draft * service.draft_share * plain


def aggregated(found: Worker, service: Service, chips: int) -> Columns:
    """Return all services of chips that compute prompts and decode: batches × drafts × chunks, flat.

    In steady state b sequences of each group of ranks decode, each is done after o / g steps of g tokens, and a new prompt of p
    tokens takes its place, in c pieces:

        f    = b · g / o · c   pieces a step;   mean step = (1 − f) · t_decode + f · t_mixed
        TPOT = mean step / g;  throughput = batch · g / mean step;   TTFT = Σ pieces t_mixed

    A whole prompt is a step of its own, for which decoding waits: mean step = t_decode + f · t_prompt, TTFT = t_prompt. With f
    above 1 the chunks do not keep up with so many sequences. Waiting is not counted: `serve` plays requests.
    """
    batch, _, gain, step = drafted(service, found.grid)
    decode, whole = found.grid.steps, found.prompts.whole
    ends = batch / found.groups * gain / service.output  # prompts that a step makes room for, in each group
    idle = _idle(found, chips)
    parts: list[Columns] = []
    if 0 in service.chunks or not found.grid.mixed:
        mean = step + ends * whole.time[0]
        busy = ends * whole.time[0] / mean
        fits = (decode.short <= 0) & (whole.short[0] <= 0) & (decode.beside(whole, slice(None)) <= decode.available)
        drawn = _drawn(service, found, ends, whole, mean)
        parts.append(
            _columns(found, 0.0 * batch, mean, gain, whole.time[0] + 0.0 * mean, busy)
            | {"fits": fits, "memory": decode.beside(whole, slice(None)), "power": _power(idle, drawn, mean)}
        )
    for chunk in found.grid.mixed:
        piece = found.prompts.pieces[chunk]
        mixed = mixed_times(found.grid, found.prompts, chunk) + (step - decode.time)[:, None]
        share = ends * len(piece.time)
        mean = (1.0 - share) * step + share * mixed.mean(axis=1)
        fits = (share <= 1.0) & (decode.short <= 0) & (piece.short <= 0).all()
        fits = fits & (decode.beside(piece, slice(None)) <= decode.available)
        busy = share * (mixed.mean(axis=1) - step) / mean
        drawn = _drawn(service, found, ends, piece, mean)
        parts.append(
            _columns(found, chunk + 0.0 * batch, mean, gain, mixed.sum(axis=1), busy)
            | {"fits": fits, "memory": decode.beside(piece, slice(None)), "power": _power(idle, drawn, mean)}
        )
    return _priced({name: np.concatenate([one[name] for one in parts]) for name in parts[0]}, service)


def _columns(found: Worker, chunk: Any, mean: Any, gain: Any, ttft: Any, busy: Any) -> dict[str, Any]:
    grid, decode = found.grid, found.grid.steps
    batch, draft = (one.ravel() for one in np.meshgrid(grid.batches, np.array(grid.drafts, dtype=np.float64), indexing="ij"))
    factors = decode.factors or (np.full_like(mean, np.nan), np.full_like(mean, np.nan), 0.0)
    prefill = np.broadcast_to(found.prompts.whole.bound[0], mean.shape)
    return {
        "batch": batch,
        "draft": draft,
        "chunk": chunk,
        "ttft": ttft,
        "tpot": mean / gain,
        "throughput": batch * gain / mean,
        "decode_bound": decode.bound,
        "prefill_bound": prefill,
        "binding": np.where(busy > 0.5, prefill, decode.bound),
        "available": decode.available,
        "lower": factors[0],
        "upper": factors[1],
    }


def _idle(found: Worker, chips: int) -> Watts:
    return found.idle * chips / int(found.plan.chips)


def _drawn(service: Service, found: Worker, ends: Any, prompt: Steps, mean: Any) -> Any:
    """Return the power of a mean step beside what chips draw idle; None where it is not known."""
    if found.grid.steps.dynamic is None or prompt.dynamic is None:
        return None
    return (_drafting(service, found.grid.steps, found.grid) + ends * np.sum(prompt.dynamic)) / mean


def _drafting(service: Service, decode: Steps, grid: DecodeGrid) -> Any:
    """Return the energy of a step with its drafting, which is charged as its time is."""
    draft = np.tile(np.array(grid.drafts, dtype=np.float64), len(grid.batches))
    plain = np.repeat(grid.grid(decode.dynamic)[:, 0], len(grid.drafts))
    return decode.dynamic + draft * service.draft_share * plain


def _power(idle: Watts, drawn: Any, like: Any) -> Any:
    return np.full_like(like, np.nan) if drawn is None else idle + drawn


def _priced(columns: Columns, service: Service) -> Columns:
    """Add dollars a million output tokens."""
    tariff, power = service.tariff, columns["power"]
    if tariff is None:
        return {**columns, "price": np.full_like(power, np.nan)}
    a_second = tariff.fixed + tariff.energy * np.nan_to_num(power, nan=tariff.limit)
    return {**columns, "price": 1e6 * a_second / columns["throughput"]}


# ---- two pools --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False)
class Pools:
    """What workers of each size can do, in one precision: prompts, and decode points; only what nothing is better than."""

    prompts: Mapping[int, Sequence[Worker]]
    decode: Mapping[int, tuple[Sequence[Worker], Columns]]  # columns of points; `worker` says whose


def pools(workers: Mapping[int, Sequence[Worker]], service: Service) -> Pools:
    """Keep of every size the workers that no other beats at prompts, and the points that no other beats at decoding."""
    prompts: dict[int, Sequence[Worker]] = {}
    decode: dict[int, tuple[Sequence[Worker], Columns]] = {}
    for size, ones in workers.items():
        able = [one for one in ones if one.prompts.whole.short[0] <= 0]
        if able:
            times = np.array([one.prompts.whole.time[0] for one in able])
            kept = pareto([times, np.array([one.groups for one in able]) / times], ["min", "max"])
            prompts[size] = [one for one, stays in zip(able, kept, strict=True) if stays]
        points = [_decoding(one, index, service) for index, one in enumerate(ones)]
        if points:
            whole = {name: np.concatenate([one[name] for one in points]) for name in points[0]}
            kept = pareto([whole["tpot"], whole["rate"]], ["min", "max"], whole["fits"] & (whole["tpot"] <= service.tpot))
            decode[size] = (ones, {name: column[kept] for name, column in whole.items()})
    return Pools(prompts=prompts, decode=decode)


def _decoding(found: Worker, index: int, service: Service) -> Columns:
    batch, draft, gain, step = drafted(service, found.grid)
    decode = found.grid.steps
    factors = decode.factors or (np.full_like(step, np.nan), np.full_like(step, np.nan), 0.0)
    return {
        "worker": np.full(len(step), index),
        "batch": batch,
        "draft": draft,
        "tpot": step / gain,
        "rate": batch * gain / step,
        "fits": decode.short <= 0,
        "drawn": np.full_like(step, np.nan) if decode.dynamic is None else _drafting(service, decode, found.grid) / step,
        "decode_bound": decode.bound,
        "memory": decode.needed,
        "available": decode.available,
        "idle": np.full_like(step, found.idle),
        "lower": factors[0],
        "upper": factors[1],
    }


def transfer_time(system: System, model: Model, setting: Setting, service: Service, chips: int, lanes: int) -> tuple[Seconds, str]:
    """Return how long a prompt's cache takes from one pool to the other, over so many chips' links at once, and on which tier.

    The pools lie on the outermost tier that so many chips span.
    """
    kv = cache_bytes(model, Scenario(phase="prefill", batch=1.0, prompt=float(service.prompt)), setting.precision)
    inside = 1
    for tier in system.tier:
        if inside * int(tier.size) >= chips or tier is system.tier[-1]:
            return float(collective_cost(system.tier, "send", float(kv) / lanes, 2, stride=inside).time), tier.name
        inside *= int(tier.size)
    raise InputError(f"{system.name} has no network between pools of chips")


def ratios(chips: int, prompt_sizes: Sequence[int], decode_sizes: Sequence[int]) -> Iterator[tuple[int, int, int, int]]:
    """Yield chips of a prompt worker, how many of them, chips of a decode worker, how many: all ways to use all chips.

    >>> list(ratios(4, [1, 2], [2]))
    [(1, 2, 2, 1), (2, 1, 2, 1)]
    """
    for prompt_size in prompt_sizes:
        for decode_size in decode_sizes:
            for count in range(1, (chips - 1) // decode_size + 1):
                left = chips - count * decode_size
                if left > 0 and left % prompt_size == 0:
                    yield prompt_size, left // prompt_size, decode_size, count


def disaggregated(
    setting: Setting, model: Model, found: Pools, service: Service, chips: int
) -> Iterator[tuple[tuple[int, int, int, int], Worker, Sequence[Worker], Columns]]:
    """Yield, for every split of the chips and every prompt worker, the services of all decode points.

        throughput = min(prompt workers' o · groups / t_prompt, decode workers' rate, the links' o / t_transfer)
        TTFT = t_prompt;   TPOT = step / g + t_transfer / o

    The cache of a prompt crosses the network before the second token [zhong2024distserve]; each prompt worker sends one at a time,
    over as many chips' links as the smaller worker has.
    """
    moves: dict[int, tuple[Seconds, str]] = {}
    for split in ratios(chips, list(found.prompts), list(found.decode)):
        size, count, decode_size, decoders = split
        ones, points = found.decode[decode_size]
        lanes = min(size, decode_size)
        if not len(points["batch"]):
            continue
        if lanes not in moves:
            moves[lanes] = transfer_time(setting.system, model, setting, service, chips, lanes)
        moved, tier = moves[lanes]
        for prompter in found.prompts[size]:
            yield split, prompter, ones, _two_pools((count, decoders), prompter, points, service, moved, tier)


def _two_pools(counts: tuple[int, int], prompter: Worker, points: Columns, service: Service, moved: Seconds, tier: str) -> Columns:
    whole, output = prompter.prompts.whole, service.output
    prompts = counts[0] * prompter.groups / whole.time[0] * output
    decoding, links = counts[1] * points["rate"], counts[0] / moved * output
    rate = np.minimum(np.minimum(prompts, links), decoding)
    like = np.full_like(rate, np.nan)
    drawn = like
    if whole.dynamic is not None:  # each pool draws while it works, and idles beside the slower one
        drawn = counts[0] * (prompter.idle + rate / prompts * whole.dynamic[0] / whole.time[0])
        drawn = drawn + counts[1] * (points["idle"] + rate / decoding * points["drawn"])
    prefill = np.broadcast_to(whole.bound[0], rate.shape)
    where_ = np.where(
        decoding <= np.minimum(prompts, links), points["decode_bound"], np.where(links < prompts, f"network.{tier}", prefill)
    )
    columns = {
        **{name: points[name] for name in ("worker", "draft", "decode_bound", "memory", "available", "lower", "upper", "fits")},
        "batch": points["batch"] * counts[1],
        "chunk": 0.0 * rate,
        "ttft": whole.time[0] + 0.0 * rate,
        "tpot": points["tpot"] + moved / output,
        "throughput": rate,
        "power": drawn,
        "prefill_bound": prefill,
        "binding": where_,
        "transfer": np.full_like(rate, moved),
    }
    return _priced(columns, service)


# ---- targets ----------------------------------------------------------------------------------------------------------------


def meets(columns: Columns, service: Service) -> Any:
    """Say which services fit the memory and keep all targets; what is not known keeps none."""
    found = columns["fits"] & (columns["ttft"] <= service.ttft) & (columns["tpot"] <= service.tpot)
    if service.throughput > 0.0:
        found = found & (columns["throughput"] >= service.throughput)
    for name in ("power", "price"):
        if math.isfinite(getattr(service, name)):
            found = found & (columns[name] <= getattr(service, name))
    return found


def miss(columns: Columns, service: Service) -> Any:
    """Return the largest factor by which a service misses a target; up to 1 none is missed."""
    found = np.maximum(columns["ttft"] / service.ttft, columns["tpot"] / service.tpot)
    found = np.maximum(found, service.throughput / columns["throughput"])
    for name in ("power", "price"):
        if math.isfinite(getattr(service, name)):
            found = np.maximum(found, np.nan_to_num(columns[name] / getattr(service, name), nan=np.inf))
    return found


def score(columns: Columns, service: Service) -> Any:
    """Return what the aim wants least of; of equal values the larger throughput is the better."""
    value = columns[service.aim]
    sign = -1.0 if SENSES[service.aim] == "max" else 1.0
    return np.lexsort((-columns["throughput"], sign * np.nan_to_num(value, nan=np.inf)))


def best_of(columns: Columns, service: Service) -> int:
    """Return the best point that meets the targets; where none does, the nearest miss of those that fit."""
    able = meets(columns, service)
    if able.any():
        order = score(columns, service)
        return int(order[np.argmax(able[order])])
    return int(np.argmin(np.where(columns["fits"], miss(columns, service), np.inf)))
