"""A window watched while it runs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from agents.playing.timeline import HELD, KINDS, LOADING, ON_GPU, Timeline, TimelineWatcher, timeline_of
from tyche_env.codes import ContainerState, ResidentState, StartType
from tyche_env.scenario import Scenario
from tyche_env.simulate import simulate
from tyche_env.simulator.log import LOG_DTYPE
from tyche_env.world import World


@pytest.fixture(scope="module")
def world(tiny: Scenario) -> World:
    return tiny.world(window=0, kernel="tyche")


@pytest.fixture(scope="module")
def seen(world: World) -> Timeline:
    return timeline_of(world)


def test_memory_of_all_kinds_adds_up_to_the_cluster(world: World, seen: Timeline) -> None:
    assert seen.memory_gb.shape[1] == len(KINDS)
    assert seen.memory_gb.sum(axis=1) == pytest.approx(float(world.node_memory_mb.sum()) / 1e3)
    assert seen.memory_gb.min() >= 0


def test_its_means_are_those_of_the_run(world: World, seen: Timeline) -> None:
    integrals = simulate(world).integrals_mb_us
    length_us = world.end_us - world.score_from_us
    assert seen.memory_gb[:, KINDS.index("holding functions")].mean() == pytest.approx(
        float(integrals["preload"].sum()) / length_us / 1e3
    )
    assert seen.gpu_gb.mean() == pytest.approx(float(integrals["gpu"].sum()) / length_us / 1e3)


def test_every_request_is_a_run_in_a_container_of_its_node(world: World, seen: Timeline) -> None:
    log = simulate(world).log
    assert log is not None
    assert len(seen.runs) == len(log)
    nodes = np.array([seen.containers[container][0] for container, *_ in seen.runs])
    assert nodes.tolist() == log["node"].tolist()


def test_stays_lie_inside_their_container(seen: Timeline) -> None:
    assert seen.stays
    for container, function, kind, from_s, to_s in seen.stays:
        assert 0 <= function < len(seen.names)
        assert kind in (0, 1, 2)
        assert seen.containers[container][2] <= from_s <= to_s <= seen.containers[container][3] <= seen.shown_s


def test_a_container_holds_a_function_once_at_a_time(seen: Timeline) -> None:
    by_place: dict[tuple[int, int], list[tuple[float, float]]] = {}
    for container, function, _, from_s, to_s in seen.stays:
        by_place.setdefault((container, function), []).append((from_s, to_s))
    for spans in by_place.values():
        spans.sort()
        assert all(first[1] <= second[0] for first, second in pairwise(spans))


# -- planted -----------------------------------------------------------------------------------------------------------

SECOND_US = 1_000_000


def tables(containers: dict[int, tuple[int, int]], residents: Sequence[tuple[int, int, int, int]]) -> Any:
    """Containers by slot (node, created for), and residents (container, function, state, state on a GPU)."""
    rows = np.zeros(8, [("state", "i8"), ("node", "i8"), ("created_for", "i8")])
    rows["state"] = ContainerState.UNUSED
    for slot, (node, created_for) in containers.items():
        rows[slot] = (ContainerState.IDLE, node, created_for)
    there = np.zeros(8, [("container", "i8"), ("function", "i8"), ("state", "i8"), ("gpu_state", "i8")])
    there["state"] = ResidentState.ABSENT
    for place, row in enumerate(residents):
        there[place] = row
    cluster = np.array([(8, 8)], [("container_fresh", "i8"), ("resident_fresh", "i8")])
    return SimpleNamespace(cluster=cluster, containers=rows, residents=there)


def test_what_was_planted_is_seen_where_and_when_it_was() -> None:
    # three seconds are scored, after ten of warm-up; two nodes of 4 and 6 GB
    start_us = 10 * SECOND_US
    world = SimpleNamespace(
        score_from_us=start_us,
        end_us=start_us + 3 * SECOND_US,
        node_memory_mb=np.array([4000, 6000]),
        node_count=2,
        names=("a", "b", "c"),
    )
    watcher = TimelineWatcher()
    ends_us = list(watcher.begin(cast(Any, world)))
    assert ends_us == [start_us + second * SECOND_US for second in range(4)], "steps of a second, from the start on"
    absent, held, loading = ResidentState.ABSENT, ResidentState.HELD, ResidentState.LOADING
    steps = [
        # GB x s of busy, idle, preload and gpu memory since the last look; evictions; containers; residents
        ((50, 50, 20, 5), 4, {1: (0, 0)}, []),
        ((1, 5, 3, 0.5), 4, {1: (0, 0), 2: (1, 1)}, [(2, 2, loading, absent)]),
        ((2, 4, 4, 1.5), 6, {1: (0, 0), 2: (1, 1)}, [(2, 2, held, absent)]),
        # the slot of the first container is another one's now
        ((3, 6, 1, 0.0), 7, {2: (1, 1), 1: (0, 2)}, [(2, 2, held, held)]),
    ]
    so_far = np.zeros(4)
    for at_us, (amounts, evictions, containers, residents) in zip(ends_us, steps, strict=True):
        so_far += amounts
        halves = {
            name: np.array([total / 4, 3 * total / 4]) * 1e9
            for name, total in zip(("busy", "idle", "preload", "gpu"), so_far, strict=True)
        }
        host = SimpleNamespace(
            integrals=lambda found=halves: found,
            counters=lambda count=evictions: {"evictions": count},
            state=tables(containers, residents),
        )
        watcher.look(at_us, host)
    log = np.zeros(3, LOG_DTYPE)
    log["arrival_us"] = start_us + np.array([0.2, 2.1, 2.2]) * SECOND_US
    log["queue_us"] = (0.3 * SECOND_US, 0, 0)
    log["end_us"] = start_us + np.array([0.9, 2.8, 2.9]) * SECOND_US
    log["container"], log["function"] = (1, 2, 1), (1, 2, 0)
    log["start_type"] = (StartType.COLD, StartType.GPU, StartType.WARM)
    watcher.end(log)
    seen = watcher.timeline
    assert seen.time_s.tolist() == [1, 2, 3]
    by_kind = dict(zip(KINDS, seen.memory_gb.T.tolist(), strict=True))
    assert by_kind == {
        "running": pytest.approx([1, 2, 3]),
        "idle, empty": pytest.approx([2, 0, 5]),
        "holding functions": pytest.approx([3, 4, 1]),
        "free": pytest.approx([4, 4, 1]),
    }
    assert seen.gpu_gb == pytest.approx([0.5, 1.5, 0.0])
    assert seen.evictions.tolist() == [0, 2, 1]
    # what is new in a look began after the last one, what is gone ended with it
    assert seen.containers == [(0, 1, 0.0, 2.0), (1, 2, 0.0, 3.0), (0, 1, 2.0, 3.0)]
    assert sorted(seen.stays) == [(1, 2, HELD, 1.0, 2.0), (1, 2, LOADING, 0.0, 1.0), (1, 2, ON_GPU, 2.0, 3.0)]
    assert seen.runs == [
        (0, 1, StartType.COLD, 0.5, 0.9),
        (1, 2, StartType.GPU, 2.1, 2.8),
        (2, 0, StartType.WARM, 2.2, 2.9),
    ]
    assert (seen.shown_s, seen.names) == (3.0, ("a", "b", "c"))
