"""The reference engine keeps its invariants on every world, and the worlds drawn meet every rule often."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from tests.tyche_env.simulator.strategies import Run, random_run, snapshots
from tyche_env.codes import (
    AfterRun,
    Category,
    ContainerState,
    Decision,
    Kernel,
    Packing,
    Prewarm,
    ResidentState,
    Routing,
    Scope,
    StartType,
)
from tyche_env.simulator.entities import Container, Function, Gpu, Node, Resident
from tyche_env.simulator.reference import ReferenceEngine

WORLDS = 400
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
    "evict: not the one idle for longest",
    "kernel: CENSORED HOLD",
    "kernel: EMPIRICAL HOLD",
    "kernel: EMPIRICAL HOLD after its longest gap",
    "expiry: expected again",
    "expiry: paid for",
    "expiry: peeled",
    "kernel: EWMA HOLD",
    "kernel: EWMA LEAVE",
    "kernel: EWMA OFFLOAD",
    "kernel: GREEDY_DUAL HOLD",
    "kernel: HISTOGRAM HOLD",
    "kernel: HISTOGRAM OFFLOAD",
    "kernel: LRU LEAVE",
    "kernel: MINUTE_ORACLE HOLD",
    "kernel: NO_TIMERS HOLD",
    "kernel: ORACLE HOLD",
    "kernel: RANDOM HOLD",
    "kernel: TABLE HOLD",
    "kernel: TABLE LEAVE",
    "kernel: TYCHE HOLD",
    "kernel: TYCHE LEAVE",
    "kernel: TYCHE OFFLOAD",
    "load: after the clock moved",
    "load: after a run",
    "load: beyond home",
    "load: filled",
    "load: filled by OWN",
    "load: filled by SINGLE",
    "load: filled by a worker",
    "load: placed",
    "load: placed by SINGLE",
    "load: placed by a worker",
    "load: placed by workers on several nodes",
    "load: placed not by best fit",
    "load: replaced",
    "load: replaced by a worker",
    "load: second copy",
    "load: second copy on a worker",
    "off-load",
    "off-load: after a load",
    "off-load: cancels a transfer",
    "prewarm: by ALWAYS_ON",
    "prewarm: by ICEBREAKER",
    "prewarm: by RAINBOWCAKE",
    "prewarm: short tail",
    "prewarm: unload",
    "remove: with a load in progress",
    "route: away from home",
    "route: fewest busy, to a load",
    "route: fewest busy, to memory",
    "route: fewest busy, to no resident",
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
    "start: rented",
    "start: rented, clears others out",
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
        offloads = r.gpu != ResidentState.LOADING and r.function.decision == Decision.OFFLOAD
        super().on_loaded(r)
        self.seen["off-load: after a load"] += offloads

    def start(self, request: int, c: Container) -> None:
        f = self.functions[self.arrival_function[request]]
        own = c.resident_of(f)
        self.seen["start: takes over a transfer"] += (
            own is not None and own.gpu == ResidentState.LOADING and own.state == ResidentState.HELD
        )
        self.seen["start: clears others out"] += any(r.function is not f for r in c.residents)
        self.seen["start: on what it off-loads"] += own is not None and own.state == ResidentState.OFFLOADING
        rented = c.state == ContainerState.IDLE and f.index not in c.entries
        self.seen["start: rented"] += rented
        self.seen["start: rented, clears others out"] += rented and any(r.function is not f for r in c.residents)
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

    def _by(self) -> str:
        return " by a worker" if self.settings.scope == Scope.WORKER else ""

    def replace(self, v: Function, node: Node) -> None:
        self._inside(f"load: replaced{self._by()}", "loads", super().replace, v, node)

    def fill(self, c: Container) -> None:
        packing = self.settings.packing
        by = f" by {packing.name}" if packing in (Packing.SINGLE, Packing.OWN) else self._by()
        self._inside(f"load: filled{by}", "loads", super().fill, c)

    def place(self, f: Function) -> bool:
        loads = self._counts["loads"]
        placed = super().place(f)
        self.seen["load: placed by workers on several nodes"] += self._counts["loads"] > loads + 1
        return placed

    def place_on(self, nodes: list[Node], f: Function) -> bool:
        freed = len(self._residents)
        copies = {node.index: self.copies_on(f, node) for node in self.nodes}
        placed = super().place_on(nodes, f)
        if placed:
            node = f.residents[-1].container.node
            by = " by SINGLE" if self.settings.packing == Packing.SINGLE else self._by()
            self.seen[f"load: placed{by}"] += 1
            self.seen["load: second copy"] += sum(copies.values()) >= 1 and self.settings.scope == Scope.CENTRAL
            self.seen["load: second copy on a worker"] += (
                copies[node.index] >= 1 and self.settings.scope == Scope.WORKER
            )
            self.seen["displacement"] += len(self._residents) <= freed
            self.seen["displacement of several"] += len(self._residents) < freed
            self.seen["load: beyond home"] += node.index != f.walk[0]
        return placed

    def best_fit(self, fitting: list[Container]) -> Container:
        best = super().best_fit(fitting)
        self.seen["load: placed not by best fit"] += best.free_mb > min(c.free_mb for c in fitting)
        return best

    def eviction_victim(self, node: Node) -> Container:
        victim = super().eviction_victim(node)
        self.seen["evict: not the one idle for longest"] += victim is not node.idle()[0]
        return victim

    def peel(self, c: Container) -> None:
        self.seen["expiry: peeled"] += c.resident_of(c.owner) is not None
        super().peel(c)

    def renewal_us(self, f: Function) -> int | None:
        renewal = super().renewal_us(f)
        name = "paid for" if self.settings.prewarm == Prewarm.ALWAYS_ON else "expected again"
        self.seen[f"expiry: {name}"] += renewal is not None
        return renewal

    def on_prewarm_timer(self, f: Function) -> None:
        self._inside(f"prewarm: by {self.settings.prewarm.name}", "prewarms", super().on_prewarm_timer, f)

    def load(self, f: Function, c: Container) -> None:
        super().load(f, c)
        self.seen["load: after the clock moved"] += f.credit > 0
        self.seen["load: after a run"] += self.settings.after_run == AfterRun.RELOAD and len(c.residents) == 1

    def offload(self, r: Resident) -> None:
        self.seen["off-load"] += 1
        self.seen["off-load: cancels a transfer"] += r.gpu == ResidentState.LOADING
        super().offload(r)

    def remove(self, c: Container) -> None:
        self.seen["remove: with a load in progress"] += any(r.state == ResidentState.LOADING for r in c.residents)
        super().remove(c)

    def route(self, f: Function) -> Node | None:
        node = super().route(f)
        self.seen["route: group of several"] += f.group_size > 1
        if node is not None and self.settings.routing == Routing.FEWEST_BUSY:
            memory, load = (bool(self.entries(f, node, kind)) for kind in (Category.MEMORY, Category.LOADING))
            self.seen["route: fewest busy, to memory"] += memory
            self.seen["route: fewest busy, to a load"] += load and not memory
            self.seen["route: fewest busy, to no resident"] += not (memory or load)
        elif node is not None:
            self.seen["route: away from home"] += node.index != f.walk[0]
            self.seen["route: ring, to memory"] += node.index != f.walk[0] and bool(
                self.entries(f, node, Category.MEMORY)
            )
            self.seen["route: ring, to a GPU"] += node.index != f.walk[0] and bool(self.entries(f, node, Category.GPU))
        return node

    def ask(self, f: Function) -> tuple[int, int, int | None]:
        row = super().ask(f)
        name = f"kernel: {Kernel(self.settings.kernel).name} {Decision(row[0]).name}"
        self.seen[name] += bool(f.window)
        longest = max(f.gaps_us, default=0)
        self.seen[f"{name} after its longest gap"] += len(f.gaps_us) >= 4 and longest <= self.now - f.window[-1]
        return row

    def keep_alive_us(self, f: Function) -> int | None:
        keep = super().keep_alive_us(f)
        if self.settings.prewarm == Prewarm.HISTOGRAM and keep is not None:
            self.seen["prewarm: short tail"] += 0 < keep < 240 * 60_000_000
            self.seen["prewarm: unload"] += keep == 0
        return keep

    def counted(self) -> Counter[str]:
        return self.seen + Counter({f"count: {name}": value for name, value in self._counts.items()})


def test_every_rule_takes_effect_in_many_random_worlds() -> None:
    """Every invariant is asserted on the way."""
    worlds: Counter[str] = Counter()
    for seed in range(WORLDS):
        run = random_run(seed)
        engine = ObservedEngine(run.world, check=True)
        for _ in snapshots(engine, run):
            pass
        assert_every_request_served_once(engine, run)
        worlds.update(name for name, count in engine.counted().items() if count)
    assert {rule: worlds[rule] for rule in RULES if worlds[rule] < OFTEN} == {}


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
