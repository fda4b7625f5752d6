"""A policy meets a world: on either engine, or on any backend."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from agents.playing.hindsight import best_of, choices
from agents.policies.loading import load
from agents.policies.policy import KernelPolicy, Policy, PolicyError, PredictorPolicy
from tyche_env.backend import Backend
from tyche_env.backends import make_backend
from tyche_env.exchange import Exchange, PreloadEnvError
from tyche_env.played import Decisions, Played, Watcher, drive, played_from_log
from tyche_env.simulate import EngineName, simulate
from tyche_env.simulator.engine import ask_everything
from tyche_env.simulator.streaming import Sink
from tyche_env.spaces import Layout
from tyche_env.world import World

Record = Literal["all", "sample", "none"]
"""Which requests are kept: every one, one in :data:`SAMPLE_ONE_IN`, or none."""

SAMPLE_ONE_IN = 16
"""A sample holds the same requests for every policy."""


def play(
    world: World,
    policy: object,
    *,
    engine: EngineName = "compiled",
    backend: Backend | None = None,
    record: Record | Sink = "all",
    watch: Watcher | None = None,
) -> Played:
    """Play a world under a policy, which decides when the world says; what can only predict, at intervals.

    A policy with hindsight is played under each of its choices, and the best is what it did.

    Args:
        world: what happens, under any policy (``Scenario.world``).
        policy: prepared for that world (``policy.prepare``), or whatever ``agents.load`` takes.
        engine: which of the two engines, where there is no backend.
        backend: where it is played instead; it stays open.
        record: which requests are kept in the log; a function is handed them instead, on the compiled engine piece by
            piece while the run goes on (``tyche_env.simulator.streaming``).
        watch: looks on.

    Raises:
        PolicyError: the policy has not been prepared, or cannot decide there.
        WorldError: no engine can run the world.
        BackendError: the world needs what the backend cannot do, or the run broke down.
        UserCodeError: code of the user's own fails.
    """
    player = load(policy)
    if not callable(record) and record not in get_args(Record):
        raise PolicyError(f"record: needs a function, or one of {', '.join(get_args(Record))}, got {record!r}")
    if backend is not None:
        if engine != "compiled":
            raise PolicyError(f"engine: {engine} is one of the simulator's, the policy is played on a backend")
        return _on_backend(player.equip(world).validate(), player, backend, record, watch)
    if isinstance(player, PredictorPolicy):
        if engine != "compiled":
            raise PolicyError(
                f"policy {player.name}: is shown observations, which the {engine} engine does not make; "
                "use the compiled one"
            )
        return _on_backend(player.equip(world).validate(), player, make_backend("simulated"), record, watch)
    if isinstance(player, KernelPolicy) and player.hindsight:
        return _with_hindsight(world, player, engine, record, watch)
    return _on_engine(player.equip(world), engine, record, watch)


@contextmanager
def opened(name: str) -> Iterator[Backend]:
    """A backend by its entry-point name, given back at the end of the block, whatever happens."""
    backend = make_backend(name)
    try:
        yield backend
    finally:
        backend.close()


def sampled(log: NDArray[Any]) -> NDArray[Any]:
    """The requests of a log that a sample holds: one in :data:`SAMPLE_ONE_IN`, by a hash of the request's number."""
    mixed = log["request"].astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    chosen: NDArray[Any] = log[(mixed >> np.uint64(40)) % np.uint64(SAMPLE_ONE_IN) == 0]
    return chosen


def _on_engine(world: World, engine: EngineName, record: Record | Sink, watch: Watcher | None) -> Played:
    if callable(record):
        return simulate(world, record=record, engine=engine, watch=watch)
    played = simulate(world, record="none" if record == "none" else "all", engine=engine, watch=watch)
    return played if played.log is None else _kept(played, record)


def _with_hindsight(
    world: World, policy: KernelPolicy, engine: EngineName, record: Record | Sink, watch: Watcher | None
) -> Played:
    worlds = [world.with_settings(**settings) for settings in choices(policy)]
    runs = [simulate(each, record="none", engine=engine) for each in worlds]
    best = runs[best_of(runs)]
    if record != "none" or watch is not None:
        # once more, to keep its requests and to be looked at
        best = _on_engine(best.world, engine, record, watch)
        runs.append(best)
    return replace(best, cpu_s=sum(run.cpu_s for run in runs), wall_s=sum(run.wall_s for run in runs))


def _on_backend(world: World, policy: Policy, backend: Backend, record: Record | Sink, watch: Watcher | None) -> Played:
    backend.capabilities.require(world)
    backend.reset(world)
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    host = _Host(backend)
    asked = _Asked(world, policy, backend) if isinstance(policy, PredictorPolicy) else None
    counters, integrals = drive(host, world, host.ask_all if asked is None else asked, watch)
    health = getattr(backend, "health", None)
    played = played_from_log(
        world,
        backend.log(),
        counters=counters,
        integrals_mb_us=integrals,
        cpu_s=time.process_time() - cpu_s,
        wall_s=time.perf_counter() - wall_s,
        decision_us_mean=None if asked is None else asked.mean_us,
        health=None if health is None else health.summary(),
        invocations=None if health is None else health.table(),
    )
    if watch is not None:
        watch.end(played.log)
    return _kept(played, record)


def _kept(played: Played, record: Record | Sink) -> Played:
    """A run whose every request was kept, with those that were wanted."""
    assert played.log is not None
    if record == "all":
        return played
    if callable(record):
        record(played.log)
    return replace(played, log=sampled(played.log) if record == "sample" else None)


class _Host:
    """A backend as the host of a run."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.set_priorities: Callable[[NDArray[np.int8], NDArray[np.int64]], None] = backend.set_priorities
        self.counters, self.integrals = backend.counters, backend.integrals

    @property
    def state(self) -> Any:
        """The backend's tables."""
        return self._backend.state

    @property
    def log(self) -> NDArray[Any]:
        """Requests that have started."""
        return self._backend.log()

    def advance_until(self, t_us: int) -> None:
        """Let time pass."""
        self._backend.advance_until_us(t_us)

    def drain(self) -> None:
        """Let time pass until every request has finished."""
        self._backend.drain()

    def ask_all(self) -> Decisions:
        """The answers of the kernel in the world's settings."""
        decision = np.zeros((len(self._backend.state.functions), 2), np.int8)
        priority = np.zeros_like(decision, np.int64)
        ask_everything(self._backend.handles, decision, priority)
        return decision, priority


class _Asked:
    """A policy that predicts, asked about what a backend shows."""

    def __init__(self, world: World, policy: PredictorPolicy, backend: Backend) -> None:
        self._policy, self._backend = policy, backend
        rows = world.function_count if policy.most_functions is None else policy.most_functions
        self._exchange = Exchange(world, Layout.of(rows, world.node_count, world.gpu_count))
        self._state: Any = None
        self._asked, self._spent_s = 0, 0.0

    def __call__(self) -> Decisions:
        """Its decisions about all functions now.

        Raises:
            PolicyError: the action has the wrong shape, or is not finite.
        """
        observation = self._exchange.observation(self._backend.handles)
        started_s = time.perf_counter()
        action, self._state = self._policy.predict(observation, self._state, self._asked == 0, True)
        self._spent_s += time.perf_counter() - started_s
        self._asked += 1
        try:
            return self._exchange.decisions(action)
        except PreloadEnvError as error:
            raise PolicyError(f"policy {self._policy.file or self._policy.name}: {error}") from None

    @property
    def mean_us(self) -> float:
        """Mean time of an answer."""
        return 1e6 * self._spent_s / max(1, self._asked)
