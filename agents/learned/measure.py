"""Measuring trained agents on the test windows: unseen functions and times, against every heuristic.

Every policy plays the same windows and expansions.  One row is one policy, or one training seed of an agent, in one
window, its expansions averaged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import product
from typing import Any, cast

import numpy as np

from agents.fan_out import ALONE, Spread, Task, crew, in_order, shareable
from agents.learned.bundle import Bundle, PolicyBundle
from agents.learned.choose import cost
from agents.learned.policy import policy_of
from agents.policy import POLICIES, KernelPolicy, Policy
from tyche_env.scenario import Scenario
from tyche_env.simulate import Result, simulate
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
    progress: Callable[[float], None] | None = None,
    spread: Spread = ALONE,
) -> list[Row]:
    """Run heuristics, the minute oracle and agents over the test windows of a scenario.

    Args:
        scenario: where.
        agents: by name, one bundle a training seed.
        expansions: of each window's counts into arrivals.
        windows: the first few; None: all.
        progress: called with the share that is done.
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
    cells = sorted(product(range(len(rows)), range(expansions)), key=lambda cell: (rows[cell[0]]["window"], cell[1]))
    tasks = [
        Task((scenario, row["policy"], members[row["policy"]][row["seed"]], row["window"], seed), (row["window"], seed))
        for row, seed in ((rows[place], seed) for place, seed in cells)
    ]

    @lru_cache(maxsize=1)
    def world_of(key: tuple[int, int]) -> World:
        return shareable(scenario.world("test", *key))

    def done(count: int) -> None:
        if progress:
            progress(count / len(tasks))

    with crew(spread) as workers:
        found = dict(zip(cells, in_order(workers.do(_play, tasks, world_of), len(tasks), done), strict=True))
    return [row | _mean_of([found[place, seed] for seed in range(expansions)]) for place, row in enumerate(rows)]


def run_window(scenario: Scenario, policy: Policy, window: int, expansions: int) -> dict[str, float]:
    """Metrics of one policy in one test window, means over its expansions."""
    return _mean_of([_metrics(_run(scenario, policy, window, seed), scenario) for seed in range(expansions)])


def _mean_of(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Means over expansions."""
    return {name: float(np.mean([each[name] for each in found])) for name in (*METRICS, *BESIDES)}


def _play(
    scenario: Scenario, name: str, bundle: Bundle | PolicyBundle | None, window: int, seed: int, world: World
) -> dict[str, float]:
    """Metrics of a heuristic by name, or of an agent by its bundle, in one expansion of a test window."""
    policy = POLICIES[name] if bundle is None else policy_of(bundle, name)
    return _metrics(_run(scenario, policy, window, seed, world), scenario)


def _run(scenario: Scenario, policy: Policy, window: int, seed: int, world: World | None = None) -> Result:
    """One run; ``world`` is that of the window and seed under any policy, None: read the trace."""
    if isinstance(policy, KernelPolicy):
        world = scenario.world("test", window, seed) if world is None else scenario.under(world, seed)
        return simulate(policy.equip(world), record="none")
    import gymnasium as gym

    env = gym.make("tyche_env:tyche/Preload-v0", disable_env_checker=True, scenario=scenario, split="test")
    observation, _ = env.reset(seed=seed, options={"window": window})
    state, over, first = None, False, True
    while not over:
        action, state = policy.predict(observation, state, first, True)
        observation, _, _, over, _ = env.step(action)
        first = False
    result: Result = cast(Any, env.unwrapped).result()
    env.close()
    return result


def _metrics(result: Result, scenario: Scenario) -> dict[str, float]:
    requests = max(1, int(result.totals["requests"].sum()))
    by_request, by_function = cost(result, scenario.reward.load_per_s)
    return {
        "request_ms": by_request,
        "function_ms": by_function,
        "hit_rate": float(result.totals["gpu"].sum() + result.totals["memory"].sum()) / requests,
        "load_s": result.counters["load_us"] / 1e6 / requests,
        "preload_gb_s": float(result.integrals_mb_us["preload"].sum()) / 1e9,
        "queue_ms": float(result.totals["queue_us"].sum()) / 1e3 / requests,
    }
