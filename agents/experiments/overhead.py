"""What a decision costs: measured computing time, and a stated model of the network.

Computing time is the CPU time of a simulation with the policy less that without pre-loading, over the requests; it
includes the simulator's own events for loads, so it is an upper limit.  The network is not measured: each message is
taken to cost :data:`HOP_MS`, and a router that scans asks all its nodes, :data:`PARALLEL` at a time.
"""

from __future__ import annotations

from typing import Any

import numpy as np

HOP_MS = 0.25
"""One message and its answer within a data centre; an assumption."""

PARALLEL = 8
"""Nodes that a scanning router asks at a time; an assumption."""

COLUMNS = (
    ("computing us a request", "computing_us"),
    ("nodes asked", "nodes_asked"),
    ("network ms (model)", "network_ms"),
)

_FUNCTIONS = 400
_REPEATS = 3


def measure(draws: int) -> list[dict[str, Any]]:
    """One row a number of nodes and policy, over at most five draws of 400 functions."""
    from agents.experiments.draws import draws as draw_of
    from agents.experiments.runs import Case
    from agents.playing.scene import play_in
    from agents.policies.loading import load
    from tyche_env.scenario import Scenario

    rows = []
    for nodes in (4, 8, 16):
        scenario = Scenario.load("paper-multi-node").with_(
            **{"cluster.nodes": [{"count": nodes, "memory_mb": 1_024_000 // nodes}]}
        )
        cpu_us: dict[str, list[float]] = {}
        for draw in draw_of(scenario.trace, "all", min(draws, 5), _FUNCTIONS):
            for policy in ("none", "instainfer", "tyche"):
                scene = Case({}, scenario, draw, policy, "faascache").scene
                requests = scene.requests()
                runs = [play_in(scene, load(policy), requests, record="none") for _ in range(_REPEATS)]
                best_s = min(run.cpu_s for run in runs)
                cpu_us.setdefault(policy, []).append(1e6 * best_s / len(requests.arrival_us))
        for policy in ("instainfer", "tyche"):
            asked = nodes if policy == "instainfer" else 1
            rows.append(
                {
                    "experiment": "overhead",
                    "nodes": nodes,
                    "policy": policy,
                    "computing_us": max(0.0, float(np.mean(cpu_us[policy]) - np.mean(cpu_us["none"]))),
                    "nodes_asked": asked,
                    "network_ms": HOP_MS * -(-asked // PARALLEL),
                }
            )
    return rows
