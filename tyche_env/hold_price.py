"""``tyche/HoldPrice``: one function that rents its memory at a price.

The cluster's memory is a constraint that couples all functions.  With a price on memory each function can decide for
itself: hold, as long as what it saves is worth the rent.  The price is drawn anew for each episode and observed, so
that one policy learns the answer to every price; in a cluster, ranking functions by how much they want to hold finds
the price at which memory is just full.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from traces import Window
from tyche_env.accounting import loading_us
from tyche_env.env import PreloadEnvError, as_scenario
from tyche_env.features import WIDTH, features_of, occupied
from tyche_env.network import INPUTS
from tyche_env.observe import observe
from tyche_env.scenario import Conditions, Scenario, SplitName
from tyche_env.simulator.engine import CompiledEngine
from tyche_env.simulator.loading import warm_up
from tyche_env.spaces import Layout, column
from tyche_env.world import Decision, Kernel

Floats = NDArray[np.float32]

PRICES = (1e-3, 0.5)
"""Lowest and highest rent of memory for one decision interval, in starts: at 1, it is as much as holding can save."""
LOAD_COST = 0.0
"""Cost of a load, in starts; the scenarios ``costly-25`` and ``costly-50`` mean 0.3."""
NEWEST = 1
"""The last version of ``tyche/HoldPrice``."""
WIDTH_OBSERVED = INPUTS + 1
"""Features of the row network, and the log of the price."""

_SAVED = column("functions", "saved_s")
_HOLD, _LET_GO = np.array([1.0, -1.0], np.float32), np.array([-1.0, -1.0], np.float32)


def hold_price_space() -> spaces.Space[Floats]:
    """The space of observations."""
    limit = np.finfo(np.float32).max
    return cast(spaces.Space[Floats], spaces.Box(-limit, limit, (WIDTH_OBSERVED,), np.float32))


def action_of(hold: NDArray[np.integer[Any]]) -> Floats:
    """Actions of ``tyche/Preload``, (n, 2), for n decisions to hold (1) or not (0)."""
    return np.where(np.asarray(hold).reshape(-1, 1) == 1, _HOLD, _LET_GO)


def hold_price_observation(rows: Floats, log_price: NDArray[np.float64]) -> Floats:
    """(n, WIDTH_OBSERVED) of (n, WIDTH) function rows and (n,) logs of prices."""
    return np.column_stack([features_of(rows), log_price]).astype(np.float32)


def saved_s(rows: Floats) -> Floats:
    """(n,) latency that a held copy saves: also the time that a load takes, but for noise and commands' delays."""
    return np.maximum(rows[:, _SAVED], 1e-3)


def loads_made(loading_us: NDArray[np.int64], rows: Floats) -> NDArray[np.float64]:
    """(n,) loads made in an interval, where the part of a load that lies in it counts as that part.

    Args:
        loading_us: (n,) time in the interval for which loads were in progress; a run that finds nothing held loads too,
            but waits for it already.
        rows: (n, WIDTH).
    """
    made: NDArray[np.float64] = loading_us / 1e6 / saved_s(rows)
    return made


def loads_begun(before: Floats, after: Floats, hold: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(n,) loads begun in an interval, as far as its ends show them: what ``tyche/HoldPrice-v0`` charges.

    Args:
        before: (n, WIDTH) rows before the interval.
        after: (n, WIDTH) rows after it.
        hold: (n,) whether holding was decided.
    """
    return (hold & occupied(after) & ~occupied(before)).astype(np.float64)


def hold_price_reward(
    waited_s: NDArray[np.float64],
    rows: Floats,
    price: NDArray[np.float64],
    loads: NDArray[np.float64],
    load_cost: float,
) -> NDArray[np.float64]:
    """(n,) rewards of one interval, in starts: - waited / latency saved - price x held - load cost x loads.

    Args:
        waited_s: (n,) seconds waited by requests whose inference began.
        rows: (n, WIDTH) rows after the interval.
        price: (n,) rent for one interval.
        loads: (n,) loads that are charged.
        load_cost: kappa.
    """
    reward: NDArray[np.float64] = -waited_s / saved_s(rows) - price * occupied(rows) - load_cost * loads
    return reward


def roomy(scenario: str | Mapping[str, Any] | Scenario) -> Scenario:
    """The scenario on one node that has room for two containers of every function, so that none displaces another.

    Loads do not contend there either: alone, a function has all cores to itself.
    """
    given = as_scenario(scenario)
    largest_mb = given.functions.container_mb or max(profile.container_mb for profile in given.functions.selected())
    memory_mb = 2 * given.trace.group_size * largest_mb
    return given.with_(
        cluster={"nodes": [{"count": 1, "memory_mb": memory_mb}]},
        isolation="strict",
        contention=False,
        reward={"load_per_s": 0},
    )


class HoldPriceEnv(gym.Env[Floats, Any]):
    """One function of one window, alone on a node.

    Observation: Box of WIDTH_OBSERVED: the features of the row network, and the log of the price.
    Action: 1 hold, 0 let go.
    Reward, in starts: see :func:`hold_price_reward`.  The end of the window is truncation; what is unfinished then is
    drained and charged to the last step.

    Args:
        scenario: a shipped name, the path of a YAML file, a mapping in the form of one, or a Scenario.
        split: windows to draw from.
        decision_interval_s: seconds between decisions, if not the scenario's.
        prices: lowest and highest price; drawn log-uniformly for each episode.
        load_cost: kappa, what a whole load costs.
        version: whose rules, as in the id ``tyche/HoldPrice-v<version>``: from 1 on an interval is charged the part of
            loads that lies in it (:func:`loads_made`); 0 charges whole loads that have begun (:func:`loads_begun`).
    """

    metadata = {"render_modes": []}  # noqa: RUF012 - Gymnasium's own form

    def __init__(
        self,
        scenario: str | Mapping[str, Any] | Scenario = "train-25",
        *,
        split: SplitName = "train",
        decision_interval_s: float | None = None,
        prices: tuple[float, float] = PRICES,
        load_cost: float = LOAD_COST,
        version: int = NEWEST,
    ) -> None:
        if version not in range(NEWEST + 1):
            raise PreloadEnvError(f"version: there are 0 to {NEWEST}, got {version!r}")
        self.version = version
        if not 0 < prices[0] <= prices[1]:
            raise PreloadEnvError(f"prices: need 0 < lowest <= highest, got {prices}")
        warm_up()
        # by position every function alone would get the first profile
        self.scenario = roomy(scenario).with_(**{"functions.assign": "cycle"})
        self.split: SplitName = split
        self.windows = self.scenario.windows(split)
        interval_s = self.scenario.decision_interval_s if decision_interval_s is None else decision_interval_s
        self._interval_us = round(interval_s * 1_000_000)
        self._conditions = Conditions(decision=self._interval_us / 1e6)
        self._bounds, self._load_cost = np.log(prices), load_cost
        self.observation_space = hold_price_space()
        self.action_space = spaces.Discrete(2)
        self._layout = Layout.of(1, 1, 0)
        self._engine: CompiledEngine | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Floats, dict[str, Any]]:
        """Begin an episode with a function, a window and a price of its own; there are no options."""
        super().reset(seed=seed)
        if options:
            raise PreloadEnvError(f"reset options: unknown {', '.join(map(repr, options))}; there are none")
        window = self.windows[int(self.np_random.integers(len(self.windows)))]
        function = int(self.np_random.choice(window.functions))
        alone = Window(
            split=window.split,
            index=window.index,
            group=window.group,
            functions=(function,),
            start_us=window.start_us,
            score_from_us=window.score_from_us,
            end_us=window.end_us,
        )
        self._log_price = np.array([self.np_random.uniform(*self._bounds)])
        world = self.scenario.world_of(alone, int(self.np_random.integers(2**31)), Kernel.AGENT, self._conditions)
        self._engine, self._now_us, self._end_us = CompiledEngine(world, features=True), 0, world.end_us
        self._row, self._loading_us = self._look(), loading_us(self._engine.state)
        return hold_price_observation(self._row, self._log_price)[0], {"window": window.index, "function": function}

    def step(self, action: Any) -> tuple[Floats, float, bool, bool, dict[str, Any]]:
        """Hold or let go, and let one interval pass.

        Raises:
            PreloadEnvError: there has been no reset, or the window is over.
        """
        engine = self._engine
        if engine is None or self._now_us >= self._end_us:
            raise PreloadEnvError("environment: the window is over, call reset" if engine else "call reset first")
        answer = Decision.HOLD if int(action) == 1 else Decision.OFFLOAD
        engine.set_priorities(np.full((1, 2), answer, np.int8), np.full((1, 2), 1 << 20, np.int64))
        self._now_us = min(self._now_us + self._interval_us, self._end_us)
        engine.advance_until(self._now_us)
        before, self._row = self._row, self._look()
        over = self._now_us >= self._end_us
        if over:
            engine.drain()
        waited_s = -engine.state.rewards.copy()
        engine.state.rewards[:] = 0.0
        before_us, self._loading_us = self._loading_us, loading_us(engine.state)
        if self.version > 0:
            loads = loads_made(self._loading_us - before_us, self._row)
        else:
            loads = loads_begun(before, self._row, np.array([answer == Decision.HOLD]))
        reward = hold_price_reward(waited_s, self._row, np.exp(self._log_price), loads, self._load_cost)
        return hold_price_observation(self._row, self._log_price)[0], float(reward[0]), False, over, {}

    def _look(self) -> Floats:
        assert self._engine is not None
        flat = self._layout.blank(1, 1, 0)
        observe(self._engine.handles, flat, 1, 1, 1)
        return flat[self._layout.parts["functions"]].reshape(1, WIDTH)
