"""Counters of a run on real containers: the core's, whatever its host, at the time of the clock."""

from __future__ import annotations

import numpy as np

from real_backend.core import on_event
from tests.tyche_env.simulator.test_rules import HOLD, LEAVE, SECOND, a_world, function, interval
from tyche_env import accounting
from tyche_env.codes import Event
from tyche_env.control.handles import handles_of
from tyche_env.control.interval import take_priorities
from tyche_env.state import new_state


def test_a_load_counts_for_as_long_as_the_worker_loads() -> None:
    # a container of function 0 from 0 to 10; function 1 is to be held from 20, which fails at 23, and from 30, until 36
    world = a_world([function(), function()], [(0, 0)], nodes=(1000,), **interval())
    state = new_state(world, record=True, features=True)
    handles = handles_of(state)

    def event(second: float, kind: Event, entity: int = 0) -> None:
        assert on_event(handles, round(second * SECOND), kind, entity, 0) >= 0

    def decide(second: float) -> None:
        both = np.array([[LEAVE, LEAVE], [HOLD, LEAVE]], np.int8), np.full((2, 2), 1 << 20)
        take_priorities(handles, *both)
        event(second, Event.PRIORITIES)

    def seconds_at(second: float) -> tuple[float, float, int]:
        state.cluster["now_us"] = round(second * SECOND)
        found = accounting.counters(state)
        return found["load_us"] / SECOND, found["wasted_load_us"] / SECOND, found["wasted_loads"]

    event(0, Event.ARRIVAL)
    event(10, Event.FINISH)
    decide(20)
    assert [seconds_at(second) for second in (20, 22)] == [(0, 0, 0), (2, 0, 0)]
    (loading,) = np.flatnonzero(state.functions["loading_head"] >= 0)
    event(23, Event.LOAD_FAILED, int(state.functions["loading_head"][loading]))
    assert [seconds_at(second) for second in (23, 29)] == [(3, 3, 1), (3, 3, 1)]
    decide(30)
    assert seconds_at(35) == (8, 3, 1)
    event(36, Event.LOADED, int(state.functions["loading_head"][loading]))
    assert seconds_at(50) == (9, 3, 1)
    assert accounting.loading_us(state).tolist() == [0, 9 * SECOND]
