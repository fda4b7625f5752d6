"""The real backend on its own embedded platform of processes, with toy functions."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import gymnasium as gym
import numpy as np
import pytest

from agents import load
from agents.evidence.evaluation import evaluate
from agents.evidence.plan import Plan
from agents.experiments.fidelity import Study, study
from real_backend.backend import OpenWhiskBackend, RealSettings, _Loop
from real_backend.calibration import calibrate
from tests.real_backend.worlds import TOYS, busy_world, toy_scenario, toy_world
from tyche_env.backend import BackendError
from tyche_env.conformance import CHECKS, CheckFunction
from tyche_env.scenario import Scenario
from tyche_env.world import AfterRun, Kernel, StartType

ROOT = Path(__file__).parents[2]
TOLERANCE_S = 1.5
"""Measured times on a machine that others use, too."""


def make() -> OpenWhiskBackend:
    return OpenWhiskBackend(RealSettings(functions=TOYS))


@pytest.fixture
def backend() -> Iterator[OpenWhiskBackend]:
    made = make()
    yield made
    made.close()


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_it_conforms(check: CheckFunction) -> None:
    check(make, busy_world(), TOLERANCE_S)


def test_a_request_is_cold_then_warm_and_its_measured_stages_add_up(backend: OpenWhiskBackend) -> None:
    backend.reset(toy_world([(0.0, 0), (3.0, 0)], 3.5))
    backend.advance_until_us(3_500_000)
    backend.drain()
    log = backend.log()
    assert log["start_type"].tolist() == [StartType.COLD, StartType.WARM]
    assert (log["library_us"] >= 150_000).all()
    assert (log["model_us"] >= 250_000).all()
    assert (log["inference_us"] >= 20_000).all()
    assert log["warming_us"][0] > 0
    assert log["warming_us"][1] == 0
    stages = ("queue", "scheduling", "warming", "library", "model", "transfer", "inference")
    assert (log["arrival_us"] + sum(log[f"{stage}_us"] for stage in stages) == log["end_us"]).all()
    assert (log["status"] == 0).all()


def test_what_is_kept_or_loaded_ahead_costs_nothing(backend: OpenWhiskBackend) -> None:
    world = toy_world(
        [(0.0, 0), (3.0, 0), (4.0, 1), (8.0, 0)],
        8.5,
        ("toy-slow", "toy-slow"),
        (400,),
        kernel=Kernel.AGENT,
        event_mode=False,
        after_run_preloader=AfterRun.KEEP,
    )
    backend.reset(world)
    backend.advance_until_us(6_000_000)
    # the second function's container has taken the place of the first one's; both functions are wanted now
    backend.set_priorities(np.ones((2, 2), np.int8), np.full((2, 2), 1 << 20))
    backend.advance_until_us(7_500_000)
    assert backend.counters()["loads"] == 1
    backend.advance_until_us(world.end_us)
    backend.drain()
    log = backend.log()
    assert log["start_type"].tolist() == [StartType.COLD, StartType.MEMORY, StartType.COLD, StartType.MEMORY]
    assert log["kept"].tolist() == [0, 1, 0, 0]
    for request in (1, 3):
        assert log["library_us"][request] + log["model_us"][request] + log["warming_us"][request] == 0
    assert backend.health.failed_loads == 0


def test_functions_of_one_profile_are_processes_of_their_own(backend: OpenWhiskBackend) -> None:
    backend.reset(toy_world([(0.0, 0), (3.0, 1)], 3.5, ("toy", "toy"), (400,), after_run_platform=AfterRun.KEEP))
    backend.drain()
    assert backend.log()["start_type"].tolist() == [StartType.COLD, StartType.COLD]
    assert backend.counters()["evictions"] == 1


def test_lateness_and_the_time_of_decisions_are_recorded(backend: OpenWhiskBackend) -> None:
    backend.reset(toy_world([(0.0, 0), (0.2, 0)], 0.5))
    backend.drain()
    health = backend.health
    assert health.statuses == {"OK": 2}
    assert len(health.late_us) == 2
    assert (health.late_us >= 0).all()
    assert len(health.decision_us) >= 4


@pytest.mark.parametrize(
    ("profile", "row", "message"),
    [
        ("no-such", {}, "declares no function 'no-such'; it has toy"),
        ("toy-big", {}, "toy-big declares 520 MB held and 1000 MB at the peak; its profile has only 60 and 80"),
    ],
)
def test_functions_that_cannot_run_are_refused(
    backend: OpenWhiskBackend, profile: str, row: dict[str, int], message: str
) -> None:
    with pytest.raises(BackendError, match=message):
        backend.reset(toy_world([(0.0, 0)], 1.0, (profile,)))


def test_the_environment_names_what_it_runs_on() -> None:
    settings = RealSettings.from_environment(
        {"OW_APIHOST": "http://here:3233", "OW_AUTH": "a:b", "TYCHE_GPUS": "0,1", "TYCHE_FUNCTIONS": TOYS}
    )
    assert settings.credentials is not None
    assert settings.credentials.base == "http://here:3233"
    assert settings.gpus == ("0", "1")
    assert settings.functions == TOYS
    with pytest.raises(BackendError, match="TYCHE_CONTAINERS: there are process and docker, got 'podman'"):
        RealSettings.from_environment({"TYCHE_CONTAINERS": "podman"})
    with pytest.raises(BackendError, match=r"^TYCHE_ENGINE: is now TYCHE_CONTAINERS$"):
        RealSettings.from_environment({"TYCHE_ENGINE": "docker"})


@pytest.fixture
def scenario(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scenario:
    """A few seconds of two toys; the backend's entry point finds them by its environment."""
    monkeypatch.setenv("TYCHE_FUNCTIONS", TOYS)
    monkeypatch.delenv("OW_APIHOST", raising=False)
    return toy_scenario(tmp_path)


@pytest.mark.slow
def test_the_environment_runs_on_it_at_intervals(scenario: Scenario) -> None:
    env = gym.make(
        "tyche_env:tyche/Preload-v1",
        scenario=scenario,
        backend="openwhisk",
        split="test",
        decision_interval_s=1.0,
        disable_env_checker=True,
    )
    policy = load("tyche")
    try:
        observation, info = env.reset(seed=0, options={"window": 0})
        reward_sum, steps, truncated = 0.0, 0, False
        while not truncated:
            action, _ = policy.predict(observation, None, None, True)
            observation, reward, _, truncated, info = env.step(action)
            reward_sum, steps = reward_sum + float(reward), steps + 1
        result = cast(Any, env.unwrapped).result()
        log = cast(Any, env.unwrapped).backend.log()
    finally:
        env.close()
    assert steps == 9
    waited_us = log["end_us"] - log["inference_us"] - log["arrival_us"]
    assert reward_sum == pytest.approx(-waited_us.sum() / 1e6)
    assert info["time_s"] == 9.0
    assert len(result.log) <= len(log)


@pytest.mark.slow
def test_policies_are_evaluated_on_it_at_events(scenario: Scenario, tmp_path: Path) -> None:
    plan = Plan(scenario, ("none", "tyche"), modes=("paper",), windows=1, record="all", backend="openwhisk")
    rows = evaluate(plan, tmp_path / "run").rows
    assert [row["policy"] for row in rows] == ["none", "tyche"]
    for row in rows:
        assert row["backend"] == "openwhisk"
        assert row["health"]["statuses"].keys() == {"OK"}
        assert row["health"]["late_ms_p99"] >= 0
    assert rows[0]["requests"] == rows[1]["requests"]


@pytest.mark.slow
def test_a_killed_user_leaves_neither_platform_nor_files() -> None:
    program = (
        "import os, signal\n"
        "from real_backend.backend import OpenWhiskBackend, RealSettings\n"
        "from tests.real_backend.worlds import TOYS, toy_world\n"
        "backend = OpenWhiskBackend(RealSettings(functions=TOYS))\n"
        "backend.reset(toy_world([(0.0, 0)], 1.0))\n"
        "backend.advance_until_us(2_000_000)\n"
        "print(backend._site.platform.pid, backend._site.platform.state.folder, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == -signal.SIGKILL, done.stderr
    process, folder = done.stdout.split()
    left = [Path("/proc") / process, Path(folder)]
    deadline = time.monotonic() + 30
    while any(each.exists() for each in left) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(each.exists() for each in left)


@pytest.mark.slow
def test_one_window_is_played_on_both_backends(scenario: Scenario, tmp_path: Path) -> None:
    plan = Plan(scenario, ("none", "tyche"), modes=("paper",), windows=1)
    found = study(Study(plan, repetitions=2, draws=3), tmp_path / "both")
    for condition in found["conditions"]:
        assert condition["requests"] > 0
        assert condition["statuses"].keys() == {"OK"}
        inference = condition["times"]["inference"]
        assert 0 < inference["real"]["p50"] < 20 == inference["simulated"]["p50"]
    fitted = calibrate(tmp_path / "both" / "real-1")
    assert fitted.profiles[0].library_ms >= 150
    assert fitted.delays["scheduling_ms"] > 0


def test_an_interrupted_call_leaves_nothing_running() -> None:
    ended = threading.Event()

    async def wait() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    loop = _Loop()
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(KeyboardInterrupt):
            loop.call(wait())
        assert ended.wait(10)
    finally:
        signal.signal(signal.SIGALRM, before)
        loop.close()
