"""What a policy may know before its window begins: the functions, and the trace's earlier minutes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from tyche_env.world import FunctionTable, World

if TYPE_CHECKING:
    from traces import Window
    from tyche_env.scenario import Scenario, SplitName

MINUTE_US = 60_000_000

Minutes = tuple[NDArray[np.float64], int]
"""The counts of each minute up to a world's end, and how many of them lie before its time 0.

A minute from time 0 on may be used only for what is said about later ones, as it would be known by then.
"""


@dataclass(frozen=True, slots=True)
class History:
    """What ``policy.prepare`` is told.

    Attributes:
        functions: the function table of the world.
        most_functions: rows of an observation: the functions of the largest window that the policy will meet.
        minutes: gives the counts of each function, (F,) of :data:`Minutes`; reading the trace takes time, so it is
            called by those who need it.
    """

    functions: FunctionTable
    most_functions: int
    minutes: Callable[[], Sequence[Minutes]] = field(repr=False)


def history_of(scenario: Scenario, window: Window, seed: int, world: World) -> History:
    """The history of a scenario's window: from the start of the trace on.

    Minutes are cut so that the window, warm-up included, begins with one.

    Args:
        scenario: whose trace.
        window: one of its windows.
        seed: of the expansion of counts.
        world: of that window.
    """

    def minutes() -> list[Minutes]:
        from tyche_env.sources import requests_of
        from tyche_env.streams import compiled_streams

        requests = requests_of(scenario.trace, seed, window.functions, streams=compiled_streams)
        count = -(-(window.end_us - window.start_us) // MINUTE_US)
        return [
            minutes_of(arrival_us, window.start_us, count)
            for arrival_us in by_function(requests.arrival_us, requests.arrival_function, len(window.functions))
        ]

    most = max(len(each.functions) for each in scenario.windows(cast("SplitName", window.split)))
    return History(world.functions, most, minutes)


def history_within(world: World) -> History:
    """The history of a world whose trace nobody knows: nothing before its time 0."""

    def minutes() -> list[Minutes]:
        count = -(-world.end_us // MINUTE_US)
        arrivals = by_function(world.arrival_us, world.arrival_function, world.function_count)
        return [minutes_of(arrival_us, 0, count) for arrival_us in arrivals]

    return History(world.functions, world.function_count, minutes)


def minutes_of(arrival_us: NDArray[np.int64], start_us: int, minutes: int) -> Minutes:
    """Counts of one function's sorted arrivals, from the start of the trace to so many minutes after ``start_us``."""
    past = start_us // MINUTE_US
    edges_us = start_us + np.arange(-past, minutes + 1, dtype=np.int64) * MINUTE_US
    return np.diff(np.searchsorted(arrival_us, edges_us)).astype(np.float64), past


def by_function(
    arrival_us: NDArray[np.int64], arrival_function: NDArray[np.int32], functions: int
) -> list[NDArray[np.int64]]:
    """The arrivals of each function, in their order."""
    order = np.argsort(arrival_function, kind="stable")
    sizes = np.bincount(arrival_function, minlength=functions)
    return np.split(arrival_us[order], np.cumsum(sizes)[:-1])
