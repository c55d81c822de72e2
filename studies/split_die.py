"""One die of stated area and power: how prefill and decode would split it, and what a chip for both loses.

    python studies/split_die.py [--out FOLDER] [--plot FILE.svg] [--json]

sweeps split_die.toml (Llama-3.1-70B in fp8 at 5 nm), and asks the points three questions for each budget and each limit on the time
of a token: the best design for prefill, the best for decode, and the best for both by the length of the answer.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ridgeline as rl
from ridgeline.report.panels import Bars, Curve, Panel, PanelPicture, write_panels

SPACE = Path(__file__).with_suffix(".toml")
PROMPT, PROMPTS = 2048, 4  # tokens of a prompt, prompts of a prefill step: as in the space
LIMITS = (0.02, 0.03, 0.05)  # of the time of a token
ANSWERS = (64, 256, 1024, 4096)  # tokens
PARTS = ("cores", "matrix units", "last-level cache", "HBM interfaces", "links and the rest", "left over")
_DESIGN = (
    '"cores.count" AS cores, "cores.clock" AS clock, "memory.l2.capacity" AS cache, stacks, width, '
    "die, core_area, unit_area, cache_area, hbm_area"
)
_PROMPT = f'"time.prefill" / {PROMPTS}'  # chip-seconds of a prompt
_TOKEN = '"time.decode" / batch'  # and of a token


def least(folder: Path, power: float, limit: float, cost: str) -> dict[str, Any]:
    """Return the design that costs least, with what a prompt and a token take on it, at its best batch; of equals the smallest."""
    found = rl.query(
        folder,
        f"SELECT {_DESIGN}, min({_PROMPT}) AS prompt_time, min({_TOKEN}) AS token_time, arg_min(batch, {_TOKEN}) AS batch, "
        f'min({cost}) AS cost FROM points WHERE feasible AND "package.power" = {power} AND "time.decode" <= {limit} '
        "GROUP BY ALL ORDER BY cost, die LIMIT 1",
    )
    return dict(zip(found[0], found[1][0], strict=True)) if found[1] else {}


def study(folder: Path) -> list[dict[str, Any]]:
    """Return, for each budget and limit, the designs that are best for prefill, for decode, and for both by length of answer."""
    powers = [row[0] for row in rl.query(folder, 'SELECT DISTINCT "package.power" AS p FROM points ORDER BY p')[1]]
    return [_row(folder, power, limit) for power in powers for limit in LIMITS]


def _row(folder: Path, power: float, limit: float) -> dict[str, Any]:
    row: dict[str, Any] = {"power": power, "limit": limit}
    prefill, decode = (least(folder, power, limit, cost) for cost in (_PROMPT, _TOKEN))
    if not prefill:
        return {**row, "feasible": False}
    both: list[dict[str, Any]] = []
    for answer in ANSWERS:
        shared = least(folder, power, limit, f"{_PROMPT} + {answer} * {_TOKEN}")
        apart = prefill["prompt_time"] + answer * decode["token_time"]
        both.append({"answer": answer, "loses": shared["cost"] / apart - 1.0, "design": shared})
    return {
        **row,
        "feasible": True,
        "prefill": prefill,
        "decode": decode,
        "both": both,
        "prefill_on_decode": decode["prompt_time"] / prefill["prompt_time"] - 1.0,
        "decode_on_prefill": prefill["token_time"] / decode["token_time"] - 1.0,
    }


def along_stacks(folder: Path, power: float, limit: float) -> list[tuple[float, float, float]]:
    """Return for each number of stacks the best tokens a second of prefill and of decode on the rest of the die."""
    return rl.query(
        folder,
        f"SELECT stacks, {PROMPT} / min({_PROMPT}), 1 / min({_TOKEN}) FROM points WHERE feasible "
        f'AND "package.power" = {power} AND "time.decode" <= {limit} GROUP BY stacks ORDER BY stacks',
    )[1]


def shown(rows: Sequence[dict[str, Any]]) -> str:
    """Return the findings as text."""
    lines: list[str] = []
    for row in rows:
        lines.append(f"{row['power']:g} W, a token within {row['limit'] * 1e3:g} ms" + ("" if row["feasible"] else ": no design"))
        if not row["feasible"]:
            continue
        lines += [_line("prefill", row["prefill"]), _line("decode", row["decode"])]
        lines += [_line(f"both, {one['answer']} out: loses {one['loses']:.1%}", one["design"]) for one in row["both"]]
        lines.append(f"  prefill on the chip for decode takes {row['prefill_on_decode']:+.1%},")
        lines[-1] += f" decode on the chip for prefill {row['decode_on_prefill']:+.1%}"
    return "\n".join(lines)


def _line(name: str, one: dict[str, Any]) -> str:
    design = f"{one['cores']:4.0f} cores × {one['width']:5.3g} at {one['clock'] / 1e9:.2f} GHz, {one['cache'] / 1e6:.0f} MB"
    rates = (
        f"prefill {PROMPT / one['prompt_time']:7,.0f} tokens/s, decode {1 / one['token_time']:6,.0f} at batch {one['batch']:.0f}"
    )
    return f"  {name:28} {design}, {one['stacks']:.0f} stacks, {one['die'] * 1e6:4.0f} mm²; {rates}"


def picture(folder: Path, rows: Sequence[dict[str, Any]]) -> PanelPicture:
    """Return the three pictures: rates over stacks, where the area goes, what one chip for both loses."""
    panels: list[Panel] = []
    for power in sorted({row["power"] for row in rows}):
        curves: list[Curve] = []
        for limit in LIMITS:
            found = along_stacks(folder, power, limit)
            if not found:
                continue
            for name, index in (("prefill", 1), ("decode", 2)):
                best = max(one[index] for one in found)
                label = "prefill" if name == "prefill" else f"decode within {limit * 1e3:g} ms"
                if name == "decode" or limit == LIMITS[-1]:
                    curves.append(Curve(label, [one[0] for one in found], [one[index] / best for one in found], marked=True))
        panels.append(Panel("tokens/s of the best", curves, x_label="HBM stacks", title=f"{power:g} W: best use of the rest"))
    for row in rows:
        if row["feasible"] and row["limit"] == LIMITS[1]:
            designs = [("prefill", row["prefill"]), ("decode", row["decode"])]
            designs += [(f"{one['answer']} out", one["design"]) for one in row["both"]]
            panels.append(_areas(row["power"], designs))
    kept = [row for row in rows if row["feasible"]]
    labels = [f"{answer} out" for answer in ANSWERS]
    bars = [
        Bars(f"{row['power']:g} W, {row['limit'] * 1e3:g} ms", labels, [100.0 * one["loses"] for one in row["both"]])
        for row in kept
    ]
    panels.append(Panel("%", bars=bars, title="what one chip for both loses"))
    return PanelPicture("Prefill and decode on one die", "Llama-3.1-70B, fp8, prompts of 2048 tokens, 5 nm", panels, columns=2)


def _areas(power: float, designs: Sequence[tuple[str, dict[str, Any]]]) -> Panel:
    labels = [name for name, _ in designs]
    budget, rest = 814.0 * power / 700.0, 60.0 * power / 700.0
    values = [
        [1e6 * one["core_area"] for _, one in designs],
        [1e6 * one["unit_area"] for _, one in designs],
        [1e6 * one["cache_area"] for _, one in designs],
        [1e6 * one["hbm_area"] for _, one in designs],
        [rest for _ in designs],
        [budget - 1e6 * one["die"] for _, one in designs],
    ]
    bars = [Bars(name, labels, value) for name, value in zip(PARTS, values, strict=True)]
    return Panel("mm²", bars=bars, stacked=True, title=f"{power:g} W: area, {LIMITS[1] * 1e3:g} ms a token")


def main() -> None:
    """Run the study."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="folder for the points; a run goes on where one stopped")
    parser.add_argument("--plot", type=Path, help="picture: .html, .svg or .png")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = asked.out or Path(scratch) / "points"
        swept = rl.explore(SPACE, folder)
        print(f"{swept.counts.points:,} points, {swept.counts.feasible:,} within area and memory", file=sys.stderr)
        rows = study(folder)
        if asked.plot:
            write_panels(picture(folder, rows), asked.plot)
    print(json.dumps(rows, indent=1) if asked.json else shown(rows))


if __name__ == "__main__":
    main()
