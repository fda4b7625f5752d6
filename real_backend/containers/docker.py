"""Containers of Docker, through its Engine API; without a registry and without building an image.

The image is an empty skeleton; the system's /usr, the Python installation, the virtual environment and this project
are mounted read-only at the same paths.  Containers share the host's network, each on a loopback address of its own.
Where no daemon answers, a private one is started, and stopped afterwards.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
import os
import random
import shutil
import signal
import sys
import sysconfig
import tarfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import httpx

from real_backend.containers import cgroup
from real_backend.containers.addresses import PORT, free_address
from real_backend.containers.factory import PLATFORM_LABEL, ContainerError, ContainerExit, ContainerSpec
from real_backend.containers.logs import LogBuffer, Stream

_log = logging.getLogger(__name__)

_IMAGE = "tyche-skeleton"
_SYSTEM_SOCKET = Path("/var/run/docker.sock")
_DAEMON_START_S = 30.0
_ETC = ("ld.so.cache", "localtime", "passwd", "group", "nsswitch.conf", "ssl")


class DockerContainerFactory:
    """Starts containers through a Docker daemon on this machine.

    Args:
        platform: Label that marks the containers, for ``sweep``.
        folder: Where a private daemon keeps its files.
        extra_mounts: What containers see beside the system, Python and this project.
    """

    name = "docker"

    def __init__(self, platform: str, folder: Path, extra_mounts: Sequence[Path] = ()) -> None:
        self.notes: list[str] = []
        self._platform = platform
        self._folder = folder
        self._daemon: asyncio.subprocess.Process | None = None
        self._http: httpx.AsyncClient | None = None
        self._hosts: dict[str, DockerContainer] = {}
        self._mounts = mounts(extra_mounts)
        self._rng = random.Random()

    async def start(self) -> None:
        """Find a daemon or start one, and import the skeleton image."""
        address = _system_socket()
        if address is not None and await _answers(address):
            self.notes = [f"Docker at {address}"]
        else:
            self._daemon, address = await _start_daemon(self._platform, self._folder)
            self.notes = [f"a private Docker daemon, process {self._daemon.pid}, data in {self._folder}"]
        self._http = _client(address)
        reply = await self._http.post(
            "/images/create",
            params={"fromSrc": "-", "repo": _IMAGE, "tag": "latest"},
            content=skeleton(),
            headers={"Content-Type": "application/x-tar"},
            timeout=60,
        )
        _check(reply, "the skeleton image cannot be imported")

    async def create(self, spec: ContainerSpec) -> DockerContainer:
        """Create and start a container."""
        assert self._http is not None
        self._hosts = {host: container for host, container in self._hosts.items() if not container.exited.done()}
        try:
            host = free_address(self._hosts, self._rng)
        except OSError as error:
            raise ContainerError(f"container {spec.name} cannot be created: {error}") from error
        name = f"tyche-{self._platform}-{spec.name}"
        try:
            reply = await self._http.post(
                "/containers/create", params={"name": name}, json=self._settings(spec, host), timeout=30
            )
            _check(reply, f"container {name} cannot be created")
            container = DockerContainer(spec.name, reply.json()["Id"], host, self._http)
            try:
                await container.start()
            except BaseException:
                await container.remove()
                raise
        except httpx.HTTPError as error:
            raise ContainerError(f"container {name} cannot be created: {type(error).__name__} {error}") from error
        self._hosts[host] = container
        return container

    def _settings(self, spec: ContainerSpec, host: str) -> dict[str, Any]:
        """Body of the request that creates a container."""
        limit = spec.memory_mib * 2**20
        place: dict[str, Any] = {
            "NetworkMode": "host",
            "Memory": limit,
            "MemorySwap": limit,
            "Binds": [f"{path}:{path}:ro" for path in self._mounts],
            "Tmpfs": {"/tmp": "mode=1777"},
            "ReadonlyRootfs": True,
            "SecurityOpt": ["no-new-privileges"],
            "LogConfig": {"Type": "json-file"},
        }
        if spec.gpus:
            place["DeviceRequests"] = [{"Driver": "nvidia", "DeviceIDs": list(spec.gpus), "Capabilities": [["gpu"]]}]
        environment = {**spec.environment, PLATFORM_LABEL: self._platform, "PYTHONDONTWRITEBYTECODE": "1"}
        return {
            "Image": _IMAGE,
            "Cmd": spec.arguments(host, PORT),
            "Env": [f"{name}={value}" for name, value in environment.items()],
            "Labels": {PLATFORM_LABEL: self._platform},
            "WorkingDir": "/tmp",
            "HostConfig": place,
        }

    async def close(self) -> None:
        """Stop the private daemon, if there is one."""
        if self._http is not None:
            await self._http.aclose()
        if self._daemon is not None:
            await _stop(self._daemon)
            await _tidy(self._platform, self._folder)


class DockerContainer:
    """A container of Docker's."""

    def __init__(self, name: str, identity: str, host: str, http: httpx.AsyncClient) -> None:
        self.name = name
        self.host = host
        self.port = PORT
        self.logs = LogBuffer()
        self.exited: asyncio.Future[ContainerExit] = asyncio.get_running_loop().create_future()
        self._id = identity
        self._http = http
        self._group: cgroup.Group | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._removed = False

    async def start(self) -> None:
        """Start it and follow its logs and its end.

        Raises:
            ContainerError: Docker cannot start it.
        """
        _check(await self._http.post(f"/containers/{self._id}/start", timeout=30), f"{self.name} cannot be started")
        state = (await self._inspect())["State"]
        self._group = cgroup.group_of(state["Pid"]) if state["Pid"] else None
        self._tasks = [asyncio.create_task(self._follow()), asyncio.create_task(self._wait())]

    async def _inspect(self) -> dict[str, Any]:
        reply = await self._http.get(f"/containers/{self._id}/json", timeout=30)
        _check(reply, f"{self.name} cannot be inspected")
        found: dict[str, Any] = reply.json()
        return found

    async def _follow(self) -> None:
        """Feed the logs: frames of one byte stream, three zeros, four bytes length, then the text."""
        options = {"follow": "1", "stdout": "1", "stderr": "1"}
        try:
            async with self._http.stream("GET", f"/containers/{self._id}/logs", params=options, timeout=None) as reply:
                rest = b""
                async for chunk in reply.aiter_raw():
                    rest += chunk
                    while len(rest) >= 8 and len(rest) >= 8 + (length := int.from_bytes(rest[4:8], "big")):
                        stream: Stream = "stderr" if rest[0] == 2 else "stdout"
                        self.logs.feed(stream, rest[8 : 8 + length])
                        rest = rest[8 + length :]
        except httpx.HTTPError:
            _log.debug("the logs of %s ended", self.name)
        self.logs.feed("stdout", b"")
        self.logs.feed("stderr", b"")

    async def _wait(self) -> None:
        code, memory = -1, False
        try:
            reply = await self._http.post(f"/containers/{self._id}/wait", timeout=None)
            code = int(reply.json().get("StatusCode", -1))
            memory = bool((await self._inspect())["State"]["OOMKilled"])
        except (httpx.HTTPError, ContainerError):
            _log.debug("how %s ended is not known", self.name)
        self.exited.set_result(ContainerExit(code, memory))

    async def pause(self) -> None:
        """Freeze it."""
        _check(await self._http.post(f"/containers/{self._id}/pause", timeout=30), f"{self.name} cannot be paused")

    async def resume(self) -> None:
        """Let it run again."""
        _check(await self._http.post(f"/containers/{self._id}/unpause", timeout=30), f"{self.name} cannot be resumed")

    async def remove(self) -> None:
        """Kill and remove it."""
        if self._removed:
            return
        self._removed = True
        try:
            reply = await self._http.delete(f"/containers/{self._id}", params={"force": "1", "v": "1"}, timeout=60)
            if reply.status_code != 404:
                _check(reply, f"{self.name} cannot be removed")
        except httpx.HTTPError as error:
            raise ContainerError(f"{self.name} cannot be removed: {error}") from error
        finally:
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=5)
            for task in self._tasks:
                task.cancel()
            if not self.exited.done():
                self.exited.set_result(ContainerExit(-1, False))

    def memory_mb(self) -> float | None:
        """Anonymous memory of its control group in MB."""
        return None if self._group is None else self._group.memory_bytes() / 1e6


def mounts(extra: Sequence[Path]) -> list[Path]:
    """What containers see of this machine, read-only: system, Python, virtual environment, this project, ``extra``."""
    project = Path(__file__).resolve().parents[2]
    wanted = [Path("/usr"), Path(sys.base_prefix), Path(sys.prefix), Path(sysconfig.get_path("purelib")), project]
    wanted += [Path(sys.executable).resolve().parent, *(Path("/etc") / name for name in _ETC), *extra]
    found: list[Path] = []
    for path in sorted({path for path in wanted if path.exists()}, key=lambda path: len(path.parts)):
        if not any(path.is_relative_to(above) for above in found):
            found.append(path)
    return found


def skeleton() -> bytes:
    """A tar archive of an empty root file system: folders to mount on, and Debian's links into /usr."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name in ("usr", "etc", "tmp", "proc", "sys", "dev", "run", "root"):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(folder)
        for name in ("bin", "lib", "lib64", "sbin"):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, f"usr/{name}"
            archive.addfile(link)
    return out.getvalue()


def _client(address: Path) -> httpx.AsyncClient:
    # Following logs and waiting for the end keeps two connections a container open.
    transport = httpx.AsyncHTTPTransport(uds=str(address), verify=False, limits=httpx.Limits(max_connections=None))
    return httpx.AsyncClient(transport=transport, base_url="http://docker")


def _check(reply: httpx.Response, what: str) -> None:
    """Raises ContainerError with Docker's own words unless the reply is a success."""
    if reply.status_code < 400:
        return
    try:
        message = reply.json()["message"]
    except (ValueError, KeyError):
        message = reply.text
    raise ContainerError(f"{what}: {message}")


def _own_socket(platform: str) -> Path:
    # The path of a socket may be 107 bytes long at most.
    return Path("/run") / f"tyche-{platform}.sock"


def _exec_root(platform: str) -> Path:
    return Path("/run") / f"tyche-{platform}"


def _system_socket() -> Path | None:
    """Socket of the machine's own daemon: DOCKER_HOST if set, else the usual place."""
    host = os.environ.get("DOCKER_HOST", f"unix://{_SYSTEM_SOCKET}")
    return Path(host.removeprefix("unix://")) if host.startswith("unix://") else None


async def _answers(address: Path) -> bool:
    if not address.exists():
        return False
    try:
        async with _client(address) as http:
            return (await http.get("/_ping", timeout=5)).status_code == 200
    except httpx.HTTPError:
        return False


async def _start_daemon(platform: str, folder: Path) -> tuple[asyncio.subprocess.Process, Path]:
    """Start a private daemon that touches no network settings; returns it and its socket."""
    program = shutil.which("dockerd")
    if program is None:
        raise ContainerError("no Docker daemon answers and there is no dockerd; on Debian: apt-get install docker.io")
    if os.geteuid() != 0:
        raise ContainerError("no Docker daemon answers, and only root can start one; or use --containers process")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    address = _own_socket(platform)
    log = folder / "dockerd.log"
    with os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as out:
        daemon = await asyncio.create_subprocess_exec(
            *("setpriv", "--pdeathsig", "TERM", "--", program),
            *("--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false"),
            f"--host=unix://{address}",
            # not a group that others may be in, who would be root with it
            f"--group={os.getegid()}",
            f"--data-root={folder / 'data'}",
            f"--exec-root={_exec_root(platform)}",
            f"--pidfile={folder / 'dockerd.pid'}",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env={**os.environ, PLATFORM_LABEL: platform},
            start_new_session=True,
        )
    try:
        async with asyncio.timeout(_DAEMON_START_S):
            while daemon.returncode is None:
                if await _answers(address):
                    return daemon, address
                await asyncio.sleep(0.1)
    except TimeoutError:
        await _stop(daemon)
    except asyncio.CancelledError:
        await _stop(daemon)
        await _tidy(platform, folder)
        raise
    lines = log.read_text(errors="replace").strip().splitlines() or ["it wrote nothing"]
    raise ContainerError(f"a private dockerd does not start: {lines[-1]}; or use --containers process")


async def _stop(daemon: asyncio.subprocess.Process) -> None:
    """Ask a daemon to end, and kill it if it has not after 20 s."""
    with contextlib.suppress(ProcessLookupError):
        daemon.terminate()
    try:
        async with asyncio.timeout(20):
            await daemon.wait()
    except TimeoutError:
        daemon.kill()
        await daemon.wait()


@contextlib.asynccontextmanager
async def _running(platform: str) -> AsyncIterator[list[httpx.AsyncClient]]:
    """Clients of every daemon that may have containers of ``platform``."""
    clients: list[httpx.AsyncClient] = []
    for address in (_system_socket(), _own_socket(platform)):
        if address is not None and await _answers(address):
            clients.append(_client(address))
    try:
        yield clients
    finally:
        for each in clients:
            await each.aclose()


async def sweep(platform: str, folder: Path) -> list[str]:
    """Remove every container labelled ``platform``, and a private daemon that outlived its platform.

    Returns:
        A line for each thing removed.
    """
    removed: list[str] = []
    async with _running(platform) as clients:
        for http in clients:
            chosen = json.dumps({"label": [f"{PLATFORM_LABEL}={platform}"]})
            reply = await http.get("/containers/json", params={"all": "1", "filters": chosen}, timeout=30)
            _check(reply, "containers cannot be listed")
            for each in reply.json():
                await http.delete(f"/containers/{each['Id']}", params={"force": "1", "v": "1"}, timeout=60)
                removed.append(f"container {each['Names'][0].lstrip('/')}")
    pidfile = folder / "dockerd.pid"
    if pidfile.exists():
        removed += await _end_daemon(int(pidfile.read_text()), platform)
    await _tidy(platform, folder)
    return removed


async def _tidy(platform: str, folder: Path) -> None:
    """Remove the files of a private daemon that has ended, and the mounts that it does not undo itself."""
    folders = (_exec_root(platform), folder)
    for line in Path("/proc/self/mounts").read_text().splitlines():
        where = line.split()[1]
        if any(Path(where).is_relative_to(each) for each in folders):
            undo = await asyncio.create_subprocess_exec("umount", "--lazy", where)
            await undo.wait()
    for each in folders:
        shutil.rmtree(each, ignore_errors=True)
    _own_socket(platform).unlink(missing_ok=True)


async def _end_daemon(process: int, platform: str) -> list[str]:
    environment = Path(f"/proc/{process}/environ")
    for attempt in range(200):
        try:
            if f"{PLATFORM_LABEL}={platform}".encode() not in environment.read_bytes().split(b"\0"):
                return []
        except OSError:
            return [f"Docker daemon {process}"] if attempt else []
        if attempt == 0:
            os.kill(process, signal.SIGTERM)
        await asyncio.sleep(0.1)
    os.kill(process, signal.SIGKILL)
    return [f"Docker daemon {process}"]
