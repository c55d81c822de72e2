"""Prediction intervals from measured rows: residuals with chips left out, judged on them, and written.

    RIDGELINE_FACTS=… python benchmarks/calibrate_intervals.py [--write]

reads measured/dev/*.csv and reference/hardware/gemmini_rtl.csv below that folder; about two minutes of one core. With `--write` the
catalogue's intervals.csv and interval_rules.csv and the tables of docs/how-far-off.md take what was found. Only statistics enter
them, no measured row. Run it after `calibrate_families.py --write` and after every change of a prediction.
"""

import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import calibrate_gemmini as gemmini
import numpy as np

from ridgeline.catalogue import residuals as catalogue
from ridgeline.costs.uncertainty import CALL_TIME
from ridgeline.report.interval_page import with_tables
from ridgeline.specs.residual import Residual, Residuals
from ridgeline.validation import calibrate, compare, intervals, ordering, schema
from ridgeline.validation.intervals import Held, Leaving, Off, Step
from ridgeline.validation.predict import Constants, kind_of, predict
from ridgeline.validation.products import is_product
from ridgeline.validation.schema import Row, chip_of

LEAST_ROWS = 30
PAGE = Path(__file__).parents[1] / "docs" / "how-far-off.md"


def read(facts: Path) -> tuple[list[Row], dict[tuple[str, str], str]]:
    folder = facts / "measured" / "dev"
    suspects = compare.read_suspects(folder)
    rows = [row for path in sorted(folder.glob("*.csv")) for row in schema.read(path).rows if kind_of(row)]
    return [row for row in rows if (row.dataset, row.id) not in suspects], suspects


def is_whole(row: Row) -> bool:
    kind = kind_of(row)
    return kind is not None and (kind.whole or kind.name not in KERNELS)


KERNELS = ("product", "attention", "latent", "experts", "grouped", "exchange", "vector")


def array_residual(facts: Path) -> Residual:
    """Residual of a systolic array: Gemmini's cycles, the design left out."""
    rows = gemmini.read_rows(facts)
    _, left_out, _ = gemmini.leave_one_design_out(rows)
    off = -np.log1p(left_out)
    return Residual(
        kind="array",
        lower=max(-float(np.quantile(off, intervals.LOW)), intervals.LEAST),
        upper=max(float(np.quantile(off, intervals.HIGH)), intervals.LEAST),
        chips=len({row.design for row in rows}),
        rows=len(rows),
        families=("gemmini",),
    )


class Left:
    """Constants without a chip, each found once."""

    def __init__(self, leaving: Leaving) -> None:
        self.leaving, self.known, self.fixing = leaving, {}, {row.chip for row in leaving.rows}

    def of(self, chip: str) -> Constants:
        if chip not in self.fixing:
            return self.leaving.constants
        if chip not in self.known:
            self.known[chip] = self.leaving.without(lambda row: row.chip == chip)
        return self.known[chip]

    def off(self, rows: Sequence[Row], residuals: Residuals | None = None) -> list[Off]:
        found: list[Off] = []
        for chip in sorted({row.chip for row in rows}):
            own = replace(self.of(chip), residuals=residuals)
            found += intervals.present(predict([row for row in rows if row.chip == chip], own))
        return found

    def steps(self, rows: Sequence[Row], residuals: Residuals) -> list[Step]:
        found: list[Step] = []
        for chip in sorted({row.chip for row in rows}):
            found += intervals.steps([row for row in rows if row.chip == chip], self.of(chip), residuals)
        return found


def edges(offs: Sequence[Off]) -> list[Off]:
    """The tenth of the rows of each kind that takes longest, and the tenth that is shortest."""
    found: list[Off] = []
    for kind in {one.kind for one in offs}:
        mine = sorted((one for one in offs if one.kind == kind), key=lambda one: one.time)
        tenth = len(mine) // 10
        found += [*mine[:tenth], *mine[len(mine) - tenth :]]
    return found


def rules(leaving: Leaving, ops: Sequence[Row], offs: Sequence[Off]) -> dict[str, tuple[float, str]]:
    """How half-widths grow with distance: what is left out with a chip, a family, a format, the largest and smallest times."""
    between = intervals.between_chips(offs)
    chip = intervals.held_out_factor(offs, offs, lambda one: one.chip, between)
    by_family = leaving.residuals(ops, lambda row: chip_of(row.chip).family, 1)
    family = intervals.held_out_factor(by_family, offs, lambda one: chip_of(one.chip).family, between)
    kinds = {(one.row.dataset, one.row.id): one.kind for one in offs}
    products = [row for row in ops if kinds.get((row.dataset, row.id), "").startswith("product:")]
    by_format = leaving.residuals(products, lambda row: kinds[row.dataset, row.id], 1)
    of_products = [one for one in offs if one.kind.startswith("product:")]
    format = intervals.held_out_factor(by_format, of_products, lambda one: one.kind, between)
    outer = {(one.row.dataset, one.row.id) for one in edges(offs)}
    constants = leaving.without(lambda row: (row.dataset, row.id) in outer)
    far = intervals.present(predict([row for row in ops if (row.dataset, row.id) in outer], constants))
    print(f"half-widths times: chip unseen {chip:.3f}, family {family:.3f}, format {format:.3f}")
    return {
        "coverage": (intervals.HIGH - intervals.LOW, "the share of left-out rows that an interval is to hold"),
        "between": (between, "variance of residuals between chips over all of it, kinds that two chips have"),
        "unseen_chip": (chip, "chips left out one by one from their intervals as well, beside what `between` says of few chips"),
        "unseen_family": (max(family / chip, 1.0), "families left out whole, over chips left out one by one"),
        "unseen_format": (max(format / chip, 1.0), "formats of products left out whole, over chips left out one by one"),
        "beyond": (intervals.beyond_exponent(far, offs), "the tenth of each kind that takes longest and the shortest, left out"),
    }


def write(known: Residuals, found: dict[str, tuple[float, str]], offs: Sequence[Off]) -> None:
    datasets: dict[str, set[str]] = {"array": {"gemmini_rtl"}}
    for one in offs:
        kind = one.kind
        while kind:
            datasets.setdefault(kind, set()).add(one.row.dataset)
            kind = kind.rpartition(":")[0]
    lines = ["kind,lower,upper,lower_short,upper_short,least,most,chips,rows,families,datasets,seen"]
    for one in known.kinds:
        numbers = [f"{value:.3g}" for value in (one.lower, one.upper, one.lower_short, one.upper_short, one.least, one.most)]
        names = [" ".join(one.families), " ".join(sorted(datasets.get(one.kind, ()))), " ".join(one.seen)]
        lines.append(",".join([one.kind, *numbers, str(one.chips), str(one.rows), *names]))
    catalogue.TABLE.write_text("\n".join([*lines, ""]), encoding="utf-8")
    text = ["rule,value,evidence", *(f'{name},{value:.3g},"{why}"' for name, (value, why) in found.items()), ""]
    catalogue.RULES.write_text("\n".join(text), encoding="utf-8")


def strictly(offs: Sequence[Off], steps: Sequence[Step], known: Residuals) -> list[Off]:
    """Every chip's rows with intervals that know none of them; a stack that one chip alone has takes those of all stacks."""
    found: list[Off] = []
    rows = {(one.off.row.dataset, one.off.row.id): one for one in steps}
    for chip in sorted({one.chip for one in offs}):
        others = [one for one in offs if one.chip != chip and not one.kind.startswith("step")]
        levels = intervals.step_levels([one for one in steps if one.off.chip != chip], known.correlation)
        own = known._replace(kinds=(*intervals.kinds(others), *levels)).on(chip_of(chip).name)
        found += intervals.with_widths([one for one in offs if one.chip == chip], rows, own)
    return found


def slices(offs: Sequence[Off]) -> Callable[[Row], str]:
    formats: dict[str, set[str]] = {}
    for one in offs:
        if is_product(one.row):
            formats.setdefault(one.row.dataset, set()).add(one.row.text("dtype"))
    return lambda row: compare.slice_of(row, len(formats.get(row.dataset, ())) > 1)


def held_table(table: Sequence[Held]) -> str:
    lines = [
        "| dataset | slice | rows | inside, chip left out | width | inside, interval too | width |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for one in table:
        if one.rows >= LEAST_ROWS:
            strict = "– | –" if math.isnan(one.strict) else f"{100 * one.strict:.0f} % | {one.strict_width:.2f}"
            numbers = f"{100 * one.coverage:.0f} % | {one.width:.2f} | {strict}"
            lines.append(f"| {one.dataset} | {one.slice} | {one.rows} | {numbers} |")
    return "\n".join(lines)


def order_table(table: Sequence[ordering.Order]) -> str:
    lines = ["| dataset | pairs | named right | mean confidence |", "|---|--:|--:|--:|"]
    lines += [f"| {one.name} | {one.pairs} | {100 * one.right:.1f} % | {100 * one.confidence:.1f} % |" for one in table]
    return "\n".join(lines)


def rule_table(found: dict[str, tuple[float, str]]) -> str:
    return "\n".join(
        [
            "| rule | value | evidence |",
            "|---|--:|---|",
            *(f"| `{name}` | {value:.3g} | {why} |" for name, (value, why) in found.items()),
        ]
    )


def kind_table(known: Residuals) -> str:
    lines = ["| kind | 1 ms and longer | 10 µs | chips | rows |", "|---|---|---|--:|--:|"]
    for one in known.kinds:
        ends = []
        for time_of in (math.inf, 10e-6):
            share = 0.0 if math.isinf(time_of) else CALL_TIME / (CALL_TIME + time_of)
            ends.append(
                f"{math.exp(-one.lower - one.lower_short * share):.2f} to {math.exp(one.upper + one.upper_short * share):.2f}"
            )
        lines.append(f"| {one.kind} | {ends[0]} | {ends[1]} | {one.chips} | {one.rows} |")
    return "\n".join(lines)


def main() -> None:
    start = time.process_time()

    def clock(what: str) -> None:
        print(f"{time.process_time() - start:6.0f} s  {what}", file=sys.stderr)

    facts = Path(os.environ["RIDGELINE_FACTS"])
    rows, _ = read(facts)
    ops, whole = [row for row in rows if not is_whole(row)], [row for row in rows if is_whole(row)]
    leaving = Leaving.of(ops, Constants.of_catalogue(), Constants.before_any_fit(), calibrate.PARAMETERS)
    left = Left(leaving)
    offs = left.off(ops)
    clock(f"{len(offs)} rows of kernels, their chip left out")
    found = rules(leaving, ops, offs)
    clock("distances")
    kernels = (*intervals.kinds(offs), array_residual(facts))
    scales = {name: value for name, (value, _) in found.items()}
    models = [row for row in whole if kind_of(row).name == "model"]
    steps = left.steps(models, Residuals(kinds=kernels, **scales))
    clock(f"{len(steps)} rows of whole models")
    correlation = intervals.best_correlation(steps)
    found["correlation"] = (correlation, "kernels within a step: the best score of the intervals of whole models")
    of_services = [row for row in whole if kind_of(row).name != "model"]
    served = [one for one in left.off(of_services) if one.kind.startswith(("served", "power"))]
    clock(f"{len(served)} rows of services")
    known = Residuals(
        kinds=(*kernels, *intervals.step_levels(steps, correlation), *intervals.kinds(served)), **scales, correlation=correlation
    )
    by_name = {(one.off.row.dataset, one.off.row.id): one for one in steps}
    everything = [*offs, *(one.off for one in steps), *served]
    outside = strictly(everything, steps, known)
    inside = intervals.with_widths(everything, by_name, known)
    clock("intervals")
    both = ordering.pairs(inside)
    of_steps = [pair for pair in both if pair.first.kind.startswith(("step", "served"))]
    of_kernels = [pair for pair in both if pair not in of_steps]
    for name, some, what in (("pair", of_kernels, "kernels of one shape"), ("pair_step", of_steps, "steps of one model")):
        found[name] = (intervals.pair_correlation(some), f"{what} and one stack on two chips, {len(some)} pairs left out")
    known = known._replace(pair=found["pair"][0], pair_step=found["pair_step"][0])
    tables = {
        "rules": rule_table(found),
        "kinds": kind_table(known),
        "held": held_table(intervals.held(inside, outside, slices(everything))),
        "order": order_table(ordering.orders(both, known)),
    }
    for one in tables.values():
        print(f"\n{one}")
    if "--write" in sys.argv:
        write(known, found, everything)
        PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8"), tables), encoding="utf-8")
    clock("done")


if __name__ == "__main__":
    main()
