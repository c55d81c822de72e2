"""What a software stack makes of a step beside its kernels: prompts in chunks, host time, the wait between ranks.

Kernels of a stack are in `many_core_step`. Here a prompt is cut into the chunks that a stack takes at a time, and what the host
adds becomes rows of the breakdown, whose time counts by resource `host`.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from ridgeline.arrays import ceil_divide, is_scalar, is_zero, maximum, to_float
from ridgeline.costs.host import exposed_issue
from ridgeline.quantities import Count, Seconds
from ridgeline.results import Operation, OperationEstimate, resource_row
from ridgeline.specs.chip import Chip
from ridgeline.specs.number_format import FORMATS
from ridgeline.specs.precision import Precision
from ridgeline.specs.scenario import Scenario
from ridgeline.specs.stack import Stack
from ridgeline.workload.transformer import repeat

HOST = "host"
ISSUE, REQUEST = "host issue", "host of a request"  # names of rows that a step of many requests does not simply add up


def stack_of(chip: Chip, level: str) -> Stack | None:
    """Return the stack whose kernels a step at a level runs; None where none does."""
    many_core = chip.efficiency is not None and chip.cores is not None and chip.cores.clock is not None
    return chip.stack if level == "mapped" and many_core else None


def stack_precision(stack: Stack | None, precision: Precision) -> Precision:
    """Return a precision with the formats that a stack sums in and passes between kernels, where none was asked for."""
    if stack is None or not (stack.accumulates or stack.streams):
        return precision
    summed = FORMATS[stack.accumulates] if stack.accumulates else None
    passed = FORMATS[stack.streams] if stack.streams else None
    return replace(precision, accumulate=precision.accumulate or summed, wide=precision.wide or passed)


# ---- prompts in chunks ------------------------------------------------------------------------------------------------------


def chunks(stack: Stack | None, scenario: Scenario) -> Count:
    """Return the chunks in which a stack takes a prompt: 1 where it takes all at once."""
    if stack is None or is_zero(stack.prompt_chunk) or scenario.phase not in ("prefill", "generate"):
        return 1.0
    return maximum(ceil_divide(to_float(scenario.prompt), stack.prompt_chunk), 1.0)


def chunk_scenario(scenario: Scenario, count: Count) -> Scenario:
    """Return the prefill of a mean chunk of a prompt: `count` of them attend to as much together as all of its chunks."""
    each = scenario.prompt / count
    past = 0.0 * each if scenario.phase == "generate" else scenario.context
    return replace(scenario, phase="prefill", prompt=each, context=past + (scenario.prompt - each) / 2.0)


def chunked_operations(
    build: Callable[[Scenario], tuple[Operation, ...]], stack: Stack | None, scenario: Scenario
) -> tuple[Operation, ...]:
    """Return a step's operations as a stack takes its prompt; `build` gives those of a scenario."""
    count = chunks(stack, scenario)
    if is_scalar(count) and count == 1.0:
        return build(scenario)
    found = tuple(_times(one, count) for one in build(chunk_scenario(scenario, count)))
    if scenario.phase == "prefill":
        return found
    decode = tuple(one for one in build(scenario) if one.place.startswith("decode "))
    return (*repeat(found, 1, "prefill ", "prefill "), *decode)


def _times(operation: Operation, count: Count) -> Operation:
    """Return an operation once a chunk; the head's once a prompt."""
    return operation if operation.group == "head" else replace(operation, count=operation.count * count)


# ---- the host ---------------------------------------------------------------------------------------------------------------


class HostWork(NamedTuple):
    """What a host has to do with some steps: of one phase, on one chip."""

    kernels: Count
    layers: Count
    steps: Count  # 0 where another stage's host counts them
    sequences: Count  # that decode in a step
    requests: Count  # batches of requests that begin, 0 or 1
    device: Seconds  # that the chip takes


def host_rows(stack: Stack | None, work: HostWork, prefix: str = "") -> tuple[OperationEstimate, ...]:
    """Return what the host adds to steps.

    steps · (host_step + sequences · host_sequence) + host_request + layers · host_layer + max(0, kernels · host_kernel − device)
    """
    if stack is None:
        return ()
    found: list[OperationEstimate] = []
    if not (is_zero(stack.host_step) or is_zero(work.steps)):
        found.append(_row(f"{prefix}host between steps", work.steps, stack.host_step))
    if not (is_zero(stack.host_sequence) or is_zero(work.steps) or is_zero(work.sequences)):
        found.append(_row(f"{prefix}host of sequences", work.steps, stack.host_sequence * work.sequences))
    if not (is_zero(stack.host_request) or is_zero(work.requests)):
        found.append(_row(prefix + REQUEST, work.requests, stack.host_request))
    if not is_zero(stack.host_layer):
        found.append(_row(f"{prefix}host between layers", work.layers, stack.host_layer))
    if not is_zero(stack.host_kernel):
        exposed = exposed_issue(kernels=work.kernels, issue=stack.host_kernel, device=work.device)
        found.append(_row(prefix + ISSUE, 1.0, exposed))
    return tuple(found)


def layer_count(operations: Sequence[Operation]) -> Count:
    """Return how many layers operations run through, each as often as it runs."""
    first: dict[str, Count] = {}
    for one in operations:
        place = one.place.partition(" · ")[0]
        if "layer group " in place:
            first.setdefault(place, one.count)
    found: Count = 0.0
    for count in first.values():
        found = found + count
    return found


def _row(name: str, count: Count, time: Seconds) -> OperationEstimate:
    return resource_row(name, HOST, count=count, time=time)
