"""Prediction intervals from measured rows: residuals with a chip left out, their quantiles by kind, and how they go together.

A chip is left out by two Gauss–Newton steps from the catalogue's constants towards those that the other chips' rows ask for
[cook1982residuals], and predicted in full with what they give. A whole fit of each would take twenty times as long.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from ridgeline.costs.uncertainty import CALL_TIME
from ridgeline.mapping.intervals import HalfWidths, half_widths, level_half_widths
from ridgeline.specs.residual import Residual, Residuals
from ridgeline.validation.calibrate import PRIOR, SCALE, STEP, Parameter, Prepared, prepare, read_value, with_values
from ridgeline.validation.predict import Constants, Prediction, predict
from ridgeline.validation.schema import RATES, Row, chip_of

LOW, HIGH = 0.1, 0.9
STEPS = 2  # of Gauss and Newton from the catalogue's constants to those without some rows
_ENOUGH = 10  # rows of a chip, for their mean to say something of it
_FAR = 1.1  # times beyond what was seen, from which a row says something of distance
LEAST = 0.02  # of a half-width: clocks and boards of one kind differ by as much
_LONGEST_STEP = 0.7
_PARENTS = ("product", "attention", "exchange", "served", "power")  # kinds of kinds
_LIKE = 0.5  # what like kinds weigh beside a kernel that one chip alone has, of services as much; with more chips so much less
_ROWS = 20  # of a kind at least, or the kind that it belongs to stands for it
_WHOLE = ("step", "served", "power")  # kinds whose half-widths do not depend on time


class Off(NamedTuple):
    """How far one prediction was off: the logarithm of measured over predicted time."""

    row: Row
    kind: str  # of the residual
    time: float  # predicted; of a rate its inverse
    residual: float
    lower: float = math.nan  # logarithms of the interval's factors
    upper: float = math.nan

    @property
    def chip(self) -> str:
        """The chip that was left out."""
        return self.row.chip


def off(one: Prediction) -> Off | None:
    """Return how far a prediction was off; None where there is none."""
    if not one.predicted or not math.isfinite(one.predicted):
        return None
    rate = one.row.unit in RATES
    residual = math.log(one.row.measured / one.predicted) * (-1.0 if rate else 1.0)
    bounds = (math.nan, math.nan)
    if one.lower and one.upper:
        found = math.log(one.lower / one.predicted), math.log(one.upper / one.predicted)
        bounds = (-found[1], -found[0]) if rate else found
    time = 1.0 / one.predicted if rate else one.predicted
    return Off(one.row, one.residual, time, residual, *bounds)


# ---- leaving out ------------------------------------------------------------------------------------------------------------


class Linear(NamedTuple):
    """A fit near its optimum: its rows, the slopes of their residuals by the logarithms of the constants, and what weighs them."""

    rows: list[Row]
    slopes: Any
    residual: Any
    weights: Any
    point: Any  # logarithms of the constants
    start: Any  # of the documented values
    upper: Any


def linear(rows: Sequence[Row], constants: Constants, prior: Constants, parameters: Sequence[Parameter]) -> Linear:
    """Return the slopes of all rows' residuals by every constant at the catalogue's values."""
    prepared = prepare(rows, constants)
    point = np.log([read_value(constants, one) for one in parameters])
    base = _logarithms(prepared, constants, constants, [])
    slopes: list[Any] = []
    for at, one in enumerate(parameters):
        moved = with_values(constants, [one], [float(np.exp(point[at] - STEP))])
        stepped = _logarithms(prepared, moved, constants, base)
        slopes.append((np.concatenate(stepped) - np.concatenate(base)) / -STEP)
    weights = np.concatenate(prepared.weights)
    return Linear(
        rows=[row for _, group in prepared.groups for row in group.rows],
        slopes=np.stack(slopes, axis=1),
        residual=np.concatenate(base) - np.concatenate(prepared.logarithms),
        weights=weights / weights.mean(),
        point=point,
        start=np.log([read_value(prior, one) for one in parameters]),
        upper=np.log([one.upper for one in parameters]),
    )


def _logarithms(prepared: Prepared, constants: Constants, base: Constants, known: Sequence[Any]) -> list[Any]:
    """Return the logarithms of predicted times by group; those that no constant moves from `base` as they are known."""
    families = {one.name: one for one in constants.families}
    stacks = {one.name: one for one in constants.stacks}
    same = {one.name for one in base.families if families[one.name] is one}
    same_stacks = {one.name for one in base.stacks if stacks[one.name] is one}
    found: list[Any] = []
    for at, (kind, group) in enumerate(prepared.groups):
        if known and group.family.name in same and group.stack.name in same_stacks:
            found.append(known[at])
            continue
        own = replace(group, family=families[group.family.name], stack=stacks[group.stack.name])
        found.append(np.log(np.broadcast_to(kind.predict(own).time, (len(group.rows),))))
    return found


class Leaving(NamedTuple):
    """What leaving rows out takes: the rows that fix constants, the catalogue's fit near its optimum, and where fits start."""

    rows: Sequence[Row]
    constants: Constants
    prior: Constants
    parameters: Sequence[Parameter]
    fitted: Linear

    @classmethod
    def of(cls, rows: Sequence[Row], constants: Constants, prior: Constants, parameters: Sequence[Parameter]) -> "Leaving":
        """Return it for some rows and the constants as they stand."""
        return cls(rows, constants, prior, parameters, linear(rows, constants, prior, parameters))

    def without(self, gone: Callable[[Row], bool], steps: int = STEPS) -> Constants:
        """Return the constants that the other rows ask for: Gauss–Newton steps of the fit from which some rows are gone.

        Documented values damp it as they damp the fit: a constant that the rows left out alone had fixed goes back to what is
        documented.
        """
        own, kept = _stepped(self, self.fitted, np.array([not gone(row) for row in self.fitted.rows])), ()
        for _ in range(steps - 1):
            kept = kept or [row for row in self.rows if not gone(row)]
            again = linear(kept, own, self.prior, self.parameters)
            own = _stepped(self, again, np.ones(len(again.rows), dtype=bool))
        return own

    def residuals(self, rows: Sequence[Row], key: Callable[[Row], str], steps: int = STEPS) -> list[Off]:
        """Return how far rows are off where the constants know none of their group: of their chip, family or format."""
        found: list[Off] = []
        for group in sorted({key(row) for row in rows}):
            own = self.without(lambda row, group=group: key(row) == group, steps)
            found += present(predict([row for row in rows if key(row) == group], own))
        return found


def _stepped(leaving: Leaving, at: Linear, kept: Any) -> Constants:
    """Return the constants one Gauss–Newton step on, by the rows that are kept."""
    weight = at.weights / np.sqrt(1.0 + (at.residual / SCALE) ** 2)
    weighted = at.slopes[kept] * weight[kept, None]
    prior = (SCALE / PRIOR) ** 2
    normal = weighted.T @ at.slopes[kept] + np.eye(len(at.point)) * prior
    slope = weighted.T @ at.residual[kept] + prior * (at.point - at.start)
    step = np.clip(np.linalg.solve(normal, -slope), -_LONGEST_STEP, _LONGEST_STEP)
    point = np.minimum(at.point + step, np.maximum(at.upper, at.point))
    return with_values(leaving.constants, leaving.parameters, [float(one) for one in np.exp(point)])


def present(predictions: Iterable[Prediction]) -> list[Off]:
    """Return how far off predictions are, those that there are."""
    return [found for one in predictions if (found := off(one)) is not None]


# ---- quantiles --------------------------------------------------------------------------------------------------------------


def weights_of(rows: Sequence[Off]) -> Any:
    """Return weights by which a dataset on a chip counts by the square root of its rows."""
    sizes: dict[tuple[str, str], int] = {}
    for one in rows:
        sizes[one.row.dataset, one.chip] = sizes.get((one.row.dataset, one.chip), 0) + 1
    return np.array([sizes[one.row.dataset, one.chip] ** -0.5 for one in rows])


def quantile(values: Any, features: Any, weights: Any, share: float) -> Any:
    """Return the coefficients of a quantile that is linear in features [koenker1978quantiles], by reweighted least squares."""
    found = np.zeros(features.shape[1])
    found[0] = float(np.quantile(values, share))
    for _ in range(60):
        gap = values - features @ found
        weight = weights * np.where(gap > 0.0, share, 1.0 - share) / np.maximum(np.abs(gap), 1e-3)
        normal = features.T @ (weight[:, None] * features) + 1e-3 * np.diag([0.0] + [1.0] * (len(found) - 1))
        found = np.linalg.solve(normal, features.T @ (weight * values))
    return found


def call_share(time: Any) -> Any:
    """Return the share of a call's own time in a time, as `costs.uncertainty.half_width` has it."""
    return CALL_TIME / (CALL_TIME + np.asarray(time))


def borrowed_weights(rows: Sequence[Off], others: Sequence[Off], share: float) -> Any:
    """Return the weights of rows and of others, which together weigh a share of what the rows do."""
    own = weights_of(rows)
    if not others:
        return own
    lent = weights_of(others)
    return np.concatenate([own, lent * (share * own.sum() / lent.sum())])


def residual_of(kind: str, rows: Sequence[Off], others: Sequence[Off] = ()) -> Residual:
    """Return the residual of a kind from how far its rows are off; with few chips, rows of like kinds count as well."""
    both = [*rows, *others]
    values = np.array([one.residual for one in both])
    share = 1.0 if kind.startswith(_WHOLE) else _LIKE
    shares = borrowed_weights(rows, others, share / len({one.chip for one in rows}))
    features = np.stack([np.ones(len(both)), call_share([one.time for one in both])], axis=1)
    if kind.startswith(_WHOLE):
        features = features[:, :1]
    low, high = -quantile(values, features, shares, LOW), quantile(values, features, shares, HIGH)
    (lower, lower_short), (upper, upper_short) = (_both_ends(one) for one in (low, high))
    times = [] if kind.startswith(_WHOLE) else [one.time for one in rows]
    return Residual(
        kind=kind,
        lower=lower,
        upper=upper,
        lower_short=lower_short,
        upper_short=upper_short,
        least=min(times, default=0.0),
        most=max(times, default=math.inf),
        chips=len({one.chip for one in rows}),
        rows=len(rows),
        families=tuple(sorted({chip_of(one.chip).family for one in rows})),
        seen=tuple(sorted({chip_of(one.chip).name for one in rows})),
    )


def _both_ends(line: Any) -> tuple[float, float]:
    """Return a line's value for long kernels and what short ones add, both ends at least `LEAST`."""
    long, short = float(line[0]), float(line.sum())
    return max(long, LEAST), max(short, LEAST) - max(long, LEAST)


def kinds(rows: Sequence[Off]) -> tuple[Residual, ...]:
    """Return the residuals of all kinds: of each that has enough rows, and of the kinds that stand for what is not seen."""
    groups: dict[str, list[Off]] = {}
    for one in rows:
        groups.setdefault(one.kind, []).append(one)
    groups = {kind: members for kind, members in groups.items() if kind and len(members) >= _ROWS}
    found: list[Residual] = []
    for kind, members in sorted(groups.items()):
        parent = kind.partition(":")[0]
        like = [one for name, own in groups.items() if name != kind and name.partition(":")[0] == parent for one in own]
        found.append(residual_of(kind, members, like if parent in _PARENTS else []))
    for parent in _PARENTS:
        all_of = [one for name, own in groups.items() if name.partition(":")[0] == parent for one in own]
        if parent not in groups and all_of:
            found.append(residual_of(parent, all_of))
    return tuple(found)


def between_chips(rows: Sequence[Off]) -> float:
    """Return the share of the variance of residuals of one kind that lies between chips [searle1992variance, ch. 3].

    Of all kinds that two chips have, by their degrees of freedom; far outliers are held at e to either side.
    """
    groups: dict[str, dict[str, list[float]]] = {}
    for one in rows:
        groups.setdefault(one.kind, {}).setdefault(one.chip, []).append(min(max(one.residual, -1.0), 1.0))
    between, whole = 0.0, 0.0
    for chips in groups.values():
        members = [np.array(values) for values in chips.values() if len(values) >= _ENOUGH]
        if len(members) < 2:
            continue
        within = float(np.mean([values.var() for values in members]))
        means = np.array([values.mean() for values in members])
        own = max(float(means.var(ddof=1)) - float(np.mean([values.var() / len(values) for values in members])), 0.0)
        between += own * (len(members) - 1)
        whole += (own + within) * (len(members) - 1)
    return between / whole if whole else 0.0


# ---- distance ---------------------------------------------------------------------------------------------------------------


def scaled(rows: Sequence[Off], known: Residuals) -> tuple[Any, Any]:
    """Return residuals in half-widths of what is known, and the rows' weights; rows of kinds that are not known are left out."""
    found: list[float] = []
    judged: list[Off] = []
    on = {chip: known.on(chip_of(chip).name) for chip in {one.chip for one in rows}}
    for one in rows:
        widths = half_widths(on[one.chip], one.kind, one.time, chip_of(one.chip).family)
        if widths is not None:
            found.append(max(one.residual / widths.upper, -one.residual / widths.lower))
            judged.append(one)
    return np.array(found), weights_of(judged)


def weighted_quantile(values: Any, weights: Any, share: float) -> float:
    """Return the value below which a share of the weight lies."""
    order = np.argsort(values)
    reached = np.cumsum(weights[order]) / weights.sum()
    return float(values[order][int(np.searchsorted(reached, share))])


def held_out_factor(rows: Sequence[Off], base: Sequence[Off], key: Callable[[Off], str], between: float) -> float:
    """Return by how much half-widths must grow to hold 80 % of rows of whose group nothing was seen; at least 1.

    `rows` are off with their group left out of the constants; the half-widths are those of `base` without the group.
    """
    values: list[Any] = []
    weights: list[Any] = []
    for group in sorted({key(one) for one in rows}):
        known = Residuals(kinds=kinds([one for one in base if key(one) != group]), between=between)
        found = scaled([one for one in rows if key(one) == group], known)
        values.append(found[0])
        weights.append(found[1])
    return max(1.0, weighted_quantile(np.concatenate(values), np.concatenate(weights), HIGH - LOW))


def beyond_exponent(rows: Sequence[Off], base: Sequence[Off]) -> float:
    """Return the exponent with which half-widths hold 80 % of the rows that lie outside the times that the others span."""
    found: list[float] = []
    for kind in sorted({one.kind for one in rows}):
        outside = {(one.row.dataset, one.row.id): one for one in rows if one.kind == kind}
        known = Residuals(kinds=kinds([one for one in base if one.kind == kind and (one.row.dataset, one.row.id) not in outside]))
        span = known.of(kind)
        if span is None:
            continue
        for one in outside.values():
            ratio = max(one.time / span.most, span.least / one.time)
            need = scaled([one], known)[0]
            if ratio > _FAR:
                found.append(math.log(max(float(need[0]), 1e-3)) / math.log(ratio))
    return max(0.0, float(np.quantile(found, HIGH - LOW))) if found else 0.0


# ---- steps ------------------------------------------------------------------------------------------------------------------


class Step(NamedTuple):
    """A whole model's row: how far it was off, and the half-widths of its kernels, together and each on its own."""

    off: Off
    apart: HalfWidths  # their errors know nothing of one another
    together: HalfWidths  # they are one error

    def half_widths(self, correlation: float) -> HalfWidths:
        """Return the half-widths at a correlation, without what the step has beside its kernels."""
        lower, upper = (
            math.sqrt((1.0 - correlation) * one * one + correlation * other * other)
            for one, other in zip(self.apart, self.together, strict=True)
        )
        return HalfWidths(lower, upper)


def steps(rows: Sequence[Row], constants: Constants, known: Residuals) -> list[Step]:
    """Predict whole models with the residuals of kernels alone: with errors apart, and together."""
    base = known._replace(kinds=tuple(one for one in known.kinds if not one.kind.startswith(_WHOLE)))
    both: list[dict[tuple[str, str], Off]] = []
    for correlation in (0.0, 1.0):
        own = replace(constants, residuals=base._replace(correlation=correlation))
        both.append({(one.row.dataset, one.row.id): one for one in present(predict(rows, own))})
    found: list[Step] = []
    for name, one in both[0].items():
        other = both[1][name]
        if one.kind.startswith("step") and math.isfinite(one.lower):
            found.append(Step(one, HalfWidths(-one.lower, one.upper), HalfWidths(-other.lower, other.upper)))
    return found


def step_levels(rows: Sequence[Step], correlation: float) -> tuple[Residual, ...]:
    """Return what steps are off beside their kernels at a correlation of these: by stack and phase, by stack, and of all.

    A stack that few chips run borrows from all others, as much as its own rows weigh over the number of its chips: what fits one
    chip says little of the next.
    """
    groups: dict[str, list[Step]] = {}
    for one in rows:
        kind = one.off.kind
        while kind:
            groups.setdefault(kind, []).append(one)
            kind = kind.rpartition(":")[0]
    found: list[Residual] = []
    for kind, members in sorted(groups.items()):
        if len(members) >= _ROWS or kind == "step":
            mine = {id(one) for one in members}
            found.append(_level(kind, members, [one for one in rows if id(one) not in mine], correlation))
    return tuple(found)


def _level(kind: str, rows: Sequence[Step], others: Sequence[Step], correlation: float) -> Residual:
    """Return the half-widths beside the kernels' with which 10 % of the weight lies below and 10 % above."""
    offs = [one.off for one in rows]
    chips = len({one.chip for one in offs})
    weights = borrowed_weights(offs, [one.off for one in others], 1.0 / chips)
    sides: list[float] = []
    for side, sign in ((0, -1.0), (1, 1.0)):
        outside = [(max(sign * one.off.residual, 0.0), one.half_widths(correlation)[side]) for one in (*rows, *others)]
        rest = [found * found - own * own if found > 0.0 else -1.0 for found, own in outside]
        sides.append(math.sqrt(max(weighted_quantile(np.array(rest), weights, HIGH), 0.0)))
    return Residual(
        kind=kind,
        lower=sides[0],
        upper=sides[1],
        chips=chips,
        rows=len(rows),
        families=tuple(sorted({chip_of(one.chip).family for one in offs})),
        seen=tuple(sorted({chip_of(one.chip).name for one in offs})),
    )


def interval_score(rows: Sequence[Step], correlation: float) -> float:
    """Return the mean score of intervals with these levels: their width, and ten times by how much a row lies outside.

    The lower the better; it is proper, so that neither wide nor narrow intervals win [gneiting2007scoring, Eq. (43)].
    """
    levels = Residuals(kinds=step_levels(rows, correlation))
    total = 0.0
    weights = weights_of([one.off for one in rows])
    for one, weight in zip(rows, weights, strict=True):
        level, own = level_half_widths(levels, one.off.kind), one.half_widths(correlation)
        lower, upper = math.hypot(own.lower, level.lower), math.hypot(own.upper, level.upper)
        outside = max(one.off.residual - upper, -lower - one.off.residual, 0.0)
        total += weight * (lower + upper + 2.0 / (1.0 - (HIGH - LOW)) * outside)
    return total / float(weights.sum())


def best_correlation(rows: Sequence[Step]) -> float:
    """Return the correlation of kernels within a step that gives whole models the best intervals."""
    return min((one / 20.0 for one in range(21)), key=lambda one: interval_score(rows, one))


# ---- what intervals hold ----------------------------------------------------------------------------------------------------


def with_widths(offs: Iterable[Off], rows: Mapping[tuple[str, str], Step], known: Residuals) -> list[Off]:
    """Return rows with the intervals that residuals give them; those of kinds that are not known are left out."""
    found: list[Off] = []
    for one in offs:
        step = rows.get((one.row.dataset, one.row.id))
        if step is None:
            widths = half_widths(known, one.kind, one.time, chip_of(one.chip).family)
        else:
            level = level_half_widths(known, one.kind)
            widths = HalfWidths(*map(math.hypot, step.half_widths(known.correlation), level))
        if widths is not None:
            found.append(one._replace(lower=-float(widths.lower), upper=float(widths.upper)))
    return found


class Held(NamedTuple):
    """What the intervals of a slice hold: of rows whose chip the constants do not know, and then neither the intervals."""

    dataset: str
    slice: str
    rows: int
    coverage: float
    width: float
    strict: float
    strict_width: float


def held(offs: Sequence[Off], strict: Sequence[Off], name: Callable[[Row], str]) -> list[Held]:
    """Return by dataset and slice the share of rows inside their intervals, and the median width."""
    groups: dict[tuple[str, str], tuple[list[Off], list[Off]]] = {}
    for index, rows in enumerate((offs, strict)):
        for one in rows:
            groups.setdefault((one.row.dataset, name(one.row)), ([], []))[index].append(one)
    return [
        Held(dataset, slice, len(both[0]), *_held(both[0]), *_held(both[1])) for (dataset, slice), both in sorted(groups.items())
    ]


def _held(rows: Sequence[Off]) -> tuple[float, float]:
    if not rows:
        return math.nan, math.nan
    inside = [one.lower <= one.residual <= one.upper for one in rows]
    return float(np.mean(inside)), float(np.median([math.exp(one.upper - one.lower) for one in rows]))


# ---- two chips --------------------------------------------------------------------------------------------------------------


def pair_correlation(pairs: Iterable[tuple[Off, Off]]) -> float:
    """Return the correlation with which the interval of a ratio holds 80 % of the pairs: one workload on two chips.

    Each pair says how much its errors must have in common for its ratio to be just inside.
    """
    found: list[float] = []
    for one, other in pairs:
        gap = one.residual - other.residual
        first, second = (one.upper, -other.lower) if gap > 0.0 else (-one.lower, other.upper)
        if min(first, second) > 0.0:
            found.append((first * first + second * second - gap * gap) / (2.0 * first * second))
    return float(np.clip(np.quantile(found, 1.0 - (HIGH - LOW)), 0.0, 0.95)) if found else 0.0
