"""The Azure Functions 2021 data set: one row an invocation, with its end and run time in seconds.

Zhang et al., "Faster and Cheaper Serverless Computing on Harvested Resources", SOSP'21; file
``AzureFunctionsInvocationTraceForTwoWeeksJan2021.txt`` of the Azure public data set.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from traces.errors import FileName, TraceError
from traces.tables import CsvFile
from traces.trace import Trace

SOURCE = "Azure Functions 2021 (Zhang et al., SOSP'21)"
LICENCE = "CC-BY 4.0"

_SPAN_LIMIT_S = 100 * 86_400.0
_SECOND_US = 1_000_000


def read_azure2021(invocations: FileName) -> Trace:
    """Read invocations; a request arrives at its end minus its run time.

    Args:
        invocations: CSV, plain or gzip, with app, func, end_timestamp (s) and duration (s).

    Returns:
        The trace, from the arrival of the first request.  A func that several applications share is named app/func.

    Raises:
        TraceError: With file, row and column: a missing column, a cell that is no number, a negative run time, times
            that cannot be seconds.  Equal rows are allowed: the file gives no identity to an invocation.
    """
    file = CsvFile(invocations)
    columns = file.read({"app": "text", "func": "text", "end_timestamp": "number", "duration": "number"})
    end_s = columns["end_timestamp"].astype(np.float64)
    duration_s = columns["duration"].astype(np.float64)
    for wrong, name, problem in (
        (duration_s < 0, "duration", "is negative, expected seconds >= 0"),
        (end_s - end_s.min() > _SPAN_LIMIT_S, "end_timestamp", "is over 100 days after the first: expected seconds"),
        (duration_s > _SPAN_LIMIT_S, "duration", "is over 100 days: the unit looks wrong, expected seconds"),
    ):
        if wrong.any():
            row = int(np.argmax(wrong))
            raise TraceError.at(invocations, f"{columns[name][row]} {problem}", row=row + 2, column=name)
    arrival_s = end_s - duration_s
    arrival_us = np.rint((arrival_s - arrival_s.min()) * _SECOND_US).astype(np.int64)
    pairs = pd.DataFrame({"app": columns["app"], "func": columns["func"]})
    apps_of = pairs.drop_duplicates().groupby("func")["app"].transform("size")
    shared = pairs["func"].isin(pairs["func"].loc[apps_of.index[apps_of > 1]])
    names = pairs["func"].where(~shared, pairs["app"] + "/" + pairs["func"])
    function, functions = pd.factorize(names, sort=True)
    return Trace.build(
        names=[str(name) for name in functions],
        arrival_us=arrival_us,
        arrival_function=function.astype(np.int32),
        duration_us=np.rint(duration_s * _SECOND_US).astype(np.int64),
        end_us=int(arrival_us.max()) + 1,
        source=f"{SOURCE}, {Path(invocations).name}",
        licence=LICENCE,
        window="from the first request to the last",
        expansion="none",
    )
