"""A walk over the catalogue: every number has a source, every file loads, and the numbers of a file agree with one another."""

import csv
import math
import os
import re
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from ridgeline.api import load_named, names
from ridgeline.catalogue import load, references
from ridgeline.specs.base import quantities
from ridgeline.specs.model import Attention, ConvolutionalModel, Layer

FILES = sorted(path for kind in ("chips", "models", "systems") for path in (load.FOLDER / kind).glob("*.toml"))
ENTRIES = [(kind, name) for kind in ("chip", "model", "system") for name in names(kind)]


@cache
def chip(name: str) -> Any:
    return load.chip(name)


def numbers(data: Any, path: str = "") -> Iterator[str]:
    """Yield the dotted path of every number of a file's data; of list members by their names. Lists of numbers are structure."""
    if isinstance(data, dict) and data.keys() == {"value", "unit"}:
        yield path
    elif isinstance(data, dict):
        for key, value in data.items():
            yield from numbers(value, f"{path}.{key}" if path else key)
    elif isinstance(data, list):
        for index, one in enumerate(data):
            if isinstance(one, dict):
                yield from numbers(one, f"{path}.{one.get('name', index)}")
    elif isinstance(data, int | float) and not isinstance(data, bool):
        yield path


# ---- sources ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_number_says_where_it_is_from(path: Path):
    data, sources = load.split_sources(tomllib.loads(path.read_text(encoding="utf-8")))
    wrong = []
    for name in numbers(data):
        if name == "year" or name.endswith(("price_year", "rental_year")):
            continue
        source = sources.get(name)
        if source is None or (source.key is None and source.confidence != "estimate"):
            wrong.append(f"{name} has no source")
        elif source.key is not None and source.key not in references.entries():
            wrong.append(f"{name}: {source.key} is not in the bibliography")
        elif source.confidence not in ("seen", "secondary", "estimate"):
            wrong.append(f"{name}: confidence {source.confidence!r}")
        elif source.confidence == "estimate" and not source.note:
            wrong.append(f"{name} is an estimate without a note")
    assert wrong == []


def test_every_shared_coefficient_says_where_it_is_from():
    wrong = []
    for (technology, quantity), rows in load.technology().items():
        for row in rows:
            known = row.source.key in references.entries()
            if not known and not (row.source.key is None and row.source.confidence == "estimate" and row.source.note):
                wrong.append((technology, quantity, row.source.key))
    assert wrong == []


def test_the_bibliography_can_be_read_whole():
    """As many entries as the file starts, each with a title and a key that is not used twice."""
    text = (load.FOLDER / "references.bib").read_text(encoding="utf-8")
    keys = re.findall(r"^@\w+\s*\{\s*([^,\s]+)\s*,", text, re.MULTILINE)
    assert len(keys) == len(set(keys))
    assert set(references.entries()) == set(keys)
    assert [key for key, entry in references.entries().items() if not entry.get("title")] == []


def test_every_citation_in_the_code_is_in_the_bibliography(root: Path):
    cited = defaultdict(set)
    for path in (root / "src/ridgeline").rglob("*.py"):
        for key in re.findall(r"\[([a-z]+[0-9]{4}[a-z0-9]*)(?:, [^\]]*)?\]", path.read_text(encoding="utf-8")):
            cited[key].add(path.name)
    assert {key: sorted(places) for key, places in cited.items() if key not in references.entries()} == {}
    assert cited


# ---- names ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "name"), ENTRIES)
def test_every_entry_loads(kind: str, name: str):
    found = load_named(kind, name)
    assert found.name == name
    assert found.title
    assert quantities(found)


def test_names_are_lower_case_with_hyphens():
    """A dot only inside a version number."""
    assert [
        path.stem
        for path in FILES
        if not re.fullmatch(r"[a-z0-9]+(?:\.[0-9]+[a-z0-9]*)?(?:-[a-z0-9]+(?:\.[0-9]+[a-z0-9]*)?)*", path.stem)
    ] == []


@pytest.mark.parametrize("kind", ["chips", "models", "systems"])
def test_no_two_files_claim_one_name(kind: str):
    """Names and aliases are compared without case, spaces, underscores and hyphens."""
    claims = defaultdict(set)
    for path in (load.FOLDER / kind).glob("*.toml"):
        for name in (path.stem, *load.aliases(tomllib.loads(path.read_text(encoding="utf-8")))):
            claims[re.sub(r"[\s_\-]+", "", name.lower())].add(path.stem)
    assert {name: sorted(files) for name, files in claims.items() if len(files) > 1} == {}


@pytest.mark.parametrize(("kind", "column"), [("chips", "chip"), ("models", "model")])
def test_names_of_the_measurements_are_known_whatever_the_case(facts: Path, kind: Any, column: str):
    with (facts / f"measured/{kind}.csv").open(encoding="utf-8", newline="") as file:
        listed = [row[column] for row in csv.DictReader(file)]
    assert len(listed) > 40
    for name in listed:
        assert len({load.find(kind, spelling) for spelling in (name, name.lower(), name.upper())}) == 1


def test_every_model_of_the_facts_is_there(facts: Path):
    with (facts / "catalogue/models_index.csv").open(encoding="utf-8", newline="") as file:
        listed = {row["name"] for row in csv.DictReader(file)}
    assert len(listed) == 82
    assert listed <= set(names("model"))


def test_the_systems_asked_for_are_there():
    wanted = {"dgx-a100", "dgx-h100", "dgx-h200", "dgx-b200", "gb200-nvl72", "mi300x-8", "tpu-v4-pod", "tpu-v5p-pod", "tpu-v6e-pod"}
    assert wanted | {"pcie-box", "single-chip"} <= set(names("system"))


@pytest.mark.parametrize(
    ("name", "chips"),
    [("dgx-a100", 8), ("dgx-h100", 8), ("gb200-nvl72", 72), ("mi300x-8", 8), ("tpu-v4-pod", 4096), ("tpu-v5p-pod", 8960)],
)
def test_size_of_the_innermost_tiers(name: str, chips: int):
    """The size that the maker gives its box, rack or pod: of the first tier."""
    assert load.system(name).tier[0].size == chips


# ---- the numbers of a chip agree --------------------------------------------------------------------------------------------


WITH_CYCLES = [name for name in names("chip") if chip(name).matrix_unit.macs_per_cycle]


@pytest.mark.parametrize("name", WITH_CYCLES)
def test_peak_is_cores_times_multipliers_times_clock(name: str):
    one = chip(name)
    for form, macs in one.matrix_unit.macs_per_cycle.items():
        peak = one.cores.count * macs * 2 * one.cores.clock
        assert peak == pytest.approx(one.matrix_unit.rate[form], rel=0.02), form


@pytest.mark.parametrize("name", [name for name in WITH_CYCLES if chip(name).matrix_unit.shape and chip(name).matrix_unit.count])
def test_shape_times_count_is_the_multipliers_of_a_core(name: str):
    """The shape of one step at 16 bits; of an array of multipliers in the format that it is made for."""
    unit = chip(name).matrix_unit
    sixteen = [unit.macs_per_cycle[form] for form in ("bf16", "fp16") if form in unit.macs_per_cycle]
    assert math.prod(unit.shape) * unit.count in (sixteen if unit.kind == "dot-product" else unit.macs_per_cycle.values())


def test_measured_chips_have_a_microarchitecture(facts: Path):
    """At least cores, clock and the multipliers of a core, except where the maker publishes none."""
    with (facts / "measured/chips.csv").open(encoding="utf-8", newline="") as file:
        listed = {load.find("chips", row["chip"]).stem for row in csv.DictReader(file)}
    assert {name for name in listed if chip(name).cores is None or chip(name).cores.clock is None} <= {"sambanova-sn40l"}


@pytest.mark.parametrize("name", names("chip"))
def test_a_chip_is_sane(name: str):
    """From the inside out capacity grows and bandwidth falls; energies and latencies are those of silicon."""
    one = chip(name)
    whole = [one.whole(level) for level in one.memory if level.role != "further-tier"]
    bandwidths = [level.bandwidth for level in whole if level.bandwidth is not None]
    if name != "survey-analytic":  # figure 11 of the survey gives DRAM four times the bandwidth of the buffer
        assert bandwidths == sorted(bandwidths, reverse=True)
    assert whole[-1].capacity == max(level.capacity for level in whole if level.capacity is not None)
    assert all(1e-9 <= level.latency <= 2e-6 for level in whole if level.latency is not None)
    assert all(1e-14 <= energy <= 1e-10 for energy in one.matrix_unit.energy.values())
    assert all(1e-14 <= level.energy <= 1e-9 for level in whole if level.energy is not None)  # on chip to early DDR
    rates = one.matrix_unit.rate
    for narrow, wide in (("fp8-e4m3", "bf16"), ("bf16", "tf32"), ("fp16", "tf32")):
        if narrow in rates and wide in rates:
            assert rates[narrow] >= rates[wide]


# Peaks that are printed elsewhere with structured sparsity: FLOP/s that the dense peak must stay below.
SPARSE = {
    ("cerebras-wse-3", "fp16"): 16.0e15,  # the headline says 125
    ("cerebras-wse-2", "fp16"): 7.6e15,
    ("mi355x", "fp8-e4m3"): 5.1e15,  # 10.1 with sparsity
    ("mi355x", "mxfp4"): 10.2e15,  # 20
    ("mi300x", "fp8-e4m3"): 2.7e15,  # 5.2
    ("h100-sxm", "bf16"): 1.0e15,  # 1.979
    ("h100-sxm", "fp8-e4m3"): 2.0e15,  # 3.958
    ("b200-sxm", "bf16"): 2.3e15,  # 4.5
    ("b200-sxm", "nvfp4"): 9.1e15,  # 18
    ("a100-sxm-80gb", "int8"): 0.63e15,  # 1.248
    ("rtx-4090", "bf16"): 0.17e15,  # 0.33
    ("l40s", "fp8-e4m3"): 0.74e15,  # 1.466
    ("jetson-agx-orin-64gb", "int8"): 0.14e15,  # 0.275, the engines beside the GPU counted too
}


@pytest.mark.parametrize(("name", "form"), SPARSE)
def test_sparse_figures_are_never_dense_peaks(name: str, form: str):
    assert chip(name).matrix_unit.rate[form] <= SPARSE[name, form]


def test_mi355x_is_near_five_petaflops():
    """In the facts' words, 5 PFLOP/s in fp8 and 10 in fp4; the maker's headline counts sparsity."""
    rates = chip("mi355x").matrix_unit.rate
    assert rates["fp8-e4m3"] == pytest.approx(5.0e15, rel=0.02)
    assert rates["mxfp4"] == pytest.approx(10.0e15, rel=0.02)


# ---- against the facts ------------------------------------------------------------------------------------------------------

COLUMNS = {"tf32_TF": "tf32", "bf16_TF": "bf16", "fp16_TF": "fp16", "fp8_TF": "fp8-e4m3", "int8_TOPS": "int8"}
# What the catalogue has otherwise than the facts, each for the reason that the file's own note gives.
DISAGREE = {
    "b200-sxm": {"capacity", "bandwidth"},  # 180 GB and 7.7 TB/s as shipped; 192 and 8 were announced
    "b300-sxm": {"capacity"},  # 270 GB as shipped
    "m4-max-40c": {"fp16"},  # lanes run fp16 at the rate of fp32; lists with twice that assume otherwise
    "m3-ultra-80c": {"fp16"},
    "jetson-agx-orin-64gb": {"fp16", "int8"},  # the GPU alone, without sparsity
    "qualcomm-cloud-ai-100": {"fp16", "int8"},  # the 75 W card; the facts' are of another
    "upmem-20dimm": {"capacity"},  # binary units
    "hbm-pim": {"capacity"},  # of the four dies that have units
    "gddr6-aim": {"bandwidth"},  # what the banks give the units inside, not the interface
}


def facts_of_chips(facts: Path) -> list[dict[str, str]]:
    with (facts / "catalogue/chips.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_chip_of_the_facts_agrees_but_for_those_that_say_why(facts: Path):
    rows = facts_of_chips(facts)
    assert len(rows) == 45
    found: dict[str, set[str]] = {}
    for row in rows:
        one = chip(load.find("chips", row["chip"]).stem)
        rates = {**one.vector_unit.rate, **one.matrix_unit.rate}
        off = {form for column, form in COLUMNS.items() if row[column] and not close(rates.get(form), float(row[column]) * 1e12)}
        outer = [level for level in one.memory if level is one.main_memory or level.role == "further-tier"]
        for name, column in (("capacity", "mem_GB"), ("bandwidth", "mem_BW_GBs")):
            if row[column] and not any(close(getattr(level, name), float(row[column]) * 1e9) for level in outer):
                off.add(name)
        if off:
            found[one.name] = off
    assert found == DISAGREE


def close(value: float | None, expected: float) -> bool:
    return value is not None and math.isclose(value, expected, rel_tol=0.03)


@pytest.mark.parametrize("name", DISAGREE)
def test_every_disagreement_is_explained_in_the_file(name: str):
    one = chip(name)
    for field in DISAGREE[name]:
        path = f"memory.{one.main_memory.name}.{field}" if field in ("capacity", "bandwidth") else f"matrix_unit.rate.{field}"
        assert one.sources[path].note, path


# ---- the numbers of a model agree -------------------------------------------------------------------------------------------

# Families whose heads together are as wide as the model, by construction or in every published size.
AS_WIDE = {
    "gpt2",
    "bert",
    "opt",
    "bloom",
    "gptj",
    "phi3",
    "vit",
    "whisper",
    "mistral",
    "mixtral",
    "qwen2",
    "internlm",
    "deci",
    "deci_lm",
}


def attentions(name: str) -> Iterator[tuple[Any, Attention]]:
    model = load.model(name)
    if not isinstance(model, ConvolutionalModel):
        layers: tuple[Layer, ...] = (*model.encoder, *model.decoder)
        yield from ((model, one) for layer in layers for one in (layer.attention, layer.cross_attention) if one is not None)


@pytest.mark.parametrize("name", names("model"))
def test_heads_of_a_model(name: str):
    for model, one in attentions(name):
        assert one.heads % one.kv_heads == 0
        assert one.rotary_size <= one.head_size
        if model.family in AS_WIDE and one.latent is None:
            assert one.heads * one.head_size == model.hidden
        elif one.latent is None:  # some families choose heads freely; none strays further
            assert 0.5 <= one.heads * one.head_size / model.hidden <= 16


@pytest.mark.parametrize(
    ("name", "hidden", "layers", "heads"),
    [  # widths that other catalogues have wrong, from the facts' list
        ("opt-13b", 5120, 40, 40),
        ("bloom-176b", 14336, 70, 112),
        ("gemma-3-4b", 2560, 34, 8),
        ("gemma-3-12b", 3840, 48, 16),
        ("gpt3-xl", 3072, 24, 24),
    ],
)
def test_shapes_that_are_often_printed_wrong(name: str, hidden: int, layers: int, heads: int):
    model: Any = load.model(name)
    assert model.hidden == hidden
    assert sum(layer.count for layer in model.decoder) == layers
    assert {layer.attention.heads for layer in model.decoder} == {heads}


def test_a_source_travels_with_its_number():
    sources: Mapping[str, Any] = chip("h100-sxm").sources
    stated = sources["memory.hbm.bandwidth"]
    assert (stated.value, stated.unit) == (3.35, "TB/s")
    assert stated.key in references.entries()


def test_a_file_that_is_added_later_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    folder = tmp_path / "chips"
    folder.mkdir()
    monkeypatch.setattr(load, "FOLDER", tmp_path)
    (folder / "first-chip.toml").touch()
    os.utime(folder, (1, 1))
    assert load.names("chips") == ["first-chip"]
    assert load.find("chips", "First Chip") == folder / "first-chip.toml"
    (folder / "another.toml").touch()
    assert load.find("chips", "another") == folder / "another.toml"
    assert load.names("chips") == ["another", "first-chip"]
