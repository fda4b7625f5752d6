"""Means over draws, and their intervals over the functions of the trace.

A mean over requests is that of the requests of all draws together.  Draws share functions, so they are no independent
samples; functions are.  Each function's part of all draws is one unit of ``agents.evidence.intervals``, numerator and
denominator together, and paired: the same functions on both sides of a difference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.evidence.intervals import clear_of_zero, interval

Floats = NDArray[np.float64]
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Pooled:
    """A mean with its 95 % interval; no interval with too few functions.

    Attributes:
        mean: over all draws together.
        low: lower end.
        high: upper end.
    """

    mean: float
    low: float | None
    high: float | None

    @property
    def clear_of_zero(self) -> bool:
        """Whether the interval lies on one side of 0."""
        return clear_of_zero((self.low, self.high))

    @property
    def interval(self) -> list[float] | None:
        """[low, high] for JSON."""
        return None if self.low is None or self.high is None else [round(self.low, 4), round(self.high, 4)]


def mean(rows: Sequence[Row], of: str = "warming_loading_ms", per: str = "requests") -> Pooled:
    """The mean of one quantity over the draws of a condition together.

    Args:
        rows: one a draw.
        of: what is averaged: a key of ``by_function``.
        per: ``requests``; or ``pieces`` with ``piece_ms``, for the mean over functions.
    """
    return _ratio(*_units(rows, of, per))


def over_requests(rows: Sequence[Row], of: str) -> float | None:
    """A mean over the requests of all draws together, from the mean of each draw; None without any request."""
    known = [(row[of] * row["requests"], row["requests"]) for row in rows if row[of] is not None]
    requests = sum(weight for _, weight in known)
    return float(sum(part for part, _ in known) / requests) if requests else None


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
    """Each function's share of the numerator and of the denominator, over all draws."""
    sums: dict[int, list[float]] = {}
    for row in rows:
        table = row["by_function"]
        for function, part, weight in zip(table["function"], table[of], table[per], strict=True):
            entry = sums.setdefault(function, [0.0, 0.0])
            entry[0] += part
            entry[1] += weight
    units = np.array([sums[function] for function in sorted(sums)], dtype=np.float64).reshape(-1, 2)
    return units[:, 0], units[:, 1]


def _ratio(parts: Floats, wholes: Floats) -> Pooled:
    point = float(parts.sum() / wholes.sum()) if wholes.sum() else float("nan")
    return Pooled(point, *(interval(parts, wholes) if wholes.sum() else (None, None)))
