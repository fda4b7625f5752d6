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

from tyche_env.control.compiled import outer
from tyche_env.control.handles import open_state_at
from tyche_env.control.interval import priority_of
from tyche_env.control.kernels import meaning
from tyche_env.control.worth import take_decision
from tyche_env.env import NEWEST, PreloadEnv, PreloadEnvError
from tyche_env.observe import observe_all
from tyche_env.reward import charges_rent, load_terms
from tyche_env.scaling import factors_of_layout, scale_rows, scaled_space
from tyche_env.scenario import Mode, PrewarmName, Scenario, SplitName
from tyche_env.simulator.engine import CompiledEngine, run_engines
from tyche_env.snapshot import snapshot, take_up
from tyche_env.world import World


@outer
def act(addresses: NDArray[np.int64], actions: NDArray[np.float32]) -> int:
    """Write the decisions of one action in each cluster, (n, at least F, 2), into their states.

    Returns:
        -1, or the first cluster whose action holds a value that is not finite.
    """
    bad = -1
    for lane in range(len(addresses)):
        st = open_state_at(addresses[lane])
        st.cluster[0].new_priorities = 1
        finite = True
        for function in range(st.cluster[0].functions):
            decision, priority, good = meaning(actions[lane, function, 0])
            gpu_decision, gpu_priority, gpu_good = meaning(actions[lane, function, 1])
            finite = finite and good and gpu_good
            p, gpu_p = priority_of(decision, priority), priority_of(gpu_decision, gpu_priority)
            take_decision(st, function, decision, p, gpu_decision, gpu_p)
        if bad < 0 and not finite:
            bad = lane
    return bad


@outer
def take_rewards(addresses: NDArray[np.int64], out: NDArray[np.float64]) -> None:
    """Add the rewards that fell due, by function, to ``out``, (n, at least F); none is left."""
    for lane in range(len(addresses)):
        st = open_state_at(addresses[lane])
        for function in range(st.cluster[0].functions):
            out[lane, function] += st.rewards[function]
            st.rewards[function] = 0.0


@outer
def sum_rows(rows: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    """Add up each of some rows, (n, F), from its first value on, into (n,)."""
    for lane in range(len(rows)):
        total = 0.0
        for function in range(rows.shape[1]):
            total += rows[lane, function]
        out[lane] = total


@outer
def read_loading(addresses: NDArray[np.int64], out: NDArray[np.int64]) -> None:
    """Write how long loads of each function were in progress so far into ``out``, (n, at least F)."""
    for lane in range(len(addresses)):
        st = open_state_at(addresses[lane])
        now_us = st.cluster[0].now_us
        for function in range(st.cluster[0].functions):
            f = st.functions[function]
            out[lane, function] = f.loading_copies * now_us - f.loading_weighted


class _Loads:
    """The loads of one cluster, for what version 0 charges: their nominal time, when they begin."""

    def __init__(self, world: World) -> None:
        self._nominal_s = (world.functions.library_us + world.functions.model_us) * 1e-6
        self.counted = np.zeros(world.function_count, np.int64)

    def begun_s(self, engine: CompiledEngine) -> NDArray[np.float64]:
        """Nominal seconds of the loads begun since the last call, (F,)."""
        counts = engine.state.functions["load_count"].copy()
        begun: NDArray[np.float64] = (counts - self.counted) * self._nominal_s
        self.counted = counts
        return begun


class PreloadVectorEnv(VectorEnv[Any, Any, Any]):
    """A batch of simulated clusters of one scenario; every argument as in :class:`~tyche_env.env.PreloadEnv`.

    ``infos`` holds arrays with one row a cluster: ``window``, ``world_seed``, ``time_s``, ``warm_up``,
    ``function_rewards`` (n, max_functions), the one thing there that is of the step that ended an episode and not of
    the next episode; and, where an episode ended, ``final_obs`` with the mask ``_final_obs``.
    Rents of memory are not charged here; loads are, to the function that is loaded.  Rewards and ``function_rewards``
    are those of ``PreloadEnv`` to the last bit; but version 0 charges a load's nominal time, when it begins.
    Where the time of loads is charged or asked for, ``loading_us``, (n, max_functions) int64, says how long loads of
    each function were in progress in the step.

    Args:
        num_envs: number of clusters.
        scenario: name, path, mapping or Scenario.
        split: windows to draw from.
        prewarm: the platform's container policy, if not the scenario's.
        mode: paper or realistic, if not the scenario's.
        decision_interval_s: seconds between decisions, if not the scenario's.
        max_functions: rows of the function table.
        scaled: whether observations are scaled to [0, 1], as :class:`~tyche_env.wrappers.ScaledObservation` does.
        measure_loads: whether ``infos`` say ``loading_us`` whatever the price of loads.
        version: see PreloadEnv.
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
        measure_loads: bool = False,
        version: int = NEWEST,
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
            version=version,
        )
        rents = self._one.scenario.reward
        if charges_rent(rents.model_copy(update={"load_per_s": 0.0})):
            raise PreloadEnvError(
                "reward: the batched environment knows neither rents of memory nor further terms; use PreloadEnv"
            )
        self._load_price, self.version = rents.load_per_s, version
        self._measures_loads = measure_loads or (version > 0 and self._load_price > 0)
        self.num_envs = num_envs
        self.scenario, self.split = self._one.scenario, split
        self.max_functions = self._one.max_functions
        given = self._one.observation_space
        rows = self._one.layout.rows
        self._rows = rows["functions"], rows["nodes"], rows["gpus"]
        self._factors = factors_of_layout(self._one.layout) if scaled else None
        self.single_observation_space = scaled_space(cast(spaces.Dict, given)) if scaled else given
        self.single_action_space = self._one.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.metadata = {**self._one.metadata, "autoreset_mode": AutoresetMode.SAME_STEP}
        self.render_mode = None
        self.spec = None
        self._engines: list[CompiledEngine] = []
        self._loads: list[_Loads] = []
        self._addresses, self._now_us, self._score_from_us, self._end_us = np.zeros((4, num_envs), np.int64)
        self._windows, self._world_seeds = np.zeros((2, num_envs), np.int64)
        self._loading_us = np.zeros((num_envs, self.max_functions), np.int64)
        self._all = np.arange(num_envs)
        self._blanks = np.zeros((num_envs, self._one.layout.size), np.float32)
        self._draws: list[np.random.Generator] = []

    def __setstate__(self, content: dict[str, Any]) -> None:
        # a copy has engines of its own, so their addresses are its own as well
        self.__dict__.update(content)
        for lane, engine in enumerate(self._engines):
            self._addresses[lane] = engine.addresses[0]

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
        self._engines, self._loads = [], []  # of no use if one of the new ones cannot be made
        begun = [self._begin(lane, window, seeds[lane]) for lane in self._count()]
        self._engines, self._loads = (list(column) for column in zip(*begun, strict=True))
        no_loads = self._loading_us.copy() if self._measures_loads else None
        return self._shown(self._observe(self._all)), self._infos(np.zeros(self._loading_us.shape), no_loads)

    def step(
        self, actions: NDArray[np.float32]
    ) -> tuple[Any, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Apply one action in every cluster, (num_envs, max_functions, 2), and let one interval pass."""
        actions = np.ascontiguousarray(actions, np.float32)
        if actions.shape != self.action_space.shape:
            raise PreloadEnvError(f"actions: need shape {self.action_space.shape}, got {actions.shape}")
        if not self._engines:
            raise PreloadEnvError("environment: call reset first")
        rewards = np.zeros(self.num_envs)
        function_rewards = np.zeros((self.num_envs, self.max_functions))
        if (bad := act(self._addresses, actions)) >= 0:
            raise PreloadEnvError(f"actions: row {bad} holds a value that is not finite")
        to_us = np.minimum(self._now_us + self._one.interval_us, self._end_us)
        if self.version > 0:
            # to the last bit as in a single environment, which also adds up what was waited before scoring began, after
            # that, and in the drain
            crossing = (self._now_us < self._score_from_us) & (self._score_from_us < to_us)
            if crossing.any():
                run_engines(self._engines, self._addresses, np.where(crossing, self._score_from_us, to_us))
                take_rewards(self._addresses, function_rewards)
        self._now_us[:] = to_us
        run_engines(self._engines, self._addresses, self._now_us)
        truncated = self._now_us >= self._end_us
        seen = self._observe(self._all)
        over = np.flatnonzero(truncated)
        if self.version > 0 and len(over):
            take_rewards(self._addresses, function_rewards)
        for ended in over.tolist():
            self._engines[ended].drain()
            self._addresses[ended] = self._engines[ended].addresses[0]
        take_rewards(self._addresses, function_rewards)
        sum_rows(function_rewards, rewards)
        loading_us = self._loads_of_the_step() if self._measures_loads else None
        if self._load_price and self.version > 0:
            assert loading_us is not None
            function_rewards += load_terms(self._load_price, loading_us)
            rewards += load_terms(self._load_price, loading_us.sum(axis=1))
        elif self._load_price:
            for at, (engine, loads) in enumerate(zip(self._engines, self._loads, strict=True)):
                charge = self._load_price * loads.begun_s(engine)
                function_rewards[at, : len(charge)] -= charge
                rewards[at] -= charge.sum()
        finals = np.full(self.num_envs, None)
        for ended in over.tolist():
            finals[ended] = self._shown(seen[ended].copy())
            self._engines[ended], self._loads[ended] = self._begin(ended, None, None)
        infos = self._infos(function_rewards, loading_us)
        if len(over):
            seen[over] = self._observe(over)
            infos["final_obs"], infos["_final_obs"] = finals, truncated.copy()
        return self._shown(seen), rewards, np.zeros(self.num_envs, np.bool_), truncated, infos

    def state_dict(self) -> dict[str, Any]:
        """Where all clusters and their draws stand: plain numbers and arrays, for :meth:`load_state_dict`."""
        return {
            "draws": [draw.bit_generator.state for draw in self._draws],
            "lanes": [
                {"window": window, "seed": seed, "now_us": now_us, "tables": snapshot(engine)}
                for window, seed, now_us, engine in zip(
                    *(self._windows.tolist(), self._world_seeds.tolist(), self._now_us.tolist(), self._engines),
                    strict=True,
                )
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
        self._engines, self._loads = [], []
        taken_up = []
        for at, given in enumerate(content["lanes"]):
            begun, loads = self._begin(at, given["window"], given["seed"])
            engine = take_up(begun.world, given["tables"])
            loads.counted = engine.state.functions["load_count"].copy()
            self._now_us[at], self._addresses[at] = given["now_us"], engine.addresses[0]
            taken_up.append((engine, loads))
        self._engines, self._loads = (list(column) for column in zip(*taken_up, strict=True))
        read_loading(self._addresses, self._loading_us)
        return self._shown(self._observe(self._all))

    def close_extras(self, **kwargs: Any) -> None:
        """Forget the engines."""
        self._engines, self._loads = [], []
        self._one.close()

    def _count(self) -> range:
        return range(self.num_envs)

    def _begin(self, lane: int, window: int | None, seed: int | None) -> tuple[CompiledEngine, _Loads]:
        """A new episode of one cluster, at time 0."""
        draw = self._draws[lane]
        count = len(self._one.windows)
        chosen = int(draw.integers(count)) if window is None else window
        world_seed = int(draw.integers(2**31)) if seed is None else seed
        if not 0 <= chosen < count:
            raise PreloadEnvError(f"reset options: split {self.split} has windows 0 to {count - 1}, got {chosen}")
        world = self._one.episode_world(chosen, world_seed)
        self._blanks[lane] = self._one.layout.blank(world.function_count, world.node_count, world.gpu_count)
        # nobody asks a batch for its log, nor for what an episode left when the next one has begun
        spent = self._engines[lane] if lane < len(self._engines) else None
        engine = CompiledEngine(world, record=False, features=True, validated=True, spent=spent)
        self._windows[lane], self._world_seeds[lane], self._addresses[lane] = chosen, world_seed, engine.addresses[0]
        self._now_us[lane], self._score_from_us[lane], self._end_us[lane] = 0, world.score_from_us, world.end_us
        self._loading_us[lane] = 0
        return engine, _Loads(world)

    def _observe(self, lanes: NDArray[np.int64]) -> NDArray[np.float32]:
        """What some clusters show now, one row each."""
        seen: NDArray[np.float32] = self._blanks[lanes]
        observe_all(self._addresses[lanes], seen, *self._rows)
        if self._factors is not None:  # a loop of its own, which the compiler makes better code of
            scale_rows(seen, self._factors)
        return seen

    def _shown(self, seen: NDArray[np.float32]) -> Any:
        """One row or all, as the caller gets them."""
        return self._one.layout.split(seen)

    def _loads_of_the_step(self) -> NDArray[np.int64]:
        """How long loads of each function were in progress since the last call, (n, max_functions)."""
        before_us, self._loading_us = self._loading_us, np.zeros_like(self._loading_us)
        read_loading(self._addresses, self._loading_us)
        return self._loading_us - before_us

    def _infos(self, function_rewards: NDArray[np.float64], loading_us: NDArray[np.int64] | None) -> dict[str, Any]:
        loads = {} if loading_us is None else {"loading_us": loading_us}
        return loads | {
            "window": self._windows.copy(),
            "world_seed": self._world_seeds.copy(),
            "time_s": self._now_us / 1e6,
            "warm_up": self._now_us <= self._score_from_us,
            "function_rewards": function_rewards,
        }


def make_vec(num_envs: int, **arguments: Any) -> PreloadVectorEnv:
    """What ``gym.make_vec("tyche_env:tyche/Preload-v1", num_envs, vectorization_mode="vector_entry_point")`` calls."""
    return PreloadVectorEnv(num_envs, **arguments)
