"""Choosing: candidates whose cost is planted, and costs worked out by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from agents.playing.scene import WindowScene
from agents.policies.recipe import Choice
from agents.policies.trained import LearnedPolicy
from agents.training import choose as choose_module
from agents.training.choose import Candidate, choose, cost, costs_of, row_network, share_of, validation_shares
from tyche_env.metrics import TOTALS_DTYPE
from tyche_env.network import SIZE
from tyche_env.played import Played
from tyche_env.scenario import Scenario
from tyche_env.world import World


def candidate(name: str, mark: float) -> Candidate:
    """A network of zeros whose first weight tells it from others."""
    network = np.zeros(SIZE, np.float32)
    network[0] = mark
    return Candidate(name, network)


def played(world: World, requests: list[int], waits_ms: list[float], load_ms: float = 0.0) -> Played:
    """A run of which these are the requests and the waits (in all) of each function."""
    totals = np.zeros(len(requests), TOTALS_DTYPE)
    totals["requests"] = requests
    totals["warming_loading_us"] = [round(1000 * wait) for wait in waits_ms]
    return Played(
        world=world,
        log=None,
        totals=totals,
        end_to_end_percentiles_us=(0.0, 0.0, 0.0),
        histograms={},
        counters={"load_us": round(1000 * load_ms)},
        integrals_mb_us={},
        cpu_s=0.0,
        wall_s=0.0,
    )


@pytest.fixture(scope="module")
def two() -> tuple[Scenario, Scenario]:
    """A scenario where loads are free, and one where a second of loading costs two."""
    small = Scenario.load("small")
    return small, small.with_(reward={"load_per_s": 2.0})


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch, two: tuple[Scenario, ...]) -> Iterator[Callable[..., None]]:
    """Makes the costs of every policy in a window known beforehand."""
    world = two[0].world("validation")

    def do(run: Callable[[Any, WindowScene], Played]) -> None:
        choose_module._tyche_costs.cache_clear()
        monkeypatch.setattr(choose_module, "_requests", lambda scene: world)
        monkeypatch.setattr(choose_module, "play_in", lambda scene, policy, *_, **__: run(policy, scene))

    yield do
    choose_module._tyche_costs.cache_clear()


def test_the_cost_of_a_run_by_hand(two: tuple[Scenario, ...]) -> None:
    # 3 requests that waited 30 ms in all, 1 that waited 50 ms, and a function that was not requested
    run = played(two[0].world("validation"), [3, 1, 0], [30, 50, 0], load_ms=40)
    assert cost(run) == (80 / 4, (10 + 50) / 2)
    # two ms for a ms of loading: 80 ms over four requests
    assert cost(run, load_price=2.0) == (80 / 4 + 20, (10 + 50) / 2 + 20)
    assert cost(played(two[0].world("validation"), [0, 0], [0, 0]), 1.0) == (0.0, 0.0)


def test_both_means_are_shares_of_tyches_and_weighted() -> None:
    own, theirs = np.array([10.0, 60.0]), np.array([20.0, 40.0])
    assert share_of(own, theirs) == 0.5 * 0.5 + 0.5 * 1.5
    assert share_of(own, theirs, function_weight=0.0) == 0.5
    assert share_of(own, theirs, function_weight=0.75) == 0.25 * 0.5 + 0.75 * 1.5


def test_costs_are_means_over_the_windows_of_each_group(plant: Any, two: tuple[Scenario, ...]) -> None:
    world = two[0].world("validation")
    # one function of one request, which waits 1, 2 or 6 ms, times the mark of the policy
    waits_ms = {0: 1.0, 1: 2.0, 2: 6.0}
    plant(lambda policy, scene: played(world, [1], [waits_ms[scene.window] * float(policy.network[0])], load_ms=3.0))
    scenes = [[WindowScene(two[0], "validation", k, 0) for k in range(3)], [WindowScene(two[1], "validation", 1, 0)]]
    found = costs_of([row_network(candidate("", mark).network, 10) for mark in (1, 10)], scenes)
    # in the second scenario each run pays two for its 3 ms of loading
    expected = [[[3, 3], [2 + 6, 2 + 6]], [[30, 30], [20 + 6, 20 + 6]]]
    np.testing.assert_allclose(found, expected)


def test_a_share_is_the_mean_over_scenarios_on_validation_windows(plant: Any, two: tuple[Scenario, ...]) -> None:
    world = two[0].world("validation")
    splits = set()

    def run(policy: Any, scene: WindowScene) -> Played:
        splits.add((scene.split, scene.seed))
        agent = isinstance(policy, LearnedPolicy)
        if scene.scenario is two[0]:
            # per request 5 to 10, per function 20 to 10
            return played(world, [9, 1], [15.5, 34.5] if agent else [90, 10])
        return played(world, [1], [30.0 if agent else 10.0])

    plant(run)
    agent = row_network(candidate("", 1).network, 10)
    # of the first scenario: waits of 50 / 10 = 5 ms a request, (15.5 / 9 + 34.5) / 2 a function, over 10 and 10
    by_function = (15.5 / 9 + 34.5) / 2 / 10
    for weight in (0.0, 0.3, 1.0):
        first, second = (1 - weight) * 0.5 + weight * by_function, 3.0
        assert validation_shares([agent], two, weight) == pytest.approx([(first + second) / 2])
    assert splits == {("validation", 0)}


PLANTED = {(1.0, 10): (8.0, 30.0), (1.0, 50): (9.0, 20.0), (2.0, 10): (4.0, 50.0), (2.0, 50): (12.0, 15.0)}
"""Costs of candidate and bonus: per request, per function."""


@pytest.mark.parametrize(
    ("weight", "name", "percent", "share"),
    [(0.0, "second", 10, 0.4), (0.5, "first", 50, 0.65), (1.0, "second", 50, 0.3), (0.4, "second", 10, 0.64)],
)
def test_the_cheapest_candidate_is_taken(
    monkeypatch: pytest.MonkeyPatch, weight: float, name: str, percent: int, share: float
) -> None:
    small = Scenario.load("small")

    def known(policies: Any, scenes: Any, workers: Any) -> list[list[NDArray[np.float64]]]:
        keys = [(float(policy.network[0]), policy.settings["displace_percent"]) for policy in policies]
        return [[np.array(PLANTED[key])] for key in keys]

    monkeypatch.setattr(choose_module, "costs_of", known)
    monkeypatch.setattr(choose_module, "_tyche_costs", lambda scenario: np.array([10.0, 50.0]))
    choice = Choice(scenarios=("small",), displace_percent=(10, 50), floors=(0.0,), function_weight=weight)
    shares = {key: (1 - weight) * costs[0] / 10 + weight * costs[1] / 50 for key, costs in PLANTED.items()}
    chosen = choose([candidate("first", 1), candidate("second", 2)], choice, [small])
    assert (chosen.candidate.name, chosen.displace_percent) == (name, percent)
    assert chosen.score == pytest.approx(min(shares.values())) == pytest.approx(share)
    assert [entry[:3] for entry in chosen.table] == [
        ("first", 10, 0),
        ("first", 50, 0),
        ("second", 10, 0),
        ("second", 50, 0),
    ]
    assert [entry[3] for entry in chosen.table] == pytest.approx(list(shares.values()))


def test_floors_are_tried_and_the_one_chosen_is_in_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[NDArray[np.float32]] = []

    def known(policies: Any, *_: Any) -> list[float]:
        tried.extend(policy.network for policy in policies)
        return [1.0, 0.25, 0.5]

    monkeypatch.setattr(choose_module, "validation_shares", known)
    given = replace(candidate("only", 0.75), network=np.linspace(0, 1, SIZE, dtype=np.float32))
    before = given.network.copy()
    choice = Choice(scenarios=("small",), displace_percent=(10,), floors=(0.0, 0.4, 0.9))
    chosen = choose([given], choice, [])
    # the floor is the last weight, and the only one that differs
    np.testing.assert_array_equal(chosen.candidate.network, np.append(before[:-1], np.float32(0.4)))
    assert [float(network[-1]) for network in tried] == pytest.approx([0.0, 0.4, 0.9])
    assert [entry[2] for entry in chosen.table] == pytest.approx([0.0, 0.4, 0.9])
    np.testing.assert_array_equal(given.network, before)
