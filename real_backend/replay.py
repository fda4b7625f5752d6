"""What every run on real containers has: a clock, an open-loop injector, tasks, and a record of each request.

Each request is sent at its absolute time, whatever became of the ones before it.  Time is never compressed.  A latency
counts from the moment at which the request was due, so that lateness of the injector is part of what it measures; how
late it was is recorded besides.
"""

from __future__ import annotations

import asyncio
import os
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from real_backend.client import Client
from real_backend.health import Health, Invocation
from real_backend.slots import Deployment
from tyche_env.backend import BackendError, Events
from tyche_env.codes import Status
from tyche_env.state import ClusterState, new_state
from tyche_env.world import AfterRun, StartType, World

Payload = Callable[[str, int], Mapping[str, Any]]
"""What a request asks of its function: (name of the profile, row of the request) -> JSON object."""

START_TYPES = {
    "gpu": StartType.GPU,
    "memory": StartType.MEMORY,
    "loading": StartType.LOADING,
    "warm": StartType.WARM,
}
"""What the action server says that an inference met."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a run waits for what.

    Attributes:
        silence_s: how long a container that is there may take to answer beyond what its function should take.
        load_pause_s: how soon a load is tried again after one of the same function failed, at first.
        load_pause_longest_s: and at last, doubling.
        keep_warm_s: how often a slot that holds something is called so that it is not paused; None: never.
    """

    silence_s: float = 20.0
    load_pause_s: float = 1.0
    load_pause_longest_s: float = 60.0
    keep_warm_s: float | None = None


@dataclass(slots=True)
class Failing:
    """Loads of a function that failed.

    Attributes:
        total: how many.
        row: how many since the last one that went well.
        until_us: when the next may be tried.
        reason: why the last one failed.
    """

    total: int = 0
    row: int = 0
    until_us: int = 0
    reason: str = ""


_CONSTANT = (
    *("arrival_us", "arrival_function", "arrival_duration_us", "own_arrival_us", "own_first", "forecast", "tables"),
    *("node_order", "candidate_peak_mb", "candidate_function"),
)


class Replay(ABC):
    """One run of a world, from its first instant on; make it inside the loop.

    Who derives from it says what is deployed (``prepare``), what happens at time 0 (``_begin``), and what becomes of a
    request that is due (``_arrive``) and of decisions (``set_priorities``).

    Args:
        world: what happens.
        client: of the platform.
        deployment: makes its actions.
        functions: (F,) what the action server calls the functions.
        nodes: (N,) what the platform calls the nodes.
        payload: what requests ask.
        where: what runs it, for its records.
        patience: how long it waits for what, and what it keeps warm.
    """

    def __init__(
        self,
        world: World,
        client: Client,
        deployment: Deployment,
        functions: tuple[str, ...],
        nodes: tuple[str, ...],
        payload: Payload,
        where: str,
        patience: Patience | None = None,
    ) -> None:
        self.world = world
        self.late_us = np.zeros(len(world.arrival_us), np.int64)
        self._client = client
        self._deployment = deployment
        self._functions = functions
        self._nodes = nodes
        self._payload = payload
        self._after_run: Literal["keep", "discard"] = "keep" if world.settings.after_run == AfterRun.KEEP else "discard"
        self._where = where
        self._patience = patience or Patience()
        self._state = new_state(world, record=True, features=True)
        self._begun_ns: int | None = None
        self._waited_s = np.zeros(world.function_count)
        self._ended: list[int] = []
        self._error: BaseException | None = None
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._counts: Counter[str] = Counter()
        self._decision_us: list[float] = []
        self._invocations: list[Invocation] = []
        self._failing: dict[int, Failing] = {}
        self._keep_warm_ms = 0.0
        self._load_average = os.getloadavg()[0]

    # -- what the backend asks of it -----------------------------------------------------------------------------------

    @abstractmethod
    async def prepare(self) -> None:
        """Deploy what requests need, before time begins."""

    @abstractmethod
    def set_priorities(self, decision: NDArray[np.int8], priority: NDArray[np.int64]) -> None:
        """New decisions of the policy."""

    def now_us(self) -> int:
        """The run's clock: 0 until it begins."""
        return 0 if self._begun_ns is None else (time.monotonic_ns() - self._begun_ns) // 1000

    def start(self) -> None:
        """Let time run, if it does not yet."""
        if self._begun_ns is not None:
            return
        self._begun_ns = time.monotonic_ns()
        self._begin()
        self._spawn(self._inject())

    async def wait_until(self, t_us: int) -> None:
        """Let time pass until ``t_us``, and until every request due by then was sent.

        Raises:
            BackendError: something of the run broke down.
        """
        self.start()
        due = int(np.searchsorted(self._state.arrival_us, t_us, side="right"))
        while (wait_us := t_us + 1 - self.now_us()) > 0 or int(self._cluster["next_arrival"]) < due:
            await self._wait(max(1_000, wait_us) / 1e6)

    async def drain(self) -> None:
        """Wait until every request has ended.

        Raises:
            BackendError: something of the run broke down.
        """
        self.start()
        while int(self._cluster["finished"]) < len(self._state.arrival_us):
            await self._wait(1.0)

    def snapshot(self) -> ClusterState:
        """A copy of the tables, at the present time."""
        self._cluster["now_us"] = max(int(self._cluster["now_us"]), self.now_us())
        copies = {name: getattr(self._state, name).copy() for name in ClusterState._fields if name not in _CONSTANT}
        return self._state._replace(**copies)

    def take_events(self) -> Events:
        """What ended since the last time."""
        waited_s, self._waited_s = self._waited_s, np.zeros_like(self._waited_s)
        rows, self._ended = self._ended, []
        return Events(now_us=int(self._cluster["now_us"]), waited_s=waited_s, requests=self._state.log[rows].copy())

    def health(self) -> Health:
        """What it met so far."""
        told = self._deployment.counts
        return Health(
            statuses={status.name: self._counts[status.name] for status in Status if self._counts[status.name]},
            retries=dict(self._client.retries),
            lost_containers=self._counts["lost containers"],
            lost_residents=self._counts["lost residents"],
            failed_loads=self._counts["failed loads"],
            late_us=self.late_us[: int(self._cluster["next_arrival"])].copy(),
            decision_us=np.array(self._decision_us),
            invocations=tuple(self._invocations),
            load_average=(self._load_average, os.getloadavg()[0]),
            where=self._where,
            silent_containers=told["silent"],
            run_twice=told["again"] + told["surplus"],
            perhaps_run_twice=told["second"],
            postponed_loads=self._counts["postponed loads"],
            failing_loads={self._functions[f]: (each.total, each.reason) for f, each in self._failing.items()},
            keep_warm_calls=self._counts["keep-warm calls"],
            keep_warm_ms=self._keep_warm_ms,
        )

    async def close(self) -> None:
        """Stop everything that is under way; containers and actions are the deployment's matter."""
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)

    # -- for those who derive from it ----------------------------------------------------------------------------------

    @property
    def _cluster(self) -> Any:
        return self._state.cluster[0]

    @abstractmethod
    def _begin(self) -> None:
        """Time 0."""

    @abstractmethod
    def _arrive(self, request: int) -> None:
        """A request is due."""

    def _new_record(self, request: int) -> int:
        """A row of the log for a request; returns its number."""
        at = int(self._cluster["log_count"])
        self._cluster["log_count"] = at + 1
        row = self._state.log[at]
        row["request"], row["function"] = request, self._state.arrival_function[request]
        row["arrival_us"] = self._state.arrival_us[request]
        return at

    def _end_record(self, at: int, status: Status) -> None:
        """A request has ended whose stages are written down: what they leave of its time is ``scheduling_us``.

        That is calls, waiting for the container, clearing it: all that is no work for the function itself.
        """
        row = self._state.log[at]
        known = sum(int(row[f"{name}_us"]) for name in ("warming", "library", "model", "transfer", "inference"))
        waited_us = int(row["arrival_us"]) + int(row["queue_us"])
        row["status"] = status
        row["scheduling_us"] = max(0, self.now_us() - waited_us - known)
        row["end_us"] = waited_us + int(row["scheduling_us"]) + known
        self._counts[status.name] += 1
        self._waited_s[row["function"]] += (int(row["end_us"] - row["inference_us"] - row["arrival_us"])) / 1e6
        self._ended.append(at)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _fail(self, error: BaseException) -> None:
        self._error = self._error or error
        self._changed.set()

    # -- inside --------------------------------------------------------------------------------------------------------

    async def _inject(self) -> None:
        """Send every request when it is due, and note how much later that was."""
        for request, due_us in enumerate(self._state.arrival_us.tolist()):
            while (wait_us := due_us - self.now_us()) > 0:
                await asyncio.sleep(wait_us / 1e6)
            self.late_us[request] = self.now_us() - due_us
            self._arrive(request)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

    async def _wait(self, longest_s: float) -> None:
        """Wait for something to happen, or raise what broke the run."""
        self._changed.clear()
        if self._error is None:
            try:
                async with asyncio.timeout(longest_s):
                    await self._changed.wait()
            except TimeoutError:
                pass
        if isinstance(self._error, BackendError):
            raise self._error
        if self._error is not None:
            raise BackendError(f"backend openwhisk: the run broke down: {self._error!r}") from self._error
