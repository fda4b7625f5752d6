"""From the rows of single runs to one row a condition, and what of it lies outside the tolerances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from agents.experiments import pooled
from agents.experiments.published import TABLES
from agents.experiments.runs import BINS_PER_DECADE, Case
from tyche_env.metrics import STAGES

Row = dict[str, Any]
Results = Sequence[Mapping[str, Any]]

_AMOUNTS = ("container_gb_s", "idle_gb_s", "preload_gb_s", "gpu_gb_s", "loads", "wasted_loads", "cost_usd")
_SHARES = ("cold_rate", "warm_rate", "kept_rate")


def conditions(cases: Sequence[Case], results: Results) -> dict[tuple[Any, ...], list[Mapping[str, Any]]]:
    """The results by condition, each in the order of its draws; keys are the axes' items."""
    grouped: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for case, result in zip(cases, results, strict=True):
        grouped.setdefault(tuple(case.axes.items()), []).append(result)
    return grouped


def rows_of(experiment: str, cases: Sequence[Case], results: Results) -> list[Row]:
    """One row a condition: its axes, our numbers with intervals, the paper's where it has any.

    ``difference_ms`` is paired, from the same condition without pre-loading (``none``).  The bound has no means, only
    ``bound_ms_mean``.
    """
    grouped = conditions(cases, results)
    rows = []
    for key, own in grouped.items():
        axes = dict(key)
        if "bound_ms" in own[0]:
            means = dict.fromkeys(("warming_loading_ms_mean", "ci95", "preload_rate"))
            least = {"bound_ms_mean": pooled.over_requests(own, "bound_ms"), "draws": len(own)}
            rows.append({"experiment": experiment, **axes, **means, **_published(experiment, axes), **least})
            continue
        reference = grouped.get(tuple({**axes, "policy": "none"}.items()))
        rows.append(
            {"experiment": experiment, **axes}
            | _measured(own)
            | ({} if reference is None or axes["policy"] == "none" else _against(own, reference))
            | _from_tyche(own, grouped.get(tuple({**axes, "policy": "tyche"}.items())), axes["policy"])
            | _published(experiment, axes)
        )
    return rows


def _measured(own: Results) -> Row:
    loading, rate = pooled.mean(own), pooled.mean(own, "preloaded")
    by_function = pooled.mean(own, "piece_ms", "pieces")
    requests = sum(each["requests"] for each in own)
    return {
        "warming_loading_ms_mean": loading.mean,
        "ci95": loading.interval,
        "preload_rate": rate.mean,
        "preload_rate_ci95": rate.interval,
        "warming_loading_ms_function_mean": by_function.mean,
        "function_mean_ci95": by_function.interval,
        "end_to_end_ms_mean": pooled.mean(own, "end_to_end_ms").mean,
        "queue_ms_mean": pooled.mean(own, "queue_ms").mean,
        "stages_ms": {
            stage: sum(each["stages_ms"][stage] for each in own) / requests if requests else None for stage in STAGES
        },
        "latency_ms": _quantiles(own),
        **{name: float(np.mean([each[name] for each in own])) for name in _AMOUNTS},
        **{name: pooled.over_requests(own, name) for name in _SHARES},
        "draws": len(own),
        "requests": requests,
        "distinct_functions": len({function for each in own for function in each["by_function"]["function"]}),
    }


def _against(own: Results, reference: Results) -> Row:
    gap = pooled.difference(own, reference)
    speed_up = pooled.ratio(reference, own)
    return {
        "difference_ms": gap.mean,
        "difference_ci95": gap.interval,
        "clear_of_zero": gap.clear_of_zero,
        "speed_up": None if speed_up is None else speed_up.mean,
        "speed_up_ci95": None if speed_up is None else speed_up.interval,
    }


def _from_tyche(own: Results, tyche: Results | None, policy: str) -> Row:
    """How much slower than full Tyche an ablation is."""
    if tyche is None or not policy.startswith("tyche-"):
        return {}
    gap = pooled.difference(own, tyche)
    return {"from_tyche_ms": gap.mean, "from_tyche_ci95": gap.interval}


def _published(experiment: str, axes: Mapping[str, Any]) -> Row:
    cell = TABLES.get(experiment, {}).get((axes["class"], axes["prewarm"], axes["policy"]))
    return {
        "paper_warming_loading_ms": None if cell is None else cell.warming_loading_ms,
        "paper_preload_rate": None if cell is None else cell.preload_rate,
    }


def _quantiles(own: Results) -> dict[str, float]:
    """End-to-end latency over the requests of all draws, within 3 %."""
    counts: dict[int, int] = {}
    for each in own:
        for text, count in each["latency"].items():
            counts[int(text)] = counts.get(int(text), 0) + count
    if not counts:
        return {}
    bins = np.array(sorted(counts))
    share = np.cumsum([counts[each] for each in bins]) / sum(counts.values())
    return {
        f"p{percent}": float(10 ** ((bins[np.searchsorted(share, percent / 100 - 1e-12)] + 0.5) / BINS_PER_DECADE))
        for percent in (5, 10, 25, 50, 75, 90, 95, 99)
    }
