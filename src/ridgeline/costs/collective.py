"""Balance of communication: operations per communicated byte, and the degree of tensor parallelism that it allows."""

from ridgeline.quantities import Bytes, BytesPerSecond, Count, FlopsPerByte, FlopsPerSecond, Seconds


def ops_per_communicated_byte(*, rate: FlopsPerSecond, bandwidth: BytesPerSecond) -> FlopsPerByte:
    """FLOPs a chip can do while it communicates one byte.

        ops:comms = rate / bandwidth   [fleetwood2025dsa], which counts both directions of the links together

    >>> round(ops_per_communicated_byte(rate=989e12, bandwidth=900e9))
    1099
    """
    return rate / bandwidth


def tensor_parallel_limit(*, width: Count, ops_per_byte: FlopsPerByte, element: Bytes = 2.0) -> Count:
    """Chips at which the all-reduce of a feed-forward block takes as long as its arithmetic.

        4·B·D·F / (Y·C) = 2·element·B·D / W   ⇒   Y = 2·F·W / (element·C) = width / ops:comms at 16 bits   [fleetwood2025dsa]

    2·element·B·D bytes are the two passes over B × D of an all-reduce. A ring sends them in one direction, so W is the bandwidth of
    one direction; the post counts both directions together, and in-network reduction sends half as much: twice as many chips.

    >>> round(tensor_parallel_limit(width=18432, ops_per_byte=1099), 1)
    16.8
    """
    return 2.0 * width / (element * ops_per_byte)


def distributed_load_time(*, parameters: Count, chips: Count, bandwidth: BytesPerSecond, weight: Bytes = 2.0) -> Seconds:
    """Time to read a model's weights once, spread evenly over chips.

        t = weight · P / (N · bandwidth)   [fleetwood2025dsa], 16 bits a weight

    >>> distributed_load_time(parameters=671e9, chips=8, bandwidth=3.35e12)
    0.05007462686567164
    """
    return weight * parameters / (chips * bandwidth)
