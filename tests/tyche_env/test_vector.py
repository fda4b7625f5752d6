"""The batched environment is the single one, many times over."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

import tyche_env  # noqa: F401 - registers the environment
from tyche_env.env import PreloadEnv, PreloadEnvError
from tyche_env.scenario import Scenario
from tyche_env.vector import PreloadVectorEnv


def crowded() -> Scenario:
    """The scenario ``small`` with a core a node for everything."""
    small = Scenario.load("small")
    groups = [{**group.model_dump(), "cores": 1} for group in small.cluster.nodes]
    return small.with_(**{"cluster.nodes": groups, "contention": True})


@pytest.mark.parametrize("contention", [False, True])
def test_each_cluster_follows_the_single_environment_to_the_last_bit(contention: bool) -> None:
    scenario = crowded() if contention else "small"
    batch, single = PreloadVectorEnv(2, scenario), PreloadEnv(scenario)
    observations, _ = batch.reset(seed=5, options={"window": 1})
    observation, _ = single.reset(seed=5, options={"window": 1})
    draw = np.random.default_rng(0)
    for name, values in observation.items():
        assert np.array_equal(observations[name][0], values)
    over = False
    while not over:
        actions = draw.uniform(-1, 1, (2, batch.max_functions, 2)).astype(np.float32)
        observations, rewards, _, truncated, infos = batch.step(actions)
        observation, reward, _, over, info = single.step(actions[0])
        assert rewards[0] == pytest.approx(float(reward), abs=1e-9)
        assert truncated[0] == over
        assert np.allclose(infos["function_rewards"][0], info["function_rewards"], atol=1e-9)
        last = infos["final_obs"][0] if over else {name: values[0] for name, values in observations.items()}
        for name, values in observation.items():
            assert np.array_equal(last[name], values)


def test_an_ended_episode_begins_anew_in_the_same_step() -> None:
    batch = PreloadVectorEnv(1, "small", decision_interval_s=600)
    batch.reset(seed=1)
    leave = np.zeros((1, batch.max_functions, 2), np.float32)
    for _ in range(9):
        observations, _, terminated, truncated, infos = batch.step(leave)
    assert truncated.all()
    assert not terminated.any()
    assert infos["_final_obs"].all()
    assert infos["time_s"][0] == 0.0
    assert observations["cluster"][0, 0] == 0.0
    assert infos["final_obs"][0]["cluster"][0] == 5400.0


def test_same_seed_same_batch() -> None:
    def rollout() -> list[float]:
        batch = PreloadVectorEnv(3, "small", decision_interval_s=300)
        batch.reset(seed=7)
        draw = np.random.default_rng(1)
        shape = (3, batch.max_functions, 2)
        return [float(batch.step(draw.uniform(-1, 1, shape).astype(np.float32))[1].sum()) for _ in range(40)]

    assert rollout() == rollout()


def test_gymnasium_makes_it_by_its_id() -> None:
    batch = gym.make_vec(
        "tyche/Preload-v0", num_envs=2, vectorization_mode=gym.VectorizeMode.VECTOR_ENTRY_POINT, scenario="small"
    )
    observations, _ = batch.reset(seed=1)
    assert batch.observation_space.contains(observations)
    batch.close()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: PreloadVectorEnv(0), "num_envs: needs at least one, got 0"),
        (lambda: PreloadVectorEnv(1).step(np.zeros((1, 40, 2), np.float32)), "call reset first"),
        (lambda: PreloadVectorEnv(2).reset(seed=[1]), "seed: needs one for each of 2 clusters, got 1"),
    ],
)
def test_a_wrong_call_is_refused_by_name(call: object, message: str) -> None:
    with pytest.raises(PreloadEnvError, match=message):
        call()  # type: ignore[operator]
