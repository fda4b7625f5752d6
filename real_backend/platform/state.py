"""The state folder: the platform's name, its key, its lock, its address, and the SQLite file."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tyche_env.errors import UserError


def default_folder() -> Path:
    """``$XDG_STATE_HOME/tyche/platform``, by default below ~/.local/state."""
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "tyche" / "platform"


class StateFolder:
    """A platform's folder; only its owner may look in.

    Args:
        folder: The folder; made when missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return self.folder / "state.sqlite"

    @property
    def log(self) -> Path:
        """Where a platform in the background writes."""
        return self.folder / "platform.log"

    @property
    def platform(self) -> str:
        """Name that marks the platform's processes and containers; made on first use."""
        return self._once("name", lambda: uuid.uuid4().hex[:12])

    @property
    def key(self) -> str:
        """``UUID:KEY`` for the only user; made on first use."""
        return self._once("key", lambda: f"{uuid.uuid4()}:{secrets.token_urlsafe(48)}")

    def _once(self, name: str, make: object) -> str:
        file = self.folder / name
        try:
            return file.read_text().strip()
        except FileNotFoundError:
            pass
        assert callable(make)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as out:
            out.write(str(make()))
        return file.read_text().strip()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for a platform that runs; the kernel lets go of it when the process ends, however it ends.

        Raises:
            UserError: Another platform holds it.
        """
        with (self.folder / "lock").open("a+") as lock:
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
        with (self.folder / "lock").open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            return False

    def announce(self, url: str) -> None:
        """Note where the platform that runs is to be found."""
        partial = self.folder / "running.json.part"
        partial.write_text(json.dumps({"url": url, "process": os.getpid()}))
        partial.rename(self.folder / "running.json")

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
