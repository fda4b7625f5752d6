"""Any trace file that we can read."""

from __future__ import annotations

from traces.counts import Counts
from traces.errors import FileName
from traces.formats import format_of
from traces.mapped import ColumnMap, read_mapped
from traces.tables import Progress, head
from traces.trace import Trace


def load(path: FileName, columns: ColumnMap | None = None, progress: Progress | None = None) -> Counts | Trace:
    """Read a trace file of any known form.

    Args:
        path: Our Parquet form, or, as CSV, plain or gzip, Azure Functions 2019 counts, Azure Functions 2021, Azure LLM
            inference 2023 or Alibaba GenTD26, or a form that an installed package adds (``traces.formats``).
        columns: Which column is what, in a CSV or Parquet file of any other form.
        progress: Told how far the reading is.

    Raises:
        TraceError: What the form's own reader refuses, or a file that has none of them.
    """
    if columns is not None:
        return read_mapped(path, columns, progress)
    return format_of(path, head(path)).read(path, progress)
