"""The compiled engine does what the reference engine does, request by request, to the microsecond."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from tests.tyche_env.simulator.strategies import Run, Step, difference, random_run, worlds
from tyche_env.bench.core import packing_values, packing_world
from tyche_env.simulator.engine import LARGE, CompiledEngine
from tyche_env.simulator.reference import ReferenceEngine
from tyche_env.world import Kernel, Prewarm

RANDOM_WORLDS = 800
CROWDS = 500
BATCH = 50


def assert_engines_agree(first: int, crowd: bool) -> None:
    for seed in range(first, first + BATCH):
        run = random_run(seed, crowd)
        found = difference(ReferenceEngine(run.world), CompiledEngine(run.world), run)
        assert found is None, f"random_run({seed}, {crowd}): reference and compiled engine: {found}\n{run}"


@pytest.mark.parametrize("first", range(0, RANDOM_WORLDS, BATCH))
def test_engines_agree_on_random_worlds(first: int) -> None:
    assert_engines_agree(first, crowd=False)


def test_windows_open_unseen_as_they_do_where_decisions_are_observed() -> None:
    for seed in range(3 * BATCH):
        run = random_run(seed, crowd=False)
        seen, unseen = CompiledEngine(run.world, features=True), CompiledEngine(run.world)
        assert difference(seen, unseen, run) is None, f"random_run({seed})"
        assert unseen.state.cluster["events"] <= seen.state.cluster["events"]


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, CROWDS, BATCH))
def test_engines_agree_on_crowded_worlds(first: int) -> None:
    assert_engines_agree(first, crowd=True)


@settings(max_examples=200, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(worlds())
def test_engines_agree_on_worlds_that_shrink(run: Run) -> None:
    assert difference(ReferenceEngine(run.world), CompiledEngine(run.world), run) is None


def test_engines_agree_where_many_containers_are_filled_at_once() -> None:
    functions, containers, minute_us = 120, 30, 60_000_000
    world = packing_world(functions, containers)
    # all hold something, then some of it is displaced, then each function is requested, which shows where it is
    world = replace(
        world,
        arrival_us=np.concatenate([world.arrival_us, 3 * minute_us + minute_us * np.arange(functions) // 30]),
        arrival_function=np.concatenate([world.arrival_function, np.arange(functions, dtype=np.int32)]),
        settings=replace(world.settings, displace_percent=10),
    )
    steps = []
    for at, seed in enumerate((0, 1)):
        priority = packing_values(functions, seed)
        both = np.stack([priority, priority], axis=1)
        steps.append(Step((at + 1) * minute_us, (np.ones((functions, 2), np.int8), both)))
    run = Run(world, tuple(steps), (3 * minute_us,))
    assert difference(ReferenceEngine(world), CompiledEngine(world), run) is None


def test_engines_agree_where_rows_are_asked_for_early() -> None:
    draw = np.random.default_rng(0)
    world = packing_world(LARGE, 20)
    world = replace(
        world,
        arrival_us=np.sort(draw.integers(0, 500_000_000, 150)),
        arrival_function=draw.integers(0, LARGE, 150).astype(np.int32) // 20 * 20,
        settings=replace(world.settings, kernel=Kernel.TYCHE, event_mode=True, prewarm=Prewarm.HISTOGRAM),
    )
    run = Run(world, (), (250_000_000,))
    assert difference(ReferenceEngine(world), CompiledEngine(world), run) is None
