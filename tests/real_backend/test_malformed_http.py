"""Broken HTTP, the same 2,000 requests each time, at everything of ours that listens.

Whoever sends a complete request, or one that cannot become one, gets an answer; none of them is a 5xx but those that
docs/openwhisk.md names; and afterwards the server still serves.
"""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from real_backend.platform import python_runtime
from real_backend.platform.state import StateFolder
from tests.real_backend.malformed import broken, exchange, owes_an_answer, request, status
from tests.real_backend.worker.conftest import TOYS, Worker

COUNT, SEED = 2_000, 1
TYCHE = (sys.executable, "-c", "from tyche_env.cli import main; main()", "platform")


def attack(host: str, port: int, sound: list[bytes], allowed: set[int], patience_s: float = 5.0) -> Counter[int | None]:
    """Send broken requests one after another; returns how often each status was the answer."""
    seen: Counter[int | None] = Counter()
    for number, sent in enumerate(broken(sound, COUNT, SEED)):
        answer = exchange(host, port, sent, patience_s)
        code = status(answer)
        seen[code] += 1
        assert code is not None or not owes_an_answer(sent), (number, sent[:500], answer[:200])
        assert code is None or code < 500 or code in allowed, (number, sent[:500], answer[:500])
    assert seen[400] > 100
    return seen


def test_what_a_server_owes_is_told_from_what_is_incomplete() -> None:
    assert owes_an_answer(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert owes_an_answer(b"nonsense\r\n\r\n")
    assert not owes_an_answer(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabc")
    assert not owes_an_answer(b"GET / HTT")
    assert list(broken([request("GET", "/")], 50, 1)) == list(broken([request("GET", "/")], 50, 1))
    assert status(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No\r\n\r\n") == 204


@pytest.mark.slow
def test_the_platform_answers_broken_requests_and_lives(tmp_path: Path) -> None:
    state = StateFolder(tmp_path / "state")
    subprocess.run([*TYCHE, "up", "--state", str(state.folder), "--detach", "--port", "0"], check=True)
    try:
        assert state.url is not None
        address = urlsplit(state.url)
        key = f"Authorization: Basic {base64.b64encode(state.key.encode()).decode()}"
        here = "/api/v1/namespaces/_"
        code = {"exec": {"kind": "python:3", "code": "def main(args):\n    return args\n"}}
        sound = [
            request("PUT", f"{here}/actions/echo?overwrite=true", code, key),
            request("POST", f"{here}/actions/echo?blocking=true", {"x": 1}, key),
            request("POST", f"{here}/actions/echo?blocking=true&result=true&timeout=100", {}, key),
            request("GET", f"{here}/actions?limit=3&skip=1&count=true", None, key),
            request("GET", f"{here}/activations?docs=true&since=1&upto=5", None, key),
            request("GET", f"{here}/activations/{'0' * 32}/logs", None, key),
            request("PUT", f"{here}/packages/p?overwrite=true", {"parameters": [{"key": "k", "value": 1}]}, key),
            request("DELETE", f"{here}/packages/p?force=true", None, key),
            request("GET", f"{here}/triggers", None, key),
            request("POST", "/api/v1/tyche/containers", {"kind": "python:3", "memory": 256}, key),
            request("GET", "/api/v1/tyche/events?after=0&timeout=0", None, key),
            request("GET", "/api/v1", None),
        ]
        assert address.hostname is not None
        assert address.port is not None
        # An activation may fail (502), and what is broken may ask for more than there is (503).
        attack(address.hostname, address.port, sound, {502, 503})
        answers = [status(exchange(address.hostname, address.port, each)) for each in sound[:3]]
        assert answers == [200, 200, 200]
        log = state.log.read_text()
        assert "Traceback" not in log, log[-3000:]
    finally:
        subprocess.run([*TYCHE, "down", "--state", str(state.folder)], check=True)


@pytest.mark.slow
def test_the_action_server_answers_broken_requests_and_lives(tmp_path: Path) -> None:
    worker = Worker(tmp_path, [sys.executable, "-m", "real_backend.worker", "--port", "0", *TOYS], {})
    sound = [
        request("POST", "/init", {"value": {"name": "a", "main": "main", "code": "", "env": {"A": "b"}}}),
        request("POST", "/run", {"value": {"op": "status"}, "deadline": "99999999999999", "activation_id": "x"}),
        request("POST", "/run", {"value": {"op": "infer", "function": "none", "payload": {"n": 1}, "wait_s": 0.1}}),
        request("GET", "/run"),
    ]
    try:
        # Not initialised yet (500), a transfer coding that there is not (501), nothing to be initialised with (502).
        attack("127.0.0.1", worker.port, sound, {500, 501, 502})
        assert worker.process.poll() is None
        assert worker.post("/init", {"value": {}})[0] in (200, 403)
        assert worker.run({"op": "status"})["ok"]
        assert "Traceback" not in worker.err.read_text()
    finally:
        worker.stop()


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A server of the kind python:3 as a process of its own, and its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, python_runtime.__file__, "127.0.0.1", str(port)]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        for _ in range(600):
            with contextlib.suppress(ConnectionRefusedError):
                exchange("127.0.0.1", port, b"")
                break
            time.sleep(0.05)
        yield process, port
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.slow
def test_the_python_runtime_answers_broken_requests_and_lives(runtime: tuple[subprocess.Popen[bytes], int]) -> None:
    process, port = runtime
    code = "def main(args):\n    return args\n"
    sound = [
        request("POST", "/init", {"value": {"name": "a", "main": "main", "code": code, "env": {"A": "b"}}}),
        request("POST", "/run", {"value": {"x": [1, 2]}, "deadline": "1", "activation_id": "x"}),
        request("GET", "/run"),
    ]
    # Broken code cannot be initialised (502), nor can what a broken function gives be a result.
    attack("127.0.0.1", port, sound, {502}, patience_s=0.5)
    assert process.poll() is None
    answer = exchange("127.0.0.1", port, request("POST", "/run", {"value": {"x": 1}}))
    assert json.loads(answer.partition(b"\r\n\r\n")[2]) in ({"x": 1}, {"error": "The action has not been initialized."})
