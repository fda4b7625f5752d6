"""Settings of the embedded platform."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tyche_env.errors import UserError

Containers = Literal["process", "docker"]
"""What containers of the own platform are."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NodeSpec(_Frozen):
    """One logical node ("invoker") of this machine."""

    name: str
    memory_mib: Annotated[int, Field(gt=0)]
    gpus: tuple[str, ...] | None = None
    """Devices of its containers, as CUDA_VISIBLE_DEVICES names them; None: all that the platform sees."""


class StemCells(_Frozen):
    """Containers of a kind that every node keeps ready for any action of that kind and memory."""

    kind: str
    memory_mib: Annotated[int, Field(gt=0)]
    count: Annotated[int, Field(gt=0)]

    @classmethod
    def parse(cls, text: str) -> StemCells:
        """Read ``KIND,MEMORY,COUNT``.

        Raises:
            UserError: It does not look like that.
        """
        match = re.fullmatch(r"([^,]+),(\d+),(\d+)", text)
        if match is None or "0" in (match[2], match[3]):
            raise UserError(f"--stem-cells {text!r}: say KIND,MEMORY,COUNT, such as python:3,256,2")
        return cls(kind=match[1], memory_mib=int(match[2]), count=int(match[3]))


class Limits(_Frozen):
    """What actions and callers may ask for; the defaults of times and sizes are OpenWhisk's."""

    memory_min_mib: int = 128
    memory_std_mib: int = 256
    memory_max_mib: int = 2048
    timeout_min_ms: int = 100
    timeout_std_ms: int = 60_000
    timeout_max_ms: int = 300_000
    logs_max_mib: int = 10
    invocations_per_minute: int = 100_000
    concurrent_invocations: int = 1000
    payload_bytes: int = 1_048_576
    code_bytes: int = 48 * 1_048_576
    blocking_s: float = 60.0
    sequence_length: int = 50

    @model_validator(mode="after")
    def _ordered(self) -> Limits:
        if not self.memory_min_mib <= self.memory_std_mib <= self.memory_max_mib:
            raise ValueError("memory limits must be ordered: min <= std <= max")
        if not self.timeout_min_ms <= self.timeout_std_ms <= self.timeout_max_ms:
            raise ValueError("timeouts must be ordered: min <= std <= max")
        return self


class Behaviour(_Frozen):
    """What it does with containers where OpenWhisks differ; the defaults are ours, ``GENUINE`` is Apache's.

    Attributes:
        log_read_ms: How long a container whose action has a log limit stays busy after its answer, for its log to be
            read; whoever calls meanwhile gets another container.
        resume_ms: What waking a paused container takes beside the work of it.
        fault_delay_s: How long after a time limit or the end of a container the answer comes.
        rerun_after_s: How long after the end of a container in mid-run its request is run a second time, if the
            action has no log limit; None: it is not.
        notices_ends: Whether the end of an idle container is noticed, and lack of memory told from other ends.  If
            not, the next request waits in vain for as long as its time limit is.
        outdated_stay: Whether containers of an updated or deleted action stay until they expire or are evicted.
        expire_after_pause: Whether ``keep_alive_s`` counts from the pause on, not from the last run.
        tells_containers: Whether records have the annotation ``tyche``, an action's ``tyche-node`` binds it, and
            ``/api/v1/tyche`` and ``/status`` are there.
        own_kinds: Whether actions may have the kinds ``tyche:1`` and ``python:3``, which Apache's does not have.
    """

    log_read_ms: Annotated[float, Field(ge=0)] = 0.0
    resume_ms: Annotated[float, Field(ge=0)] = 0.0
    fault_delay_s: Annotated[float, Field(ge=0)] = 0.0
    rerun_after_s: Annotated[float, Field(ge=0)] | None = None
    notices_ends: bool = True
    outdated_stay: bool = False
    expire_after_pause: bool = False
    tells_containers: bool = True
    own_kinds: bool = True


GENUINE = Behaviour(
    log_read_ms=130.0,
    resume_ms=35.0,
    fault_delay_s=12.0,
    rerun_after_s=3.0,
    notices_ends=False,
    outdated_stay=True,
    expire_after_pause=True,
    tells_containers=False,
    own_kinds=False,
)
"""As measured on Apache OpenWhisk's standalone server, sources of August 2026 (docs/openwhisk.md)."""


class PlatformConfig(_Frozen):
    """Settings of the embedded platform.

    Attributes:
        nodes: Its logical nodes.
        containers: What containers are.
        limits: What actions and callers may ask for.
        behaviour: What it does with containers.
        stem_cells: Containers kept ready on each node.
        pause_after_s: Idle time after which a container is paused; None: never.
        keep_alive_s: Idle time after which a container is removed; None: never.
        start_timeout_s: How long a container's server may take to listen.
        namespace: Name of the only namespace.
        worker_arguments: What follows ``python -m real_backend.worker --host H --port P`` in tyche containers.
        environment: Variables for all containers.
        mounts: Files and folders that Docker containers see beside the system, Python and this project.
        keep_activations: How many finished activations are remembered.
    """

    nodes: Annotated[tuple[NodeSpec, ...], Field(min_length=1)]
    containers: Containers = "process"
    limits: Limits = Limits()
    behaviour: Behaviour = Behaviour()
    stem_cells: tuple[StemCells, ...] = ()
    pause_after_s: Annotated[float, Field(ge=0)] | None = 10.0
    keep_alive_s: Annotated[float, Field(ge=0)] | None = 600.0
    start_timeout_s: Annotated[float, Field(gt=0)] = 30.0
    namespace: str = "guest"
    worker_arguments: tuple[str, ...] = ()
    environment: dict[str, str] = Field(default_factory=dict)
    mounts: tuple[Path, ...] = ()
    keep_activations: Annotated[int, Field(gt=0)] = 100_000

    @model_validator(mode="after")
    def _consistent(self) -> PlatformConfig:
        names = [node.name for node in self.nodes]
        if len(set(names)) < len(names):
            raise ValueError(f"nodes have the same name: {', '.join(names)}")
        return self

    def like_openwhisk(self, time_scale: float = 1.0) -> PlatformConfig:
        """The same platform, but with a genuine OpenWhisk's behaviour.

        Args:
            time_scale: What all times are multiplied by that the platform lets pass by itself, so that tests need not
                wait for them: those of the behaviour, pause, keep-alive, and how long a blocking call blocks.  Limits
                of actions are theirs, and stay.
        """

        def scaled(value: float | None) -> float | None:
            return None if value is None else value * time_scale

        times = ("log_read_ms", "resume_ms", "fault_delay_s", "rerun_after_s")
        return self.model_copy(
            update={
                "behaviour": GENUINE.model_copy(update={name: scaled(getattr(GENUINE, name)) for name in times}),
                "pause_after_s": scaled(self.pause_after_s),
                "keep_alive_s": scaled(self.keep_alive_s),
                "limits": self.limits.model_copy(update={"blocking_s": self.limits.blocking_s * time_scale}),
            }
        )
