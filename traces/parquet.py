"""Our own form of a trace: a Parquet file with one row a request.

Columns: ``function`` (string, dictionary-encoded), ``arrival_us`` (int64), and where known ``duration_us`` (int64).
The schema's metadata has one key, ``trace``, with JSON: names, owners, triggers, end_us, start_us and the trace's
metadata.  Files of before have no start_us.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import compute
from pyarrow import parquet as pq
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from traces.counts import MINUTE_US
from traces.errors import FileName, TraceError
from traces.trace import Trace

_KEY = b"trace"
_NEEDED = ("function", "arrival_us")
_COLUMNS = (*_NEEDED, "duration_us")
_LAST_US = 2**61


class _About(BaseModel):
    """What the metadata must say."""

    model_config = ConfigDict(strict=True)

    names: list[str]
    owners: list[str] | None
    triggers: list[str] | None
    end_us: Annotated[int, Field(ge=0, lt=2 * _LAST_US)]
    source: str
    licence: str
    window: str
    expansion: str
    seed: int | None
    content_hash: str | None
    start_us: Annotated[int, Field(gt=-_LAST_US, lt=_LAST_US)] | None = None


@contextmanager
def opened(path: FileName) -> Iterator[pq.ParquetFile]:
    """A Parquet file; damage that shows while it is read becomes a TraceError."""
    if Path(path).is_dir():
        raise TraceError.at(path, "is a folder, expected a file")
    try:
        with pq.ParquetFile(path) as file:
            about = file.metadata
            rows = sum(about.row_group(group).num_rows for group in range(about.num_row_groups))
            # reading would ask for memory for as many
            if rows != about.num_rows:
                raise TraceError.at(path, f"not a whole Parquet file ({about.num_rows} rows, {rows} in its groups)")
            yield file
    except FileNotFoundError as error:
        raise TraceError.at(path, "no such file") from error
    # names that are no UTF-8 come out of Arrow as they are
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise TraceError.at(path, f"not a whole Parquet file ({error})") from error


def is_ours(path: FileName) -> bool:
    """Whether a Parquet file has our metadata, or the columns that it takes without them.

    Raises:
        TraceError: Not a Parquet file.
    """
    with opened(path) as file:
        return _KEY in (file.schema_arrow.metadata or {}) or set(_NEEDED) <= set(file.schema_arrow.names)


def write_parquet(trace: Trace, path: FileName) -> None:
    """Write a trace; :func:`read_parquet` gives back the same one.

    Raises:
        TraceError: The file cannot be written.
    """
    functions = pa.DictionaryArray.from_arrays(pa.array(trace.arrival_function), pa.array(trace.names, pa.string()))
    columns = {"function": functions, "arrival_us": pa.array(trace.arrival_us)}
    if len(trace.duration_us):
        columns["duration_us"] = pa.array(trace.duration_us)
    about = {
        "names": trace.names,
        "owners": trace.owners,
        "triggers": trace.triggers,
        "end_us": trace.end_us,
        "source": trace.metadata.source,
        "licence": trace.metadata.licence,
        "window": trace.metadata.window,
        "expansion": trace.metadata.expansion,
        "seed": trace.metadata.seed,
        "content_hash": trace.metadata.content_hash,
        "start_us": trace.start_us,
    }
    table = pa.table(columns).replace_schema_metadata({_KEY: json.dumps(about)})
    try:
        pq.write_table(table, path, compression="zstd")
    except OSError as error:
        raise TraceError.at(
            path, f"cannot be written ({os.strerror(error.errno) if error.errno else error})"
        ) from error


def read_parquet(path: FileName) -> Trace:
    """Read a trace and verify its content hash.

    A file without our metadata, written by any other tool, is read as well: its functions are those that occur, in
    alphabetical order, and it ends with the minute of its last request.

    Raises:
        TraceError: Not a Parquet file, a missing column, a column of another type, an empty or negative cell, metadata
            that lack a field or content that differs from the hash.
    """
    with opened(path) as file:
        table = file.read([name for name in _COLUMNS if name in file.schema_arrow.names])
        # reading does not look whether the numbers of a dictionary's texts are in it, nor whether texts are UTF-8
        table.validate(full=True)
    about = _about(path, table.schema.metadata or {})
    arrival_us = _times(path, table, "arrival_us")
    duration_us = _times(path, table, "duration_us") if "duration_us" in table.column_names and len(table) else None
    functions = _column(path, table, "function")
    if not (pa.types.is_string(_value_type(functions.type)) or pa.types.is_large_string(_value_type(functions.type))):
        raise TraceError.at(path, f"the column holds {functions.type}, expected strings", column="function")
    if about is None and len(table) == 0:
        raise TraceError.at(path, "the file has no rows")

    texts = functions.cast(pa.string())
    if about is None:
        about = _About(
            names=compute.unique(texts).sort().to_pylist(),
            owners=None,
            triggers=None,
            end_us=(int(arrival_us.max()) // MINUTE_US + 1) * MINUTE_US,
            source=Path(path).name,
            licence="unknown",
            window="unknown",
            expansion="none",
            seed=None,
            content_hash=None,
        )
    index = compute.index_in(texts, value_set=pa.array(about.names, pa.string()))
    if index.null_count:
        row = int(np.argmax(index.is_null().to_numpy()))
        problem = f"{texts[row]} is not among the names in the metadata"
        raise TraceError.at(path, problem, row=row + 1, column="function")
    try:
        trace = Trace.build(
            arrival_us=arrival_us,
            arrival_function=index.to_numpy().astype(np.int32),
            duration_us=duration_us,
            **about.model_dump(exclude={"content_hash"}),
        )
    except TraceError as error:
        raise TraceError.at(path, str(error)) from error
    actual = trace.metadata.content_hash
    if about.content_hash not in (None, actual):
        expected = f"{about.content_hash:.12}... as in the metadata"
        raise TraceError.at(path, f"the content was changed: its hash is {actual[:12]}..., expected {expected}")
    return trace


def _about(path: FileName, metadata: dict[bytes, bytes]) -> _About | None:
    if _KEY not in metadata:
        return None
    try:
        return _About.model_validate_json(metadata[_KEY])
    except ValidationError as error:
        missing = [str(each["loc"][0]) for each in error.errors() if each["type"] == "missing"]
        if missing:
            raise TraceError.at(path, f"the schema metadata lack {', '.join(missing)}") from error
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        what = "not JSON" if first["type"] == "json_invalid" else f"not ours: {place}: {first['msg']}"
        raise TraceError.at(path, f"the schema metadata {_KEY.decode()!r} are {what}") from error


def _column(path: FileName, table: pa.Table, name: str) -> pa.ChunkedArray:
    if name not in table.column_names:
        raise TraceError.at(path, "the column is missing", column=name)
    column = table.column(name)
    if column.null_count:
        row = int(np.argmax(column.is_null().to_numpy()))
        raise TraceError.at(path, "the cell is empty", row=row + 1, column=name)
    return column


def _times(path: FileName, table: pa.Table, name: str) -> NDArray[np.int64]:
    column = _column(path, table, name)
    if not pa.types.is_integer(column.type):
        raise TraceError.at(path, f"the column holds {column.type}, expected whole microseconds (int64)", column=name)
    values: NDArray[np.int64] = column.to_numpy().astype(np.int64)
    if len(values) and values.min() < 0:
        row = int(np.argmax(values < 0))
        raise TraceError.at(path, f"{values[row]} is negative, expected microseconds >= 0", row=row + 1, column=name)
    if len(values) and values.max() >= _LAST_US:
        row = int(np.argmax(values))
        raise TraceError.at(path, f"{values[row]} is too large for microseconds", row=row + 1, column=name)
    return values


def _value_type(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind
