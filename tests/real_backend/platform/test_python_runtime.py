"""The action server of the kind python:3, as a process of its own: whom it serves."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from real_backend.platform import python_runtime

SECRET = "s" * 43
CODE = """
import os, threading

def main(a):
    main_thread = threading.current_thread() is threading.main_thread()
    return {"main": main_thread, "told": "TYCHE_SECRET" in os.environ}
"""


class Runtime:
    """A runtime, and calls of it."""

    def __init__(self, secret: str | None) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self.process = subprocess.Popen(
            [sys.executable, "-P", python_runtime.__file__, "127.0.0.1", str(self.port)],
            env={"PATH": os.environ["PATH"]} | ({} if secret is None else {"TYCHE_SECRET": secret}),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        assert self.process.stderr.readline() == f"listening on http://127.0.0.1:{self.port}\n"

    def call(self, path: str, body: Any, secret: str | None = None, method: str = "POST") -> tuple[int, dict[str, Any]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        headers = {} if secret is None else {"Authorization": f"Bearer {secret}"}
        try:
            connection.request(method, path, body if isinstance(body, bytes) else json.dumps(body), headers)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    made = Runtime(SECRET)
    yield made
    made.process.kill()
    made.process.communicate()


def test_only_who_knows_the_secret_is_served(runtime: Runtime) -> None:
    init = {"value": {"code": CODE}}
    for secret in (None, "", "wrong", SECRET[:-1], SECRET + "s"):
        for method, path in (("POST", "/init"), ("POST", "/run"), ("POST", "/"), ("GET", "/"), ("DELETE", "/init")):
            assert runtime.call(path, init, secret, method)[0] == 403
    assert runtime.call("/init", init, SECRET) == (200, {"ok": True})
    # the action does not learn it, and runs where signals can be handled
    assert runtime.call("/run", {"value": {}}, SECRET) == (200, {"main": True, "told": False})
    assert runtime.call("/run", {"value": {}}, "wrong")[0] == 403


def test_without_a_secret_there_is_none_to_know() -> None:
    runtime = Runtime(None)
    try:
        assert runtime.call("/init", {"value": {"code": CODE}}) == (200, {"ok": True})
    finally:
        runtime.process.kill()
        runtime.process.communicate()


def test_a_refused_body_is_not_read(runtime: Runtime) -> None:
    with socket.create_connection(("127.0.0.1", runtime.port), timeout=30) as stranger:
        head = "POST /init HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\nExpect: 100-continue\r\n\r\n"
        stranger.sendall(head.encode())
        answer = b""
        while chunk := stranger.recv(65_536):
            answer += chunk
    assert answer.startswith(b"HTTP/1.1 403 ")


def test_whoever_says_nothing_holds_up_nobody(runtime: Runtime) -> None:
    with socket.create_connection(("127.0.0.1", runtime.port)):
        assert runtime.call("/init", {"value": {"code": CODE}}, SECRET)[0] == 200


@pytest.mark.parametrize("body", [b"[]", b"{", b"\xff", b"1"])
def test_bodies_that_are_no_objects_are_refused(runtime: Runtime, body: bytes) -> None:
    assert runtime.call("/init", body, SECRET)[0] == 400
    assert runtime.call("/init", {"value": {"code": CODE}}, SECRET)[0] == 200
