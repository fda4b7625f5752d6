"""Any CSV or Parquet file with one row a request, given which column is what."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from traces.errors import FileName, TraceError, did_you_mean
from traces.parquet import opened
from traces.requests import Names, Pieces
from traces.tables import CsvFile, Kind, Progress, head
from traces.trace import Trace

PARQUET_MAGIC = b"PAR1"
_DATE = re.compile(r'"?\d{4}-\d\d-\d\d')

Unit = Literal["ns", "us", "ms", "s", "min", "h"]
_US: dict[str, float] = {"ns": 1e-3, "us": 1.0, "ms": 1e3, "s": 1e6, "min": 60e6, "h": 3600e6}
_LONGEST_US = 10 * 366 * 86_400 * 1_000_000
"""Ten years: above that a unit is taken to be wrong."""
_ROWS = 1 << 18

Column = Annotated[str, Field(min_length=1)]


class ColumnMap(BaseModel):
    """Which column is what.

    Attributes:
        time: Arrival of each request, or its end where ``time_is`` says so.
        time_unit: Unit of a time that is a number, counted from any instant; ``iso`` for dates such as
            2026-01-31 12:00:00.5 or 2026-01-31T12:00:00Z.
        time_is: ``arrival``, or ``end``: the arrival is then the end minus the run time.
        function: Name of the function; None: all requests are to one.
        duration: Run time; None: unknown.
        duration_unit: Its unit.
        owner: Owner (tenant) of the function, the first one that a function has; None: unknown.
        trigger: Trigger of the function, likewise.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    time: Column
    time_unit: Unit | Literal["iso"] = "s"
    time_is: Literal["arrival", "end"] = "arrival"
    function: Column | None = None
    duration: Column | None = None
    duration_unit: Unit = "s"
    owner: Column | None = None
    trigger: Column | None = None

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, value: object) -> object:
        for key in value if isinstance(value, dict) else ():
            if key not in cls.model_fields:
                raise ValueError(f"unknown key {key!r}; {did_you_mean(str(key), cls.model_fields)}")
        return value

    @model_validator(mode="after")
    def _an_end_needs_a_run_time(self) -> ColumnMap:
        if self.time_is == "end" and self.duration is None:
            raise ValueError("time_is end needs a duration, which leads from the end back to the arrival")
        numbers = [name for name in (self.time, self.duration) if name is not None]
        texts = {self.function, self.owner, self.trigger}
        if len(set(numbers)) < len(numbers) or texts & set(numbers):
            raise ValueError("time and duration need a column each that is nothing else")
        return self

    def kinds(self) -> dict[str, Kind]:
        """What each column that is read holds."""
        kinds: dict[str, Kind] = {self.time: "text" if self.time_unit == "iso" else "number"}
        if self.duration is not None:
            kinds[self.duration] = "number"
        kinds.update({name: "text" for name in (self.function, self.owner, self.trigger) if name is not None})
        return kinds


def columns_of(given: Sequence[str]) -> ColumnMap | None:
    """The columns that options such as ``time=start_ms`` name; None if there are none.

    Raises:
        TraceError: an option that is no such pair, or names something unknown.
    """
    if not given:
        return None
    pairs: dict[str, str] = {}
    for each in given:
        what, equals, name = each.partition("=")
        if not equals or not name:
            raise TraceError(f"--column {each}: expected WHAT=NAME, such as time=start_ms")
        pairs[what] = name
    try:
        return ColumnMap.model_validate(pairs)
    except ValidationError as error:
        first = error.errors()[0]
        place = "".join(f" {step}:" for step in first["loc"])
        raise TraceError(f"--column:{place} {first['msg'].removeprefix('Value error, ')}") from None


def read_mapped(path: FileName, columns: ColumnMap, progress: Progress | None = None) -> Trace:
    """Read a CSV file, plain or gzip, or a Parquet file, some hundred thousand rows at a time.

    Args:
        path: One row a request, in any order.
        columns: Which column is what.
        progress: Told how far the reading is.

    Returns:
        The trace, from the first arrival on; functions in the order in which they first occur in the file.

    Raises:
        TraceError: With file, row and column: a missing column, a cell that is empty or cannot be read, a run time
            below 0, times over ten years apart.
    """
    parts = _parquet_parts if head(path, 4) == PARQUET_MAGIC else _csv_parts
    names, pieces, first_row = Names(), Pieces(), 1 if parts is _parquet_parts else 2
    traits: dict[str, dict[int, str]] = {"owner": {}, "trigger": {}}
    rows = 0
    for part in parts(path, columns, progress):
        time = part[columns.time]
        function = np.zeros(len(time), np.int32) if columns.function is None else names.number(part[columns.function])
        place = (path, rows + first_row)
        pieces.add(function=function, time_us=_times(place, time, columns))
        if columns.duration is not None:
            pieces.add(duration_us=_durations(place, part[columns.duration], columns))
        for trait, known in traits.items():
            column = getattr(columns, trait)
            if column is not None:
                new, at = np.unique(function, return_index=True)
                known.update({int(f): str(part[column][row]) for f, row in zip(new, at, strict=True) if f not in known})
        rows += len(time)
    arrival_us, function = pieces.take("time_us"), pieces.take("function")
    duration_us = None if columns.duration is None else pieces.take("duration_us")
    if columns.time_is == "end" and duration_us is not None:
        arrival_us -= duration_us
    arrival_us -= arrival_us.min()
    if arrival_us.max() > _LONGEST_US:
        row = int(np.argmax(arrival_us))
        problem = f"is over ten years after the first time: is the unit {columns.time_unit} right?"
        raise TraceError.at(path, problem, row=row + first_row, column=columns.time)
    stem = Path(path).name.partition(".")[0]
    labels = [name for (name,) in names.known] or [stem]
    return Trace.build(
        names=labels,
        owners=[traits["owner"].get(f, "") for f in range(len(labels))],
        triggers=[traits["trigger"].get(f, "") for f in range(len(labels))],
        arrival_us=arrival_us,
        arrival_function=function,
        duration_us=duration_us,
        end_us=int(arrival_us.max()) + 1,
        source=Path(path).name,
        licence="unknown",
        window="from the first request to the last",
        expansion="none",
    )


def _times(place: tuple[FileName, int], values: NDArray[Any], columns: ColumnMap) -> NDArray[np.int64]:
    """Whole microseconds of one piece, from whatever instant the file counts from."""
    if columns.time_unit == "iso":
        if values.dtype.kind == "M":
            dates = pd.Series(values)
        else:
            dates = pd.to_datetime(pd.Series(values), format="ISO8601", utc=True, errors="coerce").dt.tz_localize(None)
        _refuse(place, columns.time, values, dates.isna().to_numpy(), "is not a date, expected 2026-01-31 12:00:00")
        return dates.to_numpy(dtype="datetime64[us]").astype(np.int64)
    us = values.astype(np.float64) * _US[columns.time_unit]
    _refuse(place, columns.time, values, ~(np.abs(us) < 2.0**61), "is too large for a time")
    return np.rint(us).astype(np.int64)


def _durations(place: tuple[FileName, int], values: NDArray[Any], columns: ColumnMap) -> NDArray[np.int64]:
    us = values.astype(np.float64) * _US[columns.duration_unit]
    assert columns.duration is not None
    _refuse(place, columns.duration, values, us < 0, f"is negative, expected {columns.duration_unit} >= 0")
    problem = f"is over ten years: is the unit {columns.duration_unit} right?"
    _refuse(place, columns.duration, values, ~(us <= _LONGEST_US), problem)
    return np.rint(us).astype(np.int64)


def _refuse(
    place: tuple[FileName, int], column: str, values: NDArray[Any], wrong: NDArray[np.bool_], problem: str
) -> None:
    if wrong.any():
        row = int(np.argmax(wrong))
        raise TraceError.at(place[0], f"{values[row]} {problem}", row=place[1] + row, column=column)


def _csv_parts(path: FileName, columns: ColumnMap, progress: Progress | None) -> Iterator[dict[str, NDArray[Any]]]:
    file = CsvFile(path, progress)
    file.require(list(columns.kinds()))
    if columns.time_unit != "iso":
        _refuse_dates(path, file.header.index(columns.time), columns)
    yield from file.batches(columns.kinds())


def _refuse_dates(path: FileName, place: int, columns: ColumnMap) -> None:
    """Say what to do about dates, which would only be "not a number" otherwise; the first row tells."""
    rows = head(path).decode("utf-8-sig", errors="replace").splitlines()
    cells = rows[1].split(",") if len(rows) > 1 else []
    if place < len(cells) and _DATE.match(cells[place]):
        problem = f"{cells[place]} is a date: give time_unit iso"
        raise TraceError.at(path, problem, row=2, column=columns.time)


def _parquet_parts(path: FileName, columns: ColumnMap, progress: Progress | None) -> Iterator[dict[str, NDArray[Any]]]:
    kinds = columns.kinds()
    with opened(path) as file:
        for name in kinds:
            if name not in file.schema_arrow.names:
                problem = f"the column is missing; {did_you_mean(name, file.schema_arrow.names)}"
                raise TraceError.at(path, problem, column=name)
        size, total, done = Path(path).stat().st_size, file.metadata.num_rows, 0
        if total == 0:
            raise TraceError.at(path, "the file has no rows")
        for batch in file.iter_batches(_ROWS, columns=list(kinds)):
            batch.validate(full=True)  # as in traces.parquet
            yield {name: _cells(path, done, batch, name, kind) for name, kind in kinds.items()}
            done += batch.num_rows
            if progress is not None:
                progress(size * done // total, size)
        if done != total:
            raise TraceError.at(path, f"not a whole Parquet file ({done} rows of {total})")


def _cells(path: FileName, done: int, batch: pa.RecordBatch, name: str, kind: Kind) -> NDArray[Any]:
    column = batch.column(name)
    if column.null_count:
        row = int(np.argmax(column.is_null().to_numpy(zero_copy_only=False)))
        raise TraceError.at(path, "the cell is empty", row=done + row + 1, column=name)
    if pa.types.is_timestamp(column.type) and kind == "number":
        raise TraceError.at(path, f"the column holds {column.type}: give time_unit iso", column=name)
    if pa.types.is_timestamp(column.type):
        # whatever its unit and zone, Arrow counts from 1970 in UTC
        dates: NDArray[Any] = column.cast(pa.int64()).to_numpy().astype(f"datetime64[{column.type.unit}]")
        return dates
    numeric = pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_decimal(column.type)
    if kind == "number" and not numeric:
        raise TraceError.at(path, f"the column holds {column.type}, expected numbers", column=name)
    values: NDArray[Any] = column.cast(pa.float64() if kind == "number" else pa.string()).to_numpy(zero_copy_only=False)
    if kind == "number" and not np.isfinite(values).all():
        row = int(np.argmax(~np.isfinite(values)))
        raise TraceError.at(path, f"{values[row]} is not a finite number", row=done + row + 1, column=name)
    return values
