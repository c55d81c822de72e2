"""Rows of single requests of a trace, replayed: only arrivals and lengths go in, and the rows of a run share one replay.

Of each request TTFT and TPOT come out. What a server measures is in its stack: limits of the scheduler, memory, host.
"""

from collections.abc import Sequence

import numpy as np

from ridgeline.catalogue.loads import trace_limits
from ridgeline.errors import InputError
from ridgeline.serving.arrivals import Numbers, Requests
from ridgeline.serving.policy import Serving
from ridgeline.serving.room import cache_room
from ridgeline.serving.simulator import Cache, Played, simulate
from ridgeline.serving.surface import Extent, Surface, windows_of
from ridgeline.specs.precision import Precision
from ridgeline.specs.scenario import Scenario
from ridgeline.validation.group import Group, Times
from ridgeline.validation.schema import Row
from ridgeline.validation.service import Service, service_of, split_of

GROUPED_BY = ("model", "dtype", "n_chips", "parallelism", "run")
_METRICS = ("ttft", "tpot")


def is_traced(row: Row) -> bool:
    """Say whether a row is the TTFT or the TPOT of one request that came at a stated time."""
    return row.metric in _METRICS and row.unit == "s" and row.has("arrival_s") and _arrives(row)


def _arrives(row: Row) -> bool:
    """Say whether the time of arrival is one: a finite number, 0 or more."""
    return row.counts("arrival_s") or row.text("arrival_s").strip("0") in ("", ".")


def times(group: Group) -> Times:
    """Predict a run's requests by replaying all of them."""
    order = _requests_of(group.rows)
    rows = list(order.values())
    asked = _asked(rows)
    service = service_of(group, split_of(group.text("parallelism"), int(rows[0].number("n_chips", 1.0))), _precision(group))
    serving = service.serving(*trace_limits(group.text("framework")))
    cache = cache_room(service.at("mapped"), service.model.name, serving)
    played = _replay(service, serving, cache, asked)
    first = played.first - asked.arrival
    gaps = (played.finish - played.first) / np.maximum(asked.output - 1, 1)
    least = _least(service, asked)
    place = {name: index for index, name in enumerate(order)}
    index = [place[row.text("request_id")] for row in group.rows]
    chosen = [0 if row.metric == "ttft" else 1 for row in group.rows]
    return Times(np.stack([first, gaps])[chosen, index], np.stack(least)[chosen, index])


def _precision(group: Group) -> Precision:
    return Precision.parse(group.text("dtype").split("/")[0])


def _requests_of(rows: Sequence[Row]) -> dict[str, Row]:
    """Return one row of each request, by its name in the order of arrival; raise `InputError` where one has no length."""
    found: dict[str, Row] = {}
    for row in rows:
        name = row.text("request_id")
        if not name:
            raise InputError(f"{row.file}:{row.line}: a request of a trace needs a `request_id`, which joins its rows")
        for length in ("isl", "osl"):
            if not row.counts(length) or row.number(length) < 1:
                raise InputError(f"{row.file}:{row.line}: request {name}: a trace needs `isl` and `osl`, tokens of 1 or more")
        found.setdefault(name, row)
    return dict(sorted(found.items(), key=lambda one: one[1].number("arrival_s")))


def _asked(rows: Sequence[Row]) -> Requests:
    arrival = np.array([row.number("arrival_s") for row in rows])
    prompt, output = (np.array([round(row.number(name)) for row in rows], dtype=np.int64) for name in ("isl", "osl"))
    return Requests(arrival=arrival, prompt=prompt, output=output, prefix=0 * prompt, group=0 * prompt)


def _replay(service: Service, serving: Serving, cache: Cache, asked: Requests) -> Played:
    """Play a trace; requests go to the instances in turn."""
    longest = int((asked.prompt + asked.output).max())
    extent = Extent(
        sequences=serving.most_sequences,
        context=longest + 1,
        chunk=min(longest, serving.token_budget),
        tokens=max(longest, serving.token_budget) + serving.most_sequences,
    )
    surface = Surface(service.at("mapped"), extent, windows=windows_of(service.model))
    return simulate(asked, surface, serving, cache, random=np.random.default_rng(0))


def _least(service: Service, asked: Requests) -> tuple[Numbers, Numbers]:
    """Return the bounds of TTFT and TPOT: each request alone, at peak rates."""
    run, context = service.at("ideal"), asked.prompt + (asked.output + 1.0) / 2.0
    first = run(Scenario(phase="prefill", batch=1.0, prompt=asked.prompt.astype(float))).time
    step = run(Scenario(phase="decode", batch=1.0, context=context)).time
    return np.broadcast_to(first, context.shape), np.broadcast_to(step, context.shape)
