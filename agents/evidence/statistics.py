"""Means, paired differences and their bootstrap intervals over windows of function groups.

A sample is a window.  Expansion seeds of one window are averaged first: they are no samples of their own.  Windows of
one function group depend on each other, so groups are resampled whole; below :data:`FEWEST_GROUPS` groups there are
too few distinct resamples, windows are resampled instead, and every result says which.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tyche_env.metrics import METRIC_KEYS

Floats = NDArray[np.float64]
Row = Mapping[str, Any]

CONDITION = ("policy", "prewarm", "mode")
"""Keys that name what is compared."""

FEWEST_GROUPS = 5
"""Fewest function groups that are resampled whole."""

FEWEST_WINDOWS = 4
"""Fewest windows that give an interval: fewer cannot come near the level, whatever the method."""

RESAMPLES = 9_999
LEVEL = 0.95

NOT_AGGREGATED = ("requests", "decision_us_mean", "invocations_per_cpu_s")
AGGREGATED = tuple(key for key in METRIC_KEYS if key not in NOT_AGGREGATED)
"""Metrics that are averaged over windows, with an interval."""

COMPARED = (
    "warming_loading_ms_function_mean",
    "warming_loading_ms_mean",
    "end_to_end_ms_mean",
    "preload_rate",
    "cost_usd",
)
"""Metrics that policies are compared on."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over windows.

    Attributes:
        mean: over windows, all with the same weight.
        low: lower end of the 95 % interval; None if there is none.
        high: upper end.
        windows: number of windows.
        groups: number of function groups they come from.
        resampled: ``group`` or ``window``; ``none`` if there is no interval.
    """

    mean: float
    low: float | None
    high: float | None
    windows: int
    groups: int
    resampled: str

    @property
    def clear_of_zero(self) -> bool:
        """Whether the interval lies on one side of 0."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"mean": self.mean, "low": self.low, "high": self.high}


def estimate(values: Sequence[float], groups: Sequence[str]) -> Estimate:
    """The mean of one value a window, with its interval.

    Args:
        values: (W,) one value a window.
        groups: (W,) the function group of each window.

    Raises:
        ValueError: no window, or lengths that differ.
    """
    sums, counts, group_count, resampled = _units(np.asarray(values, dtype=np.float64), groups)
    low, high = _interval((sums, counts), _pooled_mean)
    return Estimate(
        mean=float(np.mean(values)),
        low=low,
        high=high,
        windows=len(values),
        groups=group_count,
        resampled=resampled if low is not None else "none",
    )


def share(
    parts: Sequence[float], wholes: Sequence[float], groups: Sequence[str]
) -> tuple[float | None, float | None, float | None]:
    """The ratio of two means over the same windows, with its interval; numerator and denominator resampled together.

    Returns:
        (ratio, low, high); all None if the mean of ``wholes`` is 0 or its sign is not certain.
    """
    part_sums, _, _, _ = _units(np.asarray(parts, dtype=np.float64), groups)
    whole_sums, _, _, _ = _units(np.asarray(wholes, dtype=np.float64), groups)
    if not estimate(wholes, groups).clear_of_zero:
        return (None, None, None)
    low, high = _interval((part_sums, whole_sums), _ratio_of_sums)
    return (float(part_sums.sum() / whole_sums.sum()), low, high)


def paired_bca(
    windows: Mapping[tuple[str, int], float], reference: Mapping[tuple[str, int], float]
) -> tuple[float | None, float | None]:
    """The bias-corrected and accelerated (BCa) interval of the mean paired difference, a second opinion on `paired`.

    The same units are resampled; BCa corrects for skewness, the expanded interval for few units.

    Args:
        windows: {(group, window): value} of the policy.
        reference: the same of the one it is compared with.

    Returns:
        (low, high) of the 95 % interval; None with fewer than :data:`FEWEST_WINDOWS` units.

    Raises:
        ValueError: no common window.
    """
    shared = [key for key in windows if key in reference]
    differences = np.array([windows[key] - reference[key] for key in shared])
    sums, counts, _, _ = _units(differences, [group for group, _ in shared])
    return _interval((sums, counts), _pooled_mean, expanded=False)


def by_window(rows: Iterable[Row], metric: str) -> dict[tuple[str, ...], dict[tuple[str, int], float]]:
    """The metric of each condition and window, averaged over seeds.

    Returns:
        {(policy, prewarm, mode): {(group, window): value}}; windows in which the metric is not defined are left out.
    """
    collected: dict[tuple[str, ...], dict[tuple[str, int], list[float]]] = {}
    for row in rows:
        if row[metric] is None:
            continue
        condition = tuple(row[key] for key in CONDITION)
        windows = collected.setdefault(condition, {})
        windows.setdefault((row["group"], row["window"]), []).append(float(row[metric]))
    return {
        condition: {window: float(np.mean(values)) for window, values in sorted(windows.items())}
        for condition, windows in collected.items()
    }


def aggregate(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """One entry a condition: the mean and interval of every metric of :data:`AGGREGATED`, and how many samples."""
    tables = {metric: by_window(rows, metric) for metric in AGGREGATED}
    conditions = dict.fromkeys(tuple(row[key] for key in CONDITION) for row in rows)
    entries = []
    for condition in conditions:
        own = [row for row in rows if tuple(row[key] for key in CONDITION) == condition]
        metrics: dict[str, Any] = {}
        best: Estimate | None = None
        for metric, table in tables.items():
            windows = table.get(condition)
            if not windows:
                metrics[metric] = None
                continue
            found = estimate(list(windows.values()), [group for group, _ in windows])
            metrics[metric] = found.as_dict()
            best = best or found
        entries.append(
            dict(zip(CONDITION, condition, strict=True))
            | {
                "bound": own[0]["bound"],
                "requests": sum(row["requests"] for row in own),
                "windows": len({row["window"] for row in own}),
                "groups": len({row["group"] for row in own}),
                "seeds": len({row["seed"] for row in own}),
                "resampled": "none" if best is None else best.resampled,
            }
            | metrics
        )
    return entries


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
    entries = []
    policies = [row for row in rows if not row["bound"]]
    for metric in COMPARED:
        table = by_window(policies, metric)
        for (policy, prewarm, mode), windows in table.items():
            reference = table.get((first, prewarm, mode))
            if policy == first or reference is None:
                continue
            best = table.get((oracle, prewarm, mode)) if oracle is not None else None
            entries.append(
                {"policy": policy, "first": first, "prewarm": prewarm, "mode": mode, "metric": metric}
                | paired(windows, reference, best)
            )
    return entries


def paired(
    windows: Mapping[tuple[str, int], float],
    reference: Mapping[tuple[str, int], float],
    oracle: Mapping[tuple[str, int], float] | None = None,
) -> dict[str, Any]:
    """The paired difference of two conditions over the windows they share.

    Args:
        windows: {(group, window): value} of the policy.
        reference: the same of the one it is compared with.
        oracle: the same of the oracle, for the share of the gap.

    Returns:
        ``difference`` (mean, low, high), ``relative`` (mean difference / mean of the reference), ``clear_of_zero``,
        ``gap_share`` (mean, low, high), ``windows``, ``groups``, ``resampled``.
    """
    shared = [key for key in windows if key in reference and (oracle is None or key in oracle)]
    if not shared:
        return {
            "difference": None,
            "relative": None,
            "clear_of_zero": False,
            "gap_share": None,
            "windows": 0,
            "groups": 0,
            "resampled": "none",
        }
    groups = [group for group, _ in shared]
    differences = [windows[key] - reference[key] for key in shared]
    found = estimate(differences, groups)
    level = float(np.mean([reference[key] for key in shared]))
    gap_share = None
    if oracle is not None:
        mean, low, high = share(differences, [oracle[key] - reference[key] for key in shared], groups)
        gap_share = None if mean is None else {"mean": mean, "low": low, "high": high}
    return {
        "difference": found.as_dict(),
        "relative": found.mean / level if level else None,
        "clear_of_zero": found.clear_of_zero,
        "gap_share": gap_share,
        "windows": found.windows,
        "groups": found.groups,
        "resampled": found.resampled,
    }


def _units(values: Floats, groups: Sequence[str]) -> tuple[Floats, Floats, int, str]:
    """Sums and counts of the units that are resampled, the number of groups, and what a unit is."""
    if len(values) == 0 or len(values) != len(groups):
        raise ValueError(f"needs as many values as groups and at least one, got {len(values)} and {len(groups)}")
    names, unit = np.unique(np.asarray(groups), return_inverse=True)
    if len(names) < FEWEST_GROUPS:
        return values, np.ones(len(values)), len(names), "window"
    sums, counts = np.zeros(len(names)), np.zeros(len(names))
    np.add.at(sums, unit, values)
    np.add.at(counts, unit, 1.0)
    return sums, counts, len(names), "group"


def _pooled_mean(sums: Floats, counts: Floats, axis: int = -1) -> Floats:
    mean: Floats = sums.sum(axis=axis) / counts.sum(axis=axis)
    return mean


def _ratio_of_sums(parts: Floats, wholes: Floats, axis: int = -1) -> Floats:
    return _pooled_mean(parts, wholes, axis)


def _interval(
    samples: tuple[Floats, Floats], statistic: Callable[..., Floats], expanded: bool = True
) -> tuple[float | None, float | None]:
    """Percentile interval, expanded as Hesterberg does, or else the BCa interval; a point where nothing varies.

    The plain percentile interval of few units is too narrow.  Expanding takes the quantiles at
    Phi(-sqrt(n / (n - 1)) t), with t Student's quantile at n - 1 degrees of freedom (Hesterberg, The American
    Statistician 69(4), 2015).
    """
    from scipy.stats import bootstrap, norm
    from scipy.stats import t as student

    first, second = samples
    units = len(first)
    if units < FEWEST_WINDOWS:
        return (None, None)
    if np.ptp(first) == 0 and np.ptp(second) == 0:
        point = float(statistic(first, second))
        return (point, point)
    level = LEVEL
    if expanded:
        quantile = np.sqrt(units / (units - 1)) * student.ppf((1 + LEVEL) / 2, units - 1)
        level = float(1 - 2 * norm.cdf(-quantile))
    with np.errstate(divide="ignore", invalid="ignore"):
        result = bootstrap(
            samples,
            statistic,
            paired=True,
            vectorized=True,
            n_resamples=RESAMPLES,
            confidence_level=level,
            method="percentile" if expanded else "BCa",
            rng=np.random.default_rng(0),
        )
    low, high = result.confidence_interval
    return (float(low), float(high)) if np.isfinite(low) and np.isfinite(high) else (None, None)
