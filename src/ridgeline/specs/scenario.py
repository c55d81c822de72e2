"""What is asked of a model: the phase, and how many sequences and tokens."""

from dataclasses import dataclass
from typing import Literal

from ridgeline.quantities import Count, Fraction
from ridgeline.specs.training import OptimizerName, Rematerialisation, ZeroStage

Phase = Literal["encode", "prefill", "decode", "generate", "train"]
LatentForm = Literal["absorbed", "expanded", "cached-expanded"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Scenario:
    """One step of a workload, or a batch of steps: counts may be arrays.

    - encode: `batch` sequences of `prompt` tokens, each token attends to all.
    - prefill: `prompt` new tokens a sequence after `context` tokens that are in the cache already (0: from scratch; chunked
      prefill passes what earlier chunks left there).
    - decode: one step; every sequence adds `verified` tokens (1 without speculation) and attends to `context` tokens, the new
      ones included.
    - generate: prefill of `prompt`, then `output` decode steps.
    - train: forward, backward and optimizer step over `batch` sequences of `prompt` tokens, those of one data rank.
    """

    phase: Phase = "decode"
    batch: Count = 1
    prompt: Count = 0
    context: Count = 0
    output: Count = 1
    samples: Count = 1  # sequences that share one prompt's KV cache
    verified: Count = 1  # tokens a sequence brings to one decode step under speculation
    acceptance: Fraction | None = None  # probability that a speculated token is kept
    source_tokens: Count = 0  # encoder tokens that cross-attention reads; 0: the model's own number
    routing_skew: Fraction = 0.0  # Zipf exponent of expert popularity; 0: uniform
    latent: LatentForm | None = None  # absorbed, expanded or cached-expanded; None: absorbed in decode, expanded in prefill
    head_tokens: Literal["last", "all"] = "last"  # output head over the last token of a prompt, or over all
    optimizer: OptimizerName = "adam"  # this and what follows: of a train step
    rematerialisation: Rematerialisation = "none"
    rematerialised: Fraction = 1.0  # share of the layers to which that applies
    zero: ZeroStage = 0  # what data ranks partition: 1 optimizer states, 2 gradients too, 3 weights too
    data_ranks: Count = 1
