"""What kind of function is it: rate, regularity, trigger."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from traces.counts import MINUTE_US, Counts
from traces.expansion import Expansion
from traces.trace import Trace

COV_CLASSES = ("Predictable", "Normal", "Bursty", "Unknown")
"""By the coefficient of variation of the gaps: < 1, 1 to 4, > 4; Unknown with fewer than three requests."""

RATE_GROUPS = ("frequent", "medium", "rare")
"""By the mean rate: at least FREQUENT_PER_MIN, at least MEDIUM_PER_MIN, less."""

FREQUENT_PER_MIN = 2.0
"""About the busiest tenth of Azure's functions."""

MEDIUM_PER_MIN = 0.1
"""About Azure's median; rarer functions have gaps above the usual keep-alive of ten minutes."""

_NORMAL_FROM, _NORMAL_TO = 1.0, 4.0
_PART = 1 << 22
"""Requests and minutes that are placed at once, unless one function alone has more."""


def statistics(source: Counts | Trace) -> pd.DataFrame:
    """Describe each function.

    Args:
        source: A trace, or counts, whose gaps are then those of a uniform expansion with seed 0.

    Returns:
        One row a function, in the order of the source: ``function``, ``owner``, ``trigger``, ``requests`` (int),
        ``rate_per_min``, ``cov`` (standard deviation / mean of the gaps, nan with fewer than three requests),
        ``cov_class`` (one of COV_CLASSES), ``rate_group`` (one of RATE_GROUPS), ``timer`` (bool: the trigger is known
        to be a timer).
    """
    requests, cov = _measure(source)
    rate_per_min = requests / (source.end_us / MINUTE_US)
    return pd.DataFrame(
        {
            "function": list(source.names),
            "owner": list(source.owners),
            "trigger": list(source.triggers),
            "requests": requests,
            "rate_per_min": rate_per_min,
            "cov": cov,
            "cov_class": np.select(
                [cov < _NORMAL_FROM, cov <= _NORMAL_TO, cov > _NORMAL_TO], COV_CLASSES[:3], default=COV_CLASSES[3]
            ),
            "rate_group": np.select(
                [rate_per_min >= FREQUENT_PER_MIN, rate_per_min >= MEDIUM_PER_MIN], RATE_GROUPS[:2], RATE_GROUPS[2]
            ),
            "timer": [trigger == "timer" for trigger in source.triggers],
        }
    )


def cov_of_gaps(arrival_us: NDArray[np.int64]) -> float:
    """Standard deviation over mean of the gaps between ascending arrivals; nan without two gaps or with mean 0."""
    gaps = np.diff(arrival_us)
    if len(gaps) < 2 or gaps.max() == 0:
        return float("nan")
    return float(gaps.std() / gaps.mean())


def _measure(source: Counts | Trace) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Requests and CoV of each function; some functions at a time, as a day's counts expand to a billion requests."""
    pairs = [(len(arrival_us), cov_of_gaps(arrival_us)) for arrival_us in _arrivals(source)]
    return np.array([n for n, _ in pairs], dtype=np.int64), np.array([cov for _, cov in pairs], dtype=np.float64)


def _arrivals(source: Counts | Trace) -> Iterator[NDArray[np.int64]]:
    if isinstance(source, Counts):
        # several functions at a time, since each placing looks at the whole table's names
        requests = source.counts.sum(axis=1, dtype=np.int64)
        part = np.cumsum(requests + source.minutes) // _PART
        parts = np.split(np.arange(len(part)), np.flatnonzero(np.diff(part)) + 1) if len(part) else []
        for functions in parts:
            arrival_us, function = Expansion(source, "uniform", tuple(functions.tolist())).place(0)
            yield from np.split(arrival_us[np.argsort(function, kind="stable")], np.cumsum(requests[functions])[:-1])
    else:
        order = np.argsort(source.arrival_function, kind="stable")
        sizes = np.bincount(source.arrival_function, minlength=len(source.names))
        if len(source.names):
            yield from np.split(source.arrival_us[order], np.cumsum(sizes)[:-1])
