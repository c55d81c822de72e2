"""The stepped array: products are right, and cycles and accesses are those of an independent simulator."""

import csv
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ridgeline.errors import InputError
from ridgeline.simulate import systolic
from ridgeline.simulate.systolic import SystolicArray, fold_count, fold_timing, simulate_array, simulate_shape

DATAFLOWS = ("output-stationary", "weight-stationary", "input-stationary", "no-local-reuse")
SHORT = {"os": "output-stationary", "ws": "weight-stationary", "is": "input-stationary"}
LOADINGS = ("serial", "preloaded")
FOLDS = ("drained", "pipelined")
SMALL = st.integers(1, 13)


def _matrices(m, n, k, seed=0):
    random = np.random.default_rng(seed)
    return random.integers(-128, 128, (m, k)), random.integers(-128, 128, (k, n))


@settings(max_examples=60, deadline=None)
@given(m=SMALL, n=SMALL, k=SMALL, rows=st.integers(1, 6), columns=st.integers(1, 6), seed=st.integers(0, 2**32 - 1))
def test_product_equals_numpy_for_every_dataflow_and_mode(m, n, k, rows, columns, seed):
    inputs, weights = _matrices(m, n, k, seed)
    for dataflow, loading, folds in product(DATAFLOWS, LOADINGS, FOLDS):
        array = SystolicArray(rows=rows, columns=columns, dataflow=dataflow, loading=loading, folds=folds)
        run = simulate_array(inputs, weights, array)
        np.testing.assert_array_equal(run.product, inputs @ weights, err_msg=str(array))
        assert run.macs == m * n * k
        assert run.output_writes - run.partial_reads == m * n  # each output is written once for good
        assert run.input_reads >= m * k
        assert run.weight_reads >= k * n
        assert 0 < run.utilisation <= 1


@pytest.fixture(scope="module")
def runs(facts):
    with (facts / "reference" / "hardware" / "systolic_simulator.csv").open() as file:
        return list(csv.DictReader(file))


def test_cycles_and_accesses_equal_the_independent_simulator_exactly(runs):
    assert len(runs) == 44
    for row in runs:
        m, n, k, rows, columns = (int(row[name]) for name in ("M", "N", "K", "rows", "cols"))
        run = simulate_shape(m=m, n=n, k=k, array=SystolicArray(rows=rows, columns=columns, dataflow=SHORT[row["dataflow"]]))
        assert (run.cycles, run.input_reads, run.weight_reads, run.output_slots) == (
            int(row["total_compute_cycles"]),
            int(row["sram_ifmap_reads"]),
            int(row["sram_filter_reads"]),
            int(row["sram_ofmap_writes"]),
        ), row


def test_the_same_with_data_moving(runs):
    small = [row for row in runs if int(row["M"]) * int(row["N"]) * int(row["K"]) < 1e6]
    assert len(small) == 12
    for row in small:
        inputs, weights = _matrices(*(int(row[name]) for name in ("M", "N", "K")))
        array = SystolicArray(rows=int(row["rows"]), columns=int(row["cols"]), dataflow=SHORT[row["dataflow"]])
        run = simulate_array(inputs, weights, array)
        np.testing.assert_array_equal(run.product, inputs @ weights)
        assert run.cycles == int(row["total_compute_cycles"])


def test_transformer_layer_with_data_moving():
    inputs, weights = _matrices(128, 256, 96)
    for dataflow in DATAFLOWS:
        run = simulate_array(inputs, weights, SystolicArray(rows=64, columns=64, dataflow=dataflow, folds="pipelined"))
        np.testing.assert_array_equal(run.product, inputs @ weights)


# rows 4, columns 3, stream 10: load 4, stream 10, the wave crosses 3 + 2 further; the output bus of a column takes 4 rows
@pytest.mark.parametrize(
    ("dataflow", "loading", "folds", "first", "period"),
    [
        ("weight-stationary", "serial", "drained", 19, 19),
        ("weight-stationary", "preloaded", "drained", 19, 15),
        ("weight-stationary", "serial", "pipelined", 19, 14),  # load and stream, the crossing hidden
        ("weight-stationary", "preloaded", "pipelined", 19, 10),  # the stream alone
        ("input-stationary", "preloaded", "pipelined", 19, 10),
        ("output-stationary", "serial", "drained", 15, 15),
        ("output-stationary", "serial", "pipelined", 15, 10),
        ("no-local-reuse", "serial", "drained", 12, 12),  # 2 levels of adders
        ("no-local-reuse", "serial", "pipelined", 12, 10),
    ],
)
def test_fold_times_by_hand(dataflow, loading, folds, first, period):
    timing = fold_timing(SystolicArray(rows=4, columns=3, dataflow=dataflow, loading=loading, folds=folds), 10)
    assert (timing.first, timing.period) == (first, period)


def test_short_streams_wait_for_the_load_and_for_the_output_bus():
    for dataflow in ("weight-stationary", "output-stationary"):
        array = SystolicArray(rows=8, columns=2, dataflow=dataflow, loading="preloaded", folds="pipelined")
        assert fold_timing(array, 3).period == 8


@pytest.mark.parametrize("dataflow", DATAFLOWS)
@pytest.mark.parametrize("loading", LOADINGS)
@pytest.mark.parametrize("folds", FOLDS)
@pytest.mark.parametrize("stream", [1, 3, 9])
def test_a_long_sequence_takes_what_three_folds_promise(dataflow, loading, folds, stream):
    array = SystolicArray(rows=4, columns=5, dataflow=dataflow, loading=loading, folds=folds)
    words, kept = systolic._ones(array, systolic._Cut(4, 5, stream), 9)
    sequencer, _ = systolic._run(array, words, kept, stream)
    assert sequencer.ends[-1] + 1 == fold_timing(array, stream).cycles(9)


def test_one_element_and_arrays_larger_than_the_product():
    one = SystolicArray(rows=1, columns=1, dataflow="output-stationary")
    run = simulate_array([[7]], [[-6]], one)
    assert (run.product.tolist(), run.cycles, run.occupied, run.utilisation) == ([[-42]], 0, 1, 1.0)
    inputs, weights = _matrices(2, 3, 2)
    for dataflow in DATAFLOWS:
        run = simulate_array(inputs, weights, SystolicArray(rows=9, columns=8, dataflow=dataflow))
        np.testing.assert_array_equal(run.product, inputs @ weights)
        assert run.folds == 1


def test_hops_by_hand():
    # 1 × 2 by 2 × 2: two inputs go one element right, two sums one down, the two weights of the far row one down
    assert simulate_shape(m=1, n=2, k=2, array=SystolicArray(rows=2, columns=2, dataflow="weight-stationary")).hops == 6
    # 2 × 1 by 1 × 2: two inputs go right, two weights go down; sums leave over buses
    assert simulate_shape(m=2, n=2, k=1, array=SystolicArray(rows=2, columns=2, dataflow="output-stationary")).hops == 4
    assert simulate_shape(m=2, n=2, k=2, array=SystolicArray(rows=2, columns=2, dataflow="no-local-reuse")).hops == 0


def test_no_local_reuse_reads_a_weight_for_every_product():
    run = simulate_shape(m=10, n=9, k=7, array=SystolicArray(rows=4, columns=4, dataflow="no-local-reuse"))
    assert run.weight_reads == run.macs == 630
    assert run.input_reads == 10 * 7 * 3  # once for each of three column folds


def test_folds_of_a_ragged_product():
    array = SystolicArray(rows=4, columns=4, dataflow="input-stationary")
    assert fold_count(array, m=9, n=5, k=8) == (6, 5)
    assert simulate_shape(m=9, n=5, k=8, array=array).folds == 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": 0}, "rows .* at least 1"),
        ({"columns": 2.5}, "columns .* whole number"),
        ({"dataflow": "weight-stationery"}, "did you mean `weight-stationary`"),
        ({"folds": "often"}, "no folds 'often'"),
    ],
)
def test_arrays_that_cannot_be(change, message):
    with pytest.raises(InputError, match=message):
        SystolicArray(**{"rows": 2, "columns": 2, "dataflow": "weight-stationary"} | change)


def test_operands_that_cannot_be():
    array = SystolicArray(rows=2, columns=2, dataflow="weight-stationary")
    with pytest.raises(InputError, match="k differs"):
        simulate_array(np.ones((2, 3), int), np.ones((2, 3), int), array)
    with pytest.raises(InputError, match="whole numbers"):
        simulate_array(np.ones((2, 3)), np.ones((3, 2), int), array)
    with pytest.raises(InputError, match="at least 1"):
        simulate_shape(m=0, n=1, k=1, array=array)
