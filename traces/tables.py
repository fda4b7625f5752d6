"""CSV files, plain or packed, read fast and in pieces, with every defect located by row and column.

Good files are parsed by Arrow, some megabytes at a time.  Only when something is wrong is the file walked line by line
to find the place.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv as arrow_csv

from traces.errors import FileName, TraceError, did_you_mean
from traces.packing import BLOCK_BYTES, unpacked
from traces.packing import Progress as Progress
from traces.packing import head as head

Kind = Literal["text", "count", "number"]
"""What a column holds: any text, a whole number >= 0 (int32), or a finite number (float64)."""

_EXPECTED = {"text": "a text", "count": "a whole number, 0 or more", "number": "a number"}

Columns = dict[str, NDArray[Any]]

_ARROW = {"text": pa.string(), "count": pa.int32(), "number": pa.float64()}
MOST_PER_MINUTE = 100_000_000
"""Requests of a function in a minute: above that a number is taken to be something else."""
DELIMITERS = (",", ";", "\t", "|")
_LONGEST_LINE_BYTES = 1 << 24
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


class CsvFile:
    """One CSV file, opened for each reading anew, so that a large one is never in memory as a whole.

    Args:
        path: A CSV file, plain or packed; blank lines at its end are no rows.
        progress: Told how far a reading is.
        delimiter: What separates cells.

    Raises:
        TraceError: The file is missing, empty, truncated or damaged, or its header repeats a column.
    """

    def __init__(self, path: FileName, progress: Progress | None = None, delimiter: str = ",") -> None:
        self.path = path
        self._progress = progress
        self._delimiter = delimiter
        try:
            self.header: list[str] = header_of(first_line(path), delimiter)
        except csv.Error as error:
            raise TraceError.at(path, f"the header is not readable as CSV ({error})", row=1) from error
        if not self.header:
            raise TraceError.at(path, "the file is empty, expected a header and at least one row")
        for name in self.header:
            if self.header.count(name) > 1:
                raise TraceError.at(path, "the header names this column twice", row=1, column=name)

    def require(self, columns: Sequence[str]) -> None:
        """Refuse a header that lacks one of these columns."""
        for name in columns:
            if name not in self.header:
                problem = f"the column is missing from the header; {did_you_mean(name, self.header)}"
                raise TraceError.at(self.path, problem, row=1, column=name)

    def read(self, kinds: Mapping[str, Kind], optional: frozenset[str] = frozenset()) -> Columns:
        """Read columns whole; arguments, arrays and errors as in :meth:`batches`."""
        parts = list(self.batches(kinds, optional))
        return {name: np.concatenate([part[name] for part in parts]) for name in kinds}

    def batches(self, kinds: Mapping[str, Kind], optional: frozenset[str] = frozenset()) -> Iterator[Columns]:
        """Read columns, some hundred thousand rows at a time.

        Args:
            kinds: What each wanted column holds; other columns are not looked at.
            optional: Columns of kind "text" or "number" whose cells may be empty (they become None or nan).

        Yields:
            One array a column: object (text), int32 (count) or float64 (number); never without rows.

        Raises:
            TraceError: A missing column, a row too short or too long, an empty, non-numeric, negative, fractional or
                infinite cell, or no rows at all.
        """
        self.require(list(kinds))
        rows = 0
        for batch in self._arrow_batches(kinds, optional):
            if batch.num_rows == 0:
                continue
            rows += batch.num_rows
            columns: Columns = {}
            for name, kind in kinds.items():
                column = batch.column(batch.schema.get_field_index(name))
                if column.null_count and name not in optional:
                    self._locate(kinds, optional)
                values = texts_of(column) if kind == "text" else column.to_numpy(zero_copy_only=False)
                if (kind == "count" and values.min() < 0) or (kind == "number" and np.isinf(values).any()):
                    self._locate(kinds, optional)
                if kind == "number" and name not in optional and np.isnan(values).any():
                    self._locate(kinds, optional)
                columns[name] = values
            yield columns
        if rows == 0:
            raise TraceError.at(self.path, "the file has a header but no rows")

    def texts(self, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Columns as they are written, some hundred thousand rows at a time; an empty cell is null.

        Raises:
            TraceError: A missing column, a row too short or too long, or no rows at all.
        """
        self.require(names)
        rows = 0
        for batch in self._arrow_batches(dict.fromkeys(names, "text"), frozenset(names)):
            rows += batch.num_rows
            if batch.num_rows:
                yield batch
        if rows == 0:
            raise TraceError.at(self.path, "the file has a header but no rows")

    def refuse_duplicates(self, keys: Mapping[str, NDArray[np.generic]]) -> None:
        """Refuse a file in which two rows have the same key columns."""
        repeated = pd.DataFrame(dict(keys)).duplicated().to_numpy()
        if repeated.any():
            row = int(np.argmax(repeated))
            same = np.logical_and.reduce([values == values[row] for values in keys.values()])
            raise TraceError.at(
                self.path,
                f"repeats the key of row {int(np.argmax(same)) + 2}, expected one row a key",
                row=row + 2,
                column=" + ".join(keys),
            )

    def _arrow_batches(self, kinds: Mapping[str, Kind], optional: frozenset[str]) -> Iterator[pa.RecordBatch]:
        try:
            with _lines(self.path, self._progress) as data:
                reader = arrow_csv.open_csv(
                    pa.PythonFile(data, mode="r"),
                    read_options=arrow_csv.ReadOptions(block_size=BLOCK_BYTES),
                    parse_options=arrow_csv.ParseOptions(delimiter=self._delimiter, ignore_empty_lines=False),
                    convert_options=arrow_csv.ConvertOptions(
                        include_columns=list(kinds),
                        column_types={name: _ARROW[kind] for name, kind in kinds.items()},
                        null_values=[""],
                        strings_can_be_null=True,
                    ),
                )
                with reader:
                    yield from reader
        except pa.ArrowException as error:
            self._locate(kinds, optional)
            raise TraceError.at(self.path, f"not readable as CSV: {error}") from error

    def _locate(self, kinds: Mapping[str, Kind], optional: frozenset[str]) -> None:
        """Walk the file to the first bad cell and raise there."""
        wanted = [(position, name, kinds[name]) for position, name in enumerate(self.header) if name in kinds]
        with _lines(self.path) as data:
            text = io.TextIOWrapper(data, encoding="utf-8-sig", errors="replace", newline="")
            rows = csv.reader(text, delimiter=self._delimiter)
            try:
                next(rows)
                for cells in rows:
                    self._check(cells, rows.line_num, wanted, optional)
            except csv.Error as error:
                raise TraceError.at(self.path, f"not readable as CSV ({error})", row=rows.line_num) from error
        with _lines(self.path) as data:
            for row, line in enumerate(data, start=1):
                try:
                    line.decode("utf-8")
                except UnicodeDecodeError:
                    problem = "is no text in UTF-8, expected one (iconv -f latin1 -t utf-8 makes it of Latin-1)"
                    raise TraceError.at(self.path, problem, row=row) from None

    def _check(
        self, cells: list[str], row: int, wanted: Sequence[tuple[int, str, Kind]], optional: frozenset[str]
    ) -> None:
        if len(cells) != len(self.header):
            problem = f"the row has {len(cells)} cells, expected {len(self.header)} as in the header"
            raise TraceError.at(self.path, problem, row=row)
        for position, name, kind in wanted:
            problem_here = _problem(cells[position], kind, name in optional)
            if problem_here is not None:
                raise TraceError.at(self.path, problem_here, row=row, column=name)


def texts_of(column: pa.Array) -> NDArray[Any]:
    """Python texts, each different one made once; None where a cell is empty."""
    encoded = column.dictionary_encode()
    texts = np.array([*encoded.dictionary.to_pylist(), None], dtype=object)
    found: NDArray[Any] = texts[encoded.indices.fill_null(len(texts) - 1).to_numpy()]
    return found


class _EndsOnce(io.RawIOBase):
    """A text without the blank lines at its end."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._ready = memoryview(b"")
        self._held = bytearray()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            data = self._file.read(BLOCK_BYTES)
            if not data:
                self._ready = memoryview(bytes(self._held[: 2 if self._held.startswith(b"\r\n") else 1]))
                self._held.clear()
                break
            text = data.rstrip(b"\r\n")
            if text:
                self._ready = memoryview(bytes(self._held) + text)
                self._held = bytearray(data[len(text) :])
            else:
                self._held += data
        size = min(len(buffer), len(self._ready))
        buffer[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size


@contextmanager
def _lines(path: FileName, progress: Progress | None = None) -> Iterator[IO[bytes]]:
    with unpacked(path, progress) as data:
        yield io.BufferedReader(_EndsOnce(data), BLOCK_BYTES)


def header_of(line: str, delimiter: str) -> list[str]:
    """The cells of a header."""
    return next(csv.reader([line.rstrip("\r\n")], delimiter=delimiter), [])


def first_line(path: FileName) -> str:
    """The first line of a file of text.

    Raises:
        TraceError: The file is empty, is no text in UTF-8, or its first line is longer than 16 MB.
    """
    with unpacked(path) as data:
        line = data.readline(_LONGEST_LINE_BYTES)
        if not line.strip() and not data.read(BLOCK_BYTES).strip():
            raise TraceError.at(path, "the file is empty, expected a header and at least one row")
    if len(line) == _LONGEST_LINE_BYTES:
        raise TraceError.at(path, "the first line is longer than 16 MB, expected a header", row=1)
    if line.startswith(_UTF16):
        raise TraceError.at(path, "is a text in UTF-16, expected UTF-8", row=1)
    return line.decode("utf-8-sig", errors="replace")


def _problem(cell: str, kind: Kind, may_be_empty: bool) -> str | None:
    """What is wrong with one cell, None if nothing."""
    expected = _EXPECTED[kind]
    if cell == "":
        return None if may_be_empty else f"the cell is empty, expected {expected}"
    if kind == "text":
        return None
    try:
        value = float(cell)
    except ValueError:
        return f"{cell!r} is not a number{'' if kind == 'number' else f', expected {expected}'}"
    if not math.isfinite(value):
        return f"{cell!r} is not a finite number{'' if kind == 'number' else f', expected {expected}'}"
    if kind == "count":
        if value < 0:
            return f"{cell} is negative, expected {expected}"
        if not cell.strip().isdigit():
            return f"{cell} is not written as a whole number, expected {expected}"
        if value > MOST_PER_MINUTE:
            return f"{cell} is too large, expected {expected} up to {MOST_PER_MINUTE}"
    return None
