"""Tasks over processes: each world written once, results by place, and nothing read there that is sealed here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from agents.playing.spread import EvaluationError, Spread, Task, crew, in_order, shareable
from tyche_env.scenario import Scenario, SealedError, sealed_test_windows
from tyche_env.world import World


def told(number: int, world: World) -> tuple[int, int, int]:
    """What was given, and by which process."""
    return number, len(world.arrival_us), os.getpid()


def peek(scenario: Scenario, split: Any, world: World) -> int:
    """Read windows where the task runs."""
    return len(scenario.windows(split))


def test_worlds_are_made_once_and_results_keep_their_places(tiny: Scenario, tmp_path: Path) -> None:
    made: list[tuple[int, int]] = []

    def world_of(key: tuple[int, int]) -> World:
        made.append(key)
        return shareable(tiny.world("validation", *key))

    tasks = [Task((number,), (0, number % 2)) for number in range(6)]
    with crew(Spread(2), tmp_path) as processes:
        found = [in_order(processes.do(told, tasks, world_of), len(tasks)) for _ in range(2)]
    assert made == [(0, 0), (0, 1)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["world-0-0", "world-0-1"]
    with crew(Spread()) as alone:
        expected = in_order(alone.do(told, tasks, world_of), len(tasks))
    assert [[row[:2] for row in rows] for rows in found] == 2 * [[row[:2] for row in expected]]
    assert {row[2] for row in expected} == {os.getpid()}
    assert os.getpid() not in {row[2] for rows in found for row in rows}


def test_test_windows_that_are_sealed_here_are_sealed_in_other_processes(tiny: Scenario) -> None:
    def world_of(key: tuple[int]) -> World:
        return shareable(tiny.world("validation", *key))

    with crew(Spread(2)) as processes:
        (shown,) = in_order(processes.do(peek, [Task((tiny, "test"), (0,))], world_of), 1)
        assert shown == len(tiny.windows("test"))
        with sealed_test_windows():
            (shown,) = in_order(processes.do(peek, [Task((tiny, "validation"), (0,))], world_of), 1)
            assert shown == len(tiny.windows("validation"))
            with pytest.raises(SealedError, match="training never reads test windows"):
                in_order(processes.do(peek, [Task((tiny, "test"), (0,))], world_of), 1)


def test_a_spread_is_possible() -> None:
    with pytest.raises(EvaluationError, match="--jobs: needs at least 1, got 0"):
        Spread(0)
    assert Spread(None).processes == (os.cpu_count() or 1)
