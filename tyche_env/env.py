"""``tyche/Preload``: the cluster as a Gymnasium environment.

At each decision interval the agent says for every function whether to off-load it, leave it, or hold it, and how much
it is worth in container memory and on a GPU.  The decision core turns that into loads; the reward is minus the seconds
that requests then wait for their inference.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, SupportsFloat, get_args

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from traces import Counts
from traces.counts import MINUTE_US
from tyche_env.accounting import ended_load_us, loading_us
from tyche_env.backend import Backend
from tyche_env.backends import make_backend
from tyche_env.control.compiled import outer
from tyche_env.exchange import Exchange
from tyche_env.exchange import PreloadEnvError as PreloadEnvError
from tyche_env.played import Played, played_from_log
from tyche_env.reward import Step, charges_rent, load_terms, reward_function, reward_terms
from tyche_env.scenario import DAY_US, Conditions, Mode, PrewarmName, Scenario, SplitName
from tyche_env.sources import read_source
from tyche_env.spaces import Layout, Observation, action_space, observation_space
from tyche_env.world import Kernel, World


@outer
def settle(waited_s: NDArray[np.float64], rewards: NDArray[np.float64]) -> float:
    """Write the rewards for seconds waited, (F,), into ``rewards``, at least (F,); returns their sum."""
    total = 0.0
    for function in range(len(waited_s)):
        rewards[function] = 0.0 - waited_s[function]
        total += rewards[function]
    return total


NEWEST = 1
"""The last version of ``tyche/Preload``."""

Totals = tuple[dict[str, int], dict[str, NDArray[np.int64]]]
"""Counters and integrals so far."""


class PreloadEnv(gym.Env[Any, Any]):
    """Opportunistic pre-loading as a Gymnasium environment.

    Observation: flat float32 tables in physical units (``tyche_env.spaces``), padded to ``max_functions`` rows.
    Action: Box(-1, 1, (max_functions, 2)): container memory and GPU; below -0.05 off-load, within +-0.05 leave, above
    hold with priority (a - 0.05) / 0.95, read as P(requested while held).
    Reward: minus the seconds from arrival to the start of inference, when inference starts, plus rents if the scenario
    charges any; ``info["reward_terms"]`` takes it apart.  ``info["function_rewards"]``, (max_functions,), is what each
    function waited and, from version 1 on, was charged for loads.
    The end of the window is truncation; what is unfinished then is drained and charged to the last step.
    ``info["warm_up"]`` is true in steps that evaluation does not score.

    Args:
        scenario: a shipped name, the path of a YAML file, a mapping in the form of one, or a Scenario.
        backend: entry-point name of the backend; ``simulated`` is built in.
        split: windows to draw from: train, validation or test.
        prewarm: the platform's container policy, if not the scenario's.
        mode: paper or realistic, if not the scenario's.
        decision_interval_s: seconds between decisions, if not the scenario's.
        max_functions: rows of the function table; by default the largest window of the split.
        render_mode: ``ansi`` or ``rgb_array``.
        version: whose rules, as in the id ``tyche/Preload-v<version>``; 0 charges all of a load's time when it ends,
            lets the day of a trace of single requests begin with it, whatever its dates say, and takes the label of a
            minute of Azure's for its begin.
    """

    metadata = {"render_modes": ["ansi", "rgb_array"], "render_fps": 10}  # noqa: RUF012 - Gymnasium's own form

    def __init__(
        self,
        scenario: str | Mapping[str, Any] | Scenario = "small",
        *,
        backend: str = "simulated",
        split: SplitName = "train",
        prewarm: PrewarmName | None = None,
        mode: Mode | None = None,
        decision_interval_s: float | None = None,
        max_functions: int | None = None,
        render_mode: str | None = None,
        version: int = NEWEST,
    ) -> None:
        if version not in range(NEWEST + 1):
            raise PreloadEnvError(f"version: there are 0 to {NEWEST}, got {version!r}")
        self.version = version
        self.scenario = as_scenario(scenario)
        if mode is not None:
            self.scenario = self.scenario.with_(mode=mode)
        if prewarm is not None:
            self.scenario = self.scenario.with_(**{"prewarm.policy": prewarm})
        if split not in get_args(SplitName):
            raise PreloadEnvError(f"split {split!r}: there are {', '.join(get_args(SplitName))}")
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise PreloadEnvError(f"render_mode {render_mode!r}: there are ansi and rgb_array")
        self.render_mode = render_mode
        self.split: SplitName = split
        interval_s = self.scenario.decision_interval_s if decision_interval_s is None else decision_interval_s
        if not 1e-6 <= interval_s < math.inf:
            raise PreloadEnvError(f"decision_interval_s: needs a positive number of seconds, got {interval_s}")
        self.interval_us = round(interval_s * 1_000_000)
        self.conditions = Conditions(decision=self.interval_us / 1e6)
        self.windows = self.scenario.windows(split)
        largest = max(len(window.functions) for window in self.windows)
        self.max_functions = largest if max_functions is None else max_functions
        if self.max_functions < largest:
            raise PreloadEnvError(f"max_functions: the largest {split} window has {largest}, got {max_functions}")
        nodes = sum(group.count for group in self.scenario.cluster.nodes)
        self._gpus = sum(group.count * group.gpus for group in self.scenario.cluster.nodes)
        self.observation_space = observation_space(self.max_functions, nodes, self._gpus)
        self.action_space = action_space(self.max_functions)
        self.layout = Layout.of(self.max_functions, nodes, self._gpus)
        self.charges_rent = charges_rent(self.scenario.reward)
        self._own_terms = {name: reward_function(name) for name in self.scenario.reward.terms}
        self.backend: Backend = make_backend(backend)
        self._world: World | None = None
        self._known: dict[int, World] = {}
        """A world of each window that was played, without its requests."""

    @property
    def world(self) -> World:
        """The world of the present episode.

        Raises:
            PreloadEnvError: there has been no reset.
        """
        if self._world is None:
            raise PreloadEnvError("environment: call reset first")
        return self._world

    def checked_window(self, window: object) -> int:
        """The index of a window of the split.

        Raises:
            PreloadEnvError: there is none.
        """
        count = len(self.windows)
        if not isinstance(window, int | np.integer) or isinstance(window, bool) or not 0 <= window < count:
            raise PreloadEnvError(
                f"reset options: split {self.split} has windows 0 to {count - 1}, there is no {window!r}"
            )
        return int(window)

    def episode_world(self, window: int, seed: int) -> World:
        """The world of an episode in a window of the split, with the time of the day that the version shows."""
        if window in self._known:
            return self.scenario.again(self._known[window], self.windows[window], seed)
        world = self._first_world(window, seed)
        none, no_function = np.empty(0, np.int64), np.empty(0, np.int32)
        self._known[window] = replace(world, arrival_us=none, arrival_function=no_function, arrival_duration_us=none)
        return world

    def _first_world(self, window: int, seed: int) -> World:
        world = self.scenario.world(self.split, window, seed, Kernel.AGENT, self.conditions)
        if self.version > 0:
            return world
        source = read_source(self.scenario.trace)
        shown_us = source.first_minute * MINUTE_US if isinstance(source, Counts) else 0
        return replace(world, clock_us=(world.clock_us - (source.start_us or 0) + shown_us) % DAY_US)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode.

        Args:
            seed: seeds the draw of windows; it also is the seed of this episode's world, as in ``tyche evaluate``.
            options: ``window``: index of the window, else one is drawn.

        Raises:
            PreloadEnvError: an unknown option or a window that is not there.
        """
        super().reset(seed=seed)
        options = dict(options or {})
        window = options.pop("window", None)
        if options:
            raise PreloadEnvError(f"reset options: unknown {', '.join(map(repr, options))}; there is 'window'")
        if window is None:
            window = int(self.np_random.integers(len(self.windows)))
        window = self.checked_window(window)
        world_seed = seed if seed is not None else int(self.np_random.integers(2**31))
        world = self.episode_world(window, world_seed)
        self.backend.capabilities.require(world)
        self.backend.reset(world)
        self._world, self.window, self.world_seed = world, window, world_seed
        self._now_us = 0
        self._cpu_s, self._wall_s = time.process_time(), time.perf_counter()
        self._scored_from: Totals | None = None
        self._at_end: Totals | None = None
        if self.charges_rent:
            self._before, self._loading_us = self._charged(), loading_us(self.backend.state)
        self._rewarded = 0
        self._note_score_start()
        self._exchange = Exchange(world, self.layout)
        return self._observe(), self._info(np.zeros(self.max_functions), {"latency": 0.0})

    def step(self, action: NDArray[np.float32]) -> tuple[Observation, SupportsFloat, bool, bool, dict[str, Any]]:
        """Apply one action and let one decision interval pass.

        Raises:
            PreloadEnvError: an action of the wrong shape, or one that is not finite.
        """
        world = self.world
        if self._at_end is not None:
            raise PreloadEnvError("environment: the window is over, call reset")
        self.backend.set_priorities(*self._exchange.decisions(action))
        waited_s = self._advance(min(self._now_us + self.interval_us, world.end_us))
        truncated = self._now_us >= world.end_us
        # of the end of the window, not of the drained cluster after it
        observation = self._observe()
        if truncated:
            self._at_end = self.backend.counters(), self.backend.integrals()
            waited_s = waited_s + self.backend.drain().waited_s
        rewards = np.zeros(self.max_functions)
        terms = {"latency": settle(waited_s, rewards)}
        if self.charges_rent:
            terms |= self._further_terms(waited_s, rewards)
        return observation, sum(terms.values()), False, truncated, self._info(rewards, terms)

    def result(self) -> Played:
        """What the episode measured over its scored window, once it is over (see ``tyche_env.simulate``).

        Raises:
            PreloadEnvError: the window is not over.
        """
        if self._at_end is None or self._scored_from is None:
            raise PreloadEnvError("environment: result() needs a finished window")
        (counters, integrals), (counters_end, integrals_end) = self._scored_from, self._at_end
        return played_from_log(
            self.world,
            self.backend.log(),
            counters={name: counters_end[name] - value for name, value in counters.items()},
            integrals_mb_us={name: integrals_end[name] - value for name, value in integrals.items()},
            cpu_s=time.process_time() - self._cpu_s,
            wall_s=time.perf_counter() - self._wall_s,
        )

    def render(self) -> Any:
        """The cluster now: text for ``ansi``, an (H, W, 3) uint8 picture for ``rgb_array``."""
        from tyche_env.render import ansi, rgb_array

        if self.render_mode is None:
            gym.logger.warn("render() needs a render_mode: pass render_mode='ansi' or 'rgb_array' to gym.make")
            return None
        draw = ansi if self.render_mode == "ansi" else rgb_array
        return draw(self.backend.state, self.world.names)

    def close(self) -> None:
        """Give the backend back."""
        self.backend.close()

    def _advance(self, to_us: int) -> NDArray[np.float64]:
        """Let time pass, stopping where scoring begins; returns the seconds waited, by function."""
        before = None
        if self._now_us < self.world.score_from_us < to_us:
            before = self.backend.advance_until_us(self.world.score_from_us).waited_s
            self._now_us = self.world.score_from_us
            self._note_score_start()
        waited_s = self.backend.advance_until_us(to_us).waited_s
        self._now_us = to_us
        self._note_score_start()
        return waited_s if before is None else before + waited_s

    def _note_score_start(self) -> None:
        if self._now_us == self.world.score_from_us and self._scored_from is None:
            self._scored_from = self.backend.counters(), self.backend.integrals()

    def _charged(self) -> Totals:
        """What rents are charged for so far."""
        counters, integrals = self.backend.counters(), self.backend.integrals()
        if self.version == 0:
            counters = counters | {"load_us": ended_load_us(self.backend.state)}
        return counters, integrals

    def _further_terms(self, waited_s: NDArray[np.float64], rewards: NDArray[np.float64]) -> dict[str, float]:
        """The terms besides what was waited; what functions are charged for loads is added to their ``rewards``."""
        counters, integrals = self._charged()
        old_counters, old_integrals = self._before
        self._before = counters, integrals
        integrals = {name: value - old_integrals[name] for name, value in integrals.items()}
        counters = {name: value - old_counters[name] for name, value in counters.items()}
        terms = reward_terms(self.scenario.reward, waited_s, integrals, counters["load_us"])
        if self.version > 0:
            del terms["latency"]  # it stays the sum of what functions waited, in their order, as in a batch
            before_us, self._loading_us = self._loading_us, loading_us(self.backend.state)
            loads = load_terms(self.scenario.reward.load_per_s, self._loading_us - before_us)
            rewards[: len(loads)] += loads
        if self._own_terms:
            log = self.backend.log()
            step = Step(waited_s, integrals, counters, log[self._rewarded :], self.backend.state)
            self._rewarded = len(log)
            terms |= {name: function(step) for name, function in self._own_terms.items()}
        return terms

    def _observe(self) -> Observation:
        return self._exchange.observation(self.backend.handles)

    def _info(self, rewards: NDArray[np.float64], terms: dict[str, float]) -> dict[str, Any]:
        return {
            "window": self.window,
            "world_seed": self.world_seed,
            "time_s": self._now_us / 1e6,
            "warm_up": self._now_us <= self.world.score_from_us,
            "function_rewards": rewards,
            "reward_terms": terms,
        }


def as_scenario(scenario: str | Mapping[str, Any] | Scenario) -> Scenario:
    """A Scenario from a name, a path, a mapping, or itself."""
    if isinstance(scenario, Scenario):
        return scenario
    if isinstance(scenario, Mapping):
        return Scenario.from_mapping(scenario)
    return Scenario.load(scenario)
