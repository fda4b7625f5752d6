"""Measuring trained agents on the test windows: unseen functions and times, against every heuristic.

Every policy plays the same windows and expansions.  One row is one policy, or one training seed of an agent, in one
window, its expansions averaged.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from agents.playing.scene import WindowScene, play_in
from agents.playing.spread import ALONE, Progress, Spread, crew, play_all
from agents.policies.builtin import POLICIES
from agents.policies.bundle import Bundle, PolicyBundle
from agents.policies.policy import Policy
from agents.policies.trained import policy_of
from agents.training.choose import cost
from tyche_env.played import Played
from tyche_env.scenario import Scenario
from tyche_env.world import World

HEURISTICS = ("lru", "greedy-dual", "tyche", "tyche-ewma", "tyche-histogram", "censored", "empirical")
CEILING = "minute-oracle"
FLOOR = "tyche"
METRICS = ("request_ms", "function_ms")
"""Mean cost over requests, and over functions."""
BESIDES = ("hit_rate", "load_s", "preload_gb_s", "queue_ms")
"""Share of requests that found their function in memory or on a GPU, seconds of loading ahead a request, memory x time
that idle functions took, mean wait in the queue."""

Row = dict[str, Any]


def measure(
    scenario: Scenario,
    agents: Mapping[str, Sequence[Bundle | PolicyBundle]],
    *,
    expansions: int = 2,
    windows: int | None = None,
    progress: Progress | None = None,
    spread: Spread = ALONE,
) -> list[Row]:
    """Run heuristics, the minute oracle and agents over the test windows of a scenario.

    Args:
        scenario: where.
        agents: by name, one bundle a training seed.
        expansions: of each window's counts into arrivals.
        windows: the first few; None: all.
        progress: called with (finished, all) runs.
        spread: where it runs; the rows are the same everywhere.
    """
    members: dict[str, Sequence[Bundle | PolicyBundle | None]] = {name: [None] for name in (*HEURISTICS, CEILING)}
    members |= agents
    rows: list[Row] = [
        {"scenario": scenario.name, "policy": name, "seed": seed, "window": window.index, "group": window.group}
        for window in scenario.windows("test")[:windows]
        for name, found in members.items()
        for seed in range(len(found))
    ]
    # runs of a world follow each other, so that it is made once and needed no longer
    order = sorted(product(range(len(rows)), range(expansions)), key=lambda each: (rows[each[0]]["window"], each[1]))
    runs = [
        MeasuredRun(
            WindowScene(scenario, "test", rows[place]["window"], expansion),
            rows[place]["policy"],
            members[rows[place]["policy"]][rows[place]["seed"]],
            place,
        )
        for place, expansion in order
    ]
    with crew(spread) as workers:
        found = dict(zip(order, play_all(runs, workers, progress), strict=True))
    return [row | _mean_of([found[place, seed] for seed in range(expansions)]) for place, row in enumerate(rows)]


def measure_window(scenario: Scenario, policy: Policy, window: int, expansions: int) -> dict[str, float]:
    """Metrics of one policy in one test window, means over its expansions."""
    scenes = [WindowScene(scenario, "test", window, expansion) for expansion in range(expansions)]
    return _mean_of([_metrics(play_in(scene, policy, record="none"), scenario) for scene in scenes])


@dataclass(frozen=True, slots=True)
class MeasuredRun:
    """One policy in one expansion of a test window.

    Attributes:
        scene: the window and expansion.
        name: of a heuristic or an agent.
        bundle: of an agent.
        place: of its row.
    """

    scene: WindowScene
    name: str
    bundle: Bundle | PolicyBundle | None
    place: int

    @property
    def key(self) -> tuple[Hashable, ...]:
        """Row and expansion."""
        return (self.place, self.scene.seed)

    @property
    def world_key(self) -> tuple[Hashable, ...]:
        """The scene's."""
        return self.scene.world_key

    def requests(self) -> World:
        """The scene's."""
        return self.scene.requests()

    def row(self, requests: World) -> dict[str, float]:
        """Its metrics."""
        policy: Policy = POLICIES[self.name] if self.bundle is None else policy_of(self.bundle, self.name)
        return _metrics(play_in(self.scene, policy, requests, record="none"), self.scene.scenario)


def _mean_of(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Means over expansions."""
    return {name: float(np.mean([each[name] for each in found])) for name in (*METRICS, *BESIDES)}


def _metrics(played: Played, scenario: Scenario) -> dict[str, float]:
    requests = max(1, int(played.totals["requests"].sum()))
    by_request, by_function = cost(played, scenario.reward.load_per_s)
    return {
        "request_ms": by_request,
        "function_ms": by_function,
        "hit_rate": float(played.totals["gpu"].sum() + played.totals["memory"].sum()) / requests,
        "load_s": played.counters["load_us"] / 1e6 / requests,
        "preload_gb_s": float(played.integrals_mb_us["preload"].sum()) / 1e9,
        "queue_ms": float(played.totals["queue_us"].sum()) / 1e3 / requests,
    }
