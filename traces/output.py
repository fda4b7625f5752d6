"""Where results go: folders and files are made with their parents, and one process at a time writes into them.

    with held(Path("runs/mine")):
        ...

    @holds("out")
    def evaluate(plan: Plan, out: Path) -> Outcome: ...

The lock is the system's (flock): a process that dies, however it does, leaves nothing that has to be cleared away.
Who holds it stands in a file beside it.
"""

from __future__ import annotations

import inspect
import json
import os
import shlex
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

from filelock import FileLock, Timeout

from traces.errors import UserError

LOCK, OWNER = ".tyche.lock", ".tyche.owner"
"""Names of the lock and of who holds it, in a folder; for a file they stand beside it, behind its name."""

P = ParamSpec("P")
R = TypeVar("R")


class OutputError(UserError):
    """A place where nothing can be written now; the message names it and why."""


def made_folder(folder: Path) -> Path:
    """A folder, made with its parents if it is not there.

    Raises:
        OutputError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        where = "" if error.filename in (None, str(folder)) else f" of {error.filename}"
        reason = "is there, but is no folder" if isinstance(error, FileExistsError) else f"{error.strerror}{where}"
        raise OutputError(f"{folder}: cannot be made as a folder ({reason}); name another place") from None
    return folder


def made_parent(file: Path) -> Path:
    """A file's path, with the folder that it is to stand in.

    Raises:
        OutputError: the folder cannot be made.
    """
    made_folder(file.parent)
    return file


@contextmanager
def held(place: Path, *, file: bool = False) -> Iterator[Path]:
    """Keep every other process and thread from writing to a place that is held in the same way.

    Args:
        place: the folder, which is made if it is not there (and goes again if it stays empty), or the file.
        file: whether it is a file.

    Raises:
        OutputError: it is in use, which the message says by whom, or cannot be made.
    """
    new = not file and not place.exists()
    if file:
        made_parent(place)
    else:
        made_folder(place)
    lock_path, owner = lock_of(place, file=file)
    lock = FileLock(lock_path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise OutputError(f"{place}: is in use by {_described(owner)}; wait for it, or name another place") from None
    except OSError as error:
        raise OutputError(f"{place}: cannot be written to ({error.strerror})") from None
    try:
        owner.write_text(json.dumps(_this_process()) + "\n", encoding="utf-8")
        yield place
    finally:
        owner.unlink(missing_ok=True)
        # The file goes while it is locked; whoever has opened it meanwhile finds it without a name and tries again.
        with suppress(OSError):
            lock_path.unlink()
        lock.release()
        if new:
            with suppress(OSError):  # mostly it is not empty
                place.rmdir()


def holds(parameter: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a function that writes into the folder which one of its parameters names: it holds it, see :func:`held`.

    Args:
        parameter: its name.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)

        @wraps(function)
        def holding(*args: P.args, **kwargs: P.kwargs) -> R:
            with held(Path(signature.bind(*args, **kwargs).arguments[parameter])):
                return function(*args, **kwargs)

        return holding

    return decorate


def lock_of(place: Path, *, file: bool = False) -> tuple[Path, Path]:
    """The lock of a place, and the file that says who holds it."""
    if file:
        return place.with_name(f".{place.name}{LOCK}"), place.with_name(f".{place.name}{OWNER}")
    return place / LOCK, place / OWNER


def is_held(folder: Path) -> bool:
    """Whether some process holds a folder now; looking changes nothing."""
    lock_path, _ = lock_of(folder)
    if not lock_path.exists():
        return False
    lock = FileLock(lock_path)
    try:
        with lock.acquire(timeout=0):
            return False
    except Timeout:
        return True


def is_empty(folder: Path) -> bool:
    """Whether a folder holds nothing but what :func:`held` puts there."""
    return all(path.name in (LOCK, OWNER) for path in folder.iterdir())


def command_line() -> str:
    """The command as it was typed."""
    script = Path(sys.argv[0])
    program = ["python", "-m", f"agents.{script.stem}"] if script.parent.name == "agents" else [script.name or "python"]
    return shlex.join([*program, *sys.argv[1:]])


def _this_process() -> dict[str, str | int]:
    return {
        "process": os.getpid(),
        "host": socket.gethostname(),
        "command": command_line(),
        "since": datetime.now().astimezone().isoformat(timespec="seconds"),
    }


def _described(owner: Path) -> str:
    """Who holds a lock, from the file beside it; that may be missing, or half written, for an instant."""
    try:
        found = json.loads(owner.read_text(encoding="utf-8"))
        return "process {process} on host {host} ({command}), since {since}".format(**found)
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
