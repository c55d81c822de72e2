"""Fit the constants of the tiled model to Gemmini's register-transfer-level cycles, leaving one design out at a time.

    RIDGELINE_FACTS=… python benchmarks/calibrate_gemmini.py

reads reference/hardware/gemmini_rtl.csv below that folder: 148 layers on 8 designs, 16 × 16, weight-stationary [hong2023dosa].
"""

import csv
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ridgeline.costs.tiled import Array, Buffers, Layer, Memory, tiled_cost
from ridgeline.mapping.nest import Nest, read_nest

CONSTANTS = {  # name: (start of the fit, unit, meaning)
    "issue": (
        8.0,
        "cycle",
        "between two preload-and-compute pairs, on average: pairs in the reservation station over their latency",
    ),
    "gap": (1.0, "cycle", "lost between two pairs of instructions: the controller's state changes"),
    "start": (200.0, "cycle", "to start a tile: seven configuration instructions, first requests, pipelines that fill"),
    "bandwidth": (8.0, "B/cycle", "sustained between DRAM and the chip: requests of 64 B under way over their latency"),
}
SCALE = 0.05  # of the robust loss: residuals in log cycles beyond it count linearly


class Row(NamedTuple):
    """One measured layer."""

    design: str
    layer: Layer
    nest: Nest
    buffers: Buffers
    cycles: float
    text: str


def read_rows(facts: Path) -> list[Row]:
    """Return the measured layers.

    The file's capacities hold one tile, and the simulated designs overlap tiles that fill them: there is room for two of each.
    """
    rows = []
    with (facts / "reference" / "hardware" / "gemmini_rtl.csv").open(newline="") as file:
        for cell in csv.DictReader(file):
            layer = Layer(*(float(cell[name]) for name in ("N", "K", "C", "P", "Q", "R", "S", "stride")))
            buffers = Buffers(2.0 * float(cell["scratchpad_bytes"]), 2.0 * float(cell["accumulator_bytes"]))
            nest = read_nest(cell["mapping"], layer)
            rows.append(Row(cell["design"], layer, nest, buffers, float(cell["rtl_cycles"]), cell["mapping"]))
    return rows


def gemmini(constants: Any) -> tuple[Array, Memory]:
    """Return Gemmini's array and path to DRAM; what is not fitted is in the generator's public parameters.

    An instruction streams at most 16 rows and at least 4, a new block of weights takes 16. The DMA's bus is 16 B wide, its largest
    request 64 B. The library's loops load both operands at every step and never spill sums.
    """
    issue, gap, start, bandwidth = constants
    array = Array(rows=16.0, columns=16.0, stream=16.0, least=4.0, preload=16.0, issue=issue, gap=gap)
    return array, Memory(bandwidth, burst=64.0, word=16.0, start=start, reuse=0.0, spill=0.0)


def predict(rows: list[Row], constants: Any) -> Any:
    """Return cycles, rows × whatever shape the constants have beyond their first axis."""
    array, memory = gemmini(tuple(constants))
    return np.array([tiled_cost(row.layer, row.nest.tile, row.nest.order, array, row.buffers, memory).cycles for row in rows])


def _loss(residuals: Any, kept: Any) -> Any:
    return (np.sqrt(1.0 + (residuals / SCALE) ** 2) - 1.0)[kept].sum(axis=0)


def fit(rows: list[Row], folds: list[Any], *, rounds: int = 30) -> Any:
    """Return the constants of each fold (a mask of the rows that it may use), by damped Gauss–Newton on a soft absolute loss."""
    measured = np.log([row.cycles for row in rows])
    logs = np.log([[start for start, _, _ in CONSTANTS.values()]] * len(folds))  # fold × constant
    count, step = logs.shape[1], 1e-3
    lengths = np.array([0.0, 0.1, 0.3, 1.0])
    for _ in range(rounds):
        points = logs[:, None, :] + step * np.vstack([np.zeros(count), np.eye(count)])  # fold × (1 + constant) × constant
        residuals = np.log(predict(rows, np.exp(np.moveaxis(points, -1, 0)))) - measured[:, None, None]
        moves = np.zeros_like(logs)
        for fold, kept in enumerate(folds):
            here = residuals[kept, fold, 0]
            slope = (residuals[kept, fold, 1:] - here[:, None]) / step
            weight = 1.0 / np.sqrt(1.0 + (here / SCALE) ** 2)
            normal = (slope * weight[:, None]).T @ slope
            moves[fold] = -np.linalg.solve(normal + 1e-2 * np.eye(count), (slope * weight[:, None]).T @ here)
        tried = logs[:, None, :] + lengths[:, None] * np.clip(moves, -1.0, 1.0)[:, None, :]
        residuals = np.log(predict(rows, np.exp(np.moveaxis(tried, -1, 0)))) - measured[:, None, None]
        for fold, kept in enumerate(folds):
            logs[fold] = tried[fold, np.argmin(_loss(residuals[:, fold, :], kept))]
    return np.exp(logs)


def leave_one_design_out(rows: list[Row]) -> tuple[Any, Any, Any]:
    """Return the constants of every fold, all rows last, and the signed errors left out and in sample."""
    designs = sorted({row.design for row in rows})
    of = np.array([row.design for row in rows])
    constants = fit(rows, [of != design for design in designs] + [of == of])
    cycles = predict(rows, constants.T)
    measured = np.array([row.cycles for row in rows])
    left_out = np.array([cycles[index, designs.index(design)] for index, design in enumerate(of)]) / measured - 1.0
    return constants, left_out, cycles[:, -1] / measured - 1.0


def main() -> None:
    """Print errors and constants."""
    rows = read_rows(Path(os.environ["RIDGELINE_FACTS"]))
    constants, left_out, inside = leave_one_design_out(rows)
    of = np.array([row.design for row in rows])
    print(f"{'design':32} rows   left out: median mean   in sample: median mean")
    for design in [*sorted(set(of)), "all"]:
        kept = of == design if design != "all" else of == of
        out, own = abs(left_out[kept]), abs(inside[kept])
        print(f"{design:32} {kept.sum():4}   {np.median(out):15.3f} {out.mean():5.3f}   {np.median(own):16.3f} {own.mean():5.3f}")
    print(f"geometric-mean ratio in sample {np.exp(np.log(1.0 + inside).mean()):.3f}")
    for index, (name, (_, unit, meaning)) in enumerate(CONSTANTS.items()):
        spread = constants[:-1, index]
        print(f"{name:6} {constants[-1, index]:8.2f} {unit} ({spread.min():.2f} to {spread.max():.2f}): {meaning}")
    for index in np.argsort(-abs(left_out))[:15]:
        print(f"{left_out[index]:+.2f}  {rows[index].design}  {rows[index].layer}  {rows[index].text}")


if __name__ == "__main__":
    main()
