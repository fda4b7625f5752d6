"""Predictors: what they are, and those that are built in.

A predictor expects a number of requests for each minute, from what happened before that minute only.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from agents.policies.predictors.arima import arima_rates
from agents.policies.predictors.forest import forest_rates

Rates = Callable[[NDArray[np.float64], int], NDArray[np.float64]]
"""(counts of past and present minutes, first present minute) -> expected requests in each present minute."""

TABLES: dict[str, Rates] = {"arima": arima_rates, "forest": forest_rates}
"""Fitted predictors by the name of their policy."""
