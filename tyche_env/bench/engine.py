"""Invocations a CPU-second of the engine on the shipped scenarios of ``scenarios/speed``."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Literal

from tyche_env.bench.measurement import SPEED, Benchmark, Measurement

if TYPE_CHECKING:
    from tyche_env.scenario import PrewarmName
    from tyche_env.world import World

REFERENCE_REQUESTS = 2_000
"""Requests that the plain-Python reference engine is given."""


@dataclass(frozen=True, slots=True)
class Run:
    """What one row measures.

    Attributes:
        kernel: the policy.
        prewarm: the platform's policy.
        goal: invocations a CPU-second.
        speed: name of the scenario.
        nodes: how many, of 16 GB and one GPU each.
        cores: of each node, shared by its stages (contention); 0: no contention.
        record: ``all`` keeps the log in memory.
        tenants: whether each owner of the trace is a tenant with containers of its own.
    """

    kernel: str
    prewarm: PrewarmName
    goal: float
    speed: str = "speed-200"
    nodes: int = 16
    cores: int = 0
    record: Literal["all", "none"] = "none"
    tenants: bool = False

    def world(self) -> World:
        """The world of the run."""
        from tyche_env.scenario import Conditions, Scenario

        scenario = Scenario.load(SPEED / f"{self.speed}.yaml")
        group = scenario.cluster.nodes[0].model_dump() | {"count": self.nodes, "cores": self.cores or None}
        scenario = scenario.with_(cluster={"nodes": [group]}, contention=self.cores > 0)
        if self.tenants:
            scenario = scenario.with_(isolation="tenant", **{"functions.tenants": "owner"})
        return scenario.world(kernel=self.kernel, conditions=Conditions(self.prewarm))


def measure(name: str, run: Run, repeats: int) -> Measurement:
    """Invocations a CPU-second of a synthetic day, against the reference engine."""
    from tyche_env.simulate import simulate

    world = run.world()
    count = len(world.arrival_us)
    first = simulate(world, record=run.record)
    cpu_s = statistics.median(simulate(world, record=run.record).cpu_s for _ in range(repeats))
    head = head_of(world)
    reference = REFERENCE_REQUESTS / simulate(head, engine="reference").cpu_s
    value = count / cpu_s
    return Measurement(
        name=name,
        value=value,
        unit="invocations/CPU-s",
        reference=f"plain-Python reference engine, first {REFERENCE_REQUESTS} requests",
        ratio=value / reference,
        goal=run.goal,
        note=f"{world.function_count} functions on {run.nodes} nodes{f' of {run.cores} cores' * (run.cores > 0)}, "
        f"{count} invocations, each {first.counters['loads'] / count:.3f} loads, "
        f"{first.counters['created'] / count:.3f} containers, {events_of(world) / count:.2f} events",
    )


def head_of(world: World) -> World:
    """The beginning of a world, as much as the reference engine is given."""
    end_us = int(world.arrival_us[REFERENCE_REQUESTS])
    return replace(
        world,
        arrival_us=world.arrival_us[:REFERENCE_REQUESTS],
        arrival_function=world.arrival_function[:REFERENCE_REQUESTS],
        score_from_us=min(world.score_from_us, end_us),
        end_us=end_us,
    )


def events_of(world: World) -> int:
    """Events that the engine handles in a whole run."""
    from tyche_env.simulate import new_engine
    from tyche_env.simulator.engine import CompiledEngine

    engine = new_engine(world, record=False)
    assert isinstance(engine, CompiledEngine)
    engine.advance_until(world.end_us)
    engine.drain()
    return int(engine.state.cluster["events"][0])


def event_us(name: str, run: Run, repeats: int) -> Measurement:
    """Mean CPU microseconds of one event of the full model, everything included, against the reference engine."""
    from tyche_env.simulate import simulate

    world = run.world()
    events = events_of(world)
    value = 1e6 * statistics.median(simulate(world, record="none").cpu_s for _ in range(repeats)) / events
    head = head_of(world)
    reference = 1e6 * simulate(head, engine="reference").cpu_s / events_of(head)
    return Measurement(
        name=name,
        value=value,
        unit="CPU us",
        reference=f"plain-Python reference engine, first {REFERENCE_REQUESTS} requests",
        ratio=value / reference,
        goal=run.goal,
        note=f"mean of {events} events: requests, finishes, loads, containers, timers",
        at_most=True,
    )


_FULL = partial(Run, "tyche", "histogram", record="all")

RUNS = {
    "fixed_keep_alive_invocations_per_cpu_s": Run("none", "openwhisk", 8e6),
    "fixed_keep_alive_5000_functions_invocations_per_cpu_s": Run("none", "openwhisk", 5e6, "speed-5000", 200),
    "full_model_invocations_per_cpu_s": _FULL(4e6, nodes=64),
    "full_model_starved_invocations_per_cpu_s": _FULL(2e6),
    "full_model_tenants_invocations_per_cpu_s": _FULL(4e6, nodes=64, tenants=True),
    "full_model_5000_functions_invocations_per_cpu_s": _FULL(1.5e6, speed="speed-5000", nodes=200),
    "full_model_5000_busy_functions_invocations_per_cpu_s": _FULL(1.5e6, speed="speed-5000-busy", nodes=200),
    "faascache_invocations_per_cpu_s": Run("none", "faascache", 2.5e6),
    "pagurus_invocations_per_cpu_s": Run("none", "pagurus", 2.5e6),
    "contention_invocations_per_cpu_s": Run("none", "openwhisk", 1e6, cores=4),
    "full_model_contention_invocations_per_cpu_s": _FULL(1e6, cores=4),
}
"""What is measured, by the name of its figure."""

BENCHMARKS: dict[str, Benchmark] = {name: partial(measure, name, run) for name, run in RUNS.items()}
BENCHMARKS["incremental_event_us"] = partial(event_us, "incremental_event_us", Run("tyche", "histogram", 2.0))
