"""An edge accelerator for BERT-Base at 16 nm, within 10 mm² and 2 W, from the case study's baseline.

    python studies/edge_accelerator.py [--samples 200] [--pin-area 0.05] [--energy 1] [--plot FILE.svg] [--json]

starts from the array made for convolutional networks, takes its functions on the chip, and then always the one change of one notch
in one quantity that shortens the inference most and keeps area and power. Designs drawn at random from the same space say how good
the end is.
"""

import argparse
import json
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import ridgeline as rl
from ridgeline.catalogue.silicon import technology_of
from ridgeline.costs.components import activation_area, chip_area, chip_coefficients
from ridgeline.costs.scaling import scale_delay
from ridgeline.errors import RidgelineError
from ridgeline.report.panels import Curve, Panel, PanelPicture, write_panels
from ridgeline.results import Estimate
from ridgeline.specs.chip import Chip

NODE = 16e-9
AREA, POWER = 10e-6, 2.0  # m², W
STARTS = 5  # of the best random designs, from which paths are followed as well
LENGTHS = (128, 512)  # tokens; a design's time is their geometric mean
CLOCK = 1e9  # at the nominal voltage

# Published areas of the array, scratchpad and accumulator of a Gemmini at 22 nm [genc2021gemmini, figure 6]: banks, ports, control
# and placement that the coefficients leave out. What the coefficients give is multiplied by the ratio.
PUBLISHED, PUBLISHED_NODE = (0.116e-6 + 0.544e-6 + 0.146e-6), 22e-9
HOST_AREA = 0.171e-6 * 0.86  # its scalar core, the cells of 16 nm against 20 nm
PIN_RATE, DRAM_ENERGY = 4.266e9 / 8.0, 6.5e-12 * 8.0  # LPDDR4X: B/s a pin, J/B, an estimate (technology.csv)

SPACE: dict[str, tuple[float, ...]] = {
    "side": (8, 16, 24, 32, 48, 64, 96, 128),
    "arrays": (1, 2, 4),
    "scratchpad": (64, 128, 256, 512, 1024, 2048, 4096),  # KiB
    "accumulator": (32, 64, 128, 256, 512, 1024, 2048),  # KiB
    "pins": (16, 32, 64),
    "requests": (16, 32, 64, 128),  # of 64 B under way
    "units": (0, 8, 16, 32, 64, 128),  # for integer functions; 0: the host computes them
    "voltage": (0.6, 0.65, 0.7, 0.75, 0.8),
}


class Design(NamedTuple):
    """A point of the space."""

    side: float = 16
    arrays: float = 1
    scratchpad: float = 256
    accumulator: float = 64
    pins: float = 32
    requests: float = 16
    units: float = 0
    voltage: float = 0.8


class Margins(NamedTuple):
    """What the coefficients of the node leave out, as factors, and what is estimated."""

    area: float  # of array, memories and units
    pin: float = 0.05e-6  # area of a memory interface for each data pin, m²
    energy: float = 1.0  # of everything on the chip


class Result(NamedTuple):
    """What a design takes."""

    design: Design
    area: float
    time: float  # geometric mean over the lengths
    power: float  # the largest over the lengths, main memory included
    times: tuple[float, ...]
    energies: tuple[float, ...]
    bounds: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """Whether area and power are kept."""
        return self.area <= AREA and self.power <= POWER


def chip_of(design: Design) -> Chip:
    """Return the chip: the case study's files, at another node, with other sizes."""
    base = rl.load_chip("gemmini-ibert" if design.units else "gemmini")
    technology, _ = technology_of(NODE)
    node = technology.node
    slower = scale_delay(1.0, source=node, source_voltage=node.nominal, target=node, target_voltage=design.voltage)
    clock, macs = CLOCK / slower, design.side**2
    cycle = 1.0 / clock
    fed = replace(base.matrix_unit.instructions, stream=design.side, preload=design.side * cycle)
    fed = replace(fed, least=4 * cycle, issue=7.67 * cycle, gap=0.80 * cycle)
    sizes = {
        "accumulator": {"capacity": design.accumulator * 1024.0, "bandwidth": 4.0 * design.side * design.arrays * clock},
        "scratchpad": {"capacity": design.scratchpad * 1024.0, "bandwidth": 2.0 * design.side * design.arrays * clock},
        "dram": {"bandwidth": design.pins * PIN_RATE, "energy": DRAM_ENERGY, "capacity": 4e9, "technology": "LPDDR4X"},
    }
    lanes = {"int32": (8.0 * design.units or 16.0) * clock}
    return replace(
        base,
        name=f"edge {design.side:g}×{design.side:g}×{design.arrays:g}",
        package=replace(base.package, node=NODE, process=None, voltage=design.voltage),
        technology=technology,
        cores=replace(base.cores, clock=clock),
        matrix_unit=replace(
            base.matrix_unit,
            count=design.arrays,
            shape=(int(design.side), int(design.side)),
            instructions=fed,
            macs_per_cycle={"int8": macs * design.arrays},
            rate={"int8": 2.0 * macs * design.arrays * clock},
        ),
        vector_unit=replace(base.vector_unit, lanes=design.units or None, rate=lanes),
        memory=tuple(replace(level, **sizes[level.name]) for level in base.memory),
        transfer=replace(base.transfer, in_flight=design.requests, cost_per_tile=241 * cycle),
        host=base.host if design.units == 0 else replace(base.host, rate=None, bandwidth=None),
    )


def modelled_area(chip: Chip, design: Design) -> float:
    """Return the area of what the coefficients know: array, memories, units for functions."""
    parts = dict(chip_area(chip))
    parts.pop("vector unit", None)  # the units below are the lanes
    found = chip_coefficients(chip)
    return sum(parts.values()) + (design.units * activation_area(found) if found and design.units else 0.0)


def left_out() -> float:
    """Return by how much published areas exceed those of the coefficients."""
    base = rl.load_chip("gemmini")
    technology, _ = technology_of(PUBLISHED_NODE)
    chip = replace(base, package=replace(base.package, node=PUBLISHED_NODE, voltage=None), technology=technology)
    return PUBLISHED / modelled_area(chip, Design())


def area_of(chip: Chip, design: Design, margins: Margins) -> dict[str, float]:
    """Return a design's area by part."""
    return {
        "array, memories, units": margins.area * modelled_area(chip, design),
        "scalar core": HOST_AREA,
        "memory interface": design.pins * margins.pin,
    }


def evaluate(design: Design, margins: Margins) -> Result | None:
    """Return what a design takes; None where its area is too large or no tile fits it."""
    chip = chip_of(design)
    area = sum(area_of(chip, design, margins).values())
    if area > AREA:
        return None
    model = replace(rl.load_model("bert-base"), head="none")
    try:
        found = [
            rl.analyze(model, chip, phase="encode", prompt=length, precision="int8", level="mapped").estimate for length in LENGTHS
        ]
    except RidgelineError:
        return None
    times = tuple(float(one.time) for one in found)
    energies = tuple(_energy(one, margins) for one in found)
    power = max(energy / time for energy, time in zip(energies, times, strict=True))
    mean = float(times[0] * times[1]) ** 0.5
    return Result(design, area, mean, power, times, energies, tuple(str(one.bound) for one in found))


def _energy(found: Estimate, margins: Margins) -> float:
    """Return the energy of an inference, that of main memory as it is."""
    whole, memory = float(found.energy or 0.0), float(found.cost.energy.get("memory.dram", 0.0))
    return memory + margins.energy * (whole - memory)


def notches(design: Design) -> Iterator[tuple[str, Design]]:
    """Yield every design that is one notch away in one quantity."""
    for name, values in SPACE.items():
        place = values.index(getattr(design, name))
        for near in (place - 1, place + 1):
            if 0 <= near < len(values):
                yield f"{name} {getattr(design, name):g} → {values[near]:g}", design._replace(**{name: values[near]})


def descend(start: Design, margins: Margins, seen: dict[Design, Result | None]) -> list[tuple[str, Result]]:
    """Return the path from a start: always the notch that shortens the time most; pairs of notches where none does."""
    now = _look(start, margins, seen)
    if now is None:
        return []
    path = [("start", now)]
    while True:
        near = [(said, _look(design, margins, seen)) for said, design in notches(now.design)]
        best = _best(near, now)
        if best is None:
            twice = [(f"{first}, {second}", design) for first, one in notches(now.design) for second, design in notches(one)]
            best = _best([(said, _look(design, margins, seen)) for said, design in twice], now)
        if best is None:
            return path
        path.append(best)
        now = best[1]


def _look(design: Design, margins: Margins, seen: dict[Design, Result | None]) -> Result | None:
    if design not in seen:
        seen[design] = evaluate(design, margins)
        if len(seen) % 50 == 0:
            print(f"{len(seen)} designs", file=sys.stderr)
    return seen[design]


def _best(near: Sequence[tuple[str, Result | None]], now: Result) -> tuple[str, Result] | None:
    """Return the best step that keeps the limits and gains at least a part in a thousand."""
    good = [(said, one) for said, one in near if one is not None and one.fits and one.time < 0.999 * now.time]
    return min(good, key=lambda one: one[1].time, default=None)


def drawn(count: int, margins: Margins, seen: dict[Design, Result | None]) -> list[Result]:
    """Return results of designs drawn at random from those that keep the area."""
    draw = random.Random(0)
    found: list[Result] = []
    while len(found) < count:
        design = Design(
            **{name: draw.choice(values) for name, values in SPACE.items() if name != "units"},
            units=draw.choice((8, 16, 32, 64, 128)),
        )
        one = _look(design, margins, seen)
        if one is not None:
            found.append(one)
    return found


def as_row(said: str, one: Result, margins: Margins) -> dict[str, Any]:
    """Return a step of the path for programs."""
    chip = chip_of(one.design)
    clock = chip.cores.clock if chip.cores else 0.0
    row = {"change": said, **one.design._asdict(), "clock": clock, "area": area_of(chip, one.design, margins), "power": one.power}
    return {
        **row,
        "time": dict(zip(LENGTHS, one.times, strict=True)),
        "energy": dict(zip(LENGTHS, one.energies, strict=True)),
        "bound": one.bounds,
    }


def shown(path: Sequence[tuple[str, Result]], others: Sequence[Result], best: Result, margins: Margins) -> str:
    """Return the path and how the end compares with designs drawn at random, as text."""
    lines = [f"{'change':44} {'128 tokens':>11} {'512 tokens':>11} {'energy 512':>11} {'power':>8} {'area':>9}  binds at 512"]
    for said, one in path:
        lines.append(
            f"{said:44} {one.times[0] * 1e3:8.2f} ms {one.times[1] * 1e3:8.2f} ms {one.energies[1] * 1e3:8.1f} mJ"
            f" {one.power:6.2f} W {one.area * 1e6:5.2f} mm²  {one.bounds[1]}"
        )
    good = [one for one in others if one.fits]
    faster = sum(one.time < path[-1][1].time for one in good)
    lines.append(f"{len(good)} of {len(others)} random designs within 10 mm² keep 2 W; {faster} are faster than the path's end")
    for said, one in (("the path's end", path[-1][1]), ("the best end from random starts", best)):
        parts = ", ".join(
            f"{name} {1e6 * value:.2f} mm²" for name, value in area_of(chip_of(one.design), one.design, margins).items()
        )
        values = ", ".join(f"{name} {value:g}" for name, value in one.design._asdict().items())
        times = " and ".join(f"{1e3 * time:.2f} ms" for time in one.times)
        lines.append(f"{said}: {times}, {one.energies[1] * 1e3:.1f} mJ, {one.power:.2f} W: {values}; {parts}")
    return "\n".join(lines)


def picture(path: Sequence[tuple[str, Result]], others: Sequence[Result], best: Result) -> PanelPicture:
    """Return the path's times, and time against power of all designs."""
    steps = range(len(path))
    walked = [
        Curve(f"{length} tokens", steps, [one.times[index] * 1e3 for _, one in path], marked=True)
        for index, length in enumerate(LENGTHS)
    ]
    good, bad = [one for one in others if one.fits], [one for one in others if not one.fits]
    named = (("random, within 2 W", good), ("random, above 2 W", bad), ("best end from random starts", [best]))
    clouds = [
        Curve(name, [one.power for one in some], [one.time * 1e3 for one in some], joined=False) for name, some in named if some
    ]
    clouds.append(Curve("the path", [one.power for _, one in path], [one.time * 1e3 for _, one in path], marked=True))
    return PanelPicture(
        "BERT-Base at the edge",
        "16 nm, at most 10 mm² and 2 W with LPDDR4X",
        [
            Panel("ms", walked, x_label="step of the path", y_log=True),
            Panel("ms, mean of both lengths", clouds, x_label="W", y_log=True, x_log=True, title="time and power"),
        ],
    )


def main() -> None:
    """Run the study."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=200, help="designs drawn at random")
    parser.add_argument("--pin-area", type=float, default=0.05, help="mm² of a memory interface for each data pin")
    parser.add_argument("--energy", type=float, default=1.0, help="factor on the energy of everything on the chip")
    parser.add_argument("--plot", type=Path, help="picture: .html, .svg or .png")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    margins = Margins(left_out(), asked.pin_area * 1e-6, asked.energy)
    seen: dict[Design, Result | None] = {}
    baseline = evaluate(Design(), margins)
    path = ([("baseline: functions on the host", baseline)] if baseline else []) + descend(Design(units=16), margins, seen)
    others = drawn(asked.samples, margins, seen)
    starts = sorted((one for one in others if one.fits), key=lambda one: one.time)[:STARTS]
    ends = [descend(one.design, margins, seen)[-1][1] for one in starts] + [path[-1][1]]
    best = min(ends, key=lambda one: one.time)
    if asked.plot:
        write_panels(picture(path, others, best), asked.plot)
    rows = [as_row(said, one, margins) for said, one in path]
    print(
        json.dumps({"path": rows, "best": as_row("best", best, margins), "margins": margins._asdict()}, indent=1)
        if asked.json
        else shown(path, others, best, margins)
    )


if __name__ == "__main__":
    main()
