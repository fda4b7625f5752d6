"""Worker slots: one action each, so that plain REST addresses one container; one invocation at a time.

An action whose container was lost gets a new one at its next invocation, by the platform's own doing.  What an
invocation came to is read off here, failures included: nothing below raises for a request that failed.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import uuid
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from real_backend.client import ActionSpec, Activation, Client, ClientError, ConnectionLostError
from real_backend.platform.kinds import WORKER
from real_backend.platform.service import NODE_ANNOTATION
from tyche_env.codes import Status

STAGES = ("clear", "library", "model", "transfer", "inference")
_REMOVE_PAUSE_S = 0.05
_REMOVE_TRIES = 1200
_VERIFY_TRIES = 200
_WAIT_BEYOND_S = 60.0
"""How much longer than its action's time limit an invocation may take: it may have to wait for a container."""


_BY_CODE = {
    "corrupt_model": Status.CORRUPT_MODEL,
    "out_of_memory": Status.OUT_OF_MEMORY,
    "deadline": Status.DEADLINE,
    "died": Status.DIED,
}
"""Codes of the action server; the others are FAILED."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What an invocation came to.

    Attributes:
        status: how it ended.
        message: why, if not well.
        stages_us: measured stages of the action server, by name; empty if it said nothing.
        start_type: what the action server says an inference met.
        warming_us: creation and initialisation of the container; 0 if it was there.
        fresh: the container was new.
        lost: a container that was there before is there no more, with all it held.
        done: whether a load is complete; it goes on in the background otherwise.
        boot: which start of a container answered; None if only the platform did.
        container: the platform's name of the container; None if it does not tell.
        node: its node, likewise.
        held: functions that the container holds now; None if it did not say.
        answer: of the function.
    """

    status: Status
    message: str = ""
    stages_us: Mapping[str, int] = field(default_factory=dict)
    start_type: str | None = None
    warming_us: int = 0
    fresh: bool = False
    lost: bool = False
    done: bool = True
    boot: str | None = None
    container: str | None = None
    node: str | None = None
    held: frozenset[str] | None = None
    answer: Any = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a slot's container is made: a logical node, and its memory limit."""

    node: str
    memory_mib: int


def memory_mib(memory_mb: int) -> int:
    """MiB that hold so many MB of 10^6 bytes."""
    return math.ceil(memory_mb * 1e6 / 2**20)


class Deployment:
    """The actions of one run; their names carry the run and a number, and never come again with other content.

    Args:
        client: of the platform.
        embedded: whether the platform can create and remove containers on request.
        timeout_s: time limit of an invocation.
    """

    def __init__(self, client: Client, embedded: bool, timeout_s: float) -> None:
        self.client = client
        self.embedded = embedded
        self.timeout_s = timeout_s
        self.prefix = f"tyche-{uuid.uuid4().hex[:8]}-"
        self._stock: dict[Place, list[str]] = defaultdict(list)
        self._number = 0
        self._names: set[str] = set()
        self._discarding: set[asyncio.Task[None]] = set()

    async def provide(self, place: Place, count: int) -> None:
        """Deploy actions ahead of time, so that no request waits for it."""
        self._stock[place] += await asyncio.gather(*(self._deploy(place) for _ in range(count)))

    async def _deploy(self, place: Place) -> str:
        self._number += 1
        return await self.deploy(str(self._number), place.memory_mib, annotations={NODE_ANNOTATION: place.node})

    async def deploy(self, name: str, memory_mib: int, **about: Any) -> str:
        """Deploy an action of the action server; ``about`` are further fields of its ``ActionSpec``.

        Returns:
            Its whole name.
        """
        whole = f"{self.prefix}{name}"
        spec = ActionSpec(kind=WORKER, memory_mib=memory_mib, timeout_ms=round(self.timeout_s * 1000), **about)
        await self.client.put_action(whole, spec)
        self._names.add(whole)
        return whole

    async def invoke(self, action: str, parameters: Mapping[str, Any]) -> Activation | Reply:
        """One invocation: its activation, or what went wrong before there was one."""
        try:
            return await self.client.invoke(action, parameters, self.timeout_s + _WAIT_BEYOND_S)
        except ClientError as error:
            return failure_of(error)

    async def take(self, place: Place) -> str:
        """An action that has no container."""
        stock = self._stock[place]
        return stock.pop() if stock else await self._deploy(place)

    def give_back(self, place: Place, name: str) -> None:
        """The action has no container any more."""
        self._stock[place].append(name)

    def discard(self, name: str) -> None:
        """Begin to delete an action and its containers, also one that still serves."""
        task = asyncio.create_task(self._discard(name))
        self._discarding.add(task)
        task.add_done_callback(self._discarding.discard)

    async def _discard(self, name: str) -> None:
        self._names.discard(name)
        with contextlib.suppress(ClientError):
            await self.client.delete_action(name)
        if self.embedded:
            with contextlib.suppress(ClientError):
                for each in await self.client.containers():
                    if each.action == name:
                        await self.remove(each.id)

    async def remove(self, container: str) -> bool:
        """Remove a container, waiting while it serves; whether it is gone."""
        for _ in range(_REMOVE_TRIES):
            try:
                await self.client.remove_container(container)
            except ClientError as error:
                if error.status == 404:
                    return True
                if error.status != 409:
                    return False
                await asyncio.sleep(_REMOVE_PAUSE_S)
            else:
                return True
        return False

    async def close(self) -> list[str]:
        """Remove all containers and actions of the run, and look whether they are gone.

        Returns:
            What could not be removed.
        """
        for name in tuple(self._names):
            self.discard(name)
        await asyncio.gather(*self._discarding)
        left: list[str] = []
        for _ in range(_VERIFY_TRIES):
            left = [f"action {each.path}" for each in await self.client.actions() if each.path.startswith(self.prefix)]
            if self.embedded:
                containers = await self.client.containers()
                left += [f"container {each.id}" for each in containers if (each.action or "").startswith(self.prefix)]
            if not left:
                break
            # a container that is about to go is listed until it is gone
            await asyncio.sleep(_REMOVE_PAUSE_S)
        return left


class Slot:
    """A worker slot.

    Attributes:
        place: where its container is.
        lock: held by whoever invokes; first come, first served.
        load_lock: held for the whole of a load, so that whoever waits for ``lock`` waits for one call about it at most.
        container: the platform's name of its container, as far as known.
        held: functions that its container held when it last answered.
        loading: function whose load is under way, or None.
    """

    def __init__(self, deployment: Deployment, place: Place) -> None:
        self.place = place
        self.lock = asyncio.Lock()
        self.load_lock = asyncio.Lock()
        self.container: str | None = None
        self.held: frozenset[str] = frozenset()
        self.loading: int | None = None
        self._deployment = deployment
        self._action: str | None = None
        self._boot: str | None = None

    @property
    def alive(self) -> bool:
        """Whether it has a container, as far as is known."""
        return self.container is not None or self._boot is not None

    def forget(self) -> None:
        """Its container is gone."""
        self.container = self._boot = None
        self.held = frozenset()

    async def create(self) -> bool:
        """Make its container ahead of time, if the platform can; whether it is there."""
        if self._action is None:
            self._action = await self._deployment.take(self.place)
        try:
            made = await self._deployment.client.create_container(self._action, self.place.node)
        except ClientError:
            return False
        self.container, self._boot = made.id, made.boot_id
        return True

    async def remove(self) -> None:
        """Remove its container; the action is used again if that is certain."""
        name, container = self._action, self.container
        self._action = None
        if name is None:
            return
        gone = not self.alive
        self.forget()
        if self._deployment.embedded and container is not None:
            gone = await self._deployment.remove(container)
        if gone:
            self._deployment.give_back(self.place, name)
        else:
            self._deployment.discard(name)

    async def invoke(self, parameters: Mapping[str, Any]) -> Reply:
        """One invocation; the caller holds ``lock``."""
        try:
            if self._action is None:
                self._action = await self._deployment.take(self.place)
        except ClientError as error:
            return self._abandon(failure_of(error))
        answer = await self._deployment.invoke(self._action, parameters)
        if isinstance(answer, Activation):
            return self._read(answer)
        # what was refused was never begun, so whatever the container holds is still there
        return answer if answer.status == Status.REFUSED else self._abandon(answer)

    def _abandon(self, reply: Reply) -> Reply:
        """An invocation may still run, or have made a container: go on with another action, for safety."""
        name, lost = self._action, self.alive
        self._action = None
        self.forget()
        if name is not None:
            self._deployment.discard(name)
        return replace(reply, lost=lost)

    def _read(self, activation: Activation) -> Reply:
        reply = reply_of(activation)
        if reply.boot is None:
            lost = self.alive
            self.forget()
            return replace(reply, lost=lost)
        lost = self.alive and (reply.fresh or (self._boot is not None and reply.boot != self._boot))
        self._boot, self.container = reply.boot, reply.container
        self.held = reply.held or frozenset()
        return replace(reply, lost=lost)


def failure_of(error: ClientError) -> Reply:
    """What a call came to that brought no activation."""
    if isinstance(error, ConnectionLostError):
        return Reply(Status.CONNECTION_LOST, str(error))
    if error.status in (429, 503):
        return Reply(Status.REFUSED, str(error))
    return Reply(Status.PLATFORM if error.status is not None else Status.CONNECTION_LOST, str(error))


def reply_of(activation: Activation) -> Reply:
    """What an activation says of itself; whether a container was lost is for those to say who knew one."""
    result = activation.response.result
    body: dict[str, Any] = result if isinstance(result, dict) else {}
    told = activation.annotation("tyche") or {}
    boot = body.get("boot_id")
    fresh = activation.init_ms is not None and told.get("start") != "prewarmed"
    warming_us = round(1000 * ((activation.init_ms or 0) + float(told.get("createTime", 0.0)))) if fresh else 0
    if boot is None:
        # only the platform answered; it has removed the container, or never had one
        status, message = _of_platform(activation)
        return Reply(status, message, warming_us=warming_us, fresh=fresh)
    error = body.get("error") or {}
    return Reply(
        status=Status.OK if body.get("ok") else _BY_CODE.get(error.get("code", ""), Status.FAILED),
        message=str(error.get("message", "")),
        stages_us={name: round(1000 * ms) for name, ms in (body.get("stages_ms") or {}).items()},
        start_type=body.get("start_type"),
        warming_us=warming_us,
        fresh=fresh,
        done=bool(body.get("done", True)),
        boot=str(boot),
        container=told.get("container"),
        node=told.get("node"),
        held=frozenset(each["function"] for each in body.get("residents", ())),
        answer=body.get("answer"),
    )


def _of_platform(activation: Activation) -> tuple[Status, str]:
    """Status of an activation that its container did not answer."""
    result = activation.response.result
    message = str(result.get("error", result)) if isinstance(result, dict) else str(result)
    if activation.response.status != "action developer error":
        return Status.PLATFORM, message
    if activation.annotation("timeout") is True or "time limit" in message:
        return Status.DEADLINE, message
    if "memory" in message:
        return Status.OUT_OF_MEMORY, message
    return Status.DIED, message
