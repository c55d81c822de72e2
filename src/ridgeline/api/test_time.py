"""Longer chains or more samples: what a solved query costs on a machine, by the quality curve that the user has measured."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np

from ridgeline.api.balance import thresholds
from ridgeline.api.money import Rate, cost_of, priced, rate_of
from ridgeline.api.names import load_model, load_precision
from ridgeline.api.plans import Spread, resolve
from ridgeline.errors import InfeasibleError, InputError
from ridgeline.estimate import estimate
from ridgeline.parallel import estimate_plan
from ridgeline.quantities import Bytes, Count, show
from ridgeline.search.explore import takes_arrays
from ridgeline.search.test_time import (
    Method,
    Point,
    Quality,
    Run,
    Rung,
    Search,
    Spent,
    check_quality,
    crossings,
    ladder,
    spend,
)
from ridgeline.specs.chip import Chip
from ridgeline.specs.model import ConvolutionalModel, Model
from ridgeline.specs.precision import Precision
from ridgeline.specs.system import System

METHODS: tuple[Method, ...] = get_args(Method)
_MOST_POINTS = 100_000


@dataclass(frozen=True, kw_only=True, eq=False)
class ComputeScaling:
    """Points by (queries, samples, chain), and by accuracy what is the cheapest of one sample and of several."""

    model: Model
    chip: Chip
    spread: Spread | None
    precision: Precision
    level: str
    search: Search
    prompt: Count
    critical_batch: float
    points: tuple[Point, ...]
    cost: str  # what the ladder compares: dollars, energy or machine_time
    ladders: Mapping[Count, tuple[Rung, ...]]  # by queries at once
    crossovers: Mapping[Count, tuple[tuple[float, str], ...]]
    doubling: Mapping[tuple[Count, Count], Count | None]  # (queries, chain) → first samples that take twice the time of one
    quality: Quality | None
    rate: Rate | None
    notes: tuple[str, ...]


def scale_compute(
    model: Model | ConvolutionalModel | str,
    machine: Chip | System | str,
    *,
    samples: Sequence[int] | int | None = None,
    chain: Sequence[int] | int | None = None,
    queries: Sequence[int] | int = 1,
    prompt: int = 1024,
    quality: Quality | Path | str | None = None,
    search: Search | None = None,
    cost: str | None = None,
    **options: Any,
) -> ComputeScaling:
    """Return what (samples, chain) of generated tokens take for a query and, by the `quality` curve, for a solved one.

    Every combination of `queries` at once, `samples` and `chain` lengths is a point; what is not given is what the curve has.
    `search` says how samples are made (independent, beam, tree), `cost` what is compared: dollars where a price is known, else
    machine_time; or energy. `options` take count, plan, precision, level (ideal or mapped), terms and prices. Raises `InputError`
    for what cannot be, and `InfeasibleError` where no point fits the memory.

    >>> found = scale_compute("llama-3.1-8b", "h100-sxm", samples=[1, 64], chain=512, prompt=1024)
    >>> one, many = found.points
    >>> many.time < 1.6 * one.time, round(many.fill, 2), one.bound  # 64 chains read the weights of one
    (True, 0.22, 'memory.hbm')
    """
    spec = load_model(model)
    if not isinstance(spec, Model) or not spec.decoder:
        raise InputError(f"{spec.name} generates no tokens: test-time compute is of models that decode")
    asked = _options(options)
    curve = read_quality(quality) if isinstance(quality, Path | str) else quality
    how = search or Search()
    grid = _grid(curve, samples, chain, queries, prompt)
    _check_search(how, grid)
    chip, spread = resolve(machine, asked["count"], asked["plan"])
    formats = load_precision(asked["precision"], spec)
    level = asked["level"] or "ideal"
    spent = _spend(
        _runner(chip, spread, spec, formats, level), how, grid, prompt, whole=spread is None and takes_arrays(chip, level)
    )
    whole = chip if spread is None else replace(spread.system, chip=chip)
    chips = 1 if spread is None else int(spread.plan.chips)
    known = priced(whole) or asked["prices"] is not None
    rate = rate_of(whole, chips, terms=asked["terms"], prices=asked["prices"]) if known else None
    critical = thresholds(spec, chip, precision=formats).critical_batch
    points = _points(whole, spent, grid, curve, critical, rate)
    _require_feasible(points, spec)
    kind = _cost(cost, points)
    ladders = {
        one: ladder([point for point in points if point.queries == one], kind) for one in sorted({p.queries for p in points})
    }
    return ComputeScaling(
        model=spec,
        chip=chip,
        spread=spread,
        precision=formats,
        level=level,
        search=how,
        prompt=prompt,
        critical_batch=critical,
        points=points,
        cost=kind,
        ladders=ladders if curve is not None else {},
        crossovers={one: crossings(rungs) for one, rungs in ladders.items()} if curve is not None else {},
        doubling=_doubling(points),
        quality=curve,
        rate=rate,
        notes=(*(spread.notes if spread else ()), *_notes(how, curve, points)),
    )


# ---- what was asked ---------------------------------------------------------------------------------------------------------


def read_quality(path: Path | str) -> Quality:
    """Return a quality curve: a CSV file with `accuracy`, and `tokens`, `samples` or both; raise `InputError` for what is wrong."""
    place = Path(path)
    try:
        with place.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(line for line in file if not line.lstrip().startswith("#")))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    columns = set(rows[0]) if rows else set()
    if "accuracy" not in columns or not columns & {"tokens", "samples"}:
        has = ", ".join(sorted(one for one in columns if one)) or "nothing"
        raise InputError(f"{path}: has {has}: columns `accuracy`, and `tokens`, `samples` or both, are wanted")

    def column(name: str) -> Any:
        values: list[float] = []
        for index, row in enumerate(rows, start=1):
            try:
                values.append(float(row[name]))
            except (TypeError, ValueError):
                raise InputError(f"{path}: row {index}: {name} {row[name]!r} is no number") from None
        return np.array(values)

    found = Quality(
        samples=column("samples") if "samples" in columns else None,
        tokens=column("tokens") if "tokens" in columns else None,
        accuracy=column("accuracy"),
        name=place.name,
    )
    check_quality(found)
    return found


def _options(options: Mapping[str, Any]) -> dict[str, Any]:
    known: dict[str, Any] = dict.fromkeys(("count", "plan", "precision", "level", "terms", "prices"))
    for name, value in options.items():
        if name not in known:
            raise InputError(f"test-time compute has no option {name!r}: it has {', '.join(known)}")
        known[name] = value
    if known["level"] not in (None, "ideal", "mapped"):
        raise InputError(f"level {known['level']!r}: choose ideal or mapped")
    return known


def _grid(curve: Quality | None, samples: Any, chain: Any, queries: Any, prompt: int) -> tuple[Any, Any, Any]:
    """Return queries, samples and chain of every point; what was not given is what the curve states."""
    if samples is None and chain is None and curve is not None and curve.samples is not None and curve.tokens is not None:
        asked = _counts("queries", queries)
        _counts("prompt", prompt)
        rows = len(curve.accuracy)
        return np.repeat(asked, rows), np.tile(curve.samples, asked.size), np.tile(curve.tokens, asked.size)
    if samples is None:
        samples = [1] if curve is None or curve.samples is None else np.unique(curve.samples)
    if chain is None:
        if curve is None or curve.tokens is None:
            raise InputError("chain: how many tokens a chain has is wanted, as in 2048: no curve states it")
        chain = np.unique(curve.tokens)
    if curve is not None and curve.tokens is None and np.size(chain) != 1:
        raise InputError(f"{curve.name} states no tokens: the one chain length that it was measured with is wanted")
    values = {"queries": queries, "samples": samples, "chain": chain, "prompt": prompt}
    arrays = [_counts(name, value) for name, value in values.items()]
    points = arrays[0].size * arrays[1].size * arrays[2].size
    if points > _MOST_POINTS:
        raise InputError(f"{points:,} points of queries, samples and chains are too many: ask for fewer, at most {_MOST_POINTS:,}")
    first, second, third = np.meshgrid(*arrays[:3], indexing="ij")
    return first.ravel(), second.ravel(), third.ravel()


def _counts(name: str, value: Any) -> Any:
    """Return whole numbers of 1 or more, each once, rising; raise `InputError` for anything else."""
    array = np.unique(np.atleast_1d(np.asarray(value, dtype=np.float64)))
    wrong = array[(array < 1) | (array != np.round(array)) | ~np.isfinite(array)]
    if wrong.size or not array.size:
        raise InputError(f"{name} {f'{wrong[0]:g}' if wrong.size else ''}: a whole number of 1 or more is wanted")
    return array


def _check_search(search: Search, grid: tuple[Any, Any, Any]) -> None:
    if search.method not in METHODS:
        raise InputError(f"method {search.method!r}: choose {', '.join(METHODS)}")
    for name, least in (("branching", 2), ("segment", 1)):
        value = getattr(search, name)
        if value != int(value) or value < least:
            raise InputError(f"{name} {value}: a whole number of {least} or more is wanted")
    if search.method == "independent":
        return
    for one in np.unique(grid[1]):
        if search.method == "beam" and one > 1 and one % search.branching:
            raise InputError(f"samples {one:g}: a beam search whose best go on in {search.branching} ways runs a multiple of that")


# ---- evaluating -------------------------------------------------------------------------------------------------------------


def _runner(chip: Chip, spread: Spread | None, model: Model, precision: Precision, level: str) -> Run:
    if spread is None:
        return lambda scenario: estimate(chip, model, scenario, precision, level=level)
    system = replace(spread.system, chip=chip)
    return lambda scenario: estimate_plan(system, model, scenario, precision, spread.plan, level=level)


def _spend(run: Run, search: Search, grid: tuple[Any, Any, Any], prompt: Count, *, whole: bool) -> Spent:
    """Cost all points as arrays where the level takes them, else one after the other."""
    queries, samples, chain = grid
    if whole:
        return spend(run, search, samples=samples, chain=chain, queries=queries, prompt=float(prompt))
    parts = [
        spend(run, search, samples=float(s), chain=float(c), queries=float(q), prompt=float(prompt))
        for q, s, c in zip(queries, samples, chain, strict=True)
    ]
    joined = {
        name: np.concatenate([getattr(part, name) for part in parts]) for name in ("time", "sequences", "tokens", "shared", "short")
    }
    energies = [part.energy for part in parts if part.energy is not None]
    energy = np.concatenate(energies) if len(energies) == len(parts) else None
    return Spent(**joined, energy=energy, bound=tuple(part.bound[0] for part in parts))


def _points(
    machine: Chip | System,
    spent: Spent,
    grid: tuple[Any, Any, Any],
    curve: Quality | None,
    critical: float,
    rate: Rate | None,
) -> tuple[Point, ...]:
    queries, samples, chain = grid
    paid = None if rate is None else cost_of(machine, time=spent.time, energy=spent.energy, rate=rate).dollars
    found: list[Point] = []
    for index in range(len(queries)):
        asked = float(queries[index])
        found.append(
            Point(
                samples=float(samples[index]),
                chain=float(chain[index]),
                queries=asked,
                sequences=float(spent.sequences[index]),
                fill=float(spent.sequences[index]) / critical,
                time=float(spent.time[index]),
                machine_time=float(spent.time[index]) / asked,
                energy=None if spent.energy is None else float(spent.energy[index]) / asked,
                dollars=None if paid is None else float(paid[index]) / asked,
                tokens=float(spent.tokens[index]) / asked,
                shared=float(spent.shared[index]),
                bound=spent.bound[index],
                feasible=bool(spent.short[index] <= 0),
                short=float(spent.short[index]),
                accuracy=None if curve is None else curve.at(float(samples[index]), float(chain[index])),
            )
        )
    return tuple(found)


def _require_feasible(points: Sequence[Point], model: Model) -> None:
    if any(one.feasible for one in points):
        return
    least: Bytes = min(one.short for one in points)
    near = min(points, key=lambda one: one.short)
    what = f"{near.queries:g} queries of {near.samples:g} samples and {near.chain:g} tokens"
    raise InfeasibleError(f"no point of {model.name} fits: the least, {what}, is {show(least, 'B')} short of memory")


def _cost(cost: str | None, points: Sequence[Point]) -> str:
    known = [name for name in ("dollars", "machine_time", "energy") if getattr(points[0], name) is not None]
    if cost is not None and cost not in known:
        raise InputError(f"cost {cost!r}: choose {', '.join(known)}")
    return cost or known[0]


def _doubling(points: Sequence[Point]) -> dict[tuple[Count, Count], Count | None]:
    """Return the first number of samples that takes twice the time of one, of those asked that fit, by queries and chain."""
    groups: dict[tuple[Count, Count], dict[Count, float]] = {}
    for point in points:
        if point.feasible:
            groups.setdefault((point.queries, point.chain), {})[point.samples] = point.time
    return {
        key: min((count for count, time in times.items() if time >= 2.0 * times[1.0]), default=None)
        for key, times in groups.items()
        if 1.0 in times and len(times) > 1
    }


def _notes(search: Search, curve: Quality | None, points: Sequence[Point]) -> list[str]:
    found = ["all chains run to their full length; judging and choosing among samples is not counted"]
    if curve is None:
        found.append("without a quality curve nothing is said of solved queries")
    elif any(one.accuracy is None for one in points):
        count = sum(one.accuracy is None for one in points)
        found.append(f"{curve.name} states no accuracy for {count} of {len(points)} points, and none is made up")
    if curve is not None and curve.samples is not None and search.method != "independent":
        found.append(f"{curve.name} is taken to be of {search.method} search")
    return found
