"""The VecEnvs: rows belong to the right function, episodes end where they end, padding is inert."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.utils import get_action_masks
from stable_baselines3 import PPO
from stable_baselines3.common.env_checker import check_env

from agents.policies.choices import tier_masks
from agents.training.vec_envs import ClusterVecEnv, FunctionVecEnv, HoldPriceVecEnv
from tyche_env.accounting import loading_us
from tyche_env.env import PreloadEnvError
from tyche_env.features import features_of
from tyche_env.function_rows import ROW_WIDTH, function_rows
from tyche_env.hold_price import HoldPriceEnv
from tyche_env.network import INPUTS
from tyche_env.scaling import factors_of, scaled
from tyche_env.scenario import Scenario
from tyche_env.spaces import FUNCTION_COLUMNS, TABLES
from tyche_env.vector import PreloadVectorEnv
from tyche_env.wrappers import ScaledObservation, Tier

LONGER: dict[str, Any] = {"decision_interval_s": 60}


@pytest.fixture(scope="module")
def padded(tiny: Scenario) -> dict[str, Any]:
    """Arguments that leave two rows of padding."""
    return {"scenario": tiny, "max_functions": 8, **LONGER}


def steps_of(tiny: Scenario) -> int:
    return int((tiny.trace.window_min + tiny.trace.warm_up_min) * 60 / LONGER["decision_interval_s"])


def test_a_function_sees_its_own_features_and_earns_its_own_rewards(padded: dict[str, Any]) -> None:
    env, plain = FunctionVecEnv(3, **padded), PreloadVectorEnv(3, **padded)
    env.seed(4)
    rows: Any = env.reset()
    observation, _ = plain.reset(seed=4)
    rng = np.random.default_rng(0)
    for _ in range(10):
        table = observation["functions"].reshape(3 * 8, len(FUNCTION_COLUMNS))
        np.testing.assert_array_equal(rows[:, :INPUTS], features_of(table))
        action = rng.uniform(-1, 1, (24, 1)).astype(np.float32)
        rows, rewards, _, _ = env.step(action)
        observation, _, _, _, infos = plain.step(np.repeat(action.reshape(3, 8, 1), 2, axis=-1))
        np.testing.assert_allclose(rewards, infos["function_rewards"].reshape(-1), rtol=1e-6)


def test_a_function_sees_its_scaled_columns_and_those_of_its_cluster(padded: dict[str, Any]) -> None:
    env, plain = FunctionVecEnv(2, **padded), PreloadVectorEnv(2, **padded)
    env.seed(4)
    env.reset()
    plain.reset(seed=4)
    for _ in range(10):
        rows = cast(Any, env.step(np.ones((16, 1), np.float32))[0]).reshape(2, 8, -1)
        observation = plain.step(np.ones((2, 8, 2), np.float32))[0]
    scales = {
        name: dict(zip((c.name for c in columns), scaled_rows(observation[name], name).T, strict=True))
        for name, columns in TABLES.items()
    }
    for place, name in ((0, "in_flight_count"), (4, "held_count"), (6, "hold_mb"), (9, "transfer_s")):
        np.testing.assert_allclose(rows[:, :6, INPUTS + place], scales["functions"][name].T.reshape(2, 8)[:, :6])
    for place, name in ((0, "elapsed_s"), (13, "price_s_per_mb")):
        expected = np.repeat(scales["cluster"][name].reshape(2, 1), 6, axis=1)
        np.testing.assert_allclose(rows[:, :6, ROW_WIDTH + place], expected)


def test_rows_from_states_are_those_from_observations(padded: dict[str, Any]) -> None:
    env, plain = FunctionVecEnv(2, **padded), PreloadVectorEnv(2, **padded)
    env.seed(3)
    rows: Any = env.reset()
    observation, _ = plain.reset(seed=3)
    draw = np.random.default_rng(0)
    for step in range(steps_of(padded["scenario"]) + 3):  # over the end of an episode
        np.testing.assert_array_equal(rows.reshape(2, 8, -1), function_rows(observation))
        action = draw.uniform(-1, 1, (16, 1)).astype(np.float32)
        rows, _, _, infos = env.step(action)
        observation, _, _, ended, shown = plain.step(np.repeat(action.reshape(2, 8, 1), 2, axis=-1))
        assert ended.all() == (step == steps_of(padded["scenario"]) - 1)
        if ended.all():
            last = np.stack([info["terminal_observation"] for info in infos]).reshape(2, 8, -1)
            np.testing.assert_array_equal(last, np.stack([function_rows(final) for final in shown["final_obs"]]))


def scaled_rows(values: Any, name: str) -> Any:
    columns = TABLES[name]
    return scaled(values.reshape(-1, len(columns)), factors_of(columns))


def test_the_context_is_the_mean_of_real_rows_and_padding_is_zero(padded: dict[str, Any]) -> None:
    env = FunctionVecEnv(2, **padded)
    env.seed(1)
    env.reset()
    for _ in range(20):
        rows, rewards, _, _ = cast(Any, env.step(np.ones((16, 1), np.float32)))
    cluster = rows.reshape(2, 8, -1)
    np.testing.assert_allclose(cluster[0, 0, -ROW_WIDTH:], cluster[0, :6, :ROW_WIDTH].mean(axis=0), rtol=1e-5)
    assert not cluster[:, 6:].any()
    assert not rewards.reshape(2, 8)[:, 6:].any()


@pytest.mark.parametrize("kind", [FunctionVecEnv, HoldPriceVecEnv])
def test_all_functions_of_a_cluster_end_together_and_the_last_rows_are_kept(kind: Any, tiny: Scenario) -> None:
    env = kind(2, tiny, **LONGER)
    env.seed(0)
    env.reset()
    for step in range(steps_of(tiny)):
        action = np.stack([env.action_space.sample() for _ in range(env.num_envs)])
        rows, _, ended, infos = env.step(action)
        last = step == steps_of(tiny) - 1
        assert ended.tolist() == [last] * env.num_envs
        assert all(("terminal_observation" in info) == last for info in infos)
    assert all(info["TimeLimit.truncated"] for info in infos)
    finals = np.stack([info["terminal_observation"] for info in infos])
    assert finals[:, :INPUTS].any()  # hours of requests
    assert not rows[:, :INPUTS].any()  # a new episode has seen none


def test_the_cluster_env_shows_what_the_wrapped_environment_shows(tiny: Scenario) -> None:
    import gymnasium as gym

    env = ClusterVecEnv(2, tiny, **LONGER)
    env.seed(9)
    rows: Any = env.reset()
    single = ScaledObservation(gym.make("tyche_env:tyche/Preload-v1", scenario=tiny, **LONGER))
    observation, info = single.reset(seed=9)
    assert env.reset_infos[0]["window"] == info["window"]
    for _ in range(steps_of(tiny)):
        for name, values in observation.items():
            np.testing.assert_allclose(rows[name][0], values, atol=1e-6)
        action = env.action_space.sample()
        rows, rewards, ended, infos = env.step(np.stack([action, action]))
        observation, reward, _, truncated, _ = single.step(action)
        assert rewards[0] == pytest.approx(float(reward), rel=1e-5)
        assert ended[0] == truncated
    assert "terminal_observation" in infos[0]
    for name, values in observation.items():
        np.testing.assert_allclose(infos[0]["terminal_observation"][name], values, atol=1e-6)


def test_masks_leave_padding_alone_and_ask_for_no_gpu_where_there_is_none(padded: dict[str, Any]) -> None:
    env = FunctionVecEnv(2, actions="tiers", **padded)
    env.reset()
    masks = get_action_masks(env).reshape(2, 8, len(Tier))
    assert masks[:, :6, [Tier.OFFLOAD, Tier.LEAVE, Tier.MEMORY]].all()
    assert masks[:, 6:].sum(axis=-1).tolist() == [[1, 1], [1, 1]]
    assert masks[:, 6:, Tier.LEAVE].all()
    assert masks[:, :6, Tier.GPU].all()
    np.testing.assert_array_equal(masks[1], tier_masks(env.batch.observation_of(1)))  # type: ignore[attr-defined]
    bare = FunctionVecEnv(1, no_gpus(padded["scenario"]), actions="tiers")
    bare.reset()
    assert not bare.action_masks()[:, Tier.GPU].any()


def no_gpus(scenario: Scenario) -> Scenario:
    return scenario.with_(cluster={"nodes": [{"count": 1, "memory_mb": 16000}]})


def test_priorities_have_no_masks(tiny: Scenario) -> None:
    env = FunctionVecEnv(1, tiny)
    env.reset()
    with pytest.raises(PreloadEnvError, match="only tiers have masks"):
        env.action_masks()


def test_equal_seeds_give_equal_episodes(tiny: Scenario) -> None:
    def rollout() -> list[Any]:
        env = HoldPriceVecEnv(2, tiny, **LONGER)
        env.seed(3)
        out: list[Any] = [env.reset()]
        for _ in range(steps_of(tiny) + 3):
            rows, rewards, _, _ = env.step(np.ones(env.num_envs, np.int64))
            out += [rows, rewards]
        return out

    for a, b in zip(rollout(), rollout(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_holding_costs_the_price_and_saves_the_wait(tiny: Scenario) -> None:
    def total(action: int, price: float) -> float:
        env = HoldPriceVecEnv(2, tiny, prices=(price, price), **LONGER)
        env.seed(3)
        env.reset()
        return float(sum(env.step(np.full(env.num_envs, action))[1].sum() for _ in range(steps_of(tiny))))

    assert total(1, 1e-6) > total(0, 1e-6)
    assert total(1, 1.0) < total(0, 1.0)


def test_a_step_pays_the_part_of_a_load_that_lies_in_it(tiny: Scenario) -> None:
    quiet = tiny.with_(**{"functions.noise": False, "controller.command_ms": 0})

    def played(load_cost: float) -> tuple[list[Any], HoldPriceVecEnv]:
        env = HoldPriceVecEnv(2, quiet, load_cost=load_cost, decision_interval_s=1)
        env.seed(3)
        env.reset()
        # until the second before the end, since an engine that ends is replaced
        return [env.step(np.full(env.num_envs, at // 20 % 2))[1] for at in range(steps_of(tiny) * 60 - 1)], env

    free, _ = played(0.0)
    dear, env = played(0.5)
    costs = np.subtract(free, dear)
    states = [engine.state for engine in env.batch._engines]
    whole_s = np.concatenate([each.functions["library_us"] + each.functions["model_us"] for each in states]) / 1e6
    made = np.concatenate([loading_us(each) for each in states]) / 1e6 / whole_s
    assert made.sum() > 20
    np.testing.assert_allclose(costs.sum(axis=0), 0.5 * made, atol=1e-3)
    assert (costs.max(axis=0) <= 0.5 * np.minimum(1, 1 / whole_s) + 1e-6).all()


def test_hold_price_keeps_gymnasiums_contract(tiny: Scenario) -> None:
    env = HoldPriceEnv(tiny)
    check_env(env)
    with pytest.raises(PreloadEnvError, match="there are none"):
        env.reset(options={"window": 0})
    with pytest.raises(PreloadEnvError, match="need 0 < lowest"):
        HoldPriceEnv(tiny, prices=(0.5, 0.1))


def test_algorithms_of_stable_baselines3_train(tiny: Scenario) -> None:
    small: dict[str, Any] = {"n_steps": 16, "batch_size": 32, "n_epochs": 1, "seed": 0, "device": "cpu"}
    PPO("MlpPolicy", FunctionVecEnv(2, tiny, **LONGER), **small).learn(400)
    PPO("MultiInputPolicy", ClusterVecEnv(2, tiny, **LONGER), **small).learn(64)
    MaskablePPO("MlpPolicy", FunctionVecEnv(2, tiny, actions="tiers", **LONGER), **small).learn(400)
