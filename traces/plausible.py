"""What a trace asks of a cluster, and what about it can hardly be right: mostly a unit that was named wrongly.

Nothing here changes a trace.  A reader takes stamps as it is told to; this says when what came of that is implausible.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from traces.counts import MINUTE_US, Counts
from traces.exact import US, Unit
from traces.mapped import ColumnMap
from traces.trace import Trace

MOST_PER_S = 10_000
"""Requests of one function a second, in the mean: some twenty times as many as Azure's busiest function has."""
DAY_US = 86_400_000_000
LONGEST_RUN_US = DAY_US
SHORTEST_RUN_US = 10
_SHORTEST_US = 1_000_000
_FIRST_YEAR, _LAST_YEAR = 2000, 2100
_YEARS = range(_FIRST_YEAR, _LAST_YEAR + 1)
_YEAR_US = 365.2425 * DAY_US
_NS_OF = {"ns": 1, **{unit: 1_000 * us for unit, us in US.items()}}
_PIECE = 1 << 22


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about a trace that can hardly be right.

    Attributes:
        about: ``dates``, ``stamps``, ``length``, ``rate`` or ``run times``; a scenario's cluster may add more.
        problem: what is implausible, and what may be wrong, in one line.
        grave: what is made of the trace would mean nothing.
    """

    about: str
    problem: str
    grave: bool = False

    def __str__(self) -> str:
        """One line."""
        return f"{self.about}: {self.problem}"


@dataclass(frozen=True, slots=True)
class Work:
    """How long requests run, and how many of them at once if none had to wait.

    Attributes:
        run_ms_p50: run time that half of the requests do not exceed.
        run_ms_p90: that nine of ten do not.
        run_ms_p99: that 99 of 100 do not.
        run_ms_max: the longest.
        concurrency_mean: requests that run at once, in the mean of the trace's time: what lies behind its end is not
            counted.  In a trace of counts a run belongs to the minute of its arrival.
        concurrency_peak: the same in the busiest minute, and never below the mean: a last minute that is cut short is
            taken for a whole one.
    """

    run_ms_p50: float
    run_ms_p90: float
    run_ms_p99: float
    run_ms_max: float
    concurrency_mean: float
    concurrency_peak: float

    def as_dict(self) -> dict[str, float]:
        """The values by name."""
        return asdict(self)


def dates(source: Counts | Trace) -> tuple[str, str] | None:
    """When the first and the last request came: dates, or times of the day; None where nothing is known, or asked."""
    if source.start_us is None:
        return None
    if isinstance(source, Counts):
        busy = np.flatnonzero(source.counts.any(axis=0)) * MINUTE_US
    else:
        busy = source.arrival_us[[0, -1]] if len(source.arrival_us) else source.arrival_us
    if len(busy) == 0:
        return None
    return _date(source.start_us, int(busy[0])), _date(source.start_us, int(busy[-1]))


def _date(start_us: int, since_us: int) -> str:
    text = np.datetime_as_string(np.datetime64(start_us + since_us, "us"), unit="s").replace("T", " ")
    if not _is_dated(start_us):
        day = (start_us + since_us) // DAY_US
        return f"day {day + 1}, {text.partition(' ')[2]}"
    return f"{text} UTC"


def _is_dated(start_us: int) -> bool:
    """Whether an instant is one, and no time of the day."""
    return not 0 <= start_us < DAY_US


def work(source: Counts | Trace) -> Work | None:
    """What the requests of a trace ask for; None where run times are unknown or nothing is asked."""
    if isinstance(source, Counts):
        requests, run_us = source.counts.sum(axis=1, dtype=np.int64), run_us_of(source)
        if run_us is None or not requests.any():
            return None
        busy_us = run_us @ source.counts
    else:
        requests, run_us = None, source.duration_us.astype(np.float64)
        if len(run_us) == 0:
            return None
        busy_us = _busy_us(source)
    mean = float(busy_us.sum()) / source.end_us
    median, most, nearly_all, longest = (_quantile(run_us, requests, q) / 1000.0 for q in (0.5, 0.9, 0.99, 1.0))
    return Work(median, most, nearly_all, longest, mean, max(mean, float(busy_us.max()) / MINUTE_US))


def run_us_of(counts: Counts) -> NDArray[np.float64] | None:
    """(F,) run time of each function, as expansion gives it; None where none is known."""
    if np.isnan(counts.duration_ms).all():
        return None
    known = np.where(np.isnan(counts.duration_ms), np.nanmedian(counts.duration_ms), counts.duration_ms)
    us: NDArray[np.float64] = known * 1000.0
    return us


def asked(source: Counts | Trace, start_us: int, end_us: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Requests of each function in a part of the trace's time, and how long they run in all.

    Args:
        source: A trace, or counts, of which all minutes that the part touches are taken.
        start_us: Where the part begins.
        end_us: Where it ends.

    Returns:
        (F,) requests and (F,) microseconds, 0 where run times are unknown.
    """
    if isinstance(source, Counts):
        minutes = slice(start_us // MINUTE_US, -(-end_us // MINUTE_US))
        requests = source.counts[:, minutes].sum(axis=1, dtype=np.int64)
        run_us = run_us_of(source)
        return requests, requests * (np.zeros(len(requests)) if run_us is None else run_us)
    first, last = (int(row) for row in np.searchsorted(source.arrival_us, (start_us, end_us)))
    functions, size = source.arrival_function[first:last], len(source.names)
    requests = np.bincount(functions, minlength=size)
    if len(source.duration_us) == 0:
        return requests, np.zeros(size)
    total_us = np.bincount(functions, source.duration_us[first:last], size)
    return requests.astype(np.int64), total_us.astype(np.float64)


def findings(source: Counts | Trace, columns: ColumnMap | None = None) -> list[Finding]:
    """What about a trace is implausible.

    Args:
        source: A trace or counts.
        columns: By which columns and units it was read, so that the right one can be named.
    """
    found = [*_of_dates(source, columns), *_of_times(source, columns)]
    alone = asked(source, 0, source.end_us)[0].sum() == 1
    # a length that is known to be wrong, or is that of nothing, says nothing about run times
    length_us = math.inf if alone or any(each.grave for each in found) else source.end_us
    return [*found, *_of_run_times(source, columns, length_us)]


def _of_dates(source: Counts | Trace, columns: ColumnMap | None) -> Iterator[Finding]:
    start_us = source.start_us
    if start_us is None or not _is_dated(start_us):
        return
    year = int(np.datetime64(start_us, "us").astype("datetime64[Y]").astype(np.int64)) + 1970
    if year < _FIRST_YEAR:
        yield Finding("dates", f"the trace begins in the year {year}, before {_FIRST_YEAR}")
    if year <= _LAST_YEAR:
        return
    unit = None if columns is None or columns.time_unit == "iso" else columns.time_unit
    right = [other for other in get_args(Unit) if unit and _year_as(start_us, unit, other) in _YEARS]
    hint = f"; the time_unit is {right[0]}, not {unit}, if they count from 1970" if right else ""
    yield Finding("dates", f"the trace begins in the year {year:,}{hint}", grave=bool(right))


def _year_as(start_us: int, unit: Unit, other: Unit) -> int:
    """The year of a number that has been read in one unit, if it is of another."""
    return int(1970 + start_us / _NS_OF[unit] * _NS_OF[other] / _YEAR_US)


def _of_times(source: Counts | Trace, columns: ColumnMap | None) -> Iterator[Finding]:
    hint = ""
    if columns is not None and columns.time_unit != "iso":
        hint = f"; is the time_unit {columns.time_unit} right?"
    if isinstance(source, Trace) and len(source.arrival_us) > 1:
        if source.arrival_us[0] == source.arrival_us[-1]:
            requests = len(source.arrival_us)
            yield Finding("stamps", f"all {requests:,} requests have the same time; is it the right column?", True)
            return
        if source.end_us < _SHORTEST_US:
            yield Finding("length", f"the whole trace lasts {_spoken(source.end_us)}{hint}", True)
            return
    requests_of, _ = asked(source, 0, source.end_us)
    per_s = requests_of / max(source.end_us, _SHORTEST_US) * 1e6
    if len(per_s) and per_s.max() > MOST_PER_S:
        name, rate = source.names[int(per_s.argmax())], f"{per_s.max():,.0f}"
        yield Finding("rate", f"{name} has {rate} requests a second, over {MOST_PER_S:,} are implausible{hint}")


def _of_run_times(source: Counts | Trace, columns: ColumnMap | None, length_us: float) -> Iterator[Finding]:
    found = work(source)
    if found is None:
        return
    hint = ""
    if columns is not None and columns.end is not None:
        hint = f"; are {columns.time} and {columns.end} what begins and ends a request?"
    elif columns is not None and columns.duration is not None:
        hint = f"; is the duration_unit {columns.duration_unit} right?"
    median_us, longest_us = found.run_ms_p50 * 1000.0, found.run_ms_max * 1000.0
    half = f"half of the requests run {_spoken(median_us)} or"
    if median_us > LONGEST_RUN_US:
        yield Finding("run times", f"{half} longer, more than a day{hint}", True)
    elif median_us > length_us:
        yield Finding("run times", f"{half} longer, the whole trace lasts {_spoken(length_us)}{hint}", True)
    elif longest_us > length_us:
        whole = f"the whole trace lasts {_spoken(length_us)}"
        yield Finding("run times", f"the longest is {_spoken(longest_us)}, {whole}{hint}")
    if median_us < SHORTEST_RUN_US:
        yield Finding("run times", f"half of the requests run {median_us:.3g} us or less{hint}")


def _busy_us(trace: Trace) -> NDArray[np.float64]:
    """(M,) time that requests run in each minute."""
    minutes = max(1, -(-trace.end_us // MINUTE_US))
    busy: NDArray[np.float64] = np.zeros(minutes)
    for first in range(0, len(trace.arrival_us), _PIECE):
        begin_us = trace.arrival_us[first : first + _PIECE]
        end_us = np.minimum(begin_us + trace.duration_us[first : first + _PIECE], trace.end_us)
        busy = busy + _since(begin_us, minutes) - _since(end_us, minutes)
    return busy


def _since(from_us: NDArray[np.int64], minutes: int) -> NDArray[np.float64]:
    """(M,) time in each minute that has passed since some instants, summed over them."""
    minute = from_us // MINUTE_US
    began = np.bincount(minute, minlength=minutes + 1)
    of_first = np.bincount(minute, (minute + 1) * MINUTE_US - from_us, minutes + 1)
    since = MINUTE_US * (np.cumsum(began) - began) + of_first
    return since[:minutes].astype(np.float64)


def _quantile(values: NDArray[np.float64], weights: NDArray[np.int64] | None, q: float) -> float:
    """The least value that this share of the weight does not exceed."""
    if weights is None:
        return float(np.quantile(values, q, method="inverted_cdf"))
    order = np.argsort(values)
    below = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(below, q * below[-1])])


def _spoken(span_us: float) -> str:
    """A length of time in hours, minutes or seconds, whichever says it in the smallest number from 1 on."""
    for unit_us, name in ((3_600_000_000, "h"), (60_000_000, "min")):
        if span_us >= unit_us:
            return f"{span_us / unit_us:.4g} {name}"
    return f"{span_us / 1e6:.4g} s"
