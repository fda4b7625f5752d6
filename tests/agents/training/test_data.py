"""Training rows: labels, rates and stretches of time worked out by hand."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from agents.training import data as data_module
from agents.training.data import LONGEST_US, Rows, _rows_of_world, rows_of
from tests.tyche_env.simulator.test_rules import SECOND, a_world, function, interval
from tyche_env.features import features_of
from tyche_env.network import FEATURES, INPUTS
from tyche_env.scenario import Scenario
from tyche_env.simulator.loading import warm_up

NEVER = float("inf")
EVERY_S = 10
ARRIVALS_S = {0: (5, 95, 700), 1: (30, 31, 50, 695), 2: (), 3: (0, 12, 710)}
"""Of four functions; the last requests of two of them come when rows are made no more, but are labels."""
END_S = 720


class Planned:
    """Draws that are known: a look every ten seconds, and of each row the same number."""

    def __init__(self, number: float = 0.0) -> None:
        self._number = number

    def uniform(self, low: float, high: float) -> float:
        assert low < EVERY_S < high
        return float(EVERY_S)

    def random(self, count: int) -> Any:
        return np.full(count, self._number)


def made(share: float = 1.0, number: float = 0.0) -> Rows:
    warm_up()
    arrivals = sorted((float(second), f) for f, seconds in ARRIVALS_S.items() for second in seconds)
    world = a_world([function(inference=1)] * 4, arrivals, end=END_S, **interval(decision_us=10 * SECOND))
    draw: Any = Planned(number)
    return _rows_of_world(world, draw, share)


def expected() -> list[tuple[int, int, float]]:
    """Moment, function and wait of each row."""
    found = []
    # the last horizon reaches to the end of what is known
    for now in range(EVERY_S, END_S - LONGEST_US // SECOND, EVERY_S):
        for f, seconds in ARRIVALS_S.items():
            if any(second <= now for second in seconds):
                found.append((now, f, min((second - now for second in seconds if second > now), default=NEVER)))
    return found


def test_labels_are_the_seconds_to_the_next_request_of_the_same_function() -> None:
    rows, truth = made(), expected()
    assert len(rows) == len(truth) > 100
    np.testing.assert_allclose(rows.wait_s, [wait for *_, wait in truth], rtol=1e-6)
    # and by hand: function 0 was requested at 5 s, function 3 at 0 s
    assert rows.wait_s[:2].tolist() == [85.0, 2.0]
    assert truth[:2] == [(10, 0, 85), (10, 3, 2)]


def test_near_the_end_no_row_says_never_because_nobody_looked_further() -> None:
    truth = expected()
    assert max(now for now, *_ in truth) == END_S - 300 - EVERY_S
    # each of the three is requested at about 700 s: seen to the last row
    assert np.isfinite(made().wait_s).all()


def test_a_function_that_is_never_requested_again_waits_for_ever() -> None:
    warm_up()
    world = a_world([function(inference=1)] * 2, [(5, 0), (6, 1), (400, 1)], end=END_S, **interval(decision_us=SECOND))
    draw: Any = Planned()
    rows = _rows_of_world(world, draw, 1.0)
    assert np.isinf(rows.wait_s[0::2]).all()
    np.testing.assert_allclose(rows.wait_s[1::2][:39], np.arange(390, 0, -10))


def test_rates_are_requests_an_hour_of_the_whole_stretch() -> None:
    per_h = {f: len(seconds) / (END_S / 3600) for f, seconds in ARRIVALS_S.items()}
    np.testing.assert_allclose(made().requests_per_h, [per_h[f] for _, f, _ in expected()])


def test_features_are_those_of_the_rows_own_function() -> None:
    rows, age = made(), FEATURES.index("log_age_s")
    assert rows.features.shape == (len(rows), INPUTS)
    ages = [now - max(second for second in ARRIVALS_S[f] if second <= now) for now, f, _ in expected()]
    np.testing.assert_allclose(rows.features[:, age], np.log1p(ages), rtol=1e-5, atol=1e-6)
    assert features_of(np.zeros((0, 36), np.float32)).shape == (0, INPUTS)


def test_a_share_of_the_rows_is_kept() -> None:
    assert len(made(share=0.3, number=0.29)) == len(made())
    assert len(made(share=0.3, number=0.31)) == 0


@pytest.mark.parametrize("split", ["train", "validation"])
def test_stretches_follow_each_other_within_the_time_of_the_split(monkeypatch: pytest.MonkeyPatch, split: Any) -> None:
    scenario = Scenario.load("small")
    stretches: list[Any] = []
    monkeypatch.setattr(Scenario, "world_of", lambda self, window, seed, *_: stretches.append((seed, window)))
    one = np.zeros(1, np.float32)
    monkeypatch.setattr(data_module, "_rows_of_world", lambda *_: Rows(np.zeros((1, INPUTS), np.float32), one, one))
    assert len(rows_of(scenario, seeds=(3, 4), share=1.0, split=split)) == len(stretches)
    windows = scenario.windows(split)
    length_us = windows[0].end_us - windows[0].start_us
    begin_us, end_us = min(w.start_us for w in windows), max(w.end_us for w in windows)
    for seed in (3, 4):
        spans = [(window.start_us, window.end_us) for number, window in stretches if number == seed]
        assert len(spans) >= (end_us - begin_us) // length_us - 1
        assert begin_us <= spans[0][0] < begin_us + length_us // 2
        assert all(span[1] - span[0] == length_us for span in spans)
        assert all(after[0] == before[1] for before, after in pairwise(spans))
        assert end_us - length_us < spans[-1][1] <= end_us
    assert {window.functions for _, window in stretches} == {tuple(sorted({f for w in windows for f in w.functions}))}
    assert {window.split for _, window in stretches} == {split}
