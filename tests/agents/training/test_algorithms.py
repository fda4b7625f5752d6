"""Algorithms by recipe: what is kept acts like what was trained, and a row's actor is a row network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import agents
from agents.evidence.evaluation import evaluate
from agents.evidence.plan import Plan
from agents.playing.spread import ALONE
from agents.policies.bundle import WEIGHTS, Bundle, BundleError, PolicyBundle, load_bundle, save_bundle
from agents.policies.recipe import AlgorithmRecipe, RecipeError, as_recipe
from agents.policies.trained import InterpretedPolicy, load_learned
from agents.training.algorithms import episode_rewards, imitate, make_env, make_model, row_network, train_algorithm
from tyche_env.network import INPUTS, logits, priorities
from tyche_env.scenario import Scenario


def recipe_of(scenario: str, **changes: Any) -> AlgorithmRecipe:
    options = {"n_steps": 8, "batch_size": 24, "n_epochs": 1}
    content = {"kind": "algorithm", "algorithm": "ppo", "scenario": scenario, "steps": 200, "checkpoints": 2}
    found = as_recipe(content | {"decision_interval_s": 60, "options": options} | changes)
    assert isinstance(found, AlgorithmRecipe)
    return found


@pytest.mark.parametrize("algorithm", ["recurrent-ppo", "maskable-ppo"])
def test_what_is_kept_acts_like_what_was_trained(
    algorithm: str, scenario_file: str, tiny: Scenario, tmp_path: Path
) -> None:
    recipe = recipe_of(scenario_file, algorithm=algorithm)
    bundle = train_algorithm(recipe, seed=0)
    assert isinstance(bundle, PolicyBundle)
    assert bundle.manifest["validation_reward"] == max(entry[1] for entry in bundle.manifest["tried"])
    save_bundle(bundle, tmp_path / "agent")
    read = load_bundle(tmp_path / "agent")
    assert read.hash() == bundle.hash()
    policy = agents.load(str(tmp_path / "agent"))
    assert isinstance(policy, InterpretedPolicy)
    env = gym.make("tyche_env:tyche/Preload-v1", scenario=tiny, split="validation", decision_interval_s=60)
    observation, _ = env.reset(seed=0, options={"window": 0})
    total, state, over = 0.0, None, False
    while not over:
        action, state = policy.predict(observation, state)
        observation, reward, _, over, _ = env.step(action)
        total += float(reward)
    agent: Any = policy.predictor
    assert total == pytest.approx(episode_rewards(agent, "validation", windows=1)[0], rel=1e-6)


def test_it_is_evaluated_like_any_policy(scenario_file: str, tiny: Scenario, tmp_path: Path) -> None:
    save_bundle(train_algorithm(recipe_of(scenario_file), seed=0), tmp_path / "agent")
    plan = Plan(tiny, ("tyche", str(tmp_path / "agent")), windows=1, record="none")
    rows = evaluate(plan, tmp_path / "run", spread=ALONE).rows
    assert [row["decision"] for row in rows] == ["event", tiny.decision_interval_s]


def test_the_actor_of_a_row_is_a_row_network(scenario_file: str) -> None:
    recipe = recipe_of(scenario_file, actions="logit", actor="row")
    env = make_env(recipe, "train")
    model: Any = make_model(recipe, env, seed=0)
    model.learn(200)
    env.seed(5)
    env.reset()
    for _ in range(20):
        rows, _, _, _ = env.step(np.zeros((env.num_envs, 1), np.float32))
    tensors = {name: value.numpy() for name, value in model.policy.state_dict().items()}
    with torch.no_grad():
        expected = model.policy.get_distribution(torch.from_numpy(rows)).distribution.mean[:, 0].numpy()
    features = np.asarray(rows)[:, :INPUTS]
    np.testing.assert_allclose(logits(row_network(tensors), features), expected, atol=1e-5)


def test_the_critic_sees_more_than_the_actor(scenario_file: str) -> None:
    recipe = recipe_of(scenario_file, actions="logit", actor="row")
    model: Any = make_model(recipe, make_env(recipe, "train"), seed=0)
    rows = torch.randn(4, model.observation_space.shape[0])
    other = rows.clone()
    other[:, INPUTS:] += 1.0
    with torch.no_grad():
        means = [model.policy.get_distribution(each).distribution.mean for each in (rows, other)]
        values = [model.policy.predict_values(each) for each in (rows, other)]
    assert torch.equal(means[0], means[1])
    assert not torch.equal(values[0], values[1])


def test_imitation_begins_as_the_row_network(scenario_file: str, bundle: Bundle) -> None:
    recipe = recipe_of(scenario_file, actions="logit", actor="row")
    env = make_env(recipe, "train")
    model: Any = make_model(recipe, env, seed=0)
    imitate(model.policy, bundle.network)
    tensors = {name: value.numpy() for name, value in model.policy.state_dict().items()}
    rows = np.abs(np.random.default_rng(0).normal(size=(50, INPUTS))).astype(np.float32)
    np.testing.assert_allclose(priorities(row_network(tensors), rows), priorities(bundle.network, rows), atol=1e-4)


def test_a_row_network_is_chosen_with_bonus_and_floor(scenario_file: str) -> None:
    choice = {"scenarios": [scenario_file], "displace_percent": [10, 100], "floors": [0, 0.1]}
    recipe = recipe_of(scenario_file, actions="logit", actor="row", choice=choice)
    bundle = train_algorithm(recipe, seed=0)
    assert isinstance(bundle, Bundle)
    assert len(bundle.manifest["tried"]) == 2 * 2 * 2
    assert bundle.manifest["validation_cost_of_tyche"] > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"algorithm": "dqn", "actions": "priority"}, "dqn chooses among tiers"),
        ({"algorithm": "sac", "actions": "tiers"}, "sac sets priorities"),
        ({"algorithm": "sac", "actions": "priority", "actor": "row"}, "no actor of its own"),
        ({"start": "hazard"}, "need ppo, actor row, actions logit"),
        ({"algorithm": "a2c"}, "algorithm"),
    ],
)
def test_what_does_not_fit_together_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        recipe_of("small", **changes)


def test_tensors_that_do_not_fit_are_refused(scenario_file: str, tmp_path: Path) -> None:
    recipe = recipe_of(scenario_file)
    save_bundle(PolicyBundle({"action_net.bias": np.zeros(4, np.float32)}, recipe, {}), tmp_path)
    with pytest.raises(BundleError, match="Missing key"):
        load_learned(tmp_path)
    assert (tmp_path / WEIGHTS).is_file()
