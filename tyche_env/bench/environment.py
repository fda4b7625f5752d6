"""Steps a CPU-second of the environments, and how long the command line and the kernels take to be there."""

from __future__ import annotations

import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tyche_env.bench.measurement import SPEED, Benchmark, Measurement, cpu_s_of, median_cpu_s

CLUSTERS = 64
"""Environments of a batch."""
_STEPS, _LANES = 200, 16


def env_step(name: str, mostly_leave: bool, goal: float | None, repeats: int) -> Measurement:
    """Steps a CPU-second of the environment at 10 s and 200 functions, against its engine alone.

    Args:
        name: of the figure.
        mostly_leave: whether one function in ten is decided anew at each step, as policies do, or all of them by lot.
        goal: steps a CPU-second that are promised.
        repeats: counted runs.
    """
    from tyche_env.env import PreloadEnv
    from tyche_env.simulator.engine import CompiledEngine

    steps, interval_us = 2_000, 10_000_000
    env = PreloadEnv(str(SPEED / "env-200.yaml"), split="test", decision_interval_s=10)
    action = np.random.default_rng(0).uniform(-1, 1, (64, env.max_functions, 2)).astype(np.float32)
    if mostly_leave:
        action = some_actions(env.max_functions)[:, 0].copy()

    def run() -> None:
        for step in range(steps):
            env.step(action[step % len(action)])

    def alone() -> None:
        for step in range(1, steps + 1):
            engine.advance_until(step * interval_us)

    times, bare, loads = [], [], 0
    for _ in range(repeats):
        env.reset(seed=1, options={"window": 0})
        times.append(cpu_s_of(run))
        loads = env.backend.counters()["loads"]
        engine = CompiledEngine(env.world, record=False)
        bare.append(cpu_s_of(alone))
    value = steps / statistics.median(times)
    requests = int(np.searchsorted(env.world.arrival_us, steps * interval_us)) / steps
    return Measurement(
        name=name,
        value=value,
        unit="steps/CPU-s",
        reference="its engine alone, without decisions and observations",
        ratio=value * statistics.median(bare) / steps,
        goal=goal,
        note=f"200 functions, 16 nodes, 10 s, {'one function in ten' if mostly_leave else 'every function'} decided "
        f"anew by lot, {requests:.0f} requests and {loads / steps:.0f} loads a step",
    )


def vector_step(name: str, functions: int, goal: float | None, repeats: int) -> Measurement:
    """Steps a CPU-second of 64 batched clusters, against as many calls of the single environment."""
    from tyche_env.env import PreloadEnv
    from tyche_env.scenario import Scenario
    from tyche_env.vector import PreloadVectorEnv

    scenario = Scenario.load("small" if functions < 200 else SPEED / "env-200.yaml")
    scenario = scenario.with_(**{"trace.group_size": functions})
    batch, single = PreloadVectorEnv(CLUSTERS, scenario), PreloadEnv(scenario)
    actions = some_actions(batch.max_functions)

    def run_batch() -> None:
        for step in range(_STEPS):
            batch.step(actions[step % len(actions)])

    def run_single() -> None:
        for step in range(500):
            if single.step(actions[step % len(actions), 0])[3]:
                single.reset()

    batch.reset(seed=1)
    single.reset(seed=1)
    value = CLUSTERS * _STEPS / median_cpu_s(run_batch, repeats)
    reference = 500 / median_cpu_s(run_single, repeats)
    return Measurement(
        name=name,
        value=value,
        unit="steps/CPU-s",
        reference="the single environment",
        ratio=value / reference,
        goal=goal,
        note=f"{CLUSTERS} clusters of {batch.max_functions} functions, 10 s, one function in ten decided anew, "
        "resets included",
    )


def reset_share(name: str, functions: int, repeats: int) -> Measurement:
    """Share of a batch's CPU time that goes into new episodes, over whole ones, without a learner."""
    from tyche_env.scenario import Scenario
    from tyche_env.vector import PreloadVectorEnv

    spent_s = 0.0

    class Timed(PreloadVectorEnv):
        def _begin(self, lane: int, window: int | None, seed: int | None) -> Any:
            nonlocal spent_s
            before_s = time.process_time()
            begun = super()._begin(lane, window, seed)
            spent_s += time.process_time() - before_s
            return begun

    scenario = Scenario.load("small" if functions < 200 else SPEED / "env-200.yaml")
    batch = Timed(_LANES, scenario.with_(**{"trace.group_size": functions}))
    actions = some_actions(batch.max_functions)[:, :_LANES]
    window = batch.scenario.trace
    episode = math.ceil((window.warm_up_min + window.window_min) * 60 / batch.scenario.decision_interval_s)

    def episodes() -> None:
        for step in range(episode):
            batch.step(actions[step % len(actions)])

    batch.reset(seed=1)
    episodes()
    shares, each_ms = [], []
    for _ in range(repeats):
        spent_s = 0.0
        total_s = cpu_s_of(episodes)
        shares.append(spent_s / total_s)
        each_ms.append(1e3 * spent_s / _LANES)
    share = statistics.median(shares)
    return Measurement(
        name=name,
        value=share,
        unit="of the CPU time",
        reference="all steps, new episodes included",
        ratio=share,
        goal=0.1,
        note=f"{_LANES} clusters of {batch.max_functions} functions, whole episodes of {episode} steps; a new episode "
        f"takes {statistics.median(each_ms):.2f} ms",
        at_most=True,
    )


def some_actions(functions: int) -> NDArray[np.float32]:
    """(16, 64, F, 2) actions that mostly leave, as policies do: one function in ten gets a new decision."""
    draw = np.random.default_rng(0)
    changes = draw.random((16, CLUSTERS, functions, 1)) < 0.1
    actions = np.where(changes, draw.uniform(-1, 1, (16, CLUSTERS, functions, 2)), 0.0)
    return actions.astype(np.float32)


def show_help(repeats: int) -> Measurement:
    """Times a second that ``tyche --help`` can be run, against an interpreter that does nothing."""

    def wall_s(*arguments: str) -> float:
        times = []
        for _ in range(repeats):
            start_s = time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
            times.append(time.perf_counter() - start_s)
        return statistics.median(times)

    code = "import sys; sys.argv = ['tyche', '--help']; from tyche_env.cli import main; main()"
    value, bare = wall_s("-c", code), wall_s("-c", "pass")
    return Measurement(
        name="help_per_s",
        value=1 / value,
        unit="1/s",
        reference="python -c pass",
        ratio=bare / value,
        goal=2.0,
        note=f"tyche --help takes {value * 1e3:.0f} ms",
    )


def compile_kernels(repeats: int) -> Measurement:
    """CPU seconds to compile the kernels where nobody has yet, against loading them; measured once."""
    code = "from tyche_env.simulator.loading import warm_up; warm_up()"

    def start(folder: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        environment = os.environ | {"TYCHE_CACHE_DIR": folder}
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, env=environment)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    with tempfile.TemporaryDirectory() as folder:
        value, loaded = start(folder), start(folder)
    return Measurement(
        name="compile_kernels_s",
        value=value,
        unit="CPU s",
        reference="loading them, imports included",
        ratio=value / loaded,
        goal=60.0,
        note=f"once for a machine and a version; loading them, imports included, takes {loaded:.1f} s",
        at_most=True,
    )


BENCHMARKS: dict[str, Benchmark] = {
    "env_step_per_s": partial(env_step, "env_step_per_s", False, 40_000),
    "env_step_few_decisions_per_s": partial(env_step, "env_step_few_decisions_per_s", True, None),
    "vector_env_steps_per_core_s": partial(vector_step, "vector_env_steps_per_core_s", 25, 60_000),
    "vector_env_200_functions_steps_per_core_s": partial(
        vector_step, "vector_env_200_functions_steps_per_core_s", 200, None
    ),
    "reset_share_of_stepping_25": partial(reset_share, "reset_share_of_stepping_25", 25),
    "reset_share_of_stepping_40": partial(reset_share, "reset_share_of_stepping_40", 40),
    "reset_share_of_stepping_200": partial(reset_share, "reset_share_of_stepping_200", 200),
    "help_per_s": show_help,
    "compile_kernels_s": compile_kernels,
}
