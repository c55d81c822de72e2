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
    split, whole = (float(decode("a100-sxm-80gb", 1, 131072, 2, 2, splits=one)[0]) for one in (True, False))
    assert whole > 15 * split
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
