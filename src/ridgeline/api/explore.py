"""A space's file becomes a space; it is swept into a folder that can be gone on with; the folder answers SQL."""

import operator
import re
import time
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import reduce
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ridgeline.api.money import priced, rate_of
from ridgeline.api.names import load_chip, load_model, load_precision, load_system
from ridgeline.api.scenarios import make_scenario
from ridgeline.errors import InfeasibleError, InputError, nearest
from ridgeline.parallel import plan_capacity
from ridgeline.quantities import parse
from ridgeline.search import shards
from ridgeline.search.explore import DESIGN, METRICS, Constraint, Group, Space, Tariff, Work, columns
from ridgeline.search.formula import Formula, in_order
from ridgeline.search.held import Held
from ridgeline.search.pareto import Sense
from ridgeline.search.shards import PARETO, Cut, Summary
from ridgeline.search.space import parse_range
from ridgeline.specs.base import quantities, units_of
from ridgeline.specs.chip import Chip
from ridgeline.specs.plan import Plan
from ridgeline.specs.scenario import Scenario
from ridgeline.specs.system import System

_BLOCK, _RUN = 131_072, 8
_TABLES = (
    "name",
    "chip",
    "system",
    "hold",
    "scenario",
    "workload",
    "derived",
    "objectives",
    "constraints",
    "level",
    "residency",
    "sample",
    "keep",
)
_NUMBERS = ("batch", "prompt", "context", "output", "samples", "verified", "acceptance", "source_tokens", "data_ranks")


@dataclass(frozen=True, kw_only=True, eq=False)
class Exploration:
    """A space that has been swept: where its rows are, how many points it has, and its front."""

    space: Space
    folder: Path
    counts: Summary
    pareto: tuple[Mapping[str, Any], ...]
    best: Mapping[str, Mapping[str, Any]]  # objective → the row of the front that is best by it
    computed: int  # points that this run computed; the rest were there
    seconds: float

    @property
    def points_per_second(self) -> float:
        """Points that this run computed, over its time."""
        return self.computed / self.seconds if self.seconds > 0 else 0.0


def explore(
    space: Space | str | Path,
    out: str | Path,
    *,
    workers: int = 1,
    engine: str = "local",
    address: str | None = None,
    progress: Callable[[int, int], None] | None = None,
    block: int | None = None,
) -> Exploration:
    """Compute every point of a space, and keep its Pareto set and a sample of it in a folder of Parquet files.

    The same call on the same folder goes on where an earlier one stopped; the front and the sample do not depend on how the work
    was cut or on who did it. Raises `InputError` for a space that cannot be read and for a folder of another space, and
    `InfeasibleError` where no point meets all constraints.
    """
    asked = space if isinstance(space, Space) else read_space(space)
    folder = Path(out)
    cut = shards.prepare(folder, asked, Cut(block or _block(asked), _RUN))
    left, there = shards.missing(folder, asked, cut)
    start, found = time.perf_counter(), [there]
    done = there.points
    for one in _run(folder, asked, cut, left, workers, engine, address):
        found.append(one)
        done += one.points
        if progress is not None:
            progress(done, asked.points)
    counts = shards.added(found)
    front = shards.finish(folder, asked, cut)
    seconds = time.perf_counter() - start
    if not counts.feasible:
        raise InfeasibleError(_nothing_left(asked, counts))
    best = {name: _best(front, name, sense) for name, sense in asked.objectives.items()}
    return Exploration(
        space=asked,
        folder=folder,
        counts=counts,
        pareto=tuple(front),
        best=best,
        computed=counts.points - there.points,
        seconds=seconds,
    )


def _block(space: Space) -> int:
    """Return points of a block: fewer where candidates or the breakdown of a plan stand beside them."""
    return _BLOCK if space.level == "ideal" and all(one.system is None for one in space.groups) else _BLOCK // 32


def _run(
    folder: Path, space: Space, cut: Cut, left: Sequence[int], workers: int, engine: str, address: str | None
) -> Iterator[Summary]:
    if engine not in ("local", "dask"):
        raise InputError(f"engine {engine!r}: choose local or dask")
    if engine == "dask":
        return shards.run_dask(folder, space, cut, left, address)
    workers = min(workers, len(left))
    return shards.run_here(folder, space, cut, left) if workers <= 1 else shards.run_pool(folder, space, cut, left, workers)


def _best(front: Sequence[Mapping[str, Any]], name: str, sense: Sense) -> Mapping[str, Any]:
    sign = 1.0 if sense == "min" else -1.0
    return min(front, key=lambda row: (sign * row[name], row["point"]))


def _nothing_left(space: Space, counts: Summary) -> str:
    shares = sorted(counts.ruled_out.items(), key=lambda one: -one[1])
    said = ", ".join(f"{name} rules out {count / counts.points:.3g} of them" for name, count in shares if count)
    return f"none of the {counts.points:g} points of {space.name} meets all constraints: {said}"


class Volumes(NamedTuple):
    """Share of the objectives' box that each search's front dominates; None for gradients where the space or JAX has none."""

    seed: int
    nsga2: float
    random: float
    gradient: float | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Optimised:
    """What a search of a space has found: the front of all points tried, and each seed's share of the box beside chance."""

    space: Space
    budget: int
    tried: int
    pareto: tuple[Mapping[str, Any], ...]
    hypervolumes: tuple[Volumes, ...]  # one for each seed
    seconds: float


def optimise(space: Space | str | Path, *, budget: int = 20_000, seeds: int = 3, population: int = 200) -> Optimised:
    """Search a space by NSGA-II, by gradients where there are some, and by chance, with as many points each, once for each seed.

    For spaces too large for `explore`, whose front is exact; this one is only as good as the search. Gradients are of spaces at
    `ideal`, through JAX. Raises `InfeasibleError` where no point that was tried meets all constraints.
    """
    from ridgeline.search.gradient import can_descend, descend
    from ridgeline.search.optimise import evolve, hypervolumes, joined, random_search

    asked = space if isinstance(space, Space) else read_space(space)
    if budget < 1 or seeds < 1 or population < 2:
        raise InputError(f"budget {budget}, seeds {seeds}, population {population}: 1 or more are wanted, a population of 2")
    start, slopes = time.perf_counter(), can_descend(asked)
    compiled: dict[int, Any] = {}
    runs: list[list[Any]] = []
    for seed in range(seeds):
        tried = [evolve(asked, budget, seed, population), random_search(asked, budget, seed)]
        runs.append([*tried, descend(asked, budget, seed, compiled)] if slopes else tried)
    every = joined([one for run in runs for one in run])
    on = np.flatnonzero(every.front(asked))
    if not len(on):
        raise InfeasibleError(f"none of the {len(every.point):,} points of {asked.name} that were tried meets all constraints")
    shares = hypervolumes(asked, [one for run in runs for one in run])
    each = len(runs[0])
    volumes: list[Volumes] = []
    for seed in range(seeds):
        evolved, drawn, *sloped = shares[seed * each : (seed + 1) * each]
        volumes.append(Volumes(seed, evolved, drawn, sloped[0] if sloped else None))
    rows = [
        {
            "point": int(every.point[index]),
            **asked.groups[int(every.point[index]) // asked.grid.points].labels,
            **{name: float(column[index]) for name, column in every.columns.items()},
        }
        for index in on[np.argsort(every.point[on])]
    ]
    return Optimised(
        space=asked,
        budget=budget,
        tried=len(np.unique(every.point)),
        pareto=tuple(rows),
        hypervolumes=tuple(volumes),
        seconds=time.perf_counter() - start,
    )


# ---- SQL --------------------------------------------------------------------------------------------------------------------


def query(folder: str | Path, sql: str) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """Return the columns and rows of a query over a folder: tables `pareto` (the front) and `points` (the sample, or all)."""
    path = Path(folder)
    if not path.is_dir() or not any(path.glob("shard-*.parquet")):
        raise InputError(f"{folder}: no results of explore are there")
    try:
        import duckdb
    except ImportError:
        raise InputError("query needs DuckDB: `pip install duckdb`, or ridgeline[explore]") from None
    with duckdb.connect() as connection:
        files = str(path / "shard-*.parquet").replace("'", "''")
        connection.execute(f"CREATE VIEW points AS SELECT * EXCLUDE (front, sampled) FROM read_parquet('{files}') WHERE sampled")
        if (path / PARETO).is_file():
            front = str(path / PARETO).replace("'", "''")
            connection.execute(f"CREATE VIEW pareto AS SELECT * FROM read_parquet('{front}')")
        try:
            found = connection.execute(sql)
            names = tuple(one[0] for one in found.description or ())
            return names, found.fetchall()
        except duckdb.Error as error:
            raise InputError(f"query: {' '.join(str(error).split())}") from None


# ---- reading a space --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Read:
    """What a table of axes says: quantities by values or by formulas, and structure by choices."""

    axes: Mapping[str, tuple[float, ...]]
    formulas: Mapping[str, Formula]
    choices: Mapping[str, tuple[Any, ...]]


def read_space(file: str | Path) -> Space:
    """Read a space's file; raise `InputError` for what cannot be read, with the place and what would be accepted."""
    path = Path(file)
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: not TOML: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    for key in raw:
        if key not in _TABLES:
            raise InputError(f"{path}: unknown key `{key}`: {nearest(key, _TABLES)}")
    try:
        return space_of(raw, name=str(raw.get("name", path.stem)))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def space_of(raw: Mapping[str, Any], name: str = "space") -> Space:
    """Return the space that a file's tables describe."""
    chip_table, scenario_table = dict(_table(raw, "chip")), dict(_table(raw, "scenario"))
    machines, of_network = _machines(dict(_table(raw, "system")), chip_table)
    chips = [one.chip for one in machines]
    of_chip = _read_chip(chip_table, chips)
    shared = _read_scenario(scenario_table)
    works = raw.get("workload") or [{}]
    if not isinstance(works, list) or not all(isinstance(one, dict) for one in works):
        raise InputError("`workload`: write [[workload]] above each of its tables")
    groups = tuple(_groups(machines, of_chip.choices, shared, scenario_table, works))
    axes = {**of_chip.axes, **of_network, **shared.axes}
    formulas = {**of_chip.formulas, **_derived(_table(raw, "derived"))}
    order = in_order(formulas, [*axes, *_common_quantities(groups), *DESIGN])
    held = tuple(_held(_table(raw, "hold"), groups, [*axes, *formulas], [*formulas, *DESIGN]))
    space = Space(
        name=name,
        groups=groups,
        axes=axes,
        formulas={one: formulas[one] for one in order},
        held=held,
        level=_choice(raw, "level", ("ideal", "mapped"), "ideal"),
        residency=_choice(raw, "residency", ("cold", "warm"), "cold"),
        sample=int(_plain_number(raw.get("sample", 1000), "sample")),
        keep_all=_choice(raw, "keep", ("front", "all"), "front") == "all",
    )
    return _with_aims(space, raw)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Machine:
    """A chip, alone or in a system under a plan."""

    chip: Chip
    system: System | None = None
    plan: Plan | None = None


def _machines(table: dict[str, Any], chip_table: dict[str, Any]) -> tuple[list[_Machine], dict[str, tuple[float, ...]]]:
    """Return the base chips, or the systems under their plans, and the axes of the network; both tables lose what was read."""
    if not table:
        return [_Machine(chip=load_chip(str(one))) for one in _listed(chip_table.pop("base", None), "chip.base")], {}
    systems = [load_system(str(one)) for one in _listed(table.pop("base", None), "system.base")]
    plans = [Plan.parse(str(one)) for one in _listed(table.pop("plan", None), "system.plan")]
    if "base" in chip_table:
        raise InputError("`chip.base` and `system.base`: a system has its chip: leave one of them out")
    shared = [quantities(one).keys() for one in systems]
    known = [path for path in quantities(systems[0]) if not path.startswith("chip.") and all(path in one for one in shared)]
    axes: dict[str, tuple[float, ...]] = {}
    for path, value in _flat(table):
        if path not in known:
            raise InputError(f"`system.{path}`: {systems[0].name} has no such quantity: {nearest(path, [*known, 'base', 'plan'])}")
        axes[path] = _values(f"system.{path}", value, unit_at(systems[0], path))
    return [_Machine(chip=one.chip, system=one, plan=plan) for one in systems for plan in plans], axes


def _held(table: Mapping[str, Any], groups: Sequence[Group], taken: Sequence[str], known: Sequence[str]) -> Iterator[Held]:
    """Yield what keeps its value: `area = { at = "600 mm2", by = "cores.count" }`."""
    of_chip = _common_quantities(groups)
    for name, value in table.items():
        if name not in known:
            raise InputError(f"`hold.{name}`: what can be held is not known: {nearest(name, known)}")
        if not isinstance(value, dict) or value.keys() != {"at", "by"}:
            raise InputError(
                f'`hold.{name}`: a value and the quantity that gives way are wanted: {{ at = "600 mm2", by = "cores.count" }}'
            )
        by = str(value["by"])
        if by in taken:
            raise InputError(f"`hold.{name}`: `{by}` varies already, as an axis or by a formula: name a quantity that is free")
        if by not in of_chip:
            raise InputError(f"`hold.{name}`: {groups[0].chip.name} has no `{by}`: {nearest(by, of_chip)}")
        try:
            found = _one(value["at"], METRICS.get(name, "1"))
        except (ValueError, TypeError) as error:
            raise InputError(f"`hold.{name}`: {error}") from None
        yield Held(name=name, value=found, by=by)


def _table(raw: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = raw.get(key, {})
    if not isinstance(found, dict):
        raise InputError(f"`{key}`: a table is wanted: write [{key}]")
    return found  # pyright: ignore[reportUnknownVariableType]


def _choice(raw: Mapping[str, Any], key: str, accepted: tuple[str, ...], usual: str) -> Any:
    found = raw.get(key, usual)
    if found not in accepted:
        raise InputError(f"`{key}` {found!r}: choose {', '.join(accepted)}")
    return found


def _plain_number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise InputError(f"`{where}` {value!r}: a number of 0 or more is wanted")
    return float(value)


def _listed(value: Any, where: str) -> list[Any]:
    if value is None:
        raise InputError(f"missing key `{where}`")
    return list(value) if isinstance(value, list) else [value]


def _flat(table: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield a table's leaves by dotted path; a table with `from` or `formula` is a leaf."""
    for key, value in table.items():
        if isinstance(value, dict) and not {"from", "formula"} & value.keys():
            yield from _flat(value, f"{path}{key}.")  # pyright: ignore[reportUnknownArgumentType]
        else:
            yield f"{path}{key}", value


def unit_at(spec: Any, path: str) -> str:
    """Return the unit of the quantity at a dotted path."""
    head, *rest = path.split(".")
    units = units_of(type(spec))
    if head in units:
        return units[head][0].symbol
    value = getattr(spec, head)
    if isinstance(value, tuple):
        members: Sequence[Any] = value  # pyright: ignore[reportUnknownVariableType]
        named = [one for index, one in enumerate(members) if str(getattr(one, "name", "") or index) == rest[0]]
        return unit_at(named[0], ".".join(rest[1:]))
    return unit_at(value, ".".join(rest))


def _read_chip(table: Mapping[str, Any], chips: Sequence[Chip]) -> _Read:
    axes: dict[str, tuple[float, ...]] = {}
    formulas: dict[str, Formula] = {}
    choices: dict[str, tuple[Any, ...]] = {}
    known = [path for path in quantities(chips[0]) if all(path in quantities(one) for one in chips[1:])]
    for path, value in _flat(table):
        if path not in known:
            choices[path] = _structural(path, value, chips, known)
        elif isinstance(value, dict) and "formula" in value:
            formulas[path] = Formula.parse(str(value["formula"]))  # pyright: ignore[reportUnknownArgumentType]
        else:
            axes[path] = _values(f"chip.{path}", value, unit_at(chips[0], path))
    return _Read(axes=axes, formulas=formulas, choices=choices)


def _structural(path: str, value: Any, chips: Sequence[Chip], known: Iterable[str]) -> tuple[Any, ...]:
    """Return the choices for a field that is no quantity; raise `InputError` where there is no such field."""
    choices = tuple(_listed(value, f"chip.{path}"))
    try:
        present = [reduce(getattr, path.split("."), chip) for chip in chips]
    except AttributeError:
        raise InputError(f"`chip.{path}`: {chips[0].name} has no such quantity: {nearest(path, known)}") from None
    if any(is_dataclass(one) for one in present) or not all(isinstance(one, str | bool) for one in choices):
        raise InputError(f"`chip.{path}`: what {chips[0].name} has there is no quantity it knows: {nearest(path, known)}")
    return choices


def _read_scenario(table: Mapping[str, Any]) -> _Read:
    known = [*(one.name for one in fields(Scenario)), "model", "precision"]
    axes: dict[str, tuple[float, ...]] = {}
    for name, value in table.items():
        if name not in known:
            raise InputError(f"`scenario.{name}`: there is no such field: {nearest(name, known)}")
        if name in _NUMBERS and (isinstance(value, list | dict) or (isinstance(value, str) and (":" in value or "," in value))):
            axes[name] = _values(f"scenario.{name}", value, "1")
    choices = {"precision": tuple(_listed(table["precision"], "scenario.precision"))} if "precision" in table else {}
    return _Read(axes=axes, formulas={}, choices=choices)


def _values(where: str, value: Any, unit: str) -> tuple[float, ...]:
    """Return an axis's values: one, a list, a range as text, or `{ from, to, count, spacing }`."""
    try:
        if isinstance(value, dict):
            found = _spaced(value, unit)
        elif isinstance(value, list):
            found = [_one(item, unit) for item in value]
        elif isinstance(value, str):
            found = parse_range(value, where, unit)
        else:
            found = [_one(value, unit)]
    except (ValueError, KeyError, TypeError) as error:
        said = f"missing `{error.args[0]}`" if isinstance(error, KeyError) else str(error)
        raise InputError(f"`{where}`: {said}: a number, a list, a range or {{ from, to, count, spacing }} is wanted") from None
    if not found or not all(np.isfinite(found)):
        raise InputError(f"`{where}`: at least one finite value is wanted")
    if any(one < 0 for one in found):
        raise InputError(f"`{where}`: {min(found):g} is below 0")
    return tuple(found)


def _spaced(table: Mapping[str, Any], unit: str) -> list[float]:
    first, last, count = _one(table["from"], unit), _one(table["to"], unit), int(table["count"])
    spacing = table.get("spacing", "linear")
    if spacing not in ("linear", "log") or count < 1 or (spacing == "log" and min(first, last) <= 0):
        raise ValueError(f"spacing {spacing!r} with {count} values from {first:g} to {last:g}")
    return (np.geomspace if spacing == "log" else np.linspace)(first, last, count).tolist()


def _one(value: Any, unit: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError(f"{value!r} is no number")
    return parse(str(value), unit)


def _groups(
    machines: Sequence[_Machine],
    choices: Mapping[str, tuple[Any, ...]],
    shared: _Read,
    scenario: Mapping[str, Any],
    works: Sequence[Mapping[str, Any]],
) -> Iterator[Group]:
    """Yield every combination of structure: base chip, or system and plan; structural fields; precision."""
    combinations: Iterable[Any] = product(machines, shared.choices.get("precision", (None,)), *choices.values())
    for machine, precision, *picked in combinations:
        structure = dict(zip(choices, picked, strict=True))
        chip = placed = machine.chip
        for path, value in structure.items():
            placed = _with_structure(placed, path.split("."), value)
        made = tuple(_work(index, table, scenario, shared, precision) for index, table in enumerate(works))
        said = made[0].precision.name if precision is None else str(precision)
        labels = {"chip": chip.name, "precision": said, **{path: str(value) for path, value in structure.items()}}
        system = None if machine.system is None else replace(machine.system, chip=placed)
        if system is not None and machine.plan is not None:
            labels = {"system": system.name, "plan": machine.plan.text, **labels}
            _check_plan(system, machine.plan, made, shared)
        yield Group(labels=labels, chip=placed, works=made, system=system, plan=machine.plan, tariff=_tariff(machine))


def _check_plan(system: System, plan: Plan, works: Sequence[Work], shared: _Read) -> None:
    """Refuse a plan that cannot be for some value of the scenario's axes before anything is computed."""
    for work in works:
        for name, values in {name: values for name, values in shared.axes.items() if name not in work.fixed}.items():
            plan_capacity(system, work.model, replace(work.scenario, **{name: np.asarray(values)}), work.precision, plan)
        plan_capacity(system, work.model, work.scenario, work.precision, plan)


def _tariff(machine: _Machine) -> Tariff | None:
    """Return what a machine costs a second, where a price of it is known: bought before rented."""
    bought: Chip | System = machine.system or machine.chip
    if not priced(bought):
        return None
    rate = rate_of(bought, 1 if machine.plan is None else int(machine.plan.chips))
    fixed = rate.fixed / rate.terms.utilisation + rate.overhead * rate.energy_price
    return Tariff(fixed=fixed, energy=rate.energy_price, limit=rate.power)


def _with_structure(spec: Any, path: Sequence[str], value: Any) -> Any:
    head, *rest = path
    return replace(spec, **{head: _with_structure(getattr(spec, head), rest, value) if rest else value})


def _work(index: int, table: Mapping[str, Any], scenario: Mapping[str, Any], shared: _Read, precision: Any) -> Work:
    own = {key: value for key, value in table.items() if key not in ("name", "weight")}
    for key in own:
        if key not in (*(one.name for one in fields(Scenario)), "model", "precision"):
            raise InputError(f"`workload.{key}`: there is no such field")
    given = {**{key: value for key, value in scenario.items() if key not in shared.axes}, **own}
    if "model" not in given:
        raise InputError("missing key `model`: in [scenario], or in each [[workload]]")
    model = load_model(str(given.pop("model")))
    chosen = own.get("precision", precision)
    given.pop("precision", None)
    phase = given.pop("phase", None)
    # A first value stands in for each axis, so that what is asked is checked with it.
    first = {name: values[0] for name, values in shared.axes.items() if name not in own}
    made, _ = make_scenario(model, phase, {**first, **given})
    weight = _plain_number(table.get("weight", 1.0), "workload.weight")
    if not weight > 0:
        raise InputError(f"`workload.weight` {weight:g}: more than 0 is wanted")
    return Work(
        name=str(table.get("name", f"{model.name} {made.phase}" if index == 0 else f"{model.name} {made.phase} {index}")),
        model=model,
        scenario=made,
        precision=load_precision(chosen, model),
        weight=weight,
        fixed=tuple(own),
    )


def _derived(table: Mapping[str, Any]) -> dict[str, Formula]:
    return {path: Formula.parse(str(value["formula"] if isinstance(value, dict) else value)) for path, value in _flat(table)}


def _common_quantities(groups: Sequence[Group]) -> list[str]:
    sets = [one.quantities.keys() for one in groups]
    return sorted(reduce(operator.and_, (set(one) for one in sets)))


# ---- objectives and constraints ---------------------------------------------------------------------------------------------

_LIMIT = re.compile(r"^\s*(?P<name>.+?)\s*(?P<sign><=|>=|≤|≥)\s*(?P<limit>.+?)\s*$")


def _with_aims(space: Space, raw: Mapping[str, Any]) -> Space:
    names = column_units(space)
    table = _table(raw, "objectives")
    for key in table:
        if key not in ("minimise", "maximise"):
            raise InputError(f"`objectives.{key}`: {nearest(key, ('minimise', 'maximise'))}")
    objectives: dict[str, Sense] = {}
    for key, sense in (("minimise", "min"), ("maximise", "max")):
        for name in _listed(table.get(key, []), key):
            if name not in names:
                raise InputError(f"objective `{name}` is not known: {nearest(str(name), names)}")
            if name in objectives:
                raise InputError(f"objective `{name}` is both minimised and maximised, or said twice")
            objectives[name] = sense  # pyright: ignore[reportArgumentType]
    limits = tuple(_constraint(str(one), names) for one in _listed(raw.get("constraints", []), "constraints"))
    _check_limits(limits)
    found = replace(space, objectives=objectives or {"time": "min"}, constraints=limits)
    if found.points > 2**53 or not columns(found):
        raise InputError(f"{found.points:g} points are too many to number")
    return found


def column_units(space: Space) -> dict[str, str]:
    """Return the unit of every column that a space can have, by name; 1 for counts and for what formulas make."""
    first = space.groups[0]
    of_chip = quantities(first.chip)
    found = {name: unit_at(first.chip if name in of_chip else first.system, name) for name in _common_quantities(space.groups)}
    found |= dict.fromkeys(space.axes, "1") | dict.fromkeys(space.formulas, "1") | found
    works = space.groups[0].works
    return {**found, **METRICS, **({f"time.{work.name}": "s" for work in works} if len(works) > 1 else {})}


def _constraint(text: str, names: Mapping[str, str]) -> Constraint:
    match = _LIMIT.match(text)
    if match is None:
        raise InputError(f"constraint {text!r}: `name <= value unit` or `name >= value unit` is wanted")
    name = match["name"]
    if name not in names:
        raise InputError(f"constraint {text!r}: `{name}` is not known: {nearest(name, names)}")
    try:
        limit = parse(match["limit"], names[name])
    except ValueError as error:
        raise InputError(f"constraint {text!r}: {error}") from None
    return Constraint(name=name, at_most=match["sign"] in ("<=", "≤"), limit=limit, text=text)


def _check_limits(limits: Sequence[Constraint]) -> None:
    """Refuse limits that no number can keep together."""
    for low in limits:
        for high in limits:
            if low.name == high.name and not low.at_most and high.at_most and low.limit > high.limit:
                raise InputError(f"constraints {low.text!r} and {high.text!r} contradict one another")
