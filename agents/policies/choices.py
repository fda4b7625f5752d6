"""The forms in which an agent that decides for one function may answer, and the actions of a cluster they make."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, cast

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from tyche_env.control.kernels import DEAD_ZONE
from tyche_env.features import WIDTH
from tyche_env.spaces import column
from tyche_env.wrappers import TIER_ACTIONS, Tier

Floats = NDArray[np.float32]
Actions = Literal["priority", "logit", "tiers"]

_GPU_MB = column("functions", "gpu_mb")
LARGEST_LOGIT = 10.0


def choice_space(form: Actions) -> spaces.Space[Any]:
    """The space of one function's choice."""
    if form == "tiers":
        return cast(spaces.Space[Any], spaces.Discrete(len(Tier)))
    reach = 1.0 if form == "priority" else LARGEST_LOGIT
    return cast(spaces.Space[Any], spaces.Box(-reach, reach, (1,), np.float32))


def tier_masks(observation: Mapping[str, Floats]) -> NDArray[np.bool_]:
    """Which tiers make sense, (functions, 4), over all clusters: padding can only be left, and GPUs need a GPU."""
    real = observation["functions_mask"].reshape(-1) > 0
    table = observation["functions"].reshape(len(real), WIDTH)
    has_gpus = observation["gpus_mask"].max(axis=-1, initial=0) > 0
    masks = np.repeat(real[:, None], len(Tier), axis=1)
    masks[:, Tier.LEAVE] = True
    masks[:, Tier.GPU] &= np.repeat(has_gpus, observation["functions_mask"].shape[-1]) & (table[:, _GPU_MB] > 0)
    return masks


def cluster_action(form: Actions, chosen: NDArray[Any]) -> Floats:
    """Actions of ``tyche/Preload``, (..., 2), for one choice a function, (...), in one of the forms."""
    if form == "tiers":
        tiers: Floats = TIER_ACTIONS[chosen]
        return tiers
    value = chosen.astype(np.float32)
    if form == "logit":
        value = (DEAD_ZONE + (1 - DEAD_ZONE) / (1 + np.exp(-value))).astype(np.float32)
    action = np.empty((*value.shape, 2), np.float32)
    action[...] = value[..., None]
    return action
