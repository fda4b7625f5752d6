"""The oracle's choice with hindsight.

The oracle's kernel knows every arrival, but ranks functions by their next one only; where many hot functions share
little memory, holding by rate does better.  Who knows the future can also try: the policy ``oracle`` plays the same
requests under its kernel with several settings of the controller and under every unprivileged built-in policy, and
keeps the best run.  So no built-in policy can be better on both means, and a better one of your own is news.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np

from agents.policies.builtin import POLICIES
from agents.policies.policy import KernelPolicy
from tyche_env.played import Played
from tyche_env.world import Kernel, Routing

Settings = Mapping[str, Any]


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


def best_of(results: Sequence[Played]) -> int:
    """Which run has the least warming and loading time, per request and per function alike.

    Each mean is taken relative to the least of its kind and the sums are compared, so that neither outweighs the other.
    """
    means = np.array([_means_ms(result) for result in results])
    return int(np.argmin(((means + 1.0) / (means.min(axis=0) + 1.0)).sum(axis=1)))


def _means_ms(result: Played) -> tuple[float, float]:
    """Mean over requests and mean over functions."""
    totals = result.totals[result.totals["requests"] > 0]
    if len(totals) == 0:
        return 0.0, 0.0
    loading_ms = totals["warming_loading_us"] / 1e3
    return float(loading_ms.sum() / totals["requests"].sum()), float(np.mean(loading_ms / totals["requests"]))
