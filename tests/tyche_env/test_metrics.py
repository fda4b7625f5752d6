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

from tyche_env.metrics import METRIC_KEYS, TOTALS_DTYPE, Metrics, percentiles_from_log, summarize, totals_from_log
from tyche_env.simulator.log import LOG_DTYPE
from tyche_env.world import StartType

PRICES = SimpleNamespace(container_usd_per_gb_s=2.0, gpu_usd_per_gb_s=10.0, request_usd=0.5)
COUNTERS = {"loads": 4, "wasted_loads": 1, "load_us": 2_500_000}
INTEGRALS = {
    "busy": np.array([1_000_000_000, 2_000_000_000]),
    "idle": np.array([3_000_000_000, 0]),
    "preload": np.array([500_000_000, 0]),
    "gpu": np.array([0, 250_000_000]),
}


def record(function: int, start: StartType, *, kept: bool = False, **stages_us: int) -> NDArray[Any]:
    """A log of one request that arrived at time 0."""
    row = np.zeros(1, dtype=LOG_DTYPE)
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
    options: dict[str, Any] = {"prices": PRICES, "invocations": 8, "cpu_s": 2.0} | changes
    return summarize(totals_from_log(log, 3), percentiles_from_log(log), COUNTERS, INTEGRALS, **options)


def test_totals_add_up_the_log_by_function() -> None:
    totals = totals_from_log(LOG, 3)
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


def test_a_record_of_an_unknown_function_is_refused() -> None:
    with pytest.raises(ValueError, match=r"function lies in 0\.\.2, expected 0\.\.1"):
        totals_from_log(LOG, 2)


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
    assert (metrics["loads"], metrics["wasted_loads"], metrics["load_s"]) == (4, 1, 2.5)


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
    totals = totals_from_log(log, 3)
    by_type = sum(totals[start.name.lower()] for start in StartType)
    assert np.array_equal(by_type, totals["requests"])
    assert totals["warming_loading_us"].sum() == sum(time_us for *_, time_us in requests)
