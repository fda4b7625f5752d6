"""OpenWhisk's container protocol over HTTP: ``/init`` once, then ``/run`` for each activation.

HTTP is parsed by h11 and each reply is one write; a web framework would double the start-up time and the memory of
every container.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import secrets
import socket
import sys
import time
import uuid
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h11

from real_backend.worker.manager import Manager
from real_backend.worker.messages import ActionError, Run, Settings

SENTINEL = "XXX_THE_END_OF_A_WHISK_ACTIVATION_XXX"
SECRET_VARIABLE = "TYCHE_SECRET"
"""Variable with the secret of this container; who calls says ``Authorization: Bearer SECRET``."""
_LARGEST_BODY = 64 << 20
_LARGEST_ANSWER = 1_000_000
"""OpenWhisk cuts results at 1 MiB; the rest is for what else a reply says."""
_CHUNK = 1 << 16
_DRAIN_S = 1.0
_REMEMBERED = 64
_MACHINE = Path("/proc/sys/kernel/random/boot_id")
_PATIENCE_S = 10.0
"""How long whoever has not shown the secret may keep us waiting."""
_MARGIN_S = 0.05
"""We answer a little before the deadline, at which the platform would destroy the container and all it holds."""


@dataclass(slots=True)
class ActionServer:
    """Answers ``/init`` and ``/run``.

    Attributes:
        manager: carries invocations out.
        environment: of the functions' processes; ``/init`` adds to it.
        node: name of the node; ``/init`` may change it.
        gpu_uuid: the GPU that its functions use; None without one.
        sentinels: whether to end each activation's logs with OpenWhisk's line.
        secret: what whoever calls must know; None lets in everybody, as OpenWhisk's own containers do.
        boot_id: made anew with each start, so that a reply tells whether the container is still the same.
        machine_id: of the machine that the container is on, the same in all its containers; None if it cannot be read.
        runs: how many activations began here.
    """

    manager: Manager
    environment: dict[str, str]
    node: str = field(default_factory=socket.gethostname)
    gpu_uuid: str | None = None
    sentinels: bool = True
    secret: str | None = None
    boot_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    machine_id: str | None = field(default_factory=lambda: _machine_id())
    runs: int = 0
    _settings: Settings | None = None
    _seen: deque[str] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))

    async def handle(self, method: str, path: str, body: bytes) -> tuple[int, dict[str, Any]]:
        """Answer one HTTP request with a status and a JSON object."""
        if path not in ("/init", "/run"):
            return 404, {"error": f"{path}: not found; there are /init and /run"}
        if method != "POST":
            return 405, {"error": f"{method}: not allowed; {path} takes POST"}
        try:
            value = json.loads(body)
            if not isinstance(value, dict):
                raise ValueError("it must be an object")
        except (ValueError, RecursionError) as error:
            return 400, {"error": f"the body is no JSON object: {error}"}
        return self._init(value) if path == "/init" else await self._run(value)

    def _init(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if self._settings is not None:
            return 403, {"error": "Cannot initialize the action more than once."}
        value = body.get("value")
        try:
            if not isinstance(value, dict):
                raise ActionError("bad_request", "value: must be an object with name, main, code, binary and env")
            environment = value.get("env") or {}
            if not isinstance(environment, dict) or not isinstance(value.get("code") or "", str):
                raise ActionError("bad_request", "value: env must be an object, and code text")
            settings = Settings.parse(value.get("code") or "")
            if settings.functions:
                self.manager.offer(settings.functions)
            if settings.function is not None and settings.function not in self.manager.functions:
                raise ActionError(
                    "unknown_function",
                    f"{settings.function}: no such function here; there are {', '.join(self.manager.functions)}",
                )
        except ActionError as error:
            self._end_of_activation()
            return 502, {"error": error.message}
        self.environment.update({key: str(text) for key, text in environment.items()})
        self._settings = settings
        self.node = settings.node or self.node
        return 200, {"ok": True, **self._common()}

    async def _run(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if self._settings is None:
            return 500, {"error": "the action is not initialized yet"}
        again = self._count(str(body.get("activation_id") or ""))
        reply: dict[str, Any]
        try:
            run = Run.parse(body.get("value", {}), self._settings)
            reply = {"ok": True, **await self.manager.run(run, _seconds_left(body.get("deadline")))}
            _refuse_large(reply)
        except ActionError as error:
            # An object with `error` is what OpenWhisk takes for an application error.
            reply = {"ok": False, "error": error.as_dict()}
        self._end_of_activation()
        about = {**again, **self._common()}
        if "error" in reply:
            # of such a result OpenWhisk keeps the error alone, and who answered must not get lost with the rest
            reply["error"]["container"] = about
        return 200, {**reply, **about}

    def _count(self, activation: str) -> dict[str, bool]:
        """Count an activation that begins; says so if it began here before: the platform runs it once more."""
        self.runs += 1
        again = bool(activation) and activation in self._seen
        self._seen.append(activation)
        return {"again": True} if again else {}

    def _end_of_activation(self) -> None:
        """Tell the platform that the logs of this activation are complete."""
        if self.sentinels:
            for stream in (sys.stdout, sys.stderr):
                stream.write(SENTINEL + os.linesep)
                stream.flush()

    def _common(self) -> dict[str, Any]:
        return {
            "boot_id": self.boot_id,
            "machine_id": self.machine_id,
            "node": self.node,
            "gpu_uuid": self.gpu_uuid,
            "runs": self.runs,
            **self.manager.snapshot(),
        }

    async def serve(self, listening: socket.socket, stop: asyncio.Event) -> None:
        """Serve until ``stop`` is set, then kill all functions."""
        server = await asyncio.start_server(self._connection, sock=listening)
        await stop.wait()
        server.close()
        await self.manager.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # asyncio sets TCP_NODELAY itself.
        with contextlib.suppress(ConnectionError, TimeoutError, asyncio.CancelledError):
            connection = h11.Connection(h11.SERVER)
            try:
                async with asyncio.timeout(None if self.secret is None else _PATIENCE_S) as patience:
                    while await self._exchange(connection, reader, writer, patience):
                        connection.start_next_cycle()
            except h11.RemoteProtocolError as error:
                if connection.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                    await _send(connection, writer, error.error_status_hint, {"error": str(error)})
                    await _drain(reader, writer)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    async def _exchange(
        self,
        connection: h11.Connection,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        patience: asyncio.Timeout,
    ) -> bool:
        """Answer one request; say whether the connection can carry another."""
        request: h11.Request | None = None
        body = bytearray()
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                if connection.they_are_waiting_for_100_continue:
                    writer.write(connection.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
                connection.receive_data(await reader.read(_CHUNK))
            elif isinstance(event, h11.Request):
                request = event
                if not self._knows_secret(request):
                    refusal = {"error": "this container serves only the platform that started it"}
                    await _send(connection, writer, 403, refusal, last=True)
                    return False
                patience.reschedule(None)
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > _LARGEST_BODY:
                    await _send(connection, writer, 413, {"error": f"the body is over {_LARGEST_BODY >> 20} MiB"})
                    await _drain(reader, writer)
                    return False
            elif isinstance(event, h11.EndOfMessage):
                break
            else:
                return False
        assert request is not None
        path = request.target.decode("ascii", "replace").partition("?")[0]
        status, reply = await self.handle(request.method.decode("ascii"), path, bytes(body))
        await _send(connection, writer, status, reply)
        return connection.our_state is h11.DONE and connection.their_state is h11.DONE

    def _knows_secret(self, request: h11.Request) -> bool:
        if self.secret is None:
            return True
        given = [value for name, value in request.headers if name == b"authorization"]
        return len(given) == 1 and secrets.compare_digest(given[0], f"Bearer {self.secret}".encode())


def _machine_id() -> str | None:
    try:
        return _MACHINE.read_text(encoding="ascii").strip()
    except OSError:
        return None


def _refuse_large(reply: dict[str, Any]) -> None:
    """Refuse an answer that the platform would cut off, and with it what the reply says of the container.

    Raises:
        ActionError: failed, with the size.
    """
    size = len(json.dumps(reply.get("answer")))
    if size > _LARGEST_ANSWER:
        raise ActionError("failed", f"{reply['function']}: its answer has {size} bytes, over {_LARGEST_ANSWER}")


async def _send(
    connection: h11.Connection, writer: asyncio.StreamWriter, status: int, reply: dict[str, Any], last: bool = False
) -> None:
    data = json.dumps(reply).encode()
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(data)))]
    if last:
        headers.append(("Connection", "close"))
    events = (h11.Response(status_code=status, headers=headers), h11.Data(data=data), h11.EndOfMessage())
    writer.write(b"".join(connection.send(event) or b"" for event in events))
    await writer.drain()


async def _drain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take what is still coming: closing on unread bytes could take the answer away from whoever reads it."""
    with contextlib.suppress(TimeoutError, OSError):
        writer.write_eof()
        async with asyncio.timeout(_DRAIN_S):
            while await reader.read(_CHUNK):
                pass


def _seconds_left(deadline: Any) -> float | None:
    """Seconds until we have to answer; OpenWhisk's deadline is in epoch milliseconds, as text or number."""
    if deadline is None:
        return None
    try:
        left_s = float(deadline) / 1e3 - time.time() - _MARGIN_S
        if not math.isfinite(left_s):
            raise ValueError
        return left_s
    except (TypeError, ValueError, OverflowError):
        raise ActionError("bad_request", f"deadline: must be epoch milliseconds, got {deadline!r}") from None
