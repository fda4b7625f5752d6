"""Predictors that are fitted outside the loop, into tables that both engines read (``Kernel.TABLE``).

A table holds, for each function and minute, the chance of a request within the next 60 s, computed from what happened
before that minute only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from agents.predictors.arima import arima_rates
from agents.predictors.forest import forest_rates
from tyche_env.tables import ONE_Q20

if TYPE_CHECKING:
    from tyche_env.world import World

Rates = Callable[[NDArray[np.float64], int], NDArray[np.float64]]
"""(counts of past and present minutes, first present minute) -> expected requests in each present minute."""

TABLES: dict[str, Rates] = {"arima": arima_rates, "forest": forest_rates}
"""Fitted predictors by the name of their policy."""


def forecast(name: str, world: World, histories: Sequence[tuple[NDArray[np.float64], int]]) -> World:
    """The world with the forecasts of one predictor.

    Args:
        name: one of :data:`TABLES`.
        world: whose functions are forecast.
        histories: (F,) for each function the counts of each minute up to the world's end, and how many of them lie
            before its time 0: what the predictor may be fitted to.

    Raises:
        ModuleNotFoundError: the extra ``experiments`` is not installed.
    """
    rates = TABLES[name]
    return replace(world, forecast=np.stack([table_row(rates(counts, past)) for counts, past in histories]))


def table_row(rates: NDArray[np.float64]) -> NDArray[np.int32]:
    """P(at least one request) in 2^-20 of Poisson counts with these means; negative forecasts count as none."""
    chance: NDArray[np.int32] = np.rint(-np.expm1(-np.maximum(0.0, rates)) * ONE_Q20).astype(np.int32)
    return chance
