"""How many rows of the environment PPO gets through in a CPU-second, and what part of the time the environment takes.

``python benchmarks/learning.py`` trains PPO of stable-baselines3 on 64 clusters of the scenario ``small``, one function
an agent (``agents.FunctionVecEnv``): 2,560 rows a step, minibatches of 2,560, four epochs.  The same PPO then
learns from an environment of the same shape that costs nothing, in the same process.  Both run on one core and one
thread; one whole episode is played and learned from, so that beginnings and ends of episodes are counted.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecEnv

from agents.training.vec_envs import FunctionVecEnv

CLUSTERS = 64
ROLLOUT = 32
"""Steps between two updates."""
LEAST_ROWS_PER_CPU_S = 8_000

Rows = NDArray[np.float32]


class Costless(VecEnv):
    """As many rows, as wide, with episodes as long as another VecEnv's: random numbers drawn once."""

    def __init__(self, like: FunctionVecEnv, episode: int) -> None:
        self.render_mode = None
        super().__init__(like.num_envs, like.observation_space, like.action_space)
        draw = np.random.default_rng(0)
        width = self.observation_space.shape[0]  # type: ignore[index]
        self._rows = draw.normal(size=(ROLLOUT, self.num_envs, width)).astype(np.float32)
        self._rewards = draw.normal(size=self.num_envs).astype(np.float32)
        self._episode, self._step = episode, 0

    def reset(self) -> Rows:
        """The first rows."""
        self._step = 0
        first: Rows = self._rows[0]
        return first

    def step_async(self, actions: NDArray[Any]) -> None:
        """Whatever the actions are."""

    def step_wait(self) -> tuple[Rows, Rows, NDArray[np.bool_], list[dict[str, Any]]]:
        """The next rows."""
        self._step += 1
        rows, over = self._rows[self._step % ROLLOUT], self._step % self._episode == 0
        infos: list[dict[str, Any]] = [
            {"terminal_observation": row, "TimeLimit.truncated": True} if over else {} for row in rows
        ]
        return rows, self._rewards, np.full(self.num_envs, over), infos

    def close(self) -> None:
        """Nothing to close."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """An attribute, once an environment asked for."""
        return [getattr(self, attr_name)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """There is none to set."""

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        """There is none to call."""
        return []

    def env_is_wrapped(self, wrapper_class: type[Any], indices: Any = None) -> list[bool]:
        """Never."""
        return [False] * len(list(self._get_indices(indices)))


def rows_per_cpu_s(env: VecEnv, steps: int) -> float:
    """Rows that PPO plays and learns from in a CPU-second, over some steps of every row; one rollout before it."""
    model = PPO("MlpPolicy", env, n_steps=ROLLOUT, batch_size=2560, n_epochs=4, gamma=0.5, seed=0, device="cpu")
    model.learn(ROLLOUT * env.num_envs)
    rows = steps * env.num_envs
    before, started = model.num_timesteps, time.process_time()
    model.learn(rows, reset_num_timesteps=False)
    return (model.num_timesteps - before) / (time.process_time() - started)


def main() -> int:
    """Measure, print, compare with what is promised."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenario", default="small", help="whose functions and windows (default: small)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    env = FunctionVecEnv(CLUSTERS, options.scenario)
    trace = env.batch.scenario.trace
    episode = round((trace.window_min + trace.warm_up_min) * 60 / env.batch.scenario.decision_interval_s)
    found = {
        "rows_a_step": env.num_envs,
        "width": env.observation_space.shape[0],  # type: ignore[index]
        "rows_per_cpu_s": round(rows_per_cpu_s(env, episode)),
        "rows_per_cpu_s_costless": round(rows_per_cpu_s(Costless(env, episode), episode)),
    }
    share = 1 - found["rows_per_cpu_s"] / found["rows_per_cpu_s_costless"]
    if options.json:
        print(json.dumps(found | {"share_of_environment": round(share, 3)}))
    else:
        print(
            f"PPO on {found['rows_a_step']} rows of {found['width']} numbers a step: {found['rows_per_cpu_s']:,} rows "
            f"a CPU-second; with an environment that costs nothing {found['rows_per_cpu_s_costless']:,}, so the "
            f"environment takes {100 * share:.0f} % of the time"
        )
    return 0 if found["rows_per_cpu_s"] >= LEAST_ROWS_PER_CPU_S else 1


if __name__ == "__main__":
    sys.exit(main())
