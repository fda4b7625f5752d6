"""A trace is in order, checks itself and can be cut."""

from __future__ import annotations

import numpy as np
import pytest

from traces import Trace, TraceError


def _trace(**change: object) -> Trace:
    arguments: dict[str, object] = {
        "names": ["f", "g", "h"],
        "owners": ["o", "o", "p"],
        "arrival_us": np.array([30, 10, 20, 20]),
        "arrival_function": np.array([2, 0, 1, 0]),
        "duration_us": np.array([3, 1, 4, 2]),
        "end_us": 40,
        "source": "a test",
        "licence": "none",
        "window": "all",
        "expansion": "none",
    }
    return Trace.build(**(arguments | change))  # type: ignore[arg-type]


def test_requests_are_sorted_by_time_then_function() -> None:
    trace = _trace()
    assert trace.arrival_us.tolist() == [10, 20, 20, 30]
    assert trace.arrival_function.tolist() == [0, 0, 1, 2]
    assert trace.duration_us.tolist() == [1, 2, 4, 3]
    assert trace.arrival_us.dtype == np.dtype(np.int64)
    assert trace.arrival_function.dtype == np.dtype(np.int32)


def test_select_renumbers_in_the_order_given() -> None:
    part = _trace().select([2, 0])
    assert part.names == ("h", "f")
    assert part.owners == ("p", "o")
    assert part.arrival_function.tolist() == [1, 1, 0]
    assert part.duration_us.tolist() == [1, 2, 3]
    assert part.end_us == 40


def test_between_counts_from_its_start_and_leaves_its_end_out() -> None:
    part = _trace().between(10, 30)
    assert part.arrival_us.tolist() == [0, 10, 10]
    assert part.end_us == 20
    assert part.names == ("f", "g", "h")
    assert part.metadata.window == "10..30 us of all"


def test_a_part_keeps_what_is_known_of_its_functions_and_where_they_come_from() -> None:
    whole = _trace(triggers=["http", "timer", "queue"], seed=7, licence="CC0", expansion="uniform")
    for part, triggers in ((whole.select([2, 0]), ("queue", "http")), (whole.between(0, 25), whole.triggers)):
        assert part.triggers == triggers
        about = part.metadata
        assert (about.source, about.licence, about.expansion, about.seed) == ("a test", "CC0", "uniform", 7)
    assert whole.between(0, 20).arrival_us.tolist() == [10]
    assert whole.between(20, 40).duration_us.tolist() == [2, 4, 3]


def test_rows_of_another_format_count_from_the_first_request() -> None:
    made = Trace.from_requests(np.array([5.0, 3.5, 4.25]), ["b", "a", "b"], np.array([0.5, 0.25, 2.0]), source="mine")
    assert made.names == ("a", "b")
    assert made.arrival_us.tolist() == [0, 750_000, 1_500_000]
    assert made.arrival_function.tolist() == [0, 1, 1]
    assert made.duration_us.tolist() == [250_000, 2_000_000, 500_000]
    assert made.end_us == 1_500_001
    assert Trace.from_requests(np.array([1.0]), ["a"], source="mine").duration_us.tolist() == []
    for functions, run_s in ((["b", "a", "b"], [0.5]), (["b", "a"], None)):
        with pytest.raises(TraceError, match="must have 3 entries, as arrival_us has"):
            Trace.from_requests(
                np.array([5.0, 3.5, 4.25]), functions, None if run_s is None else np.array(run_s), source="mine"
            )
    with pytest.raises(TraceError, match="mine: has no requests"):
        Trace.from_requests(np.zeros(0), [], source="mine")


def test_between_refuses_a_span_outside() -> None:
    with pytest.raises(TraceError, match=r"span 10..50 us .* 0..40 us"):
        _trace().between(10, 50)


def test_equal_content_has_an_equal_hash_and_a_change_another() -> None:
    hashes = [
        _trace().metadata.content_hash,
        _trace(source="elsewhere").metadata.content_hash,
        _trace(names=["f", "g", "i"]).metadata.content_hash,
        _trace(arrival_us=np.array([30, 10, 20, 21])).metadata.content_hash,
        _trace(duration_us=None).metadata.content_hash,
        _trace(end_us=41).metadata.content_hash,
    ]
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == len(hashes) - 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names": ["f", "f", "h"]}, "names must be unique"),
        ({"owners": ["o"]}, "owners and triggers must have one entry"),
        ({"duration_us": np.array([-1, 0, 0, 0])}, "duration_us must not be negative"),
        ({"arrival_us": np.array([-1, 0, 0, 0])}, r"arrival_us must lie in 0..39"),
        ({"end_us": 30}, r"arrival_us must lie in 0..29"),
        ({"arrival_function": np.array([0, 0, 0, -1])}, r"arrival_function must lie in 0..2"),
        ({"duration_us": np.array([1, 2])}, "arrival_function and duration_us must have 4 entries"),
        ({"arrival_function": np.array([0, 0, 0, 3])}, r"arrival_function must lie in 0..2"),
    ],
)
def test_refuses_parts_that_do_not_fit(change: dict[str, object], message: str) -> None:
    with pytest.raises(TraceError, match=message):
        _trace(**change)
