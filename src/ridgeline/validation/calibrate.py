"""Constants of families and stacks from measured rows: robust least squares on the logarithm of time, judged on chips left out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from ridgeline.errors import RidgelineError
from ridgeline.specs.family import Family, with_own
from ridgeline.specs.stack import Stack
from ridgeline.validation.group import Group
from ridgeline.validation.predict import Constants, Kind, Prediction, grouped, kind_of, predict
from ridgeline.validation.schema import Row

SCALE = 0.1  # logarithm of time beyond which a residual counts by its size, not its square
PRIOR = 1.0  # logarithm by which a constant may differ from where it started at the cost of one row that is off by SCALE
STEP = 1e-3
SCAN = (-0.3, 0.3)  # logarithms tried of each constant before the first step
_FLAT = 0.02 * STEP  # of a residual's change, below which a constant has no slope
_ROUNDS = 12


class Parameter(NamedTuple):
    """One constant that a fit moves: of which family or stack, its name, its key in a table, and its upper bound."""

    of: str  # family or stack
    owner: str
    name: str
    key: str = ""
    upper: float = float("inf")

    @property
    def title(self) -> str:
        """Return how a table calls it."""
        return ".".join(one for one in (self.owner, self.name, self.key) if one)


@dataclass(frozen=True, kw_only=True)
class Fit:
    """What a fit found."""

    constants: Constants
    values: Mapping[str, float]
    cost: float


class Prepared(NamedTuple):
    """Rows in groups, each with the logarithm of its measured times and its weight in a fit."""

    groups: list[tuple[Kind, Group]]
    logarithms: list[Any]
    weights: list[Any]


def prepare(rows: Sequence[Row], constants: Constants, keep: Callable[[Row], bool] = lambda _: True) -> Prepared:
    """Group rows in time for a fit: datasets and chips count by the square root of their rows, so that no large table rules."""
    chosen = [row for row in rows if row.unit == "s" and keep(row) and ((kind := kind_of(row)) is None or kind.fixes(row))]
    groups, _ = grouped(chosen, constants)
    sizes: dict[tuple[str, str], int] = {}
    for row in chosen:
        sizes[row.dataset, row.chip] = sizes.get((row.dataset, row.chip), 0) + 1
    done = Prepared([], [], [])
    for kind, group in groups:
        try:
            kind.predict(group)
        except RidgelineError:
            continue  # a row that is not supported fixes nothing
        done.groups.append((kind, group))
        done.logarithms.append(np.log([row.measured for row in group.rows]))
        done.weights.append(np.array([sizes[row.dataset, row.chip] ** -0.5 for row in group.rows]))
    return done


def read_value(constants: Constants, parameter: Parameter) -> float:
    """Return the value that a constant has."""
    owners: Sequence[Any] = constants.families if parameter.of == "family" else constants.stacks
    value = getattr(next(one for one in owners if one.name == parameter.owner), parameter.name)
    return float(value[parameter.key]) if parameter.key else float(value)


def with_values(constants: Constants, parameters: Sequence[Parameter], values: Sequence[float]) -> Constants:
    """Return constants with some replaced; what a family takes over from its base follows the base."""
    families = {one.name: one for one in constants.families}
    stacks = {one.name: one for one in constants.stacks}
    for one, value in zip(parameters, values, strict=True):
        owners: dict[str, Any] = stacks if one.of == "stack" else families
        if one.key:
            _follow_key(owners, one, value)
        else:
            _follow(owners, one, value)
    return Constants(families=tuple(families.values()), stacks=tuple(stacks.values()))


def _follow_key(owners: dict[str, Any], parameter: Parameter, value: float) -> None:
    """Give a constant of a table its value, and with it what builds on its owner and took the table over."""
    before = getattr(owners[parameter.owner], parameter.name)
    for name, one in owners.items():
        table = getattr(one, parameter.name)
        if name == parameter.owner or (name.startswith(f"{parameter.owner}-") and table and table == before):
            owners[name] = replace(one, **{parameter.name: {**table, parameter.key: value}})


def _follow(owners: dict[str, Any], parameter: Parameter, value: float) -> None:
    """Give a constant its value, and with it what builds on its owner and took the constant over."""
    before = getattr(owners[parameter.owner], parameter.name)
    for name, one in owners.items():
        taken = getattr(one, "taken", {}).get(parameter.name) == parameter.owner or name.startswith(f"{parameter.owner}-")
        if name == parameter.owner or (taken and getattr(one, parameter.name) == before):
            owners[name] = replace(one, **{parameter.name: value})


def residuals(prepared: Prepared, constants: Constants) -> Any:
    """Return the logarithm of predicted over measured time of every row, in the order of the groups."""
    return np.concatenate(_residuals(prepared, constants).parts)


class _Residuals(NamedTuple):
    """Residuals by group, and the constants that they are of."""

    families: Mapping[str, Family]
    stacks: Mapping[str, Stack]
    parts: list[Any]


def _residuals(prepared: Prepared, constants: Constants, known: _Residuals | None = None) -> _Residuals:
    """Return residuals by group; a group whose family and stack are those of `known` keeps what it has there."""
    families = {one.name: one for one in constants.families}
    stacks = {one.name: one for one in constants.stacks}
    parts: list[Any] = []
    for at, ((kind, group), logarithm) in enumerate(zip(prepared.groups, prepared.logarithms, strict=True)):
        family, stack = group.family.name, group.stack.name
        if known and known.families[family] is families[family] and known.stacks[stack] is stacks[stack]:
            parts.append(known.parts[at])
            continue
        time = kind.predict(_with(group, families, stacks)).time
        parts.append(np.log(np.broadcast_to(time, logarithm.shape)) - logarithm)
    return _Residuals(families, stacks, parts)


def _with(group: Group, families: Mapping[str, Family], stacks: Mapping[str, Stack]) -> Group:
    family = with_own(families[group.family.name], group.chip.efficiency)
    return replace(group, family=family, stack=stacks[group.stack.name])


def _gain(found: _Residuals, base: _Residuals) -> float:
    """Return the largest change of a residual, for a step of one constant."""
    return max(float(np.abs(one - other).max(initial=0.0)) for one, other in zip(found.parts, base.parts, strict=True))


def robust(residual: Any) -> Any:
    """Return the soft-L1 loss: s²·2·(√(1 + (r/s)²) − 1), a square below `SCALE` and linear above."""
    return 2.0 * SCALE**2 * (np.sqrt(1.0 + (residual / SCALE) ** 2) - 1.0)


def fit(prepared: Prepared, constants: Constants, parameters: Sequence[Parameter], rounds: int = _ROUNDS) -> Fit:
    """Fit constants by damped Gauss–Newton steps on their logarithms, rows reweighted by the robust loss."""
    start = np.log([read_value(constants, one) for one in parameters])
    upper = np.log([one.upper for one in parameters])
    weights = np.concatenate(prepared.weights)
    weights = weights / weights.mean()
    prior = SCALE / PRIOR * np.ones_like(start)

    def of(point: Any) -> Constants:
        return with_values(constants, parameters, [float(one) for one in np.exp(point)])

    def moved(base: _Residuals, point: Any, which: int) -> _Residuals:
        """Residuals where one constant has moved from those of `base`: only the groups that it touches are predicted again."""
        held = Constants(families=tuple(base.families.values()), stacks=tuple(base.stacks.values()))
        return _residuals(prepared, with_values(held, parameters[which : which + 1], [float(np.exp(point[which]))]), base)

    def cost(found: _Residuals, point: Any) -> float:
        return float((weights * robust(np.concatenate(found.parts))).sum() + ((prior * (point - start)) ** 2).sum())

    point, damping = np.minimum(start, upper), 1e-2
    base = _residuals(prepared, of(point))
    best = cost(base, point)
    flat = [which for which in range(len(start)) if _gain(moved(base, point - STEP, which), base) < _FLAT]
    for unit in (one * np.eye(len(start))[which] for one in SCAN for which in flat):  # a limit that does not bind has no slope
        trial = np.minimum(point + unit, upper)
        found = moved(base, trial, int(np.abs(unit).argmax()))
        if cost(found, trial) < best:
            point, base, best = trial, found, cost(found, trial)
    for _ in range(rounds):
        residual = np.concatenate(base.parts)
        stepped = (moved(base, point - STEP, which) for which in range(len(point)))
        slopes = np.stack([(np.concatenate(one.parts) - residual) / -STEP for one in stepped], axis=1)
        row = weights / np.sqrt(1.0 + (residual / SCALE) ** 2)
        normal = slopes.T @ (row[:, None] * slopes) + np.diag(prior**2)
        slope = slopes.T @ (row * residual) + prior**2 * (point - start)
        before = best
        for _ in range(6):
            step = np.linalg.solve(normal + damping * np.diag(np.diag(normal)), slope)
            trial = np.minimum(point - np.clip(step, -0.5, 0.5), upper)
            found = _residuals(prepared, of(trial))
            reached = cost(found, trial)
            if reached < best:
                point, base, best, damping = trial, found, reached, damping / 3.0
                break
            damping *= 4.0
        if before - best < 1e-4 * before:
            break
    values = [float(one) for one in np.exp(point)]
    return Fit(
        constants=with_values(constants, parameters, values),
        values={one.title: value for one, value in zip(parameters, values, strict=True)},
        cost=best,
    )


# ---- what is fitted, and how it is judged -----------------------------------------------------------------------------------

_SHARES = ("matrix", "lanes", "exposed", "stores", "bandwidth", "gddr", "paged", "cache", "inline_ecc", "in_flight")


def _of_family(owner: str, *names: str) -> tuple[Parameter, ...]:
    return tuple(Parameter("family", owner, one, upper=1.0 if one in _SHARES else float("inf")) for one in names)


PARAMETERS: tuple[Parameter, ...] = (
    *_of_family(
        "nvidia",
        "lanes",
        "tile_loss",
        "tile_cycles",
        "start",
        "exposed",
        "stores",
        "bandwidth",
        "gddr",
        "paged",
        "cache",
        "inline_ecc",
        "in_flight",
    ),
    *_of_family("nvidia-pascal", "bandwidth", "lanes"),
    Parameter("family", "nvidia-ampere-ga10x", "energy", "half"),
    *_of_family("amd", "matrix", "tile_loss", "tile_cycles", "start", "exposed", "stores", "bandwidth"),
    Parameter("stack", "trtllm", "pass_time"),
    Parameter("stack", "trtllm-engine", "fixed"),
    Parameter("stack", "pytorch-eager", "fixed"),
    Parameter("stack", "host-clock", "fixed"),
    *(Parameter("stack", one, "block_loads") for one in ("trtllm", "vllm", "vllm-flashinfer", "flash-hopper")),
    *(Parameter("stack", one, "fixed_of", key) for one in ("trtllm", "vllm", "flash-hopper") for key in ("decode", "prefill")),
    *(Parameter("stack", "vllm-flashinfer", "fixed_of", key) for key in ("decode", "prefill")),
    Parameter("stack", "flash-hopper", "decode_share", upper=1.0),
    *(Parameter("stack", one, "join_loads") for one in ("trtllm", "vllm")),
    *(Parameter("stack", "trtllm", one) for one in ("latent_contention", "latent_kernels", "expanded_kernels", "expert_kernels")),
    *(Parameter("stack", "trtllm", one, upper=top) for one, top in (("grouped_share", 1.0), ("grouped_depth", float("inf")))),
    Parameter("stack", "flashmla", "latent_share", upper=1.0),
    Parameter("stack", "flashmla", "fixed_of", "latent"),
    *(Parameter("stack", "nccl", one) for one in ("exchange_cycles", "exchange_step", "exchange_fill")),
    Parameter("stack", "nccl", "link_share", upper=1.0),
    Parameter("stack", "nccl-trtllm", "direct_cycles"),
)


class LeftOut(NamedTuple):
    """Rows predicted by constants that none of their chip's rows of any dataset fixed, and the fits that did it."""

    predictions: list[Prediction]
    fits: dict[str, Fit]  # by the chip left out


def leave_chips_out(
    rows: Sequence[Row], constants: Constants, parameters: Sequence[Parameter] = PARAMETERS, rounds: int = _ROUNDS
) -> LeftOut:
    """Predict every chip's rows with constants fitted without that chip, each fit from the catalogue's values as they stand."""
    done = LeftOut([], {})
    for chip in sorted({row.chip for row in rows}):
        found = fit(prepare(rows, constants, lambda row, chip=chip: row.chip != chip), constants, parameters, rounds)
        done.fits[chip] = found
        done.predictions.extend(predict([row for row in rows if row.chip == chip], found.constants))
    return done


def leave_shapes_out(
    rows: Sequence[Row], constants: Constants, parameters: Sequence[Parameter] = PARAMETERS, rounds: int = _ROUNDS
) -> list[Prediction]:
    """Predict each half of the shapes with constants fitted to the other half: for kinds of row that one chip alone has."""
    halves = [[row for row in rows if _half(row) == half] for half in (0, 1)]
    done: list[Prediction] = []
    for own, other in (halves, halves[::-1]):
        found = fit(prepare(other, constants), constants, parameters, rounds)
        done += predict(own, found.constants)
    return done


_SHAPE = ("b", "m", "n", "k", "batch", "q_len", "kv_len", "tokens", "hidden", "inter", "n_local_experts", "bytes")


def _half(row: Row) -> int:
    """Return 0 or 1 by the row's shape alone, the same on every chip and in every run."""
    shape = ",".join(row.text(name) for name in _SHAPE)
    return sum(shape.encode()) % 2
