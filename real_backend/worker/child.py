"""The process of one function: it imports, loads and infers as the manager tells it, and times each stage.

Messages are JSON objects, one a line, over a socket pair.  Requests: ``{"op": "load", "gpu": bool}``,
``{"op": "move", "gpu": bool}``, ``{"op": "infer", "payload": {...}}``.  Answers: any number of
``{"stage": name, "begin_ns": t, "end_ns": t}``, then ``{"done": {...}}`` or ``{"error": {"code", "message"}}``.
Times are CLOCK_MONOTONIC, which all processes of a machine share.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from real_backend.functions.protocol import Function, described, load_functions
from real_backend.worker.messages import ActionError

_PR_SET_PDEATHSIG = 1
_OOM_SCORE = "500"
"""The kernel shall take a function before the server, which reports it."""


def main() -> None:
    """Serve one function on an inherited socket, until the manager closes it or dies."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--socket", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--functions", required=True)
    parser.add_argument("--function", required=True)
    parser.add_argument("--begin-ns", type=int, required=True)
    options = parser.parse_args()
    die_with(options.parent)
    serve(socket.socket(fileno=options.socket), options.functions, options.function, options.begin_ns)


def die_with(parent: int) -> None:
    """Have the kernel kill this process when ``parent`` dies, and take it first when memory runs out."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise SystemExit("the action server died before its function started")
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE, encoding="ascii")


def serve(connection: socket.socket, reference: str, name: str, begin_ns: int) -> None:
    """Answer requests about one function.

    Args:
        connection: the socket to the manager.
        reference: the module or file that declares the function.
        name: the function.
        begin_ns: when the manager began to start this process; the library stage counts from there.
    """
    lines = connection.makefile("rw", encoding="utf-8", newline="\n")

    def send(message: dict[str, Any]) -> None:
        lines.write(json.dumps(message, allow_nan=False) + "\n")
        lines.flush()

    try:
        function = load_functions(reference)[name]
        function.libraries()
    except Exception as error:
        # What is wrong with the libraries is said in answer to the load, which is already on its way.
        lines.readline()
        send({"error": _failure("failed", "its libraries cannot be imported", error, reference).as_dict()})
        return
    send({"stage": "library", "begin_ns": begin_ns, "end_ns": time.monotonic_ns()})
    runner = _Runner(function, send, reference)
    for line in lines:
        try:
            reply = {"done": runner.run(json.loads(line))}
        except ActionError as error:
            reply = {"error": error.as_dict()}
        sys.stdout.flush()
        sys.stderr.flush()
        try:
            send(reply)
        except (TypeError, ValueError) as error:
            what = "its answer is nothing that JSON can carry"
            send({"error": _failure("failed", what, error, reference).as_dict()})


class _Runner:
    """The function, its model, and where the model is."""

    def __init__(self, function: Function, send: Any, reference: str) -> None:
        self._function = function
        self._reference = reference
        self._send = send
        self._model: Any = None
        self._gpu = False

    def run(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do what one message asks and return the body of ``done``."""
        answer = None
        if request["op"] == "load":
            with self._stage("model"):
                self._model = self._load()
            self._move(request["gpu"])
        elif request["op"] == "move":
            self._move(request["gpu"])
        else:
            with self._stage("inference"):
                answer = self._infer(request["payload"])
        return {"answer": answer, "torch_reserved_mb": _torch_reserved_mb()}

    def _load(self) -> Any:
        try:
            return self._function.load()
        except Exception as error:
            raise _failure("corrupt_model", "its model cannot be loaded", error, self._reference) from error

    def _move(self, gpu: bool) -> None:
        if gpu == self._gpu:
            return
        move = self._function.to_gpu if gpu else self._function.to_cpu
        with self._stage("transfer"):
            try:
                self._model = move(self._model)
            except Exception as error:
                what = f"its model cannot be moved to the {'GPU' if gpu else 'CPU'}"
                raise _failure("failed", what, error, self._reference) from error
        self._gpu = gpu
        gc.collect()

    def _infer(self, payload: dict[str, Any]) -> Any:
        try:
            return self._function.infer(self._model, payload)
        except ValueError as error:
            raise ActionError("bad_request", f"payload: {error}") from error
        except Exception as error:
            raise _failure("failed", "it raised", error, self._reference) from error

    @contextlib.contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        begin_ns = time.monotonic_ns()
        yield
        self._send({"stage": name, "begin_ns": begin_ns, "end_ns": time.monotonic_ns()})


def _failure(code: Any, what: str, error: Exception, reference: str) -> ActionError:
    """Memory that ran out is reported as such wherever it did; torch's CUDA error is known by its name."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        code, what = "out_of_memory", "there was not enough memory"
    return ActionError(code, f"{what}: {described(reference, error)}")


def _torch_reserved_mb() -> float:
    """GPU memory that torch's allocator has reserved in this process."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return 0.0
    return float(torch.cuda.memory_reserved() / 1e6)


if __name__ == "__main__":
    main()
