"""The real backend: the environment's protocol on OpenWhisk containers that load real models, in real time.

Without OW_APIHOST it starts an embedded platform of its own, shaped like the world's nodes, and stops it at the end;
with it, it uses that OpenWhisk.  An own thread runs everything that happens; callers see copies of the tables.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar, cast, get_args

import httpx
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from real_backend.client import Backoff, Client, ClientError, Credentials, Needs
from real_backend.core import warm_up
from real_backend.embedded import EmbeddedPlatform, container_environment
from real_backend.functions.payloads import sample_payload
from real_backend.functions.protocol import FunctionError, load_functions
from real_backend.functions.weights import weights_folder
from real_backend.health import Health, machine
from real_backend.making import Making, functions_of, names_of
from real_backend.platform.config import Containers, Limits, NodeSpec, PlatformConfig
from real_backend.preflight import KEEP_WARM_S, rates, try_functions, try_nodes
from real_backend.replay import Patience, Payload, Replay
from real_backend.run import Run
from real_backend.slots import Deployment, memory_mib
from tyche_env import accounting
from tyche_env.backend import BackendError, Capabilities, Events
from tyche_env.control.handles import handles_of
from tyche_env.errors import UserError
from tyche_env.options import refuse_variable
from tyche_env.state import ClusterState
from tyche_env.world import World

T = TypeVar("T")

_PASSED: set[tuple[Any, ...]] = set()
"""Functions that this process has tried on a platform, and found well."""
_ROUNDING_MIB = 1
"""What a node needs more than its MB, for each container: their limits are whole MiB."""


def _making(value: Any) -> Any:
    return Making.parse(value, "deployment") if isinstance(value, str) else value


class RealSettings(BaseModel):
    """How the real backend runs; the entry point takes them from the environment.

    Attributes:
        credentials: an OpenWhisk to use; None: an embedded platform of its own.
        deployment: what an action is made of; also as text, ``embedded``, ``kind:NAME`` or ``image:NAME``.
        containers: what the containers of the own platform are.
        functions: module or file that declares the functions, by the names of the profiles.
        timeout_s: time limit of an invocation.
        start_timeout_s: how long a container of the own platform may take to listen.
        pause_after_s: idle time after which the own platform pauses a container; None: never.
        gpus: devices of the own platform's GPUs, one for each GPU of the world.
        backoff: how refused calls are repeated.
        patience: how long it waits for what, and what it keeps warm.
        preflight: whether each function is tried once, and rates and nodes are compared, before time begins.
        node_tags: of each node of a world, where OpenWhisk's new scheduler is asked to keep slots on their nodes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    credentials: Credentials | None = None
    deployment: Annotated[Making, BeforeValidator(_making)] = Making()
    containers: Containers = "process"
    functions: str = "real_backend.functions.catalogue"
    timeout_s: float = Field(120.0, gt=0, le=300)
    start_timeout_s: float = Field(60.0, gt=0)
    pause_after_s: float | None = None
    gpus: tuple[str, ...] = ()
    backoff: Backoff = Backoff()
    patience: Patience = Patience()
    preflight: bool = True
    node_tags: tuple[str, ...] = ()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> RealSettings:
        """From OW_APIHOST and what belongs to it, and the variables ``TYCHE_...`` of ``docs/real-backend.md``."""
        found = dict(os.environ if environment is None else environment)
        refuse_variable("TYCHE_ENGINE", "TYCHE_CONTAINERS", found, BackendError)
        containers = found.get("TYCHE_CONTAINERS", "process")
        if containers not in get_args(Containers):
            raise BackendError(f"TYCHE_CONTAINERS: there are process and docker, got {containers!r}")
        return cls(
            credentials=Credentials.find(found) if found.get("OW_APIHOST") else None,
            containers=cast(Containers, containers),
            deployment=Making.parse(found.get("TYCHE_DEPLOYMENT") or "embedded"),
            functions=found.get("TYCHE_FUNCTIONS", "real_backend.functions.catalogue"),
            gpus=_listed(found, "TYCHE_GPUS"),
            patience=Patience(keep_warm_s=KEEP_WARM_S if _switch(found, "TYCHE_KEEP_WARM", False) else None),
            preflight=_switch(found, "TYCHE_PREFLIGHT", True),
            node_tags=_listed(found, "TYCHE_NODE_TAGS"),
        )


def _listed(found: Mapping[str, str], variable: str) -> tuple[str, ...]:
    return tuple(name for name in found.get(variable, "").split(",") if name)


def _switch(found: Mapping[str, str], variable: str, otherwise: bool) -> bool:
    value = found.get(variable, "")
    if value not in ("", "0", "1"):
        raise BackendError(f"{variable}: 1 is on, 0 is off, got {value!r}")
    return otherwise if value == "" else value == "1"


class _Loop:
    """A thread with an asyncio loop; it dies with the process."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="openwhisk backend", daemon=True)
        self._thread.start()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine there and wait for it."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            # whoever waits may be interrupted; what it waited for must not be left behind
            future.cancel()
            raise

    def close(self) -> None:
        """End the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class _Site:
    """What a backend has started, and how to give it back; apart from it, so that it can be done at exit."""

    def __init__(self) -> None:
        self.loop: _Loop | None = None
        self.platform: EmbeddedPlatform | None = None
        self.client: Client | None = None
        self.deployment: Deployment | None = None
        self.run: Replay | None = None

    def close(self) -> None:
        """Stop the run, remove its containers and actions, stop the platform; each only if it is there.

        Raises:
            BackendError: something is left on a platform that is not ours.
        """
        left: list[str] = []
        if self.loop is not None:
            left = self.loop.call(self._leave())
            self.loop.close()
            self.loop = None
        if self.platform is not None:
            self.platform.stop()
            self.platform = None
        if left:
            raise BackendError(f"backend openwhisk: could not remove {', '.join(left)}")

    async def _leave(self) -> list[str]:
        run, deployment, client = self.run, self.deployment, self.client
        self.run = self.deployment = self.client = None
        left: list[str] = []
        if run is not None:
            await run.close()
        if deployment is not None and self.platform is None:
            # our own platform removes all when it stops
            with contextlib.suppress(ClientError):
                left = await deployment.close()
        if client is not None:
            await client.close()
        return left


class OpenWhiskBackend:
    """Real containers behind the environment.

    Args:
        settings: how it runs; None: from the environment.
        payload: what requests ask of their functions.
        transport: makes what the client uses in place of the network; for tests with faults.
    """

    def __init__(
        self,
        settings: RealSettings | None = None,
        payload: Payload = sample_payload,
        transport: Callable[[], httpx.AsyncBaseTransport] | None = None,
    ) -> None:
        self._settings = settings if settings is not None else RealSettings.from_environment()
        self._payload = payload
        self._transport = transport
        self._site = _Site()
        self._at_exit = weakref.finalize(self, self._site.close)
        self._embedded = True
        if self._settings.credentials is not None:
            self._embedded = self._ask_kind(self._settings.credentials)
        self._state: ClusterState | None = None
        self._handles: NDArray[np.int64] = np.zeros((0, 3), np.int64)

    @property
    def capabilities(self) -> Capabilities:
        """Only an embedded platform makes and removes containers on request."""
        return Capabilities(
            name="openwhisk",
            create_containers=self._embedded,
            remove_containers=self._embedded,
            gpus=bool(self._settings.gpus),
            real_time=True,
        )

    @property
    def state(self) -> ClusterState:
        """A copy of the tables, as of the last call."""
        if self._state is None:
            raise BackendError("backend openwhisk: call reset first")
        return self._state

    @property
    def handles(self) -> NDArray[np.int64]:
        """Addresses of the tables in ``state``."""
        return self._handles

    @property
    def health(self) -> Health:
        """What the run met beside its requests: faults, lateness, the time of decisions."""
        return self._call(self._health())

    def reset(self, world: World) -> None:
        """Give back the last run and prepare a new one; its time begins with the first decision or advance.

        Raises:
            BackendError: the world needs what the platform cannot do or has not.
        """
        self.capabilities.require(world)
        self._check(world)
        warm_up()
        self._site.close()
        site = self._site
        site.loop = _Loop()
        nodes = tuple(f"invoker{node}" for node in range(world.node_count))
        try:
            credentials = self._settings.credentials
            if credentials is None:
                site.platform = EmbeddedPlatform()
                credentials = site.platform.start(self._config(world, nodes))
            site.loop.call(self._prepare(world, credentials, nodes))
        except BaseException as error:
            site.close()
            if isinstance(error, ClientError | UserError) and not isinstance(error, BackendError):
                raise BackendError(f"backend openwhisk: {error}") from error
            raise
        self._call(self._look())

    def set_priorities(self, decision: NDArray[np.int8], priority: NDArray[np.int64]) -> None:
        """See :class:`~tyche_env.backend.Backend`."""
        decision, priority = decision.copy(), priority.copy()

        async def tell() -> None:
            self._run.set_priorities(decision, priority)
            await self._look()

        self._call(tell())

    def advance_until_us(self, t_us: int) -> Events:
        """Wait until the clock shows ``t_us``; the events are those of requests that ended meanwhile."""

        async def wait() -> Events:
            await self._run.wait_until(t_us)
            await self._look()
            return self._run.take_events()

        return self._call(wait())

    def drain(self) -> Events:
        """Wait until every request has ended."""

        async def wait() -> Events:
            await self._run.drain()
            await self._look()
            return self._run.take_events()

        return self._call(wait())

    def log(self) -> NDArray[Any]:
        """Requests that have started (LOG_DTYPE); the stages of those that still run are not known yet."""
        state = self.state
        return state.log[: int(state.cluster["log_count"][0])]

    def counters(self) -> dict[str, int]:
        """See :class:`~tyche_env.backend.Backend`."""
        return accounting.counters(self.state)

    def integrals(self) -> dict[str, NDArray[np.int64]]:
        """See :class:`~tyche_env.backend.Backend`."""
        return accounting.integrals(self.state)

    def close(self) -> None:
        """Remove every container and action, stop the own platform."""
        self._site.close()
        self._state = None

    # -- what native mode does otherwise -------------------------------------------------------------------------------

    _run_type: ClassVar[type[Replay]] = Run
    _native: ClassVar[bool] = False

    def _keep_alive_s(self, world: World) -> float | None:
        """Keep-alive of the own platform's containers; None: the core removes them."""
        return None

    # -- inside --------------------------------------------------------------------------------------------------------

    @property
    def _run(self) -> Replay:
        if self._site.run is None:
            raise BackendError("backend openwhisk: call reset first")
        return self._site.run

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        if self._site.loop is None:
            work.close()
            raise BackendError("backend openwhisk: call reset first")
        return self._site.loop.call(work)

    async def _look(self) -> None:
        self._state = self._run.snapshot()
        self._handles = handles_of(self._state)

    async def _health(self) -> Health:
        return self._run.health()

    def _ask_kind(self, credentials: Credentials) -> bool:
        async def ask() -> bool:
            async with self._client(credentials) as client:
                return await client.is_embedded()

        # in a thread of its own, since the caller may be inside a loop, as notebooks are
        loop = _Loop()
        try:
            return loop.call(ask())
        except ClientError as error:
            raise BackendError(f"backend openwhisk: {error}") from error
        finally:
            loop.close()

    def _client(self, credentials: Credentials) -> Client:
        transport = self._transport() if self._transport is not None else None
        return Client(credentials, transport=transport, backoff=self._settings.backoff)

    def _check(self, world: World) -> None:
        """Refuse functions that are not declared, or declare more memory than the world gives them."""
        if len(world.profiles) != world.function_count:
            raise BackendError("backend openwhisk: the world does not name its functions' profiles")
        if world.gpu_count > len(self._settings.gpus) > 0:
            raise BackendError(f"TYCHE_GPUS: names {len(self._settings.gpus)} devices, the world has {world.gpu_count}")
        try:
            declared = load_functions(self._settings.functions)
        except FunctionError as error:
            raise BackendError(f"backend openwhisk: TYCHE_FUNCTIONS: {error}") from error
        for f, profile in enumerate(world.profiles):
            if profile not in declared:
                raise BackendError(
                    f"backend openwhisk: {self._settings.functions} declares no function {profile!r}; "
                    f"it has {', '.join(declared)}"
                )
            needs, table = declared[profile].resources, world.functions
            if table.hold_mb[f] < needs.hold_mb or table.peak_mb[f] < needs.peak_mb:
                raise BackendError(
                    f"backend openwhisk: {profile} declares {needs.hold_mb} MB held and {needs.peak_mb} MB at the "
                    f"peak; its profile has only {table.hold_mb[f]} and {table.peak_mb[f]}"
                )

    def _config(self, world: World, nodes: tuple[str, ...]) -> PlatformConfig:
        """A platform with the world's nodes, on which nothing happens by itself."""
        table = world.functions
        reference, files = self._settings.functions, []
        if reference.endswith(".py"):
            files = [Path(reference).resolve()]
            reference = str(files[0])
        most = [int(memory) // int(table.container_mb.min()) for memory in world.node_memory_mb]
        sizes = [memory_mib(int(size)) for size in table.container_mb]
        gpus: dict[int, list[str]] = {node: [] for node in range(world.node_count)}
        for gpu, node in enumerate(world.gpu_node.tolist()):
            gpus[node].append(self._settings.gpus[gpu])
        weights = weights_folder().absolute()
        return PlatformConfig(
            nodes=tuple(
                NodeSpec(
                    name=name,
                    memory_mib=memory_mib(int(world.node_memory_mb[node])) + most[node] * _ROUNDING_MIB,
                    gpus=tuple(gpus[node]) or None,
                )
                for node, name in enumerate(nodes)
            ),
            containers=self._settings.containers,
            limits=Limits(
                memory_min_mib=min(128, *sizes),
                memory_std_mib=max(sizes),
                memory_max_mib=max(sizes),
                timeout_min_ms=1,
            ),
            pause_after_s=self._settings.pause_after_s,
            keep_alive_s=self._keep_alive_s(world),
            start_timeout_s=self._settings.start_timeout_s,
            worker_arguments=("--functions", reference),
            environment=container_environment(),
            mounts=(*files, *([weights] if weights.is_dir() else [])),
        )

    async def _prepare(self, world: World, credentials: Credentials, nodes: tuple[str, ...]) -> None:
        site, settings = self._site, self._settings
        site.client = client = self._client(credentials)
        await settings.deployment.require(client)
        sizes = {
            "memory_mib": memory_mib(int(world.functions.container_mb.max())),
            "timeout_ms": round(settings.timeout_s * 1000),
            "logs_mib": 0,
        }
        needs = Needs(**sizes)
        if settings.preflight:
            needs = rates(world, self._native, settings.patience.keep_warm_s is not None).model_copy(update=sizes)
        await client.check(needs)
        if self._embedded:
            there = {node.name: node.memory_mib for node in await client.nodes()}
            for name, memory_mb in zip(nodes, world.node_memory_mb.tolist(), strict=True):
                if there.get(name, 0) < memory_mb * 1e6 / 2**20 - 1:
                    raise BackendError(
                        f"backend openwhisk: the world has a node {name} of {memory_mb} MB, the platform has {there}"
                    )
        site.deployment = Deployment(
            client,
            self._embedded,
            settings.timeout_s,
            settings.deployment,
            settings.functions,
            functions_of(world),
            self._tags(world, nodes),
        )
        where = f"OpenWhisk at {credentials.host}"
        if self._embedded:
            where = f"{(await client.container_factory())['name']} containers, {machine()}"
        if settings.preflight:
            await self._preflight(world, site.deployment, nodes)
        site.run = self._run_type(
            world, client, site.deployment, names_of(world), nodes, self._payload, where, settings.patience
        )
        await site.run.prepare()

    def _tags(self, world: World, nodes: tuple[str, ...]) -> dict[str, str]:
        """What binds slots to their nodes on a platform that is not embedded, where there is more than one."""
        tags = self._settings.node_tags
        if tags and (self._embedded or len(tags) != world.node_count):
            what = "an embedded platform has none" if self._embedded else f"the world has {world.node_count} nodes"
            raise BackendError(f"TYCHE_NODE_TAGS: names {len(tags)} tags, and {what}")
        return dict(zip(nodes, tags or nodes, strict=True)) if not self._embedded and len(nodes) > 1 else {}

    async def _preflight(self, world: World, deployment: Deployment, nodes: tuple[str, ...]) -> None:
        """Try each function, and each node, before the first request is due.

        Raises:
            BackendError: what would fail, and why.
        """
        if not self._embedded and len(nodes) > 1 and not self._native:
            problem = await try_nodes(world, deployment, nodes)
            if problem:
                raise BackendError(f"backend openwhisk: {problem}")
        keys = [
            self._key(profile, int(size))
            for profile, size in zip(world.profiles, world.functions.container_mb, strict=True)
        ]
        passed = {f for f, key in enumerate(keys) if key in _PASSED}
        problems = await try_functions(world, deployment, names_of(world), nodes, self._payload, passed)
        if problems:
            raise BackendError(
                f"backend openwhisk: {len(problems)} of {world.function_count} functions cannot be used: "
                f"{'; '.join(problems)} (TYCHE_PREFLIGHT=0 or --no-preflight plays all the same)"
            )
        _PASSED.update(keys)

    def _key(self, profile: str, size_mb: int) -> tuple[Any, ...]:
        """What a function that was tried once need not be tried again for; a file may have changed since."""
        settings = self._settings
        where = None if settings.credentials is None else settings.credentials.base
        file = Path(settings.functions)
        changed_ns = file.stat().st_mtime_ns if settings.functions.endswith(".py") else 0
        return where, settings.containers, str(settings.deployment), settings.functions, changed_ns, profile, size_mb
