"""Pooled means, paired differences and their intervals, from the rows of runs.

*Per request* is the sum over all scored requests divided by their number, over all windows; *per function* the mean
over functions of what each one's average request pays, over all its windows; percentiles come from merged histograms.
The mean of the windows' own values has a name of its own, ``*_window_mean``.

A group of functions with all its windows is what an interval rests on (``agents.evidence.intervals``): windows of one
group depend on each other, and expansion seeds of one window more so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.evidence.intervals import clear_of_zero, interval, share_interval
from agents.evidence.kept import added, by_function, merged, with_sums, without_kept
from tyche_env.metrics import FUNCTION_MEANS, METRIC_KEYS, PERCENTILES, RATIOS, percentiles_from_bins

Floats = NDArray[np.float64]
Row = Mapping[str, Any]

CONDITION = ("policy", "prewarm", "mode")
"""Keys that name what is compared."""

NOT_AGGREGATED = ("requests", "decision_us_mean", "invocations_per_cpu_s")
AGGREGATED = tuple(key for key in METRIC_KEYS if key not in NOT_AGGREGATED)
"""Metrics that are pooled over windows."""

WINDOW_MEANS = (
    "warming_loading_ms_function_mean",
    "warming_loading_ms_mean",
    "end_to_end_ms_mean",
    *PERCENTILES,
)
"""Metrics of which the mean over windows is there as well, as ``*_window_mean``."""

COMPARED = (
    "warming_loading_ms_function_mean",
    "warming_loading_ms_mean",
    "end_to_end_ms_mean",
    "preload_rate",
    "cost_usd",
)
"""Metrics that policies are compared on."""

HIGHER_IS_BETTER = ("preload_rate", "preload_rate_function_mean", "kept_rate", "slo_rate")
"""Of all other metrics that are compared, less is better."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A pooled value.

    Attributes:
        mean: the value.
        low: lower end of its 95 % interval; None if there is none.
        high: upper end.
    """

    mean: float
    low: float | None
    high: float | None

    @property
    def clear_of_zero(self) -> bool:
        """Whether there is an interval and it lies on one side of 0."""
        return clear_of_zero((self.low, self.high))

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"mean": self.mean, "low": self.low, "high": self.high}


@dataclass(frozen=True, slots=True)
class Parts:
    """A pooled value taken apart by groups: it is the sum of ``parts`` divided by the sum of ``wholes``.

    Attributes:
        groups: (G,) names.
        parts: (G,).
        wholes: (G,).
    """

    groups: tuple[str, ...]
    parts: Floats
    wholes: Floats

    @property
    def value(self) -> float:
        """The pooled value."""
        return float(self.parts.sum() / self.wholes.sum())

    def estimate(self) -> Estimate:
        """The pooled value with its interval."""
        return Estimate(self.value, *interval(self.parts, self.wholes))


def parts_of(rows: Sequence[Row], metric: str) -> Parts | None:
    """A metric over the rows of one condition, by groups; None where it is not defined.

    Args:
        rows: of runs, with what they keep.
        metric: of ``RATIOS`` or ``FUNCTION_MEANS``.
    """
    found: dict[str, tuple[float, float]] = {}
    for group in sorted({row["group"] for row in rows}):
        part, whole = _of_group([row for row in rows if row["group"] == group], metric)
        if whole:
            found[group] = (part, whole)
    if not found:
        return None
    table = np.array(list(found.values()), np.float64)
    return Parts(tuple(found), table[:, 0], table[:, 1])


def _of_group(rows: Sequence[Row], metric: str) -> tuple[float, float]:
    """What a group adds to the numerator and to the denominator of a metric."""
    if metric in RATIOS:
        part, whole, factor = RATIOS[metric]
        sums = added(rows)
        return (sums[part] * factor, sums[whole]) if part in sums and whole in sums else (0.0, 0.0)
    names, factor = FUNCTION_MEANS[metric]
    if not all("functions" in row for row in rows):
        return (0.0, 0.0)
    functions = by_function(rows)
    means = sum(functions[name] for name in names) / functions["requests"]
    return float(means.sum()) * factor, float(len(means))


def pooled(rows: Sequence[Row], metric: str) -> Estimate | None:
    """A metric over all rows of one condition; None where it is not defined.  Percentiles have no interval."""
    if metric in PERCENTILES:
        if not all("histograms" in row for row in rows):
            return None
        value_us = percentiles_from_bins(merged(rows, "end_to_end"))[PERCENTILES.index(metric)]
        return None if np.isnan(value_us) else Estimate(value_us / 1e3, None, None)
    found = parts_of(rows, metric)
    return None if found is None else found.estimate()


def window_mean(rows: Sequence[Row], metric: str) -> float | None:
    """The mean over windows of a metric's own values, seeds of a window averaged first; None without any."""
    windows: dict[int, list[float]] = {}
    for row in rows:
        if row.get(metric) is not None:
            windows.setdefault(row["window"], []).append(row[metric])
    return float(np.mean([np.mean(values) for values in windows.values()])) if windows else None


def by_condition(rows: Sequence[Row]) -> dict[tuple[str, ...], list[Row]]:
    """The rows of each policy, pre-warming policy and mode, in order."""
    found: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(row[key] for key in CONDITION), []).append(row)
    return found


def aggregate(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """One entry a condition: every metric of :data:`AGGREGATED`, pooled, and what it rests on.

    Returns:
        The keys of the condition, ``bound``, ``decision``, ``requests`` (of all windows and seeds), ``windows``,
        ``groups``, ``seeds``; ``{"mean", "low", "high"}`` or None a metric; and ``*_window_mean``.
    """
    entries = []
    for condition, own in by_condition(rows).items():
        entry: dict[str, Any] = dict(zip(CONDITION, condition, strict=True)) | {
            "bound": own[0]["bound"],
            "decision": own[0]["decision"],
            "requests": sum(row["requests"] for row in own),
            "windows": len({row["window"] for row in own}),
            "groups": len({row["group"] for row in own}),
            "seeds": len({row["seed"] for row in own}),
        }
        for metric in AGGREGATED:
            found = pooled(own, metric)
            entry[metric] = None if found is None else found.as_dict()
        entry |= {f"{metric}_window_mean": window_mean(own, metric) for metric in WINDOW_MEANS}
        entries.append(entry)
    return entries


def conclusions(rows: Sequence[Row], first: str) -> dict[str, Any]:
    """What the rows of a run come to: what summary.json holds, and everything is drawn from.

    Args:
        rows: in the plan's order.
        first: the policy that the others are compared with.
    """
    rows = [with_sums(row) for row in rows]
    return {
        "first": first,
        "rows": [without_kept(row) for row in rows],
        "aggregates": aggregate(rows),
        "comparisons": compare(rows, first),
        "oracle_comparisons": compare(rows, "oracle", oracle=None),
    }


def compare(rows: Sequence[Row], first: str, oracle: str | None = "oracle") -> list[dict[str, Any]]:
    """Paired differences of each policy from the first, within each pre-warming policy and mode.

    The bound is no policy and is left out.

    Args:
        rows: result rows, of runs on the same windows and seeds.
        first: the policy that the others are compared with.
        oracle: the policy that closes the whole gap, if it is among the rows.

    Returns:
        One entry for policy x pre-warming x mode x metric of :data:`COMPARED`.
    """
    found = by_condition([row for row in rows if not row["bound"]])
    entries = []
    for metric in COMPARED:
        for (policy, prewarm, mode), own in found.items():
            reference = found.get((first, prewarm, mode))
            if policy == first or reference is None:
                continue
            best = found.get((oracle, prewarm, mode)) if oracle is not None else None
            entries.append(
                {"policy": policy, "first": first, "prewarm": prewarm, "mode": mode, "metric": metric}
                | paired(own, reference, metric, best)
            )
    return entries


def paired(
    rows: Sequence[Row], reference: Sequence[Row], metric: str, oracle: Sequence[Row] | None = None
) -> dict[str, Any]:
    """The difference of two conditions over the windows and seeds that both have, which are the same requests.

    Args:
        rows: of the policy.
        reference: of the one it is compared with.
        metric: of ``RATIOS`` or ``FUNCTION_MEANS``.
        oracle: rows of the oracle, for the share of the gap.

    Returns:
        ``difference`` (mean, low, high), ``relative`` (to the reference), ``clear_of_zero``, ``gap_share`` (mean, low,
        high), ``windows``, ``groups``.
    """
    known = [{_sample(row) for row in each} for each in (rows, reference, *([] if oracle is None else [oracle]))]
    shared = set.intersection(*known)
    own, other, best = (
        None if each is None else parts_of([row for row in each if _sample(row) in shared], metric)
        for each in (rows, reference, oracle)
    )
    about = {"windows": len({window for _, window, _ in shared}), "groups": len({group for group, *_ in shared})}
    if own is None or other is None:
        nothing = {"difference": None, "relative": None, "clear_of_zero": False, "gap_share": None}
        return nothing | about
    found = difference(own, other)
    return {
        "difference": found.as_dict(),
        "relative": found.mean / other.value if other.value else None,
        "clear_of_zero": found.clear_of_zero,
        "gap_share": None if best is None else gap_share(own, other, best),
    } | about


def difference(own: Parts, other: Parts) -> Estimate:
    """``own`` - ``other``; without an interval where they are not of the same requests."""
    if not _same_requests(own, other):
        return Estimate(own.value - other.value, None, None)
    return Parts(own.groups, own.parts - other.parts, own.wholes).estimate()


def gap_share(own: Parts, other: Parts, best: Parts) -> dict[str, Any] | None:
    """Which part of the way from ``other`` to ``best`` is covered by ``own``.

    Returns:
        ``mean``, ``low``, ``high``; None where the way is nothing, or has an interval that is not clear of 0.
    """
    way = difference(best, other)
    if not (_same_requests(own, other) and _same_requests(best, other)) or way.mean == 0:
        return None
    if way.low is not None and not way.clear_of_zero:
        return None
    parts, wholes = own.parts - other.parts, best.parts - other.parts
    return Estimate(float(parts.sum() / wholes.sum()), *share_interval(parts, wholes)).as_dict()


def _same_requests(own: Parts, other: Parts) -> bool:
    return own.groups == other.groups and np.array_equal(own.wholes, other.wholes)


def _sample(row: Row) -> tuple[str, int, int]:
    return (row["group"], row["window"], row["seed"])
