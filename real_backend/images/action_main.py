"""The ``__main__`` of the action zip: OpenWhisk's own Python runtime calls ``main``, and the action server answers.

The server runs beside the runtime, once a container; the functions' processes are its children and live as long.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import sys
import threading
from functools import cache
from pathlib import Path
from typing import Any

_HERE = Path(__file__).resolve().parent


def main(parameters: dict[str, Any]) -> dict[str, Any]:
    """Pass one invocation on; ``settings.json`` beside this file says in which mode."""
    body: dict[str, Any] = {"value": parameters}
    if "__OW_DEADLINE" in os.environ:
        body["deadline"] = os.environ["__OW_DEADLINE"]
    return _post(_port(), "/run", body)


@cache
def _port() -> int:
    """Start the server at the first call and initialise it."""
    settings = json.loads((_HERE / "settings.json").read_text(encoding="utf-8"))
    # The runtime writes the ends of activations itself, and a second one would cut its logs.
    command = [sys.executable, "-m", "real_backend.worker", "--port", "0", "--no-sentinels", "--until-eof"]
    server = subprocess.Popen(
        [*command, *settings["arguments"]],
        cwd=_HERE,
        env={**os.environ, "PYTHONPATH": str(_HERE)},
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert server.stderr is not None
    line = server.stderr.readline()
    if not line.startswith("listening on "):
        raise RuntimeError(f"the action server did not start: {line}{server.stderr.read()}")
    # Functions write there as well; a pipe that nobody reads would stop them once it is full.
    threading.Thread(target=shutil.copyfileobj, args=(server.stderr, sys.stderr), daemon=True).start()
    port = int(line.rpartition(":")[2])
    _post(port, "/init", {"value": {"code": json.dumps(settings["settings"])}})
    return port


def _post(port: int, path: str, body: dict[str, Any]) -> dict[str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    try:
        connection.request("POST", path, json.dumps(body))
        response = connection.getresponse()
        reply: dict[str, Any] = json.loads(response.read())
    finally:
        connection.close()
    if response.status != 200:
        raise RuntimeError(f"the action server refused {path}: {reply.get('error')}")
    return reply
