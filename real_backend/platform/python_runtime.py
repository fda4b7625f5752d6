"""Action server of the kind ``python:3``: runs a function that comes as text or as a zip archive.

It is run by its path and needs nothing but the standard library, so that it starts fast.  Protocol: OpenWhisk's
``/init`` (once) and ``/run``, the sentinel on both streams after each activation.  The module of the action, by the
name that it has in OpenWhisk's Python kinds, lives as long as the process.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hmac
import io
import json
import os
import signal
import socket
import sys
import tempfile
import traceback
import types
import zipfile
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any

_SENTINEL = "XXX_THE_END_OF_A_WHISK_ACTIVATION_XXX"
_SECRET_VARIABLE = "TYCHE_SECRET"
"""Variable with the secret of this container; who calls says ``Authorization: Bearer SECRET``."""
_MODULE = "main__"
_LARGEST_BODY = 64 << 20
_DRAIN_S = 0.5


class InitError(Exception):
    """The action cannot be initialised; the message goes to its owner."""


def load(value: dict[str, Any]) -> Callable[..., Any]:
    """The function that ``/init`` describes.

    An archive is unpacked into a temporary folder, which goes with the container: each has its own.

    Args:
        value: ``code`` (text, or a zip archive in base64 if ``binary``) and ``main``, the function's name.

    Raises:
        InitError: There is no such function, or its code does not run.
    """
    code, main = value.get("code") or "", value.get("main") or "main"
    folder = Path(tempfile.mkdtemp(prefix="tyche-action-")) if value.get("binary") else Path()
    # A module of its own: what is found by its name, as pickle does, is not looked for in this program.
    module = types.ModuleType(_MODULE)
    module.__file__ = str(folder.absolute() / "__main__.py")
    sys.modules[_MODULE] = module
    if value.get("binary"):
        try:
            archive = zipfile.ZipFile(io.BytesIO(base64.b64decode(code)))
            archive.extractall(folder)
        except (binascii.Error, zipfile.BadZipFile) as error:
            raise InitError(f"The action is no zip archive in base64: {error}") from error
        start = folder / "__main__.py"
        if not start.is_file():
            raise InitError("Zip file does not include __main__.py at its root.")
        sys.path[:0] = [str(folder), *map(str, folder.glob("virtualenv/lib/python3*/site-packages"))]
        os.chdir(folder)
        code = start.read_text(encoding="utf-8")
    try:
        exec(compile(code, module.__file__, "exec"), module.__dict__)
        function: Callable[..., Any] = getattr(module, main)
        if not callable(function):
            raise TypeError(f"{main} is no function")
    except BaseException as error:
        traceback.print_exc()
        raise InitError(f"The action failed to initialize: {type(error).__name__}: {error}") from error
    return function


class _MalformedError(Exception):
    """A request that cannot be read."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class _Job:
    """A message that waits for the main thread, and then its answer."""

    def __init__(self, path: str, body: dict[str, Any]) -> None:
        self.path = path
        self.body = body
        self.done = Event()
        self.status = 500
        self.answer: Any = None


class ActionServer(ThreadingHTTPServer):
    """One action in one process, one activation at a time.

    Connections have threads of their own, so that nobody holds up the platform by saying nothing; the action runs in
    the main thread.

    Args:
        address: Where it listens.
        secret: What whoever calls must know; None lets in everybody.
    """

    daemon_threads = True

    def __init__(self, address: tuple[str, int], secret: str | None = None) -> None:
        super().__init__(address, _Handler)
        self.secret = secret
        self.jobs: SimpleQueue[_Job] = SimpleQueue()
        self._function: Callable[..., Any] | None = None
        self._initialised = False

    def work(self) -> None:
        """Carry out messages, for ever."""
        Thread(target=self.serve_forever, kwargs={"poll_interval": 60}, daemon=True).start()
        while True:
            job = self.jobs.get()
            try:
                job.status, job.answer = self.answer(job.path, job.body)
            except (AttributeError, TypeError, ValueError) as error:
                job.status, job.answer = 400, {"error": f"The message is malformed: {error}"}
            # One line for each activation, so none for an /init that goes well: the /run that follows writes it.
            if job.path != "/init" or job.status != 200:
                for stream in (sys.stdout, sys.stderr):
                    print(_SENTINEL, file=stream, flush=True)
            job.done.set()

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        """Status and answer to a POST."""
        if path == "/init":
            return self._init(body)
        if path == "/run":
            return self._run(body)
        return 404, {"error": f"there is no {path}"}

    def _init(self, body: dict[str, Any]) -> tuple[int, Any]:
        if self._initialised:
            return 403, {"error": "Cannot initialize the action more than once."}
        self._initialised = True
        value = body.get("value") or {}
        os.environ.update({name: _text(content) for name, content in (value.get("env") or {}).items()})
        try:
            self._function = load(value)
        except InitError as error:
            return 502, {"error": str(error)}
        return 200, {"ok": True}

    def _run(self, body: dict[str, Any]) -> tuple[int, Any]:
        if self._function is None:
            return 403, {"error": "The action has not been initialized."}
        variables = {f"__OW_{name.upper()}": _text(content) for name, content in body.items() if name != "value"}
        os.environ.update(variables)
        try:
            result = self._function(body.get("value") or {})
        except Exception as error:
            traceback.print_exc()
            return 502, {"error": f"{type(error).__name__}: {error}"}
        if not isinstance(result, (dict, list)):
            return 502, {"error": "The action did not return a dictionary or array."}
        return 200, result


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    command = ""
    disable_nagle_algorithm = True
    # Head and body leave in one write; two would wait for each other's acknowledgement.
    wbufsize = -1
    # How long whoever has not shown the secret may take.
    timeout = 10
    server: ActionServer

    def parse_request(self) -> bool:
        """Read the head; nobody without the secret gets further, whatever he asks for."""
        return super().parse_request() and self._known()

    def handle_expect_100(self) -> bool:
        """Ask for the body of those only who may send one."""
        return self._known() and super().handle_expect_100()

    def _known(self) -> bool:
        if self.server.secret is not None:
            given = self.headers.get_all("Authorization", [])
            expected = f"Bearer {self.server.secret}"
            if len(given) != 1 or not hmac.compare_digest(given[0].encode(), expected.encode()):
                self.close_connection = True
                self._answer(403, {"error": "this container serves only the platform that started it"})
                self.wfile.flush()
                return False
        self.connection.settimeout(None)
        return True

    def do_POST(self) -> None:
        try:
            body = self._body()
        except _MalformedError as error:
            # What follows cannot be told from the rest of the body.
            self.close_connection = True
            self._answer(error.status, {"error": str(error)})
            self._drain()
            return
        job = _Job(self.path, body)
        self.server.jobs.put(job)
        job.done.wait()
        self._answer(job.status, job.answer)

    def _body(self) -> dict[str, Any]:
        given = self.headers.get("Content-Length", "")
        if "Transfer-Encoding" in self.headers or not (given.isascii() and given.isdigit()):
            raise _MalformedError(411, "The request needs a Content-Length.")
        if len(given) > 9 or int(given) > _LARGEST_BODY:
            raise _MalformedError(413, f"The request is over {_LARGEST_BODY >> 20} MiB.")
        try:
            body = json.loads(self.rfile.read(int(given)) or b"{}")
        except (ValueError, RecursionError) as error:
            raise _MalformedError(400, f"The request is no JSON: {error}") from None
        if not isinstance(body, dict):
            raise _MalformedError(400, "The request is no JSON object.")
        return body

    def _answer(self, status: int, value: Any) -> None:
        try:
            answer = json.dumps(value).encode()
        except (TypeError, ValueError, RecursionError) as error:
            status, answer = 502, json.dumps({"error": f"The action's result is no JSON: {error}"}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse what is no request, in JSON; a method or a version that we do not have is the caller's fault."""
        self.close_connection = True
        # Without it, a request that is malformed enough gets no status line.
        self.request_version = self.protocol_version
        self._answer({501: 405, 505: 400}.get(code, code), {"error": message or "The request is malformed."})
        self._drain()

    def _drain(self) -> None:
        """Take what is still coming: closing on unread bytes could take the answer away from whoever reads it."""
        with contextlib.suppress(OSError):
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(_DRAIN_S)
            for _ in range(100):
                if not self.connection.recv(1 << 16):
                    return

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the streams belong to the action."""


def main() -> None:
    """``python_runtime.py HOST PORT``."""
    host, port = sys.argv[1:]
    # Whoever gave it to us speaks to us alone; the action need not know it.
    secret = os.environ.pop(_SECRET_VARIABLE, None)
    # As process 1 of a container it would not get the signal without a handler.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    server = ActionServer((host, int(port)), secret)
    print(f"listening on http://{host}:{port}", file=sys.stderr, flush=True)
    server.work()


if __name__ == "__main__":
    main()
