"""The survey's counting (arXiv:2302.14017) against its own tables: rounded or truncated to the digits that are printed."""

import csv
import math
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from ridgeline.api import count, load_model
from ridgeline.specs.model import ConvolutionalModel

CLASSES = {
    "MHA projections": "projections",
    "MHA act-to-act": "attention",
    "FFN projections": "feed-forward",
    "Other": "other",
    "Total": "total",
}
COLUMNS = ("FLOPs", "% FLOPs", "MOPs", "% MOPs", "FLOPs/MOP")
# Tables 3, 10 and 11: length → class → 1e9 FLOPs, share %, 1e9 MOPs, share %, arithmetic intensity.
# In table 11 at 128 tokens the printed cells "30 / 0.01" of act-to-act FLOPs are garbled; 0.30 and 1 % follow from the totals.
PRINTED: dict[str, dict[int, dict[str, str]]] = {
    "table 3": {
        128: {
            "MHA projections": "7.25 32 0.04 27 192.0",
            "MHA act-to-act": "0.6 3 0.006 7 63.62",
            "FFN projections": "14.5 65 0.07 49 211.86",
            "Other": "0.08 0.3 0.02 18 3.14",
            "Total": "22.42 100 0.14 100 159.68",
        },
        512: {
            "MHA projections": "28.99 30 0.07 16 438.86",
            "MHA act-to-act": "9.62 10 0.09 20 101.95",
            "FFN projections": "57.98 60 0.1 25 558.54",
            "Other": "0.42 0.4 0.16 37 2.73",
            "Total": "97.02 100 0.42 100 231.0",
        },
        4096: {
            "MHA projections": "231.93 18 0.33 3 702.17",
            "MHA act-to-act": "616.02 46 4.98 44 123.63",
            "FFN projections": "463.86 35 0.43 4 1068.52",
            "Other": "11.85 1 5.47 49 2.16",
            "Total": "1323.66 100 11.22 100 117.96",
        },
    },
    "table 10": {
        128: {
            "MHA projections": "7.25 32 0.04 28 192.0",
            "MHA act-to-act": "0.6 3 0.01 4.7 95.69",
            "FFN projections": "14.47 65 0.07 51 211.86",
            "Other": "0.07 0.3 0.02 16 3.3",
            "Total": "22.42 100 0.13 100 167.14",
        },
        512: {
            "MHA projections": "28.99 30 0.07 21 438.86",
            "MHA act-to-act": "9.65 10 0.04 14 219.04",
            "FFN projections": "57.98 60 0.1 32 558.54",
            "Other": "0.32 0.3 0.1 33 3.07",
            "Total": "96.94 100 0.32 100 303.59",
        },
        4096: {
            "MHA projections": "231.93 18 0.33 7 702.17",
            "MHA act-to-act": "617.63 47 1.76 37 350.61",
            "FFN projections": "463.86 35 0.43 9 1068.52",
            "Other": "5.41 0.4 2.25 47 2.4",
            "Total": "1318.83 100 4.78 100 276.0",
        },
    },
    "table 11": {
        128: {
            "MHA projections": "7.25 33 3.63 33 2.0",
            "MHA act-to-act": "0.3 1 0.16 1 1.92",
            "FFN projections": "14.5 66 7.26 66 2.0",
            "Other": "0.07 0.3 0.03 0.3 2.58",
            "Total": "22.12 100 11.08 100 2.0",
        },
        512: {
            "MHA projections": "28.99 32 14.53 32 2.0",
            "MHA act-to-act": "4.83 5 2.45 5 2.0",
            "FFN projections": "57.98 63 29.04 63 2.0",
            "Other": "0.35 0.4 0.14 0.3 2.47",
            "Total": "92.15 100 46.17 100 2.0",
        },
        4096: {
            "MHA projections": "231.93 23 116.27 23 2.0",
            "MHA act-to-act": "309.24 31 155.98 31 1.98",
            "FFN projections": "463.86 46 232.31 46 2.0",
            "Other": "7.02 0.7 3.25 0.6 2.16",
            "Total": "1012.04 100 507.8 100 1.99",
        },
    },
}
# The paper's own slips, and the only numbers of the three tables that do not follow from its way of counting.
SLIPS = {
    ("table 3", 128, "MHA act-to-act", "MOPs"),  # 0.006; its own intensity, 63.62, gives 0.0094
    ("table 3", 512, "MHA act-to-act", "% MOPs"),  # 20; it is 22.5, and the column sums to 98
    ("table 10", 128, "FFN projections", "FLOPs"),  # 14.47; table 3 prints 14.50
    ("table 11", 512, "MHA projections", "% FLOPs"),  # 32; it is 31.46
    ("table 11", 512, "MHA projections", "% MOPs"),  # 32; it is 31.48
}
# Figures 4, 5 and 6: length → GFLOPs, GMOPs, FLOPs/MOP.
FIGURES: dict[str, dict[int, str]] = {
    "BERT-Base": {
        128: "22 0.1 160",
        256: "46 0.2 215",
        512: "97 0.4 231",
        1024: "214 1.1 202",
        2048: "505 3.2 156",
        4096: "1324 11.2 117",
    },
    # The figures' GFLOPs for BERT-Large (73, 149, 310, 673, 1554, 3942) are short by 24·2·d²·l, as if the four projections were
    # 768 wide inside, and their intensities (171, 239, 266, 235, 179, 131) are of those: here are those of its real shapes.
    "BERT-Large": {
        128: "79.1 0.4 175.8",
        256: "161.5 0.6 249.1",
        512: "336.0 1.2 281.0",
        1024: "724.2 2.9 250.2",
        2048: "1657.0 8.7 190.2",
        4096: "4148.2 29.9 138.2",
    },
    "GPT-2": {
        128: "22 11.1 2",
        256: "45 22.5 2",
        512: "92 46.2 2",
        1024: "194 97.3 2",
        2048: "428 214.3 2",
        4096: "1012 507.8 2",
    },
}


def with_heads(heads: int) -> Any:
    """BERT Base cut into another number of heads, as in table 10."""
    model = load_model("bert-base")
    assert not isinstance(model, ConvolutionalModel)
    layer = model.encoder[0]
    assert layer.attention is not None
    cut = replace(layer.attention, heads=heads, kv_heads=heads, head_size=768 // heads)
    return replace(model, encoder=(replace(layer, attention=cut),))


SUBJECTS: dict[str, tuple[Any, str]] = {
    "table 3": ("bert-base", "survey-encoder"),
    "table 10": (with_heads(4), "survey-encoder"),
    "table 11": ("gpt2", "survey-decoder"),
    "BERT-Base": ("bert-base", "survey-encoder"),
    "BERT-Large": ("bert-large", "survey-encoder"),
    "GPT-2": ("gpt2", "survey-decoder"),
}


@cache
def counted(subject: str, length: int) -> dict[str, tuple[float, ...]]:
    """The five columns of every class, and of the total."""
    model, convention = SUBJECTS[subject]
    found = count(model, convention=convention, prompt=length)
    assert found.groups.keys() == set(CLASSES.values()) - {"total"}
    rows = {**found.groups, "total": found.total}
    whole = found.total
    return {
        name: (one.flops / 1e9, 100 * one.flops / whole.flops, one.bytes / 1e9, 100 * one.bytes / whole.bytes, one.intensity)
        for name, one in rows.items()
    }


def agrees(value: float, printed: str) -> bool:
    """Say whether a value rounds or truncates to a printed number, at as many digits as the print shows."""
    step = 10.0 ** -(len(printed.split(".")[1]) if "." in printed else 0)
    return any(math.isclose(way(value / step) * step, float(printed), rel_tol=1e-9) for way in (round, math.floor))


def off(subject: str, length: int, operator: str, row: list[str], columns: tuple[str, ...] = COLUMNS) -> set[tuple[Any, ...]]:
    """The numbers of a row that do not agree."""
    values = counted(subject, length)[CLASSES[operator]]
    return {
        (subject, length, operator, column)
        for column, value, printed in zip(COLUMNS, values, row, strict=True)
        if column in columns and not agrees(value, printed)
    }


@pytest.mark.parametrize("table", PRINTED)
def test_every_printed_number_agrees_but_for_the_five_slips(table: str):
    found: set[tuple[Any, ...]] = set()
    for length, rows in PRINTED[table].items():
        for operator, row in rows.items():
            found |= off(table, length, operator, row.split())
    assert found == {slip for slip in SLIPS if slip[0] == table}


@pytest.mark.parametrize("model", FIGURES)
def test_end_to_end_figures(model: str):
    wrong = {}
    for length, row in FIGURES[model].items():
        flops, _, moved, _, intensity = counted(model, length)["total"]
        pairs = zip((flops, moved, intensity), row.split(), strict=True)
        wrong |= {(length, printed): value for value, printed in pairs if not agrees(value, printed)}
    assert wrong == {}


def test_bert_large_by_the_formulas():
    """Closed formulas of the survey's counts: L layers, width d, h heads, feed-forward f = 4d, l tokens."""
    layers, d, h, f = 24, 1024, 16, 4096
    for length in FIGURES["BERT-Large"]:
        found = counted("BERT-Large", length)
        by_hand = {
            "projections": (8 * d**2 * length, 4 * (d**2 + 2 * length * d)),
            "attention": (
                h * ((2 * d / h - 1) * length**2 + (2 * length - 1) * length * d / h),
                2 * (2 * length * d + h * length**2),
            ),
            "feed-forward": (4 * d * f * length, 2 * (d * f + length * d + length * f)),
            "other": (58 * length * d + 4 * h * length**2, 9 * length * d + 2 * length * f + 2 * h * length**2 + 4 * d),
        }
        for name, (flops, moved) in by_hand.items():
            assert found[name][0] == pytest.approx(layers * flops / 1e9, rel=1e-12)
            assert found[name][2] == pytest.approx(layers * moved / 1e9, rel=1e-12)


def test_the_copied_figures_are_those_of_the_facts(facts: Path):
    """The tables above against the facts' own copy of the paper; BERT-Large's GFLOPs are corrected above."""
    with (facts / "reference/A_per_operator.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["seq_len"]]
    assert len(rows) == sum(len(operators) for lengths in PRINTED.values() for operators in lengths.values())
    fields = ("FLOPs_1e9", "pct_FLOPs", "MOPs_1e9", "pct_MOPs", "arith_intensity")
    for row in rows:
        table = row["table"].replace("Tab", "table ")
        assert [row[name] for name in fields] == PRINTED[table][int(row["seq_len"])][row["operator"]].split()
    with (facts / "reference/A_end_to_end.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            flops, moved, intensity = FIGURES[row["model"]][int(row["seq_len"])].split()
            assert row["GMOPs_fig5"] == moved
            if row["model"] == "BERT-Large":
                assert agrees(float(flops) - 24 * 2 * 1024**2 * int(row["seq_len"]) / 1e9, row["GFLOPs_fig4"])
            else:
                assert (row["GFLOPs_fig4"], row["AI_fig6"]) == (flops, intensity)


# ---- ResNet-50 --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("resnet-50", 8.18),  # v1.5, stride 2 in the 3 × 3 convolutions: 4.09 G multiply-accumulates
        ("resnet-50-v1", 7.72),  # v1, stride 2 in the first 1 × 1 convolutions: 3.86 G
    ],
)
def test_resnet_50(model: str, expected: float):
    found = count(model, convention="pytorch", batch=1).total.flops / 1e9
    assert found == pytest.approx(expected, rel=0.01)
    # The survey's table 4 prints 7.26 for the convolutions: less than either, and more than v1 without its shortcuts (6.99).
    assert found > 7.26
