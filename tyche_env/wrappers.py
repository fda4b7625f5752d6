"""Wrappers of ``tyche/Preload-v0``: observations scaled to [0, 1], and two discrete forms of the action."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, cast

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs
from numpy.typing import NDArray

from tyche_env.env import PreloadEnv
from tyche_env.spaces import TABLES, Column, Observation

Env = gym.Env[Observation, Any]

SMALLEST = {"s": 0.1, "1/s": 1e-5, "MB": 100.0, "s/MB": 1e-6, "count": 1.0, "ratio": 1.0, "code": 1.0}
"""By unit: differences below this hardly show in a scaled observation."""


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


def scale_of(column: Column) -> tuple[float, float]:
    """How a column is scaled: x becomes log(1 + x / a) / b, or x / b if a is infinite.

    Columns bounded by 2 (shares, probabilities, decisions) are divided by their bound.  All others have heavy tails:
    the logarithm shows a gap of 10 s beside one of a day.

    Returns:
        a and b.
    """
    if column.high <= 2:
        return np.inf, column.high
    smallest = SMALLEST[column.unit]
    return smallest, float(np.log1p(column.high / smallest))


class ScaledObservation(gym.ObservationWrapper[Observation, Any, Observation], RecordConstructorArgs):
    """Every column scaled to [0, 1] by :func:`scale_of`; masks stay as they are.

    Args:
        env: the environment.
    """

    def __init__(self, env: Env) -> None:
        RecordConstructorArgs.__init__(self)
        super().__init__(env)
        given = cast(spaces.Dict, env.observation_space)
        boxes: dict[str, spaces.Space[Any]] = {name: spaces.Box(0.0, 1.0, box.shape) for name, box in given.items()}
        self.observation_space = cast(spaces.Space[Observation], spaces.Dict(boxes))
        self._scales: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = {}
        for name, columns in TABLES.items():
            shape = given[name].shape or ()
            a, b = np.array([scale_of(column) for column in columns]).T
            rows = shape[0] // len(columns)
            self._scales[name] = np.tile(a, rows), np.tile(b, rows)

    def observation(self, observation: Observation) -> Observation:
        """The scaled observation."""
        scaled = dict(observation)
        for name, (a, b) in self._scales.items():
            x = observation[name].astype(np.float64)
            values = np.where(np.isinf(a), x, np.log1p(x / a)) / b
            scaled[name] = np.minimum(values, 1.0).astype(np.float32)
        return scaled


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
