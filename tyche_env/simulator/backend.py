"""The simulated backend: the compiled engine behind the Backend protocol."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tyche_env.backend import BackendError, Capabilities, Events
from tyche_env.control.compiled import outer
from tyche_env.control.handles import open_state
from tyche_env.simulator.engine import CompiledEngine
from tyche_env.simulator.loading import warm_up
from tyche_env.state import ClusterState
from tyche_env.world import World


@outer
def take_waited(handles: NDArray[np.int64], out: NDArray[np.float64]) -> None:
    """Move the seconds waited, which are rewards that fell due with their sign changed, into ``out``, (F,)."""
    st = open_state(handles)
    for function in range(st.cluster[0].functions):
        out[function] = -st.rewards[function]
        st.rewards[function] = 0.0


class SimulatedBackend:
    """Simulated time, every capability, no side effect outside the process."""

    def __init__(self) -> None:
        warm_up()
        self._engine: CompiledEngine | None = None
        self._seen = 0

    @property
    def capabilities(self) -> Capabilities:
        """All of them."""
        return Capabilities(
            name="simulated", create_containers=True, remove_containers=True, gpus=True, real_time=False
        )

    @property
    def engine(self) -> CompiledEngine:
        """The engine of the present run.

        Raises:
            BackendError: there has been no reset.
        """
        if self._engine is None:
            raise BackendError("backend simulated: call reset first")
        return self._engine

    @property
    def state(self) -> ClusterState:
        """The engine's tables."""
        return self.engine.state

    @property
    def handles(self) -> NDArray[np.int64]:
        """Addresses of the engine's tables."""
        return self.engine.handles

    def reset(self, world: World) -> None:
        """Begin at time 0 of a world."""
        self._engine = CompiledEngine(world, features=True)
        self._seen = 0

    def set_priorities(self, decision: NDArray[np.int8], priority: NDArray[np.int64]) -> None:
        """See :class:`~tyche_env.backend.Backend`."""
        self.engine.set_priorities(decision, priority)

    def advance_until_us(self, t_us: int) -> Events:
        """See :class:`~tyche_env.backend.Backend`."""
        self.engine.advance_until(t_us)
        return self._events()

    def drain(self) -> Events:
        """See :class:`~tyche_env.backend.Backend`."""
        self.engine.drain()
        return self._events()

    def log(self) -> NDArray[Any]:
        """See :class:`~tyche_env.backend.Backend`."""
        return self.engine.log

    def counters(self) -> dict[str, int]:
        """See :class:`~tyche_env.backend.Backend`."""
        return self.engine.counters()

    def integrals(self) -> dict[str, NDArray[np.int64]]:
        """See :class:`~tyche_env.backend.Backend`."""
        return self.engine.integrals()

    def close(self) -> None:
        """Forget the run."""
        self._engine = None

    def _events(self) -> Events:
        engine = self.engine
        cluster, log = engine.state.cluster[0], engine.state.log
        waited_s = np.empty(len(engine.state.functions))
        take_waited(engine.handles, waited_s)
        started = int(cluster["log_count"])
        requests, self._seen = log[self._seen : started], started
        if engine.world.settings.contention:
            requests = requests.copy()  # the engine completes its rows later
        return Events(now_us=int(cluster["now_us"]), waited_s=waited_s, requests=requests)
