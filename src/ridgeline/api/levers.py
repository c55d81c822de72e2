"""What would break the memory wall: one lever at a time, and the best pair, from the same model as `analyze`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from ridgeline.api.analysis import Analysis, analyze
from ridgeline.api.names import load_chip, load_model
from ridgeline.costs.components import powered
from ridgeline.costs.energy import static_energy
from ridgeline.costs.ideal import Machine
from ridgeline.costs.rates import with_stream
from ridgeline.errors import InfeasibleError, InputError
from ridgeline.estimate import fold, step_operations
from ridgeline.mapping.many_core_step import is_many_core
from ridgeline.specs.chip import Chip
from ridgeline.specs.model import ConvolutionalModel, Model
from ridgeline.specs.precision import Precision
from ridgeline.survey import levers as moves
from ridgeline.survey.levers import Case, Outcome, outcome


@dataclass(frozen=True, kw_only=True)
class Lever:
    """A change that one could make by hand: to the case, or a way to weigh the estimate of a case anew."""

    name: str
    what: str  # how to do the same by hand
    group: str  # of levers that exclude one another
    change: Callable[[Case], Case] | None = None
    weigh: Callable[[Case, Analysis], Outcome] | None = None
    takes_away: bool = False  # shows what the case has already


@dataclass(frozen=True, kw_only=True)
class Effect:
    """What one lever, or two, do; None with a reason where a lever cannot be pulled. Ratios are to the case without it."""

    name: str
    what: str
    result: Outcome | None
    time: float | None = None  # of a token, over that without the lever
    energy: float | None = None
    capacity: float | None = None
    bytes: float | None = None  # across the main memory
    takes_away: bool = False
    reason: str | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Levers:
    """The case, what every lever does to it alone, and the two that together make a token fastest."""

    base: Analysis
    outcome: Outcome
    effects: tuple[Effect, ...]
    best_pair: Effect | None


def levers(
    model: Model | ConvolutionalModel | str,
    chip: Chip | str,
    *,
    phase: str | None = None,
    precision: Precision | str | None = None,
    level: str | None = None,
    residency: str = "cold",
    **scenario: Any,
) -> Levers:
    """Pull every lever on the memory wall, one at a time and two together, on a model on a chip.

    Each is `analyze` of the changed case at the same level of detail. `scenario` takes the fields of `Scenario`, each one number.
    Raises as `analyze` does.

    >>> found = levers("llama-3.1-8b", "h100-sxm", level="ideal", context=4096)
    >>> round(next(one.time for one in found.effects if one.name == "weights int8"), 2)  # most of the bytes are weights
    0.52
    """
    base = analyze(model, chip, phase=phase, precision=precision, level=level, residency=residency, **scenario)  # pyright: ignore[reportArgumentType]
    if base.axes:
        raise InputError(f"levers take one scenario: {', '.join(base.axes)} has several values")
    case = Case(
        model=load_model(model),
        chip=load_chip(chip),
        precision=base.precision,
        phase=base.scenario.phase,
        given={name: value for name, value in scenario.items() if value is not None},
        level=base.estimate.level,
        residency=residency,
    )
    plain = outcome(base.estimate)
    every = known_levers(case)
    effects = tuple(_effect((one,), case, plain) for one in every)
    return Levers(base=base, outcome=plain, effects=effects, best_pair=_best_pair(every, effects, case, plain))


def analysis_of(case: Case) -> Analysis:
    """Return what `analyze` says of a case."""
    return analyze(
        case.model,
        case.chip,
        phase=case.phase,
        precision=case.precision,
        level=case.level,
        plan=case.plan,
        residency=case.residency,  # pyright: ignore[reportArgumentType]
        fusion=case.fusion,  # pyright: ignore[reportArgumentType]
        **case.given,
    )


# ---- the levers -------------------------------------------------------------------------------------------------------------


def known_levers(case: Case) -> tuple[Lever, ...]:
    """Return every lever, in the order in which they are printed."""
    return (*_of_precision(case), *_of_sparsity(), *_of_size(), *_of_memory(case), *_of_transfers(case))


def _formats(**roles: str) -> Callable[[Case], Case]:
    return lambda case: moves.with_formats(case, **roles)


def _of_precision(case: Case) -> tuple[Lever, ...]:
    narrow = moves.eight_bits(case.chip)
    found = [
        Lever(name=f"weights {form}", what=f"--precision w:{form},…", group="weights", change=_formats(weights=form))
        for form in ("int8", "int4", "ternary")
    ]
    found.append(
        Lever(
            name="ternary weights, adders for multipliers",
            what="w:ternary,a:int8, and a chip whose int8 rate is that of adders on the same area",
            group="weights activations area",
            change=moves.with_adders,
        )
    )
    if narrow is not None:
        roles = {"activations": narrow, "weights": narrow}
        both = f"w:{narrow},a:{narrow}"
        name = f"activations {narrow}"
        found.append(Lever(name=name, what=f"--precision a:{narrow}", group="activations", change=_formats(activations=narrow)))
        name = f"weights and activations {narrow}"
        found.append(Lever(name=name, what=f"--precision {both}", group="weights activations", change=_formats(**roles)))
    found += [
        Lever(name=f"KV cache {form}", what=f"--precision kv:{form}", group="kv", change=_formats(kv=form))
        for form in ("int8", "int4")
    ]
    return tuple(found)


def _of_sparsity() -> tuple[Lever, ...]:
    share = f"{moves.UNSTRUCTURED:.0%}"
    return (
        Lever(
            name=f"{moves.STRUCTURED:.0%} of the neurons removed",
            what="a model file with feed-forward layers of 0.7 times the width",
            group="sparsity",
            change=moves.narrower,
        ),
        Lever(
            name=f"{share} of the weights zero, hardware that cannot use it",
            what="nothing: zeros are stored and multiplied",
            group="sparsity",
            change=lambda case: case,
        ),
        Lever(
            name=f"{share} of the weights zero, stored without them",
            what="weights of 0.2 times the bits, and a bit each that says which remain",
            group="sparsity weights",
            change=moves.compressed,
        ),
        Lever(
            name=f"{share} of the weights zero, stored and multiplied without them",
            what="as above; products with weights on a chip of five times the rate",
            group="sparsity weights",
            weigh=_skipping,
        ),
    )


def _skipping(case: Case, _: Analysis) -> Outcome:
    stored = moves.compressed(case)
    whole, fast = analysis_of(stored), analysis_of(replace(stored, chip=moves.skipping_chip(case.chip)))
    return moves.mixed(whole.estimate, fast.estimate, _machine(whole), case.phase)


def _machine(found: Analysis) -> Machine:
    return Machine.of(found.chip, with_stream(found.chip, found.precision).accumulate, found.residency)


def _of_size() -> tuple[Lever, ...]:
    return (
        Lever(name="half the layers", what="a model file with half of the layers", group="layers", change=moves.shallower),
        Lever(name="batch × 8", what="--batch of eight times as many", group="batch", change=moves.batched),
    )


def _of_memory(case: Case) -> tuple[Lever, ...]:
    level = moves.on_chip(case.chip)
    name = "on-chip memory" if level is None else level.name
    return (
        Lever(name=f"{name} × 4", what=f"a chip file with four times the capacity of {name}", group="room", change=moves.roomier),
        Lever(
            name="KV cache in a second DRAM tier",
            what="a chip file with a further tier (its own, or 480 GB at 500 GB/s), no room for the cache, --plan offload=kv",
            group="tier",
            change=_second_tier,
        ),
        Lever(
            name="half the peak for bandwidth, same area",
            what="a chip file with half the matrix rates, and the bandwidth whose interface fits the area",
            group="area",
            change=moves.rebalanced,
        ),
    )


def _second_tier(case: Case) -> Case:
    tiered = moves.with_tier(case)
    held = analysis_of(tiered).estimate.capacity
    if held is None:
        raise InputError(f"{case.chip.name} has no memory with a capacity")
    return moves.cache_in_tier(tiered, held)


def _of_transfers(case: Case) -> tuple[Lever, ...]:
    on_array = case.level != "ideal" and not is_many_core(case.chip)
    return (_fusion(case, on_array), _overlap(case, on_array), _engine(case, on_array))


def _fusion(case: Case, on_array: bool) -> Lever:
    """Kernels apart: asked of `analyze` on an array, of the stack on many cores, and summed unfused at the level ideal."""
    if case.level == "ideal":
        what = "at level ideal: operations alone, each tensor across the main memory"
        return Lever(name="without fusion", what=what, group="fusion", weigh=_unfused, takes_away=True)
    if on_array:
        return Lever(
            name="without fusion",
            what="--fusion none",
            group="fusion",
            change=lambda one: replace(one, fusion="none"),
            takes_away=True,
        )
    return Lever(
        name="without fusion (attention stays one kernel)",
        what="a stack that joins neither products nor functions (joins_inputs, joins_vectors = false)",
        group="fusion",
        change=lambda one: replace(one, chip=moves.unjoined(one.chip)),
        takes_away=True,
    )


def _overlap(case: Case, on_array: bool) -> Lever:
    if not case.chip.transfer.asynchronous:
        return Lever(
            name="asynchronous transfers",
            what="transfer.asynchronous = true",
            group="overlap",
            change=lambda one: moves.with_transfer(one, asynchronous=True),
        )
    if on_array:
        return Lever(
            name="without asynchronous transfers",
            what="transfer.asynchronous = false",
            group="overlap",
            change=lambda one: moves.with_transfer(one, asynchronous=False),
            takes_away=True,
        )
    return Lever(
        name="without asynchronous transfers",
        what="nothing inside an operation overlaps: `time_upper`",
        group="overlap",
        weigh=_synchronous,
        takes_away=True,
    )


def _engine(case: Case, on_array: bool) -> Lever:
    """Say what a DMA unit spares, or would: on an array by its file, else by the slots of instructions that cores would lose."""
    has = case.chip.transfer.engine == "dma"
    slots = "two slots of an instruction each request, where the file does not say"
    if on_array and has:
        return Lever(
            name="without a DMA unit",
            what=f'transfer.engine = "cores"; {slots}',
            group="issue",
            change=lambda one: moves.with_transfer(one, engine="cores", issue=moves.issue_slots(one.chip)),
            takes_away=True,
        )
    if on_array:
        return Lever(
            name="a DMA unit",
            what='transfer.engine = "dma"',
            group="issue",
            change=lambda one: moves.with_transfer(one, engine="dma"),
        )
    return Lever(
        name="without a DMA unit" if has else "issue by the cores charged: its file has no DMA unit",
        what=f"cores issue transfers from main memory, a value a lane or a burst at a time: {slots}",
        group="issue",
        weigh=_issued,
        takes_away=True,
    )


def _unfused(case: Case, found: Analysis) -> Outcome:
    """Return the outcome with every operation alone at level ideal."""
    precision = with_stream(case.chip, found.precision)
    machine = _machine(found)
    whole = fold(machine, step_operations(case.model, found.scenario, precision))
    return replace(
        outcome(found.estimate),
        time=float(whole.time),
        energy=None if whole.energy is None else float(whole.energy),
        bytes=float(whole.cost.bytes[machine.levels[-1].name]),
        interval=None,
    )


def _synchronous(case: Case, found: Analysis) -> Outcome:
    """Return the outcome with no overlap inside an operation: the sum of all resource times."""
    plain, time = outcome(found.estimate), float(found.estimate.time_upper)
    idle = powered(case.chip).package.idle_power
    longer = 0.0 if idle is None else float(static_energy(time=time - plain.time, power=idle))
    return replace(plain, time=time, energy=None if plain.energy is None else plain.energy + longer, interval=None)


def _issued(case: Case, found: Analysis) -> Outcome:
    return moves.issued_by_cores(found.estimate, _machine(found), case.phase)


# ---- one at a time, and two together ----------------------------------------------------------------------------------------


def _effect(pulled: Sequence[Lever], case: Case, plain: Outcome) -> Effect:
    """Return what levers do together; where one cannot be pulled, the reason."""
    name, what = (" + ".join(getattr(one, field) for one in pulled) for field in ("name", "what"))
    away = any(one.takes_away for one in pulled)
    try:
        result = _result(pulled, case)
    except (InputError, InfeasibleError) as error:
        return Effect(name=name, what=what, result=None, takes_away=away, reason=str(error))
    energy = result.energy_per_token
    before = plain.energy_per_token
    return Effect(
        name=name,
        what=what,
        result=result,
        time=result.time_per_token / plain.time_per_token,
        energy=None if energy is None or not before else energy / before,
        capacity=result.capacity / plain.capacity if plain.capacity else None,
        bytes=result.bytes / result.tokens * plain.tokens / plain.bytes if plain.bytes else None,
        takes_away=away,
        note=_note(pulled, result, plain),
    )


def _result(pulled: Sequence[Lever], case: Case) -> Outcome:
    weigh: Callable[[Case, Analysis], Outcome] | None = None
    for one in pulled:
        case = case if one.change is None else one.change(case)
        weigh = one.weigh or weigh
    found = analysis_of(case)
    return outcome(found.estimate, case.reserved) if weigh is None else weigh(case, found)


def _note(pulled: Sequence[Lever], result: Outcome, plain: Outcome) -> str:
    same = (result.time, result.energy, result.bytes) == (plain.time, plain.energy, plain.bytes)
    notes: Mapping[str, str] = {
        "room": "every tensor crosses once, whatever fits; --residency warm keeps what does",
        "sparsity": "zeros cost as much as any other value",
        "overlap": "this level lets resources overlap inside an operation, whatever the file says",
        "issue": "this level charges nothing for it here",
    }
    if pulled[0].weigh is not None:
        return ""
    already = "nothing changes: it is so already" if set(pulled[0].group.split()) <= {"weights", "activations", "kv"} else ""
    return notes.get(pulled[0].group, already) if same else ""


def _best_pair(every: Sequence[Lever], effects: Sequence[Effect], case: Case, plain: Outcome) -> Effect | None:
    """Return the two levers that together make a token fastest; of equals the one that takes less energy."""
    useful = [one for one, effect in zip(every, effects, strict=True) if effect.result is not None and not one.takes_away]
    best: Effect | None = None
    for pair in combinations(useful, 2):
        if set(pair[0].group.split()) & set(pair[1].group.split()) or all(one.weigh for one in pair):
            continue
        found = _effect(pair, case, plain)
        if found.result is not None and (best is None or _worth(found) < _worth(best)):
            best = found
    return best


def _worth(effect: Effect) -> tuple[float, float]:
    time = float("inf") if effect.time is None else effect.time
    return round(time, 12), effect.energy if effect.energy is not None else 0.0
