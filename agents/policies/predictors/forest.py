"""A random forest on recent counts and the age of the last request, one model a function."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agents.policies.predictors.arima import running_mean

TREES = 30
LEAF = 10
SPANS = (1, 2, 5, 15, 60)
"""Minutes over which past counts are summed."""

_FEWEST_MINUTES = 60
_LONG_AGO = 240.0


def forest_rates(counts: NDArray[np.float64], past: int) -> NDArray[np.float64]:
    """Forecasts of the counts per minute.

    Args:
        counts: (past + M,) requests of each minute.
        past: minutes that the forest is trained on.

    Returns:
        (M,) expected requests of each later minute, given those before it.  With less than an hour of past, or one that
        does not vary, the mean so far.
    """
    if past < _FEWEST_MINUTES or np.ptp(counts[:past]) == 0:
        return running_mean(counts)[past:]
    from sklearn.ensemble import RandomForestRegressor

    table = features(counts)
    forest = RandomForestRegressor(TREES, min_samples_leaf=LEAF, random_state=0, n_jobs=1)
    forest.fit(table[1:past], counts[1:past])
    forecasts: NDArray[np.float64] = forest.predict(table[past:])
    return forecasts


def features(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """What is known before each minute: sums over :data:`SPANS`, age of the last request, last gap, minute of the hour.

    Args:
        counts: (T,) requests of each minute.

    Returns:
        (T, K) features; row t uses minutes before t only.
    """
    total = np.concatenate(([0.0], np.cumsum(counts)))
    minute = np.arange(len(counts))
    columns = [total[minute] - total[np.maximum(0, minute - span)] for span in SPANS]
    busy = counts > 0
    # Index of the last busy minute up to and including t, and of the one before it.
    last = np.maximum.accumulate(np.where(busy, minute, -1))
    previous = np.concatenate(([-1], last[:-1]))
    before = np.where(previous >= 0, np.concatenate(([-1], last[:-1]))[np.maximum(previous, 0)], -1)
    age = np.where(previous >= 0, minute - previous, _LONG_AGO)
    gap = np.where(before >= 0, previous - before, _LONG_AGO)
    return np.column_stack([*columns, np.minimum(age, _LONG_AGO), np.minimum(gap, _LONG_AGO), minute % 60])
