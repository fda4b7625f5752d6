"""A process that has imported a library and forks the functions that use it: the load style ``zygote``.

It waits on a socket for ``{"function": name, "begin_ns": t}`` with the function's socket attached, and answers
``{"pid": n}``; when a forked process ends it sends ``{"exit": pid, "code": returncode}``.  The collector's heap is
frozen before the first fork, so that a collection in a child does not copy the pages that both share.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import selectors
import signal
import socket

from real_backend.functions.protocol import load_functions
from real_backend.worker.child import die_with, serve

_LONGEST_MESSAGE = 4096


def main() -> None:
    """Import the libraries of one function, then fork on demand until the manager closes the socket or dies."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--socket", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--functions", required=True)
    parser.add_argument("--function", required=True)
    options = parser.parse_args()
    die_with(options.parent)
    control = socket.socket(fileno=options.socket)
    try:
        load_functions(options.functions)[options.function].libraries()
    except Exception as error:
        control.sendall(json.dumps({"error": f"{type(error).__name__}: {error}"}).encode() + b"\n")
        return
    gc.collect()
    gc.freeze()
    control.sendall(b'{"ready": true}\n')
    _fork_on_demand(control, options.functions)


def _fork_on_demand(control: socket.socket, reference: str) -> None:
    ended, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    with selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        selector.register(ended, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is control:
                    message, fds, _, _ = socket.recv_fds(control, _LONGEST_MESSAGE, 1)
                    if not message:
                        return
                    _fork(control, reference, json.loads(message), fds[0])
                else:
                    os.read(ended, _LONGEST_MESSAGE)
                    _report_ended(control)


def _fork(control: socket.socket, reference: str, order: dict[str, object], fd: int) -> None:
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        code = 1
        try:
            die_with(parent)
            control.close()
            serve(socket.socket(fileno=fd), reference, str(order["function"]), int(str(order["begin_ns"])))
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        finally:
            # Not sys.exit: the zygote's exit handlers are not the child's to run.
            os._exit(code)
    os.close(fd)
    control.sendall(json.dumps({"pid": pid}).encode() + b"\n")


def _report_ended(control: socket.socket) -> None:
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            message = {"exit": pid, "code": os.waitstatus_to_exitcode(status)}
            control.sendall(json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    main()
