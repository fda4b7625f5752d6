"""What the figures of a result row mean, on a log worked out by hand."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tyche_env.codes import Status
from tyche_env.metrics import (
    METRIC_KEYS,
    STAGES,
    TOTALS_DTYPE,
    Metrics,
    bin_edges_us,
    latencies_from_log,
    latency_bins,
    percentiles_from_bins,
    percentiles_of,
    scored_part,
    summarize,
    sums_of,
    totals_from_log,
)
from tyche_env.simulator.log import LOG_DTYPE
from tyche_env.world import FUNCTION_FIELDS, FunctionTable, StartType

PRICES = SimpleNamespace(container_usd_per_gb_s=2.0, gpu_usd_per_gb_s=10.0, request_usd=0.5)
COUNTERS = {"loads": 4, "wasted_loads": 1, "load_us": 2_500_000, "wasted_load_us": 400_000}
INTEGRALS = {
    "busy": np.array([1_000_000_000, 2_000_000_000]),
    "idle": np.array([3_000_000_000, 0]),
    "preload": np.array([500_000_000, 0]),
    "gpu": np.array([0, 250_000_000]),
}


TABLE = FunctionTable.from_rows(
    [
        dict.fromkeys(FUNCTION_FIELDS, 1) | {"slo_us": slo_us, "unserved_us": unserved_us}
        for slo_us, unserved_us in ((400, 60_000), (0, 60_000), (1000, 5_000))
    ]
)
"""Three functions: objectives of 0.4 ms, none and 1 ms; time limits of 60, 60 and 5 ms."""


def record(function: int, start: StartType, *, kept: bool = False, status: int = 0, **stages_us: int) -> NDArray[Any]:
    """A log of one request that arrived at time 0."""
    row = np.zeros(1, dtype=LOG_DTYPE)
    row["status"] = status
    row["function"], row["start_type"], row["kept"] = function, start, kept
    for name, value in stages_us.items():
        row[f"{name}_us"] = value
    row["end_us"] = sum(stages_us.values())
    return row


LOG = np.concatenate(
    [
        record(0, StartType.COLD, queue=100, scheduling=10, warming=500, library=700, model=200, inference=300),
        record(0, StartType.MEMORY, kept=True, scheduling=10, transfer=90, inference=300),
        record(0, StartType.GPU, inference=300),
        record(2, StartType.WARM, library=700, model=300, inference=1000),
    ]
)


def row(log: NDArray[Any] = LOG, **changes: Any) -> Metrics:
    options: dict[str, Any] = {"invocations": 8, "cpu_s": 2.0} | changes
    totals = totals_from_log(log, TABLE)
    percentiles_us = percentiles_of(latencies_from_log(log, TABLE)["end_to_end"])
    return summarize(totals, percentiles_us, sums_of(totals, COUNTERS, INTEGRALS, PRICES), **options)


def test_totals_add_up_the_log_by_function() -> None:
    totals = totals_from_log(LOG, TABLE)
    assert totals.dtype == TOTALS_DTYPE
    assert totals["requests"].tolist() == [3, 0, 1]
    assert [totals[start.name.lower()].tolist() for start in StartType] == [
        [1, 0, 0],
        [1, 0, 0],
        [0, 0, 0],
        [0, 0, 1],
        [1, 0, 0],
    ]
    assert totals["kept"].tolist() == [1, 0, 0]
    assert totals["warming_loading_us"].tolist() == [1490, 0, 1000]
    assert totals["end_to_end_us"].tolist() == [1810 + 400 + 300, 0, 2000]
    assert totals["queue_us"].tolist() == [100, 0, 0]
    assert totals["scheduling_us"].tolist() == [20, 0, 0]
    assert totals["warming_us"].tolist() == [500, 0, 0]
    assert totals["library_us"].tolist() == [700, 0, 700]
    assert totals["model_us"].tolist() == [200, 0, 300]
    assert totals["transfer_us"].tolist() == [90, 0, 0]
    assert totals["inference_us"].tolist() == [900, 0, 1000]


def test_a_record_of_an_unknown_function_is_refused() -> None:
    with pytest.raises(ValueError, match=r"function lies in 0\.\.2, expected 0\.\.1"):
        totals_from_log(LOG, FunctionTable.from_rows([dict.fromkeys(FUNCTION_FIELDS, 1)] * 2))


def test_a_row_has_exactly_the_documented_keys() -> None:
    assert tuple(row()) == METRIC_KEYS
    documented = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
    for key in METRIC_KEYS:
        assert f"`{key}`" in documented or key in ("end_to_end_ms_p95", "end_to_end_ms_p99")


def test_per_request_and_per_function_means_differ_when_one_function_is_hot() -> None:
    metrics = row()
    assert metrics["requests"] == 4
    assert metrics["warming_loading_ms_mean"] == pytest.approx((1490 + 1000) / 4 / 1e3)
    assert metrics["warming_loading_ms_function_mean"] == pytest.approx((1490 / 3 + 1000) / 2 / 1e3)
    assert metrics["preload_rate"] == pytest.approx(2 / 4)
    assert metrics["preload_rate_function_mean"] == pytest.approx((2 / 3 + 0) / 2)


def test_queue_and_scheduling_are_no_part_of_warming_and_loading() -> None:
    metrics = row()
    assert metrics["queue_ms_mean"] == pytest.approx(0.025)
    assert metrics["scheduling_ms_mean"] == pytest.approx(0.005)
    assert metrics["end_to_end_ms_mean"] == pytest.approx(4.51 / 4)


def test_rates_are_shares_of_all_requests() -> None:
    metrics = row()
    assert (metrics["kept_rate"], metrics["cold_rate"], metrics["warm_rate"]) == (0.25, 0.25, 0.25)


def test_memory_time_and_cost() -> None:
    metrics = row()
    assert metrics["container_gb_s"] == pytest.approx(6.0)
    assert metrics["idle_gb_s"] == pytest.approx(3.0)
    assert metrics["preload_gb_s"] == pytest.approx(0.5)
    assert metrics["gpu_gb_s"] == pytest.approx(0.25)
    assert metrics["cost_usd"] == pytest.approx(6.0 * 2 + 0.25 * 10 + 4 * 0.5)
    assert (metrics["loads"], metrics["wasted_loads"]) == (4, 1)
    assert (metrics["load_s"], metrics["wasted_load_s"]) == pytest.approx((2.5, 0.4))


def test_speed_counts_the_warm_up_too() -> None:
    assert row(invocations=8, cpu_s=2.0)["invocations_per_cpu_s"] == 4.0
    assert row(cpu_s=0.0)["invocations_per_cpu_s"] is None


def test_what_is_not_defined_is_none() -> None:
    metrics = row(LOG[:0])
    assert metrics["requests"] == 0
    for key in ("end_to_end_ms_mean", "end_to_end_ms_p99", "warming_loading_ms_function_mean", "preload_rate"):
        assert metrics[key] is None
    assert metrics["decision_us_mean"] is None


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(StartType), st.integers(0, 10**7)), min_size=1))
def test_start_types_share_out_all_requests(requests: list[tuple[int, StartType, int]]) -> None:
    log = np.concatenate([record(function, start, model=time_us) for function, start, time_us in requests])
    totals = totals_from_log(log, TABLE)
    by_type = sum(totals[start.name.lower()] for start in StartType)
    assert np.array_equal(by_type, totals["requests"])
    assert totals["warming_loading_us"].sum() == sum(time_us for *_, time_us in requests)


FAILED = np.concatenate(
    [
        LOG,
        record(0, StartType.GPU, status=Status.REFUSED, queue=200),
        record(2, StartType.MEMORY, status=Status.DEADLINE, queue=1000, inference=7000),
        record(2, StartType.COLD, status=Status.DIED, warming=100),
    ]
)
"""Seven requests, three of them not served: they count as 60, 8 (longer than the limit) and 5 ms."""


def test_what_was_not_served_counts_as_its_wait_but_at_least_the_time_limit() -> None:
    metrics = row(FAILED)
    assert metrics["requests"] == 7
    assert metrics["warming_loading_ms_mean"] == pytest.approx((2.49 + 60 + 8 + 5) / 7)
    assert metrics["end_to_end_ms_mean"] == pytest.approx((4.51 + 60 + 8 + 5) / 7)
    assert metrics["warming_loading_ms_function_mean"] == pytest.approx((61.49 / 4 + 14 / 3) / 2)
    assert metrics["end_to_end_ms_p99"] == pytest.approx(60 - 0.06 * 52)  # between 8 and 60 ms
    assert metrics["end_to_end_ms_served_mean"] == pytest.approx(4.51 / 4)
    assert metrics["warming_loading_ms_served_mean"] == pytest.approx(2.49 / 4)


def test_what_was_not_served_has_rates_of_its_own_and_is_no_start_of_any_type() -> None:
    metrics = row(FAILED)
    rates = [metrics[f"{kind}_rate"] for kind in ("unserved", "timed_out", "rejected", "failed")]
    assert rates == pytest.approx([3 / 7, 1 / 7, 1 / 7, 1 / 7])
    # a hit that was refused is no hit
    assert metrics["preload_rate"] == pytest.approx(2 / 7)
    assert metrics["cold_rate"] == pytest.approx(1 / 7)
    assert sum(totals_from_log(FAILED, TABLE)["gpu"]) == 1


def test_stages_are_those_of_the_served_and_with_the_unserved_make_end_to_end() -> None:
    metrics = row(FAILED)
    assert metrics["queue_ms_mean"] == pytest.approx(0.1 / 7)
    stages_ms = sum(float(metrics[f"{stage}_ms_mean"] or 0) for stage in STAGES)
    assert stages_ms + 73 / 7 == pytest.approx(metrics["end_to_end_ms_mean"])


def test_each_stage_and_kind_of_failure_has_a_name_of_its_own() -> None:
    stages: dict[str, Any] = dict(zip(STAGES, (10_000, 20_000, 30_000, 40_000, 50_000, 60_000, 70_000), strict=True))
    unserved = [Status.DEADLINE] * 1 + [Status.REFUSED] * 2 + [Status.DIED] * 3
    log = np.concatenate(
        [record(1, StartType.COLD, **stages)] * 4
        + [record(1, StartType.LOADING, model=80_000)] * 2
        + [record(1, StartType.WARM, model=80_000)]
        + [record(1, StartType.GPU, status=status) for status in unserved]
    )
    metrics = row(log, decision_us_mean=12.5)
    # of 13 requests 4 had all stages, and three a model of 80 ms
    for stage, time_us in stages.items():
        model_us = 3 * 80_000 if stage == "model" else 0
        assert metrics[f"{stage}_ms_mean"] == pytest.approx((4 * time_us + model_us) / 13 / 1e3), stage
    rates = [metrics[f"{name}_rate"] for name in ("timed_out", "rejected", "failed", "unserved", "cold", "warm")]
    assert rates == pytest.approx([1 / 13, 2 / 13, 3 / 13, 6 / 13, 4 / 13, 1 / 13])
    totals = totals_from_log(log, TABLE)
    assert [totals[name][1] for name in ("timed_out", "rejected", "failed", "cold", "loading", "warm")] == [
        *(1, 2, 3),
        *(4, 2, 1),
    ]
    assert metrics["decision_us_mean"] == 12.5


def test_percentiles_are_those_of_their_names() -> None:
    # 0, 10, ... 1000 ms, shuffled
    latency_us = np.random.default_rng(0).permutation(101) * 10_000
    assert percentiles_of(latency_us) == (500_000.0, 950_000.0, 990_000.0)
    log = np.concatenate([record(1, StartType.GPU, inference=int(time_us)) for time_us in latency_us])
    metrics = row(log)
    assert [metrics[f"end_to_end_ms_p{p}"] for p in (50, 95, 99)] == [500.0, 950.0, 990.0]
    assert np.isnan(percentiles_of(latency_us[:0])).all()


def test_latencies_count_from_the_arrival_and_warming_and_loading_has_four_parts() -> None:
    stages: dict[str, Any] = dict(zip(STAGES, (1, 20, 300, 4_000, 50_000, 600_000, 7_000_000), strict=True))
    log = np.concatenate(
        [record(1, StartType.COLD, **stages), record(1, StartType.GPU, status=Status.DIED, warming=70_000, queue=9)]
    )
    log = np.concatenate([log, record(1, StartType.GPU, status=Status.DIED, warming=7)])
    log["arrival_us"] += 1_000_000_000
    log["end_us"] += 1_000_000_000
    found = latencies_from_log(log, TABLE)
    # what was not served counts as its wait, and at least as 60 ms, in both
    assert found["end_to_end"].tolist() == [7_654_321, 70_009, 60_000]
    assert found["warming_loading"].tolist() == [654_300, 70_009, 60_000]
    assert totals_from_log(log, TABLE)["end_to_end_us"].tolist() == [0, 7_654_321 + 70_009 + 60_000, 0]


def test_only_what_arrived_from_the_score_on_is_scored() -> None:
    log = np.zeros(5, LOG_DTYPE)
    log["request"] = range(5)
    for arrival_us, kept in (([1, 2, 3, 4, 5], [2, 3, 4]), ([3, 1, 5, 2, 4], [0, 2, 4]), ([0, 0, 0, 0, 0], [])):
        log["arrival_us"] = arrival_us
        assert scored_part(log, 3)["request"].tolist() == kept


def test_refusing_everything_never_wins() -> None:
    refused = LOG.copy()
    refused["status"] = Status.REFUSED
    assert float(row(refused)["warming_loading_ms_mean"] or 0) > float(row(LOG)["warming_loading_ms_mean"] or 0)


def test_objectives_are_of_end_to_end_and_only_of_functions_that_have_one() -> None:
    # 1.81, 0.4 and 0.3 ms of at most 0.4; 2 ms of at most 1; what is not served is never within
    assert row()["slo_rate"] == pytest.approx(2 / 4)
    assert row(FAILED)["slo_rate"] == pytest.approx(2 / 7)
    assert row(np.concatenate([LOG, record(1, StartType.GPU, inference=1)]))["slo_rate"] == pytest.approx(2 / 4)
    assert row(record(1, StartType.GPU, inference=1))["slo_rate"] is None


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=50))
def test_bins_hold_what_lies_within_them(latencies_us: list[int]) -> None:
    edges_us = bin_edges_us()
    for latency_us in latencies_us:
        (place,) = np.flatnonzero(latency_bins(np.array([latency_us])))
        assert edges_us[place] <= latency_us < edges_us[place + 1]
        assert edges_us[place + 1] - edges_us[place] <= max(1, latency_us / 128)
        middle_us = percentiles_from_bins(latency_bins(np.array([latency_us])))[0]
        assert middle_us == pytest.approx(latency_us, rel=0.004, abs=0.5)


def test_percentiles_of_bins_are_the_least_latency_that_covers_the_share() -> None:
    bins = latency_bins(np.array([10] * 94 + [20] * 4 + [100] * 2))
    assert percentiles_from_bins(bins) == (10.0, 20.0, 100.0)
