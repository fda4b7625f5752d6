"""Control groups, version 1 and 2: limit, measure, freeze and end all processes of one container.

Groups are made below the group that this process is in, so that limits set on it from outside keep holding; where
that is forbidden, below the root.  Files and formats: the kernel's cgroup-v1/memory.rst, freezer-subsystem.rst and
cgroup-v2.rst.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_PREFIX = "tyche-"


@dataclass(frozen=True)
class Group:
    """The control group of one container.

    Attributes:
        memory: Folder of its memory controller; in version 2 its only folder.
        freezer: Folder of its freezer controller; the same as ``memory`` in version 2; None where there is none.
        version: 1 or 2.
    """

    memory: Path
    freezer: Path | None
    version: int

    @property
    def _folders(self) -> tuple[Path, ...]:
        folders = (self.memory, self.freezer)
        return tuple(dict.fromkeys(folder for folder in folders if folder is not None))

    @property
    def join_files(self) -> tuple[Path, ...]:
        """Files that a process writes its id to in order to join."""
        return tuple(folder / "cgroup.procs" for folder in self._folders)

    def limit_memory(self, limit_bytes: int) -> None:
        """Let its processes have at most ``limit_bytes``, swap included where the kernel counts it."""
        names = ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes") if self.version == 1 else ("memory.max",)
        for name in names:
            if name != "memory.memsw.limit_in_bytes" or (self.memory / name).exists():
                (self.memory / name).write_text(str(limit_bytes))
        swap = self.memory / "memory.swap.max"
        if self.version == 2 and swap.exists():
            swap.write_text("0")

    def memory_bytes(self) -> int:
        """Anonymous memory of its processes in bytes."""
        key = "total_rss" if self.version == 1 else "anon"
        return _field(self.memory / "memory.stat", key)

    def oom_kills(self) -> int:
        """How many of its processes the kernel has killed for memory."""
        return _field(self.memory / ("memory.oom_control" if self.version == 1 else "memory.events"), "oom_kill")

    @property
    def can_freeze(self) -> bool:
        """Whether ``freeze`` works."""
        return self.freezer is not None

    def freeze(self, frozen: bool) -> None:
        """Stop all its processes, or let them run again."""
        if self.freezer is None:
            raise OSError("this machine has no freezer control group")
        if self.version == 1:
            (self.freezer / "freezer.state").write_text("FROZEN" if frozen else "THAWED")
        else:
            (self.freezer / "cgroup.freeze").write_text("1" if frozen else "0")

    def processes(self) -> list[int]:
        """Ids of its processes."""
        return [int(word) for word in _read(self.memory / "cgroup.procs").split()]

    async def remove(self) -> None:
        """End all its processes and remove the group.

        Raises:
            OSError: A process in it cannot be ended within 10 s.
        """
        for attempt in range(1000):
            for process in self.processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            # A frozen process dies when it is thawed.
            if attempt == 0 and self.freezer is not None and self.freezer.exists():
                self.freeze(False)
            try:
                for folder in self._folders:
                    if folder.exists():
                        folder.rmdir()
                return
            except OSError:
                await asyncio.sleep(0.01)
        raise OSError(f"{self.memory}: its processes {self.processes()} cannot be ended")


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except (FileNotFoundError, OSError):
        return ""


def _field(file: Path, key: str) -> int:
    for line in _read(file).splitlines():
        name, _, value = line.partition(" ")
        if name == key:
            return int(value)
    return 0


@dataclass(frozen=True)
class Hierarchy:
    """Where groups can be made.

    Attributes:
        memory: Parent folder in the memory controller's tree.
        freezer: Parent folder in the freezer's tree, or None.
        version: 1 or 2.
    """

    memory: Path
    freezer: Path | None
    version: int

    def create(self, name: str, limit_bytes: int) -> Group:
        """Make the group ``tyche-NAME``.

        Raises:
            OSError: It is there already, or may not be made.
        """
        folders = [None if parent is None else parent / f"{_PREFIX}{name}" for parent in (self.memory, self.freezer)]
        for folder in dict.fromkeys(folders):
            if folder is not None:
                folder.mkdir()
        group = Group(self.memory / f"{_PREFIX}{name}", folders[1], self.version)
        group.limit_memory(limit_bytes)
        return group

    def groups(self, start: str) -> list[Group]:
        """Groups whose name begins with ``start``."""
        names = {
            folder.name
            for parent in (self.memory, self.freezer)
            if parent is not None and parent.is_dir()
            for folder in parent.glob(f"{_PREFIX}{start}*")
        }
        return [
            Group(self.memory / name, None if self.freezer is None else self.freezer / name, self.version)
            for name in sorted(names)
        ]


def find(mounts: str | None = None, own: str | None = None) -> Hierarchy | str:
    """The place to make groups in, or the reason why there is none.

    Args:
        mounts: Content of /proc/self/mounts; read when None.
        own: Content of /proc/self/cgroup; read when None.
    """
    mounted = _mounted((mounts if mounts is not None else Path("/proc/self/mounts").read_text()).splitlines())
    path_of = _own_paths((own if own is not None else Path("/proc/self/cgroup").read_text()).splitlines())
    tried: list[str] = []
    if "memory" in mounted:
        memory = _usable(mounted["memory"], path_of.get("memory", "/"), "memory.limit_in_bytes", tried)
        if memory is not None:
            freezer = None
            if "freezer" in mounted:
                freezer = _usable(mounted["freezer"], path_of.get("freezer", "/"), "freezer.state", tried)
            return Hierarchy(memory, freezer, 1)
    if "" in mounted:
        folder = _usable(mounted[""], path_of.get("", "/"), "memory.max", tried)
        if folder is not None:
            return Hierarchy(folder, folder, 2)
    return "no control group for memory can be made here" + (f" ({'; '.join(tried)})" if tried else "")


def _mounted(lines: Iterable[str]) -> dict[str, Path]:
    """Where each controller's tree is mounted; the key "" stands for version 2."""
    found: dict[str, Path] = {}
    for line in lines:
        _, where, kind, options, *_ = line.split()
        if kind == "cgroup2":
            found[""] = Path(where)
        elif kind == "cgroup":
            found.update((name, Path(where)) for name in options.split(",") if name in ("memory", "freezer"))
    return found


def _own_paths(lines: Iterable[str]) -> dict[str, str]:
    """This process's path in each controller's tree."""
    paths: dict[str, str] = {}
    for line in lines:
        _, controllers, path = line.split(":", 2)
        paths.update((name, path) for name in controllers.split(","))
    return paths


def _usable(mount: Path, own: str, file: str, tried: list[str]) -> Path | None:
    """The first of this process's own group and the root in which a group with ``file`` can be made."""
    for parent in dict.fromkeys((mount / own.lstrip("/"), mount)):
        probe = parent / f"{_PREFIX}probe-{uuid.uuid4().hex[:8]}"
        try:
            probe.mkdir()
        except OSError as error:
            tried.append(f"{parent}: {error.strerror}")
            continue
        try:
            if (probe / file).exists():
                return parent
            tried.append(f"{parent}: groups in it have no {file}")
        finally:
            probe.rmdir()
    return None


def group_of(process: int) -> Group | None:
    """The control group that a process is in, to measure its memory; None where it cannot be found."""
    try:
        paths = _own_paths(Path(f"/proc/{process}/cgroup").read_text().splitlines())
    except OSError:
        return None
    mounted = _mounted(Path("/proc/self/mounts").read_text().splitlines())
    for controller, version in (("memory", 1), ("", 2)):
        if controller in mounted and controller in paths:
            folder = mounted[controller] / paths[controller].lstrip("/")
            if (folder / "memory.stat").exists():
                return Group(folder, None, version)
    return None
