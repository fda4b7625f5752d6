"""The ``__main__`` of the action zip: OpenWhisk's own Python runtime calls ``main``, and the action server answers.

The server runs beside the runtime, once a container; the functions' processes are its children and live as long.
Nothing may leave ``main`` as an exception: the platform would destroy the container, and all that it holds.
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

_HERE = Path(__file__).resolve().parent


def main(parameters: dict[str, Any]) -> dict[str, Any]:
    """Pass one invocation on; ``settings.json`` beside this file says in which mode."""
    try:
        began_s = time.monotonic()
        started = _server.start()
        started_ms = round(1e3 * (time.monotonic() - began_s), 3)
        body: dict[str, Any] = {"value": parameters}
        for key in ("deadline", "activation_id"):
            if f"__OW_{key.upper()}" in os.environ:
                body[key] = os.environ[f"__OW_{key.upper()}"]
        reply = _server.post("/run", body)
    except Exception as error:
        return {"ok": False, "error": {"code": "died", "message": f"{type(error).__name__}: {error}"}}
    # what the runtime's own record counts as the run was making the container ready
    return {**reply, "server_ms": started_ms} if started else reply


class _Server:
    """The action server of this container; one that has died is started again, with nothing held."""

    _port = 0
    # others may be on this machine's loopback interface
    _secret = secrets.token_urlsafe(32)
    _process: subprocess.Popen[str] | None = None

    def start(self) -> bool:
        """Start and initialise it unless it runs; whether that was needed."""
        if self._process is not None and self._process.poll() is None:
            return False
        settings = json.loads((_HERE / "settings.json").read_text(encoding="utf-8"))
        # The runtime writes the ends of activations itself, and a second one would cut its logs.
        command = [sys.executable, "-m", "real_backend.worker", "--port", "0", "--no-sentinels", "--until-eof"]
        server = subprocess.Popen(
            [*command, *settings["arguments"]],
            cwd=_HERE,
            env={**os.environ, "PYTHONPATH": str(_HERE), "TYCHE_SECRET": self._secret},
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert server.stderr is not None
        line = server.stderr.readline()
        if not line.startswith("listening on "):
            server.kill()
            raise RuntimeError(f"the action server did not start: {line}{server.stderr.read()}")
        # Functions write there as well; a pipe that nobody reads would stop them once it is full.
        threading.Thread(target=shutil.copyfileobj, args=(server.stderr, sys.stderr), daemon=True).start()
        self._port = int(line.rpartition(":")[2])
        try:
            self.post("/init", {"value": {"code": json.dumps(settings["settings"])}})
        except Exception:
            server.kill()
            raise
        self._process = server
        return True

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Send it a message."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port)
        try:
            connection.request("POST", path, json.dumps(body), {"Authorization": f"Bearer {self._secret}"})
            response = connection.getresponse()
            reply: dict[str, Any] = json.loads(response.read())
        finally:
            connection.close()
        if response.status != 200:
            raise RuntimeError(f"the action server refused {path}: {reply.get('error')}")
        return reply


_server = _Server()
