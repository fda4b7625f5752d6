"""Trained policies of stable-baselines3: the networks that a recipe describes, kept as plain tensors, asked by torch.

One function is one agent and all share their weights.  With ``actor: row`` the actor of PPO sees the function's own
features alone, whereas the critic sees the pooled context as well.  Reading tensors runs no pickle.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import Space
from numpy.typing import NDArray
from sb3_contrib import QRDQN, MaskablePPO, RecurrentPPO
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, MlpExtractor
from torch import nn

from agents.policies.choices import choice_space, cluster_action, tier_masks
from agents.policies.recipe import AlgorithmName, AlgorithmRecipe
from tyche_env.function_rows import function_rows, function_rows_space
from tyche_env.network import INPUTS

ALGORITHMS: dict[AlgorithmName, type[BaseAlgorithm]] = {
    "ppo": PPO,
    "maskable-ppo": MaskablePPO,
    "recurrent-ppo": RecurrentPPO,
    "dqn": DQN,
    "qr-dqn": QRDQN,
    "sac": SAC,
}
REPLAY = ("dqn", "qr-dqn", "sac")
MASKED = "maskable-ppo"

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
        extra = {"action_masks": masks} if self.recipe.algorithm == MASKED else {}
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
        """Actions of ``tyche/Preload`` for the observation of one cluster."""
        rows = function_rows(observation)
        chosen, state = self.choose(rows, tier_masks(observation), state, first=state is None)
        return cluster_action(self.recipe.actions, chosen.reshape(len(rows))), (state if state is not None else ())


def restore(recipe: AlgorithmRecipe, tensors: Mapping[str, NDArray[Any]]) -> AlgorithmAgent:
    """The agent that was kept as tensors.

    Raises:
        RuntimeError: torch says which tensors do not fit.
    """
    found = policy_class(recipe)
    if isinstance(found, str):
        found = ALGORITHMS[recipe.algorithm].policy_aliases[found]
    with torch.random.fork_rng(devices=[]):
        space: Space[Any] = choice_space(recipe.actions)
        network: Any = found(function_rows_space(), space, lambda _: 0.0, **policy_options(recipe))
    network.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in tensors.items()})
    network.set_training_mode(False)
    return AlgorithmAgent(recipe, network)


def policy_class(recipe: AlgorithmRecipe) -> Any:
    """The class of a recipe's network, or the name that the algorithm has for it."""
    if recipe.actor == "row":
        return MaskableRowActorPolicy if recipe.algorithm == MASKED else RowActorPolicy
    return "MlpLstmPolicy" if recipe.algorithm == "recurrent-ppo" else "MlpPolicy"


def policy_options(recipe: AlgorithmRecipe) -> dict[str, Any]:
    """What the class is made with, but for the moments of its observations."""
    options: dict[str, Any] = {
        "net_arch": [recipe.width, recipe.width],
        "activation_fn": nn.ReLU,
        "features_extractor_class": Standardised,
    }
    if recipe.algorithm not in REPLAY:
        options["net_arch"] = {"pi": options["net_arch"], "vf": options["net_arch"]}
    if recipe.algorithm == "recurrent-ppo":
        options["lstm_hidden_size"] = recipe.width
    if recipe.algorithm == "qr-dqn":
        options["n_quantiles"] = recipe.quantiles
    return options
