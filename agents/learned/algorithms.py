"""Algorithms of stable-baselines3 by recipe: made, trained, kept as plain tensors, and asked like any policy.

One function is one agent and all share their weights (``agents.sb3.FunctionVecEnv``).  With ``actor: row`` the actor of
PPO sees the function's own features alone, whereas the critic sees the pooled context as well.  An agent is kept as
the tensors of its policy; reading it runs no pickle.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Discrete
from numpy.typing import NDArray
from sb3_contrib import QRDQN, MaskablePPO, RecurrentPPO
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, MlpExtractor
from torch import nn

from agents.fan_out import THIS_PROCESS, Crew
from agents.function_rows import function_rows, function_rows_space
from agents.learned.bundle import Bundle, PolicyBundle
from agents.learned.choose import Candidate, choose
from agents.learned.course import Course, Log, Progress, learn
from agents.learned.hazard import flatten, train_hazard
from agents.learned.manifest import manifest, of_choice
from agents.learned.recipe import AlgorithmName, AlgorithmRecipe, HazardRecipe, RecipeError, load_recipe
from agents.sb3 import FunctionVecEnv, cluster_action, tier_masks
from tyche_env.network import INPUTS, layers_of
from tyche_env.scenario import SplitName

ALGORITHMS: dict[AlgorithmName, type[BaseAlgorithm]] = {
    "ppo": PPO,
    "maskable-ppo": MaskablePPO,
    "recurrent-ppo": RecurrentPPO,
    "dqn": DQN,
    "qr-dqn": QRDQN,
    "sac": SAC,
}
_REPLAY = ("dqn", "qr-dqn", "sac")
_MASKED = "maskable-ppo"

Tensors = dict[str, NDArray[Any]]


class Standardised(BaseFeaturesExtractor):
    """Observations minus their mean, over their deviation; both are fixed before training and kept as tensors."""

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self, observation_space: Any, mean: list[float] | None = None, deviation: list[float] | None = None):
        width = observation_space.shape[0]
        super().__init__(observation_space, width)
        self.register_buffer("mean", torch.tensor(mean or [0.0] * width))
        self.register_buffer("deviation", torch.tensor(deviation or [1.0] * width))

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """The scaled observations."""
        scaled: torch.Tensor = (observations - self.mean) / self.deviation
        return scaled


class _RowActor(MlpExtractor):
    """An actor that sees a row's own features, and a critic that sees everything."""

    def __init__(self, width: int, net_arch: Any, activation: type[nn.Module]) -> None:
        super().__init__(width, net_arch, activation, device="cpu")
        self.policy_net = MlpExtractor(INPUTS, net_arch, activation, device="cpu").policy_net

    def forward_actor(self, features: torch.Tensor) -> torch.Tensor:
        """Hidden layers of the actor."""
        return super().forward_actor(features[:, :INPUTS])


class RowActorPolicy(ActorCriticPolicy):
    """Policy of PPO whose actor sees a row's own features alone."""

    def _build_mlp_extractor(self) -> None:
        self.mlp_extractor = _RowActor(self.features_dim, self.net_arch, self.activation_fn)


class MaskableRowActorPolicy(MaskableActorCriticPolicy):
    """The same with masks."""

    def _build_mlp_extractor(self) -> None:
        self.mlp_extractor = _RowActor(self.features_dim, self.net_arch, self.activation_fn)


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
    if recipe.algorithm in _REPLAY and env.num_envs > 1:
        options.setdefault("train_freq", 1)
    algorithm: Any = ALGORITHMS[recipe.algorithm]
    extractor = {"mean": mean.tolist(), "deviation": deviation.tolist()}
    model: BaseAlgorithm = algorithm(
        _policy_class(recipe),
        env,
        seed=seed,
        device="cpu",
        policy_kwargs=_policy_options(recipe) | {"features_extractor_kwargs": extractor},
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
        rewards = AlgorithmAgent(recipe, model.policy).episode_rewards("validation")
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
    return found.model_copy(update={"trace": recipe.trace})


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


@dataclass(frozen=True, slots=True)
class AlgorithmAgent:
    """A trained policy of stable-baselines3, asked about all functions of a cluster at once.

    Attributes:
        recipe: it was trained by.
        network: the policy.
    """

    recipe: AlgorithmRecipe
    network: Any

    def choose(self, rows: NDArray[np.float32], masks: NDArray[np.bool_], state: Any, first: bool) -> tuple[Any, Any]:
        """The best choice for each row, and the state to pass next time."""
        extra = {"action_masks": masks} if self.recipe.algorithm == _MASKED else {}
        starts = np.full(len(rows), first)
        chosen, state = self.network.predict(rows, None if first else state, starts, deterministic=True, **extra)
        return np.asarray(chosen), state

    def predict(
        self,
        observation: Mapping[str, NDArray[np.float32]],
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[np.float32], Any]:
        """Actions of ``tyche/Preload-v0`` for the observation of one cluster."""
        rows = function_rows(observation)
        chosen, state = self.choose(rows, tier_masks(observation), state, first=state is None)
        return cluster_action(self.recipe.actions, chosen.reshape(len(rows))), (state if state is not None else ())

    def episode_rewards(self, split: SplitName, windows: int | None = None) -> list[float]:
        """The reward of a whole episode in each window of a split, or in the first few."""
        env = make_env(self.recipe, split, clusters=1)
        count = len(env.batch.scenario.windows(split))
        return [self._episode(env, window) for window in range(min(count, windows or count))]

    def _episode(self, env: FunctionVecEnv, window: int) -> float:
        rows = env.begin(window, seed=0)
        total, state, over, first = 0.0, None, False, True
        while not over:
            chosen, state = self.choose(rows, env.tier_masks(), state, first)
            rows, rewards, ended, _ = env.step(chosen)  # type: ignore[assignment]
            total, over, first = total + float(rewards.sum()), bool(ended.any()), False
        return total


def restore(recipe: AlgorithmRecipe, tensors: Mapping[str, NDArray[Any]]) -> AlgorithmAgent:
    """The agent that was kept as tensors.

    Raises:
        RuntimeError: torch says which tensors do not fit.
    """
    import gymnasium as gym

    from agents.sb3 import choice_space

    found = _policy_class(recipe)
    if isinstance(found, str):
        found = ALGORITHMS[recipe.algorithm].policy_aliases[found]
    with torch.random.fork_rng(devices=[]):
        space: gym.Space[Any] = choice_space(recipe.actions)
        network: Any = found(function_rows_space(), space, lambda _: 0.0, **_policy_options(recipe))
    network.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in tensors.items()})
    network.set_training_mode(False)
    return AlgorithmAgent(recipe, network)


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


def _policy_class(recipe: AlgorithmRecipe) -> Any:
    if recipe.actor == "row":
        return MaskableRowActorPolicy if recipe.algorithm == _MASKED else RowActorPolicy
    return "MlpLstmPolicy" if recipe.algorithm == "recurrent-ppo" else "MlpPolicy"


def _policy_options(recipe: AlgorithmRecipe) -> dict[str, Any]:
    options: dict[str, Any] = {
        "net_arch": [recipe.width, recipe.width],
        "activation_fn": nn.ReLU,
        "features_extractor_class": Standardised,
    }
    if recipe.algorithm not in _REPLAY:
        options["net_arch"] = {"pi": options["net_arch"], "vf": options["net_arch"]}
    if recipe.algorithm == "recurrent-ppo":
        options["lstm_hidden_size"] = recipe.width
    if recipe.algorithm == "qr-dqn":
        options["n_quantiles"] = recipe.quantiles
    return options
