"""ARIMA on the counts per minute, one model a function (Shahrad et al., ATC'20, use it for out-of-range functions).

Coefficients come from the Yule-Walker equations: unlike maximum likelihood they always give a stationary model, which
counts that are 0 nearly everywhere otherwise often do not.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ORDER = (5, 0, 0)
"""Five lags around a mean: small enough for a few hours of sparse counts; not searched for."""

_FEWEST_MINUTES = 30


def arima_rates(counts: NDArray[np.float64], past: int) -> NDArray[np.float64]:
    """One-step forecasts of the counts per minute.

    The coefficients are fitted to the past and stay; the state follows each minute that has ended.

    Args:
        counts: (past + M,) requests of each minute.
        past: minutes that the model may be fitted to.

    Returns:
        (M,) expected requests of each later minute, given those before it.  With less than half an hour of past, or one
        that does not vary, the mean so far.
    """
    if past < _FEWEST_MINUTES or np.ptp(counts[:past]) == 0:
        return running_mean(counts)[past:]
    from statsmodels.tsa.arima.model import ARIMA

    fitted = ARIMA(counts[:past], order=ORDER).fit(method="yule_walker")
    forecasts: NDArray[np.float64] = np.asarray(fitted.apply(counts).predict(start=past, end=len(counts) - 1))
    return forecasts


def running_mean(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """(T,) mean of the minutes before each; 0 for the first."""
    before = np.cumsum(counts) - counts
    mean: NDArray[np.float64] = before / np.maximum(1, np.arange(len(counts)))
    return mean
