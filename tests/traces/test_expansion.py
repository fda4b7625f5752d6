"""Counts become arrivals: nothing is lost, nothing moves when something else is left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from traces import Counts, Trace, TraceError, expand
from traces.counts import MINUTE_US
from traces.expansion import METHODS, Method

Table = Callable[..., Counts]


def _counted(trace: Trace, shape: tuple[int, int]) -> np.ndarray:
    counted = np.zeros(shape, np.int64)
    np.add.at(counted, (trace.arrival_function, trace.arrival_us // MINUTE_US), 1)
    return counted


@st.composite
def _counts(draw: st.DrawFn) -> Counts:
    functions, minutes = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    cell = st.integers(0, 3) | st.integers(0, 200)
    rows = draw(st.lists(st.lists(cell, min_size=minutes, max_size=minutes), min_size=functions, max_size=functions))
    triggers = draw(st.lists(st.sampled_from(["timer", "http", ""]), min_size=functions, max_size=functions))
    return Counts(
        names=tuple(f"f{i}" for i in range(functions)),
        owners=("",) * functions,
        apps=("",) * functions,
        triggers=tuple(triggers),
        counts=np.array(rows, np.int32),
        first_minute=draw(st.integers(0, 1440)),
        duration_ms=np.full(functions, np.nan),
        memory_mb=np.full(functions, np.nan),
        weights=np.ones(functions, np.int64),
        source="a test",
        licence="none",
    )


@settings(deadline=None)
@given(counts=_counts(), method=st.sampled_from(METHODS), seed=st.integers(0, 2**31))
def test_every_count_is_conserved_in_its_minute(counts: Counts, method: Method, seed: int) -> None:
    trace = expand(counts, method, seed)
    np.testing.assert_array_equal(_counted(trace, counts.counts.shape), counts.counts)
    assert trace.end_us == counts.minutes * MINUTE_US


@settings(deadline=None)
@given(counts=_counts(), method=st.sampled_from(METHODS), seed=st.integers(0, 2**31), data=st.data())
def test_selecting_functions_and_minutes_moves_no_arrival(
    counts: Counts, method: Method, seed: int, data: st.DataObject
) -> None:
    functions = data.draw(st.permutations(range(len(counts.names))))[: data.draw(st.integers(1, len(counts.names)))]
    first = data.draw(st.integers(0, counts.minutes - 1))
    last = data.draw(st.integers(first + 1, counts.minutes))
    part = expand(counts, method, seed, functions=functions, minutes=(first, last))
    cut = expand(counts, method, seed).select(functions).between(first * MINUTE_US, last * MINUTE_US)
    assert part.metadata.content_hash == cut.metadata.content_hash
    assert expand(counts.select(functions), method, seed).metadata.content_hash == (
        expand(counts, method, seed, functions=functions).metadata.content_hash
    )


@pytest.mark.parametrize("method", METHODS)
def test_the_same_seed_gives_the_same_trace_and_another_another(table: Table, method: Method) -> None:
    counts = table([[3, 4], [5, 0]], triggers=["timer", "http"])
    again = [expand(counts, method, seed).metadata.content_hash for seed in (1, 1, 2)]
    assert again[0] == again[1]
    assert (again[0] == again[2]) == (method == "equidistant")


def test_uniform_fills_the_minute_evenly(table: Table) -> None:
    inside_us = expand(table([[100_000]])).arrival_us
    shares = np.histogram(inside_us, bins=10, range=(0, MINUTE_US))[0] / 100_000
    np.testing.assert_allclose(shares, 0.1, atol=0.005)


def test_exponential_gaps_have_cov_one_and_wrap_around_the_minute(table: Table) -> None:
    inside_us = expand(table([[100_000]]), "exponential").arrival_us
    gaps = np.diff(inside_us)
    assert gaps.std() / gaps.mean() == pytest.approx(1.0, abs=0.02)
    assert inside_us[-1] - inside_us[0] > 0.999 * MINUTE_US


def test_a_single_request_a_minute_is_uniform_under_exponential(table: Table) -> None:
    inside_us = expand(table([[1] * 2000]), "exponential").arrival_us % MINUTE_US
    assert np.mean(inside_us) == pytest.approx(MINUTE_US / 2, rel=0.05)


def test_equidistant_divides_the_minute(table: Table) -> None:
    assert expand(table([[4, 1]]), "equidistant").arrival_us.tolist() == [
        0,
        15_000_000,
        30_000_000,
        45_000_000,
        MINUTE_US,
    ]


def test_a_timer_keeps_one_phase_of_its_own(table: Table) -> None:
    trace = expand(table([[0, 1] * 30, [2] * 60, [1] * 60], triggers=["timer", "timer", "http"]), "timer_phase")
    periodic = [set(np.diff(trace.arrival_us[trace.arrival_function == f]).tolist()) for f in range(3)]
    assert periodic[:2] == [{2 * MINUTE_US}, {MINUTE_US // 2}]
    assert len(periodic[2]) > 50
    first = [int(trace.arrival_us[trace.arrival_function == f][0]) % (MINUTE_US // 2) for f in range(2)]
    assert first[0] != first[1]


def test_mean_run_times_are_passed_on_where_all_are_known(table: Table) -> None:
    counts = table([[1], [2]])
    assert expand(counts).duration_us.tolist() == [20_000] * 3
    counts.duration_ms[1] = np.nan
    assert expand(counts).duration_us.tolist() == [20_000] * 3
    assert [(repair.rule, repair.count) for repair in expand(counts).repairs] == [
        ("a function without a run time: the median of the functions that have one", 1)
    ]
    assert expand(counts, functions=[0]).duration_us.tolist() == [20_000]


def test_whether_run_times_are_known_does_not_depend_on_the_minutes(table: Table) -> None:
    counts = table([[1, 1], [0, 2], [0, 0]])
    counts.duration_ms[2] = np.nan  # never requested
    assert expand(counts, minutes=(0, 1)).duration_us.tolist() == [20_000]
    counts.duration_ms[1] = np.nan
    assert expand(counts, minutes=(0, 1)).duration_us.tolist() == [20_000]
    counts.duration_ms[:] = np.nan
    assert len(expand(counts, minutes=(0, 1)).duration_us) == 0


def test_the_metadata_say_how_it_was_made(table: Table) -> None:
    about = expand(table([[1, 1, 1]]), "exponential", seed=7, minutes=(1, 3)).metadata
    assert (about.source, about.window, about.expansion, about.seed) == ("a test", "minutes 2..3", "exponential", 7)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "poisson"}, "unknown expansion 'poisson', expected one of uniform"),
        ({"minutes": (0, 4)}, "minutes 0..4 must be ascending and lie in 0..2"),
        ({"minutes": (1, 1)}, "minutes 1..1 must be ascending"),
        ({"functions": [2]}, "functions must lie in 0..0"),
    ],
)
def test_refuses_what_is_not_in_the_table(table: Table, options: dict[str, object], message: str) -> None:
    with pytest.raises(TraceError, match=message):
        expand(table([[1, 1]]), **options)  # type: ignore[arg-type]


def test_a_run_time_that_is_missing_is_the_median_of_all_functions_whichever_are_chosen(
    table: Callable[..., Counts],
) -> None:
    counts = replace(table([[1], [1], [1]]), duration_ms=np.array([100.0, 900.0, np.nan]))
    for chosen, wanted_ms in (([0, 2], {0: 100, 1: 500}), ([2], {0: 500}), ([1, 0], {0: 900, 1: 100})):
        made = expand(counts, functions=chosen)
        found = dict(zip(made.arrival_function.tolist(), (made.duration_us // 1000).tolist(), strict=True))
        assert found == wanted_ms
