"""Fitted predictors, on counts whose next minute is known."""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import pytest

import agents
from agents.policies.history import history_within
from agents.policies.policy import PolicyError
from agents.policies.predictors import TABLES
from agents.policies.predictors.arima import running_mean
from agents.policies.predictors.forest import features
from tyche_env.scenario import Conditions, Scenario
from tyche_env.tables import ONE_Q20, table_row

LIBRARIES = pytest.mark.slow
"""What needs scikit-learn or statsmodels, which the quick tests do without."""


def test_probabilities_are_those_of_a_poisson_count() -> None:
    assert table_row(np.array([0.0, -1.0, np.log(2.0), 50.0])).tolist() == [0, 0, ONE_Q20 // 2, ONE_Q20]


def test_the_running_mean_knows_only_what_is_past() -> None:
    assert running_mean(np.array([4.0, 2.0, 0.0])).tolist() == [0.0, 4.0, 3.0]


def test_features_of_a_minute_use_the_minutes_before_it() -> None:
    table = features(np.array([0.0, 3.0, 0.0, 1.0, 0.0]))
    # Sums over 1, 2, 5, 15 and 60 minutes, age of the last request, gap before it, minute of the hour.
    assert table[0].tolist() == [0, 0, 0, 0, 0, 240, 240, 0]
    assert table[3].tolist() == [0, 3, 3, 3, 3, 2, 240, 3]
    assert table[4].tolist() == [1, 1, 4, 4, 4, 1, 2, 4]


@LIBRARIES
@pytest.mark.parametrize("name", TABLES)
def test_the_future_changes_no_forecast(name: str) -> None:
    counts = np.random.default_rng(3).poisson(0.2, 400).astype(float)
    changed = counts.copy()
    changed[350:] = 9
    before, after = TABLES[name](counts, 300), TABLES[name](changed, 300)
    assert before[:51].tolist() == pytest.approx(after[:51].tolist())


@LIBRARIES
@pytest.mark.parametrize("name", TABLES)
def test_little_or_no_past_gives_the_mean_so_far(name: str) -> None:
    counts = np.array([1.0, 0.0, 1.0, 0.0])
    assert TABLES[name](counts, 2).tolist() == running_mean(counts)[2:].tolist()
    quiet = np.zeros(200)
    assert TABLES[name](quiet, 150).tolist() == [0.0] * 50


def test_a_predictor_is_fitted_before_it_is_played_and_never_beside_icebreaker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(TABLES, "forest", lambda counts, first: np.zeros(len(counts) - first))
    scenario = Scenario.load("small")
    world = scenario.world(conditions=Conditions("icebreaker"))
    policy = agents.load("forest")
    with pytest.raises(PolicyError, match=r"policy forest: has to be fitted first; policy.prepare\(history\) does it"):
        agents.play(world, policy)
    with pytest.raises(PolicyError, match="fills the table of forecasts that pre-warming icebreaker reads"):
        agents.play(world, policy.prepare(history_within(world)))


def test_a_world_without_a_trace_has_no_past() -> None:
    world = Scenario.load("small").world()
    minutes = history_within(world).minutes()
    assert {past for _, past in minutes} == {0}
    assert [counts.sum() for counts, _ in minutes] == np.bincount(world.arrival_function, minlength=40).tolist()


@LIBRARIES
def test_a_forest_learns_a_timer() -> None:
    counts = np.zeros(600)
    counts[::5] = 1
    rates = TABLES["forest"](counts, 400)
    assert rates[::5].min() > 0.9
    assert rates[1::5].max() < 0.1


@LIBRARIES
def test_arima_follows_the_level() -> None:
    counts = np.random.default_rng(4).poisson(2.0, 600).astype(float)
    assert TABLES["arima"](counts, 400).mean() == pytest.approx(2.0, abs=0.3)


def test_arima_is_fitted_to_the_past_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for the library, which the quick tests do without."""
    fitted: list[list[float]] = []

    class Model:
        def __init__(self, counts: np.ndarray[tuple[int], np.dtype[np.float64]], order: tuple[int, int, int]) -> None:
            fitted.append(counts.tolist())

        def fit(self, method: str) -> Model:
            return self

        def apply(self, counts: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Model:
            self.all = counts
            return self

        def predict(self, start: int, end: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
            return self.all[start - 1 : end]

    package = ModuleType("statsmodels.tsa.arima.model")
    package.ARIMA = Model  # type: ignore[attr-defined]
    for name in ("statsmodels", "statsmodels.tsa", "statsmodels.tsa.arima"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "statsmodels.tsa.arima.model", package)
    counts = np.arange(60.0) % 7
    found = TABLES["arima"](counts, 40)
    assert fitted == [counts[:40].tolist()]
    assert found.tolist() == counts[39:59].tolist()
