"""Starting the processes of functions, talking with them, and noticing that they end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from real_backend.worker.messages import ActionError

_LONGEST_LINE = 1 << 26
"""Answers of up to 64 MB; OpenWhisk itself stops at 1 MB unless told otherwise."""

_GRACE_S = 1.0
"""How long a process that has hung up may take to end."""
_POLL_S = 0.0005


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of a request, in the function's process: CLOCK_MONOTONIC nanoseconds."""

    name: str
    begin_ns: int
    end_ns: int


class ProcessEndedError(Exception):
    """The function's process ended before it answered."""


class FunctionProcess:
    """One function's process, as the manager sees it.

    Attributes:
        pid: its process id.
        stages: what it has gone through; :meth:`forget_stages` empties it.
        ended: done when the process is gone and its memory is free; the return code, negative for a signal.
    """

    def __init__(self, pid: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.pid = pid
        self.stages: list[Stage] = []
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._reader = reader
        self._writer = writer
        self._waiting: deque[asyncio.Future[dict[str, Any]]] = deque()
        self._listener: asyncio.Task[None] | None = None

    def listen(self, wait: Callable[[], Awaitable[int]]) -> None:
        """Begin to read its messages; ``wait`` gives the return code once the process has closed its end."""
        self._listener = asyncio.create_task(self._listen(wait))

    async def request(self, message: dict[str, Any]) -> dict[str, Any]:
        """Send a message and wait for what it came to.

        Raises:
            ActionError: what the function's process reported.
            ProcessEndedError: it ended first.
        """
        if self.ended.done():
            raise ProcessEndedError
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting.append(answer)
        self._writer.write(json.dumps(message).encode() + b"\n")
        reply = await answer
        if "error" in reply:
            raise ActionError(reply["error"]["code"], reply["error"]["message"])
        done: dict[str, Any] = reply["done"]
        return done

    def forget_stages(self) -> None:
        """Drop the stages so far, so that they do not pile up over a long life."""
        self.stages.clear()

    def kill(self) -> None:
        """Kill it; ``ended`` tells when it is gone."""
        if not self.ended.done():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    async def _listen(self, wait: Callable[[], Awaitable[int]]) -> None:
        try:
            while line := await self._reader.readline():
                message = json.loads(line)
                if "stage" in message:
                    self.stages.append(Stage(message["stage"], message["begin_ns"], message["end_ns"]))
                elif not self._waiting[0].cancelled():
                    self._waiting.popleft().set_result(message)
                else:
                    self._waiting.popleft()
        except (ConnectionError, ValueError):
            pass  # killed with unread messages of ours in its socket, or its answer is longer than any may be
        # A killed process closes its files after its memory is released, so the socket's end says that both are gone.
        code_known = asyncio.ensure_future(wait())
        await asyncio.wait({code_known}, timeout=_GRACE_S)
        if not code_known.done():
            self.kill()  # it hung up and lives on
        code = await code_known
        await _close(self._writer)
        self.ended.set_result(code)
        while self._waiting:
            answer = self._waiting.popleft()
            if not answer.cancelled():
                answer.set_exception(ProcessEndedError())


@dataclass(frozen=True, slots=True)
class Launcher:
    """Starts a fresh interpreter for each function.

    Attributes:
        functions: module or file that declares the functions.
        environment: the environment of the processes.
        users: the unprivileged user id of each function; empty to stay the server's user.
        folders: where each of these users works and has its temporary files.
    """

    functions: str
    environment: dict[str, str]
    users: dict[str, int]
    folders: dict[str, str] = field(default_factory=dict)

    async def start(self, name: str, begin_ns: int) -> FunctionProcess:
        """Start a function's process; it imports its libraries at once.

        Raises:
            ActionError: failed, the process could not be started.
        """
        ours, theirs = socket.socketpair()
        try:
            process = _spawn(
                "real_backend.worker.child",
                theirs,
                ["--functions", self.functions, "--function", name, "--begin-ns", str(begin_ns)],
                self.environment,
                self.users.get(name),
                self.folders.get(name),
            )
        except OSError as error:
            ours.close()
            who = f" as user {self.users[name]}" if self.users else ""
            raise ActionError("failed", f"{name}: its process cannot be started{who}: {error}") from error
        finally:
            theirs.close()
        reader, writer = await asyncio.open_connection(sock=ours, limit=_LONGEST_LINE)
        child = FunctionProcess(process.pid, reader, writer)

        async def wait() -> int:
            while (code := process.poll()) is None:
                await asyncio.sleep(_POLL_S)
            return code

        child.listen(wait)
        return child

    async def close(self) -> None:
        """Nothing stays behind between starts."""


class ZygoteLauncher:
    """Forks each function from a process that has imported its library; one such zygote for each library.

    Args:
        functions: module or file that declares the functions.
        environment: the environment of the processes.
        libraries: name of each function's library.
    """

    def __init__(self, functions: str, environment: dict[str, str], libraries: dict[str, str]) -> None:
        self._functions = functions
        self._environment = environment
        self._libraries = libraries
        self._zygotes: dict[str, _Zygote] = {}
        self._lock = asyncio.Lock()

    async def start(self, name: str, begin_ns: int) -> FunctionProcess:
        """Fork a function's process; the first of a library waits for the import.

        Raises:
            ActionError: failed, the library cannot be imported or the zygote died.
        """
        async with self._lock:
            library = self._libraries[name]
            zygote = self._zygotes.get(library)
            if zygote is None or zygote.ended:
                zygote = self._zygotes[library] = await _Zygote.open(self._functions, name, self._environment)
                try:
                    await zygote.ready(name)
                except ActionError:
                    await zygote.close()
                    raise
            return await zygote.fork(name, begin_ns)

    @property
    def pids(self) -> tuple[int, ...]:
        """The zygotes that live."""
        return tuple(zygote.pid for zygote in self._zygotes.values() if not zygote.ended)

    async def close(self) -> None:
        """End the zygotes, and with them whatever they forked."""
        while self._zygotes:  # one may be added meanwhile
            await self._zygotes.popitem()[1].close()


class _Zygote:
    def __init__(
        self,
        process: subprocess.Popen[bytes],
        control: socket.socket,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._process = process
        self._control = control
        self._reader = reader
        self._writer = writer
        self._exits: dict[int, asyncio.Future[int]] = {}
        self._replies: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.ended = False
        self._listener = asyncio.create_task(self._listen())

    @classmethod
    async def open(cls, functions: str, name: str, environment: dict[str, str]) -> _Zygote:
        ours, theirs = socket.socketpair()
        try:
            process = _spawn(
                "real_backend.worker.zygote", theirs, ["--functions", functions, "--function", name], environment, None
            )
        finally:
            theirs.close()
        # asyncio keeps `ours` to itself; file descriptors are passed over a duplicate.
        control = ours.dup()
        reader, writer = await asyncio.open_connection(sock=ours)
        return cls(process, control, reader, writer)

    async def ready(self, name: str) -> None:
        """Wait until it has imported the library of a function."""
        await self._reply(f"the zygote of {name}")

    @property
    def pid(self) -> int:
        return self._process.pid

    async def fork(self, name: str, begin_ns: int) -> FunctionProcess:
        ours, theirs = socket.socketpair()
        try:
            order = json.dumps({"function": name, "begin_ns": begin_ns}).encode()
            socket.send_fds(self._control, [order], [theirs.fileno()])
        except OSError as error:
            ours.close()
            raise ActionError("failed", f"{name}: its zygote is gone ({error})") from error
        finally:
            theirs.close()
        pid = (await self._reply(f"{name}: its zygote"))["pid"]
        reader, writer = await asyncio.open_connection(sock=ours, limit=_LONGEST_LINE)
        child = FunctionProcess(pid, reader, writer)
        code = self._exits.setdefault(pid, asyncio.get_running_loop().create_future())

        async def wait() -> int:
            try:
                return await code
            finally:
                del self._exits[pid]

        child.listen(wait)
        return child

    async def close(self) -> None:
        self._process.kill()
        await self._listener

    async def _reply(self, who: str) -> dict[str, Any]:
        reply = await self._replies.get()
        if "error" in reply:
            raise ActionError("failed", f"{who}: {reply['error']}")
        return reply

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while line := await self._reader.readline():
                message = json.loads(line)
                if "exit" in message:
                    self._exits.setdefault(message["exit"], loop.create_future()).set_result(message["code"])
                else:
                    self._replies.put_nowait(message)
        except ConnectionError:
            pass  # killed with unread messages of ours in its socket
        self.ended = True
        self._process.wait()
        await _close(self._writer)
        self._control.close()
        self._replies.put_nowait({"error": "it died"})
        for code in self._exits.values():
            if not code.done():
                code.set_result(-signal.SIGKILL)  # they die with the zygote


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


def _spawn(
    module: str,
    connection: socket.socket,
    arguments: list[str],
    environment: dict[str, str],
    user: int | None,
    folder: str | None = None,
) -> subprocess.Popen[bytes]:
    """Start a module of ours; ``folder`` is where it works and has its temporary files, ours if it is None."""
    fd = connection.fileno()
    common = ["--socket", str(fd), "--parent", str(os.getpid())]
    return subprocess.Popen(
        # -P: functions may write into the folder that they work in, and what they write is not for others to import
        [sys.executable, "-P", "-m", module, *common, *arguments],
        stdin=subprocess.DEVNULL,
        pass_fds=(fd,),
        env=environment if folder is None else {**environment, "TMPDIR": folder},
        cwd=folder,
        user=user,
        group=user,
        extra_groups=None if user is None else (),
    )


def now_ns() -> int:
    """The clock of all stages: CLOCK_MONOTONIC."""
    return time.monotonic_ns()
