"""Wrappers of ``tyche/Preload``: observations scaled to [0, 1], and two discrete forms of the action."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, cast

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs
from numpy.typing import NDArray

from tyche_env.env import PreloadEnv
from tyche_env.scaling import factors_of, scaled, scaled_space
from tyche_env.spaces import TABLES, Observation

Env = gym.Env[Observation, Any]


class Tier(IntEnum):
    """Where a function's artifacts shall be."""

    OFFLOAD = 0
    LEAVE = 1
    MEMORY = 2
    GPU = 3


TIER_ACTIONS = np.array([[-1.0, -1.0], [0.0, 0.0], [1.0, -1.0], [1.0, 1.0]], np.float32)
"""The action of each tier."""
_CHOICES = (Tier.OFFLOAD, Tier.MEMORY, Tier.GPU)
"""What a single-function action offers besides doing nothing."""


class ScaledObservation(gym.ObservationWrapper[Observation, Any, Observation], RecordConstructorArgs):
    """Every column scaled to [0, 1] by :func:`tyche_env.scaling.scale_of`; masks stay as they are.

    Args:
        env: the environment.
    """

    def __init__(self, env: Env) -> None:
        RecordConstructorArgs.__init__(self)
        super().__init__(env)
        given = cast(spaces.Dict, env.observation_space)
        self.observation_space = cast(spaces.Space[Observation], scaled_space(given))
        self._factors = {
            name: factors_of(columns, (given[name].shape or ())[0] // len(columns)) for name, columns in TABLES.items()
        }

    def observation(self, observation: Observation) -> Observation:
        """The scaled observation."""
        return observation | {name: scaled(observation[name], factors) for name, factors in self._factors.items()}


class TierAction(gym.ActionWrapper[Observation, NDArray[np.integer[Any]], NDArray[np.float32]], RecordConstructorArgs):
    """One of four tiers for every function: off-load, leave, container memory, container memory and GPU.

    Functions that are held all have priority 1, so that memory goes to those that save most latency a MB.

    Args:
        env: the environment.
    """

    def __init__(self, env: Env) -> None:
        RecordConstructorArgs.__init__(self)
        super().__init__(env)
        self.action_space = spaces.MultiDiscrete(np.full(_functions(env), len(Tier)))

    def action(self, action: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
        """The action of the tiers, (F, 2).

        Args:
            action: (F,) of :class:`Tier`.
        """
        return TIER_ACTIONS[np.asarray(action)]


class SingleFunctionAction(gym.ActionWrapper[Observation, np.int64, NDArray[np.float32]], RecordConstructorArgs):
    """One function a step: 0 does nothing, 1 + 3 f + k puts function f off (k = 0), into memory (1) or on a GPU (2).

    All other functions are left as they are.  ``action_masks()`` is what sb3-contrib's maskable algorithms ask for.

    Args:
        env: the environment.
    """

    def __init__(self, env: Env) -> None:
        RecordConstructorArgs.__init__(self)
        super().__init__(env)
        self.action_space = spaces.Discrete(1 + len(_CHOICES) * _functions(env))

    def action(self, action: np.int64) -> NDArray[np.float32]:
        """The action, (F, 2), that changes one function or none."""
        full = np.zeros((_functions(self.env), 2), np.float32)
        if action > 0:
            function, choice = divmod(int(action) - 1, len(_CHOICES))
            full[function] = TIER_ACTIONS[_CHOICES[choice]]
        return full

    def action_masks(self) -> NDArray[np.bool_]:
        """Which actions make sense in this episode: no padding, and no GPU where there is none or none is used.

        Raises:
            PreloadEnvError: there has been no reset.
        """
        world = cast(PreloadEnv, self.unwrapped).world
        masks = np.zeros((_functions(self.env), len(_CHOICES)), np.bool_)
        masks[: world.function_count] = True
        masks[: world.function_count, _CHOICES.index(Tier.GPU)] = (world.functions.gpu_mb > 0) & (world.gpu_count > 0)
        return np.concatenate([[True], masks.reshape(-1)])


def _functions(env: gym.Env[Any, Any]) -> int:
    return cast(PreloadEnv, env.unwrapped).max_functions
