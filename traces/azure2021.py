"""The Azure Functions 2021 data set: one row an invocation, with its end and run time in seconds.

Zhang et al., "Faster and Cheaper Serverless Computing on Harvested Resources", SOSP'21; file
``AzureFunctionsInvocationTraceForTwoWeeksJan2021.txt`` of the Azure public data set.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from traces.errors import FileName, TraceError
from traces.repairs import Repairs
from traces.requests import Names, Pieces, renumber
from traces.tables import CsvFile, Progress
from traces.trace import Trace

SOURCE = "Azure Functions 2021 (Zhang et al., SOSP'21)"
LICENCE = "CC-BY 4.0"

_SPAN_LIMIT_S = 100 * 86_400.0
_SECOND_US = 1_000_000
_RECORDED_FROM_US = int(np.datetime64("2021-01-31", "us").astype(np.int64))
"""Begin of the two weeks, as the data set's page dates them; its times count from there."""
_ZERO = "a run time of 0, which the authors leave unexplained: kept"
_SHARED = "a func of several applications, which are different functions: named app/func"


def read_azure2021(invocations: FileName, progress: Progress | None = None) -> Trace:
    """Read invocations; a request arrives at its end minus its run time.

    Args:
        invocations: CSV, plain or gzip, with app, func, end_timestamp (s) and duration (s).
        progress: Told how far the reading is.

    Returns:
        The trace, from the arrival of the first request.  A func that several applications share is named app/func.
        Such functions, and run times of 0 (8.65 % of the published ones), are counted; both are kept as they are.

    Raises:
        TraceError: With file, row and column: a missing column, a cell that is no number, a negative run time, times
            that cannot be seconds.  Equal rows are allowed: the file gives no identity to an invocation.
    """
    file = CsvFile(invocations, progress)
    names, pieces = Names(), Pieces()
    for part in file.batches({"app": "text", "func": "text", "end_timestamp": "number", "duration": "number"}):
        pieces.add(
            function=names.number(part["app"], part["func"]), end_s=part["end_timestamp"], run_s=part["duration"]
        )
    function, end_s, run_s = pieces.take("function"), pieces.take("end_s"), pieces.take("run_s")
    for wrong, values, name, problem in (
        (run_s < 0, run_s, "duration", "is negative, expected seconds >= 0"),
        (
            end_s - end_s.min() > _SPAN_LIMIT_S,
            end_s,
            "end_timestamp",
            "is over 100 days after the first: expected seconds",
        ),
        (run_s > _SPAN_LIMIT_S, run_s, "duration", "is over 100 days: the unit looks wrong, expected seconds"),
    ):
        if wrong.any():
            row = int(np.argmax(wrong))
            raise TraceError.at(invocations, f"{values[row]} {problem}", row=row + 2, column=name)
    del wrong, values
    end_s -= run_s
    first_s = end_s.min()
    end_s -= first_s
    arrival_us = np.rint(end_s * _SECOND_US).astype(np.int64)
    del end_s
    apps_of = Counter(func for _, func in names.known)
    repairs = Repairs()
    repairs.note(_ZERO, run_s == 0, invocations, changed=False)
    repairs.note(_SHARED, np.array([apps_of[func] > 1 for _, func in names.known]), changed=False)
    labels = [func if apps_of[func] == 1 else f"{app}/{func}" for app, func in names.known]
    functions, function = renumber(labels, function)
    return Trace.build(
        names=functions,
        arrival_us=arrival_us,
        arrival_function=function,
        duration_us=np.rint(run_s * _SECOND_US).astype(np.int64),
        end_us=int(arrival_us.max()) + 1,
        source=f"{SOURCE}, {Path(invocations).name}",
        licence=LICENCE,
        window="from the first request to the last",
        expansion="none",
        start_us=_RECORDED_FROM_US + round(first_s * _SECOND_US),
        repairs=repairs,
    )
