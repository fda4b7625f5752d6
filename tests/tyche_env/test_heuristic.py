"""A built-in policy asked through observations decides as its kernel does inside the engine."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.tyche_env.conftest import MakeEnv
from tyche_env.errors import UserError
from tyche_env.heuristic import actions_of, predict_rows
from tyche_env.scenario import Scenario
from tyche_env.simulate import simulate
from tyche_env.spaces import Observation
from tyche_env.world import Decision, Kernel, Settings

ONE = 1 << 20
ASKABLE = [Kernel.LRU, Kernel.TYCHE, Kernel.CENSORED, Kernel.HISTOGRAM]


def near(first: NDArray[np.void], second: NDArray[np.void]) -> float:
    """Share of requests whose records are equal to the microsecond."""
    a, b = np.sort(first, order="request"), np.sort(second, order="request")
    assert np.array_equal(a["request"], b["request"])
    return float((a == b).mean())


@pytest.mark.parametrize("decision_interval_s", [1, 10, 60])
@pytest.mark.parametrize("kernel", ASKABLE)
def test_through_the_environment_the_log_is_the_kernels(
    tiny: Scenario, make_env: MakeEnv, kernel: Kernel, decision_interval_s: float
) -> None:
    """Observations are float32, so times are off by up to 1e-7 of their size and priorities by 2^-20.

    Such a difference shows only where a decision falls within it of a threshold, or two densities tie: at most in one
    request of a hundred, and in means by less than 1 %.
    """
    env = make_env(split="test", decision_interval_s=decision_interval_s)
    for window in range(3):
        observation, _ = env.reset(seed=window, options={"window": window})
        truncated = False
        while not truncated:
            action = predict_rows(kernel, observation, env.world.settings)
            observation, _, _, truncated, _ = env.step(action)
        found = env.result()
        expected = simulate(tiny.world("test", window, window, kernel), decision=decision_interval_s)
        assert found.log is not None
        assert expected.log is not None
        assert near(found.log, expected.log) >= 0.99
        for name in ("warming_loading_us", "end_to_end_us"):
            assert found.totals[name].sum() == pytest.approx(expected.totals[name].sum(), rel=0.01)
        assert found.counters["loads"] == pytest.approx(expected.counters["loads"], rel=0.02)


def test_timers_come_from_the_settings(make_env: MakeEnv) -> None:
    env = make_env()
    env.reset(seed=0)
    truncated = False
    never = Settings(load_ppm=10**9, offload_ppm=10**9)
    always = Settings(load_ppm=0, offload_ppm=10**9)
    while not truncated:
        observation, _, _, truncated, _ = env.step(np.zeros((10, 2), np.float32))
    several = observation["functions"].reshape(10, -1)[:, 1] > 1
    assert several.any()
    assert not predict_rows(Kernel.TYCHE, observation, never)[several].any()
    assert (predict_rows(Kernel.TYCHE, observation, always)[several] > 0.05).all()


def test_nothing_is_done_about_functions_never_requested(make_env: MakeEnv) -> None:
    observation, _ = make_env(max_functions=12).reset(seed=0)
    for kernel in ASKABLE:
        action = predict_rows(kernel, observation)
        assert action.shape == (12, 2)
        assert action.dtype == np.float32
        assert not action.any()


@pytest.mark.parametrize("kernel", [Kernel.ORACLE, Kernel.MINUTE_ORACLE, Kernel.RANDOM])
def test_what_no_observation_shows_cannot_be_asked(make_env: MakeEnv, kernel: Kernel) -> None:
    observation: Observation = make_env().reset(seed=0)[0]
    with pytest.raises(UserError, match=f"policy {kernel.name.lower()}: cannot be asked from an observation"):
        predict_rows(kernel, observation)


def test_an_action_says_a_decision_and_its_priority_again(make_env: MakeEnv) -> None:
    env = make_env()
    env.reset(seed=0)
    decision = np.array([Decision.HOLD] * 6 + [Decision.LEAVE] * 2 + [Decision.OFFLOAD] * 2, np.int8)
    priority = np.array([0, 1, 2, ONE // 3, ONE - 1, ONE, 5, ONE, 5, ONE])
    action = actions_of(decision, priority)
    assert env.action_space.contains(action)
    env.step(action)
    functions = env.backend.state.functions
    for name in ("decision", "gpu_decision"):
        assert functions[name].tolist() == decision.tolist()
    for name in ("priority", "gpu_priority"):
        assert np.abs(functions[name][:6] - priority[:6]).max() <= 1
        assert functions[name][6:].tolist() == [0, 0, 0, 0]
