"""The model of contention run backwards."""

from __future__ import annotations

import numpy as np
import pytest

from real_backend.unsharing import alone_us


def test_stages_that_share_have_done_less_than_they_took() -> None:
    begin, end = np.array([0.0, 0.0, 10.0, 50.0]), np.array([30.0, 30.0, 20.0, 60.0])
    # from 10 to 20 three stages share two cores
    expected = [20 + 10 * 2 / 3, 20 + 10 * 2 / 3, 10 * 2 / 3, 10.0]
    assert alone_us(begin, end, 2).tolist() == pytest.approx(expected)
    assert alone_us(begin, end, 1).tolist() == pytest.approx([10 / 2 + 10 / 3 + 10 / 2] * 2 + [10 / 3, 10.0])
    assert alone_us(begin, end, None).tolist() == [30.0, 30.0, 10.0, 10.0]


def test_a_stage_of_no_length_disturbs_nobody() -> None:
    begin, end = np.array([0.0, 5.0]), np.array([10.0, 5.0])
    assert alone_us(begin, end, 1).tolist() == [10.0, 0.0]
    assert alone_us(np.zeros(0), np.zeros(0), 1).tolist() == []
