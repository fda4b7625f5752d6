"""The bound against the true optimum of tiny worlds, found by trying every sequence of decisions.

Each world is made so that the best that can be done is close to the bound: a bound that promises more is too high.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest

from agents.evidence.bound import bound
from tests.tyche_env.simulator.test_rules import HOLD, OFFLOAD, ONE, SECOND, a_world, decide, function, interval
from tyche_env.simulator.reference import ReferenceEngine
from tyche_env.world import World

STAGES = ("queue", "warming", "library", "model", "transfer")


def optimum_s(world: World, held: Sequence[int], times_s: Sequence[float]) -> tuple[float, float]:
    """The least mean delay a request, and a function, over all decisions about some functions at some times.

    Args:
        world: at intervals, under an agent.
        held: functions that are held or let go; the others are let go throughout.
        times_s: when all of them are decided about anew.
    """
    means = []
    for plan in product(product((HOLD, OFFLOAD), repeat=len(held)), repeat=len(times_s)):
        engine = ReferenceEngine(world)
        for time_s, chosen in zip(times_s, plan, strict=True):
            engine.advance_until(round(time_s * SECOND))
            answers: list[tuple[int, int]] = [(OFFLOAD, 0)] * world.function_count
            for f, answer in zip(held, chosen, strict=True):
                answers[f] = (answer, ONE if answer == HOLD else 0)
            decide(engine, answers)
        engine.drain()
        log = engine.log[engine.log["arrival_us"] >= world.score_from_us]
        delay_s = np.sum([log[f"{stage}_us"] for stage in STAGES], axis=0) / SECOND
        each = [delay_s[log["function"] == f].mean() for f in np.unique(log["function"])]
        means.append((delay_s.mean(), np.mean(each)))
    by_request, by_function = zip(*means, strict=True)
    return float(min(by_request)), float(min(by_function))


def bound_s(world: World) -> tuple[float, float]:
    """Both bounds in seconds."""
    found = bound(world)
    assert found.request_mean_us is not None
    assert found.function_mean_us is not None
    return found.request_mean_us / SECOND, found.function_mean_us / SECOND


def compared(world: World, held: Sequence[int], times_s: Sequence[float], slack_s: float) -> float:
    """The optimum a request; it is not below the bound, and above it by no more than a stated slack."""
    truth, promised = optimum_s(world, held, times_s), bound_s(world)
    for best, least in zip(truth, promised, strict=True):
        assert least - 1e-6 <= best <= least + slack_s
    return truth[0]


def maker(container_mb: int = 100, **changes: float) -> dict[str, int]:
    """A function whose only use is that its run leaves an idle container behind."""
    return function(
        container_mb=container_mb, hold_mb=1, **({"init": 0, "library": 0, "model": 0, "inference": 0.01} | changes)
    )


def loaded(container_mb: int = 100, hold_mb: int = 100, **changes: float) -> dict[str, int]:
    """A function that takes 4 s to load and next to no time to run."""
    return function(
        container_mb=container_mb,
        hold_mb=hold_mb,
        **({"init": 0.1, "library": 1, "model": 3, "inference": 0.1} | changes),
    )


@pytest.mark.parametrize(("command", "scheduling", "clear"), [(0, 0, 0), (0.5, 0, 0), (0, 0.4, 0), (0.25, 0.5, 0.75)])
def test_what_is_loaded_from_time_0_on_may_meet_a_lucky_draw(command: float, scheduling: float, clear: float) -> None:
    settings = {"command_us": command, "scheduling_us": scheduling, "clear_us": clear}
    world = a_world(
        [loaded(hold_mb=99), maker()],
        [(0, 1), (1, 0)],
        nodes=(100,),
        end=20,
        **interval(**{name: round(value * SECOND) for name, value in settings.items()}),
    )
    # the maker's request is served first; what matters is the other
    world = replace(world, score_from_us=1)
    table = world.functions
    noisy = replace(world, functions=replace(table, sigma_ppm=np.array([300_000, 0], table.sigma_ppm.dtype)))
    # whoever does not wait for a load pays 4 s; of a load that begins at time 0, what is left when the stages begin
    assert bound_s(world)[0] == pytest.approx(min(4, 4 + command - scheduling - clear) - 1)
    # without noise nothing is lucky; the load begins when the maker has run
    nominal = 4 + command - scheduling - clear - 1
    assert compared(world, [0, 1], [0, 0.1], 0.6 + scheduling) >= nominal
    lucky = 0
    for seed in range(20):
        drawn = noisy.with_settings(seed=seed)
        best, promised = optimum_s(drawn, [0, 1], [0, 0.1])[0], bound_s(drawn)[0]
        assert promised <= best + 1e-6
        lucky += best < nominal - 0.5
    assert lucky


def test_what_fits_may_be_loaded_into_a_smaller_container() -> None:
    # both functions have containers of 100 MB, but are at home in those of 50 MB that the makers left
    small = {"container_mb": 100, "hold_mb": 30}
    makers = [(1, 2), (1, 3)]
    world = a_world(
        [loaded(**small), loaded(**small), maker(50), maker(50)],
        [*makers, (20, 0), (20, 1)],
        nodes=(100,),
        end=40,
        **interval(),
    )
    world = replace(world, score_from_us=10 * SECOND)
    assert compared(world, [0, 1], [2, 5], 0) == 0
    # had the makers containers of 100 MB, there would be one at a time: the other request waits for it and its load
    tight = replace(world, functions=replace(world.functions, container_mb=np.full(4, 100)))
    assert compared(tight, [0, 1], [2, 5], 0.2) >= 2


@pytest.mark.parametrize("gpu", [False, True])
def test_an_earlier_run_leaves_its_process_behind(gpu: bool) -> None:
    f = function(
        container_mb=100,
        hold_mb=50,
        library=1,
        model=3,
        inference=2,
        init=1,
        **({"gpu_mb": 10, "gpu_inference": 1, "transfer": 0.5} if gpu else {}),
    )
    world = a_world([f], [(0, 0), (50, 0), (50, 0)], nodes=(100,), gpu_mb=20 if gpu else 0, end=90, **interval())
    world = replace(world, score_from_us=40 * SECOND)
    # the second of two waits for the first, which takes 1 s on the GPU and 2 s without
    assert compared(world, [0], [0, 20], 0) == (0.5 if gpu else 1.0)


def test_the_shortest_run_of_a_function_is_what_counts() -> None:
    world = a_world([loaded()], [(0, 0), (50, 0), (50, 0)], nodes=(100,), end=90, **interval())
    durations = np.array([10, 0.5, 0.5]) * SECOND
    world = replace(world, arrival_duration_us=durations.astype(np.int64), score_from_us=40 * SECOND)
    assert compared(world, [0], [0, 20], 0) == 0.25


def test_of_a_burst_those_that_take_little_memory_are_served_first() -> None:
    world = a_world(
        [loaded(), loaded(), loaded(container_mb=200, hold_mb=200), maker(), maker()],
        [(1, 3), (1, 4), (20, 0), (20, 1), (20, 2)],
        nodes=(200,),
        end=60,
        **interval(),
    )
    world = replace(world, score_from_us=10 * SECOND)
    # the large one waits for both, for its container and for its load: 0.1 + 0.1 + 4 s
    assert compared(world, [0, 1, 2], [2, 8], 0.1) == pytest.approx(4.2 / 3)


def test_memory_of_all_nodes_counts() -> None:
    world = a_world(
        [loaded(), loaded(), maker(), maker()],
        [(1, 2), (1, 3), (20, 0), (20, 1)],
        nodes=(100, 100),
        end=60,
        **interval(),
    )
    world = replace(world, score_from_us=10 * SECOND)
    assert bound_s(world) == (0, 0)
    # the seed decides where each function is at home; somewhere there is a node for each
    assert min(optimum_s(world.with_settings(seed=seed), [0, 1], [2, 8])[0] for seed in range(8)) == 0


def test_what_cannot_be_done_in_time_is_paid() -> None:
    # at 1 s of 4 s that a load takes: 3 s are left, whatever is done; a cold start pays all, and its container
    world = a_world([loaded()], [(1, 0)], nodes=(100,), end=20, **interval())
    assert compared(world, [0], [0], 1.1) == pytest.approx(4.1)
    assert bound_s(world) == (3.0, 3.0)
    # what arrives as scoring begins is scored, what came before is not
    assert bound_s(replace(world, score_from_us=SECOND)) == (3.0, 3.0)
    assert bound(replace(world, score_from_us=SECOND + 1)).request_mean_us is None


def test_a_cold_start_pays_its_own_draws() -> None:
    # a command takes so long that nothing is loaded; the request pays its library and its model, less its first second
    slow = interval(command_us=100 * SECOND)
    world = a_world([loaded()], [(1, 0)], nodes=(100,), end=20, **slow)
    noise = np.array([300_000], world.functions.sigma_ppm.dtype)
    for seed in range(3):
        noisy = replace(world, functions=replace(world.functions, sigma_ppm=noise)).with_settings(seed=seed)
        engine = ReferenceEngine(noisy)
        decide(engine, [(OFFLOAD, 0)])
        engine.drain()
        (drawn,) = engine.log
        assert abs(drawn["library_us"] / SECOND - 1) > 0.001
        assert bound_s(noisy)[0] == pytest.approx((drawn["library_us"] + drawn["model_us"]) / SECOND - 1)


def test_whoever_takes_over_a_process_waits_for_the_scheduling_and_the_run_before() -> None:
    timing = interval(scheduling_us=SECOND // 2)
    world = a_world([loaded(inference=2)], [(0, 0), (0.1, 0)], nodes=(100,), end=20, **timing)
    # the first pays 4 s less the half second for which a load has a start; the second comes 0.1 s after the first
    assert bound_s(world)[0] == pytest.approx((4 - 0.5 + (0.5 + 2 - 0.1)) / 2)
    assert optimum_s(world, [0], [0])[0] >= bound_s(world)[0]


def test_bursts_far_apart_are_not_cut_within() -> None:
    # of two at once one has no room and pays its 4 s; every block of time that is tried ends 10 ms before them
    times_s = (4096.01, 12288.01, 24576.01)
    arrivals = [(time_s, f) for time_s in times_s for f in range(2)]
    world = a_world([loaded(inference=9), loaded(inference=9)], arrivals, nodes=(100,), end=30_000, **interval())
    assert bound_s(world) == pytest.approx((2, 2))


def test_a_mean_over_functions_weighs_each_function_alike() -> None:
    row: dict[str, Any] = {"container_mb": 100, "hold_mb": 100, "inference": 0.1}
    world = a_world(
        [loaded(**row), loaded(**row), maker()],
        [(1, 2), *[(20, 0)] * 3, (20, 1)],
        nodes=(100,),
        end=60,
        **interval(),
    )
    world = replace(world, score_from_us=10 * SECOND)
    truth, promised = optimum_s(world, [0, 1], [2, 8]), bound_s(world)
    assert all(least - 1e-6 <= best for best, least in zip(truth, promised, strict=True))
    # room for one: the rare one pays its load of 4 s, a half of the mean, or the others 4, 0.1 and 0.1 s, a sixth
    assert promised[1] == pytest.approx(min(4 / 2, (4 + 0.1 + 0.1) / 6), abs=0.3)
