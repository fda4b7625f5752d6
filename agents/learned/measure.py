"""Measuring trained agents on the test windows: unseen functions and times, against every heuristic.

Every policy plays the same windows and expansions.  One row is one policy, or one training seed of an agent, in one
window, its expansions averaged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np

from agents.learned.choose import cost
from agents.policy import POLICIES, KernelPolicy, Policy
from tyche_env.scenario import Scenario
from tyche_env.simulate import Result, simulate
from tyche_env.world import Kernel

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
    agents: Mapping[str, Sequence[Policy]],
    *,
    expansions: int = 2,
    windows: int | None = None,
    progress: Callable[[float], None] | None = None,
) -> list[Row]:
    """Run heuristics, the minute oracle and agents over the test windows of a scenario.

    Args:
        scenario: where.
        agents: by name, one policy a training seed.
        expansions: of each window's counts into arrivals.
        windows: the first few; None: all.
        progress: called with the share that is done.
    """
    policies: dict[str, Sequence[Policy]] = {name: [POLICIES[name]] for name in (*HEURISTICS, CEILING)}
    policies |= agents
    shown = scenario.windows("test")[:windows]
    rows = []
    for done, window in enumerate(shown):
        for name, members in policies.items():
            rows += [
                {"scenario": scenario.name, "policy": name, "seed": seed, "window": window.index, "group": window.group}
                | run_window(scenario, policy, window.index, expansions)
                for seed, policy in enumerate(members)
            ]
        if progress:
            progress((done + 1) / len(shown))
    return rows


def run_window(scenario: Scenario, policy: Policy, window: int, expansions: int) -> dict[str, float]:
    """Metrics of one policy in one test window, means over its expansions."""
    found = [_metrics(_run(scenario, policy, window, seed), scenario) for seed in range(expansions)]
    return {name: float(np.mean([each[name] for each in found])) for name in (*METRICS, *BESIDES)}


def _run(scenario: Scenario, policy: Policy, window: int, seed: int) -> Result:
    if isinstance(policy, KernelPolicy):
        return simulate(policy.equip(scenario.world("test", window, seed, Kernel.NONE)), record="none")
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
