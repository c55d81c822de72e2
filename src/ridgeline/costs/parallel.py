"""What parallelism costs: pipelines and their bubbles, hidden communication, bytes of tensor parallelism, pages of a KV cache.

Conventions: times are of one chip; `bytes` are what one chip sends; a stage is the share of the layers that one chip of a pipeline
holds; fill is the time that one micro-batch takes through all stages.
"""

from ridgeline.arrays import ceil_divide, maximum, minimum
from ridgeline.quantities import Bytes, BytesPerSecond, Count, FlopsPerSecond, Fraction, Seconds

# ---- pipelines ------------------------------------------------------------------------------------------------------------------


def bubble_share(*, stages: Count, micro_batches: Count, chunks: Count = 1.0) -> Fraction:
    """Share of the time that a stage of a pipeline idles while it fills and drains.

        (p − 1) / (v · m + p − 1)   [huang2019gpipe] §2.3 with v = 1, the same for [narayanan2019pipedream] with a flush;
                                    [narayanan2021megatron] §2.2.2 with v chunks a stage

    All stages take the same time. Neglected: sending between stages.

    >>> bubble_share(stages=4.0, micro_batches=9.0)  # 3 of 12 slots
    0.25
    """
    return (stages - 1) / (chunks * micro_batches + stages - 1)


def pipeline_time(*, fill: Seconds, slowest: Seconds, micro_batches: Count, chunks: Count = 1.0) -> Seconds:
    """Time of m micro-batches through a pipeline from empty to empty.

        m · t_max + (Σ t − t_max) / v;   equal stages: (m + (p − 1)/v) · t   [huang2019gpipe] §2.3, [narayanan2021megatron] §2.2.2

    The slowest stage is busy for all micro-batches; the others add one passage, a v-th of it where stages are interleaved.

    >>> pipeline_time(fill=4.0, slowest=1.0, micro_batches=8.0)  # (8 + 4 − 1) slots of 1 s
    11.0
    """
    return micro_batches * slowest + (fill - slowest) / chunks


def steady_period(*, fill: Seconds, slowest: Seconds, micro_batches: Count) -> Seconds:
    """Time between two tokens of a sequence when m micro-batches go round a pipeline without end, as in decode.

        max(m · t_max, Σ t)   the slots of [huang2019gpipe] §2.3 without a flush

    A micro-batch starts its next token when it has left the last stage. With fewer micro-batches than stages the pipeline cannot be
    full; with more they queue at the slowest stage.

    >>> steady_period(fill=4.0, slowest=1.0, micro_batches=2.0), steady_period(fill=4.0, slowest=1.0, micro_batches=6.0)
    (4.0, 6.0)
    """
    return maximum(micro_batches * slowest, fill)


# ---- overlap --------------------------------------------------------------------------------------------------------------------


def overlapped_time(*, compute: Seconds, communication: Seconds, overlap: Fraction, cores: Fraction = 0.0) -> Seconds:
    """Time of work beside communication of which a share runs at the same time.

        time = T + C − min((1 − s) · o · C, T)   between max(T, C) at o = 1 and T + C at o = 0

    o is the share of the communication that is hidden. While it is, it takes the share s of the cores, so that the work
    beside it advances at 1 − s: chips without a unit of their own for collectives [rashidi2021ace]. Work bound by memory would
    lose less.

    >>> overlapped_time(compute=3.0, communication=2.0, overlap=0.5)  # one of the two seconds is hidden
    4.0
    >>> overlapped_time(compute=3.0, communication=2.0, overlap=0.5, cores=0.25)  # and three quarters of it are worth something
    4.25
    """
    return compute + communication - minimum((1 - cores) * overlap * communication, compute)


def ring_attention_block(*, rate: FlopsPerSecond, bandwidth: BytesPerSecond, element: Bytes = 2.0, group: Count = 1.0) -> Count:
    """Tokens a chip from which ring attention hides the passing of keys and values behind their use.

        c = element · F / (2 · g · B)   [liu2023ring] §3: 4·d·c² FLOPs a head hide 2·c·d values; c ≥ F/B at 16 bits

    g query heads share a KV head. Neglected: latency, the causal mask (which doubles it), softmax.

    >>> ring_attention_block(rate=312e12, bandwidth=300e9)  # the paper's A100 on NVLink: about a thousand tokens
    1040.0
    """
    return element * rate / (2 * group * bandwidth)


# ---- tensor parallelism ---------------------------------------------------------------------------------------------------------


def product_pair_bytes(*, rows: Count, hidden: Count, chips: Count, element: Bytes = 2.0) -> Bytes:
    """Bytes that a chip sends for two products after one another in 1-D: columns of the first, rows of the second, all-reduce.

        2 · (t − 1)/t · rows · hidden · element   [shoeybi2019megatron] §3, ring all-reduce of [patarasuk2009bandwidth]

    With sequence-parallel norms it is a reduce-scatter and an all-gather of the same bytes [korthikanti2023reducing] §4.2.2.

    >>> product_pair_bytes(rows=10.0, hidden=100.0, chips=4.0)  # 2 · 3/4 · 2000
    3000.0
    """
    return 2 * (chips - 1) / chips * rows * hidden * element


def block_product_bytes(
    *, rows: Count, inputs: Count, outputs: Count, side: Count, copies: Count = 1.0, element: Bytes = 2.0
) -> Bytes:
    """Bytes that a chip sends for a product in 2-D or 2.5-D, the weight matrix in place on q × q chips, c copies of it.

        (q − 1)/q · rows/c · (inputs + outputs)/q · element,   t = c · q²

    Inputs are gathered along one side of the square, outputs reduced and scattered along the other: SUMMA with the weights
    stationary [vandegeijn1997summa], "2D weight-stationary" of [pope2022efficiently] §3.2.2. Each copy takes a c-th of the rows, so
    that a chip sends rows·(inputs + outputs)/√(c·t): 1/√c of 2-D for c times the memory [solomonik2011communication].

    >>> block_product_bytes(rows=10.0, inputs=100.0, outputs=100.0, side=2.0)  # half of 10 · 200/2, of two bytes
    1000.0
    """
    return (side - 1) / side * rows / copies * (inputs + outputs) / side * element


# ---- pages of a KV cache --------------------------------------------------------------------------------------------------------


def paged_tokens(*, tokens: Count, page: Count) -> Count:
    """Tokens for which whole pages are held, of a sequence of so many tokens.

        ⌈tokens / page⌉ · page   [kwon2023pagedattention] §4.3

    >>> paged_tokens(tokens=100.0, page=16.0)
    112.0
    """
    return ceil_divide(tokens, page) * page


def mean_page_waste(*, page: Count) -> Count:
    """Tokens that the last page of a sequence leaves free on average, lengths being as likely to end anywhere in a page.

        (page − 1) / 2   [kwon2023pagedattention] §4.3: waste is confined to the last page

    >>> mean_page_waste(page=16.0)
    7.5
    """
    return (page - 1) / 2
