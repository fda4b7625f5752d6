"""Policy search on costs that are planted: where the best is known, and is not what came last."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from agents.policies.bundle import Bundle
from agents.policies.gate import CONTEXT
from agents.policies.recipe import HazardRecipe, SearchRecipe
from agents.training import search as search_module
from agents.training.search import beginning, bend, parameters, train_search
from tyche_env.network import HIDDEN, SIZE
from tyche_env.scenario import Scenario

_GATE, _KEEP = SIZE, SIZE + HIDDEN + len(CONTEXT) + 1
"""Where the flat weights of a gated network have those of gate and keep."""
_OUTPUT_AND_FLOOR = HIDDEN + 2


@pytest.fixture
def heads(bundle: Bundle) -> dict[float, np.ndarray]:
    """Two heads, of which the supervised network is the second."""
    other = bundle.network.copy()
    other[-_OUTPUT_AND_FLOOR:] += 1
    return {10: other, 60: bundle.network}


@pytest.fixture
def recipe_of(recipe: HazardRecipe) -> Callable[..., SearchRecipe]:
    def make(**changes: Any) -> SearchRecipe:
        plain = {"kind": "search", "start": "hazard", "scenarios": ("small",), "windows": 2, "population": 4}
        return SearchRecipe(**(plain | {"generations": 4, "check_every": 1} | changes))

    return make


class Planted:
    """What stands in for playing: costs of trials, and scores on validation windows, as they are planted."""

    def __init__(self, scores: list[float], cost_of: Callable[[Any], float]) -> None:
        self.scores, self.cost_of = iter(scores), cost_of
        self.checked: list[Any] = []
        self.weights: set[float] = set()
        self.played: list[list[list[int]]] = []
        self.trials: list[list[Any]] = []

    def validation_shares(self, policies: Any, scenarios: Any, weight: float, workers: Any) -> list[float]:
        self.checked.extend(policies)
        self.weights.add(weight)
        return [next(self.scores) for _ in policies]

    def shares(self, trials: Any, played: Any, weight: float, workers: Any) -> list[float]:
        self.trials.append(list(trials))
        self.played.append([list(games) for games in played])
        self.weights.add(weight)
        return [self.cost_of(trial) for trial in trials]


@pytest.fixture
def plant(
    monkeypatch: pytest.MonkeyPatch, bundle: Bundle, heads: dict[float, np.ndarray]
) -> Callable[[list[float], Callable[[Any], float]], Planted]:
    def do(scores: list[float], cost_of: Callable[[Any], float] = lambda trial: 1.0) -> Planted:
        planted = Planted(scores, cost_of)
        monkeypatch.setattr(search_module, "train_heads", lambda *_, **__: (bundle, heads))
        monkeypatch.setattr(search_module, "validation_shares", planted.validation_shares)
        monkeypatch.setattr(search_module, "_shares", planted.shares)
        monkeypatch.setattr(search_module, "_games", lambda scenario, expansions: list(range(5)))
        return planted

    return do


@pytest.mark.parametrize("best", range(5))
def test_the_generation_that_did_best_on_validation_windows_is_shipped(
    plant: Any, recipe_of: Callable[..., SearchRecipe], best: int
) -> None:
    scores = [0.9, 0.8, 0.85, 0.95, 0.7]
    scores[best] = 0.5
    planted = plant(scores)
    found = train_search(recipe_of(function_weight=0.3), seed=1)
    assert len(planted.checked) == 5
    np.testing.assert_array_equal(found.network, planted.checked[best].network)
    assert found.settings == planted.checked[best].settings
    assert found.manifest["chosen"] == f"generation {best}"
    assert found.manifest["validation_cost_of_tyche"] == 0.5
    assert [entry[-1] for entry in found.manifest["tried"]] == scores
    # the generations differ, so that one could be taken for another
    assert len({policy.network.tobytes() for policy in planted.checked}) == 5
    assert planted.weights == {0.3}


def test_the_search_goes_where_costs_are_least(
    plant: Any, bundle: Bundle, recipe_of: Callable[..., SearchRecipe]
) -> None:
    def cost_of(trial: Any) -> float:
        return abs(float(np.log(trial.settings["displace_percent"] / 1000)))

    generations = 40
    planted = plant([1.0, 0.5], cost_of)
    found = train_search(recipe_of(generations=generations, check_every=generations, population=8), seed=0)
    assert bundle.settings["displace_percent"] == 65
    assert 600 < found.settings["displace_percent"] < 1600
    means = [np.mean([cost_of(trial) for trial in trials]) for trials in planted.trials]
    assert np.mean(means[-5:]) < 0.25 * np.mean(means[:5])


def test_trials_of_a_generation_play_the_same_windows_each_once(
    plant: Any, recipe_of: Callable[..., SearchRecipe]
) -> None:
    planted = plant([1.0] * 30)
    train_search(recipe_of(scenarios=("small", "small"), generations=20, check_every=10, windows=4), seed=0)
    assert len(planted.played) == 20
    for games in (games for played in planted.played for games in played):
        assert len(set(games)) == len(games) == 4
    assert {game for played in planted.played for games in played for game in games} == set(range(5))
    train_search(recipe_of(generations=1, windows=9), seed=0)
    assert sorted(planted.played[-1][0]) == list(range(5))


def test_validation_windows_are_looked_at_every_so_often_and_at_the_end(
    plant: Any, recipe_of: Callable[..., SearchRecipe]
) -> None:
    plant([0.5] * 9)
    found = train_search(recipe_of(generations=7, check_every=3), seed=0)
    assert [entry[0] for entry in found.manifest["tried"]] == [f"generation {k}" for k in (0, 3, 6, 7)]


def test_a_search_that_was_killed_tells_its_strategy_what_it_had_found(
    plant: Any, recipe_of: Callable[..., SearchRecipe], tmp_path: Path
) -> None:
    scores = [0.9, 0.8, 0.7, 0.6, 0.5]

    def cost_of(trial: Any) -> float:
        return float(trial.settings["displace_percent"])

    whole = plant(scores, cost_of)
    train_search(recipe_of(), seed=2)

    def kill(share: float) -> None:
        if share == 0.75:
            raise KeyboardInterrupt

    plant(scores, cost_of)
    with pytest.raises(KeyboardInterrupt):
        train_search(recipe_of(), seed=2, progress=kill, checkpoint=tmp_path / "checkpoint")
    resumed = plant(scores[4:], cost_of)
    train_search(recipe_of(), seed=2, checkpoint=tmp_path / "checkpoint")
    assert len(resumed.trials) == 1
    for before, after in zip(whole.trials[-1], resumed.trials[0], strict=True):
        np.testing.assert_array_equal(before.network, after.network)
    np.testing.assert_array_equal(resumed.checked[-1].network, whole.checked[-1].network)


def test_costs_of_trials_are_shares_of_tyches_over_the_same_games(monkeypatch: pytest.MonkeyPatch) -> None:
    def games(*tyche: tuple[float, float]) -> list[Any]:
        return [search_module._Game(SimpleNamespace(number=k), each) for k, each in enumerate(tyche)]  # type: ignore[arg-type]

    # two scenarios: of two games, and of one
    played = [games((10, 100), (30, 300)), games((8, 16))]
    costs = [[np.array([10.0, 300.0]), np.array([16.0, 4.0])], [np.array([20.0, 100.0]), np.array([4.0, 8.0])]]
    asked: list[Any] = []

    def costs_of(trials: Any, scenes: Any, workers: Any) -> Any:
        asked.extend([[scene.number for scene in group] for group in scenes])
        return costs

    monkeypatch.setattr(search_module, "costs_of", costs_of)
    trials: Any = ["first", "second"]
    workers: Any = None
    found = search_module._shares(trials, played, 0.25, workers)
    assert asked == [[0, 1], [0]]
    # Tyche's means are (20, 200) and (8, 16)
    first = (0.75 * 0.5 + 0.25 * 1.5 + 0.75 * 2 + 0.25 * 0.25) / 2
    second = (0.75 * 1 + 0.25 * 0.5 + 0.75 * 0.5 + 0.25 * 0.5) / 2
    assert found == pytest.approx([first, second])


def test_games_are_all_training_windows_in_each_expansion_with_tyches_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    small = Scenario.load("small")

    def play_all(runs: Any) -> Any:
        assert {run.policy.name for run in runs} == {"tyche"}
        return [(run.scene.window, run.scene.seed) for run in runs]

    monkeypatch.setattr(search_module, "play_all", play_all)
    found = search_module._games(small, 3)
    expected = [(window, seed) for window in range(len(small.windows("train"))) for seed in range(3)]
    assert [game.tyche for game in found] == expected
    assert [(game.scene.window, game.scene.seed) for game in found] == expected
    assert {game.scene.split for game in found} == {"train"}


def test_the_first_gate_is_the_floor_of_the_supervised_network(bundle: Bundle, heads: dict[float, np.ndarray]) -> None:
    network = bundle.network.copy()
    network[-1] = 0.3
    start = Bundle(network, bundle.mean, bundle.deviation, {"displace_percent": 20}, bundle.recipe, {})
    point = beginning(start, heads)
    found = bend(start, heads, point)
    assert found.settings == {"displace_percent": 20}
    output, bias = network[-_OUTPUT_AND_FLOOR:-2], float(network[-2])
    # a chance of 0.3 has the logit -0.847, which the gate has to be above, and a chance of 0.02 the logit -3.892
    for place, least in ((_GATE, -0.8473), (_KEEP, -3.8918)):
        np.testing.assert_allclose(found.network[place : place + HIDDEN], output, rtol=1e-6)
        assert not found.network[place + HIDDEN : place + HIDDEN + len(CONTEXT)].any()
        assert found.network[place + HIDDEN + len(CONTEXT)] == pytest.approx(bias - least, abs=1e-4)
    # nothing else than the gate says no
    assert found.network[SIZE - 1] == 0


def test_what_each_parameter_moves_by_hand(bundle: Bundle, heads: dict[float, np.ndarray]) -> None:
    point = np.zeros(parameters(heads))
    width = len(heads) + len(CONTEXT) + 1
    row = point[:-1].reshape(3, width)
    row[0, 0], row[0, 2], row[1, -1], row[2, 1], row[2, -2] = 1.0, 0.25, -2.0, 3.0, 0.75
    point[-1] = np.log(40)
    found = bend(bundle, heads, point)
    first, second = (head[-_OUTPUT_AND_FLOOR:-2] for head in heads.values())
    np.testing.assert_allclose(found.network[_GATE : _GATE + HIDDEN], 0.5 * first, rtol=1e-6)
    assert found.network[_GATE + HIDDEN] == 0.25
    assert found.network[_KEEP + HIDDEN + len(CONTEXT)] == -2.0
    np.testing.assert_allclose(found.network[SIZE - _OUTPUT_AND_FLOOR : SIZE - 2], 1.5 * second, rtol=1e-6)
    assert found.network[-1] == 0.75
    assert found.settings == {"displace_percent": 40}
