"""IceBreaker's forecast (Roy et al., ASPLOS'22): a quadratic trend and the strongest harmonics of counts per minute.

It is fitted anew at each minute to the minutes before it, at most four hours of them, and fills the table that
pre-warming ICEBREAKER reads (``World.forecast``).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tyche_env.tables import table_row
from tyche_env.world import World

HISTORY = 240
"""Minutes of past that a forecast looks at."""
HARMONICS = 10
"""Strongest ones that it continues."""
_FEWEST = 8
_MINUTE_US = 60_000_000


def with_forecast(world: World) -> World:
    """The world with the chance of a request in each minute of its clock, from its own earlier requests alone."""
    minutes = -(-world.end_us // _MINUTE_US)
    cells = world.arrival_function.astype(np.int64) * minutes + world.arrival_us // _MINUTE_US
    counts = np.bincount(cells, minlength=world.function_count * minutes).reshape(-1, minutes)
    return replace(world, forecast=table_row(rates(counts.astype(np.float64))))


def rates(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Expected requests of each minute, given the minutes before it.

    Args:
        counts: (F, M) requests of each minute.

    Returns:
        (F, M); the first minutes, with too little before them for a trend, get the mean so far.
    """
    forecast = np.zeros_like(counts)
    for minute in range(1, counts.shape[1]):
        past = counts[:, max(0, minute - HISTORY) : minute]
        forecast[:, minute] = past.mean(axis=1) if minute < _FEWEST else _next(past)
    return forecast


def _next(past: NDArray[np.float64]) -> NDArray[np.float64]:
    """(F,) the minute after (F, L) minutes: trend, plus the strongest harmonics of what the trend leaves.

    A harmonic of L minutes begins anew after them, so its value there is the one at minute 0.
    """
    length = past.shape[1]
    at = np.arange(length) / length
    powers = np.column_stack((np.ones(length), at, at * at))
    trend = past @ np.linalg.pinv(powers).T
    waves = np.fft.rfft(past - trend @ powers.T, axis=1)[:, 1:]
    kept = min(HARMONICS, waves.shape[1])
    strongest = np.argsort(-np.abs(waves), axis=1, kind="stable")[:, :kept]
    values: NDArray[np.float64] = trend.sum(axis=1)
    values += 2 * np.take_along_axis(waves, strongest, axis=1).real.sum(axis=1) / length
    return values
