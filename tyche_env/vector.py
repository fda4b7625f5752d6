"""Many clusters at once: ``PreloadVectorEnv``, natively batched.

All clusters step in one process, each in its own engine; observations of all are written by compiled code into one
array.  What happens when an episode ends is Gymnasium's ``autoreset_mode``: it is begun anew in the same step (the
default: the observation returned is the first of the next episode, the last one is in ``infos["final_obs"]``), in the
next one, or where ``reset`` is told to.
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
def act(addresses: NDArray[np.int64], actions: NDArray[np.float32]) -> None:
    """Write the decisions of one action in each cluster, (n, at least F, 2) and finite, into their states."""
    for lane in range(len(addresses)):
        st = open_state_at(addresses[lane])
        st.cluster[0].new_priorities = 1
        for function in range(st.cluster[0].functions):
            decision, priority, _ = meaning(actions[lane, function, 0])
            gpu_decision, gpu_priority, _ = meaning(actions[lane, function, 1])
            p, gpu_p = priority_of(decision, priority), priority_of(gpu_decision, gpu_priority)
            take_decision(st, function, decision, p, gpu_decision, gpu_p)


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
    ``function_rewards`` (n, max_functions) and ``reward_terms`` by name, which are of the step that was made; and,
    where an episode ended and the next one has begun in the same step, ``final_obs`` and ``final_info`` of its end,
    with the masks ``_final_obs`` and ``_final_info``.
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
        autoreset_mode: what happens when an episode ends: a mode of Gymnasium's or its name.
        render_mode: ``ansi`` or ``rgb_array``, as for PreloadEnv.
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
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        render_mode: str | None = None,
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
            render_mode=render_mode,
        )
        self.autoreset_mode = _autoreset_mode(autoreset_mode)
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
        self.metadata = {**self._one.metadata, "autoreset_mode": self.autoreset_mode}
        self.render_mode = render_mode
        self.spec = None
        self._engines: list[CompiledEngine] = []
        self._loads: list[_Loads] = []
        self._addresses, self._now_us, self._score_from_us, self._end_us = np.zeros((4, num_envs), np.int64)
        self._windows, self._world_seeds = np.zeros((2, num_envs), np.int64)
        self._loading_us = np.zeros((num_envs, self.max_functions), np.int64)
        self._over = np.zeros(num_envs, np.bool_)
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
        """Begin an episode in every cluster, or in some.

        Args:
            seed: of the first cluster, the others count up from it; or one for each.
            options: ``window``: index of the window of every cluster, or one for each, else each draws its own.
                ``reset_mask``: (num_envs,) bool, the clusters that begin anew; the others stay as they are.

        Raises:
            PreloadEnvError: an unknown option, or one that makes no sense; nothing has begun then.
        """
        seeds = seed if isinstance(seed, list) else [None if seed is None else seed + lane for lane in self._count()]
        if len(seeds) != self.num_envs:
            raise PreloadEnvError(f"seed: needs one for each of {self.num_envs} clusters, got {len(seeds)}")
        options = dict(options or {})
        windows = self._windows_of(options.pop("window", None))
        lanes = self._masked(options.pop("reset_mask", None))
        if options:
            named = ", ".join(map(repr, options))
            raise PreloadEnvError(f"reset options: unknown {named}; there are 'window' and 'reset_mask'")
        if not self._draws:
            self._draws = [np.random.default_rng(s) for s in seeds]
        elif seed is not None:
            for lane in lanes:
                self._draws[lane] = np.random.default_rng(seeds[lane])
        engines, loads = dict(enumerate(self._engines)), dict(enumerate(self._loads))
        self._engines, self._loads = [], []  # of no use if one of the new ones cannot be made
        for lane in lanes:
            engines[lane], loads[lane] = self._begin(lane, windows[lane], seeds[lane])
        self._engines, self._loads = list(engines.values()), list(loads.values())
        no_loads = np.zeros_like(self._loading_us) if self._measures_loads else None
        no_rewards = np.zeros((self.num_envs, self.max_functions))
        return self._shown(self._observe(self._all)), self._infos(no_rewards, no_loads, self._terms(no_rewards))

    def _windows_of(self, given: Any) -> list[int | None]:
        """The window that each cluster is to have, None where it draws one."""
        windows = [given] * self.num_envs if given is None or np.ndim(given) == 0 else list(given)
        if len(windows) != self.num_envs:
            raise PreloadEnvError(f"window: needs one for each of {self.num_envs} clusters, got {len(windows)}")
        return [None if window is None else self._one.checked_window(window) for window in windows]

    def _masked(self, mask: Any) -> list[int]:
        """The clusters that begin anew."""
        if mask is None:
            return list(self._count())
        chosen = np.asarray(mask)
        if chosen.shape != (self.num_envs,) or chosen.dtype != np.bool_ or not chosen.any():
            raise PreloadEnvError(
                f"reset_mask: needs {self.num_envs} truth values of which one is true at least, got {mask!r}"
            )
        if not self._engines and not chosen.all():
            raise PreloadEnvError("reset_mask: call reset without it first")
        return [int(lane) for lane in np.flatnonzero(chosen)]

    def step(
        self, actions: NDArray[np.float32]
    ) -> tuple[Any, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Apply one action in every cluster, (num_envs, max_functions, 2), and let one interval pass.

        With ``AutoresetMode.NEXT_STEP`` a cluster whose episode ended in the step before begins the next one instead,
        whatever its action; its reward is 0.

        Raises:
            PreloadEnvError: actions of the wrong shape or that are not finite, or an episode that is over and that
                nobody begins anew; nothing has changed then.
        """
        actions = np.ascontiguousarray(actions, np.float32)
        if actions.shape != self.action_space.shape:
            raise PreloadEnvError(f"actions: need shape {self.action_space.shape}, got {actions.shape}")
        if not self._engines:
            raise PreloadEnvError("environment: call reset first")
        if not (finite := np.isfinite(actions)).all():
            bad = int(np.argmin(finite.all(axis=(1, 2))))
            raise PreloadEnvError(f"actions: row {bad} holds a value that is not finite")
        idle = np.flatnonzero(self._over)
        if len(idle) and self.autoreset_mode == AutoresetMode.DISABLED:
            raise PreloadEnvError(f"environment: the window of cluster {idle[0]} is over, call reset with a reset_mask")
        live = np.flatnonzero(~self._over) if len(idle) else self._all
        for lane in idle.tolist():
            self._engines[lane], self._loads[lane] = self._begin(lane, None, None)
        function_rewards = self._play(actions, live)
        truncated = self._now_us >= self._end_us
        seen = self._observe(self._all)
        over = np.flatnonzero(truncated)
        if self.version > 0 and len(over):
            take_rewards(self._addresses, function_rewards)
        for ended in over.tolist():
            self._engines[ended].drain()
            self._addresses[ended] = self._engines[ended].addresses[0]
        take_rewards(self._addresses, function_rewards)
        loading_us = self._loads_of_the_step() if self._measures_loads else None
        terms = self._terms(function_rewards)
        rewards = terms["latency"].copy()
        if self._load_price and self.version > 0:
            assert loading_us is not None
            function_rewards += load_terms(self._load_price, loading_us)
            terms["load"] = load_terms(self._load_price, loading_us.sum(axis=1))
            rewards += terms["load"]
        elif self._load_price:
            terms["load"] = np.zeros(self.num_envs)
            for at, (engine, loads) in enumerate(zip(self._engines, self._loads, strict=True)):
                charge = self._load_price * loads.begun_s(engine)
                function_rewards[at, : len(charge)] -= charge
                terms["load"][at] = -charge.sum()
            rewards += terms["load"]
        self._over[:] = truncated
        infos = self._infos(function_rewards, loading_us, terms)
        if len(over) and self.autoreset_mode == AutoresetMode.SAME_STEP:
            infos = self._begin_anew(infos, seen, truncated)
        return self._shown(seen), rewards, np.zeros(self.num_envs, np.bool_), truncated, infos

    def _play(self, actions: NDArray[np.float32], lanes: NDArray[np.int64]) -> NDArray[np.float64]:
        """Let one interval pass in some clusters; what functions waited before scoring began is returned."""
        function_rewards = np.zeros((self.num_envs, self.max_functions))
        every = lanes is self._all
        engines = self._engines if every else [self._engines[lane] for lane in lanes]
        addresses = self._addresses if every else self._addresses[lanes]
        act(addresses, actions if every else actions[lanes])
        to_us = self._now_us.copy()
        to_us[lanes] = np.minimum(self._now_us + self._one.interval_us, self._end_us)[lanes]
        if self.version > 0:
            # to the last bit as in a single environment, which also adds up what was waited before scoring began, after
            # that, and in the drain
            crossing = (self._now_us < self._score_from_us) & (self._score_from_us < to_us)
            if crossing.any():
                run_engines(engines, addresses, np.where(crossing, self._score_from_us, to_us)[lanes])
                self._addresses[lanes] = addresses
                take_rewards(self._addresses, function_rewards)
        self._now_us[:] = to_us
        run_engines(engines, addresses, self._now_us[lanes])
        self._addresses[lanes] = addresses
        return function_rewards

    def _begin_anew(self, infos: dict[str, Any], seen: NDArray[np.float32], ended: NDArray[np.bool_]) -> dict[str, Any]:
        """Begin the next episode where one ended, in the same step; ``seen`` and the infos are then of it."""
        final = {name: value.copy() for name, value in infos.items() if name != "reward_terms"}
        final["reward_terms"] = {name: value.copy() for name, value in infos["reward_terms"].items()}
        finals = np.full(self.num_envs, None)
        over = np.flatnonzero(ended)
        for lane in over.tolist():
            finals[lane] = self._shown(seen[lane].copy())
            self._engines[lane], self._loads[lane] = self._begin(lane, None, None)
        seen[over] = self._observe(over)
        infos = self._infos(infos["function_rewards"], infos.get("loading_us"), infos["reward_terms"])
        masks = {f"_{name}": ended.copy() for name in final}
        return infos | {
            "final_obs": finals,
            "_final_obs": ended.copy(),
            "final_info": final | masks,
            "_final_info": ended.copy(),
        }

    def _terms(self, function_rewards: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """What requests waited, (n,), by the name of the reward's term."""
        latency = np.zeros(self.num_envs)
        sum_rows(function_rewards, latency)
        return {"latency": latency}

    def render(self) -> tuple[Any, ...] | None:
        """Each cluster now, as the single environment renders it."""
        from tyche_env.render import ansi, rgb_array

        if self.render_mode is None:
            return None
        draw = ansi if self.render_mode == "ansi" else rgb_array
        return tuple(draw(engine.state, engine.world.names) for engine in self._engines)

    def state_dict(self) -> dict[str, Any]:
        """Where all clusters and their draws stand: plain numbers and arrays, for :meth:`load_state_dict`."""
        return {
            "draws": [draw.bit_generator.state for draw in self._draws],
            "over": self._over.tolist(),
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
        self._over[:] = content.get("over", False)
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
        world = self._one.episode_world(chosen, world_seed)
        self._blanks[lane] = self._one.layout.blank(world.function_count, world.node_count, world.gpu_count)
        # nobody asks a batch for its log, nor for what an episode left when the next one has begun
        spent = self._engines[lane] if self._engines else None
        engine = CompiledEngine(world, record=False, features=True, validated=True, spent=spent)
        self._windows[lane], self._world_seeds[lane], self._addresses[lane] = chosen, world_seed, engine.addresses[0]
        self._now_us[lane], self._score_from_us[lane], self._end_us[lane] = 0, world.score_from_us, world.end_us
        self._loading_us[lane], self._over[lane] = 0, False
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

    def _infos(
        self,
        function_rewards: NDArray[np.float64],
        loading_us: NDArray[np.int64] | None,
        terms: dict[str, NDArray[np.float64]],
    ) -> dict[str, Any]:
        loads = {} if loading_us is None else {"loading_us": loading_us}
        return loads | {
            "window": self._windows.copy(),
            "world_seed": self._world_seeds.copy(),
            "time_s": self._now_us / 1e6,
            "warm_up": self._now_us <= self._score_from_us,
            "function_rewards": function_rewards,
            "reward_terms": terms,
        }


def _autoreset_mode(given: AutoresetMode | str) -> AutoresetMode:
    """One of Gymnasium's modes, by itself, its value or its name.

    Raises:
        PreloadEnvError: there is none of this name.
    """
    for mode in AutoresetMode:
        if given in (mode, mode.value, mode.name):
            return mode
    raise PreloadEnvError(f"autoreset_mode: there are {', '.join(mode.name for mode in AutoresetMode)}, got {given!r}")


def make_vec(num_envs: int, **arguments: Any) -> PreloadVectorEnv:
    """What ``gym.make_vec("tyche_env:tyche/Preload-v1", num_envs, vectorization_mode="vector_entry_point")`` calls."""
    return PreloadVectorEnv(num_envs, **arguments)
