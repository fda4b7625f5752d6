"""Any trace file that we can read, recognised by its content."""

from __future__ import annotations

from pathlib import Path

from traces.azure import read_azure2019
from traces.azure2021 import read_azure2021
from traces.counts import Counts
from traces.errors import FileName, TraceError
from traces.gentd26 import read_gentd26
from traces.parquet import read_parquet
from traces.tables import CsvFile
from traces.trace import Trace

_PARQUET_MAGIC = b"PAR1"


def load(path: FileName) -> Counts | Trace:
    """Read a trace file of any known form.

    Args:
        path: Our Parquet form, or, as CSV, plain or gzip, Azure Functions 2019 counts, Azure Functions 2021 or Alibaba
            GenTD26.

    Raises:
        TraceError: What the form's own reader refuses, or a header that belongs to none of them.
    """
    try:
        with Path(path).open("rb") as file:
            magic = file.read(len(_PARQUET_MAGIC))
    except FileNotFoundError as error:
        raise TraceError.at(path, "no such file") from error
    if magic == _PARQUET_MAGIC:
        return read_parquet(path)
    header = CsvFile(path).header
    if "HashFunction" in header:
        return read_azure2019(path)
    if "gmt_create" in header:
        return read_gentd26(path)
    if "end_timestamp" in header:
        return read_azure2021(path)
    problem = "unknown form, expected Parquet, or a CSV header with HashFunction, gmt_create or end_timestamp"
    raise TraceError.at(path, problem, row=1)
