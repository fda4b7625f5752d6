"""Pre-loaded share by request rate."""

from __future__ import annotations

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
