"""Memory, traffic and arithmetic of a training step, as closed formulas."""

from typing import NamedTuple

from ridgeline.quantities import Bytes, Count, Flops
from ridgeline.specs.training import Rematerialisation, ZeroStage


class ModelStates(NamedTuple):
    """Bytes that one data rank keeps of the model: weights as they are computed with, gradients, optimizer states."""

    weights: Bytes
    gradients: Bytes
    optimizer: Bytes


def zero_partition(*, weights: Bytes, gradients: Bytes, optimizer: Bytes, ranks: Count, stage: ZeroStage) -> ModelStates:
    """Model states of one of N data ranks under a stage of ZeRO.

        stage 1: w + g + o/N      stage 2: w + (g + o)/N      stage 3: (w + g + o)/N      [rajbhandari2020zero] §5, figure 1

    Stage 0 is plain data parallelism, every rank with everything. Neglected: padding to a multiple of N, and the weights of the
    layer at work, which stage 3 gathers. The optimizer's share includes the fp32 copy of the weights.

    >>> zero_partition(weights=15e9, gradients=15e9, optimizer=90e9, ranks=64.0, stage=2)  # figure 1's 16.6 GB of 120 GB
    ModelStates(weights=15000000000.0, gradients=234375000.0, optimizer=1406250000.0)
    """
    return ModelStates(
        weights=weights / ranks if stage >= 3 else weights,
        gradients=gradients / ranks if stage >= 2 else gradients,
        optimizer=optimizer / ranks if stage >= 1 else optimizer,
    )


def zero_traffic(*, weights: Bytes, gradients: Bytes, ranks: Count, stage: ZeroStage) -> Bytes:
    """Bytes that each of N data ranks sends in a step.

        stage 0: 2·g·(N − 1)/N      stages 1 and 2: (g + w)·(N − 1)/N      stage 3: (g + 2·w)·(N − 1)/N   [rajbhandari2020zero] §7

    A reduce-scatter of the gradients and an all-gather of the weights; stage 3 gathers them for forward and for backward.

    >>> zero_traffic(weights=2e9, gradients=2e9, ranks=4.0, stage=3) / zero_traffic(weights=2e9, gradients=2e9, ranks=4.0, stage=0)
    1.5
    """
    passed = (ranks - 1) / ranks
    gathered = (gradients, weights, weights, 2 * weights)[stage]
    return (gradients + gathered) * passed


def layer_activations(
    *,
    sequence: Count,
    batch: Count,
    hidden: Count,
    heads: Count,
    element: Bytes = 2.0,
    mask: Bytes = 1.0,
    rematerialisation: Rematerialisation = "none",
) -> Bytes:
    """Bytes that one GPT layer keeps for the backward pass.

        none:       s·b·h·(16·e + 2·μ) + a·s²·b·(2·e + μ) = s·b·h·(34 + 5·a·s/h) at 16 bits   [korthikanti2022activation] equation 1
        selective:  s·b·h·(16·e + 2·μ) = 34·s·b·h                                             [korthikanti2022activation] table 2
        full:       s·b·h·e = 2·s·b·h                                                         [korthikanti2022activation] table 2

    e bytes an element, μ a value of a dropout mask. A feed-forward four times as wide, as many KV heads as heads, one device. The
    whole score matrix is kept, masked half included. Neglected: what one layer needs while it is rematerialised, and the means and
    variances of norms.

    >>> layer_activations(sequence=2048.0, batch=1.0, hidden=12288.0, heads=96.0) / (2048 * 12288)  # 34 + 5·96·2048/12288
    114.0
    """
    tokens = sequence * batch * hidden
    if rematerialisation == "full":
        return tokens * element
    kept = tokens * (16.0 * element + 2.0 * mask)
    if rematerialisation == "selective":
        return kept
    return kept + heads * sequence * sequence * batch * (2.0 * element + mask)


def end_activations(
    *,
    sequence: Count,
    batch: Count,
    hidden: Count,
    vocabulary: Count,
    element: Bytes = 2.0,
    mask: Bytes = 1.0,
    logit: Bytes = 4.0,
) -> Bytes:
    """Bytes that a GPT keeps outside its layers: the embedding's dropout mask, the last norm's and the head's inputs, the logits.

        s·b·h·(μ + 2·e) + 4·s·b·v at 16 bits   [korthikanti2022activation] §4.3

    >>> end_activations(sequence=2.0, batch=3.0, hidden=10.0, vocabulary=100.0)  # 60·5 + 600·4
    2700.0
    """
    tokens = sequence * batch
    return tokens * hidden * (mask + 2.0 * element) + tokens * vocabulary * logit


def training_flops(*, parameters: Count, tokens: Count) -> Flops:
    """FLOPs of a training step by the rule of six.

        6 · P · T   [kaplan2020scaling] §2.1: 2 forward, 4 backward

    Neglects scores and values of attention. P is what multiplies each token: the embedding table does not, a head does.

    >>> training_flops(parameters=1.5e9, tokens=1024.0)
    9216000000000.0
    """
    return 6.0 * parameters * tokens


def gpt_training_flops(*, layers: Count, sequence: Count, batch: Count, hidden: Count, vocabulary: Count) -> Flops:
    """FLOPs of the products of a training step of a GPT, scores counted whole.

        72·B·L·s·h²·(1 + s/(6·h) + v/(12·h·L))   [korthikanti2022activation] appendix A

    >>> gpt_training_flops(layers=1.0, sequence=6.0, batch=1.0, hidden=1.0, vocabulary=0.0)  # 72·6·2
    864.0
    """
    share = 1.0 + sequence / (6.0 * hidden) + vocabulary / (12.0 * hidden * layers)
    return 72.0 * batch * layers * sequence * hidden * hidden * share
