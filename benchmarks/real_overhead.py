"""What the real backend adds: calls of a held function beside its bare inference, and the time of a decision.

    python benchmarks/real_overhead.py [--json]

Ends with status 1 if platform and action server add more than 10 ms (median) in process mode, or a decision for 100
functions on 50 containers takes 1 ms or more (mean).
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import json
import sys
import time

import numpy as np
from numpy.typing import NDArray

from real_backend.client import Client
from real_backend.core import NONE_DUE, begin, next_timer, on_event, warm_up
from real_backend.embedded import EmbeddedPlatform, container_environment
from real_backend.platform.config import NodeSpec, PlatformConfig
from real_backend.slots import Deployment, Place, Slot, Status
from tyche_env.codes import ARRIVAL, DO_LOAD, DO_OFFLOAD, DO_START, FINISH, LOADED, OFFLOADED
from tyche_env.control.handles import handles_of
from tyche_env.control.queue import NO_KEY
from tyche_env.state import new_state
from tyche_env.world import FUNCTION_FIELDS, AfterRun, FunctionTable, Kernel, Settings, World

CALLS = 300
MOST_ADDED_MS = 10.0
FUNCTIONS, NODES, CONTAINERS = 100, 5, 50
MOST_DECISION_US = 1000.0
_RUN_US, _LOAD_US, _OFFLOAD_US = 300_000, 2_000_000, 20_000


def added_ms() -> NDArray[np.float64]:
    """(CALLS,) what each call of a held function took beyond its inference, in process mode."""
    own = EmbeddedPlatform()
    credentials = own.start(
        PlatformConfig(
            nodes=(NodeSpec(name="invoker0", memory_mib=512),),
            pause_after_s=None,
            keep_alive_s=None,
            worker_arguments=("--functions", "real_backend.functions.toy"),
            environment=container_environment(),
        )
    )

    async def call() -> list[float]:
        found = []
        async with Client(credentials) as client:
            slot = Slot(Deployment(client, True, 60.0), Place("invoker0", 256))
            for _ in range(CALLS + 10):
                started = time.perf_counter()
                reply = await slot.invoke({"op": "infer", "function": "toy-slow", "payload": {}})
                took_ms = 1e3 * (time.perf_counter() - started)
                if reply.status != Status.OK:
                    raise RuntimeError(reply.message)
                found.append(took_ms - reply.stages_us["inference"] / 1e3)
        return found[10:]

    try:
        return np.array(asyncio.run(call()))
    finally:
        own.stop()


def crowded_world() -> World:
    """100 functions that compete for 50 containers."""
    rng = np.random.default_rng(0)
    row = dict.fromkeys(FUNCTION_FIELDS, 0) | {
        "container_mb": 2000,
        "hold_mb": 500,
        "peak_mb": 700,
        "init_us": 500_000,
        "library_us": 1_500_000,
        "model_us": 500_000,
        "inference_us": _RUN_US,
        "gpu_inference_us": _RUN_US,
    }
    arrival_us = np.sort(rng.integers(0, 600_000_000, 10_000))
    return World(
        functions=FunctionTable.from_rows([row | {"model_us": 100_000 + 20_000 * f} for f in range(FUNCTIONS)]),
        node_memory_mb=np.full(NODES, 2000 * CONTAINERS // NODES),
        gpu_node=np.zeros(0, np.int64),
        gpu_memory_mb=np.zeros(0, np.int64),
        arrival_us=arrival_us,
        arrival_function=rng.integers(0, FUNCTIONS, len(arrival_us)).astype(np.int32),
        arrival_duration_us=np.zeros(0, np.int64),
        score_from_us=0,
        end_us=600_000_000,
        settings=Settings(
            kernel=Kernel.TYCHE, after_run_preloader=AfterRun.KEEP, displace_percent=10, busy_counts=True
        ),
    ).validate()


def decision_us() -> NDArray[np.float64]:
    """Time of every decision in a crowded cluster whose containers answer in fixed times."""
    warm_up()
    world = crowded_world()
    state = new_state(world, features=True)
    handles = handles_of(state)
    begin(handles)
    found: list[float] = []
    due = [
        (int(time_us), ARRIVAL, int(function), row)
        for row, (time_us, function) in enumerate(zip(world.arrival_us, world.arrival_function, strict=True))
    ]
    ticket = 0

    def tell(now_us: int, kind: int, entity: int, request: int) -> None:
        nonlocal ticket
        started = time.perf_counter()
        count = on_event(handles, now_us, kind, entity, request)
        found.append(1e6 * (time.perf_counter() - started))
        for order in state.commands[:count].copy():
            what, resident = int(order["kind"]), int(order["resident"])
            if what == DO_START:
                heapq.heappush(due, (now_us + _RUN_US, FINISH, int(order["container"]), 0))
            elif what in (DO_LOAD, DO_OFFLOAD) and state.residents["function"][resident] == order["function"]:
                ticket += 1
                state.residents["due_key"][resident] = ticket
                wait_us, done = (_LOAD_US, LOADED) if what == DO_LOAD else (_OFFLOAD_US, OFFLOADED)
                heapq.heappush(due, (now_us + wait_us, done, resident, ticket))

    while due:
        now_us, kind, entity, number = heapq.heappop(due)
        while (timer := next_timer(handles, now_us))[0] != NONE_DUE:
            tell(now_us, timer[0], timer[1], 0)
        if kind in (LOADED, OFFLOADED):
            if state.residents["due_key"][entity] != number:
                continue
            state.residents["due_key"][entity] = NO_KEY
        tell(now_us, kind, entity, number)
    return np.array(found)


def main() -> int:
    """Measure, print, compare with what is promised."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    added, decisions = added_ms(), decision_us()
    found = {
        "added_ms_p50": round(float(np.median(added)), 3),
        "added_ms_p95": round(float(np.percentile(added, 95)), 3),
        "decision_us_mean": round(float(decisions.mean()), 1),
        "decision_us_p50": round(float(np.median(decisions)), 1),
        "decision_us_p99": round(float(np.percentile(decisions, 99)), 1),
        "decisions": len(decisions),
    }
    if options.json:
        print(json.dumps(found))
    else:
        print(f"a held function, {CALLS} calls: platform and server add {found['added_ms_p50']} ms (median)")
        print(
            f"{FUNCTIONS} functions on {CONTAINERS} containers: a decision takes {found['decision_us_mean']} us (mean),"
            f" {found['decision_us_p99']} us (99 %) over {found['decisions']}"
        )
    return 0 if found["added_ms_p50"] <= MOST_ADDED_MS and found["decision_us_mean"] < MOST_DECISION_US else 1


if __name__ == "__main__":
    sys.exit(main())
