"""Speculative decoding: tokens gained a step, what drafting costs, and the batch from which it loses."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ridgeline.arrays import maximum, where
from ridgeline.errors import InputError
from ridgeline.quantities import Count, Fraction, Seconds, Watts
from ridgeline.serving.arrivals import Counts, Random
from ridgeline.serving.surface import Chunk, DecodeLine, StepCost, StepTime


@dataclass(frozen=True, kw_only=True)
class Speculation:
    """γ tokens are drafted and verified at once; each is kept with probability α if all before it are."""

    length: int
    acceptance: Fraction

    def __post_init__(self) -> None:
        """Refuse what is no length and no probability."""
        if self.length < 1:
            raise InputError(f"speculation of {self.length} tokens: 1 or more is wanted")
        if not 0.0 <= self.acceptance <= 1.0:
            raise InputError(f"acceptance {self.acceptance:g}: a probability from 0 to 1 is wanted")

    @property
    def verified(self) -> int:
        """Tokens a sequence that a step verifies: those drafted, and the one that follows them."""
        return self.length + 1

    @property
    def gain(self) -> Count:
        """Tokens that a sequence gains a step, on average."""
        return tokens_per_step(acceptance=self.acceptance, length=self.length)

    def steps(self, tokens: Counts, random: Random) -> Counts:
        """Return the steps that sequences take to gain so many tokens, each step's gain drawn.

        A step gains 1 + min(g, γ) tokens, g geometric: P(g ≥ i) = αⁱ.
        """
        found = np.zeros_like(tokens)
        left = tokens.copy()
        while (going := np.flatnonzero(left > 0)).size:
            # random() < α happens g times in a row: g = ⌊ln u / ln α⌋
            drawn = random.random(going.size)
            with np.errstate(divide="ignore"):
                kept = (
                    np.floor(np.log(drawn) / np.log(self.acceptance)) if 0 < self.acceptance < 1 else self.length * self.acceptance
                )
            left[going] -= 1 + np.minimum(kept, self.length).astype(np.int64)
            found[going] += 1
        return found


def tokens_per_step(*, acceptance: Any, length: Any) -> Any:
    """Return the tokens that a sequence gains in a step of speculative decoding, on average.

        E = (1 − α^(γ+1)) / (1 − α)

    α is the probability that a drafted token is accepted, the same for each and independent; γ the drafted tokens. The one
    token that the verification itself gives is counted. [leviathan2023speculative, Eq. 1]

    >>> tokens_per_step(acceptance=0.5, length=2)  # 1 + 0.5 + 0.25
    1.75
    """
    return where(acceptance < 1.0, (1.0 - acceptance ** (length + 1)) / maximum(1.0 - acceptance, 1e-12), length + 1.0)


@dataclass(frozen=True, kw_only=True)
class SpeculativeStepTime:
    """A step that drafts, then verifies: γ steps of the draft after one another and one of the target.

    With a draft model its own surface; with `draft_share`, as for a multi-token-prediction layer, each drafted token costs that
    share of the target's step over one token a sequence. The draft model's own prompts and cache are neglected.
    """

    target: StepTime  # whose steps verify γ + 1 tokens a sequence
    length: int
    draft: StepTime | None = None
    plain: StepTime | None = None  # the target over one token a sequence, for `draft_share`
    draft_share: Fraction = 0.0

    @property
    def static_power(self) -> Watts:
        """The target's: both run on the same machine."""
        return self.target.static_power

    def step(self, decode: int, context: float, chunks: Sequence[Chunk], ends: int) -> StepCost:
        """Return the cost of drafting and of the step that verifies."""
        time, energy = self.target.step(decode, context, chunks, ends)
        if decode:
            line = self._drafting(decode, context)
            time, energy = time + line.time, energy + line.energy
        return StepCost(time, energy)

    def decode_line(self, decode: int, context: float) -> DecodeLine:
        """Return drafting and verifying as one line."""
        first, second = self.target.decode_line(decode, context), self._drafting(decode, context)
        return DecodeLine(
            first.time + second.time,
            first.time_slope + second.time_slope,
            first.energy + second.energy,
            first.energy_slope + second.energy_slope,
            min(first.span, second.span),
        )

    def _drafting(self, decode: int, context: float) -> DecodeLine:
        machine, share = (self.draft, 1.0) if self.draft is not None else (self.plain, self.draft_share)
        if machine is None:
            return DecodeLine(0.0, 0.0, 0.0, 0.0, float("inf"))
        line, factor = machine.decode_line(decode, context), share * self.length
        return DecodeLine(line.time * factor, line.time_slope * factor, line.energy * factor, line.energy_slope * factor, line.span)


@dataclass(frozen=True, kw_only=True)
class SpeculationGain:
    """How much faster tokens come with speculation than without, by batch, and the first batch at which they do not."""

    batches: tuple[int, ...]
    speedups: tuple[float, ...]
    loses_at: int | None  # None: it gains at every batch looked at


def speculation_gain(
    plain: StepTime, speculative: StepTime, gain: Count, *, context: float, most: int, batches: Sequence[int] = ()
) -> SpeculationGain:
    """Compare decoding with and without speculation at one context.

        speed-up(B) = E · t(B, 1 token) / (t(B, γ + 1 tokens) + γ · t_draft(B))

    It falls with the batch, because verified tokens share the weights' traffic only while memory binds.
    """

    def speedup(batch: int) -> Seconds:
        return gain * plain.decode_line(batch, context).time / speculative.decode_line(batch, context).time

    looked = tuple(batches) or tuple(sorted({max(1, round(most ** (step / 40))) for step in range(41)}))
    loses_at = next((batch for batch in range(1, most + 1) if speedup(batch) < 1.0), None)
    return SpeculationGain(batches=looked, speedups=tuple(speedup(one) for one in looked), loses_at=loses_at)
