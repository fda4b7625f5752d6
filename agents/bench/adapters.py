"""What the adapters for stable-baselines3 add to a step of their batch."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tyche_env.bench.measurement import Measurement

_STEPS = 100
_PAIRS = 8
"""Runs with and without an adapter for each repeat: the difference of two short times needs more of them."""


def adapter_overhead(repeats: int) -> Measurement:
    """What the cluster-wise stable-baselines3 adapter adds to the CPU time of a step of its batch, scaling included."""
    from agents.training.vec_envs import ClusterVecEnv
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
    from agents.training.vec_envs import FunctionVecEnv
    from tyche_env.bench.environment import CLUSTERS, some_actions
    from tyche_env.function_rows import function_rows_space

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
