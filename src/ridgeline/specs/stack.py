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
    taken: Mapping[str, str] = field(default_factory=dict[str, str])  # by field: the stack whose value it is
    models: tuple[str, ...] = ()  # patterns of the `framework` of rows of whole models that it runs
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
    warm_rows: bool = False  # vector kernels find what the kernel before wrote in the last-level cache, as far as it fits
    row_loads: Count = 0  # latencies of a step of vector kernels that give each row to one block of threads; 0: blocks share rows
    row_values: Count = 1  # that a thread of such a kernel loads at a time
    fused_norms: bool = True  # a normalisation is one kernel
    split_attention: bool = True  # decode attention over the KV length
    split_fp8_attention: bool = True  # likewise over a cache in fp8
    split_single_heads: bool = True  # likewise where every query head has keys of its own
    warm_cache: bool = False  # a measurement goes over the same keys and values again and again
    split_group: Count | None = None  # likewise up to so many query heads of a KV head; None: any
    block_loads: Count = 8  # loads in sequence of a block of attention beside its keys and values: page table, queries, reductions
    single_loads: Count = 0  # of these that others do not hide where a block has one query head and a 16-bit cache; 0: as many
    decode_rows: Count = 16  # queries that a block of decode multiplies at least, however few heads share its keys
    decode_share: Fraction = 1.0  # of the matrix unit's rate that the instructions of its decode reach
    decode_memory: Bytes | None = None  # of a core's memory that a block of decode takes: others hide its loads; None: all
    join_loads: Count = 0  # in sequence, of the kernel that joins parts of decode, for each part
    swap_kernels: Count = 0  # that bring queries and results of decode into order where several KV heads have a group each
    convert_lane: Count = 20  # lane operations that bring a value of an 8-bit cache to 16 bits
    prepares_attention: bool = False  # rotates, and writes queries, keys and values in a kernel of its own before prefill
    group_limit: Count | None = None  # query heads of a KV head that one block packs
    computes_fp8_attention: bool = False  # on an fp8 cache without converting it
    overlaps_softmax: bool = False  # with the matrix unit
    graph: bool = False  # launched as a graph: no time between kernels
    joins_inputs: bool = True  # products over one input are one product: query, key and value; gate and up
    joins_vectors: bool = True  # elementwise and row-wise operations that follow one another are one kernel
    split_latent: bool = True  # decode over a latent cache, a sequence over several cores
    latent_share: Fraction = 0.75  # of the matrix unit's rate that such a kernel reaches
    latent_contention: Fraction = 0.0  # by which cores slow one another where no sequence is split
    latent_kernels: Count = 2  # of a call of decode over a latent, in start-ups of a kernel
    expanded_kernels: Count = 2  # the same of prefill on expanded keys and values
    expanded_passes: Count = 0  # times that its queries are read and written before
    narrow_latent: bool = True  # an fp8 latent cache is read as such
    expert_kernels: Count = 9  # of a call of a layer of experts, in start-ups of a kernel
    expert_bytes: Bytes = 2.0  # that its passes move for each value of all tokens: the sum over experts is written
    grouped_share: Fraction = 1.0  # of a plain product's rate that its grouped products of 16-bit values reach
    grouped_depth: Count = 1  # by which their cores request more than an even share of the memory's bandwidth
    ordered_ties: tuple[str, ...] = ()  # patterns of `framework` whose measurements round a power law with ties in order
    grouped_tiles: tuple[tuple[int, int], ...] = ()  # of its grouped products
    grouped_alignment: Count = 1  # rows to which it pads each expert's where they lie end to end
    exchange_cycles: Count = 0  # clock cycles of a collective's kernel up to its first byte
    exchange_step: Seconds = 0.0  # that its flags add to the latency of a link
    exchange_fill: Seconds = 0.0  # of one channel of a ring, before its links are full
    link_share: Fraction = 1.0  # of the links' bandwidth that its kernels reach
    flagged_bytes: Bytes = 0.0  # a clock cycle that its cores move where flags travel with the data
    direct_limit: Bytes = 0.0  # of an all-reduce, up to which kernels read the memory of all others
    direct_cycles: Count = 0  # clock cycles of such a kernel up to its first byte
    exchange_wait: Seconds = 0.0  # of a step's collective beside its kernel: ranks that come late, the handover between streams
    host_step: Seconds = 0.0  # of the host for a step while the chip waits: scheduler, sampling, detokenisation
    host_sequence: Seconds = 0.0  # the same for each sequence of a step that decodes
    host_request: Seconds = 0.0  # before the first step of a request, or of a batch of them that come together
    host_layer: Seconds = 0.0  # of the chip, for a layer's kernels that no operation of the model stands for, and gaps between them
    host_kernel: Seconds = 0.0  # of the host to issue a kernel; it runs ahead of the chip, which waits where it is the faster one
    reserves_output: bool = False  # a request is let in only where its prompt and all of its output fit
    memory_share: Fraction = 0.9  # of the memory that a server plans with
    whole_rounds: bool = False  # a block of decode attention draws an even share of the bandwidth: rounds of blocks count whole
    reads_by_head: bool = False  # every query head reads the keys and values that it shares from main memory
    fuses_decode: bool = False  # in decode attention is one kernel though its prompts' scores cross memory
    score_passes: Count = 0  # times that attention in several kernels reads or writes its scores, all pairs; 0: they stay on chip
    function_kernels: Mapping[str, Count] = field(default_factory=dict[str, Count])  # by function: of which a framework composes it
    dequantise_rows: Count | None = None  # rows above which narrow weights are first written at 16 bits; None: never
    few_rows: Count = 0  # rows up to which products run as products of a matrix and vectors, one row of weights a group of lanes
    few_rows_bytes: Bytes = 0.0  # of weights, a clock cycle and core, that such kernels read at most; 0: no limit
    few_keys_bytes: Bytes = 0.0  # the same of keys and values, which each query head reads on its own
    few_rows_lanes: Count = 0.0  # lane operations that bring a value of narrow weights to the lanes' format
    few_rows_share: Fraction = 1.0  # of the datasheet's memory bandwidth that they reach: they only read
    converts_bytes: Bytes = 0.0  # moved for each value of input and output of a product of more rows, between 32 and 16 bits
    prompt_chunk: Count = 0  # tokens of a prompt that a step takes; 0: all
    chunks_in_flight: Count = 0  # of a prompt, at once over the stages of a pipeline; 0: any
    queued_layers: Count = 0  # whose kernels the launch queue of a chip holds: a stage of more stops the host; 0: any
    streams: str = ""  # the format of what passes between its kernels, where not that of the operands
    accumulates: str = ""  # the format that products of 16-bit values sum in, where the chip has a rate of its own for it
    policy: str = "chunked"  # of its scheduler, as `serving` names them
    most_sequences: Count = 256  # that it runs at once
    token_budget: Count = 2048  # of a step
    tunes_limits: bool = False  # sets both from the requests that fit and their mean lengths
    set_aside: Bytes = 0.0  # of a chip's memory for driver, libraries and launched graphs
    windows: bool = True  # keeps to a layer's window unless it is told otherwise
    boxes: tuple[str, ...] = ()  # systems of the catalogue that its published figures are of
