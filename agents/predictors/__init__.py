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
from traces.counts import MINUTE_US
from tyche_env.sources import requests_of
from tyche_env.tables import table_row as table_row

if TYPE_CHECKING:
    from traces import Window
    from tyche_env.scenario import Scenario
    from tyche_env.world import World

Rates = Callable[[NDArray[np.float64], int], NDArray[np.float64]]
"""(counts of past and present minutes, first present minute) -> expected requests in each present minute."""

History = tuple[NDArray[np.float64], int]
"""The counts of each minute up to a world's end, and how many of them lie before its time 0."""

TABLES: dict[str, Rates] = {"arima": arima_rates, "forest": forest_rates}
"""Fitted predictors by the name of their policy."""


def forecast(rates: Rates, world: World, histories: Sequence[History]) -> World:
    """The world with the forecasts of one predictor.

    Args:
        rates: the predictor.
        world: whose functions are forecast.
        histories: (F,) what the predictor may be fitted to.

    Raises:
        ModuleNotFoundError: the extra ``experiments`` is not installed.
    """
    return replace(world, forecast=np.stack([table_row(rates(counts, past)) for counts, past in histories]))


def histories_of(scenario: Scenario, window: Window, seed: int) -> list[History]:
    """What predictors may know about the functions of a scenario's window: from the start of the trace on.

    Minutes are cut so that the window, warm-up included, begins with one.
    """
    requests = requests_of(scenario.trace, seed, window.functions)
    by_function = np.argsort(requests.arrival_function, kind="stable")
    sizes = np.bincount(requests.arrival_function, minlength=len(window.functions))
    minutes = -(-(window.end_us - window.start_us) // MINUTE_US)
    return [
        history(arrival_us, window.start_us, minutes)
        for arrival_us in np.split(requests.arrival_us[by_function], np.cumsum(sizes)[:-1])
    ]


def history(arrival_us: NDArray[np.int64], start_us: int, minutes: int) -> History:
    """Counts of one function's sorted arrivals, from the start of the trace to so many minutes after ``start_us``."""
    past = start_us // MINUTE_US
    edges_us = start_us + np.arange(-past, minutes + 1, dtype=np.int64) * MINUTE_US
    return np.diff(np.searchsorted(arrival_us, edges_us)).astype(np.float64), past
