"""The reference engine keeps its invariants on every world, and the worlds drawn meet every rule often."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from tests.tyche_env.simulator.strategies import Run, random_run, snapshots
from tyche_env.simulator.reference import (
    Category,
    Container,
    ContainerState,
    Function,
    Gpu,
    Load,
    Node,
    ReferenceEngine,
    Resident,
)
from tyche_env.world import AfterRun, Decision, Kernel, Prewarm, StartType

WORLDS = 300
OFTEN = 5
"""Worlds, of those, in which each rule must take effect."""
RULES = (
    "count: evictions",
    "count: expiries",
    "count: prewarms",
    "count: wasted_loads",
    "demotion for a run",
    "demotion for a transfer",
    "displacement",
    "kernel: CENSORED HOLD",
    "kernel: HISTOGRAM HOLD",
    "kernel: HISTOGRAM OFFLOAD",
    "kernel: LRU LEAVE",
    "kernel: MINUTE_ORACLE HOLD",
    "kernel: ORACLE HOLD",
    "kernel: RANDOM HOLD",
    "kernel: TYCHE HOLD",
    "kernel: TYCHE LEAVE",
    "kernel: TYCHE OFFLOAD",
    "load: after a run",
    "load: beyond home",
    "load: filled",
    "load: placed",
    "load: replaced",
    "load: second copy",
    "off-load",
    "off-load: after a load",
    "off-load: cancels a transfer",
    "prewarm: short tail",
    "prewarm: unload",
    "remove: with a load in progress",
    "route: away from home",
    "route: ring, to a GPU",
    "route: ring, to memory",
    "start: COLD",
    "start: CPU though it has a GPU",
    "start: GPU",
    "start: LOADING",
    "start: MEMORY",
    "start: WARM",
    "start: clears others out",
    "start: in another's container",
    "start: kept",
    "start: on what it off-loads",
    "start: queued",
    "start: takes over a transfer",
    "transfer: promoted",
    "transfer: tried",
)


class ObservedEngine(ReferenceEngine):
    """Counts how often rules took effect."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.seen: Counter[str] = Counter()
        super().__init__(*args, **kwargs)

    def _inside(self, name: str, change: str, method: Any, *args: Any) -> Any:
        before = self._counts[change]
        result = method(*args)
        self.seen[name] += self._counts[change] - before
        return result

    def on_loaded(self, r: Resident) -> None:
        offloads = r.gpu != Load.LOADING and r.function.decision == Decision.OFFLOAD
        super().on_loaded(r)
        self.seen["off-load: after a load"] += offloads

    def start(self, request: int, c: Container) -> None:
        f = self.functions[self.arrival_function[request]]
        own = c.resident_of(f)
        self.seen["start: takes over a transfer"] += (
            own is not None and own.gpu == Load.LOADING and own.state == Load.HELD
        )
        self.seen["start: clears others out"] += any(r.function is not f for r in c.residents)
        self.seen["start: on what it off-loads"] += own is not None and own.state == Load.OFFLOADING
        self.seen["start: in another's container"] += c.state == ContainerState.IDLE and c.owner is not f
        super().start(request, c)
        self.seen[f"start: {StartType(self._records[-1][13]).name}"] += 1
        self.seen["start: kept"] += self._records[-1][14]
        self.seen["start: CPU though it has a GPU"] += c.gpu is not None and f.gpu_mb > 0 and not self._records[-1][15]
        self.seen["start: queued"] += self._records[-1][2] > 0

    def gpu_of_the_run(self, own: Resident) -> tuple[bool, bool]:
        on_gpu, demoted = super().gpu_of_the_run(own)
        self.seen["demotion for a run"] += demoted
        return on_gpu, demoted

    def gpu_try(self, r: Resident) -> None:
        stamp = self._stamp
        self._inside("transfer: tried", "transfers", super().gpu_try, r)
        self.seen["demotion for a transfer"] += self._stamp - stamp

    def promote(self, g: Gpu) -> None:
        self._inside("transfer: promoted", "transfers", super().promote, g)

    def replace(self, v: Function, node: Node) -> None:
        self._inside("load: replaced", "loads", super().replace, v, node)

    def fill(self, c: Container) -> None:
        self._inside("load: filled", "loads", super().fill, c)

    def place(self, f: Function) -> bool:
        freed = len(self._residents)
        copies = self.copies(f)
        placed = super().place(f)
        if placed:
            self.seen["load: placed"] += 1
            self.seen["load: second copy"] += copies >= 1
            self.seen["displacement"] += len(self._residents) <= freed
            self.seen["displacement of several"] += len(self._residents) < freed
            self.seen["load: beyond home"] += f.residents[-1].container.node.index != f.walk[0]
        return placed

    def load(self, f: Function, c: Container) -> None:
        super().load(f, c)
        self.seen["load: after a run"] += self.settings.after_run == AfterRun.RELOAD and len(c.residents) == 1

    def offload(self, r: Resident) -> None:
        self.seen["off-load"] += 1
        self.seen["off-load: cancels a transfer"] += r.gpu == Load.LOADING
        super().offload(r)

    def remove(self, c: Container) -> None:
        self.seen["remove: with a load in progress"] += any(r.state == Load.LOADING for r in c.residents)
        super().remove(c)

    def route(self, f: Function) -> Node | None:
        node = super().route(f)
        self.seen["route: group of several"] += f.group_size > 1
        if node is not None:
            self.seen["route: away from home"] += node.index != f.walk[0]
            self.seen["route: ring, to memory"] += node.index != f.walk[0] and bool(
                self.entries(f, node, Category.MEMORY)
            )
            self.seen["route: ring, to a GPU"] += node.index != f.walk[0] and bool(self.entries(f, node, Category.GPU))
        return node

    def kernel(self, f: Function) -> tuple[int, int, int | None]:
        row = super().kernel(f)
        self.seen[f"kernel: {Kernel(self.settings.kernel).name} {Decision(row[0]).name}"] += bool(f.window)
        return row

    def prewarm_on_finish(self, f: Function) -> int | None:
        keep = super().prewarm_on_finish(f)
        self.seen["prewarm: short tail"] += (
            self.settings.prewarm == Prewarm.HISTOGRAM and 0 < (keep or 0) < 240 * 60_000_000
        )
        self.seen["prewarm: unload"] += self.settings.prewarm == Prewarm.HISTOGRAM and keep == 0
        return keep

    def counted(self) -> Counter[str]:
        return self.seen + Counter({f"count: {name}": value for name, value in self._counts.items()})


@pytest.fixture(scope="module")
def seen() -> Counter[str]:
    """In how many random worlds each rule took effect; every invariant is asserted on the way."""
    found: Counter[str] = Counter()
    for seed in range(WORLDS):
        run = random_run(seed)
        engine = ObservedEngine(run.world, check=True)
        for _ in snapshots(engine, run):
            pass
        assert_every_request_served_once(engine, run)
        found.update(name for name, count in engine.counted().items() if count)
    return found


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_takes_effect_in_many_random_worlds(seen: Counter[str], rule: str) -> None:
    assert seen[rule] >= OFTEN


def assert_every_request_served_once(engine: ReferenceEngine, run: Run) -> None:
    log = engine.log
    assert sorted(log["request"]) == list(range(len(run.world.arrival_us)))
    np.testing.assert_array_equal(log["arrival_us"], run.world.arrival_us[log["request"]])
    stages = [name for name in log.dtype.names or () if name.endswith("_us") and name not in ("arrival_us", "end_us")]
    assert all(log[name].min() >= 0 for name in stages)
    np.testing.assert_array_equal(log["end_us"] - log["arrival_us"], sum(log[name] for name in stages))


def test_time_does_not_run_back() -> None:
    engine = ReferenceEngine(random_run(0).world)
    engine.advance_until(5)
    with pytest.raises(ValueError, match="4 us lies before the present, 5 us"):
        engine.advance_until(4)


@pytest.mark.parametrize(
    ("decision", "priority", "message"),
    [
        (np.zeros((1, 2), np.int8), np.zeros((2, 2), np.int64), "priority must have the shape"),
        (np.full((1, 2), 3, np.int8), np.zeros((1, 2), np.int64), r"decision must lie in 0\.\.2"),
        (np.ones((1, 2), np.int8), np.full((1, 2), -1, np.int64), r"priority must lie in 0\.\.1048576"),
    ],
)
def test_wrong_priorities_are_refused(decision: Any, priority: Any, message: str) -> None:
    run = next(run for run in map(random_run, range(WORLDS)) if run.world.function_count == 1)
    with pytest.raises(ValueError, match=message):
        ReferenceEngine(run.world).set_priorities(decision, priority)
