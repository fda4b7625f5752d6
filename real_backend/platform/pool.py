"""Containers of all nodes: which one serves a request, when it is paused, removed, evicted or made ahead of time.

The order of choice is OpenWhisk's (ContainerPool.scala): an idle container of the same action, a stem cell of the
kind and memory, a new one where memory is free, a new one in place of the idle containers used least recently, else
the queue.  Nodes are tried from the action's home node on, by a step coprime to their number
(ShardingContainerPoolBalancer.scala).  A node's memory is the sum of the limits of its containers.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import secrets
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Literal

from real_backend.containers.factory import (
    SECRET_VARIABLE,
    Container,
    ContainerError,
    ContainerFactory,
    ContainerSpec,
)
from real_backend.platform.config import NodeSpec, PlatformConfig
from real_backend.platform.container_client import ContainerClient, ContainerLostError, ContainerSlowError
from real_backend.platform.errors import ApiError
from real_backend.platform.events import Events
from real_backend.platform.kinds import WORKER, Runtime

_log = logging.getLogger(__name__)

State = Literal["creating", "stem", "idle", "busy", "removing"]
StartKind = Literal["cold", "prewarmed", "warm", "paused"]


class CreationError(Exception):
    """No container could be made for a request."""


@dataclass(frozen=True)
class Need:
    """What a request asks of a container.

    Attributes:
        action: Path of its action.
        revision: Revision of that action; containers serve one revision only.
        runtime: How to start a container for it.
        memory_mib: Its limit.
        node: Name of the only node allowed, or None.
    """

    action: str
    revision: str
    runtime: Runtime
    memory_mib: int
    node: str | None = None


@dataclass(eq=False)
class Pooled:
    """A container and what the pool knows of it.

    ``told`` is what the pre-loading action server said of itself in its last reply; empty for other servers.
    """

    id: str
    node: Node
    runtime: Runtime
    memory_mib: int
    need: Need | None
    state: State = "creating"
    replaced: bool = False
    paused: bool = False
    initialised: bool = False
    keep_alive_s: float | None = None
    container: Container | None = None
    client: ContainerClient | None = None
    created: float = field(default_factory=time.time)
    last_used: float = field(default_factory=time.time)
    create_ms: float = 0.0
    activations: int = 0
    told: dict[str, Any] = field(default_factory=dict)
    timers: list[asyncio.TimerHandle] = field(default_factory=list)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def stop_timers(self) -> None:
        """Neither pause nor remove it by itself."""
        for timer in self.timers:
            timer.cancel()
        self.timers.clear()


@dataclass(eq=False)
class Node:
    """A logical node and its containers, oldest first."""

    spec: NodeSpec
    containers: list[Pooled] = field(default_factory=list)

    @property
    def used_mib(self) -> int:
        """Memory promised to its containers; those that make room for another are counted no more."""
        return sum(each.memory_mib for each in self.containers if not each.replaced)

    @property
    def free_mib(self) -> int:
        """Memory that new containers may have."""
        return self.spec.memory_mib - self.used_mib


@dataclass(eq=False)
class Lease:
    """A container that serves one activation.

    Attributes:
        pooled: The container, ready; initialise it unless ``pooled.initialised``.
        start: How it was found.
        resume_ms: Time taken to wake it.
    """

    pooled: Pooled
    start: StartKind
    resume_ms: float = 0.0


@dataclass(eq=False)
class _Waiting:
    need: Need
    granted: asyncio.Future[tuple[Pooled, StartKind]]


class Pool:
    """All containers of the platform.

    Args:
        factory: Makes containers.
        config: Nodes, times, stem cells.
        stems: Runtime of each configured stem cell's kind.
    """

    def __init__(self, factory: ContainerFactory, config: PlatformConfig, stems: Callable[[str], Runtime]) -> None:
        self.nodes = [Node(spec) for spec in config.nodes]
        self.removals: Counter[str] = Counter()
        self.events = Events()
        self._factory = factory
        self._config = config
        self._stem_runtime = stems
        self._queue: deque[_Waiting] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._orders: dict[str, list[Node]] = {}
        self._closing = False

    @property
    def containers(self) -> list[Pooled]:
        """Every container, node by node."""
        return [each for node in self.nodes for each in node.containers]

    @property
    def queued(self) -> int:
        """How many requests wait for a container."""
        return len(self._queue)

    def start(self) -> None:
        """Begin to make the stem cells."""
        for node in self.nodes:
            self._refill(node)

    async def close(self) -> None:
        """Remove every container; requests that wait are cancelled."""
        self._closing = True
        for waiting in self._queue:
            waiting.granted.cancel()
        self._queue.clear()
        for _ in range(3):
            await asyncio.gather(*(self._remove(each, "shutdown") for each in self.containers), return_exceptions=True)
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=10)

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.error("a container could not be looked after", exc_info=task.exception())

    def _note(self, kind: str, pooled: Pooled, reason: str = "") -> None:
        self.events.add(kind, pooled.id, pooled.node.spec.name, pooled.need.action if pooled.need else None, reason)

    # Choice

    def fits(self, need: Need) -> bool:
        """Whether any node that the request may use is large enough."""
        return any(node.spec.memory_mib >= need.memory_mib for node in self._order(need))

    def _order(self, need: Need) -> list[Node]:
        """Nodes in the order in which they are tried."""
        if need.node is not None:
            return [node for node in self.nodes if node.spec.name == need.node]
        if need.action not in self._orders:
            count = len(self.nodes)
            number = int.from_bytes(hashlib.sha256(need.action.encode()).digest()[:8], "big")
            steps = [step for step in range(1, count + 1) if math.gcd(step, count) == 1]
            home, step = number % count, steps[number // count % len(steps)]
            self._orders[need.action] = [self.nodes[(home + k * step) % count] for k in range(count)]
        return self._orders[need.action]

    async def acquire(self, need: Need) -> Lease:
        """A container for one activation; waits in line for one.

        Raises:
            CreationError: A new one was needed and could not be made.
        """
        while True:
            pooled, start = await self._wait(need)
            if start == "cold":
                return Lease(pooled, start)
            begun = time.perf_counter()
            try:
                async with pooled.lock:
                    if pooled.paused and pooled.container is not None:
                        if self._config.behaviour.notices_ends or not pooled.container.exited.done():
                            await pooled.container.resume()
                        await asyncio.sleep(self._config.behaviour.resume_ms / 1e3)
                        pooled.paused, start = False, "paused"
            except (OSError, ContainerError) as error:
                _log.warning("container %s cannot be resumed: %s", pooled.id, error)
                self.discard(pooled, "lost")
                continue
            return Lease(pooled, start, (time.perf_counter() - begun) * 1e3)

    async def _wait(self, need: Need) -> tuple[Pooled, StartKind]:
        waiting = _Waiting(need, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        self._dispatch()
        try:
            return await waiting.granted
        except asyncio.CancelledError:
            granted = waiting.granted
            if waiting in self._queue:
                self._queue.remove(waiting)
            elif granted.done() and not granted.cancelled() and granted.exception() is None:
                self.release(granted.result()[0])
            raise

    def _dispatch(self) -> None:
        """Serve the line: the first by any means, those behind it only by idle containers of their own action."""
        blocked = False
        for waiting in list(self._queue):
            if waiting.granted.done():
                self._queue.remove(waiting)
                continue
            warm = self._warm(waiting.need)
            if warm is not None:
                self._queue.remove(waiting)
                waiting.granted.set_result((warm, "warm"))
            elif not blocked:
                if self._serve(waiting):
                    self._queue.remove(waiting)
                else:
                    blocked = True

    def _warm(self, need: Need) -> Pooled | None:
        for node in self._order(need):
            idle = [
                each
                for each in node.containers
                if each.state == "idle" and each.need is not None and each.need.revision == need.revision
            ]
            if idle:
                return self._take(max(idle, key=lambda each: each.last_used))
        return None

    def _take(self, pooled: Pooled) -> Pooled:
        pooled.state = "busy"
        pooled.stop_timers()
        self._note("busy", pooled)
        return pooled

    def _serve(self, waiting: _Waiting) -> bool:
        need = waiting.need
        for node in self._order(need):
            for each in node.containers:
                if each.state == "stem" and (each.runtime, each.memory_mib) == (need.runtime, need.memory_mib):
                    each.need = need
                    waiting.granted.set_result((self._take(each), "prewarmed"))
                    self._refill(node)
                    return True
            if node.free_mib >= need.memory_mib:
                self._begin(waiting, node, [])
                return True
        for node in self._order(need):
            victims = self._victims(node, need.memory_mib)
            if victims is not None:
                self._begin(waiting, node, victims)
                return True
        return False

    def _victims(self, node: Node, memory_mib: int) -> list[Pooled] | None:
        """Containers to remove so that ``memory_mib`` is free; None if that is not enough.

        Idle ones go first, the least recently used before others, then stem cells.
        """
        free, victims = node.free_mib, list[Pooled]()
        candidates = [each for each in node.containers if each.state in ("idle", "stem")]
        for each in sorted(candidates, key=lambda each: (each.state == "stem", each.last_used)):
            if free >= memory_mib:
                break
            victims.append(each)
            free += each.memory_mib
        return victims if free >= memory_mib else None

    # Creation

    def _begin(self, waiting: _Waiting, node: Node, victims: list[Pooled]) -> None:
        pooled = self._reserve(node, waiting.need.runtime, waiting.need.memory_mib, waiting.need)
        for victim in victims:
            victim.state, victim.replaced = "removing", True
        self._spawn(self._grant_new(waiting, pooled, victims))

    async def _grant_new(self, waiting: _Waiting, pooled: Pooled, victims: list[Pooled]) -> None:
        await asyncio.gather(*(self._remove(victim, "evicted") for victim in victims))
        try:
            await self._create(pooled)
        except CreationError as error:
            if not waiting.granted.done():
                waiting.granted.set_exception(error)
            return
        pooled.state = "busy"
        if waiting.granted.done():
            self.release(pooled)
        else:
            waiting.granted.set_result((pooled, "cold"))

    def _reserve(self, node: Node, runtime: Runtime, memory_mib: int, need: Need | None) -> Pooled:
        pooled = Pooled(uuid.uuid4().hex[:12], node, runtime, memory_mib, need, keep_alive_s=self._config.keep_alive_s)
        node.containers.append(pooled)
        return pooled

    async def _create(self, pooled: Pooled) -> None:
        """Start a reserved container and wait until it listens.

        Raises:
            CreationError: It does not; the reservation is given back.
        """
        begun = time.perf_counter()
        name = pooled.node.spec.name
        memory_mb = f"{pooled.memory_mib * 2**20 / 1e6:.3f}"
        command = [part.replace("{node}", name).replace("{memory_mb}", memory_mb) for part in pooled.runtime.command]
        gpus = pooled.node.spec.gpus
        if gpus and pooled.runtime.kind == WORKER:
            command += ["--gpu", gpus[0]]
        secret = secrets.token_urlsafe(32)
        spec = ContainerSpec(
            name=pooled.id,
            command=command,
            memory_mib=pooled.memory_mib,
            environment={
                **self._config.environment,
                "TYCHE_NODE": name,
                "TYCHE_CONTAINER": pooled.id,
                "TYCHE_MEMORY_MIB": str(pooled.memory_mib),
                SECRET_VARIABLE: secret,
            },
            gpus=gpus,
        )
        try:
            # Whoever removes it meanwhile waits until there is something to remove.
            async with pooled.lock:
                if pooled not in pooled.node.containers:
                    raise CreationError(f"container {pooled.id} was removed before it started")
                pooled.container = await self._factory.create(spec)
                pooled.client = ContainerClient(pooled.container, secret, self._config.limits.payload_bytes)
            await pooled.client.wait_ready(self._config.start_timeout_s)
        except (ContainerError, ContainerLostError, ContainerSlowError) as error:
            await self._remove(pooled, "failed")
            raise CreationError(f"container {pooled.id} ({pooled.runtime.kind}) on {name}: {error}") from error
        except asyncio.CancelledError:
            await self._remove(pooled, "failed")
            raise
        if pooled.state == "removing":
            raise CreationError(f"container {pooled.id} was removed while it started")
        self._note("created", pooled)
        pooled.create_ms = (time.perf_counter() - begun) * 1e3
        pooled.container.exited.add_done_callback(lambda _: self._spawn(self._lost(pooled)))

    async def _lost(self, pooled: Pooled) -> None:
        """A container ended by itself; a busy one is dealt with by the request that it serves."""
        if pooled.state in ("idle", "stem") and self._config.behaviour.notices_ends:
            _log.warning("container %s on %s ended while it was idle", pooled.id, pooled.node.spec.name)
            await self._remove(pooled, "lost")

    async def create(
        self, runtime: Runtime, memory_mib: int, need: Need | None, node: str | None, keep_alive_s: float | None
    ) -> Pooled:
        """Make a container ahead of time; it is busy until the caller releases it, if it is an action's.

        Args:
            runtime: How to start it.
            memory_mib: Its limit.
            need: The action that it serves; None makes a stem cell.
            node: Name of the node; None takes the action's first with free memory.
            keep_alive_s: Idle time after which it is removed, in place of the platform's.

        Raises:
            ApiError: 404, there is no such node; 409, no memory is free there.
            CreationError: It cannot be made.
        """
        asked = Need(
            need.action if need else runtime.kind, "", runtime, memory_mib, node or (need.node if need else None)
        )
        order = self._order(asked)
        if not order:
            raise ApiError(404, f"there is no node {asked.node!r}")
        place = next((each for each in order if each.free_mib >= memory_mib), None)
        if place is None:
            free = ", ".join(f"{each.spec.name}: {each.free_mib}" for each in order)
            raise ApiError(409, f"no node has {memory_mib} MiB free for a container (MiB free: {free})")
        pooled = self._reserve(place, runtime, memory_mib, need)
        if keep_alive_s is not None:
            pooled.keep_alive_s = keep_alive_s
        await self._create(pooled)
        if need is None:
            pooled.state = "stem"
            self._dispatch()
        else:
            pooled.state = "busy"
        return pooled

    def _refill(self, node: Node) -> None:
        """Make the stem cells that ``node`` lacks, as far as memory is free."""
        for stem in self._config.stem_cells:
            runtime = self._stem_runtime(stem.kind)
            have = sum(
                each.need is None
                and each.state in ("creating", "stem")
                and each.runtime == runtime
                and each.memory_mib == stem.memory_mib
                for each in node.containers
            )
            for _ in range(stem.count - have):
                if node.free_mib >= stem.memory_mib and not self._closing:
                    self._spawn(self._make_stem(self._reserve(node, runtime, stem.memory_mib, None)))

    async def _make_stem(self, pooled: Pooled) -> None:
        try:
            await self._create(pooled)
        except CreationError as error:
            _log.warning("no stem cell: %s", error)
            return
        pooled.state = "stem"
        self._dispatch()

    # Afterwards

    def release(self, pooled: Pooled, keep: bool = True) -> None:
        """Give a container back after an activation; ``keep`` false removes it."""
        if pooled.state == "removing":
            return
        behaviour = self._config.behaviour
        ended = pooled.container is not None and pooled.container.exited.done()
        if not keep or self._closing or (ended and behaviour.notices_ends):
            self.discard(pooled, "failed")
            return
        pooled.state, pooled.last_used = "idle", time.time()
        self._note("idle", pooled)
        loop = asyncio.get_running_loop()
        if self._config.pause_after_s is not None:
            pooled.timers.append(loop.call_later(self._config.pause_after_s, lambda: self._spawn(self._pause(pooled))))
        if pooled.keep_alive_s is not None:
            idle_s = pooled.keep_alive_s
            if behaviour.expire_after_pause:
                idle_s += self._config.pause_after_s or 0.0
            pooled.timers.append(loop.call_later(idle_s, lambda: self.discard(pooled, "expired")))
        self._dispatch()

    async def _pause(self, pooled: Pooled) -> None:
        async with pooled.lock:
            if pooled.state == "idle" and pooled.container is not None:
                if self._config.behaviour.notices_ends or not pooled.container.exited.done():
                    await pooled.container.pause()
                pooled.paused = True
                self._note("paused", pooled)

    def discard(self, pooled: Pooled, why: str) -> None:
        """Begin to remove a container; from now on it serves nobody."""
        pooled.state = "removing"
        pooled.stop_timers()
        self._spawn(self._remove(pooled, why))

    def retire(self, action: str, keep_revision: str | None) -> None:
        """Remove idle containers of an action that was updated or deleted."""
        if self._config.behaviour.outdated_stay:
            return
        for each in self.containers:
            need = each.need if each.state == "idle" else None
            if need is not None and need.action == action and need.revision != keep_revision:
                self.discard(each, "outdated")

    async def remove(self, identity: str) -> None:
        """Remove a container that is not serving.

        Raises:
            ApiError: 404, there is none; 409, it is serving.
        """
        found = next((each for each in self.containers if each.id == identity), None)
        if found is None or found.state == "removing":
            raise ApiError(404, f"there is no container {identity!r}")
        if found.state not in ("idle", "stem"):
            raise ApiError(409, f"container {identity} is {found.state}")
        await self._remove(found, "asked")

    async def _remove(self, pooled: Pooled, why: str) -> None:
        if pooled not in pooled.node.containers:
            return
        pooled.state = "removing"
        pooled.stop_timers()
        async with pooled.lock:
            if pooled not in pooled.node.containers:
                return
            if pooled.client is not None:
                await pooled.client.close()
            try:
                if pooled.container is not None:
                    await pooled.container.remove()
            except (OSError, ContainerError) as error:
                _log.error("container %s cannot be removed: %s", pooled.id, error)
            pooled.node.containers.remove(pooled)
        self.removals[why] += 1
        self._note("removed", pooled, why)
        if not self._closing:
            self._dispatch()
            # A stem cell that cannot be made would fail again at once.
            if why != "failed" and not self._queue:
                self._refill(pooled.node)
