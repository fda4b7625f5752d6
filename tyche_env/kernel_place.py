"""Where compiled kernels are kept: only where nobody but the user and root can put files.

An index of numba's cache is a pickle, and what it names is machine code: whoever can write there runs code as the user
who reads it.  So a folder is used only if it, and each folder and link on the way to it, belongs to the user or to
root and can be written by its owner alone; folders above it may be written by all where they are sticky, as ``/tmp``.
"""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tyche_env.errors import UserError

COMPLETE = "complete"
"""File of a folder whose kernels are all compiled; its time is that of the folder's last use."""
COST = "each process compiles them anew, which takes about a minute"
"""What it costs to keep kernels nowhere."""
VARIABLE = "TYCHE_CACHE_DIR"
_DESKTOP_VARIABLE = "XDG_CACHE_HOME"
_MOST_LINKS = 40  # as many as Linux follows


@dataclass(frozen=True, slots=True)
class Place:
    """Where kernels are kept.

    Attributes:
        folder: the folder; None: nowhere, each process compiles them.
        why: why they are not where they would be first; empty if they are.
    """

    folder: Path | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class _Root:
    """A folder that may hold the folders of all versions.

    Attributes:
        path: the folder.
        variable: what the user named it by; empty: nobody did.
        beside_others: it lies in a folder that belongs to all, where others may have made it first.
    """

    path: Path
    variable: str = ""
    beside_others: bool = False


def place_of(version: str) -> Place:
    """The folder of one version of the kernels, made if need be.

    Raises:
        UserError: others can write where the user wants kernels to be.
    """
    return _first(version)


def expected_place() -> Place:
    """Where the folders of all versions are or would be; makes nothing.

    Raises:
        UserError: others can write where the user wants kernels to be.
    """
    return _first(None)


@cache
def say(line: str) -> None:
    """A line on stderr, once a process."""
    print(f"tyche-env: {line}", file=sys.stderr)


def writable(folder: Path) -> bool:
    """Whether this process may make files in a folder."""
    return os.access(folder, os.W_OK | os.X_OK)


def doubt(path: Path) -> str:
    """Why somebody else may have put there what lies at a path, or may change it; empty: nobody can.

    What does not exist is judged by the folders above it.
    """
    at, rest, links = Path("/"), list(reversed(path.absolute().parts[1:])), 0
    while True:
        try:
            found = os.lstat(at)
        except FileNotFoundError:
            return ""
        except OSError as error:
            return f"{at} cannot be looked at ({error.strerror})"
        if found.st_uid not in (os.geteuid(), 0):
            return f"{at} belongs to another user (number {found.st_uid})"
        if stat.S_ISLNK(found.st_mode):
            target, links = at.readlink(), links + 1
            if links > _MOST_LINKS:
                return f"{at} is one of too many links"
            rest += reversed(target.parts[1:] if target.is_absolute() else target.parts)
            at = Path("/") if target.is_absolute() else at.parent
        else:
            sticky = bool(rest) and bool(found.st_mode & stat.S_ISVTX)
            if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not sticky:
                return f"{at} can be written by others (mode {stat.S_IMODE(found.st_mode):04o})"
        if not rest:
            return ""
        step = rest.pop()
        at = at.parent if step == ".." else at / step


def _roots() -> Iterator[_Root]:
    if named := os.environ.get(VARIABLE):
        yield _Root(Path(named).absolute(), VARIABLE)
    elif named := os.environ.get(_DESKTOP_VARIABLE):
        yield _Root(Path(named).absolute() / "tyche-env", _DESKTOP_VARIABLE)
    else:
        with suppress(RuntimeError):  # a user without a home
            yield _Root(Path.home() / ".cache" / "tyche-env")
    with suppress(OSError):  # nothing can be written anywhere
        yield _Root(Path(tempfile.gettempdir()) / f"tyche-env-{os.geteuid()}", beside_others=True)


def _first(version: str | None) -> Place:
    """The first root that is safe and of use; ``version`` None: as far as can be told without making it."""
    reasons: list[str] = []
    for root in _roots():
        reason = doubt(root.path)
        if reason and root.variable:
            raise UserError(
                f"{root.variable}: kernels are not kept in {root.path}, since {reason} and code in it would be run; "
                f"make it your own (chmod go-w), or let {VARIABLE} name another folder"
            )
        if not reason:
            reason = _expected_obstacle(root) if version is None else _obstacle(root, root.path / version)
        if not reason:
            return Place(root.path if version is None else root.path / version, " and ".join(reasons))
        reasons.append(reason)
    return Place(None, " and ".join(reasons) or "there is no folder for them")


def _obstacle(root: _Root, folder: Path) -> str:
    """Why a folder below a safe root cannot be used; empty if it can, and then it exists."""
    try:
        for each in (*reversed(root.path.parents), root.path):
            if not each.exists():
                each.mkdir(mode=0o700, exist_ok=True)
        # looked at before anything is made in it: what is in its place may be another's
        if reason := _foreign(root) or doubt(root.path):
            return reason
        if not folder.exists():
            folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        return f"{folder} cannot be made ({error.strerror})"
    if reason := doubt(folder):
        return reason
    # one that may only be read is of use if whoever made it compiled everything
    return "" if writable(folder) or (folder / COMPLETE).is_file() else f"{folder} cannot be written"


def _expected_obstacle(root: _Root) -> str:
    try:
        if root.path.exists():
            return _foreign(root)
        nearest = next(each for each in root.path.parents if each.exists())
    except OSError as error:
        return f"{root.path} cannot be looked at ({error.strerror})"
    return "" if writable(nearest) and nearest.is_dir() else f"{root.path} cannot be made"


def _foreign(root: _Root) -> str:
    """Why a root beside those of others is not simply the user's own folder, closed to all others."""
    if not root.beside_others:
        return ""
    found = os.lstat(root.path)
    if not stat.S_ISDIR(found.st_mode):
        return f"{root.path} is no folder"
    if found.st_uid != os.geteuid():
        return f"{root.path} belongs to another user (number {found.st_uid})"
    if found.st_mode & 0o077:
        return f"{root.path} is open to others (mode {stat.S_IMODE(found.st_mode):04o})"
    return ""
