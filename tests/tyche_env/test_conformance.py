"""The simulated backend conforms, and every check catches a backend that is broken on purpose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.tyche_env.simulator.strategies import random_run
from tyche_env.backend import Capabilities, Events
from tyche_env.conformance import (
    CHECKS,
    CheckFunction,
    ConformanceError,
    answers_stay_as_they_are,
    capabilities_are_constant_and_refuse,
    close_is_idempotent,
    containers_are_consistent,
    counters_only_grow,
    drain_finishes_everything,
    every_request_is_served_once,
    example_world,
    handles_point_at_the_state,
    hold_loads_when_there_is_room,
    memory_stays_within_limits,
    offload_empties_idle_memory,
    one_request_at_a_time,
    requests_balance,
    reset_leaves_nothing,
    run_conformance,
    stages_follow_each_other,
    time_never_runs_back,
    waited_seconds_sum_to_the_log,
)
from tyche_env.simulator.backend import SimulatedBackend
from tyche_env.simulator.engine import CompiledEngine
from tyche_env.state import ClusterState
from tyche_env.world import Decision, World


@pytest.mark.parametrize("gpus", [False, True])
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_simulated_backend_conforms(check: CheckFunction, gpus: bool) -> None:
    check(SimulatedBackend, example_world(gpus))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_simulated_backend_conforms_under_contention(check: CheckFunction) -> None:
    world = replace(example_world(), node_cores=np.array([2, 1]), node_disk_streams=np.array([1, 1]))
    check(SimulatedBackend, world.with_settings(contention=True))


# Worlds of any shape; those two ask for idle memory, which not every small world has.
ANYWHERE = [c for c in CHECKS if c not in (hold_loads_when_there_is_room, offload_empties_idle_memory)]


@pytest.mark.parametrize("check", ANYWHERE, ids=lambda check: check.__name__)
def test_the_simulated_backend_conforms_in_random_worlds(check: CheckFunction) -> None:
    for seed in range(40):
        check(SimulatedBackend, random_run(seed).world)


def test_the_example_world_has_much_to_see() -> None:
    backend, world = SimulatedBackend(), example_world()
    backend.reset(world)
    most_queued = 0
    for step in range(60):
        decision = np.full((world.function_count, 2), Decision.HOLD, np.int8)
        backend.set_priorities(decision, np.full(decision.shape, 1 << 19))
        backend.advance_until_us((step + 1) * 1_000_000)
        most_queued = max(most_queued, int(backend.state.cluster["queued"][0]))
    assert most_queued > 0
    assert len(set(backend.log()["start_type"])) >= 4
    counters = backend.counters()
    assert min(counters[name] for name in ("loads", "transfers", "evictions", "created")) > 0


def test_a_report_names_what_fails_and_what_holds() -> None:
    outcomes = run_conformance(SimulatedBackend)
    assert [outcome.name for outcome in outcomes] == [check.__name__ for check in CHECKS]
    assert all(outcome.passed and not outcome.message for outcome in outcomes)
    broken = {outcome.name: outcome for outcome in run_conformance(GapInTheStages)}
    failed = broken["stages_follow_each_other"]
    assert not failed.passed
    assert failed.message.startswith("stages_follow_each_other: log row ")
    assert broken["counters_only_grow"].passed


def test_a_backend_that_crashes_fails_instead_of_stopping_the_report() -> None:
    outcomes = run_conformance(Crashes)
    assert len(outcomes) == len(CHECKS)
    assert "reset_leaves_nothing: RuntimeError: no cluster" in [outcome.message for outcome in outcomes]


# -- backends that are broken on purpose -------------------------------------------------------------------------------


class Broken(SimulatedBackend):
    """Honest, but for what a subclass changes in its log, its state or its events."""

    @property
    def state(self) -> ClusterState:
        copied: dict[str, Any] = {name: table.copy() for name, table in super().state._asdict().items()}
        return self.changed_state(ClusterState(**copied))

    def log(self) -> NDArray[Any]:
        return self.changed_log(super().log().copy())

    def advance_until_us(self, t_us: int) -> Events:
        return self.changed_events(super().advance_until_us(t_us))

    def drain(self) -> Events:
        return self.changed_events(super().drain())

    def changed_state(self, state: ClusterState) -> ClusterState:
        return state

    def changed_log(self, log: NDArray[Any]) -> NDArray[Any]:
        return log

    def changed_events(self, events: Events) -> Events:
        return events


class Crashes(Broken):
    def reset(self, world: World) -> None:
        raise RuntimeError("no cluster")


class KeepsTheOldLog(Broken):
    """A second run starts with the log of the first."""

    old: NDArray[Any] | None = None

    def reset(self, world: World) -> None:
        if self._engine is not None:
            self.old = super().log().copy()
        super().reset(world)

    def changed_log(self, log: NDArray[Any]) -> NDArray[Any]:
        return log if self.old is None else np.concatenate([self.old, log])


class KeepsOldCounters(Broken):
    """Counters go on from run to run."""

    offset = 0

    def reset(self, world: World) -> None:
        if self._engine is not None:
            self.offset += super().counters()["created"]
        super().reset(world)

    def counters(self) -> dict[str, int]:
        found = super().counters()
        return found | {"created": found["created"] + self.offset}


class DrawsAnew(Broken):
    """Every run has another seed, whatever the world says."""

    seed = 0

    def reset(self, world: World) -> None:
        self.seed += 1
        super().reset(world.with_settings(seed=self.seed))


class ClockRunsBack(Broken):
    def changed_state(self, state: ClusterState) -> ClusterState:
        state.cluster["now_us"] = 60_000_000 - state.cluster["now_us"]
        return state


class StopsShort(Broken):
    """Never reaches the time it is asked for."""

    def advance_until_us(self, t_us: int) -> Events:
        return super().advance_until_us(t_us - 1)


class RunsAhead(Broken):
    """Lets more time pass than it was asked for."""

    def advance_until_us(self, t_us: int) -> Events:
        return super().advance_until_us(t_us + 1_000_000)


class TellsTwice(Broken):
    def changed_log(self, log: NDArray[Any]) -> NDArray[Any]:
        return np.concatenate([log, log[:1]])


class Forgets(Broken):
    def changed_log(self, log: NDArray[Any]) -> NDArray[Any]:
        return log[1:]


class ForgetsToTell(Broken):
    def changed_events(self, events: Events) -> Events:
        return replace(events, requests=events.requests[:-1])


class ConfusesFunctions(Broken):
    def changed_log(self, log: NDArray[Any]) -> NDArray[Any]:
        log["function"] = 0
        return log


class ShiftsArrivals(Broken):
    def changed_log(self, log: NDArray[Any]) -> NDArray[Any]:
        log["arrival_us"] += 2_000_000
        return log


class GapInTheStages(Broken):
    def changed_log(self, log: NDArray[Any]) -> NDArray[Any]:
        log["end_us"] += 1
        return log


class NegativeStage(Broken):
    def changed_log(self, log: NDArray[Any]) -> NDArray[Any]:
        log["queue_us"] -= 1
        log["model_us"] += 1
        return log


class LosesARunningRequest(Broken):
    def changed_state(self, state: ClusterState) -> ClusterState:
        state.functions["running"] = np.maximum(0, state.functions["running"] - 1)
        return state


class LosesAQueue(Broken):
    def changed_state(self, state: ClusterState) -> ClusterState:
        state.nodes["queue_length"] = 0
        return state


class CountsArrivalsLate(Broken):
    """Requests are sent only when the interval is over."""

    def changed_state(self, state: ClusterState) -> ClusterState:
        late = state.functions["queued"].copy()
        state.functions["arrivals"] -= late
        state.functions["in_flight"] -= late
        state.functions["queued"] = 0
        state.nodes["queue_length"] = 0
        return state


class OverfillsContainers(Broken):
    def changed_state(self, state: ClusterState) -> ClusterState:
        state.containers["size_mb"] //= 4
        return state


class OverfillsNodes(Broken):
    def changed_state(self, state: ClusterState) -> ClusterState:
        live = state.containers["state"] > 0
        state.containers["size_mb"][live] += 1100
        state.containers["free_mb"][live] += 1100
        return state


class MiscountsIdleMemory(Broken):
    def changed_state(self, state: ClusterState) -> ClusterState:
        state.nodes["preload_mb"] += 1
        return state


class MiscountsGpuMemory(Broken):
    def changed_state(self, state: ClusterState) -> ClusterState:
        state.gpus["free_mb"] -= 1
        return state


class OneContainerForAll(Broken):
    def changed_log(self, log: NDArray[Any]) -> NDArray[Any]:
        log["container"] = 0
        return log


class RunsAnotherFunction(Broken):
    def changed_state(self, state: ClusterState) -> ClusterState:
        state.containers["owner"] = (state.containers["owner"] + 1) % len(state.functions)
        return state


class NeverOffloads(Broken):
    def set_priorities(self, decision: NDArray[np.int8], priority: NDArray[np.int64]) -> None:
        super().set_priorities(
            np.where(decision == Decision.OFFLOAD, Decision.LEAVE, decision).astype(np.int8), priority
        )


class OffloadsForEver(Broken):
    """An off-load takes a hundred times as long as the world says."""

    def reset(self, world: World) -> None:
        super().reset(world.with_settings(offload_us=600_000_000))


class NeverLoads(Broken):
    def set_priorities(self, decision: NDArray[np.int8], priority: NDArray[np.int64]) -> None:
        super().set_priorities(np.where(decision == Decision.HOLD, Decision.LEAVE, decision).astype(np.int8), priority)


class WaitsTwice(Broken):
    def changed_events(self, events: Events) -> Events:
        return replace(events, waited_s=2 * events.waited_s)


class ChargesAtTheEnd(Broken):
    """The seconds waited come out right, but all with the drain."""

    kept: Any = 0.0

    def advance_until_us(self, t_us: int) -> Events:
        events = super().advance_until_us(t_us)
        self.kept = self.kept + events.waited_s
        return replace(events, waited_s=np.zeros_like(events.waited_s))

    def drain(self) -> Events:
        events = super().drain()
        return replace(events, waited_s=events.waited_s + self.kept)


class CountersFall(Broken):
    def counters(self) -> dict[str, int]:
        return {name: -value for name, value in super().counters().items()}


class CountersHaveOtherNames(Broken):
    def counters(self) -> dict[str, int]:
        return {name.upper(): value for name, value in super().counters().items()}


class UsesMoreThanThereIs(Broken):
    def integrals(self) -> dict[str, NDArray[np.int64]]:
        return {name: 5 * values for name, values in super().integrals().items()}


class NeverDrains(Broken):
    def drain(self) -> Events:
        return super().advance_until_us(self.engine.now_us)


class ReusesItsAnswer(Broken):
    """Hands out the same array at every call."""

    def reset(self, world: World) -> None:
        super().reset(world)
        self.waited_s = np.zeros(world.function_count)

    def changed_events(self, events: Events) -> Events:
        self.waited_s[:] = events.waited_s
        return replace(events, waited_s=self.waited_s)


class ActsLater(Broken):
    """Keeps the caller's array of decisions, and reads it only when time passes."""

    waiting: Any = None

    def set_priorities(self, decision: NDArray[np.int8], priority: NDArray[np.int64]) -> None:
        self.waiting = decision, priority

    def advance_until_us(self, t_us: int) -> Events:
        if self.waiting is not None:
            super().set_priorities(*self.waiting)
        return super().advance_until_us(t_us)


class StaleHandles(Broken):
    @property
    def handles(self) -> NDArray[np.int64]:
        return super().handles + 64


class ClosesOnce(Broken):
    closed = False

    def close(self) -> None:
        if self.closed:
            raise RuntimeError("already closed")
        self.closed = True
        super().close()

    def reset(self, world: World) -> None:
        self.closed = False
        super().reset(world)


class NeverOpensAgain(Broken):
    closed = False

    def close(self) -> None:
        self.closed = self._engine is not None or self.closed
        super().close()

    def reset(self, world: World) -> None:
        if self.closed:
            raise RuntimeError("closed")
        super().reset(world)


class LearnsToCreate(Broken):
    @property
    def capabilities(self) -> Capabilities:
        return replace(super().capabilities, create_containers=self._engine is not None)


class PretendsToHaveNoGpus(Broken):
    @property
    def capabilities(self) -> Capabilities:
        return replace(super().capabilities, gpus=False)


class PretendsToHaveGpus(Broken):
    def reset(self, world: World) -> None:
        replace(super().capabilities, gpus=False).require(world)
        super().reset(world)


BREAKS: list[tuple[CheckFunction, Callable[[], Broken], str]] = [
    (reset_leaves_nothing, KeepsTheOldLog, "requests after reset"),
    (reset_leaves_nothing, KeepsOldCounters, "counters and integrals start at 0, found {'created'"),
    (reset_leaves_nothing, DrawsAnew, "the second run of one world has another log"),
    (time_never_runs_back, ClockRunsBack, "the state's clock goes from"),
    (time_never_runs_back, StopsShort, "the clock stops at"),
    (time_never_runs_back, RunsAhead, "the clock is at"),
    (every_request_is_served_once, TellsTwice, "has 2 records"),
    (every_request_is_served_once, Forgets, "log: 1 requests have no record"),
    (every_request_is_served_once, ForgetsToTell, "requests have no record"),
    (every_request_is_served_once, ConfusesFunctions, "the function is not the request's"),
    (every_request_is_served_once, ShiftsArrivals, "an arrival is 2000000 us off the world's"),
    (stages_follow_each_other, GapInTheStages, "1 us are in no stage"),
    (stages_follow_each_other, NegativeStage, "queue_us is -1"),
    (requests_balance, LosesARunningRequest, " finished + "),
    (requests_balance, LosesAQueue, "the nodes' queues differ"),
    (requests_balance, CountsArrivalsLate, "have arrived"),
    (memory_stays_within_limits, OverfillsContainers, "container 0 of 250 MB holds"),
    (memory_stays_within_limits, OverfillsNodes, "MB of containers"),
    (memory_stays_within_limits, MiscountsIdleMemory, "MB free, busy, idle, pre-loaded"),
    (memory_stays_within_limits, MiscountsGpuMemory, "GPU 0 tells"),
    (one_request_at_a_time, OneContainerForAll, "run together for"),
    (containers_are_consistent, RunsAnotherFunction, "container 0 runs"),
    (offload_empties_idle_memory, NeverOffloads, "are still held after OFFLOAD"),
    (offload_empties_idle_memory, OffloadsForEver, "still reserve memory"),
    (hold_loads_when_there_is_room, NeverLoads, "and nothing was loaded"),
    (waited_seconds_sum_to_the_log, WaitsTwice, "the log says"),
    (waited_seconds_sum_to_the_log, ChargesAtTheEnd, "the log says"),
    (counters_only_grow, CountersFall, "created falls from"),
    (counters_only_grow, CountersHaveOtherNames, "the counters are"),
    (counters_only_grow, UsesMoreThanThereIs, "more memory x time is used than there is"),
    (drain_finishes_everything, NeverDrains, "requests"),
    (answers_stay_as_they_are, ReusesItsAnswer, "what an earlier call returned has changed"),
    (answers_stay_as_they_are, ActsLater, "lost decisions"),
    (handles_point_at_the_state, StaleHandles, "they point elsewhere"),
    (close_is_idempotent, ClosesOnce, "RuntimeError: already closed"),
    (close_is_idempotent, NeverOpensAgain, "RuntimeError: closed"),
    (capabilities_are_constant_and_refuse, LearnsToCreate, "capabilities change with reset"),
    (capabilities_are_constant_and_refuse, PretendsToHaveNoGpus, "takes a world that needs GPUs"),
    (capabilities_are_constant_and_refuse, PretendsToHaveGpus, "refuses GPUs, which its capabilities promise"),
]


@pytest.mark.parametrize(("check", "broken", "message"), BREAKS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_broken_backend_is_caught(check: CheckFunction, broken: Callable[[], Broken], message: str) -> None:
    gpus = broken is not PretendsToHaveGpus
    with pytest.raises(ConformanceError) as error:
        check(broken, example_world(gpus))
    assert str(error.value).startswith(f"{check.__name__}: ")
    assert message in str(error.value)


def test_every_check_is_shown_to_catch_something() -> None:
    assert {check for check, _, _ in BREAKS} == set(CHECKS)


def test_an_honest_wrapper_breaks_nothing() -> None:
    names = [c for c in CHECKS if c is not handles_point_at_the_state]  # its state is a copy
    for check in names:
        check(Broken, example_world())


# -- real time ---------------------------------------------------------------------------------------------------------


class RealTime(Broken):
    """Sends and measures a few milliseconds late, as a real platform does."""

    LATE_US = 5_000

    @property
    def capabilities(self) -> Capabilities:
        return replace(super().capabilities, real_time=True)

    def advance_until_us(self, t_us: int) -> Events:
        return super().advance_until_us(t_us + self.LATE_US)

    def changed_log(self, log: NDArray[Any]) -> NDArray[Any]:
        log["arrival_us"] += self.LATE_US // 2
        log["inference_us"] -= self.LATE_US
        return log


def test_a_backend_in_real_time_needs_its_tolerance() -> None:
    world = example_world()
    checks = [c for c in CHECKS if c is not handles_point_at_the_state]
    for check in checks:
        check(RealTime, world, tolerance_s=0.02)
    for check in (every_request_is_served_once, stages_follow_each_other, waited_seconds_sum_to_the_log):
        with pytest.raises(ConformanceError):
            check(RealTime, world)


def test_a_world_that_shows_nothing_is_no_proof() -> None:
    crowded = replace(example_world(), node_memory_mb=np.array([1000, 1000])).with_settings(keep_alive_us=1)
    with pytest.raises(ConformanceError, match="the world needs"):
        hold_loads_when_there_is_room(SimulatedBackend, crowded)
    with pytest.raises(ConformanceError, match="the world needs idle containers"):
        offload_empties_idle_memory(SimulatedBackend, crowded)


def test_the_suite_leaves_no_run_open() -> None:
    opened: list[SimulatedBackend] = []

    def make() -> SimulatedBackend:
        opened.append(SimulatedBackend())
        return opened[-1]

    run_conformance(make)
    assert len(opened) > len(CHECKS)
    assert not any(isinstance(backend._engine, CompiledEngine) for backend in opened)
