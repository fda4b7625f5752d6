"""OpenWhisk as it is, behind the environment: on an embedded platform of processes, with toy functions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from agents.evidence.evaluation import evaluate
from agents.evidence.plan import Plan
from agents.playing.runs import EvaluationError
from real_backend.backend import RealSettings
from real_backend.native import NativeBackend
from tests.real_backend.worlds import TOYS, toy_scenario, toy_world
from tyche_env.backend import BackendError
from tyche_env.world import AfterRun, Decision, Kernel, Prewarm, StartType


@pytest.fixture
def backend() -> Iterator[NativeBackend]:
    made = NativeBackend(RealSettings(functions=TOYS))
    yield made
    made.close()


def test_containers_are_kept_alive_by_the_platform_and_serve_one_function_each(backend: NativeBackend) -> None:
    world = toy_world([(0.0, 0), (2.0, 0), (2.5, 1), (8.0, 0)], 8.5, ("toy-slow", "toy"), keep_alive_us=3_000_000)
    backend.reset(world)
    backend.advance_until_us(8_500_000)
    events = backend.drain()
    log = np.sort(backend.log(), order="request")
    # the second function does not find the first one's container, and the last request comes after the keep-alive
    assert log["start_type"].tolist() == [StartType.COLD, StartType.WARM, StartType.COLD, StartType.COLD]
    assert (log["status"] == 0).all()
    assert (log["warming_us"] > 0).tolist() == [True, False, True, True]
    assert (log["library_us"][[0, 1, 3]] >= 150_000).all()
    assert len(set(log["container"].tolist())) == 3
    assert log["container"][0] == log["container"][1]
    assert (log["node"] == 0).all()
    stages = ("queue", "scheduling", "warming", "library", "model", "transfer", "inference")
    assert (log["arrival_us"] + sum(log[f"{stage}_us"] for stage in stages) == log["end_us"]).all()
    assert events.now_us >= 8_500_000


def test_processes_are_kept_where_the_platform_keeps_them(backend: NativeBackend) -> None:
    backend.reset(toy_world([(0.0, 0), (2.5, 0)], 3.0, after_run_platform=AfterRun.KEEP))
    backend.drain()
    log = np.sort(backend.log(), order="request")
    assert log["start_type"].tolist() == [StartType.COLD, StartType.MEMORY]
    assert log["kept"].tolist() == [0, 1]
    assert log["library_us"][1] + log["model_us"][1] == 0


def test_memory_of_containers_is_watched(backend: NativeBackend) -> None:
    backend.reset(toy_world([(0.0, 0)], 5.0))
    backend.advance_until_us(5_000_000)
    backend.drain()
    used_mb_s = sum(int(column.sum()) for column in backend.integrals().values()) / 1e6
    # a container of 400 MB, there for the four seconds after its start
    assert 400 <= used_mb_s <= 2_200


def test_nothing_is_held_ahead_of_requests(backend: NativeBackend) -> None:
    with pytest.raises(BackendError, match="holds nothing ahead of requests, so only policy none works there"):
        backend.reset(toy_world([(0.0, 0)], 1.0, kernel=Kernel.LRU))
    with pytest.raises(BackendError, match="only prewarm: openwhisk works there"):
        backend.reset(toy_world([(0.0, 0)], 1.0, prewarm=Prewarm.HISTOGRAM))
    backend.reset(toy_world([(0.0, 0)], 1.0))
    with pytest.raises(BackendError, match="use backend openwhisk"):
        backend.set_priorities(np.full((1, 2), Decision.HOLD, np.int8), np.ones((1, 2), np.int64))


def test_policies_that_hold_are_refused_before_anything_starts(tmp_path: Path) -> None:
    plan = Plan(toy_scenario(tmp_path), ("none", "tyche"), backend="openwhisk-native")
    with pytest.raises(EvaluationError, match="only none works there, got tyche"):
        plan.validated()


@pytest.mark.slow
def test_the_baseline_is_evaluated_on_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TYCHE_FUNCTIONS", TOYS)
    monkeypatch.delenv("OW_APIHOST", raising=False)
    plan = Plan(toy_scenario(tmp_path), ("none",), modes=("paper", "realistic"), windows=1, backend="openwhisk-native")
    rows = evaluate(plan, tmp_path / "run").rows
    assert [row["mode"] for row in rows] == ["paper", "realistic"]
    for row in rows:
        assert row["backend"] == "openwhisk-native"
        assert row["health"]["statuses"].keys() == {"OK"}
        assert row["cold_rate"] == 1.0
