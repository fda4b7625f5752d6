"""The same keep-alive rule in other simulators: how much faster the engine is, with equal counts of cold starts.

``python benchmarks/peers.py`` replays one synthetic day (the shipped scenario ``speed/speed-200``: 200 functions on 16
nodes, about a million requests) under a fixed keep-alive without pre-loading, with

* the compiled engine, through ``tyche_env.simulate``,
* a plain ``heapq`` loop in Python, the form that most hand-written simulators have,
* a SimPy model, one process a request (the first part of the day: it is slow),
* simfaas from PyPI, one simulator a function, fed with the same arrivals (a part of the day, too).  It knows no nodes,
  no memory, no stages and no pre-loading; since it has no limit on memory, the engine is given ample memory beside it.

Each prints requests a CPU-second, cold starts, and the ratio of the engine's speed to its own.  The packages come with
``pip install -e '.[peers]'``.
"""

from __future__ import annotations

import argparse
import heapq
import json
import time
from collections import OrderedDict
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import tyche_env
from tyche_env.bench.measurement import machine, today
from tyche_env.scenario import Scenario
from tyche_env.simulate import simulate
from tyche_env.world import AfterRun, World

FINISH, EXPIRY = 0, 1
SCENARIO = Path(tyche_env.__file__).parent / "scenarios" / "speed" / "speed-200.yaml"


@dataclass(slots=True)
class Node:
    """One node of the hand-written models: free memory, busy memory, idle containers in order of idling."""

    free_mb: int
    memory_mb: int
    busy_mb: int
    idle: OrderedDict[int, int]


class KeepAlive:
    """The rule itself: own idle container, else a new one after evicting the longest idle; homes walk to where room is.

    An idle container is a number; ``idle`` of a node maps it to its function, the longest idle first.
    """

    def __init__(self, world: World) -> None:
        self.table = world.functions
        self.nodes = [Node(int(mb), int(mb), 0, OrderedDict()) for mb in world.node_memory_mb]
        order, home, step = world.node_order(), world.home_position(), world.walk_step()
        count = world.node_count
        self.walks = [
            [int(order[(home[f] + i * step[f]) % count]) for i in range(count)] for f in range(world.function_count)
        ]
        self.own: list[dict[int, list[int]]] = [{} for _ in range(world.function_count)]
        self.size = [int(mb) for mb in self.table.container_mb]
        self.serial = 0
        self.cold = 0

    def start(self, function: int) -> tuple[int, int, int]:
        """Serve a request: node, container, and the time until it ends; queues are not modelled (memory is ample)."""
        size, own = self.size[function], self.own[function]
        for number in self.walks[function]:
            node = self.nodes[number]
            if node.busy_mb + size <= node.memory_mb:
                break
        else:
            raise RuntimeError("no node has room: this comparison does not model queues")
        duration_us = int(self.table.inference_us[function])
        stack = own.get(number)
        if stack:
            container = stack.pop()
            del node.idle[container]
        else:
            while node.free_mb < size:
                victim, owner = node.idle.popitem(last=False)
                self.own[owner][number].remove(victim)
                node.free_mb += self.size[owner]
            node.free_mb -= size
            self.serial += 1
            container = self.serial
            self.cold += 1
            duration_us += int(self.table.init_us[function])
            duration_us += int(self.table.library_us[function] + self.table.model_us[function])
        node.busy_mb += size
        return number, container, duration_us

    def finish(self, function: int, number: int, container: int) -> None:
        """A run ends: its container idles."""
        node = self.nodes[number]
        node.busy_mb -= self.size[function]
        node.idle[container] = function
        self.own[function].setdefault(number, []).append(container)

    def expire(self, function: int, number: int, container: int) -> None:
        """An idle container's keep-alive is over."""
        node = self.nodes[number]
        del node.idle[container]
        self.own[function][number].remove(container)
        node.free_mb += self.size[function]


def plain_heapq(world: World) -> int:
    """A heap of finishes and expiries beside the sorted arrivals; an expiry is skipped if the container ran again."""
    rule = KeepAlive(world)
    keep_us = world.settings.keep_alive_us
    heap: list[tuple[int, int, int, int, int, int]] = []
    idle_since: dict[int, int] = {}
    for arrival_us, function in zip(world.arrival_us.tolist(), world.arrival_function.tolist(), strict=True):
        while heap and heap[0][0] < arrival_us:
            now_us, kind, container, f, number, stamp = heapq.heappop(heap)
            if kind == FINISH:
                rule.finish(f, number, container)
                idle_since[container] = now_us
                heapq.heappush(heap, (now_us + keep_us, EXPIRY, container, f, number, now_us))
            elif idle_since.get(container) == stamp and container in rule.nodes[number].idle:
                rule.expire(f, number, container)
        number, container, duration_us = rule.start(function)
        heapq.heappush(heap, (arrival_us + duration_us, FINISH, container, function, number, 0))
    return rule.cold


def simpy_model(world: World) -> int:
    """One SimPy process a request, and one for the keep-alive of each idle period."""
    import simpy

    rule = KeepAlive(world)
    keep_us = world.settings.keep_alive_us
    environment = simpy.Environment()
    idle_since: dict[int, float] = {}

    def serve(function: int) -> Generator[Any, Any, None]:
        number, container, duration_us = rule.start(function)
        yield environment.timeout(duration_us)
        rule.finish(function, number, container)
        idle_since[container] = stamp = environment.now
        yield environment.timeout(keep_us)
        if idle_since.get(container) == stamp and container in rule.nodes[number].idle:
            rule.expire(function, number, container)

    def arrive() -> Generator[Any, Any, None]:
        for arrival_us, function in zip(world.arrival_us.tolist(), world.arrival_function.tolist(), strict=True):
            yield environment.timeout(arrival_us - environment.now)
            environment.process(serve(function))

    environment.process(arrive())
    environment.run()
    return rule.cold


def simfaas_model(world: World) -> int:
    """One ``ServerlessSimulator`` of simfaas a function; its clock counts microseconds, all exact in floats."""
    from simfaas.ServerlessSimulator import ServerlessSimulator

    class Given:
        """Gaps that are given, then none any more."""

        def __init__(self, gaps: list[int]) -> None:
            self.gaps = iter(gaps)

        def generate_trace(self) -> float:
            return next(self.gaps, float("inf"))

    class Constant:
        """Always the same duration."""

        def __init__(self, value: int) -> None:
            self.value = value

        def generate_trace(self) -> float:
            return self.value

    table = world.functions
    cold = 0
    for function in range(world.function_count):
        arrivals = world.arrival_us[world.arrival_function == function]
        if len(arrivals) == 0:
            continue
        warm_us = int(table.inference_us[function])
        setup_us = int(table.init_us[function] + table.library_us[function] + table.model_us[function])
        simulator = ServerlessSimulator(
            arrival_process=Given(np.diff(arrivals, prepend=0).tolist()),
            warm_service_process=Constant(warm_us),
            cold_service_process=Constant(setup_us + warm_us),
            expiration_threshold=world.settings.keep_alive_us,
            max_time=float(arrivals[-1]),
            maximum_concurrency=1 << 30,
        )
        simulator.generate_trace()
        cold += simulator.total_cold_count
    return cold


def head(world: World, count: int) -> World:
    """The first ``count`` requests of a world, all of them scored."""
    world = replace(world, score_from_us=0)
    if count >= len(world.arrival_us):
        return world
    return replace(
        world,
        arrival_us=world.arrival_us[:count],
        arrival_function=world.arrival_function[:count],
        end_us=int(world.arrival_us[count]) + 1,
    )


def world_with(memory_mb: int) -> World:
    """The day on 16 nodes of so much memory, without GPUs."""
    group = {"count": 16, "memory_mb": memory_mb, "gpus": 0, "gpu_memory_mb": 0}
    world = Scenario.load(SCENARIO).with_(cluster={"nodes": [group]}).world(kernel="none")
    return world.with_settings(after_run_platform=AfterRun.KEEP)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1_000_000, help="of the heapq model")
    parser.add_argument("--simpy-requests", type=int, default=100_000, help="of the SimPy model")
    parser.add_argument("--simfaas-requests", type=int, default=100_000, help="of simfaas")
    parser.add_argument("--json", action="store_true", help="print one JSON object, with the date and the machine")
    options = parser.parse_args()

    about = machine()
    peers: list[tuple[str, int, int, Callable[[World], int]]] = [
        ("plain heapq", options.requests, 32_000, plain_heapq),
        ("SimPy", options.simpy_requests, 32_000, simpy_model),
        ("simfaas", options.simfaas_requests, 1_000_000, simfaas_model),
    ]
    results = []
    for name, count, memory_mb, model in peers:
        part = head(world_with(memory_mb), count)
        engine = simulate(part, record="none")
        engine = min((simulate(part, record="none") for _ in range(5)), key=lambda r: r.cpu_s)
        started = time.process_time()
        cold = model(part)
        cpu_s = time.process_time() - started
        requests = len(part.arrival_us)
        ours = int(np.sum(engine.totals["cold"]))
        results.append(
            {
                "name": name,
                "requests": requests,
                "requests_per_cpu_s": requests / cpu_s,
                "engine_requests_per_cpu_s": requests / engine.cpu_s,
                "ratio": cpu_s / engine.cpu_s,
                "cold_starts": cold,
                "engine_cold_starts": ours,
            }
        )
        if not options.json:
            print(
                f"{name:12s} {requests / cpu_s:12,.0f} requests/CPU-s, engine {requests / engine.cpu_s:12,.0f}: "
                f"{cpu_s / engine.cpu_s:6.1f} x; cold starts {cold} and {ours}"
            )
    if options.json:
        print(json.dumps({"date": today(), "machine": about, "results": results}, indent=1))


if __name__ == "__main__":
    main()
