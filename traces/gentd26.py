"""Alibaba GenTD26: requests to a Stable-Diffusion service, one row a request, timestamps of 1 s.

The data set and the papers to cite (SoCC'25, EuroSys'26) are named in ``alibaba/clusterdata``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from traces.errors import FileName, TraceError
from traces.repairs import Repairs
from traces.tables import CsvFile, Kind, Progress
from traces.trace import Trace

SOURCE = "Alibaba GenTD26 (cite the SoCC'25 and EuroSys'26 papers named in alibaba/clusterdata)"
LICENCE = "research and study only"

_TIME, _STATUS, _SECONDS, _MODEL = "gmt_create", "predict_status", "exec_time_seconds", "checkpoint_model_version_id"
_RAN = ("SUCCEED", "FAILED")
_NEVER_ENDED = ("PENDING", "PROCESSING")
_LEFT_OUT = "a request that is PENDING or PROCESSING: left out, since no run time is known of it"
_SECOND_US = 1_000_000
_LONGEST_S = 10_800.0


def read_gentd26(requests: FileName, seed: int = 0, progress: Progress | None = None) -> Trace:
    """Read the requests; a function is a base model, its run time the request's own.

    Requests that succeeded and those that failed are kept: both arrived, and ran on their model (a failed one for 13 s
    in the mean).  Pending ones and those in process are left out and counted: no run time is known of them, and most of
    the pending name no model.  Two equal rows are two requests: nothing identifies one, and stamps are of a second.

    Args:
        requests: CSV, plain or gzip, with gmt_create (YYYY-MM-DD hh:mm:ss), predict_status, exec_time_seconds and
            checkpoint_model_version_id.
        seed: Seed of the draws that place each request uniformly inside its second.
        progress: Told how far the reading is.

    Returns:
        The trace, from the second of the first request to the end of the second of the last.  Owners are unknown.

    Raises:
        TraceError: With file, row and column: a missing column, a time, status or number that cannot be read, run times
            that cannot be seconds.
    """
    file = CsvFile(requests, progress)
    file.require([_TIME, _STATUS, _SECONDS, _MODEL])
    kinds: dict[str, Kind] = dict.fromkeys(file.header, "text")
    kinds[_SECONDS] = "number"
    columns = file.read(kinds, optional=frozenset(file.header) - {_TIME, _STATUS, _SECONDS})

    created = pd.to_datetime(pd.Series(columns[_TIME]), format="%Y-%m-%d %H:%M:%S", errors="coerce")
    unread = created.isna().to_numpy()
    status = columns[_STATUS]
    ran = np.isin(status.astype(str), _RAN)
    unknown = ~ran & ~np.isin(status.astype(str), _NEVER_ENDED)
    seconds = columns[_SECONDS].astype(np.float64)
    nameless = ran & pd.isna(pd.Series(columns[_MODEL])).to_numpy()
    for wrong, name, problem in (
        (unread, _TIME, "is not a time, expected YYYY-MM-DD hh:mm:ss"),
        (unknown, _STATUS, f"is unknown, expected one of {', '.join((*_RAN, *_NEVER_ENDED))}"),
        (seconds < 0, _SECONDS, "is negative, expected seconds >= 0"),
        (seconds > _LONGEST_S, _SECONDS, f"is above {_LONGEST_S:g} s: the unit looks wrong, expected seconds"),
        (nameless, _MODEL, "is empty, expected the model of a request that ran"),
    ):
        if wrong.any():
            row = int(np.argmax(wrong))
            raise TraceError.at(requests, f"{columns[name][row]} {problem}", row=row + 2, column=name)
    if not ran.any():
        raise TraceError.at(requests, f"no request ran, expected rows with status {' or '.join(_RAN)}", column=_STATUS)

    repairs = Repairs()
    repairs.note(_LEFT_OUT, ~ran, requests)
    first = created[ran].min()
    second_us = (created - first).dt.total_seconds().to_numpy()[ran].astype(np.int64) * _SECOND_US
    # Drawn for every row of the file, so that a row's place does not hang on the statuses of others.
    inside_us = np.random.default_rng(seed).integers(0, _SECOND_US, len(ran))[ran]
    models, function = np.unique(columns[_MODEL][ran].astype(str), return_inverse=True)
    return Trace.build(
        names=[str(model) for model in models],
        arrival_us=second_us + inside_us,
        arrival_function=function.astype(np.int32),
        duration_us=np.rint(seconds[ran] * _SECOND_US).astype(np.int64),
        end_us=int(second_us.max()) + _SECOND_US,
        source=f"{SOURCE}, {Path(requests).name}",
        licence=LICENCE,
        window=f"{first} to {created[ran].max()}",
        expansion="uniform in the second",
        seed=seed,
        start_us=int(first.timestamp()) * _SECOND_US,
        repairs=repairs,
    )
