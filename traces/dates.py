"""Dates as microseconds from 1970 in UTC, with time zones and what changes of clocks do to local times."""

from __future__ import annotations

from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import compute

from traces.errors import did_you_mean
from traces.exact import whole_us
from traces.places import Place
from traces.repairs import Repairs

_OFFSET = r"[T ]\d.*([zZ]|[+-]\d\d(:?\d\d)?)$"
_TWICE = "a local time that clocks show twice: the first of the two"
_NEVER = "a local time that clocks leave out: the instant at which they are put forward"


@lru_cache
def zone_of(name: str) -> ZoneInfo:
    """A time zone.

    Raises:
        ValueError: there is none of this name; the message says which are near.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{name!r} is no time zone; {did_you_mean(name, sorted(available_timezones()))}") from None


def dates_us(column: pa.Array, zone: str | None, place: Place, repairs: Repairs) -> NDArray[np.int64]:
    """A column's dates; empty cells give 0.

    Args:
        column: ISO 8601 texts, timestamps or days.  Those without an offset are local times of the zone.
        zone: Name of the time zone; None: UTC.
        place: Where they stand.
        repairs: Whether local times that a change of clocks doubles or leaves out are refused or mended; counted.

    Raises:
        TraceError: A cell is no date, has an offset although a zone is given, or is such a local time.
    """
    kind = column.type
    if pa.types.is_date(kind):
        column, kind = column.cast(pa.timestamp("us")), pa.timestamp("us")
    if pa.types.is_timestamp(kind):
        if zone is None:
            return whole_us(column.cast(pa.int64()), kind.unit, place)
        if kind.tz is not None:
            place.refuse(np.ones(len(column), np.bool_), _needless(zone))
        counted = column.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
        return _local_us(pd.Series(counted.astype(f"datetime64[{kind.unit}]")), zone, place, repairs)
    texts = compute.utf8_trim_whitespace(column.cast(pa.string()).fill_null("1970-01-01"))
    if compute.any(compute.match_substring(texts, ",")).as_py():
        # ISO 8601 has both, and Python's logging writes the comma
        texts = compute.replace_substring_regex(texts, r"(:\d\d),(\d)", r"\1.\2")
    if compute.any(compute.ends_with(texts, "UTC")).as_py():
        texts = compute.replace_substring_regex(texts, r"\s*([+-]\d\d:?\d\d)\s+UTC$", r"\1")
        texts = compute.replace_substring_regex(texts, r"\s*UTC$", "Z")
    if zone is not None:
        place.refuse(
            compute.match_substring_regex(texts, _OFFSET).to_numpy(zero_copy_only=False)
            & column.is_valid().to_numpy(zero_copy_only=False),
            _needless(zone),
        )
    read = pd.to_datetime(
        pd.Series(texts.to_numpy(zero_copy_only=False)), format="ISO8601", utc=True, errors="coerce"
    ).dt.tz_localize(None)
    place.refuse(read.isna().to_numpy(), "is not a date, expected 2026-01-31 12:00:00")
    return _counted_us(read, place) if zone is None else _local_us(read, zone, place, repairs)


def _needless(zone: str) -> str:
    return f"has an offset of its own: leave out the time zone {zone}"


def _local_us(naive: pd.Series[pd.Timestamp], zone: str, place: Place, repairs: Repairs) -> NDArray[np.int64]:
    first = np.ones(len(naive), np.bool_)
    there = zone_of(zone)
    never = naive.dt.tz_localize(there, ambiguous=first, nonexistent="NaT").isna().to_numpy()
    twice = naive.dt.tz_localize(there, ambiguous="NaT", nonexistent="shift_forward").isna().to_numpy()
    if not repairs.wanted:
        place.refuse(never, f"is left out in {zone}, where clocks are put forward; bad_rows repair takes that instant")
        place.refuse(twice, f"is there twice in {zone}, where clocks are put back; bad_rows repair takes the first")
    repairs.note(_NEVER, never, place.path, place.first_row)
    repairs.note(_TWICE, twice, place.path, place.first_row)
    local = naive.dt.tz_localize(there, ambiguous=first, nonexistent="shift_forward")
    return _counted_us(local.dt.tz_convert("UTC").dt.tz_localize(None), place)


def _counted_us(dates: pd.Series[pd.Timestamp], place: Place) -> NDArray[np.int64]:
    values = dates.to_numpy()
    unit, _ = np.datetime_data(values.dtype)
    return whole_us(pa.array(values.astype(np.int64)), unit, place)  # type: ignore[arg-type]
