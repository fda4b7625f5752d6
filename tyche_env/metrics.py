"""Metrics: from a log or per-function totals to the figures of a result row.

``docs/metrics.md`` gives every formula; :data:`METRIC_KEYS` lists the keys of :func:`summarize` in their order.
Only requests that arrived in the scored window count.  Times come in integer microseconds, memory x time in MB us.

A request that was not served (failed, timed out, rejected) counts as its wait, at least as its function's
``unserved_us``, in every time and histogram, and as no start of any type: refusing never wins.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tyche_env.codes import REJECTED, TIMED_OUT, StartType
from tyche_env.control.compiled import inner, outer
from tyche_env.world import FunctionTable

_GPU, _MEMORY, _LOADING, _WARM = (
    int(start) for start in (StartType.GPU, StartType.MEMORY, StartType.LOADING, StartType.WARM)
)

STAGES = ("queue", "scheduling", "warming", "library", "model", "transfer", "inference")
"""A request's stages in their order; they follow each other without a gap."""

TOTALS_DTYPE = np.dtype(
    [
        (name, np.int64)
        for name in (
            "requests",
            *("gpu", "memory", "loading", "warm", "cold", "kept"),
            *("timed_out", "rejected", "failed", "with_slo", "within_slo"),
            *(f"{stage}_us" for stage in STAGES),
            *("warming_loading_us", "end_to_end_us", "unserved_us"),
        )
    ]
)
"""One record a function: numbers of requests and sums of their times.

Numbers: all; those served by start type, and kept; those not served by kind; those whose function has a service-level
objective, and those within it.  Times: of the stages of the served ones; warming and loading, and end to end, of all;
``unserved_us`` is what those that were not served add to each of the two.
"""

LATENCY_BINS = 4736
"""Bins of a histogram of latencies: 128 an octave, so a percentile is off by less than 1 %."""

HISTOGRAMS = ("end_to_end", "warming_loading")
"""Latencies whose histograms are kept."""

RATIOS: dict[str, tuple[str, str, float]] = {
    "end_to_end_ms_mean": ("end_to_end_us", "requests", 1e-3),
    "end_to_end_ms_served_mean": ("served_end_to_end_us", "served", 1e-3),
    "warming_loading_ms_mean": ("warming_loading_us", "requests", 1e-3),
    "warming_loading_ms_served_mean": ("served_warming_loading_us", "served", 1e-3),
    **{f"{stage}_ms_mean": (f"{stage}_us", "requests", 1e-3) for stage in STAGES},
    "preload_rate": ("preloaded", "requests", 1.0),
    **{f"{kind}_rate": (kind, "requests", 1.0) for kind in ("kept", "cold", "warm")},
    **{f"{kind}_rate": (kind, "requests", 1.0) for kind in ("unserved", "timed_out", "rejected", "failed")},
    "slo_rate": ("within_slo", "with_slo", 1.0),
    **{f"{kind}_gb_s": (f"{kind}_gb_s", "runs", 1.0) for kind in ("container", "idle", "preload", "gpu")},
    **{name: (name, "runs", 1.0) for name in ("loads", "wasted_loads", "cost_usd")},
    **{f"{name}_s": (f"{name}_us", "runs", 1e-6) for name in ("load", "wasted_load")},
}
"""Metrics that are one sum divided by another: the two, as :func:`sums_of` calls them, and the factor of the unit."""

FUNCTION_MEANS: dict[str, tuple[tuple[str, ...], float]] = {
    "warming_loading_ms_function_mean": (("warming_loading_us",), 1e-3),
    "preload_rate_function_mean": (("gpu", "memory"), 1.0),
}
"""Metrics that are means over functions of what each function's average request pays: sums of a record, and factor."""

PERCENTILES = ("end_to_end_ms_p50", "end_to_end_ms_p95", "end_to_end_ms_p99")

METRIC_KEYS = (
    "requests",
    "end_to_end_ms_mean",
    *PERCENTILES,
    "end_to_end_ms_served_mean",
    "warming_loading_ms_mean",
    "warming_loading_ms_function_mean",
    "warming_loading_ms_served_mean",
    *(f"{stage}_ms_mean" for stage in STAGES),
    "preload_rate",
    "preload_rate_function_mean",
    *("kept_rate", "cold_rate", "warm_rate"),
    *("unserved_rate", "timed_out_rate", "rejected_rate", "failed_rate", "slo_rate"),
    *("container_gb_s", "idle_gb_s", "preload_gb_s", "gpu_gb_s"),
    *("loads", "wasted_loads", "load_s", "wasted_load_s", "cost_usd"),
    *("decision_us_mean", "invocations_per_cpu_s"),
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
    queue_us: int,
    scheduling_us: int,
    warming_us: int,
    library_us: int,
    model_us: int,
    transfer_us: int,
    end_to_end_us: int,
    slo_us: int,
) -> None:
    """Add one served request to the record of its function; ``slo_us`` is 0 where it has no objective."""
    loading_us = warming_us + library_us + model_us + transfer_us
    total.requests += 1
    total.kept += kept
    total.queue_us += queue_us
    total.scheduling_us += scheduling_us
    total.warming_us += warming_us
    total.library_us += library_us
    total.model_us += model_us
    total.transfer_us += transfer_us
    total.inference_us += end_to_end_us - queue_us - scheduling_us - loading_us
    total.warming_loading_us += loading_us
    total.end_to_end_us += end_to_end_us
    if slo_us > 0:
        total.with_slo += 1
        total.within_slo += end_to_end_us <= slo_us
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


@inner
def count_unserved(total: Any, status: int, counted_us: int, slo_us: int) -> None:
    """Add one request that was not served to the record of its function."""
    total.requests += 1
    total.with_slo += slo_us > 0
    total.unserved_us += counted_us
    total.warming_loading_us += counted_us
    total.end_to_end_us += counted_us
    if status == TIMED_OUT:
        total.timed_out += 1
    elif status == REJECTED:
        total.rejected += 1
    else:
        total.failed += 1


@outer
def add_log(log: NDArray[Any], slo_us: NDArray[np.int64], unserved_us: NDArray[np.int64], totals: NDArray[Any]) -> None:
    """Add all requests of a log, (R,), to the records of their functions; the other tables are (F,)."""
    for at in range(len(log)):
        row = log[at]
        took_us = row.end_us - row.arrival_us
        if row.status != 0:
            counted_us = max(took_us, unserved_us[row.function])
            count_unserved(totals[row.function], row.status, counted_us, slo_us[row.function])
            continue
        count_request(
            totals[row.function],
            row.start_type,
            row.kept,
            row.queue_us,
            row.scheduling_us,
            row.warming_us,
            row.library_us,
            row.model_us,
            row.transfer_us,
            took_us,
            slo_us[row.function],
        )


def scored_part(log: NDArray[Any], score_from_us: int) -> NDArray[Any]:
    """The rows of requests that arrived in the scored window: of the same memory where they are the last ones."""
    scored = log["arrival_us"] >= score_from_us
    count = int(np.count_nonzero(scored))
    last = log[len(log) - count :]
    return last if scored[len(log) - count :].all() else log[scored]


def totals_from_log(log: NDArray[Any], functions: FunctionTable) -> NDArray[Any]:
    """Add up a log by function.

    Args:
        log: (R,) records of ``tyche_env.simulator.log.LOG_DTYPE``, scored requests only.
        functions: of the world, (F,).

    Returns:
        (F,) records of :data:`TOTALS_DTYPE`.

    Raises:
        ValueError: a record names a function that is not in 0..F-1.
    """
    function, count = log["function"], len(functions)
    if len(function) and not 0 <= function.min() <= function.max() < count:
        raise ValueError(f"log: function lies in {function.min()}..{function.max()}, expected 0..{count - 1}")
    totals = np.zeros(count, dtype=TOTALS_DTYPE)
    add_log(np.ascontiguousarray(log), functions.slo_us, functions.unserved_us, totals)
    return totals


def latencies_from_log(log: NDArray[Any], functions: FunctionTable) -> dict[str, NDArray[np.int64]]:
    """What each request of a log counts as, in us, by the names of :data:`HISTOGRAMS`; (R,) each."""
    end_to_end_us = log["end_us"] - log["arrival_us"]
    warming_loading_us = log["warming_us"] + log["library_us"] + log["model_us"] + log["transfer_us"]
    unserved = np.flatnonzero(log["status"])
    if len(unserved):
        counted_us = np.maximum(end_to_end_us[unserved], functions.unserved_us[log["function"][unserved]])
        end_to_end_us[unserved] = warming_loading_us[unserved] = counted_us
    return {"end_to_end": end_to_end_us, "warming_loading": warming_loading_us}


def percentiles_of(latency_us: NDArray[np.int64]) -> tuple[float, float, float]:
    """Latency in microseconds at 50, 95 and 99 % (linear interpolation); NaN of nothing."""
    if len(latency_us) == 0:
        return (np.nan, np.nan, np.nan)
    p50, p95, p99 = np.percentile(latency_us, (50, 95, 99))
    return float(p50), float(p95), float(p99)


def latency_bins(latency_us: NDArray[np.int64]) -> NDArray[np.int64]:
    """(LATENCY_BINS,) histogram of latencies as the engine keeps it: exact below 128 us, then 128 bins an octave."""
    octave = np.maximum(np.frexp(latency_us.astype(np.float64))[1].astype(np.int64) - 8, -1)
    shift = np.maximum(octave, 0)
    bins = np.where(latency_us < 128, latency_us, ((shift + 1) << 7) + ((latency_us >> shift) & 127))
    return np.bincount(np.minimum(bins, LATENCY_BINS - 1), minlength=LATENCY_BINS).astype(np.int64)


def bin_edges_us() -> NDArray[np.float64]:
    """(LATENCY_BINS + 1,) where the bins of :func:`latency_bins` begin, and where the last one ends."""
    places = np.arange(LATENCY_BINS + 1)
    octave = np.maximum((places >> 7) - 1, 0)
    return np.where(places < 128, places, (128 + (places & 127)) << octave).astype(np.float64)


def percentiles_from_bins(bins: NDArray[np.int64]) -> tuple[float, float, float]:
    """Latency at 50, 95 and 99 % from a histogram, in microseconds; NaN if it is empty.

    Args:
        bins: (LATENCY_BINS,) counts; bin v below 128 is exactly v us, above there are 128 bins an octave, reported at
            their middle.
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


def sums_of(
    totals: NDArray[Any],
    counters: Mapping[str, int],
    integrals_mb_us: Mapping[str, NDArray[np.int64]],
    prices: Prices,
) -> dict[str, float]:
    """Everything of one run that can be added to that of another: what :data:`RATIOS` are made of.

    Args:
        totals: (F,) records of :data:`TOTALS_DTYPE` over the scored requests.
        counters: ``loads``, ``wasted_loads`` and ``load_us`` (in progress within it) of the scored window.
        integrals_mb_us: ``busy``, ``idle``, ``preload`` and ``gpu``, each (N,), over the scored window.
        prices: of the scenario.
    """
    sums: dict[str, float] = {name: int(totals[name].sum()) for name in TOTALS_DTYPE.names or ()}
    sums["runs"] = 1
    sums["preloaded"] = sums["gpu"] + sums["memory"]
    sums["unserved"] = sums["timed_out"] + sums["rejected"] + sums["failed"]
    sums["served"] = sums["requests"] - sums["unserved"]
    sums |= {f"served_{name}": sums[name] - sums["unserved_us"] for name in ("warming_loading_us", "end_to_end_us")}
    gb_s = {name: float(values.sum()) / _MB_US_PER_GB_S for name, values in integrals_mb_us.items()}
    container_gb_s = gb_s["busy"] + gb_s["idle"]
    sums |= {"container_gb_s": container_gb_s, **{f"{kind}_gb_s": gb_s[kind] for kind in ("idle", "preload", "gpu")}}
    sums |= {name: int(counters[name]) for name in ("loads", "wasted_loads", "load_us", "wasted_load_us")}
    sums["cost_usd"] = (
        container_gb_s * prices.container_usd_per_gb_s
        + gb_s["gpu"] * prices.gpu_usd_per_gb_s
        + sums["requests"] * prices.request_usd
    )
    return sums


def ratio_of(metric: str, sums: Mapping[str, float]) -> float | None:
    """A metric of :data:`RATIOS` from the sums of one run or of several; None where nothing is there to divide by."""
    part, whole, factor = RATIOS[metric]
    return sums[part] / sums[whole] * factor if sums[whole] else None


def function_mean(metric: str, totals: NDArray[Any]) -> float | None:
    """A metric of :data:`FUNCTION_MEANS`: the mean over functions with a request of what each pays; None without any.

    Args:
        metric: its name.
        totals: (F,) records of :data:`TOTALS_DTYPE`.
    """
    names, factor = FUNCTION_MEANS[metric]
    called = totals[totals["requests"] > 0]
    if len(called) == 0:
        return None
    return float(np.mean(sum(called[name] for name in names) / called["requests"])) * factor


def summarize(
    totals: NDArray[Any],
    end_to_end_percentiles_us: tuple[float, float, float],
    sums: Mapping[str, float],
    *,
    invocations: int,
    cpu_s: float,
    decision_us_mean: float | None = None,
) -> Metrics:
    """The metrics of one run.

    Args:
        totals: (F,) records of :data:`TOTALS_DTYPE` over the scored requests.
        end_to_end_percentiles_us: latency at 50, 95 and 99 %.
        sums: of the run, see :func:`sums_of`.
        invocations: all requests handled, warm-up included; what ``cpu_s`` was spent on.
        cpu_s: CPU seconds of the run.
        decision_us_mean: mean wall-clock time of one call of the policy, where it was measured.

    Returns:
        Keys as in :data:`METRIC_KEYS`; a value is None where it is not defined (a mean over nothing).
    """
    metrics: Metrics = {"requests": int(sums["requests"])}
    metrics |= {metric: ratio_of(metric, sums) for metric in RATIOS}
    metrics |= {metric: int(sums[metric]) for metric in ("loads", "wasted_loads")}
    metrics |= {metric: function_mean(metric, totals) for metric in FUNCTION_MEANS}
    for metric, value_us in zip(PERCENTILES, end_to_end_percentiles_us, strict=True):
        metrics[metric] = None if np.isnan(value_us) else value_us / 1e3
    metrics["decision_us_mean"] = decision_us_mean
    metrics["invocations_per_cpu_s"] = invocations / cpu_s if cpu_s > 0 else None
    return {key: metrics[key] for key in METRIC_KEYS}
