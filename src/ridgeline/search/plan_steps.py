"""Steps of one plan over arrays of batches and chunks of prompts: what the planner makes its services from.

All points of a plan in one precision are one call of `estimate_plan` for each phase: the structure is the plan's, the batches, the
tokens that a step verifies and the chunks are arrays.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ridgeline.arrays import is_scalar
from ridgeline.errors import InputError
from ridgeline.parallel import estimate_plan
from ridgeline.quantities import Bytes, Joules, Seconds, Watts
from ridgeline.results import Estimate
from ridgeline.search.explore import takes_arrays
from ridgeline.specs.model import ConvolutionalModel, Model
from ridgeline.specs.plan import Plan
from ridgeline.specs.precision import Precision
from ridgeline.specs.scenario import Scenario
from ridgeline.specs.system import System

Numbers = np.ndarray[tuple[int], np.dtype[np.float64]]
_OWN = ("attention", "head")  # groups of operations that a step of prompts and decodes does for each apart


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What all steps of a plan have in common."""

    system: System
    model: Model | ConvolutionalModel
    precision: Precision
    level: str = "ideal"


@dataclass(frozen=True, kw_only=True, eq=False)
class Steps:
    """Steps of one phase, an array of points each; memory is that of the fullest chip."""

    time: Seconds
    dynamic: Joules | None  # of all chips, what they draw idle apart; None where the chip's file gives no energies
    idle: Watts  # of all chips, 0 where it is not known
    bound: Any  # names of resources
    short: Bytes
    needed: Bytes
    transient: Bytes  # of it activations and buffers, which the phases use in turn
    available: Bytes
    parts: Mapping[str, Seconds]  # operation → its time on the path, those that decode and prefill never share left out
    factors: tuple[Any, Any, float] | None  # of the time's interval: lower, upper, coverage

    def beside(self, other: "Steps", point: int | slice = 0) -> Bytes:
        """Bytes needed where steps of another phase run on the same chips, with their activations in the place of these."""
        return self.needed + np.maximum(np.max(other.transient[point]) - self.transient, 0.0)


def steps(setting: Setting, plan: Plan, scenario: Scenario, count: int) -> Steps:
    """Return steps at `count` points, whose batches, prompts, contexts or verified tokens the scenario has as arrays.

    Where the level does not take arrays, point after point.
    """
    if takes_arrays(setting.system.chip, setting.level):
        return _of(_estimate(setting, plan, scenario), count)
    names = [name for name in ("batch", "prompt", "context", "verified") if not is_scalar(getattr(scenario, name))]
    rows = [{name: float(getattr(scenario, name)[index]) for name in names} for index in range(count)]
    return _joined([_of(_estimate(setting, plan, replace(scenario, **row)), 1) for row in rows])


def _estimate(setting: Setting, plan: Plan, scenario: Scenario) -> Estimate:
    return estimate_plan(setting.system, setting.model, scenario, setting.precision, plan, level=setting.level)


def _of(found: Estimate, count: int) -> Steps:
    held = found.capacity
    if held is None:
        raise InputError("what the step keeps in memory is not known")

    def spread(value: Any) -> Any:
        return np.broadcast_to(np.asarray(value, dtype=np.float64), (count,))

    names = np.array(found.resources)
    bound = [found.bound] if is_scalar(found.bound) else names[np.asarray(found.bound, dtype=int)]
    static = found.cost.energy.get("static", 0.0 * found.time)
    interval = found.interval
    parts: dict[str, Any] = {}
    for row in found.operations:
        if row.group not in _OWN:
            parts[row.name] = parts.get(row.name, 0.0) + row.time * row.count
    return Steps(
        time=spread(found.time),
        dynamic=None if found.energy is None else spread(found.energy - static),
        idle=0.0 if found.energy is None else float(np.max(static / found.time)),
        bound=np.broadcast_to(np.asarray(bound), (count,)),
        short=spread(held.shortfall),
        needed=spread(held.needed),
        transient=spread(held.activations + held.buffers),
        available=spread(held.available + held.further_available),
        parts={name: spread(value) for name, value in parts.items()},
        factors=None if interval is None else (spread(interval.lower), spread(interval.upper), float(interval.coverage)),
    )


def _joined(parts: list[Steps]) -> Steps:
    def whole(name: str) -> Any:
        return np.concatenate([getattr(one, name) for one in parts])

    first = parts[0]
    factors = [one.factors for one in parts if one.factors is not None]
    names = dict.fromkeys(name for one in parts for name in one.parts)
    return Steps(
        time=whole("time"),
        dynamic=None if first.dynamic is None else whole("dynamic"),
        idle=first.idle,
        **{name: whole(name) for name in ("bound", "short", "needed", "transient", "available")},
        parts={name: np.concatenate([one.parts.get(name, np.zeros(1)) for one in parts]) for name in names},
        factors=None
        if len(factors) < len(parts)
        else (np.concatenate([one[0] for one in factors]), np.concatenate([one[1] for one in factors]), factors[0][2]),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class DecodeGrid:
    """Decode steps over batches × drafted tokens, and what of a step takes as long over so many tokens of any kind."""

    batches: Numbers
    drafts: tuple[int, ...]  # drafted tokens a step; the first is 0
    steps: Steps  # batches × drafts, flat
    mixed: Mapping[int, Steps]  # chunk → decode steps over as many tokens as decode and a chunk have together

    def grid(self, values: Any) -> Any:
        """Return a flat array as batches × drafts."""
        return np.asarray(values).reshape(len(self.batches), len(self.drafts))


def decode_grid(
    setting: Setting, plan: Plan, batches: Numbers, drafts: tuple[int, ...], context: float, chunks: Mapping[int, float]
) -> DecodeGrid:
    """Cost decode steps in one call: every batch with every number of drafted tokens, and with each chunk's tokens beside them.

    `chunks` gives the tokens that all groups of ranks together add to a step.
    """
    batch, draft = (one.ravel() for one in np.meshgrid(batches, np.array(drafts, dtype=np.float64), indexing="ij"))
    sizes = list(chunks.items())
    count = len(batch)
    every = np.concatenate([batch, *(batch * (draft + 1.0) + tokens for _, tokens in sizes)])
    verified = np.concatenate([draft + 1.0, np.ones(count * len(sizes))])
    one_kind = bool((verified == 1.0).all())
    scenario = Scenario(phase="decode", batch=every, context=context, verified=1.0 if one_kind else verified)
    found = steps(setting, plan, scenario, len(every))
    parts = [_part(found, slice(turn * count, (turn + 1) * count)) for turn in range(len(sizes) + 1)]
    mixed = {chunk: one for (chunk, _), one in zip(sizes, parts[1:], strict=True)}
    return DecodeGrid(batches=batches, drafts=drafts, steps=parts[0], mixed=mixed)


def _part(found: Steps, place: slice) -> Steps:
    factors = found.factors
    return replace(
        found,
        time=found.time[place],
        dynamic=None if found.dynamic is None else found.dynamic[place],
        **{name: getattr(found, name)[place] for name in ("bound", "short", "needed", "transient", "available")},
        parts={name: value[place] for name, value in found.parts.items()},
        factors=None if factors is None else (factors[0][place], factors[1][place], factors[2]),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Prompts:
    """A prompt computed whole, or in chunks one after the other: chunk → its pieces, 0 the whole prompt."""

    pieces: Mapping[int, Steps]

    @property
    def whole(self) -> Steps:
        """The prompt in one step."""
        return self.pieces[0]


def prompt_pieces(setting: Setting, plan: Plan, groups: int, prompt: float, chunks: tuple[int, ...]) -> Prompts:
    """Cost one prompt in each group of ranks, whole and cut, in one call; a last piece that is smaller counts as a whole one."""
    new, past = [prompt], [0.0]
    counts = {chunk: int(-(-prompt // chunk)) for chunk in chunks}
    for chunk, count in counts.items():
        new += [float(chunk)] * count
        past += [float(chunk * index) for index in range(count)]
    if counts:
        scenario = Scenario(phase="prefill", batch=float(groups), prompt=np.array(new), context=np.array(past))
    else:
        scenario = Scenario(phase="prefill", batch=float(groups), prompt=prompt)
    found = steps(setting, plan, scenario, len(new))
    pieces = {0: _part(found, slice(0, 1))}
    start = 1
    for chunk, count in counts.items():
        pieces[chunk] = _part(found, slice(start, start + count))
        start += count
    return Prompts(pieces=pieces)


def mixed_times(grid: DecodeGrid, prompts: Prompts, chunk: int) -> Any:
    """Return the time of steps that decode and compute one piece of a prompt: batches·drafts × pieces.

        t = own of decode + own of the piece + Σ shared (decode's tokens and the piece's together)

    Shared is what both phases have by name, attention and the head apart: its weights are read once for all tokens of the step.
    """
    decode, piece, both = grid.steps, prompts.pieces[chunk], grid.mixed[chunk]
    shared = [name for name in decode.parts if name in piece.parts and name in both.parts]
    own_decode = decode.time - sum(decode.parts[name] for name in shared)
    own_piece = piece.time - sum(piece.parts[name] for name in shared)
    together: Any = sum(both.parts[name] for name in shared)
    return (own_decode + together)[:, None] + own_piece[None, :]
