"""The integer tables are what their definitions say, on every machine."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tyche_env.tables import (
    EXP2,
    NORMAL,
    ONE_Q20,
    PROBABILITY,
    PROBABILITY_FINE,
    ROWS,
    SIZE,
    TAIL,
    load_tables,
    make_tables,
)


def test_shipped_tables_equal_their_definitions() -> None:
    # Rounding differs by at most one unit between mathematical libraries; the file, not the machine, decides.
    difference = load_tables() - make_tables()
    assert load_tables().shape == (ROWS, SIZE)
    assert load_tables().dtype == np.int64
    assert np.abs(difference).max() <= 1


def test_tables_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="read-only"):
        load_tables()[0, 0] = 1


def test_normal_quantiles_are_odd_and_have_unit_variance() -> None:
    normal = load_tables()[NORMAL]
    np.testing.assert_array_equal(normal, -normal[::-1])
    assert np.all(np.diff(normal) > 0)
    assert np.mean((normal / 65536) ** 2) == pytest.approx(1.0, abs=0.002)


@pytest.mark.parametrize(
    ("row", "index", "value"),
    [
        (EXP2, 0, 2**30),
        (EXP2, 2048, round(math.sqrt(2) * 2**30)),
        (PROBABILITY, 0, 0),
        (PROBABILITY, 256, round((1 - math.exp(-1)) * ONE_Q20)),
        (PROBABILITY_FINE, 4095, round((1 - math.exp(-4095 / 65536)) * ONE_Q20)),
        (TAIL, 256, round((1 - math.exp(-1)) * ONE_Q20)),
        (TAIL + 1, 256, round((1 - 2 * math.exp(-1)) * ONE_Q20)),
        (TAIL + 6, 7 * 256, round((1 - math.exp(-7) * sum(7**i / math.factorial(i) for i in range(7))) * ONE_Q20)),
    ],
)
def test_values_worked_out_by_hand(row: int, index: int, value: int) -> None:
    assert load_tables()[row, index] == value


def test_fine_and_coarse_probabilities_meet() -> None:
    # The last fine entry stands for 4095/65536, the first coarse one after it for 16/256 = 4096/65536.
    tables = load_tables()
    assert 0 <= tables[PROBABILITY, 16] - tables[PROBABILITY_FINE, 4095] <= 16


def test_tails_fall_with_the_number_and_rise_with_the_load() -> None:
    tails = load_tables()[TAIL:]
    assert np.all(np.diff(tails, axis=0) <= 0)
    assert np.all(np.diff(tails, axis=1) >= 0)
    assert tails.min() >= 0
    assert tails.max() <= ONE_Q20
