"""The compiled engine does what the reference engine does, request by request, to the microsecond."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings

from tests.tyche_env.simulator.strategies import Run, difference, random_run, worlds
from tyche_env.simulator.engine import CompiledEngine
from tyche_env.simulator.reference import ReferenceEngine

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
