"""VecEnvs of stable-baselines3 over the natively batched environment: a cluster each, or a *function* each.

:class:`ClusterVecEnv` shows one cluster as one environment.  :class:`FunctionVecEnv` shows every function of every
cluster as one: a single network, shared by all functions, sees one function's row and a summary of its cluster, and is
rewarded with that function's own waiting.  :class:`HoldPriceVecEnv` is ``tyche/HoldPrice-v1`` many times over.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv

from agents.policies.choices import Actions, choice_space, cluster_action, tier_masks
from tyche_env.env import PreloadEnvError
from tyche_env.features import WIDTH
from tyche_env.function_rows import FunctionRowsVectorEnv, function_rows_space
from tyche_env.hold_price import (
    LOAD_COST,
    PRICES,
    action_of,
    hold_price_observation,
    hold_price_reward,
    hold_price_space,
    loads_made,
    roomy,
)
from tyche_env.spaces import column
from tyche_env.vector import PreloadVectorEnv
from tyche_env.wrappers import Tier

Floats = NDArray[np.float32]


class _BatchedVecEnv(VecEnv):
    """What all have in common: a batch of clusters, seeds, and no environment objects to reach into."""

    def __init__(self, batch: PreloadVectorEnv, rows: int, observation: spaces.Space[Any], action: spaces.Space[Any]):
        self.batch = batch
        self.render_mode = None
        super().__init__(batch.num_envs * rows, observation, action)

    def _first_seed(self) -> int | None:
        seed = self._seeds[0]
        self._reset_seeds()
        return seed

    def step_async(self, actions: NDArray[Any]) -> None:
        """Keep the actions for :meth:`step_wait`."""
        self._actions = actions

    def close(self) -> None:
        """Forget the engines."""
        self.batch.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """An attribute of this object, once an environment asked for."""
        return [getattr(self, attr_name)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Not there: the environments are rows of one batch."""
        raise AttributeError(f"{attr_name}: cannot be set for one environment, they are rows of one batch")

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        """Call a method of this object that answers with one row an environment; the rows asked for."""
        answer = getattr(self, method_name)(*method_args, **method_kwargs)
        return [answer[index] for index in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type[Any], indices: Any = None) -> list[bool]:
        """Never: there are no environment objects."""
        return [False] * len(list(self._get_indices(indices)))


class ClusterVecEnv(_BatchedVecEnv):
    """One environment a cluster: the whole observation, scaled to [0, 1], and the whole action.

    Args:
        clusters: number of clusters.
        scenario: see :class:`~tyche_env.vector.PreloadVectorEnv`, like all other arguments.
    """

    def __init__(self, clusters: int, scenario: Any = "small", **arguments: Any) -> None:
        batch = PreloadVectorEnv(clusters, scenario, scaled=True, **arguments)
        super().__init__(batch, 1, batch.single_observation_space, batch.single_action_space)

    def reset(self) -> dict[str, Floats]:
        """Begin an episode in every cluster."""
        observation, infos = self.batch.reset(seed=self._first_seed())
        self.reset_infos = [{"window": window} for window in infos["window"].tolist()]
        return cast(dict[str, Floats], observation)

    def step_wait(self) -> tuple[dict[str, Floats], Floats, NDArray[np.bool_], list[dict[str, Any]]]:
        """Take the step; the last observation of an ended episode is in ``terminal_observation``."""
        observation, rewards, _, ended, infos = self.batch.step(self._actions)
        out: list[dict[str, Any]] = [{}] * self.num_envs  # one for all that go on
        if "final_obs" in infos:
            for at in np.flatnonzero(ended).tolist():
                out[at] = {"terminal_observation": infos["final_obs"][at], "TimeLimit.truncated": True}
        return observation, rewards.astype(np.float32), ended, out


class FunctionVecEnv(_BatchedVecEnv):
    """One environment a function, of all clusters: row ``cluster * max_functions + function``.

    Observation: the function's features and scaled columns, then the cluster's scaled columns and the mean of all its
    functions' parts (:func:`tyche_env.function_rows.function_rows`).  Action: ``priority``: Box(-1, 1, (1,)), used for
    memory and GPU alike; ``logit``: Box(-10, 10, (1,)), hold with the logistic function of it as priority, as the row
    network does; ``tiers``: the four tiers of :class:`~tyche_env.wrappers.Tier`.  Reward: minus the seconds that the
    function's own requests waited, and the price of its loads if the scenario charges any.
    All functions of a cluster end together.  Rows of padding observe zeros, earn nothing, and their mask allows LEAVE
    alone.

    Args:
        clusters: number of clusters.
        scenario: see :class:`~tyche_env.vector.PreloadVectorEnv`, like all other arguments.
        actions: form of the action.
    """

    def __init__(
        self, clusters: int, scenario: Any = "train-25", *, actions: Actions = "priority", **arguments: Any
    ) -> None:
        self._rows = FunctionRowsVectorEnv(clusters, scenario, **arguments)
        functions = self._rows.max_functions
        super().__init__(self._rows, functions, function_rows_space(), choice_space(actions))
        self.actions: Actions = actions
        self._masks = np.zeros((clusters, functions, len(Tier)), np.bool_)
        self._unmasked = np.ones(clusters, np.bool_)

    def reset(self) -> Floats:
        """Begin an episode in every cluster."""
        return self._begin(self._first_seed(), {})

    def begin(self, window: int, seed: int) -> Floats:
        """Begin an episode of one window in every cluster, so that several agents can meet the same requests."""
        return self._begin(seed, {"window": window})

    def _begin(self, seed: int | None, options: dict[str, Any]) -> Floats:
        rows, _ = self.batch.reset(seed=seed, options=options)
        self._unmasked[:] = True
        return cast(Floats, rows).reshape(self.num_envs, -1)

    def state_dict(self) -> dict[str, Any]:
        """Where all clusters stand, for :meth:`load_state_dict`."""
        return self.batch.state_dict()

    def load_state_dict(self, content: Mapping[str, Any]) -> None:
        """Go on exactly where another environment with the same arguments stood."""
        self.batch.load_state_dict(content)
        self._unmasked[:] = True

    def step_wait(self) -> tuple[Floats, Floats, NDArray[np.bool_], list[dict[str, Any]]]:
        """Take the step; the last rows of an ended episode are in ``terminal_observation``."""
        clusters, functions = self.batch.num_envs, self.batch.max_functions
        action = cluster_action(self.actions, np.asarray(self._actions).reshape(clusters, functions))
        rows, _, _, ended, infos = self.batch.step(action)
        out: list[dict[str, Any]] = [{}] * self.num_envs  # one for all that go on: thousands of rows
        for cluster in np.flatnonzero(ended).tolist():
            self._unmasked[cluster] = True
            for function, last in enumerate(infos["final_obs"][cluster]):
                out[cluster * functions + function] = {"terminal_observation": last, "TimeLimit.truncated": True}
        rewards = infos["function_rewards"].reshape(-1).astype(np.float32)
        over = np.empty((clusters, functions), np.bool_)
        over[...] = ended[:, None]
        return rows.reshape(self.num_envs, -1), rewards, over.reshape(-1), out

    def tier_masks(self) -> NDArray[np.bool_]:
        """Which tiers make sense, (num_envs, 4): they follow from the cluster, and stay for an episode."""
        for cluster in np.flatnonzero(self._unmasked).tolist():
            self._masks[cluster] = tier_masks(self._rows.observation_of(cluster))
        self._unmasked[:] = False
        return self._masks.reshape(self.num_envs, -1)

    def action_masks(self) -> NDArray[np.bool_]:
        """Which tiers make sense, (num_envs, 4): padding can only be left, and GPUs need a GPU.

        Raises:
            PreloadEnvError: the actions are priorities.
        """
        if self.actions != "tiers":
            raise PreloadEnvError("actions: only tiers have masks; pass actions='tiers'")
        return self.tier_masks()


class HoldPriceVecEnv(_BatchedVecEnv):
    """``tyche/HoldPrice-v1`` for every function of some clusters with room for all of them, prices drawn for each.

    Args:
        clusters: number of clusters.
        scenario: whose functions and windows; its memory is replaced.
        prices: lowest and highest price of memory, in starts a decision interval.
        load_cost: kappa, in starts a load; an interval is charged the part of loads that lies in it.
        arguments: see :class:`~tyche_env.vector.PreloadVectorEnv`.
    """

    def __init__(
        self,
        clusters: int,
        scenario: Any = "train-25",
        *,
        prices: tuple[float, float] = PRICES,
        load_cost: float = LOAD_COST,
        **arguments: Any,
    ) -> None:
        batch = PreloadVectorEnv(clusters, roomy(scenario), measure_loads=load_cost > 0, **arguments)
        super().__init__(batch, batch.max_functions, hold_price_space(), spaces.Discrete(2))
        self._bounds = math.log(prices[0]), math.log(prices[1])
        self._load_cost = load_cost

    def reset(self) -> Floats:
        """Begin an episode in every cluster, and draw a price for each function."""
        seed = self._first_seed()
        if seed is not None or not hasattr(self, "_draws"):
            self._draws = np.random.default_rng(seed)
        observation, _ = self.batch.reset(seed=seed)
        self._log_price = self._draws.uniform(*self._bounds, size=self.num_envs)
        return hold_price_observation(observation["functions"].reshape(self.num_envs, WIDTH), self._log_price)

    def state_dict(self) -> dict[str, Any]:
        """Where all clusters and prices stand, for :meth:`load_state_dict`."""
        return {
            "batch": self.batch.state_dict(),
            "draws": self._draws.bit_generator.state,
            "log_price": self._log_price.copy(),
        }

    def load_state_dict(self, content: Mapping[str, Any]) -> None:
        """Go on exactly where another environment with the same arguments stood."""
        self.batch.load_state_dict(content["batch"])
        self._draws = np.random.default_rng()
        self._draws.bit_generator.state = content["draws"]
        self._log_price = np.array(content["log_price"])

    def step_wait(self) -> tuple[Floats, Floats, NDArray[np.bool_], list[dict[str, Any]]]:
        """Take the step; rows of an ended episode get a new price."""
        functions = self.batch.max_functions
        action = action_of(self._actions).reshape(self.batch.num_envs, functions, 2)
        observation, _, _, ended, infos = self.batch.step(action)
        waited_s = -infos["function_rewards"].reshape(-1)
        after = observation["functions"].reshape(self.num_envs, WIDTH)
        out: list[dict[str, Any]] = [{}] * self.num_envs  # one for all that go on: thousands of rows
        last = after
        if ended.any():
            last = after.copy()
            for cluster in np.flatnonzero(ended).tolist():
                rows = slice(cluster * functions, (cluster + 1) * functions)
                last[rows] = infos["final_obs"][cluster]["functions"].reshape(functions, WIDTH)
        loads = np.zeros(self.num_envs)
        if self._load_cost > 0:
            loads = loads_made(infos["loading_us"].reshape(-1), last)
        rewards = hold_price_reward(waited_s, last, np.exp(self._log_price), loads, self._load_cost)
        rewards *= last[:, column("functions", "hold_mb")] > 0
        if ended.any():
            over = np.repeat(ended, functions)
            final = hold_price_observation(last, self._log_price)
            for row in np.flatnonzero(over).tolist():
                out[row] = {"terminal_observation": final[row], "TimeLimit.truncated": True}
            self._log_price[over] = self._draws.uniform(*self._bounds, size=int(over.sum()))
        observed = hold_price_observation(after, self._log_price)
        return observed, rewards.astype(np.float32), np.repeat(ended, functions), out
