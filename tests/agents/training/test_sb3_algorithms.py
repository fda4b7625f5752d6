"""Every algorithm of stable-baselines3 that the documentation names trains by its recipe, and beats chance."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import wilcoxon

from agents.policies.bundle import PolicyBundle
from agents.policies.interpreted import restore
from agents.policies.recipe import AlgorithmRecipe
from agents.training.algorithms import episode_rewards, make_env, train_algorithm
from agents.training.recipes import load_recipe
from agents.training.vec_envs import FunctionVecEnv

RECIPES = ("ppo", "maskable-ppo", "recurrent-ppo", "dqn", "qr-dqn", "sac")
STEPS = 20_000
WINDOWS = 8


def by_chance(env: FunctionVecEnv, draw: np.random.Generator) -> NDArray[Any]:
    if env.actions == "tiers":
        return draw.integers(0, 4, env.num_envs)
    space: Any = env.action_space
    return draw.uniform(space.low, space.high, (env.num_envs, 1)).astype(np.float32)


def rewards_by_chance(recipe: AlgorithmRecipe) -> list[float]:
    """The reward of the episodes that the agents meet: the same windows, the same requests."""
    env, draw, totals = make_env(recipe, "test", clusters=1), np.random.default_rng(0), []
    for window in range(WINDOWS):
        env.begin(window, seed=0)
        total, over = 0.0, False
        while not over:
            _, rewards, ended, _ = env.step(by_chance(env, draw))
            total, over = total + float(rewards.sum()), bool(ended.any())
        totals.append(total)
    return totals


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_it_trains_without_a_warning_and_beats_chance(name: str) -> None:
    recipe = load_recipe(name)
    assert isinstance(recipe, AlgorithmRecipe)
    assert (recipe.scenario, recipe.steps) == ("small", STEPS)
    bundle = train_algorithm(recipe, seed=0)
    assert isinstance(bundle, PolicyBundle)
    trained = episode_rewards(restore(recipe, bundle.tensors), "test", windows=WINDOWS)
    # paired by window and requests; eight of eight better has p = 0.004
    better = wilcoxon(trained, rewards_by_chance(recipe), alternative="greater")
    assert better.pvalue < 0.05
