"""What the REST interface does: keeps actions and packages, runs activations, remembers their records."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from real_backend.containers.factory import ContainerFactory
from real_backend.platform import kinds, strict_json
from real_backend.platform.config import PlatformConfig
from real_backend.platform.container_client import ContainerLostError, ContainerSlowError
from real_backend.platform.errors import ApiError, is_there, malformed, missing
from real_backend.platform.events import ContainerEvent
from real_backend.platform.pool import CreationError, Lease, Need, Pool, Pooled
from real_backend.platform.records import (
    COMPONENTS,
    Action,
    ActionPut,
    Binding,
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
from real_backend.platform.store import Store, StoreError

_log = logging.getLogger(__name__)

_LOG_WAIT_S = 0.5
_TOLD = ("boot_id", "gpu_uuid", "residents")
NODE_ANNOTATION = "tyche-node"
"""Annotation of an action that names the only node allowed to run it."""


class _RunAgainError(Exception):
    """The container ended in mid-run, and the request is to be run a second time."""


@dataclass(eq=False)
class Activation:
    """An activation that was accepted.

    Attributes:
        id: Its id.
        record: Its record; complete once ``done`` is set, but for what a container wrote.
        task: Ends when that is stored as well.
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
        address: Where actions find the platform.
        key: What actions that are provided with a key get.
    """

    def __init__(
        self,
        config: PlatformConfig,
        factory: ContainerFactory,
        store: Store,
        observe: Callable[[dict[str, Json]], None],
        address: str,
        key: str,
    ) -> None:
        self.config = config
        self.factory = factory
        self.store = store
        self.pool = Pool(factory, config, self._stem_runtime)
        self._observe = observe
        self._address = address
        self._key = key
        self._updated = 0
        self._unwritten: dict[str, dict[str, Json]] = {}
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

    def _update_time(self) -> int:
        """Epoch milliseconds, later than any before: lists are in the order of updates."""
        self._updated = max(time.time_ns() // 1_000_000, self._updated + 1)
        return self._updated

    # Actions and packages

    def action(self, path: str) -> Action:
        """The action at ``PACKAGE/NAME`` or ``NAME``, also through a binding, without what it inherits.

        Raises:
            ApiError: 404.
        """
        package, _, name = path.rpartition("/")
        if package and package in self._packages:
            path = f"{self._provider(self._packages[package]).name}/{name}"
        found = self._actions.get(path)
        if found is None:
            raise missing()
        return found

    def inheriting(self, path: str) -> Action:
        """The action at ``path`` with the parameters of its package and of the binding below its own.

        Raises:
            ApiError: 404.
        """
        action, package = self.action(path), path.rpartition("/")[0]
        if not package:
            return action
        inherited = {each.key: each for each in self.package(package).parameters}
        inherited |= {each.key: each for each in action.parameters}
        return action.model_copy(update={"parameters": list(inherited.values())})

    def actions(self, package: str | None = None) -> list[Action]:
        """Actions, last updated first; of one package, or of what a binding stands for, if one is named.

        Raises:
            ApiError: 404, there is no such package.
        """
        if package is not None:
            if package not in self._packages:
                raise missing()
            package = self._provider(self._packages[package]).name
        chosen = [action for action in self._actions.values() if package is None or action.package == package]
        return sorted(chosen, key=lambda action: (-action.updated, action.path))

    def _own_package(self, package: str) -> Package:
        """A package whose contents may be changed.

        Raises:
            ApiError: 404, there is none; 400, it is a binding.
        """
        if package not in self._packages:
            raise missing()
        if self._packages[package].binding is not None:
            raise ApiError(400, "Operation not permitted on package binding.")
        return self._packages[package]

    def put_action(self, package: str | None, name: str, put: ActionPut, overwrite: bool) -> Action:
        """Make or update an action.

        Raises:
            ApiError: 404, no such package; 409, it is there and ``overwrite`` is false; 400 or 413, it cannot run.
        """
        path = name if package is None else f"{package}/{name}"
        if package is not None:
            self._own_package(package)
        old = self._actions.get(path)
        if old is not None and not overwrite:
            raise is_there()
        what = put.exec
        if what is not None:
            what = kinds.check(what, self.config)
            if what.kind == kinds.SEQUENCE:
                components = [self._component(each) for each in what.components or []]
                for component in components:
                    self._check_component(component, path)
                what = what.model_copy(
                    update={"components": [f"/{self.config.namespace}/{each}" for each in components]}
                )
            put = put.model_copy(update={"exec": what})
        action = new_action((self.config.namespace, package, name), put, old, self.config.limits, self._update_time())
        action = action.model_copy(update={"revision": uuid.uuid4().hex})
        self.store.put_action(action)
        self._actions[path] = action
        self.pool.retire(path, action.revision)
        return action

    def _component(self, name: str) -> str:
        """Path of a sequence's component, which is written ``/NAMESPACE/[PACKAGE/]NAME``.

        Raises:
            ApiError: 400, it is not written like that.
        """
        parts = name.strip("/").split("/")
        if len(parts) not in (2, 3) or not all(parts):
            raise malformed(
                "requirement failed: The fully qualified name of the entity must contain at least the namespace "
                "and the name of the entity."
            )
        if parts[0] not in ("_", self.config.namespace):
            raise ApiError(400, "Sequence component does not exist.")
        return "/".join(parts[1:])

    def _check_component(self, component: str, path: str) -> None:
        open_paths, seen = [component], set[str]()
        while open_paths:
            each = open_paths.pop()
            if each == path:
                raise ApiError(400, "Sequence may not refer to itself.")
            try:
                found = self.action(each)
            except ApiError:
                raise ApiError(400, "Sequence component does not exist.") from None
            if found.path == path:
                raise ApiError(400, "Sequence may not refer to itself.")
            if each not in seen:
                seen.add(each)
                open_paths.extend(self._component(inner) for inner in found.exec.components or [])

    def delete_action(self, path: str) -> Action:
        """Forget an action and remove its idle containers.

        Raises:
            ApiError: 404; 400, it is reached through a binding.
        """
        package = path.rpartition("/")[0]
        if package:
            self._own_package(package)
        action = self.action(path)
        self._forget(action)
        return action

    def _forget(self, action: Action) -> None:
        self.store.delete_action(action)
        del self._actions[action.path]
        self.pool.retire(action.path, None)

    def package(self, name: str) -> Package:
        """A package; a binding with the parameters of what it stands for below its own.

        Raises:
            ApiError: 404, also if a binding's package is no more.
        """
        if name not in self._packages:
            raise missing()
        package = self._packages[name]
        if package.binding is None:
            return package
        merged = {each.key: each for each in self._provider(package).parameters}
        merged |= {each.key: each for each in package.parameters}
        return package.model_copy(update={"parameters": list(merged.values())})

    def _provider(self, package: Package) -> Package:
        """What a binding stands for; a package stands for itself."""
        if package.binding is None:
            return package
        found = self._packages.get(package.binding.name)
        if found is None or found.binding is not None:
            raise missing()
        return found

    def packages(self) -> list[Package]:
        """All packages, last updated first."""
        return sorted(self._packages.values(), key=lambda package: (-package.updated, package.name))

    def put_package(self, name: str, put: PackagePut, overwrite: bool) -> Package:
        """Make or update a package or a binding.

        Raises:
            ApiError: 409, it is there and ``overwrite`` is false, or it is a package that was to become a binding;
                400, the name is reserved or there is nothing to bind.
        """
        if name == "default":
            raise ApiError(400, "Package name 'default' is reserved.")
        old = self._packages.get(name)
        if old is not None and not overwrite:
            raise is_there()
        binding = self._binding(put.binding, old)
        annotations = put.annotations if put.annotations is not None else (old.annotations if old else [])
        if binding is not None:
            shown = KeyValue(key="binding", value={"name": binding.name, "namespace": binding.namespace})
            annotations = [*(each for each in annotations if each.key != "binding"), shown]
        package = Package(
            namespace=self.config.namespace,
            name=name,
            version=put.version or next_version(old.version if old else None),
            publish=bool(put.publish if put.publish is not None else old and old.publish),
            parameters=put.parameters if put.parameters is not None else (old.parameters if old else []),
            annotations=annotations,
            updated=self._update_time(),
            binding=binding,
        )
        self.store.put_package(package)
        self._packages[name] = package
        return package

    def _binding(self, asked: Binding | None, old: Package | None) -> Binding | None:
        if asked is None or not (asked.namespace or asked.name):
            return old.binding if old is not None else None
        if old is not None and old.binding is None:
            raise ApiError(409, "Resource is a package and cannot be converted into a binding.")
        provider = self._packages.get(asked.name)
        if asked.namespace not in ("_", self.config.namespace) or provider is None:
            raise ApiError(400, "Binding references a package that does not exist.")
        if provider.binding is not None:
            raise ApiError(400, "Cannot bind to another package binding.")
        return Binding(namespace=self.config.namespace, name=asked.name)

    def delete_package(self, name: str, force: bool) -> Package:
        """Forget a package or a binding.

        Args:
            name: Its name.
            force: Whether the actions in a package go with it.

        Raises:
            ApiError: 404; 409, it is not empty.
        """
        if name not in self._packages:
            raise missing()
        package = self._packages[name]
        inside = [] if package.binding is not None else self.actions(name)
        if inside and not force:
            count = f"{len(inside)} {'entities' if len(inside) > 1 else 'entity'}"
            raise ApiError(409, f"Package not empty (contains {count}). Set force param or delete package contents.")
        for action in inside:
            self._forget(action)
        self.store.delete_package(name)
        del self._packages[name]
        return package

    # Activations

    def invoke(self, path: str, payload: Mapping[str, Json], transaction: str) -> Activation:
        """Accept an activation and begin it.

        Raises:
            ApiError: 404; 400, a parameter is final; 429, a limit of the namespace; 503, no node can run it or the
                platform stops; 507, it cannot be noted.
        """
        action = self.inheriting(path)
        if action.is_set("final"):
            final = {each.key for each in action.parameters if each.value is not None}
            if not final.isdisjoint(payload):
                raise ApiError(400, "Request defines parameters that are not allowed (e.g., reserved properties).")
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
            "annotations": [],
        }
        sequence = action.exec.kind == kinds.SEQUENCE
        if sequence and cause is None:
            _annotate(record, "topmost", True)
        _annotate(record, "path", f"{action.place}/{action.name}")
        _annotate(record, "waitTime", 0)
        _annotate(record, "kind", action.exec.kind)
        if not sequence:
            _annotate(record, "timeout", False)
        _annotate(record, "limits", action.limits.model_dump())
        if cause is not None:
            record["cause"] = cause
            _annotate(record, "causedBy", "sequence")
        activation = Activation(record["activationId"], record)
        self._write_late()
        self.store.accept(record, action.path)
        self._running[activation.id] = activation
        run = self._run_sequence if sequence else self._run
        arguments = self._arguments(action, payload)
        activation.task = asyncio.create_task(
            self._carry_out(run(activation, action, arguments, transaction), activation)
        )
        return activation

    def _arguments(self, action: Action, payload: Mapping[str, Json]) -> dict[str, Json]:
        """Parameters of the action, which has inherited those of its package, and of the request, which prevail."""
        bound = {each.key: each.value for each in action.parameters if not each.init}
        if action.exec.kind == kinds.SEQUENCE:
            bound.pop(COMPONENTS, None)
        return {**bound, **payload}

    async def _carry_out(self, run: Any, activation: Activation) -> None:
        try:
            await run
        except asyncio.CancelledError:
            if not activation.done.is_set():
                self._finish(activation, failure("whisk internal error", "The platform was stopped."))
        except ApiError as error:
            self._finish(activation, failure("whisk internal error", error.message))
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
        try:
            self._write_late()
            self.store.finish(record)
        except StoreError as error:
            # Whoever waits is told what a later reader of the record will be told.
            record["response"] = failure("whisk internal error", str(error))
            self._unwritten[activation.id] = record
        activation.done.set()
        self._observe(record)

    def _write_late(self) -> None:
        """Store what could not be stored when it was due.

        Raises:
            StoreError: It cannot be stored now either.
        """
        for identity in list(self._unwritten):
            self.store.finish(self._unwritten[identity])
            del self._unwritten[identity]

    def _need(self, action: Action) -> Need | None:
        runtime = kinds.runtime_of(action.exec, self.config)
        if runtime is None:
            return None
        node = action.annotation(NODE_ANNOTATION) if self.config.behaviour.tells_containers else None
        return Need(action.path, action.revision, runtime, action.limits.memory, None if node is None else str(node))

    async def _run(self, activation: Activation, action: Action, arguments: dict[str, Json], transaction: str) -> None:
        try:
            await self._run_once(activation, action, arguments, transaction)
        except _RunAgainError:
            record, again_after_s = activation.record, self.config.behaviour.rerun_after_s
            # The container of the second run need not be new.
            record["annotations"] = [each for each in record["annotations"] if each["key"] != "initTime"]
            assert again_after_s is not None
            await asyncio.sleep(again_after_s)
            await self._run_once(activation, action, arguments, transaction, last=True)

    async def _run_once(
        self, activation: Activation, action: Action, arguments: dict[str, Json], transaction: str, last: bool = False
    ) -> None:
        behaviour = self.config.behaviour
        record = activation.record
        arrival = record["start"] / 1000
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
            if behaviour.tells_containers:
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
            try:
                response, healthy = await self._serve(record, lease, action, arguments, transaction, started)
            except ContainerLostError as lost:
                if not last and action.limits.logs == 0 and behaviour.rerun_after_s is not None:
                    raise _RunAgainError from lost
                response = await self._ended(lost, "did not produce a valid response")
            self._finish(activation, response, started)
            assert pooled.container is not None
            # Without a log limit nobody reads a log.
            lines = []
            if action.limits.logs > 0:
                lines = await pooled.container.logs.collect(_LOG_WAIT_S if healthy else 0.05)
            # As on a genuine OpenWhisk, what raises, or answers what is no JSON, loses its container.
            healthy = healthy and response["status"] != "action developer error"
            if lines and activation.id not in self._unwritten:
                # Whoever waits for the result gets the record without them, always.
                self._finish_logs({**record, "logs": lines})
            if healthy and action.limits.logs > 0 and behaviour.log_read_ms > 0:
                await asyncio.sleep(behaviour.log_read_ms / 1e3)
        finally:
            pooled.activations += 1
            self._give_back(pooled, action, healthy)

    def _finish_logs(self, record: dict[str, Json]) -> None:
        try:
            self.store.finish(record)
        except StoreError as error:
            # The record without its logs is stored and was answered.
            _log.warning("logs of activation %s are lost: %s", record["activationId"], error)

    def _give_back(self, pooled: Pooled, action: Action, healthy: bool) -> None:
        """Give a container back; one whose action was updated or deleted meanwhile never serves again."""
        now = self._actions.get(action.path)
        outdated = now is None or now.revision != action.revision
        if healthy and outdated and not self.config.behaviour.outdated_stay:
            self.pool.discard(pooled, "outdated")
        else:
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
        """Initialise the container if need be, and run; returns the response and whether the container is usable.

        Raises:
            ContainerLostError: It ended while it ran.
        """
        pooled = lease.pooled
        assert pooled.client is not None
        assert pooled.container is not None
        pooled.container.logs.begin(action.limits.logs * 2**20)
        limit_s = action.limits.timeout / 1000
        initialising = not pooled.initialised
        try:
            if pooled.container.exited.done() and not self.config.behaviour.notices_ends:
                # nobody is there to answer, and nobody knows
                await asyncio.sleep(limit_s)
                raise ContainerSlowError
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
            if action.is_set("provide-api-key"):
                environment["api_key"] = self._key
            status, answer, length = await pooled.client.post("/run", {"value": arguments, **environment}, limit_s)
        except ContainerSlowError:
            _annotate(record, "timeout", True)
            during = " during initialization" if initialising else ""
            message = f"The action exceeded its time limits of {action.limits.timeout} milliseconds{during}."
            await asyncio.sleep(self.config.behaviour.fault_delay_s)
            return failure("action developer error", message), False
        except ContainerLostError as lost:
            if not initialising:
                raise
            return await self._ended(lost, "did not initialize"), False
        response = self._response(status, answer, length)
        if pooled.runtime.kind == kinds.WORKER and isinstance(response["result"], dict):
            pooled.told = {name: response["result"][name] for name in _TOLD if name in response["result"]}
        return response, True

    async def _ended(self, lost: ContainerLostError, what: str) -> dict[str, Json]:
        """The response when a container ended."""
        message = f"The action {what} and exited unexpectedly."
        if lost.out_of_memory and self.config.behaviour.notices_ends:
            message = "The action exhausted its memory and was aborted."
        await asyncio.sleep(self.config.behaviour.fault_delay_s)
        return failure("action developer error", message)

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
                "__OW_API_HOST": self._address,
                "__OW_NAMESPACE": self.config.namespace,
                "__OW_ACTION_NAME": f"/{action.place}/{action.name}",
                "__OW_ACTION_VERSION": action.version,
            },
        }
        status, answer, length = await pooled.client.post("/init", {"value": value}, limit_s)
        milliseconds = (time.perf_counter() - begun) * 1e3
        if status != 200:
            return failure("action developer error", _error_in(answer), length), milliseconds
        pooled.initialised = True
        return None, milliseconds

    def _response(self, status: int, answer: bytes, length: int) -> dict[str, Json]:
        """What an answer to ``/run`` means."""
        allowed = self.config.limits.payload_bytes
        if length > allowed:
            return failure(
                "application error",
                f"The action produced a response that exceeded the allowed length: {length} > {allowed} bytes. "
                f"The truncated response was: {answer.decode(errors='replace')}",
                length,
            )
        if status != 200:
            return failure("action developer error", _error_in(answer), length)
        try:
            result = strict_json.parse_finite(answer)
        except ValueError:
            result = None
        if not isinstance(result, (dict, list)):
            shown = answer[:1024].decode(errors="replace")
            message = f"The action did not produce a valid JSON or JSON Array response: {shown}"
            return failure("action developer error", message, length)
        if isinstance(result, dict) and "error" in result:
            return outcome("application error", {"error": result["error"]}, length)
        return outcome("success", result, length)

    async def _run_sequence(
        self, activation: Activation, action: Action, arguments: dict[str, Json], transaction: str
    ) -> None:
        started = time.time()
        response = outcome("success", arguments)
        for name in action.exec.components or []:
            try:
                component = self.inheriting(self._component(name))
            except ApiError:
                component = None
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
        found = self._unwritten.get(identity) or self.store.activation(identity)
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
            self._give_back(pooled, action, healthy)
        return pooled


def _annotate(record: dict[str, Json], key: str, value: Json) -> None:
    """Set an annotation: in its place if it is there, else at the end."""
    for each in record["annotations"]:
        if each["key"] == key:
            each["value"] = value
            return
    record["annotations"].append({"key": key, "value": value})


def _error_in(answer: bytes) -> Json:
    """The field ``error`` of a container's answer, or all that it said."""
    try:
        found = strict_json.parse_finite(answer)
    except ValueError:
        found = None
    if isinstance(found, dict) and "error" in found:
        return found["error"]
    return f"The action did not produce a valid response: {answer[:1024].decode(errors='replace')}"
