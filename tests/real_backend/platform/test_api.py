"""The REST interface as OpenWhisk's table has it, with containers that are real processes."""

from __future__ import annotations

import asyncio
import base64
import io
import zipfile
from typing import Any

import httpx
import pytest

from tests.real_backend.platform.site import FakeFactory, Open

pytestmark = pytest.mark.anyio

COUNT = "n = 0\ndef main(args):\n    global n\n    n += 1\n    print('called', n)\n    return {'n': n, **args}\n"


def notes(record: dict[str, Any]) -> dict[str, Any]:
    return {each["key"]: each["value"] for each in record["annotations"]}


async def test_an_action_is_made_updated_listed_and_deleted(open_site: Open) -> None:
    async with open_site() as site:
        body = {"exec": {"kind": "python:3", "code": COUNT}, "parameters": [{"key": "p", "value": 1}]}
        made = await site.http.put("/namespaces/_/actions/count", json=body)
        assert made.status_code == 200
        assert made.json()["version"] == "0.0.1"
        assert made.json()["limits"] == {"timeout": 60_000, "memory": 256, "logs": 10, "concurrency": 1}
        assert (await site.http.put("/namespaces/_/actions/count", json=body)).status_code == 409
        changed = await site.http.put("/namespaces/_/actions/count?overwrite=true", json={"limits": {"memory": 512}})
        assert (changed.json()["version"], changed.json()["limits"]["memory"]) == ("0.0.2", 512)
        assert changed.json()["exec"]["code"] == COUNT
        listed = (await site.http.get("/namespaces/guest/actions")).json()
        assert [(each["name"], "code" in each["exec"]) for each in listed] == [("count", False)]
        assert (await site.http.get("/namespaces/_/actions?count=true")).json() == {"actions": 1}
        assert "code" not in (await site.http.get("/namespaces/_/actions/count?code=false")).json()["exec"]
        assert (await site.http.delete("/namespaces/_/actions/count")).status_code == 200
        assert (await site.http.get("/namespaces/_/actions/count")).status_code == 404


async def test_a_blocking_invocation_gives_the_record_or_only_the_result(open_site: Open) -> None:
    async with open_site() as site:
        await site.put("count", COUNT)
        whole = await site.http.post("/namespaces/_/actions/count?blocking=true", json={"x": 5})
        record = whole.json()
        assert whole.status_code == 200
        assert whole.headers["x-openwhisk-activation-id"] == record["activationId"]
        assert record["response"] == {"result": {"n": 1, "x": 5}, "size": 16, "status": "success", "success": True}
        assert notes(record)["kind"] == "python:3"
        assert notes(record)["waitTime"] >= 0
        assert notes(record)["initTime"] >= 0
        only = await site.http.post("/namespaces/_/actions/count?blocking=true&result=true", json={})
        assert only.json() == {"n": 2}


async def test_a_warm_start_has_no_init_time_and_keeps_the_modules_globals(open_site: Open) -> None:
    async with open_site() as site:
        await site.put("count", COUNT)
        first = await site.client.invoke("count")
        second = await site.client.invoke("count")
        assert (first.response.result["n"], second.response.result["n"]) == (1, 2)
        assert first.init_ms is not None
        assert second.init_ms is None
        assert second.annotation("tyche")["start"] == "warm"


async def test_a_non_blocking_invocation_is_found_by_its_id(open_site: Open) -> None:
    async with open_site() as site:
        await site.put("count", COUNT)
        accepted = await site.http.post("/namespaces/_/actions/count", json={})
        assert accepted.status_code == 202
        activation = accepted.json()["activationId"]
        record = await site.client.wait(activation, 20)
        assert record.response.result == {"n": 1}
        assert (await site.http.get(f"/namespaces/_/activations/{activation}/result")).json()["success"]
        lines = (await site.http.get(f"/namespaces/_/activations/{activation}/logs")).json()["logs"]
        assert [line.partition("stdout: ")[2] for line in lines] == ["called 1"]


async def test_what_takes_too_long_to_wait_for_is_accepted_with_202(open_site: Open) -> None:
    async with open_site() as site:
        await site.put("slow", "import time\ndef main(args):\n    time.sleep(0.3)\n    return {}\n")
        answer = await site.http.post("/namespaces/_/actions/slow?blocking=true&timeout=50", json={})
        assert answer.status_code == 202
        assert (await site.client.wait(answer.json()["activationId"], 20)).response.success


@pytest.mark.parametrize(
    ("code", "status", "error"),
    [
        ("def main(args):\n    return {'error': 'no'}\n", "application error", "no"),
        ("def main(args):\n    raise ValueError('bad luck')\n", "action developer error", "ValueError: bad luck"),
        ("def main(args):\n    return 5\n", "action developer error", "did not return a dictionary"),
        ("def main(args):\n    pass\n", "action developer error", "did not return a dictionary"),
        ("def main(args):\n    return {'x': float('inf')}\n", "action developer error", "not produce a valid JSON"),
        ("def main(args)\n", "action developer error", "SyntaxError"),
        ("def other(args):\n    return {}\n", "action developer error", "has no attribute 'main'"),
        ("import os\ndef main(args):\n    os._exit(3)\n", "action developer error", "exited unexpectedly"),
        ("import time\ndef main(args):\n    time.sleep(9)\n", "action developer error", "exceeded its time limits"),
        ("import time\ntime.sleep(9)\n", "action developer error", "during initialization"),
        ("def main(args):\n    return {'x': 'y' * 2_000_000}\n", "application error", "exceeded the allowed length"),
    ],
)
async def test_a_failing_action_answers_502_with_its_record(
    open_site: Open, code: str, status: str, error: str
) -> None:
    async with open_site() as site:
        await site.put("fails", code, timeout=60_000 if "sleep" not in code else 300)
        answer = await site.http.post("/namespaces/_/actions/fails?blocking=true", json={})
        assert answer.status_code == 502
        response = answer.json()["response"]
        assert (response["status"], response["success"]) == (status, False)
        assert error in response["result"]["error"]
        assert notes(answer.json())["timeout"] == ("sleep" in code)


async def test_a_container_that_needs_too_much_memory_is_killed_for_it(open_site: Open) -> None:
    async with open_site() as site:
        if "not enforced" in site.service.factory.notes[0]:
            pytest.skip(site.service.factory.notes[0])
        await site.put("hungry", "def main(args):\n    return {'n': len(b'x' * 400_000_000)}\n", memory=128)
        activation = await site.client.invoke("hungry")
        assert activation.response.result == {"error": "The action exhausted its memory and was aborted."}


async def test_code_may_come_as_a_zip_archive_with_modules(open_site: Open) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(
            "__main__.py", "from helper import double\ndef run(args):\n    return {'x': double(args['x'])}\n"
        )
        archive.writestr("helper.py", "def double(x):\n    return 2 * x\n")
    code = base64.b64encode(packed.getvalue()).decode()
    async with open_site() as site:
        what = {"kind": "python:3", "code": code, "main": "run"}
        await site.http.put("/namespaces/_/actions/zipped", json={"exec": what})
        assert (await site.client.invoke("zipped", {"x": 4})).response.result == {"x": 8}


async def test_parameters_of_package_action_and_request_prevail_in_that_order(open_site: Open) -> None:
    async with open_site() as site:
        parameters = [{"key": key, "value": "package"} for key in "abc"]
        await site.http.put("/namespaces/_/packages/p", json={"parameters": parameters})
        body = {
            "exec": {
                "kind": "python:3",
                "code": "import os\ndef main(args):\n    return {**args, 'd': os.environ['d']}\n",
            },
            "parameters": [
                {"key": "b", "value": "action"},
                {"key": "c", "value": "action"},
                {"key": "d", "value": "init", "init": True},
            ],
        }
        await site.http.put("/namespaces/_/actions/p/show", json=body)
        activation = await site.client.invoke("p/show", {"c": "request"})
        assert activation.response.result == {"a": "package", "b": "action", "c": "request", "d": "init"}


async def test_packages_hold_actions_and_go_only_when_empty(open_site: Open) -> None:
    async with open_site() as site:
        assert (
            await site.http.put("/namespaces/_/actions/p/count", json={"exec": {"kind": "python:3", "code": ""}})
        ).status_code == 404
        await site.http.put("/namespaces/_/packages/p", json={})
        await site.put("p/count", COUNT)
        assert [each["name"] for each in (await site.http.get("/namespaces/_/actions/p/")).json()] == ["count"]
        assert [each["name"] for each in (await site.http.get("/namespaces/_/packages/p")).json()["actions"]] == [
            "count"
        ]
        assert (await site.http.delete("/namespaces/_/packages/p")).status_code == 409
        await site.client.delete_action("p/count")
        assert (await site.http.delete("/namespaces/_/packages/p")).status_code == 200
        assert (await site.http.get("/namespaces/_/packages")).json() == []


async def test_a_sequence_passes_results_on_and_stops_at_the_first_error(open_site: Open) -> None:
    async with open_site() as site:
        await site.put("inc", "def main(args):\n    return {'x': args['x'] + 1}\n")
        await site.put("odd", "def main(args):\n    return {'error': 'odd'} if args['x'] % 2 else args\n")
        what = {"kind": "sequence", "components": ["/_/inc", "/guest/odd", "/_/inc"]}
        await site.http.put("/namespaces/_/actions/seq", json={"exec": what})
        good = await site.client.invoke("seq", {"x": 1})
        assert good.response.result == {"x": 3}
        assert len((await site.client.activation(good.activationId)).logs) == 3
        bad = await site.client.invoke("seq", {"x": 2})
        assert (bad.response.status, bad.response.result) == ("application error", {"error": "odd"})
        circle = {"exec": {"kind": "sequence", "components": ["/_/seq"]}}
        refused = await site.http.put("/namespaces/_/actions/seq?overwrite=true", json=circle)
        assert refused.json()["error"] == "Sequence may not refer to itself."


REFUSED = [
    ("PUT", "actions/a", b"{}", 400),
    ("PUT", "actions/a", b'{"exec": {"kind": "cobol:85", "code": ""}}', 400),
    ("PUT", "actions/a", b'{"exec": {"kind": "blackbox"}}', 400),
    ("PUT", "actions/a", b'{"exec": {"kind": "python:3", "code": ""}, "limits": {"memory": 9999}}', 400),
    ("PUT", "actions/a", b'{"exec": {"kind": "python:3", "code": ""}, "limits": {"timeout": 1}}', 400),
    ("PUT", "actions/a", b'{"exec": {"kind": "python:3", "code": ""}, "limits": {"concurrency": 2}}', 400),
    ("PUT", "actions/a", b'{"exec": ', 400),
    ("PUT", "actions/-a-", b'{"exec": {"kind": "python:3", "code": ""}}', 400),
    ("POST", "actions/here", b"[1]", 400),
    ("POST", "actions/here", b"{", 400),
    ("POST", "actions/missing", b"{}", 404),
    ("POST", "actions/here", b'{"x": "' + b"x" * 1_048_576 + b'"}', 413),
    ("GET", "actions/missing", b"", 404),
    ("GET", "actions?limit=201", b"", 400),
    ("GET", "actions?limit=x", b"", 400),
    ("GET", "activations/0123456789abcdef0123456789abcdef", b"", 404),
    ("GET", "activations/short", b"", 400),
    ("GET", "activations?docs=true&count=true", b"", 400),
    ("DELETE", "packages/missing", b"", 404),
    ("PUT", "triggers/t", b"{}", 400),
    ("PUT", "rules/r", b"{}", 400),
    ("GET", "triggers/t", b"", 404),
    ("PATCH", "actions/here", b"{}", 404),
    ("PUT", "packages/default", b"{}", 400),
    ("POST", "actions/here", b'{"a": "\\ud800"}', 400),
    ("POST", "actions/here", b"[" * 100_000, 400),
    ("POST", "actions/here?timeout=60001", b"{}", 400),
    (
        "PUT",
        "actions/a",
        b'{"exec": {"kind": "python:3", "code": ""}, "parameters": [{"key": "p", "value": 1e400}]}',
        400,
    ),
    ("PUT", "actions/a", b'{"exec": {"kind": "python:3", "code": ""}, "limits": {"instances": 2}}', 400),
]


async def test_refusals_carry_a_reason_and_the_transaction(open_site: Open) -> None:
    async with open_site() as site:
        await site.put("here", COUNT)
        for method, path, body, status in REFUSED:
            url = f"/namespaces/_/{path}"
            headers = {"X-Request-ID": "abc123", "Content-Type": "application/json"}
            answer = await site.http.request(method, url, content=body, headers=headers)
            assert answer.status_code == status, (method, path, body[:80])
            assert answer.json()["error"]
            assert answer.json()["code"] == answer.headers["x-request-id"] == "abc123"


async def test_only_the_key_opens_and_only_the_own_namespace(open_site: Open) -> None:
    async with open_site() as site:
        for auth in (None, ("wrong", "key"), ("", "")):
            async with httpx.AsyncClient(transport=site.http._transport, base_url="http://platform", auth=auth) as http:
                assert (await http.get("/api/v1/namespaces")).status_code == 401
                assert (await http.get("/metrics")).status_code == 401
                assert (await http.get("/api/v1/tyche/containers")).status_code == 401
                assert (await http.get("/api/v1")).json()["api_version_path"] == "v1"
        assert (await site.http.get("/namespaces/other/actions")).status_code == 403
        assert (await site.http.get("/namespaces")).json() == ["guest"]


async def test_lists_of_activations_are_newest_first_and_filtered(open_site: Open) -> None:
    async with open_site() as site:
        await site.put("count", COUNT)
        await site.put("other", COUNT)
        ids = [(await site.client.invoke(name)).activationId for name in ("count", "count", "other")]

        async def listed(query: str) -> Any:
            return (await site.http.get(f"/namespaces/_/activations{query}")).json()

        assert [each["activationId"] for each in await listed("")] == ids[::-1]
        assert [each["activationId"] for each in await listed("?name=count&limit=1")] == [ids[1]]
        records = await listed("?name=count&skip=1&docs=true")
        assert [each["response"]["result"] for each in records] == [{"n": 1}]
        assert await listed(f"?since={records[0]['start'] + 1_000_000}") == []
        assert await listed("?count=true") == {"activations": 3}


async def test_a_restart_loses_no_action_and_no_finished_activation(open_site: Open) -> None:
    async with open_site() as site:
        await site.http.put("/namespaces/_/packages/p", json={})
        await site.put("p/count", COUNT)
        done = await site.client.invoke("p/count")
        await site.put("slow", "import time\ndef main(args):\n    time.sleep(30)\n")
        interrupted = await site.begin("slow")
        await asyncio.sleep(0.05)
    async with open_site() as site:
        assert {each.path for each in await site.client.actions()} == {"p/count", "slow"}
        assert (await site.client.activation(done.activationId)).response == done.response
        assert (await site.client.activation(interrupted)).response.status == "whisk internal error"
        assert (await site.client.invoke("p/count")).init_ms is not None


async def test_an_activation_that_a_killed_platform_left_is_an_internal_error(open_site: Open) -> None:
    async with open_site() as site:
        await site.put("count", COUNT)
        record = (await site.client.invoke("count")).model_dump()
        record.update(activationId="0" * 32, response={}, annotations=[], namespace="guest")
        site.service.store.accept(record, "count")
        assert (await site.http.get(f"/namespaces/_/activations/{'0' * 32}")).status_code == 404
    async with open_site() as site:
        left = await site.client.activation("0" * 32)
        assert left.response.status == "whisk internal error"
        assert "restarted" in left.response.result["error"]


async def test_metrics_count_starts_and_openapi_describes_the_bodies(open_site: Open) -> None:
    async with open_site() as site:
        await site.put("count", COUNT)
        await site.client.invoke("count")
        await site.client.invoke("count")
        text = (await site.http.get("http://platform/metrics")).text
        assert 'tyche_activations_total{start="cold",status="success"} 1.0' in text
        assert 'tyche_activations_total{start="warm",status="success"} 1.0' in text
        assert 'tyche_containers{node="invoker0",state="idle"} 1.0' in text
        description = (await site.http.get("http://platform/openapi.json")).json()
        assert "ActionPut" in description["components"]["schemas"]


async def test_containers_are_made_ahead_of_time_and_removed_on_request(open_site: Open) -> None:
    async with open_site() as site:
        await site.put("count", COUNT)
        made = await site.client.create_container("count", "invoker0")
        assert (made.state, made.action, made.keep_alive_s) == ("idle", "count", 600)
        activation = await site.client.invoke("count")
        assert activation.init_ms is None
        assert activation.annotation("tyche")["container"] == made.id
        await site.client.remove_container(made.id)
        assert await site.client.containers() == []
        kept = await site.http.post("/tyche/containers", json={"action": "count", "keep_alive_s": 50})
        assert (kept.status_code, kept.json()["keep_alive_s"]) == (201, 50)
        for body, status in (
            ({"action": "missing"}, 404),
            ({"action": "count", "node": "elsewhere"}, 404),
            ({"action": "count", "kind": "python:3"}, 400),
            ({"kind": "python:3", "memory": 1}, 400),
            ({"kind": "cobol:85", "memory": 256}, 400),
            ({}, 400),
        ):
            assert (await site.http.post("/tyche/containers", json=body)).status_code == status
        assert (await site.http.delete("/tyche/containers/none")).status_code == 404


async def test_the_platform_tells_what_its_containers_are(open_site: Open) -> None:
    async with open_site(FakeFactory(notes=["made for a test"])) as site:
        assert await site.client.container_factory() == {"name": "fake", "notes": ["made for a test"]}
        refused = await site.http.get("/tyche/engine")
        assert (refused.status_code, refused.json()["error"]) == (404, "/engine is now /container-factory")
