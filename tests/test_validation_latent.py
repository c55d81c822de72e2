"""Attention over a latent: kernels that share a sequence among blocks and those that do not, and the measured rows."""

from dataclasses import replace

import numpy as np
import pytest

from ridgeline.catalogue import families, load
from ridgeline.mapping.latent_kernels import LatentMethod, LatentShape, latent_decode_time, latent_prefill_time
from ridgeline.mapping.many_core import engine
from ridgeline.validation import compare, latent, schema
from ridgeline.validation.predict import predict

CHIP = load.chip("a100-sxm-80gb")
FAMILY = families.family_of(CHIP.family)
MACHINE = engine(CHIP, FAMILY, "bf16")
WHOLE = LatentMethod(splits=False)


def shape(batch=1.0, queries=1.0, kv_len=4096.0, heads=16.0, cache=2.0) -> LatentShape:
    return LatentShape(batch, queries, kv_len, heads, 512.0, 64.0, cache)


def decode(method: LatentMethod, **given) -> float:
    return float(latent_decode_time(MACHINE, FAMILY, shape(**given), method))


def test_a_block_a_sequence_takes_as_long_however_few_heads_fill_its_tile():
    times = [decode(WHOLE, heads=heads) for heads in (8.0, 16.0, 64.0)]
    assert times == pytest.approx([times[0]] * 3)
    assert decode(WHOLE, heads=128.0, batch=108.0) > 1.9 * decode(WHOLE, heads=64.0, batch=108.0)  # two tiles a sequence


def test_a_block_a_sequence_follows_its_longest_chain():
    start = decode(WHOLE, kv_len=0.0)
    one = decode(WHOLE, kv_len=8192.0) - start
    assert decode(WHOLE, kv_len=16384.0) - start == pytest.approx(2 * one)
    # Sequences beside it take the same time but for what cores lose to one another.
    assert decode(WHOLE, kv_len=8192.0, batch=100.0) == pytest.approx(decode(WHOLE, kv_len=8192.0), rel=1e-9)


def test_a_split_sequence_uses_all_cores():
    long = {"kv_len": 131072.0, "heads": 128.0}
    assert decode(WHOLE, **long) > 20 * decode(LatentMethod(splits=True, share=0.75), **long)


def test_contention_adds_up_over_rounds():
    # 216 blocks on 108 cores: two rounds, each slower by the loss.
    free = decode(WHOLE, batch=216.0, kv_len=8192.0) - decode(WHOLE, batch=216.0, kv_len=0.0)
    slow = WHOLE._replace(contention=0.5)
    assert decode(slow, batch=216.0, kv_len=8192.0) - decode(slow, batch=216.0, kv_len=0.0) == pytest.approx(1.5 * free)


def test_prefill_grows_with_the_square_of_long_prompts():
    method = LatentMethod(kernels=5.0, passes=1.0)
    times = [float(latent_prefill_time(MACHINE, FAMILY, shape(1.0, one, one, 128.0), method)) for one in (8192.0, 16384.0)]
    assert times[1] / times[0] == pytest.approx(4.0, rel=0.05)


def test_prefill_of_short_prompts_is_the_way_of_queries_keys_and_values_through_memory():
    tokens, heads = 8192.0, 128.0
    found = float(latent_prefill_time(MACHINE, FAMILY, shape(128.0, 64.0, 64.0, heads), LatentMethod(kernels=0.0, passes=1.0)))
    values = tokens * heads * (192 + 192 + 128 + 128 + 2 * 192)  # queries once more read and written
    assert found == pytest.approx(2 * values / MACHINE.bandwidth, rel=0.02)


def test_measured_rows(facts):
    rows = [
        row
        for name in ("aic_mla", "infersim_ops")
        for row in schema.read(facts / "measured" / "dev" / f"{name}.csv").rows
        if latent.is_latent(row)
    ]
    found = predict(rows)
    assert len(found) == len(rows) == 601
    judged = compare.judged(found, {})
    assert all(one.prediction.predicted >= 0.999 * one.prediction.ideal for one in judged)
    for phase, chip, median, mean in (  # the goals of validation, here of the catalogue's constants
        ("context", "a100-sxm-80gb", 0.13, 0.27),
        ("context", "l40s", 0.13, 0.27),
        ("generation", "a100-sxm-80gb", 0.17, 0.22),
        ("generation", "l40s", 0.17, 0.22),
        ("decode", "h20", 0.17, 0.22),
    ):
        errors = [one.error for one in judged if (one.prediction.row.text("phase"), one.prediction.row.chip) == (phase, chip)]
        assert np.median(errors) <= median
        assert np.mean(errors) <= mean


def test_a_cache_in_8_bits_is_read_as_such_where_the_library_does():
    family = replace(FAMILY, start=0.0)
    machine = MACHINE._replace(rate=1e30, special=1e30, lanes=1e30, clock=1e30, flop_energy=0.0, peak=1e30)
    times = [float(latent_decode_time(machine, family, shape(64.0, cache=one), LatentMethod())) for one in (1.0, 2.0)]
    assert times[1] == pytest.approx(2 * times[0])
