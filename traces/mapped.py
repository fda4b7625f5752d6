"""Any CSV, JSONL or Parquet file with one row a request, given which column is what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import compute
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from traces.counts import MINUTE_US, Counts
from traces.dates import dates_us, zone_of
from traces.errors import FileName, TraceError, did_you_mean
from traces.exact import Unit, whole_us
from traces.repairs import BadRows, Repair, Repairs
from traces.requests import Names, Pieces
from traces.rows import Rows, rows_of
from traces.tables import MOST_PER_MINUTE, Progress, texts_of
from traces.tokens import LONGEST_US, TokenCost
from traces.trace import Trace

_DATE = r'^"?\d{4}-\d\d-\d\d'
_LONGEST_US = 10 * 366 * 86_400 * 1_000_000
"""Ten years: above that a unit is taken to be wrong."""
_MOST_CELLS = 1 << 30
_DAY_MIN = 1440
YEAR_2000_US = 946_684_800_000_000
"""Numbers that lie behind the year 2000 if they count from 1970 are taken to do so."""
_NO_RUN_TIME = "no run time: the median of its function's others, else of all"
_NO_FUNCTION = "no function named: one that is called unknown"
_UNKNOWN = -1
_LARGEST_TOKENS = 10**12

Column = Annotated[str, Field(min_length=1)]
Clock = Literal["told", "midnight", "unknown"]
"""What times count from: what they themselves tell, a midnight of an unknown day, or an instant that nobody tells."""


def _zone(name: str) -> str:
    zone_of(name)
    return name


def _delimiter(given: str) -> str:
    delimiter = {"tab": "\t", "\\t": "\t"}.get(given, given)
    if len(delimiter) != 1 or delimiter.isalnum() or delimiter in '"\r\n' or not delimiter.isascii():
        raise ValueError(f"{given!r} separates no cells, expected one character such as ; or the word tab")
    return delimiter


class ColumnMap(BaseModel):
    """Which column is what.

    Attributes:
        time: Arrival of each request, or its end where ``time_is`` says so; with ``count``, the start of the time
            that a row counts.
        time_unit: Unit of a time that is a number, counted from any instant; ``iso`` for dates such as
            2026-01-31 12:00:00.5 (or ,5), 2026-01-31T12:00:00Z or 2026-01-31 12:00:00 UTC.
        time_is: ``arrival``, or ``end``: the arrival is then the end minus the run time.
        function: Name of the function; None: all requests are to one.
        end: End of each request, written as ``time`` is: the run time is the end minus the arrival.
        duration: Run time; None: unknown.
        duration_unit: Its unit; a column of durations has its own.
        context_tokens: Tokens that a request to a language model brings; with the next, they make the run time
            (:class:`~traces.tokens.TokenCost`).
        generated_tokens: Tokens that it is answered with.
        images: Images that it brings; None: none.
        count: How many requests a row stands for; the file is then read as counts per minute.
        count_minutes: Over how many minutes they are spread, as evenly as whole requests can be.
        owner: Owner (tenant) of the function, the first one that a function has; None: unknown.
        trigger: Trigger of the function, likewise.
        time_zone: Of dates without an offset, such as Europe/Berlin; None: UTC.
        starts_at: When the recording began, written as ``time`` is; None: with the first request.
        ends_at: When it ended, likewise; None: with the last.
        delimiter: What separates the cells of a CSV file; None: whichever of ``, ; tab |`` fits its header.
        decimal: Point or comma in the numbers of a CSV file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    time: Column
    time_unit: Unit | Literal["iso"] = "s"
    time_is: Literal["arrival", "end"] = "arrival"
    function: Column | None = None
    end: Column | None = None
    duration: Column | None = None
    duration_unit: Unit = "s"
    context_tokens: Column | None = None
    generated_tokens: Column | None = None
    images: Column | None = None
    owner: Column | None = None
    trigger: Column | None = None
    count: Column | None = None
    count_minutes: Annotated[int, Field(ge=1, le=1440)] = 1
    time_zone: Annotated[str, AfterValidator(_zone)] | None = None
    starts_at: Column | None = None
    ends_at: Column | None = None
    delimiter: Annotated[str, AfterValidator(_delimiter)] | None = None
    decimal: Literal[".", ","] = "."

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, value: object) -> object:
        for key in value if isinstance(value, dict) else ():
            if key not in cls.model_fields:
                raise ValueError(f"unknown key {key!r}; {did_you_mean(str(key), cls.model_fields)}")
        return value

    @model_validator(mode="after")
    def _roles_fit(self) -> ColumnMap:
        if self.time_is == "end" and self.duration is None:
            raise ValueError("time_is end needs a duration, which leads from the end back to the arrival")
        if self.end is not None and self.duration is not None:
            raise ValueError("end and duration both give the run time; leave one out")
        if self.count is not None and (self.end is not None or self.time_is == "end"):
            raise ValueError("count is of rows that count requests; end and time_is belong to single ones")
        if self.duration is None and self.duration_unit != "s":
            raise ValueError("duration_unit belongs to duration, which is not given")
        if self.count is None and self.count_minutes != 1:
            raise ValueError("count_minutes belongs to count, which is not given")
        if self.time_zone is not None and self.time_unit != "iso":
            raise ValueError(f"time_zone is of dates (time_unit iso); the time_unit is {self.time_unit}")
        if self.delimiter is not None and self.delimiter == self.decimal:
            raise ValueError(f"delimiter and decimal are both {self.decimal!r}")
        begin_us, end_us = self.instant_us("starts_at"), self.instant_us("ends_at")
        if begin_us is not None and end_us is not None and end_us <= begin_us:
            raise ValueError(f"ends_at {self.ends_at} is not after starts_at {self.starts_at}")
        if (self.context_tokens is None) != (self.generated_tokens is None):
            raise ValueError("context_tokens and generated_tokens make the run time together; name both")
        if self.images is not None and not self.has_tokens:
            raise ValueError("images add to the run time that tokens make; name context_tokens and generated_tokens")
        if self.has_tokens and (self.end is not None or self.duration is not None or self.count is not None):
            raise ValueError("tokens make the run time of single requests; leave end, duration and count out")
        numbers = [name for name in (self.time, self.end, self.duration, self.count) if name is not None]
        numbers += self.tokens
        texts = {self.function, self.owner, self.trigger}
        if len(set(numbers)) < len(numbers) or texts & set(numbers):
            raise ValueError("time, end, duration, tokens and count need a column each that is nothing else")
        return self

    @property
    def has_tokens(self) -> bool:
        """Whether tokens make the run time."""
        return self.context_tokens is not None

    @property
    def tokens(self) -> list[str]:
        """The columns of tokens and images that are named, in this order."""
        return [name for name in (self.context_tokens, self.generated_tokens, self.images) if name is not None]

    @property
    def gives_run_times(self) -> bool:
        """Whether a column with run times is named."""
        return self.duration is not None or self.end is not None or self.has_tokens

    def instant_us(self, key: Literal["starts_at", "ends_at"]) -> int | None:
        """One end of the recording, counted as the times are; None where it is not given.

        Raises:
            ValueError: it is no time of the kind that the column ``time`` has.
        """
        given: str | None = getattr(self, key)
        if given is None:
            return None
        rows = Rows("", 1, {key: pa.array([given])})
        try:
            return int(_times_us(rows, key, self, Repairs("fail"), may_be_empty=False)[0])
        except TraceError as error:
            raise ValueError(f"{key}: {str(error).partition(': ')[2]}") from None

    def content(self) -> dict[str, object]:
        """All keys, without those that were added later and have their defaults: hashes of before stay as they are."""
        added = (
            *("end", "count", "count_minutes", "time_zone", "starts_at", "ends_at", "delimiter", "decimal"),
            *("context_tokens", "generated_tokens", "images"),
        )
        defaults = {name: field.default for name, field in type(self).model_fields.items()}
        return {
            name: value for name, value in self.model_dump().items() if name not in added or value != defaults[name]
        }

    def names(self) -> list[str]:
        """The columns that are read, each once."""
        roles = (self.time, self.end, self.duration, *self.tokens, self.count, self.function, self.owner, self.trigger)
        return list(dict.fromkeys(name for name in roles if name is not None))


def columns_of(given: Sequence[str], time_zone: str | None = None) -> ColumnMap | None:
    """The columns that options such as ``time=start_ms`` name; None if there are none.

    Args:
        given: the options.
        time_zone: of ``--tz``, which says the same as ``time_zone=``.

    Raises:
        TraceError: an option that is no such pair, or names something unknown.
    """
    if not given:
        if time_zone is not None:
            raise TraceError(
                f"--tz {time_zone}: belongs to --column, of a file of no known form; give --column time=NAME"
            )
        return None
    pairs: dict[str, str] = {} if time_zone is None else {"time_zone": time_zone}
    for each in given:
        what, equals, name = each.partition("=")
        if not equals or not name:
            raise TraceError(f"--column {each}: expected WHAT=NAME, such as time=start_ms")
        if what in pairs:
            raise TraceError(f"--column {each}: {what} is {pairs[what]} already, expected it once")
        pairs[what] = name
    try:
        return ColumnMap.model_validate(pairs)
    except ValidationError as error:
        first = error.errors()[0]
        place = "".join(f" {step}:" for step in first["loc"])
        raise TraceError(f"--column:{place} {first['msg'].removeprefix('Value error, ')}") from None


@dataclass(frozen=True, slots=True)
class Remark:
    """Something about requests that is counted beside the repairs, and changes nothing.

    Attributes:
        column: which column tells.
        cells: what it then says.
        told: what is counted.
    """

    column: str
    cells: frozenset[str]
    told: str


@dataclass(frozen=True, slots=True)
class _Content:
    """What the rows of a file say; R rows, F functions.

    Attributes:
        names: (F,) of the functions.
        owners: (F,) their owners.
        triggers: (F,) their triggers.
        time_us: (R,) from whatever instant the file counts from.
        function: (R,) index into the names.
        duration_us: (R,), or None where no column gives it.
        requests: (R,) how many a row stands for, or None where that is one.
        first_row: number of the first row.
        repairs: what was mended.
    """

    names: list[str]
    owners: list[str]
    triggers: list[str]
    time_us: NDArray[np.int64]
    function: NDArray[np.int32]
    duration_us: NDArray[np.int64] | None
    requests: NDArray[np.int64] | None
    first_row: int
    repairs: tuple[Repair, ...]


def read_mapped(
    path: FileName,
    columns: ColumnMap,
    progress: Progress | None = None,
    *,
    bad_rows: BadRows = "fail",
    cost: TokenCost | None = None,
    remarks: Sequence[Remark] = (),
    clock: Clock = "told",
) -> Trace:
    """Read a CSV, JSONL or Parquet file, plain or packed, some hundred thousand rows at a time.

    Times are read exactly, to the nearest microsecond.  With ``bad_rows="repair"`` these rules apply, each counted: a
    request without a run time, or with tokens that are missing or below 0, takes the median of its function's others,
    else of all; one without a function is to one that is called unknown; a local time that a change of clocks doubles
    is the first of the two, one that it leaves out the instant of the change.

    Args:
        path: One row a request, in any order.
        columns: Which column is what.
        progress: Told how far the reading is.
        bad_rows: Whether such rows are refused or mended.
        cost: How tokens become run time.
        remarks: What else is counted.
        clock: What times count from, where neither a date nor a number of 1970 says so.

    Returns:
        The trace, from the first arrival to the last, or from ``starts_at`` to ``ends_at``; functions in the order in
        which they first occur in the file.  Dates tell its start instant, and so do numbers that, counted from 1970,
        lie behind the year 2000; whether they are plausible says ``traces.plausible``.

    Raises:
        TraceError: With file, row and column: a missing column, a cell that is empty or cannot be read, a run time
            below 0, times over ten years apart or outside of ``starts_at`` and ``ends_at``; or columns of counts, which
            :func:`read_counted` reads.
    """
    if columns.count is not None:
        raise TraceError.at(path, "holds counts, which read_counted reads", column=columns.count)
    content = _read(path, columns, progress, bad_rows, cost or TokenCost(), remarks)
    arrival_us = content.time_us
    if columns.time_is == "end" and content.duration_us is not None:
        arrival_us = arrival_us - content.duration_us
    begin_us, length_us = _span_us(path, columns, arrival_us, content.first_row)
    return Trace.build(
        names=content.names,
        owners=content.owners,
        triggers=content.triggers,
        arrival_us=arrival_us - begin_us,
        arrival_function=content.function,
        duration_us=content.duration_us,
        end_us=length_us,
        source=Path(path).name
        + (f"; {(cost or TokenCost()).told(columns.images is not None)}" if columns.has_tokens else ""),
        licence="unknown",
        window=f"from {columns.starts_at or 'the first request'} to {columns.ends_at or 'the last'}",
        expansion="none",
        repairs=content.repairs,
        start_us=_start_us(columns, begin_us, clock),
    )


def read_counted(
    path: FileName, columns: ColumnMap, progress: Progress | None = None, *, bad_rows: BadRows = "fail"
) -> Counts:
    """Read a file whose rows count requests; arguments, rules and errors as in :func:`read_mapped`.

    Returns:
        Counts per minute, from the minute of the first row, or of ``starts_at``, to that of the last, or to the last
        whole or begun one before ``ends_at``.  A row's requests belong to the minute of its time, or
        are spread over ``count_minutes`` from there.  The run time of a function is the mean over its requests.

    Raises:
        TraceError: See there; or more requests in a minute, or more functions and minutes, than can be right.
    """
    content = _read(path, columns, progress, bad_rows)
    assert content.requests is not None
    begin_us, length_us = _span_us(path, columns, content.time_us, content.first_row)
    first_minute = begin_us // MINUTE_US
    minute = content.time_us // MINUTE_US - first_minute
    span = columns.count_minutes
    functions, minutes = len(content.names), int(minute.max()) + span
    if columns.ends_at is not None:
        allowed = -(-(begin_us + length_us) // MINUTE_US) - first_minute
        if minutes > allowed:
            row = int(np.argmax(minute)) + content.first_row
            problem = f"counts minutes after ends_at {columns.ends_at}"
            raise TraceError.at(path, problem, row=row, column=columns.time)
        minutes = allowed
    if functions * minutes > _MOST_CELLS:
        problem = f"{functions} functions and {minutes} minutes make a table of more than {_MOST_CELLS} counts"
        raise TraceError.at(path, f"{problem}; give fewer of either", column=columns.count)
    table = np.zeros((functions, minutes), np.int64)
    for place in range(span):
        share = content.requests * (place + 1) // span - content.requests * place // span
        np.add.at(table, (content.function, minute + place), share)
    if table.max() > MOST_PER_MINUTE:
        function, at = np.unravel_index(int(np.argmax(table)), table.shape)
        problem = f"{content.names[function]} has {table[function, at]} requests in a minute, expected at most"
        raise TraceError.at(path, f"{problem} {MOST_PER_MINUTE}", column=columns.count)
    dated = _is_dated(columns, begin_us)
    duration_ms = np.full(functions, np.nan)
    if content.duration_us is not None:
        weight = np.bincount(content.function, content.requests, functions)
        total_us = np.bincount(content.function, content.requests * (content.duration_us * 1.0), functions)
        np.divide(total_us / 1000.0, weight, out=duration_ms, where=weight > 0)
    return Counts(
        names=tuple(content.names),
        owners=tuple(content.owners),
        apps=("",) * functions,
        triggers=tuple(content.triggers),
        counts=table.astype(np.int32),
        first_minute=first_minute % _DAY_MIN if dated else 0,
        duration_ms=duration_ms,
        memory_mb=np.full(functions, np.nan),
        weights=np.ones(functions, np.int64),
        source=Path(path).name,
        licence="unknown",
        repairs=content.repairs,
        start_us=first_minute * MINUTE_US if dated else 0,
    )


def _read(
    path: FileName,
    columns: ColumnMap,
    progress: Progress | None,
    bad_rows: BadRows,
    cost: TokenCost | None = None,
    remarks: Sequence[Remark] = (),
) -> _Content:
    names, pieces, repairs = Names(), Pieces(), Repairs(bad_rows)
    traits: dict[str, dict[int, str]] = {"owner": {}, "trigger": {}}
    first_row: int | None = None
    wanted = list(dict.fromkeys([*columns.names(), *(remark.column for remark in remarks)]))
    for rows in rows_of(path, wanted, columns.delimiter, progress):
        first_row = rows.first_row if first_row is None else first_row
        for remark in remarks:
            cells = compute.utf8_trim_whitespace(rows.columns[remark.column].cast(pa.string()))
            holds = compute.is_in(cells, pa.array(sorted(remark.cells))).to_numpy(zero_copy_only=False)
            repairs.note(remark.told, holds, path, rows.first_row, changed=False)
        time_us = _times_us(rows, columns.time, columns, repairs, may_be_empty=False)
        if columns.function is None:
            function = np.zeros(len(time_us), np.int32)
        else:
            function = names.number(_functions(rows, columns.function, repairs))
        pieces.add(function=function, time_us=time_us)
        if columns.gives_run_times:
            if columns.has_tokens:
                pieces.add(duration_us=_token_us(rows, columns, cost or TokenCost(), repairs))
            else:
                pieces.add(duration_us=_durations_us(rows, columns, time_us, repairs))
        if columns.count is not None:
            pieces.add(requests=_counts(rows, columns.count))
        for trait, known in traits.items():
            column = getattr(columns, trait)
            if column is not None:
                texts = _texts(rows, column)
                new, at = np.unique(function, return_index=True)
                known.update({int(f): str(texts[row]) for f, row in zip(new, at, strict=True) if f not in known})
    assert first_row is not None
    function = pieces.take("function")
    duration_us = None
    if columns.gives_run_times:
        duration_us = _filled(path, columns, pieces.take("duration_us"), function, repairs, first_row)
    labels = [name for (name,) in names.known] or [Path(path).name.partition(".")[0]]
    return _Content(
        names=labels,
        owners=[traits["owner"].get(f, "") for f in range(len(labels))],
        triggers=[traits["trigger"].get(f, "") for f in range(len(labels))],
        time_us=pieces.take("time_us"),
        function=function,
        duration_us=duration_us,
        requests=None if columns.count is None else pieces.take("requests"),
        first_row=first_row,
        repairs=tuple(repairs),
    )


def _times_us(rows: Rows, name: str, columns: ColumnMap, repairs: Repairs, *, may_be_empty: bool) -> NDArray[np.int64]:
    """Whole microseconds of a column of times, 0 where one may be empty and is."""
    column, place = rows.columns[name], rows.place(name)
    kind = column.type
    if not may_be_empty:
        place.refuse(_empty(column), "is empty, expected a time")
    if columns.time_unit == "iso":
        if not (pa.types.is_timestamp(kind) or pa.types.is_date(kind) or _is_text(kind)):
            raise TraceError.at(rows.path, f"the column holds {kind}, expected dates", column=name)
        return dates_us(column, columns.time_zone, place, repairs)
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        raise TraceError.at(rows.path, f"the column holds {kind}: give time_unit iso", column=name)
    if _is_text(kind):
        dated = compute.match_substring_regex(column.fill_null(""), _DATE).to_numpy(zero_copy_only=False)
        place.refuse(dated, "is a date: give time_unit iso")
    return _numbers_us(rows, name, columns.time_unit, columns)


def _durations_us(rows: Rows, columns: ColumnMap, time_us: NDArray[np.int64], repairs: Repairs) -> NDArray[np.int64]:
    """Run times of some rows; -1 where the cell is empty and that is to be mended."""
    name = columns.end or columns.duration
    assert name is not None
    column, place = rows.columns[name], rows.place(name)
    unknown = _empty(column)
    if not repairs.wanted:
        problem = "is empty, expected a run time; bad_rows repair takes the median of the function's others"
        place.refuse(unknown, problem)
    if columns.end is not None:
        us = np.where(unknown, 0, _times_us(rows, name, columns, repairs, may_be_empty=True) - time_us)
        place.refuse(us < 0, "is before the arrival, expected an end")
        problem = f"is over ten years after the arrival: is the unit {columns.time_unit} right?"
    else:
        us = _numbers_us(rows, name, columns.duration_unit, columns)
        own = pa.types.is_duration(column.type)
        if own and columns.duration_unit != ColumnMap.model_fields["duration_unit"].default:
            problem = f"the column holds {column.type}, which has its unit: leave duration_unit out"
            raise TraceError.at(rows.path, problem, column=name)
        unit = column.type.unit if own else columns.duration_unit
        place.refuse(us < 0, f"is negative, expected {unit} >= 0")
        problem = f"is over ten years: is the unit {unit} right?"
    place.refuse(us > _LONGEST_US, problem)
    return np.where(unknown, _UNKNOWN, us)


def _token_us(rows: Rows, columns: ColumnMap, cost: TokenCost, repairs: Repairs) -> NDArray[np.int64]:
    """Run times that tokens make; -1 where there is a number too few, or one below 0, and that is to be mended."""
    counts, unknown = [], np.zeros(len(rows.columns[columns.time]), np.bool_)
    for name in columns.tokens:
        column, place = rows.columns[name], rows.place(name)
        missing = _empty(column)
        if not repairs.wanted:
            place.refuse(missing, "is empty, expected a number; bad_rows repair takes the median run time")
        # whole numbers of microseconds, which numbers of tokens are exactly as well
        values = _numbers_us(rows, name, "us", columns)
        if not repairs.wanted:
            place.refuse(
                values < 0, "is negative, expected a number of 0 or more; bad_rows repair takes the median run time"
            )
        place.refuse(values > _LARGEST_TOKENS, "is too large for a number of tokens")
        counts.append(values)
        unknown |= missing | (values < 0)
    us = cost.run_us(*counts)
    problem = f"tokens make a run time above a day ({cost.told(columns.images is not None)})"
    rows.place(columns.tokens[1]).refuse(~unknown & (us > LONGEST_US), problem)
    return np.where(unknown, _UNKNOWN, us).astype(np.int64)


def _functions(rows: Rows, name: str, repairs: Repairs) -> NDArray[np.object_]:
    """Names of functions, with one for what names none if that is to be mended."""
    column = rows.columns[name]
    if not repairs.wanted:
        rows.place(name).refuse(_empty(column), "is empty, expected a text; bad_rows repair calls it unknown")
        return _texts(rows, name)
    repairs.note(_NO_FUNCTION, _empty(column), rows.path, rows.first_row)
    return texts_of(column.cast(pa.string()).fill_null("unknown"))


def _numbers_us(rows: Rows, name: str, unit: Unit, columns: ColumnMap) -> NDArray[np.int64]:
    column, place = rows.columns[name], rows.place(name)
    kind = column.type
    numeric = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    if not (numeric or pa.types.is_duration(kind) or _is_text(kind)):
        raise TraceError.at(rows.path, f"the column holds {kind}, expected numbers", column=name)
    return whole_us(column, unit, place, columns.decimal)


def _counts(rows: Rows, name: str) -> NDArray[np.int64]:
    column, place = rows.columns[name], rows.place(name)
    place.refuse(_empty(column), "is empty, expected a whole number of requests, 0 or more")
    if not _is_text(column.type):
        if not pa.types.is_integer(column.type):
            problem = f"the column holds {column.type}, expected whole numbers of requests"
            raise TraceError.at(rows.path, problem, column=name)
        column = column.cast(pa.string())
    column = compute.utf8_trim_whitespace(column)
    wrong = ~compute.match_substring_regex(column, r"^\d+$").to_numpy(zero_copy_only=False)
    place.refuse(wrong, "is not a whole number of requests, 0 or more")
    digits = compute.utf8_length(compute.utf8_ltrim(column, "0")).to_numpy(zero_copy_only=False)
    place.refuse(digits > 18, f"is too large, expected at most {MOST_PER_MINUTE} requests a minute")
    values: NDArray[np.int64] = column.cast(pa.int64()).to_numpy(zero_copy_only=False)
    place.refuse(values > MOST_PER_MINUTE * 1440, f"is too large, expected at most {MOST_PER_MINUTE} requests a minute")
    return values


def _texts(rows: Rows, name: str) -> NDArray[np.object_]:
    column = rows.columns[name]
    rows.place(name).refuse(_empty(column), "is empty, expected a text")
    return texts_of(column if _is_text(column.type) else column.cast(pa.string()))


def _empty(column: pa.Array) -> NDArray[np.bool_]:
    empty: NDArray[np.bool_] = column.is_null().to_numpy(zero_copy_only=False)
    return empty


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _filled(
    path: FileName,
    columns: ColumnMap,
    duration_us: NDArray[np.int64],
    function: NDArray[np.int32],
    repairs: Repairs,
    first_row: int,
) -> NDArray[np.int64]:
    """Run times with those that are unknown by rule."""
    unknown = duration_us == _UNKNOWN
    if not unknown.any():
        return duration_us
    if unknown.all():
        column = columns.end or columns.duration or columns.generated_tokens
        raise TraceError.at(path, "no row has a run time; leave the column out", column=column)
    known = pd.Series(np.where(unknown, np.nan, duration_us))
    medians = known.groupby(function).transform("median").fillna(known.median()).to_numpy()
    repairs.note(_NO_RUN_TIME, unknown, path, first_row)
    return np.where(unknown, np.rint(medians).astype(np.int64), duration_us)


def _span_us(path: FileName, columns: ColumnMap, time_us: NDArray[np.int64], first_row: int) -> tuple[int, int]:
    """When the trace begins, counted as the times are, and how long it is."""
    since_us = time_us - time_us.min()
    if since_us.max() > _LONGEST_US:
        problem = f"is over ten years after the first time: is the unit {columns.time_unit} right?"
        raise TraceError.at(path, problem, row=int(np.argmax(since_us)) + first_row, column=columns.time)
    begin_us, end_us = columns.instant_us("starts_at"), columns.instant_us("ends_at")
    for key, at, outside in (
        ("starts_at", columns.starts_at, None if begin_us is None else time_us < begin_us),
        ("ends_at", columns.ends_at, None if end_us is None else time_us >= end_us),
    ):
        if outside is not None and outside.any():
            where = "before" if key == "starts_at" else "not before"
            row = int(np.argmax(outside)) + first_row
            raise TraceError.at(path, f"is {where} {key} {at}", row=row, column=columns.time)
    begin_us = int(time_us.min()) if begin_us is None else begin_us
    end_us = int(time_us.max()) + 1 if end_us is None else end_us
    if end_us - begin_us > _LONGEST_US:
        raise TraceError.at(path, "starts_at and ends_at: over ten years lie between them", column=columns.time)
    return begin_us, end_us - begin_us


def _start_us(columns: ColumnMap, begin_us: int, clock: Clock) -> int | None:
    """The instant at which the trace begins, as far as it is known."""
    if clock == "midnight":
        return begin_us % (_DAY_MIN * MINUTE_US)
    return begin_us if clock == "told" and _is_dated(columns, begin_us) else None


def _is_dated(columns: ColumnMap, begin_us: int) -> bool:
    return columns.time_unit == "iso" or begin_us >= YEAR_2000_US
