"""Containers that are plain child processes: no isolation, but memory limits where control groups may be made."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
import stat
import tempfile
from pathlib import Path
from typing import cast

from real_backend.containers import cgroup
from real_backend.containers.addresses import PORT, free_address
from real_backend.containers.factory import PLATFORM_LABEL, ContainerError, ContainerExit, ContainerSpec
from real_backend.containers.logs import LogBuffer, Stream

# The shell joins the groups before it becomes the program, so that not a page is charged to anybody else.
_JOIN = 'for file in $1; do echo $$ > "$file" || exit 125; done; shift; exec "$@"'


class ProcessContainer:
    """A child process, its descendants, their temporary files, and their control group if there is one."""

    def __init__(
        self, name: str, host: str, process: asyncio.subprocess.Process, group: cgroup.Group | None, scratch: Path
    ) -> None:
        self.name = name
        self.host = host
        self.port = PORT
        self.logs = LogBuffer()
        self.exited: asyncio.Future[ContainerExit] = asyncio.get_running_loop().create_future()
        self._process = process
        self._group = group
        self._scratch = scratch
        self._tasks = [
            asyncio.create_task(self._read("stdout", cast(asyncio.StreamReader, process.stdout))),
            asyncio.create_task(self._read("stderr", cast(asyncio.StreamReader, process.stderr))),
        ]
        self._waiter = asyncio.create_task(self._wait())

    async def _read(self, stream: Stream, reader: asyncio.StreamReader) -> None:
        while chunk := await reader.read(65_536):
            self.logs.feed(stream, chunk)
        self.logs.feed(stream, b"")

    async def _wait(self) -> None:
        code = await self._process.wait()
        killed_for_memory = self._group is not None and self._group.oom_kills() > 0 and code == -signal.SIGKILL
        self.exited.set_result(ContainerExit(code, killed_for_memory))

    async def pause(self) -> None:
        """Freeze its control group, or stop its process group where there is none."""
        if self._group is not None and self._group.can_freeze:
            self._group.freeze(True)
        else:
            self._signal(signal.SIGSTOP)

    async def resume(self) -> None:
        """Undo ``pause``."""
        if self._group is not None and self._group.can_freeze:
            self._group.freeze(False)
        else:
            self._signal(signal.SIGCONT)

    async def remove(self) -> None:
        """Kill its process group and everything in its control group, and remove that."""
        self._signal(signal.SIGKILL)
        if self._group is not None:
            await self._group.remove()
        await self._waiter
        # A descendant that left the process group may still hold the pipes.
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        _remove_scratch(self._scratch)

    def memory_mb(self) -> float | None:
        """Anonymous memory of its control group in MB; without one, resident memory of its first process."""
        if self._group is not None:
            return self._group.memory_bytes() / 1e6
        try:
            pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        except (OSError, IndexError):
            return None
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


class ProcessContainerFactory:
    """Starts containers as child processes of the platform.

    Args:
        platform: Name that marks them, for ``sweep``.
    """

    name = "process"

    def __init__(self, platform: str) -> None:
        self.notes: list[str] = []
        self._platform = platform
        self._hierarchy: cgroup.Hierarchy | None = None
        self._hosts: dict[str, ProcessContainer] = {}
        self._rng = random.Random()
        self._scratches: Path | None = None

    async def start(self) -> None:
        """Look for control groups; without them memory is not limited, and a note says so."""
        if shutil.which("setpriv") is None:
            raise ContainerError("containers that are processes need setpriv of util-linux on the PATH")
        found = cgroup.find()
        if isinstance(found, str):
            self.notes = [f"memory limits are not enforced: {found}"]
        else:
            self._hierarchy = found
            self.notes = [f"memory is limited by control groups, version {found.version}"]

    async def create(self, spec: ContainerSpec) -> ProcessContainer:
        """Start the program in a new session and, if possible, a control group."""
        group: cgroup.Group | None = None
        scratch: Path | None = None
        self._hosts = {host: container for host, container in self._hosts.items() if not container.exited.done()}
        try:
            host = free_address(self._hosts, self._rng)
            scratch = self._new_scratch(spec.name)
            if self._hierarchy is not None:
                group = self._hierarchy.create(f"{self._platform}-{spec.name}", spec.memory_mib * 2**20)
            files = "" if group is None else " ".join(map(str, group.join_files))
            command = spec.arguments(host, PORT)
            environment = {"TMPDIR": str(scratch), **spec.environment, PLATFORM_LABEL: self._platform}
            if spec.gpus is not None:
                environment["CUDA_VISIBLE_DEVICES"] = ",".join(spec.gpus)
            # The kernel kills the process when the platform dies, however it dies.
            process = await asyncio.create_subprocess_exec(
                *("sh", "-c", _JOIN, "sh", files, "setpriv", "--pdeathsig", "KILL", "--", *command),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=environment,
                cwd=scratch,
                start_new_session=True,
            )
        except OSError as error:
            if group is not None:
                await group.remove()
            if scratch is not None:
                _remove_scratch(scratch)
            raise ContainerError(f"container {spec.name} cannot be started: {error}") from error
        container = ProcessContainer(spec.name, host, process, group, scratch)
        self._hosts[host] = container
        return container

    def _new_scratch(self, name: str) -> Path:
        """A folder for the temporary files of one container, in which it works; nobody else may look in.

        It lies in a common folder that others can pass through but not list, and its name cannot be guessed, so that
        a container whose functions are users of their own can let them in (``real_backend.worker --user-base``).
        """
        if self._scratches is None or not self._scratches.is_dir():
            self._scratches = Path(tempfile.mkdtemp(prefix=_scratch_prefix(self._platform)))
            self._scratches.chmod(0o711)
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self._scratches))

    async def close(self) -> None:
        """Nothing to stop: the containers were removed before."""


def _scratch_prefix(platform: str) -> str:
    """How the names of the common folders begin; they end at random, since everybody may write beside them."""
    return f"tyche-{platform}-"


def _remove_scratch(scratch: Path) -> None:
    shutil.rmtree(scratch, ignore_errors=True)
    with contextlib.suppress(OSError):
        # the last one takes their common folder along
        scratch.parent.rmdir()


async def sweep(platform: str) -> list[str]:
    """Kill every process that carries the label of ``platform``, remove its control groups and temporary files.

    Returns:
        A line for each thing removed.
    """
    removed: list[str] = []
    found = cgroup.find()
    if isinstance(found, cgroup.Hierarchy):
        for group in found.groups(f"{platform}-"):
            await group.remove()
            removed.append(f"control group {group.memory.name}")
    label = f"{PLATFORM_LABEL}={platform}".encode()
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            if label in (folder / "environ").read_bytes().split(b"\0"):
                os.kill(int(folder.name), signal.SIGKILL)
                removed.append(f"process {folder.name}")
        except OSError:
            # It ended meanwhile, or is somebody else's.
            continue
    for folder in sorted(Path(tempfile.gettempdir()).glob(f"{_scratch_prefix(platform)}*")):
        about = folder.lstat()
        if stat.S_ISDIR(about.st_mode) and about.st_uid == os.geteuid():
            shutil.rmtree(folder, ignore_errors=True)
            removed.append(f"folder {folder}")
    return removed
