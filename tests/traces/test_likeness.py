"""A synthetic trace is like the real one in what matters, and copies none of its requests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from traces import Counts, Trace, TraceError, load
from traces.describe import cov_of_gaps
from traces.likeness import LikenessConfig, _arrivals, _durations, _gaps, _templates, synthesize_like
from traces.shape import as_trace, fidelity, halves, shape

Real = Callable[[str], Path]


def a_trace(*arrivals_s: list[float]) -> Trace:
    return Trace.from_requests(
        np.array([second for each in (*arrivals_s, [0.0, 4 * 3600 - 1e-6]) for second in each]),
        [f"f{f}" for f, each in enumerate((*arrivals_s, [0.0, 0.0])) for _ in each],
        source="a test",
    )


def test_timers_stay_timers_and_rare_functions_rare() -> None:
    trace = a_trace([300.0 * k + 7 for k in range(48)], [100.0, 9000.0])
    made = synthesize_like(trace, LikenessConfig(seed=3))
    sizes = sorted(np.bincount(made.arrival_function).tolist())
    assert sizes == [2, 2, 48]
    timer = made.arrival_us[made.arrival_function == int(np.argmax(np.bincount(made.arrival_function)))]
    assert set(np.diff(timer)) == {300_000_000}
    assert shape(made).steady_functions == 1


def test_the_same_seed_gives_the_same_trace_of_any_size() -> None:
    trace = a_trace([10.0, 50.0, 400.0, 4000.0, 4100.0], [9.0, 8000.0, 8001.0])
    one, again, other = (synthesize_like(trace, LikenessConfig(functions=9, seed=seed)) for seed in (1, 1, 2))
    assert one.metadata.content_hash == again.metadata.content_hash != other.metadata.content_hash
    assert len(one.names) == 9
    assert one.end_us == trace.end_us
    assert "synthetic, like a test" in one.metadata.source


@pytest.mark.parametrize("cov", [0.3, 0.5, 2.0, 4.5])
def test_gaps_are_drawn_with_the_variation_that_is_wanted(cov: float) -> None:
    gaps = _gaps(cov, 400_000, np.random.default_rng(0))
    # the heavy ones have the mean sqrt(1 + cov^2), the others 1
    assert gaps.mean() == pytest.approx(np.sqrt(1 + cov**2) if cov >= 4 else 1.0, rel=0.05)
    assert gaps.std() / gaps.mean() == pytest.approx(cov, rel=0.1)


def test_a_made_function_varies_as_its_template_does_and_lies_within_the_trace() -> None:
    bursts = np.cumsum(np.random.default_rng(1).lognormal(0, 1.2, 300))
    trace = a_trace((bursts / bursts[-1] * 3.9 * 3600).tolist(), [100.0, 9000.0, 12_000.0])
    for template in _templates(trace)[1][:2]:
        made = _arrivals(template, trace.end_us, np.random.default_rng(2))
        assert cov_of_gaps(made) == pytest.approx(template.cov, rel=0.02)
        assert (np.diff(made) >= 0).all()
        assert 0 <= made[0] <= made[-1] < trace.end_us
        # a jitter of 5 % where that makes a request; the number of a rare function is what matters about it
        assert len(made) == pytest.approx(template.requests, rel=0.2 if template.requests > 20 else 0)


def test_templates_hold_number_period_shape_and_run_times() -> None:
    # two functions that take turns of ten minutes, one of them every 15 s, with run times of 5 and 20 ms
    first = 15.0 * np.arange(40)
    second = 600 + first + 3 * (np.arange(40) % 2)
    seconds = np.concatenate([first, second])
    trace = Trace.build(
        names=["a", "silent", "b"],
        arrival_us=np.rint(seconds * 1e6).astype(np.int64),
        arrival_function=np.repeat(np.array([0, 2], np.int32), 40),
        duration_us=np.array([5_000, 20_000] * 40, np.int64),
        end_us=1_200_000_000,
        source="a test",
        licence="none",
        window="all",
        expansion="none",
    )
    used, (one, other) = _templates(trace)
    assert used.tolist() == [0, 2]
    assert (one.requests, other.requests) == (40, 40)
    assert (one.period_us, other.period_us) == (15_000_000, 0)
    assert (one.cov, other.cov) == (0.0, cov_of_gaps(trace.arrival_us[40:]))
    # each has 40 of its own in ten minutes, and 10 + 0.25 x 40 that are spread as those of both: half and half
    assert one.cumulative == pytest.approx([0, 50 / 60, 1], abs=2e-3)
    assert other.cumulative == pytest.approx([0, 10 / 60, 1], abs=2e-3)
    assert one.cumulative[-1] == other.cumulative[-1] == 1
    logs = np.log([5_000, 20_000])
    assert one.log_duration == pytest.approx((logs.mean(), logs.std()))
    runs_us = _durations(one, 100_000, 0, 0)
    assert np.median(runs_us) == pytest.approx(10_000, rel=0.03)
    assert np.log(runs_us).std() == pytest.approx(logs.std(), rel=0.02)


def test_a_made_timer_has_a_phase_within_its_period_and_ends_before_the_trace() -> None:
    trace = a_trace([300.0 * k + 7 for k in range(48)])
    (timer, _) = _templates(trace)[1]
    begins = [int(_arrivals(timer, trace.end_us, np.random.default_rng(seed))[0]) for seed in range(200)]
    # 47 periods are 235 minutes of 240: five minutes are left
    assert 0 <= min(begins) < 10_000_000
    assert 290_000_000 < max(begins) < 300_000_000


def test_every_template_is_used_equally_often_and_keeps_owner_and_trigger_together() -> None:
    counts = [4, 9, 16]
    rows = sorted((n * n, f) for f, count in enumerate(counts) for n in range(count))
    trace = Trace.build(
        names=["a", "b", "c"],
        owners=["x", "", "y"],
        triggers=["http", "queue", "event"],
        arrival_us=np.array([second * 1_000_000 for second, _ in rows], np.int64),
        arrival_function=np.array([f for _, f in rows], np.int32),
        end_us=600_000_000,
        source="a test",
        licence="none",
        window="all",
        expansion="none",
    )
    made = synthesize_like(trace, LikenessConfig(functions=6, seed=5))
    sizes = np.bincount(made.arrival_function, minlength=6).tolist()
    assert sorted(sizes) == sorted(counts * 2)
    found = {(size, made.triggers[f], made.owners[f]) for f, size in enumerate(sizes)}
    assert found == {(4, "http", "o00000"), (9, "queue", ""), (16, "event", "o00002")}


def test_nothing_to_be_like_is_refused(table: Callable[..., Counts]) -> None:
    with pytest.raises(TraceError, match="has no requests to be like"):
        synthesize_like(table([[0, 0, 0]]))


@pytest.mark.parametrize(
    ("name", "least"),
    [("azure2019_8h_invocations.csv.gz", 0.55), ("azure2019_day_unique_A.csv.gz", 0.2)],
)
def test_it_is_as_near_to_a_real_trace_as_two_halves_of_that(real: Real, name: str, least: float) -> None:
    source = as_trace(load(real(name)))
    made = synthesize_like(source)
    found, apart = fidelity(source, made), fidelity(*halves(source))
    assert found.ks_rate < apart.ks_rate
    assert found.ks_cov < apart.ks_cov
    assert found.second.top_1_percent_share is not None
    assert found.second.top_1_percent_share > least


def test_the_daily_shape_is_kept(real: Real) -> None:
    source = as_trace(load(real("alibaba_gentd26_requests_to_1130.csv.gz")))
    first, second = shape(source), shape(synthesize_like(source))
    assert first.daily_swing is not None
    assert second.daily_swing == pytest.approx(first.daily_swing, rel=0.1)
    assert second.autocorrelation_24h is not None
    assert second.autocorrelation_24h > 0.25


def test_in_the_shape_of_all_a_busy_function_counts_no_more_than_a_rare_one() -> None:
    """A thousand requests in the first hour, and three functions with one each in the last: a quarter is early."""
    busy = np.linspace(1, 3599, 1000).tolist()
    trace = Trace.from_requests(
        np.array([*busy, 14_000.0, 14_010.0, 14_020.0]),
        ["busy"] * 1000 + ["a", "b", "c"],
        source="a test",
    )
    rare = _templates(trace)[1][0]
    assert rare.requests == 1
    # a request of its own, late, and 10 + 0.25 of the shape of all
    early = (10 + 0.25) * 0.25 / (1 + 10 + 0.25)
    assert rare.cumulative[6] == pytest.approx(early, abs=2e-3)  # six times ten minutes
