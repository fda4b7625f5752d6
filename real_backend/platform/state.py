"""The state folder: the platform's name, its key, its lock, its address, and the SQLite file.

Nobody but its owner may look into it or change anything in it, whatever the umask is.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import secrets
import stat
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tyche_env.errors import UserError

_NAME = re.compile(r"[0-9a-f]{12}")
_KEY = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}:[A-Za-z0-9_-]{32,}")
_PRIVATE = ("name", "key", "lock", "running.json", "platform.log", "state.sqlite*")
"""Files in the folder that earlier versions made readable for others."""


def default_folder() -> Path:
    """``$XDG_STATE_HOME/tyche/platform``, by default below ~/.local/state."""
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "tyche" / "platform"


def open_private(file: Path, mode: str = "ab") -> IO[bytes]:
    """Open a file for writing (``ab`` or ``wb``) that is its owner's alone from the beginning."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(file, flags | (os.O_TRUNC if mode == "wb" else os.O_APPEND), 0o600)
    os.fchmod(descriptor, 0o600)
    return os.fdopen(descriptor, mode)


def write_whole(file: Path, text: str, replace: bool = True) -> None:
    """Write a private file so that it is there with all its content or not at all, after a crash too.

    Args:
        file: The file.
        text: Its content.
        replace: False: leave a file alone that is there already.
    """
    partial = file.with_name(f".{file.name}-{secrets.token_hex(8)}")
    try:
        with open_private(partial, "wb") as out:
            out.write(text.encode())
            out.flush()
            os.fsync(out.fileno())
        if replace:
            partial.rename(file)
        else:
            # unlike a rename it leaves the file alone that somebody else made meanwhile
            with contextlib.suppress(FileExistsError):
                os.link(partial, file)
    finally:
        partial.unlink(missing_ok=True)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class StateFolder:
    """A platform's folder; only its owner may look in.

    Args:
        folder: The folder; made when missing.

    Raises:
        UserError: It belongs to somebody else, or others may look in and it is no platform's.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for missing in [each for each in (*reversed(folder.parents), folder) if not each.exists()]:
            missing.mkdir(mode=0o700, exist_ok=True)
        self._secure()

    def _secure(self) -> None:
        found = self.folder.stat()
        if found.st_uid != os.geteuid():
            raise UserError(f"{self.folder}: belongs to user {found.st_uid}; name a folder of your own with --state")
        if stat.S_IMODE(found.st_mode) & 0o077:
            # anybody's folder, such as /tmp, must stay as it is
            if any(self.folder.iterdir()) and not (self.folder / "name").exists():
                raise UserError(
                    f"{self.folder}: others may look into it, and it is no platform's; name another with --state"
                )
            self.folder.chmod(0o700)
        for file in (file for pattern in _PRIVATE for file in self.folder.glob(pattern)):
            with contextlib.suppress(FileNotFoundError):
                if file.stat().st_mode & 0o077:
                    file.chmod(0o600)

    @property
    def database(self) -> Path:
        """The SQLite file; made when missing, since SQLite gives those beside it the same rights."""
        file = self.folder / "state.sqlite"
        open_private(file).close()
        return file

    @property
    def log(self) -> Path:
        """Where a platform in the background writes."""
        return self.folder / "platform.log"

    @property
    def platform(self) -> str:
        """Name that marks the platform's processes and containers; made on first use."""
        return self._once("name", lambda: uuid.uuid4().hex[:12], _NAME)

    @property
    def key(self) -> str:
        """``UUID:KEY`` for the only user; made on first use."""
        return self._once("key", lambda: f"{uuid.uuid4()}:{secrets.token_urlsafe(48)}", _KEY)

    def _once(self, name: str, make: Callable[[], str], pattern: re.Pattern[str]) -> str:
        """Content of a file that is made on first use.

        Raises:
            UserError: It is empty or something else; what follows from it must not be guessed.
        """
        file = self.folder / name
        if not file.exists():
            write_whole(file, make() + "\n", replace=False)
        found = file.read_text(errors="replace").strip()
        if pattern.fullmatch(found) is None:
            what = "is not one" if found else "is empty"
            raise UserError(f"{file}: holds the platform's {name}, and {what}; remove it, and a new one is made")
        return found

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for a platform that runs; the kernel lets go of it when the process ends, however it ends.

        Raises:
            UserError: Another platform holds it.
        """
        with open_private(self.folder / "lock") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UserError(
                    f"{self.folder}: a platform runs already (process {self.process}); "
                    "stop it with `tyche platform down`, or name another folder with --state"
                ) from error
            # A platform that was killed has left its own; its process id may be somebody else's by now.
            (self.folder / "running.json").unlink(missing_ok=True)
            try:
                yield
            finally:
                (self.folder / "running.json").unlink(missing_ok=True)

    @property
    def running(self) -> bool:
        """Whether a platform holds the folder."""
        with open_private(self.folder / "lock") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            return False

    def announce(self, url: str) -> None:
        """Note where the platform that runs is to be found."""
        write_whole(self.folder / "running.json", json.dumps({"url": url, "process": os.getpid()}))

    def _announced(self) -> dict[str, object]:
        try:
            found = json.loads((self.folder / "running.json").read_text())
        except FileNotFoundError:
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def url(self) -> str | None:
        """Address of the platform that runs, if it has said so."""
        found = self._announced().get("url")
        return str(found) if found is not None and self.running else None

    @property
    def process(self) -> int | None:
        """Process id of the platform that was announced last."""
        found = self._announced().get("process")
        return found if isinstance(found, int) else None
