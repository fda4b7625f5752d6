"""What means, paired differences and intervals say, and what they rest on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.evidence.statistics import AGGREGATED, aggregate, compare, estimate, paired, paired_bca, share
from tyche_env.metrics import METRIC_KEYS

RANDOM = np.random.default_rng(7)


def row(policy: str, window: int, value: float | None, seed: int = 0) -> dict[str, Any]:
    return {
        "policy": policy,
        "prewarm": "openwhisk",
        "mode": "realistic",
        "window": window,
        "seed": seed,
        "group": f"g{window}",
        "bound": False,
        **dict.fromkeys(METRIC_KEYS, value),
        "requests": 10,
    }


def test_what_is_aggregated_are_metrics() -> None:
    assert set(AGGREGATED) < set(METRIC_KEYS)


def test_seeds_of_a_window_are_averaged_before_anything_else() -> None:
    rows = [row("tyche", 0, 10.0, seed) for seed in range(9)] + [row("tyche", 1, 20.0)]
    (entry,) = aggregate(rows)
    assert entry["preload_rate"]["mean"] == 15.0
    assert (entry["windows"], entry["groups"], entry["seeds"], entry["requests"]) == (2, 2, 9, 100)


def test_with_few_groups_windows_are_resampled_and_the_result_says_so() -> None:
    found = estimate([1.0, 2.0, 3.0, 4.0], ["a", "a", "b", "b"])
    assert (found.resampled, found.groups, found.windows) == ("window", 2, 4)


def test_with_five_groups_whole_groups_are_resampled() -> None:
    groups = [name for name in "abcde" for _ in range(8)]
    level = np.repeat([1.0, 2.0, 3.0, 4.0, 5.0], 8)
    whole = estimate((level + RANDOM.normal(0, 0.01, 40)).tolist(), groups)
    single = estimate(level.tolist(), [str(i) for i in range(40)])
    assert whole.resampled == "group"
    assert single.resampled == "group"
    assert whole.low is not None
    assert whole.high is not None
    assert single.low is not None
    assert single.high is not None
    # Forty windows of five functions say no more than five windows do.
    assert whole.high - whole.low > 1.5 * (single.high - single.low)


@pytest.mark.parametrize("windows", [1, 2, 3])
def test_fewer_than_four_windows_have_no_interval(windows: int) -> None:
    found = estimate([3.0] * windows, ["a"] * windows)
    assert (found.mean, found.low, found.high, found.resampled) == (3.0, None, None, "none")
    assert not found.clear_of_zero


def test_where_nothing_varies_the_interval_is_a_point() -> None:
    found = estimate([2.0] * 6, list("abcdef"))
    assert (found.low, found.high, found.clear_of_zero) == (2.0, 2.0, True)


def test_no_window_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        estimate([], [])


@settings(max_examples=25)
@given(st.lists(st.floats(-1e6, 1e6), min_size=4, max_size=12), st.randoms(use_true_random=False))
def test_the_interval_holds_the_extremes_apart_and_ignores_order(values: list[float], random: Any) -> None:
    groups = [f"g{i}" for i in range(len(values))]
    found = estimate(values, groups)
    assert found.low is not None
    assert found.high is not None
    slack = 1e-9 * max(1.0, *map(abs, values))
    assert min(values) - slack <= found.low <= found.high <= max(values) + slack
    order = list(range(len(values)))
    random.shuffle(order)
    again = estimate([values[i] for i in order], [groups[i] for i in order])
    assert again.mean == pytest.approx(found.mean, abs=slack)


def test_a_paired_difference_is_sharp_where_levels_vary_widely() -> None:
    level = RANDOM.uniform(100, 10_000, 12)
    rows = [row("none", i, float(v)) for i, v in enumerate(level)]
    rows += [row("tyche", i, float(v) - 5 + 0.1 * (i % 3)) for i, v in enumerate(level)]
    entry = next(e for e in compare(rows, "none") if e["metric"] == "warming_loading_ms_function_mean")
    assert entry["difference"]["mean"] == pytest.approx(-4.9)
    assert -5 <= entry["difference"]["low"] <= entry["difference"]["high"] <= -4.8
    assert entry["clear_of_zero"]
    assert entry["relative"] == pytest.approx(-4.9 / level.mean())


def test_the_bca_interval_is_that_of_the_same_paired_difference_and_leans_to_its_tail() -> None:
    draw = np.random.default_rng(3)
    gained = draw.exponential(size=18)
    reference = {("a", window): 10.0 for window in range(18)}
    policy = {("a", window): 10.0 - each for window, each in enumerate(gained)}
    low, high = paired_bca(policy, reference)
    assert low is not None
    assert high is not None
    assert low < -gained.mean() < high < 0
    assert -gained.mean() - low > high + gained.mean()
    assert paired_bca({("a", 0): 1.0}, reference) == (None, None)


def test_only_windows_that_both_have_are_compared() -> None:
    rows = [row("none", i, 10.0) for i in range(6)] + [row("tyche", i, 8.0) for i in range(4)]
    assert compare(rows, "none")[0]["windows"] == 4


def test_half_of_the_way_to_the_oracle_is_half_of_the_gap() -> None:
    level = RANDOM.uniform(100, 1000, 8)
    rows = [row("none", i, float(v)) for i, v in enumerate(level)]
    rows += [row("tyche", i, float(v) / 2) for i, v in enumerate(level)]
    rows += [row("oracle", i, 0.0) for i in range(8)]
    entries = {e["policy"]: e for e in compare(rows, "none") if e["metric"] == "warming_loading_ms_mean"}
    assert entries["tyche"]["gap_share"]["mean"] == pytest.approx(0.5)
    assert entries["tyche"]["gap_share"]["low"] == pytest.approx(0.5)
    assert entries["oracle"]["gap_share"]["mean"] == pytest.approx(1.0)


def test_there_is_no_share_of_a_gap_that_may_be_none() -> None:
    assert share([1.0, -1.0, 1.0], [2.0, -3.0, 0.5], list("abc")) == (None, None, None)


def test_a_metric_that_is_not_defined_is_left_out() -> None:
    rows = [row("none", i, 1.0) for i in range(3)] + [row("bound", i, None) for i in range(3)]
    assert [entry["preload_rate"] for entry in aggregate(rows)][1] is None
    assert compare(rows, "none") == []


def test_without_common_windows_there_is_no_difference() -> None:
    assert paired({("a", 0): 1.0}, {("a", 1): 1.0})["difference"] is None


@pytest.mark.slow
@pytest.mark.parametrize(("groups", "least"), [(6, 0.87), (12, 0.9)])
def test_the_interval_of_clustered_windows_covers_the_truth(groups: int, least: float) -> None:
    random = np.random.default_rng(groups)
    hits, trials = 0, 300
    for _ in range(trials):
        level = random.normal(0, 1, groups)
        values = [float(v + random.normal(0, 0.5)) for v in level for _ in range(3)]
        found = estimate(values, [f"g{i}" for i in range(groups) for _ in range(3)])
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= 0 <= found.high
    # Few clusters leave a bootstrap somewhat too narrow; four standard deviations of the count are 5 %.
    assert least <= hits / trials <= 0.99
