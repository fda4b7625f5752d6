"""A synthetic trace is like the real one in what matters, and copies none of its requests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from traces import Counts, Trace, TraceError, load
from traces.likeness import LikenessConfig, synthesize_like
from traces.shape import as_trace, fidelity, halves, shape

Real = Callable[[str], Path]


def a_trace(*arrivals_s: list[float]) -> Trace:
    return Trace.from_requests(
        np.array([second for each in (*arrivals_s, [0.0, 4 * 3600 - 1e-6]) for second in each]),
        [f"f{f}" for f, each in enumerate((*arrivals_s, [0.0, 0.0])) for _ in each],
        source="a test",
    )


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


def test_nothing_to_be_like_is_refused(table: Callable[..., Counts]) -> None:
    with pytest.raises(TraceError, match="has no requests to be like"):
        synthesize_like(table([[0, 0, 0]]))
