"""Action servers as processes of their own."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

TOYS = ("--functions", "real_backend.functions.toy")


class Worker:
    """A running action server and a connection to it; its outputs go to files."""

    def __init__(self, folder: Path, command: list[str], options: dict[str, Any]) -> None:
        self.out, self.err = folder / "stdout", folder / "stderr"
        with self.out.open("w") as out, self.err.open("w") as err:
            self.process = subprocess.Popen(command, stdout=out, stderr=err, **options)
        self.port = self._port()
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def _port(self) -> int:
        for _ in range(600):
            text = self.err.read_text()
            if "listening on" in text and text.endswith("\n"):
                return int(text.rpartition(":")[2])
            assert self.process.poll() is None, text
            time.sleep(0.05)
        raise AssertionError("it never listened")

    def post(self, path: str, body: Any, **headers: str) -> tuple[int, dict[str, Any]]:
        self.connection.request("POST", path, body if isinstance(body, (str, bytes)) else json.dumps(body), headers)
        response = self.connection.getresponse()
        return response.status, json.loads(response.read())

    def init(self, code: str = "", **value: Any) -> dict[str, Any]:
        status, reply = self.post("/init", {"value": {"name": "a", "main": "main", "code": code, **value}})
        assert status == 200, reply
        return reply

    def run(self, value: dict[str, Any], **activation: Any) -> dict[str, Any]:
        status, reply = self.post("/run", {"value": value, **activation})
        assert status == 200, reply
        return reply

    def stop(self) -> int:
        self.connection.close()
        self.process.terminate()
        return self.process.wait(timeout=30)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    """Starts an action server of toy functions with more arguments; all are stopped afterwards."""
    workers: list[Worker] = []

    def begin(*arguments: str, python: tuple[str, ...] = (sys.executable,), **options: Any) -> Worker:
        folder = tmp_path / str(len(workers))
        folder.mkdir()
        given = arguments if "--functions" in arguments else (*TOYS, *arguments)
        worker = Worker(folder, [*python, "-m", "real_backend.worker", "--port", "0", *given], options)
        workers.append(worker)
        return worker

    yield begin
    for worker in workers:
        worker.stop()
