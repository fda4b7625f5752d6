"""A window watched while it runs."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from agents.playing.timeline import KINDS, Timeline, timeline_of
from tyche_env.scenario import Scenario
from tyche_env.simulate import simulate
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
