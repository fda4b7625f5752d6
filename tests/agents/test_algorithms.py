"""Every algorithm of stable-baselines3 that the documentation names trains on functions, and beats chance at it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sb3_contrib import QRDQN, MaskablePPO, RecurrentPPO
from scipy.stats import wilcoxon
from stable_baselines3 import DQN, PPO, SAC

from agents.sb3 import FunctionVecEnv

STEPS = 20_000
WINDOWS = 8
ROLLOUT: dict[str, Any] = {"n_steps": 32, "batch_size": 320, "n_epochs": 5, "gamma": 0.5, "learning_rate": 1e-3}
REPLAY: dict[str, Any] = {"learning_starts": 2_000, "batch_size": 256, "gamma": 0.5, "learning_rate": 1e-3}
VALUES: dict[str, Any] = REPLAY | {"exploration_fraction": 0.5, "target_update_interval": 1000, "gradient_steps": 4}

ALGORITHMS: dict[str, tuple[Any, str, str, dict[str, Any]]] = {
    "ppo": (PPO, "MlpPolicy", "priority", ROLLOUT),
    "ppo-tiers": (PPO, "MlpPolicy", "tiers", ROLLOUT),
    "maskable-ppo": (MaskablePPO, "MlpPolicy", "tiers", ROLLOUT),
    "recurrent-ppo": (RecurrentPPO, "MlpLstmPolicy", "tiers", ROLLOUT),
    "dqn": (DQN, "MlpPolicy", "tiers", VALUES),
    "qr-dqn": (QRDQN, "MlpPolicy", "tiers", VALUES | {"policy_kwargs": {"n_quantiles": 32}}),
    "sac": (SAC, "MlpPolicy", "priority", REPLAY),
}


def make_env(actions: Any, split: Any) -> FunctionVecEnv:
    return FunctionVecEnv(1, "small", actions=actions, split=split, decision_interval_s=60)


def episode_rewards(actions: str, act: Callable[[Any, FunctionVecEnv, bool], NDArray[Any]]) -> list[float]:
    """The reward of whole episodes of the test split, the same windows and requests whoever acts."""
    env = make_env(actions, "test")
    totals = []
    for seed in range(WINDOWS):
        env.seed(seed)
        rows: Any = env.reset()
        over, total, first = False, 0.0, True
        while not over:
            rows, rewards, ended, _ = env.step(act(rows, env, first))
            total, over, first = total + float(rewards.sum()), bool(ended.any()), False
        totals.append(total)
    return totals


@pytest.mark.slow
@pytest.mark.parametrize("name", ALGORITHMS)
def test_it_trains_without_a_warning_and_beats_chance(name: str) -> None:
    torch.set_num_threads(1)
    algorithm, policy, actions, options = ALGORITHMS[name]
    model = algorithm(policy, make_env(actions, "train"), seed=0, device="cpu", **options)
    model.learn(STEPS)
    memory: Any = None
    draw = np.random.default_rng(0)

    def trained(rows: Any, env: FunctionVecEnv, first: bool) -> NDArray[Any]:
        nonlocal memory
        extra = {"action_masks": env.action_masks()} if algorithm is MaskablePPO else {}
        starts = np.full(env.num_envs, first)
        answer, memory = model.predict(rows, None if first else memory, starts, deterministic=True, **extra)
        return np.asarray(answer)

    def by_chance(rows: Any, env: FunctionVecEnv, first: bool) -> NDArray[Any]:
        if actions == "tiers":
            return draw.integers(0, 4, env.num_envs)
        return draw.uniform(-1, 1, (env.num_envs, 1)).astype(np.float32)

    # paired by window and requests; eight of eight better has p = 0.004
    better = wilcoxon(episode_rewards(actions, trained), episode_rewards(actions, by_chance), alternative="greater")
    assert better.pvalue < 0.05
