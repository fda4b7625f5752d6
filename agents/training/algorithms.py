"""Algorithms of stable-baselines3 by recipe: made, trained, and what their checkpoints are worth."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Discrete
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm

from agents.playing.runs import Crew
from agents.playing.spread import THIS_PROCESS
from agents.policies.bundle import Bundle, PolicyBundle
from agents.policies.interpreted import ALGORITHMS, REPLAY, AlgorithmAgent, Tensors, policy_class, policy_options
from agents.policies.recipe import AlgorithmRecipe, HazardRecipe, RecipeError
from agents.training.choose import Candidate, choose
from agents.training.course import Course, Log, Progress, learn
from agents.training.hazard import flatten, train_hazard
from agents.training.manifest import manifest, of_choice
from agents.training.recipes import load_recipe
from agents.training.vec_envs import FunctionVecEnv
from tyche_env.network import INPUTS, layers_of
from tyche_env.scenario import SplitName


def make_env(recipe: AlgorithmRecipe, split: SplitName, clusters: int | None = None) -> FunctionVecEnv:
    """The environment of a recipe."""
    return FunctionVecEnv(
        clusters or recipe.clusters,
        recipe.scenario_of(recipe.scenario),
        actions=recipe.actions,
        split=split,
        decision_interval_s=recipe.decision_interval_s,
    )


def make_model(recipe: AlgorithmRecipe, env: FunctionVecEnv, seed: int) -> BaseAlgorithm:
    """The algorithm of a recipe over its environment, observations standardised."""
    mean, deviation = moments_of_play(env, seed)
    options: dict[str, Any] = dict(recipe.options)
    if recipe.algorithm in REPLAY and env.num_envs > 1:
        options.setdefault("train_freq", 1)
    algorithm: Any = ALGORITHMS[recipe.algorithm]
    extractor = {"mean": mean.tolist(), "deviation": deviation.tolist()}
    model: BaseAlgorithm = algorithm(
        policy_class(recipe),
        env,
        seed=seed,
        device="cpu",
        policy_kwargs=policy_options(recipe) | {"features_extractor_kwargs": extractor},
        **options,
    )
    return model


def train_algorithm(
    recipe: AlgorithmRecipe,
    seed: int,
    log: Log | None = None,
    progress: Progress | None = None,
    checkpoint: Path | None = None,
    workers: Crew = THIS_PROCESS,
) -> Bundle | PolicyBundle:
    """Train by a recipe; the validation windows choose the checkpoint, of row networks the bonus and floor too."""
    torch.set_num_threads(1)
    started = time.process_time() + workers.cpu_s
    scenario = recipe.scenario_of(recipe.scenario)
    env = make_env(recipe, "train")
    model = make_model(recipe, env, seed)
    if recipe.start is not None:
        imitate(model.policy, train_hazard(start_of(recipe), seed, workers=workers).network)

    def at_stage() -> dict[str, Any]:
        tensors = {name: value.clone().numpy() for name, value in model.policy.state_dict().items()}
        if recipe.choice is not None:
            return {"rows": model.num_timesteps, "network": row_network(tensors)}
        rewards = episode_rewards(AlgorithmAgent(recipe, model.policy), "validation")
        return {"rows": model.num_timesteps, "validation_reward": float(np.mean(rewards)), "tensors": tensors}

    course = Course(recipe.steps, recipe.checkpoints, at_stage, checkpoint, log=log, progress=progress)
    stages = learn(model, env, course)
    if recipe.choice is not None:
        candidates = [Candidate(f"{stage['rows']} rows", stage["network"]) for stage in stages]
        scenarios = [recipe.scenario_of(name) for name in recipe.choice.scenarios]
        chosen = choose(candidates, recipe.choice, scenarios, workers)
        extractor: Any = model.policy.features_extractor
        return Bundle(
            network=chosen.candidate.network,
            mean=extractor.mean.numpy()[:INPUTS].copy(),
            deviation=extractor.deviation.numpy()[:INPUTS].copy(),
            settings={"displace_percent": chosen.displace_percent},
            recipe=recipe,
            manifest=manifest([scenario], seed, model.num_timesteps, started - workers.cpu_s) | of_choice(chosen),
        )
    best = max(stages, key=lambda stage: float(stage["validation_reward"]))
    card = manifest([scenario], seed, model.num_timesteps, started - workers.cpu_s) | {
        "chosen": f"{best['rows']} rows",
        "validation_reward": round(best["validation_reward"], 3),
        "tried": [[stage["rows"], round(stage["validation_reward"], 3)] for stage in stages],
    }
    return PolicyBundle(best["tensors"], recipe, card)


def start_of(recipe: AlgorithmRecipe) -> HazardRecipe:
    """The supervised recipe that an agent begins from, on the agent's trace.

    Raises:
        RecipeError: it is of another kind.
    """
    found = load_recipe(str(recipe.start))
    if not isinstance(found, HazardRecipe):
        raise RecipeError(f"start: {recipe.start} is of kind {found.kind}; imitation starts from kind hazard")
    return found.on_trace_of(recipe)


def imitate(policy: Any, network: NDArray[np.float32]) -> None:
    """Give an actor that sees a row's features the weights of a row network, and little noise to begin with."""
    layers = layers_of(network)
    mean = policy.features_extractor.mean[:INPUTS].numpy().astype(np.float64)
    deviation = policy.features_extractor.deviation[:INPUTS].numpy().astype(np.float64)
    hidden = policy.mlp_extractor.policy_net
    with torch.no_grad():
        hidden[0].weight.copy_(torch.from_numpy((layers.first * deviation[:, None]).T))
        hidden[0].bias.copy_(torch.from_numpy(layers.first_bias + mean @ layers.first))
        hidden[2].weight.copy_(torch.from_numpy(layers.second.T.copy()))
        hidden[2].bias.copy_(torch.from_numpy(layers.second_bias.copy()))
        policy.action_net.weight.copy_(torch.from_numpy(layers.output[None].copy()))
        policy.action_net.bias.copy_(torch.from_numpy(layers.output_bias.copy()))
        policy.log_std.fill_(float(np.log(0.5)))


def row_network(tensors: Tensors) -> NDArray[np.float32]:
    """The row network that an actor is whose choice is a logit and that sees a row's features alone."""

    def linear(name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return tensors[f"{name}.weight"].T.astype(np.float64), tensors[f"{name}.bias"].astype(np.float64)

    output, output_bias = linear("action_net")
    return flatten(
        linear("mlp_extractor.policy_net.0"),
        linear("mlp_extractor.policy_net.2"),
        tensors["features_extractor.mean"][:INPUTS],
        tensors["features_extractor.deviation"][:INPUTS],
        output[:, 0],
        float(output_bias[0]),
    )


def episode_rewards(agent: AlgorithmAgent, split: SplitName, windows: int | None = None) -> list[float]:
    """The reward of a whole episode in each window of a split, or in the first few."""
    env = make_env(agent.recipe, split, clusters=1)
    count = len(env.batch.scenario.windows(split))
    return [_episode(agent, env, window) for window in range(min(count, windows or count))]


def _episode(agent: AlgorithmAgent, env: FunctionVecEnv, window: int) -> float:
    rows = env.begin(window, seed=0)
    total, state, over, first = 0.0, None, False, True
    while not over:
        chosen, state = agent.choose(rows, env.tier_masks(), state, first)
        rows, rewards, ended, _ = env.step(chosen)  # type: ignore[assignment]
        total, over, first = total + float(rewards.sum()), bool(ended.any()), False
    return total


def moments_of_play(env: Any, seed: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and deviation of each column of a VecEnv's rows over one episode of random actions, every tenth step."""
    draw, space = np.random.default_rng(seed), env.action_space
    env.seed(seed)
    seen: list[Any] = [env.reset()]
    ended, step = False, 0
    while not ended:
        if isinstance(space, Discrete):
            action = draw.integers(0, space.n, env.num_envs)
        else:
            action = draw.uniform(space.low, space.high, (env.num_envs, *space.shape)).astype(np.float32)
        rows, _, dones, _ = env.step(action)
        ended, step = bool(dones.any()), step + 1
        if step % 10 == 0:
            seen.append(rows)
    rows = np.concatenate(seen)
    rows = rows[rows[:, :INPUTS].any(axis=1)]
    return rows.mean(axis=0), rows.std(axis=0) + np.float32(1e-3)
