"""95 % intervals of pooled means, differences and shares of few groups, and where there is none.

Groups are what is independent, so each counts once, with the sums over all its windows.  The estimate is a ratio of
such sums and its standard error the linearised one (Cochran, Sampling Techniques, 3rd ed. 1977, sections 6.4 and 9A;
for groups as clusters Deng, Knoblich and Lu, KDD 2018).  With few skewed groups neither Student's t on that error nor
a bootstrap reaches its level, since the samples that lack the rare large group are those that look certain (Johnson,
JASA 73, 1978; Cressie, Biometrika 67, 1980).  No correction that reads the skewness from the sample can mend that, so
the t interval is widened by fixed factors, found by simulation:

- by :data:`BOTH`, to both sides, where groups lie on both sides of 0;
- where all lie on one side of 0 and are spread widely, they can be skewed away from 0 only.  Then the side towards 0
  needs less (:data:`TOWARDS`) and the other more (:func:`_away`).  In between the factors are in between.

The simulations are in ``benchmarks/interval_coverage.py``.  With fewer than :data:`FEWEST_GROUPS` groups nothing
reaches 93 % in at most 1.5 times the length of a percentile bootstrap, so there is no interval.  Percentiles have none
at all: few groups decide them.
"""

from __future__ import annotations

from math import sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray

LEVEL = 0.95

FEWEST_GROUPS = 8
"""Fewest groups that give an interval."""

BOTH = 1.42
"""What the t interval is widened by where the sign of the skewness is not known."""

TOWARDS = 0.85
"""The same on the side of 0, where all groups lie on one side of it and are spread widely."""

STEEPNESS = 3.0
"""Groups are spread widely if the half-length of the t interval times this is as long as the way to 0."""

SETTLED_GROUPS = 20
"""From here on the widening on both sides falls with the root of the number of groups, as skewness of a mean does."""

Limits = tuple[float | None, float | None]
NONE: Limits = (None, None)


def interval(parts: ArrayLike, wholes: ArrayLike) -> Limits:
    """The 95 % interval of ``sum(parts) / sum(wholes)``, groups being independent.

    Args:
        parts: (G,) one sum a group: of waits, of paired differences, of functions' means.
        wholes: (G,) what they are divided by, in the same order: requests, functions, windows.

    Returns:
        (low, high), a point where no group differs from the estimate; None and None with fewer than
        :data:`FEWEST_GROUPS` groups, or where the wholes add up to 0.

    Raises:
        ValueError: lengths that differ, no group, or a number that is not finite.
    """
    parts, wholes = _checked(parts, wholes)
    return bounds(parts, wholes) if len(parts) >= FEWEST_GROUPS else NONE


def share_interval(parts: ArrayLike, gaps: ArrayLike) -> Limits:
    """The 95 % interval of ``sum(parts) / sum(gaps)``, the share that one paired difference is of another.

    Args:
        parts: (G,) paired differences of the policy, summed by group.
        gaps: (G,) those of the oracle.

    Returns:
        As :func:`interval`; also None and None unless the interval of the mean gap of a group is clear of 0, since a
        share of what may be nothing means nothing.

    Raises:
        ValueError: as :func:`interval`.
    """
    certain = clear_of_zero(interval(gaps, np.ones(np.shape(gaps))))
    return interval(parts, gaps) if certain else NONE


def clear_of_zero(limits: Limits) -> bool:
    """Whether there is an interval and it lies on one side of 0: what a star says."""
    low, high = limits
    return low is not None and high is not None and (low > 0 or high < 0)


def bounds(parts: NDArray[np.float64], wholes: NDArray[np.float64]) -> Limits:
    """What :func:`interval` computes, for two groups or more; for simulations, not to be shown."""
    groups, whole = len(parts), float(wholes.sum())
    if whole == 0:
        return NONE
    ratio = float(parts.sum()) / whole
    residuals = parts - ratio * wholes
    error = sqrt(groups / (groups - 1) * float((residuals**2).sum())) / abs(whole)
    half = _student(groups) * error
    both = _both(groups)
    one_sided = _same_sign(wholes) and _same_sign(parts)
    spread = min(1.0, STEEPNESS * half / abs(ratio)) if one_sided and ratio != 0 else 0.0
    towards = half * (both + (TOWARDS - both) * spread)
    away = half * (both + (_away(groups) - both) * spread)
    return (ratio - towards, ratio + away) if ratio >= 0 else (ratio - away, ratio + towards)


def _checked(parts: ArrayLike, wholes: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    parts, wholes = np.asarray(parts, dtype=np.float64), np.asarray(wholes, dtype=np.float64)
    if parts.ndim != 1 or parts.shape != wholes.shape or len(parts) == 0:
        raise ValueError(f"needs one part and one whole a group, got shapes {parts.shape} and {wholes.shape}")
    if not (np.isfinite(parts).all() and np.isfinite(wholes).all()):
        raise ValueError("every group needs finite numbers; leave groups out in which a metric is not defined")
    return parts, wholes


def _same_sign(values: NDArray[np.float64]) -> bool:
    return bool((values >= 0).all() or (values <= 0).all())


def _student(groups: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(groups - 1, (1 + LEVEL) / 2))


def _both(groups: int) -> float:
    return 1 + (BOTH - 1) * min(1.0, sqrt(SETTLED_GROUPS / groups))


def _away(groups: int) -> float:
    """The widening away from 0; less for few groups, whose t interval is longer than a bootstrap's."""
    return min(2.05, 2.15 - 1.9 / groups)
