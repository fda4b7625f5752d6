"""Any trace file that we can read."""

from __future__ import annotations

from pathlib import Path

from traces.azure import read_azure2019
from traces.counts import Counts
from traces.errors import FileName, TraceError
from traces.formats import BUILT_IN, format_of
from traces.mapped import ColumnMap, read_counted, read_mapped
from traces.packing import regular
from traces.repairs import BadRows
from traces.tables import Progress, head
from traces.trace import Trace

_AZURE2019 = "azure2019"


def load(
    path: FileName,
    columns: ColumnMap | None = None,
    progress: Progress | None = None,
    *,
    durations: FileName | None = None,
    memory: FileName | None = None,
    bad_rows: BadRows = "fail",
) -> Counts | Trace:
    """Read a trace file of any known form.

    Args:
        path: Our Parquet form, or, as CSV, Azure Functions 2019 counts, Azure Functions 2021, Azure LLM inference 2023
            or Alibaba GenTD26, or a form that an installed package adds (``traces.formats``); plain or packed (gzip,
            bz2, xz, zst, zip); ``-`` is standard input, and a pipe will do.
        columns: Which column is what, in a CSV, JSONL or Parquet file of any other form.
        progress: Told how far the reading is.
        durations: The run times that belong to Azure Functions 2019 counts.
        memory: Their memory.
        bad_rows: Whether rows that there is a rule for are refused or mended: of Azure Functions 2019
            (``traces.read_azure2019`` says which) and of files with columns (:func:`~traces.mapped.read_mapped`).

    Raises:
        TraceError: What the form's own reader refuses, a file that has none of them, or something given that the form
            has no use for.
    """
    with regular(path) as file:
        return _load(file, columns, progress, durations, memory, bad_rows)


def _load(
    path: FileName,
    columns: ColumnMap | None,
    progress: Progress | None,
    durations: FileName | None,
    memory: FileName | None,
    bad_rows: BadRows,
) -> Counts | Trace:
    given = {"durations": durations is not None, "memory": memory is not None, "bad_rows": bad_rows != "fail"}
    if columns is not None:
        del given["bad_rows"]
    elif any(given.values()) and format_of(path, head(path)) is BUILT_IN[_AZURE2019]:
        return read_azure2019(path, durations, memory, bad_rows=bad_rows, progress=progress)
    for name, is_given in given.items():
        if is_given:
            problem = f"{name} belongs to Azure Functions 2019 counts, and {Path(path).name} is of another form"
            raise TraceError.at(path, problem)
    if columns is not None:
        read = read_mapped if columns.count is None else read_counted
        return read(path, columns, progress, bad_rows=bad_rows)
    return format_of(path, head(path)).read(path, progress)
