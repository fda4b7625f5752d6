"""The batch of functions on priced memory, over clusters whose rows, waits and ends are planted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from agents.training import vec_envs as vec_envs_module
from agents.training.vec_envs import HoldPriceVecEnv
from tyche_env.features import WIDTH, features_of
from tyche_env.network import INPUTS
from tyche_env.scenario import Scenario
from tyche_env.spaces import column

CLUSTERS, FUNCTIONS = 2, 3


def rows(**columns: list[float]) -> Any:
    """The functions of both clusters; the last of each is padding unless it has memory."""
    out = np.zeros((CLUSTERS * FUNCTIONS, WIDTH), np.float32)
    for name, values in (
        {"hold_mb": [100, 100, 0] * 2, "arrivals_count": [1] * 6, "saved_s": [2] * 6} | columns
    ).items():
        out[:, column("functions", name)] = values
    out[:, column("functions", "censored_rate_per_s")] = 1
    return out


class Batch:
    """Stands in for the batched environment."""

    num_envs, max_functions = CLUSTERS, FUNCTIONS

    def __init__(self, clusters: int, scenario: Scenario, *, measure_loads: bool) -> None:
        assert (clusters, len(scenario.cluster.nodes), measure_loads) == (CLUSTERS, 1, True)
        self.acted: list[Any] = []
        self.steps: list[Any] = []

    def reset(self, seed: int | None = None) -> Any:
        return {"functions": rows().reshape(CLUSTERS, -1)}, {}

    def step(self, action: Any) -> Any:
        self.acted.append(action)
        seen, waited_s, loading_s, ended, last = self.steps.pop(0)
        infos: dict[str, Any] = {
            "function_rewards": -np.array(waited_s, np.float64).reshape(CLUSTERS, FUNCTIONS),
            "loading_us": (1e6 * np.array(loading_s)).astype(np.int64).reshape(CLUSTERS, FUNCTIONS),
        }
        if any(ended):
            infos["final_obs"] = np.full(CLUSTERS, None)
            for at in np.flatnonzero(ended):
                infos["final_obs"][at] = {"functions": last.reshape(CLUSTERS, -1)[at]}
        return {"functions": seen.reshape(CLUSTERS, -1)}, np.zeros(2), np.zeros(2, bool), np.array(ended), infos


@pytest.fixture
def env(monkeypatch: pytest.MonkeyPatch) -> HoldPriceVecEnv:
    monkeypatch.setattr(vec_envs_module, "PreloadVectorEnv", Batch)
    made = HoldPriceVecEnv(CLUSTERS, "small", prices=(0.1, 0.4), load_cost=0.05)
    made.seed(1)
    made.reset()
    return made


def plan(env: HoldPriceVecEnv, *steps: Any) -> None:
    batch: Any = env.batch
    batch.steps = list(steps)


@pytest.fixture
def price_of() -> Callable[[Any], Any]:
    return lambda observed: np.exp(np.asarray(observed)[:, INPUTS].astype(np.float64))


def test_each_function_pays_its_own_price_and_waits_for_itself(env: HoldPriceVecEnv, price_of: Any) -> None:
    price = np.exp(env._log_price)
    assert len(set(price)) == 6
    assert ((price >= 0.1) & (price <= 0.4)).all()
    after = rows(held_count=[1, 0, 1, 0, 1, 1])
    plan(env, (after, [0, 1, 9, 0.5, 0, 9], [2, 0, 2, 0, 0.5, 0], [False, False], None))
    seen, rewards, ended, infos = env.step(np.array([1, 0, 1, 0, 1, 1]))
    # a start saves 2 s, as long as a load takes: one whole, and a quarter of one; padding earns nothing
    expected = [-price[0] - 0.05, -0.5, 0, -0.25, -price[4] - 0.05 / 4, 0]
    assert rewards == pytest.approx(expected)
    assert not ended.any()
    assert not any(infos)
    np.testing.assert_array_equal(np.asarray(seen)[:, :INPUTS], features_of(after))
    assert price_of(seen) == pytest.approx(price)
    batch: Any = env.batch
    assert batch.acted[0].tolist() == [[[1, -1], [-1, -1], [1, -1]], [[-1, -1], [1, -1], [1, -1]]]


def test_the_last_step_is_paid_by_what_was_there_and_then_prices_are_drawn_anew(
    env: HoldPriceVecEnv, price_of: Any
) -> None:
    price = np.exp(env._log_price)
    # the second cluster ends; it was held to the end, and is empty in the new episode
    last, after = rows(held_count=[0, 0, 0, 1, 0, 0], age_s=[7] * 6), rows(held_count=[1, 0, 0, 0, 0, 0])
    plan(env, (after, [0] * 6, [0] * 6, [False, True], last), (after, [0] * 6, [0] * 6, [False, False], None))
    seen, rewards, ended, infos = env.step(np.ones(6, np.int64))
    assert rewards == pytest.approx([-price[0], 0, 0, -price[3], 0, 0])
    assert ended.tolist() == [False] * 3 + [True] * 3
    assert [sorted(info) for info in infos] == [[]] * 3 + [["TimeLimit.truncated", "terminal_observation"]] * 3
    for row in (3, 4, 5):
        final = infos[row]["terminal_observation"]
        np.testing.assert_array_equal(final[:INPUTS], features_of(last)[row])
        assert np.exp(final[INPUTS]) == pytest.approx(price[row])
    assert price_of(seen)[:3] == pytest.approx(price[:3])
    fresh = price_of(seen)[3:]
    assert (np.abs(fresh - price[3:]) > 1e-6).all()
    assert ((fresh >= 0.1 - 1e-6) & (fresh <= 0.4 + 1e-6)).all()
    # what is shown is the new episode, and it pays the new prices
    np.testing.assert_array_equal(np.asarray(seen)[:, :INPUTS], features_of(after))
    plan(env, (rows(held_count=[1, 0, 0, 1, 0, 0]), [0] * 6, [0] * 6, [False, False], None))
    _, rewards, _, _ = env.step(np.ones(6, np.int64))
    assert rewards == pytest.approx([-price[0], 0, 0, -fresh[0], 0, 0])
