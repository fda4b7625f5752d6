"""Replays on a platform that behaves as a genuine OpenWhisk, with each of its faults: every request ends once.

Times of the platform are a fiftieth of the genuine ones, but for how long a log is read.  A fault comes when what it
is to meet is seen to be there.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.evidence.evaluation import evaluate
from agents.evidence.plan import Plan
from real_backend.backend import OpenWhiskBackend, RealSettings
from real_backend.client import Action, ActionSpec, Client, Credentials
from real_backend.containers import cgroup
from real_backend.embedded import EmbeddedPlatform, container_environment
from real_backend.making import Making
from real_backend.native import NativeBackend
from real_backend.platform.config import GENUINE, Limits, NodeSpec, PlatformConfig
from tests.real_backend.worlds import TOYS, toy_scenario, toy_world
from tyche_env.codes import Status
from tyche_env.world import AfterRun, Kernel, StartType, World

pytestmark = pytest.mark.slow

SCALE = 0.02
TIMES = (0.0, *np.arange(4.0, 11.0, 0.8).tolist())
"""Where the platform routes, the first must have ended, or the second would get a container of its own."""
KIND = f"kind:python:3.{sys.version_info.minor}"
"""What actions are made of: one that a genuine OpenWhisk has too."""
LIMIT_S = 4.0
"""Time limit of an action: what a request costs whose container is gone."""
KINDS = {"slots": OpenWhiskBackend, "native": NativeBackend}
both = pytest.mark.parametrize("mode", list(KINDS))


class Site:
    """A platform that behaves as a genuine one, and a backend on it."""

    def __init__(self, folder: Path) -> None:
        self.platform = EmbeddedPlatform(folder)
        config = PlatformConfig(
            nodes=(NodeSpec(name="somewhere", memory_mib=4096),),
            limits=Limits(timeout_min_ms=1),
            environment=container_environment(),
        ).like_openwhisk(SCALE)
        read = config.behaviour.model_copy(update={"log_read_ms": GENUINE.log_read_ms})
        self.credentials: Credentials = self.platform.start(config.model_copy(update={"behaviour": read}))
        self.backend: OpenWhiskBackend | None = None

    def begin(self, mode: str, world: World, payloads: dict[int, dict[str, Any]] | None = None) -> OpenWhiskBackend:
        """A backend at time 0 of a world; some requests have payloads of their own."""
        making = Making.parse(KIND)
        chosen = RealSettings(
            credentials=self.credentials, deployment=making, functions=TOYS, timeout_s=LIMIT_S, preflight=False
        )
        self.backend = KINDS[mode](chosen, lambda _, request: (payloads or {}).get(request, {}))
        self.backend.reset(world)
        return self.backend

    def signal(self, number: int) -> None:
        """Send a signal to all processes of all containers; frozen ones are thawed, or they could not end."""
        hierarchy = cgroup.find()
        if isinstance(hierarchy, cgroup.Hierarchy):
            for group in hierarchy.groups(f"{self.platform.state.platform}-"):
                if group.can_freeze:
                    group.freeze(False)
        label = f"TYCHE_PLATFORM={self.platform.state.platform}".encode()
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if label in (folder / "environ").read_bytes().split(b"\0"):
                    os.kill(int(folder.name), number)

    def log_limits(self) -> set[int]:
        """Of the actions that there are, in MB."""

        async def ask() -> set[int]:
            async with Client(self.credentials) as client:
                return {each.limits["logs"] for each in await client.actions()}

        return asyncio.run(ask())

    def close(self) -> None:
        try:
            if self.backend is not None:
                self.backend.close()
        finally:
            self.platform.stop()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path / "platform")
    yield made
    made.close()


def steady(seconds: Sequence[float] = TIMES) -> World:
    """One function requested again and again, kept after its runs, in one container."""
    arrivals = [(second, 0) for second in seconds]
    return toy_world(arrivals, seconds[-1] + 0.5, node_memory_mb=(400,), after_run_platform=AfterRun.KEEP)


def wait_for(met: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not met():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.02)


def statuses(backend: OpenWhiskBackend, world: World) -> list[Status]:
    """Play what is left; the status of each request, each of which has exactly one record."""
    backend.advance_until_us(world.end_us)
    backend.drain()
    log = backend.log()
    assert sorted(log["request"].tolist()) == list(range(len(world.arrival_us)))
    assert sum(backend.health.statuses.values()) == len(world.arrival_us)
    stages = ("queue", "scheduling", "warming", "library", "model", "transfer", "inference")
    assert (log["arrival_us"] + sum(log[f"{stage}_us"] for stage in stages) == log["end_us"]).all()
    found = np.empty(len(log), np.int64)
    found[log["request"]] = log["status"]
    return [Status(int(status)) for status in found]


def finished(backend: OpenWhiskBackend) -> int:
    """How many requests have ended by now."""
    backend.advance_until_us(0)
    return int(backend.state.cluster["finished"][0])


def start_types(backend: OpenWhiskBackend) -> list[int]:
    found: list[int] = np.sort(backend.log(), order="request")["start_type"].tolist()
    return found


# Requests that queue at one container, so that each call follows upon the answer before.
BURST = (0.0, *(2.0 + 0.02 * k for k in range(12)))


def test_a_slot_is_one_container(site: Site) -> None:
    world = steady(BURST)
    backend = site.begin("slots", world)
    assert site.log_limits() == {0}
    assert set(statuses(backend, world)) == {Status.OK}
    assert start_types(backend) == [StartType.COLD] + [StartType.MEMORY] * (len(BURST) - 1)
    assert backend.health.lost_containers == 0


def test_a_slot_with_a_log_to_be_read_is_none(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    put = Client.put_action

    async def with_log(self: Client, name: str, spec: ActionSpec, *more: Any) -> Action:
        return await put(self, name, spec.model_copy(update={"logs_mib": 10}), *more)

    monkeypatch.setattr(Client, "put_action", with_log)
    world = steady(BURST)
    backend = site.begin("slots", world)
    assert site.log_limits() == {10}
    assert set(statuses(backend, world)) == {Status.OK}
    # nearly every call of the burst met another container than the one before
    assert backend.health.lost_containers >= 8


@both
def test_a_container_that_ends_in_mid_run(site: Site, tmp_path: Path, mode: str) -> None:
    world, runs = steady(), tmp_path / "runs"
    backend = site.begin(mode, world, {4: {"touch": str(runs), "sleep_ms": 1500}})
    again = site.log_limits() == {0}
    backend.advance_until_us(0)
    wait_for(runs.exists)
    runs.unlink()
    site.signal(signal.SIGKILL)
    found = statuses(backend, world)
    # the platform runs it a second time where it reads no log
    assert runs.exists() == again
    assert found[4] == (Status.OK if again else Status.DIED)
    assert found.count(Status.OK) >= len(found) - 1
    if mode == "slots":
        assert backend.health.lost_containers == 1
        assert start_types(backend)[4] == StartType.COLD


@both
def test_a_container_that_ends_while_it_is_idle(site: Site, mode: str) -> None:
    world = steady((0.0, 4.0, 9.0, 9.2, 16.0))
    backend = site.begin(mode, world)
    wait_for(lambda: finished(backend) == 2)
    site.signal(signal.SIGKILL)
    found = statuses(backend, world)
    # nobody noticed: the request that comes next waits in vain for as long as its time limit is
    assert found[2] == Status.DEADLINE
    assert [found[0], found[1], found[4]] == [Status.OK] * 3
    log = np.sort(backend.log(), order="request")
    assert log["end_us"][2] - log["arrival_us"][2] >= LIMIT_S * 1e6
    if mode == "slots":
        assert backend.health.lost_containers == 1


@both
def test_a_container_that_hangs(site: Site, tmp_path: Path, mode: str) -> None:
    world, runs = steady(), tmp_path / "runs"
    backend = site.begin(mode, world, {4: {"touch": str(runs), "sleep_ms": 1000}})
    backend.advance_until_us(0)
    wait_for(runs.exists)
    site.signal(signal.SIGSTOP)
    found = statuses(backend, world)
    assert found[4] == Status.DEADLINE
    assert found[-1] == Status.OK


@both
def test_what_fails_inside_costs_no_container(site: Site, mode: str) -> None:
    world = steady()
    backend = site.begin(mode, world, {2: {"fail": True}, 5: {"exit": 3}, 7: {"numbers": "no list"}})
    found = statuses(backend, world)
    assert [found[k] for k in (2, 5, 7)] == [Status.FAILED, Status.DIED, Status.FAILED]
    assert found.count(Status.OK) == len(found) - 3
    # the action server answers for its functions and never fails itself
    assert backend.health.lost_containers == 0
    if mode == "slots":
        # one container for all; where the platform routes, a slow request may get another one
        assert start_types(backend).count(StartType.COLD) == 1


@both
def test_a_request_longer_than_a_blocking_call(site: Site, mode: str) -> None:
    world = steady((0.0, 1.5, 5.5))
    # 60 s, scaled, are 1.2: the call is answered 202, and the record has to be asked for
    backend = site.begin(mode, world, {1: {"sleep_ms": 1500}})
    assert set(statuses(backend, world)) == {Status.OK}
    assert np.sort(backend.log(), order="request")["inference_us"][1] >= 1_500_000


@both
def test_all_containers_lost_at_once_while_functions_share_them(site: Site, mode: str) -> None:
    seconds, functions = 9.0, ("toy-slow", "toy", "toy-gpu")
    drawn = [(0.1 + 0.5 * k, (k * k + k // 3) % 3) for k in range(17)]
    shared = {"kernel": Kernel.AGENT, "event_mode": False, "displace_percent": 10, "busy_counts": True}
    times = {"keep_alive_us": 4_000_000, "offload_us": 10_000}
    more = {**times, "after_run_platform": AfterRun.KEEP, **(shared if mode == "slots" else {})}
    world = toy_world(drawn, seconds, functions, (800,), **more)
    backend = site.begin(mode, world)
    if mode == "slots":
        backend.set_priorities(np.ones((3, 2), np.int8), np.full((3, 2), 1 << 20))
    wait_for(lambda: finished(backend) >= 4)
    site.signal(signal.SIGKILL)
    found = statuses(backend, world)
    # what served or was being made then died, or was run a second time; what came then waited in vain
    assert set(found) <= {Status.OK, Status.DEADLINE, Status.DIED, Status.PLATFORM}
    assert found.count(Status.OK) >= len(found) / 2
    if mode == "slots":
        assert backend.health.lost_containers >= 1
    else:
        assert Status.DEADLINE in found


@pytest.mark.parametrize("backend", ["openwhisk", "openwhisk-native"])
def test_policies_are_evaluated_on_it(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    monkeypatch.setenv("TYCHE_FUNCTIONS", TOYS)
    monkeypatch.setenv("TYCHE_DEPLOYMENT", KIND)
    monkeypatch.setenv("OW_APIHOST", site.credentials.host)
    monkeypatch.setenv("OW_AUTH", site.credentials.key)
    policies = ("none", "tyche") if backend == "openwhisk" else ("none",)
    plan = Plan(toy_scenario(tmp_path), policies, modes=("paper",), windows=1, backend=backend)
    rows = evaluate(plan, tmp_path / "run").rows
    assert [row["policy"] for row in rows] == list(policies)
    for row in rows:
        assert row["health"]["statuses"].keys() == {"OK"}
        assert row["health"]["lost_containers"] == 0
