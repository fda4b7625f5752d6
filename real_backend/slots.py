"""Worker slots: one action each, so that plain REST addresses one container; one invocation at a time.

An action whose container was lost gets a new one at its next invocation, by the platform's own doing.  What an
invocation came to is read off here, failures included: nothing below raises for a request that failed.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from real_backend.client import ActionSpec, Activation, Client, ClientError, ConnectionLostError
from real_backend.making import VARIABLE, Making
from real_backend.platform.service import NODE_ANNOTATION
from real_backend.worker.messages import Settings, WorldFunction
from tyche_env.codes import Status
from tyche_env.errors import UserError

PREFIX = "tyche-"
"""How the names of all actions begin that a run deploys."""
STAGES = ("clear", "library", "model", "transfer", "inference")
_REMOVE_PAUSE_S = 0.05
_REMOVE_TRIES = 1200
_VERIFY_TRIES = 200
_WAIT_BEYOND_S = 60.0
"""How much longer than its action's time limit an invocation may take: it may have to wait for a container."""
_AFTER_LIMIT_S = 15.0
"""How long after a time limit OpenWhisk itself may take to notice it."""
_OFFLOAD_S = 20.0
"""How long the container of a slot that is given up may take to empty itself."""
_SECOND_TRY_MS = 2000
"""A call of a container that was there waits less, unless the platform tried that container first, and in vain."""
TAGS_ANNOTATION = "invoker-resources"
"""Binds an action to the nodes with these tags, where OpenWhisk's new scheduler runs."""


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
        code: the action server's word for that; empty if it said none.
        stages_us: measured stages of the action server, by name; empty if it said nothing.
        start_type: what the action server says an inference met.
        warming_us: creation and initialisation of the container; 0 if it was there.  Where the platform does not tell
            what making one took, it is what it waited for and the initialisation.
        wait_us: what the request waited for at the platform beside that; 0 where it cannot be told apart.
        fresh: the container was new.
        lost: another container than the one believed in answered: what that one held is out of reach.
        done: whether a load is complete; it goes on in the background otherwise.
        boot: which start of a container answered, which is the container's identity; None if only the platform did.
        container: the embedded platform's name of the container; None elsewhere.
        node: the embedded platform's name of its node, likewise.
        home: the machine that it is on, and its GPU, as the action server says.
        runs: how many activations began in it; 0 if it did not say.
        again: whether this very activation had begun in it before.
        second: whether the platform seems to have tried another container first, which may have begun the request.
        held: functions that the container holds now; None if it did not say.
        answer: of the function.
    """

    status: Status
    message: str = ""
    code: str = ""
    stages_us: Mapping[str, int] = field(default_factory=dict)
    start_type: str | None = None
    warming_us: int = 0
    wait_us: int = 0
    fresh: bool = False
    lost: bool = False
    done: bool = True
    boot: str | None = None
    container: str | None = None
    node: str | None = None
    home: str | None = None
    runs: int = 0
    again: bool = False
    second: bool = False
    held: frozenset[str] | None = None
    answer: Any = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a slot's container is made: a logical node, and its memory limit."""

    node: str
    memory_mib: int


@dataclass(frozen=True, slots=True)
class Spare:
    """An action that no slot uses: without a container, or with one in which nothing should be held.

    Attributes:
        action: its name.
        boot: the container that it has; None if it has none, as far as is known.
        runs: how many activations began in that.
        held: functions that could not be off-loaded.
    """

    action: str
    boot: str | None = None
    runs: int = 0
    held: frozenset[str] = frozenset()


def memory_mib(memory_mb: int) -> int:
    """MiB that hold so many MB of 10^6 bytes."""
    return math.ceil(memory_mb * 1e6 / 2**20)


class Deployment:
    """The actions of one run; their names carry the run and a number, and never come again with other content.

    Args:
        client: of the platform.
        embedded: whether the platform can create and remove containers on request.
        timeout_s: time limit of an invocation.
        making: what an action is made of.
        declared: module or file that declares the functions.
        functions: of the world; empty: the declared ones.
        tags: of nodes whose slots the platform is asked to keep there; empty: the platform chooses.

    Attributes:
        counts: "second", "again" and "surplus" runs of requests, as the action servers and the platform tell of them,
            and containers that were "silent" for too long.
    """

    def __init__(
        self,
        client: Client,
        embedded: bool,
        timeout_s: float,
        making: Making | None = None,
        declared: str = "real_backend.functions.catalogue",
        functions: Mapping[str, WorldFunction] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        self.client = client
        self.embedded = embedded
        self.timeout_s = timeout_s
        self.prefix = f"{PREFIX}{uuid.uuid4().hex[:8]}-"
        self.counts: Counter[str] = Counter()
        self._making = making or Making()
        self._declared = declared
        self._functions = functions or {}
        self._tags = tags or {}
        self._specs: dict[str | None, ActionSpec] = {}
        self._stock: dict[Place, list[Spare]] = defaultdict(list)
        self._number = 0
        self._names: set[str] = set()
        self._discarding: set[asyncio.Task[None]] = set()
        self._resting: set[asyncio.Task[None]] = set()

    async def provide(self, place: Place, count: int) -> None:
        """Deploy actions ahead of time, so that no request waits for it."""
        missing = max(0, count - len(self._stock[place]))
        self._stock[place] += await asyncio.gather(*(self._deploy(place) for _ in range(missing)))

    async def _deploy(self, place: Place) -> Spare:
        self._number += 1
        annotations: dict[str, Any] = {NODE_ANNOTATION: place.node} if self.embedded else {}
        if place.node in self._tags:
            annotations[TAGS_ANNOTATION] = [self._tags[place.node]]
        return Spare(await self.deploy(str(self._number), place.memory_mib, annotations=annotations))

    async def deploy(self, name: str, memory_mib: int, settings: Settings | None = None, **about: Any) -> str:
        """Deploy an action of the action server.

        Its logs are off: a platform that reads them after each run gives the next one another container.

        Args:
            name: what follows the run's prefix.
            memory_mib: its memory.
            settings: what the action server is told, beside the functions; None: it is a slot.
            about: further fields of its ``ActionSpec``.

        Returns:
            Its whole name.

        Raises:
            UserError: the platform does not take what it is made of.
        """
        whole = f"{self.prefix}{name}"
        told = settings or Settings()
        if told.function not in self._specs:
            self._specs[told.function] = self._making.spec(self._offering(told), self._declared)
        limits = {"memory_mib": memory_mib, "timeout_ms": round(self.timeout_s * 1000), "logs_mib": 0}
        spec = self._specs[told.function].model_copy(update={**limits, **about})
        try:
            await self.client.put_action(whole, spec)
        except ClientError as error:
            if error.status in (400, 413):
                raise UserError(f"{VARIABLE}: {self._making}: {error}") from error
            raise
        self._names.add(whole)
        return whole

    def _offering(self, settings: Settings) -> Settings:
        """The settings with the functions of the world in them: all, or the one of native mode."""
        functions = self._functions
        if settings.function is not None and settings.function in functions:
            functions = {settings.function: functions[settings.function]}
        return replace(settings, functions=functions)

    async def invoke(self, action: str, parameters: Mapping[str, Any]) -> Activation | Reply:
        """One invocation: its activation, or what went wrong before there was one."""
        try:
            return await self.client.invoke(action, parameters, self.timeout_s + _WAIT_BEYOND_S)
        except ClientError as error:
            return failure_of(error)

    async def take(self, place: Place) -> Spare:
        """An action that nobody uses: the one used last of those that have a container, which takes memory anyway."""
        stock = self._stock[place]
        if not stock:
            return await self._deploy(place)
        there = [at for at, spare in enumerate(stock) if spare.boot is not None]
        return stock.pop(there[-1] if there else -1)

    def give_back(self, place: Place, spare: Spare) -> None:
        """Nobody uses the action any more, and its container, if there is one, holds nothing."""
        self._stock[place].append(spare)

    def rest(self, place: Place, name: str) -> None:
        """Use an action again when whatever it may still do is certainly over."""

        async def wait() -> None:
            await asyncio.sleep(self.timeout_s + _AFTER_LIMIT_S)
            # at the end, since what its container holds is not known
            self._stock[place].insert(0, Spare(name))

        task = asyncio.create_task(wait())
        self._resting.add(task)
        task.add_done_callback(self._resting.discard)

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
        for task in tuple(self._resting):
            task.cancel()
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
        home: the machine that its container is on, as far as it has said.
        quiet_since_s: when it last answered, on the monotonic clock.
    """

    def __init__(self, deployment: Deployment, place: Place) -> None:
        self.place = place
        self.lock = asyncio.Lock()
        self.load_lock = asyncio.Lock()
        self.container: str | None = None
        self.held: frozenset[str] = frozenset()
        self.loading: int | None = None
        self.home: str | None = None
        self.quiet_since_s = time.monotonic()
        self._deployment = deployment
        self._action: str | None = None
        self._boot: str | None = None
        self._runs = 0

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
            await self._take()
        assert self._action is not None
        try:
            made = await self._deployment.client.create_container(self._action, self.place.node)
        except ClientError:
            return False
        self.container, self._boot, self._runs = made.id, made.boot_id, 0
        return True

    async def _take(self) -> None:
        spare = await self._deployment.take(self.place)
        self._action, self._boot, self._runs, self.held = spare.action, spare.boot, spare.runs, spare.held

    async def remove(self) -> None:
        """Remove its container, or empty it where the platform alone removes; the action is used again if that worked.

        An action that is deleted leaves its container behind, with its memory, for as long as the platform likes.
        """
        if not self._deployment.embedded:
            for name in sorted(self.held):
                if self._action is not None:
                    await self.invoke({"op": "offload", "function": name}, _OFFLOAD_S)
            if self._action is not None:
                self._deployment.give_back(self.place, Spare(self._action, self._boot, self._runs, self.held))
            self._action = None
            self.forget()
            return
        action, container = self._action, self.container
        self._action = None
        if action is None:
            return
        gone = not self.alive
        self.forget()
        if container is not None:
            gone = await self._deployment.remove(container)
        if gone:
            self._deployment.give_back(self.place, Spare(action))
        else:
            self._deployment.discard(action)

    async def invoke(self, parameters: Mapping[str, Any], longest_s: float | None = None) -> Reply:
        """One invocation; the caller holds ``lock``.

        Args:
            parameters: of the action.
            longest_s: how long a container that is there may take to answer; a platform that has lost it may be silent
                for much longer.  None: as long as the platform is.
        """
        try:
            if self._action is None:
                await self._take()
        except (ClientError, UserError) as error:
            return self._abandon(failure_of(error))
        assert self._action is not None
        try:
            async with asyncio.timeout(longest_s if self.alive else None):
                answer = await self._deployment.invoke(self._action, parameters)
        except TimeoutError:
            message = f"its container was there, and did not answer for {longest_s:.0f} s"
            self._deployment.counts["silent"] += 1
            return self._abandon(Reply(Status.DEADLINE, message))
        self.quiet_since_s = time.monotonic()
        if isinstance(answer, Activation):
            return self._read(answer)
        # what was refused was never begun, so whatever the container holds is still there
        return answer if answer.status == Status.REFUSED else self._abandon(answer)

    def _abandon(self, reply: Reply) -> Reply:
        """An invocation may still run, or have made a container: go on with another action, for safety."""
        name, lost = self._action, self.alive
        self._action = None
        self.forget()
        if name is not None and self._deployment.embedded:
            self._deployment.discard(name)
        elif name is not None:
            self._deployment.rest(self.place, name)
        return replace(reply, lost=lost)

    def _read(self, activation: Activation) -> Reply:
        reply = reply_of(activation)
        if reply.boot is None:
            lost = self.alive
            self.forget()
            return replace(reply, lost=lost)
        known = reply.boot == self._boot
        lost = self.alive and (reply.fresh or (self._boot is not None and not known))
        if reply.again:
            self._deployment.counts["again"] += 1
        elif (known or reply.fresh) and reply.runs > (expected := (self._runs if known else 0) + 1):
            self._deployment.counts["surplus"] += reply.runs - expected
        second = lost and reply.second
        if second:
            self._deployment.counts["second"] += 1
        self._boot, self.container, self._runs = reply.boot, reply.container, reply.runs
        self.held, self.home = reply.held or frozenset(), reply.home
        return replace(reply, lost=lost, second=second)


def failure_of(error: ClientError | UserError) -> Reply:
    """What a call came to that brought no activation."""
    if isinstance(error, UserError):
        return Reply(Status.PLATFORM, str(error))
    if isinstance(error, ConnectionLostError):
        return Reply(Status.CONNECTION_LOST, str(error))
    if error.status in (429, 503):
        return Reply(Status.REFUSED, str(error))
    return Reply(Status.PLATFORM if error.status is not None else Status.CONNECTION_LOST, str(error))


def reply_of(activation: Activation) -> Reply:
    """What an activation says of itself; whether a container was lost is for those to say who knew one."""
    result = activation.response.result
    body: dict[str, Any] = result if isinstance(result, dict) else {}
    error = body["error"] if isinstance(body.get("error"), dict) else {}
    # of a result with an error OpenWhisk keeps nothing but that
    body = {**(error.get("container") or {}), **body}
    told = activation.annotation("tyche")
    boot = body.get("boot_id")
    fresh = activation.init_ms is not None and (told or {}).get("start") != "prewarmed"
    wait_ms = activation.wait_ms or 0
    warming_ms = 0.0
    if fresh:
        # a server beside the runtime starts in the first run, if it starts
        made_ms = wait_ms if told is None else float(told.get("createTime", 0.0))
        warming_ms = made_ms + (activation.init_ms or 0) + float(body.get("server_ms", 0.0))
        wait_ms = max(0, wait_ms - round(made_ms))
    warming_us = round(1000 * warming_ms)
    wait_us = 0 if told is None else 1000 * wait_ms
    if boot is None:
        # only the platform answered, or what is left of the action server; the container holds nothing, if it is there
        status, message = _of_platform(activation)
        if "code" in error:
            status, message = _BY_CODE.get(str(error["code"]), Status.FAILED), str(error.get("message", ""))
        return Reply(status, message, warming_us=warming_us, wait_us=wait_us, fresh=fresh)
    home = [str(body[key]) for key in ("machine_id", "gpu_uuid") if body.get(key)]
    told = told or {}
    return Reply(
        status=Status.OK if body.get("ok") and not error else _BY_CODE.get(error.get("code", ""), Status.FAILED),
        message=str(error.get("message", "")),
        code=str(error.get("code", "")),
        stages_us={name: round(1000 * ms) for name, ms in (body.get("stages_ms") or {}).items()},
        start_type=body.get("start_type"),
        warming_us=warming_us,
        wait_us=wait_us,
        fresh=fresh,
        done=bool(body.get("done", True)),
        boot=str(boot),
        container=told.get("container"),
        node=told.get("node"),
        home="/".join(home) or None,
        runs=int(body.get("runs", 0)),
        again=bool(body.get("again")),
        second=fresh and (activation.wait_ms or 0) >= _SECOND_TRY_MS,
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
