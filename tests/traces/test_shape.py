"""What a whole trace looks like, on tables and traces whose figures are worked by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from traces import Counts, Trace
from traces.counts import MINUTE_US
from traces.shape import _distance, _longest_gap_min, fidelity, halves, per_minute, shape

Table = Callable[..., Counts]
NAN = float("nan")


def a_trace(seconds: Sequence[Sequence[float]], end_s: float) -> Trace:
    """One function a list of seconds."""
    rows = sorted((second, f) for f, each in enumerate(seconds) for second in each)
    return Trace.build(
        names=[f"f{f}" for f in range(len(seconds))],
        arrival_us=np.array([round(second * 1e6) for second, _ in rows], np.int64),
        arrival_function=np.array([f for _, f in rows], np.int32),
        end_us=round(end_s * 1e6),
        source="a test",
        licence="none",
        window="all",
        expansion="none",
    )


def one_function(table: Table, counts: NDArray[np.int64]) -> Counts:
    return table([counts.tolist()])


def test_a_timer_whose_gaps_are_steady_counts_once_and_a_steady_function_needs_five_requests(table: Table) -> None:
    planted = pd.DataFrame(
        [
            # requests, cov, timer
            (9, 0.0, True),  # both
            (9, 0.049, False),  # steady alone
            (5, 0.0, False),  # with the fewest requests
            (2, NAN, True),  # a timer of too few requests to tell
            (4, 0.0, False),  # too few
            (9, 0.05, False),  # varies too much
            (0, NAN, False),
        ],
        columns=["requests", "cov", "timer"],
    )
    assert shape(table([[1, 1]]), planted).steady_functions == 4


def test_the_busiest_hundredth_is_of_the_functions_and_at_least_one(table: Table) -> None:
    def share(requests: list[int]) -> float | None:
        planted = pd.DataFrame({"requests": requests, "cov": NAN, "timer": False})
        return shape(table([[1, 1]]), planted).top_1_percent_share

    # two of 250, in the midst of 248 functions with one request each
    assert share([1] * 100 + [40, 12] + [1] * 148) == pytest.approx(52 / 300)
    assert share([3, 5, 2]) == 0.5
    assert share([0, 0]) is None


def test_requests_per_minute_are_those_of_all_functions_up_to_the_end(table: Table) -> None:
    assert per_minute(table([[1, 2, 0], [10, 20, 30]])).tolist() == [11, 22, 30]
    trace = a_trace([[0, 59.9, 60], [61, 119, 180.5]], 250)
    assert per_minute(trace).tolist() == [2, 3, 0, 1, 0]
    assert per_minute(a_trace([[1.0]], 180)).tolist() == [1, 0, 0]


def test_what_returns_every_two_hours_is_opposite_after_one_hour_and_alike_after_a_day(table: Table) -> None:
    counts = np.tile(np.repeat([3, 1], 60), 24)
    found = shape(one_function(table, counts))
    assert found.autocorrelation_1h == pytest.approx(-1.0)
    assert found.autocorrelation_24h == pytest.approx(1.0)
    # no wave of a day in it
    assert found.daily_swing == pytest.approx(0.0, abs=1e-9)
    assert (found.silent_minutes, found.longest_gap_min) == (0.0, 0.0)


def test_an_autocorrelation_needs_twice_its_lag_and_something_that_varies_at_both_ends(table: Table) -> None:
    up = np.arange(120)
    assert shape(one_function(table, up)).autocorrelation_1h == pytest.approx(1.0)
    assert shape(one_function(table, up)).autocorrelation_24h is None
    assert shape(one_function(table, up[:119])).autocorrelation_1h is None
    for flat in (np.r_[[5] * 60, up[:60]], np.r_[up[:60], [5] * 60], np.full(120, 5)):
        assert shape(one_function(table, flat)).autocorrelation_1h is None


def test_the_daily_swing_is_the_amplitude_of_the_wave_over_the_mean_of_whole_days(table: Table) -> None:
    at = np.arange(2 * 1440)
    wave = np.rint(10_000 + 4_000 * np.cos(2 * np.pi * (at - 500) / 1440) + 3_000 * np.cos(2 * np.pi * at / 720))
    counts = np.concatenate([wave.astype(np.int64), np.full(700, 90_000)])
    described = pd.DataFrame({"requests": [1], "cov": [NAN], "timer": [False]})  # else 40 million requests are made

    def swing(of: NDArray[np.int64]) -> float | None:
        return shape(one_function(table, of), described).daily_swing

    assert swing(counts) == pytest.approx(0.4, abs=1e-3)
    assert swing(counts[:1440]) == pytest.approx(0.4, abs=1e-3)
    assert swing(counts[:1439]) is None
    assert swing(np.zeros(1440, np.int64)) is None


@pytest.mark.parametrize(
    ("counts", "silent", "gap_min"),
    [
        ([2, 0, 0, 1, 0], 0.6, 2),
        ([0, 0, 0, 1, 0], 0.8, 3),
        ([1, 0, 1, 0, 0], 0.6, 2),
        ([1, 1, 1, 1, 1], 0.0, 0),
        ([0, 0, 0, 0, 0], 1.0, 5),
    ],
)
def test_silence_of_counts(table: Table, counts: list[int], silent: float, gap_min: float) -> None:
    found = shape(table([counts]))
    assert (found.silent_minutes, found.longest_gap_min) == (silent, gap_min)


@pytest.mark.parametrize(
    ("seconds", "end_s", "gap_s"),
    [([30, 90, 400], 420, 310), ([300, 320, 400], 450, 300), ([30, 90], 420, 330), ([], 420, 420)],
)
def test_the_longest_gap_of_requests_is_in_minutes_and_may_lie_at_either_end(
    seconds: list[float], end_s: float, gap_s: float
) -> None:
    trace = a_trace([seconds], end_s)
    assert _longest_gap_min(trace, per_minute(trace)) == pytest.approx(gap_s / 60)


def test_the_distance_is_the_widest_between_the_two_shares() -> None:
    def brute(first: list[float], second: list[float]) -> float:
        def share(values: list[float], at: float) -> float:
            return sum(value <= at for value in values) / len(values)

        return max(abs(share(first, at) - share(second, at)) for at in (*first, *second))

    draw = np.random.default_rng(0)
    for _ in range(20):
        first, second = (draw.integers(0, 6, draw.integers(1, 9)).astype(float) for _ in range(2))
        expected = brute(first.tolist(), second.tolist())
        assert _distance(first, second) == pytest.approx(expected)
        assert _distance(second, first) == pytest.approx(expected)
    nothing, one = np.zeros(0), np.ones(1)
    assert all(np.isnan(_distance(*pair)) for pair in ((nothing, one), (one, nothing)))
    assert _distance(one, one) == 0.0
    assert _distance(one, 2 * one) == 1.0


def test_fidelity_compares_rates_and_regularity_and_keeps_the_two_apart() -> None:
    # rates 3, 6, 6 and 2 requests in a minute against 6; CoV 0, 0 and above 0 against 0
    first = a_trace([[0, 20, 40], [0, 10, 20, 30, 40, 50], [0, 1, 2, 3, 4, 50], [5, 6]], 60)
    second = a_trace([[0, 10, 20, 30, 40, 50]], 60)
    found = fidelity(first, second)
    assert found.ks_rate == pytest.approx(1 / 2)
    assert found.ks_cov == pytest.approx(1 / 3)
    assert (found.first, found.second) == (shape(first), shape(second))
    assert (found.first.top_1_percent_share, found.second.top_1_percent_share) == (6 / 17, 1.0)


def test_halves_share_all_functions_out(table: Table) -> None:
    parts = halves(table([[f] for f in range(7)]))
    assert [len(part.names) for part in parts] == [3, 4]
    assert sorted(name for part in parts for name in part.names) == [f"f{f}" for f in range(7)]
    # by lot, not by place
    assert set(parts[0].names) != {"f0", "f1", "f2"}
    assert parts[0].end_us == MINUTE_US
