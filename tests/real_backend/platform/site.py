"""A platform in this process, without a network: its client, and containers that are not there."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from real_backend.client import Client
from real_backend.containers.factory import Container, ContainerError, ContainerExit, ContainerSpec
from real_backend.containers.logs import LISTENING, SENTINEL, LogBuffer
from real_backend.platform.service import Service

KEY = "11111111-2222-3333-4444-555555555555:secret"
ENVIRONMENT = {"PATH": os.environ["PATH"]}


class FakeContainer:
    """A server in this process that answers at once: what it runs is to answer with the parameters."""

    def __init__(self, spec: ContainerSpec, host: str, port: int, server: asyncio.Server) -> None:
        self.name = spec.name
        self.host = host
        self.port = port
        self.logs = LogBuffer()
        self.exited: asyncio.Future[ContainerExit] = asyncio.get_running_loop().create_future()
        self.history: list[str] = []
        self.connections: set[asyncio.Task[None]] = set()
        self._server = server

    async def pause(self) -> None:
        self.history.append("pause")

    async def resume(self) -> None:
        self.history.append("resume")

    async def remove(self) -> None:
        self.history.append("remove")
        self._server.close()
        # A killed server answers nobody; and no connection may outlive the test's event loop.
        for task in self.connections:
            task.cancel()
        await asyncio.gather(*self.connections, return_exceptions=True)
        self.die(-9)

    def die(self, code: int) -> None:
        if not self.exited.done():
            self.exited.set_result(ContainerExit(code, False))

    def memory_mb(self) -> float | None:
        return 1.5


@dataclass
class FakeFactory:
    """Makes false containers, whose actions answer with their parameters.

    Fails while ``broken``, and otherwise the next ``failures`` times.
    """

    name: str = "fake"
    notes: list[str] = field(default_factory=list)
    broken: bool = False
    failures: int = 0
    made: list[FakeContainer] = field(default_factory=list)
    specs: list[ContainerSpec] = field(default_factory=list)

    async def start(self) -> None:
        """Nothing to start."""

    async def create(self, spec: ContainerSpec) -> Container:
        if self.broken or self.failures:
            self.failures = max(0, self.failures - 1)
            raise ContainerError("no containers today")
        self.specs.append(spec)
        holder: list[FakeContainer] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            holder[0].connections.add(task)
            try:
                while True:
                    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                    length = int(head.partition("content-length:")[2].split("\r\n")[0])
                    body = await reader.readexactly(length)
                    path = head.split()[1]
                    if path == "/run":
                        for stream in ("stdout", "stderr"):
                            holder[0].logs.feed(stream, f"{SENTINEL}\n".encode())
                    answer = b'{"ok":true}' if path == "/init" else json.dumps(json.loads(body)["value"]).encode()
                    if b"hold" in body and path == "/run":
                        await asyncio.sleep(0.2)
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(answer), answer))
            except (asyncio.IncompleteReadError, ConnectionError):
                pass
            finally:
                holder[0].connections.discard(task)
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        holder.append(FakeContainer(spec, host, port, server))
        self.made.append(holder[0])
        holder[0].logs.feed("stderr", f"{LISTENING}http://{host}:{port}\n".encode())
        return holder[0]

    async def close(self) -> None:
        """Nothing to stop."""


@dataclass
class Site:
    """A platform and a client of it."""

    service: Service
    client: Client
    http: httpx.AsyncClient

    async def put(self, name: str, code: str, **limits: int) -> None:
        """Make an action of the kind python:3."""
        body = {"exec": {"kind": "python:3", "code": code}, "limits": limits}
        response = await self.http.put(f"/namespaces/_/actions/{name}?overwrite=true", json=body)
        assert response.status_code == 200, response.text

    async def begin(self, name: str, payload: Mapping[str, Any] | None = None) -> str:
        """Begin an activation and return its id at once."""
        response = await self.http.post(f"/namespaces/_/actions/{name}", json=dict(payload or {}))
        assert response.status_code == 202, response.text
        return str(response.json()["activationId"])


Open = Callable[..., contextlib.AbstractAsyncContextManager[Site]]
