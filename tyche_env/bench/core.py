"""The decision core by itself: packing from scratch, and routing."""

from __future__ import annotations

import copy
import statistics
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tyche_env.bench.measurement import SPEED, Benchmark, Measurement, cpu_s_of, median_cpu_s
from tyche_env.world import AfterRun, FunctionTable, Kernel, Routing, Settings, World

if TYPE_CHECKING:
    from tyche_env.simulator.engine import CompiledEngine

FUNCTIONS, CONTAINERS, CONTAINER_MB = 1000, 100, 2048
"""What is packed into what, from scratch."""
_MINUTE_US = 60_000_000
_ROUTES = 10_000


def packing_world(functions: int = FUNCTIONS, containers: int = CONTAINERS) -> World:
    """A node whose containers are all idle and empty after a minute, and functions of the catalogue ``paper``."""
    from tyche_env.profiles import load_catalogue

    profiles = load_catalogue("paper")
    rows = [
        {
            "tenant": 0,
            "container_mb": CONTAINER_MB,
            "hold_mb": profile.hold_mb,
            "peak_mb": profile.peak_mb,
            "gpu_mb": 0,
            "init_us": 1000,
            "library_us": round(profile.library_ms * 1000),
            "model_us": round(profile.model_ms * 1000),
            "transfer_us": 0,
            "inference_us": 1000,
            "gpu_inference_us": 1000,
            "sigma_ppm": 0,
        }
        for profile in (profiles[function % len(profiles)] for function in range(functions))
    ]
    return World(
        functions=FunctionTable.from_rows(rows),
        node_memory_mb=np.array([containers * CONTAINER_MB]),
        gpu_node=np.zeros(0, np.int64),
        gpu_memory_mb=np.zeros(0, np.int64),
        arrival_us=np.zeros(containers, np.int64),
        arrival_function=np.arange(containers, dtype=np.int32),
        arrival_duration_us=np.zeros(0, np.int64),
        score_from_us=0,
        end_us=10 * _MINUTE_US,
        settings=Settings(
            kernel=Kernel.AGENT,
            event_mode=False,
            keep_alive_us=_MINUTE_US * 60,
            routing=Routing.RING,
            after_run_preloader=AfterRun.DISCARD,
        ),
    )


def packing_values(functions: int = FUNCTIONS, seed: int = 0) -> NDArray[np.int64]:
    """(F,) priorities in 2^-20: P(requested within a minute) at log-uniform rates from one a day to one a second."""
    per_min = np.exp(np.random.default_rng(seed).uniform(np.log(1 / 1440), np.log(60), functions))
    return np.round(-np.expm1(-per_min) * (1 << 20)).astype(np.int64)


def empty_containers(world: World) -> CompiledEngine:
    """The engine of a packing world after its minute."""
    from tyche_env.simulate import new_engine
    from tyche_env.simulator.engine import CompiledEngine

    engine = new_engine(world, record=False)
    assert isinstance(engine, CompiledEngine)
    engine.advance_until(_MINUTE_US)
    return engine


def pack(engine: CompiledEngine, priority: NDArray[np.int64]) -> float:
    """Set the priorities of all functions at once; CPU seconds of that."""
    decision = np.ones((len(priority), 2), np.int8)
    both = np.stack([priority, priority], axis=1)
    return cpu_s_of(lambda: engine.set_priorities(decision, both))


def packed_value(engine: CompiledEngine, world: World, priority: NDArray[np.int64]) -> float:
    """Sum of priority x seconds saved of the functions that the packing loads."""
    loading = engine.state.functions["loading_copies"] > 0
    table = world.functions
    return float((priority / (1 << 20) * (table.library_us + table.model_us) / 1e6)[loading].sum())


def pack_from_scratch(repeats: int) -> Measurement:
    """CPU microseconds to pack 1000 functions into 100 containers, against sorting the functions by density."""
    world, priority = packing_world(), packing_values()
    empty = empty_containers(world)
    runs = 20 * repeats
    value = 1e6 * statistics.median(pack(copy.deepcopy(empty), priority) for _ in range(runs))
    density = priority * (world.functions.library_us + world.functions.model_us) // world.functions.hold_mb
    sort = 1e6 * statistics.median(cpu_s_of(lambda: np.argsort(-density, kind="stable")) for _ in range(runs))
    full = copy.deepcopy(empty)
    pack(full, priority)
    return Measurement(
        name="pack_from_scratch_us",
        value=value,
        unit="CPU us",
        reference="NumPy's sort of the densities alone",
        ratio=value / sort,
        goal=100.0,
        note=f"{FUNCTIONS} functions into {CONTAINERS} containers of {CONTAINER_MB} MB, "
        f"{int(full.state.cluster['loads'][0])} loads, through set_priorities",
        at_most=True,
    )


def route_ns(name: str, nodes: int, repeats: int) -> Measurement:
    """CPU nanoseconds to find the node of a request in the middle of a day, against the whole of an invocation."""
    from tyche_env.bench.routes import route_all
    from tyche_env.scenario import Scenario
    from tyche_env.simulate import new_engine, simulate
    from tyche_env.simulator.engine import CompiledEngine

    scenario = Scenario.load(SPEED / ("speed-200.yaml" if nodes < 200 else "speed-5000.yaml"))
    group = scenario.cluster.nodes[0].model_dump() | {"count": nodes}
    world = scenario.with_(cluster={"nodes": [group]}).world(kernel="tyche")
    middle = len(world.arrival_us) // 2
    engine = new_engine(world, record=False)
    assert isinstance(engine, CompiledEngine)
    engine.advance_until(int(world.arrival_us[middle]))
    functions = np.ascontiguousarray(world.arrival_function[middle : middle + _ROUTES], np.int64)
    found = np.zeros(len(functions), np.int64)
    value = 1e9 * median_cpu_s(lambda: route_all(engine.handles, functions, found), repeats) / len(functions)
    whole = 1e9 * simulate(world, record="none").cpu_s / len(world.arrival_us)
    return Measurement(
        name=name,
        value=value,
        unit="CPU ns",
        reference="the whole of an invocation",
        ratio=value / whole,
        goal=None,
        note=f"{world.function_count} functions on {nodes} nodes by the ring, "
        f"{len(np.unique(found))} nodes chosen in {len(functions)} requests",
        at_most=True,
    )


BENCHMARKS: dict[str, Benchmark] = {
    "pack_from_scratch_us": pack_from_scratch,
    "route_16_nodes_ns": partial(route_ns, "route_16_nodes_ns", 16),
    "route_1000_nodes_ns": partial(route_ns, "route_1000_nodes_ns", 1000),
}
