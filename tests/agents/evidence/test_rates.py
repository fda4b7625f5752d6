"""Pre-loaded share by request rate."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from agents.evidence.rates import by_rate
from tyche_env.metrics import TOTALS_DTYPE
from tyche_env.scenario import Scenario


def test_functions_of_a_rate_are_added_up(tiny: Scenario) -> None:
    world = tiny.world(window=0)
    minutes = round((world.end_us - world.score_from_us) / 60e6)
    totals = np.zeros(4, TOTALS_DTYPE)
    # Two functions at 1 a minute, one at 10, one never.
    totals["requests"] = (minutes, minutes, 10 * minutes, 0)
    totals["gpu"] = (1, 0, 5, 0)
    totals["memory"] = (1, 2, 0, 0)
    assert by_rate(world, totals) == [[0, 2 * minutes, 4], [2, 10 * minutes, 5]]


def test_a_bin_holds_what_is_above_its_lower_edge(tiny: Scenario) -> None:
    world = tiny.world(window=0)
    # ten minutes that count, after a warm-up that does not
    world = replace(world, score_from_us=world.end_us - 600_000_000)
    totals = np.zeros(6, TOTALS_DTYPE)
    # a minute: 1.5, 3.1, 3.2, 9.9, 0.9 and 0.1; edges are 0.1, 0.316, 1, 3.16 and 10
    totals["requests"] = (15, 31, 32, 99, 9, 1)
    totals["gpu"] = (1, 0, 3, 0, 0, 1)
    totals["memory"] = (2, 4, 0, 5, 6, 0)
    totals["loading"] = totals["warm"] = 1
    assert by_rate(world, totals) == [[-2, 1, 1], [-1, 9, 6], [0, 46, 7], [1, 131, 8]]
