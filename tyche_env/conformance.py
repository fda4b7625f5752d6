"""The conformance suite: what every backend owes the environment, as checks that anybody can run on their own.

``run_conformance(MyBackend)`` runs all of them and says which failed.  In pytest::

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_my_backend(check):
        check(MyBackend, example_world())

Every check makes its own backend and plays a whole window on it, so a backend in real time needs a short window.  Such
a backend is given a tolerance: stages are measured there, and requests are sent a little late.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tyche_env.backend import Backend, BackendError, Events
from tyche_env.codes import ContainerState, ResidentState
from tyche_env.draws import Concern, draw_u64
from tyche_env.metrics import STAGES
from tyche_env.state import ClusterState
from tyche_env.tables import ONE_Q20
from tyche_env.world import AfterRun, Decision, FunctionTable, Isolation, Kernel, Prewarm, Settings, World

BackendFactory = Callable[[], Backend]
Decisions = tuple[NDArray[np.int8], NDArray[np.int64]]

_STEPS = 24
_STAGES_US = tuple(f"{stage}_us" for stage in STAGES)
_COUNTERS = (
    *("loads", "load_us", "wasted_loads", "wasted_load_us"),
    *("transfers", "evictions", "expiries", "created", "prewarms"),
)
_INTEGRALS = ("busy", "idle", "preload", "gpu")


class ConformanceError(AssertionError):
    """A backend breaks a rule; the message names the check and what was seen."""


@dataclass(frozen=True, slots=True)
class Check:
    """The outcome of one check.

    Attributes:
        name: of the check.
        passed: whether the backend obeys.
        message: what was seen, if it does not.
    """

    name: str
    passed: bool
    message: str = ""


CheckFunction = Callable[..., None]
"""``check(make, world, tolerance_s=0.0)``; raises :class:`ConformanceError`."""


def run_conformance(make: BackendFactory, world: World | None = None, tolerance_s: float = 0.0) -> list[Check]:
    """Run every check.

    Args:
        make: makes a backend.
        world: what to play; by default :func:`example_world`, with a GPU if the backend has any.
        tolerance_s: how late a measured time may be; for backends in real time.

    Returns:
        One outcome a check, in the order of :data:`CHECKS`.
    """
    if world is None:
        with _open(make) as backend:
            world = example_world(gpus=backend.capabilities.gpus)
    found = []
    for check in CHECKS:
        try:
            check(make, world, tolerance_s)
        except ConformanceError as error:
            found.append(Check(check.__name__, False, str(error)))
        except Exception as error:
            found.append(Check(check.__name__, False, f"{check.__name__}: {type(error).__name__}: {error}"))
        else:
            found.append(Check(check.__name__, True))
    return found


def example_world(gpus: bool = True) -> World:
    """A minute of five functions on two small nodes: they queue, share containers, meet loads, and fall silent.

    Args:
        gpus: give the first node a GPU.
    """
    row = {
        "tenant": 0,
        "container_mb": 1000,
        "hold_mb": 300,
        "peak_mb": 400,
        "gpu_mb": 500,
        "init_us": 300_000,
        "library_us": 400_000,
        "model_us": 600_000,
        "transfer_us": 200_000,
        "inference_us": 700_000,
        "gpu_inference_us": 100_000,
        "sigma_ppm": 0,
    }
    rows = [row | {"hold_mb": 300 + 25 * f, "sigma_ppm": 100_000 * (f % 2), "gpu_mb": 500 * (f % 3)} for f in range(5)]
    drawn = [(draw_u64(0, Concern.POLICY, f, i) % 45_000_000, f) for f in range(len(rows)) for i in range(4 + 4 * f)]
    # nearly quiet at the end, so that what is held can be put away, but with something left to drain
    arrivals = [*sorted(drawn), (59_900_000, 0)]
    return World(
        functions=FunctionTable.from_rows(rows),
        node_memory_mb=np.array([2000, 1000]),
        gpu_node=np.zeros(int(gpus), np.int64),
        gpu_memory_mb=np.full(int(gpus), 1200),
        arrival_us=np.array([time for time, _ in arrivals]),
        arrival_function=np.array([f for _, f in arrivals], np.int32),
        arrival_duration_us=np.zeros(0, np.int64),
        score_from_us=10_000_000,
        end_us=60_000_000,
        settings=Settings(
            kernel=Kernel.AGENT,
            event_mode=False,
            displace_percent=10,
            busy_counts=True,
            after_run_platform=AfterRun.KEEP,
            keep_alive_us=30_000_000,
            scheduling_us=1_000,
            command_us=1_000,
            offload_us=10_000,
        ),
        names=tuple(f"f{f}" for f in range(len(rows))),
    ).validate()


# -- playing a window --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Moment:
    """A backend after one call.

    Attributes:
        call: ``set_priorities``, ``advance`` or ``drain``.
        asked_us: the time asked for.
        events: what the call returned, if anything.
    """

    backend: Backend
    call: str
    asked_us: int
    events: Events | None

    @property
    def where(self) -> str:
        return f"after {self.call} at {self.asked_us / 1e6:.3f} s"


@contextmanager
def _open(make: BackendFactory) -> Iterator[Backend]:
    backend = make()
    try:
        yield backend
    finally:
        backend.close()


def _mixed(world: World, step: int) -> Decisions:
    """Hold everything first, then hold, leave and off-load by lot."""
    count = world.function_count
    draws = [draw_u64(1, Concern.POLICY, f, step) for f in range(2 * count)]
    kinds = [Decision.HOLD if step == 0 else (Decision.HOLD, Decision.LEAVE, Decision.OFFLOAD)[u % 3] for u in draws]
    decision = np.array(kinds, np.int8).reshape(count, 2)
    return decision, np.array([u >> 44 for u in draws], np.int64).reshape(count, 2)


def _all(world: World, what: Decision) -> Decisions:
    shape = (world.function_count, 2)
    return np.full(shape, what, np.int8), np.full(shape, ONE_Q20 if what == Decision.HOLD else 0, np.int64)


def _play(backend: Backend, world: World, decide: Callable[[World, int], Decisions] = _mixed) -> Iterator[_Moment]:
    """Reset, then decide and advance through the window, then drain; yields after each call."""
    backend.reset(world)
    for step in range(_STEPS):
        now_us = world.end_us * step // _STEPS
        backend.set_priorities(*decide(world, step))
        yield _Moment(backend, "set_priorities", now_us, None)
        to_us = world.end_us * (step + 1) // _STEPS
        yield _Moment(backend, "advance", to_us, backend.advance_until_us(to_us))
    yield _Moment(backend, "drain", world.end_us, backend.drain())


def _finish(backend: Backend, world: World) -> NDArray[Any]:
    """Play a whole window; returns its log."""
    for _ in _play(backend, world):
        pass
    return backend.log().copy()


def _check(function: Callable[[BackendFactory, World, float], None]) -> CheckFunction:
    """Give a check its default tolerance and put its name in front of what it finds."""

    @wraps(function)
    def check(make: BackendFactory, world: World, tolerance_s: float = 0.0) -> None:
        try:
            function(make, world, tolerance_s)
        except ConformanceError as error:
            raise ConformanceError(f"{function.__name__}: {error}") from None

    return check


def _demand(holds: bool | np.bool_, message: str) -> None:
    if not holds:
        raise ConformanceError(message)


def _containers(state: ClusterState) -> NDArray[np.int64]:
    """Slots of live containers."""
    fresh = int(state.cluster["container_fresh"][0])
    return np.flatnonzero(state.containers["state"][:fresh] != ContainerState.UNUSED)


def _residents(state: ClusterState, container: int) -> Iterator[Any]:
    """Residents of a container."""
    slot = int(state.containers["resident_head"][container])
    while slot >= 0:
        yield state.residents[slot]
        slot = int(state.residents["container_next"][slot])


def _inference_start_us(log: NDArray[Any]) -> NDArray[np.int64]:
    start: NDArray[np.int64] = log["end_us"] - log["inference_us"]
    return start


# -- the checks --------------------------------------------------------------------------------------------------------


@_check
def reset_leaves_nothing(make: BackendFactory, world: World, tolerance_s: float) -> None:
    """After a whole run, a reset gives an empty cluster at time 0; without real time, the same run once more."""
    with _open(make) as backend:
        first = _finish(backend, world)
        backend.reset(world)
        state = backend.state
        _demand(len(backend.log()) == 0, f"the log has {len(backend.log())} requests after reset")
        left = {name: value for name, value in backend.counters().items() if value}
        left |= {name: values.tolist() for name, values in backend.integrals().items() if values.any()}
        _demand(not left, f"counters and integrals start at 0, found {left}")
        _demand(len(_containers(state)) == 0, f"{len(_containers(state))} containers live after reset")
        _demand(int(state.functions["arrivals"].sum()) == 0, "functions remember requests after reset")
        if not backend.capabilities.real_time:
            _demand(np.array_equal(first, _finish(backend, world)), "the second run of one world has another log")


@_check
def time_never_runs_back(make: BackendFactory, world: World, tolerance_s: float) -> None:
    """The clock ascends, reaches what was asked for, and, without real time, no more than that."""
    with _open(make) as backend:
        last_us = 0
        for moment in _play(backend, world):
            now_us = int(backend.state.cluster["now_us"][0])
            _demand(now_us >= last_us, f"{moment.where}: the state's clock goes from {last_us} back to {now_us} us")
            last_us = now_us
            if moment.events is None:
                continue
            _demand(
                moment.events.now_us >= moment.asked_us, f"{moment.where}: the clock stops at {moment.events.now_us}"
            )
            exact = moment.call == "advance" and not backend.capabilities.real_time
            _demand(
                not exact or moment.events.now_us == moment.asked_us,
                f"{moment.where}: the clock is at {moment.events.now_us} us",
            )


@_check
def every_request_is_served_once(make: BackendFactory, world: World, tolerance_s: float) -> None:
    """Log and events hold one record a request, with its own arrival and function."""
    with _open(make) as backend:
        told = [moment.events.requests.copy() for moment in _play(backend, world) if moment.events is not None]
        log = backend.log()
    for source, records in (("log", log), ("events", np.concatenate(told))):
        request, times = np.unique(records["request"], return_counts=True)
        _demand(bool((times == 1).all()), f"{source}: request {request[np.argmax(times)]} has {times.max()} records")
        missing = np.setdiff1d(np.arange(len(world.arrival_us)), request)
        _demand(len(missing) == 0, f"{source}: {len(missing)} requests have no record, request {missing[:1]} for one")
        _demand(len(request) == len(world.arrival_us), f"{source}: request {request[-1]} is none of the world's")
    wrong = np.flatnonzero(log["function"] != world.arrival_function[log["request"]])
    _demand(len(wrong) == 0, f"log row {wrong[:1]}: the function is not the request's")
    late_us = np.abs(log["arrival_us"] - world.arrival_us[log["request"]])
    _demand(bool((late_us <= tolerance_s * 1e6).all()), f"an arrival is {late_us.max()} us off the world's")


@_check
def stages_follow_each_other(make: BackendFactory, world: World, tolerance_s: float) -> None:
    """No stage is negative, and they lead from arrival to end without a gap."""
    with _open(make) as backend:
        log = _finish(backend, world)
    for name in _STAGES_US:
        _demand(bool((log[name] >= 0).all()), f"log row {np.argmin(log[name])}: {name} is {log[name].min()}")
    gap_us = log["end_us"] - log["arrival_us"] - sum(log[name] for name in _STAGES_US)
    worst = int(np.argmax(np.abs(gap_us)))
    _demand(abs(gap_us[worst]) <= tolerance_s * 1e6, f"log row {worst}: {gap_us[worst]} us are in no stage")


@_check
def requests_balance(make: BackendFactory, world: World, tolerance_s: float) -> None:
    """Requests in = finished + queued + running after each call, and as many are in as have arrived."""
    with _open(make) as backend:
        for moment in _play(backend, world):
            state = backend.state
            f, s = state.functions, state.cluster[0]
            arrived, queued, running = (int(f[name].sum()) for name in ("arrivals", "queued", "running"))
            _demand(
                arrived == s["finished"] + queued + running,
                f"{moment.where}: {arrived} in, {s['finished']} finished + {queued} queued + {running} running",
            )
            _demand(
                int(f["in_flight"].sum()) == queued + running,
                f"{moment.where}: {f['in_flight'].sum()} in flight, {queued} queued + {running} running",
            )
            _demand(int(state.nodes["queue_length"].sum()) == queued, f"{moment.where}: the nodes' queues differ")
            started = len(backend.log())
            _demand(started == s["finished"] + running, f"{moment.where}: the log has {started} requests that started")
            if moment.events is None:
                continue
            off_us = round(tolerance_s * 1e6)
            least, most = np.searchsorted(world.arrival_us, [s["now_us"] - off_us, s["now_us"] + off_us], side="right")
            _demand(least <= arrived <= most, f"{moment.where}: {arrived} in, {least} to {most} have arrived")


@_check
def memory_stays_within_limits(make: BackendFactory, world: World, tolerance_s: float) -> None:
    """Residents fit their container, containers their node, models their GPU; the free memory told is what is left."""
    with _open(make) as backend:
        for moment in _play(backend, world):
            _check_memory(backend.state, world, moment.where)


def _check_memory(state: ClusterState, world: World, where: str) -> None:
    table = world.functions
    node_mb = np.zeros((4, world.node_count), np.int64)  # all, busy or creating, idle, reserved in idle
    gpu_mb = np.zeros(world.gpu_count, np.int64)
    for slot in _containers(state):
        c = state.containers[slot]
        reserved = 0
        for r in _residents(state, slot):
            f = r["function"]
            reserved += int(table.peak_mb[f] if r["state"] == ResidentState.LOADING else table.hold_mb[f])
            if r["gpu_state"] != ResidentState.ABSENT:
                _demand(c["gpu"] >= 0, f"{where}: container {slot} holds a model on a GPU but is bound to none")
                gpu_mb[c["gpu"]] += table.gpu_mb[f]
        _demand(reserved <= c["size_mb"], f"{where}: container {slot} of {c['size_mb']} MB holds {reserved} MB")
        _demand(
            c["free_mb"] == c["size_mb"] - reserved,
            f"{where}: container {slot} tells {c['free_mb']} MB free, {c['size_mb'] - reserved} are",
        )
        idle = c["state"] == ContainerState.IDLE
        kinds = (1, not idle, idle, 0)
        node_mb[:, c["node"]] += np.array(kinds) * c["size_mb"] + np.array((0, 0, 0, idle)) * reserved
    for node, row in enumerate(state.nodes):
        total, *parts = node_mb[:, node].tolist()
        _demand(total <= world.node_memory_mb[node], f"{where}: node {node} holds {total} MB of containers")
        told = [int(row[name]) for name in ("free_mb", "busy_mb", "idle_mb", "preload_mb")]
        are = [int(world.node_memory_mb[node]) - total, *parts]
        _demand(told == are, f"{where}: node {node} tells {told} MB free, busy, idle, pre-loaded; {are} are")
    for gpu, used in enumerate(gpu_mb.tolist()):
        limit = int(world.gpu_memory_mb[gpu])
        _demand(used <= limit, f"{where}: GPU {gpu} of {limit} MB holds {used} MB")
        told_mb = int(state.gpus["free_mb"][gpu])
        _demand(told_mb == limit - used, f"{where}: GPU {gpu} tells {told_mb} MB free, {limit - used} are")


@_check
def one_request_at_a_time(make: BackendFactory, world: World, tolerance_s: float) -> None:
    """In a container, one request ends before the next one is served."""
    with _open(make) as backend:
        log = _finish(backend, world)
    start_us = log["arrival_us"] + log["queue_us"]
    order = np.lexsort((log["end_us"], start_us, log["container"], log["node"]))
    log, start_us = log[order], start_us[order]
    same = (log["container"][1:] == log["container"][:-1]) & (log["node"][1:] == log["node"][:-1])
    overlap_us = np.where(same, log["end_us"][:-1] - start_us[1:], 0)
    if len(overlap_us):
        worst = int(np.argmax(overlap_us))
        _demand(
            overlap_us[worst] <= tolerance_s * 1e6,
            f"container {log['container'][worst]}: requests {log['request'][worst]} and {log['request'][worst + 1]} "
            f"run together for {overlap_us[worst]} us",
        )


@_check
def containers_are_consistent(make: BackendFactory, world: World, tolerance_s: float) -> None:
    """A busy container holds the function that it runs and nothing else; one that starts holds nothing."""
    with _open(make) as backend:
        for moment in _play(backend, world):
            state = backend.state
            for slot in _containers(state):
                c = state.containers[slot]
                held = [int(r["function"]) for r in _residents(state, slot)]
                if c["state"] == ContainerState.BUSY:
                    _demand(held == [c["owner"]], f"{moment.where}: container {slot} runs {c['owner']}, holds {held}")
                elif c["state"] == ContainerState.CREATING:
                    _demand(not held, f"{moment.where}: container {slot} still starts, but holds {held}")
                _demand(len(set(held)) == len(held), f"{moment.where}: container {slot} holds a function twice: {held}")


@_check
def offload_empties_idle_memory(make: BackendFactory, world: World, tolerance_s: float) -> None:
    """Off-loading everything leaves nothing held at once, and no memory reserved for a silent function soon after."""
    settings, table = world.settings, world.functions
    slowest_us = int((table.library_us + table.model_us + table.transfer_us).max())
    settle_us = settings.offload_us + settings.command_us + 4 * slowest_us + round(tolerance_s * 1e6)
    seen = False
    for quarter in (1, 2, 3):
        with _open(make) as backend:
            backend.reset(world)
            now_us = world.end_us * quarter // 4
            backend.set_priorities(*_all(world, Decision.HOLD))
            backend.advance_until_us(now_us // 2)
            backend.set_priorities(*_all(world, Decision.HOLD))
            backend.advance_until_us(now_us)
            seen = seen or bool(_reserved(backend.state, world))
            backend.set_priorities(*_all(world, Decision.OFFLOAD))
            held = _reserved(backend.state, world, ResidentState.HELD)
            _demand(not held, f"functions {sorted(held)} are still held after OFFLOAD at {now_us / 1e6:.3f} s")
            backend.advance_until_us(now_us + settle_us)
            log, end_us = backend.log(), now_us + settle_us
            in_time = (log["arrival_us"] <= end_us) & (log["end_us"] >= now_us)
            active = set(log["function"][in_time].tolist()) | set(
                np.flatnonzero(backend.state.functions["in_flight"] > 0).tolist()
            )
            left = set(_reserved(backend.state, world)) - active
            _demand(not left, f"functions {sorted(left)} still reserve memory {settle_us / 1e6:.3f} s after OFFLOAD")
    _demand(seen, "nothing was ever held, so that nothing could be off-loaded; the world needs idle containers")


def _reserved(state: ClusterState, world: World, only: int | None = None) -> dict[int, int]:
    """MB that each function reserves in idle containers, of residents in one state or in any."""
    found: dict[int, int] = {}
    for slot in _containers(state):
        if state.containers["state"][slot] == ContainerState.IDLE:
            for r in _residents(state, slot):
                if only is None or r["state"] == only:
                    f = int(r["function"])
                    found[f] = found.get(f, 0) + int(world.functions.hold_mb[f])
    return found


@_check
def hold_loads_when_there_is_room(make: BackendFactory, world: World, tolerance_s: float) -> None:
    """Where an idle container has room for a function that is nowhere, holding everything starts a load."""
    with _open(make) as backend:
        backend.reset(world)
        for step in range(1, _STEPS):
            now_us = world.end_us * step // _STEPS
            backend.advance_until_us(now_us)
            room = _room(backend.state, world)
            if room:
                loads = backend.counters()["loads"]
                backend.set_priorities(*_all(world, Decision.HOLD))
                _demand(backend.counters()["loads"] > loads, f"{room} at {now_us / 1e6:.3f} s, and nothing was loaded")
                return
    raise ConformanceError("no idle container ever had room for a function; the world needs more memory")


def _room(state: ClusterState, world: World) -> str:
    """An idle container with room for an absent function, in words; empty if there is none."""
    table = world.functions
    for slot in _containers(state):
        c = state.containers[slot]
        if c["state"] != ContainerState.IDLE or (world.settings.isolation == Isolation.STRICT and c["residents"] > 0):
            continue
        for f, row in enumerate(state.functions):
            fits = table.peak_mb[f] <= c["free_mb"] and table.library_us[f] + table.model_us[f] > 0
            allowed = world.settings.isolation != Isolation.TENANT or c["tenant"] == table.tenant[f]
            if fits and allowed and row["residents"] == 0 and row["home_node"] == c["node"]:
                return f"container {slot} has room for function {f}"
    return ""


@_check
def waited_seconds_sum_to_the_log(make: BackendFactory, world: World, tolerance_s: float) -> None:
    """Seconds waited, by function, are those from arrival to inference in the log, told when inference starts."""
    with _open(make) as backend:
        told = []
        for moment in _play(backend, world):
            if moment.events is not None:
                told.append((moment, moment.events.waited_s.copy()))
        log, exact = backend.log(), not backend.capabilities.real_time
    waited_s = (_inference_start_us(log) - log["arrival_us"]) / 1e6
    total = np.zeros(world.function_count)
    for moment, values in told:
        total += values
        if exact or moment.call == "drain":
            due = np.full(len(log), moment.call == "drain") | (_inference_start_us(log) <= moment.asked_us)
            expected = np.bincount(log["function"], waited_s * due, world.function_count)
            allowed = 1e-6 + tolerance_s * np.bincount(log["function"], due, world.function_count)
            f = int(np.argmax(np.abs(total - expected) - allowed))
            _demand(
                abs(total[f] - expected[f]) <= allowed[f],
                f"{moment.where}: function {f} waited {total[f]:.6f} s, the log says {expected[f]:.6f} s",
            )


@_check
def counters_only_grow(make: BackendFactory, world: World, tolerance_s: float) -> None:
    """Counters and memory x time have their names, never fall, and never exceed the nodes' memory x time."""
    with _open(make) as backend:
        before: dict[str, NDArray[np.int64]] = {}
        for moment in _play(backend, world):
            counters, integrals = backend.counters(), backend.integrals()
            _demand(set(counters) == set(_COUNTERS), f"the counters are {_COUNTERS}, got {tuple(counters)}")
            _demand(set(integrals) == set(_INTEGRALS), f"the integrals are {_INTEGRALS}, got {tuple(integrals)}")
            now: dict[str, NDArray[np.int64]] = {name: np.asarray(value) for name, value in counters.items()}
            for name, values in integrals.items():
                _demand(values.shape == (world.node_count,), f"integral {name}: needs one value a node")
                now[f"integral {name}"] = values.copy()
            for name, value in now.items():
                old = before.get(name, np.zeros_like(value))
                _demand(bool((value >= old).all()), f"{moment.where}: {name} falls from {old} to {value}")
            before = now
            capacity = world.node_memory_mb * int(backend.state.cluster["now_us"][0])
            used = integrals["busy"] + integrals["idle"]
            _demand(bool((used <= capacity).all()), f"{moment.where}: more memory x time is used than there is: {used}")
            _demand(
                bool((integrals["preload"] <= integrals["idle"]).all()), f"{moment.where}: more is pre-loaded than idle"
            )


@_check
def drain_finishes_everything(make: BackendFactory, world: World, tolerance_s: float) -> None:
    """After drain every request has ended, and nothing waits or runs."""
    with _open(make) as backend:
        log = _finish(backend, world)
        state = backend.state
        _demand(len(log) == len(world.arrival_us), f"{len(world.arrival_us) - len(log)} requests never started")
        for name in ("queued", "running", "in_flight"):
            _demand(not state.functions[name].any(), f"{state.functions[name].sum()} requests are {name}")
        late_us = int(log["end_us"].max(initial=0)) - int(state.cluster["now_us"][0])
        _demand(late_us <= tolerance_s * 1e6, f"a request ends {late_us} us after the clock")


@_check
def answers_stay_as_they_are(make: BackendFactory, world: World, tolerance_s: float) -> None:
    """What a call returned does not change with later calls, and decisions may be overwritten by the caller."""
    with _open(make) as backend:
        kept: list[tuple[Any, Any]] = []
        decision, priority = _all(world, Decision.HOLD)

        def one_pair_of_arrays(world: World, step: int) -> Decisions:
            decision[:], priority[:] = _mixed(world, step)
            return decision, priority

        for moment in _play(backend, world, one_pair_of_arrays):
            wanted = decision[:, 0].copy()
            decision[:], priority[:] = Decision.LEAVE, 0
            found = backend.state.functions["decision"]
            _demand(np.array_equal(found, wanted) or moment.call != "set_priorities", f"{moment.where}: lost decisions")
            if moment.events is not None:
                for values in (moment.events.waited_s, moment.events.requests):
                    kept.append((values, values.copy()))
            for values in backend.integrals().values():
                kept.append((values, values.copy()))
        for values, copy in kept:
            _demand(np.array_equal(values, copy), "what an earlier call returned has changed")


@_check
def handles_point_at_the_state(make: BackendFactory, world: World, tolerance_s: float) -> None:
    """``handles`` are those of the tables in ``state``, after each call: compiled code reads through them."""
    from tyche_env.control.handles import handles_of

    with _open(make) as backend:
        for moment in _play(backend, world):
            state = backend.state
            _demand(np.array_equal(backend.handles, handles_of(state)), f"{moment.where}: they point elsewhere")


@_check
def close_is_idempotent(make: BackendFactory, world: World, tolerance_s: float) -> None:
    """Closing works before a reset, in the middle of a run, and twice; a new run may follow."""
    backend = make()
    try:
        backend.close()
        backend.reset(world)
        backend.advance_until_us(world.end_us // 10)
        backend.close()
        backend.close()
        backend.reset(world)
        _demand(len(backend.log()) == 0, "the run after close begins with a log")
        backend.close()
    except Exception as error:
        with suppress(Exception):
            backend.close()
        if isinstance(error, ConformanceError):
            raise
        raise ConformanceError(f"{type(error).__name__}: {error}") from error


@_check
def capabilities_are_constant_and_refuse(make: BackendFactory, world: World, tolerance_s: float) -> None:
    """Capabilities never change, and reset refuses a world that needs more of them, and no other."""
    with _open(make) as backend:
        before = backend.capabilities
        backend.reset(world)
        _demand(backend.capabilities == before, f"capabilities change with reset: {before}, {backend.capabilities}")
        wants_gpu = replace(world, gpu_node=np.zeros(1, np.int64), gpu_memory_mb=np.array([1000]))
        for need, needing, able in (
            ("GPUs", wants_gpu, before.gpus),
            (
                "histogram pre-warming",
                world.with_settings(prewarm=Prewarm.HISTOGRAM),
                before.create_containers and before.remove_containers,
            ),
        ):
            try:
                backend.reset(needing)
            except BackendError as error:
                _demand(not able, f"refuses {need}, which its capabilities promise: {error}")
            else:
                _demand(able, f"takes a world that needs {need}, which its capabilities deny")
        backend.close()
        _demand(backend.capabilities == before, f"capabilities change with close: {before}, {backend.capabilities}")


CHECKS: tuple[CheckFunction, ...] = (
    reset_leaves_nothing,
    time_never_runs_back,
    every_request_is_served_once,
    stages_follow_each_other,
    requests_balance,
    memory_stays_within_limits,
    one_request_at_a_time,
    containers_are_consistent,
    offload_empties_idle_memory,
    hold_loads_when_there_is_room,
    waited_seconds_sum_to_the_log,
    counters_only_grow,
    drain_finishes_everything,
    answers_stay_as_they_are,
    handles_point_at_the_state,
    close_is_idempotent,
    capabilities_are_constant_and_refuse,
)
"""All checks, from the simplest to those that take several runs."""
