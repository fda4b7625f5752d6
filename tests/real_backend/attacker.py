"""What another user of the machine can do to a platform: run as that user by its path, with the standard library only.

Reads ``{"pids", "addresses", "sockets", "paths", "secrets", "temporary"}`` as JSON from standard input and prints what
it found open, a line each.  It knows more than an attacker would: every path and every address.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

KEYS = (None, "", ":", "x:y", "Bearer", "Bearer ", "Bearer x", "Basic", "Basic ", "Basic Og==", "bearer null")
CONTAINER_PATHS = ("/", "/init", "/run", "/status", "/metrics", "//init", "/init?x=1", "/%69nit")
PLATFORM_PATHS = (
    "/api/v1/namespaces",
    "/api/v1/namespaces/_/limits",
    "/api/v1/namespaces/_/actions",
    "/api/v1/namespaces/_/actions/f",
    "/api/v1/namespaces/guest/activations",
    "/api/v1/namespaces/_/packages",
    "/api/v1/tyche/containers",
    "/api/v1/tyche/nodes",
    "/api/v1/tyche/events",
    "/api/v1/tyche/summary",
    "/status",
    "/metrics",
)
BODY = json.dumps(
    {"value": {"code": "def main(a): return {}", "name": "f", "main": "main"}, "exec": {"kind": "python:3"}}
)


def ports(addresses: list[list[Any]]) -> Iterator[str]:
    """Whatever a listening port does for somebody without a key, beyond refusing."""
    for host, port, paths in addresses:
        for path in CONTAINER_PATHS if paths == "container" else PLATFORM_PATHS:
            for method in ("GET", "POST", "PUT", "DELETE"):
                for key in KEYS:
                    status = ask(host, port, method, path, key)
                    refused = (403,) if paths == "container" else (401, 404, 405)
                    if status not in refused:
                        yield f"{method} {host}:{port}{path} with {key!r}: {status}"


def ask(host: str, port: int, method: str, path: str, key: str | None) -> int:
    connection = http.client.HTTPConnection(host, port, timeout=30)
    headers = {"Content-Type": "application/json"} | ({} if key is None else {"Authorization": key})
    if key == "x:y":
        headers["Authorization"] = "Basic " + base64.b64encode(key.encode()).decode()
    try:
        connection.request(method, path, BODY, headers)
        return connection.getresponse().status
    finally:
        connection.close()


def sockets(names: list[str]) -> Iterator[str]:
    """Sockets of the file system, or abstract ones, that let somebody in."""
    for name in names:
        address = "\0" + name[1:] if name.startswith("@") else name
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, kind) as ours:
                ours.connect(address)
                yield f"socket {name}"


def files(paths: list[str]) -> Iterator[str]:
    """Files and folders that can be read or written."""
    for path in paths:
        for what, flags in (("read", os.O_RDONLY), ("written", os.O_WRONLY)):
            with contextlib.suppress(OSError):
                os.close(os.open(path, flags | os.O_NONBLOCK))
                # the kernel tells everybody which processes a group has
                if what == "written" or not path.endswith("/cgroup.procs"):
                    yield f"{path} can be {what}"
        with contextlib.suppress(OSError):
            list(Path(path).iterdir())
            yield f"{path} can be listed"
        for name in ("json.py", "sitecustomize.py", "real_backend.py"):
            with contextlib.suppress(OSError):
                Path(path, name).touch(exist_ok=False)
                yield f"{path} takes {name}"
        with contextlib.suppress(OSError):
            Path(path).rename(f"{path}-taken")
            yield f"{path} can be renamed"


def processes(pids: list[int], secrets: list[str]) -> Iterator[str]:
    """What can be learnt from processes, or done to them."""
    for pid in pids:
        for name in ("environ", "mem", "maps", "fd", "cwd", "root", "stack", "auxv"):
            with contextlib.suppress(OSError):
                place = f"/proc/{pid}/{name}"
                (os.listdir if name == "fd" else os.readlink if name in ("cwd", "root") else read)(place)
                yield f"{place} can be read"
        for name in ("cmdline", "comm", "status", "limits", "cgroup", "mountinfo"):
            with contextlib.suppress(OSError):
                content = read(f"/proc/{pid}/{name}")
                yield from (f"/proc/{pid}/{name} has a secret" for secret in secrets if secret.encode() in content)
        with contextlib.suppress(OSError):
            os.kill(pid, 0)
            yield f"process {pid} takes signals"


def read(path: str) -> bytes:
    with Path(path).open("rb") as file:
        return file.read(1 << 20)


def around(temporary: str, secrets: list[str]) -> Iterator[str]:
    """What somebody finds who looks around where everybody may write."""
    for root in (temporary, "/dev/shm", "/run"):
        for folder, _, names in os.walk(root):
            for name in names:
                with contextlib.suppress(OSError):
                    path = Path(folder, name)
                    if path.is_file() and any(secret.encode() in read(str(path)) for secret in secrets):
                        yield f"{path} has a secret"


def main() -> None:
    """Attack what standard input describes."""
    known = json.load(sys.stdin)
    assert os.geteuid() != 0
    for found in (
        *processes(known["pids"], known["secrets"]),
        *files(known["paths"]),
        *sockets(known["sockets"]),
        *around(known["temporary"], known["secrets"]),
        *ports(known["addresses"]),
    ):
        print(found)


if __name__ == "__main__":
    main()
