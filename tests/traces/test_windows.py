"""Splits share no function, windows stay in their time, and the first few already show much of both."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from traces import Split, TraceError, Window, plan_windows
from traces.windows import spoken

HOUR_US = 3_600_000_000
SPLITS = {
    "train": Split(functions=(0.0, 0.5), time=(0.0, 0.6)),
    "validation": Split(functions=(0.5, 0.7), time=(0.6, 0.8)),
    "test": Split(functions=(0.7, 1.0), time=(0.8, 1.0)),
}

LATE = Split(functions=(0, 1), time=(0.4, 1))


def _plan(
    functions: int = 100, seed: int = 0, group_size: int = 10, splits: Mapping[str, Split] = SPLITS
) -> dict[str, tuple[Window, ...]]:
    return plan_windows(range(functions), 24 * HOUR_US, splits, group_size, HOUR_US, HOUR_US, seed)


@settings(deadline=None)
@given(functions=st.integers(20, 200), group_size=st.integers(1, 6), seed=st.integers(0, 2**32))
def test_no_function_is_in_two_splits_nor_in_two_groups(functions: int, group_size: int, seed: int) -> None:
    plan = _plan(functions, seed, group_size)
    groups = {window.group: window.functions for windows in plan.values() for window in windows}
    members = [function for group in groups.values() for function in group]
    assert len(members) == len(set(members))
    assert set(members) <= set(range(functions))
    assert all(window.split == name and window.group.startswith(name) for name in plan for window in plan[name])


@settings(deadline=None)
@given(
    end_us=st.integers(10**5, 10**6),
    window_us=st.integers(10**4, 10**5),
    warm_up_us=st.integers(0, 10**5),
    low=st.floats(0, 0.5),
    high=st.floats(0.6, 1),
)
def test_scored_time_lies_in_the_split_and_the_warm_up_in_the_trace(
    end_us: int, window_us: int, warm_up_us: int, low: float, high: float
) -> None:
    assume(max(low * end_us, warm_up_us) + window_us + 1 < high * end_us)
    split = Split(functions=(0, 1), time=(low, high))
    windows = plan_windows(range(6), end_us, {"test": split}, 2, window_us, warm_up_us, 0)["test"]
    for window in windows:
        assert 0 <= window.start_us == window.score_from_us - warm_up_us
        assert low * end_us <= window.score_from_us < window.end_us <= high * end_us
        assert window.end_us - window.score_from_us == window_us
    scored = sorted({(window.score_from_us, window.end_us) for window in windows})
    assert all(before[1] <= after[0] for before, after in pairwise(scored))


@settings(deadline=None)
@given(functions=st.integers(10, 80), hours=st.integers(2, 30))
def test_every_group_meets_every_time_once(functions: int, hours: int) -> None:
    splits = {"all": Split(functions=(0, 1), time=(0, 1))}
    windows = plan_windows(range(functions), hours * HOUR_US, splits, 7, HOUR_US, HOUR_US, 3)["all"]
    pairs = {(window.group, window.score_from_us) for window in windows}
    groups, times = {group for group, _ in pairs}, {time for _, time in pairs}
    assert len(pairs) == len(windows) == len(groups) * len(times)
    assert len(times) == hours - 1
    assert [window.index for window in windows] == list(range(len(windows)))


def test_the_first_windows_cover_all_groups_and_new_times() -> None:
    splits = {"all": Split(functions=(0, 1), time=(0, 1))}
    windows = plan_windows(range(40), 25 * HOUR_US, splits, 10, HOUR_US, HOUR_US, 0)["all"][:12]
    assert [window.group for window in windows[:4]] == ["all-0", "all-1", "all-2", "all-3"]
    assert len({window.score_from_us for window in windows}) == 12


@pytest.mark.parametrize(("functions", "sizes"), [(24, {10}), (25, {10, 5}), (30, {10}), (6, {6})])
def test_a_last_group_needs_half_the_size(functions: int, sizes: set[int]) -> None:
    splits = {"all": Split(functions=(0, 1), time=(0, 1))}
    assert {len(window.functions) for window in _plan(functions, splits=splits)["all"]} == sizes


def test_the_plan_is_decided_by_its_arguments_alone() -> None:
    assert _plan(seed=1) == _plan(seed=1)
    assert _plan(seed=1) != _plan(seed=2)
    shuffled = plan_windows(list(range(99, -1, -1)), 24 * HOUR_US, SPLITS, 10, HOUR_US, HOUR_US, 1)
    assert shuffled == _plan(seed=1)


def test_one_split_does_not_hang_on_the_others() -> None:
    assert _plan(splits={"test": SPLITS["test"]})["test"] == _plan()["test"]


def test_only_eligible_functions_are_used() -> None:
    splits = {"all": Split(functions=(0, 1), time=(0, 1))}
    windows = plan_windows([3, 14, 15, 92], 3 * HOUR_US, splits, 2, HOUR_US, HOUR_US, 0)["all"]
    assert {function for window in windows for function in window.functions} == {3, 14, 15, 92}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"splits": {"a": SPLITS["train"], "b": Split(functions=(0.4, 1), time=(0, 1))}},
            "'a' and 'b' share functions",
        ),
        ({"eligible": range(3)}, "split 'train': has 2 functions, not enough for a group of 10"),
        (
            {
                "splits": {"a": Split(functions=(0, 1), time=(0.4, 1))},
                "window_us": 20 * HOUR_US,
                "warm_up_us": 9 * 10**8,
            },
            "split 'a': has no room for a warm-up of 15 min and a window of 1,200 min in its 864 min of a trace of "
            "1,440 min",
        ),
        ({"group_size": 0}, "group_size 0"),
        ({"warm_up_us": -1}, "warm_up_us -1"),
    ],
)
def test_refuses_plans_that_cannot_be(change: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {
        "eligible": range(100),
        "end_us": 24 * HOUR_US,
        "splits": SPLITS,
        "group_size": 10,
        "window_us": HOUR_US,
        "warm_up_us": HOUR_US,
        "seed": 0,
    }
    with pytest.raises(TraceError, match=message):
        plan_windows(**(arguments | change))  # type: ignore[arg-type]


def test_windows_by_hand() -> None:
    # of 100 minutes 10.5 to 60.5: windows of 20 from 10.5 and 30.5 on, which end at the split's end at the latest
    minute_us = 60_000_000
    split = Split(functions=(0.25, 0.75), time=(0.105, 0.605))
    windows = plan_windows(range(8), 100 * minute_us, {"mine": split}, 2, 20 * minute_us, 5 * minute_us, 0)["mine"]
    spans = {(each.start_us, each.score_from_us, each.end_us) for each in windows}
    assert spans == {tuple(int(at * minute_us) for at in span) for span in ((5.5, 10.5, 30.5), (25.5, 30.5, 50.5))}
    assert len({function for each in windows for function in each.functions}) == 4
    assert all(list(each.functions) == sorted(each.functions) for each in windows)
    # a warm-up before the trace begins is none: the first scored time waits for it
    whole = Split(functions=(0, 1), time=(0, 1))
    late = plan_windows(range(2), 100 * minute_us, {"mine": whole}, 2, 60 * minute_us, 40 * minute_us, 0)["mine"]
    assert [(each.start_us, each.score_from_us, each.end_us) for each in late] == [(0, 40 * minute_us, 100 * minute_us)]


def test_splits_that_touch_share_nothing() -> None:
    touching = {
        "a": Split(functions=(0, 0.5), time=(0, 1)),
        "b": Split(functions=(0.5, 1), time=(0, 0.5)),
        "c": Split(functions=(0.5, 1), time=(0.5, 1)),
    }
    plan = _plan(splits=touching)
    of = {name: {function for window in plan[name] for function in window.functions} for name in plan}
    assert not of["a"] & of["b"]
    assert of["b"] == of["c"]


@pytest.mark.parametrize(
    ("span_us", "words"),
    [
        (1000 * HOUR_US, "60,000 min"),
        (2 * HOUR_US, "120 min"),
        (60_000_000, "1 min"),
        (59_500_000, "0.9917 min"),
    ],
)
def test_a_length_of_time_is_said_in_the_unit_that_scenarios_have(span_us: float, words: str) -> None:
    assert spoken(span_us) == words


@pytest.mark.parametrize("bad", [(0.5, 0.5), (-0.1, 0.5), (0.5, 1.1), (0.9, 0.1)])
def test_a_split_takes_ascending_fractions_only(bad: tuple[float, float]) -> None:
    with pytest.raises(ValidationError, match="ascending fractions"):
        Split(functions=bad, time=(0, 1))


def test_a_split_refuses_unknown_keys() -> None:
    with pytest.raises(ValidationError, match="extra"):
        Split.model_validate({"functions": (0, 1), "time": (0, 1), "nodes": 3})
