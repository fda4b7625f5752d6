"""Means over draws, and their intervals over functions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from agents.experiments import pooled


def result(draw: int, functions: list[int], requests: list[float], ms: list[float]) -> dict[str, Any]:
    zeros = [0.0] * len(functions)
    return {
        "draw": f"d{draw}",
        "by_function": {
            "function": functions,
            "requests": requests,
            "warming_loading_ms": ms,
            "queue_ms": zeros,
            "pieces": [1.0] * len(functions),
            "piece_ms": [a / b for a, b in zip(ms, requests, strict=True)],
        },
    }


def test_every_request_counts_once_whatever_its_draw() -> None:
    # Means 10 ms over 1 request and 40 ms over 9 requests.
    rows = [result(0, [1], [1], [10]), result(1, [2], [9], [360])]
    assert pooled.mean(rows).mean == pytest.approx(37)


def test_the_mean_over_functions_counts_each_piece_once() -> None:
    assert pooled.mean([result(0, [1, 2], [1, 9], [10, 180])], "piece_ms", "pieces").mean == pytest.approx(15)


def test_few_functions_give_no_interval() -> None:
    assert pooled.mean([result(0, [1, 2], [1, 1], [10, 20])]).interval is None


def test_an_interval_covers_the_mean_and_narrows_with_more_functions() -> None:
    random = np.random.default_rng(1)

    def width(functions: int) -> float:
        rows = [result(0, list(range(functions)), [5.0] * functions, (5 * random.exponential(100, functions)).tolist())]
        found = pooled.mean(rows)
        assert found.interval is not None
        low, high = found.interval
        assert low < found.mean < high
        return high - low

    assert width(400) < width(25)


def test_pairing_removes_what_both_sides_share() -> None:
    ms = np.random.default_rng(2).exponential(1000, 40)
    rows = [result(0, list(range(40)), [1.0] * 40, (ms - 1).tolist())]
    others = [result(0, list(range(40)), [1.0] * 40, ms.tolist())]
    gap = pooled.difference(rows, others)
    assert gap.mean == pytest.approx(-1)
    assert gap.clear_of_zero
    assert pooled.significantly_below(rows, others) == ["request", "function"]
    assert pooled.significantly_below(others, rows) == []


def test_different_draws_cannot_be_paired() -> None:
    with pytest.raises(ValueError, match="different draws"):
        pooled.difference([result(0, [1], [1], [1])], [result(1, [1], [1], [1])])


def test_a_ratio_to_nothing_is_none() -> None:
    rows, zeros = [result(0, [1], [1], [1])], [result(0, [1], [1], [0])]
    assert pooled.ratio(rows, zeros) is None


def test_a_mean_below_that_is_not_clear_of_zero_is_not_significantly_below() -> None:
    ms = np.full(40, 1000.0)
    # half of the functions gain 30 ms, the other half lose 20: the mean is 5 ms below, and could be 0
    gaps = np.where(np.arange(40) % 2, -30.0, 20.0)
    rows, others = ([result(0, list(range(40)), [1.0] * 40, values.tolist())] for values in (ms + gaps, ms))
    gap = pooled.difference(rows, others)
    assert gap.mean == pytest.approx(-5)
    assert gap.low is not None
    assert gap.high is not None
    assert gap.low < 0 < gap.high
    assert pooled.significantly_below(rows, others) == []
