"""A product over several identical arrays: the cut, what each array takes, and what all of them move."""

from dataclasses import replace
from itertools import product as combinations
from math import ceil, prod

import pytest

from ridgeline.api import analyze, load_chip, map_matmul
from ridgeline.api.simulation import simulate_tiling
from ridgeline.costs.tiled import Array, Buffers, Layer, Memory, Tile
from ridgeline.errors import InfeasibleError, InputError
from ridgeline.mapping.array_machine import ArrayMachine
from ridgeline.mapping.arrays import tile_shares
from ridgeline.mapping.dataflow import array_cost
from ridgeline.mapping.tiling import cost_tiling, product, tile_layer

MACHINE = ArrayMachine(
    array=Array(8.0, 8.0, preload=8.0, fill=22.0),
    buffers=Buffers(16384.0, 8192.0),
    memory=Memory(8.0, latency=20.0),
    energy=None,
    dataflow="weight-stationary",
    clock=1e9,
    arrays=4.0,
)
LAYERS = [
    product(100, 90, 70),
    product(1, 130, 64),
    product(515, 24, 33),
    Layer(n=3.0, k=20.0, c=12.0, p=9.0, q=7.0, r=3.0, s=3.0, stride=2.0),
]


def cycles_of(layer: Layer) -> float:
    """Least cycles of a nest on one of the arrays."""
    return tile_layer(layer, MACHINE.array, MACHINE.buffers, MACHINE.memory).cycles or 0.0


@pytest.mark.parametrize("layer", LAYERS)
def test_the_cut_is_the_best_of_all_cuts(layer: Layer):
    share = tile_shares([layer], [1.0], MACHINE)[0]
    every = [
        cycles_of(layer._replace(n=ceil(layer.n / n), k=ceil(layer.k / k), p=ceil(layer.p / p), q=ceil(layer.q / q)))
        for n, k, p, q in combinations((1, 2, 4), repeat=4)
        if n * k * p * q == 4 and n <= layer.n and k <= layer.k and p <= layer.p and q <= layer.q
    ]
    assert share.tiling.cycles == pytest.approx(min(every), rel=1e-12)
    assert share.tiling.optimal
    assert share.tiling.lower_bound <= share.tiling.cycles


@pytest.mark.parametrize("layer", LAYERS)
def test_what_all_arrays_move_is_what_each_moves_by_the_simulator(layer: Layer):
    """Every array's own nest is walked, the ragged last ones too, and together they cover the output once."""
    tiling = tile_shares([layer], [1.0], MACHINE)[0].tiling
    cut = tiling.tile["arrays"]
    parts = {name: [min(ceil(size / cut[name]), size - at) for at in range(0, int(size), ceil(size / cut[name]))]
             for name, size in layer._asdict().items() if name in cut}  # fmt: skip
    moved = macs = 0.0
    for n, k, p, q in combinations(*(parts[name] for name in "nkpq")):
        own = layer._replace(n=float(n), k=float(k), p=float(p), q=float(q))
        tile = Tile(**{name: float(min(size, getattr(own, name))) for name, size in tiling.tile["chip"].items()})
        mapped = cost_tiling(own, tile, tiling.order["dram"], MACHINE.array, MACHINE.buffers, MACHINE.memory)
        run = simulate_tiling(own, mapped, MACHINE)
        moved, macs = moved + run.bytes, macs + run.macs
    assert macs == layer.n * layer.k * layer.c * layer.p * layer.q * layer.r * layer.s
    assert moved == sum(tiling.traffic["dram"].values())
    assert tiling.utilisation == pytest.approx(macs / (4 * 64 * tiling.cycles))


def test_products_of_a_batch_go_to_arrays_of_their_own():
    """Twelve products too narrow to be cut: three rounds of four, and the bytes of a round are those of four."""
    narrow = product(8, 8, 64)
    share = tile_shares([narrow], [12.0], MACHINE)[0]
    assert (share.rounds, share.layer) == (3, narrow)
    assert share.tiling.tile["arrays"]["batch"] == 4
    assert share.tiling.cycles == pytest.approx(cycles_of(narrow))
    assert sum(share.tiling.traffic["dram"].values()) == 4 * (8 * 64 + 64 * 8 + 8 * 8)


def test_one_array_is_its_own_share():
    one = MACHINE._replace(arrays=1.0)
    share = tile_shares([LAYERS[0]], [5.0], one)[0]
    assert (share.layer, share.rounds) == (LAYERS[0], 5.0)
    assert share.tiling.cycles == cycles_of(LAYERS[0])


def test_a_product_bound_by_arithmetic_takes_half_the_time_on_twice_the_arrays():
    chip = load_chip("nvdla-like")
    unit, memory = chip.matrix_unit, chip.memory
    fast = replace(chip, memory=tuple(replace(one, bandwidth=1e15) if one.role == "dram" else one for one in memory))
    double = replace(fast, matrix_unit=replace(unit, count=2, rate={name: 2 * rate for name, rate in unit.rate.items()}))
    one, two = (map_matmul("1024x1024x1024", which, precision="int8") for which in (fast, double))
    assert two.machine.arrays == 2
    assert two.tiling.cycles == pytest.approx(one.tiling.cycles / 2, rel=0.02)  # fill and drain stay
    assert two.tiling.utilisation > 0.95


@pytest.mark.parametrize("chip", ["tpu-v3", "gaudi2", "trainium1"])
@pytest.mark.parametrize("model", ["bert-base", "resnet-50"])
def test_mapped_over_several_arrays_keeps_its_bounds(chip: str, model: str):
    found = analyze(model, chip, prompt=64 if model == "bert-base" else None, precision="bf16", level="mapped").estimate
    ideal = analyze(model, chip, prompt=64 if model == "bert-base" else None, precision="bf16", level="ideal").estimate
    assert found.time >= ideal.time
    assert found.flops == pytest.approx(ideal.flops)
    assert found.time_lower <= found.time <= found.time_upper * (1 + 1e-12)


def test_what_cannot_be_cut_is_refused():
    with pytest.raises(InputError, match="8 arrays behind a cache"):
        map_matmul("64x64x64", "gaudi3")
    with pytest.raises(InputError, match="a mapping is of one array"):
        map_matmul("64x64x64", "tpu-v3", mapping="L3[WIO] K4 - L2[WI] K16X - L1[O] C4 C16X - L0[W] P64")
    with pytest.raises(InputError, match=r"1\.5 arrays"):
        map_matmul("64x64x64", replace(load_chip("tpu-v3"), matrix_unit=replace(load_chip("tpu-v3").matrix_unit, count=0.75)))
    with pytest.raises(InfeasibleError, match="scratchpad"):
        tile_shares([LAYERS[0]], [1.0], MACHINE._replace(buffers=Buffers(1.0, 8192.0)))


def lanes(kind: str, shape: tuple[int, ...], bandwidth: float = 1e15):
    """The NVDLA-like chip with lanes in place of its array, and memory that never binds unless its bandwidth is given."""
    chip = load_chip("nvdla-like")
    rate = {"int8": 2.0 * chip.cores.clock * prod(shape)}
    fast = tuple(replace(one, bandwidth=bandwidth) if one.role == "dram" else one for one in chip.memory)
    return replace(chip, matrix_unit=replace(chip.matrix_unit, kind=kind, shape=shape, rate=rate), memory=fast)


@pytest.mark.parametrize(
    ("kind", "shape"), [("simd", (1, 64)), ("simd", (8, 16)), ("dot-product", (1, 32, 64)), ("dot-product", (8, 4, 16))]
)
@pytest.mark.parametrize("size", ["100x130x70", "1x512x512", "64x64x64"])
def test_lanes_take_a_block_a_cycle(kind: str, shape: tuple[int, ...], size: str):
    """Rows × depth by depth × columns a cycle, without skew; transfers take next to nothing at 1 PB/s."""
    found = map_matmul(size, lanes(kind, shape), precision="int8", simulate=True)
    m, k, n = (int(one) for one in size.split("x"))
    rows, columns, depth = (*shape, 1)[:3]
    blocks = ceil(m / rows) * ceil(n / columns) * ceil(k / depth)
    assert found.tiling.cycles == pytest.approx(blocks, abs=2.0)
    assert found.simulated.pipeline.busy["array"] == blocks
    assert array_cost(found.chip.matrix_unit, m=m, n=n, k=k).cycles == blocks


def test_lanes_that_are_not_tiled_are_refused():
    with pytest.raises(InputError, match="m1-7c is simd, which is not tiled"):
        map_matmul("64x64x64", "m1-7c", precision="fp16")


def changed(**transfer: object):
    """The NVDLA-like chip with another way of moving data."""
    chip = load_chip("nvdla-like")
    return replace(chip, transfer=replace(chip.transfer, **transfer))


def behind_a_cache():
    chip = load_chip("nvdla-like")
    held = ("scratchpad", "buffer", "cache")
    return replace(chip, memory=tuple(replace(one, managed_by="cache") if one.role in held else one for one in chip.memory))


def block_by_block():
    chip = load_chip("nvdla-like")
    return replace(chip, matrix_unit=replace(chip.matrix_unit, preload=False))


@pytest.mark.parametrize(
    "chip",
    [
        pytest.param(lambda: changed(asynchronous=False), id="synchronous"),
        pytest.param(lambda: changed(engine="cores", issue=4e-9), id="issued by the cores"),
        pytest.param(lambda: changed(cost_per_tile=1e-6, managed_by="host"), id="managed by the host"),
        pytest.param(lambda: changed(cost_per_tile=1e-6), id="managed by the chip"),
        pytest.param(behind_a_cache, id="a cache"),
        pytest.param(block_by_block, id="no preload"),
    ],
)
def test_every_way_of_moving_data_has_all_levels(chip):
    """What a file says changes the time, and the simulator agrees with it."""
    plain, other = map_matmul("300x512x700", "nvdla-like"), map_matmul("300x512x700", chip(), simulate=True)
    assert other.tiling.cycles == pytest.approx(other.simulated.cycles, rel=0.05)
    assert sum(other.tiling.traffic["dram"].values()) == pytest.approx(other.simulated.bytes, rel=2e-3)
    assert other.tiling.cycles >= 300 * 512 * 700 / prod(other.chip.matrix_unit.shape)
    if "cache" not in str(other.chip.memory):
        assert other.tiling.cycles > plain.tiling.cycles
    times = [analyze("bert-base", chip(), prompt=16, precision="int8", level=level).estimate for level in ("ideal", "mapped")]
    assert times[0].time <= times[1].time
    assert times[1].time <= times[1].time_upper * (1 + 1e-12)


def test_a_step_on_lanes_has_all_levels():
    chip, levels = lanes("simd", (8, 16), bandwidth=20e9), ("ideal", "mapped", "simulated")
    times = [analyze("bert-base", chip, prompt=16, precision="int8", level=level).estimate.time for level in levels]
    assert times[0] <= times[1]
    assert times[2] == pytest.approx(times[1], rel=0.05)


def test_a_format_of_twice_the_rate_takes_half_the_time():
    found = [map_matmul("4096x4096x4096", "gaudi2", precision=name) for name in ("bf16", "fp8-e4m3")]
    assert found[1].time == pytest.approx(found[0].time / 2, rel=0.05)
