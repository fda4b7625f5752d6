"""Runs that do not depend on each other, and who does them."""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Protocol, TypeVar

from tyche_env.errors import UserError
from tyche_env.rules import Rules
from tyche_env.scenario import sealed_test_windows
from tyche_env.stored import read_world
from tyche_env.world import World

Row_co = TypeVar("Row_co", covariant=True)
T = TypeVar("T")


class EvaluationError(UserError):
    """What cannot be run; the message names the option and what would be right."""


class Run(Protocol[Row_co]):
    """One row of a table to be: it knows which world it plays and what is kept of how it went.

    It is sent to where it is played, so it consists of plain data and importable code.
    """

    @property
    def key(self) -> tuple[Hashable, ...]:
        """What identifies its row."""

    @property
    def world_key(self) -> tuple[Hashable, ...]:
        """Names the requests that it plays; runs with equal keys share them.  Numbers and words, which name files."""

    def requests(self) -> World:
        """The world of those requests; it can be sent anywhere (:func:`shareable`)."""

    def row(self, requests: World) -> Row_co:
        """Play it, and say what is kept."""


class Crew(Protocol):
    """Does runs.

    Attributes:
        cpu_s: CPU seconds of all runs so far, those of this process not counted.
    """

    @property
    def cpu_s(self) -> float: ...  # noqa: D102

    def do(self, runs: Iterable[Run[T]]) -> Iterator[tuple[int, T]]:
        """The place of each run and its row, in the order in which they finish."""
        ...


def shareable(world: World) -> World:
    """A world that can be written and sent anywhere: without the rules that ``Scenario.under`` gives it."""
    return replace(world, rules=Rules())


def do_run(run: Run[T], requests: World | Path, sealed: bool) -> tuple[T, float]:
    """Do a run where it was sent to; returns its row, and the CPU seconds that it took.

    Args:
        run: what is played.
        requests: its world, or where the files of that lie.
        sealed: whether test windows may not be read.
    """
    started_s = time.process_time()
    with sealed_test_windows() if sealed else nullcontext():
        row = run.row(read_world(requests) if isinstance(requests, Path) else requests)
    return row, time.process_time() - started_s
