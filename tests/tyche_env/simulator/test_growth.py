"""A heap of events, or the pool of waiting requests, that is nearly full is doubled, and nothing happens twice."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.tyche_env.simulator.strategies import random_run
from tyche_env.simulator.engine import CompiledEngine, run_engines

GROWING = ("timers", "soon", "completions", "waiting", "free_waiting")
STEP_US = 10_000_000


def cramp(engine: CompiledEngine) -> None:
    """Leave an engine heaps that are nearly full with one key more."""
    state, cluster = engine.state, engine.state.cluster[0]
    commands = (4 if engine.world.settings.contention else 1) * (len(state.residents) + len(state.containers) + 8)
    room = {
        "timers": int(cluster["timer_count"]) + 8,
        "soon": int(cluster["soon_count"]) + 8,
        "completions": int(cluster["completion_count"]) + commands,
        "waiting": max(1, int(cluster["waiting_fresh"])),
    }
    room["free_waiting"] = room["waiting"]
    engine.use(state._replace(**{name: getattr(state, name)[:length].copy() for name, length in room.items()}))


def played(engine: CompiledEngine, seed: int, cramped: bool) -> tuple[NDArray[Any], int, set[str]]:
    """The log, the number of events, and what grew, of a run in which all is decided anew every ten seconds."""
    draw = np.random.default_rng(seed)
    grown = set()
    for now_us in range(0, engine.world.end_us, STEP_US):
        if cramped:
            cramp(engine)
        before = {name: len(getattr(engine.state, name)) for name in GROWING}
        decision = draw.integers(0, 3, (engine.world.function_count, 2)).astype(np.int8)
        engine.set_priorities(decision, draw.integers(0, 1 << 20, decision.shape))
        engine.advance_until(min(now_us + STEP_US, engine.world.end_us))
        grown |= {name for name, length in before.items() if len(getattr(engine.state, name)) > length}
    engine.drain()
    return engine.log, int(engine.state.cluster["events"][0]), grown


@pytest.mark.parametrize("crowd", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_runs_with_little_room_are_those_with_ample_room(crowd: bool) -> None:
    grown = set()
    for seed in range(25):
        world = random_run(seed, crowd).world
        log, events, grew = played(CompiledEngine(world), seed, cramped=True)
        expected_log, expected_events, _ = played(CompiledEngine(world), seed, cramped=False)
        assert events == expected_events, f"random_run({seed}, {crowd})"
        assert np.array_equal(log, expected_log), f"random_run({seed}, {crowd})"
        grown |= grew
    assert grown == set(GROWING)


def test_engines_that_run_together_grow_each_by_itself() -> None:
    worlds = [random_run(seed, crowd=True).world for seed in range(20)]
    engines = [CompiledEngine(world) for world in worlds]
    for engine in engines[::2]:
        cramp(engine)
    addresses = np.concatenate([engine.addresses for engine in engines])
    ends = np.array([world.end_us for world in worlds])
    before = addresses.copy()
    run_engines(engines, addresses, ends // 2)
    run_engines(engines, addresses, ends)
    assert (addresses != before).sum() > 5
    for engine, world, address in zip(engines, worlds, addresses, strict=True):
        alone = CompiledEngine(world)
        alone.advance_until(world.end_us)
        assert np.array_equal(engine.log, alone.log)
        assert engine.now_us == world.end_us
        assert address == engine.addresses[0]
