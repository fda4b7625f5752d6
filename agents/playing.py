"""Play a world on any backend, as :func:`tyche_env.simulate.simulate` runs it on an engine."""

from __future__ import annotations

import time
from typing import Any, Literal

import numpy as np

from tyche_env.backend import Backend, make_backend
from tyche_env.metrics import percentiles_from_log, scored_part, totals_from_log
from tyche_env.simulate import Result
from tyche_env.simulator.engine import ask_everything
from tyche_env.world import World


def play_on(
    name: str, world: World, decision: Literal["event"] | float = "event"
) -> tuple[Result, dict[str, Any] | None]:
    """Play a world on a backend that is made for it and given back afterwards, whatever happens.

    Args:
        name: entry-point name of the backend.
        world: see :func:`play`.
        decision: see :func:`play`.

    Returns:
        The result, and what :func:`health_of` says.
    """
    backend = make_backend(name)
    try:
        return play(world, backend, decision), health_of(backend)
    finally:
        backend.close()


def health_of(backend: Backend) -> dict[str, Any] | None:
    """What a run met beside its requests, of a backend that keeps count of it.

    Returns:
        ``health``: counts of faults, lateness; ``invocations``: every one, as a table; None of other backends.
    """
    health = getattr(backend, "health", None)
    return None if health is None else {"health": health.summary(), "invocations": health.table()}


def play(world: World, backend: Backend, decision: Literal["event"] | float = "event") -> Result:
    """Run a world under the policy kernel of its settings; the backend stays open.

    Args:
        world: what happens; ``settings.event_mode`` is set from ``decision``.
        backend: where.
        decision: ``event``, or seconds between decisions about all functions, from time 0 on.

    Raises:
        BackendError: the world needs what the backend cannot do, or the run broke down.
    """
    event_mode = decision == "event"
    interval_us = 0 if isinstance(decision, str) else round(decision * 1_000_000)
    world = world.with_settings(event_mode=event_mode)
    backend.capabilities.require(world)
    backend.reset(world)
    wall_s, cpu_s = time.perf_counter(), time.process_time()

    def advance(start_us: int, end_us: int) -> None:
        if event_mode:
            backend.advance_until_us(end_us)
            return
        at_us = start_us
        while at_us < end_us:
            if at_us % interval_us == 0:
                chosen = np.zeros((world.function_count, 2), np.int8)
                priority = np.zeros((world.function_count, 2), np.int64)
                ask_everything(backend.handles, chosen, priority)
                backend.set_priorities(chosen, priority)
            at_us = min((at_us // interval_us + 1) * interval_us, end_us)
            backend.advance_until_us(at_us)

    advance(0, world.score_from_us)
    counters, integrals = backend.counters(), backend.integrals()
    advance(world.score_from_us, world.end_us)
    counters = {name: value - counters[name] for name, value in backend.counters().items()}
    integrals = {name: value - integrals[name] for name, value in backend.integrals().items()}
    backend.drain()
    log = scored_part(backend.log(), world.score_from_us)
    return Result(
        world=world,
        log=log,
        totals=totals_from_log(log, world.function_count),
        end_to_end_percentiles_us=percentiles_from_log(log),
        counters=counters,
        integrals_mb_us=integrals,
        cpu_s=time.process_time() - cpu_s,
        wall_s=time.perf_counter() - wall_s,
    )
