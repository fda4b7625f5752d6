"""Leaving a training of stable-baselines3 between two rollouts and going on, to the last bit.

Besides parameters and optimisers that takes the environment (every table of every simulated cluster), the replay
buffer, the counters, what the agent saw last, and the states of all generators: those of the environment, and those of
torch, NumPy and Python, which stable-baselines3 draws from.  The file holds tensors and plain values; reading it runs
no pickle.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import ReplayBuffer

_COUNTERS = (
    *("num_timesteps", "_n_updates", "_episode_num", "_total_timesteps", "_current_progress_remaining"),
    *("_n_calls", "exploration_rate"),
)
_LAST_SEEN = ("_last_obs", "_last_episode_starts")


class Resumable(Protocol):
    """An environment that can say where it stands."""

    def state_dict(self) -> dict[str, Any]:
        """Where it stands: plain values and arrays."""

    def load_state_dict(self, content: Mapping[str, Any]) -> Any:
        """Go on from there."""


def save_checkpoint(path: Path, model: BaseAlgorithm, env: Resumable, memory: Mapping[str, Any]) -> None:
    """Write a checkpoint, whole or not at all; only between two rollouts.

    Args:
        path: the file.
        model: the model.
        env: its environment.
        memory: what else belongs to the training: plain values and arrays.
    """
    names, variables = model._get_torch_save_params()
    content = {
        "parameters": model.get_parameters(),
        "variables": {name: _attribute(model, name).detach().clone() for name in variables},
        "modules": names,
        "counters": {name: getattr(model, name) for name in _COUNTERS if hasattr(model, name)},
        "last": {name: getattr(model, name) for name in _LAST_SEEN},
        "lstm": _lstm_states(model),
        "buffer": _buffer(model),
        "environment": env.state_dict(),
        "generators": {
            "torch": torch.get_rng_state(),
            "numpy": np.random.get_state(),  # noqa: NPY002 - stable-baselines3 draws from it
            "python": random.getstate(),
            "actions": model.action_space.np_random.bit_generator.state,
        },
        "memory": dict(memory),
    }
    temporary = path.with_name(f"{path.name}.partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(_tensors(content), temporary)
    temporary.replace(path)


def load_checkpoint(path: Path, model: BaseAlgorithm, env: Resumable) -> dict[str, Any]:
    """Put a model and its environment, made by the same recipe and seed, where a checkpoint was written.

    Returns:
        The ``memory`` given to :func:`save_checkpoint`.
    """
    content = _arrays(torch.load(path, weights_only=True))
    env.load_state_dict(content["environment"])
    model.set_parameters(_as_tensors(content["parameters"]), device="cpu")
    for name, value in content["variables"].items():
        _attribute(model, name).data.copy_(torch.from_numpy(np.asarray(value)))
    for name, value in (content["counters"] | content["last"]).items():
        setattr(model, name, value)
    if content["lstm"] is not None:
        states = [torch.from_numpy(state) for state in content["lstm"]]
        kind = type(model._last_lstm_states)  # type: ignore[attr-defined]
        model._last_lstm_states = kind((states[0], states[1]), (states[2], states[3]))  # type: ignore[attr-defined]
    buffer = getattr(model, "replay_buffer", None)
    for name, value in (content["buffer"] or {}).items():
        setattr(buffer, name, value)
    generators = content["generators"]
    torch.set_rng_state(torch.from_numpy(generators["torch"]))
    np.random.set_state(generators["numpy"])  # noqa: NPY002
    random.setstate(generators["python"])
    model.action_space.np_random.bit_generator.state = generators["actions"]
    memory: dict[str, Any] = content["memory"]
    return memory


def _attribute(model: BaseAlgorithm, path: str) -> Any:
    found: Any = model
    for name in path.split("."):
        found = getattr(found, name)
    return found


def _lstm_states(model: BaseAlgorithm) -> list[torch.Tensor] | None:
    states = getattr(model, "_last_lstm_states", None)
    return None if states is None else [*states.pi, *states.vf]


def _buffer(model: BaseAlgorithm) -> dict[str, Any] | None:
    """Contents of a replay buffer; a rollout buffer is empty between two rollouts."""
    buffer = getattr(model, "replay_buffer", None)
    if not isinstance(buffer, ReplayBuffer):
        return None
    kept = {name: value for name, value in vars(buffer).items() if isinstance(value, np.ndarray)}
    return kept | {"pos": buffer.pos, "full": buffer.full}


def _tensors(value: Any) -> Any:
    """The same tree with arrays as tensors, which can be read without a pickle."""
    if isinstance(value, np.ndarray):
        return {"array": torch.from_numpy(np.ascontiguousarray(value))}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {key: _tensors(each) for key, each in value.items()}
    if isinstance(value, tuple):
        return tuple(_tensors(each) for each in value)
    if isinstance(value, list):
        return [_tensors(each) for each in value]
    return value


def _arrays(value: Any) -> Any:
    """The tree with its tensors as arrays."""
    if isinstance(value, torch.Tensor):
        return value.numpy()
    if isinstance(value, dict):
        return (
            value["array"].numpy() if set(value) == {"array"} else {key: _arrays(each) for key, each in value.items()}
        )
    if isinstance(value, tuple):
        return tuple(_arrays(each) for each in value)
    if isinstance(value, list):
        return [_arrays(each) for each in value]
    return value


def _as_tensors(value: Any) -> Any:
    """State dictionaries of torch: arrays back to tensors."""
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value)
    if isinstance(value, dict):
        return {key: _as_tensors(each) for key, each in value.items()}
    if isinstance(value, tuple):
        return tuple(_as_tensors(each) for each in value)
    if isinstance(value, list):
        return [_as_tensors(each) for each in value]
    return value
