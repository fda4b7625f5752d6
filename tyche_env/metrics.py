"""Metrics: from a log or per-function totals to the figures of a result row.

``docs/metrics.md`` gives every formula; :data:`METRIC_KEYS` lists the keys of :func:`summarize` in their order.
Only requests that arrived in the scored window count.  Times come in integer microseconds, memory x time in MB us.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tyche_env.control.compiled import inner, outer
from tyche_env.world import StartType

_GPU, _MEMORY, _LOADING, _WARM = (
    int(start) for start in (StartType.GPU, StartType.MEMORY, StartType.LOADING, StartType.WARM)
)

TOTALS_DTYPE = np.dtype(
    [
        (name, np.int64)
        for name in (
            "requests",
            "gpu",
            "memory",
            "loading",
            "warm",
            "cold",
            "kept",
            "warming_loading_us",
            "end_to_end_us",
            "queue_us",
            "scheduling_us",
        )
    ]
)
"""One record a function: numbers of requests (all, by start type, kept) and sums of their times."""

METRIC_KEYS = (
    "requests",
    "end_to_end_ms_mean",
    "end_to_end_ms_p50",
    "end_to_end_ms_p95",
    "end_to_end_ms_p99",
    "warming_loading_ms_mean",
    "warming_loading_ms_function_mean",
    "queue_ms_mean",
    "scheduling_ms_mean",
    "preload_rate",
    "preload_rate_function_mean",
    "kept_rate",
    "cold_rate",
    "warm_rate",
    "container_gb_s",
    "idle_gb_s",
    "preload_gb_s",
    "gpu_gb_s",
    "loads",
    "wasted_loads",
    "load_s",
    "cost_usd",
    "decision_us_mean",
    "invocations_per_cpu_s",
)
"""Keys of :func:`summarize`: the metrics of a result row."""

_MB_US_PER_GB_S = 1e9

Metrics = dict[str, float | int | None]


class Prices(Protocol):
    """What a cluster's use costs, in US dollars (a scenario's ``prices``)."""

    @property
    def container_usd_per_gb_s(self) -> float:
        """Container memory, busy or idle, a GB and second."""

    @property
    def gpu_usd_per_gb_s(self) -> float:
        """Reserved GPU memory, a GB and second."""

    @property
    def request_usd(self) -> float:
        """One request."""


@inner
def count_request(
    total: Any,
    start_type: int,
    kept: int,
    warming_loading_us: int,
    end_to_end_us: int,
    queue_us: int,
    scheduling_us: int,
) -> None:
    """Add one request to the record of its function."""
    total.requests += 1
    total.kept += kept
    total.warming_loading_us += warming_loading_us
    total.end_to_end_us += end_to_end_us
    total.queue_us += queue_us
    total.scheduling_us += scheduling_us
    if start_type == _GPU:
        total.gpu += 1
    elif start_type == _MEMORY:
        total.memory += 1
    elif start_type == _LOADING:
        total.loading += 1
    elif start_type == _WARM:
        total.warm += 1
    else:
        total.cold += 1


@outer
def add_log(log: NDArray[Any], totals: NDArray[Any]) -> None:
    """Add all requests of a log, (R,), to the records of their functions, (F,)."""
    for at in range(len(log)):
        row = log[at]
        count_request(
            totals[row.function],
            row.start_type,
            row.kept,
            row.warming_us + row.library_us + row.model_us + row.transfer_us,
            row.end_us - row.arrival_us,
            row.queue_us,
            row.scheduling_us,
        )


def scored_part(log: NDArray[Any], score_from_us: int) -> NDArray[Any]:
    """The rows of requests that arrived in the scored window: of the same memory where they are the last ones."""
    scored = log["arrival_us"] >= score_from_us
    count = int(np.count_nonzero(scored))
    last = log[len(log) - count :]
    return last if scored[len(log) - count :].all() else log[scored]


def totals_from_log(log: NDArray[Any], function_count: int) -> NDArray[Any]:
    """Add up a log by function.

    Args:
        log: (R,) records of ``tyche_env.simulator.log.LOG_DTYPE``, scored requests only.
        function_count: F.

    Returns:
        (F,) records of :data:`TOTALS_DTYPE`.

    Raises:
        ValueError: a record names a function that is not in 0..F-1.
    """
    function = log["function"]
    if len(function) and not 0 <= function.min() <= function.max() < function_count:
        raise ValueError(f"log: function lies in {function.min()}..{function.max()}, expected 0..{function_count - 1}")
    totals = np.zeros(function_count, dtype=TOTALS_DTYPE)
    add_log(np.ascontiguousarray(log), totals)
    return totals


def percentiles_from_log(log: NDArray[Any]) -> tuple[float, float, float]:
    """End-to-end latency in microseconds at 50, 95 and 99 % (linear interpolation); NaN for an empty log."""
    if len(log) == 0:
        return (np.nan, np.nan, np.nan)
    p50, p95, p99 = np.percentile(log["end_us"] - log["arrival_us"], (50, 95, 99))
    return float(p50), float(p95), float(p99)


def percentiles_from_bins(bins: NDArray[np.int64]) -> tuple[float, float, float]:
    """End-to-end latency at 50, 95 and 99 % from the engine's histogram, in microseconds; NaN if it is empty.

    Args:
        bins: counts; bin v below 128 is exactly v us, above there are 128 bins an octave, reported at their middle.
    """
    total = int(bins.sum())
    if total == 0:
        return (np.nan, np.nan, np.nan)
    cumulative = np.cumsum(bins)

    def value_us(percent: int) -> float:
        at = int(np.searchsorted(cumulative, total * percent / 100))
        if at < 128:
            return float(at)
        octave = (at >> 7) - 1
        return float(((128 + (at & 127)) << octave) + (1 << octave) / 2)

    return value_us(50), value_us(95), value_us(99)


def summarize(
    totals: NDArray[Any],
    end_to_end_percentiles_us: tuple[float, float, float],
    counters: Mapping[str, int],
    integrals_mb_us: Mapping[str, NDArray[np.int64]],
    *,
    prices: Prices,
    invocations: int,
    cpu_s: float,
    decision_us_mean: float | None = None,
) -> Metrics:
    """The metrics of one run.

    Args:
        totals: (F,) records of :data:`TOTALS_DTYPE` over the scored requests.
        end_to_end_percentiles_us: latency at 50, 95 and 99 %.
        counters: ``loads``, ``wasted_loads`` and ``load_us`` of the scored window.
        integrals_mb_us: ``busy``, ``idle``, ``preload`` and ``gpu``, each (N,), over the scored window.
        prices: of the scenario.
        invocations: all requests handled, warm-up included; what ``cpu_s`` was spent on.
        cpu_s: CPU seconds of the run.
        decision_us_mean: mean wall-clock time of one call of the policy, where it was measured.

    Returns:
        Keys as in :data:`METRIC_KEYS`; a value is None where it is not defined (a mean over nothing).
    """
    requests = totals["requests"]
    count = int(requests.sum())
    called = requests > 0
    preloaded = totals["gpu"] + totals["memory"]

    def mean_ms(name: str) -> float | None:
        return _ratio(float(totals[name].sum()) / 1e3, count)

    def function_mean(sums: NDArray[np.int64]) -> float | None:
        return float(np.mean(sums[called] / requests[called])) if called.any() else None

    warming_loading_us = function_mean(totals["warming_loading_us"])
    gb_s = {name: float(values.sum()) / _MB_US_PER_GB_S for name, values in integrals_mb_us.items()}
    p50, p95, p99 = (None if np.isnan(value) else value / 1e3 for value in end_to_end_percentiles_us)
    container_gb_s = gb_s["busy"] + gb_s["idle"]
    return {
        "requests": count,
        "end_to_end_ms_mean": mean_ms("end_to_end_us"),
        "end_to_end_ms_p50": p50,
        "end_to_end_ms_p95": p95,
        "end_to_end_ms_p99": p99,
        "warming_loading_ms_mean": mean_ms("warming_loading_us"),
        "warming_loading_ms_function_mean": None if warming_loading_us is None else warming_loading_us / 1e3,
        "queue_ms_mean": mean_ms("queue_us"),
        "scheduling_ms_mean": mean_ms("scheduling_us"),
        "preload_rate": _ratio(int(preloaded.sum()), count),
        "preload_rate_function_mean": function_mean(preloaded),
        "kept_rate": _ratio(int(totals["kept"].sum()), count),
        "cold_rate": _ratio(int(totals["cold"].sum()), count),
        "warm_rate": _ratio(int(totals["warm"].sum()), count),
        "container_gb_s": container_gb_s,
        "idle_gb_s": gb_s["idle"],
        "preload_gb_s": gb_s["preload"],
        "gpu_gb_s": gb_s["gpu"],
        "loads": int(counters["loads"]),
        "wasted_loads": int(counters["wasted_loads"]),
        "load_s": counters["load_us"] / 1e6,
        "cost_usd": container_gb_s * prices.container_usd_per_gb_s
        + gb_s["gpu"] * prices.gpu_usd_per_gb_s
        + count * prices.request_usd,
        "decision_us_mean": decision_us_mean,
        "invocations_per_cpu_s": _ratio(invocations, cpu_s),
    }


def _ratio(value: float, by: float) -> float | None:
    return value / by if by > 0 else None
