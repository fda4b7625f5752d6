"""What the REST interface does: keeps actions and packages, runs activations, remembers their records."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from real_backend.containers.factory import ContainerFactory
from real_backend.platform import kinds
from real_backend.platform.config import PlatformConfig
from real_backend.platform.container_client import ContainerLostError, ContainerSlowError
from real_backend.platform.errors import ApiError, missing
from real_backend.platform.events import ContainerEvent
from real_backend.platform.pool import CreationError, Lease, Need, Pool, Pooled
from real_backend.platform.records import (
    Action,
    ActionPut,
    Exec,
    Json,
    KeyValue,
    Package,
    PackagePut,
    failure,
    new_action,
    next_version,
    outcome,
)
from real_backend.platform.store import Store

_log = logging.getLogger(__name__)

_LOG_WAIT_S = 0.5
_TOLD = ("boot_id", "gpu_uuid", "residents")
NODE_ANNOTATION = "tyche-node"
"""Annotation of an action that names the only node allowed to run it."""


@dataclass(eq=False)
class Activation:
    """An activation that was accepted.

    Attributes:
        id: Its id.
        record: Its record; complete once ``done`` is set, but for the logs.
        task: Ends when the logs are in the record as well, and all is stored.
    """

    id: str
    record: dict[str, Json]
    done: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class Service:
    """The platform without its HTTP surface.

    Args:
        config: Its settings.
        factory: Makes containers; started already.
        store: What outlives it.
        observe: Told every finished record; for metrics.
    """

    def __init__(
        self,
        config: PlatformConfig,
        factory: ContainerFactory,
        store: Store,
        observe: Callable[[dict[str, Json]], None],
    ) -> None:
        self.config = config
        self.factory = factory
        self.store = store
        self.pool = Pool(factory, config, self._stem_runtime)
        self._observe = observe
        self._actions = {action.path: action for action in store.actions()}
        self._packages = {package.name: package for package in store.packages()}
        self._running: dict[str, Activation] = {}
        self._accepted: deque[float] = deque()
        self._stopped = asyncio.Event()

    def start(self) -> None:
        """Settle what an earlier platform left running, and make stem cells."""
        left = self.store.fail_unfinished("The platform was restarted while this activation was running.")
        if left:
            _log.warning("%d activations of an earlier run were not finished; they are internal errors now", left)
        self.pool.start()

    def stop(self) -> None:
        """Refuse new activations and end those that run, as internal errors."""
        self._stopped.set()
        for activation in self._running.values():
            if activation.task is not None:
                activation.task.cancel()

    async def close(self) -> None:
        """Stop, and remove all containers."""
        self.stop()
        tasks = [activation.task for activation in self._running.values() if activation.task is not None]
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.pool.close()
        self.store.close()

    @property
    def in_flight(self) -> int:
        """Activations that have not finished."""
        return len(self._running)

    def _stem_runtime(self, kind: str) -> kinds.Runtime:
        runtime = kinds.runtime_of(Exec(kind=kind), self.config)
        if runtime is None:
            raise ValueError(f"no kind {kind!r} for stem cells")
        return runtime

    # Actions and packages

    def action(self, path: str) -> Action:
        """The action at ``PACKAGE/NAME`` or ``NAME``.

        Raises:
            ApiError: 404.
        """
        found = self._actions.get(path)
        if found is None:
            raise missing()
        return found

    def actions(self, package: str | None = None) -> list[Action]:
        """Actions, last updated first; of one package if one is named.

        Raises:
            ApiError: 404, there is no such package.
        """
        if package is not None and package not in self._packages:
            raise missing()
        chosen = [action for action in self._actions.values() if package is None or action.package == package]
        return sorted(chosen, key=lambda action: (-action.updated, action.path))

    def put_action(self, package: str | None, name: str, put: ActionPut, overwrite: bool) -> Action:
        """Make or update an action.

        Raises:
            ApiError: 404, no such package; 409, it is there and ``overwrite`` is false; 400 or 413, it cannot run.
        """
        path = name if package is None else f"{package}/{name}"
        if package is not None and package not in self._packages:
            raise missing()
        old = self._actions.get(path)
        if old is not None and not overwrite:
            raise ApiError(409, "resource already exists")
        what = put.exec
        if what is not None:
            kinds.check(what, self.config.limits.code_bytes, self.config.limits.sequence_length)
            if kinds.is_archive(what.code or ""):
                put = put.model_copy(update={"exec": what.model_copy(update={"binary": True})})
            for component in (what.components or []) if what.kind == kinds.SEQUENCE else []:
                self._check_component(component, path)
        action = new_action((self.config.namespace, package, name), put, old, self.config.limits)
        action = action.model_copy(update={"revision": uuid.uuid4().hex})
        self.store.put_action(action)
        self._actions[path] = action
        self.pool.retire(path, action.revision)
        return action

    def _component(self, name: str) -> str:
        """Path of a sequence's component, which is written ``/NAMESPACE/[PACKAGE/]NAME``."""
        parts = name.strip("/").split("/")
        return "/".join(parts[1:] if name.startswith("/") and parts[0] in ("_", self.config.namespace) else parts)

    def _check_component(self, name: str, path: str) -> None:
        open_paths, seen = [self._component(name)], set[str]()
        while open_paths:
            each = open_paths.pop()
            if each == path:
                raise ApiError(400, "Sequence may not refer to itself.")
            if each not in self._actions:
                raise ApiError(400, "Sequence component does not exist.")
            if each not in seen:
                seen.add(each)
                open_paths.extend(self._component(inner) for inner in self._actions[each].exec.components or [])

    def delete_action(self, path: str) -> Action:
        """Forget an action and remove its idle containers.

        Raises:
            ApiError: 404.
        """
        action = self.action(path)
        self.store.delete_action(action)
        del self._actions[path]
        self.pool.retire(path, None)
        return action

    def package(self, name: str) -> Package:
        """A package.

        Raises:
            ApiError: 404.
        """
        if name not in self._packages:
            raise missing()
        return self._packages[name]

    def packages(self) -> list[Package]:
        """All packages, last updated first."""
        return sorted(self._packages.values(), key=lambda package: (-package.updated, package.name))

    def put_package(self, name: str, put: PackagePut, overwrite: bool) -> Package:
        """Make or update a package.

        Raises:
            ApiError: 409, it is there and ``overwrite`` is false.
        """
        old = self._packages.get(name)
        if old is not None and not overwrite:
            raise ApiError(409, "resource already exists")
        package = Package(
            namespace=self.config.namespace,
            name=name,
            version=put.version or next_version(old.version if old else None),
            publish=bool(put.publish if put.publish is not None else old and old.publish),
            parameters=put.parameters if put.parameters is not None else (old.parameters if old else []),
            annotations=put.annotations if put.annotations is not None else (old.annotations if old else []),
            updated=time.time_ns() // 1_000_000,
        )
        self.store.put_package(package)
        self._packages[name] = package
        return package

    def delete_package(self, name: str) -> Package:
        """Forget an empty package.

        Raises:
            ApiError: 404; 409, it is not empty.
        """
        package = self.package(name)
        inside = len(self.actions(name))
        if inside:
            raise ApiError(409, f"Package not empty (contains {inside} {'entities' if inside > 1 else 'entity'})")
        self.store.delete_package(name)
        del self._packages[name]
        return package

    # Activations

    def invoke(self, path: str, payload: Mapping[str, Json], transaction: str) -> Activation:
        """Accept an activation and begin it.

        Raises:
            ApiError: 404; 429, a limit of the namespace; 503, no node can run it or the platform stops.
        """
        action = self.action(path)
        if self._stopped.is_set() or not self._can_run(action):
            raise ApiError(
                503, "The server is currently unavailable (because it is overloaded or down for maintenance)."
            )
        self._throttle()
        return self._begin(action, payload, transaction, None)

    def _can_run(self, action: Action) -> bool:
        need = self._need(action)
        return need is None or self.pool.fits(need)

    def _throttle(self) -> None:
        limits, now = self.config.limits, time.monotonic()
        while self._accepted and self._accepted[0] <= now - 60:
            self._accepted.popleft()
        rate, running = len(self._accepted) + 1, len(self._running) + 1
        if rate > limits.invocations_per_minute:
            raise ApiError(
                429,
                f"Too many requests in the last minute (count: {rate}, allowed: {limits.invocations_per_minute}).",
            )
        if running > limits.concurrent_invocations:
            raise ApiError(
                429,
                f"Too many concurrent requests in flight (count: {running}, allowed: {limits.concurrent_invocations}).",
            )
        self._accepted.append(now)

    def _begin(self, action: Action, payload: Mapping[str, Json], transaction: str, cause: str | None) -> Activation:
        arrival = time.time()
        record: dict[str, Json] = {
            "namespace": self.config.namespace,
            "name": action.name,
            "version": action.version,
            "subject": self.config.namespace,
            "activationId": uuid.uuid4().hex,
            "start": int(arrival * 1000),
            "end": 0,
            "duration": 0,
            "logs": [],
            "publish": False,
            "response": {},
            "annotations": [
                {"key": "path", "value": f"{action.place}/{action.name}"},
                {"key": "kind", "value": action.exec.kind},
                {"key": "limits", "value": action.limits.model_dump()},
                {"key": "timeout", "value": False},
            ],
        }
        if cause is not None:
            record["cause"] = cause
            _annotate(record, "causedBy", "sequence")
        activation = Activation(record["activationId"], record)
        self.store.accept(record, action.path)
        self._running[activation.id] = activation
        run = self._run_sequence if action.exec.kind == kinds.SEQUENCE else self._run
        arguments = self._arguments(action, payload)
        activation.task = asyncio.create_task(
            self._carry_out(run(activation, action, arguments, transaction), activation)
        )
        return activation

    def _arguments(self, action: Action, payload: Mapping[str, Json]) -> dict[str, Json]:
        """Parameters of the package, of the action and of the request; later ones prevail."""
        bound: list[KeyValue] = []
        if action.package is not None and action.package in self._packages:
            bound += self._packages[action.package].parameters
        bound += action.parameters
        return {**{each.key: each.value for each in bound if not each.init}, **payload}

    async def _carry_out(self, run: Any, activation: Activation) -> None:
        try:
            await run
        except asyncio.CancelledError:
            if not activation.done.is_set():
                self._finish(activation, failure("whisk internal error", "The platform was stopped."))
        except Exception:
            _log.exception("activation %s failed inside the platform", activation.id)
            if not activation.done.is_set():
                self._finish(activation, failure("whisk internal error", "There was an error processing your request."))
        finally:
            self._running.pop(activation.id, None)

    def _finish(self, activation: Activation, response: dict[str, Json], started: float | None = None) -> None:
        record, now = activation.record, time.time()
        record["start"] = int((now if started is None else started) * 1000)
        record["end"] = int(now * 1000)
        record["duration"] = record["end"] - record["start"]
        record["response"] = response
        self.store.finish(record)
        activation.done.set()
        self._observe(record)

    def _need(self, action: Action) -> Need | None:
        runtime = kinds.runtime_of(action.exec, self.config)
        if runtime is None:
            return None
        node = action.annotation(NODE_ANNOTATION)
        return Need(action.path, action.revision, runtime, action.limits.memory, None if node is None else str(node))

    async def _run(self, activation: Activation, action: Action, arguments: dict[str, Json], transaction: str) -> None:
        arrival = time.time()
        record = activation.record
        need = self._need(action)
        if need is None:
            message = (
                f"Failed to pull container image '{action.exec.image}'. This platform has only '{kinds.WORKER_IMAGE}'."
            )
            self._finish(activation, failure("action developer error", message))
            return
        try:
            lease = await self.pool.acquire(need)
        except CreationError as error:
            _log.warning("activation %s: %s", activation.id, error)
            self._finish(
                activation,
                failure("whisk internal error", f"Failed to provision resources to run the action: {error}"),
            )
            return
        pooled = lease.pooled
        healthy = False
        try:
            started = time.time()
            _annotate(record, "waitTime", round((started - arrival) * 1000))
            _annotate(
                record,
                "tyche",
                {
                    "container": pooled.id,
                    "node": pooled.node.spec.name,
                    "start": lease.start,
                    "createTime": round(pooled.create_ms, 3) if lease.start == "cold" else 0.0,
                    "resumeTime": round(lease.resume_ms, 3),
                },
            )
            response, healthy = await self._serve(record, lease, action, arguments, transaction, started)
            self._finish(activation, response, started)
            assert pooled.container is not None
            record["logs"] = await pooled.container.logs.collect(_LOG_WAIT_S if healthy else 0.05)
            if record["logs"]:
                self.store.finish(record)
        finally:
            pooled.activations += 1
            self.pool.release(pooled, keep=healthy)

    async def _serve(
        self,
        record: dict[str, Json],
        lease: Lease,
        action: Action,
        arguments: dict[str, Json],
        transaction: str,
        started: float,
    ) -> tuple[dict[str, Json], bool]:
        """Initialise the container if need be, and run; returns the response and whether the container is usable."""
        pooled = lease.pooled
        assert pooled.client is not None
        assert pooled.container is not None
        pooled.container.logs.begin(action.limits.logs * 2**20)
        limit_s = action.limits.timeout / 1000
        initialising = not pooled.initialised
        try:
            if initialising:
                error, milliseconds = await self._init(pooled, action, limit_s)
                _annotate(record, "initTime", round(milliseconds))
                if error is not None:
                    return error, False
                initialising = False
            environment = {
                "namespace": self.config.namespace,
                "action_name": f"/{action.place}/{action.name}",
                "action_version": action.version,
                "activation_id": record["activationId"],
                "transaction_id": transaction,
                "deadline": str(int((started + limit_s) * 1000)),
            }
            status, answer, length = await pooled.client.post("/run", {"value": arguments, **environment}, limit_s)
        except ContainerSlowError:
            record["annotations"] = [each for each in record["annotations"] if each["key"] != "timeout"]
            _annotate(record, "timeout", True)
            during = " during initialization" if initialising else ""
            message = f"The action exceeded its time limits of {action.limits.timeout} milliseconds{during}."
            return failure("action developer error", message), False
        except ContainerLostError as lost:
            if lost.out_of_memory:
                message = "The action exhausted its memory and was aborted."
            elif initialising:
                message = "The action did not initialize and exited unexpectedly."
            else:
                message = "The action did not produce a valid response and exited unexpectedly."
            return failure("action developer error", message), False
        response = self._response(status, answer, length)
        if pooled.runtime.kind == kinds.WORKER and isinstance(response["result"], dict):
            pooled.told = {name: response["result"][name] for name in _TOLD if name in response["result"]}
        return response, True

    async def _init(self, pooled: Pooled, action: Action, limit_s: float) -> tuple[dict[str, Json] | None, float]:
        """Send ``/init``; returns the response that ends the activation if it fails, and the milliseconds taken."""
        assert pooled.client is not None
        begun = time.perf_counter()
        value = {
            "name": action.name,
            "main": action.exec.main or "main",
            "code": action.exec.code or "",
            "binary": action.exec.binary,
            "env": {
                **{each.key: each.value for each in action.parameters if each.init},
                "__OW_NAMESPACE": self.config.namespace,
                "__OW_ACTION_NAME": f"/{action.place}/{action.name}",
                "__OW_ACTION_VERSION": action.version,
            },
        }
        status, answer, _ = await pooled.client.post("/init", {"value": value}, limit_s)
        milliseconds = (time.perf_counter() - begun) * 1e3
        if status != 200:
            message = _json(answer)
            shown = (
                message["error"]
                if isinstance(message, dict) and "error" in message
                else answer.decode(errors="replace")
            )
            return failure("action developer error", shown), milliseconds
        pooled.initialised = True
        return None, milliseconds

    def _response(self, status: int, answer: bytes, length: int) -> dict[str, Json]:
        """What an answer to ``/run`` means."""
        allowed = self.config.limits.payload_bytes
        if length > allowed:
            return failure(
                "application error",
                f"The action produced a response that exceeded the allowed length: {length} > {allowed} bytes.",
            )
        result = _json(answer)
        if not isinstance(result, (dict, list)):
            shown = answer[:1024].decode(errors="replace")
            return failure("action developer error", f"The action did not produce a valid JSON response: {shown}")
        if status != 200:
            error = result.get("error", result) if isinstance(result, dict) else result
            return failure("action developer error", error)
        if isinstance(result, dict) and "error" in result:
            return outcome("application error", result)
        return outcome("success", result)

    async def _run_sequence(
        self, activation: Activation, action: Action, arguments: dict[str, Json], transaction: str
    ) -> None:
        started = time.time()
        response = outcome("success", arguments)
        activation.record["annotations"] += [{"key": "topmost", "value": True}]
        for name in action.exec.components or []:
            component = self._actions.get(self._component(name))
            if component is None:
                response = failure("application error", "Sequence component does not exist.")
            elif not isinstance(response["result"], dict):
                response = failure("application error", "A component of the sequence did not return a dictionary.")
            else:
                inner = self._begin(component, response["result"], transaction, activation.id)
                activation.record["logs"].append(inner.id)
                await inner.done.wait()
                response = inner.record["response"]
            if not response["success"]:
                break
        self._finish(activation, response, started)

    async def wait(self, activation: Activation, timeout_s: float) -> bool:
        """Wait for an activation's result; returns whether it is there."""
        try:
            async with asyncio.timeout(timeout_s):
                await activation.done.wait()
        except TimeoutError:
            return False
        return True

    async def record(self, identity: str) -> dict[str, Json]:
        """Record of a finished activation, with its logs.

        Raises:
            ApiError: 404, also while it runs.
        """
        running = self._running.get(identity)
        if running is not None and running.done.is_set() and running.task is not None:
            # Only its logs are missing.
            await asyncio.wait([running.task], timeout=2 * _LOG_WAIT_S)
        found = self.store.activation(identity)
        if found is None:
            raise missing()
        return found

    # Containers: not a part of OpenWhisk

    async def follow(self, number: int, timeout_s: float) -> list[ContainerEvent]:
        """Events of containers after ``number``; waits for one, unless the platform stops."""
        waiting = asyncio.create_task(self.pool.events.after(number, timeout_s))
        stopping = asyncio.create_task(self._stopped.wait())
        await asyncio.wait([waiting, stopping], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if waiting.done():
            return waiting.result()
        waiting.cancel()
        return []

    async def create_container(
        self, path: str | None, kind: str | None, memory_mib: int | None, node: str | None, keep_alive_s: float | None
    ) -> Pooled:
        """Make a container ahead of time: of an action and initialised, or a stem cell of a kind.

        Raises:
            ApiError: 400, neither or both are named; 404, no such action or node; 409, no free memory; 500, it failed.
        """
        try:
            if path is not None and kind is None and memory_mib is None:
                action = self.action(path)
                need = self._need(action)
                if need is None:
                    raise ApiError(400, f"action {path!r} has no container that this platform could make")
                pooled = await self.pool.create(need.runtime, need.memory_mib, need, node, keep_alive_s)
                return await self._initialised(pooled, action)
            if path is None and kind is not None and memory_mib is not None:
                runtime = kinds.runtime_of(Exec(kind=kind), self.config)
                if runtime is None:
                    raise ApiError(400, f"there is no kind {kind!r}; known: {kinds.PYTHON}, {kinds.WORKER}")
                low, high = self.config.limits.memory_min_mib, self.config.limits.memory_max_mib
                if not low <= memory_mib <= high:
                    raise ApiError(400, f"memory {memory_mib} MiB is not between {low} and {high}")
                return await self.pool.create(runtime, memory_mib, None, node, keep_alive_s)
        except CreationError as error:
            raise ApiError(500, f"Failed to provision resources: {error}") from error
        raise ApiError(400, "name an action, or a kind and memory")

    async def _initialised(self, pooled: Pooled, action: Action) -> Pooled:
        healthy = False
        try:
            assert pooled.container is not None
            pooled.container.logs.begin(action.limits.logs * 2**20)
            error, _ = await self._init(pooled, action, action.limits.timeout / 1000)
            if error is not None:
                raise ApiError(409, f"action {action.path!r} cannot be initialised: {error['result']['error']}")
            healthy = True
        except (ContainerLostError, ContainerSlowError) as error:
            raise ApiError(409, f"action {action.path!r} cannot be initialised: {error}") from error
        finally:
            self.pool.release(pooled, keep=healthy)
        return pooled


def _annotate(record: dict[str, Json], key: str, value: Json) -> None:
    record["annotations"].append({"key": key, "value": value})


def _json(raw: bytes) -> Json:
    try:
        return json.loads(raw)
    except ValueError:
        return None
