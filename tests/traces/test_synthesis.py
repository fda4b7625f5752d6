"""Synthetic counts have the traits of the real ones, and say what they are."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from traces import Counts, SynthesisConfig, expand, statistics, synthesis, synthesize
from traces.synthesis import _daily_shape, _gamma_arrivals


@pytest.fixture(scope="module")
def made() -> Counts:
    return synthesize(SynthesisConfig(functions=600, minutes=1440, seed=1))


@pytest.fixture(scope="module")
def described(made: Counts) -> pd.DataFrame:
    return statistics(made)


def test_says_that_it_is_synthetic(made: Counts) -> None:
    assert made.source.startswith("synthetic")
    assert expand(made, functions=[0]).metadata.source == made.source


def test_the_same_config_gives_the_same_counts_and_more_functions_keep_the_first(made: Counts) -> None:
    few = synthesize(SynthesisConfig(functions=20, minutes=1440, seed=1))
    np.testing.assert_array_equal(few.counts, made.counts[:20])
    np.testing.assert_array_equal(few.duration_ms, made.duration_ms[:20])
    assert few.owners == made.owners[:20]
    other = synthesize(SynthesisConfig(functions=20, minutes=1440, seed=2))
    assert not np.array_equal(few.counts, other.counts)


def test_rates_span_many_decades(described: pd.DataFrame) -> None:
    rates = described.loc[~described["timer"], "rate_per_min"].quantile([0.1, 0.5, 0.9, 0.99])
    for rate, low, high in zip(rates, (0.0005, 0.05, 1, 30), (0.01, 0.25, 8, 600), strict=True):
        assert low < rate < high
    top = described["requests"].nlargest(6).sum() / described["requests"].sum()
    assert top > 0.5


def test_half_are_timers_with_a_fixed_period(made: Counts, described: pd.DataFrame) -> None:
    assert described["timer"].mean() == pytest.approx(0.5, abs=0.07)
    for row in np.flatnonzero(described["timer"])[:50]:
        gaps = set(np.diff(np.flatnonzero(made.counts[row])).tolist())
        assert len(gaps) == 1
        assert 1 <= gaps.pop() <= 60


def test_regularity_is_mixed(described: pd.DataFrame) -> None:
    shares = described.loc[~described["timer"], "cov_class"].value_counts(normalize=True)
    assert 0.2 < shares["Predictable"] < 0.6
    assert 0.2 < shares["Normal"] < 0.6
    assert 0.04 < shares["Bursty"] < 0.25


def test_days_are_busier_than_nights(made: Counts) -> None:
    others = made.counts[[trigger != "timer" for trigger in made.triggers]]
    hours = others.reshape(len(others), 24, 60).sum(axis=2)
    shares = (hours / np.maximum(hours.sum(axis=1, keepdims=True), 1)).mean(axis=0)
    assert shares[10:16].mean() > 1.3 * shares[:5].mean()


def test_run_times_and_memory_lie_within_the_platforms_limits(made: Counts) -> None:
    assert 1.0 <= made.duration_ms.min() < made.duration_ms.max() <= 600_000.0
    assert 300 < np.median(made.duration_ms) < 1500
    assert 1.0 <= made.memory_mb.min() < made.memory_mb.max() <= 1536.0
    assert 100 < np.median(made.memory_mb) < 200


def test_some_owners_have_several_functions(made: Counts) -> None:
    assert 0.15 < len(set(made.owners)) / len(made.owners) < 0.8


def test_the_rate_span_and_the_share_of_timers_can_be_set() -> None:
    config = SynthesisConfig(functions=50, minutes=2000, timer_share=0.0, rate_per_min=(0.5, 2.0))
    counts = synthesize(config)
    assert "timer" not in counts.triggers
    assert 0.4 < np.median(counts.counts.mean(axis=1)) < 2.2


@pytest.mark.parametrize(
    "bad", [{"functions": 0}, {"minutes": 0}, {"timer_share": 1.5}, {"rate_per_min": (2.0, 1.0)}, {"rates": 3}]
)
def test_refuses_a_config_that_makes_no_sense(bad: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SynthesisConfig.model_validate(bad)


def test_a_trace_that_begins_at_noon_has_the_afternoon_s_shape() -> None:
    whole, late = (
        _daily_shape(SynthesisConfig(functions=1, minutes=minutes, first_minute=first), np.random.default_rng(4))
        for minutes, first in ((1440, 0), (720, 720))
    )
    np.testing.assert_array_equal(late, whole[720:])
    assert abs(int(np.argmax(whole)) - 720) < 360  # it peaks about noon
    assert whole.mean() == pytest.approx(1)


def shares(values: list[object]) -> dict[object, float]:
    found, counts = np.unique(np.array(values), return_counts=True)
    return dict(zip(found.tolist(), (counts / len(values)).tolist(), strict=True))


def test_run_times_memory_and_timers_have_the_published_distributions() -> None:
    timers = synthesize(SynthesisConfig(functions=4000, minutes=180, timer_share=1.0, seed=5))
    # log-normal: ln of seconds has the median -0.38 and the deviation 2.36, of which the quartiles are 1.349 apart
    low, middle, high = np.quantile(np.log(timers.duration_ms / 1000), (0.25, 0.5, 0.75))
    assert middle == pytest.approx(-0.38, abs=0.15)
    assert (high - low) / 1.349 == pytest.approx(2.36, rel=0.05)
    # Burr: P(memory <= x) = 1 - (1 + (x / 107.083) ** 11.652) ** -0.221
    for x in (90.0, 140.0, 250.0):
        expected = 1 - (1 + (x / 107.083) ** 11.652) ** -0.221
        assert np.mean(timers.memory_mb <= x) == pytest.approx(expected, abs=0.03)
    minutes = [np.flatnonzero(row) for row in timers.counts]
    found = shares([int(each[1] - each[0]) for each in minutes])
    expected_shares = {1: 0.16, 2: 0.05, 3: 0.03, 5: 0.34, 10: 0.06, 15: 0.13, 30: 0.07, 60: 0.16}
    assert found == pytest.approx(expected_shares, abs=0.03)
    firsts = [int(each[0]) for each in minutes if each[1] - each[0] == 60]
    assert min(firsts) < 10
    assert 50 <= max(firsts) < 60
    assert set(timers.triggers) == {"timer"}


def test_what_is_no_timer_has_the_published_triggers_rates_and_gaps(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[float, float, float]] = []

    def arrivals(rate: float, cov: float, end: float, generator: np.random.Generator) -> np.ndarray:
        asked.append((rate, cov, end))
        return np.zeros(0)

    monkeypatch.setattr(synthesis, "_gamma_arrivals", arrivals)
    made = synthesize(SynthesisConfig(functions=3000, minutes=10, timer_share=0.0, seed=5))
    expected = {"http": 0.56, "queue": 0.29, "orchestration": 0.11, "storage": 0.02, "event": 0.02}
    assert shares(list(made.triggers)) == pytest.approx(expected, abs=0.03)
    rates, covs, _ = np.array(asked).T
    # one in ten has fewer than 0.002 a minute, a half fewer than 0.1, one in ten more than 2, one in a hundred over 123
    for rate, share in ((0.002, 0.1), (0.1, 0.5), (2.0, 0.9), (123.0, 0.99)):
        assert np.mean(rates < rate) == pytest.approx(share, abs=0.03)
    for cov, share in ((0.12, 0.1), (1.3, 0.5), (5.1, 0.9)):
        assert np.mean(covs < cov) == pytest.approx(share, abs=0.03)
    assert (rates.min() >= 0.0007, rates.max() <= 570, covs.min() >= 0.1, covs.max() <= 10) == (True,) * 4
    # 46 % of applications have a second function, 7 % more than ten
    _, sizes = np.unique(np.array(made.apps)[:-100], return_counts=True)
    assert np.mean(sizes >= 2) == pytest.approx(2**-1.12, abs=0.06)
    assert np.mean(sizes > 10) == pytest.approx(11**-1.12, abs=0.04)
    assert made.owners[0] == made.apps[0].replace("a", "o")


@pytest.mark.parametrize("cov", [0.3, 1.0, 2.0])
def test_gaps_have_the_rate_and_the_spread_that_are_asked_for(cov: float) -> None:
    generator = np.random.default_rng(6)
    arrivals = _gamma_arrivals(2.0, cov, 20_000.0, generator)
    gaps = np.diff(arrivals)
    assert 0 <= arrivals[0] <= arrivals[-1] < 20_000
    assert gaps.mean() == pytest.approx(0.5, rel=0.05)
    assert gaps.std() / gaps.mean() == pytest.approx(cov, rel=0.05)
    # who comes at any instant waits half a mean gap if gaps are equal, and longer the more they differ
    firsts = [_gamma_arrivals(2.0, cov, 50.0, generator)[0] for _ in range(3000)]
    assert np.mean(firsts) == pytest.approx(0.5 * (1 + cov**2) / 2, rel=0.12)


def test_days_peak_about_one_in_the_afternoon_by_up_to_four_fifths() -> None:
    generator = np.random.default_rng(7)
    shapes = [_daily_shape(SynthesisConfig(functions=1, minutes=1440), generator) for _ in range(500)]
    peaks = np.array([np.argmax(shape) for shape in shapes])
    swings = np.array([shape.max() for shape in shapes]) - 1
    assert np.mean(peaks) == pytest.approx(13 * 60, abs=20)
    assert np.std(peaks) == pytest.approx(120, rel=0.15)
    assert swings.max() == pytest.approx(0.8, abs=0.02)
    assert np.mean(swings) == pytest.approx(0.4, abs=0.04)


def test_a_request_falls_into_the_minute_that_its_share_of_the_day_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthesis, "_daily_shape", lambda *_: np.array([1.0, 3.0, 1.0]))
    monkeypatch.setattr(synthesis, "_gamma_arrivals", lambda *_: np.array([0.5, 1.0, 2.0, 3.9, 4.1]))
    made = synthesize(SynthesisConfig(functions=1, minutes=3, timer_share=0.0))
    # a busy minute is as long as three: from 1 to 4
    assert made.counts.tolist() == [[1, 3, 1]]
