"""How far predictions were from measurements on chips left out: statistics by kind of kernel, which travel inside a chip.

Tuples of numbers and names, no quantities: a sweep or a sensitivity never varies what is known about errors.
"""

from typing import NamedTuple


class Residual(NamedTuple):
    """How wide 80 % of ln(measured / predicted) lay for one kind of kernel, or for the whole step of one software stack.

    Half-widths at a predicted time t are `lower + lower_short · τ / (τ + t)` downwards, and likewise upwards. What left out nothing
    has seen is missing: `families` names the architectures seen, `least` and `most` bound the times seen.
    """

    kind: str  # product:half, attention:decode, exchange, vector, step:llama.cpp:decode; `product` stands for formats not seen
    lower: float
    upper: float
    lower_short: float = 0.0
    upper_short: float = 0.0
    least: float = 0.0  # seconds
    most: float = float("inf")
    chips: int = 1  # left out in turn
    rows: int = 0
    families: tuple[str, ...] = ()
    seen: tuple[str, ...] = ()  # the chips

    def scaled(self, factor: float) -> "Residual":
        """Return it with half-widths a factor wider."""
        names = ("lower", "upper", "lower_short", "upper_short")
        return self._replace(**{name: factor * getattr(self, name) for name in names})


class Residuals(NamedTuple):
    """The residuals of all kinds, how they go together, and how they grow with distance from what was seen."""

    kinds: tuple[Residual, ...] = ()
    coverage: float = 0.8
    correlation: float = 0.5  # of two kernels in one step
    pair: float = 0.5  # of one kernel on two chips
    pair_step: float = 0.5  # of one whole step on two chips
    between: float = 0.0  # share of the variance of a kind's residuals that lies between chips
    unseen_chip: float = 1.0  # by which half-widths grow, beside what `between` says of the variance that few chips do not show
    unseen_family: float = 1.0
    unseen_format: float = 1.0
    beyond: float = 0.0  # exponent of the ratio by which a time lies outside the range seen

    def of(self, kind: str) -> Residual | None:
        """Return the residual of a kind, else of the kind that it belongs to: `product` for `product:fp4`."""
        while kind:
            for one in self.kinds:
                if one.kind == kind:
                    return one
            kind = kind.rpartition(":")[0]
        return None

    def on(self, chip: str) -> "Residuals":
        """Return the residuals as they are for a chip: wider for kinds of which no row is of it.

            unseen_chip / √(1 − between / chips)

        Rows of n chips show 1 − between / n of the variance of residuals over all chips, in the mean [searle1992variance, ch. 3].

        >>> known = Residuals(kinds=(Residual("vector", 0.1, 0.2, chips=1, seen=("a100",)),), between=0.36, unseen_chip=1.2)
        >>> round(known.on("h100").kinds[0].upper, 3), known.on("a100").kinds[0].upper  # 0.2 · 1.2 / 0.8
        (0.3, 0.2)
        """
        return self._replace(
            kinds=tuple(
                one if chip in one.seen or not one.seen else one.scaled(self.unseen_chip / (1.0 - self.between / one.chips) ** 0.5)
                for one in self.kinds
            )
        )
