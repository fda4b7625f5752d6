"""Features of the row network, worked out by hand from a row of an observation."""

from __future__ import annotations

from math import log

import numpy as np
import pytest

from tyche_env.features import WIDTH, features_of, occupied
from tyche_env.network import FEATURES
from tyche_env.spaces import column

ROW = {
    "arrivals_count": 50,
    "age_s": 9.0,
    "mean_gap_s": 4.0,
    "mean_gap_3_s": 7.0,
    "last_gap_s": 0.5,
    "gap_cov": 1.5,
    "censored_rate_per_s": 0.25,
    "rate_1min_per_s": 0.01,
    "rate_10min_per_s": 0.02,
    "rate_60min_per_s": 0.03,
    "hazard_10s": 0.1,
    "hazard_60s": 0.6,
    "survival": 0.4,
}
EXPECTED = {
    "log_age_s": log(10),
    "log_mean_gap_s": log(5),
    "log_mean_gap_3_s": log(8),
    "log_last_gap_s": log(1.5),
    "log_gap_cov": log(2.5),
    "log_censored_gap_s": log(1 + 4),
    "log_rate_1min_per_h": log(1 + 36),
    "log_rate_10min_per_h": log(1 + 72),
    "log_rate_60min_per_h": log(1 + 108),
    "hazard_10s": 0.1,
    "hazard_60s": 0.6,
    "survival": 0.4,
    # thirty-three arrivals and more say the same
    "log_arrivals": log(1 + 33),
    "log_age_of_mean_gap": log(1 + 9 / 4),
    # gaps below a second count as one
    "log_age_of_last_gap": log(1 + 9 / 1),
    "held": 0.0,
}


def row(**changes: float) -> np.ndarray:
    out = np.zeros(WIDTH, np.float32)
    for name, value in (ROW | changes).items():
        out[column("functions", name)] = value
    return out


def test_each_feature_by_hand() -> None:
    found = dict(zip(FEATURES, features_of(row()).tolist(), strict=True))
    assert found == pytest.approx(EXPECTED, rel=1e-6)


def test_few_arrivals_are_counted_and_short_mean_gaps_count_as_a_second() -> None:
    found = dict(zip(FEATURES, features_of(row(arrivals_count=2, mean_gap_s=0.25)).tolist(), strict=True))
    assert (found["log_arrivals"], found["log_age_of_mean_gap"]) == pytest.approx((log(3), log(10)))


@pytest.mark.parametrize("name", ["running_count", "loading_count", "held_count", "gpu_count"])
def test_a_function_takes_memory_wherever_a_copy_of_it_is(name: str) -> None:
    rows = np.stack([row(), row(**{name: 1})])
    assert occupied(rows).tolist() == [False, True]
    assert features_of(rows)[:, FEATURES.index("held")].tolist() == [0, 1]


@pytest.mark.parametrize("name", ["queued_count", "in_flight_count", "owned_idle_count"])
def test_requests_and_empty_containers_are_no_copies(name: str) -> None:
    assert not occupied(row(**{name: 3}))


def test_whoever_was_never_requested_has_zeros() -> None:
    rows = np.stack([[row(arrivals_count=0, held_count=1), row()]] * 2)
    found = features_of(rows)
    assert found.shape == (2, 2, len(FEATURES))
    assert not found[:, 0].any()
    np.testing.assert_allclose(found[1, 1], list(EXPECTED.values()), rtol=1e-6)
