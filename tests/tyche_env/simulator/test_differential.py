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
from tyche_env.state import MANY_CANDIDATES, NEAR_NODES
from tyche_env.world import Isolation, Kernel, Prewarm, Routing, Scope

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


@pytest.mark.parametrize(
    ("crowd", "first"),
    [
        # a batch of crowds takes as long as four others
        pytest.param(crowd, first, marks=pytest.mark.slow if crowd else ())
        for crowd in (False, True)
        for first in range(0, 4 * BATCH, BATCH)
    ],
)
def test_engines_agree_where_no_row_is_short_enough_to_be_looked_through(
    first: int, crowd: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tyche_env.state.MANY_CANDIDATES", 0)
    monkeypatch.setattr("tyche_env.state.NEAR_NODES", 1)
    assert_engines_agree(first, crowd)


@pytest.mark.parametrize("isolation", Isolation)
def test_engines_agree_where_hundreds_of_functions_share_a_node(isolation: Isolation) -> None:
    draw = np.random.default_rng(int(isolation))
    functions = MANY_CANDIDATES + 44
    world = packing_world(functions, 12)
    world = replace(
        world,
        functions=replace(world.functions, tenant=draw.integers(0, 3, functions)),
        arrival_us=np.sort(draw.integers(0, 600_000_000, 400)),
        arrival_function=draw.integers(0, functions, 400).astype(np.int32),
        settings=replace(
            world.settings, kernel=Kernel.TYCHE, event_mode=True, isolation=isolation, displace_percent=10
        ),
    )
    compiled = CompiledEngine(world)
    assert compiled.state.nodes["rivals"][0] == functions
    assert difference(ReferenceEngine(world), compiled, Run(world, (), (300_000_000,))) is None
    assert compiled.counters()["loads"] > 100


@pytest.mark.parametrize("routing", [Routing.FEWEST_BUSY, Routing.FEWEST_BUSY_FIRST])
@pytest.mark.parametrize("scope", Scope)
def test_engines_agree_where_hundreds_of_functions_may_go_anywhere(routing: Routing, scope: Scope) -> None:
    draw = np.random.default_rng(int(routing))
    nodes, functions = 3, MANY_CANDIDATES + 44
    world = packing_world(functions, 6)
    world = replace(
        world,
        node_memory_mb=np.repeat(world.node_memory_mb, nodes),
        arrival_us=np.sort(draw.integers(0, 600_000_000, 400)),
        arrival_function=draw.integers(0, functions, 400).astype(np.int32),
        settings=replace(
            world.settings, kernel=Kernel.TYCHE, event_mode=True, routing=routing, scope=scope, displace_percent=10
        ),
    )
    compiled = CompiledEngine(world)
    assert compiled.state.nodes["rivals"].tolist() == [functions] * nodes
    assert difference(ReferenceEngine(world), compiled, Run(world, (), (300_000_000,))) is None
    assert compiled.counters()["loads"] > 100


@pytest.mark.parametrize("routing", [each for each in Routing if each != Routing.OWN])
def test_engines_agree_where_requests_look_for_room_far_away(routing: Routing) -> None:
    draw = np.random.default_rng(int(routing))
    nodes, functions = 3 * NEAR_NODES, 60
    world = packing_world(functions, 1)
    sizes = draw.choice([2048, 2560, 3072], functions)
    busy_us = draw.integers(0, 40, functions) * 1_000_000
    world = replace(
        world,
        functions=replace(world.functions, container_mb=sizes, inference_us=busy_us, gpu_inference_us=busy_us),
        node_memory_mb=draw.choice([3072, 5120], nodes),
        arrival_us=np.sort(draw.integers(0, world.end_us, 2_000)),
        arrival_function=draw.integers(0, functions, 2_000).astype(np.int32),
        settings=replace(world.settings, kernel=Kernel.NONE, routing=routing),
    )
    compiled = CompiledEngine(world)
    assert (
        difference(ReferenceEngine(world), compiled, Run(world, (), tuple(range(0, world.end_us, 60_000_000)))) is None
    )
    assert (compiled.log["queue_us"] > 0).mean() > 0.1


def test_engines_agree_where_faascache_has_many_containers_to_choose_from() -> None:
    draw = np.random.default_rng(0)
    functions = 200
    world = packing_world(functions, 60)
    world = replace(
        world,
        functions=replace(world.functions, init_us=draw.integers(1, 9, functions) * 1_000_000),
        arrival_us=np.sort(draw.integers(0, 3_600_000_000, 2_000)),
        arrival_function=draw.integers(0, functions, 2_000).astype(np.int32),
        end_us=3_600_000_000,
        settings=replace(world.settings, kernel=Kernel.NONE, prewarm=Prewarm.FAASCACHE),
    )
    compiled = CompiledEngine(world)
    assert difference(ReferenceEngine(world), compiled, Run(world, (), (1_800_000_000,))) is None
    assert compiled.counters()["evictions"] > 500


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
