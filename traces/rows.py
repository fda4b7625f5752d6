"""The rows of CSV, JSONL and Parquet files, some hundred thousand at a time, as columns that are still to be read."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import compute

from traces.errors import FileName, TraceError, did_you_mean
from traces.packing import PARQUET_MAGIC, Progress, head, unpacked
from traces.parquet import opened
from traces.places import Place
from traces.tables import DELIMITERS, CsvFile, first_line, header_of

_ROWS = 1 << 18
_TEXT_ROWS = 1 << 16
_LONGEST_CELL = 60
_NUMBER_OR_DATE = re.compile(r"[-+]?\d[-+\d.,:TZ ]*$")


@dataclass(frozen=True, slots=True)
class Rows:
    """Some rows of a file.

    Attributes:
        path: the file.
        first_row: number of the first of them, as errors count.
        columns: what stands in each column; nothing in an empty cell.
    """

    path: FileName
    first_row: int
    columns: dict[str, pa.Array]

    def place(self, name: str) -> Place:
        """Where a column stands."""
        column = self.columns[name]

        def cell(row: int) -> str:
            value = column[row]
            if not value.is_valid:
                return ""
            kind = column.type
            if pa.types.is_duration(kind):
                return f"{value.value} {kind.unit}"
            # Python knows fewer centuries than Arrow does, and no nanoseconds
            if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
                return str(value.cast(pa.string()))
            shown = str(value.as_py())
            if len(shown) > _LONGEST_CELL:
                shown = f"{shown[:_LONGEST_CELL]}..."
            return shown if _NUMBER_OR_DATE.match(shown) else repr(shown)

        return Place(self.path, name, self.first_row, cell)


def columns_in(path: FileName) -> list[str]:
    """Names of a file's columns; empty if it has none that can be told.

    Raises:
        TraceError: The file is missing or damaged.
    """
    begin = head(path)
    if begin.startswith(PARQUET_MAGIC):
        with opened(path) as file:
            return list(file.schema_arrow.names)
    if _is_jsonl(begin):
        try:
            first = json.loads(begin.partition(b"\n")[0])
        except (ValueError, RecursionError):
            return []
        return list(first) if isinstance(first, dict) else []
    line = begin.partition(b"\n")[0].decode("utf-8-sig", errors="replace").strip()
    if not line.isprintable() and "\t" not in line:
        return []
    try:
        return max((header_of(line, delimiter) for delimiter in DELIMITERS), key=len)
    except csv.Error:
        return []


def rows_of(
    path: FileName, columns: Sequence[str], delimiter: str | None = None, progress: Progress | None = None
) -> Iterator[Rows]:
    """Read columns of a file of any of the three forms, which is recognised by how it begins.

    Args:
        path: The file, plain or, unless it is Parquet, packed.
        columns: Names of those wanted.
        delimiter: What separates the cells of a CSV file; None: whichever of ``, ; tab |`` gives a header with all of
            the columns.
        progress: Told how far the reading is.

    Raises:
        TraceError: A missing column, a row that cannot be read as one, or no rows.
    """
    begin = head(path)
    if begin.startswith(PARQUET_MAGIC):
        return _parquet_rows(path, columns, progress)
    if _is_jsonl(begin):
        return _jsonl_rows(path, columns, progress)
    if begin.lstrip()[:1] == b"[":
        raise TraceError.at(path, "is one JSON array, expected CSV, Parquet or one JSON object a line", row=1)
    return _csv_rows(path, columns, delimiter, progress)


def _is_jsonl(begin: bytes) -> bool:
    return begin.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{"


def _csv_rows(
    path: FileName, columns: Sequence[str], delimiter: str | None, progress: Progress | None
) -> Iterator[Rows]:
    file = CsvFile(path, progress, delimiter or _delimiter_of(path, columns))
    row = 2
    for batch in file.texts(columns):
        yield Rows(path, row, {name: batch.column(batch.schema.get_field_index(name)) for name in columns})
        row += batch.num_rows


def _delimiter_of(path: FileName, columns: Sequence[str]) -> str:
    line = first_line(path)
    try:
        headers = {delimiter: header_of(line, delimiter) for delimiter in DELIMITERS}
    except csv.Error:
        return DELIMITERS[0]
    return max(DELIMITERS, key=lambda each: (set(columns) <= set(headers[each]), len(headers[each])))


def _jsonl_rows(path: FileName, columns: Sequence[str], progress: Progress | None) -> Iterator[Rows]:
    """Values become texts, as in CSV, so that numbers keep all their digits."""
    cells: dict[str, list[str | None]] = {name: [] for name in columns}
    first, blank = 1, 0
    with unpacked(path, progress) as data:
        for row, line in enumerate(data, start=1):
            if not line.strip():
                blank = blank or row
                continue
            if blank:
                raise TraceError.at(path, "the line is blank, expected a JSON object", row=blank)
            record = _record(path, row, line)
            if row == 1:
                for name in columns:
                    if name not in record:
                        problem = f"the first object lacks the key; {did_you_mean(name, record)}"
                        raise TraceError.at(path, problem, row=row, column=name)
            for name, values in cells.items():
                value = record.get(name)
                values.append(json.dumps(value) if not isinstance(value, str) and value is not None else value or None)
            if row - first + 1 == _TEXT_ROWS:
                yield Rows(path, first, _as_arrays(path, cells))
                cells, first = {name: [] for name in columns}, row + 1
    if next(iter(cells.values())):
        yield Rows(path, first, _as_arrays(path, cells))


def _as_arrays(path: FileName, cells: dict[str, list[str | None]]) -> dict[str, pa.Array]:
    try:
        return {name: pa.array(values, pa.string()) for name, values in cells.items()}
    except UnicodeEncodeError as error:
        raise TraceError.at(path, f"has a text that is no Unicode ({error.reason})") from error


def _record(path: FileName, row: int, line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line.removeprefix(b"\xef\xbb\xbf"), parse_int=str, parse_float=str, parse_constant=str)
    except (ValueError, RecursionError) as error:
        problem = error.msg if isinstance(error, json.JSONDecodeError) else type(error).__name__
        raise TraceError.at(path, f"is no JSON ({problem}), expected one object a line", row=row) from error
    if not isinstance(record, dict):
        raise TraceError.at(path, "is no JSON object, expected one a line", row=row)
    return record


def _parquet_rows(path: FileName, columns: Sequence[str], progress: Progress | None) -> Iterator[Rows]:
    with opened(path) as file:
        for name in columns:
            if name not in file.schema_arrow.names:
                problem = f"the column is missing; {did_you_mean(name, file.schema_arrow.names)}"
                raise TraceError.at(path, problem, column=name)
        size, total, done = Path(path).stat().st_size, file.metadata.num_rows, 0
        if total == 0:
            raise TraceError.at(path, "the file has no rows")
        for batch in file.iter_batches(_ROWS, columns=list(columns)):
            batch.validate(full=True)  # as in traces.parquet
            found = {name: _plain(path, name, batch.column(name)) for name in columns}
            yield Rows(path, done + 1, found)
            done += batch.num_rows
            if progress is not None:
                progress(size * done // total, size)
        if done != total:
            raise TraceError.at(path, f"not a whole Parquet file ({done} rows of {total})")


def _plain(path: FileName, name: str, column: pa.Array) -> pa.Array:
    """A column whose values are single ones; no number, or text, is nothing, as it is in CSV."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.dictionary_decode(), kind.value_type
    if pa.types.is_nested(kind):
        raise TraceError.at(path, f"the column holds {kind}, expected single values", column=name)
    if pa.types.is_floating(kind):
        column = column.cast(pa.float64())
        return compute.if_else(compute.is_nan(column), None, column)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return compute.if_else(compute.equal(column, ""), None, column)
    return column
