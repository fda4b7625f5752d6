"""One window watched while it runs: memory by kind over time, and who sat in which container.

Results say how well a policy did; this says what it did.  The tables of the cluster are read after each of many small
steps.  Runs are exact, from the log; stays of residents are exact to a step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tyche_env.accounting import INTEGRALS
from tyche_env.codes import ContainerState, ResidentState
from tyche_env.simulate import simulate
from tyche_env.simulator.log import LOG_DTYPE
from tyche_env.state import ClusterState
from tyche_env.world import World

MOST_STEPS = 1800
"""Steps of a window; none is shorter than a second."""

MOST_SPANS = 20_000
"""Stays and runs that a timeline holds; what comes later is left out."""

KINDS = ("running", "idle, empty", "holding functions", "free")
"""What a node's memory is used for."""

HELD, LOADING, ON_GPU = 0, 1, 2
"""Kinds of a stay."""


@dataclass(frozen=True, slots=True)
class Timeline:
    """What was seen; times in seconds from the start of the scored window.

    Attributes:
        time_s: (T,) ends of the steps.
        memory_gb: (T, 4) mean memory of each of :data:`KINDS` in each step, over all nodes.
        gpu_gb: (T,) mean GPU memory reserved.
        containers: one entry a container: (node, slot, from, to).
        stays: (container, function, kind, from, to), container an index in ``containers``.
        runs: (container, function, start type, from, to).
        evictions: (T,) containers removed to make room in each step.
        shown_s: up to when stays and runs are complete.
        names: names of the functions.
    """

    time_s: NDArray[np.float64]
    memory_gb: NDArray[np.float64]
    gpu_gb: NDArray[np.float64]
    containers: list[tuple[int, int, float, float]]
    stays: list[tuple[int, int, int, float, float]]
    runs: list[tuple[int, int, int, float, float]]
    evictions: NDArray[np.int64]
    shown_s: float
    names: tuple[str, ...]


def timeline_of(world: World) -> Timeline:
    """Run a world under the kernel of its settings, and watch it."""
    watcher = TimelineWatcher()
    simulate(world, watch=watcher)
    return watcher.timeline


class TimelineWatcher:
    """Watches one run; what it saw is :attr:`timeline` once that is over."""

    timeline: Timeline

    def begin(self, world: World) -> Sequence[int]:
        """Where scoring begins, then the end of each step."""
        self._world = world
        length_us = world.end_us - world.score_from_us
        step_us = max(1_000_000, -(-length_us // MOST_STEPS))
        ends_us = range(world.score_from_us + step_us, world.end_us + step_us, step_us)
        self._total_gb = float(world.node_memory_mb.sum()) / 1e3
        self._times: list[int] = []
        self._memory: list[tuple[float, ...]] = []
        self._gpu: list[float] = []
        self._evicted: list[int] = []
        self._spans = _Spans()
        self._shown_us = self._since_us = world.score_from_us
        # at time 0, where nobody can look
        self._integrals = {name: np.zeros(world.node_count, np.int64) for name in INTEGRALS}
        self._evictions = 0
        begin_us = [world.score_from_us] if world.score_from_us > 0 else []
        return [*begin_us, *(min(end_us, world.end_us) for end_us in ends_us)]

    def look(self, at_us: int, host: Any) -> None:
        """Take one step in."""
        now, evictions = host.integrals(), host.counters()["evictions"]
        if at_us > self._world.score_from_us:
            took_us = at_us - self._since_us
            mean = {name: float((now[name] - self._integrals[name]).sum()) / took_us / 1e3 for name in now}
            empty = mean["idle"] - mean["preload"]
            self._memory.append((mean["busy"], empty, mean["preload"], self._total_gb - mean["busy"] - mean["idle"]))
            self._gpu.append(mean["gpu"])
            self._evicted.append(evictions - self._evictions)
            self._times.append(at_us)
            if self._spans.count < MOST_SPANS:
                self._spans.look(host.state, (at_us - self._world.score_from_us) / 1e6)
                self._shown_us = at_us
        self._since_us, self._integrals, self._evictions = at_us, now, evictions

    def end(self, log: NDArray[Any] | None) -> None:
        """Take the runs in; without a log there are none."""
        world, shown_us = self._world, self._shown_us
        runs = np.zeros(0, LOG_DTYPE) if log is None else log[:MOST_SPANS]
        if len(runs) == MOST_SPANS:
            shown_us = min(shown_us, int(runs["arrival_us"][-1]))
        shown_s = (shown_us - world.score_from_us) / 1e6
        containers, stays = self._spans.finish(shown_s)
        self.timeline = Timeline(
            time_s=(np.array(self._times) - world.score_from_us) / 1e6,
            memory_gb=np.array(self._memory),
            gpu_gb=np.array(self._gpu),
            containers=containers,
            stays=[(*stay[:4], min(stay[4], shown_s)) for stay in stays if stay[3] < shown_s],
            runs=list(_runs(runs, world, containers, shown_s)),
            evictions=np.array(self._evicted),
            shown_s=shown_s,
            names=world.names,
        )


class _Spans:
    """Turns snapshots of the tables into spans."""

    def __init__(self) -> None:
        self._containers: list[tuple[int, int, float, float]] = []
        self._stays: list[tuple[int, int, int, float, float]] = []
        # slot -> (index, node, created for, from); (slot, function) -> (kind, from)
        self._open: dict[int, tuple[int, int, int, float]] = {}
        self._sitting: dict[tuple[int, int], tuple[int, float]] = {}
        self._created = 0
        self._last_s = 0.0

    @property
    def count(self) -> int:
        """Spans so far."""
        return len(self._stays) + len(self._sitting)

    def look(self, state: ClusterState, now_s: float) -> None:
        """Take the tables in; what is new began after the last look."""
        cluster = state.cluster[0]
        containers = state.containers[: int(cluster["container_fresh"])]
        alive = {
            int(slot): (int(containers["node"][slot]), int(containers["created_for"][slot]))
            for slot in np.flatnonzero(containers["state"] != ContainerState.UNUSED)
        }
        residents = state.residents[: int(cluster["resident_fresh"])]
        there = {
            (int(row["container"]), int(row["function"])): _kind(row)
            for row in residents[residents["state"] != ResidentState.ABSENT]
            if int(row["container"]) in alive
        }
        for key, (kind, since_s) in list(self._sitting.items()):
            if there.get(key) != kind:
                self._stays.append((self._open[key[0]][0], key[1], kind, since_s, self._last_s))
                del self._sitting[key]
        for slot, (index, node, created_for, since_s) in list(self._open.items()):
            if alive.get(slot) != (node, created_for):
                self._close(slot, index, node, since_s)
        for slot, (node, created_for) in alive.items():
            if slot not in self._open:
                self._open[slot] = (self._created, node, created_for, self._last_s)
                self._containers.append((node, slot, self._last_s, now_s))
                self._created += 1
        for key, kind in there.items():
            self._sitting.setdefault(key, (kind, self._last_s))
        self._last_s = now_s

    def finish(
        self, end_s: float
    ) -> tuple[list[tuple[int, int, float, float]], list[tuple[int, int, int, float, float]]]:
        """Close what is open: containers and stays."""
        for (slot, function), (kind, since_s) in self._sitting.items():
            self._stays.append((self._open[slot][0], function, kind, since_s, end_s))
        self._sitting.clear()
        for index, node, _, since_s in self._open.values():
            self._containers[index] = (node, self._containers[index][1], since_s, end_s)
        return self._containers, self._stays

    def _close(self, slot: int, index: int, node: int, since_s: float) -> None:
        for key in [key for key in self._sitting if key[0] == slot]:
            kind, sitting_s = self._sitting.pop(key)
            self._stays.append((index, key[1], kind, sitting_s, self._last_s))
        self._containers[index] = (node, slot, since_s, self._last_s)
        del self._open[slot]


def _kind(resident: Any) -> int:
    if resident["state"] == ResidentState.LOADING:
        return LOADING
    return ON_GPU if resident["gpu_state"] == ResidentState.HELD else HELD


def _runs(
    log: NDArray[Any], world: World, containers: list[tuple[int, int, float, float]], shown_s: float
) -> Iterator[tuple[int, int, int, float, float]]:
    """Runs of the log that began before ``shown_s``, in the container that their slot was at the time."""
    by_slot: dict[int, list[int]] = {}
    for index, (_, slot, _, _) in enumerate(containers):
        by_slot.setdefault(slot, []).append(index)
    for row in log:
        start_s = (int(row["arrival_us"]) + int(row["queue_us"]) - world.score_from_us) / 1e6
        end_s = (int(row["end_us"]) - world.score_from_us) / 1e6
        candidates = by_slot.get(int(row["container"]), [])
        if start_s >= shown_s or not candidates:
            continue
        middle_s = (start_s + end_s) / 2
        best = min(candidates, key=lambda each: _distance(middle_s, *containers[each][2:]))
        yield best, int(row["function"]), int(row["start_type"]), start_s, end_s


def _distance(at_s: float, from_s: float, to_s: float) -> float:
    """How far an instant lies outside a span."""
    return max(from_s - at_s, at_s - to_s, 0.0)
