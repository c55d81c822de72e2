"""Tables of published figures that the models are set beside."""

import csv
from functools import cache
from pathlib import Path
from typing import Any


@cache
def case_study_figures() -> dict[str, dict[str, Any]]:
    """Return the figures of the full-stack survey's case study by name: value, where it is printed, and a remark."""
    with Path(__file__).with_name("case_study.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {
        row["name"]: {"value": float(row["value"]), "source": row["source"], "where": row["where"], "remark": row["remark"]}
        for row in rows
    }
