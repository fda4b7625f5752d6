"""Measuring trained agents on the test windows: unseen functions and times, against every heuristic.

Every policy plays the same windows and expansions.  One row is one policy, or one training seed of an agent, in one
window, its expansions together; it keeps the sums that tables are pooled from (``agents.evidence.kept``).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from agents.evidence.kept import added, by_function
from agents.evidence.statistics import Parts
from agents.playing.scene import WindowScene, play_in
from agents.playing.spread import ALONE, Progress, Spread, crew, play_all
from agents.policies.builtin import POLICIES
from agents.policies.bundle import Bundle, PolicyBundle
from agents.policies.policy import Policy
from agents.policies.trained import policy_of
from tyche_env.metrics import sums_of
from tyche_env.played import Played
from tyche_env.scenario import Scenario
from tyche_env.world import World

HEURISTICS = ("lru", "greedy-dual", "tyche", "tyche-ewma", "tyche-histogram", "censored", "empirical")
CEILING = "minute-oracle"
FLOOR = "tyche"
METRICS = ("request_ms", "function_ms")
"""Mean cost over requests, and over functions: warming and loading, and the price of loads."""
BESIDES = {
    "hit_rate": ("preloaded", "requests", 1.0),
    "load_s": ("load_us", "requests", 1e-6),
    "preload_gb_s": ("preload_gb_s", "runs", 1.0),
    "queue_ms": ("queue_us", "requests", 1e-3),
}
"""Share of requests that found their function in memory or on a GPU, seconds of loading ahead a request, memory x time
that idle functions took in a window, mean wait in the queue: two sums each, and the factor of the unit."""

SUMS = (
    *("runs", "requests", "preloaded", "warming_loading_us", "queue_us"),
    *("load_us", "load_cost_ms", "preload_gb_s"),
)
"""Sums that a row keeps; ``load_cost_ms`` is what the scenario's price makes of the loading time."""

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
    return [
        row | _together([found[place, seed] for seed in range(expansions)], row["group"])
        for place, row in enumerate(rows)
    ]


def measure_window(scenario: Scenario, policy: Policy, window: int, expansions: int) -> Row:
    """What one policy's row of one test window holds besides its keys."""
    scenes = [WindowScene(scenario, "test", window, expansion) for expansion in range(expansions)]
    runs = [_kept(play_in(scene, policy, record="none"), scenario) for scene in scenes]
    return _together(runs, scenario.windows("test")[window].group)


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

    def row(self, requests: World) -> Row:
        """What it keeps."""
        policy: Policy = POLICIES[self.name] if self.bundle is None else policy_of(self.bundle, self.name)
        return _kept(play_in(self.scene, policy, requests, record="none"), self.scene.scenario)


def cost_parts(rows: Sequence[Mapping[str, Any]], metric: str) -> Parts:
    """A cost over the rows of one policy or training seed, by groups.

    The mean over requests is that of all of them.  In the mean over functions each one's average request counts, over
    all windows of its group, and each function of a group has the same share of the price of the group's loads.

    Args:
        rows: of :func:`measure`.
        metric: one of :data:`METRICS`.
    """
    found: dict[str, tuple[float, float]] = {}
    for group in sorted({row["group"] for row in rows}):
        own = [row for row in rows if row["group"] == group]
        sums, functions = added(own), by_function(own)
        if not sums["requests"]:
            continue
        if metric == METRICS[0]:
            found[group] = (sums["warming_loading_us"] / 1e3 + sums["load_cost_ms"], sums["requests"])
            continue
        means_ms = functions["warming_loading_us"] / functions["requests"] / 1e3
        loads_ms = len(means_ms) * sums["load_cost_ms"] / sums["requests"]
        found[group] = (float(means_ms.sum()) + loads_ms, len(means_ms))
    table = np.array(list(found.values()), np.float64).reshape(-1, 2)
    return Parts(tuple(found), table[:, 0], table[:, 1])


def besides(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The figures of :data:`BESIDES`, pooled over rows."""
    sums = added(rows)
    return {name: sums[part] / max(1, sums[whole]) * factor for name, (part, whole, factor) in BESIDES.items()}


def _together(runs: Sequence[Row], group: str) -> Row:
    """What the expansions of a window come to together."""
    functions = {name: values.tolist() for name, values in by_function(runs).items()}
    row = {"group": group, "sums": added(runs), "functions": functions}
    return {metric: cost_parts([row], metric).value for metric in METRICS} | besides([row]) | row


def _kept(played: Played, scenario: Scenario) -> Row:
    sums = sums_of(played.totals, played.counters, played.integrals_mb_us, scenario.prices)
    sums["load_cost_ms"] = scenario.reward.load_per_s * sums["load_us"] / 1e3
    called = np.flatnonzero(played.totals["requests"])
    columns = {name: played.totals[name][called].tolist() for name in ("requests", "warming_loading_us")}
    return {"sums": {name: sums[name] for name in SUMS}, "functions": {"function": called.tolist(), **columns}}
