"""What a run measured, and who may look on while it is played.

Engines and backends are both *hosts* of a run: :func:`drive` lets time pass on either, asks for decisions where they
fall due, and lets a watcher look.  Nothing else decides when a policy is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tyche_env.metrics import latencies_from_log, latency_bins, percentiles_of, scored_part, totals_from_log
from tyche_env.world import World

Decisions = tuple[NDArray[np.int8], NDArray[np.int64]]
"""Decisions (``world.Decision``) and priorities (2^-20) of all functions, (F, 2) each: container memory and GPU."""


@dataclass(frozen=True, slots=True)
class Played:
    """What one run measured over its scored window.

    Attributes:
        world: the world that was played, under its policy.
        log: scored requests in the order of their starts (LOG_DTYPE), a sample of them, or None if none were kept.
        totals: (F,) sums by function (``metrics.TOTALS_DTYPE``).
        end_to_end_percentiles_us: 50, 95, 99 %; exact where every request was kept, else within 1 %.
        histograms: of ``metrics.HISTOGRAMS``, (LATENCY_BINS,) each.
        counters: by name (``accounting.COUNTERS``); ``load_us`` is the time within the window for which loads were in
            progress, ``wasted_load_us`` that of the loads that were dropped before they served.
        integrals_mb_us: busy, idle, preload, gpu; (N,) each.
        cpu_s: CPU seconds of the whole run, warm-up and drain included, compilation not.
        wall_s: the same by the wall clock.
        decision_us_mean: mean time of one answer of a policy in Python; None where compiled code decided.
        health: what a real backend met beside its requests (faults, lateness); None elsewhere.
        invocations: every invocation of a real backend, as a table; None elsewhere.
    """

    world: World
    log: NDArray[Any] | None
    totals: NDArray[Any]
    end_to_end_percentiles_us: tuple[float, float, float]
    histograms: Mapping[str, NDArray[np.int64]]
    counters: dict[str, int]
    integrals_mb_us: dict[str, NDArray[np.int64]]
    cpu_s: float
    wall_s: float
    decision_us_mean: float | None = None
    health: Mapping[str, Any] | None = None
    invocations: Sequence[Any] | None = None


class Host(Protocol):
    """What a run needs of an engine or a backend."""

    def advance_until(self, t_us: int) -> None:
        """Handle every event up to and including ``t_us``."""

    def drain(self) -> None:
        """Go on until every request has finished."""

    def set_priorities(self, decision: NDArray[np.int8], priority: NDArray[np.int64]) -> None:
        """New decisions and priorities, (F, 2) each."""

    def ask_all(self) -> Decisions:
        """The kernel's answer for every function now."""

    @property
    def log(self) -> NDArray[Any]:
        """Requests that have started (LOG_DTYPE), in that order."""

    def counters(self) -> dict[str, int]:
        """Running totals."""

    def integrals(self) -> dict[str, NDArray[np.int64]]:
        """Memory x time by kind, (N,) each, MB us."""


class Watcher(Protocol):
    """Looks on while a world is played, and changes nothing."""

    def begin(self, world: World) -> Sequence[int]:
        """The instants at which it wants to look, in us, ascending, above 0 and up to the end of the window."""

    def look(self, at_us: int, host: Any) -> None:
        """See the cluster at one of them, after its events; ``host`` is the engine, or a backend."""

    def end(self, log: NDArray[Any] | None) -> None:
        """See the scored requests, if they were kept, once all have finished."""


class Shares:
    """A watcher that tells how much of the window is done, in twenty steps.

    Args:
        tell: called with the share.
    """

    def __init__(self, tell: Callable[[float], None]) -> None:
        self._tell = tell

    def begin(self, world: World) -> Sequence[int]:
        """Twenty instants."""
        self._end_us = max(1, world.end_us)
        return sorted({world.end_us * piece // 20 for piece in range(1, 21)} - {0})

    def look(self, at_us: int, host: object) -> None:
        """Tell."""
        self._tell(at_us / self._end_us)

    def end(self, log: object) -> None:
        """Nothing is left to tell."""


def drive(
    host: Host, world: World, decide: Callable[[], Decisions], watch: Watcher | None = None
) -> tuple[dict[str, int], dict[str, NDArray[np.int64]]]:
    """Play a world from time 0 until every request has finished.

    Outside of event mode ``decide`` is asked at time 0 and at every multiple of ``decision_us`` before the end, as in
    the environment, wherever scoring begins.

    Args:
        host: at time 0 of the world.
        world: what happens.
        decide: the policy's decisions about all functions now.
        watch: looks on.

    Returns:
        Counters and integrals of the scored window.
    """
    interval_us = 0 if world.settings.event_mode else world.settings.decision_us
    looks_us = list(watch.begin(world)) if watch is not None else []
    begins_us, ends_us = world.score_from_us, world.end_us
    at_us = seen = 0
    if world.settings.event_mode:
        host.advance_until(0)
    counters, integrals = host.counters(), host.integrals()
    while at_us < ends_us:
        if interval_us and at_us % interval_us == 0:
            host.set_priorities(*decide())
        stop_us = begins_us if at_us < begins_us else ends_us
        if interval_us:
            stop_us = min(stop_us, (at_us // interval_us + 1) * interval_us)
        if seen < len(looks_us):
            stop_us = min(stop_us, looks_us[seen])
        host.advance_until(stop_us)
        at_us = stop_us
        if at_us == begins_us:
            counters, integrals = host.counters(), host.integrals()
        if watch is not None and seen < len(looks_us) and looks_us[seen] == at_us:
            watch.look(at_us, host)
            seen += 1
    counters = {name: value - counters[name] for name, value in host.counters().items()}
    integrals = {name: value - integrals[name] for name, value in host.integrals().items()}
    host.drain()
    return counters, integrals


def played_from_log(world: World, log: NDArray[Any], **measured: Any) -> Played:
    """A run of which every request was kept.

    Args:
        world: what was played.
        log: all requests; those of the scored window are counted.
        measured: the other fields of :class:`Played`.
    """
    log = scored_part(log, world.score_from_us)
    latencies_us = latencies_from_log(log, world.functions)
    return Played(
        world=world,
        log=log,
        totals=totals_from_log(log, world.functions),
        end_to_end_percentiles_us=percentiles_of(latencies_us["end_to_end"]),
        histograms={name: latency_bins(values) for name, values in latencies_us.items()},
        **measured,
    )
