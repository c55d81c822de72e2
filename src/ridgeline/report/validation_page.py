"""The page of the validation: errors by slice, on chips left out and in sample, the constants, and what is missing."""

from collections.abc import Iterable, Sequence

from ridgeline.api.validation import Validation
from ridgeline.catalogue import families
from ridgeline.report.validation_tables import what
from ridgeline.validation import compare
from ridgeline.validation.calibrate import PARAMETERS
from ridgeline.validation.compare import Judged, Slice

_HEAD = """# Validation

Written by `python benchmarks/calibrate_families.py --write`; do not edit by hand.

`ridgeline validate FILE.csv…` predicts every row of measurement files and prints the error of each slice. This page judges
the constants of the catalogue on the development rows: single operations on chips of NVIDIA and AMD, measured by others.
**Left out** means that none of a chip's rows, of any dataset, fixed a constant that predicts it. **Half the shapes** means
constants fitted to the other half of the shapes of all chips, for kinds of row that one chip alone has. **In sample** is the
catalogue as it stands. Errors are absolute, relative to the measured time, median and mean; a row that is not supported
counts as 100 %; rows that are suspect are shown by the command and not scored.

## The schema of a measurement file

A CSV, one measurement a row. Always: `id`, `chip` (a catalogue name or alias), `metric`, `value`, `unit` (s, ms, us, W, mW, J,
tokens/s, TFLOP/s, GB/s …). By kind: products `op,b,m,n,k,dtype`; vector kernels `op,m,n,dtype`; attention `op=attention,batch,
q_len,kv_len,n_heads,n_kv_heads,head_dim,causal,dtype,kv_dtype`, where `kv_len` counts the new tokens. `framework` and
`kernel` choose the software stack (`catalogue/stacks/*.toml`). A row that cannot be read is named by file and line, and the rest
are predicted.

## Errors by dataset and slice

"""
_FLOOR = """
## What no model can know

The same operation on the same chip (H100) in another kernel library differs by this much, median and 90th percentile:
products in half precision 4.6 and 10 %, in fp8 21 and 56 %, decode attention 17 and 40 %, prefill attention 19 and 36 %; two
builds of one library 1.1 and 5 %. A median error of 5 to 7 % on half-precision products is therefore near the floor of a
model without per-library tables.

"""
_MISSING = """
## What is missing, by its effect

- **Which weights start warm.** The harness turns through at most five copies of the weights; a few shapes evidently had
  fewer, so that 100 MB run at 1.4 times the memory bandwidth. The model takes five everywhere.
- **Address conflicts.** AMD fp32 products with n or k a multiple of 2048 and more reach 0.16 to 0.2 of the peak; not
  modelled.
- **The clock that a chip holds.** V100 boards ran at their whole fp32 peak, P100 at 0.76 of it in one library path and 0.88
  in another: one share of the peak for all chips is 5 to 10 % off on each.
- **What the operands are.** Random values draw more power than constant ones: two harnesses on one A100 differ by 15 % at
  large sizes.
- **Short loops over k (64 to 96) with large results** on the smallest chip take twice the sum of arithmetic and stores.
- **Vector kernels below 20 us** are the framework's fixed time, not the chip's: each operation has its own.
- **Decode attention where the library does not split.** FlashAttention 3 leaves groups of exactly 32 query heads unsplit, 2 to 30
  times slower than groups of 64; a fact of one heuristic, not modelled.
- **fp8 attention on Ada** runs slower than bf16 in one library (a fifth of the half-precision peak, 256-wide heads worst): the
  kernel converts in the loop; the model takes it at the half-precision rate.
- **Half-precision normalisations on AMD** run at a fifth of the bandwidth in the one library measured.
"""


def page(found: Validation, left_out: Sequence[Slice], halves: Sequence[Slice], rows: Sequence[Judged]) -> str:
    """Return the page as Markdown."""
    parts = [_HEAD, *_errors(found.slices, left_out, halves), "\n## By chip, each left out\n\n", *_chips(rows)]
    parts += ["\n## The constants\n\n", _INTRODUCTION, *_constants(), _FLOOR, *_worst(rows), _MISSING]
    return "".join(parts)


def _percent(one: Slice | None) -> str:
    return "" if one is None else f"{100 * one.median_ape:.1f} / {100 * one.mape:.1f}"


def _errors(sample: Sequence[Slice], left_out: Sequence[Slice], halves: Sequence[Slice]) -> Iterable[str]:
    yield "| dataset | slice | rows | left out, median / mean % | half the shapes | in sample | within 20 %, left out |\n"
    yield "|---|---|--:|--:|--:|--:|--:|\n"
    by_name = {(one.dataset, one.slice): one for one in sample}
    half = {(one.dataset, one.slice): one for one in halves}
    for one in left_out:
        if one.slice == "ALL":
            continue
        key = one.dataset, one.slice
        yield (
            f"| {one.dataset} | {one.slice} | {one.rows} | {_percent(one)} | {_percent(half.get(key))} | "
            f"{_percent(by_name.get(key))} | {100 * one.within_20:.0f} % |\n"
        )


def _chips(rows: Sequence[Judged]) -> Iterable[str]:
    yield "| chip | dataset | slice | rows | median / mean % |\n|---|---|---|--:|--:|\n"
    groups: dict[tuple[str, str, str], list[Judged]] = {}
    for one in rows:
        row = one.prediction.row
        groups.setdefault((row.text("chip"), row.dataset, one.slice), []).append(one)
    for (chip, dataset, name), members in sorted(groups.items()):
        table = compare.slices(members, frozenset())
        yield f"| {chip} | {dataset} | {name} | {len(members)} | {_percent(table[-1])} |\n"


_INTRODUCTION = """Each has one meaning and one unit, and belongs to an architecture, never to a shape. *Spread* is the least
and the largest value over the fits that leave one chip out. What no row fixes is from documentation and has no spread. A
family that builds on another takes over what it does not state.

"""


def _constants() -> Iterable[str]:
    fitted = {(one.owner, one.name) for one in PARAMETERS if one.of == "family"}
    for family in families.families():
        if family.name == "general":
            continue
        yield f"**{family.title}** (`families/{family.name}.toml`, {', '.join(family.covers)})\n\n"
        yield "| constant | value | unit | spread | meaning |\n|---|--:|---|---|---|\n"
        for one in families.constants(family.name):
            spread = "" if one.spread is None else f"{one.spread[0]:g} to {one.spread[1]:g}"
            note = f" ({one.note})" if one.note else ""
            origin = spread if (family.name, one.name) in fitted else "documentation"
            yield f"| {one.name} | {one.value:g} | {one.unit} | {origin} | {one.meaning}{note} |\n"
        yield "\n"


def _worst(rows: Sequence[Judged]) -> Iterable[str]:
    yield "## The rows furthest off, their chip left out\n\n| row | chip | what | predicted / measured |\n|---|---|---|--:|\n"
    for one in compare.worst(rows, 20):
        row = one.prediction.row
        yield f"| {row.id} | {row.text('chip')} | {what(one)} | {one.ratio:.2f} |\n"
