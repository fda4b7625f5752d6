"""A table of counts says which minutes it covers, and a part of it keeps each column with its function."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from traces import Counts, TraceError


@pytest.fixture
def counts() -> Counts:
    return Counts(
        names=("f", "g", "h"),
        owners=("o0", "o1", "o2"),
        apps=("a0", "a1", "a2"),
        triggers=("http", "timer", "queue"),
        counts=np.arange(12, dtype=np.int32).reshape(3, 4),
        first_minute=61,
        duration_ms=np.array([10.0, 20.0, 30.0]),
        memory_mb=np.array([100.0, 200.0, 300.0]),
        weights=np.array([5, 6, 7]),
        source="a test",
        licence="CC0",
    )


def test_length_and_minutes_are_those_of_the_table(counts: Counts) -> None:
    assert (counts.minutes, counts.end_us) == (4, 240_000_000)
    assert counts.window == "minutes 61..64"


def test_a_part_has_all_columns_of_its_functions_in_the_order_given(counts: Counts) -> None:
    part = counts.select([2, 0])
    assert (part.names, part.owners, part.apps) == (("h", "f"), ("o2", "o0"), ("a2", "a0"))
    assert part.triggers == ("queue", "http")
    assert part.counts.tolist() == [[8, 9, 10, 11], [0, 1, 2, 3]]
    assert (part.duration_ms.tolist(), part.memory_mb.tolist()) == ([30, 10], [300, 100])
    assert part.weights.tolist() == [7, 5]
    assert (part.first_minute, part.source, part.licence) == (61, "a test", "CC0")


@pytest.mark.parametrize("column", ["owners", "apps", "triggers", "counts", "duration_ms", "memory_mb", "weights"])
def test_a_column_of_another_length_is_refused_by_its_name(counts: Counts, column: str) -> None:
    with pytest.raises(TraceError, match=f"{column} has 2 rows, expected one for each of 3 names"):
        replace(counts, **{column: getattr(counts, column)[:2]})


def test_a_name_twice_and_a_flat_table_are_refused(counts: Counts) -> None:
    with pytest.raises(TraceError, match="names must be unique"):
        replace(counts, names=("f", "g", "f"))
    with pytest.raises(TraceError, match=r"counts has 1 dimension\(s\)"):
        replace(counts, counts=counts.counts[0])
