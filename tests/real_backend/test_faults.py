"""Faults injected during a replay: every request ends in exactly one record with a status, and the state heals.

A fault comes when what it is to meet is seen to be there, never at a time by which it should be: on a machine that
others use everything may take several times as long.  Where a request must not find a second container, the node has
room for one only, and the others wait.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from real_backend.backend import OpenWhiskBackend, RealSettings
from real_backend.client import Backoff, Client, ContainerInfo, Credentials
from real_backend.embedded import EmbeddedPlatform, container_environment
from real_backend.platform.config import NodeSpec, PlatformConfig
from tests.real_backend.worlds import TOYS, toy_world
from tyche_env.codes import Status
from tyche_env.state import ClusterState
from tyche_env.world import AfterRun, Kernel, StartType, World

pytestmark = pytest.mark.slow

SECONDS = 8.0
ONE = (400,)
"""Memory of a node with room for one container."""
FOREVER_MS = 600_000
TIMES = tuple(np.arange(0.0, SECONDS - 0.5, 0.8).tolist())


class Site:
    """A platform that is there before the backend, and a backend on it."""

    def __init__(self, folder: Path) -> None:
        self.platform = EmbeddedPlatform(folder)
        self.config = PlatformConfig(
            nodes=(NodeSpec(name="invoker0", memory_mib=1024),),
            pause_after_s=None,
            keep_alive_s=None,
            worker_arguments=("--functions", TOYS),
            environment=container_environment(),
        )
        self.credentials: Credentials | None = None
        self.backend: OpenWhiskBackend | None = None

    def start(self, **changes: Any) -> None:
        self.config = self.config.model_copy(update=changes)
        port = int(self.credentials.base.rpartition(":")[2]) if self.credentials is not None else 0
        self.credentials = self.platform.start(self.config, port)

    def begin(
        self,
        world: World,
        payloads: Mapping[int, dict[str, Any]] | None = None,
        transport: Callable[[], httpx.AsyncBaseTransport] | None = None,
        **settings: Any,
    ) -> OpenWhiskBackend:
        """A backend at time 0 of a world; some requests have payloads of their own."""
        if self.credentials is None:
            self.start()
        chosen = RealSettings(credentials=self.credentials, functions=TOYS, **settings)
        self.backend = OpenWhiskBackend(chosen, lambda _, request: (payloads or {}).get(request, {}), transport)
        self.backend.reset(world)
        return self.backend

    def containers(self) -> list[ContainerInfo]:
        async def ask() -> list[ContainerInfo]:
            assert self.credentials is not None
            async with Client(self.credentials) as client:
                return await client.containers()

        return asyncio.run(ask())

    def signal_container(self, number: int) -> None:
        """Send a signal to the action servers of all containers."""
        labels = {f"TYCHE_CONTAINER={each.id}".encode() for each in self.containers()}
        for folder in Path("/proc").iterdir():
            with suppress(OSError):
                if folder.name.isdigit() and labels & set((folder / "environ").read_bytes().split(b"\0")):
                    os.kill(int(folder.name), number)

    def until(self, met: Callable[[ClusterState], bool]) -> None:
        """Let time pass until the core's tables, as of now, are as they shall be."""
        assert self.backend is not None
        backend = self.backend

        def look() -> bool:
            backend.advance_until_us(0)
            return met(backend.state)

        wait_for(look)

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


def steady(seconds: Sequence[float] = TIMES, **more: Any) -> World:
    """One function requested again and again, kept after its runs."""
    arrivals = [(second, 0) for second in seconds]
    return toy_world(arrivals, max(SECONDS, seconds[-1] + 0.5), after_run_platform=AfterRun.KEEP, **more)


def wait_for(met: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not met():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.02)


Statuses = Callable[[OpenWhiskBackend, World], list[Status]]


@pytest.fixture
def statuses(record_property: Callable[[str, object], None]) -> Statuses:
    """Plays what is left; the status of each request.  The counts go into the test's report."""

    def play(backend: OpenWhiskBackend, world: World) -> list[Status]:
        found = _statuses(backend, world)
        record_property("health", backend.health.summary())
        return found

    return play


def _statuses(backend: OpenWhiskBackend, world: World) -> list[Status]:
    """Play what is left; the status of each request, each of which has exactly one record."""
    backend.advance_until_us(world.end_us)
    backend.drain()
    log = backend.log()
    assert sorted(log["request"].tolist()) == list(range(len(world.arrival_us)))
    health = backend.health
    assert sum(health.statuses.values()) == len(world.arrival_us)
    assert not backend.state.functions["in_flight"].any()
    found = np.empty(len(log), np.int64)
    found[log["request"]] = log["status"]
    stages = ("queue", "scheduling", "warming", "library", "model", "transfer", "inference")
    assert (log["arrival_us"] + sum(log[f"{stage}_us"] for stage in stages) == log["end_us"]).all()
    return [Status(int(status)) for status in found]


def test_a_container_killed_while_it_serves(site: Site, statuses: Statuses, tmp_path: Path) -> None:
    world = steady(node_memory_mb=ONE)
    runs = tmp_path / "runs"
    backend = site.begin(world, {4: {"touch": str(runs), "sleep_ms": FOREVER_MS}}, timeout_s=300)
    backend.advance_until_us(0)
    wait_for(runs.exists)
    site.signal_container(signal.SIGKILL)
    found = statuses(backend, world)
    assert found[4] == Status.DIED
    assert set(found) == {Status.OK, Status.DIED}
    assert found.count(Status.DIED) == 1
    assert backend.health.lost_containers == 1


def test_a_container_killed_while_it_is_idle(site: Site, statuses: Statuses) -> None:
    world = steady((0.0, 0.8, 8.0, 9.0), node_memory_mb=ONE)
    backend = site.begin(world)
    site.until(lambda state: state.cluster["finished"][0] == 2)
    assert backend.state.functions["held_copies"].sum() == 1
    site.signal_container(signal.SIGKILL)
    site.until(lambda state: state.functions["held_copies"].sum() == 0)
    assert set(statuses(backend, world)) == {Status.OK}
    assert backend.health.lost_containers == 1
    assert backend.health.lost_residents == 1
    # the platform makes a new container by itself
    assert backend.log()["start_type"].tolist() == [4, 1, 4, 1]


def test_a_run_out_of_memory(site: Site, statuses: Statuses) -> None:
    world = steady()
    backend = site.begin(world, {4: {"allocate_mb": 900}})
    found = statuses(backend, world)
    if found[4] == Status.OK:
        pytest.skip("memory is not limited here")
    assert found[4] == Status.OUT_OF_MEMORY
    assert found.count(Status.OK) == len(found) - 1


def test_a_load_that_fails(site: Site, statuses: Statuses) -> None:
    arrivals = [(second, 0) for second in (0.0, 2.5, 4.0, 5.5, 7.0)] + [(4.6, 1), (6.2, 1)]
    world = toy_world(
        arrivals,
        SECONDS,
        ("toy-slow", "toy-corrupt"),
        kernel=Kernel.AGENT,
        event_mode=False,
        after_run_preloader=AfterRun.KEEP,
    )
    backend = site.begin(world, preflight=False)
    site.until(lambda state: state.cluster["finished"][0] >= 1)
    backend.set_priorities(np.ones((2, 2), np.int8), np.full((2, 2), 1 << 20))
    found = statuses(backend, world)
    corrupt = world.arrival_function == 1
    assert {s for s, bad in zip(found, corrupt, strict=True) if bad} == {Status.CORRUPT_MODEL}
    assert {s for s, bad in zip(found, corrupt, strict=True) if not bad} == {Status.OK}
    assert backend.health.failed_loads >= 1


def test_the_platform_restarted(site: Site, statuses: Statuses, tmp_path: Path) -> None:
    world = steady(node_memory_mb=ONE)
    runs = tmp_path / "runs"
    patience = Backoff(attempts=100, first_s=0.1, longest_s=1.0)
    backend = site.begin(world, {5: {"touch": str(runs), "sleep_ms": FOREVER_MS}}, timeout_s=300, backoff=patience)
    backend.advance_until_us(0)
    wait_for(runs.exists)
    site.platform.kill()
    site.start()
    found = statuses(backend, world)
    assert found[5] == Status.CONNECTION_LOST
    assert found[-1] == Status.OK
    assert set(found) <= {Status.OK, Status.CONNECTION_LOST}
    assert backend.health.lost_containers >= 1


class Faulty(httpx.AsyncHTTPTransport):
    """Answers some invocations itself: by what their bodies say, and so many times."""

    def __init__(self, rule: Callable[[bytes, int], int | None]) -> None:
        super().__init__()
        self.seen = 0
        self._rule = rule

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.method != "POST" or "/actions/" not in request.url.path:
            return await super().handle_async_request(request)
        self.seen += 1
        status = self._rule(await request.aread(), self.seen)
        if status == 0:
            await (await super().handle_async_request(request)).aread()
            raise httpx.ReadError("the connection broke")
        if status is not None:
            return httpx.Response(status, json={"error": "not now", "code": "x"}, request=request)
        return await super().handle_async_request(request)


def test_refusals_for_load_are_repeated_and_counted(site: Site, statuses: Statuses) -> None:
    world = steady()
    rule = {3: 429, 6: 503, 9: 429}
    backend = site.begin(world, transport=lambda: Faulty(lambda _, seen: rule.get(seen)))
    assert set(statuses(backend, world)) == {Status.OK}
    assert backend.health.retries == {"429": 2, "503": 1}


def test_refusals_without_end(site: Site, statuses: Statuses) -> None:
    world = steady()
    backend = site.begin(
        world,
        {4: {"refuse": True}},
        lambda: Faulty(lambda body, _: 503 if b"refuse" in body else None),
        backoff=Backoff(attempts=3, first_s=0.05),
    )
    found = statuses(backend, world)
    assert found[4] == Status.REFUSED
    assert found.count(Status.OK) == len(found) - 1
    assert backend.health.retries == {"503": 2}
    # the container is still what it was
    assert backend.health.lost_containers == 0


def test_a_lost_connection(site: Site, statuses: Statuses) -> None:
    world = steady(node_memory_mb=ONE)
    backend = site.begin(world, {4: {"break": True}}, lambda: Faulty(lambda body, _: 0 if b"break" in body else None))
    found = statuses(backend, world)
    assert found[4] == Status.CONNECTION_LOST
    assert found.count(Status.OK) == len(found) - 1
    # whether the container still serves is not known, so another one takes its place
    assert backend.log()["start_type"][5] == StartType.COLD


def test_a_request_past_its_deadline(site: Site, statuses: Statuses) -> None:
    world = steady()
    backend = site.begin(world, {4: {"sleep_ms": FOREVER_MS}}, timeout_s=8.0)
    found = statuses(backend, world)
    assert found[4] == Status.DEADLINE
    assert found.count(Status.OK) == len(found) - 1
    # the action server answered in time, so that its container lives on
    assert backend.health.lost_containers == 0


def test_a_container_that_hangs(site: Site, statuses: Statuses, tmp_path: Path) -> None:
    world = steady(node_memory_mb=ONE)
    runs = tmp_path / "runs"
    backend = site.begin(world, {4: {"touch": str(runs), "sleep_ms": 2000}}, timeout_s=8.0)
    backend.advance_until_us(0)
    wait_for(runs.exists)
    site.signal_container(signal.SIGSTOP)
    found = statuses(backend, world)
    assert found[4] == Status.DEADLINE
    assert found[-1] == Status.OK
    assert backend.health.lost_containers == 1


def test_paused_containers_wake_up(site: Site, statuses: Statuses) -> None:
    site.start(pause_after_s=0.1)
    world = steady((0.0, 1.0, 9.0), node_memory_mb=ONE)
    backend = site.begin(world)
    site.until(lambda state: state.cluster["finished"][0] == 2)
    wait_for(lambda: [each.state for each in site.containers()] == ["paused"])
    assert set(statuses(backend, world)) == {Status.OK}
    assert backend.log()["start_type"].tolist() == [4, 1, 1]
    assert backend.health.lost_containers == 0


def test_nothing_stays_on_a_platform_that_is_not_ours(site: Site) -> None:
    world = steady(node_memory_mb=ONE)
    backend = site.begin(world)
    site.until(lambda state: state.cluster["finished"][0] >= 1)
    assert len(site.containers()) == 1
    backend.close()
    assert site.containers() == []
