"""Slots on a platform that looks like a genuine OpenWhisk: what a record says, who answered, what is left."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from real_backend.backend import OpenWhiskBackend, RealSettings
from real_backend.client import Activation, Client, Credentials
from real_backend.native import NativeBackend
from real_backend.preflight import Homes
from real_backend.replay import Patience
from real_backend.slots import Deployment, Place, Slot, reply_of
from tests.real_backend.genuine import Genuine
from tests.real_backend.worlds import TOYS, toy_platform, toy_world
from tyche_env.backend import BackendError
from tyche_env.codes import Status
from tyche_env.world import AfterRun, Kernel, StartType, World

PLACE = Place("invoker0", 382)
LOAD = {"op": "load", "function": "toy"}
STATUS = {"op": "status"}


def record(result: Any, annotations: dict[str, Any], status: str = "success") -> Activation:
    return Activation.model_validate(
        {
            "activationId": "a" * 32,
            "namespace": "guest",
            "name": "slot",
            "start": 1_796_000_000_000,
            "response": {"status": status, "success": status == "success", "result": result},
            "annotations": [{"key": key, "value": value} for key, value in annotations.items()],
        }
    )


BODY = {"ok": True, "boot_id": "b1", "machine_id": "m1", "gpu_uuid": None, "runs": 3, "residents": []}


def test_making_a_container_is_what_a_cold_call_waited_and_its_initialisation() -> None:
    # a cold call of the recorded runs: waitTime 250 to 590 ms has `docker run` in it
    cold = reply_of(record(BODY, {"waitTime": 412, "initTime": 38}))
    assert (cold.fresh, cold.warming_us, cold.wait_us) == (True, 450_000, 0)
    # with the action server beside the runtime, which starts in the first run
    assert reply_of(record({**BODY, "server_ms": 150.5}, {"waitTime": 412, "initTime": 38})).warming_us == 600_500
    # a paused one: 40 ms, which are scheduling
    warm = reply_of(record(BODY, {"waitTime": 41}))
    assert (warm.fresh, warm.warming_us, warm.wait_us) == (False, 0, 0)
    assert (warm.boot, warm.container, warm.node, warm.home, warm.runs) == ("b1", None, None, "m1", 3)


def test_the_embedded_platform_tells_making_a_container_from_waiting_for_one() -> None:
    told = {"container": "c", "node": "invoker0", "start": "cold", "createTime": 300.0}
    cold = reply_of(record(BODY, {"waitTime": 1412, "initTime": 38, "tyche": told}))
    assert (cold.warming_us, cold.wait_us, cold.container, cold.node) == (338_000, 1_112_000, "c", "invoker0")
    warm = reply_of(record(BODY, {"waitTime": 41, "tyche": {**told, "start": "warm"}}))
    assert (warm.warming_us, warm.wait_us) == (0, 41_000)


def test_of_a_failure_openwhisk_keeps_the_error_alone_and_that_says_who_answered() -> None:
    error = {"code": "corrupt_model", "message": "toy: no", "container": BODY}
    reply = reply_of(record({"error": error}, {"waitTime": 5}, "application error"))
    assert (reply.status, reply.message, reply.boot) == (Status.CORRUPT_MODEL, "toy: no", "b1")


def test_what_is_left_of_an_action_server_that_died_says_so() -> None:
    error = {"code": "died", "message": "ConnectionRefusedError: gone"}
    reply = reply_of(record({"error": error}, {"waitTime": 5}, "application error"))
    assert (reply.status, reply.message, reply.boot) == (Status.DIED, "ConnectionRefusedError: gone", None)


@pytest.fixture(scope="module")
def platform() -> Iterator[Credentials]:
    with toy_platform(1600) as credentials:
        yield credentials


class Odd(Genuine):
    """A genuine one on which calls can be sent elsewhere, sent twice, or never answered."""

    def __init__(self) -> None:
        super().__init__(self._wait_longer)
        self.elsewhere: str | None = None
        self.twice = False
        self.silent = False
        self.wait_ms = 0

    def _wait_longer(self, found: dict[str, Any]) -> None:
        for each in found["annotations"]:
            if each["key"] == "waitTime":
                each["value"] += self.wait_ms

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.method == "POST" and "/actions/" in request.url.path:
            if self.silent:
                await asyncio.sleep(3600)
            if self.twice:
                await super().handle_async_request(request)
            if self.elsewhere is not None:
                head = request.url.path.rpartition("/")[0]
                url = request.url.copy_with(path=f"{head}/{self.elsewhere}")
                request = httpx.Request("POST", url, headers=request.headers, content=await request.aread())
        return await super().handle_async_request(request)


@contextlib.asynccontextmanager
async def deployed(platform: Credentials) -> AsyncIterator[tuple[Deployment, Odd]]:
    odd = Odd()
    async with Client(platform, transport=odd) as client:
        deployment = Deployment(client, False, 60.0, declared=TOYS)
        try:
            yield deployment, odd
        finally:
            odd.silent = odd.twice = False
            odd.elsewhere = None
            assert await deployment.close() == []


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.anyio
async def test_a_slot_that_is_given_up_is_emptied_and_used_again(platform: Credentials) -> None:
    async with deployed(platform) as (deployment, odd):
        first = Slot(deployment, PLACE)
        loaded = await first.invoke(LOAD)
        assert loaded.held == frozenset({"toy"})
        await first.remove()
        second = Slot(deployment, PLACE)
        reply = await second.invoke(STATUS)
        # the same container, which holds nothing any more, and no second action
        assert (reply.boot, reply.held, reply.fresh, reply.lost) == (loaded.boot, frozenset(), False, False)
        assert len(odd.actions) == 1
        assert odd.deleted == []
        assert not deployment.counts


@pytest.mark.anyio
async def test_a_slot_that_cannot_be_emptied_is_not_used_again_at_once(
    platform: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("real_backend.slots._OFFLOAD_S", 0.3)
    async with deployed(platform) as (deployment, odd):
        first = Slot(deployment, PLACE)
        loaded = await first.invoke(LOAD)
        odd.silent = True
        await first.remove()
        assert not first.alive
        odd.silent = False
        reply = await Slot(deployment, PLACE).invoke(STATUS)
        assert reply.fresh
        assert reply.boot != loaded.boot
        assert len(odd.actions) == 2


@pytest.mark.anyio
async def test_an_answer_of_another_container_is_seen_at_once(platform: Credentials) -> None:
    async with deployed(platform) as (deployment, odd):
        slot, other = Slot(deployment, PLACE), Slot(deployment, PLACE)
        await slot.invoke(LOAD)
        there = await other.invoke(STATUS)
        odd.elsewhere = list(odd.actions)[1]
        reply = await slot.invoke(STATUS)
        assert reply.boot == there.boot
        assert reply.lost
        assert slot.held == frozenset()
        # from now on that one is believed in
        assert not (await slot.invoke(STATUS)).lost


@pytest.mark.anyio
async def test_a_failure_loses_no_container(platform: Credentials) -> None:
    async with deployed(platform) as (deployment, _):
        slot = Slot(deployment, PLACE)
        await slot.invoke(STATUS)
        failed = await slot.invoke({"op": "load", "function": "toy-corrupt"})
        assert failed.status == Status.CORRUPT_MODEL
        assert not failed.lost
        assert not (await slot.invoke(STATUS)).lost


@pytest.mark.anyio
async def test_a_run_that_nobody_asked_for_is_counted(platform: Credentials) -> None:
    async with deployed(platform) as (deployment, odd):
        slot = Slot(deployment, PLACE)
        await slot.invoke(STATUS)
        odd.twice = True
        await slot.invoke(STATUS)
        odd.twice = False
        await slot.invoke(STATUS)
        assert deployment.counts == {"surplus": 1}


@pytest.mark.anyio
async def test_a_second_try_on_a_new_container_is_suspected(platform: Credentials) -> None:
    async with deployed(platform) as (deployment, odd):
        slot = Slot(deployment, PLACE)
        await slot.invoke(STATUS)
        async with Client(platform) as ours:
            for each in await ours.containers():
                await ours.remove_container(each.id)
        odd.wait_ms = 3000
        reply = await slot.invoke(STATUS)
        assert (reply.fresh, reply.lost, reply.second) == (True, True, True)
        assert deployment.counts == {"second": 1}


@pytest.mark.anyio
async def test_a_container_that_was_there_and_is_silent_is_given_up_after_a_while(platform: Credentials) -> None:
    async with deployed(platform) as (deployment, odd):
        slot = Slot(deployment, PLACE)
        first = await slot.invoke(STATUS, 0.001)
        # making a container takes its time, and is not silence
        assert first.status == Status.OK
        odd.silent = True
        reply = await slot.invoke(STATUS, 0.3)
        assert (reply.status, reply.lost) == (Status.DEADLINE, True)
        assert "did not answer" in reply.message
        assert deployment.counts == {"silent": 1}
        odd.silent = False
        # whatever the old action may still do, this is another one
        again = await slot.invoke(STATUS)
        assert again.boot != first.boot
        assert odd.deleted == []


def held(backend: OpenWhiskBackend) -> int:
    backend.advance_until_us(0)
    return int(backend.state.functions["held_copies"].sum())


def test_what_the_core_believes_of_a_lost_container_is_mended(platform: Credentials) -> None:
    world = toy_world([(0.0, 0), (6.0, 0)], 6.5, ("toy",), (400,), after_run_platform=AfterRun.KEEP)
    settings = RealSettings(credentials=platform, functions=TOYS, preflight=False, patience=Patience(keep_warm_s=1.0))
    transport = Genuine()
    backend = OpenWhiskBackend(settings, transport=lambda: transport)
    try:
        backend.reset(world)
        backend.advance_until_us(2_500_000)
        assert held(backend) == 1
        # it is called so that it stays awake, and that is how its end is noticed before the next request
        assert STATUS in transport.calls

        async def remove() -> None:
            async with Client(platform) as ours:
                for each in await ours.containers():
                    await ours.remove_container(each.id)

        asyncio.run(remove())
        backend.advance_until_us(5_000_000)
        assert held(backend) == 0
        backend.drain()
        health = backend.health
        assert (health.lost_containers, health.lost_residents) == (1, 1)
        assert health.keep_warm_calls >= 2
        assert health.keep_warm_ms > 0
        # the platform made a new container for the call, so that the request found one
        assert backend.log()["start_type"].tolist() == [StartType.COLD, StartType.WARM]
        assert {"keep_warm_calls", "keep_warm_ms", "run_twice", "silent_containers"} <= health.summary().keys()
    finally:
        backend.close()


def test_without_it_nobody_is_called_that_nothing_is_asked_of(platform: Credentials) -> None:
    transport = Genuine()
    backend = OpenWhiskBackend(
        RealSettings(credentials=platform, functions=TOYS, preflight=False), transport=lambda: transport
    )
    try:
        backend.reset(toy_world([(0.0, 0), (2.0, 0)], 2.5, ("toy",), (400,), after_run_platform=AfterRun.KEEP))
        backend.drain()
        assert [each["op"] for each in transport.calls] == ["infer", "infer"]
        assert backend.health.keep_warm_calls == 0
    finally:
        backend.close()


def test_native_actions_are_told_apart_by_their_containers(platform: Credentials) -> None:
    transport = Genuine()
    settings = RealSettings(credentials=platform, functions=TOYS, preflight=False)
    backend = NativeBackend(settings, transport=lambda: transport)
    try:
        backend.reset(toy_world([(0.0, 0), (2.0, 0), (3.0, 1)], 4.0, ("toy", "toy")))
        backend.drain()
        log = np.sort(backend.log(), order="request")
    finally:
        backend.close()
    assert log["start_type"].tolist() == [StartType.COLD, StartType.WARM, StartType.COLD]
    assert log["container"].tolist() == [0, 0, 1]
    assert (log["warming_us"] > 0).tolist() == [True, False, True]
    assert {body["limits"]["logs"] for body in transport.actions.values()} == {0}
    assert {json.loads(body["exec"]["code"])["function"] for body in transport.actions.values()} == {"0-toy", "1-toy"}


def test_nodes_are_machines() -> None:
    homes = Homes()
    assert homes.note("invoker0", "m0") == ""
    assert homes.note("invoker1", "m1") == ""
    assert homes.note("invoker0", "m0") == ""
    assert homes.note("invoker1", "m2").startswith("slots of invoker1 are on two machines (m1 and m2)")
    assert Homes().note("a", "m") == ""
    same = Homes()
    same.note("a", "m")
    assert same.note("b", "m").startswith("slots of a and b are on the same machine (m)")


def play(backend: OpenWhiskBackend, world: World) -> None:
    backend.reset(world)
    backend.drain()


@pytest.mark.parametrize("preflight", [True, False])
def test_a_world_whose_slots_are_elsewhere_is_refused(platform: Credentials, preflight: bool) -> None:
    transport = Genuine()
    settings = RealSettings(credentials=platform, functions=TOYS, preflight=preflight, node_tags=("rack-a", "rack-b"))
    backend = OpenWhiskBackend(settings, transport=lambda: transport)
    world = toy_world([(0.0, 0), (0.0, 1), (0.1, 0), (0.1, 1)], 1.0, ("toy", "toy-slow"), (400, 400))
    try:
        with pytest.raises(BackendError, match=r"invoker0 and invoker1 are on the same machine .*TYCHE_NODE_TAGS"):
            play(backend, world)
    finally:
        backend.close()
    asked = {tuple(each["value"]) for body in transport.actions.values() for each in body["annotations"]}
    assert asked == {("rack-a",), ("rack-b",)}


def test_tags_are_refused_where_nobody_reads_them(platform: Credentials) -> None:
    settings = RealSettings(credentials=platform, functions=TOYS, node_tags=("a",))
    for transport, nodes, reason in (
        (Genuine, (400, 400), "names 1 tags, and the world has 2 nodes"),
        (None, (400,), "names 1 tags, and an embedded platform has none"),
    ):
        backend = OpenWhiskBackend(settings, transport=transport)
        try:
            with pytest.raises(BackendError, match=reason):
                backend.reset(toy_world([(0.0, 0)], 1.0, ("toy",), nodes))
        finally:
            backend.close()


@pytest.mark.slow
def test_policies_that_hold_work_as_on_the_embedded_platform(platform: Credentials) -> None:
    world = toy_world(
        [(0.0, 0), (4.0, 0)], 4.5, ("toy-slow",), (400,), kernel=Kernel.AGENT, event_mode=False,
        after_run_preloader=AfterRun.DISCARD,
    )  # fmt: skip
    settings = RealSettings(credentials=platform, functions=TOYS)
    backend = OpenWhiskBackend(settings, transport=Genuine)
    try:
        backend.reset(world)
        backend.advance_until_us(2_000_000)
        backend.set_priorities(np.ones((1, 2), np.int8), np.full((1, 2), 1 << 20))
        backend.drain()
        assert backend.log()["start_type"].tolist()[-1] == StartType.MEMORY
        assert backend.counters()["loads"] >= 1
        assert backend.health.lost_containers == 0
    finally:
        backend.close()
