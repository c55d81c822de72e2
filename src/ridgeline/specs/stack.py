"""A software stack: what a library's version can do, and how its rows were measured. Facts, not fitted constants."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ridgeline.quantities import Bytes, Count, Fraction, Seconds
from ridgeline.specs.base import Spec


@dataclass(frozen=True, kw_only=True, eq=False)
class Stack(Spec):
    """Capabilities of a library's kernels and the protocol of what is measured with it."""

    name: str
    title: str = ""
    frameworks: tuple[str, ...] = ()  # patterns of the rows' `framework`
    kernels: tuple[str, ...] = ("*",)  # patterns of the rows' `kernel`
    vendors: tuple[str, ...] = ("*",)  # patterns of the chip's vendor
    architectures: tuple[str, ...] = ("*",)  # patterns of the chip's family
    note: str = ""
    fixed: Seconds = 0.0  # time of a measured call beside its kernels: events, host, engine
    fixed_of: Mapping[str, Seconds] = field(default_factory=dict[str, Seconds])  # the same by kernel, where it differs from `fixed`
    pass_time: Seconds = 0.0  # of a further kernel of the same call: launch and tail
    resolution: Seconds = 0.0  # of the clock
    weight_copies: Count = 0  # copies of the weights in turn; 0: operands start in main memory
    splits: bool = True  # products along k over more cores
    splits_block_scaled: bool = True  # products of block-scaled fp8 likewise
    quantises: bool = False  # activations in the call that is measured
    tensor_kernels: Count = 0  # of quantisation by tensor: the search of the maximum and the conversion
    tensor_bytes: Bytes = 0  # that they move for each value
    block_kernels: Count = 0  # of quantisation by block
    block_bytes: Bytes = 0
    tiles: tuple[tuple[int, int], ...] = ()  # of its products, where not those of the chip
    block_tiles: tuple[tuple[int, int], ...] = ()  # of products of block-scaled fp8, where not those of the chip
    block_scaled: bool = False  # fp8 operands carry a scale for 128 values along k, whatever the rows call them
    fused_norms: bool = True  # a normalisation is one kernel
    split_attention: bool = True  # decode attention over the KV length
    split_fp8_attention: bool = True  # likewise over a cache in fp8
    split_single_heads: bool = True  # likewise where every query head has keys of its own
    warm_cache: bool = False  # a measurement goes over the same keys and values again and again
    split_group: Count | None = None  # likewise up to so many query heads of a KV head; None: any
    block_loads: Count = 8  # loads in sequence of a block of attention beside its keys and values: page table, queries, reductions
    single_loads: Count = 0  # the same where a block has one query head and a 16-bit cache; 0: as many
    prepares_attention: bool = False  # rotates, and writes queries, keys and values in a kernel of its own before prefill
    group_limit: Count | None = None  # query heads of a KV head that one block packs
    computes_fp8_attention: bool = False  # on an fp8 cache without converting it
    overlaps_softmax: bool = False  # with the matrix unit
    graph: bool = False  # launched as a graph: no time between kernels
    exchange_cycles: Count = 0  # clock cycles of a collective's kernel up to its first byte
    exchange_step: Seconds = 0.0  # that its flags add to the latency of a link
    exchange_fill: Seconds = 0.0  # of a ring's channels, before its links are full
    link_share: Fraction = 1.0  # of the links' bandwidth that its kernels reach
    low_latency_share: Fraction = 1.0  # of that where flags travel with the data
    direct_limit: Bytes = 0.0  # of an all-reduce, up to which kernels read the memory of all others
    direct_cycles: Count = 0  # clock cycles of such a kernel up to its first byte
