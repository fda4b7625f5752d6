"""The bound lies below every policy, and is what the relaxation says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from agents.evidence.bound import bound
from tests.tyche_env.simulator.strategies import random_run, snapshots
from tyche_env.simulator.reference import ReferenceEngine
from tyche_env.world import FunctionTable, Settings, World

SECOND = 1_000_000
ROW = {
    "tenant": 0,
    "container_mb": 100,
    "hold_mb": 100,
    "peak_mb": 100,
    "gpu_mb": 0,
    "init_us": SECOND,
    "library_us": SECOND,
    "model_us": 3 * SECOND,
    "transfer_us": 0,
    "inference_us": 2 * SECOND,
    "gpu_inference_us": 2 * SECOND,
    "sigma_ppm": 0,
}


def world(arrivals: list[tuple[int, int]], functions: int, memory_mb: int, score_from_us: int = 0) -> World:
    """Requests (second, function) of equal functions on one node."""
    return World(
        functions=FunctionTable.from_rows([ROW] * functions),
        node_memory_mb=np.array([memory_mb], dtype=np.int64),
        gpu_node=np.empty(0, dtype=np.int64),
        gpu_memory_mb=np.empty(0, dtype=np.int64),
        arrival_us=np.array([second * SECOND for second, _ in arrivals], dtype=np.int64),
        arrival_function=np.array([function for _, function in arrivals], dtype=np.int32),
        arrival_duration_us=np.empty(0, dtype=np.int64),
        score_from_us=score_from_us,
        end_us=1000 * SECOND,
        settings=Settings(),
    ).validate()


def test_with_ample_memory_everything_can_be_loaded_in_time() -> None:
    found = bound(world([(100, 0), (100, 1), (200, 0)], functions=2, memory_mb=1000))
    assert (found.request_mean_us, found.function_mean_us) == (0.0, 0.0)


def test_a_burst_that_exceeds_the_memory_pays_for_the_excess() -> None:
    # Five first requests at once, room to load three of them in the 4 s before: two pay 4 s each.
    found = bound(world([(100, f) for f in range(5)], functions=5, memory_mb=300))
    assert found.request_mean_us == pytest.approx(2 * 4 * SECOND / 5)
    assert found.function_mean_us == pytest.approx(2 * 4 * SECOND / 5)


def test_an_earlier_run_may_have_left_its_process_behind() -> None:
    # Now the container may still be busy until just before: only the 2 s of that run are certain.
    early = [(10 * f, f) for f in range(5)]
    found = bound(world([*early, *((100, f) for f in range(5))], functions=5, memory_mb=300, score_from_us=99 * SECOND))
    assert found.request_mean_us == pytest.approx(2 * 2 * SECOND / 5)


def test_nothing_can_be_loaded_before_time_0() -> None:
    assert bound(world([(1, 0)], functions=1, memory_mb=1000)).request_mean_us == 3 * SECOND


def test_the_function_mean_saves_rare_functions_first() -> None:
    # Four requests of one function, one of another, room for one: per function the single one counts as much as four.
    found = bound(world([(100, 0)] * 4 + [(100, 1)], functions=2, memory_mb=100))
    first_us, later_us = 4 * SECOND, 2 * SECOND
    assert found.request_mean_us is not None
    assert found.function_mean_us is not None
    assert found.request_mean_us <= (first_us + 3 * later_us) / 5
    assert found.function_mean_us <= (first_us + 3 * later_us) / 4 / 2


def test_without_scored_requests_there_is_none() -> None:
    found = bound(world([(1, 0)], functions=1, memory_mb=1000, score_from_us=10 * SECOND))
    assert (found.request_mean_us, found.function_mean_us) == (None, None)


@pytest.mark.parametrize("first_seed", range(0, 400, 100))
def test_no_policy_beats_it_on_random_worlds(first_seed: int) -> None:
    positive = 0
    for seed in range(first_seed, first_seed + 100):
        run = random_run(seed)
        # what is compared are all requests, so all are scored
        run = replace(run, world=replace(run.world, score_from_us=0))
        engine = ReferenceEngine(run.world)
        for _ in snapshots(engine, run):
            pass
        log = engine.log
        stages = ("queue", "warming", "library", "model", "transfer")
        delay_us = np.sum([log[f"{stage}_us"] for stage in stages], axis=0)
        requests = np.bincount(log["function"])
        by_function = np.bincount(log["function"], weights=delay_us)
        found = bound(run.world)
        assert found.request_mean_us is not None
        assert found.function_mean_us is not None
        assert found.request_mean_us <= delay_us.mean() + 1e-6, f"seed {seed}"
        called = requests > 0
        assert found.function_mean_us <= (by_function[called] / requests[called]).mean() + 1e-6, f"seed {seed}"
        positive += found.request_mean_us > 0
    assert positive > 20, "the worlds are too easy to say anything"
