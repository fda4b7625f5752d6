"""Many clusters at once: ``PreloadVectorEnv``, natively batched.

All clusters step in one process, each in its own engine; observations of all are written by compiled code into one
array.  An episode that ends is begun anew in the same step (``AutoresetMode.SAME_STEP``): the observation returned is
the first of the next episode, the last one is in ``infos["final_obs"]``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from tyche_env.control.codes import LEAVE
from tyche_env.control.compiled import outer
from tyche_env.control.handles import open_state_at
from tyche_env.control.kernels import meaning
from tyche_env.control.worth import refresh_candidate, set_gpu_priority, set_priority
from tyche_env.env import PreloadEnv, PreloadEnvError
from tyche_env.observe import observe_all
from tyche_env.reward import charges_rent
from tyche_env.scaling import factors_of_layout, scaled_space
from tyche_env.scenario import Mode, PrewarmName, Scenario, SplitName
from tyche_env.simulator.engine import CompiledEngine
from tyche_env.snapshot import snapshot, take_up
from tyche_env.world import Kernel, World


@outer
def act(addresses: NDArray[np.int64], actions: NDArray[np.float32]) -> int:
    """Write the decisions of one action in each cluster, (n, at least F, 2), into their states.

    Returns:
        -1, or the first cluster whose action holds a value that is not finite.
    """
    bad = -1
    for lane in range(len(addresses)):
        st = open_state_at(addresses[lane])
        finite = True
        for function in range(st.cluster[0].functions):
            f = st.functions[function]
            decision, priority, good = meaning(actions[lane, function, 0])
            gpu_decision, gpu_priority, gpu_good = meaning(actions[lane, function, 1])
            finite = finite and good and gpu_good
            f.decision = decision
            if decision != LEAVE:
                set_priority(st, function, priority)
            f.gpu_decision = gpu_decision
            if gpu_decision != LEAVE:
                set_gpu_priority(st, function, gpu_priority)
            refresh_candidate(st, function)
        if bad < 0 and not finite:
            bad = lane
    return bad


@outer
def take_rewards(addresses: NDArray[np.int64], out: NDArray[np.float64], sums: NDArray[np.float64]) -> None:
    """Move the rewards that fell due, by function, into ``out``, (n, at least F), and their sums into (n,)."""
    for lane in range(len(addresses)):
        st = open_state_at(addresses[lane])
        for function in range(st.cluster[0].functions):
            out[lane, function] = st.rewards[function]
            sums[lane] += st.rewards[function]
            st.rewards[function] = 0.0


class _Lane:
    """One cluster of the batch: its engine and where it stands."""

    __slots__ = ("_load_s", "engine", "loads", "now_us", "seed", "window", "world")

    def __init__(self, world: World, window: int, seed: int) -> None:
        self.world, self.window, self.seed = world, window, seed
        self.engine = CompiledEngine(world, record=False, features=True)  # nobody asks a batch for its log
        self.now_us = 0
        self._load_s = (world.functions.library_us + world.functions.model_us) * 1e-6
        self.loads = np.zeros(world.function_count, np.int64)

    def loads_s(self) -> NDArray[np.float64]:
        """Nominal seconds of the loads begun since the last call, (F,)."""
        loads = self.engine.state.functions["load_count"].copy()
        begun = (loads - self.loads) * self._load_s
        self.loads = loads
        return begun


class PreloadVectorEnv(VectorEnv[Any, Any, Any]):
    """A batch of simulated clusters of one scenario; every argument as in :class:`~tyche_env.env.PreloadEnv`.

    ``infos`` holds arrays with one row a cluster: ``window``, ``world_seed``, ``time_s``, ``warm_up``,
    ``function_rewards`` (n, max_functions), the one thing there that is of the step that ended an episode and not of
    the next episode; and, where an episode ended, ``final_obs`` with the mask ``_final_obs``.
    Rents of memory are not charged here; loads are, with their nominal time when they begin (``PreloadEnv`` charges
    the time that they took when they end), to the function that is loaded.

    Args:
        num_envs: number of clusters.
        scenario: name, path, mapping or Scenario.
        split: windows to draw from.
        prewarm: the platform's container policy, if not the scenario's.
        mode: paper or realistic, if not the scenario's.
        decision_interval_s: seconds between decisions, if not the scenario's.
        max_functions: rows of the function table.
        scaled: whether observations are scaled to [0, 1], as :class:`~tyche_env.wrappers.ScaledObservation` does.
    """

    def __init__(
        self,
        num_envs: int,
        scenario: str | Mapping[str, Any] | Scenario = "small",
        *,
        split: SplitName = "train",
        prewarm: PrewarmName | None = None,
        mode: Mode | None = None,
        decision_interval_s: float | None = None,
        max_functions: int | None = None,
        scaled: bool = False,
    ) -> None:
        if num_envs < 1:
            raise PreloadEnvError(f"num_envs: needs at least one, got {num_envs}")
        # the single environment checks the arguments and lays out the observation
        self._one = PreloadEnv(
            scenario,
            split=split,
            prewarm=prewarm,
            mode=mode,
            decision_interval_s=decision_interval_s,
            max_functions=max_functions,
        )
        rents = self._one.scenario.reward
        if charges_rent(rents.model_copy(update={"load_per_s": 0.0})):
            raise PreloadEnvError(
                "reward: the batched environment knows neither rents of memory nor further terms; use PreloadEnv"
            )
        self._load_price = rents.load_per_s
        self.num_envs = num_envs
        self.scenario, self.split = self._one.scenario, split
        self.max_functions = self._one.max_functions
        given = self._one.observation_space
        rows = self._one.layout.rows
        self._rows = rows["functions"], rows["nodes"], rows["gpus"]
        self._factors = factors_of_layout(self._one.layout) if scaled else np.zeros((3, 0), np.float32)
        self.single_observation_space = scaled_space(cast(spaces.Dict, given)) if scaled else given
        self.single_action_space = self._one.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.metadata = {**self._one.metadata, "autoreset_mode": AutoresetMode.SAME_STEP}
        self.render_mode = None
        self.spec = None
        self._lanes: list[_Lane] = []
        self._all = np.arange(num_envs)
        self._blanks = np.zeros((num_envs, self._one.layout.size), np.float32)
        self._handles: list[NDArray[np.int64] | None] = [None] * num_envs
        self._addresses = np.zeros(num_envs, np.int64)
        self._draws: list[np.random.Generator] = []

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode in every cluster.

        Args:
            seed: of the first cluster, the others count up from it; or one for each.
            options: ``window``: index of the window of every cluster, else each draws its own.
        """
        seeds = seed if isinstance(seed, list) else [None if seed is None else seed + lane for lane in self._count()]
        if len(seeds) != self.num_envs:
            raise PreloadEnvError(f"seed: needs one for each of {self.num_envs} clusters, got {len(seeds)}")
        window = (options or {}).get("window")
        if not self._draws or seed is not None:
            self._draws = [np.random.default_rng(s) for s in seeds]
        self._lanes = [self._begin(lane, window, seeds[lane]) for lane in self._count()]
        return self._shown(self._observe(self._all)), self._infos(np.zeros((self.num_envs, self.max_functions)))

    def step(
        self, actions: NDArray[np.float32]
    ) -> tuple[Any, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Apply one action in every cluster, (num_envs, max_functions, 2), and let one interval pass."""
        actions = np.ascontiguousarray(actions, np.float32)
        if actions.shape != self.action_space.shape:
            raise PreloadEnvError(f"actions: need shape {self.action_space.shape}, got {actions.shape}")
        if not self._lanes:
            raise PreloadEnvError("environment: call reset first")
        rewards = np.zeros(self.num_envs)
        function_rewards = np.zeros((self.num_envs, self.max_functions))
        truncated = np.zeros(self.num_envs, np.bool_)
        if (bad := act(self._look_up(), actions)) >= 0:
            raise PreloadEnvError(f"actions: row {bad} holds a value that is not finite")
        interval_us = self._one.interval_us
        for at, lane in enumerate(self._lanes):
            lane.now_us = min(lane.now_us + interval_us, lane.world.end_us)
            lane.engine.advance_from_decisions(lane.now_us)
            truncated[at] = lane.now_us >= lane.world.end_us
        seen = self._observe(self._all)
        over = np.flatnonzero(truncated)
        for ended in over.tolist():
            self._lanes[ended].engine.drain()
        take_rewards(self._look_up(), function_rewards, rewards)
        if self._load_price:
            for at, lane in enumerate(self._lanes):
                charge = self._load_price * lane.loads_s()
                function_rewards[at, : len(charge)] -= charge
                rewards[at] -= charge.sum()
        finals = np.full(self.num_envs, None)
        for ended in over.tolist():
            finals[ended] = self._shown(seen[ended].copy())
            self._lanes[ended] = self._begin(ended, None, None)
        infos = self._infos(function_rewards)
        if len(over):
            seen[over] = self._observe(over)
            infos["final_obs"], infos["_final_obs"] = finals, truncated.copy()
        return self._shown(seen), rewards, np.zeros(self.num_envs, np.bool_), truncated, infos

    def state_dict(self) -> dict[str, Any]:
        """Where all clusters and their draws stand: plain numbers and arrays, for :meth:`load_state_dict`."""
        return {
            "draws": [draw.bit_generator.state for draw in self._draws],
            "lanes": [
                {"window": lane.window, "seed": lane.seed, "now_us": lane.now_us, "tables": snapshot(lane.engine)}
                for lane in self._lanes
            ],
        }

    def load_state_dict(self, content: Mapping[str, Any]) -> Any:
        """Go on exactly where another environment with the same arguments stood; returns the observation there.

        Raises:
            PreloadEnvError: the state is of another number of clusters.
        """
        if len(content["lanes"]) != self.num_envs:
            raise PreloadEnvError(f"state: holds {len(content['lanes'])} clusters, this environment {self.num_envs}")
        self._draws = [np.random.default_rng() for _ in self._count()]
        for draw, state in zip(self._draws, content["draws"], strict=True):
            draw.bit_generator.state = state
        self._lanes = []
        for at, given in enumerate(content["lanes"]):
            lane = self._begin(at, given["window"], given["seed"])
            lane.engine, lane.now_us = take_up(lane.world, given["tables"]), given["now_us"]
            lane.loads = lane.engine.state.functions["load_count"].copy()
            self._lanes.append(lane)
        return self._shown(self._observe(self._all))

    def close_extras(self, **kwargs: Any) -> None:
        """Forget the engines."""
        self._lanes = []
        self._one.close()

    def _count(self) -> range:
        return range(self.num_envs)

    def _begin(self, lane: int, window: int | None, seed: int | None) -> _Lane:
        draw = self._draws[lane]
        count = len(self._one.windows)
        chosen = int(draw.integers(count)) if window is None else window
        world_seed = int(draw.integers(2**31)) if seed is None else seed
        if not 0 <= chosen < count:
            raise PreloadEnvError(f"reset options: split {self.split} has windows 0 to {count - 1}, got {chosen}")
        world = self.scenario.world(self.split, chosen, world_seed, Kernel.LRU, event_mode=False)
        self._blanks[lane] = self._one.layout.blank(world.function_count, world.node_count, world.gpu_count)
        return _Lane(world, chosen, world_seed)

    def _look_up(self) -> NDArray[np.int64]:
        """Where the tables of all engines are found, (n,); an engine replaces its handles when a table grows."""
        for at, lane in enumerate(self._lanes):
            handles = lane.engine.handles
            if handles is not self._handles[at]:
                self._handles[at], self._addresses[at] = handles, handles.ctypes.data
        return self._addresses

    def _observe(self, lanes: NDArray[np.int64]) -> NDArray[np.float32]:
        """What some clusters show now, one row each."""
        seen: NDArray[np.float32] = self._blanks[lanes]
        observe_all(self._look_up()[lanes], seen, *self._rows, self._factors)
        return seen

    def _shown(self, seen: NDArray[np.float32]) -> Any:
        """One row or all, as the caller gets them."""
        return self._one.layout.split(seen)

    def _infos(self, function_rewards: NDArray[np.float64]) -> dict[str, Any]:
        return {
            "window": np.array([lane.window for lane in self._lanes]),
            "world_seed": np.array([lane.seed for lane in self._lanes]),
            "time_s": np.array([lane.now_us / 1e6 for lane in self._lanes]),
            "warm_up": np.array([lane.now_us <= lane.world.score_from_us for lane in self._lanes]),
            "function_rewards": function_rewards,
        }


def make_vec(num_envs: int, **arguments: Any) -> PreloadVectorEnv:
    """What ``gym.make_vec("tyche_env:tyche/Preload-v0", num_envs, vectorization_mode="vector_entry_point")`` calls."""
    return PreloadVectorEnv(num_envs, **arguments)
