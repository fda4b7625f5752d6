"""Any trace file that we can read."""

from __future__ import annotations

from pathlib import Path

from traces.azure import read_azure2019
from traces.counts import Counts
from traces.errors import FileName, TraceError
from traces.formats import BUILT_IN, format_of
from traces.mapped import ColumnMap, read_mapped
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
        path: Our Parquet form, or, as CSV, plain or gzip, Azure Functions 2019 counts, Azure Functions 2021, Azure LLM
            inference 2023 or Alibaba GenTD26, or a form that an installed package adds (``traces.formats``).
        columns: Which column is what, in a CSV or Parquet file of any other form.
        progress: Told how far the reading is.
        durations: The run times that belong to Azure Functions 2019 counts.
        memory: Their memory.
        bad_rows: Whether rows of Azure Functions 2019 that there is a rule for are refused or mended
            (:func:`~traces.azure.read_azure2019`).

    Raises:
        TraceError: What the form's own reader refuses, a file that has none of them, or something given that the form
            has no use for.
    """
    given = {"durations": durations is not None, "memory": memory is not None, "bad_rows": bad_rows != "fail"}
    if columns is None and any(given.values()) and format_of(path, head(path)) is BUILT_IN[_AZURE2019]:
        return read_azure2019(path, durations, memory, bad_rows=bad_rows, progress=progress)
    for name, is_given in given.items():
        if is_given:
            problem = f"{name} belongs to Azure Functions 2019 counts, and {Path(path).name} is of another form"
            raise TraceError.at(path, problem)
    if columns is not None:
        return read_mapped(path, columns, progress)
    return format_of(path, head(path)).read(path, progress)
