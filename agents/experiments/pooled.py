"""Means over draws, and their intervals by a bootstrap over the functions of the trace.

A mean over requests is the mean of the draws' means: each draw counts once, whatever its load.  Draws share functions,
so they are no independent samples; functions are.  Each function's part of all draws is one unit; units are resampled
with replacement, numerator and denominator together, and paired: the same functions on both sides of a difference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.evidence.statistics import FEWEST_GROUPS, LEVEL, RESAMPLES

Floats = NDArray[np.float64]
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Pooled:
    """A mean with its 95 % interval; no interval with too few functions.

    Attributes:
        mean: over draws.
        low: lower end.
        high: upper end.
    """

    mean: float
    low: float | None
    high: float | None

    @property
    def clear_of_zero(self) -> bool:
        """Whether the interval lies on one side of 0."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)

    @property
    def interval(self) -> list[float] | None:
        """[low, high] for JSON."""
        return None if self.low is None or self.high is None else [round(self.low, 4), round(self.high, 4)]


def mean(rows: Sequence[Row], of: str = "warming_loading_ms", per: str = "requests") -> Pooled:
    """The mean of one quantity over the draws of a condition.

    Args:
        rows: one a draw.
        of: what is averaged: a key of ``by_function``.
        per: ``requests``; or ``pieces`` with ``piece_ms``, for the mean over functions.
    """
    return _ratio(*_units(rows, of, per))


def difference(
    rows: Sequence[Row], others: Sequence[Row], of: str = "warming_loading_ms", per: str = "requests"
) -> Pooled:
    """The mean paired difference ``rows`` - ``others``: row k of both is of the same draw.

    Raises:
        ValueError: the draws differ.
    """
    _refuse_other_draws(rows, others)
    (parts, wholes), (other_parts, _) = _units(rows, of, per), _units(others, of, per)
    return _ratio(parts - other_parts, wholes)


def ratio(rows: Sequence[Row], others: Sequence[Row]) -> Pooled | None:
    """The ratio of two means of warming and loading, ``rows`` / ``others``, of the same draws; None if infinite."""
    _refuse_other_draws(rows, others)
    parts, wholes = (_units(each, "warming_loading_ms", "requests")[0] for each in (rows, others))
    return _ratio(parts, wholes) if wholes.sum() > 0 else None


def significantly_below(rows: Sequence[Row], others: Sequence[Row]) -> list[str]:
    """By which of the two means ``rows`` is below ``others`` with an interval clear of 0: per request, per function."""
    found = []
    for name, of, per in (("request", "warming_loading_ms", "requests"), ("function", "piece_ms", "pieces")):
        gap = difference(rows, others, of, per)
        if gap.high is not None and gap.high < 0:
            found.append(name)
    return found


def _refuse_other_draws(rows: Sequence[Row], others: Sequence[Row]) -> None:
    if [row["draw"] for row in rows] != [row["draw"] for row in others]:
        raise ValueError("rows of different draws cannot be paired")


def _units(rows: Sequence[Row], of: str, per: str) -> tuple[Floats, Floats]:
    """Each function's share of the numerator and the denominator; the denominators add up to the number of draws."""
    sums: dict[int, list[float]] = {}
    for row in rows:
        table = row["by_function"]
        whole = sum(table[per])
        if not whole:
            continue
        for function, part, weight in zip(table["function"], table[of], table[per], strict=True):
            entry = sums.setdefault(function, [0.0, 0.0])
            entry[0] += part / whole
            entry[1] += weight / whole
    units = np.array([sums[function] for function in sorted(sums)], dtype=np.float64).reshape(-1, 2)
    return units[:, 0], units[:, 1]


def _ratio(parts: Floats, wholes: Floats) -> Pooled:
    point = float(parts.sum() / wholes.sum()) if wholes.sum() else float("nan")
    if len(parts) < FEWEST_GROUPS:
        return Pooled(point, None, None)
    drawn, tail = _resamples(len(parts)), _tail(len(parts))
    with np.errstate(divide="ignore", invalid="ignore"):
        values = (drawn @ parts) / (drawn @ wholes)
    if not np.isfinite(values).all():
        return Pooled(point, None, None)
    low, high = np.quantile(values, (tail, 1 - tail))
    return Pooled(point, float(low), float(high))


@lru_cache(maxsize=64)
def _resamples(units: int) -> NDArray[np.float32]:
    """(resamples, units) how often each unit is drawn."""
    counts = np.random.default_rng(units).multinomial(units, np.full(units, 1 / units), size=RESAMPLES)
    return counts.astype(np.float32)


@lru_cache(maxsize=64)
def _tail(units: int) -> float:
    """What lies beyond each end: the level, widened for few units as Hesterberg does (``evidence.statistics``)."""
    from scipy.stats import norm
    from scipy.stats import t as student

    return float(norm.cdf(-np.sqrt(units / (units - 1)) * student.ppf((1 + LEVEL) / 2, units - 1)))
