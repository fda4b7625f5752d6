"""What ``tyche bench`` measures above the simulator: adapters, packing against the optimum, memory of a long run."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tyche_env.bench.measurement import Benchmark


def benchmarks() -> dict[str, Benchmark]:
    """By name, see ``tyche_env.bench.benchmarks``."""
    from agents.bench.adapters import adapter_overhead, function_adapter_overhead
    from agents.bench.memory import memory
    from agents.bench.packing import packing_lost

    return {
        "sb3_adapter_overhead_percent": adapter_overhead,
        "sb3_function_adapter_overhead_percent": function_adapter_overhead,
        "pack_lost_percent": packing_lost,
        "memory_10_million_invocations_mb": memory,
    }
