"""Traces that record which instance served each request: what a platform did, to set beside what a simulator does."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from traces.dates import dates_us
from traces.errors import FileName, TraceError
from traces.families import PRESETS, preset_of
from traces.huawei2025 import LINGER_US, HuaweiColdStarts, read_huawei2025_cold_starts, read_huawei2025_requests
from traces.repairs import BadRows, Repairs
from traces.requests import Names, Pieces
from traces.rows import columns_in, rows_of
from traces.tables import Progress, texts_of
from traces.trace import Trace

UNKNOWN = -1


@dataclass(frozen=True, eq=False)
class ColdStarts:
    """C cold starts of a trace's functions, in its time.

    Attributes:
        function: (C,) index into the trace's functions.
        time_us: (C,) when each was recorded: before the last of the requests ended.
        total_us: (C,) how long it took.
        stages_us: (C, 4) and its stages (``traces.huawei2025.STAGES``).
        others: How many more the file has of these days: of functions that the trace does not have.
    """

    function: NDArray[np.int32]
    time_us: NDArray[np.int64]
    total_us: NDArray[np.int64]
    stages_us: NDArray[np.int64]
    others: int


@dataclass(frozen=True, eq=False)
class Witness:
    """A trace with the instances that served it.

    Attributes:
        trace: The requests, with run times.
        instance: (R,) number of each request's instance, in the trace's order; -1 where it is not recorded.
        linger_us: How long an instance lives after its last request, by the authors' rule; None: they name none.
        cold_starts: Those that are recorded; None: no file of them was given.
    """

    trace: Trace
    instance: NDArray[np.int32]
    linger_us: int | None
    cold_starts: ColdStarts | None


@dataclass(frozen=True, eq=False)
class Lives:
    """I instances: from its first request until some time after its last.

    Attributes:
        begin_us: (I,) arrival of the first request.
        over_us: (I,) end of the last, and what follows it.
    """

    begin_us: NDArray[np.int64]
    over_us: NDArray[np.int64]

    def at_once(self, from_us: int, until_us: int) -> tuple[float, int]:
        """Mean and most of the instances that live in a span of time."""
        begin, over = np.maximum(self.begin_us, from_us), np.minimum(self.over_us, until_us)
        lives = begin < over
        begin, over = begin[lives], over[lives]
        mean = float((over - begin).sum() / (until_us - from_us))
        return mean, int(most_at_once(np.zeros(len(begin), np.int32), begin, over, 1)[0])

    def begun(self, from_us: int, until_us: int) -> int:
        """How many begin in a span of time."""
        return int(((self.begin_us >= from_us) & (self.begin_us < until_us)).sum())


def lives_of(
    instance: NDArray[np.integer], begin_us: NDArray[np.int64], end_us: NDArray[np.int64], linger_us: int
) -> Lives:
    """The lives of instances.

    Args:
        instance: (R,) number of each request's; those below 0 are left out.
        begin_us: (R,) when each request came.
        end_us: (R,) and ended.
        linger_us: how long an instance lives after that.
    """
    known = instance >= 0
    _, number = np.unique(instance[known], return_inverse=True)
    count = int(number.max(initial=-1)) + 1
    first, last = np.full(count, np.iinfo(np.int64).max), np.zeros(count, np.int64)
    np.minimum.at(first, number, begin_us[known])
    np.maximum.at(last, number, end_us[known])
    return Lives(first, last + linger_us)


def most_at_once(
    group: NDArray[np.integer], begin_us: NDArray[np.int64], end_us: NDArray[np.int64], groups: int
) -> NDArray[np.int64]:
    """(G,) the most spans of each group that overlap; one that ends when another begins does not overlap it."""
    found = np.zeros(groups, np.int64)
    groups_twice = np.concatenate([group, group])
    change = np.concatenate([np.ones(len(group), np.int64), -np.ones(len(group), np.int64)])
    order = np.lexsort((change, np.concatenate([begin_us, end_us]), groups_twice))
    # a group's spans have all ended before the next one's begin, so one sum runs over all of them
    np.maximum.at(found, groups_twice[order], np.cumsum(change[order]))
    return found


def read_witness(
    path: FileName,
    cold_starts: FileName | None = None,
    progress: Progress | None = None,
    *,
    bad_rows: BadRows = "fail",
) -> Witness:
    """Read a trace that records instances: Huawei 2025 (pods) or Chutes.

    Args:
        path: The requests.
        cold_starts: Huawei's table of cold starts.
        progress: Told how far the reading is.
        bad_rows: Of Chutes: whether empty cells are refused or mended.

    Raises:
        TraceError: What their readers refuse, or a trace that records no instances.
    """
    columns = columns_in(path)
    if "totalCost_worker" in columns:
        requests = read_huawei2025_requests(path, progress)
        found = None if cold_starts is None else read_huawei2025_cold_starts(cold_starts)
        started = None if found is None else _within(requests.trace, requests.first_us, found)
        return Witness(requests.trace, requests.pod, LINGER_US, started)
    if preset_of(columns) != "chutes":
        problem = "records no instances; Huawei 2025 (its table of requests) and Chutes do"
        raise TraceError.at(path, problem, row=1)
    if cold_starts is not None:
        raise TraceError.at(cold_starts, "cold starts belong to Huawei 2025; Chutes records none")
    trace = PRESETS["chutes"].read(path, progress, bad_rows=bad_rows)
    return Witness(trace, _instances(path), None, None)


def _within(trace: Trace, first_us: int, found: HuaweiColdStarts) -> ColdStarts:
    """The cold starts of a trace's functions in its time."""
    number = {name: index for index, name in enumerate(trace.names)}
    function = np.array([number.get(name, UNKNOWN) for name in found.functions], np.int32)[found.function]
    time_us = found.time_us - first_us
    now = (time_us >= 0) & (time_us < (trace.arrival_us + trace.duration_us).max())
    ours = now & (function != UNKNOWN)
    others = int((now & ~ours).sum())
    return ColdStarts(function[ours], time_us[ours], found.total_us[ours], found.stages_us[ours], others)


def _instances(path: FileName) -> NDArray[np.int32]:
    """The instance of each request of a Chutes file, in the order in which a trace has its requests."""
    functions, instances, pieces = Names(), Names(), Pieces()
    for rows in rows_of(path, ["started_at", "chute_id", "instance_id"]):
        named = rows.columns["instance_id"]
        number = instances.number(texts_of(named.fill_null("")))
        number[named.is_null().to_numpy(zero_copy_only=False)] = UNKNOWN
        pieces.add(
            time_us=dates_us(rows.columns["started_at"], None, rows.place("started_at"), Repairs()),
            function=functions.number(texts_of(rows.columns["chute_id"].fill_null("unknown"))),
            instance=number,
        )
    time_us, function = pieces.take("time_us"), pieces.take("function")
    instance: NDArray[np.int32] = pieces.take("instance")[np.lexsort((function, time_us))]
    return instance
