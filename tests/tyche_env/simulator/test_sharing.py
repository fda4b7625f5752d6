"""Contention (section 12 of docs/engine.md), worked out by hand on both engines, and where theory has an exact answer.

Unless an example says otherwise there is one node with one core, and a function needs 1 s for its container, 2 s for
its libraries, 3 s for its model and 4 s for an inference if it has the core for itself.  Times are seconds.
"""

from __future__ import annotations

from dataclasses import replace
from math import sqrt
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.tyche_env.simulator.strategies import SECOND, MakeEngine, random_run, snapshots, with_contention
from tests.tyche_env.simulator.test_closed_forms import (
    CONTAINER_MB,
    ERRORS,
    FOREVER_US,
    erlang_c,
    finished,
    one_function_world,
    poisson_us,
)
from tests.tyche_env.simulator.test_rules import (
    COLD,
    HOLD,
    LEAVE,
    LOADING,
    MEMORY,
    ONE,
    a_world,
    advance,
    counts,
    decide,
    function,
    interval,
    rows,
)
from tyche_env.simulator.backend import SimulatedBackend
from tyche_env.simulator.reference import ReferenceEngine
from tyche_env.world import World

STAGES = ("warming", "library", "model", "transfer", "inference", "end")


def shared(functions: list[dict[str, int]], arrivals: list[tuple[float, int]], cores: int = 1, **more: Any) -> World:
    """A world on one node whose stages share its cores, a disk for one read at a time, and the link of a GPU."""
    world = a_world(functions, arrivals, **more)
    return replace(world, node_cores=np.array([cores]), node_disk_streams=np.array([1])).with_settings(contention=True)


def idle_container(**more: Any) -> World:
    """A container of function 0 that is idle from 10 s on, at which two others of 300 MB may load."""
    table = [function(hold_mb=300) for _ in range(3)]
    return shared(table, [(0, 0), *more.pop("arrivals", [])], **(interval() | more))


@pytest.mark.parametrize(("cores", "slowness"), [(1, 3), (2, 1.5), (3, 1), (4, 1)])
def test_runs_share_the_cores(make: MakeEngine, cores: int, slowness: float) -> None:
    engine = make(shared([function()], [(0, 0)] * 3, cores=cores))
    advance(engine, 100)
    stages = (COLD, *(slowness * alone for alone in (1, 2, 3, 0, 4, 10)))
    assert rows(engine, "start_type", *STAGES) == [stages] * 3


def test_two_loads_on_one_core_take_twice_as_long(make: MakeEngine) -> None:
    # Loads of 2 + 3 s from 20: alone they would end at 25.
    engine = make(idle_container(arrivals=[(29.9, 1)]))
    advance(engine, 20)
    decide(engine, [(LEAVE, 0), (HOLD, ONE), (HOLD, ONE)])
    advance(engine, 29.8)
    assert counts(engine, "loads", "load_us") == (2, 9.8 + 9.8)
    # At 29.9 each has 0.05 s of its model left; the other is killed, so that takes 0.05 s.
    advance(engine, 29.95)
    assert counts(engine, "load_us") == (9.9 + 9.9,)
    advance(engine, 100)
    assert rows(engine, "start_type", *STAGES)[1] == (LOADING, 0, 0, 0.05, 0, 4, 33.95)


def test_loads_end_when_they_are_done(make: MakeEngine) -> None:
    engine = make(idle_container(arrivals=[(30.1, 1)]))
    advance(engine, 20)
    decide(engine, [(LEAVE, 0), (HOLD, ONE), (HOLD, ONE)])
    advance(engine, 30)
    assert counts(engine, "loads", "load_us") == (2, 10 + 10)
    advance(engine, 100)
    assert rows(engine, "start_type")[1] == (MEMORY,)


def test_a_request_slows_a_load_down_and_is_slowed_down_by_it(make: MakeEngine) -> None:
    # From 20 the load of 1 and a cold start of 2 in a container of its own share the core: the load's 5 s end at 30,
    # when the other has done 1 + 2 of its 3 s of model; alone from then on, it ends at 35.
    engine = make(idle_container(arrivals=[(20, 2)]))
    advance(engine, 19.999999)
    decide(engine, [(LEAVE, 0), (HOLD, ONE), (LEAVE, 0)])
    advance(engine, 100)
    (found,) = rows(engine, "start_type", *STAGES)[1:]
    assert found == pytest.approx((COLD, 2, 4, 5, 0, 4, 35), abs=1e-5)
    assert counts(engine, "load_us") == pytest.approx((10,), abs=1e-5)


def test_a_cancelled_load_frees_its_share(make: MakeEngine) -> None:
    # As before, but at 24 a request of 0 takes the container and kills the load: 0's inference then has its share. Its
    # 4 s last until 32, when the other has its 4 s of inference to go, beside 1 that is loaded anew.
    engine = make(idle_container(arrivals=[(20, 2), (24, 0)]))
    advance(engine, 19.999999)
    decide(engine, [(LEAVE, 0), (HOLD, ONE), (LEAVE, 0)])
    advance(engine, 34)
    assert rows(engine, "start_type", *STAGES)[2] == pytest.approx((MEMORY, 0, 0, 0, 0, 8, 32), abs=1e-5)
    # a run that goes on has a record without stages
    assert rows(engine, "start_type", *STAGES)[1] == (COLD, 0, 0, 0, 0, 0, 0)
    advance(engine, 100)
    assert rows(engine, "start_type", *STAGES)[1] == pytest.approx((COLD, 2, 4, 6, 0, 8, 40), abs=1e-5)


@pytest.mark.parametrize(("delay", "library", "model", "end"), [(0, 0.5, 3, 30.5), (1, 0, 2.5, 30.5), (5, 0, 0, 32)])
def test_a_start_takes_a_load_in_progress_over(
    make: MakeEngine, delay: float, library: float, model: float, end: float
) -> None:
    # Two loads from 20; at 23 each has 0.5 s of its libraries left. The request of 1 kills the other, so its own is at
    # 23.5 done with those and at 26.5 with the model, whether or not the request waits for its scheduling.
    world = idle_container(arrivals=[(23, 1)], scheduling_us=round(delay * SECOND))
    engine = make(world)
    advance(engine, 20)  # with a scheduling delay the first run ends that much later, still before 20
    decide(engine, [(LEAVE, 0), (HOLD, ONE), (HOLD, ONE)])
    advance(engine, 100)
    assert rows(engine, "start_type", "scheduling", *STAGES)[1] == (LOADING, delay, 0, library, model, 0, 4, end)


def test_reads_share_the_disk_and_leave_the_core_alone(make: MakeEngine) -> None:
    # Two cold starts on two cores: at 3 both read for 1 s, together 2 s, then compute for 2 s.
    rows_of = [function() | {"read_ppm": 333_334}]
    engine = make(shared(rows_of, [(0, 0), (0, 0)], cores=2))
    advance(engine, 100)
    for found in rows(engine, *STAGES):
        assert found == pytest.approx((1, 2, 4, 0, 4, 11), abs=1e-5)


def test_transfers_share_the_link_and_inference_on_a_gpu_needs_no_core(make: MakeEngine) -> None:
    # Two cold starts on two cores reach the link at 6 and share it for 2 s; a third, from 9 on, has cores to itself,
    # since inference on the GPU keeps none.
    on_gpu = function(gpu_mb=300, transfer=1, gpu_inference=20)
    engine = make(shared([on_gpu], [(0, 0), (0, 0), (9, 0)], cores=2, gpu_mb=1000))
    advance(engine, 100)
    assert rows(engine, *STAGES) == [(1, 2, 3, 2, 20, 28)] * 2 + [(1, 2, 3, 1, 20, 36)]


def test_a_transfer_that_a_start_meets_belongs_to_the_run(make: MakeEngine) -> None:
    # 0 runs on the CPU-only side until 10; from 20 its model goes to the GPU for 6 s, met at 22.
    on_gpu = function(gpu_mb=300, transfer=6, gpu_inference=2)
    world = shared([on_gpu, function(gpu_mb=900, inference=100)], [(0, 1), (0, 0), (222, 0)], cores=4, gpu_mb=1000)
    engine = make(replace(world, settings=replace(world.settings, **interval())))
    advance(engine, 220)
    assert rows(engine, "on_gpu")[1] == (0,)
    engine.set_priorities(np.array([[LEAVE, HOLD], [LEAVE, 2]], np.int8), np.full((2, 2), ONE))
    advance(engine, 400)
    assert rows(engine, "start_type", *STAGES)[2] == (MEMORY, 0, 0, 0, 4, 2, 228)


def test_told_records_stay_as_they_were_told() -> None:
    backend = SimulatedBackend()
    backend.reset(shared([function()], [(0, 0)], end=20))
    told = backend.advance_until_us(5 * SECOND).requests
    backend.drain()
    assert told["end_us"].tolist() == [0]
    assert backend.log()["end_us"].tolist() == [10 * SECOND]


def test_work_is_conserved_in_random_worlds() -> None:
    """The reference engine asserts it after each event: done = asked - left, and as much as capacity allowed."""
    for seed in range(40):
        run = random_run(seed)
        run = replace(run, world=with_contention(lambda options: options[-1], run.world))
        for _ in snapshots(ReferenceEngine(run.world, check=True), run):
            pass


def processor_sharing_world(cores: int, load: float, duration_s: NDArray[np.float64], seed: int) -> World:
    arrival_us = poisson_us(np.random.default_rng([4, seed]), cores * load, len(duration_s))
    world = one_function_world(
        arrival_us, (duration_s * SECOND).astype(np.int64), memory_mb=1000 * CONTAINER_MB, keep_alive_us=FOREVER_US
    )
    world = replace(world, node_cores=np.array([cores]), node_disk_streams=np.array([1]))
    return world.with_settings(contention=True)


@pytest.mark.parametrize("shape", ["exponential", "constant", "two points"])
def test_sojourns_of_m_g_1_with_processor_sharing(shape: str) -> None:
    # 1 / (mu - lambda), whatever the distribution of the work: M/M/1-PS and M/D/1-PS alike.
    count, batches, load = 400_000, 40, 0.7
    rng = np.random.default_rng([5, len(shape)])
    duration_s: NDArray[np.float64] = {
        "exponential": rng.exponential(1.0, count),
        "constant": np.ones(count),
        "two points": np.where(rng.random(count) < 0.2, 3.0, 0.5),
    }[shape]
    log = np.sort(finished(processor_sharing_world(1, load, duration_s, len(shape))).log, order="request")
    means = ((log["end_us"] - log["arrival_us"]) / SECOND).reshape(batches, -1).mean(axis=1)
    assert abs(means.mean() - 1 / (1 - load)) < ERRORS * means.std(ddof=1) / sqrt(batches)


def test_sojourns_of_m_m_3_with_processor_sharing() -> None:
    # As many requests are there as in M/M/3: each takes 1 + C(3, a) / (3 - a).
    count, batches, cores, load = 400_000, 40, 3, 0.8
    duration_s = np.random.default_rng([6]).exponential(1.0, count)
    log = np.sort(finished(processor_sharing_world(cores, load, duration_s, 0)).log, order="request")
    means = ((log["end_us"] - log["arrival_us"]) / SECOND).reshape(batches, -1).mean(axis=1)
    expected = 1 + erlang_c(cores, cores * load) / (cores * (1 - load))
    assert abs(means.mean() - expected) < ERRORS * means.std(ddof=1) / sqrt(batches)
