"""The client: where it finds its server, how it repeats refused requests, waits, and compares limits."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from real_backend.client import (
    ActionSpec,
    Backoff,
    Client,
    ClientError,
    ConnectionLostError,
    Credentials,
    LimitError,
    Needs,
)
from tyche_env.errors import UserError

pytestmark = pytest.mark.anyio

RECORD = {
    "activationId": "a" * 32,
    "namespace": "guest",
    "name": "f",
    "start": 1,
    "response": {"status": "success", "success": True, "result": {"x": 1}},
    "annotations": [{"key": "waitTime", "value": 12}],
    "added_later": True,
}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Server:
    """Gives answers in turn, the last one for ever, and notes the requests."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self._answers = list(answers)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    @property
    def paths(self) -> list[str]:
        return [f"{each.method} {each.url.raw_path.decode()}" for each in self.requests]


def client(server: Callable[[httpx.Request], httpx.Response]) -> Client:
    return Client(
        Credentials(host="http://ow", key="user:key"),
        backoff=Backoff(attempts=3, first_s=0.001, longest_s=0.002),
        transport=httpx.MockTransport(server),
    )


def reply(status: int, body: Any) -> httpx.Response:
    return httpx.Response(status, json=body)


def test_the_environment_prevails_over_wskprops(tmp_path: Path) -> None:
    (tmp_path / ".wskprops").write_text("# note\nAPIHOST=https://file:1\nAUTH=u:k\nNAMESPACE=mine\n")
    assert Credentials.find({}, tmp_path) == Credentials(host="https://file:1", key="u:k", namespace="mine")
    found = Credentials.find({"OW_APIHOST": "env:2", "OW_AUTH": "a:b"}, tmp_path)
    assert (found.base, found.key) == ("https://env:2", "a:b")
    other = tmp_path / "other"
    other.write_text("APIHOST=x\nAUTH=y:z\n")
    assert Credentials.find({"WSK_CONFIG_FILE": str(other)}, tmp_path).host == "x"


def test_missing_credentials_name_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"OW_AUTH not set.*wskprops"):
        Credentials.find({"OW_APIHOST": "h"}, tmp_path)


@pytest.mark.parametrize("host", ["http://ow:99999", "ftp://ow", "https://", "http://ow/api/v1/", "http://ow:port"])
def test_what_is_no_address_is_refused(tmp_path: Path, host: str) -> None:
    with pytest.raises(UserError, match=r"OW_APIHOST: .* is no server's address"):
        Credentials.find({"OW_APIHOST": host, "OW_AUTH": "a:b"}, tmp_path)


async def test_a_certificate_that_is_not_trusted_is_told_at_once_with_what_to_set() -> None:
    server = Server(_because(ssl.SSLCertVerificationError("self-signed certificate")))
    async with client(server) as ow:
        with pytest.raises(ClientError, match="not made; OW_CA names the file"):
            await ow.limits()
    assert len(server.requests) == 1
    plain = ssl.SSLError(1, "wrong version number")
    plain.reason = "WRONG_VERSION_NUMBER"
    async with client(Server(_because(plain))) as ow:
        with pytest.raises(ClientError, match="OW_APIHOST begins with http://"):
            await ow.limits()


def _because(cause: Exception) -> httpx.ConnectError:
    error = httpx.ConnectError("not made")
    error.__cause__ = cause
    return error


async def test_a_host_that_says_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(60)
        raise AssertionError

    monkeypatch.setattr("real_backend.client._FIRST_ANSWER_S", 0.05)
    async with Client(Credentials(host="http://ow", key="a:b"), transport=httpx.MockTransport(silent)) as ow:
        with pytest.raises(ClientError, match=r"^http://ow: no answer in 0\.05 s$"):
            await ow.is_embedded()


async def test_a_wrong_key_names_the_variable() -> None:
    async with client(Server(reply(401, {"error": "not valid"}))) as ow:
        with pytest.raises(ClientError, match=r"401 not valid; is OW_AUTH the key of this host\?"):
            await ow.limits()


async def test_the_key_goes_along_and_names_are_quoted() -> None:
    server = Server(reply(200, {"namespace": "guest/p", "name": "a b", "version": "0.0.1"}))
    async with client(server) as ow:
        action = await ow.put_action("p/a b", ActionSpec(kind="python:3", code=""))
    assert action.path == "p/a b"
    assert server.paths == ["PUT /api/v1/namespaces/_/actions/p/a%20b?overwrite=true"]
    assert server.requests[0].headers["authorization"] == "Basic dXNlcjprZXk="


@pytest.mark.parametrize("status", [429, 503])
async def test_refusals_for_load_are_repeated_and_counted(status: int) -> None:
    server = Server(reply(status, {"error": "later"}), reply(status, {"error": "later"}), reply(200, RECORD))
    async with client(server) as ow:
        assert (await ow.invoke("f")).response.result == {"x": 1}
        assert ow.retries == {str(status): 2}


async def test_repetition_ends_with_the_servers_reason() -> None:
    server = Server(reply(429, {"error": "Too many requests"}))
    async with client(server) as ow:
        with pytest.raises(ClientError, match=r"POST http://ow/.*429 Too many requests"):
            await ow.invoke("f")
    assert len(server.requests) == 3


async def test_other_refusals_are_not_repeated() -> None:
    server = Server(reply(404, {"error": "gone"}))
    async with client(server) as ow:
        with pytest.raises(ClientError, match="404 gone"):
            await ow.delete_action("f")
    assert len(server.requests) == 1


async def test_a_connection_that_cannot_be_made_is_tried_again_even_for_invocations() -> None:
    server = Server(httpx.ConnectError("refused"), reply(200, RECORD))
    async with client(server) as ow:
        assert (await ow.invoke("f")).wait_ms == 12
        assert ow.retries == {"connection": 1}


async def test_a_broken_connection_repeats_a_question_but_never_an_invocation() -> None:
    server = Server(httpx.ReadError("broken"), reply(200, RECORD))
    async with client(server) as ow:
        assert (await ow.activation("a" * 32)).activationId == "a" * 32
    server = Server(httpx.ReadError("broken"), reply(200, RECORD))
    async with client(server) as ow:
        with pytest.raises(ConnectionLostError, match="ReadError broken"):
            await ow.invoke("f")
    assert len(server.requests) == 1


async def test_what_the_server_does_not_wait_for_is_asked_for_until_it_ends() -> None:
    accepted = reply(202, {"activationId": "a" * 32})
    server = Server(accepted, reply(404, {"error": "not yet"}), reply(404, {"error": "not yet"}), reply(200, RECORD))
    async with client(server) as ow:
        assert (await ow.invoke("f")).response.success
    assert server.paths[1:] == [f"GET /api/v1/namespaces/_/activations/{'a' * 32}"] * 3


async def test_waiting_has_an_end() -> None:
    server = Server(reply(202, {"activationId": "a" * 32}), reply(404, {"error": "not yet"}))
    async with client(server) as ow:
        with pytest.raises(ClientError, match=r"has not ended after"):
            await ow.invoke("f", timeout_s=0.05)


@pytest.mark.parametrize("status", [500, 502])
async def test_a_failed_activation_is_an_answer(status: int) -> None:
    failed = {**RECORD, "response": {"status": "application error", "success": False, "result": {"error": "no"}}}
    async with client(Server(reply(status, failed))) as ow:
        assert (await ow.invoke("f")).response.status == "application error"
    async with client(Server(reply(status, {"error": "proxy"}))) as ow:
        with pytest.raises(ClientError, match="proxy"):
            await ow.invoke("f")


async def test_an_action_is_sent_with_only_what_was_said() -> None:
    server = Server(reply(200, {"namespace": "guest", "name": "f", "version": "0.0.1"}))
    async with client(server) as ow:
        await ow.put_action("f", ActionSpec(image="tyche-worker", memory_mib=512, annotations={"a": 1}))
    assert server.paths == ["PUT /api/v1/namespaces/_/actions/f?overwrite=true"]
    assert json.loads(server.requests[0].content) == {
        "exec": {"kind": "blackbox", "image": "tyche-worker"},
        "limits": {"memory": 512},
        "parameters": [],
        "annotations": [{"key": "a", "value": 1}],
    }


async def test_long_lists_are_read_page_by_page() -> None:
    page = [{"namespace": "guest", "name": f"f{k}", "version": "1"} for k in range(200)]
    server = Server(reply(200, page), reply(200, page[:3]))
    async with client(server) as ow:
        assert len(await ow.actions()) == 203
    assert server.paths[1] == "GET /api/v1/namespaces/_/actions?limit=200&skip=200"


async def test_limits_of_the_namespace_prevail_over_the_servers() -> None:
    whole = {"limits": {"max_action_memory": 536870912, "max_action_duration": 300000, "concurrent_actions": 30}}
    server = Server(reply(200, {"actionMemoryMax": 1024, "invocationsPerMinute": 60}), reply(200, whole))
    async with client(server) as ow:
        limits = await ow.limits()
    assert (limits.memory_max_mib, limits.timeout_max_ms) == (1024, 300_000)
    assert (limits.invocations_per_minute, limits.concurrent_invocations) == (60, 30)


async def test_needs_that_exceed_limits_name_every_setting() -> None:
    body = {"maxActionMemory": 512, "invocationsPerMinute": 60, "concurrentInvocations": 30, "maxActionTimeout": 300000}
    needs = Needs(memory_mib=2048, per_minute=600, concurrent=20, timeout_ms=1000)
    async with client(Server(reply(200, body))) as ow:
        with pytest.raises(LimitError) as error:
            await ow.check(needs)
    text = str(error.value)
    assert " allows too little: " in text
    assert "2048 needed, at most 512; set whisk.memory.max, or `tyche platform up --max-action-mb`" in text
    assert "limits.actions.invokes.perMinute" in text
    assert "invokes.concurrent" not in text
    assert "time-limit" not in text


async def test_a_genuine_openwhisk_is_told_from_the_embedded_platform() -> None:
    async with client(Server(reply(404, {"error": "no"}))) as ow:
        assert not await ow.is_embedded()
    async with client(Server(reply(200, {"name": "process", "notes": []}))) as ow:
        assert await ow.is_embedded()


LOGIN = "<html><head><title>\n  Sign in\n</title></head><body>please</body></html>"
STRANGERS = [
    (
        httpx.Response(200, html=LOGIN, headers={"Server": "nginx"}),
        "200 no JSON but text/html, from nginx: 'Sign in'; is OW_APIHOST the host of an OpenWhisk?",
    ),
    (httpx.Response(502, text="upstream\n\nfailed"), "502 no JSON but text/plain: 'upstream failed'"),
    (httpx.Response(200), "200 no JSON but no content type, empty; is OW_APIHOST"),
    (
        httpx.Response(302, html="", headers={"Location": "https://login.example/"}),
        "302 no JSON but text/html, leads to https://login.example/, empty",
    ),
    (httpx.Response(200, json=[]), "an object was expected"),
]


@pytest.mark.parametrize(("answer", "said"), STRANGERS)
async def test_what_is_no_openwhisk_is_described_in_one_line(answer: httpx.Response, said: str) -> None:
    async with client(Server(answer)) as ow:
        with pytest.raises(ClientError) as raised:
            await ow.invoke("f")
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


async def test_json_of_somebody_else_is_refused_by_what_it_lacks() -> None:
    async with client(Server(reply(200, {"hello": 1}))) as ow:
        with pytest.raises(ClientError, match="no answer of an OpenWhisk, activationId: Field required"):
            await ow.activation("a" * 32)
    async with client(Server(reply(200, [{"hello": 1}]))) as ow:
        with pytest.raises(ClientError, match="no answer of an OpenWhisk, namespace: Field required"):
            await ow.actions()
