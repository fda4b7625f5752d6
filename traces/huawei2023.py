"""Huawei's traces of 2023: a table a day with a row a minute (or second) and a column a function.

Joosen et al., "How Does It Function? Characterizing Long-term Trends in Production Serverless Workloads", SoCC'23;
tables ``requests_minute/day_NNN.csv`` and ``requests_second/day_NNN.csv`` of ``sir-lab/data-release``, CC-BY 4.0.  The
tables of delays, limits, usage and instances have the same header: only the numbers tell them from requests.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from traces.counts import MINUTE_US, Counts
from traces.errors import FileName, TraceError
from traces.repairs import BadRows, Repairs
from traces.tables import MOST_PER_MINUTE, CsvFile, Kind, Progress

SOURCE = "Huawei 2023 (Joosen et al., SoCC'23)"
LICENCE = "CC-BY 4.0"

_DAY, _TIME = "day", "time"
_MINUTE_S, _DAY_S = 60, 86_400
_EMPTY = "a cell that is empty: no request"
_NO_ROW = "a minute between the first row and the last that no row is of: no request"


def read_huawei2023(requests: FileName, progress: Progress | None = None, *, bad_rows: BadRows = "fail") -> Counts:
    """Read a table of requests; what falls into one minute is added up.

    Args:
        requests: CSV, plain or packed: day, time (s from the start of the data set), and a column a function.
        progress: Told how far the reading is.
        bad_rows: Whether empty cells, which are common, are refused or taken for 0 and counted.

    Returns:
        Counts from the minute of the first row to that of the last; minutes without a row have no request, and are
        counted.

    Raises:
        TraceError: With file, row and column: a header of another form, a cell that is no whole number of requests, a
            time that is not above the one before.
    """
    file = CsvFile(requests, progress)
    names = [name for name in file.header if name not in (_DAY, _TIME)]
    file.require([_DAY, _TIME])
    for name in names:
        if not name.isdigit():
            raise TraceError.at(
                requests, "is no number of a function, as all columns but day and time are", row=1, column=name
            )
    if not names:
        raise TraceError.at(requests, "has no function: expected columns 0, 1, ... beside day and time", row=1)
    repairs = Repairs(bad_rows)
    kinds: dict[str, Kind] = dict.fromkeys((_TIME, *names), "number")
    columns = file.read(kinds, optional=frozenset(names))
    time_s = columns[_TIME]
    for wrong, problem in (
        (time_s < 0, "is negative, expected seconds >= 0"),
        (np.diff(time_s, prepend=-1.0) <= 0, "is not above the time before it, expected ascending seconds"),
        (time_s - time_s[0] > _DAY_S, "is over a day after the first: expected one table a day, in seconds"),
    ):
        if wrong.any():
            row = int(np.argmax(wrong))
            raise TraceError.at(requests, f"{time_s[row]:g} {problem}", row=row + 2, column=_TIME)
    minute = (time_s // _MINUTE_S).astype(np.int64)
    counts = np.zeros((len(names), int(minute[-1] - minute[0]) + 1), np.int64)
    there = np.bincount(minute - minute[0], minlength=counts.shape[1]) > 0
    for place, name in enumerate(names):
        values = columns.pop(name)
        empty = np.isnan(values)
        values = np.where(empty, 0.0, values)
        for wrong, problem in (
            (
                empty if bad_rows == "fail" else empty & False,
                "is empty, expected a number of requests; bad_rows repair takes 0",
            ),
            (
                (values < 0) | (values != np.floor(values)),
                "is no whole number of requests: does the table hold delays or usage?",
            ),
            (values > MOST_PER_MINUTE, f"is too large, expected at most {MOST_PER_MINUTE} requests"),
        ):
            if wrong.any():
                row = int(np.argmax(wrong))
                cell = "the cell" if empty[row] else f"{values[row]:g}"
                raise TraceError.at(requests, f"{cell} {problem}", row=row + 2, column=name)
        repairs.note(_EMPTY, empty, requests)
        np.add.at(counts[place], minute - minute[0], values.astype(np.int64))
    repairs.note(_NO_ROW, ~there, changed=False)
    if counts.max() > MOST_PER_MINUTE:
        function = int(np.argmax(counts.max(axis=1)))
        problem = f"has {counts.max()} requests in a minute, expected at most {MOST_PER_MINUTE}"
        raise TraceError.at(requests, problem, column=names[function])
    functions, first_minute = len(names), int(minute[0] % (_DAY_S // _MINUTE_S))
    return Counts(
        names=tuple(names),
        owners=("",) * functions,
        apps=("",) * functions,
        triggers=("",) * functions,
        counts=counts.astype(np.int32),
        first_minute=first_minute,
        start_us=first_minute * MINUTE_US,
        duration_ms=np.full(functions, np.nan),
        memory_mb=np.full(functions, np.nan),
        weights=np.ones(functions, np.int64),
        source=f"{SOURCE}, {Path(requests).name}",
        licence=LICENCE,
        repairs=tuple(repairs),
    )
