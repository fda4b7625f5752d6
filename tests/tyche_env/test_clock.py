"""The time of the day that an agent sees is that of the trace's own dates."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

import tyche_env  # noqa: F401  (registers the ids)
from tyche_env.own_scenario import own_scenario
from tyche_env.scenario import Cluster, Scenario
from tyche_env.spaces import CLUSTER_COLUMNS

pytestmark = pytest.mark.filterwarnings("ignore:.*out of date:DeprecationWarning")

BEGIN = datetime(2026, 1, 31, 16, 57, 50, tzinfo=UTC)
DAY_S = 86_400
AT = [column.name for column in CLUSTER_COLUMNS].index("time_of_day_s")


def scenario(folder: Path, first: str | int, unit: str, **more: str) -> Scenario:
    """A request each 10 s for an hour; the first one says when."""
    if isinstance(first, str):
        begin = datetime.fromisoformat(first).timestamp()
        times = [datetime.fromtimestamp(begin + 10 * k, UTC).isoformat() for k in range(361)]
    else:
        times = [str(first + 10 * k) for k in range(361)]
    path = folder / "mine.csv"
    path.write_text("t,f\n" + "".join(f"{time},f\n" for time in times), encoding="utf-8")
    cluster = Cluster.model_validate({"nodes": [{"memory_mb": 8000}]})
    return own_scenario("mine", str(path), "paper", cluster, {"time": "t", "function": "f", "time_unit": unit, **more})


def clock_s(made: Scenario, version: int, steps: int) -> float:
    env = gym.make(f"tyche/Preload-v{version}", scenario=made, split="test")
    seen, _ = env.reset(seed=1, options={"window": 0})
    for _ in range(steps):
        seen, *_ = env.step(np.zeros(env.action_space.shape, np.float32))
    return float(seen["cluster"].reshape(-1)[AT])


def expected_s(made: Scenario, begin: datetime, steps: int) -> float:
    window, decision_s = made.windows("test")[0], 10
    since_midnight_s = begin.hour * 3600 + begin.minute * 60 + begin.second
    return (since_midnight_s + window.start_us / 1e6 + steps * decision_s) % DAY_S


@pytest.mark.parametrize(
    ("first", "unit"), [(BEGIN.isoformat(), "iso"), (int(BEGIN.timestamp()), "s"), ("2026-01-31T23:30:00+00:00", "iso")]
)
def test_it_is_that_of_the_dates_from_version_1_on(tmp_path: Path, first: str | int, unit: str) -> None:
    made = scenario(tmp_path, first, unit)
    begin = BEGIN if isinstance(first, int) else datetime.fromisoformat(first)
    for steps in (0, 30):
        assert clock_s(made, 1, steps) == pytest.approx(expected_s(made, begin, steps), abs=0.01)
        # version 0 keeps what it did: the trace's first request is its midnight
        midnight = begin.replace(hour=0, minute=0, second=0)
        assert clock_s(made, 0, steps) == pytest.approx(expected_s(made, midnight, steps), abs=0.01)


def test_a_trace_without_dates_counts_from_its_start(tmp_path: Path) -> None:
    made = scenario(tmp_path, 7200, "s")
    expected = pytest.approx(expected_s(made, BEGIN.replace(hour=0, minute=0, second=0), 0), abs=0.01)
    assert clock_s(made, 0, 0) == expected
    assert clock_s(made, 1, 0) == expected


@pytest.mark.parametrize(("version", "hour", "minute"), [(0, 8, 0), (1, 7, 59)])
def test_minutes_of_azure_begin_before_their_label(version: int, hour: int, minute: int) -> None:
    made = Scenario.load("azure-8h")  # labels 480 to 959 of a day that counts from 1
    begin = BEGIN.replace(hour=hour, minute=minute, second=0)
    assert clock_s(made, version, 3) == pytest.approx(expected_s(made, begin, 3), abs=0.01)


@pytest.mark.parametrize("version", [0, 1])
def test_a_batch_shows_the_same(tmp_path: Path, version: int) -> None:
    made = scenario(tmp_path, BEGIN.isoformat(), "iso")
    batch = gym.make_vec(
        f"tyche/Preload-v{version}",
        num_envs=2,
        vectorization_mode="vector_entry_point",
        scenario=made,
        split="test",
    )
    seen, _ = batch.reset(seed=[1, 1], options={"window": 0})  # type: ignore[arg-type]
    assert seen["cluster"].reshape(2, -1)[:, AT].tolist() == [clock_s(made, version, 0)] * 2
