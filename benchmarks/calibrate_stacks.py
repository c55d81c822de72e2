"""Fit what stacks add to the steps of whole models, judge it on chips or models left out, print the table of `docs/stacks.md`.

    RIDGELINE_FACTS=… python benchmarks/calibrate_stacks.py [--only STACK]

Times are nearly linear in these constants: each round predicts the rows once more for every constant, and a robust least-squares
step in the logarithm of time follows. Rows left out are predicted by the straight line through the last round. Where rows are of
several chips a chip is left out, else a model. Nothing is written: constants go into `catalogue/stacks/*.toml` by hand, with what
fixed them.
"""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ridgeline.validation import compare, models, schema
from ridgeline.validation.calibrate import robust
from ridgeline.validation.group import Group
from ridgeline.validation.predict import Constants, grouped
from ridgeline.validation.schema import RATES, Row

ROUNDS, SCALE, PRIOR = 3, 0.1, 3.0
APART = ("max-1550",)  # chips whose software, not hardware, sets the time
FITTED: dict[str, tuple[str, ...]] = {
    "tensorrt-llm": ("host_step", "exchange_wait"),
    "vllm": ("host_step", "host_sequence"),
    "deepspeed-mii": ("host_request", "host_step", "host_sequence", "exchange_wait"),
    "fastertransformer": ("host_layer", "link_share"),
    "llama-cpp": ("few_rows_bytes", "few_keys_bytes", "few_rows_share", "host_layer"),
    "llama-cpp-metal": ("few_keys_bytes", "few_rows_lanes", "few_rows_share", "host_layer"),
    "llama-cpp-python": ("host_layer",),
}


class Known(NamedTuple):
    """Rows of a stack: measured times, and what they are left out by."""

    groups: Sequence[Group]
    measured: Any
    chips: list[str]
    models: list[str]
    weights: Any  # rows of a chip and model count by the square root of their number


def rows_of(folder: Path) -> list[Row]:
    """Return the rows of whole models that are scored."""
    suspects = compare.read_suspects(folder)
    found = [row for path in sorted(folder.glob("*.csv")) for row in schema.read(path).rows if models.is_model(row)]
    return [row for row in found if (row.dataset, row.id) not in suspects and row.chip not in APART]


def known(groups: Sequence[Group]) -> Known:
    """Return what a fit needs of groups of rows."""
    rows = [row for group in groups for row in group.rows]
    seconds = [float(models.tokens(row)) / row.measured if row.unit in RATES else row.measured for row in rows]
    chips, named = [row.chip for row in rows], [row.text("model").split()[0] for row in rows]
    pairs = list(zip(chips, named, strict=True))
    return Known(groups, np.array(seconds), chips, named, np.array([pairs.count(one) ** -0.5 for one in pairs]))


def predictions(groups: Sequence[Group], names: Sequence[str], values: Sequence[float]) -> Any:
    """Return the times of rows with some constants of their stack replaced."""
    given = dict(zip(names, map(float, values), strict=True))
    return np.concatenate([models.times(replace(one, stack=replace(one.stack, **given))).time for one in groups])


def step(rows: Known, base: Any, slopes: Any, start: Any, keep: Any) -> Any:
    """Return the constants of least robust error on some rows, times taken as straight lines; none falls below zero."""
    point = start.copy()
    for _ in range(40):
        time = np.maximum(base + slopes @ (point - start), 0.05 * base)
        residual = (np.log(time) - np.log(rows.measured))[keep]
        jacobian = (slopes * point / time[:, None])[keep]
        weight = rows.weights[keep] / rows.weights.mean() / np.sqrt(1.0 + (residual / SCALE) ** 2)
        prior = (SCALE / PRIOR) ** 2 * np.eye(len(point))
        normal = jacobian.T @ (weight[:, None] * jacobian) + prior
        change = np.linalg.solve(normal, jacobian.T @ (weight * residual))
        point = point * np.exp(-np.clip(change, -0.5, 0.5))
    return point


def fit(rows: Known, names: Sequence[str], start: Any) -> tuple[Any, Any, Any]:
    """Return constants, the times that they give and the slopes of these."""
    everything = np.ones(len(rows.measured), dtype=bool)
    point = start
    base, slopes = lines(rows, names, point)
    best = float((rows.weights * robust(np.log(base / rows.measured))).sum())
    for _ in range(ROUNDS):
        trial = step(rows, base, slopes, point, everything)
        found, steeper = lines(rows, names, trial)
        cost = float((rows.weights * robust(np.log(found / rows.measured))).sum())
        if cost >= best:
            break
        point, base, slopes, best = trial, found, steeper, cost
    return point, base, slopes


def lines(rows: Known, names: Sequence[str], point: Any) -> tuple[Any, Any]:
    """Return times at a point and their slopes in every constant."""
    base = predictions(rows.groups, names, point)
    moved = [predictions(rows.groups, names, point * (1.0 + 0.1 * unit)) for unit in np.eye(len(point))]
    return base, np.stack([(one - base) / (0.1 * at) for one, at in zip(moved, point, strict=True)], axis=1)


def left_out(rows: Known, point: Any, base: Any, slopes: Any, of: list[str]) -> tuple[Any, Any]:
    """Return times of rows by constants that none of their chip's, or model's, rows fixed, and the constants' ranges."""
    times, points = base.copy(), []
    for one in sorted(set(of)):
        keep = np.array([other != one for other in of])
        found = step(rows, base, slopes, point, keep)
        points.append(found)
        times[~keep] = (base + slopes @ (found - point))[~keep]
    return times, np.stack([np.min(points, axis=0), np.max(points, axis=0)])


def errors(times: Any, measured: Any) -> str:
    """Return median and mean absolute error in per cent."""
    error = np.abs(times / measured - 1.0)
    return f"{100 * float(np.median(error)):.1f} / {100 * float(error.mean()):.1f}"


def main(out: Callable[[str], None] = print) -> None:
    """Fit every stack, or the one after `--only`."""
    only = sys.argv[sys.argv.index("--only") + 1] if "--only" in sys.argv else ""
    rows = rows_of(Path(os.environ["RIDGELINE_FACTS"]) / "measured" / "dev")
    groups = [group for _, group in grouped(rows, Constants.of_catalogue())[0]]
    out("| stack | rows | constant | value | fits without one | with its rows | left out |\n|---|---|---|---|---|---|---|")
    for stack, names in FITTED.items():
        names_of = (stack, f"{stack}-served")  # the same host, by the rows of its scheduler too
        mine = known([one for one in groups if one.stack.name in names_of]) if only in ("", stack) else known([])
        if not len(mine.measured):
            continue
        start = np.array([float(getattr(mine.groups[0].stack, name)) or 1e-6 for name in names])
        point, base, slopes = fit(mine, names, start)
        several = len(set(mine.chips)) > 1
        times, spread = left_out(mine, point, base, slopes, mine.chips if several else mine.models)
        for index, name in enumerate(names):
            low, high = spread[:, index]
            head = f"| `{stack}` | {len(base)} " if not index else "| | "
            tail = f"{errors(base, mine.measured)} | {errors(times, mine.measured)}, by {'chip' if several else 'model'}"
            out(f"{head}| `{name}` | {point[index]:.3g} | {low:.3g} to {high:.3g} | {tail if not index else '| '} |")


if __name__ == "__main__":
    main()
