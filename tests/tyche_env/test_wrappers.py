"""Wrappers: scaled observations, tiers, one function a step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from tests.tyche_env.conftest import MakeEnv
from tyche_env.env import PreloadEnv, PreloadEnvError
from tyche_env.scaling import scale_of
from tyche_env.spaces import TABLES, column, table
from tyche_env.wrappers import ScaledObservation, SingleFunctionAction, Tier, TierAction

Wrapper = Callable[[Any], gym.Env[Any, Any]]
WRAPPERS: dict[str, Wrapper] = {
    "scaled": ScaledObservation,
    "tiers": TierAction,
    "single": SingleFunctionAction,
    "scaled-tiers": lambda env: ScaledObservation(TierAction(env)),
    "single-scaled": lambda env: SingleFunctionAction(ScaledObservation(env)),
}


@pytest.mark.filterwarnings("ignore:.*is different from the unwrapped version:UserWarning")
@pytest.mark.parametrize("name", WRAPPERS)
def test_both_checkers_pass(name: str) -> None:
    env = WRAPPERS[name](gym.make("tyche_env:tyche/Preload-v1", scenario="small"))
    check_env(env)
    from stable_baselines3.common.env_checker import check_env as check_env_sb3

    check_env_sb3(env)
    assert env.spec is not None
    env.spec.make().close()


# -- scaled observations -----------------------------------------------------------------------------------------------


def test_scaled_columns_fill_zero_to_one_and_keep_their_order(make_env: MakeEnv) -> None:
    env = make_env()
    wrapped = ScaledObservation(env)
    for name, columns in TABLES.items():
        rows = env.observation_space[name].shape[0] // len(columns)  # type: ignore[index]
        shares = np.linspace(0, 1, 20) ** 8
        scaled = []
        for share in shares:
            observation = {n: box.low.copy() for n, box in env.observation_space.items()}  # type: ignore[attr-defined]
            observation[name] = np.tile([share * c.high for c in columns], rows).astype(np.float32)
            scaled.append(wrapped.observation(observation)[name])
        assert np.array_equal(scaled[0], np.zeros_like(scaled[0]))
        assert scaled[-1] == pytest.approx(np.ones_like(scaled[0]))
        assert (np.diff(scaled, axis=0) > 0).all()


def test_bounded_columns_are_divided_and_heavy_tails_are_logarithmic() -> None:
    by_name = {c.name: c for c in TABLES["functions"]}
    assert scale_of(by_name["survival"]) == (np.inf, 1)
    assert scale_of(by_name["decision"]) == (np.inf, 2)
    smallest, span = scale_of(by_name["age_s"])
    assert smallest == 0.1
    assert np.log1p(10 / smallest) / span == pytest.approx(0.26, abs=0.01)
    assert np.log1p(86_400 / smallest) / span == pytest.approx(0.78, abs=0.01)


def test_a_scaled_episode_is_within_its_space_and_worth_the_same(make_env: MakeEnv) -> None:
    plain, env = make_env(), ScaledObservation(make_env())
    plain.reset(seed=0)
    observation, _ = env.reset(seed=0)
    rng = np.random.default_rng(0)
    truncated = False
    while not truncated:
        assert env.observation_space.contains(observation)
        action = rng.uniform(-1, 1, (10, 2)).astype(np.float32)
        raw, reward, *_ = plain.step(action)
        observation, scaled_reward, _, truncated, _ = env.step(action)
        assert reward == scaled_reward
        for c in ("survival", "priority"):
            at = column("functions", c)
            assert np.array_equal(table(observation, "functions")[:, at], table(raw, "functions")[:, at])
        assert np.array_equal(observation["functions_mask"], raw["functions_mask"])


# -- tiers -------------------------------------------------------------------------------------------------------------


def test_tiers_mean_off_load_leave_memory_and_gpu(make_env: MakeEnv) -> None:
    env = TierAction(make_env())
    assert env.action_space == gym.spaces.MultiDiscrete([4] * 10)
    action = np.array([Tier.OFFLOAD, Tier.LEAVE, Tier.MEMORY, Tier.GPU] + [Tier.LEAVE] * 6)
    assert env.action(action)[:5].tolist() == [[-1, -1], [0, 0], [1, -1], [1, 1], [0, 0]]


def test_only_the_gpu_tier_reaches_the_gpu(make_env: MakeEnv) -> None:
    def transfers(tier: Tier) -> int:
        plain = make_env()
        env = TierAction(plain)
        env.reset(seed=0)
        while not env.step(np.full(10, tier))[3]:
            pass
        return plain.backend.counters()["transfers"]

    assert transfers(Tier.MEMORY) == 0
    assert transfers(Tier.GPU) > 0


# -- one function a step -----------------------------------------------------------------------------------------------


def test_a_single_action_changes_one_function_or_none(make_env: MakeEnv) -> None:
    env = SingleFunctionAction(make_env())
    assert env.action_space == gym.spaces.Discrete(31)
    assert not env.action(np.int64(0)).any()
    expected = {1: (0, [-1, -1]), 2: (0, [1, -1]), 3: (0, [1, 1]), 4: (1, [-1, -1]), 30: (9, [1, 1])}
    for action, (function, row) in expected.items():
        full = env.action(np.int64(action))
        assert full[function].tolist() == row
        assert np.count_nonzero(full) == 2


def test_masks_leave_out_padding_and_gpus_that_are_not_there(make_env: MakeEnv) -> None:
    env = SingleFunctionAction(make_env(max_functions=12))
    env.reset(seed=0)
    masks = env.action_masks()
    assert isinstance(env.action_space, gym.spaces.Discrete)
    assert masks.shape == (env.action_space.n,)
    assert masks.dtype == np.bool_
    assert masks.tolist() == [True] + [True] * 30 + [False] * 6
    without = SingleFunctionAction(make_env({"cluster.nodes": [{"count": 2, "memory_mb": 6000}]}))
    without.reset(seed=0)
    assert without.action_masks().tolist() == [True] + [True, True, False] * 10


def test_masks_need_an_episode(make_env: MakeEnv) -> None:
    with pytest.raises(PreloadEnvError, match="call reset first"):
        SingleFunctionAction(make_env()).action_masks()


def test_masks_are_found_through_other_wrappers() -> None:
    env = ScaledObservation(SingleFunctionAction(PreloadEnv("small")))
    env.reset(seed=0)
    assert env.get_wrapper_attr("action_masks")().any()
