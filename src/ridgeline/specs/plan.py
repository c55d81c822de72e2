"""How a model is spread over chips, and how a server runs it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from ridgeline.errors import InputError, nearest
from ridgeline.quantities import Bytes, Count, Fraction, Seconds
from ridgeline.specs.base import Sources, Spec

TensorForm = Literal["1d", "2d", "2.5d"]
Offloaded = Literal["weights", "kv"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan(Spec):
    """Parallelism: degrees, the tier each lives in, what overlaps, and how a chip's memory is used."""

    data: Count = 1
    tensor: Count = 1
    sequence: Count = 1  # ranks over which norms and residuals are cut: 1, or the tensor ranks
    context: Count = 1
    pipeline: Count = 1
    expert: Count = 1  # over tensor, context and data ranks: adds no chips
    tensor_form: TensorForm = "1d"
    sequence_parallel_norms: bool = False  # as `sequence` = `tensor`
    attention_data_parallel: bool = False  # tensor ranks take sequences instead of heads; the feed-forward parts stay cut
    micro_batches: Count = 1
    virtual_stages: Count = 1  # chunks of layers that a pipeline stage holds, interleaved with those of the others
    placement: Mapping[str, str] = field(default_factory=dict[str, str])  # kind of parallelism → tier; empty: inside out
    overlap: Fraction = 0.0  # share of communication hidden behind compute
    communication_cores: Fraction = 0.0  # share of the cores that communication takes while it is hidden
    page: Count = 0  # tokens a page of the KV cache; 0: no pages
    page_waste: Literal["mean", "exact"] = "mean"  # half a page a sequence, or each sequence's length rounded up
    offload: tuple[Offloaded, ...] = ()  # what may go to a further memory tier where the main memory overflows, in this order

    @property
    def chips(self) -> Count:
        """Number of chips that the plan takes; expert parallelism spans tensor and data ranks."""
        return self.data * self.tensor * self.context * self.pipeline

    @property
    def text(self) -> str:
        """The plan as the command takes it, without what is as by default.

        >>> Plan(tensor=8, pipeline=2, micro_batches=4).text
        'tp=8,pp=2,mb=4'
        """
        names = {long: short for short, long in SHORT_NAMES.items()}
        said: list[str] = []
        for field_name in _FIELDS:
            value = getattr(self, field_name)
            if value != getattr(Plan, field_name):
                place = f"@{self.placement[field_name]}" if field_name in self.placement else ""
                shown = "+".join(value) if isinstance(value, tuple) else value if isinstance(value, str) else f"{float(value):g}"
                said.append(f"{names.get(field_name, field_name)}={shown}{place}")
        return ",".join(said) or "one chip"

    @classmethod
    def parse(cls, text: str) -> "Plan":
        """Read `tp=8,pp=2,…`: degrees by short or long name, with a tier as in `dp=4@infiniband`, and the other fields.

        Experts span the tensor, context and data ranks. Where `ep` is given without `dp`, `dp` is what the experts need.

        >>> plan = Plan.parse("tp=8,dp=4@infiniband,overlap=0.5")
        >>> plan.chips, plan.overlap, plan.placement
        (32, 0.5, {'data': 'infiniband'})
        >>> Plan.parse("ep=8").data  # attention data parallel beside eight ranks of experts
        8
        """
        values: dict[str, Any] = {}
        placement: dict[str, str] = {}
        for part in text.split(","):
            name, mark, value = (one.strip() for one in part.partition("="))
            field_name = _field(text, name, mark)
            if field_name in values:
                raise InputError(f"plan {text!r}: {name!r} is said twice")
            if field_name in DEGREES and "@" in value:
                value, _, placement[field_name] = (one.strip() for one in value.partition("@"))
            values[field_name] = _value(text, name, field_name, value)
        if "expert" in values and "data" not in values:
            inside = values.get("tensor", 1) * values.get("context", 1)
            values["data"] = -(-values["expert"] // inside)
        plan = cls(**values, placement=placement)
        return replace(plan, sequence_parallel_norms=True) if plan.sequence > 1 else plan


DEGREES = ("tensor", "context", "data", "pipeline", "expert", "sequence")
SHORT_NAMES: Mapping[str, str] = {
    "tp": "tensor",
    "cp": "context",
    "dp": "data",
    "pp": "pipeline",
    "ep": "expert",
    "sp": "sequence",
    "mb": "micro_batches",
    "vs": "virtual_stages",
    "form": "tensor_form",
    "adp": "attention_data_parallel",
    "cores": "communication_cores",
}
_COUNTS = (*DEGREES, "micro_batches", "virtual_stages", "page")
_SHARES = ("overlap", "communication_cores")
_FLAGS: Mapping[str, bool] = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
_CHOICES: Mapping[str, tuple[str, ...]] = {"tensor_form": get_args(TensorForm), "page_waste": ("mean", "exact")}
_FIELDS = (*_COUNTS, *_SHARES, *_CHOICES, "attention_data_parallel", "offload")


def _field(text: str, name: str, mark: str) -> str:
    long = SHORT_NAMES.get(name.lower(), name.lower().replace("-", "_"))
    if long not in _FIELDS or not mark:
        known = [*SHORT_NAMES, *(one for one in _FIELDS if one not in SHORT_NAMES.values())]
        raise InputError(f"plan {text!r}: {name or text!r} is no `name=value`: {nearest(name, known)}")
    return long


def _value(text: str, name: str, field_name: str, value: str) -> Any:
    if field_name in _COUNTS:
        if not value.isdecimal() or (int(value) < 1 and field_name != "page"):
            raise InputError(f"plan {text!r}: {name}={value}: a whole number of 1 or more is wanted")
        return int(value)
    if field_name in _SHARES:
        try:
            share = float(value)
        except ValueError:
            share = -1.0
        if not 0.0 <= share <= 1.0:
            raise InputError(f"plan {text!r}: {name}={value}: a number from 0 to 1 is wanted")
        return share
    if field_name == "offload":
        parts = tuple(value.split("+"))
        return tuple(_choice(text, name, one, get_args(Offloaded)) for one in parts)
    if field_name in _CHOICES:
        return _choice(text, name, value, _CHOICES[field_name])
    return _FLAGS[_choice(text, name, value, tuple(_FLAGS))]


def _choice(text: str, name: str, value: str, accepted: tuple[str, ...]) -> str:
    if value not in accepted:
        raise InputError(f"plan {text!r}: {name}={value}: choose {', '.join(accepted)}")
    return value


@dataclass(frozen=True, kw_only=True, eq=False)
class Stack(Spec):
    """What a software stack can do and what it costs on the host: facts of a library version."""

    name: str
    title: str = ""
    version: str = ""
    capabilities: Mapping[str, bool | int | str] = field(default_factory=dict[str, bool | int | str])
    step_time: Seconds | None = None
    layer_time: Seconds | None = None
    page_size: Count | None = None
    reserved_memory: Bytes | None = None
    sources: Sources = field(default_factory=dict)
