"""What cutting a cluster into shards changes in the results, and what it saves.

``python benchmarks/sharding.py`` runs the shipped scenario ``speed/speed-5000`` (5,000 functions on 200 nodes, a day)
whole, then as 2, 4 and 8 clusters of as many nodes less, each with a part of the functions:

* by tenant: all functions of an owner go to one shard, owners so that the shards have about equally many requests;
* by routing group: the functions whose home nodes lie next to each other on the ring.

A shard is a world of its own and can run anywhere.  What differs from the whole: a request cannot overflow into another
shard's nodes, idle memory cannot be lent across, and homes are drawn anew among the shard's nodes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pages
from numpy.typing import NDArray

from tyche_env.bench.measurement import SPEED, machine, today
from tyche_env.played import Played
from tyche_env.scenario import Conditions, Scenario
from tyche_env.simulate import simulate
from tyche_env.world import FunctionTable, World

RESULTS = Path(__file__).with_name("results")
COUNTS = (2, 4, 8)
POLICIES = (("none", "openwhisk"), ("tyche", "histogram"))


def by_tenant(world: World, shards: int) -> NDArray[np.int64]:
    """(F,) shard of each function: the owner with the most requests left goes to the shard with the fewest."""
    requests = np.bincount(world.arrival_function, minlength=world.function_count)
    owners = np.unique(world.functions.tenant)
    weight = np.bincount(world.functions.tenant, weights=requests)
    load, shard_of = np.zeros(shards), np.zeros(int(owners.max()) + 1, np.int64)
    for owner in sorted(owners.tolist(), key=lambda owner: -weight[owner]):
        shard_of[owner] = int(np.argmin(load))
        load[shard_of[owner]] += weight[owner]
    return shard_of[world.functions.tenant]


def by_routing_group(world: World, shards: int) -> NDArray[np.int64]:
    """(F,) shard of each function: the part of the ring that its home node is in."""
    return world.home_position() * shards // world.node_count


def part_of(world: World, chosen: NDArray[np.bool_], nodes: Sequence[int]) -> World:
    """The world of some functions on some nodes."""
    number = np.cumsum(chosen) - 1
    mine = chosen[world.arrival_function]
    gpus = np.isin(world.gpu_node, nodes)
    return replace(
        world,
        functions=FunctionTable(
            **{column.name: getattr(world.functions, column.name)[chosen] for column in fields(FunctionTable)}
        ),
        node_memory_mb=world.node_memory_mb[nodes],
        gpu_node=np.searchsorted(nodes, world.gpu_node[gpus]).astype(np.int64),
        gpu_memory_mb=world.gpu_memory_mb[gpus],
        arrival_us=world.arrival_us[mine],
        arrival_function=number[world.arrival_function[mine]].astype(np.int32),
        names=tuple(name for name, one in zip(world.names, chosen, strict=True) if one),
        node_cores=world.node_cores[nodes],
        node_disk_streams=world.node_disk_streams[nodes],
    ).validate()


def figures(results: Sequence[Played]) -> dict[str, float]:
    """Of all shards together: means, shares, loads, and what each cost."""
    totals = np.concatenate([result.totals for result in results])
    called = totals[totals["requests"] > 0]
    requests = int(called["requests"].sum())
    return {
        "requests": requests,
        "warming_loading_ms_mean": float(called["warming_loading_us"].sum()) / requests / 1e3,
        "warming_loading_ms_function_mean": float(np.mean(called["warming_loading_us"] / called["requests"])) / 1e3,
        "cold_rate": float(called["cold"].sum()) / requests,
        "preload_rate": float(called["gpu"].sum() + called["memory"].sum()) / requests,
        "loads": sum(result.counters["loads"] for result in results),
        "cpu_s": sum(result.cpu_s for result in results),
        "longest_cpu_s": max(result.cpu_s for result in results),
    }


def measure(kernel: str, prewarm: Any) -> list[dict[str, Any]]:
    """The whole cluster, then its shards."""
    scenario = Scenario.load(SPEED / "speed-5000.yaml").with_(**{"functions.tenants": "owner"})
    world = scenario.world(kernel=kernel, conditions=Conditions(prewarm))
    about = {"policy": kernel, "prewarm": prewarm}
    rows = [about | {"by": "whole", "shards": 1} | figures([simulate(world, record="none")])]
    for by, shards_of in (("tenant", by_tenant), ("routing group", by_routing_group)):
        for count in COUNTS:
            shard = shards_of(world, count)
            nodes = np.array_split(np.arange(world.node_count), count)
            results = [simulate(part_of(world, shard == at, nodes[at].tolist()), record="none") for at in range(count)]
            rows.append(about | {"by": by, "shards": count} | figures(results))
    return rows


def main() -> None:
    """Measure, print a table and write ``sharding.json``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    about = {"date": today(), "machine": machine()}
    rows = [row for kernel, prewarm in POLICIES for row in measure(kernel, prewarm)]
    found = about | {"rows": rows}
    print(pages.sharding({"sharding": found}))
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "sharding.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
