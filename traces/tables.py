"""CSV files, plain or gzip, read whole and fast, with every defect located by row and column.

Good files are parsed by Arrow.  Only when something is wrong is the file walked line by line to find the place.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv as arrow_csv

from traces.errors import FileName, TraceError

Kind = Literal["text", "count", "number"]
"""What a column holds: any text, a whole number >= 0 (int32), or a finite number (float64)."""

_ARROW = {"text": pa.string(), "count": pa.int32(), "number": pa.float64()}
_COUNT_LIMIT = 2**31 - 1


class CsvFile:
    """The bytes of one CSV file, unpacked.

    Args:
        path: A CSV file; gzip is recognised by its first bytes, not by its name.

    Raises:
        TraceError: The file is missing, empty, truncated or not gzip after all, or its header repeats a column.
    """

    def __init__(self, path: FileName) -> None:
        self.path = path
        self._data = _unpack(path)
        first_line = self._data.split(b"\n", 1)[0].decode("utf-8-sig", errors="replace")
        self.header: list[str] = next(csv.reader([first_line.rstrip("\r")]), [])
        if not self.header:
            raise TraceError.at(path, "the file is empty, expected a header and at least one row")
        for name in self.header:
            if self.header.count(name) > 1:
                raise TraceError.at(path, "the header names this column twice", row=1, column=name)

    def require(self, columns: Sequence[str]) -> None:
        """Refuse a header that lacks one of these columns."""
        for name in columns:
            if name not in self.header:
                raise TraceError.at(self.path, "the column is missing from the header", row=1, column=name)

    def read(self, kinds: Mapping[str, Kind], optional: frozenset[str] = frozenset()) -> dict[str, NDArray[np.generic]]:
        """Read columns.

        Args:
            kinds: What each wanted column holds; other columns are not looked at.
            optional: Columns of kind "text" or "number" whose cells may be empty (they become None or nan).

        Returns:
            One array a column: object (text), int32 (count) or float64 (number).

        Raises:
            TraceError: A missing column, a row too short or too long, an empty, non-numeric, negative, fractional or
                infinite cell, or no rows at all.
        """
        self.require(list(kinds))
        try:
            table = arrow_csv.read_csv(
                pa.BufferReader(self._data),
                read_options=arrow_csv.ReadOptions(block_size=1 << 24),
                parse_options=arrow_csv.ParseOptions(ignore_empty_lines=False),
                convert_options=arrow_csv.ConvertOptions(
                    include_columns=list(kinds),
                    column_types={name: _ARROW[kind] for name, kind in kinds.items()},
                    null_values=[""],
                    strings_can_be_null=True,
                ),
            )
        except pa.ArrowInvalid as error:
            self._locate(kinds, optional)
            raise TraceError.at(self.path, f"not readable as CSV: {error}") from error
        if table.num_rows == 0:
            raise TraceError.at(self.path, "the file has a header but no rows")
        columns: dict[str, NDArray[np.generic]] = {}
        for name, kind in kinds.items():
            column = table.column(name)
            if column.null_count and name not in optional:
                self._locate(kinds, optional)
            values = column.to_numpy()
            if (kind == "count" and values.min() < 0) or (kind == "number" and np.isinf(values).any()):
                self._locate(kinds, optional)
            columns[name] = values
        return columns

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

    def _locate(self, kinds: Mapping[str, Kind], optional: frozenset[str]) -> None:
        """Walk the file to the first bad cell and raise there."""
        text = io.TextIOWrapper(io.BytesIO(self._data), encoding="utf-8-sig", errors="replace", newline="")
        wanted = [(position, name, kinds[name]) for position, name in enumerate(self.header) if name in kinds]
        rows = csv.reader(text)
        next(rows)
        for cells in rows:
            if len(cells) != len(self.header):
                problem = f"the row has {len(cells)} cells, expected {len(self.header)} as in the header"
                raise TraceError.at(self.path, problem, row=rows.line_num)
            for position, name, kind in wanted:
                problem_here = _problem(cells[position], kind, name in optional)
                if problem_here is not None:
                    raise TraceError.at(self.path, problem_here, row=rows.line_num, column=name)


def _unpack(path: FileName) -> bytes:
    try:
        data = Path(path).read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
    except FileNotFoundError as error:
        raise TraceError.at(path, "no such file") from error
    except EOFError as error:
        raise TraceError.at(path, "the gzip data end too early, expected a whole file; fetch it again") from error
    except (zlib.error, gzip.BadGzipFile) as error:
        raise TraceError.at(path, f"the gzip data are damaged ({error}); fetch the file again") from error
    if not data.strip():
        raise TraceError.at(path, "the file is empty, expected a header and at least one row")
    return data


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
        return f"{cell!r} is not a number, expected {expected}"
    if not math.isfinite(value):
        return f"{cell!r} is not a finite number, expected {expected}"
    if kind == "count":
        if value < 0:
            return f"{cell} is negative, expected {expected}"
        if not cell.strip().isdigit():
            return f"{cell} is not written as a whole number, expected {expected}"
        if value > _COUNT_LIMIT:
            return f"{cell} is too large, expected {expected} up to {_COUNT_LIMIT}"
    return None
