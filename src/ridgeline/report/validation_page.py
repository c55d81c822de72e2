"""The page of the validation: errors by slice, on chips left out and in sample, the constants, and what is missing."""

import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from ridgeline.api.validation import Validation
from ridgeline.catalogue import families
from ridgeline.quantities import Fraction
from ridgeline.report.validation_tables import what
from ridgeline.validation import compare
from ridgeline.validation.calibrate import PARAMETERS
from ridgeline.validation.compare import Judged, Slice
from ridgeline.validation.schema import chip_of

_HEAD = """# Validation

Written by `python benchmarks/calibrate_families.py --write`; do not edit by hand.

`ridgeline validate FILE.csv…` predicts every row of measurement files and prints the error of each slice. This page judges
the constants of the catalogue on the development rows: single operations on chips of NVIDIA and AMD, measured by others.
**Left out** means that none of a chip's rows, of any dataset, fixed a constant that predicts it. **Zero-shot** means the
constants of documentation alone, before any fit. **Half the shapes** means constants fitted to the other half of the shapes of
all chips, for kinds of row that one chip alone has (H20 products in fp8, grouped products, latent attention of FlashMLA, integer
and weight-only products): leaving that chip out is zero-shot for what only its rows fix. **In sample** is the catalogue as it
stands. Errors are absolute, relative to the measured time, median and mean; a row that is not supported counts as 100 %; rows
that are suspect are shown by the command and not scored. Rows of whole models fix no constant of a kernel and are not here.
What a library does (its tiles, what it splits, which kernels it runs) is data of its stack, with the source; some of it was
recognised in these rows, so that *zero-shot* is blind to their times but not to their patterns. Rows on other chips, which
nobody who built this has seen, judge the whole.

## The schema of a measurement file

A CSV, one measurement a row. Always: `id`, `chip` (a catalogue name or alias), `metric`, `value`, `unit` (s, ms, us, W, mW, J,
tokens/s, TFLOP/s, GB/s …). By kind: products `op,b,m,n,k,dtype`; vector kernels `op,m,n,dtype`; attention `op=attention,batch,
q_len,kv_len,n_heads,n_kv_heads,head_dim,causal,dtype,kv_dtype`, where `kv_len` counts the new tokens. `framework` and
`kernel` choose the software stack (`catalogue/stacks/*.toml`). Latent attention `op=mla`; experts
`op=moe,tokens,hidden,inter,topk,n_experts,moe_tp,moe_ep,routing`; collectives `op,bytes,n_chips,gpus_per_node,topology`.
A row that cannot be read is named by file and line, and the rest are predicted.

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

- **Which weights start warm.** One harness turns through at most five copies of the weights; a few shapes evidently had
  fewer, so that 100 MB run at 1.4 times the memory bandwidth. The model takes five everywhere.
- **Which kernel a library picks.** On Pascal, products with more than 10 000 columns reach a third of the peak; on AMD, batched
  products with depth 196 reach half of what their neighbours do. These are choices of tables in libraries, not of chips.
- **Address conflicts.** AMD fp32 products whose weights lie at strides of 128 KiB and more wait for the same channels of
  memory; the model has a factor of 2 and 4, MI210 shows up to 4 from 64 KiB on.
- **Short loops over k.** On A100, P100 and P4 a batched product of depth 64 takes as long as one of depth 128, on V100 and T4 it
  does not; no effect in the model makes a difference.
- **What the operands are.** Random values draw more power than constant ones: two harnesses on one A100 differ by 15 % at
  large sizes.
- **Small vector kernels** are measured in steps of 1 us or with a framework's fixed time of 20 to 50 us, which each operation has
  of its own.
- **Decode attention where the library does not split.** One set of H20 rows leaves groups of exactly 32 query heads unsplit, 2 to
  30 times slower than groups of 64; and more than 32 heads a group over an fp8 cache are twice as slow as converting them takes.
- **fp8 attention on Ada** runs slower than bf16 in one library (a fifth of the half-precision peak, 256-wide heads worst): the
  kernel converts in the loop; the model takes it at the half-precision rate.
- **Half-precision normalisations on AMD** run at a fifth of the bandwidth in the one library measured.
- **Reductions that a framework launches one by one** take 7 or 55 us by whether calls queue up; the model says 55.
- **All-to-all over PCIe bridges** is up to three times faster than messages in turn over the slowest bridge.
"""


class Goal(NamedTuple):
    """Errors that a slice of rows should not exceed, median and mean."""

    name: str
    median: Fraction
    mean: Fraction
    holds: Callable[[Judged], bool]  # for rows of the slice


def _of(*datasets: str, slices: tuple[str, ...] = ()) -> Callable[[Judged], bool]:
    return lambda one: one.prediction.row.dataset in datasets and (not slices or one.slice in slices)


def _joined(one: Judged) -> bool:
    """Say whether a collective ran over links between chips, in one box."""
    row = one.prediction.row
    same_box = row.number("gpus_per_node", row.number("n_chips", 1.0)) >= row.number("n_chips", 1.0)
    return (
        one.prediction.kind == "exchange" and same_box and any(not link.name.startswith("pcie") for link in chip_of(row.chip).link)
    )


_DECODE, _PREFILL = ("generation", "attention:decode"), ("context", "attention:prefill")
_ATTENTION = ("aic_attention", "infersim_ops", "llmservingsim_ops")
GOALS: tuple[Goal, ...] = (
    Goal("products, half precision", 0.09, 0.14, _of("aic_gemm", slices=("bf16",))),
    Goal("products, half precision", 0.09, 0.14, _of("vidur_mlp", "llmservingsim_ops", "llmcompass", slices=("gemm",))),
    Goal("products, fp32", 0.12, 0.18, _of("neusight_ops", slices=("gemm",))),
    Goal("products, fp8", 0.15, 0.22, _of("aic_gemm", slices=("fp8",))),
    Goal("products, fp8", 0.15, 0.22, _of("infersim_ops", slices=("gemm",))),
    Goal("products, fp8 by block on Ada", 0.18, 0.28, _of("aic_gemm", slices=("fp8_block",))),
    *(
        Goal(f"products, {named}", 0.11, 0.16, _of("aic_gemm", slices=(one,)))
        for one, named in (("int8_sq", "int8"), ("w4a16", "weight-only w4a16"), ("w8a16", "weight-only w8a16"))
    ),
    Goal("decode attention", 0.16, 0.25, _of(*_ATTENTION, slices=_DECODE)),
    Goal("prefill attention", 0.17, 0.26, _of(*_ATTENTION, slices=_PREFILL)),
    Goal("latent attention, decode", 0.17, 0.22, _of("aic_mla", "infersim_ops", slices=("generation", "mla:decode"))),
    Goal("latent attention, prefill", 0.13, 0.27, _of("aic_mla", slices=("context",))),
    Goal("experts", 0.18, 0.28, _of("aic_moe")),
    Goal("grouped products", 0.13, 0.19, _of("infersim_ops", slices=("grouped_gemm:decode", "grouped_gemm:prefill"))),
    Goal(
        "vector kernels of 20 us and more",
        0.12,
        0.18,
        lambda one: (
            one.prediction.row.dataset == "neusight_ops" and one.slice == "vector ops" and one.prediction.row.measured >= 20e-6
        ),
    ),
    Goal(
        "collectives over links, from 1 MiB", 0.11, 0.16, lambda one: _joined(one) and one.prediction.row.number("bytes") >= 2**20
    ),
    Goal("collectives over links, smaller", 0.12, 0.20, lambda one: _joined(one) and one.prediction.row.number("bytes") < 2**20),
)


class Tables(NamedTuple):
    """Errors by dataset and slice, by how the constants were found that predict the rows."""

    left_out: Sequence[Slice]
    halves: Sequence[Slice]
    zero_shot: Sequence[Slice]


def page(found: Validation, tables: Tables, rows: Sequence[Judged], pictures: Sequence[str] = ()) -> str:
    """Return the page as Markdown; `rows` are those of the chips left out, `pictures` are files beside it."""
    parts = [_HEAD, *_errors(found.slices, tables), *_goals(rows)]
    parts += ["\n## Pictures\n\n", *(f"![{Path(one).stem}]({one})\n\n" for one in pictures)]
    parts += ["\n## By chip, each left out\n\n", *_chips(rows)]
    parts += ["\n## The constants\n\n", _INTRODUCTION, *_constants(), _FLOOR, *_worst(rows), _MISSING]
    return "".join(parts)


def _percent(one: Slice | None) -> str:
    return "" if one is None else f"{100 * one.median_ape:.1f} / {100 * one.mape:.1f}"


def _errors(sample: Sequence[Slice], tables: Tables) -> Iterable[str]:
    yield "| dataset | slice | rows | left out, median / mean % | zero-shot | half the shapes | in sample | within 20 % |\n"
    yield "|---|---|--:|--:|--:|--:|--:|--:|\n"
    in_sample, half, zero = ({(one.dataset, one.slice): one for one in each} for each in (sample, tables.halves, tables.zero_shot))
    for one in tables.left_out:
        if one.slice == "ALL" and any(each.dataset == one.dataset and each.slice != "ALL" for each in tables.left_out):
            continue
        key = one.dataset, one.slice
        cells = " | ".join(_percent(each) for each in (one, zero.get(key), half.get(key), in_sample.get(key)))
        yield f"| {one.dataset} | {one.slice} | {one.rows} | {cells} | {100 * one.within_20:.0f} % |\n"


def _goals(rows: Sequence[Judged]) -> Iterable[str]:
    """Return what each goal's rows reach, each dataset for itself: how many rows a dataset has is a choice of its makers."""
    yield "\n## Against the goals\n\nChips left out, each dataset for itself, median / mean %.\n\n"
    yield "| rows of | dataset | rows | goal | left out | reached |\n|---|---|--:|--:|--:|---|\n"
    for goal in GOALS:
        own = [one for one in rows if not one.suspect and goal.holds(one)]
        for dataset in sorted({one.prediction.row.dataset for one in own}):
            errors = sorted(one.error for one in own if one.prediction.row.dataset == dataset)
            median, mean = statistics.median(errors), statistics.fmean(errors)
            short = [name for name, over in (("median", median > goal.median), ("mean", mean > goal.mean)) if over]
            yield (
                f"| {goal.name} | {dataset} | {len(errors)} | {100 * goal.median:.0f} / {100 * goal.mean:.0f} | "
                f"{100 * median:.1f} / {100 * mean:.1f} | {'not the ' + ' nor the '.join(short) if short else 'yes'} |\n"
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
    yield "**Software stacks** (`stacks/*.toml`): what belongs to a library or to how it was measured\n\n"
    yield "| stack | constant | value | unit | spread | fixed by rows on |\n|---|---|--:|---|---|---|\n"
    for parameter in (one for one in PARAMETERS if one.of == "stack"):
        one = families.stack_constant(parameter.owner, parameter.name, parameter.key)
        spread = "" if one.spread is None else f"{one.spread[0]:g} to {one.spread[1]:g}"
        name = f"{parameter.name} of {parameter.key}" if parameter.key else parameter.name
        yield f"| {parameter.owner} | {name} | {one.value:g} | {one.unit} | {spread} | {one.fitted_to} |\n"
    yield "\n"


def _worst(rows: Sequence[Judged]) -> Iterable[str]:
    yield "## The rows furthest off, their chip left out\n\n| row | chip | what | predicted / measured |\n|---|---|---|--:|\n"
    for one in compare.worst(rows, 20):
        row = one.prediction.row
        yield f"| {row.id} | {row.text('chip')} | {what(one)} | {one.ratio:.2f} |\n"
