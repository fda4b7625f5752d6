"""Synthetic counts have the traits of the real ones, and say what they are."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from traces import Counts, SynthesisConfig, expand, statistics, synthesize
from traces.synthesis import _daily_shape


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
