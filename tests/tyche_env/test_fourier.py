"""IceBreaker's forecast of counts per minute."""

from __future__ import annotations

import numpy as np
import pytest

from tyche_env.fourier import HISTORY, rates, with_forecast
from tyche_env.scenario import Conditions, Scenario
from tyche_env.tables import ONE_Q20


def test_the_first_minutes_get_the_mean_so_far() -> None:
    forecast = rates(np.array([[2.0, 0.0, 4.0, 0.0, 0.0]]))
    assert forecast[0].tolist() == [0, 2, 1, 2, 1.5]


def test_a_constant_and_a_quadratic_are_continued() -> None:
    at = np.arange(40.0)
    counts = np.stack([np.full(40, 3.0), 0.01 * at * at])
    assert rates(counts)[:, 8:] == pytest.approx(counts[:, 8:], abs=1e-9)


def test_a_period_that_fits_into_the_history_is_continued() -> None:
    counts = np.zeros((1, HISTORY + 60))
    counts[0, ::30] = 1.0
    forecast = rates(counts)[0, HISTORY:]
    assert set(np.flatnonzero(forecast > 0.6)) == {0, 30}
    assert forecast[0] > 2 * np.delete(forecast, [0, 30]).max()


def test_a_minute_is_forecast_from_those_before_it() -> None:
    random = np.random.default_rng(0)
    counts = random.poisson(0.3, (3, 300)).astype(float)
    changed = counts.copy()
    changed[:, 250:] = 9.0
    assert rates(counts)[:, :251].tolist() == rates(changed)[:, :251].tolist()


def test_a_world_with_icebreaker_has_a_forecast() -> None:
    world = Scenario.load("small").world(conditions=Conditions("icebreaker"))
    minutes = world.end_us // 60_000_000
    assert world.forecast.shape == (world.function_count, minutes)
    assert 0 <= world.forecast.min() < world.forecast.max() <= ONE_Q20
    assert with_forecast(world).forecast.tolist() == world.forecast.tolist()
