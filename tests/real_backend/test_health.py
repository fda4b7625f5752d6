"""What a run on real containers says of itself, from planted lateness, decisions and orders."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from real_backend.health import COLUMNS, Health, Invocation, machine

PLANTED: dict[str, Any] = {
    "statuses": {"OK": 7, "DIED": 2},
    "retries": {"429": 5},
    "lost_containers": 3,
    "lost_residents": 11,
    "failed_loads": 13,
    "where": "a machine",
    "silent_containers": 17,
    "run_twice": 19,
    "perhaps_run_twice": 23,
    "postponed_loads": 29,
    "keep_warm_calls": 31,
    "keep_warm_ms": 37.04,
    "failing_loads": {"f": (41, "no")},
}


def health(late_us: Any, decision_us: Any) -> Health:
    return Health(
        **PLANTED,
        late_us=np.array(late_us, np.int64),
        decision_us=np.array(decision_us, np.float64),
        invocations=(),
        load_average=(0.126, 2.5),
    )


def test_lateness_is_in_ms_at_the_percentile_that_its_name_says() -> None:
    # 0, 1, ... 200 ms, shuffled: the value at p per cent is 2 p
    late_us = np.random.default_rng(0).permutation(201) * 1000
    found = health(late_us, [4.0, 100.0, 7.04]).summary()
    assert found == PLANTED | {
        "keep_warm_ms": 37.0,
        "failing_loads": {"f": [41, "no"]},
        "late_ms_p50": 100.0,
        "late_ms_p99": 198.0,
        "late_ms_max": 200.0,
        "decision_us_p50": 7.0,
        "load_average": [0.13, 2.5],
    }
    assert health([1234], [1.0]).summary()["late_ms_p50"] == 1.234


def test_the_machine_is_told_as_its_cores_and_what_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 48)
    cores, _, model = machine().partition(" x ")
    assert cores == "48"
    assert model


def test_a_run_without_requests_was_not_late() -> None:
    found = health([], []).summary()
    assert [found[name] for name in ("late_ms_p50", "late_ms_p99", "late_ms_max", "decision_us_p50")] == [0.0] * 4


def test_each_value_of_an_invocation_stands_in_the_column_of_its_name() -> None:
    values: dict[str, Any] = {name: number for number, name in enumerate(COLUMNS)} | {"kind": "load"}
    one = health([], [])
    table = Health(
        **PLANTED,
        late_us=one.late_us,
        decision_us=one.decision_us,
        invocations=(Invocation(**values),),
        load_average=(0, 0),
    ).table()
    assert [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]] == [values]
