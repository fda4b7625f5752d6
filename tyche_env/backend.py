"""The Backend protocol: what stands behind the environment, simulated or real.

A backend hosts one decision core (``tyche_env.control``) over one :class:`~tyche_env.state.ClusterState`, feeds it
events and carries out its commands.  ``tyche_env.conformance`` is the test suite that every backend passes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tyche_env.errors import UserError
from tyche_env.state import ClusterState
from tyche_env.world import Prewarm, World


class BackendError(UserError):
    """A backend that is not there, or cannot do what a scenario needs."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can do.

    Attributes:
        name: of the backend.
        create_containers: create a container ahead of a request.
        remove_containers: remove a container on command, not only by the platform's own keep-alive.
        gpus: GPUs to hold models on.
        real_time: time passes by the wall clock.
        preloads: hold functions on command.
    """

    name: str
    create_containers: bool
    remove_containers: bool
    gpus: bool
    real_time: bool
    preloads: bool = True

    def require(self, world: World) -> None:
        """Refuse a world that needs more.

        Raises:
            BackendError: names what is missing.
        """
        if world.settings.prewarm != Prewarm.KEEP_ALIVE and not (self.create_containers and self.remove_containers):
            raise BackendError(
                f"backend {self.name}: cannot create and remove containers, so only prewarm: openwhisk works there"
            )
        if world.settings.preloads and not self.preloads:
            raise BackendError(f"backend {self.name}: holds nothing ahead of requests, so only policy none works there")
        if world.gpu_count and not self.gpus:
            raise BackendError(f"backend {self.name}: has no GPUs; set gpus: 0 in the scenario's cluster")


@dataclass(frozen=True, slots=True)
class Events:
    """What happened during one advance.

    Attributes:
        now_us: the backend's clock.
        waited_s: (F,) seconds from arrival to the start of inference, summed over requests whose inference started.
        requests: requests that started (LOG_DTYPE), in that order.
    """

    now_us: int
    waited_s: NDArray[np.float64]
    requests: NDArray[Any]


class Backend(Protocol):
    """What the environment needs: reset, then set_priorities and advance_until_us once a step, then drain; close."""

    @property
    def capabilities(self) -> Capabilities:
        """What it can do; constant."""

    @property
    def state(self) -> ClusterState:
        """The tables, current after each call; read only.  Once a step."""

    @property
    def handles(self) -> NDArray[np.int64]:
        """What compiled code needs to read ``state`` (``control.handles``), current after each call."""

    def reset(self, world: World) -> None:
        """Begin a new run at time 0 of a world; nothing of an earlier run is left.

        Raises:
            BackendError: the world needs what the backend cannot do.
        """

    def set_priorities(self, decision: NDArray[np.int8], priority: NDArray[np.int64]) -> None:
        """Decisions (``world.Decision``) and priorities (2^-20), (F, 2): container memory and GPU.  Once a step."""

    def advance_until_us(self, t_us: int) -> Events:
        """Let time pass up to and including ``t_us``.  Once a step."""

    def drain(self) -> Events:
        """Let time pass until every request has finished; no request arrives any more.  Once a run."""

    def log(self) -> NDArray[Any]:
        """Requests that have started so far (LOG_DTYPE)."""

    def counters(self) -> dict[str, int]:
        """Running totals (``docs/engine.md``, 9)."""

    def integrals(self) -> dict[str, NDArray[np.int64]]:
        """Memory x time by kind since time 0, (N,) each, MB us."""

    def close(self) -> None:
        """Give everything back; may be called twice."""
