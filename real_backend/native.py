"""Native mode: one action a function, OpenWhisk's own routing and keep-alive, nothing decided ahead: the baseline.

A request is a plain invocation of its function's action; which container serves it is the platform's choice.  There is
no decision core here: the tables hold the log of requests, and on an embedded platform how much memory its containers
take, which is asked for once a second.
"""

from __future__ import annotations

import asyncio

import numpy as np
from numpy.typing import NDArray

from real_backend.backend import OpenWhiskBackend
from real_backend.client import Activation, ClientError
from real_backend.health import Invocation
from real_backend.replay import START_TYPES, Replay
from real_backend.slots import STAGES, memory_mib, reply_of
from real_backend.worker.messages import Settings
from tyche_env.backend import BackendError, Capabilities
from tyche_env.world import Decision, StartType, World

_WATCH_S = 1.0
_STATES = ("idle", "busy")
"""States of a container in which its memory counts; the integrals of a node are named alike."""


class NativeRun(Replay):
    """One run of a world on a platform that decides by itself."""

    async def prepare(self) -> None:
        """Deploy an action for each function."""
        self._containers: dict[str, int] = {}
        self._actions = tuple(
            await asyncio.gather(
                *(
                    self._deployment.deploy(
                        str(f),
                        memory_mib(int(self.world.functions.container_mb[f])),
                        Settings(mode="native", function=name, after_run=self._after_run),
                    )
                    for f, name in enumerate(self._functions)
                )
            )
        )

    def set_priorities(self, decision: NDArray[np.int8], priority: NDArray[np.int64]) -> None:
        """Let time begin; there is nothing to decide.

        Raises:
            BackendError: something is to be held.
        """
        if (decision == Decision.HOLD).any():
            raise BackendError("backend openwhisk-native: holds nothing ahead of requests; use backend openwhisk")
        self.start()

    def _begin(self) -> None:
        if self._deployment.embedded:
            self._spawn(self._watch())

    def _arrive(self, request: int) -> None:
        self._cluster["next_arrival"] = request + 1
        self._spawn(self._serve(request))

    async def _serve(self, request: int) -> None:
        f = int(self._state.arrival_function[request])
        begin_us = self.now_us()
        answer = await self._deployment.invoke(self._actions[f], dict(self._payload(self.world.profiles[f], request)))
        reply = reply_of(answer) if isinstance(answer, Activation) else answer
        at = self._new_record(request)
        row = self._state.log[at]
        met = StartType.COLD if reply.fresh else START_TYPES.get(reply.start_type or "", StartType.WARM)
        row["container"] = self._number(reply.boot)
        row["node"] = self._nodes.index(reply.node) if reply.node in self._nodes else -1
        row["queue_us"] = begin_us - int(row["arrival_us"]) + reply.wait_us
        row["start_type"] = met
        row["kept"] = met <= StartType.MEMORY
        row["warming_us"] = reply.warming_us
        for stage in ("library", "model", "transfer", "inference"):
            row[f"{stage}_us"] = reply.stages_us.get(stage, 0)
        self._invocations.append(
            Invocation(
                kind="infer",
                function=f,
                container=int(row["container"]),
                order_us=begin_us,
                begin_us=begin_us + reply.wait_us,
                end_us=self.now_us(),
                warming_us=reply.warming_us,
                met=int(met),
                status=int(reply.status),
                **{f"{name}_us": reply.stages_us.get(name, 0) for name in STAGES},
            )
        )
        self._end_record(at, reply.status)
        self._cluster["finished"] += 1
        self._changed.set()

    def _number(self, boot: str | None) -> int:
        """Containers in the order in which they first answered; -1 where none did."""
        if boot is None:
            return -1
        return self._containers.setdefault(boot, len(self._containers))

    async def _watch(self) -> None:
        """Write down how much memory containers take, busy and idle, once a second."""
        while True:
            try:
                found = await self._client.containers()
            except ClientError:
                found = None
            if found is not None:
                now_us = self.now_us()
                for number, name in enumerate(self._nodes):
                    for state in _STATES:
                        mib = sum(each.memory_mib for each in found if each.node == name and each.state == state)
                        self._note_memory(number, state, round(mib * 2**20 / 1e6), now_us)
            await asyncio.sleep(_WATCH_S)

    def _note_memory(self, node: int, state: str, mb: int, now_us: int) -> None:
        row = self._state.nodes[node]
        row[f"{state}_weighted"] += (mb - int(row[f"{state}_mb"])) * now_us
        row[f"{state}_mb"] = mb


class NativeBackend(OpenWhiskBackend):
    """OpenWhisk as it is, behind the environment; see :class:`~real_backend.backend.OpenWhiskBackend`."""

    _run_type = NativeRun
    _native = True

    @property
    def capabilities(self) -> Capabilities:
        """It holds nothing ahead of requests, and the platform alone makes and removes containers."""
        return Capabilities(
            name="openwhisk-native",
            create_containers=False,
            remove_containers=False,
            gpus=False,
            real_time=True,
            preloads=False,
        )

    def _keep_alive_s(self, world: World) -> float | None:
        return world.settings.keep_alive_us / 1e6
