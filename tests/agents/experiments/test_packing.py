"""Greedy packing against the optimum."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.experiments.packing import fillings, greedy, optimum


def test_greedy_takes_the_densest_first_into_the_fullest_container_that_has_room() -> None:
    # Densities 4, 3, 2 and 1 a MB; the third does not fit beside the first.
    assert greedy(np.array([12.0, 6.0, 8.0, 1.0]), np.array([3, 2, 4, 1]), 1, 6) == pytest.approx(12 + 6 + 1)


def test_greedy_can_be_beaten() -> None:
    value, weight_mb = np.array([3.0, 4.0, 4.0]), np.array([2, 3, 3])
    assert greedy(value, weight_mb, 1, 6) == pytest.approx(7)
    assert optimum(value, weight_mb, 1, 6) == pytest.approx(8)


def test_fillings_leave_no_room_for_the_smallest() -> None:
    assert fillings(np.array([2, 3]), 6).tolist() == [[0, 2], [1, 1], [3, 0]]


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 9), st.sampled_from([3, 4, 6])), min_size=1, max_size=6),
    st.integers(1, 2),
)
def test_the_optimum_is_that_of_trying_everything(items: list[tuple[int, int]], containers: int) -> None:
    value = np.array([float(each) for each, _ in items])
    weight_mb = np.array([each for _, each in items])
    best = 0.0
    for places in product(range(containers + 1), repeat=len(items)):
        loads = np.bincount(places, weights=weight_mb, minlength=containers + 1)[:containers]
        if (loads <= 10).all():
            best = max(best, float(value[np.array(places) < containers].sum()))
    found = optimum(value, weight_mb, containers, 10)
    assert found == pytest.approx(best)
    assert greedy(value, weight_mb, containers, 10) <= found + 1e-9
