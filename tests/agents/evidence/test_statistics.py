"""Pooled means, paired differences and shares of a gap, each worked by hand."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from agents.evidence import kept
from agents.evidence.comparison import compare_runs
from agents.evidence.intervals import FEWEST_GROUPS
from agents.evidence.run_folder import RunError, RunFolder
from agents.evidence.statistics import (
    AGGREGATED,
    COMPARED,
    HIGHER_IS_BETTER,
    aggregate,
    compare,
    conclusions,
    paired,
    parts_of,
    pooled,
    window_mean,
)
from tests.agents.evidence.planted import a_folder, a_row
from tyche_env.metrics import LATENCY_BINS, METRIC_KEYS, TOTALS_DTYPE

PER_REQUEST, PER_FUNCTION = "warming_loading_ms_mean", "warming_loading_ms_function_mean"

BUSY_AND_QUIET = [a_row("tyche", "a", 0, {0: (1200, 10.0)}), a_row("tyche", "a", 1, {0: (1, 866.0)})]
"""A function with a window of 1,200 requests and one of a single request."""


def value(rows: list[dict[str, Any]], metric: str) -> float:
    found = pooled(rows, metric)
    assert found is not None
    return found.mean


def test_what_is_aggregated_and_compared_are_metrics() -> None:
    assert set(AGGREGATED) < set(METRIC_KEYS)
    assert {*COMPARED, *HIGHER_IS_BETTER} < set(METRIC_KEYS)


def test_a_window_of_one_request_weighs_one_request() -> None:
    expected = (1200 * 10 + 866) / 1201
    assert value(BUSY_AND_QUIET, PER_REQUEST) == pytest.approx(expected)
    assert value(BUSY_AND_QUIET, PER_FUNCTION) == pytest.approx(expected)
    assert window_mean(BUSY_AND_QUIET, PER_REQUEST) == pytest.approx((10 + 866) / 2)
    (entry,) = aggregate(BUSY_AND_QUIET)
    assert entry[PER_REQUEST]["mean"] == pytest.approx(expected)
    assert entry[f"{PER_REQUEST}_window_mean"] == pytest.approx(438)


def test_percentiles_are_those_of_all_requests_together() -> None:
    # 1,199 of 1,201 requests take 110 ms, so 99 % do; the mean of the windows' percentiles would be 538 ms
    assert value(BUSY_AND_QUIET, "end_to_end_ms_p99") == pytest.approx(110, rel=0.01)
    shared = [a_row("tyche", "a", 0, {0: (50, 10.0)}), a_row("tyche", "a", 1, {0: (46, 10.0), 1: (4, 900.0)})]
    assert value(shared, "end_to_end_ms_p95") == pytest.approx(110, rel=0.01), "96 of 100, of both windows together"
    slow = [a_row("tyche", "a", 0, {0: (98, 10.0)}), a_row("tyche", "a", 1, {0: (2, 900.0)})]
    assert value(slow, "end_to_end_ms_p99") == pytest.approx(1000, rel=0.01)
    assert value(slow, "end_to_end_ms_p95") == pytest.approx(110, rel=0.01)


def test_per_function_is_the_mean_over_functions_of_all_groups() -> None:
    rows = [
        a_row("tyche", "a", 0, {0: (10, 100.0), 1: (1, 20.0)}),
        a_row("tyche", "a", 1, {0: (30, 200.0)}),
        a_row("tyche", "b", 2, {0: (5, 60.0)}),
    ]
    # function 0 of group b is another than that of group a
    assert value(rows, PER_FUNCTION) == pytest.approx((7000 / 40 + 20 + 60) / 3)
    assert value(rows, PER_REQUEST) == pytest.approx((7000 + 20 + 300) / 46)
    found = parts_of(rows, PER_FUNCTION)
    assert found is not None
    assert found.groups == ("a", "b")
    assert found.parts.tolist() == pytest.approx([195.0, 60.0])
    assert found.wholes.tolist() == [2.0, 1.0]


def test_seeds_are_pooled_with_their_window() -> None:
    rows = [a_row("tyche", "a", 0, {0: (10, 6.0 + seed)}, seed) for seed in range(9)]
    rows += [a_row("tyche", "b", 1, {0: (10, 20.0)})]
    (entry,) = aggregate(rows)
    assert entry[PER_REQUEST]["mean"] == pytest.approx((90 * 10 + 10 * 20) / 100)
    assert entry[f"{PER_REQUEST}_window_mean"] == pytest.approx(15.0)
    assert (entry["windows"], entry["groups"], entry["seeds"], entry["requests"]) == (2, 2, 9, 100)
    (asked,) = aggregate([{**row, "decision": 10.0, "bound": True} for row in rows])
    assert (entry["decision"], entry["bound"]) == ("event", False)
    assert (asked["decision"], asked["bound"]) == (10.0, True)


def test_amounts_are_those_of_a_window() -> None:
    rows = [
        a_row("tyche", "a", window, {0: (1, 1.0)}, load_us=us, loads=n) for window, us, n in ((0, 4e6, 2), (1, 0, 4))
    ]
    assert value(rows, "load_s") == 2.0
    assert value(rows, "loads") == 3.0


def groups_of(policy: str, *values_ms: float) -> list[dict[str, Any]]:
    """One window a group."""
    return [a_row(policy, f"g{i}", i, {0: (10, value_ms)}) for i, value_ms in enumerate(values_ms)]


def test_differences_are_paired_and_relative_to_the_first() -> None:
    none, tyche = (
        groups_of("none", *[100, 200, 300, 400, 500] * 4),
        groups_of("tyche", *[90, 180, 270, 360, 450] * 4),
    )
    (entry,) = (each for each in compare(none + tyche, "none") if each["metric"] == PER_REQUEST)
    assert entry["difference"]["mean"] == pytest.approx(-30.0)
    assert entry["relative"] == pytest.approx(-0.1)
    assert (entry["policy"], entry["first"], entry["windows"], entry["groups"]) == ("tyche", "none", 20, 20)
    low, high = entry["difference"]["low"], entry["difference"]["high"]
    assert low < -30 < high < 0
    assert entry["clear_of_zero"]


def test_a_difference_that_changes_its_sign_is_not_clear() -> None:
    none, tyche = groups_of("none", *[100.0] * 24), groups_of("tyche", *[50, 150, 60, 140, 90, 105] * 4)
    found = paired(tyche, none, PER_REQUEST)
    assert found["difference"]["low"] is not None
    assert not found["clear_of_zero"]


def test_with_few_groups_there_is_no_interval_and_no_star() -> None:
    few = FEWEST_GROUPS - 1
    none, tyche = groups_of("none", *[100.0] * few), groups_of("tyche", *[1.0] * few)
    found = paired(tyche, none, PER_REQUEST)
    assert found["difference"] == {"mean": -99.0, "low": None, "high": None}
    assert not found["clear_of_zero"]
    # many windows of few groups are no more groups
    many = [a_row("tyche", f"g{i % few}", i, {0: (10, 1.0)}) for i in range(40)]
    assert pooled(many, PER_REQUEST) == pooled(many, PER_REQUEST)
    assert aggregate(many)[0][PER_REQUEST]["low"] is None
    compared = paired(many, [{**row, "policy": "none"} for row in many], PER_REQUEST)
    assert (compared["windows"], compared["groups"]) == (40, few)


def test_the_share_of_the_gap_is_that_of_the_sums() -> None:
    none = groups_of("none", *[100, 200, 300, 400, 500] * 4)
    oracle = groups_of("oracle", *[0] * 20)
    half = groups_of("tyche", *[50, 100, 150, 200, 250] * 4)
    found = {each["policy"]: each for each in compare(none + half + oracle, "none") if each["metric"] == PER_REQUEST}
    assert found["tyche"]["gap_share"]["mean"] == pytest.approx(0.5)
    assert found["tyche"]["gap_share"]["low"] == pytest.approx(0.5)
    assert found["oracle"]["gap_share"]["mean"] == pytest.approx(1.0)
    uneven = groups_of("tyche", 100, 200, 300, 400, 0)
    assert paired(uneven, none, PER_REQUEST, oracle)["gap_share"]["mean"] == pytest.approx(500 / 1500)
    assert paired(half, none, PER_REQUEST, none)["gap_share"] is None, "there is no gap"
    unsure = [0, 390, 150, 390, 510]
    doubtful = paired(half, none, PER_REQUEST, groups_of("oracle", *unsure * 4))
    assert doubtful["gap_share"] is None, "the gap's interval holds 0"
    share = paired(half[:5], none[:5], PER_REQUEST, groups_of("oracle", *unsure))["gap_share"]
    assert share == {"mean": pytest.approx(750 / 60), "low": None, "high": None}, "no interval says so"


def test_only_windows_and_seeds_that_both_have_are_compared() -> None:
    none = [a_row("none", "a", 0, {0: (10, 100.0)}), a_row("none", "a", 1, {0: (10, 500.0)})]
    tyche = [a_row("tyche", "a", 0, {0: (10, 40.0)}), a_row("tyche", "a", 0, {0: (10, 7.0)}, 1)]
    found = paired(tyche, none, PER_REQUEST)
    assert (found["difference"]["mean"], found["windows"]) == (pytest.approx(-60.0), 1)
    assert paired([a_row("tyche", "b", 0, {0: (1, 1.0)})], none, PER_REQUEST)["difference"] is None


def test_two_runs_are_compared_policy_by_policy_on_the_windows_of_both(tmp_path: Path) -> None:
    def run(name: str, means_ms: dict[str, float], windows: range, prewarm: str = "openwhisk") -> RunFolder:
        rows = [
            {**a_row(policy, f"g{window // 2}", window, {0: (10 + window, mean_ms)}), "prewarm": prewarm}
            for policy, mean_ms in means_ms.items()
            for window in windows
        ]
        return a_folder(tmp_path / name, rows)

    before = run("before", {"none": 100, "lru": 80, "gone": 5}, range(6))
    after = run("after", {"new": 1, "lru": 60, "none": 130}, range(2, 9))
    found = [each for each in compare_runs(before, after) if each["metric"] == PER_REQUEST]
    shown = {each["policy"]: (each["first"], each["difference"]["mean"], each["relative"]) for each in found}
    assert shown == {
        "none": ("none", pytest.approx(30), pytest.approx(0.3)),
        "lru": ("lru", pytest.approx(-20), pytest.approx(-0.25)),
    }
    assert {(each["windows"], each["groups"], each["prewarm"], each["mode"]) for each in found} == {
        (4, 2, "openwhisk", "realistic")
    }
    # two runs of one policy each are of the same thing under two names
    one, other = run("one", {"none": 100}, range(2)), run("other", {"mine": 40}, range(2))
    (entry,) = (each for each in compare_runs(one, other) if each["metric"] == PER_REQUEST)
    assert (entry["policy"], entry["first"], entry["difference"]["mean"]) == ("mine", "none", pytest.approx(-60))
    for lonely in (run("two", {"a": 1, "b": 2}, range(2)), run("pagurus", {"none": 1}, range(2), "pagurus")):
        with pytest.raises(RunError, match="in common"):
            compare_runs(one, lonely)
    other.update_manifest(plan={**other.manifest["plan"], "split": "train"})
    with pytest.raises(RunError, match=r"its split is train, that of .*one is test"):
        compare_runs(one, other)


def test_other_requests_give_a_difference_without_an_interval() -> None:
    none, tyche = groups_of("none", *[100.0] * 5), groups_of("tyche", *[50.0] * 5)
    tyche[0] = a_row("tyche", "g0", 0, {0: (11, 50.0)})
    assert paired(tyche, none, PER_REQUEST)["difference"] == {"mean": -50.0, "low": None, "high": None}


def test_the_bound_is_compared_with_nothing() -> None:
    bound = [{**each, "bound": True, "decision": None} for each in groups_of("bound", 1, 1)]
    assert compare(groups_of("none", 2, 2) + bound, "none") == []


def test_what_no_run_has_is_none() -> None:
    rows = [a_row("none", "a", 0, {})]
    assert aggregate(rows)[0][PER_REQUEST] is None
    assert pooled(rows, "slo_rate") is None
    assert pooled(rows, "end_to_end_ms_p99") is None


def test_rows_of_an_earlier_version_are_pooled_by_their_means() -> None:
    rows = [
        {key: each for key, each in old.items() if key not in kept.KEPT}
        for old in [a_row("none", "a", 0, {0: (30, 10.0)}), a_row("none", "a", 1, {0: (10, 50.0)})]
    ]
    found = conclusions(rows, "none")["aggregates"][0]
    assert found[PER_REQUEST]["mean"] == pytest.approx((300 + 500) / 40)
    assert found[PER_FUNCTION] is None
    assert found[f"{PER_FUNCTION}_window_mean"] == pytest.approx(30.0)


def test_what_is_kept_of_runs_adds_up_to_what_they_measured() -> None:
    def row(**counts: int) -> dict[str, Any]:
        """Functions 2 and 7 of ten were called, and four requests lie in two bins."""
        totals = np.zeros(10, TOTALS_DTYPE)
        for k, name in enumerate(kept.BY_FUNCTION):
            totals[name][[2, 7]] = 10 * k + 2, 10 * k + 7
        bins = np.zeros(LATENCY_BINS, np.int64)
        bins[[5, 900]] = 3, 1
        played: Any = SimpleNamespace(
            totals=totals,
            counters=dict.fromkeys(("wasted_loads", "load_us", "wasted_load_us"), 0) | counts,
            integrals_mb_us={kind: np.zeros(1) for kind in ("busy", "idle", "preload", "gpu")},
            histograms={"end_to_end": bins},
        )
        prices: Any = SimpleNamespace(container_usd_per_gb_s=0, gpu_usd_per_gb_s=0, request_usd=0.5)
        found: dict[str, Any] = json.loads(json.dumps(kept.kept_of(played, prices)))
        return found

    rows = [row(loads=4), row(loads=6)]
    functions = kept.by_function(rows)
    assert functions["function"].tolist() == [2, 7]
    for k, name in enumerate(("requests", "gpu", "memory", "warming_loading_us", "end_to_end_us")):
        assert functions[name].tolist() == [20 * k + 4, 20 * k + 14]
    bins = kept.merged(rows, "end_to_end")
    assert (bins[5], bins[900], bins.sum()) == (6, 2, 8)
    assert not kept.merged(rows, "warming_loading").any()
    sums = kept.added(rows)
    assert (sums["requests"], sums["loads"], sums["cost_usd"]) == (18, 10, 9)
    # what one of the runs does not know is not known of both
    del rows[1]["sums"]["loads"]
    assert "loads" not in kept.added(rows)
    assert kept.added(rows)["requests"] == 18


def test_sums_and_histograms_are_not_in_the_summary() -> None:
    assert not set(conclusions(BUSY_AND_QUIET, "tyche")["rows"][0]) & set(kept.KEPT)
