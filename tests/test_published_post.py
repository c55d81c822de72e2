"""The numbers of a published post on domain-specific architectures [fleetwood2025dsa], from its own inputs; then the catalogue's.

The post's inputs differ from datasheets in places (2.0 TB/s on a 40 GB A100, 600 GB/s for a TPU v5p), so they are written out here.
"""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from ridgeline.api import Thresholds, thresholds
from ridgeline.costs import attention, matmul
from ridgeline.specs.chip import Chip, Link, MatrixUnit, MemoryLevel
from ridgeline.specs.model import Attention, FeedForward, LatentAttention, Layer, Model

# TFLOP/s at 16 bits, DRAM GB and TB/s, SRAM MB and TB/s, link GB/s of both directions together, as the post's two tables have them.
INPUTS: dict[str, tuple[float, ...]] = {
    "H100": (989, 80, 3.35, 30.8, 31, 900),
    "A100": (312, 40, 2.0, 20.7, 19, 600),
    "Blackhole": (387, 32, 0.51, 204.9, 46.6, 800),
    "TPU v4i": (138, 8, 0.61, 144, 13.5, math.nan),
    "TPU v5p": (459, 95, 2.765, math.nan, math.nan, 600),
}


def chip(name: str) -> Chip:
    """A chip of the post; its links per direction, as every chip here: half of both directions together."""
    rate, capacity, bandwidth, sram, sram_bandwidth, link = INPUTS[name]
    inner = MemoryLevel(name="sram", role="scratchpad", capacity=sram * 1e6, bandwidth=sram_bandwidth * 1e12)
    outer = MemoryLevel(name="dram", role="dram", capacity=capacity * 1e9, bandwidth=bandwidth * 1e12)
    return Chip(
        name=name.lower(),
        matrix_unit=MatrixUnit(rate={"fp16": rate * 1e12}),
        memory=(outer,) if math.isnan(sram) else (inner, outer),
        link=() if math.isnan(link) else (Link(name="link", bandwidth=link * 1e9 / 2),),
    )


def model(**changed: Any) -> Model:
    """DeepSeek-V3 as the post takes it: 61 layers, 56 heads of 128, feed-forward 18 432 wide."""
    attends = Attention(**{"heads": 56, "kv_heads": 56, "head_size": 128, **changed})
    layer = Layer(count=61, attention=attends, feed_forward=FeedForward(width=18432, gated=True))
    return Model(name="post", hidden=7168, vocabulary=129280, decoder=(layer,), precision="fp16")


MULTI_HEAD = model()
LATENT = model(latent=LatentAttention(rank=512, rotary_size=0))  # the post leaves the 64 rotary dimensions out


def of(name: str, spec: Model = MULTI_HEAD) -> Thresholds:
    return thresholds(spec, chip(name))


@pytest.mark.parametrize(("name", "printed"), [("H100", 295.2), ("A100", 156.0), ("Blackhole", 758.8), ("TPU v4i", 226.2)])
def test_operations_per_byte_of_dram(name: str, printed: float):
    found = of(name)
    assert found.ops_per_byte["fp16"]["dram"] == pytest.approx(printed, abs=0.05)
    assert found.critical_batch == pytest.approx(printed, abs=0.05)  # at two bytes a weight and two FLOPs a multiply-accumulate


@pytest.mark.parametrize(("name", "printed"), [("H100", 31.9), ("A100", 16.4), ("Blackhole", 8.3), ("TPU v4i", 10.2)])
def test_operations_per_byte_of_sram(name: str, printed: float):
    assert of(name).ops_per_byte["fp16"]["sram"] == pytest.approx(printed, abs=0.05)


def test_critical_batch_stays_with_half_the_bytes_and_twice_the_operations():
    plain = matmul.critical_batch(rate=989e12, bandwidth=3.35e12, weight=2.0)
    assert matmul.critical_batch(rate=2 * 989e12, bandwidth=3.35e12, weight=1.0) == plain


def test_prefill_turns_compute_bound_at_590_tokens():
    found = of("H100")
    assert round(found.attention_critical_tokens) == 590
    # S·T/(S + T) at S = T = 590 is the chip's own balance; of one query it is near one
    balance = attention.intensity(queries=found.attention_critical_tokens, keys=found.attention_critical_tokens)
    assert balance == pytest.approx(found.ops_per_byte["fp16"]["dram"], rel=1e-12)
    assert attention.intensity(queries=1.0, keys=4096.0) == pytest.approx(1.0, abs=1e-3)


def test_bytes_of_a_token_in_the_cache():
    assert of("H100").kv_bytes_per_token / 1e3 == pytest.approx(1749, abs=0.5)
    assert of("H100", LATENT).kv_bytes_per_token / 1e3 == pytest.approx(62.5, abs=0.05)
    assert of("H100").kv_bytes_per_token / of("H100", LATENT).kv_bytes_per_token == pytest.approx(28, abs=0.05)
    kinds = of("H100", model(latent=LatentAttention(rank=512, rotary_size=64))).kv_bytes_per_token_by_kind
    rounded = {name: round(value / 1e3, 1) for name, value in kinds.items()}
    assert rounded == {"MHA": 1749.0, "MQA": 31.2, "MLA": 70.3, "MLA without rotary": 62.5}


def test_tokens_that_fill_a_memory():
    many, latent = of("H100").tokens_in_memory, of("H100", LATENT).tokens_in_memory
    assert many["sram"] == 17
    assert latent["sram"] == 493  # exactly; the post divides by the rounded 62.5 kB and has 492
    assert math.floor(30.8e6 / 62.5e3) == 492
    assert many["dram"] == pytest.approx(46_000, rel=0.01)
    assert latent["dram"] == pytest.approx(1.3e6, rel=0.02)


@pytest.mark.parametrize(("name", "printed"), [("H100", 1099), ("A100", 520), ("Blackhole", 484), ("TPU v5p", 765)])
def test_operations_per_communicated_byte(name: str, printed: int):
    found = of(name).ops_per_comm_byte
    assert round(found["link, both directions"]) == printed  # as the post counts
    assert found["link, one direction"] == 2 * found["link, both directions"]  # what a ring has: 2 198 on the H100


def test_tensor_parallel_limit():
    found = of("H100").tensor_parallel_limit
    rounded = {name: round(value, 1) for name, value in found.items()}
    assert rounded == {
        "link, ring, one direction": 8.4,
        "link, in-network reduction": 16.8,
        "link, both directions counted": 16.8,  # the post's
    }


def test_the_copied_figures_are_those_of_the_facts(facts: Path):
    stated = json.loads((facts / "reference/D_fleetwood_dsa.json").read_text())
    table = [row[1:4] + row[5:7] for row in stated["hw_table"]]
    assert table == [list(INPUTS[name][:5]) for name in ("H100", "A100", "Blackhole", "TPU v4i")]
    links = [(row[1], row[3]) for row in stated["ops_comms_table"]]
    assert links == [(INPUTS[name][0], INPUTS[name][5]) for name in ("H100", "A100", "Blackhole", "TPU v5p")]


# ---- the catalogue's own answers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("h100-sxm", 295.3),  # 989.4 / 3.35: the post rounds the rate to 989
        ("a100-sxm-80gb", 153.0),  # 312 / 2.039: the post has 2.0 TB/s
        ("a100-sxm-40gb", 200.6),  # 312 / 1.555: the post gives this chip the bandwidth of the other
        ("tpu-v4i", 224.8),  # 138 / 0.614: the post has 0.61
        ("tenstorrent-blackhole-p150", 755.9),  # 387 / 0.512: the post has 0.51
    ],
)
def test_the_catalogue_is_near_the_post_and_says_where_it_differs(name: str, expected: float):
    found = thresholds("llama-3.1-8b", name, precision="bf16")
    assert found.critical_batch == pytest.approx(expected, abs=0.05)
    assert found.ops_per_byte["bf16"][found.chip.main_memory.name] == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize(
    ("name", "link", "expected"),
    [
        ("h100-sxm", "nvlink4", 1099.3),
        ("a100-sxm-80gb", "nvlink3", 520.0),
        ("tenstorrent-blackhole-p150", "ethernet", 483.75),
        ("tpu-v5p", "ici", 382.5),  # 459 / 1.2: six links of 100 GB/s in each direction; the post has half of that
    ],
)
def test_the_catalogue_s_communication(name: str, link: str, expected: float):
    found = thresholds("deepseek-v3", name, precision="bf16").ops_per_comm_byte
    assert found[f"{link}, both directions"] == pytest.approx(expected, abs=0.05)


def test_deepseek_v3_has_more_heads_and_a_wider_cache_than_the_post():
    found = thresholds("deepseek-v3", "h100-sxm", precision="bf16").kv_bytes_per_token_by_kind
    assert found["MHA"] == 2 * 2 * 61 * 128 * 128  # 3 998 kB; the post's 56 heads are 7168 / 128
    assert found["MLA"] == 2 * 61 * (512 + 64)
