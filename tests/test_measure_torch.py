"""Micro-benchmarks with PyTorch on this machine: what runs, what the models are, and the whole command."""

import importlib
import json
import subprocess
import sys
from typing import Any

import pytest

from ridgeline.catalogue import load
from ridgeline.specs.model import Model
from ridgeline.validation.measure import torch_models
from ridgeline.validation.measure.torch_device import open_device
from ridgeline.validation.measure.work import Attention, Product, Vector, WholeModel
from ridgeline.workload.parameters import parameters

# Every warning of PyTorch would otherwise be an error.
pytestmark = [pytest.mark.heavy, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def device() -> Any:
    opened = open_device("cpu")
    opened.prepare(2.0**20)
    return opened


def test_every_kernel_runs_on_operands_that_change(device):
    for format in device.formats():
        device.run(Product(format, 8, 512, 512))()
    for format in ("fp32", "bf16"):
        assert device.run(Attention(format, 1, 1, 2048, 8, 2, 64, causal=False))().shape == (1, 8, 1, 64)
        for name in ("add", "gelu", "silu", "softmax", "layer-norm"):
            device.run(Vector(name, format, 256, 1024))()
    call = device.run(Product("fp32", 4, 512, 512))
    assert not bool((call() == call()).all())


def test_a_working_set_is_read_once_or_by_every_core_again_and_again(device):
    _, moved = device.read(2.0**16, own=False)
    assert moved % 2.0**16 == 0.0  # as often as makes a call long enough
    _, moved = device.read(2.0**16, own=True)
    assert moved > 2.0**22


@pytest.mark.parametrize("name", ["gpt2", "bert-base"])
def test_the_models_are_those_of_the_catalogue(name):
    torch = importlib.import_module("torch")
    with torch.device("meta"):
        built = torch_models.build(torch, name, "meta")
    modules = [*built.weights.values(), *(one for layer in built.layers for one in layer.values())]
    held = {id(weight): weight.numel() for module in modules for weight in module.parameters()}
    found = load.model(name)
    assert isinstance(found, Model)
    longer = (torch_models.POSITIONS - found.positions) * 768  # BERT's positions end at 512, these go on
    assert sum(held.values()) == parameters(found).total + longer


def test_a_pass_in_parts_is_a_pass(device):
    for model, phase in (("gpt2", "prefill"), ("gpt2", "decode"), ("bert-base", "encode")):
        parts = device.parts(WholeModel(model, phase, 16))
        assert [name for name, _ in parts] == ["input", *["layer"] * 12, "head"]
        for _, call in parts:
            call()


def test_members_of_an_all_reduce_time_it_together(device):
    found = device.all_reduces((4096, 65536)) if device.devices() > 1 else _gloo()
    assert [size for size, _ in found] == [4096, 65536]
    assert all(0.0 < one < 10.0 for _, times in found for one in times)


def _gloo() -> Any:
    torch = importlib.import_module("torch")
    collectives = importlib.import_module("ridgeline.validation.measure.torch_collectives")
    return collectives.all_reduces(torch, 2, (4096, 65536), "gloo")


def test_the_command_measures_this_machine(tmp_path):
    arguments = ["measure", "--quick", "--out", "here.toml", "--rows", "rows.csv", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "ridgeline", *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    held = {one["kind"]: one for one in record["errors"] if one["held"] and one["format"] == "fp32"}
    # Few shapes for a short time, on a machine that others may use: within a factor of two in the median.
    assert held["product"]["median_ape"] < 0.5
    bandwidths = [one["bandwidth"] for one in record["levels"]]
    main = record["chip"]["quantities"]["memory.ddr.bandwidth"]
    assert all(1e9 < one < 1e14 for one in (*bandwidths, main))
    assert load.chip(str(tmp_path / "here.toml")).efficiency is not None
