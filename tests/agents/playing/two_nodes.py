"""Evaluate one plan serially and on a Ray cluster of two nodes: ``python -m tests.agents.playing.two_nodes FOLDER``.

A program of its own, since Ray leaves threads and processes behind that a test run would complain about.  Prints JSON:
how many nodes ran cells, how many rows an interrupted run had, and whether rows, recorded requests and the rows of a
measurement are equal.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from agents.evidence.evaluation import Outcome, evaluate
from agents.evidence.measure import measure
from agents.evidence.plan import Plan
from agents.evidence.run_folder import RunFolder
from agents.playing.spread import ALONE, Spread
from tyche_env.scenario import Scenario

OWN = ("cpu_s", "invocations_per_cpu_s")
"""What differs between two runs of the same."""


def small_plan() -> Plan:
    """Twelve cells on six windows of a small synthetic trace."""
    scenario = Scenario.load("small").with_(
        **{
            "trace.synthesis": {"functions": 200, "minutes": 120, "seed": 3},
            "trace.group_size": 6,
            "trace.window_min": 15,
            "trace.warm_up_min": 15,
            "trace.min_requests": 4,
        }
    )
    return Plan(scenario, ("none", "tyche"), windows=6, record="all")


def rows_of(outcome: Outcome) -> list[dict[str, Any]]:
    """The rows without what is measured."""
    return [{key: value for key, value in row.items() if key not in OWN} for row in outcome.rows]


def main(folder: Path) -> None:
    """Run and print."""
    ray: Any = import_module("ray")
    cluster_utils: Any = import_module("ray.cluster_utils")
    plan = small_plan()
    serial = evaluate(plan, folder / "serial", spread=ALONE)
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False)
    nodes = len([node for node in ray.nodes() if node["Alive"]])

    def stop(done: int, _: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    try:
        evaluate(plan, folder / "ray", spread=Spread(on="ray"), progress=stop)
    except KeyboardInterrupt:
        before = len(RunFolder.read(folder / "ray").rows())
    outcome = evaluate(plan, folder / "ray", spread=Spread(on="ray"))
    measured = measure(plan.scenario, {}, expansions=1, windows=2, spread=Spread(on="ray"))
    found = {
        "nodes": nodes,
        "before": before,
        "rows": rows_of(outcome) == rows_of(serial),
        "measured": measured == measure(plan.scenario, {}, expansions=1, windows=2),
        "requests": pq.read_table(outcome.folder.requests).equals(pq.read_table(serial.folder.requests)),
    }
    ray.shutdown()
    cluster.shutdown()
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
