"""Room for keys and values on a replica, and the limits that a scheduler sets itself from it."""

import math
from typing import NamedTuple

import numpy as np

from ridgeline.errors import InfeasibleError, InputError
from ridgeline.quantities import Bytes, Count, show
from ridgeline.serving.policy import Serving
from ridgeline.serving.simulator import Cache
from ridgeline.serving.surface import Estimator
from ridgeline.specs.scenario import Scenario

_GIBI = 2.0**30
_GIGA = 1e9
_CHECKED = 16.0 / 15.0  # inline check bits take one sixteenth of the memory that they protect


class CacheBytes(NamedTuple):
    """Bytes of a sequence's cache on the fullest chip."""

    each: Bytes  # of a token, before any window is full
    grown: Bytes  # of a token, after all windows are
    fixed: Bytes  # whatever the length: recurrent states
    windowed: Bytes  # those, and all windows


def addressable(*, stated: Bytes, inline_check: bool = False) -> Bytes:
    """Return the bytes that programs find on a memory whose maker states a whole number of GB.

        n GB → n · 2³⁰ B;   with check bits in the same memory 15/16 of it

    DRAM comes in powers of two, and datasheets call a GiB a GB: a board of 80 GB has 80 GiB. A capacity that is no whole number of
    GB is left as it is stated.

    >>> addressable(stated=80e9), addressable(stated=48e9, inline_check=True) / 2**30, addressable(stated=24 * 2**30) / 2**30
    (85899345920.0, 45.0, 24.0)
    """
    whole = stated / _GIGA
    held = round(whole) * _GIBI if whole >= 1.0 and abs(whole - round(whole)) < 1e-9 else stated
    return held / _CHECKED if inline_check else held


def cache_bytes(run: Estimator) -> CacheBytes:
    """Return what tokens and sequences take of a chip's memory, read off the capacities of four decode steps."""
    contexts = np.array([1.0, 2.0, 2.0**30, 2.0**30 + 1.0])
    held = run(Scenario(phase="decode", batch=1.0, context=contexts)).capacity
    first, second, far, further = np.broadcast_to(held.kv if held is not None else 0.0, contexts.shape).tolist()
    each, grown = second - first, further - far
    return CacheBytes(each, grown, first - each, far - grown * 2.0**30)


def cache_room(
    run: Estimator, name: str, serving: Serving, *, verified: int = 1, beside: Bytes = 0.0, more: CacheBytes | None = None
) -> Cache:
    """Return the tokens whose keys and values fit beside weights, activations of the largest step, and fixed states.

        cache_share · (memory_share · memory − set_aside − weights − activations − beside)

    `beside` and `more` are the weights and the cache of a draft model. A layer with a window is either paged like the others, or
    has its whole window set aside for every sequence: whichever leaves more tokens. Raises `InfeasibleError` where no page fits.
    """
    budget = float(serving.token_budget)
    step = run(Scenario(phase="prefill", batch=1.0, prompt=budget)).capacity
    decode = run(Scenario(phase="decode", batch=float(serving.most_sequences), context=float(verified), verified=verified)).capacity
    if step is None or decode is None:
        raise InputError(f"{name}: the machine does not say how much memory it has, and serving needs to know")
    usable = serving.memory_share * step.available - serving.set_aside
    room = serving.cache_share * (usable - step.weights - max(step.activations, decode.activations) - beside)
    own = cache_bytes(run)
    each, grown, fixed, windowed = own if more is None else (one + other for one, other in zip(own, more, strict=True))
    sequences = serving.most_sequences
    tokens = (room - sequences * fixed) / each if each > 0 else math.inf
    if 0 < grown < each:
        tokens = max(tokens, (room - sequences * windowed) / grown)
    if each <= 0 or not tokens >= serving.page:
        needed = step.weights + sequences * fixed
        raise InfeasibleError(
            f"{name} leaves no room for a KV cache: {show(needed, 'B')} of weights and states and "
            f"{show(step.activations, 'B')} of activations, {show(step.available, 'B')} of {step.level}"
        )
    return Cache(tokens=math.floor(tokens), bytes_per_token=each)


class Limits(NamedTuple):
    """What a scheduler runs at once."""

    sequences: int
    tokens: int  # of a step


def tuned_limits(*, fitting: Count, prompt: Count, output: Count, stages: int = 1) -> Limits:
    """Return the limits that TensorRT-LLM's benchmark sets itself from the requests that fit and their mean lengths.

        sequences = min(fitting, 4096) / stages, up to the next 32 below 256, 128 below 1024, 256 above; 64 at least
        tokens = sequences · (1 + prompt / output), at most 32 768, up to the next 256, 512, 1024; 2048 at least

    The second is what a step holds in a steady state: each sequence's token, and the prompts that take the place of those that
    end [nvidia2025trtllmbench].

    >>> tuned_limits(fitting=1976.0, prompt=128.0, output=128.0)
    Limits(sequences=2048, tokens=4096)
    >>> tuned_limits(fitting=20.7, prompt=20000.0, output=2000.0)
    Limits(sequences=64, tokens=2048)
    """
    raw = min(fitting, 4096.0) / stages
    step = 32 if raw < 256 else 128 if raw < 1024 else 256
    tokens = min(raw * (1.0 + prompt / output), 32768.0)
    grain = 256 if tokens < 4096 else 512 if tokens < 8192 else 1024
    return Limits(max(64, step * math.ceil(raw / step)), max(2048, grain * math.ceil(tokens / grain)))
