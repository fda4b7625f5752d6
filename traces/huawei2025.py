"""Huawei's public cloud trace of 2025: requests of a day, and cold starts of 31 days by stage.

Joosen et al., "Serverless Cold Starts and Where to Find Them", EuroSys'25; tables of requests and of cold starts,
CC-BY 4.0, described in ``README_data_release_2025.md`` of ``sir-lab/data-release``.

Times are seconds from the start of day 0, on day 30 as well, and are those at which a request *ended*: the schema does
not say so, but in the rows that the authors show the requests of one pod follow each other with gaps that are the
later one's run time.  So a request arrives at ``time_frontend - totalCost_frontend``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from traces.errors import FileName, TraceError
from traces.repairs import Repairs
from traces.requests import Names, Pieces
from traces.tables import CsvFile, Kind, Progress
from traces.trace import Trace

SOURCE = "Huawei public cloud 2025 (Joosen et al., EuroSys'25)"
LICENCE = "CC-BY 4.0"
LINGER_US = 60_000_000
"""How long a pod lives after its last request; no deletions are recorded, and this is the authors' rule."""
STAGES = ("podAllocationCost", "deployCodeCost", "deployDependencyCost", "schedulingCost")
"""The stages of a cold start, in their order in the table."""

_TIME, _TOTAL = "time", "totalCost_cold_start"
_WORKER, _FRONTEND = ("time_worker", "totalCost_worker"), ("time_frontend", "totalCost_frontend")
_FUNCTION, _USER, _POD = "funcName", "userID", "podID"
_PER_SECOND, _DAY_S = 1_000_000, 86_400.0
_LONGEST_S = 100 * _DAY_S
_POOL = r"^(.+-\d+-\d+)-[^-]+$"
_NO_FRONTEND = "no record of the frontend: arrival by the worker's, a few ms later"


@dataclass(frozen=True, eq=False)
class HuaweiRequests:
    """R requests in order of arrival; F functions, P pods.

    Attributes:
        trace: The requests.
        pod: (R,) index of the pod that served each, in the trace's order.
        pod_function: (P,) the function of each pod.
        first_us: Arrival of the first, from the start of day 0.
    """

    trace: Trace
    pod: NDArray[np.int32]
    pod_function: NDArray[np.int32]
    first_us: int


@dataclass(frozen=True, eq=False)
class HuaweiColdStarts:
    """C cold starts, in the order of the table.

    Attributes:
        functions: Their names, each once, as those of the requests are.
        function: (C,) index into the names.
        time_us: (C,) from the start of day 0.
        total_us: (C,) how long each took.
        stages_us: (C, 4) its :data:`STAGES`.
    """

    functions: tuple[str, ...]
    function: NDArray[np.int32]
    time_us: NDArray[np.int64]
    total_us: NDArray[np.int64]
    stages_us: NDArray[np.int64]


def read_huawei2025(requests: FileName, progress: Progress | None = None) -> Trace:
    """Read a table of requests; see :func:`read_huawei2025_requests`."""
    return read_huawei2025_requests(requests, progress).trace


def read_huawei2025_requests(requests: FileName, progress: Progress | None = None) -> HuaweiRequests:
    """Read a table of requests, with the pods that served them.

    A function is what the authors call funcID: funcName, userID and the pod's pool, joined by ``---``.  Its run time is
    totalCost_worker, its owner the user.  Where the frontend's cells are empty, the request arrives when the worker
    began with it (counted).

    Args:
        requests: CSV, plain or packed: one file of those in a region's archive, each of which has the whole day 30 of
            some functions.
        progress: Told how far the reading is.

    Raises:
        TraceError: With file, row and column: a missing column, a cell that is empty or cannot be read, a negative
            time, a pod whose name has no pool; or a table of cold starts.
    """
    file = CsvFile(requests, progress)
    if _TOTAL in file.header and _WORKER[0] not in file.header:
        problem = "holds cold starts, not requests: give the table of requests, and this one to tyche trace compare"
        raise TraceError.at(requests, f"{problem} REQUESTS --cold-starts FILE", row=1, column=_TOTAL)
    names, pods, pieces, repairs = Names(), Names(), Pieces(), Repairs()
    kinds: dict[str, Kind] = dict.fromkeys((*_WORKER, *_FRONTEND), "number")
    kinds |= dict.fromkeys((_FUNCTION, _USER, _POD), "text")
    rows = 2
    for part in file.batches(kinds, optional=frozenset(_FRONTEND)):
        for stamp, cost in (_WORKER, _FRONTEND):
            _refuse_outside(requests, part, (stamp, cost), rows)
        run_s = part[_WORKER[1]]
        seen = ~(np.isnan(part[_FRONTEND[0]]) | np.isnan(part[_FRONTEND[1]]))
        repairs.note(_NO_FRONTEND, ~seen, requests, rows)
        begin_s = np.where(seen, part[_FRONTEND[0]] - part[_FRONTEND[1]], part[_WORKER[0]] - run_s)
        pieces.add(
            function=names.number(part[_FUNCTION], part[_USER], _pools(requests, part[_POD], rows)),
            pod=pods.number(part[_POD]),
            begin_us=_us(begin_s),
            run_us=_us(run_s),
        )
        rows += len(run_s)
    function, pod, begin_us, run_us = (pieces.take(name) for name in ("function", "pod", "begin_us", "run_us"))
    order = np.lexsort((function, begin_us))
    function, pod, begin_us, run_us = function[order], pod[order], begin_us[order], run_us[order]
    pod_function = np.zeros(len(pods.known), np.int32)
    pod_function[pod] = function
    first_us = int(begin_us[0])
    begin_us -= first_us
    trace = Trace.build(
        names=["---".join(name) for name in names.known],
        owners=[user for _, user, _ in names.known],
        arrival_us=begin_us,
        arrival_function=function,
        duration_us=run_us,
        end_us=int(begin_us[-1]) + 1,
        source=f"{SOURCE}, {Path(requests).name}",
        licence=LICENCE,
        window=f"from {first_us / _PER_SECOND:.3f} s of the data set's time on",
        expansion="none",
        repairs=repairs,
        start_us=first_us % (round(_DAY_S) * _PER_SECOND),
    )
    return HuaweiRequests(trace, pod, pod_function, first_us)


def read_huawei2025_cold_starts(cold_starts: FileName, progress: Progress | None = None) -> HuaweiColdStarts:
    """Read a table of cold starts.

    One request may have caused several; equal rows are cold starts, too.  The column ``day`` repeats what ``time``
    says, and is not added to it.

    Args:
        cold_starts: CSV, plain or packed.
        progress: Told how far the reading is.

    Raises:
        TraceError: With file, row and column: a missing column, a cell that is empty or cannot be read, a negative
            time, a time that is not on its day, a pod whose name has no pool.
    """
    names, pieces = Names(), Pieces()
    kinds: dict[str, Kind] = dict.fromkeys((_TIME, "day", _TOTAL, *STAGES), "number")
    kinds |= dict.fromkeys((_FUNCTION, _USER, _POD), "text")
    rows = 2
    for part in CsvFile(cold_starts, progress).batches(kinds):
        _refuse_outside(cold_starts, part, (_TIME, _TOTAL, *STAGES), rows)
        off = np.abs(part[_TIME] // _DAY_S - part["day"]) > 1
        if off.any():
            row = int(np.argmax(off))
            problem = (
                f"{part[_TIME][row]:g} s is not on day {part['day'][row]:g}, expected seconds from the start of day 0"
            )
            raise TraceError.at(cold_starts, problem, row=rows + row, column=_TIME)
        pieces.add(
            function=names.number(part[_FUNCTION], part[_USER], _pools(cold_starts, part[_POD], rows)),
            time_us=_us(part[_TIME]),
            total_us=_us(part[_TOTAL]),
            stages_us=np.column_stack([_us(part[stage]) for stage in STAGES]),
        )
        rows += len(off)
    return HuaweiColdStarts(
        functions=tuple("---".join(name) for name in names.known),
        function=pieces.take("function"),
        time_us=pieces.take("time_us"),
        total_us=pieces.take("total_us"),
        stages_us=pieces.take("stages_us"),
    )


def _us(seconds: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.rint(seconds * _PER_SECOND).astype(np.int64)


def _pools(path: FileName, pods: NDArray[Any], first_row: int) -> NDArray[Any]:
    """The pool in each pod's name: pool22-300-128 of pool22-300-128-0000618412."""
    numbers, known = pd.factorize(pods)
    pools = pd.Series(known, dtype=object).str.extract(_POOL, expand=False)
    wrong = pools.isna().to_numpy()[numbers]
    if wrong.any():
        row = int(np.argmax(wrong))
        problem = f"{pods[row]!r} names no pool, expected one such as pool22-300-128-0000618412"
        raise TraceError.at(path, problem, row=first_row + row, column=_POD)
    found: NDArray[Any] = pools.to_numpy(dtype=object)[numbers]
    return found


def _refuse_outside(path: FileName, part: dict[str, NDArray[Any]], names: Sequence[str], first_row: int) -> None:
    for name in names:
        for wrong, problem in (
            (part[name] < 0, "is negative, expected seconds >= 0"),
            (part[name] > _LONGEST_S, "is over 100 days: the unit looks wrong, expected seconds"),
        ):
            if wrong.any():
                row = int(np.argmax(wrong))
                raise TraceError.at(path, f"{part[name][row]:g} {problem}", row=first_row + row, column=name)
