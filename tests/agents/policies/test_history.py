"""What may be known before a window: minutes counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from agents.policies.history import MINUTE_US, by_function, history_of, history_within, minutes_of
from tests.tyche_env.simulator.test_rules import a_world, function
from tyche_env.scenario import Scenario
from tyche_env.sources import requests_of


def test_minutes_are_cut_at_the_start_of_the_window_and_the_rest_before_it_is_left_out() -> None:
    # the window begins at 2 min 30 s: the minutes before it begin at 30 s and 90 s
    at_s = [0, 29, 30, 89, 90, 149, 150, 151, 209, 210, 390]
    counts, past = minutes_of(np.array(at_s) * 1_000_000, 150_000_000, 3)
    assert past == 2
    assert counts.tolist() == [2, 2, 3, 1, 0]


def test_a_window_at_the_start_of_the_trace_has_no_past() -> None:
    counts, past = minutes_of(np.array([0, 1, 2 * MINUTE_US]), 0, 2)
    assert (counts.tolist(), past) == ([2, 0], 0)


def test_arrivals_are_told_apart_by_function() -> None:
    found = by_function(np.array([1, 2, 5, 9]), np.array([2, 0, 2, 2], np.int32), 4)
    assert [each.tolist() for each in found] == [[2], [], [1, 5, 9], []]


def test_a_world_ends_in_the_middle_of_a_minute() -> None:
    world = a_world([function(), function()], [(10, 0), (61, 0), (119, 1), (130, 0)], end=131)
    found = history_within(world).minutes()
    assert [(counts.tolist(), past) for counts, past in found] == [([1, 1, 1], 0), ([0, 1, 0], 0)]


@pytest.mark.parametrize("index", [0, 5])
def test_the_past_of_a_window_reaches_to_the_start_of_the_trace(index: int) -> None:
    small = Scenario.load("small")
    window = small.windows("test")[index]
    history = history_of(small, window, 3, small.world("test", index, 3))
    requests = requests_of(small.trace, 3, window.functions)
    for f, (counts, past) in enumerate(history.minutes()):
        own_us = requests.arrival_us[requests.arrival_function == f]
        assert past == window.start_us // MINUTE_US > 0
        assert len(counts) == past + (window.end_us - window.start_us) / MINUTE_US
        for minute in range(0, len(counts), 37):
            start_us = window.start_us + (minute - past) * MINUTE_US
            assert counts[minute] == ((own_us >= start_us) & (own_us < start_us + MINUTE_US)).sum()
    assert history.most_functions == max(len(each.functions) for each in small.windows("test"))
