"""Worlds small enough to be worked out by hand, one a rule, on both engines.

Times in these examples are seconds.  Unless an example says otherwise a function needs 1 s to create its container of
1000 MB, 2 s for its libraries, 3 s for its model, 4 s for an inference (a cold start then takes 10 s, a warm one 9 s)
and reserves 400 MB; a container is kept for 600 s; the process survives a run.
"""

from __future__ import annotations

from dataclasses import replace
from math import exp
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.tyche_env.simulator.strategies import Engine, MakeEngine
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
    StartType,
    World,
)

SECOND = 1_000_000
ONE = 1 << 20
LEAVE, HOLD, OFFLOAD = Decision
GPU, MEMORY, LOADING, WARM, COLD = StartType
Row = dict[str, Any]


def function(**changes: float) -> dict[str, int]:
    """A row of the function table; times in seconds, under names without unit."""
    row = {"container_mb": 1000, "hold_mb": 400, "init": 1, "library": 2, "model": 3, "inference": 4} | changes
    row.setdefault("peak_mb", row["hold_mb"])
    times = ("init", "library", "model", "transfer", "inference", "gpu_inference")
    plain = {name: int(row.get(name, 0)) for name in ("tenant", "container_mb", "hold_mb", "peak_mb", "gpu_mb")}
    return {**plain, **{f"{name}_us": round(row.get(name, 0) * SECOND) for name in times}, "sigma_ppm": 0}


def a_world(
    functions: list[dict[str, int]],
    arrivals: list[tuple[float, int]],
    nodes: tuple[int, ...] = (10_000,),
    gpu_mb: int = 0,
    end: float = 1000,
    forecast: tuple[int, ...] = (),
    **settings: Any,
) -> World:
    """A world; ``arrivals`` are (second, function), ``gpu_mb`` is the memory of one GPU on node 0.

    ``forecast`` is that of function 0, by the minute.
    """
    return World(
        functions=FunctionTable.from_rows(functions),
        node_memory_mb=np.array(nodes),
        gpu_node=np.zeros(int(gpu_mb > 0), dtype=np.int64),
        gpu_memory_mb=np.full(int(gpu_mb > 0), gpu_mb),
        arrival_us=np.array([round(time * SECOND) for time, _ in arrivals], dtype=np.int64),
        arrival_function=np.array([f for _, f in arrivals], dtype=np.int32),
        arrival_duration_us=np.zeros(0, dtype=np.int64),
        score_from_us=0,
        end_us=round(end * SECOND),
        forecast=np.array([forecast], dtype=np.int32),
        settings=Settings(**({"after_run_platform": AfterRun.KEEP, "keep_alive_us": 600 * SECOND} | settings)),
    )


def interval(**settings: Any) -> dict[str, Any]:
    """Settings under which decisions come from the test alone."""
    return {"kernel": Kernel.AGENT, "event_mode": False} | settings


def advance(engine: Engine, second: float) -> None:
    engine.advance_until(round(second * SECOND))


def decide(engine: Engine, memory: list[tuple[int, int]], gpu: list[tuple[int, int]] | None = None) -> None:
    """Set (decision, priority) of every function, for memory and for the GPU."""
    rows = list(zip(memory, gpu or [(LEAVE, 0)] * len(memory), strict=True))
    engine.set_priorities(
        np.array([[m[0], g[0]] for m, g in rows], dtype=np.int8),
        np.array([[m[1], g[1]] for m, g in rows], dtype=np.int64),
    )


def rows(engine: Engine, *names: str) -> list[tuple[Any, ...]]:
    """Columns of the log in the order of arrival, ``NAME_us`` under NAME and in seconds."""
    log: NDArray[np.void] = np.sort(engine.log, order="request")
    columns = [(log[f"{name}_us"] / SECOND if f"{name}_us" in (log.dtype.names or ()) else log[name]) for name in names]
    return list(zip(*(column.tolist() for column in columns), strict=True))


def mb_seconds(engine: Engine, kind: str) -> float:
    return float(engine.integrals()[kind].sum()) / SECOND


def asked(engine: Engine) -> tuple[Any, Any]:
    """What the kernel says of every function, for memory and for the GPU: decisions, and priorities."""
    decisions, priorities = engine.ask_all()
    return decisions.tolist(), priorities.tolist()


def counts(engine: Engine, *names: str) -> tuple[float, ...]:
    found = engine.counters()
    return tuple(found[name] / (SECOND if name.endswith("_us") else 1) for name in names)


def test_stages_of_cold_warm_and_kept_starts(make: MakeEngine) -> None:
    # 0: cold, ends at 0.5 + 1 + 2 + 3 + 4 = 10.5.  20: the process is there: 0.5 + 4.  625 > 24.5 + 600: cold again.
    world = a_world([function()], [(0, 0), (20, 0), (625, 0)], scheduling_us=SECOND // 2)
    engine = make(world)
    advance(engine, 1000)
    stages = ("start_type", "kept", "scheduling", "warming", "library", "model", "inference", "end")
    assert rows(engine, *stages) == [
        (COLD, 0, 0.5, 1, 2, 3, 4, 10.5),
        (MEMORY, 1, 0.5, 0, 0, 0, 4, 24.5),
        (COLD, 0, 0.5, 1, 2, 3, 4, 635.5),
    ]
    assert counts(engine, "created", "expiries", "evictions") == (2, 1, 0)


@pytest.mark.parametrize(
    ("fate", "start", "end"), [(AfterRun.KEEP, MEMORY, 24), (AfterRun.RELOAD, MEMORY, 24), (AfterRun.DISCARD, WARM, 29)]
)
def test_the_fate_of_a_process_after_its_run(make: MakeEngine, fate: AfterRun, start: StartType, end: float) -> None:
    # 0 to 10: cold.  RELOAD loads from 10 to 15, so the request at 20 finds it, but not left over by a run.
    engine = make(a_world([function()], [(0, 0), (20, 0)], **interval(after_run_preloader=fate)))
    advance(engine, 20)
    assert rows(engine, "start_type", "kept", "end")[1] == (start, int(fate == AfterRun.KEEP), end)
    assert counts(engine, "loads") == (fate == AfterRun.RELOAD,)


def test_tyches_timers(make: MakeEngine) -> None:
    # Window factors of 0.5 and 2 mean gaps; processes are discarded, so only loads bring them.
    # 0: one arrival: HOLD at once, for 2 x 600 s.  10: finish; the container is filled, 10 to 15.
    # 100: memory start, ends at 104.  Two arrivals: mean gap 100 / 2 = 50: closed until 125, nothing is loaded at 104.
    # 125: HOLD, load 125 to 130.  200: off-load, which takes half a second.
    world = a_world(
        [function()],
        [(0, 0), (100, 0)],
        kernel=Kernel.TYCHE,
        load_ppm=500_000,
        offload_ppm=2_000_000,
        after_run_preloader=AfterRun.DISCARD,
        offload_us=SECOND // 2,
    )
    engine = make(world)
    for second, held in ((10, 0), (100, 90), (124, 90), (200, 165), (300, 165.5)):
        advance(engine, second)
        assert mb_seconds(engine, "preload") == 400 * held
    assert rows(engine, "start_type", "kept", "end") == [(COLD, 0, 10), (MEMORY, 0, 104)]
    assert counts(engine, "loads", "load_us", "wasted_loads") == (2, 10, 1)


def test_who_is_cleared_out_by_a_start_is_placed_again(make: MakeEngine) -> None:
    # 0 to 10: two containers for A.  20: B is placed; both have 600 MB free, the later rank (1) wins; loaded at 25.
    # 30: A takes the container whose entry is newer (1 again), clears B out, which costs 0.5; B loads in 0, 30 to 35.
    # 33: B meets its load: it clears A out (0.5), libraries were there at 32, the model is at 35.
    # 34.5: A ends; a running copy does not count here, so B is loaded beside A once more, 34.5 to 39.5.
    arrivals: list[tuple[float, int]] = [(0, 0), (0, 0), (30, 0), (33, 1)]
    engine = make(a_world([function(), function()], arrivals, **interval(clear_us=SECOND // 2)))
    advance(engine, 20)
    decide(engine, [(LEAVE, 0), (HOLD, ONE)])
    advance(engine, 34)
    assert rows(engine, "container", "start_type", "scheduling", "library", "model", "end")[2:] == [
        (1, MEMORY, 0.5, 0, 0, 34.5),
        (0, LOADING, 0.5, 0, 1.5, 39),
    ]
    assert counts(engine, "loads", "load_us", "wasted_loads") == (2, 5 + 3, 1)
    advance(engine, 50)
    assert counts(engine, "loads", "load_us", "wasted_loads") == (3, 5 + 3 + 5, 1)


def test_loads_count_with_the_part_that_lies_in_an_interval(make: MakeEngine) -> None:
    # 0 to 10: the only container, of A.  20: B is to be held: loaded 20 to 25.  30: A clears it out, before it served.
    # 34: A ends, the container is filled: B loads from 34, until A clears it out at 37.  41: B loads again, until at 44
    # its own request takes the load over; what is left of it, until 46, is the request's.
    # Scoring begins at 22: of the first load 3 s were wasted then, of the second 3, and the third served.
    arrivals: list[tuple[float, int]] = [(0, 0), (30, 0), (37, 0), (44, 1)]
    world = a_world([function(), function()], arrivals, nodes=(1000,), **interval())
    engine = make(replace(world, score_from_us=22 * SECOND))
    found = []
    advance(engine, 20)
    decide(engine, [(LEAVE, 0), (HOLD, ONE)])
    for second in (20, 22, 24.5, 25, 29, 30, 34, 36, 37, 41, 43, 44, 45, 60):
        advance(engine, second)
        found.append((second, *counts(engine, "load_us", "wasted_load_us", "wasted_loads")))
    assert found == [
        *[(20, 0, 0, 0), (22, 2, 0, 0), (24.5, 4.5, 0, 0), (25, 5, 0, 0), (29, 5, 0, 0)],
        *[(30, 5, 3, 1), (34, 5, 3, 1), (36, 7, 3, 1), (37, 8, 6, 2), (41, 8, 6, 2), (43, 10, 6, 2)],
        *[(44, 11, 6, 2), (45, 11, 6, 2), (60, 11, 6, 2)],
    ]
    assert rows(engine, "start_type", "model", "end")[-1] == (LOADING, 2, 50)
    engine.drain()
    assert counts(engine, "loads", "load_us") == (3, 11)


def test_a_wasted_load_of_the_warm_up_wastes_nothing_of_the_scored_window(make: MakeEngine) -> None:
    # As before: B is loaded from 20 to 25, and cleared out at 30.
    world = a_world([function(), function()], [(0, 0), (30, 0)], nodes=(1000,), **interval())
    for begins, wasted in ((0, 5), (20, 5), (24, 1), (25, 0), (28, 0), (31, 0)):
        engine = make(replace(world, score_from_us=begins * SECOND))
        advance(engine, 20)
        decide(engine, [(LEAVE, 0), (HOLD, ONE)])
        advance(engine, 32)
        assert counts(engine, "wasted_loads", "wasted_load_us") == (1, wasted)


def test_two_loads_at_once_count_twice(make: MakeEngine) -> None:
    # Two containers of A; at 20 B goes into one, at 22 C into the other: 2 s of one, 3 s of both, 2 s of one.
    world = a_world([function(), function(), function()], [(0, 0), (0, 0)], **interval(isolation=Isolation.STRICT))
    engine = make(world.with_settings(after_run_preloader=AfterRun.DISCARD))
    advance(engine, 20)
    decide(engine, [(LEAVE, 0), (HOLD, ONE), (LEAVE, 0)])
    advance(engine, 22)
    decide(engine, [(LEAVE, 0), (LEAVE, 0), (HOLD, ONE)])
    for second, load_s in ((22, 2), (24, 6), (25, 8), (26, 9), (27, 10), (30, 10)):
        advance(engine, second)
        assert counts(engine, "load_us") == (load_s,)


def test_histogram_pre_warms_before_the_usual_idle_time_ends(make: MakeEngine) -> None:
    # Requests every 600 s.  The first ends at 10, the others, warm, after 9 s: idle times 590 and 591, ten of them in
    # bin 9 when request 10 ends at 6009.  From then on: unload; 5th percentile: pre-warm after 9 x 60 x 0.9 = 486 s,
    # 99th: keep until (9 + 1) x 60 x 1.1 = 660 s, that is for 174 s.
    # 6495: pre-warm, created at 6496, used at 6600, unloaded at 6609.  7095: pre-warm, 7096 to 7270 unused.
    world = a_world(
        [function()],
        [(600 * i, 0) for i in range(12)],
        end=8000,
        prewarm=Prewarm.HISTOGRAM,
        after_run_platform=AfterRun.DISCARD,
    )
    engine = make(world)
    advance(engine, 8000)
    assert rows(engine, "start_type", "end") == [(COLD, 10), *((WARM, 600 * i + 9) for i in range(1, 12))]
    assert counts(engine, "prewarms", "created", "expiries") == (2, 3, 3)
    assert mb_seconds(engine, "idle") == 1000 * (590 + 9 * 591 + (6600 - 6496) + 174)
    assert mb_seconds(engine, "busy") == 1000 * (10 + 11 * 9 + 2 * 1)


def test_displacement_needs_a_clearly_greater_density(make: MakeEngine) -> None:
    # 0 to 10: the only container, of A, empty afterwards.  20: B loads, 20 to 25.  30: C, 5 % denser, stays out.
    # 40: C, 20 % denser, displaces B and loads, 40 to 45.  43: C is requested: model until 45, ends at 49.
    # 60: B finds no container of its own and no room: C's is evicted; cold.
    functions = [function(), function(hold_mb=600), function(hold_mb=600)]
    settings = interval(displace_percent=10, after_run_preloader=AfterRun.DISCARD)
    engine = make(a_world(functions, [(0, 0), (43, 2), (60, 1)], nodes=(1000,), **settings))
    advance(engine, 20)
    decide(engine, [(LEAVE, 0), (HOLD, 500_000), (LEAVE, 0)])
    advance(engine, 30)
    decide(engine, [(LEAVE, 0), (LEAVE, 0), (HOLD, 525_000)])
    assert counts(engine, "loads", "wasted_loads") == (1, 0)
    advance(engine, 40)
    decide(engine, [(LEAVE, 0), (LEAVE, 0), (HOLD, 600_000)])
    assert counts(engine, "loads", "wasted_loads") == (2, 1)
    advance(engine, 60)
    assert rows(engine, "start_type", "model", "end")[1:] == [(LOADING, 2, 49), (COLD, 3, 70)]
    assert counts(engine, "evictions") == (1,)


def test_models_lose_and_regain_the_gpu(make: MakeEngine) -> None:
    # One GPU of 500 MB; A's model takes 400, B's 300; a transfer takes 1 s, an inference there 0.5 s.
    #  0: A, cold, on the GPU: 1 + 2 + 3 + 1 + 0.5.       10: B, cold: A's idle model is demoted.
    # 12: A, in memory; B runs on the GPU, so A runs on the CPU.
    # 20: A is wanted on the GPU; B's priority there is 0: B is demoted, A is transferred, 20 to 21.
    # 20.4: A takes the transfer over: 0.6 + 0.5.        30: B's run demotes A again: 1 + 0.5.
    # 40: B is off-loaded; A is promoted, 40 to 41.      50: A, on the GPU: 0.5.
    sizes = {"transfer": 1, "gpu_inference": 0.5}
    arrivals: list[tuple[float, int]] = [(0, 0), (10, 1), (12, 0), (20.4, 0), (30, 1), (50, 0)]
    functions = [function(gpu_mb=400, **sizes), function(gpu_mb=300, **sizes)]
    engine = make(a_world(functions, arrivals, gpu_mb=500, **interval(displace_percent=10)))
    advance(engine, 20)
    decide(engine, [(LEAVE, 0), (LEAVE, 0)], [(HOLD, ONE), (LEAVE, 0)])
    advance(engine, 40)
    decide(engine, [(LEAVE, 0), (OFFLOAD, 0)])
    advance(engine, 60)
    assert rows(engine, "start_type", "on_gpu", "transfer", "inference", "end") == [
        (COLD, 1, 1, 0.5, 7.5),
        (COLD, 1, 1, 0.5, 17.5),
        (MEMORY, 0, 0, 4, 16),
        (MEMORY, 1, 0.6, 0.5, 21.5),
        (MEMORY, 1, 1, 0.5, 31.5),
        (GPU, 1, 0, 0.5, 50.5),
    ]
    assert counts(engine, "transfers", "loads") == (2, 0)
    assert mb_seconds(engine, "gpu") == 400 * 10 + 300 * 10 + 400 * 10 + 300 * 10 + 400 * 20


@pytest.mark.parametrize(("routing", "last"), [(Routing.HASH, "home"), (Routing.RING, "other")])
def test_the_ring_prefers_the_emptier_node_that_holds_the_function(
    make: MakeEngine, routing: Routing, last: str
) -> None:
    # Two nodes with room for two containers.  0 to 46: three cold starts, two at home, the third on the other node.
    # 50: group: 4 x 40 s x 1000 MB / 50 s = 3200 MB, both nodes; both hold it and are idle: home.
    # 51: 5 x 40 x 1000 / 51 = 3921 < 4000: both nodes; home has 1000 MB left, the other 2000.
    arrivals: list[tuple[float, int]] = [(0, 0), (0, 0), (0, 0), (50, 0), (51, 0)]
    world = a_world([function(inference=40)], arrivals, nodes=(2000, 2000), routing=routing)
    engine = make(world)
    advance(engine, 60)
    home = int(world.node_order()[world.home_position()[0]])
    expected = {"home": home, "other": 1 - home}
    assert rows(engine, "node") == [(expected[name],) for name in ("home", "home", "other", "home", last)]


def test_hash_routing_walks_from_home_by_a_coprime_step(make: MakeEngine) -> None:
    # Five nodes for one container each, six requests at once: the walk visits each node, the sixth request waits.
    world = a_world([function()], [(0, 0)] * 6, nodes=(1000,) * 5)
    engine = make(world)
    advance(engine, 100)
    home, step = int(world.home_position()[0]), int(world.walk_step()[0])
    nodes = [node for (node,) in rows(engine, "node")]
    assert nodes[:5] == [(home + i * step) % 5 for i in range(5)]
    assert rows(engine, "queue", "start_type", "end")[5] == (10, MEMORY, 14)


def test_requests_wait_in_line_for_memory(make: MakeEngine) -> None:
    # Room for one container.  A: 0 to 10.  A again: waits from 1 to 10, warm, ends at 19.
    # B, third in line: waits from 2 to 19, A's container is evicted, cold, ends at 29.
    # A, fourth, would have fitted at 19 had B not been before it: cold, 29 to 39.
    arrivals: list[tuple[float, int]] = [(0, 0), (1, 0), (2, 1), (3, 0)]
    world = a_world([function(), function()], arrivals, nodes=(1500,), after_run_platform=AfterRun.DISCARD)
    engine = make(world)
    engine.drain()
    assert rows(engine, "queue", "start_type", "end") == [
        (0, COLD, 10),
        (9, WARM, 19),
        (17, COLD, 29),
        (26, COLD, 39),
    ]
    assert counts(engine, "evictions", "created") == (2, 3)


@pytest.mark.parametrize(
    ("isolation", "start_of_b", "start_of_c"),
    [(Isolation.NONE, MEMORY, MEMORY), (Isolation.TENANT, MEMORY, COLD), (Isolation.STRICT, COLD, MEMORY)],
)
@pytest.mark.parametrize("requested", [1, 2])
def test_isolation_decides_who_may_share_a_container(
    make: MakeEngine, isolation: Isolation, start_of_b: StartType, start_of_c: StartType, requested: int
) -> None:
    # 0 to 10: a container of A, empty afterwards, with room for B and C; C has the greater density.
    # 20: both are wanted.  TENANT: C belongs to another tenant.  STRICT: C came first, B may not join.  40: a request.
    functions = [function(), function(), function(tenant=1)]
    settings = interval(isolation=isolation, after_run_preloader=AfterRun.DISCARD)
    engine = make(a_world(functions, [(0, 0), (40, requested)], **settings))
    advance(engine, 20)
    decide(engine, [(LEAVE, 0), (HOLD, ONE // 2), (HOLD, ONE)])
    advance(engine, 40)
    assert rows(engine, "start_type")[1] == (start_of_b if requested == 1 else start_of_c,)


@pytest.mark.parametrize(
    ("copies", "spread", "starts"),
    [(1, True, [MEMORY, WARM, WARM]), (2, True, [MEMORY, MEMORY, WARM]), (2, False, [MEMORY, WARM, WARM])],
)
def test_a_second_copy_is_loaded_where_one_may_be_busy(
    make: MakeEngine, copies: int, spread: bool, starts: list[StartType]
) -> None:
    # 0 to 10: three containers, empty afterwards.  With a fourth request at 20: load 4 x 4 s / 20 s = 0.8 busy copies,
    # so that a second copy has worth; three requests at one instant have no rate: the second has none.
    # 40: wanted.  50: three requests at once.
    arrivals: list[tuple[float, int]] = [(0, 0)] * 3 + [(20.0, 0)] * spread + [(50.0, 0)] * 3
    settings = interval(copies=copies, after_run_preloader=AfterRun.DISCARD)
    engine = make(a_world([function()], arrivals, **settings))
    advance(engine, 40)
    decide(engine, [(HOLD, ONE)])
    advance(engine, 50)
    assert [start for (start,) in rows(engine, "start_type")][-3:] == starts


@pytest.mark.parametrize(("busy_counts", "loads"), [(True, 0), (False, 1)])
def test_a_running_copy_may_count_as_held(make: MakeEngine, busy_counts: bool, loads: int) -> None:
    # 0 to 10: a container of B.  20 to 30: A runs.  25: A is wanted once; it could load beside B.
    engine = make(a_world([function(), function()], [(0, 1), (20, 0)], **interval(busy_counts=busy_counts)))
    advance(engine, 25)
    decide(engine, [(HOLD, ONE), (LEAVE, 0)])
    assert counts(engine, "loads") == (loads,)


def test_a_load_needs_its_peak_and_then_makes_room(make: MakeEngine) -> None:
    # 0 to 10: a container of A with 1000 MB, empty afterwards.  20: B and C are wanted; each needs 600 MB to load and
    # 400 MB to stay.  B, denser, loads 20 to 25; then 600 MB are free, and C loads 25 to 30.  40: C is in memory.
    functions = [function(), function(peak_mb=600), function(peak_mb=600)]
    settings = interval(after_run_preloader=AfterRun.DISCARD)
    engine = make(a_world(functions, [(0, 0), (40, 2)], **settings))
    advance(engine, 20)
    decide(engine, [(LEAVE, 0), (HOLD, ONE), (HOLD, ONE // 2)])
    advance(engine, 40)
    assert mb_seconds(engine, "preload") == 600 * 5 + (400 + 600) * 5 + 800 * 10
    assert rows(engine, "start_type")[1] == (MEMORY,)


def worth(quarters_of_256th: int) -> int:
    """1 - exp(-i / 256) in 2^-20."""
    return round((1 - exp(-quarters_of_256th / 256)) * ONE)


@pytest.mark.parametrize(
    ("kernel", "second", "decision", "priority"),
    [
        # Requests at 0, 60, 120, and 300.  At 130: age 10.
        (Kernel.LRU, 130, LEAVE, 0),
        # Mean gap 120 / 3 = 40: open from 120 + 2.475 to 120 + 112.5; 60 / 40 = 384 / 256.
        (Kernel.TYCHE, 122, LEAVE, worth(384)),
        (Kernel.TYCHE, 130, HOLD, worth(384)),
        (Kernel.TYCHE, 232, HOLD, worth(384)),
        (Kernel.TYCHE, 233, OFFLOAD, 0),
        # The same gap; the window never closes.
        (Kernel.NO_TIMERS, 121, HOLD, worth(384)),
        (Kernel.NO_TIMERS, 290, HOLD, worth(384)),
        # One request: as Tyche, with 600 s for the gap; 60 / 600 = 25.6 / 256.
        (Kernel.EWMA, 10, HOLD, worth(25)),
        # Gaps of 60 and 60: open from 120 + 3.7 to 120 + 168.8; 60 / 60 = 256 / 256.
        (Kernel.EWMA, 123, LEAVE, worth(256)),
        (Kernel.EWMA, 288, HOLD, worth(256)),
        (Kernel.EWMA, 289, OFFLOAD, 0),
        # Then one of 180: 60 + (180 - 60) / 4 = 90: open from 300 + 5.6; 60 / 90 = 170.7 / 256.
        (Kernel.EWMA, 305, LEAVE, worth(170)),
        (Kernel.EWMA, 306, HOLD, worth(170)),
        # 130 / 3 = 43.3; 60 / 43.3 = 354.4 / 256.  Two gaps are too few for a histogram.
        (Kernel.CENSORED, 130, HOLD, worth(354)),
        (Kernel.HISTOGRAM, 130, HOLD, worth(354)),
        (Kernel.EMPIRICAL, 130, HOLD, worth(354)),
        # The forecast for the minutes 0, 1 and 2; minute 2 goes on for ever.
        (Kernel.TABLE, 59, LEAVE, 0),
        (Kernel.TABLE, 60, HOLD, ONE // 2),
        (Kernel.TABLE, 120, HOLD, ONE // 4),
        (Kernel.TABLE, 400, HOLD, ONE // 4),
        # The next comes in 170 s; 60 / 170 = 90.4 / 256.  After the last one nothing is expected.
        (Kernel.ORACLE, 130, HOLD, worth(90)),
        (Kernel.ORACLE, 300, OFFLOAD, 0),
        # One request in minute 5: expected in its middle, at 330; 60 / 200 = 76.8 / 256.
        (Kernel.MINUTE_ORACLE, 130, HOLD, worth(76)),
        # At 59, one is expected in minute 1, at 60 + 30; 60 / 31 = 495.5 / 256.
        (Kernel.MINUTE_ORACLE, 59, HOLD, worth(495)),
    ],
)
def test_what_each_kernel_says(make: MakeEngine, kernel: Kernel, second: int, decision: int, priority: int) -> None:
    arrivals: list[tuple[float, int]] = [(0, 0), (60, 0), (120, 0), (300, 0)]
    forecast = (0, ONE // 2, ONE // 4)
    engine = make(a_world([function()], arrivals, forecast=forecast, kernel=kernel, event_mode=False))
    advance(engine, second)
    assert asked(engine) == ([[decision] * 2], [[priority] * 2])


@pytest.mark.parametrize(
    ("second", "decision", "priority"),
    # Gaps of 60, 60, 60, 200 s: three in bin 1, one in bin 3; the last request at 380.
    [
        (390, HOLD, 3 * ONE // 4),  # age 10: all four survive, three fall into bins 0 and 1
        (470, HOLD, 3 * ONE // 4),  # age 90: all of bin 1 still counts, bin 2 is empty
        (500, HOLD, ONE),  # age 120: only the long gap survives, and it falls into bins 2 and 3
        (620, OFFLOAD, 0),  # age 240: nothing survives
    ],
)
def test_what_the_histogram_kernel_says(make: MakeEngine, second: int, decision: int, priority: int) -> None:
    arrivals: list[tuple[float, int]] = [(0, 0), (60, 0), (120, 0), (180, 0), (380, 0)]
    engine = make(a_world([function()], arrivals, kernel=Kernel.HISTOGRAM, event_mode=False))
    advance(engine, second)
    assert asked(engine) == ([[decision] * 2], [[priority] * 2])


@pytest.mark.parametrize(
    ("second", "priority"),
    # Gaps of 60, 60, 60, 200 s; the last request at 380.
    [
        (390, 3 * ONE // 4),  # age 10: all four are longer, three of them end by 70
        (440, 0),  # age 60: only the long one is longer, and it does not end by 120
        (520, ONE),  # age 140: it ends by 200
        (580, worth(76)),  # age 200: longer than any gap; 60 / 200 = 76.8 / 256
    ],
)
def test_what_the_empirical_kernel_says(make: MakeEngine, second: int, priority: int) -> None:
    arrivals: list[tuple[float, int]] = [(0, 0), (60, 0), (120, 0), (180, 0), (380, 0)]
    engine = make(a_world([function()], arrivals, kernel=Kernel.EMPIRICAL, event_mode=False))
    advance(engine, second)
    assert asked(engine) == ([[HOLD] * 2], [[priority] * 2])


@pytest.mark.parametrize(
    ("kernel", "second", "decision", "priority"),
    [
        # Requests at 0, 60, 120; each of two workers takes itself to get every other one: gap 40 x 2 = 80, open from
        # 120 + 4.95 to 120 + 225.07; 60 / 80 = 192 / 256.
        (Kernel.TYCHE, 124, LEAVE, worth(192)),
        (Kernel.TYCHE, 346, OFFLOAD, 0),
        (Kernel.TYCHE, 345, HOLD, worth(192)),
        (Kernel.NO_TIMERS, 346, HOLD, worth(192)),
        # 60 x 2 = 120: open from 120 + 7.4 to 120 + 337.6; 60 / 120 = 128 / 256.
        (Kernel.EWMA, 127, LEAVE, worth(128)),
        (Kernel.EWMA, 457, HOLD, worth(128)),
        (Kernel.EWMA, 458, OFFLOAD, 0),
        # 130 / 3 = 43.3, whoever decides.
        (Kernel.CENSORED, 130, HOLD, worth(354)),
    ],
)
def test_what_kernels_say_on_a_worker(
    make: MakeEngine, kernel: Kernel, second: int, decision: int, priority: int
) -> None:
    arrivals: list[tuple[float, int]] = [(0, 0), (60, 0), (120, 0)]
    settings: dict[str, Any] = {"kernel": kernel, "event_mode": False, "scope": Scope.WORKER}
    engine = make(a_world([function()], arrivals, nodes=(2000, 2000), **settings))
    advance(engine, second)
    assert asked(engine) == ([[decision] * 2], [[priority] * 2])


def test_a_forecast_is_followed_by_the_minute(make: MakeEngine) -> None:
    # 0 to 10: cold; nothing is expected in minute 0, the process is discarded.  60: loaded, 60 to 65.
    # 120: nothing is expected any more, which leaves it where it is.  130: found.
    # 134: the container is idle and is not filled; 180: loaded again, 180 to 185, and there until the end.
    world = a_world(
        [function()],
        [(0, 0), (130, 0)],
        forecast=(0, ONE // 2, 0, ONE // 2, 0),
        kernel=Kernel.TABLE,
        after_run_preloader=AfterRun.DISCARD,
    )
    engine = make(world)
    for second, held in ((60, 0), (130, 70), (180, 70), (300, 190)):
        advance(engine, second)
        assert mb_seconds(engine, "preload") == 400 * held
    assert rows(engine, "start_type", "kept", "end") == [(COLD, 0, 10), (MEMORY, 0, 134)]
    assert counts(engine, "loads") == (2,)


def test_without_timers_what_was_requested_is_held_as_long_as_its_container(make: MakeEngine) -> None:
    # 0 to 10: cold.  Tyche would off-load 10 s after the request; here it is loaded at 10 and goes with its container.
    world = a_world(
        [function()],
        [(0, 0)],
        kernel=Kernel.NO_TIMERS,
        prior_gap_us=10 * SECOND,
        offload_ppm=1_000_000,
        after_run_preloader=AfterRun.DISCARD,
    )
    engine = make(world)
    advance(engine, 1000)
    assert counts(engine, "loads", "wasted_loads", "expiries") == (1, 1, 1)
    assert mb_seconds(engine, "preload") == 400 * 600


def test_greedy_dual_evicts_what_is_cheap_and_rare(make: MakeEngine) -> None:
    # Room for two containers.  A start of A or C saves 1 + 2 + 3 = 6 s: worth 6 000 000 us / 1000 MB = 6000 a start, of
    # B 1 + 2 + 9 = 12 s: 12000.
    #   0: B, cold, to 16: worth 12000.          20: A, cold, to 30: worth 6000.
    #  40: C: A is worth least: evicted, clock 6000; cold, to 50: worth 6000 + 6000 = 12000.
    #  60: A: a tie, B has been idle for longer: evicted, clock 12000; cold, to 70.
    #  65: C, in memory, to 69: its second start: worth 12000 + 2 x 6000 = 24000.
    #  70: A's first start since it owned no container: worth 12000 + 6000 = 18000.
    # 100: B: A is evicted, though C has been idle for longer; cold, to 116.  5000: C is still there.
    functions = [function(), function(model=9), function()]
    arrivals: list[tuple[float, int]] = [(0, 1), (20, 0), (40, 2), (60, 0), (65, 2), (100, 1), (5000, 2)]
    engine = make(a_world(functions, arrivals, nodes=(2000,), end=6000, prewarm=Prewarm.FAASCACHE))
    advance(engine, 6000)
    assert rows(engine, "container", "start_type", "end") == [
        (0, COLD, 16),
        (1, COLD, 30),
        (1, COLD, 50),
        (0, COLD, 70),
        (1, MEMORY, 69),
        (0, COLD, 116),
        (1, MEMORY, 5004),
    ]
    assert counts(engine, "evictions", "expiries") == (3, 0)


@pytest.mark.parametrize(("fate", "start"), [(AfterRun.KEEP, COLD), (AfterRun.DISCARD, WARM)])
def test_greedy_dual_counts_what_a_container_would_save(make: MakeEngine, fate: AfterRun, start: StartType) -> None:
    # Room for two containers.  A's process takes 1 + 1 s, its container 5 s; B's process 5 + 5 s, its container 1 s.
    # With the process, A's container saves 7 s and B's 11 s, without it 5 s and 1 s.  50: C evicts one; 70: A.
    functions = [function(init=5, library=1, model=1), function(library=5, model=5), function()]
    arrivals: list[tuple[float, int]] = [(0, 0), (0, 1), (50, 2), (70, 0)]
    settings: dict[str, Any] = {"prewarm": Prewarm.FAASCACHE, "after_run_platform": fate}
    engine = make(a_world(functions, arrivals, nodes=(2000,), **settings))
    advance(engine, 100)
    assert rows(engine, "start_type")[3] == (start,)


def test_pagurus_lets_out_containers_that_nobody_needs(make: MakeEngine) -> None:
    # Containers are to let after 100 s and are removed after 300 s.  E is larger than the others, F of another tenant.
    #   0: A, cold, to 10: to let from 110 on.  109: B, cold, to 119.
    # 110: C rents A's container: A is cleared out, 0.5 + 2 + 3 + 4, to 119.5.  120: A, cold, to 130.
    # 250: B's container, C's and A's are to let; none is large enough for E: cold, to 260.  251: F: cold, to 261.
    # 252: D rents B's, which has been idle for longest.  Everything is gone by 600, C's at 419.5, A's at 430.
    functions = [function() for _ in range(4)] + [function(container_mb=1200, peak_mb=1200), function(tenant=1)]
    arrivals: list[tuple[float, int]] = [(0, 0), (109, 1), (110, 2), (120, 0), (250, 4), (251, 5), (252, 3)]
    world = a_world(
        functions,
        arrivals,
        prewarm=Prewarm.PAGURUS,
        keep_alive_us=100 * SECOND,
        isolation=Isolation.TENANT,
        clear_us=SECOND // 2,
    )
    engine = make(world)
    advance(engine, 1000)
    assert rows(engine, "container", "start_type", "end") == [
        (0, COLD, 10),
        (1, COLD, 119),
        (0, WARM, 119.5),
        (2, COLD, 130),
        (3, COLD, 260),
        (4, COLD, 261),
        (1, WARM, 261.5),
    ]
    assert counts(engine, "created", "expiries", "evictions") == (5, 5, 0)
    a_and_c, b_and_d, a, e, f = 100 + 300, 133 + 300, 300, 300, 300
    assert mb_seconds(engine, "idle") == 1000 * (a_and_c + b_and_d + a + f) + 1200 * e


def test_two_containers_of_each_function_are_always_there(make: MakeEngine) -> None:
    # Room for three containers.  0: the trigger creates one of A and one of B.  60: A's second; B's has no room.
    # 70: A, in the second, warm, to 79.  71: A, in the first, to 80.  72: A evicts B's: cold, to 82.
    # 679: A has three, the second goes.  680 and 682: A has two, which stay.  720: B gets one again.
    # 800: B, warm, to 809.  1280 and 1282: A's two stay once more.
    arrivals: list[tuple[float, int]] = [(70, 0), (71, 0), (72, 0), (800, 1)]
    engine = make(a_world([function(), function()], arrivals, nodes=(3000,), end=1290, prewarm=Prewarm.ALWAYS_ON))
    advance(engine, 1290)
    assert rows(engine, "container", "start_type", "end") == [
        (2, WARM, 79),
        (0, WARM, 80),
        (1, COLD, 82),
        (2, WARM, 809),
    ]
    assert counts(engine, "created", "prewarms", "evictions", "expiries") == (5, 4, 1, 1)


def test_rainbowcake_peels_containers_and_shares_what_is_left(make: MakeEngine) -> None:
    # A holds 10 MB, worth keeping for 249 x 5 s / 10 = 124.5 s; B and C hold 400 MB, 3 s; C is of another tenant.
    #   0: A, cold, to 10; after one request kept for 120 s.  100: A, in memory, to 104: two requests in 100 s, the next
    #      expected after 50 x 1.609438 = 80.4719 s, which is also how long it is kept.  184.47: its process goes.
    # 190: C may not have what is left of A's container: cold, to 200.  200: B may: warm, to 209.
    # 210: A, cold, to 220; the next after 70 x 1.609438 = 112.66 s.
    # 320: C's process goes, 329: B's, 332.7: A's; 380, 389 and 392.7: their containers.
    # 400: B, cold, to 410; kept for 60 s, the next expected after 100 x 1.609438 s, at 560.9: created by 561.9.
    # 570: B, warm, to 579.
    functions = [function(hold_mb=10), function(), function(tenant=1)]
    arrivals: list[tuple[float, int]] = [(0, 0), (100, 0), (190, 2), (200, 1), (210, 0), (400, 1), (570, 1)]
    engine = make(a_world(functions, arrivals, end=630, prewarm=Prewarm.RAINBOWCAKE, isolation=Isolation.TENANT))
    advance(engine, 184)
    assert mb_seconds(engine, "preload") == 10 * (90 + 80)
    advance(engine, 190)
    assert mb_seconds(engine, "preload") == pytest.approx(10 * (90 + 80.4719))
    advance(engine, 630)
    assert rows(engine, "container", "start_type", "end") == [
        (0, COLD, 10),
        (0, MEMORY, 104),
        (1, COLD, 200),
        (0, WARM, 209),
        (2, COLD, 220),
        (2, COLD, 410),
        (2, WARM, 579),
    ]
    assert counts(engine, "created", "prewarms", "expiries") == (5, 1, 4)


def test_icebreaker_keeps_containers_while_requests_are_expected(make: MakeEngine) -> None:
    # A tenth is enough, a little less is not.  30: cold, to 40.  60: there is a container already.
    # 100: minute 1 is worth it: kept until 160.  130: in memory, to 134; 194: minute 3 is not: gone.
    # 200: cold, to 210; 270: minute 4 falls short by the least: gone.  300: created, by 301; 361: kept, as the last
    # minute of the forecast stands for all later ones.  400: warm, to 409.
    enough = 104_858
    world = a_world(
        [function()],
        [(30, 0), (130, 0), (200, 0), (400, 0)],
        forecast=(0, enough, enough, 0, enough - 1, enough),
        prewarm=Prewarm.ICEBREAKER,
    )
    engine = make(world)
    advance(engine, 409)
    assert rows(engine, "start_type", "end") == [(COLD, 40), (MEMORY, 134), (COLD, 210), (WARM, 409)]
    assert counts(engine, "created", "prewarms", "expiries") == (3, 1, 2)


def test_greedy_dual_displaces_what_is_rare_and_old(make: MakeEngine) -> None:
    # Room for two containers, in each for two functions.  Each request is worth 1024 x 5 s / 400 MB = 1 (here).
    #  0: A and B, cold, to 10.  20: A, to 24: worth 2.
    # 30: C evicts B's container; B is loaded beside A.  40: C is there.
    # 50: D evicts the container of A and B; B is loaded beside C, A displaces C: the clock is 1.  60: C beside D.
    # 70: C, to 74: worth 1 + 2.  D is cleared out, and worth no more than B: placed at 74, beside C.
    # 80: D, to 84: worth 1 + 2.  C is cleared out and displaces B.  84: B beside D.
    # 90: B, to 94: worth 1 + 2.  D is cleared out and displaces A, whose two requests date from before the clock.
    arrivals: list[tuple[float, int]] = [(0, 0), (0, 1), (20, 0), (30, 2), (50, 3), (70, 2), (80, 3), (90, 1)]
    settings: dict[str, Any] = {"kernel": Kernel.GREEDY_DUAL, "displace_percent": 0, "busy_counts": True}
    engine = make(a_world([function() for _ in range(4)], arrivals, nodes=(2000,), **settings))
    for second, loads in ((29, 0), (30, 1), (50, 3), (60, 4), (73, 4), (74, 5), (80, 6), (84, 7), (90, 8), (94, 9)):
        advance(engine, second)
        assert counts(engine, "loads") == (loads,)
    starts = [start for (start,) in rows(engine, "start_type")]
    assert starts == [COLD, COLD, MEMORY, COLD, COLD, MEMORY, MEMORY, MEMORY]


def test_requests_go_to_the_node_with_the_fewest_runs_that_holds_the_function(make: MakeEngine) -> None:
    # Three nodes with room for two containers; A looks at 2, 0, 1, B at 1, 2, 0.
    #  0: A, cold, node 2, to 10.                               20: B, cold, node 1, to 30.
    # 21: A is held on node 2: to 25.                           22: A is held nowhere: node 0 runs nothing: cold, to 32.
    # 23: B is held nowhere, each node runs one: node 1 comes first: cold, to 33.
    # 40: A is held on the nodes 2 and 0: node 2 comes first.   60, 61: B is held on node 1 only, which then runs one.
    # 62: B is held nowhere; node 1 is full: node 2: cold.      63: A is held on node 2, which runs B, and 0: node 0.
    arrivals: list[tuple[float, int]] = [(0, 0), (20, 1), (21, 0), (22, 0), (23, 1), (40, 0)]
    arrivals += [(60, 1), (61, 1), (62, 1), (63, 0)]
    engine = make(a_world([function(), function()], arrivals, nodes=(2000,) * 3, routing=Routing.FEWEST_BUSY))
    advance(engine, 100)
    assert rows(engine, "node", "start_type") == [
        (2, COLD),
        (1, COLD),
        (2, MEMORY),
        (0, COLD),
        (1, COLD),
        (2, MEMORY),
        (1, MEMORY),
        (1, MEMORY),
        (2, COLD),
        (0, MEMORY),
    ]


def test_ties_may_go_to_the_first_node(make: MakeEngine) -> None:
    # Three nodes with room for two containers.
    #  0: A, cold, node 0, to 10.                              20: B, cold, node 0, to 30.
    # 21: A is held on node 0, though it runs B: to 25.        22: A is held nowhere: node 1 runs nothing: cold, to 32.
    # 23: B is held nowhere; node 0 is full: node 2.           40: A is held on the nodes 0 and 1: node 0, to 44.
    # 41: A, node 1.                                           42: B is held on node 0, which runs A, and 2: node 2.
    arrivals: list[tuple[float, int]] = [(0, 0), (20, 1), (21, 0), (22, 0), (23, 1), (40, 0), (41, 0), (42, 1)]
    world = a_world([function(), function()], arrivals, nodes=(2000,) * 3, routing=Routing.FEWEST_BUSY_FIRST)
    engine = make(world)
    advance(engine, 100)
    assert rows(engine, "node", "start_type") == [
        (0, COLD),
        (0, COLD),
        (0, MEMORY),
        (1, COLD),
        (2, COLD),
        (0, MEMORY),
        (1, MEMORY),
        (2, MEMORY),
    ]


def test_each_worker_decides_for_itself(make: MakeEngine) -> None:
    # Three nodes with room for one container; 0 to 10: one of B on each, empty afterwards.  A looks at 2, 0, 1.
    # 20: A is wanted: each worker loads it, 20 to 25.
    # 30 and 31: A, on node 2 to 34, on node 0 to 35; each then loads it again, to 39 and to 40.
    # 36: node 2, which loads A, will do as well as node 1, which holds it: the model is there at 39, to 43.  43: load.
    # 50: B is held nowhere: node 1, where A is cleared out; the others have it, and node 1 no container: no load.
    # 59: B ends, and node 1 loads A, the seventh load.
    arrivals: list[tuple[float, int]] = [(0, 1), (0, 1), (0, 1), (30, 0), (31, 0), (36, 0), (50, 1)]
    settings = interval(
        scope=Scope.WORKER, routing=Routing.FEWEST_BUSY, after_run_preloader=AfterRun.DISCARD, displace_percent=10
    )
    engine = make(a_world([function(), function()], arrivals, nodes=(1000,) * 3, **settings))
    advance(engine, 20)
    decide(engine, [(HOLD, ONE), (LEAVE, 0)])
    for second, loads in ((20, 3), (34, 4), (35, 5), (43, 6), (58, 6), (59, 7)):
        advance(engine, second)
        assert counts(engine, "loads") == (loads,)
    assert rows(engine, "node", "start_type", "model", "end")[3:] == [
        (2, MEMORY, 0, 34),
        (0, MEMORY, 0, 35),
        (2, LOADING, 3, 43),
        (1, WARM, 3, 59),
    ]


@pytest.mark.parametrize(
    ("packing", "loads", "starts"),
    [
        (Packing.FULL, (3, 4), [(0, MEMORY), (0, MEMORY), (1, MEMORY)]),
        (Packing.SINGLE, (2, 3), [(0, WARM), (0, MEMORY), (2, COLD)]),
        (Packing.OWN, (0, 1), [(0, WARM), (0, MEMORY), (2, COLD)]),
        (Packing.WORST, (3, 5), [(1, MEMORY), (1, MEMORY), (0, MEMORY)]),
    ],
)
def test_packing_decides_who_finds_a_container(
    make: MakeEngine, packing: Packing, loads: tuple[int, int], starts: list[tuple[int, StartType]]
) -> None:
    # 0 to 10: container 0 of A, container 1 of B, empty afterwards, with room for two each.  20: D, C, A are wanted, in
    # this order.  FULL: D and C share 1, A is in 0.  SINGLE: D in 1, C in 0, no room for A.  OWN: nobody loads.
    # WORST: D in 1, C in 0, A in 1, for both have 600 MB left.
    # 40: A.  SINGLE: it clears C out of its own container, and C is not placed again.  WORST: D is, beside C.
    # 44 or 49: A ends, and is loaded where it ran.  60: A once more.  70: C.
    arrivals: list[tuple[float, int]] = [(0, 0), (0, 1), (40, 0), (60, 0), (70, 2)]
    settings = interval(packing=packing, after_run_preloader=AfterRun.DISCARD, displace_percent=10)
    engine = make(a_world([function() for _ in range(4)], arrivals, **settings))
    advance(engine, 20)
    decide(engine, [(HOLD, ONE // 4), (LEAVE, 0), (HOLD, ONE // 2), (HOLD, ONE)])
    assert counts(engine, "loads") == (loads[0],)
    advance(engine, 59)
    assert counts(engine, "loads") == (loads[1],)
    advance(engine, 80)
    assert rows(engine, "container", "start_type")[2:] == starts


def test_a_queued_request_gives_a_second_copy_its_worth(make: MakeEngine) -> None:
    # Room for two containers.  0: A runs until 60, B until 10.  1: A is wanted twice, but one request has no rate.
    # 4: C, which needs the whole node, waits, and A behind it at 5: now A has one, and its second copy has worth.
    # 10: B's container becomes idle; C still cannot start; A's second copy is loaded there.
    functions = [function(inference=54), function(), function(container_mb=2000)]
    arrivals: list[tuple[float, int]] = [(0, 0), (0, 1), (4, 2), (5, 0)]
    engine = make(a_world(functions, arrivals, nodes=(2000,), **interval(copies=2, busy_counts=True)))
    advance(engine, 1)
    decide(engine, [(HOLD, ONE), (LEAVE, 0), (LEAVE, 0)])
    advance(engine, 9)
    assert counts(engine, "loads") == (0,)
    advance(engine, 10)
    assert counts(engine, "loads") == (1,)
