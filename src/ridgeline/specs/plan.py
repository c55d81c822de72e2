"""How a model is spread over chips, and how a server runs it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from ridgeline.quantities import Bytes, Count, Fraction, Seconds
from ridgeline.specs.base import Sources, Spec


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan(Spec):
    """Parallelism: degrees, the tier each lives in, and what overlaps."""

    data: Count = 1
    tensor: Count = 1
    sequence: Count = 1
    context: Count = 1
    pipeline: Count = 1
    expert: Count = 1
    tensor_form: Literal["1d", "2d", "2.5d"] = "1d"
    sequence_parallel_norms: bool = False
    attention_data_parallel: bool = False
    micro_batches: Count = 1
    placement: Mapping[str, str] = field(default_factory=dict[str, str])  # kind of parallelism → tier; empty: inside out
    overlap: Fraction = 0.0  # share of communication hidden behind compute
    communication_cores: Fraction = 0.0  # share of the cores that communication takes

    @property
    def chips(self) -> Count:
        """Number of chips that the plan takes; expert parallelism spans tensor and data ranks."""
        return self.data * self.tensor * self.context * self.pipeline


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
