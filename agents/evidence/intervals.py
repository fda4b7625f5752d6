"""95 % intervals of ratios of sums over groups."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FEWEST_GROUPS = 5
"""Fewest groups that give an interval."""
LEVEL = 0.95


def interval(parts: NDArray[np.float64], wholes: NDArray[np.float64]) -> tuple[float | None, float | None]:
    """The interval of ``parts.sum() / wholes.sum()``: Student's t on the linearised values of the groups.

    Args:
        parts: (G,) numerators.
        wholes: (G,) denominators.

    Returns:
        (low, high); None with fewer than :data:`FEWEST_GROUPS` groups.
    """
    from scipy.stats import t

    groups = len(parts)
    if groups < FEWEST_GROUPS:
        return (None, None)
    ratio = float(parts.sum() / wholes.sum())
    linear = (parts - ratio * wholes) / wholes.mean()
    half = float(t.ppf((1 + LEVEL) / 2, groups - 1) * linear.std(ddof=1) / np.sqrt(groups))
    return (ratio - half, ratio + half)


def share_interval(parts: NDArray[np.float64], wholes: NDArray[np.float64]) -> tuple[float | None, float | None]:
    """The interval of a ratio of two differences; see :func:`interval`."""
    return interval(parts, wholes)
