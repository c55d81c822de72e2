"""Attention on chips of many cores: splits, packing, causal tiles, softmax beside the products, bounds and outside numbers."""

import numpy as np
import pytest

from ridgeline.api import load_chip
from ridgeline.catalogue.families import family_of
from ridgeline.mapping.many_core import engine
from ridgeline.mapping.many_core_attention import AttentionMethod, AttentionShape, decode_time, prefill_time

RANDOM = np.random.default_rng(11)


def decode(name, batch, kv_len, heads, kv_heads, head_size=128, cache=2.0, **method):
    chip = load_chip(name)
    family = family_of(chip.family)
    shape = AttentionShape(
        *(np.atleast_1d(np.asarray(one, float)) for one in (batch, 1, kv_len, heads, kv_heads, head_size)), cache
    )
    return decode_time(engine(chip, family, "bf16"), family, shape, AttentionMethod(**method))


def prefill(name, batch, tokens, heads, kv_heads, head_size=128, causal=True, kv_len=None, **method):
    chip = load_chip(name)
    family = family_of(chip.family)
    kv_len = tokens if kv_len is None else kv_len
    sizes = (batch, tokens, kv_len, heads, kv_heads, head_size)
    shape = AttentionShape(*(np.atleast_1d(np.asarray(one, float)) for one in sizes), 2.0)
    return prefill_time(engine(chip, family, "bf16"), family, shape, AttentionMethod(**method), causal)


@pytest.mark.parametrize("name", ["a100-sxm-80gb", "h100-sxm", "b200-sxm", "mi300x", "rtx-4090"])
def test_never_below_the_bound(name):
    chip = load_chip(name)
    batch, kv_len, kv_heads, group = (2.0 ** RANDOM.integers(0, top, 300) for top in (10, 17, 6, 5))
    time = decode(name, batch, kv_len, kv_heads * group, kv_heads)
    assert (time >= 2 * batch * kv_len * kv_heads * 128 * 2.0 / chip.main_memory.bandwidth).all()
    tokens = 2.0 ** RANDOM.integers(4, 15, 300)
    time = prefill(name, batch, tokens, kv_heads * group, kv_heads)
    peak = chip.matrix_unit.rate["bf16"]
    assert (time >= 4 * batch * kv_heads * group * tokens * (tokens + 1) / 2 * 128 / peak).all()


def test_without_a_split_one_long_sequence_takes_the_time_of_one_chain():
    """131 072 tokens on two heads: 0.07 ms for the bytes, milliseconds where two cores of 108 draw them."""
    split, whole = (float(decode("a100-sxm-80gb", 1, 131072, 2, 2, splits=one, rows=64)[0]) for one in (True, False))
    assert whole > 15 * split
    assert whole == pytest.approx(3.0e-3, rel=0.05)  # 64 rows are multiplied and exponentiated for two heads of one query
    assert split < 3e-4


def test_a_group_beyond_the_limit_reads_its_keys_again():
    packed, single = (float(decode("a100-sxm-80gb", 64, 4096, 64, 1, group_limit=limit)[0]) for limit in (64, 32))
    assert single > 1.5 * packed


def test_many_short_sequences_are_bound_by_their_chains():
    """2048 sequences of two tokens: 2 MB in microseconds, blocks in turn for a hundred."""
    time = float(decode("a100-sxm-80gb", 2048, 2, 12, 2, block_loads=14)[0])
    assert 5e-5 < time < 4e-4


def test_a_cache_that_fits_is_served_faster():
    cold, warm = (float(decode("l40s", 4, 4096, 8, 8, resident=one)[0]) for one in (False, True))
    assert cold > 1.8 * warm


def test_causal_is_half_of_full_at_length():
    whole, half = (float(prefill("a100-sxm-80gb", 4, 16384, 32, 8, causal=one)[0]) for one in (False, True))
    assert whole / half == pytest.approx(2.0, rel=0.03)


def test_softmax_is_hidden_where_it_overlaps():
    apart, together = (float(prefill("h100-sxm", 4, 8192, 32, 8, overlapped=one)[0]) for one in (0.0, 1.0))
    assert apart > 1.1 * together


def test_flash_attention_on_an_a100():
    """Causal attention at 16 k tokens with 128-wide heads: FlashAttention-2 plots about 180 TFLOP/s, other libraries reach 140."""
    flops = 4 * 16384 * (16384 + 1) / 2 * 128 * 16
    assert 1.3e14 < flops / float(prefill("a100-sxm-80gb", 1, 16384, 16, 16)[0]) < 1.9e14


def test_new_tokens_see_what_came_before():
    alone, after = (float(prefill("a100-sxm-80gb", 8, 256, 32, 8, kv_len=kv)[0]) for kv in (256, 8448))
    assert after > 8 * alone


def test_a_lone_block_multiplies_as_fast_as_its_core():
    """Few sequences, no split: 128 tokens take 64 rows of products, softmax and exponentials on one of 108 cores, 2.9 us."""
    short, long = (float(decode("a100-sxm-80gb", 2, kv_len, 8, 8, splits=False, rows=64)[0]) for kv_len in (4096, 8192))
    assert (long - short) / 32 == pytest.approx(2.9e-6, rel=0.03)


def test_blocks_beside_one_another_hide_their_loads():
    """2048 blocks of few tokens on 108 cores: with room for two in a core half of the waiting is left."""
    alone, beside = (float(decode("a100-sxm-80gb", 1024, 2, 16, 2, block_memory=size)[0]) for size in (160e3, 80e3))
    assert 1.4 < alone / beside < 2.0


def test_few_instructions_of_an_earlier_generation_bind_large_groups():
    """Half of the matrix rate doubles what 64 heads on one set of keys take, and leaves 8 heads bound by memory."""
    wide, narrow = ([float(decode("h20", 64, 8192, 2 * group, 2, share=share)[0]) for share in (1.0, 0.5)] for group in (64, 8))
    assert wide[1] > 1.7 * wide[0]
    assert narrow[1] == pytest.approx(narrow[0])


def test_groups_of_several_heads_are_brought_into_order_by_kernels():
    plain, swapped = (
        decode("a100-sxm-80gb", 4, 64, np.array([8.0, 16.0, 8.0]), np.array([1.0, 2.0, 8.0]), swaps=n) for n in (0, 2)
    )
    more = swapped - plain
    assert more[0] == 0.0  # one set of keys: nothing to swap
    assert more[1] > 4e-6
    assert more[2] == 0.0  # every head its own


def test_many_parts_take_long_to_join():
    free, counted = (float(decode("a100-sxm-80gb", 1, 65536, 16, 1, join_loads=n)[0]) for n in (0.0, 1.0))
    assert 3e-6 < counted - free < 60e-6


def test_flash_attention_3_on_an_h100():
    """Causal attention at 16 k tokens with 128-wide heads: the paper plots about 600 to 650 TFLOP/s [shah2024flashattention3]."""
    flops = 4 * 16384 * (16384 + 1) / 2 * 128 * 16
    assert 4.8e14 < flops / float(prefill("h100-sxm", 1, 16384, 16, 16, overlapped=1.0)[0]) < 6.6e14


def test_what_a_loop_finds_again_is_read_from_the_cache():
    """Queries, keys and values of few short sequences stay in 96 MB between launches, also for the kernel that rotates them."""
    cold, warm = (float(prefill("l40s", 4, 256, 16, 16, 256, prepares=True, resident=one)[0]) for one in (False, True))
    assert cold > 1.8 * warm
