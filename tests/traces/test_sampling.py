"""Samples: of a class, in proportion to weight, the same for the same seed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from traces import Counts, TraceError, expand, sample, statistics

Table = Callable[..., Counts]


def test_draws_functions_of_a_class_only(table: Table) -> None:
    counts = table([[3] * 60, [60, 0, 0] * 20, [180] + [0] * 58 + [180], [0, 1] * 30])
    classes = statistics(counts)["cov_class"].tolist()
    drawn = sample(counts, 1, seed=0, cov_class="Bursty")
    assert classes.count("Bursty") >= 1
    assert classes[counts.names.index(drawn.names[0])] == "Bursty"
    assert set(statistics(sample(counts, 2, seed=0, rate_group="frequent"))["rate_group"]) == {"frequent"}


def test_a_seed_decides_and_the_order_of_the_source_stays(table: Table) -> None:
    counts = table([[1]] * 30)
    assert sample(counts, 8, seed=4).names == sample(counts, 8, seed=4).names
    assert sample(counts, 8, seed=4).names != sample(counts, 8, seed=5).names
    numbers = [int(name[1:]) for name in sample(counts, 8, seed=4).names]
    assert numbers == sorted(set(numbers))


def test_a_trace_gives_a_trace_with_the_same_arrivals(table: Table) -> None:
    counts = table([[4, 4]] * 6)
    drawn = sample(expand(counts), 3, seed=1)
    rows = [counts.names.index(name) for name in drawn.names]
    assert drawn.metadata.content_hash == expand(counts, functions=rows).metadata.content_hash


def test_weights_count(table: Table) -> None:
    counts = table([[1]] * 3, weights=[1, 1, 98])
    first = [sample(counts, 1, seed).names[0] for seed in range(200)]
    assert np.mean([name == "f2" for name in first]) > 0.9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 3}, "cannot draw 3 functions of 2 that match"),
        ({"n": 0}, "cannot draw 0 functions"),
        ({"n": 1, "cov_class": "Bursty"}, "none of the 2 functions matches; ask for another cov_class or rate_group"),
        ({"n": 1, "cov_class": "bursty"}, "cov_class 'bursty' is unknown, expected one of Predictable"),
        ({"n": 1, "rate_group": "hot"}, "rate_group 'hot' is unknown, expected one of frequent"),
    ],
)
def test_refuses_what_cannot_be_drawn(table: Table, options: dict[str, object], message: str) -> None:
    with pytest.raises(TraceError, match=message):
        sample(table([[1], [1]]), seed=0, **options)  # type: ignore[arg-type]
