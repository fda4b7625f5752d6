"""From counts per minute to arrival times.

The counts say how many requests a minute has, not when.  Four ways are in use: uniform in the minute (dslab),
exponential gaps rescaled to the minute (invitro), equidistant (FaasCache, InstaInfer), and, since a timer fires at
the same second of its minute, one phase for each timer function.  All conserve every count exactly.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from traces.counts import MINUTE_US, Counts
from traces.errors import TraceError
from traces.repairs import Repairs
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

    Returns:
        The trace.  Each request gets its function's mean run time, if that of any function of the table is known; a
        function without one gets the median of those that have one, which is counted as a repair if it has requests in
        the table, be it in other minutes.

    Raises:
        TraceError: An unknown method, rows or minutes outside the table, or more requests than are expanded at once.
    """
    if method not in METHODS:
        raise TraceError(f"unknown expansion {method!r}, expected one of {', '.join(METHODS)}")
    first, last = (0, counts.minutes) if minutes is None else minutes
    if not 0 <= first < last <= counts.minutes:
        raise TraceError(f"minutes {first}..{last} must be ascending and lie in 0..{counts.minutes}")
    rows = list(range(len(counts.names))) if functions is None else [int(i) for i in functions]
    if rows and not 0 <= min(rows) <= max(rows) < len(counts.names):
        raise TraceError(f"functions must lie in 0..{len(counts.names) - 1}")

    total = int(counts.counts[rows, first:last].sum(dtype=np.int64))
    if total > MOST_REQUESTS:
        problem = f"{total} requests at once take some {40 * total // 10**9} GB, at most {MOST_REQUESTS} are placed"
        raise TraceError(f"{counts.source}: {problem}; take fewer functions or minutes")
    arrival_us, arrival_function = _by_time(*_arrivals(counts, method, seed, rows, first, last), len(rows))
    mean_us = counts.duration_ms[rows] * 1000.0
    known = not np.isnan(counts.duration_ms).all()
    repairs = unknown_run_times(counts, rows)
    if known:
        mean_us = np.where(np.isnan(mean_us), np.nanmedian(counts.duration_ms) * 1000.0, mean_us)
    first_label = counts.first_minute + first
    return Trace.build(
        names=[counts.names[i] for i in rows],
        owners=[counts.owners[i] for i in rows],
        triggers=[counts.triggers[i] for i in rows],
        arrival_us=arrival_us,
        arrival_function=arrival_function,
        duration_us=np.rint(mean_us[arrival_function]).astype(np.int64) if known else None,
        end_us=(last - first) * MINUTE_US,
        source=counts.source,
        licence=counts.licence,
        window=f"minutes {first_label}..{first_label + last - first - 1}",
        expansion=method,
        seed=None if method == "equidistant" else seed,
        repairs=(*counts.repairs, *repairs),
        start_us=counts.start_us + first * MINUTE_US,
    )


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
    arrival_us, _ = _arrivals(counts, method, seed, [function], 0, counts.minutes)
    return np.sort(arrival_us)


def _arrivals(
    counts: Counts, method: Method, seed: int, rows: list[int], first: int, last: int
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Arrivals function after function, in no order within each, and which of ``rows`` each belongs to."""
    table = counts.counts if rows == list(range(len(counts.names))) else counts.counts[rows]
    place, minute = np.nonzero(table[:, first:last])
    requests = table[place, first + minute].astype(np.int64)  # of each minute that has any
    ends = np.searchsorted(place, np.arange(len(rows)), side="right")
    skips = table[:, :first].sum(axis=1, dtype=np.int64)
    if method == "exponential":  # one draw for each gap and one for the cut of each minute that has requests
        skips += np.count_nonzero(table[:, :first], axis=1)
    offsets_us = [np.zeros(0, np.int64)]
    start = 0
    for row, end, skip in zip(rows, ends.tolist(), skips.tolist(), strict=True):
        if end > start:
            offsets_us.append(_offsets_us(counts, method, seed, row, requests[start:end], skip))
        start = end
    arrival_us = np.repeat(minute * MINUTE_US, requests) + np.concatenate(offsets_us)
    return arrival_us, np.repeat(place.astype(np.int32), requests)


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


def _offsets_us(
    counts: Counts, method: Method, seed: int, row: int, busy: NDArray[np.int64], skip: int
) -> NDArray[np.int64]:
    """Where in its minute each request of a function comes, in microseconds.

    Args:
        counts: the table.
        method: see :func:`expand`.
        seed: see :func:`expand`.
        row: the function.
        busy: requests of each minute that has any.
        skip: draws of the minutes before.
    """
    timer = method == "timer_phase" and counts.triggers[row] == "timer"
    if method == "equidistant" or timer:
        phase_us = _microseconds(_generator(counts, seed, row, 0).random(1)) if timer else 0
        offset_us: NDArray[np.int64] = (_rank(busy) * MINUTE_US // np.repeat(busy, busy) + phase_us) % MINUTE_US
        return offset_us
    generator = _generator(counts, seed, row, skip)
    if method == "exponential":
        return _exponential(busy, generator)
    return _microseconds(generator.random(int(busy.sum())))


def _microseconds(fraction: NDArray[np.float64]) -> NDArray[np.int64]:
    """Fractions of a minute, below 1, as whole microseconds."""
    return (fraction * MINUTE_US).astype(np.int64)


def _generator(counts: Counts, seed: int, row: int, skip: int) -> np.random.Generator:
    """The function's own stream, moved on by the draws of the minutes before."""
    key = _key("\0".join((counts.owners[row], counts.apps[row], counts.names[row])))
    bits = np.random.PCG64(np.random.SeedSequence((seed, key)))
    return np.random.Generator(bits.advance(skip))


@lru_cache(maxsize=1 << 16)
def _key(identity: str) -> int:
    return int.from_bytes(hashlib.sha256(identity.encode()).digest()[:16], "little")


def _rank(per_minute: NDArray[np.int64]) -> NDArray[np.int64]:
    """Position of each request within its minute: 0, 1, ... for every minute."""
    starts = np.cumsum(per_minute) - per_minute
    return np.arange(int(per_minute.sum()), dtype=np.int64) - np.repeat(starts, per_minute)


def _exponential(busy: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.int64]:
    """Offsets in microseconds of exponential gaps scaled to fill their minute and turned by a uniform cut.

    The gaps close to a ring of one minute that is cut open at random; without the cut each busy minute would have a
    request at its first microsecond.

    Args:
        busy: Requests of each minute that has any.
        generator: Source of the draws.
    """
    draws = generator.random(int(busy.sum()) + len(busy))
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
