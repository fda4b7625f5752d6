"""Run one world from start to end and measure its scored window.

world = Scenario.load("small").world(kernel="tyche")
played = simulate(world)
played.totals["warming_loading_us"].sum() / played.totals["requests"].sum()
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from tyche_env.metrics import percentiles_from_bins
from tyche_env.played import Host, Played, Watcher, drive, played_from_log
from tyche_env.rules import Rules
from tyche_env.world import DecisionTimes, Kernel, World, WorldError

if TYPE_CHECKING:
    from tyche_env.simulator.engine import CompiledEngine
    from tyche_env.simulator.streaming import LogStream, Sink

EngineName = Literal["compiled", "reference"]


def new_engine(world: World, engine: EngineName = "compiled", record: bool = True) -> Host:
    """An engine at time 0 of a world.

    Args:
        world: what happens.
        engine: ``compiled``, or ``reference`` for the plain-Python one.
        record: keep a log; the reference engine always does.
    """
    if engine not in get_args(EngineName):
        raise WorldError(f"engine: there are {' and '.join(get_args(EngineName))}, got {engine!r}")
    if engine == "reference":
        if world.settings.kernel == Kernel.NETWORK:
            raise WorldError("engine: the reference engine knows no networks; the compiled one does")
        if world.rules != Rules():
            raise WorldError("engine: the reference engine knows no rules of your own; the compiled one does")
        from tyche_env.simulator.reference import ReferenceEngine

        return ReferenceEngine(world)
    from tyche_env.simulator.engine import CompiledEngine
    from tyche_env.simulator.loading import warm_up

    warm_up()
    return CompiledEngine(world, record)


def simulate(
    world: World,
    *,
    decision: DecisionTimes | None = None,
    record: Literal["all", "none"] | Sink = "all",
    engine: EngineName = "compiled",
    watch: Watcher | None = None,
) -> Played:
    """Run a world under the policy kernel of its settings.

    Args:
        world: what happens.
        decision: ``event``: the controller asks the kernel at each function's own arrivals and timers; a number: the
            kernel is asked about all functions every so many seconds, from time 0 on; None: as the world says.
        record: ``all`` keeps a log row a request, ``none`` only sums and a histogram; a function is handed the rows
            piece by piece while the run goes on (``tyche_env.simulator.streaming``), so that memory does not grow with
            the number of requests.
        engine: ``compiled`` or ``reference``.
        watch: looks on; :class:`~tyche_env.played.Shares` tells how far it is.

    Raises:
        WorldError: the world cannot be run, the interval is not positive, or the reference engine is to stream.
    """
    if decision is not None:
        world = world.deciding(decision)
    runner = new_engine(world, engine, record == "all")
    if callable(record):
        runner = _streaming(runner, record)
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    counters, integrals = drive(runner, world, runner.ask_all, watch)
    measured: dict[str, Any] = {
        "counters": counters,
        "integrals_mb_us": integrals,
        "cpu_s": time.process_time() - cpu_s,
        "wall_s": time.perf_counter() - wall_s,
    }
    if record == "all" or engine == "reference":
        played = played_from_log(world, runner.log, **measured)
        if record == "none":
            played = replace(played, log=None)
    elif callable(record):
        stream = cast("LogStream", runner)
        played = Played(world, None, stream.totals, stream.percentiles_us, stream.histograms, **measured)
    else:
        state = cast("CompiledEngine", runner).state
        bins = {"end_to_end": state.latency_bins.copy(), "warming_loading": state.loading_bins.copy()}
        played = Played(world, None, state.totals.copy(), percentiles_from_bins(bins["end_to_end"]), bins, **measured)
    if watch is not None:
        watch.end(played.log)
    return played


def _streaming(engine: Host, sink: Sink) -> LogStream:
    """An engine whose log goes to a sink."""
    from tyche_env.simulator.engine import CompiledEngine
    from tyche_env.simulator.streaming import LogStream

    if not isinstance(engine, CompiledEngine):
        raise WorldError("record: the reference engine keeps its log; the compiled one streams it")
    return LogStream(engine, sink)
