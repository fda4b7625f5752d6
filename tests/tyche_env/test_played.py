"""Driving a run: when a policy is asked, when a watcher looks, and which counters belong to the scored window."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.tyche_env.simulator.test_rules import HOLD, LEAVE, OFFLOAD, ONE, SECOND, a_world, function, interval
from tyche_env.played import drive
from tyche_env.simulator.reference import ReferenceEngine
from tyche_env.world import World


class Clock:
    """A host that counts the seconds: three loads in each, and 7 MB us in each microsecond."""

    def __init__(self) -> None:
        self.now_us = -1
        self.told: list[tuple[str, int]] = []
        self.log = np.zeros(0)

    def advance_until(self, t_us: int) -> None:
        assert t_us >= self.now_us
        self.now_us = t_us

    def drain(self) -> None:
        # what happens after the end counts for nobody
        self.now_us += 1000 * SECOND

    def set_priorities(self, decision: Any, priority: Any) -> None:
        self.told.append(("decide", self.now_us))

    def ask_all(self) -> Any:
        raise AssertionError

    def counters(self) -> dict[str, int]:
        return {"loads": 3 * (self.now_us // SECOND), "load_us": self.now_us}

    def integrals(self) -> dict[str, Any]:
        return {"busy": np.array([7 * self.now_us, 0])}


class Looks:
    """A watcher that looks at planned instants."""

    def __init__(self, host: Clock, at_us: list[int]) -> None:
        self._host, self._at_us = host, at_us

    def begin(self, world: World) -> list[int]:
        return self._at_us

    def look(self, at_us: int, host: Any) -> None:
        assert at_us == host.now_us
        self._host.told.append(("look", at_us))

    def end(self, log: Any) -> None:
        raise AssertionError


def world_of(score_from_s: float, end_s: float, **settings: Any) -> World:
    world = a_world([function()], [(1, 0)], end=end_s, **settings)
    return replace(world, score_from_us=round(score_from_s * SECOND))


def nothing() -> Any:
    """Decisions that a clock does not look at."""
    return None, None


@pytest.mark.parametrize("event_mode", [True, False])
@pytest.mark.parametrize("warm_up_s", [0, 5, 12])
def test_what_was_counted_in_the_warm_up_and_after_the_end_is_taken_off(warm_up_s: int, event_mode: bool) -> None:
    settings = {} if event_mode else interval(decision_us=4 * SECOND)
    host: Any = Clock()
    host.now_us = 0
    counters, integrals = drive(host, world_of(warm_up_s, 20, **settings), nothing)
    scored_s = 20 - warm_up_s
    assert counters == {"loads": 3 * scored_s, "load_us": scored_s * SECOND}
    assert integrals["busy"].tolist() == [7 * scored_s * SECOND, 0]


def test_decisions_and_looks_fall_on_their_instants() -> None:
    host: Any = Clock()
    host.now_us = 0
    looks: Any = Looks(host, [3 * SECOND, 8 * SECOND, 20 * SECOND])
    drive(host, world_of(5, 20, **interval(decision_us=8 * SECOND)), nothing, looks)
    told = [(what, at_us // SECOND) for what, at_us in host.told]
    assert told == [("decide", 0), ("look", 3), ("look", 8), ("decide", 8), ("decide", 16), ("look", 20)]


def test_loads_of_the_warm_up_are_not_those_of_the_window() -> None:
    # two functions; a container of each is there from 12 s on.  At 20 s function 0 is held, whose process the run has
    # left: no load.  At 40 s both are let go, at 60 s held again: two loads in the warm-up.  At 80 s they are let go
    # again, and at 120 s only the first is held: one load in the window, which takes 5 s.
    plan = {0: LEAVE, 20: HOLD, 40: OFFLOAD, 60: HOLD, 80: OFFLOAD, 100: OFFLOAD, 120: HOLD, 140: LEAVE}
    two = a_world([function(), function()], [(1, 0), (2, 1)], end=150, **interval(decision_us=20 * SECOND))
    world = replace(two, score_from_us=100 * SECOND)
    engine = ReferenceEngine(world)

    def decide() -> Any:
        answer = plan[engine.now // SECOND]
        second = OFFLOAD if engine.now == 120 * SECOND else answer
        decision = np.array([[answer, LEAVE], [second, LEAVE]], np.int8)
        return decision, np.full((2, 2), ONE, np.int64)

    counters, _ = drive(engine, world, decide)
    assert engine.counters()["loads"] == 3
    assert counters["loads"] == 1
    assert counters["load_us"] == 5 * SECOND
    # both containers are kept for 600 s
    assert counters["expiries"] == counters["created"] == 0
