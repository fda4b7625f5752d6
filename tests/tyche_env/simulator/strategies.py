"""Small random worlds with every feature on, and what it takes to run and compare engines on them.

One recipe, :func:`make_run`, is read in two ways: by Hypothesis (:func:`worlds`), which shrinks what fails, and by a
plain generator (:func:`random_run`), whose choices are independent and thus reach the rare rules more often.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Protocol, TypeVar

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from tyche_env.tables import ONE_Q20
from tyche_env.world import (
    AfterRun,
    Decision,
    FunctionTable,
    Isolation,
    Kernel,
    Packing,
    Prewarm,
    Routing,
    Scope,
    Settings,
    World,
)

SECOND = 1_000_000
MINUTE = 60 * SECOND

# the reference engine knows no networks and no rules of a user's own; tests/tyche_env/test_network.py and test_rules.py
# compare those with what they repeat
_PRELOADING = tuple(k for k in Kernel if k not in (Kernel.NONE, Kernel.LRU, Kernel.NETWORK, Kernel.OWN, Kernel.AGENT))
_PREWARM = tuple(policy for policy in Prewarm if policy != Prewarm.OWN)
_ROUTING = tuple(routing for routing in Routing if routing != Routing.OWN)
KERNELS = (
    *(Kernel.NONE, Kernel.LRU, *_PRELOADING, *_PRELOADING),
    *(Kernel.TYCHE, Kernel.TYCHE, Kernel.RANDOM, Kernel.GREEDY_DUAL, Kernel.GREEDY_DUAL),
    *(Kernel.AGENT, Kernel.AGENT),
)
"""All kernels, those that load more often."""
LEVELS = (0, 1, ONE_Q20 // 50, ONE_Q20 // 2, ONE_Q20 // 2 + 1, ONE_Q20)
"""Priorities that tie, almost tie, or do not count."""

T = TypeVar("T")


class Engine(Protocol):
    """What both engines offer."""

    def advance_until(self, t_us: int) -> None: ...
    def set_priorities(self, decision: NDArray[np.int8], priority: NDArray[np.int64]) -> None: ...
    def ask_all(self) -> tuple[NDArray[np.int8], NDArray[np.int64]]: ...
    def drain(self) -> None: ...
    @property
    def log(self) -> NDArray[np.void]: ...
    def counters(self) -> dict[str, int]: ...
    def integrals(self) -> dict[str, NDArray[np.int64]]: ...


MakeEngine = Callable[[World], Engine]


@dataclass(frozen=True, slots=True)
class Step:
    """Interval mode: set priorities at a time, the kernel's own or (decision, priority) rows of shape (F, 2)."""

    time_us: int
    rows: tuple[NDArray[np.int8], NDArray[np.int64]] | None


@dataclass(frozen=True, slots=True)
class Run:
    """A world, when priorities are set in it, and when engines are compared besides."""

    world: World
    steps: tuple[Step, ...] = ()
    checkpoints_us: tuple[int, ...] = ()

    def __repr__(self) -> str:
        """Everything, as text that can be read and typed in again."""
        world = self.world
        rows = [
            {name: int(getattr(world.functions, name)[f]) for name in world.functions.__slots__}
            for f in range(world.function_count)
        ]
        lines = [f"  function {f}: {row}" for f, row in enumerate(rows)]
        lines.append(f"  nodes {world.node_memory_mb.tolist()}")
        lines.append(f"  gpus on {world.gpu_node.tolist()} of {world.gpu_memory_mb.tolist()}")
        lines.append(f"  cores {world.node_cores.tolist()}, disk streams {world.node_disk_streams.tolist()}")
        lines.append(f"  arrivals {list(zip(world.arrival_us.tolist(), world.arrival_function.tolist(), strict=True))}")
        lines.append(f"  durations {world.arrival_duration_us.tolist()}")
        lines.append(f"  scored from {world.score_from_us} to {world.end_us}")
        lines.append(f"  forecast {world.forecast.tolist()}")
        lines.append(f"  {world.settings}")
        for step in self.steps:
            rows_text = "ask_all" if step.rows is None else f"{step.rows[0].tolist()} {step.rows[1].tolist()}"
            lines.append(f"  at {step.time_us}: {rows_text}")
        return "\n".join(["Run(", *lines, f"  checkpoints {self.checkpoints_us})"])


def snapshots(engine: Engine, run: Run) -> Iterator[dict[str, Any]]:
    """Play a run on an engine; yield all that can be seen of it at each step, checkpoint and at the end."""
    by_time = {step.time_us: step for step in run.steps}
    for time in sorted({*by_time, *run.checkpoints_us, run.world.end_us}):
        engine.advance_until(time)
        step = by_time.get(time)
        if step is not None:
            rows = engine.ask_all() if step.rows is None else step.rows
            engine.set_priorities(*rows)
            yield {"time": time, "decision": rows[0], "priority": rows[1]}
        yield _seen(engine, time)
    engine.drain()
    yield _seen(engine, -1)


def _seen(engine: Engine, time: int) -> dict[str, Any]:
    return {"time": time, "log": engine.log, **engine.counters(), **engine.integrals()}


def difference(first: Engine, second: Engine, run: Run) -> str | None:
    """The first thing in which two engines differ on a run, in words; None if they agree throughout."""
    for a, b in zip(snapshots(first, run), snapshots(second, run), strict=True):
        if a.keys() != b.keys():
            return f"at {a['time']} us: {sorted(a)} against {sorted(b)}"
        for key, value in a.items():
            if key == "log":
                words = log_difference(value, b[key])
            else:
                words = None if np.array_equal(value, b[key]) else f"{value} against {b[key]}"
            if words is not None:
                return f"at {a['time']} us: {key}: {words}"
    return None


def log_difference(first: NDArray[np.void], second: NDArray[np.void]) -> str | None:
    """The first record in which two logs differ, in words."""
    for row, (a, b) in enumerate(zip(first, second, strict=False)):
        fields = [f"{name} {a[name]} against {b[name]}" for name in first.dtype.names or () if a[name] != b[name]]
        if fields:
            return f"record {row} (request {a['request']}): {', '.join(fields)}"
    return None if len(first) == len(second) else f"{len(first)} records against {len(second)}"


class Choose(Protocol):
    """Picks one of some options; the first ones are the simplest."""

    def __call__(self, options: Sequence[T], /) -> T: ...


@st.composite
def worlds(draw: st.DrawFn) -> Run:
    """Runs whose choices Hypothesis makes."""

    def choose(options: Sequence[T], /) -> T:
        return draw(st.sampled_from(options))

    return make_run(choose)


def random_run(seed: int, crowd: bool = False) -> Run:
    """A run whose choices are all independent and equally likely."""
    return make_run(Random(seed).choice, crowd)


def make_run(choose: Choose, crowd: bool = False) -> Run:
    """A run of a small world: 1-6 functions, 1-4 nodes, 0-3 GPUs, up to about a hundred requests.

    A crowd has up to 24 functions, 11 nodes, 7 copies and a thousand requests instead.
    Half of the worlds are about GPUs: every function wants one, transfers are long, and one process's memory is
    another's loss.  A third have little more memory than one container a node, so that requests queue and spread.
    Half run one of the further systems (section 10 of docs/engine.md).
    """
    settings = make_settings(choose, range(1, 8) if crowd else (1, 2, 3))
    functions = choose(range(8, 25) if crowd else (1, 2, 3, 4, 4, 5, 5, 6, 6))
    noise, gpu = choose((False, True)), choose((False, True))
    table = FunctionTable.from_rows([function_row(choose, noise, gpu) for _ in range(functions)])
    nodes = choose(range(1, 12) if crowd else (1, 2, 3, 4))
    largest = int(table.container_mb.max())
    spare = choose(((0, 1, 4), (0, 10, 20), (10, 20, 40)))
    memory = [largest + 100 * choose(spare) for _ in range(nodes)]
    gpus = choose((1, 2, 3) if gpu else (0, 1, 2))
    gpu_node = sorted(choose(range(nodes)) for _ in range(gpus))
    requests = arrivals(choose, functions, range(20, 70) if crowd else (1, 3, 4, 5, 6, 7, 8))
    end_us = requests[-1][0] + choose((1, 5 * SECOND, 20 * MINUTE))
    durations = [choose((0, 100_000, 2 * SECOND)) for _ in requests] if choose((False, False, True)) else []
    world = World(
        functions=table,
        node_memory_mb=np.array(memory, dtype=np.int64),
        gpu_node=np.array(gpu_node, dtype=np.int64),
        gpu_memory_mb=np.array([100 * choose((1, 2, 3, 3, 4)) for _ in range(gpus)], dtype=np.int64),
        arrival_us=np.array([time for time, _ in requests], dtype=np.int64),
        arrival_function=np.array([f for _, f in requests], dtype=np.int32),
        arrival_duration_us=np.array(durations, dtype=np.int64),
        score_from_us=requests[len(requests) // 3][0],
        end_us=end_us,
        settings=settings,
        forecast=forecast(choose, functions) if reads_forecast(settings) else np.zeros((0, 0), np.int32),
    ).validate()
    run = Run(
        world,
        () if settings.event_mode else steps(choose, functions, end_us, settings.kernel == Kernel.AGENT),
        tuple(sorted({a_time(choose, end_us) for _ in range(choose((0, 1, 3)))})),
    )
    return replace(run, world=with_contention(choose, world)) if choose((False, False, True)) else run


def with_contention(choose: Choose, world: World) -> World:
    """The world with few cores, disks and links for its stages to share."""
    count = world.function_count
    return replace(
        world,
        functions=replace(
            world.functions, read_ppm=np.array([choose((0, 300_000, 1_000_000)) for _ in range(count)], dtype=np.int64)
        ),
        node_cores=np.array([choose((1, 1, 2, 3)) for _ in range(world.node_count)], dtype=np.int64),
        node_disk_streams=np.array([choose((1, 2)) for _ in range(world.node_count)], dtype=np.int64),
    ).with_settings(contention=True)


def function_row(choose: Choose, noise: bool, gpu: bool) -> dict[str, int]:
    """A row of the function table: sizes of 100 MB, stages of 100 ms, so that ties are common."""
    hold = choose((1, 1, 2, 2, 3, 4))
    peak = hold + choose((0, 0, 1, 2))
    size = peak + choose((0, 1, 2, 4, 8))
    stage = (0, 2, 5, 10, 20, 100)
    return {
        "tenant": choose((0, 0, 1)),
        "container_mb": size * 100,
        "hold_mb": hold * 100,
        "peak_mb": peak * 100,
        "gpu_mb": choose((1, 2, 3) if gpu else (0, 1, 2)) * 100,
        "init_us": choose((0, 3, 5)) * 100_000,
        "library_us": choose(stage) * 100_000,
        "model_us": choose(stage) * 100_000,
        "transfer_us": choose((5, 30, 100, 600) if gpu else (0, 1, 5)) * 100_000,
        "inference_us": choose((0, 1, 3, 10, 20, 100)) * 100_000,
        "gpu_inference_us": choose((0, 1, 2)) * 100_000,
        "sigma_ppm": choose((0, 200_000, 800_000)) if noise else 0,
    }


def arrivals(choose: Choose, functions: int, trains: Sequence[int]) -> list[tuple[int, int]]:
    """(time, function) of a window: trains of periodic requests, bursts and single ones on a coarse grid."""
    grid = choose((SECOND // 10, SECOND, 3 * SECOND, 10 * SECOND, MINUTE, 2 * MINUTE))
    found = []
    for _ in range(choose(trains)):
        f = choose(range(functions))
        begin = choose((0, 1, 2, 5, 10, 15, 20, 30, 60, 200))
        period = choose((0, 0, 1, 2, 3, 5, 8))
        count = choose((1, 2, 3, 4) if period == 0 else (2, 4, 8, 13, 16))
        found += [((begin + i * period) * grid, f) for i in range(count)]
    return sorted(found)


def make_settings(choose: Choose, copies: Sequence[int]) -> Settings:
    """Settings of every kind."""
    kernel, further = choose(KERNELS), choose((False, True))
    prewarm = choose((Prewarm.KEEP_ALIVE, Prewarm.HISTOGRAM))
    if further:
        prewarm = choose((*_PREWARM, *(2 * [Prewarm.FAASCACHE, Prewarm.PAGURUS]), Prewarm.RAINBOWCAKE))
    keeps_us = (0, SECOND, 10 * SECOND, *(3 * [600 * SECOND]))
    if prewarm in (Prewarm.PAGURUS, Prewarm.ALWAYS_ON):
        keeps_us = (SECOND, 3 * SECOND, 10 * SECOND, 30 * SECOND, MINUTE)
    return Settings(
        seed=choose(range(1000)),
        kernel=kernel,
        event_mode=kernel != Kernel.AGENT and (choose((True, True, False)) or kernel == Kernel.NONE),
        window=choose((1, 2, 3, 10)),
        load_ppm=choose((0, 61_875, 500_000)),
        offload_ppm=choose((61_875, 700_000, 2_813_411)),
        prior_gap_us=choose((1, 10 * SECOND, 600 * SECOND)),
        prewarm=prewarm,
        keep_alive_us=choose(keeps_us),
        routing=choose(_ROUTING if further else (Routing.HASH, Routing.RING, Routing.RING)),
        scope=choose(tuple(Scope) if further else (Scope.CENTRAL,)),
        packing=choose((*Packing, Packing.FULL, Packing.WORST) if further else (Packing.FULL,)),
        isolation=choose((Isolation.NONE, Isolation.NONE, Isolation.TENANT, Isolation.STRICT)),
        after_run_platform=choose(tuple(AfterRun)),
        after_run_preloader=choose((AfterRun.KEEP, *AfterRun)),
        busy_counts=choose((False, True)),
        copies=choose(copies),
        displace_percent=choose((0, 10) if kernel == Kernel.GREEDY_DUAL else (-1, 0, 10, 10)),
        scheduling_us=choose((0, 3_000)),
        clear_us=choose((0, 2_000)),
        command_us=choose((0, 5_000)),
        offload_us=choose((0, 20_000, 2 * SECOND, 10 * SECOND)),
    )


def reads_forecast(settings: Settings) -> bool:
    """Whether a world with these settings needs a forecast."""
    return settings.kernel == Kernel.TABLE or settings.prewarm == Prewarm.ICEBREAKER


def forecast(choose: Choose, functions: int) -> NDArray[np.int32]:
    """A table by the minute, often shorter than the window."""
    minutes = choose((1, 2, 4, 8, 30))
    return np.array([[choose(LEVELS) for _ in range(minutes)] for _ in range(functions)], dtype=np.int32)


def steps(choose: Choose, functions: int, end_us: int, agent: bool) -> tuple[Step, ...]:
    """A schedule of interval mode: the kernel's decisions or random ones, at times that meet arrivals and events.

    Args:
        choose: picks.
        functions: number of functions.
        end_us: of the window.
        agent: whether an agent decides, so that there is no kernel to ask.
    """
    found = []
    for time in {a_time(choose, end_us) for _ in range(choose((1, 3, 6, 10)))}:
        rows = None
        if agent or choose((False, True)):
            decision = [choose((*Decision, Decision.HOLD)) for _ in range(2 * functions)]
            priority = [choose(LEVELS) for _ in range(2 * functions)]
            rows = (
                np.array(decision, dtype=np.int8).reshape(functions, 2),
                np.array(priority, dtype=np.int64).reshape(functions, 2),
            )
        found.append(Step(time, rows))
    return tuple(sorted(found, key=lambda step: step.time_us))


def a_time(choose: Choose, end_us: int) -> int:
    """One of 61 evenly spread times of a window, rounded to 100 ms so that it meets events."""
    return end_us * choose(range(61)) // 60 // 100_000 * 100_000
