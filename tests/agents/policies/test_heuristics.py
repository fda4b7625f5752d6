"""The built-in heuristics on observations: the decisions of their row kernels."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

import agents
from tyche_env.control.kernels import DEAD_ZONE
from tyche_env.spaces import FUNCTION_COLUMNS, column

Rows = dict[str, NDArray[np.float32]]


def observation(*rows: dict[str, float]) -> Rows:
    """An observation whose functions have these columns; the others are 0."""
    table = np.zeros((len(rows), len(FUNCTION_COLUMNS)), dtype=np.float32)
    for place, row in enumerate(rows):
        for name, value in row.items():
            table[place, column("functions", name)] = value
    return {"functions": table.reshape(-1)}


def act(name: str, rows: Rows) -> NDArray[np.float32]:
    action: NDArray[np.float32] = agents.load(name).predict(rows)[0]
    return action


def seen(age_s: float, gap_s: float = 100.0) -> dict[str, float]:
    """A function with ten requests in its window, the last one so long ago."""
    return {"window_count": 10, "mean_gap_s": gap_s, "age_s": age_s, "window_age_s": 10 * gap_s + age_s}


def test_tyche_waits_then_holds_then_drops() -> None:
    # Mean gap 100 s: the window opens at -ln(0.94) x 100 = 6.2 s and closes at -ln(0.06) x 100 = 281.3 s.
    action = act("tyche", observation(seen(6.1), seen(6.3), seen(281.0), seen(281.5), {}))
    assert action.dtype == np.float32
    hold = DEAD_ZONE + (1 - DEAD_ZONE) * (1 - math.exp(-60 / 100))
    assert action[:, 0].tolist() == pytest.approx([0.0, hold, hold, -1.0, 0.0], abs=0.01)
    assert np.array_equal(action[:, 0], action[:, 1])


def test_censored_lets_the_chance_fall_while_nothing_comes() -> None:
    soon, late = act("censored", observation(seen(1.0), seen(10_000.0)))[:, 0]
    assert soon > late > DEAD_ZONE


def test_the_histogram_holds_by_its_probability() -> None:
    probable = {"window_count": 5, "histogram_60s": 0.5}
    outlived = {"window_count": 5, "histogram_60s": 0.0}
    action = act("tyche-histogram", observation(probable, outlived, {}))[:, 0]
    assert action.tolist() == pytest.approx([0.525, -1.0, 0.0])


@pytest.mark.parametrize("name", ["none", "lru"])
def test_none_and_lru_leave_everything(name: str) -> None:
    assert not act(name, observation(seen(10), seen(1000))).any()


def test_random_draws_anew_at_each_call_but_the_same_again() -> None:
    policy = agents.load("random")
    rows = observation(*[seen(10)] * 50)
    first, state = policy.predict(rows)
    second, _ = policy.predict(rows, state)
    again, _ = policy.predict(rows)
    assert not np.array_equal(first, second)
    assert np.array_equal(first, again)
    assert {float(np.sign(value)) for value in first[:, 0]} == {-1.0, 0.0, 1.0}


@pytest.mark.parametrize("name", ["none", "lru", "tyche", "tyche-histogram", "censored", "random"])
def test_vector_environments_are_answered_at_once(name: str) -> None:
    single = observation(seen(10), seen(1000), {})
    stacked = {"functions": np.stack([single["functions"]] * 4)}
    action, _ = agents.load(name).predict(stacked)
    assert action.shape == (4, 3, 2)
    assert action.dtype == np.float32
    assert np.abs(action).max() <= 1.0
