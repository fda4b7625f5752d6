"""How requests lie in time: daily shape, autocorrelation, silence, concentration; and how alike two traces are."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from traces.counts import MINUTE_US, Counts
from traces.describe import statistics
from traces.expansion import expand
from traces.trace import Trace

_HOUR_MIN, _DAY_MIN = 60, 1440
_STEADY_COV = 0.05
_FEWEST_STEADY = 5


@dataclass(frozen=True, slots=True)
class Shape:
    """What a whole trace looks like; None where the trace is too short to tell.

    Attributes:
        top_1_percent_share: share of the requests that the busiest hundredth of the functions gets (at least one).
        autocorrelation_1h: of the requests per minute with those an hour later.
        autocorrelation_24h: the same with those a day later.
        daily_swing: amplitude of the wave of 24 h in the requests per minute, over their mean.
        silent_minutes: share of the minutes without any request.
        longest_gap_min: longest time without any request, in minutes.
        steady_functions: functions whose gaps vary by less than 5 %: timers, whether named so or not.
    """

    top_1_percent_share: float | None
    autocorrelation_1h: float | None
    autocorrelation_24h: float | None
    daily_swing: float | None
    silent_minutes: float
    longest_gap_min: float
    steady_functions: int

    def as_dict(self) -> dict[str, float | int | None]:
        """The values by name."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Fidelity:
    """How far one trace's functions are from another's.

    Attributes:
        ks_rate: Kolmogorov-Smirnov distance of the functions' mean rates, 0 (alike) to 1.
        ks_cov: the same of the CoV of their gaps, of functions with three requests or more.
        first: shape of the first trace.
        second: shape of the second.
    """

    ks_rate: float
    ks_cov: float
    first: Shape
    second: Shape


def per_minute(source: Counts | Trace) -> NDArray[np.int64]:
    """(M,) requests of all functions in each minute; a last minute that is cut short counts as one."""
    if isinstance(source, Counts):
        total: NDArray[np.int64] = source.counts.sum(axis=0, dtype=np.int64)
        return total
    minutes = max(1, -(-source.end_us // MINUTE_US))
    return np.bincount(source.arrival_us // MINUTE_US, minlength=minutes)


def shape(source: Counts | Trace, table: pd.DataFrame | None = None) -> Shape:
    """Describe a trace as a whole.

    Args:
        source: A trace, or counts, whose gaps are then those of a uniform expansion with seed 0.
        table: Its :func:`traces.describe.statistics`, if they are known.
    """
    table = statistics(source) if table is None else table
    counts = per_minute(source)
    requests = np.sort(table["requests"].to_numpy())[::-1]
    busiest = requests[: max(1, len(requests) // 100)].sum()
    steady = (table["cov"] < _STEADY_COV) & (table["requests"] >= _FEWEST_STEADY)
    return Shape(
        top_1_percent_share=float(busiest / requests.sum()) if requests.sum() else None,
        autocorrelation_1h=_autocorrelation(counts, _HOUR_MIN),
        autocorrelation_24h=_autocorrelation(counts, _DAY_MIN),
        daily_swing=_swing(counts),
        silent_minutes=float(np.mean(counts == 0)),
        longest_gap_min=_longest_gap_min(source, counts),
        steady_functions=int((steady | table["timer"]).sum()),
    )


def fidelity(first: Counts | Trace, second: Counts | Trace) -> Fidelity:
    """Compare two traces; the functions of neither need to be those of the other."""
    tables = [statistics(source) for source in (first, second)]
    rates, covs = ([table[name].dropna().to_numpy() for table in tables] for name in ("rate_per_min", "cov"))
    return Fidelity(
        ks_rate=_distance(*rates),
        ks_cov=_distance(*covs),
        first=shape(first, tables[0]),
        second=shape(second, tables[1]),
    )


def halves(source: Counts | Trace) -> tuple[Counts | Trace, Counts | Trace]:
    """Two random halves of the functions: how far these are apart is what chance alone does to so many functions."""
    order = np.random.default_rng(0).permutation(len(source.names))
    middle = len(order) // 2
    return source.select(np.sort(order[:middle])), source.select(np.sort(order[middle:]))


def as_trace(source: Counts | Trace) -> Trace:
    """A trace: counts are expanded, timers at one second of their minutes."""
    return expand(source, "timer_phase") if isinstance(source, Counts) else source


def _distance(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    if len(first) == 0 or len(second) == 0:
        return float("nan")
    at = np.concatenate((first, second))
    shares = (np.searchsorted(np.sort(values), at, side="right") / len(values) for values in (first, second))
    return float(np.abs(np.subtract(*shares)).max())


def _autocorrelation(counts: NDArray[np.int64], lag: int) -> float | None:
    """Correlation with the series shifted; None below two lags of length, or where nothing varies."""
    if len(counts) < 2 * lag:
        return None
    early, late = counts[:-lag].astype(np.float64), counts[lag:].astype(np.float64)
    if early.std() == 0 or late.std() == 0:
        return None
    return float(np.corrcoef(early, late)[0, 1])


def _swing(counts: NDArray[np.int64]) -> float | None:
    """Amplitude of the daily wave over the mean, over whole days."""
    days = len(counts) // _DAY_MIN
    whole = counts[: days * _DAY_MIN]
    if days == 0 or whole.sum() == 0:
        return None
    wave = np.exp(-2j * np.pi * np.arange(len(whole)) / _DAY_MIN)
    return float(2.0 * abs(np.dot(whole, wave)) / whole.sum())


def _longest_gap_min(source: Counts | Trace, counts: NDArray[np.int64]) -> float:
    if isinstance(source, Trace):
        edges = np.concatenate(([0], source.arrival_us, [source.end_us]))
        return float(np.diff(edges).max() / MINUTE_US)
    busy = np.flatnonzero(counts)
    edges = np.concatenate(([-1], busy, [len(counts)]))
    return float(max(0, np.diff(edges).max() - 1))
