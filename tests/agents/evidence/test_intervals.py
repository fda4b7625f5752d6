"""Intervals over groups: worked by hand, symmetries, and how often they cover a truth that is known."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from types import ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray

from agents.evidence.intervals import (
    FEWEST_GROUPS,
    Limits,
    bounds,
    clear_of_zero,
    interval,
    share_interval,
)
from tests.test_docs import ROOT, script

Floats = NDArray[np.float64]

T_7 = 2.364624
"""Student's 97.5 % quantile at 7 degrees of freedom, from a printed table."""

ONES = np.ones(8)
BOTH_SIDES = np.array([-3.0, -1.0, 0.0, 1.0, 2.0, 4.0, 6.0, 7.0])
"""Mean 2; squares of the distances from it add up to 84."""

ONE_SIDE = np.array([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 25.0])
"""Mean 4; squares 504, so that the t interval reaches beyond 0."""

FAR_OFF = BOTH_SIDES + 98
"""Mean 100, the same distances."""


def ends(limits: Limits) -> tuple[float, float]:
    low, high = limits
    assert low is not None
    assert high is not None
    return low, high


def test_groups_on_both_sides_widen_students_t_to_both_sides() -> None:
    half = 1.42 * T_7 * sqrt(84 / 7 / 8)
    assert interval(BOTH_SIDES, ONES) == pytest.approx((2 - half, 2 + half), rel=1e-5)


def test_widely_spread_groups_on_one_side_are_skewed_away_from_zero() -> None:
    half = T_7 * sqrt(504 / 7 / 8)
    expected = (4 - 0.85 * half, 4 + (2.15 - 1.9 / 8) * half)
    assert interval(ONE_SIDE, ONES) == pytest.approx(expected, rel=1e-5)


def test_between_the_two_the_widening_is_between() -> None:
    half = T_7 * sqrt(84 / 7 / 8)
    spread = 3 * half / 100
    expected = (
        100 - half * (1.42 - (1.42 - 0.85) * spread),
        100 + half * (1.42 + (1.9125 - 1.42) * spread),
    )
    assert interval(FAR_OFF, ONES) == pytest.approx(expected, rel=1e-6)


def test_the_widening_fades_with_many_groups() -> None:
    values = np.tile([-1.0, 1.0], 40)
    error = sqrt(80 / 79 / 80)
    assert interval(values, np.ones(80)) == pytest.approx((-1.21 * 1.990450 * error, 1.21 * 1.990450 * error))


def test_away_from_zero_the_widening_is_bounded() -> None:
    values = np.concatenate([np.ones(39), [1000.0]])
    low, high = ends(interval(values, np.ones(40)))
    assert (high - values.mean()) / (values.mean() - low) == pytest.approx(2.05 / 0.85)


def test_a_ratio_of_sums_varies_by_its_residuals() -> None:
    """Four groups of 100 requests that wait 1 s, four of 300 that wait 3 s: 2.5 s on average, residuals of 150."""
    wholes = np.array([100.0] * 4 + [300.0] * 4)
    parts = np.array([100.0] * 4 + [900.0] * 4)
    half = T_7 * sqrt(8 / 7 * 8 * 150**2) / 1600
    spread = 3 * half / 2.5
    assert spread < 1
    expected = (2.5 - half * (1.42 - 0.57 * spread), 2.5 + half * (1.42 + 0.4925 * spread))
    assert interval(parts, wholes) == pytest.approx(expected, rel=1e-5)


def test_groups_that_agree_leave_a_point() -> None:
    wholes = np.arange(1.0, 9.0)
    assert interval(3 * wholes, wholes) == (3.0, 3.0)
    assert interval(np.zeros(8), wholes) == (0.0, 0.0)


@pytest.mark.parametrize(("groups", "shown"), [(2, False), (4, False), (5, False), (7, False), (8, True), (20, True)])
def test_too_few_groups_give_none(groups: int, shown: bool) -> None:
    values, wholes = np.arange(1.0, groups + 1), np.ones(groups)
    for limits in (interval(values, wholes), share_interval(values, 50 + values)):
        assert (limits != (None, None)) == shown
        assert clear_of_zero(limits) <= shown


@pytest.mark.parametrize("values", [BOTH_SIDES, ONE_SIDE, FAR_OFF])
def test_order_scale_and_sign_do_not_matter(values: Floats) -> None:
    wholes = np.array([3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0])
    low, high = ends(interval(values, wholes))
    order = np.random.default_rng(0).permutation(8)
    assert interval(values[order], wholes[order]) == pytest.approx((low, high))
    assert interval(1000 * values, wholes) == pytest.approx((1000 * low, 1000 * high))
    assert interval(values, 10 * wholes) == pytest.approx((low / 10, high / 10))
    assert interval(-values, wholes) == pytest.approx((-high, -low))
    assert interval(values, -wholes) == pytest.approx((-high, -low))


def test_a_shift_moves_the_interval_while_groups_stay_on_both_sides() -> None:
    low, high = ends(interval(BOTH_SIDES, ONES))
    assert interval(BOTH_SIDES + 1.5, ONES) == pytest.approx((low + 1.5, high + 1.5))


@pytest.mark.parametrize(
    ("limits", "star"),
    [((0.1, 2.0), True), ((-2.0, -0.1), True), ((-1.0, 1.0), False), ((0.0, 1.0), False), ((-1.0, 0.0), False)],
)
def test_a_star_says_that_the_interval_is_clear_of_zero(limits: Limits, star: bool) -> None:
    assert clear_of_zero(limits) is star
    assert clear_of_zero((None, None)) is False


def test_a_share_is_a_ratio_over_a_gap_that_is_certain() -> None:
    gaps = -10 - BOTH_SIDES
    assert share_interval(BOTH_SIDES, gaps) == interval(BOTH_SIDES, gaps)
    assert share_interval(0.5 * gaps, gaps) == (0.5, 0.5)
    assert share_interval(BOTH_SIDES, BOTH_SIDES) == (None, None)


def test_gaps_on_both_sides_of_zero_say_nothing_of_the_skewness() -> None:
    """The policy gains in each group, the oracle loses in one; together both gain 24."""
    gaps = np.array([5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0, -11.0])
    parts = np.array([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 17.0])
    low, high = ends(interval(parts, gaps))
    assert 1 - low == pytest.approx(high - 1)


def test_a_whole_of_nothing_gives_none() -> None:
    assert interval(ONE_SIDE, np.tile([1.0, -1.0], 4)) == (None, None)


@pytest.mark.parametrize(
    ("parts", "wholes", "message"),
    [
        ([1.0, 2.0], [1.0], "one part and one whole a group"),
        ([], [], "one part and one whole a group"),
        ([[1.0]], [[1.0]], "one part and one whole a group"),
        ([1.0, float("nan")], [1.0, 1.0], "finite"),
        ([1.0, 2.0], [1.0, float("inf")], "finite"),
    ],
)
def test_what_is_no_sum_of_groups_is_refused(parts: list[float], wholes: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        interval(parts, wholes)


@pytest.fixture(scope="module")
def coverage() -> ModuleType:
    return script(ROOT / "benchmarks" / "interval_coverage.py")


def test_the_simulation_knows_its_truth(coverage: ModuleType) -> None:
    for kind in (*coverage.ASKED, *coverage.HARDER):
        for levels in ("normal", "exponential"):
            case = coverage.Case(kind, levels, 0.5, 20, 30)
            parts, wholes, truth = coverage.draw(case, 5000, np.random.default_rng(0))
            assert parts.shape == wholes.shape == (5000, 20)
            ratios = parts.sum(1) / wholes.sum(1) if kind != "share" else parts.sum() / wholes.sum()
            assert np.mean(ratios) == pytest.approx(truth, abs=0.02 * max(1, abs(truth)))


def test_skewed_samples_are_skewed_as_they_say(coverage: ModuleType) -> None:
    """Twice the standard deviation of an exponential over its mean, times that of the windows around it."""
    case = coverage.Case("mean over windows", "exponential", 0.5, 10, 10)
    parts, _, _ = coverage.draw(case, 20_000, np.random.default_rng(0))
    assert parts.var() / parts.mean() ** 2 == pytest.approx(2 * np.exp(0.25) - 1, rel=0.05)


def test_the_table_names_sizes_that_the_rule_shows_and_does_not_show(coverage: ModuleType) -> None:
    assert all(groups >= FEWEST_GROUPS for groups, _ in coverage.SIZES)
    assert all(groups < FEWEST_GROUPS for groups, _ in coverage.TOO_SMALL)
    assert "| share | normal | 0.5 | 0." in coverage.table(["share"], [(8, 24)], 20)


def former_one_by_one(parts: Floats, wholes: Floats, ratio: Callable[..., Floats]) -> tuple[float, float]:
    """The interval that reports showed before, of one sample."""
    from scipy.stats import bootstrap, norm, t

    groups = len(parts)
    quantile = sqrt(groups / (groups - 1)) * t.ppf(0.975, groups - 1)
    found = bootstrap(
        (parts, wholes),
        ratio,
        paired=True,
        vectorized=True,
        n_resamples=9_999,
        confidence_level=float(1 - 2 * norm.cdf(-quantile)),
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(found.low), float(found.high)


def test_the_former_method_of_the_simulation_is_what_reports_showed(coverage: ModuleType) -> None:
    case = coverage.Case("pooled mean", "exponential", 0.5, 12, 28)
    parts, wholes, _ = coverage.draw(case, 3, np.random.default_rng(0))
    low, high = coverage.former(parts, wholes, resamples=9_999)
    for index in range(3):
        one = former_one_by_one(parts[index], wholes[index], lambda a, b, axis=-1: a.sum(axis=axis) / b.sum(axis=axis))
        length = one[1] - one[0]
        assert (low[index], high[index]) == pytest.approx(one, abs=0.05 * length)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(8, 12), (8, 24), (12, 12), (20, 20)])
@pytest.mark.parametrize("levels", ["normal", "exponential"])
@pytest.mark.parametrize("kind", ["pooled mean", "mean over windows", "difference", "share"])
def test_intervals_cover_the_truth_at_the_price_of_half_their_former_length(
    kind: str, levels: str, size: tuple[int, int], coverage: ModuleType
) -> None:
    """Windows vary with sigma 0.5, as those of the shipped scenarios do at most; drawn by a fixed seed."""
    found = coverage.measure(coverage.Case(kind, levels, 0.5, *size), 20_000)
    assert found.coverage >= 0.93
    assert found.length <= 1.5


@pytest.mark.slow
def test_where_none_is_shown_no_interval_would_be_honest_and_short(coverage: ModuleType) -> None:
    assert interval(np.arange(1.0, 6.0), np.ones(5)) == (None, None)
    found = [coverage.measure(coverage.Case(kind, "exponential", 0.5, 5, 15), 5000) for kind in coverage.HARDER]
    assert min(each.coverage for each in found) < 0.93
    assert max(each.length for each in found) > 1.5


@pytest.mark.slow
def test_a_normal_sample_is_covered_as_often_as_students_t_widened_says() -> None:
    """Ten groups around 0: |T| at 9 degrees of freedom stays under 1.42 x 2.262 with 98.94 %."""
    random = np.random.default_rng(0)
    hits = 0
    for values in random.normal(size=(20_000, 10)):
        low, high = ends(bounds(values, np.ones(10)))
        hits += low <= 0 <= high
    assert hits / 20_000 == pytest.approx(0.9894, abs=0.003)


def test_bounds_know_no_rule() -> None:
    assert bounds(np.array([-1.0, 1.0]), np.ones(2)) != (None, None)
