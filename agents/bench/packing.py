"""What greedy packing loses against the optimum."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tyche_env.bench.measurement import Measurement


def packing_lost(repeats: int) -> Measurement:
    """The value that packing 1000 functions into 100 containers loses against the exact optimum, at worst."""
    from agents.experiments.packing import optimum
    from tyche_env.bench.core import CONTAINER_MB, CONTAINERS, empty_containers, pack, packed_value, packing_values
    from tyche_env.bench.core import packing_world as world_of
    from tyche_env.bench.measurement import Measurement

    world = world_of()
    table = world.functions
    lost = []
    for seed in range(repeats):
        priority = packing_values(seed=seed)
        engine = empty_containers(world)
        pack(engine, priority)
        saved_s = priority / (1 << 20) * (table.library_us + table.model_us) / 1e6
        best = optimum(saved_s, table.hold_mb, CONTAINERS, CONTAINER_MB)
        lost.append(100 * (1 - packed_value(engine, world, priority) / best))
    return Measurement(
        name="pack_lost_percent",
        value=max(lost),
        unit="%",
        reference="the mean over the instances",
        ratio=max(lost) / statistics.mean(lost),
        goal=2.0,
        note=f"worst of {repeats} instances; the optimum is an integer program solved exactly",
        at_most=True,
    )
