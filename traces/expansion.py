"""From counts per minute to arrival times.

The counts say how many requests a minute has, not when.  Four ways are in use: uniform in the minute (dslab),
exponential gaps rescaled to the minute (invitro), equidistant (FaasCache, InstaInfer), and, since a timer fires at
the same second of its minute, one phase for each timer function.  All conserve every count exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from traces.counts import MINUTE_US, Counts
from traces.errors import TraceError
from traces.repairs import Repairs
from traces.streams import Streams, keys_of, numpy_streams
from traces.trace import Trace

Method = Literal["uniform", "exponential", "equidistant", "timer_phase"]
"""How requests are placed inside their minute."""

METHODS: tuple[Method, ...] = get_args(Method)

MOST_REQUESTS = 500_000_000
"""Requests that are expanded at once: each takes some 40 bytes of memory meanwhile."""
_NO_RUN_TIME = "a function without a run time: the median of the functions that have one"


def expand(
    counts: Counts,
    method: Method = "uniform",
    seed: int = 0,
    functions: Sequence[int] | NDArray[np.integer] | None = None,
    minutes: tuple[int, int] | None = None,
    streams: Streams = numpy_streams,
) -> Trace:
    """Place each counted request at a microsecond of its minute.

    Draws are keyed by (seed, function, minute), a function being known by owner, application and name: neither the
    selection of functions nor that of minutes moves an arrival.

    Args:
        counts: The table.
        method: ``uniform``: independent and uniform in the minute.  ``exponential``: exponential gaps, rescaled to fill
            the minute, cut open at a random place.  ``equidistant``: the k-th of n at k/n of the minute.
            ``timer_phase``: functions whose trigger is "timer" equidistant, all shifted by one random phase of the
            function; the others uniform.
        seed: Seed of the draws.
        functions: Rows to expand, in the order the trace shall number them; None for all.
        minutes: Half-open range of columns, counted from 0; None for all.  The trace starts with the first of them.
        streams: Who makes the draws; they are NumPy's, whoever does.

    Returns:
        The trace.  Each request gets its function's mean run time, if that of any function of the table is known; a
        function without one gets the median of those that have one, which is counted as a repair if it has requests in
        the table, be it in other minutes.

    Raises:
        TraceError: An unknown method, rows or minutes outside the table, or more requests than are expanded at once.
    """
    rows = range(len(counts.names)) if functions is None else functions
    found = Expansion(counts, method, tuple(int(row) for row in rows), minutes, streams)
    arrival_us, arrival_function = found.place(seed)
    first, last = found.minutes
    first_label = counts.first_minute + first
    return Trace.build(
        names=found.names,
        owners=[counts.owners[i] for i in found.functions],
        triggers=[counts.triggers[i] for i in found.functions],
        arrival_us=arrival_us,
        arrival_function=arrival_function,
        duration_us=found.durations_us(arrival_function),
        end_us=(last - first) * MINUTE_US,
        source=counts.source,
        licence=counts.licence,
        window=f"minutes {first_label}..{first_label + last - first - 1}",
        expansion=method,
        seed=None if method == "equidistant" else seed,
        repairs=(*counts.repairs, *found.repairs),
        start_us=counts.start_us + first * MINUTE_US,
    )


class Expansion:
    """What placing the requests of some functions and minutes needs beside a seed; arguments as of :func:`expand`.

    Attributes:
        functions: rows of the table.
        minutes: half-open range of its columns.
        names: of the functions.
        repairs: functions of the table that have requests and no run time of their own.

    Raises:
        TraceError: see there.
    """

    def __init__(
        self,
        counts: Counts,
        method: Method,
        functions: tuple[int, ...],
        minutes: tuple[int, int] | None = None,
        streams: Streams = numpy_streams,
    ) -> None:
        if method not in METHODS:
            raise TraceError(f"unknown expansion {method!r}, expected one of {', '.join(METHODS)}")
        first, last = (0, counts.minutes) if minutes is None else minutes
        if not 0 <= first < last <= counts.minutes:
            raise TraceError(f"minutes {first}..{last} must be ascending and lie in 0..{counts.minutes}")
        if functions and not 0 <= min(functions) <= max(functions) < len(counts.names):
            raise TraceError(f"functions must lie in 0..{len(counts.names) - 1}")
        rows = np.array(functions, np.int64)
        table = counts.counts if functions == tuple(range(len(counts.names))) else counts.counts[rows]
        total = int(table[:, first:last].sum(dtype=np.int64))
        if total > MOST_REQUESTS:
            problem = f"{total} requests at once take some {40 * total // 10**9} GB, at most {MOST_REQUESTS} are placed"
            raise TraceError(f"{counts.source}: {problem}; take fewer functions or minutes")
        self.functions, self.minutes = functions, (first, last)
        self.names = tuple(counts.names[row] for row in functions)
        self._method, self._streams = method, streams
        self._place, self._minute = np.nonzero(table[:, first:last])
        self._busy = table[self._place, first + self._minute].astype(np.int64)  # requests of each minute that has any
        self._keys = keys_of(counts)[rows]
        timed = method == "timer_phase"
        self._timers = np.array([timed and counts.triggers[row] == "timer" for row in functions], np.bool_)
        self._skips, self._numbers = self._draws(table[:, :first])
        mean_us = counts.duration_ms[rows] * 1000.0
        self._mean_us: NDArray[np.float64] | None = None
        if not np.isnan(counts.duration_ms).all():
            self._mean_us = np.where(np.isnan(mean_us), np.nanmedian(counts.duration_ms) * 1000.0, mean_us)
        self.repairs = tuple(unknown_run_times(counts, functions))

    def _draws(self, before: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """How many draws of each function lie before the minutes, and how many in them, (F,) each."""
        functions = len(self.functions)
        if self._method == "equidistant":
            return np.zeros(functions, np.int64), np.zeros(functions, np.int64)
        # one draw for each request, and where gaps are drawn one more for the cut of each minute that has any
        skips = before.sum(axis=1, dtype=np.int64)
        numbers = np.bincount(self._place, self._busy, functions).astype(np.int64)
        if self._method == "exponential":
            skips += np.count_nonzero(before, axis=1)
            numbers += np.bincount(self._place, minlength=functions)
        # a timer has one draw, its phase
        skips[self._timers], numbers[self._timers] = 0, numbers[self._timers] > 0
        return skips, numbers

    def place(self, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Arrivals in microseconds from the first minute on, by (time, function), and the function of each."""
        busy = self._busy
        draws = self._streams(seed, self._keys, self._skips, self._numbers)
        if self._method == "exponential":
            offset_us = _exponential(busy, draws)
        elif self._method == "equidistant" or self._timers.any():
            offset_us = _timed(busy, self._place, self._timers, draws, self._numbers)
        else:
            offset_us = _microseconds(draws)
        arrival_us = np.repeat(self._minute * MINUTE_US, busy) + offset_us
        return _by_time(arrival_us, np.repeat(self._place.astype(np.int32), busy), len(self.functions))

    def durations_us(self, arrival_function: NDArray[np.int32]) -> NDArray[np.int64] | None:
        """Run times of requests to these functions, None where no function of the table has one."""
        return None if self._mean_us is None else np.rint(self._mean_us[arrival_function]).astype(np.int64)


def unknown_run_times(counts: Counts, rows: Sequence[int] | None = None) -> Repairs:
    """What expansion does about functions without a run time that have requests; nothing where none has one.

    Args:
        counts: The table.
        rows: Functions that are expanded; None: all.
    """
    chosen = list(range(len(counts.names)) if rows is None else rows)
    repairs, unknown = Repairs("repair"), np.isnan(counts.duration_ms)
    if not unknown.all():
        repairs.note(_NO_RUN_TIME, unknown[chosen] & counts.counts[chosen].any(axis=1))
    return repairs


def function_arrivals(counts: Counts, method: Method, seed: int, function: int) -> NDArray[np.int64]:
    """Arrivals of one function over the whole table, int64 microseconds, ascending; see :func:`expand`."""
    arrival_us, _ = Expansion(counts, method, (function,)).place(seed)
    return arrival_us


def _timed(
    busy: NDArray[np.int64],
    place: NDArray[np.int64],
    timers: NDArray[np.bool_],
    draws: NDArray[np.float64],
    numbers: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Offsets in microseconds at equal distances, shifted by their function's phase; those that are drawn as drawn.

    Args:
        busy: Requests of each minute that has any.
        place: The function of each such minute.
        timers: (F,) which functions have a phase; if none has, no function is drawn.
        draws: One for each timer that has requests, one for each request of another function.
        numbers: (F,) how many draws each has.
    """
    offset_us: NDArray[np.int64] = _rank(busy) * MINUTE_US // np.repeat(busy, busy)
    if not timers.any():
        return offset_us
    is_phase = np.repeat(timers, numbers)
    phase_us = np.zeros(len(timers), np.int64)
    phase_us[timers & (numbers > 0)] = _microseconds(draws[is_phase])
    of_timer = np.repeat(timers[place], busy)
    offset_us = (offset_us + np.repeat(phase_us[place], busy)) % MINUTE_US
    offset_us[~of_timer] = _microseconds(draws[~is_phase])
    return offset_us


def _by_time(
    arrival_us: NDArray[np.int64], arrival_function: NDArray[np.int32], functions: int
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """The same arrivals by (time, function), as :meth:`Trace.build` wants them, which takes longer to sort them itself.

    Time and function are sorted as one number; where they do not fit into one, nothing is done.
    """
    bits = functions.bit_length()
    if int(arrival_us.max(initial=0)) >> (63 - bits):
        return arrival_us, arrival_function
    both = (arrival_us << bits) + arrival_function
    both.sort()
    return both >> bits, (both & ((1 << bits) - 1)).astype(np.int32)


def _microseconds(fraction: NDArray[np.float64]) -> NDArray[np.int64]:
    """Fractions of a minute, below 1, as whole microseconds."""
    return (fraction * MINUTE_US).astype(np.int64)


def _rank(per_minute: NDArray[np.int64]) -> NDArray[np.int64]:
    """Position of each request within its minute: 0, 1, ... for every minute."""
    starts = np.cumsum(per_minute) - per_minute
    return np.arange(int(per_minute.sum()), dtype=np.int64) - np.repeat(starts, per_minute)


def _exponential(busy: NDArray[np.int64], draws: NDArray[np.float64]) -> NDArray[np.int64]:
    """Offsets in microseconds of exponential gaps scaled to fill their minute and turned by a uniform cut.

    The gaps close to a ring of one minute that is cut open at random; without the cut each busy minute would have a
    request at its first microsecond.

    Args:
        busy: Requests of each minute that has any.
        draws: One for each request of a minute, and one for its cut, minute after minute.
    """
    if len(busy) == 0:
        return np.zeros(0, np.int64)
    cut_at = np.cumsum(busy + 1) - 1
    starts = np.cumsum(busy) - busy
    gaps = -np.log1p(-np.delete(draws, cut_at))
    total = np.add.reduceat(gaps, starts)
    # Gaps of exactly 0 only have no scale; they then share one instant.
    scale = MINUTE_US / np.where(total > 0, total, 1.0)
    # Whole microseconds before the running sum: it is then exact, so no minute hangs on the ones before it.
    gaps_us = np.rint(gaps * np.repeat(scale, busy)).astype(np.int64)
    running_us = np.cumsum(gaps_us)
    turn_us = _microseconds(draws[cut_at]) - (running_us[starts] - gaps_us[starts])
    offset_us: NDArray[np.int64] = (running_us + np.repeat(turn_us, busy)) % MINUTE_US
    return offset_us
