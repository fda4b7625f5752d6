"""``tyche platform check``: each thing that would fail is one line, with the setting to change."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from real_backend import checking
from real_backend.checking import Finding, Question, check, clean
from real_backend.client import ActionSpec, Activation, Client, Credentials, Needs, ServerLimits
from real_backend.embedded import EmbeddedPlatform, container_environment
from real_backend.making import Making
from real_backend.platform.config import Limits, NodeSpec, PlatformConfig
from tests.real_backend.genuine import Genuine
from tests.real_backend.worlds import TOYS, toy_world
from tyche_env.cli import run
from tyche_env.world import Kernel, World

WORLD = toy_world([(0.0, 0), (1.0, 1)], 2.0, ("toy", "toy"), (400,), kernel=Kernel.TYCHE)
EMBEDDED = Making()


@pytest.fixture(scope="module")
def platform() -> Iterator[Credentials]:
    own = EmbeddedPlatform()
    config = PlatformConfig(
        nodes=(NodeSpec(name="invoker0", memory_mib=512),),
        limits=Limits(memory_max_mib=512, invocations_per_minute=100, concurrent_invocations=5),
        worker_arguments=("--functions", TOYS),
        environment=container_environment(),
    )
    yield own.start(config)
    own.stop()


def ask(
    platform: Credentials, question: Question, transport: httpx.AsyncBaseTransport | None = None
) -> tuple[bool, dict[str, Finding]]:
    found: list[Finding] = []

    async def work() -> bool:
        async with Client(platform, transport=transport) as client:
            return await check(client, question, found.append)

    well = asyncio.run(work())
    assert well == all(each.well is not False for each in found)
    return well, {each.what: each for each in found}


class FakePlatform:
    """A deployment whose one container answers after planted times, by a clock that is so much ahead of ours.

    Calls take 900, 20, 30 and 40 ms, and then 17, 90, 11, 50 and 13 ms; a warm one waits for 100 ms of the platform's
    own telling, beside 8, 3, 5, 4 and 6 ms on the way.
    """

    def __init__(self, ahead_ms: int) -> None:
        self.client = self
        self.embedded = False
        self.now_ms = 1_796_000_000_000
        self.ahead_ms = ahead_ms
        self._took_ms = iter((900, 20, 30, 40, 17, 90, 11, 50, 13))
        self._way_ms = iter((0, 0, 0, 0, 8, 3, 5, 4, 6))

    async def take(self, place: object) -> SimpleNamespace:
        return SimpleNamespace(action="a")

    async def invoke(self, action: str, parameters: Mapping[str, Any], timeout_s: float) -> Activation:
        arrival_ms = self.now_ms + next(self._way_ms) + self.ahead_ms
        took_ms = next(self._took_ms)
        self.now_ms += took_ms
        cold = took_ms == 900
        notes = {"waitTime": 412, "initTime": 38} if cold else {"waitTime": 100}
        return Activation.model_validate(
            {
                "activationId": "a" * 32,
                "namespace": "guest",
                "name": action,
                "start": arrival_ms + notes["waitTime"],
                "response": {
                    "status": "success",
                    "success": True,
                    "result": {"ok": True, "boot_id": "b1", "residents": [{"function": "toy"}]},
                },
                "annotations": [{"key": key, "value": value} for key, value in notes.items()],
            }
        )


# what the way adds is never told apart from the clocks, so that the least of what is found is told
@pytest.mark.parametrize(("ahead_ms", "told"), [(2000, "+2003"), (-2000, "-1992")])
def test_each_time_is_told_as_it_was_and_which_clock_is_ahead(
    monkeypatch: pytest.MonkeyPatch, ahead_ms: int, told: str
) -> None:
    fake = FakePlatform(ahead_ms)
    now = SimpleNamespace(time=lambda: fake.now_ms / 1e3, monotonic=lambda: fake.now_ms / 1e3 - 1e9)
    monkeypatch.setattr(checking, "time", now)
    deployment: Any = fake
    rows = asyncio.run(checking._slot(deployment, "toy", Question(EMBEDDED, TOYS)))
    assert [f"{what}: {text}" for _, what, text in rows] == [
        "load toy: 900 ms, of which 450 made the container",
        "hold toy: 20 ms",
        "infer toy: 30 ms",
        "off-load toy: 40 ms",
        "one container: answered all 9 calls",
        # the median of five
        "a warm call: 17.0 ms",
        f"clocks: the platform's is {told} ms of ours; nothing measured rests on it",
    ]


def test_what_is_allowed_and_what_there_is_are_told_beside_what_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    needs = Needs(per_minute=11, concurrent=3)
    monkeypatch.setattr(checking, "rates", lambda *_: needs)
    monkeypatch.setattr(checking, "sample_payload", lambda name, number: "x" * 98)
    # 400 and 800 MB are 382 and 763 MiB, and hold six containers of 200 MB
    world = toy_world([(0.0, 0)], 2.0, ("toy",), (400, 800))
    world.functions.container_mb[:] = 200
    question = Question(EMBEDDED, TOYS, world)

    def allowed(**limits: int) -> list[str]:
        return [text for _, _, text in checking._limits(question, ServerLimits.model_validate(limits))]

    assert allowed(invocationsPerMinute=70, concurrentInvocations=5) == [
        "191 MiB, 120 s, no logs, payloads of 100 bytes are allowed",
        "at most 11 calls in a minute and 3 at once, of 70 and 5",
    ]
    assert allowed()[1].endswith("of an unknown number and as many")

    def memory(embedded: bool, *nodes_mib: int) -> tuple[bool | None, str]:
        async def nodes() -> list[SimpleNamespace]:
            # what is free, and how many containers there are, is not what counts
            return [SimpleNamespace(memory_mib=mib, free_mib=1, containers=9) for mib in nodes_mib]

        client: Any = SimpleNamespace(nodes=nodes)
        well, _, text = asyncio.run(checking._pool(client, question, embedded))
        return well, text

    assert memory(True, 382, 900) == (True, "nodes of [900, 382] MiB for the world's [763, 382]")
    too_small = "nodes of [700, 390] MiB for the world's [763, 382]; `tyche platform up --nodes 2 --memory-mb 763`"
    assert memory(True, 700, 390) == (False, too_small)
    assert memory(False) == (
        None,
        "not told by the platform; 2 invokers need whisk.container-pool.user-memory of 763 m or more, for 6 slots "
        "in all",
    )


@pytest.mark.parametrize("world", [WORLD, None])
@pytest.mark.parametrize(
    ("deployment", "genuine"), [("embedded", False), ("kind:python:3", True), ("image:tyche-worker", True)]
)
def test_a_platform_that_does_it_all(
    platform: Credentials, deployment: str, genuine: bool, world: World | None
) -> None:
    transport = Genuine() if genuine else None
    question = Question(Making.parse(deployment), TOYS, world, memory_mb=400)
    well, found = ask(platform, question, transport)
    assert well, [str(each) for each in found.values() if not each.well]
    name = "toy" if world is None else "0-toy"
    for what in ("platform", "limits", f"load {name}", f"hold {name}", f"infer {name}", f"off-load {name}"):
        assert found[what].well is True
    assert found["one container"].text == "answered all 9 calls"
    assert found["left behind"].text == "nothing of this check"
    assert str(found["other replays"]) == "ok   other replays: none"
    # a clock of our own: the same machine
    assert abs(int(found["clocks"].text.split()[3])) < 500
    # what only our platform tells
    assert found["memory"].well is (None if genuine or world is None else True)
    assert found["rates"].well is (None if world is None else True)
    if transport is not None:
        assert [body["limits"] for body in transport.actions.values()] == [
            {"memory": 382, "timeout": 120_000, "logs": 0}
        ]
        assert sorted(transport.deleted) == sorted(transport.actions)


def busy_world() -> World:
    return toy_world([(0.01 * at, 0) for at in range(50)], 2.0, ("toy",), (400, 400), kernel=Kernel.TYCHE)


class Shuffled(Genuine):
    """Every call after so many of a status is answered by another container, as with logs that are read."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.method == "POST" and b"status" in await request.aread():
            self.asked += 1
        if self.asked > self.well:
            async with Client(self.credentials) as ours:
                for each in await ours.containers():
                    await ours.remove_container(each.id)
        return await super().handle_async_request(request)

    def __init__(self, credentials: Credentials, well: int) -> None:
        super().__init__()
        self.credentials = credentials
        self.asked = 0
        self.well = well


def test_what_would_fail_names_the_setting(platform: Credentials) -> None:
    well, found = ask(platform, Question(EMBEDDED, TOYS, busy_world()))
    assert not well
    assert str(found["rates"]).startswith("FAIL rates: activations a minute: 200 needed, at most 100")
    assert "limits.actions.invokes.perMinute" in found["rates"].text
    assert str(found["memory"]).startswith("FAIL memory: nodes of [512] MiB for the world's [382, 382]; `tyche")

    _, found = ask(platform, Question(EMBEDDED, TOYS, memory_mb=900))
    assert "859 needed, at most 512; set whisk.memory.max" in found["limits"].text
    assert "TYCHE_DEPLOYMENT" in found["deployment"].text

    _, found = ask(platform, Question(EMBEDDED, TOYS, WORLD, keep_warm=True), Genuine(kinds=False))
    assert "TYCHE_DEPLOYMENT: embedded needs the kind tyche:1" in found["deployment"].text

    _, found = ask(platform, Question(EMBEDDED, "real_backend.functions.catalogue", memory_mb=400))
    (load,) = (each for what, each in found.items() if what.startswith("load "))
    assert load.well is False
    assert "no such function here" in load.text


def test_another_container_each_time_fails(platform: Credentials) -> None:
    _, found = ask(platform, Question(EMBEDDED, TOYS, memory_mb=400), Shuffled(platform, 0))
    assert str(found["hold toy"]).startswith("FAIL hold toy: FAILED: the container does not hold toy any more")
    _, found = ask(platform, Question(EMBEDDED, TOYS, memory_mb=400), Shuffled(platform, 2))
    assert str(found["one container"]).startswith(
        "FAIL one container: another one than the first answered 4 of 9 calls"
    )
    assert "limits.logs 0" in found["one container"].text


def test_a_platform_that_is_not_there_is_one_line() -> None:
    def proxy(request: httpx.Request) -> httpx.Response:
        return httpx.Response(503, text="<html>", headers={"content-type": "text/html"}, request=request)

    found: list[Finding] = []

    async def work() -> None:
        from real_backend.client import Backoff

        transport = httpx.MockTransport(proxy)
        backoff = Backoff(attempts=1)
        async with Client(Credentials(host="http://h", key="a:b"), transport=transport, backoff=backoff) as client:
            assert not await check(client, Question(EMBEDDED, TOYS), found.append)

    asyncio.run(work())
    (only,) = found
    assert str(only).startswith("FAIL platform: GET http://h/api/v1/")
    assert "503 no JSON but text/html" in only.text


async def _left(platform: Credentials, *names: str) -> list[str]:
    async with Client(platform) as client:
        for name in names:
            await client.put_action(name, ActionSpec(kind="tyche:1", memory_mib=128))
            await client.invoke(name, {"op": "status"})
        await clean(client)
        containers = [each.action for each in await client.containers()]
        left = sorted(each.path for each in await client.actions())
        assert containers == left
        for name in left:
            await client.delete_action(name)
        return left


def test_what_other_replays_have_there_is_told(platform: Credentials) -> None:
    names = ("tyche-0123abcd-1", "tyche-0123abcd-2", "tyche-4567abcd-1", "tyche-mine")

    async def put() -> None:
        async with Client(platform) as client:
            for name in names:
                await client.put_action(name, ActionSpec(kind="tyche:1", memory_mib=128))

    async def remove() -> list[str]:
        async with Client(platform) as client:
            deleted = await clean(client)
            await client.delete_action(names[-1])
            return deleted

    asyncio.run(put())
    well, found = ask(platform, Question(EMBEDDED, TOYS, memory_mb=400))
    assert well
    told = str(found["other replays"])
    assert told.startswith("?    other replays: 3 actions of tyche-0123abcd, tyche-4567abcd: one that goes on takes")
    assert "`tyche platform check --clean`" in told
    assert asyncio.run(remove()) == list(names[:-1])


def test_functions_that_cannot_be_imported_are_a_finding(platform: Credentials) -> None:
    well, found = ask(platform, Question(EMBEDDED, "no_such_module", memory_mb=400))
    assert not well
    assert str(found["functions"]).startswith("FAIL functions: no_such_module: cannot be imported (ModuleNotFound")


def test_what_a_killed_run_left_is_deleted_and_nothing_else(platform: Credentials) -> None:
    names = ("tyche-0123abcd-1", "tyche-0123abcd-10", "tyche-mine")
    assert asyncio.run(_left(platform, *names)) == ["tyche-mine"]


def test_the_command_says_it_by_its_exit_code(
    platform: Credentials, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OW_APIHOST", platform.base)
    monkeypatch.setenv("OW_AUTH", platform.key)
    words = ["platform", "check", "--functions", TOYS, "--memory-mb"]

    def told(*more: str) -> tuple[int, Any]:
        code = run([*words, *more])
        return code, capsys.readouterr()

    code, said = told("400")
    assert code == 0, said
    assert "ok   one container: answered all 9 calls" in said.out
    code, said = told("900")
    assert (code, "FAIL limits" in said.out) == (1, True)
    code, said = told("400", "--scenario", "small")
    assert (code, "--memory-mb: the scenario says" in said.err) == (2, True)
    assert run(["platform", "check", "--clean"]) == 0
    assert capsys.readouterr().out == "no replay has left anything\n"
