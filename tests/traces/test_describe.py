"""Statistics: rate, regularity, timers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from traces import Counts, Trace, describe, expand, statistics
from traces.describe import cov_of_gaps
from traces.expansion import function_arrivals

Table = Callable[..., Counts]


def _trace(*arrivals_us: list[int]) -> Trace:
    return Trace.build(
        names=[f"f{i}" for i in range(len(arrivals_us))],
        arrival_us=np.array([time for times in arrivals_us for time in times], dtype=np.int64),
        arrival_function=np.repeat(np.arange(len(arrivals_us)), [len(times) for times in arrivals_us]).astype(np.int32),
        end_us=600_000_000,
        source="a test",
        licence="none",
        window="all",
        expansion="none",
    )


def test_classes_follow_the_cov_of_gaps() -> None:
    regular = [1_000_000 * i for i in range(50)]
    bursty = sorted([*range(100), 500_000_000])
    normal = [0, 1_000_000, 2_000_000, 3_000_000, 20_000_000]
    table = statistics(_trace(regular, normal, bursty, [5, 9], []))
    assert table["cov_class"].tolist() == ["Predictable", "Normal", "Bursty", "Unknown", "Unknown"]
    assert table["requests"].tolist() == [50, 5, 101, 2, 0]
    assert table["cov"].iloc[0] == 0.0
    assert np.isnan(table["cov"].iloc[3])


def test_functions_that_are_placed_together_are_as_each_one_alone(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = table(np.random.default_rng(0).poisson(0.7, (30, 40)).tolist())
    alone = [cov_of_gaps(function_arrivals(counts, "uniform", 0, function)) for function in range(30)]
    for part in (1, 200, 1 << 22):
        monkeypatch.setattr(describe, "_PART", part)
        assert statistics(counts)["cov"].tolist() == alone
    assert statistics(counts.select([])).empty


def test_rate_groups_follow_requests_per_minute() -> None:
    table = statistics(_trace(list(range(20)), list(range(19)), [1], []))
    assert table["rate_per_min"].tolist() == [2.0, 1.9, 0.1, 0.0]
    assert table["rate_group"].tolist() == ["frequent", "medium", "medium", "rare"]


@pytest.mark.parametrize(
    ("gaps", "cov", "name"),
    [
        ([0, 2], 1.0, "Normal"),
        ([0, 0, 3], 2**0.5, "Normal"),
        ([0] * 16 + [17], 4.0, "Normal"),
        ([0] * 17 + [18], 17**0.5, "Bursty"),
        ([1, 2], 1 / 3, "Predictable"),
    ],
)
def test_the_bounds_of_the_classes_are_a_cov_of_1_and_of_4(gaps: list[int], cov: float, name: str) -> None:
    described = statistics(_trace(np.cumsum([0, *gaps]).tolist()))
    assert described["cov"].tolist() == pytest.approx([cov])
    assert described["cov_class"].tolist() == [name]


def test_who_a_row_is_of_and_rates_of_a_longer_trace(table: Table) -> None:
    described = statistics(table([[9, 0, 0, 3], [1, 1, 0, 0]], triggers=["timer", "queue"]))
    names = ["function", "owner", "trigger", "requests", "rate_per_min", "timer"]
    assert described[names].to_numpy().tolist() == [
        ["f0", "o0", "timer", 12, 3.0, True],
        ["f1", "o1", "queue", 2, 0.5, False],
    ]


def test_counts_are_described_as_their_uniform_expansion(table: Table) -> None:
    counts = table([[2, 9, 0], [1, 1, 1]], triggers=["http", "timer"])
    described = statistics(counts)
    assert described.equals(statistics(expand(counts, "uniform", seed=0)))
    assert described["timer"].tolist() == [False, True]


@pytest.mark.parametrize("arrivals", [[], [1], [1, 2], [5, 5, 5]])
def test_no_cov_without_two_gaps_or_with_all_at_once(arrivals: list[int]) -> None:
    assert np.isnan(cov_of_gaps(np.array(arrivals, dtype=np.int64)))
