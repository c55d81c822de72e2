"""What a host adds to a step: kernels that it issues while the chip runs others, and work that the chip waits for."""

from ridgeline.arrays import maximum
from ridgeline.quantities import Count, Seconds


def exposed_issue(*, kernels: Count, issue: Seconds, device: Seconds) -> Seconds:
    """Time that a chip waits for a host that issues kernels ahead of it.

        max(0, kernels · issue − device)   [fernandez2023framework]: a step where this is not 0 is bound by its framework

    Holds where nothing in the step makes the host wait for the chip; neglected: the bounded queue between them.

    >>> exposed_issue(kernels=1000.0, issue=5e-6, device=2e-3)  # the host takes 5 ms, the chip 2 ms
    0.003
    """
    wait = kernels * issue - device
    return maximum(wait, 0.0 * wait)
