"""Levers on the memory wall: changes of precision, model, scenario or chip, each of which a user could make by hand.

A lever changes one case into another, or weighs the rows of an estimate anew where a chip's file has no word for it. Nothing
here knows a product.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ridgeline.arrays import to_float
from ridgeline.costs.area import register_area
from ridgeline.costs.components import chip_area, chip_coefficients, element_area, mac_area, mac_energy
from ridgeline.costs.ideal import Machine
from ridgeline.costs.memory import issue_share
from ridgeline.errors import InputError
from ridgeline.estimate import assemble
from ridgeline.mapping.many_core_step import DEFAULT_STACK
from ridgeline.quantities import Bytes, Count, Fraction, Joules, Seconds
from ridgeline.results import Capacity, Estimate, Interval, OperationEstimate
from ridgeline.specs.chip import Chip, MemoryLevel
from ridgeline.specs.model import ConvolutionalModel, Layer, Model
from ridgeline.specs.number_format import FORMATS, NumberFormat
from ridgeline.specs.precision import Precision

WEIGHT_GROUPS = frozenset({"projections", "feed-forward", "experts", "head"})  # whose stationary operand is a weight
METADATA_BITS = 1.0  # a bit a weight says whether it is there
STRUCTURED, UNSTRUCTURED = 0.3, 0.8  # shares removed [gholami2024wall]
BURST, SLOTS = (
    128.0,
    2.0,
)  # of a core that issues its own transfers: bytes of an instruction on unknown lanes, slots with its address


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """What is asked of `analyze`: everything that a lever may change."""

    model: Model | ConvolutionalModel
    chip: Chip
    precision: Precision
    phase: str
    given: Mapping[str, Any] = field(default_factory=dict[str, Any])  # fields of the scenario
    level: str | None = None  # of detail; None: that of the chip's file
    fusion: str = "best"
    residency: str = "cold"
    plan: str | None = None
    reserved: Bytes = 0.0  # of the main memory, kept free


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a case takes: a step, a token, and what it keeps in memory."""

    time: Seconds
    energy: Joules | None
    tokens: Count
    capacity: Bytes  # held in the main memory
    available: Bytes  # there and in a further tier
    bytes: Bytes = 0.0  # that cross the main memory and a further tier
    bound: str = ""
    interval: Interval | None = None

    @property
    def time_per_token(self) -> Seconds:
        """Time of a token of all sequences together."""
        return self.time / self.tokens

    @property
    def energy_per_token(self) -> Joules | None:
        """Energy of a token."""
        return None if self.energy is None else self.energy / self.tokens


def outcome(found: Estimate, reserved: Bytes = 0.0) -> Outcome:
    """Return an estimate as an outcome; `reserved` bytes of the main memory were kept free and are there as well."""
    held = found.capacity
    return Outcome(
        time=to_float(found.time),
        energy=None if found.energy is None else to_float(found.energy),
        tokens=to_float(found.tokens),
        capacity=0.0 if held is None else to_float(held.in_main),
        available=0.0 if held is None else to_float(held.available + held.further_available) + reserved,
        bytes=sum(to_float(row.bytes * row.count) for row in found.operations),
        bound=str(found.bound),
        interval=found.interval,
    )


# ---- precision --------------------------------------------------------------------------------------------------------------


def with_formats(case: Case, *, weights: str | None = None, activations: str | None = None, kv: str | None = None) -> Case:
    """Return a case with other formats of some roles; heads, tables and experts follow the weights.

    >>> from ridgeline.specs.model import Model
    >>> case = Case(model=Model(name="m", hidden=8), chip=Chip(name="c"), precision=Precision.parse("bf16"), phase="decode")
    >>> with_formats(case, kv="int8").precision.name
    'w:bf16,a:bf16,kv:int8'
    """
    old = case.precision
    w, a, c = (
        old.weights if weights is None else FORMATS[weights],
        old.activations if activations is None else FORMATS[activations],
        old.kv if kv is None else FORMATS[kv],
    )
    changed = replace(old, name=f"w:{w.name},a:{a.name},kv:{c.name}", weights=w, activations=a, kv=c)
    if weights is not None:
        changed = replace(changed, expert_weights=None, embedding_weights=None, head_weights=None)
    return replace(case, precision=changed)


def eight_bits(chip: Chip) -> str | None:
    """Return the 8-bit format that a chip multiplies: floats before integers; None where it has none."""
    formats = {name.partition(":")[0] for name in chip.matrix_unit.rate}
    return next((one for one in ("fp8-e4m3", "int8") if one in formats), None)


def with_adders(case: Case) -> Case:
    """Return a case of ternary weights on a chip whose elements select and add instead of multiplying, on the same area.

        rate · A / (A − A_multiply + bits · A_multiplexer),   energy − E_multiply + bits · E_multiplexer   [ma2024ternary]

    A is an element with its registers; activations are 8-bit integers. Needs the chip's node.
    """
    form, at = FORMATS["int8"], chip_coefficients(case.chip)
    unit = case.chip.matrix_unit
    if at is None or "int8" not in unit.rate:
        raise InputError(f"{case.chip.name} has {'no int8 unit' if at is not None else 'no process node'} to turn into adders")
    whole, multiply = element_area(case.chip, form, at), mac_area(form, at).multiply
    denser = whole / (whole - multiply + form.bits * at.multiplexer_area + register_area(bits=2.0, area=at.register_area))
    old = mac_energy(form, at)
    saved = 2.0 * form.bits * at.multiplexer_energy - old.multiply
    energy = dict(unit.energy)
    if "int8" in energy:
        energy["int8"] = energy["int8"] * max(0.0, (old.whole + saved) / old.whole)
    changed = replace(unit, rate={**unit.rate, "int8": unit.rate["int8"] * denser}, energy=energy)
    ternary = with_formats(case, weights="ternary", activations="int8")
    return replace(ternary, chip=replace(case.chip, matrix_unit=changed))


def compressed(case: Case) -> Case:
    """Return a case whose weights are stored without their zeros: values that remain, and a bit a weight that says which.

    bits = (1 − 0.8) · bits + 1; products are computed whole.
    """
    old = case.precision

    def sparse(form: NumberFormat) -> NumberFormat:
        kept = (1.0 - UNSTRUCTURED) * form.bits_per_value
        return replace(form, bits=kept + METADATA_BITS, block=None, block_bits=0.0, scale=None)

    changed = replace(
        old,
        name=f"{old.name}, {UNSTRUCTURED:.0%} of the weights zero",
        weights=sparse(old.weights),
        expert_weights=sparse(old.experts),
        head_weights=sparse(old.head),
        embedding_weights=old.embedding,
    )
    return replace(case, precision=changed)


def skipping_chip(chip: Chip) -> Chip:
    """Return a chip that multiplies as if only what remains of the weights were there: for products with weights alone."""
    unit, left = chip.matrix_unit, 1.0 - UNSTRUCTURED
    rate = {name: value / left for name, value in unit.rate.items()}
    energy = {name: value * left for name, value in unit.energy.items()}
    return replace(chip, matrix_unit=replace(unit, rate=rate, energy=energy))


def mixed(whole: Estimate, fast: Estimate, machine: Machine, phase: str) -> Outcome:
    """Return an outcome whose products with weights are of one estimate, everything else of another.

    Where the faster unit has other kernels joined, its own rows of functions stand: they do not use the matrix unit.
    """
    slow: dict[str, list[OperationEstimate]] = {}
    for row in whole.operations:
        slow.setdefault(row.name, []).append(row)
    rows: list[OperationEstimate] = []
    for row in fast.operations:
        alike = slow.get(row.name, [])
        known = alike.pop(0) if alike else None
        if row.kind == "attention" and known is None:
            raise InputError(f"{row.name}: joined with other kernels on a faster unit, and cannot be weighed alone")
        rows.append(row if known is None or (row.group in WEIGHT_GROUPS and row.kind == "matmul") else known)
    return weighed(whole, rows, machine, phase)


def weighed(found: Estimate, rows: Sequence[OperationEstimate], machine: Machine, phase: str) -> Outcome:
    """Return the outcome of rows that were changed, added up as the estimate's own."""
    if found.capacity is None:
        raise InputError(f"{machine.chip.name} has no memory with a capacity")
    return outcome(assemble(machine, found.level, tuple(rows), found.capacity, found.tokens, phase=phase))


# ---- model and scenario -----------------------------------------------------------------------------------------------------


def narrower(case: Case) -> Case:
    """Return a case whose model has three in ten of its feed-forward neurons removed: a smaller dense model on any hardware."""
    if isinstance(case.model, ConvolutionalModel):
        raise InputError(f"{case.model.name} has no feed-forward neurons to remove")

    def cut(width: Count) -> Count:
        return round(width * (1.0 - STRUCTURED))

    def thin(layer: Layer) -> Layer:
        inner, experts = layer.feed_forward, layer.experts
        return replace(
            layer,
            feed_forward=None if inner is None else replace(inner, width=cut(inner.width)),
            experts=None if experts is None else replace(experts, width=cut(experts.width), shared_width=cut(experts.shared_width)),
        )

    model = case.model
    return replace(case, model=replace(model, encoder=tuple(map(thin, model.encoder)), decoder=tuple(map(thin, model.decoder))))


def shallower(case: Case) -> Case:
    """Return a case whose model has half of its layers."""
    if isinstance(case.model, ConvolutionalModel):
        raise InputError(f"{case.model.name} has no layers of one kind to halve")

    def half(layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
        return tuple(replace(one, count=max(1, one.count // 2)) for one in layers)

    model = case.model
    return replace(case, model=replace(model, encoder=half(model.encoder), decoder=half(model.decoder)))


def batched(case: Case, factor: int = 8) -> Case:
    """Return a case with a larger batch."""
    return replace(case, given={**case.given, "batch": case.given.get("batch", 1) * factor})


# ---- memories and transfers -------------------------------------------------------------------------------------------------


def on_chip(chip: Chip) -> MemoryLevel | None:
    """Return the largest memory for operands on the chip beside the one that holds the model; else the one for sums."""
    inside = [one for one in chip.memory if one.capacity is not None and one.name != chip.main_memory.name]
    inside = [one for one in inside if one.role not in ("dram", "further-tier")]
    inside = [one for one in inside if one.role not in ("accumulator", "registers")] or inside
    return max(inside, key=lambda one: float(chip.whole(one).capacity or 0.0), default=None)


def roomier(case: Case, factor: float = 4.0) -> Case:
    """Return a case whose chip's largest on-chip memory is larger, as fast as before."""
    found = on_chip(case.chip)
    if found is None:
        raise InputError(f"{case.chip.name} has no on-chip memory of a known capacity beside the one that holds the model")
    larger = replace(found, capacity=float(found.capacity or 0.0) * factor)
    memory = tuple(larger if one.name == found.name else one for one in case.chip.memory)
    return replace(case, chip=replace(case.chip, memory=memory))


def with_transfer(case: Case, **changed: Any) -> Case:
    """Return a case whose chip moves data otherwise."""
    return replace(case, chip=replace(case.chip, transfer=replace(case.chip.transfer, **changed)))


def issue_slots(chip: Chip) -> Seconds:
    """Return the time in which one core issues a request: its file's, or two instructions of a clock each, which are taken."""
    if chip.transfer.issue is not None:
        return chip.transfer.issue
    if chip.cores is None or chip.cores.clock is None:
        raise InputError(f"{chip.name} has no clock, which issue slots need")
    return SLOTS / chip.cores.clock


def unjoined(chip: Chip) -> Chip:
    """Return a chip of many cores whose stack joins neither functions nor products; attention stays one kernel."""
    stack = chip.stack or DEFAULT_STACK
    return replace(chip, stack=replace(stack, joins_inputs=False, joins_vectors=False))


def request_bytes(chip: Chip) -> Bytes:
    """Return the bytes that one instruction of a core moves: its file's burst, else a value for each of its lanes, else 128."""
    rates = {name: float(value) for name, value in chip.vector_unit.rate.items() if name in ("fp32", "fp16", "bf16")}
    wide = max((value * FORMATS[name].bytes_per_value for name, value in rates.items()), default=0.0)
    if chip.transfer.burst is not None:
        return chip.transfer.burst
    if not wide or chip.cores is None or chip.cores.clock is None:
        return BURST
    return max(1.0, wide / (2.0 * float(chip.cores.count) * float(chip.cores.clock)))


def issued_by_cores(found: Estimate, machine: Machine, phase: str) -> Outcome:
    """Return the outcome if cores issued every transfer from main memory themselves, in slots that arithmetic loses.

        time = max(as before, compute + ⌈bytes / request⌉ · 2 / (cores · clock))   an operation

    One instruction a core and clock, which fills the core's lanes with a value each, and a second for its address: taken, not
    measured.
    """
    chip = machine.chip
    if chip.matrix_unit.attached_to == chip.main_memory.name:
        raise InputError(f"{chip.name} computes in its main memory: nothing is brought to its cores")
    if chip.cores is None or chip.cores.clock is None:
        raise InputError(f"{chip.name} has no clock, which issue slots need")
    slots, burst = chip.cores.count * chip.cores.clock, request_bytes(chip)
    rows: list[OperationEstimate] = []
    for row in found.operations:
        issue = issue_share(bytes=row.bytes, burst=burst, slots=SLOTS, rate=slots)
        longer = max(to_float(row.time), to_float(row.cost.time.get("compute", 0.0) + issue))
        rows.append(replace(row, time=longer))
    return weighed(found, rows, machine, phase)


def further_tier(chip: Chip) -> MemoryLevel:
    """Return a chip's further tier, or one like the LPDDR5X beside a Grace Hopper: 480 GB at 500 GB/s."""
    tier = next((one for one in chip.memory if one.role == "further-tier" and one.bandwidth is not None), None)
    return tier or MemoryLevel(name="further-tier", role="further-tier", technology="LPDDR5X", capacity=480e9, bandwidth=500e9)


def with_tier(case: Case) -> Case:
    """Return a case whose chip has a further tier that the KV cache may go to."""
    chip, tier = case.chip, further_tier(case.chip)
    memory = chip.memory if any(one.name == tier.name for one in chip.memory) else (*chip.memory, tier)
    return replace(case, chip=replace(chip, memory=memory), plan="offload=kv")


def cache_in_tier(case: Case, held: Capacity) -> Case:
    """Return a case with a further tier (`with_tier`) and no room for the KV cache in the main memory: all of it goes there.

    What is held without the cache is the main memory that is left to the step; the rest is kept free, for more sequences.
    """
    if not to_float(held.kv):
        raise InputError(f"{case.model.name} keeps no KV cache in this phase")
    main, left = case.chip.main_memory, to_float(held.needed - held.kv)
    share = left / to_float(held.available)
    if share > 1.0:
        raise InputError(f"{case.chip.name}: its main memory does not hold the weights, which stay there")
    smaller = replace(main, capacity=float(main.capacity or 0.0) * share)
    memory = tuple(smaller if one.name == main.name else one for one in case.chip.memory)
    return replace(case, chip=replace(case.chip, memory=memory), reserved=to_float(held.available) - left)


# ---- area -------------------------------------------------------------------------------------------------------------------

# Die area of a memory's interface and controller for a byte a second, m²: recalled for 16 mm² a stack of 819 GB/s, 6 mm² for 32
# pins of GDDR6 at 16 Gbit/s, 6 mm² for 64 bits of LPDDR5 at 6.4 Gbit/s, 8 mm² for 64 bits of DDR5 at 4.8 Gbit/s. Estimates.
INTERFACE_AREA: Mapping[str, float] = {
    "HBM": 16e-6 / 819e9,
    "GDDR": 6e-6 / 64e9,
    "LPDDR": 6e-6 / 51.2e9,
    "DDR": 8e-6 / 38.4e9,
}


def rebalanced(case: Case, share: Fraction = 0.5) -> Case:
    """Return a case whose chip gives a share of its matrix unit's area to the interface of its main memory.

        bandwidth + share · A_matrix / (area of a byte a second),   peak · (1 − share)

    Needs the chip's node, from which its area follows; the edge of the die and the memory's own limits are neglected.
    """
    chip = case.chip
    technology = chip.main_memory.technology or ""
    kind = next((one for one in ("HBM", "GDDR", "LPDDR", "DDR") if technology.startswith(one)), None)
    if kind is None:
        raise InputError(f"{chip.name} keeps the model in {technology or 'a memory'} whose interface has no known area")
    freed = share * to_float(chip_area(chip)["matrix unit"])
    unit = chip.matrix_unit
    main = chip.main_memory.name
    memory = tuple(
        replace(one, bandwidth=one.bandwidth + freed / INTERFACE_AREA[kind]) if one.name == main else one for one in chip.memory
    )
    rate = {name: value * (1.0 - share) for name, value in unit.rate.items()}
    macs = {name: value * (1.0 - share) for name, value in unit.macs_per_cycle.items()}
    return replace(case, chip=replace(chip, memory=memory, matrix_unit=replace(unit, rate=rate, macs_per_cycle=macs)))
