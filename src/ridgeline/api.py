"""The verbs as functions, which take specs or names and return dataclasses; `import ridgeline as rl` is enough for all."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ridgeline.catalogue import load
from ridgeline.costs import attention, collective, matmul, memory
from ridgeline.costs.ideal import Residency
from ridgeline.costs.rates import compute_rate
from ridgeline.errors import InfeasibleError, InputError
from ridgeline.estimate import estimate, step_operations
from ridgeline.mapping.capacity import cache_bytes_per_token
from ridgeline.quantities import show
from ridgeline.results import Capacity, Estimate
from ridgeline.search.space import Grid
from ridgeline.search.sweep import place
from ridgeline.specs.base import Source
from ridgeline.specs.chip import Chip
from ridgeline.specs.model import Attention, ConvolutionalModel, Model
from ridgeline.specs.precision import Precision
from ridgeline.specs.scenario import LatentForm, Scenario
from ridgeline.specs.system import System
from ridgeline.workload import conventions, hugging_face
from ridgeline.workload.conventions import Counts
from ridgeline.workload.parameters import weight_bytes

# ---- names to specs ---------------------------------------------------------------------------------------------------------


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
        return hugging_face.read_config(path / "config.json" if path.is_dir() else path)
    return load.model(model)


def load_precision(precision: Precision | str | None, model: Model | ConvolutionalModel) -> Precision:
    """Return a precision: a spec, a name such as `fp8` or `w4a16kv8`, or the one in which the model is published."""
    if isinstance(precision, Precision):
        return precision
    return Precision.parse(precision or model.precision)


# ---- analyze ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False)
class Analysis:
    """An estimate with what it is of. With axes, the estimate's quantities are arrays in the axes' order."""

    model: Model | ConvolutionalModel
    chip: Chip
    scenario: Scenario
    precision: Precision
    estimate: Estimate
    axes: Mapping[str, Any]

    @property
    def chips_needed(self) -> Any:
        """Chips whose memories together hold what the step keeps."""
        held = self.estimate.capacity
        return None if held is None else -(-held.needed // held.available)

    def resource(self, index: float | str) -> str:
        """Return the name of a bound that an array of bounds gives by its index."""
        return index if isinstance(index, str) else self.estimate.resources[int(index)]


_COUNTS = ("batch", "prompt", "context", "output", "samples", "verified", "source_tokens")
_MOST_BYTES = 2**31


def analyze(
    model: Model | ConvolutionalModel | str,
    chip: Chip | str,
    *,
    phase: str | None = None,
    precision: Precision | str | None = None,
    level: str | None = None,
    residency: Residency = "cold",
    progress: Callable[[int, int], None] | None = None,
    **scenario: Any,
) -> Analysis:
    """Say what bounds a model on a chip, by how much, for one scenario or for all combinations of several values.

    `scenario` takes the fields of `Scenario`: batch, prompt, context, output, samples, verified, acceptance, latent …; a list or
    an array of values makes an axis. What is not given takes the usual: decode for a language model, encode for an
    encoder, batch 1, and 2048 tokens or what the model can take.

    Raises `InputError` for bad input, and `InfeasibleError` where nothing that was asked fits the chip's memory.

    >>> found = analyze("llama-3.1-8b", "h100-sxm", phase="decode", batch=1, context=4096)
    >>> found.estimate.bound
    'memory.hbm'
    """
    spec, machine = load_model(model), load_chip(chip)
    formats = load_precision(precision, spec)
    asked, axes = _scenario(spec, phase, scenario)
    level = _level(machine, level)
    if not axes:
        found = estimate(machine, spec, asked, formats, level=level, residency=residency)
    else:
        found = _over_axes(machine, spec, asked, formats, axes, level, residency, progress)
    notes = (*found.notes, *_notes(spec, asked, axes))
    found = replace(found, sources=_used_sources(machine, spec, found), notes=notes)
    analysis = Analysis(model=spec, chip=machine, scenario=asked, precision=formats, estimate=found, axes=axes)
    _require_feasible(analysis)
    return analysis


def _level(chip: Chip, level: str | None) -> str:
    """Return the level of detail: `mapped` as soon as the chip's file has what it needs, else `ideal`."""
    known = ("ideal",)
    if level is not None and level not in known:
        raise InputError(f"level {level!r} is not available for {chip.name}: choose {', '.join(known)}")
    return level or "ideal"


def _scenario(model: Model | ConvolutionalModel, phase: str | None, given: Mapping[str, Any]) -> tuple[Scenario, dict[str, Any]]:
    """Return the scenario with its defaults, and the axes: the fields for which several values were given."""
    known = {one.name for one in fields(Scenario)}
    for name in given:
        if name not in known:
            raise InputError(f"a scenario has no {name!r}: it has {', '.join(sorted(known))}")
    chosen = phase or default_phase(model)
    values = {name: value for name, value in given.items() if value is not None}
    axes = {
        name: np.asarray(value, dtype=np.float64)
        for name, value in values.items()
        if not isinstance(value, str) and np.ndim(value) == 1
    }
    for name in _COUNTS:
        if name in values:
            _check_count(name, values[name])
    single = {name: value for name, value in values.items() if name not in axes}
    base = Scenario(phase=chosen, **{**_defaults(model, chosen, values), **single})  # pyright: ignore[reportArgumentType]
    return base, axes


def _notes(model: Model | ConvolutionalModel, scenario: Scenario, axes: Mapping[str, Any]) -> list[str]:
    """Say aloud what was assumed: contexts past the model's limit, speculated tokens that are all kept."""
    largest = replace(scenario, **{name: float(np.max(values)) for name, values in axes.items()})
    found: list[str] = []
    limit, longest = _context_limit(model), longest_context(largest)
    if limit is not None and longest > limit:
        found.append(f"{longest:g} tokens are past the {limit:g} that {model.name} was made for")
    if largest.verified > 1 and scenario.acceptance is None and "acceptance" not in axes:
        found.append("all verified tokens are counted as kept: --acceptance says how many are")
    return found


def _context_limit(model: Model | ConvolutionalModel) -> float | None:
    """Return the tokens that a model was made for; images and spectrograms have their own number."""
    if not isinstance(model, Model) or model.patches is not None or model.audio is not None:
        return None
    return model.maximum_context


def longest_context(scenario: Scenario) -> float:
    """Return the most tokens that a sequence has when the step ends."""
    before = scenario.context if scenario.phase in ("decode", "prefill") else 0.0
    new = scenario.prompt if scenario.phase != "decode" else 0.0
    return before + new + (scenario.output if scenario.phase == "generate" else 0.0)


def _check_count(name: str, value: Any) -> None:
    least = 0.0 if name in ("prompt", "context", "source_tokens") else 1.0
    for one in np.ravel(np.asarray(value, dtype=np.float64)):
        if one < least or one != round(float(one)):
            raise InputError(f"{name} {one:g}: a whole number of {least:g} or more is wanted")


def default_phase(model: Model | ConvolutionalModel) -> str:
    """Return the phase that a model is for: decode where it generates, else encode."""
    return "decode" if isinstance(model, Model) and model.decoder else "encode"


def _defaults(model: Model | ConvolutionalModel, phase: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the counts that were not given: 2048 tokens, or the model's limit where that is less."""
    limit = model.maximum_context if isinstance(model, Model) else None
    usual = 2048 if limit is None else int(min(2048, limit))
    found: dict[str, Any] = {}
    if phase == "decode":
        found["context"] = given.get("prompt", usual) if np.ndim(given.get("prompt", usual)) == 0 else usual
    elif phase == "generate":
        found["output"] = max(1, usual // 4)
        found["prompt"] = max(1, usual - found["output"])
    else:
        found["prompt"] = usual
    return {name: value for name, value in found.items() if name not in given}


def _over_axes(
    chip: Chip,
    model: Model | ConvolutionalModel,
    scenario: Scenario,
    precision: Precision,
    axes: Mapping[str, Any],
    level: str,
    residency: Residency,
    progress: Callable[[int, int], None] | None,
) -> Estimate:
    """Estimate block by block and put the blocks together; the breakdown stays with single scenarios."""
    grid = Grid.of(axes)
    if grid.points * 8 * 32 > _MOST_BYTES:
        raise InputError(f"{grid.points:g} combinations are too many to keep: ask for fewer values")
    whole: Estimate | None = None
    done = 0
    for block in grid.blocks():
        placed_chip, placed_scenario = place(chip, scenario, block.values)
        part = replace(estimate(placed_chip, model, placed_scenario, precision, level=level, residency=residency), operations=())
        whole = _spread(part, grid.shape) if whole is None else whole
        _write(whole, part, block.place)
        done += block.points
        if progress is not None:
            progress(done, grid.points)
    if whole is None:
        raise InputError("the ranges hold no value")
    return whole


_KEPT = ("notes", "ridge", "sources", "operations", "interval", "level", "resources")


def _spread(value: Any, shape: tuple[int, ...]) -> Any:
    """Return a copy of a result whose quantities are empty arrays of the whole grid's shape."""
    if is_dataclass(value) and not isinstance(value, type):
        changed = {one.name: _spread(getattr(value, one.name), shape) for one in fields(value) if one.name not in _KEPT}
        return replace(value, **changed)
    if isinstance(value, Mapping):
        return {name: _spread(one, shape) for name, one in value.items()}  # pyright: ignore[reportUnknownVariableType]
    if value is None or isinstance(value, str):
        return value
    return np.empty(shape)


def _write(whole: Any, part: Any, place: tuple[slice, ...]) -> None:
    """Write one block's quantities into the whole grid's arrays."""
    if is_dataclass(whole) and not isinstance(whole, type):
        for one in fields(whole):
            if one.name not in _KEPT:
                _write(getattr(whole, one.name), getattr(part, one.name), place)
    elif isinstance(whole, Mapping):
        for name, target in whole.items():  # pyright: ignore[reportUnknownVariableType]
            _write(target, part[name], place)
    elif isinstance(whole, np.ndarray):
        whole[place] = _bound_index(part) if isinstance(part, str) else part


def _bound_index(name: str) -> float:
    raise InputError(f"the bound {name!r} cannot be spread over a range")


def _require_feasible(analysis: Analysis) -> None:
    """Raise `InfeasibleError` where no point fits: how many bytes are missing at best, and how many chips would do."""
    held = analysis.estimate.capacity
    if held is None or np.any(held.fits):
        return
    short = float(np.min(held.shortfall))
    chips = int(np.min(analysis.chips_needed))
    what = "nothing that was asked fits" if analysis.axes else f"{analysis.model.name} does not fit"
    raise InfeasibleError(
        f"{what}: {analysis.chip.name} is {short:.0f} bytes ({show(short, 'B')}) short of memory in {held.level}"
        f"{' at best' if analysis.axes else ''}: it needs {_parts(held)}, and has {show(float(np.min(held.available)), 'B')};"
        f" {chips} chips would hold it"
    )


def _parts(held: Capacity) -> str:
    least = {name: float(np.min(getattr(held, name))) for name in ("weights", "kv", "activations")}
    names = {"weights": "weights", "kv": "KV cache", "activations": "activations"}
    return ", ".join(f"{show(value, 'B')} of {names[name]}" for name, value in least.items() if value > 0)


def _used_sources(chip: Chip, model: Model | ConvolutionalModel, found: Estimate) -> dict[str, Source]:
    """Return the sources of the numbers that an estimate used: rates and memories of the chip, dimensions of the model."""
    main = chip.main_memory.name
    wanted = [f"memory.{level.name}.{name}" for level in chip.memory for name in ("bandwidth", "energy")]
    wanted += [f"memory.{main}.capacity", "package.idle_power", "vector_unit.rate.fp32", "vector_unit.rate.exponential"]
    wanted += [f"matrix_unit.{table}.{name}" for table in ("rate", "energy") for name in found.ridge]
    used = {f"{chip.name}.{path}": chip.sources[path] for path in wanted if path in chip.sources}
    return used | {f"{model.name}.{path}": source for path, source in model.sources.items() if not path.startswith("published")}


# ---- thresholds -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False)
class Thresholds:
    """Where the bound changes, for a model on a chip; every number says by its name what it counts."""

    model: Model | ConvolutionalModel
    chip: Chip
    precision: Precision
    compute_format: str
    ops_per_byte: Mapping[str, Mapping[str, float]]
    critical_batch: float
    critical_batch_exact: Mapping[str, float]
    critical_batch_experts: float | None
    critical_batch_speculative: float
    verified: float
    bytes_in_flight: Mapping[str, float]
    attention_intensity: Mapping[str, float]
    attention_critical_tokens: float
    attention_critical_tokens_grouped: float
    attention_critical_tokens_causal: float
    kv_bytes_per_token: float
    kv_bytes_per_token_by_kind: Mapping[str, float]
    tokens_in_memory: Mapping[str, float]
    tokens_beside_weights: float | None
    ops_per_comm_byte: Mapping[str, float]
    tensor_parallel_limit: Mapping[str, float]
    sources: Mapping[str, Source]


def thresholds(
    model: Model | ConvolutionalModel | str,
    chip: Chip | str,
    *,
    precision: Precision | str | None = None,
    verified: float = 1.0,
) -> Thresholds:
    """Say where the bound changes: ops:byte, critical batch, prompt length, KV bytes, ops:comms, tensor parallelism.

    `verified` are the tokens that speculation checks at once; they divide the critical batch.

    >>> round(thresholds("llama-3.1-8b", "h100-sxm").critical_batch, 1)
    295.3
    """
    spec, machine = load_model(model), load_chip(chip)
    formats = load_precision(precision, spec)
    if verified < 1:
        raise InputError(f"verified {verified:g}: 1 token or more is wanted")
    main = machine.main_memory
    unit = compute_rate(machine, (formats.weights, formats.activations), formats.accumulate)
    critical = matmul.critical_batch(rate=unit.rate, bandwidth=main.bandwidth, weight=formats.weights.bytes_per_value)
    kv_unit = compute_rate(machine, (formats.kv, formats.activations), formats.accumulate)
    kv_ridge = matmul.ridge(rate=kv_unit.rate, bandwidth=main.bandwidth)
    group = _largest_group(spec)
    per_token = float(cache_bytes_per_token(spec, formats)) if isinstance(spec, Model) else 0.0
    return Thresholds(
        model=spec,
        chip=machine,
        precision=formats,
        compute_format=unit.format,
        ops_per_byte=_ops_per_byte(machine),
        critical_batch=critical,
        critical_batch_exact=_exact_batches(machine, spec, formats),
        critical_batch_experts=_expert_batch(spec, machine, formats),
        critical_batch_speculative=critical / verified,
        verified=verified,
        bytes_in_flight={
            level.name: memory.bytes_in_flight(latency=level.latency, bandwidth=level.bandwidth)
            for level in map(machine.whole, machine.memory)
            if level.latency is not None and level.bandwidth is not None
        },
        attention_intensity={
            "decode": attention.intensity(queries=1.0, keys=4096.0),
            "prefill": attention.intensity(queries=4096.0, keys=4096.0),
        },
        attention_critical_tokens=attention.critical_tokens(ops_per_byte=kv_ridge, element=formats.kv.bytes_per_value),
        attention_critical_tokens_grouped=attention.critical_tokens(
            ops_per_byte=kv_ridge, element=formats.kv.bytes_per_value, group=group
        ),
        attention_critical_tokens_causal=attention.critical_tokens(
            ops_per_byte=kv_ridge, element=formats.kv.bytes_per_value, group=group, causal=True
        ),
        kv_bytes_per_token=per_token,
        kv_bytes_per_token_by_kind=_cache_by_kind(spec, formats),
        tokens_in_memory=_tokens_in_memory(machine, per_token),
        tokens_beside_weights=_tokens_beside_weights(machine, spec, formats, per_token),
        ops_per_comm_byte=_ops_per_comm_byte(machine, unit.rate),
        tensor_parallel_limit=_tensor_parallel_limit(machine, spec, unit.rate),
        sources=_threshold_sources(machine, spec),
    )


def _threshold_sources(chip: Chip, model: Model | ConvolutionalModel) -> dict[str, Source]:
    found = {
        f"{chip.name}.{path}": one for path, one in chip.sources.items() if path.split(".")[0] in ("matrix_unit", "memory", "link")
    }
    return found | {f"{model.name}.{path}": one for path, one in model.sources.items() if not path.startswith("published")}


def _ops_per_byte(chip: Chip) -> dict[str, dict[str, float]]:
    rates = chip.matrix_unit.rate or chip.vector_unit.rate
    levels = [chip.whole(level) for level in chip.memory if level.bandwidth is not None]
    return {
        name: {level.name: matmul.ridge(rate=rate, bandwidth=level.bandwidth) for level in levels} for name, rate in rates.items()
    }


def _exact_batches(chip: Chip, model: Model | ConvolutionalModel, precision: Precision) -> dict[str, float]:
    """Critical batch of each weight matrix with its activations counted; infinite where they never let it bind compute."""
    if not isinstance(model, Model):
        return {}
    scenario = Scenario(phase="decode" if model.decoder else "encode", batch=1.0, context=1.0, prompt=1.0)
    unit = compute_rate(chip, (precision.weights, precision.activations), precision.accumulate)
    wide = max(precision.activations.bytes_per_value, 2.0)
    groups = {layer.name for layer in (*model.encoder, *model.decoder) if layer.name}
    found: dict[str, float] = {}
    for operation in step_operations(model, scenario, precision):
        product = operation.products[0] if operation.kind == "matmul" else None
        if product is not None and operation.group in ("projections", "feed-forward", "head") and product.batch == 1:
            name = operation.name.split(" ", 1)[1] if operation.name.split(" ")[0] in groups else operation.name
            found[name] = matmul.critical_batch_exact(
                rate=unit.rate,
                bandwidth=chip.main_memory.bandwidth,
                weight=product.formats[0].bytes_per_value,
                activation=precision.activations.bytes_per_value,
                output=wide,
                n=product.n,
                k=product.k,
            )
    return found


def _expert_batch(model: Model | ConvolutionalModel, chip: Chip, precision: Precision) -> float | None:
    """Critical batch of a mixture's experts: each sees active / count of the tokens, so experts / active times the dense one."""
    layers = [layer.experts for layer in (model.decoder if isinstance(model, Model) else ()) if layer.experts is not None]
    if not layers:
        return None
    unit = compute_rate(chip, (precision.experts, precision.activations), precision.accumulate)
    dense = matmul.critical_batch(rate=unit.rate, bandwidth=chip.main_memory.bandwidth, weight=precision.experts.bytes_per_value)
    return max(dense * layer.count / layer.active for layer in layers)


def _attentions(model: Model | ConvolutionalModel) -> list[tuple[float, Attention]]:
    if not isinstance(model, Model):
        return []
    return [(layer.count, layer.attention) for layer in (model.decoder or model.encoder) if layer.attention is not None]


def _largest_group(model: Model | ConvolutionalModel) -> float:
    """Query heads that share one KV head, the largest over the layers."""
    return max((one.heads / one.kv_heads for _, one in _attentions(model)), default=1.0)


def _cache_by_kind(model: Model | ConvolutionalModel, precision: Precision) -> dict[str, float]:
    """KV bytes a token if the model had each kind of attention with its own number and size of heads."""
    found: dict[str, float] = {}
    element = precision.kv.bytes_per_value
    for count, one in _attentions(model):
        kinds: dict[str, float] = {"MHA": one.heads, "MQA": 1.0}
        if 1 < one.kv_heads < one.heads:
            kinds[f"GQA-{one.kv_heads:g}"] = one.kv_heads
        for kind, heads in kinds.items():
            size = (one.head_size + one.values) / 2
            stored = attention.cache_bytes_per_token(layers=count, kv_heads=heads, head_size=size, element=element)
            found[kind] = found.get(kind, 0.0) + stored
        if one.latent is not None:
            for name, rotary in (("MLA", one.latent.rotary_size), ("MLA without rotary", 0)):
                stored = attention.latent_cache_bytes_per_token(
                    layers=count, rank=one.latent.rank, rotary_size=rotary, element=element
                )
                found[name] = found.get(name, 0.0) + stored
    return found


def _tokens_in_memory(chip: Chip, per_token: float) -> dict[str, float]:
    if per_token <= 0:
        return {}
    whole = [chip.whole(level) for level in chip.memory]
    return {level.name: float(math.floor(level.capacity / per_token)) for level in whole if level.capacity is not None}


def _tokens_beside_weights(chip: Chip, model: Model | ConvolutionalModel, precision: Precision, per_token: float) -> float | None:
    if per_token <= 0:
        return None
    return float(math.floor(max(0.0, chip.main_memory.capacity - weight_bytes(model, precision)) / per_token))


def _ops_per_comm_byte(chip: Chip, rate: float) -> dict[str, float]:
    """By link: per direction, and both directions of the links together, as the post counts."""
    found: dict[str, float] = {}
    for link in chip.link:
        one_way = collective.ops_per_communicated_byte(rate=rate, bandwidth=link.bandwidth)
        found |= {f"{link.name}, one direction": one_way, f"{link.name}, both directions": one_way / 2}
    return found


def _tensor_parallel_limit(chip: Chip, model: Model | ConvolutionalModel, rate: float) -> dict[str, float]:
    """By link and way of counting: chips at which communication of a feed-forward block takes as long as its arithmetic."""
    layers = (model.decoder or model.encoder) if isinstance(model, Model) else ()
    widths = [layer.feed_forward.width for layer in layers if layer.feed_forward is not None]
    widths += [
        layer.experts.width * layer.experts.active + layer.experts.shared_width for layer in layers if layer.experts is not None
    ]
    found: dict[str, float] = {}
    for link in chip.link if widths else ():
        one_way = collective.ops_per_communicated_byte(rate=rate, bandwidth=link.bandwidth)
        limit = collective.tensor_parallel_limit(width=max(widths), ops_per_byte=one_way)
        found |= {
            f"{link.name}, ring, one direction": limit,
            f"{link.name}, in-network reduction": 2 * limit,
            f"{link.name}, both directions counted": 2 * limit,
        }
    return found


# ---- counts -----------------------------------------------------------------------------------------------------------------


def count(
    model: Model | ConvolutionalModel | str,
    *,
    convention: str = "ridgeline",
    phase: str | None = None,
    precision: str | None = None,
    **scenario: Any,
) -> Counts:
    """Count operations and bytes of a step by a named convention: `ridgeline`, `pytorch`, or a survey's.

    >>> round(count("bert-base", convention="survey-encoder", prompt=512).groups["projections"].flops / 1e9, 2)
    28.99
    """
    spec = load_model(model)
    formats = load_precision(precision, spec)
    asked, axes = _scenario(spec, phase, scenario)
    if axes:
        asked = replace(asked, **Grid.of(axes).whole().values)
    return conventions.count(spec, asked, formats, conventions.convention(convention))


# ---- the catalogue ----------------------------------------------------------------------------------------------------------

KINDS = ("chip", "model", "system")
LATENT_FORMS: tuple[LatentForm, ...] = ("absorbed", "expanded", "cached-expanded")


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
