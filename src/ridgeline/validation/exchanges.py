"""Rows that time a collective or a message between chips: on which system, by which library, and the prediction."""

from functools import lru_cache

import numpy as np

from ridgeline.catalogue import load
from ridgeline.errors import InputError, UnknownNameError
from ridgeline.mapping import exchange_kernels
from ridgeline.mapping.collectives import Kind
from ridgeline.mapping.exchange_kernels import exchange_time, least_time, tiers_of
from ridgeline.mapping.many_core import engine
from ridgeline.specs.chip import Chip
from ridgeline.specs.system import NetworkTier
from ridgeline.validation.group import Group, Times
from ridgeline.validation.schema import Row

# Names of datasets → collectives; a schema's `bytes` is the whole tensor, as a collective's buffer here.
NAMES: dict[str, Kind] = {
    "all_reduce": "all-reduce",
    "allreduce": "all-reduce",
    "gpt3-layer:allreduce_mha": "all-reduce",
    "gpt3-layer:allreduce_ffn": "all-reduce",
    "all_gather": "all-gather",
    "allgather": "all-gather",
    "reduce_scatter": "reduce-scatter",
    "alltoall": "all-to-all",
    "all_to_all": "all-to-all",
    "send_recv": "send",
}
LIBRARIES = ("nccl", "trtllm-custom", "rccl", "oneccl", "sglang-custom", "vllm-custom")
_BOX = 8  # chips of a box of a chip for which the catalogue has no system
_NETWORK = 1024  # boxes
_SMALL = 2.0**20
_STEP = 1e-6  # latency of a link whose file gives none


def is_exchange(row: Row) -> bool:
    """Say whether a row times a collective or a message."""
    return row.metric == "latency" and row.has("bytes", "n_chips") and row.text("op").lower() in NAMES


def library_of(row: Row) -> str:
    """Return the communication library behind a row's framework: NVIDIA's where the framework names none."""
    framework = row.text("framework").lower()
    return framework if framework.startswith((*LIBRARIES, "pytorch+")) else "nccl"


def fixes(row: Row) -> bool:
    """Say whether a row tells of the library: small calls that a framework launches one by one wait for its host instead."""
    return not row.text("framework").startswith("pytorch+") or row.number("bytes") >= _SMALL


@lru_cache(maxsize=256)
def network_of(chip: str, topology: str) -> tuple[NetworkTier, ...]:
    """Return the tiers between chips: of the system that a row names, else of the one in the catalogue that says most of them.

    Where there is none, boxes of eight are joined by the fastest link of the chip's own file, and boxes by its slowest.
    """
    try:
        found = load.system(topology) if topology else None
    except UnknownNameError:
        found = None
    if found is not None and found.chip.name == chip:
        return found.tier
    made = [one.tier for one in map(load.system, load.names("systems")) if one.chip.name == chip and one.tier]
    return max(made, key=len) if made else _from_links(load.chip(chip))


def _from_links(chip: Chip) -> tuple[NetworkTier, ...]:
    rates = sorted((one.bandwidth for one in chip.link if one.bandwidth), reverse=True)
    if not rates:
        raise InputError(f"{chip.name}: no link to other chips, and no system of the catalogue is made of it")
    box = NetworkTier(name="box", size=_BOX, topology="switch", bandwidth=rates[0], latency=_STEP)
    return (box, NetworkTier(name="network", size=_NETWORK, topology="switch", bandwidth=_BOX * rates[-1], latency=_STEP))


def times(group: Group) -> Times:
    """Predict collectives: the library's protocol of least time on the system's tiers."""
    chip, stack = group.chip, group.stack
    kind = NAMES[group.text("op").lower()]
    members = int(group.rows[0].number("n_chips"))
    per_node = int(group.rows[0].number("gpus_per_node", members))
    network = network_of(chip.name, group.text("topology"))
    if per_node < members and len(network) < 2:
        raise InputError(f"{chip.name}: its system has no network between nodes of {per_node} chips")
    if per_node < members:
        network = tiers_of(network, per_node)
    machine = engine(chip, group.family, next(iter(chip.matrix_unit.rate)))
    library = exchange_kernels.library_of(chip, stack, machine.clock, machine.bandwidth)
    size = group.column("bytes")
    time = exchange_time(network, kind, size, members, library)
    time = np.maximum(time, stack.fixed_of.get(kind, 0.0))  # a host that has to hand over sets the pace of small calls
    return Times(time, np.asarray(least_time(network, kind, size, members)))
