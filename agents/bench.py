"""What ``tyche bench`` measures above the simulator: adapters, packing against the optimum, memory of a long run."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tyche_env.bench.measurement import Benchmark, Measurement

MEMORY_TIMES = 10
"""Repetitions of the day of ``speed-200``: 10^7 requests."""
_STEPS = 100
_PAIRS = 8
"""Runs with and without an adapter for each repeat: the difference of two short times needs more of them."""


def benchmarks() -> dict[str, Benchmark]:
    """By name, see ``tyche_env.bench.benchmarks``."""
    return {
        "sb3_adapter_overhead_percent": adapter_overhead,
        "sb3_function_adapter_overhead_percent": function_adapter_overhead,
        "pack_lost_percent": packing_lost,
        "memory_10_million_invocations_mb": memory,
    }


def adapter_overhead(repeats: int) -> Measurement:
    """What the cluster-wise stable-baselines3 adapter adds to the CPU time of a step of its batch, scaling included."""
    from agents.sb3 import ClusterVecEnv
    from tyche_env.bench.environment import CLUSTERS, some_actions

    adapter = ClusterVecEnv(CLUSTERS, "small")
    functions = adapter.batch.max_functions
    actions = some_actions(functions)
    return _overhead(
        "sb3_adapter_overhead_percent",
        (adapter, actions),
        actions,
        f"ClusterVecEnv, {CLUSTERS} clusters of {functions} functions, scaled to [0, 1]",
        repeats,
    )


def function_adapter_overhead(repeats: int) -> Measurement:
    """What the adapter that shows each function as an environment adds, its features of every function included."""
    from agents.function_rows import function_rows_space
    from agents.sb3 import FunctionVecEnv
    from tyche_env.bench.environment import CLUSTERS, some_actions

    adapter = FunctionVecEnv(CLUSTERS, "small")
    functions, (width,) = adapter.batch.max_functions, function_rows_space().shape or ()
    actions = some_actions(functions)
    actions[..., 1] = actions[..., 0]
    return _overhead(
        "sb3_function_adapter_overhead_percent",
        (adapter, actions[..., :1].reshape(len(actions), -1, 1)),
        actions,
        f"FunctionVecEnv, {CLUSTERS} clusters of {functions} functions, {width} numbers for each function",
        repeats,
    )


def _overhead(name: str, adapted: tuple[Any, Any], actions: Any, note: str, repeats: int) -> Measurement:
    from tyche_env.bench.environment import CLUSTERS
    from tyche_env.bench.measurement import Measurement, cpu_s_of
    from tyche_env.vector import PreloadVectorEnv

    adapter, given = adapted
    batch = PreloadVectorEnv(CLUSTERS, "small")

    def run(stepping: Any, actions: Any) -> float:
        def steps() -> None:  # what a step returns is dropped, as by a training that has copied it
            for step in range(_STEPS):
                stepping.step(actions[step % len(actions)])

        stepping.reset()
        return cpu_s_of(steps)

    adapter.seed(1)
    batch.reset(seed=1)
    run(adapter, given), run(batch, actions)
    pairs = [(run(adapter, given), run(batch, actions)) for _ in range(_PAIRS * repeats)]
    ratio = statistics.median(adapted / bare for adapted, bare in pairs)
    step_us, batch_us = (1e6 * statistics.median(times) / _STEPS for times in zip(*pairs, strict=True))
    return Measurement(
        name=name,
        value=100 * (ratio - 1),
        unit="%",
        reference="PreloadVectorEnv without the adapter",
        ratio=ratio,
        goal=10.0,
        note=f"{note}; {step_us:.0f} us a step, the batch {batch_us:.0f}",
        at_most=True,
    )


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


def memory(repeats: int) -> Measurement:
    """Peak memory of 10^7 requests above the imports: arrivals mapped, log streamed; measured once."""
    from agents.memory import MB, repeat_world
    from tyche_env.bench.measurement import SPEED, Measurement
    from tyche_env.scenario import Scenario
    from tyche_env.simulator import warm_up

    warm_up()  # compiling takes more memory than any run
    with tempfile.TemporaryDirectory() as name:
        folder, log = Path(name) / "world", Path(name) / "requests.parquet"
        repeat_world(Scenario.load(SPEED / "speed-200.yaml").world(), MEMORY_TIMES, folder)
        command = [sys.executable, "-m", "agents.memory", str(folder), "tyche", str(log)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found = json.loads(done.stdout)
        written = log.stat().st_size / MB
    value = found["peak_mb"] - found["imports_mb"]
    whole_mb = found["invocations"] * (8 + 4 + 96) / MB
    return Measurement(
        name="memory_10_million_invocations_mb",
        value=value,
        unit="MB",
        reference="arrivals and log kept in memory",
        ratio=value / whole_mb,
        goal=160.0,
        note=f"{found['invocations']} invocations under tyche in {found['cpu_s']:.1f} CPU-s, log of {written:.0f} MB; "
        f"{found['imports_mb']:.0f} MB after the imports, kernels included, {found['peak_mb']:.0f} MB at most",
        at_most=True,
    )
