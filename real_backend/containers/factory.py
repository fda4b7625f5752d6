"""What makes containers, and what a container offers: to be paused, measured and removed.

The platform knows containers only by these protocols, so that plain processes and Docker serve it alike.  A container
here runs one HTTP server (OpenWhisk's ``/init`` and ``/run``) on a loopback address of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from real_backend.containers.logs import LogBuffer

PLATFORM_LABEL = "TYCHE_PLATFORM"
"""Environment variable (of processes) and label (of Docker containers) that names the platform that started them."""

SECRET_VARIABLE = "TYCHE_SECRET"
"""Environment variable with the secret of a container, which it asks of whoever calls: only its own user and root can
read the environment of a process."""


class ContainerError(Exception):
    """A container could not be made, or none of its sort can be on this machine; says what would help."""


@dataclass(frozen=True)
class ContainerSpec:
    """What to run.

    Attributes:
        name: Unique name, also the name of its control group.
        command: Program and arguments; ``{host}`` and ``{port}`` stand for the address to listen on.
        memory_mib: Limit in MiB.
        environment: Variables that the program gets, and no others.
        gpus: Devices it may see, as CUDA_VISIBLE_DEVICES names them; None leaves that to its surroundings.
    """

    name: str
    command: Sequence[str]
    memory_mib: int
    environment: Mapping[str, str] = field(default_factory=dict)
    gpus: tuple[str, ...] | None = None

    def arguments(self, host: str, port: int) -> list[str]:
        """The command with its address filled in."""
        return [part.replace("{host}", host).replace("{port}", str(port)) for part in self.command]


@dataclass(frozen=True)
class ContainerExit:
    """How a container ended.

    Attributes:
        code: Exit status; negative or above 128 when a signal ended it.
        out_of_memory: Whether the kernel killed it for memory.
    """

    code: int
    out_of_memory: bool


class Container(Protocol):
    """A running container."""

    name: str
    host: str
    port: int
    logs: LogBuffer
    exited: asyncio.Future[ContainerExit]

    async def pause(self) -> None:
        """Stop its processes from running; they keep their memory."""

    async def resume(self) -> None:
        """Let its processes run again."""

    async def remove(self) -> None:
        """Kill and remove it; nothing of it is left afterwards.  May be called more than once."""

    def memory_mb(self) -> float | None:
        """Resident memory in MB (10^6 bytes); None where nothing tells."""


class ContainerFactory(Protocol):
    """Makes containers of one sort.

    Attributes:
        name: What they are, as ``--containers`` calls it.
        notes: What they are made by, and what they cannot do on this machine.
    """

    name: str
    notes: list[str]

    async def start(self) -> None:
        """Get ready.

        Raises:
            ContainerError: It does not work here.
        """

    async def create(self, spec: ContainerSpec) -> Container:
        """Start a container; its server may still be starting up when this returns.

        Raises:
            ContainerError: It did not start.
        """

    async def close(self) -> None:
        """Stop what ``start`` started; containers are removed before."""
