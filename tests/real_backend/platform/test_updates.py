"""Actions that change while they run, and what bindings, annotations and names mean beside the recorded exchanges."""

from __future__ import annotations

import asyncio
import base64
import io
import zipfile
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.real_backend.platform.site import KEY, FakeFactory, Open, Site

pytestmark = pytest.mark.anyio

HERE = "/namespaces/_"
CODE = "def main(args):\n    return args\n"


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition; the test's time limit ends it otherwise."""
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


def container(record: httpx.Response) -> str:
    (ours,) = [each["value"] for each in record.json()["annotations"] if each["key"] == "tyche"]
    return str(ours["container"])


async def running(site: Site) -> asyncio.Task[httpx.Response]:
    """A call that has begun to run in the only container, and takes 0.2 s there."""
    task = asyncio.create_task(site.http.post(f"{HERE}/actions/f?blocking=true", json={"hold": 1}))
    await until(lambda: any(each.activations == 0 and each.initialised for each in site.service.pool.containers))
    return task


@pytest.mark.parametrize("how", ["update", "delete", "delete and make again"])
async def test_a_container_whose_action_changed_while_it_ran_never_serves_again(open_site: Open, how: str) -> None:
    async with open_site(FakeFactory()) as site:
        await site.put("f", CODE)
        call = await running(site)
        if how == "update":
            await site.put("f", CODE)
        else:
            assert (await site.http.delete(f"{HERE}/actions/f")).status_code == 200
            if how != "delete":
                await site.put("f", CODE)
        old = container(await call)
        await until(lambda: all(each.id != old for each in site.service.pool.containers))
        assert site.service.pool.removals == {"outdated": 1}
        if how != "delete":
            assert container(await site.http.post(f"{HERE}/actions/f?blocking=true", json={})) != old


async def test_who_waited_while_the_action_changed_does_not_keep_the_old_container(open_site: Open) -> None:
    # Room for one container, so that the second call waits for the first.
    async with open_site(FakeFactory()) as site:
        await site.put("f", CODE, memory=1024)
        first = await running(site)
        second = asyncio.create_task(site.http.post(f"{HERE}/actions/f?blocking=true", json={}))
        await until(lambda: site.service.pool.queued == 1)
        await site.put("f", CODE, memory=1024)
        assert container(await first) != container(await second)
        await until(lambda: not site.service.pool.containers)
        assert (await site.http.post(f"{HERE}/actions/f?blocking=true", json={})).json()["version"] == "0.0.2"


async def test_an_action_that_raises_loses_its_container_and_one_that_answers_an_error_keeps_it(
    open_site: Open,
) -> None:
    code = "n = 0\ndef main(args):\n    global n\n    n += 1\n    {1: 2}[args.get('k', 1)]\n    return {'error': n}\n"
    async with open_site() as site:
        await site.put("f", code)
        found = [(await site.client.invoke("f", each)).response for each in ({}, {}, {"k": 5}, {})]
        assert [each.result["error"] for each in found] == [1, 2, "KeyError: 5", 1]


async def refusal(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]


@pytest.mark.parametrize(
    "key", ["web-export", "raw-http", "require-whisk-auth", "web-custom-options", "conductor", "feed"]
)
async def test_annotations_that_would_change_what_an_action_is_are_refused_by_name(open_site: Open, key: str) -> None:
    async with open_site(FakeFactory()) as site:

        async def put(value: Any) -> httpx.Response:
            body = {"exec": {"kind": "python:3", "code": CODE}, "annotations": [{"key": key, "value": value}]}
            return await site.http.put(f"{HERE}/actions/f?overwrite=true", json=body)

        status, reason = await refusal(await put(True))
        assert (status, f"'{key}' is not supported" in reason) == (400, True)
        assert await site.client.actions() == []
        assert (await put(False)).status_code == 200
        assert (await put("yes")).status_code == 400


async def test_a_binding_shows_and_runs_what_it_stands_for_but_does_not_change_it(open_site: Open) -> None:
    async with open_site(FakeFactory()) as site:
        pairs = [{"key": "a", "value": "package"}, {"key": "b", "value": "package"}]
        await site.http.put(f"{HERE}/packages/p", json={"parameters": pairs})
        await site.put("p/f", CODE)
        bind = {"binding": {"namespace": "_", "name": "p"}, "parameters": [{"key": "b", "value": "binding"}]}
        assert (await site.http.put(f"{HERE}/packages/q", json=bind)).status_code == 200
        assert [each["name"] for each in (await site.http.get(f"{HERE}/actions/q/")).json()] == ["f"]
        shown = (await site.http.get(f"{HERE}/actions/q/f")).json()["parameters"]
        assert shown == [{"key": "a", "value": "package"}, {"key": "b", "value": "binding"}]
        assert (await site.client.invoke("q/f", {"c": 1})).response.result == {"a": "package", "b": "binding", "c": 1}
        what = {"exec": {"kind": "sequence", "components": ["/_/q/f"]}}
        assert (await site.http.put(f"{HERE}/actions/s", json=what)).status_code == 200
        assert (await site.client.invoke("s")).response.result == {"a": "package", "b": "binding"}
        on_binding = (400, "Operation not permitted on package binding.")
        assert await refusal(await site.http.delete(f"{HERE}/actions/q/f")) == on_binding
        assert await refusal(await site.http.put(f"{HERE}/actions/q/g", json=what)) == on_binding
        for name, to, status in (("r", "q", 400), ("r", "none", 400), ("p", "q", 409)):
            body = {"binding": {"namespace": "guest", "name": to}}
            assert (await site.http.put(f"{HERE}/packages/{name}?overwrite=true", json=body)).status_code == status
        await site.http.delete(f"{HERE}/packages/p?force=true")
        for path in ("actions/q/f", "actions/p/f", "packages/p"):
            assert (await site.http.get(f"{HERE}/{path}")).status_code == 404
        assert (await site.http.post(f"{HERE}/actions/q/f", json={})).status_code == 404
    async with open_site(FakeFactory()) as site:
        assert [each["name"] for each in (await site.http.get(f"{HERE}/packages")).json()] == ["q"]


async def test_what_an_action_inherits_is_final_too(open_site: Open) -> None:
    async with open_site(FakeFactory()) as site:
        await site.http.put(f"{HERE}/packages/p", json={"parameters": [{"key": "a", "value": 1}, {"key": "b"}]})
        body = {"exec": {"kind": "python:3", "code": CODE}, "annotations": [{"key": "final", "value": True}]}
        await site.http.put(f"{HERE}/actions/p/f", json=body)
        assert (await site.http.post(f"{HERE}/actions/p/f?blocking=true", json={"a": 2})).status_code == 400
        assert (await site.client.invoke("p/f", {"b": 2})).response.result == {"a": 1, "b": 2}


async def test_init_parameters_and_the_key_reach_the_environment_and_nothing_else(open_site: Open) -> None:
    code = (
        "import os\nstart = os.environ['E']\n"
        "def main(args):\n    return {**args, 'start': start, 'key': os.environ.get('__OW_API_KEY')}\n"
    )
    async with open_site() as site:
        for name, value in (("without", False), ("with", True)):
            body = {
                "exec": {"kind": "python:3", "code": code},
                "parameters": [{"key": "E", "value": "v", "init": True}],
                "annotations": [{"key": "provide-api-key", "value": value}],
            }
            await site.http.put(f"{HERE}/actions/{name}", json=body)
        assert (await site.client.invoke("without")).response.result == {"start": "v", "key": None}
        assert (await site.client.invoke("with")).response.result == {"start": "v", "key": KEY}


PICKLING = """import pickle, sys
class Thing:
    x = 5
def main(args):
    again = pickle.loads(pickle.dumps(Thing()))
    mixed = hasattr(sys.modules["__main__"], "Thing"), "ActionServer" in globals()
    return {"x": again.x, "module": Thing.__module__, "mixed": mixed}
"""


@pytest.mark.parametrize("packed", [False, True])
async def test_the_module_of_an_action_is_its_own_and_is_found_by_its_name(open_site: Open, packed: bool) -> None:
    code = PICKLING
    if packed:
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as out:
            out.writestr("__main__.py", PICKLING)
        code = base64.b64encode(archive.getvalue()).decode()
    async with open_site() as site:
        await site.put("f", code)
        result = (await site.client.invoke("f")).response.result
        assert result == {"x": 5, "module": "main__", "mixed": [False, False]}
