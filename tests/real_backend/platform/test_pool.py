"""Which container serves a request, and what becomes of idle ones; with containers that are not there."""

from __future__ import annotations

import asyncio
import random

import pytest

from real_backend.client import Activation, ClientError
from real_backend.platform.config import NodeSpec, StemCells
from tests.real_backend.platform.site import FakeFactory, Open, Site

pytestmark = pytest.mark.anyio

TWO_NODES = (NodeSpec(name="a", memory_mib=512), NodeSpec(name="b", memory_mib=512))
ONE_NODE = (NodeSpec(name="a", memory_mib=512),)


def start_of(activation: Activation) -> str:
    return str(activation.annotation("tyche")["start"])


def node_of(activation: Activation) -> str:
    return str(activation.annotation("tyche")["node"])


async def states(site: Site) -> list[tuple[str | None, str]]:
    return [(each.action, each.state) for each in await site.client.containers()]


async def until(site: Site, wanted: list[tuple[str | None, str]]) -> None:
    """Wait until the containers are these."""
    for _ in range(500):
        if await states(site) == wanted:
            return
        await asyncio.sleep(0.01)
    assert await states(site) == wanted


async def test_a_container_serves_only_its_action_and_one_request_at_a_time(open_site: Open) -> None:
    async with open_site(FakeFactory()) as site:
        await site.put("f", "")
        await site.put("g", "")
        both = await asyncio.gather(*(site.client.invoke("f", {"hold": True}) for _ in range(2)))
        assert [start_of(each) for each in both] == ["cold", "cold"]
        assert start_of(await site.client.invoke("g")) == "cold"
        assert start_of(await site.client.invoke("f")) == "warm"
        assert await states(site) == [("f", "idle"), ("f", "idle"), ("g", "idle")]


async def test_an_action_keeps_to_its_home_node_and_moves_on_when_that_is_full(open_site: Open) -> None:
    async with open_site(FakeFactory(), nodes=TWO_NODES) as site:
        await site.put("f", "", memory=512)
        both = await asyncio.gather(*(site.client.invoke("f", {"hold": True}) for _ in range(2)))
        assert {node_of(each) for each in both} == {"a", "b"}


async def test_an_annotation_ties_an_action_to_a_node(open_site: Open) -> None:
    async with open_site(FakeFactory(), nodes=TWO_NODES) as site:
        for node in ("a", "b"):
            body = {"exec": {"kind": "tyche:1"}, "annotations": [{"key": "tyche-node", "value": node}]}
            await site.http.put(f"/namespaces/_/actions/on-{node}", json=body)
            assert node_of(await site.client.invoke(f"on-{node}")) == node


async def test_the_idle_container_used_least_recently_makes_room(open_site: Open) -> None:
    async with open_site(FakeFactory(), nodes=ONE_NODE) as site:
        for name in ("f", "g", "h"):
            await site.put(name, "")
        await site.client.invoke("f")
        await site.client.invoke("g")
        await site.client.invoke("f")
        assert start_of(await site.client.invoke("h")) == "cold"
        assert sorted(await states(site)) == [("f", "idle"), ("h", "idle")]
        assert site.service.pool.removals == {"evicted": 1}


async def test_requests_wait_in_line_when_every_container_is_busy(open_site: Open) -> None:
    async with open_site(FakeFactory(), nodes=ONE_NODE) as site:
        await site.put("f", "", memory=512)
        activations = await asyncio.gather(*(site.client.invoke("f", {"hold": True}) for _ in range(3)))
        assert sorted(start_of(each) for each in activations) == ["cold", "warm", "warm"]
        # one after the other, whenever they arrived
        begin, *later = sorted(activations, key=lambda each: each.start)
        for each in later:
            assert each.start >= begin.start + 200
            begin = each
        assert max(each.wait_ms or 0 for each in activations) > 0


async def test_a_large_request_is_not_overtaken_by_small_ones_that_need_memory(open_site: Open) -> None:
    async with open_site(FakeFactory(), nodes=ONE_NODE) as site:
        await site.put("small", "")
        await site.put("large", "", memory=512)
        first = [asyncio.create_task(site.client.invoke("small", {"hold": True})) for _ in range(2)]
        await asyncio.sleep(0.05)
        large = asyncio.create_task(site.client.invoke("large"))
        await asyncio.sleep(0.01)
        await site.put("late", "")
        late = asyncio.create_task(site.client.invoke("late"))
        await asyncio.gather(*first)
        assert (await large).start <= (await late).start


async def test_stem_cells_serve_any_action_of_their_kind_and_memory_and_are_replaced(open_site: Open) -> None:
    stems = (StemCells(kind="python:3", memory_mib=128, count=1),)
    async with open_site(FakeFactory(), stem_cells=stems) as site:
        await until(site, [(None, "stem")])
        await site.put("f", "", memory=128)
        await site.put("g", "")
        activation = await site.client.invoke("f")
        assert start_of(activation) == "prewarmed"
        assert activation.init_ms is not None
        assert start_of(await site.client.invoke("g")) == "cold"
        await until(site, [("f", "idle"), (None, "stem"), ("g", "idle")])


async def test_an_idle_container_is_paused_resumed_and_removed_in_the_end(open_site: Open) -> None:
    factory = FakeFactory()
    async with open_site(factory, pause_after_s=0.05, keep_alive_s=2) as site:
        await site.put("f", "")
        await site.client.invoke("f")
        await until(site, [("f", "paused")])
        assert start_of(await site.client.invoke("f")) == "paused"
        await until(site, [])
        assert factory.made[0].history == ["pause", "resume", "pause", "remove"]
        assert site.service.pool.removals == {"expired": 1}


async def test_without_times_a_container_stays_as_it_is(open_site: Open) -> None:
    async with open_site(FakeFactory(), pause_after_s=None, keep_alive_s=None) as site:
        await site.put("f", "")
        await site.client.invoke("f")
        assert all(not each.timers for each in site.service.pool.containers)


async def test_a_container_that_dies_while_idle_is_forgotten(open_site: Open) -> None:
    factory = FakeFactory()
    async with open_site(factory) as site:
        await site.put("f", "")
        await site.client.invoke("f")
        factory.made[0].die(137)
        await until(site, [])
        assert site.service.pool.removals == {"lost": 1}
        assert start_of(await site.client.invoke("f")) == "cold"


async def test_an_update_or_deletion_retires_idle_containers(open_site: Open) -> None:
    async with open_site(FakeFactory()) as site:
        await site.put("f", "")
        await site.client.invoke("f")
        await site.put("f", "")
        await until(site, [])
        assert start_of(await site.client.invoke("f")) == "cold"
        await site.client.delete_action("f")
        await until(site, [])


async def test_a_factory_that_fails_is_an_internal_error_and_costs_no_memory(open_site: Open) -> None:
    factory = FakeFactory(broken=True)
    async with open_site(factory, nodes=ONE_NODE) as site:
        await site.put("f", "", memory=512)
        activation = await site.client.invoke("f")
        assert activation.response.status == "whisk internal error"
        assert "no containers today" in activation.response.result["error"]
        factory.broken = False
        assert (await site.client.invoke("f")).response.success


async def test_limits_of_the_namespace_answer_429_and_what_fits_nowhere_503(open_site: Open) -> None:
    limits = {"memory_max_mib": 4096, "invocations_per_minute": 3, "concurrent_invocations": 1}
    async with open_site(FakeFactory(), limits=limits, nodes=ONE_NODE) as site:
        await site.put("f", "")
        await site.put("huge", "", memory=1024)
        with pytest.raises(ClientError, match="503"):
            await site.client.invoke("huge")
        first = asyncio.create_task(site.client.invoke("f", {"hold": True}))
        while not site.service.in_flight:
            await asyncio.sleep(0.001)
        with pytest.raises(ClientError, match=r"concurrent requests in flight \(count: 2, allowed: 1\)"):
            await site.client.invoke("f")
        await first
        await site.client.invoke("f")
        await site.client.invoke("f")
        with pytest.raises(ClientError, match=r"in the last minute \(count: 4, allowed: 3\)"):
            await site.client.invoke("f")
        assert site.client.retries == {"503": 2, "429": 4}


async def test_a_container_made_ahead_of_time_needs_free_memory(open_site: Open) -> None:
    async with open_site(FakeFactory(), nodes=ONE_NODE) as site:
        await site.put("f", "", memory=512)
        await site.client.create_container("f", "a")
        with pytest.raises(ClientError, match=r"no node has 512 MiB free .*a: 0"):
            await site.client.create_container("f", "a")


async def test_a_worker_learns_its_node_memory_and_gpu(open_site: Open) -> None:
    factory = FakeFactory()
    nodes = (NodeSpec(name="n", memory_mib=512, gpus=("GPU-1",)),)
    async with open_site(factory, nodes=nodes, worker_arguments=("--start", "zygote")) as site:
        await site.http.put("/namespaces/_/actions/w", json={"exec": {"kind": "blackbox", "image": "tyche-worker"}})
        await site.client.invoke("w")
        command = list(factory.specs[0].command)
        # nothing is imported from where it works
        assert command[1] == "-P"
        for option, value in (("--node", "n"), ("--memory-mb", "268.435"), ("--gpu", "GPU-1"), ("--start", "zygote")):
            assert command[command.index(option) + 1] == value


async def test_an_image_that_is_not_there_is_said_so(open_site: Open) -> None:
    async with open_site(FakeFactory()) as site:
        await site.http.put("/namespaces/_/actions/x", json={"exec": {"kind": "blackbox", "image": "some/image"}})
        activation = await site.client.invoke("x")
        assert "Failed to pull container image 'some/image'" in activation.response.result["error"]


async def test_nothing_is_left_when_the_platform_closes_in_the_middle(open_site: Open) -> None:
    factory = FakeFactory()
    async with open_site(factory) as site:
        await site.put("f", "")
        await site.client.invoke("f")
        running = await site.begin("f", {"hold": True})
        await asyncio.sleep(0.05)
    assert all("remove" in each.history for each in factory.made)
    async with open_site(factory) as site:
        assert (await site.client.activation(running)).response.result == {"error": "The platform was stopped."}


async def test_stem_cells_make_room_for_a_request_that_fits_nowhere_else(open_site: Open) -> None:
    stems = (StemCells(kind="tyche:1", memory_mib=256, count=2),)
    async with open_site(FakeFactory(), nodes=ONE_NODE, stem_cells=stems, keep_alive_s=0.2) as site:
        await until(site, [(None, "stem"), (None, "stem")])
        await site.put("f", "")
        assert start_of(await site.client.invoke("f")) == "cold"
        await until(site, [(None, "stem"), (None, "stem")])


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_happens_every_request_ends_and_no_node_promises_more_than_it_has(
    open_site: Open, seed: int
) -> None:
    chance, factory = random.Random(seed), FakeFactory()
    stems = (StemCells(kind="python:3", memory_mib=128, count=1),)
    times = {"pause_after_s": 0.01, "keep_alive_s": 0.05}
    async with open_site(factory, nodes=TWO_NODES, stem_cells=stems, **times) as site:
        for k in range(6):
            await site.put(f"f{k}", "", memory=128 * (1 + k % 3))

        async def trouble() -> None:
            created_in_vain = 0
            while True:
                await asyncio.sleep(0.01)
                assert all(node.free_mib >= 0 for node in site.service.pool.nodes)
                if created_in_vain < 50 and chance.random() < 0.1:  # however long it takes, most requests succeed
                    created_in_vain += 1
                    factory.failures += 1
                if factory.made and chance.random() < 0.3:
                    chance.choice(factory.made).die(137)

        async def one(k: int) -> Activation:
            await asyncio.sleep(chance.random() * 0.5)
            return await site.client.invoke(f"f{k % 6}", {"hold": True} if chance.random() < 0.3 else {})

        watcher = asyncio.create_task(trouble())
        activations = await asyncio.gather(*(one(k) for k in range(120)))
        watcher.cancel()
        with pytest.raises(asyncio.CancelledError):
            await watcher
        # A container that ends never takes a request along that has an answer: only failed creations fail requests.
        failed = [each.response for each in activations if not each.response.success]
        assert {each.status for each in failed} <= {"whisk internal error"}, failed
        assert sum(each.response.success for each in activations) > 60
        assert (site.service.in_flight, site.service.pool.queued) == (0, 0)
    assert all("remove" in each.history for each in factory.made)


async def test_a_container_that_is_to_go_serves_nobody_from_that_moment(open_site: Open) -> None:
    async with open_site(FakeFactory()) as site:
        await site.put("f", "")
        await site.client.invoke("f")
        pool = site.service.pool
        (going,) = pool.containers
        assert going.need is not None
        pool.discard(going, "expired")
        lease = await pool.acquire(going.need)
        assert lease.pooled is not going
        pool.release(lease.pooled)


async def test_events_tell_what_becomes_of_a_container_as_it_happens(open_site: Open) -> None:
    async with open_site(FakeFactory(), pause_after_s=0.02, keep_alive_s=0.1) as site:
        await site.put("f", "")
        waiting = asyncio.create_task(site.client.events(timeout_s=10))
        await site.client.invoke("f")
        assert (await waiting).events[0].kind == "created"
        await until(site, [])
        page = await site.client.events()
        assert [(each.number, each.kind, each.reason) for each in page.events] == [
            (1, "created", ""),
            (2, "idle", ""),
            (3, "paused", ""),
            (4, "removed", "expired"),
        ]
        assert {(each.action, each.node) for each in page.events} == {("f", "invoker0")}
        assert [each.number for each in (await site.client.events(after=3)).events] == [4]
        assert (await site.client.events(after=4, timeout_s=0.05)).events == ()


async def test_a_worker_container_shows_what_its_server_said_last(open_site: Open) -> None:
    async with open_site(FakeFactory()) as site:
        await site.http.put("/namespaces/_/actions/w", json={"exec": {"kind": "tyche:1"}})
        residents = [{"function": "resnet", "state": "held", "gpu": True, "memory_mb": 5.5, "unknown": 1}]
        await site.client.invoke("w", {"residents": residents, "boot_id": "b", "gpu_uuid": "GPU-1"})
        (container,) = await site.client.containers()
        assert (container.boot_id, container.gpu_uuid) == ("b", "GPU-1")
        assert [(each.function, each.gpu) for each in container.residents] == [("resnet", True)]
