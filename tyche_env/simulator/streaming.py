"""A log that leaves while the run goes on: memory follows what is alive, not the length of the run.

The compiled engine is run in slices in which no more requests can start than the log has rows; after each slice the
finished rows go to a sink and their place is used again.  Arrivals that are mapped from a file (``tyche_env.stored``)
are given back to the system once they are past.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tyche_env.metrics import (
    HISTOGRAMS,
    LATENCY_BINS,
    TOTALS_DTYPE,
    add_log,
    latencies_from_log,
    latency_bins,
    percentiles_from_bins,
    scored_part,
)
from tyche_env.pages import Pages
from tyche_env.simulator.engine import CompiledEngine
from tyche_env.simulator.log import LOG_DTYPE
from tyche_env.state import ClusterState

Sink = Callable[[NDArray[Any]], None]
"""Takes records of ``LOG_DTYPE``, in the order of their starts; they are overwritten once it returns."""

ROWS = 1 << 16
"""Rows that the log holds between two deliveries: 6 MB, and a multiple of that while they are written to Parquet."""


class LogStream:
    """A compiled engine whose log goes to a sink; its methods are those of the engine.

    The sums and the histograms are those of the rows delivered: of scored requests only.

    Args:
        engine: at time 0, made without a record.
        sink: gets the rows of scored requests.
        rows: of the log; it grows where more requests wait or start in one instant.
    """

    def __init__(self, engine: CompiledEngine, sink: Sink, rows: int = ROWS) -> None:
        self._engine, self._sink = engine, sink
        self.totals = np.zeros(engine.world.function_count, TOTALS_DTYPE)
        self.histograms = {name: np.zeros(LATENCY_BINS, np.int64) for name in HISTOGRAMS}
        world = engine.world
        self._pages = Pages(world.arrival_us, world.arrival_function, world.arrival_duration_us)
        engine.state.cluster["record"] = 1
        self._replace_log(np.zeros(rows, LOG_DTYPE))

    @property
    def percentiles_us(self) -> tuple[float, float, float]:
        """End-to-end latency at 50, 95 and 99 % of what was delivered, within 1 %."""
        return percentiles_from_bins(self.histograms["end_to_end"])

    def advance_until(self, t_us: int) -> None:
        """Handle every event up to and including ``t_us``, and deliver what has started."""
        reached_us = -1
        while reached_us < t_us:
            reached_us = self._reach(t_us)
            self._engine.advance_until(reached_us)
            self._deliver()

    def drain(self) -> None:
        """Go on until every request has finished, and deliver the rest."""
        if self._count("next_arrival") < len(self._engine.world.arrival_us):
            self.advance_until(int(self._engine.world.arrival_us[-1]))
        self._make_room(self._count("queued"))
        self._engine.drain()
        self._deliver(everything=True)

    def set_priorities(self, decision: NDArray[np.int8], priority: NDArray[np.int64]) -> None:
        """See :class:`~tyche_env.simulator.engine.CompiledEngine`."""
        self._make_room(self._count("queued"))
        self._engine.set_priorities(decision, priority)

    def ask_all(self) -> tuple[NDArray[np.int8], NDArray[np.int64]]:
        """See :class:`~tyche_env.simulator.engine.CompiledEngine`."""
        return self._engine.ask_all()

    @property
    def state(self) -> ClusterState:
        """The engine's tables."""
        return self._engine.state

    @property
    def log(self) -> NDArray[Any]:
        """Rows that are not delivered yet."""
        return self._engine.log

    def counters(self) -> dict[str, int]:
        """See :class:`~tyche_env.simulator.engine.CompiledEngine`."""
        return self._engine.counters()

    def integrals(self) -> dict[str, NDArray[np.int64]]:
        """See :class:`~tyche_env.simulator.engine.CompiledEngine`."""
        return self._engine.integrals()

    def _count(self, name: str) -> int:
        return int(self._engine.state.cluster[name][0])

    def _replace_log(self, log: NDArray[Any]) -> None:
        self._engine.use(self._engine.state._replace(log=log))

    def _make_room(self, rows: int) -> None:
        """Let at least so many more requests start."""
        log, used = self._engine.state.log, self._count("log_count")
        if used + rows > len(log):
            larger = np.zeros(2 * (used + rows), LOG_DTYPE)
            larger[:used] = log[:used]
            self._replace_log(larger)

    def _reach(self, t_us: int) -> int:
        """The latest time up to ``t_us`` by which the log cannot overflow."""
        arrival_us = self._engine.state.arrival_us
        first = self._count("next_arrival")
        if first >= len(arrival_us) or arrival_us[first] > t_us:
            self._make_room(self._count("queued"))
            return t_us
        instant = int(np.searchsorted(arrival_us[first:], arrival_us[first], side="right"))
        self._make_room(self._count("queued") + instant)
        after = first + len(self._engine.state.log) - self._count("log_count") - self._count("queued")
        if after >= len(arrival_us):
            return t_us
        return min(t_us, int(arrival_us[after]) - 1)

    def _deliver(self, everything: bool = False) -> None:
        """Hand over the rows up to the first that is not complete, and move the others to the front."""
        engine, log, used = self._engine, self._engine.state.log, self._count("log_count")
        ready = used
        if engine.world.settings.contention and not everything:
            # a row is there from the start of a run on, its end is entered with the finish
            open_rows = np.flatnonzero(log["end_us"][:used] == 0)
            ready = int(open_rows[0]) if len(open_rows) else used
        rows = scored_part(log[:ready], engine.world.score_from_us)
        if len(rows):
            functions = engine.world.functions
            add_log(rows, functions.slo_us, functions.unserved_us, self.totals)
            for name, latency_us in latencies_from_log(rows, functions).items():
                self.histograms[name] += latency_bins(latency_us)
            self._sink(rows)
        log[: used - ready] = log[ready:used]
        log["end_us"][used - ready : used] = 0
        engine.state.cluster["log_count"] = used - ready
        engine.state.jobs["row"] -= ready
        self._pages.release(self._count("next_arrival"))
