"""Run one world from start to end and measure its scored window.

world = Scenario.load("small").world(kernel="tyche")
result = simulate(world)
result.totals["warming_loading_us"].sum() / result.totals["requests"].sum()
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from tyche_env.metrics import percentiles_from_bins, percentiles_from_log, scored_part, totals_from_log
from tyche_env.rules import Rules
from tyche_env.world import Kernel, World, WorldError

if TYPE_CHECKING:
    from tyche_env.simulator.engine import CompiledEngine
    from tyche_env.simulator.streaming import LogStream, Sink

EngineName = Literal["compiled", "reference"]


class Engine(Protocol):
    """What both engines offer (``docs/engine.md``)."""

    def advance_until(self, t_us: int) -> None:
        """Handle every event up to and including ``t_us``."""

    def drain(self) -> None:
        """Go on until every request has finished."""

    def set_priorities(self, decision: NDArray[np.int8], priority: NDArray[np.int64]) -> None:
        """New decisions and priorities, (F, 2) each."""

    def ask_all(self) -> tuple[NDArray[np.int8], NDArray[np.int64]]:
        """The kernel's answer for every function now."""

    @property
    def log(self) -> NDArray[Any]:
        """Requests that have started (LOG_DTYPE), in that order."""

    def counters(self) -> dict[str, int]:
        """Running totals."""

    def integrals(self) -> dict[str, NDArray[np.int64]]:
        """Memory x time by kind, (N,) each, MB us."""


@dataclass(frozen=True, slots=True)
class Result:
    """What one run measured over its scored window.

    Attributes:
        world: the world that ran.
        log: scored requests in the order of their starts (LOG_DTYPE), or None if they were not kept.
        totals: (F,) sums by function (``metrics.TOTALS_DTYPE``).
        end_to_end_percentiles_us: 50, 95, 99 %; exact with a log, else within 1 %.
        counters: loads, load_us, wasted_loads, transfers, evictions, expiries, created, prewarms.
        integrals_mb_us: busy, idle, preload, gpu; (N,) each.
        cpu_s: CPU seconds of the whole run, warm-up and drain included, compilation not.
        wall_s: the same by the wall clock.
    """

    world: World
    log: NDArray[Any] | None
    totals: NDArray[Any]
    end_to_end_percentiles_us: tuple[float, float, float]
    counters: dict[str, int]
    integrals_mb_us: dict[str, NDArray[np.int64]]
    cpu_s: float
    wall_s: float


def new_engine(world: World, engine: EngineName = "compiled", record: bool = True) -> Engine:
    """An engine at time 0 of a world.

    Args:
        world: what happens.
        engine: ``compiled``, or ``reference`` for the plain-Python one.
        record: keep a log; the reference engine always does.
    """
    if engine == "reference":
        if world.settings.kernel == Kernel.NETWORK:
            raise WorldError("engine: the reference engine knows no networks; the compiled one does")
        if world.rules != Rules():
            raise WorldError("engine: the reference engine knows no rules of your own; the compiled one does")
        from tyche_env.simulator.reference import ReferenceEngine

        return ReferenceEngine(world)
    from tyche_env.simulator import warm_up
    from tyche_env.simulator.engine import CompiledEngine

    warm_up()
    return CompiledEngine(world, record)


def simulate(
    world: World,
    *,
    decision: Literal["event"] | float = "event",
    record: Literal["all", "none"] | Sink = "all",
    engine: EngineName = "compiled",
    progress: Callable[[float], None] | None = None,
) -> Result:
    """Run a world under the policy kernel of its settings.

    Args:
        world: what happens; ``settings.event_mode`` is set from ``decision``.
        decision: ``event``: the controller asks the kernel at each function's own arrivals and timers; a number: the
            kernel is asked about all functions every so many seconds, from time 0 on.
        record: ``all`` keeps a log row a request, ``none`` only sums and a histogram; a function is handed the rows
            piece by piece while the run goes on (``tyche_env.simulator.streaming``), so that memory does not grow with
            the number of requests.
        engine: ``compiled`` or ``reference``.
        progress: called now and then with the share of the window that is done.

    Raises:
        WorldError: the world cannot be run, the interval is not positive, or the reference engine is to stream.
    """
    event_mode = decision == "event"
    if not event_mode and not (isinstance(decision, int | float) and 1e-6 <= decision < math.inf):
        raise WorldError(f"decision: needs 'event' or a positive number of seconds, got {decision!r}")
    interval_us = 0 if isinstance(decision, str) else round(decision * 1_000_000)
    if event_mode != world.settings.event_mode:
        world = world.with_settings(event_mode=event_mode)
    runner = new_engine(world, engine, record == "all")
    if callable(record):
        runner = _streaming(runner, record)
    wall_s, cpu_s = time.perf_counter(), time.process_time()

    def advance(start_us: int, end_us: int) -> None:
        if event_mode:
            pieces = 20 if progress else 1
            for piece in range(1, pieces + 1):
                at_us = start_us + (end_us - start_us) * piece // pieces
                runner.advance_until(at_us)
                if progress:
                    progress(at_us / max(1, world.end_us))
            return
        # as in the environment: decisions at the multiples of the interval, wherever scoring begins
        at_us = start_us
        while at_us < end_us:
            if at_us % interval_us == 0:
                runner.set_priorities(*runner.ask_all())
            at_us = min((at_us // interval_us + 1) * interval_us, end_us)
            runner.advance_until(at_us)
            if progress:
                progress(at_us / max(1, world.end_us))

    advance(0, world.score_from_us)
    counters, integrals = runner.counters(), runner.integrals()
    advance(world.score_from_us, world.end_us)
    counters = {name: value - counters[name] for name, value in runner.counters().items()}
    integrals = {name: value - integrals[name] for name, value in runner.integrals().items()}
    runner.drain()
    cpu_s, wall_s = time.process_time() - cpu_s, time.perf_counter() - wall_s

    log: NDArray[Any] | None
    if record == "all" or engine == "reference":
        log = scored_part(runner.log, world.score_from_us)
        totals = totals_from_log(log, world.function_count)
        percentiles = percentiles_from_log(log)
    elif callable(record):
        stream = cast("LogStream", runner)
        log, totals, percentiles = None, stream.totals, stream.percentiles_us
    else:
        state = cast("CompiledEngine", runner).state
        log, totals, percentiles = None, state.totals.copy(), percentiles_from_bins(state.latency_bins)
    return Result(
        world=world,
        log=log if record == "all" else None,
        totals=totals,
        end_to_end_percentiles_us=percentiles,
        counters=counters,
        integrals_mb_us=integrals,
        cpu_s=cpu_s,
        wall_s=wall_s,
    )


def _streaming(engine: Engine, sink: Sink) -> LogStream:
    """An engine whose log goes to a sink."""
    from tyche_env.simulator.engine import CompiledEngine
    from tyche_env.simulator.streaming import LogStream

    if not isinstance(engine, CompiledEngine):
        raise WorldError("record: the reference engine keeps its log; the compiled one streams it")
    return LogStream(engine, sink)
