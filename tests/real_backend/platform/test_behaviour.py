"""What a genuine OpenWhisk does with containers, each by itself; the values are those measured on one."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from real_backend.client import Activation
from real_backend.platform import pool, service
from real_backend.platform.config import GENUINE, Behaviour, Limits, NodeSpec, PlatformConfig
from real_backend.platform.container_client import ContainerClient
from tests.real_backend.platform.site import FakeContainer, FakeFactory, Open, Site

pytestmark = pytest.mark.anyio

WHO = "import os, time\n\ndef main(a):\n    time.sleep(a.get('s', 0))\n    return {'who': os.getpid()}\n"
EVER_S = 3600.0


async def who(site: Site, name: str = "f") -> int:
    activation = await site.client.invoke(name)
    assert activation.response.success, activation.response.result
    return int(activation.response.result["who"])


async def states(site: Site) -> list[str]:
    return [each.state for each in await site.client.containers()]


async def until(site: Site, wanted: list[str]) -> None:
    for _ in range(500):
        if await states(site) == wanted:
            return
        await asyncio.sleep(0.01)
    assert await states(site) == wanted


async def remove(site: Site) -> None:
    """Remove every container behind the platform's back."""
    for each in site.service.pool.containers:
        assert each.container is not None
        await each.container.remove()


async def test_a_record_tells_each_time_apart_in_ms(open_site: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    # every time is a sum of binary fractions of a second
    now = 1_796_000_000.25
    clock = SimpleNamespace(
        time=lambda: now, perf_counter=lambda: now, monotonic=lambda: now, time_ns=lambda: round(now * 1e9)
    )
    monkeypatch.setattr(service, "time", clock)
    monkeypatch.setattr(pool, "time", clock)

    def taking(owner: type, name: str, seconds: Callable[..., float]) -> None:
        """Let a method take so many seconds more, by what it is given."""
        method = getattr(owner, name)

        async def late(self: Any, *arguments: Any) -> Any:
            nonlocal now
            now += seconds(*arguments)
            return await method(self, *arguments)

        monkeypatch.setattr(owner, name, late)

    taking(pool.Pool, "acquire", lambda need: 1.25)
    taking(FakeFactory, "create", lambda spec: 0.5)
    taking(FakeContainer, "resume", lambda: 0.375)
    taking(ContainerClient, "post", lambda path, *_: {"/init": 0.125, "/run": 0.75}[path])
    async with open_site(FakeFactory(), pause_after_s=0.0) as site:
        await site.put("f", "")
        began_ms = round(now * 1e3)
        cold = await site.client.invoke("f")
        told = cold.annotation("tyche")
        assert (cold.wait_ms, told["createTime"], told["resumeTime"], cold.init_ms) == (1750, 500, 0, 125)
        # started when there was a container; initialised and run since
        assert (cold.start - began_ms, cold.duration, cold.end - began_ms) == (1750, 875, 2625)
        await until(site, ["paused"])
        began_ms = round(now * 1e3)
        woken = await site.client.invoke("f")
        told = woken.annotation("tyche")
        assert (woken.wait_ms, told["createTime"], told["resumeTime"], woken.init_ms) == (1625, 0, 375, None)
        assert (woken.start - began_ms, woken.duration, woken.end - began_ms) == (1625, 750, 2375)
        (shown,) = await site.client.containers()
        assert (shown.create_ms, shown.activations) == (500, 2)
        (node,) = await site.client.nodes()
        assert (node.memory_mib, node.free_mib, node.containers) == (1024, 768, 1)


async def test_a_container_whose_log_is_read_serves_nobody_meanwhile(open_site: Open) -> None:
    async with open_site(behaviour=Behaviour(log_read_ms=EVER_S * 1e3)) as site:
        await site.put("f", WHO, logs=10)
        # each answer is there, and its container still busy
        assert len({await who(site) for _ in range(3)}) == 3
        assert await states(site) == ["busy"] * 3


async def test_without_a_log_limit_there_is_nothing_to_read(open_site: Open) -> None:
    async with open_site(behaviour=Behaviour(log_read_ms=EVER_S * 1e3)) as site:
        await site.put("f", "print('x')\n" + WHO, logs=0)
        assert len({await who(site) for _ in range(5)}) == 1
        record = await site.client.invoke("f")
        assert record.logs == ()


async def test_a_log_is_read_once_and_then_the_container_serves_again(open_site: Open) -> None:
    async with open_site(behaviour=Behaviour(log_read_ms=50)) as site:
        await site.put("f", WHO, logs=10)
        first = await who(site)
        await until(site, ["idle"])
        assert await who(site) == first


async def test_a_developers_error_costs_the_container_and_an_applications_does_not(open_site: Open) -> None:
    code = WHO + "\n\nWHAT = main\n\ndef main(a):\n    return a.get('give', None) or WHAT(a)\n"
    async with open_site() as site:
        await site.put("f", code)
        first = await who(site)
        application = await site.client.invoke("f", {"give": {"error": "no"}})
        assert application.response.status == "application error"
        assert await who(site) == first
        developer = await site.client.invoke("f", {"give": 5})
        assert developer.response.status == "action developer error"
        assert await who(site) != first


async def test_a_time_limit_is_told_late(open_site: Open) -> None:
    async with open_site(behaviour=Behaviour(fault_delay_s=0.4)) as site:
        await site.put("f", WHO, timeout=200)
        late = await site.client.invoke("f", {"s": 60})
        assert late.response.result == {"error": "The action exceeded its time limits of 200 milliseconds."}
        assert late.annotation("timeout") is True
        assert late.duration >= 600
        await until(site, [])


DIES = """
import os, pathlib

def main(a):
    path = pathlib.Path(a["runs"])
    runs = int(path.read_text() or 0) + 1
    path.write_text(str(runs))
    if runs <= a["deaths"]:
        os._exit(1)
    return {"runs": runs}
"""


async def died(site: Site, runs: Path, deaths: int) -> tuple[Activation, int]:
    runs.write_text("")
    activation = await site.client.invoke("f", {"runs": str(runs), "deaths": deaths})
    return activation, int(runs.read_text())


async def test_a_container_that_ends_in_mid_run_is_told_late(open_site: Open, tmp_path: Path) -> None:
    async with open_site(behaviour=Behaviour(fault_delay_s=0.4, rerun_after_s=0.1)) as site:
        await site.put("f", DIES, logs=10)
        activation, runs = await died(site, tmp_path / "runs", 1)
        what = "The action did not produce a valid response and exited unexpectedly."
        assert activation.response.result == {"error": what}
        assert activation.duration >= 400
        assert runs == 1


async def test_without_a_log_limit_its_request_is_run_a_second_time(open_site: Open, tmp_path: Path) -> None:
    async with open_site(behaviour=Behaviour(rerun_after_s=0.1)) as site:
        await site.put("f", DIES, logs=0)
        activation, runs = await died(site, tmp_path / "runs", 1)
        assert (activation.response.result, runs) == ({"runs": 2}, 2)
        keys = [each.key for each in activation.annotations]
        assert sorted(keys) == sorted(set(keys))
        # the record is that of the second run, which had to wait for the first
        assert activation.init_ms is not None
        assert (activation.wait_ms or 0) >= 100
        # but not a third time
        activation, runs = await died(site, tmp_path / "runs", 2)
        assert (activation.response.status, runs) == ("action developer error", 2)


async def test_by_default_no_request_is_run_twice(open_site: Open, tmp_path: Path) -> None:
    async with open_site() as site:
        await site.put("f", DIES, logs=0)
        activation, runs = await died(site, tmp_path / "runs", 1)
        assert (activation.response.status, runs) == ("action developer error", 1)


@pytest.mark.parametrize("pause_after_s", [None, 0.0])
async def test_the_end_of_an_idle_container_goes_unnoticed_until_it_is_asked(
    open_site: Open, pause_after_s: float | None
) -> None:
    unnoticed = Behaviour(notices_ends=False, fault_delay_s=0.2)
    async with open_site(behaviour=unnoticed, pause_after_s=pause_after_s, limits=Limits(blocking_s=0.3)) as site:
        await site.put("f", WHO, timeout=1000, logs=0)
        record = await site.client.invoke("f")
        state = "idle" if pause_after_s is None else "paused"
        await until(site, [state])
        await remove(site)
        assert await states(site) == [state]
        answer = await site.http.post("/namespaces/_/actions/f?blocking=true", json={})
        assert answer.status_code == 202
        lost = await site.client.wait(answer.json()["activationId"], 30)
        assert lost.response.result == {"error": "The action exceeded its time limits of 1000 milliseconds."}
        assert lost.duration >= 1200
        # the call after that gets a new one
        assert await who(site) != record.response.result["who"]


async def test_containers_outlive_their_action_and_never_serve_again(open_site: Open) -> None:
    one = (NodeSpec(name="a", memory_mib=512),)
    async with open_site(FakeFactory(), behaviour=Behaviour(outdated_stay=True), nodes=one) as site:
        await site.put("f", "")
        await site.client.invoke("f")
        await site.put("f", "changed")
        await site.client.invoke("f")
        old, new = (each.id for each in await site.client.containers())
        await site.client.delete_action("f")
        assert [each.state for each in await site.client.containers()] == ["idle", "idle"]
        await site.put("f", "again")
        # they hold their memory until somebody needs it
        third = (await site.client.invoke("f")).annotation("tyche")
        assert (third["start"], third["container"] in (old, new)) == ("cold", False)
        assert site.service.pool.removals == {"evicted": 1}


async def test_they_expire_like_any_other(open_site: Open) -> None:
    stay = Behaviour(outdated_stay=True)
    async with open_site(FakeFactory(), behaviour=stay, pause_after_s=None, keep_alive_s=0.2) as site:
        await site.put("f", "")
        await site.client.invoke("f")
        await site.client.delete_action("f")
        await until(site, [])
        assert site.service.pool.removals == {"expired": 1}


@pytest.mark.parametrize("change", ["update", "deletion"])
async def test_by_default_one_that_serves_goes_when_it_has_served(open_site: Open, change: str) -> None:
    async with open_site(FakeFactory()) as site:
        await site.put("f", "")
        running = asyncio.create_task(site.client.invoke("f", {"hold": True}))
        while await states(site) != ["busy"]:
            await asyncio.sleep(0.001)
        await (site.put("f", "changed") if change == "update" else site.client.delete_action("f"))
        assert (await running).response.success
        await until(site, [])
        assert site.service.pool.removals == {"outdated": 1}


async def test_waking_a_paused_container_takes_its_time(open_site: Open) -> None:
    async with open_site(FakeFactory(), behaviour=Behaviour(resume_ms=150), pause_after_s=0.0) as site:
        await site.put("f", "")
        await site.client.invoke("f")
        await until(site, ["paused"])
        woken = await site.client.invoke("f")
        assert woken.annotation("tyche")["start"] == "paused"
        assert (woken.wait_ms or 0) >= 150
        assert woken.annotation("tyche")["resumeTime"] >= 150


@pytest.mark.parametrize(("after_pause", "between_s"), [(False, 590.0), (True, 600.0)])
async def test_the_keep_alive_may_count_from_the_pause_on(open_site: Open, after_pause: bool, between_s: float) -> None:
    # 10 s until the pause, 600 s of keep-alive
    async with open_site(FakeFactory(), behaviour=Behaviour(expire_after_pause=after_pause)) as site:
        await site.put("f", "")
        await site.client.invoke("f")
        await until(site, ["idle"])
        (container,) = site.service.pool.containers
        pause, expiry = container.timers
        assert expiry.when() - pause.when() == pytest.approx(between_s, abs=1.0)


async def test_it_may_tell_nothing_of_its_containers(open_site: Open) -> None:
    nodes = (NodeSpec(name="a", memory_mib=512), NodeSpec(name="b", memory_mib=512))
    async with open_site(FakeFactory(), behaviour=Behaviour(tells_containers=False), nodes=nodes) as site:
        for name in ("containers", "nodes", "events", "gpus", "summary", "container-factory"):
            assert (await site.http.get(f"/tyche/{name}")).status_code == 404
        assert (await site.http.post("/tyche/containers", json={"kind": "python:3", "memory": 256})).status_code == 404
        assert (await site.http.get("http://platform/status")).status_code == 404
        assert not await site.client.is_embedded()
        for node in ("a", "b"):
            body = {"exec": {"kind": "python:3", "code": ""}, "annotations": [{"key": "tyche-node", "value": node}]}
            await site.http.put("/namespaces/_/actions/f?overwrite=true", json=body)
            record = await site.client.invoke("f")
            assert record.annotation("tyche") is None
        # the home of the action, whatever it asks for
        assert len({each.node.spec.name for each in site.service.pool.containers}) <= 1


async def test_it_may_have_apaches_kinds_alone(open_site: Open) -> None:
    async with open_site(FakeFactory(), behaviour=Behaviour(own_kinds=False)) as site:
        exact, path = f"python:3.{sys.version_info.minor}", "/namespaces/_/actions/f?overwrite=true"
        for kind in ("tyche:1", "python:3"):
            refused = await site.http.put(path, json={"exec": {"kind": kind, "code": ""}})
            known = f"Valid values are: '{exact}', 'sequence', 'blackbox'."  # as recorded
            assert refused.status_code == 400
            assert refused.json()["error"].endswith(f"'{kind}' is not supported by this platform. {known}")
        done = await site.http.put(path, json={"exec": {"kind": exact, "code": ""}})
        assert done.status_code == 200
        runtimes = (await site.http.get("http://platform/")).json()["runtimes"]
        assert [each["kind"] for kinds in runtimes.values() for each in kinds] == [exact]


def test_all_times_of_a_genuine_one_are_scaled_together() -> None:
    limits = Limits(timeout_max_ms=60_000)
    config = PlatformConfig(nodes=(NodeSpec(name="a", memory_mib=512),), limits=limits)
    scaled = config.like_openwhisk(0.01)
    assert config.like_openwhisk().behaviour == GENUINE
    assert (scaled.pause_after_s, scaled.keep_alive_s) == (0.1, 6.0)
    assert scaled.limits == limits.model_copy(update={"blocking_s": 0.6})
    times: dict[str, Any] = {"log_read_ms": 1.3, "resume_ms": 0.35, "fault_delay_s": 0.12, "rerun_after_s": 0.03}
    assert {name: getattr(scaled.behaviour, name) for name in times} == pytest.approx(times)
    assert scaled.behaviour.model_copy(update={name: getattr(GENUINE, name) for name in times}) == GENUINE
    never = config.model_copy(update={"pause_after_s": None, "keep_alive_s": None}).like_openwhisk(0.01)
    assert (never.pause_after_s, never.keep_alive_s) == (None, None)
