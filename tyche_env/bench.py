"""``tyche bench``: how fast the simulator and the environment are, each figure beside a reference of the same run.

CPU time of one process, the median of several runs, always through ``tyche_env.simulate`` or the public environment
with shipped scenarios.
"""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from tyche_env.scenario import PrewarmName

REPEATS = 5
_SPEED = Path(__file__).with_name("scenarios") / "speed"


@dataclass(frozen=True, slots=True)
class Measurement:
    """One figure.

    Attributes:
        name: what was measured.
        value: median over the repeats.
        unit: of the value.
        reference: what it is compared with.
        ratio: value / value of the reference, measured in the same run.
        goal: the least value that the project promises.
        note: loads and events an invocation, or whatever else the figure depends on.
    """

    name: str
    value: float
    unit: str
    reference: str
    ratio: float
    goal: float
    note: str


def _median_cpu_s(run: Callable[[], object], repeats: int = REPEATS) -> float:
    run()
    times = []
    for _ in range(repeats):
        start_s = time.process_time()
        run()
        times.append(time.process_time() - start_s)
    return statistics.median(times)


def _engine(
    name: str,
    kernel: str,
    prewarm: PrewarmName,
    goal: float,
    repeats: int,
    speed: str = "speed-200",
    nodes: int = 16,
    cores: int = 0,
) -> Measurement:
    """Invocations a CPU-second on a synthetic day of ``scenarios/speed``, against the reference engine.

    With ``cores`` of each node given, stages share them: contention.
    """
    from tyche_env.scenario import Scenario
    from tyche_env.simulate import simulate

    scenario = Scenario.load(_SPEED / f"{speed}.yaml")
    group = scenario.cluster.nodes[0].model_dump()
    group |= {"count": nodes, "cores": cores or None}
    scenario = scenario.with_(cluster={"nodes": [group]}, contention=cores > 0)
    world = scenario.world(kernel=kernel, prewarm=prewarm)
    result = simulate(world, record="none")
    cpu_s = statistics.median(simulate(world, record="none").cpu_s for _ in range(repeats))
    count = len(world.arrival_us)
    short = 2_000
    head = replace(
        world,
        arrival_us=world.arrival_us[:short],
        arrival_function=world.arrival_function[:short],
        end_us=int(world.arrival_us[short]),
    )
    reference = short / simulate(head, engine="reference").cpu_s
    value = count / cpu_s
    return Measurement(
        name,
        value,
        "invocations/CPU-s",
        f"plain-Python reference engine, first {short} requests",
        value / reference,
        goal,
        f"{world.function_count} functions on {nodes} nodes{f' of {cores} cores' * (cores > 0)}, {count} invocations, "
        f"{result.counters['loads'] / count:.2f} loads and {result.counters['created'] / count:.3f} containers each",
    )


def _env_step(goal: float, repeats: int) -> Measurement:
    """Steps a CPU-second of the environment at 10 s and 200 functions, against an environment that costs nothing."""
    import gymnasium
    import numpy as np

    from tyche_env.env import PreloadEnv

    env = PreloadEnv(str(_SPEED / "env-200.yaml"), split="test", decision_interval_s=10)
    action = np.random.default_rng(0).uniform(-1, 1, (64, env.max_functions, 2)).astype(np.float32)
    steps = 2_000

    class Costless(gymnasium.Env[Any, Any]):
        """An environment that does nothing at all."""

        def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
            return None, 0.0, False, False, {}

    def run(environment: gymnasium.Env[Any, Any]) -> None:
        for step in range(steps):
            environment.step(action[step % len(action)])

    times = []
    for _ in range(repeats):
        env.reset(seed=1, options={"window": 0})
        start_s = time.process_time()
        run(env)
        times.append(time.process_time() - start_s)
    value = steps / statistics.median(times)
    costless = steps / _median_cpu_s(lambda: run(Costless()), repeats)
    requests = int(np.searchsorted(env.world.arrival_us, steps * 10_000_000)) / steps
    return Measurement(
        "env_step_per_s",
        value,
        "steps/CPU-s",
        "an environment whose step does nothing",
        value / costless,
        goal,
        f"200 functions, 16 nodes, 10 s, random actions, {requests:.0f} requests a step",
    )


def _vector_step(goal: float, repeats: int) -> Measurement:
    """Steps a CPU-second of 64 batched clusters at 40 functions, against as many single environments."""
    import numpy as np

    from tyche_env.env import PreloadEnv
    from tyche_env.vector import PreloadVectorEnv

    count, steps = 64, 200
    batch, single = PreloadVectorEnv(count, "small"), PreloadEnv("small")
    draw = np.random.default_rng(0)
    # mostly leave, as policies do: one function in ten gets a new decision
    changes = draw.random((16, count, batch.max_functions, 1)) < 0.1
    actions = np.where(changes, draw.uniform(-1, 1, (16, count, batch.max_functions, 2)), 0.0).astype(np.float32)

    def run_batch() -> None:
        for step in range(steps):
            batch.step(actions[step % 16])

    def run_single() -> None:
        for step in range(500):
            if single.step(actions[step % 16, 0])[3]:
                single.reset()

    batch.reset(seed=1)
    single.reset(seed=1)
    value = count * steps / _median_cpu_s(run_batch, repeats)
    reference = 500 / _median_cpu_s(run_single, repeats)
    return Measurement(
        "vector_env_steps_per_core_s",
        value,
        "steps/CPU-s",
        "the single environment",
        value / reference,
        goal,
        f"{count} clusters of {batch.max_functions} functions, 10 s, one function in ten decided anew, resets included",
    )


def _help(goal: float, repeats: int) -> Measurement:
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
        "help_per_s", 1 / value, "1/s", "python -c pass", bare / value, goal, f"tyche --help takes {value * 1e3:.0f} ms"
    )


def measure(repeats: int = REPEATS) -> Iterator[Measurement]:
    """Run every benchmark, one after the other."""
    yield _engine("fixed_keep_alive_invocations_per_cpu_s", "none", "openwhisk", 4e6, repeats)
    yield _engine(
        "fixed_keep_alive_5000_functions_invocations_per_cpu_s", "none", "openwhisk", 4e6, repeats, "speed-5000", 200
    )
    yield _engine("full_model_invocations_per_cpu_s", "tyche", "histogram", 1e6, repeats)
    yield _engine("full_model_ample_memory_invocations_per_cpu_s", "tyche", "histogram", 1e6, repeats, nodes=64)
    yield _engine(
        "full_model_5000_functions_invocations_per_cpu_s", "tyche", "histogram", 1e6, repeats, "speed-5000", 200
    )
    yield _engine("faascache_invocations_per_cpu_s", "none", "faascache", 1e6, repeats)
    yield _engine("pagurus_invocations_per_cpu_s", "none", "pagurus", 1e6, repeats)
    yield _engine("contention_invocations_per_cpu_s", "none", "openwhisk", 1e6, repeats, cores=4)
    yield _engine("full_model_contention_invocations_per_cpu_s", "tyche", "histogram", 1e6, repeats, cores=4)
    yield _env_step(15_000, repeats)
    yield _vector_step(60_000, repeats)
    yield _help(2.0, repeats)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
@click.option("--repeats", default=REPEATS, show_default=True, help="Counted runs of each benchmark.")
def bench(as_json: bool, repeats: int) -> None:
    """Measure the speed of the simulator and the environment.

    Every figure is CPU time of one process, the median of the repeats, and stands beside a named reference of the same
    run, since absolute figures change with the machine.

    \b
    Examples:
      tyche bench --repeats 3
      tyche bench --json
    """  # noqa: D301 (click wants the character)
    results = []
    for result in measure(repeats):
        results.append(result)
        if not as_json:
            met = "" if result.value >= result.goal else f"  (below the goal of {result.goal:,.0f})"
            click.echo(f"{result.name:42s} {result.value:14,.0f} {result.unit}{met}")
            click.echo(f"{'':42s} {result.ratio:14,.2f} x {result.reference}")
            click.echo(f"{'':42s} {'':14s} {result.note}")
    if as_json:
        machine = {"processor": platform.processor() or platform.machine(), "python": platform.python_version()}
        when = datetime.now(UTC).date().isoformat()
        click.echo(json.dumps({"date": when, "machine": machine, "results": [asdict(r) for r in results]}, indent=1))
