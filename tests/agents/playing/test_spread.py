"""Runs over processes: each world written once, rows by key, and nothing read there that is sealed here."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pytest

from agents.playing.runs import EvaluationError, shareable
from agents.playing.spread import ALONE, Spread, crew, play_all, play_each
from tyche_env.scenario import Scenario, SealedError, SplitName, sealed_test_windows
from tyche_env.world import World


@dataclass(frozen=True)
class Told:
    """A run that says what it was given, and by which process."""

    scenario: Scenario
    number: int
    made: ClassVar[list[int]] = []
    """Windows that were made, in this process."""

    @property
    def key(self) -> tuple[int]:
        return (self.number,)

    @property
    def world_key(self) -> tuple[str, int]:
        return ("validation", self.number % 2)

    def requests(self) -> World:
        self.made.append(self.number % 2)
        return shareable(self.scenario.world("validation", self.number % 2))

    def row(self, requests: World) -> tuple[int, int, int]:
        return self.number, len(requests.arrival_us), os.getpid()


@dataclass(frozen=True)
class Peek(Told):
    """A run that reads windows where it is played."""

    split: SplitName = field(default="test", kw_only=True)

    def row(self, requests: World) -> tuple[int, int, int]:
        return self.number, len(self.scenario.windows(self.split)), os.getpid()


def test_worlds_are_made_once_and_rows_keep_their_places(tiny: Scenario, tmp_path: Path) -> None:
    runs = [Told(tiny, number) for number in range(6)]
    Told.made.clear()
    with crew(Spread(2), tmp_path) as processes:
        found = [play_all(runs, processes) for _ in range(2)]
    assert Told.made == [0, 1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["world-validation-0", "world-validation-1"]
    sizes = [len(tiny.world("validation", window).arrival_us) for window in (0, 1)]
    assert sizes[0] != sizes[1]
    for rows in found:
        assert [row[:2] for row in rows] == [(number, sizes[number % 2]) for number in range(6)]
    assert os.getpid() not in {row[2] for rows in found for row in rows}
    with crew(ALONE) as alone:
        assert {row[2] for row in play_all(runs, alone)} == {os.getpid()}


def test_alone_a_world_is_made_once_for_runs_that_follow_each_other(tiny: Scenario) -> None:
    Told.made.clear()
    play_all([Told(tiny, number) for number in (0, 2, 4, 1, 3)])
    assert Told.made == [0, 1]


def test_two_runs_of_one_key_are_refused_before_any_is_played(tiny: Scenario) -> None:
    Told.made.clear()
    with pytest.raises(ValueError, match=r"runs: \(1,\) is planned twice"):
        list(play_each([Told(tiny, 1), Told(tiny, 0), Told(tiny, 1)]))
    assert not Told.made


@pytest.mark.parametrize("jobs", [1, 2])
def test_progress_counts_every_run(tiny: Scenario, jobs: int) -> None:
    told: list[tuple[int, int]] = []
    with crew(Spread(jobs)) as workers:
        play_all([Told(tiny, number) for number in range(5)], workers, lambda *count: told.append(count))
    assert told == [(done, 5) for done in range(6)]


def test_what_is_done_is_told_while_the_rest_is_still_to_come(tiny: Scenario, tmp_path: Path) -> None:
    """A run folder that is interrupted keeps what is done, so not all worlds may be made before the first row comes."""
    Told.made.clear()
    with crew(Spread(2), tmp_path) as processes:
        runs = play_each([Told(tiny, number) for number in range(40)], processes)
        first, _ = next(runs)
        assert first.key == (0,)
        assert len(Told.made) == 1
        runs.close()  # type: ignore[attr-defined]


def test_test_windows_that_are_sealed_here_are_sealed_in_other_processes(tiny: Scenario) -> None:
    with crew(Spread(2)) as processes:
        assert play_all([Peek(tiny, 0)], processes)[0][1] == len(tiny.windows("test"))
        with sealed_test_windows():
            (shown,) = play_all([Peek(tiny, 0, split="validation")], processes)
            assert shown[1] == len(tiny.windows("validation"))
            with pytest.raises(SealedError, match="training never reads test windows"):
                play_all([Peek(tiny, 0)], processes)


def test_a_spread_is_possible() -> None:
    with pytest.raises(EvaluationError, match="--jobs: needs at least 1, got 0"):
        Spread(0)
    assert Spread(None).processes == (os.cpu_count() or 1)
