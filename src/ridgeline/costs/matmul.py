"""Time of matrix products at the peak, and the balance of a chip."""

from ridgeline.arrays import where
from ridgeline.quantities import Bytes, BytesPerSecond, Count, Flops, FlopsPerByte, FlopsPerSecond, Seconds


def compute_time(*, flops: Flops, rate: FlopsPerSecond) -> Seconds:
    """Time of `flops` at a rate that they keep busy.

        t = flops / rate   [williams2009roofline]

    >>> compute_time(flops=2.0 * 4096**3, rate=1e15)
    0.000137438953472
    """
    return flops / rate


def ridge(*, rate: FlopsPerSecond, bandwidth: BytesPerSecond) -> FlopsPerByte:
    """FLOPs per byte at which a chip turns from memory- to compute-bound (its ops:byte).

        ridge = rate / bandwidth   [williams2009roofline]

    >>> round(ridge(rate=989e12, bandwidth=3.35e12), 1)  # an H100, [fleetwood2025dsa]
    295.2
    """
    return rate / bandwidth


def intensity(*, m: Count, n: Count, k: Count, element: Bytes) -> FlopsPerByte:
    """FLOPs per byte of an m × k by k × n product whose operands and result each cross once.

        2·m·n·k / (element · (m·k + k·n + m·n))   [fleetwood2025dsa]

    >>> round(intensity(m=1, n=4096, k=4096, element=2), 3)  # about one FLOP a byte: a matrix-vector product
    1.0
    """
    return 2.0 * m * n * k / (element * (m * k + k * n + m * n))


def critical_batch(*, rate: FlopsPerSecond, bandwidth: BytesPerSecond, weight: Bytes) -> Count:
    """Rows at which a wide weight matrix turns compute-bound, activations neglected.

        2·m·n·k / rate = weight·n·k / bandwidth   ⇒   m = weight · rate / (2 · bandwidth)   [fleetwood2025dsa]

    >>> round(critical_batch(rate=989e12, bandwidth=3.35e12, weight=2.0), 1)
    295.2
    """
    return weight * rate / (2.0 * bandwidth)


def critical_batch_exact(
    *,
    rate: FlopsPerSecond,
    bandwidth: BytesPerSecond,
    weight: Bytes,
    activation: Bytes,
    output: Bytes,
    n: Count,
    k: Count,
) -> Count:
    """Rows at which an n × k weight matrix turns compute-bound, its activations counted; infinite where they never let it.

        2·m·n·k / rate = (weight·n·k + activation·m·k + output·m·n) / bandwidth
        m = weight·n·k / (2·n·k·bandwidth/rate − activation·k − output·n)

    >>> round(critical_batch_exact(rate=989e12, bandwidth=3.35e12, weight=2.0, activation=2.0, output=2.0, n=4096, k=14336), 1)
    325.4
    """
    rest = 2.0 * n * k * bandwidth / rate - activation * k - output * n
    return where(rest > 0, weight * n * k / where(rest > 0, rest, weight), float("inf"))
