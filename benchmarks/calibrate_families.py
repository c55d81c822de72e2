"""Fit the constants of chip families and software stacks to measured rows, judge them on chips left out, write what was found.

    RIDGELINE_FACTS=… python benchmarks/calibrate_families.py [--write]

reads measured/dev/*.csv below that folder. With `--write` the catalogue's families and stacks and docs/validation.md take the
new values; no measured row enters any of them. Run `calibrate_intervals.py --write` after it: the intervals are of these constants.
"""

import os
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

from ridgeline.api.validation import validate
from ridgeline.catalogue import families as catalogue
from ridgeline.report.panels import write_panels
from ridgeline.report.validation_page import Tables, page
from ridgeline.report.validation_plots import pictures
from ridgeline.validation import calibrate, compare, schema
from ridgeline.validation.predict import Constants, kind_of, predict

ROOT = Path(__file__).parents[1]
UNITS = {"B": 1.0, "pJ/FLOP": 1e-12, "us": 1e-6, "1": 1.0}


def shown(value: float) -> float:
    return float(f"{value:.3g}")


def text(value: Any) -> str:
    if isinstance(value, str):
        return '"' + value.replace('"', '\\"') + '"'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key if key.isidentifier() else text(key)} = {text(one)}" for key, one in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(text, value)) + "]"
    return repr(value)


def dump(raw: dict[str, Any]) -> str:
    plain = {name: one for name, one in raw.items() if name not in ("constant", "fixed_of")}
    lines = [f"{name} = {text(one)}" for name, one in plain.items()]
    for table in ("constant", "fixed_of"):
        if table in raw:
            lines += ["", f"[{table}]"]
            lines += [
                f"{name if name.isidentifier() or '-' in name else text(name)} = {text(one)}" for name, one in raw[table].items()
            ]
    return "\n".join(lines) + "\n"


def write(fit: calibrate.Fit, out: calibrate.LeftOut, chips: dict[str, list[str]]) -> None:
    for parameter in calibrate.PARAMETERS:
        kind = "families" if parameter.of == "family" else "stacks"
        path = Path(catalogue.FOLDER) / kind / f"{parameter.owner}.toml"
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
        table = raw["constant"] if parameter.of == "family" else raw
        one = table[parameter.name]
        if parameter.of == "stack" and parameter.key:
            one = one[parameter.key]
        factor = UNITS[one.get("unit", "1")]
        value = shown(fit.values[parameter.title] / factor)
        found = [each.values[parameter.title] / factor for each in out.fits.values()]
        if isinstance(one["value"], dict):
            one["value"][parameter.key] = value
        else:
            one["value"] = value
        one["spread"] = [shown(min(found)), shown(max(found))]
        raw["fitted_chips"] = chips[parameter.owner]
        path.write_text(dump(raw), encoding="utf-8")


def fitted_chips(prepared: calibrate.Prepared) -> dict[str, list[str]]:
    """Chips whose rows fixed what an owner's constants are: its own family's, and those that build on it."""
    found: dict[str, set[str]] = {one.owner: set() for one in calibrate.PARAMETERS}
    for _, group in prepared.groups:
        for owner in found:
            if any(name == owner or name.startswith(f"{owner}-") for name in (group.family.name, group.stack.name)):
                found[owner].add(group.chip.name)
    return {owner: sorted(chips) for owner, chips in found.items()}


def write_pictures(rows: list[compare.Judged]) -> list[str]:
    """Draw predicted against measured times beside the page, and return the names of the pictures from there."""
    names: list[str] = []
    for name, picture in pictures(rows).items():
        write_panels(picture, ROOT / "docs" / "images" / f"validation-{name}.png")
        names.append(f"images/validation-{name}.png")
    return names


def main() -> None:
    start = time.perf_counter()
    folder = Path(os.environ["RIDGELINE_FACTS"]) / "measured" / "dev"
    suspects = compare.read_suspects(folder)
    read = [row for path in sorted(folder.glob("*.csv")) for row in schema.read(path).rows]
    rows = [row for row in read if (kind := kind_of(row)) and not kind.whole]  # whole models fix no constant of a kernel
    scored = [row for row in rows if (row.dataset, row.id) not in suspects]
    prior = Constants.before_any_fit()
    prepared = calibrate.prepare(scored, prior)
    fit = calibrate.fit(prepared, prior, calibrate.PARAMETERS)
    print(f"fitted in {time.perf_counter() - start:.0f} s, cost {fit.cost:.1f}", file=sys.stderr)
    out = calibrate.leave_chips_out(scored, prior, rounds=6)
    halves = calibrate.leave_shapes_out(scored, prior, rounds=6)
    print(f"left out in {time.perf_counter() - start:.0f} s", file=sys.stderr)
    for parameter in calibrate.PARAMETERS:
        found = [one.values[parameter.title] for one in out.fits.values()]
        print(f"{parameter.title:40s} {fit.values[parameter.title]:10.4g}   {min(found):10.4g} to {max(found):.4g}")
    predicted = {"out": out.predictions, "half": halves, "zero": predict(rows, prior)}
    judged = {name: compare.judged(found, suspects) for name, found in predicted.items()}
    tables = {name: compare.slices(found, frozenset()) for name, found in judged.items()}
    for one in tables["out"]:
        print(f"{one.dataset:20s} {one.slice:14s} {one.rows:5d} {100 * one.median_ape:6.1f} {100 * one.mape:6.1f}")
    if "--write" in sys.argv:
        write(fit, out, fitted_chips(prepared))
        for cached in (catalogue.families, catalogue.stacks, catalogue.constants, catalogue.fitted_chips):
            cached.cache_clear()
        found = validate(sorted({row.file for row in rows}))
        images = write_pictures(judged["out"])
        text_of = page(found, Tables(tables["out"], tables["half"], tables["zero"]), judged["out"], images)
        (ROOT / "docs" / "validation.md").write_text(text_of, encoding="utf-8")


if __name__ == "__main__":
    main()
