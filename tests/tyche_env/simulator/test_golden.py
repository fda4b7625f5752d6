"""A recorded trace of 2,000 requests guards both engines against a change that they share.

``python -m tests.tyche_env.simulator.test_golden`` records it anew, from the reference engine; the commit that does so
says which rule changed, and why.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.tyche_env.simulator.strategies import MINUTE, SECOND, Engine, log_difference
from tyche_env.draws import Concern, draw_u64, noisy_us
from tyche_env.simulator.engine import CompiledEngine
from tyche_env.simulator.reference import ReferenceEngine
from tyche_env.world import (
    FunctionTable,
    Isolation,
    Kernel,
    Prewarm,
    Routing,
    Settings,
    StartType,
    World,
)

FILE = Path(__file__).parent / "golden" / "trace.npz"
REQUESTS = 2_000
SEED = 2026
FUNCTIONS = 12
COUNTERS = ("created", "evictions", "expiries", "load_us", "loads", "prewarms", "transfers", "wasted_loads")
"""Those that there were when it was recorded."""


def golden_world() -> World:
    """Timers, steady and bursty functions of two tenants, on three nodes that are too small for them."""

    def draw(f: int, ordinal: int, count: int) -> int:
        return draw_u64(SEED, Concern.POLICY, f, ordinal) % count

    rows, arrivals = [], []
    for f in range(FUNCTIONS):
        hold = 200 + 100 * draw(f, 0, 8)
        peak = hold + 100 * draw(f, 1, 4)
        rows.append(
            {
                "tenant": f % 3 // 2,
                "container_mb": peak + 100 * draw(f, 2, 12),
                "hold_mb": hold,
                "peak_mb": peak,
                "gpu_mb": 0 if f % 4 == 3 else 300 + 100 * draw(f, 3, 5),
                "init_us": 530_000,
                "library_us": 700_000 + 10_000 * draw(f, 4, 100),
                "model_us": 200_000 + 10_000 * draw(f, 5, 300),
                "transfer_us": 50_000 + 10_000 * draw(f, 6, 60),
                "inference_us": 300_000 + 100_000 * draw(f, 7, 200),
                "gpu_inference_us": 50_000 + 10_000 * draw(f, 8, 30),
                "sigma_ppm": 100_000 * (f % 3),
            }
        )
        # A third are timers, a third nearly regular, a third come in bursts; mean gaps lie between 20 s and 12 minutes.
        gap, sigma = (20 + 60 * draw(f, 9, 12)) * SECOND, (0, 300_000, 1_800_000)[f // 4]
        time = draw(f, 10, 600) * SECOND
        for i in range(REQUESTS):
            time += max(1, noisy_us(gap, sigma, draw_u64(SEED, Concern.HOME, f, i)))
            arrivals += [(time, f)] * (1 + (f // 4 == 2) * draw(f, 100 + i, 6))
    arrivals = sorted(arrivals)[:REQUESTS]
    return World(
        functions=FunctionTable.from_rows(rows),
        node_memory_mb=np.array([3_000, 2_600, 4_000]),
        gpu_node=np.array([0, 0, 2]),
        gpu_memory_mb=np.array([900, 900, 1_200]),
        arrival_us=np.array([time for time, _ in arrivals]),
        arrival_function=np.array([f for _, f in arrivals], dtype=np.int32),
        arrival_duration_us=np.zeros(0, dtype=np.int64),
        score_from_us=0,
        end_us=arrivals[-1][0] + MINUTE,
        settings=Settings(
            seed=SEED,
            kernel=Kernel.TYCHE,
            offload_ppm=1_200_000,
            prewarm=Prewarm.HISTOGRAM,
            routing=Routing.RING,
            isolation=Isolation.TENANT,
            busy_counts=True,
            copies=2,
            displace_percent=10,
            scheduling_us=3_000,
            clear_us=6_000,
            command_us=5_000,
            offload_us=50_000,
        ),
    )


def replay(engine: Engine, world: World) -> dict[str, NDArray[Any]]:
    """All that is recorded of a run."""
    engine.advance_until(world.end_us)
    engine.drain()
    counters = engine.counters()
    return {
        "log": engine.log,
        "counters": np.array([counters[name] for name in COUNTERS], dtype=np.int64),
        **engine.integrals(),
    }


@pytest.mark.parametrize("engine", [ReferenceEngine, CompiledEngine])
def test_the_recorded_trace_is_reproduced(engine: type[ReferenceEngine] | type[CompiledEngine]) -> None:
    world = golden_world()
    replayed = replay(engine(world), world)
    with np.load(FILE) as recorded:
        assert set(recorded) == set(replayed)
        assert log_difference(recorded["log"], replayed["log"]) is None
        for name in recorded:
            np.testing.assert_array_equal(recorded[name], replayed[name], err_msg=name)


def test_the_recorded_trace_meets_every_kind_of_start() -> None:
    with np.load(FILE) as recorded:
        log, counters = recorded["log"], recorded["counters"]
    assert len(log) == REQUESTS
    starts = np.bincount(log["start_type"], minlength=len(StartType))
    assert starts.min() >= REQUESTS // 100
    assert counters.min() > 0
    assert np.count_nonzero(log["queue_us"]) >= REQUESTS // 100
    assert 0 < log["on_gpu"].sum() < REQUESTS
    assert 0 < log["kept"].sum() < starts[: StartType.MEMORY + 1].sum()
    assert set(log["node"]) == {0, 1, 2}


if __name__ == "__main__":
    the_world = golden_world()
    np.savez_compressed(FILE, **replay(ReferenceEngine(the_world, check=True), the_world))  # type: ignore[arg-type]
