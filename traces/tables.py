"""CSV files, plain or gzip, read fast and in pieces, with every defect located by row and column.

Good files are parsed by Arrow, some megabytes at a time.  Only when something is wrong is the file walked line by line
to find the place.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv as arrow_csv

from traces.errors import FileName, TraceError, did_you_mean

Kind = Literal["text", "count", "number"]
"""What a column holds: any text, a whole number >= 0 (int32), or a finite number (float64)."""

Progress = Callable[[int, int], None]
"""Called with (bytes read, bytes of the file), both as they lie on the disk."""

Columns = dict[str, NDArray[Any]]

_ARROW = {"text": pa.string(), "count": pa.int32(), "number": pa.float64()}
_COUNT_LIMIT = 2**31 - 1
_BLOCK_BYTES = 1 << 22
_LONGEST_LINE_BYTES = 1 << 24
_GZIP = b"\x1f\x8b"


class CsvFile:
    """One CSV file, opened for each reading anew, so that a large one is never in memory as a whole.

    Args:
        path: A CSV file; gzip is recognised by its first bytes, not by its name.
        progress: Told how far a reading is.

    Raises:
        TraceError: The file is missing, empty, truncated or not gzip after all, or its header repeats a column.
    """

    def __init__(self, path: FileName, progress: Progress | None = None) -> None:
        self.path = path
        self._progress = progress
        first_line = _first_line(path).decode("utf-8-sig", errors="replace")
        try:
            self.header: list[str] = next(csv.reader([first_line.rstrip("\r\n")]), [])
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
                values = _texts(column) if kind == "text" else column.to_numpy(zero_copy_only=False)
                if (kind == "count" and values.min() < 0) or (kind == "number" and np.isinf(values).any()):
                    self._locate(kinds, optional)
                if kind == "number" and name not in optional and np.isnan(values).any():
                    self._locate(kinds, optional)
                columns[name] = values
            yield columns
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
            with _opened(self.path, self._progress) as data:
                reader = arrow_csv.open_csv(
                    pa.PythonFile(data, mode="r"),
                    read_options=arrow_csv.ReadOptions(block_size=_BLOCK_BYTES),
                    parse_options=arrow_csv.ParseOptions(ignore_empty_lines=False),
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
        with _opened(self.path) as data:
            rows = csv.reader(io.TextIOWrapper(data, encoding="utf-8-sig", errors="replace", newline=""))
            try:
                next(rows)
                for cells in rows:
                    self._check(cells, rows.line_num, wanted, optional)
            except csv.Error as error:
                raise TraceError.at(self.path, f"not readable as CSV ({error})", row=rows.line_num) from error

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


def _texts(column: pa.Array) -> NDArray[Any]:
    """Python texts, each different one made once; None where a cell is empty."""
    encoded = column.dictionary_encode()
    texts = np.array([*encoded.dictionary.to_pylist(), None], dtype=object)
    found: NDArray[Any] = texts[encoded.indices.fill_null(len(texts) - 1).to_numpy()]
    return found


class _Watched(io.RawIOBase):
    """A file that tells how far it has been read, whoever reads it through whatever decompresses it."""

    def __init__(self, file: IO[bytes], size: int, progress: Progress) -> None:
        self._file, self._size, self._progress = file, size, progress

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        self._progress(self._file.tell(), self._size)
        return len(data)


@contextmanager
def _opened(path: FileName, progress: Progress | None = None) -> Iterator[IO[bytes]]:
    """The file's bytes, unpacked; damage that shows while they are read becomes a TraceError."""
    try:
        with Path(path).open("rb") as file:
            packed = file.read(2) == _GZIP
            file.seek(0)
            raw: Any = file
            if progress is not None:
                raw = io.BufferedReader(_Watched(file, Path(path).stat().st_size, progress), _BLOCK_BYTES)
            if packed:
                with gzip.GzipFile(fileobj=raw) as data:
                    yield data  # type: ignore[misc]
            else:
                yield raw
    except FileNotFoundError as error:
        raise TraceError.at(path, "no such file") from error
    except IsADirectoryError as error:
        raise TraceError.at(path, "is a folder, expected a file") from error
    except EOFError as error:
        raise TraceError.at(path, "the gzip data end too early, expected a whole file; fetch it again") from error
    except (zlib.error, gzip.BadGzipFile) as error:
        raise TraceError.at(path, f"the gzip data are damaged ({error}); fetch the file again") from error


def head(path: FileName, size: int = 1 << 16) -> bytes:
    """The first bytes of a file, unpacked if it is gzip.

    Raises:
        TraceError: There is no such file, or it is damaged.
    """
    with _opened(path) as data:
        return data.read(size)


def _first_line(path: FileName) -> bytes:
    with _opened(path) as data:
        line = data.readline(_LONGEST_LINE_BYTES)
        if not line.strip() and not data.read(_BLOCK_BYTES).strip():
            raise TraceError.at(path, "the file is empty, expected a header and at least one row")
    if len(line) == _LONGEST_LINE_BYTES:
        raise TraceError.at(path, "the first line is longer than 16 MB, expected a header", row=1)
    return line


def _problem(cell: str, kind: Kind, may_be_empty: bool) -> str | None:
    """What is wrong with one cell, None if nothing."""
    expected = {"text": "a text", "count": "a whole number of requests, 0 or more", "number": "a number"}[kind]
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
        if value > _COUNT_LIMIT:
            return f"{cell} is too large, expected {expected} up to {_COUNT_LIMIT}"
    return None
