"""The reward: minus the seconds that requests wait for their inference, however time is cut into steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.tyche_env.conftest import MakeEnv
from tyche_env.env import PreloadEnv
from tyche_env.reward import Step, charges_rent, reward_terms
from tyche_env.scenario import Reward

RENTS = {"container_rent_per_gb_s": 0.5, "preload_rent_per_gb_s": 0.25, "gpu_rent_per_gb_s": 2.0, "load_per_s": 3.0}


def waited_us(log: NDArray[Any]) -> NDArray[np.int64]:
    """From arrival to the start of inference."""
    start: NDArray[np.int64] = log["end_us"] - log["inference_us"] - log["arrival_us"]
    return start


def episode(env: PreloadEnv, seed: int = 0, amplitude: float = 1.0) -> tuple[list[float], list[dict[str, Any]]]:
    """Rewards and infos of an episode under random actions, or under "leave" if the amplitude is 0."""
    env.reset(seed=seed, options={"window": 0})
    rng = np.random.default_rng(seed)
    rewards, infos, truncated = [], [], False
    while not truncated:
        action = amplitude * rng.uniform(-1, 1, (env.max_functions, 2))
        _, reward, _, truncated, info = env.step(action.astype(np.float32))
        rewards.append(float(reward))
        infos.append(info)
    return rewards, infos


@pytest.mark.parametrize("seed", range(5))
def test_rewards_add_up_to_the_waiting_of_every_request(make_env: MakeEnv, seed: int) -> None:
    env = make_env()
    rewards, infos = episode(env, seed)
    log = env.backend.log()
    assert len(log) == len(env.world.arrival_us)
    assert sum(rewards) == pytest.approx(-waited_us(log).sum() / 1e6, rel=1e-12)
    by_function = np.bincount(log["function"], waited_us(log) / 1e6, env.max_functions)
    assert sum(info["function_rewards"] for info in infos) == pytest.approx(-by_function)


def test_what_is_unfinished_at_truncation_is_charged_to_the_last_step() -> None:
    env = PreloadEnv("small", split="test")
    late = 0
    for seed in range(8):
        rewards, _ = episode(env, seed)
        log = env.backend.log()
        start_us = log["end_us"] - log["inference_us"]
        last = start_us > env.world.end_us - 10_000_000
        late += int((start_us > env.world.end_us).sum())
        assert rewards[-1] == pytest.approx(-waited_us(log)[last].sum() / 1e6)
    assert late > 0


def test_a_reward_falls_due_when_inference_starts(make_env: MakeEnv) -> None:
    env = make_env(decision_interval_s=1)
    rewards, infos = episode(env)
    log = env.backend.log()
    times_us = [round(info["time_s"] * 1e6) for info in infos]
    step = np.minimum(np.searchsorted(times_us, log["end_us"] - log["inference_us"]), len(rewards) - 1)
    assert rewards == pytest.approx(-np.bincount(step, waited_us(log) / 1e6, len(rewards)))


@pytest.mark.parametrize(("version", "terms"), [(0, ("latency",)), (1, ("latency", "load"))])
def test_function_rewards_add_up_to_what_is_charged_by_function(
    make_env: MakeEnv, version: int, terms: tuple[str, ...]
) -> None:
    for rents in ({}, RENTS):
        rewards, infos = episode(make_env({"reward": rents}, version=version))
        for reward, info in zip(rewards, infos, strict=True):
            assert info["function_rewards"].shape == (10,)
            by_function = sum(info["reward_terms"].get(name, 0.0) for name in terms)
            assert info["function_rewards"].sum() == pytest.approx(by_function)
            assert sum(info["reward_terms"].values()) == pytest.approx(reward)


def test_a_term_of_ones_own_sees_each_request_once_and_is_added(make_env: MakeEnv) -> None:
    env = make_env({"reward": {"load_per_s": 3.0}})
    seen: list[Step] = []

    def term(step: Step) -> float:
        seen.append(step)
        return -7.0 * len(step.requests)

    env._own_terms = {"mine": term}
    for seed in range(2):  # a second episode begins anew
        seen.clear()
        rewards, infos = episode(env, seed)
        log = env.backend.log()
        assert np.concatenate([step.requests for step in seen]).tolist() == log.tolist()
        assert sum(info["reward_terms"]["mine"] for info in infos) == -7.0 * len(log)
        assert [sum(info["reward_terms"].values()) for info in infos] == pytest.approx(rewards)
        assert sum(step.waited_s.sum() for step in seen) == pytest.approx(waited_us(log).sum() / 1e6)
        assert sum(step.counters["loads"] for step in seen) == env.backend.counters()["loads"] > 0
        busy = sum(step.integrals_mb_us["busy"].sum() for step in seen)
        assert busy == env.backend.integrals()["busy"].sum() > 0


def test_cutting_time_into_other_steps_changes_no_sum(make_env: MakeEnv) -> None:
    sums = {}
    for interval_s in (1, 10, 30, 37.5, 600, 10_000):
        rewards, infos = episode(make_env(decision_interval_s=interval_s), amplitude=0)
        at = np.array([info["time_s"] for info in infos])
        sums[interval_s] = [sum(np.array(rewards)[at <= until]) for until in (600, 1200, 1800)]
    for interval_s in (10, 30, 600):
        assert sums[interval_s] == pytest.approx(sums[1])
    for interval_s in (37.5, 10_000):
        assert sums[interval_s][-1] == pytest.approx(sums[1][-1])


def test_without_rents_latency_is_the_only_term(make_env: MakeEnv) -> None:
    assert not charges_rent(Reward())
    _, infos = episode(make_env())
    assert {tuple(info["reward_terms"]) for info in infos} == {("latency",)}


@pytest.mark.parametrize("name", RENTS)
def test_any_rent_is_charged(name: str) -> None:
    assert charges_rent(Reward(**{name: 0.1}))


def test_a_term_of_ones_own_is_charged_alone() -> None:
    assert charges_rent(Reward().model_copy(update={"terms": ("mine",)}))


def test_rents_add_up_to_price_times_use(make_env: MakeEnv) -> None:
    env = make_env({"reward": RENTS})
    _, infos = episode(env)
    totals = {name: sum(info["reward_terms"][name] for info in infos) for name in infos[0]["reward_terms"]}
    gb_s = {name: values.sum() / 1e9 for name, values in env.backend.integrals().items()}
    assert totals == pytest.approx(
        {
            "latency": -waited_us(env.backend.log()).sum() / 1e6,
            "container_rent": -0.5 * (gb_s["busy"] + gb_s["idle"]),
            "preload_rent": -0.25 * gb_s["preload"],
            "gpu_rent": -2.0 * gb_s["gpu"],
            "load": -3.0 * env.backend.counters()["load_us"] / 1e6,
        }
    )
    assert max(totals.values()) < 0


def test_the_terms_of_an_example() -> None:
    mb_us = {"busy": [2e9, 1e9], "idle": [1e9, 0], "preload": [5e8, 0], "gpu": [0, 4e9]}
    terms = reward_terms(
        Reward(**RENTS), np.array([1.5, 0.0, 2.0]), {k: np.array(v, np.int64) for k, v in mb_us.items()}, 2_000_000
    )
    assert terms == {"latency": -3.5, "container_rent": -2.0, "preload_rent": -0.125, "gpu_rent": -8.0, "load": -6.0}
