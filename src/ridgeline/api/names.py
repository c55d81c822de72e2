"""Names, paths and specs: what a user may give for a chip, a model, a system or a precision."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ridgeline.catalogue import load
from ridgeline.errors import InputError
from ridgeline.specs.base import Source, quantities
from ridgeline.specs.chip import Chip
from ridgeline.specs.model import ConvolutionalModel, Model
from ridgeline.specs.precision import Precision
from ridgeline.specs.system import System
from ridgeline.workload import hugging_face

KINDS = ("chip", "model", "system")


def load_chip(chip: Chip | str) -> Chip:
    """Return a chip: a spec as it is, a catalogue name or alias, or a `.toml` file's path."""
    return chip if isinstance(chip, Chip) else load.chip(chip)


def load_system(system: System | str) -> System:
    """Return a system: a spec as it is, a catalogue name or alias, or a `.toml` file's path."""
    return system if isinstance(system, System) else load.system(system)


def load_model(model: Model | ConvolutionalModel | str) -> Model | ConvolutionalModel:
    """Return a model: a spec as it is, a catalogue name or alias, a `.toml` file, or a Hugging Face `config.json`."""
    if not isinstance(model, str):
        return model
    path = Path(model)
    if path.suffix == ".json" or (path.is_dir() and (path / "config.json").is_file()):
        return _with_source(hugging_face.read_config(path / "config.json" if path.is_dir() else path), path)
    return load.model(model)


def _with_source(model: Model | ConvolutionalModel, path: Path) -> Model | ConvolutionalModel:
    """Return a model with the file that it was read from as the source of its numbers, a default where the file has none."""
    source = Source(key=None, where=str(path), confidence="seen")
    return replace(model, title=model.title or model.name, sources=dict.fromkeys(quantities(model), source))


def load_precision(precision: Precision | str | None, model: Model | ConvolutionalModel) -> Precision:
    """Return a precision: a spec, a name such as `fp8` or `w4a16kv8`, or the one in which the model is published."""
    if isinstance(precision, Precision):
        return precision
    return Precision.parse(model.precision if precision is None else precision)


def names(kind: str) -> list[str]:
    """Return the catalogue's names of a kind: chip, model or system.

    >>> "h100-sxm" in names("chip")
    True
    """
    found: dict[str, load.Kind] = {"chip": "chips", "model": "models", "system": "systems"}
    if kind not in found:
        raise InputError(f"the catalogue has no {kind!r}: it has {', '.join(found)}")
    return load.names(found[kind])


def load_named(kind: str, name: str) -> Any:
    """Return a chip, model or system by kind and name."""
    readers: dict[str, Callable[[str], Any]] = {"chip": load_chip, "model": load_model, "system": load_system}
    return readers[kind](name)
