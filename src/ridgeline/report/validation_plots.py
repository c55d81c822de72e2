"""Pictures of a validation: predicted against measured times, a panel for each dataset, the architectures by colour."""

import math
from collections.abc import Mapping, Sequence

from ridgeline.report.panels import Curve, Panel, PanelPicture
from ridgeline.validation.compare import Judged
from ridgeline.validation.schema import chip_of

BAND = 0.2  # about the line of equal times, on either side
PICTURES: Mapping[str, tuple[str, ...]] = {  # by kind of row
    "products": ("product",),
    "attention": ("attention", "latent"),
    "experts": ("experts", "grouped"),
    "exchanges": ("exchange",),
    "vectors": ("vector",),
}
_COLUMNS = 2
_TOGETHER = {  # architectures that share a colour
    **dict.fromkeys(("amd-cdna", "amd-cdna2", "amd-cdna3", "amd-cdna4"), "amd"),
    **dict.fromkeys(("nvidia-volta", "nvidia-turing"), "nvidia-volta, -turing"),
}


def pictures(rows: Sequence[Judged]) -> dict[str, PanelPicture]:
    """Return a picture for each kind of operation that there are rows of, by its name."""
    found: dict[str, PanelPicture] = {}
    for name, kinds in PICTURES.items():
        own = [one for one in rows if one.prediction.kind in kinds and one.ratio > 0 and not one.suspect]
        datasets = sorted({one.prediction.row.dataset for one in own})
        if own:
            panels = [_panel(dataset, [one for one in own if one.prediction.row.dataset == dataset]) for dataset in datasets]
            title = f"{name.capitalize()}: predicted against measured, each chip left out of the fit that predicts it"
            subtitle = f"lines: equal, and {100 * BAND:.0f} % more and less; × the mean factor by which predictions are off"
            found[name] = PanelPicture(title, subtitle, panels, columns=min(_COLUMNS, len(panels)))
    return found


def _panel(dataset: str, rows: Sequence[Judged]) -> Panel:
    """Return measured and predicted times of a dataset's rows, and the lines between which they should lie."""
    points: dict[str, list[tuple[float, float]]] = {}
    for one in rows:
        measured = one.prediction.row.measured
        family = chip_of(one.prediction.row.chip).family
        points.setdefault(_TOGETHER.get(family, family), []).append((measured, measured * one.ratio))
    ends = [min(x for own in points.values() for x, _ in own), max(x for own in points.values() for x, _ in own)]
    lines = [
        Curve("equal", ends, ends),
        *(
            Curve(f"{factor:g}", ends, [end * factor for end in ends], dashed=True, listed=False, colour_of="equal")
            for factor in (1.0 + BAND, 1.0 - BAND)
        ),
    ]
    clouds = [Curve(name, [x for x, _ in own], [y for _, y in own], joined=False) for name, own in sorted(points.items())]
    spread = math.exp(sum(abs(math.log(one.ratio)) for one in rows) / len(rows))
    return Panel(
        y_label="predicted (s)",
        x_label="measured (s)",
        x_log=True,
        y_log=True,
        curves=[*clouds, *lines],
        title=f"{dataset}: {len(rows)} rows, × {spread:.2f}",
    )
