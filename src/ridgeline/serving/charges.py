"""What of a run was for prompts and what for generated tokens: steps that do both are shared by what each would take alone."""

from collections.abc import Sequence
from typing import NamedTuple

from ridgeline.costs.money import step_shares
from ridgeline.quantities import Count, Fraction, Joules, Seconds
from ridgeline.serving.scheduler import StepRecord
from ridgeline.serving.simulator import Played
from ridgeline.serving.surface import Chunk, StepCost, StepTime


class Charges(NamedTuple):
    """Shares of a run that are charged to its prompts; the rest is charged to the tokens generated."""

    time: Fraction  # of all replicas' time, idle time included
    energy: Fraction  # of the energy that steps took


def charge(played: Played, step_time: StepTime, *, context: Count, longest: int) -> Charges:
    """Return the shares of a run that its prompts are charged with.

        step of both: t · tₚ / (tₚ + t_d), tₚ and t_d what either would take alone [`costs.money.step_shares`]
        idle time of a replica: as its busy time

    A prompt's tokens are costed from an empty cache in chunks of at most `longest`, decoding at the run's mean `context`. A replica
    that never stepped is charged as the others together.
    """
    alone: dict[tuple[int, int, int], tuple[StepCost, StepCost]] = {}
    times: list[list[Seconds]] = [[0.0, 0.0] for _ in played.busy]
    energies: list[Joules] = [0.0, 0.0]
    for row in played.log:
        key = (row.decode, row.prefill, row.ends)
        if key not in alone:
            alone[key] = _alone(row, step_time, context, longest)
        prompt, decode = alone[key]
        shares = step_shares(time=row.end - row.start, prompt=prompt.time, decode=decode.time)
        times[row.replica][0] += shares.prompt
        times[row.replica][1] += shares.decode
        energies[0] += row.steps * prompt.energy
        energies[1] += row.steps * decode.energy
    both = [sum(one) for one in zip(*times, strict=True)]
    overall = _share(both, 0.0)
    each = [_share(one, overall) for one in times]
    return Charges(time=sum(each) / len(each), energy=_share(energies, overall))


def _share(parts: Sequence[float], otherwise: float) -> float:
    whole = sum(parts)
    return parts[0] / whole if whole > 0 else otherwise


def _alone(row: StepRecord, step_time: StepTime, context: Count, longest: int) -> tuple[StepCost, StepCost]:
    """Return what a step's prompts and its decoding would take by themselves."""
    nothing = StepCost(0.0, 0.0)
    decode = step_time.step(row.decode, context, (), 0) if row.decode else nothing
    if not row.prefill:
        return nothing, decode
    full, rest = divmod(row.prefill, longest)
    chunks = [Chunk(longest, 0)] * full + ([Chunk(rest, 0)] if rest else [])
    return step_time.step(0, 0.0, chunks, row.ends), decode
