"""Running a built-in policy, and the oracle's choice with hindsight.

The oracle's kernel knows every arrival, but ranks functions by their next one only; where many hot functions share
little memory, holding by rate does better.  Who knows the future can also try: the policy ``oracle`` replays the same
requests under its kernel with several settings of the controller and under every unprivileged built-in policy, and
keeps the best run.  So no built-in policy can be better on both means, and a better one of your own is news.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np

from agents.policy import POLICIES, KernelPolicy
from tyche_env.simulate import Result, simulate
from tyche_env.world import Kernel, Routing, World

Settings = Mapping[str, Any]


def run_policy(world: World, policy: KernelPolicy, **options: Any) -> Result:
    """Simulate a world under a built-in policy.

    Args:
        world: what happens; its kernel is replaced.
        policy: whose kernel and settings are used; with ``hindsight``, the best of :func:`choices`.
        options: of ``tyche_env.simulate.simulate``.

    Returns:
        The result; with hindsight, its CPU and wall seconds are those of all runs.
    """
    if not policy.hindsight:
        return simulate(policy.equip(world).validate(), **options)
    results = [simulate(world.with_settings(**settings).validate(), **options) for settings in choices(policy)]
    best = results[best_of(results)]
    return replace(best, cpu_s=sum(each.cpu_s for each in results), wall_s=sum(each.wall_s for each in results))


def choices(policy: KernelPolicy) -> Iterator[Settings]:
    """The settings that a policy with hindsight tries, its own first."""
    for routing, displace_percent, copies in product((Routing.RING, Routing.FEWEST_BUSY), (-1, 10, 200), (1, 2)):
        yield {
            "kernel": policy.kernel,
            "routing": routing,
            "displace_percent": displace_percent,
            "copies": copies,
        }
    for other in POLICIES.values():
        if not other.privileged and other.kernel not in (Kernel.NONE, Kernel.RANDOM):
            yield {"kernel": other.kernel, **other.settings}


def best_of(results: Sequence[Result]) -> int:
    """Which run has the least warming and loading time, per request and per function alike.

    Each mean is taken relative to the least of its kind and the sums are compared, so that neither outweighs the other.
    """
    means = np.array([_means_ms(result) for result in results])
    return int(np.argmin(((means + 1.0) / (means.min(axis=0) + 1.0)).sum(axis=1)))


def _means_ms(result: Result) -> tuple[float, float]:
    """Mean over requests and mean over functions."""
    totals = result.totals[result.totals["requests"] > 0]
    if len(totals) == 0:
        return 0.0, 0.0
    loading_ms = totals["warming_loading_us"] / 1e3
    return float(loading_ms.sum() / totals["requests"].sum()), float(np.mean(loading_ms / totals["requests"]))
