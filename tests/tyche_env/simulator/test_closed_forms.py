"""Where queueing theory has an exact answer, the simulator gives it.

Each tolerance is five standard errors that theory gives for the sample (or, for the waits of M/M/c, whose records
depend on each other, that the means of long batches give), so a right engine practically never fails.
"""

from __future__ import annotations

from math import exp, factorial, sqrt
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.tyche_env.simulator.strategies import SECOND
from tyche_env.simulator.engine import CompiledEngine
from tyche_env.simulator.reference import ReferenceEngine
from tyche_env.world import FUNCTION_FIELDS, AfterRun, FunctionTable, Settings, StartType, World

CONTAINER_MB = 100
FOREVER_US = 1 << 40
ERRORS = 5


def one_function_world(
    arrival_us: NDArray[np.int64],
    duration_us: NDArray[np.int64],
    memory_mb: int,
    keep_alive_us: int,
    end_us: int | None = None,
    **row: int,
) -> World:
    """Requests of one function, whose stages take no time unless said, on one node."""
    sizes = {"container_mb": CONTAINER_MB, "hold_mb": CONTAINER_MB, "peak_mb": CONTAINER_MB}
    return World(
        functions=FunctionTable.from_rows([dict.fromkeys(FUNCTION_FIELDS, 0) | sizes | row]),
        node_memory_mb=np.array([memory_mb]),
        gpu_node=np.zeros(0, dtype=np.int64),
        gpu_memory_mb=np.zeros(0, dtype=np.int64),
        arrival_us=arrival_us,
        arrival_function=np.zeros(len(arrival_us), dtype=np.int32),
        arrival_duration_us=duration_us,
        score_from_us=0,
        end_us=int(arrival_us[-1]) + 1 if end_us is None else end_us,
        settings=Settings(keep_alive_us=keep_alive_us, after_run_platform=AfterRun.KEEP),
    )


def poisson_us(rng: np.random.Generator, per_second: float, count: int) -> NDArray[np.int64]:
    return np.cumsum(rng.exponential(SECOND / per_second, count)).astype(np.int64)


def finished(world: World) -> CompiledEngine:
    engine = CompiledEngine(world)
    engine.advance_until(world.end_us)
    engine.drain()
    return engine


def log_of(world: World) -> NDArray[np.void]:
    return finished(world).log


def erlang_c(servers: int, offered: float) -> float:
    """Probability that a request waits, M/M/c with an offered load in servers."""
    full = offered**servers / factorial(servers) * servers / (servers - offered)
    return full / (sum(offered**i / factorial(i) for i in range(servers)) + full)


@pytest.mark.parametrize(("servers", "load"), [(1, 0.5), (3, 0.7), (8, 0.8)])
def test_waits_of_m_m_c(servers: int, load: float) -> None:
    count, batches = 400_000, 40
    rng = np.random.default_rng([1, servers])
    arrival_us = poisson_us(rng, servers * load, count)
    duration_us = rng.exponential(SECOND, count).astype(np.int64)
    log = log_of(one_function_world(arrival_us, duration_us, servers * CONTAINER_MB, FOREVER_US))
    wait_s = np.sort(log, order="request")["queue_us"] / SECOND
    waits = erlang_c(servers, servers * load)
    for sample, expected in ((wait_s, waits / (servers * (1 - load))), (wait_s > 0, waits)):
        means = sample.reshape(batches, -1).mean(axis=1)
        assert abs(means.mean() - expected) < ERRORS * means.std(ddof=1) / sqrt(batches)


@pytest.mark.parametrize("shape", ["constant", "exponential", "two points"])
def test_number_in_service_of_m_g_infinity(shape: str) -> None:
    count, per_second = 200_000, 5.0
    rng = np.random.default_rng([2, len(shape)])
    arrival_us = poisson_us(rng, per_second, count)
    duration_s: NDArray[Any] = {
        "constant": np.full(count, 4.0),
        "exponential": rng.exponential(4.0, count),
        "two points": np.where(rng.random(count) < 0.1, 31.0, 1.0),
    }[shape]
    world = one_function_world(arrival_us, (duration_s * SECOND).astype(np.int64), 100_000, 10 * SECOND)
    engine = CompiledEngine(world)
    engine.advance_until(world.end_us)
    in_service = float(engine.integrals()["busy"][0]) / CONTAINER_MB / world.end_us
    # The integral is a sum of the durations of a Poisson number of requests: its variance is that number x E[S^2].
    mean_square = {"constant": 16.0, "exponential": 32.0, "two points": 0.1 * 31**2 + 0.9}[shape]
    seconds = world.end_us / SECOND
    assert abs(in_service - per_second * 4.0) < ERRORS * sqrt(per_second * mean_square / seconds)


@pytest.mark.parametrize("keep_alive_s", [1, 10, 30])
def test_cold_starts_under_a_fixed_keep_alive(keep_alive_s: int) -> None:
    count, per_second = 200_000, 0.1
    arrival_us = poisson_us(np.random.default_rng([3, keep_alive_s]), per_second, count)
    nothing = np.zeros(count, dtype=np.int64)
    world = one_function_world(arrival_us, nothing, 100_000, keep_alive_s * SECOND)
    engine = finished(world)
    cold = exp(-per_second * keep_alive_s)
    share = float(np.mean(engine.log["start_type"] == StartType.COLD))
    assert abs(share - cold) < ERRORS * sqrt(cold * (1 - cold) / count)
    # A kept container idles for min(gap, T): mean (1 - p) / lambda, second moment 2 (1 - p (1 + lambda T)) / lambda^2.
    mean = (1 - cold) / per_second
    square = 2 * (1 - cold * (1 + per_second * keep_alive_s)) / per_second**2
    idle_s = float(engine.integrals()["idle"][0]) / CONTAINER_MB / SECOND / count
    assert abs(idle_s - mean) < ERRORS * sqrt((square - mean**2) / count)


@pytest.mark.parametrize("engine_class", [ReferenceEngine, CompiledEngine])
def test_memory_time_of_a_kept_container(engine_class: type[ReferenceEngine] | type[CompiledEngine]) -> None:
    world = one_function_world(
        np.array([3 * SECOND]),
        np.array([4 * SECOND]),
        memory_mb=1_000,
        keep_alive_us=60 * SECOND,
        end_us=100 * SECOND,
        container_mb=500,
        hold_mb=200,
        peak_mb=300,
        init_us=SECOND,
        library_us=2 * SECOND,
        model_us=5 * SECOND,
    )
    engine = engine_class(world)
    # Busy from 3 s for 1 + 2 + 5 + 4 = 12 s, idle with its process from 15 s to 75 s.
    expected = {15: (12, 0), 25: (12, 10), 75: (12, 60), 100: (12, 60)}
    for time_s, (busy_s, idle_s) in expected.items():
        engine.advance_until(time_s * SECOND)
        assert {kind: int(value[0]) for kind, value in engine.integrals().items()} == {
            "busy": 500 * busy_s * SECOND,
            "idle": 500 * idle_s * SECOND,
            "preload": 200 * idle_s * SECOND,
            "gpu": 0,
        }
