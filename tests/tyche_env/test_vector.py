"""The batched environment is the single one, many times over."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

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
        "tyche/Preload-v1", num_envs=2, vectorization_mode=gym.VectorizeMode.VECTOR_ENTRY_POINT, scenario="small"
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


@pytest.mark.parametrize("version", [0, 1])
def test_a_batch_goes_on_exactly_where_another_stood(version: int) -> None:
    shape = (2, 40, 2)
    arguments: dict[str, Any] = {"decision_interval_s": 300, "version": version}
    scenario = Scenario.load("small").with_(reward={"load_per_s": 0.3})
    draw = np.random.default_rng(3)
    actions = [draw.uniform(-1, 1, shape).astype(np.float32) for _ in range(24)]
    batch = PreloadVectorEnv(2, scenario, **arguments)
    batch.reset(seed=7)
    for action in actions[:5]:
        batch.step(action)
    other = PreloadVectorEnv(2, scenario, **arguments)
    stood = other.load_state_dict(batch.state_dict())
    for action in actions[5:]:  # over the ends of episodes, so that generators are asked as well
        observations, rewards, _, truncated, infos = batch.step(action)
        others = other.step(action)
        assert np.array_equal(rewards, others[1])
        assert np.array_equal(truncated, others[3])
        assert np.array_equal(infos["world_seed"], others[4]["world_seed"])
        for name, values in observations.items():
            assert np.array_equal(values, others[0][name])
    assert set(stood) == set(observations)
    with pytest.raises(PreloadEnvError, match="holds 2 clusters, this environment 3"):
        PreloadVectorEnv(3, "small").load_state_dict(batch.state_dict())


@pytest.mark.parametrize("make_copy", [copy.deepcopy, lambda batch: pickle.loads(pickle.dumps(batch))])
def test_a_copy_goes_on_like_the_batch_and_leaves_it_alone(make_copy: Callable[[Any], Any]) -> None:
    batch = PreloadVectorEnv(3, "small", decision_interval_s=300)
    batch.reset(seed=7)
    draw = np.random.default_rng(3)
    actions = [draw.uniform(-1, 1, (3, 40, 2)).astype(np.float32) for _ in range(24)]
    for action in actions[:5]:
        batch.step(action)
    other = make_copy(batch)
    expected = [batch.step(action)[1] for action in actions[5:]]
    del batch
    assert np.array_equal([other.step(action)[1] for action in actions[5:]], expected)


def test_a_batch_that_could_not_begin_is_not_stepped(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = PreloadVectorEnv(2, "small", decision_interval_s=300)
    batch.reset(seed=7)

    def fails(*_: object) -> None:
        raise PreloadEnvError("no world")

    monkeypatch.setattr(batch, "_begin", fails)
    with pytest.raises(PreloadEnvError, match="no world"):
        batch.reset()
    with pytest.raises(PreloadEnvError, match="call reset first"):
        batch.step(np.zeros((2, 40, 2), np.float32))


def test_a_load_is_charged_to_the_function_that_is_loaded() -> None:
    def rewards(load_per_s: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        scenario = Scenario.load("small").with_(reward={"load_per_s": load_per_s})
        batch = PreloadVectorEnv(1, scenario, decision_interval_s=60)
        batch.reset(seed=1, options={"window": 0})
        ones = np.ones((1, batch.max_functions, 2), np.float32)
        steps = [batch.step(ones) for _ in range(30)]
        for _, total, _, _, infos in steps:
            assert total[0] == pytest.approx(infos["function_rewards"].sum())
        return np.array([infos["function_rewards"][0] for *_, infos in steps])

    free, dear = rewards(0.0), rewards(0.3)
    assert (dear <= free + 1e-9).all()
    assert dear.sum() < free.sum()
    with pytest.raises(PreloadEnvError, match="neither rents of memory"):
        PreloadVectorEnv(1, Scenario.load("small").with_(reward={"gpu_rent_per_gb_s": 0.1}))
